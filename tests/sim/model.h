/*
 * What must be true, kept apart from the gateway: the messages that there are, in which order they
 * arrived at the hub, channel by channel, and for each subscription what it is to see next. The
 * rules are those of CORRECTNESS R1 to R10 and R16 to R18; each failure names the one it breaks.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "sim.h"

#include "feed/lane.h"
#include "gateway/config.h"

#define MODEL_CHANNELS 5 /* the last one is the pattern channel */
#define MODEL_PATTERN  (MODEL_CHANNELS - 1)
#define MODEL_NONE     UINT32_MAX

void model_start(void); /* a new world */
/* And a new process in it: nothing of before can be continued. */
void model_new_gateway(void);
void model_end(void);

struct tl_bytes model_name(unsigned channel);
/* The channel of that name; fails if there is none. */
unsigned model_channel(struct tl_bytes name);

/* --- messages --- */

/* A new one, for a plain channel. */
uint32_t model_new_message(unsigned channel);
unsigned model_message_channel(uint32_t message);
/* Its bytes, valid until the next call. */
struct tl_bytes model_payload(uint32_t message);
/* The message that these bytes are, to the last one (R2). */
uint32_t model_message_of(struct tl_bytes payload);
/* Where it stands in that channel; MODEL_NONE: nowhere. */
uint32_t model_place_of(uint32_t message, unsigned channel);
/* What is known of its publishing. */
void model_was_published(uint32_t message); /* Redis has it */
void model_was_answered(uint32_t message, bool published, bool maybe);
void model_check_published(void);

/* --- channels, as the hub's broker sees them --- */

void model_subscribe(unsigned channel);
void model_unsubscribe(unsigned channel);
void model_confirmed(unsigned channel);
void model_link(bool up);
/* A message is about to arrive; then it did, and has this place in the log, or was not kept. */
void model_arrives(unsigned channel, uint32_t message);
void model_arrived(unsigned channel, bool kept, uint64_t epoch, uint64_t idx);
/* How many have arrived and were kept. */
uint32_t model_arrivals(unsigned channel);
/* Of those, where the oldest stands that the log still has, and the first of its epoch. Looks into
 * the hub. */
uint32_t model_tail(unsigned channel);
uint32_t model_epoch_start(unsigned channel);
struct place;
/* How many arrivals directly before the place are of its epoch: so far it may be counted back. */
uint32_t model_countable(unsigned channel, const struct place *place);
/* Give the hub to look into, NULL: none. */
struct tl_hub;
void model_look_at(const struct tl_hub *hub);
/* The log that the hub has, or NULL. */
struct tl_log;
const struct tl_log *model_log(unsigned channel);
/* Which incarnation of the gateway this is, from 1 on. */
unsigned model_gateway(void);

/* --- subscriptions --- */

/* What somebody holds who wants to come back. */
struct place {
    unsigned gateway; /* the incarnation; 0: no place */
    uint64_t epoch, idx;
    uint32_t next; /* the first arrival behind it */
};

enum start { START_NOW, START_HISTORY, START_SINCE };

/* How things are when a subscription asks, and when its acknowledgement is written. */
struct moment {
    uint32_t arrivals, floor;   /* floor: the first kept one of the epoch */
    uint64_t epoch, view_epoch; /* of the log, and as the worker knows it; 0: it knows none */
    bool joining;               /* and what it is told first may be older than the log is now */
};

struct oracle {
    unsigned client; /* for the trace */
    unsigned worker;
    unsigned channel;
    enum tl_lane_kind lane;
    const struct tl_channel_rule *rule;
    enum start start;
    uint32_t history;
    struct place since;
    bool strict;
    bool asked, acked;
    bool placed;                /* `next` is known exactly, not only within two moments */
    struct moment before, then; /* when it asked, and when it was acknowledged */
    uint32_t skipped;           /* not placed yet: told as missed since */
    uint32_t next;
    uint64_t epoch; /* of what it has; 0: not known */
    bool gap_told;  /* since the last message */
    bool gap_counted;
    bool down;   /* was told so last */
    bool doomed; /* its position is void, so it must be closed with 4410 */
    uint32_t missed;
    struct place place; /* where it would come back to */
};

/* The gateway has the whole request. */
void oracle_asked(struct oracle *o);
struct moment oracle_now(const struct oracle *o);
/* It was told to be subscribed; SSE: from this position on. */
void oracle_acked(struct oracle *o, const struct moment *then, uint64_t epoch, uint64_t idx);
/* A message; SSE: with its position. */
void oracle_message(struct oracle *o, uint32_t message, uint64_t epoch, uint64_t idx);
/* A gap; missed: MODEL_NONE is unknown. overflow: because it was too slow. epoch: the one that
 * begins behind it, 0: it does not say. */
void oracle_gap(struct oracle *o, uint32_t missed, bool overflow, uint64_t epoch);
/* A WebSocket was closed with 4408, or with 4410 and that position. */
void oracle_slow(struct oracle *o, uint32_t missed);
void oracle_gap_close(struct oracle *o, uint32_t missed, uint64_t epoch, uint64_t idx);
/* May it have been cut off for being slow? */
bool oracle_is_behind(const struct oracle *o);
/* Everything has come to rest: does it have all there is (R1)? */
void oracle_check_complete(const struct oracle *o);
/* An id that was none of a message: whoever comes back from there has what it has now. */
void oracle_moved(struct oracle *o, uint64_t epoch, uint64_t idx);

#endif
