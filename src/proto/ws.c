#include "proto/ws.h"

#include "base/base64.h"
#include "base/utf8.h"

#include <assert.h>
#include <errno.h>
#include <sha1.h>

#define FIN_BIT     0x80u
#define RSV_BITS    0x70u
#define OPCODE_BITS 0x0Fu
#define MASK_BIT    0x80u
#define LEN_BITS    0x7Fu
#define LEN_16      126u
#define LEN_64      127u

#define KEY_N    24 /* base64 of 16 bytes */
#define ACCEPT_N 28 /* base64 of a SHA-1 */

_Static_assert(sizeof(struct tl_ws_parser) <= 48, "each idle connection has one");

struct header {
    uint64_t payload_n;
    size_t n; /* bytes of the header itself */
    enum tl_ws_opcode opcode;
    bool fin;
};

static bool is_control(unsigned opcode)
{
    return (opcode & 8) != 0;
}

static uint64_t read_be(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static void write_be(uint8_t *p, size_t n, uint64_t v)
{
    for (; n > 0; v >>= 8)
        p[--n] = (uint8_t)v;
}

static enum tl_parse bad(struct tl_ws_parser *p, enum tl_ws_close code, const char *reason)
{
    p->close_code = (uint16_t)code;
    p->reason = reason;
    return TL_PARSE_BAD;
}

void tl_ws_parser_init(struct tl_ws_parser *p, bool expect_mask, uint64_t message_bytes_max)
{
    *p = (struct tl_ws_parser){.message_bytes_max = message_bytes_max, .is_masked = expect_mask};
}

static enum tl_parse check_first_byte(struct tl_ws_parser *p, uint8_t b)
{
    unsigned opcode = b & OPCODE_BITS;

    if ((b & RSV_BITS) != 0)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "reserved bits are set");
    if ((opcode > TL_WS_BINARY && opcode < TL_WS_CLOSE) || opcode > TL_WS_PONG)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "unknown opcode");
    if (is_control(opcode))
        return (b & FIN_BIT) != 0 ? TL_PARSE_DONE
                                  : bad(p, TL_WS_CLOSE_PROTOCOL, "fragmented control frame");
    if (opcode == TL_WS_CONTINUATION && p->opcode == 0)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "continuation without a message");
    if (opcode != TL_WS_CONTINUATION && p->opcode != 0)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "new message within a message");
    return TL_PARSE_DONE;
}

static enum tl_parse check_second_byte(struct tl_ws_parser *p, uint8_t b, bool control)
{
    bool masked = (b & MASK_BIT) != 0;

    if (masked != (p->is_masked != 0))
        return bad(p, TL_WS_CLOSE_PROTOCOL, masked ? "masked frame" : "frame is not masked");
    if (control && (b & LEN_BITS) > TL_WS_CONTROL_MAX)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "control frame is too long");
    return TL_PARSE_DONE;
}

/* The length field: ext_n bytes behind the first two, or none. */
static enum tl_parse check_length(struct tl_ws_parser *p, const struct header *h, size_t ext_n)
{
    if (h->payload_n >> 63 != 0)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "length over 63 bits");
    if (ext_n != 0 && tl_ws_header_size(h->payload_n) != 2 + ext_n)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "length is not in its shortest form");
    /* message_bytes <= message_bytes_max, so nothing can overflow. */
    if (!is_control(h->opcode) && h->payload_n > p->message_bytes_max - p->message_bytes)
        return bad(p, TL_WS_CLOSE_TOO_BIG, "message is too big");
    return TL_PARSE_DONE;
}

/* Each byte is checked as soon as it is there; the mask key counts as part of the header. */
static enum tl_parse read_header(struct tl_ws_parser *p, const uint8_t *bytes, size_t n,
                                 struct header *ret_h)
{
    if (n < 1)
        return TL_PARSE_MORE;
    struct header h = {.opcode = bytes[0] & OPCODE_BITS, .fin = (bytes[0] & FIN_BIT) != 0};
    if (check_first_byte(p, bytes[0]) != TL_PARSE_DONE)
        return TL_PARSE_BAD;
    if (n < 2)
        return TL_PARSE_MORE;
    if (check_second_byte(p, bytes[1], is_control(h.opcode)) != TL_PARSE_DONE)
        return TL_PARSE_BAD;
    unsigned len = bytes[1] & LEN_BITS;
    size_t ext_n = len == LEN_64 ? 8 : len == LEN_16 ? 2 : 0;
    if (n < 2 + ext_n)
        return TL_PARSE_MORE;
    h.payload_n = ext_n != 0 ? read_be(bytes + 2, ext_n) : len;
    if (check_length(p, &h, ext_n) != TL_PARSE_DONE)
        return TL_PARSE_BAD;
    h.n = 2 + ext_n + (p->is_masked ? 4 : 0);
    if (n < h.n)
        return TL_PARSE_MORE;
    *ret_h = h;
    return TL_PARSE_DONE;
}

static enum tl_parse take_close(struct tl_ws_parser *p, struct tl_ws_event *ev)
{
    struct tl_bytes payload = ev->bytes;

