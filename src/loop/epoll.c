/*
 * The epoll engine. Streams are watched edge-triggered for everything from the start, so that a
 * session costs one epoll_ctl() in its life; what was announced and not used yet is kept in flags.
 */
#include "base/alloc.h"
#include "loop/engine.h"
#include "loop/sys.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#define EVENTS_MAX      512
#define RECV_BYTES      (64 * 1024)
#define READS_A_TURN    4  /* receives for one stream before the others get their turn */
#define ACCEPTS_A_TURN  64 /* the same for an acceptor */
#define FREE_SENDS_KEPT 256

enum stream_flag {
    WANTED = 1,    /* tl_stream_recv(s, true) */
    READABLE = 2,  /* announced, and not read until it was drained */
    HALF_GONE = 4, /* EPOLLRDHUP was seen: a short read no longer means drained */
    BROKEN = 8,    /* EPOLLERR or EPOLLHUP was seen */
    TOLD = 16,     /* on_recv(n <= 0) was told */
};

enum acceptor_flag { PAUSED = 1 };

/* What an event's pointer points to, in its lowest bits. */
enum target { STREAM, ACCEPTOR, CONNECT, MAILBOX, TARGET_MASK = 3 };

struct send_op {
    struct send_op *next; /* when free */
    unsigned n;
    struct tl_bytes slices[TL_SEND_SLICES_MAX];
};

struct epoll_engine {
    int epoll_fd;
    int events_n, event_at;
    struct epoll_event events[EVENTS_MAX];
    struct tl_list ready;          /* streams with work that no event will announce */
    struct tl_list connects;       /* connects whose result is known already */
    struct tl_acceptor *accepting; /* the one in its callback; NULL once it closed itself */
    struct send_op *free_sends;
    size_t free_sends_n;
    uint8_t recv_bytes[RECV_BYTES]; /* lent to on_recv */
};

static struct epoll_engine *engine_of(const struct tl_loop *loop)
{
    return loop->engine;
}

static int watch(struct epoll_engine *e, int op, int fd, uint32_t events, const void *target,
                 enum target kind)
{
    struct epoll_event event = {.events = events, .data.u64 = (uintptr_t)target | kind};
    return tl_sys.epoll_ctl(e->epoll_fd, op, fd, &event) == 0 ? 0 : -errno;
}

/* The events of this batch that are still to come must not touch memory given back to its owner. */
static void forget(struct epoll_engine *e, const void *target, enum target kind)
{
    for (int i = e->event_at; i < e->events_n; i++)
        if (e->events[i].data.u64 == ((uintptr_t)target | kind))
            e->events[i].data.u64 = STREAM; /* a NULL stream */
}

/* ---- sending ---- */

static struct send_op *send_op_new(struct epoll_engine *e)
{
    struct send_op *op = e->free_sends;
    if (op == NULL)
        return tl_alloc(sizeof(*op));
    e->free_sends = op->next;
    e->free_sends_n--;
    return op;
}

static void send_op_free(struct epoll_engine *e, struct send_op *op)
{
    if (op == NULL)
        return;
    if (e->free_sends_n >= FREE_SENDS_KEPT) {
        tl_free(op);
        return;
    }
    op->next = e->free_sends;
    e->free_sends = op;
    e->free_sends_n++;
}

static void make_ready(struct epoll_engine *e, struct tl_stream *s)
{
    if (tl_list_empty(&s->ready))
        tl_list_append(&e->ready, &s->ready);
}

/* A send that could not be made at once, for `why`, is made when the socket has room. */
static ssize_t send_later(struct tl_stream *s, const struct tl_bytes *slices, unsigned n, int why)
{
    struct epoll_engine *e = engine_of(s->loop);
    struct send_op *op = send_op_new(e);
    if (op == NULL)
        return -ENOMEM;
    op->n = n;
    memcpy(op->slices, slices, n * sizeof(*slices));
    s->pending = op;
    if (why == -EINTR)
        make_ready(e, s); /* no EPOLLOUT will come for it */
    return TL_SEND_PENDING;
}

