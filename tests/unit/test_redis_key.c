/* The Redis broker that reads keys: in order, over losses, and never before what was published. */
#include "redis_fixture.h"

/* A fetch that writes down how it ended. */
struct get {
    struct tl_fetch fetch;
    struct setting *setting;
    bool has_value, ended;
    struct tl_buf value;
    unsigned messages; /* that had come when it ended */
};

static void on_value(struct tl_fetch *fetch, struct tl_bytes value)
{
    struct get *get = TL_CONTAINER(fetch, struct get, fetch);
    assert_false(get->has_value || get->ended || get->setting->inside);
    get->has_value = true;
    tl_buf_append(&get->value, value);
}

static void on_fetched(struct tl_fetch *fetch)
{
    struct get *get = TL_CONTAINER(fetch, struct get, fetch);
    assert_false(get->ended);
    get->ended = true;
    get->messages = get->setting->messages;
}

static void fetch(struct setting *t, struct get *get, const char *key)
{
    *get = (struct get){.setting = t};
    get->fetch.key = tl_bytes_str(key);
    get->fetch.on_value = on_value;
    get->fetch.on_fetched = on_fetched;
    t->inside = true;
    t->broker->ops->fetch(t->broker, &get->fetch);
    t->inside = false;
    assert_false(get->ended);
}

static bool is(const struct get *get, const char *value)
{
    return get->ended && get->has_value && get->fetch.status == TL_BROKER_OK &&
           tl_bytes_eq(tl_buf_bytes(&get->value), tl_bytes_str(value));
}

static void get_end(struct get *get)
{
    tl_buf_deinit(&get->value);
}

/* GET answers what the key is called; some names mean something. */
static bool answer_get(struct peer *p, redisReply *command)
{
    if (!is_command(command, "GET"))
        return false;
    const char *key = command->element[1]->str;
    if (strcmp(key, "hold") == 0)
        return true;
    if (strcmp(key, "list") == 0)
        server_say_str(p, "-WRONGTYPE Operation against a key\r\n");
    else if (strcmp(key, "forbidden") == 0)
        server_say_str(p, "-NOPERM no access\r\n");
    else if (strcmp(key, "missing") == 0)
        server_say_str(p, "$-1\r\n");
    else if (strcmp(key, "nonsense") == 0)
        server_say_str(p, ":7\r\n");
    else if (key[0] >= '0' && key[0] <= '9') {
        tl_buf_printf(&p->out, "$%s\r\n", key);
        for (int i = atoi(key); i > 0; i--)
            tl_buf_byte(&p->out, 'x');
        server_say_str(p, "\r\n");
    } else
        tl_buf_printf(&p->out, "$%zu\r\n%s\r\n", strlen(key), key);
    return true;
}

static void up_with(struct setting *t, uint32_t ping_ms)
{
    setting_start(t, (struct tl_redis_options){
                         .keys = true, .max_message = 5000, .ping_ms = ping_ms, .dead_ms = 60000});
    t->server.script = answer_get;
    UNTIL(t, t->broker->ops->is_up(t->broker) && server_saw(&t->server, "-key\nPING\n"));
}

static void up(struct setting *t)
{
    up_with(t, 50000);
}

static void keys_are_read_in_order_and_each_for_itself(void **state)
{
    static const char *const keys[] = {"a", "missing", "list", "b", "forbidden", "c"};
    struct setting t;
    struct get gets[6];
    (void)state;
    up(&t);
    for (int i = 0; i < 6; i++)
        fetch(&t, &gets[i], keys[i]);
    for (int i = 0; i < 6; i++)
        UNTIL(&t, gets[i].ended);
    assert_true(is(&gets[0], "a") && is(&gets[3], "b") && is(&gets[5], "c"));
    assert_true(!gets[1].has_value && gets[1].fetch.status == TL_BROKER_OK);
    assert_true(!gets[2].has_value && gets[2].fetch.status == TL_BROKER_FAILED);
    assert_true(!gets[4].has_value && gets[4].fetch.status == TL_BROKER_DENIED);
    assert_true(
        server_saw(&t.server, "GET a\nGET missing\nGET list\nGET b\nGET forbidden\nGET c\n"));
    for (int i = 0; i < 6; i++)
        get_end(&gets[i]);
    setting_end(&t);
}

static void a_value_is_as_big_as_a_message_at_most(void **state)
{
    static const char *const sizes[] = {"4999", "5000", "5001", "100000"};
    struct setting t;
    (void)state;
    up(&t);
    for (int i = 0; i < 4; i++) {
        struct get get;
        fetch(&t, &get, sizes[i]);
        UNTIL(&t, get.ended);
        assert_int_equal(get.has_value, i < 2);
        assert_int_equal(get.fetch.status, i < 2 ? TL_BROKER_OK : TL_BROKER_FAILED);
        get_end(&get);
    }
    setting_end(&t);
}

static void what_a_lost_link_did_not_answer_is_asked_again(void **state)
{
    struct setting t;
    struct get gets[3];
    (void)state;
    up(&t);
    t.server.script = NULL;
    t.server.mute = true;
    fetch(&t, &gets[0], "a");
    fetch(&t, &gets[1], "b");
    UNTIL(&t, server_saw(&t.server, "GET b\n"));
    server_drop(server_peer(&t.server, 'k'));
    t.server.mute = false;
    t.server.script = answer_get;
    fetch(&t, &gets[2], "c");
    UNTIL(&t, gets[2].ended);
    assert_true(is(&gets[0], "a") && is(&gets[1], "b") && is(&gets[2], "c"));
    assert_int_equal(t.downs, 0); /* nobody else is concerned */
    for (int i = 0; i < 3; i++)
        get_end(&gets[i]);
    setting_end(&t);
}

