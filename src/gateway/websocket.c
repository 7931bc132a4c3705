/* The phase of a session that is a WebSocket: RFC 6455 after the handshake. */
#include "gateway/exchange.h"

#include <stdio.h>

#define ANSWERS_MAX   4096 /* unsent pongs: beyond, input waits until they have gone */
#define PUBLISHES_MAX 64   /* unanswered publishes of one duplex session: likewise */

static const struct tl_bytes close_word = {(const uint8_t *)"close", 5};

static bool send_frame(struct tl_session *s, enum tl_ws_opcode opcode, struct tl_bytes payload)
{
    uint8_t frame[2 + TL_WS_CONTROL_MAX];
    size_t n = tl_ws_header(frame, opcode, payload.n);
    if (payload.n > 0)
        memcpy(frame + n, payload.p, payload.n);
    return tl_session_own(s, tl_bytes(frame, n + payload.n));
}

static bool send_close(struct tl_session *s, uint16_t code, struct tl_bytes reason)
{
    uint8_t payload[TL_WS_CONTROL_MAX];
    size_t n = tl_ws_close_payload(payload, code, reason);
    s->close_sent = true;
    return send_frame(s, TL_WS_CLOSE, tl_bytes(payload, n));
}

static void leave(struct tl_session *s)
{
    tl_subscription_close(&s->sub);
    tl_session_give_input(s);
    tl_buf_deinit(&s->message);
}

void tl_websocket_close(struct tl_session *s, enum tl_ws_close code, const char *reason)
{
    if (s->closed || s->close_sent)
        return;
    leave(s);
    tl_session_set_phase(s, &tl_phase_ending);
    if (!send_close(s, (uint16_t)code, tl_bytes_str(reason)))
        return;
    if (s->close_code != 0) { /* the peer's close frame has come already */
        tl_session_finish(s);
        return;
    }
    tl_session_arm(s, tl_session_ending_ms(s));
    tl_session_pump(s);
    /* The peer's close frame is waited for. */
    if (!s->closed)
        tl_session_resume_input(s);
}

/* The peer broke the rules: tell it, and wait for nothing. */
static void fail(struct tl_session *s, uint16_t code, const char *reason)
{
    enum tl_metric metric = code == TL_WS_CLOSE_TOO_BIG  ? TL_M_INBOUND_TOO_BIG
                            : code == TL_WS_CLOSE_POLICY ? TL_M_INBOUND_RATE
                                                         : TL_M_PROTOCOL_ERRORS;
    tl_metric_add(metric, 1);
    leave(s);
    if (send_close(s, code, tl_bytes_str(reason)))
        tl_session_finish(s);
}

static void on_close_frame(struct tl_session *s, const struct tl_ws_event *event)
{
    if (s->publishes_n > 0) {
        /* A clean close would say that all went well: wait for the broker's answers. */
        s->close_code = event->close_code;
        tl_session_read(s, false);
        return;
    }
    uint8_t reason[TL_WS_REASON_MAX]; /* the input is lent, and may be gone with the phase */
    struct tl_bytes echo = tl_bytes(reason, event->bytes.n);
    if (echo.n > 0)
        memcpy(reason, event->bytes.p, echo.n);
    leave(s);
    if (send_close(s, event->close_code, echo))
        tl_session_finish(s);
}

/* More messages in this second than allowed? */
static bool is_too_fast(struct tl_session *s)
{
    uint32_t second = (uint32_t)(tl_loop_now_ms(s->worker->loop) / 1000);
    if (s->rate_second != second) {
        s->rate_second = second;
        s->rate_n = 0;
    }
    return ++s->rate_n > s->worker->config->inbound_rate_max;
}

static struct tl_bytes room_name(const struct tl_session *s)
{
    return tl_channel_view_name(s->sub.view);
}

/* A whole message of the client is in s->message (of a receive-only route: its beginning). */
static void on_message(struct tl_session *s, enum tl_ws_opcode opcode)
{
    tl_metric_add(TL_M_CLIENT_MESSAGES, 1);
    if (s->polite_close && opcode == TL_WS_TEXT &&
        tl_bytes_eq(tl_buf_bytes(&s->message), close_word)) {
        tl_websocket_close(s, TL_WS_CLOSE_NORMAL, "closed as asked");
        return;
    }
    if (!s->duplex) {
        tl_buf_deinit(&s->message);
        return;
    }
    if (!tl_session_publish(s, room_name(s), &s->message)) {
        tl_websocket_close(s, TL_WS_CLOSE_TRY_AGAIN, "out of memory");
        return;
    }
    if (s->publishes_n >= PUBLISHES_MAX)
        tl_session_read(s, false);
}

