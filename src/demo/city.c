#include "demo/city.h"

#include "base/alloc.h"
#include "demo/city_map.h"
#include "demo/dice.h"

#include <assert.h>
#include <errno.h>

/* Over the Dogger Bank: the land there went under the sea some 8,000 years ago. */
#define LAT_UDEG        54800000
#define LON_UDEG        2900000
#define LAT_UM_PER_UDEG 111320 /* micrometres of a millionth of a degree */
#define LON_UM_PER_UDEG 64168  /* the same times cos(54.8 degrees) */

#define BEND_M       25    /* how far the seed moves a stop, each way */
#define SPLINE_N     10    /* pieces of a street from stop to stop */
#define LAND_N       5     /* pieces of a border from corner to corner */
#define ROUND_N      6     /* pieces of a rounded corner */
#define ROUND_COSINE 97    /* in percent: bends of more than 14 degrees are rounded */
#define ROUND_MM     30000 /* how far before and behind a corner the rounding starts */
#define SIDE_FORCE   1000  /* mm/s2 that passengers stand in a curve */
#define LIMIT_MIN    5000
#define CENTRE_MM    1350000
#define CENTRE_LIMIT 9000
#define INNER_MM     2300000
#define INNER_LIMIT  11500
#define OUTER_LIMIT  14000

static int64_t root(int64_t square)
{
    int64_t r = 0;
    for (int64_t bit = (int64_t)1 << 31; bit > 0; bit >>= 1)
        if ((r + bit) * (r + bit) <= square)
            r += bit;
    return r;
}

static int64_t distance(struct tl_city_place a, struct tl_city_place b)
{
    int64_t x = b.x_mm - a.x_mm, y = b.y_mm - a.y_mm;
    return root(x * x + y * y);
}

/* Of x:y with 0 <= y <= x, x > 0, in degrees; the polynomial is right to a tenth. */
static int octant(int64_t x, int64_t y)
{
    assert(x > 0);
    int64_t z = y * 1000 / x;
    int64_t mdeg = 45 * z + z * (1000 - z) * (14020 + 3790 * z / 1000) / 1000000;
    return (int)((mdeg + 500) / 1000);
}

/* A compass heading. */
static int heading(struct tl_city_place from, struct tl_city_place to)
{
    int64_t east = to.x_mm - from.x_mm, north = to.y_mm - from.y_mm;
    int64_t e = east < 0 ? -east : east, n = north < 0 ? -north : north;
    if (e == 0 && n == 0)
        return 0;
    int quarter = e < n ? octant(n, e) : 90 - octant(e, n);
    int half = north < 0 ? 180 - quarter : quarter;
    return (east < 0 ? 360 - half : half) % 360;
}

/* Between b (i = 0) and c (i = n) of a row of four: a uniform Catmull-Rom curve. */
static int64_t curve(const int64_t p[4], int64_t i, int64_t n)
{
    int64_t once = p[2] - p[0], twice = 2 * p[0] - 5 * p[1] + 4 * p[2] - p[3];
    int64_t thrice = 3 * p[1] - p[0] - 3 * p[2] + p[3];
    return p[1] + (once * n * n * i + twice * n * i * i + thrice * i * i * i) / (2 * n * n * n);
}

static struct tl_city_place curve_place(const struct tl_city_place p[4], int64_t i, int64_t n)
{
    int64_t x[] = {p[0].x_mm, p[1].x_mm, p[2].x_mm, p[3].x_mm};
    int64_t y[] = {p[0].y_mm, p[1].y_mm, p[2].y_mm, p[3].y_mm};
    return (struct tl_city_place){curve(x, i, n), curve(y, i, n)};
}

/* A line while it is drawn: corners, and which of them are stops. */
struct draft {
    struct tl_city_place *corners;
    size_t n;
};

