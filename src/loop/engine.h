/*
 * Between loop.c and an engine: the table of functions that an engine gives, and the loop's own
 * fields that it may use. Only files of src/loop include this. An engine moves bytes and calls the
 * handlers of streams, acceptors and connects, from io() only; it never runs timers, mail or tasks.
 */
#ifndef TL_LOOP_ENGINE_H
#define TL_LOOP_ENGINE_H

#include "loop/loop.h"

#include <stdatomic.h>

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
    void (*stream_shutdown)(struct tl_stream *s);
    /* Sets s->fd to -1; calls tl_loop_stream_over() at once or when nothing is in flight. */
    void (*stream_close)(struct tl_stream *s, bool reset);

    int (*acceptor_open)(struct tl_acceptor *a);
    void (*acceptor_pause)(struct tl_acceptor *a);
    void (*acceptor_resume)(struct tl_acceptor *a);
    void (*acceptor_close)(struct tl_acceptor *a);

    int (*connect_start)(struct tl_connect *c, const struct sockaddr *address, socklen_t address_n);
    void (*connect_cancel)(struct tl_connect *c);
};

extern const struct tl_engine_ops tl_engine_epoll;

struct tl_loop {
    const struct tl_engine_ops *ops;
    void *engine; /* the engine's own */
    struct tl_timers timers;
    struct tl_mailbox mailbox;
    struct tl_list tasks;
    struct tl_list closed; /* streams (by `ready`) that wait for on_closed */
    size_t streams_n;      /* opened, on_closed not told yet */
    uint64_t now_ms;
    pthread_t owner; /* the thread of the run or turn in progress, while `running` */
    bool running;
    atomic_bool stop; /* set by tl_loop_stop(), taken by tl_loop_run() */
};

/* Nothing of the closed stream is in flight any more: on_closed is told at the end of the turn.
 * s->ready must be on no list. */
void tl_loop_stream_over(struct tl_stream *s);

#endif