static void nonsense_loses_the_link_and_the_next_one_answers(void **state)
{
    struct setting t;
    struct get get;
    (void)state;
    up(&t);
    unsigned accepted = t.server.accepted;
    fetch(&t, &get, "nonsense");
    UNTIL(&t, t.server.accepted > accepted + 1);
    assert_false(get.ended);
    assert_int_equal(t.downs, 0);
    setting_end(&t);
    assert_true(get.ended && get.fetch.status == TL_BROKER_DOWN);
    get_end(&get);
}

/* PINGs of the subscriber's link wait until the test says so. */
static bool hold_pings(struct peer *p, redisReply *command)
{
    if (p->role == 's' && is_command(command, "PING")) {
        p->server->step++;
        return true;
    }
    return answer_get(p, command);
}

static void a_value_waits_for_what_was_published_before_it(void **state)
{
    struct setting t;
    struct get first, second;
    (void)state;
    up(&t);
    ask(&t, true, TL_SOURCE_CHANNEL, "a");
    UNTIL(&t, t.confirmed == 1);
    t.server.script = hold_pings;
    fetch(&t, &first, "x");
    UNTIL(&t, first.has_value && t.server.step == 1);
    /* The PING on its way was sent before this key is read: it needs another one. */
    fetch(&t, &second, "y");
    UNTIL(&t, second.has_value);
    struct peer *sub = server_peer(&t.server, 's');
    server_say_str(sub, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n");
    UNTIL(&t, t.messages == 1);
    assert_false(first.ended || second.ended);
    server_say_str(sub, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    UNTIL(&t, first.ended && t.server.step == 2);
    assert_false(second.ended);
    server_say_str(sub, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n2\r\n"
                        "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    UNTIL(&t, second.ended);
    assert_true(is(&first, "x") && is(&second, "y"));
    assert_int_equal(first.messages, 1);
    assert_int_equal(second.messages, 2);
    get_end(&first);
    get_end(&second);
    setting_end(&t);
}

static void nobody_waits_for_a_subscriber_link_that_is_lost(void **state)
{
    struct setting t;
    struct get get;
    (void)state;
    up(&t);
    t.server.script = hold_pings;
    fetch(&t, &get, "x");
    UNTIL(&t, get.has_value && t.server.step == 1);
    server_drop(server_peer(&t.server, 's'));
    UNTIL(&t, get.ended);
    assert_true(is(&get, "x"));
    get_end(&get);
    setting_end(&t);
}

static void who_waits_when_the_broker_stops_is_told(void **state)
{
    struct setting t;
    struct get gets[2];
    (void)state;
    up(&t);
    t.server.script = hold_pings;
    fetch(&t, &gets[0], "settles");
    UNTIL(&t, gets[0].has_value);
    fetch(&t, &gets[1], "hold");
    UNTIL(&t, server_saw(&t.server, "GET hold\n"));
    setting_end(&t);
    assert_true(gets[0].ended && gets[1].ended);
    assert_int_equal(gets[1].fetch.status, TL_BROKER_DOWN);
    get_end(&gets[0]);
}

static void too_many_waiting_keys_are_refused(void **state)
{
    struct setting t;
    (void)state;
    struct get *gets = tl_zalloc((TL_REDIS_FETCHES_MAX + 1) * sizeof *gets);
    assert_non_null(gets);
    up(&t);
    for (size_t i = 0; i <= TL_REDIS_FETCHES_MAX; i++)
        fetch(&t, &gets[i], "k");
    UNTIL(&t, gets[TL_REDIS_FETCHES_MAX].ended);
    assert_int_equal(gets[TL_REDIS_FETCHES_MAX].fetch.status, TL_BROKER_FULL);
    UNTIL(&t, gets[TL_REDIS_FETCHES_MAX - 1].ended);
    for (size_t i = 0; i < TL_REDIS_FETCHES_MAX; i++) {
        assert_true(is(&gets[i], "k"));
        get_end(&gets[i]);
    }
    setting_end(&t);
    tl_free(gets);
}

static void any_failed_allocation_is_outlived(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 60; i++) {
        struct setting t;
        struct get gets[3];
        up_with(&t, 20);
        for (int k = 0; k < 3; k++)
            fetch(&t, &gets[k], k == 1 ? "4000" : "key");
        for (int k = 0; k < 3; k++)
            assert_int_equal(tl_buf_reserve(&gets[k].value, 5000), 0);
        for (int n = 0; n < 10; n++) {
            server_step(&t.server);
            tl_alloc_fail(i, 2);
            tl_loop_turn(t.loop, 1);
            tl_alloc_fail(0, 0);
        }
        for (int k = 0; k < 3; k++) {
            UNTIL(&t, gets[k].ended);
            assert_true(gets[k].fetch.status == TL_BROKER_OK);
            get_end(&gets[k]);
        }
        setting_end(&t);
    }
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_read_in_order_and_each_for_itself),
        cmocka_unit_test(a_value_is_as_big_as_a_message_at_most),
        cmocka_unit_test(what_a_lost_link_did_not_answer_is_asked_again),
        cmocka_unit_test(nonsense_loses_the_link_and_the_next_one_answers),
        cmocka_unit_test(a_value_waits_for_what_was_published_before_it),
        cmocka_unit_test(nobody_waits_for_a_subscriber_link_that_is_lost),
        cmocka_unit_test(who_waits_when_the_broker_stops_is_told),
        cmocka_unit_test(too_many_waiting_keys_are_refused),
        cmocka_unit_test(any_failed_allocation_is_outlived),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
