/* Does a turn do what it promises, in its order: tasks, timers, mail, stops, accepts, connects? */
#include "loop_fixture.h"

#include "base/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/un.h>

/* ---- a turn ---- */

static char order[32];

static void note(char c)
{
    size_t n = strlen(order);
    assert_true(n + 1 < sizeof(order));
    order[n] = c;
    order[n + 1] = 0;
}

struct noted_task {
    struct tl_task task;
    struct tl_loop *loop;
    char name;
    struct noted_task *next;
};

static void on_noted_task(struct tl_task *task)
{
    struct noted_task *t = TL_CONTAINER(task, struct noted_task, task);
    note(t->name);
    if (t->next != NULL)
        tl_loop_defer(t->loop, &t->next->task);
}

static void noted_task_init(struct noted_task *t, struct tl_loop *loop, char name)
{
    *t = (struct noted_task){.loop = loop, .name = name};
    tl_task_init(&t->task, on_noted_task);
}

static void tasks_run_once_in_order_and_what_they_defer_runs_in_the_same_turn(void **state)
{
    struct noted_task a, b, c, cancelled;
    noted_task_init(&a, *state, 'a');
    noted_task_init(&b, *state, 'b');
    noted_task_init(&c, *state, 'c');
    noted_task_init(&cancelled, *state, 'x');
    a.next = &c;
    order[0] = 0;
    tl_loop_defer(*state, &a.task);
    tl_loop_defer(*state, &cancelled.task);
    tl_loop_defer(*state, &b.task);
    tl_loop_defer(*state, &a.task); /* queued already */
    tl_task_cancel(&cancelled.task);
    tl_task_cancel(&cancelled.task);
    tl_loop_turn(*state, DEADLINE_MS); /* must not wait */
    assert_string_equal(order, "abc");
    tl_loop_turn(*state, 0);
    assert_string_equal(order, "abc");
}

static unsigned endless_runs;
static struct tl_loop *endless_loop;

static void on_endless(struct tl_task *task)
{
    endless_runs++;
    tl_loop_defer(endless_loop, task);
}

static void task_that_always_defers_itself_does_not_stop_the_world(void **state)
{
    struct end e;
    struct tl_task endless;
    int fd = end_pair(*state, &e);
    endless_loop = *state;
    endless_runs = 0;
    tl_task_init(&endless, on_endless);
    tl_loop_defer(*state, &endless);
    tl_loop_turn(*state, 0);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    tl_loop_turn(*state, DEADLINE_MS); /* work is left, so it does not wait either */
    assert_int_equal(e.got.n, 1);
    assert_true(endless_runs >= 2);
    tl_task_cancel(&endless);
    end_finish(*state, &e);
    close(fd);
}

static void note_io(struct end *e)
{
    note('i');
    end_close(e);
}

static void note_closed(struct end *e)
{
    (void)e;
    note('c');
}

static void note_timer(struct tl_timer *timer)
{
    (void)timer;
    note('t');
}

static void note_mail(struct tl_mail *mail)
{
    (void)mail;
    note('m');
}

static void turn_goes_from_io_over_timers_and_mail_to_tasks_and_closes(void **state)
{
    struct end e;
    struct tl_timer timer;
    struct noted_task task;
    struct tl_mail mail = {.deliver = note_mail};
    int fd = end_pair(*state, &e);
    order[0] = 0;
    e.on_bytes = note_io;
    e.on_closed = note_closed;
    noted_task_init(&task, *state, 'd');
    tl_timer_init(&timer, note_timer);
    tl_loop_defer(*state, &task.task);
    tl_mailbox_post(tl_loop_mailbox(*state), &mail);
    tl_loop_timer_start(*state, &timer, 0);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    tl_loop_turn(*state, 0);
    if (on_uring()) /* cancels the receive first */
        tl_loop_turn(*state, 0);
    assert_string_equal(order, "itmdc");
    close(fd);
}

