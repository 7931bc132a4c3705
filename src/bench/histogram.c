#include "bench/histogram.h"

#define STEPS_N   (1u << TL_HISTOGRAM_STEP_BITS)
#define VALUE_MAX ((UINT64_C(1) << TL_HISTOGRAM_VALUE_BITS) - 1)

/* The first STEPS_N values have a bucket each; from there on each octave has STEPS_N. */
static uint32_t bucket_of(uint64_t ns)
{
    if (ns < STEPS_N)
        return (uint32_t)ns;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(ns) - TL_HISTOGRAM_STEP_BITS;
    return (shift << TL_HISTOGRAM_STEP_BITS) + (uint32_t)(ns >> shift);
}

/* The largest value of a bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < 2 * STEPS_N)
        return bucket;
    uint32_t shift = (bucket >> TL_HISTOGRAM_STEP_BITS) - 1;
    uint64_t step = (bucket & (STEPS_N - 1)) + STEPS_N;
    return ((step + 1) << shift) - 1;
}

void tl_histogram_add(struct tl_histogram *h, uint64_t ns)
{
    h->n++;
    h->sum_ns += ns;
    if (ns > h->max_ns)
        h->max_ns = ns;
    h->buckets[bucket_of(ns < VALUE_MAX ? ns : VALUE_MAX)]++;
}

void tl_histogram_merge(struct tl_histogram *h, const struct tl_histogram *other)
{
    h->n += other->n;
    h->sum_ns += other->sum_ns;
    if (other->max_ns > h->max_ns)
        h->max_ns = other->max_ns;
    for (uint32_t i = 0; i < TL_HISTOGRAM_BUCKETS_N; i++)
        h->buckets[i] += other->buckets[i];
}

uint64_t tl_histogram_at(const struct tl_histogram *h, double share)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < TL_HISTOGRAM_BUCKETS_N; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] > 0 && (double)seen >= share * (double)h->n) {
            uint64_t end = bucket_end(i);
            return end < h->max_ns ? end : h->max_ns;
        }
    }
    return h->max_ns;
}
