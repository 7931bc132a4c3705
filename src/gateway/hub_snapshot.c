/*
 * What the hub knows of a channel beside its log: the value of the key with its last message, read
 * when the first newcomer asks and kept until a message comes or continuity breaks; and whether the
 * channel has been silent for too long.
 */
#include "base/alloc.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "base/utf8.h"
#include "gateway/hub_state.h"

#include <assert.h>

#define WAIT_MS          1000  /* newcomers wait so long for a value */
#define AGAIN_MS         1000  /* and may ask again so long after there was no answer, */
#define AGAIN_REFUSED_MS 10000 /* or after Redis refused it */
#define SAY_MS           30000

/* A GET on its way. It outlives the channel. */
struct read {
    struct tl_fetch fetch;
    struct tl_hub *hub;
    uint64_t epoch; /* of the log when it was asked */
    bool found;
    struct tl_buf key;
    uint8_t name_n;
    uint8_t name[255];
};

struct tl_hub_snapshot {
    struct tl_list reading; /* of the hub, while views wait */
    struct tl_channel *channel;
    struct tl_list askers; /* struct tl_view_snapshot */
    struct read *read;     /* NULL: none is on its way. While it is, lanes may have its value */
    uint64_t asked_ms;
    uint64_t again_ms, again_epoch;  /* in that epoch it is not read before then */
    uint64_t epoch;                  /* of the log that the value belongs to; 0: none was read */
    struct tl_lane lanes[TL_LANE_N]; /* the value as their one entry, where they are on */
};

/* ---- silence ---- */

static void refresh(struct tl_hub *hub, struct tl_channel *channel)
{
    struct tl_hub_age *age = channel->age;
    if (!age)
        return;
    channel->stale = false;
    age->fresh_ms = tl_loop_now_ms(hub->loop);
    age->fresh_epoch = channel->log.epoch;
    tl_list_remove(&age->node);
    tl_list_append(&channel->kin->ageing, &age->node);
}

void tl_hub_note_live(struct tl_hub *hub, struct tl_channel *channel)
{
    if (channel->age && channel->age->fresh_epoch != channel->log.epoch)
        refresh(hub, channel);
}

static void expire(struct tl_hub *hub, struct tl_list *ageing, uint64_t now_ms)
{
    while (!tl_list_empty(ageing)) {
        struct tl_hub_age *age = TL_CONTAINER(ageing->next, struct tl_hub_age, node);
        struct tl_channel *channel = age->channel;
        if (now_ms < age->fresh_ms + channel->rule->stale_after_ms)
            return;
        tl_list_remove(&age->node);
        channel->stale = true;
        tl_metric_add(TL_M_CHANNELS_EXPIRED, 1);
        tl_hub_change(hub, channel);
    }
}

/* ---- answering ---- */

static bool has_message(const struct tl_log *log)
{
    uint64_t idx = log->tail.idx > log->epoch_idx ? log->tail.idx : log->epoch_idx;
    return tl_chain_mark(&log->ws.chain, idx, log->head).msg < log->head.msg;
}

static void answer(struct tl_view_snapshot *asker, uint64_t epoch, uint64_t again_ms,
                   struct tl_segment *seg)
{
    tl_list_remove(&asker->node);
    asker->epoch = epoch;
    asker->again_ms = again_ms;
    asker->seg = seg;
    asker->mail.deliver = tl_snapshot_on_answer;
    tl_mailbox_post(tl_loop_mailbox(asker->view->worker->loop), &asker->mail);
}

static struct tl_view_snapshot *first_asker(const struct tl_hub_snapshot *snapshot)
{
    return tl_list_empty(&snapshot->askers)
               ? NULL
               : TL_CONTAINER(snapshot->askers.next, struct tl_view_snapshot, node);
}

