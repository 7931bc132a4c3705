/*
 * The doorbell where Redis sends no keyspace notifications: XREAD BLOCK on links of their own, a
 * few hundred streams each, because a wake-up costs Redis time for each stream that is waited for.
 * What it answers rings only; the reading is done as ever (redis_stream.h).
 */
#ifndef TL_BROKER_REDIS_SHARD_H
#define TL_BROKER_REDIS_SHARD_H

#include "broker/redis_link.h"

#define TL_REDIS_SHARD_STREAMS 250 /* names and ids fit one command */

struct tl_redis_stream;
struct tl_redis_streams;

struct tl_redis_shard {
    struct tl_list node;
    struct tl_redis_streams *owner;
    struct tl_redis_link link;
    struct tl_task task;
    struct tl_list streams;
    unsigned streams_n;
    int64_t client_id; /* 0: not known */
    bool asked_id;
    bool waiting;          /* for the answer of an XREAD, which Redis may hold back */
    struct tl_timer pause; /* after an error, which comes at once */
    bool unblock;          /* who was added meanwhile is not among those waited for */
};

struct tl_redis_shards {
    struct tl_list list;
};

void tl_redis_shards_init(struct tl_redis_streams *s);
/* Watch the stream from its place on. Without memory its link is made later, by the next one. */
void tl_redis_shards_add(struct tl_redis_streams *s, struct tl_redis_stream *stream);
/* Of no effect on one that is not watched. */
void tl_redis_shards_remove(struct tl_redis_streams *s, struct tl_redis_stream *stream);
/* After s->has_bells changed: watch all streams, or none; all are read once. */
void tl_redis_shards_watch_all(struct tl_redis_streams *s);
/* The stream was read: its shard may wait for it again. */
void tl_redis_shards_read(struct tl_redis_stream *stream);
/* Append what the reading link is to say to Redis about them; how many answers are due. */
uint64_t tl_redis_shards_fill(struct tl_redis_streams *s, struct tl_buf *out);
void tl_redis_shards_stop(struct tl_redis_streams *s);
/* After stop, and the loop's next turn. */
void tl_redis_shards_deinit(struct tl_redis_streams *s);

#endif
