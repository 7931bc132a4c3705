#include "demo/tram.h"

#include "demo/dice.h"

#include <assert.h>

#define GAP_MM        8000   /* kept behind the tram ahead, at a stand */
#define START_GAP_MM  120000 /* how far the tram ahead must be before one leaves a terminus */
#define LAYOVER_MS    120000 /* in the timetable */
#define TURN_MS       30000  /* the least it takes */
#define DWELL_MAX_MS  40000
#define DOORS_MS      1000 /* from the stand to open doors */
#define CLOSED_MS     2000 /* from closed doors to the start */
#define ALIGHT_MS     25000
#define BOARD_MS      20000
#define HOLD_APART_MM 150000 /* a red signal is not that near to a stop */
#define NO_HOLD       INT64_MAX
#define LATE_MS       30000
#define EARLY_MS      (-15000)
#define EARLY_MAX_MS  30000 /* it waits rather than leave earlier */

static bool happens(struct tl_tram *tram, int64_t per_mille)
{
    return tl_dice_between(&tram->chance, 0, 999) < per_mille;
}

static int64_t between(struct tl_tram *tram, int64_t low, int64_t high)
{
    return tl_dice_between(&tram->chance, low, high);
}

static bool at_terminus(const struct tl_tram *tram)
{
    return tram->next == tl_tram_track(tram)->calls_n - 1;
}

static void join_lane(struct tl_tram *tram)
{
    struct tl_tram_lane *lane = &tram->lanes[tram->back];
    tram->behind = NULL;
    tram->ahead = lane->last;
    if (lane->last)
        lane->last->behind = tram;
    lane->last = tram;
}

static void leave_lane(struct tl_tram *tram)
{
    struct tl_tram_lane *lane = &tram->lanes[tram->back];
    assert(!tram->ahead); /* whoever was ahead reached the end before */
    if (tram->behind)
        tram->behind->ahead = NULL;
    else
        lane->last = NULL;
    tram->behind = NULL;
}

/* How it will drive to the next stop, and what will come between. */
static void draw_section(struct tl_tram *tram)
{
    const struct tl_track_call *to = &tl_tram_track(tram)->calls[tram->next], *from = to - 1;
    if (tram->delay_ms > LATE_MS)
        tram->percent = between(tram, 92, 100);
    else if (tram->delay_ms < EARLY_MS)
        tram->percent = between(tram, 70, 80);
    else
        tram->percent = between(tram, 78, 94);
    tram->hold_mm = NO_HOLD;
    tram->hold_until_ms = 0;
    bool room = to->at_mm - from->at_mm > 2 * HOLD_APART_MM;
    if (happens(tram, 60) && room && tram->now.at_mm <= from->at_mm)
        tram->hold_mm = between(tram, from->at_mm + HOLD_APART_MM, to->at_mm - HOLD_APART_MM);
}

static void go(struct tl_tram *tram, int64_t now_ms)
{
    if (at_terminus(tram)) {
        tram->back = !tram->back;
        tram->was = tram->now = (struct tl_track_motion){0};
        tram->next = 0;
        join_lane(tram);
    }
    const struct tl_track *track = tl_tram_track(tram);
    tram->standing = tram->parked = false;
    tram->delay_ms = now_ms - tram->start_ms - track->calls[tram->next].leave_ms;
    tram->next++;
    if (happens(tram, 15) && now_ms >= tram->silent_until_ms)
        tram->silent_until_ms = now_ms + between(tram, 60000, 240000);
    draw_section(tram);
}

static bool may_go(const struct tl_tram *tram, int64_t now_ms)
{
    if (now_ms < tram->leave_ms)
        return false;
    if (!at_terminus(tram))
        return true;
    const struct tl_tram *last = tram->lanes[!tram->back].last;
    return !last || last->now.at_mm >= START_GAP_MM;
}

static void end_at_terminus(struct tl_tram *tram, int64_t now_ms)
{
    leave_lane(tram);
    tram->start_ms += tl_tram_track(tram)->calls[tram->next].arrive_ms + LAYOVER_MS;
    tram->leave_ms = now_ms + TURN_MS > tram->start_ms ? now_ms + TURN_MS : tram->start_ms;
    if (happens(tram, 80)) {
        tram->parked = true;
        tram->start_ms = tram->leave_ms = now_ms + between(tram, 300000, 1500000);
    }
}

static void arrive(struct tl_tram *tram, int64_t now_ms)
{
    const struct tl_track_call *call = &tl_tram_track(tram)->calls[tram->next];
    tram->standing = true;
    tram->arrived_ms = now_ms;
    tram->delay_ms = now_ms - tram->start_ms - call->arrive_ms;
    if (at_terminus(tram)) {
        end_at_terminus(tram, now_ms);
        return;
    }
    int64_t dwell_ms =
        tram->delay_ms > LATE_MS ? between(tram, 15000, 20000) : between(tram, 17000, 29000);
    if (happens(tram, 30)) /* a ramp for a wheelchair, a word with the driver */
        dwell_ms = DWELL_MAX_MS;
    int64_t wait_ms = tram->start_ms + call->leave_ms - EARLY_MAX_MS - now_ms;
    if (wait_ms > DWELL_MAX_MS)
        wait_ms = DWELL_MAX_MS;
    tram->leave_ms = now_ms + (dwell_ms > wait_ms ? dwell_ms : wait_ms);
}

