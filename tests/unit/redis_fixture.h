/*
 * For the tests of the Redis broker: a scripted Redis on the test's own thread, and a hub that
 * writes down what it is told. hiredis' reader parses the commands, so that the server shares no
 * code with the broker.
 */
#ifndef TESTS_REDIS_FIXTURE_H
#define TESTS_REDIS_FIXTURE_H

#include "loop_fixture.h"

#include "base/alloc.h"
#include "broker/redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

#define PEERS_MAX 8

struct server;

struct peer {
    struct server *server;
    int fd;    /* -1 unused */
    char role; /* 's', 'p', or '?' before CLIENT SETNAME */
    bool deaf; /* reads nothing */
    redisReader *reader;
    struct tl_buf out; /* not yet taken by the socket */
    unsigned subscribed;
};

struct server {
    int listener;
    struct sockaddr_in address;
    struct peer peers[PEERS_MAX];
    struct tl_buf seen; /* commands, one a line, names cut after 40 bytes */
    unsigned accepted;
    unsigned commands;
    bool refuse; /* close what is accepted */
    bool hold;   /* (P)(UN)SUBSCRIBE and PUBLISH get no answer */
    bool mute;   /* nothing does */
    /* True: the command was answered. */
    bool (*script)(struct peer *p, redisReply *command);
    const char *error; /* for scripts */
    unsigned step;     /* for scripts */
};

static void server_say(struct peer *p, struct tl_bytes bytes)
{
    tl_buf_append(&p->out, bytes);
}

static void server_say_str(struct peer *p, const char *s)
{
    server_say(p, tl_bytes_str(s));
}

static void server_drop(struct peer *p)
{
    close(p->fd);
    p->fd = -1;
    redisReaderFree(p->reader);
    tl_buf_deinit(&p->out);
}

static bool is_command(const redisReply *command, const char *name)
{
    return strcasecmp(command->element[0]->str, name) == 0;
}

static void server_confirm(struct peer *p, const redisReply *command)
{
    for (size_t i = 1; i < command->elements; i++) {
        const redisReply *name = command->element[i];
        char verb[16];
        snprintf(verb, sizeof verb, "%s", command->element[0]->str);
        for (char *c = verb; *c; c++)
            *c = (char)tl_ascii_lower((uint8_t)*c);
        if (strstr(verb, "un"))
            p->subscribed--;
        else
            p->subscribed++;
        tl_buf_printf(&p->out, "*3\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(verb), verb,
                      (size_t)name->len);
        tl_buf_append(&p->out, tl_bytes(name->str, (size_t)name->len));
        tl_buf_printf(&p->out, "\r\n:%u\r\n", p->subscribed);
    }
}

static void server_answer(struct peer *p, redisReply *command)
{
    bool is_sub = strstr(command->element[0]->str, "SUBSCRIBE") != NULL;
    if (p->server->mute || (p->server->script && p->server->script(p, command)))
        return;
    if (is_command(command, "PING"))
        server_say_str(p, p->subscribed > 0 ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n" : "+PONG\r\n");
    else if (p->server->hold && (is_sub || is_command(command, "PUBLISH")))
        return;
    else if (is_sub)
        server_confirm(p, command);
    else if (is_command(command, "PUBLISH"))
        server_say_str(p, ":3\r\n");
    else
        server_say_str(p, "+OK\r\n");
}

static void server_take(struct peer *p, redisReply *command)
{
    struct tl_buf *seen = &p->server->seen;
    assert_int_equal(command->type, REDIS_REPLY_ARRAY);
    p->server->commands += !is_command(command, "INFO"); /* which comes by the clock */
    if (is_command(command, "CLIENT") && command->elements > 2) {
        const char *name = command->element[2]->str;
        p->role = name[strlen(name) - 3];
    }
    for (size_t i = 0; i < command->elements; i++) {
        size_t n = (size_t)command->element[i]->len;
        tl_buf_append(seen, tl_bytes(command->element[i]->str, n < 40 ? n : 40));
        tl_buf_byte(seen, i + 1 < command->elements ? ' ' : '\n');
    }
    server_answer(p, command);
}

static void server_read(struct peer *p)
{
    static char bytes[1 << 16];
    void *command;
    ssize_t n = p->deaf ? -1 : recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n == 0) {
        server_drop(p);
        return;
    }
    if (n > 0)
        assert_int_equal(redisReaderFeed(p->reader, bytes, (size_t)n), REDIS_OK);
    while (p->fd >= 0 && redisReaderGetReply(p->reader, &command) == REDIS_OK && command) {
        server_take(p, command);
        freeReplyObject(command);
    }
}

