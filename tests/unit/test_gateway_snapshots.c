/*
 * The whole gateway and rules with a snapshot: what newcomers begin with, in whatever order the
 * key's value, live messages, losses of continuity and clients come and go. The broker's keys are
 * the test's own, so that it decides when they are answered.
 */
#include "gateway_fixture.h"

#include "gateway/hub.h"

#define CROWD_N 12

/* --- a broker with keys --- */

static struct tl_broker_ops ops;
static struct tl_fetch *asked; /* the one that waits */
static unsigned asked_n;

static void fetch(struct tl_broker *b, struct tl_fetch *f)
{
    (void)b;
    assert_null(asked);
    asked = f;
    asked_n++;
}

/* value NULL: there is none. */
static void tell(enum tl_broker_status status, const char *value)
{
    struct tl_fetch *f = asked;
    assert_non_null(f);
    asked = NULL;
    if (value)
        f->on_value(f, tl_bytes_str(value));
    f->status = status;
    f->on_fetched(f);
}

static struct tl_channel_rule rules[2];
static struct tl_key_template names;

static int try_open(struct gw *gw)
{
    const char *error = "";
    assert_int_equal(
        tl_key_template_compile(&names, TL_LIT("tram_{id}"), TL_LIT("tram_{id}:last"), &error), 0);
    rules[0] = (struct tl_channel_rule){.glob = tl_key_template_glob(&names),
                                        .log = {1000, 1u << 20, 600000},
                                        .snapshot = true,
                                        .names = &names};
    rules[1] = (struct tl_channel_rule){.glob = TL_LIT("silent*"),
                                        .log = {1000, 1u << 20, 600000},
                                        .snapshot = true,
                                        .stale_after_ms = 50};
    gw_config(&gw->config);
    gw->config.rules = rules;
    gw->config.rules_n = 2;
    asked = NULL;
    asked_n = 0;
    int r = gw_try_open(gw);
    if (r < 0)
        return r;
    ops = *gw->broker->ops;
    ops.fetch = fetch;
    gw->broker->ops = &ops;
    return 0;
}

static void open_gateway(struct gw *gw)
{
    assert_int_equal(try_open(gw), 0);
}

static struct client *come_either(struct gw *gw, size_t i)
{
    return i % 2 ? client_come(gw, CLIENT_SSE, "/sse/tram_5")
                 : client_come(gw, CLIENT_WS, "/ws/tram_5");
}

static void publish(struct gw *gw, const char *channel, const char *payload)
{
    struct tl_bytes name = tl_bytes_str(channel);
    assert_true(gw->broker->events->on_message(gw->broker->hub, TL_SOURCE_CHANNEL, name, name,
                                               tl_bytes_str(payload)));
}

static void feed_add(struct feed *feed, const char *payload)
{
    feed->messages[feed->n] = (struct message){.sure = true};
    bag_text(&feed->messages[feed->n++].payload, "%s", payload);
}

/* They are to get exactly these, in this order. */
static void expect(struct client *crowd[CROWD_N], const struct feed *feed)
{
    for (size_t i = 0; i < CROWD_N; i++) {
        crowd[i]->feed = feed;
        crowd[i]->resumes = true; /* nothing may be missing from the beginning on */
    }
}

static void turns(struct gw *gw)
{
    for (int i = 0; i < 5; i++)
        gw_turn(gw, 0);
}

/* --- keys --- */

static void a_crowd_waits_for_one_value(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct client *crowd[CROWD_N];
    struct feed feed = {0};
    open_gateway(&gw);
    feed_add(&feed, "before");
    feed_add(&feed, "live");
    for (size_t i = 0; i < CROWD_N; i++)
        crowd[i] = come_either(&gw, i);
    expect(crowd, &feed);
    GW_UNTIL(&gw, asked && tl_metric_get(TL_M_SUBSCRIPTIONS) == CROWD_N);
    assert_true(tl_bytes_eq(asked->key, TL_LIT("tram_5:last")));
    turns(&gw);
    for (size_t i = 0; i < CROWD_N; i++)
        assert_false(crowd[i]->subscribed);
    tell(TL_BROKER_OK, "before");
    for (size_t i = 0; i < CROWD_N; i++)
        GW_UNTIL(&gw, crowd[i]->at == 1 && crowd[i]->snapshots_n == i % 2);
    publish(&gw, "tram_5", "live");
    for (size_t i = 0; i < CROWD_N; i++)
        GW_UNTIL(&gw, crowd[i]->at == 2);
    assert_int_equal(asked_n, 1);
    feed_free(&feed);
    gw_close(&gw);
}

