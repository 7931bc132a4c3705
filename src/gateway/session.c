#include "gateway/session.h"

#include "base/alloc.h"
#include "base/metrics.h"
#include "base/random.h"
#include "gateway/exchange.h"
#include "gateway/limits.h"
#include "gateway/many.h"
#include "gateway/posts.h"

#include <assert.h>
#include <errno.h>

#define PUMP_SENDS      8    /* and one turn so many sends, then it is the next one's turn */
#define ENDING_MIN_MS   500  /* also when the drain window is over */
#define ENDING_MS       5000 /* for the last bytes, and for the peer's close frame */
#define DRAINING_MS     1000 /* for the peer's FIN */
#define OWN_MAX         (1u << 20)
#define INPUT_MAX       (1u << 18)
#define MEMORY_RETRY_MS 10
#define RATE_GRAIN_MS   16
#define STALL_LOOKS     4 /* at a peer that takes nothing, before it is given up */

static uint64_t now_of(const struct tl_session *s)
{
    return tl_loop_now_ms(s->worker->loop);
}

/* --- the timer: one, for the phase's deadline, a send that does not move, and the next message
 * where the rate is limited --- */

/* When the next message may go, where the rate is limited. Rounded up, so that many sessions wake
 * the worker together. */
static uint64_t pace_ms(const struct tl_session *s)
{
    return (s->sub.next_ms + RATE_GRAIN_MS - 1) / RATE_GRAIN_MS * RATE_GRAIN_MS;
}

/* When to look next whether the peer takes anything: as the kernel asks for more only once much of
 * what it has is gone, it is asked, each quarter of the timeout. */
static uint64_t look_ms(const struct tl_session *s)
{
    uint64_t timeout_ms = s->worker->config->stall_timeout_ms;
    return s->progress_ms + (s->looks_n + 1) * timeout_ms / STALL_LOOKS;
}

/* True: the peer took nothing for the stall timeout. */
static bool look(struct tl_session *s, uint64_t now_ms)
{
    uint32_t unsent_n = tl_stream_unsent(&s->conn.stream);
    bool moves = s->unsent_n > 0 && unsent_n != s->unsent_n;
    s->unsent_n = unsent_n;
    if (moves) {
        s->progress_ms = now_ms;
        s->looks_n = 0;
        s->alive = true;
        return false;
    }
    return ++s->looks_n == STALL_LOOKS;
}