/* The stop `step` after the i-th of a street, around the end of a ring; beyond an end: the end. */
static size_t street_stop(const struct tl_map_street *street, size_t i, int step)
{
    size_t last = street->n - 1;
    bool ring = street->stops[0] == street->stops[last];
    if (step < 0)
        return street->stops[i > 0 ? i - 1 : ring ? last - 1 : 0];
    size_t to = i + (size_t)step;
    return street->stops[to <= last ? to : ring ? to - last : last];
}

/* The four stops whose curve is the street from a to b; whether it is to be run backwards. */
static bool find_street(const struct tl_map *map, size_t a, size_t b, size_t ret_stops[4])
{
    for (size_t s = 0; s < map->streets_n; s++) {
        const struct tl_map_street *street = &map->streets[s];
        for (size_t i = 0; i + 1 < street->n; i++) {
            size_t from = street->stops[i], to = street->stops[i + 1];
            if (!(from == a && to == b) && !(from == b && to == a))
                continue;
            for (int step = -1; step <= 2; step++)
                ret_stops[step + 1] = street_stop(street, i, step);
            return from == b;
        }
    }
    assert(false); /* a line of the table leaves the streets */
    return false;
}

/* Append the corners from stop a up to, not with, stop b. */
static void draw_street(struct draft *draft, const struct tl_city *city, size_t a, size_t b)
{
    size_t stops[4];
    struct tl_city_place p[4];
    bool back = find_street(&tl_demo_map, a, b, stops);
    for (size_t i = 0; i < 4; i++)
        p[i] = city->stops[stops[i]].place;
    for (int64_t i = 0; i < SPLINE_N; i++)
        draft->corners[draft->n++] = curve_place(p, back ? SPLINE_N - i : i, SPLINE_N);
}

static struct tl_city_place toward(struct tl_city_place from, struct tl_city_place to, int64_t mm)
{
    int64_t length = distance(from, to);
    if (length == 0)
        return from;
    return (struct tl_city_place){from.x_mm + (to.x_mm - from.x_mm) * mm / length,
                                  from.y_mm + (to.y_mm - from.y_mm) * mm / length};
}

static int64_t round_mm(struct tl_city_place a, struct tl_city_place b)
{
    int64_t most = distance(a, b) * 9 / 20;
    return most < ROUND_MM ? most : ROUND_MM;
}

static bool is_sharp(const struct tl_city_place *corner)
{
    int64_t ax = corner->x_mm - corner[-1].x_mm, ay = corner->y_mm - corner[-1].y_mm;
    int64_t bx = corner[1].x_mm - corner->x_mm, by = corner[1].y_mm - corner->y_mm;
    int64_t lengths = root(ax * ax + ay * ay) * root(bx * bx + by * by);
    return ax * bx + ay * by < lengths / 100 * ROUND_COSINE;
}

/* Append the corner as an arc: a quadratic Bezier curve. Returns the index of its middle. */
static size_t draw_corner(struct tl_city_line *line, const struct tl_city_place *corner)
{
    struct tl_city_place a = toward(*corner, corner[-1], round_mm(*corner, corner[-1]));
    struct tl_city_place c = toward(*corner, corner[1], round_mm(*corner, corner[1]));
    for (int64_t i = 0; i <= ROUND_N; i++) {
        int64_t j = ROUND_N - i, all = (int64_t)ROUND_N * ROUND_N;
        line->points[line->points_n++].place = (struct tl_city_place){
            (a.x_mm * j * j + 2 * corner->x_mm * i * j + c.x_mm * i * i) / all,
            (a.y_mm * j * j + 2 * corner->y_mm * i * j + c.y_mm * i * i) / all};
    }
    return line->points_n - 1 - ROUND_N / 2;
}

/* Turn the draft into points; each call remembers its point in at_mm for measure(). */
static void draw_points(struct tl_city_line *line, const struct draft *draft)
{
    for (size_t i = 0; i < draft->n; i++) {
        size_t middle = line->points_n;
        if (i > 0 && i + 1 < draft->n && is_sharp(&draft->corners[i]))
            middle = draw_corner(line, &draft->corners[i]);
        else
            line->points[line->points_n++].place = draft->corners[i];
        if (i % SPLINE_N == 0)
            line->calls[i / SPLINE_N].at_mm = (int64_t)middle;
    }
}

