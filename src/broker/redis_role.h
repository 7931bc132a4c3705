/*
 * What INFO replication says of the node that we are connected to, time and again: whether messages
 * of Pub/Sub that were published to its master may have passed it by. Pure: text in, verdicts out.
 */
#ifndef TL_BROKER_REDIS_ROLE_H
#define TL_BROKER_REDIS_ROLE_H

#include "base/bytes.h"

struct tl_redis_role {
    bool is_known;   /* of an answer before */
    bool is_replica; /* and then: */
    bool is_cut_off; /* its link to the master is down */
    char replid[44]; /* of the history that it follows */
};

enum tl_redis_role_change {
    TL_REDIS_ROLE_SAME,
    TL_REDIS_ROLE_CUT_OFF, /* nothing reaches it from its master now */
    TL_REDIS_ROLE_JOINED,  /* it follows a master, anew or another one */
    TL_REDIS_ROLE_MASTER,  /* it is its own master now */
};

/*
 * Take the answer to INFO replication. Whatever is not SAME: some messages may never come here. A
 * short cut of its link may have been made up for by the master's backlog; nothing says so. What
 * comes and goes between two answers and leaves the history the same is not seen.
 */
enum tl_redis_role_change tl_redis_role_read(struct tl_redis_role *role, struct tl_bytes info);

#endif
