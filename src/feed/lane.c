#include "feed/lane.h"

#include "proto/sse.h"
#include "proto/ws.h"

#include <assert.h>
#include <errno.h>

/* A segment and its struct fit 512 bytes at first; later ones hold 64 KiB. */
#define SEGMENT_BYTES_MIN 304
#define SEGMENT_BYTES_MAX 65536
/* Segments larger than about this only where the lane keeps as much: a retained one costs all of
 * its memory for its last message. */
#define SEGMENT_BYTES_SMALL 2048
/* Entries for messages of about this size, header included; with smaller ones a segment is full
 * before its bytes are. */
#define ENTRY_BYTES 48

void tl_lane_init(struct tl_lane *lane, enum tl_lane_kind kind)
{
    *lane = (struct tl_lane){.kind = kind, .next_cap = SEGMENT_BYTES_MIN};
}

void tl_lane_deinit(struct tl_lane *lane)
{
    struct tl_segment *seg;
    while ((seg = tl_chain_pop(&lane->chain)))
        tl_segment_retire(seg);
    tl_chain_deinit(&lane->chain);
    lane->on = false;
}

static size_t ws_payload_n(const struct tl_lane_item *item)
{
    return item->payload.n + (item->name_line ? tl_sse_name_encode(item->name, NULL) + 1 : 0);
}

static enum tl_ws_opcode ws_opcode(const struct tl_lane_item *item)
{
    return item->flags & TL_ENTRY_BINARY ? TL_WS_BINARY : TL_WS_TEXT;
}

/* In the tagged lane the id is written before the event. */
static struct tl_sse_event sse_event(const struct tl_lane *lane, const struct tl_lane_item *item)
{
    return (struct tl_sse_event){
        .id = lane->kind == TL_LANE_SSE ? item->position : tl_bytes(NULL, 0),
        .event = item->name,
        .payload = item->payload,
        .payload_is_text = !(item->flags & TL_ENTRY_BINARY),
    };
}

/* The id line that goes before an event as it is; or nothing. */
static struct tl_bytes own_id(const struct tl_lane *lane, const struct tl_lane_item *item)
{
    if (lane->kind == TL_LANE_SSE_TAGGED)
        return item->number;
    return item->flags & TL_ENTRY_CONTROL ? item->position : tl_bytes(NULL, 0);
}

static size_t id_line_n(struct tl_bytes id)
{
    return id.n > 0 ? sizeof "id: \n" - 1 + id.n : 0;
}

static uint8_t *id_line_write(struct tl_bytes id, uint8_t *out)
{
    if (id.n == 0)
        return out;
    memcpy(out, "id: ", 4);
    memcpy(out + 4, id.p, id.n);
    out[4 + id.n] = '\n';
    return out + id_line_n(id);
}

size_t tl_lane_encoded_size(const struct tl_lane *lane, const struct tl_lane_item *item)
{
    bool is_control = item->flags & TL_ENTRY_CONTROL;
    if (is_control && (lane->kind == TL_LANE_WS || item->control.n == 0))
        return 0;
    if (lane->kind == TL_LANE_WS)
        return tl_ws_header_size(ws_payload_n(item)) + ws_payload_n(item);
    size_t id_n = id_line_n(own_id(lane, item));
    if (is_control)
        return id_n + item->control.n;
    struct tl_sse_event event = sse_event(lane, item);
    return id_n + tl_sse_event_size(&event);
}

static void ws_write(const struct tl_lane_item *item, uint8_t *out)
{
    out += tl_ws_header(out, ws_opcode(item), ws_payload_n(item));
    if (item->name_line) {
        out += tl_sse_name_encode(item->name, out); /* so that no name can hold the line's end */
        *out++ = '\n';
    }
    if (item->payload.n > 0)
        memcpy(out, item->payload.p, item->payload.n);
}

