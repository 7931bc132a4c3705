/*
 * For the tests of the whole gateway: one with the memory broker in this very thread, where the
 * loops of all its workers are turned, and raw clients on real TCP. Nothing blocks: the test turns
 * the loop, and the clients move between the turns. Clients take their memory past base/alloc.h, so
 * that failures injected there are the gateway's alone, and they check what they get against the
 * messages that the test published.
 */
#ifndef TESTS_GATEWAY_FIXTURE_H
#define TESTS_GATEWAY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engines.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "gateway/gateway.h"
#include "gateway/worker.h"
#include "loop/sys.h"
#include "proto/ws.h"

#include <errno.h>

#define DEADLINE_MS 60000

/* A growing buffer of the test's own. */
struct bag {
    uint8_t *p;
    size_t n, cap;
};
void bag_add(struct bag *bag, struct tl_bytes bytes);
void bag_text(struct bag *bag, const char *fmt, ...) TL_PRINTF(2, 3);
/* A client's masked frame. */
void bag_frame(struct bag *bag, bool fin, enum tl_ws_opcode opcode, struct tl_bytes payload);
void bag_free(struct bag *bag);

/* What was published to a channel, in order. */
#define MESSAGES_MAX 64
struct message {
    struct bag payload;
    bool sure;    /* the publisher was told that it is published */
    bool refused; /* or that it is not */
};
struct feed {
    struct message messages[MESSAGES_MAX];
    size_t n;
};
void feed_free(struct feed *feed);

#define GW_WORKERS_MAX 3
struct gw {
    struct tl_config config;
    struct tl_routes routes;
    struct tl_gateway *gateway;
    struct tl_loop *loop;
    struct tl_broker *broker;       /* the gateway's: to say what a broker says */
    unsigned workers_n;             /* 0 is one; set before it is opened */
    uint16_t ports[GW_WORKERS_MAX]; /* of each worker */
    uint16_t port;                  /* where clients connect; at first the first worker's */
    struct client *clients;         /* all that are open */
};

/* Small limits, long deadlines: nothing happens by time but the linger. */
void gw_config(struct tl_config *config);
/* Make one of gw->config. 0, or what failed: then there is none. */
extern const struct test_engine *gw_engine; /* of the gateways to come */
int gw_try_open(struct gw *gw);
void gw_open(struct gw *gw);
/* The same with gw->config as the test made it. */
void gw_open_as_is(struct gw *gw);
/* The clients go first, then the gateway drains and is freed. */
void gw_close(struct gw *gw);
void gw_free(struct gw *gw);
const struct tl_worker *gw_worker(const struct gw *gw, unsigned i);
/* One turn of each worker's loop and of all clients. */
void gw_turn(struct gw *gw, uint32_t wait_ms);

/* What clients can do without the loop: send and receive. */
void gw_poll(struct gw *gw);

/* Turn until cond holds; fails after the deadline. */
#define GW_UNTIL(gw, cond)                                                                         \
    for (uint64_t gw_end_ms = tl_clock_ms() + DEADLINE_MS; !(cond);) {                             \
        assert_true(tl_clock_ms() < gw_end_ms);                                                    \
        gw_turn(gw, 1);                                                                            \
    }

enum client_kind { CLIENT_HTTP, CLIENT_WS, CLIENT_SSE };

struct client {
    struct client *next;
    struct gw *gw;
    enum client_kind kind;
    int fd;
    bool deaf;  /* does not read */
    bool ended; /* the gateway ended it, in whatever way, or we did */
    int error;  /* errno of that end, or 0 */
    struct bag in, out;
    int status; /* of the last response, 0 before the first */
    unsigned responses_n;
    bool streaming;  /* behind the head of a 101 or an event stream */
    bool subscribed; /* acknowledged */
    uint16_t close_code;
    char close_reason[128];
    unsigned pongs_n, gaps_n, downs_n, snapshots_n, expired_n, messages_n;
    char last_id[64];
    struct bag body; /* of the last response */
    /* What it is to get: the feed, from message `at` on. NULL: anything goes. */
    const struct feed *feed;
    size_t at;
    size_t begin; /* what was published before the acknowledgement came may have been before it */
    bool resumes; /* but not for who resumes */
    /* Instead of all that: of an event stream each block with an id or data, as it came. */
    void (*on_block)(struct client *c, struct tl_bytes id, struct tl_bytes event,
                     struct tl_bytes data);
    void *arg;
};

struct client *client_open(struct gw *gw, enum client_kind kind);
/* Send what is possible now, and the rest with the next turns. */
void client_send(struct client *c, struct tl_bytes bytes);
void client_send_bag(struct client *c, struct bag *bag);
/* Its end: FIN, or RST. Its memory stays until client_free(). */
void client_end(struct client *c, bool reset);
void client_free(struct client *c);
/* Free them all, those that are still open by FIN. */
void clients_free(struct gw *gw);

/* Requests. */
void client_ask_ws(struct client *c, const char *path);
void client_ask_sse(struct client *c, const char *path, const char *last_event_id);
void client_ask_publish(struct client *c, const char *path, struct tl_bytes payload);

/* The handshake and its acknowledgement: subscribed, or over, or refused with a status. */
bool client_is_settled(const struct client *c);
/* A new client (WebSocket or event stream) that asks for that path; and one that is subscribed. */
struct client *client_come(struct gw *gw, enum client_kind kind, const char *path);
struct client *client_watch(struct gw *gw, enum client_kind kind, const char *path);

#endif
