#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/options.h"
#include "base/alloc.h"
#include "base/logger.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char *no_env[] = {NULL};

struct parsed {
    struct tl_options options;
    int rc;
    char error[256];
};

/* Words of flags, split at '|', so that a flag may hold spaces. */
static struct parsed parse_env(const char *flags, char **env)
{
    struct parsed p;
    char text[2048];
    char *argv[64];
    int argc = 0;
    snprintf(text, sizeof text, "%s", flags);
    p.error[0] = 0;
    for (char *word = strtok(text, "|"); word; word = strtok(NULL, "|"))
        argv[argc++] = word;
    p.rc = tl_options_parse(&p.options, argc, argv, env, p.error, sizeof p.error);
    return p;
}

static struct parsed parse(const char *flags)
{
    return parse_env(flags, no_env);
}

static void assert_refused(const char *flags, const char *line)
{
    struct parsed p = parse(flags);
    assert_int_equal(p.rc, -EINVAL);
    assert_string_equal(p.error, line);
    tl_options_deinit(&p.options);
}

static uint64_t number_of(const struct tl_options *options, const struct tl_option *row)
{
    uint64_t number;
    memcpy(&number, (const char *)options + row->offset, sizeof number);
    return number;
}

static bool is_number(const struct tl_option *row)
{
    return row->name && (row->type == TL_OPTION_DURATION || row->type == TL_OPTION_SIZE ||
                         row->type == TL_OPTION_COUNT);
}

/* Through the generic parser, so that what finish() adds (cores, relations) does not matter. */
static int set_number(const struct tl_option *row, const char *text, uint64_t *ret_number)
{
    struct tl_options options = {0};
    char flag[128];
    char *argv[] = {flag, NULL};
    struct tl_optparse p = {
        .table = tl_serve_options, .table_n = tl_serve_options_n, .values = &options};
    snprintf(flag, sizeof flag, "--%s=%s", row->name, text);
    int rc = tl_optparse(&p, 1, argv, no_env);
    *ret_number = number_of(&options, row);
    if (rc < 0)
        assert_memory_equal(p.error, flag, strlen(row->name) + 2);
    tl_optparse_deinit(&p);
    return rc;
}

static const char *unit_of(const struct tl_option *row)
{
    return row->type == TL_OPTION_DURATION ? "ms" : "";
}

static void every_number_is_taken_at_its_limits_and_refused_beyond(void **state)
{
    (void)state;
    for (size_t i = 0; i < tl_serve_options_n; i++) {
        const struct tl_option *row = &tl_serve_options[i];
        if (!is_number(row))
            continue;
        const int64_t tries[] = {(int64_t)row->min - 1, (int64_t)row->min, (int64_t)row->max,
                                 (int64_t)row->max + 1};
        for (size_t t = 0; t < 4; t++) {
            char text[64];
            uint64_t number;
            snprintf(text, sizeof text, "%lld%s", (long long)tries[t], unit_of(row));
            int rc = set_number(row, text, &number);
            assert_int_equal(rc, t == 1 || t == 2 ? 0 : -EINVAL);
            if (rc == 0)
                assert_int_equal(number, tries[t]);
        }
    }
}

static void a_number_of_any_length_is_refused_and_not_wrapped(void **state)
{
    (void)state;
    static const char *const texts[] = {"18446744073709551615", "18446744073709551617",
                                        "99999999999999999999999999999999"};
    for (size_t i = 0; i < tl_serve_options_n; i++)
        for (size_t t = 0; is_number(&tl_serve_options[i]) && t < 3; t++) {
            char text[64];
            uint64_t number;
            snprintf(text, sizeof text, "%s%s", texts[t], unit_of(&tl_serve_options[i]));
            assert_int_equal(set_number(&tl_serve_options[i], text, &number), -EINVAL);
        }
    assert_refused("--log-bytes|99999999999999999999GiB",
                   "--log-bytes: 99999999999999999999GiB is too much; write at most 64GiB");
}

