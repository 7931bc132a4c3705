/*
 * Inside the io_uring engine: the ring and what its files share. uring.c owns the ring and the
 * turn, uring_stream.c receives and sends, uring_batch.c sends to many, uring_accept.c accepts and
 * connects. Only they include this.
 */
#ifndef TL_LOOP_URING_H
#define TL_LOOP_URING_H

#include "loop/engine.h"
#include "loop/sys.h"

#include <liburing.h>

/* What a completion is for, in the lowest bits of its user_data; the rest is a pointer. */
enum tl_uring_kind {
    TL_URING_IGNORED, /* of a cancellation: what was cancelled tells itself */
    TL_URING_ON_RECV,
    TL_URING_ON_SEND,
    TL_URING_ON_BATCHED, /* a send that the end of its batch may tell */
    TL_URING_ON_WATCH,
    TL_URING_ON_ACCEPT,
    TL_URING_ON_CONNECT,
    TL_URING_ON_WAKE,
    TL_URING_KIND_MASK = 7,
};

struct tl_uring_completion {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

/* Completions that were taken off the ring early, to make room, or that a test made up. */
struct tl_uring_stash {
    struct tl_uring_completion *items;
    size_t at, n, cap;
};

struct tl_uring_send; /* uring_stream.c: header and iovec of a send of several slices */
struct tl_uring_held; /* uring_stream.c: what came for a stream that does not want it now */

struct tl_uring {
    struct io_uring ring;
    struct tl_loop *loop;
    bool enabled;    /* its submitter is the thread of the first submission */
    pthread_t owner; /* that thread */
    bool wake_armed;
    struct tl_uring_stash stash;
    struct io_uring_sqe unmade; /* filled in for an operation that a test has failed */
    /* Work that no completion will announce, for the next turn. */
    struct tl_list ready;    /* streams */
    struct tl_list starved;  /* streams whose receive found no buffer; a few in each turn */
    struct tl_list accepts;  /* ops of acceptors, by `ready` */
    struct tl_list connects; /* connects whose result is known already */
    /* For the engine's end. */
    struct tl_list accept_ops, connect_ops;
    /* Sends. */
    unsigned direct_left;     /* of this batch */
    unsigned batched_n;       /* queued since it began */
    struct io_uring_sqe same; /* what the submissions of one tl_loop_send_all() have in common */
    struct tl_uring_send *free_sends;
    size_t free_sends_n;
    /* Receives: the ring of provided buffers, and the buffers behind it. */
    struct io_uring_buf_ring *buf_ring;
    uint8_t *buffers;
    unsigned buffers_n;
    size_t buffers_bytes; /* of the whole mapping */
    /* Bytes that wait for a stream to want them: slot numbers are in the stream. */
    struct tl_uring_held **held;
    uint16_t *free_slots;
    unsigned slots_cap, free_slots_n;
};

#define TL_URING_BUFFER_BYTES 8192

static inline struct tl_uring *tl_uring_of(const struct tl_loop *loop)
{
    return loop->engine;
}

static inline uint64_t tl_uring_tag(const void *target, enum tl_uring_kind kind)
{
    return (uint64_t)(uintptr_t)target | kind;
}

/* ---- uring.c ---- */

/*
 * A submission to fill in, whose completion will carry the tag, or NULL: the kernel takes no more
 * now, so try in the next turn.
 */
struct io_uring_sqe *tl_uring_sqe_slow(struct tl_uring *u, enum tl_uring_op op, uint64_t tag);
static inline struct io_uring_sqe *tl_uring_sqe(struct tl_uring *u, enum tl_uring_op op,
                                                uint64_t tag)
{
    struct io_uring_sqe *sqe = tl_sys.uring_fault == NULL ? io_uring_get_sqe(&u->ring) : NULL;
    if (sqe == NULL)
        return tl_uring_sqe_slow(u, op, tag);
    sqe->user_data = tag;
    return sqe;
}
/* Cancel what carries the tag. False: try in the next turn. */
bool tl_uring_cancel(struct tl_uring *u, uint64_t tag);
/* Hand the kernel what is queued. No callback. */
void tl_uring_submit(struct tl_uring *u);
/* Take all off the ring, and keep them. Without memory the kernel keeps what does not fit there. */
void tl_uring_stash_all(struct tl_uring *u);
/* Drop those whose user_data was set to TL_URING_IGNORED. */
void tl_uring_forget_ignored(struct tl_uring_stash *stash);
/* Tell whom the completion is for. */
void tl_uring_dispatch(struct tl_uring *u, const struct tl_uring_completion *c);

/* ---- uring_stream.c ---- */

void tl_uring_on_recv(struct tl_uring *u, struct tl_stream *s, int result, uint32_t flags);
/* Of TL_URING_ON_SEND and TL_URING_ON_BATCHED. */
void tl_uring_on_send(struct tl_uring *u, struct tl_stream *s, int result);
/* What s->pending points to when one slice is in flight, which needs no header; the last is for a
 * stream that was closed since. */
extern struct tl_uring_send tl_uring_plain, tl_uring_plain_batched, tl_uring_plain_closed;
/* A send of one slice. */
static inline void tl_uring_prepare_plain(struct io_uring_sqe *sqe, int fd,
                                          const struct tl_bytes *slice)
{
    size_t most = tl_sys.uring_send_bytes_max;
    io_uring_prep_send(sqe, fd, slice->p, slice->n < most ? slice->n : most, MSG_NOSIGNAL);
}

void tl_uring_on_watch(struct tl_uring *u, struct tl_stream *s, int result, uint32_t flags);
/* What is left of a stream's work from the turn before. */
void tl_uring_stream_work(struct tl_uring *u, struct tl_stream *s);
/* Give a provided buffer back to the kernel. */
void tl_uring_give_buffer(struct tl_uring *u, unsigned id);
void tl_uring_streams_deinit(struct tl_uring *u);

int tl_uring_stream_open(struct tl_stream *s);
void tl_uring_stream_recv(struct tl_stream *s, bool on);
ssize_t tl_uring_stream_send(struct tl_stream *s, const struct tl_bytes *slices, unsigned n);
void tl_uring_stream_shutdown(struct tl_stream *s);
void tl_uring_stream_close(struct tl_stream *s, bool reset);

/* ---- uring_batch.c ---- */

void tl_uring_send_all(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                       const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken);
void tl_uring_batch_end(struct tl_loop *loop);

/* ---- uring_accept.c ---- */

struct tl_uring_accept;
struct tl_uring_connect;

void tl_uring_on_accept(struct tl_uring *u, struct tl_uring_accept *op, int result, uint32_t flags);
void tl_uring_on_connect(struct tl_uring_connect *op, int result);
/* What is left of an acceptor's work from the turn before, by its `ready`. */
void tl_uring_accept_work(struct tl_uring *u, struct tl_list *ready);
void tl_uring_accepts_deinit(struct tl_uring *u);

int tl_uring_acceptor_open(struct tl_acceptor *a);
void tl_uring_acceptor_pause(struct tl_acceptor *a);
void tl_uring_acceptor_resume(struct tl_acceptor *a);
void tl_uring_acceptor_close(struct tl_acceptor *a);
int tl_uring_connect_start(struct tl_connect *c, const struct sockaddr *address,
                           socklen_t address_n);
void tl_uring_connect_cancel(struct tl_connect *c);

#endif
