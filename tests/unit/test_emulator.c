#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "demo/emulator.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define START_MS  INT64_C(1708079820000)
#define MINUTE_MS INT64_C(60000)

/* What a message says, and what follows from it. */
struct report {
    size_t id;
    const struct tl_city_line *line;
    int dir, heading, doors;
    double x_m, y_m, speed;
    char stop[32];
    int64_t delay, ts_ms;
    double way_m; /* along the track in its direction */
    double off_m; /* from the line */
};

static struct tl_emulator *start(size_t trams_n, uint32_t rate_mhz, uint64_t seed)
{
    struct tl_emulator *e = NULL;
    struct tl_emulator_options options = {trams_n, rate_mhz, seed};
    assert_int_equal(tl_emulator_new(&e, &options, START_MS), 0);
    return e;
}

/* The next message as a caller with a timer gets it, up to end_ms. */
static bool next(struct tl_emulator *e, int64_t end_ms, struct tl_emulator_message *m)
{
    while (tl_emulator_next_ms(e) <= end_ms)
        if (tl_emulator_next(e, tl_emulator_next_ms(e), m))
            return true;
    return false;
}

static const char *field(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    assert_non_null(at);
    return at + strlen(key);
}

/* Where on the line is nearest, and how near. */
static void project(struct report *r)
{
    double nearest = 1e18;
    for (size_t i = 0; i + 1 < r->line->points_n; i++) {
        const struct tl_city_point *p = &r->line->points[i];
        double ax = (double)p->place.x_mm / 1000, ay = (double)p->place.y_mm / 1000;
        double bx = (double)p[1].place.x_mm / 1000 - ax, by = (double)p[1].place.y_mm / 1000 - ay;
        double t = ((r->x_m - ax) * bx + (r->y_m - ay) * by) / (bx * bx + by * by);
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        double x = ax + t * bx - r->x_m, y = ay + t * by - r->y_m;
        if (x * x + y * y >= nearest)
            continue;
        nearest = x * x + y * y;
        r->way_m = (double)p->at_mm / 1000 + t * (double)(p[1].at_mm - p->at_mm) / 1000;
    }
    r->off_m = sqrt(nearest);
    if (r->dir)
        r->way_m = (double)r->line->length_mm / 1000 - r->way_m;
}

static struct report read_report(const struct tl_emulator *e, const struct tl_emulator_message *m)
{
    char text[256];
    struct report r = {0};
    const struct tl_city *city = tl_emulator_city(e);
    assert_in_range(m->payload.n, 110, 170);
    memcpy(text, m->payload.p, m->payload.n);
    text[m->payload.n] = 0;
    r.id = strtoul(field(text, "{\"id\":"), NULL, 10);
    r.line = &city->lines[strtoul(field(text, "\"line\":\""), NULL, 10) - 1];
    r.dir = (int)strtol(field(text, "\"dir\":"), NULL, 10);
    r.y_m = (strtod(field(text, "\"lat\":"), NULL) - 54.8) * 111320;
    r.x_m = (strtod(field(text, "\"lon\":"), NULL) - 2.9) * 64168;
    r.speed = strtod(field(text, "\"spd\":"), NULL);
    r.heading = (int)strtol(field(text, "\"hdg\":"), NULL, 10);
    const char *stop = field(text, "\"stop\":\"");
    memcpy(r.stop, stop, strcspn(stop, "\""));
    r.doors = (int)strtol(field(text, "\"doors\":"), NULL, 10);
    r.delay = strtol(field(text, "\"delay\":"), NULL, 10);
    r.ts_ms = strtoll(field(text, "\"ts\":"), NULL, 10);
    assert_int_equal(r.ts_ms, m->ts_ms);
    project(&r);
    return r;
}

static double length_m(const struct report *r)
{
    return (double)r->line->length_mm / 1000;
}

static bool at_terminus(const struct report *r)
{
    return r->way_m < 0.5 || r->way_m > length_m(r) - 0.5;
}