static void a_live_message_that_came_first_takes_the_values_place(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct client *crowd[CROWD_N];
    struct feed feed = {0};
    open_gateway(&gw);
    feed_add(&feed, "live");
    feed_add(&feed, "next");
    for (size_t i = 0; i < CROWD_N; i++)
        crowd[i] = come_either(&gw, i);
    expect(crowd, &feed);
    GW_UNTIL(&gw, asked && tl_metric_get(TL_M_SUBSCRIPTIONS) == CROWD_N);
    turns(&gw);
    publish(&gw, "tram_5", "live");
    for (size_t i = 0; i < CROWD_N; i++)
        GW_UNTIL(&gw, crowd[i]->at == 1); /* without the value */
    int64_t dropped = tl_metric_get(TL_M_SNAPSHOTS_DROPPED);
    tell(TL_BROKER_OK, "before");
    assert_int_equal(tl_metric_get(TL_M_SNAPSHOTS_DROPPED), dropped + 1);
    publish(&gw, "tram_5", "next");
    for (size_t i = 0; i < CROWD_N; i++)
        GW_UNTIL(&gw, crowd[i]->at == 2);
    feed_free(&feed);
    gw_close(&gw);
}

/* The value is here, but what was published before it was read is not: on_value, a message, and
 * only then on_fetched. */
static void a_message_between_value_and_its_end_takes_its_place(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = client_come(&gw, CLIENT_SSE, "/sse/tram_5");
    GW_UNTIL(&gw, asked);
    asked->on_value(asked, TL_LIT("before"));
    publish(&gw, "tram_5", "live");
    tell(TL_BROKER_OK, NULL);
    GW_UNTIL(&gw, c->messages_n == 1 && c->snapshots_n == 1);
    struct client *late = client_come(&gw, CLIENT_WS, "/ws/tram_5");
    GW_UNTIL(&gw, late->messages_n == 1);
    assert_int_equal(c->messages_n, 1);
    gw_close(&gw);
}

static void a_value_of_before_a_gap_is_read_again(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = client_come(&gw, CLIENT_SSE, "/sse/tram_5");
    GW_UNTIL(&gw, asked);
    gw.broker->events->on_dropped(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("tram_5"));
    tell(TL_BROKER_OK, "before the gap");
    assert_int_equal(asked_n, 2);
    assert_int_equal(c->messages_n, 0);
    tell(TL_BROKER_OK, "behind it");
    GW_UNTIL(&gw, c->messages_n == 1);
    /* And one that is kept is void with the next gap. */
    gw.broker->events->on_dropped(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("tram_5"));
    struct client *late = client_come(&gw, CLIENT_WS, "/ws/tram_5");
    GW_UNTIL(&gw, asked);
    tell(TL_BROKER_OK, "behind the next");
    GW_UNTIL(&gw, late->messages_n == 1);
    assert_int_equal(asked_n, 3);
    gw_close(&gw);
}

static void without_a_value_newcomers_are_served_without(void **state)
{
    static const enum tl_broker_status ends[] = {TL_BROKER_OK,     TL_BROKER_DENIED,
                                                 TL_BROKER_FAILED, TL_BROKER_FULL,
                                                 TL_BROKER_DOWN,   TL_BROKER_UNKNOWN};
    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct gw gw = {0};
        open_gateway(&gw);
        int64_t failures = tl_metric_get(TL_M_SNAPSHOT_FAILURES);
        struct client *c = come_either(&gw, i);
        GW_UNTIL(&gw, asked);
        tell(ends[i], NULL);
        GW_UNTIL(&gw, c->subscribed);
        assert_int_equal(tl_metric_get(TL_M_SNAPSHOT_FAILURES) - failures, i > 0);
        struct client *late = come_either(&gw, i + 1);
        GW_UNTIL(&gw, late->subscribed);
        assert_int_equal(asked_n, 1); /* and nobody asks again at once */
        publish(&gw, "tram_5", "live");
        GW_UNTIL(&gw, c->messages_n == 1 && late->messages_n == 1);
        gw_close(&gw);
    }
}

