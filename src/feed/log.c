#include "feed/log.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "feed/follow.h"

#include <assert.h>
#include <errno.h>

void tl_log_init(struct tl_log *log, const struct tl_log_limits *limits, uint64_t epoch,
                 bool name_line)
{
    *log = (struct tl_log){.limits = limits, .epoch = epoch, .name_line = name_line};
    tl_lane_init(&log->ws, TL_LANE_WS);
    log->ws.on = true;
    log->lanes[TL_LANE_WS] = &log->ws;
}

void tl_log_number(struct tl_log *log, struct tl_sequence *sequence, struct tl_bytes name)
{
    assert(!log->sequence && log->head.idx == log->tail.idx);
    log->sequence = sequence;
    log->label = name;
    /* A number of its own, so that whoever was somewhere else until now is before it. */
    log->seqs.epoch = log->seqs.tail = ++sequence->at;
}

/* Not the WebSocket lane. */
static void drop_lane(struct tl_log *log, enum tl_lane_kind kind)
{
    if (!log->lanes[kind])
        return;
    tl_lane_deinit(log->lanes[kind]);
    tl_free(log->lanes[kind]);
    log->lanes[kind] = NULL;
}

void tl_log_deinit(struct tl_log *log)
{
    for (int kind = TL_LANE_WS + 1; kind < TL_LANE_N; kind++)
        drop_lane(log, (enum tl_lane_kind)kind);
    tl_lane_deinit(&log->ws);
    *log = (struct tl_log){0};
}

struct tl_mark tl_log_head(const struct tl_log *log, enum tl_lane_kind kind)
{
    return (struct tl_mark){log->lanes[kind]->head_off, log->head.idx, log->head.msg};
}

struct tl_mark tl_log_tail(const struct tl_log *log, enum tl_lane_kind kind)
{
    return (struct tl_mark){log->lanes[kind]->tail_off, log->tail.idx, log->tail.msg};
}

struct tl_position tl_log_position(const struct tl_log *log)
{
    if (log->follow)
        return tl_follow_position(&log->follow->marks, log->head.msg, log->follow->marks.head);
    return (struct tl_position){.epoch = log->epoch, .idx = log->head.idx};
}

struct tl_position tl_log_oldest(const struct tl_log *log)
{
    /* Entries of an older epoch are kept but prove nothing. */
    bool whole = log->tail.idx > log->epoch_idx;
    uint64_t idx = whole ? log->tail.idx : log->epoch_idx;
    if (!log->follow)
        return (struct tl_position){.epoch = log->epoch, .idx = idx};
    struct tl_mark mark = tl_chain_mark(&log->ws.chain, idx, log->head);
    return tl_follow_position(&log->follow->marks, mark.msg,
                              whole ? log->follow->marks.tail : log->follow->marks.start);
}

void tl_log_new_epoch(struct tl_log *log, uint64_t epoch)
{
    assert(epoch != 0 && epoch != log->epoch);
    log->epoch = epoch;
    log->epoch_idx = log->head.idx;
    if (log->follow)
        log->follow->marks.start = log->follow->marks.head;
    tl_log_begin(log);
}

void tl_log_begin(struct tl_log *log)
{
    if (log->sequence) /* see tl_log_number() */
        log->seqs.epoch = ++log->sequence->at;
}

/* Give the item that number, with its token in `text` where a lane has it for an id. */
static void number(const struct tl_log *log, struct tl_lane_item *item, uint64_t seq, char *text)
{
    item->seq = seq;
    if (!log->lanes[TL_LANE_SSE_TAGGED])
        return;
    struct tl_sequence at = {log->sequence->epoch, seq};
    item->number = tl_bytes(text, tl_sequence_print(at, log->label, text));
}

