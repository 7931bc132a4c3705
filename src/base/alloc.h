/*
 * The allocator seam: malloc with a counter of failures to inject, so that tests can fail every
 * allocation in turn. All memory of the project goes through it, but for what libraries take.
 */
#ifndef TL_BASE_ALLOC_H
#define TL_BASE_ALLOC_H

#include "base/bytes.h"

/* Memory of n > 0 bytes, or NULL. Owner: the caller, until tl_free(). Any thread. */
TL_MUST_USE void *tl_alloc(size_t n);

/* The same, zeroed. */
TL_MUST_USE void *tl_zalloc(size_t n);

/* Resize as realloc() does; on NULL the old memory stays. */
TL_MUST_USE void *tl_realloc(void *p, size_t n);

/* A copy of the bytes with a NUL behind them (so that names can be printed), or NULL. */
TL_MUST_USE uint8_t *tl_alloc_copy(struct tl_bytes bytes);

/* Takes NULL. */
void tl_free(void *p);

/*
 * For tests: let the next `skip` allocations of the process pass and fail `count` after them
 * (count < 0: all that follow). tl_alloc_fail(0, 0) ends it. Returns how many allocations were
 * asked for since the last call.
 */
uint64_t tl_alloc_fail(int64_t skip, int64_t count);

#endif
