#include "gateway_fixture.h"

#include "base/base64.h"
#include "broker/memory.h"
#include "net/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/hub.h"

/* --- bags --- */

void bag_add(struct bag *bag, struct tl_bytes bytes)
{
    if (bag->n + bytes.n + 1 > bag->cap) {
        bag->cap = (bag->n + bytes.n + 1) * 2;
        bag->p = realloc(bag->p, bag->cap);
        assert_non_null(bag->p);
    }
    if (bytes.n > 0)
        memcpy(bag->p + bag->n, bytes.p, bytes.n);
    bag->n += bytes.n;
    bag->p[bag->n] = 0;
}

void bag_text(struct bag *bag, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof text);
    bag_add(bag, tl_bytes(text, (size_t)n));
}

void bag_frame(struct bag *bag, bool fin, enum tl_ws_opcode opcode, struct tl_bytes payload)
{
    static const uint8_t key[4] = {0x5a, 0x01, 0xc3, 0x7e};
    uint8_t header[TL_WS_MASKED_HEADER_MAX];
    size_t n = tl_ws_masked_header(header, opcode, payload.n, key);
    if (!fin)
        header[0] &= 0x7f;
    bag_add(bag, tl_bytes(header, n));
    size_t at = bag->n;
    bag_add(bag, payload);
    tl_ws_mask(bag->p + at, payload.n, key, 0);
}

static void bag_drop(struct bag *bag, size_t n)
{
    memmove(bag->p, bag->p + n, bag->n - n);
    bag->n -= n;
}

void bag_free(struct bag *bag)
{
    free(bag->p);
    *bag = (struct bag){0};
}

void feed_free(struct feed *feed)
{
    for (size_t i = 0; i < feed->n; i++)
        bag_free(&feed->messages[i].payload);
    feed->n = 0;
}

/* --- the gateway --- */

void gw_config(struct tl_config *config)
{
    static const struct tl_pattern pattern = {.name = {(const uint8_t *)"all", 3},
                                              .glob = {(const uint8_t *)"news*", 5}};
    *config = (struct tl_config){
        .standard.log = {1000, 1u << 20, 600000},
        .logs_bytes_max = 4u << 20,
        .retired_bytes_max = 1u << 20,
        .linger_ms = 1,
        .history_ttl_ms = 1,
        .subscribe_timeout_ms = DEADLINE_MS,
        .handshake_timeout_ms = DEADLINE_MS,
        .stall_timeout_ms = DEADLINE_MS,
        .ping_ms = 10 * DEADLINE_MS,
        .drain_ms = 1,
        .message_bytes_max = 1u << 20,
        .inbound_bytes_max = 4096,
        .head_bytes_max = 4096,
        .session_channels_max = 100,
        .inbound_rate_max = 1000000,
        .connections_max = 100,
        .channels_max = 100,
        .patterns = &pattern,
        .patterns_n = 1,
    };
}

/* A port for each worker, so that a test can choose who serves a client. */
static int listen_at(struct gw *gw)
{
    struct tl_address address;
    const char *hint = "";
    int r = 0;
    assert_int_equal(tl_address_parse(TL_LIT("127.0.0.1:0"), &address), 0);
    for (unsigned i = 0; i < gw->workers_n && r == 0; i++) {
        int fd;
        r = tl_listener_open_all(&address, &fd, 1, &hint);
        if (r < 0)
            return r;
        gw->ports[i] = (uint16_t)tl_listener_port(fd);
        r = tl_worker_listen(tl_hub_worker(gw->broker->hub, i), fd, true);
        if (r < 0)
            close(fd);
    }
    gw->port = gw->ports[0];
    return r;
}

const struct test_engine *gw_engine = test_engines;

int gw_try_open(struct gw *gw)
{
    const char *error = "";
    size_t at = 0;
    gw->gateway = NULL;
    gw->workers_n = gw->workers_n > 0 ? gw->workers_n : 1;
    assert_true(gw->workers_n <= GW_WORKERS_MAX);
    tl_sys.uring_queue_always = gw_engine->queued;
    int r = tl_routes_init(&gw->routes, NULL, 0, &error, &at);
    if (r < 0)
        return r;
    r = tl_gateway_new(&gw->gateway, &gw->config, &gw->routes, gw->workers_n, gw_engine->engine);
    if (r == 0) {
        gw->loop = tl_gateway_loop(gw->gateway);
        gw->broker = tl_memory_new(gw->loop);
        r = gw->broker ? tl_gateway_set_broker(gw->gateway, gw->broker) : -ENOMEM;
    }
    if (r == 0)
        r = listen_at(gw);
    if (r < 0)
        gw_free(gw);
    return r;
}

