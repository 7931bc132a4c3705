/*
 * A growing byte buffer with a sticky error: once an append failed, all later ones do nothing, and
 * the caller checks `failed` once. Never shrinks by itself; deinit gives the memory back.
 */
#ifndef TL_BASE_BUF_H
#define TL_BASE_BUF_H

#include "base/bytes.h"

#include <assert.h>

struct tl_buf {
    uint8_t *p;
    size_t n;   /* bytes in use */
    size_t cap; /* bytes allocated */
    bool failed;
};

void tl_buf_append(struct tl_buf *buf, struct tl_bytes bytes);
/* Inline, so that the length of a literal is known. */
static inline void tl_buf_str(struct tl_buf *buf, const char *s)
{
    tl_buf_append(buf, tl_bytes_str(s));
}
void tl_buf_byte(struct tl_buf *buf, uint8_t c);
/* Room for n more bytes behind the used ones; 0, or -ENOMEM (and `failed` is set). */
TL_MUST_USE int tl_buf_grow(struct tl_buf *buf, size_t n);
TL_MUST_USE static inline int tl_buf_reserve(struct tl_buf *buf, size_t n)
{
    return !buf->failed && buf->cap - buf->n >= n ? 0 : tl_buf_grow(buf, n);
}

/* Append where there is room for it, because it was reserved: without asking again. Inline, so that
 * the length of a literal is known. */
static inline void tl_buf_put(struct tl_buf *buf, struct tl_bytes bytes)
{
    assert(bytes.n <= buf->cap - buf->n);
    if (bytes.n > 0)
        memcpy(buf->p + buf->n, bytes.p, bytes.n);
    buf->n += bytes.n;
}
/* In decimal; for where printf would cost more than all the rest. */
#define TL_DECIMAL_MAX 20
size_t tl_decimal_print(uint64_t number, uint8_t out[TL_DECIMAL_MAX]); /* how many digits */
void tl_buf_number(struct tl_buf *buf, uint64_t number);
TL_PRINTF(2, 3) void tl_buf_printf(struct tl_buf *buf, const char *fmt, ...);

/* Drop the first n <= buf->n bytes. */
void tl_buf_consume(struct tl_buf *buf, size_t n);

static inline struct tl_bytes tl_buf_bytes(const struct tl_buf *buf)
{
    return tl_bytes(buf->p, buf->n);
}

/* Free the memory and start anew, the error cleared. */
void tl_buf_deinit(struct tl_buf *buf);

#endif
