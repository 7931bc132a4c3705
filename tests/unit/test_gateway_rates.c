/*
 * The whole gateway and a rule that limits the rate: who waits for its time stands in nobody's way,
 * loses nothing but what the rule leaves out, and goes on with all else meanwhile. Times are an
 * hour or a moment, so that none of them decides anything.
 */
#include "gateway_fixture.h"

#include "gateway/hub.h"

#include <sys/socket.h>

#define WATCHERS_N 12

#define LATEST(glob_, kept, interval)                                                              \
    {                                                                                              \
        .glob = {(const uint8_t *)(glob_), sizeof(glob_) - 1}, .log = {kept, 1u << 20, 600000},    \
        .overflow = TL_OVERFLOW_LATEST, .interval_ms = (interval)                                  \
    }

static const struct tl_channel_rule rules[] = {
    LATEST("hour*", 1000, 3600000),
    LATEST("short*", 4, 3600000),
    LATEST("moment*", 1000, 40),
};

static void open_with_rules(struct gw *gw)
{
    gw_config(&gw->config);
    gw->config.rules = rules;
    gw->config.rules_n = sizeof rules / sizeof *rules;
    gw_open_as_is(gw);
}

static void publish(struct gw *gw, const char *channel, const char *payload)
{
    struct tl_bytes name = tl_bytes_str(channel);
    assert_true(gw->broker->events->on_message(gw->broker->hub, TL_SOURCE_CHANNEL, name, name,
                                               tl_bytes_str(payload)));
}

static void publish_and_turn(struct gw *gw, const char *channel, const char *payload)
{
    publish(gw, channel, payload);
    gw_turn(gw, 0);
}

/* Each got its first message and waits an hour for its next. */
static void crowd(struct gw *gw, struct client *clients[WATCHERS_N], const char *ws_path,
                  const char *sse_path, const char *channel)
{
    for (size_t i = 0; i < WATCHERS_N; i++)
        clients[i] = client_watch(gw, i % 2 ? CLIENT_SSE : CLIENT_WS, i % 2 ? sse_path : ws_path);
    publish(gw, channel, "1");
    for (size_t i = 0; i < WATCHERS_N; i++)
        GW_UNTIL(gw, clients[i]->messages_n == 1);
    publish_and_turn(gw, channel, "2");
}

static size_t ready_n(const struct gw *gw)
{
    const struct tl_list *ready = &tl_hub_worker(gw->broker->hub, 0)->ready;
    size_t n = 0;
    for (const struct tl_list *l = ready->next; l != ready; l = l->next)
        n++;
    return n;
}

static void who_waits_for_its_time_is_in_nobodys_way(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct client *waiting[WATCHERS_N];
    open_with_rules(&gw);
    crowd(&gw, waiting, "/ws/hour", "/sse/hour", "hour");
    /* What each message to anybody looks through does not hold them, whatever happens. */
    struct client *other = client_watch(&gw, CLIENT_WS, "/ws/news");
    for (unsigned n = 1; n <= 20; n++) {
        publish(&gw, "hour", "3");
        publish(&gw, "news", "other");
        GW_UNTIL(&gw, other->messages_n == n);
        assert_int_equal(ready_n(&gw), 0);
    }
    for (size_t i = 0; i < WATCHERS_N; i++)
        assert_int_equal(waiting[i]->messages_n, 1);
    gw_close(&gw);
}

static void who_waits_while_the_log_moves_on_is_not_slow(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct client *waiting[WATCHERS_N];
    open_with_rules(&gw);
    int64_t overflows = tl_metric_get(TL_M_OVERFLOWS), gaps = tl_metric_get(TL_M_GAPS);
    crowd(&gw, waiting, "/ws/short", "/sse/short", "short");
    for (int i = 0; i < 20; i++)
        publish_and_turn(&gw, "short", "and on");
    assert_int_equal(tl_metric_get(TL_M_OVERFLOWS), overflows);
    assert_int_equal(tl_metric_get(TL_M_GAPS), gaps);
    for (size_t i = 0; i < WATCHERS_N; i++)
        assert_true(waiting[i]->messages_n == 1 && !waiting[i]->ended);
    gw_close(&gw);
}

