/*
 * tl-check: a checking client. It drives thousands of WebSocket and SSE clients against a gateway
 * and knows for each of them which bytes must come next. It shares no code with the product, so
 * that a bug cannot cancel out: libc and libcrypto only. It never judges time.
 */
#ifndef CHECK_H
#define CHECK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define NO_INDEX        UINT32_MAX
#define LATENCY_BUCKETS 1024

enum publish_mode { PUBLISH_NONE, PUBLISH_HTTP, PUBLISH_REDIS };
enum content { CONTENT_TEXT, CONTENT_BINARY, CONTENT_LINES, CONTENT_CR };

struct options {
    struct sockaddr_in target;
    const char *host; /* ADDR:PORT as given, for Host: */
    uint32_t ws_n, sse_n, stalled_n, channels_n, messages_n;
    size_t size;
    enum content content;
    uint32_t burst, rate, window; /* messages; per second; not yet everywhere */
    enum publish_mode publish;
    uint16_t redis_port;
    const char *redis_password;
    uint32_t publishers_n;
    uint32_t churn_hz, churn_slots, resume_n;
    uint32_t deadline_s, connect_parallel, settle_ms, hold_s, sources_n;
    int64_t expect_subscribers; /* -1: do not look */
    int server_pid;
    bool together; /* send all requests at once, when all are connected ("first") */
    bool wait_go, allow_gaps, verbose;
    const char *path_ws, *path_sse, *path_pub, *prefix, *expect_file, *aggregate;
    uint32_t aggregate_ws_n, aggregate_sse_n;
    char *headers; /* extra request lines, each with CRLF */
    unsigned seed;
};

struct message {
    const uint8_t *bytes;
    size_t n;
    const char *source; /* aggregate channels: where it was published */
    uint64_t published_us;
    uint32_t delivered_n;
};

struct channel {
    char *name;
    struct message *expected;
    uint32_t expected_n, expected_cap;
    uint32_t published_n; /* handed to the publisher's socket */
    uint32_t answered_n;  /* and answered */
    uint32_t done_n;      /* delivered to every steady client */
    uint32_t steady_n;
    bool aggregate;
};

enum client_kind { KIND_WS, KIND_SSE };
enum client_role { ROLE_STEADY, ROLE_STALLED, ROLE_CHURN };
enum client_state {
    STATE_FREE,
    STATE_CONNECTING,
    STATE_HELD,   /* connected, the request is kept back */
    STATE_ASKED,  /* request sent */
    STATE_OPENED, /* SSE: 200 came, the start position did not yet */
    STATE_LIVE,
    STATE_CLOSED,
};

struct bytes {
    uint8_t *at;
    size_t n, cap;
};

/* What an SSE client needs beside; WebSocket clients have none of it. */
struct sse {
    bool chunked, skip_lf, id_seen;
    uint8_t chunk_state;
    size_t chunk_left;
    struct bytes line, data;
    char event[300];
    char last_id[600];
};

struct client {
    int fd;
    enum client_kind kind;
    enum client_role role;
    enum client_state state;
    struct channel *channel;
    uint32_t next;       /* index of the message that must come next, NO_INDEX: not known yet */
    uint32_t earliest;   /* churn: the first may not be older than this ... */
    uint32_t latest;     /* ... nor newer */
    uint16_t status;     /* HTTP status, 0 before */
    uint16_t close_code; /* WebSocket */
    bool gap_told, counted_ready, fragment_text;
    uint64_t started_us;
    struct bytes held;     /* input that is not complete yet */
    struct bytes fragment; /* WebSocket: the message so far */
    struct sse *sse;
    char key[25];
};

struct results {
    uint64_t deliveries, delivery_bytes, duplicates, gaps, gap_messages, told_gaps, corrupt,
        wrong_channel, wrong_opcode, stale, missed_at_start, extra, protocol_errors, refused,
        closed_early, broker_events, gap_events, churned, resumed, pings, publish_errors,
        publish_wrong_count, connect_errors;
    uint32_t ready_n, first_refusal;
    uint32_t latency[LATENCY_BUCKETS];
    char first_problem[400];
};

extern struct options options;
extern struct results results;
extern struct channel *channels;
extern uint32_t channels_n;
extern int epoll_fd;
extern uint64_t now_us;

/* options.c */
int options_parse(int argc, char **argv);

/* payload.c: the channels and what must arrive on them */
int channels_make(void);
struct channel *channel_named(const char *name);
void message_delivered(struct channel *channel, uint32_t index);
/* How many messages reached every steady client. */
uint64_t messages_done(void);
/* Compare what came with what must come, count what is wrong. source: the SSE event name or "". */
void client_check(struct client *c, const uint8_t *bytes, size_t n, bool text, const char *source);

/* client.c: one connection's life */
void client_start(struct client *c);
void client_ask(struct client *c);
void client_ready(struct client *c);
void client_event(struct client *c, uint32_t events);
void client_drop(struct client *c, bool reset);
void client_failed(struct client *c, const char *why);
void problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* websocket.c, sse.c */
void websocket_key(struct client *c);
bool websocket_accepts(const struct client *c, const char *accept, size_t n);
/* Parse what there is; returns how many bytes were used. */
size_t websocket_feed(struct client *c, const uint8_t *bytes, size_t n);
void sse_open(struct client *c, bool chunked);
void sse_feed(struct client *c, const uint8_t *bytes, size_t n);
void sse_close(struct client *c);

/* publisher.c */
int publishers_start(void);
void publisher_event(uint32_t index, uint32_t events);
/* Hand over what may go now; returns the time to the next one in ms, -1: nothing to wait for. */
int publishers_tick(void);
bool publishers_finished(void);
uint64_t published_messages(void);

/* measure.c */
struct usage {
    uint64_t cpu_us;
    uint64_t rss_bytes;
};
struct usage usage_of(int pid);
uint64_t clock_us(void);
void latency_add(uint64_t us);
uint64_t latency_percentile(double percent);

/* buffers */
void bytes_add(struct bytes *b, const void *at, size_t n);
void bytes_drop(struct bytes *b, size_t n);
void bytes_free(struct bytes *b);
void *must(void *allocated);

/* epoll_event.data.u64: what kind in the high half, which one in the low half */
#define TAG_CLIENT    0ull
#define TAG_CHURN     1ull
#define TAG_PUBLISHER 2ull
#define TAG_STDIN     3ull
uint64_t client_tag(const struct client *c);

#endif
