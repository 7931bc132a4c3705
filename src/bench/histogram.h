/*
 * A histogram of durations of fixed size: 64 steps an octave, so that any value is told within
 * 1.6 %, from one nanosecond to eighteen minutes (what is longer counts as that). Adding is a few
 * instructions and allocates nothing; two histograms add up. Zeroed memory is an empty one. One
 * writer; it may lie in memory that processes share.
 */
#ifndef TL_BENCH_HISTOGRAM_H
#define TL_BENCH_HISTOGRAM_H

#include "base/bytes.h"

enum {
    TL_HISTOGRAM_STEP_BITS = 6,
    TL_HISTOGRAM_VALUE_BITS = 40,
    TL_HISTOGRAM_BUCKETS_N = (TL_HISTOGRAM_VALUE_BITS - TL_HISTOGRAM_STEP_BITS + 1)
                             << TL_HISTOGRAM_STEP_BITS,
};

struct tl_histogram {
    uint64_t n, sum_ns, max_ns;
    uint64_t buckets[TL_HISTOGRAM_BUCKETS_N];
};

void tl_histogram_add(struct tl_histogram *h, uint64_t ns);

/* Add all of `other`. */
void tl_histogram_merge(struct tl_histogram *h, const struct tl_histogram *other);

/*
 * The smallest value that at least `share` (0..1) of all values do not exceed, rounded up to its
 * bucket's end and never over the maximum; 0 of an empty histogram.
 */
uint64_t tl_histogram_at(const struct tl_histogram *h, double share);

#endif
