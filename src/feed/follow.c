#include "feed/follow.h"

#include "base/utf8.h"

#include <assert.h>
#include <errno.h>

void tl_log_follow(struct tl_log *log, struct tl_follow *follow)
{
    assert(log->head.idx == 0 && !log->lanes[TL_LANE_SSE]);
    *follow = (struct tl_follow){.marks.on = true};
    log->follow = follow;
    log->head = log->tail = (struct tl_mark){TL_FOLLOW_BASE_OFF, TL_FOLLOW_BASE, TL_FOLLOW_BASE};
    log->epoch_idx = TL_FOLLOW_BASE;
    log->ws.head_off = log->ws.tail_off = TL_FOLLOW_BASE_OFF;
}

void tl_log_follow_at(struct tl_log *log, const struct tl_stream_place *place, bool proven,
                      bool exact)
{
    struct tl_stream_marks *stream = &log->follow->marks;
    assert(place->epoch != 0);
    if (!proven && !exact) {
        /* Counts begin here; those of what it held before are another stream's if it went back. */
        bool went_back = tl_entry_id_cmp(place->id, stream->head) < 0;
        stream->known = went_back ? tl_entry_id_after(stream->head) : place->id;
        stream->born = place->id;
    }
    stream->epoch = place->epoch;
    stream->ahead = place->added - log->head.msg;
    stream->head = place->id;
    if (log->head.idx == log->epoch_idx)
        stream->start = place->id;
}

void tl_follow_appended(struct tl_stream_marks *stream, struct tl_entry_id id)
{
    if (stream->known.ms == 0 && stream->known.seq == 0) /* the first one that there ever was */
        stream->known = tl_entry_id_before(id);
    stream->head = id;
}

struct tl_position tl_follow_position(const struct tl_stream_marks *stream, uint64_t msg,
                                      struct tl_entry_id id)
{
    uint64_t added = msg + stream->ahead;
    return (struct tl_position){stream->epoch, added, true, id, added};
}

struct tl_entry_id tl_follow_id(const struct tl_chain *chain, uint64_t idx)
{
    const struct tl_segment *seg = tl_chain_at(chain, tl_chain_find_idx(chain, idx));
    const struct tl_entry *entry = &seg->entries[idx - seg->base.idx];
    assert(entry->name_n == TL_ENTRY_ID_TAG_N);
    return tl_entry_id_of_tag(seg->bytes + entry->name_at);
}

void tl_log_hold(struct tl_log *log, uint64_t now_ms, uint64_t until_ms)
{
    if (now_ms >= log->follow->held.until_ms) {
        log->follow->held.msgs = log->limits->msgs_max;
        log->follow->held.bytes = log->limits->bytes_max;
    }
    log->follow->held.until_ms = until_ms;
}

/* ---- putting older entries before the tail ---- */

struct older {
    const struct tl_log *log;
    const struct tl_stream_entry *entries;
    size_t n;
    uint64_t time_ms;
};

struct older_texts {
    uint8_t tag[TL_ENTRY_ID_TAG_N];
    char position[TL_POSITION_TEXT_MAX], number[TL_SEQUENCE_TEXT_MAX];
};

/* The k-th older entry as the lanes encode it. */
static struct tl_lane_item item_of(const struct older *older, size_t k, struct older_texts *texts)
{
    const struct tl_log *log = older->log;
    const struct tl_stream_entry *entry = &older->entries[k];
    struct tl_position after =
        tl_follow_position(&log->follow->marks, log->tail.msg - older->n + k + 1, entry->id);
    struct tl_lane_item item = {
        .payload = entry->payload,
        .flags = tl_utf8_valid(entry->payload) ? 0 : TL_ENTRY_BINARY,
        .position = tl_bytes(texts->position, tl_position_print(after, texts->position)),
        .tag = tl_follow_tag(entry->id, texts->tag),
    };
    /* They were never appended here: before all that was. */
    if (log->lanes[TL_LANE_SSE_TAGGED])
        item.number =
            tl_bytes(texts->number, tl_sequence_print((struct tl_sequence){log->sequence->epoch, 0},
                                                      log->label, texts->number));
    return item;
}

static uint64_t encoded_bytes(const struct older *older, const struct tl_lane *lane)
{
    struct older_texts texts;
    uint64_t bytes = 0;
    for (size_t k = 0; k < older->n; k++) {
        struct tl_lane_item item = item_of(older, k, &texts);
        bytes += tl_lane_encoded_size(lane, &item);
    }
    return bytes;
}

static int encode_older(const struct older *older, struct tl_lane *fresh, struct tl_mark *at)
{
    struct older_texts texts;
    for (size_t k = 0; k < older->n; k++, at->idx++, at->msg++) {
        struct tl_lane_item item = item_of(older, k, &texts);
        int r = tl_lane_reserve(fresh, &item, *at, older->time_ms);
        if (r < 0)
            return r;
        tl_lane_append(fresh, &item, older->time_ms);
    }
    return 0;
}

