#include "proto/ws.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define INPUT_MAX (512 * 1024)

enum { WHOLE, BYTE_BY_BYTE, RANDOM_CUTS, MODES };

/* What a stream said: a line of text for each message and control frame, and how it ended. */
struct said {
    char text[4096];
    size_t n;
    uint8_t message[INPUT_MAX]; /* of the open message */
    size_t message_n;
    size_t given; /* data bytes given out in all */
    bool open;
    uint16_t close_code;
    const char *reason;
};

static struct said said;
static uint32_t seed = 7;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)seed * n) >> 32);
}

static void say(const char *what, struct tl_bytes bytes, unsigned code)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < bytes.n; i++)
        hash = (hash ^ bytes.p[i]) * 16777619u;
    int n = bytes.n <= 32
                ? snprintf(said.text + said.n, sizeof(said.text) - said.n, "%s %u [%.*s]\n", what,
                           code, (int)bytes.n, bytes.n ? (const char *)bytes.p : "")
                : snprintf(said.text + said.n, sizeof(said.text) - said.n, "%s %u %zu#%08x\n", what,
                           code, bytes.n, (unsigned)hash);
    said.n += (size_t)n;
    assert_true(said.n < sizeof(said.text));
}

static void on_event(const struct tl_ws_event *ev)
{
    static const char *const names[] = {"data", "ping", "pong", "close"};

    if (ev->kind != TL_WS_ON_DATA) {
        say(names[ev->kind], ev->bytes, ev->kind == TL_WS_ON_CLOSE ? ev->close_code : 0);
        return;
    }
    assert_int_equal(ev->message_start, !said.open);
    assert_true(said.message_n + ev->bytes.n <= sizeof(said.message));
    if (ev->bytes.n > 0)
        memcpy(said.message + said.message_n, ev->bytes.p, ev->bytes.n);
    said.message_n += ev->bytes.n;
    said.given += ev->bytes.n;
    said.open = !ev->message_end;
    if (!ev->message_end)
        return;
    say(ev->opcode == TL_WS_TEXT ? "text" : "binary", tl_bytes(said.message, said.message_n), 0);
    said.message_n = 0;
}

/* As a connection does: give what is there, keep what is not used up. */
static void feed(struct tl_bytes in, int mode, bool expect_mask, uint64_t max)
{
    static uint8_t kept[INPUT_MAX];
    struct tl_ws_parser p;
    size_t kept_n = 0, used;
    struct tl_ws_event ev;
    enum tl_parse r = TL_PARSE_MORE;

    memset(&said, 0, sizeof(said));
    tl_ws_parser_init(&p, expect_mask, max);
    while (in.n > 0 && r != TL_PARSE_BAD) {
        size_t n = mode == WHOLE ? in.n : mode == BYTE_BY_BYTE ? 1 : random_below(40);
        n = n > in.n ? in.n : n;
        assert_true(kept_n + n <= sizeof(kept));
        memcpy(kept + kept_n, in.p, n);
        kept_n += n;
        in = tl_bytes_skip(in, n);
        size_t at = 0;
        while ((r = tl_ws_parse(&p, kept + at, kept_n - at, &used, &ev)) == TL_PARSE_DONE) {
            assert_true(used <= kept_n - at);
            at += used;
            on_event(&ev);
        }
        if (r == TL_PARSE_MORE)
            at += used;
        kept_n -= at;
        assert_true(r == TL_PARSE_BAD || kept_n <= TL_WS_KEPT_MAX);
        memmove(kept, kept + at, kept_n);
    }
    assert_int_equal(r == TL_PARSE_BAD, p.close_code != 0);
    assert_int_equal(r == TL_PARSE_BAD, p.reason != NULL);
    if (r == TL_PARSE_BAD)
        assert_int_equal(tl_ws_parse(&p, kept, 0, &used, &ev), TL_PARSE_BAD);
    said.close_code = p.close_code;
    said.reason = p.reason;
}

/* A frame as a client makes it, with nothing right about it that the caller did not ask for. */
struct frame {
    unsigned first; /* the first byte: FIN, RSV, opcode */
    struct tl_bytes payload;
};