static void a_message_has_exactly_its_fields(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        json_type type;
    } fields[] = {{"id", JSON_INTEGER},    {"line", JSON_STRING}, {"dir", JSON_INTEGER},
                  {"lat", JSON_REAL},      {"lon", JSON_REAL},    {"spd", JSON_REAL},
                  {"hdg", JSON_INTEGER},   {"stop", JSON_STRING}, {"doors", JSON_INTEGER},
                  {"delay", JSON_INTEGER}, {"ts", JSON_INTEGER}};
    struct tl_emulator *e = start(40, 1000, 1);
    struct tl_emulator_message m;
    double bytes = 0;
    size_t n = 0;
    for (; next(e, START_MS + 2 * MINUTE_MS, &m); n++) {
        json_t *o =
            json_loadb((const char *)m.payload.p, m.payload.n, JSON_REJECT_DUPLICATES, NULL);
        assert_int_equal(json_object_size(o), sizeof fields / sizeof *fields);
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            assert_int_equal(json_typeof(json_object_get(o, fields[i].name)), fields[i].type);
        char channel[32];
        int id = (int)json_integer_value(json_object_get(o, "id"));
        snprintf(channel, sizeof channel, "tram_%d", id);
        assert_in_range(id, 1, 40);
        assert_true(tl_bytes_eq(m.channel, tl_bytes_str(channel)));
        assert_in_range(json_integer_value(json_object_get(o, "hdg")), 0, 359);
        assert_in_range(json_integer_value(json_object_get(o, "dir")), 0, 1);
        assert_in_range(json_integer_value(json_object_get(o, "doors")), 0, 1);
        json_decref(o);
        bytes += (double)m.payload.n;
    }
    assert_true(n > 4000);
    assert_true(bytes / (double)n > 130 && bytes / (double)n < 142);
    tl_emulator_free(e);
}

static uint64_t hash_run(uint64_t seed, int64_t step_ms)
{
    struct tl_emulator *e = start(60, 2000, seed);
    struct tl_emulator_message m;
    uint64_t hash = 0xcbf29ce484222325;
    for (int64_t now_ms = START_MS; now_ms <= START_MS + 4 * MINUTE_MS; now_ms += step_ms)
        while (tl_emulator_next(e, now_ms, &m))
            for (size_t i = 0; i < m.payload.n; i++)
                hash = (hash ^ m.payload.p[i]) * 0x100000001b3;
    tl_emulator_free(e);
    return hash;
}

static void the_same_seed_gives_the_same_bytes_however_it_is_asked(void **state)
{
    (void)state;
    uint64_t hash = hash_run(7, 1);
    assert_true(hash_run(7, 1) == hash);
    assert_true(hash_run(7, 40) == hash);
    assert_true(hash_run(7, 1500) == hash);
    assert_true(hash_run(8, 40) != hash);
}

/* Integers only: another compiler or machine may not change a byte. */
static void the_bytes_are_the_same_on_every_machine(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 100, 1);
    struct tl_emulator_message m;
    char last[256] = "";
    while (next(e, START_MS + 60 * MINUTE_MS, &m)) {
        memcpy(last, m.payload.p, m.payload.n);
        last[m.payload.n] = 0;
    }
    assert_string_equal(
        last, "{\"id\":1,\"line\":\"4\",\"dir\":0,\"lat\":54.811389,\"lon\":2.918119,\"spd\":9.8,"
              "\"hdg\":219,\"stop\":\"Museum\",\"doors\":0,\"delay\":-6,"
              "\"ts\":1708083420000}");
    tl_emulator_free(e);
}

/* Between two messages of one tram: nothing that its motors and brakes cannot do. */
static void assert_possible(const struct report *a, const struct report *b)
{
    double dt = (double)(b->ts_ms - a->ts_ms) / 1000;
    double mean = (a->speed + b->speed) / 2, spare = 1.1 * dt * dt / 4 + 0.1 * dt + 0.4;
    double moved = hypot(b->x_m - a->x_m, b->y_m - a->y_m);
    assert_true(fabs(b->speed - a->speed) <= 1.1 * dt + 0.11);
    assert_true(moved <= mean * dt + spare);
    if (a->dir == b->dir) {
        assert_true(b->way_m - a->way_m >= -0.5);
        assert_true(fabs(b->way_m - a->way_m - mean * dt) <= spare + 0.6);
    }
}

