/*
 * A worker's own view of one lane of one log: references to segments, head and tail, changed by
 * its mailbox only, so eviction by the writer needs no lock. Cursors of subscriptions are lane
 * offsets into it. Pure: it sends nothing and knows no session.
 */
#ifndef TL_FEED_VIEW_H
#define TL_FEED_VIEW_H

#include "feed/chain.h"
#include "feed/log.h"

struct tl_view {
    struct tl_chain chain;
    struct tl_mark head, tail;
    uint64_t epoch;
    uint64_t epoch_idx;             /* the first entry of this epoch */
    struct tl_stream_marks *stream; /* the owner's room for them; NULL: it follows no stream */
    struct tl_sequence_marks seqs;
    struct tl_lane_events events;
};

/* What the writer tells: the new marks, and the segments that the view does not hold yet. */
struct tl_view_update {
    struct tl_segment **segs; /* one reference each */
    uint32_t segs_n;
    bool anew; /* and drops all that it has: older ones were put before */
    struct tl_mark head, tail;
    uint64_t epoch, epoch_idx;
    struct tl_stream_marks stream; /* nothing where the view has no room */
    struct tl_sequence_marks seqs;
    struct tl_lane_events events;
};

/* A contiguous range of a lane, [from, to) at borders, as slices. */
struct tl_range {
    struct tl_bytes slices[16];
    unsigned slices_n;
    size_t bytes_n;
    struct tl_mark to; /* the border behind the range */
};

/* Take the update over, its segment references in any case. 0, or -ENOMEM: then the view is
 * unusable and must be deinitialised. */
TL_MUST_USE int tl_view_apply(struct tl_view *view, const struct tl_view_update *update);

/* Empty again; the room for marks stays. */
void tl_view_deinit(struct tl_view *view);

/*
 * What to send from the border `from` (tail.off <= from < head.off) on: whole entries, about
 * bytes_max at most, but at least one, and at most 16 slices.
 */
void tl_view_range(const struct tl_view *view, uint64_t from, size_t bytes_max,
                   struct tl_range *ret_range);

/* The segments that [from, to) touches, referenced once more each into segs[16]; returns how many.
 */
unsigned tl_view_pin(const struct tl_view *view, uint64_t from, uint64_t to,
                     struct tl_segment *segs[16]);

/* What a client that has `position` is to be sent (R16). */
enum tl_resume {
    TL_RESUME_FROM, /* everything from *ret_from on; nothing was missed */
    TL_RESUME_GAP,  /* some messages are gone: *ret_from is the oldest kept, *ret_missed how many */
    TL_RESUME_VOID, /* another epoch, or from the future: how many is unknown; *ret_from is the head
                     */
};
enum tl_resume tl_view_resume(const struct tl_view *view, struct tl_position position,
                              struct tl_mark *ret_from, uint64_t *ret_missed);

/*
 * The same for a client that has all entries of this process up to number seq: how many messages
 * are gone is not known. TL_RESUME_VOID: the log was made, or its continuity broken, after seq;
 * *ret_from is where it began anew.
 */
enum tl_resume tl_view_resume_behind(const struct tl_view *view, uint64_t seq,
                                     struct tl_mark *ret_from);

/* Before the first entry with a greater number than seq. */
struct tl_mark tl_view_behind(const struct tl_view *view, uint64_t seq);

/* The number of the first entry with bytes from that border on, tail.off <= off < head.off. */
uint64_t tl_view_seq(const struct tl_view *view, uint64_t off);

/* A number that all entries before the mark have at most: that of the last one, or where nothing
 * is kept before it, the greatest that was dropped. */
uint64_t tl_view_seq_before(const struct tl_view *view, struct tl_mark mark);

/* The position is of the stream that this log follows, and not found here: the stream may have
 * older entries, or newer ones. */
bool tl_view_must_ask(const struct tl_view *view, const struct tl_position *position);

/* The position of whoever has all before the mark, which lies in this epoch. */
struct tl_position tl_view_position(const struct tl_view *view, struct tl_mark mark);

/*
 * Where a newcomer begins who wants the last msgs_n messages, or those appended at or after
 * since_ms (monotonic): as much of that as is kept and of this epoch, so that no gap lies within.
 * It does not begin with a control event.
 */
struct tl_mark tl_view_history(const struct tl_view *view, uint64_t msgs_n);
struct tl_mark tl_view_since_ms(const struct tl_view *view, uint64_t since_ms);

/* When entry idx was appended (monotonic). tail <= idx < head. */
uint64_t tl_view_time_ms(const struct tl_view *view, uint64_t idx);

/* Before the newest message that is kept, whatever its epoch; the tail if there is none. */
struct tl_mark tl_view_newest(const struct tl_view *view);

/* Does its log follow a stream, as far as it was told? */
static inline bool tl_view_follows(const struct tl_view *view)
{
    return view->stream && view->stream->on;
}

/* Is there a control event behind that offset, kept or dropped? */
static inline bool tl_view_has_event_behind(const struct tl_view *view, uint64_t off)
{
    return view->events.last_off > off;
}

/* What somebody who fell off the log will not get. */
struct tl_lost {
    uint64_t msgs_n;
    bool gap;     /* an event told of a gap upstream */
    bool broker;  /* one told of the broker's state: */
    bool is_down; /* the last word of it */
};

/* What lies between a cursor before the tail, with msg messages before it, and the tail. */
struct tl_lost tl_view_lost(const struct tl_view *view, uint64_t off, uint64_t msg);

/* Must it be told as a gap? The state of the broker alone is none. */
static inline bool tl_lost_is_gap(const struct tl_lost *lost)
{
    return lost->msgs_n > 0 || lost->gap;
}

#endif
