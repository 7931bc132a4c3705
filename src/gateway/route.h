/*
 * The route table: which path is which channel, and what may be done with it. Immutable after it
 * is built, shared by all loops.
 */
#ifndef TL_GATEWAY_ROUTE_H
#define TL_GATEWAY_ROUTE_H

#include "proto/http1.h"
#include "proto/template.h"

enum tl_route_kind {
    TL_ROUTE_WS,       /* raw WebSocket: payloads and nothing else */
    TL_ROUTE_SSE,      /* Server-Sent Events */
    TL_ROUTE_PUB,      /* POST publishes the body */
    TL_ROUTE_DUPLEX,   /* WebSocket whose messages are published */
    TL_ROUTE_INSPECT,  /* GET answers who watches the channel, and how slowly */
    TL_ROUTE_POSITION, /* GET answers where the channel stands, for ?since= */
    TL_ROUTE_SSE_MANY, /* Server-Sent Events of the channels that the query names */
};

struct tl_route {
    enum tl_route_kind kind;
    bool polite_close; /* a text message `close` from the client closes */
    struct tl_template path;
};

struct tl_routes {
    struct tl_route *routes;
    size_t n;
};

/* "ws", "sse", "pub", "duplex", "inspect", "position". False for anything else. */
TL_MUST_USE bool tl_route_kind_parse(struct tl_bytes text, enum tl_route_kind *ret_kind);

/*
 * The operator's rules ("KIND PATH CHANNEL"), which come first, and the default set. 0, -ENOMEM, or
 * -EINVAL with *ret_error a static text about rule *ret_at.
 */
TL_MUST_USE int tl_routes_init(struct tl_routes *routes, const struct tl_bytes *rules,
                               size_t rules_n, const char **ret_error, size_t *ret_at);
void tl_routes_deinit(struct tl_routes *routes);

struct tl_route_match {
    const struct tl_route *route; /* NULL: no route does this */
    unsigned kinds;               /* a bit (1 << kind) for each route that the path matches */
    enum tl_template_result result;
    size_t name_n;
    uint8_t name[TL_TEMPLATE_NAME_MAX];
};

/* The first route of one of the wanted kinds (bits) whose path matches. */
void tl_routes_match(const struct tl_routes *routes, struct tl_bytes path, unsigned wanted,
                     struct tl_route_match *ret_match);

#endif
