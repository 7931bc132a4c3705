/*
 * Server-Sent Events (WHATWG HTML, "Server-sent events"): printing events so that any payload gets
 * through, and a push parser for our own terminal client and the tests. Knows no socket and no
 * clock. What a payload says is never looked into.
 *
 * A message on the wire:
 *
 *     id: <id>          when it has one
 *     event: <name>     when it has one, or is base64
 *     data: <line>      one for each line of the payload
 *                       (empty line)
 *
 * A parser takes one space after the colon away, joins the data lines with LF, and drops an event
 * only when it has no data line at all. So an empty payload is one `data: ` line and arrives as an
 * empty string, n LFs are n + 1 such lines, leading spaces and BOMs stay, NUL is carried. CR ends a
 * line and invalid UTF-8 would be replaced: a payload with either goes as one line of base64, in an
 * event `base64`, or `<name>;base64` when there is a name.
 *
 * Names and ids hold channel names, which strangers choose, so both are percent-encoded: controls,
 * DEL, `%`, `;` and bytes that are not UTF-8. A name that means something else already (those of
 * TL_SSE_RESERVED) has its first character encoded. Clients send ids back as they got them:
 * tl_sse_name_decode() before use.
 */
#ifndef TL_PROTO_SSE_H
#define TL_PROTO_SSE_H

#include "base/buf.h"

/* Our own events, and those that every EventSource fires by itself. X(name) */
#define TL_SSE_RESERVED(X)                                                                         \
    X("base64") X("broker") X("expired") X("gap") X("snapshot") X("open") X("error")

struct tl_sse_event {
    struct tl_bytes id;    /* empty: none */
    struct tl_bytes event; /* a channel's name, any bytes; empty: none */
    struct tl_bytes payload;
    bool payload_is_text; /* tl_utf8_valid(payload), which the caller knows already */
};

/* Bytes that the event becomes; at most 7 for one of the payload, 3 of id and name, and 64. */
size_t tl_sse_event_size(const struct tl_sse_event *ev);

/* Write exactly tl_sse_event_size(ev) bytes to out; returns that. */
size_t tl_sse_event_write(const struct tl_sse_event *ev, uint8_t *out);

/* How long a browser waits before it connects again. */
void tl_sse_retry(struct tl_buf *out, uint32_t retry_ms);

/* A comment (heartbeat), which dispatches nothing; text without CR and LF, may be empty. */
void tl_sse_comment(struct tl_buf *out, const char *text);

/* The block that tells a client its start position and dispatches nothing. */
void tl_sse_start(struct tl_buf *out, struct tl_bytes id);

/* An event of our own: name is one of TL_SSE_RESERVED, json has no CR and LF. */
void tl_sse_control(struct tl_buf *out, const char *name, struct tl_bytes json);

/* Encode a name as it stands in events, reserved ones included; with out NULL only count. Returns
 * the bytes, at most 3 for one. Also what raw WebSocket frames of pattern channels begin with. */
size_t tl_sse_name_encode(struct tl_bytes name, uint8_t *out);

/*
 * Undo the encoding of names and ids: out has room for name.n bytes and may be name.p itself. False
 * for a `%` without two hexadecimal digits.
 */
TL_MUST_USE bool tl_sse_name_decode(struct tl_bytes name, uint8_t *out, size_t *ret_n);

/* One event as a client sees it. The memory is the parser's, until the handler returns. */
struct tl_sse_received {
    struct tl_bytes id;    /* the last id that the stream set */
    struct tl_bytes event; /* as on the wire; empty is what browsers call `message` */
    struct tl_bytes data;
};

/* Read id, retry_ms and reason only. */
struct tl_sse_parser {
    void (*on_event)(const struct tl_sse_received *ev, void *arg);
    void *arg;
    size_t bytes_max;
    struct tl_buf id;      /* what a client sends as Last-Event-ID */
    struct tl_buf next_id; /* becomes id with the block's end */
    struct tl_buf event;   /* of the open block */
    struct tl_buf data;    /* of the open block, each line with its LF */
    struct tl_buf line;    /* the open line */
    uint32_t retry_ms;     /* 0 until the stream sets it */
    uint8_t bom_n;         /* bytes of a BOM seen at the very start; 3: past the start */
    bool after_cr;         /* an LF now belongs to the CR */
    bool changes_id;       /* the open block sets next_id */
    const char *reason;    /* after BAD: why, static text */
};

/*
 * Start on a new stream. on_event is called within tl_sse_parse(), once for each event. The open
 * block may hold bytes_max bytes, its ids, name, data and open line together.
 */
void tl_sse_parser_init(struct tl_sse_parser *p, size_t bytes_max,
                        void (*on_event)(const struct tl_sse_received *ev, void *arg), void *arg);

void tl_sse_parser_deinit(struct tl_sse_parser *p);

/*
 * Read all of the bytes. MORE: the stream goes on, as it always does; BAD: over bytes_max or out of
 * memory, p->reason says which, and all later calls are BAD. Line ends CR, LF and CRLF, a BOM at
 * the start, fields and ids as the standard has them, but for this: invalid UTF-8 is passed on as
 * it is.
 */
TL_MUST_USE enum tl_parse tl_sse_parse(struct tl_sse_parser *p, struct tl_bytes bytes);

/*
 * Undo what tl_sse_event_write() did: append the channel's name (maybe empty) and the payload. 0,
 * -EBADMSG when the event was not made by it, or -ENOMEM.
 */
TL_MUST_USE int tl_sse_decode(const struct tl_sse_received *ev, struct tl_buf *name,
                              struct tl_buf *payload);

#endif
