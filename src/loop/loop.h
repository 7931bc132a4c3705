/*
 * One loop is one thread: streams, acceptors, timers, deferred tasks and a mailbox. This is the
 * completion-style seam: nothing above src/loop knows which engine runs. It never parses a byte
 * and never frees what its users embed.
 *
 * Lifetime rules
 *  1. All functions but tl_mailbox_post() and tl_loop_stop() are called on the loop's own thread
 *     (asserted) or before it runs.
 *  2. Callbacks run from tl_loop_run() only, never from inside the call that caused them; those of
 *     a batch of sends from inside tl_loop_batch_end().
 *  3. A stream's memory belongs to its owner and must live until on_closed, which is its last
 *     callback and comes exactly once after tl_stream_close() or tl_stream_reset(), never from
 * inside that call.
 *  4. The memory behind a send's slices must stay valid until the send completes or on_closed.
 *  5. Bytes given to on_recv are lent for the call; they may be changed in place (unmasking).
 */
#ifndef TL_LOOP_LOOP_H
#define TL_LOOP_LOOP_H

#include "base/bytes.h"
#include "base/list.h"
#include "loop/mailbox.h"
#include "loop/timer.h"

#include <sys/socket.h>
#include <sys/types.h>

struct tl_loop;
struct tl_stream;

enum tl_engine { TL_ENGINE_AUTO, TL_ENGINE_URING, TL_ENGINE_EPOLL };

#define TL_SEND_SLICES_MAX 16
#define TL_SEND_ALL_MAX    64 /* streams of one tl_loop_send_all() */
/* tl_stream_send(): taken in the background, on_sent will tell. */
#define TL_SEND_PENDING (-1000000)

struct tl_stream_handler {
    /* n > 0: bytes arrived; n == 0: the peer ended its side; n < 0: -errno, the stream is broken.
     * After n <= 0 no further on_recv comes; the owner closes. */
    void (*on_recv)(struct tl_stream *s, uint8_t *bytes, ssize_t n);
    /* A pending send completed: n > 0 bytes of it were taken (maybe not all), or -errno. */
    void (*on_sent)(struct tl_stream *s, ssize_t n);
    /* May stand for on_sent, of sends of a batch that took taken[i] > 0 bytes each; of
     * 1..TL_SEND_ALL_MAX streams with this handler. One that is closed from within, before its own
     * turn, is the callee's to pass over. NULL: on_sent for each. */
    void (*on_sent_all)(struct tl_stream *const *streams, const int32_t *taken, unsigned n);
    /* Everything in flight is over; the owner may free the stream. */
    void (*on_closed)(struct tl_stream *s);
};

struct tl_stream {
    struct tl_loop *loop;
    const struct tl_stream_handler *handler;
    struct tl_list ready; /* engine: on the list of streams with work left for the next turn */
    void *pending;        /* engine: the send in flight, or NULL */
    int fd;               /* negative when closed */
    uint16_t flags, slot; /* engine's own */
};

/* Start using a connected non-blocking socket; takes fd over on success. Receiving is off until
 * tl_stream_recv(s, true). 0, or -errno of the engine (fd stays the caller's). */
TL_MUST_USE int tl_stream_open(struct tl_loop *loop, struct tl_stream *s, int fd,
                               const struct tl_stream_handler *handler);

/* Receive, or pause. Pausing takes effect at once: no on_recv after it until resumed; bytes stay in
 * the kernel. While paused a broken connection (RST, both sides gone) is still told through
 * on_recv(n <= 0); a mere half-close is told only when receiving. */
void tl_stream_recv(struct tl_stream *s, bool on);

/*
 * Send the slices (1..TL_SEND_SLICES_MAX, none empty) in order. Returns
 *   n > 0            that many bytes were taken at once (maybe fewer than offered); no callback;
 *   TL_SEND_PENDING  nothing yet; on_sent tells; at most one pending send a stream (asserted);
 *   -errno           the stream is broken (-EPIPE, -ECONNRESET, ...) or -ENOMEM (try again later is
 * allowed).
 */
TL_MUST_USE ssize_t tl_stream_send(struct tl_stream *s, const struct tl_bytes *slices, unsigned n);

/*
 * Between the two, sends of the loop's streams may be queued, to be made together by
 * tl_loop_batch_end(): thousands of them by a few system calls. They return TL_SEND_PENDING;
 * on_sent of all that did not find their socket full is told before tl_loop_batch_end() returns,
 * and a batch is no reason for anybody to fall behind. Sends in those callbacks are made at once.
 * Not nested. False: this engine queues none.
 */
bool tl_loop_batch_begin(struct tl_loop *loop);
void tl_loop_batch_end(struct tl_loop *loop);

