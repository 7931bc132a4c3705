/*
 * Where messages come from and go to. One interface; memory.c and redis.c implement it. A broker
 * lives on one loop (the hub's) and calls its events on that thread only, never from inside a call
 * of the interface. It knows names, never clients.
 *
 * Names are byte strings of 1..255 bytes. A subscribed thing is either a channel or a pattern; the
 * same name may be both. The hub sends subscribe and unsubscribe alternately for each (kind, name);
 * it may send subscribe again before the unsubscribe was confirmed: confirmations come in the order
 * of the requests.
 */
#ifndef TL_BROKER_BROKER_H
#define TL_BROKER_BROKER_H

#include "base/buf.h"
#include "base/list.h"
#include "feed/entry_id.h"

/* A stream is a source that keeps its messages: it is followed from a place on. */
enum tl_source_kind { TL_SOURCE_CHANNEL, TL_SOURCE_PATTERN, TL_SOURCE_STREAM };

#define TL_STREAM_FIELD_MAX 63

/* How messages lie in the streams of a rule, and what a publish cuts away. */
struct tl_stream_rule {
    char field[TL_STREAM_FIELD_MAX + 1]; /* of an entry, with the payload; "": no stream */
    uint64_t len_max;                    /* about so many entries are kept; 0: all */
    uint64_t age_max_ms;                 /* and those not older than about this; 0: all */
};

/* Why a request failed. */
enum TL_SMALL tl_broker_status {
    TL_BROKER_OK,
    TL_BROKER_DOWN,    /* no link: try later */
    TL_BROKER_UNKNOWN, /* the link was lost meanwhile: it may have happened or not */
    TL_BROKER_DENIED,  /* the broker forbids it (ACL) */
    TL_BROKER_FAILED,  /* the broker answered another error */
    TL_BROKER_FULL,    /* too much is waiting for the broker already, or no memory */
};

struct tl_broker;

/* A message to publish. Owner: the caller, until on_published; it must outlive the broker's use. */
struct tl_publish {
    struct tl_list node; /* the broker's */
    struct tl_bytes name;
    struct tl_bytes payload;
    const struct tl_stream_rule *stream; /* NULL: to the channel; or as an entry of this stream */
    enum tl_broker_status status;        /* filled in before on_published */
    int64_t receivers;     /* Redis: what PUBLISH returned. Memory: filled in by the hub. */
    struct tl_entry_id id; /* of the stream's new entry */
    char error[96];        /* the broker's own words, printable, "" without */
    void (*on_published)(struct tl_publish *publish);
};

/* A value of the broker's store that is to be read. Owner: the caller, until on_fetched; it must
 * outlive the broker's use. */
struct tl_fetch {
    struct tl_list node; /* the broker's */
    uint32_t pong;       /* likewise */
    struct tl_bytes key;
    /* The value, lent for the call. Not called where there is none. */
    void (*on_value)(struct tl_fetch *fetch, struct tl_bytes value);
    enum tl_broker_status status; /* filled in before on_fetched */
    /* All that was published to subscribed channels before the key was read has been delivered. */
    void (*on_fetched)(struct tl_fetch *fetch);
};

/* How a place in a stream follows what the hub has of it. */
enum tl_continuity {
    TL_STREAM_FIRST,  /* it had nothing */
    TL_STREAM_WHOLE,  /* nothing lies between */
    TL_STREAM_GAP,    /* entries that it will not get */
    TL_STREAM_BROKEN, /* another stream, or one that went back: what it missed cannot be known */
};

/* Entries of a stream that the hub asked for, the oldest first. Lent for the call. */
struct tl_stream_range {
    const struct tl_stream_entry *entries;
    size_t n;
    struct tl_entry_id to;     /* as asked */
    struct tl_entry_id before; /* nothing lies between it and the first of them */
    struct tl_entry_id known;  /* behind it no entry was ever deleted */
};

