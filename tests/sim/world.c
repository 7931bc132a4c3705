#include "world.h"

#include "base/metrics.h"
#include "broker/memory.h"
#include "broker/redis.h"
#include "gateway/hub_state.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS_MAX 100000

struct world world;

static const struct tl_pattern pattern = {.name = {(const uint8_t *)"all", 3},
                                          .glob = {(const uint8_t *)"c?", 2}};

/* --- the broker, watched --- */

static unsigned channel_of(enum tl_source_kind kind, struct tl_bytes name)
{
    return kind == TL_SOURCE_PATTERN ? MODEL_PATTERN : model_channel(name);
}

static int subscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    model_subscribe(channel_of(kind, name));
    return world.real_ops->subscribe(b, kind, name);
}

static int unsubscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    model_unsubscribe(channel_of(kind, name));
    return world.real_ops->unsubscribe(b, kind, name);
}

static void on_link(void *hub, enum tl_source_kind kind, bool up, const char *reason)
{
    model_link(up);
    tl_hub_broker_events.on_link(hub, kind, up, reason);
}

static void on_readiness(void *hub)
{
    tl_hub_broker_events.on_readiness(hub);
}

static void on_subscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name,
                          enum tl_broker_status status, const char *reason)
{
    if (status != TL_BROKER_OK)
        sim_fail("Redis refuses to subscribe: %s", reason);
    unsigned i = channel_of(kind, name);
    const struct tl_channel *channel = tl_hub_find(world.hub, model_name(i));
    bool is_due = channel && channel->life.state == TL_CHANNEL_SUBSCRIBING;
    uint64_t seq = world.hub->sequence.at;
    model_confirmed(i);
    tl_hub_broker_events.on_subscribed(hub, kind, name, status, reason);
    if (is_due && model_log(i))
        many_confirmed(i, seq, model_log(i)->seqs.epoch);
}

static void on_unsubscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name)
{
    tl_hub_broker_events.on_unsubscribed(hub, kind, name);
}

static uint64_t newest_seq(const struct tl_log *log)
{
    const struct tl_segment *seg = tl_chain_last(&log->lanes[TL_LANE_WS]->chain);
    return seg ? tl_segment_seq(seg, seg->entries_n - 1) : 0;
}

static bool on_message(void *hub, enum tl_source_kind kind, struct tl_bytes source,
                       struct tl_bytes name, struct tl_bytes payload)
{
    unsigned channel = channel_of(kind, source);
    uint32_t message = model_message_of(payload);
    const struct tl_log *log = model_log(channel);
    uint64_t before = log ? log->head.msg : 0;
    if (world.on_redis)
        redis_check_arrival(kind, message);
    model_arrives(channel, message);
    bool ok = tl_hub_broker_events.on_message(hub, kind, source, name, payload);
    if (ok && !world.on_redis && kind == TL_SOURCE_CHANNEL)
        model_was_published(message);
    log = model_log(channel);
    bool kept = log && log->head.msg > before;
    model_arrived(channel, kept, kept ? log->epoch : 0, kept ? log->head.idx : 0);
    if (kept)
        many_arrived(channel, newest_seq(log), log->seqs.epoch);
    return ok;
}

static void on_dropped(void *hub, enum tl_source_kind kind, struct tl_bytes source)
{
    (void)hub;
    (void)kind;
    (void)source;
    sim_fail("R2: a message was dropped as too big");
}

static const struct tl_broker_events events = {
    .on_link = on_link,
    .on_readiness = on_readiness,
    .on_subscribed = on_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_message = on_message,
    .on_dropped = on_dropped,
};

/* --- the gateway --- */

static void draw_rule(struct tl_channel_rule *rule, unsigned channel)
{
    bool latest = sim_chance(15);
    *rule = (struct tl_channel_rule){
        .glob = model_name(channel),
        .log = {sim_chance(50) ? sim_between(2, 20) : 1000,
                sim_chance(20) ? sim_between(500, 20000) : 1 << 20,
                sim_chance(20) ? sim_between(50, 3000) : 600000},
        .overflow = latest           ? TL_OVERFLOW_LATEST
                    : sim_chance(50) ? TL_OVERFLOW_GAP
                                     : TL_OVERFLOW_DISCONNECT,
        .interval_ms = latest && sim_chance(50) ? sim_between(1, 200) : 0,
    };
}

