#include "chaos.h"

#include "world.h"

#include "gateway/hub_state.h"

/* --- clients --- */

static struct client *free_client(void)
{
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (!c->sock)
            return c;
    return NULL;
}

static struct client *some_client(bool publisher)
{
    struct client *found = NULL;
    uint32_t n = 0;
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock && (c->kind == CLIENT_PUBLISHER) == publisher && sim_below(++n) == 0)
            found = c;
    return found;
}

/* One that was told that the broker is down, and reads: what it reads next matters. */
static struct client *told_down(void)
{
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock && c->oracle.down && client_is_live(c) && !c->stalled)
            return c;
    return NULL;
}

/* Few channels have most of the clients, so that they meet. */
static unsigned draw_channel(void)
{
    return sim_chance(60) ? 0 : sim_below(MODEL_CHANNELS);
}

static void draw_terms(enum client_kind kind, struct client_terms *terms, unsigned *channel)
{
    uint32_t dice = sim_below(100);
    *terms = (struct client_terms){.strict = kind == CLIENT_WS && sim_chance(20)};
    if (dice < 20) {
        terms->start = START_HISTORY;
        terms->history = sim_below(12);
        return;
    }
    if (dice < 50 || !client_place(channel, &terms->since))
        return;
    terms->start = START_SINCE;
    if (dice > 95) { /* of nowhere */
        terms->since.gateway = 0;
        terms->since.epoch ^= 1;
    }
    uint32_t n = model_countable(*channel, &terms->since);
    if (kind == CLIENT_WS && n > 0 && sim_chance(50))
        terms->received = sim_below(n + 1 < 5 ? n + 1 : 5);
}

static void join(unsigned channel)
{
    struct client *c = free_client();
    if (!c)
        return;
    if (sim_chance(30)) {
        client_watch_many(c, world.client_ids++, sim_below(world.workers_n), world.rules);
        return;
    }
    enum client_kind kind = sim_chance(50) ? CLIENT_WS : CLIENT_SSE;
    struct client_terms terms;
    draw_terms(kind, &terms, &channel);
    client_subscribe(c, world.client_ids++, sim_below(world.workers_n), kind, channel,
                     &world.rules[channel], &terms);
    if (sim_chance(40))
        c->sock->room_max = sim_between(1, 3000);
}

static void join_many(void)
{
    unsigned channel = draw_channel();
    for (uint32_t n = sim_between(2, 8); n > 0; n--)
        join(channel);
}

static void leave(struct client *c)
{
    if (!c)
        return;
    switch (sim_below(3)) {
    case 0:
        sim_trace("client %u: breaks off", c->oracle.client);
        client_drop(c, true);
        break;
    case 1:
        sim_trace("client %u: closes", c->oracle.client);
        client_drop(c, false);
        break;
    default:
        if (!c->closing)
            client_say_goodbye(c);
        break;
    }
}

static void stall(struct client *c)
{
    if (!c)
        return;
    c->stalled = !c->stalled;
    sim_trace("client %u: %s", c->oracle.client, c->stalled ? "stalls" : "reads again");
    if (c->stalled)
        c->sock->room_max = sim_between(1, 500);
}

static void read_some(void)
{
    struct client *c = some_client(sim_chance(20));
    if (c && !c->stalled)
        client_read(c, sim_chance(50) ? SIZE_MAX : sim_between(1, 200));
}

/* --- publishing --- */

static void publish_by_http(void)
{
    struct client *c = some_client(true);
    if (!c) {
        c = free_client();
        if (c)
            client_open_publisher(c, world.client_ids++, sim_below(world.workers_n));
    }
    if (c && c->message == MODEL_NONE)
        client_publish(c, model_new_message(sim_below(MODEL_PATTERN)));
}

static void publish(unsigned channel)
{
    if (!world.on_redis || sim_chance(20)) {
        publish_by_http();
        return;
    }
    if (!redis_is_well())
        return;
    uint32_t message = model_new_message(channel);
    sim_trace("redis: is told message %u of %s", message, model_name(channel).p);
    model_was_published(message);
    redis_publish(model_name(channel), model_payload(message));
}

static void publish_burst(void)
{
    unsigned channel = sim_chance(60) ? 0 : sim_below(MODEL_PATTERN);
    bool one = sim_chance(70);
    for (uint32_t n = sim_chance(90) ? sim_between(1, 4) : sim_between(5, 40); n > 0; n--)
        publish(one ? channel : sim_below(MODEL_PATTERN));
}

