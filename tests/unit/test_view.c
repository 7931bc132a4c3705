#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "feed_model.h"

#include <errno.h>

#define SEEDS     60
#define STEPS     1500
#define READERS_N 4
#define CURSORS_N 3

/* --- the random walk --- */

struct cursor {
    struct tl_mark at;
    /* A send that is still under way. */
    struct tl_segment *segs[16];
    unsigned segs_n;
    struct tl_range range;
    uint64_t range_idx;
};

struct walker {
    bool on;
    struct reader reader;
    struct cursor cursors[CURSORS_N];
};

static void check_pins(const struct cursor *c)
{
    assert_int_equal(c->segs_n, c->range.slices_n);
    for (unsigned i = 0; i < c->segs_n; i++) {
        const struct tl_segment *seg = c->segs[i];
        struct tl_bytes slice = c->range.slices[i];
        assert_true(slice.p >= seg->bytes && slice.p + slice.n <= seg->bytes + seg->bytes_n);
    }
}

/* The bytes of a send are what they were, whatever the log did meanwhile. */
static void finish_send(const struct model *m, const struct walker *w, struct cursor *c)
{
    if (c->segs_n == 0)
        return;
    model_check_range(m, w->reader.lane, c->range_idx, &c->range);
    for (unsigned i = 0; i < c->segs_n; i++)
        tl_segment_unref(c->segs[i]);
    c->segs_n = 0;
}

/* What the events told that it did not read. */
static void check_lost(const struct model *m, const struct reader *r, const struct tl_mark *at)
{
    const struct tl_view *view = &r->view;
    uint8_t told = 0, broker = 0;
    for (uint64_t i = at->idx; i < view->tail.idx; i++) {
        uint8_t tells = model_shows(&m->entries[i], r->lane) ? m->entries[i].tells : 0;
        told |= tells;
        broker = tells & (TL_ENTRY_DOWN | TL_ENTRY_UP) ? tells : broker;
    }
    struct tl_lost lost = tl_view_lost(view, at->off, at->msg);
    assert_int_equal(lost.msgs_n, model_messages(m, at->idx, view->tail.idx));
    assert_int_equal(lost.gap, (told & TL_ENTRY_GAP) != 0);
    assert_int_equal(lost.broker, broker != 0);
    assert_true(!lost.broker || lost.is_down == (broker == TL_ENTRY_DOWN));
}

/* Fell off the tail: the count of what was missed is exact. */
static void follow_tail(const struct model *m, const struct reader *r, struct cursor *c)
{
    const struct tl_view *view = &r->view;
    if (c->at.idx >= view->tail.idx)
        return;
    assert_int_equal(view->tail.msg - c->at.msg, model_messages(m, c->at.idx, view->tail.idx));
    assert_true(view->tail.off >= c->at.off);
    if (view->tail.off > c->at.off)
        check_lost(m, r, &c->at);
    c->at = view->tail;
}

static unsigned entries_with_bytes(const struct model *m, enum tl_lane_kind lane, uint64_t from,
                                   uint64_t to)
{
    unsigned n = 0;
    for (uint64_t i = from; i < to; i++)
        n += model_shows(&m->entries[i], lane);
    return n;
}

static void check_bounds(const struct model *m, const struct walker *w, const struct cursor *c,
                         const struct tl_range *range, size_t bytes_max)
{
    size_t bytes = 0;
    assert_in_range(range->slices_n, 1, 16);
    for (unsigned i = 0; i < range->slices_n; i++)
        bytes += range->slices[i].n;
    assert_int_equal(bytes, range->bytes_n);
    assert_int_equal(range->to.off, c->at.off + bytes);
    assert_true(range->to.idx > c->at.idx && range->to.idx <= w->reader.view.head.idx);
    assert_int_equal(range->to.msg - c->at.msg, model_messages(m, c->at.idx, range->to.idx));
    unsigned shown = entries_with_bytes(m, w->reader.lane, c->at.idx, range->to.idx);
    assert_true(shown > 0 && (bytes <= bytes_max || shown == 1));
}

