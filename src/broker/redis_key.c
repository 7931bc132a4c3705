#include "broker/redis_key.h"

#include "base/metrics.h"

#include <assert.h>

static struct tl_fetch *fetch_of(struct tl_list *node)
{
    return TL_CONTAINER(node, struct tl_fetch, node);
}

/* ---- sending ---- */

static uint64_t fill(struct tl_redis_link *l, struct tl_buf *out)
{
    struct tl_redis_keys *keys = TL_CONTAINER(l, struct tl_redis_keys, link);
    uint64_t n = 0;
    while (!tl_list_empty(&keys->unsent) && out->n < TL_REDIS_BATCH_BYTES) {
        struct tl_fetch *fetch = fetch_of(keys->unsent.next);
        const char *argv[] = {"GET", (const char *)fetch->key.p};
        size_t lengths[] = {3, fetch->key.n};
        if (tl_redis_link_command(out, 2, argv, lengths) < 0)
            break;
        tl_list_remove(&fetch->node);
        tl_list_append(&keys->sent, &fetch->node);
        n++;
    }
    return n;
}

/* ---- ends ---- */

static void tell(struct tl_fetch *fetch, enum tl_broker_status status)
{
    fetch->status = status;
    fetch->on_fetched(fetch);
}

static void tell_all(struct tl_redis_keys *keys, struct tl_list *list)
{
    struct tl_list *node;
    while ((node = tl_list_pop(list)) != NULL) {
        keys->waiting_n--;
        tell(fetch_of(node), TL_BROKER_DOWN);
    }
}

/* What is asked from there waits for another turn. */
static void tell_done(struct tl_redis_keys *keys)
{
    struct tl_list ended, *node;
    tl_list_init(&ended);
    tl_list_splice(&ended, &keys->done);
    while ((node = tl_list_pop(&ended)) != NULL)
        fetch_of(node)->on_fetched(fetch_of(node));
}

/* They are in order of their PINGs. */
static void tell_settled(struct tl_redis_keys *keys)
{
    const struct tl_redis_link *link = &keys->sub->link;
    while (!tl_list_empty(&keys->settling)) {
        struct tl_fetch *fetch = fetch_of(keys->settling.next);
        if (tl_redis_link_is_up(link) && (int32_t)(link->ping.answered - fetch->pong) < 0)
            return;
        tl_list_remove(&fetch->node);
        tell(fetch, TL_BROKER_OK);
    }
}

static void on_task(struct tl_task *task)
{
    struct tl_redis_keys *keys = TL_CONTAINER(task, struct tl_redis_keys, task);
    tl_redis_link_flush(&keys->link);
    tell_settled(keys);
    tell_done(keys);
}

void tl_redis_keys_fetch(struct tl_redis_keys *keys, struct tl_fetch *fetch)
{
    tl_loop_defer(keys->link.loop, &keys->task);
    if (keys->waiting_n >= TL_REDIS_FETCHES_MAX) {
        fetch->status = TL_BROKER_FULL;
        tl_list_append(&keys->done, &fetch->node);
        return;
    }
    keys->waiting_n++;
    tl_list_append(&keys->unsent, &fetch->node);
}

/* ---- answers ---- */

static enum tl_broker_status refused(struct tl_redis_keys *keys, const struct tl_fetch *fetch,
                                     const char *words)
{
    tl_redis_notice_refused(keys->notice, "GET", fetch->key, words,
                            tl_loop_now_ms(keys->link.loop));
    return TL_BROKER_FAILED;
}

static enum tl_broker_status read_value(struct tl_redis_keys *keys, struct tl_fetch *fetch,
                                        const struct tl_resp_value *value)
{
    if (value->type == TL_RESP_ERROR) {
        char words[96];
        tl_metric_add(TL_M_BROKER_REFUSALS, 1);
        (void)refused(keys, fetch,
                      tl_redis_link_words(&keys->link, value->bytes, words, sizeof words));
        return tl_bytes_starts(value->bytes, TL_LIT("NOPERM")) ? TL_BROKER_DENIED
                                                               : TL_BROKER_FAILED;
    }
    if (value->oversize || value->bytes.n > keys->link.options->max_message)
        return refused(keys, fetch, "the value is over --max-message");
    if (value->type == TL_RESP_STRING)
        fetch->on_value(fetch, value->bytes);
    return TL_BROKER_OK;
}

