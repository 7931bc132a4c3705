/*
 * Route templates: `/tram-state-ws/{tram_id}` -> `tram_{tram_id}`, so that an application keeps its
 * own URLs. Pure: compiled once into a struct of fixed size, matched without allocating. Knows
 * nothing of methods, queries or what a route is for.
 */
#ifndef TL_PROTO_TEMPLATE_H
#define TL_PROTO_TEMPLATE_H

#include "base/bytes.h"

#define TL_TEMPLATE_NAME_MAX 255 /* bytes of a channel's name */
#define TL_TEMPLATE_TEXT_MAX                                                                       \
    255 /* bytes of the path and of the channel as the operator writes them */
#define TL_TEMPLATE_PARAMS_MAX 8
#define TL_TEMPLATE_PARTS_MAX  32

/* A literal, or a parameter (its name is off, n in the path's text). */
struct tl_template_part {
    uint8_t off, n;
    int8_t param; /* index of the parameter, or -1 for a literal */
};

struct tl_template_text {
    uint8_t bytes[TL_TEMPLATE_TEXT_MAX];
    uint8_t parts_n;
    struct tl_template_part parts[TL_TEMPLATE_PARTS_MAX];
};

struct tl_template {
    struct tl_template_text path, channel;
    uint8_t params_n;
    struct tl_template_part params[TL_TEMPLATE_PARAMS_MAX];
};

enum tl_template_result {
    TL_TEMPLATE_NO_MATCH,
    TL_TEMPLATE_MATCH,
    TL_TEMPLATE_BAD_ENCODING,  /* a % without two hex digits in a parameter */
    TL_TEMPLATE_NAME_EMPTY,    /* the path ends where its last parameter should begin */
    TL_TEMPLATE_NAME_TOO_LONG, /* over TL_TEMPLATE_NAME_MAX bytes */
};

/*
 * Compile. `path` begins with '/', holds up to 8 `{name}` parameters, never two side by side, and
 * is written decoded (no '%', '?', '#'); `channel` may use each parameter any number of times.
 * Names of parameters are letters, digits and '_', at most 32. Returns 0, or -EINVAL with
 * *ret_error a static text. The template keeps copies of both.
 */
TL_MUST_USE int tl_template_compile(struct tl_template *t, struct tl_bytes path,
                                    struct tl_bytes channel, const char **ret_error);

/* False: the path does not match, as one look tells. For many templates and one path. */
static inline bool tl_template_may_match(const struct tl_template *t, struct tl_bytes raw_path)
{
    /* Both begin with '/', and nearly all tell themselves apart behind it. */
    return raw_path.n < 2 || raw_path.p[1] == '%' || t->path.parts[0].n < 2 ||
           raw_path.p[1] == t->path.bytes[1];
}

/*
 * Match a raw path, still percent-encoded and without its query; on MATCH the channel's name is in
 * out, ret_n bytes of any value. A parameter takes one or more bytes of one segment, as few as let
 * the rest match; %2F stays inside its segment. Literals also match when the client escaped them.
 */
TL_MUST_USE enum tl_template_result tl_template_match(const struct tl_template *t,
                                                      struct tl_bytes raw_path,
                                                      uint8_t out[TL_TEMPLATE_NAME_MAX],
                                                      size_t *ret_n);

#endif
