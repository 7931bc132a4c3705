/*
 * UTF-8 as RFC 3629 has it: is a payload text, and is text that comes in pieces still good? Refuses
 * overlong forms, surrogates and what lies above U+10FFFF. Never decodes, never repairs.
 */
#ifndef TL_BASE_UTF8_H
#define TL_BASE_UTF8_H

#include "base/bytes.h"

/* True when all of the bytes are whole, well-formed characters. Any thread. */
bool tl_utf8_valid(struct tl_bytes bytes);

/*
 * Check the next piece of a text. *state is 0 before the first one and between characters. False at
 * the first byte with which no well-formed text can go on, and for every piece after that.
 */
TL_MUST_USE bool tl_utf8_feed(uint32_t *state, struct tl_bytes bytes);

/* True when the text may end here: not within a character, nothing refused. */
static inline bool tl_utf8_complete(uint32_t state)
{
    return state == 0;
}

#endif
