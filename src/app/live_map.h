/*
 * The live map as documents that a gateway serves: the page, what it says of itself, and the lines
 * to draw. Knows nothing of vehicles: those are messages.
 */
#ifndef TL_APP_LIVE_MAP_H
#define TL_APP_LIVE_MAP_H

#include "base/buf.h"
#include "gateway/config.h"

/* The channel that the page watches, if the operator has none for that. */
#define TL_LIVE_MAP_FLEET "fleet"
#define TL_LIVE_MAP_GLOB  "tram_*"

struct tl_live_map {
    struct tl_document *documents; /* for the config */
    size_t documents_n;
    struct tl_buf lines; /* GeoJSON; empty: the map has none */
    struct tl_buf about;
};

/*
 * Read a GeoJSON FeatureCollection with at least one line into map->lines. 0; -EINVAL or another
 * -errno with one line in error.
 */
TL_MUST_USE int tl_live_map_read_lines(struct tl_live_map *map, const char *path, char *error,
                                       size_t error_n);

/*
 * Make the documents, once the lines are there. fleet: the channel that the page watches. 0 or
 * -ENOMEM.
 */
TL_MUST_USE int tl_live_map_init(struct tl_live_map *map, bool demo, const char *attribution,
                                 struct tl_bytes fleet);

/* Takes a zeroed struct too. */
void tl_live_map_deinit(struct tl_live_map *map);

#endif
