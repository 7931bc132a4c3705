#include "gateway_scenario.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_N  10
#define SECOND_N 15
#define ALL_N    20
#define PATIENCE                                                                                   \
    40 /* turns of up to 1 ms while something fails: what cannot go on is left alone               \
        */

/* In clean runs the condition must come true. */
#define AWAIT(sc, cond)                                                                            \
    do {                                                                                           \
        if ((sc)->fault)                                                                           \
            for (int turns_ = 0; turns_ < PATIENCE && !(cond); turns_++)                           \
                gw_turn((sc)->gw, 1);                                                              \
        else                                                                                       \
            GW_UNTIL((sc)->gw, cond);                                                              \
    } while (0)

static bool is_live(const struct client *c)
{
    return c && c->subscribed && !c->ended && c->close_code == 0;
}

static bool all_settled(const struct gw *gw)
{
    for (const struct client *c = gw->clients; c; c = c->next)
        if (c->kind != CLIENT_HTTP && !client_is_settled(c))
            return false;
    return true;
}

static bool all_caught_up(const struct gw *gw)
{
    for (const struct client *c = gw->clients; c; c = c->next)
        if (is_live(c) && c->feed && c->at < c->feed->n)
            return false;
    return true;
}

/* --- messages --- */

static void fill(struct bag *payload, size_t i, size_t n)
{
    if (n == 0) {
        bag_add(payload, tl_bytes(NULL, 0));
        return;
    }
    bag_text(payload, "m%zu:", i);
    while (payload->n < n)
        bag_add(payload, TL_LIT("x"));
}

static void make_message(const struct scenario *sc, size_t i, struct bag *payload)
{
    static const size_t sizes[] = {9, 0, 125, 126, 40, 17, 5, 300, 8};
    switch (i % 10) {
    case 3:
        fill(payload, i, 20);
        bag_add(payload, TL_LIT("\xff\xfe not utf-8 \x80"));
        break;
    case 6:
        fill(payload, i, 10);
        bag_add(payload, TL_LIT("\r\nevent: gap\r\ndata: mine\n\n"));
        break;
    case 9:
        fill(payload, i, sc->big_n);
        break;
    default:
        /* Only one is empty: two could not be told apart. */
        fill(payload, i, sizes[i % 10] == 0 && i > 10 ? 11 : sizes[i % 10]);
        break;
    }
}

static struct message *add_message(struct scenario *sc)
{
    assert_true(sc->feed.n < MESSAGES_MAX);
    struct message *m = &sc->feed.messages[sc->feed.n];
    *m = (struct message){0};
    make_message(sc, sc->feed.n++, &m->payload);
    return m;
}

static struct client *publisher(struct scenario *sc)
{
    if (sc->publisher && sc->publisher->ended) {
        client_free(sc->publisher);
        sc->publisher = NULL;
    }
    if (!sc->publisher)
        sc->publisher = client_open(sc->gw, CLIENT_HTTP);
    return sc->publisher;
}

static void publish(struct scenario *sc)
{
    struct message *m = add_message(sc);
    struct client *c = publisher(sc);
    unsigned before = c->responses_n;
    client_ask_publish(c, "/pub/news", tl_bytes(m->payload.p, m->payload.n));
    AWAIT(sc, c->responses_n > before || c->ended);
    if (c->responses_n == before) {
        client_end(c, true); /* nobody knows */
        return;
    }
    assert_true(c->status == 200 || (sc->fault && c->status == 503));
    m->sure = c->status == 200;
    m->refused = !m->sure;
    if (m->sure)
        AWAIT(sc, all_caught_up(sc->gw));
}

static void publish_until(struct scenario *sc, size_t n)
{
    while (sc->feed.n < n)
        publish(sc);
}

/* --- clients --- */

/* What was promised before it came is not for it. */
static void follow(struct scenario *sc, struct client *c)
{
    c->feed = &sc->feed;
    c->at = sc->feed.n;
    while (c->at > 0 && !sc->feed.messages[c->at - 1].sure)
        c->at--;
}

static struct client *watch(struct scenario *sc, enum client_kind kind, const char *path)
{
    struct client *c = client_open(sc->gw, kind);
    follow(sc, c);
    if (kind == CLIENT_WS)
        client_ask_ws(c, path);
    else
        client_ask_sse(c, path, NULL);
    return c;
}

static void everybody_comes(struct scenario *sc)
{
    sc->ws[0] = watch(sc, CLIENT_WS, "/ws/news");
    sc->sse[0] = watch(sc, CLIENT_SSE, "/sse/news");
    AWAIT(sc, all_settled(sc->gw));
    sc->ws[1] = watch(sc, CLIENT_WS, "/ws/news");
    sc->sse[1] = watch(sc, CLIENT_SSE, "/sse/news");
    sc->duplex = watch(sc, CLIENT_WS, "/chat/news");
    sc->all = watch(sc, CLIENT_SSE, "/sse/all");
    AWAIT(sc, all_settled(sc->gw));
}

