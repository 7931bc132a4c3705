#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/metrics.h"
#include "gateway/asked.h"

#define MAX 4

/* A request with that query, and that Last-Event-ID if any. */
static struct tl_asked *ask(const char *query, const char *id, int *status, const char **error)
{
    struct tl_http1_request request = {.query = tl_bytes_str(query)};
    const char *hint = NULL;
    *status = 0;
    *error = NULL;
    if (id)
        tl_http1_add_header(&request, TL_LIT("Last-Event-ID"), tl_bytes_str(id));
    struct tl_asked *asked = tl_asked_read(&request, MAX, status, error, &hint);
    if (!asked)
        assert_non_null(hint);
    return asked;
}

static struct tl_asked *must(const char *query, const char *id)
{
    int status;
    const char *error;
    struct tl_asked *asked = ask(query, id, &status, &error);
    assert_non_null(asked);
    return asked;
}

static void is_name(const struct tl_asked *asked, size_t i, const char *name)
{
    assert_true(i < asked->n);
    assert_true(tl_bytes_eq(asked->channels[i].name, tl_bytes_str(name)));
}

static void channels_are_read_in_order_and_once(void **state)
{
    (void)state;
    struct tl_asked *asked = must("ch=a&x=1&ch=b%20c&&ch=a&%63h=d+e&ch=a%26b&ch=b+c", NULL);
    assert_int_equal(asked->n, 4);
    is_name(asked, 0, "a");
    is_name(asked, 1, "b c");
    is_name(asked, 2, "d e");
    is_name(asked, 3, "a&b");
    assert_false(asked->resumes);
    tl_asked_free(asked);
    tl_asked_free(NULL);
}

static void a_position_is_of_the_channel_before_it(void **state)
{
    (void)state;
    struct tl_asked *asked = must("ch=a&ch=b&since=0000000000000abc-7&ch=c&since=what&ch=a&"
                                  "since=00000000000000aa-5-3-1",
                                  NULL);
    assert_int_equal(asked->n, 3);
    assert_false(asked->resumes);
    assert_true(asked->channels[0].resumes && asked->channels[0].position.of_stream);
    assert_true(asked->channels[1].resumes);
    assert_int_equal(asked->channels[1].position.epoch, 0xabc);
    assert_int_equal(asked->channels[1].position.idx, 7);
    assert_true(asked->channels[2].resumes);
    assert_int_equal(asked->channels[2].position.epoch, 0);
    tl_asked_free(asked);
}

static void a_tag_without_a_number_says_nothing(void **state)
{
    static const char *const queries[] = {"since=%40b&ch=a", "ch=a&since=@%C5%81", "ch=a&since=@"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct tl_asked *asked = must(queries[i], i % 2 ? "@a" : NULL);
        assert_true(!asked->resumes && !asked->channels[0].resumes);
        tl_asked_free(asked);
    }
    /* And so it does not stand in the way of what the URL says. */
    struct tl_asked *asked = must("ch=a&since=0000000000000abc-7@", "@a");
    assert_true(asked->resumes && asked->since.epoch == 0xabc && asked->since.at == 7);
    tl_asked_free(asked);
    asked = must("ch=a&since=00000000000000aa-5", "@");
    assert_true(!asked->resumes && asked->channels[0].resumes);
    tl_asked_free(asked);
}

static void a_number_is_of_all_wherever_it_stands(void **state)
{
    static const char *const queries[] = {"since=0000000000000abc-7%40b&ch=a",
                                          "ch=a&since=0000000000000abc-7@%C5%81"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct tl_asked *asked = must(queries[i], NULL);
        assert_true(asked->resumes && !asked->channels[0].resumes);
        assert_int_equal(asked->since.epoch, 0xabc);
        assert_int_equal(asked->since.at, 7);
        tl_asked_free(asked);
    }
    struct tl_asked *asked = must("ch=a&since=nonsense@a", NULL);
    assert_true(asked->resumes);
    assert_int_equal(asked->since.epoch, 0);
    tl_asked_free(asked);
}

static void what_the_browser_brings_back_is_newer_than_its_url(void **state)
{
    (void)state;
    struct tl_asked *asked = must("ch=a&since=0000000000000abc-7@a&ch=b&since=0000000000000abc-9",
                                  "0000000000000def-8@b");
    assert_true(asked->resumes && asked->channels[1].resumes);
    assert_int_equal(asked->since.epoch, 0xdef);
    assert_int_equal(asked->since.at, 8);
    assert_int_equal(asked->channels[1].position.idx, 9);
    tl_asked_free(asked);
    asked = must("ch=a", "0000000000000def-8");
    assert_true(asked->resumes);
    assert_int_equal(asked->since.epoch, 0);
    tl_asked_free(asked);
}

static void nonsense_is_refused(void **state)
{
    static const struct {
        const char *query, *error;
    } rows[] = {
        {"", "no channel is named"},
        {"chx=a&c=b", "no channel is named"},
        {"ch=", "channel name is empty"},
        {"ch", "channel name is empty"},
        {"ch=%4", "bad percent-encoding"},
        {"since=1-1&ch=a", "since= stands before every ch="},
        {"ch=a&ch=b&ch=c&ch=d&ch=e", "too many channels on one connection"},
        {"ch=a&ch=b&ch=c&ch=d&ch=%zz", "bad percent-encoding"}, /* and not: too many */
    };
    (void)state;
    int64_t refused = tl_metric_get(TL_M_CHANNELS_REFUSED);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status;
        const char *error;
        assert_null(ask(rows[i].query, NULL, &status, &error));
        assert_int_equal(status, 400);
        assert_string_equal(error, rows[i].error);
    }
    assert_int_equal(tl_metric_get(TL_M_CHANNELS_REFUSED) - refused, 1);
}

static void names_have_their_limit(void **state)
{
    (void)state;
    for (size_t n = 254; n <= 256; n++) {
        char query[300] = "ch=";
        int status;
        const char *error;
        memset(query + 3, 'x', n);
        struct tl_asked *asked = ask(query, NULL, &status, &error);
        assert_int_equal(asked != NULL, n <= 255);
        if (!asked)
            assert_string_equal(error, "channel name over 255 bytes");
        tl_asked_free(asked);
    }
}

static void without_memory_it_is_refused(void **state)
{
    (void)state;
    for (int64_t i = 0;; i++) {
        int status;
        const char *error;
        tl_alloc_fail(i, 1);
        struct tl_asked *asked = ask("ch=a&ch=b&ch=c", NULL, &status, &error);
        bool harmless = tl_alloc_fail(0, 0) <= (uint64_t)i;
        assert_true(asked || status == 503);
        tl_asked_free(asked);
        if (harmless) {
            assert_true(i > 2);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_are_read_in_order_and_once),
        cmocka_unit_test(a_position_is_of_the_channel_before_it),
        cmocka_unit_test(a_tag_without_a_number_says_nothing),
        cmocka_unit_test(a_number_is_of_all_wherever_it_stands),
        cmocka_unit_test(what_the_browser_brings_back_is_newer_than_its_url),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(names_have_their_limit),
        cmocka_unit_test(without_memory_it_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
