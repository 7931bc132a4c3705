/*
 * RESP replies: whole, byte by byte and cut at the fuzzer's choice give the same values; without
 * RESP3, hiredis' reader gives the same too, but for our limits and its not checking the end of a
 * bulk. A visitor is told the same whichever way.
 */
#include "proto/resp.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#define BULK_MAX     64
#define ELEMENTS_MAX 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_value(struct tl_buf *out, enum tl_resp_type type, int64_t integer,
                        struct tl_bytes text)
{
    if (text.n > BULK_MAX) {
        tl_buf_printf(out, "%d oversize %zu\n", type, text.n);
        return;
    }
    tl_buf_printf(out, "%d %lld ", type, (long long)integer);
    tl_buf_append(out, text);
    tl_buf_byte(out, '\n');
}

static void print_reply(struct tl_buf *out, const struct tl_resp *r)
{
    tl_buf_str(out, "reply ");
    print_value(out, r->top.type, r->top.integer, r->top.bytes);
    for (uint32_t i = 0; i < r->values_n; i++) {
        assert(r->values[i].oversize == (r->values[i].bytes.n > BULK_MAX));
        print_value(out, r->values[i].type, r->values[i].integer, r->values[i].bytes);
    }
}

/* Feed in pieces of 1 + (byte & mask) bytes of `cuts`; *ret_reason NULL if all was fine. */
static void run(struct tl_resp *r, struct tl_bytes in, struct tl_bytes cuts, size_t piece,
                struct tl_buf *out, const char **ret_reason)
{
    size_t cut = 0;
    *ret_reason = NULL;
    while (in.n > 0) {
        size_t n = cuts.n ? (size_t)1 + cuts.p[cut++ % cuts.n] % 16 : piece;
        n = n < in.n ? n : in.n;
        uint8_t *copy = malloc(n); /* so that ASan sees a read beyond the piece */
        assert(copy);
        memcpy(copy, in.p, n);
        size_t used;
        enum tl_parse got = tl_resp_push(r, tl_bytes(copy, n), &used);
        assert(used <= n && (got != TL_PARSE_MORE || used == n) && (got != TL_PARSE_DONE || used));
        if (got == TL_PARSE_DONE)
            print_reply(out, r);
        free(copy);
        in = tl_bytes_skip(in, used);
        if (got != TL_PARSE_BAD)
            continue;
        *ret_reason = r->reason;
        assert(tl_resp_push(r, TL_LIT("+OK\r\n"), &used) == TL_PARSE_BAD);
        return;
    }
}

/* The oracle: hiredis' reader, printing what it is told instead of building replies. */
struct oracle {
    struct tl_buf out;
};

static void oracle_value(const redisReadTask *task, enum tl_resp_type type, long long integer,
                         struct tl_bytes text)
{
    struct oracle *o = task->privdata;
    if (task->parent && (task->parent->parent || task->idx >= TL_RESP_VALUES_MAX))
        return;
    if (!task->parent)
        tl_buf_str(&o->out, "reply ");
    print_value(&o->out, type, integer, text);
}

static void *oracle_string(const redisReadTask *task, char *text, size_t n)
{
    enum tl_resp_type type = task->type == REDIS_REPLY_ERROR    ? TL_RESP_ERROR
                             : task->type == REDIS_REPLY_STATUS ? TL_RESP_STATUS
                                                                : TL_RESP_STRING;
    oracle_value(task, type, 0, tl_bytes(text, n));
    return task->privdata;
}

static void *oracle_array(const redisReadTask *task, int n)
{
    oracle_value(task, TL_RESP_ARRAY, n, TL_LIT(""));
    return task->privdata;
}

static void *oracle_integer(const redisReadTask *task, long long value)
{
    oracle_value(task, TL_RESP_INTEGER, value, TL_LIT(""));
    return task->privdata;
}

static void *oracle_nil(const redisReadTask *task)
{
    oracle_value(task, TL_RESP_NIL, 0, TL_LIT(""));
    return task->privdata;
}

static void oracle_free(void *reply)
{
    (void)reply;
}

static redisReplyObjectFunctions oracle_functions = {oracle_string, oracle_array, oracle_integer,
                                                     oracle_nil, oracle_free};

