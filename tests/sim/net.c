#include "net.h"

#include "loop/sys.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKS_MAX    256
#define SOCK_FD      (1 << 20)
#define WAKE_FD      (1 << 21)
#define LISTEN_FD    (1 << 22)
#define RECV_BYTES   65536
#define READS_A_TURN 4
#define PENDING_MAX  256
#define PINGS_BYTES  8 /* that so little is taken is no sign of life: it may be pings */

/* A stream that was closed while its send was in flight: the kernel may look at the bytes until
 * then. */
struct closing {
    struct tl_stream *stream;
    unsigned n;
    struct tl_bytes slices[TL_SEND_SLICES_MAX];
};

struct engine {
    struct tl_loop *loop;
    struct tl_acceptor *acceptor;
    bool paused;
    int wake_fd;
    struct net_sock *accepting[PENDING_MAX];
    unsigned accepting_n;
    struct {
        struct tl_connect *connect;
        struct net_sock *sock;
        int result; /* 1: not known yet */
    } connects[4];
    struct closing closing[16];
    unsigned closing_n;
};

struct net_habits net_habits;
int (*net_on_connect)(struct net_sock *k);

static struct engine engines[NET_LOOPS_MAX];
static unsigned engines_n, wakes_n;
static bool woken[NET_LOOPS_MAX];
static struct net_sock *socks[SOCKS_MAX];
static int socks_end; /* there is none from here on */
static uint8_t recv_bytes[RECV_BYTES];
static volatile uint8_t looked_at;

static bool happens(uint32_t percent)
{
    return !sim.calm && percent > 0 && sim_chance(percent);
}

static struct engine *engine_of(const struct tl_loop *loop)
{
    return loop->engine;
}

static struct net_sock *sock_of(int fd)
{
    assert(fd >= SOCK_FD && fd < SOCK_FD + SOCKS_MAX && socks[fd - SOCK_FD]);
    return socks[fd - SOCK_FD];
}

static struct net_sock *sock_new(void)
{
    for (int i = 0; i < SOCKS_MAX; i++) {
        if (socks[i])
            continue;
        struct net_sock *k = calloc(1, sizeof *k);
        if (!k)
            abort();
        k->fd = SOCK_FD + i;
        k->room_max = 1 << 20;
        k->progress_ms = k->life_ms = sim.now_ms;
        socks[i] = k;
        if (i == socks_end)
            socks_end++;
        return k;
    }
    sim_fail("the simulated kernel is out of sockets");
}

static void sock_free(struct net_sock *k)
{
    socks[k->fd - SOCK_FD] = NULL;
    sim_pipe_free(&k->to_gw);
    sim_pipe_free(&k->from_gw);
    free(k);
}

/* Those that both sides have done with. Not from inside io(), which may be at one. */
static void reap(void)
{
    for (int i = 0; i < socks_end; i++)
        if (socks[i] && socks[i]->gw_closed && !socks[i]->owner)
            sock_free(socks[i]);
}

/* --- sending --- */

/* How much of it is taken now; 0: the socket is full. */
static ssize_t take(struct net_sock *k, const struct tl_bytes *slices, unsigned n)
{
    if (k->peer_rst)
        return -ECONNRESET;
    if (k->gw_fin)
        return -EPIPE;
    size_t room = k->room_max > k->from_gw.n ? k->room_max - k->from_gw.n : 0;
    if (room > 1 && happens(net_habits.short_send))
        room = 1 + sim_below(room > 300 ? 300 : (uint32_t)room);
    uint64_t before = k->taken_n;
    for (unsigned i = 0; i < n && room > 0; i++) {
        size_t part = slices[i].n < room ? slices[i].n : room;
        if (!k->peer_gone)
            sim_pipe_add(&k->from_gw, tl_bytes(slices[i].p, part));
        k->taken_n += part;
        room -= part;
    }
    if (k->taken_n == before)
        return 0;
    k->progress_ms = sim.now_ms;
    if (k->taken_n - before > PINGS_BYTES)
        k->life_ms = sim.now_ms;
    if (k->peer_gone)
        k->peer_rst = true;
    if (k->on_taken)
        k->on_taken(k, before);
    return (ssize_t)(k->taken_n - before);
}

