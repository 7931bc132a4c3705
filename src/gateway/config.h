/*
 * What an operator decided, as one immutable snapshot that all loops share. Filled by the app;
 * everything here outlives the gateway. A reload will be a new snapshot.
 */
#ifndef TL_GATEWAY_CONFIG_H
#define TL_GATEWAY_CONFIG_H

#include "broker/broker.h"
#include "feed/log.h"
#include "proto/key_template.h"

#define TL_TOKEN_MAX 1024

/* A channel fed by all channels that match. */
struct tl_pattern {
    struct tl_bytes name;
    struct tl_bytes glob;
    bool name_line; /* raw WebSocket: `name\n` goes before each payload */
};

/* Bytes that are served as they are at one path, which may also be that of a page of the gateway.
 */
struct tl_document {
    struct tl_bytes path;
    const char *content_type;
    struct tl_bytes body;
};

/* What a client meets that falls off the log of its channel (R4). */
enum tl_overflow {
    TL_OVERFLOW_DISCONNECT, /* it is closed */
    TL_OVERFLOW_GAP,        /* it goes on with the oldest kept and is told what it missed */
    TL_OVERFLOW_LATEST,     /* it goes on with the newest */
};

/* What holds for the channels that a glob matches. */
struct tl_channel_rule {
    struct tl_bytes glob;
    struct tl_log_limits log;
    enum tl_overflow overflow;
    uint64_t interval_ms;         /* LATEST: between the messages that a client is sent; 0: none */
    bool close_on_gap;            /* raw WebSockets are closed when messages were lost upstream */
    struct tl_stream_rule stream; /* with a field: the channel's source is a stream of its name */
    bool has_ttl;
    uint64_t ttl_ms;         /* how long the log outlives its last client, in place of the linger */
    bool snapshot;           /* newcomers begin with the newest message of the log */
    uint64_t stale_after_ms; /* without a message for so long it is told as expired; 0: never */
    /* With places in the pattern, or a key that newcomers are sent where the log has no message:
     * the rule's own, else NULL. The glob points into it. */
    struct tl_key_template *names;
};

struct tl_config {
    struct tl_channel_rule standard;     /* where no rule matches */
    const struct tl_channel_rule *rules; /* the first that matches wins */
    size_t rules_n;
    uint64_t logs_bytes_max;    /* of all logs together */
    uint64_t retired_bytes_max; /* pinned by sends after they left their log */
    uint64_t linger_ms;
    uint64_t history_ttl_ms;
    uint64_t subscribe_timeout_ms;
    uint64_t handshake_timeout_ms;
    uint64_t stall_timeout_ms;
    uint64_t ping_ms;
    uint64_t drain_ms;
    size_t message_bytes_max; /* what publishers send */
    size_t inbound_bytes_max; /* what WebSocket clients send */
    size_t head_bytes_max;
    uint64_t input_bytes_max;  /* unfinished bodies and messages of all clients; 0: no limit */
    uint32_t inbound_rate_max; /* messages a second and session */
    uint32_t connections_max;
    uint32_t address_connections_max; /* 0: no limit */
    uint32_t channels_max;
    uint32_t session_channels_max; /* of one connection */
    const struct tl_pattern *patterns;
    size_t patterns_n;
    const struct tl_bytes *origins;
    size_t origins_n;
    const struct tl_bytes *allow; /* globs of channel names; none: all */
    size_t allow_n;
    const struct tl_document *documents;
    size_t documents_n;
    struct tl_bytes token; /* at most TL_TOKEN_MAX bytes; empty: none */
    bool open;             /* publishing, duplex and metrics for anyone on open listeners */
};

static inline bool tl_config_is_stream(const struct tl_channel_rule *rule)
{
    return rule->stream.field[0] != 0;
}

/* Is there a key with the last message of the rule's channels? */
static inline bool tl_config_has_key(const struct tl_channel_rule *rule)
{
    return rule->names && rule->names->parts_n > 0;
}

/* The pattern of that name, or NULL. Any thread. */
const struct tl_pattern *tl_config_pattern(const struct tl_config *config, struct tl_bytes name);
/* The rule of a channel, for as long as the config lives. Any thread. */
const struct tl_channel_rule *tl_config_rule(const struct tl_config *config, struct tl_bytes name);

#endif
