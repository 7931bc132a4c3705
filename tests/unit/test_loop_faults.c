/*
 * Does the loop survive what the kernel may do to its calls: small, interrupted, refused? An echo
 * server runs on the loop while every call fails in turn with every error.
 */
#include "loop_fixture.h"

#include "base/alloc.h"

#include <liburing.h>

/* ---- an echo server that is paced by its peer ---- */

struct echo {
    struct tl_stream s;
    struct tl_task retry; /* after -ENOMEM */
    struct tl_buf out;
    size_t sending_n; /* of a pending send */
};

static unsigned echoes_open;

static void echo_flush(struct echo *e)
{
    while (e->out.n > 0) {
        size_t half = e->out.n / 2;
        struct tl_bytes two[2] = {tl_bytes(e->out.p, half),
                                  tl_bytes(e->out.p + half, e->out.n - half)};
        ssize_t n = half > 0 ? tl_stream_send(&e->s, two, 2) : tl_stream_send(&e->s, two + 1, 1);
        if (n == TL_SEND_PENDING) {
            e->sending_n = e->out.n;
            return;
        }
        if (n == -ENOMEM) {
            tl_loop_defer(e->s.loop, &e->retry);
            return;
        }
        if (n < 0) {
            tl_stream_close(&e->s);
            return;
        }
        tl_buf_consume(&e->out, (size_t)n);
    }
    tl_stream_recv(&e->s, true);
}

static void echo_recv(struct tl_stream *s, uint8_t *bytes, ssize_t n)
{
    struct echo *e = TL_CONTAINER(s, struct echo, s);
    if (n <= 0) {
        tl_stream_close(s);
        return;
    }
    tl_buf_append(&e->out, tl_bytes(bytes, (size_t)n));
    if (e->out.failed) {
        tl_stream_reset(s);
        return;
    }
    tl_stream_recv(s, false);
    echo_flush(e);
}

static void echo_sent(struct tl_stream *s, ssize_t n)
{
    struct echo *e = TL_CONTAINER(s, struct echo, s);
    if (n < 0 && n != -ENOMEM) {
        tl_stream_close(s);
        return;
    }
    assert_true(n <= (ssize_t)e->sending_n);
    if (n > 0)
        tl_buf_consume(&e->out, (size_t)n);
    echo_flush(e);
}

static void echo_closed(struct tl_stream *s)
{
    struct echo *e = TL_CONTAINER(s, struct echo, s);
    tl_task_cancel(&e->retry);
    tl_buf_deinit(&e->out);
    tl_free(e);
    echoes_open--;
}

static void echo_retry(struct tl_task *task)
{
    echo_flush(TL_CONTAINER(task, struct echo, retry));
}

static const struct tl_stream_handler echo_handler = {
    .on_recv = echo_recv,
    .on_sent = echo_sent,
    .on_closed = echo_closed,
};

static unsigned refusals;

static void echo_accept(struct tl_acceptor *a, int fd, const struct sockaddr_storage *peer)
{
    (void)peer;
    struct echo *e = tl_zalloc(sizeof(*e));
    if (e == NULL) {
        close(fd);
        return;
    }
    tl_task_init(&e->retry, echo_retry);
    if (tl_stream_open(a->loop, &e->s, fd, &echo_handler) < 0) {
        close(fd);
        tl_free(e);
        return;
    }
    echoes_open++;
    tl_stream_recv(&e->s, true);
}

static void echo_refused(struct tl_acceptor *a, int error)
{
    (void)error;
    assert_true(a->fd >= 0);
    refusals++;
}

/* ---- a client, step by step with the loop ---- */

struct client {
    int fd;
    size_t sent, got;
    bool over; /* its connection broke */
};

static uint8_t pattern[300000];

static void client_step(struct client *c, size_t total)
{
    uint8_t bytes[8192];
    if (c->sent < total) {
        size_t left = total - c->sent;
        ssize_t n = send(c->fd, pattern + c->sent, left < 5000 ? left : 5000, MSG_NOSIGNAL);
        if (n > 0)
            c->sent += (size_t)n;
        else if (errno != EAGAIN)
            c->over = true;
    }
    for (ssize_t n; (n = recv(c->fd, bytes, sizeof(bytes), 0)) >= 0 || errno != EAGAIN;) {
        if (n <= 0) {
            c->over = true;
            return;
        }
        assert_true(c->got + (size_t)n <= c->sent);
        assert_memory_equal(bytes, pattern + c->got, (size_t)n);
        c->got += (size_t)n;
    }
}

struct world {
    struct tl_loop *loop;
    struct tl_acceptor acceptor;
    struct sockaddr_in address;
};

