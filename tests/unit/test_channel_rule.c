/* Rules of --channel: what they say, what they leave out, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/channel_rule.h"
#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>

static const struct tl_channel_rule standard = {.log = {100, 2000, 30000}};

static struct tl_channel_rule good(const char *text)
{
    struct tl_channel_rule rule;
    char error[400] = "";
    assert_int_equal(tl_channel_rule_parse(text, &standard, &rule, error, sizeof error), 0);
    return rule;
}

static void what_is_left_out_is_as_for_all(void **state)
{
    struct tl_channel_rule rule = good("tram_*: overflow=gap");
    (void)state;
    assert_true(tl_bytes_eq(rule.glob, TL_LIT("tram_*")));
    assert_int_equal(rule.log.msgs_max, 100);
    assert_int_equal(rule.log.bytes_max, 2000);
    assert_int_equal(rule.log.age_max_ms, 30000);
    assert_int_equal(rule.overflow, TL_OVERFLOW_GAP);
    assert_int_equal(rule.interval_ms, 0);
    assert_false(rule.close_on_gap);
}

static void every_key_is_understood_whatever_separates_them(void **state)
{
    static const char *const texts[] = {
        "a: history=5,bytes=4KiB,age=2m,overflow=latest,max_rate=4/s,on_gap=close",
        "a:  history=5, bytes=4KiB ,\tage=2m overflow=latest max_rate=4/s  on_gap=close , ",
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct tl_channel_rule rule = good(texts[i]);
        assert_int_equal(rule.log.msgs_max, 5);
        assert_int_equal(rule.log.bytes_max, 4096);
        assert_int_equal(rule.log.age_max_ms, 120000);
        assert_int_equal(rule.overflow, TL_OVERFLOW_LATEST);
        assert_int_equal(rule.interval_ms, 250);
        assert_true(rule.close_on_gap);
    }
}

static void rates_are_intervals(void **state)
{
    (void)state;
    assert_int_equal(good("a: overflow=latest max_rate=1000/s").interval_ms, 1);
    assert_int_equal(good("a: overflow=latest max_rate=1/10s").interval_ms, 10000);
    assert_int_equal(good("a: overflow=latest max_rate=1/3600s").interval_ms, 3600000);
}

static void a_stream_has_a_field_and_at_most_one_limit(void **state)
{
    (void)state;
    assert_false(tl_config_is_stream(&(struct tl_channel_rule){.log = {1, 1, 1}}));
    struct tl_channel_rule rule = good("a: history=1");
    assert_false(tl_config_is_stream(&rule));
    rule = good("a: source=pubsub");
    assert_false(tl_config_is_stream(&rule));
    rule = good("a: source=stream");
    assert_true(tl_config_is_stream(&rule));
    assert_string_equal(rule.stream.field, "data");
    assert_true(rule.stream.len_max == 0 && rule.stream.age_max_ms == 0);
    rule = good("a: source=stream, field=body, maxlen=500");
    assert_string_equal(rule.stream.field, "body");
    assert_int_equal(rule.stream.len_max, 500);
    rule = good("a: source=stream, minid=1h, history=7");
    assert_int_equal(rule.stream.age_max_ms, 3600000);
    assert_int_equal(rule.log.msgs_max, 7);
    char longest[100] = "a: source=stream, field=";
    memset(longest + strlen(longest), 'f', TL_STREAM_FIELD_MAX);
    assert_int_equal(strlen(good(longest).stream.field), TL_STREAM_FIELD_MAX);
}

static void what_does_not_belong_to_a_stream_is_refused(void **state)
{
    (void)state;
    char longer[100] = "a: source=stream, field=";
    memset(longer + strlen(longer), 'f', TL_STREAM_FIELD_MAX + 1);
    const char *const bad[] = {
        "a: field=x",
        "a: maxlen=5",
        "a: source=pubsub, minid=1h",
        "a: source=stream, maxlen=5, minid=1h",
        "a: source=stream, maxlen=0",
        "a: source=stream, field=",
        "a: source=list",
        longer,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_channel_rule rule;
        char error[400] = "";
        assert_int_equal(tl_channel_rule_parse(bad[i], &standard, &rule, error, sizeof error),
                         -EINVAL);
        assert_true(*error != 0);
    }
}

static void a_rule_says_how_long_and_when_it_is_stale(void **state)
{
    (void)state;
    struct tl_channel_rule rule = good("a: history=1");
    assert_true(!rule.has_ttl && !rule.snapshot && !rule.names && rule.stale_after_ms == 0);
    rule = good("a: ttl=5m, snapshot=log, stale_after=180s");
    assert_true(rule.has_ttl && rule.snapshot && !rule.names);
    assert_int_equal(rule.ttl_ms, 300000);
    assert_int_equal(rule.stale_after_ms, 180000);
    assert_false(tl_config_has_key(&rule));
    rule = good("a: ttl=0s");
    assert_true(rule.has_ttl && rule.ttl_ms == 0);
}

static void a_place_in_a_pattern_is_a_star(void **state)
{
    (void)state;
    struct tl_channel_rule rules[] = {good("tram_{id}: snapshot=key:tram_{id}:last"),
                                      good("bus_{id}: history=7")};
    struct tl_config config = {.standard = standard, .rules = rules, .rules_n = 2};
    struct tl_buf key = {0};
    assert_true(tl_config_has_key(&rules[0]) && !tl_config_has_key(&rules[1]));
    assert_true(rules[0].snapshot && !rules[1].snapshot);
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("tram_5")), &rules[0]);
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("bus_5")), &rules[1]);
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("{id}")), &config.standard);
    assert_true(tl_key_template_expand(rules[0].names, TL_LIT("tram_5"), &key));
    assert_true(tl_bytes_eq(tl_buf_bytes(&key), TL_LIT("tram_5:last")));
    tl_buf_deinit(&key);
    tl_channel_rule_deinit(&rules[0]);
    tl_channel_rule_deinit(&rules[1]);
    tl_channel_rule_deinit(&rules[1]);
}

static void snapshots_of_nothing_are_refused(void **state)
{
    static const char *const bad[] = {
        "a: snapshot=",
        "a: snapshot=key",
        "a: snapshot=key:",
        "a: snapshot=keys:x",
        "tram_*: snapshot=key:tram_{id}:last",
        "tram_{id}{n}: snapshot=log",
        "a: source=stream, snapshot=key:last",
        "a: stale_after=99ms",
        "a: ttl=25h",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_channel_rule rule;
        char error[400] = "";
        assert_int_equal(tl_channel_rule_parse(bad[i], &standard, &rule, error, sizeof error),
                         -EINVAL);
        assert_true(*error != 0);
    }
}

static void the_first_rule_that_matches_wins(void **state)
{
    struct tl_channel_rule rules[] = {good("a b*: history=1"), good("a*: history=2"),
                                      good("*:x: history=3")};
    struct tl_config config = {.standard = standard, .rules = rules, .rules_n = 3};
    (void)state;
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("a bc")), &rules[0]);
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("a")), &rules[1]);
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("z:x")), &rules[2]);
    assert_ptr_equal(tl_config_rule(&config, TL_LIT("z")), &config.standard);
}

static uint32_t roll(uint32_t *dice)
{
    *dice = *dice * 1664525u + 1013904223u;
    return *dice >> 16;
}

/* Random texts made of the rule's own words: parsed or refused with a line, never more. */
static void nonsense_is_refused_with_one_line(void **state)
{
    static const char *const words[] = {"tram_*", ": ",       ":",      "overflow",
                                        "=",      "gap",      "latest", ",",
                                        " ",      "max_rate", "4/s",    "/",
                                        "--",     "messages", "0",      "99999999999999999999",
                                        "\t",     "KiB",      "help",   "-h",
                                        "source", "stream",   "field",  "maxlen",
                                        "{id}",   "snapshot", "key:",   "ttl"};
    (void)state;
    uint32_t dice = 7;
    for (int i = 0; i < 20000; i++) {
        char text[200] = "", error[400] = "";
        struct tl_channel_rule rule;
        size_t at = 0;
        for (uint32_t n = roll(&dice) % 12; n > 0; n--)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s",
                                   words[roll(&dice) % (sizeof words / sizeof *words)]);
        assert_true(at < sizeof text);
        int r = tl_channel_rule_parse(text, &standard, &rule, error, sizeof error);
        assert_true(r == 0 || r == -EINVAL);
        assert_true((r == 0) == (*error == 0));
        assert_null(strchr(error, '\n'));
        if (r == 0)
            tl_channel_rule_deinit(&rule);
    }
}

