#include "gateway/hub.h"

#include "base/alloc.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "feed/follow.h"
#include "gateway/hub_state.h"

#include <assert.h>

#define SWEEP_MS 250 /* lingers and ages are looked at this often */

static const char no_memory[] = "out of memory";

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
    return channel->pattern  ? TL_SOURCE_PATTERN
           : channel->stream ? TL_SOURCE_STREAM
                             : TL_SOURCE_CHANNEL;
}

static struct tl_bytes source_name(const struct tl_channel *channel)
{
    return channel->pattern ? channel->pattern->glob : channel_name(channel);
}

/* --- channels --- */

bool tl_hub_is_pattern(const struct tl_hub *hub, struct tl_bytes name)
{
    return tl_config_pattern(hub->config, name) != NULL;
}

struct tl_channel *tl_hub_find(const struct tl_hub *hub, struct tl_bytes name)
{
    struct tl_map_node *node = tl_map_find(&hub->channels, name);
    return node ? TL_CONTAINER(node, struct tl_channel, node) : NULL;
}

/* The channel that a source of the broker feeds, or NULL. */
static struct tl_channel *find_source(const struct tl_hub *hub, enum tl_source_kind kind,
                                      struct tl_bytes source)
{
    if (kind != TL_SOURCE_PATTERN) {
        struct tl_channel *channel = tl_hub_find(hub, source);
        return channel && source_kind(channel) == kind ? channel : NULL;
    }
    for (size_t i = 0; i < hub->config->patterns_n; i++)
        if (tl_bytes_eq(hub->config->patterns[i].glob, source))
            return tl_hub_find(hub, hub->config->patterns[i].name);
    return NULL;
}

static uint64_t linger_of(const struct tl_hub *hub, const struct tl_channel_rule *rule)
{
    if (rule->has_ttl)
        return rule->ttl_ms;
    /* Where the messages originate here, the log of an unwatched channel goes on being true, so it
     * is worth keeping for as long as history is. */
    const struct tl_config *config = hub->config;
    if (!hub->broker->ops->is_source || config->linger_ms > config->history_ttl_ms)
        return config->linger_ms;
    return config->history_ttl_ms;
}

/* Those on their way out do not count, but there is an end to that too. */
static bool is_full(const struct tl_hub *hub)
{
    size_t max = hub->config->channels_max;
    return hub->channels.n - hub->unsubscribing_n >= max || hub->channels.n >= 2 * max;
}

static void init_log(struct tl_hub *hub, struct tl_channel *channel)
{
    tl_log_init(&channel->log, &channel->rule->log, tl_hub_new_epoch(),
                channel->pattern && channel->pattern->name_line);
    tl_log_number(&channel->log, &hub->sequence, channel_name(channel));
    if (channel->stream)
        tl_log_follow(&channel->log, &channel->stream->follow);
}

/* Neighbours of the rule: those of the standard one stand behind the others. */
static struct tl_hub_rule *kin_of(const struct tl_hub *hub, const struct tl_channel_rule *rule)
{
    const struct tl_config *config = hub->config;
    bool standard = rule == &config->standard;
    return &hub->rules[standard ? config->rules_n : (size_t)(rule - config->rules)];
}

/* What its rule asks for. False: no memory. */
static bool make_parts(struct tl_channel *channel)
{
    bool is_stream = !channel->pattern && tl_config_is_stream(channel->rule);
    bool ages = channel->rule->stale_after_ms > 0;
    if (is_stream && (channel->stream = tl_zalloc(sizeof *channel->stream))) {
        channel->stream->rule = &channel->rule->stream;
        tl_list_init(&channel->stream->seekers);
        tl_list_init(&channel->stream->sought);
    }
    if (ages && (channel->age = tl_zalloc(sizeof *channel->age))) {
        channel->age->channel = channel;
        tl_list_init(&channel->age->node);
    }
    return is_stream == (channel->stream != NULL) && ages == (channel->age != NULL);
}

static void free_with_parts(struct tl_channel *channel)
{
    tl_free(channel->stream);
    tl_free(channel->age);
    tl_free(channel);
}

