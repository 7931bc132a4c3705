/*
 * The broker's part that follows Redis Streams. One link reads, whatever the number of clients: a
 * stream is read when its doorbell rang, which is a keyspace notification on a link of its own, or,
 * where Redis sends none, a blocking XREAD of a shard of streams (redis_shard.h). After each new
 * link, and whenever a read cannot prove that nothing was cut away, the stream's own counts are
 * compared with what the hub has (redis_stream_read.c). It keeps places, never messages.
 */
#ifndef TL_BROKER_REDIS_STREAM_H
#define TL_BROKER_REDIS_STREAM_H

#include "base/map.h"
#include "broker/redis_link.h"
#include "broker/redis_notice.h"
#include "broker/redis_shard.h"
#include "broker/redis_sub.h"

#define TL_REDIS_READ_STREAMS 64 /* read by one XREAD at most */
#define TL_REDIS_LOOK_MS      5000
/* About what one answer may have. */
#define TL_REDIS_READ_BYTES    ((size_t)1 << 20)
#define TL_REDIS_BELL_NAME_MAX 300

/* A stream that the hub follows. */
struct tl_redis_stream {
    struct tl_map_node node;
    struct tl_list queue; /* of those to be read */
    struct tl_list shard_node;
    struct tl_redis_shard *shard; /* or NULL */
    const struct tl_stream_rule *rule;
    struct tl_stream_place at; /* where reading stands; epoch 0: nowhere yet */
    struct tl_redis_seek *seek;
    size_t payload_bytes; /* about what the last ones had */
    uint32_t in_flight;   /* commands that name it */
    bool is_entry;        /* that is an entry which was there, and not only an id */
    bool confirmed;       /* its doorbell is */
    bool told;            /* the hub was told that it is subscribed */
    bool check;           /* the next read compares counts */
    bool uncounted;       /* it was read since the last one that did */
    bool due;             /* there may be more to read */
    bool is_odd;          /* its key is no stream */
    bool dropped;         /* the hub does not follow it any more */
    uint8_t name_n;
    uint8_t name[];
};

enum tl_redis_command_kind {
    TL_REDIS_ASK_INFO,   /* INFO server, for the run id */
    TL_REDIS_ASK_CONFIG, /* CONFIG GET notify-keyspace-events */
    TL_REDIS_ASK_ROLE,   /* INFO replication */
    TL_REDIS_READ,       /* XREAD of streams[0..n) */
    TL_REDIS_CHECK,      /* MULTI, XINFO STREAM, XRANGE, EXEC of streams[0] */
    TL_REDIS_SEEK,       /* XREVRANGE of streams[0] */
    TL_REDIS_SEEK_INFO,  /* XINFO STREAM of streams[0] */
    TL_REDIS_UNBLOCK,    /* CLIENT UNBLOCK of a shard */
};

/* A command whose answers are due, in order of sending. */
struct tl_redis_command {
    struct tl_list node;
    enum tl_redis_command_kind kind;
    uint8_t replies_left;
    uint32_t count; /* entries asked for, of each stream */
    uint32_t n;
    struct tl_redis_stream *streams[];
};

/* What XINFO STREAM says. */
struct tl_redis_stream_info {
    bool is_there;
    bool counts; /* it has entries-added, as from Redis 7.0 on */
    struct tl_entry_id first, last, deleted;
    uint64_t length, added;
};

/* Where the answer that is being read stands. */
struct tl_redis_answer {
    struct tl_redis_stream *stream; /* whose entries these are; NULL: nobody's */
    uint32_t stream_i;              /* of the command's */
    uint32_t entries_n;             /* so far, of this stream */
    uint32_t fields_left;           /* names and values of the open entry */
    struct tl_entry_id id;          /* of the open entry */
    bool has_id;
    bool is_field;  /* the next value is a payload */
    bool has_field; /* the open entry had one */
    bool held_seen; /* the entry that the hub has was the first */
    bool settled;   /* of CHECK: continuity was decided */
    bool ignore;    /* the entries belong to a stream that is no more */
    bool failed;    /* an error stood for a part of it */
    char words[96]; /* which one */
    bool has_bells; /* of CONFIG */
    unsigned info_i;
    char info_key[32];
    struct tl_redis_stream_info info;
};