static ssize_t stream_send(struct tl_stream *s, const struct tl_bytes *slices, unsigned n)
{
    ssize_t taken = tl_socket_send(s->fd, slices, n);
    if (taken != -EAGAIN && taken != -EINTR)
        return taken;
    return send_later(s, slices, n, (int)taken);
}

/* Hot. */
static void send_all(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                     const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken)
{
    (void)loop;
    for (unsigned i = 0; i < streams_n; i++) {
        struct tl_stream *s = streams[i];
        assert(s->pending == NULL && !tl_stream_is_closed(s));
        ssize_t taken = slices_n == 1 ? tl_sys.send(s->fd, slices->p, slices->n, MSG_NOSIGNAL) : -1;
        ret_taken[i] = taken > 0 ? taken : stream_send(s, slices, slices_n);
    }
}

static void resume_send(struct epoll_engine *e, struct tl_stream *s)
{
    struct send_op *op = s->pending;
    ssize_t taken = tl_socket_send(s->fd, op->slices, op->n);
    if (taken == -EAGAIN)
        return;
    if (taken == -EINTR) {
        make_ready(e, s);
        return;
    }
    s->pending = NULL;
    send_op_free(e, op);
    s->handler->on_sent(s, taken);
}

/* ---- receiving ---- */

static void tell_end(struct tl_stream *s, ssize_t n)
{
    s->flags |= TOLD;
    s->flags &= (uint16_t)~READABLE;
    s->handler->on_recv(s, NULL, n);
}

static void receive_once(struct epoll_engine *e, struct tl_stream *s)
{
    size_t room = tl_sys.recv_bytes_max < RECV_BYTES ? tl_sys.recv_bytes_max : RECV_BYTES;
    ssize_t n = tl_sys.recv(s->fd, e->recv_bytes, room, 0);
    if (n < 0 && errno == EINTR)
        return;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        s->flags &= (uint16_t)~READABLE;
        return;
    }
    if (n <= 0) {
        tell_end(s, n == 0 ? 0 : -errno);
        return;
    }
    /* What comes after a short read is announced again; the end of the stream is not. */
    if ((size_t)n < room && (s->flags & (HALF_GONE | BROKEN)) == 0)
        s->flags &= (uint16_t)~READABLE;
    s->handler->on_recv(s, e->recv_bytes, n);
}

static void receive(struct epoll_engine *e, struct tl_stream *s)
{
    const unsigned go = WANTED | READABLE;
    for (int reads = 0; !tl_stream_is_closed(s) && (s->flags & go) == go; reads++) {
        if (reads == READS_A_TURN) {
            make_ready(e, s);
            return;
        }
        receive_once(e, s);
    }
    if (!tl_stream_is_closed(s) && (s->flags & (WANTED | BROKEN | TOLD)) == BROKEN)
        tell_end(s, tl_socket_error(s->fd)); /* paused, but nobody is there any more */
}

static void stream_work(struct epoll_engine *e, struct tl_stream *s)
{
    if (s->pending != NULL)
        resume_send(e, s);
    receive(e, s);
}

static void on_stream_event(struct epoll_engine *e, struct tl_stream *s, uint32_t events)
{
    if (s == NULL || tl_stream_is_closed(s))
        return; /* closed by an earlier event of this batch; alive until on_closed */
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 && (s->flags & TOLD) == 0)
        s->flags |= READABLE;
    if ((events & EPOLLRDHUP) != 0)
        s->flags |= HALF_GONE;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        s->flags |= BROKEN;
    tl_list_remove(&s->ready); /* this is its turn */
    stream_work(e, s);
}

/* ---- streams ---- */

static int stream_open(struct tl_stream *s)
{
    return watch(engine_of(s->loop), EPOLL_CTL_ADD, s->fd,
                 EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, s, STREAM);
}

