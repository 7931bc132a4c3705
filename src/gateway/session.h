/*
 * One client: a connection that speaks HTTP first and then is a WebSocket, an event stream, or goes
 * on with requests. session.c has what all have in common: input, the one send in flight, the
 * timer, the end. What the bytes mean is the phase's: request.c, websocket.c, sse.c.
 *
 * A session belongs to its worker's loop for life. It writes to a sink (net/conn.h). At any moment
 * it is in one phase, and all state that an upgrade of the process would have to hand over is in
 * this struct.
 */
#ifndef TL_GATEWAY_SESSION_H
#define TL_GATEWAY_SESSION_H

#include "base/metrics.h"
#include "gateway/channel_view.h"
#include "gateway/hub.h"
#include "gateway/worker.h"
#include "net/conn.h"
#include "proto/ws.h"

struct tl_limits_address;
struct tl_many;     /* many.h: several channels */
struct tl_exchange; /* request.c: the HTTP request in progress */
struct tl_phase;
struct tl_posts; /* posts.c: publishes whose answers are due */
struct tl_session;

/* Bytes of the session's own, sent at borders of the lane: responses, control frames, comments. */
struct tl_own {
    struct tl_own *next;
    const uint8_t *p;       /* `bytes`, or bytes that are lent and outlive the session, or of seg */
    struct tl_segment *seg; /* a reference, or NULL */
    uint32_t n, sent;
    uint8_t bytes[];
};

/* The send that is in flight in the background. */
enum tl_sending {
    TL_SENDING_NONE,
    TL_SENDING_LANE,
    TL_SENDING_OWN,
    TL_SENDING_QUEUED, /* of the lane, and queued by the fan-out in progress */
};

struct tl_session {
    /* What a fan-out touches comes first, in as few cache lines as can be. */
    struct tl_conn conn;
    struct tl_worker *worker;
    uint8_t sending;  /* enum tl_sending */
    uint8_t looks_n;  /* at a send that does not move, since progress_ms */
    bool reading : 1; /* input is wanted; not of a closed session */
    bool alive : 1;   /* something came, or was taken, since the last ping */
    bool closed : 1;
    uint32_t unsent_n; /* in the kernel at the last look; 0: not known */
    struct tl_own *own, *own_last;
    /* With several channels it is on none: only its out-vector and cursor are in use, for what is
     * being sent of them. */
    struct tl_subscription sub;
    const struct tl_phase *phase;
    struct tl_list node, lag_node, ready_node;
    struct tl_list publishes; /* duplex: struct tl_publish_request on their way */
    struct tl_timer timer;
    struct tl_many *many;         /* or NULL */
    struct tl_buf in;             /* received and not consumed yet */
    struct tl_exchange *exchange; /* NULL outside of HTTP */
    struct tl_posts *posts;       /* NULL when no answer to a publish is due */
    struct tl_ws_parser ws;
    size_t input_n;                    /* bytes of body and message, as counted by limits.h */
    struct tl_buf message;             /* duplex: the client's message so far */
    uint64_t progress_ms;              /* when the send in flight began, or was last seen to move */
    uint64_t beat_ms;                  /* the next heartbeat, or the phase's deadline */
    struct tl_limits_address *address; /* counted by limits.h, or NULL */
    uint32_t rate_second;              /* inbound rate: the second that is counted, and how many */
    uint32_t rate_n;
    uint32_t own_n; /* unsent own bytes */
    uint16_t publishes_n;
    uint16_t expired_n;  /* SSE: its view's, as it was told */
    uint16_t close_code; /* duplex: the client's close frame, whose echo waits for publishes */
    uint8_t gauge;       /* enum tl_metric: the gauge of live sessions that counts this one, or 0 */
    bool listener_is_loopback : 1;
    bool paced : 1;       /* waits for sub.next_ms, with the timer */
    bool input_ended : 1; /* the peer sends no more */
    bool pinged : 1;      /* a ping went out at the last heartbeat */
    bool duplex : 1;
    bool polite_close : 1;
    bool strict : 1; /* WebSocket: a gap closes */
    bool close_sent : 1;
    bool close_received : 1;
    bool told_down : 1; /* SSE: waits and was told that the broker is down */
    bool in_input : 1;  /* inside on_input: the phase's parser is on the stack */
};

/* What a phase does with what happens. Any may end the session or change its phase. NULL where it
 * does not care, or where it cannot happen: a subscription's events come only while there is one.
 */
struct tl_phase {
    const char *name;
    /* Consume some of the bytes (which may be changed in place); returns how many. Called again
     * while it consumes and input is wanted. */
    size_t (*on_input)(struct tl_session *s, uint8_t *bytes, size_t n);
    void (*on_input_end)(struct tl_session *s); /* EOF after all input was consumed */
    /* Own bytes are gone, and a frame is not open; or there is nothing to send now. */
    void (*on_own_sent)(struct tl_session *s);
    void (*on_timer)(struct tl_session *s); /* the deadline of tl_session_arm() */
    /* The subscription was acknowledged, refused, fell off its log, or waits with the broker
     * down. */
    void (*on_acknowledged)(struct tl_session *s);
    void (*on_refused)(struct tl_session *s, enum tl_broker_status why);
    void (*on_overflow)(struct tl_session *s, const struct tl_lost *lost);
    /* The cursor was moved past events that it did not send; of messages the rule says nothing. */
    void (*on_passed)(struct tl_session *s, const struct tl_lost *lost);
    void (*on_link_down)(struct tl_session *s);
    /* A live subscription will miss messages that come behind all that its view has. They are
     * counted already. */
    void (*on_gap)(struct tl_session *s, const struct tl_gaps *gaps);
    void (*on_published)(struct tl_session *s, struct tl_publish_request *request);
    void (*on_drain)(struct tl_session *s); /* the gateway ends: be gone politely */
};

