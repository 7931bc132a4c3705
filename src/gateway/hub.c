#include "gateway/hub.h"

#include "base/alloc.h"
#include "base/glob.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "base/random.h"
#include "gateway/channel_view.h"
#include "gateway/worker.h"

#include <assert.h>
#include <stdio.h>

#define SWEEP_MS 250 /* lingers and ages are looked at this often */
#define RETRY_MS 10  /* a flush that found no memory */

static const char down_event[] = "event: broker\ndata: {\"state\":\"down\"}\n\n";

struct tl_channel {
    struct tl_map_node node;
    struct tl_list order; /* of all channels */
    struct tl_list dirty;
    struct tl_list attachments;
    const struct tl_pattern *pattern; /* NULL: a plain channel */
    struct tl_channel_life life;
    struct tl_log log;
    uint64_t unflushed_msgs, unflushed_bytes; /* appended since the workers were told */
    uint64_t kept_bytes;                      /* log.bytes as counted in the totals */
    uint32_t lane_views[TL_LANE_N];
    bool gap_due; /* continuity broke: told when it is live again */
    uint8_t name_n;
    uint8_t name[];
};

struct tl_hub {
    const struct tl_config *config;
    struct tl_loop *loop;
    struct tl_broker *broker;
    struct tl_worker **workers;
    unsigned workers_n;
    struct tl_map channels; /* by name */
    struct tl_list order;   /* all channels: the sweep and the cap walk it */
    struct tl_list dirty;
    struct tl_list *sweep_at;            /* the next channel to look at */
    struct tl_mail *local, **local_tail; /* mail of the worker on this very loop */
    struct tl_task local_task, flush_task;
    struct tl_timer sweep_timer, retry_timer;
    uint64_t logs_bytes;
    bool link_up;
    bool stopped;
    /* Written here, read by all workers; relaxed: it orders nothing. */
    _Atomic bool ready;
};

static struct tl_bytes channel_name(const struct tl_channel *channel)
{
    return tl_bytes(channel->name, channel->name_n);
}

static struct tl_bytes node_key(const struct tl_map_node *node)
{
    return channel_name(TL_CONTAINER(node, const struct tl_channel, node));
}

static enum tl_source_kind source_kind(const struct tl_channel *channel)
{
    return channel->pattern ? TL_SOURCE_PATTERN : TL_SOURCE_CHANNEL;
}

static struct tl_bytes source_name(const struct tl_channel *channel)
{
    return channel->pattern ? channel->pattern->glob : channel_name(channel);
}

static uint64_t new_epoch(void)
{
    uint64_t epoch;
    do {
        epoch = tl_random_u64();
    } while (epoch == 0);
    return epoch;
}

/* --- channels --- */

static const struct tl_pattern *find_pattern(const struct tl_hub *hub, struct tl_bytes name)
{
    for (size_t i = 0; i < hub->config->patterns_n; i++)
        if (tl_bytes_eq(hub->config->patterns[i].name, name))
            return &hub->config->patterns[i];
    return NULL;
}

bool tl_hub_is_pattern(const struct tl_hub *hub, struct tl_bytes name)
{
    return find_pattern(hub, name) != NULL;
}

static struct tl_channel *find_channel(const struct tl_hub *hub, struct tl_bytes name)
{
    struct tl_map_node *node = tl_map_find(&hub->channels, name);
    return node ? TL_CONTAINER(node, struct tl_channel, node) : NULL;
}

/* The channel that a source of the broker feeds, or NULL. */
static struct tl_channel *find_source(const struct tl_hub *hub, enum tl_source_kind kind,
                                      struct tl_bytes source)
{
    if (kind == TL_SOURCE_CHANNEL) {
        struct tl_channel *channel = find_channel(hub, source);
        return channel && !channel->pattern ? channel : NULL;
    }
    for (size_t i = 0; i < hub->config->patterns_n; i++)
        if (tl_bytes_eq(hub->config->patterns[i].glob, source))
            return find_channel(hub, hub->config->patterns[i].name);
    return NULL;
}

