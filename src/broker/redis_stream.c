#include "broker/redis_stream.h"

#include "base/alloc.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "broker/redis_seek.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <xxhash.h>

/* Values of one answer: some hundred entries of some dozen streams, with a field or two. */
#define ANSWER_VALUES (1u << 24)
/* What payloads are taken to have before one was seen. */
#define PAYLOAD_GUESS ((size_t)16 << 10)
/* Values of one answer: that many entries of that many streams, with a field or two. */
#define ANSWER_VALUES (1u << 24)

static struct tl_redis_streams *of_link(struct tl_redis_link *l)
{
    return TL_CONTAINER(l, struct tl_redis_streams, link);
}

static struct tl_redis_stream *find(const struct tl_redis_streams *s, struct tl_bytes name)
{
    struct tl_map_node *node = tl_map_find(&s->map, name);
    return node ? TL_CONTAINER(node, struct tl_redis_stream, node) : NULL;
}

static struct tl_bytes node_key(const struct tl_map_node *node)
{
    return tl_redis_stream_name(TL_CONTAINER(node, const struct tl_redis_stream, node));
}

/* All gateways on this server process must come to the same. */
uint64_t tl_redis_stream_epoch(const struct tl_redis_streams *s, struct tl_bytes name)
{
    uint64_t seed = XXH64(s->run_id, strlen(s->run_id), 0);
    uint64_t epoch = XXH64(name.p, name.n, seed);
    return epoch ? epoch : 1;
}

/* ---- the doorbell ---- */

/* What Redis calls the notifications of a key. */
static struct tl_bytes bell_name(const struct tl_redis_streams *s, struct tl_bytes name,
                                 char out[TL_REDIS_BELL_NAME_MAX])
{
    int n = snprintf(out, TL_REDIS_BELL_NAME_MAX, "__keyspace@%u__:", s->options->db);
    assert(n > 0 && (size_t)n + name.n <= TL_REDIS_BELL_NAME_MAX);
    memcpy(out + n, name.p, name.n);
    return tl_bytes(out, (size_t)n + name.n);
}

static struct tl_bytes key_of_bell(struct tl_bytes name)
{
    const uint8_t *colon = memchr(name.p, ':', name.n);
    return colon ? tl_bytes_skip(name, (size_t)(colon - name.p) + 1) : name;
}

void tl_redis_stream_ring(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    stream->due = true;
    if (stream->dropped || stream->in_flight > 0 || !stream->confirmed || !s->up)
        return;
    if (tl_list_empty(&stream->queue))
        tl_list_append(&s->queue, &stream->queue);
    tl_loop_defer(s->loop, &s->task);
}

static struct tl_redis_streams *of_bell(void *hub)
{
    return hub;
}

static bool on_bell(void *hub, enum tl_source_kind kind, struct tl_bytes source,
                    struct tl_bytes name, struct tl_bytes event)
{
    struct tl_redis_streams *s = of_bell(hub);
    struct tl_redis_stream *stream = find(s, key_of_bell(source));
    (void)kind;
    (void)name;
    if (!stream)
        return true;
    /* What may have changed more than the end. */
    if (!tl_bytes_eq(event, TL_LIT("xadd")) && !tl_bytes_eq(event, TL_LIT("xtrim")))
        stream->check = true;
    tl_redis_stream_ring(s, stream);
    return true;
}

static void on_bell_dropped(void *hub, enum tl_source_kind kind, struct tl_bytes source)
{
    on_bell(hub, kind, source, source, source);
}

static void on_bell_subscribed(void *hub, enum tl_source_kind kind, struct tl_bytes source,
                               enum tl_broker_status status, const char *reason)
{
    struct tl_redis_streams *s = of_bell(hub);
    struct tl_redis_stream *stream = find(s, key_of_bell(source));
    (void)kind;
    (void)reason;
    if (!stream)
        return;
    if (status != TL_BROKER_OK && s->has_bells) {
        tl_logger(TL_INFO, "keyspace notifications are forbidden: streams are read blocking");
        s->has_bells = false;
        s->no_bells = true;
        tl_redis_shards_watch_all(s);
    }
    stream->confirmed = true;
    if (!s->has_bells)
        tl_redis_shards_add(s, stream);
    tl_redis_stream_ring(s, stream);
}

