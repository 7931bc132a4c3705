/*
 * Streams of the io_uring engine. A stream that wants input has one multishot receive in the
 * kernel, which takes a provided buffer when bytes come and none before. A stream that does not
 * want input keeps its receive until something comes: that is held on the heap, so that nobody can
 * sit on the provided buffers, and the receive is cancelled.
 */
#include "base/alloc.h"
#include "loop/uring.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define READS_A_TURN    4 /* callbacks for what is held, before the others get their turn */
#define FREE_SENDS_KEPT 256
#define SLOTS_MAX       UINT16_MAX /* streams that bytes are held for at a time */

/* In the lower half of s->flags; the upper half is the errno of the end, 0 for EOF. */
enum stream_flag {
    WANTED = 1,      /* tl_stream_recv(s, true) */
    ARMED = 2,       /* a receive is in the kernel */
    DISARMING = 4,   /* and its cancellation too */
    WATCHED = 8,     /* a poll for hang-ups is in the kernel */
    UNWATCHING = 16, /* and its cancellation too */
    ENDED = 32,      /* no bytes will come any more: EOF, or an error */
    BROKEN = 64,     /* nobody is there any more: told to a paused stream too */
    TOLD = 128,      /* on_recv(n <= 0) was told */
    UNSENDING = 128, /* of a closed stream: the send's cancellation is in the kernel */
    LOW_MASK = 255,
};

struct tl_uring_send {
    struct tl_uring_send *next; /* when free */
    enum tl_uring_kind kind;
    struct msghdr header;
    struct iovec parts[TL_SEND_SLICES_MAX];
};

static bool has(const struct tl_stream *s, unsigned flag)
{
    return (s->flags & flag) != 0;
}

static void set(struct tl_stream *s, unsigned flag)
{
    s->flags |= (uint16_t)flag;
}

static void clear(struct tl_stream *s, unsigned flag)
{
    s->flags &= (uint16_t)~flag;
}

static void make_ready(struct tl_uring *u, struct tl_stream *s)
{
    if (tl_list_empty(&s->ready))
        tl_list_append(&u->ready, &s->ready);
}

void tl_uring_give_buffer(struct tl_uring *u, unsigned id)
{
    io_uring_buf_ring_add(u->buf_ring, u->buffers + (size_t)id * TL_URING_BUFFER_BYTES,
                          TL_URING_BUFFER_BYTES, (unsigned short)id,
                          io_uring_buf_ring_mask(u->buffers_n), 0);
    io_uring_buf_ring_advance(u->buf_ring, 1);
}

/* ---- bytes that are not wanted yet ---- */

struct tl_uring_held {
    struct tl_uring_held *next; /* a ring: the stream's slot has the last, and behind it is the
                                   first */
    size_t at, n;
    uint8_t bytes[];
};

static struct tl_uring_held *last_held(const struct tl_uring *u, const struct tl_stream *s)
{
    return s->slot == 0 ? NULL : u->held[s->slot - 1];
}

static bool grow_slots(struct tl_uring *u)
{
    unsigned cap = u->slots_cap == 0 ? 16 : 2 * u->slots_cap;
    if (cap > SLOTS_MAX)
        cap = SLOTS_MAX;
    if (cap == u->slots_cap)
        return false;
    void *held = tl_realloc(u->held, cap * sizeof(struct tl_uring_held *));
    if (held == NULL)
        return false;
    u->held = held;
    void *free_slots = tl_realloc(u->free_slots, cap * sizeof(*u->free_slots));
    if (free_slots == NULL)
        return false;
    u->free_slots = free_slots;
    while (u->slots_cap < cap)
        u->free_slots[u->free_slots_n++] = (uint16_t)++u->slots_cap;
    return true;
}

/* Keep a copy of the bytes behind those that are held. False: no memory. */
static bool hold(struct tl_uring *u, struct tl_stream *s, const uint8_t *bytes, size_t n)
{
    if (s->slot == 0 && u->free_slots_n == 0 && !grow_slots(u))
        return false;
    struct tl_uring_held *held = tl_alloc(sizeof(*held) + n);
    if (held == NULL)
        return false;
    held->at = 0;
    held->n = n;
    memcpy(held->bytes, bytes, n);
    struct tl_uring_held *last = last_held(u, s);
    held->next = last == NULL ? held : last->next;
    if (last != NULL)
        last->next = held;
    else
        s->slot = u->free_slots[--u->free_slots_n];
    u->held[s->slot - 1] = held;
    return true;
}