static void draw_config(void)
{
    struct tl_config *config = &world.config;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        draw_rule(&world.rules[i], i);
    *config = (struct tl_config){
        .standard = world.rules[0],
        .rules = world.rules,
        .rules_n = MODEL_CHANNELS,
        .logs_bytes_max = sim_chance(20) ? sim_between(2000, 40000) : 64 << 20,
        .retired_bytes_max = sim_chance(10) ? 1000 : 64 << 20,
        .linger_ms = sim_chance(50) ? sim_between(0, 50) : sim_between(50, 1500),
        .history_ttl_ms = sim_chance(50) ? sim_between(0, 50) : sim_between(50, 1500),
        .subscribe_timeout_ms = 2000,
        .handshake_timeout_ms = 100000,
        .stall_timeout_ms = sim_chance(50) ? 2000 : 100000,
        .ping_ms = sim_chance(30) ? 1500 : 100000,
        .drain_ms = sim_between(0, 100),
        .message_bytes_max = 1 << 20,
        .inbound_bytes_max = 4096,
        .head_bytes_max = 4096,
        .session_channels_max = 100,
        .inbound_rate_max = 1000000,
        .connections_max = 1000,
        .channels_max = sim_chance(15) ? sim_between(1, 3) : 100,
        .patterns = &pattern,
        .patterns_n = 1,
    };
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        sim_trace("%s: %llu messages, %llu bytes, %llu ms, overflow %d, interval %llu ms",
                  model_name(i).p, (unsigned long long)world.rules[i].log.msgs_max,
                  (unsigned long long)world.rules[i].log.bytes_max,
                  (unsigned long long)world.rules[i].log.age_max_ms, (int)world.rules[i].overflow,
                  (unsigned long long)world.rules[i].interval_ms);
    client_world = (struct client_world){
        .stall_timeout_ms = config->stall_timeout_ms,
        .ping_ms = config->ping_ms,
        .may_refuse = config->channels_max < MODEL_CHANNELS,
        .may_pin_reset = config->retired_bytes_max == 1000,
    };
}

static struct tl_broker *broker_new(struct tl_loop *loop)
{
    static const struct tl_redis_options options = {
        .host = "127.0.0.1", .port = 6379, .ping_ms = 200, .dead_ms = 600};
    return world.on_redis ? tl_redis_new(loop, &options) : tl_memory_new(loop);
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void gateway_start(void)
{
    const char *error;
    size_t at;
    for (size_t i = 0; i < TL_METRIC_N; i++)
        tl_metric_set((enum tl_metric)i, 0);
    model_new_gateway();
    many_new_gateway();
    net_start();
    must(tl_routes_init(&world.routes, NULL, 0, &error, &at) == 0);
    must(tl_limits_init(&world.limits, world.config.connections_max, 0) == 0);
    for (unsigned i = 0; i < world.workers_n; i++) {
        world.worker_list[i] = &world.workers[i];
        must(tl_worker_init(&world.workers[i], i, world.engine, &world.config, &world.routes,
                            &world.limits) == 0);
    }
    struct tl_loop *loop = world.workers[0].loop;
    struct tl_broker *broker = broker_new(loop);
    must(broker != NULL);
    world.hub = tl_hub_new(&world.config, loop, broker, world.worker_list, world.workers_n);
    must(world.hub != NULL);
    model_look_at(world.hub);
    world.real_ops = broker->ops;
    world.ops = *broker->ops;
    world.ops.subscribe = subscribe;
    world.ops.unsubscribe = unsubscribe;
    broker->ops = &world.ops;
    broker->events = &events;
    for (unsigned i = 0; i < world.workers_n; i++) {
        world.workers[i].hub = world.hub;
        must(tl_worker_listen(&world.workers[i], net_listen_fd(), true) == 0);
    }
}

static bool is_drained(void)
{
    for (unsigned i = 0; i < world.workers_n; i++)
        if (!atomic_load_explicit(&world.workers[i].drained, memory_order_acquire))
            return false;
    return true;
}

static void check_gauge(enum tl_metric gauge, const char *name)
{
    if (tl_metric_get(gauge) != 0)
        sim_fail("R9: %s is %lld, and nobody is left", name, (long long)tl_metric_get(gauge));
}

/* As gateway.c does it, and then everything must be given back. */
static void gateway_end(void)
{
    client_world.draining = true;
    for (unsigned i = 0; i < world.workers_n; i++)
        tl_mailbox_post(tl_loop_mailbox(world.workers[i].loop), &world.workers[i].drain_mail);
    for (unsigned ms = 0; !is_drained(); ms += 100) {
        if (ms > world.config.drain_ms + 7000)
            sim_fail("R25: the gateway does not end");
        world_pass(100);
    }
    tl_hub_stop(world.hub);
    for (int i = 0; i < 3; i++)
        tl_loop_turn(world.workers[0].loop, 0);
    redis_work();
    model_look_at(NULL);
    tl_hub_free(world.hub);
    world.hub = NULL;
    for (unsigned i = 0; i < world.workers_n; i++)
        tl_worker_deinit(&world.workers[i]);
    tl_limits_deinit(&world.limits);
    tl_routes_deinit(&world.routes);
    check_gauge(TL_M_CONNECTIONS, "connections");
    check_gauge(TL_M_SUBSCRIPTIONS, "subscriptions");
    check_gauge(TL_M_WS_SESSIONS, "websocket_sessions");
    check_gauge(TL_M_SSE_SESSIONS, "sse_sessions");
    check_gauge(TL_M_CHANNELS, "channels");
    check_gauge(TL_M_LOG_BYTES, "log_bytes");
    check_gauge(TL_M_RETIRED_BYTES, "retired_bytes");
}

void world_restart(bool polite)
{
    sim_trace("the gateway %s", polite ? "drains" : "dies");
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock && !polite)
            client_drop(c, true);
    if (!polite)
        redis_drop(false);
    bool was_calm = sim.calm;
    sim.calm = true;
    gateway_end();
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock) {
            c->stalled = false;
            client_read(c, SIZE_MAX);
            if (c->sock)
                client_drop(c, false);
        }
    sim.calm = was_calm;
    client_world.draining = false;
    net_end();
    gateway_start();
}

