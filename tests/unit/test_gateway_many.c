/*
 * The whole gateway and event streams of several channels. An oracle that knows what was published
 * follows each client, through cuts and returns: of each channel it gets every message once and in
 * order, or is told a gap of that channel first; ids never go back; nothing from before it came,
 * but the newest of then where the rule has a snapshot.
 */
#include "gateway_fixture.h"

#include "feed/position.h"
#include "gateway/session.h"

#include <stdio.h>
#include <stdlib.h>

#define CHANNELS_N 6
#define CLIENTS_N  4
#define STEPS      1500

enum { DISCONNECT = 0, LATEST = 2, RATE = 3, GAP = 4 }; /* the channels with such rules */

/* What one client is to get of one channel. */
struct due {
    bool asked;
    bool known;   /* `next` is what comes next; else anything from `next` to `newest` */
    bool gap;     /* a gap was told: anything from next on */
    bool refused; /* told that it gets nothing more */
    bool begun;   /* what it had last is its snapshot: who is cut right then gets of before it */
    bool again;   /* it came back, and the newest may come again where it may have been held back */
    uint64_t next, newest;
};

struct watcher {
    struct story *st;
    struct client *c;
    struct due dues[CHANNELS_N];
    bool started, resumes;
    uint64_t seq;
    char id[64];
    unsigned gaps_n, messages_n, snapshots_n;
    unsigned before_gap_n; /* messages before the last gap */
    bool in_snapshot;      /* the next block is one */
};

struct story {
    struct gw gw;
    struct tl_channel_rule rules[CHANNELS_N];
    uint64_t published[CHANNELS_N];
    struct watcher watchers[CLIENTS_N];
    uint64_t rng;
    bool fails; /* allocations do */
};

static const char *const names[CHANNELS_N] = {"c0", "c1", "c2", "c3", "c4", "c5"};

static uint64_t below(struct story *st, uint64_t n)
{
    uint64_t z = st->rng += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    return (z ^ z >> 31) % n;
}

static void open_story(struct story *st, uint64_t seed)
{
    *st = (struct story){.rng = seed};
    gw_config(&st->gw.config);
    for (size_t i = 0; i < CHANNELS_N; i++) {
        st->rules[i] = st->gw.config.standard;
        st->rules[i].glob = tl_bytes_str(names[i]);
    }
    st->rules[DISCONNECT].log.msgs_max = 8;
    st->rules[DISCONNECT].overflow = TL_OVERFLOW_DISCONNECT;
    st->rules[LATEST].log.msgs_max = 8;
    st->rules[LATEST].overflow = TL_OVERFLOW_LATEST;
    st->rules[RATE].overflow = TL_OVERFLOW_LATEST;
    st->rules[RATE].interval_ms = 1;
    st->rules[GAP].log.msgs_max = 8;
    st->rules[GAP].overflow = TL_OVERFLOW_GAP;
    st->rules[1].snapshot = st->rules[RATE].snapshot = st->rules[5].snapshot = true;
    st->gw.config.rules = st->rules;
    st->gw.config.rules_n = CHANNELS_N;
    st->gw.config.linger_ms = st->gw.config.history_ttl_ms = 600000;
    gw_open_as_is(&st->gw);
}

/* --- the oracle --- */

static size_t channel_of(struct tl_bytes id)
{
    const uint8_t *at = memchr(id.p, '@', id.n);
    assert_non_null(at);
    assert_true(id.p + id.n - at == 3 && at[1] == 'c');
    size_t i = (size_t)(at[2] - '0');
    assert_true(i < CHANNELS_N);
    return i;
}

static void check_id(struct watcher *w, struct tl_bytes id)
{
    struct tl_sequence sequence;
    assert_true(id.n < sizeof w->id);
    memcpy(w->id, id.p, id.n);
    w->id[id.n] = 0;
    if (tl_sequence_is_tag(id)) { /* with which it comes back as it came now */
        assert_false(w->started || w->resumes);
        return;
    }
    assert_true(tl_sequence_parse(id, &sequence));
    if (w->started)
        assert_true(sequence.at >= w->seq);
    w->seq = sequence.at;
}

