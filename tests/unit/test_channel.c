#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "feed/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCHERS_MAX 3
#define QUEUE_MAX    4
#define WORLDS_MAX   20000

/* Time stands still, so that worlds repeat: lingers always begin at NOW. */
#define NOW    1000u
#define LINGER 500u
#define DUE    (NOW + LINGER)

/* --- a channel, the broker it talks to, and what its clients were told --- */

enum request { NONE, SUB, UNSUB };

struct world {
    struct tl_channel_life life;
    enum request queue[QUEUE_MAX]; /* sent, not answered: the broker answers in order */
    unsigned queue_n;
    enum request last_sent; /* on this link and not refused */
    unsigned waiting;       /* watchers that were told nothing yet */
    bool upstream;          /* the broker has us, by its confirmations */
    bool refused;           /* the last SUBSCRIBE was, and nobody joined since */
    bool told;              /* somebody was acknowledged in this epoch */
    bool broken;            /* since then a message may have been missed */
    bool freed;
};

enum event {
    JOIN,
    LEAVE_WAITING,
    LEAVE_TOLD,
    CONFIRM,
    REFUSE,
    LINK_DOWN,
    LINK_UP,
    TICK_EARLY,
    TICK_DUE,
    EVENTS_N
};

static bool is_possible(const struct world *w, enum event event)
{
    switch (event) {
    case JOIN:
        return w->life.watchers < WATCHERS_MAX;
    case LEAVE_WAITING:
        return w->waiting > 0;
    case LEAVE_TOLD:
        return w->life.watchers > w->waiting;
    case CONFIRM:
        return w->queue_n > 0;
    case REFUSE:
        return w->queue_n > 0 && w->queue[0] == SUB;
    case LINK_DOWN:
    case LINK_UP:
    case TICK_EARLY:
    case TICK_DUE:
    case EVENTS_N:
        break;
    }
    return true;
}

static enum request answer(struct world *w)
{
    enum request request = w->queue[0];
    memmove(w->queue, w->queue + 1, (QUEUE_MAX - 1) * sizeof(w->queue[0]));
    w->queue[--w->queue_n] = NONE;
    return request;
}

static unsigned confirm(struct world *w)
{
    enum request request = answer(w);
    w->upstream = request == SUB;
    return request == SUB ? tl_channel_subscribed(&w->life, true, NOW)
                          : tl_channel_unsubscribed(&w->life);
}

static unsigned refuse(struct world *w)
{
    answer(w);
    if (w->queue_n == 0)
        w->last_sent = NONE;
    return tl_channel_subscribed(&w->life, false, NOW);
}

static unsigned link_down(struct world *w)
{
    memset(w->queue, 0, sizeof(w->queue));
    w->queue_n = 0;
    w->last_sent = NONE;
    w->upstream = false;
    return tl_channel_link(&w->life, false);
}

static unsigned happen(struct world *w, enum event event)
{
    switch (event) {
    case JOIN:
        w->waiting++;
        w->refused = false;
        return tl_channel_join(&w->life);
    case LEAVE_WAITING:
        w->waiting--;
        return tl_channel_leave(&w->life, NOW);
    case LEAVE_TOLD:
        return tl_channel_leave(&w->life, NOW);
    case CONFIRM:
        return confirm(w);
    case REFUSE:
        return refuse(w);
    case LINK_DOWN:
        return link_down(w);
    case LINK_UP:
        return tl_channel_link(&w->life, true);
    case TICK_EARLY:
        return tl_channel_tick(&w->life, DUE - 1);
    case TICK_DUE:
        return tl_channel_tick(&w->life, DUE);
    case EVENTS_N:
        break;
    }
    return 0;
}

static void send_request(struct world *w, enum request request)
{
    assert_true(w->life.link_up);
    assert_int_equal(w->last_sent, request == SUB ? NONE : SUB);
    assert_true(w->queue_n < QUEUE_MAX);
    w->queue[w->queue_n++] = request;
    w->last_sent = request == SUB ? SUB : NONE;
}

static bool unsubscribe_is_under_way(const struct world *w)
{
    for (unsigned i = 0; i < w->queue_n; i++)
        if (w->queue[i] == UNSUB)
            return true;
    return false;
}

