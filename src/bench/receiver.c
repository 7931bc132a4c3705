#include "bench/receiver.h"

#include "proto/ws.h"

#include <errno.h>
#include <sys/types.h>

enum state {
    STATUS_LINE,
    HEADERS,
    WS_FRAME,  /* a frame's header and the first bytes of its payload */
    WS_SKIP,   /* the rest of its payload */
    SSE_LINE,  /* a line, or its first bytes */
    LINE_SKIP, /* the rest of an SSE line */
    HEAD_SKIP, /* the rest of a header line */
    ENDED,
};

enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END };

void tl_receiver_init(struct tl_receiver *r, const struct tl_receiver_rules *rules)
{
    memset(r, 0, offsetof(struct tl_receiver, kept));
    r->rules = rules;
}

static int fail(struct tl_receiver *r, const char *reason)
{
    r->reason = reason;
    return -EPROTO;
}

/* Look for the stamp in the first bytes of a message of which message_n bytes are still to come. */
static void open_message(struct tl_receiver *r, struct tl_bytes head, uint64_t message_n)
{
    size_t off;
    r->stamped = tl_stamp_find(head, &r->stamp, &off);
    r->message_n = r->stamped ? message_n - off : message_n;
    if (!r->stamped)
        r->rules->handler->on_other(r, head);
}

static void end_message(struct tl_receiver *r)
{
    if (r->stamped)
        r->rules->handler->on_message(r, &r->stamp, r->message_n);
    r->stamped = false;
}

/* WebSocket */

static void end_frame(struct tl_receiver *r)
{
    r->state = WS_FRAME;
    if (!r->is_final)
        return;
    r->in_message = false;
    end_message(r);
}

/* The payload's length, if the header is one that a server may send. */
static int check_header(struct tl_receiver *r, const uint8_t *p, uint64_t payload_n)
{
    uint8_t opcode = p[0] & 15;
    if ((p[0] & 0x70) || (p[1] & 0x80))
        return fail(r, "sent a frame with a mask or an extension that nobody asked for");
    if (opcode >= TL_WS_CLOSE)
        return opcode <= TL_WS_PONG && (p[0] & 0x80) && payload_n <= TL_WS_CONTROL_MAX
                   ? 0
                   : fail(r, "sent a malformed control frame");
    if (opcode > TL_WS_BINARY || (opcode == TL_WS_CONTINUATION) != r->in_message)
        return fail(r, "sent frames out of sequence");
    return payload_n >> 63 ? fail(r, "sent a frame of impossible length") : 0;
}

static void take_control(struct tl_receiver *r, uint8_t opcode, struct tl_bytes payload)
{
    if (opcode == TL_WS_PING)
        r->rules->handler->on_ping(r, payload);
    if (opcode != TL_WS_CLOSE)
        return;
    uint16_t code = TL_WS_CLOSE_NONE;
    if (payload.n >= 2)
        code = (uint16_t)(payload.p[0] << 8 | payload.p[1]);
    r->state = ENDED;
    r->rules->handler->on_close(r, code);
}

/* The header's length and the payload's; 0 while it is not all there. */
static size_t read_header(const uint8_t *p, size_t n, uint64_t *ret_payload_n)
{
    if (n < 2)
        return 0;
    size_t extra_n = (p[1] & 127) == 127 ? 8 : (p[1] & 127) == 126 ? 2 : 0;
    if (n < 2 + extra_n)
        return 0;
    uint64_t payload_n = extra_n > 0 ? 0 : p[1] & 127;
    for (size_t i = 0; i < extra_n; i++)
        payload_n = payload_n << 8 | p[2 + i];
    *ret_payload_n = payload_n;
    return 2 + extra_n;
}

/* As all steps: how many bytes were used, 0: more are needed, or -EPROTO. */
static ssize_t step_frame(struct tl_receiver *r, struct tl_bytes in)
{
    uint64_t payload_n;
    size_t header_n = read_header(in.p, in.n, &payload_n);
    if (header_n == 0)
        return 0;
    if (check_header(r, in.p, payload_n) < 0)
        return -EPROTO;
    uint8_t opcode = in.p[0] & 15;
    size_t look_n = payload_n < TL_RECEIVER_LOOK_MAX ? (size_t)payload_n : TL_RECEIVER_LOOK_MAX;
    if (opcode == TL_WS_CONTINUATION && r->stamped)
        look_n = 0;
    if (in.n - header_n < look_n)
        return 0;
    struct tl_bytes head = tl_bytes(in.p + header_n, look_n);
    if (opcode >= TL_WS_CLOSE) {
        take_control(r, opcode, head);
        return (ssize_t)(header_n + look_n);
    }
    if (opcode == TL_WS_CONTINUATION && r->stamped)
        r->message_n += payload_n;
    else
        open_message(r, head, payload_n);
    r->in_message = true;
    r->is_final = in.p[0] & 0x80;
    r->left = payload_n - look_n;
    r->state = WS_SKIP;
    if (r->left == 0)
        end_frame(r);
    return (ssize_t)(header_n + look_n);
}

