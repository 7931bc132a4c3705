#include "app/publisher.h"

#include "app/http_client.h"
#include "app/redis_dial.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "broker/broker.h"
#include "proto/url.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define CONNECT_TIMEOUT_MS 5000
#define ANSWER_MAX         4096
#define CHANNEL_MARK       "{channel}"
#define COMMAND_WORDS      8 /* at most: XADD key MAXLEN ~ 10 * field payload */

struct tl_publisher {
    struct tl_http_client *http; /* one of the two */
    redisContext *redis;
    const char *path;                       /* HTTP: with {channel} */
    const struct tl_publish_stream *stream; /* Redis: NULL: PUBLISH */
    bool redis_writing;                     /* hiredis holds bytes that are not sent */
    bool unasked;                           /* an answer came to nothing */
    unsigned status;
    char answer[ANSWER_MAX + 1];
    size_t answer_n;
    struct tl_publisher_count count;
    char error[320];
};

static void keep_error(struct tl_publisher *p, const char *what, const char *detail)
{
    if (*p->error)
        return;
    snprintf(p->error, sizeof p->error, "%s%s%.200s", what, *detail ? ": " : "", detail);
}

static void on_head(void *user, unsigned status)
{
    struct tl_publisher *p = user;
    p->status = status;
    p->answer_n = 0;
}

static void on_body(void *user, struct tl_bytes part)
{
    struct tl_publisher *p = user;
    size_t n = ANSWER_MAX - p->answer_n;
    if (part.n < n)
        n = part.n;
    memcpy(p->answer + p->answer_n, part.p, n);
    p->answer_n += n;
}

/* {"receivers": n} or {"subscribers": n}. */
static void count_receivers(struct tl_publisher *p)
{
    json_t *answer = json_loadb(p->answer, p->answer_n, 0, NULL);
    json_t *receivers = json_object_get(answer, "receivers");
    if (!receivers)
        receivers = json_object_get(answer, "subscribers");
    if (json_integer_value(receivers) > 0)
        p->count.receivers += (uint64_t)json_integer_value(receivers);
    json_decref(answer);
}

/* The body of a refusal is {error, hint}. */
static void keep_refusal(struct tl_publisher *p)
{
    char what[80];
    json_t *answer = json_loadb(p->answer, p->answer_n, 0, NULL);
    const char *error = json_string_value(json_object_get(answer, "error"));
    const char *hint = json_string_value(json_object_get(answer, "hint"));
    char detail[256];
    snprintf(detail, sizeof detail, "%s%s%s", error ? error : "", error && hint ? "; " : "",
             hint ? hint : "");
    snprintf(what, sizeof what, "refused with %u", p->status);
    keep_error(p, what, detail);
    json_decref(answer);
}

static void on_end(void *user)
{
    struct tl_publisher *p = user;
    while (p->answer_n > 0 && strchr("\r\n", p->answer[p->answer_n - 1]))
        p->answer_n--;
    p->answer[p->answer_n] = 0;
    if (p->count.answered == p->count.sent) {
        p->unasked = true;
        return;
    }
    p->count.answered++;
    if (p->status / 100 == 2) {
        count_receivers(p);
        return;
    }
    p->count.refused++;
    keep_refusal(p);
}

static const struct tl_http_events http_events = {on_head, on_body, on_end};

static bool open_http(struct tl_publisher *p, const char *url, const char *token, char *error,
                      size_t error_n)
{
    int rc = tl_http_client_new(&p->http, url, token, &http_events, p);
    if (rc == -EINVAL) {
        snprintf(error, error_n,
                 "'%.120s' is no address; write http://host:port, redis://host:port or "
                 "redis+unix:///path",
                 strchr(url, '@') ? "..." : url);
        return false;
    }
    if (rc < 0 || tl_http_client_connect(p->http, CONNECT_TIMEOUT_MS) == 0) {
        snprintf(error, error_n, "out of memory");
        return rc == 0;
    }
    snprintf(error, error_n, "cannot reach %s: %s; is `tramline serve` running there?",
             tl_http_client_where(p->http), tl_http_client_error(p->http));
    return false;
}

