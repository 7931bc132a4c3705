#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "feed/position.h"

static bool parses(const char *text)
{
    struct tl_position position = {.epoch = 7, .idx = 7};
    bool ok = tl_position_parse(tl_bytes_str(text), &position);
    if (!ok)
        assert_true(position.epoch == 7 && position.idx == 7); /* written only on success */
    return ok;
}

static void printed_positions_parse_to_themselves(void **state)
{
    (void)state;
    static const struct {
        struct tl_position position;
        const char *text;
    } cases[] = {
        {{.epoch = 1, .idx = 0}, "0000000000000001-0"},
        {{.epoch = 0, .idx = 9}, "0000000000000000-9"},
        {{.epoch = 0x0123456789abcdef, .idx = 10}, "0123456789abcdef-10"},
        {{.epoch = UINT64_MAX, .idx = UINT64_MAX}, "ffffffffffffffff-18446744073709551615"},
        {{.epoch = 1ull << 63, .idx = 1000000007}, "8000000000000000-1000000007"},
        {{1, 42, true, {1700000000000, 3}, 42}, "0000000000000001-42-1700000000000-3"},
        {{1, 0, true, {0, 0}, 0}, "0000000000000001-0-0-0"},
        {{UINT64_MAX, UINT64_MAX, true, {UINT64_MAX, UINT64_MAX}, UINT64_MAX},
         "ffffffffffffffff-18446744073709551615-18446744073709551615-18446744073709551615"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[TL_POSITION_TEXT_MAX];
        struct tl_position back;
        assert_int_equal(tl_position_print(cases[i].position, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_true(tl_position_parse(tl_bytes_str(text), &back));
        assert_true(back.epoch == cases[i].position.epoch && back.idx == cases[i].position.idx);
        assert_int_equal(back.of_stream, cases[i].position.of_stream);
        assert_int_equal(tl_entry_id_cmp(back.id, cases[i].position.id), 0);
        assert_true(back.id_idx == cases[i].position.id_idx);
    }
}

static void random_positions_parse_to_themselves_and_no_part_of_them_misleads(void **state)
{
    (void)state;
    uint64_t rng = 1;
    for (int i = 0; i < 20000; i++) {
        char text[TL_POSITION_TEXT_MAX];
        struct tl_position back, position;
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        position = (struct tl_position){.epoch = rng, .idx = rng >> (i % 64)};
        size_t n = tl_position_print(position, text);
        assert_true(n < TL_POSITION_TEXT_MAX && text[n] == 0);
        assert_true(tl_position_parse(tl_bytes(text, n), &back));
        assert_true(back.epoch == position.epoch && back.idx == position.idx);
        for (size_t cut = 0; cut <= 17; cut++)
            assert_false(tl_position_parse(tl_bytes(text, cut), &back));
    }
}

static void what_print_does_not_make_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "-",
        "0",
        "0000000000000001",
        "0000000000000001-",
        "000000000000001-0",
        "00000000000000001-0",
        "000000000000000A-0",
        "000000000000000g-0",
        "0000000000000001_0",
        "0000000000000001-00",
        "0000000000000001-01",
        "0000000000000001-+1",
        "0000000000000001--1",
        "0000000000000001- 1",
        "0000000000000001-1 ",
        "0000000000000001-1a",
        "0000000000000001-18446744073709551616",
        "0000000000000001-18446744073709551620",
        "0000000000000001-99999999999999999999",
        "0000000000000001-100000000000000000000",
        " 0000000000000001-1",
        "0x00000000000001-1",
        "0000000000000001-1-",
        "0000000000000001-1-1",
        "0000000000000001-1-1-",
        "0000000000000001-1--1",
        "0000000000000001--1-1",
        "0000000000000001-1-01-1",
        "0000000000000001-1-1-1-1",
        "0000000000000001-1-18446744073709551616-1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(parses(bad[i]));
    assert_true(parses("0000000000000001-18446744073709551615"));
    struct tl_position position;
    assert_false(tl_position_parse(tl_bytes("0000000000000001-1\0", 19), &position));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_positions_parse_to_themselves),
        cmocka_unit_test(random_positions_parse_to_themselves_and_no_part_of_them_misleads),
        cmocka_unit_test(what_print_does_not_make_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
