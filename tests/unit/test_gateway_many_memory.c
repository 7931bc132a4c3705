/*
 * Event streams of several channels while memory is refused: amid their confirmations, amid their
 * snapshots, amid what they missed, amid live messages. Who is hit has a clear end, its
 * connection's or a refusal with the channel's name, and it is counted; who comes back has the rest
 * of what it was promised; the next client is served as if nothing had been; nothing is left. The
 * broker's confirmations and keys come one a turn, so that refusals fall between them.
 */
#include "gateway_fixture.h"

#include "feed/position.h"
#include "gateway/hub.h"

#include <stdio.h>
#include <stdlib.h>

#define CHANNELS_N 3
#define DUE_MAX    64
#define PATIENCE   50 /* turns while memory is refused: what cannot go on is left alone */
#define MISSED_N   12 /* of each channel, by who comes back */
#define LARGE_N    20000

enum part { CONFIRMATIONS, SNAPSHOTS, REPLAY, LIVE };

struct story {
    struct gw gw;
    enum part part;
    struct tl_key_template names;
    struct tl_channel_rule rule;
    unsigned published[CHANNELS_N];
};

/* A client, and what it knows of each channel; it may come several times. */
struct watcher {
    struct story *st;
    struct client *c;
    bool started;
    char id[64]; /* with which it comes back */
    bool in_snapshot;
    struct known {
        unsigned next;
        unsigned snapshots_n;
        bool refused; /* told that it gets nothing more */
        bool loose;   /* it was, and ids went on: what it missed then is not promised */
    } of[CHANNELS_N];
};

/* --- a broker that does one thing a turn --- */

static struct tl_broker_ops ops;
static struct {
    size_t channel;
    bool subscribed;
} due[DUE_MAX]; /* confirmations, in the order of the requests */
static size_t due_n;
static struct tl_list asked; /* keys */

static size_t channel_of(struct tl_bytes name)
{
    size_t i = (size_t)(name.p[name.n - 1] - '0');
    assert_true(i < CHANNELS_N);
    return i;
}

static int confirm_later(struct tl_bytes name, bool subscribed)
{
    void *memory = tl_alloc(1); /* as a broker needs some */
    tl_metric_add(TL_M_REFUSED_MEMORY, !memory);
    tl_free(memory);
    if (!memory)
        return -ENOMEM;
    assert_true(due_n < DUE_MAX);
    due[due_n].channel = channel_of(name);
    due[due_n++].subscribed = subscribed;
    return 0;
}

static int subscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    (void)b;
    (void)kind;
    return confirm_later(name, true);
}

static int unsubscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    (void)b;
    (void)kind;
    return confirm_later(name, false);
}

static void fetch(struct tl_broker *b, struct tl_fetch *f)
{
    (void)b;
    tl_list_append(&asked, &f->node);
}

static const char *const names[CHANNELS_N] = {"tram_0", "tram_1", "tram_2"};

static void confirm_one(struct gw *gw)
{
    const struct tl_broker *broker = gw->broker;
    if (due_n == 0)
        return;
    struct tl_bytes name = tl_bytes_str(names[due[0].channel]);
    bool subscribed = due[0].subscribed;
    memmove(due, due + 1, --due_n * sizeof *due);
    if (subscribed)
        broker->events->on_subscribed(broker->hub, TL_SOURCE_CHANNEL, name, TL_BROKER_OK, "");
    else
        broker->events->on_unsubscribed(broker->hub, TL_SOURCE_CHANNEL, name);
}

static void answer_one(void)
{
    struct tl_list *l = tl_list_pop(&asked);
    if (!l)
        return;
    struct tl_fetch *f = TL_CONTAINER(l, struct tl_fetch, node);
    f->on_value(f, TL_LIT("value"));
    f->status = TL_BROKER_OK;
    f->on_fetched(f);
}

static void turn(struct story *st, uint32_t wait_ms)
{
    gw_turn(&st->gw, wait_ms);
    confirm_one(&st->gw);
    answer_one();
}

#define UNTIL(st, cond)                                                                            \
    for (uint64_t end_ms_ = tl_clock_ms() + DEADLINE_MS; !(cond);) {                               \
        assert_true(tl_clock_ms() < end_ms_);                                                      \
        turn(st, 1);                                                                               \
    }