static void everybody_gets_the_last_when_its_time_comes(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct client *waiting[WATCHERS_N];
    struct feed feed = {0};
    open_with_rules(&gw);
    for (int i = 0; i < 3; i++) {
        feed.messages[i] = (struct message){0};
        bag_text(&feed.messages[feed.n++].payload, "%d", i + 1);
    }
    for (size_t i = 0; i < WATCHERS_N; i++) {
        waiting[i] =
            client_watch(&gw, i % 2 ? CLIENT_SSE : CLIENT_WS, i % 2 ? "/sse/moment" : "/ws/moment");
        waiting[i]->feed = &feed;
    }
    publish_and_turn(&gw, "moment", "1");
    publish_and_turn(&gw, "moment", "2");
    publish_and_turn(&gw, "moment", "3");
    for (size_t i = 0; i < WATCHERS_N; i++)
        GW_UNTIL(&gw, waiting[i]->at == 3);
    feed_free(&feed);
    gw_close(&gw);
}

static void a_gap_is_told_behind_the_last_word_of_before_it(void **state)
{
    (void)state;
    struct gw gw = {0};
    open_with_rules(&gw);
    struct client *strict = client_watch(&gw, CLIENT_WS, "/ws/hour?strict=1");
    publish(&gw, "hour", "1");
    GW_UNTIL(&gw, strict->messages_n == 1);
    publish(&gw, "hour", "2");
    publish(&gw, "hour", "3");
    gw.broker->events->on_dropped(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("hour"));
    publish(&gw, "hour", "4");
    GW_UNTIL(&gw, strict->ended);
    assert_int_equal(strict->close_code, TL_WS_CLOSE_GAP);
    assert_int_equal(strict->messages_n, 2);
    assert_non_null(strstr(strict->close_reason, "missed=1"));
    gw_close(&gw);
}

static void who_goes_while_it_waits_leaves_nothing(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct client *waiting[WATCHERS_N];
    open_with_rules(&gw);
    crowd(&gw, waiting, "/ws/moment", "/sse/moment", "moment");
    for (size_t i = 0; i < WATCHERS_N; i++)
        client_end(waiting[i], i % 3 == 0);
    GW_UNTIL(&gw, tl_metric_get(TL_M_CONNECTIONS) == 0);
    gw_close(&gw);
}

/* --- the kernel has no memory for the first send that is tried --- */

static unsigned failures_n;

static bool fails(void)
{
    return failures_n > 0 && failures_n-- > 0;
}

static ssize_t sys_send(int fd, const void *bytes, size_t n, int flags)
{
    if (!fails())
        return send(fd, bytes, n, flags);
    errno = ENOBUFS;
    return -1;
}

static int uring_fault(enum tl_uring_op op)
{
    return op == TL_URING_SEND && fails() ? -ENOBUFS : 0;
}

static void lose_a_send(unsigned direct_sends)
{
    struct gw gw = {0};
    open_with_rules(&gw);
    tl_sys.uring_direct_sends = direct_sends;
    tl_sys.send = sys_send;
    tl_sys.uring_fault = uring_fault;
    struct client *c = client_watch(&gw, CLIENT_WS, "/ws/hour");
    gw_turn(&gw, 0);
    failures_n = 1;
    publish_and_turn(&gw, "hour", "1");
    GW_UNTIL(&gw, c->messages_n == 1); /* and not in an hour */
    assert_int_equal(failures_n, 0);
    gw_close(&gw);
    tl_sys_restore();
}

static void a_send_that_failed_for_want_of_memory_is_not_waited_for(void **state)
{
    (void)state;
    lose_a_send(4);
    lose_a_send(0);
}

/* --- and meanwhile --- */

/* More at once than may wait for their answers to go. */
static void pings_are_answered_while_a_message_waits(void **state)
{
    (void)state;
    struct gw gw = {0};
    char payload[TL_WS_CONTROL_MAX] = "ping";
    open_with_rules(&gw);
    struct client *c = client_watch(&gw, CLIENT_WS, "/ws/hour");
    publish(&gw, "hour", "1");
    GW_UNTIL(&gw, c->messages_n == 1);
    publish_and_turn(&gw, "hour", "2");
    struct bag out = {0};
    for (int i = 0; i < 500; i++)
        bag_frame(&out, true, TL_WS_PING, tl_bytes(payload, sizeof payload));
    client_send_bag(c, &out);
    GW_UNTIL(&gw, c->pongs_n == 500);
    assert_int_equal(c->messages_n, 1);
    gw_close(&gw);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_for_its_time_is_in_nobodys_way),
        cmocka_unit_test(who_waits_while_the_log_moves_on_is_not_slow),
        cmocka_unit_test(everybody_gets_the_last_when_its_time_comes),
        cmocka_unit_test(a_gap_is_told_behind_the_last_word_of_before_it),
        cmocka_unit_test(who_goes_while_it_waits_leaves_nothing),
        cmocka_unit_test(a_send_that_failed_for_want_of_memory_is_not_waited_for),
        cmocka_unit_test(pings_are_answered_while_a_message_waits),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
