#include "gateway/worker.h"

#include "base/alloc.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "gateway/hub.h"
#include "gateway/limits.h"
#include "gateway/many.h"
#include "gateway/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OUT_BYTES       65536 /* one send takes about so much of a lane */
#define ACCEPT_RETRY_MS 100
#define SHORTAGE_MS     5000 /* this long without a refusal: the next one is a new shortage */
#define DRAIN_TICK_MS   20
#define DRAIN_AT_ONCE   100  /* so few need no spreading */
#define DRAIN_EXTRA_MS  1000 /* behind the window; then what is left is cut */

/* --- accepting --- */

static void set_accepting(struct tl_worker *worker, bool on)
{
    if (worker->accepting == on)
        return;
    worker->accepting = on;
    for (unsigned i = 0; i < worker->listeners_n; i++) {
        if (on)
            tl_acceptor_resume(&worker->listeners[i].acceptor);
        else
            tl_acceptor_pause(&worker->listeners[i].acceptor);
    }
}

static void on_accept_timer(struct tl_timer *timer)
{
    struct tl_worker *worker = TL_CONTAINER(timer, struct tl_worker, accept_timer);
    if (!worker->draining)
        set_accepting(worker, true);
}

/* Out of descriptors or kernel memory: look again soon, and say it once per shortage. */
static void on_accept_refused(struct tl_acceptor *acceptor, int error)
{
    struct tl_worker *worker = TL_CONTAINER(acceptor, struct tl_worker_listener, acceptor)->worker;
    uint64_t now = tl_loop_now_ms(worker->loop);
    if (worker->refused_ms == 0 || now - worker->refused_ms >= SHORTAGE_MS) {
        tl_metric_add(TL_M_ACCEPT_PAUSES, 1);
        tl_logger(TL_WARN,
                  "out of descriptors or memory: accepting is paused (%s); raise the limit of "
                  "open files or lower --max-connections",
                  strerror(-error));
    }
    worker->short_of_fds = true;
    worker->refused_ms = now;
    set_accepting(worker, false);
    tl_loop_timer_start(worker->loop, &worker->accept_timer, ACCEPT_RETRY_MS);
}

/* Over a limit, as tl_limits_take() tells it: a few words that fit any socket buffer, without
 * making a session. */
static void refuse_connection(int fd, int why)
{
    char answer[320];
    bool own = why == -EDQUOT;
    const char *body =
        own ? "{\"error\":\"too many connections from your address\","
              "\"hint\":\"see --max-connections-per-address\"}\n"
        : why == -EBUSY
            ? "{\"error\":\"too many connections\",\"hint\":\"see --max-connections\"}\n"
            : "{\"error\":\"out of memory\",\"hint\":\"try again\"}\n";
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                     "Retry-After: 5\r\nConnection: close\r\n\r\n%s",
                     own ? "429 Too Many Requests" : "503 Service Unavailable", strlen(body), body);
    tl_metric_add(TL_M_REFUSED_CONNECTIONS, 1);
    ssize_t ignored = send(fd, answer, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
    shutdown(fd, SHUT_WR);
    /* The request may have come already; unread, it would turn the close into a RST. */
    uint8_t unread[4096];
    ignored = recv(fd, unread, sizeof unread, MSG_DONTWAIT);
    (void)ignored;
    close(fd);
}

static void on_accept(struct tl_acceptor *acceptor, int fd, const struct sockaddr_storage *peer)
{
    struct tl_worker_listener *listener =
        TL_CONTAINER(acceptor, struct tl_worker_listener, acceptor);
    struct tl_worker *worker = listener->worker;
    struct tl_limits_address *address;
    worker->short_of_fds = false;
    tl_metric_add(TL_M_ACCEPTED, 1);
    int r = tl_limits_take(worker->limits, peer, &address);
    if (r < 0) {
        refuse_connection(fd, r);
        return;
    }
    struct tl_session *s = tl_session_new(worker, fd, listener->is_loopback);
    if (!s) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_limits_give(worker->limits, address);
        close(fd);
        return;
    }
    s->address = address;
    worker->sessions_n++;
}