static void world_open(struct world *w, struct tl_loop *loop)
{
    memset(w, 0, sizeof(*w));
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 7 + (i >> 8) * 31);
    w->loop = loop;
    w->acceptor.on_accept = echo_accept;
    w->acceptor.on_refused = echo_refused;
    assert_int_equal(tl_acceptor_open(loop, &w->acceptor, tcp_listen(&w->address)), 0);
    refusals = 0;
}

static void world_close(struct world *w)
{
    restore_sys();
    tl_acceptor_close(&w->acceptor);
    TURN_UNTIL(w->loop, echoes_open == 0);
}

static void echo_all(struct world *w, size_t total)
{
    struct client c = {.fd = tcp_dial(&w->address)};
    for (uint64_t end_ms = tl_clock_ms() + DEADLINE_MS; c.got < total;) {
        assert_true(tl_clock_ms() < end_ms);
        client_step(&c, total);
        assert_false(c.over);
        tl_loop_turn(w->loop, 0);
    }
    close(c.fd);
}

/* ---- what the kernel may do ---- */

static uint64_t calls; /* of the call that is to fail */
static uint64_t fail_at, fail_n;
static int fail_errno;

static bool fails(void)
{
    uint64_t i = calls++;
    if (i < fail_at || i >= fail_at + fail_n)
        return false;
    errno = fail_errno;
    return true;
}

static int bad_accept4(int fd, struct sockaddr *peer, socklen_t *peer_n, int flags)
{
    return fails() ? -1 : accept4(fd, peer, peer_n, flags);
}

static ssize_t bad_recv(int fd, void *bytes, size_t n, int flags)
{
    return fails() ? -1 : recv(fd, bytes, n, flags);
}

static ssize_t bad_send(int fd, const void *bytes, size_t n, int flags)
{
    return fails() ? -1 : send(fd, bytes, n, flags);
}

static ssize_t bad_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return fails() ? -1 : sendmsg(fd, msg, flags);
}

static int bad_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    return fails() ? -1 : epoll_ctl(epoll_fd, op, fd, event);
}

static int bad_epoll_wait(int epoll_fd, struct epoll_event *events, int n, int timeout_ms)
{
    return fails() ? -1 : epoll_wait(epoll_fd, events, n, timeout_ms);
}

static int bad_epoll_create1(int flags)
{
    return fails() ? -1 : epoll_create1(flags);
}

static int bad_socket(int family, int type, int protocol)
{
    return fails() ? -1 : socket(family, type, protocol);
}

static enum tl_uring_op fail_op;

static int bad_op(enum tl_uring_op op)
{
    return op == fail_op && fails() ? -fail_errno : 0;
}

static void fail_ops(enum tl_uring_op op)
{
    fail_op = op;
    tl_sys.uring_fault = bad_op;
}

/* One to three bytes a call. */
static ssize_t small_send(int fd, const void *bytes, size_t n, int flags)
{
    size_t most = 1 + calls++ % 3;
    return send(fd, bytes, n < most ? n : most, flags);
}

static ssize_t small_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return small_send(fd, msg->msg_iov[0].iov_base, msg->msg_iov[0].iov_len, flags);
}

static void echo_works_with_single_byte_reads_and_tiny_writes(void **state)
{
    struct world w;
    world_open(&w, *state);
    echo_all(&w, sizeof(pattern));
    tl_sys.recv_bytes_max = 1;
    tl_sys.send = small_send;
    tl_sys.sendmsg = small_sendmsg;
    tl_sys.uring_send_bytes_max = 2;
    echo_all(&w, 3000);
    tl_sys.recv_bytes_max = 7;
    tl_sys.uring_send_bytes_max = 5;
    echo_all(&w, 30000);
    world_close(&w);
}

static void interrupted_and_refused_calls_lose_no_byte(void **state)
{
    /* Errors after which a connection must go on as if nothing had been. */
    const struct {
        int error;
        bool receive;
    } passing[] = {{EINTR, true}, {EINTR, false}, {ENOBUFS, false}, {ENOMEM, false}};
    struct world w;
    world_open(&w, *state);
    for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++) {
        for (uint64_t n = 1; n <= 13; n += 3) {
            calls = 0, fail_at = 2, fail_n = n, fail_errno = passing[i].error;
            tl_sys.recv = passing[i].receive ? bad_recv : recv;
            tl_sys.send = passing[i].receive ? send : bad_send;
            tl_sys.sendmsg = passing[i].receive ? sendmsg : bad_sendmsg;
            fail_ops(passing[i].receive ? TL_URING_RECV : TL_URING_SEND);
            echo_all(&w, 40000);
            restore_sys();
        }
    }
    world_close(&w);
}

