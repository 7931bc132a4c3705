/* Channels that follow streams: continuity as the broker proves it, and older messages for those
 * who come back. */
#include "base/metrics.h"
#include "feed/follow.h"
#include "gateway/hub_state.h"

#define HOLD_MS 10000 /* older messages are kept so long for whoever asked, and for the next */

static const char no_memory[] = "out of memory";

int tl_hub_follow(struct tl_hub *hub, struct tl_channel *channel)
{
    const struct tl_log *log = &channel->log;
    struct tl_stream_place held = {log->follow->marks.epoch, log->follow->marks.head,
                                   log->head.msg + log->follow->marks.ahead};
    return hub->broker->ops->follow(hub->broker, tl_bytes(channel->name, channel->name_n),
                                    channel->stream->rule, &held);
}

static struct tl_channel *find(const struct tl_hub *hub, struct tl_bytes name)
{
    struct tl_channel *channel = tl_hub_find(hub, name);
    return channel && channel->stream ? channel : NULL;
}

void tl_hub_tell_up(struct tl_hub *hub, struct tl_channel *channel)
{
    if (!channel->gap_due)
        return;
    channel->gap_due = false;
    tl_hub_append_state(hub, channel, true);
    tl_hub_change(hub, channel);
}

void tl_hub_on_place(void *arg, struct tl_bytes name, const struct tl_stream_place *place,
                     enum tl_continuity how, uint64_t missed, const char *reason)
{
    struct tl_hub *hub = arg;
    struct tl_channel *channel = find(hub, name);
    if (!channel)
        return;
    tl_hub_tell_up(hub, channel);
    bool is_exact = how == TL_STREAM_GAP && missed > 0;
    tl_log_follow_at(&channel->log, place, how == TL_STREAM_WHOLE, is_exact);
    if (how == TL_STREAM_FIRST && channel->log.head.idx > channel->log.epoch_idx)
        tl_log_new_epoch(&channel->log, tl_hub_new_epoch());
    else if (how == TL_STREAM_FIRST)
        tl_log_begin(&channel->log);
    if (how != TL_STREAM_GAP && how != TL_STREAM_BROKEN)
        return;
    tl_hub_tell_gap(hub, channel, missed, reason);
    /* Who is closed for it is closed here, with the place from where the rest is to be had. */
    tl_hub_flush(hub);
}

void tl_hub_on_entry(void *arg, struct tl_bytes name, const struct tl_stream_entry *entry)
{
    struct tl_hub *hub = arg;
    struct tl_channel *channel = find(hub, name);
    tl_metric_add(TL_M_MESSAGES_IN, 1);
    tl_metric_add(TL_M_MESSAGE_BYTES_IN, (int64_t)entry->payload.n);
    if (!channel)
        return;
    struct tl_message message = {.payload = entry->payload, .id = entry->id};
    if (tl_hub_append(hub, channel, &message))
        return;
    const struct tl_log *log = &channel->log;
    struct tl_stream_place place = {log->follow->marks.epoch, entry->id,
                                    log->head.msg + log->follow->marks.ahead + 1};
    tl_hub_on_place(hub, name, &place, TL_STREAM_GAP, 1, no_memory);
}

/* ---- older messages ---- */

static void answer(struct tl_view_seek *seek)
{
    tl_list_remove(&seek->node);
    seek->mail.deliver = tl_worker_on_sought;
    tl_mailbox_post(tl_loop_mailbox(seek->view->worker->loop), &seek->mail);
}

static void answer_all(struct tl_channel *channel)
{
    while (!tl_list_empty(&channel->stream->sought))
        answer(TL_CONTAINER(channel->stream->sought.next, struct tl_view_seek, node));
}

static struct tl_entry_id oldest_wanted(const struct tl_list *seekers)
{
    struct tl_entry_id oldest = {UINT64_MAX, UINT64_MAX};
    for (const struct tl_list *l = seekers->next; l != seekers; l = l->next) {
        struct tl_entry_id id = TL_CONTAINER(l, struct tl_view_seek, node)->id;
        if (tl_entry_id_cmp(id, oldest) < 0)
            oldest = id;
    }
    return oldest;
}

