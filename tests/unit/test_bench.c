/* The pure parts of the bench: stamps, order, pace, what is on its way, and reading /proc. */
#include "bench/flight.h"
#include "bench/order.h"
#include "bench/pace.h"
#include "bench/procstat.h"
#include "bench/stamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Stamps */

static void a_stamp_is_found_as_it_was_printed_wherever_it_stands(void **state)
{
    static const struct tl_stamp stamps[] = {
        {0, 0, 0, 0}, {1, 2, 3, 4}, {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT64_MAX}};
    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (size_t before = 0; before < 100; before++) {
            uint8_t text[300];
            struct tl_stamp found;
            size_t off;
            memset(text, 'T', sizeof text);
            tl_stamp_print(&stamps[i], text + before);
            struct tl_bytes whole = tl_bytes(text, before + TL_STAMP_BYTES);
            assert_true(tl_stamp_find(whole, &found, &off));
            assert_int_equal(off, before);
            assert_int_equal(found.run, stamps[i].run);
            assert_int_equal(found.channel, stamps[i].channel);
            assert_int_equal(found.number, stamps[i].number);
            assert_int_equal(found.time_ns, stamps[i].time_ns);
            whole.n--;
            assert_false(tl_stamp_find(whole, &found, &off));
        }
}

static void a_stamp_with_any_byte_changed_to_what_is_no_digit_is_none(void **state)
{
    struct tl_stamp stamp = {1, 2, 3, 4}, found;
    uint8_t text[TL_STAMP_BYTES];
    size_t off;
    (void)state;
    for (size_t i = 0; i < TL_STAMP_BYTES; i++) {
        static const uint8_t wrong[] = {0, '/', ':', '@', 'G', 'g', '`', 0x80, 0xff};
        for (size_t k = 0; k < sizeof wrong; k++) {
            tl_stamp_print(&stamp, text);
            text[i] = wrong[k];
            assert_false(tl_stamp_find(tl_bytes(text, sizeof text), &found, &off));
        }
    }
    for (size_t n = 0; n < TL_STAMP_BYTES; n++)
        assert_false(tl_stamp_find(tl_bytes(text, n), &found, &off));
}

/* Order */

static enum tl_order_verdict take(struct tl_order *order, uint32_t number, uint32_t missing)
{
    uint32_t found;
    enum tl_order_verdict verdict = tl_order_take(order, number, &found);
    assert_int_equal(found, missing);
    return verdict;
}

static void each_kind_of_disorder_is_told_apart(void **state)
{
    struct tl_order o = {0};
    (void)state;
    assert_int_equal(take(&o, 0, 0), TL_ORDER_NEXT);
    assert_int_equal(take(&o, 0, 0), TL_ORDER_DUPLICATE);
    assert_int_equal(take(&o, 3, 2), TL_ORDER_GAP);
    assert_int_equal(take(&o, 2, 0), TL_ORDER_LATE);
    assert_int_equal(take(&o, 2, 0), TL_ORDER_DUPLICATE);
    assert_int_equal(take(&o, 3, 0), TL_ORDER_DUPLICATE);
    assert_int_equal(take(&o, 4, 0), TL_ORDER_NEXT);
    assert_int_equal(take(&o, 1, 0), TL_ORDER_LATE);
    assert_int_equal(take(&o, 5, 0), TL_ORDER_NEXT);
}

static void a_missing_first_message_is_a_gap_and_may_come_late(void **state)
{
    struct tl_order o = {0};
    (void)state;
    assert_int_equal(take(&o, 1, 1), TL_ORDER_GAP);
    assert_int_equal(take(&o, 0, 0), TL_ORDER_LATE);
}

static void the_memory_of_what_is_missing_has_its_size(void **state)
{
    (void)state;
    for (uint32_t gap = 1; gap < 2 * TL_ORDER_MEMORY; gap++) {
        struct tl_order o = {0};
        assert_int_equal(take(&o, gap, gap), TL_ORDER_GAP);
        assert_int_equal(take(&o, 0, 0),
                         gap < TL_ORDER_MEMORY ? TL_ORDER_LATE : TL_ORDER_DUPLICATE);
        assert_int_equal(take(&o, gap, 0), TL_ORDER_DUPLICATE);
        assert_int_equal(take(&o, gap + 1, 0), TL_ORDER_NEXT);
    }
}