static size_t print_frame(uint8_t *out, struct frame f)
{
    static const uint8_t key[4] = {0x37, 0xFA, 0x21, 0x3D};
    size_t n = tl_ws_masked_header(out, TL_WS_BINARY, f.payload.n, key);

    out[0] = (uint8_t)f.first;
    if (f.payload.n > 0)
        memcpy(out + n, f.payload.p, f.payload.n);
    tl_ws_mask(out + n, f.payload.n, key, 0);
    return n + f.payload.n;
}

/* Feed frames (up to END) in all modes: what is said and the code are the same. */
static void expect_max(const struct frame *frames, uint64_t max, const char *text, uint16_t code)
{
    static uint8_t in[INPUT_MAX];
    size_t n = 0;

    for (const struct frame *f = frames; f->first != 0xFFFF; f++)
        n += print_frame(in + n, *f);
    for (int mode = 0; mode < MODES; mode++) {
        feed(tl_bytes(in, n), mode, true, max);
        assert_string_equal(said.text, text);
        assert_int_equal(said.close_code, code);
    }
}

#define END                                                                                        \
    {                                                                                              \
        0xFFFF,                                                                                    \
        {                                                                                          \
            NULL, 0                                                                                \
        }                                                                                          \
    }
#define EXPECT(text, code, ...)                                                                    \
    expect_max((const struct frame[]){__VA_ARGS__, END}, 65536, text, code)

static void messages_come_whole_however_they_were_cut(void **arg)
{
    (void)arg;
    EXPECT("text 0 [hello]\n", 0, {0x81, TL_LIT("hello")});
    EXPECT("binary 0 [\xFF\x01]\n", 0, {0x82, TL_LIT("\xFF\x01")});
    EXPECT("text 0 []\n", 0, {0x81, TL_LIT("")});
    EXPECT("text 0 []\n", 0, {0x01, TL_LIT("")}, {0x00, TL_LIT("")}, {0x80, TL_LIT("")});
    EXPECT("text 0 [hello]\nbinary 0 [x]\n", 0, {0x01, TL_LIT("he")}, {0x00, TL_LIT("ll")},
           {0x80, TL_LIT("o")}, {0x82, TL_LIT("x")});
    EXPECT("text 0 [ab]\n", 0, {0x01, TL_LIT("a")}, {0x00, TL_LIT("")}, {0x80, TL_LIT("b")});
}

static void control_frames_come_between_fragments(void **arg)
{
    (void)arg;
    EXPECT("ping 0 [p]\npong 0 []\ntext 0 [\xC3\xA4]\n", 0, {0x01, TL_LIT("\xC3")},
           {0x89, TL_LIT("p")}, {0x8A, TL_LIT("")}, {0x80, TL_LIT("\xA4")});
    EXPECT("close 1000 [bye]\n", 0, {0x01, TL_LIT("cut")},
           {0x88, TL_LIT("\x03\xE8"
                         "bye")});
}

static void control_frames_of_every_length_come_whole(void **arg)
{
    uint8_t payload[126], in[200];

    (void)arg;
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)('a' + i % 26);
    for (size_t n = 0; n <= 125; n++) {
        size_t in_n = print_frame(in, (struct frame){0x89, tl_bytes(payload, n)});
        for (int mode = 0; mode < MODES; mode++) {
            feed(tl_bytes(in, in_n), mode, true, 0);
            assert_int_equal(strncmp(said.text, "ping 0 ", 7), 0);
        }
    }
    EXPECT("", 1002, {0x89, tl_bytes(payload, 126)});
}

/* What an empty frame with that first byte says, or NULL. */
static const char *allowed_alone(unsigned first)
{
    switch (first) {
    case 0x01:
    case 0x02:
        return ""; /* a message was opened */
    case 0x81:
        return "text 0 []\n";
    case 0x82:
        return "binary 0 []\n";
    case 0x88:
        return "close 1005 []\n";
    case 0x89:
        return "ping 0 []\n";
    case 0x8A:
        return "pong 0 []\n";
    default:
        return NULL;
    }
}

