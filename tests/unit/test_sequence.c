/* The sequence of all appends of a process: tokens, numbers of entries, the tagged lane, and where
 * somebody goes on who has everything up to a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "feed/follow.h"
#include "feed/view.h"
#include "proto/sse.h"

#include <errno.h>
#include <stdio.h>

#define LOGS_N    3
#define ENTRIES_N 4000

/* --- tokens --- */

static void tokens_come_back_as_they_were(void **state)
{
    static const struct tl_bytes names[] = {
        {(const uint8_t *)"", 0},         {(const uint8_t *)"tram_5", 6},
        {(const uint8_t *)"a@b-1", 5},    {(const uint8_t *)"50%; x", 6},
        {(const uint8_t *)"\xc5\x81", 2}, {(const uint8_t *)"\xff\x00\n\x7f", 4},
    };
    static const uint64_t numbers[] = {0, 1, 9, 10, UINT32_MAX, UINT64_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
            char text[TL_SEQUENCE_TEXT_MAX];
            struct tl_sequence in = {UINT64_C(0xfedcba9876543210), numbers[k]}, out;
            size_t n = tl_sequence_print(in, names[i], text);
            assert_int_equal(n, strlen(text));
            for (size_t c = 0; c < n; c++)
                assert_true(text[c] > 0x20 && text[c] < 0x7f);
            assert_true(tl_sequence_parse(tl_bytes(text, n), &out));
            assert_true(out.epoch == in.epoch && out.at == in.at);
            uint8_t name[255];
            size_t name_n = 0;
            const char *at = strchr(text, '@') + 1;
            assert_true(tl_sse_name_decode(tl_bytes_str(at), name, &name_n));
            assert_true(tl_bytes_eq(tl_bytes(name, name_n), names[i]));
        }
    }
    char longest[TL_SEQUENCE_TEXT_MAX];
    uint8_t name[255];
    memset(name, 0xff, sizeof name);
    assert_int_equal(
        tl_sequence_print((struct tl_sequence){1, UINT64_MAX}, tl_bytes(name, 255), longest),
        TL_SEQUENCE_TEXT_MAX - 1);
}

/* A client cuts at the `@`, and puts the rest behind `&since=` as it is. */
static void a_tag_has_nothing_that_a_url_or_a_client_takes_for_its_own(void **state)
{
    static const char name[] = "a@b#c&ch=d+e?f/g:h\"i~j-k._Z9";
    char text[TL_SEQUENCE_TEXT_MAX];
    (void)state;
    tl_sequence_print_tag(tl_bytes_str(name), text);
    assert_string_equal(text, "@a%40b%23c%26ch%3Dd%2Be%3Ff%2Fg%3Ah%22i~j-k._Z9");
}

static void what_is_no_token_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "@",
        "@a",
        "0123456789abcdef",
        "0123456789abcdef-7",
        "0123456789abcdef-@a",
        "0123456789abcdef-07@a",
        "0123456789ABCDEF-7@a",
        "123456789abcdef-7@a",
        "0123456789abcdef-18446744073709551616@a",
        "0123456789abcdef-7-1-1@a",
        " 0123456789abcdef-7@a",
        "0123456789abcdef-7 @a",
        "0123456789abcdef--7@a",
    };
    struct tl_sequence out;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_false(tl_sequence_parse(tl_bytes_str(texts[i]), &out));
}

/* --- logs that share a sequence --- */

struct world {
    struct tl_sequence sequence;
    struct tl_log_limits limits;
    struct tl_log logs[LOGS_N];
    /* What each number was: of which log, or none. */
    struct {
        int8_t log; /* -1: no entry */
        bool is_message;
    } what[ENTRIES_N + 1];
    uint64_t rng;
};

static struct world w;

static uint64_t below(uint64_t n)
{
    uint64_t z = w.rng += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    return (z ^ z >> 31) % n;
}

static const char *const log_names[LOGS_N] = {"a", "b c", "\xc5\x81"};

static void open_world(uint64_t seed, uint64_t msgs_max)
{
    memset(&w, 0, sizeof w);
    memset(w.what, 0xff, sizeof w.what);
    w.rng = seed;
    w.sequence.epoch = 0xe;
    w.limits = (struct tl_log_limits){msgs_max, 1u << 20, 1u << 30};
    for (size_t i = 0; i < LOGS_N; i++) {
        tl_log_init(&w.logs[i], &w.limits, i + 1, false);
        tl_log_number(&w.logs[i], &w.sequence, tl_bytes_str(log_names[i]));
    }
}

