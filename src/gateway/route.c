#include "gateway/route.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>

/* What a client finds without any --route. The last two are those of the question that this
 * gateway grew from. */
static const struct {
    enum tl_route_kind kind;
    const char *path, *channel;
    bool polite_close;
} defaults[] = {
    {TL_ROUTE_WS, "/ws/{channel}", "{channel}", false},
    {TL_ROUTE_SSE, "/sse/{channel}", "{channel}", false},
    {TL_ROUTE_SSE_MANY, "/sse", "-", false}, /* the query has the names */
    {TL_ROUTE_PUB, "/pub/{channel}", "{channel}", false},
    {TL_ROUTE_DUPLEX, "/chat/{room}", "{room}", false},
    {TL_ROUTE_POSITION, "/position/{channel}", "{channel}", false},
    {TL_ROUTE_INSPECT, "/channels/{channel}", "{channel}", false},
    {TL_ROUTE_WS, "/tram-state-ws/{tram_id}", "tram_{tram_id}", true},
    {TL_ROUTE_PUB, "/tram-state/{tram_id}", "tram_{tram_id}", false},
};
#define DEFAULTS_N (sizeof defaults / sizeof defaults[0])

bool tl_route_kind_parse(struct tl_bytes text, enum tl_route_kind *ret_kind)
{
    static const char *const names[] = {"ws", "sse", "pub", "duplex", "inspect", "position"};
    for (int kind = 0; kind < 6; kind++) {
        if (!tl_bytes_eq(text, tl_bytes_str(names[kind])))
            continue;
        *ret_kind = (enum tl_route_kind)kind;
        return true;
    }
    return false;
}

static struct tl_bytes next_word(struct tl_bytes *text)
{
    *text = tl_bytes_trim(*text);
    size_t n = 0;
    while (n < text->n && text->p[n] != ' ' && text->p[n] != '\t')
        n++;
    struct tl_bytes word = tl_bytes(text->p, n);
    *text = tl_bytes_skip(*text, n);
    return word;
}

static int add_rule(struct tl_routes *routes, struct tl_bytes rule, const char **ret_error)
{
    struct tl_route *route = &routes->routes[routes->n];
    *route = (struct tl_route){0};
    struct tl_bytes kind = next_word(&rule), path = next_word(&rule), channel = next_word(&rule);
    if (!tl_route_kind_parse(kind, &route->kind)) {
        *ret_error = "the first word is ws, sse, pub, duplex, inspect or position";
        return -EINVAL;
    }
    if (channel.n == 0 || tl_bytes_trim(rule).n > 0) {
        *ret_error = "a route is three words: KIND PATH CHANNEL";
        return -EINVAL;
    }
    int r = tl_template_compile(&route->path, path, channel, ret_error);
    if (r == 0)
        routes->n++;
    return r;
}

static void add_defaults(struct tl_routes *routes)
{
    for (size_t i = 0; i < DEFAULTS_N; i++) {
        const char *error;
        struct tl_route *route = &routes->routes[routes->n++];
        route->kind = defaults[i].kind;
        route->polite_close = defaults[i].polite_close;
        int r = tl_template_compile(&route->path, tl_bytes_str(defaults[i].path),
                                    tl_bytes_str(defaults[i].channel), &error);
        assert(r == 0);
    }
}

int tl_routes_init(struct tl_routes *routes, const struct tl_bytes *rules, size_t rules_n,
                   const char **ret_error, size_t *ret_at)
{
    *routes = (struct tl_routes){0};
    routes->routes = tl_zalloc((rules_n + DEFAULTS_N) * sizeof *routes->routes);
    if (!routes->routes)
        return -ENOMEM;
    for (size_t i = 0; i < rules_n; i++) {
        int r = add_rule(routes, rules[i], ret_error);
        if (r == 0)
            continue;
        *ret_at = i;
        tl_routes_deinit(routes);
        return r;
    }
    add_defaults(routes);
    return 0;
}

void tl_routes_deinit(struct tl_routes *routes)
{
    tl_free(routes->routes);
    *routes = (struct tl_routes){0};
}

void tl_routes_match(const struct tl_routes *routes, struct tl_bytes path, unsigned wanted,
                     struct tl_route_match *ret_match)
{
    ret_match->route = NULL;
    ret_match->kinds = 0;
    ret_match->result = TL_TEMPLATE_NO_MATCH;
    ret_match->name_n = 0;
    for (size_t i = 0; i < routes->n; i++) {
        const struct tl_route *route = &routes->routes[i];
        if (!tl_template_may_match(&route->path, path))
            continue;
        uint8_t name[TL_TEMPLATE_NAME_MAX];
        size_t name_n = 0;
        enum tl_template_result result = tl_template_match(&route->path, path, name, &name_n);
        if (result == TL_TEMPLATE_NO_MATCH)
            continue;
        ret_match->kinds |= 1u << route->kind;
        if (ret_match->route || !(wanted & 1u << route->kind))
            continue;
        ret_match->route = route;
        ret_match->result = result;
        ret_match->name_n = name_n;
        memcpy(ret_match->name, name, name_n);
    }
}