static void trams_move_as_trams_can_and_stay_on_their_lines(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 2000, 4);
    struct tl_emulator_message m;
    struct report before[41] = {0};
    double fastest = 0, moved = 0;
    while (next(e, START_MS + 20 * MINUTE_MS, &m)) {
        struct report r = read_report(e, &m), *b = &before[r.id];
        assert_true(r.off_m < 1);
        assert_true(r.speed >= 0 && r.speed <= 14);
        fastest = r.speed > fastest ? r.speed : fastest;
        if (b->id && r.ts_ms - b->ts_ms <= 500) {
            assert_possible(b, &r);
            moved += fabs(r.way_m - b->way_m) < 100 ? r.way_m - b->way_m : 0;
        }
        *b = r;
    }
    assert_true(fastest > 12);
    assert_true(moved / 40 / (20 * 60) > 4); /* m/s of a mean tram, stops and all */
    tl_emulator_free(e);
}

/* How far the report is from the track at the stop that it names. */
static double from_stop_m(const struct tl_emulator *e, const struct report *r)
{
    const struct tl_city *city = tl_emulator_city(e);
    for (size_t i = 0; i < r->line->calls_n; i++) {
        const struct tl_city_call *call = &r->line->calls[i];
        if (strcmp(city->stops[call->stop].name, r->stop) != 0)
            continue;
        struct tl_city_place at = tl_city_locate(r->line, call->at_mm, 0);
        return hypot((double)at.x_mm / 1000 - r->x_m, (double)at.y_mm / 1000 - r->y_m);
    }
    fail_msg("%s is no stop of line %s", r->stop, r->line->name);
    return 0;
}

static void doors_are_open_only_at_a_stand_at_the_stop_that_is_named(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 2000, 5);
    struct tl_emulator_message m;
    size_t open = 0, all = 0;
    for (; next(e, START_MS + 20 * MINUTE_MS, &m); all++) {
        struct report r = read_report(e, &m);
        double off_m = from_stop_m(e, &r);
        if (!r.doors)
            continue;
        open++;
        assert_true(r.speed == 0);
        assert_true(off_m < 0.3);
    }
    assert_in_range(open, all / 10, all / 2);
    tl_emulator_free(e);
}

struct stand {
    struct report first, last;
    bool doors;
};

static void trams_stop_for_15_to_40_seconds_with_open_doors(void **state)
{
    (void)state;
    struct tl_emulator *e = start(20, 5000, 6);
    struct tl_emulator_message m;
    struct stand stands[41] = {0};
    size_t n = 0;
    while (next(e, START_MS + 20 * MINUTE_MS, &m)) {
        struct report r = read_report(e, &m);
        struct stand *s = &stands[r.id];
        bool whole = s->first.id && r.ts_ms - s->last.ts_ms <= 250;
        if (r.speed == 0 && whole && s->last.speed == 0) {
            s->doors |= r.doors;
        } else if (r.speed == 0) {
            s->first = r;
            s->doors = r.doors;
            /* A stand that was not seen from its start is none. */
            s->first.id = whole ? r.id : 0;
        } else if (whole && s->last.speed == 0 && s->doors && !at_terminus(&r)) {
            assert_in_range(s->last.ts_ms - s->first.ts_ms, 14000, 41000);
            n++;
        }
        if (!s->first.id && r.speed > 0)
            s->first.id = r.id;
        s->last = r;
    }
    assert_true(n > 100);
    tl_emulator_free(e);
}

/* Their reports are at most half a second old: up to 7 m. */
static void assert_apart(const struct report *trams, size_t n, const struct report *r)
{
    if (at_terminus(r))
        return; /* there are sidings */
    for (size_t i = 1; i <= n; i++) {
        const struct report *o = &trams[i];
        if (o->id == 0 || o->id == r->id || o->line != r->line || o->dir != r->dir ||
            at_terminus(o) || r->ts_ms - o->ts_ms > 500)
            continue;
        assert_true(fabs(o->way_m - r->way_m) > 38 - 7.5);
    }
}

static void trams_of_a_line_keep_apart_and_still_get_on(void **state)
{
    (void)state;
    enum { N = 300 };
    struct tl_emulator *e = start(N, 2000, 2);
    struct tl_emulator_message m;
    struct report *trams = calloc(N + 1, sizeof *trams);
    double *moved = calloc(N + 1, sizeof *moved);
    size_t slow = 0;
    while (next(e, START_MS + 6 * MINUTE_MS, &m)) {
        struct report r = read_report(e, &m);
        assert_apart(trams, N, &r);
        moved[r.id] += r.speed / 2;
        trams[r.id] = r;
    }
    for (size_t i = 1; i <= N; i++)
        slow += moved[i] < 500;
    assert_true(slow < N / 5); /* those that park, turn or are silent */
    free(trams);
    free(moved);
    tl_emulator_free(e);
}

