#include "feed/chain.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>

#define CAP_MIN 2

static int make_room(struct tl_chain *chain)
{
    if (chain->first + chain->n < chain->cap)
        return 0;
    if (chain->first > 0 && chain->first >= chain->cap / 2) {
        memmove(chain->segs, chain->segs + chain->first, chain->n * sizeof(struct tl_segment *));
        chain->first = 0;
        return 0;
    }
    uint32_t cap = chain->cap ? chain->cap * 2 : CAP_MIN;
    struct tl_segment **segs = tl_realloc(chain->segs, cap * sizeof(struct tl_segment *));
    if (!segs)
        return -ENOMEM;
    chain->segs = segs;
    chain->cap = cap;
    return 0;
}

int tl_chain_push(struct tl_chain *chain, struct tl_segment *seg)
{
    if (make_room(chain) < 0)
        return -ENOMEM;
    chain->segs[chain->first + chain->n++] = seg;
    return 0;
}

struct tl_segment *tl_chain_pop(struct tl_chain *chain)
{
    if (chain->n == 0)
        return NULL;
    struct tl_segment *seg = chain->segs[chain->first++];
    if (--chain->n == 0)
        chain->first = 0;
    return seg;
}

void tl_chain_deinit(struct tl_chain *chain)
{
    struct tl_segment *seg;
    while ((seg = tl_chain_pop(chain)))
        tl_segment_unref(seg);
    tl_free(chain->segs);
    *chain = (struct tl_chain){0};
}

uint32_t tl_chain_find_off(const struct tl_chain *chain, uint64_t off)
{
    assert(chain->n > 0 && tl_chain_at(chain, 0)->base.off <= off);
    uint32_t low = 0, high = chain->n - 1; /* the answer is in [low, high] */
    if (tl_chain_at(chain, high)->base.off <= off)
        return high; /* nearly every cursor stands in the newest segment */
    while (low < high) {
        uint32_t mid = low + (high - low + 1) / 2;
        if (tl_chain_at(chain, mid)->base.off <= off)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

uint32_t tl_chain_find_idx(const struct tl_chain *chain, uint64_t idx)
{
    assert(chain->n > 0 && tl_chain_at(chain, 0)->base.idx <= idx);
    uint32_t low = 0, high = chain->n - 1;
    while (low < high) {
        uint32_t mid = low + (high - low + 1) / 2;
        if (tl_chain_at(chain, mid)->base.idx <= idx)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

struct tl_mark tl_chain_mark(const struct tl_chain *chain, uint64_t idx, struct tl_mark head)
{
    assert(idx <= head.idx);
    if (idx == head.idx)
        return head;
    const struct tl_segment *seg = tl_chain_at(chain, tl_chain_find_idx(chain, idx));
    uint32_t i = (uint32_t)(idx - seg->base.idx);
    return (struct tl_mark){
        .off = seg->base.off + tl_segment_start(seg, i),
        .idx = idx,
        .msg = seg->base.msg + tl_segment_messages(seg, i),
    };
}