static void open_story(struct story *st, enum part part)
{
    const char *error = "";
    *st = (struct story){.part = part};
    gw_config(&st->gw.config);
    st->gw.config.ping_ms = DEADLINE_MS;
    if (part != CONFIRMATIONS) /* the logs outlive who was there */
        st->gw.config.linger_ms = st->gw.config.history_ttl_ms = 10 * DEADLINE_MS;
    if (part == SNAPSHOTS) {
        assert_int_equal(tl_key_template_compile(&st->names, TL_LIT("tram_{id}"),
                                                 TL_LIT("tram_{id}:last"), &error),
                         0);
        st->rule = st->gw.config.standard;
        st->rule.glob = tl_key_template_glob(&st->names);
        st->rule.snapshot = true;
        st->rule.names = &st->names;
        st->gw.config.rules = &st->rule;
        st->gw.config.rules_n = 1;
    }
    due_n = 0;
    tl_list_init(&asked);
    gw_open_as_is(&st->gw);
    ops = *st->gw.broker->ops;
    ops.subscribe = subscribe;
    ops.unsubscribe = unsubscribe;
    ops.fetch = fetch;
    st->gw.broker->ops = &ops;
}

/* False: there was no memory for it. The publisher is told, and nobody misses it. */
static bool say(struct story *st, size_t i, size_t n)
{
    struct bag payload = {0};
    struct tl_bytes name = tl_bytes_str(names[i]);
    const struct tl_broker *broker = st->gw.broker;
    bag_text(&payload, "%u ", st->published[i]);
    while (payload.n < n)
        bag_add(&payload, TL_LIT("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij"));
    bool said = broker->events->on_message(broker->hub, TL_SOURCE_CHANNEL, name, name,
                                           tl_bytes(payload.p, payload.n));
    st->published[i] += said;
    bag_free(&payload);
    return said;
}

static void say_all(struct story *st, size_t n)
{
    for (size_t i = 0; i < CHANNELS_N; i++)
        assert_true(say(st, i, n));
}

/* --- what a client gets --- */

static void take_message(struct watcher *w, struct known *of, struct tl_bytes data)
{
    unsigned k = (unsigned)strtoul((const char *)data.p, NULL, 10);
    assert_true(w->started && !of->refused);
    assert_true(of->loose ? k >= of->next : k == of->next);
    of->next = k + 1;
    of->loose = false;
}

static void on_block(struct client *c, struct tl_bytes id, struct tl_bytes event,
                     struct tl_bytes data)
{
    struct watcher *w = c->arg;
    if (id.n == 0) {
        assert_int_equal(data.n, 0);
        return;
    }
    assert_true(id.n < sizeof w->id);
    if (!tl_sequence_is_tag(id)) {
        memcpy(w->id, id.p, id.n);
        w->id[id.n] = 0;
    }
    if (data.n == 0) {
        assert_false(w->started || w->in_snapshot);
        w->started = true;
        return;
    }
    struct known *of = &w->of[channel_of(id)];
    if (tl_bytes_eq(event, TL_LIT("broker"))) {
        assert_non_null(memmem(data.p, data.n, "refused", 7));
        of->refused = true;
    } else if (tl_bytes_eq(event, TL_LIT("snapshot"))) {
        assert_false(w->started || w->in_snapshot);
        w->in_snapshot = true;
    } else if (w->in_snapshot) {
        of->snapshots_n++;
        w->in_snapshot = false;
    } else {
        assert_int_equal(event.n, 0); /* no gap: the logs have everything */
        take_message(w, of, data);
    }
}

static void come(struct story *st, struct watcher *w)
{
    w->st = st;
    w->started = w->in_snapshot = false;
    for (size_t i = 0; i < CHANNELS_N; i++) {
        struct known *of = &w->of[i];
        of->snapshots_n = 0;
        of->loose = of->refused && w->id[0];
        of->refused = false;
        if (!w->id[0])
            of->next = st->published[i];
    }
    w->c = client_open(&st->gw, CLIENT_SSE);
    w->c->on_block = on_block;
    w->c->arg = w;
    client_ask_sse(w->c, "/sse?ch=tram_0&ch=tram_1&ch=tram_2", w->id[0] ? w->id : NULL);
}

static void go(struct watcher *w)
{
    client_end(w->c, true);
    client_free(w->c);
    w->c = NULL;
}

static bool is_gone(const struct watcher *w)
{
    return w->c->ended || (w->c->status != 0 && w->c->status != 200);
}

static bool is_hit(const struct watcher *w)
{
    return is_gone(w) || w->of[0].refused || w->of[1].refused || w->of[2].refused;
}

static bool has_all(const struct watcher *w)
{
    for (size_t i = 0; i < CHANNELS_N; i++)
        if (!w->of[i].refused && w->of[i].next != w->st->published[i])
            return false;
    return w->started;
}

/* --- the story --- */

/* What was before: messages that are snapshots, or that somebody missed who had begun. */
static void prepare(struct story *st, struct watcher *w)
{
    if (st->part == SNAPSHOTS) { /* the first channel has a key alone */
        assert_true(say(st, 1, LARGE_N) && say(st, 2, 10));
        return;
    }
    if (st->part == CONFIRMATIONS)
        return;
    come(st, w);
    UNTIL(st, w->started);
    if (st->part == LIVE)
        return;
    go(w);
    for (size_t n = 0; n < MISSED_N; n++)
        say_all(st, n % 3 ? LARGE_N : 10);
}

