/*
 * The whole gateway and clients that go at any moment or mean no good: does it stay whole, small,
 * and clear about what it says?
 */
#include "gateway_fixture.h"

#include <malloc.h>
#include <sys/socket.h>

#define INBOUND_MAX 4096 /* of gw_config() */

/* --- gone at every byte --- */

static void record_websocket(struct bag *out)
{
    bag_text(out,
             "GET /chat/news HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
             "Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    bag_frame(out, true, TL_WS_TEXT, TL_LIT("hello, everybody"));
    bag_frame(out, true, TL_WS_PING, TL_LIT("ping"));
    bag_frame(out, true, TL_WS_CLOSE, TL_LIT("\x03\xe8 bye"));
}

static void record_publish(struct bag *out)
{
    bag_text(out,
             "POST /pub/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\nhello world"
             "POST /pub/news HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
             "5\r\nhello\r\n0\r\n\r\n");
}

static void record_sse(struct bag *out)
{
    bag_text(out, "GET /sse/news?since=0123456789abcdef-7 HTTP/1.1\r\nHost: localhost\r\n"
                  "Origin: http://localhost\r\nAccept: text/event-stream\r\n\r\n");
}

/* Send the first n bytes, let the gateway take some turns, and be gone. */
static void come_and_go(struct gw *gw, struct tl_bytes bytes, bool reset, int turns)
{
    struct client *c = client_open(gw, CLIENT_WS);
    c->deaf = true;
    client_send(c, bytes);
    while (turns-- > 0)
        gw_turn(gw, 0);
    client_end(c, reset);
    client_free(c);
    GW_UNTIL(gw, tl_metric_get(TL_M_CONNECTIONS) == 0);
}

static void go_at_every_byte(void (*record)(struct bag *out))
{
    struct gw gw = {0};
    struct bag session = {0};
    gw_open(&gw);
    record(&session);
    for (size_t n = 0; n <= session.n; n += stride_of(1))
        for (int how = 0; how < 4; how++)
            come_and_go(&gw, tl_bytes(session.p, n), how & 1, how & 2 ? 4 : 0);
    assert_int_equal(tl_metric_get(TL_M_SUBSCRIPTIONS), 0);
    assert_int_equal(tl_metric_get(TL_M_WS_SESSIONS), 0);
    assert_int_equal(tl_metric_get(TL_M_SSE_SESSIONS), 0);
    GW_UNTIL(&gw, tl_metric_get(TL_M_CHANNELS) == 0);
    assert_int_equal(tl_metric_get(TL_M_LOG_BYTES), 0);
    bag_free(&session);
    gw_close(&gw);
}

static void a_websocket_may_go_at_every_byte(void **state)
{
    (void)state;
    go_at_every_byte(record_websocket);
}

static void a_publisher_may_go_at_every_byte(void **state)
{
    (void)state;
    go_at_every_byte(record_publish);
}

static void an_event_stream_may_go_at_every_byte(void **state)
{
    (void)state;
    go_at_every_byte(record_sse);
}

/* --- floods --- */

static struct client *open_chat(struct gw *gw)
{
    struct client *c = client_open(gw, CLIENT_WS);
    client_ask_ws(c, "/chat/news");
    GW_UNTIL(gw, client_is_settled(c));
    assert_true(c->subscribed);
    return c;
}

/* Send pings until nobody takes them any more; returns how many. */
static unsigned flood(struct gw *gw, struct client *c)
{
    char payload[TL_WS_CONTROL_MAX] = "ping";
    unsigned n = 0;
    for (int idle = 0; idle < 300; idle++) {
        gw_turn(gw, 0);
        if (c->out.n > 0)
            continue;
        struct bag out = {0};
        for (int i = 0; i < 500; i++)
            bag_frame(&out, true, TL_WS_PING, tl_bytes(payload, sizeof payload));
        client_send_bag(c, &out);
        n += 500;
        idle = 0;
    }
    return n;
}

static void pings_of_a_client_that_does_not_read_take_no_memory(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    struct client *c = open_chat(&gw);
    int small = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    c->deaf = true;
    size_t before = mallinfo2().uordblks;
    unsigned pings_n = flood(&gw, c);
    size_t after = mallinfo2().uordblks; /* with what waits in the client itself */
    assert_true(after < before + c->out.cap + 200000);
    /* None is lost: reading them brings all answers. */
    int big = 1 << 20; /* with the small one the kernel would take its time between segments */
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    c->deaf = false;
    GW_UNTIL(&gw, c->pongs_n == pings_n);
    gw_close(&gw);
}

/* --- the broker in part --- */

static bool never(const struct tl_broker *b)
{
    (void)b;
    return false;
}

/* What is not ready is publishing: messages come as before, so nobody is turned away. */
static void who_comes_while_nothing_is_published_is_served(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    struct tl_broker_ops ops = *gw.broker->ops;
    ops.is_up = never;
    gw.broker->ops = &ops;
    gw.broker->events->on_readiness(gw.broker->hub);
    struct client *ready = client_open(&gw, CLIENT_HTTP);
    client_send(ready, TL_LIT("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    GW_UNTIL(&gw, client_is_settled(ready));
    assert_int_equal(ready->status, 503);
    client_watch(&gw, CLIENT_WS, "/ws/a");
    assert_int_equal(client_watch(&gw, CLIENT_SSE, "/sse/b")->downs_n, 0);
    assert_int_equal(client_watch(&gw, CLIENT_SSE, "/sse?ch=c&ch=d")->downs_n, 0);
    gw_close(&gw);
}

/* A pattern gathers no streams, whatever rule its name matches, so their link does not matter. */
static void a_pattern_does_not_wait_for_the_link_of_streams(void **state)
{
    static const struct tl_pattern fleet = {.name = {(const uint8_t *)"fleet", 5},
                                            .glob = {(const uint8_t *)"tram_*", 6}};
    (void)state;
    struct gw gw = {0};
    gw_config(&gw.config);
    gw.config.patterns = &fleet;
    gw.config.patterns_n = 1;
    memcpy(gw.config.standard.stream.field, "data", 5);
    gw_open_as_is(&gw);
    assert_int_equal(client_watch(&gw, CLIENT_SSE, "/sse/fleet")->downs_n, 0);
    gw_close(&gw);
}

/* --- slow, or stuck --- */

static struct {
    int unsent_n, step;
    unsigned looks_n;
} kernel;

static int kernel_unsent(int fd, int *ret_bytes_n)
{
    (void)fd;
    kernel.looks_n++;
    *ret_bytes_n = kernel.unsent_n;
    kernel.unsent_n -= kernel.step;
    return 0;
}

/* What the kernel says of its buffer counts, not that it has room for more. */
static void who_takes_a_little_is_not_stuck(const char *path, enum client_kind kind)
{
    static char big[100000];
    struct gw gw = {0};
    gw_config(&gw.config);
    gw.config.stall_timeout_ms = 40;
    gw.config.standard.log = (struct tl_log_limits){1000, 64u << 20, 600000};
    gw.config.logs_bytes_max = gw.config.retired_bytes_max = 64u << 20;
    gw_open_as_is(&gw);
    struct client *c = client_watch(&gw, kind, path);
    c->deaf = true;
    kernel.unsent_n = 1000000;
    kernel.step = 1;
    kernel.looks_n = 0;
    tl_sys.unsent = kernel_unsent;
    memset(big, 'b', sizeof big);
    for (int i = 0; i < 100; i++)
        assert_true(gw.broker->events->on_message(gw.broker->hub, TL_SOURCE_CHANNEL, TL_LIT("news"),
                                                  TL_LIT("news"), tl_bytes(big, sizeof big)));
    int64_t stalled = tl_metric_get(TL_M_STALLED);
    GW_UNTIL(&gw, kernel.looks_n >= 20);
    assert_int_equal(tl_metric_get(TL_M_STALLED), stalled);
    kernel.step = 0;
    GW_UNTIL(&gw, tl_metric_get(TL_M_STALLED) == stalled + 1);
    tl_sys_restore();
    gw_close(&gw);
}

static void a_client_that_takes_a_little_is_not_reset_as_stuck(void **state)
{
    (void)state;
    who_takes_a_little_is_not_stuck("/ws/news", CLIENT_WS);
    who_takes_a_little_is_not_stuck("/sse?ch=news&ch=other", CLIENT_SSE);
}

static void chat_in_fragments(struct gw *gw, size_t n, size_t empty_n, struct client *ret_end[1])
{
    struct client *c = open_chat(gw);
    struct bag out = {0};
    bag_frame(&out, false, TL_WS_BINARY, TL_LIT("x"));
    for (size_t i = 0; i < empty_n; i++)
        bag_frame(&out, false, TL_WS_CONTINUATION, tl_bytes(NULL, 0));
    for (size_t i = 1; i < n; i++)
        bag_frame(&out, i + 1 == n, TL_WS_CONTINUATION, TL_LIT("x"));
    client_send_bag(c, &out);
    GW_UNTIL(gw, c->ended || c->messages_n == 1);
    ret_end[0] = c;
}

static void messages_in_one_byte_fragments_pass_up_to_their_limit(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    for (size_t n = INBOUND_MAX - 1; n <= INBOUND_MAX + 1; n++) {
        struct client *c;
        chat_in_fragments(&gw, n, 0, &c);
        assert_int_equal(c->close_code, n > INBOUND_MAX ? TL_WS_CLOSE_TOO_BIG : 0);
        client_free(c);
    }
    gw_close(&gw);
}

static void empty_fragments_pass_up_to_their_limit(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    for (size_t n = TL_WS_EMPTY_FRAGMENTS_MAX - 1; n <= TL_WS_EMPTY_FRAGMENTS_MAX + 1; n++) {
        struct client *c;
        chat_in_fragments(&gw, 10, n, &c);
        assert_int_equal(c->close_code, n > TL_WS_EMPTY_FRAGMENTS_MAX ? TL_WS_CLOSE_POLICY : 0);
        client_free(c);
    }
    gw_close(&gw);
}

/* --- requests --- */

static void the_body_of_a_refused_request_is_no_request(void **state)
{
    static const char *const heads[] = {
        "POST /pub/all HTTP/1.1\r\nHost: localhost\r\n",                   /* a pattern: 403 */
        "POST /nowhere/at/all HTTP/1.1\r\nHost: localhost\r\n",            /* 404 */
        "POST /pub/a%zz HTTP/1.1\r\nHost: localhost\r\n",                  /* 400 */
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\n",                   /* 405 */
        "OPTIONS /pub/news HTTP/1.1\r\nHost: localhost\r\n",               /* 204 */
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n",                    /* 200 */
        "POST /pub/a HTTP/1.1\r\nHost: localhost\r\nOrigin: http://b\r\n", /* 403 */
    };
    static const char inner[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct gw gw = {0};
    (void)state;
    gw_open(&gw);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct client *c = client_open(&gw, CLIENT_HTTP);
        struct bag out = {0};
        bag_text(&out, "%sContent-Length: %zu\r\n\r\n%s", heads[i], sizeof inner - 1, inner);
        client_send_bag(c, &out);
        GW_UNTIL(&gw, c->ended);
        assert_int_equal(c->responses_n, 1);
        client_free(c);
    }
    gw_close(&gw);
}

static void an_answer_is_whole_or_not_there(void **state)
{
    static const struct tl_bytes anyone = {(const uint8_t *)"*", 1};
    static const char *const paths[] = {"/healthz", "/metrics", "/nowhere", "/sse/news"};
    char origin[200] = "http://";
    struct gw gw = {0};
    (void)state;
    memset(origin + 7, 'o', sizeof origin - 8);
    gw_config(&gw.config);
    gw.config.origins = &anyone;
    gw.config.origins_n = 1;
    assert_int_equal(gw_try_open(&gw), 0);
    for (size_t p = 0; p < 4; p++) {
        bool refused = true;
        for (int64_t i = 0; refused; i++) {
            int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
            struct client *c = client_open(&gw, p == 3 ? CLIENT_SSE : CLIENT_HTTP);
            struct bag out = {0};
            bag_text(&out, "GET %s HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\n\r\n", paths[p],
                     origin);
            tl_alloc_fail(i, 1);
            client_send_bag(c, &out);
            GW_UNTIL(&gw, c->ended || client_is_settled(c));
            tl_alloc_fail(0, 0);
            assert_true(c->status == 0 || c->status == 200 || c->status == 404 || c->status == 503);
            if (c->status != 0 && !c->streaming)
                assert_true(c->body.n > 0 && c->body.p[c->body.n - 1] == '\n');
            refused = tl_metric_get(TL_M_REFUSED_MEMORY) > refusals;
            client_free(c);
        }
    }
    gw_close(&gw);
}

/* --- gaps --- */

static void ask_big(struct gw *gw, struct feed *feed, struct client *publisher)
{
    struct message *m = &feed->messages[feed->n];
    *m = (struct message){0};
    bag_text(&m->payload, "%zu:", feed->n++);
    while (m->payload.n < 70000)
        bag_add(&m->payload, TL_LIT("z"));
    client_ask_publish(publisher, "/pub/news", tl_bytes(m->payload.p, m->payload.n));
    for (int i = 0; i < 30 && publisher->responses_n == 0 && !publisher->ended; i++)
        gw_turn(gw, 1);
    m->refused = publisher->status == 503;
}

/* One message with the memory gone from allocation i on, one after it is back. Whether there was
 * harm. */
static bool lose_on_the_way(int64_t skip)
{
    struct gw gw = {0};
    struct feed feed = {0};
    gw_open(&gw);
    struct client *c[] = {client_open(&gw, CLIENT_WS), client_open(&gw, CLIENT_SSE)};
    client_ask_ws(c[0], "/ws/news");
    client_ask_sse(c[1], "/sse/all", NULL);
    GW_UNTIL(&gw, c[0]->subscribed && c[1]->subscribed);
    c[0]->feed = c[1]->feed = &feed;
    int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
    tl_alloc_fail(skip, -1);
    ask_big(&gw, &feed, client_open(&gw, CLIENT_HTTP));
    tl_alloc_fail(0, 0);
    ask_big(&gw, &feed, client_open(&gw, CLIENT_HTTP));
    GW_UNTIL(&gw, (c[0]->ended || c[0]->at == 2) && (c[1]->ended || c[1]->at == 2));
    /* What one of them got, the other one got or was told of. */
    if (!c[0]->ended && !c[1]->ended && c[1]->messages_n < c[0]->messages_n)
        assert_true(c[1]->gaps_n > 0);
    bool harm = tl_metric_get(TL_M_REFUSED_MEMORY) > refusals;
    gw_close(&gw);
    feed_free(&feed);
    return harm;
}

static void a_gap_that_finds_no_memory_is_told_before_what_follows(void **state)
{
    int64_t skip = 0;
    (void)state;
    while (lose_on_the_way(skip))
        skip++;
    assert_true(skip > 5);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_websocket_may_go_at_every_byte),
        cmocka_unit_test(a_publisher_may_go_at_every_byte),
        cmocka_unit_test(an_event_stream_may_go_at_every_byte),
        cmocka_unit_test(pings_of_a_client_that_does_not_read_take_no_memory),
        cmocka_unit_test(who_comes_while_nothing_is_published_is_served),
        cmocka_unit_test(a_pattern_does_not_wait_for_the_link_of_streams),
        cmocka_unit_test(a_client_that_takes_a_little_is_not_reset_as_stuck),
        cmocka_unit_test(messages_in_one_byte_fragments_pass_up_to_their_limit),
        cmocka_unit_test(empty_fragments_pass_up_to_their_limit),
        cmocka_unit_test(the_body_of_a_refused_request_is_no_request),
        cmocka_unit_test(an_answer_is_whole_or_not_there),
        cmocka_unit_test(a_gap_that_finds_no_memory_is_told_before_what_follows),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