int tl_worker_listen(struct tl_worker *worker, int fd, bool is_loopback)
{
    if (worker->listeners_n == TL_LISTENERS_MAX)
        return -ENOSPC;
    struct tl_worker_listener *listener = &worker->listeners[worker->listeners_n];
    *listener = (struct tl_worker_listener){
        .worker = worker,
        .is_loopback = is_loopback,
        .acceptor = {.on_accept = on_accept, .on_refused = on_accept_refused},
    };
    int r = tl_acceptor_open(worker->loop, &listener->acceptor, fd);
    if (r == 0)
        worker->listeners_n++;
    return r;
}

/* --- what the hub tells --- */

static struct tl_session *session_of(struct tl_list *node)
{
    return TL_CONTAINER(TL_CONTAINER(node, struct tl_subscription, node), struct tl_session, sub);
}

/* Call fn for each subscribed session of the view; fn may take it off. */
static void each_session(struct tl_channel_view *view, bool live,
                         void (*fn)(struct tl_session *s, struct tl_channel_view *view))
{
    struct tl_list *next;
    for (struct tl_list *l = view->subscriptions.next; l != &view->subscriptions; l = next) {
        next = l->next;
        if (session_of(l)->sub.live == live)
            fn(session_of(l), view);
    }
}

/* Do its subscriptions belong to sessions of several channels? Those are looked at in many.h. */
static bool is_of_many(const struct tl_channel_view *view)
{
    return view->lane == TL_LANE_SSE_TAGGED;
}

static void refuse(struct tl_session *s, struct tl_channel_view *view)
{
    s->phase->on_refused(s, view->refusal);
}

static void acknowledge(struct tl_session *s, struct tl_channel_view *view)
{
    (void)view;
    tl_session_acknowledge(s);
}

static void tell_down(struct tl_session *s, struct tl_channel_view *view)
{
    (void)view;
    s->phase->on_link_down(s);
}

static void pump(struct tl_session *s, struct tl_channel_view *view)
{
    const struct tl_outvec *out = s->sub.out;
    struct tl_lost lost = {0};
    if (out && out->to.off < view->view.tail.off && view->rule->overflow == TL_OVERFLOW_DISCONNECT)
        lost = tl_view_lost(&view->view, out->to.off, out->to.msg);
    if (tl_lost_is_gap(&lost)) /* what follows the send in flight has left the log */
        tl_session_overflow(s, &lost);
    else if (!s->sending) /* a send in flight goes on by itself: a full socket costs nothing */
        tl_session_pump(s);
}

/* Before the update: the messages of behind a gap are not there yet. */
static void tell_gaps(const struct tl_batch_item *item)
{
    const struct tl_list *list = &item->view->subscriptions;
    int64_t live_n = 0;
    struct tl_list *next;
    if (item->gaps.n == 0)
        return;
    for (struct tl_list *l = list->next; l != list; l = next) {
        next = l->next;
        if (!TL_CONTAINER(l, struct tl_subscription, node)->live)
            continue;
        live_n++;
        if (is_of_many(item->view))
            continue;
        struct tl_session *s = session_of(l);
        if (s->phase->on_gap)
            s->phase->on_gap(s, &item->gaps);
    }
    tl_metric_add(TL_M_GAPS, live_n * item->gaps.n);
    tl_metric_add(TL_M_GAP_MESSAGES, live_n * (int64_t)item->gaps.msgs);
}

static void refuse_all(struct tl_channel_view *view)
{
    if (is_of_many(view)) {
        tl_many_on_change(view, false);
        return;
    }
    each_session(view, true, refuse);
    each_session(view, false, refuse);
}

/* A view that could not take its update is of no use: all its sessions have to go. */
static void fail_view(struct tl_channel_view *view)
{
    tl_metric_add(TL_M_REFUSED_MEMORY, 1);
    view->state = TL_ATTACH_REFUSED;
    view->refusal = TL_BROKER_FULL;
    refuse_all(view);
}

