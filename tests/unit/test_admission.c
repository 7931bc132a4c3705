#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/admission.h"

#include <stdio.h>

/* A request for a channel, with what it says of itself. NULL: not said. */
struct asking {
    enum tl_admission_action action;
    const char *channel, *origin, *authorization, *query;
    const char *host;  /* localhost:8080 */
    const char *trace; /* a header that a proxy adds */
    bool is_remote;
};

static unsigned verdicts;

static void on_verdict(void *arg, const struct tl_verdict *verdict)
{
    int *status = arg;
    verdicts++;
    *status = verdict->status;
    if (verdict->status != 0) {
        assert_true(strlen(verdict->error) > 0);
        assert_true(strlen(verdict->hint) > 0);
    }
}

static void add_header(struct tl_http1_request *http, const char *name, const char *value)
{
    if (value)
        tl_http1_add_header(http, tl_bytes_str(name), tl_bytes_str(value));
}

static int ask(const struct tl_config *config, struct asking asking)
{
    struct tl_http1_request http = {.host =
                                        tl_bytes_str(asking.host ? asking.host : "localhost:8080")};
    add_header(&http, "Origin", asking.origin);
    add_header(&http, "Authorization", asking.authorization);
    if (asking.trace)
        add_header(&http, asking.trace, "192.0.2.1");
    if (asking.query)
        http.query = tl_bytes_str(asking.query);
    struct tl_admission_request request = {
        .http = &http,
        .action = asking.action,
        .channel = tl_bytes_str(asking.channel ? asking.channel : ""),
        .listener_is_loopback = !asking.is_remote,
    };
    int status = -1;
    verdicts = 0;
    tl_admission_decide(config, &request, on_verdict, &status);
    assert_int_equal(verdicts, 1);
    return status;
}

#define ASK(config, ...) ask(config, (struct asking){__VA_ARGS__})

static void on_loopback_everything_is_allowed(void **state)
{
    struct tl_config config = {0};
    (void)state;
    assert_int_equal(ASK(&config, .action = TL_ADMIT_SUBSCRIBE, .channel = "a"), 0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a"), 0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_OPERATE), 0);
}

static void strangers_may_subscribe_and_nothing_else(void **state)
{
    struct tl_config config = {0};
    (void)state;
    assert_int_equal(ASK(&config, .action = TL_ADMIT_SUBSCRIBE, .channel = "a", .is_remote = true),
                     0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .is_remote = true),
                     403);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_OPERATE, .is_remote = true), 403);
    config.open = true;
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .is_remote = true),
                     0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_OPERATE, .is_remote = true), 0);
}

static void who_comes_through_a_proxy_is_a_stranger(void **state)
{
    static const char *const traces[] = {"X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"};
    struct tl_config config = {0};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(
            ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .trace = traces[i]), 403);
        assert_int_equal(
            ASK(&config, .action = TL_ADMIT_SUBSCRIBE, .channel = "a", .trace = traces[i]), 0);
    }
}

static void a_name_that_nobody_gave_to_this_machine_is_refused_on_loopback(void **state)
{
    static const struct tl_bytes listed = {(const uint8_t *)"http://gw.example", 17};
    static const enum tl_admission_action actions[] = {TL_ADMIT_SUBSCRIBE, TL_ADMIT_PUBLISH,
                                                       TL_ADMIT_OPERATE};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct tl_config config = {0};
        assert_int_equal(ASK(&config, .action = actions[i], .host = "evil.example:8080",
                             .origin = "http://evil.example:8080"),
                         403);
        assert_int_equal(ASK(&config, .action = actions[i], .host = "127.0.0.1:8080"), 0);
        assert_int_equal(ASK(&config, .action = actions[i], .host = "[::1]:8080"), 0);
        config.origins = &listed;
        config.origins_n = 1;
        assert_int_equal(ASK(&config, .action = actions[i], .host = "gw.example"), 0);
        config = (struct tl_config){.open = true};
        assert_int_equal(ASK(&config, .action = actions[i], .host = "evil.example:8080"), 0);
    }
}

