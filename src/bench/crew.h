/*
 * The processes of a run: one that does everything, or one that publishes and several that receive,
 * where one process' descriptors or one core are too few. They share the tallies and the flight;
 * whoever made the crew drives it. It never publishes.
 */
#ifndef TL_BENCH_CREW_H
#define TL_BENCH_CREW_H

#include "bench/swarm.h"

struct tl_crew;

/* How far it is; cheap enough for every turn. */
struct tl_crew_progress {
    uint64_t ready, failed, closed;
    uint64_t delivered, missing;
    uint64_t received; /* anything that came: grows while something happens */
};

/*
 * Start: processes_n == 1 keeps all subscribers here; more fork children, each with its share.
 * plan->measure_from_ns is the crew's to set. spin: never sleep while waiting. Returns NULL without
 * memory, descriptors or processes. Owner: the caller, until tl_crew_free(). Not with threads.
 */
TL_MUST_USE struct tl_crew *tl_crew_new(const struct tl_swarm_plan *plan, uint32_t processes_n,
                                        bool spin);

/* Ends children that are left, too. Takes NULL. */
void tl_crew_free(struct tl_crew *c);

/* tl_swarm_watch() and tl_swarm_turn() of this process; the turn also wakes for arrivals. */
TL_MUST_USE int tl_crew_watch(struct tl_crew *c, int fd, uint32_t epoll_events);
void tl_crew_turn(struct tl_crew *c, int timeout_ms);

/* Every subscriber is ready or has failed. */
bool tl_crew_is_settled(const struct tl_crew *c);

void tl_crew_progress(const struct tl_crew *c, struct tl_crew_progress *ret);

/* Latencies count for messages scheduled from then on; before the first call none does. */
void tl_crew_measure_from(struct tl_crew *c, uint64_t ns);

/*
 * All subscribers drop, and come back; ns: tl_clock_ns(). Once a run, and only where the plan's
 * storm_ns is not NULL (what it points to is the crew's to choose).
 */
void tl_crew_storm(struct tl_crew *c, uint64_t ns);

/* After the storm everybody has caught up, or never will. */
bool tl_crew_is_calm(const struct tl_crew *c);

/* Latencies so far, of all processes. */
void tl_crew_latency(const struct tl_crew *c, struct tl_histogram *ret);

/* The processes but this one: how many, and which. */
uint32_t tl_crew_children(const struct tl_crew *c, const int **ret_pids);

/* End the run and add up what all have seen. 0, or -ECHILD when a process died: its part of the
 * figures is as far as it came. */
TL_MUST_USE int tl_crew_finish(struct tl_crew *c, struct tl_tally *ret_sum);

#endif