static void close_world(void)
{
    for (size_t i = 0; i < LOGS_N; i++)
        tl_log_deinit(&w.logs[i]);
}

static void append(size_t i, bool control)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%llu\n%0*d", (unsigned long long)w.sequence.at + 1,
                     (int)below(40) + 1, 7);
    struct tl_message message = {.payload = tl_bytes(text, (size_t)n)};
    struct tl_control event = {.sse_event = TL_LIT("event: gap\ndata: 1\n\n"),
                               .position = TL_LIT("some-id"),
                               .tells = TL_ENTRY_GAP};
    int r = control ? tl_log_append_control(&w.logs[i], &event, 1)
                    : tl_log_append(&w.logs[i], &message, 1);
    assert_int_equal(r, 0);
    assert_true(w.sequence.at <= ENTRIES_N);
    w.what[w.sequence.at].log = (int8_t)i;
    w.what[w.sequence.at].is_message = !control;
}

static void look(size_t i, enum tl_lane_kind kind, struct tl_view *view)
{
    const struct tl_log *log = &w.logs[i];
    const struct tl_chain *chain = &log->lanes[kind]->chain;
    struct tl_segment *segs[512];
    assert_true(chain->n <= 512);
    for (uint32_t s = 0; s < chain->n; s++)
        segs[s] = tl_segment_ref(tl_chain_at(chain, s));
    struct tl_view_update update = {
        .segs = segs,
        .segs_n = chain->n,
        .anew = true,
        .head = tl_log_head(log, kind),
        .tail = tl_log_tail(log, kind),
        .epoch = log->epoch,
        .epoch_idx = log->epoch_idx,
        .seqs = log->seqs,
    };
    if (log->follow)
        update.stream = log->follow->marks;
    assert_int_equal(tl_view_apply(view, &update), 0);
}

/* The first number behind seq that the log has an entry with bytes for; 0: none. */
static uint64_t next_number(size_t i, const struct tl_view *view, uint64_t seq, bool controls)
{
    for (uint64_t s = seq + 1; s <= w.sequence.at; s++)
        if (w.what[s].log == (int8_t)i && s > view->seqs.tail && (controls || w.what[s].is_message))
            return s;
    return 0;
}

static void check_view(size_t i, enum tl_lane_kind kind)
{
    struct tl_view view = {0};
    look(i, kind, &view);
    for (int k = 0; k < 40; k++) {
        uint64_t seq = below(w.sequence.at + 3);
        struct tl_mark from = tl_view_behind(&view, seq), resumed;
        /* Of a lane that was opened late, older events have no bytes: the WebSocket lane's never
         * have. */
        uint64_t next = next_number(i, &view, seq, false);
        assert_true(from.idx == view.tail.idx || tl_view_seq_before(&view, from) <= seq);
        if (next > 0) {
            assert_true(from.off < view.head.off);
            assert_true(tl_view_seq(&view, from.off) > seq);
            assert_true(tl_view_seq(&view, from.off) <= next);
        }
        enum tl_resume r = tl_view_resume_behind(&view, seq, &resumed);
        assert_int_equal(r, seq < view.seqs.epoch  ? TL_RESUME_VOID
                            : seq < view.seqs.tail ? TL_RESUME_GAP
                                                   : TL_RESUME_FROM);
        assert_true(resumed.idx >= from.idx);
        if (r != TL_RESUME_VOID)
            assert_int_equal(resumed.off, from.off);
        else
            assert_true(resumed.idx >= view.epoch_idx || view.epoch_idx > view.head.idx);
    }
    tl_view_deinit(&view);
}

static void numbers_are_found_whatever_is_dropped_and_renewed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        open_world(seed, 5 + seed * 7);
        for (int step = 0; step < 1000; step++) {
            size_t i = below(LOGS_N);
            struct tl_log *log = &w.logs[i];
            uint64_t what = below(100);
            if (what < 2)
                tl_log_new_epoch(log, 1000 + (uint64_t)step);
            else if (what < 4)
                tl_log_lane_close(log, TL_LANE_SSE_TAGGED);
            else if (what < 8)
                assert_int_equal(tl_log_lane_open(log, TL_LANE_SSE_TAGGED), 0);
            else
                append(i, what < 12);
            tl_log_evict(log, 1);
            if (what < 20)
                check_view(i, log->lanes[TL_LANE_SSE_TAGGED] ? TL_LANE_SSE_TAGGED : TL_LANE_WS);
        }
        close_world();
    }
}

/* --- what the lane says --- */

struct expected {
    size_t log;
    uint64_t at;
};

