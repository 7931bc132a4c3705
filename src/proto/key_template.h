/*
 * Keys made from channel names: the pattern `tram_{id}` and the template `tram_{id}:last` make
 * `tram_5:last` of the channel `tram_5`. A place `{id}` of a pattern matches what `*` does, so a
 * pattern becomes a glob (base/glob.h); `{channel}` in a template is the whole name. Pure; knows
 * nothing of what a key is for.
 */
#ifndef TL_PROTO_KEY_TEMPLATE_H
#define TL_PROTO_KEY_TEMPLATE_H

#include "base/buf.h"

#define TL_KEY_TEMPLATE_TEXT_MAX   255 /* bytes of the pattern and of the template as written */
#define TL_KEY_TEMPLATE_PLACES_MAX 8
#define TL_KEY_TEMPLATE_PARTS_MAX  32

/* A literal, or the value of a place. */
struct tl_key_template_part {
    uint8_t off, n; /* of a literal, in the template's text */
    int8_t place;   /* -2: literal, -1: the whole name, else index of a place */
};

struct tl_key_template {
    uint8_t glob[TL_KEY_TEMPLATE_TEXT_MAX]; /* the pattern with a star for each place */
    uint8_t glob_n;
    uint8_t places_n;
    struct {
        uint8_t star; /* where its star stands in the glob */
        uint8_t name_at, name_n;
    } places[TL_KEY_TEMPLATE_PLACES_MAX];
    uint8_t names[TL_KEY_TEMPLATE_TEXT_MAX];
    uint8_t text[TL_KEY_TEMPLATE_TEXT_MAX]; /* literals of the template, one behind the other */
    uint8_t parts_n;                        /* 0: there is no template */
    struct tl_key_template_part parts[TL_KEY_TEMPLATE_PARTS_MAX];
};

/*
 * Compile a pattern, and a template unless that is empty. A place is letters, digits and '_' in
 * braces; in a pattern any other brace is a literal one, as are `\{` and `\}` in both. Two places,
 * or a place and a star, must not stand side by side. Returns 0, or -EINVAL with *ret_error a
 * static text. Keeps copies of both.
 */
TL_MUST_USE int tl_key_template_compile(struct tl_key_template *t, struct tl_bytes pattern,
                                        struct tl_bytes text, const char **ret_error);

static inline struct tl_bytes tl_key_template_glob(const struct tl_key_template *t)
{
    return tl_bytes(t->glob, t->glob_n);
}

/*
 * Append the key of the channel; a place takes as few bytes as let the rest match. False if the
 * name does not match the glob. Without memory out->failed is set.
 */
TL_MUST_USE bool tl_key_template_expand(const struct tl_key_template *t, struct tl_bytes channel,
                                        struct tl_buf *out);

#endif
