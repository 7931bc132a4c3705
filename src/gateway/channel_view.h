/*
 * A worker's view of one channel in one lane, with the subscriptions that read it. It is made for
 * the first subscription here, joined at the hub, and left after the last. All but the attachment
 * belongs to the worker's thread.
 */
#ifndef TL_GATEWAY_CHANNEL_VIEW_H
#define TL_GATEWAY_CHANNEL_VIEW_H

#include "base/map.h"
#include "feed/lane.h"
#include "gateway/batch.h"
#include "gateway/snapshot.h"
#include "loop/mailbox.h"

struct tl_worker;

/* A range that is being sent: it pins its segments and ends at a border. All sessions that were
 * sent it from the same place share it; each one's cursor says how far it is. Of one worker. */
struct tl_outvec {
    uint32_t refs;
    bool is_newest;    /* nothing was behind it when it was pinned */
    uint64_t base_off; /* lane offset where the slices begin */
    struct tl_mark to;
    unsigned slices_n, segs_n;
    struct tl_bytes slices[16];
    struct tl_segment *segs[16];
};

/* A (session, channel) pair: it owns a cursor. Embedded in a session. */
struct tl_subscription {
    struct tl_list node;          /* of the view */
    struct tl_channel_view *view; /* NULL: none */
    uint64_t off;                 /* the cursor: the next byte of the lane to send */
    uint64_t msg;                 /* messages before it; true at borders only */
    struct tl_outvec *out; /* the range in which the cursor is; NULL: it stands at a border */
    bool live;             /* acknowledged */
    uint64_t next_ms;      /* a rule with an interval: nothing is sent before */
};

/* What a view has beside whose channel follows a stream: older messages for clients that come back
 * (see tl_channel_view_settles()). The mail, its node and the id belong to the hub while `asked`.
 */
struct tl_view_seek {
    struct tl_channel_view *view;
    struct tl_mail mail;
    struct tl_list node;
    struct tl_entry_id id, next_id;
    bool asked, asks_next;
    uint32_t answers_n;
    struct tl_stream_marks marks; /* the view's */
};

struct tl_channel_view {
    struct tl_map_node node; /* of the worker's views, by key; unlinked when leaving */
    struct tl_worker *worker;
    struct tl_attachment attachment; /* the hub's */
    struct tl_mail join_mail, leave_mail;
    struct tl_view_seek *seek;         /* NULL: its channel follows no stream */
    struct tl_view_snapshot *snapshot; /* NULL: never asked for */
    _Atomic uint32_t subscribers_n;    /* written by the worker, read by the hub */
    uint16_t expired_n;                /* how often it was stale: see tl_session.expired_n */
    enum tl_lane_kind lane;
    enum tl_attach_state state;
    /* Entries that the log holds, told or not: written by the hub before a publish is answered,
     * read by the worker (release, acquire). Who subscribes between the two waits for the batch
     * that is on its way, or would get what was published before it came as if it were live. */
    _Atomic uint64_t appended_idx;
    struct tl_view view;
    const struct tl_channel_rule *rule;
    struct tl_list subscriptions;
    enum tl_broker_status refusal;
    bool leaving;
    bool stale; /* no message for the rule's stale_after */
    uint16_t key_n;
    uint8_t key[]; /* the lane's number, then the channel's name */
};

static inline struct tl_bytes tl_channel_view_name(const struct tl_channel_view *view)
{
    return tl_bytes(view->key + 1, view->key_n - 1u);
}

/* Was the view told all that the hub had appended when it last said so? Only then may somebody be
 * acknowledged. */
static inline bool tl_channel_view_is_current(const struct tl_channel_view *view)
{
    return view->view.head.idx >= atomic_load_explicit(&view->appended_idx, memory_order_acquire);
}

/* Key function for the worker's map. */
struct tl_bytes tl_channel_view_key(const struct tl_map_node *node);

/*
 * May somebody with that position be acknowledged now? If not, the stream is asked for what is
 * wanting, and the answer counted in answers_n comes with tl_worker_on_sought(). *due, 0 at first,
 * is the client's: after so many answers there is nothing to wait for any more.
 */
bool tl_channel_view_settles(struct tl_channel_view *view, const struct tl_position *position,
                             uint32_t *due);
/* A seek was answered: ask for what came up meanwhile. */
void tl_channel_view_sought(struct tl_channel_view *view);

/* Put the subscription on the worker's view of the channel, which is made if needed. The sub is not
 * live yet: the caller looks at sub->view->state. 0 or -ENOMEM. */
TL_MUST_USE int tl_subscription_open(struct tl_worker *worker, struct tl_subscription *sub,
                                     enum tl_lane_kind lane, struct tl_bytes name);

/* The cursor, which stands at a border, to a later one. */
void tl_subscription_skip_to(struct tl_subscription *sub, struct tl_mark to);
/*
 * To the newest message, where a rule says that it counts. What lies between is left out by the
 * rule, and so is nobody's gap; but events that the log has are not left out. True: it moved.
 */
bool tl_subscription_conflate(struct tl_subscription *sub);

/* Take it off; the view leaves after the last one. Idempotent. The out-vector is kept: the caller
 * frees it when its send is over. */
void tl_subscription_close(struct tl_subscription *sub);

/* Pin that range of the view, which begins at `from`. The caller has the one reference; NULL
 * without memory. */
struct tl_outvec *tl_outvec_new(const struct tl_view *view, const struct tl_range *range,
                                uint64_t from);
void tl_outvec_free(struct tl_outvec *out);
/* One reference less; NULL is none. */
static inline void tl_outvec_unref(struct tl_outvec *out)
{
    if (out && --out->refs == 0)
        tl_outvec_free(out);
}
/* The slices of the out-vector from the cursor on; returns how many. */
unsigned tl_subscription_rest(const struct tl_subscription *sub, struct tl_bytes slices[16]);

#endif
