#include "redis_fixture.h"

#include "base/metrics.h"
#include "broker/redis_sub.h"

static const struct tl_redis_options plain = {0};

static void a_subscription_is_confirmed_and_messages_come(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    ask(&t, true, TL_SOURCE_PATTERN, "tram_*");
    UNTIL(&t, t.confirmed == 2);
    server_say_str(server_peer(&t.server, 's'),
                   "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
                   "*4\r\n$8\r\npmessage\r\n$6\r\ntram_*\r\n$6\r\ntram_1\r\n$0\r\n\r\n");
    UNTIL(&t, t.messages == 2);
    assert_true(told(&t, "subscribed channel a ok \n"));
    assert_true(told(&t, "subscribed pattern tram_* ok \n"));
    assert_true(told(&t, "message channel a a \r\n\n"));
    assert_true(told(&t, "message pattern tram_* tram_1 \n"));
    ask(&t, false, TL_SOURCE_CHANNEL, "a");
    UNTIL(&t, t.unsubscribed == 1);
    assert_true(told(&t, "unsubscribed channel a\n"));
    setting_end(&t);
}

static void the_handshake_says_who_and_where(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, (struct tl_redis_options){.user = "u", .password = "secret", .db = 7});
    char name[64];
    snprintf(name, sizeof name, "CLIENT SETNAME tramline-%ld-sub\n", (long)getpid());
    assert_true(server_saw(&t.server, "AUTH u secret\nSELECT 7\nCLIENT SETNAME"));
    assert_true(server_saw(&t.server, name));
    assert_true(server_saw(&t.server, "-pub\nPING\n"));
    setting_end(&t);
    setting_up(&t, (struct tl_redis_options){.password = "secret"});
    assert_true(server_saw(&t.server, "AUTH secret\nCLIENT SETNAME"));
    setting_end(&t);
}

static void requests_of_one_turn_go_out_in_batches(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    unsigned before = t.server.commands;
    for (int i = 0; i < 1200; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        ask(&t, true, TL_SOURCE_CHANNEL, name);
    }
    UNTIL(&t, t.confirmed == 1200);
    assert_int_equal(t.server.commands - before, 3);
    setting_end(&t);
}

static void requests_for_one_name_keep_their_order(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    ask(&t, false, TL_SOURCE_CHANNEL, "a");
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    ask(&t, true, TL_SOURCE_PATTERN, "a");
    UNTIL(&t, t.confirmed == 3);
    assert_true(server_saw(&t.server, "SUBSCRIBE a\nUNSUBSCRIBE a\nSUBSCRIBE a\nPSUBSCRIBE a\n"));
    assert_true(told(&t, "subscribed channel a ok \nunsubscribed channel a\nsubscribed channel a "
                         "ok \nsubscribed pattern a ok \n"));
    setting_end(&t);
}

/* Refuses each SUBSCRIBE that names "forbidden", as Redis does: the whole of it. */
static bool refuse_forbidden(struct peer *p, redisReply *command)
{
    for (size_t i = 1; i < command->elements; i++)
        if (is_command(command, "SUBSCRIBE") && !strcmp(command->element[i]->str, "forbidden")) {
            tl_buf_printf(&p->out, "-%s\r\n", p->server->error);
            return true;
        }
    return false;
}

static void only_the_forbidden_name_of_a_batch_fails(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    t.server.script = refuse_forbidden;
    t.server.error = "NOPERM no permissions to access a channel";
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    ask(&t, true, TL_SOURCE_CHANNEL, "forbidden");
    ask(&t, true, TL_SOURCE_CHANNEL, "b");
    UNTIL(&t, t.confirmed == 2 && t.failed == 1);
    assert_true(told(&t, "subscribed channel forbidden denied NOPERM no permissions"));
    assert_true(server_saw(&t.server, "SUBSCRIBE a\nSUBSCRIBE forbidden\nSUBSCRIBE b\n"));
    t.server.error = "ERR something else";
    ask(&t, true, TL_SOURCE_CHANNEL, "forbidden");
    UNTIL(&t, t.failed == 2);
    assert_true(told(&t, "subscribed channel forbidden failed ERR something else"));
    assert_int_equal(t.downs, 0);
    setting_end(&t);
}

