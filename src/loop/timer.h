/*
 * Timers in a hierarchical wheel: start, stop and expire in constant time and without allocating.
 * Pure: the time is an argument.
 */
#ifndef TL_LOOP_TIMER_H
#define TL_LOOP_TIMER_H

#include "base/list.h"

struct tl_timer {
    struct tl_list node;
    uint64_t due_ms;
    void (*fn)(struct tl_timer *timer);
};

#define TL_TIMER_LEVELS 6 /* 64^6 ms: 2 years; later deadlines are cut to that */
#define TL_TIMER_SLOTS  64

struct tl_timers {
    uint64_t now_ms;
    uint64_t busy[TL_TIMER_LEVELS]; /* a bit for each slot that may hold timers */
    struct tl_list slots[TL_TIMER_LEVELS][TL_TIMER_SLOTS];
};

void tl_timers_init(struct tl_timers *timers, uint64_t now_ms);
/* Must come before the first use of a timer. */
void tl_timer_init(struct tl_timer *timer, void (*fn)(struct tl_timer *));
/* (Re)start: fn runs at the first tl_timers_run() with now >= due. A due time in the past means the
 * next run. */
void tl_timer_start(struct tl_timers *timers, struct tl_timer *timer, uint64_t due_ms);
/* Takes a stopped timer too. May be called from any callback, for any timer, also one that is due
 * in this run. */
void tl_timer_stop(struct tl_timers *timers, struct tl_timer *timer);
bool tl_timer_is_started(const struct tl_timer *timer);
/* Run what is due at now_ms: due timers move to a private list before the first callback, so a
 * timer restarted from its own callback runs at the earliest in the next run. A clock that goes
 * back is ignored. */
void tl_timers_run(struct tl_timers *timers, uint64_t now_ms);
/* Milliseconds from now_ms until the wheel has work (0: now; may be earlier than the first timer,
 * never later), or UINT64_MAX without timers. */
uint64_t tl_timers_wait_ms(const struct tl_timers *timers, uint64_t now_ms);

#endif
