/*
 * The simulation: a whole gateway of several workers in one thread, under a clock, a network, a
 * Redis and clients that are all simulated and driven by one seed. What this header has is what
 * every part needs: dice, time, the trace, and the end with a word why. One world at a time, so its
 * state is global; a seed alone decides everything that happens.
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "base/bytes.h"

struct sim {
    uint64_t seed;
    uint32_t step;
    uint64_t now_ms;
    bool trace;
    bool calm; /* nothing is cut short, late, lost or interrupted */
};
extern struct sim sim;

/* Everything anew, from that seed. */
void sim_start(uint64_t seed);

uint64_t sim_dice(void);
/* In [0, n), n > 0. */
uint32_t sim_below(uint32_t n);
/* In [from, to]. */
uint32_t sim_between(uint32_t from, uint32_t to);
bool sim_chance(uint32_t percent);

/* A line of the trace, if one is wanted. */
TL_PRINTF(1, 2) void sim_trace(const char *fmt, ...);
/* An invariant does not hold: says which, with the seed and the step, and ends the process. */
TL_PRINTF(1, 2) _Noreturn void sim_fail(const char *fmt, ...);
/* The same from a handler of a deadly signal. */
void sim_watch_signals(void);

/* Bytes that come in at the end and go out at the front. */
struct sim_pipe {
    uint8_t *p;
    size_t at, n, cap; /* the bytes are p[at..at + n) */
};
void sim_pipe_add(struct sim_pipe *pipe, struct tl_bytes bytes);
void sim_pipe_drop(struct sim_pipe *pipe, size_t n);
void sim_pipe_free(struct sim_pipe *pipe);
static inline struct tl_bytes sim_pipe_bytes(const struct sim_pipe *pipe)
{
    return tl_bytes(pipe->p + pipe->at, pipe->n);
}

#endif