static uint64_t linger_of(const struct tl_hub *hub)
{
    /* Where the messages originate here, the log of an unwatched channel goes on being true, so it
     * is worth keeping for as long as history is. */
    const struct tl_config *config = hub->config;
    if (!hub->broker->ops->is_source || config->linger_ms > config->history_ttl_ms)
        return config->linger_ms;
    return config->history_ttl_ms;
}

/* The channel, made if needed; NULL with no memory or too many channels. */
static struct tl_channel *open_channel(struct tl_hub *hub, struct tl_bytes name)
{
    struct tl_channel *channel = find_channel(hub, name);
    if (channel)
        return channel;
    if (hub->channels.n >= hub->config->channels_max)
        return NULL;
    channel = tl_zalloc(sizeof *channel + name.n);
    if (!channel)
        return NULL;
    channel->name_n = (uint8_t)name.n;
    memcpy(channel->name, name.p, name.n);
    channel->pattern = find_pattern(hub, name);
    tl_channel_init(&channel->life, linger_of(hub), hub->link_up);
    tl_log_init(&channel->log, &hub->config->log, new_epoch(),
                channel->pattern && channel->pattern->name_line);
    tl_list_init(&channel->dirty);
    tl_list_init(&channel->attachments);
    tl_list_append(&hub->order, &channel->order);
    tl_map_add(&hub->channels, &channel->node);
    tl_metric_add(TL_M_CHANNELS, 1);
    return channel;
}

static void count_bytes(struct tl_hub *hub, struct tl_channel *channel)
{
    int64_t grown = (int64_t)(channel->log.bytes - channel->kept_bytes);
    channel->kept_bytes = channel->log.bytes;
    hub->logs_bytes = (uint64_t)((int64_t)hub->logs_bytes + grown);
    tl_metric_add(TL_M_LOG_BYTES, grown);
}

static void free_channel(struct tl_hub *hub, struct tl_channel *channel)
{
    assert(tl_list_empty(&channel->attachments));
    tl_map_remove(&hub->channels, &channel->node);
    if (hub->sweep_at == &channel->order)
        hub->sweep_at = channel->order.next;
    tl_list_remove(&channel->order);
    tl_list_remove(&channel->dirty);
    tl_log_deinit(&channel->log);
    count_bytes(hub, channel);
    tl_metric_add(TL_M_CHANNELS, -1);
    tl_free(channel);
}

/* --- flushing to the workers --- */

static void touch(struct tl_hub *hub, struct tl_channel *channel)
{
    if (tl_list_empty(&channel->dirty))
        tl_list_append(&hub->dirty, &channel->dirty);
    tl_loop_defer(hub->loop, &hub->flush_task);
}

static struct tl_channel_view *view_of(struct tl_attachment *attachment)
{
    return TL_CONTAINER(attachment, struct tl_channel_view, attachment);
}

/* Segments of the lane's chain behind the last one told. */
static uint32_t untold_segments(const struct tl_chain *chain, const struct tl_segment *told)
{
    uint32_t n = 0;
    while (n < chain->n && tl_chain_at(chain, chain->n - 1 - n) != told)
        n++;
    return n;
}

static const struct tl_chain *lane_chain(struct tl_attachment *attachment)
{
    return &attachment->channel->log.lanes[view_of(attachment)->lane].chain;
}

static bool has_update(const struct tl_attachment *attachment)
{
    return attachment->state == TL_ATTACH_LIVE || attachment->state == TL_ATTACH_LOST;
}

