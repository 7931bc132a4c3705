/*
 * Where a session of several channels begins, and with what: once all of them are there it sends
 * the snapshots of its newcomers, a few at a time, and then the block from whose number on all of
 * them are merged. Until that block nothing that it sends is a position, so whoever is cut before
 * it comes back as it came.
 */
#include "gateway/exchange.h"
#include "gateway/many.h"
#include "gateway/sse.h"
#include "proto/sse.h"

#define COPIED_BYTES     16384 /* of small snapshots in one send */
#define COPIED_BYTES_MAX 4096  /* a larger one is sent from where it lies */

const struct tl_asked_channel *tl_member_asked(const struct tl_member *m)
{
    return &m->many->session->exchange->asked->channels[m - m->many->members];
}

void tl_many_append_id(struct tl_buf *out, const struct tl_many *many, struct tl_bytes name,
                       uint64_t seq)
{
    const struct tl_session *s = many->session;
    char token[TL_SEQUENCE_TEXT_MAX];
    struct tl_sequence sequence = {tl_hub_sequence(s->worker->hub).epoch, seq};
    if (!many->started && !s->exchange->asked->resumes)
        tl_sequence_print_tag(name, token);
    else
        tl_sequence_print(many->started ? sequence : s->exchange->asked->since, name, token);
    tl_buf_printf(out, "id: %s\n", token);
}

/* --- members --- */

static void set_cursor(struct tl_member *m, struct tl_mark from)
{
    m->sub.off = from.off;
    m->sub.msg = from.msg;
}

/* Does it begin somewhere that only this channel knows of? */
static bool has_place(const struct tl_member *m)
{
    const struct tl_exchange *exchange = m->many->session->exchange;
    const struct tl_terms *terms = &exchange->terms;
    return tl_member_asked(m)->resumes ||
           (!exchange->asked->resumes && (terms->history_msgs > 0 || terms->history_ms > 0));
}

/* The terms of the member alone. */
static struct tl_terms terms_of(const struct tl_member *m)
{
    struct tl_terms terms = m->many->session->exchange->terms;
    terms.resumes = tl_member_asked(m)->resumes;
    terms.position = tl_member_asked(m)->position;
    return terms;
}

/* At its position or in its history: as soon as its channel is there, so that it has as much of it
 * as it asked for. */
static void place(struct tl_member *m)
{
    struct tl_terms terms = terms_of(m);
    struct tl_mark from;
    m->outcome = tl_exchange_start_in(m->many->session, m->sub.view, &terms, &from, &m->missed);
    m->placed = true;
    set_cursor(m, from);
}

static bool wants_snapshot(const struct tl_member *m)
{
    struct tl_terms terms = terms_of(m);
    return !m->many->session->exchange->asked->resumes &&
           tl_snapshot_is_wanted(m->sub.view, &terms);
}

/* Has its channel, which is there, all that it begins with? */
static bool has_all(struct tl_member *m)
{
    struct tl_channel_view *view = m->sub.view;
    uint64_t now_seq = tl_hub_sequence(view->worker->hub).at;
    bool is_newcomer = wants_snapshot(m);
    bool by_number = m->many->session->exchange->asked->resumes;
    /* Where a rate may have held the newest back it is sent again, so it must be the newest. */
    bool gets_newest = by_number && view->rule->interval_ms > 0;
    if (!is_newcomer && !has_place(m) && !gets_newest)
        return true;
    if (!tl_channel_view_is_current(view))
        return false;
    m->key = now_seq;
    if (is_newcomer)
        return tl_snapshot_settles(view);
    struct tl_position position = tl_member_asked(m)->position;
    if (!by_number && tl_member_asked(m)->resumes &&
        !tl_channel_view_settles(view, &position, &m->seek_due))
        return false;
    if (!by_number)
        place(m);
    return true;
}

/*
 * May the member begin, or has it gone? Once it may, it may for as long as its channel is there:
 * of many there would always be one that has to wait again.
 */
static bool is_settled(struct tl_member *m)
{
    const struct tl_channel_view *view = m->sub.view;
    if (!view || m->placed)
        return !view || view->state == TL_ATTACH_LIVE;
    if (view->state != TL_ATTACH_LIVE)
        m->settled = false;
    else if (!m->settled || tl_snapshot_is_void(view))
        m->settled = has_all(m);
    return m->settled;
}

