/*
 * The options of `tramline serve`: one table for flags, environment, --help and the reference
 * pages. It says what an operator may write, checks what can be checked without opening anything,
 * and knows nothing of how the gateway uses it.
 */
#ifndef TL_APP_OPTIONS_H
#define TL_APP_OPTIONS_H

#include "app/optparse.h"
#include "loop/loop.h"

#define TL_KIB    UINT64_C(1024)
#define TL_MIB    (1024 * TL_KIB)
#define TL_GIB    (1024 * TL_MIB)
#define TL_SECOND UINT64_C(1000)
#define TL_MINUTE (60 * TL_SECOND)
#define TL_HOUR   (60 * TL_MINUTE)

#define TL_RELOAD TL_OPTION_RELOADABLE
#define TL_SECRET TL_OPTION_SECRET
#define TL_LINES  TL_OPTION_LINES

/*
 * H(heading)
 * X(type, field, flag, environment, value, default, min, max, marks, check, help)
 */
#define TL_SERVE_OPTIONS(H, X)                                                                     \
    H("Where it listens and where messages come from")                                             \
    X(LIST, listen, "listen", "TRAMLINE_LISTEN", "ADDR:PORT", "127.0.0.1:8080", 0, 0, 0,           \
      check_listen, "address to listen on; [::1]:8080 for IPv6, :8080 for every address")          \
    X(STRING, redis, "redis", "TRAMLINE_REDIS", "URL", "", 0, 0, TL_SECRET, check_redis,           \
      "redis://[user:password@]host[:port][/db] or redis+unix:///path; without it the embedded "   \
      "memory broker")                                                                             \
    X(COUNT, workers, "workers", "TRAMLINE_WORKERS", "N", "0", 0, 64, 0, NULL,                     \
      "threads that serve clients; 0 is one per core")                                             \
    X(ENUM, engine, "engine", "TRAMLINE_ENGINE", "auto|io_uring|epoll", "auto", 0, 0, 0, NULL,     \
      "how the loop talks to the kernel; auto is io_uring where it is allowed, else epoll")        \
    H("The live map")                                                                              \
    X(BOOL, demo, "demo", "TRAMLINE_DEMO", "", "no", 0, 0, 0, NULL,                                \
      "run the trams of an invented city, and serve a live map of them at /")                      \
    X(STRING, lines, "lines", "TRAMLINE_LINES", "FILE", "", 0, 0, 0, NULL,                         \
      "serve the live map at / over the lines of this GeoJSON file; vehicles are what is "         \
      "published to tram_*")                                                                       \
    X(STRING, attribution, "attribution", "TRAMLINE_ATTRIBUTION", "TEXT", "", 0, 0, 0, NULL,       \
      "where lines and positions come from, shown on the map")                                     \
    H("What clients may reach")                                                                    \
    X(LIST, routes, "route", "TRAMLINE_ROUTE", "'KIND PATH CHANNEL'", "", 0, 0, TL_RELOAD,         \
      check_route,                                                                                 \
      "one more route beside the built-in ones; KIND is ws, sse, pub or duplex, as in "            \
      "'ws /tram-state-ws/{tram_id} tram_{tram_id}'")                                              \
    X(LIST, patterns, "pattern", "TRAMLINE_PATTERN", "'NAME GLOB [name]'", "", 0, 0, TL_RELOAD,    \
      check_pattern,                                                                               \
      "a channel fed by all channels that match, as in 'fleet tram_*'; with a third word `name`, " \
      "messages on raw WebSocket start with a line that names their channel")                      \
    X(LIST, origins, "origin", "TRAMLINE_ORIGIN", "ORIGIN", "", 0, 0, TL_RELOAD, check_origin,     \
      "other web sites whose pages may connect, as in https://example.org; * for any")             \
    X(STRING, token, "token", "TRAMLINE_TOKEN", "TOKEN", "", 0, 0, TL_RELOAD | TL_SECRET,          \
      check_token,                                                                                 \
      "what publishing, duplex and metrics ask for: `Authorization: Bearer TOKEN`; every user of " \
      "this machine sees a flag, so prefer --token-file")                                          \
    X(STRING, token_file, "token-file", "TRAMLINE_TOKEN_FILE", "FILE", "", 0, 0, TL_RELOAD, NULL,  \
      "a file whose first line is the token")                                                      \
    X(BOOL, open, "open", "TRAMLINE_OPEN", "", "no", 0, 0, TL_RELOAD, NULL,                        \
      "let anyone publish, use duplex and read metrics on listeners that are not loopback")        \
    X(LIST, allow, "allow", "TRAMLINE_ALLOW", "GLOB", "", 0, 0, TL_RELOAD, check_name,             \
      "channels that clients may name, as in 'tram_*'; none is all")                               \
    H("How long and how much a channel keeps")                                                     \
    X(DURATION, linger_ms, "linger", "TRAMLINE_LINGER", "D", "30s", 0, 24 * TL_HOUR, TL_RELOAD,    \
      NULL, "how long a channel without subscribers keeps its upstream subscription")              \
    X(DURATION, history_ttl_ms, "history-ttl", "TRAMLINE_HISTORY_TTL", "D", "60s", 0,              \
      24 * TL_HOUR, TL_RELOAD, NULL, "how long the log of a channel without subscribers is kept")  \
    X(COUNT, log_messages_max, "log-messages", "TRAMLINE_LOG_MESSAGES", "N", "16384", 1, 16777216, \
      TL_RELOAD, NULL, "messages kept of one channel")                                             \
    X(SIZE, log_bytes_max, "log-bytes", "TRAMLINE_LOG_BYTES", "SIZE", "4MiB", TL_KIB, 64 * TL_GIB, \
      TL_RELOAD, NULL,                                                                             \
      "bytes kept of one channel in each encoding; the newest message is kept in any case")        \
    X(DURATION, log_age_ms, "log-age", "TRAMLINE_LOG_AGE", "D", "60s", 100, 24 * TL_HOUR,          \
      TL_RELOAD, NULL, "age of the oldest message that is kept")                                   \
    X(SIZE, logs_bytes_max, "logs-bytes", "TRAMLINE_LOGS_BYTES", "SIZE", "1GiB", TL_MIB,           \
      1024 * TL_GIB, TL_RELOAD, NULL, "bytes kept of all channels together")                       \
    X(SIZE, retired_bytes_max, "retired-bytes", "TRAMLINE_RETIRED_BYTES", "SIZE", "256MiB",        \
      TL_MIB, 1024 * TL_GIB, TL_RELOAD, NULL,                                                      \
      "bytes that left their log but are still being sent; past it the slowest are cut")           \
    X(COUNT, channels_max, "max-channels", "TRAMLINE_MAX_CHANNELS", "N", "1000000", 1, 100000000,  \
      TL_RELOAD, NULL, "channels that are open at a time")                                         \
    X(LIST, channel_rules, "channel", "TRAMLINE_CHANNEL", "'GLOB: KEY=VALUE, ...'", "", 0, 0,      \
      TL_RELOAD | TL_LINES, check_channel_rule,                                                    \
      "other terms for the channels that match, as in 'tram_*: overflow=latest, max_rate=4/s'; "   \
      "the first rule that matches wins; its keys stand at the end of this help")                  \
    H("How long it waits")                                                                         \
    X(DURATION, subscribe_timeout_ms, "subscribe-timeout", "TRAMLINE_SUBSCRIBE_TIMEOUT", "D",      \
      "5s", 10, 10 * TL_MINUTE, TL_RELOAD, NULL,                                                   \
      "how long a WebSocket client waits for the broker to confirm its channel")                   \
    X(DURATION, handshake_timeout_ms, "handshake-timeout", "TRAMLINE_HANDSHAKE_TIMEOUT", "D",      \
      "10s", 10, 10 * TL_MINUTE, TL_RELOAD, NULL, "how long a client may take for a request")      \
    X(DURATION, stall_timeout_ms, "stall-timeout", "TRAMLINE_STALL_TIMEOUT", "D", "10s", 10,       \
      TL_HOUR, TL_RELOAD, NULL, "how long a client may take nothing of what waits for it")         \
    X(DURATION, ping_ms, "ping", "TRAMLINE_PING", "D", "25s", 10, TL_HOUR, TL_RELOAD, NULL,        \
      "pings and SSE comments in the silence; a peer is dead after two without life")              \
    X(DURATION, drain_ms, "drain", "TRAMLINE_DRAIN", "D", "5s", 0, 10 * TL_MINUTE, TL_RELOAD,      \
      NULL, "how long the clients' closes are spread after SIGTERM")                               \
    X(DURATION, redis_ping_ms, "redis-ping", "TRAMLINE_REDIS_PING", "D", "1s", 10, 10 * TL_MINUTE, \
      TL_RELOAD, NULL, "Redis is pinged when it was silent for that long")                         \
    X(DURATION, redis_dead_ms, "redis-dead", "TRAMLINE_REDIS_DEAD", "D", "3s", 20, 10 * TL_MINUTE, \
      TL_RELOAD, NULL, "and given up when nothing came for that long")                             \
    H("Limits on clients")                                                                         \
    X(SIZE, message_bytes_max, "max-message", "TRAMLINE_MAX_MESSAGE", "SIZE", "16MiB", 1,          \
      512 * TL_MIB, TL_RELOAD, NULL, "the biggest message that is published or passed on")         \
    X(SIZE, inbound_bytes_max, "max-inbound", "TRAMLINE_MAX_INBOUND", "SIZE", "64KiB", 1,          \
      512 * TL_MIB, TL_RELOAD, NULL, "the biggest message of a WebSocket client")                  \
    X(SIZE, head_bytes_max, "max-head", "TRAMLINE_MAX_HEAD", "SIZE", "32KiB", TL_KIB, 64 * TL_KIB, \
      TL_RELOAD, NULL, "the biggest head of a request; 1,000 channels of 20 bytes fit")            \
    X(SIZE, input_bytes_max, "max-input", "TRAMLINE_MAX_INPUT", "SIZE", "256MiB", TL_KIB,          \
      1024 * TL_GIB, TL_RELOAD, NULL, "unfinished bodies and messages of all clients together")    \
    X(COUNT, inbound_rate_max, "inbound-rate", "TRAMLINE_INBOUND_RATE", "N", "1000", 1, 10000000,  \
      TL_RELOAD, NULL, "messages a second and WebSocket client")                                   \
    X(COUNT, connections_max, "max-connections", "TRAMLINE_MAX_CONNECTIONS", "N", "0", 0,          \
      100000000, TL_RELOAD, NULL, "connections in all; 0 is what descriptors allow")               \
    X(COUNT, session_channels_max, "channels-per-connection", "TRAMLINE_CHANNELS_PER_CONNECTION",  \
      "N", "1000", 1, 8192, TL_RELOAD, NULL, "channels of one event stream, /sse?ch=a&ch=b")       \
    X(COUNT, address_connections_max, "max-connections-per-address",                               \
      "TRAMLINE_MAX_CONNECTIONS_PER_ADDRESS", "N", "0", 0, 100000000, TL_RELOAD, NULL,             \
      "connections of one address; 0 is no limit, as behind a proxy all clients share one")        \
    H("What it says")                                                                              \
    X(ENUM, log_level, "log-level", "TRAMLINE_LOG_LEVEL", "error|warn|info|debug", "info", 0, 0,   \
      TL_RELOAD, NULL, "log lines up to this level, on standard error")