/* There is no value now, nor before so long. */
static void answer_none(struct tl_hub *hub, struct tl_channel *channel, uint64_t wait_ms)
{
    struct tl_hub_snapshot *snapshot = channel->snapshot;
    struct tl_view_snapshot *asker;
    snapshot->again_ms = tl_loop_now_ms(hub->loop) + wait_ms;
    snapshot->again_epoch = channel->log.epoch;
    tl_list_remove(&snapshot->reading);
    while ((asker = first_asker(snapshot)) != NULL)
        answer(asker, 0, snapshot->again_ms, NULL);
}

/* The value in that lane: what the WebSocket lane has is encoded anew. NULL without memory. */
static struct tl_segment *encode(struct tl_hub_snapshot *snapshot, enum tl_lane_kind kind,
                                 uint64_t now_ms)
{
    struct tl_lane *lane = &snapshot->lanes[kind];
    struct tl_lane_item item;
    if (!lane->on) {
        tl_lane_ws_decode(tl_chain_at(&snapshot->lanes[TL_LANE_WS].chain, 0), 0, false, &item);
        tl_lane_init(lane, kind);
        if (tl_lane_reserve(lane, &item, (struct tl_mark){0}, now_ms) < 0) {
            tl_lane_deinit(lane);
            return NULL;
        }
        tl_lane_append(lane, &item, now_ms);
        lane->on = true;
    }
    return tl_segment_ref(tl_chain_at(&lane->chain, 0));
}

static void answer_value(struct tl_hub *hub, struct tl_channel *channel,
                         struct tl_view_snapshot *asker)
{
    struct tl_hub_snapshot *snapshot = channel->snapshot;
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    struct tl_segment *seg = NULL;
    if (snapshot->lanes[TL_LANE_WS].on && !has_message(&channel->log)) {
        seg = encode(snapshot, asker->view->lane, now_ms);
        if (!seg) {
            tl_metric_add(TL_M_REFUSED_MEMORY, 1);
            answer(asker, 0, now_ms + AGAIN_MS, NULL);
            return;
        }
        tl_hub_count_bytes(hub, channel);
    }
    answer(asker, channel->log.epoch, 0, seg);
}

static void answer_all(struct tl_hub *hub, struct tl_channel *channel)
{
    struct tl_view_snapshot *asker;
    tl_list_remove(&channel->snapshot->reading);
    if (!first_asker(channel->snapshot))
        return;
    tl_hub_flush(hub); /* before the answer, which is about all that came until now */
    while ((asker = first_asker(channel->snapshot)) != NULL)
        answer_value(hub, channel, asker);
}

/* ---- reading ---- */

/* Keep the value, if there is room for it. */
static void keep(struct tl_hub *hub, struct tl_channel *channel, struct tl_bytes value)
{
    struct tl_lane *lane = &channel->snapshot->lanes[TL_LANE_WS];
    struct tl_lane_item item = {.payload = value,
                                .flags = tl_utf8_valid(value) ? 0 : TL_ENTRY_BINARY};
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    tl_lane_init(lane, TL_LANE_WS);
    if (hub->logs_bytes + value.n > hub->config->logs_bytes_max ||
        tl_lane_reserve(lane, &item, (struct tl_mark){0}, now_ms) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_lane_deinit(lane);
        return;
    }
    tl_lane_append(lane, &item, now_ms);
    lane->on = true;
    tl_hub_count_bytes(hub, channel);
}

static bool start_read(struct tl_hub *hub, struct tl_channel *channel);

/* The answer to the channel's own read. */
static void take(struct tl_hub *hub, struct tl_channel *channel, const struct read *read)
{
    struct tl_hub_snapshot *snapshot = channel->snapshot;
    const struct tl_fetch *fetch = &read->fetch;
    bool is_refused = fetch->status == TL_BROKER_DENIED || fetch->status == TL_BROKER_FAILED;
    if (fetch->status != TL_BROKER_OK) {
        tl_metric_add(TL_M_SNAPSHOT_FAILURES, 1);
        answer_none(hub, channel, is_refused ? AGAIN_REFUSED_MS : AGAIN_MS);
        return;
    }
    if (has_message(&channel->log)) { /* and who asked was told so */
        tl_metric_add(TL_M_SNAPSHOTS_DROPPED, 1);
        answer_all(hub, channel);
        return;
    }
    if (read->epoch != channel->log.epoch) { /* read before the subscription that there is now */
        tl_metric_add(TL_M_SNAPSHOTS_DROPPED, 1);
        tl_hub_drop_snapshot(hub, channel);
        if (!first_asker(snapshot) || !tl_channel_is_subscribed(&channel->life) ||
            !start_read(hub, channel))
            answer_none(hub, channel, AGAIN_MS);
        return;
    }
    if (read->found && !snapshot->lanes[TL_LANE_WS].on) { /* there was no room for it */
        tl_metric_add(TL_M_SNAPSHOT_FAILURES, 1);
        answer_none(hub, channel, AGAIN_MS);
        return;
    }
    snapshot->epoch = read->epoch;
    answer_all(hub, channel);
}

