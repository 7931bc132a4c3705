/*
 * The whole gateway and sends that are queued while a batch of the hub is applied: clients that
 * read, that do not, that ask to be told and that go, each moved by the same batch, under every
 * rule of overflow and with allocations failing. Whoever stays ends with the last message and
 * has missed nothing without a word; nothing stays pinned.
 */
#include "gateway_fixture.h"

#include "gateway/session.h"

#include <sys/socket.h>
#include <unistd.h>

#define TOGETHER  4  /* messages to a batch */
#define STEPS     14 /* batches */
#define BIG_N     110000
#define CLIENTS_N 9
#define SAMPLES_N 12 /* of the allocations, each term others */

static const struct {
    enum tl_overflow overflow;
    uint64_t interval_ms;
} terms[] = {
    {TL_OVERFLOW_DISCONNECT, 0},
    {TL_OVERFLOW_GAP, 0},
    {TL_OVERFLOW_LATEST, 0},
    {TL_OVERFLOW_LATEST, 1},
};
#define TERMS_N (sizeof terms / sizeof *terms)

struct story {
    struct gw gw;
    struct feed feed;
    struct tl_channel_rule rule;
    struct client *clients[CLIENTS_N];
};

static bool say(struct story *st, struct tl_bytes name, struct tl_bytes payload)
{
    const struct tl_broker *broker = st->gw.broker;
    return broker->events->on_message(broker->hub, TL_SOURCE_CHANNEL, name, name, payload);
}

static void say_dropped(struct story *st)
{
    const struct tl_broker *broker = st->gw.broker;
    broker->events->on_dropped(broker->hub, TL_SOURCE_CHANNEL, TL_LIT("news"));
}

static void publish(struct story *st)
{
    assert_true(st->feed.n < MESSAGES_MAX);
    struct message *m = &st->feed.messages[st->feed.n];
    *m = (struct message){0};
    bag_text(&m->payload, "%zu:", st->feed.n++);
    while (st->feed.n % 5 != 0 && m->payload.n < BIG_N)
        bag_add(&m->payload, TL_LIT("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"));
    m->refused = !say(st, TL_LIT("news"), tl_bytes(m->payload.p, m->payload.n));
    m->sure = !m->refused && st->rule.overflow != TL_OVERFLOW_LATEST;
}

static void story_open(struct story *st, size_t i)
{
    gw_config(&st->gw.config);
    st->rule = (struct tl_channel_rule){
        .glob = TL_LIT("*"),
        .log = {2 * TOGETHER, 16u << 20, 600000},
        .overflow = terms[i].overflow,
        .interval_ms = terms[i].interval_ms,
    };
    st->gw.config.rules = &st->rule;
    st->gw.config.rules_n = 1;
    st->gw.config.logs_bytes_max = 64u << 20;
    st->gw.config.retired_bytes_max = 3 * BIG_N;
    gw_open_as_is(&st->gw);
    tl_sys.uring_direct_sends = 0;
}

static void story_close(struct story *st)
{
    gw_close(&st->gw);
    tl_sys_restore();
    feed_free(&st->feed);
}

static struct client *join(struct story *st, enum client_kind kind, const char *path)
{
    struct client *c = client_open(&st->gw, kind);
    c->feed = &st->feed;
    c->at = st->feed.n;
    if (kind == CLIENT_SSE)
        client_ask_sse(c, path, NULL);
    else
        client_ask_ws(c, path);
    return c;
}

/* The first ones read, the others do not. */
static void everybody_joins(struct story *st)
{
    static const char *const paths[] = {"/ws/news", "/sse/news", "/ws/news?strict=1"};
    for (size_t i = 0; i < CLIENTS_N; i++) {
        struct client *c = join(st, i % 3 == 1 ? CLIENT_SSE : CLIENT_WS, paths[i % 3]);
        GW_UNTIL(&st->gw, client_is_settled(c));
        c->deaf = i >= CLIENTS_N / 2;
        st->clients[i] = c;
    }
}

