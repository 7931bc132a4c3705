#include "broker/redis_shard.h"

#include "base/alloc.h"
#include "base/metrics.h"
#include "broker/redis_stream.h"

#include <inttypes.h>
#include <stdio.h>

#define BLOCK_MIN_MS 10

static struct tl_redis_shard *of_node(struct tl_list *l)
{
    return TL_CONTAINER(l, struct tl_redis_shard, node);
}

static struct tl_redis_stream *of_stream_node(struct tl_list *l)
{
    return TL_CONTAINER(l, struct tl_redis_stream, shard_node);
}

/* Nothing is due for it before Redis has something new. */
static bool is_read(const struct tl_redis_stream *stream)
{
    return stream->at.epoch != 0 && !stream->due && !stream->check && !stream->seek &&
           stream->in_flight == 0;
}

/* ---- waiting ---- */

static void put_id(struct tl_redis_shard *shard, struct tl_buf *out)
{
    const char *argv[] = {"CLIENT", "ID"};
    size_t lengths[] = {6, 2};
    shard->asked_id = true;
    (void)tl_redis_link_command(out, 2, argv, lengths);
}

/* Shorter than the silence that a link takes for a question: it needs no PING meanwhile. */
static uint32_t block_ms(const struct tl_redis_shard *shard)
{
    uint32_t ms = shard->link.options->ping_ms / 2;
    return ms > BLOCK_MIN_MS ? ms : BLOCK_MIN_MS;
}

static void put_read(struct tl_redis_shard *shard, struct tl_buf *out)
{
    const char *argv[6 + 2 * TL_REDIS_SHARD_STREAMS] = {"XREAD", "COUNT", "1",
                                                        "BLOCK", "",      "STREAMS"};
    size_t lengths[6 + 2 * TL_REDIS_SHARD_STREAMS] = {5, 5, 1, 5, 0, 7};
    char ids[TL_REDIS_SHARD_STREAMS][TL_ENTRY_ID_TEXT_MAX], ms[16];
    unsigned n = 0, i = 0;
    for (struct tl_list *l = shard->streams.next; l != &shard->streams; l = l->next)
        n += !of_stream_node(l)->is_odd;
    if (n == 0)
        return;
    lengths[4] = (size_t)snprintf(ms, sizeof ms, "%" PRIu32, block_ms(shard));
    argv[4] = ms;
    for (struct tl_list *l = shard->streams.next; l != &shard->streams; l = l->next) {
        const struct tl_redis_stream *stream = of_stream_node(l);
        if (stream->is_odd)
            continue;
        argv[6 + i] = (const char *)stream->name;
        lengths[6 + i] = stream->name_n;
        argv[6 + n + i] = ids[i];
        lengths[6 + n + i] = tl_entry_id_print(stream->at.id, ids[i]);
        i++;
    }
    shard->waiting = true;
    shard->unblock = false;
    (void)tl_redis_link_command(out, (int)(6 + 2 * n), argv, lengths);
}

static uint64_t fill(struct tl_redis_link *l, struct tl_buf *out)
{
    struct tl_redis_shard *shard = TL_CONTAINER(l, struct tl_redis_shard, link);
    if (!shard->asked_id) {
        put_id(shard, out);
        return 1;
    }
    if (shard->waiting || shard->streams_n == 0 || tl_timer_is_started(&shard->pause))
        return 0;
    for (struct tl_list *at = shard->streams.next; at != &shard->streams; at = at->next)
        if (!is_read(of_stream_node(at)))
            return 0; /* it would answer at once, with what is read already */
    put_read(shard, out);
    return shard->waiting;
}

static void on_visit(void *arg, unsigned depth, const struct tl_resp_value *value)
{
    struct tl_redis_shard *shard = arg;
    if (depth != 2 || value->type != TL_RESP_STRING)
        return;
    for (struct tl_list *l = shard->streams.next; l != &shard->streams; l = l->next)
        if (tl_bytes_eq(tl_redis_stream_name(of_stream_node(l)), value->bytes))
            tl_redis_stream_ring(shard->owner, of_stream_node(l));
}

static void ring_all(struct tl_redis_shard *shard, bool only_odd)
{
    for (struct tl_list *l = shard->streams.next; l != &shard->streams; l = l->next) {
        struct tl_redis_stream *stream = of_stream_node(l);
        stream->check = stream->check || stream->is_odd;
        if (!only_odd || stream->is_odd)
            tl_redis_stream_ring(shard->owner, stream);
    }
}

static void on_waited(struct tl_redis_shard *shard, const struct tl_resp *reply)
{
    bool failed = reply->top.type == TL_RESP_ERROR;
    if (failed) { /* and would again, at once */
        tl_redis_streams_note_denied(shard->owner, reply->top.bytes);
        tl_loop_timer_start(shard->link.loop, &shard->pause, block_ms(shard));
    }
    /* One key that is no stream spoils it for all: it is found by looking at each. */
    ring_all(shard, !failed);
}

static const char *on_reply(struct tl_redis_link *l, const struct tl_resp *reply)
{
    struct tl_redis_shard *shard = TL_CONTAINER(l, struct tl_redis_shard, link);
    l->answered++;
    if (!shard->waiting) {
        shard->client_id = reply->top.type == TL_RESP_INTEGER ? reply->top.integer : 0;
    } else {
        shard->waiting = false;
        on_waited(shard, reply);
    }
    tl_loop_defer(l->loop, &shard->task);
    return NULL;
}

