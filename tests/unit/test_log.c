#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "feed_model.h"

#include <errno.h>
#include <malloc.h>

static const struct tl_log_limits wide = {1u << 20, 1u << 30, UINT64_MAX};
static const struct tl_bytes no_name;

/* All bytes that a lane keeps, from its tail on. */
static struct tl_buf lane_bytes(const struct tl_log *log, enum tl_lane_kind kind)
{
    struct tl_buf out = {0};
    const struct tl_lane *lane = log->lanes[kind];
    if (!lane)
        return out;
    for (uint32_t i = 0; i < lane->chain.n; i++) {
        const struct tl_segment *seg = tl_chain_at(&lane->chain, i);
        uint64_t skip = lane->tail_off > seg->base.off ? lane->tail_off - seg->base.off : 0;
        if (skip < seg->bytes_n)
            tl_buf_append(&out, tl_bytes(seg->bytes + skip, seg->bytes_n - skip));
    }
    assert_false(out.failed);
    assert_int_equal(out.n, lane->head_off - lane->tail_off);
    return out;
}

static size_t malloced(const struct tl_log *log)
{
    size_t n = 0;
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        if (!log->lanes[kind])
            continue;
        struct tl_chain chain = log->lanes[kind]->chain;
        n += chain.segs ? malloc_usable_size(chain.segs) : 0;
        for (uint32_t i = 0; chain.segs && i < chain.n; i++)
            n += malloc_usable_size(tl_chain_at(&chain, i));
    }
    return n;
}

static void append(struct model *m, size_t n)
{
    assert_int_equal(model_append(m, n, false, no_name), 0);
}

/* --- limits --- */

static void messages_are_kept_up_to_their_limit(void **state)
{
    (void)state;
    for (uint64_t max = 1; max < 6; max++) {
        struct model m;
        model_init(&m, 1, false, (struct tl_log_limits){max, 1u << 30, 1u << 30});
        for (uint64_t n = 1; n <= max + 3; n++) {
            append(&m, 10);
            assert_int_equal(tl_log_evict(&m.log, m.now_ms), n > max);
            assert_int_equal(m.log.head.msg - m.log.tail.msg, n < max ? n : max);
        }
        model_deinit(&m);
    }
}

static void bytes_of_each_lane_are_kept_up_to_their_limit(void **state)
{
    (void)state;
    for (int lanes = 1; lanes <= 2; lanes++) {
        struct model m;
        model_init(&m, 1, false, wide);
        if (lanes == 2)
            assert_int_equal(model_open_sse(&m), 0);
        for (int i = 0; i < 3; i++)
            append(&m, 10);
        uint64_t all = model_bytes(&m), oldest = model_entry_bytes(&m, 0);
        uint64_t largest = model_largest_lane(&m);
        assert_true(lanes == 1 ? oldest == 12 : oldest > 12 + 10);
        m.limits.bytes_max = largest + 1;
        assert_int_equal(tl_log_evict(&m.log, m.now_ms), 0);
        m.limits.bytes_max = largest;
        assert_int_equal(tl_log_evict(&m.log, m.now_ms), 0);
        m.limits.bytes_max = largest - 1;
        assert_int_equal(tl_log_evict(&m.log, m.now_ms), 1);
        assert_int_equal(m.log.bytes, all - oldest);
        m.limits.bytes_max = 0;
        assert_int_equal(tl_log_evict(&m.log, m.now_ms), 1); /* the newest stays */
        assert_int_equal(tl_log_evict(&m.log, m.now_ms), 0);
        assert_int_equal(m.log.bytes, model_entry_bytes(&m, 2));
        model_deinit(&m);
    }
}

static void messages_are_kept_up_to_their_age(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, (struct tl_log_limits){100, 1u << 30, 50});
    append(&m, 1); /* at 1000 */
    m.now_ms = 1010;
    append(&m, 1);
    append(&m, 1);
    assert_int_equal(tl_log_evict(&m.log, 1049), 0);
    assert_int_equal(tl_log_evict(&m.log, 1050), 0);
    assert_int_equal(tl_log_evict(&m.log, 1051), 1);
    assert_int_equal(tl_log_evict(&m.log, 1060), 0);
    assert_int_equal(tl_log_evict(&m.log, 1061), 1); /* the newest stays */
    assert_int_equal(tl_log_evict(&m.log, UINT64_MAX), 0);
    model_deinit(&m);
}

static void no_age_is_too_great_for_the_clock(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    append(&m, 1);
    append(&m, 1);
    assert_int_equal(tl_log_evict(&m.log, m.now_ms + 1000), 0);
    model_deinit(&m);
}

