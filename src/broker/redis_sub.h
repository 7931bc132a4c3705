/*
 * The subscribing side of the Redis broker: requests in order and in batches, confirmations in
 * order, messages. It remembers requests until they are answered, not what is subscribed.
 */
#ifndef TL_BROKER_REDIS_SUB_H
#define TL_BROKER_REDIS_SUB_H

#include "broker/redis_link.h"
#include "broker/redis_notice.h"

struct tl_redis_sub {
    struct tl_redis_link link;
    struct tl_broker *broker; /* its events are called */
    struct tl_redis_notice *notice;
    struct tl_task task;
    struct tl_task
        *ponged; /* deferred with each answer to a PING, and when the link is lost; or NULL */
    /* Requests: a byte of verb and marks, two of length, the name. Answered ones lie before
     * `head`, sent ones before `next`. */
    struct tl_buf requests;
    size_t head, next;
    size_t unsubscribes_n; /* among those from head on */
};

void tl_redis_sub_init(struct tl_redis_sub *sub, struct tl_broker *broker, struct tl_loop *loop,
                       const struct tl_redis_options *options, struct tl_redis_notice *notice);

/* Request it with the next batch, at the end of this turn. Dropped unless the link is up. */
void tl_redis_sub_request(struct tl_redis_sub *sub, bool subscribe, enum tl_source_kind kind,
                          struct tl_bytes name);

/* As tl_redis_link_ping(), and it will be sent. */
uint32_t tl_redis_sub_ping(struct tl_redis_sub *sub);

/* No event afterwards. */
void tl_redis_sub_stop(struct tl_redis_sub *sub);
/* After stop, and the loop's next turn. */
void tl_redis_sub_deinit(struct tl_redis_sub *sub);

#endif
