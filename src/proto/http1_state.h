/*
 * What the files of proto/http1.h share: the states of struct tl_http1. For http1*.c only.
 */
#ifndef TL_PROTO_HTTP1_STATE_H
#define TL_PROTO_HTTP1_STATE_H

#include "proto/http1.h"

enum http1_state {
    HTTP1_REQUEST_LINE, /* in it, or in empty lines before it */
    HTTP1_FIELDS,       /* in the header lines */
    HTTP1_LENGTH,       /* in a body of `left` bytes */
    HTTP1_CHUNK_SIZE,   /* in the hex digits of a chunk's size */
    HTTP1_CHUNK_EXT,    /* in the extensions behind them */
    HTTP1_CHUNK_SIZE_LF,
    HTTP1_CHUNK, /* in a chunk, `left` bytes to come */
    HTTP1_CHUNK_CR,
    HTTP1_CHUNK_LF,
    HTTP1_TRAILER_START, /* at the start of a trailer's line */
    HTTP1_TRAILER,
    HTTP1_TRAILER_LF,
    HTTP1_END_LF,
    HTTP1_END,
};

/* Set the status and the reason; returns BAD. */
enum tl_parse http1_bad(struct tl_http1 *h, int status, const char *reason);

/* The head is read: what comes next is the body that it announces. */
void http1_body_begin(struct tl_http1 *h, const struct tl_http1_request *req);

/* A byte that may stand inside a line: visible, space, tab, or above ASCII. */
static inline bool http1_is_text(uint8_t c)
{
    return (c >= ' ' && c != 0x7f) || c == '\t';
}

/* Are all eight of these bytes visible, spaces, or above ASCII? */
static inline bool http1_are_visible(const uint8_t *p)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t w, del;
    memcpy(&w, p, sizeof w);
    del = w ^ 0x7f * ones;
    /* The lowest byte that is below a space, or DEL, leaves its high bit in one of the two. */
    return ((((w - ' ' * ones) & ~w) | ((del - ones) & ~del)) & 0x80 * ones) == 0;
}

/* How many bytes of text it begins with. */
static inline size_t http1_text_n(struct tl_bytes bytes)
{
    size_t n = 0;
    while (bytes.n - n >= 8 && http1_are_visible(bytes.p + n))
        n += 8;
    while (n < bytes.n && http1_is_text(bytes.p[n]))
        n++;
    return n;
}

#endif