static void stream_recv(struct tl_stream *s, bool on)
{
    if (on)
        s->flags |= WANTED;
    else
        s->flags &= (uint16_t)~WANTED;
    bool unread = on && (s->flags & READABLE) != 0;
    bool untold = !on && (s->flags & (BROKEN | TOLD)) == BROKEN;
    if (unread || untold)
        make_ready(engine_of(s->loop), s);
}

static void stream_shutdown(struct tl_stream *s)
{
    shutdown(s->fd, SHUT_WR);
}

static void stream_close(struct tl_stream *s, bool reset)
{
    if (reset)
        tl_socket_reset_on_close(s->fd);
    close(s->fd);
    s->fd = -1;
    send_op_free(engine_of(s->loop), s->pending);
    s->pending = NULL;
    tl_list_remove(&s->ready);
    tl_loop_stream_over(s);
}

/* ---- accepting: level-triggered, so that what is left over is announced again ---- */

static int acceptor_open(struct tl_acceptor *a)
{
    return watch(engine_of(a->loop), EPOLL_CTL_ADD, a->fd, EPOLLIN, a, ACCEPTOR);
}

static void acceptor_pause(struct tl_acceptor *a)
{
    if ((a->flags & PAUSED) != 0)
        return;
    a->flags |= PAUSED;
    watch(engine_of(a->loop), EPOLL_CTL_MOD, a->fd, 0, a, ACCEPTOR);
}

static void acceptor_resume(struct tl_acceptor *a)
{
    if ((a->flags & PAUSED) == 0)
        return;
    a->flags &= (uint16_t)~PAUSED;
    watch(engine_of(a->loop), EPOLL_CTL_MOD, a->fd, EPOLLIN, a, ACCEPTOR);
}

static void acceptor_close(struct tl_acceptor *a)
{
    struct epoll_engine *e = engine_of(a->loop);
    forget(e, a, ACCEPTOR);
    if (e->accepting == a)
        e->accepting = NULL;
    close(a->fd);
    a->fd = -1;
}

/* Whether there may be more to accept. */
static bool accept_once(struct tl_acceptor *a)
{
    struct sockaddr_storage peer;
    socklen_t peer_n = sizeof(peer);
    memset(&peer, 0, sizeof(peer));
    int fd = tl_sys.accept4(a->fd, (struct sockaddr *)(void *)&peer, &peer_n,
                            SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        a->on_accept(a, fd, &peer);
        return true;
    }
    int error = errno;
    if (error == EAGAIN || error == EWOULDBLOCK)
        return false;
    if (tl_socket_accept_passes(error))
        return true;
    /* Out of descriptors or memory, or a listener that is none: trying again at once would spin. */
    acceptor_pause(a);
    a->on_refused(a, -error);
    return false;
}

static void on_acceptor_event(struct epoll_engine *e, struct tl_acceptor *a)
{
    e->accepting = a;
    for (int n = 0; n < ACCEPTS_A_TURN; n++) {
        if ((a->flags & PAUSED) != 0 || !accept_once(a))
            break;
        if (e->accepting != a)
            return; /* it closed itself, and its memory may be gone */
    }
    e->accepting = NULL;
}

/* ---- connecting ---- */

static int connect_start(struct tl_connect *c, const struct sockaddr *address, socklen_t address_n)
{
    struct epoll_engine *e = engine_of(c->loop);
    int status = tl_socket_connect(c, address, address_n);
    if (status < 0)
        return status;
    if (status == 0) {
        tl_list_append(&e->connects, &c->ready);
        return 0;
    }
    int error = watch(e, EPOLL_CTL_ADD, c->fd, EPOLLOUT, c, CONNECT);
    if (error != 0) {
        close(c->fd);
        c->fd = -1;
    }
    return error;
}

static void connect_cancel(struct tl_connect *c)
{
    forget(engine_of(c->loop), c, CONNECT);
    tl_list_remove(&c->ready);
    close(c->fd);
    c->fd = -1;
}

