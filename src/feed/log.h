/*
 * A channel's log: the bounded run of its recent messages in this process, in as many lanes as are
 * in use. One writer. Bounds are messages, bytes (of each lane) and age. Control events count for
 * none of them; they go with the messages before them, and beyond TL_LOG_EVENTS_MAX of them the
 * oldest entries go. The newest message is always kept, unless
 * so many events have come since. It knows no subscriber: readers are told by
 * marks and hold segments themselves.
 */
#ifndef TL_FEED_LOG_H
#define TL_FEED_LOG_H

#include "feed/lane.h"
#include "feed/position.h"

#define TL_LOG_EVENTS_MAX 64

struct tl_log_limits {
    uint64_t msgs_max;
    uint64_t bytes_max;
    uint64_t age_max_ms;
};

/* What a log knows of the numbers of its entries beside those that it keeps. */
struct tl_sequence_marks {
    uint64_t tail;  /* no message with a greater one was dropped */
    uint64_t epoch; /* from behind it on continuity is proven */
};

/* What a log that follows a stream has beside (feed/follow.h). */
struct tl_follow {
    struct tl_stream_marks marks;
    /* Older messages were put before the tail for somebody: until then so much more is kept. */
    struct {
        uint64_t until_ms, msgs, bytes;
    } held;
};

struct tl_log {
    const struct tl_log_limits *limits;
    struct tl_lane *lanes[TL_LANE_N]; /* NULL: nobody reads it; TL_LANE_WS is always there: */
    struct tl_lane ws;
    struct tl_mark head, tail; /* off is that of the WebSocket lane */
    uint64_t bytes;            /* of kept entries, all lanes in use */
    uint64_t newest_idx;       /* the newest message, if any is kept */
    uint64_t epoch;
    uint64_t epoch_idx;           /* the first entry of this epoch */
    bool name_line;               /* WebSocket frames begin with the source channel's name */
    struct tl_follow *follow;     /* NULL: it follows no stream */
    struct tl_sequence *sequence; /* NULL: its entries have no numbers */
    struct tl_bytes label;        /* the channel's name in the tokens of numbers */
    struct tl_sequence_marks seqs;
};

/* limits must outlive the log. Cannot fail; nothing is allocated until a
 * message comes. The log stays where it is. */
void tl_log_init(struct tl_log *log, const struct tl_log_limits *limits, uint64_t epoch,
                 bool name_line);
/* Number its entries in the process' sequence, under that name; both outlive it. Before anything
 * is appended. Without, there is no tagged lane. */
void tl_log_number(struct tl_log *log, struct tl_sequence *sequence, struct tl_bytes name);
/* Takes a zeroed struct too. What readers still pin counts as retired. */
void tl_log_deinit(struct tl_log *log);

struct tl_message {
    struct tl_bytes payload;
    struct tl_bytes
        name; /* source channel of a pattern channel's message, <= 255 bytes; or empty */
    struct tl_entry_id id; /* in a log that follows a stream: greater than the last one's */
};

/*
 * Append a message to all lanes in use. 0, -ENOMEM or -EMSGSIZE: then nothing has changed. The
 * limits are not applied: tl_log_evict() is. Copies the bytes.
 */
TL_MUST_USE int tl_log_append(struct tl_log *log, const struct tl_message *message,
                              uint64_t now_ms);

/* tells: TL_ENTRY_GAP, TL_ENTRY_DOWN, TL_ENTRY_UP, or nothing that matters to who misses it. */
struct tl_control {
    struct tl_bytes sse_event;
    struct tl_bytes position; /* its id in the SSE lane; empty: none */
    uint8_t tells;
};

/*
 * Append a control event: an entry in every lane, with bytes in those for SSE only, of which the
 * tagged one gives it its number for an id. As above.
 */
TL_MUST_USE int tl_log_append_control(struct tl_log *log, const struct tl_control *control,
                                      uint64_t now_ms);

/* Drop what is over the limits. Returns how many messages went. */
uint64_t tl_log_evict(struct tl_log *log, uint64_t now_ms);

/* Is there anything before the newest message, so that tl_log_evict_half() drops something? */
bool tl_log_is_evictable(const struct tl_log *log);
/* Drop the older half of the entries (for a cap over all logs); the newest message stays. How many
 * messages went. */
uint64_t tl_log_evict_half(struct tl_log *log);

/* Start a lane: kept messages are encoded too, control events of before are not. 0, or -ENOMEM (the
 * lane stays off). Nothing to do for a lane that is on. */
TL_MUST_USE int tl_log_lane_open(struct tl_log *log, enum tl_lane_kind kind);
/* Nobody reads the lane any more: drop it. The WebSocket lane stays. */
void tl_log_lane_close(struct tl_log *log, enum tl_lane_kind kind);

/* The marks of a lane that is there. */
struct tl_mark tl_log_head(const struct tl_log *log, enum tl_lane_kind kind);
struct tl_mark tl_log_tail(const struct tl_log *log, enum tl_lane_kind kind);

/* Continuity cannot be proven from here on: positions of the past are void. epoch is random. */
void tl_log_new_epoch(struct tl_log *log, uint64_t epoch);

/* The source passes messages on from now on, and not before: who was somewhere else until then is
 * before it. The epoch has no entries yet. */
void tl_log_begin(struct tl_log *log);

/* The position of whoever has all that was appended. */
struct tl_position tl_log_position(const struct tl_log *log);
/* That of the oldest entry that somebody may resume from. */
struct tl_position tl_log_oldest(const struct tl_log *log);

#endif
