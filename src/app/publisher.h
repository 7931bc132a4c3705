/*
 * Publishing for the terminal tools, over HTTP to a gateway or straight to Redis, one message or a
 * pipelined stream of them. It counts answers and keeps the first error; how many may wait for an
 * answer is the caller's choice. One thread.
 */
#ifndef TL_APP_PUBLISHER_H
#define TL_APP_PUBLISHER_H

#include "app/optparse.h"

#include <poll.h>

struct tl_publisher;

/* Appending to Redis streams instead of publishing; the words are those of --channel. */
struct tl_publish_stream {
    bool on;
    char *field;               /* of the entry, that is the payload */
    uint64_t maxlen, minid_ms; /* cut with the same command to about that; 0: not */
};

/* Rows of the commands' tables for them; the value is that field of the command's struct. */
#define TL_STREAM_OFFSET(struct_, field, part)                                                     \
    (offsetof(struct_, field) + offsetof(struct tl_publish_stream, part))
#define TL_STREAM_OPTIONS(struct_, field_)                                                         \
    {.name = "stream",                                                                             \
     .value = "",                                                                                  \
     .default_text = "no",                                                                         \
     .help = "append to the Redis stream of the channel's name (XADD), for source=stream",         \
     .offset = TL_STREAM_OFFSET(struct_, field_, on),                                              \
     .type = TL_OPTION_BOOL},                                                                      \
        {.name = "field",                                                                          \
         .value = "NAME",                                                                          \
         .default_text = "data",                                                                   \
         .help = "with --stream: the field of an entry that is the payload",                       \
         .offset = TL_STREAM_OFFSET(struct_, field_, field),                                       \
         .type = TL_OPTION_STRING},                                                                \
        {.name = "maxlen",                                                                         \
         .value = "N",                                                                             \
         .default_text = "0",                                                                      \
         .help = "with --stream: cut the stream to about N entries; 0: it only grows",             \
         .max = UINT64_C(1) << 40,                                                                 \
         .offset = TL_STREAM_OFFSET(struct_, field_, maxlen),                                      \
         .type = TL_OPTION_COUNT},                                                                 \
    {                                                                                              \
        .name = "minid", .value = "D", .default_text = "0",                                        \
        .help = "with --stream: or to those that are not older than about D",                      \
        .max = UINT64_C(10000) * 3600 * 1000,                                                      \
        .offset = TL_STREAM_OFFSET(struct_, field_, minid_ms), .type = TL_OPTION_DURATION          \
    }

struct tl_publisher_count {
    uint64_t sent;
    uint64_t answered; /* of them, refused ones included */
    uint64_t refused;
    uint64_t receivers; /* the sum of what the answers said */
};

/*
 * Connect to http://host:port, redis://... or redis+unix://...; token: for HTTP, "" for none.
 * Returns NULL with one line in error: what, and what to do. Owner: the caller, until
 * tl_publisher_close().
 */
TL_MUST_USE struct tl_publisher *tl_publisher_open(const char *url, const char *token, char *error,
                                                   size_t error_n);

/*
 * HTTP: publish to this path instead of "/pub/{channel}"; {channel} stands for the name,
 * percent-encoded. template: lent for as long as the publisher lives.
 */
void tl_publisher_path(struct tl_publisher *p, const char *template);

/* What does not go together, or with the URL, as one line; NULL: nothing. */
const char *tl_publish_stream_conflict(const struct tl_publish_stream *stream, const char *url);

/* Redis: append to streams from now on, if stream->on. Lent for as long as the publisher lives. */
void tl_publisher_stream(struct tl_publisher *p, const struct tl_publish_stream *stream);

/* Takes NULL. */
void tl_publisher_close(struct tl_publisher *p);

/* Queue one message; the bytes are copied. channel: 1..255 bytes. 0 or -ENOMEM. */
TL_MUST_USE int tl_publisher_send(struct tl_publisher *p, struct tl_bytes channel,
                                  struct tl_bytes payload);

/*
 * Send and receive, waiting at most timeout_ms for something to do. 0, or -errno when the
 * connection is lost, -EPROTO when there are more answers than messages: those without an answer
 * may have been published or not.
 */
TL_MUST_USE int tl_publisher_pump(struct tl_publisher *p, int timeout_ms);

/* What to wait for before the next tl_publisher_pump(p, 0), for callers with a loop of their own.
 */
void tl_publisher_poll(const struct tl_publisher *p, struct pollfd *ret_waiting);

const struct tl_publisher_count *tl_publisher_count(const struct tl_publisher *p);

/* The newest whole answer, as text without a line end; cut at 4 KiB. */
const char *tl_publisher_answer(const struct tl_publisher *p);

/* Why the first message was refused, or why the connection was lost; "" if neither. */
const char *tl_publisher_error(const struct tl_publisher *p);

#endif
