#include "demo/track.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>

#define BRAKE_TICK     (TL_TRACK_BRAKE * TL_TRACK_TICK_MS / 1000) /* mm/s lost in a tick */
#define GAIN_TICK      (TL_TRACK_ACCELERATE * TL_TRACK_TICK_MS / 1000)
#define EASE_TICK      (BRAKE_TICK / 2) /* slowing down for a wish, not for a limit */
#define NEAR_MM        12               /* so near to the end, and so slow, is there */
#define SLOW           (BRAKE_TICK / 2)
#define PLAN_PERCENT   86
#define PLAN_DWELL_MS  22000
#define PLAN_SPARE_MS  3000
#define PLAN_TICKS_MAX 100000 /* of one leg between stops; far beyond any */

static int64_t root(int64_t square)
{
    int64_t r = 0;
    for (int64_t bit = (int64_t)1 << 20; bit > 0; bit >>= 1)
        if ((r + bit) * (r + bit) <= square)
            r += bit;
    return r;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t tl_track_on_line_mm(const struct tl_track *track, int64_t at_mm)
{
    return track->back ? track->length_mm - at_mm : at_mm;
}

static void make_legs(struct tl_track *track)
{
    size_t last = track->legs_n - 1;
    for (size_t i = 0; i <= last; i++) {
        const struct tl_city_point *from = &track->line->points[track->back ? last - i : i];
        track->legs[i].at_mm = tl_track_on_line_mm(track, from->at_mm);
        /* Its limit holds up to the next point, that is: backwards it is the one before. */
        track->legs[i].limit = track->back && i < last ? from[-1].limit : from->limit;
    }
    track->legs[last].enter = track->legs[last].limit;
    for (size_t i = last; i-- > 0;) {
        struct tl_track_leg *leg = &track->legs[i];
        int64_t way_mm = leg[1].at_mm - leg->at_mm;
        leg->enter = least(least(leg->limit, i > 0 ? leg[-1].limit : leg->limit),
                           root(leg[1].enter * leg[1].enter + 2 * TL_TRACK_BRAKE * way_mm));
    }
}

static void make_calls(struct tl_track *track)
{
    for (size_t i = 0; i < track->calls_n; i++) {
        const struct tl_city_call *from =
            &track->line->calls[track->back ? track->calls_n - 1 - i : i];
        track->calls[i].stop = from->stop;
        track->calls[i].at_mm = tl_track_on_line_mm(track, from->at_mm);
    }
}

/* Drive it once, alone, a little slower than one may. */
static void make_timetable(struct tl_track *track)
{
    struct tl_track_motion m = {0};
    int64_t now_ms = 0;
    for (size_t i = 1; i < track->calls_n; i++) {
        struct tl_track_call *call = &track->calls[i];
        for (int ticks = 0; m.at_mm < call->at_mm; ticks++) {
            assert(ticks < PLAN_TICKS_MAX);
            tl_track_move(track, &m, PLAN_PERCENT, call->at_mm);
            now_ms += TL_TRACK_TICK_MS;
        }
        call->arrive_ms = now_ms + PLAN_SPARE_MS;
        call->leave_ms = now_ms = call->arrive_ms + PLAN_DWELL_MS;
    }
}

int tl_track_init(struct tl_track *track, const struct tl_city_line *line, bool back)
{
    *track = (struct tl_track){.line = line,
                               .back = back,
                               .legs_n = line->points_n,
                               .calls_n = line->calls_n,
                               .length_mm = line->length_mm};
    track->legs = tl_zalloc(track->legs_n * sizeof *track->legs);
    track->calls = tl_zalloc(track->calls_n * sizeof *track->calls);
    if (!track->legs || !track->calls)
        return -ENOMEM;
    make_legs(track);
    make_calls(track);
    make_timetable(track);
    return 0;
}

void tl_track_deinit(struct tl_track *track)
{
    tl_free(track->legs);
    tl_free(track->calls);
    *track = (struct tl_track){0};
}

/*
 * The speed v at the end of a tick that starts at speed v0, such that braking from there on meets
 * speed `then` after way_mm in all: v2 - then2 = 2 b (way - (v0 + v) t / 2), solved for v. At most
 * `most`, which spares nearly all roots.
 */
static int64_t braked(int64_t most, int64_t v0, int64_t way_mm, int64_t then)
{
    int64_t half = BRAKE_TICK / 2;
    int64_t square = half * half + then * then + 2 * TL_TRACK_BRAKE * way_mm - BRAKE_TICK * v0;
    if (square >= (most + half) * (most + half))
        return most;
    return square > half * half ? root(square) - half : 0;
}

void tl_track_move(const struct tl_track *track, struct tl_track_motion *m, int64_t percent,
                   int64_t end_mm)
{
    const struct tl_track_leg *leg = &track->legs[m->leg];
    int64_t wish = leg->limit * percent / 100;
    if (wish < m->speed - EASE_TICK)
        wish = m->speed - EASE_TICK;
    int64_t speed = least(least(m->speed + GAIN_TICK, wish), leg->limit);
    speed = braked(speed, m->speed, end_mm - m->at_mm, 0);
    if (m->leg + 1 < track->legs_n)
        speed = braked(speed, m->speed, leg[1].at_mm - m->at_mm, leg[1].enter);
    m->at_mm += (m->speed + speed) * TL_TRACK_TICK_MS / 2000;
    bool stops = m->speed <= BRAKE_TICK && end_mm - m->at_mm <= NEAR_MM;
    m->speed = speed;
    if (m->at_mm >= end_mm || stops) {
        m->at_mm = end_mm;
        m->speed = 0;
    }
    while (m->leg + 2 < track->legs_n && track->legs[m->leg + 1].at_mm <= m->at_mm)
        m->leg++;
}

int64_t tl_track_planned_ms(const struct tl_track *track, size_t next, int64_t at_mm)
{
    const struct tl_track_call *to = &track->calls[next], *from = to - 1;
    return from->leave_ms +
           (to->arrive_ms - from->leave_ms) * (at_mm - from->at_mm) / (to->at_mm - from->at_mm);
}

size_t tl_track_point(const struct tl_track *track, const struct tl_track_motion *m)
{
    return track->back ? track->legs_n - 2 - m->leg : m->leg;
}
