/*
 * The phase of a session that is an event stream of several channels. Nothing goes out before all
 * of them are subscribed or refused, so that what is sent then is in the order of the sequence.
 */
#include "gateway/exchange.h"
#include "gateway/many.h"
#include "gateway/sse.h"
#include "proto/sse.h"

#include <stdio.h>

static const struct tl_asked_channel *asked_of(const struct tl_member *m)
{
    return &m->many->session->exchange->asked->channels[m - m->many->members];
}

/* --- events of the session's own --- */

/* The id of an event that is told with that number; before the beginning, one that brings its owner
 * to where it came from. */
static void append_id(struct tl_buf *out, const struct tl_many *many, struct tl_bytes name,
                      uint64_t seq)
{
    const struct tl_session *s = many->session;
    char token[TL_SEQUENCE_TEXT_MAX];
    struct tl_sequence sequence = {tl_hub_sequence(s->worker->hub).epoch, seq};
    if (!many->started)
        sequence = s->exchange->asked->since;
    tl_sequence_print(sequence, name, token);
    tl_buf_printf(out, "id: %s\n", token);
}

static void refuse(struct tl_member *m, struct tl_bytes name, enum tl_broker_status why)
{
    struct tl_many *many = m->many;
    struct tl_session *s = many->session;
    struct tl_buf out = {0};
    append_id(&out, many, name, many->sent_seq);
    tl_sse_append_refusal(&out, why);
    tl_member_close(m);
    if (tl_session_own_buf(s, &out) && many->left_n == 0)
        tl_session_finish(s);
}

static void count_overflow(const struct tl_lost *lost)
{
    tl_metric_add(TL_M_OVERFLOWS, 1);
    tl_metric_add(TL_M_GAPS, lost->msgs_n > 0);
    tl_metric_add(TL_M_GAP_MESSAGES, (int64_t)lost->msgs_n);
}

bool tl_sse_many_overflow(struct tl_member *m)
{
    struct tl_session *s = m->many->session;
    const struct tl_view *view = &m->sub.view->view;
    enum tl_overflow rule = m->sub.view->rule->overflow;
    struct tl_lost lost = tl_view_lost(view, m->sub.off, m->sub.msg);
    bool is_latest = rule == TL_OVERFLOW_LATEST;
    if (!is_latest && tl_lost_is_gap(&lost))
        count_overflow(&lost);
    if (rule == TL_OVERFLOW_DISCONNECT && tl_lost_is_gap(&lost)) {
        tl_session_finish(s);
        return false;
    }
    /* Everything before the oldest kept is with the client, or told. */
    struct tl_buf id = {0}, out = {0};
    uint64_t seq = m->key > m->many->sent_seq ? m->key - 1 : m->many->sent_seq;
    append_id(&id, m->many, tl_member_name(m), seq);
    tl_sse_append_lost(&out, &lost, is_latest ? 0 : lost.msgs_n, tl_buf_bytes(&id));
    out.failed = out.failed || id.failed;
    tl_buf_deinit(&id);
    if (is_latest)
        tl_subscription_conflate(&m->sub);
    else
        tl_subscription_skip_to(&m->sub, view->tail);
    return (out.n == 0 && !out.failed) || tl_session_own_buf(s, &out);
}

/* --- where it begins --- */

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
    return asked_of(m)->resumes ||
           (!exchange->asked->resumes && (terms->history_msgs > 0 || terms->history_ms > 0));
}