/* True if hiredis refuses the bytes. */
static bool run_oracle(struct oracle *o, struct tl_bytes in)
{
    redisReader *reader = redisReaderCreateWithFunctions(&oracle_functions);
    assert(reader);
    reader->privdata = o;
    void *reply = NULL;
    bool refused = in.n && redisReaderFeed(reader, (const char *)in.p, in.n) != REDIS_OK;
    do {
        reply = NULL;
        refused = refused || redisReaderGetReply(reader, &reply) != REDIS_OK;
    } while (!refused && reply);
    redisReaderFree(reader);
    return refused;
}

static bool is_ours(const char *reason)
{
    return !strcmp(reason, "an endless line") || !strcmp(reason, "an absurd bulk length") ||
           !strcmp(reason, "too many elements") || !strcmp(reason, "a bulk without its end");
}

static bool starts(const struct tl_buf *a, const struct tl_buf *prefix)
{
    return prefix->n <= a->n && (prefix->n == 0 || !memcmp(a->p, prefix->p, prefix->n));
}

static void compare_with_oracle(struct tl_bytes in, const struct tl_resp *r,
                                const struct tl_buf *ours, const char *reason)
{
    struct oracle o = {0};
    bool refused = run_oracle(&o, in);
    /* hiredis prints the beginning of a reply that never ends; ours whole ones. */
    assert(starts(&o.out, ours));
    if (reason && !is_ours(reason))
        assert(refused);
    else if (refused && !reason) /* it refuses depth before the line is whole */
        assert(r->depth == TL_RESP_DEPTH_MAX);
    tl_buf_deinit(&o.out);
}

static void on_visit(void *arg, unsigned depth, const struct tl_resp_value *value)
{
    tl_buf_printf(arg, "%u ", depth);
    assert(depth > 0 && depth <= TL_RESP_DEPTH_MAX);
    assert(value->oversize == (value->bytes.n > BULK_MAX));
    print_value(arg, value->type, value->integer, value->bytes);
}

static void compare_visits(const struct tl_resp_limits *limits, struct tl_bytes in,
                           struct tl_bytes cuts, const char *reason)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 0};
    struct tl_buf out[3] = {{0}};
    for (int i = 0; i < 3; i++) {
        struct tl_resp r;
        const char *again;
        tl_resp_init(&r, limits);
        r.visit = on_visit;
        r.visit_arg = &out[i];
        run(&r, in, pieces[i] ? tl_bytes(NULL, 0) : cuts, pieces[i], &out[i], &again);
        assert(reason == again);
        assert(tl_bytes_eq(tl_buf_bytes(&out[i]), tl_buf_bytes(&out[0])));
        tl_resp_reset(&r);
    }
    for (int i = 0; i < 3; i++)
        tl_buf_deinit(&out[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct tl_resp_limits limits = {BULK_MAX, 1 << 20, ELEMENTS_MAX, data[0] == '3'};
    size_t cuts_n = data[1] % 8 < size - 2 ? data[1] % 8 : 0;
    struct tl_bytes cuts = tl_bytes(data + 1, cuts_n + 1);
    struct tl_bytes in = tl_bytes(data + 2, size - 2);
    struct tl_resp r;
    struct tl_buf whole = {0}, bytewise = {0}, cut = {0};
    const char *reason, *again;

    tl_resp_init(&r, &limits);
    run(&r, in, tl_bytes(NULL, 0), 1, &bytewise, &again);
    tl_resp_reset(&r);
    run(&r, in, cuts, 0, &cut, &reason);
    assert(reason == again && tl_bytes_eq(tl_buf_bytes(&cut), tl_buf_bytes(&bytewise)));
    tl_resp_reset(&r);
    run(&r, in, tl_bytes(NULL, 0), SIZE_MAX, &whole, &reason);
    assert(reason == again && tl_bytes_eq(tl_buf_bytes(&whole), tl_buf_bytes(&bytewise)));
    if (!limits.resp3)
        compare_with_oracle(in, &r, &whole, reason);
    compare_visits(&limits, in, cuts, reason);

    tl_resp_reset(&r);
    tl_buf_deinit(&whole);
    tl_buf_deinit(&bytewise);
    tl_buf_deinit(&cut);
    return 0;
}
