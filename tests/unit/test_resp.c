#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/random.h"
#include "proto/resp.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGE "*3\r\n$7\r\nmessage\r\n$6\r\ntram_1\r\n$5\r\nhello\r\n"

static const struct tl_resp_limits resp2 = {1024, 4096, 16, false};
static const struct tl_resp_limits resp3 = {1024, 4096, 16, true};

static void print(struct tl_buf *out, const struct tl_resp_value *v)
{
    static const char types[] = "_$+-:*,#(=%~>";
    tl_buf_byte(out, (uint8_t)types[v->type]);
    if (v->oversize)
        tl_buf_printf(out, "oversize %zu", v->bytes.n);
    else if (v->bytes.n > 0 || v->type == TL_RESP_STRING)
        tl_buf_append(out, v->bytes);
    else if (v->type != TL_RESP_NIL)
        tl_buf_printf(out, "%lld", (long long)v->integer);
    tl_buf_byte(out, ' ');
}

/* Feed in pieces of n bytes, 0: of random length. Returns the text of all replies and of the end;
 * owner: the caller. */
static char *parse(const struct tl_resp_limits *limits, struct tl_bytes in, size_t piece)
{
    struct tl_resp r;
    struct tl_buf out = {0};
    enum tl_parse got = TL_PARSE_MORE;
    tl_resp_init(&r, limits);
    while (in.n > 0 && got != TL_PARSE_BAD) {
        size_t n = piece ? piece : 1 + tl_random_below(40);
        size_t used;
        n = n < in.n ? n : in.n;
        uint8_t *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, in.p, n);
        got = tl_resp_push(&r, tl_bytes(copy, n), &used);
        if (got == TL_PARSE_DONE) {
            print(&out, &r.top);
            for (uint32_t i = 0; i < r.values_n; i++)
                print(&out, &r.values[i]);
            tl_buf_str(&out, "| ");
        }
        free(copy);
        in = tl_bytes_skip(in, used);
    }
    if (got == TL_PARSE_BAD)
        tl_buf_printf(&out, "BAD %s", r.reason);
    else if (tl_resp_is_within(&r))
        tl_buf_str(&out, "MORE");
    tl_buf_byte(&out, 0);
    assert_false(out.failed);
    tl_resp_reset(&r);
    return (char *)out.p;
}

/* Whole, byte by byte and cut at random. */
static void expect_bytes(const struct tl_resp_limits *limits, struct tl_bytes in, const char *text)
{
    for (int i = 0; i < 12; i++) {
        char *got = parse(limits, in, i == 0 ? SIZE_MAX : i == 1 ? 1 : 0);
        assert_string_equal(got, text);
        tl_free(got);
    }
}

static void expect(const char *in, const char *text)
{
    expect_bytes(&resp2, tl_bytes_str(in), text);
}

static void expect3(const char *in, const char *text)
{
    expect_bytes(&resp3, tl_bytes_str(in), text);
}

static void a_message_is_three_strings(void **state)
{
    (void)state;
    expect(MESSAGE, "*3 $message $tram_1 $hello | ");
    expect(MESSAGE MESSAGE "+OK\r\n",
           "*3 $message $tram_1 $hello | *3 $message $tram_1 $hello | +OK | ");
    expect("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$0\r\n\r\n", "*4 $pmessage $* $a $ | ");
}

static void scalars_are_read(void **state)
{
    (void)state;
    expect("+OK\r\n-NOPERM no\r\n:0\r\n:-5\r\n", "+OK | -NOPERM no | :0 | :-5 | ");
    expect(":9223372036854775807\r\n:-9223372036854775808\r\n",
           ":9223372036854775807 | :-9223372036854775808 | ");
    expect("$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n", "_ | _ | *0 | $ | ");
    expect("$4\r\na\r\nb\r\n+a\nb\r\r\n", "$a\r\nb | +a\nb\r | ");
}