/*
 * The tail is about to pass sessions that had their share of this turn and wait for the next:
 * they are not slow, so they are sent as much as they take first.
 */
static void catch_up(const struct tl_batch_item *item)
{
    struct tl_channel_view *view = item->view;
    uint64_t tail_off = item->update.tail.off;
    struct tl_list *next;
    if (!item->has_update || view->state == TL_ATTACH_WAITING || tail_off == view->view.tail.off)
        return;
    if (is_of_many(view)) {
        tl_many_catch_up(view, tail_off);
        return;
    }
    for (struct tl_list *l = view->worker->ready.next; l != &view->worker->ready; l = next) {
        next = l->next;
        struct tl_session *s = TL_CONTAINER(l, struct tl_session, ready_node);
        if (s->sub.view == view && s->sub.live && s->sub.off < tail_off)
            tl_session_catch_up(s, tail_off);
    }
}

/* Before a view changes. */
static void forget_range(struct tl_worker *worker)
{
    worker->range_view = NULL;
    tl_outvec_unref(worker->range_out);
    worker->range_out = NULL;
}

const struct tl_range *tl_worker_range(struct tl_worker *worker, const struct tl_channel_view *view,
                                       uint64_t from)
{
    if (worker->range_view != view || worker->range_from != from) {
        forget_range(worker);
        tl_view_range(&view->view, from, OUT_BYTES, &worker->range);
        worker->range_view = view;
        worker->range_from = from;
    }
    return &worker->range;
}

struct tl_outvec *tl_worker_pin_range(struct tl_worker *worker)
{
    if (!worker->range_out)
        worker->range_out =
            tl_outvec_new(&worker->range_view->view, &worker->range, worker->range_from);
    if (worker->range_out)
        worker->range_out->refs++;
    return worker->range_out;
}

/*
 * Hot. Nearly all sessions of a view have nothing else to send and stand at the same place, so that
 * they are sent the same range; what the loop queues shares one pin. The others are left for
 * pump(). Nothing here calls a phase, so no session but one whose own connection is broken ends
 * while sends are queued.
 */
static bool fan_out_range(struct tl_channel_view *view, uint64_t from, const struct tl_range *range,
                          struct tl_outvec *out)
{
    bool more = range->to.off < view->view.head.off;
    struct tl_stream *streams[TL_SEND_ALL_MAX];
    unsigned n = 0;
    struct tl_list *next;
    for (struct tl_list *l = view->subscriptions.next; l != &view->subscriptions; l = next) {
        struct tl_session *s = session_of(l);
        next = l->next;
        __builtin_prefetch(session_of(next));
        if (!tl_session_is_idle(s) || s->sub.off != from) {
            more = true;
            continue;
        }
        streams[n++] = tl_session_stream(s);
        if (n < TL_SEND_ALL_MAX)
            continue;
        more = !tl_session_send_range(streams, n, range, out) || more;
        n = 0;
    }
    return (n > 0 && !tl_session_send_range(streams, n, range, out)) || more;
}

/* Sets item->more: some are left. `queues`: the loop queues sends. */
static void fan_out(struct tl_batch_item *item, bool queues)
{
    struct tl_channel_view *view = item->view;
    uint64_t from = item->from_off;
    item->more = true;
    if (view->rule->interval_ms > 0 || from < view->view.tail.off || from == view->view.head.off)
        return;
    const struct tl_range *range = tl_worker_range(view->worker, view, from);
    struct tl_outvec *out = queues ? tl_worker_pin_range(view->worker) : NULL;
    if (range->bytes_n > 0 && (out || !queues))
        item->more = fan_out_range(view, from, range, out);
    tl_outvec_unref(out);
}

static void apply(struct tl_batch_item *item)
{
    struct tl_channel_view *view = item->view;
    if (!item->has_update)
        return;
    forget_range(view->worker);
    item->from_off = view->view.head.off;
    item->failed = tl_view_apply(&view->view, &item->update) < 0;
    tl_snapshot_on_update(view);
    item->expires = item->stale && !view->stale;
    view->stale = item->stale;
    if (item->expires && ++view->expired_n == 0)
        view->expired_n = 1; /* 0 is of who was told nothing */
}

