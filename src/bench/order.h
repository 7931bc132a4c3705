/*
 * What one subscriber of one channel has received: every number from 0 on must come once and in
 * order. Tells apart what is missing, what comes twice and what comes late, with a memory of
 * TL_ORDER_MEMORY numbers: what is older counts as a duplicate. Allocates nothing; zeroed memory
 * has seen nothing.
 */
#ifndef TL_BENCH_ORDER_H
#define TL_BENCH_ORDER_H

#include "base/bytes.h"

enum { TL_ORDER_MEMORY = 1024 };

struct tl_order {
    uint32_t next;                       /* the number that must come */
    uint64_t seen[TL_ORDER_MEMORY / 64]; /* a ring of bits: which of those before it came */
};

enum tl_order_verdict {
    TL_ORDER_NEXT,      /* as it should be */
    TL_ORDER_GAP,       /* some are missing before it (for now) */
    TL_ORDER_LATE,      /* one that was missing */
    TL_ORDER_DUPLICATE, /* it came before */
};

/* Take a number. *ret_missing: GAP: how many were left out; else 0. */
enum tl_order_verdict tl_order_take(struct tl_order *order, uint32_t number, uint32_t *ret_missing);

#endif