static void start_timer(struct tl_session *s)
{
    uint64_t now_ms = now_of(s), due_ms = s->beat_ms;
    if (s->sending && look_ms(s) < due_ms)
        due_ms = look_ms(s);
    if (s->paced && pace_ms(s) < due_ms)
        due_ms = pace_ms(s);
    /* A timer that is too early looks again when it fires. So deadlines that are put off with each
     * request of many do not move it each time. */
    if (tl_timer_is_started(&s->timer) && s->timer.due_ms <= due_ms)
        return;
    tl_loop_timer_start(s->worker->loop, &s->timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

void tl_session_pace(struct tl_session *s, uint64_t next_ms)
{
    s->sub.next_ms = next_ms;
    s->paced = true;
    start_timer(s);
}

void tl_session_arm(struct tl_session *s, uint64_t delay_ms)
{
    s->beat_ms = now_of(s) + delay_ms;
    start_timer(s);
}

/* A send waits for the peer from now on. */
static void begin_wait(struct tl_session *s)
{
    s->progress_ms = now_of(s);
    s->looks_n = 0;
    s->unsent_n = 0;
    start_timer(s);
}

static void on_timer(struct tl_timer *timer)
{
    struct tl_session *s = TL_CONTAINER(timer, struct tl_session, timer);
    uint64_t now_ms = now_of(s);
    if (s->sending && now_ms >= look_ms(s) && look(s, now_ms)) {
        tl_metric_add(TL_M_STALLED, 1);
        tl_session_reset(s);
        return;
    }
    if (s->paced && now_ms >= pace_ms(s)) {
        s->paced = false;
        tl_session_pump(s);
        if (s->closed)
            return;
    }
    if (now_ms < s->beat_ms)
        start_timer(s);
    else
        s->phase->on_timer(s);
}

uint64_t tl_session_beat_ms(const struct tl_session *s)
{
    uint64_t ping_ms = s->worker->config->ping_ms;
    return ping_ms - tl_random_below((uint32_t)(ping_ms / 5) + 1);
}

/* --- sending: what was begun, then own bytes, then the lane --- */

static void drop_first_own(struct tl_session *s)
{
    struct tl_own *own = s->own;
    s->own = own->next;
    tl_segment_unref(own->seg);
    tl_free(own);
}

static void free_own(struct tl_session *s)
{
    while (s->own)
        drop_first_own(s);
    s->own_last = NULL;
    s->own_n = 0;
}

static void refuse_own(struct tl_session *s)
{
    tl_metric_add(TL_M_REFUSED_MEMORY, 1);
    tl_session_reset(s);
}

/* Takes the chunk over; NULL: there was no memory for it. */
static bool append_own(struct tl_session *s, struct tl_own *own)
{
    if (!own) {
        refuse_own(s);
        return false;
    }
    if (s->own)
        s->own_last->next = own;
    else
        s->own = own;
    s->own_last = own;
    s->own_n += own->n;
    return true;
}

bool tl_session_own(struct tl_session *s, struct tl_bytes bytes)
{
    if (s->closed)
        return false;
    struct tl_own *own = s->own_n + bytes.n > OWN_MAX ? NULL : tl_alloc(sizeof *own + bytes.n);
    if (own) {
        *own = (struct tl_own){.p = own->bytes, .n = (uint32_t)bytes.n};
        memcpy(own->bytes, bytes.p, bytes.n);
    }
    return append_own(s, own);
}

bool tl_session_lend(struct tl_session *s, struct tl_bytes bytes)
{
    if (s->closed)
        return false;
    assert(bytes.n <= UINT32_MAX - s->own_n);
    struct tl_own *own = tl_alloc(sizeof *own);
    if (own)
        *own = (struct tl_own){.p = bytes.p, .n = (uint32_t)bytes.n};
    return append_own(s, own);
}

bool tl_session_own_buf(struct tl_session *s, struct tl_buf *buf)
{
    bool ok = !buf->failed;
    if (!ok)
        refuse_own(s);
    ok = ok && tl_session_own(s, tl_buf_bytes(buf));
    tl_buf_deinit(buf);
    return ok;
}

static void own_taken(struct tl_session *s, size_t n)
{
    s->own_n -= (uint32_t)n;
    while (n > 0) {
        struct tl_own *own = s->own;
        size_t part = own->n - own->sent < n ? own->n - own->sent : n;
        own->sent += (uint32_t)part;
        n -= part;
        if (own->sent < own->n)
            return;
        drop_first_own(s);
    }
}

static void lane_taken(struct tl_session *s, size_t n)
{
    struct tl_subscription *sub = &s->sub;
    sub->off += n;
    s->alive = true;
    tl_worker_count_sends(s->worker, 1, n);
    if (!sub->out || sub->off < sub->out->to.off)
        return;
    assert(sub->off == sub->out->to.off);
    sub->msg = sub->out->to.msg;
    tl_outvec_unref(sub->out);
    sub->out = NULL;
    tl_list_remove(&s->lag_node);
}

/* What a send attempt came to. True: some bytes went at once, go on. */
static bool sent(struct tl_session *s, ssize_t n, bool own)
{
    if (n > 0) {
        if (own)
            own_taken(s, (size_t)n);
        else
            lane_taken(s, (size_t)n);
        return true;
    }
    if (n == TL_SEND_PENDING) {
        s->sending = own ? TL_SENDING_OWN : TL_SENDING_LANE;
        begin_wait(s);
        return false;
    }
    if (n == -ENOMEM) /* the kernel's or the loop's: not now */
        tl_worker_requeue(s->worker, s, MEMORY_RETRY_MS);
    else
        tl_session_close(s);
    return false;
}

/* A range that was queued by the fan-out, and not taken whole. */
static void note_rest(struct tl_session *s)
{
    if (s->sub.out && tl_list_empty(&s->lag_node))
        tl_list_append(&s->worker->lagging, &s->lag_node);
}

static bool send_rest(struct tl_session *s)
{
    struct tl_bytes slices[16];
    unsigned n = tl_subscription_rest(&s->sub, slices);
    return sent(s, tl_conn_send(&s->conn, slices, n), false);
}

static bool send_own(struct tl_session *s)
{
    struct tl_bytes slices[16];
    unsigned n = 0;
    for (struct tl_own *own = s->own; own && n < 16; own = own->next)
        slices[n++] = tl_bytes(own->p + own->sent, own->n - own->sent);
    return sent(s, tl_conn_send(&s->conn, slices, n), true);
}

/* Keep what was not taken of the range: its segments may leave the log, its frame must end. */
static bool keep_rest(struct tl_session *s)
{
    s->sub.out = tl_worker_pin_range(s->worker);
    if (!s->sub.out) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_session_reset(s);
        return false;
    }
    tl_list_append(&s->worker->lagging, &s->lag_node);
    return true;
}

bool tl_session_sent_partly(struct tl_session *s, ssize_t n)
{
    if ((n > 0 || n == TL_SEND_PENDING) && !keep_rest(s))
        return false;
    return sent(s, n, false);
}

/* Hot. */
static inline bool sent_whole(struct tl_session *s, const struct tl_range *range, ssize_t n)
{
    if (n != (ssize_t)range->bytes_n)
        return false;
    s->sub.off = range->to.off;
    s->sub.msg = range->to.msg;
    s->alive = true;
    tl_worker_count_sends(s->worker, 1, (size_t)n);
    return true;
}

void tl_session_note_lag(struct tl_session *s)
{
    if (s->sending != TL_SENDING_QUEUED)
        return;
    s->sending = TL_SENDING_LANE;
    note_rest(s);
    begin_wait(s);
}

void tl_session_overflow(struct tl_session *s, const struct tl_lost *lost)
{
    tl_metric_add(TL_M_OVERFLOWS, 1);
    tl_metric_add(TL_M_GAPS, lost->msgs_n > 0); /* one upstream was counted when it happened */
    tl_metric_add(TL_M_GAP_MESSAGES, (int64_t)lost->msgs_n);
    s->phase->on_overflow(s, lost);
}

/* The cursor fell off the log. False: that is a gap, and the phase's affair. */
static bool pass_lost(struct tl_session *s)
{
    struct tl_subscription *sub = &s->sub;
    const struct tl_view *view = &sub->view->view;
    struct tl_lost lost = tl_view_lost(view, sub->off, sub->msg);
    bool is_latest = sub->view->rule->overflow == TL_OVERFLOW_LATEST;
    if (!is_latest && tl_lost_is_gap(&lost)) {
        tl_session_overflow(s, &lost);
        return false;
    }
    if (is_latest)
        tl_subscription_conflate(sub);
    else
        tl_subscription_skip_to(sub, view->tail);
    if (s->phase->on_passed)
        s->phase->on_passed(s, &lost);
    return true;
}

/* Is there something in the lane to send, and may it go now? If not, the timer will tell: who waits
 * stands in nobody's way. */
static bool has_lane(struct tl_session *s)
{
    const struct tl_subscription *sub = &s->sub;
    if (!sub->live || sub->off >= sub->view->view.head.off)
        return false;
    bool is_due = sub->view->rule->interval_ms == 0 || now_of(s) >= sub->next_ms;
    if (!is_due && !s->paced) {
        s->paced = true;
        start_timer(s);
    }
    return is_due;
}

static bool send_lane(struct tl_session *s)
{
    struct tl_subscription *sub = &s->sub;
    const struct tl_view *view = &sub->view->view;
    const struct tl_channel_rule *rule = sub->view->rule;
    if (sub->off < view->tail.off) {
        if (!pass_lost(s))
            return false;
        if (s->own || s->closed)
            return !s->closed; /* that goes first */
    }
    if (rule->interval_ms > 0)
        tl_subscription_conflate(sub);
    if (sub->off == view->head.off)
        return false;
    const struct tl_range *range = tl_worker_range(s->worker, sub->view, sub->off);
    if (range->bytes_n == 0) {
        sub->off = range->to.off;
        return false;
    }
    ssize_t n = tl_conn_send(&s->conn, range->slices, range->slices_n);
    if (n > 0 || n == TL_SEND_PENDING)
        sub->next_ms = rule->interval_ms > 0 ? now_of(s) + rule->interval_ms : 0;
    return sent_whole(s, range, n) || tl_session_sent_partly(s, n);
}

void tl_session_pump(struct tl_session *s)
{
    for (unsigned i = 0; i < PUMP_SENDS; i++) {
        if (s->closed || s->sending)
            return;
        bool more = false, own = false;
        if (s->sub.out)
            more = send_rest(s);
        else if (s->own)
            more = own = send_own(s);
        else if (s->many && tl_many_next(s))
            more = s->sub.out ? send_rest(s) : true;
        else if (has_lane(s))
            more = send_lane(s);
        else
            own = true; /* nothing is left to send now */
        if (own && !s->own && s->phase->on_own_sent)
            s->phase->on_own_sent(s);
        if (!more)
            return;
    }
    tl_worker_requeue(s->worker, s, 0);
}

void tl_session_catch_up(struct tl_session *s, uint64_t off)
{
    uint64_t before;
    do {
        before = s->sub.off;
        tl_session_pump(s);
    } while (!s->closed && !s->sending && s->sub.off > before && s->sub.off < off);
}

void tl_session_on_sent(struct tl_stream *stream, ssize_t n)
{
    struct tl_session *s = tl_session_of(stream);
    bool own = s->sending == TL_SENDING_OWN;
    if (s->sending == TL_SENDING_QUEUED)
        s->worker->queued_n--;
    s->sending = TL_SENDING_NONE;
    if (n == -ENOMEM) {
        note_rest(s);
        tl_worker_requeue(s->worker, s, MEMORY_RETRY_MS);
        return;
    }
    if (n <= 0) {
        tl_session_close(s);
        return;
    }
    if (own)
        own_taken(s, (size_t)n);
    else
        lane_taken(s, (size_t)n);
    if (tl_session_is_idle(s) && s->sub.off == s->sub.view->view.head.off && !s->sub.view->stale)
        return;
    note_rest(s);
    tl_session_pump(s);
}

/* --- receiving --- */

/* Give bytes to the phases for as long as they consume; returns how many they did. */
static size_t feed(struct tl_session *s, uint8_t *bytes, size_t n)
{
    size_t used = 0;
    s->in_input = true;
    while (!s->closed && s->reading && used < n) {
        const struct tl_phase *phase = s->phase;
        size_t taken = phase->on_input(s, bytes + used, n - used);
        used += taken;
        if (taken == 0 && s->phase == phase)
            break;
    }
    s->in_input = false;
    return used;
}

static void end_input(struct tl_session *s)
{
    if (!s->closed && s->reading && s->input_ended)
        s->phase->on_input_end(s);
}

static void feed_kept(struct tl_session *s)
{
    size_t used = feed(s, s->in.p, s->in.n);
    if (s->closed)
        return;
    if (used == s->in.n)
        tl_buf_deinit(&s->in); /* an idle session owns no buffer */
    else
        tl_buf_consume(&s->in, used);
}

static void take_input(struct tl_session *s, uint8_t *bytes, size_t n)
{
    size_t used = s->in.n > 0 ? 0 : feed(s, bytes, n);
    bool had = s->in.n > 0;
    if (s->closed || used == n)
        return;
    if (s->in.n <= INPUT_MAX) /* the phases take theirs or stop reading long before */
        tl_buf_append(&s->in, tl_bytes(bytes + used, n - used));
    if (s->in.failed || s->in.n > INPUT_MAX) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_session_reset(s);
        return;
    }
    if (had)
        feed_kept(s);
}