void gw_open(struct gw *gw)
{
    gw_config(&gw->config);
    gw_open_as_is(gw);
}

void gw_open_as_is(struct gw *gw)
{
    assert_int_equal(gw_try_open(gw), 0);
}

void gw_free(struct gw *gw)
{
    tl_gateway_free(gw->gateway);
    gw->gateway = NULL;
    tl_routes_deinit(&gw->routes);
}

const struct tl_worker *gw_worker(const struct gw *gw, unsigned i)
{
    return tl_hub_worker(gw->broker->hub, i);
}

/* What the end of a run does, but all in this thread: the loops belong to it. */
static bool drain(struct gw *gw)
{
    bool drained = true;
    for (unsigned i = 0; i < gw->workers_n; i++) {
        struct tl_worker *worker = tl_hub_worker(gw->broker->hub, i);
        if (!worker->draining)
            tl_mailbox_post(tl_loop_mailbox(worker->loop), &worker->drain_mail);
        drained = drained && atomic_load_explicit(&worker->drained, memory_order_acquire);
    }
    return drained;
}

static void run_to_the_end(struct gw *gw)
{
    if (gw->workers_n > 1) {
        GW_UNTIL(gw, drain(gw));
        return;
    }
    tl_gateway_stop(gw->gateway);
    assert_int_equal(tl_gateway_run(gw->gateway), 0);
}

void gw_close(struct gw *gw)
{
    clients_free(gw);
    GW_UNTIL(gw, tl_metric_get(TL_M_CONNECTIONS) == 0);
    assert_int_equal(tl_metric_get(TL_M_SUBSCRIPTIONS), 0);
    assert_int_equal(tl_metric_get(TL_M_WS_SESSIONS), 0);
    assert_int_equal(tl_metric_get(TL_M_SSE_SESSIONS), 0);
    run_to_the_end(gw);
    gw_free(gw);
    assert_int_equal(tl_metric_get(TL_M_CHANNELS), 0);
    assert_int_equal(tl_metric_get(TL_M_LOG_BYTES), 0);
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
}

/* --- what clients get --- */

static void acknowledged(struct client *c)
{
    if (!c->subscribed && c->feed && !c->resumes)
        c->begin = c->feed->n;
    c->subscribed = true;
}

/* The next message of the feed that this may be. One in between may be missing only if nobody
 * promised it, or if the client was told. */
static void take_message(struct client *c, struct tl_bytes payload)
{
    c->messages_n++;
    if (!c->feed)
        return;
    for (; c->at < c->feed->n; c->at++) {
        const struct message *m = &c->feed->messages[c->at];
        if (tl_bytes_eq(tl_bytes(m->payload.p, m->payload.n), payload)) {
            assert_false(m->refused);
            c->at++;
            return;
        }
        if (m->sure && c->gaps_n == 0 && c->at >= c->begin)
            fail_msg("message %zu is missing without a word", c->at);
    }
    fail_msg("a message that was not published, or again, or out of order (%zu bytes)", payload.n);
}

static void take_close(struct client *c, struct tl_bytes payload)
{
    c->close_code = TL_WS_CLOSE_NONE;
    if (payload.n < 2)
        return;
    c->close_code = (uint16_t)(payload.p[0] << 8 | payload.p[1]);
    snprintf(c->close_reason, sizeof c->close_reason, "%.*s", (int)payload.n - 2, payload.p + 2);
}

static void take_frame(struct client *c, uint8_t first, struct tl_bytes payload)
{
    assert_int_equal(c->close_code, 0); /* a close frame is the last one */
    switch (first) {
    case 0x81:
    case 0x82:
        take_message(c, payload);
        break;
    case 0x88:
        take_close(c, payload);
        break;
    case 0x89:
        break;
    case 0x8a:
        c->pongs_n++;
        break;
    default:
        fail_msg("a frame that begins with %02x", first);
    }
}

