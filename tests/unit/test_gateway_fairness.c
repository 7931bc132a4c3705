/*
 * The whole gateway under more work than a turn can do: what a storm of connects and a flood on one
 * channel may take of each turn, so that the others have theirs. Turns and sends are counted; time
 * is no verdict.
 */
#include "gateway_fixture.h"

#include "gateway/session.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

/* A send that is queued is submitted by the next turn, and told by the one behind. */
#define LATE_TURNS     3
#define ACCEPTS_A_TURN 64 /* of the engines */
#define PUMP_SENDS     8  /* of session.c */

#define STORM_N  600
#define FLOODS_N 4 /* clients */
#define FLOOD_N  2000
#define BIG_N    8000

static void say(struct gw *gw, const char *name, struct tl_bytes payload)
{
    struct tl_bytes channel = tl_bytes(name, strlen(name));
    assert_true(gw->broker->events->on_message(gw->broker->hub, TL_SOURCE_CHANNEL, channel, channel,
                                               payload));
}

static void roomy_open(struct gw *gw)
{
    gw_config(&gw->config);
    gw->config.connections_max = 2 * STORM_N;
    gw->config.standard.log = (struct tl_log_limits){1u << 20, 64u << 20, 600000};
    gw->config.logs_bytes_max = 256u << 20;
    gw->config.history_ttl_ms = gw->config.linger_ms = 600000;
    gw_open_as_is(gw);
}

/* As gw_close(), but the channels may linger. */
static void roomy_close(struct gw *gw)
{
    tl_sys_restore();
    gw_close(gw);
}

/* Has it been sent what it wants? The kernel may take its time to bring it, but then it does
 * without a turn of the loop. */
static bool has(struct client *c, unsigned messages_n, int wait_ms)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    gw_poll(c->gw);
    while (c->messages_n < messages_n && poll(&p, 1, wait_ms) == 1)
        gw_poll(c->gw);
    return c->messages_n >= messages_n;
}

/* Turn until the client has so many messages: within LATE_TURNS. */
static void turn_until_it_has(struct gw *gw, struct client *c, unsigned messages_n)
{
    for (int turns = 1; turns < LATE_TURNS; turns++) {
        gw_turn(gw, 0);
        if (has(c, messages_n, 0))
            return;
    }
    gw_turn(gw, 0);
    assert_true(has(c, messages_n, DEADLINE_MS));
}

/* --- a storm of connects --- */

static bool are_all_subscribed(struct client *const *clients, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!clients[i]->subscribed)
            return false;
    return true;
}

static void a_storm_of_connects_leaves_the_connected_their_messages(void **state)
{
    static struct client *storm[STORM_N];
    struct gw gw = {0};
    unsigned said = 0;
    (void)state;
    roomy_open(&gw);
    struct client *ws = client_watch(&gw, CLIENT_WS, "/ws/news"),
                  *sse = client_watch(&gw, CLIENT_SSE, "/sse/news");
    for (size_t i = 0; i < STORM_N; i++) {
        storm[i] = client_open(&gw, i % 2 ? CLIENT_SSE : CLIENT_WS);
        if (i % 2)
            client_ask_sse(storm[i], "/sse/storm", NULL);
        else
            client_ask_ws(storm[i], "/ws/storm");
    }
    int64_t accepted = tl_metric_get(TL_M_ACCEPTED);
    while (tl_metric_get(TL_M_ACCEPTED) - accepted < STORM_N) {
        int64_t before = tl_metric_get(TL_M_ACCEPTED);
        say(&gw, "news", TL_LIT("in the storm"));
        said++;
        turn_until_it_has(&gw, ws, said);
        assert_true(has(sse, said, DEADLINE_MS));
        assert_true(tl_metric_get(TL_M_ACCEPTED) - before <= LATE_TURNS * ACCEPTS_A_TURN);
    }
    assert_true(said >= STORM_N / (LATE_TURNS * ACCEPTS_A_TURN));
    GW_UNTIL(&gw, are_all_subscribed(storm, STORM_N));
    roomy_close(&gw);
}