static void any_permutation_within_the_memory_loses_nothing_and_repeats_nothing(void **state)
{
    enum { N = 20 * TL_ORDER_MEMORY };
    static uint32_t numbers[N];
    (void)state;
    for (unsigned seed = 0; seed < 20; seed++) {
        struct tl_order o = {0};
        int64_t missing = 0;
        uint32_t found;
        srandom(seed);
        for (uint32_t i = 0; i < N; i++)
            numbers[i] = i;
        for (uint32_t i = 0; i + TL_ORDER_MEMORY / 2 < N; i += TL_ORDER_MEMORY / 2)
            for (uint32_t k = TL_ORDER_MEMORY / 2; k-- > 1;) {
                uint32_t other = (uint32_t)random() % (k + 1), kept = numbers[i + k];
                numbers[i + k] = numbers[i + other];
                numbers[i + other] = kept;
            }
        for (uint32_t i = 0; i < N; i++) {
            enum tl_order_verdict verdict = tl_order_take(&o, numbers[i], &found);
            assert_int_not_equal(verdict, TL_ORDER_DUPLICATE);
            missing += (int64_t)found - (verdict == TL_ORDER_LATE);
            if (i % 7 == 0)
                assert_int_equal(take(&o, numbers[i], 0), TL_ORDER_DUPLICATE);
        }
        assert_int_equal(missing, 0);
        assert_int_equal(o.next, N);
    }
}

/* Pace */

static void a_closed_loop_keeps_its_window_and_bursts_whole(void **state)
{
    struct tl_pace p = {.messages_max = 7, .window = 4, .burst = 2, .start_ns = 1000};
    (void)state;
    for (int i = 0; i < 4; i++, p.published++)
        assert_int_equal(tl_pace_next_ns(&p, 5000), 5000);
    assert_int_equal(tl_pace_next_ns(&p, 5000), TL_PACE_NEVER);
    p.done = 1; /* room for one, not for a burst */
    assert_int_equal(tl_pace_next_ns(&p, 5000), TL_PACE_NEVER);
    p.done = 2;
    assert_int_equal(tl_pace_next_ns(&p, 6000), 6000);
    p.published = 7;
    p.done = 7;
    assert_true(tl_pace_is_over(&p, 6000));
    assert_int_equal(tl_pace_next_ns(&p, 6000), TL_PACE_NEVER);
}

static void an_open_loop_keeps_its_schedule_however_late_it_is(void **state)
{
    struct tl_pace p = {.duration_ns = 1000000000, .rate = 1000, .burst = 5, .start_ns = 77};
    uint64_t expected_ns = 77;
    (void)state;
    for (p.published = 0; !tl_pace_is_over(&p, UINT64_MAX - 1); p.published++) {
        if (p.published > 0 && p.published % 5 == 0)
            expected_ns += 5000000;
        assert_int_equal(tl_pace_next_ns(&p, UINT64_MAX - 1), expected_ns);
    }
    assert_int_equal(p.published, 1000);
}

static void a_closed_loop_ends_with_its_time_but_not_within_a_burst(void **state)
{
    struct tl_pace p = {.duration_ns = 100, .window = 3, .burst = 3, .start_ns = 1000};
    (void)state;
    assert_false(tl_pace_is_over(&p, 1099));
    assert_true(tl_pace_is_over(&p, 1100));
    p.published = 1;
    assert_false(tl_pace_is_over(&p, 5000));
    assert_int_equal(tl_pace_next_ns(&p, 5000), 5000);
    p.published = 3;
    assert_true(tl_pace_is_over(&p, 5000));
}

/* Flight */

static bool is_woken(const struct tl_flight *f)
{
    struct pollfd waiting = {.fd = tl_flight_wake_fd(f), .events = POLLIN};
    return poll(&waiting, 1, 0) == 1;
}

static void a_message_is_done_when_each_subscriber_of_its_channel_has_it(void **state)
{
    struct tl_flight *f = tl_flight_new(2, 5);
    (void)state;
    assert_non_null(f);
    tl_flight_subscribers(f, 0, 1);
    tl_flight_subscribers(f, 0, 1);
    tl_flight_subscribers(f, 1, 1);
    for (uint64_t index = 0; index < 40; index += 2) {
        assert_int_equal(tl_flight_launch(f, 0), 2);
        assert_int_equal(tl_flight_launch(f, 1), 1);
        tl_flight_land(f, index + 1);
        assert_true(is_woken(f));
        assert_int_equal(tl_flight_done(f), index);
        assert_false(is_woken(f));
        tl_flight_land(f, index);
        assert_false(is_woken(f));
        assert_int_equal(tl_flight_done(f), index);
        tl_flight_land(f, index);
        assert_true(is_woken(f));
        assert_int_equal(tl_flight_done(f), index + 2);
    }
    assert_int_equal(tl_flight_launched(f), 40);
    tl_flight_free(f);
}