static void the_defaults_are_those_of_the_design(void **state)
{
    (void)state;
    struct parsed p = parse("");
    const struct tl_options *o = &p.options;
    assert_int_equal(p.rc, 0);
    assert_int_equal(o->listen.n, 1);
    assert_string_equal(o->listen.items[0], "127.0.0.1:8080");
    assert_string_equal(o->redis, "");
    assert_int_equal(o->engine, TL_ENGINE_AUTO);
    assert_true(o->workers >= 1 && o->workers <= 64);
    assert_int_equal(o->routes.n + o->patterns.n + o->origins.n + o->allow.n, 0);
    assert_false(o->open);
    assert_int_equal(o->linger_ms, 30000);
    assert_int_equal(o->history_ttl_ms, 60000);
    assert_int_equal(o->log_messages_max, 16384);
    assert_int_equal(o->log_bytes_max, 4194304);
    assert_int_equal(o->log_age_ms, 60000);
    assert_int_equal(o->logs_bytes_max, 1073741824);
    assert_int_equal(o->retired_bytes_max, 268435456);
    assert_int_equal(o->subscribe_timeout_ms, 5000);
    assert_int_equal(o->handshake_timeout_ms, 10000);
    assert_int_equal(o->stall_timeout_ms, 10000);
    assert_int_equal(o->ping_ms, 25000);
    assert_int_equal(o->drain_ms, 5000);
    assert_int_equal(o->message_bytes_max, 16777216);
    assert_int_equal(o->inbound_bytes_max, 65536);
    assert_int_equal(o->head_bytes_max, 32768);
    assert_int_equal(o->inbound_rate_max, 1000);
    assert_int_equal(o->connections_max + o->address_connections_max, 0);
    assert_int_equal(o->channels_max, 1000000);
    assert_int_equal(o->redis_ping_ms, 1000);
    assert_int_equal(o->redis_dead_ms, 3000);
    assert_int_equal(o->log_level, TL_INFO);
    tl_options_deinit(&p.options);
}

static void flags_win_over_the_environment_and_it_over_defaults(void **state)
{
    (void)state;
    char linger[] = "TRAMLINE_LINGER=7s", drain[] = "TRAMLINE_DRAIN=2s", empty[] = "TRAMLINE_PING=";
    char listen[] = "TRAMLINE_LISTEN=127.0.0.1:1, 127.0.0.1:2", open[] = "TRAMLINE_OPEN=yes";
    char *env[] = {linger, drain, empty, listen, open, NULL};
    struct parsed p = parse_env("--linger|9s|--open=no", env);
    assert_int_equal(p.rc, 0);
    assert_int_equal(p.options.linger_ms, 9000);
    assert_int_equal(p.options.drain_ms, 2000);
    assert_int_equal(p.options.ping_ms, 25000);
    assert_int_equal(p.options.listen.n, 2);
    assert_string_equal(p.options.listen.items[1], "127.0.0.1:2");
    assert_false(p.options.open);
    tl_options_deinit(&p.options);
    p = parse_env("--listen|127.0.0.1:3|--listen=[::1]:4|--open", env);
    assert_int_equal(p.options.listen.n, 2);
    assert_string_equal(p.options.listen.items[0], "127.0.0.1:3");
    assert_string_equal(p.options.listen.items[1], "[::1]:4");
    assert_true(p.options.open);
    tl_options_deinit(&p.options);
}

static void lists_in_the_environment_split_at_newlines_when_there_are_any(void **state)
{
    (void)state;
    char routes[] = "TRAMLINE_ROUTE=ws /a,b/{x} t_{x}\n\n  sse /s/{x} t_{x}\n";
    char *env[] = {routes, NULL};
    struct parsed p = parse_env("", env);
    assert_int_equal(p.rc, 0);
    assert_int_equal(p.options.routes.n, 2);
    assert_string_equal(p.options.routes.items[0], "ws /a,b/{x} t_{x}");
    assert_string_equal(p.options.routes.items[1], "sse /s/{x} t_{x}");
    tl_options_deinit(&p.options);
}