/* Lines: the HTTP head and SSE */

static int begin_body(struct tl_receiver *r)
{
    if (r->rules->kind == TL_RECEIVER_WEBSOCKET && !r->accept_seen)
        return fail(r, "answered 101 without the right Sec-WebSocket-Accept");
    r->state = r->rules->kind == TL_RECEIVER_WEBSOCKET ? WS_FRAME : SSE_LINE;
    r->rules->handler->on_accepted(r);
    return 0;
}

static bool is_header(struct tl_bytes *line, const char *name)
{
    size_t n = strlen(name);
    if (line->n <= n || line->p[n] != ':' ||
        !tl_bytes_ieq(tl_bytes(line->p, n), tl_bytes_str(name)))
        return false;
    *line = tl_bytes_trim(tl_bytes_skip(*line, n + 1));
    return true;
}

static int take_status(struct tl_receiver *r, struct tl_bytes line)
{
    if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0)
        return fail(r, "does not speak HTTP/1.1");
    for (size_t i = 9; i < 12; i++)
        r->status = (uint16_t)(r->status * 10 + (line.p[i] - '0'));
    r->state = HEADERS;
    if (r->status != (r->rules->kind == TL_RECEIVER_WEBSOCKET ? 101 : 200))
        return fail(r, "refused");
    return 0;
}

static int take_header(struct tl_receiver *r, struct tl_bytes line)
{
    if (line.n == 0)
        return begin_body(r);
    if (is_header(&line, "sec-websocket-accept"))
        r->accept_seen = tl_bytes_eq(line, tl_bytes_str(r->rules->accept));
    else if (is_header(&line, "transfer-encoding"))
        r->chunked = r->rules->kind == TL_RECEIVER_SSE && tl_bytes_ieq(line, TL_LIT("chunked"));
    else if (is_header(&line, "sec-websocket-extensions"))
        return fail(r, "wants an extension that nobody asked for");
    return 0;
}

static void take_event_line(struct tl_receiver *r, struct tl_bytes line)
{
    if (!tl_bytes_starts(line, TL_LIT("data:"))) {
        r->rules->handler->on_field(r, line);
        return;
    }
    line = tl_bytes_skip(line, line.n > 5 && line.p[5] == ' ' ? 6 : 5);
    open_message(r, line, line.n);
}

