#include "redis.h"

#include "base/glob.h"
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNS_MAX 8
#define NAMES_MAX 64
#define WORDS_MAX 600

struct told {
    enum tl_source_kind kind;
    uint32_t message;
};

struct conn {
    struct net_sock *sock; /* NULL: free */
    bool was_subscriber;
    unsigned names_n;
    struct {
        enum tl_source_kind kind;
        uint8_t n, bytes[32];
    } names[NAMES_MAX];
    struct told *told; /* [told_at, told_n): not arrived yet */
    size_t told_at, told_n, told_cap;
};

static struct conn conns[CONNS_MAX];
static uint64_t down_until_ms, hang_until_ms;

static struct tl_bytes name_of(const struct conn *c, unsigned i)
{
    return tl_bytes(c->names[i].bytes, c->names[i].n);
}

static void conn_free(struct conn *c)
{
    net_release(c->sock);
    free(c->told);
    *c = (struct conn){0};
}

static int on_connect(struct net_sock *k)
{
    if (sim.now_ms < down_until_ms)
        return -ECONNREFUSED;
    if (sim.now_ms < hang_until_ms)
        return 1;
    if (!k)
        return 0;
    for (int i = 0; i < CONNS_MAX; i++) {
        if (conns[i].sock)
            continue;
        conns[i].sock = k;
        k->owner = &conns[i];
        sim_trace("redis: connection %d", i);
        return 0;
    }
    return -ECONNREFUSED;
}

void redis_start(void)
{
    down_until_ms = hang_until_ms = 0;
    net_on_connect = on_connect;
}

void redis_end(void)
{
    for (int i = 0; i < CONNS_MAX; i++)
        if (conns[i].sock)
            conn_free(&conns[i]);
}

/* --- answers --- */

static void add_text(struct conn *c, const char *text)
{
    sim_pipe_add(&c->sock->to_gw, tl_bytes_str(text));
}

static void add_bulk(struct conn *c, struct tl_bytes bytes)
{
    char head[32];
    snprintf(head, sizeof head, "$%zu\r\n", bytes.n);
    add_text(c, head);
    sim_pipe_add(&c->sock->to_gw, bytes);
    add_text(c, "\r\n");
}

static void tell(struct conn *c, enum tl_source_kind kind, struct tl_bytes source,
                 struct tl_bytes name, struct tl_bytes payload)
{
    if (c->told_n == c->told_cap) {
        c->told_cap = c->told_cap * 2 + 64;
        c->told = realloc(c->told, c->told_cap * sizeof *c->told);
        if (!c->told)
            abort();
    }
    c->told[c->told_n++] = (struct told){kind, model_message_of(payload)};
    add_text(c, kind == TL_SOURCE_PATTERN ? "*4\r\n$8\r\npmessage\r\n" : "*3\r\n$7\r\nmessage\r\n");
    add_bulk(c, source);
    if (kind == TL_SOURCE_PATTERN)
        add_bulk(c, name);
    add_bulk(c, payload);
}

static unsigned publish(struct tl_bytes name, struct tl_bytes payload)
{
    unsigned n = 0;
    for (struct conn *c = conns; c < conns + CONNS_MAX; c++) {
        for (unsigned i = 0; c->sock && i < c->names_n; i++) {
            struct tl_bytes source = name_of(c, i);
            if (c->names[i].kind == TL_SOURCE_PATTERN ? !tl_glob_match(source, name)
                                                      : !tl_bytes_eq(source, name))
                continue;
            tell(c, c->names[i].kind, source, name, payload);
            n++;
        }
    }
    return n;
}

void redis_publish(struct tl_bytes name, struct tl_bytes payload)
{
    publish(name, payload);
}

/* --- commands --- */

static int find_name(const struct conn *c, enum tl_source_kind kind, struct tl_bytes name)
{
    for (unsigned i = 0; i < c->names_n; i++)
        if (c->names[i].kind == kind && tl_bytes_eq(name_of(c, i), name))
            return (int)i;
    return -1;
}