static void what_is_over_or_never_began_changes_nothing(void **state)
{
    struct tl_flight *f = tl_flight_new(1, 2);
    (void)state;
    assert_non_null(f);
    assert_int_equal(tl_flight_launch(f, 0), 0); /* nobody watches: done at once */
    assert_int_equal(tl_flight_done(f), 1);
    tl_flight_subscribers(f, 0, 1);
    assert_int_equal(tl_flight_launch(f, 0), 1);
    tl_flight_land(f, 0);
    tl_flight_land(f, 7);
    assert_int_equal(tl_flight_done(f), 1);
    tl_flight_forget(f);
    assert_int_equal(tl_flight_done(f), 2);
    tl_flight_land(f, 1);
    tl_flight_subscribers(f, 0, -1);
    assert_int_equal(tl_flight_launch(f, 0), 0);
    assert_int_equal(tl_flight_done(f), 3);
    tl_flight_free(f);
    tl_flight_free(NULL);
}

/* /proc */

static void a_process_is_read_whatever_its_name_holds(void **state)
{
    static const char text[] = "42 (a) b (c d) S 1 42 42 0 -1 4194560 1 2 3 4 250 17 0 0 20 0 3 0 "
                               "1000 5000 600 18446744073709551615\n";
    struct tl_procstat stat = {0};
    (void)state;
    assert_true(tl_procstat_parse(text, 100, &stat));
    assert_string_equal(stat.name, "a) b (c d");
    assert_int_equal(stat.user_ns, 2500000000);
    assert_int_equal(stat.system_ns, 170000000);
    assert_int_equal(stat.cpu_ns, 2670000000);
    assert_false(tl_procstat_parse("", 100, &stat));
    assert_false(tl_procstat_parse("42 (x", 100, &stat));
    assert_false(tl_procstat_parse(") (", 100, &stat));
    assert_false(tl_procstat_parse("42 (x) S 1 2 3", 100, &stat));
}

static void the_machine_is_read_with_its_cores(void **state)
{
    static const char text[] = "cpu  10 20 30 400 50 6 7 8 0 0\n"
                               "cpu0 5 10 15 200 25 3 4 4 0 0\ncpu1 5 10 15 200 25 3 3 4 0 0\n"
                               "intr 1 2 3\nctxt 5\n";
    struct tl_machine_stat stat;
    (void)state;
    assert_true(tl_machine_stat_parse(text, 100, &stat));
    assert_int_equal(stat.busy_ns, 810000000);
    assert_int_equal(stat.steal_ns, 80000000);
    assert_int_equal(stat.cores_n, 2);
    assert_false(tl_machine_stat_parse("cpu 1 2 3\n", 100, &stat));
    assert_false(tl_machine_stat_parse("", 100, &stat));
}

static void this_process_and_this_machine_can_be_looked_at(void **state)
{
    static struct tl_procstat before, after;
    struct tl_machine_stat machine;
    volatile uint64_t work = 0;
    (void)state;
    assert_int_equal(tl_procstat_read(getpid(), &before), 0);
    for (after.cpu_ns = 0; after.cpu_ns <= before.cpu_ns;) {
        for (int i = 0; i < 1000000; i++)
            work += (uint64_t)i;
        assert_int_equal(tl_procstat_read(getpid(), &after), 0);
    }
    assert_int_equal(after.pid, getpid());
    assert_true(after.rss_bytes > 0);
    assert_true(after.threads_n >= 1);
    assert_int_equal(tl_machine_stat_read(&machine), 0);
    assert_true(machine.cores_n >= 1);
    assert_true(tl_procstat_read(INT32_MAX, &after) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stamp_is_found_as_it_was_printed_wherever_it_stands),
        cmocka_unit_test(a_stamp_with_any_byte_changed_to_what_is_no_digit_is_none),
        cmocka_unit_test(each_kind_of_disorder_is_told_apart),
        cmocka_unit_test(a_missing_first_message_is_a_gap_and_may_come_late),
        cmocka_unit_test(the_memory_of_what_is_missing_has_its_size),
        cmocka_unit_test(any_permutation_within_the_memory_loses_nothing_and_repeats_nothing),
        cmocka_unit_test(a_closed_loop_keeps_its_window_and_bursts_whole),
        cmocka_unit_test(an_open_loop_keeps_its_schedule_however_late_it_is),
        cmocka_unit_test(a_closed_loop_ends_with_its_time_but_not_within_a_burst),
        cmocka_unit_test(a_message_is_done_when_each_subscriber_of_its_channel_has_it),
        cmocka_unit_test(what_is_over_or_never_began_changes_nothing),
        cmocka_unit_test(a_process_is_read_whatever_its_name_holds),
        cmocka_unit_test(the_machine_is_read_with_its_cores),
        cmocka_unit_test(this_process_and_this_machine_can_be_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