static void timer_ends_the_wait(void **state)
{
    struct tl_timer timer;
    tl_timer_init(&timer, note_timer);
    order[0] = 0;
    uint64_t start_ms = tl_loop_now_ms(*state);
    tl_loop_timer_start(*state, &timer, 20);
    assert_true(tl_timer_is_started(&timer));
    for (int turns = 0; order[0] == 0; turns++) {
        assert_true(turns < 20); /* it waits, it does not spin */
        tl_loop_turn(*state, DEADLINE_MS);
    }
    assert_true(tl_loop_now_ms(*state) - start_ms >= 20);
    tl_loop_timer_start(*state, &timer, UINT64_MAX);
    tl_loop_turn(*state, 0);
    assert_true(tl_timer_is_started(&timer));
    tl_timer_stop(tl_loop_timers(*state), &timer);
    assert_string_equal(order, "t");
}

/* ---- other threads ---- */

struct stopper {
    struct tl_loop *loop;
    struct tl_mail mail;
    bool delivered;
};

static void on_stopper_mail(struct tl_mail *mail)
{
    struct stopper *s = TL_CONTAINER(mail, struct stopper, mail);
    s->delivered = true;
    tl_loop_stop(s->loop);
}

static void *post_mail(void *arg)
{
    struct stopper *s = arg;
    tl_mailbox_post(tl_loop_mailbox(s->loop), &s->mail);
    return NULL;
}

static void *stop_loop(void *arg)
{
    struct stopper *s = arg;
    tl_loop_stop(s->loop);
    return NULL;
}

struct echo_mail {
    struct tl_mail mail;
    struct tl_loop *loop;
    unsigned deliveries;
};

static void on_echo_mail(struct tl_mail *mail)
{
    struct echo_mail *e = TL_CONTAINER(mail, struct echo_mail, mail);
    if (++e->deliveries < 5)
        tl_mailbox_post(tl_loop_mailbox(e->loop), mail);
}

static void mail_to_itself_keeps_a_loop_turning_without_a_wake(void **state)
{
    struct echo_mail e = {.loop = *state, .mail.deliver = on_echo_mail};
    tl_mailbox_post(tl_loop_mailbox(*state), &e.mail);
    int64_t wakes = tl_metric_get(TL_M_WAKES);
    for (unsigned turn = 1; turn <= 5; turn++) {
        tl_loop_turn(*state, 1000000); /* does not wait */
        assert_int_equal(e.deliveries, turn);
    }
    assert_int_equal(tl_metric_get(TL_M_WAKES), wakes);
}

static void mail_of_another_thread_wakes_the_loop(void **state)
{
    skip_if_other_threads_stand_still();
    for (int round = 0; round < 20; round++) {
        struct stopper s = {.loop = *state, .mail.deliver = on_stopper_mail};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, post_mail, &s), 0);
        tl_loop_run(*state);
        pthread_join(thread, NULL);
        assert_true(s.delivered);
    }
}

static void another_thread_stops_the_loop(void **state)
{
    skip_if_other_threads_stand_still();
    for (int round = 0; round < 20; round++) {
        struct stopper s = {.loop = *state};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, stop_loop, &s), 0);
        tl_loop_run(*state);
        pthread_join(thread, NULL);
    }
}

static void stop_before_the_run_is_not_lost(void **state)
{
    tl_loop_stop(*state);
    tl_loop_run(*state);
    tl_loop_turn(*state, 0);
    struct stopper s = {.loop = *state, .mail.deliver = on_stopper_mail};
    post_mail(&s);
    tl_loop_run(*state); /* the mail's wake works after a stop's */
    assert_true(s.delivered);
}

static void *run_loop(void *arg)
{
    tl_loop_run(arg);
    return NULL;
}

static void loops_exchange_mail_while_they_run(void **state)
{
    skip_if_other_threads_stand_still();
    int error;
    struct tl_loop *other = tl_loop_new(test_engine->engine, &error);
    assert_non_null(other);
    assert_string_equal(tl_loop_engine_name(other), on_uring() ? "io_uring" : "epoll");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, other), 0);
    struct stopper there = {.loop = other, .mail.deliver = on_stopper_mail};
    post_mail(&there);
    pthread_join(thread, NULL);
    assert_true(there.delivered);
    tl_loop_free(other);
    (void)state;
}