static bool begins_with_something(struct gw *gw)
{
    struct client *c = client_come(gw, CLIENT_WS, "/ws/tram_5");
    GW_UNTIL(gw, client_is_settled(c));
    turns(gw);
    bool has = c->messages_n == 1;
    client_free(c);
    return has;
}

static void nobody_waits_for_ever(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = client_come(&gw, CLIENT_WS, "/ws/tram_5");
    GW_UNTIL(&gw, asked);
    GW_UNTIL(&gw, c->subscribed); /* by time */
    tell(TL_BROKER_OK, "late");
    GW_UNTIL(&gw, begins_with_something(&gw));
    assert_int_equal(asked_n, 1);
    assert_int_equal(c->messages_n, 0);
    gw_close(&gw);
}

static void who_goes_while_the_key_is_read_leaves_nothing(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct gw gw = {0};
        open_gateway(&gw);
        for (size_t i = 0; i < CROWD_N; i++)
            come_either(&gw, i);
        GW_UNTIL(&gw, asked && tl_metric_get(TL_M_SUBSCRIPTIONS) == CROWD_N);
        clients_free(&gw);
        GW_UNTIL(&gw, tl_metric_get(TL_M_SUBSCRIPTIONS) == 0);
        if (how & 1)
            GW_UNTIL(&gw, tl_metric_get(TL_M_CHANNELS) == 0);
        tell(TL_BROKER_OK, how & 2 ? "value" : NULL);
        GW_UNTIL(&gw, tl_metric_get(TL_M_CHANNELS) == 0);
        assert_int_equal(tl_metric_get(TL_M_LOG_BYTES), 0);
        gw_close(&gw);
    }
}

static void a_channel_made_anew_reads_anew(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = client_come(&gw, CLIENT_WS, "/ws/tram_5");
    GW_UNTIL(&gw, asked);
    client_free(c);
    GW_UNTIL(&gw, tl_metric_get(TL_M_CHANNELS) == 0);
    struct tl_fetch *old = asked;
    asked = NULL;
    c = client_come(&gw, CLIENT_WS, "/ws/tram_5");
    GW_UNTIL(&gw, asked);
    struct tl_fetch *anew = asked;
    asked = old;
    tell(TL_BROKER_OK, "of the old channel");
    turns(&gw);
    assert_false(c->subscribed);
    asked = anew;
    tell(TL_BROKER_OK, "of the new one");
    GW_UNTIL(&gw, c->messages_n == 1);
    gw_close(&gw);
}

static void values_count_as_kept_and_have_no_room_beyond_the_cap(void **state)
{
    (void)state;
    static char big[700000];
    struct gw gw = {0};
    open_gateway(&gw);
    gw.config.logs_bytes_max = 1u << 20;
    memset(big, 'x', sizeof big - 1);
    struct client *first = client_come(&gw, CLIENT_SSE, "/sse/tram_5");
    GW_UNTIL(&gw, asked);
    tell(TL_BROKER_OK, big);
    GW_UNTIL(&gw, first->messages_n == 1);
    assert_true(tl_metric_get(TL_M_LOG_BYTES) >= (int64_t)sizeof big);
    struct client *second = client_come(&gw, CLIENT_WS, "/ws/tram_6");
    GW_UNTIL(&gw, asked);
    tell(TL_BROKER_OK, big);
    GW_UNTIL(&gw, second->subscribed);
    turns(&gw);
    assert_int_equal(second->messages_n, 0);
    publish(&gw, "tram_5", "live"); /* the value is given up */
    GW_UNTIL(&gw, first->messages_n == 2);
    assert_true(tl_metric_get(TL_M_LOG_BYTES) < 1000);
    gw_close(&gw);
}

/* --- silence --- */

static void silence_is_told_behind_the_messages(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *sse = client_come(&gw, CLIENT_SSE, "/sse/silent");
    struct client *ws = client_come(&gw, CLIENT_WS, "/ws/silent");
    GW_UNTIL(&gw, sse->subscribed && ws->subscribed);
    for (unsigned n = 1; n <= 3; n++) {
        publish(&gw, "silent", "here");
        GW_UNTIL(&gw, sse->messages_n == n && ws->messages_n == n);
        GW_UNTIL(&gw, sse->expired_n >= n);
    }
    struct client *late = client_come(&gw, CLIENT_SSE, "/sse/silent");
    GW_UNTIL(&gw, late->expired_n == 1);
    assert_true(late->messages_n == 0 && late->snapshots_n == 0);
    gw_close(&gw);
}