/* All that is not the fan-out. */
static void tell(struct tl_batch_item *item)
{
    struct tl_channel_view *view = item->view;
    if (item->failed) {
        fail_view(view);
        return;
    }
    if (view->state == TL_ATTACH_REFUSED)
        return;
    view->state = item->state;
    view->refusal = item->refusal;
    if (item->state == TL_ATTACH_REFUSED) {
        refuse_all(view);
        return;
    }
    if (is_of_many(view)) {
        tl_many_on_change(view, item->link_down);
        return;
    }
    if (item->more || item->expires)
        each_session(view, true, pump);
    bool all_live = item->has_update && !item->more; /* the fan-out reached everyone */
    if (item->state == TL_ATTACH_LIVE) {
        if (!all_live && tl_channel_view_is_current(view)) /* or the next batch brings the rest */
            each_session(view, false, acknowledge);
    } else if (item->link_down)
        each_session(view, false, tell_down);
}

static bool pins_retired(const struct tl_outvec *out)
{
    for (unsigned i = 0; i < out->segs_n; i++)
        if (atomic_load_explicit(&out->segs[i]->retired, memory_order_relaxed))
            return true;
    return false;
}

/* Too much is pinned behind the logs: the sessions that lag longest go first. */
static void shed(struct tl_worker *worker)
{
    if ((uint64_t)tl_metric_get(TL_M_RETIRED_BYTES) <= worker->config->retired_bytes_max)
        return;
    struct tl_list *next;
    unsigned budget = 16;
    for (struct tl_list *l = worker->lagging.next; l != &worker->lagging && budget > 0; l = next) {
        next = l->next;
        struct tl_session *s = TL_CONTAINER(l, struct tl_session, lag_node);
        if (!pins_retired(s->sub.out))
            continue;
        tl_metric_add(TL_M_PINNED_RESETS, 1);
        tl_session_reset(s);
        budget--;
    }
}

/* What is still on its way after the batch found its socket full. */
static void find_lagging(struct tl_channel_view *view)
{
    if (is_of_many(view))
        return;
    for (struct tl_list *l = view->subscriptions.next; l != &view->subscriptions; l = l->next)
        tl_session_note_lag(session_of(l));
}

static void fan_out_all(struct tl_batch *batch)
{
    struct tl_worker *worker = batch->worker;
    worker->fanning_out = true;
    worker->queued_n = 0;
    bool queues = tl_loop_batch_begin(worker->loop);
    for (size_t i = 0; i < batch->n; i++) {
        struct tl_batch_item *item = &batch->items[i];
        if (item->has_update && !item->failed && !is_of_many(item->view) &&
            item->state != TL_ATTACH_REFUSED && item->view->state != TL_ATTACH_REFUSED)
            fan_out(item, queues);
    }
    tl_loop_batch_end(worker->loop);
    for (size_t i = 0; i < batch->n && worker->queued_n > 0; i++)
        find_lagging(batch->items[i].view);
    worker->fanning_out = false;
    tl_worker_count_sends(worker, 0, 0);
}

void tl_worker_on_sought(struct tl_mail *mail)
{
    struct tl_channel_view *view = TL_CONTAINER(mail, struct tl_view_seek, mail)->view;
    tl_channel_view_sought(view);
    tl_worker_acknowledge(view);
}

void tl_worker_acknowledge(struct tl_channel_view *view)
{
    if (is_of_many(view)) {
        /* A session has an answer for each channel, and looks at all of them each time. */
        tl_many_on_change(view, false);
        tl_many_turn_later(view->worker);
        return;
    }
    if (view->state == TL_ATTACH_LIVE && tl_channel_view_is_current(view))
        each_session(view, false, acknowledge);
}