/* NULL if it is gone. */
static struct tl_channel *channel_of(const struct read *read)
{
    struct tl_channel *channel = tl_hub_find(read->hub, tl_bytes(read->name, read->name_n));
    return channel && channel->snapshot && channel->snapshot->read == read ? channel : NULL;
}

static void on_value(struct tl_fetch *fetch, struct tl_bytes value)
{
    struct read *read = TL_CONTAINER(fetch, struct read, fetch);
    struct tl_channel *channel = channel_of(read);
    read->found = true;
    if (channel && read->epoch == channel->log.epoch && !has_message(&channel->log))
        keep(read->hub, channel, value);
}

static void on_fetched(struct tl_fetch *fetch)
{
    struct read *read = TL_CONTAINER(fetch, struct read, fetch);
    struct tl_hub *hub = read->hub;
    struct tl_channel *channel = channel_of(read);
    if (channel) {
        channel->snapshot->read = NULL;
        take(hub, channel, read);
    } else {
        tl_metric_add(TL_M_SNAPSHOTS_DROPPED, 1); /* its channel is gone */
    }
    tl_buf_deinit(&read->key);
    tl_free(read);
}

static bool start_read(struct tl_hub *hub, struct tl_channel *channel)
{
    struct read *read = tl_zalloc(sizeof *read);
    struct tl_bytes name = tl_bytes(channel->name, channel->name_n);
    bool ok = read && tl_key_template_expand(channel->rule->names, name, &read->key);
    if (!ok || read->key.failed) {
        if (read)
            tl_buf_deinit(&read->key);
        tl_free(read);
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return false;
    }
    read->fetch.key = tl_buf_bytes(&read->key);
    read->fetch.on_value = on_value;
    read->fetch.on_fetched = on_fetched;
    read->hub = hub;
    read->epoch = channel->log.epoch;
    read->name_n = (uint8_t)name.n;
    memcpy(read->name, name.p, name.n);
    channel->snapshot->read = read;
    tl_metric_add(TL_M_SNAPSHOT_READS, 1);
    hub->broker->ops->fetch(hub->broker, &read->fetch);
    return true;
}

static struct tl_hub_snapshot *open_snapshot(struct tl_channel *channel)
{
    if (channel->snapshot)
        return channel->snapshot;
    struct tl_hub_snapshot *snapshot = tl_zalloc(sizeof *snapshot);
    if (!snapshot) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return NULL;
    }
    snapshot->channel = channel;
    tl_list_init(&snapshot->reading);
    tl_list_init(&snapshot->askers);
    for (int kind = 0; kind < TL_LANE_N; kind++)
        tl_lane_init(&snapshot->lanes[kind], (enum tl_lane_kind)kind);
    channel->snapshot = snapshot;
    return snapshot;
}

/* Wait for the read that is on its way, or for a new one. */
static void await(struct tl_hub *hub, struct tl_channel *channel, struct tl_view_snapshot *asker)
{
    struct tl_hub_snapshot *snapshot = channel->snapshot;
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    tl_list_append(&snapshot->askers, &asker->node);
    if (now_ms < snapshot->again_ms && snapshot->again_epoch == channel->log.epoch) {
        answer_none(hub, channel, snapshot->again_ms - now_ms);
        return;
    }
    bool is_late = snapshot->read && now_ms >= snapshot->asked_ms + WAIT_MS;
    if (!snapshot->read)
        snapshot->asked_ms = now_ms;
    if (is_late || (!snapshot->read && !start_read(hub, channel)))
        answer_none(hub, channel, AGAIN_MS);
    else if (tl_list_empty(&snapshot->reading))
        tl_list_append(&hub->reading, &snapshot->reading);
}