static void fill_item(struct tl_hub *hub, struct tl_attachment *attachment,
                      struct tl_batch_item *item, struct tl_segment **segs)
{
    struct tl_channel *channel = attachment->channel;
    enum tl_lane_kind lane = view_of(attachment)->lane;
    *item = (struct tl_batch_item){
        .view = view_of(attachment),
        .state = attachment->state,
        .refusal = attachment->refusal,
        .gaps_n = attachment->gaps_n,
        .gap_msgs = attachment->gap_msgs,
        .link_down = !hub->link_up,
        .has_update = has_update(attachment),
    };
    attachment->gaps_n = 0;
    attachment->gap_msgs = 0;
    attachment->changed = false;
    if (!item->has_update)
        return;
    const struct tl_chain *chain = lane_chain(attachment);
    uint32_t n = untold_segments(chain, attachment->told);
    for (uint32_t i = 0; i < n; i++)
        segs[i] = tl_segment_ref(tl_chain_at(chain, chain->n - n + i));
    attachment->told = tl_chain_last(chain);
    item->update = (struct tl_view_update){
        .segs = segs,
        .segs_n = n,
        .head = tl_log_head(&channel->log, lane),
        .tail = tl_log_tail(&channel->log, lane),
        .epoch = channel->log.epoch,
        .epoch_idx = channel->log.epoch_idx,
    };
}

static bool is_for(struct tl_attachment *attachment, const struct tl_worker *worker)
{
    return attachment->changed && view_of(attachment)->worker == worker;
}

/* Call fn for each changed attachment of the worker. */
#define EACH_CHANGED(hub, w, attachment)                                                           \
    for (struct tl_list *c_ = (hub)->dirty.next; c_ != &(hub)->dirty; c_ = c_->next)               \
        for (struct tl_list *list_ = &TL_CONTAINER(c_, struct tl_channel, dirty)->attachments,     \
                            *a_ = list_->next;                                                     \
             a_ != list_; a_ = a_->next)                                                           \
            if (attachment = TL_CONTAINER(a_, struct tl_attachment, node), is_for(attachment, w))

static struct tl_batch *make_batch(struct tl_hub *hub, struct tl_worker *worker)
{
    size_t items_n = 0, segs_n = 0;
    struct tl_attachment *attachment;
    EACH_CHANGED(hub, worker, attachment)
    {
        items_n++;
        if (has_update(attachment))
            segs_n += untold_segments(lane_chain(attachment), attachment->told);
    }
    if (items_n == 0)
        return NULL;
    struct tl_batch *batch = tl_alloc(sizeof *batch + items_n * sizeof batch->items[0] +
                                      segs_n * sizeof(struct tl_segment *));
    if (!batch) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_loop_timer_start(hub->loop, &hub->retry_timer, RETRY_MS);
        return NULL;
    }
    *batch = (struct tl_batch){.worker = worker, .mail.deliver = tl_worker_on_batch};
    struct tl_segment **segs = (struct tl_segment **)(void *)(batch->items + items_n);
    EACH_CHANGED(hub, worker, attachment)
    {
        fill_item(hub, attachment, &batch->items[batch->n], segs);
        segs += batch->items[batch->n++].update.segs_n;
    }
    return batch;
}

/* Channels whose views have all been told are clean; the others wait for memory. */
static void clean_dirty(struct tl_hub *hub)
{
    struct tl_list *next_channel;
    for (struct tl_list *c = hub->dirty.next; c != &hub->dirty; c = next_channel) {
        next_channel = c->next;
        struct tl_channel *channel = TL_CONTAINER(c, struct tl_channel, dirty);
        bool waiting = false;
        struct tl_list *list = &channel->attachments;
        for (struct tl_list *a = list->next; a != list; a = a->next)
            waiting = waiting || TL_CONTAINER(a, struct tl_attachment, node)->changed;
        channel->unflushed_msgs = 0;
        channel->unflushed_bytes = 0;
        if (!waiting)
            tl_list_remove(&channel->dirty);
    }
}