static void on_recv(struct tl_stream *stream, uint8_t *bytes, ssize_t n)
{
    struct tl_session *s = tl_session_of(stream);
    if (n < 0 || (n == 0 && !s->reading)) {
        tl_session_close(s);
        return;
    }
    s->alive = true;
    if (n == 0) {
        s->input_ended = true;
        end_input(s);
        return;
    }
    take_input(s, bytes, (size_t)n);
}

void tl_session_read(struct tl_session *s, bool on)
{
    if (s->reading == on || s->closed)
        return;
    s->reading = on;
    if (!s->input_ended)
        tl_conn_recv(&s->conn, on);
}

void tl_session_resume_input(struct tl_session *s)
{
    tl_session_read(s, true);
    if (s->in_input)
        return;
    if (s->in.n > 0)
        feed_kept(s);
    end_input(s);
}

bool tl_session_take_input(struct tl_session *s, size_t n)
{
    if (!tl_limits_take_input(s->worker->limits, n)) {
        tl_metric_add(TL_M_INPUT_REFUSED, 1);
        return false;
    }
    s->input_n += n;
    return true;
}

void tl_session_give_input(struct tl_session *s)
{
    tl_limits_give_input(s->worker->limits, s->input_n);
    s->input_n = 0;
}

/* --- subscribing and publishing --- */

