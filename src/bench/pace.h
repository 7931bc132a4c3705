/*
 * When the next message goes out. Closed loop: so many are on their way, and the next follows when
 * all subscribers have the oldest. Open loop: by a schedule that nothing delays; what is behind it
 * goes out at once and keeps its scheduled time, so that waiting counts as latency. Pure: the time
 * is an argument.
 */
#ifndef TL_BENCH_PACE_H
#define TL_BENCH_PACE_H

#include "base/bytes.h"

struct tl_pace {
    /* Filled in by the caller. */
    uint64_t messages_max; /* 0: until the duration is over */
    uint64_t duration_ns;  /* 0: until all messages went out */
    uint64_t window;       /* closed loop: >= burst */
    uint64_t rate;         /* messages a second; 0: closed loop */
    uint64_t burst;        /* so many go together, >= 1 */
    uint64_t start_ns;
    /* Moved by the caller. */
    uint64_t published;
    uint64_t done; /* of them, all before the oldest that some subscriber lacks */
};

#define TL_PACE_NEVER UINT64_MAX

/* True when nothing more will be published. */
bool tl_pace_is_over(const struct tl_pace *p, uint64_t now_ns);

/*
 * When the next message goes out: <= now_ns: now, and that is its scheduled time; later; or
 * TL_PACE_NEVER: it waits for deliveries, or it is over.
 */
uint64_t tl_pace_next_ns(const struct tl_pace *p, uint64_t now_ns);

#endif