void tl_worker_on_batch(struct tl_mail *mail)
{
    struct tl_batch *batch = TL_CONTAINER(mail, struct tl_batch, mail);
    struct tl_worker *worker = batch->worker;
    for (size_t i = 0; i < batch->n; i++) {
        catch_up(&batch->items[i]);
        tell_gaps(&batch->items[i]);
    }
    for (size_t i = 0; i < batch->n; i++)
        apply(&batch->items[i]);
    /* Once all have theirs, and before anything is sent: they are merged by their numbers. */
    for (size_t i = 0; i < batch->n; i++)
        if (is_of_many(batch->items[i].view))
            tl_many_mark(batch->items[i].view, batch->items[i].failed);
    fan_out_all(batch);
    for (size_t i = 0; i < batch->n; i++)
        tell(&batch->items[i]);
    tl_many_turn(worker);
    shed(worker);
    tl_free(batch);
}

void tl_worker_on_refused(struct tl_mail *mail)
{
    struct tl_channel_view *view = TL_CONTAINER(mail, struct tl_channel_view, join_mail);
    view->state = TL_ATTACH_REFUSED;
    view->refusal = TL_BROKER_FULL;
    refuse_all(view);
    tl_many_turn(view->worker);
}

static void check_drained(struct tl_worker *worker)
{
    if (worker->draining && worker->sessions_n == 0 && worker->views_n == 0 &&
        worker->publishes_n == 0)
        atomic_store_explicit(&worker->drained, true, memory_order_release);
}

void tl_worker_on_left(struct tl_mail *mail)
{
    struct tl_channel_view *view = TL_CONTAINER(mail, struct tl_channel_view, leave_mail);
    struct tl_worker *worker = view->worker;
    forget_range(worker);
    tl_view_deinit(&view->view);
    tl_snapshot_free(view);
    tl_free(view->seek);
    tl_free(view);
    worker->views_n--;
    check_drained(worker);
}

struct tl_publish_request *tl_worker_publish(struct tl_worker *worker, struct tl_bytes name,
                                             struct tl_buf *payload,
                                             void (*on_answer)(struct tl_publish_request *))
{
    struct tl_publish_request *request = tl_zalloc(sizeof *request);
    if (!request) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_buf_deinit(payload);
        return NULL;
    }
    request->body = *payload;
    *payload = (struct tl_buf){0};
    memcpy(request->name, name.p, name.n);
    request->publish.name = tl_bytes(request->name, name.n);
    request->publish.payload = tl_buf_bytes(&request->body);
    request->worker = worker;
    request->on_answer = on_answer;
    request->mail.deliver = tl_hub_on_publish;
    tl_list_init(&request->node);
    worker->publishes_n++;
    tl_hub_post(worker->hub, worker, &request->mail);
    return request;
}

void tl_worker_on_published(struct tl_mail *mail)
{
    struct tl_publish_request *request = TL_CONTAINER(mail, struct tl_publish_request, mail);
    struct tl_worker *worker = request->worker;
    request->on_answer(request);
    tl_worker_request_over(worker);
}

void tl_worker_request_over(struct tl_worker *worker)
{
    worker->publishes_n--;
    check_drained(worker);
}

/* --- sessions --- */

void tl_worker_session_gone(struct tl_worker *worker, struct tl_session *s)
{
    tl_list_remove(&s->node);
    tl_limits_give(worker->limits, s->address);
    tl_metric_add(TL_M_CONNECTIONS, -1);
    worker->sessions_n--;
    if (worker->short_of_fds && !worker->draining)
        set_accepting(worker, true);
    check_drained(worker);
}

static void on_ready_timer(struct tl_timer *timer)
{
    struct tl_worker *worker = TL_CONTAINER(timer, struct tl_worker, ready_timer);
    struct tl_list batch, *l;
    tl_list_init(&batch);
    tl_list_splice(&batch, &worker->ready);
    while ((l = tl_list_pop(&batch)))
        tl_session_pump(TL_CONTAINER(l, struct tl_session, ready_node));
}

