#include "feed/view.h"

#include "feed/follow.h"

#include <assert.h>
#include <errno.h>

int tl_view_apply(struct tl_view *view, const struct tl_view_update *update)
{
    if (update->anew)
        tl_chain_deinit(&view->chain);
    for (uint32_t i = 0; i < update->segs_n; i++) {
        if (tl_chain_push(&view->chain, update->segs[i]) == 0)
            continue;
        for (; i < update->segs_n; i++)
            tl_segment_unref(update->segs[i]);
        return -ENOMEM;
    }
    view->head = update->head;
    view->tail = update->tail;
    view->epoch = update->epoch;
    view->epoch_idx = update->epoch_idx;
    if (view->stream)
        *view->stream = update->stream;
    view->seqs = update->seqs;
    view->events = update->events;
    while (view->chain.n > 1 && tl_chain_at(&view->chain, 1)->base.idx <= view->tail.idx)
        tl_segment_unref(tl_chain_pop(&view->chain));
    return 0;
}

void tl_view_deinit(struct tl_view *view)
{
    tl_chain_deinit(&view->chain);
    *view = (struct tl_view){.stream = view->stream};
    if (view->stream)
        *view->stream = (struct tl_stream_marks){0};
}

/* Where segment i ends for this view. */
static uint64_t visible_end(const struct tl_view *view, uint32_t i)
{
    return i + 1 < view->chain.n ? tl_chain_at(&view->chain, i + 1)->base.off : view->head.off;
}

static uint32_t visible_entries(const struct tl_view *view, uint32_t i)
{
    uint64_t end =
        i + 1 < view->chain.n ? tl_chain_at(&view->chain, i + 1)->base.idx : view->head.idx;
    return (uint32_t)(end - tl_chain_at(&view->chain, i)->base.idx);
}