/* What goes on while memory is refused. */
static void go_on(struct story *st, struct watcher *w)
{
    if (!w->c) /* LIVE: it is there */
        come(st, w);
    for (size_t turns = 0; turns < PATIENCE; turns++) {
        w->c->deaf = st->part >= REPLAY && turns < PATIENCE / 10;
        if (st->part == LIVE && turns < PATIENCE / 2)
            (void)say(st, turns % CHANNELS_N, turns % 5 ? 10 : LARGE_N);
        turn(st, 0);
    }
}

/* Whoever comes now is served whole. */
static void serve_next(struct story *st)
{
    struct watcher next = {0};
    come(st, &next);
    UNTIL(st, next.started || is_hit(&next));
    assert_false(is_hit(&next));
    for (size_t i = 0; i < CHANNELS_N; i++)
        assert_int_equal(next.of[i].snapshots_n, st->part == SNAPSHOTS);
    say_all(st, 10);
    UNTIL(st, has_all(&next) || is_hit(&next));
    assert_false(is_hit(&next));
    go(&next);
}

/* Memory is there again: who was not hit is served, and who was has a clear end. */
static void settle(struct story *st, struct watcher *w)
{
    UNTIL(st, w->started || is_gone(w));
    say_all(st, 10);
    UNTIL(st, is_gone(w) || has_all(w));
    serve_next(st);
    UNTIL(st, is_gone(w) || has_all(w));
}

/* It has a number to come back with, and gets the rest. */
static void serve_again(struct story *st, struct watcher *w)
{
    go(w);
    come(st, w);
    say_all(st, 10);
    UNTIL(st, has_all(w) || is_hit(w));
    assert_false(is_hit(w));
}

static void end_story(struct story *st, bool waits)
{
    clients_free(&st->gw);
    UNTIL(st, tl_metric_get(TL_M_SUBSCRIPTIONS) == 0 && tl_metric_get(TL_M_SSE_SESSIONS) == 0);
    UNTIL(st, !waits || tl_metric_get(TL_M_CHANNELS) == 0);
    while (due_n > 0 || !tl_list_empty(&asked))
        turn(st, 0);
    gw_close(&st->gw);
}

/* From the i-th allocation on `count` are refused. True: so many were not asked for. */
static bool tell(enum part part, int64_t skip, int64_t count)
{
    struct story st;
    struct watcher w = {0};
    open_story(&st, part);
    prepare(&st, &w);
    int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
    tl_alloc_fail(skip, count);
    go_on(&st, &w);
    bool harmless = tl_alloc_fail(0, 0) <= (uint64_t)skip;
    settle(&st, &w);
    if (is_hit(&w)) {
        assert_false(harmless);
        if (tl_metric_get(TL_M_REFUSED_MEMORY) == refusals)
            fail_msg("allocation %lld: harm that was not counted", (long long)skip);
    }
    if (harmless && part == SNAPSHOTS)
        assert_true(w.of[0].snapshots_n && w.of[1].snapshots_n && w.of[2].snapshots_n);
    if (is_hit(&w) && part >= REPLAY)
        serve_again(&st, &w);
    /* A sweep takes a while. */
    end_story(&st, part == CONFIRMATIONS && skip % 16 == 0);
    return harmless;
}

static void tell_all(enum part part)
{
    int64_t n = 0;
    while (!tell(part, n, 1))
        n += (int64_t)stride_of(1);
    assert_true(n > 20);
    for (int64_t i = 0; i < n; i += (int64_t)stride_of(2)) {
        (void)tell(part, i, 2 + i % 3);
        (void)tell(part, i, -1);
    }
}

static void amid_confirmations_it_hurts_only_whom_it_hits(void **state)
{
    (void)state;
    tell_all(CONFIRMATIONS);
}

static void amid_snapshots_it_hurts_only_whom_it_hits(void **state)
{
    (void)state;
    tell_all(SNAPSHOTS);
}

static void amid_what_was_missed_it_hurts_only_whom_it_hits(void **state)
{
    (void)state;
    tell_all(REPLAY);
}

static void amid_live_messages_it_hurts_only_whom_it_hits(void **state)
{
    (void)state;
    tell_all(LIVE);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amid_confirmations_it_hurts_only_whom_it_hits),
        cmocka_unit_test(amid_snapshots_it_hurts_only_whom_it_hits),
        cmocka_unit_test(amid_what_was_missed_it_hurts_only_whom_it_hits),
        cmocka_unit_test(amid_live_messages_it_hurts_only_whom_it_hits),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