/* Carry out the actions in the hub's order. */
static void act(struct world *w, unsigned actions)
{
    if (actions & TL_CHANNEL_LOST)
        assert_true(w->life.watchers > 0 && !w->life.link_up);
    if (actions & TL_CHANNEL_RENEW)
        w->told = w->broken = false;
    if (actions & TL_CHANNEL_SUBSCRIBE)
        send_request(w, SUB);
    if (actions & TL_CHANNEL_UNSUBSCRIBE)
        send_request(w, UNSUB);
    if (actions & TL_CHANNEL_ACK) {
        assert_true(w->upstream && w->life.link_up && !unsubscribe_is_under_way(w));
        assert_true(tl_channel_is_subscribed(&w->life) && w->life.watchers > 0);
        assert_false(w->broken); /* positions told before would hide a gap */
        w->told = true;
        w->waiting = 0;
    }
    if (actions & TL_CHANNEL_REFUSE) {
        w->refused = true;
        w->waiting = 0;
    }
    if (actions & TL_CHANNEL_FREE) {
        assert_int_equal(w->life.watchers, 0);
        assert_int_equal(w->queue_n, 0); /* no answer comes for a channel that is gone */
        assert_int_equal(w->life.state, TL_CHANNEL_IDLE);
        w->freed = true;
    }
    w->broken = w->broken || (w->told && !tl_channel_is_subscribed(&w->life));
}

static void check(const struct world *w)
{
    enum tl_channel_state state = w->life.state;
    if (w->freed)
        return;
    if (w->life.watchers > 0 && w->queue_n == 0 && w->life.link_up && !w->refused)
        assert_int_equal(state, TL_CHANNEL_LIVE);
    if (w->life.watchers > 0)
        assert_true(state != TL_CHANNEL_LINGERING && state != TL_CHANNEL_UNSUBSCRIBING);
    if (w->life.watchers == 0) /* something is coming that will free it */
        assert_true(w->queue_n > 0 || state == TL_CHANNEL_LINGERING);
    if (w->waiting > 0)
        assert_int_equal(state, TL_CHANNEL_SUBSCRIBING);
    if (tl_channel_is_subscribed(&w->life))
        assert_true(w->upstream && w->life.link_up && !unsubscribe_is_under_way(w));
}

/* --- all worlds that can be reached --- */

static struct world worlds[WORLDS_MAX];
static size_t worlds_n;

static bool same(const struct world *a, const struct world *b)
{
    return a->life.state == b->life.state && a->life.watchers == b->life.watchers &&
           a->life.link_up == b->life.link_up && a->queue_n == b->queue_n &&
           memcmp(a->queue, b->queue, sizeof(a->queue)) == 0 && a->last_sent == b->last_sent &&
           a->waiting == b->waiting && a->upstream == b->upstream && a->refused == b->refused &&
           a->told == b->told && a->broken == b->broken;
}

static void keep(const struct world *w)
{
    for (size_t i = 0; i < worlds_n; i++)
        if (same(&worlds[i], w))
            return;
    assert_true(worlds_n < WORLDS_MAX);
    worlds[worlds_n++] = *w;
}

/* Nobody comes back: everything is confirmed, time passes; then it is freed, once. */
static void check_release(struct world w)
{
    if (w.life.watchers > 0)
        return;
    for (int i = 0; i < 2 * QUEUE_MAX; i++) {
        while (!w.freed && w.queue_n > 0)
            act(&w, happen(&w, CONFIRM));
        if (!w.freed)
            act(&w, happen(&w, TICK_DUE));
    }
    assert_true(w.freed);
}

/* The link stays up and the broker agrees: all who watch are told so. */
static void check_progress(struct world w)
{
    if (w.life.watchers == 0 || w.refused)
        return;
    act(&w, happen(&w, LINK_UP));
    while (w.queue_n > 0)
        act(&w, happen(&w, CONFIRM));
    assert_int_equal(w.life.state, TL_CHANNEL_LIVE);
    assert_int_equal(w.waiting, 0);
}

static void start(bool link_up)
{
    struct world w = {0};
    tl_channel_init(&w.life, LINGER, link_up);
    act(&w, happen(&w, JOIN)); /* the hub makes a channel for a join only */
    check(&w);
    keep(&w);
}

static void all_orders_of_events_keep_the_promises(void **state)
{
    (void)state;
    unsigned seen = 0;
    worlds_n = 0;
    start(true);
    start(false);
    for (size_t i = 0; i < worlds_n; i++) {
        seen |= 1u << worlds[i].life.state;
        check_release(worlds[i]);
        check_progress(worlds[i]);
        for (enum event event = 0; event < EVENTS_N; event++) {
            struct world next = worlds[i];
            if (!is_possible(&next, event))
                continue;
            act(&next, happen(&next, event));
            check(&next);
            if (!next.freed)
                keep(&next);
        }
    }
    assert_int_equal(seen, 1 << TL_CHANNEL_IDLE | 1 << TL_CHANNEL_SUBSCRIBING |
                               1 << TL_CHANNEL_LIVE | 1 << TL_CHANNEL_LINGERING |
                               1 << TL_CHANNEL_UNSUBSCRIBING);
    assert_true(worlds_n > 30); /* it did walk */
}

