#include "proto/sse.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { WHOLE, BYTE_BY_BYTE, RANDOM_CUTS, MODES };

static uint32_t seed = 3;

static size_t random_below(size_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (size_t)(((uint64_t)seed * n) >> 32);
}

/* What a client saw, as `id|event|data` for each event, `;` between them. */
struct seen {
    char text[2048];
    size_t n;
};

static void on_seen(const struct tl_sse_received *ev, void *arg)
{
    struct seen *seen = arg;
    const struct tl_bytes parts[] = {ev->id,      TL_LIT("|"), ev->event,
                                     TL_LIT("|"), ev->data,    TL_LIT(";")};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        assert_true(seen->n + parts[i].n < sizeof(seen->text));
        if (parts[i].n > 0)
            memcpy(seen->text + seen->n, parts[i].p, parts[i].n);
        seen->n += parts[i].n;
    }
    seen->text[seen->n] = '\0';
}

static enum tl_parse feed(struct tl_sse_parser *p, struct tl_bytes in, int mode)
{
    enum tl_parse r = TL_PARSE_MORE;

    while (in.n > 0 && r == TL_PARSE_MORE) {
        size_t n = mode == WHOLE ? in.n : mode == BYTE_BY_BYTE ? 1 : random_below(9);
        n = n > in.n ? in.n : n;
        r = tl_sse_parse(p, tl_bytes(in.p, n));
        in = tl_bytes_skip(in, n);
    }
    return r;
}

/* The stream shows `text` and leaves last_id, however it is cut. */
static void expect(struct tl_bytes in, const char *text, const char *last_id)
{
    for (int mode = 0; mode < MODES; mode++) {
        struct seen seen = {.n = 0};
        struct tl_sse_parser p;
        tl_sse_parser_init(&p, 1000, on_seen, &seen);
        assert_int_equal(feed(&p, in, mode), TL_PARSE_MORE);
        assert_string_equal(seen.text, text);
        assert_true(tl_bytes_eq(tl_buf_bytes(&p.id), tl_bytes_str(last_id)));
        tl_sse_parser_deinit(&p);
    }
}

static void examples_of_the_standard_are_read(void **arg)
{
    (void)arg;
    expect(TL_LIT("data: YHOO\ndata: +2\ndata: 10\n\n"), "||YHOO\n+2\n10;", "");
    expect(
        TL_LIT(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third"
               " event\n\n"),
        "1||first event;||second event;|| third event;", "");
    expect(TL_LIT("data\n\ndata\ndata\n\ndata:"), "||;||\n;", "");
    expect(TL_LIT("data:test\n\ndata: test\n\n"), "||test;||test;", "");
}

static void lines_end_with_cr_lf_or_both(void **arg)
{
    (void)arg;
    expect(TL_LIT("data:a\rdata:b\r\ndata:c\n\r"), "||a\nb\nc;", "");
    expect(TL_LIT("data:a\r\rdata:b\r\n\r\n"), "||a;||b;", "");
    expect(TL_LIT("data:a\n\r\ndata:b\n\n"), "||a;||b;", "");
    expect(TL_LIT("\r\n\r\ndata:x\r\n\r\n\r\n"), "||x;", "");
}

static void byte_order_mark_is_skipped_at_the_start_only(void **arg)
{
    (void)arg;
    expect(TL_LIT("\xEF\xBB\xBF"
                  "data:a\n\n"),
           "||a;", "");
    expect(TL_LIT("\xEF\xBB\xBF\xEF\xBB\xBF"
                  "data:a\n\n"),
           "", "");
    expect(TL_LIT("\n\xEF\xBB\xBF"
                  "data:a\n\n"),
           "", "");
    expect(TL_LIT("\xEF\xBB"
                  "data:a\ndata:b\n\n"),
           "||b;", "");
    expect(TL_LIT("\xEF\xEF\xBB\xBF"
                  "data:a\n\n"),
           "", "");
    expect(TL_LIT("data:\xEF\xBB\xBF\n\n"), "||\xEF\xBB\xBF;", "");
}

static void ids_last_and_are_set_by_whole_blocks(void **arg)
{
    (void)arg;
    expect(TL_LIT("id:7\n\n"), "", "7"); /* dispatches nothing, and yet */
    expect(TL_LIT("id:7\ndata:a\n\ndata:b\n\n"), "7||a;7||b;", "7");
    expect(TL_LIT("id:7\ndata:a\n\nid:8\ndata:b\n"), "7||a;", "7");
    expect(TL_LIT("id:7\n\nid:8\0\ndata:a\n\n"), "7||a;", "7");
    expect(TL_LIT("id:7\n\nid\ndata:a\n\n"), "||a;", "");
    expect(TL_LIT("id:7\nid:8\n\n"), "", "8");
}

