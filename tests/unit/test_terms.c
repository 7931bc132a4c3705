/* The terms of a subscription, from the request's bytes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_said_is_from_now_on),
        cmocka_unit_test(a_position_and_how_many_behind_it),
        cmocka_unit_test(what_is_no_position_is_of_no_epoch),
        cmocka_unit_test(the_browsers_own_header_goes_before_the_link),
        cmocka_unit_test(history_is_a_number_or_a_time),
        cmocka_unit_test(numbers_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
