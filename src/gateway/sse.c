/* The phase of a session that is an event stream (WHATWG HTML, Server-sent events). */
#include "gateway/sse.h"

#include "gateway/exchange.h"
#include "proto/http1.h"
#include "proto/sse.h"

#include <inttypes.h>
#include <stdio.h>

#define RETRY_MS 1000 /* and up to as much again, so that a crowd does not return at once */

static void send_event(struct tl_session *s, struct tl_buf *event)
{
    if (tl_session_own_buf(s, event))
        tl_session_pump(s);
}

void tl_sse_append_gap(struct tl_buf *out, uint64_t missed, const char *reason)
{
    char json[128];
    if (missed > 0)
        snprintf(json, sizeof json, "{\"missed\":%llu,\"reason\":\"%s\"}",
                 (unsigned long long)missed, reason);
    else
        snprintf(json, sizeof json, "{\"missed\":null,\"reason\":\"%s\"}", reason);
    tl_sse_control(out, "gap", tl_bytes_str(json));
}

void tl_sse_append_missed(struct tl_buf *out, enum tl_resume outcome, uint64_t missed)
{
    tl_metric_add(TL_M_GAPS, 1);
    tl_metric_add(TL_M_GAP_MESSAGES, (int64_t)missed);
    if (outcome == TL_RESUME_GAP)
        tl_sse_append_gap(out, missed, "older messages are not kept");
    else
        tl_sse_append_gap(out, 0, "the position is of another time");
}

/* Where this client begins: at its position, behind a gap that it is told of, in the history that
 * it wants, or now (R16). */
static struct tl_mark resume(struct tl_session *s, struct tl_buf *out)
{
    struct tl_mark from;
    uint64_t missed;
    enum tl_resume outcome = tl_exchange_start(s, &from, &missed);
    if (outcome != TL_RESUME_FROM)
        tl_sse_append_missed(out, outcome, missed);
    return from;
}

static void on_acknowledged(struct tl_session *s)
{
    struct tl_buf out = {0};
    char token[TL_POSITION_TEXT_MAX];
    if (s->told_down)
        tl_sse_control(&out, "broker", TL_LIT("{\"state\":\"up\"}"));
    struct tl_mark from = resume(s, &out);
    struct tl_position position = tl_view_position(&s->sub.view->view, from);
    tl_sse_start(&out, tl_bytes(token, tl_position_print(position, token)));
    struct tl_snapshot snapshot = s->exchange->snapshot;
    tl_snapshot_append_event(&snapshot, &out);
    tl_exchange_free(s);
    bool ok = tl_session_own_buf(s, &out);
    if (!tl_snapshot_send(s, &snapshot) || !ok)
        return;
    tl_session_go_live(s, from);
    tl_session_pump(s);
}

void tl_sse_append_expired(struct tl_buf *out, const struct tl_channel_rule *rule)
{
    char json[64];
    snprintf(json, sizeof json, "{\"stale_after_ms\":%" PRIu64 "}", rule->stale_after_ms);
    tl_sse_control(out, "expired", tl_bytes_str(json));
}

/* Told behind all that came before, once. */
static void on_own_sent(struct tl_session *s)
{
    const struct tl_channel_view *view = s->sub.view;
    struct tl_buf out = {0};
    if (!s->sub.live || !view->stale || s->expired_n == view->expired_n || s->sub.out ||
        s->sub.off != view->view.head.off)
        return;
    s->expired_n = view->expired_n;
    tl_sse_append_expired(&out, view->rule);
    send_event(s, &out);
}

void tl_sse_on_link_down(struct tl_session *s)
{
    struct tl_buf out = {0};
    if (s->told_down)
        return;
    s->told_down = true;
    tl_sse_control(&out, "broker", TL_LIT("{\"state\":\"down\"}"));
    send_event(s, &out);
}

void tl_sse_append_refusal(struct tl_buf *out, enum tl_broker_status why)
{
    tl_sse_control(out, "broker",
                   tl_bytes_str(why == TL_BROKER_DENIED
                                    ? "{\"state\":\"refused\",\"reason\":\"forbidden\"}"
                                    : "{\"state\":\"refused\",\"reason\":\"not served\"}"));
}

static void on_refused(struct tl_session *s, enum tl_broker_status why)
{
    struct tl_buf out = {0};
    tl_sse_append_refusal(&out, why);
    if (tl_session_own_buf(s, &out))
        tl_session_finish(s);
}