static void other_fields_are_ignored(void **arg)
{
    (void)arg;
    expect(TL_LIT("Data:a\n data:b\ndata :c\nfoo:d\n:e\ndata:f\n\n"), "||f;", "");
    expect(TL_LIT("event:x\n\ndata:a\n\n"), "||a;", ""); /* a name without data goes nowhere */
    expect(TL_LIT("event:x\nevent:y\ndata:a\n\n"), "|y|a;", "");
    expect(TL_LIT("event:x\nevent\ndata:a:b\n\n"), "||a:b;", "");
}

static void retry_takes_digits_only(void **arg)
{
    static const struct {
        const char *text;
        uint32_t ms;
    } cases[] = {{"retry: 1500\n", 1500}, {"retry:\n", 9},
                 {"retry: 1x\n", 9},      {"retry:  5\n", 9},
                 {"retry: -1\n", 9},      {"retry:99999999999999999999\n", UINT32_MAX}};

    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_sse_parser p;
        struct seen seen = {.n = 0};
        tl_sse_parser_init(&p, 100, on_seen, &seen);
        assert_int_equal(tl_sse_parse(&p, TL_LIT("retry:9\n")), TL_PARSE_MORE);
        assert_int_equal(tl_sse_parse(&p, tl_bytes_str(cases[i].text)), TL_PARSE_MORE);
        assert_int_equal(p.retry_ms, cases[i].ms);
        tl_sse_parser_deinit(&p);
    }
}

static void parser_holds_no_more_than_its_limit(void **arg)
{
    static const char *const streams[] = {
        "data:12345",             /* a line */
        "data:123\ndata:5678\n",  /* lines of one event */
        "id:1234567\n\nid:12\n",  /* the id that is kept */
        ":123456789",             /* a comment */
        "event:12\ndata:1234567", /* name and line */
    };

    (void)arg;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        for (size_t max = 0; max < 30; max++) {
            int taken = 0;
            for (int mode = 0; mode < MODES; mode++) {
                struct seen seen = {.n = 0};
                struct tl_sse_parser p;
                tl_sse_parser_init(&p, max, on_seen, &seen);
                bool ok = feed(&p, tl_bytes_str(streams[i]), mode) == TL_PARSE_MORE;
                taken += ok;
                assert_int_equal(ok, p.reason == NULL);
                if (!ok)
                    assert_int_equal(tl_sse_parse(&p, TL_LIT("\n")), TL_PARSE_BAD);
                assert_true(p.id.n + p.next_id.n + p.event.n + p.data.n + p.line.n <= max);
                tl_sse_parser_deinit(&p);
            }
            assert_true(taken == 0 || taken == MODES);
            assert_int_equal(taken > 0, max >= (i == 0 || i == 3 ? 10
                                                : i == 1         ? 13
                                                : i == 2         ? 12
                                                                 : 14));
        }
    }
}

/* The one event that came, decoded. */
struct decoded {
    struct tl_buf name, payload, id;
    int n;
    int error;
};

static void on_decoded(const struct tl_sse_received *ev, void *arg)
{
    struct decoded *d = arg;

    d->n++;
    d->name.n = d->payload.n = d->id.n = 0;
    d->error = tl_sse_decode(ev, &d->name, &d->payload);
    tl_buf_append(&d->id, ev->id);
}

static void free_decoded(struct decoded *d)
{
    tl_buf_deinit(&d->name);
    tl_buf_deinit(&d->payload);
    tl_buf_deinit(&d->id);
}

/* Print into exactly the reserved size, read again behind a start block: the same comes out. */
static void expect_round_trip(const struct tl_sse_event *ev, struct decoded *d)
{
    static uint8_t wire[4096], id[256];
    struct tl_sse_parser p;
    size_t n = tl_sse_event_size(ev), id_n = 0;

    assert_true(n < sizeof(wire));
    assert_true(n <= 7 * ev->payload.n + 3 * (ev->id.n + ev->event.n) + 64);
    wire[n] = '!';
    assert_int_equal(tl_sse_event_write(ev, wire), n);
    assert_int_equal(wire[n], '!');
    assert_null(memchr(wire, '\r', n));
    assert_true(tl_utf8_valid(tl_bytes(wire, n)));

    d->n = 0;
    tl_sse_parser_init(&p, 4096, on_decoded, d);
    assert_int_equal(tl_sse_parse(&p, tl_bytes(wire, n)), TL_PARSE_MORE);
    assert_int_equal(d->n, 1);
    assert_int_equal(d->error, 0);
    assert_true(tl_bytes_eq(tl_buf_bytes(&d->payload), ev->payload));
    assert_true(tl_bytes_eq(tl_buf_bytes(&d->name), ev->event));
    assert_true(tl_sse_name_decode(tl_buf_bytes(&d->id), id, &id_n));
    assert_true(tl_bytes_eq(tl_bytes(id, id_n), ev->id));
    tl_sse_parser_deinit(&p);
}