static void on_bell_unsubscribed(void *hub, enum tl_source_kind kind, struct tl_bytes source)
{
    struct tl_redis_streams *s = of_bell(hub);
    (void)kind;
    s->broker->events->on_unsubscribed(s->broker->hub, TL_SOURCE_STREAM, key_of_bell(source));
}

/* ---- what the hub follows ---- */

static void free_if_over(struct tl_redis_stream *stream)
{
    if (!stream->dropped || stream->in_flight > 0)
        return;
    tl_redis_seek_free(stream->seek);
    tl_free(stream);
}

static void drop(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    tl_map_remove(&s->map, &stream->node);
    tl_list_remove(&stream->queue);
    tl_redis_shards_remove(s, stream);
    stream->dropped = true;
    free_if_over(stream);
}

int tl_redis_streams_follow(struct tl_redis_streams *s, struct tl_bytes name,
                            const struct tl_stream_rule *rule, const struct tl_stream_place *held)
{
    char bell[TL_REDIS_BELL_NAME_MAX];
    if (!s->up)
        return 0;
    assert(!find(s, name));
    struct tl_redis_stream *stream = tl_zalloc(sizeof *stream + name.n);
    if (!stream)
        return -ENOMEM;
    stream->rule = rule;
    stream->at = *held;
    stream->check = true;
    stream->payload_bytes = s->payload_bytes;
    stream->name_n = (uint8_t)name.n;
    memcpy(stream->name, name.p, name.n);
    tl_list_init(&stream->queue);
    tl_list_init(&stream->shard_node);
    tl_map_add(&s->map, &stream->node);
    tl_redis_sub_request(&s->bell, true, TL_SOURCE_CHANNEL, bell_name(s, name, bell));
    return 0;
}

void tl_redis_stream_give_up(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    (void)tl_redis_streams_unfollow(s, tl_redis_stream_name(stream));
}

int tl_redis_streams_unfollow(struct tl_redis_streams *s, struct tl_bytes name)
{
    char bell[TL_REDIS_BELL_NAME_MAX];
    struct tl_redis_stream *stream = find(s, name);
    if (stream)
        drop(s, stream);
    if (s->up)
        tl_redis_sub_request(&s->bell, false, TL_SOURCE_CHANNEL, bell_name(s, name, bell));
    return 0;
}

int tl_redis_streams_seek(struct tl_redis_streams *s, struct tl_bytes name, struct tl_entry_id from,
                          struct tl_entry_id to, uint64_t msgs_max, uint64_t bytes_max)
{
    struct tl_redis_stream *stream = find(s, name);
    if (!s->up || !stream)
        return 0;
    assert(!stream->seek);
    stream->seek = tl_redis_seek_new(from, to, msgs_max, bytes_max);
    if (!stream->seek)
        return -ENOMEM;
    stream->seek->ended = tl_entry_id_cmp(from, to) > 0; /* nothing older is wanted */
    stream->check = true;
    tl_redis_stream_ring(s, stream);
    return 0;
}

static void on_task(struct tl_task *task)
{
    tl_redis_link_flush(&TL_CONTAINER(task, struct tl_redis_streams, task)->link);
}

/* ---- answers ---- */

static void end_command(struct tl_redis_streams *s, struct tl_redis_command *command)
{
    tl_list_remove(&command->node);
    for (uint32_t i = 0; i < command->n; i++) {
        struct tl_redis_stream *stream = command->streams[i];
        stream->in_flight--;
        tl_redis_shards_read(stream);
        if (!stream->dropped && (stream->due || stream->check || stream->seek))
            tl_redis_stream_ring(s, stream);
        free_if_over(stream);
    }
    tl_free(command);
    if (s->read_bytes < TL_REDIS_READ_BYTES)
        tl_loop_defer(s->loop, &s->task); /* the next one waited for this */
}

/* It lives and has no data to show: what it shows later may be less. */
static bool is_away(const struct tl_resp *reply)
{
    return reply->top.type == TL_RESP_ERROR &&
           (tl_bytes_starts(reply->top.bytes, TL_LIT("LOADING")) ||
            tl_bytes_starts(reply->top.bytes, TL_LIT("MASTERDOWN")));
}

