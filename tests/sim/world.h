/*
 * The world: the real hub, workers, sessions and broker (memory, or the one on Redis) over the
 * simulated engine, put together as gateway.c does but in one thread, with the simulated clients.
 * It turns only the loops that something woke.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "client.h"
#include "redis.h"

#include "gateway/hub.h"
#include "gateway/limits.h"
#include "gateway/worker.h"

#define WORLD_CLIENTS 20
#define WORLD_WORKERS 3

struct world {
    struct tl_config config;
    struct tl_channel_rule rules[MODEL_CHANNELS];
    struct tl_routes routes;
    struct tl_limits limits;
    struct tl_worker workers[WORLD_WORKERS];
    struct tl_worker *worker_list[WORLD_WORKERS];
    unsigned workers_n;
    enum tl_engine engine;
    struct tl_hub *hub;
    const struct tl_broker_ops *real_ops;
    struct tl_broker_ops ops; /* the real ones, watched */
    bool on_redis;
    struct client clients[WORLD_CLIENTS];
    unsigned client_ids;
};
extern struct world world;

/* A world by the dice, with its gateway running. */
void world_start(void);
/* Everybody has left: nothing may be left of them, and the gateway ends. */
void world_end(void);
/* The gateway ends, all of its clients with it, and another one begins. polite: it drains. */
void world_restart(bool polite);

/* Turn one loop that something woke, by the dice. False: there is none. */
bool world_turn(void);
/* Everything happens that can happen now, and nothing by chance. */
void world_settle(void);
/* The same for as long. */
void world_pass(uint64_t ms);
/* Time goes on, whoever is in the middle of whatever. */
void world_jump(uint64_t ms);

#endif