void world_start(void)
{
    world = (struct world){.workers_n = sim_between(1, WORLD_WORKERS), .on_redis = sim_chance(65)};
    uint32_t kind = sim_below(3);
    world.engine = kind > 0 ? TL_ENGINE_URING : TL_ENGINE_EPOLL;
    net_habits = (struct net_habits){
        .short_send = sim_chance(70) ? sim_between(5, 60) : 0,
        .refused_send = sim_chance(50) ? sim_between(1, 30) : 0,
        .late = sim_chance(50) ? sim_between(1, 50) : 0,
        .queues_always = kind > 1,
    };
    sim_trace("%u workers, %s, sends are %s", world.workers_n, world.on_redis ? "redis" : "memory",
              kind == 0   ? "made at once"
              : kind == 1 ? "queued in batches"
                          : "queued");
    model_start();
    client_forget_places();
    many_forget();
    redis_start();
    draw_config();
    gateway_start();
}

void world_end(void)
{
    gateway_end();
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock)
            client_drop(c, false);
    redis_end();
    net_end();
}

/* --- turning --- */

static bool turn(unsigned i)
{
    if (!net_is_due(world.workers[i].loop))
        return false;
    tl_loop_turn(world.workers[i].loop, 0);
    return true;
}

bool world_turn(void)
{
    unsigned from = sim_below(world.workers_n);
    for (unsigned i = 0; i < world.workers_n; i++)
        if (turn((from + i) % world.workers_n))
            return true;
    return false;
}

static bool read_clients(void)
{
    bool any = false;
    for (struct client *c = world.clients; c < world.clients + WORLD_CLIENTS; c++)
        if (c->sock && !c->stalled)
            any = client_read(c, SIZE_MAX) || any;
    return any;
}

void world_settle(void)
{
    bool was_calm = sim.calm, any = true;
    sim.calm = true;
    for (unsigned rounds = 0; any; rounds++) {
        if (rounds == ROUNDS_MAX)
            sim_fail("the gateway does not come to rest");
        any = false;
        for (unsigned i = 0; i < world.workers_n; i++)
            any = turn(i) || any;
        any = redis_work() || any;
        any = read_clients() || any;
    }
    sim.calm = was_calm;
}

static uint64_t next_timer_ms(void)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < world.workers_n; i++) {
        uint64_t ms = net_wait_ms(world.workers[i].loop);
        least = ms < least ? ms : least;
    }
    return least;
}

void world_pass(uint64_t ms)
{
    uint64_t until_ms = sim.now_ms + ms;
    for (;;) {
        world_settle();
        if (sim.now_ms >= until_ms)
            return;
        uint64_t wait_ms = next_timer_ms(), left_ms = until_ms - sim.now_ms;
        sim.now_ms += wait_ms < left_ms ? wait_ms : left_ms;
    }
}

void world_jump(uint64_t ms)
{
    sim.now_ms += ms;
    bool was_calm = sim.calm;
    sim.calm = ms >= 20; /* nobody is late by so much */
    for (unsigned i = 0; sim.calm && i < world.workers_n; i++)
        turn(i);
    sim.calm = was_calm;
}
