#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The slow and obvious reading of RFC 3629, to compare with: bytes of the first character, or 0. */
static size_t decode_slowly(struct tl_bytes b)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t c = b.p[0];
    size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;

    if (n == 0 || n > b.n)
        return 0;
    uint32_t cp = n == 1 ? c : c & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (b.p[i] >> 6 != 2)
            return 0;
        cp = cp << 6 | (b.p[i] & 0x3Fu);
    }
    return cp < least[n] || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000) ? 0 : n;
}

static bool valid_slowly(struct tl_bytes b)
{
    while (b.n > 0) {
        size_t n = decode_slowly(b);
        if (n == 0)
            return false;
        b = tl_bytes_skip(b, n);
    }
    return true;
}

/* The first byte with which no text can go on, or n. */
static size_t refused_at(struct tl_bytes b)
{
    uint32_t state = 0;

    for (size_t i = 0; i < b.n; i++)
        if (!tl_utf8_feed(&state, tl_bytes(b.p + i, 1)))
            return i;
    return b.n;
}

static void every_code_point_is_told_apart(void **arg)
{
    (void)arg;
    for (uint32_t cp = 0x80; cp < 0x200000; cp++) {
        uint8_t b[4];
        size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        uint32_t v = cp;
        for (size_t i = n; i-- > 1; v >>= 6)
            b[i] = (uint8_t)(0x80 | (v & 0x3F));
        b[0] = (uint8_t)((0xF00 >> n) | v);
        bool good = cp <= 0x10FFFF && (cp < 0xD800 || cp >= 0xE000);
        assert_int_equal(tl_utf8_valid(tl_bytes(b, n)), good);
    }
}

static void every_three_bytes_agree_with_the_slow_reading(void **arg)
{
    (void)arg;
    for (uint32_t v = 0; v < 1u << 24; v++) {
        uint8_t b[] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        bool good = tl_utf8_valid(tl_bytes(b, 3));
        if (good != valid_slowly(tl_bytes(b, 3)))
            fail_msg("%06x", v);
    }
}

static void first_bad_byte_is_refused_at_once(void **arg)
{
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {
        {"\x80", 0},
        {"ab\xBF", 2},
        {"\xC0\x80", 0},
        {"\xC1\xBF", 0},
        {"\xE0\x9F\x80", 1},
        {"\xED\xA0\x80", 1},
        {"\xED\xBF\xBF", 1},
        {"\xF0\x8F\x80\x80", 1},
        {"\xF4\x90\x80", 1},
        {"\xF5\x80", 0},
        {"\xFE", 0},
        {"\xFF", 0},
        {"\xE2\x82\x41", 2},
        {"\xC3\xC3", 1},
        {"\xF1\x80\x80\xC0", 3},
        {"\xE1\x80\xE1", 2},
    };

    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(refused_at(tl_bytes_str(cases[i].text)), cases[i].at);
        assert_false(tl_utf8_valid(tl_bytes_str(cases[i].text)));
    }
}

static void refusal_lasts(void **arg)
{
    uint32_t state = 0;

    (void)arg;
    assert_false(tl_utf8_feed(&state, TL_LIT("\xFF")));
    assert_false(tl_utf8_feed(&state, TL_LIT("a")));
    assert_false(tl_utf8_feed(&state, tl_bytes(NULL, 0)));
    assert_false(tl_utf8_complete(state));
}

static void cut_character_is_incomplete_and_then_whole(void **arg)
{
    static const char text[] = "\xF0\x9F\x9A\x8B";
    uint32_t state = 0;

    (void)arg;
    for (size_t i = 0; i < 4; i++) {
        assert_true(tl_utf8_feed(&state, tl_bytes(text + i, 1)));
        assert_int_equal(tl_utf8_complete(state), i == 3);
        assert_int_equal(tl_utf8_valid(tl_bytes(text, i + 1)), i == 3);
    }
    assert_true(tl_utf8_valid(tl_bytes(NULL, 0)));
}

/* A bad byte and a good character at every place around the 8- and 32-byte steps. */
static void fast_steps_skip_nothing(void **arg)
{
    uint8_t b[100];

    (void)arg;
    for (size_t n = 1; n <= sizeof(b); n++) {
        for (size_t i = 0; i < n; i++) {
            memset(b, 'x', sizeof(b));
            b[i] = 0xFF;
            assert_false(tl_utf8_valid(tl_bytes(b, n)));
            assert_int_equal(refused_at(tl_bytes(b, n)), i);
            b[i] = 0xC3;
            assert_false(tl_utf8_valid(tl_bytes(b, n)));
            if (i + 1 < n) {
                b[i + 1] = 0xA4;
                assert_true(tl_utf8_valid(tl_bytes(b, n)));
            }
        }
    }
}

static void random_cuts_change_nothing(void **arg)
{
    static const char *const parts[] = {
        "a",        "tram", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x9A\x8B", "\xED\x9F\xBF",
        "\xE2\x82", "\xFF"};
    uint32_t seed = 1;

    (void)arg;
    for (int round = 0; round < 20000; round++) {
        uint8_t b[256];
        size_t n = 0, at = 0;
        for (int k = 0; k < 12; k++) {
            seed = seed * 1664525u + 1013904223u;
            struct tl_bytes part = tl_bytes_str(parts[(seed >> 24) % (k % 4 == 0 ? 8 : 6)]);
            memcpy(b + n, part.p, part.n);
            n += part.n;
        }
        uint32_t state = 0;
        bool good = true;
        while (at < n) {
            seed = seed * 1664525u + 1013904223u;
            size_t cut = (seed >> 24) % 9;
            cut = cut > n - at ? n - at : cut;
            good = tl_utf8_feed(&state, tl_bytes(b + at, cut)) && good;
            at += cut;
        }
        assert_int_equal(good && tl_utf8_complete(state), tl_utf8_valid(tl_bytes(b, n)));
        assert_int_equal(tl_utf8_valid(tl_bytes(b, n)), valid_slowly(tl_bytes(b, n)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_told_apart),
        cmocka_unit_test(every_three_bytes_agree_with_the_slow_reading),
        cmocka_unit_test(first_bad_byte_is_refused_at_once),
        cmocka_unit_test(refusal_lasts),
        cmocka_unit_test(cut_character_is_incomplete_and_then_whole),
        cmocka_unit_test(fast_steps_skip_nothing),
        cmocka_unit_test(random_cuts_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
