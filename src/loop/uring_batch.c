/*
 * Batches of the io_uring engine: the same slice queued for many streams, and the completions told
 * many at a time. This is what a fan-out costs, so instructions are counted here; whatever is not
 * plain goes the way of single sends (uring_stream.c).
 */
#include "loop/uring.h"

#include <assert.h>

/* ---- queueing ---- */

/*
 * Hot. One slice to many: the submissions differ in two fields only, so they are copies of one, put
 * straight into the ring. Returns for how many there was room in a row.
 */
static unsigned queue_all(struct tl_uring *u, struct tl_stream *const *streams, unsigned n,
                          ssize_t *ret_taken)
{
    struct io_uring_sq *sq = &u->ring.sq;
    struct io_uring_sqe *sqe = &sq->sqes[sq->sqe_tail & sq->ring_mask];
    unsigned room = sq->ring_entries - (sq->sqe_tail - io_uring_smp_load_acquire(sq->khead));
    unsigned row = sq->ring_entries - (sq->sqe_tail & sq->ring_mask);
    n = n < room ? n : room;
    n = n < row ? n : row;
    for (unsigned i = 0; i < n; i++) {
        struct tl_stream *s = streams[i];
        assert(s->pending == NULL && !tl_stream_is_closed(s));
        sqe[i] = u->same;
        sqe[i].fd = s->fd;
        sqe[i].user_data = tl_uring_tag(s, TL_URING_ON_BATCHED);
        s->pending = &tl_uring_plain_batched;
        ret_taken[i] = TL_SEND_PENDING;
    }
    sq->sqe_tail += n;
    u->batched_n += n;
    return n;
}

void tl_uring_send_all(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                       const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken)
{
    struct tl_uring *u = tl_uring_of(loop);
    bool plain = slices_n == 1 && loop->batching && tl_sys.uring_fault == NULL;
    tl_uring_prepare_plain(&u->same, -1, slices);
    for (unsigned at = 0; at < streams_n;) {
        unsigned n = 0;
        if (plain && u->direct_left == 0)
            n = queue_all(u, streams + at, streams_n - at, ret_taken + at);
        at += n;
        if (n > 0)
            continue;
        struct tl_stream *s = streams[at]; /* makes room in the ring, if that is what was wanting */
        assert(s->pending == NULL && !tl_stream_is_closed(s));
        ret_taken[at++] = tl_uring_stream_send(s, slices, slices_n);
    }
}

/* ---- telling ---- */

/* Sends of one slice that took something, of streams with one handler: to be told together. */
struct plain_sends {
    struct tl_stream *streams[TL_SEND_ALL_MAX];
    int32_t taken[TL_SEND_ALL_MAX];
    unsigned n;
};

static void tell_plain(struct plain_sends *plain)
{
    const struct tl_stream_handler *handler = plain->streams[0]->handler;
    if (handler->on_sent_all != NULL) {
        handler->on_sent_all(plain->streams, plain->taken, plain->n);
        return;
    }
    for (unsigned i = 0; i < plain->n; i++)
        if (!tl_stream_is_closed(plain->streams[i])) /* by one before it */
            handler->on_sent(plain->streams[i], plain->taken[i]);
}

/* The stream if the completion is such a one, as nearly all are, or NULL. */
static inline struct tl_stream *plain_stream(uint64_t tag, int32_t result)
{
    uint64_t at = tag - TL_URING_ON_BATCHED;
    struct tl_stream *s = (struct tl_stream *)(uintptr_t)at;
    bool is_plain = (at & TL_URING_KIND_MASK) == 0 && s->pending == &tl_uring_plain_batched;
    return is_plain && result > 0 ? s : NULL;
}

/* Completions that lie behind each other on the ring, at most so many. */
static unsigned completions_in_a_row(const struct tl_uring *u, unsigned most)
{
    const struct io_uring_cq *cq = &u->ring.cq;
    unsigned head = *cq->khead, n = io_uring_smp_load_acquire(cq->ktail) - head;
    unsigned row = cq->ring_entries - (head & cq->ring_mask);
    n = n < row ? n : row;
    return n < most ? n : most;
}

/* Hot. Take them off the ring for as long as nothing else comes between. They are off before
 * anybody is told, as callbacks may use the ring. */
static void take_plain(struct tl_uring *u, struct plain_sends *ret_plain)
{
    const struct tl_stream_handler *handler = NULL;
    const struct io_uring_cqe *cqe = &u->ring.cq.cqes[*u->ring.cq.khead & u->ring.cq.ring_mask];
    unsigned i = 0, n = completions_in_a_row(u, TL_SEND_ALL_MAX);
    for (; i < n; i++) {
        struct tl_stream *s = plain_stream(cqe[i].user_data, cqe[i].res);
        if (s == NULL)
            break;
        if (s->handler != handler) {
            if (handler != NULL)
                break;
            handler = s->handler;
        }
        s->pending = NULL;
        ret_plain->streams[i] = s;
        ret_plain->taken[i] = cqe[i].res;
    }
    io_uring_cq_advance(&u->ring, i);
    ret_plain->n = i;
}

static void tell_first_batched(struct tl_uring *u)
{
    struct plain_sends plain;
    while (u->stash.at == u->stash.n) {
        take_plain(u, &plain);
        if (plain.n == 0)
            return;
        tell_plain(&plain);
    }
}

/* Add it, after the others were told if it does not go with them. */
static void add_plain(struct plain_sends *plain, struct tl_stream *s, int32_t taken)
{
    if (plain->n == TL_SEND_ALL_MAX || (plain->n > 0 && plain->streams[0]->handler != s->handler)) {
        tell_plain(plain);
        plain->n = 0;
    }
    s->pending = NULL;
    plain->streams[plain->n] = s;
    plain->taken[plain->n++] = taken;
}

static void tell_stashed_batched(struct tl_uring *u)
{
    struct plain_sends plain;
    plain.n = 0;
    for (size_t i = u->stash.at, n = u->stash.n; i < n; i++) {
        struct tl_uring_completion c = u->stash.items[i]; /* callbacks may grow the stash */
        if ((c.user_data & TL_URING_KIND_MASK) != TL_URING_ON_BATCHED)
            continue;
        u->stash.items[i].user_data = TL_URING_IGNORED;
        struct tl_stream *s = plain_stream(c.user_data, c.result);
        if (s != NULL)
            add_plain(&plain, s, c.result);
        else
            tl_uring_dispatch(u, &c);
    }
    if (plain.n > 0)
        tell_plain(&plain);
}

/* Completions of other kinds keep their place for io(), which may be what is running. */
void tl_uring_batch_end(struct tl_loop *loop)
{
    struct tl_uring *u = tl_uring_of(loop);
    u->direct_left = tl_sys.uring_direct_sends;
    if (u->batched_n == 0)
        return;
    u->batched_n = 0;
    tl_uring_submit(u);
    tell_first_batched(u);
    tl_uring_stash_all(u);
    if (u->stash.at == u->stash.n)
        return;
    tell_stashed_batched(u);
    tl_uring_forget_ignored(&u->stash);
}