struct tl_publisher *tl_publisher_open(const char *url, const char *token, char *error,
                                       size_t error_n)
{
    struct tl_publisher *p = tl_zalloc(sizeof *p);
    if (!p) {
        snprintf(error, error_n, "out of memory");
        return NULL;
    }
    p->path = "/pub/" CHANNEL_MARK;
    bool open = false;
    if (tl_redis_is_url(url)) {
        p->redis = tl_redis_dial(url, CONNECT_TIMEOUT_MS, error, error_n);
        open = p->redis != NULL;
    } else {
        open = open_http(p, url, token, error, error_n);
    }
    if (open)
        return p;
    tl_publisher_close(p);
    return NULL;
}

void tl_publisher_path(struct tl_publisher *p, const char *template)
{
    p->path = template;
}

const char *tl_publish_stream_conflict(const struct tl_publish_stream *stream, const char *url)
{
    size_t field_n = strlen(stream->field);
    if (!stream->on)
        return stream->maxlen > 0 || stream->minid_ms > 0 || strcmp(stream->field, "data") != 0
                   ? "--field, --maxlen and --minid go with --stream"
                   : NULL;
    if (!tl_redis_is_url(url))
        return "--stream goes to redis://...; a gateway knows by its --channel what is a stream";
    if (field_n == 0 || field_n > TL_STREAM_FIELD_MAX)
        return "--field is a name of 1 to 63 bytes";
    if (stream->maxlen > 0 && stream->minid_ms > 0)
        return "either --maxlen or --minid: Redis takes one of them";
    return NULL;
}

void tl_publisher_stream(struct tl_publisher *p, const struct tl_publish_stream *stream)
{
    p->stream = stream->on ? stream : NULL;
}

void tl_publisher_close(struct tl_publisher *p)
{
    if (!p)
        return;
    tl_http_client_free(p->http);
    redisFree(p->redis);
    tl_free(p);
}

static int send_http(struct tl_publisher *p, struct tl_bytes channel, struct tl_bytes payload)
{
    struct tl_buf target = {0};
    const char *path = p->path;
    for (const char *at; (at = strstr(path, CHANNEL_MARK)); path = at + strlen(CHANNEL_MARK)) {
        tl_buf_append(&target, tl_bytes(path, (size_t)(at - path)));
        tl_url_encode(&target, channel);
    }
    tl_buf_str(&target, path);
    tl_buf_byte(&target, 0);
    int rc = target.failed
                 ? -ENOMEM
                 : tl_http_client_request(p->http, "POST", (char *)target.p,
                                          "Content-Type: application/octet-stream\r\n", payload);
    tl_buf_deinit(&target);
    return rc;
}

/* XADD up to the payload, as the gateway has it; the key's place, the second, is left open. */
static int stream_words(const struct tl_publish_stream *stream, char trim[24], const char **words)
{
    int n = 0;
    words[n++] = "XADD";
    words[n++] = "";
    if (stream->maxlen > 0) {
        snprintf(trim, 24, "%llu", (unsigned long long)stream->maxlen);
        words[n++] = "MAXLEN";
    } else if (stream->minid_ms > 0) {
        snprintf(trim, 24, "%lld", (long long)(tl_clock_wall_ms() - (int64_t)stream->minid_ms));
        words[n++] = "MINID";
    }
    if (n > 2) {
        words[n++] = "~";
        words[n++] = trim;
    }
    words[n++] = "*";
    words[n++] = stream->field;
    return n;
}