static void encode(const struct tl_lane *lane, const struct tl_lane_item *item, uint8_t *out,
                   size_t out_n)
{
    if (out_n == 0)
        return;
    if (lane->kind == TL_LANE_WS) {
        ws_write(item, out);
        return;
    }
    out = id_line_write(own_id(lane, item), out);
    if (item->flags & TL_ENTRY_CONTROL) {
        memcpy(out, item->control.p, item->control.n);
        return;
    }
    struct tl_sse_event event = sse_event(lane, item);
    tl_sse_event_write(&event, out);
}

static uint64_t kept_bytes(const struct tl_lane *lane)
{
    return lane->head_off - lane->tail_off;
}

/* What was right for a burst is too much for the calm after it. */
static uint32_t shrunk_cap(const struct tl_lane *lane)
{
    uint32_t cap = lane->next_cap;
    while (cap > SEGMENT_BYTES_SMALL && kept_bytes(lane) < cap / 4)
        cap /= 2;
    return cap;
}

static uint32_t grown_cap(const struct tl_lane *lane, uint32_t cap)
{
    if (cap > SEGMENT_BYTES_SMALL && kept_bytes(lane) < cap)
        return cap;
    return cap >= SEGMENT_BYTES_MAX / 2 ? SEGMENT_BYTES_MAX : cap * 2;
}

/* When an entry was appended, and as the how-manieth of the process. */
struct stamp {
    uint64_t now_ms, seq;
};

/* Entries count milliseconds and numbers since their segment's first one in 32 bits. */
static bool can_take(const struct tl_segment *seg, size_t n, size_t name_n, struct stamp stamp)
{
    return tl_segment_fits(seg, n, name_n) && stamp.now_ms <= seg->base_ms + UINT32_MAX &&
           (seg->entries_n == 0 ||
            (stamp.seq >= seg->base_seq && stamp.seq - seg->base_seq <= UINT32_MAX));
}

/* What a segment keeps beside the encoding. Only the WebSocket lane is ever decoded again, so only
 * it keeps names. */
static struct tl_bytes kept_name(const struct tl_lane *lane, const struct tl_lane_item *item)
{
    if (item->tag.n > 0)
        return item->tag;
    return lane->kind == TL_LANE_WS ? item->name : tl_bytes(NULL, 0);
}

/* Room for an encoding of n bytes with a name of name_n. */
static int reserve(struct tl_lane *lane, size_t n, size_t name_n, struct tl_mark base,
                   struct stamp stamp)
{
    struct tl_segment *last = tl_chain_last(&lane->chain);
    if (last && can_take(last, n, name_n, stamp))
        return 0;
    if (n + name_n > UINT32_MAX / 2)
        return -EMSGSIZE;
    uint32_t cap = shrunk_cap(lane);
    bool oversize = n + name_n > cap;
    if (oversize && cap < SEGMENT_BYTES_MAX && n + name_n <= SEGMENT_BYTES_MAX / 2) {
        while (cap < n + name_n)
            cap *= 2;
        oversize = false;
    }
    if (oversize)
        cap = (uint32_t)(n + name_n);
    base.off = lane->head_off;
    struct tl_segment *seg =
        tl_segment_new(cap, oversize ? 1 : cap / ENTRY_BYTES, base, stamp.now_ms);
    if (!seg)
        return -ENOMEM;
    if (tl_chain_push(&lane->chain, seg) < 0) {
        tl_segment_unref(seg);
        return -ENOMEM;
    }
    if (!oversize)
        lane->next_cap = grown_cap(lane, cap);
    return 0;
}

int tl_lane_reserve(struct tl_lane *lane, const struct tl_lane_item *item, struct tl_mark base,
                    uint64_t now_ms)
{
    return reserve(lane, tl_lane_encoded_size(lane, item), kept_name(lane, item).n, base,
                   (struct stamp){now_ms, item->seq});
}

void tl_lane_append(struct tl_lane *lane, const struct tl_lane_item *item, uint64_t now_ms)
{
    size_t n = tl_lane_encoded_size(lane, item);
    struct tl_segment *seg = tl_chain_last(&lane->chain);
    uint8_t *at = tl_segment_add(seg, n, kept_name(lane, item), item->flags, now_ms);
    tl_segment_number(seg, item->seq);
    encode(lane, item, at, n);
    lane->head_off += n;
    if (item->flags & TL_ENTRY_CONTROL && n > 0) {
        lane->events_bytes += n;
        lane->events.last_off = lane->head_off;
    }
}