static void what_lies_whole_in_the_bytes_is_not_copied(void **state)
{
    (void)state;
    struct tl_bytes in = TL_LIT(MESSAGE);
    struct tl_resp r;
    size_t used;
    tl_resp_init(&r, &resp2);
    tl_alloc_fail(0, -1);
    assert_int_equal(tl_resp_push(&r, in, &used), TL_PARSE_DONE);
    tl_alloc_fail(0, 0);
    assert_int_equal(used, in.n);
    assert_ptr_equal(r.values[2].bytes.p, in.p + in.n - 7);
    assert_true(tl_resp_is(&r.values[0], "message"));
    assert_false(tl_resp_is(&r.values[0], "messag"));
}

static void nested_values_are_passed_over(void **state)
{
    (void)state;
    expect("*3\r\n*2\r\n:1\r\n*1\r\n$3\r\nabc\r\n:7\r\n*0\r\n+OK\r\n", "*3 *2 :7 *0 | +OK | ");
    expect("*9\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n",
           "*9 :1 :2 :3 :4 :5 :6 :7 :8 | ");
}

static void resp3_types_are_taken_where_asked(void **state)
{
    (void)state;
    expect3(">2\r\n+a\r\n_\r\n", ">2 +a _ | ");
    expect3("%1\r\n+a\r\n#t\r\n~1\r\n,1.5\r\n", "%2 +a #1 | ~1 ,1.5 | ");
    expect3("(123\r\n!3\r\nERR\r\n=5\r\ntxt:a\r\n", "(123 | -ERR | =txt:a | ");
    expect3("|1\r\n+k\r\n+v\r\n*2\r\n|1\r\n+k\r\n+v\r\n:1\r\n|0\r\n:2\r\n", "*2 :1 :2 | ");
    expect(">2\r\n", "BAD not a RESP type");
    expect("_\r\n", "BAD not a RESP type");
    expect3("#x\r\n", "BAD a bad boolean");
    expect3("_x\r\n", "BAD a bad null");
    expect3("%-1\r\n", "BAD a bad element count");
    expect3("*?\r\n", "BAD a bad element count");
}

static void nonsense_is_bad(void **state)
{
    (void)state;
    expect("HTTP/1.1 400 Bad Request\r\n", "BAD not a RESP type");
    expect(MESSAGE "\r\n", "*3 $message $tram_1 $hello | BAD not a RESP type");
    expect("$-2\r\n", "BAD a bad bulk length");
    expect("$\r\n", "BAD a bad bulk length");
    expect("$1x\r\n", "BAD a bad bulk length");
    expect("$01\r\n", "BAD a bad bulk length");
    expect("$99999999999999999999\r\n", "BAD a bad bulk length");
    expect("$9223372036854775807\r\n", "BAD an absurd bulk length");
    expect("$4294967297\r\n", "BAD an absurd bulk length");
    expect("$3\r\nabcd\r\n", "BAD a bulk without its end");
    expect("$3\r\nabc\rx", "BAD a bulk without its end");
    expect("*-2\r\n", "BAD a bad element count");
    expect("*4294967297\r\n", "BAD too many elements");
    expect("*2147483647\r\n", "BAD too many elements");
    expect(":+1\r\n", "BAD a bad integer");
    expect(":-0\r\n", "BAD a bad integer");
    expect(":9223372036854775808\r\n", "BAD a bad integer");
    expect(":-9223372036854775809\r\n", "BAD a bad integer");
}

static void elements_are_limited_in_all(void **state)
{
    (void)state;
    expect("*16\r\n", "MORE");
    expect("*17\r\n", "BAD too many elements");
    expect("*2\r\n*14\r\n", "MORE");
    expect("*2\r\n*15\r\n", "BAD too many elements");
    expect3("%8\r\n", "MORE");
    expect3("%9\r\n", "BAD too many elements");
}

