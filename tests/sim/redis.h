/*
 * A simulated Redis: as much of it as Pub/Sub takes (RESP2). Everything else that it is asked for
 * is a failure, so a gateway that reads Redis per client (R18) does not pass. It keeps what it told
 * each subscriber, in order, for whoever checks what came of it.
 */
#ifndef TESTS_SIM_REDIS_H
#define TESTS_SIM_REDIS_H

#include "net.h"

#include "broker/broker.h"

void redis_start(void);
void redis_end(void);

/* Handle what has come. True if there was anything. */
bool redis_work(void);
/* Publish from elsewhere, as another program would. */
void redis_publish(struct tl_bytes name, struct tl_bytes payload);
/* The end of its connections (those that subscribe only, or all). */
void redis_drop(bool only_subscribers);
/* Refuse connections until then, having dropped them all; or answer nothing. */
void redis_down_until(uint64_t ms);
void redis_hang_until(uint64_t ms);
bool redis_is_well(void);

/* How often the name is subscribed, on all connections. */
unsigned redis_subscribers(enum tl_source_kind kind, struct tl_bytes name);
/* The gateway has this message now: it must be the next that was told its subscriber. */
void redis_check_arrival(enum tl_source_kind kind, uint32_t message);
/* Is nothing on its way to the gateway's subscriber? */
bool redis_is_drained(void);

#endif
