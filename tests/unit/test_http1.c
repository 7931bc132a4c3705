#include "proto/http1.h"

#include "base/alloc.h"
#include "proto/chars.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define HEAD_MAX 65536
#define HOST     "Host: gw.example\r\n"
#define GET      "GET / HTTP/1.1\r\n" HOST
#define POST     "POST /pub/a HTTP/1.1\r\n" HOST

/* status 0: accepted. */
static const struct {
    const char *text;
    int status;
} requests[] = {
    {GET "\r\n", 0},
    {"\r\n\r\n" GET "\r\n", 0},
    {"\r\n\r\n\r\n\r\n" GET "\r\n", 0},
    {"\r\n\r\n\r\n\r\n\r\n" GET "\r\n", 400},
    {"\n" GET "\r\n", 400},
    {"HEAD /a?b HTTP/1.1\r\n" HOST "\r\n", 0},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", 400},
    {"DELETE / HTTP/1.1\r\n" HOST "\r\n", 0},
    {"CONNECT gw.example:80 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"BREW / HTTP/1.1\r\n" HOST "\r\n", 501},
    {"get / HTTP/1.1\r\n" HOST "\r\n", 501},
    {"GETX / HTTP/1.1\r\n" HOST "\r\n", 501},
    {"G@T / HTTP/1.1\r\n" HOST "\r\n", 400},
    {" GET / HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /  HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400},
    {"GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /a b HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET  HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /\r\n\r\n", 400},
    {"GET\r\n\r\n", 400},
    {"GET / HTTP/0.9\r\n\r\n", 505},
    {"GET / HTTP/1.0\r\n\r\n", 0},
    {"GET / HTTP/1.2\r\n" HOST "\r\n", 0},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
    {"GET / HTTP/3\r\n" HOST "\r\n", 400},
    {"GET / http/1.1\r\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1x\r\n" HOST "\r\n", 400},
    {"GET / HTTP/11.1\r\n" HOST "\r\n", 400},
    {"GET / ICE/1.0\r\n" HOST "\r\n", 400},
    {"\x16\x03\x01\x02", 400}, /* a TLS client */
    {"GET a HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /#a HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /stra\xc3\x9f"
     "e HTTP/1.1\r\n" HOST "\r\n",
     400},
    {"GET /%00%zz HTTP/1.1\r\n" HOST "\r\n", 0}, /* decoding is the route's business */
    {"GET http://gw.example/a?b HTTP/1.1\r\n" HOST "\r\n", 0},
    {"GET HTTPS://GW.EXAMPLE?b HTTP/1.1\r\n" HOST "\r\n", 0},
    {"GET http://gw.example HTTP/1.1\r\n" HOST "\r\n", 0},
    {"GET http://evil.example/ HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET http://u@gw.example/ HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET http://gw.example/ HTTP/1.0\r\n\r\n", 0},
    {"GET http://u@gw.example/ HTTP/1.0\r\n\r\n", 400},
    {"GET http:/// HTTP/1.0\r\n\r\n", 400},
    {"GET ftp://gw.example/ HTTP/1.1\r\n" HOST "\r\n", 400},
    /* lines */
    {"GET / HTTP/1.1\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400},
    {GET "A: b\r\n c\r\n\r\n", 400},
    {GET "A: b\r\n\tc\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n " HOST "\r\n", 400},
    {GET "A : b\r\n\r\n", 400},
    {GET "A\t: b\r\n\r\n", 400},
    {GET "A B: b\r\n\r\n", 400},
    {GET "A\r\n\r\n", 400},
    {GET ": b\r\n\r\n", 400},
    {GET "A(: b\r\n\r\n", 400},
    {GET "\xc3\x9c: b\r\n\r\n", 400},
    {GET "A: \x01\r\n\r\n", 400},
    {GET "A: \x7f\r\n\r\n", 400},
    {GET "A: \x1b[0m\r\n\r\n", 400},
    {GET "A:b\tc\xff \r\n\r\n", 0},
    {GET "A:\r\nB: \t \r\n\r\n", 0},
    /* Host */
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
    {"GET / HTTP/1.0\r\n" HOST HOST "\r\n", 400},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 0}, /* a legal name, if an odd one */
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nhOsT:[::1]:8000\r\n\r\n", 0},
    {GET "Origin: http://a\r\nOrigin: http://gw.example\r\n\r\n", 400},
    {GET "Authorization: a\r\nauthorization: b\r\n\r\n", 400},
    /* framing */
    {POST "Content-Length: 0\r\n\r\n", 0},
    {POST "Content-Length: 3\r\n\r\nabc", 0},
    {POST "Content-Length: 18446744073709551600\r\n\r\n", 400},
    {POST "Content-Length: 99999999999999999999999\r\n\r\n", 400},
    {POST "Content-Length:\r\n\r\n", 400},
    {POST "Content-Length: -1\r\n\r\n", 400},
    {POST "Content-Length: +1\r\n\r\n", 400},
    {POST "Content-Length: 0x1\r\n\r\n", 400},
    {POST "Content-Length: 1 2\r\n\r\n", 400},
    {POST "Content-Length: 1,1\r\n\r\n", 400},
    {POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
    {POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
    {POST "Transfer-Encoding: chunked\r\n\r\n", 0},
    {POST "Transfer-Encoding: CHUNKED\r\n\r\n", 0},
    {POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
    {POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {POST "Content-Length: 1\r\nTransfer-Encoding: identity\r\n\r\n", 400},
    {POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
    {POST "Transfer-Encoding: identity\r\n\r\n", 501},
    {POST "Transfer-Encoding: xchunked\r\n\r\n", 501},
    {POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 501},
    {POST "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
    {POST "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
    {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {POST "Transfer-Encoding: ,chunked\r\n\r\n", 400},
    {POST "Transfer-Encoding:\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {POST "Content-Length: 1\r\nExpect: 100-continue\r\n\r\n", 0},
    {POST "Content-Length: 1\r\nExpect: 200-maybe\r\n\r\n", 417},
};

#define REQUESTS_N (sizeof(requests) / sizeof(requests[0]))

/* Feed in steps of at most step_max bytes (0: at random); each prefix in memory of exactly its
 * size, moved every time. The status, 0 for DONE, -1 for MORE at the end. */
static int feed_head(const char *text, size_t step_max, struct tl_http1_request *req,
                     struct tl_buf *last)
{
    static unsigned seed = 11;
    struct tl_http1 h;
    size_t all = strlen(text), n = 0, head_n;
    enum tl_parse r = TL_PARSE_MORE;
    tl_http1_init(&h, HEAD_MAX);
    while (r == TL_PARSE_MORE && n < all) {
        size_t step = step_max ? step_max : 1 + (size_t)rand_r(&seed) % 40;
        n = step < all - n ? n + step : all;
        tl_buf_deinit(last);
        tl_buf_append(last, tl_bytes(text, n));
        r = tl_http1_head(&h, tl_buf_bytes(last), &head_n, req);
    }
    if (r == TL_PARSE_BAD) {
        assert_non_null(h.reason);
        assert_int_equal(tl_http1_head(&h, tl_bytes(text, all), &head_n, req), TL_PARSE_BAD);
        return h.status;
    }
    return r == TL_PARSE_DONE ? 0 : -1;
}

static void each_request_has_its_status_however_it_is_cut(void **state)
{
    (void)state;
    static const size_t steps[] = {SIZE_MAX, 1, 2, 3, 7, 0, 0, 0, 0};
    struct tl_http1_request req;
    struct tl_buf last = {0};
    for (size_t i = 0; i < REQUESTS_N; i++)
        for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
            int status = feed_head(requests[i].text, steps[k], &req, &last);
            if (status != requests[i].status)
                fail_msg("%s: %d at step %zu", requests[i].text, status, steps[k]);
        }
    tl_buf_deinit(&last);
}

static void assert_bytes(struct tl_bytes got, const char *want)
{
    if (!tl_bytes_eq(got, tl_bytes_str(want)))
        fail_msg("'%.*s' is not '%s'", (int)got.n, (const char *)got.p, want);
}

static int parse(const char *text, struct tl_http1_request *req)
{
    struct tl_http1 h;
    size_t head_n;
    tl_http1_init(&h, HEAD_MAX);
    enum tl_parse r = tl_http1_head(&h, tl_bytes_str(text), &head_n, req);
    return r == TL_PARSE_BAD ? h.status : r == TL_PARSE_MORE ? -1 : 0;
}

static void a_head_is_taken_apart(void **state)
{
    (void)state;
    struct tl_http1_request req;
    assert_int_equal(parse("GET /ws/a%2Fb?since=1&x=? HTTP/1.1\r\nHost:  gw.example:80 \r\n"
                           "Cookie: a=b\r\nX-A: one , TWO\r\nx-a:three\r\nEmpty:\r\n"
                           "Upgrade: h2c\r\n\r\nrest",
                           &req),
                     0);
    assert_int_equal(req.method, TL_HTTP1_GET);
    assert_bytes(req.method_name, "GET");
    assert_bytes(req.target, "/ws/a%2Fb?since=1&x=?");
    assert_bytes(req.path, "/ws/a%2Fb");
    assert_bytes(req.query, "since=1&x=?");
    assert_bytes(req.host, "gw.example:80");
    assert_int_equal(req.minor, 1);
    assert_true(req.keep_alive && req.upgrade);
    assert_false(req.has_body || req.chunked || req.expect_100_continue);
    assert_int_equal(req.headers_n, 6);
    assert_bytes(tl_http1_header(&req, "cookie"), "a=b");
    assert_bytes(tl_http1_header(&req, "x-a"), "one , TWO");
    assert_non_null(tl_http1_header(&req, "empty").p);
    assert_int_equal(tl_http1_header(&req, "empty").n, 0);
    assert_null(tl_http1_header(&req, "missing").p);
    assert_true(tl_http1_header_has_token(&req, "X-A", "two"));
    assert_true(tl_http1_header_has_token(&req, "x-a", "three"));
    assert_false(tl_http1_header_has_token(&req, "x-a", "one , TWO"));
    assert_false(tl_http1_header_has_token(&req, "x-a", "on"));
    assert_false(tl_http1_header_has_token(&req, "empty", "x"));
}

/* Whatever stands before and behind it: lines are looked at several bytes at a time. */
static void a_header_holds_any_byte_but_controls_wherever_it_stands(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        bool is_control = (c < ' ' && c != '\t') || c == 0x7f;
        for (size_t at = 1; at < 20; at++) {
            struct tl_http1 h;
            struct tl_http1_request req;
            size_t head_n;
            char text[128];
            int n = snprintf(text, sizeof(text),
                             "%sX: aaaaaaaaaa\x80\xff\x60\x9f"
                             "bbbbbbbbbb\r\n\r\n",
                             GET);
            text[strlen(GET) + 3 + at] = (char)c;
            tl_http1_init(&h, HEAD_MAX);
            enum tl_parse r = tl_http1_head(&h, tl_bytes(text, (size_t)n), &head_n, &req);
            assert_int_equal(r, is_control ? TL_PARSE_BAD : TL_PARSE_DONE);
            assert_int_equal(h.status, is_control ? 400 : 0);
        }
    }
}

static void targets_give_their_path_and_query(void **state)
{
    (void)state;
    struct tl_http1_request req;
    assert_int_equal(parse("GET http://gw.example?q HTTP/1.1\r\n" HOST "\r\n", &req), 0);
    assert_bytes(req.path, "/");
    assert_bytes(req.query, "q");
    assert_bytes(req.host, "gw.example");
    assert_int_equal(parse("GET http://a:1/p HTTP/1.0\r\n\r\n", &req), 0);
    assert_bytes(req.path, "/p");
    assert_null(req.query.p);
    assert_bytes(req.host, "a:1");
    assert_int_equal(parse("GET /? HTTP/1.1\r\n" HOST "\r\n", &req), 0);
    assert_non_null(req.query.p);
    assert_int_equal(req.query.n, 0);
    assert_int_equal(parse("GET //x/../y HTTP/1.1\r\n" HOST "\r\n", &req), 0);
    assert_bytes(req.path, "//x/../y");
    assert_int_equal(parse("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", &req), 0);
    assert_bytes(req.path, "*");
    assert_int_equal(req.method, TL_HTTP1_OPTIONS);
    assert_int_equal(parse("CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", &req), 0);
    assert_int_equal(req.path.n, 0);
    assert_int_equal(req.method, TL_HTTP1_OTHER);
}

static void connections_stay_open_as_their_version_says(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive;
    } cases[] = {
        {GET "\r\n", true},
        {GET "Connection: close\r\n\r\n", false},
        {GET "Connection: Upgrade, CLOSE\r\n\r\n", false},
        {GET "Connection: keep-alive\r\nConnection: close\r\n\r\n", false},
        {GET "Connection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_http1_request req;
        assert_int_equal(parse(cases[i].text, &req), 0);
        assert_int_equal(req.keep_alive, cases[i].keep_alive);
    }
}

static void bodies_are_announced(void **state)
{
    (void)state;
    struct tl_http1_request req;
    assert_int_equal(parse(POST "Content-Length: 007\r\nExpect: 100-Continue\r\n\r\n", &req), 0);
    assert_true(req.has_body && req.expect_100_continue);
    assert_int_equal(req.content_length, 7);
    assert_int_equal(parse(POST "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n", &req), 0);
    assert_false(req.has_body || req.expect_100_continue);
    assert_int_equal(parse(POST "Transfer-Encoding: chunked\r\n\r\n", &req), 0);
    assert_true(req.has_body && req.chunked);
    assert_int_equal(req.content_length, 0);
    assert_int_equal(
        parse("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", &req), 0);
    assert_false(req.expect_100_continue);
}

/* A request whose head has exactly n bytes, the filling in a header. */
static void fill_head(struct tl_buf *out, size_t n)
{
    tl_buf_str(out, GET "A: ");
    while (out->n < n - 4)
        tl_buf_byte(out, 'x');
    tl_buf_str(out, "\r\n\r\n");
    assert_int_equal(out->n, n);
}

static void a_head_has_its_limit(void **state)
{
    (void)state;
    for (size_t n = 999; n <= 1001; n++)
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            struct tl_buf text = {0};
            struct tl_http1 h;
            struct tl_http1_request req;
            size_t head_n = 0, given = bytewise ? 1 : n + 4;
            enum tl_parse r;
            fill_head(&text, n);
            tl_buf_str(&text, "body");
            tl_http1_init(&h, 1000);
            while ((r = tl_http1_head(&h, tl_bytes(text.p, given), &head_n, &req)) == TL_PARSE_MORE)
                given++;
            assert_int_equal(r, n <= 1000 ? TL_PARSE_DONE : TL_PARSE_BAD);
            assert_int_equal(h.status, n <= 1000 ? 0 : 431);
            assert_int_equal(head_n, n <= 1000 ? n : 0);
            assert_true(given <= 1000 || !bytewise);
            tl_buf_deinit(&text);
        }
}

static void headers_have_their_limit(void **state)
{
    (void)state;
    for (int n = TL_HTTP1_HEADERS_MAX - 1; n <= TL_HTTP1_HEADERS_MAX + 1; n++) {
        struct tl_buf text = {0};
        struct tl_http1_request req;
        tl_buf_str(&text, GET);
        for (int i = 1; i < n; i++)
            tl_buf_printf(&text, "X-%d: %d\r\n", i, i);
        tl_buf_str(&text, "\r\n");
        tl_buf_byte(&text, 0);
        assert_int_equal(parse((const char *)text.p, &req), n <= TL_HTTP1_HEADERS_MAX ? 0 : 431);
        if (n <= TL_HTTP1_HEADERS_MAX)
            assert_int_equal(req.headers_n, n);
        tl_buf_deinit(&text);
    }
}

static void a_target_has_its_limit(void **state)
{
    (void)state;
    static const size_t sizes[] = {TL_HTTP1_TARGET_MAX - 1, TL_HTTP1_TARGET_MAX,
                                   TL_HTTP1_TARGET_MAX + 1, TL_HTTP1_TARGET_MAX + 100};
    for (size_t i = 0; i < 4; i++) {
        struct tl_buf text = {0}, last = {0};
        struct tl_http1_request req;
        int want = sizes[i] <= TL_HTTP1_TARGET_MAX ? 0 : 414;
        tl_buf_str(&text, "GET /");
        for (size_t k = 1; k < sizes[i]; k++)
            tl_buf_byte(&text, 'a');
        tl_buf_str(&text, " HTTP/1.1\r\n" HOST "\r\n");
        tl_buf_byte(&text, 0);
        assert_int_equal(feed_head((const char *)text.p, SIZE_MAX, &req, &last), want);
        assert_int_equal(feed_head((const char *)text.p, 101, &req, &last), want);
        tl_buf_deinit(&text);
        tl_buf_deinit(&last);
    }
}

static void a_small_limit_in_the_request_line_is_414(void **state)
{
    (void)state;
    struct tl_http1 h;
    struct tl_http1_request req;
    size_t head_n;
    tl_http1_init(&h, 16);
    assert_int_equal(tl_http1_head(&h, TL_LIT(GET "\r\n"), &head_n, &req), TL_PARSE_BAD);
    assert_int_equal(h.status, 431);
    tl_http1_init(&h, 15);
    assert_int_equal(tl_http1_head(&h, TL_LIT(GET "\r\n"), &head_n, &req), TL_PARSE_BAD);
    assert_int_equal(h.status, 414);
}

/* ---- bodies ---- */

#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct {
    const char *text, *body; /* body NULL: refused */
    int status;
    const char *rest;
} bodies[] = {
    {GET "\r\nGET", "", 0, "GET"},
    {POST "Content-Length: 3\r\n\r\nabcGET", "abc", 0, "GET"},
    {CHUNKED "0\r\n\r\nGET", "", 0, "GET"},
    {CHUNKED "3\r\nabc\r\n0\r\n\r\nGET", "abc", 0, "GET"},
    {CHUNKED "3\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n", "abc0123456789", 0, ""},
    {CHUNKED "a;n=v;x=\"y\"\r\n0123456789\r\n0;z\r\nT: v\r\nU: w\r\n\r\n!", "0123456789", 0, "!"},
    {CHUNKED "000000000000003\r\nabc\r\n0\r\n\r\n", "abc", 0, ""},
    {CHUNKED "2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0, ""},
    {CHUNKED "0000000000000003\r\nabc\r\n0\r\n\r\n", NULL, 413, ""},
    {CHUNKED "ffffffffffffffff1\r\n", NULL, 413, ""},
    {CHUNKED "\r\n", NULL, 400, ""},
    {CHUNKED ";\r\n", NULL, 400, ""},
    {CHUNKED "g\r\n", NULL, 400, ""},
    {CHUNKED "0x3\r\nabc\r\n", NULL, 400, ""},
    {CHUNKED "-1\r\n", NULL, 400, ""},
    {CHUNKED "+3\r\nabc\r\n", NULL, 400, ""},
    {CHUNKED " 3\r\nabc\r\n", NULL, 400, ""},
    {CHUNKED "3 \r\nabc\r\n", NULL, 400, ""},
    {CHUNKED "3\nabc\n0\n\n", NULL, 400, ""},
    {CHUNKED "3\rabc\r\n", NULL, 400, ""},
    {CHUNKED "3\r\nabcd\r\n0\r\n\r\n", NULL, 400, ""},
    {CHUNKED "3\r\nabc\n0\r\n\r\n", NULL, 400, ""},
    {CHUNKED "3\r\nabc\r0\r\n\r\n", NULL, 400, ""},
    {CHUNKED "3;a\nb\r\nabc\r\n0\r\n\r\n", NULL, 400, ""},
    {CHUNKED "3;a\x01\r\nabc\r\n0\r\n\r\n", NULL, 400, ""},
    {CHUNKED "0\r\nT: v\n\r\n", NULL, 400, ""},
    {CHUNKED "0\r\nT: v\r\n folded\r\n\r\n", NULL, 400, ""},
    {CHUNKED "0\r\n\n", NULL, 400, ""},
    {CHUNKED "0\r\n\rx", NULL, 400, ""},
};

/* Feed in pieces of step bytes: the body goes to out, what is behind it to rest. 0 or the status.
 */
static int feed_body(const char *text, size_t step, struct tl_buf *out, struct tl_buf *rest)
{
    struct tl_http1 h;
    struct tl_http1_request req;
    struct tl_bytes chunk;
    size_t at, all = strlen(text), used;
    enum tl_parse r = TL_PARSE_MORE;
    tl_http1_init(&h, HEAD_MAX);
    assert_int_equal(tl_http1_head(&h, tl_bytes(text, all), &at, &req), TL_PARSE_DONE);
    while (r == TL_PARSE_MORE) {
        size_t left = all - at, n = step < left ? step : left;
        r = tl_http1_body(&h, tl_bytes(text + at, n), &used, &chunk);
        if (r == TL_PARSE_BAD)
            return h.status;
        assert_true(r == TL_PARSE_DONE || left > 0);
        assert_true(chunk.n > 0 || r == TL_PARSE_DONE || used == n);
        tl_buf_append(out, chunk);
        at += used;
    }
    tl_buf_append(rest, tl_bytes(text + at, all - at));
    return 0;
}

static void bodies_are_decoded_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        for (size_t step = 1; step < 40; step++) {
            struct tl_buf out = {0}, rest = {0};
            int status = feed_body(bodies[i].text, step, &out, &rest);
            if (status != bodies[i].status)
                fail_msg("%s: %d", bodies[i].text, status);
            if (status == 0) {
                assert_bytes(tl_buf_bytes(&out), bodies[i].body);
                assert_bytes(tl_buf_bytes(&rest), bodies[i].rest);
            }
            tl_buf_deinit(&out);
            tl_buf_deinit(&rest);
        }
}

static void extensions_and_trailers_have_one_limit(void **state)
{
    (void)state;
    for (size_t n = TL_HTTP1_OVERHEAD_MAX - 1; n <= TL_HTTP1_OVERHEAD_MAX + 1; n++) {
        struct tl_buf text = {0}, out = {0}, rest = {0};
        tl_buf_str(&text, CHUNKED "1;");
        for (size_t i = 0; i < n - 4; i++)
            tl_buf_byte(&text, 'e');
        tl_buf_str(&text, "\r\na\r\n0\r\nT: v\r\n\r\n");
        tl_buf_byte(&text, 0);
        assert_int_equal(feed_body((const char *)text.p, 64, &out, &rest),
                         n <= TL_HTTP1_OVERHEAD_MAX ? 0 : 431);
        tl_buf_deinit(&text);
        tl_buf_deinit(&out);
        tl_buf_deinit(&rest);
    }
}

/* ---- WebSocket handshakes ---- */

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VER "Sec-WebSocket-Version: 13\r\n"
#define UPG "Upgrade: websocket\r\n"
#define CON "Connection: Upgrade\r\n"
#define END "\r\n"

static const struct {
    const char *text;
    int status;
} handshakes[] = {
    {GET UPG CON KEY VER END, 0},
    {GET CON VER KEY UPG END, 0},
    {GET "upgrade: WebSocket\r\nconnection: upgrade\r\n" KEY VER END, 0},
    {GET UPG "Connection: keep-alive, Upgrade\r\n" KEY VER END, 0},
    {GET UPG "Connection: keep-alive\r\nConnection: upgrade\r\n" KEY VER END, 0},
    {GET UPG "Connection: ,, upgrade ,\r\n" KEY VER END, 0},
    {GET "Upgrade: h2c, websocket\r\n" CON KEY VER END, 0},
    {GET "Upgrade: h2c\r\n" UPG CON KEY VER END, 0},
    {GET UPG CON KEY VER "Content-Length: 0\r\n" END, 0},
    {GET UPG CON KEY VER "Sec-WebSocket-Protocol: a, b\r\n" END, 0},
    {GET UPG CON KEY "Sec-WebSocket-Version:13 \r\n" END, 0},
    {"GET http://gw.example/ws HTTP/1.1\r\n" HOST UPG CON KEY VER END, 0},
    {GET END, 426},
    {GET CON KEY VER END, 426},
    {GET "Upgrade: websockets\r\n" CON KEY VER END, 426},
    {GET "Upgrade: web socket\r\n" CON KEY VER END, 426},
    {GET "Upgrade: websocket/13\r\n" CON KEY VER END, 426},
    {GET "Upgrade:\r\n" CON KEY VER END, 426},
    {GET "Upgrade: h2c\r\n" CON KEY VER END, 426},
    {GET UPG KEY VER END, 400},
    {GET UPG "Connection: keep-alive\r\n" KEY VER END, 400},
    {GET UPG "Connection: upgraded\r\n" KEY VER END, 400},
    {GET UPG "Connection: \"upgrade\"\r\n" KEY VER END, 400},
    {GET UPG CON KEY END, 426},
    {GET UPG CON KEY "Sec-WebSocket-Version: 8\r\n" END, 426},
    {GET UPG CON KEY "Sec-WebSocket-Version: 14\r\n" END, 426},
    {GET UPG CON KEY "Sec-WebSocket-Version: 013\r\n" END, 426},
    {GET UPG CON KEY "Sec-WebSocket-Version: 13, 8\r\n" END, 426},
    {GET UPG CON KEY "Sec-WebSocket-Version:\r\n" END, 426},
    {GET UPG CON KEY VER VER END, 426},
    {GET UPG CON VER END, 400},
    {GET UPG CON KEY KEY VER END, 400},
    {GET UPG CON VER "Sec-WebSocket-Key:\r\n" END, 400},
    {GET UPG CON VER "Sec-WebSocket-Key: short\r\n" END, 400},
    {GET UPG CON VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n" END, 400},
    {GET UPG CON VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n" END, 400},
    {GET UPG CON VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=\r\n" END, 400},
    {GET UPG CON VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!!==\r\n" END, 400},
    {GET UPG CON KEY VER "Content-Length: 3\r\n" END, 400},
    {GET UPG CON KEY VER "Transfer-Encoding: chunked\r\n" END, 400},
    {"GET / HTTP/1.0\r\n" HOST UPG CON KEY VER END, 400},
    {"POST / HTTP/1.1\r\n" HOST UPG CON KEY VER END, 405},
    {"HEAD / HTTP/1.1\r\n" HOST UPG CON KEY VER END, 405},
    {"OPTIONS / HTTP/1.1\r\n" HOST UPG CON KEY VER END, 405},
    {"CONNECT gw.example:80 HTTP/1.1\r\n" HOST UPG CON KEY VER END, 405},
    {"PUT / HTTP/1.1\r\n" HOST UPG CON KEY VER END, 405},
};

static void each_handshake_has_its_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(handshakes) / sizeof(handshakes[0]); i++) {
        struct tl_http1_request req;
        struct tl_bytes key = {0};
        const char *reason = NULL;
        assert_int_equal(parse(handshakes[i].text, &req), 0);
        int status = tl_http1_websocket_check(&req, &key, &reason);
        if (status != handshakes[i].status)
            fail_msg("%s: %d", handshakes[i].text, status);
        if (status == 0)
            assert_bytes(key, "dGhlIHNhbXBsZSBub25jZQ==");
        else
            assert_non_null(reason);
    }
}

static void bytes_behind_a_handshake_are_not_looked_at(void **state)
{
    (void)state;
    static const char text[] = GET UPG CON KEY VER END "\x81\x80\0\0\0\0\n";
    struct tl_http1 h;
    struct tl_http1_request req;
    struct tl_bytes chunk;
    size_t head_n, used;
    tl_http1_init(&h, HEAD_MAX);
    assert_int_equal(tl_http1_head(&h, tl_bytes(text, sizeof(text) - 1), &head_n, &req),
                     TL_PARSE_DONE);
    assert_int_equal(head_n, sizeof(text) - 1 - 7);
    assert_int_equal(tl_http1_body(&h, tl_bytes(text + head_n, 7), &used, &chunk), TL_PARSE_DONE);
    assert_int_equal(used, 0);
}

/* ---- responses ---- */

static void responses_are_written_whole(void **state)
{
    (void)state;
    const struct {
        struct tl_http1_response r;
        const char *text;
    } cases[] = {
        {{.status = 200,
          .content_type = "text/plain",
          .body = TL_LIT("hi"),
          .minor = 1,
          .keep_alive = true},
         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"},
        {{.status = 404, .minor = 1, .extra = TL_LIT("A: b\r\nC: d\r\n")},
         "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\nA: b\r\nC: "
         "d\r\n\r\n"},
        {{.status = 200, .body = TL_LIT("hi"), .minor = 0, .keep_alive = true},
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"},
        {{.status = 200, .body = TL_LIT("hi"), .minor = 0},
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"},
        {{.status = 200, .body = TL_LIT("hi"), .minor = 1, .keep_alive = true, .is_head = true},
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"},
        {{.status = 204, .body = TL_LIT("hi"), .minor = 1, .keep_alive = true},
         "HTTP/1.1 204 No Content\r\n\r\n"},
        {{.status = 100, .minor = 1}, "HTTP/1.1 100 Continue\r\n\r\n"},
        {{.status = 101, .extra = TL_LIT("Upgrade: websocket\r\n"), .minor = 1},
         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"},
        {{.status = 200,
          .content_type = "text/event-stream",
          .body = TL_LIT(":\n"),
          .minor = 1,
          .keep_alive = true,
          .until_close = true},
         "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n:\n"},
        {{.status = 299, .minor = 1, .keep_alive = true},
         "HTTP/1.1 299 Unknown\r\nContent-Length: 0\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_buf out = {0};
        tl_http1_respond(&out, &cases[i].r);
        assert_bytes(tl_buf_bytes(&out), cases[i].text);
        tl_buf_deinit(&out);
    }
}

static void errors_are_json(void **state)
{
    (void)state;
    struct tl_buf out = {0};
    tl_http1_error_body(&out, "no \"route\"", "try\n/ws");
    assert_bytes(tl_buf_bytes(&out), "{\"error\":\"no \\\"route\\\"\",\"hint\":\"try\\n/ws\"}\n");
    tl_buf_deinit(&out);
    tl_http1_error_body(&out, "e", NULL);
    assert_bytes(tl_buf_bytes(&out), "{\"error\":\"e\"}\n");
    tl_buf_deinit(&out);
}

static void a_refused_allocation_is_told(void **state)
{
    (void)state;
    const struct tl_http1_response r = {
        .status = 200, .content_type = "text/plain", .extra = TL_LIT("A: b\r\n"), .minor = 1};
    for (int i = 0;; i++) {
        struct tl_buf out = {0};
        tl_alloc_fail(i, 1);
        tl_http1_respond(&out, &r);
        tl_http1_error_body(&out, "a longer text, so that the buffer has to grow", "hint");
        uint64_t asked = tl_alloc_fail(0, 0);
        assert_int_equal(out.failed, asked > (uint64_t)i);
        tl_buf_deinit(&out);
        if (asked <= (uint64_t)i)
            return;
    }
}

static bool is_in(uint8_t c, const char *set)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return c != 0 && (strchr(set, c) || letter || (c >= '0' && c <= '9'));
}

static void characters_are_in_the_sets_of_the_rfcs(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) {
        uint8_t c = (uint8_t)i;
        assert_int_equal(tl_chars_is(c, TL_CHARS_TOKEN), is_in(c, "!#$%&'*+-.^_`|~"));
        assert_int_equal(tl_chars_is(c, TL_CHARS_TARGET), c > ' ' && c < 0x7f && c != '#');
        assert_int_equal(tl_chars_is(c, TL_CHARS_HOST), is_in(c, "-._~!$&'()*+,;="));
    }
    assert_true(tl_chars_are(TL_LIT("a~1"), TL_CHARS_TOKEN));
    assert_false(tl_chars_are(TL_LIT("a 1"), TL_CHARS_TOKEN));
    assert_false(tl_chars_are(TL_LIT("(a"), TL_CHARS_TOKEN));
}

/* Names are told apart by length first: 68 bytes are as good as 4 there, and no further. */
static void a_name_is_not_taken_for_one_of_another_length(void **state)
{
    (void)state;
    struct tl_http1_request req = {0};
    char name[69] = "host";
    memset(name + 4, 'x', 64);
    tl_http1_add_header(&req, tl_bytes_str(name), TL_LIT("long"));
    assert_true(tl_http1_may_have(&req, 4));
    assert_null(tl_http1_header(&req, "host").p);
    tl_http1_add_header(&req, TL_LIT("Host"), TL_LIT("short"));
    assert_true(tl_bytes_eq(tl_http1_header(&req, "host"), TL_LIT("short")));
    assert_true(tl_bytes_eq(tl_http1_find(&req, tl_bytes_str(name)), TL_LIT("long")));
    assert_false(tl_http1_may_have(&req, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_has_its_status_however_it_is_cut),
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(a_header_holds_any_byte_but_controls_wherever_it_stands),
        cmocka_unit_test(targets_give_their_path_and_query),
        cmocka_unit_test(connections_stay_open_as_their_version_says),
        cmocka_unit_test(bodies_are_announced),
        cmocka_unit_test(a_head_has_its_limit),
        cmocka_unit_test(headers_have_their_limit),
        cmocka_unit_test(a_target_has_its_limit),
        cmocka_unit_test(a_small_limit_in_the_request_line_is_414),
        cmocka_unit_test(bodies_are_decoded_however_they_are_cut),
        cmocka_unit_test(extensions_and_trailers_have_one_limit),
        cmocka_unit_test(each_handshake_has_its_status),
        cmocka_unit_test(bytes_behind_a_handshake_are_not_looked_at),
        cmocka_unit_test(responses_are_written_whole),
        cmocka_unit_test(errors_are_json),
        cmocka_unit_test(a_refused_allocation_is_told),
        cmocka_unit_test(characters_are_in_the_sets_of_the_rfcs),
        cmocka_unit_test(a_name_is_not_taken_for_one_of_another_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
