/*
 * The io_uring engine: the ring, the turn, and what is asked of the kernel before it is used.
 * Whatever a turn's callbacks queue is submitted together by the next wait, which is one system
 * call. Callbacks run from io() only, so completions that come earlier are kept.
 */
#include "loop/uring.h"

#include "base/alloc.h"
#include "base/logger.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define STASH_KEPT  8192 /* room that stays when it is empty */
#define CQ_FACTOR   16   /* completions for each submission: a batch to many sessions fits */
#define TEST_WAIT_S 2    /* for what a kernel that can do it does at once */

/* The submitter alone touches the ring, and completes when it asks for it: from Linux 6.1 on. */
#define BEST_FLAGS (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
/* Enabled by the loop's thread, which need not be the one that makes it. */
#define BASE_FLAGS (IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE)

/* ---- the stash ---- */

static bool stash_reserve(struct tl_uring_stash *stash, size_t n)
{
    if (stash->n + n <= stash->cap)
        return true;
    size_t cap = stash->n + n > 2 * stash->cap ? stash->n + n : 2 * stash->cap;
    void *items = tl_realloc(stash->items, cap * sizeof(*stash->items));
    if (items == NULL)
        return false;
    stash->items = items;
    stash->cap = cap;
    return true;
}

static void stash_reset(struct tl_uring_stash *stash)
{
    stash->at = stash->n = 0;
    if (stash->cap > STASH_KEPT) {
        tl_free(stash->items);
        *stash = (struct tl_uring_stash){0};
    }
}

/* The oldest completion on the ring. */
static bool take_from_ring(struct tl_uring *u, struct tl_uring_completion *ret_completion)
{
    const struct io_uring_cq *cq = &u->ring.cq;
    unsigned head = *cq->khead;
    if (head == io_uring_smp_load_acquire(cq->ktail))
        return false;
    const struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
    *ret_completion = (struct tl_uring_completion){cqe->user_data, cqe->res, cqe->flags};
    io_uring_cq_advance(&u->ring, 1);
    return true;
}

/* The oldest of all. */
static bool take(struct tl_uring *u, struct tl_uring_completion *ret_completion)
{
    struct tl_uring_stash *stash = &u->stash;
    if (stash->at == stash->n)
        return take_from_ring(u, ret_completion);
    *ret_completion = stash->items[stash->at++];
    if (stash->at == stash->n)
        stash_reset(stash);
    return true;
}

void tl_uring_stash_all(struct tl_uring *u)
{
    unsigned n = io_uring_cq_ready(&u->ring);
    if (!stash_reserve(&u->stash, n))
        return;
    while (n-- > 0 && take_from_ring(u, &u->stash.items[u->stash.n]))
        u->stash.n++;
}

void tl_uring_forget_ignored(struct tl_uring_stash *stash)
{
    size_t kept = stash->at;
    for (size_t i = stash->at; i < stash->n; i++)
        if (stash->items[i].user_data != TL_URING_IGNORED)
            stash->items[kept++] = stash->items[i];
    stash->n = kept;
    if (stash->at == stash->n)
        stash_reset(stash);
}

/* ---- submitting ---- */

static int fault(enum tl_uring_op op)
{
    return tl_sys.uring_fault == NULL ? 0 : tl_sys.uring_fault(op);
}