/* Take the first piece off; it is the caller's. */
static struct tl_uring_held *take_held(struct tl_uring *u, struct tl_stream *s)
{
    struct tl_uring_held *last = last_held(u, s), *first = last->next;
    if (first != last) {
        last->next = first->next;
    } else {
        u->free_slots[u->free_slots_n++] = s->slot;
        s->slot = 0;
    }
    return first;
}

/* Put it back in front; there is a slot, as taking it left one. */
static void put_back_held(struct tl_uring *u, struct tl_stream *s, struct tl_uring_held *first)
{
    struct tl_uring_held *last = last_held(u, s);
    if (last != NULL) {
        first->next = last->next;
        last->next = first;
        return;
    }
    first->next = first;
    s->slot = u->free_slots[--u->free_slots_n];
    u->held[s->slot - 1] = first;
}

static void drop_held(struct tl_uring *u, struct tl_stream *s)
{
    while (s->slot != 0)
        tl_free(take_held(u, s));
}

/* ---- what the kernel does for a stream ---- */

static void arm(struct tl_uring *u, struct tl_stream *s)
{
    struct io_uring_sqe *sqe = tl_uring_sqe(u, TL_URING_RECV, tl_uring_tag(s, TL_URING_ON_RECV));
    if (sqe == NULL) {
        make_ready(u, s);
        return;
    }
    io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    set(s, ARMED);
}

static void disarm(struct tl_uring *u, struct tl_stream *s)
{
    if (!has(s, ARMED) || has(s, DISARMING))
        return;
    if (tl_uring_cancel(u, tl_uring_tag(s, TL_URING_ON_RECV)))
        set(s, DISARMING);
    else
        make_ready(u, s);
}

/* A paused stream hears of a peer that is gone; a completion for each change, as a half-close
 * alone must not be announced over and over. */
static void watch(struct tl_uring *u, struct tl_stream *s)
{
    struct io_uring_sqe *sqe = tl_uring_sqe(u, TL_URING_WATCH, tl_uring_tag(s, TL_URING_ON_WATCH));
    if (sqe == NULL) {
        make_ready(u, s);
        return;
    }
    io_uring_prep_poll_multishot(sqe, s->fd, POLLERR | POLLHUP);
    set(s, WATCHED);
}

/* Closed: get everything out of the kernel, and then it is over. */
static void wind_up(struct tl_uring *u, struct tl_stream *s)
{
    if (s->fd == -1)
        return; /* it is over already */
    disarm(u, s);
    if (has(s, WATCHED) && !has(s, UNWATCHING)) {
        if (tl_uring_cancel(u, tl_uring_tag(s, TL_URING_ON_WATCH)))
            set(s, UNWATCHING);
        else
            make_ready(u, s);
    }
    if (s->pending != NULL && !has(s, UNSENDING)) {
        const struct tl_uring_send *send = s->pending;
        if (tl_uring_cancel(u, tl_uring_tag(s, send->kind)))
            set(s, UNSENDING);
        else
            make_ready(u, s);
    }
    if (has(s, ARMED | WATCHED) || s->pending != NULL)
        return;
    close(-2 - s->fd); /* not before: what is queued names the descriptor by its number */
    s->fd = -1;
    tl_list_remove(&s->ready);
    tl_loop_stream_over(s);
}

/* ---- receiving ---- */

static void end(struct tl_stream *s, int error)
{
    if (has(s, ENDED))
        return;
    unsigned code = (unsigned)-error;
    if (code > UINT8_MAX)
        code = EIO;
    set(s, ENDED | code << 8 | (error < 0 ? BROKEN : 0));
}

static void tell_end(struct tl_uring *u, struct tl_stream *s)
{
    if (!has(s, ENDED)) /* a paused stream whose peer is gone */
        end(s, tl_socket_error(s->fd));
    set(s, TOLD);
    drop_held(u, s);
    s->handler->on_recv(s, NULL, -(ssize_t)(s->flags >> 8));
}

/* Tell the bytes for as long as they are wanted; returns how many were told. */
static size_t tell(struct tl_stream *s, uint8_t *bytes, size_t n, int *reads)
{
    size_t told = 0;
    while (told < n && *reads < READS_A_TURN && has(s, WANTED) && !tl_stream_is_closed(s)) {
        size_t left = n - told;
        size_t part = left < tl_sys.recv_bytes_max ? left : tl_sys.recv_bytes_max;
        s->handler->on_recv(s, bytes + told, (ssize_t)part);
        told += part;
        ++*reads;
    }
    return told;
}

