/*
 * What a newcomer begins with where the channel's rule has a snapshot: the newest message of the
 * log, or else the value of a key that the hub reads once for all who wait. A newcomer is who
 * subscribes without a position and says nothing of history. The worker's side; the hub's is in
 * hub_snapshot.c.
 */
#ifndef TL_GATEWAY_SNAPSHOT_H
#define TL_GATEWAY_SNAPSHOT_H

#include "feed/view.h"
#include "loop/mailbox.h"

struct tl_buf;
struct tl_channel_view;
struct tl_session;
struct tl_terms;

/* What a view knows of its channel's key. All but `asking` is the hub's while that is set. */
struct tl_view_snapshot {
    struct tl_mail mail;
    struct tl_list node; /* of those who wait for the hub's answer */
    struct tl_channel_view *view;
    bool asking;
    uint64_t epoch;         /* of the log that the answer belongs to */
    uint64_t again_ms;      /* there was no answer: not asked again before; 0: there was */
    struct tl_segment *seg; /* the value in the view's lane, as its one entry; NULL: none */
};

struct tl_snapshot {
    enum tl_snapshot_kind {
        TL_SNAPSHOT_NONE,
        TL_SNAPSHOT_LOG, /* the subscription begins before it */
        TL_SNAPSHOT_KEY, /* seg holds it: a reference for the caller */
    } kind;
    uint64_t age_ms; /* LOG */
    struct tl_segment *seg;
};

/* Is who subscribes on these terms to begin with a snapshot? */
bool tl_snapshot_is_wanted(const struct tl_channel_view *view, const struct tl_terms *terms);

/* May who wants one be acknowledged now? If not, the hub was asked, and tl_snapshot_on_answer()
 * comes. */
bool tl_snapshot_settles(struct tl_channel_view *view);

/* It settled, but what the key held is of the past by now: it has to be asked again. */
bool tl_snapshot_is_void(const struct tl_channel_view *view);

/* Where who wants one begins, and with what. Counts it. */
struct tl_snapshot tl_snapshot_start(const struct tl_channel_view *view, struct tl_mark *ret_from);

/* The event that goes before it on an event stream. */
void tl_snapshot_append_event(const struct tl_snapshot *snapshot, struct tl_buf *out);

/* Send the value of a key, and give up the reference. True if there is none. False: no memory, and
 * the session was closed. */
bool tl_snapshot_send(struct tl_session *s, struct tl_snapshot *snapshot);

/* deliver function of the hub's answer. */
void tl_snapshot_on_answer(struct tl_mail *mail);
/* The view changed: what its key held may be of the past. */
void tl_snapshot_on_update(struct tl_channel_view *view);
/* The view ends. Takes one that never asked. */
void tl_snapshot_free(struct tl_channel_view *view);

#endif