static void on_event(const struct tl_sse_received *ev, void *arg)
{
    struct expected *expected = arg;
    struct tl_sequence sequence;
    char want[TL_SEQUENCE_TEXT_MAX], text[32];
    assert_true(tl_sequence_parse(ev->id, &sequence));
    assert_true(sequence.at > expected->at);
    expected->at = sequence.at;
    tl_sequence_print(sequence, tl_bytes_str(log_names[expected->log]), want);
    assert_true(tl_bytes_eq(ev->id, tl_bytes_str(want)));
    assert_int_equal(w.what[sequence.at].log, expected->log);
    if (!w.what[sequence.at].is_message) {
        assert_true(tl_bytes_eq(ev->event, TL_LIT("gap")));
        return;
    }
    int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)sequence.at);
    assert_true(tl_bytes_starts(ev->data, tl_bytes(text, (size_t)n)));
}

static struct tl_buf lane_bytes(size_t i)
{
    struct tl_view view = {0};
    struct tl_buf out = {0};
    look(i, TL_LANE_SSE_TAGGED, &view);
    for (uint64_t off = view.tail.off; off < view.head.off;) {
        struct tl_range range;
        tl_view_range(&view, off, 500, &range);
        for (unsigned s = 0; s < range.slices_n; s++)
            tl_buf_append(&out, range.slices[s]);
        off = range.to.off;
    }
    tl_view_deinit(&view);
    return out;
}

static void each_event_and_gap_carries_its_number_and_channel(void **state)
{
    (void)state;
    open_world(3, 100000);
    for (size_t i = 0; i < LOGS_N; i++)
        assert_int_equal(tl_log_lane_open(&w.logs[i], TL_LANE_SSE_TAGGED), 0);
    for (int k = 0; k < 900; k++)
        append(below(LOGS_N), below(10) == 0);
    for (size_t i = 0; i < LOGS_N; i++) {
        struct expected expected = {i, 0};
        struct tl_sse_parser parser;
        struct tl_buf bytes = lane_bytes(i);
        tl_sse_parser_init(&parser, 1 << 16, on_event, &expected);
        assert_int_equal(tl_sse_parse(&parser, tl_buf_bytes(&bytes)), TL_PARSE_MORE);
        assert_true(expected.at > 0);
        tl_sse_parser_deinit(&parser);
        tl_buf_deinit(&bytes);
    }
    close_world();
}

static void a_lane_that_is_opened_late_has_the_same_messages(void **state)
{
    (void)state;
    open_world(4, 100000);
    assert_int_equal(tl_log_lane_open(&w.logs[0], TL_LANE_SSE_TAGGED), 0);
    for (int k = 0; k < 300; k++)
        append(below(2), false);
    struct tl_buf early = lane_bytes(0);
    tl_log_lane_close(&w.logs[0], TL_LANE_SSE_TAGGED);
    assert_int_equal(tl_log_lane_open(&w.logs[0], TL_LANE_SSE_TAGGED), 0);
    struct tl_buf late = lane_bytes(0);
    assert_true(tl_bytes_eq(tl_buf_bytes(&early), tl_buf_bytes(&late)));
    tl_buf_deinit(&early);
    tl_buf_deinit(&late);
    close_world();
}

/* --- edges --- */

static void numbers_that_are_far_apart_are_kept(void **state)
{
    static const uint64_t jumps[] = {1, UINT32_MAX - 1, UINT32_MAX, UINT64_C(1) << 32,
                                     UINT64_C(1) << 40};
    (void)state;
    open_world(5, 100000);
    w.sequence.at = 0;
    assert_int_equal(tl_log_lane_open(&w.logs[0], TL_LANE_SSE_TAGGED), 0);
    uint64_t seqs[sizeof jumps / sizeof *jumps];
    struct tl_message message = {.payload = TL_LIT("x")};
    for (size_t k = 0; k < sizeof jumps / sizeof *jumps; k++) {
        w.sequence.at += jumps[k] - 1;
        assert_int_equal(tl_log_append(&w.logs[0], &message, 1), 0);
        seqs[k] = w.sequence.at;
    }
    struct tl_view view = {0};
    look(0, TL_LANE_SSE_TAGGED, &view);
    for (size_t k = 0; k < sizeof jumps / sizeof *jumps; k++) {
        assert_int_equal(tl_view_behind(&view, seqs[k]).idx, k + 1);
        assert_int_equal(tl_view_behind(&view, seqs[k] - 1).idx, k);
    }
    tl_view_deinit(&view);
    close_world();
}

