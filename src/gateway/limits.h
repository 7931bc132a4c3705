/*
 * How many connections there are, in all and per address, over all workers. A lock, taken once when
 * a connection comes and once when it goes, and only where a limit per address is set.
 */
#ifndef TL_GATEWAY_LIMITS_H
#define TL_GATEWAY_LIMITS_H

#include "base/map.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

struct tl_limits_address;

struct tl_limits {
    uint32_t connections_max;
    uint32_t address_connections_max; /* 0: no limit */
    _Atomic uint32_t connections_n;
    uint64_t input_bytes_max;     /* 0: no limit; set after init, before threads start */
    _Atomic uint64_t input_bytes; /* of unfinished bodies and messages of all clients */
    pthread_mutex_t lock;
    struct tl_map addresses; /* under the lock */
};

/* 0 or -ENOMEM. */
TL_MUST_USE int tl_limits_init(struct tl_limits *limits, uint32_t connections_max,
                               uint32_t address_connections_max);
void tl_limits_deinit(struct tl_limits *limits);

/* A connection has come: 0 and *ret_address (maybe NULL), to be given back; or -EDQUOT (the
 * address has as many as it may), -EBUSY (all together) or -ENOMEM: then nothing was taken. Any
 * thread. */
TL_MUST_USE int tl_limits_take(struct tl_limits *limits, const struct sockaddr_storage *peer,
                               struct tl_limits_address **ret_address);
/* A client's unfinished input grew by n bytes. False: over the limit, nothing was taken. */
TL_MUST_USE bool tl_limits_take_input(struct tl_limits *limits, size_t n);
/* n of them are finished or gone. */
void tl_limits_give_input(struct tl_limits *limits, size_t n);

/* It has gone. */
void tl_limits_give(struct tl_limits *limits, struct tl_limits_address *address);

#endif
