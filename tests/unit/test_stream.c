/* Do streams keep the contract of loop.h: sends, pauses, ends, and closing at any moment? */
#include "stream_fixture.h"

#include "base/alloc.h"

/* ---- receiving ---- */

static void bytes_arrive_in_order(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    fill_big();
    for (size_t at = 0; at < sizeof(big);) {
        ssize_t n = send(fd, big + at, sizeof(big) - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        tl_loop_turn(*state, 0);
    }
    TURN_UNTIL(*state, e.got.n == sizeof(big));
    assert_memory_equal(e.got.p, big, sizeof(big));
    end_finish(*state, &e);
    close(fd);
}

static void bytes_sent_before_the_stream_was_opened_arrive(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    put(fd, "early", 5);
    tl_loop_turn(*state, 0);
    assert_int_equal(e.got.n, 5);
    end_finish(*state, &e);
    close(fd);
}

static void pause_itself(struct end *e)
{
    e->inside = true;
    tl_stream_recv(&e->s, false);
    e->inside = false;
}

static void pausing_in_the_callback_stops_at_once_and_resuming_loses_nothing(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    int room = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    fill_big();
    size_t total = 150000;
    put(fd, big, total);
    e.on_bytes = pause_itself;
    for (unsigned recvs = 1; e.got.n < total; recvs++) {
        for (int i = 0; i < 3; i++)
            tl_loop_turn(*state, 0);
        assert_int_equal(e.recvs, recvs);
        tl_stream_recv(&e.s, true);
    }
    assert_memory_equal(e.got.p, big, total);
    end_finish(*state, &e);
    close(fd);
}

static void resuming_needs_no_new_bytes_from_the_peer(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    tl_stream_recv(&e.s, false);
    put(fd, "kept", 4);
    tl_loop_turn(*state, 0);
    tl_loop_turn(*state, 0);
    assert_int_equal(e.recvs, 0);
    e.inside = true;
    tl_stream_recv(&e.s, true);
    e.inside = false;
    tl_loop_turn(*state, DEADLINE_MS);
    assert_int_equal(e.got.n, 4);
    end_finish(*state, &e);
    close(fd);
}

static void busy_stream_leaves_the_others_their_turn(void **state)
{
    struct end busy, quiet;
    int busy_fd = end_pair(*state, &busy), quiet_fd = end_pair(*state, &quiet);
    tl_sys.recv_bytes_max = 100;
    put(busy_fd, big, 10000);
    put(quiet_fd, "q", 1);
    tl_loop_turn(*state, 0);
    assert_int_equal(quiet.got.n, 1);
    assert_true(busy.got.n > 0 && busy.got.n < 1000);
    uint64_t start_ms = tl_clock_ms();
    while (busy.got.n < 10000)
        tl_loop_turn(*state, DEADLINE_MS); /* must not wait: there is work left */
    assert_true(tl_clock_ms() - start_ms < DEADLINE_MS);
    end_finish(*state, &busy);
    end_finish(*state, &quiet);
    close(busy_fd);
    close(quiet_fd);
}

static unsigned recv_calls, ctl_calls;

static ssize_t counting_recv(int fd, void *bytes, size_t n, int flags)
{
    recv_calls++;
    return recv(fd, bytes, n, flags);
}

static int counting_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    ctl_calls++;
    return epoll_ctl(epoll_fd, op, fd, event);
}

static unsigned ops[TL_URING_CANCEL + 1];

static int counting_op(enum tl_uring_op op)
{
    ops[op]++;
    return 0;
}

static void message_costs_one_receive_and_a_stream_one_watch(void **state)
{
    struct end e;
    recv_calls = ctl_calls = 0;
    memset(ops, 0, sizeof(ops));
    tl_sys.uring_fault = counting_op;
    tl_sys.recv = counting_recv;
    tl_sys.epoll_ctl = counting_ctl;
    int fd = end_tcp(*state, &e);
    for (unsigned i = 1; i <= 10; i++) {
        put(fd, "message", 7);
        TURN_UNTIL(*state, e.recvs == i);
        assert_int_equal(end_send(*state, &e, &TL_LIT("answer"), 1), 6);
        for (int turn = 0; turn < 3; turn++)
            tl_loop_turn(*state, 0);
    }
    assert_int_equal(recv_calls, on_uring() ? 0 : 10);
    end_finish(*state, &e);
    assert_int_equal(ctl_calls, on_uring() ? 0 : 1);
    assert_int_equal(ops[TL_URING_RECV], on_uring() ? 1 : 0); /* and that for the ten */
    assert_int_equal(ops[TL_URING_WATCH], 0);
    close(fd);
}

