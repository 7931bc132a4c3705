/*
 * The embedded broker behind its interface: are requests confirmed in order, publishes delivered
 * and answered, never from inside a call, and is want of memory said?
 */
#include "loop_fixture.h"

#include "base/alloc.h"
#include "broker/memory.h"

#include <stdio.h>

struct setting {
    struct tl_loop *loop;
    struct tl_broker *broker;
    char told[2000];
    bool inside;      /* in a call of the interface: no event may come */
    bool is_full;     /* on_message finds no memory */
    unsigned answers; /* to publishes */
    enum tl_broker_status status;
};

static struct setting now;

static void tell(const char *what, enum tl_source_kind kind, struct tl_bytes name)
{
    size_t n = strlen(now.told);
    assert_false(now.inside);
    snprintf(now.told + n, sizeof now.told - n, "%s %s%.*s; ", what,
             kind == TL_SOURCE_PATTERN ? "*" : "", (int)name.n, (const char *)name.p);
}

static void on_link(void *hub, enum tl_source_kind kind, bool up, const char *reason)
{
    (void)hub;
    fail_msg("link %d %d %s", kind, up, reason);
}

static void on_subscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name,
                          enum tl_broker_status status, const char *reason)
{
    assert_ptr_equal(hub, &now);
    assert_int_equal(status, TL_BROKER_OK);
    assert_string_equal(reason, "");
    tell("subscribed", kind, name);
}

static void on_unsubscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name)
{
    assert_ptr_equal(hub, &now);
    tell("unsubscribed", kind, name);
}

static bool on_message(void *hub, enum tl_source_kind kind, struct tl_bytes source,
                       struct tl_bytes name, struct tl_bytes payload)
{
    assert_ptr_equal(hub, &now);
    if (kind == TL_SOURCE_CHANNEL)
        assert_true(tl_bytes_eq(source, name));
    tell("message of", kind, source);
    tell("  it is", TL_SOURCE_CHANNEL, payload);
    return !now.is_full;
}

static void on_dropped(void *hub, enum tl_source_kind kind, struct tl_bytes source)
{
    (void)hub;
    (void)kind;
    (void)source;
    fail();
}

static const struct tl_broker_events events = {
    .on_link = on_link,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_message = on_message,
    .on_dropped = on_dropped,
};

static void on_published(struct tl_publish *publish)
{
    assert_false(now.inside);
    now.status = publish->status;
    now.answers++;
}

static int setup(void **state)
{
    int error = 0;
    (void)state;
    now = (struct setting){.loop = tl_loop_new(TL_ENGINE_AUTO, &error)};
    assert_non_null(now.loop);
    now.broker = tl_memory_new(now.loop);
    assert_non_null(now.broker);
    now.broker->events = &events;
    now.broker->hub = &now;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    now.broker->ops->free(now.broker);
    tl_loop_free(now.loop);
    return 0;
}

static int ask(bool subscribe, enum tl_source_kind kind, const char *name)
{
    const struct tl_broker_ops *ops = now.broker->ops;
    now.inside = true;
    int r = subscribe ? ops->subscribe(now.broker, kind, tl_bytes_str(name))
                      : ops->unsubscribe(now.broker, kind, tl_bytes_str(name));
    now.inside = false;
    return r;
}

static void publish(struct tl_publish *p, const char *name, const char *payload)
{
    *p = (struct tl_publish){
        .name = tl_bytes_str(name), .payload = tl_bytes_str(payload), .on_published = on_published};
    now.inside = true;
    now.broker->ops->publish(now.broker, p);
    now.inside = false;
}

static void assert_told(const char *told)
{
    tl_loop_turn(now.loop, 0);
    assert_string_equal(now.told, told);
    now.told[0] = 0;
}

static void it_is_a_source_and_always_up(void **state)
{
    (void)state;
    assert_true(now.broker->ops->is_source);
    assert_true(now.broker->ops->is_up(now.broker));
    assert_string_equal(now.broker->ops->name, "memory");
}

