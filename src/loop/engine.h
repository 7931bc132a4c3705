/*
 * Between loop.c and an engine: the table of functions that an engine gives, and the loop's own
 * fields that it may use. Only files of src/loop include this. An engine moves bytes and calls the
 * handlers of streams, acceptors and connects, from io() only; it never runs timers, mail or tasks.
 */
#ifndef TL_LOOP_ENGINE_H
#define TL_LOOP_ENGINE_H

#include "loop/loop.h"
#include "loop/sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/uio.h>

/* loop.c has checked the thread and the arguments, and that the stream is not closed. */
struct tl_engine_ops {
    const char *name;
    int (*init)(struct tl_loop *loop); /* sets loop->engine, watches the mailbox; 0 or -errno */
    void (*deinit)(struct tl_loop *loop);

    /* Whether there is work that no event will announce, so that the next wait must not block. */
    bool (*has_work)(const struct tl_loop *loop);
    /* Wait for events at most timeout_ms (< 0: for ever) and keep them; no callback. */
    void (*wait)(struct tl_loop *loop, int timeout_ms);
    /* Handle the events kept by wait(), and the work left by the turn before. */
    void (*io)(struct tl_loop *loop);

    int (*stream_open)(struct tl_stream *s);
    void (*stream_recv)(struct tl_stream *s, bool on);
    ssize_t (*stream_send)(struct tl_stream *s, const struct tl_bytes *slices, unsigned n);
    /* As tl_loop_send_all(). */
    void (*send_all)(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                     const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken);
    /* Make the sends queued since the batch began, and tell those that are over. NULL: none are. */
    void (*batch_end)(struct tl_loop *loop);
    void (*stream_shutdown)(struct tl_stream *s);
    /* Sets s->fd to a negative value; calls tl_loop_stream_over() at once or when nothing is in
     * flight. */
    void (*stream_close)(struct tl_stream *s, bool reset);

    int (*acceptor_open)(struct tl_acceptor *a);
    void (*acceptor_pause)(struct tl_acceptor *a);
    void (*acceptor_resume)(struct tl_acceptor *a);
    void (*acceptor_close)(struct tl_acceptor *a);

    int (*connect_start)(struct tl_connect *c, const struct sockaddr *address, socklen_t address_n);
    void (*connect_cancel)(struct tl_connect *c);
};

extern const struct tl_engine_ops tl_engine_epoll;
extern const struct tl_engine_ops tl_engine_uring;

struct tl_loop {
    const struct tl_engine_ops *ops;
    void *engine; /* the engine's own */
    struct tl_timers timers;
    struct tl_mailbox mailbox;
    struct tl_list tasks;
    struct tl_list closed; /* streams (by `ready`) that wait for on_closed */
    size_t streams_n;      /* opened, on_closed not told yet */
    uint64_t now_ms;
    bool batching; /* between tl_loop_batch_begin() and _end() */
    int refused;   /* AUTO: -errno of the engine that was tried first, or 0 */
    bool running;
    atomic_bool stop; /* set by tl_loop_stop(), taken by tl_loop_run() */
};

/* ---- socket.c: calls that both engines make, through the table of sys.h ---- */

/* The first try, and what all tries came to, given the first one's result and errno. */
ssize_t tl_socket_send_once(int fd, const struct tl_bytes *slices, unsigned n);
ssize_t tl_socket_send_on(int fd, const struct tl_bytes *slices, unsigned n, ssize_t taken);

/* How many bytes were taken (> 0), or -errno: -EAGAIN, -EINTR (only after several tries), -ENOMEM
 * (also for ENOBUFS), or that of a broken connection. Raises no SIGPIPE. Inline: the one slice that
 * is taken at once is what a fan-out consists of. */
static inline ssize_t tl_socket_send(int fd, const struct tl_bytes *slices, unsigned n)
{
    ssize_t taken = n == 1 ? tl_sys.send(fd, slices[0].p, slices[0].n, MSG_NOSIGNAL)
                           : tl_socket_send_once(fd, slices, n);
    return taken > 0 ? taken : tl_socket_send_on(fd, slices, n, taken);
}
/* The slice as iovec, which has no const; the kernel only reads. */
struct iovec tl_socket_iovec(struct tl_bytes slice);
/* The socket's own error as -errno, or 0: both sides have ended. Clears it. */
int tl_socket_error(int fd);
/* Let the close() to come send a RST. */
void tl_socket_reset_on_close(int fd);
/* Whether that error of accept(2) is of the one connection that was to be accepted, not of the
 * listener. */
bool tl_socket_accept_passes(int error);
/* Make c->fd and start to connect. 0: over, its result is in c->error; 1: it goes on in the
 * background, EPOLLOUT tells; -errno: no socket was made. */
int tl_socket_connect(struct tl_connect *c, const struct sockaddr *address, socklen_t address_n);
/* Tell on_connect what c->fd and c->error say; c may be freed by it. */
void tl_socket_connect_over(struct tl_connect *c);

/* ---- loop.c ---- */

/* Nothing of the closed stream is in flight any more: on_closed is told at the end of the turn.
 * s->ready must be on no list. */
void tl_loop_stream_over(struct tl_stream *s);

#endif
