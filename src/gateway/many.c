#include "gateway/many.h"

#include "base/alloc.h"
#include "gateway/session.h"

#define OUT_BYTES 65536 /* one send takes about so much */
/* Beside an out-vector: id lines that stand in for those of the lane. One always fits. */
#define IDS_BYTES (TL_SEQUENCE_TEXT_MAX + 256)

_Static_assert(IDS_BYTES >= TL_SEQUENCE_TEXT_MAX + sizeof "id: \n", "an id line fits");

struct tl_many *tl_many_new(struct tl_session *s, size_t n)
{
    size_t size = sizeof(struct tl_many) + n * sizeof(struct tl_member);
    struct tl_many *many = tl_zalloc(size + n * sizeof(struct tl_member *));
    if (!many)
        return NULL;
    many->session = s;
    many->n = n;
    many->heap = (struct tl_member **)(void *)((uint8_t *)many + size);
    tl_list_init(&many->touched);
    tl_list_init(&many->paced);
    tl_list_init(&many->silent);
    for (size_t i = 0; i < n; i++) {
        many->members[i].many = many;
        tl_list_init(&many->members[i].sub.node);
        tl_list_init(&many->members[i].waits);
    }
    return many;
}

void tl_many_close(struct tl_many *many)
{
    if (!many)
        return;
    tl_list_remove(&many->touched);
    many->settled = false;
    many->heap_n = 0;
    for (size_t i = 0; i < many->n; i++) {
        many->members[i].heap_at = 0;
        tl_member_close(&many->members[i]);
    }
}

void tl_many_free(struct tl_many *many)
{
    tl_many_close(many);
    tl_free(many);
}

/* --- the heap of those with something to send --- */

static void put(struct tl_many *many, size_t at, struct tl_member *m)
{
    many->heap[at] = m;
    m->heap_at = (uint32_t)at + 1;
}