static void take_some(struct model *m, struct walker *w, struct cursor *c)
{
    static const size_t sizes[] = {0, 1, 100, 4096, 65536, SIZE_MAX};
    const struct tl_view *view = &w->reader.view;
    finish_send(m, w, c);
    for (uint64_t ranges = model_below(m, 4); ranges > 0; ranges--) {
        follow_tail(m, &w->reader, c);
        if (c->at.off == view->head.off)
            return;
        size_t bytes_max = sizes[model_below(m, 6)];
        tl_view_range(view, c->at.off, bytes_max, &c->range);
        check_bounds(m, w, c, &c->range, bytes_max);
        model_check_range(m, w->reader.lane, c->at.idx, &c->range);
        c->range_idx = c->at.idx;
        if (ranges == 1 && model_below(m, 2)) {
            c->segs_n = tl_view_pin(view, c->at.off, c->range.to.off, c->segs);
            check_pins(c);
        }
        c->at = c->range.to;
    }
}

static void leave(struct model *m, struct walker *walkers, struct walker *w)
{
    for (int i = 0; i < CURSORS_N; i++)
        finish_send(m, w, &w->cursors[i]);
    tl_view_deinit(&w->reader.view);
    w->on = false;
    bool sse = false;
    for (int i = 0; i < READERS_N; i++)
        sse = sse || (walkers[i].on && walkers[i].reader.lane == TL_LANE_SSE);
    if (!sse)
        tl_log_lane_close(&m->log, TL_LANE_SSE);
}

/* The last n messages, or all that are kept of this epoch; the border is a true one. */
static void check_history(struct model *m, const struct tl_view *view)
{
    uint64_t head = view->head.idx;
    uint64_t oldest = view->tail.idx > view->epoch_idx ? view->tail.idx : view->epoch_idx;
    uint64_t first = oldest, n = model_below(m, head - oldest + 3);
    while (first < head && m->entries[first].control)
        first++;
    struct tl_mark from = tl_view_history(view, n);
    uint64_t got = model_messages(m, from.idx, head);
    assert_in_range(from.idx, oldest, head);
    assert_int_equal(got, view->head.msg - from.msg);
    assert_true(got == n || (got < n && from.idx == first));
    assert_true(from.idx == head || !m->entries[from.idx].control);
    assert_int_equal(tl_view_since_ms(view, 0).idx, first);
    assert_int_equal(tl_view_since_ms(view, UINT64_MAX).idx, head);
}

static void join(struct model *m, struct walker *w)
{
    *w = (struct walker){.on = true, .reader.lane = model_below(m, 2) ? TL_LANE_SSE : TL_LANE_WS};
    if (w->reader.lane == TL_LANE_SSE)
        assert_int_equal(model_open_sse(m), 0);
    assert_int_equal(reader_tell(&w->reader, &m->log), 0);
    const struct tl_view *view = &w->reader.view;
    check_history(m, view);
    for (int i = 0; i < CURSORS_N; i++) {
        uint64_t missed, kept = view->head.idx - view->tail.idx + 1;
        struct tl_position position = {.epoch = view->epoch,
                                       .idx = view->tail.idx + model_below(m, kept)};
        enum tl_resume outcome = tl_view_resume(view, position, &w->cursors[i].at, &missed);
        bool void_now = position.idx < view->epoch_idx;
        assert_int_equal(outcome, void_now ? TL_RESUME_VOID : TL_RESUME_FROM);
        assert_int_equal(w->cursors[i].at.idx, void_now ? view->head.idx : position.idx);
    }
}

static size_t random_size(struct model *m)
{
    static const size_t sizes[] = {0, 1, 2, 122, 125, 126, 127, 1000, 5000, 65535, 65536, 200000};
    uint64_t r = model_below(m, 100);
    if (r < 60)
        return model_below(m, 150);
    return sizes[r < 97 ? model_below(m, 9) : model_below(m, 12)];
}

/* An append or a lane without memory: nothing changes but for empty segments that stay behind. */
static void fail_some(struct model *m)
{
    uint64_t n = m->n;
    size_t size = random_size(m);
    tl_alloc_fail((int64_t)model_below(m, 4), 1);
    int r = model_below(m, 4) ? model_append(m, size, false, tl_bytes(NULL, 0)) : model_open_sse(m);
    tl_alloc_fail(0, 0);
    assert_true(r == -ENOMEM ? m->n == n : r == 0);
}

static void append_some(struct model *m)
{
    for (uint64_t n = 1 + model_below(m, model_below(m, 10) == 0 ? 60 : 4); n > 0; n--) {
        struct tl_bytes name =
            m->log.name_line || m->rng & 1 ? model_name(model_below(m, 9)) : tl_bytes(NULL, 0);
        assert_int_equal(model_append(m, random_size(m), model_below(m, 4) == 0, name), 0);
    }
}