/* The terms of the member alone. */
static struct tl_terms terms_of(const struct tl_member *m)
{
    struct tl_terms terms = m->many->session->exchange->terms;
    terms.resumes = asked_of(m)->resumes;
    terms.position = asked_of(m)->position;
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

/* May the member begin, or has it gone? */
static bool is_settled(struct tl_member *m)
{
    const struct tl_channel_view *view = m->sub.view;
    if (!view || m->placed)
        return !view || view->state == TL_ATTACH_LIVE;
    if (view->state != TL_ATTACH_LIVE)
        return false;
    if (!has_place(m))
        return true;
    bool by_number = m->many->session->exchange->asked->resumes;
    struct tl_position position = asked_of(m)->position;
    if (!tl_channel_view_is_current(view) ||
        (!by_number && asked_of(m)->resumes &&
         !tl_channel_view_settles(m->sub.view, &position, &m->seek_due)))
        return false;
    if (!by_number)
        place(m);
    return true;
}

/*
 * Behind a number; or behind the position that the URL goes on to name, if that is later: the same
 * URL comes back with each new id. If the log was made after the number, so was its position; but a
 * stream's is older than the log.
 */
static void place_behind(struct tl_member *m, uint64_t seq)
{
    const struct tl_channel_view *cv = m->sub.view;
    const struct tl_view *view = &cv->view;
    const struct tl_asked_channel *asked = asked_of(m);
    struct tl_mark from, placed;
    uint64_t missed;
    m->floor = seq;
    m->outcome = tl_view_resume_behind(view, seq, &from);
    if (asked->resumes && (m->outcome != TL_RESUME_VOID || !view->stream.on) &&
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
    else if (!tl_channel_view_is_current(m->sub.view))
        return tl_view_seq_before(view, view->head);
    else
        return now_seq;
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
        append_id(out, many, tl_member_name(m), 0);
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

/* Begin, if all are there. */
static void try_begin(struct tl_many *many)
{
    bool settled = true;
    for (size_t i = 0; i < many->n; i++)
        settled = is_settled(&many->members[i]) && settled; /* all of them, as some have to ask */
    if (settled)
        begin(many);
}

/* --- what happens to it --- */

static void touch(struct tl_many *many)
{
    if (tl_list_empty(&many->touched))
        tl_list_append(&many->session->worker->touched, &many->touched);
}

static bool is_cut_off(const struct tl_member *m)
{
    struct tl_lost lost = tl_view_lost(&m->sub.view->view, m->sub.off, m->sub.msg);
    return tl_lost_is_gap(&lost);
}

static void on_change(struct tl_member *m, bool link_down)
{
    struct tl_many *many = m->many;
    struct tl_channel_view *view = m->sub.view;
    touch(many);
    if (view->state == TL_ATTACH_REFUSED)
        refuse(m, tl_member_name(m), view->refusal);
    else if (!many->started && link_down)
        tl_sse_on_link_down(many->session);
    else if (m->sub.live && m->sub.off < view->view.tail.off &&
             view->rule->overflow == TL_OVERFLOW_DISCONNECT && is_cut_off(m))
        tl_sse_many_overflow(m);
}

void tl_many_on_change(struct tl_channel_view *view, bool link_down)
{
    struct tl_list *next;
    for (struct tl_list *l = view->subscriptions.next; l != &view->subscriptions; l = next) {
        next = l->next;
        on_change(
            TL_CONTAINER(TL_CONTAINER(l, struct tl_subscription, node), struct tl_member, sub),
            link_down);
    }
}

void tl_many_turn(struct tl_worker *worker)
{
    struct tl_list *l;
    while ((l = tl_list_pop(&worker->touched))) {
        struct tl_many *many = TL_CONTAINER(l, struct tl_many, touched);
        if (!many->started)
            try_begin(many);
        tl_session_pump(many->session);
    }
}

static const struct tl_phase tl_phase_sse_many = {
    .name = "sse_many",
    .on_input = tl_sse_on_input,
    .on_input_end = tl_session_close,
    .on_timer = tl_sse_on_timer,
    .on_drain = tl_session_finish,
};

/* --- the beginning --- */

static bool is_over(const struct tl_session *s)
{
    return s->closed || s->phase != &tl_phase_sse_many;
}

/* Who is refused already: by the broker, or as there was no memory for it. */
static void refuse_some(struct tl_many *many)
{
    for (size_t i = 0; i < many->n && !is_over(many->session); i++) {
        struct tl_member *m = &many->members[i];
        const struct tl_channel_view *view = m->sub.view;
        if (!view || view->state == TL_ATTACH_REFUSED)
            refuse(m, asked_of(m)->name, view ? view->refusal : TL_BROKER_FULL);
    }
}

static void subscribe(struct tl_many *many)
{
    struct tl_session *s = many->session;
    for (size_t i = 0; i < many->n; i++) {
        struct tl_member *m = &many->members[i];
        int r = tl_subscription_open(s->worker, &m->sub, TL_LANE_SSE_TAGGED, asked_of(m)->name);
        many->left_n += r == 0;
        tl_metric_add(TL_M_REFUSED_MEMORY, r < 0);
    }
    refuse_some(many);
    if (is_over(s))
        return;
    try_begin(many);
    if (!many->started && !tl_hub_is_ready(s->worker->hub))
        tl_sse_on_link_down(s);
    tl_session_pump(s);
}

void tl_sse_many_start(struct tl_session *s)
{
    s->many = tl_many_new(s, s->exchange->asked->n);
    if (!s->many) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_exchange_refuse(s, 503, "out of memory", "try again");
        return;
    }
    if (tl_sse_respond(s, &tl_phase_sse_many))
        subscribe(s->many);
}