static void some_park_some_fall_silent_some_are_late_and_some_early(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 100, 9);
    struct tl_emulator_message m;
    struct report before[41] = {0};
    int64_t moved_ms[41] = {0};
    size_t parked = 0, silent = 0, late = 0, early = 0, all = 0;
    for (; next(e, START_MS + 180 * MINUTE_MS, &m); all++) {
        struct report r = read_report(e, &m), *b = &before[r.id];
        if (b->id && r.ts_ms - b->ts_ms > 30000) {
            silent++;
            assert_in_range(r.ts_ms - b->ts_ms, 30000, 5 * MINUTE_MS);
        }
        if (r.speed > 0 || !b->id)
            moved_ms[r.id] = r.ts_ms;
        else if (r.ts_ms - moved_ms[r.id] > 5 * MINUTE_MS) {
            parked++;
            assert_true(at_terminus(&r));
        }
        late += r.delay > 60;
        early += r.delay < -5;
        assert_in_range(r.delay + 120, 0, 1200);
        *b = r;
    }
    assert_in_range(parked, all / 100, all / 5);
    assert_in_range(silent, 15, 300);
    assert_in_range(late, all / 50, all / 2);
    assert_in_range(early, all / 100, all / 2);
    tl_emulator_free(e);
}

static void the_first_second_shows_the_whole_city_alive(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 1000, 1);
    struct tl_emulator_message m;
    size_t n = 0, moving = 0;
    unsigned lines = 0;
    int64_t ts_ms = START_MS;
    for (; next(e, START_MS + 999, &m); n++) {
        struct report r = read_report(e, &m);
        moving += r.speed > 0;
        lines |= 1U << (r.line - tl_emulator_city(e)->lines);
        assert_in_range(r.ts_ms, ts_ms, ts_ms + 200); /* spread, but for the silent ones */
        ts_ms = r.ts_ms;
    }
    assert_in_range(n, 34, 40);
    assert_in_range(moving, 20, 40);
    assert_int_equal(lines, 0xff);
    tl_emulator_free(e);
}

static void a_long_pause_is_not_caught_up_and_moves_no_tram(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 1000, 3);
    struct tl_emulator_message m;
    struct report before[41] = {0};
    while (next(e, START_MS + 5 * MINUTE_MS, &m)) {
        struct report r = read_report(e, &m);
        before[r.id] = r;
    }
    int64_t now_ms = START_MS + 8 * 60 * MINUTE_MS;
    size_t n = 0;
    for (; tl_emulator_next(e, now_ms, &m); n++)
        assert_in_range(m.ts_ms, now_ms - TL_EMULATOR_BACKLOG_MS, now_ms);
    assert_in_range(n, 0, 40 * TL_EMULATOR_BACKLOG_MS / 1000);
    assert_in_range(tl_emulator_next_ms(e), now_ms, now_ms + 25);
    while (next(e, now_ms + 900, &m)) {
        struct report r = read_report(e, &m), *b = &before[r.id];
        if (b->id && START_MS + 5 * MINUTE_MS - b->ts_ms < 1000)
            assert_true(hypot(r.x_m - b->x_m, r.y_m - b->y_m) < 2 * 14);
    }
    /* A short pause is caught up, every message of it. */
    now_ms += 2800;
    for (n = 0; tl_emulator_next(e, now_ms, &m); n++)
        assert_true(m.ts_ms <= now_ms);
    assert_in_range(n, 40, 80);
    tl_emulator_free(e);
}

static void a_clock_that_is_set_back_is_followed(void **state)
{
    (void)state;
    struct tl_emulator *e = start(40, 1000, 3);
    struct tl_emulator_message m;
    while (next(e, START_MS + MINUTE_MS, &m))
        ;
    int64_t now_ms = START_MS - 24 * 60 * MINUTE_MS;
    while (tl_emulator_next(e, now_ms, &m))
        ;
    assert_in_range(tl_emulator_next_ms(e), now_ms, now_ms + 100);
    assert_true(next(e, now_ms + 1000, &m));
    assert_in_range(m.ts_ms, now_ms, now_ms + 1000);
    /* A clock that only trembles is not. */
    int64_t due_ms = tl_emulator_next_ms(e);
    assert_false(tl_emulator_next(e, due_ms - 500, &m));
    assert_int_equal(tl_emulator_next_ms(e), due_ms);
    tl_emulator_free(e);
}

