#include "app/redis_dial.h"

#include "proto/url.h"

#include <stdio.h>

bool tl_redis_is_url(const char *url)
{
    return tl_bytes_starts(tl_bytes_str(url), TL_LIT("redis://")) ||
           tl_bytes_starts(tl_bytes_str(url), TL_LIT("redis+unix://"));
}

/* Send one set-up command; false with the error line made from what Redis answered. */
static bool set_up(redisContext *redis, const char *what, redisReply *reply, char *error,
                   size_t error_n)
{
    bool ok = reply && reply->type != REDIS_REPLY_ERROR;
    if (!ok)
        snprintf(error, error_n, "Redis refused %s: %.120s", what,
                 reply ? reply->str : redis->errstr);
    freeReplyObject(reply);
    return ok;
}

static bool log_in(redisContext *redis, const struct tl_url *url, char *error, size_t error_n)
{
    if (url->has_password) {
        redisReply *reply = *url->user ? redisCommand(redis, "AUTH %s %s", url->user, url->password)
                                       : redisCommand(redis, "AUTH %s", url->password);
        if (!set_up(redis, "the user or password", reply, error, error_n))
            return false;
    }
    if (url->db == 0)
        return true;
    redisReply *reply = redisCommand(redis, "SELECT %u", url->db);
    return set_up(redis, "the database number", reply, error, error_n);
}

static redisContext *dial(const struct tl_url *url, int timeout_ms, char *error, size_t error_n)
{
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
    redisContext *redis = url->scheme == TL_URL_REDIS
                              ? redisConnectWithTimeout(url->host, url->port, limit)
                              : redisConnectUnixWithTimeout(url->path, limit);
    if (!redis || redis->err) {
        char where[300];
        snprintf(error, error_n, "cannot reach %.200s: %.120s; is Redis running there?",
                 tl_url_text(url, where, sizeof where), redis ? redis->errstr : "out of memory");
        redisFree(redis);
        return NULL;
    }
    if (redisSetTimeout(redis, limit) == REDIS_OK && log_in(redis, url, error, error_n))
        return redis;
    redisFree(redis);
    return NULL;
}

redisContext *tl_redis_dial(const char *text, int timeout_ms, char *error, size_t error_n)
{
    struct tl_url url;
    const char *wrong;
    if (tl_url_parse(tl_bytes_str(text), &url, &wrong) < 0) {
        snprintf(error, error_n, "%s", wrong);
        return NULL;
    }
    redisContext *redis = dial(&url, timeout_ms, error, error_n);
    explicit_bzero(&url, sizeof url);
    return redis;
}
