#include "bench/tally.h"

void tl_tally_merge(struct tl_tally *sum, const struct tl_tally *other)
{
    sum->ready += other->ready;
    sum->failed += other->failed;
    sum->closed += other->closed;
    sum->delivered += other->delivered;
    sum->missing += other->missing;
    sum->gaps += other->gaps;
    sum->duplicates += other->duplicates;
    sum->late += other->late;
    sum->wrong_channel += other->wrong_channel;
    sum->corrupt += other->corrupt;
    sum->other += other->other;
    sum->bytes += other->bytes;
    sum->pings += other->pings;
    sum->gaps_told += other->gaps_told;
    sum->storms += other->storms;
    sum->dropped += other->dropped;
    sum->stranded += other->stranded;
    if (other->last_ns > sum->last_ns)
        sum->last_ns = other->last_ns;
    sum->expected += other->expected;
    sum->clients_complete += other->clients_complete;
    sum->clients_missing += other->clients_missing;
    sum->clients_duplicates += other->clients_duplicates;
    sum->clients_late += other->clients_late;
    tl_histogram_merge(&sum->latency, &other->latency);
    tl_histogram_merge(&sum->handshake, &other->handshake);
    tl_histogram_merge(&sum->returned, &other->returned);
    tl_histogram_merge(&sum->caught_up, &other->caught_up);
    if (!*sum->problem)
        memcpy(sum->problem, other->problem, sizeof sum->problem);
}