static void what_the_rfc_forbids_is_refused(void **arg)
{
    (void)arg;
    for (unsigned first = 0; first < 256; first++) {
        struct frame f[] = {{first, TL_LIT("")}, END};
        const char *text = allowed_alone(first);
        expect_max(f, 0, text ? text : "", text ? 0 : 1002);
    }
    EXPECT("", 1002, {0x80, TL_LIT("x")});
    EXPECT("text 0 [a]\n", 1002, {0x81, TL_LIT("a")}, {0x00, TL_LIT("x")});
    EXPECT("", 1002, {0x01, TL_LIT("x")}, {0x81, TL_LIT("y")});
    EXPECT("", 1002, {0x02, TL_LIT("")}, {0x02, TL_LIT("y")});
    EXPECT("", 1002, {0x09, TL_LIT("half a ping")});
}

static void mask_must_be_there_from_clients_and_not_from_servers(void **arg)
{
    uint8_t unmasked[] = {0x81, 0x01, 'x'}, masked[] = {0x81, 0x81, 0, 0, 0, 0, 'x'};

    (void)arg;
    for (int mode = 0; mode < MODES; mode++) {
        feed(tl_bytes(unmasked, sizeof(unmasked)), mode, true, 9);
        assert_int_equal(said.close_code, 1002);
        feed(tl_bytes(masked, sizeof(masked)), mode, false, 9);
        assert_int_equal(said.close_code, 1002);
        feed(tl_bytes(unmasked, sizeof(unmasked)), mode, false, 9);
        assert_string_equal(said.text, "text 0 [x]\n");
        feed(tl_bytes(masked, sizeof(masked)), mode, true, 9);
        assert_string_equal(said.text, "text 0 [x]\n");
    }
}

/* A header as a client sends it, the length in the form asked for. */
static size_t print_length(uint8_t *out, unsigned first, unsigned form, uint64_t len)
{
    size_t ext_n = form == 127 ? 8 : form == 126 ? 2 : 0, n = 2;

    out[0] = (uint8_t)first;
    out[1] = (uint8_t)(0x80 | (ext_n ? form : len));
    for (size_t i = ext_n; i-- > 0;)
        out[n++] = (uint8_t)(len >> 8 * i);
    memset(out + n, 0, 4);
    return n + 4;
}

static uint16_t code_of_length(unsigned form, uint64_t len, uint64_t max)
{
    if (len >> 63 != 0)
        return 1002;
    if ((form == 126 && len < 126) || (form == 127 && len < 65536))
        return 1002;
    return len > max ? 1009 : 0;
}

static void lengths_are_checked_before_anything_is_kept(void **arg)
{
    static const uint64_t lens[] = {0,          1,          125,        126,        65535,
                                    65536,      0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF,
                                    1ull << 32, INT64_MAX,  1ull << 63, UINT64_MAX};
    static const uint64_t maxes[] = {0, 125, 65535, 65536, 1ull << 32, INT64_MAX, UINT64_MAX};

    (void)arg;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        for (unsigned form = 125; form <= 127; form++) {
            if ((form == 125 && lens[i] > 125) || (form == 126 && lens[i] > 65535))
                continue;
            for (size_t k = 0; k < sizeof(maxes) / sizeof(maxes[0]); k++) {
                uint8_t in[16];
                size_t n = print_length(in, 0x82, form, lens[i]);
                for (int mode = 0; mode < MODES; mode++) {
                    feed(tl_bytes(in, n - 4), mode, true, maxes[k]); /* no need for the key */
                    assert_int_equal(said.close_code, code_of_length(form, lens[i], maxes[k]));
                    feed(tl_bytes(in, n), mode, true, maxes[k]);
                    assert_int_equal(said.close_code, code_of_length(form, lens[i], maxes[k]));
                }
            }
        }
    }
}