static void other_origins_are_refused_for_every_action(void **state)
{
    static const struct tl_bytes listed = {(const uint8_t *)"https://page.example", 20};
    static const enum tl_admission_action actions[] = {TL_ADMIT_SUBSCRIBE, TL_ADMIT_PUBLISH,
                                                       TL_ADMIT_OPERATE};
    struct tl_config config = {.open = true};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        config.origins_n = 0;
        assert_int_equal(
            ASK(&config, .action = actions[i], .channel = "a", .origin = "http://localhost:8080"),
            0);
        assert_int_equal(
            ASK(&config, .action = actions[i], .channel = "a", .origin = "https://page.example"),
            403);
        assert_int_equal(ASK(&config, .action = actions[i], .channel = "a", .origin = "null"), 403);
        config.origins = &listed;
        config.origins_n = 1;
        assert_int_equal(
            ASK(&config, .action = actions[i], .channel = "a", .origin = "https://page.example"),
            0);
        assert_int_equal(ASK(&config, .action = actions[i], .channel = "a",
                             .origin = "https://page.example.evil"),
                         403);
    }
}

static void a_token_is_asked_for_everywhere_once_it_is_set(void **state)
{
    static const char *const wrong[] = {
        "Bearer secre", "Bearer secrets", "Bearer ", "Bearer", "secret", "Basic secret", "", NULL,
    };
    struct tl_config config = {.token = TL_LIT("secret"), .open = true};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(
            ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .authorization = wrong[i]),
            403);
        assert_int_equal(ASK(&config, .action = TL_ADMIT_OPERATE, .authorization = wrong[i]), 403);
        assert_int_equal(
            ASK(&config, .action = TL_ADMIT_SUBSCRIBE, .channel = "a", .authorization = wrong[i]),
            0);
    }
    assert_int_equal(
        ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .authorization = "Bearer secret"),
        0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a",
                         .authorization = "bearer  secret "),
                     0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_OPERATE, .authorization = "Bearer secret"), 0);
}

static void a_token_may_come_in_the_query_of_those_who_cannot_set_headers(void **state)
{
    struct tl_config config = {.token = TL_LIT("s&cret")};
    (void)state;
    assert_int_equal(
        ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .query = "x=1&token=s%26cret"), 0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .query = "token=s"),
                     403);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .query = "token="),
                     403);
    assert_int_equal(
        ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .query = "tokens=s%26cret"), 403);
    /* A wrong header is not mended by the query. */
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a",
                         .authorization = "Bearer no", .query = "token=s%26cret"),
                     403);
}

static void tokens_in_the_query_have_a_limit(void **state)
{
    char token[TL_TOKEN_MAX + 2], query[TL_TOKEN_MAX + 20];
    (void)state;
    for (size_t n = TL_TOKEN_MAX - 1; n <= TL_TOKEN_MAX + 1; n++) {
        memset(token, 't', n);
        token[n] = 0;
        snprintf(query, sizeof query, "token=%s", token);
        struct tl_config config = {.token = tl_bytes(token, n)};
        assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "a", .query = query),
                         n > TL_TOKEN_MAX ? 403 : 0);
    }
}

static void only_allowed_channels_are_served(void **state)
{
    static const struct tl_bytes allow[] = {{(const uint8_t *)"tram_*", 6},
                                            {(const uint8_t *)"news", 4}};
    struct tl_config config = {.allow = allow, .allow_n = 2};
    (void)state;
    assert_int_equal(ASK(&config, .action = TL_ADMIT_SUBSCRIBE, .channel = "tram_5"), 0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "news"), 0);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_SUBSCRIBE, .channel = "news2"), 403);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_PUBLISH, .channel = "bus_5"), 403);
    assert_int_equal(ASK(&config, .action = TL_ADMIT_OPERATE), 0); /* it is about no channel */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_loopback_everything_is_allowed),
        cmocka_unit_test(strangers_may_subscribe_and_nothing_else),
        cmocka_unit_test(who_comes_through_a_proxy_is_a_stranger),
        cmocka_unit_test(a_name_that_nobody_gave_to_this_machine_is_refused_on_loopback),
        cmocka_unit_test(other_origins_are_refused_for_every_action),
        cmocka_unit_test(a_token_is_asked_for_everywhere_once_it_is_set),
        cmocka_unit_test(a_token_may_come_in_the_query_of_those_who_cannot_set_headers),
        cmocka_unit_test(tokens_in_the_query_have_a_limit),
        cmocka_unit_test(only_allowed_channels_are_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