static void a_refused_batch_is_not_asked_again_behind_an_unsubscribe(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    t.server.hold = true;
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    ask(&t, true, TL_SOURCE_CHANNEL, "b");
    UNTIL(&t, server_saw(&t.server, "SUBSCRIBE a b\n"));
    ask(&t, false, TL_SOURCE_PATTERN, "b");
    ask(&t, false, TL_SOURCE_CHANNEL, "a");
    UNTIL(&t, server_saw(&t.server, "\nUNSUBSCRIBE a\n"));
    t.server.hold = false;
    server_say_str(server_peer(&t.server, 's'),
                   "-NOPERM no\r\n*3\r\n$12\r\npunsubscribe\r\n$1\r\nb\r\n:0\r\n"
                   "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
    UNTIL(&t, t.unsubscribed == 2 && t.confirmed == 1);
    assert_true(told(&t, "subscribed channel a failed overtaken"));
    assert_true(told(&t, "subscribed channel b ok"));
    assert_true(server_saw(&t.server, "\nUNSUBSCRIBE a\nSUBSCRIBE b\n"));
    setting_end(&t);
}

/* Refuses the command number `step` of each connection's handshake, twice in all. */
static bool refuse_step(struct peer *p, redisReply *command)
{
    static const char *const names[] = {"AUTH", "SELECT", "CLIENT", "PING"};
    if (p->server->step >= 8 || !is_command(command, names[p->server->step % 4]))
        return false;
    tl_buf_printf(&p->out, "-%s\r\n", p->server->error);
    p->server->step += 4;
    return true;
}

static void every_error_at_every_step_is_outlived(void **state)
{
    (void)state;
    static const char *const errors[] = {
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOPERM this user has no permissions to run the command",
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MOVED 3999 127.0.0.1:6381",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "ERR max number of clients reached",
        "ERR DB index is out of range",
        "ERR unknown command `AUTH`, with args beginning with: `secret`",
        "DENIED Redis is running in protected mode",
    };
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        for (unsigned step = 0; step < 4; step++) {
            struct setting t;
            setting_start(&t, (struct tl_redis_options){.password = "secret", .db = 1});
            t.server.script = refuse_step;
            t.server.error = errors[i];
            t.server.step = step;
            UNTIL(&t, t.broker->ops->is_up(t.broker));
            assert_int_equal(t.ups, 1);
            assert_int_equal(t.downs, 0);
            assert_false(told(&t, "secret"));
            setting_end(&t);
        }
}

static void an_authentication_error_waits_longer(void **state)
{
    (void)state;
    struct setting t;
    setting_start(&t, (struct tl_redis_options){.password = "x", .auth_retry_ms = 120});
    t.server.script = refuse_step;
    t.server.error = "WRONGPASS no";
    uint64_t began = tl_clock_ms();
    UNTIL(&t, t.broker->ops->is_up(t.broker));
    assert_true(tl_clock_ms() - began >= 110);
    assert_int_equal(t.server.accepted, 4);
    setting_end(&t);
}

static void a_refusing_server_is_tried_for_ever(void **state)
{
    (void)state;
    struct setting t;
    setting_start(&t, plain);
    t.server.refuse = true;
    UNTIL(&t, t.server.accepted >= 14);
    t.server.refuse = false;
    UNTIL(&t, t.broker->ops->is_up(t.broker));
    setting_end(&t);
}

static void a_lost_link_forgets_and_comes_again(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    int64_t losses = tl_metric_get(TL_M_BROKER_LOSSES);
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    UNTIL(&t, t.confirmed == 1);
    server_drop(server_peer(&t.server, 's'));
    t.server.hold = true;
    ask(&t, true, TL_SOURCE_CHANNEL, "forgotten");
    UNTIL(&t, t.downs == 1);
    assert_true(told(&t, "down closed by Redis\n"));
    assert_false(t.broker->ops->is_up(t.broker));
    ask(&t, true, TL_SOURCE_CHANNEL, "while down");
    t.server.hold = false;
    UNTIL(&t, t.ups == 2 && t.broker->ops->is_up(t.broker));
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    UNTIL(&t, t.confirmed == 2);
    assert_false(server_saw(&t.server, "while down"));
    assert_int_equal(tl_metric_get(TL_M_BROKER_LOSSES), losses + 1);
    setting_end(&t);
}

/* Bytes on the subscriber's link that must lose it, for this reason. */
static void expect_loss(const char *bytes, bool then_close, const char *reason)
{
    struct setting t;
    setting_up(&t, plain);
    struct peer *p = server_peer(&t.server, 's');
    server_say_str(p, bytes);
    UNTIL(&t, p->out.n == 0);
    if (then_close)
        server_drop(p);
    UNTIL(&t, t.downs == 1);
    if (!told(&t, reason))
        fail_msg("%s: %.*s", reason, (int)t.told.n, (char *)t.told.p);
    UNTIL(&t, t.ups == 2);
    setting_end(&t);
}

static void nonsense_loses_the_link_and_is_named(void **state)
{
    (void)state;
    expect_loss("HTTP/1.1 400\r\n", false, "down protocol error: not a RESP type\n");
    expect_loss("*4294967297\r\n", false, "down protocol error: too many elements\n");
    expect_loss(":1\r\n", false, "down protocol error: not an answer to SUBSCRIBE\n");
    expect_loss("*0\r\n", false, "down protocol error: an answer to nothing\n");
    expect_loss("*1\r\n$7\r\nmessage\r\n", false, "down protocol error: an answer to nothing\n");
    expect_loss("*3\r\n$7\r\nmessage\r\n:1\r\n:1\r\n", false, "down protocol error: not a message");
    expect_loss("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", false, "confirmation out of order\n");
    expect_loss("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$10\r\nabc", true,
                "down closed by Redis in the middle of an answer\n");
    expect_loss("-ERR max number of clients reached\r\n", true,
                "down closed by Redis: ERR max number of clients reached\n");
}

static void being_cut_off_in_a_flood_names_the_likely_limit(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    struct peer *p = server_peer(&t.server, 's');
    for (int i = 0; i < 20000; i++)
        server_say_str(p, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n");
    server_say_str(p, "*3\r\n$7\r\nmess");
    UNTIL(&t, p->out.n == 0);
    server_drop(p);
    UNTIL(&t, t.downs == 1);
    assert_int_equal(t.messages, 20000);
    assert_true(told(&t, "client-output-buffer-limit pubsub"));
    setting_end(&t);
}

static void silence_loses_the_link_and_a_ping_prevents_it(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, (struct tl_redis_options){.ping_ms = 20, .dead_ms = 200000});
    uint64_t began = tl_clock_ms();
    unsigned before = t.server.commands;
    UNTIL(&t, t.server.commands >= before + 10); /* on both links */
    ask(&t, true, TL_SOURCE_CHANNEL, "a");       /* and once more with its other answer */
    UNTIL(&t, t.server.commands >= before + 20);
    assert_true(tl_clock_ms() - began >= 60);
    assert_int_equal(t.downs, 0);
    setting_end(&t);

    setting_up(&t, (struct tl_redis_options){.ping_ms = 20, .dead_ms = 80});
    t.server.mute = true;
    UNTIL(&t, t.downs == 1);
    assert_true(told(&t, "down silent for 80 ms\n"));
    t.server.mute = false;
    UNTIL(&t, t.ups == 2);
    setting_end(&t);
}

static bool refuse_ping(struct peer *p, redisReply *command)
{
    if (!is_command(command, "PING") || p->server->step > 0)
        return false;
    tl_buf_printf(&p->out, "-%s\r\n", p->server->error);
    p->server->step += p->role == 's';
    return true;
}

static void a_ping_refused_for_loading_is_a_loss_but_noperm_is_life(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, (struct tl_redis_options){.ping_ms = 20, .dead_ms = 200000});
    t.server.script = refuse_ping;
    t.server.error = "MASTERDOWN Link with MASTER is down";
    UNTIL(&t, t.downs == 1);
    assert_true(told(&t, "down PING refused: MASTERDOWN Link with MASTER is down\n"));
    UNTIL(&t, t.broker->ops->is_up(t.broker));
    t.server.error = "NOPERM no";
    t.server.step = 0;
    UNTIL(&t, t.server.step == 1);
    unsigned before = t.server.commands;
    UNTIL(&t, t.server.commands > before + 4);
    assert_int_equal(t.downs, 1);
    setting_end(&t);
}