static void message_after_months_of_silence_is_as_old_as_it_is(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, (struct tl_log_limits){100, 1u << 30, 60000});
    append(&m, 1);
    m.now_ms += 100ull * 24 * 3600 * 1000;
    append(&m, 1);
    append(&m, 1);
    model_evict(&m);
    assert_int_equal(m.log.tail.idx, 1);
    model_check(&m);
    model_deinit(&m);
}

static void evict_half_keeps_the_newer_half(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    assert_int_equal(tl_log_evict_half(&m.log), 0);
    for (uint64_t n = 1; n < 40; n++) {
        append(&m, n);
        append(&m, n);
        model_evict_half(&m);
        model_check(&m);
    }
    while (m.n - m.tail > 1)
        model_evict_half(&m);
    assert_int_equal(tl_log_evict_half(&m.log), 0);
    model_check(&m);
    model_deinit(&m);
}

/* --- control events --- */

static void flap(struct model *m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(model_append_control(m, TL_ENTRY_DOWN), 0);
        model_new_epoch(m);
        assert_int_equal(model_append_control(m, TL_ENTRY_UP), 0);
        assert_int_equal(model_append_control(m, TL_ENTRY_GAP), 0);
        model_evict(m);
        model_check(m);
    }
}

static void events_drive_no_message_out_of_a_short_log(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, (struct tl_log_limits){3, 1u << 30, 1u << 30});
    assert_int_equal(model_open_sse(&m), 0);
    for (int i = 0; i < 20; i++) {
        append(&m, 10);
        model_evict(&m);
        flap(&m, (uint64_t)i % 3);
        assert_int_equal(m.log.head.msg - m.log.tail.msg, i < 2 ? i + 1 : 3);
    }
    model_deinit(&m);
}

static void events_have_a_bound_of_their_own_and_the_newest_message_stays_within_it(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    assert_int_equal(model_open_sse(&m), 0);
    for (int i = 0; i < 5; i++) {
        append(&m, 10);
        flap(&m, 1);
    }
    append(&m, 10);
    flap(&m, TL_LOG_EVENTS_MAX / 3);
    assert_int_equal(m.log.head.msg - m.log.tail.msg, 1);
    while (tl_log_is_evictable(&m.log))
        model_evict_half(&m);
    model_check(&m);
    assert_int_equal(m.log.head.msg - m.log.tail.msg, 1);
    flap(&m, TL_LOG_EVENTS_MAX);
    assert_int_equal(m.log.head.idx - m.log.tail.idx, TL_LOG_EVENTS_MAX);
    model_deinit(&m);
}

static void events_alone_are_kept_up_to_their_bound(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    assert_int_equal(model_open_sse(&m), 0);
    flap(&m, TL_LOG_EVENTS_MAX);
    assert_int_equal(m.log.head.idx - m.log.tail.idx, TL_LOG_EVENTS_MAX);
    model_deinit(&m);
}

/* --- memory --- */

static void channel_with_one_small_message_costs_under_a_kilobyte(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    assert_int_equal(malloced(&m.log), 0);
    append(&m, 100);
    assert_in_range(malloced(&m.log), 100, 700);
    model_deinit(&m);
}

static void segments_grow_with_what_is_kept(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    uint32_t cap = 0, largest = 0;
    for (int i = 0; i < 3000; i++) {
        append(&m, 100);
        const struct tl_segment *last = tl_chain_last(&m.log.ws.chain);
        assert_true(last != NULL);
        cap = last ? last->bytes_cap : 0;
        assert_true(cap >= largest && cap <= 65536);
        largest = cap;
    }
    assert_int_equal(largest, 65536);
    assert_true(malloced(&m.log) < 2 * m.log.bytes);
    model_deinit(&m);
}

static void log_that_keeps_little_stays_small_for_ever(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, (struct tl_log_limits){5, 1u << 30, 1u << 30});
    assert_int_equal(model_open_sse(&m), 0);
    for (int i = 0; i < 20000; i++) {
        append(&m, 100);
        assert_int_equal(tl_log_evict(&m.log, m.now_ms), i >= 5);
    }
    assert_in_range(malloced(&m.log), 1000, 16 << 10);
    model_deinit(&m);
}