static const char *on_reply(struct tl_redis_link *l, const struct tl_resp *reply)
{
    struct tl_redis_streams *s = of_link(l);
    if (tl_list_empty(&s->commands))
        return "protocol error: an answer to nothing";
    struct tl_redis_command *command =
        TL_CONTAINER(s->commands.next, struct tl_redis_command, node);
    if (is_away(reply))
        return "it serves no data now (LOADING or MASTERDOWN)";
    l->answered++;
    bool is_last = --command->replies_left == 0;
    tl_redis_stream_answered(s, command, reply);
    if (!is_last)
        return NULL;
    s->answer = (struct tl_redis_answer){0};
    /* Events may have made the link go down, and with it all commands. */
    if (!tl_list_empty(&s->commands) && s->commands.next == &command->node)
        end_command(s, command);
    return NULL;
}

/* ---- links ---- */

/* Both links and what is known of Redis make it whole. */
static void update(struct tl_redis_streams *s)
{
    bool up = tl_redis_link_is_up(&s->link) && tl_redis_link_is_up(&s->bell.link) && s->looked;
    if (up == s->up)
        return;
    s->up = up;
    s->broker->events->on_link(s->broker->hub, TL_SOURCE_STREAM, up, "");
}

static void drop_node(struct tl_map_node *node, void *arg)
{
    drop(arg, TL_CONTAINER(node, struct tl_redis_stream, node));
}

static void forget_all(struct tl_redis_streams *s)
{
    struct tl_list *l;
    s->looked = s->no_bells = false;
    tl_timer_stop(tl_loop_timers(s->loop), &s->look_timer);
    while ((l = tl_list_pop(&s->commands))) {
        struct tl_redis_command *command = TL_CONTAINER(l, struct tl_redis_command, node);
        for (uint32_t i = 0; i < command->n; i++) {
            command->streams[i]->in_flight--;
            free_if_over(command->streams[i]);
        }
        tl_free(command);
    }
    s->answer = (struct tl_redis_answer){0};
    tl_map_each(&s->map, drop_node, s);
}

/* One of the two is lost: what was confirmed on the other is worth nothing without it. */
static void lose_all(struct tl_redis_streams *s, const char *reason)
{
    forget_all(s);
    update(s);
    tl_redis_link_lose(&s->link, reason);
    tl_redis_link_lose(&s->bell.link, reason);
}

static void on_bell_link(void *hub, enum tl_source_kind kind, bool up, const char *reason)
{
    struct tl_redis_streams *s = of_bell(hub);
    (void)kind;
    if (up)
        update(s);
    else
        lose_all(s, reason);
}

static const struct tl_broker_events bell_events = {
    .on_link = on_bell_link,
    .on_subscribed = on_bell_subscribed,
    .on_unsubscribed = on_bell_unsubscribed,
    .on_message = on_bell,
    .on_dropped = on_bell_dropped,
};

static void on_up(struct tl_redis_link *l)
{
    struct tl_redis_streams *s = of_link(l);
    tl_redis_notice_up(&s->notice, TL_REDIS_PUB, tl_loop_now_ms(l->loop));
    s->looked = false;
    tl_loop_defer(s->loop, &s->task);
}

static void on_trouble(struct tl_redis_link *l, const char *reason, uint64_t retry_ms)
{
    tl_redis_notice_down(&of_link(l)->notice, TL_REDIS_PUB, reason, retry_ms,
                         tl_loop_now_ms(l->loop));
}

/* Redis cuts off who it owes more than client-output-buffer-limit allows, and says so in its own
 * log only: where that may be it, less is asked for, until it comes through. */
static void on_down(struct tl_redis_link *l, const char *reason)
{
    struct tl_redis_streams *s = of_link(l);
    if (!tl_list_empty(&s->commands))
        s->read_bytes /= 4;
    lose_all(s, reason);
}

static uint64_t fill(struct tl_redis_link *l, struct tl_buf *out)
{
    return tl_redis_stream_fill(of_link(l), out);
}

static const struct tl_redis_link_handler handler = {on_up,    on_down, on_trouble,
                                                     on_reply, fill,    NULL};

