/*
 * The demo: the emulated trams as publishers inside a running gateway. They publish as any client
 * would, through the broker, from a timer of the first worker's loop.
 */
#ifndef TL_APP_DEMO_H
#define TL_APP_DEMO_H

#include "demo/emulator.h"
#include "gateway/gateway.h"
#include "loop/timer.h"

struct tl_demo {
    struct tl_emulator *emulator;
    struct tl_gateway *gateway;
    struct tl_timer timer;
};

/* The city, whose lines are appended as GeoJSON, and its trams; nothing runs yet. 0 or -ENOMEM. */
TL_MUST_USE int tl_demo_init(struct tl_demo *demo, struct tl_buf *lines);

/* Start to publish once the gateway's loop turns; it ends when the gateway drains. */
void tl_demo_start(struct tl_demo *demo, struct tl_gateway *gateway);

/* After the gateway's run and before it is freed. Takes a zeroed struct too. */
void tl_demo_deinit(struct tl_demo *demo);

#endif
