#include "bench/receiver.h"

#include "base/buf.h"
#include "proto/ws.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* What a receiver told, as text, one line each. */
static char told[65536];
static size_t told_n;

static void on_accepted(struct tl_receiver *r)
{
    (void)r;
    told_n += (size_t)sprintf(told + told_n, "accepted\n");
}

static void on_message(struct tl_receiver *r, const struct tl_stamp *stamp, uint64_t payload_n)
{
    (void)r;
    told_n += (size_t)sprintf(told + told_n, "message %u %u %u %u %u\n", stamp->run, stamp->channel,
                              stamp->number, (unsigned)stamp->time_ns, (unsigned)payload_n);
}

static void on_other(struct tl_receiver *r, struct tl_bytes head)
{
    (void)r;
    told_n += (size_t)sprintf(told + told_n, "other %.*s\n", (int)head.n, head.p);
}

static void on_field(struct tl_receiver *r, struct tl_bytes line)
{
    (void)r;
    told_n += (size_t)sprintf(told + told_n, "field %.*s\n", (int)line.n, line.p);
}

static void on_ping(struct tl_receiver *r, struct tl_bytes payload)
{
    (void)r;
    told_n += (size_t)sprintf(told + told_n, "ping %.*s\n", (int)payload.n, payload.p);
}

static void on_close(struct tl_receiver *r, uint16_t code)
{
    (void)r;
    told_n += (size_t)sprintf(told + told_n, "close %u\n", code);
}

static const struct tl_receiver_handler handler = {on_accepted, on_message, on_other,
                                                   on_field,    on_ping,    on_close};
static const struct tl_receiver_rules websocket = {TL_RECEIVER_WEBSOCKET,
                                                   "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &handler};
static const struct tl_receiver_rules sse = {TL_RECEIVER_SSE, "", &handler};

/* Feed it in pieces of up to piece_max bytes (0: random ones); memory behind each is poisoned. */
static int feed(const struct tl_receiver_rules *rules, struct tl_bytes bytes, size_t piece_max)
{
    static struct tl_receiver r;
    int rc = 0;
    told_n = 0;
    told[0] = 0;
    tl_receiver_init(&r, rules);
    while (bytes.n > 0 && rc == 0) {
        size_t n = piece_max ? piece_max : 1 + (size_t)random() % 300;
        if (n > bytes.n)
            n = bytes.n;
        uint8_t *piece = malloc(n);
        memcpy(piece, bytes.p, n);
        rc = tl_receiver_feed(&r, tl_bytes(piece, n));
        free(piece);
        bytes = tl_bytes_skip(bytes, n);
    }
    if (rc < 0)
        told_n += (size_t)sprintf(told + told_n, "failed %u %s\n", r.status, r.reason);
    return rc;
}

/* The same must be told whole, byte by byte, and however it is cut. */
static void assert_told(const struct tl_receiver_rules *rules, struct tl_bytes bytes,
                        const char *expected)
{
    feed(rules, bytes, bytes.n);
    assert_string_equal(told, expected);
    feed(rules, bytes, 1);
    assert_string_equal(told, expected);
    for (int i = 0; i < 300; i++) {
        srandom((unsigned)i);
        feed(rules, bytes, 0);
        assert_string_equal(told, expected);
    }
}

static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                              "X-Long: 0123456789012345678901234567890123456789012345678901234567"
                              "89012345678901234567890123456789012345678901234567890123456789012345"
                              "67890123456789012345678901234567890123456789012345678901234567890123"
                              "45678901234567890123456789\r\n"
                              "sec-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n\r\n";

static void put_stamped(struct tl_buf *out, const char *before, uint32_t number, size_t payload_n)
{
    struct tl_stamp stamp = {.run = 9, .channel = 8, .number = number, .time_ns = 7};
    uint8_t text[TL_STAMP_BYTES];
    tl_stamp_print(&stamp, text);
    tl_buf_str(out, before);
    tl_buf_append(out, tl_bytes(text, sizeof text));
    for (size_t n = strlen(before) + sizeof text; n < payload_n; n++)
        tl_buf_byte(out, 'x');
}

static void put_frame(struct tl_buf *out, uint8_t first, struct tl_bytes payload)
{
    uint8_t header[TL_WS_HEADER_MAX];
    size_t n = tl_ws_header(header, TL_WS_TEXT, payload.n);
    header[0] = first;
    tl_buf_append(out, tl_bytes(header, n));
    tl_buf_append(out, payload);
}

static void put_message(struct tl_buf *out, const char *before, uint32_t number, size_t payload_n)
{
    struct tl_buf payload = {0};
    put_stamped(&payload, before, number, payload_n);
    put_frame(out, 0x81, tl_buf_bytes(&payload));
    tl_buf_deinit(&payload);
}

static void websocket_messages_of_every_size_are_told_once_whole(void **state)
{
    static const size_t sizes[] = {44, 45, 125, 126, 191, 192, 193, 200, 1000, 65535, 65536, 70000};
    struct tl_buf out = {0};
    char expected[2000] = "accepted\n";
    (void)state;
    tl_buf_str(&out, upgrade);
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_message(&out, "", i, sizes[i]);
        sprintf(expected + strlen(expected), "message 9 8 %u 7 %u\n", i, (unsigned)sizes[i]);
    }
    assert_told(&websocket, tl_buf_bytes(&out), expected);
    tl_buf_deinit(&out);
}

