#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/metrics.h"
#include "feed/segment.h"

static const struct tl_mark at_zero = {0};

static void add(struct tl_segment *seg, const char *bytes, const char *name, uint8_t flags)
{
    size_t n = strlen(bytes);
    assert_true(tl_segment_fits(seg, n, strlen(name)));
    memcpy(tl_segment_add(seg, n, tl_bytes_str(name), flags, 1000), bytes, n);
}

static void entries_keep_their_bytes_names_and_borders(void **state)
{
    (void)state;
    struct tl_segment *seg = tl_segment_new(32, 8, (struct tl_mark){5, 6, 7}, 900);
    assert_non_null(seg);
    add(seg, "hello", "tram_7", 0);
    add(seg, "", "", TL_ENTRY_CONTROL);
    add(seg, "world!", "x", TL_ENTRY_BINARY);
    assert_int_equal(seg->entries_n, 3);
    assert_int_equal(tl_segment_start(seg, 0), 0);
    assert_int_equal(tl_segment_start(seg, 1), 5);
    assert_int_equal(tl_segment_start(seg, 2), 5);
    assert_int_equal(tl_segment_start(seg, 3), 11);
    assert_memory_equal(seg->bytes, "helloworld!", 11);
    assert_memory_equal(seg->bytes + seg->entries[0].name_at, "tram_7", 6);
    assert_int_equal(seg->entries[0].name_n, 6);
    assert_memory_equal(seg->bytes + seg->entries[2].name_at, "x", 1);
    assert_int_equal(seg->entries[2].flags, TL_ENTRY_BINARY);
    assert_int_equal(seg->entries[2].time_ms, 100);
    assert_int_equal(tl_segment_messages(seg, 0), 0);
    assert_int_equal(tl_segment_messages(seg, 2), 1);
    assert_int_equal(tl_segment_messages(seg, 3), 2);
    assert_true(seg->base.off == 5 && seg->base.idx == 6 && seg->base.msg == 7);
    tl_segment_unref(seg);
}

static void room_is_exact_in_bytes_and_entries(void **state)
{
    (void)state;
    struct tl_segment *seg = tl_segment_new(16, 2, at_zero, 0);
    assert_non_null(seg);
    assert_true(tl_segment_fits(seg, 16, 0));
    assert_true(tl_segment_fits(seg, 10, 6));
    assert_false(tl_segment_fits(seg, 17, 0));
    assert_false(tl_segment_fits(seg, 10, 7));
    add(seg, "1234567890", "abc", 0);
    assert_true(tl_segment_fits(seg, 2, 1));
    assert_false(tl_segment_fits(seg, 2, 2));
    assert_false(tl_segment_fits(seg, SIZE_MAX - 8, 0));
    add(seg, "xy", "z", 0);
    assert_false(tl_segment_fits(seg, 0, 0)); /* no entry is left */
    assert_memory_equal(seg->bytes, "1234567890xyzabc", 16);
    tl_segment_unref(seg);
    seg = tl_segment_new(4, 8, at_zero, 0);
    assert_non_null(seg);
    add(seg, "1234", "", 0);
    assert_true(tl_segment_fits(seg, 0, 0));
    assert_false(tl_segment_fits(seg, 1, 0));
    tl_segment_unref(seg);
}

static void time_before_the_segment_or_far_behind_it_is_clamped(void **state)
{
    (void)state;
    struct tl_segment *seg = tl_segment_new(8, 8, at_zero, 1000);
    assert_non_null(seg);
    tl_segment_add(seg, 0, tl_bytes(NULL, 0), 0, 999);
    tl_segment_add(seg, 0, tl_bytes(NULL, 0), 0, 1000 + (uint64_t)UINT32_MAX);
    tl_segment_add(seg, 0, tl_bytes(NULL, 0), 0, 1001 + (uint64_t)UINT32_MAX);
    assert_int_equal(seg->entries[0].time_ms, 0);
    assert_int_equal(seg->entries[1].time_ms, UINT32_MAX);
    assert_int_equal(seg->entries[2].time_ms, UINT32_MAX);
    tl_segment_unref(seg);
}

static void retired_segment_counts_until_its_last_reader_lets_go(void **state)
{
    (void)state;
    struct tl_segment *seg = tl_segment_new(100, 1, at_zero, 0);
    assert_non_null(seg);
    assert_ptr_equal(tl_segment_ref(seg), seg);
    assert_ptr_equal(tl_segment_ref(seg), seg);
    tl_segment_retire(seg);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 100);
    tl_segment_unref(seg);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 100);
    tl_segment_unref(seg);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
    tl_segment_unref(NULL);
}

static void segment_is_one_allocation(void **state)
{
    (void)state;
    tl_alloc_fail(1, -1);
    struct tl_segment *seg = tl_segment_new(100, 10, at_zero, 0);
    assert_int_equal(tl_alloc_fail(0, 0), 1);
    assert_non_null(seg);
    tl_segment_unref(seg);
    tl_alloc_fail(0, -1);
    seg = tl_segment_new(100, 10, at_zero, 0);
    tl_alloc_fail(0, 0);
    assert_null(seg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_keep_their_bytes_names_and_borders),
        cmocka_unit_test(room_is_exact_in_bytes_and_entries),
        cmocka_unit_test(time_before_the_segment_or_far_behind_it_is_clamped),
        cmocka_unit_test(retired_segment_counts_until_its_last_reader_lets_go),
        cmocka_unit_test(segment_is_one_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