static void take_snapshot(struct watcher *w, size_t i, struct tl_bytes data)
{
    struct due *due = &w->dues[i];
    uint64_t k = strtoull((const char *)data.p, NULL, 10);
    assert_true(w->st->rules[i].snapshot && due->asked && !due->refused && !due->begun);
    assert_true(k + 1 >= due->next && k < w->st->published[i]);
    due->next = k + 1;
    due->known = due->begun = true;
    w->in_snapshot = false;
    w->snapshots_n++;
}

static void take_message(struct watcher *w, size_t i, struct tl_bytes data)
{
    struct due *due = &w->dues[i];
    uint64_t k = strtoull((const char *)data.p, NULL, 10);
    assert_true(w->started && due->asked && !due->refused);
    bool latest = i == LATEST || i == RATE;
    bool earlier = due->begun && due->again && k < due->next;
    /* Never twice, never from before; but where the latest counts, a gap is followed by it. */
    assert_true(k >= due->next || (latest && due->gap) || (due->again && k + 1 == due->next) ||
                earlier);
    if (!due->gap && !latest && !earlier) {
        if (due->known)
            assert_int_equal(k, due->next);
        else
            assert_true(k <= due->newest);
    }
    due->next = k + 1;
    due->known = true;
    due->gap = due->again = due->begun = false;
    w->messages_n++;
}

static void on_start(struct watcher *w)
{
    assert_false(w->started);
    w->started = true;
    for (size_t i = 0; i < CHANNELS_N; i++)
        w->dues[i].newest = w->st->published[i];
}

static void on_block(struct client *c, struct tl_bytes id, struct tl_bytes event,
                     struct tl_bytes data)
{
    struct watcher *w = c->arg;
    if (id.n == 0) {
        assert_true(data.n == 0 || tl_bytes_eq(event, TL_LIT("broker")));
        return;
    }
    check_id(w, id);
    if (data.n == 0) {
        on_start(w);
        return;
    }
    size_t i = channel_of(id);
    if (tl_bytes_eq(event, TL_LIT("gap"))) {
        w->dues[i].gap = true;
        w->gaps_n++;
        w->before_gap_n = w->messages_n;
    } else if (tl_bytes_eq(event, TL_LIT("broker"))) {
        w->dues[i].refused = memmem(data.p, data.n, "refused", 7) != NULL;
    } else if (tl_bytes_eq(event, TL_LIT("snapshot"))) {
        assert_false(w->started || w->in_snapshot);
        w->in_snapshot = true;
    } else if (w->in_snapshot) {
        take_snapshot(w, i, data);
    } else {
        take_message(w, i, data);
    }
}

/* --- what happens --- */

static void come(struct story *st, struct watcher *w, unsigned channels)
{
    char path[128] = "/sse?";
    for (size_t i = 0; i < CHANNELS_N; i++) {
        struct due *due = &w->dues[i];
        if (!w->resumes)
            *due = (struct due){.next = st->published[i]};
        /* What came after it was refused is not promised to who comes back. */
        due->gap = due->gap || due->refused;
        due->refused = false;
        due->again = w->resumes && (i == RATE || due->begun);
        due->asked = channels & 1u << i;
        if (!due->asked)
            continue;
        snprintf(path + strlen(path), sizeof path - strlen(path), "ch=%s&", names[i]);
    }
    w->st = st;
    w->started = w->in_snapshot = false;
    w->c = client_open(&st->gw, CLIENT_SSE);
    w->c->on_block = on_block;
    w->c->arg = w;
    client_ask_sse(w->c, path, w->id[0] ? w->id : NULL);
}

static unsigned asked_by(const struct watcher *w)
{
    unsigned channels = 0;
    for (size_t i = 0; i < CHANNELS_N; i++)
        channels |= (unsigned)w->dues[i].asked << i;
    return channels;
}

static void go(struct story *st, struct watcher *w)
{
    if (!w->c)
        return;
    client_end(w->c, below(st, 2) == 0);
    client_free(w->c);
    w->c = NULL;
    /* Without a number nothing is promised to who comes back. */
    w->resumes = w->id[0] != 0 && w->id[0] != '@';
}

static void forget(struct watcher *w)
{
    *w = (struct watcher){.st = w->st};
}

