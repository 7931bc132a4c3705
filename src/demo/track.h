/*
 * A line in one direction as its trams see it: speed limits that can be kept with the brakes there
 * are, stops with a timetable, and how a tram moves in one tick. It knows no other trams.
 */
#ifndef TL_DEMO_TRACK_H
#define TL_DEMO_TRACK_H

#include "demo/city.h"

#define TL_TRACK_TICK_MS    200
#define TL_TRACK_ACCELERATE 1000 /* mm/s2 */
#define TL_TRACK_BRAKE      1100

/* A straight piece; the last one is the end and has no length. */
struct tl_track_leg {
    int64_t at_mm; /* from the start of the track */
    int64_t limit; /* mm/s */
    int64_t enter; /* mm/s at most at its start, so that all limits ahead can be kept */
};

/* A stop; its times count from the departure at the first. */
struct tl_track_call {
    size_t stop;
    int64_t at_mm;
    int64_t arrive_ms, leave_ms;
};

struct tl_track {
    const struct tl_city_line *line;
    bool back; /* from the line's last point to its first */
    struct tl_track_leg *legs;
    size_t legs_n;
    struct tl_track_call *calls;
    size_t calls_n;
    int64_t length_mm;
};

struct tl_track_motion {
    int64_t at_mm;
    int64_t speed; /* mm/s */
    size_t leg;
};

/* 0, or -ENOMEM: deinit takes what is there. The line outlives the track. */
TL_MUST_USE int tl_track_init(struct tl_track *track, const struct tl_city_line *line, bool back);

/* Takes a zeroed struct too. */
void tl_track_deinit(struct tl_track *track);

/*
 * One tick: accelerate to `percent` of the limit if that is less, and never so far that the tram
 * could not come to a stand at end_mm with the brakes there are; at_mm <= end_mm <= length_mm.
 */
void tl_track_move(const struct tl_track *track, struct tl_track_motion *m, int64_t percent,
                   int64_t end_mm);

/* What the timetable says for a place between two calls, about. next: 1..calls_n - 1. */
int64_t tl_track_planned_ms(const struct tl_track *track, size_t next, int64_t at_mm);

/* The point of the line before the motion's place, for tl_city_find(). */
size_t tl_track_point(const struct tl_track *track, const struct tl_track_motion *m);

/* The same place measured along the line. */
int64_t tl_track_on_line_mm(const struct tl_track *track, int64_t at_mm);

#endif
