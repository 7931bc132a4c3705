/*
 * Are the sends of a batch told at its end, whatever its size, and whatever happens within? Is each
 * send told once with its count, however little the kernel takes of it?
 */
#include "stream_fixture.h"

#define BATCH 50

static void batch_open(struct tl_loop *loop, struct end *ends, int *fds)
{
    fill_big();
    for (unsigned i = 0; i < BATCH; i++)
        fds[i] = end_pair(loop, &ends[i]);
}

static void batch_finish(struct tl_loop *loop, struct end *ends, const int *fds)
{
    for (unsigned i = 0; i < BATCH; i++) {
        tl_stream_close(&ends[i].s);
        close(fds[i]);
    }
    for (unsigned i = 0; i < BATCH; i++)
        TURN_UNTIL(loop, ends[i].closes == 1);
}

/* Each stream sends bytes of its own, in 1 to 3 slices. */
static void batch_send(struct end *ends)
{
    for (unsigned i = 0; i < BATCH; i++) {
        struct tl_bytes slices[3] = {tl_bytes(big + i, 5), tl_bytes(big + i + 5, 5),
                                     tl_bytes(big + i + 10, 5)};
        ssize_t taken = tl_stream_send(&ends[i].s, slices, 1 + i % 3);
        if (taken > 0)
            ends[i].sents++, ends[i].sent = taken;
        else
            assert_int_equal(taken, TL_SEND_PENDING);
    }
}

static void batch_check(struct end *ends, const int *fds)
{
    for (unsigned i = 0; i < BATCH; i++) {
        uint8_t got[32];
        ssize_t n = 5 * (1 + i % 3);
        assert_int_equal(ends[i].sents, 1);
        assert_int_equal(ends[i].sent, n);
        assert_int_equal(recv(fds[i], got, sizeof(got), 0), n);
        assert_memory_equal(got, big + i, (size_t)n);
    }
}

static void sends_of_a_batch_are_told_when_it_ends(void **state)
{
    struct end ends[BATCH];
    int fds[BATCH];
    batch_open(*state, ends, fds);
    tl_loop_batch_begin(*state);
    batch_send(ends);
    tl_loop_batch_end(*state);
    batch_check(ends, fds);
    batch_finish(*state, ends, fds);
}

static void batch_may_be_bigger_than_the_rings(void **state)
{
    (void)state;
    int error = 0;
    struct end ends[BATCH];
    int fds[BATCH];
    tl_sys.uring_entries = 4;
    tl_sys.uring_direct_sends = 0;
    struct tl_loop *loop = tl_loop_new(test_engine->engine, &error);
    assert_non_null(loop);
    batch_open(loop, ends, fds);
    for (int round = 0; round < 3; round++) {
        put(fds[0], "mixed in", 8); /* completions of other kinds keep their place */
        if (round == 1)
            tl_loop_turn(loop, 0);
        tl_loop_batch_begin(loop);
        batch_send(ends);
        tl_loop_batch_end(loop);
        batch_check(ends, fds);
        for (unsigned i = 0; i < BATCH; i++)
            ends[i].sents = 0;
    }
    TURN_UNTIL(loop, ends[0].got.n == 24);
    batch_finish(loop, ends, fds);
    tl_loop_free(loop);
}

static void full_socket_keeps_its_send_beyond_the_batch(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e);
    size_t at = 0, read = 0;
    fill_big();
    ssize_t taken;
    do {
        unsigned sents = e.sents;
        struct tl_bytes rest = tl_bytes(big + at, 1000);
        tl_loop_batch_begin(*state);
        taken = tl_stream_send(&e.s, &rest, 1);
        tl_loop_batch_end(*state);
        if (taken == TL_SEND_PENDING && e.sents > sents)
            taken = e.sent;
        if (taken > 0)
            at += (size_t)taken;
        assert_true(at < sizeof(big) / 2);
    } while (taken > 0);
    assert_int_equal(taken, TL_SEND_PENDING);
    unsigned sents = e.sents;
    for (int i = 0; i < 3; i++)
        tl_loop_turn(*state, 0);
    assert_int_equal(e.sents, sents);
    drain(fd, &read);
    TURN_UNTIL(*state, e.sents == sents + 1);
    at += (size_t)e.sent;
    drain(fd, &read);
    assert_int_equal(read, at);
    end_finish(*state, &e);
    close(fd);
}

