/*
 * A simulated client: it asks, reads as much and as fast as the dice say, takes apart what it gets
 * by itself, and hands it to its oracle. It closes nothing on its own.
 */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "many.h"
#include "model.h"
#include "net.h"

enum client_kind { CLIENT_WS, CLIENT_SSE, CLIENT_MANY, CLIENT_PUBLISHER };

struct client {
    struct net_sock *sock; /* NULL: free */
    enum client_kind kind;
    struct oracle oracle; /* of one channel; `many` of several */
    struct many many;
    size_t request_n; /* bytes of the request */
    bool stalled;     /* does not read */
    struct sim_pipe in;
    uint64_t in_at;   /* bytes of the stream before `in` */
    bool streaming;   /* behind the head of the response */
    bool closing;     /* said goodbye, or was told it */
    bool answered;    /* refused by HTTP, or a publisher's answer */
    uint32_t message; /* a publisher's, while it waits for the answer; else MODEL_NONE */
    struct {
        uint64_t end; /* of the stream */
        struct moment then;
    } taken[64]; /* until it is acknowledged */
    unsigned taken_n;
};

struct client_terms {
    enum start start;
    uint32_t history;
    struct place since;
    uint32_t received; /* WebSocket: the position is so many messages before the place */
    bool strict;
};

/* What the world is like, for who is cut off. */
struct client_world {
    uint64_t stall_timeout_ms, ping_ms;
    bool may_refuse; /* subscriptions: Redis is, or was, in trouble, or channels are few */
    bool may_pin_reset;
    bool draining;
};
extern struct client_world client_world;

/* Where somebody stood that is gone, by the dice; false if there is nobody. */
bool client_place(unsigned *ret_channel, struct place *ret_place);
void client_forget_places(void);

void client_subscribe(struct client *c, unsigned id, unsigned worker, enum client_kind kind,
                      unsigned channel, const struct tl_channel_rule *rule,
                      const struct client_terms *terms);
/* On an event stream of several channels, with these rules. */
void client_watch_many(struct client *c, unsigned id, unsigned worker,
                       const struct tl_channel_rule *rules);
void client_open_publisher(struct client *c, unsigned id, unsigned worker);
/* Publish; the one before was answered. */
void client_publish(struct client *c, uint32_t message);

/* Read at most so many bytes. True if there was anything to read, or it ended. */
bool client_read(struct client *c, size_t most);
/* The goodbye of the protocol, where there is one. */
void client_say_goodbye(struct client *c);
/* Gone, one way or another. */
void client_drop(struct client *c, bool reset);

/* Everything has come to rest, and if `paced` what rules held back: does it have all there is? */
void client_check_complete(const struct client *c, bool paced);

static inline bool client_is_live(const struct client *c)
{
    return c->sock && c->kind != CLIENT_PUBLISHER && c->oracle.acked && !c->closing;
}

#endif
