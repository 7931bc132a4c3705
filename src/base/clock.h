/*
 * The clocks. Deadlines use the monotonic one only, so a step of the wall clock moves nothing;
 * the wall clock stamps messages.
 */
#ifndef TL_BASE_CLOCK_H
#define TL_BASE_CLOCK_H

#include "base/bytes.h"

/* Milliseconds since some moment before the process started; never goes back. Any thread. */
uint64_t tl_clock_ms(void);

/* The same in nanoseconds. */
uint64_t tl_clock_ns(void);

/* Milliseconds since 1970 UTC. */
int64_t tl_clock_wall_ms(void);

#endif
