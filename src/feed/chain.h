/*
 * A chain of consecutive segments, each held by a reference: what a lane is made of, and what a
 * worker's view keeps of it. It knows where segments begin; where the last one ends is told by the
 * caller's head mark.
 */
#ifndef TL_FEED_CHAIN_H
#define TL_FEED_CHAIN_H

#include "feed/segment.h"

struct tl_chain {
    struct tl_segment **segs; /* segs[first .. first + n) */
    uint32_t first, n, cap;
};

/* Take over one reference of seg as the last one. 0, or -ENOMEM (the reference stays the
 * caller's). */
TL_MUST_USE int tl_chain_push(struct tl_chain *chain, struct tl_segment *seg);

/* Take the first segment off, with its reference, or NULL. */
struct tl_segment *tl_chain_pop(struct tl_chain *chain);

/* Unref all and free the array. */
void tl_chain_deinit(struct tl_chain *chain);

static inline struct tl_segment *tl_chain_at(const struct tl_chain *chain, uint32_t i)
{
    return chain->segs[chain->first + i];
}

static inline struct tl_segment *tl_chain_last(const struct tl_chain *chain)
{
    return chain->n ? tl_chain_at(chain, chain->n - 1) : NULL;
}

/* The last i whose segment begins at or before lane offset off / entry idx. The chain is not empty
 * and begins there or before. */
uint32_t tl_chain_find_off(const struct tl_chain *chain, uint64_t off);
uint32_t tl_chain_find_idx(const struct tl_chain *chain, uint64_t idx);

/* The mark at the border before entry idx, tail <= idx <= head. */
struct tl_mark tl_chain_mark(const struct tl_chain *chain, uint64_t idx, struct tl_mark head);

#endif