static void message_limit_counts_all_fragments(void **arg)
{
    uint8_t in[64];

    (void)arg;
    for (uint64_t max = 5; max <= 7; max++) {
        struct frame f[] = {
            {0x02, TL_LIT("abc")}, {0x89, TL_LIT("ping")}, {0x80, TL_LIT("def")}, END};
        expect_max(f, max, max < 6 ? "ping 0 [ping]\n" : "ping 0 [ping]\nbinary 0 [abcdef]\n",
                   max < 6 ? 1009 : 0);
        struct frame two[] = {{0x82, TL_LIT("abcdef")}, {0x82, TL_LIT("ghijkl")}, END};
        expect_max(two, max, max < 6 ? "" : "binary 0 [abcdef]\nbinary 0 [ghijkl]\n",
                   max < 6 ? 1009 : 0);
    }
    /* A length that would wrap a signed sum around. */
    size_t n = print_frame(in, (struct frame){0x02, TL_LIT("abc")});
    n += print_length(in + n, 0x80, 127, INT64_MAX);
    feed(tl_bytes(in, n), WHOLE, true, UINT64_MAX);
    assert_int_equal(said.close_code, 0);
    feed(tl_bytes(in, n), WHOLE, true, INT64_MAX);
    assert_int_equal(said.close_code, 1009);
}

static void text_must_be_utf8_across_fragments(void **arg)
{
    (void)arg;
    EXPECT("text 0 [\xE2\x82\xAC]\n", 0, {0x01, TL_LIT("\xE2")}, {0x00, TL_LIT("\x82")},
           {0x80, TL_LIT("\xAC")});
    EXPECT("", 1007, {0x01, TL_LIT("\xE2")}, {0x80, TL_LIT("\x82")}); /* ends within */
    EXPECT("", 1007, {0x01, TL_LIT("\xE2")}, {0x80, TL_LIT("")});
    EXPECT("", 1007, {0x01, TL_LIT("\xED")}, {0x00, TL_LIT("\xA0")}); /* before it ends */
    EXPECT("", 1007, {0x81, TL_LIT("\xC0\xAF")});
    EXPECT("binary 0 [\xC0\xAF]\n", 0, {0x82, TL_LIT("\xC0\xAF")});
    /* A binary message leaves nothing behind for the next text. */
    EXPECT("binary 0 [\xE2]\ntext 0 [a]\n", 0, {0x82, TL_LIT("\xE2")}, {0x81, TL_LIT("a")});
}

static void bad_byte_is_refused_before_its_frame_is_complete(void **arg)
{
    uint8_t in[64];

    (void)arg;
    size_t n = print_frame(in, (struct frame){0x01, TL_LIT("good\xC3\xA4\xFFmore of it")});
    for (int mode = 0; mode < MODES; mode++) {
        feed(tl_bytes(in, n - 10), mode, true, 100); /* the bad byte is the last of these */
        assert_int_equal(said.close_code, 1007);
        feed(tl_bytes(in, n - 11), mode, true, 100);
        assert_int_equal(said.close_code, 0);
        assert_int_equal(said.given, 6);
    }
}

static void close_codes_are_those_that_may_be_sent(void **arg)
{
    (void)arg;
    for (unsigned code = 0; code < 65536; code++) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                    (code >= 3000 && code <= 4999);
        uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code}, in[16];
        assert_int_equal(tl_ws_close_is_valid((uint16_t)code), good);
        size_t n = print_frame(in, (struct frame){0x88, tl_bytes(payload, 2)});
        feed(tl_bytes(in, n), WHOLE, true, 0);
        assert_int_equal(said.close_code, good ? 0 : 1002);
    }
    EXPECT("close 1005 []\n", 0, {0x88, TL_LIT("")});
    EXPECT("", 1002, {0x88, TL_LIT("\x03")});
    EXPECT("close 4410 [gap \xE2\x82\xAC]\n", 0, {0x88, TL_LIT("\x11\x3Agap \xE2\x82\xAC")});
    EXPECT("", 1007, {0x88, TL_LIT("\x03\xE8gap \xE2\x82")});
}

static void what_follows_a_close_frame_is_not_read(void **arg)
{
    (void)arg;
    EXPECT("close 1000 []\n", 0, {0x88, TL_LIT("\x03\xE8")}, {0x81, TL_LIT("late")},
           {0xF3, TL_LIT("junk")});
}