/* Once, or many times with no message between. */
static void flap(struct model *m)
{
    for (uint64_t n = model_below(m, 8) ? 1 : model_below(m, 60); n > 0; n--) {
        if (model_below(m, 2))
            assert_int_equal(model_append_control(m, TL_ENTRY_DOWN), 0);
        model_new_epoch(m);
        if (model_below(m, 2))
            assert_int_equal(model_append_control(m, TL_ENTRY_UP), 0);
        assert_int_equal(model_append_control(m, TL_ENTRY_GAP), 0);
        model_evict(m);
    }
}

static void random_step(struct model *m, struct walker *walkers)
{
    struct walker *w = &walkers[model_below(m, READERS_N)];
    uint64_t r = model_below(m, 100);
    if (r < 25) {
        append_some(m);
        if (model_below(m, 4) == 0)
            fail_some(m);
        if (model_below(m, 8) > 0)
            model_evict(m);
    } else if (r < 45 && w->on) {
        assert_int_equal(reader_tell(&w->reader, &m->log), 0);
    } else if (r < 85 && w->on) {
        take_some(m, w, &w->cursors[model_below(m, CURSORS_N)]);
    } else if (r < 90) {
        m->now_ms += model_below(m, m->limits.age_max_ms);
        model_evict(m);
    } else if (r < 92) {
        model_evict_half(m);
    } else if (r < 94) {
        flap(m);
    } else if (w->on) {
        leave(m, walkers, w);
    } else {
        join(m, w);
    }
    model_check(m);
}

static void one_walk(uint64_t seed)
{
    struct model m;
    struct walker walkers[READERS_N] = {0};
    uint64_t rng = seed;
    struct tl_log_limits limits = {
        .msgs_max = 1 + model_random(&rng) % (seed % 3 ? 200 : 5),
        .bytes_max = seed % 4 ? 500 + model_random(&rng) % 20000 : 2u << 20,
        .age_max_ms = 1 + model_random(&rng) % 5000,
    };
    model_init(&m, seed, seed % 2, limits);
    for (int step = 0; step < STEPS; step++)
        random_step(&m, walkers);
    for (int i = 0; i < READERS_N; i++)
        if (walkers[i].on)
            leave(&m, walkers, &walkers[i]);
    model_deinit(&m);
}

static void every_cursor_sees_all_in_order_or_the_exact_gap_on_random_walks(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        one_walk(seed);
        if (tl_metric_get(TL_M_RETIRED_BYTES) != 0)
            fail_msg("seed %u leaves retired bytes", (unsigned)seed);
    }
}

/* --- ranges --- */

static const struct tl_log_limits wide = {1u << 20, 1u << 30, 1u << 30};