/* One whole frame from the front; returns its size, or 0. */
static size_t read_frame(struct client *c, struct tl_bytes in)
{
    if (in.n < 2)
        return 0;
    size_t header_n = in.p[1] < 126 ? 2 : in.p[1] == 126 ? 4 : 10, payload_n = 0;
    if (in.n < header_n)
        return 0;
    for (size_t i = 2; i < header_n; i++)
        payload_n = payload_n << 8 | in.p[i];
    if (header_n == 2)
        payload_n = in.p[1];
    if (in.n - header_n < payload_n)
        return 0;
    take_frame(c, in.p[0], tl_bytes(in.p + header_n, payload_n));
    return header_n + payload_n;
}

struct block {
    struct tl_bytes id, event;
    struct bag data;
    bool has_data;
};

static void take_block(struct client *c, struct block *block)
{
    if (block->id.n > 0) {
        assert_true(block->id.n < sizeof c->last_id);
        memcpy(c->last_id, block->id.p, block->id.n);
        c->last_id[block->id.n] = 0;
        acknowledged(c);
    }
    if (c->on_block) {
        c->on_block(c, block->id, block->event, tl_bytes(block->data.p, block->data.n));
        return;
    }
    if (!block->has_data)
        return;
    struct tl_bytes data = tl_bytes(block->data.p, block->data.n - 1); /* without the last LF */
    size_t n = data.n;
    if (tl_bytes_eq(block->event, TL_LIT("gap")))
        c->gaps_n++;
    else if (tl_bytes_eq(block->event, TL_LIT("broker")))
        c->downs_n++;
    else if (tl_bytes_eq(block->event, TL_LIT("snapshot")))
        c->snapshots_n++;
    else if (tl_bytes_eq(block->event, TL_LIT("expired")))
        c->expired_n++;
    else if (block->event.n > 0 && memmem(block->event.p, block->event.n, "base64", 6)) {
        assert_true(tl_base64_decode(data, block->data.p, &n));
        take_message(c, tl_bytes(block->data.p, n));
    } else
        take_message(c, data);
}

static void read_line(struct block *block, struct tl_bytes line)
{
    if (tl_bytes_starts(line, TL_LIT("id: ")))
        block->id = tl_bytes_skip(line, 4);
    else if (tl_bytes_starts(line, TL_LIT("event: ")))
        block->event = tl_bytes_skip(line, 7);
    else if (tl_bytes_starts(line, TL_LIT("data: "))) {
        bag_add(&block->data, tl_bytes_skip(line, 6));
        bag_add(&block->data, TL_LIT("\n"));
        block->has_data = true;
    } else if (line.n > 0)
        assert_true(line.p[0] == ':' || tl_bytes_starts(line, TL_LIT("retry: ")));
}

static size_t read_block(struct client *c, struct tl_bytes in)
{
    const uint8_t *end = in.n > 1 ? memmem(in.p, in.n, "\n\n", 2) : NULL;
    if (!end)
        return 0;
    struct block block = {0};
    for (const uint8_t *at = in.p, *lf; at <= end; at = lf + 1) {
        lf = memchr(at, '\n', (size_t)(end + 1 - at));
        read_line(&block, tl_bytes(at, (size_t)(lf - at)));
    }
    take_block(c, &block);
    bag_free(&block.data);
    return (size_t)(end - in.p) + 2;
}

/* A response with its body, or the head of a stream. */
static size_t read_response(struct client *c, struct tl_bytes in)
{
    const uint8_t *end = in.n > 3 ? memmem(in.p, in.n, "\r\n\r\n", 4) : NULL;
    if (!end)
        return 0;
    size_t head_n = (size_t)(end - in.p) + 4;
    assert_true(tl_bytes_starts(in, TL_LIT("HTTP/1.1 ")));
    int status = atoi((const char *)in.p + 9);
    const char *length = memmem(in.p, head_n, "Content-Length: ", 16);
    size_t body_n = length ? (size_t)strtoul(length + 16, NULL, 10) : 0;
    if (in.n - head_n < body_n)
        return 0;
    c->streaming = status == 101 || (status == 200 && c->kind == CLIENT_SSE);
    assert_true(c->streaming || length || status == 204); /* the head is whole */
    if (status == 101)
        acknowledged(c);
    c->status = status;
    c->responses_n += status >= 200 || status == 101;
    c->body.n = 0;
    bag_add(&c->body, tl_bytes(in.p + head_n, body_n));
    return head_n + body_n;
}