static uint32_t entry_n(const struct tl_segment *seg, uint32_t i)
{
    return seg->entries[i].end - tl_segment_start(seg, i);
}

int tl_lane_reserve_copy(struct tl_lane *lane, const struct tl_segment *seg, uint32_t i,
                         struct tl_mark base)
{
    return reserve(lane, entry_n(seg, i), seg->entries[i].name_n, base,
                   (struct stamp){seg->base_ms + seg->entries[i].time_ms, tl_segment_seq(seg, i)});
}

void tl_lane_append_copy(struct tl_lane *lane, const struct tl_segment *seg, uint32_t i)
{
    const struct tl_entry *entry = &seg->entries[i];
    uint32_t n = entry_n(seg, i);
    struct tl_segment *last = tl_chain_last(&lane->chain);
    uint8_t *at = tl_segment_add(last, n, tl_bytes(seg->bytes + entry->name_at, entry->name_n),
                                 entry->flags, seg->base_ms + entry->time_ms);
    tl_segment_number(last, tl_segment_seq(seg, i));
    if (n > 0)
        memcpy(at, seg->bytes + tl_segment_start(seg, i), n);
    lane->head_off += n;
}

static void drop_event(struct tl_lane *lane, const struct tl_segment *seg, uint32_t i)
{
    uint64_t end_off = seg->base.off + seg->entries[i].end;
    uint8_t flags = seg->entries[i].flags;
    lane->events_bytes -= entry_n(seg, i);
    if (flags & TL_ENTRY_GAP)
        lane->events.gap_off = end_off;
    if (flags & (TL_ENTRY_DOWN | TL_ENTRY_UP)) {
        lane->events.broker_off = end_off;
        lane->events.is_down = flags & TL_ENTRY_DOWN;
    }
}

void tl_lane_drop_events(struct tl_lane *lane, uint64_t from, uint64_t to)
{
    uint64_t at = from;
    for (uint32_t s = tl_chain_find_idx(&lane->chain, at); at < to; s++) {
        const struct tl_segment *seg = tl_chain_at(&lane->chain, s);
        for (uint32_t i = (uint32_t)(at - seg->base.idx); i < seg->entries_n && at < to; i++, at++)
            if (seg->entries[i].flags & TL_ENTRY_CONTROL && entry_n(seg, i) > 0)
                drop_event(lane, seg, i);
    }
}

void tl_lane_trim(struct tl_lane *lane, struct tl_mark tail)
{
    assert(tail.off <= lane->head_off && tail.off >= lane->tail_off);
    lane->tail_off = tail.off;
    while (lane->chain.n > 1 && tl_chain_at(&lane->chain, 1)->base.idx <= tail.idx)
        tl_segment_retire(tl_chain_pop(&lane->chain));
}

void tl_lane_ws_decode(const struct tl_segment *seg, uint32_t i, bool name_line,
                       struct tl_lane_item *ret_item)
{
    const struct tl_entry *entry = &seg->entries[i];
    *ret_item = (struct tl_lane_item){
        .name = tl_bytes(seg->bytes + entry->name_at, entry->name_n),
        .flags = entry->flags,
        .name_line = name_line,
        .seq = tl_segment_seq(seg, i),
    };
    if (entry->flags & TL_ENTRY_CONTROL)
        return;
    const uint8_t *frame = seg->bytes + tl_segment_start(seg, i);
    size_t skip = frame[1] < 126 ? 2 : frame[1] == 126 ? 4 : 10; /* RFC 6455 5.2 */
    if (name_line)
        skip += tl_sse_name_encode(ret_item->name, NULL) + 1;
    ret_item->payload = tl_bytes(frame + skip, (size_t)(seg->bytes + entry->end - frame) - skip);
}