/* What happens in the very turn in which a batch is told. */
static void happen(struct story *st, size_t step)
{
    struct bag out = {0};
    switch (step) {
    case 3:
        client_end(st->clients[0], true);
        break;
    case 5:
        bag_frame(&out, true, TL_WS_PING, TL_LIT("still there?"));
        bag_frame(&out, true, TL_WS_CLOSE, TL_LIT("\x03\xe8 bye"));
        client_send_bag(st->clients[3], &out);
        break;
    case 7: /* behind the messages of this step, before those of the next */
        say_dropped(st);
        break;
    case 9:
        (void)join(st, CLIENT_WS, "/ws/news");
        (void)join(st, CLIENT_SSE, "/sse/news");
        break;
    default:
        break;
    }
}

static bool all_have_the_last(const struct story *st)
{
    for (const struct client *c = st->gw.clients; c; c = c->next)
        if (c->feed && c->subscribed && !c->ended && c->at < st->feed.n)
            return false;
    return true;
}

/* With allocation `skip` of it failing. Returns how many there were. */
static uint64_t tell_story(size_t term, int64_t skip)
{
    struct story st = {0};
    story_open(&st, term);
    everybody_joins(&st);
    tl_alloc_fail(skip, 1);
    for (size_t step = 0; step < STEPS; step++) {
        for (size_t i = 0; i < TOGETHER; i++)
            publish(&st);
        happen(&st, step);
        gw_turn(&st.gw, 0);
    }
    uint64_t asked = tl_alloc_fail(0, 0);
    for (struct client *c = st.gw.clients; c; c = c->next)
        c->deaf = false;
    publish(&st);
    assert_false(st.feed.messages[st.feed.n - 1].refused);
    GW_UNTIL(&st.gw, all_have_the_last(&st));
    story_close(&st);
    return asked;
}

static void whoever_stays_has_all_or_was_told(void **state)
{
    (void)state;
    for (size_t term = 0; term < TERMS_N; term++)
        tell_story(term, INT64_MAX);
}

static void failing_allocations_are_survived(void **state)
{
    (void)state;
    for (size_t term = 0; term < TERMS_N; term++) {
        uint64_t n = tell_story(term, INT64_MAX), stride = stride_of(n / SAMPLES_N + 1);
        for (uint64_t skip = term; skip < n; skip += stride)
            tell_story(term, (int64_t)skip);
    }
}

/* --- sends of an earlier batch --- */

/*
 * A stream of the test's own, whose callback tells a batch while other completions of the same turn
 * are still to be told.
 */
struct poke {
    struct tl_stream stream;
    struct story *st;
    int fd; /* its other end */
    bool closed;
};

static void on_poke(struct tl_stream *stream, uint8_t *bytes, ssize_t n)
{
    struct poke *poke = TL_CONTAINER(stream, struct poke, stream);
    (void)bytes;
    assert_true(n > 0);
    for (int i = 0; i < 3 * TOGETHER; i++) /* more than the log may hold untold */
        assert_true(say(poke->st, TL_LIT("other"), TL_LIT("o")));
}

static void on_poke_sent(struct tl_stream *stream, ssize_t n)
{
    (void)stream;
    (void)n;
}

static void on_poke_closed(struct tl_stream *stream)
{
    TL_CONTAINER(stream, struct poke, stream)->closed = true;
}

static void poke_open(struct poke *poke, struct story *st)
{
    static const struct tl_stream_handler handler = {
        .on_recv = on_poke, .on_sent = on_poke_sent, .on_closed = on_poke_closed};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *poke = (struct poke){.st = st, .fd = fds[1]};
    assert_int_equal(tl_stream_open(st->gw.loop, &poke->stream, fds[0], &handler), 0);
    tl_stream_recv(&poke->stream, true);
    gw_turn(&st->gw, 0);
}

static void poke_close(struct poke *poke)
{
    tl_stream_close(&poke->stream);
    close(poke->fd);
    GW_UNTIL(&poke->st->gw, poke->closed);
}

/* The slow one's socket takes again what was queued for it, in the turn in which a batch is told to
 * `fresh` others. */