/* How much there is room for before the tail of a held log: as much as a log's limits in all, but
 * none where it would not be the same stream's, or where the cap over all logs would drop it. */
static struct tl_log_limits room_before(const struct tl_hub *hub, const struct tl_log *log)
{
    struct tl_log_limits max = {2 * log->limits->msgs_max, 2 * log->limits->bytes_max, 0};
    if (log->tail.idx < log->epoch_idx || log->follow->held.msgs >= max.msgs_max ||
        log->follow->held.bytes >= max.bytes_max || hub->logs_bytes >= hub->config->logs_bytes_max)
        return (struct tl_log_limits){0};
    return (struct tl_log_limits){max.msgs_max - log->follow->held.msgs,
                                  max.bytes_max - log->follow->held.bytes, 0};
}

void tl_hub_seek(struct tl_hub *hub, struct tl_channel *channel)
{
    struct tl_log *log = &channel->log;
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    struct tl_hub_stream *stream = channel->stream;
    if (!stream || tl_list_empty(&stream->seekers) || !tl_list_empty(&stream->sought) ||
        !hub->streams_up || !tl_channel_is_subscribed(&channel->life))
        return;
    struct tl_entry_id from = oldest_wanted(&stream->seekers);
    struct tl_entry_id to = tl_log_oldest(log).id;
    tl_list_splice(&stream->sought, &stream->seekers);
    if (tl_entry_id_cmp(from, to) <= 0)
        tl_log_hold(log, now_ms, now_ms + HOLD_MS); /* so that what is read fits to it */
    struct tl_log_limits room = room_before(hub, log);
    if (room.msgs_max == 0)
        from = log->follow->marks.head; /* the end of the stream is read again in any case */
    if (hub->broker->ops->seek(hub->broker, tl_bytes(channel->name, channel->name_n), from, to,
                               room.msgs_max, room.bytes_max) == 0)
        return;
    tl_metric_add(TL_M_REFUSED_MEMORY, 1);
    answer_all(channel);
}

void tl_hub_forget_seek(struct tl_channel *channel)
{
    if (channel->stream)
        tl_list_splice(&channel->stream->seekers, &channel->stream->sought);
}

static void extend(struct tl_hub *hub, struct tl_channel *channel,
                   const struct tl_stream_range *range)
{
    struct tl_log *log = &channel->log;
    uint64_t now_ms = tl_loop_now_ms(hub->loop);
    bool none = range->n == 0 && range->before.ms == 0 && range->before.seq == 0;
    if (none || log->tail.idx < log->epoch_idx)
        return;
    /* The log may have dropped messages since it asked: then the range ends too early. */
    size_t n = range->n;
    struct tl_entry_id oldest = tl_log_oldest(log).id;
    if (tl_entry_id_cmp(range->to, oldest) != 0)
        return;
    if (tl_log_prepend(log, range->entries, n, range->before, range->known, now_ms,
                       now_ms + HOLD_MS) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return;
    }
    tl_metric_add(TL_M_MESSAGES_REREAD, (int64_t)n);
    tl_hub_count_bytes(hub, channel);
    struct tl_list *list = &channel->attachments;
    for (struct tl_list *a = list->next; a != list; a = a->next) {
        struct tl_attachment *attachment = TL_CONTAINER(a, struct tl_attachment, node);
        attachment->told = NULL;
        attachment->anew = true;
    }
    tl_hub_change(hub, channel);
}

void tl_hub_on_sought(void *arg, struct tl_bytes name, const struct tl_stream_range *range)
{
    struct tl_hub *hub = arg;
    struct tl_channel *channel = find(hub, name);
    if (!channel)
        return;
    extend(hub, channel, range);
    tl_hub_flush(hub); /* before the answer */
    answer_all(channel);
    tl_hub_seek(hub, channel);
}

void tl_hub_on_seek(struct tl_mail *mail)
{
    struct tl_view_seek *seek = TL_CONTAINER(mail, struct tl_view_seek, mail);
    struct tl_channel *channel = seek->view->attachment.channel;
    if (!channel) {
        answer(seek);
        return;
    }
    tl_list_append(&channel->stream->seekers, &seek->node);
    tl_hub_seek(seek->view->worker->hub, channel);
}
