/*
 * WebSocket framing (RFC 6455): a pull parser for either end, and the printing of frame headers,
 * close payloads and the handshake's answer. Knows no socket and no clock, allocates nothing, and
 * buffers nothing: what it cannot use yet stays with the caller. No extension is spoken, so the
 * reserved bits must be zero. Not thread-safe; each parser belongs to one connection.
 */
#ifndef TL_PROTO_WS_H
#define TL_PROTO_WS_H

#include "base/bytes.h"

enum tl_ws_opcode {
    TL_WS_CONTINUATION = 0x0,
    TL_WS_TEXT = 0x1,
    TL_WS_BINARY = 0x2,
    TL_WS_CLOSE = 0x8,
    TL_WS_PING = 0x9,
    TL_WS_PONG = 0xA,
};

/* Close codes: RFC 6455 7.4.1, the IANA registry, and our own. */
enum tl_ws_close {
    TL_WS_CLOSE_NORMAL = 1000,
    TL_WS_CLOSE_GOING_AWAY = 1001,
    TL_WS_CLOSE_PROTOCOL = 1002,
    TL_WS_CLOSE_UNSUPPORTED = 1003,
    TL_WS_CLOSE_NONE = 1005,     /* never on the wire: the frame carried no code */
    TL_WS_CLOSE_ABNORMAL = 1006, /* never on the wire: no close frame came */
    TL_WS_CLOSE_NOT_UTF8 = 1007,
    TL_WS_CLOSE_POLICY = 1008,
    TL_WS_CLOSE_TOO_BIG = 1009,
    TL_WS_CLOSE_EXTENSION = 1010,
    TL_WS_CLOSE_INTERNAL = 1011,
    TL_WS_CLOSE_RESTART = 1012,
    TL_WS_CLOSE_TRY_AGAIN = 1013,
    TL_WS_CLOSE_BAD_GATEWAY = 1014,
    TL_WS_CLOSE_SLOW = 4408, /* the client fell off the log and its policy is to disconnect */
    TL_WS_CLOSE_GAP = 4410,  /* messages were missed and the client asked to be told so */
};

enum {
    TL_WS_CONTROL_MAX = 125,      /* payload bytes of a control frame (RFC 6455 5.5) */
    TL_WS_REASON_MAX = 123,       /* of them, a close reason */
    TL_WS_HEADER_MAX = 10,        /* a server's header */
    TL_WS_MASKED_HEADER_MAX = 14, /* a client's header */
    TL_WS_KEPT_MAX = 130,         /* a client's control frame but for its last byte */
    TL_WS_EMPTY_FRAGMENTS_MAX = 1024,
};

enum tl_ws_event_kind { TL_WS_ON_DATA, TL_WS_ON_PING, TL_WS_ON_PONG, TL_WS_ON_CLOSE };

struct tl_ws_event {
    enum tl_ws_event_kind kind;
    enum tl_ws_opcode opcode; /* DATA: TEXT or BINARY, that of the message */
    bool message_start;       /* DATA: the first chunk of its message */
    bool message_end;         /* DATA: the last one; a short message is both at once */
    uint16_t close_code;      /* CLOSE: 1005 when the frame carried none */
    struct tl_bytes bytes;    /* chunk, ping or pong payload, or close reason: lies in the input */
};

/* 48 bytes, since each idle connection has one. Read close_code and reason only. */
struct tl_ws_parser {
    uint64_t message_bytes_max;
    uint64_t message_bytes; /* of the open message, the open frame counted whole; <= max */
    uint64_t frame_left;    /* payload bytes of the open data frame that are still to come */
    const char *reason;     /* after BAD: why, static text fit for the close frame; else NULL */
    uint32_t utf8;          /* tl_utf8_feed() state of the open text message */
    uint8_t key[4];         /* mask of the open data frame */
    uint16_t close_code;    /* after BAD: 1002, 1007, 1008 or 1009; else 0 */
    uint16_t empty_fragments_n;
    uint8_t opcode;        /* of the open message, or 0 */
    uint8_t key_at : 2;    /* place in the key of the next payload byte */
    uint8_t is_masked : 1; /* the peer must mask (and otherwise must not) */
    uint8_t is_final : 1;  /* the open frame ends its message */
    uint8_t is_given : 1;  /* a chunk of the open message was given out */
    uint8_t is_closed : 1; /* a close frame was read */
};

/*
 * Start anew. expect_mask: true where the peer is a client. A message may have up to
 * message_bytes_max bytes, all its fragments together.
 */
void tl_ws_parser_init(struct tl_ws_parser *p, bool expect_mask, uint64_t message_bytes_max);

/*
 * Read at most one event from the n bytes (n may be 0), which are unmasked in place.
 *   DONE: *ret_event is one event, *ret_consumed bytes of the input are used up. Call again with
 *         the rest.
 *   MORE: nothing whole is left. *ret_consumed bytes are used up (maybe none); the caller keeps the
 *         others, at most TL_WS_KEPT_MAX, and gives them again in front of what comes next.
 *   BAD:  the peer broke the protocol: p->close_code and p->reason say how; all later calls are
 * BAD. Data frames are given out in chunks as they come: text is checked at once and across
 * fragments, so the chunk with the first bad byte is refused (RFC 6455 8.1), and a frame that would
 * take its message over message_bytes_max is refused at its header. A chunk may be empty (empty
 * message, or a fragment without payload). Control frames are given whole. What follows a close
 * frame is used up unread (RFC 6455 5.5.1).
 */
TL_MUST_USE enum tl_parse tl_ws_parse(struct tl_ws_parser *p, uint8_t *bytes, size_t n,
                                      size_t *ret_consumed, struct tl_ws_event *ret_event);

/* Size of a server's frame header before payload_n bytes: 2, 4 or 10. */
static inline size_t tl_ws_header_size(uint64_t payload_n)
{
    return payload_n < 126 ? 2 : payload_n <= UINT16_MAX ? 4 : 10;
}

/*
 * Print the header of an unfragmented, unmasked frame (payload_n < 2^63; at most TL_WS_CONTROL_MAX
 * for control frames). Returns its size, tl_ws_header_size(payload_n).
 */
size_t tl_ws_header(uint8_t out[TL_WS_HEADER_MAX], enum tl_ws_opcode op, uint64_t payload_n);

/* The same for a client: with the mask bit and the key. The caller masks the payload. */
size_t tl_ws_masked_header(uint8_t out[TL_WS_MASKED_HEADER_MAX], enum tl_ws_opcode op,
                           uint64_t payload_n, const uint8_t key[4]);

/* Mask or unmask n bytes in place; the first is payload byte `offset` of its frame (RFC 6455 5.3).
 */
void tl_ws_mask(uint8_t *bytes, size_t n, const uint8_t key[4], size_t offset);

/* True when a close frame may carry the code (RFC 6455 7.4 and the IANA registry). */
bool tl_ws_close_is_valid(uint16_t code);

/*
 * Print the payload of a close frame: the code, and as much of the reason as is valid UTF-8 and
 * fits, cut between characters. Code 1005 stands for an empty payload; any other must be valid.
 * Returns the size.
 */
size_t tl_ws_close_payload(uint8_t out[TL_WS_CONTROL_MAX], uint16_t code, struct tl_bytes reason);

/* True for a Sec-WebSocket-Key: base64 of 16 bytes (RFC 6455 4.2.1). */
bool tl_ws_key_is_valid(struct tl_bytes key);

/*
 * Sec-WebSocket-Accept for a valid key (RFC 6455 4.2.2): 28 characters and a NUL.
 */
void tl_ws_accept(struct tl_bytes key, char out[29]);

#endif
