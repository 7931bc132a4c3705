/*
 * HTTP/1.x requests in, responses out: bytes to slices and back. No socket, no clock, no
 * allocation but for the buffer that a response goes into. It decides what a request means and
 * refuses what could mean two things (RFC 9112 11.2); it knows no routes and no limits on bodies.
 *
 * One request: tl_http1_init(), tl_http1_head() until DONE, tl_http1_body() until DONE where there
 * is one; then init again for the next request on the connection.
 */
#ifndef TL_PROTO_HTTP1_H
#define TL_PROTO_HTTP1_H

#include "base/buf.h"

#define TL_HTTP1_HEADERS_MAX  64
#define TL_HTTP1_TARGET_MAX   61440
#define TL_HTTP1_HEAD_MAX     65536 /* the most that tl_http1_init() takes */
#define TL_HTTP1_OVERHEAD_MAX 4096  /* bytes of chunk extensions and trailers of one body */

enum tl_http1_method {
    TL_HTTP1_GET,
    TL_HTTP1_HEAD,
    TL_HTTP1_POST,
    TL_HTTP1_OPTIONS,
    TL_HTTP1_OTHER, /* known to HTTP, not to us: 405 */
};

/* Parser state of one request; status and reason are for the caller, the rest is not. */
struct tl_http1 {
    int status;         /* after BAD: the status to answer with, and then to close */
    const char *reason; /* after BAD: static text for people */
    uint32_t head_max, scan_off, line_off, start_off;
    uint64_t left; /* bytes to come of the body or of the chunk */
    uint32_t overhead_n;
    uint8_t state, blank_n, digits_n;
};

struct tl_http1_header {
    struct tl_bytes name, value; /* the value without spaces around it */
};

/* Slices point into the bytes that tl_http1_head() was given (an empty path of an absolute URL,
 * into static memory). Absent slices have p NULL. */
struct tl_http1_request {
    enum tl_http1_method method;
    struct tl_bytes method_name;
    struct tl_bytes target; /* as it came */
    struct tl_bytes path;   /* still encoded; begins with '/', or is `*`, or empty for CONNECT */
    struct tl_bytes query;  /* still encoded, behind the '?'; p NULL without one */
    struct tl_bytes host;   /* well-formed; p NULL only in HTTP/1.0 */
    uint8_t minor;          /* of HTTP/1.minor */
    bool keep_alive;        /* the client would send another request */
    bool upgrade;           /* there is an Upgrade header */
    bool has_body;          /* chunked, or content_length > 0 */
    bool chunked;
    bool expect_100_continue;
    uint64_t content_length; /* 0 when chunked or absent */
    uint64_t name_lengths;   /* of headers: bit n % 64 if a name has n bytes, see may_have() */
    size_t headers_n;
    struct tl_http1_header headers[TL_HTTP1_HEADERS_MAX];
};

/* Begin a request whose head has at most head_bytes_max <= TL_HTTP1_HEAD_MAX bytes. */
void tl_http1_init(struct tl_http1 *h, size_t head_bytes_max);

/*
 * Read the head. `bytes` is everything received of this request so far, from its first byte, and
 * may move between calls; each byte is looked at once, however it arrives, and the head is parsed
 * once, when it is whole. What lies behind the head is not looked at. DONE: *ret_head_n bytes are
 * the head, *ret is filled. MORE: call again with more behind. BAD: h->status and h->reason, the
 * same on every further call: 400  bare LF or CR, control characters, folded lines, spaces before a
 * colon, a malformed request line, target or Host, not exactly one Host in 1.1 (at most one
 * in 1.0), an absolute target of another host, repeated Origin or Authorization, repeated or
 * malformed Content-Length, Content-Length with Transfer-Encoding, Transfer-Encoding in 1.0 or with
 *        chunked not last, HTTP/0.9, more than 4 empty lines before it
 *   414  a target over TL_HTTP1_TARGET_MAX, or a request line over the head's limit
 *   417  an expectation other than 100-continue
 *   431  over head_bytes_max bytes or TL_HTTP1_HEADERS_MAX headers
 *   501  an unknown method or transfer coding
 *   505  a version other than 1.x
 * RFC 9112 2 to 6.
 */
TL_MUST_USE enum tl_parse tl_http1_head(struct tl_http1 *h, struct tl_bytes bytes,
                                        size_t *ret_head_n, struct tl_http1_request *ret);

