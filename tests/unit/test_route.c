#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "gateway/route.h"

#include <errno.h>

#define BIT(kind) (1u << (kind))
#define ALL_KINDS (BIT(TL_ROUTE_WS) | BIT(TL_ROUTE_SSE) | BIT(TL_ROUTE_PUB) | BIT(TL_ROUTE_DUPLEX))

static int make(struct tl_routes *routes, const char *const *rules, size_t n, const char **error,
                size_t *at)
{
    struct tl_bytes bytes[8];
    assert_true(n <= 8);
    for (size_t i = 0; i < n; i++)
        bytes[i] = tl_bytes_str(rules[i]);
    return tl_routes_init(routes, bytes, n, error, at);
}

static struct tl_route_match match(const struct tl_routes *routes, const char *path,
                                   unsigned wanted)
{
    struct tl_route_match m;
    tl_routes_match(routes, tl_bytes_str(path), wanted, &m);
    return m;
}

static void assert_name(const struct tl_route_match *m, const char *name)
{
    assert_non_null(m->route);
    assert_int_equal(m->result, TL_TEMPLATE_MATCH);
    assert_true(tl_bytes_eq(tl_bytes(m->name, m->name_n), tl_bytes_str(name)));
}

static void kinds_have_their_words(void **state)
{
    static const char *const words[] = {"ws", "sse", "pub", "duplex"};
    static const char *const others[] = {"", "w", "wss", "WS", "ws ", "publish"};
    enum tl_route_kind kind;
    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_true(tl_route_kind_parse(tl_bytes_str(words[i]), &kind));
        assert_int_equal(kind, i);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(tl_route_kind_parse(tl_bytes_str(others[i]), &kind));
}

static void the_default_routes_are_there(void **state)
{
    struct tl_routes routes;
    const char *error = NULL;
    size_t at = 0;
    (void)state;
    assert_int_equal(tl_routes_init(&routes, NULL, 0, &error, &at), 0);
    struct tl_route_match m = match(&routes, "/ws/a%20b", BIT(TL_ROUTE_WS));
    assert_name(&m, "a b");
    assert_false(m.route->polite_close);
    m = match(&routes, "/sse/x", BIT(TL_ROUTE_SSE));
    assert_name(&m, "x");
    m = match(&routes, "/pub/x", BIT(TL_ROUTE_PUB));
    assert_name(&m, "x");
    m = match(&routes, "/chat/x", ALL_KINDS);
    assert_name(&m, "x");
    assert_int_equal(m.route->kind, TL_ROUTE_DUPLEX);
    m = match(&routes, "/tram-state-ws/5", ALL_KINDS);
    assert_name(&m, "tram_5");
    assert_true(m.route->polite_close);
    m = match(&routes, "/tram-state/5", BIT(TL_ROUTE_PUB));
    assert_name(&m, "tram_5");
    tl_routes_deinit(&routes);
}

static void a_path_tells_its_kinds_also_when_none_is_wanted(void **state)
{
    static const char *const rules[] = {"sse /ws/{c} {c}"};
    struct tl_routes routes;
    const char *error = NULL;
    size_t at = 0;
    (void)state;
    assert_int_equal(make(&routes, rules, 1, &error, &at), 0);
    struct tl_route_match m = match(&routes, "/ws/x", BIT(TL_ROUTE_PUB));
    assert_null(m.route);
    assert_int_equal(m.kinds, BIT(TL_ROUTE_WS) | BIT(TL_ROUTE_SSE));
    m = match(&routes, "/nowhere", ALL_KINDS);
    assert_null(m.route);
    assert_int_equal(m.kinds, 0);
    m = match(&routes, "/ws/x", BIT(TL_ROUTE_WS));
    assert_int_equal(m.route->kind, TL_ROUTE_WS);
    tl_routes_deinit(&routes);
}

static void rules_come_before_the_defaults_in_their_order(void **state)
{
    static const char *const rules[] = {"ws /ws/{a} first_{a}", "ws\t/ws/{a}\t second_{a} ",
                                        "  duplex /talk/{b} {b}"};
    struct tl_routes routes;
    const char *error = NULL;
    size_t at = 0;
    (void)state;
    assert_int_equal(make(&routes, rules, 3, &error, &at), 0);
    struct tl_route_match m = match(&routes, "/ws/x", ALL_KINDS);
    assert_name(&m, "first_x");
    m = match(&routes, "/talk/x", ALL_KINDS);
    assert_name(&m, "x");
    tl_routes_deinit(&routes);
}

static void what_is_wrong_with_a_match_is_told(void **state)
{
    struct tl_routes routes;
    const char *error = NULL;
    size_t at = 0;
    char path[800] = "/ws/";
    (void)state;
    assert_int_equal(tl_routes_init(&routes, NULL, 0, &error, &at), 0);
    assert_int_equal(match(&routes, "/ws/a%zz", ALL_KINDS).result, TL_TEMPLATE_BAD_ENCODING);
    assert_int_equal(match(&routes, "/ws/", ALL_KINDS).result, TL_TEMPLATE_NAME_EMPTY);
    for (size_t n = TL_TEMPLATE_NAME_MAX - 1; n <= TL_TEMPLATE_NAME_MAX + 1; n++) {
        memset(path + 4, 'n', n);
        path[4 + n] = 0;
        struct tl_route_match m = match(&routes, path, ALL_KINDS);
        assert_int_equal(m.result,
                         n > TL_TEMPLATE_NAME_MAX ? TL_TEMPLATE_NAME_TOO_LONG : TL_TEMPLATE_MATCH);
        if (n <= TL_TEMPLATE_NAME_MAX)
            assert_int_equal(m.name_n, n);
    }
    tl_routes_deinit(&routes);
}

static void bad_rules_are_named(void **state)
{
    static const char *const bad[] = {
        "",
        "ws",
        "ws /a/{b}",
        "http /a/{b} {b}",
        "ws a/{b} b",
        "ws /a/{b} {c}",
        "ws /a/{b} {b} more",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *const rules[] = {"ws /good/{a} {a}", bad[i]};
        struct tl_routes routes;
        const char *error = NULL;
        size_t at = 9;
        assert_int_equal(make(&routes, rules, 2, &error, &at), -EINVAL);
        assert_int_equal(at, 1);
        assert_non_null(error);
        assert_null(routes.routes);
    }
}

static void without_memory_there_is_none(void **state)
{
    struct tl_routes routes;
    const char *error = NULL;
    size_t at = 0;
    (void)state;
    tl_alloc_fail(0, 1);
    assert_int_equal(tl_routes_init(&routes, NULL, 0, &error, &at), -ENOMEM);
    tl_alloc_fail(0, 0);
    tl_routes_deinit(&routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_have_their_words),
        cmocka_unit_test(the_default_routes_are_there),
        cmocka_unit_test(a_path_tells_its_kinds_also_when_none_is_wanted),
        cmocka_unit_test(rules_come_before_the_defaults_in_their_order),
        cmocka_unit_test(what_is_wrong_with_a_match_is_told),
        cmocka_unit_test(bad_rules_are_named),
        cmocka_unit_test(without_memory_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