/* --- single stories --- */

static void thousand_first_joins_send_one_subscribe(void **state)
{
    (void)state;
    struct tl_channel_life life;
    tl_channel_init(&life, LINGER, true);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_SUBSCRIBE);
    for (int i = 1; i < 1000; i++)
        assert_int_equal(tl_channel_join(&life), 0);
    assert_int_equal(tl_channel_subscribed(&life, true, NOW), TL_CHANNEL_ACK);
    assert_int_equal(life.watchers, 1000);
}

static void join_before_the_unsubscribe_is_confirmed_ends_live_in_a_new_epoch(void **state)
{
    (void)state;
    struct tl_channel_life life;
    tl_channel_init(&life, LINGER, true);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_SUBSCRIBE);
    assert_int_equal(tl_channel_subscribed(&life, true, NOW), TL_CHANNEL_ACK);
    assert_int_equal(tl_channel_leave(&life, NOW), 0);
    assert_int_equal(tl_channel_tick(&life, DUE - 1), 0);
    assert_int_equal(tl_channel_tick(&life, DUE), TL_CHANNEL_UNSUBSCRIBE);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_SUBSCRIBE | TL_CHANNEL_RENEW);
    assert_int_equal(tl_channel_unsubscribed(&life), 0);
    assert_int_equal(tl_channel_subscribed(&life, true, NOW), TL_CHANNEL_ACK);
    assert_int_equal(life.state, TL_CHANNEL_LIVE);
}

static void join_during_the_linger_sends_nothing(void **state)
{
    (void)state;
    struct tl_channel_life life;
    tl_channel_init(&life, LINGER, true);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_SUBSCRIBE);
    assert_int_equal(tl_channel_subscribed(&life, true, NOW), TL_CHANNEL_ACK);
    assert_int_equal(tl_channel_leave(&life, NOW), 0);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_ACK);
    assert_int_equal(tl_channel_tick(&life, DUE), 0);
    assert_int_equal(tl_channel_leave(&life, DUE), 0); /* a linger of its own begins */
    assert_int_equal(tl_channel_tick(&life, DUE + LINGER - 1), 0);
    assert_int_equal(tl_channel_tick(&life, DUE + LINGER), TL_CHANNEL_UNSUBSCRIBE);
    assert_int_equal(tl_channel_unsubscribed(&life), TL_CHANNEL_FREE);
}

static void linger_of_zero_ends_with_the_next_tick(void **state)
{
    (void)state;
    struct tl_channel_life life;
    tl_channel_init(&life, 0, true);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_SUBSCRIBE);
    assert_int_equal(tl_channel_subscribed(&life, true, NOW), TL_CHANNEL_ACK);
    assert_int_equal(tl_channel_leave(&life, NOW), 0);
    assert_int_equal(tl_channel_tick(&life, NOW), TL_CHANNEL_UNSUBSCRIBE);
}

static void published_channel_lingers_unwatched_and_each_message_prolongs_it(void **state)
{
    (void)state;
    struct tl_channel_life life;
    tl_channel_init(&life, LINGER, true);
    assert_int_equal(tl_channel_touch(&life, NOW), 0);
    assert_true(tl_channel_is_subscribed(&life));
    assert_int_equal(tl_channel_touch(&life, NOW + 100), 0);
    assert_int_equal(tl_channel_tick(&life, DUE), 0);
    assert_int_equal(tl_channel_join(&life), TL_CHANNEL_ACK);
    assert_int_equal(tl_channel_touch(&life, DUE), 0);
    assert_int_equal(life.state, TL_CHANNEL_LIVE);
    assert_int_equal(tl_channel_leave(&life, DUE), 0);
    assert_int_equal(tl_channel_tick(&life, DUE + LINGER), TL_CHANNEL_UNSUBSCRIBE);
    assert_int_equal(tl_channel_touch(&life, DUE + LINGER), 0); /* too late: it is on its way out */
    assert_int_equal(tl_channel_unsubscribed(&life), TL_CHANNEL_FREE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_orders_of_events_keep_the_promises),
        cmocka_unit_test(thousand_first_joins_send_one_subscribe),
        cmocka_unit_test(join_before_the_unsubscribe_is_confirmed_ends_live_in_a_new_epoch),
        cmocka_unit_test(join_during_the_linger_sends_nothing),
        cmocka_unit_test(linger_of_zero_ends_with_the_next_tick),
        cmocka_unit_test(published_channel_lingers_unwatched_and_each_message_prolongs_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