static int send_redis(struct tl_publisher *p, struct tl_bytes channel, struct tl_bytes payload)
{
    char trim[24];
    const char *words[COMMAND_WORDS] = {"PUBLISH"};
    size_t sizes[COMMAND_WORDS];
    int n = p->stream ? stream_words(p->stream, trim, words) : 2;
    words[n++] = (const char *)payload.p;
    for (int i = 0; i < n - 1; i++)
        sizes[i] = i == 1 ? channel.n : strlen(words[i]);
    words[1] = (const char *)channel.p;
    sizes[n - 1] = payload.n;
    p->redis_writing = true;
    return redisAppendCommandArgv(p->redis, n, words, sizes) == REDIS_OK ? 0 : -ENOMEM;
}

int tl_publisher_send(struct tl_publisher *p, struct tl_bytes channel, struct tl_bytes payload)
{
    int rc = p->http ? send_http(p, channel, payload) : send_redis(p, channel, payload);
    p->count.sent += rc == 0;
    return rc;
}

static void take_reply(struct tl_publisher *p, const redisReply *reply)
{
    p->count.answered++;
    if (!p->stream && reply->type == REDIS_REPLY_INTEGER) {
        snprintf(p->answer, sizeof p->answer, "{\"receivers\":%lld}", reply->integer);
        p->count.receivers += (uint64_t)reply->integer;
        return;
    }
    if (p->stream && reply->type == REDIS_REPLY_STRING) {
        snprintf(p->answer, sizeof p->answer, "{\"id\":\"%.60s\"}", reply->str);
        return;
    }
    p->count.refused++;
    keep_error(p, "Redis refused", reply->str ? reply->str : "an answer of the wrong kind");
}

static int refuse_unasked(struct tl_publisher *p)
{
    keep_error(p, "the server answers what nobody asked", "");
    return -EPROTO;
}

static int lost_redis(struct tl_publisher *p)
{
    keep_error(p, "the connection to Redis is lost", p->redis->errstr);
    return -EPIPE;
}

void tl_publisher_poll(const struct tl_publisher *p, struct pollfd *ret_waiting)
{
    *ret_waiting = (struct pollfd){.fd = -1, .events = POLLIN};
    if (p->http) {
        ret_waiting->fd = tl_http_client_fd(p->http);
        ret_waiting->events = tl_http_client_poll_events(p->http);
        return;
    }
    ret_waiting->fd = p->redis->fd;
    if (p->redis_writing)
        ret_waiting->events |= POLLOUT;
}

static int pump_redis(struct tl_publisher *p, int timeout_ms)
{
    int done = !p->redis_writing;
    if (!done && redisBufferWrite(p->redis, &done) != REDIS_OK)
        return lost_redis(p);
    p->redis_writing = !done;
    struct pollfd waiting;
    tl_publisher_poll(p, &waiting);
    int ready = poll(&waiting, 1, timeout_ms);
    if (ready < 0 && errno != EINTR)
        return -errno;
    if (ready <= 0 || !(waiting.revents & ~POLLOUT))
        return 0;
    if (redisBufferRead(p->redis) != REDIS_OK)
        return lost_redis(p);
    for (;;) {
        void *reply = NULL;
        if (redisGetReplyFromReader(p->redis, &reply) != REDIS_OK)
            return lost_redis(p);
        if (!reply)
            return 0;
        p->unasked = p->count.answered == p->count.sent;
        if (!p->unasked)
            take_reply(p, reply);
        freeReplyObject(reply);
        if (p->unasked)
            return refuse_unasked(p);
    }
}

int tl_publisher_pump(struct tl_publisher *p, int timeout_ms)
{
    if (p->redis)
        return pump_redis(p, timeout_ms);
    int rc = tl_http_client_wait(p->http, timeout_ms);
    if (rc < 0)
        keep_error(p, "the gateway's connection is lost", tl_http_client_error(p->http));
    return rc == 0 && p->unasked ? refuse_unasked(p) : rc;
}

const struct tl_publisher_count *tl_publisher_count(const struct tl_publisher *p)
{
    return &p->count;
}

const char *tl_publisher_answer(const struct tl_publisher *p)
{
    return p->answer;
}

const char *tl_publisher_error(const struct tl_publisher *p)
{
    return p->error;
}
