/*
 * The whole gateway while the kernel is unkind: calls are interrupted, refused, broken and short.
 * Everybody is served all the same, or is cut and served again.
 */
#include "gateway_scenario.h"

#include <sys/socket.h>

#define BIG_N 20000

enum call { RECV, SEND, SENDMSG, ACCEPT, EPOLL_CTL, CALLS_N };

/* The calls made, and which one fails with what. */
static struct {
    bool on;
    uint64_t made[CALLS_N];
    enum call call;
    uint64_t at;
    int error;
    size_t send_bytes_max; /* 0: no limit; else at most so many, counted up and down */
} kernel;

static bool fails(enum call call)
{
    if (!kernel.on)
        return false;
    bool fail = kernel.error != 0 && kernel.call == call && kernel.made[call] == kernel.at;
    kernel.made[call]++;
    if (fail)
        errno = kernel.error;
    return fail;
}

static ssize_t sys_recv(int fd, void *bytes, size_t n, int flags)
{
    return fails(RECV) ? -1 : recv(fd, bytes, n, flags);
}

static size_t short_n(size_t n)
{
    if (!kernel.on || kernel.send_bytes_max == 0)
        return n;
    size_t most = 1 + (kernel.made[SEND] + kernel.made[SENDMSG]) % kernel.send_bytes_max;
    return n < most ? n : most;
}

static ssize_t sys_send(int fd, const void *bytes, size_t n, int flags)
{
    return fails(SEND) ? -1 : send(fd, bytes, short_n(n), flags);
}

static ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    if (fails(SENDMSG))
        return -1;
    if (kernel.on && kernel.send_bytes_max > 0)
        return send(fd, msg->msg_iov[0].iov_base, short_n(msg->msg_iov[0].iov_len), flags);
    return sendmsg(fd, msg, flags);
}

static int sys_accept4(int fd, struct sockaddr *peer, socklen_t *peer_n, int flags)
{
    return fails(ACCEPT) ? -1 : accept4(fd, peer, peer_n, flags);
}

static int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    return fails(EPOLL_CTL) ? -1 : epoll_ctl(epoll_fd, op, fd, event);
}

static int uring_fault(enum tl_uring_op op)
{
    static const enum call calls[] = {
        [TL_URING_RECV] = RECV, [TL_URING_SEND] = SEND, [TL_URING_ACCEPT] = ACCEPT};
    if (op != TL_URING_RECV && op != TL_URING_SEND && op != TL_URING_ACCEPT)
        return 0;
    return fails(calls[op]) ? -errno : 0;
}

static void set_kernel(bool on)
{
    tl_sys.uring_fault = uring_fault;
    tl_sys.uring_send_bytes_max =
        on && kernel.send_bytes_max > 0 ? kernel.send_bytes_max : SIZE_MAX;
    tl_sys.recv = sys_recv;
    tl_sys.send = sys_send;
    tl_sys.sendmsg = sys_sendmsg;
    tl_sys.accept4 = sys_accept4;
    tl_sys.epoll_ctl = sys_epoll_ctl;
    kernel.on = on;
    if (!on)
        return;
    for (int call = 0; call < CALLS_N; call++)
        kernel.made[call] = 0;
}

static bool run_with_failure(enum call call, uint64_t at, int error)
{
    struct gw gw = {0};
    struct scenario sc = {.big_n = BIG_N, .fault = set_kernel};
    kernel.call = call;
    kernel.at = at;
    kernel.error = error;
    gw_open(&gw);
    scenario_run(&sc, &gw);
    gw_close(&gw);
    tl_sys_restore();
    return sc.complete;
}

/* Each call fails once, with the errors in turn; each error is met at each `stride`-th call at
 * least. */
static void each_call_fails(enum call call, const int *errors, size_t errors_n, uint64_t stride)
{
    run_with_failure(call, 0, 0);
    uint64_t n = kernel.made[call], i = 0;
    for (uint64_t at = 0; at < n; at += stride_of(stride), i++) {
        int error = errors[i % errors_n];
        bool complete = run_with_failure(call, at, error);
        assert_true(complete || error != EINTR);
    }
}

static void a_receive_that_fails_costs_one_connection(void **state)
{
    static const int errors[] = {EINTR, ECONNRESET, ENOMEM, ETIMEDOUT};
    (void)state;
    each_call_fails(RECV, errors, 4, 1);
}

static void a_send_that_fails_costs_one_connection_at_most(void **state)
{
    static const int errors[] = {EINTR, ECONNRESET, ENOBUFS, EPIPE, ENOMEM};
    (void)state;
    each_call_fails(SEND, errors, 5, 1);
    each_call_fails(SENDMSG, errors, 5, 1);
}

static void a_send_without_kernel_memory_is_tried_again(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 120; at += stride_of(7)) {
        assert_true(run_with_failure(SEND, at, ENOBUFS));
        assert_true(run_with_failure(SEND, at, ENOMEM));
    }
}

static void an_accept_that_fails_is_tried_again(void **state)
{
    static const int harmless[] = {EINTR, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    (void)state;
    for (uint64_t at = 0; at < 12; at++) {
        int64_t pauses = tl_metric_get(TL_M_ACCEPT_PAUSES);
        run_with_failure(ACCEPT, at, harmless[at % 6]);
        bool pauses_it = at % 6 >= 2 && at < kernel.made[ACCEPT];
        assert_int_equal(tl_metric_get(TL_M_ACCEPT_PAUSES) - pauses, pauses_it);
    }
}

static void a_connection_that_cannot_be_watched_is_closed_and_counted(void **state)
{
    static const int errors[] = {ENOMEM, ENOSPC};
    int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
    (void)state;
    if (on_uring())
        return; /* which watches nothing */
    each_call_fails(EPOLL_CTL, errors, 2, 1);
    assert_true(tl_metric_get(TL_M_REFUSED_MEMORY) > refusals);
}

/* The story of clean runs must be told, to the last byte. */
static void run_short(size_t recv_bytes_max, size_t send_bytes_max, size_t big_n)
{
    struct gw gw = {0};
    struct scenario sc = {.big_n = big_n};
    gw_open(&gw);
    kernel.error = 0;
    kernel.send_bytes_max = send_bytes_max;
    set_kernel(true);
    tl_sys.recv_bytes_max = recv_bytes_max;
    scenario_run(&sc, &gw);
    kernel.send_bytes_max = 0;
    set_kernel(false);
    tl_sys_restore();
    gw_close(&gw);
}

static void one_byte_at_a_time_comes_to_the_same(void **state)
{
    (void)state;
    run_short(1, 0, BIG_N);
    run_short(7, 0, BIG_N);
}

static void sends_of_one_to_three_bytes_come_to_the_same(void **state)
{
    (void)state;
    run_short(65536, 3, 4000);
    run_short(1, 3, 1000);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receive_that_fails_costs_one_connection),
        cmocka_unit_test(a_send_that_fails_costs_one_connection_at_most),
        cmocka_unit_test(a_send_without_kernel_memory_is_tried_again),
        cmocka_unit_test(an_accept_that_fails_is_tried_again),
        cmocka_unit_test(a_connection_that_cannot_be_watched_is_closed_and_counted),
        cmocka_unit_test(one_byte_at_a_time_comes_to_the_same),
        cmocka_unit_test(sends_of_one_to_three_bytes_come_to_the_same),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
