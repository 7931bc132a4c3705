#include "proto/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

static void escapes_become_bytes_and_plus_stays_in_paths(void **state)
{
    (void)state;
    uint8_t out[16];
    size_t n;
    assert_int_equal(tl_url_decode(TL_LIT("a%20b%00%fF+"), false, out, sizeof(out), &n), 0);
    assert_int_equal(n, 6);
    assert_memory_equal(out, "a b\0\xff+", 6);
    assert_int_equal(tl_url_decode(TL_LIT("a+b"), true, out, sizeof(out), &n), 0);
    assert_memory_equal(out, "a b", 3);
    assert_int_equal(tl_url_decode(TL_LIT("%2B"), true, out, sizeof(out), &n), 0);
    assert_memory_equal(out, "+", 1);
}

static void malformed_escapes_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"%", "%1", "a%", "%g0", "%0g", "%%20", "% 1", "%-1"};
    uint8_t out[16];
    size_t n;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(tl_url_decode(tl_bytes_str(bad[i]), false, out, sizeof(out), &n), -EINVAL);
}

static void decoding_stops_at_the_end_of_the_room(void **state)
{
    (void)state;
    uint8_t out[3];
    size_t n;
    assert_int_equal(tl_url_decode(TL_LIT("%41bc"), false, out, 3, &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(tl_url_decode(TL_LIT("%41bcd"), false, out, 3, &n), -ENOSPC);
    assert_int_equal(tl_url_decode(TL_LIT(""), false, out, 0, &n), 0);
    assert_int_equal(n, 0);
}

static void what_is_encoded_decodes_to_itself(void **state)
{
    (void)state;
    unsigned seed = 3;
    for (int i = 0; i < 5000; i++) {
        uint8_t in[32], back[32];
        size_t n = (size_t)rand_r(&seed) % sizeof(in), back_n;
        struct tl_buf text = {0};
        for (size_t k = 0; k < n; k++)
            in[k] = (uint8_t)rand_r(&seed);
        tl_url_encode(&text, tl_bytes(in, n));
        assert_int_equal(tl_url_decode(tl_buf_bytes(&text), i % 2, back, sizeof(back), &back_n), 0);
        assert_true(tl_bytes_eq(tl_bytes(in, n), tl_bytes(back, back_n)));
        tl_buf_deinit(&text);
    }
}

static void a_query_gives_the_first_value_of_a_name(void **state)
{
    (void)state;
    uint8_t out[8];
    size_t n = 99;
    struct tl_bytes q = TL_LIT("a=1&&b&%63h=x%2Fy+z&ch=2&bad=%z&=v&long=123456789&e=");
    assert_int_equal(tl_url_query(q, "a", out, sizeof(out), &n), 1);
    assert_memory_equal(out, "1", n);
    assert_int_equal(tl_url_query(q, "ch", out, sizeof(out), &n), 1);
    assert_int_equal(n, 5);
    assert_memory_equal(out, "x/y z", 5);
    assert_int_equal(tl_url_query(q, "b", out, sizeof(out), &n), 1);
    assert_int_equal(n, 0);
    assert_int_equal(tl_url_query(q, "e", out, sizeof(out), &n), 1);
    assert_int_equal(n, 0);
    assert_int_equal(tl_url_query(q, "bad", out, sizeof(out), &n), -EINVAL);
    assert_int_equal(tl_url_query(q, "long", out, sizeof(out), &n), -ENOSPC);
    assert_int_equal(tl_url_query(q, "c", out, sizeof(out), &n), 0);
    assert_int_equal(tl_url_query(tl_bytes(NULL, 0), "a", out, sizeof(out), &n), 0);
}

static void a_query_is_walked_item_by_item(void **state)
{
    (void)state;
    struct tl_bytes q = TL_LIT("&ch=a&ch&ch=b=c&"), name, value;
    assert_true(tl_url_query_next(&q, &name, &value));
    assert_true(tl_bytes_eq(name, TL_LIT("ch")) && tl_bytes_eq(value, TL_LIT("a")));
    assert_true(tl_url_query_next(&q, &name, &value));
    assert_null(value.p);
    assert_true(tl_url_query_next(&q, &name, &value));
    assert_true(tl_bytes_eq(value, TL_LIT("b=c")));
    assert_false(tl_url_query_next(&q, &name, &value));
}

static const struct {
    const char *text, *host; /* host NULL: malformed */
    uint16_t port;
} authorities[] = {
    {"h", "h", 0},
    {"h:1", "h", 1},
    {"h:65535", "h", 65535},
    {"h:", "h", 0},
    {"a_b-c.example.", "a_b-c.example.", 0},
    {"127.0.0.1:80", "127.0.0.1", 80},
    {"[::1]", "[::1]", 0},
    {"[::1]:80", "[::1]", 80},
    {"[::ffff:1.2.3.4]:080", "[::ffff:1.2.3.4]", 80},
    {"a%20b", "a%20b", 0},
    {"", NULL, 0},
    {":80", NULL, 0},
    {"h:0", NULL, 0},
    {"h:65536", NULL, 0},
    {"h:99999999999999999999", NULL, 0},
    {"h:8o", NULL, 0},
    {"h:1:2", NULL, 0},
    {"h:-1", NULL, 0},
    {"u@h", NULL, 0},
    {"h/", NULL, 0},
    {"h?", NULL, 0},
    {"h#", NULL, 0},
    {"h\\", NULL, 0},
    {"a b", NULL, 0},
    {"a%2", NULL, 0},
    {"::1", NULL, 0},
    {"[::1", NULL, 0},
    {"[::1]x", NULL, 0},
    {"[]", NULL, 0},
    {"[12]", NULL, 0},
    {"[h:1]", NULL, 0},
    {"h\xc3\xbc", NULL, 0},
};

static void authorities_split_or_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(authorities) / sizeof(authorities[0]); i++) {
        struct tl_bytes host = {0};
        uint16_t port = 0;
        bool ok = tl_url_authority(tl_bytes_str(authorities[i].text), &host, &port);
        if (ok != (authorities[i].host != NULL))
            fail_msg("'%s'", authorities[i].text);
        if (ok &&
            (!tl_bytes_eq(host, tl_bytes_str(authorities[i].host)) || port != authorities[i].port))
            fail_msg("'%s'", authorities[i].text);
    }
    struct tl_bytes host;
    uint16_t port;
    assert_false(tl_url_authority(TL_LIT("h\0"), &host, &port));
}