static int64_t zone_limit(struct tl_city_place place)
{
    int64_t out = distance(place, (struct tl_city_place){0, 0});
    return out < CENTRE_MM ? CENTRE_LIMIT : out < INNER_MM ? INNER_LIMIT : OUTER_LIMIT;
}

/* What the bend at the middle one of three points allows: v2 = a * r, and r = way / angle. */
static int64_t bend_limit(const struct tl_city_point *p)
{
    int64_t ax = p->place.x_mm - p[-1].place.x_mm, ay = p->place.y_mm - p[-1].place.y_mm;
    int64_t bx = p[1].place.x_mm - p->place.x_mm, by = p[1].place.y_mm - p->place.y_mm;
    int64_t a = root(ax * ax + ay * ay), b = root(bx * bx + by * by);
    int64_t cross = ax * by - ay * bx, bend = cross < 0 ? -cross : cross;
    if (bend == 0)
        return OUTER_LIMIT;
    int64_t radius = a * b / bend * (a + b) / 2;
    int64_t speed = root(SIDE_FORCE * radius);
    return speed < LIMIT_MIN ? LIMIT_MIN : speed < OUTER_LIMIT ? speed : OUTER_LIMIT;
}

/* Fill in what follows from the places: distances, headings, limits. */
static void measure(struct tl_city_line *line)
{
    struct tl_city_point *p = line->points;
    size_t last = line->points_n - 1;
    for (size_t i = 0; i < last; i++) {
        p[i + 1].at_mm = p[i].at_mm + distance(p[i].place, p[i + 1].place);
        p[i].heading_deg = heading(p[i].place, p[i + 1].place);
        int64_t limit = zone_limit(p[i].place);
        int64_t before = i > 0 ? bend_limit(&p[i]) : limit;
        int64_t behind = i + 1 < last ? bend_limit(&p[i + 1]) : limit;
        limit = before < limit ? before : limit;
        p[i].limit = behind < limit ? behind : limit;
    }
    p[last].heading_deg = p[last - 1].heading_deg;
    p[last].limit = p[last - 1].limit;
    line->length_mm = p[last].at_mm;
    for (size_t i = 0; i < line->calls_n; i++)
        line->calls[i].at_mm = p[line->calls[i].at_mm].at_mm;
}

static int make_line(const struct tl_city *city, const struct tl_map_line *from,
                     struct tl_city_line *line)
{
    size_t corners_n = (from->calls.n - 1) * SPLINE_N + 1;
    struct draft draft = {.corners = tl_alloc(corners_n * sizeof *draft.corners)};
    line->name = from->name;
    line->color = from->color;
    line->points = tl_zalloc(corners_n * (ROUND_N + 1) * sizeof *line->points);
    line->calls = tl_zalloc(from->calls.n * sizeof *line->calls);
    if (!draft.corners || !line->points || !line->calls) {
        tl_free(draft.corners);
        return -ENOMEM;
    }
    line->calls_n = from->calls.n;
    for (size_t i = 0; i < line->calls_n; i++)
        line->calls[i].stop = from->calls.stops[i];
    for (size_t i = 0; i + 1 < line->calls_n; i++)
        draw_street(&draft, city, line->calls[i].stop, line->calls[i + 1].stop);
    draft.corners[draft.n++] = city->stops[line->calls[line->calls_n - 1].stop].place;
    draw_points(line, &draft);
    tl_free(draft.corners);
    struct tl_city_point *fitting = tl_realloc(line->points, line->points_n * sizeof *line->points);
    if (!fitting)
        return -ENOMEM;
    line->points = fitting; /* much smaller: few corners are sharp */
    measure(line);
    return 0;
}