static void take_amid_a_batch(struct story *st, struct client *slow, size_t fresh_n)
{
    struct client *fresh[8];
    struct poke poke;
    for (size_t i = 0; i < fresh_n; i++) {
        fresh[i] = client_open(&st->gw, CLIENT_WS);
        client_ask_ws(fresh[i], "/ws/other");
        GW_UNTIL(&st->gw, client_is_settled(fresh[i]));
    }
    poke_open(&poke, st);
    assert_int_equal(write(poke.fd, "x", 1), 1);
    slow->deaf = false;
    gw_poll(&st->gw);
    slow->deaf = true;
    gw_turn(&st->gw, 1);
    for (size_t i = 0; i < fresh_n; i++)
        GW_UNTIL(&st->gw, fresh[i]->messages_n == 3 * TOGETHER);
    poke_close(&poke);
}

static const struct tl_worker *worker_of(const struct story *st)
{
    return gw_worker(&st->gw, 0);
}

static void publish_some(struct story *st, size_t n)
{
    static const char bytes[2000];
    assert_true(say(st, TL_LIT("news"), tl_bytes(bytes, n)));
    gw_turn(&st->gw, 0);
}

/* The session whose send is in flight, of which nothing was taken; NULL: there is none. */
static struct tl_session *find_stuck(const struct story *st)
{
    const struct tl_list *lagging = &worker_of(st)->lagging;
    if (tl_list_empty(lagging))
        return NULL;
    struct tl_session *s = TL_CONTAINER(lagging->next, struct tl_session, lag_node);
    return s->sub.off == s->sub.out->base_off ? s : NULL;
}

static void narrow_sockets(const struct story *st, const struct client *c)
{
    const struct tl_list *sessions = &worker_of(st)->sessions;
    int small = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    for (struct tl_list *l = sessions->next; l != sessions; l = l->next) {
        struct tl_session *s = TL_CONTAINER(l, struct tl_session, node);
        setsockopt(s->conn.stream.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }
}

/* Its socket is full, and a whole send waits for it. Sooner or later a message ends just where the
 * room does. */
static struct client *slow_client(struct story *st, enum client_kind kind, const char *path)
{
    struct client *c = join(st, kind, path);
    c->feed = NULL;
    GW_UNTIL(&st->gw, client_is_settled(c));
    narrow_sockets(st, c);
    for (size_t n = 1; !find_stuck(st); n = n * 7 % 1999) {
        c->deaf = tl_list_empty(&worker_of(st)->lagging);
        if (c->deaf)
            publish_some(st, n);
        else
            GW_UNTIL(&st->gw, tl_list_empty(&worker_of(st)->lagging));
    }
    c->deaf = true;
    return c;
}

static void who_left_its_channel_gets_the_rest_amid_a_batch_of_others(void **state)
{
    (void)state;
    struct story st = {0};
    story_open(&st, 0);
    struct client *slow = slow_client(&st, CLIENT_SSE, "/sse/news");
    int64_t overflows = tl_metric_get(TL_M_OVERFLOWS);
    while (tl_metric_get(TL_M_OVERFLOWS) == overflows)
        publish_some(&st, 100);
    take_amid_a_batch(&st, slow, 2);
    slow->deaf = false;
    GW_UNTIL(&st.gw, slow->ended);
    story_close(&st);
}

static void who_has_caught_up_amid_a_batch_of_others_lags_no_more(void **state)
{
    (void)state;
    struct story st = {0};
    story_open(&st, 0);
    struct client *slow = slow_client(&st, CLIENT_WS, "/ws/news");
    take_amid_a_batch(&st, slow, 2);
    assert_true(tl_list_empty(&worker_of(&st)->lagging));
    story_close(&st);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_stays_has_all_or_was_told),
        cmocka_unit_test(who_left_its_channel_gets_the_rest_amid_a_batch_of_others),
        cmocka_unit_test(who_has_caught_up_amid_a_batch_of_others_lags_no_more),
        cmocka_unit_test(failing_allocations_are_survived),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
