/* The phase of a session that reads HTTP requests: what is asked for, and may it be? */
#include "base/alloc.h"
#include "gateway/admission.h"
#include "gateway/exchange.h"
#include "gateway/many.h"
#include "gateway/pages.h"
#include "gateway/posts.h"

#include <assert.h>
#include <stdio.h>

#define IDLE_MS       75000 /* between the requests of a connection */
#define BODY_CHUNK    65536 /* for each so many bytes a body gets */
#define BODY_CHUNK_MS 4000  /* so much more time, and all of it the handshake's at first */
#define OWN_MAX       65536 /* unread responses: beyond, the next request waits */

#define BIT(kind)   (1u << (kind))
#define WS_KINDS    (BIT(TL_ROUTE_WS) | BIT(TL_ROUTE_DUPLEX))
#define SSE_KINDS   (BIT(TL_ROUTE_SSE) | BIT(TL_ROUTE_SSE_MANY))
#define GET_KINDS   (SSE_KINDS | BIT(TL_ROUTE_POSITION) | BIT(TL_ROUTE_INSPECT))
#define TERMS_KINDS (WS_KINDS | SSE_KINDS) /* the others ignore the query */

/* --- the exchange --- */

void tl_exchange_free(struct tl_session *s)
{
    struct tl_exchange *exchange = s->exchange;
    if (!exchange)
        return;
    tl_session_give_input(s);
    tl_inspect_forget(exchange->inspect);
    tl_asked_free(exchange->asked);
    tl_reply_deinit(&exchange->reply);
    tl_buf_deinit(&exchange->body);
    tl_free(exchange);
    s->exchange = NULL;
}

static bool exchange_new(struct tl_session *s)
{
    /* Not tl_zalloc(): glibc's calloc() does not look where the last request's was left. */
    s->exchange = tl_alloc(sizeof *s->exchange);
    if (!s->exchange) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_session_reset(s);
        return false;
    }
    memset(s->exchange, 0, sizeof *s->exchange);
    tl_http1_init(&s->exchange->http, s->worker->config->head_bytes_max);
    s->exchange->reply.minor = 1;
    tl_session_arm(s, s->worker->config->handshake_timeout_ms);
    return true;
}

/* The session's part of an answer is over: the next request, or the end. */
static void end_exchange(struct tl_session *s, bool keep_alive)
{
    if (!keep_alive) {
        tl_session_finish(s);
        return;
    }
    tl_session_set_phase(s, &tl_phase_request);
    tl_session_arm(s, IDLE_MS);
    tl_request_go_on(s);
}

/* What was written is the answer; the exchange is over. */
static void answer(struct tl_session *s, struct tl_buf *out)
{
    bool keep_alive = s->exchange->reply.keep_alive;
    tl_exchange_free(s);
    if (s->posts)
        tl_posts_add_answer(s, out, keep_alive);
    else if (tl_session_own_buf(s, out))
        end_exchange(s, keep_alive);
}

static struct tl_reply *reply_of(struct tl_session *s)
{
    struct tl_reply *reply = &s->exchange->reply;
    reply->keep_alive = reply->keep_alive && !s->worker->draining;
    return reply;
}

void tl_exchange_respond(struct tl_session *s, int status, const char *content_type,
                         struct tl_bytes body)
{
    struct tl_buf out = {0};
    tl_reply_write(reply_of(s), &out, status, content_type, body);
    answer(s, &out);
}

void tl_exchange_refuse(struct tl_session *s, int status, const char *error, const char *hint)
{
    struct tl_buf out = {0};
    tl_reply_refuse(reply_of(s), &out, status, error, hint);
    answer(s, &out);
}

void tl_exchange_lend(struct tl_session *s, const char *content_type, struct tl_bytes body)
{
    struct tl_buf out = {0};
    struct tl_reply *reply = reply_of(s);
    bool keep_alive = reply->keep_alive, with_body = !reply->is_head && body.n > 0;
    assert(!s->posts);
    tl_reply_write_head(reply, &out, 200, content_type, body);
    tl_exchange_free(s);
    if (tl_session_own_buf(s, &out) && (!with_body || tl_session_lend(s, body)))
        end_exchange(s, keep_alive);
}

bool tl_exchange_wants_snapshot(const struct tl_session *s)
{
    return s->exchange->route->kind != TL_ROUTE_POSITION &&
           tl_snapshot_is_wanted(s->sub.view, &s->exchange->terms);
}