/* What was published before the key was read may come behind its value: the two came by links of
 * their own. An answer on the other one says that it is here. */
static void settle(struct tl_redis_keys *keys, struct tl_fetch *fetch)
{
    if (tl_redis_link_is_up(&keys->sub->link))
        fetch->pong = tl_redis_sub_ping(keys->sub);
    else
        tl_loop_defer(keys->link.loop, &keys->task);
    tl_list_append(&keys->settling, &fetch->node);
}

static const char *on_reply(struct tl_redis_link *l, const struct tl_resp *reply)
{
    struct tl_redis_keys *keys = TL_CONTAINER(l, struct tl_redis_keys, link);
    enum tl_resp_type type = reply->top.type;
    if (tl_list_empty(&keys->sent))
        return "protocol error: an answer to nothing";
    if (type != TL_RESP_STRING && type != TL_RESP_NIL && type != TL_RESP_ERROR)
        return "protocol error: not an answer to GET";
    struct tl_fetch *fetch = fetch_of(tl_list_pop(&keys->sent));
    keys->waiting_n--;
    l->answered++;
    enum tl_broker_status status = read_value(keys, fetch, &reply->top);
    if (status == TL_BROKER_OK)
        settle(keys, fetch);
    else
        tell(fetch, status);
    return NULL;
}

/* ---- the link ---- */

static void on_up(struct tl_redis_link *l)
{
    tl_loop_defer(l->loop, &TL_CONTAINER(l, struct tl_redis_keys, link)->task);
}

static void on_trouble(struct tl_redis_link *l, const char *reason, uint64_t retry_ms)
{
    struct tl_redis_keys *keys = TL_CONTAINER(l, struct tl_redis_keys, link);
    tl_redis_notice_aside(keys->notice, "reading keys", reason, retry_ms, tl_loop_now_ms(l->loop));
}

/* Reading changes nothing, so what was not answered is asked again. */
static void on_down(struct tl_redis_link *l, const char *reason)
{
    struct tl_redis_keys *keys = TL_CONTAINER(l, struct tl_redis_keys, link);
    (void)reason;
    tl_list_splice(&keys->sent, &keys->unsent);
    tl_list_splice(&keys->unsent, &keys->sent);
}

static const struct tl_redis_link_handler handler = {on_up,    on_down, on_trouble,
                                                     on_reply, fill,    NULL};

void tl_redis_keys_init(struct tl_redis_keys *keys, struct tl_loop *loop,
                        const struct tl_redis_options *options, struct tl_redis_notice *notice,
                        struct tl_redis_sub *sub)
{
    *keys = (struct tl_redis_keys){.notice = notice, .sub = sub};
    sub->ponged = &keys->task;
    tl_list_init(&keys->settling);
    tl_list_init(&keys->unsent);
    tl_list_init(&keys->sent);
    tl_list_init(&keys->done);
    tl_redis_link_init(&keys->link, loop, options, &handler, "key");
    tl_task_init(&keys->task, on_task);
}

void tl_redis_keys_stop(struct tl_redis_keys *keys)
{
    tl_redis_link_stop(&keys->link);
    tell_all(keys, &keys->sent);
    tell_all(keys, &keys->unsent);
    tell_settled(keys); /* the subscriber's link was stopped before */
    while (!tl_list_empty(&keys->done))
        tell_done(keys);
    tl_task_cancel(&keys->task);
}

void tl_redis_keys_deinit(struct tl_redis_keys *keys)
{
    assert(keys->waiting_n == 0 && tl_list_empty(&keys->settling));
    assert(tl_list_empty(&keys->done));
    tl_redis_link_deinit(&keys->link);
}
