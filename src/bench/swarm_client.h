/*
 * One subscriber's connection, from connect to ready: the inside of the swarm, for swarm.c and
 * swarm_client.c only.
 */
#ifndef TL_BENCH_SWARM_CLIENT_H
#define TL_BENCH_SWARM_CLIENT_H

#include "bench/order.h"
#include "bench/swarm.h"

#include <stdatomic.h>
#include <sys/epoll.h>

enum tl_client_state {
    TL_CLIENT_NEW,
    TL_CLIENT_CONNECTING,
    TL_CLIENT_ASKED, /* the request is sent */
    TL_CLIENT_READY,
    TL_CLIENT_GONE,
};

enum tl_storm_state {
    TL_STORM_NONE,
    TL_STORM_AWAY, /* dropped */
    TL_STORM_BACK, /* and accepted again, but does not have everything yet */
};

/* What each message touches comes first. */
struct tl_swarm_client {
    struct tl_swarm *swarm;
    struct tl_order order;
    uint32_t channel; /* 0 where all are watched */
    uint32_t missing; /* left out so far */
    int fd;
    uint8_t state, storm;
    bool was_ready, was_duplicate, was_late;
    uint32_t storm_target; /* BACK: the message after the last that it waits for */
    uint64_t index, started_ns;
    struct tl_receiver receiver;
};

struct tl_swarm {
    const struct tl_swarm_plan *plan;
    struct tl_tally *tally;
    struct tl_swarm_client *clients;
    uint64_t clients_n, started, connecting;
    uint64_t now_ns;                /* of the newest receipt */
    uint64_t storm_ns;              /* when everybody dropped; 0: not yet */
    struct tl_resume_point *points; /* of event streams; NULL: no storm will come */
    uint8_t *buffer;
    int epoll_fd;
    bool gave_up;
    struct tl_receiver_rules rules;
    char key[25]; /* Sec-WebSocket-Key */
    struct tl_buf scratch;
};

/* Keep the first problem as text. */
TL_PRINTF(2, 3) void tl_swarm_problem(struct tl_swarm *s, const char *fmt, ...);

/* Choose the swarm's WebSocket key and the rules of its receivers. */
void tl_swarm_key(struct tl_swarm *s, const struct tl_receiver_handler *handler);

/* Begin; the connection is under way or has failed. */
void tl_swarm_client_connect(struct tl_swarm_client *c);

/* The connection is made, or refused: send the request. */
void tl_swarm_client_ask(struct tl_swarm_client *c);

/* Accepted, and confirmed where that is asked for. */
void tl_swarm_client_ready(struct tl_swarm_client *c);

/* Close and count; why follows "the server ". */
void tl_swarm_client_failed(struct tl_swarm_client *c, const char *why);

/* The receiver's events that have an answer. */
void tl_swarm_client_on_accepted(struct tl_receiver *r);
void tl_swarm_client_on_ping(struct tl_receiver *r, struct tl_bytes payload);
void tl_swarm_client_on_close(struct tl_receiver *r, uint16_t code);

#endif