static void on_connect_event(struct epoll_engine *e, struct tl_connect *c)
{
    c->error = (int)tl_socket_error(c->fd);
    watch(e, EPOLL_CTL_DEL, c->fd, 0, c, CONNECT); /* the fd goes on as somebody's stream */
    tl_socket_connect_over(c);
}

/* ---- the turn ---- */

static bool has_work(const struct tl_loop *loop)
{
    const struct epoll_engine *e = engine_of(loop);
    return !tl_list_empty(&e->ready) || !tl_list_empty(&e->connects);
}

static void wait_events(struct tl_loop *loop, int timeout_ms)
{
    struct epoll_engine *e = engine_of(loop);
    int n = tl_sys.epoll_wait(e->epoll_fd, e->events, EVENTS_MAX, timeout_ms);
    e->event_at = 0;
    e->events_n = n > 0 ? n : 0; /* an interrupted wait is a turn without events */
}

static void on_event(struct epoll_engine *e, const struct epoll_event *event)
{
    void *target = (void *)(uintptr_t)(event->data.u64 & ~(uint64_t)TARGET_MASK);
    switch (event->data.u64 & TARGET_MASK) {
    case STREAM:
        on_stream_event(e, target, event->events);
        break;
    case ACCEPTOR:
        on_acceptor_event(e, target);
        break;
    case CONNECT:
        on_connect_event(e, target);
        break;
    default:
        break; /* mail: the turn looks into the mailbox anyway */
    }
}

static void io(struct tl_loop *loop)
{
    struct epoll_engine *e = engine_of(loop);
    struct tl_list ready, connects, *node;
    tl_list_init(&ready);
    tl_list_init(&connects);
    tl_list_splice(&ready, &e->ready);
    tl_list_splice(&connects, &e->connects);
    while (e->event_at < e->events_n) {
        struct epoll_event event = e->events[e->event_at++];
        on_event(e, &event);
    }
    while ((node = tl_list_pop(&connects)) != NULL)
        tl_socket_connect_over(TL_CONTAINER(node, struct tl_connect, ready));
    while ((node = tl_list_pop(&ready)) != NULL)
        stream_work(e, TL_CONTAINER(node, struct tl_stream, ready));
}

static int engine_init(struct tl_loop *loop)
{
    struct epoll_engine *e = tl_zalloc(sizeof(*e));
    if (e == NULL)
        return -ENOMEM;
    tl_list_init(&e->ready);
    tl_list_init(&e->connects);
    int error;
    e->epoll_fd = tl_sys.epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0) {
        error = -errno;
        goto free_engine;
    }
    /* Edge-triggered: each wake is one event, and the wake of tl_loop_stop() need not be read. */
    error = watch(e, EPOLL_CTL_ADD, loop->mailbox.wake_fd, EPOLLIN | EPOLLET, NULL, MAILBOX);
    if (error != 0)
        goto close_epoll;
    loop->engine = e;
    return 0;
close_epoll:
    close(e->epoll_fd);
free_engine:
    tl_free(e);
    return error;
}

static void engine_deinit(struct tl_loop *loop)
{
    struct epoll_engine *e = engine_of(loop);
    assert(tl_list_empty(&e->ready) && tl_list_empty(&e->connects));
    for (struct send_op *op = e->free_sends, *next; op != NULL; op = next) {
        next = op->next;
        tl_free(op);
    }
    close(e->epoll_fd);
    tl_free(e);
}

const struct tl_engine_ops tl_engine_epoll = {
    .name = "epoll",
    .init = engine_init,
    .deinit = engine_deinit,
    .has_work = has_work,
    .wait = wait_events,
    .io = io,
    .stream_open = stream_open,
    .stream_recv = stream_recv,
    .stream_send = stream_send,
    .send_all = send_all,
    .stream_shutdown = stream_shutdown,
    .stream_close = stream_close,
    .acceptor_open = acceptor_open,
    .acceptor_pause = acceptor_pause,
    .acceptor_resume = acceptor_resume,
    .acceptor_close = acceptor_close,
    .connect_start = connect_start,
    .connect_cancel = connect_cancel,
};