/* The border with its corners made smooth. */
static int make_land(const struct tl_map_land *from, struct tl_city_land *land)
{
    land->kind = from->kind;
    land->name = from->name;
    land->border = tl_alloc((from->border_n * LAND_N + 1) * sizeof *land->border);
    if (!land->border)
        return -ENOMEM;
    for (size_t i = 0; i < from->border_n; i++) {
        struct tl_city_place p[4];
        for (size_t j = 0; j < 4; j++) {
            struct tl_map_place at = from->border[(i + from->border_n - 1 + j) % from->border_n];
            p[j] = (struct tl_city_place){at.east * (int64_t)1000, at.north * (int64_t)1000};
        }
        for (int64_t j = 0; j < LAND_N; j++)
            land->border[land->border_n++] = curve_place(p, j, LAND_N);
    }
    land->border[land->border_n++] = land->border[0];
    return 0;
}

static int make_city(struct tl_city *city, const struct tl_map *map, uint64_t seed)
{
    city->name = map->name;
    city->stops = tl_zalloc(map->stops_n * sizeof *city->stops);
    city->lines = tl_zalloc(map->lines_n * sizeof *city->lines);
    city->lands = tl_zalloc(map->lands_n * sizeof *city->lands);
    if (!city->stops || !city->lines || !city->lands)
        return -ENOMEM;
    city->stops_n = map->stops_n;
    city->lines_n = map->lines_n;
    city->lands_n = map->lands_n;
    for (size_t i = 0; i < map->stops_n; i++) {
        const struct tl_map_stop *from = &map->stops[i];
        city->stops[i].name = from->name;
        city->stops[i].place.x_mm =
            1000 * (from->place.east + tl_dice_between(&seed, -BEND_M, BEND_M));
        city->stops[i].place.y_mm =
            1000 * (from->place.north + tl_dice_between(&seed, -BEND_M, BEND_M));
    }
    for (size_t i = 0; i < map->lines_n; i++)
        if (make_line(city, &map->lines[i], &city->lines[i]) < 0)
            return -ENOMEM;
    for (size_t i = 0; i < map->lands_n; i++)
        if (make_land(&map->lands[i], &city->lands[i]) < 0)
            return -ENOMEM;
    return 0;
}

int tl_city_new(struct tl_city **ret, uint64_t seed)
{
    struct tl_city *city = tl_zalloc(sizeof *city);
    if (!city)
        return -ENOMEM;
    int rc = make_city(city, &tl_demo_map, seed);
    if (rc < 0)
        tl_city_free(city);
    else
        *ret = city;
    return rc;
}

void tl_city_free(struct tl_city *city)
{
    if (!city)
        return;
    for (size_t i = 0; i < city->lines_n; i++) {
        tl_free(city->lines[i].points);
        tl_free(city->lines[i].calls);
    }
    for (size_t i = 0; i < city->lands_n; i++)
        tl_free(city->lands[i].border);
    tl_free(city->lands);
    tl_free(city->lines);
    tl_free(city->stops);
    tl_free(city);
}

size_t tl_city_find(const struct tl_city_line *line, int64_t at_mm, size_t near)
{
    assert(at_mm >= 0 && at_mm <= line->length_mm && near + 1 < line->points_n);
    while (near > 0 && line->points[near].at_mm > at_mm)
        near--;
    while (near + 2 < line->points_n && line->points[near + 1].at_mm <= at_mm)
        near++;
    return near;
}

struct tl_city_place tl_city_locate(const struct tl_city_line *line, int64_t at_mm, size_t near)
{
    const struct tl_city_point *p = &line->points[tl_city_find(line, at_mm, near)];
    return toward(p->place, p[1].place, at_mm - p->at_mm);
}

struct tl_city_degrees tl_city_to_degrees(struct tl_city_place place)
{
    return (struct tl_city_degrees){
        .lat = (int32_t)(LAT_UDEG + place.y_mm * 1000 / LAT_UM_PER_UDEG),
        .lon = (int32_t)(LON_UDEG + place.x_mm * 1000 / LON_UM_PER_UDEG),
    };
}
