/*
 * One thread with one loop: its listeners, its sessions and its views of channels. What it knows of
 * the others is the hub's batches.
 */
#ifndef TL_GATEWAY_WORKER_H
#define TL_GATEWAY_WORKER_H

#include "base/map.h"
#include "base/metrics.h"
#include "gateway/batch.h"
#include "gateway/config.h"
#include "gateway/route.h"
#include "loop/loop.h"

#include <pthread.h>

#define TL_WORKERS_MAX   64
#define TL_LISTENERS_MAX 16

struct tl_hub;
struct tl_limits;
struct tl_publish_request;
struct tl_session;
struct tl_worker;

struct tl_worker_listener {
    struct tl_acceptor acceptor;
    struct tl_worker *worker;
    bool is_loopback;
};

struct tl_worker {
    unsigned index;
    struct tl_loop *loop;
    struct tl_hub *hub;
    const struct tl_config *config;
    const struct tl_routes *routes;
    struct tl_limits *limits;
    struct tl_map views;     /* struct tl_channel_view by lane and name */
    struct tl_list sessions; /* all of them */
    struct tl_list lagging;  /* those with a send that was not taken at once, oldest first */
    struct tl_list touched;  /* struct tl_many that what the hub told is about */
    struct tl_list ready;    /* those with more to send than one turn's share */
    struct tl_timer ready_timer;
    struct tl_timer accept_timer; /* looks for descriptors again */
    struct tl_timer drain_timer;
    struct tl_mail drain_mail;
    struct tl_worker_listener listeners[TL_LISTENERS_MAX];
    unsigned listeners_n;
    bool fanning_out; /* the sends of a batch are made */
    bool accepting;
    bool short_of_fds;
    uint64_t refused_ms;        /* when accepting last failed for want of descriptors; 0: never */
    size_t sessions_n, views_n; /* alive, leaving ones included */
    size_t publishes_n;         /* requests to the hub that are not answered */
    /* The range that was computed last, of which view and from where; NULL: none. It is forgotten
     * before any view changes. */
    const struct tl_channel_view *range_view;
    uint64_t range_from;
    struct tl_range range;
    struct tl_outvec *range_out; /* the same, pinned; NULL: not yet */
    /* While fanning out: sends that the loop queued and that are not over, and what is not in the
     * metrics yet, as an atomic addition for each send is felt. */
    size_t queued_n;
    int64_t sends_n, sent_bytes;
    bool draining;
    uint64_t drain_until_ms;
    /* Set once nothing of a draining worker is left. Release; partner: the acquire load of the
     * thread that ends the gateway. */
    _Atomic bool drained;
    pthread_t thread;
    bool has_thread;
};

/* 0 or -errno. Config, routes and hub (set before the loop runs) outlive it. */
TL_MUST_USE int tl_worker_init(struct tl_worker *worker, unsigned index, enum tl_engine engine,
                               const struct tl_config *config, const struct tl_routes *routes,
                               struct tl_limits *limits);
/* The loop has ended. Takes a zeroed struct too. */
void tl_worker_deinit(struct tl_worker *worker);

/* Accept on a listening fd, which it owns on success. Before the loop runs. 0 or -errno. */
TL_MUST_USE int tl_worker_listen(struct tl_worker *worker, int fd, bool is_loopback);

/*
 * Publish through the hub: name of 1 to 255 bytes, copied; the payload is taken over in any case.
 * on_answer comes later on the worker's thread and frees the request. NULL without memory.
 */
struct tl_publish_request *tl_worker_publish(struct tl_worker *worker, struct tl_bytes name,
                                             struct tl_buf *payload,
                                             void (*on_answer)(struct tl_publish_request *));

/* A request to the hub that was counted in publishes_n is over. */
void tl_worker_request_over(struct tl_worker *worker);

/* deliver functions of what comes from the hub and the gateway. */
void tl_worker_on_batch(struct tl_mail *mail);
void tl_worker_on_refused(struct tl_mail *mail);
void tl_worker_on_left(struct tl_mail *mail);
void tl_worker_on_published(struct tl_mail *mail);
void tl_worker_on_sought(struct tl_mail *mail);
void tl_worker_on_drain(struct tl_mail *mail);

/* What to send from a border of the view on, see tl_view_range(). Nearly all sessions of a view
 * stand at the same place, so what was found for one is good for the next. */
const struct tl_range *tl_worker_range(struct tl_worker *worker, const struct tl_channel_view *view,
                                       uint64_t from);

/* The range that was asked for last, pinned: a reference for the caller, or NULL without memory. */
struct tl_outvec *tl_worker_pin_range(struct tl_worker *worker);

/* Something that its newcomers waited for is there: acknowledge who may be. */
void tl_worker_acknowledge(struct tl_channel_view *view);

/* Count so many sends of lane bytes; of 0: only put what is counted into the metrics. */
static inline void tl_worker_count_sends(struct tl_worker *worker, unsigned n, size_t bytes_n)
{
    worker->sends_n += n;
    worker->sent_bytes += (int64_t)bytes_n;
    if (worker->fanning_out)
        return;
    tl_metric_add(TL_M_SENDS, worker->sends_n);
    tl_metric_add(TL_M_SENT_BYTES, worker->sent_bytes);
    worker->sends_n = worker->sent_bytes = 0;
}

/* For sessions: a session ended (its memory follows), and: give me another turn. */
void tl_worker_session_gone(struct tl_worker *worker, struct tl_session *session);
void tl_worker_requeue(struct tl_worker *worker, struct tl_session *session, uint64_t delay_ms);

#endif