static void confirm(struct conn *c, const char *word, struct tl_bytes name)
{
    char count[32];
    add_text(c, "*3\r\n");
    add_bulk(c, tl_bytes_str(word));
    add_bulk(c, name);
    snprintf(count, sizeof count, ":%u\r\n", c->names_n);
    add_text(c, count);
}

static void subscribe(struct conn *c, enum tl_source_kind kind, struct tl_bytes name)
{
    if (redis_subscribers(kind, name) > 0)
        sim_fail("R7: '%.*s' is subscribed twice", (int)name.n, (const char *)name.p);
    if (c->names_n == NAMES_MAX || name.n > sizeof c->names[0].bytes)
        sim_fail("a name that nobody asked for");
    c->names[c->names_n].kind = kind;
    c->names[c->names_n].n = (uint8_t)name.n;
    memcpy(c->names[c->names_n++].bytes, name.p, name.n);
    c->was_subscriber = true;
    confirm(c, kind == TL_SOURCE_PATTERN ? "psubscribe" : "subscribe", name);
}

static void unsubscribe(struct conn *c, enum tl_source_kind kind, struct tl_bytes name)
{
    int i = find_name(c, kind, name);
    if (i < 0)
        sim_fail("'%.*s' is unsubscribed, and was not subscribed", (int)name.n,
                 (const char *)name.p);
    c->names[i] = c->names[--c->names_n];
    confirm(c, kind == TL_SOURCE_PATTERN ? "punsubscribe" : "unsubscribe", name);
}