/* One connection with the fault in place, whatever comes of it; then a whole one without. */
static void run_fault(struct world *w)
{
    if (on_uring()) { /* asks for accepting once, so make it ask again */
        tl_acceptor_pause(&w->acceptor);
        tl_loop_turn(w->loop, 0);
        tl_acceptor_resume(&w->acceptor);
    }
    struct client c = {.fd = tcp_dial(&w->address)};
    for (int turn = 0; turn < 30 && !c.over && c.got < 9000; turn++) {
        client_step(&c, 9000);
        tl_loop_turn(w->loop, 0);
    }
    close(c.fd);
    restore_sys();
    tl_acceptor_resume(&w->acceptor);
    echo_all(w, 9000);
}

static void set_fault(unsigned call)
{
    switch (call) {
    case 0:
        tl_sys.accept4 = bad_accept4;
        fail_ops(TL_URING_ACCEPT);
        break;
    case 1:
        tl_sys.recv = bad_recv;
        fail_ops(TL_URING_RECV);
        break;
    case 2:
        tl_sys.send = bad_send;
        tl_sys.sendmsg = bad_sendmsg;
        fail_ops(TL_URING_SEND);
        break;
    case 3:
        tl_sys.epoll_ctl = bad_epoll_ctl;
        fail_ops(TL_URING_CANCEL);
        break;
    case 4:
        tl_sys.epoll_wait = bad_epoll_wait;
        fail_ops(TL_URING_ENTER);
        break;
    default:
        fail_ops(TL_URING_WATCH);
        break;
    }
}

/* "Nothing to read" after an announcement is what the kernel never answers, and nothing comes after
 * it. */
static bool possible(unsigned call, int error)
{
    return call != 1 || error != EAGAIN || on_uring();
}

static void any_error_of_any_call_harms_one_connection_at_most(void **state)
{
    const int errors[] = {EINTR,      EAGAIN, ENOBUFS,   ENOMEM, EMFILE, ENFILE,       ENOSPC,
                          ECONNRESET, EPIPE,  ETIMEDOUT, EIO,    EPERM,  ECONNABORTED, EINVAL};
    struct world w;
    world_open(&w, *state);
    for (unsigned call = 0; call <= 5; call++)
        for (size_t e = 0; e < sizeof(errors) / sizeof(*errors); e++)
            for (uint64_t at = 0; at < 3 && possible(call, errors[e]); at++)
                for (uint64_t n = 1; n <= 1000; n *= 1000) {
                    calls = 0, fail_at = at, fail_n = n, fail_errno = errors[e];
                    set_fault(call);
                    run_fault(&w);
                }
    assert_true(refusals > 0);
    world_close(&w);
}

static void any_failing_allocation_harms_one_connection_at_most(void **state)
{
    struct world w;
    world_open(&w, *state);
    for (int64_t at = 0; at < 12; at++) {
        tl_alloc_fail(at, at % 2 == 0 ? 1 : -1);
        struct client c = {.fd = tcp_dial(&w.address)};
        for (int turn = 0; turn < 30 && !c.over && c.got < 9000; turn++) {
            client_step(&c, 9000);
            tl_loop_turn(w.loop, 0);
        }
        close(c.fd);
        tl_alloc_fail(0, 0);
        echo_all(&w, 9000);
    }
    world_close(&w);
}

/* ---- what is refused at once ---- */

static void loop_that_cannot_be_made_says_why_and_leaves_nothing(void **state)
{
    (void)state;
    int error = 0;
    enum tl_engine engine = test_engine->engine;
    for (int64_t i = 0; i < 2; i++) {
        tl_alloc_fail(i, 1);
        assert_null(tl_loop_new(engine, &error));
        tl_alloc_fail(0, 0);
        assert_int_equal(error, -ENOMEM);
    }
    if (on_uring())
        return;
    calls = 0, fail_at = 0, fail_n = 1, fail_errno = EMFILE;
    tl_sys.epoll_create1 = bad_epoll_create1;
    assert_null(tl_loop_new(engine, &error));
    assert_int_equal(error, -EMFILE);
    calls = 0, fail_errno = ENOMEM;
    tl_sys.epoll_ctl = bad_epoll_ctl;
    tl_sys.epoll_create1 = epoll_create1;
    assert_null(tl_loop_new(engine, &error));
    assert_int_equal(error, -ENOMEM);
    tl_loop_free(NULL);
}

static int init_error;
static unsigned refused_flags;

static int refusing_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    if (init_error != 0)
        return init_error;
    return (params->flags & refused_flags) != 0 ? -EINVAL
                                                : io_uring_queue_init_params(entries, ring, params);
}