/* What is kept of the segment that the tail lies in, byte for byte: cursors stand there. */
static int copy_rest(struct tl_lane *fresh, const struct tl_segment *seg, struct tl_mark *at)
{
    for (uint32_t i = (uint32_t)(at->idx - seg->base.idx); i < seg->entries_n; i++) {
        int r = tl_lane_reserve_copy(fresh, seg, i, *at);
        if (r < 0)
            return r;
        tl_lane_append_copy(fresh, seg, i);
        at->idx++;
        at->msg += !(seg->entries[i].flags & TL_ENTRY_CONTROL);
    }
    return 0;
}

/* A lane with the older entries before what `lane` keeps; they share all whole segments. */
static int extend(const struct older *older, const struct tl_lane *lane, struct tl_lane *fresh)
{
    const struct tl_log *log = older->log;
    struct tl_mark at = {.idx = log->tail.idx - older->n, .msg = log->tail.msg - older->n};
    tl_lane_init(fresh, lane->kind);
    fresh->head_off = fresh->tail_off = lane->tail_off - encoded_bytes(older, lane);
    int r = encode_older(older, fresh, &at);
    for (uint32_t s = 0; r == 0 && s < lane->chain.n; s++) {
        struct tl_segment *seg = tl_chain_at(&lane->chain, s);
        if (seg->base.idx < log->tail.idx) {
            r = copy_rest(fresh, seg, &at);
            continue;
        }
        r = tl_chain_push(&fresh->chain, tl_segment_ref(seg));
        if (r < 0)
            tl_segment_unref(seg);
    }
    fresh->head_off = lane->head_off;
    fresh->events_bytes = lane->events_bytes;
    fresh->events = lane->events;
    fresh->next_cap = lane->next_cap;
    fresh->on = true;
    return r;
}

/* The old chain goes; what is not in the new one counts as retired while readers have it. */
static void replace(struct tl_lane *lane, struct tl_lane *fresh, uint64_t tail_idx)
{
    struct tl_segment *seg;
    while ((seg = tl_chain_pop(&lane->chain))) {
        if (seg->base.idx < tail_idx)
            tl_segment_retire(seg);
        else
            tl_segment_unref(seg);
    }
    tl_chain_deinit(&lane->chain);
    *lane = *fresh;
}

static void take_over(struct tl_log *log, struct tl_lane fresh[TL_LANE_N], size_t n)
{
    uint64_t tail_idx = log->tail.idx, bytes_max = 0;
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        struct tl_lane *lane = log->lanes[kind];
        if (!lane)
            continue;
        uint64_t bytes = lane->tail_off - fresh[kind].tail_off;
        bytes_max = bytes > bytes_max ? bytes : bytes_max;
        log->bytes += bytes;
        replace(lane, &fresh[kind], tail_idx);
    }
    if (log->head.msg == log->tail.msg)
        log->newest_idx = log->tail.idx - 1;
    log->follow->held.bytes += bytes_max;
    log->follow->held.msgs += n;
    log->tail.idx -= n;
    log->tail.msg -= n;
    log->tail.off = log->ws.tail_off;
    log->epoch_idx = log->epoch_idx < log->tail.idx ? log->epoch_idx : log->tail.idx;
}

/* The log begins behind an older entry now. */
static void lower(struct tl_log *log, struct tl_entry_id before, struct tl_entry_id known)
{
    if (log->tail.msg + log->follow->marks.ahead == 0) { /* all that was ever added is here */
        known = before;
        before = log->follow->marks.born = (struct tl_entry_id){0, 0};
    }
    log->follow->marks.tail = log->follow->marks.start = before;
    if (tl_entry_id_cmp(known, before) < 0)
        known = before;
    if (tl_entry_id_cmp(known, log->follow->marks.known) < 0)
        log->follow->marks.known = known;
}

int tl_log_prepend(struct tl_log *log, const struct tl_stream_entry *entries, size_t n,
                   struct tl_entry_id before, struct tl_entry_id known, uint64_t now_ms,
                   uint64_t until_ms)
{
    assert(log->follow && log->tail.idx >= log->epoch_idx);
    const struct tl_chain *chain = &log->ws.chain;
    struct older older = {log, entries, n, now_ms};
    if (n == 0) {
        lower(log, before, known);
        return 0;
    }
    if (log->tail.idx < log->head.idx) { /* times grow along a log */
        const struct tl_segment *seg = tl_chain_at(chain, tl_chain_find_idx(chain, log->tail.idx));
        older.time_ms = seg->base_ms + seg->entries[log->tail.idx - seg->base.idx].time_ms;
    }
    struct tl_lane fresh[TL_LANE_N] = {0};
    int r = 0;
    for (int kind = 0; kind < TL_LANE_N && r == 0; kind++)
        if (log->lanes[kind])
            r = extend(&older, log->lanes[kind], &fresh[kind]);
    if (r < 0) {
        for (int kind = 0; kind < TL_LANE_N; kind++) {
            struct tl_segment *seg;
            while ((seg = tl_chain_pop(&fresh[kind].chain)))
                tl_segment_unref(seg);
            tl_chain_deinit(&fresh[kind].chain);
        }
        return r;
    }
    take_over(log, fresh, n);
    lower(log, before, known);
    tl_log_hold(log, now_ms, until_ms);
    return 0;
}
