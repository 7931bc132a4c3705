#include "proto/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#define NO    TL_TEMPLATE_NO_MATCH
#define YES   TL_TEMPLATE_MATCH
#define BAD   TL_TEMPLATE_BAD_ENCODING
#define EMPTY TL_TEMPLATE_NAME_EMPTY

static const struct {
    const char *path, *channel, *raw;
    enum tl_template_result result;
    const char *name;
} cases[] = {
    {"/tram-state-ws/{tram_id}", "tram_{tram_id}", "/tram-state-ws/7", YES, "tram_7"},
    {"/ws/{channel}", "{channel}", "/ws/a", YES, "a"},
    {"/ws/{channel}", "{channel}", "/ws/", EMPTY, ""},
    {"/ws/{channel}", "{channel}", "/ws", NO, ""},
    {"/ws/{channel}", "{channel}", "/ws/a/b", NO, ""},
    {"/ws/{channel}", "{channel}", "/ws/a/", NO, ""},
    {"/ws/{channel}", "{channel}", "/ws//a", NO, ""},
    {"/ws/{channel}", "{channel}", "/WS/a", NO, ""},
    {"/ws/{channel}", "{channel}", "/ws/a%2Fb", YES, "a/b"},
    {"/ws/{channel}", "{channel}", "/ws%2Fa", NO, ""},
    {"/ws/{channel}", "{channel}", "/%77s/a", YES, "a"},
    {"/ws/{channel}", "{channel}", "/ws/a+b", YES, "a+b"},
    {"/ws/{channel}", "{channel}", "/ws/%2e%2E", YES, ".."},
    {"/ws/{channel}", "{channel}", "/ws/a%", BAD, ""},
    {"/ws/{channel}", "{channel}", "/ws/%g0", BAD, ""},
    {"/ws/{channel}", "{channel}", "/ws/%2", BAD, ""},
    {"/ws/{channel}", "{channel}", "/ws/a%/b", NO, ""},
    {"/ws/{channel}", "{channel}", "/%ws/a", NO, ""},
    {"/ws/{channel}", "{channel}", "", NO, ""},
    {"/ws/{channel}", "{channel}", "*", NO, ""},
    {"/fixed", "all", "/fixed", YES, "all"},
    {"/fixed", "all", "/fixed/", NO, ""},
    {"/fixed", "all", "/fixe", NO, ""},
    {"/", "root", "/", YES, "root"},
    {"/{a}/{b}", "{b}{a}{b}", "/1/2", YES, "212"},
    {"/{a}/{b}/", "{a}-{b}", "/1/2/", YES, "1-2"},
    {"/{a}/{b}/", "{a}-{b}", "/1/2", NO, ""},
    {"/{a}/{b}", "{a}", "/1/", EMPTY, ""},
    {"/{a}/{b}", "{a}", "//1", NO, ""},
    {"/x/{a}-{b}", "{a},{b}", "/x/1-2-3", YES, "1,2-3"},
    {"/x/{a}-{b}", "{a},{b}", "/x/1-", EMPTY, ""},
    {"/x/{a}-{b}", "{a},{b}", "/x/-1-2", YES, "-1,2"},
    {"/x/{a}-{b}", "{a},{b}", "/x/1%2d2", YES, "1,2"},
    {"/{a}.json", "{a}", "/t.json", YES, "t"},
    {"/{a}.json", "{a}", "/t.json.json", YES, "t.json"},
    {"/{a}.json", "{a}", "/.json", NO, ""},
    {"/{a}.json", "{a}", "/t.jso", NO, ""},
    {"/{a}/c", "{a}", "/x/c/c", NO, ""},
    {"/{a}-x{b}/c", "{a},{b}", "/1-x-x2/c", YES, "1,-x2"},
    {"/stra\xc3\x9f"
     "e/{n}",
     "{n}", "/stra%C3%9Fe/5", YES, "5"},
    {"/{a}/state", "s:{a}:{a}", "/%74/state", YES, "s:t:t"},
};

static void paths_become_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_template t;
        const char *error = "";
        uint8_t out[TL_TEMPLATE_NAME_MAX];
        size_t n = 0;
        if (tl_template_compile(&t, tl_bytes_str(cases[i].path), tl_bytes_str(cases[i].channel),
                                &error) != 0)
            fail_msg("%s: %s", cases[i].path, error);
        enum tl_template_result r = tl_template_match(&t, tl_bytes_str(cases[i].raw), out, &n);
        if (r != cases[i].result)
            fail_msg("%s on %s: %d", cases[i].path, cases[i].raw, (int)r);
        if (r == YES && !tl_bytes_eq(tl_bytes(out, n), tl_bytes_str(cases[i].name)))
            fail_msg("%s on %s: %.*s", cases[i].path, cases[i].raw, (int)n, (const char *)out);
    }
}