static void send_again(struct end *e)
{
    e->on_sent = NULL;
    ssize_t taken = tl_stream_send(&e->s, &TL_LIT("more"), 1);
    assert_true(taken == 4 || (taken == TL_SEND_PENDING && !sends_at_once()));
}

static void close_other_in_sent(struct end *e)
{
    if (!tl_stream_is_closed(&e->other->s))
        end_close(e->other);
}

static void streams_may_send_and_close_each_other_when_their_batch_ends(void **state)
{
    struct end a, b, c;
    int a_fd = end_pair(*state, &a), b_fd = end_pair(*state, &b), c_fd = end_pair(*state, &c);
    a.on_sent = send_again;
    b.on_sent = c.on_sent = close_other_in_sent;
    b.other = &c;
    c.other = &b;
    tl_sys.uring_direct_sends = 0;
    tl_loop_batch_begin(*state); /* takes note of it for the next */
    tl_loop_batch_end(*state);
    tl_loop_batch_begin(*state);
    bool queued = tl_stream_send(&a.s, &TL_LIT("a"), 1) == TL_SEND_PENDING;
    assert_int_equal(tl_stream_send(&b.s, &TL_LIT("b"), 1) == TL_SEND_PENDING, queued);
    assert_int_equal(tl_stream_send(&c.s, &TL_LIT("c"), 1) == TL_SEND_PENDING, queued);
    tl_loop_batch_end(*state);
    assert_int_equal(queued, on_uring());
    assert_int_equal(a.sents, queued);
    assert_int_equal(b.sents, queued);
    assert_int_equal(c.sents, 0); /* closed by b before it was told */
    tl_loop_turn(*state, 0);
    assert_int_equal(c.closes, queued);
    char got[8];
    assert_int_equal(recv(a_fd, got, sizeof(got), 0), queued ? 5 : 1);
    tl_stream_close(&c.s);
    end_finish(*state, &a);
    end_finish(*state, &b);
    close(a_fd);
    close(b_fd);
    close(c_fd);
}

static void number_of_a_descriptor_is_not_given_away_while_a_send_is_queued(void **state)
{
    struct end e;
    int fd = end_pair(*state, &e), number = e.s.fd, fds[2];
    tl_sys.uring_direct_sends = 0;
    tl_loop_batch_begin(*state);
    tl_loop_batch_end(*state);
    tl_loop_batch_begin(*state);
    ssize_t taken = tl_stream_send(&e.s, &TL_LIT("private"), 1);
    assert_int_equal(taken, on_uring() ? TL_SEND_PENDING : 7);
    end_close(&e);
    assert_int_equal(fcntl(number, F_GETFD) >= 0, on_uring());
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    tl_loop_batch_end(*state);
    TURN_UNTIL(*state, e.closes == 1);
    char got[8];
    assert_int_equal(recv(fds[0], got, sizeof(got), 0), -1);
    assert_int_equal(recv(fds[1], got, sizeof(got), 0), -1);
    assert_int_equal(e.sents, 0);
    close(fds[0]);
    close(fds[1]);
    close(fd);
}

/* ---- short sends ---- */

static size_t taken_max; /* bytes of one call */

static ssize_t short_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct iovec parts[TL_SEND_SLICES_MAX];
    struct msghdr cut = {.msg_iov = parts};
    for (size_t left = taken_max; cut.msg_iovlen < msg->msg_iovlen && left > 0;) {
        struct iovec *part = &parts[cut.msg_iovlen];
        *part = msg->msg_iov[cut.msg_iovlen++];
        part->iov_len = part->iov_len < left ? part->iov_len : left;
        left -= part->iov_len;
    }
    return sendmsg(fd, &cut, flags);
}

static ssize_t short_send(int fd, const void *bytes, size_t n, int flags)
{
    return send(fd, bytes, n < taken_max ? n : taken_max, flags);
}

static void cut_sends(size_t bytes_max)
{
    taken_max = tl_sys.uring_send_bytes_max = bytes_max;
    tl_sys.send = short_send;
    tl_sys.sendmsg = short_sendmsg;
}

