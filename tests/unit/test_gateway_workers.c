/*
 * The whole gateway with several workers, whose loops are turned in this thread, one after the
 * other: who is woken by what, and what crosses between them.
 */
#include "gateway_fixture.h"

#include "feed/chain.h"
#include "gateway/many.h"
#include "gateway/session.h"

#include <poll.h>

#define MESSAGES 50

static void say(struct gw *gw, const char *name, const char *payload)
{
    struct tl_bytes channel = tl_bytes(name, strlen(name));
    assert_true(gw->broker->events->on_message(gw->broker->hub, TL_SOURCE_CHANNEL, channel, channel,
                                               tl_bytes(payload, strlen(payload))));
}

static void open_three(struct gw *gw)
{
    gw->workers_n = 3;
    gw_open(gw);
}

static struct client *watch(struct gw *gw, unsigned worker, enum client_kind kind, const char *path)
{
    gw->port = gw->ports[worker];
    return client_watch(gw, kind, path);
}

static bool is_woken(const struct gw *gw, unsigned worker)
{
    struct pollfd p = {.fd = tl_loop_mailbox(gw_worker(gw, worker)->loop)->wake_fd,
                       .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* The mail of the joins has been delivered. */
static void come_to_rest(struct gw *gw)
{
    do
        gw_turn(gw, 0);
    while (is_woken(gw, 0) || is_woken(gw, 1) || is_woken(gw, 2));
}

/* Nobody but worker `home` has subscribers of "news"; all have some of another channel. */
static void check_wakes(unsigned home)
{
    struct gw gw = {0};
    open_three(&gw);
    for (unsigned i = 0; i < gw.workers_n; i++)
        watch(&gw, i, CLIENT_WS, "/ws/other");
    struct client *ws = watch(&gw, home, CLIENT_WS, "/ws/news");
    struct client *sse = watch(&gw, home, CLIENT_SSE, "/sse/news");
    come_to_rest(&gw);
    int64_t wakes = tl_metric_get(TL_M_WAKES), batches = tl_metric_get(TL_M_BATCHES);
    for (unsigned n = 1; n <= MESSAGES; n++) {
        say(&gw, "news", "m");
        tl_loop_turn(gw.loop, 0);
        for (unsigned i = 1; i < gw.workers_n; i++)
            assert_int_equal(is_woken(&gw, i), i == home);
        assert_int_equal(tl_metric_get(TL_M_WAKES) - wakes, home == 0 ? 0 : n);
        GW_UNTIL(&gw, ws->messages_n == n && sse->messages_n == n);
    }
    assert_int_equal(tl_metric_get(TL_M_WAKES) - wakes, home == 0 ? 0 : MESSAGES);
    assert_int_equal(tl_metric_get(TL_M_BATCHES) - batches, MESSAGES);
    gw_close(&gw);
}

static void a_channel_with_subscribers_on_one_worker_never_wakes_the_others(void **state)
{
    (void)state;
    for (unsigned home = 0; home < 3; home++)
        check_wakes(home);
}

/* --- what crosses --- */

static void say_many(struct gw *gw)
{
    for (int i = 0; i < MESSAGES; i++) {
        say(gw, "news", "n");
        say(gw, "other", "o");
    }
}

static void each_worker_is_told_once_a_batch_and_woken_once_until_it_reads(void **state)
{
    struct gw gw = {0};
    struct client *clients[9];
    size_t n = 0;
    (void)state;
    open_three(&gw);
    for (unsigned i = 0; i < gw.workers_n; i++) {
        clients[n++] = watch(&gw, i, CLIENT_WS, "/ws/news");
        clients[n++] = watch(&gw, i, CLIENT_SSE, "/sse/news");
        clients[n++] = watch(&gw, i, CLIENT_WS, "/ws/other");
    }
    come_to_rest(&gw);
    int64_t wakes = tl_metric_get(TL_M_WAKES), batches = tl_metric_get(TL_M_BATCHES);
    for (int round = 1; round <= 4; round++) { /* the other two are busy meanwhile */
        say_many(&gw);
        tl_loop_turn(gw.loop, 0);
        assert_int_equal(tl_metric_get(TL_M_BATCHES) - batches, 3 * round);
        assert_int_equal(tl_metric_get(TL_M_WAKES) - wakes, 2);
    }
    for (size_t i = 0; i < n; i++)
        GW_UNTIL(&gw, clients[i]->messages_n == 4 * MESSAGES);
    assert_int_equal(tl_metric_get(TL_M_WAKES) - wakes, 2);
    say_many(&gw);
    tl_loop_turn(gw.loop, 0);
    assert_int_equal(tl_metric_get(TL_M_WAKES) - wakes, 4); /* they had read all */
    gw_close(&gw);
}

/* The worker's view of the one channel in that lane. */
static const struct tl_view *view_on(const struct gw *gw, unsigned worker, enum tl_lane_kind lane)
{
    const struct tl_list *sessions = &gw_worker(gw, worker)->sessions;
    for (const struct tl_list *l = sessions->next; l != sessions; l = l->next) {
        const struct tl_session *s = TL_CONTAINER(l, struct tl_session, node);
        const struct tl_channel_view *view = s->many ? s->many->members[0].sub.view : s->sub.view;
        if (view && view->lane == lane)
            return &view->view;
    }
    fail_msg("no session of worker %u is subscribed in lane %d", worker, (int)lane);
    return NULL;
}

static void all_workers_send_the_same_memory(void **state)
{
    static char payload[20001];
    struct gw gw = {0};
    (void)state;
    memset(payload, 'x', sizeof payload - 1);
    open_three(&gw);
    for (unsigned i = 0; i < gw.workers_n; i++) {
        watch(&gw, i, CLIENT_WS, "/ws/news");
        watch(&gw, i, CLIENT_SSE, "/sse/news");
    }
    watch(&gw, 0, CLIENT_SSE, "/sse?ch=news");
    watch(&gw, 1, CLIENT_SSE, "/sse?ch=news");
    struct client *last = watch(&gw, 2, CLIENT_SSE, "/sse?ch=news");
    for (unsigned n = 1; n <= 20; n++) {
        say(&gw, "news", payload);
        GW_UNTIL(&gw, last->messages_n == n);
    }
    for (int lane = 0; lane < TL_LANE_N; lane++) {
        const struct tl_view *first = view_on(&gw, 0, (enum tl_lane_kind)lane);
        assert_true(first->chain.n > 1);
        for (unsigned i = 1; i < gw.workers_n; i++) {
            const struct tl_view *view = view_on(&gw, i, (enum tl_lane_kind)lane);
            assert_int_equal(view->chain.n, first->chain.n);
            for (uint32_t k = 0; k < first->chain.n; k++)
                assert_ptr_equal(tl_chain_at(&view->chain, k), tl_chain_at(&first->chain, k));
        }
    }
    gw_close(&gw);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_channel_with_subscribers_on_one_worker_never_wakes_the_others),
        cmocka_unit_test(each_worker_is_told_once_a_batch_and_woken_once_until_it_reads),
        cmocka_unit_test(all_workers_send_the_same_memory),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
