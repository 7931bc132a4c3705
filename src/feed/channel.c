#include "feed/channel.h"

#include <assert.h>

void tl_channel_init(struct tl_channel_life *life, uint64_t linger_ms, bool link_up)
{
    *life = (struct tl_channel_life){.linger_ms = linger_ms, .link_up = link_up};
}

bool tl_channel_is_subscribed(const struct tl_channel_life *life)
{
    return life->state == TL_CHANNEL_LIVE || life->state == TL_CHANNEL_LINGERING;
}

static void linger(struct tl_channel_life *life, uint64_t now_ms)
{
    life->state = TL_CHANNEL_LINGERING;
    life->linger_until_ms = now_ms + life->linger_ms;
}

unsigned tl_channel_join(struct tl_channel_life *life)
{
    life->watchers++;
    switch (life->state) {
    case TL_CHANNEL_IDLE:
        life->state = TL_CHANNEL_SUBSCRIBING;
        return life->link_up ? TL_CHANNEL_SUBSCRIBE : 0;
    case TL_CHANNEL_UNSUBSCRIBING:
        /* Not waiting for the confirmation: the broker answers in order, so ours comes after it.
         * What was published in between is lost, so the old positions are void. */
        life->state = TL_CHANNEL_SUBSCRIBING;
        return TL_CHANNEL_SUBSCRIBE | TL_CHANNEL_RENEW;
    case TL_CHANNEL_LINGERING:
        life->state = TL_CHANNEL_LIVE;
        return TL_CHANNEL_ACK;
    case TL_CHANNEL_LIVE:
        return TL_CHANNEL_ACK;
    case TL_CHANNEL_SUBSCRIBING:
        return 0;
    }
    return 0;
}

unsigned tl_channel_leave(struct tl_channel_life *life, uint64_t now_ms)
{
    assert(life->watchers > 0);
    if (--life->watchers > 0)
        return 0;
    if (life->state == TL_CHANNEL_LIVE)
        linger(life, now_ms);
    if (life->state == TL_CHANNEL_SUBSCRIBING && !life->link_up)
        life->state = TL_CHANNEL_IDLE;
    /* Subscribing with the link up: the confirmation is on its way and decides. */
    return life->state == TL_CHANNEL_IDLE ? TL_CHANNEL_FREE : 0;
}

unsigned tl_channel_touch(struct tl_channel_life *life, uint64_t now_ms)
{
    if (life->state == TL_CHANNEL_IDLE || life->state == TL_CHANNEL_LINGERING)
        linger(life, now_ms);
    return 0;
}

unsigned tl_channel_subscribed(struct tl_channel_life *life, bool ok, uint64_t now_ms)
{
    bool is_withdrawn = !ok && tl_channel_is_subscribed(life);
    if (life->state != TL_CHANNEL_SUBSCRIBING && !is_withdrawn)
        return 0;
    if (!ok) {
        life->state = TL_CHANNEL_IDLE;
        return TL_CHANNEL_REFUSE | (life->watchers == 0 ? TL_CHANNEL_FREE : 0);
    }
    if (life->watchers == 0) {
        linger(life, now_ms);
        return 0;
    }
    life->state = TL_CHANNEL_LIVE;
    return TL_CHANNEL_ACK;
}

unsigned tl_channel_unsubscribed(struct tl_channel_life *life)
{
    if (life->state != TL_CHANNEL_UNSUBSCRIBING)
        return 0; /* somebody joined meanwhile; our SUBSCRIBE is behind it on the wire */
    life->state = TL_CHANNEL_IDLE;
    return TL_CHANNEL_FREE;
}

static unsigned link_lost(struct tl_channel_life *life)
{
    switch (life->state) {
    case TL_CHANNEL_LIVE:
        life->state = TL_CHANNEL_SUBSCRIBING;
        return TL_CHANNEL_LOST | TL_CHANNEL_RENEW;
    case TL_CHANNEL_SUBSCRIBING:
        if (life->watchers > 0)
            return 0;
        life->state = TL_CHANNEL_IDLE;
        return TL_CHANNEL_FREE;
    case TL_CHANNEL_LINGERING:
    case TL_CHANNEL_UNSUBSCRIBING:
    case TL_CHANNEL_IDLE:
        life->state = TL_CHANNEL_IDLE;
        return life->watchers == 0 ? TL_CHANNEL_FREE : 0;
    }
    return 0;
}

unsigned tl_channel_link(struct tl_channel_life *life, bool up)
{
    if (life->link_up == up)
        return 0;
    life->link_up = up;
    if (!up)
        return link_lost(life);
    return life->state == TL_CHANNEL_SUBSCRIBING ? TL_CHANNEL_SUBSCRIBE : 0;
}

unsigned tl_channel_tick(struct tl_channel_life *life, uint64_t now_ms)
{
    if (life->state != TL_CHANNEL_LINGERING || now_ms < life->linger_until_ms)
        return 0;
    life->state = TL_CHANNEL_UNSUBSCRIBING;
    return TL_CHANNEL_UNSUBSCRIBE;
}