/* --- trouble --- */

static void trouble(void)
{
    if (!world.on_redis) {
        if (sim_chance(30))
            world_restart(sim_chance(50));
        return;
    }
    client_world.may_refuse = true; /* somebody may have waited too long */
    switch (sim_below(6)) {
    case 0:
        sim_trace("redis: goes down");
        redis_down_until(sim.now_ms + sim_between(1, 1500));
        break;
    case 1:
        sim_trace("redis: hangs");
        redis_hang_until(sim.now_ms + sim_between(1, 1500));
        break;
    case 2:
        world_restart(sim_chance(50));
        break;
    default:
        redis_drop(sim_chance(60));
        break;
    }
}

/* --- rest --- */

static void check_complete(void)
{
    for (const struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (client_is_live(c) && !c->stalled)
            client_check_complete(c, true);
}

/* A moment in which nothing new happens: everybody who reads has everything then, at once, unless a
 * rule lets them wait. */
static void rest(uint64_t ms)
{
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++) {
        if (c->sock && !c->stalled)
            c->sock->room_max = 1 << 22;
    }
    world_pass(ms);
    sim_trace("rest");
    for (const struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (client_is_live(c) && !c->stalled && !c->oracle.down && !c->oracle.doomed)
            client_check_complete(c, ms > 0);
}

static void step(void)
{
    uint32_t dice = sim_below(1000);
    if (dice < 60)
        join(draw_channel());
    else if (dice < 70)
        join_many();
    else if (dice < 100)
        leave(some_client(sim_chance(10)));
    else if (dice < 140)
        stall(sim_chance(80) && told_down() ? told_down() : some_client(sim_chance(10)));
    else if (dice < 240)
        publish_burst();
    else if (dice < 248)
        trouble();
    else if (dice < 260)
        rest(0);
    else if (dice < 330)
        world_jump(sim_chance(80) ? sim_between(1, 10) : sim_between(10, 400));
    else if (dice < 500)
        redis_work();
    else if (dice < 700)
        read_some();
    else
        world_turn();
}

/* --- the end --- */

static void everybody_reads(void)
{
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++) {
        if (!c->sock)
            continue;
        c->stalled = false;
        c->sock->room_max = 1 << 22;
    }
}

static void publish_last(void)
{
    for (unsigned channel = 0; channel < MODEL_PATTERN; channel++) {
        if (world.on_redis) {
            publish(channel);
            continue;
        }
        for (struct client *c = world.clients; !some_client(true) && c < world.clients + 1; c++)
            leave(free_client() ? NULL : c);
        publish_by_http();
        world_settle();
    }
}

static void check_acked(void)
{
    for (const struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock && c->kind != CLIENT_PUBLISHER && !c->closing && !c->answered &&
            !c->oracle.acked)
            sim_fail("R7: client %u waits for ever", c->oracle.client);
}

static void check_released(void)
{
    if (world.hub->channels.n > 0)
        sim_fail("R9: %zu channels are left, and nobody watches", world.hub->channels.n);
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        bool is_pattern = i == MODEL_PATTERN;
        if (redis_subscribers(is_pattern ? TL_SOURCE_PATTERN : TL_SOURCE_CHANNEL,
                              is_pattern ? TL_LIT("c?") : model_name(i)) > 0)
            sim_fail("R9: %s is still subscribed, and nobody watches", model_name(i).p);
    }
}

/* Every promise comes true: all are subscribed, have everything, get what comes, and leave
 * nothing. */
static void come_to_rest(void)
{
    sim.calm = true;
    everybody_reads();
    redis_down_until(sim.now_ms);
    redis_hang_until(sim.now_ms);
    world_pass(2500);
    check_acked();
    check_complete();
    publish_last();
    world_pass(300);
    check_complete();
    if (world.on_redis && !redis_is_drained())
        sim_fail("R8: Redis told messages that did not arrive");
    model_check_published();
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock)
            leave(c);
    world_pass(world.config.linger_ms + world.config.history_ttl_ms + 6500);
    check_released();
}

uint32_t chaos_run(uint64_t seed)
{
    sim_start(seed);
    world_start();
    uint32_t steps_n = sim_between(30, 400);
    for (sim.step = 1; sim.step <= steps_n; sim.step++)
        step();
    come_to_rest();
    world_end();
    return sim.step;
}
