#include "bench/swarm_client.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/random.h"
#include "bench/storm.h"
#include "proto/ws.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

void tl_swarm_key(struct tl_swarm *s, const struct tl_receiver_handler *handler)
{
    uint64_t random[2] = {tl_random_u64(), tl_random_u64()};
    tl_base64_encode(tl_bytes(random, sizeof random), (uint8_t *)s->key);
    s->rules.kind = s->plan->kind;
    s->rules.handler = handler;
    tl_ws_accept(tl_bytes(s->key, 24), s->rules.accept);
}

static void name_of(const struct tl_swarm_client *c, char name[300])
{
    snprintf(name, 300, "%.255s%u", c->swarm->plan->prefix, c->channel);
}

static void connect_failed(struct tl_swarm_client *c, int error)
{
    char why[200];
    const char *hint = "";
    if (error == EADDRNOTAVAIL)
        hint = "; no port is left: more --source addresses";
    else if (error == EMFILE || error == ENFILE)
        hint = "; more --processes, or a higher ulimit -n";
    else if (error == ECONNREFUSED)
        hint = "; is it running there?";
    /* What one cannot get, the next cannot either. */
    c->swarm->gave_up |= error == EADDRNOTAVAIL || error == EMFILE || error == ENFILE;
    snprintf(why, sizeof why, "cannot be connected to: %s%s", strerror(error), hint);
    tl_swarm_client_failed(c, why);
}

/* From the source address whose turn it is. 0 or -errno. */
static int bind_source(const struct tl_swarm_client *c)
{
    const struct tl_swarm_plan *plan = c->swarm->plan;
    int on = 1;
    if (plan->sources_n == 0)
        return 0;
    const struct sockaddr_storage *source = &plan->sources[c->index % plan->sources_n];
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    socklen_t n =
        source->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    return bind(c->fd, (const struct sockaddr *)source, n) < 0 ? -errno : 0;
}

void tl_swarm_client_connect(struct tl_swarm_client *c)
{
    struct tl_swarm *s = c->swarm;
    const struct tl_swarm_plan *plan = s->plan;
    int on = 1, rc = 0;
    c->started_ns = tl_clock_ns();
    c->state = TL_CLIENT_CONNECTING;
    s->connecting++;
    c->fd = socket(plan->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        connect_failed(c, errno);
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    rc = bind_source(c);
    if (rc == 0 && connect(c->fd, (const struct sockaddr *)&plan->target, plan->target_n) < 0 &&
        errno != EINPROGRESS)
        rc = -errno;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    if (rc == 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
        rc = -errno;
    if (rc < 0)
        connect_failed(c, -rc);
}

static void write_request(const struct tl_swarm_client *c, struct tl_buf *out)
{
    const struct tl_swarm *s = c->swarm;
    char name[300];
    name_of(c, name);
    out->n = 0;
    tl_buf_str(out, "GET ");
    tl_swarm_expand(out, s->plan->path, name, true);
    tl_storm_write_query(c, out);
    tl_buf_printf(out, " HTTP/1.1\r\nHost: %s\r\n", s->plan->host);
    if (s->plan->kind == TL_RECEIVER_WEBSOCKET)
        tl_buf_printf(out,
                      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: %s\r\n",
                      s->key);
    else
        tl_buf_str(out, "Accept: text/event-stream\r\n");
    tl_storm_write_header(c, out);
    tl_buf_str(out, s->plan->headers);
    tl_buf_str(out, "\r\n");
}

/* The socket's buffer is empty, so that all of it goes; a server that takes nothing has failed. */
static void send_all(struct tl_swarm_client *c, struct tl_bytes bytes)
{
    ssize_t n = send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
    if (n != (ssize_t)bytes.n)
        tl_swarm_client_failed(c, "takes no input");
}

void tl_swarm_client_ask(struct tl_swarm_client *c)
{
    struct tl_swarm *s = c->swarm;
    int error = 0;
    socklen_t n = sizeof error;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        error = errno;
    if (error == 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0)
        error = errno;
    write_request(c, &s->scratch);
    if (s->scratch.failed)
        error = ENOMEM;
    if (error) {
        connect_failed(c, error);
        return;
    }
    c->state = TL_CLIENT_ASKED;
    tl_receiver_init(&c->receiver, &s->rules);
    send_all(c, tl_buf_bytes(&s->scratch));
}

static void send_frame(struct tl_swarm_client *c, enum tl_ws_opcode opcode, struct tl_bytes payload)
{
    static const uint8_t key[4] = {0x17, 0x2b, 0x5d, 0xe3};
    struct tl_buf *out = &c->swarm->scratch;
    uint8_t header[TL_WS_MASKED_HEADER_MAX];
    out->n = 0;
    tl_buf_append(out, tl_bytes(header, tl_ws_masked_header(header, opcode, payload.n, key)));
    size_t header_n = out->n;
    tl_buf_append(out, payload);
    if (out->failed) {
        tl_swarm_client_failed(c, "cannot be answered: out of memory");
        return;
    }
    tl_ws_mask(out->p + header_n, payload.n, key, 0);
    send_all(c, tl_buf_bytes(out));
}

void tl_swarm_client_ready(struct tl_swarm_client *c)
{
    struct tl_swarm *s = c->swarm;
    c->state = TL_CLIENT_READY;
    s->connecting--;
    if (c->was_ready) {
        tl_storm_on_returned(c);
        return;
    }
    c->was_ready = true;
    s->tally->ready++;
    tl_histogram_add(&s->tally->handshake, tl_clock_ns() - c->started_ns);
    tl_flight_subscribers(s->plan->flight, c->channel, 1);
}

void tl_swarm_client_on_accepted(struct tl_receiver *r)
{
    struct tl_swarm_client *c = TL_CONTAINER(r, struct tl_swarm_client, receiver);
    const struct tl_swarm_plan *plan = c->swarm->plan;
    char name[300];
    name_of(c, name);
    for (size_t i = 0; i < plan->messages_n && c->state == TL_CLIENT_ASKED; i++) {
        struct tl_buf message = {0};
        tl_swarm_expand(&message, plan->messages[i], name, false);
        send_frame(c, TL_WS_TEXT, tl_buf_bytes(&message));
        tl_buf_deinit(&message);
    }
    if (c->state == TL_CLIENT_ASKED && !*plan->ready_text)
        tl_swarm_client_ready(c);
}

void tl_swarm_client_on_ping(struct tl_receiver *r, struct tl_bytes payload)
{
    struct tl_swarm_client *c = TL_CONTAINER(r, struct tl_swarm_client, receiver);
    c->swarm->tally->pings++;
    if (c->state != TL_CLIENT_GONE)
        send_frame(c, TL_WS_PONG, payload);
}

void tl_swarm_client_on_close(struct tl_receiver *r, uint16_t code)
{
    struct tl_swarm_client *c = TL_CONTAINER(r, struct tl_swarm_client, receiver);
    char why[80];
    c->swarm->tally->gaps_told += code == TL_WS_CLOSE_GAP;
    snprintf(why, sizeof why, "closed with code %u", code);
    tl_swarm_client_failed(c, why);
}