static void rules_in_the_environment_keep_their_commas(void **state)
{
    (void)state;
    char one[] = "TRAMLINE_CHANNEL=tram_*: overflow=latest, max_rate=4/s";
    char two[] = "TRAMLINE_CHANNEL=a: ttl=1s, history=2\nb: ttl=3s";
    struct parsed p = parse_env("", (char *[]){one, NULL});
    assert_int_equal(p.rc, 0);
    assert_int_equal(p.options.channel_rules.n, 1);
    assert_string_equal(p.options.channel_rules.items[0], "tram_*: overflow=latest, max_rate=4/s");
    tl_options_deinit(&p.options);
    p = parse_env("", (char *[]){two, NULL});
    assert_int_equal(p.rc, 0);
    assert_int_equal(p.options.channel_rules.n, 2);
    assert_string_equal(p.options.channel_rules.items[0], "a: ttl=1s, history=2");
    tl_options_deinit(&p.options);
}

static void errors_say_what_is_wrong_and_what_to_do(void **state)
{
    (void)state;
    assert_refused("--linger|30x", "--linger: '30x' is no duration; write 30s, 500ms or 2m");
    assert_refused("--linger|30", "--linger: '30' is no duration; write 30s, 500ms or 2m");
    assert_refused("--linger|25h", "--linger: 25h is too much; write at most 24h");
    assert_refused("--log-bytes=1", "--log-bytes: 1 is too little; write at least 1KiB");
    assert_refused("--max-message|1MB",
                   "--max-message: '1MB' is no size; write 65536, 64KiB, 16MiB or 1GiB");
    assert_refused("--workers|two", "--workers: 'two' is no number; write digits only");
    assert_refused("--linger", "--linger: needs a value: --linger D");
    assert_refused("--lingr|1s", "--lingr: no such option; did you mean --linger?");
    assert_refused("-l", "-l: no such option; see --help");
    assert_refused("--engine|kqueue",
                   "--engine: 'kqueue' is unknown; write one of auto|io_uring|epoll");
    assert_refused("--open=maybe", "--open: 'maybe' is neither yes nor no");
    assert_refused("now", "'now': serve takes options only; see tramline serve --help");
    assert_refused("--listen|8080", "--listen: '8080': no address to listen on; write "
                                    "127.0.0.1:8080, [::1]:8080, or :8080 for every address");
    assert_refused("--pattern|fleet tram_* tag",
                   "--pattern: 'fleet tram_* tag': no 'NAME GLOB' or 'NAME GLOB name'; write "
                   "'fleet tram_*'");
    assert_refused("--redis-ping|3s", "--redis-dead: must be longer than --redis-ping, or Redis is "
                                      "given up before it can answer");
}

static void bad_words_of_lists_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"--route|udp /x y",
                                      "--route|ws x y",
                                      "--route|ws /x",
                                      "--route|ws /x y z",
                                      "--route|ws /{a b",
                                      "--origin|example.org",
                                      "--pattern|fleet",
                                      "--allow=",
                                      "--listen=",
                                      "--redis|http://h:1",
                                      "--redis|rediss://h",
                                      "--token|a b",
                                      "--token|a\xc3\xa4",
                                      "--origin|https://a/b",
                                      "--listen|127.0.0.1:70000",
                                      "--token-file|/no/no",
                                      "--route|"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct parsed p = parse(bad[i]);
        if (p.rc != -EINVAL)
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(strncmp(p.error, "--", 2), 0);
        assert_null(strchr(p.error, '\n'));
        tl_options_deinit(&p.options);
    }
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    (void)state;
    assert_refused("--linger|\x1b[31m", "--linger: '?[31m' is no duration; write 30s, 500ms or 2m");
}

static void secrets_are_never_printed(void **state)
{
    (void)state;
    static const char *const bad[] = {"--token|hush hush", "--redis|redis://hush:hush:hush@:x/",
                                      "--redis|hush", "--redis|rediss://u:hush@h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct parsed p = parse(bad[i]);
        assert_int_equal(p.rc, -EINVAL);
        assert_null(strstr(p.error, "hush"));
        tl_options_deinit(&p.options);
    }
}

