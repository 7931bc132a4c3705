#include "client.h"

#include "base/base64.h"
#include "feed/position.h"
#include "gateway/hub.h"
#include "proto/ws.h"

#include <stdio.h>
#include <stdlib.h>

struct client_world client_world;

static const uint8_t mask_key[4] = {0x5a, 0x01, 0xc3, 0x7e};

/* --- asking --- */

static void on_given(struct net_sock *k)
{
    struct client *c = k->owner;
    if (c->kind == CLIENT_PUBLISHER || c->oracle.asked || k->given_n < c->request_n)
        return;
    if (c->kind == CLIENT_MANY) {
        c->oracle.asked = true;
        many_asked(&c->many);
    } else {
        oracle_asked(&c->oracle);
    }
}

/* Remember what had arrived when each byte was written that may be the acknowledgement. */
static void on_taken(struct net_sock *k, uint64_t before)
{
    struct client *c = k->owner;
    (void)before;
    if (c->kind == CLIENT_MANY)
        many_taken(&c->many, k->taken_n);
    if (c->kind == CLIENT_MANY || c->kind == CLIENT_PUBLISHER || c->oracle.acked ||
        c->taken_n == sizeof c->taken / sizeof *c->taken)
        return;
    c->taken[c->taken_n].end = k->taken_n;
    c->taken[c->taken_n++].then = oracle_now(&c->oracle);
}

static void open_sock(struct client *c, unsigned worker)
{
    c->sock = net_connect(worker);
    c->sock->owner = c;
    c->sock->on_given = on_given;
    c->sock->on_taken = on_taken;
    c->message = MODEL_NONE;
}

static void send_text(struct client *c, const char *text, size_t n)
{
    sim_pipe_add(&c->sock->to_gw, tl_bytes(text, n));
}

static size_t print_terms(const struct client_terms *terms, bool sse, char *out, size_t out_n)
{
    char token[TL_POSITION_TEXT_MAX];
    struct tl_position position = {.epoch = terms->since.epoch,
                                   .idx = terms->since.idx - terms->received};
    int n = 0;
    tl_position_print(position, token);
    if (terms->start == START_HISTORY)
        n = snprintf(out, out_n, "?history=%u", terms->history);
    else if (terms->start == START_SINCE && terms->received > 0)
        n = snprintf(out, out_n, "?since=%s&received=%u", token, terms->received);
    else if (terms->start == START_SINCE)
        n = snprintf(out, out_n, "?since=%s", token);
    if (terms->strict && !sse)
        n += snprintf(out + n, out_n - (size_t)n, "%cstrict=1", n > 0 ? '&' : '?');
    return (size_t)n;
}

void client_subscribe(struct client *c, unsigned id, unsigned worker, enum client_kind kind,
                      unsigned channel, const struct tl_channel_rule *rule,
                      const struct client_terms *terms)
{
    bool sse = kind == CLIENT_SSE;
    char query[128] = "", request[512];
    *c = (struct client){.kind = kind};
    print_terms(terms, sse, query, sizeof query);
    int n = snprintf(request, sizeof request, "GET /%s/%s%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
                     sse ? "sse" : "ws", model_name(channel).p, query,
                     sse ? ""
                         : "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
                           "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    sim_trace("client %u: asks worker %u for /%s/%s%s", id, worker, sse ? "sse" : "ws",
              model_name(channel).p, query);
    c->oracle = (struct oracle){
        .client = id,
        .worker = worker,
        .channel = channel,
        .lane = sse ? TL_LANE_SSE : TL_LANE_WS,
        .rule = rule,
        .start = terms->start,
        .history = terms->history,
        .since = terms->since,
        .strict = terms->strict || (!sse && terms->start == START_SINCE),
    };
    open_sock(c, worker);
    c->request_n = (size_t)n;
    send_text(c, request, (size_t)n);
}