/*
 * Send the same slices to each of 1..TL_SEND_ALL_MAX streams of the loop, none closed or with a
 * pending send (asserted): ret_taken[i] is what tl_stream_send() would return. What a fan-out
 * consists of: what is the same for all is done once, and nothing is called for each.
 */
void tl_loop_send_all(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                      const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken);

/* Bytes that the kernel took and the peer has not acknowledged; 0 if that is not known. A full
 * socket may be told to have room only after a good part of them, a long time for a slow peer. */
uint32_t tl_stream_unsent(const struct tl_stream *s);

/* No more sending (FIN). A pending send is not allowed (asserted). Errors are ignored: on_recv
 * tells. */
void tl_stream_shutdown(struct tl_stream *s);

/* Close the socket; a pending send is cancelled without on_sent. on_closed follows. Idempotent. */
void tl_stream_close(struct tl_stream *s);

/* The same with a RST, so that the kernel drops what it still holds for the peer. */
void tl_stream_reset(struct tl_stream *s);

static inline bool tl_stream_is_closed(const struct tl_stream *s)
{
    return s->fd < 0;
}

/* A listening socket. on_accept owns the new non-blocking, close-on-exec fd. */
struct tl_acceptor {
    struct tl_loop *loop;
    void (*on_accept)(struct tl_acceptor *a, int fd, const struct sockaddr_storage *peer);
    /* accept failed with -EMFILE, -ENFILE, -ENOBUFS or -ENOMEM: accepting is paused until
     * tl_acceptor_resume(). */
    void (*on_refused)(struct tl_acceptor *a, int error);
    struct tl_list ready;
    void *op; /* engine's own */
    int fd;
    uint16_t flags;
};

/* Takes the listening fd over on success. 0 or -errno. */
TL_MUST_USE int tl_acceptor_open(struct tl_loop *loop, struct tl_acceptor *a, int fd);
void tl_acceptor_pause(struct tl_acceptor *a);
void tl_acceptor_resume(struct tl_acceptor *a);
/* Closes the fd; no callback afterwards, the memory is the owner's at once. Idempotent. */
void tl_acceptor_close(struct tl_acceptor *a);

/* An outbound connect. */
struct tl_connect {
    struct tl_loop *loop;
    /* fd >= 0: connected, the callee owns it; fd < 0: -errno. */
    void (*on_connect)(struct tl_connect *c, int fd);
    struct tl_list ready;
    int fd;
    int error;
    void *op; /* engine's own */
};

/* Connect a new non-blocking socket. 0 (on_connect follows, never from inside) or -errno. */
TL_MUST_USE int tl_connect_start(struct tl_loop *loop, struct tl_connect *c,
                                 const struct sockaddr *address, socklen_t address_n);
/* Give up; no callback afterwards. Idempotent, takes a zeroed struct too. */
void tl_connect_cancel(struct tl_connect *c);

/* Run fn once, later in this turn, after I/O, timers and mail. A task that is queued already stays
 * queued. */
struct tl_task {
    struct tl_list node; /* tl_task_init() */
    void (*fn)(struct tl_task *task);
};
void tl_task_init(struct tl_task *task, void (*fn)(struct tl_task *));
void tl_loop_defer(struct tl_loop *loop, struct tl_task *task);
void tl_task_cancel(struct tl_task *task);

/* A new loop, or NULL with *ret_error = -errno. engine: AUTO takes the best that works here. */
TL_MUST_USE struct tl_loop *tl_loop_new(enum tl_engine engine, int *ret_error);
/* All streams must be closed. Takes NULL. */
void tl_loop_free(struct tl_loop *loop);

/* Run until tl_loop_stop(). The calling thread becomes the loop's thread. */
void tl_loop_run(struct tl_loop *loop);
/* One turn: wait at most wait_ms (0: do not wait), run what is due. For tests and for draining. */
void tl_loop_turn(struct tl_loop *loop, uint32_t wait_ms);
/* Any thread; async-signal-safe. */
void tl_loop_stop(struct tl_loop *loop);

/* The loop's time: monotonic milliseconds, read once a turn. */
uint64_t tl_loop_now_ms(const struct tl_loop *loop);
/* "io_uring", "epoll" */
const char *tl_loop_engine_name(const struct tl_loop *loop);
/* AUTO: why io_uring was not taken, as -errno; 0 when it was, or nobody asked. */
int tl_loop_uring_refused(const struct tl_loop *loop);
/* That error of tl_loop_uring_refused(), or of tl_loop_new(TL_ENGINE_URING), in words for an
 * operator. */
const char *tl_engine_refusal(int error);
struct tl_mailbox *tl_loop_mailbox(struct tl_loop *loop);
struct tl_timers *tl_loop_timers(struct tl_loop *loop);

/* Timers of the loop, by delay from the loop's now. Starting a started timer moves it. */
void tl_loop_timer_start(struct tl_loop *loop, struct tl_timer *timer, uint64_t delay_ms);

#endif
