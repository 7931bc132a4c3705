#include "app/subscriber.h"

#include "app/commands.h"
#include "app/http_client.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "proto/sse.h"
#include "proto/url.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 5000
#define RETRY_MS           1000
#define EVENT_BYTES_MAX    (1u << 30) /* base64 of what Redis takes at most fits */

/* One channel: one connection, made again whenever it ends. */
struct watch {
    const struct tl_subscribe_job *job;
    struct tl_bytes channel;
    struct tl_http_client *http;
    struct tl_sse_parser parser;
    struct tl_buf last_id;
    struct tl_buf refusal; /* the body of an answer that is not 200 */
    struct tl_buf name, payload;
    uint64_t retry_at_ms; /* while there is no connection */
    unsigned status;
    bool was_live;
    bool ended;  /* the answer is whole: on a stream that means try again */
    bool stop;   /* the sink has enough */
    bool failed; /* for good; it was said */
};

static void on_message(struct watch *w, const struct tl_sse_received *event)
{
    w->name.n = w->payload.n = 0;
    if (tl_sse_decode(event, &w->name, &w->payload) < 0) {
        tl_command_say("subscribe", "an event that cannot be decoded was skipped");
        return;
    }
    struct tl_received message = {w->channel, tl_buf_bytes(&w->name), event->id,
                                  tl_buf_bytes(&w->payload)};
    w->stop = !w->job->sink->on_message(w->job->sink, &message);
}

/* The gateway's own words, which are no messages. */
static bool is_told(struct tl_bytes event)
{
    return tl_bytes_eq(event, TL_LIT("gap")) || tl_bytes_eq(event, TL_LIT("broker")) ||
           tl_bytes_eq(event, TL_LIT("snapshot")) || tl_bytes_eq(event, TL_LIT("expired"));
}

static void on_event(const struct tl_sse_received *event, void *arg)
{
    struct watch *w = arg;
    if (w->stop)
        return;
    if (is_told(event->event))
        tl_command_say("subscribe", "%.*s: %.*s: %.*s", (int)w->channel.n,
                       (const char *)w->channel.p, (int)event->event.n,
                       (const char *)event->event.p, (int)event->data.n,
                       (const char *)event->data.p);
    else
        on_message(w, event);
}

static void on_head(void *user, unsigned status)
{
    struct watch *w = user;
    w->status = status;
    w->refusal.n = 0;
    if (status != 200)
        return;
    tl_command_say("subscribe", "%s to %.*s", w->was_live ? "back" : "connected", (int)w->channel.n,
                   (const char *)w->channel.p);
    w->was_live = true;
}

static void on_body(void *user, struct tl_bytes part)
{
    struct watch *w = user;
    if (w->status != 200) {
        if (w->refusal.n < 400)
            tl_buf_append(&w->refusal, part.n < 400 ? part : tl_bytes(part.p, 400));
        return;
    }
    if (tl_sse_parse(&w->parser, part) == TL_PARSE_BAD && !w->failed) {
        tl_command_say("subscribe", "not an event stream: %s", w->parser.reason);
        w->failed = true;
    }
}

static void on_end(void *user)
{
    struct watch *w = user;
    w->ended = true;
    if (w->status == 200 || w->status == 503)
        return;
    tl_command_say("subscribe", "%.*s: refused with %u: %.*s", (int)w->channel.n,
                   (const char *)w->channel.p, w->status, (int)w->refusal.n,
                   w->refusal.p ? (const char *)w->refusal.p : "");
    w->failed = true;
}

static const struct tl_http_events http_events = {on_head, on_body, on_end};

static int start(struct watch *w, const struct tl_subscribe_job *job, const char *channel)
{
    w->job = job;
    w->channel = tl_bytes_str(channel);
    tl_sse_parser_init(&w->parser, EVENT_BYTES_MAX, on_event, w);
    return tl_http_client_new(&w->http, job->url, job->token, &http_events, w);
}

static void end(struct watch *w)
{
    tl_http_client_free(w->http);
    tl_sse_parser_deinit(&w->parser);
    tl_buf_deinit(&w->last_id);
    tl_buf_deinit(&w->refusal);
    tl_buf_deinit(&w->name);
    tl_buf_deinit(&w->payload);
}

/* A new stream has a new parser; the last id goes with the request. */
static int request(struct watch *w)
{
    struct tl_buf target = {0}, headers = {0};
    uint32_t retry_ms = w->parser.retry_ms;
    w->ended = false;
    w->status = 0;
    if (w->parser.id.n > 0) {
        w->last_id.n = 0;
        tl_buf_append(&w->last_id, tl_buf_bytes(&w->parser.id));
    }
    tl_sse_parser_deinit(&w->parser);
    tl_sse_parser_init(&w->parser, EVENT_BYTES_MAX, on_event, w);
    w->parser.retry_ms = retry_ms;
    tl_buf_str(&target, "/sse/");
    tl_url_encode(&target, w->channel);
    tl_buf_byte(&target, 0);
    tl_buf_str(&headers, "Accept: text/event-stream\r\n");
    if (w->last_id.n > 0)
        tl_buf_printf(&headers, "Last-Event-ID: %.*s\r\n", (int)w->last_id.n,
                      (const char *)w->last_id.p);
    tl_buf_byte(&headers, 0);
    int rc = -ENOMEM;
    if (!target.failed && !headers.failed && !w->last_id.failed)
        rc = tl_http_client_request(w->http, "GET", (char *)target.p, (char *)headers.p,
                                    tl_bytes(NULL, 0));
    tl_buf_deinit(&target);
    tl_buf_deinit(&headers);
    return rc;
}

