/*
 * A lane: one wire encoding of a log, finished bytes built once per message whatever the number of
 * subscribers. The WebSocket lane is the log's own storage; the others are built from it. A lane
 * knows how to encode; which messages it holds is the log's affair.
 */
#ifndef TL_FEED_LANE_H
#define TL_FEED_LANE_H

#include "feed/chain.h"

enum TL_SMALL tl_lane_kind {
    TL_LANE_WS,         /* unmasked server frames, one a message */
    TL_LANE_SSE,        /* events with their id */
    TL_LANE_SSE_TAGGED, /* the same for clients of several channels: the id names the channel */
    TL_LANE_N
};

/* One message or control event as the lanes encode it. */
struct tl_lane_item {
    struct tl_bytes payload;  /* of a message */
    struct tl_bytes name;     /* source channel, for pattern channels; else empty */
    struct tl_bytes position; /* the token a client has once it has this message */
    struct tl_bytes control;  /* a control event as SSE carries it, without an id; or empty */
    struct tl_bytes number;   /* the token of its sequence, which the tagged lane has for an id */
    uint64_t seq;             /* the same as a number; 0 without a sequence */
    struct tl_bytes tag; /* kept with the entry in every lane, in place of the name; or empty */
    uint8_t flags;       /* enum tl_entry_flags */
    bool name_line;      /* WebSocket: `name\n` goes before the payload */
};

/* What became of a lane's control events: offsets just behind them, 0 for none. */
struct tl_lane_events {
    uint64_t last_off; /* the newest */
    /* The newest that was dropped and told of a gap, or of the broker's state: whoever stands
     * before it was not told. */
    uint64_t gap_off, broker_off;
    bool is_down; /* which is what the latter said */
};

struct tl_lane {
    struct tl_chain chain;
    uint64_t head_off, tail_off;
    uint64_t events_bytes; /* of what is kept, those of control events */
    struct tl_lane_events events;
    uint32_t next_cap; /* bytes of the next segment: follows what the lane keeps */
    enum tl_lane_kind kind;
    bool on;
};

void tl_lane_init(struct tl_lane *lane, enum tl_lane_kind kind);
void tl_lane_deinit(struct tl_lane *lane);

/* Bytes that the item takes in this lane; may be 0 for a control event. */
size_t tl_lane_encoded_size(const struct tl_lane *lane, const struct tl_lane_item *item);

/*
 * Make room for one item: afterwards tl_lane_append() cannot fail. base: the log's head before the
 * item (its off is ignored). 0, or -ENOMEM, or -EMSGSIZE for 2 GiB and more.
 */
TL_MUST_USE int tl_lane_reserve(struct tl_lane *lane, const struct tl_lane_item *item,
                                struct tl_mark base, uint64_t now_ms);

/* Encode the item behind the head. Room was reserved for this very item. */
void tl_lane_append(struct tl_lane *lane, const struct tl_lane_item *item, uint64_t now_ms);

/* The control events among the entries [from, to) are about to be dropped. */
void tl_lane_drop_events(struct tl_lane *lane, uint64_t from, uint64_t to);

/* Move the tail to entry idx: segments before it are retired. Returns nothing; never passes the
 * head. */
void tl_lane_trim(struct tl_lane *lane, struct tl_mark tail);

/* The same for the bytes of entry i of a segment of this lane, as they are. */
TL_MUST_USE int tl_lane_reserve_copy(struct tl_lane *lane, const struct tl_segment *seg, uint32_t i,
                                     struct tl_mark base);
void tl_lane_append_copy(struct tl_lane *lane, const struct tl_segment *seg, uint32_t i);

/*
 * The payload and name (or tag) of message i of a segment of a WebSocket lane (name_line as it was
 * encoded). Of a control entry there is the tag alone, if it has one.
 */
void tl_lane_ws_decode(const struct tl_segment *seg, uint32_t i, bool name_line,
                       struct tl_lane_item *ret_item);

#endif