static void message_of_sixteen_mebibytes_has_a_segment_of_its_size(void **state)
{
    (void)state;
    size_t n = 16u << 20;
    uint8_t *payload = malloc(n);
    assert_non_null(payload);
    memset(payload, 'x', n);
    struct tl_log log;
    struct tl_message small = {.payload = TL_LIT("small")};
    struct tl_message large = {.payload = tl_bytes(payload, n)};
    tl_log_init(&log, &wide, 1, false);
    assert_int_equal(tl_log_lane_open(&log, TL_LANE_SSE), 0);
    assert_int_equal(tl_log_append(&log, &small, 0), 0);
    assert_int_equal(tl_log_append(&log, &large, 0), 0);
    assert_int_equal(tl_log_append(&log, &small, 0), 0);
    const struct tl_chain *chain = &log.ws.chain;
    assert_int_equal(chain->n, 3);
    assert_int_equal(tl_chain_at(chain, 1)->bytes_cap, n + 10);
    bool binary;
    struct tl_bytes got;
    const struct tl_segment *seg = tl_chain_at(chain, 1);
    model_read_frame(tl_bytes(seg->bytes, seg->bytes_n), &binary, &got);
    model_assert_bytes(got, large.payload);
    tl_log_deinit(&log);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
    free(payload);
}

static void deinit_takes_a_zeroed_log(void **state)
{
    (void)state;
    struct tl_log log = {0};
    tl_log_deinit(&log);
    tl_log_deinit(&log);
}

/* --- lanes --- */

static void append_one_of_all_kinds(struct model *m, int i)
{
    static const size_t sizes[] = {0, 1, 124, 125, 126, 65535, 65536, 200000, 40, 300};
    size_t n = sizes[model_below(m, i % 50 == 0 ? 10 : 5)];
    assert_int_equal(model_append(m, n, i % 3 == 0, model_name((uint64_t)i % 7)), 0);
}

/* The same messages in a log whose SSE lane was always open and in one where it comes later. */
static void lane_opened_late(bool name_line, int open_at)
{
    struct model early, late;
    model_init(&early, 7, name_line, wide);
    model_init(&late, 7, name_line, wide);
    assert_int_equal(model_open_sse(&early), 0);
    for (int i = 0; i < 300; i++) {
        if (i == open_at)
            assert_int_equal(model_open_sse(&late), 0);
        append_one_of_all_kinds(&early, i);
        append_one_of_all_kinds(&late, i);
        if (i % 40 == 39) {
            model_evict_half(&early);
            model_evict_half(&late);
        }
    }
    struct tl_buf want = lane_bytes(&early.log, TL_LANE_SSE);
    struct tl_buf got = lane_bytes(&late.log, TL_LANE_SSE);
    model_assert_bytes(tl_buf_bytes(&got), tl_buf_bytes(&want));
    assert_int_equal(late.log.bytes, early.log.bytes);
    tl_buf_deinit(&want);
    tl_buf_deinit(&got);
    model_deinit(&early);
    model_deinit(&late);
}

static void lane_opened_late_holds_what_an_open_one_would(void **state)
{
    (void)state;
    for (int open_at = 0; open_at < 300; open_at += 23) {
        lane_opened_late(false, open_at);
        lane_opened_late(true, open_at);
    }
}

static void closed_lane_costs_nothing_and_opens_again(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    for (int round = 0; round < 5; round++) {
        append(&m, 50);
        assert_int_equal(model_open_sse(&m), 0);
        assert_int_equal(model_open_sse(&m), 0); /* nothing to do */
        append(&m, 5000);
        model_check(&m);
        assert_int_equal(tl_log_head(&m.log, TL_LANE_SSE).off -
                             tl_log_tail(&m.log, TL_LANE_SSE).off,
                         m.log.lanes[TL_LANE_SSE]->head_off);
        tl_log_lane_close(&m.log, TL_LANE_SSE);
        tl_log_lane_close(&m.log, TL_LANE_SSE);
        tl_log_lane_close(&m.log, TL_LANE_WS); /* stays */
        model_check(&m);
        assert_null(m.log.lanes[TL_LANE_SSE]);
    }
    assert_int_equal(m.log.bytes, 5 * 52 + 5 * 5004);
    model_deinit(&m);
}

static void new_epoch_voids_positions_and_keeps_messages(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    append(&m, 1);
    model_new_epoch(&m);
    struct tl_position position = tl_log_position(&m.log);
    assert_true(position.epoch == 2 && position.idx == 1);
    assert_int_equal(m.log.epoch_idx, 1);
    append(&m, 1);
    assert_int_equal(tl_log_position(&m.log).idx, 2);
    assert_int_equal(m.log.tail.idx, 0);
    model_deinit(&m);
}

/* --- without memory --- */

struct snapshot {
    struct tl_mark heads[TL_LANE_N], tails[TL_LANE_N];
    uint64_t bytes, epoch;
};

