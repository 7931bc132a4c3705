#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Partner: tests set these before the code under test runs; the order does not matter. */
static _Atomic bool injecting;
static _Atomic int64_t skip_left, fail_left;
static _Atomic uint64_t asked;

static bool refused(void)
{
    if (!atomic_load_explicit(&injecting, memory_order_relaxed))
        return false;
    atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&skip_left, 1, memory_order_relaxed) > 0)
        return false;
    int64_t left = atomic_load_explicit(&fail_left, memory_order_relaxed);
    if (left < 0)
        return true;
    return left > 0 && atomic_fetch_sub_explicit(&fail_left, 1, memory_order_relaxed) > 0;
}

void *tl_alloc(size_t n)
{
    return refused() ? NULL : malloc(n);
}

void *tl_zalloc(size_t n)
{
    return refused() ? NULL : calloc(1, n);
}

void *tl_realloc(void *p, size_t n)
{
    return refused() ? NULL : realloc(p, n);
}

uint8_t *tl_alloc_copy(struct tl_bytes bytes)
{
    uint8_t *copy = tl_alloc(bytes.n + 1);
    if (!copy)
        return NULL;
    if (bytes.n > 0)
        memcpy(copy, bytes.p, bytes.n);
    copy[bytes.n] = 0;
    return copy;
}

void tl_free(void *p)
{
    free(p);
}

uint64_t tl_alloc_fail(int64_t skip, int64_t count)
{
    atomic_store(&skip_left, skip);
    atomic_store(&fail_left, count);
    atomic_store(&injecting, skip != 0 || count != 0);
    return atomic_exchange(&asked, 0);
}
