/*
 * What an operator is told of one channel: a round trip of mail, from the session that asks to the
 * hub, to each worker in turn, and back. Nothing waits for it, and it changes nothing.
 */
#ifndef TL_GATEWAY_INSPECT_H
#define TL_GATEWAY_INSPECT_H

#include "feed/channel.h"
#include "feed/lane.h"
#include "gateway/hub.h"

#define TL_INSPECT_SLOWEST 8

struct tl_session;

/* A subscription that has messages to come. */
struct tl_inspect_lag {
    enum tl_lane_kind lane;
    uint64_t msgs;
};

struct tl_inspect {
    struct tl_mail mail;
    struct tl_hub *hub;
    struct tl_worker *asker;
    struct tl_session *session; /* the asker's thread: NULL when it is gone */
    unsigned at;                /* the worker that is asked now */
    bool found;
    enum tl_channel_state state;
    struct tl_position head, oldest;
    uint64_t messages, bytes; /* kept */
    uint64_t subscribers[TL_LANE_N];
    struct tl_inspect_lag slowest[TL_INSPECT_SLOWEST]; /* the slowest first */
    unsigned slowest_n;
    uint8_t name_n;
    uint8_t name[255];
};

/* Ask about the channel of the session's exchange; the phase becomes pending until the answer. */
void tl_inspect_start(struct tl_session *s);
/* The session, or its exchange, is gone. Takes NULL. */
void tl_inspect_forget(struct tl_inspect *inspect);

/* deliver function for the hub's thread; it hands the mail on. */
void tl_hub_on_inspect(struct tl_mail *mail);
/* The next worker, or the asker. From the hub and from workers. */
void tl_inspect_pass_on(struct tl_inspect *inspect);

#endif
