#include "proto/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Against Host `gw.example:8000` without TLS, and this list. */
static const char *const listed[] = {"https://app.example", "http://dev.example:3000",
                                     "https://[2001:db8::1]:8443", "https://xn--strae-oqa.example"};

static const struct {
    const char *origin;
    bool allowed;
} variants[] = {
    {"http://gw.example:8000", true},
    {"HTTP://GW.Example:8000", true},
    {"https://gw.example:8000", false},
    {"http://gw.example", false},
    {"http://gw.example:80", false},
    {"http://gw.example:8001", false},
    {"http://gw.example:80000", false},
    {"http://gw.example:8000/", false},
    {"http://gw.example:8000/x", false},
    {"http://gw.example:8000?x", false},
    {"http://gw.example:8000#x", false},
    {"http://gw.example.:8000", false},
    {"http://gw.example:8000.", false},
    {"http://gw.example:8000 ", false},
    {" http://gw.example:8000", false},
    {"http://gw.example:8000,http://gw.example:8000", false},
    {"http://evil.example http://gw.example:8000", false},
    {"http://evilgw.example:8000", false},
    {"http://evil.gw.example:8000", false},
    {"http://gw.example.evil.example:8000", false},
    {"http://gw.examplee:8000", false},
    {"http://w.example:8000", false},
    {"http://gw.example:8000@evil.example", false},
    {"http://user@gw.example:8000", false},
    {"http://user:pw@gw.example:8000", false},
    {"http://evil.example#gw.example:8000", false},
    {"http://evil.example\\gw.example:8000", false},
    {"http:gw.example:8000", false},
    {"http:/gw.example:8000", false},
    {"http:///gw.example:8000", false},
    {"//gw.example:8000", false},
    {"gw.example:8000", false},
    {"://gw.example:8000", false},
    {"ws://gw.example:8000", false},
    {"file://", false},
    {"file://gw.example:8000", false},
    {"null", false},
    {"NULL", false},
    {"", false},
    {"*", false},
    {"http://", false},
    {"http://*", false},
    {"http://gw%2eexample:8000", false},
    {"http://gw.example:", false},
    {"http://\xef\xbd\x87w.example:8000", false}, /* fullwidth g */
    {"https://app.example", true},
    {"https://app.example:443", true},
    {"https://APP.EXAMPLE", true},
    {"http://app.example", false},
    {"https://app.example:444", false},
    {"https://app.example:80", false},
    {"https://app.example.evil.example", false},
    {"https://sub.app.example", false},
    {"https://app.example/", false},
    {"https://app.example.", false},
    {"http://dev.example:3000", true},
    {"http://dev.example", false},
    {"https://dev.example:3000", false},
    {"https://[2001:db8::1]:8443", true},
    {"https://[2001:DB8::1]:8443", true},
    {"https://[2001:db8::1]", false},
    {"https://2001:db8::1:8443", false},
    {"https://xn--strae-oqa.example", true},
    {"https://stra\xc3\x9f"
     "e.example",
     false},
};

static void each_variant_is_decided_exactly(void **state)
{
    (void)state;
    struct tl_bytes list[4];
    for (int i = 0; i < 4; i++)
        list[i] = tl_bytes_str(listed[i]);
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++)
        if (tl_origin_allowed(tl_bytes_str(variants[i].origin), TL_LIT("gw.example:8000"), list, 4,
                              false) != variants[i].allowed)
            fail_msg("'%s'", variants[i].origin);
}

static bool same_host(const char *origin, const char *host, bool tls)
{
    return tl_origin_allowed(tl_bytes_str(origin), tl_bytes_str(host), NULL, 0, tls);
}

static void ports_default_by_scheme(void **state)
{
    (void)state;
    assert_true(same_host("http://h", "h", false));
    assert_true(same_host("http://h", "h:80", false));
    assert_true(same_host("http://h:80", "h", false));
    assert_true(same_host("http://h", "H:", false));
    assert_true(same_host("https://h", "h:443", true));
    assert_true(same_host("https://h:443", "h", true));
    assert_false(same_host("https://h", "h", false));
    assert_false(same_host("http://h", "h", true));
    assert_false(same_host("http://h", "h:443", false));
    assert_false(same_host("http://h:443", "h", true));
    assert_true(same_host("http://[::1]:1", "[::1]:1", false));
    assert_false(same_host("http://h", "h ", false));
    assert_false(same_host("http://h", "u@h", false));
    assert_false(same_host("http://h", "", false));
}

static void no_origin_is_allowed_and_an_empty_one_is_not(void **state)
{
    (void)state;
    assert_true(tl_origin_allowed(tl_bytes(NULL, 0), TL_LIT("h"), NULL, 0, false));
    assert_true(tl_origin_allowed(tl_bytes(NULL, 0), tl_bytes(NULL, 0), NULL, 0, false));
    assert_false(tl_origin_allowed(TL_LIT(""), TL_LIT("h"), NULL, 0, false));
}

static void without_a_host_only_the_list_allows(void **state)
{
    (void)state;
    struct tl_bytes list[] = {TL_LIT("http://h")};
    assert_false(tl_origin_allowed(TL_LIT("http://h"), tl_bytes(NULL, 0), NULL, 0, false));
    assert_true(tl_origin_allowed(TL_LIT("http://h"), tl_bytes(NULL, 0), list, 1, false));
}

static void a_star_in_the_list_allows_everything(void **state)
{
    (void)state;
    struct tl_bytes list[] = {TL_LIT("http://x"), TL_LIT("*")};
    assert_true(tl_origin_allowed(TL_LIT("null"), TL_LIT("h"), list, 2, false));
    assert_true(tl_origin_allowed(TL_LIT("http://evil"), TL_LIT("h"), list, 2, false));
    assert_false(tl_origin_allowed(TL_LIT("http://evil"), TL_LIT("h"), list, 1, false));
}

static void null_in_the_list_allows_nothing(void **state)
{
    (void)state;
    struct tl_bytes list[] = {TL_LIT("null"), TL_LIT("")};
    assert_false(tl_origin_allowed(TL_LIT("null"), TL_LIT("h"), list, 2, false));
    assert_false(tl_origin_is_valid(TL_LIT("null")));
    assert_false(tl_origin_is_valid(TL_LIT("http://h/")));
    assert_false(tl_origin_is_valid(TL_LIT("h")));
    assert_true(tl_origin_is_valid(TL_LIT("*")));
    assert_true(tl_origin_is_valid(TL_LIT("capacitor://localhost")));
}

static void other_schemes_are_allowed_when_listed(void **state)
{
    (void)state;
    struct tl_bytes list[] = {TL_LIT("capacitor://localhost")};
    assert_true(tl_origin_allowed(TL_LIT("capacitor://localhost"), TL_LIT("h"), list, 1, false));
    assert_false(tl_origin_allowed(TL_LIT("ionic://localhost"), TL_LIT("h"), list, 1, false));
    assert_false(tl_origin_allowed(TL_LIT("http://localhost"), TL_LIT("h"), list, 1, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_variant_is_decided_exactly),
        cmocka_unit_test(ports_default_by_scheme),
        cmocka_unit_test(no_origin_is_allowed_and_an_empty_one_is_not),
        cmocka_unit_test(without_a_host_only_the_list_allows),
        cmocka_unit_test(a_star_in_the_list_allows_everything),
        cmocka_unit_test(null_in_the_list_allows_nothing),
        cmocka_unit_test(other_schemes_are_allowed_when_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