static void wrong_rules_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *path, *channel;
    } bad[] = {
        {"", "c"},
        {"ws", "c"},
        {"{a}", "{a}"},
        {"/a", ""},
        {"/{a", "c"},
        {"/a}", "c"},
        {"/{a}}", "c"},
        {"/{{a}}", "c"},
        {"/{}", "c"},
        {"/{a-b}", "c"},
        {"/{a}{b}", "c"},
        {"/{a}/{a}", "{a}"},
        {"/{a}", "{b}"},
        {"/{a}", "{A}"},
        {"/{a}", "{a"},
        {"/{a}", "a}"},
        {"/{a}", "{}"},
        {"/a b/{a}", "{a}"},
        {"/a%20b/{a}", "{a}"},
        {"/a?x={a}", "{a}"},
        {"/a#{a}", "{a}"},
        {"/\n{a}", "{a}"},
        {"/{a23456789012345678901234567890123}", "c"},
        {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", "c"},
        {"/{a}", "{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}"
                 "{a}{a}{a}{a}{a}{a}"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tl_template t;
        const char *error = NULL;
        if (tl_template_compile(&t, tl_bytes_str(bad[i].path), tl_bytes_str(bad[i].channel),
                                &error) != -EINVAL)
            fail_msg("%s -> %s", bad[i].path, bad[i].channel);
        assert_non_null(error);
    }
}

static void eight_parameters_are_taken(void **state)
{
    (void)state;
    struct tl_template t;
    const char *error;
    uint8_t out[TL_TEMPLATE_NAME_MAX];
    size_t n;
    assert_int_equal(tl_template_compile(&t, TL_LIT("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}"),
                                         TL_LIT("{h}{g}{f}{e}{d}{c}{b}{a}"), &error),
                     0);
    assert_int_equal(tl_template_match(&t, TL_LIT("/1/2/3/4/5/6/7/8"), out, &n), YES);
    assert_memory_equal(out, "87654321", 8);
}

static void names_have_at_most_255_bytes(void **state)
{
    (void)state;
    for (size_t n = 249; n <= 251; n++) {
        struct tl_template t;
        const char *error;
        char raw[400];
        uint8_t out[TL_TEMPLATE_NAME_MAX];
        size_t name_n = 0;
        assert_int_equal(tl_template_compile(&t, TL_LIT("/{a}"), TL_LIT("pre-{a}-"), &error), 0);
        int raw_n = snprintf(raw, sizeof(raw), "/%%41%0*d", (int)n - 1, 0);
        enum tl_template_result r =
            tl_template_match(&t, tl_bytes(raw, (size_t)raw_n), out, &name_n);
        assert_int_equal(r, n <= 250 ? YES : TL_TEMPLATE_NAME_TOO_LONG);
        if (r == YES)
            assert_int_equal(name_n, n + 5);
    }
}

static void names_may_hold_any_byte(void **state)
{
    (void)state;
    struct tl_template t;
    const char *error;
    uint8_t out[TL_TEMPLATE_NAME_MAX];
    size_t n;
    assert_int_equal(tl_template_compile(&t, TL_LIT("/{a}"), TL_LIT("{a}"), &error), 0);
    for (int c = 0; c < 256; c++) {
        char raw[8];
        int raw_n = snprintf(raw, sizeof(raw), "/%%%02x", (unsigned)c);
        assert_int_equal(tl_template_match(&t, tl_bytes(raw, (size_t)raw_n), out, &n), YES);
        assert_int_equal(n, 1);
        assert_int_equal(out[0], c);
    }
}

static void a_long_path_of_near_misses_is_cheap(void **state)
{
    (void)state;
    struct tl_template t;
    const char *error;
    static uint8_t raw[8192];
    uint8_t out[TL_TEMPLATE_NAME_MAX];
    size_t n;
    memset(raw, '-', sizeof(raw));
    raw[0] = '/';
    assert_int_equal(tl_template_compile(&t, TL_LIT("/{a}-{b}-{c}-{d}-{e}-{f}-{g}-{h}-x"),
                                         TL_LIT("{a}"), &error),
                     0);
    assert_int_equal(tl_template_match(&t, tl_bytes(raw, sizeof(raw)), out, &n), NO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_become_names),
        cmocka_unit_test(wrong_rules_are_told),
        cmocka_unit_test(eight_parameters_are_taken),
        cmocka_unit_test(names_have_at_most_255_bytes),
        cmocka_unit_test(names_may_hold_any_byte),
        cmocka_unit_test(a_long_path_of_near_misses_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