static void json_around_the_stamp_and_frames_of_other_kinds_do_no_harm(void **state)
{
    struct tl_buf out = {0};
    (void)state;
    tl_buf_str(&out, upgrade);
    put_frame(&out, 0x81, TL_LIT("0{\"sid\":\"TLB1\"}"));
    put_message(&out, "42[\"message\",\"", 0, 128);
    put_frame(&out, 0x89, TL_LIT("hi"));
    put_frame(&out, 0x8a, TL_LIT(""));
    put_frame(&out, 0x82, TL_LIT(""));
    put_message(&out, "", 1, 300);
    put_frame(&out, 0x88,
              TL_LIT("\x03\xe9"
                     "bye"));
    tl_buf_str(&out, "whatever follows");
    assert_told(&websocket, tl_buf_bytes(&out),
                "accepted\nother 0{\"sid\":\"TLB1\"}\nmessage 9 8 0 7 114\nping hi\nother \n"
                "message 9 8 1 7 300\nclose 1001\n");
    tl_buf_deinit(&out);
}

static void fragments_are_one_message(void **state)
{
    struct tl_buf out = {0}, payload = {0};
    (void)state;
    tl_buf_str(&out, upgrade);
    put_stamped(&payload, "", 3, 250);
    put_frame(&out, 0x01, tl_buf_bytes(&payload));
    put_frame(&out, 0x89, TL_LIT(""));
    put_frame(&out, 0x00, TL_LIT(""));
    put_frame(&out, 0x80, TL_LIT("the rest"));
    put_frame(&out, 0x01, TL_LIT(""));
    put_frame(&out, 0x80, tl_buf_bytes(&payload));
    put_frame(&out, 0x88, TL_LIT(""));
    assert_told(&websocket, tl_buf_bytes(&out),
                "accepted\nping \nmessage 9 8 3 7 258\nother \nmessage 9 8 3 7 250\nclose 1005\n");
    tl_buf_deinit(&out);
    tl_buf_deinit(&payload);
}