static int append_item(struct tl_log *log, const struct tl_lane_item *given, uint64_t now_ms)
{
    char text[TL_SEQUENCE_TEXT_MAX];
    struct tl_lane_item numbered = *given;
    const struct tl_lane_item *item = &numbered;
    if (log->sequence)
        number(log, &numbered, log->sequence->at + 1, text);
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        if (!log->lanes[kind])
            continue;
        int r = tl_lane_reserve(log->lanes[kind], item, log->head, now_ms);
        if (r < 0)
            return r;
    }
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        struct tl_lane *lane = log->lanes[kind];
        if (!lane)
            continue;
        uint64_t before = lane->head_off;
        tl_lane_append(lane, item, now_ms);
        log->bytes += lane->head_off - before;
    }
    if (log->sequence)
        log->sequence->at++;
    if (!(item->flags & TL_ENTRY_CONTROL)) {
        log->newest_idx = log->head.idx;
        log->head.msg++;
    }
    log->head.idx++;
    log->head.off = log->ws.head_off;
    return 0;
}

int tl_log_append(struct tl_log *log, const struct tl_message *message, uint64_t now_ms)
{
    char token[TL_POSITION_TEXT_MAX];
    uint8_t tag[TL_ENTRY_ID_TAG_N];
    struct tl_position after = {.epoch = log->epoch, .idx = log->head.idx + 1};
    struct tl_lane_item item = {
        .payload = message->payload,
        .name = message->name,
        .flags = tl_utf8_valid(message->payload) ? 0 : TL_ENTRY_BINARY,
        .name_line = log->name_line && message->name.n > 0,
    };
    if (log->follow) {
        after = tl_follow_position(&log->follow->marks, log->head.msg + 1, message->id);
        item.tag = tl_follow_tag(message->id, tag);
    }
    if (log->lanes[TL_LANE_SSE])
        item.position = tl_bytes(token, tl_position_print(after, token));
    int r = append_item(log, &item, now_ms);
    if (r == 0 && log->follow)
        tl_follow_appended(&log->follow->marks, message->id);
    return r;
}

int tl_log_append_control(struct tl_log *log, const struct tl_control *control, uint64_t now_ms)
{
    uint8_t tag[TL_ENTRY_ID_TAG_N];
    struct tl_lane_item item = {.control = control->sse_event,
                                .position = control->position,
                                .flags = TL_ENTRY_CONTROL | control->tells};
    if (log->follow)
        item.tag = tl_follow_tag(log->follow->marks.head, tag); /* it stands behind that entry */
    return append_item(log, &item, now_ms);
}

static uint64_t lane_bytes(const struct tl_log *log)
{
    uint64_t n = 0;
    for (int kind = 0; kind < TL_LANE_N; kind++)
        if (log->lanes[kind])
            n += log->lanes[kind]->head_off - log->lanes[kind]->tail_off;
    return n;
}

static const struct tl_segment *find(const struct tl_lane *lane, uint64_t idx, uint32_t *ret_i)
{
    const struct tl_segment *seg = tl_chain_at(&lane->chain, tl_chain_find_idx(&lane->chain, idx));
    *ret_i = (uint32_t)(idx - seg->base.idx);
    return seg;
}

/* Messages among the entries [tail, idx), and the number of the last one. Looks at no others: every
 * append evicts one. */
static uint64_t messages_until(const struct tl_log *log, uint64_t idx, uint64_t *seq)
{
    const struct tl_chain *chain = &log->ws.chain;
    uint64_t msgs = 0, at = log->tail.idx;
    for (uint32_t s = tl_chain_find_idx(chain, at); at < idx; s++) {
        const struct tl_segment *seg = tl_chain_at(chain, s);
        for (uint32_t i = (uint32_t)(at - seg->base.idx); i < seg->entries_n && at < idx;
             i++, at++) {
            if (seg->entries[i].flags & TL_ENTRY_CONTROL)
                continue;
            msgs++;
            *seq = tl_segment_seq(seg, i);
        }
    }
    return msgs;
}