/* The channel, made if needed; NULL with no memory or too many channels. */
static struct tl_channel *open_channel(struct tl_hub *hub, struct tl_bytes name)
{
    struct tl_channel *channel = tl_hub_find(hub, name);
    if (channel)
        return channel;
    if (is_full(hub))
        tl_hub_expire_oldest(hub, NULL);
    if (is_full(hub))
        return NULL;
    channel = tl_zalloc(sizeof *channel + name.n);
    if (!channel)
        return NULL;
    channel->name_n = (uint8_t)name.n;
    memcpy(channel->name, name.p, name.n);
    channel->pattern = tl_config_pattern(hub->config, name);
    channel->rule = tl_config_rule(hub->config, name);
    channel->kin = kin_of(hub, channel->rule);
    if (!make_parts(channel)) {
        free_with_parts(channel);
        return NULL;
    }
    tl_channel_init(&channel->life, linger_of(hub, channel->rule), tl_hub_link_is_up(hub, channel));
    init_log(hub, channel);
    tl_list_init(&channel->dirty);
    tl_list_init(&channel->evictable);
    tl_list_init(&channel->lingering);
    tl_list_init(&channel->attachments);
    tl_list_append(&hub->order, &channel->order);
    tl_map_add(&hub->channels, &channel->node);
    tl_metric_add(TL_M_CHANNELS, 1);
    return channel;
}

static void free_channel(struct tl_hub *hub, struct tl_channel *channel)
{
    assert(tl_list_empty(&channel->attachments));
    tl_map_remove(&hub->channels, &channel->node);
    if (hub->sweep_at == &channel->order)
        hub->sweep_at = channel->order.next;
    tl_list_remove(&channel->order);
    tl_list_remove(&channel->dirty);
    tl_list_remove(&channel->evictable);
    tl_list_remove(&channel->lingering);
    if (channel->age)
        tl_list_remove(&channel->age->node);
    tl_hub_free_snapshot(hub, channel);
    hub->unsubscribing_n -= channel->unsubscribing;
    tl_log_deinit(&channel->log);
    tl_hub_count_bytes(hub, channel);
    tl_metric_add(TL_M_CHANNELS, -1);
    free_with_parts(channel);
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
    if (channel->stream) {
        tl_hub_tell_up(hub, channel);
    } else if (channel->gap_due) {
        tl_hub_append_state(hub, channel, true);
        tl_hub_tell_gap(hub, channel, 0, "broker link lost");
        channel->gap_due = false;
    }
    tl_hub_note_live(hub, channel);
    set_states(channel, TL_ATTACH_LOST, TL_ATTACH_LIVE, TL_BROKER_OK);
    set_states(channel, TL_ATTACH_WAITING, TL_ATTACH_LIVE, TL_BROKER_OK);
    tl_hub_change(hub, channel);
}

/* Keep the lists true after the channel's life moved. */
static void place(struct tl_hub *hub, struct tl_channel *channel)
{
    const struct tl_channel_life *life = &channel->life;
    bool unsubscribing = life->state == TL_CHANNEL_UNSUBSCRIBING;
    hub->unsubscribing_n += unsubscribing;
    hub->unsubscribing_n -= channel->unsubscribing;
    channel->unsubscribing = unsubscribing;
    if (life->state != TL_CHANNEL_LINGERING) {
        tl_list_remove(&channel->lingering);
        return;
    }
    channel->gap_due = false; /* who was to be told has left; whoever comes next misses nothing */
    if (!tl_list_empty(&channel->lingering) && channel->lingering_until_ms == life->linger_until_ms)
        return;
    channel->lingering_until_ms = life->linger_until_ms;
    tl_list_remove(&channel->lingering);
    tl_list_append(&channel->kin->lingering, &channel->lingering);
}

static int subscribe(struct tl_hub *hub, struct tl_channel *channel)
{
    if (channel->stream)
        return tl_hub_follow(hub, channel);
    return hub->broker->ops->subscribe(hub->broker, source_kind(channel), source_name(channel));
}