/* A message in two fragments with a ping between them. */
static void somebody_talks(struct scenario *sc)
{
    struct client *c = sc->duplex;
    if (!is_live(c))
        return;
    struct message *m = add_message(sc);
    struct tl_bytes payload = tl_bytes(m->payload.p, m->payload.n);
    struct bag out = {0};
    bag_frame(&out, false, TL_WS_TEXT, tl_bytes(payload.p, 1));
    bag_frame(&out, true, TL_WS_PING, TL_LIT("are you there"));
    bag_frame(&out, true, TL_WS_CONTINUATION, tl_bytes_skip(payload, 1));
    client_send_bag(c, &out);
    AWAIT(sc, c->ended || (c->pongs_n > 0 && all_caught_up(sc->gw)));
}

static void some_leave(struct scenario *sc)
{
    struct client *c = sc->ws[0];
    if (is_live(c)) {
        struct bag out = {0};
        bag_frame(&out, true, TL_WS_CLOSE, TL_LIT("\x03\xe8 bye"));
        client_send_bag(c, &out);
        AWAIT(sc, c->ended);
    }
    client_end(sc->ws[1], true);
    client_end(sc->sse[0], false);
}

static void one_comes_back(struct scenario *sc)
{
    const struct client *before = sc->sse[0];
    struct client *c = client_open(sc->gw, CLIENT_SSE);
    sc->sse[2] = c;
    follow(sc, c);
    c->resumes = before->last_id[0] != 0;
    if (c->resumes)
        c->at = before->at;
    client_ask_sse(c, "/sse/news", before->last_id[0] ? before->last_id : NULL);
    AWAIT(sc, all_settled(sc->gw) && all_caught_up(sc->gw));
}

static bool has_all(const struct scenario *sc, const struct client *c)
{
    return c->subscribed && !c->ended && c->at == sc->feed.n && c->gaps_n == 0 && c->downs_n == 0;
}

static bool is_complete(const struct scenario *sc)
{
    for (size_t i = 0; i < sc->feed.n; i++)
        if (sc->feed.messages[i].refused)
            return false;
    return sc->ws[0]->close_code == TL_WS_CLOSE_NORMAL && sc->ws[1]->at >= FIRST_N &&
           sc->duplex->pongs_n == 1 && has_all(sc, sc->duplex) && has_all(sc, sc->sse[1]) &&
           has_all(sc, sc->sse[2]) && has_all(sc, sc->all);
}

/* A newcomer that is served; at most once it may meet what was refused before and is not told yet.
 */
static struct client *newcomer(struct scenario *sc, enum client_kind kind, const char *path)
{
    struct client *c = watch(sc, kind, path);
    GW_UNTIL(sc->gw, client_is_settled(c));
    if (is_live(c) || !sc->fault)
        return c;
    client_end(c, false);
    /* Turns as well as time: on a slow machine the time may be over after one of them. */
    uint64_t end_ms = tl_clock_ms() + 30;
    for (int turns = 0; turns < 100 || tl_clock_ms() < end_ms; turns++)
        gw_turn(sc->gw, 1);
    c = watch(sc, kind, path);
    GW_UNTIL(sc->gw, client_is_settled(c));
    return c;
}

/* Who was there before may have been hurt; it is told, or has everything. Newcomers are served. */
static void all_is_well(struct scenario *sc)
{
    struct client *c = publisher(sc);
    struct client *fresh[] = {
        newcomer(sc, CLIENT_WS, "/ws/news"), newcomer(sc, CLIENT_SSE, "/sse/news"),
        newcomer(sc, CLIENT_WS, "/chat/news"), newcomer(sc, CLIENT_SSE, "/sse/all")};
    for (size_t i = 0; i < 4; i++)
        assert_true(is_live(fresh[i]));
    unsigned before = c->responses_n;
    struct message *m = add_message(sc);
    client_ask_publish(c, "/pub/news", tl_bytes(m->payload.p, m->payload.n));
    GW_UNTIL(sc->gw, c->responses_n > before);
    assert_int_equal(c->status, 200);
    m->sure = true;
    GW_UNTIL(sc->gw, all_caught_up(sc->gw));
    for (size_t i = 0; i < 4; i++) /* a gap of before may be told to them too */
        assert_true(is_live(fresh[i]) && fresh[i]->at == sc->feed.n);
}

void scenario_run(struct scenario *sc, struct gw *gw)
{
    sc->gw = gw;
    if (sc->fault)
        sc->fault(true);
    everybody_comes(sc);
    publish_until(sc, FIRST_N);
    somebody_talks(sc);
    some_leave(sc);
    publish_until(sc, SECOND_N);
    one_comes_back(sc);
    publish_until(sc, ALL_N);
    if (sc->fault)
        sc->fault(false);
    all_is_well(sc);
    sc->complete = is_complete(sc);
    if (!sc->fault)
        assert_true(sc->complete);
    clients_free(gw);
    feed_free(&sc->feed);
}
