/*
 * Random numbers: from the kernel where they must not be guessed (epochs, the hash seed), from a
 * cheap generator where they only spread things (jitter).
 */
#ifndef TL_BASE_RANDOM_H
#define TL_BASE_RANDOM_H

#include "base/bytes.h"

/* 64 random bits from getrandom(2); waits only in the first moments after boot. Any thread. */
uint64_t tl_random_u64(void);

/* The process' hash seed, drawn once. Any thread. */
uint64_t tl_random_seed(void);

/* A number in [0, n), n > 0, for jitter only. Any thread. */
uint32_t tl_random_below(uint32_t n);

#endif
