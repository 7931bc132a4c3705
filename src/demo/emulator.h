/*
 * Trams that run in the demo's city: they accelerate, brake, stop with open doors, run early and
 * late, turn, park and sometimes fall silent. It says what each tram publishes and when; it sends
 * nothing, has no clock, and the same options give the same bytes on every machine.
 *
 * The city has a time of its own that follows the caller's. If the caller comes late by more than
 * TL_EMULATOR_BACKLOG_MS (a laptop slept, a peer was slow), or its clock is set, the city resumes
 * where it was: only `ts` jumps, no tram does, and nothing is caught up.
 */
#ifndef TL_DEMO_EMULATOR_H
#define TL_DEMO_EMULATOR_H

#include "base/bytes.h"
#include "demo/city.h"

#define TL_EMULATOR_TRAMS_MAX    10000
#define TL_EMULATOR_RATE_MAX_MHZ 100000
#define TL_EMULATOR_BACKLOG_MS   2000

struct tl_emulator;

struct tl_emulator_options {
    size_t trams_n;    /* 1..TL_EMULATOR_TRAMS_MAX */
    uint32_t rate_mhz; /* messages a tram and 1000 s: 1..TL_EMULATOR_RATE_MAX_MHZ; 1000 is usual */
    uint64_t seed;
};

struct tl_emulator_message {
    struct tl_bytes channel; /* "tram_5" */
    struct tl_bytes payload; /* a JSON object of about 135 bytes */
    int64_t ts_ms;           /* its `ts` */
};

/*
 * A city whose trams are already under way; the first message is due at now_ms (since 1970).
 * Returns 0, -EINVAL for options out of range, or -ENOMEM. Owner: the caller, until
 * tl_emulator_free().
 */
TL_MUST_USE int tl_emulator_new(struct tl_emulator **ret, const struct tl_emulator_options *options,
                                int64_t now_ms);

/* Takes NULL. */
void tl_emulator_free(struct tl_emulator *e);

/*
 * The next message due at or before now_ms; false if none is. Its bytes are valid until the next
 * call. Call it at least once a second or two, so that a clock that was set back is noticed.
 */
TL_MUST_USE bool tl_emulator_next(struct tl_emulator *e, int64_t now_ms,
                                  struct tl_emulator_message *ret);

/*
 * When to call tl_emulator_next() again: the moment of the next tram's turn. A silent tram's turn
 * passes without a message. The turns of all trams are spread evenly.
 */
int64_t tl_emulator_next_ms(const struct tl_emulator *e);

/* Its city, which lives as long as it does. */
const struct tl_city *tl_emulator_city(const struct tl_emulator *e);

#endif