/* What the call says, or on_sent, which is called once, and only if the call did not say. */
static ssize_t told_once(struct tl_loop *loop, struct end *e, const struct tl_bytes *slices,
                         unsigned n, bool batched)
{
    unsigned sents = e->sents;
    if (batched)
        tl_loop_batch_begin(loop);
    ssize_t taken = tl_stream_send(&e->s, slices, n);
    if (batched)
        tl_loop_batch_end(loop);
    bool later = taken == TL_SEND_PENDING;
    if (later)
        TURN_UNTIL(loop, e->sents > sents);
    for (int i = 0; i < 3; i++)
        tl_loop_turn(loop, 0);
    assert_int_equal(e->sents, sents + later);
    return later ? e->sent : taken;
}

/* Three slices of 5 bytes each, and then what is left of them, for as long as there is a rest. */
static void check_short_sends(struct tl_loop *loop, bool batched)
{
    struct end e;
    int fd = end_pair(loop, &e);
    for (size_t at = 0; at < 15;) {
        struct tl_bytes slices[3];
        uint8_t got[32];
        unsigned n = 0;
        for (size_t from = at; from < 15; from = from / 5 * 5 + 5)
            slices[n++] = tl_bytes(big + from, 5 - from % 5);
        ssize_t taken = told_once(loop, &e, slices, n, batched);
        assert_int_equal(taken, 15 - at < taken_max ? 15 - at : taken_max);
        assert_int_equal(recv(fd, got, sizeof(got), 0), taken);
        assert_memory_equal(got, big + at, (size_t)taken);
        at += (size_t)taken;
    }
    end_finish(loop, &e);
    close(fd);
}

static void short_send_is_told_once_with_its_count(void **state)
{
    fill_big();
    for (unsigned direct = 0; direct <= 1; direct++) { /* of a batch: queued, or made at once */
        tl_sys.uring_direct_sends = direct;
        for (size_t bytes_max = 1; bytes_max <= 16; bytes_max++) {
            cut_sends(bytes_max);
            check_short_sends(*state, false);
            check_short_sends(*state, true);
        }
    }
}

/* ---- the same to many ---- */

#define ALL 150 /* more than one tl_loop_send_all() takes */

static unsigned told_together;

static void all_sent(struct tl_stream *const *streams, const int32_t *taken, unsigned n)
{
    assert_in_range(n, 1, TL_SEND_ALL_MAX);
    told_together += n;
    for (unsigned i = 0; i < n; i++)
        if (!tl_stream_is_closed(streams[i]))
            end_sent(streams[i], taken[i]);
}

static const struct tl_stream_handler all_handler = {
    .on_recv = end_recv,
    .on_sent = end_sent,
    .on_sent_all = all_sent,
    .on_closed = end_closed,
};

static void all_open(struct tl_loop *loop, struct end *ends, int *fds)
{
    fill_big();
    for (unsigned i = 0; i < ALL; i++) {
        fds[i] = end_pair(loop, &ends[i]);
        if (i % 50 > 0) /* some are told one by one */
            ends[i].s.handler = &all_handler;
    }
}

static void all_finish(struct tl_loop *loop, struct end *ends, const int *fds)
{
    for (unsigned i = 0; i < ALL; i++) {
        tl_stream_close(&ends[i].s);
        close(fds[i]);
    }
    for (unsigned i = 0; i < ALL; i++)
        TURN_UNTIL(loop, ends[i].closes == 1);
}

/* Send it to all, in one batch; what comes at once is counted as what is told. */
static void all_send(struct tl_loop *loop, struct end *ends, const struct tl_bytes *slices,
                     unsigned slices_n)
{
    struct tl_stream *streams[TL_SEND_ALL_MAX];
    ssize_t taken[TL_SEND_ALL_MAX];
    for (unsigned at = 0, n; at < ALL; at += n) {
        for (n = 0; n < TL_SEND_ALL_MAX && at + n < ALL; n++)
            streams[n] = &ends[at + n].s;
        tl_loop_send_all(loop, streams, n, slices, slices_n, taken);
        for (unsigned i = 0; i < n; i++) {
            if (taken[i] > 0)
                end_sent(streams[i], taken[i]);
            else
                assert_int_equal(taken[i], TL_SEND_PENDING);
        }
    }
}

static void check_each_got(struct end *ends, const int *fds, size_t n)
{
    uint8_t got[64];
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(ends[i].sents, 1);
        assert_int_equal(ends[i].sent, n);
        assert_int_equal(recv(fds[i], got, sizeof(got), 0), n);
        assert_memory_equal(got, big, n);
        ends[i].sents = 0;
    }
}