/*
 * Read the body. `bytes` is what was received behind the head and not yet consumed. Each call gives
 * at most one chunk of the decoded body, a slice of `bytes` (maybe empty).
 * Take the chunk, drop *ret_consumed bytes, and then: DONE: that was the end, and bytes not
 * consumed belong to the next request. MORE: call again, at once if bytes are left; with an empty
 * chunk none are left. BAD: h->status and h->reason: 400 malformed chunks, 413 a chunk size of more
 * than 15 digits, 431 over TL_HTTP1_OVERHEAD_MAX bytes of extensions and trailers; nothing was
 * consumed. Trailers are dropped. The limit on the body is the caller's. RFC 9112 6.3, 7.1.
 */
TL_MUST_USE enum tl_parse tl_http1_body(struct tl_http1 *h, struct tl_bytes bytes,
                                        size_t *ret_consumed, struct tl_bytes *ret_chunk);

/* Bytes of the body, or of its current chunk, that were announced and have not come yet. */
static inline uint64_t tl_http1_body_left(const struct tl_http1 *h)
{
    return h->left;
}

/* Put a header behind the others, of which there are less than TL_HTTP1_HEADERS_MAX. */
static inline void tl_http1_add_header(struct tl_http1_request *req, struct tl_bytes name,
                                       struct tl_bytes value)
{
    req->headers[req->headers_n++] = (struct tl_http1_header){.name = name, .value = value};
    req->name_lengths |= (uint64_t)1 << name.n % 64;
}

/* False: no header's name has that length. A dozen names are looked for in each request, and most
 * requests have none of most. */
static inline bool tl_http1_may_have(const struct tl_http1_request *req, size_t name_n)
{
    return req->name_lengths >> name_n % 64 & 1;
}

/* The value of the first header of that name (compared without case), or p NULL. */
struct tl_bytes tl_http1_find(const struct tl_http1_request *req, struct tl_bytes name);
/* Inline, so that the length of a literal is known. */
static inline struct tl_bytes tl_http1_header(const struct tl_http1_request *req, const char *name)
{
    return tl_http1_may_have(req, strlen(name)) ? tl_http1_find(req, tl_bytes_str(name))
                                                : tl_bytes(NULL, 0);
}

/* Do the comma lists of all headers of that name hold the token? Neither has case. */
bool tl_http1_find_token(const struct tl_http1_request *req, struct tl_bytes name,
                         struct tl_bytes token);
static inline bool tl_http1_header_has_token(const struct tl_http1_request *req, const char *name,
                                             const char *token)
{
    return tl_http1_may_have(req, strlen(name)) &&
           tl_http1_find_token(req, tl_bytes_str(name), tl_bytes_str(token));
}

/*
 * May this request become a WebSocket? 0 with *ret_key the client's key, or the status to refuse it
 * with and *ret_reason a static text:
 *   405  not GET
 *   400  HTTP/1.0, a body, no `Connection: upgrade`, a missing, repeated or invalid key
 *   426  no `Upgrade: websocket`, or a version other than 13
 * RFC 6455 4.2.1.
 */
TL_MUST_USE int tl_http1_websocket_check(const struct tl_http1_request *req,
                                         struct tl_bytes *ret_key, const char **ret_reason);

struct tl_http1_response {
    int status;
    const char *content_type; /* NULL: no such header */
    struct tl_bytes extra;    /* whole header lines, each with its CRLF */
    struct tl_bytes body;
    uint8_t minor;    /* of the request's version */
    bool keep_alive;  /* else `Connection: close` */
    bool is_head;     /* answers HEAD: the body's length, not the body */
    bool until_close; /* the body is open-ended: no length, `Connection: close` */
};

/*
 * Append the response. 1xx has neither Connection nor length, 204 and 304 no body and no length.
 * Errors: out->failed. RFC 9112 4, RFC 9110 8.6.
 */
void tl_http1_respond(struct tl_buf *out, const struct tl_http1_response *r);

/* Append {"error":..., "hint":...}; hint may be NULL and is then left out. Errors: out->failed. */
void tl_http1_error_body(struct tl_buf *out, const char *error, const char *hint);

/* The reason phrase, "Unknown" for a status that nothing here sends. Static. */
const char *tl_http1_status_text(int status);

#endif