static void depth_is_limited(void **state)
{
    (void)state;
    char in[64] = "";
    for (int i = 0; i < 8; i++)
        memcpy(in + 4 * i, "*1\r\n", 4);
    memcpy(in + 32, ":1\r\n", 5);
    expect(in, "*1 *1 | ");
    memmove(in + 4, in, strlen(in) + 1);
    expect(in, "BAD nested too deeply");
}

static void endless_lines_are_bad(void **state)
{
    (void)state;
    static char in[TL_RESP_LINE_MAX + 2];
    struct tl_resp_limits limits = {1 << 20, 1 << 20, 16, false};
    memset(in, 'x', sizeof in);
    in[0] = '+';
    memcpy(in + TL_RESP_LINE_MAX - 2, "\r\n", 2);
    char *got = parse(&limits, tl_bytes(in, TL_RESP_LINE_MAX), SIZE_MAX);
    assert_int_equal(strlen(got), TL_RESP_LINE_MAX - 3 + 4);
    tl_free(got);
    memset(in + 1, 'x', sizeof in - 1);
    memcpy(in + TL_RESP_LINE_MAX - 1, "\r\n", 2);
    expect_bytes(&limits, tl_bytes(in, TL_RESP_LINE_MAX + 1), "BAD an endless line");
    expect_bytes(&limits, tl_bytes(in, TL_RESP_LINE_MAX - 1), "MORE");
}

/* "*3 message a <bulk of n>" and "+OK" behind it. */
static struct tl_buf message_of(size_t n)
{
    struct tl_buf in = {0};
    tl_buf_printf(&in, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%zu\r\n", n);
    for (size_t i = 0; i < n; i++)
        tl_buf_byte(&in, (uint8_t)("\r\n$*:"[i % 5]));
    tl_buf_str(&in, "\r\n+OK\r\n");
    assert_false(in.failed);
    return in;
}

static void an_oversize_bulk_is_skipped_and_marked(void **state)
{
    (void)state;
    struct tl_buf in = message_of(1025);
    expect_bytes(&resp2, tl_buf_bytes(&in), "*3 $message $a $oversize 1025 | +OK | ");
    tl_buf_deinit(&in);
    in = message_of(1024);
    char *got = parse(&resp2, tl_buf_bytes(&in), 1);
    assert_null(strstr(got, "oversize"));
    tl_free(got);
    tl_buf_deinit(&in);
    /* Three texts that fit each, but not together. */
    expect_bytes(&(struct tl_resp_limits){4, 9, 16, false},
                 TL_LIT("*3\r\n$4\r\naaaa\r\n$4\r\nbbbb\r\n$4\r\ncccc\r\n"),
                 "*3 $aaaa $bbbb $oversize 4 | ");
}

/* 256 MiB announced and streamed in pieces: the buffer stays small. */
static void an_oversize_bulk_costs_no_memory(void **state)
{
    (void)state;
    static uint8_t piece[1 << 16];
    struct tl_resp r;
    size_t used;
    tl_resp_init(&r, &resp2);
    assert_int_equal(tl_resp_push(&r, TL_LIT("*2\r\n$1\r\na\r\n$268435456\r\n"), &used),
                     TL_PARSE_MORE);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(tl_resp_push(&r, tl_bytes(piece, sizeof piece), &used), TL_PARSE_MORE);
    assert_true(r.buf.cap < 1024);
    assert_int_equal(tl_resp_push(&r, TL_LIT("\r\n"), &used), TL_PARSE_DONE);
    assert_true(r.values[1].oversize);
    assert_int_equal(r.values[1].bytes.n, 268435456);
    assert_true(tl_resp_is(&r.values[0], "a"));
    tl_resp_reset(&r);
}

static void an_announced_size_alone_reserves_nothing(void **state)
{
    (void)state;
    struct tl_resp r;
    size_t used;
    tl_resp_init(&r, &(struct tl_resp_limits){16 << 20, 17 << 20, 16, false});
    assert_int_equal(tl_resp_push(&r, TL_LIT("$16777216\r\nabc"), &used), TL_PARSE_MORE);
    assert_true(r.buf.cap < 1024);
    tl_resp_reset(&r);
}

static void a_failed_allocation_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    struct tl_buf in = message_of(900);
    for (int64_t i = 0; i < 20; i++) {
        struct tl_resp r;
        enum tl_parse got = TL_PARSE_MORE;
        size_t used;
        tl_resp_init(&r, &resp2);
        tl_alloc_fail(i, 1);
        for (size_t at = 0; at < in.n - 5 && got == TL_PARSE_MORE; at++)
            got = tl_resp_push(&r, tl_bytes(in.p + at, 1), &used);
        tl_alloc_fail(0, 0);
        assert_true(got == TL_PARSE_DONE ||
                    (got == TL_PARSE_BAD && strcmp(r.reason, "no memory") == 0));
        assert_true(i > 0 || got == TL_PARSE_BAD);
        tl_resp_reset(&r);
    }
    tl_buf_deinit(&in);
}