static void range_ends_after_sixteen_segments(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    struct tl_range range;
    model_init(&m, 1, false, wide);
    for (int i = 0; i < 20; i++) /* each over 64 KiB has a segment of its own */
        assert_int_equal(model_append(&m, 70000, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(r.view.chain.n, 20);
    tl_view_range(&r.view, 0, SIZE_MAX, &range);
    assert_int_equal(range.slices_n, 16);
    assert_int_equal(range.to.idx, 16);
    model_check_range(&m, TL_LANE_WS, 0, &range);
    struct tl_segment *segs[16];
    assert_int_equal(tl_view_pin(&r.view, 0, range.to.off, segs), 16);
    for (int i = 0; i < 16; i++)
        tl_segment_unref(segs[i]);
    tl_view_range(&r.view, range.to.off, SIZE_MAX, &range);
    assert_int_equal(range.slices_n, 4);
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

static void segment_without_bytes_is_neither_sent_nor_pinned(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    struct tl_range range;
    struct tl_segment *segs[16];
    model_init(&m, 1, false, wide);
    assert_int_equal(model_append(&m, 70000, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(model_append_control(&m, TL_ENTRY_GAP), 0); /* alone in its segment */
    assert_int_equal(model_append(&m, 70000, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(model_append(&m, 70000, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(model_append_control(&m, TL_ENTRY_GAP), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(r.view.chain.n, 5);
    tl_view_range(&r.view, 0, SIZE_MAX, &range);
    assert_int_equal(range.slices_n, 3);
    assert_int_equal(range.to.idx, 5);
    model_check_range(&m, TL_LANE_WS, 0, &range);
    assert_int_equal(tl_view_pin(&r.view, 0, range.to.off, segs), 3);
    for (int i = 0; i < 3; i++)
        tl_segment_unref(segs[i]);
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

static void segments_before_the_tail_are_let_go_at_once(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    model_init(&m, 1, false, wide);
    for (int i = 0; i < 4; i++)
        assert_int_equal(model_append(&m, 70000, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    model_evict_half(&m);
    assert_int_equal(m.log.ws.chain.n, 2);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 2 * 70010); /* the view has them still */
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(r.view.chain.n, 2);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

static void range_of_every_size_ends_at_the_last_border_that_fits(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    struct tl_range range;
    model_init(&m, 1, false, wide);
    for (size_t i = 0; i < 6; i++) /* frames of 10..15 bytes in one segment */
        assert_int_equal(model_append(&m, 8 + i, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(r.view.chain.n, 1);
    for (uint64_t from_idx = 0, from = 0; from_idx < 6; from += 10 + from_idx++) {
        for (size_t max = 0; max < 90; max++) {
            uint64_t idx = from_idx + 1, off = from + 10 + from_idx;
            while (idx < 6 && off + 10 + idx - from <= max)
                off += 10 + idx++;
            tl_view_range(&r.view, from, max, &range);
            assert_int_equal(range.to.idx, idx);
            assert_int_equal(range.to.msg, idx);
            assert_int_equal(range.to.off, off);
        }
    }
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

static void view_shows_nothing_that_it_was_not_told(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    struct tl_range range;
    model_init(&m, 1, false, wide);
    assert_int_equal(model_append(&m, 10, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(model_append(&m, 10, false, tl_bytes(NULL, 0)), 0); /* in the same segment */
    tl_view_range(&r.view, 0, SIZE_MAX, &range);
    assert_int_equal(range.to.idx, 1);
    assert_int_equal(range.bytes_n, 12);
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

static void pinned_bytes_outlive_the_log_and_count_as_retired(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    struct tl_range range;
    struct tl_segment *segs[16];
    model_init(&m, 1, false, wide);
    assert_int_equal(model_append(&m, 100000, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(model_append(&m, 100, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    tl_view_range(&r.view, 0, 1, &range);
    assert_int_equal(tl_view_pin(&r.view, 0, range.to.off, segs), 1);
    tl_view_deinit(&r.view);
    tl_log_deinit(&m.log);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 100010);
    model_check_range(&m, TL_LANE_WS, 0, &range);
    tl_segment_unref(segs[0]);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
    model_deinit(&m);
}

/* --- resume (R16) --- */

static void check_resume(const struct model *m, const struct tl_view *view,
                         struct tl_position position)
{
    struct tl_mark from;
    uint64_t missed;
    enum tl_resume outcome = tl_view_resume(view, position, &from, &missed);
    uint64_t first = view->epoch_idx;
    if (position.epoch != m->log.epoch || position.idx < first || position.idx > m->n) {
        assert_int_equal(outcome, TL_RESUME_VOID);
        assert_memory_equal(&from, &view->head, sizeof(from));
        assert_int_equal(missed, 0);
    } else if (position.idx >= m->tail) {
        assert_int_equal(outcome, TL_RESUME_FROM);
        assert_int_equal(from.idx, position.idx);
        assert_int_equal(from.msg, model_messages(m, 0, position.idx));
        assert_int_equal(missed, 0);
        struct tl_range range;
        if (from.off < view->head.off) {
            tl_view_range(view, from.off, SIZE_MAX, &range);
            model_check_range(m, TL_LANE_SSE, position.idx, &range);
        }
    } else {
        assert_int_equal(outcome, TL_RESUME_GAP);
        assert_memory_equal(&from, &view->tail, sizeof(from));
        /* No client is ever given the position before an epoch's first entry, a control event. */
        if (position.idx > first)
            assert_int_equal(missed, model_messages(m, position.idx, m->tail));
    }
}

static void resume_of_every_position_is_exact(void **state)
{
    (void)state;
    for (uint64_t msgs_max = 1; msgs_max < 50; msgs_max += 3) {
        struct model m;
        struct reader r = {.lane = TL_LANE_SSE};
        model_init(&m, msgs_max, false, (struct tl_log_limits){msgs_max, 1 << 20, 1 << 20});
        assert_int_equal(model_open_sse(&m), 0);
        for (int i = 0; i < 60; i++) {
            if (i == 0 || (i % 25 != 0)) {
                assert_int_equal(model_append(&m, 20, false, tl_bytes(NULL, 0)), 0);
            } else {
                model_new_epoch(&m);
                assert_int_equal(model_append_control(&m, TL_ENTRY_GAP), 0);
            }
            model_evict(&m);
            assert_int_equal(reader_tell(&r, &m.log), 0);
            for (uint64_t epoch = 0; epoch <= m.epochs + 1; epoch++)
                for (uint64_t idx = 0; idx <= m.n + 2; idx++)
                    check_resume(&m, &r.view, (struct tl_position){.epoch = epoch, .idx = idx});
            check_resume(&m, &r.view,
                         (struct tl_position){.epoch = m.log.epoch, .idx = UINT64_MAX});
        }
        tl_view_deinit(&r.view);
        model_deinit(&m);
    }
}

static void whoever_comes_after_a_gap_is_not_told_of_it(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_SSE};
    struct tl_mark from;
    uint64_t missed;
    model_init(&m, 1, false, (struct tl_log_limits){3, 1 << 20, 1 << 20});
    assert_int_equal(model_open_sse(&m), 0);
    assert_int_equal(model_append(&m, 20, false, tl_bytes(NULL, 0)), 0);
    model_new_epoch(&m);
    assert_int_equal(model_append_control(&m, TL_ENTRY_GAP), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(tl_view_history(&r.view, 10).idx, 2);
    assert_int_equal(tl_view_since_ms(&r.view, 0).idx, 2);
    assert_int_equal(model_append(&m, 20, false, tl_bytes(NULL, 0)), 0);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    struct tl_position position = tl_view_position(&r.view, tl_view_history(&r.view, 10));
    assert_int_equal(position.idx, 2);
    assert_int_equal(tl_view_since_ms(&r.view, 0).idx, 2);
    /* And what it is told to have missed, when it comes back, are messages. */
    for (int i = 0; i < 5; i++)
        assert_int_equal(model_append(&m, 20, false, tl_bytes(NULL, 0)), 0);
    model_evict(&m);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(tl_view_resume(&r.view, position, &from, &missed), TL_RESUME_GAP);
    assert_int_equal(missed, 3);
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

static void resume_on_an_empty_log_starts_at_the_head(void **state)
{
    (void)state;
    struct model m;
    struct reader r = {.lane = TL_LANE_WS};
    struct tl_mark from;
    uint64_t missed;
    model_init(&m, 1, false, wide);
    assert_int_equal(reader_tell(&r, &m.log), 0);
    assert_int_equal(
        tl_view_resume(&r.view, (struct tl_position){.epoch = 1, .idx = 0}, &from, &missed),
        TL_RESUME_FROM);
    assert_int_equal(from.off + from.idx + from.msg, 0);
    assert_int_equal(
        tl_view_resume(&r.view, (struct tl_position){.epoch = 1, .idx = 1}, &from, &missed),
        TL_RESUME_VOID);
    tl_view_deinit(&r.view);
    model_deinit(&m);
}

/* --- without memory --- */

static void apply_without_memory_leaks_nothing(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 1, false, wide);
    for (int i = 0; i < 9; i++)
        assert_int_equal(model_append(&m, 70000, false, tl_bytes(NULL, 0)), 0);
    for (int64_t skip = 0;; skip++) {
        struct reader r = {.lane = TL_LANE_WS};
        tl_alloc_fail(skip, -1);
        int result = reader_tell(&r, &m.log);
        tl_alloc_fail(0, 0);
        assert_true(result == 0 || result == -ENOMEM);
        tl_view_deinit(&r.view);
        for (uint32_t i = 0; i < m.log.ws.chain.n; i++)
            assert_int_equal(tl_chain_at(&m.log.ws.chain, i)->refs, 1);
        if (result == 0) {
            assert_true(skip > 1);
            break;
        }
    }
    model_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cursor_sees_all_in_order_or_the_exact_gap_on_random_walks),
        cmocka_unit_test(range_ends_after_sixteen_segments),
        cmocka_unit_test(segment_without_bytes_is_neither_sent_nor_pinned),
        cmocka_unit_test(segments_before_the_tail_are_let_go_at_once),
        cmocka_unit_test(range_of_every_size_ends_at_the_last_border_that_fits),
        cmocka_unit_test(view_shows_nothing_that_it_was_not_told),
        cmocka_unit_test(pinned_bytes_outlive_the_log_and_count_as_retired),
        cmocka_unit_test(resume_of_every_position_is_exact),
        cmocka_unit_test(whoever_comes_after_a_gap_is_not_told_of_it),
        cmocka_unit_test(resume_on_an_empty_log_starts_at_the_head),
        cmocka_unit_test(apply_without_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