static ssize_t stream_send(struct tl_stream *s, const struct tl_bytes *slices, unsigned n)
{
    struct net_sock *k = sock_of(s->fd);
    assert(!k->send.active);
    bool queues = s->loop->ops->batch_end != NULL;
    bool queued = queues && (s->loop->batching ? !sim_chance(20) : net_habits.queues_always);
    ssize_t taken = queued || happens(net_habits.refused_send) ? 0 : take(k, slices, n);
    if (taken != 0)
        return taken;
    k->send.active = true;
    k->send.queued = queued && s->loop->batching;
    k->send.n = n;
    memcpy(k->send.slices, slices, n * sizeof *slices);
    k->progress_ms = sim.now_ms;
    s->pending = k;
    return TL_SEND_PENDING;
}

static void send_all(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                     const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken)
{
    (void)loop;
    for (unsigned i = 0; i < streams_n; i++)
        ret_taken[i] = stream_send(streams[i], slices, slices_n);
}

/* False: the socket is full, it stays pending. */
static bool finish_send(struct net_sock *k)
{
    ssize_t taken = take(k, k->send.slices, k->send.n);
    if (taken == 0)
        return false;
    k->send.active = k->send.queued = false;
    k->stream->pending = NULL;
    k->stream->handler->on_sent(k->stream, taken);
    return true;
}

/* What was taken is told now and then, so that some are told together. */
static void tell_all(struct tl_stream *const *streams, const int32_t *taken, unsigned *n)
{
    if (*n > 0)
        streams[0]->handler->on_sent_all(streams, taken, *n);
    *n = 0;
}

static void batch_end(struct tl_loop *loop)
{
    struct tl_stream *streams[TL_SEND_ALL_MAX];
    int32_t taken_n[TL_SEND_ALL_MAX];
    unsigned n = 0;
    for (int i = 0; i < socks_end; i++) {
        struct net_sock *k = socks[i];
        if (!k || k->loop != loop || !k->stream || !k->send.queued)
            continue;
        k->send.queued = false;
        const struct tl_stream_handler *handler = k->stream->handler;
        if (handler->on_sent_all == NULL) {
            finish_send(k);
            continue;
        }
        ssize_t taken = take(k, k->send.slices, k->send.n);
        if (taken == 0)
            continue;
        k->send.active = false;
        k->stream->pending = NULL;
        if (taken < 0) {
            handler->on_sent(k->stream, taken);
            continue;
        }
        if (n == TL_SEND_ALL_MAX || (n > 0 && (streams[0]->handler != handler || sim_chance(20))))
            tell_all(streams, taken_n, &n);
        streams[n] = k->stream;
        taken_n[n++] = (int32_t)taken;
    }
    tell_all(streams, taken_n, &n);
}

static bool can_send(const struct net_sock *k)
{
    return k->send.active && (k->from_gw.n < k->room_max || k->peer_rst || k->gw_fin);
}

/* --- receiving --- */

static void give(struct net_sock *k)
{
    size_t most = sizeof recv_bytes < k->to_gw.n ? sizeof recv_bytes : k->to_gw.n;
    size_t n = happens(net_habits.short_send) ? sim_between(1, (uint32_t)most) : most;
    memcpy(recv_bytes, k->to_gw.p + k->to_gw.at, n);
    sim_pipe_drop(&k->to_gw, n);
    k->given_n += n;
    k->life_ms = sim.now_ms;
    if (k->on_given)
        k->on_given(k);
    k->stream->handler->on_recv(k->stream, recv_bytes, (ssize_t)n);
}

static bool has_end(const struct net_sock *k)
{
    if (k->told || (k->wanted && k->to_gw.n > 0))
        return false;
    return k->peer_rst || (k->peer_fin && (k->wanted || k->gw_fin));
}

static bool has_events(const struct net_sock *k)
{
    return k->stream && (can_send(k) || (k->wanted && k->to_gw.n > 0) || has_end(k));
}