/* --- several channels on one stream --- */

static struct client *come_many(struct gw *gw, const char *path)
{
    return client_come(gw, CLIENT_SSE, path);
}

static void a_stream_of_many_begins_with_their_snapshots(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *keeper = client_come(&gw, CLIENT_SSE, "/sse/silent_log");
    GW_UNTIL(&gw, keeper->subscribed);
    publish(&gw, "silent_log", "newest");
    struct client *c = come_many(&gw, "/sse?ch=tram_5&ch=plain&ch=silent_log");
    GW_UNTIL(&gw, asked && tl_metric_get(TL_M_SUBSCRIPTIONS) == 4);
    turns(&gw);
    assert_true(c->messages_n == 0 && c->last_id[0] == 0);
    tell(TL_BROKER_OK, "value");
    GW_UNTIL(&gw, c->last_id[0] != 0 && c->last_id[0] != '@');
    assert_true(c->messages_n >= 1 && c->snapshots_n == c->messages_n);
    unsigned n = c->messages_n;
    publish(&gw, "tram_5", "live");
    publish(&gw, "plain", "live");
    GW_UNTIL(&gw, c->messages_n == n + 2);
    assert_int_equal(c->snapshots_n, n);
    struct client *late = come_many(&gw, "/sse?ch=plain&ch=tram_5");
    GW_UNTIL(&gw, late->last_id[0] != 0 && late->last_id[0] != '@');
    assert_true(late->messages_n == 1 && late->snapshots_n == 1);
    assert_int_equal(asked_n, 1);
    gw_close(&gw);
}

static void of_many_a_value_of_before_a_gap_is_read_again(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = come_many(&gw, "/sse?ch=tram_5&ch=plain");
    GW_UNTIL(&gw, asked);
    gw.broker->events->on_dropped(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("tram_5"));
    tell(TL_BROKER_OK, "before the gap");
    turns(&gw);
    assert_true(asked && c->messages_n == 0);
    tell(TL_BROKER_OK, "behind it");
    GW_UNTIL(&gw, c->messages_n == 1 && c->snapshots_n == 1);
    assert_int_equal(c->gaps_n, 0);
    gw_close(&gw);
}

static void a_stream_of_many_waits_for_a_link_that_is_lost_among_its_snapshots(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = come_many(&gw, "/sse?ch=tram_5&ch=plain");
    GW_UNTIL(&gw, asked);
    const struct tl_broker_events *events = gw.broker->events;
    events->on_link(gw.broker->hub, TL_SOURCE_CHANNEL, false, "the test says so");
    tell(TL_BROKER_DOWN, NULL);
    turns(&gw);
    assert_true(c->snapshots_n == 0 && c->last_id[0] == 0);
    events->on_link(gw.broker->hub, TL_SOURCE_CHANNEL, true, "the test says so");
    events->on_subscribed(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("tram_5"), TL_BROKER_OK, NULL);
    events->on_subscribed(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("plain"), TL_BROKER_OK, NULL);
    GW_UNTIL(&gw, c->last_id[0] != 0 && c->last_id[0] != '@');
    assert_int_equal(c->snapshots_n,
                     0); /* there was no answer, and it is not asked at once again */
    publish(&gw, "tram_5", "live");
    GW_UNTIL(&gw, c->messages_n == 1);
    gw_close(&gw);
}

/* Silence of many channels is told once each, behind what is older; newcomers are told first. */
static void silence_of_each_of_many_is_told_behind_its_messages(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_gateway(&gw);
    struct client *c = come_many(&gw, "/sse?ch=silent_1&ch=plain&ch=silent_2");
    GW_UNTIL(&gw, c->subscribed);
    GW_UNTIL(&gw, c->expired_n == 2);
    for (unsigned n = 1; n <= 3; n++) {
        publish(&gw, "silent_2", "here");
        GW_UNTIL(&gw, c->messages_n == n);
        GW_UNTIL(&gw, c->expired_n == 2 + n);
        assert_true(c->last_id[0] != '@');
    }
    struct client *late = come_many(&gw, "/sse?ch=silent_1&ch=silent_2");
    GW_UNTIL(&gw, late->last_id[0] != 0 && late->last_id[0] != '@');
    turns(&gw);
    assert_true(late->expired_n == 2 && late->messages_n == 0 && late->snapshots_n == 0);
    gw_close(&gw);
}

