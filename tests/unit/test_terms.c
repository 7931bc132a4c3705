/* The terms of a subscription, from the request's bytes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "feed/log.h"
#include "gateway/terms.h"

#include <stdio.h>

#define EPOCH UINT64_C(0x0123456789abcdef)

static bool read_terms(const char *query, const char *last_event_id, struct tl_terms *ret_terms)
{
    char head[600];
    struct tl_http1 http;
    struct tl_http1_request request;
    size_t head_n;
    snprintf(head, sizeof head, "GET /sse/a?%s HTTP/1.1\r\nHost: a\r\n%s%s%s\r\n", query,
             last_event_id ? "Last-Event-ID: " : "", last_event_id ? last_event_id : "",
             last_event_id ? "\r\n" : "");
    tl_http1_init(&http, 4096);
    assert_int_equal(tl_http1_head(&http, tl_bytes_str(head), &head_n, &request), TL_PARSE_DONE);
    return tl_terms_read(&request, ret_terms);
}

static struct tl_terms good(const char *query, const char *last_event_id)
{
    struct tl_terms terms;
    assert_true(read_terms(query, last_event_id, &terms));
    return terms;
}

static void nothing_said_is_from_now_on(void **state)
{
    struct tl_terms terms = good("token=x&other", NULL);
    (void)state;
    assert_false(terms.resumes || terms.strict);
    assert_int_equal(terms.history_msgs + terms.history_ms, 0);
}

static void a_position_and_how_many_behind_it(void **state)
{
    struct tl_terms terms = good("since=0123456789abcdef-7&received=5", NULL);
    (void)state;
    assert_true(terms.resumes && terms.strict);
    assert_true(terms.position.epoch == EPOCH && terms.position.idx == 12);
    terms = good("since=0123456789abcdef-18446744073709551615&received=5", NULL);
    assert_true(terms.position.idx == UINT64_MAX);
}

static void what_is_no_position_is_of_no_epoch(void **state)
{
    static const char *const queries[] = {"since=", "since", "since=x", "since=%zz",
                                          "since=0123456789abcdef-7x"};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct tl_terms terms = good(queries[i], NULL);
        assert_true(terms.resumes && terms.position.epoch == 0);
    }
}

static void the_browsers_own_header_goes_before_the_link(void **state)
{
    struct tl_terms terms = good("since=0123456789abcdef-7", "0123456789abcdef-9");
    (void)state;
    assert_true(terms.resumes && terms.position.idx == 9);
}

static void history_is_a_number_or_a_time(void **state)
{
    (void)state;
    assert_int_equal(good("history=12", NULL).history_msgs, 12);
    assert_int_equal(good("history=250ms", NULL).history_ms, 250);
    assert_int_equal(good("history=30s", NULL).history_ms, 30000);
    assert_int_equal(good("history=2m", NULL).history_ms, 120000);
    assert_int_equal(good("history=1h", NULL).history_ms, 3600000);
    assert_true(good("history=99999999999999999h", NULL).history_ms == UINT64_MAX);
}

static void numbers_that_are_none_are_refused(void **state)
{
    static const char *const queries[] = {
        "received=",   "received=x",      "received=1s",
        "received=-1", "received",        "strict=2",
        "strict=on",   "strict=",         "history=",
        "history=s",   "history=1d",      "history=%",
        "history=1ss", "received=%31%zz", "history=-1s",
        "strict=1x",   "history=",        "received=1000000000000000000",
    };
    (void)state;
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        struct tl_terms terms;
        assert_false(read_terms(queries[i], NULL, &terms));
    }
    assert_true(good("received=%31", NULL).position.idx == 1);
}

/* --- where the latest counts --- */

#define MESSAGES_N 5

/* Control event, five messages; at most three are kept. The epoch is 1, as is its first message. */
struct channel {
    struct tl_log_limits limits;
    struct tl_log log;
    struct tl_view view;
};

static void tell(struct channel *ch)
{
    struct tl_segment *segs[8];
    const struct tl_chain *chain = &ch->log.ws.chain;
    struct tl_view_update update = {
        .segs = segs,
        .head = tl_log_head(&ch->log, TL_LANE_WS),
        .tail = tl_log_tail(&ch->log, TL_LANE_WS),
        .epoch = ch->log.epoch,
        .epoch_idx = ch->log.epoch_idx,
    };
    assert_true(chain->n <= 8);
    for (; update.segs_n < chain->n; update.segs_n++)
        segs[update.segs_n] = tl_segment_ref(tl_chain_at(chain, update.segs_n));
    tl_view_deinit(&ch->view);
    assert_int_equal(tl_view_apply(&ch->view, &update), 0);
}

