#include "demo/emulator.h"

#include "base/alloc.h"
#include "demo/dice.h"
#include "demo/tram.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define WARM_UP_MS    60000  /* so that the trams are at speed when the first message is due */
#define SPACE_MM      300000 /* of track for a tram; with more trams there are more lanes */
#define QUIRKS_FROM   8      /* with fewer trams, all are there at the start */
#define CLOCK_BACK_MS 1000   /* a clock that goes back by more was set */

/* The trams of one line: as many lanes, each there and back, as they need. */
struct service {
    struct tl_track tracks[2];
    struct tl_tram_lane (*lanes)[2];
    size_t lanes_n;
    size_t trams_n;
    size_t unplaced_n; /* of them, while the city is set up */
};

struct tl_emulator {
    struct tl_city *city;
    struct service *services; /* one a line */
    struct tl_tram *trams;
    size_t trams_n;
    int64_t period_us; /* of one tram's turns */
    int64_t turn;      /* the next: tram turn % trams_n has it */
    int64_t ticks_ms;  /* how far the trams have been driven, in the city's time */
    int64_t zero_ms;   /* the city's time 0 on the caller's clock */
    int64_t asked_ms;  /* the caller's clock when it last asked */
    char channel[24];
    char payload[256];
};

static int init_services(struct tl_emulator *e)
{
    e->services = tl_zalloc(e->city->lines_n * sizeof *e->services);
    if (!e->services)
        return -ENOMEM;
    for (size_t i = 0; i < e->city->lines_n; i++)
        for (int back = 0; back < 2; back++)
            if (tl_track_init(&e->services[i].tracks[back], &e->city->lines[i], back == 1) < 0)
                return -ENOMEM;
    return 0;
}

/* The line whose trams would be the furthest apart with one more. */
static struct service *sparsest(struct tl_emulator *e)
{
    struct service *best = e->services;
    for (size_t i = 1; i < e->city->lines_n; i++) {
        struct service *s = &e->services[i];
        if (s->tracks->length_mm * (int64_t)(best->trams_n + 1) >
            best->tracks->length_mm * (int64_t)(s->trams_n + 1))
            best = s;
    }
    return best;
}

static int init_lanes(struct service *s)
{
    int64_t room = 2 * s->tracks->length_mm / SPACE_MM;
    s->lanes_n = (s->trams_n + (size_t)room - 1) / (size_t)room;
    if (s->lanes_n == 0)
        return 0;
    s->lanes = tl_zalloc(s->lanes_n * sizeof *s->lanes);
    return s->lanes ? 0 : -ENOMEM;
}

/* Tram number i of its line: which lane, and how far along it. */
static void place(struct tl_emulator *e, struct tl_tram *tram, const struct service *s, size_t i)
{
    size_t lane = i % s->lanes_n;
    int64_t slot = (int64_t)(i / s->lanes_n);
    int64_t slots = (int64_t)((s->trams_n - lane + s->lanes_n - 1) / s->lanes_n);
    int64_t way_mm = 2 * s->tracks->length_mm * slot / slots;
    way_mm += 2 * s->tracks->length_mm / slots * tl_dice_between(&tram->chance, 20, 80) / 100;
    tram->tracks = s->tracks;
    tram->lanes = s->lanes[lane];
    tl_tram_place(tram, way_mm, e->ticks_ms, e->trams_n >= QUIRKS_FROM);
}

static int init_trams(struct tl_emulator *e, uint64_t seed)
{
    e->trams = tl_zalloc(e->trams_n * sizeof *e->trams);
    struct service **of = tl_alloc(e->trams_n * sizeof(struct service *));
    int rc = e->trams && of ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < e->trams_n; i++) {
        of[i] = sparsest(e);
        of[i]->unplaced_n = ++of[i]->trams_n;
        e->trams[i].chance = tl_dice_roll(&seed);
    }
    for (size_t i = 0; rc == 0 && i < e->city->lines_n; i++)
        rc = init_lanes(&e->services[i]);
    /* From the last to the first: in a lane, those ahead are placed before those behind. */
    for (size_t i = rc == 0 ? e->trams_n : 0; i-- > 0;)
        place(e, &e->trams[i], of[i], --of[i]->unplaced_n);
    tl_free(of);
    return rc;
}

static void drive_to(struct tl_emulator *e, int64_t city_ms)
{
    while (e->ticks_ms <= city_ms) {
        e->ticks_ms += TL_TRACK_TICK_MS;
        for (size_t i = 0; i < e->trams_n; i++)
            tl_tram_tick(&e->trams[i], e->ticks_ms);
    }
}