static void on_visit(void *arg, unsigned depth, const struct tl_resp_value *value)
{
    struct tl_buf *out = arg;
    tl_buf_printf(out, "%u", depth);
    print(out, value);
}

static char *visit(struct tl_bytes in, size_t piece)
{
    struct tl_resp r;
    struct tl_buf out = {0};
    tl_resp_init(&r, &(struct tl_resp_limits){8, 12, 64, false});
    r.visit = on_visit;
    r.visit_arg = &out;
    tl_resp_reset(&r);
    while (in.n > 0) {
        size_t used, n = piece ? piece : 1 + tl_random_below(9);
        n = n < in.n ? n : in.n;
        uint8_t *copy = malloc(n);
        assert_non_null(copy);
        memcpy(copy, in.p, n);
        enum tl_parse got = tl_resp_push(&r, tl_bytes(copy, n), &used);
        assert_int_not_equal(got, TL_PARSE_BAD);
        if (got == TL_PARSE_DONE) {
            assert_int_equal(r.values_n, 0);
            print(&out, &r.top);
        }
        assert_true(r.buf.n < 64); /* nothing is gathered but what is being read */
        free(copy);
        in = tl_bytes_skip(in, used);
    }
    tl_buf_byte(&out, 0);
    tl_resp_reset(&r);
    return (char *)out.p;
}

static void a_visitor_is_told_of_every_value_and_nothing_is_kept(void **state)
{
    (void)state;
    static const char in[] =
        "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$4\r\ndata\r\n$0\r\n\r\n*2\r\n$3\r\n"
        "1-2\r\n*2\r\n$4\r\ndata\r\n$9\r\n123456789\r\n"
        "$-1\r\n*3\r\n*0\r\n-ERR\r\n:7\r\n+OK\r\n";
    static const char text[] = "1*2 2$s 2*2 3*2 4$1-1 4*2 5$data 5$ 3*2 4$1-2 4*2 5$data "
                               "5$oversize 9 *1 _ 1*0 1-ERR 1:7 *3 +OK ";
    for (int i = 0; i < 40; i++) {
        char *got = visit(tl_bytes_str(in), i == 0 ? SIZE_MAX : i == 1 ? 1 : 0);
        assert_string_equal(got, text);
        tl_free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_visitor_is_told_of_every_value_and_nothing_is_kept),
        cmocka_unit_test(a_message_is_three_strings),
        cmocka_unit_test(scalars_are_read),
        cmocka_unit_test(what_lies_whole_in_the_bytes_is_not_copied),
        cmocka_unit_test(nested_values_are_passed_over),
        cmocka_unit_test(resp3_types_are_taken_where_asked),
        cmocka_unit_test(nonsense_is_bad),
        cmocka_unit_test(elements_are_limited_in_all),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(endless_lines_are_bad),
        cmocka_unit_test(an_oversize_bulk_is_skipped_and_marked),
        cmocka_unit_test(an_oversize_bulk_costs_no_memory),
        cmocka_unit_test(an_announced_size_alone_reserves_nothing),
        cmocka_unit_test(a_failed_allocation_is_told_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
