/*
 * The hot part of sessions: the same range to many that have nothing else to send, and what came of
 * it where the loop queued it. What fits neither is left to session.c, one by one.
 */
#include "gateway/session.h"

/* Hot. */
bool tl_session_send_range(struct tl_stream *const *streams, unsigned n,
                           const struct tl_range *range, struct tl_outvec *out)
{
    ssize_t taken[TL_SEND_ALL_MAX], whole = (ssize_t)range->bytes_n;
    ssize_t queued = out ? TL_SEND_PENDING : 0;
    struct tl_worker *worker = tl_session_of(streams[0])->worker;
    unsigned queued_n = 0, whole_n = 0;
    tl_conn_send_all(worker->loop, streams, n, range->slices, range->slices_n, taken);
    for (unsigned i = 0; i < n; i++) {
        struct tl_session *s = tl_session_of(streams[i]);
        if (taken[i] == queued) {
            s->sub.out = out;
            s->sending = TL_SENDING_QUEUED;
            queued_n++;
        } else if (taken[i] == whole) {
            s->sub.off = range->to.off;
            s->sub.msg = range->to.msg;
            s->alive = true;
            whole_n++;
        } else {
            tl_session_sent_partly(s, taken[i]);
        }
    }
    if (out)
        out->refs += queued_n;
    worker->queued_n += queued_n;
    tl_worker_count_sends(worker, whole_n, whole_n * range->bytes_n);
    return queued_n + whole_n == n;
}

/*
 * Hot. Sends that the fan-out in progress queued are over, nearly all of them whole and of the same
 * range, with nothing behind it: views do not change meanwhile. Returns for how many of the first
 * that is so.
 */
static unsigned fan_out_sent(struct tl_stream *const *streams, const int32_t *taken, unsigned n)
{
    struct tl_worker *worker = tl_session_of(streams[0])->worker;
    struct tl_outvec *out = tl_session_of(streams[0])->sub.out;
    if (!out || !out->is_newest)
        return 0;
    uint64_t to_off = out->to.off, to_msg = out->to.msg, whole = to_off - out->base_off;
    unsigned i = 0;
    for (; i < n; i++) {
        struct tl_session *s = tl_session_of(streams[i]);
        if (s->sub.out != out || s->sending != TL_SENDING_QUEUED || !s->reading || s->own ||
            (uint64_t)taken[i] != whole)
            break;
        s->sub.off = to_off;
        s->sub.msg = to_msg;
        s->sub.out = NULL;
        s->sending = TL_SENDING_NONE;
        s->alive = true;
    }
    worker->queued_n -= i;
    tl_worker_count_sends(worker, i, i * whole);
    out->refs -= i;
    if (out->refs == 0)
        tl_outvec_free(out);
    return i;
}

void tl_session_on_sent_all(struct tl_stream *const *streams, const int32_t *taken, unsigned n)
{
    for (unsigned at = 0; at < n;) {
        at += fan_out_sent(streams + at, taken + at, n - at);
        if (at == n)
            return;
        if (!tl_session_of(streams[at])->closed)
            tl_session_on_sent(streams[at], taken[at]);
        at++;
    }
}
