/* Logs of the hub: appending, their limits, and gaps. */
#include "base/metrics.h"
#include "base/random.h"
#include "gateway/hub_state.h"

#include <stdio.h>

uint64_t tl_hub_new_epoch(void)
{
    uint64_t epoch;
    do {
        epoch = tl_random_u64();
    } while (epoch == 0);
    return epoch;
}

void tl_hub_count_bytes(struct tl_hub *hub, struct tl_channel *channel)
{
    uint64_t bytes = channel->log.bytes + tl_hub_snapshot_bytes(channel);
    int64_t grown = (int64_t)(bytes - channel->kept_bytes);
    channel->kept_bytes = bytes;
    hub->logs_bytes = (uint64_t)((int64_t)hub->logs_bytes + grown);
    tl_metric_add(TL_M_LOG_BYTES, grown);
}

/* Channels that could give up entries take turns. */
static void queue_for_cap(struct tl_hub *hub, struct tl_channel *channel)
{
    bool evictable = tl_log_is_evictable(&channel->log);
    if (evictable && tl_list_empty(&channel->evictable))
        tl_list_append(&hub->evictable, &channel->evictable);
    else if (!evictable)
        tl_list_remove(&channel->evictable);
}

/*
 * Free memory until all logs fit their cap: first older halves, in turn, then whole channels that
 * nobody watches. What is left is the newest message of each channel that somebody does watch.
 */
static void apply_cap(struct tl_hub *hub, const struct tl_channel *appended)
{
    struct tl_list *l;
    while (hub->logs_bytes > hub->config->logs_bytes_max && (l = tl_list_pop(&hub->evictable))) {
        struct tl_channel *channel = TL_CONTAINER(l, struct tl_channel, evictable);
        if (channel->unflushed_msgs > 0)
            tl_hub_flush(hub); /* workers must hear of messages before they go */
        tl_metric_add(TL_M_EVICTED, (int64_t)tl_log_evict_half(&channel->log));
        tl_hub_count_bytes(hub, channel);
        tl_hub_change(hub, channel);
        queue_for_cap(hub, channel);
    }
    while (hub->logs_bytes > hub->config->logs_bytes_max && tl_hub_expire_oldest(hub, appended))
        ;
}

void tl_hub_evict(struct tl_hub *hub, struct tl_channel *channel)
{
    uint64_t tail_idx = channel->log.tail.idx;
    tl_metric_add(TL_M_EVICTED, (int64_t)tl_log_evict(&channel->log, tl_loop_now_ms(hub->loop)));
    if (channel->log.tail.idx == tail_idx)
        return;
    tl_hub_count_bytes(hub, channel);
    tl_hub_change(hub, channel);
    queue_for_cap(hub, channel);
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
    tl_hub_count_bytes(hub, channel);
    tl_hub_change(hub, channel);
    if (must_flush(channel))
        tl_hub_flush(hub);
    tl_hub_evict(hub, channel);
    queue_for_cap(hub, channel);
    apply_cap(hub, channel);
}

static bool append_control(struct tl_hub *hub, struct tl_channel *channel,
                           const struct tl_control *control)
{
    if (!tl_hub_has_sse(channel) ||
        tl_log_append_control(&channel->log, control, tl_loop_now_ms(hub->loop)) == 0)
        return true;
    tl_metric_add(TL_M_REFUSED_MEMORY, 1);
    return false;
}

bool tl_hub_append_state(struct tl_hub *hub, struct tl_channel *channel, bool is_up)
{
    const struct tl_control up = {
        .sse_event = TL_LIT("event: broker\ndata: {\"state\":\"up\"}\n\n"),
        .tells = TL_ENTRY_UP,
    };
    const struct tl_control down = {
        .sse_event = TL_LIT("event: broker\ndata: {\"state\":\"down\"}\n\n"),
        .tells = TL_ENTRY_DOWN,
    };
    return append_control(hub, channel, is_up ? &up : &down);
}

/* The gap as an event, and a new epoch, so that whoever misses the event is told on its return. */
static bool append_gap(struct tl_hub *hub, struct tl_channel *channel, uint64_t msgs,
                       const char *reason)
{
    char event[256], token[TL_POSITION_TEXT_MAX], missed[24] = "null";
    tl_log_new_epoch(&channel->log, tl_hub_new_epoch());
    struct tl_position position = tl_log_position(&channel->log);
    if (tl_hub_has_sse(channel) && !position.of_stream)
        position.idx++; /* the event itself is an entry */
    if (msgs > 0)
        snprintf(missed, sizeof missed, "%llu", (unsigned long long)msgs);
    int n = snprintf(event, sizeof event, "event: gap\ndata: {\"missed\":%s,\"reason\":\"%s\"}\n\n",
                     missed, reason);
    struct tl_control gap = {.sse_event = tl_bytes(event, (size_t)n),
                             .position = tl_bytes(token, tl_position_print(position, token)),
                             .tells = TL_ENTRY_GAP};
    channel->gap_untold = !append_control(hub, channel, &gap);
    return !channel->gap_untold;
}

bool tl_hub_retell_gap(struct tl_hub *hub, struct tl_channel *channel)
{
    if (!channel->gap_untold)
        return true;
    if (!append_gap(hub, channel, 0, "out of memory"))
        return false;
    after_append(hub, channel);
    return true;
}

static void note_gap(struct tl_attachment *attachment, uint64_t msgs)
{
    const struct tl_log *log = &attachment->channel->log;
    struct tl_gaps *gaps = &attachment->gaps;
    gaps->n++;
    gaps->msgs += msgs;
    gaps->is_partly_unknown = gaps->is_partly_unknown || msgs == 0;
    gaps->behind = tl_log_position(log);
    gaps->behind_msg = log->head.msg;
}

void tl_hub_tell_gap(struct tl_hub *hub, struct tl_channel *channel, uint64_t msgs,
                     const char *reason)
{
    /* What came before it is told first: a session that a gap closes still gets that. */
    if (channel->unflushed_msgs > 0)
        tl_hub_flush(hub);
    /* One that could not be told before makes the count unknown. */
    append_gap(hub, channel, channel->gap_untold ? 0 : msgs, reason);
    struct tl_list *list = &channel->attachments;
    for (struct tl_list *a = list->next; a != list; a = a->next) {
        struct tl_attachment *attachment = TL_CONTAINER(a, struct tl_attachment, node);
        if (tl_hub_is_told(attachment))
            note_gap(attachment, msgs);
    }
    after_append(hub, channel);
}

bool tl_hub_append(struct tl_hub *hub, struct tl_channel *channel, const struct tl_message *message)
{
    /* Nothing goes before a gap that was not told. */
    if (!tl_hub_retell_gap(hub, channel))
        return false;
    if (tl_log_append(&channel->log, message, tl_loop_now_ms(hub->loop)) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return false;
    }
    tl_hub_note_message(hub, channel);
    after_append(hub, channel);
    tl_hub_supersede_snapshot(hub, channel);
    return true;
}