/* --- memory --- */

static void story(struct gw *gw, int64_t skip, int64_t count)
{
    struct client *crowd[4];
    tl_alloc_fail(skip, count);
    for (size_t i = 0; i < 4; i++)
        crowd[i] = come_either(gw, i);
    for (int n = 0; n < 40; n++) {
        gw_turn(gw, 1);
        if (asked)
            tell(TL_BROKER_OK, "snapshot");
    }
    tl_alloc_fail(0, 0);
    for (size_t i = 0; i < 4; i++) {
        GW_UNTIL(gw, crowd[i]->subscribed || crowd[i]->ended || crowd[i]->status >= 400 ||
                         (asked && (tell(TL_BROKER_OK, "snapshot"), false)));
        assert_true(crowd[i]->messages_n <= 1);
    }
    unsigned before[4];
    for (size_t i = 0; i < 4; i++)
        before[i] = crowd[i]->messages_n;
    publish(gw, "tram_5", "live");
    for (size_t i = 0; i < 4; i++)
        GW_UNTIL(gw, !crowd[i]->subscribed || crowd[i]->ended || crowd[i]->messages_n > before[i]);
}

/* Snapshots of a key and of the log, small and large, silence, with allocations that fail. */
static void story_of_many(struct gw *gw, int64_t skip, int64_t count)
{
    static char large[30000];
    memset(large, 'x', sizeof large - 1);
    publish(gw, "silent_1", "log");
    publish(gw, "tram_6", large);
    tl_alloc_fail(skip, count);
    struct client *c = come_many(gw, "/sse?ch=tram_5&ch=tram_6&ch=silent_1");
    for (int n = 0; n < 30; n++) {
        gw_turn(gw, 1);
        if (asked)
            tell(TL_BROKER_OK, "value");
    }
    tl_alloc_fail(0, 0);
    bool has_begun = false;
    GW_UNTIL(gw, (has_begun = c->last_id[0] && c->last_id[0] != '@') || c->ended ||
                     c->status >= 400 || (asked && (tell(TL_BROKER_OK, "value"), false)));
    assert_true(c->messages_n <= 3 && c->snapshots_n >= c->messages_n);
    unsigned before = c->messages_n;
    publish(gw, "tram_5", "live");
    publish(gw, "tram_6", large);
    GW_UNTIL(gw, !has_begun || c->ended || c->downs_n > 0 || c->messages_n >= before + 2);
}

static void any_failed_allocation_of_many_is_outlived(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 70; i++) {
        struct gw gw = {0};
        open_gateway(&gw);
        story_of_many(&gw, i, 1 + i % 3);
        gw_close(&gw);
    }
}

static void any_failed_allocation_is_outlived(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 80; i++) {
        struct gw gw = {0};
        open_gateway(&gw);
        story(&gw, i, 1 + i % 3);
        gw_close(&gw);
    }
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_waits_for_one_value),
        cmocka_unit_test(a_live_message_that_came_first_takes_the_values_place),
        cmocka_unit_test(a_message_between_value_and_its_end_takes_its_place),
        cmocka_unit_test(a_value_of_before_a_gap_is_read_again),
        cmocka_unit_test(without_a_value_newcomers_are_served_without),
        cmocka_unit_test(nobody_waits_for_ever),
        cmocka_unit_test(who_goes_while_the_key_is_read_leaves_nothing),
        cmocka_unit_test(a_channel_made_anew_reads_anew),
        cmocka_unit_test(values_count_as_kept_and_have_no_room_beyond_the_cap),
        cmocka_unit_test(silence_is_told_behind_the_messages),
        cmocka_unit_test(a_stream_of_many_begins_with_their_snapshots),
        cmocka_unit_test(of_many_a_value_of_before_a_gap_is_read_again),
        cmocka_unit_test(a_stream_of_many_waits_for_a_link_that_is_lost_among_its_snapshots),
        cmocka_unit_test(silence_of_each_of_many_is_told_behind_its_messages),
        cmocka_unit_test(any_failed_allocation_is_outlived),
        cmocka_unit_test(any_failed_allocation_of_many_is_outlived),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