#define TL_OPTION_C_STRING   char *
#define TL_OPTION_C_LIST     struct tl_strings
#define TL_OPTION_C_DURATION uint64_t
#define TL_OPTION_C_SIZE     uint64_t
#define TL_OPTION_C_COUNT    uint64_t
#define TL_OPTION_C_BOOL     bool
#define TL_OPTION_C_ENUM     int

/*
 * The values; one field a row of the table above, so `uint64_t linger_ms` and so on. `engine` is an
 * enum tl_engine, `log_level` an enum tl_level. Strings are never NULL,
 * "" is "not given".
 */
struct tl_options {
#define TL_OPTION_NONE(heading)
#define TL_OPTION_FIELD(type, field, flag, env, value, def, min, max, marks, check, help)          \
    TL_OPTION_C_##type field;
    TL_SERVE_OPTIONS(TL_OPTION_NONE, TL_OPTION_FIELD)
#undef TL_OPTION_FIELD
#undef TL_OPTION_NONE
};

extern const struct tl_option tl_serve_options[];
extern const size_t tl_serve_options_n;

/*
 * Defaults, environment and flags, then what several options say together: the token file is read
 * into `token`, `workers` 0 becomes the number of usable cores. argv holds no program name.
 * Returns 0; 1 if only help was asked for (the values are the caller's all the same); -EINVAL or
 * -ENOMEM with one line for the user in error (the exit status is 2). Owner: tl_options_deinit() in
 * every case.
 */
TL_MUST_USE int tl_options_parse(struct tl_options *ret_options, int argc, char **argv, char **env,
                                 char *error, size_t error_n);

void tl_options_deinit(struct tl_options *options);

/* Append what `tramline serve --help` prints. */
void tl_options_help(struct tl_buf *out);

#endif