static void the_same_goes_to_many_whatever_the_size_of_the_rings(void **state)
{
    (void)state;
    const unsigned entries[] = {1, 4, 64, 1024}, direct_sends[] = {0, 0, 3, 100};
    for (unsigned round = 0; round < 4; round++) {
        struct end ends[ALL];
        int fds[ALL], error = 0;
        tl_sys.uring_entries = entries[round];
        tl_sys.uring_direct_sends = direct_sends[round];
        struct tl_loop *loop = tl_loop_new(test_engine->engine, &error);
        assert_non_null(loop);
        all_open(loop, ends, fds);
        struct tl_bytes slices[2] = {tl_bytes(big, 10), tl_bytes(big + 10, 20)};
        for (unsigned n = 1; n <= 2; n++) {
            told_together = 0;
            put(fds[ALL / 2], "mixed in", 8);
            tl_loop_batch_begin(loop);
            all_send(loop, ends, slices, n);
            tl_loop_batch_end(loop);
            check_each_got(ends, fds, n == 1 ? 10 : 30);
            assert_int_equal(told_together > 0, on_uring() && n == 1);
        }
        TURN_UNTIL(loop, ends[ALL / 2].got.n == 16);
        all_finish(loop, ends, fds);
        tl_loop_free(loop);
    }
}

static void the_same_goes_to_many_without_a_batch(void **state)
{
    struct end ends[ALL];
    int fds[ALL];
    all_open(*state, ends, fds);
    struct tl_bytes slice = tl_bytes(big, 10);
    all_send(*state, ends, &slice, 1);
    for (unsigned i = 0; i < ALL; i++)
        TURN_UNTIL(*state, ends[i].sents == 1);
    check_each_got(ends, fds, 10);
    all_finish(*state, ends, fds);
}

static void close_next(struct end *e)
{
    end_close(e->other);
}

/* Fills the socket; the stream is no worse off for it. */
static void fill_socket(int fd)
{
    while (send(fd, big, sizeof(big), MSG_NOSIGNAL) > 0)
        ;
}

static void one_of_many_may_be_full_closed_or_broken(void **state)
{
    struct end ends[ALL];
    int fds[ALL];
    tl_sys.uring_direct_sends = 0;
    tl_loop_batch_begin(*state);
    tl_loop_batch_end(*state);
    all_open(*state, ends, fds);
    fill_socket(ends[5].s.fd);
    ends[10].on_sent = close_next;
    ends[10].other = &ends[11];
    close(fds[20]);
    struct tl_stream *streams[30];
    ssize_t taken[30];
    for (unsigned i = 0; i < 30; i++)
        streams[i] = &ends[i].s;
    struct tl_bytes slice = tl_bytes(big, 10);
    bool queues = tl_loop_batch_begin(*state);
    tl_loop_send_all(*state, streams, 30, &slice, 1, taken);
    assert_int_equal(taken[0], queues ? TL_SEND_PENDING : 10);
    assert_int_equal(taken[5], TL_SEND_PENDING);
    assert_int_equal(taken[20], queues ? TL_SEND_PENDING : -EPIPE);
    tl_loop_batch_end(*state);
    for (unsigned i = 0; i < 30; i++) {
        bool is_told = queues && i != 5 && i != 11;
        assert_int_equal(ends[i].sents, is_told);
        if (is_told)
            assert_int_equal(ends[i].sent, i == 20 ? -EPIPE : 10);
    }
    for (uint8_t got[4096]; ends[5].sents == 0; tl_loop_turn(*state, 0))
        while (recv(fds[5], got, sizeof(got), 0) > 0)
            ;
    assert_int_equal(ends[5].sent, 10);
    all_finish(*state, ends, fds);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(short_send_is_told_once_with_its_count),
        LOOP_TEST(sends_of_a_batch_are_told_when_it_ends),
        LOOP_TEST(batch_may_be_bigger_than_the_rings),
        LOOP_TEST(full_socket_keeps_its_send_beyond_the_batch),
        LOOP_TEST(streams_may_send_and_close_each_other_when_their_batch_ends),
        LOOP_TEST(number_of_a_descriptor_is_not_given_away_while_a_send_is_queued),
        LOOP_TEST(the_same_goes_to_many_whatever_the_size_of_the_rings),
        LOOP_TEST(the_same_goes_to_many_without_a_batch),
        LOOP_TEST(one_of_many_may_be_full_closed_or_broken),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
