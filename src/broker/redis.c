#include "broker/redis.h"

#include "base/alloc.h"
#include "base/metrics.h"
#include "broker/redis_key.h"
#include "broker/redis_pub.h"
#include "broker/redis_stream.h"
#include "broker/redis_sub.h"

#include <assert.h>
#include <stdio.h>

struct redis {
    struct tl_broker broker;
    struct tl_redis_options options; /* strings owned */
    char *host, *unix_path, *user, *password;
    struct tl_redis_notice notice;
    struct tl_redis_sub sub;
    struct tl_redis_pub pub;
    struct tl_redis_streams streams; /* with options.streams */
    struct tl_redis_keys keys;       /* with options.keys */
};

static struct redis *redis_of(struct tl_broker *b)
{
    return TL_CONTAINER(b, struct redis, broker);
}

/* Without memory the link is lost, which the hub hears of. */
static int subscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    tl_redis_sub_request(&redis_of(b)->sub, true, kind, name);
    return 0;
}

static int unsubscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    if (kind == TL_SOURCE_STREAM)
        return tl_redis_streams_unfollow(&redis_of(b)->streams, name);
    tl_redis_sub_request(&redis_of(b)->sub, false, kind, name);
    return 0;
}

static int follow(struct tl_broker *b, struct tl_bytes name, const struct tl_stream_rule *rule,
                  const struct tl_stream_place *held)
{
    return tl_redis_streams_follow(&redis_of(b)->streams, name, rule, held);
}

static int seek(struct tl_broker *b, struct tl_bytes name, struct tl_entry_id from,
                struct tl_entry_id to, uint64_t msgs_max, uint64_t bytes_max)
{
    return tl_redis_streams_seek(&redis_of(b)->streams, name, from, to, msgs_max, bytes_max);
}

static void publish(struct tl_broker *b, struct tl_publish *p)
{
    tl_redis_pub_publish(&redis_of(b)->pub, p);
}

static void fetch(struct tl_broker *b, struct tl_fetch *f)
{
    tl_redis_keys_fetch(&redis_of(b)->keys, f);
}

static bool is_up(const struct tl_broker *b)
{
    const struct redis *r = (const struct redis *)(const void *)b; /* its first member */
    return tl_redis_link_is_up(&r->sub.link) && tl_redis_link_is_up(&r->pub.link) &&
           (!r->options.streams || r->streams.up);
}

static void stop(struct tl_broker *b)
{
    tl_redis_sub_stop(&redis_of(b)->sub);
    tl_redis_pub_stop(&redis_of(b)->pub);
    if (redis_of(b)->options.streams)
        tl_redis_streams_stop(&redis_of(b)->streams);
    if (redis_of(b)->options.keys)
        tl_redis_keys_stop(&redis_of(b)->keys);
    tl_metric_set(TL_M_BROKER_UP, 0);
}

static void free_options(struct redis *r)
{
    if (r->password) /* volatile: memory that is freed next must still be wiped */
        for (volatile char *c = r->password; *c; c++)
            *c = 0;
    tl_free(r->host);
    tl_free(r->unix_path);
    tl_free(r->user);
    tl_free(r->password);
}

static void redis_free(struct tl_broker *b)
{
    if (!b)
        return;
    struct redis *r = redis_of(b);
    tl_redis_sub_deinit(&r->sub);
    tl_redis_pub_deinit(&r->pub);
    if (r->options.streams)
        tl_redis_streams_deinit(&r->streams);
    if (r->options.keys)
        tl_redis_keys_deinit(&r->keys);
    free_options(r);
    tl_free(r);
}

static const struct tl_broker_ops ops = {
    .name = "redis",
    .subscribe = subscribe,
    .unsubscribe = unsubscribe,
    .follow = follow,
    .seek = seek,
    .publish = publish,
    .fetch = fetch,
    .is_up = is_up,
    .stop = stop,
    .free = redis_free,
};

/* False: no memory. */
static bool copy_text(const char *from, char **to, const char **option)
{
    if (!from)
        return true;
    *to = (char *)tl_alloc_copy(tl_bytes_str(from));
    *option = *to;
    return *to != NULL;
}

static void put_defaults(struct tl_redis_options *o)
{
    o->max_message = o->max_message ? o->max_message : TL_REDIS_MESSAGE_BYTES_MAX;
    o->ping_ms = o->ping_ms ? o->ping_ms : TL_REDIS_PING_MS;
    o->dead_ms = o->dead_ms ? o->dead_ms : TL_REDIS_DEAD_MS;
    o->dial_timeout_ms = o->dial_timeout_ms ? o->dial_timeout_ms : TL_REDIS_DIAL_TIMEOUT_MS;
    o->auth_retry_ms = o->auth_retry_ms ? o->auth_retry_ms : TL_REDIS_AUTH_RETRY_MS;
    assert(o->dead_ms > o->ping_ms);
}

static bool copy_options(struct redis *r, const struct tl_redis_options *o)
{
    r->options = *o;
    put_defaults(&r->options);
    return copy_text(o->host, &r->host, &r->options.host) &&
           copy_text(o->unix_path, &r->unix_path, &r->options.unix_path) &&
           copy_text(o->user, &r->user, &r->options.user) &&
           copy_text(o->password, &r->password, &r->options.password);
}

static void name_address(const struct tl_redis_options *o, char *out, size_t out_n)
{
    if (o->unix_path)
        snprintf(out, out_n, "%s", o->unix_path);
    else
        snprintf(out, out_n, strchr(o->host, ':') ? "[%s]:%u" : "%s:%u", o->host, o->port);
}

struct tl_broker *tl_redis_new(struct tl_loop *loop, const struct tl_redis_options *options)
{
    assert(options->host || options->unix_path);
    char address[160];
    struct redis *r = tl_zalloc(sizeof *r);
    if (!r)
        return NULL;
    r->broker = (struct tl_broker){.ops = &ops};
    bool ok = copy_options(r, options);
    if (ok)
        name_address(&r->options, address, sizeof address);
    if (!ok || (options->streams &&
                tl_redis_streams_init(&r->streams, &r->broker, loop, &r->options, address) < 0)) {
        free_options(r);
        tl_free(r);
        return NULL;
    }
    tl_redis_notice_init(&r->notice, address, tl_loop_now_ms(loop));
    tl_redis_sub_init(&r->sub, &r->broker, loop, &r->options, &r->notice);
    tl_redis_pub_init(&r->pub, &r->broker, loop, &r->options, &r->notice);
    tl_redis_link_start(&r->sub.link);
    tl_redis_link_start(&r->pub.link);
    if (r->options.keys) {
        tl_redis_keys_init(&r->keys, loop, &r->options, &r->notice, &r->sub);
        tl_redis_link_start(&r->keys.link);
    }
    if (r->options.streams)
        tl_redis_streams_start(&r->streams);
    return &r->broker;
}