/* io_uring_enable_rings(), which liburing 2.3 declares and does not export. */
static int enable(struct io_uring *ring)
{
    return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Whether this thread may submit; the first that does is the one that may. */
static bool may_submit(struct tl_uring *u)
{
    if (u->enabled)
        return pthread_equal(u->owner, pthread_self());
    int error = enable(&u->ring);
    assert(error == 0);
    (void)error;
    u->enabled = true;
    u->owner = pthread_self();
    /* Spares the kernel a look-up in each call; does not work on all, nor need it. */
    (void)io_uring_register_ring_fd(&u->ring);
    return true;
}

static void check_entered(int result)
{
    if (result != -EBADR)
        return;
    /* A completion is gone, so its stream would hang for ever, and nobody knows which it is. */
    tl_logger(TL_ERROR, "the kernel had no memory for a completion of io_uring, and lost it");
    abort();
}

void tl_uring_submit(struct tl_uring *u)
{
    if (!may_submit(u) || fault(TL_URING_ENTER) != 0)
        return;
    check_entered(io_uring_submit(&u->ring));
    if (io_uring_cq_ready(&u->ring) > u->ring.cq.ring_entries / 2)
        tl_uring_stash_all(u);
}

static struct io_uring_sqe *fail_in_its_place(struct tl_uring *u, uint64_t tag, int error)
{
    if (!stash_reserve(&u->stash, 1))
        return NULL;
    u->stash.items[u->stash.n++] = (struct tl_uring_completion){tag, error, 0};
    return &u->unmade;
}

struct io_uring_sqe *tl_uring_sqe_slow(struct tl_uring *u, enum tl_uring_op op, uint64_t tag)
{
    int error = fault(op);
    if (error != 0)
        return fail_in_its_place(u, tag, error);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL) {
        tl_uring_submit(u);
        sqe = io_uring_get_sqe(&u->ring);
    }
    if (sqe != NULL)
        sqe->user_data = tag;
    return sqe;
}

bool tl_uring_cancel(struct tl_uring *u, uint64_t tag)
{
    struct io_uring_sqe *sqe = tl_uring_sqe(u, TL_URING_CANCEL, TL_URING_IGNORED);
    if (sqe == NULL || sqe == &u->unmade)
        return false;
    io_uring_prep_cancel64(sqe, tag, 0);
    return true;
}

/* ---- the turn ---- */

static bool has_work(const struct tl_loop *loop)
{
    struct tl_uring *u = tl_uring_of(loop);
    return !tl_list_empty(&u->ready) || !tl_list_empty(&u->starved) ||
           !tl_list_empty(&u->accepts) || !tl_list_empty(&u->connects) ||
           u->stash.at < u->stash.n || !u->wake_armed || io_uring_cq_ready(&u->ring) > 0 ||
           io_uring_cq_has_overflow(&u->ring);
}

static void wait_completions(struct tl_loop *loop, int timeout_ms)
{
    struct tl_uring *u = tl_uring_of(loop);
    bool mine = may_submit(u);
    assert(mine);
    if (!mine || fault(TL_URING_ENTER) != 0)
        return;
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {.tv_sec = timeout_ms / 1000,
                                        .tv_nsec = timeout_ms % 1000 * 1000000L};
    int result;
    if (timeout_ms == 0)
        result = io_uring_submit_and_get_events(&u->ring);
    else if (timeout_ms < 0)
        result = io_uring_submit_and_wait(&u->ring, 1);
    else
        result = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL);
    check_entered(result); /* any other error is a turn without completions */
}

/* Each wake is a completion, whether or not the one before was read. */
static void arm_wake(struct tl_uring *u)
{
    struct io_uring_sqe *sqe = tl_uring_sqe(u, TL_URING_WAKE, TL_URING_ON_WAKE);
    u->wake_armed = sqe != NULL;
    if (sqe != NULL)
        io_uring_prep_poll_multishot(sqe, u->loop->mailbox.wake_fd, POLLIN);
}

void tl_uring_dispatch(struct tl_uring *u, const struct tl_uring_completion *c)
{
    void *target = (void *)(uintptr_t)(c->user_data & ~(uint64_t)TL_URING_KIND_MASK);
    switch ((enum tl_uring_kind)(c->user_data & TL_URING_KIND_MASK)) {
    case TL_URING_ON_SEND:
    case TL_URING_ON_BATCHED:
        tl_uring_on_send(u, target, c->result);
        break;
    case TL_URING_ON_RECV:
        tl_uring_on_recv(u, target, c->result, c->flags);
        break;
    case TL_URING_ON_WATCH:
        tl_uring_on_watch(u, target, c->result, c->flags);
        break;
    case TL_URING_ON_ACCEPT:
        tl_uring_on_accept(u, target, c->result, c->flags);
        break;
    case TL_URING_ON_CONNECT:
        tl_uring_on_connect(target, c->result);
        break;
    case TL_URING_ON_WAKE: /* the turn looks into the mailbox anyway */
        if ((c->flags & IORING_CQE_F_MORE) == 0)
            u->wake_armed = false;
        break;
    case TL_URING_IGNORED:
        break;
    }
}