static void flush(struct tl_hub *hub)
{
    struct tl_batch *batches[TL_WORKERS_MAX];
    for (unsigned i = 0; i < hub->workers_n; i++)
        batches[i] = make_batch(hub, hub->workers[i]);
    clean_dirty(hub);
    for (unsigned i = hub->workers_n; i-- > 0;) {
        if (!batches[i])
            continue;
        if (i == 0)
            tl_worker_on_batch(&batches[i]->mail);
        else
            tl_mailbox_post(tl_loop_mailbox(hub->workers[i]->loop), &batches[i]->mail);
    }
}

static void on_flush(struct tl_task *task)
{
    flush(TL_CONTAINER(task, struct tl_hub, flush_task));
}

static void on_retry(struct tl_timer *timer)
{
    flush(TL_CONTAINER(timer, struct tl_hub, retry_timer));
}

static void change_all(struct tl_hub *hub, struct tl_channel *channel)
{
    if (tl_list_empty(&channel->attachments))
        return;
    struct tl_list *list = &channel->attachments;
    for (struct tl_list *a = list->next; a != list; a = a->next)
        TL_CONTAINER(a, struct tl_attachment, node)->changed = true;
    touch(hub, channel);
}

/* --- appending --- */

/* Free memory until all logs fit their cap, the largest first; each keeps its newest message. */
static void apply_cap(struct tl_hub *hub)
{
    while (hub->logs_bytes > hub->config->logs_bytes_max) {
        struct tl_channel *largest = NULL;
        for (struct tl_list *l = hub->order.next; l != &hub->order; l = l->next) {
            struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, order);
            if (channel->log.head.idx - channel->log.tail.idx > 1 &&
                (!largest || channel->log.bytes > largest->log.bytes))
                largest = channel;
        }
        if (!largest)
            return;
        tl_metric_add(TL_M_EVICTED, (int64_t)tl_log_evict_half(&largest->log));
        count_bytes(hub, largest);
        change_all(hub, largest);
    }
}

/* Workers must hear of messages before the limits drop them. */
static bool must_flush(const struct tl_channel *channel)
{
    const struct tl_log_limits *limits = channel->log.limits;
    return channel->unflushed_msgs > limits->msgs_max / 2 ||
           channel->unflushed_bytes > limits->bytes_max / 2;
}

static void after_append(struct tl_hub *hub, struct tl_channel *channel)
{
    channel->unflushed_msgs++;
    if (channel->log.bytes > channel->kept_bytes)
        channel->unflushed_bytes += channel->log.bytes - channel->kept_bytes;
    count_bytes(hub, channel);
    change_all(hub, channel);
    if (must_flush(channel))
        flush(hub);
    uint64_t evicted = tl_log_evict(&channel->log, tl_loop_now_ms(hub->loop));
    tl_metric_add(TL_M_EVICTED, (int64_t)evicted);
    count_bytes(hub, channel);
    apply_cap(hub);
}

static void append_control(struct tl_hub *hub, struct tl_channel *channel, const char *event)
{
    /* Without memory for it the gap is still counted, and the next position is of a new epoch. */
    if (channel->lane_views[TL_LANE_SSE] > 0 &&
        tl_log_append_control(&channel->log, tl_bytes_str(event), tl_loop_now_ms(hub->loop)) < 0)
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
}