static const struct {
    const char *text, *shown, *host, *path, *user, *password; /* password NULL: none */
    uint16_t port;
    uint32_t db;
} urls[] = {
    {"redis://h", "redis://h:6379/0", "h", "", "", NULL, 6379, 0},
    {"REDIS://h/", "redis://h:6379/0", "h", "", "", NULL, 6379, 0},
    {"redis://h:7000/3", "redis://h:7000/3", "h", "", "", NULL, 7000, 3},
    {"redis://[::1]:1/999999", "redis://[::1]:1/999999", "::1", "", "", NULL, 1, 999999},
    {"redis://:pw@h", "redis://h:6379/0", "h", "", "", "pw", 6379, 0},
    {"redis://:@h", "redis://h:6379/0", "h", "", "", "", 6379, 0},
    {"redis://u:p%40%3a%2F@h:1", "redis://h:1/0", "h", "", "u", "p@:/", 1, 0},
    {"redis://u:a:b@h", "redis://h:6379/0", "h", "", "u", "a:b", 6379, 0},
    {"redis://u:a@b@h", "redis://h:6379/0", "h", "", "u", "a@b", 6379, 0},
    {"redis+unix:///run/r.sock", "redis+unix:///run/r.sock?db=0", "", "/run/r.sock", "", NULL, 0,
     0},
    {"redis+unix://:pw@/r%20s?db=4", "redis+unix:///r s?db=4", "", "/r s", "", "pw", 0, 4},
    {"http://127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1", "", "", NULL, 8000, 0},
    {"http://h/", "http://h:80", "h", "", "", NULL, 80, 0},
};