static void append(struct channel *ch)
{
    struct tl_message message = {.payload = TL_LIT("x")};
    assert_int_equal(tl_log_append(&ch->log, &message, 0), 0);
    tl_log_evict(&ch->log, 0);
}

static void channel_init(struct channel *ch)
{
    *ch = (struct channel){.limits = {3, 1 << 20, 1 << 20}};
    tl_log_init(&ch->log, &ch->limits, 1, false);
    struct tl_control gap = {.sse_event = TL_LIT("event: gap\ndata: 1\n\n"), .tells = TL_ENTRY_GAP};
    assert_int_equal(tl_log_append_control(&ch->log, &gap, 0), 0);
    for (int i = 0; i < MESSAGES_N; i++)
        append(ch);
    tell(ch);
}

static void channel_deinit(struct channel *ch)
{
    tl_view_deinit(&ch->view);
    tl_log_deinit(&ch->log);
}

static void check_latest(const struct channel *ch, struct tl_position position, bool is_start,
                         enum tl_resume outcome, uint64_t from_idx)
{
    struct tl_terms terms = {.resumes = true, .position = position};
    struct tl_mark from;
    assert_int_equal(tl_terms_start_latest(&terms, &ch->view, 0, is_start, &from), outcome);
    assert_int_equal(from.idx, from_idx);
}

static void who_falls_short_of_the_latest_begins_with_it(void **state)
{
    (void)state;
    struct channel ch;
    channel_init(&ch);
    /* Entries 3, 4 and 5 are kept; the newest message is the one behind 5. */
    for (uint64_t idx = 0; idx <= 6; idx++) {
        struct tl_position position = {.epoch = 1, .idx = idx};
        check_latest(&ch, position, true, TL_RESUME_FROM, idx == 6 ? 6 : 5);
        check_latest(&ch, position, false, TL_RESUME_FROM, idx < 3 ? 5 : idx);
    }
    channel_deinit(&ch);
}

static void another_time_is_told_and_begins_with_the_latest_of_this_one(void **state)
{
    (void)state;
    struct channel ch;
    channel_init(&ch);
    for (int is_start = 0; is_start < 2; is_start++) {
        check_latest(&ch, (struct tl_position){.epoch = 2, .idx = 5}, is_start, TL_RESUME_VOID, 5);
        check_latest(&ch, (struct tl_position){.epoch = 1, .idx = 7}, is_start, TL_RESUME_VOID, 5);
    }
    tl_log_new_epoch(&ch.log, 2);
    tell(&ch);
    check_latest(&ch, (struct tl_position){.epoch = 1, .idx = 6}, true, TL_RESUME_VOID, 6);
    append(&ch);
    tell(&ch);
    check_latest(&ch, (struct tl_position){.epoch = 1, .idx = 6}, true, TL_RESUME_VOID, 6);
    check_latest(&ch, (struct tl_position){.epoch = 2, .idx = 7}, true, TL_RESUME_FROM, 7);
    channel_deinit(&ch);
}

static void a_newcomer_has_its_history_where_the_latest_counts_too(void **state)
{
    (void)state;
    struct channel ch;
    struct tl_mark from;
    channel_init(&ch);
    for (uint64_t n = 0; n < 5; n++) {
        struct tl_terms terms = {.history_msgs = n};
        assert_int_equal(tl_terms_start_latest(&terms, &ch.view, 0, true, &from), TL_RESUME_FROM);
        assert_int_equal(from.idx, n < 3 ? 6 - n : 3);
    }
    channel_deinit(&ch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_said_is_from_now_on),
        cmocka_unit_test(a_position_and_how_many_behind_it),
        cmocka_unit_test(what_is_no_position_is_of_no_epoch),
        cmocka_unit_test(the_browsers_own_header_goes_before_the_link),
        cmocka_unit_test(history_is_a_number_or_a_time),
        cmocka_unit_test(numbers_that_are_none_are_refused),
        cmocka_unit_test(who_falls_short_of_the_latest_begins_with_it),
        cmocka_unit_test(another_time_is_told_and_begins_with_the_latest_of_this_one),
        cmocka_unit_test(a_newcomer_has_its_history_where_the_latest_counts_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