static void empty_fragments_have_a_limit(void **arg)
{
    static struct frame frames[TL_WS_EMPTY_FRAGMENTS_MAX + 3];
    const size_t max = TL_WS_EMPTY_FRAGMENTS_MAX;

    (void)arg;
    for (size_t n = max - 1; n <= max + 1; n++) {
        for (size_t i = 0; i < n; i++)
            frames[i] = (struct frame){i == 0 ? 0x01 : 0x00, TL_LIT("")};
        frames[n] = (struct frame){0x80, TL_LIT("x")};
        frames[n + 1] = (struct frame)END;
        expect_max(frames, 9, n <= max ? "text 0 [x]\n" : "", n <= max ? 0 : 1008);
    }
    /* Each message has its own count, and fragments with a byte have only that of bytes. */
    static uint8_t in[INPUT_MAX];
    size_t n = 0;
    for (int message = 0; message < 3; message++) {
        for (size_t i = 0; i < max; i++)
            n += print_frame(in + n, (struct frame){i == 0 ? 0x01 : 0x00, TL_LIT("")});
        n += print_frame(in + n, (struct frame){0x80, TL_LIT("")});
    }
    feed(tl_bytes(in, n), RANDOM_CUTS, true, 0);
    assert_int_equal(said.close_code, 0);
    assert_string_equal(said.text, "text 0 []\ntext 0 []\ntext 0 []\n");
    n = 0;
    for (size_t i = 0; i < 20000; i++)
        n += print_frame(in + n, (struct frame){i == 0 ? 0x02 : 0x00, TL_LIT("y")});
    feed(tl_bytes(in, n), RANDOM_CUTS, true, 20000);
    assert_int_equal(said.close_code, 0);
    assert_int_equal(said.message_n, 20000);
}

static void headers_are_printed_in_their_shortest_form(void **arg)
{
    static const struct {
        uint64_t n;
        const char *bytes;
        size_t size;
    } cases[] = {
        {0, "\x82\x00", 2},
        {125, "\x82\x7D", 2},
        {126, "\x82\x7E\x00\x7E", 4},
        {65535, "\x82\x7E\xFF\xFF", 4},
        {65536, "\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", 10},
        {INT64_MAX, "\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 10},
    };

    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[TL_WS_MASKED_HEADER_MAX], key[] = {1, 2, 3, 4};
        assert_int_equal(tl_ws_header(out, TL_WS_BINARY, cases[i].n), cases[i].size);
        assert_int_equal(tl_ws_header_size(cases[i].n), cases[i].size);
        assert_memory_equal(out, cases[i].bytes, cases[i].size);
        assert_int_equal(tl_ws_masked_header(out, TL_WS_BINARY, cases[i].n, key),
                         cases[i].size + 4);
        assert_int_equal(out[1], (uint8_t)(cases[i].bytes[1] | 0x80));
        assert_memory_equal(out + cases[i].size, key, 4);
    }
}

static void printed_messages_of_every_size_are_read_again(void **arg)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 4096, 65535, 65536, 65537, 300000};
    static uint8_t in[INPUT_MAX], payload[INPUT_MAX];

    (void)arg;
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)random_below(256);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int mode = 0; mode < MODES; mode++) {
            size_t n = tl_ws_header(in, TL_WS_BINARY, sizes[i]);
            memcpy(in + n, payload, sizes[i]);
            feed(tl_bytes(in, n + sizes[i]), mode, false, sizes[i]);
            char server[sizeof(said.text)];
            memcpy(server, said.text, sizeof(server));
            n = print_frame(in, (struct frame){0x82, tl_bytes(payload, sizes[i])});
            feed(tl_bytes(in, n), mode, true, sizes[i]);
            assert_string_equal(said.text, server);
            assert_int_equal(said.given, sizes[i]);
            assert_int_not_equal(said.n, 0);
        }
    }
}

static void mask_is_the_same_at_every_offset_and_length(void **arg)
{
    static const uint8_t key[4] = {0x01, 0x20, 0x44, 0x83};
    uint8_t fast[96], slow[96];

    (void)arg;
    for (size_t offset = 0; offset < 9; offset++) {
        for (size_t start = 0; start < 8; start++) {
            for (size_t n = 0; n + start < sizeof(fast); n++) {
                for (size_t i = 0; i < sizeof(fast); i++)
                    fast[i] = slow[i] = (uint8_t)(i * 7);
                tl_ws_mask(fast + start, n, key, offset);
                for (size_t i = 0; i < n; i++)
                    slow[start + i] ^= key[(offset + i) % 4];
                assert_memory_equal(fast, slow, sizeof(fast));
            }
        }
    }
}