/* Whether notifications were switched on or off meanwhile. */
static void on_look(struct tl_timer *timer)
{
    struct tl_redis_streams *s = TL_CONTAINER(timer, struct tl_redis_streams, look_timer);
    s->look_due = true;
    tl_loop_timer_start(s->loop, &s->look_timer, TL_REDIS_LOOK_MS);
    tl_redis_link_flush(&s->link);
}

void tl_redis_streams_looked(struct tl_redis_streams *s, bool has_bells)
{
    has_bells = has_bells && !s->no_bells;
    bool first = !s->looked, changed = first || has_bells != s->has_bells;
    bool is_news = !s->was_looked || has_bells != s->has_bells;
    s->looked = s->was_looked = true;
    s->has_bells = has_bells;
    if (is_news)
        tl_logger(TL_INFO, has_bells ? "streams are read when keyspace notifications say so"
                                     : "no keyspace notifications (notify-keyspace-events Kgt): "
                                       "streams are read blocking, which costs Redis more");
    if (first) {
        tl_loop_timer_start(s->loop, &s->look_timer, TL_REDIS_LOOK_MS);
        update(s);
    } else if (changed || !has_bells) {
        tl_redis_shards_watch_all(s); /* again, for those that found no memory */
    }
}

void tl_redis_streams_note_denied(struct tl_redis_streams *s, struct tl_bytes error)
{
    static const char word[] = "command";
    char words[96];
    if (!tl_bytes_starts(error, TL_LIT("NOPERM")) ||
        !memmem(error.p, error.n, word, sizeof word - 1))
        return;
    tl_redis_link_words(&s->link, error, words, sizeof words);
    tl_redis_notice_refused(&s->notice, "reading", TL_LIT("streams"), words,
                            tl_loop_now_ms(s->loop));
}

static void ring(struct tl_map_node *node, void *arg)
{
    tl_redis_stream_ring(arg, TL_CONTAINER(node, struct tl_redis_stream, node));
}

void tl_redis_streams_ring_all(struct tl_redis_streams *s)
{
    tl_map_each(&s->map, ring, s);
}

/* ---- life ---- */

int tl_redis_streams_init(struct tl_redis_streams *s, struct tl_broker *broker,
                          struct tl_loop *loop, const struct tl_redis_options *options,
                          const char *address)
{
    char text[160];
    *s = (struct tl_redis_streams){.broker = broker, .loop = loop, .options = options};
    s->read_bytes = TL_REDIS_READ_BYTES;
    s->payload_bytes = PAYLOAD_GUESS;
    s->bell_broker = (struct tl_broker){.events = &bell_events, .hub = s};
    snprintf(text, sizeof text, "%.140s (streams)", address);
    tl_redis_notice_init(&s->notice, text, tl_loop_now_ms(loop));
    tl_redis_sub_init(&s->bell, &s->bell_broker, loop, options, &s->notice);
    tl_redis_link_init(&s->link, loop, options, &handler, "streams");
    s->link.resp.limits.elements_max = ANSWER_VALUES;
    s->link.resp.visit = tl_redis_stream_visit;
    s->link.resp.visit_arg = s;
    tl_task_init(&s->task, on_task);
    tl_timer_init(&s->look_timer, on_look);
    tl_list_init(&s->queue);
    tl_list_init(&s->commands);
    tl_redis_shards_init(s);
    return tl_map_init(&s->map, node_key);
}

void tl_redis_streams_start(struct tl_redis_streams *s)
{
    tl_redis_link_start(&s->link);
    tl_redis_link_start(&s->bell.link);
}

void tl_redis_streams_stop(struct tl_redis_streams *s)
{
    tl_task_cancel(&s->task);
    tl_redis_sub_stop(&s->bell);
    tl_redis_link_stop(&s->link);
    forget_all(s);
    tl_redis_shards_stop(s);
    s->up = false;
}

void tl_redis_streams_deinit(struct tl_redis_streams *s)
{
    tl_redis_shards_deinit(s);
    tl_redis_sub_deinit(&s->bell);
    tl_redis_link_deinit(&s->link);
    tl_map_deinit(&s->map);
}