static void a_caller_that_is_always_late_gets_no_backlog(void **state)
{
    (void)state;
    struct tl_emulator *e = start(1000, 10000, 3);
    struct tl_emulator_message m;
    int64_t now_ms = START_MS;
    for (int i = 0; i < 20000; i++, now_ms += 1) { /* a tenth of what would be due */
        assert_true(tl_emulator_next(e, now_ms, &m));
        assert_in_range(m.ts_ms, now_ms - TL_EMULATOR_BACKLOG_MS, now_ms);
    }
    tl_emulator_free(e);
}

static size_t count_messages(size_t trams_n, uint32_t rate_mhz, int64_t for_ms)
{
    struct tl_emulator *e = start(trams_n, rate_mhz, 11);
    struct tl_emulator_message m;
    size_t n = 0;
    for (; next(e, START_MS + for_ms - 1, &m); n++)
        assert_in_range(m.payload.n, 110, 170);
    tl_emulator_free(e);
    return n;
}

static void any_number_of_trams_at_any_rate(void **state)
{
    (void)state;
    assert_int_equal(count_messages(1, 1000, 10000), 10);
    assert_int_equal(count_messages(1, 100000, 10000), 1000);
    assert_int_equal(count_messages(1, 1, 2000000), 2);
    assert_int_equal(count_messages(1, 7, 999000), 7);
    assert_int_equal(count_messages(7, 333, 3000), 7);
    assert_in_range(count_messages(10, 1, 1000000), 8, 10);
    assert_in_range(count_messages(499, 1000, 3000), 1300, 1497);
    assert_in_range(count_messages(501, 1000, 3000), 1300, 1503);
    assert_in_range(count_messages(10000, 1000, 2000), 18000, 20000);
    assert_in_range(count_messages(10000, 1, 2000), 10, 20);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct tl_emulator_options bad[] = {
        {0, 1000, 1}, {10001, 1000, 1}, {SIZE_MAX, 1000, 1}, {40, 0, 1}, {40, 100001, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_emulator *e = NULL;
        assert_int_equal(tl_emulator_new(&e, &bad[i], START_MS), -EINVAL);
        assert_null(e);
    }
    tl_emulator_free(NULL);
}

static void every_failing_allocation_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    struct tl_emulator_options options = {9, 1000, 1};
    int rc = -ENOMEM;
    int64_t i = 0;
    for (; rc == -ENOMEM; i++) {
        struct tl_emulator *e = NULL;
        tl_alloc_fail(i, 1);
        rc = tl_emulator_new(&e, &options, START_MS);
        tl_alloc_fail(0, 0);
        assert_true((rc == 0) == (e != NULL));
        tl_emulator_free(e);
    }
    assert_int_equal(rc, 0);
    assert_true(i > 80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_has_exactly_its_fields),
        cmocka_unit_test(the_same_seed_gives_the_same_bytes_however_it_is_asked),
        cmocka_unit_test(the_bytes_are_the_same_on_every_machine),
        cmocka_unit_test(trams_move_as_trams_can_and_stay_on_their_lines),
        cmocka_unit_test(doors_are_open_only_at_a_stand_at_the_stop_that_is_named),
        cmocka_unit_test(trams_stop_for_15_to_40_seconds_with_open_doors),
        cmocka_unit_test(trams_of_a_line_keep_apart_and_still_get_on),
        cmocka_unit_test(some_park_some_fall_silent_some_are_late_and_some_early),
        cmocka_unit_test(the_first_second_shows_the_whole_city_alive),
        cmocka_unit_test(a_long_pause_is_not_caught_up_and_moves_no_tram),
        cmocka_unit_test(a_clock_that_is_set_back_is_followed),
        cmocka_unit_test(a_caller_that_is_always_late_gets_no_backlog),
        cmocka_unit_test(any_number_of_trams_at_any_rate),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(every_failing_allocation_is_told_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
