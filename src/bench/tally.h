/*
 * What the subscribers of one process have seen. It lies in memory shared with the process that
 * reports; one process writes, and what others read while it runs is for the progress line only.
 */
#ifndef TL_BENCH_TALLY_H
#define TL_BENCH_TALLY_H

#include "bench/histogram.h"

struct tl_tally {
    uint32_t ready;  /* subscribers that were accepted (and confirmed, where that is asked for) */
    uint32_t failed; /* that were not */
    uint32_t closed; /* that were ready and lost their connection before the end */
    uint64_t delivered;     /* messages, each counted once a subscriber */
    uint64_t missing;       /* left out, and not come late */
    uint64_t gaps;          /* how often some were left out */
    uint64_t duplicates;    /* that came again */
    uint64_t late;          /* that came after their successors */
    uint64_t wrong_channel; /* that were another channel's */
    uint64_t corrupt;       /* shortened, or never published */
    uint64_t other;         /* messages without our stamp, or of another run */
    uint64_t bytes;         /* received */
    uint64_t pings;
    uint64_t gaps_told;       /* in the words of Tramline: SSE `event: gap`, close 4410 */
    uint32_t storms, dropped; /* a resume storm began; subscribers that it dropped */
    uint32_t stranded;        /* of them, that were closed before they had caught up */
    uint64_t last_ns;         /* when the last message came */
    /* Filled in at the end: what those that were ready should have, and subscribers by what
     * happened to them. */
    uint64_t expected;
    uint32_t clients_complete, clients_missing, clients_duplicates, clients_late;
    struct tl_histogram latency;   /* scheduled -> received, of measured messages */
    struct tl_histogram handshake; /* connect -> ready */
    struct tl_histogram returned;  /* the storm -> subscribed again */
    struct tl_histogram caught_up; /* the storm -> has all that was published by its return */
    char problem[256];             /* the first */
};

/* Add up; the first problem that is not empty stays. */
void tl_tally_merge(struct tl_tally *sum, const struct tl_tally *other);

#endif
