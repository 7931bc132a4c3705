/*
 * The demo's city: tram lines and stops of our own making on a place where there is only sea. The
 * streets are a table; the seed bends them a little. All arithmetic is in integers, so the same
 * seed is the same city on every machine. It moves nothing and knows no time: emulator.h does.
 */
#ifndef TL_DEMO_CITY_H
#define TL_DEMO_CITY_H

#include "base/buf.h"

/* Millimetres east and north of the city's middle. */
struct tl_city_place {
    int64_t x_mm, y_mm;
};

struct tl_city_stop {
    const char *name; /* UTF-8, at most 18 bytes, nothing that JSON escapes */
    struct tl_city_place place;
};

/* A bend of a line. The track is straight from one to the next. */
struct tl_city_point {
    struct tl_city_place place;
    int64_t at_mm;   /* along the line from its first point */
    int64_t limit;   /* speed limit from here to the next point, in mm/s: 5,000..14,000 */
    int heading_deg; /* from here to the next point, 0 = north, 90 = east; 0..359 */
};

struct tl_city_call {
    size_t stop;   /* in tl_city.stops */
    int64_t at_mm; /* along the line */
};

struct tl_city_line {
    const char *name;  /* "1" */
    const char *color; /* "#d62f3a"; legible on white and on black */
    struct tl_city_point *points;
    size_t points_n;
    struct tl_city_call *calls; /* in order; the first and the last are the termini */
    size_t calls_n;
    int64_t length_mm;
};

/* Water or green; its border is closed: the last place is the first. */
struct tl_city_land {
    const char *kind; /* "water", "park" */
    const char *name;
    struct tl_city_place *border; /* anticlockwise */
    size_t border_n;
};

struct tl_city {
    const char *name;
    struct tl_city_stop *stops;
    size_t stops_n;
    struct tl_city_line *lines;
    size_t lines_n;
    struct tl_city_land *lands;
    size_t lands_n;
};

/* Millionths of a degree, WGS 84. */
struct tl_city_degrees {
    int32_t lat, lon;
};

/* Returns 0 or -ENOMEM. Owner: the caller, until tl_city_free(). Never changes afterwards. */
TL_MUST_USE int tl_city_new(struct tl_city **ret, uint64_t seed);

/* Takes NULL. */
void tl_city_free(struct tl_city *city);

/*
 * The index of the point at or before at_mm, 0..points_n - 2; at_mm is 0..length_mm. `near` is
 * where the search starts: the last answer for something that moves, 0 if there is none.
 */
size_t tl_city_find(const struct tl_city_line *line, int64_t at_mm, size_t near);

/* The place at_mm along the line; at_mm is 0..length_mm, `near` as for tl_city_find(). */
struct tl_city_place tl_city_locate(const struct tl_city_line *line, int64_t at_mm, size_t near);

struct tl_city_degrees tl_city_to_degrees(struct tl_city_place place);

/*
 * Append the city as GeoJSON (RFC 7946), a FeatureCollection with a "name":
 *   a LineString a line    {line, mode: "tram", color, from, to}
 *   a Point a stop         {stop, lines: [...]}
 *   a Polygon a landscape  {land: "water" or "park", name}
 * Landscapes come first, so that drawing in order puts them below. Errors: out->failed.
 */
void tl_city_geojson(const struct tl_city *city, struct tl_buf *out);

#endif