static void tell_held(struct tl_uring *u, struct tl_stream *s)
{
    int reads = 0;
    while (s->slot != 0 && reads < READS_A_TURN && has(s, WANTED) && !tl_stream_is_closed(s)) {
        struct tl_uring_held *first = take_held(u, s); /* the callback may close the stream */
        first->at += tell(s, first->bytes + first->at, first->n - first->at, &reads);
        if (first->at == first->n || tl_stream_is_closed(s))
            tl_free(first);
        else
            put_back_held(u, s, first);
    }
}

/* Tell an end that is due, and bring what the kernel does in line with what the stream wants. */
static void pursue(struct tl_uring *u, struct tl_stream *s)
{
    bool due = has(s, WANTED) ? has(s, ENDED) && s->slot == 0 : has(s, BROKEN);
    if (!tl_stream_is_closed(s) && due && !has(s, TOLD))
        tell_end(u, s);
    if (tl_stream_is_closed(s) || has(s, TOLD))
        return;
    if (s->slot != 0) {
        disarm(u, s); /* bounds what is held */
        if (has(s, WANTED))
            make_ready(u, s);
    }
    if (has(s, ARMED))
        return;
    if (!has(s, WANTED)) {
        if (!has(s, WATCHED))
            watch(u, s);
    } else if (s->slot == 0 && !has(s, ENDED)) {
        arm(u, s);
    }
}

static void receive(struct tl_uring *u, struct tl_stream *s, uint8_t *bytes, size_t n)
{
    int reads = 0;
    size_t told = s->slot == 0 ? tell(s, bytes, n, &reads) : 0;
    if (told < n && !tl_stream_is_closed(s) && !hold(u, s, bytes + told, n - told)) {
        drop_held(u, s);
        end(s, -ENOMEM); /* bytes are lost: that breaks the stream */
    }
}

/* Results of a receive after which another one may be armed. */
static bool passes(int result)
{
    return result == -ENOBUFS || result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}

void tl_uring_on_recv(struct tl_uring *u, struct tl_stream *s, int result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0)
        clear(s, ARMED | DISARMING);
    bool deaf = tl_stream_is_closed(s) || has(s, TOLD | ENDED);
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
        if (result > 0 && !deaf)
            receive(u, s, u->buffers + (size_t)id * TL_URING_BUFFER_BYTES, (size_t)result);
        tl_uring_give_buffer(u, id);
    }
    if (result <= 0 && !deaf && !passes(result))
        end(s, result);
    if (tl_stream_is_closed(s))
        wind_up(u, s);
    else if (result == -ENOBUFS && !deaf && tl_list_empty(&s->ready))
        tl_list_append(&u->starved, &s->ready);
    else
        pursue(u, s); /* what was held before has its turn */
}

void tl_uring_on_watch(struct tl_uring *u, struct tl_stream *s, int result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0)
        clear(s, WATCHED | UNWATCHING);
    if (!tl_stream_is_closed(s) && result > 0 && ((unsigned)result & (POLLERR | POLLHUP)) != 0)
        set(s, BROKEN);
    else if (!tl_stream_is_closed(s) && result < 0 && !passes(result))
        end(s, result);
    tl_uring_stream_work(u, s);
}

void tl_uring_stream_work(struct tl_uring *u, struct tl_stream *s)
{
    if (!tl_stream_is_closed(s))
        tell_held(u, s);
    if (tl_stream_is_closed(s))
        wind_up(u, s);
    else
        pursue(u, s);
}

/* ---- sending ---- */

struct tl_uring_send tl_uring_plain = {.kind = TL_URING_ON_SEND};
struct tl_uring_send tl_uring_plain_batched = {.kind = TL_URING_ON_BATCHED};
struct tl_uring_send tl_uring_plain_closed = {.kind = TL_URING_ON_BATCHED};

static struct tl_uring_send *send_new(struct tl_uring *u, unsigned slices_n,
                                      enum tl_uring_kind kind)
{
    if (slices_n == 1)
        return kind == TL_URING_ON_SEND ? &tl_uring_plain : &tl_uring_plain_batched;
    struct tl_uring_send *send = u->free_sends;
    if (send == NULL) {
        send = tl_alloc(sizeof(*send));
        if (send == NULL)
            return NULL;
    } else {
        u->free_sends = send->next;
        u->free_sends_n--;
    }
    send->kind = kind;
    return send;
}

static void send_free(struct tl_uring *u, struct tl_uring_send *send)
{
    if (send == &tl_uring_plain || send == &tl_uring_plain_batched ||
        send == &tl_uring_plain_closed)
        return;
    if (u->free_sends_n >= FREE_SENDS_KEPT) {
        tl_free(send);
        return;
    }
    send->next = u->free_sends;
    u->free_sends = send;
    u->free_sends_n++;
}