/* Move the tail of every lane to the border before entry idx, tail <= idx < head. */
static uint64_t trim(struct tl_log *log, uint64_t idx)
{
    uint64_t seq = 0, msgs = messages_until(log, idx, &seq);
    bool has_events = msgs < idx - log->tail.idx;
    if (log->follow)
        log->follow->marks.tail = tl_follow_id(&log->ws.chain, idx - 1);
    log->seqs.tail = seq > log->seqs.tail ? seq : log->seqs.tail; /* older ones may have none */
    struct tl_mark tail = {.idx = idx, .msg = log->tail.msg + msgs};
    for (int kind = TL_LANE_N - 1; kind >= 0; kind--) {
        struct tl_lane *lane = log->lanes[kind];
        uint32_t i;
        if (!lane)
            continue;
        if (has_events)
            tl_lane_drop_events(lane, log->tail.idx, idx);
        const struct tl_segment *seg = find(lane, idx, &i);
        tail.off = seg->base.off + tl_segment_start(seg, i);
        tl_lane_trim(lane, tail);
    }
    log->tail = tail; /* of the WebSocket lane, which is the last one here */
    log->bytes = lane_bytes(log);
    return msgs;
}

/* What counts for the limits. */
struct kept {
    uint64_t msgs, events;
    uint64_t bytes[TL_LANE_N]; /* of messages */
};

static struct kept kept_of(const struct tl_log *log)
{
    uint64_t msgs = log->head.msg - log->tail.msg;
    struct kept kept = {.msgs = msgs, .events = log->head.idx - log->tail.idx - msgs};
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        const struct tl_lane *lane = log->lanes[kind];
        if (lane)
            kept.bytes[kind] = lane->head_off - lane->tail_off - lane->events_bytes;
    }
    return kept;
}

static void take_off(const struct tl_log *log, uint64_t idx, struct kept *kept)
{
    uint32_t i;
    const struct tl_segment *seg = find(&log->ws, idx, &i);
    if (seg->entries[i].flags & TL_ENTRY_CONTROL) {
        kept->events--;
        return;
    }
    kept->msgs--;
    for (int kind = 0; kind < TL_LANE_N; kind++) {
        if (!log->lanes[kind])
            continue;
        seg = find(log->lanes[kind], idx, &i);
        kept->bytes[kind] -= seg->entries[i].end - tl_segment_start(seg, i);
    }
}

static bool is_held(const struct tl_log *log, uint64_t now_ms)
{
    return log->follow && now_ms < log->follow->held.until_ms;
}

static bool is_too_old(const struct tl_log *log, uint64_t idx, uint64_t now_ms)
{
    uint32_t i;
    if (is_held(log, now_ms))
        return false;
    const struct tl_segment *seg = find(&log->ws, idx, &i);
    uint64_t time_ms = seg->base_ms + seg->entries[i].time_ms;
    return now_ms > time_ms && now_ms - time_ms > log->limits->age_max_ms;
}

static bool is_due(const struct tl_log *log, uint64_t idx, const struct kept *kept, uint64_t now_ms)
{
    bool held = is_held(log, now_ms);
    for (int kind = 0; kind < TL_LANE_N; kind++)
        if (kept->bytes[kind] > log->limits->bytes_max + (held ? log->follow->held.bytes : 0))
            return true;
    return kept->msgs > log->limits->msgs_max + (held ? log->follow->held.msgs : 0) ||
           kept->events > TL_LOG_EVENTS_MAX || is_too_old(log, idx, now_ms);
}

/* The tail never passes that entry: the newest message, or, if there is none within reach, the
 * newest event. */
static uint64_t last_idx(const struct tl_log *log)
{
    if (log->head.msg > log->tail.msg && log->head.idx - 1 - log->newest_idx <= TL_LOG_EVENTS_MAX)
        return log->newest_idx;
    return log->head.idx - (log->head.idx > log->tail.idx);
}