static void requests_are_confirmed_later_and_in_their_order(void **state)
{
    (void)state;
    assert_int_equal(ask(true, TL_SOURCE_CHANNEL, "a"), 0);
    assert_int_equal(ask(true, TL_SOURCE_PATTERN, "a*"), 0);
    assert_int_equal(ask(false, TL_SOURCE_CHANNEL, "a"), 0);
    assert_int_equal(ask(true, TL_SOURCE_CHANNEL, "a"), 0);
    assert_told("subscribed a; subscribed *a*; unsubscribed a; subscribed a; ");
}

static void a_publish_goes_to_its_channel_and_to_the_patterns_that_match(void **state)
{
    struct tl_publish p[2];
    (void)state;
    assert_int_equal(ask(true, TL_SOURCE_PATTERN, "a*"), 0);
    assert_int_equal(ask(true, TL_SOURCE_PATTERN, "b*"), 0);
    assert_told("subscribed *a*; subscribed *b*; ");
    publish(&p[0], "abc", "one");
    publish(&p[1], "xyz", "");
    assert_told(
        "message of abc;   it is one; message of *a*;   it is one; message of xyz;   it is ; ");
    assert_int_equal(now.answers, 2);
    assert_int_equal(now.status, TL_BROKER_OK);
    assert_int_equal(ask(false, TL_SOURCE_PATTERN, "a*"), 0);
    publish(&p[0], "abc", "two");
    assert_told("unsubscribed *a*; message of abc;   it is two; ");
}

static void a_message_that_found_no_memory_was_not_published_to_anybody(void **state)
{
    struct tl_publish p;
    (void)state;
    assert_int_equal(ask(true, TL_SOURCE_PATTERN, "a*"), 0);
    assert_told("subscribed *a*; ");
    now.is_full = true;
    publish(&p, "abc", "one");
    assert_told("message of abc;   it is one; ");
    assert_int_equal(now.answers, 1);
    assert_int_equal(now.status, TL_BROKER_FULL);
}

static void a_stopped_broker_answers_what_waits_and_confirms_nothing(void **state)
{
    struct tl_publish p;
    (void)state;
    assert_int_equal(ask(true, TL_SOURCE_CHANNEL, "a"), 0);
    publish(&p, "a", "one");
    now.broker->ops->stop(now.broker);
    assert_int_equal(now.answers, 1);
    assert_int_equal(now.status, TL_BROKER_DOWN);
    assert_told("");
}

static void without_memory_nothing_is_subscribed_and_that_is_said(void **state)
{
    struct tl_publish p;
    (void)state;
    tl_alloc_fail(0, 1);
    assert_int_equal(ask(true, TL_SOURCE_CHANNEL, "a"), -ENOMEM);
    for (int i = 0; i < 2; i++) {
        tl_alloc_fail(i, 1);
        assert_int_equal(ask(true, TL_SOURCE_PATTERN, "a*"), -ENOMEM);
    }
    tl_alloc_fail(0, 0);
    publish(&p, "a", "one");
    assert_told("message of a;   it is one; ");
    assert_int_equal(ask(true, TL_SOURCE_PATTERN, "a*"), 0);
    tl_alloc_fail(0, 1);
    assert_int_equal(ask(false, TL_SOURCE_PATTERN, "a*"), -ENOMEM);
    tl_alloc_fail(0, 0);
    publish(&p, "a", "two"); /* it is unsubscribed all the same */
    assert_told("subscribed *a*; message of a;   it is two; ");
    tl_alloc_fail(0, 1);
    assert_null(tl_memory_new(now.loop));
    tl_alloc_fail(0, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_a_source_and_always_up),
        TEST(requests_are_confirmed_later_and_in_their_order),
        TEST(a_publish_goes_to_its_channel_and_to_the_patterns_that_match),
        TEST(a_message_that_found_no_memory_was_not_published_to_anybody),
        TEST(a_stopped_broker_answers_what_waits_and_confirms_nothing),
        TEST(without_memory_nothing_is_subscribed_and_that_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
