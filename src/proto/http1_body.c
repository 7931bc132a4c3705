#include "proto/http1_state.h"

#include <assert.h>
#include <stdlib.h>

#define SIZE_DIGITS_MAX 15 /* 60 bits: never overflows, and over any limit a caller can have */

void http1_body_begin(struct tl_http1 *h, const struct tl_http1_request *req)
{
    h->left = req->content_length;
    h->state = req->chunked ? HTTP1_CHUNK_SIZE : req->has_body ? HTTP1_LENGTH : HTTP1_END;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = tl_ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Go on in that state; MORE. */
static enum tl_parse enter(struct tl_http1 *h, enum http1_state state)
{
    h->state = (uint8_t)state;
    return TL_PARSE_MORE;
}

static enum tl_parse expect(struct tl_http1 *h, uint8_t c, uint8_t want, enum http1_state next)
{
    return c == want ? enter(h, next) : http1_bad(h, 400, "malformed chunk: CRLF expected");
}

static enum tl_parse count_overhead(struct tl_http1 *h, uint8_t c)
{
    if (!http1_is_text(c))
        return http1_bad(h, 400, "control character in a chunk extension or trailer");
    if (++h->overhead_n > TL_HTTP1_OVERHEAD_MAX)
        return http1_bad(h, 431, "too many chunk extensions or trailers");
    return TL_PARSE_MORE;
}

static enum tl_parse size_byte(struct tl_http1 *h, uint8_t c)
{
    int digit = hex_value(c);
    if (digit >= 0) {
        if (h->digits_n == 0)
            h->left = 0;
        if (h->digits_n == SIZE_DIGITS_MAX)
            return http1_bad(h, 413, "the chunk is too large");
        h->digits_n++;
        h->left = h->left * 16 + (uint64_t)digit;
        return TL_PARSE_MORE;
    }
    if (h->digits_n > 0 && c == '\r')
        return enter(h, HTTP1_CHUNK_SIZE_LF);
    if (h->digits_n > 0 && c == ';')
        return enter(h, HTTP1_CHUNK_EXT);
    return http1_bad(h, 400, "malformed chunk size");
}

static enum tl_parse size_end(struct tl_http1 *h, uint8_t c)
{
    h->digits_n = 0;
    return expect(h, c, '\n', h->left > 0 ? HTTP1_CHUNK : HTTP1_TRAILER_START);
}

/* The start of a line behind the last chunk: an empty one ends the body. */
static enum tl_parse trailer_start(struct tl_http1 *h, uint8_t c)
{
    if (c == '\r')
        return enter(h, HTTP1_END_LF);
    if (c == ' ' || c == '\t')
        return http1_bad(h, 400, "folded trailers are not accepted");
    enter(h, HTTP1_TRAILER);
    return count_overhead(h, c);
}

/* One byte of the framing between chunks. MORE, DONE at the body's end, BAD. */
static enum tl_parse frame_byte(struct tl_http1 *h, uint8_t c)
{
    switch ((enum http1_state)h->state) {
    case HTTP1_CHUNK_SIZE:
        return size_byte(h, c);
    case HTTP1_CHUNK_EXT:
        return c == '\r' ? enter(h, HTTP1_CHUNK_SIZE_LF) : count_overhead(h, c);
    case HTTP1_CHUNK_SIZE_LF:
        return size_end(h, c);
    case HTTP1_CHUNK_CR:
        return expect(h, c, '\r', HTTP1_CHUNK_LF);
    case HTTP1_CHUNK_LF:
        return expect(h, c, '\n', HTTP1_CHUNK_SIZE);
    case HTTP1_TRAILER_START:
        return trailer_start(h, c);
    case HTTP1_TRAILER:
        return c == '\r' ? enter(h, HTTP1_TRAILER_LF) : count_overhead(h, c);
    case HTTP1_TRAILER_LF:
        return expect(h, c, '\n', HTTP1_TRAILER_START);
    case HTTP1_END_LF:
        return expect(h, c, '\n', HTTP1_END) == TL_PARSE_BAD ? TL_PARSE_BAD : TL_PARSE_DONE;
    case HTTP1_REQUEST_LINE:
    case HTTP1_FIELDS:
    case HTTP1_LENGTH:
    case HTTP1_CHUNK:
    case HTTP1_END:
        break;
    }
    abort(); /* tl_http1_body() calls this between chunks only */
}

/* Payload bytes: as many as are here and belong to this chunk or body. */
static struct tl_bytes take_payload(struct tl_http1 *h, struct tl_bytes bytes)
{
    size_t n = bytes.n < h->left ? bytes.n : (size_t)h->left;
    h->left -= n;
    if (h->left == 0)
        h->state = h->state == HTTP1_LENGTH ? HTTP1_END : HTTP1_CHUNK_CR;
    return tl_bytes(bytes.p, n);
}

enum tl_parse tl_http1_body(struct tl_http1 *h, struct tl_bytes bytes, size_t *ret_consumed,
                            struct tl_bytes *ret_chunk)
{
    size_t i = 0;
    enum tl_parse r = h->status ? TL_PARSE_BAD : TL_PARSE_MORE;
    struct tl_bytes chunk = tl_bytes(NULL, 0);
    assert(h->state >= HTTP1_LENGTH || h->status);
    while (r == TL_PARSE_MORE && h->state != HTTP1_END && chunk.n == 0 && i < bytes.n) {
        if (h->state == HTTP1_LENGTH || h->state == HTTP1_CHUNK) {
            chunk = take_payload(h, tl_bytes_skip(bytes, i));
            i += chunk.n;
        } else {
            r = frame_byte(h, bytes.p[i++]);
        }
    }
    if (r == TL_PARSE_BAD)
        return TL_PARSE_BAD;
    *ret_consumed = i;
    *ret_chunk = chunk;
    return h->state == HTTP1_END ? TL_PARSE_DONE : TL_PARSE_MORE;
}
