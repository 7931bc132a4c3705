#include "broker/redis_link.h"

#include "base/metrics.h"
#include "base/random.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <unistd.h>

enum { STEP_AUTH, STEP_SELECT, STEP_SETNAME, STEP_PING };
static const char *const step_names[] = {"AUTH", "SELECT", "CLIENT SETNAME", "PING"};

enum { PING_NONE, PING_DUE, PING_SENT };

/* A link that was up for this long starts anew with its retries. */
#define STABLE_MS 1000
/* How long received bytes are waited for after a send failed. */
#define BROKEN_MS 200
/* And when a send that found no memory is tried again. */
#define MEMORY_RETRY_MS 20
/* Bytes in the last second or two above which an end of the subscriber's link looks like Redis'
 * buffer limit; the lower one where the end was a rough one. */
#define FLOOD_BYTES ((uint64_t)64 << 10)
#define ROUGH_BYTES ((uint64_t)8 << 10)
#define REASON_MAX  300

static bool error_starts(struct tl_bytes words, const char *prefix)
{
    return tl_bytes_starts(words, tl_bytes_str(prefix));
}

int tl_redis_link_command(struct tl_buf *out, int argc, const char *const *argv,
                          const size_t *lengths)
{
    char *text = NULL;
    const char *args[512];
    assert(argc > 0 && argc <= 512);
    memcpy(args, argv, (size_t)argc * sizeof *args); /* hiredis takes pointers to non-const */
    int n = redisFormatCommandArgv(&text, argc, args, lengths);
    if (n < 0) {
        out->failed = true;
        return -ENOMEM;
    }
    tl_buf_append(out, tl_bytes(text, (size_t)n));
    redisFreeCommand(text);
    return out->failed ? -ENOMEM : 0;
}

const char *tl_redis_link_words(const struct tl_redis_link *l, struct tl_bytes words, char *out,
                                size_t out_n)
{
    const char *secret = l->options->password;
    if (secret && *secret && words.n > 0 && memmem(words.p, words.n, secret, strlen(secret))) {
        snprintf(out, out_n, "an error that repeats the password");
        return out;
    }
    size_t n = words.n < out_n - 1 ? words.n : out_n - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(words.p[i] >= 0x20 && words.p[i] < 0x7f ? words.p[i] : '?');
    out[n] = 0;
    return out;
}

/* ---- losing and trying again ---- */

static void dial(struct tl_redis_link *l)
{
    const struct tl_redis_options *o = l->options;
    l->state = TL_REDIS_DIALLING;
    tl_connector_start(&l->connector, &(struct tl_connector_peer){o->host, o->port, o->unix_path},
                       o->dial_timeout_ms);
}

static void wait_for_retry(struct tl_redis_link *l)
{
    l->state = TL_REDIS_WAITING;
    tl_loop_timer_start(l->loop, &l->timer, l->retry_ms);
}

/* What the next attempt waits: 0, 50, 100, 200, then up to 500 ms, spread. */
static uint64_t retry_delay(struct tl_redis_link *l)
{
    static const uint16_t first[] = {0, 50, 100, 200};
    uint32_t n = l->failures;
    if (n < UINT32_MAX)
        l->failures++;
    if (n < sizeof first / sizeof *first)
        return first[n];
    return TL_REDIS_RETRY_MAX_MS / 2 + tl_random_below(TL_REDIS_RETRY_MAX_MS / 2 + 1);
}

static void lose(struct tl_redis_link *l, const char *reason, uint64_t retry_ms)
{
    bool was_up = l->state == TL_REDIS_UP;
    tl_timer_stop(tl_loop_timers(l->loop), &l->timer);
    if (was_up && tl_loop_now_ms(l->loop) - l->up_ms >= STABLE_MS)
        l->failures = 0;
    uint64_t delay = retry_delay(l);
    l->retry_ms = retry_ms ? retry_ms : delay;
    tl_metric_add(was_up ? TL_M_BROKER_LOSSES : TL_M_BROKER_RETRIES, 1);
    if (l->stream_open) {
        l->state = TL_REDIS_CLOSING;
        tl_stream_close(&l->stream);
    } else {
        wait_for_retry(l);
    }
    l->handler->on_trouble(l, reason, l->retry_ms);
    if (was_up)
        l->handler->on_down(l, reason);
}

