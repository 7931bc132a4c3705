#include "app/serve_config.h"

#include "app/channel_rule.h"
#include "app/commands.h"
#include "base/alloc.h"

#include <errno.h>

#define FDS_SPARE 64 /* descriptors for the broker, the loops and refusals */

static struct tl_bytes *bytes_of(const struct tl_strings *strings)
{
    struct tl_bytes *bytes = tl_alloc((strings->n + 1) * sizeof *bytes);
    for (size_t i = 0; bytes && i < strings->n; i++)
        bytes[i] = tl_bytes_str(strings->items[i]);
    return bytes;
}

/* 'NAME GLOB [name]', checked by the options' table. */
static struct tl_pattern pattern_of(const char *rule)
{
    struct tl_bytes words[3] = {{0}};
    struct tl_bytes rest = tl_bytes_trim(tl_bytes_str(rule));
    for (int i = 0; i < 3 && rest.n > 0; i++) {
        size_t n = 0;
        while (n < rest.n && rest.p[n] != ' ' && rest.p[n] != '\t')
            n++;
        words[i] = tl_bytes(rest.p, n);
        rest = tl_bytes_trim(tl_bytes_skip(rest, n));
    }
    return (struct tl_pattern){words[0], words[1], words[2].n > 0};
}

static int read_patterns(struct tl_serve_config *serve, const struct tl_options *o)
{
    const struct tl_strings *rules = &o->patterns;
    serve->patterns = tl_zalloc((rules->n + 1) * sizeof *serve->patterns);
    if (!serve->patterns)
        return -ENOMEM;
    for (size_t i = 0; i < rules->n; i++) {
        serve->patterns[i] = pattern_of(rules->items[i]);
        for (size_t k = 0; k < i; k++) {
            if (!tl_bytes_eq(serve->patterns[k].name, serve->patterns[i].name) &&
                !tl_bytes_eq(serve->patterns[k].glob, serve->patterns[i].glob))
                continue;
            tl_command_say("serve", "--pattern: '%s' repeats the name or the glob of another one",
                           rules->items[i]);
            return -EINVAL;
        }
    }
    serve->config.patterns_n = rules->n;
    return 0;
}

static int read_routes(struct tl_serve_config *serve, const struct tl_options *o)
{
    const char *error = "";
    size_t at = 0;
    int r = tl_routes_init(&serve->routes, serve->routes_text, o->routes.n, &error, &at);
    if (r == -EINVAL)
        tl_command_say("serve", "--route: '%s': %s", o->routes.items[at], error);
    return r;
}

static uint32_t connections_max(const struct tl_options *o, uint64_t descriptors)
{
    uint64_t fit = descriptors > 2 * FDS_SPARE ? descriptors - FDS_SPARE : descriptors / 2;
    return (uint32_t)(o->connections_max > 0 ? o->connections_max : fit);
}

/* The channel with all vehicles: the operator's, or one that is made for the map. */
static struct tl_bytes fleet_name(struct tl_serve_config *serve)
{
    static const struct tl_pattern fleet = {
        .name = {(const uint8_t *)TL_LIVE_MAP_FLEET, sizeof TL_LIVE_MAP_FLEET - 1},
        .glob = {(const uint8_t *)TL_LIVE_MAP_GLOB, sizeof TL_LIVE_MAP_GLOB - 1},
    };
    size_t n = serve->config.patterns_n;
    for (size_t i = 0; i < n; i++)
        if (tl_bytes_eq(serve->patterns[i].glob, fleet.glob) ||
            tl_bytes_eq(serve->patterns[i].name, fleet.name))
            return serve->patterns[i].name;
    serve->patterns[n] = fleet; /* read_patterns() left room */
    serve->config.patterns_n++;
    return fleet.name;
}

static int make_map(struct tl_serve_config *serve, const struct tl_options *o,
                    struct tl_buf *city_lines)
{
    char error[300];
    serve->map.lines = *city_lines;
    *city_lines = (struct tl_buf){0};
    if (!o->demo && !*o->lines)
        return 0;
    if (*o->lines) {
        int r = tl_live_map_read_lines(&serve->map, o->lines, error, sizeof error);
        if (r < 0) {
            tl_command_say("serve", "%s", error);
            return r;
        }
    }
    return tl_live_map_init(&serve->map, o->demo, o->attribution, fleet_name(serve));
}

