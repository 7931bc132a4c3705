/*
 * Input: a byte of options, a byte for the message limit, then the stream.
 *   1. The stream says the same whole, byte by byte and cut anywhere; limits hold meanwhile.
 *   2. The stream as a payload, printed as a message in fragments with pings between, is read again
 *      as it was, at either end.
 */
#include "base/utf8.h"
#include "proto/ws.h"

#include <assert.h>

#define OPT_MASK  0x01u /* the peer is a client */
#define OPT_TEXT  0x02u /* 2.: try a text message */
#define INPUT_MAX 65536u
#define TEXT_MAX  (4 * INPUT_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { WHOLE, BYTE_BY_BYTE, RANDOM_CUTS, MODES };

struct text {
    uint8_t p[TEXT_MAX];
    size_t n;
};

/* What a stream said, so that two readings can be compared. */
struct said {
    struct text messages; /* opcode and bytes of each, without a mark of the chunks */
    struct text controls; /* kind, code, bytes, and how many messages had ended */
    size_t ended;         /* messages that ended */
    size_t ended_at;      /* where the last of them ends in `messages` */
    bool open;
    uint16_t close_code;
};

static struct said said[MODES];
static uint32_t seed;

static size_t random_below(size_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (size_t)(((uint64_t)seed * n) >> 32);
}

static void put(struct text *t, const void *p, size_t n)
{
    assert(t->n + n <= sizeof(t->p));
    if (n > 0)
        memcpy(t->p + t->n, p, n);
    t->n += n;
}

static void on_control(struct said *s, const struct tl_ws_event *ev)
{
    const uint8_t head[] = {(uint8_t)ev->kind, (uint8_t)(ev->close_code >> 8),
                            (uint8_t)ev->close_code, (uint8_t)s->ended};

    assert(ev->bytes.n <= TL_WS_CONTROL_MAX);
    put(&s->controls, head, sizeof(head));
    put(&s->controls, ev->bytes.p, ev->bytes.n);
}

static void on_event(struct said *s, const struct tl_ws_event *ev, uint64_t max)
{
    const uint8_t head = (uint8_t)ev->opcode;

    if (ev->kind != TL_WS_ON_DATA) {
        on_control(s, ev);
        return;
    }
    assert(ev->opcode == TL_WS_TEXT || ev->opcode == TL_WS_BINARY);
    assert(ev->message_start == !s->open && ev->bytes.n <= max);
    if (ev->message_start)
        put(&s->messages, &head, 1);
    put(&s->messages, ev->bytes.p, ev->bytes.n);
    s->open = !ev->message_end;
    if (s->open)
        return;
    struct tl_bytes whole = tl_bytes(s->messages.p + s->ended_at, s->messages.n - s->ended_at);
    assert(whole.n - 1 <= max && whole.p[0] == ev->opcode);
    assert(ev->opcode != TL_WS_TEXT || tl_utf8_valid(tl_bytes_skip(whole, 1)));
    s->ended++;
    s->ended_at = s->messages.n;
}

static void read_stream(struct said *s, struct tl_bytes in, int mode, bool masked, uint64_t max)
{
    static uint8_t kept[INPUT_MAX + 1024];
    struct tl_ws_parser p;
    struct tl_ws_event ev;
    enum tl_parse r = TL_PARSE_MORE;
    size_t kept_n = 0, used;

    s->messages.n = s->controls.n = s->ended = s->ended_at = 0;
    s->open = false;
    tl_ws_parser_init(&p, masked, max);
    while (in.n > 0 && r != TL_PARSE_BAD) {
        size_t n = mode == WHOLE ? in.n : mode == BYTE_BY_BYTE ? 1 : 1 + random_below(30);
        n = n > in.n ? in.n : n;
        assert(kept_n + n <= sizeof(kept));
        memcpy(kept + kept_n, in.p, n);
        kept_n += n;
        in = tl_bytes_skip(in, n);
        size_t at = 0;
        while ((r = tl_ws_parse(&p, kept + at, kept_n - at, &used, &ev)) == TL_PARSE_DONE) {
            assert(used > 0 && used <= kept_n - at);
            at += used;
            on_event(s, &ev, max);
            assert(p.message_bytes <= max);
        }
        if (r == TL_PARSE_BAD)
            break;
        at += used;
        kept_n -= at;
        assert(kept_n <= TL_WS_KEPT_MAX);
        memmove(kept, kept + at, kept_n);
    }
    assert((p.close_code != 0) == (r == TL_PARSE_BAD) && (p.reason != NULL) == (p.close_code != 0));
    assert(p.close_code == 0 || tl_ws_close_is_valid(p.close_code));
    s->close_code = p.close_code;
}