static void settle(struct tl_many *many)
{
    if (many->settled)
        return;
    many->settled = true;
    for (size_t i = 0; i < many->n; i++) /* all of them, as some have to ask */
        many->settled = is_settled(&many->members[i]) && many->settled;
}

/* --- snapshots --- */

/* What is sent next: small ones in one piece, or one with which a large message ends. */
struct first {
    struct tl_buf text;
    struct tl_bytes large;
    struct tl_segment *seg; /* which has it: a reference */
};

/* The message, in either way; gives up the snapshot's reference. */
static void append_message(struct first *first, const struct tl_view *view,
                           struct tl_snapshot *snapshot, struct tl_mark from)
{
    struct tl_segment *seg = snapshot->seg, *segs[16];
    struct tl_bytes message;
    if (seg) {
        message = tl_bytes(seg->bytes, seg->entries[0].end);
    } else {
        struct tl_range range;
        tl_view_range(view, from.off, 0, &range);
        message = tl_many_skip_id(range.slices[0]);
        tl_view_pin(view, from.off, range.to.off, segs);
        seg = segs[0];
    }
    if (message.n > COPIED_BYTES_MAX) {
        first->large = message;
        first->seg = seg;
        return;
    }
    tl_buf_append(&first->text, message);
    tl_segment_unref(seg);
}

static void append_snapshot(struct tl_member *m, struct first *first)
{
    const struct tl_channel_view *view = m->sub.view;
    struct tl_mark from;
    struct tl_snapshot snapshot = tl_snapshot_start(view, &from);
    m->placed = true;
    set_cursor(m, view->view.head);
    if (snapshot.kind == TL_SNAPSHOT_NONE && !view->stale)
        return;
    tl_many_append_id(&first->text, m->many, tl_member_name(m), 0);
    if (view->stale) {
        m->expired_n = view->expired_n;
        tl_sse_append_expired(&first->text, view->rule);
        return;
    }
    tl_snapshot_append_event(&snapshot, &first->text);
    tl_many_append_id(&first->text, m->many, tl_member_name(m), 0);
    append_message(first, &view->view, &snapshot, from);
    if (view->rule->interval_ms > 0)
        m->sub.next_ms = tl_loop_now_ms(view->worker->loop) + view->rule->interval_ms;
}

/* The next members' snapshots. False: there are none, or one has to wait for its channel again. */
static bool take_snapshots(struct tl_many *many, struct first *first)
{
    while (many->first_n < many->n && !first->seg && first->text.n < COPIED_BYTES) {
        struct tl_member *m = &many->members[many->first_n];
        if (m->sub.view && !m->placed && wants_snapshot(m)) {
            many->settled = is_settled(m);
            if (!many->settled)
                break;
            append_snapshot(m, first);
        }
        many->first_n++;
    }
    return first->text.n > 0 || first->text.failed;
}

/* False without memory: the session is reset. */
static bool send_first(struct tl_session *s, struct first *first)
{
    size_t n = first->text.n;
    struct tl_outvec *out = first->text.failed ? NULL : tl_many_out_new(n);
    if (out) {
        memcpy(out + 1, first->text.p, n);
        out->slices[out->slices_n++] = tl_bytes((uint8_t *)(out + 1), n);
        if (first->seg) {
            out->slices[out->slices_n++] = first->large;
            out->segs[out->segs_n++] = first->seg;
        }
        out->to.off = n + first->large.n;
        tl_many_send(s, out);
    } else {
        tl_segment_unref(first->seg);
        tl_many_refuse(s);
    }
    tl_buf_deinit(&first->text);
    return out != NULL;
}

/* --- the beginning --- */

/*
 * Behind a number; or behind the position that the URL goes on to name, if that is later: the same
 * URL comes back with each new id. If the log was made after the number, so was its position; but a
 * stream's is older than the log.
 */
static void place_behind(struct tl_member *m, uint64_t seq)
{
    const struct tl_channel_view *cv = m->sub.view;
    const struct tl_view *view = &cv->view;
    const struct tl_asked_channel *asked = tl_member_asked(m);
    struct tl_mark from, placed;
    uint64_t missed;
    m->floor = seq;
    m->outcome = tl_view_resume_behind(view, seq, &from);
    if (asked->resumes && (m->outcome != TL_RESUME_VOID || !tl_view_follows(view)) &&
        !tl_view_must_ask(view, &asked->position) &&
        tl_view_resume(view, asked->position, &placed, &missed) == TL_RESUME_FROM &&
        placed.idx >= from.idx) {
        from = placed;
        m->outcome = TL_RESUME_FROM;
    }
    struct tl_mark newest = tl_view_history(view, 1);
    if (cv->rule->overflow == TL_OVERFLOW_LATEST && newest.idx > from.idx)
        from = newest;
    if (cv->rule->overflow == TL_OVERFLOW_LATEST && m->outcome == TL_RESUME_GAP)
        m->outcome = TL_RESUME_FROM;
    if (cv->rule->interval_ms > 0) {
        /* The newest may have been held back while greater numbers of others went out. */
        m->floor = 0;
        from = newest;
    }
    set_cursor(m, from);
}