void tl_hub_on_snapshot(struct tl_mail *mail)
{
    struct tl_view_snapshot *asker = TL_CONTAINER(mail, struct tl_view_snapshot, mail);
    struct tl_hub *hub = asker->view->worker->hub;
    struct tl_channel *channel = asker->view->attachment.channel;
    if (hub->stopped || !channel || !tl_channel_is_subscribed(&channel->life) ||
        !open_snapshot(channel)) {
        answer(asker, 0, tl_loop_now_ms(hub->loop) + AGAIN_MS, NULL);
        return;
    }
    if (channel->snapshot->epoch != 0 && channel->snapshot->epoch != channel->log.epoch)
        tl_hub_drop_snapshot(hub, channel);
    if (channel->snapshot->epoch == 0 && !has_message(&channel->log)) {
        await(hub, channel, asker);
        return;
    }
    tl_list_append(&channel->snapshot->askers, &asker->node);
    answer_all(hub, channel);
}

/* ---- what happens to the channel ---- */

void tl_hub_note_message(struct tl_hub *hub, struct tl_channel *channel)
{
    refresh(hub, channel);
    if (channel->snapshot && channel->snapshot->lanes[TL_LANE_WS].on)
        tl_hub_drop_snapshot(hub, channel);
}

void tl_hub_supersede_snapshot(struct tl_hub *hub, struct tl_channel *channel)
{
    if (channel->snapshot)
        answer_all(hub, channel);
}

static void give_up_waiting(struct tl_hub *hub, uint64_t now_ms)
{
    while (!tl_list_empty(&hub->reading)) {
        struct tl_hub_snapshot *snapshot =
            TL_CONTAINER(hub->reading.next, struct tl_hub_snapshot, reading);
        char text[128];
        if (now_ms < snapshot->asked_ms + WAIT_MS)
            return;
        tl_metric_add(TL_M_SNAPSHOT_FAILURES, 1);
        if (hub->read_said_ms == 0 || now_ms - hub->read_said_ms >= SAY_MS) {
            tl_logger(TL_WARN, "no answer for a snapshot in time: GET %s",
                      tl_logger_text(snapshot->read->fetch.key, text, sizeof text));
            hub->read_said_ms = now_ms;
        }
        answer_none(hub, snapshot->channel, AGAIN_MS);
    }
}

void tl_hub_tick_snapshots(struct tl_hub *hub, uint64_t now_ms)
{
    for (size_t i = 0; i <= hub->config->rules_n; i++)
        expire(hub, &hub->rules[i].ageing, now_ms);
    give_up_waiting(hub, now_ms);
}

uint64_t tl_hub_snapshot_bytes(const struct tl_channel *channel)
{
    uint64_t n = 0;
    for (int kind = 0; channel->snapshot && kind < TL_LANE_N; kind++)
        if (channel->snapshot->lanes[kind].on)
            n += channel->snapshot->lanes[kind].head_off;
    return n;
}

void tl_hub_drop_snapshot(struct tl_hub *hub, struct tl_channel *channel)
{
    if (!channel->snapshot)
        return;
    channel->snapshot->epoch = 0;
    for (int kind = 0; kind < TL_LANE_N; kind++)
        tl_lane_deinit(&channel->snapshot->lanes[kind]);
    tl_hub_count_bytes(hub, channel);
}

void tl_hub_free_snapshot(struct tl_hub *hub, struct tl_channel *channel)
{
    if (!channel->snapshot)
        return;
    tl_hub_drop_snapshot(hub, channel);
    tl_list_remove(&channel->snapshot->reading);
    tl_free(channel->snapshot);
    channel->snapshot = NULL;
}
