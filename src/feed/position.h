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
 *
 * Of a client with several channels, "<16 hex digits>-<decimal>@<channel>": the number of an entry
 * in the sequence of all that this process appended, whatever the channel, and the channel that the
 * event is of. Whoever has it has all of its channels up to there. The epoch is random for each
 * process. Before it is known up to where it has them, an event carries the tag alone,
 * "@<channel>": that is no position.
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

/* The sequence of all appends of a process, and how far it is. */
struct tl_sequence {
    uint64_t epoch; /* never 0 */
    uint64_t at;    /* the last number that was given */
};

#define TL_SEQUENCE_TEXT_MAX (39 + 3 * 255) /* 16 + 1 + 20 + 1, the channel and a NUL */

/*
 * Writes the token and a NUL; returns its length. name: 0 to 255 bytes; all of it but letters,
 * digits and `-._~` is percent-encoded, so that headers, JavaScript and URLs carry it, and the name
 * is what stands behind the one `@`.
 */
size_t tl_sequence_print(struct tl_sequence sequence, struct tl_bytes name,
                         char out[TL_SEQUENCE_TEXT_MAX]);

/* The same without a number. */
size_t tl_sequence_print_tag(struct tl_bytes name, char out[TL_SEQUENCE_TEXT_MAX]);

/* Is it such a tag? */
static inline bool tl_sequence_is_tag(struct tl_bytes text)
{
    return text.n > 0 && text.p[0] == '@';
}

/* False for what tl_sequence_print() does not make; what follows the `@` is not looked at. */
TL_MUST_USE bool tl_sequence_parse(struct tl_bytes text, struct tl_sequence *ret_sequence);

/* Writes the token and a NUL; returns its length. */
size_t tl_position_print(struct tl_position position, char out[TL_POSITION_TEXT_MAX]);

/* False for anything that tl_position_print() does not make. */
TL_MUST_USE bool tl_position_parse(struct tl_bytes text, struct tl_position *ret_position);

#endif