void tl_session_acknowledge(struct tl_session *s)
{
    struct tl_exchange *exchange = s->exchange;
    if (exchange->terms.resumes
            ? tl_channel_view_settles(s->sub.view, &exchange->terms.position, &exchange->seek_due)
            : !tl_exchange_wants_snapshot(s) || tl_snapshot_settles(s->sub.view))
        s->phase->on_acknowledged(s);
}

bool tl_session_subscribe(struct tl_session *s, enum tl_lane_kind lane, struct tl_bytes name)
{
    if (tl_subscription_open(s->worker, &s->sub, lane, name) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return false;
    }
    struct tl_channel_view *view = s->sub.view;
    if (view->state == TL_ATTACH_LIVE && tl_channel_view_is_current(view))
        tl_session_acknowledge(s);
    else if (view->state == TL_ATTACH_REFUSED)
        s->phase->on_refused(s, view->refusal);
    else if (!tl_hub_has_link(s->worker->hub, view->seek != NULL))
        s->phase->on_link_down(s);
    return true;
}

void tl_session_go_live(struct tl_session *s, struct tl_mark from)
{
    s->sub.off = from.off;
    s->sub.msg = from.msg;
    s->sub.live = true;
}

static void on_answer(struct tl_publish_request *request)
{
    struct tl_session *s = request->session;
    if (s) {
        tl_list_remove(&request->node);
        s->publishes_n--;
        if (s->phase->on_published)
            s->phase->on_published(s, request);
    }
    tl_buf_deinit(&request->body);
    tl_free(request);
}

