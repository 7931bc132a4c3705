#include "feed/segment.h"

#include "base/alloc.h"
#include "base/metrics.h"

#include <assert.h>

struct tl_segment *tl_segment_new(uint32_t bytes_cap, uint32_t entries_cap, struct tl_mark base,
                                  uint64_t base_ms)
{
    size_t head = sizeof(struct tl_segment) + (size_t)entries_cap * sizeof(struct tl_entry);
    struct tl_segment *seg = tl_alloc(head + bytes_cap);
    if (!seg)
        return NULL;
    *seg = (struct tl_segment){
        .entries_cap = entries_cap,
        .bytes_cap = bytes_cap,
        .base = base,
        .base_ms = base_ms,
        .bytes = (uint8_t *)seg + head,
    };
    atomic_init(&seg->refs, 1);
    return seg;
}

struct tl_segment *tl_segment_ref(struct tl_segment *seg)
{
    /* Relaxed: the caller holds a reference already. */
    uint32_t before = atomic_fetch_add_explicit(&seg->refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    return seg;
}

void tl_segment_unref(struct tl_segment *seg)
{
    /* Release: our reads are over. Acquire: so are those of all others, when we are the last.
     * Partner: itself in the other threads. (A fence only where it frees would do, but the race
     * checker does not see fences.) */
    if (!seg || atomic_fetch_sub_explicit(&seg->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (atomic_load_explicit(&seg->retired, memory_order_relaxed))
        tl_metric_add(TL_M_RETIRED_BYTES, -(int64_t)seg->bytes_cap);
    tl_free(seg);
}

void tl_segment_retire(struct tl_segment *seg)
{
    assert(!atomic_load_explicit(&seg->retired, memory_order_relaxed));
    atomic_store_explicit(&seg->retired, true, memory_order_relaxed);
    tl_metric_add(TL_M_RETIRED_BYTES, (int64_t)seg->bytes_cap);
    tl_segment_unref(seg);
}

bool tl_segment_fits(const struct tl_segment *seg, size_t encoded_n, size_t name_n)
{
    return seg->entries_n < seg->entries_cap &&
           encoded_n + name_n <= (size_t)seg->bytes_cap - seg->bytes_n - seg->names_n;
}

uint8_t *tl_segment_add(struct tl_segment *seg, size_t encoded_n, struct tl_bytes name,
                        uint8_t flags, uint64_t now_ms)
{
    assert(tl_segment_fits(seg, encoded_n, name.n) && name.n <= UINT8_MAX);
    uint8_t *at = seg->bytes + seg->bytes_n;
    seg->bytes_n += (uint32_t)encoded_n;
    seg->names_n += (uint32_t)name.n;
    uint32_t name_at = seg->bytes_cap - seg->names_n;
    if (name.n > 0)
        memcpy(seg->bytes + name_at, name.p, name.n);
    uint64_t since = now_ms > seg->base_ms ? now_ms - seg->base_ms : 0;
    seg->entries[seg->entries_n++] = (struct tl_entry){
        .end = seg->bytes_n,
        .time_ms = since > UINT32_MAX ? UINT32_MAX : (uint32_t)since,
        .name_at = name_at,
        .name_n = (uint8_t)name.n,
        .flags = flags,
    };
    return at;
}

void tl_segment_number(struct tl_segment *seg, uint64_t seq)
{
    if (seg->entries_n == 1)
        seg->base_seq = seq;
    assert(seq >= seg->base_seq && seq - seg->base_seq <= UINT32_MAX);
    seg->entries[seg->entries_n - 1].seq = (uint32_t)(seq - seg->base_seq);
}

uint32_t tl_segment_messages(const struct tl_segment *seg, uint32_t n)
{
    uint32_t msgs = 0;
    for (uint32_t i = 0; i < n; i++)
        msgs += !(seg->entries[i].flags & TL_ENTRY_CONTROL);
    return msgs;
}
