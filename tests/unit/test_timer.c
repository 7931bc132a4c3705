/* Does the timer wheel run every timer in the first run at or after its due time, and only once? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/timer.h"

#include <stdlib.h>

#define RANDOM_TIMERS 3000

struct probe {
    struct tl_timer timer;
    uint64_t due_ms; /* the model's: UINT64_MAX when stopped */
    unsigned runs;
};

static struct tl_timers wheel;
static struct probe probes[RANDOM_TIMERS];
static uint64_t rng = 0x9e3779b97f4a7c15;

static uint64_t random_u64(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

/* Distances of every magnitude, the wheel's borders among them. */
static uint64_t random_distance(void)
{
    uint64_t bits = random_u64() % 41;
    uint64_t distance = random_u64() & ((UINT64_C(1) << bits) - 1);
    return random_u64() % 8 == 0 ? UINT64_C(1) << bits : distance;
}

static void on_probe(struct tl_timer *timer)
{
    struct probe *p = TL_CONTAINER(timer, struct probe, timer);
    assert_true(p->due_ms <= wheel.now_ms);
    assert_false(tl_timer_is_started(timer));
    p->due_ms = UINT64_MAX;
    p->runs++;
}

static void probes_init(uint64_t now_ms)
{
    tl_timers_init(&wheel, now_ms);
    for (size_t i = 0; i < RANDOM_TIMERS; i++) {
        tl_timer_init(&probes[i].timer, on_probe);
        probes[i].due_ms = UINT64_MAX;
        probes[i].runs = 0;
    }
}

static void probe_start(struct probe *p, uint64_t due_ms)
{
    tl_timer_start(&wheel, &p->timer, due_ms);
    p->due_ms = due_ms;
}

static uint64_t model_first(void)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < RANDOM_TIMERS; i++)
        if (probes[i].due_ms < first)
            first = probes[i].due_ms;
    return first;
}

static void assert_like_model(uint64_t now_ms)
{
    uint64_t first = model_first();
    for (size_t i = 0; i < RANDOM_TIMERS; i++)
        assert_int_equal(tl_timer_is_started(&probes[i].timer), probes[i].due_ms != UINT64_MAX);
    if (first != UINT64_MAX)
        assert_true(first > now_ms); /* all that was due has run */
    uint64_t wait_ms = tl_timers_wait_ms(&wheel, now_ms);
    if (first == UINT64_MAX)
        assert_true(wait_ms == UINT64_MAX);
    else
        assert_true(wait_ms > 0 && wait_ms <= first - now_ms);
}

static void random_change(uint64_t now_ms)
{
    struct probe *p = &probes[random_u64() % RANDOM_TIMERS];
    if (random_u64() % 4 == 0) {
        tl_timer_stop(&wheel, &p->timer);
        p->due_ms = UINT64_MAX;
        return;
    }
    uint64_t distance = random_distance();
    probe_start(p, random_u64() % 16 == 0 && distance < now_ms ? now_ms - distance
                                                               : now_ms + distance);
}

static void thousands_of_timers_run_as_in_a_naive_model(void **state)
{
    (void)state;
    for (int world = 0; world < 4; world++) {
        uint64_t now_ms = world == 0 ? 0 : random_u64() >> (1 + world * 9);
        probes_init(now_ms);
        for (int step = 0; step < 1500; step++) {
            for (uint64_t n = random_u64() % 40; n > 0; n--)
                random_change(now_ms);
            now_ms += step % 3 == 0 ? random_distance() : random_u64() % 100;
            tl_timers_run(&wheel, now_ms);
            assert_like_model(now_ms);
        }
    }
}

static void waiting_as_told_meets_every_timer_on_its_millisecond(void **state)
{
    (void)state;
    uint64_t now_ms = 123456789;
    probes_init(now_ms);
    for (size_t i = 0; i < 500; i++)
        probe_start(&probes[i], now_ms + 1 + random_distance());
    unsigned turns = 0;
    for (uint64_t first; (first = model_first()) != UINT64_MAX; turns++) {
        now_ms += tl_timers_wait_ms(&wheel, now_ms);
        assert_true(now_ms <= first);
        tl_timers_run(&wheel, now_ms);
        if (now_ms == first)
            assert_true(model_first() > now_ms);
    }
    assert_true(turns < 500 * (TL_TIMER_LEVELS + 1));
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(probes[i].runs, 1);
    assert_true(tl_timers_wait_ms(&wheel, now_ms) == UINT64_MAX);
}

static void deadline_beyond_the_wheel_is_kept(void **state)
{
    (void)state;
    probes_init(5);
    uint64_t due_ms = UINT64_C(1) << 40;
    probe_start(&probes[0], due_ms);
    probe_start(&probes[1], UINT64_MAX);
    tl_timers_run(&wheel, due_ms - 1);
    assert_int_equal(probes[0].runs, 0);
    tl_timers_run(&wheel, due_ms);
    assert_int_equal(probes[0].runs, 1);
    assert_true(tl_timer_is_started(&probes[1].timer));
    tl_timer_stop(&wheel, &probes[1].timer);
}

