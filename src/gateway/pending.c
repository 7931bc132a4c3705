/*
 * The phase of a session whose request waits for the broker: the 101 of a WebSocket is held back
 * until its channel is subscribed, and so is the answer to where a channel stands; the answer to an
 * operator's question waits for the hub and the workers.
 */
#include "gateway/exchange.h"

#include <stdio.h>

/* The channel is open now, and its log is kept for the linger: time enough to come with ?since=. */
static void answer_position(struct tl_session *s)
{
    const struct tl_view *view = &s->sub.view->view;
    char json[TL_POSITION_TEXT_MAX + 24], token[TL_POSITION_TEXT_MAX];
    tl_position_print(tl_view_position(view, view->head), token);
    int n = snprintf(json, sizeof json, "{\"position\":\"%s\"}\n", token);
    tl_subscription_close(&s->sub);
    tl_exchange_respond(s, 200, "application/json", tl_bytes(json, (size_t)n));
}

static void on_acknowledged(struct tl_session *s)
{
    struct tl_buf out = {0};
    if (s->exchange->route->kind == TL_ROUTE_POSITION) {
        answer_position(s);
        return;
    }
    tl_buf_str(&out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    tl_buf_str(&out, s->exchange->accept);
    tl_buf_str(&out, "\r\n\r\n");
    if (tl_session_own_buf(s, &out))
        tl_websocket_start(s);
}

static void refuse(struct tl_session *s, int status, const char *error, const char *hint)
{
    tl_subscription_close(&s->sub);
    tl_exchange_refuse(s, status, error, hint);
}

static void on_refused(struct tl_session *s, enum tl_broker_status why)
{
    if (why == TL_BROKER_DENIED)
        refuse(s, 403, "the broker forbids this channel", "see the ACL of the gateway's user");
    else if (why == TL_BROKER_FULL)
        refuse(s, 503, "no room for another channel", "see --max-channels");
    else
        refuse(s, 503, "the broker does not serve this channel", "see the gateway's log");
}

static void on_timer(struct tl_session *s)
{
    if (!s->sub.view)
        return; /* an inspection: nothing that it asks can be long in coming */
    tl_metric_add(TL_M_SUBSCRIBE_TIMEOUTS, 1);
    refuse(s, 503, "the broker did not confirm the channel in time",
           "try again; see /readyz and --subscribe-timeout");
}

static void on_link_down(struct tl_session *s)
{
    (void)s; /* it may be back within the subscribe timeout */
}

static size_t on_input(struct tl_session *s, uint8_t *bytes, size_t n)
{
    (void)s;
    (void)bytes;
    (void)n;
    return 0;
}

static void on_drain(struct tl_session *s)
{
    /* An inspection's answer is on its way, or finds the request answered. */
    if (s->sub.view || tl_loop_now_ms(s->worker->loop) >= s->worker->drain_until_ms)
        refuse(s, 503, "the gateway is going away", "connect again");
}

const struct tl_phase tl_phase_pending = {
    .name = "pending",
    .on_input = on_input,
    .on_input_end = tl_session_close,
    .on_timer = on_timer,
    .on_acknowledged = on_acknowledged,
    .on_refused = on_refused,
    .on_link_down = on_link_down,
    .on_drain = on_drain,
};
