/*
 * A position as clients see it: one opaque token of a log's epoch and a place in it,
 * "<16 hex digits>-<decimal>", safe in URLs, SSE ids and JavaScript strings. The place counts the
 * entries before it, so a client that has position P is sent what follows from entry P.idx on.
 */
#ifndef TL_FEED_POSITION_H
#define TL_FEED_POSITION_H

#include "base/bytes.h"

struct tl_position {
    uint64_t epoch; /* random for each incarnation of a log, never 0 */
    uint64_t idx;
};

#define TL_POSITION_TEXT_MAX 38 /* 16 + 1 + 20, and a NUL */

/* Writes the token and a NUL; returns its length. */
size_t tl_position_print(struct tl_position position, char out[TL_POSITION_TEXT_MAX]);

/* False for anything that tl_position_print() does not make. */
TL_MUST_USE bool tl_position_parse(struct tl_bytes text, struct tl_position *ret_position);

#endif
