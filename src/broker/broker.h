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

enum tl_source_kind { TL_SOURCE_CHANNEL, TL_SOURCE_PATTERN };

/* Why a request failed. */
enum tl_broker_status {
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
    enum tl_broker_status status; /* filled in before on_published */
    int64_t receivers;            /* Redis: what PUBLISH returned. Memory: filled in by the hub. */
    char error[96];               /* the broker's own words, printable, "" without */
    void (*on_published)(struct tl_publish *publish);
};

struct tl_broker_events {
    /*
     * The link that carries these subscriptions came up or went down. `link` names it ("redis"; one
     * a node later), reason is printable text. After "down" nothing is subscribed any more: the hub
     * subscribes again what it needs after the next "up".
     */
    void (*on_link)(void *hub, const char *link, bool up, const char *reason);
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
    /* on_published follows in every case, later. */
    void (*publish)(struct tl_broker *b, struct tl_publish *publish);
    /* Up, as of now: true when subscribing and publishing both work. */
    bool (*is_up)(const struct tl_broker *b);
    /* Stop using the loop: links are closed, outstanding publishes complete with DOWN or UNKNOWN
     * before it returns; no event afterwards. The memory goes with free, after the loop ran out. */
    void (*stop)(struct tl_broker *b);
    void (*free)(struct tl_broker *b);
};

struct tl_broker {
    const struct tl_broker_ops *ops;
    const struct tl_broker_events *events;
    void *hub;
};

#endif
