/*
 * A blocking connection to Redis for the terminal tools, made from a URL: connected, authenticated,
 * the database selected. The gateway's own link is the broker's business, not this module's.
 */
#ifndef TL_APP_REDIS_DIAL_H
#define TL_APP_REDIS_DIAL_H

#include "base/bytes.h"

#include <hiredis/hiredis.h>

/* Whether the URL names a Redis: redis:// or redis+unix://. */
bool tl_redis_is_url(const char *url);

/*
 * Connect to redis://[user:password@]host[:port][/db] or redis+unix:///path, each step within
 * timeout_ms. Returns NULL with one line in error: what, and what to do; it never holds the
 * password. Owner: the caller, until redisFree().
 */
TL_MUST_USE redisContext *tl_redis_dial(const char *url, int timeout_ms, char *error,
                                        size_t error_n);

#endif