/* Carry out what the channel's life asks for. The channel may be gone afterwards. */
static void act(struct tl_hub *hub, struct tl_channel *channel, unsigned actions,
                enum tl_broker_status refusal)
{
    const struct tl_broker_ops *ops = hub->broker->ops;
    place(hub, channel);
    if (actions & TL_CHANNEL_LOST) {
        tl_hub_append_state(hub, channel, false);
        set_states(channel, TL_ATTACH_LIVE, TL_ATTACH_LOST, TL_BROKER_OK);
        channel->gap_due = true;
        tl_hub_change(hub, channel);
    }
    if (actions & TL_CHANNEL_RENEW && !channel->stream) /* which proves what it can */
        tl_log_new_epoch(&channel->log, tl_hub_new_epoch());
    if (actions & TL_CHANNEL_SUBSCRIBE && subscribe(hub, channel) < 0) {
        actions |= tl_channel_subscribed(&channel->life, false, tl_loop_now_ms(hub->loop));
        refusal = TL_BROKER_FULL;
    }
    if (actions & TL_CHANNEL_UNSUBSCRIBE &&
        ops->unsubscribe(hub->broker, source_kind(channel), source_name(channel)) < 0)
        actions |= tl_channel_unsubscribed(&channel->life);
    if (actions & TL_CHANNEL_ACK) {
        acknowledge(hub, channel);
        tl_hub_seek(hub, channel);
    }
    if (actions & TL_CHANNEL_REFUSE) {
        set_states(channel, TL_ATTACH_WAITING, TL_ATTACH_REFUSED, refusal);
        set_states(channel, TL_ATTACH_LOST, TL_ATTACH_REFUSED, refusal);
        set_states(channel, TL_ATTACH_LIVE, TL_ATTACH_REFUSED, refusal);
        tl_hub_change(hub, channel);
    }
    if (actions & TL_CHANNEL_FREE)
        free_channel(hub, channel);
    else if (actions & (TL_CHANNEL_SUBSCRIBE | TL_CHANNEL_UNSUBSCRIBE))
        place(hub, channel); /* the broker may have refused at once */
}

/* When it was left. */
static uint64_t left_ms(const struct tl_channel *channel)
{
    return channel->lingering_until_ms - channel->life.linger_ms;
}

/* The channel that is unwatched for the longest time, or NULL. */
static struct tl_channel *find_oldest(const struct tl_hub *hub)
{
    struct tl_channel *oldest = NULL;
    for (size_t i = 0; i <= hub->config->rules_n; i++) {
        const struct tl_list *list = &hub->rules[i].lingering;
        if (tl_list_empty(list))
            continue;
        struct tl_channel *channel = TL_CONTAINER(list->next, struct tl_channel, lingering);
        if (!oldest || left_ms(channel) < left_ms(oldest))
            oldest = channel;
    }
    return oldest;
}

bool tl_hub_expire_oldest(struct tl_hub *hub, const struct tl_channel *keep)
{
    struct tl_channel *channel = find_oldest(hub);
    if (!channel || channel == keep)
        return false;
    /* Its log goes now, its upstream subscription as soon as the broker says so. */
    tl_metric_add(TL_M_EVICTED, (int64_t)(channel->log.head.msg - channel->log.tail.msg));
    tl_log_deinit(&channel->log);
    init_log(hub, channel);
    tl_hub_drop_snapshot(hub, channel);
    tl_hub_count_bytes(hub, channel);
    tl_list_remove(&channel->evictable);
    channel->life.linger_until_ms = 0;
    act(hub, channel, tl_channel_tick(&channel->life, tl_loop_now_ms(hub->loop)), TL_BROKER_OK);
    return true;
}

/* --- mail from the workers --- */

/* Without a channel there is no dirty list to stand on: answered at once, and through the view's
 * own mail, which needs no memory. */
static void refuse_view(struct tl_channel_view *view)
{
    view->join_mail.deliver = tl_worker_on_refused;
    tl_mailbox_post(tl_loop_mailbox(view->worker->loop), &view->join_mail);
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
    tl_hub_count_bytes(hub, channel);
    attachment->channel = channel;
    channel->lane_views[view->lane]++;
    tl_list_append(&channel->attachments, &attachment->node);
    unsigned actions = tl_channel_join(&channel->life);
    if (!tl_hub_link_is_up(hub, channel))
        tl_hub_change(hub, channel); /* the view is told to wait */
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
    if (view->seek)
        tl_list_remove(&view->seek->node);
    if (view->snapshot)
        tl_list_remove(&view->snapshot->node);
    if (--channel->lane_views[view->lane] == 0) {
        channel->lane_idle_ms[view->lane] = tl_loop_now_ms(hub->loop);
        channel->gap_untold = channel->gap_untold && tl_hub_has_sse(channel);
    }
    answer_left(view);
    act(hub, channel, tl_channel_leave(&channel->life, tl_loop_now_ms(hub->loop)), TL_BROKER_OK);
}

