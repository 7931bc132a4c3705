/* Keys made from channel names: patterns with places, templates, and how names are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/glob.h"
#include "proto/key_template.h"

#include <errno.h>

static struct tl_key_template good(const char *pattern, const char *text)
{
    struct tl_key_template t;
    const char *error = NULL;
    assert_int_equal(tl_key_template_compile(&t, tl_bytes_str(pattern), tl_bytes_str(text), &error),
                     0);
    return t;
}

/* The key of that channel; NULL: the channel does not match. */
static void check(const char *pattern, const char *text, const char *channel, const char *key)
{
    struct tl_key_template t = good(pattern, text);
    struct tl_buf out = {0};
    bool matches = tl_key_template_expand(&t, tl_bytes_str(channel), &out);
    assert_int_equal(matches, key != NULL);
    assert_int_equal(matches, tl_glob_match(tl_key_template_glob(&t), tl_bytes_str(channel)));
    if (key) {
        assert_int_equal(out.n, strlen(key));
        assert_memory_equal(out.p ? out.p : (const uint8_t *)"", key, out.n);
    }
    tl_buf_deinit(&out);
}

static void a_place_is_what_its_star_matches(void **state)
{
    (void)state;
    check("tram_{id}", "tram_{id}:last", "tram_5", "tram_5:last");
    check("tram_{id}", "{id}", "tram_", "");
    check("{line}_{id}", "{id}/{line}/{id}", "7_5", "5/7/5");
    check("{line}_{id}", "{line}|{id}", "7_5_6", "7|5_6");
    check("{a}ab", "{a}", "xabab", "xab");
    check("{a}b{c}b", "{a}|{c}", "bbb", "|b");
}

static void sets_and_single_bytes_stand_between_places(void **state)
{
    (void)state;
    check("t?[0-9]_{id}", "{id}", "tx7_9", "9");
    check("t?[0-9]_{id}", "{id}", "txy_9", NULL);
    check("*_{id}!", "{id}", "a_b_c!", "b_c");
    check("{a}\\*{b}", "{a}+{b}", "1*2", "1+2");
    check("\\{{a}\\}", "\\{{a}\\}:last", "{5}", "{5}:last");
    check("{not a place}", "x", "{not a place}", "x");
}

static void the_whole_name_is_always_there(void **state)
{
    (void)state;
    check("*", "last:{channel}", "tram 5", "last:tram 5");
    check("tram_{id}", "{channel}={id}", "tram_5", "tram_5=5");
    check("tram_{id}", "constant", "tram_5", "constant");
    check("tram_{id}", "constant", "bus_5", NULL);
}

static void names_are_bytes(void **state)
{
    struct tl_key_template t = good("x{id}", "{id}");
    struct tl_buf out = {0};
    (void)state;
    assert_true(tl_key_template_expand(&t, tl_bytes("x\0\xff\n", 4), &out));
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.p, "\0\xff\n", 3);
    tl_buf_deinit(&out);
}

static void the_longest_name_of_many_places_is_cut_in_time(void **state)
{
    struct tl_key_template t = good("{a}a{b}a{c}a{d}a{e}a{f}a{g}a{h}b", "{a}{b}{c}{d}{e}{f}{g}{h}");
    uint8_t name[255];
    struct tl_buf out = {0};
    (void)state;
    memset(name, 'a', sizeof name);
    assert_false(tl_key_template_expand(&t, tl_bytes(name, sizeof name), &out));
    name[254] = 'b';
    assert_true(tl_key_template_expand(&t, tl_bytes(name, sizeof name), &out));
    assert_int_equal(out.n, 255 - 8);
    tl_buf_deinit(&out);
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const char *const bad[][2] = {
        {"", "x"},
        {"tram_*", "tram_{id}"},
        {"tram_{id}", "tram_{ID}"},
        {"{a}{b}", "x"},
        {"{a}*", "x"},
        {"*{a}", "x"},
        {"{a}x{a}", "x"},
        {"{channel}", "x"},
        {"{id}", "{"},
        {"{id}", "a}"},
        {"{id}", "{}"},
        {"{id}", "{i d}"},
        {"{a}.{b}.{c}.{d}.{e}.{f}.{g}.{h}.{i}", "x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_key_template t;
        const char *error = NULL;
        assert_int_equal(
            tl_key_template_compile(&t, tl_bytes_str(bad[i][0]), tl_bytes_str(bad[i][1]), &error),
            -EINVAL);
        assert_non_null(error);
    }
}

static void texts_have_at_most_255_bytes(void **state)
{
    char text[300];
    const char *error = NULL;
    struct tl_key_template t;
    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t n = 254; n <= 256; n++) {
        int r = tl_key_template_compile(&t, tl_bytes(text, n), tl_bytes(text, 1), &error);
        assert_int_equal(r, n <= 255 ? 0 : -EINVAL);
        r = tl_key_template_compile(&t, tl_bytes(text, 1), tl_bytes(text, n), &error);
        assert_int_equal(r, n <= 255 ? 0 : -EINVAL);
    }
}

