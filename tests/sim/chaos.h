/*
 * What happens in a world: a number of steps by the dice, and then a rest in which everything that
 * was promised must come true.
 */
#ifndef TESTS_SIM_CHAOS_H
#define TESTS_SIM_CHAOS_H

#include "sim.h"

/* One world from that seed, from its beginning to its end. Returns how many steps it took. */
uint32_t chaos_run(uint64_t seed);

#endif