static void on_published(struct tl_publish *publish)
{
    struct tl_publish_request *request = TL_CONTAINER(publish, struct tl_publish_request, publish);
    struct tl_hub *hub = request->worker->hub;
    tl_metric_add(publish->status == TL_BROKER_OK ? TL_M_PUBLISHED : TL_M_PUBLISH_FAILED, 1);
    struct tl_channel *channel = tl_hub_find(hub, publish->name);
    if (publish->status == TL_BROKER_OK && hub->broker->ops->is_source && channel) {
        publish->receivers = 0;
        struct tl_list *list = &channel->attachments;
        for (struct tl_list *a = list->next; a != list; a = a->next)
            publish->receivers += atomic_load_explicit(
                &tl_hub_view_of(TL_CONTAINER(a, struct tl_attachment, node))->subscribers_n,
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
    const struct tl_channel_rule *rule = tl_config_rule(hub->config, request->publish.name);
    request->publish.stream = tl_config_is_stream(rule) ? &rule->stream : NULL;
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

bool tl_hub_has_link(const struct tl_hub *hub, bool is_stream)
{
    return is_stream ? hub->streams_up : hub->link_up;
}

struct tl_sequence tl_hub_sequence(const struct tl_hub *hub)
{
    return (struct tl_sequence){hub->sequence.epoch,
                                atomic_load_explicit(&hub->told_seq, memory_order_acquire)};
}

static void on_readiness(void *arg)
{
    update_ready(arg);
}

static void on_link(void *arg, enum tl_source_kind kind, bool up, const char *reason)
{
    struct tl_hub *hub = arg;
    bool streams = kind == TL_SOURCE_STREAM;
    (void)reason;
    *(streams ? &hub->streams_up : &hub->link_up) = up;
    update_ready(hub);
    struct tl_list *next;
    for (struct tl_list *l = hub->order.next; l != &hub->order; l = next) {
        next = l->next;
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, order);
        if ((channel->stream != NULL) != streams)
            continue;
        tl_hub_forget_seek(channel);
        if (!up)
            tl_hub_change(hub, channel); /* who waits is told as well */
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
    if (status == TL_BROKER_OK && channel->life.state == TL_CHANNEL_SUBSCRIBING &&
        !channel->stream) {
        tl_log_begin(&channel->log);
        tl_hub_change(hub, channel);
    }
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

static bool on_message(void *arg, enum tl_source_kind kind, struct tl_bytes source,
                       struct tl_bytes name, struct tl_bytes payload)
{
    struct tl_hub *hub = arg;
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    bool is_source = hub->broker->ops->is_source;
    tl_metric_add(TL_M_MESSAGES_IN, 1);
    tl_metric_add(TL_M_MESSAGE_BYTES_IN, (int64_t)payload.n);
    bool is_published = is_source && kind == TL_SOURCE_CHANNEL;
    struct tl_channel *channel =
        is_published ? open_channel(hub, source) : find_source(hub, kind, source);
    if (!channel)
        return !is_published; /* from elsewhere: nobody waits for it */
    if (is_published && channel->pattern)
        return true; /* only what it gathers goes there */
    if (is_source) {
        tl_channel_touch(&channel->life, now_ms);
        place(hub, channel);
    }
    if (!tl_channel_is_subscribed(&channel->life))
        return true;
    struct tl_message message = {.payload = payload};
    if (kind == TL_SOURCE_PATTERN)
        message.name = name;
    if (tl_hub_append(hub, channel, &message))
        return true;
    /* What was never published is nobody's gap. */
    if (!is_source || kind == TL_SOURCE_PATTERN)
        tl_hub_tell_gap(hub, channel, 1, no_memory);
    return false;
}

static void on_dropped(void *arg, enum tl_source_kind kind, struct tl_bytes source)
{
    struct tl_hub *hub = arg;
    struct tl_channel *channel = find_source(hub, kind, source);
    if (channel && tl_channel_is_subscribed(&channel->life))
        tl_hub_tell_gap(hub, channel, 1, "message over max-message");
}

static void on_gap(void *arg, const char *reason)
{
    struct tl_hub *hub = arg;
    for (struct tl_list *l = hub->order.next; l != &hub->order; l = l->next) {
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, order);
        if (!channel->stream && tl_channel_is_subscribed(&channel->life))
            tl_hub_tell_gap(hub, channel, 0, reason);
    }
}

const struct tl_broker_events tl_hub_broker_events = {
    .on_link = on_link,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_message = on_message,
    .on_dropped = on_dropped,
    .on_readiness = on_readiness,
    .on_gap = on_gap,
    .on_place = tl_hub_on_place,
    .on_entry = tl_hub_on_entry,
    .on_sought = tl_hub_on_sought,
};

/* --- time --- */

/* A lane that nobody reads is kept for the linger: making it anew costs a pass over the log. */
static void close_idle_lanes(struct tl_hub *hub, struct tl_channel *channel, uint64_t now_ms)
{
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        if (!channel->log.lanes[kind] || channel->lane_views[kind] > 0 ||
            now_ms < channel->lane_idle_ms[kind] + hub->config->linger_ms)
            continue;
        tl_log_lane_close(&channel->log, (enum tl_lane_kind)kind);
        tl_hub_count_bytes(hub, channel);
    }
}

static void end_lingers(struct tl_hub *hub, struct tl_list *lingering, uint64_t now_ms)
{
    struct tl_list *l;
    while ((l = lingering->next) != lingering) {
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, lingering);
        unsigned actions = tl_channel_tick(&channel->life, now_ms);
        if (actions == 0)
            return;
        act(hub, channel, actions, TL_BROKER_OK);
    }
}

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
        tl_hub_evict(hub, channel);
        close_idle_lanes(hub, channel, now_ms);
        (void)tl_hub_retell_gap(hub, channel);
    }
    for (size_t i = 0; i <= hub->config->rules_n; i++)
        end_lingers(hub, &hub->rules[i].lingering, now_ms);
    tl_hub_tick_snapshots(hub, now_ms);
    update_ready(hub);
    tl_loop_timer_start(hub->loop, &hub->sweep_timer, SWEEP_MS);
}