bool tl_session_publish(struct tl_session *s, struct tl_bytes name, struct tl_buf *payload)
{
    tl_session_give_input(s); /* what waits for the broker has a bound there */
    struct tl_publish_request *request = tl_worker_publish(s->worker, name, payload, on_answer);
    if (!request)
        return false;
    request->session = s;
    tl_list_append(&s->publishes, &request->node);
    s->publishes_n++;
    return true;
}

/* --- the end --- */

void tl_session_gauge(struct tl_session *s, enum tl_metric gauge)
{
    tl_metric_add(gauge, 1);
    s->gauge = (uint8_t)gauge;
}

static void leave_gauge(struct tl_session *s)
{
    if (s->gauge)
        tl_metric_add((enum tl_metric)s->gauge, -1);
    s->gauge = 0;
}

void tl_session_set_phase(struct tl_session *s, const struct tl_phase *phase)
{
    s->phase = phase;
    if (phase == &tl_phase_ending)
        leave_gauge(s);
}

static void let_go(struct tl_session *s)
{
    s->closed = true;
    s->reading = false;
    leave_gauge(s);
    tl_session_give_input(s);
    tl_posts_forget(s);
    tl_subscription_close(&s->sub);
    tl_many_close(s->many);
    struct tl_list *l;
    while ((l = tl_list_pop(&s->publishes)))
        TL_CONTAINER(l, struct tl_publish_request, node)->session = NULL;
    tl_timer_stop(tl_loop_timers(s->worker->loop), &s->timer);
    tl_list_remove(&s->lag_node);
    tl_list_remove(&s->ready_node);
}

void tl_session_close(struct tl_session *s)
{
    if (s->closed)
        return;
    let_go(s);
    tl_conn_close(&s->conn);
}

void tl_session_reset(struct tl_session *s)
{
    if (s->closed)
        return;
    let_go(s);
    tl_conn_reset(&s->conn);
}

static void on_closed(struct tl_stream *stream)
{
    struct tl_session *s = tl_session_of(stream);
    tl_outvec_unref(s->sub.out);
    tl_many_free(s->many);
    free_own(s);
    tl_buf_deinit(&s->in);
    tl_buf_deinit(&s->message);
    tl_exchange_free(s);
    tl_worker_session_gone(s->worker, s);
    tl_free(s);
}

