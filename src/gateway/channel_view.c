#include "gateway/channel_view.h"

#include "base/alloc.h"
#include "base/metrics.h"
#include "gateway/hub.h"
#include "gateway/worker.h"

#include <assert.h>
#include <errno.h>

struct tl_bytes tl_channel_view_key(const struct tl_map_node *node)
{
    const struct tl_channel_view *view = TL_CONTAINER(node, const struct tl_channel_view, node);
    return tl_bytes(view->key, view->key_n);
}

/* False: no memory. */
static bool make_seek(struct tl_channel_view *view)
{
    const struct tl_config *config = view->worker->config;
    if (!tl_config_is_stream(view->rule) || tl_config_pattern(config, tl_channel_view_name(view)))
        return true;
    view->seek = tl_zalloc(sizeof *view->seek);
    if (!view->seek)
        return false;
    view->seek->view = view;
    tl_list_init(&view->seek->node);
    view->view.stream = &view->seek->marks;
    return true;
}

static struct tl_channel_view *view_new(struct tl_worker *worker, struct tl_bytes key)
{
    struct tl_channel_view *view = tl_zalloc(sizeof *view + key.n);
    if (!view)
        return NULL;
    view->worker = worker;
    view->lane = (enum tl_lane_kind)key.p[0];
    view->state = TL_ATTACH_WAITING;
    view->join_mail.deliver = tl_hub_on_join;
    view->leave_mail.deliver = tl_hub_on_leave;
    tl_list_init(&view->subscriptions);
    tl_list_init(&view->attachment.node);
    view->key_n = (uint16_t)key.n;
    memcpy(view->key, key.p, key.n);
    view->rule = tl_config_rule(worker->config, tl_channel_view_name(view));
    if (!make_seek(view)) {
        tl_free(view);
        return NULL;
    }
    tl_map_add(&worker->views, &view->node);
    worker->views_n++;
    tl_hub_post(worker->hub, worker, &view->join_mail);
    return view;
}

static void seek(struct tl_view_seek *seek, struct tl_entry_id id)
{
    struct tl_worker *worker = seek->view->worker;
    seek->asked = true;
    seek->id = id;
    seek->mail.deliver = tl_hub_on_seek;
    tl_hub_post(worker->hub, worker, &seek->mail);
}

bool tl_channel_view_settles(struct tl_channel_view *view, const struct tl_position *position,
                             uint32_t *due)
{
    struct tl_view_seek *s = view->seek;
    if (!tl_view_must_ask(&view->view, position))
        return true;
    if (*due != 0)
        return (int32_t)(s->answers_n - *due) >= 0;
    bool is_newer = tl_entry_id_cmp(position->id, s->marks.head) > 0;
    if (!s->asked) {
        *due = s->answers_n + 1;
        seek(s, position->id);
    } else if (!is_newer && tl_entry_id_cmp(s->id, position->id) <= 0) {
        *due = s->answers_n + 1;
    } else {
        /* It was asked for less, or before this client came. */
        if (!s->asks_next || tl_entry_id_cmp(position->id, s->next_id) < 0)
            s->next_id = position->id;
        s->asks_next = true;
        *due = s->answers_n + 2;
    }
    if (*due == 0)
        (*due)++;
    return false;
}

void tl_channel_view_sought(struct tl_channel_view *view)
{
    struct tl_view_seek *s = view->seek;
    s->asked = false;
    s->answers_n++;
    if (!s->asks_next)
        return;
    s->asks_next = false;
    if (!view->leaving)
        seek(s, s->next_id);
}

int tl_subscription_open(struct tl_worker *worker, struct tl_subscription *sub,
                         enum tl_lane_kind lane, struct tl_bytes name)
{
    uint8_t key[256];
    assert(!sub->view && name.n < sizeof key);
    key[0] = (uint8_t)lane;
    memcpy(key + 1, name.p, name.n);
    struct tl_bytes key_bytes = tl_bytes(key, name.n + 1);
    struct tl_map_node *node = tl_map_find(&worker->views, key_bytes);
    struct tl_channel_view *view =
        node ? TL_CONTAINER(node, struct tl_channel_view, node) : view_new(worker, key_bytes);
    if (!view)
        return -ENOMEM;
    sub->view = view;
    sub->live = false;
    tl_list_append(&view->subscriptions, &sub->node);
    /* Relaxed: the hub reads it for an answer's figure only. */
    atomic_fetch_add_explicit(&view->subscribers_n, 1, memory_order_relaxed);
    tl_metric_add(TL_M_SUBSCRIPTIONS, 1);
    return 0;
}

void tl_subscription_close(struct tl_subscription *sub)
{
    struct tl_channel_view *view = sub->view;
    if (!view)
        return;
    sub->view = NULL;
    sub->live = false;
    tl_list_remove(&sub->node);
    atomic_fetch_sub_explicit(&view->subscribers_n, 1, memory_order_relaxed);
    tl_metric_add(TL_M_SUBSCRIPTIONS, -1);
    if (!tl_list_empty(&view->subscriptions) || view->leaving)
        return;
    /* Whoever comes now gets a new view; this one waits for the hub's last item. */
    view->leaving = true;
    tl_map_remove(&view->worker->views, &view->node);
    tl_hub_post(view->worker->hub, view->worker, &view->leave_mail);
}

void tl_subscription_skip_to(struct tl_subscription *sub, struct tl_mark to)
{
    assert(!sub->out && to.off >= sub->off);
    sub->off = to.off;
    sub->msg = to.msg;
}

bool tl_subscription_conflate(struct tl_subscription *sub)
{
    const struct tl_view *view = &sub->view->view;
    /* A word of the broker or of a gap is not passed over; a WebSocket's lane has none. */
    bool tells = tl_view_has_event_behind(view, sub->off);
    struct tl_mark newest = tells ? view->tail : tl_view_newest(view);
    if (newest.off <= sub->off)
        return false;
    tl_metric_add(TL_M_CONFLATED, (int64_t)(newest.msg - sub->msg));
    tl_subscription_skip_to(sub, newest);
    return true;
}

struct tl_outvec *tl_outvec_new(const struct tl_view *view, const struct tl_range *range,
                                uint64_t from)
{
    struct tl_outvec *out = tl_alloc(sizeof *out);
    if (!out)
        return NULL;
    out->refs = 1;
    out->is_newest = range->to.off == view->head.off;
    out->base_off = from;
    out->to = range->to;
    out->slices_n = range->slices_n;
    memcpy(out->slices, range->slices, range->slices_n * sizeof *range->slices);
    out->segs_n = tl_view_pin(view, from, range->to.off, out->segs);
    return out;
}

void tl_outvec_free(struct tl_outvec *out)
{
    for (unsigned i = 0; i < out->segs_n; i++)
        tl_segment_unref(out->segs[i]);
    tl_free(out);
}

unsigned tl_subscription_rest(const struct tl_subscription *sub, struct tl_bytes slices[16])
{
    const struct tl_outvec *out = sub->out;
    size_t skip = (size_t)(sub->off - out->base_off);
    unsigned n = 0;
    for (unsigned i = 0; i < out->slices_n; i++) {
        size_t cut = skip < out->slices[i].n ? skip : out->slices[i].n;
        skip -= cut;
        if (cut < out->slices[i].n)
            slices[n++] = tl_bytes_skip(out->slices[i], cut);
    }
    return n;
}
