#include "bench/pace.h"

static uint64_t scheduled_ns(const struct tl_pace *p)
{
    uint64_t first_of_burst = p->published - p->published % p->burst;
    return p->start_ns + (uint64_t)((double)first_of_burst * 1e9 / (double)p->rate);
}

/* A burst that has begun is finished, whatever the time. */
static bool in_burst(const struct tl_pace *p)
{
    return p->published % p->burst != 0;
}

bool tl_pace_is_over(const struct tl_pace *p, uint64_t now_ns)
{
    if (p->messages_max > 0 && p->published >= p->messages_max)
        return true;
    if (p->duration_ns == 0 || in_burst(p))
        return false;
    return (p->rate > 0 ? scheduled_ns(p) : now_ns) >= p->start_ns + p->duration_ns;
}

uint64_t tl_pace_next_ns(const struct tl_pace *p, uint64_t now_ns)
{
    if (tl_pace_is_over(p, now_ns))
        return TL_PACE_NEVER;
    if (p->rate > 0)
        return scheduled_ns(p);
    if (in_burst(p) || p->published - p->done + p->burst <= p->window)
        return now_ns;
    return TL_PACE_NEVER;
}