void client_watch_many(struct client *c, unsigned id, unsigned worker,
                       const struct tl_channel_rule *rules)
{
    char request[640];
    *c = (struct client){.kind = CLIENT_MANY, .oracle = {.client = id, .worker = worker}};
    many_come(&c->many, id, rules);
    c->request_n = many_print(&c->many, request, sizeof request);
    open_sock(c, worker);
    send_text(c, request, c->request_n);
}

void client_open_publisher(struct client *c, unsigned id, unsigned worker)
{
    *c = (struct client){.kind = CLIENT_PUBLISHER, .oracle.client = id};
    open_sock(c, worker);
    sim_trace("client %u: will publish to worker %u", id, worker);
}

void client_publish(struct client *c, uint32_t message)
{
    char head[256];
    struct tl_bytes payload = model_payload(message);
    unsigned channel = model_message_channel(message);
    int n = snprintf(head, sizeof head,
                     "POST /pub/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                     model_name(channel).p, payload.n);
    sim_trace("client %u: publishes message %u to %s", c->oracle.client, message,
              model_name(channel).p);
    send_text(c, head, (size_t)n);
    sim_pipe_add(&c->sock->to_gw, payload);
    c->message = message;
}

static void send_frame(struct client *c, enum tl_ws_opcode opcode, struct tl_bytes payload)
{
    uint8_t header[TL_WS_MASKED_HEADER_MAX], masked[TL_WS_CONTROL_MAX];
    size_t n = tl_ws_masked_header(header, opcode, payload.n, mask_key);
    if (payload.n > 0)
        memcpy(masked, payload.p, payload.n);
    tl_ws_mask(masked, payload.n, mask_key, 0);
    sim_pipe_add(&c->sock->to_gw, tl_bytes(header, n));
    sim_pipe_add(&c->sock->to_gw, tl_bytes(masked, payload.n));
}

/* --- the ends --- */

#define PLACES_MAX 16

static struct {
    unsigned channel;
    struct place place;
} places[PLACES_MAX];
static unsigned places_n;

bool client_place(unsigned *ret_channel, struct place *ret_place)
{
    if (places_n == 0)
        return false;
    unsigned i = sim_below(places_n < PLACES_MAX ? places_n : PLACES_MAX);
    *ret_channel = places[i].channel;
    *ret_place = places[i].place;
    return true;
}

void client_forget_places(void)
{
    places_n = 0;
}

void client_drop(struct client *c, bool reset)
{
    if (c->kind == CLIENT_MANY)
        many_go(&c->many);
    if (c->oracle.place.gateway != 0) {
        places[places_n % PLACES_MAX].channel = c->oracle.channel;
        places[places_n++ % PLACES_MAX].place = c->oracle.place;
    }
    if (reset)
        net_peer_reset(c->sock);
    net_release(c->sock);
    sim_pipe_free(&c->in);
    c->sock = NULL;
}

void client_say_goodbye(struct client *c)
{
    sim_trace("client %u: says goodbye", c->oracle.client);
    if (c->kind == CLIENT_WS && c->streaming && !c->sock->gw_closed)
        send_frame(c, TL_WS_CLOSE, tl_bytes("\x03\xe8", 2));
    else
        net_peer_fin(c->sock);
    c->closing = true;
}

/* As the gateway can know it: what its socket took and gave. Somebody may read in small bites and
 * still make no room, or have its pong behind much else. */
static bool was_slow(const struct client *c)
{
    const struct client_world *w = &client_world;
    const struct net_sock *k = c->sock;
    return w->may_pin_reset || k->cut.stuck_ms >= w->stall_timeout_ms ||
           (c->kind == CLIENT_WS && k->cut.silent_ms >= w->ping_ms * 4 / 5);
}

/* R19: nobody is cut off without a word, but who does not listen. */
static void check_end(const struct client *c)
{
    const struct oracle *o = &c->oracle;
    if (c->closing || client_world.draining || c->answered || c->sock->peer_rst)
        return;
    if (c->kind == CLIENT_PUBLISHER && c->message == MODEL_NONE)
        return; /* idle, or not accepted */
    if (c->sock->given_n == 0 || was_slow(c))
        return;
    if (c->kind == CLIENT_MANY && many_is_behind(&c->many))
        return;
    if (c->kind == CLIENT_SSE && o->rule->overflow == TL_OVERFLOW_DISCONNECT && oracle_is_behind(o))
        return;
    sim_fail("R19: client %u is cut off at %llu bytes without a word", o->client,
             (unsigned long long)c->in_at);
}

/* --- WebSocket --- */

static uint32_t read_missed(const char *text)
{
    const char *missed = strstr(text, "missed");
    missed = missed ? missed + strcspn(missed, "0123456789?n,}") : "";
    if (strncmp(missed, "n", 1) == 0 || *missed == '?')
        return MODEL_NONE;
    return (uint32_t)strtoul(missed, NULL, 10);
}

static void take_close(struct client *c, struct tl_bytes payload)
{
    char reason[TL_WS_CONTROL_MAX + 1];
    struct tl_position position = {0};
    unsigned code = payload.n >= 2 ? (unsigned)payload.p[0] << 8 | payload.p[1] : 1005;
    snprintf(reason, sizeof reason, "%.*s", payload.n > 2 ? (int)payload.n - 2 : 0,
             (const char *)payload.p + 2);
    sim_trace("client %u: is closed with %u %s", c->oracle.client, code, reason);
    bool was_closing = c->closing;
    c->closing = true;
    if (!was_closing && !c->sock->peer_fin)
        send_frame(c, TL_WS_CLOSE, tl_bytes(payload.p, payload.n >= 2 ? 2 : 0));
    switch (code) {
    case TL_WS_CLOSE_SLOW:
        oracle_slow(&c->oracle, read_missed(reason));
        return;
    case TL_WS_CLOSE_GAP:
        if (!tl_position_parse(tl_bytes(reason + 4, strcspn(reason + 4, " ")), &position))
            sim_fail("R16: the reason for a gap names no position: %s", reason);
        oracle_gap_close(&c->oracle, read_missed(reason + 4), position.epoch, position.idx);
        return;
    case TL_WS_CLOSE_GOING_AWAY:
        if (client_world.draining)
            return;
        break;
    case TL_WS_CLOSE_NORMAL:
        if (was_closing)
            return;
        break;
    default:
        break;
    }
    sim_fail("R19: client %u is closed with %u %s for no reason", c->oracle.client, code, reason);
}

static void take_frame(struct client *c, uint8_t first, struct tl_bytes payload)
{
    switch (first) {
    case 0x81:
    case 0x82: {
        uint32_t message = model_message_of(payload);
        if ((first == 0x82) != (message % 11 == 7 && payload.p[payload.n - 1] == 0xff))
            sim_fail("R2: message %u comes with opcode %x", message, first);
        oracle_message(&c->oracle, message, 0, 0);
        return;
    }
    case 0x88:
        take_close(c, payload);
        return;
    case 0x89:
        if (!c->sock->peer_fin)
            send_frame(c, TL_WS_PONG, payload);
        return;
    default:
        sim_fail("client %u gets a frame that begins with %02x", c->oracle.client, first);
    }
}

static size_t read_frame(struct client *c, struct tl_bytes in)
{
    if (in.n < 2)
        return 0;
    size_t header_n = in.p[1] < 126 ? 2 : in.p[1] == 126 ? 4 : 10, n = 0;
    if (in.n < header_n)
        return 0;
    for (size_t i = 2; i < header_n; i++)
        n = n << 8 | in.p[i];
    if (header_n == 2)
        n = in.p[1];
    if (in.n - header_n < n)
        return 0;
    take_frame(c, in.p[0], tl_bytes(in.p + header_n, n));
    return header_n + n;
}

/* --- SSE --- */

struct block {
    struct tl_bytes id, event;
    struct sim_pipe data; /* each line with its LF */
    bool has_data;
};

static void take_ack(struct client *c, uint64_t end, uint64_t epoch, uint64_t idx)
{
    unsigned i = 0;
    while (i + 1 < c->taken_n && c->taken[i].end < end)
        i++;
    oracle_acked(&c->oracle, &c->taken[i].then, epoch, idx);
}

static void take_control(struct client *c, const struct block *block, struct tl_bytes data,
                         uint64_t epoch)
{
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)data.n, (const char *)data.p);
    if (tl_bytes_eq(block->event, TL_LIT("gap"))) {
        oracle_gap(&c->oracle, read_missed(text), strstr(text, "too slow") != NULL, epoch);
        return;
    }
    sim_trace("client %u: broker %s", c->oracle.client, text);
    c->oracle.down = strstr(text, "\"down\"") != NULL;
    if (strstr(text, "refused")) {
        c->answered = true;
        if (!client_world.may_refuse)
            sim_fail("client %u is refused: %s", c->oracle.client, text);
    }
}