/* msgs: how many are known to be missed; 0: unknown. */
static void tell_gap(struct tl_hub *hub, struct tl_channel *channel, uint64_t msgs,
                     const char *reason)
{
    char event[200], token[TL_POSITION_TEXT_MAX];
    tl_log_new_epoch(&channel->log, new_epoch());
    struct tl_position position = tl_log_position(&channel->log);
    if (channel->lane_views[TL_LANE_SSE] > 0)
        position.idx++; /* the event itself is an entry */
    tl_position_print(position, token);
    if (msgs > 0)
        snprintf(event, sizeof event,
                 "id: %s\nevent: gap\ndata: {\"missed\":%llu,\"reason\":\"%s\"}\n\n", token,
                 (unsigned long long)msgs, reason);
    else
        snprintf(event, sizeof event,
                 "id: %s\nevent: gap\ndata: {\"missed\":null,\"reason\":\"%s\"}\n\n", token,
                 reason);
    append_control(hub, channel, event);
    struct tl_list *list = &channel->attachments;
    for (struct tl_list *a = list->next; a != list; a = a->next) {
        struct tl_attachment *attachment = TL_CONTAINER(a, struct tl_attachment, node);
        if (!has_update(attachment))
            continue;
        attachment->gaps_n++;
        attachment->gap_msgs += msgs;
    }
    after_append(hub, channel);
}

/* --- the channel's life --- */

static void set_states(struct tl_channel *channel, enum tl_attach_state from,
                       enum tl_attach_state to, enum tl_broker_status refusal)
{
    struct tl_list *list = &channel->attachments;
    for (struct tl_list *a = list->next; a != list; a = a->next) {
        struct tl_attachment *attachment = TL_CONTAINER(a, struct tl_attachment, node);
        if (attachment->state != from)
            continue;
        attachment->state = to;
        attachment->refusal = refusal;
    }
}

static void acknowledge(struct tl_hub *hub, struct tl_channel *channel)
{
    if (channel->gap_due) {
        append_control(hub, channel, "event: broker\ndata: {\"state\":\"up\"}\n\n");
        tell_gap(hub, channel, 0, "broker link lost");
        channel->gap_due = false;
    }
    set_states(channel, TL_ATTACH_LOST, TL_ATTACH_LIVE, TL_BROKER_OK);
    set_states(channel, TL_ATTACH_WAITING, TL_ATTACH_LIVE, TL_BROKER_OK);
    change_all(hub, channel);
}

/* Carry out what the channel's life asks for. The channel may be gone afterwards. */
static void act(struct tl_hub *hub, struct tl_channel *channel, unsigned actions,
                enum tl_broker_status refusal)
{
    const struct tl_broker_ops *ops = hub->broker->ops;
    if (actions & TL_CHANNEL_LOST) {
        append_control(hub, channel, down_event);
        set_states(channel, TL_ATTACH_LIVE, TL_ATTACH_LOST, TL_BROKER_OK);
        channel->gap_due = true;
        change_all(hub, channel);
    }
    if (actions & TL_CHANNEL_RENEW)
        tl_log_new_epoch(&channel->log, new_epoch());
    if (actions & TL_CHANNEL_SUBSCRIBE)
        ops->subscribe(hub->broker, source_kind(channel), source_name(channel));
    if (actions & TL_CHANNEL_UNSUBSCRIBE)
        ops->unsubscribe(hub->broker, source_kind(channel), source_name(channel));
    if (actions & TL_CHANNEL_ACK)
        acknowledge(hub, channel);
    if (actions & TL_CHANNEL_REFUSE) {
        set_states(channel, TL_ATTACH_WAITING, TL_ATTACH_REFUSED, refusal);
        set_states(channel, TL_ATTACH_LOST, TL_ATTACH_REFUSED, refusal);
        change_all(hub, channel);
    }
    if (actions & TL_CHANNEL_FREE)
        free_channel(hub, channel);
}

/* --- mail from the workers --- */

static void refuse_view(struct tl_channel_view *view)
{
    /* Without a channel there is no dirty list to stand on: answer at once. The batch of one item
     * is the memory that may be missing, so the session's own timeout is the last resort. */
    struct tl_batch *batch = tl_zalloc(sizeof *batch + sizeof batch->items[0]);
    if (!batch)
        return;
    batch->worker = view->worker;
    batch->n = 1;
    batch->items[0] =
        (struct tl_batch_item){.view = view, .state = TL_ATTACH_REFUSED, .refusal = TL_BROKER_FULL};
    batch->mail.deliver = tl_worker_on_batch;
    tl_mailbox_post(tl_loop_mailbox(view->worker->loop), &batch->mail);
}

