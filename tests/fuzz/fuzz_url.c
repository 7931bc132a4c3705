/*
 * One text, read as everything that url.h and origin.h read: escapes, a query, an authority, a
 * broker's URL, an origin. What was encoded decodes to itself, what was printed reads the same, and
 * a well-formed host is the same origin as itself.
 */
#include "proto/origin.h"
#include "proto/url.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n);

static void encode_and_back(struct tl_bytes text, bool plus_is_space)
{
    struct tl_buf encoded = {0};
    uint8_t *out = malloc(text.n + 1);
    size_t n = 0;
    assert(out);
    tl_url_encode(&encoded, text);
    int r = tl_url_decode(tl_buf_bytes(&encoded), plus_is_space, out, text.n, &n);
    assert(r == 0 && tl_bytes_eq(tl_bytes(out, n), text));
    r = tl_url_decode(text, plus_is_space, out, text.n, &n);
    assert(r <= 0 && (r < 0 || n <= text.n));
    tl_buf_deinit(&encoded);
    free(out);
}

static void walk_query(struct tl_bytes query)
{
    struct tl_bytes name, value, rest = query;
    size_t total = 0, n;
    uint8_t out[16];
    while (tl_url_query_next(&rest, &name, &value))
        total += name.n + value.n;
    assert(total <= query.n);
    assert(tl_url_query(query, "ch", out, sizeof(out), &n) <= 1);
}

static void compare_origin(struct tl_bytes text)
{
    struct tl_buf origin = {0};
    struct tl_bytes host = {0};
    uint16_t port = 0;
    bool good = tl_url_authority(text, &host, &port);
    tl_buf_str(&origin, "https://");
    tl_buf_append(&origin, text);
    bool same = tl_origin_allowed(tl_buf_bytes(&origin), text, NULL, 0, true);
    assert(same == (good && text.p[text.n - 1] != ':'));
    assert(!tl_origin_allowed(tl_buf_bytes(&origin), text, NULL, 0, false));
    assert(!tl_origin_allowed(tl_buf_bytes(&origin), TL_LIT("gw.example:8000"), NULL, 0, true) ||
           tl_bytes_ieq(host, TL_LIT("gw.example")));
    tl_buf_deinit(&origin);
}

static void read_broker(struct tl_bytes text)
{
    struct tl_url url, again;
    const char *error = NULL;
    char shown[1024];
    if (tl_url_parse(text, &url, &error) < 0) {
        assert(error);
        return;
    }
    tl_url_text(&url, shown, sizeof(shown));
    if (strpbrk(url.path, "%?"))
        return; /* shown decoded, for people */
    assert(tl_url_parse(tl_bytes_str(shown), &again, &error) == 0);
    assert(again.scheme == url.scheme && again.port == url.port && again.db == url.db);
    assert(strcmp(again.host, url.host) == 0 && strcmp(again.path, url.path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    struct tl_bytes text = tl_bytes(input, n);
    encode_and_back(text, false);
    encode_and_back(text, true);
    walk_query(text);
    compare_origin(text);
    read_broker(text);
    return 0;
}