/* How many of the segment's first n entries end at or before offset `end` of it. */
static uint32_t entries_until(const struct tl_segment *seg, uint32_t n, uint64_t end)
{
    uint32_t low = 0, high = n; /* the answer is in [low, high] */
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (seg->entries[mid].end <= end)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The border nearest before `want` (relative to the segment), but behind `from`: at least one
 * entry. */
static struct tl_mark border_near(const struct tl_view *view, uint32_t s, uint64_t from,
                                  uint64_t want)
{
    const struct tl_segment *seg = tl_chain_at(&view->chain, s);
    uint32_t n = visible_entries(view, s);
    uint32_t i = entries_until(seg, n, want);
    if (i == 0 || seg->entries[i - 1].end <= from)
        i = entries_until(seg, n, from) + 1;
    assert(i <= n);
    return (struct tl_mark){
        .off = seg->base.off + seg->entries[i - 1].end,
        .idx = seg->base.idx + i,
        .msg = seg->base.msg + tl_segment_messages(seg, i),
    };
}

static struct tl_mark mark_of_end(const struct tl_view *view, uint32_t s)
{
    return s + 1 < view->chain.n ? tl_chain_at(&view->chain, s + 1)->base : view->head;
}

void tl_view_range(const struct tl_view *view, uint64_t from, size_t bytes_max,
                   struct tl_range *ret_range)
{
    assert(from >= view->tail.off && from < view->head.off);
    ret_range->slices_n = 0;
    ret_range->bytes_n = 0;
    for (uint32_t s = tl_chain_find_off(&view->chain, from); s < view->chain.n; s++) {
        const struct tl_segment *seg = tl_chain_at(&view->chain, s);
        uint64_t start = from > seg->base.off ? from - seg->base.off : 0;
        uint64_t end = visible_end(view, s) - seg->base.off;
        size_t left = bytes_max - ret_range->bytes_n;
        if (end <= start) { /* nothing here (but control entries of another lane) */
            ret_range->to = mark_of_end(view, s);
            continue;
        }
        bool whole = end - start <= left;
        if (!whole && ret_range->slices_n > 0)
            return;
        ret_range->to = whole ? mark_of_end(view, s) : border_near(view, s, start, start + left);
        size_t n = (size_t)(ret_range->to.off - seg->base.off - start);
        ret_range->slices[ret_range->slices_n++] = tl_bytes(seg->bytes + start, n);
        ret_range->bytes_n += n;
        if (!whole || ret_range->slices_n == 16)
            return;
    }
}

unsigned tl_view_pin(const struct tl_view *view, uint64_t from, uint64_t to,
                     struct tl_segment *segs[16])
{
    unsigned n = 0;
    for (uint32_t s = tl_chain_find_off(&view->chain, from); s < view->chain.n; s++) {
        struct tl_segment *seg = tl_chain_at(&view->chain, s);
        if (seg->base.off >= to)
            break;
        uint64_t end = visible_end(view, s);
        if (end <= from || end == seg->base.off)
            continue;
        assert(n < 16);
        segs[n++] = tl_segment_ref(seg);
    }
    return n;
}

static uint64_t oldest_idx(const struct tl_view *view)
{
    return view->tail.idx > view->epoch_idx ? view->tail.idx : view->epoch_idx;
}

/* Before the last msgs_n messages, but not before entry `oldest`. */
static struct tl_mark back(const struct tl_view *view, uint64_t msgs_n, uint64_t oldest)
{
    struct tl_mark from = view->head;
    /* At least one entry a message: go back by what is wanting, past the control entries. */
    while (view->head.msg - from.msg < msgs_n && from.idx > oldest) {
        uint64_t wanting = msgs_n - (view->head.msg - from.msg);
        uint64_t idx = from.idx - oldest > wanting ? from.idx - wanting : oldest;
        from = tl_chain_mark(&view->chain, idx, view->head);
    }
    return from;
}

/* ---- a log that follows a stream ---- */

/* What stands before the oldest entry that can be resumed from. */
static struct tl_entry_id oldest_id(const struct tl_view *view)
{
    return view->tail.idx > view->epoch_idx ? view->stream->tail : view->stream->start;
}

struct tl_position tl_view_position(const struct tl_view *view, struct tl_mark mark)
{
    if (!tl_view_follows(view))
        return (struct tl_position){.epoch = view->epoch, .idx = mark.idx};
    struct tl_entry_id id =
        mark.idx > oldest_idx(view) ? tl_follow_id(&view->chain, mark.idx - 1) : oldest_id(view);
    return tl_follow_position(view->stream, mark.msg, id);
}

/* Behind the entry with this id, or before the one with the next id, as nothing fits between: where
 * a gap ends. False: there is none of this epoch. */
static bool find_id(const struct tl_view *view, struct tl_entry_id id, struct tl_mark *ret_mark)
{
    uint64_t low = oldest_idx(view), high = view->head.idx; /* entries before low have at most id */
    if (tl_entry_id_cmp(id, oldest_id(view)) < 0)
        return false;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (tl_entry_id_cmp(tl_follow_id(&view->chain, mid), id) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    struct tl_entry_id found =
        low > oldest_idx(view) ? tl_follow_id(&view->chain, low - 1) : oldest_id(view);
    *ret_mark = tl_chain_mark(&view->chain, low, view->head);
    return tl_entry_id_cmp(found, id) == 0 ||
           (low < view->head.idx &&
            tl_entry_id_cmp(tl_entry_id_before(tl_follow_id(&view->chain, low)), id) == 0);
}

/* Does the count of a position behind that id hold for this stream? */
static bool counts_from(const struct tl_stream_marks *stream, struct tl_entry_id id)
{
    return tl_entry_id_cmp(id, stream->known) >= 0 || tl_entry_id_cmp(id, stream->born) == 0;
}

/* An entry of one that had the stream's name before it? */
static bool is_of_another(const struct tl_stream_marks *stream, struct tl_entry_id id)
{
    return tl_entry_id_cmp(id, stream->born) > 0 && tl_entry_id_cmp(id, stream->known) < 0;
}

/* The entry itself proves the place. Where it is gone but this log was there when it came, its
 * count does: no other stream can have had it meanwhile. */
static bool find_position(const struct tl_view *view, const struct tl_position *position,
                          struct tl_mark *ret_from)
{
    uint64_t oldest = oldest_idx(view), behind = position->idx - position->id_idx;
    uint64_t left; /* messages from there to the head */
    struct tl_mark mark;
    bool counts = counts_from(view->stream, position->id);
    if (find_id(view, position->id, &mark)) {
        if (behind == 0) {
            *ret_from = mark;
            return true;
        }
        if (!counts)
            return false;
        left = view->head.msg - mark.msg - behind; /* more than there is wraps around */
    } else if (counts && position->epoch == view->stream->epoch &&
               tl_entry_id_cmp(position->id, oldest_id(view)) < 0) {
        left = view->head.msg + view->stream->ahead - position->idx;
    } else {
        return false;
    }
    mark = tl_chain_mark(&view->chain, oldest, view->head);
    if (left > view->head.msg - mark.msg)
        return false;
    *ret_from = back(view, left, oldest);
    return true;
}

bool tl_view_must_ask(const struct tl_view *view, const struct tl_position *position)
{
    struct tl_mark from;
    return tl_view_follows(view) && position->of_stream && !find_position(view, position, &from);
}

static enum tl_resume resume_stream(const struct tl_view *view, const struct tl_position *position,
                                    struct tl_mark *ret_from, uint64_t *ret_missed)
{
    if (find_position(view, position, ret_from))
        return TL_RESUME_FROM;
    struct tl_mark oldest = tl_chain_mark(&view->chain, oldest_idx(view), view->head);
    uint64_t added = oldest.msg + view->stream->ahead;
    if (position->epoch != view->stream->epoch || position->idx >= added ||
        is_of_another(view->stream, position->id) ||
        tl_entry_id_cmp(position->id, oldest_id(view)) > 0)
        return TL_RESUME_VOID;
    *ret_from = oldest;
    *ret_missed = added - position->idx;
    return TL_RESUME_GAP;
}

/* ---- where to begin ---- */

enum tl_resume tl_view_resume(const struct tl_view *view, struct tl_position position,
                              struct tl_mark *ret_from, uint64_t *ret_missed)
{
    *ret_missed = 0;
    *ret_from = view->head;
    if (tl_view_follows(view) && position.of_stream)
        return resume_stream(view, &position, ret_from, ret_missed);
    if (tl_view_follows(view) || position.of_stream || position.epoch != view->epoch ||
        position.idx < view->epoch_idx || position.idx > view->head.idx)
        return TL_RESUME_VOID;
    if (position.idx >= view->tail.idx) {
        *ret_from = tl_chain_mark(&view->chain, position.idx, view->head);
        return TL_RESUME_FROM;
    }
    /* Control entries do not count, but those dropped are unknown one by one: they are few, and a
     * new epoch begins at each, so none lies between here and there. */
    *ret_from = view->tail;
    *ret_missed = view->tail.idx - position.idx;
    return TL_RESUME_GAP;
}

/* ---- numbers ---- */

static uint64_t seq_of(const struct tl_view *view, uint64_t idx)
{
    const struct tl_segment *seg = tl_chain_at(&view->chain, tl_chain_find_idx(&view->chain, idx));
    return tl_segment_seq(seg, (uint32_t)(idx - seg->base.idx));
}

uint64_t tl_view_seq_before(const struct tl_view *view, struct tl_mark mark)
{
    return mark.idx > view->tail.idx ? seq_of(view, mark.idx - 1) : view->seqs.tail;
}

struct tl_mark tl_view_behind(const struct tl_view *view, uint64_t seq)
{
    uint64_t low = view->tail.idx, high = view->head.idx; /* the answer is in [low, high] */
    if (low == high || seq_of(view, high - 1) <= seq)
        return view->head;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (seq_of(view, mid) <= seq)
            low = mid + 1;
        else
            high = mid;
    }
    return tl_chain_mark(&view->chain, low, view->head);
}

uint64_t tl_view_seq(const struct tl_view *view, uint64_t off)
{
    assert(off >= view->tail.off && off < view->head.off);
    uint32_t s = tl_chain_find_off(&view->chain, off);
    while (visible_end(view, s) <= off)
        s++;
    const struct tl_segment *seg = tl_chain_at(&view->chain, s);
    uint64_t start = off > seg->base.off ? off - seg->base.off : 0;
    return tl_segment_seq(seg, entries_until(seg, visible_entries(view, s), start));
}

enum tl_resume tl_view_resume_behind(const struct tl_view *view, uint64_t seq,
                                     struct tl_mark *ret_from)
{
    *ret_from = tl_view_behind(view, seq);
    if (seq < view->seqs.epoch) {
        if (view->epoch_idx > ret_from->idx)
            *ret_from = tl_chain_mark(&view->chain, view->epoch_idx, view->head);
        return TL_RESUME_VOID;
    }
    return seq < view->seqs.tail ? TL_RESUME_GAP : TL_RESUME_FROM;
}

/* ---- where a newcomer begins ---- */

static bool is_event(const struct tl_view *view, uint64_t idx)
{
    const struct tl_segment *seg = tl_chain_at(&view->chain, tl_chain_find_idx(&view->chain, idx));
    return seg->entries[idx - seg->base.idx].flags & TL_ENTRY_CONTROL;
}

/* What control events told, was told to others. And no newcomer has the position before one with
 * which the epoch begins: it would count among what it missed. */
static struct tl_mark skip_events(const struct tl_view *view, struct tl_mark from)
{
    uint64_t idx = from.idx;
    while (idx < view->head.idx && is_event(view, idx))
        idx++;
    return idx > from.idx ? tl_chain_mark(&view->chain, idx, view->head) : from;
}

struct tl_mark tl_view_history(const struct tl_view *view, uint64_t msgs_n)
{
    return skip_events(view, back(view, msgs_n, oldest_idx(view)));
}

struct tl_mark tl_view_newest(const struct tl_view *view)
{
    return back(view, 1, view->tail.idx);
}

struct tl_lost tl_view_lost(const struct tl_view *view, uint64_t off, uint64_t msg)
{
    assert(off < view->tail.off && msg <= view->tail.msg);
    return (struct tl_lost){
        .msgs_n = view->tail.msg - msg,
        .gap = off < view->events.gap_off,
        .broker = off < view->events.broker_off,
        .is_down = view->events.is_down,
    };
}

uint64_t tl_view_time_ms(const struct tl_view *view, uint64_t idx)
{
    const struct tl_segment *seg = tl_chain_at(&view->chain, tl_chain_find_idx(&view->chain, idx));
    return seg->base_ms + seg->entries[idx - seg->base.idx].time_ms;
}

struct tl_mark tl_view_since_ms(const struct tl_view *view, uint64_t since_ms)
{
    uint64_t low = oldest_idx(view), high = view->head.idx; /* the answer is in [low, high] */
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (tl_view_time_ms(view, mid) < since_ms)
            low = mid + 1;
        else
            high = mid;
    }
    return skip_events(view, tl_chain_mark(&view->chain, low, view->head));
}