static char *file_with(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/tramline-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static void the_token_file_gives_its_first_line(void **state)
{
    (void)state;
    static const char *const files[] = {"s3cret\nnot this\n", "s3cret", "s3cret\r\n", "\n", "",
                                        "two words\n"};
    for (size_t i = 0; i < 6; i++) {
        char flags[128];
        char *path = file_with(files[i]);
        snprintf(flags, sizeof flags, "--token-file|%s", path);
        struct parsed p = parse(flags);
        unlink(path);
        assert_int_equal(p.rc, i < 3 ? 0 : -EINVAL);
        assert_string_equal(p.options.token, i < 3 ? "s3cret" : "");
        tl_options_deinit(&p.options);
    }
    assert_refused("--token|a|--token-file|b",
                   "--token-file: there is a --token too; give one of them");
}

/* The default as the help prints it, read by the parser, is the default. */
static void assert_default_reads_back(const struct tl_option *row, const char *help)
{
    char flag[80];
    char text[80];
    uint64_t number;
    snprintf(flag, sizeof flag, "  --%s %s", row->name, row->value);
    const char *at = strstr(help, flag);
    assert_non_null(at);
    const char *facts = strstr(at, "[default ");
    assert_non_null(facts);
    snprintf(text, sizeof text, "%.*s", (int)strcspn(facts + 9, ",;]"), facts + 9);
    assert_string_equal(text, *row->default_text ? row->default_text : "none");
    assert_non_null(strstr(facts, row->env));
    if (!is_number(row))
        return;
    assert_int_equal(set_number(row, text, &number), 0);
    struct tl_buf again = {0};
    tl_optparse_number(row->type, number, &again);
    uint64_t back;
    snprintf(text, sizeof text, "%.*s", (int)again.n, (char *)again.p);
    assert_int_equal(set_number(row, text, &back), 0);
    assert_int_equal(back, number);
    tl_buf_deinit(&again);
}

static void the_help_names_every_option_its_default_and_its_variable(void **state)
{
    (void)state;
    struct tl_buf help = {0};
    tl_options_help(&help);
    tl_buf_byte(&help, 0);
    assert_false(help.failed);
    for (size_t i = 0; i < tl_serve_options_n; i++)
        if (tl_serve_options[i].name)
            assert_default_reads_back(&tl_serve_options[i], (char *)help.p);
    assert_null(strstr((char *)help.p, " \n"));
    tl_buf_deinit(&help);
}

static void asking_for_help_is_no_error(void **state)
{
    (void)state;
    struct parsed p = parse("--linger|1s|--help|--nonsense");
    assert_int_equal(p.rc, 1);
    tl_options_deinit(&p.options);
}

static void names_of_options_and_variables_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < tl_serve_options_n; i++) {
        const struct tl_option *row = &tl_serve_options[i];
        if (!row->name)
            continue;
        char env[80] = "TRAMLINE_";
        size_t n = strlen(env);
        for (const char *c = row->name; *c; c++)
            env[n++] = *c == '-' ? '_' : (char)(*c - ('a' - 'A') * (*c >= 'a'));
        env[n] = 0;
        assert_string_equal(row->env, env);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    char env_text[] = "TRAMLINE_ALLOW=a,b,c";
    char *env[] = {env_text, NULL};
    const char *flags = "--listen|127.0.0.1:1|--listen|127.0.0.1:2|--token|x|--redis|redis://h";
    for (int64_t i = 0; i < 1000; i++) {
        tl_alloc_fail(i, 1);
        struct parsed p = parse_env(flags, env);
        bool all = tl_alloc_fail(0, 0) <= (uint64_t)i;
        assert_int_equal(p.rc, all ? 0 : -ENOMEM);
        tl_options_deinit(&p.options);
        if (all)
            return;
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_is_taken_at_its_limits_and_refused_beyond),
        cmocka_unit_test(a_number_of_any_length_is_refused_and_not_wrapped),
        cmocka_unit_test(the_defaults_are_those_of_the_design),
        cmocka_unit_test(flags_win_over_the_environment_and_it_over_defaults),
        cmocka_unit_test(lists_in_the_environment_split_at_newlines_when_there_are_any),
        cmocka_unit_test(rules_in_the_environment_keep_their_commas),
        cmocka_unit_test(errors_say_what_is_wrong_and_what_to_do),
        cmocka_unit_test(bad_words_of_lists_are_refused),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(secrets_are_never_printed),
        cmocka_unit_test(the_token_file_gives_its_first_line),
        cmocka_unit_test(the_help_names_every_option_its_default_and_its_variable),
        cmocka_unit_test(asking_for_help_is_no_error),
        cmocka_unit_test(names_of_options_and_variables_agree),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