/* ---- accepting ---- */

#define DIALS 70

struct server {
    struct tl_acceptor a;
    int fds[DIALS];
    unsigned accepted, refused;
    int error;
    struct sockaddr_in address;
    void (*then)(struct server *s);
};

static void on_accept(struct tl_acceptor *a, int fd, const struct sockaddr_storage *peer)
{
    struct server *s = TL_CONTAINER(a, struct server, a);
    assert_int_equal(peer->ss_family, AF_INET);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    s->fds[s->accepted++] = fd;
    if (s->then != NULL)
        s->then(s);
}

static void on_refused(struct tl_acceptor *a, int error)
{
    struct server *s = TL_CONTAINER(a, struct server, a);
    s->refused++;
    s->error = error;
}

static void server_open(struct tl_loop *loop, struct server *s)
{
    memset(s, 0, sizeof(*s));
    s->a.on_accept = on_accept;
    s->a.on_refused = on_refused;
    int fd = tcp_listen(&s->address);
    assert_int_equal(tl_acceptor_open(loop, &s->a, fd), 0);
}

static void close_fds(int *fds, unsigned n)
{
    while (n > 0)
        close(fds[--n]);
}

static void server_finish(struct server *s)
{
    tl_acceptor_close(&s->a);
    tl_acceptor_close(&s->a);
    close_fds(s->fds, s->accepted);
}

static void many_connections_are_accepted_in_bounded_turns(void **state)
{
    struct server s;
    int clients[DIALS];
    server_open(*state, &s);
    for (int i = 0; i < DIALS; i++)
        clients[i] = tcp_dial(&s.address);
    tl_loop_turn(*state, 0);
    assert_true(s.accepted > 0 && s.accepted < DIALS);
    TURN_UNTIL(*state, s.accepted == DIALS);
    server_finish(&s);
    close_fds(clients, DIALS);
}

static unsigned accepts_asked;
static int accept_errors[4]; /* of the first calls; 0: the kernel's own answer */

static int failing_accept4(int fd, struct sockaddr *peer, socklen_t *peer_n, int flags)
{
    unsigned i = accepts_asked++;
    if (i < 4 && accept_errors[i] != 0) {
        errno = accept_errors[i];
        return -1;
    }
    return accept4(fd, peer, peer_n, flags);
}

static int failing_op(enum tl_uring_op op)
{
    if (op != TL_URING_ACCEPT)
        return 0;
    unsigned i = accepts_asked++;
    return i < 4 ? -accept_errors[i] : 0;
}

static void fail_accepts(int a, int b, int c, int d)
{
    accepts_asked = 0;
    accept_errors[0] = a, accept_errors[1] = b, accept_errors[2] = c, accept_errors[3] = d;
    tl_sys.accept4 = failing_accept4;
    tl_sys.uring_fault = failing_op;
}

static void running_out_of_descriptors_pauses_accepting_until_it_is_resumed(void **state)
{
    const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    for (size_t i = 0; i < 4; i++) {
        struct server s;
        fail_accepts(errors[i], 0, 0, 0);
        server_open(*state, &s);
        int client = tcp_dial(&s.address);
        for (int turn = 0; turn < 10; turn++)
            tl_loop_turn(*state, 0);
        assert_int_equal(s.refused, 1);
        assert_int_equal(s.error, -errors[i]);
        assert_int_equal(accepts_asked, 1); /* no spinning */
        assert_int_equal(s.accepted, 0);
        tl_acceptor_resume(&s.a);
        TURN_UNTIL(*state, s.accepted == 1);
        server_finish(&s);
        close(client);
    }
}

static void connection_that_was_aborted_costs_the_others_nothing(void **state)
{
    struct server s;
    fail_accepts(ECONNABORTED, EINTR, EPROTO, EPERM);
    server_open(*state, &s);
    int client = tcp_dial(&s.address);
    TURN_UNTIL(*state, s.accepted == 1);
    assert_int_equal(s.refused, 0);
    server_finish(&s);
    close(client);
}