uint64_t tl_log_evict(struct tl_log *log, uint64_t now_ms)
{
    uint64_t idx = log->tail.idx, last = last_idx(log);
    struct kept kept = kept_of(log);
    for (; idx < last && is_due(log, idx, &kept, now_ms); idx++)
        take_off(log, idx, &kept);
    return idx > log->tail.idx ? trim(log, idx) : 0;
}

bool tl_log_is_evictable(const struct tl_log *log)
{
    return log->tail.idx < last_idx(log);
}

uint64_t tl_log_evict_half(struct tl_log *log)
{
    uint64_t idx = log->tail.idx + (log->head.idx - log->tail.idx) / 2, last = last_idx(log);
    idx = idx < last ? idx : last;
    return idx > log->tail.idx ? trim(log, idx) : 0;
}

/* Encode the kept entry at the segment's i into the new lane. */
static int reencode(struct tl_log *log, struct tl_lane *lane, const struct tl_segment *seg,
                    uint32_t i, struct tl_mark base)
{
    struct tl_lane_item item;
    char token[TL_POSITION_TEXT_MAX], text[TL_SEQUENCE_TEXT_MAX];
    tl_lane_ws_decode(seg, i, log->name_line && seg->entries[i].name_n > 0, &item);
    /* Before epoch_idx the epoch was another one, that nobody can resume from any more. */
    struct tl_position after = {.epoch = log->epoch, .idx = base.idx + 1};
    if (log->follow) {
        item.tag = item.name;
        item.name = tl_bytes(NULL, 0);
        after =
            tl_follow_position(&log->follow->marks, base.msg + 1, tl_entry_id_of_tag(item.tag.p));
    }
    if (base.idx < log->epoch_idx)
        after.epoch = 0;
    item.position = tl_bytes(token, tl_position_print(after, token));
    if (lane->kind == TL_LANE_SSE_TAGGED) {
        struct tl_sequence sequence = {log->sequence->epoch, item.seq};
        item.number = tl_bytes(text, tl_sequence_print(sequence, log->label, text));
    }
    uint64_t now_ms = seg->base_ms + seg->entries[i].time_ms;
    int r = tl_lane_reserve(lane, &item, base, now_ms);
    if (r == 0)
        tl_lane_append(lane, &item, now_ms);
    return r;
}

static int reencode_kept(struct tl_log *log, struct tl_lane *lane)
{
    const struct tl_chain *chain = &log->ws.chain;
    struct tl_mark at = log->tail;
    for (uint32_t s = 0; s < chain->n; s++) {
        const struct tl_segment *seg = tl_chain_at(chain, s);
        for (uint32_t i = 0; i < seg->entries_n; i++) {
            if (seg->base.idx + i < log->tail.idx)
                continue;
            int r = reencode(log, lane, seg, i, at);
            if (r < 0)
                return r;
            at.idx++;
            at.msg += !(seg->entries[i].flags & TL_ENTRY_CONTROL);
        }
    }
    assert(at.idx == log->head.idx && at.msg == log->head.msg);
    return 0;
}

int tl_log_lane_open(struct tl_log *log, enum tl_lane_kind kind)
{
    assert(kind != TL_LANE_SSE_TAGGED || log->sequence);
    if (log->lanes[kind])
        return 0;
    /* Cursors of a lane's earlier life are gone with its subscribers; offsets may start anew. */
    struct tl_lane *lane = tl_alloc(sizeof *lane);
    if (!lane)
        return -ENOMEM;
    tl_lane_init(lane, kind);
    if (log->follow)
        lane->head_off = lane->tail_off = TL_FOLLOW_BASE_OFF;
    int r = reencode_kept(log, lane);
    if (r < 0) {
        tl_lane_deinit(lane);
        tl_free(lane);
        return r;
    }
    lane->on = true;
    log->lanes[kind] = lane;
    log->bytes = lane_bytes(log);
    return 0;
}

void tl_log_lane_close(struct tl_log *log, enum tl_lane_kind kind)
{
    if (kind == TL_LANE_WS)
        return;
    drop_lane(log, kind);
    log->bytes = lane_bytes(log);
}
