/*
 * Chance for the demo: the same state gives the same numbers everywhere. Not for secrets, and not
 * the jitter of base/random.h, which nobody wants to see twice.
 */
#ifndef TL_DEMO_DICE_H
#define TL_DEMO_DICE_H

#include <stdint.h>

/* The next number (splitmix64: Steele, Lea, Flood 2014). */
static inline uint64_t tl_dice_roll(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* A number in low..high, both ends included, high >= low. */
static inline int64_t tl_dice_between(uint64_t *state, int64_t low, int64_t high)
{
    return low + (int64_t)(tl_dice_roll(state) % (uint64_t)(high - low + 1));
}

#endif
