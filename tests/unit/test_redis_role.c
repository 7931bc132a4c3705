#include "broker/redis_role.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#define MASTER  "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:"
#define REPLICA "# Replication\r\nrole:slave\r\nmaster_host:h\r\nmaster_link_status:"

static enum tl_redis_role_change take(struct tl_redis_role *role, const char *text)
{
    return tl_redis_role_read(role, tl_bytes_str(text));
}

static void a_master_is_never_news(void **state)
{
    struct tl_redis_role role = {0};
    (void)state;
    assert_int_equal(take(&role, MASTER "a\r\n"), TL_REDIS_ROLE_SAME);
    assert_int_equal(take(&role, MASTER "b\r\n"), TL_REDIS_ROLE_SAME);
    assert_false(role.is_replica);
}

static void a_replica_that_is_cut_off_and_comes_back_is_news_twice(void **state)
{
    struct tl_redis_role role = {0};
    (void)state;
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_SAME);
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_SAME);
    assert_int_equal(take(&role, REPLICA "down\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_CUT_OFF);
    assert_int_equal(take(&role, REPLICA "down\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_SAME);
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_JOINED);
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_SAME);
}

static void another_history_is_news_even_where_the_cut_was_not_seen(void **state)
{
    struct tl_redis_role role = {0};
    (void)state;
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:a\r\n"), TL_REDIS_ROLE_SAME);
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:b\r\n"), TL_REDIS_ROLE_JOINED);
    assert_int_equal(take(&role, MASTER "c\r\n"), TL_REDIS_ROLE_MASTER);
    assert_int_equal(take(&role, REPLICA "up\r\nmaster_replid:c\r\n"), TL_REDIS_ROLE_JOINED);
}

static void odd_answers_are_read_without_harm(void **state)
{
    static const char *const texts[] = {
        "", "\n", "role", "role:", "role:slave", ":\r\n", "x\r\n\r\n"};
    struct tl_redis_role role = {0};
    char text[200];
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        (void)take(&role, texts[i]);
    snprintf(text, sizeof text, REPLICA "up\r\nmaster_replid:%0100d\r\n", 1);
    (void)take(&role, text);
    assert_int_equal(role.replid[0], 0);
    for (size_t n = 0; n < strlen(text); n++)
        (void)tl_redis_role_read(&role, tl_bytes(text, n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_master_is_never_news),
        cmocka_unit_test(a_replica_that_is_cut_off_and_comes_back_is_news_twice),
        cmocka_unit_test(another_history_is_news_even_where_the_cut_was_not_seen),
        cmocka_unit_test(odd_answers_are_read_without_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