static void pause_accepting(struct server *s)
{
    tl_acceptor_pause(&s->a);
    tl_acceptor_pause(&s->a);
}

static void acceptor_may_be_paused_in_its_callback(void **state)
{
    struct server s;
    int clients[3];
    server_open(*state, &s);
    s.then = pause_accepting;
    for (int i = 0; i < 3; i++)
        clients[i] = tcp_dial(&s.address);
    for (unsigned accepted = 1; accepted <= 3; accepted++) {
        for (int turn = 0; turn < 3; turn++)
            tl_loop_turn(*state, 0);
        assert_int_equal(s.accepted, accepted);
        tl_acceptor_resume(&s.a);
    }
    server_finish(&s);
    close_fds(clients, 3);
}

static struct server *last_server;

static void free_server(struct server *s)
{
    server_finish(s);
    free(s);
    last_server = NULL;
}

static void acceptor_may_be_closed_and_freed_in_its_callback(void **state)
{
    struct server *s = last_server = malloc(sizeof(*s));
    assert_non_null(s);
    int clients[2];
    server_open(*state, s);
    s->then = free_server;
    for (int i = 0; i < 2; i++)
        clients[i] = tcp_dial(&s->address);
    TURN_UNTIL(*state, last_server == NULL);
    tl_loop_turn(*state, 0);
    close_fds(clients, 2);
}

static void free_last_server(struct end *e)
{
    (void)e;
    free_server(last_server);
}

/* The stream's event comes first, the acceptor's is still in the batch. */
static void acceptor_freed_by_an_earlier_event_of_the_batch_is_not_touched(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    tl_loop_turn(*state, 0);
    e.on_bytes = free_last_server;
    struct server *s = last_server = malloc(sizeof(*s));
    assert_non_null(s);
    server_open(*state, s);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    int client = tcp_dial(&s->address);
    tl_loop_turn(*state, 0);
    assert_null(last_server);
    end_finish(*state, &e);
    close(fd);
    close(client);
}

/* ---- connecting ---- */

struct dial {
    struct tl_connect c;
    unsigned calls;
    int result;
    struct dial *cancels;
};

static void on_connect(struct tl_connect *c, int fd)
{
    struct dial *d = TL_CONTAINER(c, struct dial, c);
    d->calls++;
    d->result = fd;
    if (d->cancels != NULL)
        tl_connect_cancel(&d->cancels->c);
}

static void dial_init(struct dial *d)
{
    memset(d, 0, sizeof(*d));
    d->c.on_connect = on_connect;
    tl_connect_cancel(&d->c); /* takes a zeroed one */
}

static int dial(struct tl_loop *loop, struct dial *d, const void *address, size_t n)
{
    struct sockaddr_storage copy = {0};
    memcpy(&copy, address, n);
    int error = tl_connect_start(loop, &d->c, (struct sockaddr *)&copy, (socklen_t)n);
    assert_int_equal(d->calls, 0);
    return error;
}

static void connect_gives_a_socket_that_can_be_a_stream(void **state)
{
    struct dial d;
    struct sockaddr_in address;
    struct end e;
    int listener = tcp_listen(&address);
    dial_init(&d);
    assert_int_equal(dial(*state, &d, &address, sizeof(address)), 0);
    TURN_UNTIL(*state, d.calls == 1);
    assert_true(d.result >= 0);
    tl_connect_cancel(&d.c); /* over: does nothing */
    end_open(*state, &e, d.result);
    int peer = accept4(listener, NULL, NULL, 0);
    assert_int_equal(send(peer, "hello", 5, 0), 5);
    TURN_UNTIL(*state, e.got.n == 5);
    assert_int_equal(d.calls, 1);
    end_finish(*state, &e);
    close(peer);
    close(listener);
}

static void refused_connect_is_told(void **state)
{
    struct dial d;
    struct sockaddr_in address;
    int held = tcp_bind(&address);
    dial_init(&d);
    assert_int_equal(dial(*state, &d, &address, sizeof(address)), 0);
    TURN_UNTIL(*state, d.calls == 1);
    assert_int_equal(d.result, -ECONNREFUSED);
    close(held);
}