void tl_hub_on_join(struct tl_mail *mail)
{
    struct tl_channel_view *view = TL_CONTAINER(mail, struct tl_channel_view, join_mail);
    struct tl_hub *hub = view->worker->hub;
    struct tl_attachment *attachment = &view->attachment;
    struct tl_channel *channel = open_channel(hub, tl_channel_view_name(view));
    attachment->state = TL_ATTACH_WAITING;
    if (!channel || tl_log_lane_open(&channel->log, view->lane) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        if (channel && channel->life.state == TL_CHANNEL_IDLE &&
            tl_list_empty(&channel->attachments))
            free_channel(hub, channel);
        refuse_view(view);
        return;
    }
    count_bytes(hub, channel);
    attachment->channel = channel;
    channel->lane_views[view->lane]++;
    tl_list_append(&channel->attachments, &attachment->node);
    unsigned actions = tl_channel_join(&channel->life);
    if (!hub->link_up) {
        attachment->changed = true;
        touch(hub, channel);
    }
    act(hub, channel, actions, TL_BROKER_OK);
}

/* A view that was refused before it had a channel goes straight back. */
static void answer_left(struct tl_channel_view *view)
{
    view->leave_mail.deliver = tl_worker_on_left;
    tl_mailbox_post(tl_loop_mailbox(view->worker->loop), &view->leave_mail);
}

void tl_hub_on_leave(struct tl_mail *mail)
{
    struct tl_channel_view *view = TL_CONTAINER(mail, struct tl_channel_view, leave_mail);
    struct tl_hub *hub = view->worker->hub;
    struct tl_channel *channel = view->attachment.channel;
    if (!channel) {
        answer_left(view);
        return;
    }
    /* Back through its own mail and not through a batch: that needs no memory. Nothing follows. */
    tl_list_remove(&view->attachment.node);
    if (--channel->lane_views[view->lane] == 0) {
        tl_log_lane_close(&channel->log, view->lane);
        count_bytes(hub, channel);
    }
    answer_left(view);
    act(hub, channel, tl_channel_leave(&channel->life, tl_loop_now_ms(hub->loop)), TL_BROKER_OK);
}

static void on_published(struct tl_publish *publish)
{
    struct tl_publish_request *request = TL_CONTAINER(publish, struct tl_publish_request, publish);
    struct tl_hub *hub = request->worker->hub;
    tl_metric_add(publish->status == TL_BROKER_OK ? TL_M_PUBLISHED : TL_M_PUBLISH_FAILED, 1);
    struct tl_channel *channel = find_channel(hub, publish->name);
    if (publish->status == TL_BROKER_OK && hub->broker->ops->is_source && channel) {
        publish->receivers = 0;
        struct tl_list *list = &channel->attachments;
        for (struct tl_list *a = list->next; a != list; a = a->next)
            publish->receivers += atomic_load_explicit(
                &view_of(TL_CONTAINER(a, struct tl_attachment, node))->subscribers_n,
                memory_order_relaxed);
        request->position = tl_log_position(&channel->log);
        request->has_position = true;
    }
    request->mail.deliver = tl_worker_on_published;
    tl_mailbox_post(tl_loop_mailbox(request->worker->loop), &request->mail);
}

void tl_hub_on_publish(struct tl_mail *mail)
{
    struct tl_publish_request *request = TL_CONTAINER(mail, struct tl_publish_request, mail);
    struct tl_hub *hub = request->worker->hub;
    request->publish.on_published = on_published;
    if (hub->stopped) {
        request->publish.status = TL_BROKER_DOWN;
        on_published(&request->publish);
        return;
    }
    hub->broker->ops->publish(hub->broker, &request->publish);
}