static void broker_urls_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct tl_url url;
        const char *error = "";
        char shown[512];
        if (tl_url_parse(tl_bytes_str(urls[i].text), &url, &error) != 0)
            fail_msg("'%s': %s", urls[i].text, error);
        assert_string_equal(tl_url_text(&url, shown, sizeof(shown)), urls[i].shown);
        assert_string_equal(url.host, urls[i].host);
        assert_string_equal(url.path, urls[i].path);
        assert_string_equal(url.user, urls[i].user);
        assert_int_equal(url.has_password, urls[i].password != NULL);
        assert_string_equal(url.password, urls[i].password ? urls[i].password : "");
        assert_int_equal(url.port, urls[i].port);
        assert_int_equal(url.db, urls[i].db);
    }
}

static void wrong_urls_are_told_without_their_password(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "h",
        "redis:/h",
        "redis://",
        "redis:///0",
        "redis://:SECRET@",
        "redis://SECRET@h",
        "redis://u:SECRET@h:0",
        "redis://u:SECRET@h:70000",
        "redis://u:SECRET%@h",
        "redis://u:SECRET%00@h",
        "redis://u%z:SECRET@h",
        "redis://u:SEC/RET@h",
        "redis://a%20b",
        "redis://h/x",
        "redis://h/1000000",
        "redis://h/1/2",
        "redis://h?db=1",
        "redis://::1",
        "redis://[::1",
        "rediss://h",
        "redis+unix://",
        "redis+unix:///",
        "redis+unix://run/r.sock",
        "redis+unix:///r?x=1",
        "redis+unix:///r?db=",
        "redis+unix:///r?db=1&x",
        "http://u:SECRET@h",
        "http://h/path",
        "https://h",
        "memory://",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tl_url url;
        const char *error = NULL;
        if (tl_url_parse(tl_bytes_str(bad[i]), &url, &error) != -EINVAL)
            fail_msg("'%s'", bad[i]);
        assert_non_null(error);
        assert_null(strstr(error, "SECRET"));
    }
}

static void fields_of_a_url_have_limits(void **state)
{
    (void)state;
    static const struct {
        const char *before, *behind;
        size_t max;
    } limits[] = {{"redis://", "", 255},
                  {"redis://", ":p@h", 255},
                  {"redis://:", "@h", 511},
                  {"redis+unix:///", "", 106}};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        for (size_t n = limits[i].max - 1; n <= limits[i].max + 1; n++) {
            struct tl_buf text = {0};
            struct tl_url url;
            const char *error;
            tl_buf_str(&text, limits[i].before);
            for (size_t k = 0; k < n; k++)
                tl_buf_byte(&text, 'x');
            tl_buf_str(&text, limits[i].behind);
            assert_int_equal(tl_url_parse(tl_buf_bytes(&text), &url, &error),
                             n <= limits[i].max ? 0 : -EINVAL);
            tl_buf_deinit(&text);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_become_bytes_and_plus_stays_in_paths),
        cmocka_unit_test(malformed_escapes_are_refused),
        cmocka_unit_test(decoding_stops_at_the_end_of_the_room),
        cmocka_unit_test(what_is_encoded_decodes_to_itself),
        cmocka_unit_test(a_query_gives_the_first_value_of_a_name),
        cmocka_unit_test(a_query_is_walked_item_by_item),
        cmocka_unit_test(authorities_split_or_are_refused),
        cmocka_unit_test(broker_urls_are_read),
        cmocka_unit_test(wrong_urls_are_told_without_their_password),
        cmocka_unit_test(fields_of_a_url_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