static struct sockaddr_un unix_address(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* Abstract: starts with a NUL and leaves no file. */
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "tramline-%ld-%s", (long)getpid(),
             name);
    return address;
}

static void result_known_at_once_is_told_later_too(void **state)
{
    struct dial good, bad;
    struct sockaddr_un address = unix_address("there"), nowhere = unix_address("nowhere");
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    dial_init(&good);
    dial_init(&bad);
    assert_int_equal(dial(*state, &good, &address, sizeof(address)), 0);
    assert_int_equal(dial(*state, &bad, &nowhere, sizeof(nowhere)), 0);
    tl_loop_turn(*state, DEADLINE_MS); /* must not wait */
    assert_true(good.calls == 1 && good.result >= 0);
    assert_true(bad.calls == 1 && bad.result == -ECONNREFUSED);
    close(good.result);
    close(listener);
}

static void cancelled_connect_tells_nothing(void **state)
{
    struct dial tcp, unix_;
    struct sockaddr_in address;
    struct sockaddr_un nowhere = unix_address("nowhere");
    int listener = tcp_listen(&address);
    dial_init(&tcp);
    dial_init(&unix_);
    assert_int_equal(dial(*state, &tcp, &address, sizeof(address)), 0);
    assert_int_equal(dial(*state, &unix_, &nowhere, sizeof(nowhere)), 0);
    tl_connect_cancel(&tcp.c);
    tl_connect_cancel(&tcp.c);
    tl_connect_cancel(&unix_.c);
    tl_loop_turn(*state, 0);
    assert_int_equal(tcp.calls + unix_.calls, 0);
    close(listener);
}

static void connect_may_be_cancelled_by_an_earlier_event_of_the_batch(void **state)
{
    struct dial a, b;
    struct sockaddr_in address;
    int listener = tcp_listen(&address);
    dial_init(&a);
    dial_init(&b);
    a.cancels = &b;
    b.cancels = &a;
    assert_int_equal(dial(*state, &a, &address, sizeof(address)), 0);
    assert_int_equal(dial(*state, &b, &address, sizeof(address)), 0);
    for (int i = 0; i < 2; i++)
        close(accept4(listener, NULL, NULL, 0)); /* both are connected now */
    tl_loop_turn(*state, 0);
    assert_int_equal(a.calls + b.calls, 1);
    tl_loop_turn(*state, 0);
    assert_int_equal(a.calls + b.calls, 1);
    close(a.calls == 1 ? a.result : b.result);
    close(listener);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(tasks_run_once_in_order_and_what_they_defer_runs_in_the_same_turn),
        LOOP_TEST(task_that_always_defers_itself_does_not_stop_the_world),
        LOOP_TEST(turn_goes_from_io_over_timers_and_mail_to_tasks_and_closes),
        LOOP_TEST(timer_ends_the_wait),
        LOOP_TEST(mail_to_itself_keeps_a_loop_turning_without_a_wake),
        LOOP_TEST(mail_of_another_thread_wakes_the_loop),
        LOOP_TEST(another_thread_stops_the_loop),
        LOOP_TEST(stop_before_the_run_is_not_lost),
        LOOP_TEST(loops_exchange_mail_while_they_run),
        LOOP_TEST(many_connections_are_accepted_in_bounded_turns),
        LOOP_TEST(running_out_of_descriptors_pauses_accepting_until_it_is_resumed),
        LOOP_TEST(connection_that_was_aborted_costs_the_others_nothing),
        LOOP_TEST(acceptor_may_be_paused_in_its_callback),
        LOOP_TEST(acceptor_may_be_closed_and_freed_in_its_callback),
        LOOP_TEST(acceptor_freed_by_an_earlier_event_of_the_batch_is_not_touched),
        LOOP_TEST(connect_gives_a_socket_that_can_be_a_stream),
        LOOP_TEST(refused_connect_is_told),
        LOOP_TEST(result_known_at_once_is_told_later_too),
        LOOP_TEST(cancelled_connect_tells_nothing),
        LOOP_TEST(connect_may_be_cancelled_by_an_earlier_event_of_the_batch),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