static void on_local_mail(struct tl_task *task)
{
    struct tl_hub *hub = TL_CONTAINER(task, struct tl_hub, local_task);
    struct tl_mail *mail = hub->local;
    hub->local = NULL;
    hub->local_tail = &hub->local;
    while (mail) {
        struct tl_mail *next = mail->next;
        mail->deliver(mail);
        mail = next;
    }
}

void tl_hub_post(struct tl_hub *hub, struct tl_worker *from, struct tl_mail *mail)
{
    if (from->loop != hub->loop) {
        tl_mailbox_post(tl_loop_mailbox(hub->loop), mail);
        return;
    }
    /* The same thread: no lock and no wake-up, but still never from inside the caller. */
    mail->next = NULL;
    *hub->local_tail = mail;
    hub->local_tail = &mail->next;
    tl_loop_defer(hub->loop, &hub->local_task);
}

/* --- events of the broker --- */

static void update_ready(struct tl_hub *hub)
{
    bool up = hub->broker->ops->is_up(hub->broker);
    atomic_store_explicit(&hub->ready, up, memory_order_relaxed);
    tl_metric_set(TL_M_BROKER_UP, up);
}

bool tl_hub_is_ready(const struct tl_hub *hub)
{
    return atomic_load_explicit(&hub->ready, memory_order_relaxed);
}

static void on_link(void *arg, const char *link, bool up, const char *reason)
{
    struct tl_hub *hub = arg;
    (void)link;
    (void)reason;
    hub->link_up = up;
    update_ready(hub);
    struct tl_list *next;
    for (struct tl_list *l = hub->order.next; l != &hub->order; l = next) {
        next = l->next;
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, order);
        if (!up)
            change_all(hub, channel); /* who waits is told as well */
        act(hub, channel, tl_channel_link(&channel->life, up), TL_BROKER_DOWN);
    }
}

static void on_subscribed(void *arg, enum tl_source_kind kind, struct tl_bytes source,
                          enum tl_broker_status status, const char *reason)
{
    struct tl_hub *hub = arg;
    char text[128];
    struct tl_channel *channel = find_source(hub, kind, source);
    if (status != TL_BROKER_OK)
        tl_logger(TL_WARN, "broker refuses to subscribe %s: %s",
                  tl_logger_text(source, text, sizeof text), reason);
    if (!channel)
        return;
    act(hub, channel,
        tl_channel_subscribed(&channel->life, status == TL_BROKER_OK, tl_loop_now_ms(hub->loop)),
        status);
}

static void on_unsubscribed(void *arg, enum tl_source_kind kind, struct tl_bytes source)
{
    struct tl_hub *hub = arg;
    struct tl_channel *channel = find_source(hub, kind, source);
    if (channel)
        act(hub, channel, tl_channel_unsubscribed(&channel->life), TL_BROKER_OK);
}

static void on_message(void *arg, enum tl_source_kind kind, struct tl_bytes source,
                       struct tl_bytes name, struct tl_bytes payload)
{
    struct tl_hub *hub = arg;
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    bool is_source = hub->broker->ops->is_source;
    tl_metric_add(TL_M_MESSAGES_IN, 1);
    tl_metric_add(TL_M_MESSAGE_BYTES_IN, (int64_t)payload.n);
    struct tl_channel *channel = is_source && kind == TL_SOURCE_CHANNEL
                                     ? open_channel(hub, source)
                                     : find_source(hub, kind, source);
    if (!channel)
        return;
    if (is_source)
        tl_channel_touch(&channel->life, now_ms);
    if (!tl_channel_is_subscribed(&channel->life))
        return;
    struct tl_message message = {.payload = payload};
    if (kind == TL_SOURCE_PATTERN)
        message.name = name;
    if (tl_log_append(&channel->log, &message, now_ms) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tell_gap(hub, channel, 1, "out of memory");
        return;
    }
    after_append(hub, channel);
}