void tl_redis_link_lose(struct tl_redis_link *l, const char *reason)
{
    if (l->state == TL_REDIS_HANDSHAKE || l->state == TL_REDIS_UP)
        lose(l, reason, 0);
}

static bool is_open(const struct tl_redis_link *l)
{
    return l->state == TL_REDIS_HANDSHAKE || l->state == TL_REDIS_UP;
}

/* ---- sending ---- */

static void append_words(struct tl_buf *out, int argc, const char *const *argv)
{
    size_t lengths[4];
    assert(argc <= 4);
    for (int i = 0; i < argc; i++)
        lengths[i] = strlen(argv[i]);
    (void)tl_redis_link_command(out, argc, argv, lengths);
}

static void add_step(struct tl_redis_link *l, uint8_t step, int argc, const char *const *argv)
{
    l->handshake.steps[l->handshake.n++] = step;
    append_words(&l->flight.buf, argc, argv);
}

/* All of it at once: the answers come in order, and the first refusal ends it. */
static void append_handshake(struct tl_redis_link *l)
{
    const struct tl_redis_options *o = l->options;
    char db[16], name[48];
    if (o->password && o->user)
        add_step(l, STEP_AUTH, 3, (const char *[]){"AUTH", o->user, o->password});
    else if (o->password)
        add_step(l, STEP_AUTH, 2, (const char *[]){"AUTH", o->password});
    snprintf(db, sizeof db, "%u", o->db);
    if (o->db > 0)
        add_step(l, STEP_SELECT, 2, (const char *[]){"SELECT", db});
    snprintf(name, sizeof name, "tramline-%ld-%s", (long)getpid(), l->role);
    add_step(l, STEP_SETNAME, 3, (const char *[]){"CLIENT", "SETNAME", name});
    /* Asks what the others do not tell: NOAUTH without a password, LOADING, MASTERDOWN. */
    add_step(l, STEP_PING, 1, (const char *[]){"PING"});
}

static void refill(struct tl_redis_link *l)
{
    struct tl_buf *buf = &l->flight.buf;
    if (buf->cap > 4 * TL_REDIS_BATCH_BYTES)
        tl_buf_deinit(buf);
    buf->n = l->flight.done = 0;
    if (l->state != TL_REDIS_UP)
        return;
    if (l->ping.state == PING_DUE && !l->mid_command) {
        l->ping.state = PING_SENT;
        l->ping.before = l->sent;
        append_words(buf, 1, (const char *[]){"PING"});
    }
    l->sent += l->handler->fill(l, buf);
}

static void watch(struct tl_redis_link *l);

static void on_send_error(struct tl_redis_link *l, ssize_t n)
{
    if (n == -ENOMEM) { /* not now: the watchdog's next tick tries again */
        if (l->state == TL_REDIS_UP)
            tl_loop_timer_start(l->loop, &l->timer, MEMORY_RETRY_MS);
        return;
    }
    l->flight.broken = true;
    tl_loop_timer_start(l->loop, &l->timer, BROKEN_MS);
}

static void flush(struct tl_redis_link *l)
{
    while (is_open(l) && !l->flight.pending && !l->flight.broken) {
        if (l->flight.done == l->flight.buf.n)
            refill(l);
        if (l->flight.buf.failed) {
            lose(l, "no memory for commands", 0);
            return;
        }
        if (l->flight.buf.n == 0)
            return;
        struct tl_bytes rest = tl_bytes_skip(tl_buf_bytes(&l->flight.buf), l->flight.done);
        ssize_t n = tl_stream_send(&l->stream, &rest, 1);
        if (n == TL_SEND_PENDING)
            l->flight.pending = true;
        else if (n < 0) {
            on_send_error(l, n);
            return;
        } else
            l->flight.done += (size_t)n;
    }
}

void tl_redis_link_flush(struct tl_redis_link *l)
{
    if (l->state == TL_REDIS_UP)
        flush(l);
}

static void on_sent(struct tl_stream *s, ssize_t n)
{
    struct tl_redis_link *l = TL_CONTAINER(s, struct tl_redis_link, stream);
    l->flight.pending = false;
    if (n < 0) {
        on_send_error(l, n);
        return;
    }
    /* A backlog that moves is life too: a long upload hears nothing meanwhile. */
    l->life_ms = tl_loop_now_ms(l->loop);
    l->flight.done += (size_t)n;
    flush(l);
}