static void work(struct net_sock *k)
{
    if (can_send(k) && !happens(net_habits.late))
        finish_send(k);
    for (int reads = 0; reads < READS_A_TURN; reads++) {
        if (!k->stream || !k->wanted || k->to_gw.n == 0 || happens(net_habits.late))
            break;
        give(k);
    }
    if (!k->stream || !has_end(k) || happens(net_habits.late))
        return;
    k->told = true;
    k->stream->handler->on_recv(k->stream, NULL, k->peer_rst ? -ECONNRESET : 0);
}

/* --- streams --- */

static int stream_open(struct tl_stream *s)
{
    struct net_sock *k = sock_of(s->fd);
    k->stream = s;
    k->loop = s->loop;
    return 0;
}

static void stream_recv(struct tl_stream *s, bool on)
{
    sock_of(s->fd)->wanted = on;
}

static void stream_shutdown(struct tl_stream *s)
{
    sock_of(s->fd)->gw_fin = true;
}

/* The kernel holds on to the bytes of the send that is cancelled. */
static void cancel_send(struct engine *e, struct net_sock *k, struct tl_stream *s)
{
    if (sim_chance(30))
        take(k, k->send.slices, k->send.n);
    s->pending = NULL;
    if (e->closing_n == sizeof e->closing / sizeof *e->closing || sim_chance(50)) {
        tl_loop_stream_over(s);
        return;
    }
    struct closing *closing = &e->closing[e->closing_n++];
    *closing = (struct closing){.stream = s, .n = k->send.n};
    memcpy(closing->slices, k->send.slices, k->send.n * sizeof *k->send.slices);
}

static void stream_close(struct tl_stream *s, bool reset)
{
    struct net_sock *k = sock_of(s->fd);
    bool sending = k->send.active;
    k->cut.stuck_ms = sending ? sim.now_ms - k->progress_ms : 0;
    k->cut.silent_ms = sim.now_ms - k->life_ms;
    k->gw_closed = k->gw_fin = true;
    k->gw_rst = reset || k->to_gw.n > 0; /* unread input makes a RST of the FIN */
    k->stream = NULL;
    s->fd = -1;
    if (sending) {
        k->gw_fin = false;
        cancel_send(engine_of(s->loop), k, s);
        k->gw_fin = true;
        k->send.active = k->send.queued = false;
    } else {
        tl_loop_stream_over(s);
    }
}

static void tell_closed(struct engine *e)
{
    unsigned n = e->closing_n;
    for (unsigned i = 0; i < n; i++) {
        struct closing *closing = &e->closing[i];
        for (unsigned j = 0; j < closing->n; j++) /* valid until on_closed */
            looked_at = closing->slices[j].p[0] ^ closing->slices[j].p[closing->slices[j].n - 1];
        tl_loop_stream_over(closing->stream);
    }
    e->closing_n = 0;
}

/* --- accepting and connecting --- */

int net_listen_fd(void)
{
    return LISTEN_FD;
}

static int acceptor_open(struct tl_acceptor *a)
{
    engine_of(a->loop)->acceptor = a;
    return 0;
}

static void acceptor_pause(struct tl_acceptor *a)
{
    engine_of(a->loop)->paused = true;
}

static void acceptor_resume(struct tl_acceptor *a)
{
    engine_of(a->loop)->paused = false;
}

static void acceptor_close(struct tl_acceptor *a)
{
    struct engine *e = engine_of(a->loop);
    e->acceptor = NULL;
    a->fd = -1;
    for (unsigned i = 0; i < e->accepting_n; i++) {
        struct net_sock *k = e->accepting[i];
        k->gw_closed = k->gw_fin = k->gw_rst = true;
        if (!k->owner)
            sock_free(k);
    }
    e->accepting_n = 0;
}

static void accept_all(struct engine *e)
{
    struct sockaddr_storage peer = {.ss_family = AF_INET};
    while (e->accepting_n > 0 && e->acceptor && !e->paused) {
        int fd = e->accepting[0]->fd;
        e->accepting_n--;
        memmove(e->accepting, e->accepting + 1, e->accepting_n * sizeof *e->accepting);
        e->acceptor->on_accept(e->acceptor, fd, &peer);
    }
}