/* Where it must be able to stand. */
static int64_t end_mm(const struct tl_tram *tram)
{
    int64_t end = tl_tram_track(tram)->calls[tram->next].at_mm;
    if (tram->hold_mm < end)
        end = tram->hold_mm;
    if (tram->ahead && tram->ahead->now.at_mm - TL_TRAM_LENGTH_MM - GAP_MM < end)
        end = tram->ahead->now.at_mm - TL_TRAM_LENGTH_MM - GAP_MM;
    return end > tram->now.at_mm ? end : tram->now.at_mm;
}

static void hold(struct tl_tram *tram, int64_t now_ms)
{
    if (tram->hold_until_ms == 0)
        tram->hold_until_ms = now_ms + (happens(tram, 120) ? between(tram, 60000, 180000)
                                                           : between(tram, 6000, 25000));
    if (now_ms >= tram->hold_until_ms)
        tram->hold_mm = NO_HOLD;
}

void tl_tram_tick(struct tl_tram *tram, int64_t now_ms)
{
    tram->was = tram->now;
    if (tram->standing) {
        if (may_go(tram, now_ms))
            go(tram, now_ms);
        return;
    }
    const struct tl_track *track = tl_tram_track(tram);
    tl_track_move(track, &tram->now, tram->percent, end_mm(tram));
    if (tram->now.at_mm == track->calls[tram->next].at_mm)
        arrive(tram, now_ms);
    else if (tram->now.at_mm == tram->hold_mm)
        hold(tram, now_ms);
}

/* Standing at the end of its track since a while ago. */
static void place_parked(struct tl_tram *tram, int64_t now_ms)
{
    const struct tl_track *track = tl_tram_track(tram);
    tram->next = track->calls_n - 1;
    tram->now = (struct tl_track_motion){.at_mm = track->length_mm, .leg = track->legs_n - 2};
    tram->standing = tram->parked = true;
    tram->arrived_ms = now_ms - between(tram, ALIGHT_MS, 600000);
    tram->start_ms = tram->leave_ms = now_ms + between(tram, 90000, 900000);
}

static void place_under_way(struct tl_tram *tram, int64_t at_mm, int64_t now_ms)
{
    const struct tl_track *track = tl_tram_track(tram);
    tram->now.at_mm = at_mm;
    while (tram->now.leg + 2 < track->legs_n && track->legs[tram->now.leg + 1].at_mm <= at_mm)
        tram->now.leg++;
    tram->next = 1;
    while (tram->next + 1 < track->calls_n && track->calls[tram->next].at_mm <= at_mm)
        tram->next++;
    tram->delay_ms = between(tram, -20000, happens(tram, 250) ? 150000 : 30000);
    tram->start_ms = now_ms - tram->delay_ms - tl_track_planned_ms(track, tram->next, at_mm);
    join_lane(tram);
    draw_section(tram);
}

void tl_tram_place(struct tl_tram *tram, int64_t way_mm, int64_t now_ms, bool quirks)
{
    int64_t length_mm = tram->tracks[0].length_mm;
    tram->back = way_mm >= length_mm;
    if (quirks && happens(tram, 50))
        place_parked(tram, now_ms);
    else
        place_under_way(tram, tram->back ? way_mm - length_mm : way_mm, now_ms);
    tram->was = tram->now;
    if (quirks && happens(tram, 30))
        tram->silent_until_ms = now_ms + between(tram, 70000, 200000);
}

struct tl_track_motion tl_tram_at(const struct tl_tram *tram, int64_t into_ms)
{
    int64_t gain = tram->now.speed - tram->was.speed;
    struct tl_track_motion at = tram->was;
    at.speed += gain * into_ms / TL_TRACK_TICK_MS;
    at.at_mm += (tram->was.speed + at.speed) * into_ms / 2000;
    if (at.at_mm > tram->now.at_mm)
        at.at_mm = tram->now.at_mm;
    return at;
}

bool tl_tram_doors_open(const struct tl_tram *tram, int64_t now_ms)
{
    int64_t since_ms = now_ms - tram->arrived_ms, left_ms = tram->leave_ms - now_ms;
    if (!tram->standing || since_ms < DOORS_MS || left_ms < CLOSED_MS)
        return false;
    return !at_terminus(tram) || since_ms < ALIGHT_MS || left_ms < BOARD_MS;
}

int64_t tl_tram_delay_s(const struct tl_tram *tram, int64_t now_ms)
{
    const struct tl_track_call *call = &tl_tram_track(tram)->calls[tram->next];
    int64_t planned_ms = tram->start_ms + call->arrive_ms;
    if (tram->standing)
        planned_ms = at_terminus(tram) ? tram->start_ms : tram->start_ms + call->leave_ms;
    int64_t delay_ms = tram->parked ? 0 : tram->delay_ms;
    if (now_ms - planned_ms > delay_ms)
        delay_ms = now_ms - planned_ms;
    return delay_ms / 1000;
}