enum tl_resume tl_exchange_start(struct tl_session *s, struct tl_mark *ret_from,
                                 uint64_t *ret_missed)
{
    if (tl_exchange_wants_snapshot(s)) {
        *ret_missed = 0;
        s->exchange->snapshot = tl_snapshot_start(s->sub.view, ret_from);
        return TL_RESUME_FROM;
    }
    return tl_exchange_start_in(s, s->sub.view, &s->exchange->terms, ret_from, ret_missed);
}

enum tl_resume tl_exchange_start_in(const struct tl_session *s, const struct tl_channel_view *view,
                                    const struct tl_terms *terms, struct tl_mark *ret_from,
                                    uint64_t *ret_missed)
{
    uint64_t now_ms = tl_loop_now_ms(s->worker->loop);
    if (view->rule->overflow != TL_OVERFLOW_LATEST)
        return tl_terms_start(terms, &view->view, now_ms, ret_from, ret_missed);
    /* A raw WebSocket's messages carry no positions. */
    *ret_missed = 0;
    return tl_terms_start_latest(terms, &view->view, now_ms, view->lane == TL_LANE_WS, ret_from);
}

/* --- CORS: an allowed page of another origin may read the answer --- */

static void add_cors(struct tl_exchange *exchange, const struct tl_http1_request *request)
{
    struct tl_bytes origin = tl_http1_header(request, "origin");
    if (origin.n == 0)
        return;
    tl_buf_str(&exchange->reply.headers, "Access-Control-Allow-Origin: ");
    tl_buf_append(&exchange->reply.headers, origin);
    tl_buf_str(&exchange->reply.headers, "\r\nVary: Origin\r\n");
}

static void add_allow(struct tl_exchange *exchange, const char *header, unsigned kinds)
{
    tl_buf_printf(&exchange->reply.headers, "%s: %s%s%sOPTIONS\r\n", header,
                  kinds & ~BIT(TL_ROUTE_PUB) ? "GET, " : "", kinds & GET_KINDS ? "HEAD, " : "",
                  kinds & BIT(TL_ROUTE_PUB) ? "POST, " : "");
}

static void answer_options(struct tl_session *s, const struct tl_http1_request *request,
                           unsigned kinds)
{
    struct tl_exchange *exchange = s->exchange;
    add_allow(exchange, "Allow", kinds);
    if (tl_http1_header(request, "origin").n > 0) {
        add_allow(exchange, "Access-Control-Allow-Methods", kinds);
        tl_buf_str(&exchange->reply.headers,
                   "Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID\r\n"
                   "Access-Control-Max-Age: 600\r\n");
    }
    tl_exchange_respond(s, 204, NULL, tl_bytes(NULL, 0));
}

/* --- admission --- */

struct ask {
    struct tl_session *s;
    const struct tl_http1_request *request;
    struct tl_page page; /* or a route */
};

/* A pattern channel gathers what is published to others. */
static bool refuse_pattern(struct tl_session *s)
{
    if (!tl_hub_is_pattern(s->worker->hub, tl_exchange_name(s->exchange)))
        return false;
    tl_exchange_refuse(s, 403, "a pattern channel cannot be published to",
                       "publish to one of the channels that it gathers");
    return true;
}

/* Wait in the pending phase until the channel is subscribed. */
static void await_channel(struct tl_session *s)
{
    tl_session_set_phase(s, &tl_phase_pending);
    tl_session_read(s, false);
    tl_session_arm(s, s->worker->config->subscribe_timeout_ms);
    if (!tl_session_subscribe(s, TL_LANE_WS, tl_exchange_name(s->exchange)))
        tl_exchange_refuse(s, 503, "out of memory", "try again");
}

static void start_websocket(struct tl_session *s, const struct tl_http1_request *request)
{
    struct tl_exchange *exchange = s->exchange;
    struct tl_bytes key;
    const char *reason = "";
    if (exchange->route->kind == TL_ROUTE_DUPLEX && refuse_pattern(s))
        return;
    int status = tl_http1_websocket_check(request, &key, &reason);
    if (status != 0) {
        tl_exchange_refuse(s, status, reason, "a WebSocket client connects here (RFC 6455)");
        return;
    }
    tl_ws_accept(key, exchange->accept);
    await_channel(s);
}