/* What the shortest payloads, names and ids are made of, all of them. */
static const struct tl_bytes parts[] = {
    {(const uint8_t *)"\r", 1},          {(const uint8_t *)"\n", 1},   {(const uint8_t *)"\0", 1},
    {(const uint8_t *)" ", 1},           {(const uint8_t *)"\xEF", 1}, {(const uint8_t *)"\xBB", 1},
    {(const uint8_t *)"\xBF", 1},        {(const uint8_t *)"a", 1},    {(const uint8_t *)":", 1},
    {(const uint8_t *)"\xEF\xBB\xBF", 3}};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* Write the i-th sequence of n parts; returns its bytes. */
static size_t make_sequence(size_t i, size_t n, uint8_t *out)
{
    size_t at = 0;

    for (size_t k = 0; k < n; k++, i /= PARTS) {
        memcpy(out + at, parts[i % PARTS].p, parts[i % PARTS].n);
        at += parts[i % PARTS].n;
    }
    return at;
}

static void every_short_payload_arrives_as_it_was(void **arg)
{
    struct decoded d = {.n = 0};
    size_t count = 1;

    (void)arg;
    for (size_t n = 0; n <= 6; n++, count *= PARTS) {
        for (size_t i = 0; i < count; i++) {
            uint8_t bytes[32];
            struct tl_bytes payload = tl_bytes(bytes, make_sequence(i, n, bytes));
            struct tl_sse_event ev = {
                .id = TL_LIT("e-1"), .payload = payload, .payload_is_text = tl_utf8_valid(payload)};
            expect_round_trip(&ev, &d);
        }
    }
    free_decoded(&d);
}

static void every_short_name_and_id_arrives_as_it_was(void **arg)
{
    struct decoded d = {.n = 0};
    size_t count = 1;

    (void)arg;
    for (size_t n = 0; n <= 4; n++, count *= PARTS) {
        for (size_t i = 0; i < count; i++) {
            uint8_t bytes[32];
            struct tl_bytes name = tl_bytes(bytes, make_sequence(i, n, bytes));
            struct tl_sse_event ev = {
                .id = name, .event = name, .payload = TL_LIT("x"), .payload_is_text = i % 2 == 0};
            expect_round_trip(&ev, &d);
        }
    }
    for (unsigned c = 0; c < 65536; c++) {
        uint8_t bytes[] = {(uint8_t)(c >> 8), (uint8_t)c};
        struct tl_bytes name = tl_bytes(bytes, 2);
        struct tl_sse_event ev = {.id = name, .event = name, .payload_is_text = true};
        expect_round_trip(&ev, &d);
    }
    free_decoded(&d);
}

static void expect_printed(struct tl_sse_event ev, const char *text)
{
    char out[256] = {0};

    assert_true(tl_sse_event_size(&ev) < sizeof(out));
    tl_sse_event_write(&ev, (uint8_t *)out);
    assert_string_equal(out, text);
}

static void events_look_as_the_header_says(void **arg)
{
    (void)arg;
    expect_printed((struct tl_sse_event){.payload_is_text = true}, "data: \n\n");
    expect_printed((struct tl_sse_event){.payload = TL_LIT("\n"), .payload_is_text = true},
                   "data: \ndata: \n\n");
    expect_printed((struct tl_sse_event){.id = TL_LIT("a1-7"),
                                         .event = TL_LIT("tram_4"),
                                         .payload = TL_LIT(" x\ny"),
                                         .payload_is_text = true},
                   "id: a1-7\nevent: tram_4\ndata:  x\ndata: y\n\n");
    expect_printed((struct tl_sse_event){.payload = TL_LIT("a\rb"), .payload_is_text = true},
                   "event: base64\ndata: YQ1i\n\n");
    expect_printed((struct tl_sse_event){.event = TL_LIT("t;%\n"), .payload = TL_LIT("\xFF")},
                   "event: t%3B%25%0A;base64\ndata: /w==\n\n");
    expect_printed((struct tl_sse_event){.payload_is_text = false}, "event: base64\ndata: \n\n");
}