extern const struct tl_phase tl_phase_request, tl_phase_pending, tl_phase_websocket, tl_phase_sse,
    tl_phase_ending, tl_phase_draining;

/* A session for an accepted fd, in the request phase; NULL without memory (fd is the caller's). */
struct tl_session *tl_session_new(struct tl_worker *worker, int fd, bool listener_is_loopback);

/* Send n more bytes of the session's own. False without memory: the session was closed. */
bool tl_session_own(struct tl_session *s, struct tl_bytes bytes);
/* The same from a buffer, which is emptied; a failed buffer closes the session. */
bool tl_session_own_buf(struct tl_session *s, struct tl_buf *buf);

/* The same with at most UINT32_MAX bytes that outlive the session: no copy of them is made. */
bool tl_session_lend(struct tl_session *s, struct tl_bytes bytes);

/* Send what there is to send. */
void tl_session_pump(struct tl_session *s);

/* Has it nothing to send but what its view may hold behind the cursor, and waits for nothing? */
static inline bool tl_session_is_idle(const struct tl_session *s)
{
    return s->reading && !s->sending && s->sub.live && !s->own && !s->sub.out;
}

/* The session that a stream's handler is called for. */
static inline struct tl_session *tl_session_of(struct tl_stream *stream)
{
    return TL_CONTAINER(tl_conn_of(stream), struct tl_session, conn);
}

/* What stands for the session in a fan-out. */
static inline struct tl_stream *tl_session_stream(struct tl_session *s)
{
    return tl_conn_stream(&s->conn);
}

/* Send idle sessions of one worker, 1..TL_SEND_ALL_MAX, that range, which tl_worker_range() gave
 * for their cursor; `out` is the same pinned where the loop queues sends, or NULL. True: to all it
 * went whole, or is on its way. */
bool tl_session_send_range(struct tl_stream *const *streams, unsigned n,
                           const struct tl_range *range, struct tl_outvec *out);
/* What a send of the range that was asked for last came to, if it did not go whole. True: some of
 * it went at once, go on. */
bool tl_session_sent_partly(struct tl_session *s, ssize_t n);
/* Of the handler of all sessions. */
void tl_session_on_sent(struct tl_stream *stream, ssize_t n);
void tl_session_on_sent_all(struct tl_stream *const *streams, const int32_t *taken, unsigned n);

/* The lane goes on at that time: pump again. */
void tl_session_pace(struct tl_session *s, uint64_t next_ms);

/* The batch is over: is its send still in flight? */
void tl_session_note_lag(struct tl_session *s);

/* Send on, beyond a turn's share, until the cursor reaches off or the socket is full. */
void tl_session_catch_up(struct tl_session *s, uint64_t off);

/* Want input, or do not. */
void tl_session_read(struct tl_session *s, bool on);
/* Consume what is kept of the input, then receive. From outside of on_input. */
void tl_session_resume_input(struct tl_session *s);

void tl_session_set_phase(struct tl_session *s, const struct tl_phase *phase);
/* on_timer after that time. */
void tl_session_arm(struct tl_session *s, uint64_t delay_ms);

/* Subscribe; the phase's on_acknowledged follows, maybe from inside. False: no memory. */
bool tl_session_subscribe(struct tl_session *s, enum tl_lane_kind lane, struct tl_bytes name);
/* The channel is subscribed and known here: the phase's on_acknowledged follows, at once, or later
 * if the session resumes from where a stream has to be asked. */
void tl_session_acknowledge(struct tl_session *s);
/* The cursor to the newest border: from here on everything is delivered. */
void tl_session_go_live(struct tl_session *s, struct tl_mark from);

/* The unfinished body or message grows by n bytes. False: over the limit of all. */
TL_MUST_USE bool tl_session_take_input(struct tl_session *s, size_t n);
/* It is finished, or gone. */
void tl_session_give_input(struct tl_session *s);

/* The subscription fell off its log: counted, and the phase does what the channel's rule says. */
void tl_session_overflow(struct tl_session *s, const struct tl_lost *lost);

/* Publish; takes the payload's memory over. The phase's on_published follows, never from inside.
 * False: no memory. */
bool tl_session_publish(struct tl_session *s, struct tl_bytes name, struct tl_buf *payload);

/* Send what is left of the session's own, then FIN, then wait a moment for the peer's. */
void tl_session_finish(struct tl_session *s);
/* How long an ending session gets for its last bytes and the peer's close frame. */
uint64_t tl_session_ending_ms(const struct tl_session *s);
/* Close now. */
void tl_session_close(struct tl_session *s);
/* Close now and drop what the kernel holds for the peer. */
void tl_session_reset(struct tl_session *s);

/* Count the session in that gauge until it ends. */
void tl_session_gauge(struct tl_session *s, enum tl_metric gauge);

/* Heartbeat helper: a jittered interval, at most ping_ms. */
uint64_t tl_session_beat_ms(const struct tl_session *s);
/* websocket.c: the exchange says on which terms, and is freed. */
void tl_websocket_start(struct tl_session *s);
void tl_websocket_close(struct tl_session *s, enum tl_ws_close code, const char *reason);
/* sse.c */
void tl_sse_start_stream(struct tl_session *s);
/* request.c */
void tl_request_start(struct tl_session *s);
/* Send what there is to send, then the next request, unless too much is unread. */
void tl_request_go_on(struct tl_session *s);
void tl_exchange_free(struct tl_session *s);

#endif