/* From now on; `told`: what was before is told as missed. */
static void place_now(struct tl_member *m, uint64_t now_seq, bool told)
{
    const struct tl_channel_view *cv = m->sub.view;
    m->outcome = told ? TL_RESUME_VOID : TL_RESUME_FROM;
    if (told && cv->rule->overflow == TL_OVERFLOW_LATEST) {
        set_cursor(m, tl_view_history(&cv->view, 1));
        return;
    }
    m->floor = now_seq;
    set_cursor(m, tl_view_behind(&cv->view, now_seq));
}

/* A number that all before the cursor have at most, and nothing behind it. */
static uint64_t seq_before(const struct tl_member *m, uint64_t now_seq)
{
    const struct tl_view *view = &m->sub.view->view;
    uint64_t seq = now_seq;
    if (m->sub.off < view->tail.off) /* it will be told that it fell off */
        seq = view->seqs.tail - 1;
    else if (m->sub.off < view->head.off)
        seq = tl_view_seq(view, m->sub.off);
    else if (tl_channel_view_is_current(m->sub.view))
        return now_seq;
    else
        return m->key; /* what is on its way came later */
    return seq > 0 ? seq - 1 : 0;
}

/* Give each member its place; returns the number up to which the client has everything. */
static uint64_t place_all(struct tl_many *many)
{
    struct tl_session *s = many->session;
    const struct tl_asked *asked = s->exchange->asked;
    struct tl_sequence now = tl_hub_sequence(s->worker->hub);
    bool is_known = asked->resumes && asked->since.epoch == now.epoch && asked->since.at <= now.at;
    uint64_t from_seq = is_known ? asked->since.at : now.at;
    for (size_t i = 0; i < many->n; i++) {
        struct tl_member *m = &many->members[i];
        if (!m->sub.view)
            continue;
        if (is_known)
            place_behind(m, asked->since.at);
        else if (!m->placed)
            place_now(m, now.at, asked->resumes);
        bool is_behind = is_known || m->floor > 0;
        uint64_t seq = is_behind ? from_seq : seq_before(m, now.at);
        from_seq = seq < from_seq ? seq : from_seq;
    }
    return from_seq;
}

static void append_gaps(const struct tl_many *many, struct tl_buf *out)
{
    for (size_t i = 0; i < many->n; i++) {
        const struct tl_member *m = &many->members[i];
        if (!m->sub.view || m->outcome == TL_RESUME_FROM)
            continue;
        tl_many_append_id(out, many, tl_member_name(m), 0);
        tl_sse_append_missed(out, m->outcome, m->missed);
    }
}

static void begin(struct tl_many *many)
{
    struct tl_session *s = many->session;
    struct tl_buf out = {0};
    char token[TL_SEQUENCE_TEXT_MAX];
    uint64_t from_seq = place_all(many);
    struct tl_sequence from = {tl_hub_sequence(s->worker->hub).epoch, from_seq};
    if (s->told_down)
        tl_sse_control(&out, "broker", TL_LIT("{\"state\":\"up\"}"));
    append_gaps(many, &out);
    tl_sse_start(&out, tl_bytes(token, tl_sequence_print(from, tl_bytes(NULL, 0), token)));
    tl_exchange_free(s);
    if (!tl_session_own_buf(s, &out))
        return;
    many->started = true;
    many->sent_seq = from_seq;
    for (size_t i = 0; i < many->n; i++) {
        many->members[i].sub.live = many->members[i].sub.view != NULL;
        tl_member_mark(&many->members[i]);
    }
}

bool tl_many_next_first(struct tl_many *many)
{
    struct tl_session *s = many->session;
    struct first first = {0};
    if (many->left_n == 0) /* not yet, or no more */
        return false;
    settle(many);
    if (!many->settled)
        return false;
    if (take_snapshots(many, &first))
        return send_first(s, &first);
    if (many->settled)
        begin(many);
    return s->own != NULL;
}
