/*
 * For the tests of the loop: a loop, streams that record what they are told, and raw sockets as
 * their peers. Everything runs on the test's thread, turn by turn.
 */
#ifndef TESTS_LOOP_FIXTURE_H
#define TESTS_LOOP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engines.h"

#include "base/buf.h"
#include "base/clock.h"
#include "loop/loop.h"
#include "loop/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#define DEADLINE_MS 60000

/* Turn until cond holds; fails after the deadline. */
#define TURN_UNTIL(loop, cond)                                                                     \
    for (uint64_t turn_end_ms = tl_clock_ms() + DEADLINE_MS; !(cond);) {                           \
        assert_true(tl_clock_ms() < turn_end_ms);                                                  \
        tl_loop_turn(loop, 20);                                                                    \
    }

struct end {
    struct tl_stream s;
    struct tl_buf got;
    unsigned recvs; /* on_recv with bytes */
    unsigned ends;  /* on_recv(n <= 0) */
    ssize_t end;
    unsigned sents;
    ssize_t sent;
    unsigned closes;
    bool inside; /* in one of its own calls: no callback may come */
    void (*on_bytes)(struct end *e);
    void (*on_sent)(struct end *e);
    void (*on_closed)(struct end *e);
    struct end *other;
};

static void end_recv(struct tl_stream *s, uint8_t *bytes, ssize_t n)
{
    struct end *e = TL_CONTAINER(s, struct end, s);
    assert_false(e->inside);
    assert_int_equal(e->ends, 0);
    assert_int_equal(e->closes, 0);
    if (n <= 0) {
        e->ends++;
        e->end = n;
        return;
    }
    e->recvs++;
    tl_buf_append(&e->got, tl_bytes(bytes, (size_t)n));
    memset(bytes, 0xa5, (size_t)n); /* lent, and may be changed */
    if (e->on_bytes != NULL)
        e->on_bytes(e);
}

static void end_sent(struct tl_stream *s, ssize_t n)
{
    struct end *e = TL_CONTAINER(s, struct end, s);
    assert_false(e->inside);
    assert_int_equal(e->closes, 0);
    e->sents++;
    e->sent = n;
    if (e->on_sent != NULL)
        e->on_sent(e);
}

static void end_closed(struct tl_stream *s)
{
    struct end *e = TL_CONTAINER(s, struct end, s);
    assert_false(e->inside);
    assert_true(tl_stream_is_closed(s));
    e->closes++;
    tl_buf_deinit(&e->got);
    if (e->on_closed != NULL)
        e->on_closed(e);
}

static const struct tl_stream_handler end_handler = {
    .on_recv = end_recv,
    .on_sent = end_sent,
    .on_closed = end_closed,
};

static inline void end_open(struct tl_loop *loop, struct end *e, int fd)
{
    memset(e, 0, sizeof(*e));
    assert_int_equal(tl_stream_open(loop, &e->s, fd, &end_handler), 0);
    tl_stream_recv(&e->s, true);
}

static inline void end_close(struct end *e)
{
    e->inside = true;
    tl_stream_close(&e->s);
    tl_stream_close(&e->s);
    e->inside = false;
}

/* Close it and see on_closed; its memory may go then. */
static inline void end_finish(struct tl_loop *loop, struct end *e)
{
    end_close(e);
    assert_int_equal(e->closes, 0);
    tl_loop_turn(loop, 0);
    assert_int_equal(e->closes, 1);
}

/* A stream on one side of a socket pair; the other side is returned, non-blocking too. */
static inline int end_pair(struct tl_loop *loop, struct end *e)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    end_open(loop, e, fds[0]);
    return fds[1];
}

/* An address on 127.0.0.1 where nobody listens, nor anybody else can until the socket is closed. */
static inline int tcp_bind(struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    socklen_t n = sizeof(*ret_address);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, &n), 0);
    return fd;
}

/* A listening socket on 127.0.0.1 and the address to reach it. */
static inline int tcp_listen(struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 128), 0);
    socklen_t n = sizeof(*ret_address);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, &n), 0);
    return fd;
}

/* A client connected to it, non-blocking from then on. */
static inline int tcp_dial(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* The same as end_pair() over TCP. */
static inline int end_tcp(struct tl_loop *loop, struct end *e)
{
    struct sockaddr_in address;
    int listener = tcp_listen(&address);
    int client = tcp_dial(&address);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    close(listener);
    end_open(loop, e, fd);
    return client;
}

/* Close with a RST. */
static inline void reset_fd(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(fd);
}

/* The kernel's own calls, bent only as the engine under test asks. */
static inline void restore_sys(void)
{
    tl_sys_restore();
    tl_sys.uring_queue_always = test_engine->queued;
}

static inline int loop_setup(void **state)
{
    int error = 0;
    restore_sys();
    *state = tl_loop_new(test_engine->engine, &error);
    return error;
}

static inline int loop_teardown(void **state)
{
    tl_sys_restore();
    tl_loop_free(*state);
    return 0;
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, loop_setup, loop_teardown)

/* Send, and turn until it is taken; returns how many bytes were, or -errno. */
static inline ssize_t end_send(struct tl_loop *loop, struct end *e, const struct tl_bytes *slices,
                               unsigned n)
{
    unsigned sents = e->sents;
    e->inside = true;
    ssize_t taken = tl_stream_send(&e->s, slices, n);
    e->inside = false;
    if (taken != TL_SEND_PENDING)
        return taken;
    TURN_UNTIL(loop, e->sents > sents);
    return e->sent;
}

#endif
