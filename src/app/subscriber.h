/*
 * Where `tramline subscribe` gets its messages: SSE from a gateway, or SUBSCRIBE on a Redis. Both
 * come back after a lost connection and say so; what to do with a message is the sink's business.
 */
#ifndef TL_APP_SUBSCRIBER_H
#define TL_APP_SUBSCRIBER_H

#include "base/bytes.h"

#include <signal.h>

struct tl_received {
    struct tl_bytes channel; /* as it was asked for */
    struct tl_bytes name;    /* the channel of a pattern's message, or empty */
    struct tl_bytes id;      /* the position, or empty */
    struct tl_bytes payload;
};

struct tl_sink {
    /* False: stop, enough was received or nobody reads any more. Bytes are lent for the call. */
    bool (*on_message)(struct tl_sink *sink, const struct tl_received *message);
};

struct tl_subscribe_job {
    const char *url, *token;
    char **channels; /* at least one, 1..255 bytes each */
    size_t channels_n;
    struct tl_sink *sink;
    const volatile int *interrupted;
    const sigset_t *signals_open; /* the mask to wait with: where `interrupted` can be set */
};

/*
 * Run until interrupted or the sink has enough. Returns the exit status; what went wrong was said
 * on standard error.
 */
int tl_subscribe_sse(const struct tl_subscribe_job *job);
int tl_subscribe_redis(const struct tl_subscribe_job *job);

#endif
