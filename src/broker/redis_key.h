/*
 * The reading side of the Redis broker: GETs on a link of their own, pipelined and answered in
 * order, so that no value however big holds up what is published or delivered. What is asked while
 * the link is down waits for it, and what a lost link did not answer is asked again; who asks knows
 * how long an answer is worth waiting for. It keeps no value.
 */
#ifndef TL_BROKER_REDIS_KEY_H
#define TL_BROKER_REDIS_KEY_H

#include "broker/redis_link.h"
#include "broker/redis_notice.h"
#include "broker/redis_sub.h"

struct tl_redis_keys {
    struct tl_redis_link link;
    struct tl_redis_notice *notice;
    struct tl_redis_sub *sub;
    struct tl_task task;
    /* Of tl_fetch. settling: answered, and what was published before may still be on the
     * subscriber's link; done: to be told by the task. */
    struct tl_list unsent, sent, settling, done;
    size_t waiting_n; /* unsent and sent */
};

/* sub: the link that messages come by; its `ponged` is taken. */
void tl_redis_keys_init(struct tl_redis_keys *keys, struct tl_loop *loop,
                        const struct tl_redis_options *options, struct tl_redis_notice *notice,
                        struct tl_redis_sub *sub);

/* As ops->fetch of broker/broker.h. */
void tl_redis_keys_fetch(struct tl_redis_keys *keys, struct tl_fetch *fetch);

/* Tells all that wait, then nothing any more. */
void tl_redis_keys_stop(struct tl_redis_keys *keys);
/* After stop, and the loop's next turn. */
void tl_redis_keys_deinit(struct tl_redis_keys *keys);

#endif