/* The slices, cut at tl_sys.uring_send_bytes_max. */
static void fill_header(struct tl_uring_send *send, const struct tl_bytes *slices, unsigned n)
{
    size_t left = tl_sys.uring_send_bytes_max;
    unsigned i = 0;
    for (; i < n && left > 0; i++) {
        send->parts[i] = tl_socket_iovec(slices[i]);
        if (send->parts[i].iov_len > left)
            send->parts[i].iov_len = left;
        left -= send->parts[i].iov_len;
    }
    send->header = (struct msghdr){.msg_iov = send->parts, .msg_iovlen = i};
}

static void prepare_send(struct io_uring_sqe *sqe, struct tl_stream *s,
                         const struct tl_bytes *slices, unsigned n)
{
    if (n == 1) {
        tl_uring_prepare_plain(sqe, s->fd, slices);
        return;
    }
    struct tl_uring_send *send = s->pending;
    fill_header(send, slices, n);
    io_uring_prep_sendmsg(sqe, s->fd, &send->header, MSG_NOSIGNAL);
}

/* busy: the socket is known to take nothing now, so the kernel need not try first. */
static ssize_t queue_send(struct tl_uring *u, struct tl_stream *s, const struct tl_bytes *slices,
                          unsigned n, bool busy)
{
    bool batched = u->loop->batching && !busy;
    enum tl_uring_kind kind = batched ? TL_URING_ON_BATCHED : TL_URING_ON_SEND;
    struct tl_uring_send *send = send_new(u, n, kind);
    if (send == NULL)
        return -ENOMEM;
    struct io_uring_sqe *sqe = tl_uring_sqe(u, TL_URING_SEND, tl_uring_tag(s, kind));
    if (sqe == NULL) {
        send_free(u, send);
        return -ENOMEM;
    }
    s->pending = send;
    u->batched_n += batched;
    prepare_send(sqe, s, slices, n);
    if (busy)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    return TL_SEND_PENDING;
}

static bool at_once(struct tl_uring *u)
{
    if (!u->loop->batching)
        return !tl_sys.uring_queue_always;
    if (u->direct_left == 0)
        return false;
    u->direct_left--;
    return true;
}

ssize_t tl_uring_stream_send(struct tl_stream *s, const struct tl_bytes *slices, unsigned n)
{
    struct tl_uring *u = tl_uring_of(s->loop);
    bool busy = false;
    if (at_once(u)) {
        ssize_t taken = tl_socket_send(s->fd, slices, n);
        if (taken != -EAGAIN && taken != -EINTR)
            return taken;
        busy = taken == -EAGAIN;
    }
    return queue_send(u, s, slices, n, busy);
}

void tl_uring_on_send(struct tl_uring *u, struct tl_stream *s, int result)
{
    send_free(u, s->pending);
    s->pending = NULL;
    if (tl_stream_is_closed(s)) {
        wind_up(u, s);
        return;
    }
    /* Nothing was taken, and nothing is wrong with the stream. */
    bool later = result == 0 || result == -EINTR || result == -EAGAIN || result == -ENOBUFS;
    s->handler->on_sent(s, later ? -ENOMEM : result);
}

/* ---- streams ---- */

int tl_uring_stream_open(struct tl_stream *s)
{
    s->slot = 0;
    return 0;
}

void tl_uring_stream_recv(struct tl_stream *s, bool on)
{
    struct tl_uring *u = tl_uring_of(s->loop);
    if (on)
        set(s, WANTED);
    else
        clear(s, WANTED);
    if (has(s, TOLD))
        return;
    if (on ? has(s, ENDED) || s->slot != 0 : has(s, BROKEN))
        make_ready(u, s);
    else if (on && !has(s, ARMED))
        arm(u, s);
}

void tl_uring_stream_shutdown(struct tl_stream *s)
{
    shutdown(s->fd, SHUT_WR);
}

void tl_uring_stream_close(struct tl_stream *s, bool reset)
{
    struct tl_uring *u = tl_uring_of(s->loop);
    if (reset)
        tl_socket_reset_on_close(s->fd);
    drop_held(u, s);
    s->fd = -2 - s->fd;
    clear(s, UNSENDING);
    bool sending = s->pending != NULL;
    if (s->pending == &tl_uring_plain_batched)
        s->pending = &tl_uring_plain_closed;
    wind_up(u, s);
    if (sending)
        tl_uring_submit(u); /* the kernel reads the bytes no more */
}

void tl_uring_streams_deinit(struct tl_uring *u)
{
    for (struct tl_uring_send *send = u->free_sends, *next; send != NULL; send = next) {
        next = send->next;
        tl_free(send);
    }
    tl_free(u->held);
    tl_free(u->free_slots);
}
