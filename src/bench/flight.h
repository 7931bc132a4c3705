/*
 * Which messages are on their way, for a closed loop: how many subscribers still lack each. It lies
 * in memory that the publishing process shares with the receiving ones; receivers count down, the
 * publisher looks for the oldest message that is not everywhere yet. A loss that is noticed counts
 * as an arrival, or the loop would stand still.
 */
#ifndef TL_BENCH_FLIGHT_H
#define TL_BENCH_FLIGHT_H

#include "base/bytes.h"

struct tl_flight;

/*
 * Room for window_max messages on their way over channels_n channels. Returns memory shared with
 * children that are forked later, or NULL. Owner: the caller, until tl_flight_free().
 */
TL_MUST_USE struct tl_flight *tl_flight_new(uint32_t channels_n, uint64_t window_max);

/* Takes NULL. */
void tl_flight_free(struct tl_flight *f);

/* A descriptor that is readable when a message arrived everywhere, for epoll. */
int tl_flight_wake_fd(const struct tl_flight *f);

/* Any receiver: a subscriber of the channel came (+1) or went (-1). */
void tl_flight_subscribers(struct tl_flight *f, uint32_t channel, int change);

/* The publisher: the next message goes to that channel. Returns its subscribers. */
uint32_t tl_flight_launch(struct tl_flight *f, uint32_t channel);

/* Messages launched so far. Any process. */
uint64_t tl_flight_launched(const struct tl_flight *f);

/* Any receiver: one subscriber of message `index` has it, or never will. What is over is ignored.
 */
void tl_flight_land(struct tl_flight *f, uint64_t index);

/* The publisher: how many messages, from the first on, are everywhere. Quiets the descriptor. */
uint64_t tl_flight_done(struct tl_flight *f);

/* The publisher: wait for none of the launched ones any more. */
void tl_flight_forget(struct tl_flight *f);

#endif