static void io(struct tl_loop *loop)
{
    struct tl_uring *u = tl_uring_of(loop);
    struct tl_list ready, connects, accepts, *node;
    struct tl_uring_completion c;
    tl_list_init(&ready);
    tl_list_init(&connects);
    tl_list_init(&accepts);
    tl_list_splice(&ready, &u->ready);
    tl_list_splice(&connects, &u->connects);
    tl_list_splice(&accepts, &u->accepts);
    /* Only those of now: callbacks cause new ones. */
    for (size_t n = u->stash.n - u->stash.at + io_uring_cq_ready(&u->ring); n > 0 && take(u, &c);
         n--)
        tl_uring_dispatch(u, &c);
    while ((node = tl_list_pop(&connects)) != NULL)
        tl_socket_connect_over(TL_CONTAINER(node, struct tl_connect, ready));
    while ((node = tl_list_pop(&accepts)) != NULL)
        tl_uring_accept_work(u, node);
    while ((node = tl_list_pop(&ready)) != NULL)
        tl_uring_stream_work(u, TL_CONTAINER(node, struct tl_stream, ready));
    /* The receives that found no buffer, as many as there are: each in a turn would be quadratic.
     */
    for (unsigned n = u->buffers_n; n > 0 && (node = tl_list_pop(&u->starved)) != NULL; n--)
        tl_uring_stream_work(u, TL_CONTAINER(node, struct tl_stream, ready));
    if (!u->wake_armed)
        arm_wake(u);
}

/* ---- making it ---- */

static int ring_init(struct io_uring *ring, unsigned entries)
{
    struct io_uring_params params = {.flags = BASE_FLAGS | BEST_FLAGS,
                                     .cq_entries = CQ_FACTOR * entries};
    int error = tl_sys.uring_init(entries, ring, &params);
    if (error == -EINVAL) {
        params = (struct io_uring_params){.flags = BASE_FLAGS | IORING_SETUP_COOP_TASKRUN,
                                          .cq_entries = CQ_FACTOR * entries};
        error = tl_sys.uring_init(entries, ring, &params);
    }
    return error;
}

/* Bytes of the mapping; the ring comes first, and buffers start on a page of their own. */
static size_t buffers_at(unsigned n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (n * sizeof(struct io_uring_buf) + page - 1) / page * page;
}

static int buffers_init(struct tl_uring *u, unsigned n)
{
    size_t at = buffers_at(n);
    u->buffers_bytes = at + (size_t)n * TL_URING_BUFFER_BYTES;
    void *p =
        mmap(NULL, u->buffers_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    u->buf_ring = p;
    u->buffers = (uint8_t *)p + at;
    u->buffers_n = n;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)p, .ring_entries = n};
    int error = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (error != 0) {
        munmap(p, u->buffers_bytes);
        return error;
    }
    io_uring_buf_ring_init(u->buf_ring);
    for (unsigned i = 0; i < n; i++)
        tl_uring_give_buffer(u, i);
    return 0;
}

static int uring_init(struct tl_uring *u, unsigned entries, unsigned buffers_n)
{
    int error = ring_init(&u->ring, entries);
    if (error != 0)
        return error;
    /* Headers and iovecs are only kept until they are submitted; overflow must lose nothing. */
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL |
                            IORING_FEAT_EXT_ARG;
    error = (u->ring.features & needed) != needed ? -EINVAL : buffers_init(u, buffers_n);
    if (error != 0)
        io_uring_queue_exit(&u->ring);
    return error;
}

static void uring_deinit(struct tl_uring *u)
{
    io_uring_queue_exit(&u->ring);
    munmap(u->buf_ring, u->buffers_bytes);
}

/* ---- does it work here? ---- */