static void say(struct story *st, size_t i, size_t n)
{
    struct bag payload = {0};
    struct tl_bytes name = tl_bytes_str(names[i]);
    bag_text(&payload, "%llu ", (unsigned long long)st->published[i]);
    while (payload.n < n)
        bag_add(&payload, TL_LIT("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij"));
    const struct tl_broker *broker = st->gw.broker;
    /* Without memory the publisher is told, and nobody misses it. */
    if (broker->events->on_message(broker->hub, TL_SOURCE_CHANNEL, name, name,
                                   tl_bytes(payload.p, payload.n)))
        st->published[i]++;
    bag_free(&payload);
}

/* One that the broker could not pass on: all who watch are told. */
static void drop(struct story *st, size_t i)
{
    const struct tl_broker *broker = st->gw.broker;
    st->published[i]++;
    broker->events->on_dropped(broker->hub, TL_SOURCE_CHANNEL, tl_bytes_str(names[i]));
}

/* Cut, or refused. */
static bool is_gone(const struct watcher *w)
{
    return w->c->ended || (w->c->status != 0 && w->c->status != 200);
}

static void step(struct story *st)
{
    struct watcher *w = &st->watchers[below(st, CLIENTS_N)];
    switch (below(st, 16)) {
    case 0:
        go(st, w);
        break;
    case 1:
        if (w->c)
            w->c->deaf = !w->c->deaf;
        break;
    case 2:
        gw_turn(&st->gw, 1);
        break;
    case 3:
        if (w->c && w->started)
            drop(st, below(st, CHANNELS_N));
        break;
    case 4:
    case 5:
        say(st, below(st, CHANNELS_N), 30000);
        break;
    case 6:
    case 7:
    case 8:
        gw_turn(&st->gw, 0);
        break;
    case 9:
        if (w->c && below(st, 10) == 0) { /* a stranger takes its place */
            go(st, w);
            forget(w);
        }
        break;
    default:
        say(st, below(st, CHANNELS_N), 1 + below(st, 200));
        break;
    }
    if (!w->c || is_gone(w)) {
        go(st, w);
        unsigned channels = w->resumes ? asked_by(w) : (unsigned)below(st, 63) + 1;
        come(st, w, channels);
    }
}

static bool has_all(const struct watcher *w)
{
    for (size_t i = 0; i < CHANNELS_N; i++)
        if (w->dues[i].asked && !w->dues[i].refused && w->dues[i].next < w->st->published[i])
            return false;
    return w->started;
}

/* The end: everybody reads, comes back if it was cut, and gets the last message of each. */
static void settle(struct story *st)
{
    for (size_t k = 0; k < CLIENTS_N; k++) {
        struct watcher *w = &st->watchers[k];
        if (!w->c)
            come(st, w, w->resumes ? asked_by(w) : 63);
        w->c->deaf = false;
    }
    GW_UNTIL(&st->gw, st->watchers[0].started || is_gone(&st->watchers[0]));
    for (int turns = 0; turns < 20; turns++)
        gw_turn(&st->gw, 0);
    for (size_t i = 0; i < CHANNELS_N; i++)
        say(st, i, 10);
    for (size_t k = 0; k < CLIENTS_N; k++) {
        struct watcher *w = &st->watchers[k];
        for (uint64_t end_ms = tl_clock_ms() + DEADLINE_MS; !has_all(w);) {
            assert_true(tl_clock_ms() < end_ms);
            if (is_gone(w)) {
                go(st, w);
                come(st, w, w->resumes ? asked_by(w) : 63);
                for (size_t i = 0; i < CHANNELS_N && !w->resumes; i++)
                    w->dues[i].next = st->published[i];
            }
            gw_turn(&st->gw, 1);
        }
    }
}

static void close_story(struct story *st)
{
    for (size_t k = 0; k < CLIENTS_N; k++)
        go(st, &st->watchers[k]);
    gw_close(&st->gw);
    assert_int_equal(tl_metric_get(TL_M_SUBSCRIPTIONS), 0);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
}

