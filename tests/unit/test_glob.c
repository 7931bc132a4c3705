#include "base/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

/* Every expectation here was taken from PSUBSCRIBE and PUBLISH of Redis 7.0 on x86-64. */
static const struct {
    const char *pattern, *text;
    bool match;
} cases[] = {
    {"", "", true},
    {"", "a", false},
    {"*", "a", true},
    {"**", "abc", true},
    {"tram_*", "tram_1", true},
    {"tram_*", "tram_", true},
    {"tram_*", "tra", false},
    {"tram_*", "xtram_1", false},
    {"*_1", "tram_1", true},
    {"*_1", "tram_11", false},
    {"*a*b", "xaybab", true},
    {"*a*b", "xayba", false},
    {"a*", "a", true},
    {"*a", "a", true},
    {"a*a", "a", false},
    {"?", "a", true},
    {"?", "ab", false},
    {"h?llo", "hello", true},
    {"h?llo", "hllo", false},
    {"?*", "a", true},
    {"*??", "a", false},
    {"h[ae]llo", "hello", true},
    {"h[ae]llo", "hillo", false},
    {"h[^e]llo", "hallo", true},
    {"h[^e]llo", "hello", false},
    {"h[a-c]llo", "hbllo", true},
    {"h[c-a]llo", "hbllo", true},
    {"h[a-c]llo", "hdllo", false},
    {"[]", "]", false},
    {"[]", "a", false},
    {"[^]", "a", true},
    {"[^]]", "a]", true},
    {"[\\]]", "]", true},
    {"[\\^a]", "^", true},
    {"[a^]", "^", true},
    {"[a", "a", true},
    {"[a", "b", false},
    {"[", "[", false},
    {"[", "a", false},
    {"[^", "a", true},
    {"[a-]", "a", true},
    {"[a-]", "]", true},
    {"[a-]", "_", true},
    {"[a-]", "-", false},
    {"[a-", "-", true},
    {"[a-", "a", true},
    {"[-a]", "-", true},
    {"[\\", "\\", true},
    {"[\\\\]", "\\", true},
    {"[a-\xff]", "b", false},
    {"[a-\xff]", "A", true},
    {"[a-\xff]", "\xff", true},
    {"\\*", "*", true},
    {"\\*", "a", false},
    {"\\?a", "?a", true},
    {"\\", "\\", true},
    {"a\\", "a\\", true},
    {"\\a", "a", true},
    {"\\[a]", "[a]", true},
    {"a]", "a]", true},
    {"*[0-9]", "tram_7", true},
    {"*[0-9]x*", "7y8xz", true},
    {"*\\**", "a*b", true},
    {"*\\**", "ab", false},
};

static void patterns_match_what_redis_matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (tl_glob_match(tl_bytes_str(cases[i].pattern), tl_bytes_str(cases[i].text)) !=
            cases[i].match)
            fail_msg("'%s' on '%s'", cases[i].pattern, cases[i].text);
}

static void an_empty_text_matches_the_empty_pattern_only(void **state)
{
    (void)state;
    assert_true(tl_glob_match(tl_bytes(NULL, 0), tl_bytes(NULL, 0)));
    assert_false(tl_glob_match(TL_LIT("*"), tl_bytes(NULL, 0)));
}

static void nul_bytes_are_bytes(void **state)
{
    (void)state;
    assert_true(tl_glob_match(TL_LIT("a\0*"), TL_LIT("a\0b")));
    assert_false(tl_glob_match(TL_LIT("a\0*"), TL_LIT("ab")));
    assert_true(tl_glob_match(TL_LIT("[\0]?"), TL_LIT("\0\0")));
    assert_false(tl_glob_match(TL_LIT("a"), TL_LIT("a\0")));
}

static void many_stars_cost_no_exponential_time(void **state)
{
    (void)state;
    uint8_t pattern[255], text[255];
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = i % 2 ? 'a' : '*';
    pattern[253] = 'b';
    memset(text, 'a', sizeof(text));
    /* Exponential would be for ever. */
    for (int i = 0; i < 100; i++)
        assert_false(tl_glob_match(tl_bytes(pattern, 255), tl_bytes(text, 255)));
}

/* A pattern and a text in memory of exactly their size, so that a sanitizer sees one byte too far.
 */
static void random_patterns_stay_inside_their_bytes(void **state)
{
    (void)state;
    static const char letters[] = "ab*?[]^-\\";
    unsigned seed = 1;
    for (int i = 0; i < 200000; i++) {
        size_t pn = (size_t)rand_r(&seed) % 8, tn = (size_t)rand_r(&seed) % 6;
        char *p = malloc(pn + 1), *t = malloc(tn + 1);
        assert_true(p && t);
        for (size_t k = 0; k < pn; k++)
            p[k + 1] = letters[(size_t)rand_r(&seed) % 9];
        for (size_t k = 0; k < tn; k++)
            t[k + 1] = letters[(size_t)rand_r(&seed) % 9];
        bool once = tl_glob_match(tl_bytes(p + 1, pn), tl_bytes(t + 1, tn));
        assert_int_equal(once, tl_glob_match(tl_bytes(p + 1, pn), tl_bytes(t + 1, tn)));
        free(p);
        free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_what_redis_matches),
        cmocka_unit_test(an_empty_text_matches_the_empty_pattern_only),
        cmocka_unit_test(nul_bytes_are_bytes),
        cmocka_unit_test(many_stars_cost_no_exponential_time),
        cmocka_unit_test(random_patterns_stay_inside_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