static void on_data(struct tl_session *s, const struct tl_ws_event *event)
{
    /* Where messages are not published, all that may matter is the word `close`. */
    if (s->duplex && !tl_session_take_input(s, event->bytes.n)) {
        tl_websocket_close(s, TL_WS_CLOSE_TRY_AGAIN, "too many messages at once");
        return;
    }
    size_t keep = s->duplex ? event->bytes.n : close_word.n + 1 - s->message.n;
    if (s->duplex || s->polite_close)
        tl_buf_append(&s->message,
                      tl_bytes(event->bytes.p, event->bytes.n < keep ? event->bytes.n : keep));
    if (s->message.failed) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_websocket_close(s, TL_WS_CLOSE_TRY_AGAIN, "out of memory");
        return;
    }
    if (event->message_start && is_too_fast(s)) {
        fail(s, TL_WS_CLOSE_POLICY, "too many messages, see --inbound-rate");
        return;
    }
    if (event->message_end)
        on_message(s, event->opcode);
}

static void on_ping(struct tl_session *s, const struct tl_ws_event *event)
{
    if (send_frame(s, TL_WS_PONG, event->bytes) && s->own_n > ANSWERS_MAX)
        tl_session_read(s, false);
}

static void on_event(struct tl_session *s, const struct tl_ws_event *event)
{
    switch (event->kind) {
    case TL_WS_ON_DATA:
        on_data(s, event);
        break;
    case TL_WS_ON_PING:
        on_ping(s, event);
        break;
    case TL_WS_ON_PONG:
        break;
    case TL_WS_ON_CLOSE:
        on_close_frame(s, event);
        break;
    }
}

static size_t on_input(struct tl_session *s, uint8_t *bytes, size_t n)
{
    size_t used = 0;
    while (s->phase == &tl_phase_websocket && s->reading && !s->closed) {
        size_t part;
        struct tl_ws_event event;
        enum tl_parse r = tl_ws_parse(&s->ws, bytes + used, n - used, &part, &event);
        used += part;
        if (r == TL_PARSE_MORE)
            break;
        if (r == TL_PARSE_BAD) {
            fail(s, s->ws.close_code, s->ws.reason);
            return n;
        }
        on_event(s, &event);
    }
    if (s->own && !s->closed)
        tl_session_pump(s);
    return used;
}

static void on_own_sent(struct tl_session *s)
{
    if (s->close_code == 0 && !s->reading && s->publishes_n < PUBLISHES_MAX)
        tl_session_resume_input(s);
}

static void on_published(struct tl_session *s, struct tl_publish_request *request)
{
    switch (request->publish.status) {
    case TL_BROKER_OK:
        if (s->close_code != 0 && s->publishes_n == 0) {
            leave(s);
            if (send_close(s, s->close_code, tl_bytes(NULL, 0)))
                tl_session_finish(s);
            return;
        }
        if (s->close_code == 0 && !s->reading && s->publishes_n < PUBLISHES_MAX / 2 &&
            s->own_n <= ANSWERS_MAX)
            tl_session_resume_input(s);
        return;
    case TL_BROKER_DENIED:
        tl_websocket_close(s, TL_WS_CLOSE_POLICY, "the broker forbids publishing here");
        return;
    case TL_BROKER_UNKNOWN:
        tl_websocket_close(s, TL_WS_CLOSE_TRY_AGAIN, "broker lost: published or not is unknown");
        return;
    case TL_BROKER_DOWN:
    case TL_BROKER_FAILED:
    case TL_BROKER_FULL:
        tl_websocket_close(s, TL_WS_CLOSE_TRY_AGAIN, "broker unavailable: not published");
        return;
    }
}

/* The heartbeat: a ping, and the end of who did not answer the last one. */
static void on_timer(struct tl_session *s)
{
    if (s->pinged && !s->alive) {
        tl_metric_add(TL_M_DEAD_PEERS, 1);
        tl_session_reset(s);
        return;
    }
    s->alive = false;
    s->pinged = true;
    if (s->own_n <= ANSWERS_MAX && !send_frame(s, TL_WS_PING, tl_bytes(NULL, 0)))
        return;
    tl_session_arm(s, tl_session_beat_ms(s));
    tl_session_pump(s);
}

/* from: where to go on. missed_msgs: up to there; 0 if it is unknown. */
static void close_for_gap(struct tl_session *s, struct tl_position from, uint64_t missed_msgs)
{
    char token[TL_POSITION_TEXT_MAX], missed[24] = "?", reason[TL_WS_REASON_MAX + 1];
    tl_position_print(from, token);
    if (missed_msgs > 0)
        snprintf(missed, sizeof missed, "%llu", (unsigned long long)missed_msgs);
    snprintf(reason, sizeof reason, "gap %s missed=%s", token, missed);
    tl_metric_add(TL_M_GAP_CLOSES, 1);
    tl_websocket_close(s, TL_WS_CLOSE_GAP, reason);
}