    ev->kind = TL_WS_ON_CLOSE;
    ev->close_code = TL_WS_CLOSE_NONE;
    if (payload.n == 1)
        return bad(p, TL_WS_CLOSE_PROTOCOL, "close code is cut short");
    if (payload.n >= 2) {
        ev->close_code = (uint16_t)read_be(payload.p, 2);
        ev->bytes = tl_bytes_skip(payload, 2);
        if (!tl_ws_close_is_valid(ev->close_code))
            return bad(p, TL_WS_CLOSE_PROTOCOL, "bad close code");
        if (!tl_utf8_valid(ev->bytes))
            return bad(p, TL_WS_CLOSE_NOT_UTF8, "close reason is not UTF-8");
    }
    p->is_closed = 1;
    return TL_PARSE_DONE;
}

/* Control frames are given whole, so the parser needs no memory for half of one. */
static enum tl_parse take_control(struct tl_ws_parser *p, const struct header *h, uint8_t *bytes,
                                  size_t n, size_t *ret_consumed, struct tl_ws_event *ret_event)
{
    size_t payload_n = (size_t)h->payload_n;

    if (n - h->n < payload_n)
        return TL_PARSE_MORE;
    uint8_t *payload = bytes + h->n;
    if (p->is_masked)
        tl_ws_mask(payload, payload_n, payload - 4, 0);
    struct tl_ws_event ev = {
        .kind = h->opcode == TL_WS_PING ? TL_WS_ON_PING : TL_WS_ON_PONG,
        .opcode = h->opcode,
        .bytes = tl_bytes(payload, payload_n),
    };
    if (h->opcode == TL_WS_CLOSE && take_close(p, &ev) != TL_PARSE_DONE)
        return TL_PARSE_BAD;
    *ret_consumed = h->n + payload_n;
    *ret_event = ev;
    return TL_PARSE_DONE;
}

static enum tl_parse open_frame(struct tl_ws_parser *p, const struct header *h,
                                const uint8_t *bytes)
{
    /* Empty fragments add nothing to message_bytes, so they have a limit of their own. */
    if (h->payload_n == 0 && !h->fin && ++p->empty_fragments_n > TL_WS_EMPTY_FRAGMENTS_MAX)
        return bad(p, TL_WS_CLOSE_POLICY, "too many empty fragments");
    if (h->opcode != TL_WS_CONTINUATION)
        p->opcode = (uint8_t)h->opcode;
    p->message_bytes += h->payload_n;
    p->frame_left = h->payload_n;
    p->is_final = h->fin;
    p->key_at = 0;
    if (p->is_masked)
        memcpy(p->key, bytes + h->n - 4, 4);
    return TL_PARSE_DONE;
}

static void close_message(struct tl_ws_parser *p)
{
    p->message_bytes = 0;
    p->empty_fragments_n = 0;
    p->opcode = 0;
    p->is_given = 0;
}

/* Give out the next n bytes (all of an empty frame, when 0) of the open frame. */
static enum tl_parse take_chunk(struct tl_ws_parser *p, uint8_t *bytes, size_t n,
                                struct tl_ws_event *ret_event)
{
    if (p->is_masked)
        tl_ws_mask(bytes, n, p->key, p->key_at);
    p->key_at = (p->key_at + n) & 3;
    p->frame_left -= n;
    bool end = p->frame_left == 0 && p->is_final;
    if (p->opcode == TL_WS_TEXT) {
        if (!tl_utf8_feed(&p->utf8, tl_bytes(bytes, n)) || (end && !tl_utf8_complete(p->utf8)))
            return bad(p, TL_WS_CLOSE_NOT_UTF8, "text is not UTF-8");
    }
    *ret_event = (struct tl_ws_event){
        .kind = TL_WS_ON_DATA,
        .opcode = (enum tl_ws_opcode)p->opcode,
        .message_start = !p->is_given,
        .message_end = end,
        .bytes = tl_bytes(bytes, n),
    };
    p->is_given = 1;
    if (end)
        close_message(p);
    return TL_PARSE_DONE;
}

enum tl_parse tl_ws_parse(struct tl_ws_parser *p, uint8_t *bytes, size_t n, size_t *ret_consumed,
                          struct tl_ws_event *ret_event)
{
    struct header h = {.n = 0};

    *ret_consumed = 0;
    if (p->close_code != 0)
        return TL_PARSE_BAD;
    if (p->is_closed) {
        *ret_consumed = n;
        return TL_PARSE_MORE;
    }
    if (p->frame_left == 0) {
        enum tl_parse r = read_header(p, bytes, n, &h);
        if (r != TL_PARSE_DONE)
            return r;
        if (is_control(h.opcode))
            return take_control(p, &h, bytes, n, ret_consumed, ret_event);
        if (open_frame(p, &h, bytes) != TL_PARSE_DONE)
            return TL_PARSE_BAD;
    }
    size_t chunk_n = n - h.n < p->frame_left ? n - h.n : (size_t)p->frame_left;
    *ret_consumed = h.n + chunk_n;
    if (chunk_n == 0 && p->frame_left > 0)
        return TL_PARSE_MORE;
    return take_chunk(p, bytes + h.n, chunk_n, ret_event);
}