static void bytes_for_those_who_do_not_want_them_take_no_buffers_from_the_others(void **state)
{
    (void)state;
    int error = 0;
    struct end deaf[20], e;
    int fds[20];
    tl_sys.uring_buffers_n = 2;
    struct tl_loop *loop = tl_loop_new(test_engine->engine, &error);
    assert_non_null(loop);
    for (int i = 0; i < 20; i++) {
        fds[i] = end_pair(loop, &deaf[i]);
        tl_stream_recv(&deaf[i].s, false);
        put(fds[i], "unwanted", 8);
    }
    int fd = end_pair(loop, &e);
    put(fd, "wanted", 6);
    TURN_UNTIL(loop, e.got.n == 6);
    for (int i = 0; i < 20; i++) {
        put(fds[i], ", then", 6);
        tl_loop_turn(loop, 0);
        assert_int_equal(deaf[i].recvs, 0);
        tl_stream_recv(&deaf[i].s, true);
        TURN_UNTIL(loop, deaf[i].got.n == 14);
        assert_memory_equal(deaf[i].got.p, "unwanted, then", 14);
        end_close(&deaf[i]);
        TURN_UNTIL(loop, deaf[i].closes == 1);
        close(fds[i]);
    }
    end_finish(loop, &e);
    close(fd);
    tl_loop_free(loop);
}

/* ---- ends ---- */

static void end_of_the_peer_is_told_once_after_its_last_bytes(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    put(fd, "last", 4);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 3; i++)
        tl_loop_turn(*state, 0);
    assert_int_equal(e.got.n, 4);
    assert_int_equal(e.ends, 1);
    assert_int_equal(e.end, 0);
    assert_int_equal(end_send(*state, &e, &TL_LIT("still"), 1), 5); /* half-closed only */
    close(fd);
    for (int i = 0; i < 3; i++)
        tl_loop_turn(*state, 0);
    assert_int_equal(e.ends, 1);
    end_finish(*state, &e);
}

static void half_close_is_told_only_when_receiving(void **state)
{
    struct end e;
    int fd = end_tcp(*state, &e);
    tl_stream_recv(&e.s, false);
    put(fd, "x", 1);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 3; i++)
        tl_loop_turn(*state, 0);
    assert_int_equal(e.ends, 0);
    tl_stream_recv(&e.s, true);
    TURN_UNTIL(*state, e.ends == 1);
    assert_int_equal(e.got.n, 1);
    end_finish(*state, &e);
    close(fd);
}

static void reset_is_told_to_a_paused_stream(void **state)
{
    struct end e;
    int fd = end_tcp(*state, &e);
    tl_stream_recv(&e.s, false);
    tl_loop_turn(*state, 0);
    reset_fd(fd);
    TURN_UNTIL(*state, e.ends == 1);
    assert_int_equal(e.end, -ECONNRESET);
    assert_int_equal(e.recvs, 0);
    end_finish(*state, &e);
}

static void reset_is_told_to_a_stream_that_pauses_on_the_bytes_before_it(void **state)
{
    struct end e;
    int fd = end_tcp(*state, &e);
    tl_sys.recv_bytes_max = 2;
    e.on_bytes = pause_itself;
    put(fd, "abcdef", 6);
    reset_fd(fd);
    TURN_UNTIL(*state, e.ends == 1);
    assert_true(e.recvs <= 1);
    end_finish(*state, &e);
}