static void an_append_that_fails_takes_no_number(void **state)
{
    (void)state;
    open_world(6, 100000);
    assert_int_equal(tl_log_lane_open(&w.logs[0], TL_LANE_SSE_TAGGED), 0);
    struct tl_message message = {.payload = TL_LIT("x")};
    uint64_t before = w.sequence.at;
    tl_alloc_fail(0, -1);
    assert_int_equal(tl_log_append(&w.logs[0], &message, 1), -ENOMEM);
    tl_alloc_fail(0, 0);
    assert_int_equal(w.sequence.at, before);
    close_world();
}

/* Whoever has all up to now misses what comes between this moment and the log, or its new epoch. */
static void a_new_log_or_epoch_is_behind_all_numbers_that_were_given(void **state)
{
    struct tl_view view = {0};
    struct tl_mark from;
    (void)state;
    open_world(7, 100000);
    append(0, false);
    uint64_t before = w.sequence.at;
    tl_log_new_epoch(&w.logs[1], 99);
    look(1, TL_LANE_WS, &view);
    assert_int_equal(tl_view_resume_behind(&view, before, &from), TL_RESUME_VOID);
    append(0, false);
    assert_int_equal(tl_view_resume_behind(&view, w.sequence.at, &from), TL_RESUME_FROM);
    tl_view_deinit(&view);
    close_world();
}

/* Older entries of a stream were appended before the sequence began, whatever is dropped. */
static void older_entries_of_a_stream_are_before_every_number(void **state)
{
    static const struct tl_stream_place place = {7, {100, 0}, 50};
    struct tl_stream_entry older[3] = {
        {{90, 0}, TL_LIT("p")}, {{95, 0}, TL_LIT("q")}, {{100, 0}, TL_LIT("r")}};
    struct tl_follow follow;
    struct tl_stream_marks marks = {0};
    struct tl_view view = {.stream = &marks};
    struct tl_mark from;
    (void)state;
    memset(&w, 0, sizeof w);
    w.sequence = (struct tl_sequence){0xe, 10};
    w.limits = (struct tl_log_limits){4, 1u << 20, 1000};
    tl_log_init(&w.logs[0], &w.limits, 1, false);
    tl_log_number(&w.logs[0], &w.sequence, TL_LIT("s"));
    tl_log_follow(&w.logs[0], &follow);
    tl_log_follow_at(&w.logs[0], &place, false, false);
    assert_int_equal(tl_log_lane_open(&w.logs[0], TL_LANE_SSE_TAGGED), 0);
    struct tl_message message = {.payload = TL_LIT("x"), .id = {101, 0}};
    assert_int_equal(tl_log_append(&w.logs[0], &message, 1), 0);
    assert_int_equal(tl_log_prepend(&w.logs[0], older, 3, (struct tl_entry_id){80, 0},
                                    (struct tl_entry_id){80, 0}, 1, 100),
                     0);
    look(0, TL_LANE_SSE_TAGGED, &view);
    assert_int_equal(tl_view_seq(&view, view.tail.off), 0);
    assert_int_equal(tl_view_behind(&view, 0).msg, view.head.msg - 1);
    assert_int_equal(tl_view_resume_behind(&view, 0, &from), TL_RESUME_VOID);
    assert_int_equal(tl_view_resume_behind(&view, 11, &from), TL_RESUME_FROM);
    assert_int_equal(from.msg, view.head.msg - 1);
    tl_view_deinit(&view);
    message.id = (struct tl_entry_id){102, 0};
    assert_int_equal(tl_log_append(&w.logs[0], &message, 2000), 0);
    assert_int_equal(tl_log_evict_half(&w.logs[0]), 2); /* two of the older ones */
    assert_int_equal(w.logs[0].seqs.tail, 11);          /* all that has a number is still there */
    tl_log_deinit(&w.logs[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_come_back_as_they_were),
        cmocka_unit_test(a_tag_has_nothing_that_a_url_or_a_client_takes_for_its_own),
        cmocka_unit_test(what_is_no_token_is_refused),
        cmocka_unit_test(numbers_are_found_whatever_is_dropped_and_renewed),
        cmocka_unit_test(each_event_and_gap_carries_its_number_and_channel),
        cmocka_unit_test(a_lane_that_is_opened_late_has_the_same_messages),
        cmocka_unit_test(numbers_that_are_far_apart_are_kept),
        cmocka_unit_test(an_append_that_fails_takes_no_number),
        cmocka_unit_test(a_new_log_or_epoch_is_behind_all_numbers_that_were_given),
        cmocka_unit_test(older_entries_of_a_stream_are_before_every_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