static void server_write(struct peer *p)
{
    if (p->out.n == 0)
        return;
    ssize_t n = send(p->fd, p->out.p, p->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0)
        tl_buf_consume(&p->out, (size_t)n);
}

static void server_accept(struct server *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    s->accepted++;
    for (struct peer *p = s->peers; p < s->peers + PEERS_MAX && !s->refuse; p++)
        if (p->fd < 0) {
            *p = (struct peer){.server = s, .fd = fd, .role = '?', .reader = redisReaderCreate()};
            assert_non_null(p->reader);
            p->reader->maxbuf = 0;
            return;
        }
    assert_true(s->refuse);
    reset_fd(fd);
}

static void server_step(struct server *s)
{
    server_accept(s);
    for (struct peer *p = s->peers; p < s->peers + PEERS_MAX; p++) {
        if (p->fd >= 0)
            server_read(p);
        if (p->fd >= 0)
            server_write(p);
    }
}

static void server_init(struct server *s)
{
    *s = (struct server){.listener = tcp_listen(&s->address)};
    socklen_t n = sizeof s->address;
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&s->address, &n), 0);
    for (int i = 0; i < PEERS_MAX; i++)
        s->peers[i].fd = -1;
}

static void server_deinit(struct server *s)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peers[i].fd >= 0)
            server_drop(&s->peers[i]);
    close(s->listener);
    tl_buf_deinit(&s->seen);
}

/* The peer with that role, which must be there. */
static inline struct peer *server_peer(struct server *s, char role)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peers[i].fd >= 0 && s->peers[i].role == role)
            return &s->peers[i];
    fail_msg("no peer %c", role);
    abort();
}

static inline bool server_saw(struct server *s, const char *text)
{
    tl_buf_byte(&s->seen, 0);
    bool found = strstr((const char *)s->seen.p, text) != NULL;
    s->seen.n--;
    return found;
}

/* The broker under test, its loop and its hub. */
struct setting {
    struct server server;
    struct tl_loop *loop;
    struct tl_broker *broker;
    struct tl_buf told; /* events, one a line */
    unsigned events;
    unsigned ups, downs;
    unsigned confirmed, failed, unsubscribed, messages, dropped;
    uint64_t message_bytes;
    bool ready;  /* as was told last */
    bool inside; /* a call of the interface: no event may come */
    void (*on_event)(struct setting *t);
};

static void event(struct setting *t)
{
    assert_false(t->inside);
    t->events++;
    if (t->on_event)
        t->on_event(t);
}

static void told_name(struct setting *t, const char *what, enum tl_source_kind kind,
                      struct tl_bytes name)
{
    if (t->events > 100)
        return;
    tl_buf_printf(&t->told, "%s %s ", what, kind == TL_SOURCE_PATTERN ? "pattern" : "channel");
    tl_buf_append(&t->told, name);
}

static void on_link(void *hub, enum tl_source_kind kind, bool up, const char *reason)
{
    struct setting *t = hub;
    assert_int_equal(kind, TL_SOURCE_CHANNEL);
    t->ups += up;
    t->downs += !up;
    assert_true(t->ups - t->downs <= 1);
    tl_buf_printf(&t->told, "%s %s\n", up ? "up" : "down", reason);
    event(t);
}

static void on_subscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name,
                          enum tl_broker_status status, const char *reason)
{
    static const char *const words[] = {"ok", "down", "unknown", "denied", "failed", "full"};
    struct setting *t = hub;
    told_name(t, "subscribed", kind, name);
    tl_buf_printf(&t->told, " %s %s\n", words[status], reason);
    t->confirmed += status == TL_BROKER_OK;
    t->failed += status != TL_BROKER_OK;
    event(t);
}

static void on_unsubscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name)
{
    struct setting *t = hub;
    told_name(t, "unsubscribed", kind, name);
    tl_buf_byte(&t->told, '\n');
    t->unsubscribed++;
    event(t);
}

