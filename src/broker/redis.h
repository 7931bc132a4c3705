/*
 * The broker on Redis, Pub/Sub and Streams: one link that subscribes and one that publishes, and
 * those that follow streams (redis_stream.h) and read keys (redis_key.h), each restored for ever
 * after a loss. It keeps no channel and no message; what was subscribed is the hub's to know, and
 * what was published while a link was down is refused, never kept for later.
 */
#ifndef TL_BROKER_REDIS_H
#define TL_BROKER_REDIS_H

#include "broker/broker.h"
#include "loop/loop.h"

/* Publishes that wait for their answer or for the wire; more are refused with FULL. */
#define TL_REDIS_PUBLISHES_MAX     65536
#define TL_REDIS_PUBLISH_BYTES_MAX ((size_t)64 << 20)
/* Keys that wait for their answer, likewise. */
#define TL_REDIS_FETCHES_MAX       65536
#define TL_REDIS_PING_MS           1000
#define TL_REDIS_DEAD_MS           3000
#define TL_REDIS_DIAL_TIMEOUT_MS   3000
#define TL_REDIS_RETRY_MAX_MS      500
#define TL_REDIS_AUTH_RETRY_MS     5000
#define TL_REDIS_MESSAGE_BYTES_MAX ((size_t)16 << 20)

/* Strings are copied by tl_redis_new(). A 0 stands for the default above. */
struct tl_redis_options {
    const char *host; /* name or numeric address; unused with unix_path */
    uint16_t port;
    const char *unix_path; /* or NULL */
    const char *user;      /* or NULL */
    const char *password;  /* or NULL; never logged */
    unsigned db;
    size_t max_message; /* a longer payload is dropped and told as such */
    uint32_t ping_ms;   /* silence before a PING */
    uint32_t dead_ms;   /* silence that loses the link, > ping_ms */
    uint32_t dial_timeout_ms;
    uint32_t auth_retry_ms;
    bool streams; /* streams will be followed */
    bool keys;    /* keys will be read */
};

/*
 * A broker whose links are being dialled; events->on_link tells when it is up. NULL: no memory.
 * The hub sets events and itself before the loop's next turn. Owner: whoever calls ops->free, which
 * must come after ops->stop and after the loop ran what was left (at least a turn without waiting).
 * Thread: the loop's, or before it runs.
 */
TL_MUST_USE struct tl_broker *tl_redis_new(struct tl_loop *loop,
                                           const struct tl_redis_options *options);

#endif
