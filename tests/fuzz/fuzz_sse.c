/*
 * Input: a byte each for the lengths of an id and a name, these, and then a payload.
 *   1. Printed and read again, whole and cut anywhere, all three are as they were; no CR is on the
 *      wire, and nothing but UTF-8.
 *   2. The whole input as a stream: the same events and the same end, however it is cut.
 *   3. Base64 that decodes prints the same text again.
 */
#include "proto/sse.h"

#include "base/alloc.h"
#include "base/base64.h"
#include "base/utf8.h"

#include <assert.h>

#define STREAM_MAX 200u /* small, so that the limit is met */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { WHOLE, BYTE_BY_BYTE, RANDOM_CUTS, MODES };

static uint32_t seed;

static size_t random_below(size_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (size_t)(((uint64_t)seed * n) >> 32);
}

static enum tl_parse feed(struct tl_sse_parser *p, struct tl_bytes in, int mode)
{
    enum tl_parse r = TL_PARSE_MORE;

    while (in.n > 0 && r == TL_PARSE_MORE) {
        size_t n = mode == WHOLE ? in.n : mode == BYTE_BY_BYTE ? 1 : random_below(20);
        n = n > in.n ? in.n : n;
        r = tl_sse_parse(p, tl_bytes(in.p, n));
        in = tl_bytes_skip(in, n);
    }
    return r;
}

struct decoded {
    struct tl_buf id, name, payload;
    int n;
};

static void on_decoded(const struct tl_sse_received *ev, void *arg)
{
    struct decoded *d = arg;
    int r = tl_sse_decode(ev, &d->name, &d->payload);

    assert(r == 0);
    d->n++;
    tl_buf_append(&d->id, ev->id);
}

static void read_again(const struct tl_sse_event *ev, struct tl_bytes wire, int mode)
{
    struct decoded d = {.n = 0};
    struct tl_sse_parser p;
    size_t id_n = 0;

    tl_sse_parser_init(&p, wire.n, on_decoded, &d);
    assert(feed(&p, wire, mode) == TL_PARSE_MORE && d.n == 1);
    assert(d.id.n == 0 || tl_sse_name_decode(tl_buf_bytes(&d.id), d.id.p, &id_n));
    assert(tl_bytes_eq(tl_bytes(d.id.p, id_n), ev->id));
    assert(tl_bytes_eq(tl_buf_bytes(&d.name), ev->event));
    assert(tl_bytes_eq(tl_buf_bytes(&d.payload), ev->payload));
    tl_sse_parser_deinit(&p);
    tl_buf_deinit(&d.id);
    tl_buf_deinit(&d.name);
    tl_buf_deinit(&d.payload);
}

static void round_trip(struct tl_bytes in)
{
    size_t id_n = in.p[0] % 32, name_n = in.p[1] % 32;

    in = tl_bytes_skip(in, 2);
    if (in.n < id_n + name_n)
        return;
    struct tl_sse_event ev = {.id = tl_bytes(in.p, id_n),
                              .event = tl_bytes(in.p + id_n, name_n),
                              .payload = tl_bytes_skip(in, id_n + name_n)};
    ev.payload_is_text = tl_utf8_valid(ev.payload);
    size_t n = tl_sse_event_size(&ev);
    assert(n <= 7 * ev.payload.n + 3 * (id_n + name_n) + 64);
    uint8_t *wire = tl_alloc(n);
    if (!wire)
        return;
    assert(tl_sse_event_write(&ev, wire) == n);
    assert(!memchr(wire, '\r', n) && tl_utf8_valid(tl_bytes(wire, n)));
    for (int mode = 0; mode < MODES; mode++)
        read_again(&ev, tl_bytes(wire, n), mode);
    tl_free(wire);
}

static void on_any(const struct tl_sse_received *ev, void *arg)
{
    struct tl_buf *text = arg, name = {0}, payload = {0};

    assert(!ev->data.p || !memchr(ev->data.p, '\r', ev->data.n));
    assert(!ev->id.p || !memchr(ev->id.p, 0, ev->id.n));
    tl_buf_printf(text, "%zu %zu %zu ", ev->id.n, ev->event.n, ev->data.n);
    tl_buf_append(text, ev->id);
    tl_buf_append(text, ev->event);
    tl_buf_append(text, ev->data);
    tl_buf_printf(text, "%d", tl_sse_decode(ev, &name, &payload));
    tl_buf_deinit(&name);
    tl_buf_deinit(&payload);
}

static void cuts_change_nothing(struct tl_bytes in)
{
    struct tl_buf text[MODES] = {{.n = 0}};

    for (int mode = 0; mode < MODES; mode++) {
        struct tl_sse_parser p;
        tl_sse_parser_init(&p, STREAM_MAX, on_any, &text[mode]);
        enum tl_parse r = feed(&p, in, mode);
        assert((r == TL_PARSE_BAD) == (p.reason != NULL));
        tl_buf_printf(&text[mode], "%d %u %zu", r, (unsigned)p.retry_ms, p.id.n);
        assert(tl_bytes_eq(tl_buf_bytes(&text[0]), tl_buf_bytes(&text[mode])));
        tl_sse_parser_deinit(&p);
    }
    for (int mode = 0; mode < MODES; mode++)
        tl_buf_deinit(&text[mode]);
}

static void base64_is_canonical(struct tl_bytes in)
{
    uint8_t plain[96], text[128];
    size_t n;

    if (in.n > sizeof(text) || !tl_base64_decode(in, plain, &n))
        return;
    assert(tl_base64_size(n) == in.n);
    tl_base64_encode(tl_bytes(plain, n), text);
    assert(tl_bytes_eq(tl_bytes(text, in.n), in));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct tl_bytes in = tl_bytes(bytes, n);

    if (n < 2 || n > 65536)
        return 0;
    seed = bytes[0] * 257u + (uint32_t)n;
    round_trip(in);
    cuts_change_nothing(in);
    base64_is_canonical(in);
    return 0;
}