/* --- a flood on one channel --- */

static char big[BIG_N];

/* Peers that read faster than anybody can write: what is long is taken whole, and gone. */
static size_t swallowed_n;

static ssize_t fast_send(int fd, const void *bytes, size_t n, int flags)
{
    if (n < BIG_N / 2)
        return send(fd, bytes, n, flags);
    swallowed_n++;
    return (ssize_t)n;
}

static ssize_t fast_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    size_t n = 0;
    for (size_t i = 0; i < msg->msg_iovlen; i++)
        n += msg->msg_iov[i].iov_len;
    if (n < BIG_N / 2)
        return sendmsg(fd, msg, flags);
    swallowed_n++;
    return (ssize_t)n;
}

/* Clients that want all that was published since. */
static void resume_all(struct gw *gw, const char *since)
{
    for (int i = 0; i < FLOODS_N; i++)
        client_ask_sse(client_open(gw, CLIENT_SSE), "/sse/flood", since);
}

static void a_long_backlog_goes_out_in_shares_of_a_turn(void **state)
{
    struct gw gw = {0};
    unsigned said = 0;
    (void)state;
    roomy_open(&gw);
    struct client *calm = client_watch(&gw, CLIENT_WS, "/ws/calm");
    struct client *first = client_watch(&gw, CLIENT_SSE, "/sse/flood");
    first->deaf = true;
    for (int i = 0; i < FLOOD_N; i++)
        say(&gw, "flood", tl_bytes(big, BIG_N));
    gw_turn(&gw, 0);
    tl_sys.send = fast_send;
    tl_sys.sendmsg = fast_sendmsg;
    resume_all(&gw, first->last_id);
    swallowed_n = 0;
    do {
        size_t before = swallowed_n;
        say(&gw, "calm", TL_LIT("c"));
        turn_until_it_has(&gw, calm, ++said);
        assert_true(swallowed_n - before <= (size_t)LATE_TURNS * FLOODS_N * PUMP_SENDS);
    } while (said < 50);
    /* It was a flood; where sends are queued, as many went as the sockets held. */
    assert_true(swallowed_n > FLOODS_N * PUMP_SENDS || gw_engine->queued);
    roomy_close(&gw);
}

static void a_flood_on_one_channel_leaves_the_others_their_turn(void **state)
{
    struct gw gw = {0};
    (void)state;
    roomy_open(&gw);
    struct client *calm[2] = {client_watch(&gw, CLIENT_WS, "/ws/calm"),
                              client_watch(&gw, CLIENT_SSE, "/sse/calm")};
    for (int i = 0; i < FLOODS_N; i++) /* half of them read */
        client_watch(&gw, i % 2 ? CLIENT_SSE : CLIENT_WS, i % 2 ? "/sse/flood" : "/ws/flood")
            ->deaf = i < 2;
    for (unsigned said = 1; said <= 50; said++) {
        int64_t sends = tl_metric_get(TL_M_SENDS);
        for (int i = 0; i < 30; i++)
            say(&gw, "flood", tl_bytes(big, BIG_N));
        say(&gw, "calm", TL_LIT("c"));
        turn_until_it_has(&gw, calm[0], said);
        assert_true(has(calm[1], said, DEADLINE_MS));
        assert_true(tl_metric_get(TL_M_SENDS) - sends <=
                    (int64_t)LATE_TURNS * (FLOODS_N + 2) * (PUMP_SENDS + 1));
    }
    roomy_close(&gw);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    memset(big, 'b', sizeof big);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_storm_of_connects_leaves_the_connected_their_messages),
        cmocka_unit_test(a_long_backlog_goes_out_in_shares_of_a_turn),
        cmocka_unit_test(a_flood_on_one_channel_leaves_the_others_their_turn),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