static void channels_cannot_pose_as_our_own_events(void **arg)
{
    static const char *const names[] = {
#define NAME(s) s,
        TL_SSE_RESERVED(NAME)
#undef NAME
            "%62ase64",
        ";base64",
        "base64;base64",
        "message",
        "gaps",
        "Gap"};
    struct decoded d = {.n = 0};

    (void)arg;
    expect_printed((struct tl_sse_event){.event = TL_LIT("gap"), .payload_is_text = true},
                   "event: %67ap\ndata: \n\n");
    expect_printed((struct tl_sse_event){.event = TL_LIT("error"), .payload = TL_LIT("\r")},
                   "event: %65rror;base64\ndata: DQ==\n\n");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (int text = 0; text < 2; text++) {
            struct tl_sse_event ev = {.event = tl_bytes_str(names[i]),
                                      .payload = TL_LIT("{}"),
                                      .payload_is_text = text != 0};
            expect_round_trip(&ev, &d);
        }
    }
    free_decoded(&d);
}

static void events_of_others_do_not_decode(void **arg)
{
    static const char *const cases[][2] = {
        {"gap", "{}"},
        {"broker", "{}"},
        {"x;y", ""},
        {";base64", ""},
        {"base64", "A"},
        {"x;base64", "\n"},
        {"base64;base64", ""},
        {"x%", ""},
        {"x%2", ""},
        {"x%2g", ""},
        {"x;base64;base64", ""},
        {"x;base6", ""},
    };
    struct tl_buf name = {0}, payload = {0};

    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_sse_received ev = {.event = tl_bytes_str(cases[i][0]),
                                     .data = tl_bytes_str(cases[i][1])};
        assert_int_equal(tl_sse_decode(&ev, &name, &payload), -EBADMSG);
        assert_int_equal(name.n + payload.n, 0);
    }
    tl_buf_deinit(&name);
    tl_buf_deinit(&payload);
}

static void small_writers_make_whole_blocks(void **arg)
{
    struct tl_buf out = {0};

    (void)arg;
    tl_sse_retry(&out, 2000);
    tl_sse_comment(&out, "");
    tl_sse_start(&out, TL_LIT("e-0@a\nb"));
    tl_sse_control(&out, "broker", TL_LIT("{\"up\":false}"));
    tl_buf_byte(&out, 0);
    assert_false(out.failed);
    assert_string_equal((const char *)out.p, "retry: 2000\n\n: \n\nid: e-0@a%0Ab\n\n"
                                             "event: broker\ndata: {\"up\":false}\n\n");
    expect(tl_bytes(out.p, out.n - 1), "e-0@a%0Ab|broker|{\"up\":false};", "e-0@a%0Ab");
    tl_buf_deinit(&out);
}

/* What fails is said (BAD, an error, or the sticky `failed`), never left out in silence. */
static void refused_memory_is_an_error_at_every_place(void **arg)
{
    bool spared = false;

    (void)arg;
    for (int64_t i = 0; !spared; i++) {
        struct decoded d = {.n = 0};
        struct tl_sse_parser p;
        struct tl_buf out = {0};
        tl_sse_parser_init(&p, 4096, on_decoded, &d);
        tl_alloc_fail(i, -1);
        tl_sse_start(&out, TL_LIT("e-1"));
        enum tl_parse r = tl_sse_parse(&p, TL_LIT("id: 1\nevent: x;base64\ndata: YQ1i\n\n"));
        spared = tl_alloc_fail(0, 0) <= (uint64_t)i;
        assert_int_equal(r == TL_PARSE_MORE, p.reason == NULL);
        assert_int_equal(d.n, r == TL_PARSE_MORE ? 1 : 0);
        bool told = out.failed || r == TL_PARSE_BAD || d.error == -ENOMEM || d.id.failed;
        assert_int_equal(told, !spared);
        assert_true(told || (out.n > 0 && d.payload.n == 3));
        tl_buf_deinit(&out);
        free_decoded(&d);
        tl_sse_parser_deinit(&p);
        assert_true(i < 40);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_standard_are_read),
        cmocka_unit_test(lines_end_with_cr_lf_or_both),
        cmocka_unit_test(byte_order_mark_is_skipped_at_the_start_only),
        cmocka_unit_test(ids_last_and_are_set_by_whole_blocks),
        cmocka_unit_test(other_fields_are_ignored),
        cmocka_unit_test(retry_takes_digits_only),
        cmocka_unit_test(parser_holds_no_more_than_its_limit),
        cmocka_unit_test(every_short_payload_arrives_as_it_was),
        cmocka_unit_test(every_short_name_and_id_arrives_as_it_was),
        cmocka_unit_test(events_look_as_the_header_says),
        cmocka_unit_test(channels_cannot_pose_as_our_own_events),
        cmocka_unit_test(events_of_others_do_not_decode),
        cmocka_unit_test(small_writers_make_whole_blocks),
        cmocka_unit_test(refused_memory_is_an_error_at_every_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