static void answer(struct conn *c, const struct tl_bytes *words, unsigned n)
{
    char count[32];
    sim_trace("redis: %.*s %.*s%s", (int)words[0].n, (const char *)words[0].p,
              n > 1 ? (int)(words[1].n < 30 ? words[1].n : 30) : 0,
              n > 1 ? (const char *)words[1].p : "", n > 2 ? " ..." : "");
    if (tl_bytes_ieq(words[0], TL_LIT("CLIENT")))
        add_text(c, "+OK\r\n");
    else if (tl_bytes_ieq(words[0], TL_LIT("PING")))
        add_text(c, c->names_n > 0 ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n" : "+PONG\r\n");
    else if (tl_bytes_ieq(words[0], TL_LIT("INFO")))
        add_text(c, "$13\r\nrole:master\r\n\r\n");
    else if (tl_bytes_ieq(words[0], TL_LIT("PUBLISH")) && n == 3) {
        model_was_published(model_message_of(words[2]));
        snprintf(count, sizeof count, ":%u\r\n", publish(words[1], words[2]));
        add_text(c, count);
    } else {
        bool is_pattern = tl_bytes_ieq(words[0], TL_LIT("PSUBSCRIBE")) ||
                          tl_bytes_ieq(words[0], TL_LIT("PUNSUBSCRIBE"));
        enum tl_source_kind kind = is_pattern ? TL_SOURCE_PATTERN : TL_SOURCE_CHANNEL;
        struct tl_bytes verb = is_pattern ? tl_bytes_skip(words[0], 1) : words[0];
        bool on = tl_bytes_ieq(verb, TL_LIT("SUBSCRIBE"));
        if (!on && !tl_bytes_ieq(verb, TL_LIT("UNSUBSCRIBE")))
            sim_fail("R18: Redis is asked to %.*s", (int)words[0].n, (const char *)words[0].p);
        for (unsigned i = 1; i < n; i++)
            (on ? subscribe : unsubscribe)(c, kind, words[i]);
    }
}

/* A line's number behind its type; 0: the line is not whole. */
static size_t read_number(struct tl_bytes in, char type, size_t *ret_number)
{
    const uint8_t *end = in.n > 0 ? memchr(in.p, '\n', in.n) : NULL;
    if (!end)
        return 0;
    if (in.p[0] != (uint8_t)type)
        sim_fail("Redis is sent what is no command");
    *ret_number = (size_t)strtoul((const char *)in.p + 1, NULL, 10);
    return (size_t)(end - in.p) + 1;
}

/* The first command, if it has come whole; its size. */
static size_t read_command(struct tl_bytes in, struct tl_bytes *words, unsigned *ret_n)
{
    size_t n = 0, at = read_number(in, '*', &n);
    if (at == 0)
        return 0;
    if (n == 0 || n > WORDS_MAX)
        sim_fail("Redis is sent a command of %zu words", n);
    for (unsigned i = 0; i < n; i++) {
        size_t bytes_n = 0, line_n = read_number(tl_bytes_skip(in, at), '$', &bytes_n);
        if (line_n == 0 || in.n - at - line_n < bytes_n + 2)
            return 0;
        words[i] = tl_bytes(in.p + at + line_n, bytes_n);
        at += line_n + bytes_n + 2;
    }
    *ret_n = (unsigned)n;
    return at;
}

static bool conn_work(struct conn *c)
{
    struct tl_bytes words[WORDS_MAX];
    unsigned n;
    size_t used;
    bool any = false;
    while ((used = read_command(sim_pipe_bytes(&c->sock->from_gw), words, &n)) > 0) {
        answer(c, words, n);
        sim_pipe_drop(&c->sock->from_gw, used);
        any = true;
        if (!sim.calm && sim_chance(30))
            break;
    }
    return any;
}

bool redis_work(void)
{
    bool any = false, hangs = sim.now_ms < hang_until_ms;
    for (struct conn *c = conns; c < conns + CONNS_MAX; c++) {
        if (!c->sock)
            continue;
        any = (!hangs && conn_work(c)) || any;
        if (!c->sock->gw_closed)
            continue;
        conn_free(c);
        any = true;
    }
    return any;
}

/* --- trouble --- */

void redis_drop(bool only_subscribers)
{
    for (struct conn *c = conns; c < conns + CONNS_MAX; c++) {
        if (!c->sock || (only_subscribers && !c->was_subscriber))
            continue;
        sim_trace("redis: drops connection %d", (int)(c - conns));
        if (sim_chance(50))
            net_peer_reset(c->sock);
        conn_free(c);
    }
}

void redis_down_until(uint64_t ms)
{
    redis_drop(false);
    down_until_ms = ms;
}

void redis_hang_until(uint64_t ms)
{
    hang_until_ms = ms;
}

bool redis_is_well(void)
{
    return sim.now_ms >= down_until_ms && sim.now_ms >= hang_until_ms;
}

/* --- what it knows --- */

unsigned redis_subscribers(enum tl_source_kind kind, struct tl_bytes name)
{
    unsigned n = 0;
    for (const struct conn *c = conns; c < conns + CONNS_MAX; c++)
        /* The kernel has told Redis of a connection's end before a new one can subscribe. */
        n += c->sock && !c->sock->gw_closed && find_name(c, kind, name) >= 0;
    return n;
}

void redis_check_arrival(enum tl_source_kind kind, uint32_t message)
{
    for (struct conn *c = conns; c < conns + CONNS_MAX; c++) {
        if (!c->sock || c->sock->gw_closed || !c->was_subscriber)
            continue;
        if (c->told_at == c->told_n)
            sim_fail("message %u arrived, and Redis did not tell it", message);
        const struct told *told = &c->told[c->told_at++];
        if (told->kind != kind || told->message != message)
            sim_fail("message %u arrived instead of %u", message, told->message);
        return;
    }
    /* Of a connection that Redis has dropped meanwhile. */
}

bool redis_is_drained(void)
{
    for (const struct conn *c = conns; c < conns + CONNS_MAX; c++)
        if (c->sock && c->told_at < c->told_n)
            return false;
    return true;
}
