/*
 * The life of a channel's upstream subscription, one state machine with one owner:
 *
 *   idle -> subscribing -> live -> lingering -> unsubscribing -> idle
 *
 * Pure: events and the time come in, what is to be done comes out as a set of actions. Joins in any
 * state end live (or refused). It counts joins and leaves of views and knows nothing else of them.
 */
#ifndef TL_FEED_CHANNEL_H
#define TL_FEED_CHANNEL_H

#include "base/bytes.h"

enum TL_SMALL tl_channel_state {
    TL_CHANNEL_IDLE,
    TL_CHANNEL_SUBSCRIBING, /* wanted: asked for, or to be asked for when the link is up */
    TL_CHANNEL_LIVE,
    TL_CHANNEL_LINGERING,     /* subscribed, nobody watches */
    TL_CHANNEL_UNSUBSCRIBING, /* asked to end, nobody watches */
};

enum tl_channel_action {
    TL_CHANNEL_SUBSCRIBE = 1,   /* send SUBSCRIBE */
    TL_CHANNEL_UNSUBSCRIBE = 2, /* send UNSUBSCRIBE */
    TL_CHANNEL_ACK = 4,         /* tell who waits that it is subscribed */
    TL_CHANNEL_REFUSE = 8,      /* tell who waits that it will not be */
    TL_CHANNEL_LOST = 16,       /* tell who is subscribed that the link is down */
    TL_CHANNEL_RENEW = 32,      /* continuity cannot be proven: a new epoch */
    TL_CHANNEL_FREE = 64,       /* nothing is left to keep */
};

struct tl_channel_life {
    enum tl_channel_state state;
    bool link_up;             /* as told */
    uint32_t watchers;        /* views that joined and did not leave */
    uint64_t linger_until_ms; /* while lingering */
    uint64_t linger_ms;
};

void tl_channel_init(struct tl_channel_life *life, uint64_t linger_ms, bool link_up);

/* Each returns a set of enum tl_channel_action. */

/* A view joins. ACK at once when live or lingering. */
unsigned tl_channel_join(struct tl_channel_life *life);
/* A view that joined leaves. */
unsigned tl_channel_leave(struct tl_channel_life *life, uint64_t now_ms);
/* The broker is the source itself: messages come without a subscription, so an idle channel that
 * got one lingers to keep it. */
unsigned tl_channel_touch(struct tl_channel_life *life, uint64_t now_ms);
/* The broker confirmed, or refused, the SUBSCRIBE; or refuses what it served so far. */
unsigned tl_channel_subscribed(struct tl_channel_life *life, bool ok, uint64_t now_ms);
/* The broker confirmed the UNSUBSCRIBE. */
unsigned tl_channel_unsubscribed(struct tl_channel_life *life);
/* The link went down or came up. */
unsigned tl_channel_link(struct tl_channel_life *life, bool up);
/* The time has come to look at the linger. */
unsigned tl_channel_tick(struct tl_channel_life *life, uint64_t now_ms);

/* Do messages that arrive now belong to the log? */
bool tl_channel_is_subscribed(const struct tl_channel_life *life);

#endif