/* A line, or the first bytes of a long one. */
static ssize_t step_line(struct tl_receiver *r, struct tl_bytes in)
{
    size_t look_n = in.n < TL_RECEIVER_KEPT_MAX ? in.n : TL_RECEIVER_KEPT_MAX;
    const uint8_t *lf = memchr(in.p, '\n', look_n);
    if (!lf && look_n < TL_RECEIVER_KEPT_MAX)
        return 0;
    struct tl_bytes line = tl_bytes(in.p, lf ? (size_t)(lf - in.p) : look_n);
    ssize_t used = (ssize_t)(line.n + (lf ? 1 : 0));
    if (lf && line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    int rc = 0;
    if (r->state == STATUS_LINE)
        rc = take_status(r, line);
    else if (r->state == HEADERS)
        rc = take_header(r, line);
    else
        take_event_line(r, line);
    if (rc < 0)
        return rc;
    if (!lf)
        r->state = r->state == SSE_LINE ? LINE_SKIP : HEAD_SKIP;
    else if (r->state == SSE_LINE)
        end_message(r);
    return used;
}

/* The rest of a frame or line. */
static struct tl_bytes skip(struct tl_receiver *r, struct tl_bytes in)
{
    if (r->state == WS_SKIP) {
        size_t n = r->left < in.n ? (size_t)r->left : in.n;
        r->left -= n;
        if (r->left == 0)
            end_frame(r);
        return tl_bytes_skip(in, n);
    }
    const uint8_t *lf = memchr(in.p, '\n', in.n);
    size_t n = lf ? (size_t)(lf - in.p) : in.n;
    if (r->state == LINE_SKIP)
        r->message_n += n;
    if (!lf)
        return tl_bytes_skip(in, n);
    if (r->state == LINE_SKIP) {
        r->state = SSE_LINE;
        end_message(r);
    } else {
        r->state = HEADERS;
    }
    return tl_bytes_skip(in, n + 1);
}

/* Take one thing, putting what was kept in front of it. */
static int step(struct tl_receiver *r, struct tl_bytes *in)
{
    struct tl_bytes at = *in;
    size_t kept_n = r->kept_n;
    if (kept_n > 0) {
        size_t room_n = sizeof r->kept - kept_n, n = in->n < room_n ? in->n : room_n;
        memcpy(r->kept + kept_n, in->p, n);
        at = tl_bytes(r->kept, kept_n + n);
    }
    ssize_t used = r->state == WS_FRAME ? step_frame(r, at) : step_line(r, at);
    if (used < 0)
        return (int)used;
    if (used == 0) {
        if (kept_n == 0)
            memcpy(r->kept, at.p, at.n);
        r->kept_n = (uint16_t)at.n;
        *in = tl_bytes_skip(*in, at.n - kept_n);
        return 0;
    }
    r->kept_n = 0;
    *in = tl_bytes_skip(*in, (size_t)used - kept_n);
    return 0;
}

/* The body; with the head, everything that is not in chunks. */
static int feed_plain(struct tl_receiver *r, struct tl_bytes *in)
{
    int rc = 0;
    if (r->state == ENDED)
        *in = tl_bytes_skip(*in, in->n);
    else if (r->state == WS_SKIP || r->state == LINE_SKIP || r->state == HEAD_SKIP)
        *in = skip(r, *in);
    else
        rc = step(r, in);
    return rc;
}

/* Chunked coding (RFC 9112 7.1) */

static int chunk_digit(struct tl_receiver *r, uint8_t c)
{
    uint8_t lower = tl_ascii_lower(c);
    if (r->chunk_left >> 56)
        return fail(r, "sent a chunk of impossible size");
    if ((uint8_t)(c - '0') < 10)
        r->chunk_left = r->chunk_left << 4 | (uint64_t)(c - '0');
    else if ((uint8_t)(lower - 'a') < 6)
        r->chunk_left = r->chunk_left << 4 | (uint64_t)(lower - 'a' + 10);
    else if (c == '\r' || c == ';' || c == ' ')
        r->chunk_state = CHUNK_EXTENSION;
    else
        return fail(r, "sent malformed chunks");
    return 0;
}

/* One byte between chunks. */
static int chunk_border(struct tl_receiver *r, uint8_t c)
{
    if (r->chunk_state == CHUNK_SIZE)
        return chunk_digit(r, c);
    if (c != '\n')
        return r->chunk_state == CHUNK_END && c != '\r' ? fail(r, "sent malformed chunks") : 0;
    if (r->chunk_state == CHUNK_END) {
        r->chunk_state = CHUNK_SIZE;
        r->chunk_left = 0;
    } else if (r->chunk_left > 0) {
        r->chunk_state = CHUNK_DATA;
    } else {
        r->state = ENDED;
        r->chunked = false;
    }
    return 0;
}

static int feed_chunked(struct tl_receiver *r, struct tl_bytes *in)
{
    if (r->chunk_state != CHUNK_DATA) {
        int rc = chunk_border(r, in->p[0]);
        *in = tl_bytes_skip(*in, 1);
        return rc;
    }
    struct tl_bytes part = tl_bytes(in->p, r->chunk_left < in->n ? (size_t)r->chunk_left : in->n);
    *in = tl_bytes_skip(*in, part.n);
    r->chunk_left -= part.n;
    if (r->chunk_left == 0)
        r->chunk_state = CHUNK_END;
    int rc = 0;
    while (part.n > 0 && rc == 0)
        rc = feed_plain(r, &part);
    return rc;
}

int tl_receiver_feed(struct tl_receiver *r, struct tl_bytes bytes)
{
    int rc = 0;
    while (bytes.n > 0 && rc == 0)
        rc = r->chunked && r->state != HEADERS && r->state != HEAD_SKIP ? feed_chunked(r, &bytes)
                                                                        : feed_plain(r, &bytes);
    return rc;
}