/* --- making and ending it --- */

static bool init_rules(struct tl_hub *hub)
{
    hub->rules = tl_alloc((hub->config->rules_n + 1) * sizeof *hub->rules);
    for (size_t i = 0; hub->rules && i <= hub->config->rules_n; i++) {
        tl_list_init(&hub->rules[i].lingering);
        tl_list_init(&hub->rules[i].ageing);
    }
    return hub->rules != NULL;
}

struct tl_hub *tl_hub_new(const struct tl_config *config, struct tl_loop *loop,
                          struct tl_broker *broker, struct tl_worker **workers, unsigned workers_n)
{
    assert(workers_n > 0 && workers_n <= TL_WORKERS_MAX);
    struct tl_hub *hub = tl_zalloc(sizeof *hub);
    if (!hub)
        return NULL;
    hub->config = config;
    if (!init_rules(hub) || tl_map_init(&hub->channels, node_key) < 0) {
        tl_free(hub->rules);
        tl_free(hub);
        return NULL;
    }
    hub->loop = loop;
    hub->broker = broker;
    hub->workers = workers;
    hub->workers_n = workers_n;
    hub->local_tail = &hub->local;
    hub->sequence.epoch = tl_hub_new_epoch();
    tl_list_init(&hub->order);
    tl_list_init(&hub->evictable);
    tl_list_init(&hub->reading);
    hub->sweep_at = &hub->order;
    tl_task_init(&hub->local_task, on_local_mail);
    tl_hub_flush_init(hub);
    tl_timer_init(&hub->sweep_timer, on_sweep);
    broker->events = &tl_hub_broker_events;
    broker->hub = hub;
    hub->link_up = broker->ops->is_source;
    update_ready(hub);
    tl_loop_timer_start(loop, &hub->sweep_timer, SWEEP_MS);
    return hub;
}

void tl_hub_stop(struct tl_hub *hub)
{
    if (hub->stopped)
        return;
    hub->stopped = true;
    hub->broker->ops->stop(hub->broker);
    tl_timer_stop(tl_loop_timers(hub->loop), &hub->sweep_timer);
    tl_hub_flush_stop(hub);
}

const char *tl_hub_broker_name(const struct tl_hub *hub)
{
    return hub->broker->ops->name;
}

void tl_hub_free(struct tl_hub *hub)
{
    if (!hub)
        return;
    tl_task_cancel(&hub->local_task);
    struct tl_list *l;
    while ((l = hub->order.next) != &hub->order) {
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, order);
        tl_list_init(&channel->attachments);
        free_channel(hub, channel);
    }
    hub->broker->ops->free(hub->broker);
    tl_map_deinit(&hub->channels);
    tl_free(hub->rules);
    tl_free(hub);
}
