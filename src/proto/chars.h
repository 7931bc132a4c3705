/*
 * Which ASCII bytes may stand where, by one look into a table: names, targets and hosts are
 * checked byte by byte in every request. Pure.
 */
#ifndef TL_PROTO_CHARS_H
#define TL_PROTO_CHARS_H

#include "base/bytes.h"

enum tl_chars {
    TL_CHARS_TOKEN = 1,  /* of a token: RFC 9110 5.6.2 */
    TL_CHARS_TARGET = 2, /* of a request target: visible ASCII without '#' */
    TL_CHARS_HOST = 4,   /* of a reg-name, without the '%' of escapes: RFC 3986 3.2.2 */
};

extern const uint8_t tl_chars_table[256];

static inline bool tl_chars_is(uint8_t c, enum tl_chars set)
{
    return tl_chars_table[c] & set;
}

/* Are all bytes of the set? Of no bytes, yes. */
static inline bool tl_chars_are(struct tl_bytes text, enum tl_chars set)
{
    unsigned common = set; /* of all so far: no branch a byte */
    for (size_t i = 0; i < text.n; i++)
        common &= tl_chars_table[text.p[i]];
    return common != 0;
}

#endif