static void on_dropped(void *arg, enum tl_source_kind kind, struct tl_bytes source)
{
    struct tl_hub *hub = arg;
    struct tl_channel *channel = find_source(hub, kind, source);
    if (channel && tl_channel_is_subscribed(&channel->life))
        tell_gap(hub, channel, 1, "message over max-message");
}

const struct tl_broker_events tl_hub_broker_events = {
    .on_link = on_link,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_message = on_message,
    .on_dropped = on_dropped,
};

/* --- time --- */

/* Look at a slice of the channels, so that a million of them do not stop the loop. */
static void on_sweep(struct tl_timer *timer)
{
    struct tl_hub *hub = TL_CONTAINER(timer, struct tl_hub, sweep_timer);
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    size_t budget = hub->channels.n / 16 + 1000;
    if (budget > hub->channels.n)
        budget = hub->channels.n;
    for (; budget > 0; budget--) {
        if (hub->sweep_at == &hub->order)
            hub->sweep_at = hub->order.next;
        struct tl_channel *channel = TL_CONTAINER(hub->sweep_at, struct tl_channel, order);
        hub->sweep_at = hub->sweep_at->next;
        uint64_t evicted = tl_log_evict(&channel->log, now_ms);
        if (evicted > 0) {
            tl_metric_add(TL_M_EVICTED, (int64_t)evicted);
            count_bytes(hub, channel);
            change_all(hub, channel);
        }
        act(hub, channel, tl_channel_tick(&channel->life, now_ms), TL_BROKER_OK);
    }
    update_ready(hub);
    tl_loop_timer_start(hub->loop, &hub->sweep_timer, SWEEP_MS);
}

/* --- making and ending it --- */

struct tl_hub *tl_hub_new(const struct tl_config *config, struct tl_loop *loop,
                          struct tl_broker *broker, struct tl_worker **workers, unsigned workers_n)
{
    assert(workers_n > 0 && workers_n <= TL_WORKERS_MAX);
    struct tl_hub *hub = tl_zalloc(sizeof *hub);
    if (!hub || tl_map_init(&hub->channels, node_key) < 0) {
        tl_free(hub);
        return NULL;
    }
    hub->config = config;
    hub->loop = loop;
    hub->broker = broker;
    hub->workers = workers;
    hub->workers_n = workers_n;
    hub->local_tail = &hub->local;
    tl_list_init(&hub->order);
    tl_list_init(&hub->dirty);
    hub->sweep_at = &hub->order;
    tl_task_init(&hub->local_task, on_local_mail);
    tl_task_init(&hub->flush_task, on_flush);
    tl_timer_init(&hub->sweep_timer, on_sweep);
    tl_timer_init(&hub->retry_timer, on_retry);
    broker->events = &tl_hub_broker_events;
    broker->hub = hub;
    hub->link_up = broker->ops->is_source;
    update_ready(hub);
    tl_loop_timer_start(loop, &hub->sweep_timer, SWEEP_MS);
    return hub;
}

void tl_hub_stop(struct tl_hub *hub)
{
    hub->stopped = true;
    hub->broker->ops->stop(hub->broker);
    tl_timer_stop(tl_loop_timers(hub->loop), &hub->sweep_timer);
    tl_timer_stop(tl_loop_timers(hub->loop), &hub->retry_timer);
}

const char *tl_hub_broker_name(const struct tl_hub *hub)
{
    return hub->broker->ops->name;
}

void tl_hub_free(struct tl_hub *hub)
{
    if (!hub)
        return;
    tl_task_cancel(&hub->flush_task);
    tl_task_cancel(&hub->local_task);
    struct tl_list *l;
    while ((l = hub->order.next) != &hub->order) {
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, order);
        tl_list_init(&channel->attachments);
        free_channel(hub, channel);
    }
    hub->broker->ops->free(hub->broker);
    tl_map_deinit(&hub->channels);
    tl_free(hub);
}