static void on_task(struct tl_task *task)
{
    struct tl_redis_shard *shard = TL_CONTAINER(task, struct tl_redis_shard, task);
    tl_redis_link_flush(&shard->link);
}

static void on_pause_over(struct tl_timer *timer)
{
    struct tl_redis_shard *shard = TL_CONTAINER(timer, struct tl_redis_shard, pause);
    tl_redis_link_flush(&shard->link);
}

/* ---- the link ---- */

static void on_up(struct tl_redis_link *l)
{
    struct tl_redis_shard *shard = TL_CONTAINER(l, struct tl_redis_shard, link);
    shard->asked_id = shard->waiting = false;
    shard->client_id = 0;
    ring_all(shard, false);
    tl_loop_defer(l->loop, &shard->task);
}

/* The links that read and subscribe say it, when it is Redis that is gone. */
static void on_trouble(struct tl_redis_link *l, const char *reason, uint64_t retry_ms)
{
    (void)l;
    (void)reason;
    (void)retry_ms;
}

static void on_down(struct tl_redis_link *l, const char *reason)
{
    (void)l;
    (void)reason;
}

static const struct tl_redis_link_handler handler = {on_up,    on_down, on_trouble,
                                                     on_reply, fill,    NULL};

/* ---- which stream is where ---- */

static struct tl_redis_shard *shard_new(struct tl_redis_streams *s)
{
    struct tl_redis_shard *shard = tl_zalloc(sizeof *shard);
    if (!shard) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return NULL;
    }
    shard->owner = s;
    tl_list_init(&shard->streams);
    tl_task_init(&shard->task, on_task);
    tl_timer_init(&shard->pause, on_pause_over);
    tl_redis_link_init(&shard->link, s->loop, s->options, &handler, "shard");
    shard->link.resp.limits.elements_max = 64 * TL_REDIS_SHARD_STREAMS;
    shard->link.resp.visit = on_visit;
    shard->link.resp.visit_arg = shard;
    tl_list_append(&s->shards.list, &shard->node);
    tl_redis_link_start(&shard->link);
    return shard;
}

void tl_redis_shards_add(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    struct tl_redis_shard *shard = NULL;
    if (stream->shard)
        return;
    for (struct tl_list *l = s->shards.list.next; l != &s->shards.list && !shard; l = l->next)
        if (of_node(l)->streams_n < TL_REDIS_SHARD_STREAMS)
            shard = of_node(l);
    if (!shard)
        shard = shard_new(s);
    if (!shard)
        return; /* it is tried again with the next look */
    stream->shard = shard;
    shard->streams_n++;
    tl_list_append(&shard->streams, &stream->shard_node);
    shard->unblock = shard->waiting;
    tl_loop_defer(s->loop, &s->task);
}

void tl_redis_shards_remove(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    (void)s;
    if (!stream->shard)
        return;
    stream->shard->streams_n--;
    stream->shard = NULL;
    tl_list_remove(&stream->shard_node);
}

static void watch(struct tl_map_node *node, void *arg)
{
    struct tl_redis_streams *s = arg;
    struct tl_redis_stream *stream = TL_CONTAINER(node, struct tl_redis_stream, node);
    if (s->has_bells) {
        tl_redis_shards_remove(s, stream);
        stream->check = true;
    } else {
        /* It may be a stream again; and no doorbell tells what was deleted before it was read. */
        stream->check = stream->check || stream->is_odd || stream->uncounted;
        tl_redis_shards_add(s, stream);
    }
    tl_redis_stream_ring(s, stream);
}

void tl_redis_shards_watch_all(struct tl_redis_streams *s)
{
    tl_map_each(&s->map, watch, s);
}

void tl_redis_shards_read(struct tl_redis_stream *stream)
{
    if (stream->shard)
        tl_loop_defer(stream->shard->link.loop, &stream->shard->task);
}

uint64_t tl_redis_shards_fill(struct tl_redis_streams *s, struct tl_buf *out)
{
    uint64_t n = 0;
    for (struct tl_list *l = s->shards.list.next; l != &s->shards.list; l = l->next) {
        struct tl_redis_shard *shard = of_node(l);
        char id[24];
        if (!shard->unblock || !shard->waiting || shard->client_id == 0)
            continue;
        struct tl_redis_command *command = tl_redis_command_new(s, TL_REDIS_UNBLOCK, 0);
        if (!command)
            return n; /* it ends by itself, a moment later */
        shard->unblock = false;
        size_t lengths[] = {6, 7, (size_t)snprintf(id, sizeof id, "%" PRId64, shard->client_id)};
        (void)tl_redis_link_command(out, 3, (const char *[]){"CLIENT", "UNBLOCK", id}, lengths);
        n++;
    }
    return n;
}

/* ---- life ---- */

void tl_redis_shards_init(struct tl_redis_streams *s)
{
    tl_list_init(&s->shards.list);
}

void tl_redis_shards_stop(struct tl_redis_streams *s)
{
    for (struct tl_list *l = s->shards.list.next; l != &s->shards.list; l = l->next) {
        tl_task_cancel(&of_node(l)->task);
        tl_timer_stop(tl_loop_timers(of_node(l)->link.loop), &of_node(l)->pause);
        tl_redis_link_stop(&of_node(l)->link);
    }
}

void tl_redis_shards_deinit(struct tl_redis_streams *s)
{
    struct tl_list *l;
    while ((l = tl_list_pop(&s->shards.list))) {
        tl_redis_link_deinit(&of_node(l)->link);
        tl_free(of_node(l));
    }
}
