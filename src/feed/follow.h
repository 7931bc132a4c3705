/*
 * A log that follows a stream: its entries keep the ids of the stream's, its positions are the
 * stream's (feed/position.h), and older entries can be put before its tail. Beside that it is a log
 * like any other. It reads nothing.
 */
#ifndef TL_FEED_FOLLOW_H
#define TL_FEED_FOLLOW_H

#include "feed/log.h"

/* Where the counts of such a log begin, so that there is room before them. */
#define TL_FOLLOW_BASE     (UINT64_C(1) << 40)
#define TL_FOLLOW_BASE_OFF (UINT64_C(1) << 56)

/* Make an empty log (just initialised) one that follows a stream. The room is the caller's and
 * outlives the log. */
void tl_log_follow(struct tl_log *log, struct tl_follow *follow);

/*
 * Reading goes on behind `place`. proven: nothing lies between it and what the log has. Otherwise
 * the caller begins a new epoch (tl_log_new_epoch()) next, unless the log is empty. exact: what
 * lies between was counted by `added`, and it is the same stream as before.
 */
void tl_log_follow_at(struct tl_log *log, const struct tl_stream_place *place, bool proven,
                      bool exact);

/* For the log: the entry with that id was appended. */
void tl_follow_appended(struct tl_stream_marks *stream, struct tl_entry_id id);

/* Until until_ms age drops nothing, and the other limits are twice what they are, so that the tail
 * stays while older entries are read. */
void tl_log_hold(struct tl_log *log, uint64_t now_ms, uint64_t until_ms);

/*
 * Put the n entries before the tail of a held log; the tail must be of this epoch. They are all
 * that the stream has between `before` and the tail, and behind `known` none was deleted. While it
 * is held, the limits are for what is kept beside them. The offsets of what was kept stay; readers
 * need all segments anew. 0, or -ENOMEM and nothing has changed.
 */
TL_MUST_USE int tl_log_prepend(struct tl_log *log, const struct tl_stream_entry *entries, size_t n,
                               struct tl_entry_id before, struct tl_entry_id known, uint64_t now_ms,
                               uint64_t until_ms);

/* The position behind an entry of the log, given its id and how many messages are before there. */
struct tl_position tl_follow_position(const struct tl_stream_marks *stream, uint64_t msg,
                                      struct tl_entry_id id);

/* The tag that entries of such a log carry. */
static inline struct tl_bytes tl_follow_tag(struct tl_entry_id id, uint8_t out[TL_ENTRY_ID_TAG_N])
{
    tl_entry_id_tag(id, out);
    return tl_bytes(out, TL_ENTRY_ID_TAG_N);
}

/* The id of entry idx of the chain; a control event has that of the message before it. */
struct tl_entry_id tl_follow_id(const struct tl_chain *chain, uint64_t idx);

#endif