static void read_all(struct client *c)
{
    size_t used = 0, n;
    do {
        struct tl_bytes in = tl_bytes(c->in.p + used, c->in.n - used);
        n = !c->streaming           ? read_response(c, in)
            : c->kind == CLIENT_SSE ? read_block(c, in)
                                    : read_frame(c, in);
        used += n;
    } while (n > 0);
    if (used > 0)
        bag_drop(&c->in, used);
}

/* --- clients --- */

struct client *client_open(struct gw *gw, enum client_kind kind)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(gw->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->gw = gw;
    c->kind = kind;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    /* The kernel completes it without our accept(). */
    assert_int_equal(connect(c->fd, (struct sockaddr *)&address, sizeof address), 0);
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->next = gw->clients;
    gw->clients = c;
    return c;
}

static void over(struct client *c, int error)
{
    c->ended = true;
    c->error = error;
    close(c->fd);
    c->fd = -1;
}

static void client_write(struct client *c)
{
    while (c->fd >= 0 && c->out.n > 0) {
        ssize_t n = send(c->fd, c->out.p, c->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            c->out.n = 0; /* what was answered before may still be read */
            return;
        }
        bag_drop(&c->out, (size_t)n);
    }
}

static void client_read(struct client *c)
{
    static uint8_t bytes[65536];
    while (c->fd >= 0 && !c->deaf) {
        ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0) {
            bag_add(&c->in, tl_bytes(bytes, (size_t)n));
            read_all(c);
        } else if (n == 0) {
            over(c, 0);
        } else if (errno == EAGAIN) {
            return;
        } else {
            over(c, errno);
        }
    }
}

void client_send(struct client *c, struct tl_bytes bytes)
{
    bag_add(&c->out, bytes);
    client_write(c);
}

void client_send_bag(struct client *c, struct bag *bag)
{
    client_send(c, tl_bytes(bag->p, bag->n));
    bag_free(bag);
}

void client_end(struct client *c, bool reset)
{
    if (c->fd < 0)
        return;
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    over(c, 0);
}

static void client_dispose(struct client *c)
{
    client_end(c, false);
    bag_free(&c->in);
    bag_free(&c->out);
    bag_free(&c->body);
    free(c);
}

void client_free(struct client *c)
{
    struct client **at = &c->gw->clients;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    client_dispose(c);
}

void clients_free(struct gw *gw)
{
    struct client *c;
    while ((c = gw->clients)) {
        gw->clients = c->next;
        client_dispose(c);
    }
}

void gw_poll(struct gw *gw)
{
    for (struct client *c = gw->clients; c; c = c->next) {
        client_write(c);
        client_read(c);
        if (c->close_code != 0)
            client_end(c, false);
    }
}

void gw_turn(struct gw *gw, uint32_t wait_ms)
{
    tl_loop_turn(gw->loop, wait_ms);
    for (unsigned i = 1; i < gw->workers_n; i++)
        tl_loop_turn(gw_worker(gw, i)->loop, 0);
    gw_poll(gw);
}

void client_ask_ws(struct client *c, const char *path)
{
    struct bag out = {0};
    bag_text(&out,
             "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
             path);
    client_send_bag(c, &out);
}

void client_ask_sse(struct client *c, const char *path, const char *last_event_id)
{
    struct bag out = {0};
    bag_text(&out, "GET %s HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n", path);
    if (last_event_id)
        bag_text(&out, "Last-Event-ID: %s\r\n", last_event_id);
    bag_text(&out, "\r\n");
    client_send_bag(c, &out);
}

void client_ask_publish(struct client *c, const char *path, struct tl_bytes payload)
{
    struct bag out = {0};
    bag_text(&out, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", path,
             payload.n);
    bag_add(&out, payload);
    client_send_bag(c, &out);
}

bool client_is_settled(const struct client *c)
{
    return c->ended || c->subscribed || (c->status != 0 && !c->streaming);
}

struct client *client_come(struct gw *gw, enum client_kind kind, const char *path)
{
    struct client *c = client_open(gw, kind);
    if (kind == CLIENT_SSE)
        client_ask_sse(c, path, NULL);
    else
        client_ask_ws(c, path);
    return c;
}

struct client *client_watch(struct gw *gw, enum client_kind kind, const char *path)
{
    struct client *c = client_come(gw, kind, path);
    GW_UNTIL(gw, client_is_settled(c));
    assert_true(c->subscribed);
    return c;
}