/* The message that the event is. */
static uint32_t message_of(const struct client *c, const struct block *block)
{
    struct tl_bytes data = tl_bytes(block->data.p + block->data.at, block->data.n - 1);
    bool is_base64 = block->event.n > 0 && memmem(block->event.p, block->event.n, "base64", 6);
    uint8_t *decoded = NULL;
    if (is_base64) {
        decoded = malloc(data.n + 1);
        if (!decoded || !tl_base64_decode(data, decoded, &data.n))
            sim_fail("R2: client %u gets base64 that is none", c->oracle.client);
        data.p = decoded;
    }
    uint32_t message = model_message_of(data);
    free(decoded);
    return message;
}

static bool is_control(const struct block *block)
{
    return tl_bytes_eq(block->event, TL_LIT("gap")) || tl_bytes_eq(block->event, TL_LIT("broker"));
}

static void take_block_of_many(struct client *c, const struct block *block, uint64_t end)
{
    char text[256];
    struct many *m = &c->many;
    text[0] = 0;
    if (is_control(block))
        snprintf(text, sizeof text, "%.*s", (int)block->data.n - 1,
                 (const char *)block->data.p + block->data.at);
    if (!block->has_data && block->id.n > 0)
        many_starts(m, block->id, end);
    else if (block->has_data && !is_control(block))
        many_message(m, block->id, block->event, message_of(c, block));
    else if (tl_bytes_eq(block->event, TL_LIT("gap")))
        many_gap(m, block->id, read_missed(text), text);
    else if (block->has_data)
        c->answered = many_broker(m, block->id, text);
    if (strstr(text, "\"refused\"") && !client_world.may_refuse)
        sim_fail("client %u is refused: %s", c->oracle.client, text);
    c->oracle.acked = m->started;
    c->oracle.down = many_is_down(m);
}

