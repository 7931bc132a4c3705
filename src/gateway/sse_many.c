/*
 * The phase of a session that is an event stream of several channels. Nothing goes out before all
 * of them are subscribed or refused, so that what is sent then is in the order of the sequence.
 */
#include "gateway/exchange.h"
#include "gateway/many.h"
#include "gateway/sse.h"
#include "proto/sse.h"

#define SILENT_BYTES 16384 /* of events that are told at once */

/* --- events of the session's own --- */

static void refuse(struct tl_member *m, struct tl_bytes name, enum tl_broker_status why)
{
    struct tl_many *many = m->many;
    struct tl_session *s = many->session;
    struct tl_buf out = {0};
    tl_many_append_id(&out, many, name, many->sent_seq);
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
    struct tl_buf id = {0}, out = {0};
    /* Of two gaps none says that the other was told. */
    bool is_two = !is_latest && lost.msgs_n > 0 && lost.gap;
    uint64_t seq = is_two ? m->many->sent_seq : tl_many_seq_behind_gap(m);
    tl_many_append_id(&id, m->many, tl_member_name(m), seq);
    tl_sse_append_lost(&out, &lost, is_latest ? 0 : lost.msgs_n, tl_buf_bytes(&id));
    out.failed = out.failed || id.failed;
    tl_buf_deinit(&id);
    if (is_latest)
        tl_subscription_conflate(&m->sub);
    else
        tl_subscription_skip_to(&m->sub, view->tail);
    if (out.n == 0 && !out.failed)
        return true;
    m->many->sent_seq = seq;
    return tl_session_own_buf(s, &out);
}

bool tl_sse_many_tell_silent(struct tl_many *many)
{
    struct tl_buf out = {0};
    struct tl_list *l;
    while (out.n < SILENT_BYTES && (l = tl_list_pop(&many->silent))) {
        struct tl_member *m = TL_CONTAINER(l, struct tl_member, waits);
        m->silent = false;
        m->expired_n = m->sub.view->expired_n;
        tl_many_append_id(&out, many, tl_member_name(m), many->sent_seq);
        tl_sse_append_expired(&out, m->sub.view->rule);
    }
    return tl_session_own_buf(many->session, &out);
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
    if (view->state != TL_ATTACH_LIVE)
        many->settled = false;
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
    while ((l = tl_list_pop(&worker->touched)))
        tl_session_pump(TL_CONTAINER(l, struct tl_many, touched)->session);
}

void tl_many_turn_later(struct tl_worker *worker)
{
    struct tl_list *l;
    while ((l = tl_list_pop(&worker->touched)))
        tl_worker_requeue(worker, TL_CONTAINER(l, struct tl_many, touched)->session, 0);
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
            refuse(m, tl_member_asked(m)->name, view ? view->refusal : TL_BROKER_FULL);
    }
}

static bool lacks_link(const struct tl_many *many)
{
    for (size_t i = 0; i < many->n; i++) {
        const struct tl_channel_view *view = many->members[i].sub.view;
        if (view && !tl_hub_has_link(view->worker->hub, view->seek != NULL))
            return true;
    }
    return false;
}

static void subscribe(struct tl_many *many)
{
    struct tl_session *s = many->session;
    for (size_t i = 0; i < many->n; i++) {
        struct tl_member *m = &many->members[i];
        int r =
            tl_subscription_open(s->worker, &m->sub, TL_LANE_SSE_TAGGED, tl_member_asked(m)->name);
        many->left_n += r == 0;
        tl_metric_add(TL_M_REFUSED_MEMORY, r < 0);
    }
    refuse_some(many);
    if (is_over(s))
        return;
    tl_session_pump(s);
    if (!is_over(s) && !many->started && !many->settled && lacks_link(many))
        tl_sse_on_link_down(s);
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