static void an_oversize_message_is_dropped_and_told(void **state)
{
    (void)state;
    struct setting t;
    struct tl_buf big = {0};
    setting_up(&t, (struct tl_redis_options){.max_message = 100});
    struct peer *p = server_peer(&t.server, 's');
    int64_t before = tl_metric_get(TL_M_MESSAGES_OVERSIZE);
    for (size_t i = 0; i < 3; i++) {
        size_t n = (const size_t[]){100, 101, 3000000}[i];
        tl_buf_printf(&big, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%zu\r\n", n);
        for (size_t j = 0; j < n; j++)
            tl_buf_byte(&big, 'x');
        tl_buf_str(&big, "\r\n");
    }
    tl_buf_str(&big, "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$300\r\n");
    for (int j = 0; j < 300; j++)
        tl_buf_byte(&big, 'n');
    tl_buf_str(&big, "\r\n$1\r\nx\r\n");
    server_say(p, tl_buf_bytes(&big));
    UNTIL(&t, t.dropped == 3);
    assert_int_equal(t.messages, 1);
    assert_int_equal(t.message_bytes, 100);
    assert_true(told(&t, "dropped channel a\ndropped channel a\ndropped pattern *\n"));
    assert_int_equal(tl_metric_get(TL_M_MESSAGES_OVERSIZE), before + 3);
    assert_int_equal(t.downs, 0);
    tl_buf_deinit(&big);
    setting_end(&t);
}

static bool refuse_publish(struct peer *p, redisReply *command)
{
    if (!is_command(command, "PUBLISH") || strcmp(command->element[1]->str, "ok") == 0)
        return false;
    tl_buf_printf(&p->out, "-%s\r\n", command->element[2]->str);
    return true;
}

static void publishes_are_answered_in_order(void **state)
{
    (void)state;
    struct setting t;
    struct post a, b, c;
    setting_up(&t, plain);
    t.server.script = refuse_publish;
    post(&t, &a, "no", TL_LIT("NOPERM this user\1"));
    post(&t, &b, "ok", TL_LIT(""));
    post(&t, &c, "no", TL_LIT("READONLY a replica"));
    UNTIL(&t, a.ended && b.ended && c.ended);
    assert_int_equal(a.publish.status, TL_BROKER_DENIED);
    assert_string_equal(a.publish.error, "NOPERM this user?");
    assert_int_equal(b.publish.status, TL_BROKER_OK);
    assert_int_equal(b.publish.receivers, 3);
    assert_int_equal(c.publish.status, TL_BROKER_FAILED);
    assert_string_equal(c.publish.error, "READONLY a replica");
    setting_end(&t);
}

static void a_lost_publish_is_unknown_and_one_while_down_refused(void **state)
{
    (void)state;
    struct setting t;
    struct post sent, waiting, late;
    struct tl_bytes big = tl_bytes(calloc(1, 32 << 20), 32 << 20);
    setting_up(&t, plain);
    t.server.hold = true;
    post(&t, &sent, "a", TL_LIT("x"));
    UNTIL(&t, server_saw(&t.server, "PUBLISH a x\n"));
    server_peer(&t.server, 'p')->deaf = true;
    post(&t, &waiting, "b", big);
    for (int i = 0; i < 10; i++)
        turn(&t);
    server_drop(server_peer(&t.server, 'p'));
    UNTIL(&t, sent.ended && waiting.ended);
    assert_int_equal(sent.publish.status, TL_BROKER_UNKNOWN);
    assert_false(sent.while_ready);
    assert_int_equal(waiting.publish.status, TL_BROKER_DOWN);
    post(&t, &late, "c", TL_LIT("x"));
    UNTIL(&t, late.ended);
    assert_int_equal(late.publish.status, TL_BROKER_DOWN);
    assert_int_equal(t.downs, 0);
    UNTIL(&t, t.broker->ops->is_up(t.broker));
    t.server.hold = false;
    post(&t, &late, "c", TL_LIT("x"));
    UNTIL(&t, late.ended);
    assert_int_equal(late.publish.status, TL_BROKER_OK);
    assert_true(late.while_ready);
    setting_end(&t);
    void *p;
    memcpy(&p, &big.p, sizeof p);
    free(p);
}

static bool check_big(struct peer *p, redisReply *command)
{
    (void)p;
    if (!is_command(command, "PUBLISH") || command->element[2]->len < 1000)
        return false;
    for (size_t i = 0; i < (size_t)command->element[2]->len; i++)
        assert_int_equal((uint8_t)command->element[2]->str[i], (uint8_t)(i * 7 >> 3));
    return false;
}

static void big_and_small_payloads_arrive_whole(void **state)
{
    (void)state;
    enum { N = 5000000 };
    struct setting t;
    static struct post posts[60];
    struct tl_buf big = {0};
    for (size_t i = 0; i < N; i++)
        tl_buf_byte(&big, (uint8_t)(i * 7 >> 3));
    setting_up(&t, (struct tl_redis_options){.ping_ms = 1, .dead_ms = 200000});
    t.server.script = check_big;
    for (size_t i = 0; i < 60; i++) {
        static const size_t sizes[] = {N, 0, 65535, 65536, 1, 65400, 65491, 65492, 65493, 200000};
        post(&t, &posts[i], "a", tl_bytes(big.p, i < 10 ? sizes[i] : 65480 + i));
    }
    UNTIL(&t, posts[59].ended);
    for (size_t i = 0; i < 60; i++)
        assert_int_equal(posts[i].publish.status, TL_BROKER_OK);
    tl_buf_deinit(&big);
    setting_end(&t);
}

static void too_many_waiting_publishes_are_refused(void **state)
{
    (void)state;
    struct setting t;
    struct post *posts = calloc(TL_REDIS_PUBLISHES_MAX + 1, sizeof *posts);
    assert_non_null(posts);
    setting_up(&t, plain);
    t.server.hold = true;
    for (size_t i = 0; i < TL_REDIS_PUBLISHES_MAX + 1; i++)
        post(&t, &posts[i], "a", TL_LIT("x"));
    UNTIL(&t, posts[TL_REDIS_PUBLISHES_MAX].ended);
    assert_int_equal(posts[TL_REDIS_PUBLISHES_MAX].publish.status, TL_BROKER_FULL);
    assert_false(posts[TL_REDIS_PUBLISHES_MAX - 1].ended);
    setting_end(&t); /* completes the others */
    for (size_t i = 0; i < TL_REDIS_PUBLISHES_MAX; i++)
        assert_true(posts[i].ended && posts[i].publish.status != TL_BROKER_OK);

    struct post big, one, more;
    struct tl_bytes half = tl_bytes(posts, TL_REDIS_PUBLISHES_MAX * sizeof *posts);
    setting_up(&t, plain);
    t.server.hold = true;
    size_t most = TL_REDIS_PUBLISH_BYTES_MAX;
    uint8_t *bytes = calloc(1, most);
    post(&t, &big, "a", tl_bytes(bytes, most - 1));
    post(&t, &one, "a", tl_bytes(half.p, 1));
    post(&t, &more, "a", tl_bytes(half.p, 1));
    UNTIL(&t, more.ended);
    assert_int_equal(more.publish.status, TL_BROKER_FULL);
    assert_false(one.ended);
    setting_end(&t);
    free(bytes);
    free(posts);
}

static void ask_from_event(struct setting *t)
{
    if (t->events == 1)
        for (int i = 0; i < 3; i++)
            ask(t, true, TL_SOURCE_CHANNEL, (const char *[]){"a", "b", "c"}[i]);
    if (t->confirmed == 2 && t->unsubscribed == 0 && t->events == 3)
        ask(t, false, TL_SOURCE_CHANNEL, "a");
}

static void the_hub_may_ask_from_its_events(void **state)
{
    (void)state;
    struct setting t;
    setting_start(&t, plain);
    t.on_event = ask_from_event;
    UNTIL(&t, t.unsubscribed == 1 && t.confirmed == 3);
    setting_end(&t);
}

static void stop_from_event(struct setting *t)
{
    if (t->messages == 1)
        t->broker->ops->stop(t->broker);
    assert_true(t->messages < 2);
}

static void the_hub_may_stop_the_broker_from_an_event(void **state)
{
    (void)state;
    struct setting t;
    setting_up(&t, plain);
    t.on_event = stop_from_event;
    for (int i = 0; i < 5; i++)
        server_say_str(server_peer(&t.server, 's'),
                       "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
    UNTIL(&t, t.messages == 1);
    for (int i = 0; i < 5; i++)
        turn(&t);
    setting_end(&t);
}

static void subscribe_anew(struct setting *t)
{
    if (t->ups > t->downs && t->confirmed == 0)
        ask(t, true, TL_SOURCE_CHANNEL, "a");
}

static void any_failed_allocation_is_outlived(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 60; i++) {
        struct setting t;
        struct post p;
        setting_start(&t, plain);
        for (int j = 0; j < 20; j++)
            server_step(&t.server);
        for (int j = 0; j < 30; j++) {
            server_step(&t.server);
            tl_buf_reserve(&t.told, 4096) == 0 ? (void)0 : fail();
            tl_alloc_fail(i, 3);
            tl_loop_turn(t.loop, 1);
            if (j % 5 == 4)
                subscribe_anew(&t);
            tl_alloc_fail(0, 0);
        }
        UNTIL(&t, t.broker->ops->is_up(t.broker));
        t.confirmed = 0;
        post(&t, &p, "a", TL_LIT("x"));
        ask(&t, true, TL_SOURCE_CHANNEL, "later");
        UNTIL(&t, p.ended && t.confirmed >= 1);
        setting_end(&t);
    }
}

static void without_memory_there_is_no_broker(void **state)
{
    (void)state;
    struct server s;
    int error;
    server_init(&s);
    struct tl_loop *loop = tl_loop_new(test_engine->engine, &error);
    for (int64_t i = 0; i < 4; i++) {
        tl_alloc_fail(i, 1);
        assert_null(
            tl_redis_new(loop, &(struct tl_redis_options){
                                   .host = "127.0.0.1", .port = 1, .user = "u", .password = "p"}));
        tl_alloc_fail(0, 0);
    }
    tl_loop_free(loop);
    server_deinit(&s);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subscription_is_confirmed_and_messages_come),
        cmocka_unit_test(the_handshake_says_who_and_where),
        cmocka_unit_test(requests_of_one_turn_go_out_in_batches),
        cmocka_unit_test(requests_for_one_name_keep_their_order),
        cmocka_unit_test(only_the_forbidden_name_of_a_batch_fails),
        cmocka_unit_test(a_refused_batch_is_not_asked_again_behind_an_unsubscribe),
        cmocka_unit_test(every_error_at_every_step_is_outlived),
        cmocka_unit_test(an_authentication_error_waits_longer),
        cmocka_unit_test(a_refusing_server_is_tried_for_ever),
        cmocka_unit_test(a_lost_link_forgets_and_comes_again),
        cmocka_unit_test(nonsense_loses_the_link_and_is_named),
        cmocka_unit_test(being_cut_off_in_a_flood_names_the_likely_limit),
        cmocka_unit_test(silence_loses_the_link_and_a_ping_prevents_it),
        cmocka_unit_test(a_ping_refused_for_loading_is_a_loss_but_noperm_is_life),
        cmocka_unit_test(an_oversize_message_is_dropped_and_told),
        cmocka_unit_test(publishes_are_answered_in_order),
        cmocka_unit_test(a_lost_publish_is_unknown_and_one_while_down_refused),
        cmocka_unit_test(big_and_small_payloads_arrive_whole),
        cmocka_unit_test(too_many_waiting_publishes_are_refused),
        cmocka_unit_test(the_hub_may_ask_from_its_events),
        cmocka_unit_test(the_hub_may_stop_the_broker_from_an_event),
        cmocka_unit_test(any_failed_allocation_is_outlived),
        cmocka_unit_test(without_memory_there_is_no_broker),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