static void tell_story(uint64_t seed, bool fails)
{
    struct story st;
    open_story(&st, seed);
    for (int i = 0; i < STEPS; i++) {
        if (fails && below(&st, 20) == 0)
            tl_alloc_fail((int64_t)below(&st, 30), 1 + (int64_t)below(&st, 3));
        step(&st);
    }
    tl_alloc_fail(0, 0);
    settle(&st);
    unsigned messages = 0, snapshots = 0;
    for (size_t k = 0; k < CLIENTS_N; k++) {
        messages += st.watchers[k].messages_n;
        snapshots += st.watchers[k].snapshots_n;
    }
    assert_true(messages > 0 && snapshots > 0);
    close_story(&st);
}

static void everybody_has_all_of_each_channel_or_is_told(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        tell_story(seed, false);
}

static void so_it_is_with_allocations_failing(void **state)
{
    (void)state;
    for (uint64_t seed = 101; seed <= 108; seed++)
        tell_story(seed, true);
}

/* --- one by one --- */

static struct watcher *watch(struct story *st, size_t k, unsigned channels)
{
    struct watcher *w = &st->watchers[k];
    come(st, w, channels);
    GW_UNTIL(&st->gw, w->started || is_gone(w));
    return w;
}

/* Come, be cut, come back and read on, with the i-th allocation failing. True: none failed. */
static bool come_back_without(int64_t i)
{
    struct story st;
    open_story(&st, 1);
    tl_alloc_fail(i, 1);
    struct watcher *w = watch(&st, 0, 7);
    for (size_t k = 0; k < 9; k++)
        say(&st, k % 3, 20);
    for (int turns = 0; turns < 10; turns++)
        gw_turn(&st.gw, 0);
    go(&st, w);
    say(&st, 1, 20);
    if (!w->resumes)
        forget(w);
    come(&st, w, 7);
    for (int turns = 0; turns < 30 && !has_all(w); turns++)
        gw_turn(&st.gw, 1);
    uint64_t asked = tl_alloc_fail(0, 0);
    bool harmless = asked <= (uint64_t)i;
    if (harmless)
        assert_true(has_all(w) && w->gaps_n == 0 && !w->dues[0].refused);
    settle(&st);
    close_story(&st);
    return harmless;
}

static void coming_back_with_any_allocation_failing_loses_nothing_untold(void **state)
{
    int64_t i = 0;
    (void)state;
    while (!come_back_without(i))
        i++;
    assert_true(i > 20);
}

/* All that was appended before it goes out in one batch, in the order of the sequence. */
static void a_batch_that_finds_no_memory_comes_later_as_a_whole(void **state)
{
    struct story st;
    (void)state;
    open_story(&st, 1);
    struct watcher *w = watch(&st, 0, 1u << 1 | 1u << 5);
    for (size_t k = 0; k < 60; k++) {
        if (k % 7 == 0)
            tl_alloc_fail(0, -1);
        if (k % 7 == 3) {
            gw_turn(&st.gw, 0);
            tl_alloc_fail(0, 0);
        }
        say(&st, k * k % 5 < 2 ? 1 : 5, 10);
    }
    tl_alloc_fail(0, 0);
    GW_UNTIL(&st.gw, w->c->ended || has_all(w));
    assert_int_equal(w->gaps_n, 0);
    close_story(&st);
}

static void a_channel_that_the_broker_refuses_later_leaves_the_others(void **state)
{
    struct story st;
    (void)state;
    open_story(&st, 1);
    struct watcher *w = watch(&st, 0, 3);
    const struct tl_broker *broker = st.gw.broker;
    broker->events->on_link(broker->hub, TL_SOURCE_CHANNEL, false, "the test says so");
    broker->events->on_subscribed(broker->hub, TL_SOURCE_CHANNEL, TL_LIT("c1"), TL_BROKER_DENIED,
                                  "the test says so");
    broker->events->on_link(broker->hub, TL_SOURCE_CHANNEL, true, "the test says so");
    GW_UNTIL(&st.gw, w->dues[1].refused);
    GW_UNTIL(&st.gw, w->dues[0].gap);
    say(&st, 0, 5);
    GW_UNTIL(&st.gw, w->dues[0].next == 1);
    assert_false(w->c->ended);
    close_story(&st);
}

