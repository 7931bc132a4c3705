/*
 * What the hub tells a worker: one batch of items per flush, one item per view that changed. An
 * item is a transfer of state, not an event: it carries all that changed since the last one, so
 * that a flush that had to be put off loses nothing.
 */
#ifndef TL_GATEWAY_BATCH_H
#define TL_GATEWAY_BATCH_H

#include "base/list.h"
#include "broker/broker.h"
#include "feed/view.h"
#include "loop/mailbox.h"

struct tl_channel;
struct tl_channel_view;
struct tl_worker;

enum TL_SMALL tl_attach_state {
    TL_ATTACH_WAITING, /* not confirmed yet */
    TL_ATTACH_LIVE,
    TL_ATTACH_LOST,    /* was live; the link is down */
    TL_ATTACH_REFUSED, /* the broker, or a limit, says no */
};

/* What was lost upstream since the last item. */
struct tl_gaps {
    uint32_t n;
    bool is_partly_unknown;    /* besides those that are known, others, nobody knows how many */
    uint64_t msgs;             /* messages known to be missed */
    struct tl_position behind; /* the newest: from there on nothing is missed */
    uint64_t behind_msg;       /* messages of the log before that */
};

/* The hub's half of a view: touched by the hub's thread only, from the join to the last item. */
struct tl_attachment {
    struct tl_list node; /* of its channel */
    struct tl_channel *channel;
    struct tl_gaps gaps;
    struct tl_segment *told; /* the last segment that the view was given; the view holds it */
    enum tl_attach_state state;
    enum tl_broker_status refusal; /* REFUSED: why */
    bool anew;                     /* the view is to be given all segments: told is NULL */
    bool changed;
};

struct tl_batch_item {
    struct tl_channel_view *view;
    enum tl_attach_state state;
    enum tl_broker_status refusal;
    struct tl_gaps gaps;
    bool stale;     /* no message for longer than the rule's stale_after */
    bool link_down; /* of a WAITING view: the broker cannot be reached now */
    bool has_update;
    bool failed;       /* the worker's: the view could not take it */
    bool expires;      /* the worker's: it was not stale before */
    bool more;         /* the worker's: some sessions are still to be pumped */
    uint64_t from_off; /* the worker's: the head before the update, where most cursors stand */
    struct tl_view_update update;
};

struct tl_batch {
    struct tl_mail mail;
    struct tl_worker *worker;
    size_t n;
    struct tl_batch_item items[];
};

#endif
