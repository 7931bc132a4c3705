/* Telling the workers: what changed since the last flush goes out as one batch a worker. */
#include "base/alloc.h"
#include "base/metrics.h"
#include "gateway/hub_state.h"

#define RETRY_MS 10 /* a flush that found no memory */

static void touch(struct tl_hub *hub, struct tl_channel *channel)
{
    if (tl_list_empty(&channel->dirty))
        tl_list_append(&hub->dirty, &channel->dirty);
    tl_loop_defer(hub->loop, &hub->flush_task);
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
    return &attachment->channel->log.lanes[tl_hub_view_of(attachment)->lane]->chain;
}

static void fill_item(struct tl_hub *hub, struct tl_attachment *attachment,
                      struct tl_batch_item *item, struct tl_segment **segs)
{
    struct tl_channel *channel = attachment->channel;
    enum tl_lane_kind lane = tl_hub_view_of(attachment)->lane;
    *item = (struct tl_batch_item){
        .view = tl_hub_view_of(attachment),
        .state = attachment->state,
        .refusal = attachment->refusal,
        .gaps = attachment->gaps,
        .stale = channel->stale,
        .link_down = !tl_hub_link_is_up(hub, channel),
        .has_update = tl_hub_is_told(attachment),
    };
    attachment->gaps = (struct tl_gaps){0};
    attachment->changed = false;
    if (!item->has_update)
        return;
    const struct tl_chain *chain = lane_chain(attachment);
    uint32_t n = untold_segments(chain, attachment->told);
    bool anew = attachment->anew;
    attachment->anew = false;
    for (uint32_t i = 0; i < n; i++)
        segs[i] = tl_segment_ref(tl_chain_at(chain, chain->n - n + i));
    attachment->told = tl_chain_last(chain);
    item->update = (struct tl_view_update){
        .segs = segs,
        .segs_n = n,
        .anew = anew,
        .head = tl_log_head(&channel->log, lane),
        .tail = tl_log_tail(&channel->log, lane),
        .epoch = channel->log.epoch,
        .epoch_idx = channel->log.epoch_idx,
        .seqs = channel->log.seqs,
        .events = channel->log.lanes[lane]->events,
    };
    if (channel->stream)
        item->update.stream = channel->stream->follow.marks;
}

static bool is_for(struct tl_attachment *attachment, const struct tl_worker *worker)
{
    return attachment->changed && tl_hub_view_of(attachment)->worker == worker;
}

/* What one worker is to be told: counted in a first walk, filled in a second. */
struct tally {
    struct tl_batch *batch; /* NULL: count only */
    struct tl_segment **segs;
    size_t items_n, segs_n;
};

static void tally_attachment(struct tl_hub *hub, struct tl_attachment *attachment,
                             struct tally *tally)
{
    if (tally->batch) {
        struct tl_batch_item *item = &tally->batch->items[tally->batch->n++];
        fill_item(hub, attachment, item, tally->segs);
        tally->segs += item->update.segs_n;
        return;
    }
    tally->items_n++;
    if (tl_hub_is_told(attachment))
        tally->segs_n += untold_segments(lane_chain(attachment), attachment->told);
}

static void walk_changed(struct tl_hub *hub, const struct tl_worker *worker, struct tally *tally)
{
    for (struct tl_list *c = hub->dirty.next; c != &hub->dirty; c = c->next) {
        struct tl_list *list = &TL_CONTAINER(c, struct tl_channel, dirty)->attachments;
        for (struct tl_list *a = list->next; a != list; a = a->next) {
            struct tl_attachment *attachment = TL_CONTAINER(a, struct tl_attachment, node);
            if (is_for(attachment, worker))
                tally_attachment(hub, attachment, tally);
        }
    }
}

static struct tl_batch *make_batch(struct tl_hub *hub, struct tl_worker *worker)
{
    struct tally tally = {0};
    walk_changed(hub, worker, &tally);
    if (tally.items_n == 0)
        return NULL;
    tally.batch = tl_alloc(sizeof *tally.batch + tally.items_n * sizeof tally.batch->items[0] +
                           tally.segs_n * sizeof(struct tl_segment *));
    if (!tally.batch) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_loop_timer_start(hub->loop, &hub->retry_timer, RETRY_MS);
        return NULL;
    }
    *tally.batch = (struct tl_batch){.worker = worker, .mail.deliver = tl_worker_on_batch};
    tally.segs = (struct tl_segment **)(void *)(tally.batch->items + tally.items_n);
    walk_changed(hub, worker, &tally);
    return tally.batch;
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

void tl_hub_flush(struct tl_hub *hub)
{
    struct tl_batch *batches[TL_WORKERS_MAX];
    for (unsigned i = 0; i < hub->workers_n; i++)
        batches[i] = make_batch(hub, hub->workers[i]);
    clean_dirty(hub);
    for (unsigned i = hub->workers_n; i-- > 0;) {
        if (!batches[i])
            continue;
        tl_metric_add(TL_M_BATCHES, 1);
        if (i == 0)
            tl_worker_on_batch(&batches[i]->mail);
        else
            tl_mailbox_post(tl_loop_mailbox(hub->workers[i]->loop), &batches[i]->mail);
    }
}

static void on_flush(struct tl_task *task)
{
    tl_hub_flush(TL_CONTAINER(task, struct tl_hub, flush_task));
}

static void on_retry(struct tl_timer *timer)
{
    tl_hub_flush(TL_CONTAINER(timer, struct tl_hub, retry_timer));
}

void tl_hub_change(struct tl_hub *hub, struct tl_channel *channel)
{
    struct tl_list *list = &channel->attachments;
    for (struct tl_list *a = list->next; a != list; a = a->next) {
        struct tl_attachment *attachment = TL_CONTAINER(a, struct tl_attachment, node);
        attachment->changed = true;
        atomic_store_explicit(&tl_hub_view_of(attachment)->appended_idx, channel->log.head.idx,
                              memory_order_release);
    }
    atomic_store_explicit(&hub->told_seq, hub->sequence.at, memory_order_release);
    if (!tl_list_empty(list))
        touch(hub, channel);
}

void tl_hub_flush_init(struct tl_hub *hub)
{
    tl_list_init(&hub->dirty);
    tl_task_init(&hub->flush_task, on_flush);
    tl_timer_init(&hub->retry_timer, on_retry);
}

void tl_hub_flush_stop(struct tl_hub *hub)
{
    tl_task_cancel(&hub->flush_task);
    tl_timer_stop(tl_loop_timers(hub->loop), &hub->retry_timer);
}