static void take_block(struct client *c, const struct block *block, uint64_t end)
{
    struct tl_position position = {0};
    if (c->kind == CLIENT_MANY) {
        take_block_of_many(c, block, end);
        return;
    }
    if (block->id.n > 0 && !tl_position_parse(block->id, &position))
        sim_fail("R16: client %u gets an id that is no position", c->oracle.client);
    if (!block->has_data) {
        if (block->id.n > 0)
            take_ack(c, end, position.epoch, position.idx);
        return;
    }
    struct tl_bytes data = tl_bytes(block->data.p + block->data.at, block->data.n - 1);
    if (!is_control(block)) {
        oracle_message(&c->oracle, message_of(c, block), position.epoch, position.idx);
        return;
    }
    take_control(c, block, data, position.epoch);
    if (block->id.n > 0)
        oracle_moved(&c->oracle, position.epoch, position.idx);
}

static void read_line(struct block *block, struct tl_bytes line)
{
    if (tl_bytes_starts(line, TL_LIT("id: ")))
        block->id = tl_bytes_skip(line, 4);
    else if (tl_bytes_starts(line, TL_LIT("event: ")))
        block->event = tl_bytes_skip(line, 7);
    else if (tl_bytes_starts(line, TL_LIT("data: "))) {
        sim_pipe_add(&block->data, tl_bytes_skip(line, 6));
        sim_pipe_add(&block->data, TL_LIT("\n"));
        block->has_data = true;
    } else if (line.n > 0 && line.p[0] != ':' && !tl_bytes_starts(line, TL_LIT("retry: ")))
        sim_fail("an event stream with the line '%.*s'", (int)line.n, (const char *)line.p);
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
    size_t n = (size_t)(end - in.p) + 2;
    take_block(c, &block, c->in_at + n);
    sim_pipe_free(&block.data);
    return n;
}