static void without_memory_it_says_so(void **state)
{
    int r = -ENOMEM;
    (void)state;
    for (int64_t i = 0; r < 0; i++) {
        struct tl_channel_rule rule;
        char error[400];
        tl_alloc_fail(i, 1);
        r = tl_channel_rule_parse("{a}: overflow=latest max_rate=4/s snapshot=key:{a}", &standard,
                                  &rule, error, sizeof error);
        tl_alloc_fail(0, 0);
        if (r == 0)
            tl_channel_rule_deinit(&rule);
        assert_true(r == 0 || r == -ENOMEM);
        assert_true(i < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_is_as_for_all),
        cmocka_unit_test(every_key_is_understood_whatever_separates_them),
        cmocka_unit_test(rates_are_intervals),
        cmocka_unit_test(a_stream_has_a_field_and_at_most_one_limit),
        cmocka_unit_test(what_does_not_belong_to_a_stream_is_refused),
        cmocka_unit_test(a_rule_says_how_long_and_when_it_is_stale),
        cmocka_unit_test(a_place_in_a_pattern_is_a_star),
        cmocka_unit_test(snapshots_of_nothing_are_refused),
        cmocka_unit_test(the_first_rule_that_matches_wins),
        cmocka_unit_test(nonsense_is_refused_with_one_line),
        cmocka_unit_test(without_memory_it_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
