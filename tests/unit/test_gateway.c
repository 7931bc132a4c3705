/*
 * The whole gateway in this process, turn by turn: is everybody served, and does want of memory at
 * any moment hurt nobody but those whom it hits, who are told?
 */
#include "gateway_scenario.h"

#include <stdio.h>

#define BIG_N 70000

static void everybody_gets_everything(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct scenario sc = {.big_n = BIG_N};
    gw_open(&gw);
    scenario_run(&sc, &gw);
    GW_UNTIL(&gw, tl_metric_get(TL_M_CONNECTIONS) == 0);
    /* Nobody is there, nothing is kept: the channels go. */
    GW_UNTIL(&gw, tl_metric_get(TL_M_CHANNELS) == 0);
    gw_close(&gw);
}

/* --- memory --- */

static int64_t fail_skip, fail_count;
static uint64_t asked;

static void fail_memory(bool on)
{
    uint64_t n = tl_alloc_fail(on ? fail_skip : 0, on ? fail_count : 0);
    if (!on)
        asked = n;
}

static void run_short_of_memory(int64_t skip, int64_t count)
{
    struct gw gw = {0};
    struct scenario sc = {.big_n = BIG_N, .fault = fail_memory};
    int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
    fail_skip = skip;
    fail_count = count;
    gw_open(&gw);
    scenario_run(&sc, &gw);
    gw_close(&gw);
    /* Either it was no harm, or it was counted. */
    if (!sc.complete && tl_metric_get(TL_M_REFUSED_MEMORY) == refusals)
        fail_msg("allocation %lld: harm that was not counted", (long long)skip);
}

/* How many allocations the story takes. */
static uint64_t count_allocations(void)
{
    run_short_of_memory(INT64_MAX, 0);
    assert_true(asked > 100);
    return asked;
}

static void any_failing_allocation_hurts_only_whom_it_hits(void **state)
{
    (void)state;
    uint64_t n = count_allocations();
    for (uint64_t i = 0; i < n; i += stride_of(1))
        run_short_of_memory((int64_t)i, 1);
}

static void memory_that_stays_away_is_survived(void **state)
{
    (void)state;
    uint64_t n = count_allocations();
    for (uint64_t i = 0; i < n; i += stride_of(1 + n / 16))
        run_short_of_memory((int64_t)i, -1);
}

static void a_gateway_that_cannot_be_made_leaves_nothing(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_config(&gw.config);
    int r = -ENOMEM;
    for (int64_t i = 0; r < 0; i++) {
        assert_int_equal(r, -ENOMEM);
        tl_alloc_fail(i, 1);
        r = gw_try_open(&gw);
        tl_alloc_fail(0, 0);
    }
    gw_close(&gw);
}

/* --- the end --- */

/* Clients in every state, messages on their way to all of them. */
static void crowd(struct gw *gw, struct feed *feed)
{
    static const char *const paths[] = {"/ws/news", "/chat/news", "/sse/news", "/sse/all"};
    for (size_t i = 0; i < 8; i++) {
        struct client *c = client_open(gw, i % 4 < 2 ? CLIENT_WS : CLIENT_SSE);
        c->feed = feed;
        if (i % 4 < 2)
            client_ask_ws(c, paths[i % 4]);
        else
            client_ask_sse(c, paths[i % 4], NULL);
        GW_UNTIL(gw, client_is_settled(c));
        c->deaf = i >= 6;
    }
    struct client *publisher = client_open(gw, CLIENT_HTTP);
    for (; feed->n < 20; feed->n++) {
        struct message *m = &feed->messages[feed->n];
        bag_text(&m->payload, "%zu:", feed->n);
        while (m->payload.n < 50000)
            bag_add(&m->payload, TL_LIT("y"));
        client_ask_publish(publisher, "/pub/news", tl_bytes(m->payload.p, m->payload.n));
    }
    client_send(client_open(gw, CLIENT_HTTP), TL_LIT("GET /ws/ne"));
    client_send(
        client_open(gw, CLIENT_HTTP),
        TL_LIT("POST /pub/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1234"));
    (void)client_open(gw, CLIENT_HTTP);
    gw_turn(gw, 0);
}

static void run_to_the_end(struct gw *gw)
{
    tl_gateway_stop(gw->gateway);
    assert_int_equal(tl_gateway_run(gw->gateway), 0);
    assert_int_equal(tl_metric_get(TL_M_CONNECTIONS), 0);
    assert_int_equal(tl_metric_get(TL_M_SUBSCRIPTIONS), 0);
}

static void stopped_in_the_midst_of_traffic_all_is_told_and_freed(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct feed feed = {0};
    gw_open(&gw);
    crowd(&gw, &feed);
    run_to_the_end(&gw);
    unsigned told = 0;
    for (struct client *c = gw.clients; c; c = c->next) {
        c->deaf = false;
        while (!c->ended)
            gw_poll(&gw);
        told += c->kind == CLIENT_WS && c->close_code == TL_WS_CLOSE_GOING_AWAY;
        assert_true(c->in.n == 0 || c->error != 0); /* nothing is cut in its middle */
    }
    assert_int_equal(told, 4);
    gw_free(&gw);
    clients_free(&gw);
    feed_free(&feed);
    assert_int_equal(tl_metric_get(TL_M_CHANNELS), 0);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
}

static void stopped_without_memory_all_is_freed(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct feed feed = {0};
    gw_open(&gw);
    crowd(&gw, &feed);
    tl_alloc_fail(0, -1);
    run_to_the_end(&gw);
    tl_alloc_fail(0, 0);
    gw_free(&gw);
    clients_free(&gw);
    feed_free(&feed);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_gets_everything),
        cmocka_unit_test(any_failing_allocation_hurts_only_whom_it_hits),
        cmocka_unit_test(memory_that_stays_away_is_survived),
        cmocka_unit_test(a_gateway_that_cannot_be_made_leaves_nothing),
        cmocka_unit_test(stopped_in_the_midst_of_traffic_all_is_told_and_freed),
        cmocka_unit_test(stopped_without_memory_all_is_freed),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