/*
 * A refused stream may have given out what came before the bad byte or only what came before its
 * chunk; all else is the same.
 */
static void compare(const struct said *a, const struct said *b)
{
    assert(a->close_code == b->close_code && a->ended == b->ended && a->ended_at == b->ended_at);
    assert(memcmp(a->messages.p, b->messages.p, a->ended_at) == 0);
    assert(a->controls.n == b->controls.n);
    assert(memcmp(a->controls.p, b->controls.p, a->controls.n) == 0);
    if (a->close_code == 0)
        assert(a->messages.n == b->messages.n && a->open == b->open &&
               memcmp(a->messages.p, b->messages.p, a->messages.n) == 0);
}

static size_t print_frame(uint8_t *out, unsigned first, struct tl_bytes payload, bool masked)
{
    uint8_t key[4] = {(uint8_t)random_below(256), (uint8_t)random_below(256), 0,
                      (uint8_t)random_below(256)};
    size_t n = masked ? tl_ws_masked_header(out, TL_WS_BINARY, payload.n, key)
                      : tl_ws_header(out, TL_WS_BINARY, payload.n);

    out[0] = (uint8_t)first;
    if (payload.n > 0)
        memcpy(out + n, payload.p, payload.n);
    if (masked)
        tl_ws_mask(out + n, payload.n, key, 0);
    return n + payload.n;
}

/* Random fragments with some pings between; every place in the payload may be a border. */
static size_t print_message(uint8_t *out, size_t out_n, enum tl_ws_opcode op,
                            struct tl_bytes payload, bool masked)
{
    size_t n = 0;
    unsigned first = op;

    for (bool fin = false; !fin; first = TL_WS_CONTINUATION) {
        size_t left = out_n - n;
        size_t take = random_below(payload.n + 1);
        fin = left < payload.n + 1000 || random_below(8) == 0;
        take = fin ? payload.n : take;
        n += print_frame(out + n, first | (fin ? 0x80u : 0), tl_bytes(payload.p, take), masked);
        payload = tl_bytes_skip(payload, take);
        if (!fin && random_below(4) == 0)
            n += print_frame(out + n, 0x80u | TL_WS_PING, TL_LIT("ping"), masked);
    }
    return n;
}

static void expect_message(const struct said *s, enum tl_ws_opcode op, struct tl_bytes payload)
{
    assert(s->close_code == 0 && s->ended == 1 && !s->open && s->messages.n == payload.n + 1);
    assert(s->messages.p[0] == op);
    assert(payload.n == 0 || memcmp(s->messages.p + 1, payload.p, payload.n) == 0);
    assert(s->controls.n % (4 + sizeof("ping") - 1) == 0);
}

static void round_trip(struct tl_bytes payload, bool masked, bool text)
{
    static uint8_t wire[INPUT_MAX];
    enum tl_ws_opcode op = text && tl_utf8_valid(payload) ? TL_WS_TEXT : TL_WS_BINARY;

    if (payload.n > INPUT_MAX / 4)
        return;
    size_t n = print_message(wire, sizeof(wire), op, payload, masked);
    for (int mode = 0; mode < MODES; mode++) {
        read_stream(&said[mode], tl_bytes(wire, n), mode, masked, payload.n);
        expect_message(&said[mode], op, payload);
        compare(&said[0], &said[mode]);
    }
}

static void close_reason(struct tl_bytes reason)
{
    uint8_t out[TL_WS_CONTROL_MAX];
    size_t n = tl_ws_close_payload(out, TL_WS_CLOSE_GAP, reason);

    assert(n >= 2 && n <= sizeof(out) && n - 2 <= reason.n);
    assert(tl_utf8_valid(tl_bytes(out + 2, n - 2)));
    assert(n == 2 || memcmp(out + 2, reason.p, n - 2) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (n < 2 || n > INPUT_MAX)
        return 0;
    bool masked = (bytes[0] & OPT_MASK) != 0, text = (bytes[0] & OPT_TEXT) != 0;
    uint64_t max = bytes[1] < 128 ? bytes[1] : bytes[1] < 255 ? 1u << 16 : UINT64_MAX;
    struct tl_bytes in = tl_bytes(bytes + 2, n - 2);

    seed = bytes[0] * 257u + (uint32_t)n;
    for (int mode = 0; mode < MODES; mode++) {
        read_stream(&said[mode], in, mode, masked, max);
        compare(&said[0], &said[mode]);
    }
    round_trip(in, masked, text);
    close_reason(in);
    return 0;
}
