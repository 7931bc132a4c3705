/*
 * Requests of one connection, as they come. Whatever the cuts, the same requests come out; a head
 * that was taken and is printed again is taken again, and means the same.
 */
#include "proto/http1.h"

#include <assert.h>
#include <stdlib.h>

#define HEAD_MAX 16384

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n);

static size_t step_of(size_t step, size_t left)
{
    return step < left ? step : left;
}

/* Both are slices of, or into, equal bytes. */
static void assert_same(const struct tl_http1_request *a, const struct tl_http1_request *b)
{
    assert(a->method == b->method && a->minor == b->minor && a->keep_alive == b->keep_alive);
    assert(a->upgrade == b->upgrade && a->has_body == b->has_body && a->chunked == b->chunked);
    assert(a->expect_100_continue == b->expect_100_continue);
    assert(a->content_length == b->content_length && a->headers_n == b->headers_n);
    assert(tl_bytes_eq(a->method_name, b->method_name) && tl_bytes_eq(a->target, b->target));
    assert(tl_bytes_eq(a->path, b->path) && tl_bytes_eq(a->query, b->query));
    assert(tl_bytes_eq(a->host, b->host) && !a->host.p == !b->host.p);
    assert(!a->query.p == !b->query.p);
    for (size_t i = 0; i < a->headers_n; i++) {
        assert(tl_bytes_eq(a->headers[i].name, b->headers[i].name));
        assert(tl_bytes_eq(a->headers[i].value, b->headers[i].value));
    }
}

/* The head, fed in steps. */
static enum tl_parse read_head(struct tl_http1 *h, struct tl_bytes bytes, size_t step,
                               size_t *ret_n, struct tl_http1_request *ret)
{
    enum tl_parse r = TL_PARSE_MORE;
    tl_http1_init(h, HEAD_MAX);
    for (size_t n = 0; r == TL_PARSE_MORE && n < bytes.n;) {
        n += step_of(step, bytes.n - n);
        r = tl_http1_head(h, tl_bytes(bytes.p, n), ret_n, ret);
    }
    return r;
}

static enum tl_parse read_body(struct tl_http1 *h, struct tl_bytes bytes, size_t step,
                               size_t *ret_used, struct tl_buf *body)
{
    enum tl_parse r = TL_PARSE_MORE;
    size_t at = 0;
    while (r == TL_PARSE_MORE) {
        size_t n = step_of(step, bytes.n - at), used = 0;
        struct tl_bytes chunk = {0};
        r = tl_http1_body(h, tl_bytes(bytes.p + at, n), &used, &chunk);
        if (r == TL_PARSE_BAD)
            break;
        assert(used <= n && chunk.n <= used);
        tl_buf_append(body, chunk);
        at += used;
        if (n == 0)
            break;
        assert(r == TL_PARSE_DONE || chunk.n > 0 || used == n);
    }
    *ret_used = at;
    return r;
}

static void print_again(const struct tl_http1_request *req)
{
    struct tl_buf text = {0};
    struct tl_http1 h;
    struct tl_http1_request again;
    size_t n = 0;
    tl_buf_append(&text, req->method_name);
    tl_buf_byte(&text, ' ');
    tl_buf_append(&text, req->target);
    tl_buf_printf(&text, " HTTP/1.%d\r\n", req->minor);
    for (size_t i = 0; i < req->headers_n; i++) {
        tl_buf_append(&text, req->headers[i].name);
        tl_buf_byte(&text, ':');
        tl_buf_append(&text, req->headers[i].value);
        tl_buf_str(&text, "\r\n");
    }
    tl_buf_str(&text, "\r\n");
    assert(read_head(&h, tl_buf_bytes(&text), SIZE_MAX, &n, &again) == TL_PARSE_DONE);
    assert(n == text.n);
    assert_same(req, &again);
    tl_buf_deinit(&text);
}

static void ask(const struct tl_http1_request *req)
{
    struct tl_bytes key = {0};
    const char *reason = NULL;
    int status = tl_http1_websocket_check(req, &key, &reason);
    assert(status == 0 ? key.n == 24 : reason != NULL);
    for (size_t i = 0; i < req->headers_n; i++)
        assert(memchr(req->headers[i].value.p, '\n', req->headers[i].value.n) == NULL);
}

/* One request, whole and in steps. Returns its bytes, or 0 at the end of what can be read. */
static size_t one_request(struct tl_bytes bytes, size_t step)
{
    struct tl_http1 a, b;
    struct tl_http1_request whole, cut;
    struct tl_buf body_a = {0}, body_b = {0};
    size_t head_a = 0, head_b = 0, used_a = 0, used_b = 0;
    enum tl_parse r = read_head(&a, bytes, SIZE_MAX, &head_a, &whole);
    assert(r == read_head(&b, bytes, step, &head_b, &cut));
    assert(a.status == b.status && a.reason == b.reason && head_a == head_b);
    assert((r == TL_PARSE_BAD) == (a.status != 0));
    if (r != TL_PARSE_DONE)
        return 0;
    assert_same(&whole, &cut);
    print_again(&whole);
    ask(&whole);
    struct tl_bytes rest = tl_bytes_skip(bytes, head_a);
    r = read_body(&a, rest, SIZE_MAX, &used_a, &body_a);
    assert(r == read_body(&b, rest, step, &used_b, &body_b));
    assert(a.status == b.status && tl_bytes_eq(tl_buf_bytes(&body_a), tl_buf_bytes(&body_b)));
    assert(r == TL_PARSE_BAD || used_a == used_b);
    tl_buf_deinit(&body_a);
    tl_buf_deinit(&body_b);
    return r == TL_PARSE_DONE ? head_a + used_a : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    struct tl_bytes bytes = tl_bytes(input, n);
    size_t used = 1;
    while (bytes.n > 0 && used > 0) {
        used = one_request(bytes, 1);
        assert(used == one_request(bytes, 2 + n % 31));
        bytes = tl_bytes_skip(bytes, used);
    }
    return 0;
}
