/*
 * The counters and gauges of the process, one table for code, /metrics and the docs (R26). Any
 * thread may move them; reading is not a snapshot. Text is made in metrics.c, nothing else is.
 */
#ifndef TL_BASE_METRICS_H
#define TL_BASE_METRICS_H

#include "base/buf.h"

#include <stdatomic.h>

/* X(id, kind, exported name, help) */
#define TL_METRICS(X)                                                                              \
    X(CONNECTIONS, GAUGE, "connections", "open client connections")                                \
    X(WS_SESSIONS, GAUGE, "websocket_sessions", "open WebSocket sessions")                         \
    X(SSE_SESSIONS, GAUGE, "sse_sessions", "open SSE sessions")                                    \
    X(CHANNELS, GAUGE, "channels", "channels with state in this process")                          \
    X(SUBSCRIPTIONS, GAUGE, "subscriptions", "subscriptions of sessions")                          \
    X(LOG_BYTES, GAUGE, "log_bytes", "bytes of kept messages in all lanes of all logs")            \
    X(RETIRED_BYTES, GAUGE, "retired_bytes",                                                       \
      "bytes of segments that left their log but are still being sent")                            \
    X(BROKER_UP, GAUGE, "broker_up", "1 while every link to the broker is up")                     \
    X(ACCEPTED, COUNTER, "connections_accepted", "connections accepted")                           \
    X(ACCEPT_PAUSES, COUNTER, "accept_pauses", "times accepting paused for want of descriptors")   \
    X(REFUSED_CONNECTIONS, COUNTER, "connections_refused", "connections over a connection limit")  \
    X(REFUSED_REQUESTS, COUNTER, "requests_refused", "requests answered with 4xx or 503")          \
    X(CHANNELS_REFUSED, COUNTER, "channels_refused",                                               \
      "requests for more channels than channels-per-connection")                                   \
    X(REFUSED_MEMORY, COUNTER, "memory_refusals",                                                  \
      "clients or messages refused for want of memory")                                            \
    X(HANDSHAKE_TIMEOUTS, COUNTER, "handshake_timeouts", "connections without a request in time")  \
    X(SUBSCRIBE_TIMEOUTS, COUNTER, "subscribe_timeouts", "subscribes not confirmed in time")       \
    X(MESSAGES_IN, COUNTER, "messages_in", "messages that came from the broker")                   \
    X(MESSAGE_BYTES_IN, COUNTER, "message_bytes_in", "their payload bytes")                        \
    X(MESSAGES_OVERSIZE, COUNTER, "messages_oversize",                                             \
      "broker messages over max-message, dropped and told as a gap")                               \
    X(BATCHES, COUNTER, "batches", "batches of what changed that workers were told of")            \
    X(WAKES, COUNTER, "wakes", "times a thread was woken by mail from another")                    \
    X(MESSAGES_REREAD, COUNTER, "messages_reread",                                                 \
      "older messages that were read from streams for clients that came back")                     \
    X(SNAPSHOTS, COUNTER, "snapshots", "newcomers that began with a snapshot")                     \
    X(SNAPSHOT_READS, COUNTER, "snapshot_reads", "keys asked for a snapshot, once for a channel")  \
    X(SNAPSHOT_FAILURES, COUNTER, "snapshot_failures",                                             \
      "of those, not answered with a value or none")                                               \
    X(SNAPSHOTS_DROPPED, COUNTER, "snapshots_dropped",                                             \
      "of those, answered when a live message had come first, or the link was lost")               \
    X(CHANNELS_EXPIRED, COUNTER, "channels_expired",                                               \
      "times a channel had no message for stale_after")                                            \
    X(PUBLISHED, COUNTER, "messages_published", "messages handed to the broker")                   \
    X(PUBLISH_FAILED, COUNTER, "publish_failed", "publishes refused or failed")                    \
    X(SENDS, COUNTER, "sends", "sends of lane bytes that were taken by a connection")              \
    X(SENT_BYTES, COUNTER, "sent_bytes", "lane bytes taken by connections")                        \
    X(EVICTED, COUNTER, "messages_evicted", "messages dropped from logs by their limits")          \
    X(GAPS, COUNTER, "gaps", "times a subscription was hit by a gap")                              \
    X(GAP_MESSAGES, COUNTER, "gap_messages", "messages subscriptions missed, where known")         \
    X(GAP_CLOSES, COUNTER, "gap_closes", "WebSockets closed with 4410, as they had asked")         \
    X(CONFLATED, COUNTER, "conflated_messages",                                                    \
      "messages left out for newer ones, as a rule with overflow=latest says")                     \
    X(OVERFLOWS, COUNTER, "overflows", "sessions that fell off their log")                         \
    X(STALLED, COUNTER, "stalled", "sessions reset after no progress for the stall timeout")       \
    X(PINNED_RESETS, COUNTER, "pinned_resets", "sessions reset to free retired segments")          \
    X(DEAD_PEERS, COUNTER, "dead_peers", "sessions closed because nothing came from the peer")     \
    X(PROTOCOL_ERRORS, COUNTER, "protocol_errors",                                                 \
      "WebSocket sessions closed with 1002, 1003 or 1007")                                         \
    X(INBOUND_TOO_BIG, COUNTER, "inbound_too_big", "client messages over max-inbound")             \
    X(INPUT_REFUSED, COUNTER, "input_refused", "bodies and messages over max-input")               \
    X(INBOUND_RATE, COUNTER, "inbound_rate_exceeded",                                              \
      "sessions closed for exceeding inbound-rate")                                                \
    X(CLIENT_MESSAGES, COUNTER, "client_messages", "messages received from WebSocket clients")     \
    X(BROKER_CONNECTS, COUNTER, "broker_connects", "links to the broker that came up")             \
    X(BROKER_LOSSES, COUNTER, "broker_losses", "links to the broker that were lost")               \
    X(BROKER_RETRIES, COUNTER, "broker_retries", "failed attempts to reach the broker")            \
    X(BROKER_SUBSCRIBES, COUNTER, "broker_subscribes",                                             \
      "channels and patterns subscribed upstream")                                                 \
    X(BROKER_UNSUBSCRIBES, COUNTER, "broker_unsubscribes",                                         \
      "channels and patterns unsubscribed upstream")                                               \
    X(BROKER_REFUSALS, COUNTER, "broker_refusals", "error answers of the broker")

enum tl_metric {
#define TL_METRIC_ID(id, kind, name, help) TL_M_##id,
    TL_METRICS(TL_METRIC_ID)
#undef TL_METRIC_ID
        TL_METRIC_N
};

extern _Atomic int64_t tl_metric_values[TL_METRIC_N];

/* Relaxed: counters order nothing; they are read for people. */
static inline void tl_metric_add(enum tl_metric m, int64_t n)
{
    atomic_fetch_add_explicit(&tl_metric_values[m], n, memory_order_relaxed);
}

static inline void tl_metric_set(enum tl_metric m, int64_t v)
{
    atomic_store_explicit(&tl_metric_values[m], v, memory_order_relaxed);
}

static inline int64_t tl_metric_get(enum tl_metric m)
{
    return atomic_load_explicit(&tl_metric_values[m], memory_order_relaxed);
}

/* Append all of them in the Prometheus text format 0.0.4. */
void tl_metrics_text(struct tl_buf *out);

#endif