static bool on_message(void *hub, enum tl_source_kind kind, struct tl_bytes source,
                       struct tl_bytes name, struct tl_bytes payload)
{
    struct setting *t = hub;
    told_name(t, "message", kind, source);
    t->messages++;
    t->message_bytes += payload.n;
    tl_buf_byte(&t->told, ' ');
    tl_buf_append(&t->told, name);
    tl_buf_byte(&t->told, ' ');
    tl_buf_append(&t->told, tl_bytes(payload.p, payload.n < 40 ? payload.n : 40));
    tl_buf_byte(&t->told, '\n');
    event(t);
    return true;
}

static void on_dropped(void *hub, enum tl_source_kind kind, struct tl_bytes source)
{
    struct setting *t = hub;
    told_name(t, "dropped", kind, source);
    tl_buf_byte(&t->told, '\n');
    t->dropped++;
    event(t);
}

static void on_readiness(void *hub)
{
    struct setting *t = hub;
    t->ready = t->broker->ops->is_up(t->broker);
}

static const struct tl_broker_events hub_events = {
    .on_link = on_link,
    .on_readiness = on_readiness,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_message = on_message,
    .on_dropped = on_dropped,
};

static inline bool told(struct setting *t, const char *text)
{
    tl_buf_byte(&t->told, 0);
    bool found = strstr((const char *)t->told.p, text) != NULL;
    t->told.n--;
    return found;
}

static inline void turn(struct setting *t)
{
    server_step(&t->server);
    tl_loop_turn(t->loop, 1);
}

#define UNTIL(t, cond)                                                                             \
    for (uint64_t until_end_ms = tl_clock_ms() + DEADLINE_MS; !(cond);) {                          \
        if (tl_clock_ms() >= until_end_ms)                                                         \
            fail_msg("%s\nseen:\n%.*s\ntold:\n%.*s", #cond, (int)(t)->server.seen.n,               \
                     (char *)(t)->server.seen.p, (int)(t)->told.n, (char *)(t)->told.p);           \
        turn(t);                                                                                   \
    }

/* The broker of `options`, its peer and short times filled in where 0. */
static void setting_start(struct setting *t, struct tl_redis_options options)
{
    int error;
    memset(t, 0, sizeof *t);
    tl_sys_restore();
    tl_sys.uring_queue_always = test_engine->queued;
    server_init(&t->server);
    t->loop = tl_loop_new(test_engine->engine, &error);
    assert_non_null(t->loop);
    options.host = "127.0.0.1";
    options.port = ntohs(t->server.address.sin_port);
    options.auth_retry_ms = options.auth_retry_ms ? options.auth_retry_ms : 20;
    t->broker = tl_redis_new(t->loop, &options);
    assert_non_null(t->broker);
    t->broker->events = &hub_events;
    t->broker->hub = t;
}

static inline void setting_up(struct setting *t, struct tl_redis_options options)
{
    setting_start(t, options);
    UNTIL(t, t->broker->ops->is_up(t->broker));
    assert_int_equal(t->ups, 1);
}

static void setting_end(struct setting *t)
{
    unsigned events = t->events;
    t->inside = true;
    t->broker->ops->stop(t->broker);
    tl_loop_turn(t->loop, 0);
    tl_loop_turn(t->loop, 0);
    assert_int_equal(t->events, events);
    t->broker->ops->free(t->broker);
    tl_loop_free(t->loop);
    server_deinit(&t->server);
    tl_buf_deinit(&t->told);
}

static inline void ask(struct setting *t, bool subscribe, enum tl_source_kind kind,
                       const char *name)
{
    t->inside = true;
    if (subscribe)
        t->broker->ops->subscribe(t->broker, kind, tl_bytes_str(name));
    else
        t->broker->ops->unsubscribe(t->broker, kind, tl_bytes_str(name));
    t->inside = false;
}

/* A publish that writes down how it ended. */
struct post {
    struct tl_publish publish;
    struct setting *setting;
    bool ended, while_ready;
};

static void on_posted(struct tl_publish *p)
{
    struct post *post = TL_CONTAINER(p, struct post, publish);
    post->ended = true;
    post->while_ready = post->setting->ready;
}

static inline void post(struct setting *t, struct post *p, const char *name,
                        struct tl_bytes payload)
{
    *p = (struct post){.publish = {.name = tl_bytes_str(name), .payload = payload}, .setting = t};
    p->publish.on_published = on_posted;
    t->inside = true;
    t->broker->ops->publish(t->broker, &p->publish);
    t->inside = false;
    assert_false(p->ended);
}

#endif
