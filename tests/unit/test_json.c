#include "proto/json.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>

#define CASE(in, out)                                                                              \
    {                                                                                              \
        {(const uint8_t *)(in), sizeof(in) - 1}, out                                               \
    }

static const struct {
    struct tl_bytes in;
    const char *out;
} cases[] = {
    CASE("", "\"\""),
    CASE("plain", "\"plain\""),
    CASE("a\"b\\c/", "\"a\\\"b\\\\c/\""),
    CASE("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""),
    CASE("\0\x01\x1f\x7f", "\"\\u0000\\u0001\\u001f\\u007f\""),
    CASE("stra\xc3\x9f"
         "e \xe2\x82\xac \xf0\x9f\x9a\x8b",
         "\"stra\xc3\x9f"
         "e \xe2\x82\xac \xf0\x9f\x9a\x8b\""),
    CASE("\xff", "\"\\ufffd\""),
    CASE("a\x80z", "\"a\\ufffdz\""),
    CASE("\xc0\xaf", "\"\\ufffd\\ufffd\""),
    CASE("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""),
    CASE("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""),
    CASE("\xf0\x9f\x9a", "\"\\ufffd\""),
    CASE("\xe2\x82"
         "A",
         "\"\\ufffdA\""),
    CASE("\xe2\x82\xe2\x82\xac", "\"\\ufffd\xe2\x82\xac\""),
};

static void strings_are_escaped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_buf out = {0};
        tl_json_string(&out, cases[i].in);
        assert_false(out.failed);
        assert_int_equal(out.n, strlen(cases[i].out));
        assert_memory_equal(out.p, cases[i].out, out.n);
        tl_buf_deinit(&out);
    }
}

static void any_bytes_make_a_string_that_a_parser_takes(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int i = 0; i < 20000; i++) {
        uint8_t in[12];
        struct tl_buf out = {0};
        size_t n = (size_t)rand_r(&seed) % sizeof(in);
        for (size_t k = 0; k < n; k++)
            in[k] = (uint8_t)rand_r(&seed);
        tl_json_string(&out, tl_bytes(in, n));
        json_t *json =
            json_loadb((const char *)out.p, out.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        assert_true(json_is_string(json));
        json_decref(json);
        tl_buf_deinit(&out);
    }
}

static void a_refused_allocation_is_told(void **state)
{
    (void)state;
    struct tl_buf out = {0};
    tl_alloc_fail(0, -1);
    tl_json_string(&out, TL_LIT("a\x01\xff"));
    tl_alloc_fail(0, 0);
    assert_true(out.failed);
    tl_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(any_bytes_make_a_string_that_a_parser_takes),
        cmocka_unit_test(a_refused_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