static void both_sides_gone_is_told_to_a_paused_stream(void **state)
{
    struct end e;
    int fd = end_tcp(*state, &e);
    tl_stream_recv(&e.s, false);
    tl_stream_shutdown(&e.s);
    shutdown(fd, SHUT_WR);
    TURN_UNTIL(*state, e.ends == 1);
    assert_int_equal(e.end, 0);
    end_finish(*state, &e);
    close(fd);
}

static void shutdown_ends_the_stream_for_the_peer(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    assert_int_equal(end_send(*state, &e, &TL_LIT("bye"), 1), 3);
    tl_stream_shutdown(&e.s);
    char got[8];
    assert_int_equal(recv(fd, got, sizeof(got), 0), 3);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 0);
    end_finish(*state, &e);
    close(fd);
}

static void resetting_gives_the_peer_a_reset(void **state)
{
    struct end e;
    int fd = end_tcp(*state, &e);
    tl_stream_reset(&e.s);
    assert_int_equal(e.closes, 0);
    tl_loop_turn(*state, 0);
    assert_int_equal(e.closes, 1);
    char got[8];
    assert_int_equal(recv(fd, got, sizeof(got), 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
}

static void sending_to_a_peer_that_left_is_an_error_and_no_signal(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    close(fd);
    const struct tl_bytes two[2] = {TL_LIT("a"), TL_LIT("b")};
    assert_int_equal(end_send(*state, &e, two, 1), -EPIPE);
    assert_int_equal(end_send(*state, &e, two, 2), -EPIPE);
    end_finish(*state, &e);
    assert_int_equal(tl_stream_send(&e.s, two, 1), -EPIPE);
}

/* ---- sending ---- */

static void slices_are_sent_in_order(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    struct tl_bytes slices[TL_SEND_SLICES_MAX];
    for (size_t i = 0; i < TL_SEND_SLICES_MAX; i++)
        slices[i] = tl_bytes(&"0123456789abcdef"[i], 1);
    char got[32];
    for (unsigned n = 1; n <= TL_SEND_SLICES_MAX; n++) {
        assert_int_equal(end_send(*state, &e, slices, n), n);
        assert_int_equal(recv(fd, got, sizeof(got), 0), n);
        assert_memory_equal(got, "0123456789abcdef", n);
    }
    end_finish(*state, &e);
    close(fd);
}

/* Send the bytes of `big` from *at on, in n slices, until a send stays pending: the socket is full.
 */
static void fill(struct tl_loop *loop, struct end *e, size_t *at, unsigned n)
{
    for (;;) {
        struct tl_bytes slices[TL_SEND_SLICES_MAX];
        for (unsigned i = 0; i < n; i++)
            slices[i] = tl_bytes(big + *at + i * 1000, 1000);
        unsigned sents = e->sents;
        e->inside = true;
        ssize_t taken = tl_stream_send(&e->s, slices, n);
        e->inside = false;
        if (taken == TL_SEND_PENDING && sends_at_once())
            return;
        if (taken == TL_SEND_PENDING) {
            for (int i = 0; i < 3 && e->sents == sents; i++)
                tl_loop_turn(loop, 0);
            if (e->sents == sents)
                return;
            taken = e->sent;
        }
        assert_true(taken > 0);
        *at += (size_t)taken;
        assert_true(*at < sizeof(big) / 2);
    }
}

static void small_buffers(int a, int b)
{
    int room = 65536; /* with tiny ones TCP waits for its timers */
    setsockopt(a, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    setsockopt(b, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
}

static void check_pending(struct tl_loop *loop, int fd, struct end *e, unsigned slices_n)
{
    size_t sent = 0, read = 0;
    for (unsigned round = 1; round <= 3; round++) {
        fill(loop, e, &sent, slices_n);
        unsigned sents = e->sents;
        for (int i = 0; i < 3; i++)
            tl_loop_turn(loop, 0);
        assert_int_equal(e->sents, sents); /* full: nothing is told, nothing spins */
        for (uint64_t end_ms = tl_clock_ms() + DEADLINE_MS; e->sents == sents;) {
            assert_true(tl_clock_ms() < end_ms);
            drain(fd, &read);
            tl_loop_turn(loop, 10);
        }
        assert_true(e->sent > 0);
        sent += (size_t)e->sent;
    }
    for (uint64_t end_ms = tl_clock_ms() + DEADLINE_MS; read < sent;) {
        assert_true(tl_clock_ms() < end_ms);
        drain(fd, &read);
    }
    assert_int_equal(read, sent);
}

static void send_to_a_full_socket_completes_when_the_peer_reads(void **state)
{
    fill_big();
    for (unsigned slices_n = 1; slices_n <= TL_SEND_SLICES_MAX; slices_n += 5) {
        struct end pair, tcp;
        int pair_fd = end_pair(*state, &pair), tcp_fd = end_tcp(*state, &tcp);
        small_buffers(pair.s.fd, pair_fd);
        small_buffers(tcp.s.fd, tcp_fd);
        check_pending(*state, pair_fd, &pair, slices_n);
        check_pending(*state, tcp_fd, &tcp, slices_n);
        end_finish(*state, &pair);
        end_finish(*state, &tcp);
        close(pair_fd);
        close(tcp_fd);
        tl_loop_turn(*state, 0);
    }
}

static void closing_cancels_a_pending_send_without_on_sent(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    size_t at = 0;
    fill(*state, &e, &at, 2);
    end_finish(*state, &e);
    unsigned sents = e.sents;
    drain(fd, &(size_t){0});
    for (int i = 0; i < 3; i++)
        tl_loop_turn(*state, 0);
    assert_int_equal(e.sents, sents);
    assert_int_equal(e.closes, 1);
    close(fd);
}

static void pending_send_to_a_peer_that_leaves_is_told(void **state)
{
    struct end e;
    int fd = end_tcp(*state, &e);
    size_t at = 0;
    small_buffers(e.s.fd, fd);
    tl_stream_recv(&e.s, false);
    fill(*state, &e, &at, 1);
    reset_fd(fd);
    unsigned sents = e.sents;
    TURN_UNTIL(*state, e.sents == sents + 1 && e.ends == 1);
    /* Whoever asks first gets the reset; the receive asks for itself on io_uring. */
    assert_true(e.sent == -ECONNRESET || (e.sent == -EPIPE && e.end == -ECONNRESET));
    end_finish(*state, &e);
}

static void send_is_refused_when_no_memory_can_be_had_for_it(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    size_t at = 0, read = 0;
    fill_big();
    struct tl_bytes two[2] = {tl_bytes(big, 500), tl_bytes(big + 500, 500)};
    tl_alloc_fail(0, -1);
    ssize_t taken;
    while ((taken = tl_stream_send(&e.s, two, 2)) > 0) {
        at += (size_t)taken;
        two[0].p = big + at;
        two[1].p = big + at + 500;
    }
    tl_alloc_fail(0, 0);
    assert_int_equal(taken, -ENOMEM);
    drain(fd, &read);
    assert_int_equal(read, at);
    assert_int_equal(end_send(*state, &e, two, 2), 1000); /* trying again later is allowed */
    end_finish(*state, &e);
    close(fd);
}

static void close_in_sent(struct end *e)
{
    end_close(e);
}

static void stream_may_be_closed_when_its_send_completes(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    size_t at = 0;
    fill(*state, &e, &at, 1);
    e.on_sent = close_in_sent;
    put(fd, "in the same event", 17);
    drain(fd, &(size_t){0});
    TURN_UNTIL(*state, e.closes == 1);
    assert_true(e.recvs == 0 || on_uring()); /* whose completions have an order of their own */
    close(fd);
}

/* ---- closing ---- */

static void close_in_bytes(struct end *e)
{
    end_close(e);
    assert_int_equal(e->closes, 0);
}

static void stream_may_be_closed_in_its_own_callback(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    e.on_bytes = close_in_bytes;
    tl_sys.recv_bytes_max = 1;
    put(fd, "abc", 3);
    TURN_UNTIL(*state, e.closes == 1);
    assert_int_equal(e.recvs, 1);
    tl_loop_turn(*state, 0);
    assert_int_equal(e.closes, 1);
    close(fd);
}

static void free_end(struct end *e)
{
    free(e);
}

static unsigned recvs_of_batch;

static void close_both(struct end *e)
{
    recvs_of_batch++;
    if (!tl_stream_is_closed(&e->other->s))
        end_close(e->other);
    end_close(e);
}

static void stream_closed_by_an_earlier_event_of_the_batch_hears_nothing(void **state)
{
    struct end *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
    assert_true(a != NULL && b != NULL);
    int a_fd = end_pair(*state, a), b_fd = end_pair(*state, b);
    a->on_bytes = b->on_bytes = close_both;
    a->on_closed = b->on_closed = free_end; /* AddressSanitizer sees a touch after that */
    a->other = b;
    b->other = a;
    recvs_of_batch = 0;
    put(a_fd, "a", 1);
    put(b_fd, "b", 1);
    tl_loop_turn(*state, 0);
    assert_int_equal(recvs_of_batch, 1);
    tl_loop_turn(*state, 0);
    close(a_fd);
    close(b_fd);
}

static void stream_with_work_left_may_be_closed_by_another(void **state)
{
    struct end a, b;
    int a_fd = end_pair(*state, &a), b_fd = end_pair(*state, &b);
    tl_sys.recv_bytes_max = 1;
    put(a_fd, "0123456789", 10);
    tl_loop_turn(*state, 0);
    assert_true(a.recvs > 0 && a.recvs < 10); /* on the list for the next turn */
    unsigned recvs = a.recvs;
    b.other = &a;
    b.on_bytes = close_both;
    put(b_fd, "b", 1);
    TURN_UNTIL(*state, a.closes + b.closes == 2);
    assert_int_equal(a.recvs, recvs);
    close(a_fd);
    close(b_fd);
}

static void close_other(struct end *e)
{
    end_close(e->other);
}

static void stream_closed_from_on_closed_is_told_too(void **state)
{
    struct end a, b;
    int a_fd = end_pair(*state, &a), b_fd = end_pair(*state, &b);
    a.on_closed = close_other;
    a.other = &b;
    end_finish(*state, &a);
    TURN_UNTIL(*state, b.closes == 1);
    assert_int_equal(a.closes, 1);
    close(a_fd);
    close(b_fd);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(bytes_arrive_in_order),
        LOOP_TEST(bytes_sent_before_the_stream_was_opened_arrive),
        LOOP_TEST(pausing_in_the_callback_stops_at_once_and_resuming_loses_nothing),
        LOOP_TEST(resuming_needs_no_new_bytes_from_the_peer),
        LOOP_TEST(busy_stream_leaves_the_others_their_turn),
        LOOP_TEST(message_costs_one_receive_and_a_stream_one_watch),
        LOOP_TEST(end_of_the_peer_is_told_once_after_its_last_bytes),
        LOOP_TEST(half_close_is_told_only_when_receiving),
        LOOP_TEST(reset_is_told_to_a_paused_stream),
        LOOP_TEST(reset_is_told_to_a_stream_that_pauses_on_the_bytes_before_it),
        LOOP_TEST(both_sides_gone_is_told_to_a_paused_stream),
        LOOP_TEST(shutdown_ends_the_stream_for_the_peer),
        LOOP_TEST(resetting_gives_the_peer_a_reset),
        LOOP_TEST(sending_to_a_peer_that_left_is_an_error_and_no_signal),
        LOOP_TEST(slices_are_sent_in_order),
        LOOP_TEST(send_to_a_full_socket_completes_when_the_peer_reads),
        LOOP_TEST(closing_cancels_a_pending_send_without_on_sent),
        LOOP_TEST(pending_send_to_a_peer_that_leaves_is_told),
        LOOP_TEST(send_is_refused_when_no_memory_can_be_had_for_it),
        LOOP_TEST(bytes_for_those_who_do_not_want_them_take_no_buffers_from_the_others),
        LOOP_TEST(stream_may_be_closed_when_its_send_completes),
        LOOP_TEST(stream_may_be_closed_in_its_own_callback),
        LOOP_TEST(stream_closed_by_an_earlier_event_of_the_batch_hears_nothing),
        LOOP_TEST(stream_with_work_left_may_be_closed_by_another),
        LOOP_TEST(stream_closed_from_on_closed_is_told_too),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