void tl_worker_requeue(struct tl_worker *worker, struct tl_session *s, uint64_t delay_ms)
{
    if (tl_list_empty(&s->ready_node))
        tl_list_append(&worker->ready, &s->ready_node);
    /* An earlier one stays: it is the time of the others on the list. */
    uint64_t due_ms = tl_loop_now_ms(worker->loop) + delay_ms;
    if (!tl_timer_is_started(&worker->ready_timer) || worker->ready_timer.due_ms > due_ms)
        tl_loop_timer_start(worker->loop, &worker->ready_timer, delay_ms);
}

/* --- draining --- */

/* Send away the share of the sessions that the time that has passed asks for (R25). */
static void on_drain_timer(struct tl_timer *timer)
{
    struct tl_worker *worker = TL_CONTAINER(timer, struct tl_worker, drain_timer);
    uint64_t now_ms = tl_loop_now_ms(worker->loop);
    if (now_ms >= worker->drain_until_ms + DRAIN_EXTRA_MS) {
        struct tl_list *next;
        for (struct tl_list *l = worker->sessions.next; l != &worker->sessions; l = next) {
            next = l->next;
            tl_session_reset(TL_CONTAINER(l, struct tl_session, node));
        }
        return;
    }
    size_t left_ms = now_ms < worker->drain_until_ms ? worker->drain_until_ms - now_ms : 0;
    size_t share = worker->sessions_n * DRAIN_TICK_MS / (left_ms + DRAIN_TICK_MS) + 1;
    if (worker->sessions_n < DRAIN_AT_ONCE || share > worker->sessions_n)
        share = worker->sessions_n;
    for (struct tl_list *l; share > 0 && (l = tl_list_pop(&worker->sessions)); share--) {
        /* To the end of the list: whoever needs longer is asked again, which changes nothing. */
        tl_list_append(&worker->sessions, l);
        struct tl_session *s = TL_CONTAINER(l, struct tl_session, node);
        if (!s->closed && s->phase->on_drain)
            s->phase->on_drain(s);
    }
    tl_loop_timer_start(worker->loop, &worker->drain_timer, DRAIN_TICK_MS);
}

void tl_worker_on_drain(struct tl_mail *mail)
{
    struct tl_worker *worker = TL_CONTAINER(mail, struct tl_worker, drain_mail);
    worker->draining = true;
    worker->drain_until_ms = tl_loop_now_ms(worker->loop) + worker->config->drain_ms;
    for (unsigned i = 0; i < worker->listeners_n; i++)
        tl_acceptor_close(&worker->listeners[i].acceptor);
    on_drain_timer(&worker->drain_timer);
    check_drained(worker);
}

/* --- making and ending it --- */

int tl_worker_init(struct tl_worker *worker, unsigned index, enum tl_engine engine,
                   const struct tl_config *config, const struct tl_routes *routes,
                   struct tl_limits *limits)
{
    int r = 0;
    *worker = (struct tl_worker){
        .index = index, .config = config, .routes = routes, .limits = limits, .accepting = true};
    tl_list_init(&worker->sessions);
    tl_list_init(&worker->lagging);
    tl_list_init(&worker->touched);
    tl_list_init(&worker->ready);
    tl_timer_init(&worker->ready_timer, on_ready_timer);
    tl_timer_init(&worker->accept_timer, on_accept_timer);
    tl_timer_init(&worker->drain_timer, on_drain_timer);
    worker->drain_mail.deliver = tl_worker_on_drain;
    worker->loop = tl_loop_new(engine, &r);
    if (!worker->loop)
        return r;
    return tl_map_init(&worker->views, tl_channel_view_key);
}

void tl_worker_deinit(struct tl_worker *worker)
{
    if (!worker->loop)
        return;
    for (unsigned i = 0; i < worker->listeners_n; i++)
        tl_acceptor_close(&worker->listeners[i].acceptor);
    tl_timer_stop(tl_loop_timers(worker->loop), &worker->ready_timer);
    tl_timer_stop(tl_loop_timers(worker->loop), &worker->accept_timer);
    tl_timer_stop(tl_loop_timers(worker->loop), &worker->drain_timer);
    tl_map_deinit(&worker->views);
    tl_loop_free(worker->loop);
    worker->loop = NULL;
}