static void sift_up(struct tl_many *many, size_t at, struct tl_member *m)
{
    while (at > 0 && many->heap[(at - 1) / 2]->key > m->key) {
        put(many, at, many->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(many, at, m);
}

static void sift_down(struct tl_many *many, size_t at, struct tl_member *m)
{
    for (size_t child; (child = 2 * at + 1) < many->heap_n; at = child) {
        if (child + 1 < many->heap_n && many->heap[child + 1]->key < many->heap[child]->key)
            child++;
        if (many->heap[child]->key >= m->key)
            break;
        put(many, at, many->heap[child]);
    }
    put(many, at, m);
}

static void heap_remove(struct tl_member *m)
{
    struct tl_many *many = m->many;
    if (m->heap_at == 0)
        return;
    size_t at = m->heap_at - 1;
    struct tl_member *last = many->heap[--many->heap_n];
    m->heap_at = 0;
    if (last == m)
        return;
    sift_up(many, at, last);
    sift_down(many, last->heap_at - 1, last);
}

/* It is there with that key. */
static void heap_place(struct tl_member *m, uint64_t key)
{
    struct tl_many *many = m->many;
    m->key = key;
    if (m->heap_at == 0) {
        sift_up(many, many->heap_n++, m);
        return;
    }
    sift_up(many, m->heap_at - 1, m);
    sift_down(many, m->heap_at - 1, m);
}

/* The least key but that of the first, or UINT64_MAX. */
static uint64_t second_key(const struct tl_many *many)
{
    uint64_t key = UINT64_MAX;
    for (size_t i = 1; i <= 2 && i < many->heap_n; i++)
        key = many->heap[i]->key < key ? many->heap[i]->key : key;
    return key;
}

uint64_t tl_many_seq_behind_gap(const struct tl_member *m)
{
    const struct tl_view *view = &m->sub.view->view;
    uint64_t next = second_key(m->many);
    if (view->tail.off < view->head.off && tl_view_seq(view, view->tail.off) < next)
        next = tl_view_seq(view, view->tail.off);
    return next > m->many->sent_seq && next < UINT64_MAX ? next - 1 : m->many->sent_seq;
}

/* --- members --- */

static uint64_t now_of(const struct tl_many *many)
{
    return tl_loop_now_ms(many->session->worker->loop);
}

void tl_member_close(struct tl_member *m)
{
    heap_remove(m);
    tl_list_remove(&m->waits);
    m->many->left_n -= m->sub.view != NULL;
    tl_subscription_close(&m->sub);
}

/* Past what is not for it. */
static void raise_cursor(struct tl_member *m)
{
    const struct tl_view *view = &m->sub.view->view;
    struct tl_mark mark = tl_view_behind(view, m->floor);
    if (m->sub.off < view->tail.off && m->floor < view->seqs.tail) {
        m->floor = 0; /* of what was for it some has gone */
        return;
    }
    if (mark.off > m->sub.off)
        tl_subscription_skip_to(&m->sub, mark);
    if (mark.idx < view->head.idx)
        m->floor = 0;
}

/* Is there nothing but messages that its rule holds back? Those may be late, but an event of a gap
 * stands before all that has a greater number. */
static bool must_wait(const struct tl_member *m)
{
    return m->sub.view->rule->interval_ms > 0 && now_of(m->many) < m->sub.next_ms &&
           !tl_view_has_event_behind(&m->sub.view->view, m->sub.off);
}

/* Not before its time. */
static void pace(struct tl_member *m)
{
    struct tl_many *many = m->many;
    if (!tl_list_empty(&m->waits))
        return;
    if (tl_list_empty(&many->paced) || m->sub.next_ms < many->paced_ms)
        many->paced_ms = m->sub.next_ms;
    tl_list_append(&many->paced, &m->waits);
    tl_session_pace(many->session, many->paced_ms);
}

/* It has sent all: is its channel's silence to be told? */
static void note_silence(struct tl_member *m)
{
    const struct tl_channel_view *view = m->sub.view;
    if (!view->stale || m->expired_n == view->expired_n || !tl_list_empty(&m->waits))
        return;
    m->silent = true;
    tl_list_append(&m->many->silent, &m->waits);
}

void tl_member_mark(struct tl_member *m)
{
    if (!m->sub.live)
        return;
    const struct tl_view *view = &m->sub.view->view;
    if (m->silent) {
        m->silent = false;
        tl_list_remove(&m->waits);
    }
    if (m->floor > 0)
        raise_cursor(m);
    if (m->sub.off >= view->head.off) {
        heap_remove(m);
        note_silence(m);
    } else if (must_wait(m)) {
        heap_remove(m);
        pace(m);
    } else {
        /* Who fell off goes first: nothing may go out that has a greater number than what it will
         * not get, before that is told. */
        heap_place(m, m->sub.off < view->tail.off ? 0 : tl_view_seq(view, m->sub.off));
    }
}

/* Those whose time has come. */
static void wake_paced(struct tl_many *many)
{
    uint64_t now_ms = now_of(many);
    struct tl_list waiting, *l;
    if (tl_list_empty(&many->paced) || now_ms < many->paced_ms)
        return;
    tl_list_init(&waiting);
    tl_list_splice(&waiting, &many->paced);
    while ((l = tl_list_pop(&waiting)))
        tl_member_mark(TL_CONTAINER(l, struct tl_member, waits));
}

/* --- what is sent next --- */

struct tl_outvec *tl_many_out_new(size_t bytes_n)
{
    struct tl_outvec *out = tl_alloc(sizeof *out + bytes_n);
    if (!out)
        return NULL;
    out->refs = 1;
    out->base_off = 0;
    out->to = (struct tl_mark){0};
    out->is_newest = false;
    out->slices_n = out->segs_n = 0;
    return out;
}

void tl_many_send(struct tl_session *s, struct tl_outvec *out)
{
    assert(!s->sub.out);
    s->sub.off = 0;
    s->sub.out = out;
    s->many->sends_n++;
    if (tl_list_empty(&s->lag_node))
        tl_list_append(&s->worker->lagging, &s->lag_node);
}

void tl_many_refuse(struct tl_session *s)
{
    tl_metric_add(TL_M_REFUSED_MEMORY, 1);
    tl_session_reset(s);
}

/*
 * What a rule let go late comes behind greater numbers: then it gets the last one that went out, so
 * that who comes back with it is sent nothing twice. *ids_n: bytes in use beside the out-vector.
 * False: no room.
 */
static bool add_late_id(struct tl_member *m, struct tl_outvec *out, size_t *ids_n,
                        struct tl_range *range)
{
    char token[TL_SEQUENCE_TEXT_MAX];
    struct tl_sequence sequence = {tl_hub_sequence(m->many->session->worker->hub).epoch,
                                   m->many->sent_seq};
    size_t token_n = tl_sequence_print(sequence, tl_member_name(m), token);
    size_t n = token_n + sizeof "id: \n" - 1;
    if (n > IDS_BYTES - *ids_n || out->slices_n + 1 + range->slices_n > 16)
        return false;
    uint8_t *line = (uint8_t *)(out + 1) + *ids_n;
    memcpy(line, "id: ", 4);
    memcpy(line + 4, token, token_n);
    line[n - 1] = '\n';
    *ids_n += n;
    out->slices[out->slices_n++] = tl_bytes(line, n);
    out->to.off += n;
    struct tl_bytes first = tl_many_skip_id(range->slices[0]);
    range->bytes_n -= range->slices[0].n - first.n;
    range->slices[0] = first;
    return true;
}

static void add_range(struct tl_member *m, struct tl_outvec *out, const struct tl_range *range)
{
    struct tl_segment *segs[16];
    const struct tl_view *view = &m->sub.view->view;
    unsigned n = tl_view_pin(view, m->sub.off, range->to.off, segs);
    memcpy(out->segs + out->segs_n, segs, n * sizeof *segs);
    memcpy(out->slices + out->slices_n, range->slices, range->slices_n * sizeof *range->slices);
    out->segs_n += n;
    out->slices_n += range->slices_n;
    out->to.off += range->bytes_n;
    uint64_t seq = tl_view_seq_before(view, range->to);
    if (seq > m->many->sent_seq)
        m->many->sent_seq = seq;
    tl_subscription_skip_to(&m->sub, range->to);
    if (m->sub.view->rule->interval_ms > 0)
        m->sub.next_ms = now_of(m->many) + m->sub.view->rule->interval_ms;
}

/* What the first member has before anybody else's turn. False: the out-vector is full. */
static bool add_run(struct tl_member *m, struct tl_outvec *out, size_t *ids_n)
{
    const struct tl_view *view = &m->sub.view->view;
    uint64_t second = second_key(m->many);
    bool is_late = m->key < m->many->sent_seq;
    /* Older ones of a stream, which were put before the log, are alike in number. */
    uint64_t last = is_late || second <= m->key ? m->key : second - 1;
    size_t left = out->to.off < OUT_BYTES ? OUT_BYTES - out->to.off : 0;
    uint64_t run = tl_view_behind(view, last).off - m->sub.off;
    struct tl_range range;
    tl_view_range(view, m->sub.off, run < left ? run : left, &range);
    if (out->slices_n > 0 && (range.bytes_n > left || out->slices_n + range.slices_n > 16))
        return false;
    if (is_late && !add_late_id(m, out, ids_n, &range))
        return false;
    add_range(m, out, &range);
    tl_member_mark(m);
    return true;
}

enum turn {
    TURN_READY, /* the first member may be sent */
    TURN_MOVED, /* look again who is first */
    TURN_OVER,  /* nothing more now */
};

/* The first member's rule has its say. has_some: something stands before its turn in this send. */
static enum turn apply_rule(struct tl_member *m, bool has_some)
{
    const struct tl_channel_rule *rule = m->sub.view->rule;
    bool fell = m->sub.off < m->sub.view->view.tail.off;
    if (!fell && rule->interval_ms == 0)
        return TURN_READY;
    if (!fell) {
        if (!tl_subscription_conflate(&m->sub))
            return TURN_READY;
        tl_member_mark(m);
        return TURN_MOVED;
    }
    if (has_some)
        return TURN_OVER;
    if (!tl_sse_many_overflow(m))
        return TURN_OVER;
    tl_member_mark(m);
    return m->many->session->own ? TURN_OVER : TURN_MOVED;
}

static void fill(struct tl_many *many, struct tl_outvec *out)
{
    size_t ids_n = 0;
    while (many->heap_n > 0) {
        struct tl_member *m = many->heap[0];
        enum turn turn = apply_rule(m, out->slices_n > 0);
        if (turn == TURN_OVER || (turn == TURN_READY && !add_run(m, out, &ids_n)))
            return;
    }
}

bool tl_many_next(struct tl_session *s)
{
    struct tl_many *many = s->many;
    if (!many->started)
        return tl_many_next_first(many);
    wake_paced(many);
    if (!tl_list_empty(&many->silent))
        return tl_sse_many_tell_silent(many);
    if (many->heap_n == 0)
        return false;
    struct tl_outvec *out = tl_many_out_new(IDS_BYTES);
    if (!out) {
        tl_many_refuse(s);
        return false;
    }
    fill(many, out);
    if (out->slices_n == 0 || s->closed) {
        tl_outvec_unref(out);
        return !s->closed && s->own != NULL;
    }
    tl_many_send(s, out);
    return true;
}

/* --- for the worker --- */

static struct tl_member *member_of(struct tl_list *node)
{
    return TL_CONTAINER(TL_CONTAINER(node, struct tl_subscription, node), struct tl_member, sub);
}

/* Send on, beyond a turn's share, until the member is past that or the socket is full. */
static void catch_up(struct tl_member *m, uint64_t off)
{
    struct tl_session *s = m->many->session;
    uint32_t before;
    do {
        before = m->many->sends_n;
        tl_session_pump(s);
    } while (m->sub.live && !s->sending && m->sub.off < off && m->many->sends_n != before);
}

void tl_many_catch_up(struct tl_channel_view *view, uint64_t tail_off)
{
    struct tl_list *next;
    for (struct tl_list *l = view->subscriptions.next; l != &view->subscriptions; l = next) {
        struct tl_member *m = member_of(l);
        next = l->next;
        if (m->sub.live && m->sub.off < tail_off && !tl_list_empty(&m->many->session->ready_node))
            catch_up(m, tail_off);
    }
}

void tl_many_mark(struct tl_channel_view *view, bool failed)
{
    for (struct tl_list *l = view->subscriptions.next; l != &view->subscriptions; l = l->next) {
        struct tl_member *m = member_of(l);
        if (failed)
            heap_remove(m);
        else
            tl_member_mark(m);
    }
}
