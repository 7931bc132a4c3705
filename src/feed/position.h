/*
 * A position as clients see it: one opaque token of an epoch and a place in it, safe in URLs, SSE
 * ids and JavaScript strings.
 *
 * Of a log, "<16 hex digits>-<decimal>": the epoch is random for each incarnation of the log, and
 * the place counts the entries before it, so a client that has position P is sent what follows from
 * entry P.idx on.
 *
 * Of a stream, "<16 hex digits>-<decimal>-<ms>-<seq>", the same on every gateway: the id of the
 * entry that the client has, and how many had ever been added with it. What proves that nothing was
 * missed is that very entry, found again in the log or in Redis; the epoch, which the key's name
 * and the server process make, says that the counts of two positions may be compared.
 */
#ifndef TL_FEED_POSITION_H
#define TL_FEED_POSITION_H

#include "feed/entry_id.h"

struct tl_position {
    uint64_t epoch;        /* never 0 */
    uint64_t idx;          /* of a stream: entries that were ever added */
    bool of_stream;        /* then: */
    struct tl_entry_id id; /* the entry that it stands behind */
    uint64_t id_idx;       /* its idx: a client that counts may be (idx - id_idx) entries further */
};

#define TL_POSITION_TEXT_MAX (38 + TL_ENTRY_ID_TEXT_MAX) /* 16 + 1 + 20 + 1, the id and a NUL */

/* Writes the token and a NUL; returns its length. */
size_t tl_position_print(struct tl_position position, char out[TL_POSITION_TEXT_MAX]);

/* False for anything that tl_position_print() does not make. */
TL_MUST_USE bool tl_position_parse(struct tl_bytes text, struct tl_position *ret_position);

#endif