struct tl_broker_events {
    /*
     * The link that carries subscriptions of a kind came up or went down: TL_SOURCE_STREAM, or else
     * all other kinds. Reason is printable text. After "down" nothing of the kind is subscribed any
     * more: the hub subscribes again what it needs after the next "up".
     */
    void (*on_link)(void *hub, enum tl_source_kind kind, bool up, const char *reason);
    /* What is_up() says may have changed. Comes before publishes that end with the link. */
    void (*on_readiness)(void *hub);
    /* status is OK (messages flow from here on), DENIED or FAILED; reason: the broker's words or ""
     */
    void (*on_subscribed)(void *hub, enum tl_source_kind kind, struct tl_bytes name,
                          enum tl_broker_status status, const char *reason);
    void (*on_unsubscribed)(void *hub, enum tl_source_kind kind, struct tl_bytes name);
    /* A message: source is the subscribed channel or pattern, name the channel it was published to
     * (equal for TL_SOURCE_CHANNEL). Bytes are lent for the call. False: no memory for it. A broker
     * that is the source then refuses the publish; of any other, subscribers were told a gap. */
    bool (*on_message)(void *hub, enum tl_source_kind kind, struct tl_bytes source,
                       struct tl_bytes name, struct tl_bytes payload);
    /* A message that was over max-message and was dropped: a gap of one for its source. */
    void (*on_dropped)(void *hub, enum tl_source_kind kind, struct tl_bytes source);
    /* Messages of any channel or pattern, but not of streams, may have been missed, though the link
     * is up: a gap for all of them. Reason is printable text. */
    void (*on_gap)(void *hub, const char *reason);
    /* Of streams. Reading goes on behind place; missed: entries that will not come, 0 if their
     * number is unknown; reason: static text. Comes before the entries that follow it, and before
     * on_subscribed, which says that all of the stream was read once. */
    void (*on_place)(void *hub, struct tl_bytes name, const struct tl_stream_place *place,
                     enum tl_continuity how, uint64_t missed, const char *reason);
    void (*on_entry)(void *hub, struct tl_bytes name, const struct tl_stream_entry *entry);
    /* The answer to a seek. */
    void (*on_sought)(void *hub, struct tl_bytes name, const struct tl_stream_range *range);
};

struct tl_broker_ops {
    const char *name; /* "memory", "redis" */
    /* The messages originate here: a channel that nobody watches still has a log, and on_message
     * comes for every published channel, subscribed or not. The link is always up. */
    bool is_source;
    /* Requests for what is not up now are dropped: after on_link(up) the hub asks again. 0, or
     * -ENOMEM: then it is not subscribed (in both cases), and no confirmation follows. */
    int (*subscribe)(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name);
    int (*unsubscribe)(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name);
    /* Subscribe to a stream, as above, from what the hub holds on (epoch 0: nothing). The rule
     * outlives it. NULL where there are no streams. */
    int (*follow)(struct tl_broker *b, struct tl_bytes name, const struct tl_stream_rule *rule,
                  const struct tl_stream_place *held);
    /*
     * Read a followed stream to its end as of now, and then older entries of it: those behind
     * `from` up to and with `to`, or as many of the newest of them as the limits allow. One at a
     * time and stream; on_sought follows unless the link goes down. 0 or -ENOMEM.
     */
    int (*seek)(struct tl_broker *b, struct tl_bytes name, struct tl_entry_id from,
                struct tl_entry_id to, uint64_t msgs_max, uint64_t bytes_max);
    /* on_published follows in every case, later. */
    void (*publish)(struct tl_broker *b, struct tl_publish *publish);
    /* Read a key; on_fetched follows in every case, with a link that is down only once it is up or
     * the broker is stopped, and may come from inside of stop() alone. A value over max-message is
     * FAILED, and so is what is no string. NULL where there are no keys to read. */
    void (*fetch)(struct tl_broker *b, struct tl_fetch *fetch);
    /* Up, as of now: true when subscribing and publishing both work. */
    bool (*is_up)(const struct tl_broker *b);
    /* Stop using the loop: links are closed, outstanding publishes and fetches complete with DOWN
     * or UNKNOWN before it returns; no event afterwards. The memory goes with free, after the loop
     * ran out. */
    void (*stop)(struct tl_broker *b);
    void (*free)(struct tl_broker *b);
};

struct tl_broker {
    const struct tl_broker_ops *ops;
    const struct tl_broker_events *events;
    void *hub;
};

#endif
