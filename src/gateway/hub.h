/*
 * The owner of all channels: their life upstream, their logs, and the broker. Lives on one loop.
 * Workers post joins, leaves and publishes to it and get batches and answers back; it never
 * touches a session.
 */
#ifndef TL_GATEWAY_HUB_H
#define TL_GATEWAY_HUB_H

#include "base/map.h"
#include "feed/channel.h"
#include "gateway/batch.h"
#include "gateway/config.h"
#include "gateway/reply.h"
#include "loop/loop.h"

struct tl_hub;
struct tl_worker;

/* A publish on its way from a session to the broker and back. Owner: whoever has the mail. */
struct tl_publish_request {
    struct tl_mail mail;
    struct tl_publish publish; /* name and payload lie in this request */
    struct tl_worker *worker;  /* where the answer goes */
    struct tl_list node;       /* the worker's: of the session that asked */
    void *session;             /* the worker's: NULL when the session is gone */
    void (*on_answer)(struct tl_publish_request *request); /* on the worker's thread; frees */
    bool has_position;
    struct tl_position position; /* memory broker */
    struct tl_buf body;          /* the payload */
    /* Of posts.c: what the answer to the client is made with, and what goes out behind it. */
    struct tl_reply reply;
    struct tl_buf behind;
    bool is_answered;
    uint8_t name[255];
};

/*
 * broker: owned by the hub from here on; its events are set. 0 or -ENOMEM. workers: all of them, to
 * post to; workers[0] runs on the hub's loop.
 */
TL_MUST_USE struct tl_hub *tl_hub_new(const struct tl_config *config, struct tl_loop *loop,
                                      struct tl_broker *broker, struct tl_worker **workers,
                                      unsigned workers_n);
extern const struct tl_broker_events tl_hub_broker_events;

/* Stop the broker: outstanding publishes are answered. The loop is to take a turn or two before
 * tl_hub_free(). Idempotent. Hub's thread. */
void tl_hub_stop(struct tl_hub *hub);
/* After all loops ended; takes NULL. */
void tl_hub_free(struct tl_hub *hub);

/* From a worker: mail for the hub, in order per worker. */
void tl_hub_post(struct tl_hub *hub, struct tl_worker *from, struct tl_mail *mail);
/* deliver functions of that mail. */
void tl_hub_on_join(struct tl_mail *mail);
void tl_hub_on_leave(struct tl_mail *mail);
void tl_hub_on_publish(struct tl_mail *mail);
void tl_hub_on_seek(struct tl_mail *mail);
void tl_hub_on_snapshot(struct tl_mail *mail);

/* The i-th worker, NULL behind the last. Any thread. */
struct tl_worker *tl_hub_worker(const struct tl_hub *hub, unsigned i);
/* Is all of the broker up? Any thread. */
bool tl_hub_is_ready(const struct tl_hub *hub);
/* Is the link up that messages of such a channel come on, whatever becomes of publishing? Any
 * thread. */
bool tl_hub_has_link(const struct tl_hub *hub, bool is_stream);
/* The sequence of all appends, as far as the views were marked for them: whatever has a greater
 * number is appended later. Any thread. */
struct tl_sequence tl_hub_sequence(const struct tl_hub *hub);
/* "memory", "redis" */
const char *tl_hub_broker_name(const struct tl_hub *hub);
/* Is the name that of a declared pattern channel? Any thread. */
bool tl_hub_is_pattern(const struct tl_hub *hub, struct tl_bytes name);

#endif
