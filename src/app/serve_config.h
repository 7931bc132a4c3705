/*
 * From what the operator wrote (app/options.h) to what the gateway runs by (gateway/config.h), with
 * the live map's part where there is one. Opens nothing but the map's file.
 */
#ifndef TL_APP_SERVE_CONFIG_H
#define TL_APP_SERVE_CONFIG_H

#include "app/live_map.h"
#include "app/options.h"
#include "gateway/config.h"
#include "gateway/route.h"

struct tl_serve_config {
    struct tl_config config;
    struct tl_routes routes;
    struct tl_live_map map;
    /* What the config points to. */
    struct tl_pattern *patterns;
    struct tl_channel_rule *rules;
    struct tl_bytes *origins, *allow, *routes_text;
};

/*
 * options outlive it; descriptors: how many this process may have; city_lines: the demo's GeoJSON,
 * taken over, empty without a demo. 0, -EINVAL (told on standard error) or -ENOMEM. Owner:
 * tl_serve_config_deinit() in every case.
 */
TL_MUST_USE int tl_serve_config_init(struct tl_serve_config *ret_config,
                                     const struct tl_options *options, uint64_t descriptors,
                                     struct tl_buf *city_lines);

/* Takes a zeroed struct too. */
void tl_serve_config_deinit(struct tl_serve_config *serve);

#endif
