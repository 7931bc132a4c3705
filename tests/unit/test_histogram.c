#include "bench/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static struct tl_histogram h, other;

static int empty(void **state)
{
    (void)state;
    memset(&h, 0, sizeof h);
    memset(&other, 0, sizeof other);
    return 0;
}

static void an_empty_histogram_answers_zero(void **state)
{
    (void)state;
    assert_int_equal(tl_histogram_at(&h, 0), 0);
    assert_int_equal(tl_histogram_at(&h, 0.5), 0);
    assert_int_equal(tl_histogram_at(&h, 1), 0);
}

static void any_single_value_is_told_exactly_as_the_maximum(void **state)
{
    (void)state;
    for (uint32_t shift = 0; shift < 64; shift++)
        for (int64_t off = -1; off <= 1; off++) {
            uint64_t ns = (UINT64_C(1) << shift) + (uint64_t)off;
            empty(NULL);
            tl_histogram_add(&h, ns);
            assert_int_equal(h.n, 1);
            assert_int_equal(h.max_ns, ns);
            assert_int_equal(tl_histogram_at(&h, 1),
                             ns < (UINT64_C(1) << TL_HISTOGRAM_VALUE_BITS)
                                 ? ns
                                 : (UINT64_C(1) << TL_HISTOGRAM_VALUE_BITS) - 1);
        }
}

static void every_value_is_within_a_64th_of_what_is_told(void **state)
{
    (void)state;
    srandom(7);
    for (int i = 0; i < 200000; i++) {
        uint64_t ns = ((uint64_t)random() << 31 | (uint64_t)random()) >> (random() % 40 + 22);
        empty(NULL);
        tl_histogram_add(&h, ns);
        tl_histogram_add(&h, UINT64_MAX); /* so that the maximum does not help */
        uint64_t told = tl_histogram_at(&h, 0.5);
        assert_true(told >= ns);
        assert_true(told - ns <= ns / 64);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void quantiles_are_those_of_the_sorted_values(void **state)
{
    static const double shares[] = {0, 0.001, 0.5, 0.9, 0.99, 0.999, 1};
    static uint64_t values[10000];
    (void)state;
    srandom(11);
    for (size_t i = 0; i < 10000; i++) {
        values[i] = (uint64_t)random() % (UINT64_C(1) << (random() % 30 + 1));
        tl_histogram_add(&h, values[i]);
    }
    qsort(values, 10000, sizeof values[0], compare);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        size_t rank = (size_t)(shares[i] * 10000);
        uint64_t exact = values[rank > 0 ? rank - 1 : 0], told = tl_histogram_at(&h, shares[i]);
        assert_true(told >= exact);
        assert_true(told - exact <= exact / 64);
    }
}

static void two_histograms_add_up(void **state)
{
    static struct tl_histogram both;
    (void)state;
    memset(&both, 0, sizeof both);
    for (uint64_t i = 1; i < 5000; i++) {
        tl_histogram_add(i % 3 ? &h : &other, i * i * 31);
        tl_histogram_add(&both, i * i * 31);
    }
    tl_histogram_merge(&h, &other);
    assert_memory_equal(&h, &both, sizeof h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_histogram_answers_zero, empty),
        cmocka_unit_test_setup(any_single_value_is_told_exactly_as_the_maximum, empty),
        cmocka_unit_test_setup(every_value_is_within_a_64th_of_what_is_told, empty),
        cmocka_unit_test_setup(quantiles_are_those_of_the_sorted_values, empty),
        cmocka_unit_test_setup(two_histograms_add_up, empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
