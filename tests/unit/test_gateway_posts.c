/*
 * The whole gateway and publishers that send many requests at once, or ask for big documents: is a
 * read one batch, are answers whole and in order, and is everything bounded?
 */
#include "gateway_fixture.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define DUE_MAX    256 /* of posts.c */
#define DOCUMENT_N (8u << 20)

static void add_post(struct bag *out, const char *path, size_t i, size_t n)
{
    bag_text(out, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%08zu", path,
             n, i);
    for (size_t k = 8; k < n; k++)
        bag_add(out, TL_LIT("p"));
}

static void add_posts(struct bag *out, const char *path, size_t posts_n, size_t n)
{
    for (size_t i = 0; i < posts_n; i++)
        add_post(out, path, i, n);
}

static struct client *watch(struct gw *gw, const char *path)
{
    struct client *c = client_open(gw, CLIENT_WS);
    client_ask_ws(c, path);
    GW_UNTIL(gw, c->subscribed);
    return c;
}

/* The place in the last answer's position. */
static unsigned long place(const struct client *c)
{
    const char *at = strstr((const char *)c->body.p, "\"position\":\"");
    at = at ? strchr(at, '-') : NULL;
    assert_non_null(at);
    return strtoul(at + 1, NULL, 10);
}

/* --- batches --- */

static void posts_of_one_read_are_one_batch(void **state)
{
    struct gw gw = {0};
    struct bag out = {0};
    (void)state;
    gw_open(&gw);
    struct client *ws = watch(&gw, "/ws/news"), *http = client_open(&gw, CLIENT_HTTP);
    add_posts(&out, "/pub/news", 200, 128);
    int64_t batches = tl_metric_get(TL_M_BATCHES), in = tl_metric_get(TL_M_MESSAGES_IN);
    int64_t sends = tl_metric_get(TL_M_SENDS);
    client_send_bag(http, &out);
    GW_UNTIL(&gw, http->responses_n == 200 && ws->messages_n == 200);
    assert_int_equal(tl_metric_get(TL_M_MESSAGES_IN) - in, 200);
    /* A read is 8 or 64 KiB, and there may be several in a turn. */
    assert_true(tl_metric_get(TL_M_BATCHES) - batches <= 8);
    assert_true(tl_metric_get(TL_M_SENDS) - sends <= 8);
    assert_int_equal(place(http), 200);
    gw_close(&gw);
}

/* Turn until all is answered; the most that was published in one turn. */
static int64_t most_a_turn(struct gw *gw, const struct client *c, unsigned answers_n)
{
    int64_t most = 0;
    int64_t before = tl_metric_get(TL_M_MESSAGES_IN), now;
    for (; c->responses_n < answers_n; before = now) {
        assert_false(c->ended);
        gw_turn(gw, 1);
        now = tl_metric_get(TL_M_MESSAGES_IN);
        most = now - before > most ? now - before : most;
    }
    return most;
}

static void a_session_has_a_share_of_each_turn_only(void **state)
{
    static const struct {
        size_t posts_n, n;
        int64_t most;
    } cases[] = {
        {DUE_MAX - 1, 8, DUE_MAX - 1},
        {DUE_MAX, 8, DUE_MAX},
        {DUE_MAX + 1, 8, DUE_MAX},
        {1000, 8, DUE_MAX},
        {10, 40000, 2},
        {3, 65536, 1},
    };
    struct gw gw = {0};
    (void)state;
    gw_open(&gw);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client *c = client_open(&gw, CLIENT_HTTP);
        struct bag out = {0};
        add_posts(&out, "/pub/news", cases[i].posts_n, cases[i].n);
        client_send_bag(c, &out);
        assert_true(most_a_turn(&gw, c, (unsigned)cases[i].posts_n) <= cases[i].most);
        assert_int_equal(c->responses_n, cases[i].posts_n);
        assert_int_equal(c->status, 200);
        client_free(c);
    }
    gw_close(&gw);
}