void tl_sse_append_lost(struct tl_buf *out, const struct tl_lost *lost, uint64_t missed_n,
                        struct tl_bytes id)
{
    if (missed_n > 0) {
        tl_buf_append(out, id);
        tl_sse_append_gap(out, missed_n, "too slow");
    }
    if (lost->gap) {
        tl_buf_append(out, id);
        tl_sse_append_gap(out, 0, "an earlier gap");
    }
    if (lost->broker) {
        tl_buf_append(out, id);
        tl_sse_control(out, "broker",
                       tl_bytes_str(lost->is_down ? "{\"state\":\"down\"}" : "{\"state\":\"up\"}"));
    }
}

static void on_passed(struct tl_session *s, const struct tl_lost *lost)
{
    struct tl_buf out = {0};
    if (!lost->gap && !lost->broker)
        return;
    tl_sse_append_lost(&out, lost, 0, tl_bytes(NULL, 0));
    (void)tl_session_own_buf(s, &out);
}

/* The stream ends between events, and the browser comes back with its last id and is told the gap;
 * or, if the channel's rule says so, it is told here and goes on. */
static void on_overflow(struct tl_session *s, const struct tl_lost *lost)
{
    struct tl_buf out = {0};
    if (s->sub.view->rule->overflow == TL_OVERFLOW_DISCONNECT) {
        tl_session_finish(s);
        return;
    }
    tl_sse_append_lost(&out, lost, lost->msgs_n, tl_bytes(NULL, 0));
    tl_subscription_skip_to(&s->sub, s->sub.view->view.tail);
    if (tl_session_own_buf(s, &out))
        tl_worker_requeue(s->worker, s, 0);
}

void tl_sse_on_timer(struct tl_session *s)
{
    struct tl_buf out = {0};
    tl_session_arm(s, tl_session_beat_ms(s));
    if (s->own_n > 0)
        return; /* the last one has not gone yet; TCP_USER_TIMEOUT and the stall timeout watch */
    tl_sse_comment(&out, "");
    if (tl_session_own_buf(s, &out))
        tl_session_pump(s);
}

/* Nothing is expected from an event stream's client. */
size_t tl_sse_on_input(struct tl_session *s, uint8_t *bytes, size_t n)
{
    (void)s;
    (void)bytes;
    return n;
}

const struct tl_phase tl_phase_sse = {
    .name = "sse",
    .on_input = tl_sse_on_input,
    .on_input_end = tl_session_close,
    .on_own_sent = on_own_sent,
    .on_timer = tl_sse_on_timer,
    .on_acknowledged = on_acknowledged,
    .on_refused = on_refused,
    .on_overflow = on_overflow,
    .on_passed = on_passed,
    .on_link_down = tl_sse_on_link_down,
    .on_drain = tl_session_finish,
};

bool tl_sse_respond(struct tl_session *s, const struct tl_phase *phase)
{
    struct tl_exchange *exchange = s->exchange;
    tl_buf_append(&exchange->reply.headers,
                  TL_LIT("Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"));
    struct tl_buf out = {.failed = exchange->reply.headers.failed};
    struct tl_http1_response response = {
        .status = 200,
        .content_type = "text/event-stream",
        .extra = tl_buf_bytes(&exchange->reply.headers),
        .minor = exchange->reply.minor,
        .until_close = true,
    };
    tl_http1_respond(&out, &response);
    tl_sse_retry(&out, RETRY_MS + (uint32_t)(tl_session_beat_ms(s) % RETRY_MS));
    tl_sse_comment(&out, "tramline");
    if (!tl_session_own_buf(s, &out))
        return false;
    tl_session_set_phase(s, phase);
    tl_session_gauge(s, TL_M_SSE_SESSIONS);
    tl_session_arm(s, tl_session_beat_ms(s));
    tl_conn_tune(&s->conn, (uint32_t)(2 * s->worker->config->ping_ms));
    tl_session_pump(s);
    return !s->closed;
}

void tl_sse_start_stream(struct tl_session *s)
{
    if (tl_sse_respond(s, &tl_phase_sse) &&
        !tl_session_subscribe(s, TL_LANE_SSE, tl_exchange_name(s->exchange)))
        on_refused(s, TL_BROKER_FULL);
}