static void past_deadline_runs_in_the_next_run_of_the_same_millisecond(void **state)
{
    (void)state;
    probes_init(1000);
    probe_start(&probes[0], 1);
    probe_start(&probes[1], 1000);
    assert_int_equal(tl_timers_wait_ms(&wheel, 1000), 0);
    tl_timers_run(&wheel, 1000);
    assert_int_equal(probes[0].runs, 1);
    assert_int_equal(probes[1].runs, 1);
}

static void clock_that_goes_back_is_ignored(void **state)
{
    (void)state;
    probes_init(1000);
    probe_start(&probes[0], 1010);
    tl_timers_run(&wheel, 1005);
    tl_timers_run(&wheel, 10);
    assert_int_equal(wheel.now_ms, 1005);
    probe_start(&probes[1], 900);
    tl_timers_run(&wheel, 20);
    assert_int_equal(probes[0].runs, 0);
    assert_int_equal(probes[1].runs, 1);
    assert_true(tl_timers_wait_ms(&wheel, 20) <= 990);
    tl_timers_run(&wheel, 1010);
    assert_int_equal(probes[0].runs, 1);
}

static void stopping_twice_and_stopping_the_last_leaves_no_work(void **state)
{
    (void)state;
    probes_init(77);
    tl_timer_stop(&wheel, &probes[0].timer);
    probe_start(&probes[0], 50000);
    probe_start(&probes[1], 50000);
    tl_timer_stop(&wheel, &probes[0].timer);
    assert_true(tl_timers_wait_ms(&wheel, 77) < UINT64_MAX);
    tl_timer_stop(&wheel, &probes[1].timer);
    tl_timer_stop(&wheel, &probes[1].timer);
    assert_true(tl_timers_wait_ms(&wheel, 77) == UINT64_MAX);
}

static unsigned again_runs;

static void run_again(struct tl_timer *timer)
{
    again_runs++;
    tl_timer_start(&wheel, timer, 0);
}

static void timer_restarted_from_its_own_callback_waits_for_the_next_run(void **state)
{
    (void)state;
    struct tl_timer timer;
    tl_timers_init(&wheel, 10);
    tl_timer_init(&timer, run_again);
    again_runs = 0;
    tl_timer_start(&wheel, &timer, 11);
    tl_timers_run(&wheel, 11);
    assert_int_equal(again_runs, 1);
    tl_timers_run(&wheel, 11);
    assert_int_equal(again_runs, 2);
    tl_timer_stop(&wheel, &timer);
}

/* Whichever of the pair runs first stops the other. */
static struct tl_timer pair[2];
static unsigned pair_runs;

static void stop_the_other(struct tl_timer *timer)
{
    pair_runs++;
    tl_timer_stop(&wheel, timer == &pair[0] ? &pair[1] : &pair[0]);
}

static void timer_that_is_due_in_the_same_run_can_still_be_stopped(void **state)
{
    (void)state;
    tl_timers_init(&wheel, 0);
    for (uint64_t apart_ms = 0; apart_ms < 200; apart_ms++) {
        pair_runs = 0;
        for (unsigned i = 0; i < 2; i++) {
            tl_timer_init(&pair[i], stop_the_other);
            tl_timer_start(&wheel, &pair[i], wheel.now_ms + 1 + i * apart_ms);
        }
        tl_timers_run(&wheel, wheel.now_ms + 300);
        assert_int_equal(pair_runs, 1);
        assert_true(tl_timers_wait_ms(&wheel, wheel.now_ms) == UINT64_MAX);
    }
}

static void restart_the_other(struct tl_timer *timer)
{
    pair_runs++;
    tl_timer_start(&wheel, timer == &pair[0] ? &pair[1] : &pair[0], wheel.now_ms + 100);
}

static void timer_restarted_by_another_callback_runs_at_its_new_time_only(void **state)
{
    (void)state;
    tl_timers_init(&wheel, 0);
    pair_runs = 0;
    for (unsigned i = 0; i < 2; i++) {
        tl_timer_init(&pair[i], restart_the_other);
        tl_timer_start(&wheel, &pair[i], 7);
    }
    tl_timers_run(&wheel, 7);
    assert_int_equal(pair_runs, 1);
    tl_timers_run(&wheel, 106);
    assert_int_equal(pair_runs, 1);
    tl_timers_run(&wheel, 107);
    assert_int_equal(pair_runs, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thousands_of_timers_run_as_in_a_naive_model),
        cmocka_unit_test(waiting_as_told_meets_every_timer_on_its_millisecond),
        cmocka_unit_test(deadline_beyond_the_wheel_is_kept),
        cmocka_unit_test(past_deadline_runs_in_the_next_run_of_the_same_millisecond),
        cmocka_unit_test(clock_that_goes_back_is_ignored),
        cmocka_unit_test(stopping_twice_and_stopping_the_last_leaves_no_work),
        cmocka_unit_test(timer_restarted_from_its_own_callback_waits_for_the_next_run),
        cmocka_unit_test(timer_that_is_due_in_the_same_run_can_still_be_stopped),
        cmocka_unit_test(timer_restarted_by_another_callback_runs_at_its_new_time_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
