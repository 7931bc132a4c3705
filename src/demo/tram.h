/*
 * One tram's day: driving by track.h behind the tram ahead, doors at stops, early and late,
 * turning, parking, silence. Trams of one lane keep apart; those of different lanes do not see each
 * other.
 */
#ifndef TL_DEMO_TRAM_H
#define TL_DEMO_TRAM_H

#include "demo/track.h"

#define TL_TRAM_LENGTH_MM 30000

struct tl_tram;

/* The trams under way on one track. */
struct tl_tram_lane {
    struct tl_tram *last; /* the one that started last, or NULL */
};

struct tl_tram {
    const struct tl_track *tracks;  /* [2]: there and back */
    struct tl_tram_lane *lanes;     /* [2] */
    struct tl_tram *ahead, *behind; /* in its lane, or NULL */
    bool back;                      /* which of the two it is on */
    bool standing;                  /* at a stop: calls[next] */
    bool parked;                    /* standing at a terminus, for long */
    uint64_t chance;                /* dice */
    struct tl_track_motion was;     /* at the start of the tick */
    struct tl_track_motion now;     /* at its end */
    size_t next;                    /* the call that comes, or where it stands */
    int64_t percent;                /* of the limits, in the mood of the moment */
    int64_t start_ms;               /* the timetable's zero */
    int64_t delay_ms;               /* when it last came or went; negative is early */
    int64_t arrived_ms, leave_ms;   /* while standing */
    int64_t hold_mm;                /* a red signal on the way; beyond the next call: none */
    int64_t hold_until_ms;          /* standing there; 0: not yet */
    int64_t silent_until_ms;
};

/*
 * Put a tram on its two tracks, way_mm along there and back again (0..2 * length_mm), at a stand.
 * `quirks`: it may start parked or silent. Of one lane, those further ahead are placed first.
 */
void tl_tram_place(struct tl_tram *tram, int64_t way_mm, int64_t now_ms, bool quirks);

/* The tick that ends at now_ms. */
void tl_tram_tick(struct tl_tram *tram, int64_t now_ms);

/* Where it is `into_ms` after the start of the tick, 0..TL_TRACK_TICK_MS. */
struct tl_track_motion tl_tram_at(const struct tl_tram *tram, int64_t into_ms);

bool tl_tram_doors_open(const struct tl_tram *tram, int64_t now_ms);

/* Seconds behind the timetable; negative is early. */
int64_t tl_tram_delay_s(const struct tl_tram *tram, int64_t now_ms);

static inline const struct tl_track *tl_tram_track(const struct tl_tram *tram)
{
    return &tram->tracks[tram->back];
}

#endif