static void who_does_not_read_its_answers_is_not_read_on(void **state)
{
    struct gw gw = {0};
    size_t sent = 0, before;
    (void)state;
    gw_open(&gw);
    gw.config.standard.log.msgs_max = 16;
    struct client *c = client_open(&gw, CLIENT_HTTP);
    int small = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->deaf = true;
    before = mallinfo2().uordblks;
    for (int idle = 0; idle < 300; idle++) {
        gw_turn(&gw, 0);
        if (c->out.n > 0)
            continue;
        struct bag out = {0};
        add_posts(&out, "/pub/news", 500, 8);
        client_send_bag(c, &out);
        sent += 500;
        idle = 0;
    }
    assert_true(mallinfo2().uordblks < before + c->out.cap + 600000);
    c->deaf = false;
    GW_UNTIL(&gw, c->responses_n >= 100); /* through such a small window all would take long */
    assert_true(sent > 1000);
    gw_close(&gw);
}

/* --- order --- */

/* Publishes, refused ones among them, and what is no publish. */
static unsigned add_medley(struct bag *out)
{
    add_posts(out, "/pub/news", 2, 20);
    bag_text(out, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add_post(out, "/pub/news", 2, 30);
    bag_text(out, "POST /pub/all HTTP/1.1\r\nHost: localhost\r\n\r\n"); /* a pattern: 403 */
    add_post(out, "/pub/news", 3, 40);
    bag_text(out, "GET /position/news HTTP/1.1\r\nHost: localhost\r\n\r\n"
                  "HEAD /channels/news HTTP/1.1\r\nHost: localhost\r\n\r\n"
                  "POST /pub/news HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "5\r\nhello\r\n0\r\n\r\n");
    add_post(out, "/pub/news", 4, 50);
    return 10;
}

static void read_whole(int fd, struct bag *in)
{
    uint8_t bytes[4096];
    for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
        bag_add(in, tl_bytes(bytes, (size_t)n));
}

static size_t count_of(const struct bag *bag, const char *text)
{
    size_t n = 0;
    for (const char *at = bag->p ? (const char *)bag->p : ""; (at = strstr(at, text)); at++)
        n++;
    return n;
}

static void answers_come_in_the_order_of_the_requests(void **state)
{
    static const char *const wanted[] = {
        "-1\"",         "-2\"", "healthy", "-3\"", "pattern channel", "-4\"", "{\"position\":\"",
        "HTTP/1.1 200", "-5\"", "-6\""};
    struct gw gw = {0};
    struct bag out = {0}, in = {0};
    (void)state;
    gw_open(&gw);
    struct client *ws = watch(&gw, "/ws/news"), *c = client_open(&gw, CLIENT_HTTP);
    c->deaf = true;
    unsigned n = add_medley(&out);
    client_send_bag(c, &out);
    shutdown(c->fd, SHUT_WR); /* and all are answered before it ends */
    GW_UNTIL(&gw, (read_whole(c->fd, &in), count_of(&in, "HTTP/1.1 ") == n));
    const char *at = (const char *)in.p;
    for (unsigned i = 0; i < n; i++) {
        at = strstr(at, wanted[i]);
        if (!at)
            fail_msg("answer %u is not in its place", i);
        at++;
    }
    GW_UNTIL(&gw, ws->messages_n == 6);
    bag_free(&in);
    gw_close(&gw);
}

static void the_last_request_ends_the_connection_behind_all_answers(void **state)
{
    static const char *const last[] = {
        "POST /pub/news HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "POST /pub/news HTTP/1.0\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /pub/news HTTP/1.1\r\nHost: a b\r\n\r\n",
        "POST /pub/news HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxy\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    };
    struct gw gw = {0};
    (void)state;
    gw_open(&gw);
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        struct client *c = client_open(&gw, CLIENT_HTTP);
        struct bag out = {0};
        add_posts(&out, "/pub/news", 5, 8);
        bag_text(&out, "%s", last[i]);
        add_posts(&out, "/pub/news", 5, 8); /* nobody reads these */
        client_send_bag(c, &out);
        GW_UNTIL(&gw, c->ended);
        assert_int_equal(c->responses_n, 6);
        assert_int_equal(c->error, 0);
        client_free(c);
    }
    gw_close(&gw);
}

/* --- memory --- */

static void any_failing_allocation_leaves_whole_answers_in_order(void **state)
{
    struct gw gw = {0};
    bool harm = true;
    (void)state;
    gw_open(&gw);
    gw.config.linger_ms = gw.config.history_ttl_ms = 10 * (uint64_t)DEADLINE_MS;
    for (int64_t i = 0; harm; i++) {
        struct bag out = {0};
        struct client *ws = watch(&gw, "/ws/news"), *c = client_open(&gw, CLIENT_HTTP);
        int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
        GW_UNTIL(&gw, tl_metric_get(TL_M_CONNECTIONS) == 2);
        add_posts(&out, "/pub/news", 4, 20);
        bag_text(&out, "POST /pub/all HTTP/1.1\r\nHost: localhost\r\n\r\n");
        add_post(&out, "/pub/news", 4, 20);
        tl_alloc_fail(i, 1);
        client_send_bag(c, &out);
        GW_UNTIL(&gw, c->ended || c->responses_n == 6);
        tl_alloc_fail(0, 0);
        harm = tl_metric_get(TL_M_REFUSED_MEMORY) > refusals;
        assert_int_equal(c->in.n, 0); /* no half an answer */
        if (!harm)
            assert_int_equal(c->responses_n, 6);
        assert_true(i < 1000);
        client_free(c);
        client_free(ws);
        GW_UNTIL(&gw, tl_metric_get(TL_M_CONNECTIONS) == 0);
    }
    gw.config.linger_ms = gw.config.history_ttl_ms = 1;
    gw_close(&gw);
}

/* --- the end --- */

static void the_end_answers_all_that_was_taken(void **state)
{
    (void)state;
    for (int turns = 0; turns < 2; turns++) {
        struct gw gw = {0};
        struct bag out = {0}, in = {0};
        gw_open(&gw);
        gw.config.drain_ms = 0;
        struct client *c = client_open(&gw, CLIENT_HTTP);
        GW_UNTIL(&gw, tl_metric_get(TL_M_CONNECTIONS) == 1);
        c->deaf = true;
        add_posts(&out, "/pub/news", 300, 8);
        int64_t published = tl_metric_get(TL_M_MESSAGES_IN);
        client_send_bag(c, &out);
        for (int i = 0; i < turns; i++)
            gw_turn(&gw, 0);
        tl_gateway_stop(gw.gateway);
        assert_int_equal(tl_gateway_run(gw.gateway), 0);
        published = tl_metric_get(TL_M_MESSAGES_IN) - published;
        read_whole(c->fd, &in);
        /* Each message is answered for, as done or as unknown; what was not read is no message. */
        assert_int_equal(count_of(&in, "HTTP/1.1 200") + count_of(&in, "is unknown"), published);
        assert_true(count_of(&in, "Connection: close") <= 1);
        bag_free(&in);
        clients_free(&gw);
        gw_free(&gw);
    }
}

static void the_end_finds_an_operator_who_asked(void **state)
{
    bool told = false;
    (void)state;
    for (int turns = 1; turns < 6 && !told; turns++) {
        struct gw gw = {0};
        struct bag in = {0};
        gw_open(&gw);
        gw.config.drain_ms = 0;
        struct client *c = client_open(&gw, CLIENT_HTTP);
        GW_UNTIL(&gw, tl_metric_get(TL_M_CONNECTIONS) == 1);
        c->deaf = true;
        client_send(c, TL_LIT("GET /channels/news HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        for (int i = 0; i < turns; i++)
            gw_turn(&gw, 0);
        tl_gateway_stop(gw.gateway);
        assert_int_equal(tl_gateway_run(gw.gateway), 0);
        read_whole(c->fd, &in);
        told = told || count_of(&in, "the gateway is going away") > 0;
        assert_int_equal(count_of(&in, "publish"), 0);
        bag_free(&in);
        clients_free(&gw);
        gw_free(&gw);
    }
    assert_true(told);
}

/* --- documents --- */

static void open_with_document(struct gw *gw, struct tl_document *document)
{
    uint8_t *bytes = malloc(DOCUMENT_N);
    assert_non_null(bytes);
    for (size_t i = 0; i < DOCUMENT_N; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    *document = (struct tl_document){TL_LIT("/big"), "text/plain", tl_bytes(bytes, DOCUMENT_N)};
    gw_config(&gw->config);
    gw->config.documents = document;
    gw->config.documents_n = 1;
    assert_int_equal(gw_try_open(gw), 0);
}

static void a_slow_reader_of_a_document_costs_no_memory(void **state)
{
    enum { READERS_N = 5 };
    static const char ask[] =
        "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n"
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct tl_document document;
    struct client *c[READERS_N];
    (void)state;
    struct gw gw = {0};
    open_with_document(&gw, &document);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < READERS_N; i++) {
        c[i] = client_open(&gw, CLIENT_HTTP);
        c[i]->deaf = true;
        client_send(c[i], tl_bytes(ask, sizeof ask - 1));
    }
    for (int i = 0; i < 50; i++)
        gw_turn(&gw, 1);
    assert_true(mallinfo2().uordblks < before + READERS_N * 8192);
    for (int i = 0; i < READERS_N; i++) {
        c[i]->deaf = false;
        GW_UNTIL(&gw, c[i]->responses_n == 1 || c[i]->ended);
        GW_UNTIL(&gw, c[i]->ended);
        assert_int_equal(c[i]->responses_n, 2);
        client_free(c[i]);
    }
    gw_close(&gw);
    free((void *)(uintptr_t)document.body.p);
}

static void a_document_comes_whole_or_as_its_head(void **state)
{
    struct tl_document document;
    struct bag out = {0}, in = {0};
    char length[40];
    (void)state;
    struct gw gw = {0};
    open_with_document(&gw, &document);
    struct client *c = client_open(&gw, CLIENT_HTTP);
    client_send(c, TL_LIT("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    GW_UNTIL(&gw, c->responses_n == 1);
    assert_true(tl_bytes_eq(tl_bytes(c->body.p, c->body.n), document.body));
    c->deaf = true;
    bag_text(&out, "HEAD /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client_send_bag(c, &out);
    GW_UNTIL(&gw, (read_whole(c->fd, &in), count_of(&in, "\r\n\r\n") == 1));
    for (int i = 0; i < 5; i++)
        gw_turn(&gw, 1);
    read_whole(c->fd, &in);
    snprintf(length, sizeof length, "Content-Length: %u\r\n", DOCUMENT_N);
    assert_int_equal(count_of(&in, length), 1);
    assert_memory_equal(in.p + in.n - 4, "\r\n\r\n", 4);
    bag_free(&in);
    gw_close(&gw);
    free((void *)(uintptr_t)document.body.p);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_one_read_are_one_batch),
        cmocka_unit_test(a_session_has_a_share_of_each_turn_only),
        cmocka_unit_test(who_does_not_read_its_answers_is_not_read_on),
        cmocka_unit_test(answers_come_in_the_order_of_the_requests),
        cmocka_unit_test(the_last_request_ends_the_connection_behind_all_answers),
        cmocka_unit_test(any_failing_allocation_leaves_whole_answers_in_order),
        cmocka_unit_test(the_end_answers_all_that_was_taken),
        cmocka_unit_test(the_end_finds_an_operator_who_asked),
        cmocka_unit_test(a_slow_reader_of_a_document_costs_no_memory),
        cmocka_unit_test(a_document_comes_whole_or_as_its_head),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