struct tl_redis_streams {
    struct tl_broker *broker; /* its events are called */
    struct tl_loop *loop;
    const struct tl_redis_options *options;
    struct tl_redis_notice notice;
    struct tl_broker bell_broker; /* what the doorbell's link takes for one */
    struct tl_redis_sub bell;
    struct tl_redis_link link;
    struct tl_task task;
    struct tl_timer look_timer; /* are there notifications still? is it a replica? */
    struct tl_map map;
    struct tl_list queue;    /* streams to be read */
    struct tl_list commands; /* sent */
    struct tl_redis_shards shards;
    struct tl_redis_answer answer;
    char run_id[44];
    size_t read_bytes;    /* of one answer; less after it was cut off, and then one at a time */
    size_t payload_bytes; /* about what the last ones had, of whichever stream */
    bool has_bells;       /* Redis sends notifications */
    bool no_bells;        /* and may not send them to us, as it said on this link */
    bool look_due;        /* ask again whether it does */
    bool was_looked;      /* of any link: it was said */
    bool looked;          /* that, and the run id, is known of this link */
    bool up;              /* as the hub was told */
};

/* 0 or -ENOMEM. Nothing happens before tl_redis_streams_start(). */
TL_MUST_USE int tl_redis_streams_init(struct tl_redis_streams *s, struct tl_broker *broker,
                                      struct tl_loop *loop, const struct tl_redis_options *options,
                                      const char *address);
void tl_redis_streams_start(struct tl_redis_streams *s);
/* As the ops of broker/broker.h. */
int tl_redis_streams_follow(struct tl_redis_streams *s, struct tl_bytes name,
                            const struct tl_stream_rule *rule, const struct tl_stream_place *held);
int tl_redis_streams_unfollow(struct tl_redis_streams *s, struct tl_bytes name);
int tl_redis_streams_seek(struct tl_redis_streams *s, struct tl_bytes name, struct tl_entry_id from,
                          struct tl_entry_id to, uint64_t msgs_max, uint64_t bytes_max);
void tl_redis_streams_stop(struct tl_redis_streams *s);
/* After stop, and the loop's next turn. */
void tl_redis_streams_deinit(struct tl_redis_streams *s);

/* ---- between redis_stream.c, redis_stream_send.c, redis_stream_read.c, redis_seek.c and
 * redis_shard.c ---- */

static inline struct tl_bytes tl_redis_stream_name(const struct tl_redis_stream *stream)
{
    return tl_bytes(stream->name, stream->name_n);
}

/* There may be something to read: it is read in its turn, unless it is being read now. */
void tl_redis_stream_ring(struct tl_redis_streams *s, struct tl_redis_stream *stream);
/* The epoch of a stream's positions while this Redis serves it. */
uint64_t tl_redis_stream_epoch(const struct tl_redis_streams *s, struct tl_bytes name);
/* A command for streams[0..n), put behind those sent; NULL: no memory, and the link is lost soon.
 */
struct tl_redis_command *tl_redis_command_new(struct tl_redis_streams *s,
                                              enum tl_redis_command_kind kind, uint32_t n);

/* The hub was told that it is refused, and follows it no more. */
void tl_redis_stream_give_up(struct tl_redis_streams *s, struct tl_redis_stream *stream);
/* Whether Redis sends notifications, as it just said. */
void tl_redis_streams_looked(struct tl_redis_streams *s, bool has_bells);

/* A command is forbidden, not a key: it is said, once. Everything else is said elsewhere. */
void tl_redis_streams_note_denied(struct tl_redis_streams *s, struct tl_bytes error);

/* It is a replica: what a full synchronisation brings rings no bell, so all are read. */
void tl_redis_streams_ring_all(struct tl_redis_streams *s);

/* redis_stream_send.c: append what there is to ask for; how many answers are due. */
uint64_t tl_redis_stream_fill(struct tl_redis_streams *s, struct tl_buf *out);

/* redis_stream_read.c: a value within the first command's answer, and the end of one answer. */
void tl_redis_stream_visit(void *streams, unsigned depth, const struct tl_resp_value *value);
void tl_redis_stream_answered(struct tl_redis_streams *s, struct tl_redis_command *command,
                              const struct tl_resp *reply);

#endif