static void close_reason_is_cut_between_characters(void **arg)
{
    uint8_t out[TL_WS_CONTROL_MAX], reason[200];

    (void)arg;
    assert_int_equal(tl_ws_close_payload(out, TL_WS_CLOSE_NONE, TL_LIT("x")), 0);
    assert_int_equal(tl_ws_close_payload(out, TL_WS_CLOSE_GAP, TL_LIT("gap")), 5);
    assert_memory_equal(out, "\x11\x3Agap", 5);
    assert_int_equal(tl_ws_close_payload(out, TL_WS_CLOSE_SLOW, tl_bytes(NULL, 0)), 2);
    for (size_t before = 0; before < 8; before++) {
        memset(reason, 'a', before);
        for (size_t i = before; i + 4 <= sizeof(reason); i += 4)
            memcpy(reason + i, "\xF0\x9F\x9A\x8B", 4);
        size_t n = tl_ws_close_payload(out, 1000, tl_bytes(reason, 196));
        assert_int_equal(n, 2 + before + (TL_WS_REASON_MAX - before) / 4 * 4);
        assert_memory_equal(out + 2, reason, n - 2);
    }
    /* Never more than is UTF-8. */
    assert_int_equal(tl_ws_close_payload(out, 1000, TL_LIT("ab\xFFzz")), 4);
    assert_int_equal(tl_ws_close_payload(out, 1000, TL_LIT("ab\xE2\x82")), 4);
}

static void handshake_answers_as_in_the_rfc(void **arg)
{
    static const char *const bad[] = {"",
                                      "dGhlIHNhbXBsZSBub25jZQ=",
                                      "dGhlIHNhbXBsZSBub25jZQ==x",
                                      "dGhlIHNhbXBsZSBub25jZQAA",
                                      "dGhlIHNhbXBsZSBub25jZ===",
                                      "dGhlIHNhbXBsZSBub25j Q==",
                                      "dGhlIHNhbXBsZSBub25j-Q==",
                                      "dGhlIHNhbXBsZSBub25jZ\x00=="};
    struct tl_bytes key = TL_LIT("dGhlIHNhbXBsZSBub25jZQ==");
    char out[29];

    (void)arg;
    assert_true(tl_ws_key_is_valid(key));
    tl_ws_accept(key, out);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(tl_ws_key_is_valid(tl_bytes_str(bad[i])));
    assert_false(tl_ws_key_is_valid(TL_LIT("dGhlIHNhbXBsZSBub25jZ\x00==")));
    assert_true(tl_ws_key_is_valid(TL_LIT("x3JJHMbDL1EzLkh9GBhXDw==")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_whole_however_they_were_cut),
        cmocka_unit_test(control_frames_come_between_fragments),
        cmocka_unit_test(control_frames_of_every_length_come_whole),
        cmocka_unit_test(what_the_rfc_forbids_is_refused),
        cmocka_unit_test(mask_must_be_there_from_clients_and_not_from_servers),
        cmocka_unit_test(lengths_are_checked_before_anything_is_kept),
        cmocka_unit_test(message_limit_counts_all_fragments),
        cmocka_unit_test(text_must_be_utf8_across_fragments),
        cmocka_unit_test(bad_byte_is_refused_before_its_frame_is_complete),
        cmocka_unit_test(close_codes_are_those_that_may_be_sent),
        cmocka_unit_test(what_follows_a_close_frame_is_not_read),
        cmocka_unit_test(empty_fragments_have_a_limit),
        cmocka_unit_test(headers_are_printed_in_their_shortest_form),
        cmocka_unit_test(printed_messages_of_every_size_are_read_again),
        cmocka_unit_test(mask_is_the_same_at_every_offset_and_length),
        cmocka_unit_test(close_reason_is_cut_between_characters),
        cmocka_unit_test(handshake_answers_as_in_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