/* Send a byte, and receive it by a request that has found nothing before and stays armed: what
 * this engine needs and old kernels lack. */
static int test_transfer(struct tl_uring *u, int from, int to)
{
    const uint8_t byte = 0x5a;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL)
        return -EINVAL;
    io_uring_prep_recv_multishot(sqe, to, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->user_data = TL_URING_ON_RECV;
    int result = io_uring_submit(&u->ring);
    if (result < 0)
        return result;
    sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL)
        return -EINVAL;
    io_uring_prep_send(sqe, from, &byte, 1, MSG_NOSIGNAL);
    sqe->user_data = TL_URING_ON_SEND;

    struct __kernel_timespec timeout = {.tv_sec = TEST_WAIT_S};
    struct io_uring_cqe *cqe;
    result = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 2, &timeout, NULL);
    bool sent = false, received = false;
    for (struct tl_uring_completion c; take_from_ring(u, &c);) {
        const unsigned flags = IORING_CQE_F_MORE | IORING_CQE_F_BUFFER;
        if (c.user_data == TL_URING_ON_SEND)
            sent = c.result == 1;
        else if (c.result == 1 && (c.flags & flags) == flags)
            received =
                u->buffers[(c.flags >> IORING_CQE_BUFFER_SHIFT) * TL_URING_BUFFER_BYTES] == byte;
    }
    if (sent && received)
        return 0;
    return result < 0 && result != -ETIME ? result : -EOPNOTSUPP;
}

/* A small ring of its own, as that of the loop belongs to the loop's thread. */
static int self_test(void)
{
    struct tl_uring u = {0};
    int fds[2];
    int error = uring_init(&u, 8, 2);
    if (error != 0)
        return error;
    error = enable(&u.ring);
    if (error == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        error = -errno;
    if (error == 0) {
        error = test_transfer(&u, fds[0], fds[1]);
        close(fds[0]);
        close(fds[1]);
    }
    uring_deinit(&u);
    return error;
}

static int engine_init(struct tl_loop *loop)
{
    struct tl_uring *u = tl_zalloc(sizeof(*u));
    if (u == NULL)
        return -ENOMEM;
    int error = self_test();
    if (error == 0)
        error = uring_init(u, tl_sys.uring_entries, tl_sys.uring_buffers_n);
    if (error != 0) {
        tl_free(u);
        return error;
    }
    u->loop = loop;
    tl_list_init(&u->ready);
    tl_list_init(&u->starved);
    tl_list_init(&u->accepts);
    tl_list_init(&u->connects);
    tl_list_init(&u->accept_ops);
    tl_list_init(&u->connect_ops);
    u->direct_left = tl_sys.uring_direct_sends;
    loop->engine = u;
    arm_wake(u);
    return 0;
}

static void engine_deinit(struct tl_loop *loop)
{
    struct tl_uring *u = tl_uring_of(loop);
    assert(tl_list_empty(&u->ready) && tl_list_empty(&u->connects));
    uring_deinit(u);
    tl_uring_streams_deinit(u);
    tl_uring_accepts_deinit(u);
    tl_free(u->stash.items);
    tl_free(u);
}

const struct tl_engine_ops tl_engine_uring = {
    .name = "io_uring",
    .init = engine_init,
    .deinit = engine_deinit,
    .has_work = has_work,
    .wait = wait_completions,
    .io = io,
    .stream_open = tl_uring_stream_open,
    .stream_recv = tl_uring_stream_recv,
    .stream_send = tl_uring_stream_send,
    .send_all = tl_uring_send_all,
    .batch_end = tl_uring_batch_end,
    .stream_shutdown = tl_uring_stream_shutdown,
    .stream_close = tl_uring_stream_close,
    .acceptor_open = tl_uring_acceptor_open,
    .acceptor_pause = tl_uring_acceptor_pause,
    .acceptor_resume = tl_uring_acceptor_resume,
    .acceptor_close = tl_uring_acceptor_close,
    .connect_start = tl_uring_connect_start,
    .connect_cancel = tl_uring_connect_cancel,
};