/* ---- the watchdog ---- */

static void watch(struct tl_redis_link *l)
{
    const struct tl_redis_options *o = l->options;
    uint64_t now = tl_loop_now_ms(l->loop);
    uint64_t due = l->life_ms + o->ping_ms;
    if (l->ping.state != PING_NONE)
        due = (l->life_ms > l->ping.since_ms ? l->life_ms : l->ping.since_ms) + o->dead_ms -
              o->ping_ms;
    tl_loop_timer_start(l->loop, &l->timer, due > now ? due - now : 0);
}

/* The timer while up. Only silence after a PING counts, so that a gateway that was stopped itself
 * does not take its own sleep for Redis'. */
static void on_watch(struct tl_redis_link *l)
{
    const struct tl_redis_options *o = l->options;
    uint64_t now = tl_loop_now_ms(l->loop);
    uint64_t since = l->life_ms > l->ping.since_ms ? l->life_ms : l->ping.since_ms;
    if (l->ping.state != PING_NONE && now - since >= o->dead_ms - o->ping_ms) {
        char reason[64];
        snprintf(reason, sizeof reason, "silent for %u ms", o->dead_ms);
        lose(l, reason, 0);
        return;
    }
    if (l->ping.state == PING_NONE && now - l->life_ms >= o->ping_ms) {
        l->ping.state = PING_DUE;
        l->ping.since_ms = now;
    }
    watch(l);
    flush(l);
}

uint32_t tl_redis_link_ping(struct tl_redis_link *l)
{
    assert(l->state == TL_REDIS_UP);
    if (l->ping.state == PING_SENT) {
        l->ping.again = true;
        return l->ping.answered + 2;
    }
    if (l->ping.state == PING_NONE) {
        l->ping.state = PING_DUE;
        l->ping.since_ms = tl_loop_now_ms(l->loop);
        watch(l);
    }
    return l->ping.answered + 1;
}

static void on_timer(struct tl_timer *timer)
{
    struct tl_redis_link *l = TL_CONTAINER(timer, struct tl_redis_link, timer);
    if (l->state == TL_REDIS_WAITING)
        dial(l);
    else if (l->flight.broken)
        lose(l, "the connection broke while sending", 0);
    else if (l->state == TL_REDIS_HANDSHAKE)
        lose(l, "connected, but no answer in time", 0);
    else if (l->state == TL_REDIS_UP)
        on_watch(l);
}

/* ---- the handshake ---- */