static void start_sse(struct tl_session *s)
{
    struct tl_exchange *exchange = s->exchange;
    if (!exchange->reply.is_head) {
        if (exchange->asked)
            tl_sse_many_start(s);
        else
            tl_sse_start_stream(s);
        return;
    }
    tl_buf_str(&exchange->reply.headers, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    tl_exchange_respond(s, 200, "text/event-stream", tl_bytes(NULL, 0));
}

static void publish_body(struct tl_session *s)
{
    s->exchange->reply.keep_alive = s->exchange->keep_alive_after_body;
    tl_posts_add(s);
}

static void start_publish(struct tl_session *s, const struct tl_http1_request *request)
{
    struct tl_exchange *exchange = s->exchange;
    if (refuse_pattern(s))
        return;
    if (request->content_length > s->worker->config->message_bytes_max) {
        tl_exchange_refuse(s, 413, "message too big", "see --max-message");
        return;
    }
    if (!request->has_body) {
        publish_body(s);
        return;
    }
    exchange->in_body = true;
    if (request->expect_100_continue && tl_session_own(s, TL_LIT("HTTP/1.1 100 Continue\r\n\r\n")))
        tl_session_pump(s);
}

static void on_verdict(void *arg, const struct tl_verdict *verdict)
{
    struct ask *ask = arg;
    struct tl_session *s = ask->s;
    if (verdict->status != 0) {
        tl_exchange_refuse(s, verdict->status, verdict->error, verdict->hint);
        return;
    }
    add_cors(s->exchange, ask->request);
    if (ask->page.kind != TL_PAGE_NONE) {
        tl_page_answer(s, ask->page);
        return;
    }
    if (TERMS_KINDS & BIT(s->exchange->route->kind) &&
        !tl_terms_read(ask->request, &s->exchange->terms)) {
        tl_exchange_refuse(s, 400, "received, strict and history are numbers",
                           "as in ?since=POSITION&received=12, ?strict=1, ?history=10 or 30s");
        return;
    }
    switch (s->exchange->route->kind) {
    case TL_ROUTE_WS:
    case TL_ROUTE_DUPLEX:
        start_websocket(s, ask->request);
        break;
    case TL_ROUTE_SSE:
    case TL_ROUTE_SSE_MANY:
        start_sse(s);
        break;
    case TL_ROUTE_POSITION:
        await_channel(s);
        break;
    case TL_ROUTE_INSPECT:
        tl_inspect_start(s);
        break;
    case TL_ROUTE_PUB:
        start_publish(s, ask->request);
        break;
    }
}

static void decide(struct tl_session *s, const struct tl_http1_request *request,
                   struct tl_page page)
{
    struct ask ask = {s, request, page};
    struct tl_admission_request admission = {
        .http = request,
        .action = TL_ADMIT_SUBSCRIBE,
        .channel = tl_exchange_name(s->exchange),
        .asked = s->exchange->asked,
        .listener_is_loopback = s->listener_is_loopback,
    };
    if (page.kind == TL_PAGE_METRICS ||
        (page.kind == TL_PAGE_NONE && s->exchange->route->kind == TL_ROUTE_INSPECT))
        admission.action = TL_ADMIT_OPERATE;
    else if (page.kind == TL_PAGE_NONE && (s->exchange->route->kind == TL_ROUTE_PUB ||
                                           s->exchange->route->kind == TL_ROUTE_DUPLEX))
        admission.action = TL_ADMIT_PUBLISH;
    tl_admission_decide(s->worker->config, &admission, on_verdict, &ask);
}

/* --- routing --- */

static unsigned wanted_kinds(const struct tl_http1_request *request)
{
    switch (request->method) {
    case TL_HTTP1_GET:
        return tl_http1_header_has_token(request, "upgrade", "websocket") ? WS_KINDS : GET_KINDS;
    case TL_HTTP1_HEAD:
        return GET_KINDS;
    case TL_HTTP1_POST:
        return BIT(TL_ROUTE_PUB);
    case TL_HTTP1_OPTIONS:
    case TL_HTTP1_OTHER:
        return 0;
    }
    return 0;
}

static void refuse_unrouted(struct tl_session *s, const struct tl_http1_request *request,
                            unsigned kinds)
{
    if (kinds == 0) {
        tl_exchange_refuse(s, 404, "no such path",
                           "try /ws/{channel}, /sse/{channel} or POST /pub/{channel}");
    } else if (request->method == TL_HTTP1_GET && kinds & WS_KINDS) {
        tl_exchange_refuse(s, 426, "this path is for WebSocket clients",
                           "connect with a WebSocket client, version 13");
    } else {
        add_allow(s->exchange, "Allow", kinds);
        tl_exchange_refuse(s, 405, "method not allowed here", "see the Allow header");
    }
}

/* False: refused. */
static bool read_asked(struct tl_session *s, const struct tl_http1_request *request)
{
    const char *error, *hint;
    int status;
    struct tl_asked *asked =
        tl_asked_read(request, s->worker->config->session_channels_max, &status, &error, &hint);
    if (asked)
        s->exchange->asked = asked;
    else
        tl_exchange_refuse(s, status, error, hint);
    return asked != NULL;
}

static void dispatch_route(struct tl_session *s, const struct tl_http1_request *request)
{
    struct tl_exchange *exchange = s->exchange;
    struct tl_route_match match;
    tl_routes_match(s->worker->routes, request->path, wanted_kinds(request), &match);
    if (request->method == TL_HTTP1_OPTIONS && match.kinds != 0) {
        if (tl_admission_origin(s->worker->config, request))
            add_cors(exchange, request);
        answer_options(s, request, match.kinds);
        return;
    }
    if (!match.route) {
        refuse_unrouted(s, request, match.kinds);
        return;
    }
    exchange->route = match.route;
    if (match.route->kind == TL_ROUTE_SSE_MANY) {
        if (read_asked(s, request))
            decide(s, request, (struct tl_page){TL_PAGE_NONE, NULL});
        return;
    }
    if (match.result != TL_TEMPLATE_MATCH || match.name_n == 0) {
        tl_exchange_refuse(s, 400,
                           match.result == TL_TEMPLATE_BAD_ENCODING ? "bad percent-encoding"
                           : match.result == TL_TEMPLATE_NAME_TOO_LONG
                               ? "channel name over 255 bytes"
                               : "channel name is empty",
                           "a channel's name is 1 to 255 bytes, percent-encoded in the path");
        return;
    }
    exchange->name_n = (uint8_t)match.name_n;
    memcpy(exchange->name, match.name, match.name_n);
    decide(s, request, (struct tl_page){TL_PAGE_NONE, NULL});
}

static void dispatch_page(struct tl_session *s, const struct tl_http1_request *request,
                          struct tl_page page)
{
    if (request->method == TL_HTTP1_GET || request->method == TL_HTTP1_HEAD) {
        decide(s, request, page);
        return;
    }
    tl_buf_str(&s->exchange->reply.headers, "Allow: GET, HEAD\r\n");
    tl_exchange_refuse(s, 405, "method not allowed here", "see the Allow header");
}

static void dispatch(struct tl_session *s, const struct tl_http1_request *request)
{
    struct tl_exchange *exchange = s->exchange;
    exchange->reply.minor = request->minor;
    exchange->reply.is_head = request->method == TL_HTTP1_HEAD;
    /* Behind a body that was not read whole the connection ends, or its bytes would be taken for
     * the next request, which the sender of the body then forges. */
    exchange->reply.keep_alive = request->keep_alive && !request->has_body;
    exchange->keep_alive_after_body = request->keep_alive;
    struct tl_page page = tl_page_find(s->worker->config, request->path);
    if (page.kind != TL_PAGE_NONE)
        dispatch_page(s, request, page);
    else
        dispatch_route(s, request);
}

/* --- reading --- */

static size_t read_head(struct tl_session *s, struct tl_bytes bytes)
{
    struct tl_http1_request request;
    size_t head_n = 0;
    switch (tl_http1_head(&s->exchange->http, bytes, &head_n, &request)) {
    case TL_PARSE_MORE:
        return 0;
    case TL_PARSE_BAD:
        tl_exchange_refuse(s, s->exchange->http.status, s->exchange->http.reason,
                           "HTTP/1.1 as in RFC 9112 is spoken here");
        return bytes.n;
    case TL_PARSE_DONE:
        break;
    }
    if (s->posts && (request.method != TL_HTTP1_POST || request.expect_100_continue)) {
        /* It begins when all before it is answered: read anew then. */
        tl_exchange_free(s);
        tl_session_read(s, false);
        return 0;
    }
    dispatch(s, &request);
    return head_n;
}

/* A body that is refused half-way is not read on: the connection ends. */
static size_t refuse_body(struct tl_session *s, int status, const char *error, size_t n)
{
    s->exchange->reply.keep_alive = false;
    tl_exchange_refuse(s, status, error,
                       status == 413   ? "see --max-message"
                       : status == 503 ? "try again"
                                       : "a body as in RFC 9112 6 is read here");
    return n;
}

static size_t read_body(struct tl_session *s, struct tl_bytes bytes)
{
    struct tl_exchange *exchange = s->exchange;
    size_t used = 0;
    enum tl_parse r = TL_PARSE_MORE;
    while (r == TL_PARSE_MORE && used < bytes.n) {
        size_t part = 0;
        struct tl_bytes chunk = {0};
        r = tl_http1_body(&exchange->http, tl_bytes_skip(bytes, used), &part, &chunk);
        used += part;
        if (r == TL_PARSE_BAD)
            return refuse_body(s, exchange->http.status, exchange->http.reason, bytes.n);
        if (chunk.n + tl_http1_body_left(&exchange->http) >
            s->worker->config->message_bytes_max - exchange->body.n)
            return refuse_body(s, 413, "message too big", bytes.n);
        if (!tl_session_take_input(s, chunk.n))
            return refuse_body(s, 503, "too many bodies at once: not published", bytes.n);
        tl_buf_append(&exchange->body, chunk);
        if (exchange->body.failed) {
            tl_metric_add(TL_M_REFUSED_MEMORY, 1);
            return refuse_body(s, 503, "out of memory: not published", bytes.n);
        }
        if (r == TL_PARSE_MORE && part == 0)
            break;
    }
    if (exchange->body.n - exchange->body_seen >= BODY_CHUNK) {
        exchange->body_seen = exchange->body.n;
        tl_session_arm(s, BODY_CHUNK_MS);
    }
    if (r == TL_PARSE_DONE)
        publish_body(s);
    return used;
}

static size_t on_input(struct tl_session *s, uint8_t *bytes, size_t n)
{
    if (!s->exchange && !exchange_new(s))
        return n;
    return s->exchange->in_body ? read_body(s, tl_bytes(bytes, n))
                                : read_head(s, tl_bytes(bytes, n));
}

static void on_own_sent(struct tl_session *s)
{
    if (!s->posts)
        tl_session_resume_input(s);
}

/* What is due is answered first. */
static void on_input_end(struct tl_session *s)
{
    if (!s->posts)
        tl_session_finish(s);
}

static void on_timer(struct tl_session *s)
{
    if (!s->exchange && (s->posts || s->own_n > 0)) {
        /* The broker answers or is given up, the client reads or stalls: in bounded time. */
        tl_session_arm(s, IDLE_MS);
        return;
    }
    if (!s->exchange) {
        if (!s->alive)
            tl_metric_add(TL_M_HANDSHAKE_TIMEOUTS, 1);
        tl_session_close(s);
        return;
    }
    tl_metric_add(TL_M_HANDSHAKE_TIMEOUTS, 1);
    s->exchange->reply.keep_alive = false;
    tl_exchange_refuse(s, 408, "the request did not come in time", "see --handshake-timeout");
}

/* Between requests it may go; within one it is answered first. */
static void on_drain(struct tl_session *s)
{
    if (s->posts)
        tl_posts_drain(s);
    else if (!s->exchange)
        tl_session_finish(s);
}

const struct tl_phase tl_phase_request = {
    .name = "request",
    .on_input = on_input,
    .on_input_end = on_input_end,
    .on_own_sent = on_own_sent,
    .on_timer = on_timer,
    .on_drain = on_drain,
};

void tl_request_start(struct tl_session *s)
{
    tl_session_set_phase(s, &tl_phase_request);
    tl_session_arm(s, s->worker->config->handshake_timeout_ms);
}

void tl_request_go_on(struct tl_session *s)
{
    tl_session_pump(s);
    /* The pump may have gone on to the next request already. */
    if (s->closed || s->phase != &tl_phase_request || s->exchange || s->posts)
        return;
    if (s->own_n <= OWN_MAX)
        tl_session_resume_input(s);
    else
        tl_session_read(s, false); /* on_own_sent goes on */
}