int tl_emulator_new(struct tl_emulator **ret, const struct tl_emulator_options *options,
                    int64_t now_ms)
{
    if (options->trams_n == 0 || options->trams_n > TL_EMULATOR_TRAMS_MAX ||
        options->rate_mhz == 0 || options->rate_mhz > TL_EMULATOR_RATE_MAX_MHZ)
        return -EINVAL;
    struct tl_emulator *e = tl_zalloc(sizeof *e);
    if (!e)
        return -ENOMEM;
    e->trams_n = options->trams_n;
    e->period_us = 1000000000 / (int64_t)options->rate_mhz;
    e->ticks_ms = -WARM_UP_MS;
    e->zero_ms = e->asked_ms = now_ms;
    int rc = tl_city_new(&e->city, options->seed);
    if (rc == 0)
        rc = init_services(e);
    if (rc == 0)
        rc = init_trams(e, options->seed);
    if (rc < 0) {
        tl_emulator_free(e);
        return rc;
    }
    drive_to(e, 0);
    *ret = e;
    return 0;
}

void tl_emulator_free(struct tl_emulator *e)
{
    if (!e)
        return;
    for (size_t i = 0; e->services && i < e->city->lines_n; i++) {
        tl_track_deinit(&e->services[i].tracks[0]);
        tl_track_deinit(&e->services[i].tracks[1]);
        tl_free(e->services[i].lanes);
    }
    tl_free(e->services);
    tl_free(e->trams);
    tl_city_free(e->city);
    tl_free(e);
}

/* In the city's time. */
static int64_t due_us(const struct tl_emulator *e)
{
    int64_t n = (int64_t)e->trams_n;
    return e->turn / n * e->period_us + e->turn % n * e->period_us / n;
}

int64_t tl_emulator_next_ms(const struct tl_emulator *e)
{
    return e->zero_ms + due_us(e) / 1000;
}

static void follow_clock(struct tl_emulator *e, int64_t now_ms)
{
    if (now_ms < e->asked_ms - CLOCK_BACK_MS)
        e->zero_ms -= e->asked_ms - now_ms;
    if (now_ms - tl_emulator_next_ms(e) > TL_EMULATOR_BACKLOG_MS)
        e->zero_ms += now_ms - tl_emulator_next_ms(e);
    e->asked_ms = now_ms;
}

static void write_message(struct tl_emulator *e, size_t i, struct tl_emulator_message *ret)
{
    const struct tl_tram *tram = &e->trams[i];
    const struct tl_track *track = tl_tram_track(tram);
    const struct tl_city_line *line = track->line;
    int64_t city_ms = due_us(e) / 1000, into_ms = TL_TRACK_TICK_MS - (e->ticks_ms - city_ms);
    struct tl_track_motion m = tl_tram_at(tram, into_ms);
    int64_t on_line_mm = tl_track_on_line_mm(track, m.at_mm);
    size_t point = tl_city_find(line, on_line_mm, tl_track_point(track, &m));
    struct tl_city_degrees at = tl_city_to_degrees(tl_city_locate(line, on_line_mm, point));
    int64_t speed = (m.speed + 50) / 100;
    int n = snprintf(e->channel, sizeof e->channel, "tram_%zu", i + 1);
    ret->channel = tl_bytes(e->channel, (size_t)n);
    ret->ts_ms = tl_emulator_next_ms(e);
    n = snprintf(e->payload, sizeof e->payload,
                 "{\"id\":%zu,\"line\":\"%s\",\"dir\":%d,\"lat\":%d.%06d,\"lon\":%d.%06d,"
                 "\"spd\":%lld.%lld,\"hdg\":%d,\"stop\":\"%s\",\"doors\":%d,\"delay\":%lld,"
                 "\"ts\":%lld}",
                 i + 1, line->name, tram->back, at.lat / 1000000, at.lat % 1000000,
                 at.lon / 1000000, at.lon % 1000000, (long long)speed / 10, (long long)speed % 10,
                 (line->points[point].heading_deg + (tram->back ? 180 : 0)) % 360,
                 e->city->stops[track->calls[tram->next].stop].name,
                 tl_tram_doors_open(tram, city_ms), (long long)tl_tram_delay_s(tram, city_ms),
                 (long long)ret->ts_ms);
    assert(n > 0 && (size_t)n < sizeof e->payload);
    ret->payload = tl_bytes(e->payload, (size_t)n);
}

bool tl_emulator_next(struct tl_emulator *e, int64_t now_ms, struct tl_emulator_message *ret)
{
    follow_clock(e, now_ms);
    for (; tl_emulator_next_ms(e) <= now_ms; e->turn++) {
        int64_t city_ms = due_us(e) / 1000;
        size_t i = (size_t)(e->turn % (int64_t)e->trams_n);
        drive_to(e, city_ms);
        if (city_ms < e->trams[i].silent_until_ms)
            continue;
        write_message(e, i, ret);
        e->turn++;
        return true;
    }
    return false;
}

const struct tl_city *tl_emulator_city(const struct tl_emulator *e)
{
    return e->city;
}
