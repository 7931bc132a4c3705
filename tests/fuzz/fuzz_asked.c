/*
 * Two lines: a Last-Event-ID, and the query of a request for several channels (the rest, line
 * breaks included). What is read is within its limits, each channel once; asked for again as we
 * would write it, it is the same; and a number comes back from its token.
 */
#include "gateway/asked.h"

#include "base/buf.h"
#include "proto/url.h"

#include <assert.h>

#define MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n);

static struct tl_asked *ask(struct tl_bytes id, struct tl_bytes query)
{
    struct tl_http1_request request = {.query = query};
    int status = 0;
    const char *error = NULL, *hint = NULL;
    if (id.n > 0)
        tl_http1_add_header(&request, TL_LIT("Last-Event-ID"), id);
    struct tl_asked *asked = tl_asked_read(&request, MAX, &status, &error, &hint);
    assert(asked || (status == 400 && error && hint));
    return asked;
}

static void check(const struct tl_asked *asked)
{
    assert(asked->n > 0 && asked->n <= MAX);
    for (size_t i = 0; i < asked->n; i++) {
        assert(asked->channels[i].name.n > 0 && asked->channels[i].name.n <= 255);
        for (size_t k = 0; k < i; k++)
            assert(!tl_bytes_eq(asked->channels[i].name, asked->channels[k].name));
    }
}

static void write_channel(struct tl_buf *out, const struct tl_asked_channel *channel)
{
    char token[TL_POSITION_TEXT_MAX];
    tl_buf_str(out, "&ch=");
    tl_url_encode(out, channel->name);
    if (!channel->resumes)
        return;
    tl_buf_str(out, "&since=");
    tl_buf_append(out, tl_bytes(token, tl_position_print(channel->position, token)));
}

static void is_the_same(const struct tl_asked *a, const struct tl_asked *b)
{
    assert(b && a->n == b->n && a->resumes == b->resumes);
    assert(a->since.epoch == b->since.epoch && a->since.at == b->since.at);
    for (size_t i = 0; i < a->n; i++) {
        const struct tl_asked_channel *x = &a->channels[i], *y = &b->channels[i];
        assert(tl_bytes_eq(x->name, y->name) && x->resumes == y->resumes);
        assert(x->position.epoch == y->position.epoch && x->position.idx == y->position.idx);
        assert(tl_entry_id_cmp(x->position.id, y->position.id) == 0);
    }
}

static void ask_again(const struct tl_asked *asked)
{
    char token[TL_SEQUENCE_TEXT_MAX];
    struct tl_buf query = {0};
    struct tl_bytes none = tl_bytes(NULL, 0);
    for (size_t i = 0; i < asked->n; i++)
        write_channel(&query, &asked->channels[i]);
    struct tl_bytes id =
        tl_bytes(token, tl_sequence_print(asked->since, asked->channels[asked->n - 1].name, token));
    struct tl_asked *again = ask(asked->resumes ? id : none, tl_buf_bytes(&query));
    is_the_same(asked, again);
    tl_asked_free(again);
    if (asked->resumes) {
        tl_buf_str(&query, "&since=");
        tl_url_encode(&query, id);
    }
    again = ask(none, tl_buf_bytes(&query));
    is_the_same(asked, again);
    tl_asked_free(again);
    tl_buf_deinit(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    struct tl_bytes all = tl_bytes(input, n);
    const uint8_t *end = n > 0 ? memchr(input, '\n', n) : NULL;
    struct tl_bytes id = end ? tl_bytes(input, (size_t)(end - input)) : tl_bytes(NULL, 0);
    struct tl_asked *asked = ask(id, end ? tl_bytes_skip(all, id.n + 1) : all);
    if (!asked)
        return 0;
    check(asked);
    ask_again(asked);
    tl_asked_free(asked);
    return 0;
}