static void on_overflow(struct tl_session *s, const struct tl_lost *lost)
{
    char reason[64];
    if (s->sub.view->rule->overflow == TL_OVERFLOW_GAP) {
        /* It has no words for a gap but this close, which names the newest position. */
        const struct tl_view *view = &s->sub.view->view;
        uint64_t given_up = view->head.msg - view->tail.msg;
        tl_metric_add(TL_M_GAP_MESSAGES, (int64_t)given_up);
        close_for_gap(s, tl_view_position(view, view->head), lost->msgs_n + given_up);
        return;
    }
    snprintf(reason, sizeof reason, "slow: missed=%llu", (unsigned long long)lost->msgs_n);
    tl_websocket_close(s, TL_WS_CLOSE_SLOW, reason);
}

static void on_refused(struct tl_session *s, enum tl_broker_status why)
{
    if (why == TL_BROKER_DENIED)
        tl_websocket_close(s, TL_WS_CLOSE_POLICY, "the broker forbids this channel");
    else
        tl_websocket_close(s, TL_WS_CLOSE_TRY_AGAIN, "the broker does not serve this channel");
}

/* What of before a gap the session will not get. */
static uint64_t give_up(const struct tl_session *s, const struct tl_gaps *gaps)
{
    const struct tl_subscription *sub = &s->sub;
    uint64_t left = gaps->behind_msg - (sub->out ? sub->out->to.msg : sub->msg);
    if (sub->view->rule->overflow == TL_OVERFLOW_LATEST) {
        tl_metric_add(TL_M_CONFLATED, (int64_t)left);
        return 0;
    }
    tl_metric_add(TL_M_GAP_MESSAGES, (int64_t)left);
    return left;
}

/* Who asked to be told is closed behind all from before the gap that its socket takes; for the
 * others the counters tell. */
static void on_gap(struct tl_session *s, const struct tl_gaps *gaps)
{
    if (!s->strict && !s->sub.view->rule->close_on_gap)
        return;
    s->sub.next_ms = 0; /* the last word of before, at whatever rate */
    tl_session_catch_up(s, s->sub.view->view.head.off);
    if (s->closed || !s->sub.view)
        return;
    uint64_t missed_msgs = gaps->msgs + give_up(s, gaps);
    close_for_gap(s, gaps->behind, gaps->is_partly_unknown ? 0 : missed_msgs);
}

/* A raw WebSocket has no words for it; the counters tell, and the gap that follows. */
static void on_link_down(struct tl_session *s)
{
    (void)s;
}

static void on_acknowledged(struct tl_session *s)
{
    (void)s;
}

static void on_drain(struct tl_session *s)
{
    tl_websocket_close(s, TL_WS_CLOSE_GOING_AWAY, "the gateway is going away");
}

const struct tl_phase tl_phase_websocket = {
    .name = "websocket",
    .on_input = on_input,
    .on_input_end = tl_session_close,
    .on_own_sent = on_own_sent,
    .on_timer = on_timer,
    .on_acknowledged = on_acknowledged,
    .on_refused = on_refused,
    .on_overflow = on_overflow,
    .on_link_down = on_link_down,
    .on_gap = on_gap,
    .on_published = on_published,
    .on_drain = on_drain,
};

void tl_websocket_start(struct tl_session *s)
{
    const struct tl_exchange *exchange = s->exchange;
    const struct tl_view *view = &s->sub.view->view;
    struct tl_mark from;
    uint64_t missed;
    enum tl_resume outcome = tl_exchange_start(s, &from, &missed);
    s->duplex = exchange->route->kind == TL_ROUTE_DUPLEX;
    s->polite_close = exchange->route->polite_close;
    s->strict = exchange->terms.strict;
    struct tl_snapshot snapshot = exchange->snapshot;
    tl_exchange_free(s);
    tl_ws_parser_init(&s->ws, true, s->worker->config->inbound_bytes_max);
    tl_session_set_phase(s, &tl_phase_websocket);
    tl_session_gauge(s, TL_M_WS_SESSIONS);
    tl_session_arm(s, tl_session_beat_ms(s));
    tl_session_go_live(s, from);
    if (!tl_snapshot_send(s, &snapshot))
        return;
    if (outcome != TL_RESUME_FROM) {
        if (outcome == TL_RESUME_GAP) {
            missed += view->head.msg - from.msg;
            from = view->head;
        }
        tl_metric_add(TL_M_GAPS, 1);
        tl_metric_add(TL_M_GAP_MESSAGES, (int64_t)missed);
        close_for_gap(s, tl_view_position(view, from), missed);
        return;
    }
    tl_session_resume_input(s);
    tl_session_pump(s);
}
