#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "gateway/limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

static struct sockaddr_storage peer(const char *text)
{
    struct sockaddr_storage storage = {0};
    void *any = &storage;
    struct sockaddr_in *v4 = any;
    struct sockaddr_in6 *v6 = any;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        storage.ss_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        storage.ss_family = AF_INET6;
    }
    return storage;
}

static int take(struct tl_limits *limits, const char *from, struct tl_limits_address **ret_address)
{
    struct sockaddr_storage storage = peer(from);
    return tl_limits_take(limits, &storage, ret_address);
}

static void connections_are_taken_up_to_the_limit(void **state)
{
    (void)state;
    for (uint32_t max = 1; max < 5; max++) {
        struct tl_limits limits;
        struct tl_limits_address *address;
        assert_int_equal(tl_limits_init(&limits, max, 0), 0);
        for (uint32_t n = 1; n <= max; n++) {
            assert_int_equal(take(&limits, "192.0.2.1", &address), 0);
            assert_null(address); /* nobody is counted by address */
        }
        assert_int_equal(take(&limits, "192.0.2.2", &address), -EBUSY);
        assert_null(address);
        tl_limits_give(&limits, NULL);
        assert_int_equal(take(&limits, "192.0.2.2", &address), 0);
        for (uint32_t n = 0; n < max; n++)
            tl_limits_give(&limits, NULL);
        assert_int_equal(limits.connections_n, 0);
        tl_limits_deinit(&limits);
    }
}

static void each_address_has_its_own_limit(void **state)
{
    (void)state;
    struct tl_limits limits;
    struct tl_limits_address *one[3], *other, *none;
    assert_int_equal(tl_limits_init(&limits, 100, 3), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(&limits, "192.0.2.1", &one[i]), 0);
    assert_int_equal(take(&limits, "192.0.2.1", &none), -EDQUOT);
    assert_null(none);
    assert_int_equal(take(&limits, "192.0.2.2", &other), 0);
    assert_int_equal(limits.connections_n, 4);
    tl_limits_give(&limits, one[0]);
    assert_int_equal(take(&limits, "192.0.2.1", &one[0]), 0);
    for (int i = 0; i < 3; i++)
        tl_limits_give(&limits, one[i]);
    tl_limits_give(&limits, other);
    assert_int_equal(limits.connections_n, 0);
    assert_int_equal(limits.addresses.n, 0); /* who is gone is forgotten */
    tl_limits_deinit(&limits);
}

static void an_ipv4_address_is_one_however_it_is_written(void **state)
{
    (void)state;
    struct tl_limits limits;
    struct tl_limits_address *a[3];
    assert_int_equal(tl_limits_init(&limits, 100, 1), 0);
    assert_int_equal(take(&limits, "192.0.2.1", &a[0]), 0);
    assert_int_equal(take(&limits, "::ffff:192.0.2.1", &a[1]), -EDQUOT);
    assert_int_equal(take(&limits, "2001:db8::1", &a[1]), 0);
    assert_int_equal(take(&limits, "2001:db8::2", &a[2]), 0);
    for (int i = 0; i < 3; i++)
        tl_limits_give(&limits, a[i]);
    tl_limits_deinit(&limits);
}

static void peers_without_an_address_share_one(void **state)
{
    (void)state;
    struct tl_limits limits;
    struct tl_limits_address *a, *b;
    struct sockaddr_storage unix_peer = {.ss_family = AF_UNIX};
    assert_int_equal(tl_limits_init(&limits, 100, 1), 0);
    assert_int_equal(tl_limits_take(&limits, &unix_peer, &a), 0);
    assert_int_equal(tl_limits_take(&limits, &unix_peer, &b), -EDQUOT);
    tl_limits_give(&limits, a);
    tl_limits_deinit(&limits);
}

static void a_refusal_for_the_whole_takes_nothing_from_the_address(void **state)
{
    (void)state;
    struct tl_limits limits;
    struct tl_limits_address *a, *b;
    assert_int_equal(tl_limits_init(&limits, 1, 2), 0);
    assert_int_equal(take(&limits, "192.0.2.1", &a), 0);
    assert_int_equal(take(&limits, "192.0.2.2", &b), -EBUSY);
    assert_null(b);
    assert_int_equal(limits.addresses.n, 1);
    assert_int_equal(limits.connections_n, 1);
    tl_limits_give(&limits, a);
    tl_limits_deinit(&limits);
}

static void without_memory_nothing_is_taken(void **state)
{
    (void)state;
    struct tl_limits limits;
    struct tl_limits_address *address;
    tl_alloc_fail(0, 1);
    assert_int_equal(tl_limits_init(&limits, 10, 10), -ENOMEM);
    tl_alloc_fail(0, 0);
    tl_limits_deinit(&limits);
    assert_int_equal(tl_limits_init(&limits, 10, 10), 0);
    tl_alloc_fail(0, 1);
    assert_int_equal(take(&limits, "192.0.2.1", &address), -ENOMEM);
    tl_alloc_fail(0, 0);
    assert_null(address);
    assert_int_equal(limits.connections_n, 0);
    assert_int_equal(limits.addresses.n, 0);
    tl_limits_deinit(&limits);
}

static void unfinished_input_is_taken_up_to_the_limit(void **state)
{
    (void)state;
    struct tl_limits limits;
    assert_int_equal(tl_limits_init(&limits, 1, 0), 0);
    limits.input_bytes_max = 100;
    assert_true(tl_limits_take_input(&limits, 99));
    assert_false(tl_limits_take_input(&limits, 2));
    assert_true(tl_limits_take_input(&limits, 1));
    assert_false(tl_limits_take_input(&limits, 1));
    tl_limits_give_input(&limits, 100);
    assert_true(tl_limits_take_input(&limits, 100));
    tl_limits_give_input(&limits, 100);
    tl_limits_deinit(&limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_taken_up_to_the_limit),
        cmocka_unit_test(each_address_has_its_own_limit),
        cmocka_unit_test(an_ipv4_address_is_one_however_it_is_written),
        cmocka_unit_test(peers_without_an_address_share_one),
        cmocka_unit_test(a_refusal_for_the_whole_takes_nothing_from_the_address),
        cmocka_unit_test(without_memory_nothing_is_taken),
        cmocka_unit_test(unfinished_input_is_taken_up_to_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