uint64_t tl_session_ending_ms(const struct tl_session *s)
{
    const struct tl_worker *worker = s->worker;
    if (!worker->draining)
        return ENDING_MS;
    uint64_t now_ms = now_of(s);
    return ENDING_MIN_MS + (now_ms < worker->drain_until_ms ? worker->drain_until_ms - now_ms : 0);
}

void tl_session_finish(struct tl_session *s)
{
    if (s->closed || s->phase == &tl_phase_draining)
        return;
    tl_subscription_close(&s->sub);
    tl_many_close(s->many);
    s->close_received = true; /* nothing more is waited for */
    tl_session_set_phase(s, &tl_phase_ending);
    tl_session_arm(s, tl_session_ending_ms(s));
    tl_session_pump(s);
}

static void ending_own_sent(struct tl_session *s)
{
    if (!s->close_received)
        return;
    if (s->input_ended) {
        tl_session_close(s);
        return;
    }
    /* Not at once: unread input would turn the close into a RST, which can overtake our answer. */
    tl_session_set_phase(s, &tl_phase_draining);
    tl_conn_shutdown(&s->conn);
    tl_session_arm(s, DRAINING_MS);
    tl_session_resume_input(s);
}

/* Nothing but the peer's close frame is of interest any more. */
static size_t ending_input(struct tl_session *s, uint8_t *bytes, size_t n)
{
    size_t used = 0, part;
    struct tl_ws_event event;
    if (!s->close_sent || s->close_received)
        return n;
    while (tl_ws_parse(&s->ws, bytes + used, n - used, &part, &event) == TL_PARSE_DONE) {
        used += part;
        if (event.kind != TL_WS_ON_CLOSE)
            continue;
        tl_session_finish(s);
        return n;
    }
    if (s->ws.close_code != 0) {
        tl_session_finish(s);
        return n;
    }
    return used + part;
}

static void ending_input_end(struct tl_session *s)
{
    s->close_received = true;
    if (!s->own && !s->sub.out)
        tl_session_close(s);
    else
        tl_session_read(s, false);
}

static size_t discard(struct tl_session *s, uint8_t *bytes, size_t n)
{
    (void)s;
    (void)bytes;
    return n;
}

/* A big answer that was lent may take a while, as long as it moves: the stall timeout watches. */
static void ending_timer(struct tl_session *s)
{
    if (s->own && s->own->p != s->own->bytes && !s->worker->draining)
        tl_session_arm(s, ENDING_MS);
    else
        tl_session_reset(s);
}

const struct tl_phase tl_phase_ending = {
    .name = "ending",
    .on_input = ending_input,
    .on_input_end = ending_input_end,
    .on_own_sent = ending_own_sent,
    .on_timer = ending_timer,
};

const struct tl_phase tl_phase_draining = {
    .name = "draining",
    .on_input = discard,
    .on_input_end = tl_session_close,
    .on_timer = tl_session_close,
};

/* --- the beginning --- */

static const struct tl_stream_handler stream_handler = {
    .on_recv = on_recv,
    .on_sent = tl_session_on_sent,
    .on_sent_all = tl_session_on_sent_all,
    .on_closed = on_closed,
};

struct tl_session *tl_session_new(struct tl_worker *worker, int fd, bool listener_is_loopback)
{
    struct tl_session *s = tl_zalloc(sizeof *s);
    if (!s)
        return NULL;
    s->worker = worker;
    s->listener_is_loopback = listener_is_loopback;
    tl_list_init(&s->node);
    tl_list_init(&s->lag_node);
    tl_list_init(&s->ready_node);
    tl_list_init(&s->publishes);
    tl_list_init(&s->sub.node);
    tl_timer_init(&s->timer, on_timer);
    if (tl_conn_open(worker->loop, &s->conn, fd, &stream_handler) < 0) {
        tl_free(s);
        return NULL;
    }
    tl_list_append(&worker->sessions, &s->node);
    tl_metric_add(TL_M_CONNECTIONS, 1);
    tl_request_start(s);
    tl_session_read(s, true);
    return s;
}