/* A template of as many parts as there can be, and one more. */
static void parts_are_limited(void **state)
{
    char text[200] = "";
    const char *error = NULL;
    struct tl_key_template t;
    (void)state;
    for (int i = 0; i < TL_KEY_TEMPLATE_PARTS_MAX / 2; i++)
        memcpy(text + strlen(text), "{a}.", 5);
    assert_int_equal(tl_key_template_compile(&t, TL_LIT("{a}"), tl_bytes_str(text), &error), 0);
    memcpy(text + strlen(text), "{a}", 4);
    assert_int_equal(tl_key_template_compile(&t, TL_LIT("{a}"), tl_bytes_str(text), &error),
                     -EINVAL);
}

static uint32_t roll(uint32_t *dice)
{
    *dice = *dice * 1664525u + 1013904223u;
    return *dice >> 16;
}

static size_t random_text(uint32_t *dice, const char *const *words, size_t words_n, char *out)
{
    size_t n = 0;
    for (uint32_t left = roll(dice) % 9; left > 0; left--) {
        const char *word = words[roll(dice) % words_n];
        memcpy(out + n, word, strlen(word));
        n += strlen(word);
    }
    out[n] = 0;
    return n;
}

/* Whatever the pattern: a name has a key if and only if it matches the glob, and with places as the
 * only part between literals the values put back into the pattern make the name again. */
static void a_name_has_a_key_if_it_matches(void **state)
{
    static const char *const words[] = {"{a}",  "{b}", "a", "b", "*", "?",
                                        "[ab]", "\\",  "_", "{", "}"};
    static const char *const bytes[] = {"a", "b", "_", "\\", "{"};
    uint32_t dice = 11;
    (void)state;
    for (int i = 0; i < 50000; i++) {
        char pattern[200], name[100];
        struct tl_key_template t;
        const char *error = NULL;
        struct tl_buf out = {0};
        size_t n = random_text(&dice, words, sizeof words / sizeof *words, pattern);
        if (tl_key_template_compile(&t, tl_bytes(pattern, n), TL_LIT("{channel}"), &error) < 0)
            continue;
        struct tl_bytes channel =
            tl_bytes(name, random_text(&dice, bytes, sizeof bytes / sizeof *bytes, name));
        if (channel.n == 0)
            continue;
        bool matches = tl_glob_match(tl_key_template_glob(&t), channel);
        assert_int_equal(tl_key_template_expand(&t, channel, &out), matches);
        if (matches)
            assert_true(tl_bytes_eq(tl_buf_bytes(&out), channel));
        tl_buf_deinit(&out);
    }
}

static void without_memory_the_buffer_says_so(void **state)
{
    struct tl_key_template t = good("tram_{id}", "tram_{id}:last");
    struct tl_buf out = {0};
    (void)state;
    tl_alloc_fail(0, 1);
    assert_true(tl_key_template_expand(&t, TL_LIT("tram_5"), &out));
    tl_alloc_fail(0, 0);
    assert_true(out.failed);
    tl_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_what_its_star_matches),
        cmocka_unit_test(sets_and_single_bytes_stand_between_places),
        cmocka_unit_test(the_whole_name_is_always_there),
        cmocka_unit_test(names_are_bytes),
        cmocka_unit_test(the_longest_name_of_many_places_is_cut_in_time),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(texts_have_at_most_255_bytes),
        cmocka_unit_test(parts_are_limited),
        cmocka_unit_test(a_name_has_a_key_if_it_matches),
        cmocka_unit_test(without_memory_the_buffer_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