static void retry_later(struct watch *w)
{
    w->retry_at_ms = tl_clock_ms() + (w->parser.retry_ms > 0 ? w->parser.retry_ms : RETRY_MS);
}

/* The first failure ends it: then it is the address that is wrong. */
static void connect_now(struct watch *w)
{
    if (tl_http_client_connect(w->http, CONNECT_TIMEOUT_MS) == 0) {
        w->failed = w->failed || request(w) < 0;
        return;
    }
    retry_later(w);
    if (w->was_live)
        return;
    tl_command_say("subscribe", "cannot reach %s: %s; is `tramline serve` running there?",
                   tl_http_client_where(w->http), tl_http_client_error(w->http));
    w->failed = true;
}

static void move(struct watch *w)
{
    int rc = tl_http_client_io(w->http);
    if ((rc == 0 && !w->ended) || w->failed || w->stop)
        return;
    const char *why = w->status == 503 ? "the gateway cannot serve it now (503)"
                      : w->ended       ? "the stream ended"
                                       : tl_http_client_error(w->http);
    tl_command_say("subscribe", "%.*s: %s; trying again", (int)w->channel.n,
                   (const char *)w->channel.p, why);
    tl_http_client_close(w->http);
    retry_later(w);
}

/* Connect what is due; returns the milliseconds until the next is, -1 for none. */
static int64_t connect_due(struct watch *watches, size_t n)
{
    int64_t next_ms = -1;
    for (size_t i = 0; i < n; i++) {
        struct watch *w = &watches[i];
        if (tl_http_client_fd(w->http) >= 0 || w->failed)
            continue;
        uint64_t now_ms = tl_clock_ms();
        if (now_ms >= w->retry_at_ms)
            connect_now(w);
        now_ms = tl_clock_ms();
        if (tl_http_client_fd(w->http) >= 0 || w->failed)
            continue;
        int64_t left_ms = w->retry_at_ms > now_ms ? (int64_t)(w->retry_at_ms - now_ms) : 0;
        next_ms = next_ms < 0 || left_ms < next_ms ? left_ms : next_ms;
    }
    return next_ms;
}

static bool any(const struct watch *watches, size_t n, bool *ret_failed)
{
    bool stop = false;
    for (size_t i = 0; i < n; i++) {
        stop = stop || watches[i].stop || watches[i].failed;
        *ret_failed = *ret_failed || watches[i].failed;
    }
    return stop;
}

static int follow(struct watch *watches, struct pollfd *fds, const struct tl_subscribe_job *job)
{
    size_t n = job->channels_n;
    bool failed = false;
    while (!*job->interrupted) {
        int64_t wait_ms = connect_due(watches, n);
        if (any(watches, n, &failed))
            break;
        for (size_t i = 0; i < n; i++)
            fds[i] = (struct pollfd){tl_http_client_fd(watches[i].http),
                                     tl_http_client_poll_events(watches[i].http), 0};
        struct timespec wait = {wait_ms / 1000, wait_ms % 1000 * 1000000};
        int ready = ppoll(fds, n, wait_ms < 0 ? NULL : &wait, job->signals_open);
        for (size_t i = 0; ready > 0 && i < n; i++)
            if (fds[i].revents)
                move(&watches[i]);
        if (any(watches, n, &failed))
            break;
    }
    return failed ? 1 : 0;
}

int tl_subscribe_sse(const struct tl_subscribe_job *job)
{
    size_t n = job->channels_n, started = 0;
    struct watch *watches = tl_zalloc(n * sizeof *watches);
    struct pollfd *fds = tl_zalloc(n * sizeof *fds);
    int rc = watches && fds ? 0 : -ENOMEM;
    for (; rc == 0 && started < n; started++)
        rc = start(&watches[started], job, job->channels[started]);
    int status = rc == 0 ? follow(watches, fds, job) : rc == -EINVAL ? 2 : 1;
    if (rc == -EINVAL)
        tl_command_say("subscribe", "--from: no address; write http://host:port, "
                                    "redis://host:port or redis+unix:///path");
    else if (rc < 0)
        tl_command_say("subscribe", "out of memory");
    for (size_t i = 0; i < started; i++)
        end(&watches[i]);
    tl_free(watches);
    tl_free(fds);
    return status;
}
