/*
 * The publishing side of the Redis broker: publishes are pipelined, answered in order, and refused
 * at once when the link is down or too much waits. It copies no payload but the piece that is being
 * sent. Beside that its link is the one that can ask, and it does: whether this node is a replica
 * that its master's messages may have passed by.
 */
#ifndef TL_BROKER_REDIS_PUB_H
#define TL_BROKER_REDIS_PUB_H

#include "broker/redis_link.h"
#include "broker/redis_notice.h"
#include "broker/redis_role.h"

struct tl_redis_pub {
    struct tl_broker *broker; /* its on_gap and on_readiness are called */
    struct tl_redis_link link;
    struct tl_redis_notice *notice;
    struct tl_task task;
    struct tl_list unsent, sent, done; /* of tl_publish; done: to be told by the task */
    size_t done_n;
    size_t offset;        /* how much of the first unsent payload is on its way */
    size_t waiting_bytes; /* unsent and sent */
    size_t waiting_n;
    struct {
        struct tl_redis_role seen;
        struct tl_timer timer; /* the next question */
        struct tl_list node;   /* in sent, while its answer is due */
        bool due;
    } role;
};

void tl_redis_pub_init(struct tl_redis_pub *pub, struct tl_broker *broker, struct tl_loop *loop,
                       const struct tl_redis_options *options, struct tl_redis_notice *notice);

/* As ops->publish of broker/broker.h. */
void tl_redis_pub_publish(struct tl_redis_pub *pub, struct tl_publish *publish);

/* Tells all that wait, then nothing any more. */
void tl_redis_pub_stop(struct tl_redis_pub *pub);
/* After stop, and the loop's next turn. */
void tl_redis_pub_deinit(struct tl_redis_pub *pub);

#endif