static int connect_start(struct tl_connect *c, const struct sockaddr *address, socklen_t address_n)
{
    struct engine *e = engine_of(c->loop);
    (void)address;
    (void)address_n;
    for (size_t i = 0; i < sizeof e->connects / sizeof *e->connects; i++) {
        if (e->connects[i].connect)
            continue;
        struct net_sock *k = sock_new();
        c->fd = k->fd;
        e->connects[i].connect = c;
        e->connects[i].sock = k;
        e->connects[i].result = 1;
        return 0;
    }
    return -EMFILE;
}

static void connect_cancel(struct tl_connect *c)
{
    struct engine *e = engine_of(c->loop);
    for (size_t i = 0; i < sizeof e->connects / sizeof *e->connects; i++) {
        if (e->connects[i].connect != c)
            continue;
        e->connects[i].connect = NULL;
        sock_free(e->connects[i].sock);
    }
    c->fd = -1;
}

static void connect_all(struct engine *e)
{
    for (size_t i = 0; i < sizeof e->connects / sizeof *e->connects; i++) {
        struct tl_connect *c = e->connects[i].connect;
        struct net_sock *k = e->connects[i].sock;
        if (!c || happens(net_habits.late))
            continue;
        int result = net_on_connect(k);
        if (result == 1)
            continue;
        e->connects[i].connect = NULL;
        int fd = result < 0 ? result : k->fd;
        if (result < 0)
            sock_free(k);
        c->fd = -1;
        c->loop = NULL;
        c->on_connect(c, fd); /* may free it */
    }
}

/* --- the engine --- */

static int engine_init(struct tl_loop *loop)
{
    assert(engines_n < NET_LOOPS_MAX);
    struct engine *e = &engines[engines_n++];
    *e = (struct engine){.loop = loop, .wake_fd = loop->mailbox.wake_fd};
    loop->engine = e;
    return 0;
}

static void engine_deinit(struct tl_loop *loop)
{
    const struct engine *e = engine_of(loop);
    assert(e->accepting_n == 0 && e->closing_n == 0);
}

static bool has_work(const struct tl_loop *loop)
{
    (void)loop;
    return true; /* the world turns no loop that would block */
}

/* Edge-triggered: what woke this loop does not wake it again. */
static void wait_events(struct tl_loop *loop, int timeout_ms)
{
    (void)timeout_ms;
    woken[engine_of(loop)->wake_fd - WAKE_FD] = false;
}

static void io(struct tl_loop *loop)
{
    struct engine *e = engine_of(loop);
    tell_closed(e);
    accept_all(e);
    connect_all(e);
    uint32_t n = (uint32_t)socks_end, from = sim.calm ? 0 : sim_below(n);
    for (uint32_t i = 0; i < n; i++) {
        struct net_sock *k = socks[(from + i) % n];
        if (k && k->loop == loop && k->stream)
            work(k);
    }
    reap();
}

#define OPS(name_, batch_end_)                                                                     \
    {                                                                                              \
        .name = (name_), .init = engine_init, .deinit = engine_deinit, .has_work = has_work,       \
        .wait = wait_events, .io = io, .stream_open = stream_open, .stream_recv = stream_recv,     \
        .stream_send = stream_send, .send_all = send_all, .batch_end = (batch_end_),               \
        .stream_shutdown = stream_shutdown, .stream_close = stream_close,                          \
        .acceptor_open = acceptor_open, .acceptor_pause = acceptor_pause,                          \
        .acceptor_resume = acceptor_resume, .acceptor_close = acceptor_close,                      \
        .connect_start = connect_start, .connect_cancel = connect_cancel                           \
    }
const struct tl_engine_ops tl_engine_epoll = OPS("simulated, as epoll", NULL);
const struct tl_engine_ops tl_engine_uring = OPS("simulated, as io_uring", batch_end);