size_t tl_ws_header(uint8_t out[TL_WS_HEADER_MAX], enum tl_ws_opcode op, uint64_t payload_n)
{
    size_t n = tl_ws_header_size(payload_n);

    assert(payload_n >> 63 == 0 && (!is_control(op) || payload_n <= TL_WS_CONTROL_MAX));
    out[0] = (uint8_t)(FIN_BIT | op);
    out[1] = (uint8_t)(n == 2 ? payload_n : n == 4 ? LEN_16 : LEN_64);
    write_be(out + 2, n - 2, payload_n);
    return n;
}

size_t tl_ws_masked_header(uint8_t out[TL_WS_MASKED_HEADER_MAX], enum tl_ws_opcode op,
                           uint64_t payload_n, const uint8_t key[4])
{
    size_t n = tl_ws_header(out, op, payload_n);

    out[1] |= MASK_BIT;
    memcpy(out + n, key, 4);
    return n + 4;
}

void tl_ws_mask(uint8_t *bytes, size_t n, const uint8_t key[4], size_t offset)
{
    uint8_t turned[8]; /* the key twice, beginning at the offset */
    uint64_t wide, w;
    size_t i = 0;

    for (size_t k = 0; k < sizeof(turned); k++)
        turned[k] = key[(offset + k) & 3];
    memcpy(&wide, turned, sizeof(wide));
    for (; n - i >= sizeof(w); i += sizeof(w)) {
        memcpy(&w, bytes + i, sizeof(w));
        w ^= wide;
        memcpy(bytes + i, &w, sizeof(w));
    }
    for (; i < n; i++)
        bytes[i] ^= turned[i & 7];
}

bool tl_ws_close_is_valid(uint16_t code)
{
    if (code < 3000)
        return (code >= TL_WS_CLOSE_NORMAL && code <= TL_WS_CLOSE_UNSUPPORTED) ||
               (code >= TL_WS_CLOSE_NOT_UTF8 && code <= TL_WS_CLOSE_BAD_GATEWAY);
    return code <= 4999;
}

size_t tl_ws_close_payload(uint8_t out[TL_WS_CONTROL_MAX], uint16_t code, struct tl_bytes reason)
{
    uint32_t state = 0;
    size_t fits = 0;

    if (code == TL_WS_CLOSE_NONE)
        return 0;
    assert(tl_ws_close_is_valid(code));
    for (size_t i = 0; i < reason.n && i < TL_WS_REASON_MAX; i++) {
        if (!tl_utf8_feed(&state, tl_bytes(reason.p + i, 1)))
            break;
        if (tl_utf8_complete(state))
            fits = i + 1;
    }
    write_be(out, 2, code);
    if (fits > 0)
        memcpy(out + 2, reason.p, fits);
    return 2 + fits;
}

/* Unused bits of the last digit are let pass, as other servers do: the key is never decoded. */
bool tl_ws_key_is_valid(struct tl_bytes key)
{
    if (key.n != KEY_N || key.p[KEY_N - 1] != '=' || key.p[KEY_N - 2] != '=')
        return false;
    for (size_t i = 0; i < KEY_N - 2; i++)
        if (!tl_base64_is_digit(key.p[i]))
            return false;
    return true;
}

/*
 * SHA-1 of the key and the GUID, whose length is known: padded here, as libmd pads a byte at a
 * time, which costs as much as the hashing. FIPS 180-4 5.1.1.
 */
static void hash_key(struct tl_bytes key, uint8_t digest[SHA1_DIGEST_LENGTH])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t blocks[2][SHA1_BLOCK_LENGTH] = {0};
    const unsigned n = KEY_N + sizeof(guid) - 1, bits = 8 * n;
    SHA1_CTX sha1;

    memcpy(blocks[0], key.p, KEY_N);
    memcpy(blocks[0] + KEY_N, guid, sizeof(guid) - 1);
    blocks[0][n] = 0x80;
    blocks[1][SHA1_BLOCK_LENGTH - 2] = (uint8_t)(bits >> 8);
    blocks[1][SHA1_BLOCK_LENGTH - 1] = (uint8_t)bits;
    SHA1Init(&sha1);
    SHA1Transform(sha1.state, blocks[0]);
    SHA1Transform(sha1.state, blocks[1]);
    for (unsigned i = 0; i < SHA1_DIGEST_LENGTH; i++)
        digest[i] = (uint8_t)(sha1.state[i / 4] >> (24 - i % 4 * 8));
}

void tl_ws_accept(struct tl_bytes key, char out[29])
{
    uint8_t digest[SHA1_DIGEST_LENGTH], accept[ACCEPT_N];

    assert(key.n == KEY_N);
    hash_key(key, digest);
    assert(tl_base64_size(sizeof(digest)) == ACCEPT_N);
    tl_base64_encode(tl_bytes(digest, sizeof(digest)), accept);
    memcpy(out, accept, ACCEPT_N);
    out[ACCEPT_N] = '\0';
}
