/*
 * The ids of a Redis stream's entries, and what a log that follows a stream knows of it. Pure; how
 * a stream is read is the broker's affair.
 */
#ifndef TL_FEED_ENTRY_ID_H
#define TL_FEED_ENTRY_ID_H

#include "base/bytes.h"

/* "<ms>-<seq>": ids grow along a stream, and no entry has 0-0. */
struct tl_entry_id {
    uint64_t ms, seq;
};

#define TL_ENTRY_ID_TAG_N    16 /* bytes of an id as segments keep it */
#define TL_ENTRY_ID_TEXT_MAX 42 /* 20 + 1 + 20, and a NUL */

/* -1, 0 or 1. */
static inline int tl_entry_id_cmp(struct tl_entry_id a, struct tl_entry_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.seq == b.seq ? 0 : a.seq < b.seq ? -1 : 1;
}

/* The greatest id below; 0-0 of 0-0. */
struct tl_entry_id tl_entry_id_before(struct tl_entry_id id);

void tl_entry_id_tag(struct tl_entry_id id, uint8_t out[TL_ENTRY_ID_TAG_N]);
/* The least id behind it; of the greatest there is, itself. */
struct tl_entry_id tl_entry_id_after(struct tl_entry_id id);

/* What tl_entry_id_tag() made. */
struct tl_entry_id tl_entry_id_of_tag(const uint8_t *tag);

/* Writes "<ms>-<seq>" and a NUL; returns its length. */
size_t tl_entry_id_print(struct tl_entry_id id, char out[TL_ENTRY_ID_TEXT_MAX]);
/* False for anything that is not two decimal numbers of 64 bits with a dash between. */
TL_MUST_USE bool tl_entry_id_parse(struct tl_bytes text, struct tl_entry_id *ret_id);
/* One such number as it is printed: no sign, no leading zeros; it fits into 64 bits. False for
 * anything else. */
TL_MUST_USE bool tl_entry_id_decimal(struct tl_bytes text, uint64_t *ret_v);

/*
 * Where reading stands in a stream. `added` is Redis' entries-added once the entry was added: a
 * count of all that were, the same for every reader. epoch: of the stream's positions, see
 * feed/position.h; 0 stands for "no place".
 */
struct tl_stream_place {
    uint64_t epoch;
    struct tl_entry_id id;
    uint64_t added;
};

/* One entry as it was read. Bytes are lent. */
struct tl_stream_entry {
    struct tl_entry_id id;
    struct tl_bytes payload;
};

/* What a log that follows a stream knows beside its messages. */
struct tl_stream_marks {
    bool on;                  /* false: the log follows none, and the rest is nothing */
    uint64_t epoch;           /* 0: where reading stands is not known yet */
    uint64_t ahead;           /* `added` behind an entry, less the log's message count (mod 2^64) */
    struct tl_entry_id head;  /* the entry before the log's head */
    struct tl_entry_id tail;  /* the entry before its tail, or no entry's id but between the two */
    struct tl_entry_id start; /* the same for the first entry of the log's epoch */
    struct tl_entry_id known; /* behind it no entry was overlooked, so `added` counts exactly */
    struct tl_entry_id born;  /* where it was first met, or met anew: ids between this and `known`
                                 were those of a stream that had its name before */
};

#endif
