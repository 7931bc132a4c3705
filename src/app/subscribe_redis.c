#include "app/subscriber.h"

#include "app/commands.h"
#include "app/redis_dial.h"
#include "base/alloc.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 5000
#define RETRY_S            1

enum outcome { GO_ON, STOP, LOST };

/* One SUBSCRIBE for all. */
static int subscribe(redisContext *redis, const struct tl_subscribe_job *job)
{
    const char **words = tl_alloc((job->channels_n + 1) * sizeof *words);
    if (!words)
        return -ENOMEM;
    words[0] = "SUBSCRIBE";
    for (size_t i = 0; i < job->channels_n; i++)
        words[i + 1] = job->channels[i];
    int rc = redisAppendCommandArgv(redis, (int)job->channels_n + 1, words, NULL);
    tl_free(words);
    int done = 0;
    while (rc == REDIS_OK && !done)
        rc = redisBufferWrite(redis, &done);
    return rc == REDIS_OK ? 0 : -EPIPE;
}

static enum outcome take_reply(const struct tl_subscribe_job *job, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        tl_command_say("subscribe", "Redis refused: %.200s", reply->str);
        return STOP;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_STRING)
        return GO_ON;
    const redisReply *kind = reply->element[0], *name = reply->element[1],
                     *payload = reply->element[2];
    if (strcmp(kind->str, "subscribe") == 0) {
        tl_command_say("subscribe", "subscribed to %.255s", name->str);
        return GO_ON;
    }
    if (strcmp(kind->str, "message") != 0 || payload->type != REDIS_REPLY_STRING)
        return GO_ON;
    struct tl_received message = {.channel = tl_bytes(name->str, name->len),
                                  .payload = tl_bytes(payload->str, payload->len)};
    return job->sink->on_message(job->sink, &message) ? GO_ON : STOP;
}

static enum outcome receive(redisContext *redis, const struct tl_subscribe_job *job)
{
    if (redisBufferRead(redis) != REDIS_OK)
        return LOST;
    for (;;) {
        void *reply = NULL;
        if (redisGetReplyFromReader(redis, &reply) != REDIS_OK)
            return LOST;
        if (!reply)
            return GO_ON;
        enum outcome outcome = take_reply(job, reply);
        freeReplyObject(reply);
        if (outcome != GO_ON)
            return outcome;
    }
}

static enum outcome follow(redisContext *redis, const struct tl_subscribe_job *job)
{
    enum outcome outcome = subscribe(redis, job) == 0 ? GO_ON : LOST;
    redisEnableKeepAlive(redis);
    while (outcome == GO_ON) {
        struct pollfd waiting = {.fd = redis->fd, .events = POLLIN};
        int ready = ppoll(&waiting, 1, NULL, job->signals_open);
        if (*job->interrupted)
            return STOP;
        if (ready > 0)
            outcome = receive(redis, job);
    }
    return outcome;
}

int tl_subscribe_redis(const struct tl_subscribe_job *job)
{
    char error[400];
    enum outcome outcome = LOST;
    bool first = true;
    while (outcome == LOST && !*job->interrupted) {
        redisContext *redis = tl_redis_dial(job->url, CONNECT_TIMEOUT_MS, error, sizeof error);
        if (redis) {
            outcome = follow(redis, job);
            if (outcome == LOST)
                tl_command_say("subscribe", "the connection to Redis is lost; what is published "
                                            "until the next `subscribed` is missed");
            redisFree(redis);
        } else if (first) {
            tl_command_say("subscribe", "%s", error);
            return 1;
        }
        first = false;
        struct timespec pause = {.tv_sec = RETRY_S};
        if (outcome == LOST)
            ppoll(NULL, 0, &pause, job->signals_open);
    }
    return 0;
}