static struct snapshot snapshot(const struct tl_log *log)
{
    struct snapshot s;
    memset(&s, 0, sizeof(s));
    for (int kind = 0; kind < TL_LANE_N && log->lanes[kind]; kind++) {
        s.heads[kind] = tl_log_head(log, (enum tl_lane_kind)kind);
        s.tails[kind] = tl_log_tail(log, (enum tl_lane_kind)kind);
    }
    s.bytes = log->bytes;
    s.epoch = log->epoch;
    return s;
}

/* Let the i-th allocation of an append fail for each i; then let it pass. */
static void append_with_failures(struct model *m, int i)
{
    static const size_t sizes[] = {0, 10, 100, 300, 5000, 70000};
    size_t n = sizes[model_below(m, 6)];
    for (int64_t skip = 0;; skip++) {
        struct snapshot before = snapshot(&m->log), after;
        tl_alloc_fail(skip, 1);
        int r = i % 10 == 9
                    ? tl_log_append_control(
                          &m->log, &(struct tl_control){.sse_event = TL_LIT(": x\n\n")}, m->now_ms)
                    : tl_log_append(&m->log, &(struct tl_message){.payload = {text_pool, n}},
                                    m->now_ms);
        uint64_t asked = tl_alloc_fail(0, 0);
        after = snapshot(&m->log);
        if (r == 0) {
            assert_true(asked <= (uint64_t)skip);
            assert_int_equal(after.heads[0].idx, before.heads[0].idx + 1);
            return;
        }
        assert_int_equal(r, -ENOMEM);
        assert_memory_equal(&after, &before, sizeof(before));
    }
}

static void append_without_memory_changes_nothing(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_SSE};
    model_init(&m, 3, false, (struct tl_log_limits){30, 1u << 30, 1u << 30});
    assert_int_equal(tl_log_lane_open(&m.log, TL_LANE_SSE), 0);
    for (int i = 0; i < 600; i++) {
        append_with_failures(&m, i);
        tl_log_evict(&m.log, m.now_ms);
        assert_int_equal(reader_tell(&r, &m.log), 0);
        assert_int_equal(m.log.head.idx, i + 1);
    }
    /* The segments that the failures left empty did not confuse the borders. */
    struct tl_mark at = m.log.tail;
    for (uint64_t idx = at.idx; idx < m.log.head.idx; idx++) {
        struct tl_mark mark = tl_chain_mark(&m.log.ws.chain, idx, m.log.head);
        assert_true(mark.msg >= at.msg && mark.off >= at.off);
        at = mark;
    }
    assert_int_equal(m.log.head.msg, 600 - 60);
    tl_view_deinit(&r.view);
    model_deinit(&m);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
}

static void lane_without_memory_stays_off_and_leaks_nothing(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 3, true, wide);
    for (int i = 0; i < 200; i++)
        append_one_of_all_kinds(&m, i);
    for (int64_t skip = 0;; skip++) {
        tl_alloc_fail(skip, 1);
        int r = model_open_sse(&m);
        tl_alloc_fail(0, 0);
        model_check(&m);
        if (r == 0) {
            assert_true(skip > 3);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        assert_null(m.log.lanes[TL_LANE_SSE]);
        assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
        append(&m, 5); /* goes on without it */
    }
    model_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_kept_up_to_their_limit),
        cmocka_unit_test(bytes_of_each_lane_are_kept_up_to_their_limit),
        cmocka_unit_test(messages_are_kept_up_to_their_age),
        cmocka_unit_test(no_age_is_too_great_for_the_clock),
        cmocka_unit_test(message_after_months_of_silence_is_as_old_as_it_is),
        cmocka_unit_test(evict_half_keeps_the_newer_half),
        cmocka_unit_test(events_drive_no_message_out_of_a_short_log),
        cmocka_unit_test(events_have_a_bound_of_their_own_and_the_newest_message_stays_within_it),
        cmocka_unit_test(events_alone_are_kept_up_to_their_bound),
        cmocka_unit_test(channel_with_one_small_message_costs_under_a_kilobyte),
        cmocka_unit_test(segments_grow_with_what_is_kept),
        cmocka_unit_test(log_that_keeps_little_stays_small_for_ever),
        cmocka_unit_test(message_of_sixteen_mebibytes_has_a_segment_of_its_size),
        cmocka_unit_test(deinit_takes_a_zeroed_log),
        cmocka_unit_test(lane_opened_late_holds_what_an_open_one_would),
        cmocka_unit_test(closed_lane_costs_nothing_and_opens_again),
        cmocka_unit_test(new_epoch_voids_positions_and_keeps_messages),
        cmocka_unit_test(append_without_memory_changes_nothing),
        cmocka_unit_test(lane_without_memory_stays_off_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