bool net_is_due(const struct tl_loop *loop)
{
    const struct engine *e = engine_of(loop);
    if (woken[e->wake_fd - WAKE_FD] || loop->mailbox.own_mail || !tl_list_empty(&loop->tasks) ||
        !tl_list_empty(&loop->closed) || e->closing_n > 0 || net_wait_ms(loop) == 0 ||
        (e->accepting_n > 0 && e->acceptor && !e->paused))
        return true;
    for (size_t i = 0; i < sizeof e->connects / sizeof *e->connects; i++)
        if (e->connects[i].connect && net_on_connect(NULL) != 1)
            return true;
    for (int i = 0; i < socks_end; i++)
        if (socks[i] && socks[i]->loop == loop && has_events(socks[i]))
            return true;
    return false;
}

uint64_t net_wait_ms(const struct tl_loop *loop)
{
    return tl_timers_wait_ms(&loop->timers, sim.now_ms);
}

/* --- the peers --- */

static int unsent(int fd, int *ret_bytes_n)
{
    *ret_bytes_n = (int)sock_of(fd)->from_gw.n;
    return 0;
}

void net_start(void)
{
    tl_sys.unsent = unsent;
    engines_n = wakes_n = 0;
    socks_end = 0;
    memset(woken, 0, sizeof woken);
}

void net_end(void)
{
    reap();
    for (int i = 0; i < SOCKS_MAX; i++)
        if (socks[i])
            sim_fail("a connection was never closed: fd %d", i);
}

struct net_sock *net_connect(unsigned loop_i)
{
    struct engine *e = &engines[loop_i];
    struct net_sock *k = sock_new();
    k->owner = k; /* until the caller sets its own */
    if (!e->acceptor || e->accepting_n == PENDING_MAX) {
        k->gw_closed = k->gw_fin = k->gw_rst = true; /* connection refused */
        return k;
    }
    e->accepting[e->accepting_n++] = k;
    return k;
}

void net_release(struct net_sock *k)
{
    k->owner = NULL;
    k->on_given = NULL;
    k->on_taken = NULL;
    if (k->gw_closed)
        sock_free(k);
    else
        net_peer_close(k);
}

void net_peer_fin(struct net_sock *k)
{
    k->peer_fin = true;
}

void net_peer_close(struct net_sock *k)
{
    k->peer_rst |= k->from_gw.n > 0; /* it had not read all */
    k->peer_fin = k->peer_gone = true;
    sim_pipe_drop(&k->from_gw, k->from_gw.n);
}

void net_peer_reset(struct net_sock *k)
{
    net_peer_close(k);
    k->peer_rst = true;
    if (sim_chance(50))
        sim_pipe_drop(&k->to_gw, k->to_gw.n);
}

bool net_is_over(const struct net_sock *k)
{
    return k->gw_rst || (k->gw_fin && k->from_gw.n == 0);
}

/* --- the system calls that mailboxes and others make; see meson.build --- */

int __wrap_eventfd(unsigned count, int flags);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
int __wrap_close(int fd);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t value_n);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __real_write(int fd, const void *bytes, size_t n);
int __real_close(int fd);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t value_n);

int __wrap_eventfd(unsigned count, int flags)
{
    (void)count;
    (void)flags;
    assert(wakes_n < NET_LOOPS_MAX);
    return WAKE_FD + (int)wakes_n++;
}

ssize_t __wrap_read(int fd, void *bytes, size_t n)
{
    if (fd < WAKE_FD)
        return __real_read(fd, bytes, n);
    woken[fd - WAKE_FD] = false; /* epoll_wait() looks again, and finds it empty */
    return (ssize_t)n;
}

ssize_t __wrap_write(int fd, const void *bytes, size_t n)
{
    if (fd < WAKE_FD)
        return __real_write(fd, bytes, n);
    woken[fd - WAKE_FD] = true;
    return (ssize_t)n;
}

int __wrap_close(int fd)
{
    return fd < SOCK_FD ? __real_close(fd) : 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t value_n)
{
    return fd < SOCK_FD ? __real_setsockopt(fd, level, name, value, value_n) : 0;
}