/* --- HTTP --- */

static void take_answer(struct client *c, int status, const char *body)
{
    c->answered = true;
    sim_trace("client %u: %d %.*s", c->oracle.client, status, (int)strcspn(body, "\r\n"), body);
    if (c->kind == CLIENT_PUBLISHER) {
        if (status != 200 && status != 503)
            sim_fail("client %u gets %d for a publish", c->oracle.client, status);
        model_was_answered(c->message, status == 200, strstr(body, "unknown") != NULL);
        c->message = MODEL_NONE;
        return;
    }
    if (status != 503 || !(client_world.may_refuse || client_world.draining))
        sim_fail("client %u is refused with %d %s", c->oracle.client, status, body);
}

static size_t read_response(struct client *c, struct tl_bytes in)
{
    const uint8_t *end = in.n > 3 ? memmem(in.p, in.n, "\r\n\r\n", 4) : NULL;
    if (!end)
        return 0;
    char body[512];
    size_t head_n = (size_t)(end - in.p) + 4;
    int status = atoi((const char *)in.p + 9);
    const char *length = memmem(in.p, head_n, "Content-Length: ", 16);
    size_t body_n = length ? (size_t)strtoul(length + 16, NULL, 10) : 0;
    if (in.n - head_n < body_n)
        return 0;
    if (status == 101 || (status == 200 && (c->kind == CLIENT_SSE || c->kind == CLIENT_MANY))) {
        c->streaming = true;
        if (status == 101)
            take_ack(c, c->in_at + head_n, 0, 0);
        return head_n;
    }
    snprintf(body, sizeof body, "%.*s", (int)body_n, (const char *)in.p + head_n);
    take_answer(c, status, body);
    return head_n + body_n;
}

/* --- reading --- */

static void read_all(struct client *c)
{
    for (size_t n = 1; n > 0 && c->in.n > 0;) {
        struct tl_bytes in = sim_pipe_bytes(&c->in);
        if (!c->streaming)
            n = read_response(c, in);
        else
            n = c->kind == CLIENT_WS ? read_frame(c, in) : read_block(c, in);
        sim_pipe_drop(&c->in, n);
        c->in_at += n;
    }
}

bool client_read(struct client *c, size_t most)
{
    struct net_sock *k = c->sock;
    if (k->gw_rst && (k->from_gw.n == 0 || sim_chance(50))) {
        check_end(c);
        client_drop(c, false);
        return true;
    }
    size_t n = k->from_gw.n < most ? k->from_gw.n : most;
    if (n > 0) {
        sim_pipe_add(&c->in, tl_bytes(k->from_gw.p + k->from_gw.at, n));
        sim_pipe_drop(&k->from_gw, n);
        read_all(c);
    }
    if (!net_is_over(k))
        return n > 0;
    check_end(c);
    client_drop(c, false);
    return true;
}

void client_check_complete(const struct client *c, bool paced)
{
    if (c->kind == CLIENT_MANY)
        many_check_complete(&c->many, paced);
    else if (paced || c->oracle.rule->interval_ms == 0)
        oracle_check_complete(&c->oracle);
}
