/*
 * The sink that a session writes to: a session knows a tl_conn and never a socket. Here it passes
 * straight through to its stream; TLS belongs here too, between the stream's handler and the
 * session's. The rules are those of loop/loop.h (thread, lifetimes, at most one pending send).
 * It never parses a byte and keeps none.
 */
#ifndef TL_NET_CONN_H
#define TL_NET_CONN_H

#include "loop/loop.h"

struct tl_conn {
    struct tl_stream stream; /* nobody above reaches past the functions below */
};

/* The conn that a handler was called for. */
static inline struct tl_conn *tl_conn_of(struct tl_stream *s)
{
    return TL_CONTAINER(s, struct tl_conn, stream);
}

/* As tl_stream_open(). The handler gets &conn->stream and the plain bytes. */
TL_MUST_USE static inline int tl_conn_open(struct tl_loop *loop, struct tl_conn *conn, int fd,
                                           const struct tl_stream_handler *handler)
{
    return tl_stream_open(loop, &conn->stream, fd, handler);
}

/* As tl_stream_recv(). */
static inline void tl_conn_recv(struct tl_conn *conn, bool on)
{
    tl_stream_recv(&conn->stream, on);
}

/* As tl_stream_send(). */
TL_MUST_USE static inline ssize_t tl_conn_send(struct tl_conn *conn, const struct tl_bytes *slices,
                                               unsigned n)
{
    return tl_stream_send(&conn->stream, slices, n);
}

/* What stands for the conn in tl_conn_send_all(). */
static inline struct tl_stream *tl_conn_stream(struct tl_conn *conn)
{
    return &conn->stream;
}

/* As tl_loop_send_all(). */
static inline void tl_conn_send_all(struct tl_loop *loop, struct tl_stream *const *streams,
                                    unsigned streams_n, const struct tl_bytes *slices,
                                    unsigned slices_n, ssize_t *ret_taken)
{
    tl_loop_send_all(loop, streams, streams_n, slices, slices_n, ret_taken);
}

/* As tl_stream_shutdown(). */
static inline void tl_conn_shutdown(struct tl_conn *conn)
{
    tl_stream_shutdown(&conn->stream);
}

/* As tl_stream_close(). */
static inline void tl_conn_close(struct tl_conn *conn)
{
    tl_stream_close(&conn->stream);
}

/* As tl_stream_reset(). */
static inline void tl_conn_reset(struct tl_conn *conn)
{
    tl_stream_reset(&conn->stream);
}

static inline bool tl_conn_is_closed(const struct tl_conn *conn)
{
    return tl_stream_is_closed(&conn->stream);
}

/*
 * Break the connection when sent bytes stay unacknowledged that long (TCP_USER_TIMEOUT, tcp(7);
 * 0: the system's default). Ignored on anything but TCP and on a closed conn.
 */
void tl_conn_tune(struct tl_conn *conn, uint32_t user_timeout_ms);

#endif
