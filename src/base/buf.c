#include "base/buf.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define BUF_MIN 64

int tl_buf_grow(struct tl_buf *buf, size_t n)
{
    if (buf->failed)
        return -ENOMEM;
    size_t want = buf->n + n;
    size_t cap = buf->cap ? buf->cap : BUF_MIN;
    while (cap < want && cap <= SIZE_MAX / 2)
        cap *= 2;
    uint8_t *p = want > cap || want < n ? NULL : tl_realloc(buf->p, cap);
    if (!p) {
        buf->failed = true;
        return -ENOMEM;
    }
    buf->p = p;
    buf->cap = cap;
    return 0;
}

void tl_buf_append(struct tl_buf *buf, struct tl_bytes bytes)
{
    if (bytes.n == 0 || tl_buf_reserve(buf, bytes.n) < 0)
        return;
    memcpy(buf->p + buf->n, bytes.p, bytes.n);
    buf->n += bytes.n;
}

void tl_buf_byte(struct tl_buf *buf, uint8_t c)
{
    tl_buf_append(buf, tl_bytes(&c, 1));
}

void tl_buf_number(struct tl_buf *buf, uint64_t number)
{
    if (tl_buf_reserve(buf, TL_DECIMAL_MAX) == 0)
        buf->n += tl_decimal_print(number, buf->p + buf->n);
}

size_t tl_decimal_print(uint64_t number, uint8_t out[TL_DECIMAL_MAX])
{
    uint8_t digits[TL_DECIMAL_MAX];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

void tl_buf_printf(struct tl_buf *buf, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    assert(n >= 0);
    if (tl_buf_reserve(buf, (size_t)n + 1) == 0) {
        vsnprintf((char *)buf->p + buf->n, (size_t)n + 1, fmt, again);
        buf->n += (size_t)n;
    }
    va_end(again);
}

void tl_buf_consume(struct tl_buf *buf, size_t n)
{
    assert(n <= buf->n);
    if (n == 0)
        return;
    memmove(buf->p, buf->p + n, buf->n - n);
    buf->n -= n;
}

void tl_buf_deinit(struct tl_buf *buf)
{
    tl_free(buf->p);
    *buf = (struct tl_buf){0};
}
