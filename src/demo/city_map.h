/*
 * The demo city's table: stops, streets through them, lines along the streets, and the landscape.
 * Drawn by hand for this project; city.h makes curves of it.
 */
#ifndef TL_DEMO_CITY_MAP_H
#define TL_DEMO_CITY_MAP_H

#include <stddef.h>
#include <stdint.h>

/* Metres. */
struct tl_map_place {
    int32_t east, north;
};

struct tl_map_stop {
    const char *name;
    struct tl_map_place place;
};

/* A row of stops; a street that ends where it starts is a ring. */
struct tl_map_street {
    const uint8_t *stops;
    size_t n;
};

/* Its stops follow each other on some street. */
struct tl_map_line {
    const char *name, *color;
    struct tl_map_street calls;
};

struct tl_map_land {
    const char *kind, *name;
    const struct tl_map_place *border;
    size_t border_n;
};

struct tl_map {
    const char *name;
    const struct tl_map_stop *stops;
    size_t stops_n;
    const struct tl_map_street *streets;
    size_t streets_n;
    const struct tl_map_line *lines;
    size_t lines_n;
    const struct tl_map_land *lands;
    size_t lands_n;
};

extern const struct tl_map tl_demo_map;

#endif