/* Errors that pass by themselves. */
static bool is_passing(struct tl_bytes words)
{
    static const char *const prefixes[] = {"LOADING",     "MASTERDOWN",        "BUSY", "READONLY",
                                           "CLUSTERDOWN", "ERR max number of", "MOVED"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (error_starts(words, prefixes[i]))
            return true;
    return false;
}

/* Somebody must change the configuration: trying hard does not help. */
static bool is_for_people(uint8_t step, struct tl_bytes words)
{
    if (is_passing(words))
        return false;
    return step == STEP_AUTH || step == STEP_SELECT || error_starts(words, "NOAUTH") ||
           error_starts(words, "WRONGPASS") || error_starts(words, "NOPERM") ||
           error_starts(words, "DENIED");
}

/* The step is not needed, and the error is about this command alone. */
static bool is_ignored(uint8_t step, struct tl_bytes words)
{
    if (step == STEP_PING)
        return error_starts(words, "NOPERM");
    return step == STEP_SETNAME &&
           (error_starts(words, "NOPERM") ||
            (error_starts(words, "ERR") && !error_starts(words, "ERR max number of")));
}

static void on_all_answered(struct tl_redis_link *l)
{
    l->state = TL_REDIS_UP;
    l->up_ms = l->life_ms = tl_loop_now_ms(l->loop);
    l->ping.state = PING_NONE;
    l->ping.again = false;
    l->ping.answered += 2; /* whatever was waited for on the link before */
    l->sent = l->answered = 0;
    l->mid_command = false;
    tl_metric_add(TL_M_BROKER_CONNECTS, 1);
    watch(l);
    l->handler->on_up(l);
}

static void on_handshake_reply(struct tl_redis_link *l)
{
    uint8_t step = l->handshake.steps[l->handshake.done];
    const struct tl_resp_value *answer = &l->resp.top;
    if (answer->type == TL_RESP_ERROR && !is_ignored(step, answer->bytes)) {
        char words[200], reason[REASON_MAX];
        tl_redis_link_words(l, answer->bytes, words, sizeof words);
        snprintf(reason, sizeof reason, "%s refused: %s", step_names[step], words);
        tl_metric_add(TL_M_BROKER_REFUSALS, 1);
        lose(l, reason, is_for_people(step, answer->bytes) ? l->options->auth_retry_ms : 0);
        return;
    }
    if (answer->type != TL_RESP_ERROR && !tl_resp_is(answer, step == STEP_PING ? "PONG" : "OK")) {
        lose(l, "protocol error: not an answer to the handshake", 0);
        return;
    }
    if (++l->handshake.done == l->handshake.n)
        on_all_answered(l);
}

/* ---- receiving ---- */

static void end_ping(struct tl_redis_link *l)
{
    l->ping.answered++;
    l->ping.state = l->ping.again ? PING_DUE : PING_NONE;
    l->ping.since_ms = l->ping.again ? tl_loop_now_ms(l->loop) : l->ping.since_ms;
    l->ping.again = false;
}

static bool is_ping_answer(const struct tl_redis_link *l)
{
    if (l->ping.state != PING_SENT || l->answered != l->ping.before)
        return false;
    const struct tl_resp_value *top = &l->resp.top;
    return top->type == TL_RESP_ERROR || tl_resp_is(top, "PONG") ||
           (top->type == TL_RESP_ARRAY && l->resp.values_n > 0 &&
            tl_resp_is(&l->resp.values[0], "pong"));
}

static void lose_for_error(struct tl_redis_link *l, const char *what)
{
    char words[200], reason[REASON_MAX];
    tl_redis_link_words(l, l->resp.top.bytes, words, sizeof words);
    snprintf(reason, sizeof reason, "%s: %s", what, words);
    tl_metric_add(TL_M_BROKER_REFUSALS, 1);
    lose(l, reason, 0);
}

static void on_reply(struct tl_redis_link *l)
{
    const struct tl_resp_value *top = &l->resp.top;
    bool is_error = top->type == TL_RESP_ERROR;
    if (l->state == TL_REDIS_HANDSHAKE) {
        on_handshake_reply(l);
    } else if (is_ping_answer(l)) {
        end_ping(l);
        watch(l); /* for the next silence, not for this PING's death */
        /* LOADING, MASTERDOWN: alive, but messages may be missing meanwhile. */
        if (is_error && !error_starts(top->bytes, "NOPERM"))
            lose_for_error(l, "PING refused");
        else if (l->handler->on_pong)
            l->handler->on_pong(l);
    } else if (is_error && l->answered == l->sent) {
        lose_for_error(l, "closed by Redis");
    } else {
        const char *nonsense = l->handler->on_reply(l, &l->resp);
        if (nonsense && is_open(l))
            lose(l, nonsense, 0);
    }
}

/* Count what flows, by the second. */
static void count_flow(struct tl_redis_link *l, size_t n)
{
    uint64_t now = tl_loop_now_ms(l->loop);
    if (now - l->flow.since_ms >= 1000) {
        l->flow.before = now - l->flow.since_ms < 2000 ? l->flow.now : 0;
        l->flow.now = 0;
        l->flow.since_ms = now;
    }
    l->flow.now += n;
}

/* Redis cuts off subscribers that it cannot send to, and says so in its own log only. */
static bool is_cut_off(struct tl_redis_link *l, bool rough)
{
    count_flow(l, 0);
    return l->state == TL_REDIS_UP && strcmp(l->role, "sub") == 0 &&
           l->flow.now + l->flow.before >= (rough ? ROUGH_BYTES : FLOOD_BYTES);
}

static void lose_at_end(struct tl_redis_link *l, ssize_t n)
{
    char reason[REASON_MAX];
    bool cut = tl_resp_is_within(&l->resp);
    snprintf(reason, sizeof reason, "%s%s%s", n == 0 ? "closed by Redis" : strerror((int)-n),
             cut ? " in the middle of an answer" : "",
             is_cut_off(l, cut || n < 0)
                 ? " while much was flowing, probably for client-output-buffer-limit pubsub"
                 : "");
    lose(l, reason, 0);
}

static void on_recv(struct tl_stream *s, uint8_t *bytes, ssize_t n)
{
    struct tl_redis_link *l = TL_CONTAINER(s, struct tl_redis_link, stream);
    if (!is_open(l))
        return;
    if (n <= 0) {
        lose_at_end(l, n);
        return;
    }
    l->life_ms = tl_loop_now_ms(l->loop);
    count_flow(l, (size_t)n);
    struct tl_bytes in = tl_bytes(bytes, (size_t)n);
    while (in.n > 0 && is_open(l)) {
        size_t used;
        enum tl_parse got = tl_resp_push(&l->resp, in, &used);
        in = tl_bytes_skip(in, used);
        if (got == TL_PARSE_BAD) {
            char reason[REASON_MAX];
            snprintf(reason, sizeof reason, "protocol error: %s", l->resp.reason);
            lose(l, reason, 0);
        } else if (got == TL_PARSE_DONE) {
            on_reply(l);
        }
    }
}

static void on_closed(struct tl_stream *s)
{
    struct tl_redis_link *l = TL_CONTAINER(s, struct tl_redis_link, stream);
    l->stream_open = false;
    tl_resp_reset(&l->resp);
    if (l->state == TL_REDIS_CLOSING)
        wait_for_retry(l);
}

static const struct tl_stream_handler stream_handler = {
    .on_recv = on_recv,
    .on_sent = on_sent,
    .on_closed = on_closed,
};

static void on_dialled(struct tl_connector *connector, int fd, const char *error)
{
    struct tl_redis_link *l = TL_CONTAINER(connector, struct tl_redis_link, connector);
    if (fd < 0) {
        lose(l, error, 0);
        return;
    }
    int status = tl_stream_open(l->loop, &l->stream, fd, &stream_handler);
    if (status < 0) {
        close(fd);
        lose(l, strerror(-status), 0);
        return;
    }
    l->stream_open = true;
    l->state = TL_REDIS_HANDSHAKE;
    tl_resp_reset(&l->resp);
    tl_buf_deinit(&l->flight.buf);
    l->flight.done = 0;
    l->flight.pending = l->flight.broken = false;
    l->handshake.n = l->handshake.done = 0;
    l->flow.now = l->flow.before = 0;
    append_handshake(l);
    tl_stream_recv(&l->stream, true);
    tl_loop_timer_start(l->loop, &l->timer, l->options->dial_timeout_ms);
    flush(l);
}

/* ---- life ---- */

void tl_redis_link_init(struct tl_redis_link *l, struct tl_loop *loop,
                        const struct tl_redis_options *options,
                        const struct tl_redis_link_handler *handler, const char *role)
{
    *l = (struct tl_redis_link){.loop = loop, .options = options, .handler = handler, .role = role};
    /* Names and Redis' own words must pass even where messages are to be short. */
    size_t bulk_max = options->max_message > 4096 ? options->max_message : 4096;
    tl_resp_init(&l->resp,
                 &(struct tl_resp_limits){bulk_max, bulk_max + TL_RESP_LINE_MAX, 1024, false});
    tl_connector_init(&l->connector, loop, on_dialled);
    tl_timer_init(&l->timer, on_timer);
}

void tl_redis_link_start(struct tl_redis_link *l)
{
    dial(l);
}

void tl_redis_link_stop(struct tl_redis_link *l)
{
    if (l->state == TL_REDIS_STOPPED)
        return;
    l->state = TL_REDIS_STOPPED;
    tl_connector_cancel(&l->connector);
    tl_timer_stop(tl_loop_timers(l->loop), &l->timer);
    if (l->stream_open)
        tl_stream_close(&l->stream);
}

void tl_redis_link_deinit(struct tl_redis_link *l)
{
    assert(l->state == TL_REDIS_STOPPED && !l->stream_open);
    tl_resp_reset(&l->resp);
    tl_buf_deinit(&l->flight.buf);
}