/* Until the socket of the only client is full. */
static void fill(struct story *st, struct watcher *w)
{
    const struct tl_worker *worker = gw_worker(&st->gw, 0);
    const struct tl_session *s = TL_CONTAINER(worker->sessions.next, struct tl_session, node);
    uint64_t off;
    w->c->deaf = true;
    do {
        say(st, 1, 200000);
        off = s->sub.off;
        for (int turns = 0; turns < 20; turns++)
            gw_turn(&st->gw, 1);
    } while (!s->sending || s->sub.off != off);
}

/* Or who is cut between the two has an id that says it had what it was not told to miss. */
static void a_gap_is_told_before_what_came_behind_it_on_other_channels(void **state)
{
    struct story st;
    (void)state;
    open_story(&st, 1);
    struct watcher *w = watch(&st, 0, 1u << 1 | 1u << GAP);
    fill(&st, w);
    uint64_t filled = st.published[1];
    say(&st, GAP, 10); /* is dropped for the last of those below */
    say(&st, 1, 10);
    for (int i = 0; i < 8; i++)
        say(&st, GAP, 10);
    gw_turn(&st.gw, 0);
    w->c->deaf = false;
    GW_UNTIL(&st.gw, has_all(w));
    assert_int_equal(w->gaps_n, 1);
    assert_true(w->before_gap_n <= filled);
    close_story(&st);
}

static int confirm_nothing(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    (void)b;
    (void)kind;
    (void)name;
    return 0;
}

static void an_id_of_before_a_channel_was_confirmed_proves_nothing_of_it(void **state)
{
    struct story st;
    (void)state;
    open_story(&st, 1);
    struct watcher *w = watch(&st, 0, 1u << 1), *first = &st.watchers[1];
    struct tl_broker *broker = st.gw.broker;
    struct tl_broker_ops ops = *broker->ops;
    const struct tl_broker_ops *real = broker->ops;
    ops.subscribe = confirm_nothing;
    broker->ops = &ops;
    come(&st, first, 1u << 5);
    GW_UNTIL(&st.gw, tl_metric_get(TL_M_CHANNELS) == 2);
    say(&st, 1, 10);
    GW_UNTIL(&st.gw, has_all(w));
    say(&st, 5, 10); /* nobody gets that */
    broker->events->on_subscribed(broker->hub, TL_SOURCE_CHANNEL, TL_LIT("c5"), TL_BROKER_OK, "");
    GW_UNTIL(&st.gw, first->started);
    broker->ops = real;
    go(&st, w);
    come(&st, w, 1u << 1 | 1u << 5);
    GW_UNTIL(&st.gw, w->started);
    assert_int_equal(w->gaps_n, 1);
    assert_true(w->dues[5].gap && !w->dues[1].gap);
    close_story(&st);
}

static void a_gap_does_not_wait_for_the_rate_of_its_channel(void **state)
{
    struct story st;
    (void)state;
    open_story(&st, 1);
    st.rules[RATE].interval_ms = (uint64_t)10 * DEADLINE_MS;
    struct watcher *w = watch(&st, 0, 1u << 1 | 1u << RATE);
    say(&st, RATE, 10);
    GW_UNTIL(&st.gw, has_all(w));
    drop(&st, RATE);
    say(&st, 1, 10);
    GW_UNTIL(&st.gw, w->dues[1].next == 1);
    assert_int_equal(w->gaps_n, 1);
    assert_int_equal(w->before_gap_n, 1);
    close_story(&st);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_has_all_of_each_channel_or_is_told),
        cmocka_unit_test(so_it_is_with_allocations_failing),
        cmocka_unit_test(coming_back_with_any_allocation_failing_loses_nothing_untold),
        cmocka_unit_test(a_batch_that_finds_no_memory_comes_later_as_a_whole),
        cmocka_unit_test(a_channel_that_the_broker_refuses_later_leaves_the_others),
        cmocka_unit_test(a_gap_is_told_before_what_came_behind_it_on_other_channels),
        cmocka_unit_test(an_id_of_before_a_channel_was_confirmed_proves_nothing_of_it),
        cmocka_unit_test(a_gap_does_not_wait_for_the_rate_of_its_channel),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
