#include "base/random.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

static uint64_t seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static _Thread_local uint64_t jitter;

uint64_t tl_random_u64(void)
{
    uint64_t v;
    ssize_t n;
    do {
        n = getrandom(&v, sizeof v, 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof v)
        abort(); /* a kernel without getrandom: nothing unguessable can be had */
    return v;
}

static void draw_seed(void)
{
    seed = tl_random_u64();
}

uint64_t tl_random_seed(void)
{
    pthread_once(&seed_once, draw_seed);
    return seed;
}

uint32_t tl_random_below(uint32_t n)
{
    assert(n > 0);
    if (jitter == 0)
        jitter = tl_random_u64() | 1;
    jitter ^= jitter << 13; /* xorshift64, Marsaglia 2003 */
    jitter ^= jitter >> 7;
    jitter ^= jitter << 17;
    return (uint32_t)((jitter >> 32) * n >> 32);
}
