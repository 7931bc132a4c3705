#include "app/demo.h"

#include "base/clock.h"
#include "base/logger.h"

#include <errno.h>

#define TRAMS_N     40
#define RATE_MHZ    1000 /* a message a second and tram */
#define SEED        1
#define WAIT_MIN_MS 5 /* messages that are due together go out together */
#define WAIT_MAX_MS 1000

int tl_demo_init(struct tl_demo *demo, struct tl_buf *lines)
{
    struct tl_emulator_options options = {.trams_n = TRAMS_N, .rate_mhz = RATE_MHZ, .seed = SEED};
    int r = tl_emulator_new(&demo->emulator, &options, tl_clock_wall_ms());
    if (r < 0)
        return r;
    tl_city_geojson(tl_emulator_city(demo->emulator), lines);
    return lines->failed ? -ENOMEM : 0;
}

static void start_timer(struct tl_demo *demo)
{
    int64_t wait_ms = tl_emulator_next_ms(demo->emulator) - tl_clock_wall_ms();
    if (wait_ms < WAIT_MIN_MS)
        wait_ms = WAIT_MIN_MS;
    if (wait_ms > WAIT_MAX_MS)
        wait_ms = WAIT_MAX_MS; /* the wall clock may have been set */
    tl_loop_timer_start(tl_gateway_loop(demo->gateway), &demo->timer, (uint64_t)wait_ms);
}

static void on_timer(struct tl_timer *timer)
{
    struct tl_demo *demo = TL_CONTAINER(timer, struct tl_demo, timer);
    struct tl_emulator_message message;
    int64_t now_ms = tl_clock_wall_ms();
    while (tl_emulator_next(demo->emulator, now_ms, &message))
        if (tl_gateway_publish(demo->gateway, message.channel, message.payload) == -ESHUTDOWN)
            return;
    start_timer(demo);
}

void tl_demo_start(struct tl_demo *demo, struct tl_gateway *gateway)
{
    demo->gateway = gateway;
    tl_timer_init(&demo->timer, on_timer);
    start_timer(demo);
}

void tl_demo_deinit(struct tl_demo *demo)
{
    if (demo->gateway)
        tl_timer_stop(tl_loop_timers(tl_gateway_loop(demo->gateway)), &demo->timer);
    tl_emulator_free(demo->emulator);
    *demo = (struct tl_demo){0};
}