static struct tl_channel_rule standard_rule(const struct tl_options *o)
{
    return (struct tl_channel_rule){
        .log = {o->log_messages_max, o->log_bytes_max, o->log_age_ms},
    };
}

static int read_rules(struct tl_serve_config *serve, const struct tl_options *o)
{
    char error[400];
    struct tl_channel_rule standard = standard_rule(o);
    serve->rules = tl_zalloc((o->channel_rules.n + 1) * sizeof *serve->rules);
    if (!serve->rules)
        return -ENOMEM;
    for (size_t i = 0; i < o->channel_rules.n; i++) {
        int r = tl_channel_rule_parse(o->channel_rules.items[i], &standard, &serve->rules[i], error,
                                      sizeof error);
        if (r == 0)
            continue;
        tl_command_say("serve", "%s", error);
        return r;
    }
    return 0;
}

static void fill_config(struct tl_serve_config *serve, const struct tl_options *o,
                        uint64_t descriptors)
{
    serve->config = (struct tl_config){
        .standard = standard_rule(o),
        .rules = serve->rules,
        .rules_n = o->channel_rules.n,
        .logs_bytes_max = o->logs_bytes_max,
        .retired_bytes_max = o->retired_bytes_max,
        .linger_ms = o->linger_ms,
        .history_ttl_ms = o->history_ttl_ms,
        .subscribe_timeout_ms = o->subscribe_timeout_ms,
        .handshake_timeout_ms = o->handshake_timeout_ms,
        .stall_timeout_ms = o->stall_timeout_ms,
        .ping_ms = o->ping_ms,
        .drain_ms = o->drain_ms,
        .message_bytes_max = o->message_bytes_max,
        .inbound_bytes_max = o->inbound_bytes_max,
        .head_bytes_max = o->head_bytes_max,
        .input_bytes_max = o->input_bytes_max,
        .inbound_rate_max = (uint32_t)o->inbound_rate_max,
        .connections_max = connections_max(o, descriptors),
        .address_connections_max = (uint32_t)o->address_connections_max,
        .channels_max = (uint32_t)o->channels_max,
        .session_channels_max = (uint32_t)o->session_channels_max,
        .patterns = serve->patterns,
        .patterns_n = serve->config.patterns_n,
        .documents = serve->map.documents,
        .documents_n = serve->map.documents_n,
        .origins = serve->origins,
        .origins_n = o->origins.n,
        .allow = serve->allow,
        .allow_n = o->allow.n,
        .token = tl_bytes_str(o->token),
        .open = o->open,
    };
}

int tl_serve_config_init(struct tl_serve_config *ret_config, const struct tl_options *options,
                         uint64_t descriptors, struct tl_buf *city_lines)
{
    struct tl_serve_config *serve = ret_config;
    *serve = (struct tl_serve_config){.origins = bytes_of(&options->origins),
                                      .allow = bytes_of(&options->allow),
                                      .routes_text = bytes_of(&options->routes)};
    int r = serve->origins && serve->allow && serve->routes_text ? 0 : -ENOMEM;
    if (r == 0)
        r = read_patterns(serve, options);
    if (r == 0)
        r = read_rules(serve, options);
    if (r == 0)
        r = read_routes(serve, options);
    if (r == 0)
        r = make_map(serve, options, city_lines);
    tl_buf_deinit(city_lines);
    fill_config(serve, options, descriptors);
    return r;
}

void tl_serve_config_deinit(struct tl_serve_config *serve)
{
    for (size_t i = 0; serve->rules && i < serve->config.rules_n; i++)
        tl_channel_rule_deinit(&serve->rules[i]);
    tl_routes_deinit(&serve->routes);
    tl_live_map_deinit(&serve->map);
    tl_free(serve->patterns);
    tl_free(serve->origins);
    tl_free(serve->allow);
    tl_free(serve->routes_text);
    tl_free(serve->rules);
}