static void what_is_no_websocket_is_refused_with_the_reason(void **state)
{
    const struct {
        struct tl_bytes bytes;
        const char *expected;
    } cases[] = {
        {TL_LIT("SSH-2.0-OpenSSH_9.2\r\n"), "failed 0 does not speak HTTP/1.1\n"},
        {TL_LIT("\r\n"), "failed 0 does not speak HTTP/1.1\n"},
        {TL_LIT("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "failed 503 refused\n"},
        {TL_LIT("HTTP/1.1 200 OK\r\n\r\n"), "failed 200 refused\n"},
        {TL_LIT("HTTP/1.1 101 Switching\r\n\r\n"),
         "failed 101 answered 101 without the right Sec-WebSocket-Accept\n"},
        {TL_LIT("HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: xxxx\r\n\r\n"),
         "failed 101 answered 101 without the right Sec-WebSocket-Accept\n"},
    };
    const struct {
        struct tl_bytes bytes;
        const char *reason;
    } frames[] = {
        {TL_LIT("\xc1\x01x"), "sent a frame with a mask or an extension that nobody asked for"},
        {TL_LIT("\x81\x81xxxxx"), "sent a frame with a mask or an extension that nobody asked for"},
        {TL_LIT("\x83\x01x"), "sent frames out of sequence"},
        {TL_LIT("\x80\x01x"), "sent frames out of sequence"},
        {TL_LIT("\x01\x01x\x81\x01x"), "sent frames out of sequence"},
        {TL_LIT("\x09\x01x"), "sent a malformed control frame"},
        {TL_LIT("\x8b\x01x"), "sent a malformed control frame"},
        {TL_LIT("\x89\x7e\x00\x7e"), "sent a malformed control frame"},
        {TL_LIT("\x81\x7f\x80\0\0\0\0\0\0\0"), "sent a frame of impossible length"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_told(&websocket, cases[i].bytes, cases[i].expected);
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        struct tl_buf out = {0};
        tl_buf_str(&out, upgrade);
        tl_buf_append(&out, frames[i].bytes);
        assert_int_equal(feed(&websocket, tl_buf_bytes(&out), 1), -EPROTO);
        assert_non_null(strstr(told, frames[i].reason));
        assert_int_equal(feed(&websocket, tl_buf_bytes(&out), out.n), -EPROTO);
        assert_non_null(strstr(told, frames[i].reason));
        tl_buf_deinit(&out);
    }
}

static void put_event(struct tl_buf *out, const char *field, uint32_t number, size_t payload_n,
                      const char *line_end)
{
    tl_buf_printf(out, "id: %u%s%s", number, line_end, field);
    put_stamped(out, "", number, payload_n);
    tl_buf_printf(out, "%s%s", line_end, line_end);
}

static void put_events(struct tl_buf *out)
{
    tl_buf_str(out, "retry: 1000\n: hello\n\nid: start\n\n");
    put_event(out, "data: ", 0, 44, "\n");
    put_event(out, "data:", 1, 150, "\r\n");
    put_event(out, "data: ", 2, 203, "\n");
    put_event(out, "data: ", 3, 20000, "\n");
    tl_buf_str(out, "event: gap\ndata: {}\n\n");
    put_event(out, "data: ", 4, 128, "\n");
}

static const char events_told[] =
    "accepted\nfield retry: 1000\nfield : hello\nfield \nfield id: start\nfield \n"
    "field id: 0\nmessage 9 8 0 7 44\nfield \nfield id: 1\nmessage 9 8 1 7 150\nfield \n"
    "field id: 2\nmessage 9 8 2 7 203\nfield \nfield id: 3\nmessage 9 8 3 7 20000\nfield \n"
    "field event: gap\nother {}\nfield \nfield id: 4\nmessage 9 8 4 7 128\nfield \n";

static void events_are_told_with_a_length_or_without(void **state)
{
    struct tl_buf out = {0};
    (void)state;
    tl_buf_str(&out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    put_events(&out);
    assert_told(&sse, tl_buf_bytes(&out), events_told);
    tl_buf_deinit(&out);
}

static void events_are_told_from_chunks_however_they_are_cut(void **state)
{
    struct tl_buf events = {0};
    (void)state;
    put_events(&events);
    for (size_t chunk_n = 1; chunk_n < 30000; chunk_n = chunk_n * 3 + 1) {
        struct tl_buf out = {0};
        tl_buf_str(&out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n");
        for (size_t off = 0; off < events.n; off += chunk_n) {
            size_t n = chunk_n < events.n - off ? chunk_n : events.n - off;
            tl_buf_printf(&out, n % 2 ? "%zx\r\n" : "%zX;x=y\r\n", n);
            tl_buf_append(&out, tl_bytes(events.p + off, n));
            tl_buf_str(&out, "\r\n");
        }
        tl_buf_str(&out, "0\r\n\r\nGARBAGE");
        feed(&sse, tl_buf_bytes(&out), out.n);
        assert_string_equal(told, events_told);
        feed(&sse, tl_buf_bytes(&out), 1);
        assert_string_equal(told, events_told);
        for (int i = 0; i < 10; i++) {
            feed(&sse, tl_buf_bytes(&out), 0);
            assert_string_equal(told, events_told);
        }
        tl_buf_deinit(&out);
    }
    tl_buf_deinit(&events);
}

static void chunks_that_are_none_are_refused(void **state)
{
    static const char *const bodies[] = {"x\r\n", "3\r\nabcd", "11111111111111111\r\n"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char text[200];
        sprintf(text, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s", bodies[i]);
        assert_int_equal(feed(&sse, tl_bytes_str(text), 1), -EPROTO);
        assert_int_equal(feed(&sse, tl_bytes_str(text), 1000), -EPROTO);
    }
}

static void random_bytes_do_no_harm(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        struct tl_buf out = {0};
        bool ws = i % 2;
        srandom(i);
        tl_buf_str(&out, ws ? upgrade : "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int n = (int)(random() % 400); n > 0; n--)
            tl_buf_byte(&out, (uint8_t)(random() % 3 ? random() : random() % 4 + 0x80));
        char whole[sizeof told];
        feed(ws ? &websocket : &sse, tl_buf_bytes(&out), out.n);
        memcpy(whole, told, told_n + 1);
        feed(ws ? &websocket : &sse, tl_buf_bytes(&out), 0);
        assert_string_equal(told, whole);
        tl_buf_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(websocket_messages_of_every_size_are_told_once_whole),
        cmocka_unit_test(json_around_the_stamp_and_frames_of_other_kinds_do_no_harm),
        cmocka_unit_test(fragments_are_one_message),
        cmocka_unit_test(what_is_no_websocket_is_refused_with_the_reason),
        cmocka_unit_test(events_are_told_with_a_length_or_without),
        cmocka_unit_test(events_are_told_from_chunks_however_they_are_cut),
        cmocka_unit_test(chunks_that_are_none_are_refused),
        cmocka_unit_test(random_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
