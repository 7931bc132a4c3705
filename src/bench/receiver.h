/*
 * The receiving end of one subscriber: everything a server sends on one connection, from the status
 * line on, WebSocket (RFC 6455) or Server-Sent Events, reduced to what a load generator must know:
 * that it was accepted, and the stamp of each message. It looks at frame headers and at the first
 * bytes of payloads; the rest is skipped unread. No socket, no clock, no allocation; it keeps less
 * than TL_RECEIVER_KEPT_MAX bytes of what is not whole yet.
 *
 * A message is told when its last byte is there. Its stamp must begin within its first 148 bytes
 * (so that JSON and names may stand around it) and lie in one frame.
 */
#ifndef TL_BENCH_RECEIVER_H
#define TL_BENCH_RECEIVER_H

#include "bench/stamp.h"

enum {
    TL_RECEIVER_LOOK_MAX = 192, /* bytes of a payload that are looked at */
    TL_RECEIVER_KEPT_MAX = 208,
};

struct tl_receiver;

/* All are called from within tl_receiver_feed(); bytes are lent for the call. */
struct tl_receiver_handler {
    void (*on_accepted)(struct tl_receiver *r);
    /* A whole message; payload_n bytes from the stamp on, what is behind it in the message too. */
    void (*on_message)(struct tl_receiver *r, const struct tl_stamp *stamp, uint64_t payload_n);
    /* A message without a stamp; its first bytes. Told when it begins. */
    void (*on_other)(struct tl_receiver *r, struct tl_bytes head);
    /* SSE: the first bytes of a line that is not data. */
    void (*on_field)(struct tl_receiver *r, struct tl_bytes line);
    void (*on_ping)(struct tl_receiver *r, struct tl_bytes payload);
    /* The server's close frame. Nothing is read behind it. */
    void (*on_close)(struct tl_receiver *r, uint16_t code);
};

enum tl_receiver_kind { TL_RECEIVER_WEBSOCKET, TL_RECEIVER_SSE };

/* What all receivers of a run have in common. */
struct tl_receiver_rules {
    enum tl_receiver_kind kind;
    char accept[29]; /* WebSocket: what Sec-WebSocket-Accept must be */
    const struct tl_receiver_handler *handler;
};

/* Read status and reason only. */
struct tl_receiver {
    const struct tl_receiver_rules *rules;
    const char *reason;    /* after an error: why, static text */
    uint64_t left;         /* bytes of the open frame or line that are skipped */
    uint64_t message_n;    /* bytes of the open message from the stamp on */
    uint64_t chunk_left;   /* HTTP chunked coding */
    struct tl_stamp stamp; /* of the open message */
    uint16_t status;       /* of the HTTP answer, 0 before */
    uint16_t kept_n;
    uint8_t state;
    uint8_t chunk_state;
    bool chunked, accept_seen;
    bool in_message; /* WebSocket: a message is open */
    bool stamped;    /* the open message has a stamp */
    bool is_final;   /* the open frame ends its message */
    uint8_t kept[TL_RECEIVER_KEPT_MAX];
};

void tl_receiver_init(struct tl_receiver *r, const struct tl_receiver_rules *rules);

/*
 * Read all of the bytes. 0, or -EPROTO when the server does not speak the protocol, or refused
 * (r->status is then its status): r->reason says why; nothing may be fed any more.
 */
TL_MUST_USE int tl_receiver_feed(struct tl_receiver *r, struct tl_bytes bytes);

#endif