static void refused_io_uring_is_an_error_or_makes_auto_take_epoll(void **state)
{
    (void)state;
    const int errors[] = {-EPERM, -ENOSYS, -ENOMEM, -EINVAL, -EMFILE, -EIO};
    tl_sys.uring_init = refusing_init;
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        int error = 0;
        init_error = errors[i];
        assert_null(tl_loop_new(TL_ENGINE_URING, &error));
        assert_int_equal(error, errors[i]);
        assert_true(strlen(tl_engine_refusal(error)) > 0);
        struct tl_loop *loop = tl_loop_new(TL_ENGINE_AUTO, &error);
        assert_non_null(loop);
        assert_string_equal(tl_loop_engine_name(loop), "epoll");
        assert_int_equal(tl_loop_uring_refused(loop), errors[i]);
        tl_loop_free(loop);
    }
    init_error = 0;
}

static void kernel_without_deferred_work_serves_too(void **state)
{
    (void)state;
    if (!on_uring())
        return;
    int error = 0;
    struct world w;
    tl_sys.uring_init = refusing_init;
    refused_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    struct tl_loop *loop = tl_loop_new(TL_ENGINE_URING, &error);
    assert_non_null(loop);
    world_open(&w, loop);
    echo_all(&w, sizeof(pattern));
    world_close(&w);
    tl_loop_free(loop);
}

/* ---- rings that are too small ---- */

#define CROWD 40

static void crowd_is_served_by_tiny_rings_and_few_buffers(void **state)
{
    (void)state;
    if (!on_uring())
        return;
    int error = 0;
    struct world w;
    struct client clients[CROWD];
    tl_sys.uring_entries = 2;
    tl_sys.uring_buffers_n = 2;
    struct tl_loop *loop = tl_loop_new(TL_ENGINE_URING, &error);
    assert_non_null(loop);
    world_open(&w, loop);
    for (int i = 0; i < CROWD; i++)
        clients[i] = (struct client){.fd = tcp_dial(&w.address)};
    size_t got;
    const size_t total = 20000;
    uint64_t end_ms = tl_clock_ms() + DEADLINE_MS;
    do {
        assert_true(tl_clock_ms() < end_ms);
        got = 0;
        for (int i = 0; i < CROWD; i++) {
            client_step(&clients[i], total);
            assert_false(clients[i].over);
            got += clients[i].got;
        }
        tl_loop_turn(loop, 0);
    } while (got < CROWD * total);
    for (int i = 0; i < CROWD; i++)
        close(clients[i].fd);
    world_close(&w);
    tl_loop_free(loop);
}

static void never_connected(struct tl_connect *c, int fd)
{
    (void)c;
    fail_msg("told %d", fd);
}

static void refused_watch_leaves_the_descriptor_with_the_caller(void **state)
{
    struct tl_stream s;
    struct tl_acceptor a = {.on_accept = echo_accept, .on_refused = echo_refused};
    struct tl_connect c = {.on_connect = never_connected};
    struct sockaddr_in address;
    int fd = tcp_listen(&address);
    int refusal = on_uring() ? -ENOMEM : -ENOSPC;
    calls = 0, fail_at = 0, fail_n = 3, fail_errno = ENOSPC;
    tl_sys.epoll_ctl = bad_epoll_ctl;
    tl_alloc_fail(0, on_uring() ? -1 : 0);
    if (on_uring())
        s.fd = -1; /* asks the kernel for nothing yet */
    else
        assert_int_equal(tl_stream_open(*state, &s, fd, &echo_handler), -ENOSPC);
    assert_int_equal(tl_acceptor_open(*state, &a, fd), refusal);
    assert_int_equal(tl_connect_start(*state, &c, (struct sockaddr *)&address, sizeof(address)),
                     refusal);
    tl_alloc_fail(0, 0);
    calls = 0, fail_errno = EMFILE;
    tl_sys.socket = bad_socket;
    assert_int_equal(tl_connect_start(*state, &c, (struct sockaddr *)&address, sizeof(address)),
                     -EMFILE);
    tl_connect_cancel(&c);
    if (!on_uring())
        tl_stream_close(&s);
    tl_acceptor_close(&a);
    tl_loop_turn(*state, 0);
    assert_int_equal(close(fd), 0);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(echo_works_with_single_byte_reads_and_tiny_writes),
        LOOP_TEST(interrupted_and_refused_calls_lose_no_byte),
        LOOP_TEST(any_error_of_any_call_harms_one_connection_at_most),
        LOOP_TEST(any_failing_allocation_harms_one_connection_at_most),
        LOOP_TEST(loop_that_cannot_be_made_says_why_and_leaves_nothing),
        LOOP_TEST(refused_io_uring_is_an_error_or_makes_auto_take_epoll),
        LOOP_TEST(kernel_without_deferred_work_serves_too),
        LOOP_TEST(crowd_is_served_by_tiny_rings_and_few_buffers),
        LOOP_TEST(refused_watch_leaves_the_descriptor_with_the_caller),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
