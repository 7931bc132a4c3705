/*
 * Base64 with the standard alphabet and padding (RFC 4648 section 4). Decoding is strict: one text
 * for one run of bytes, nothing is skipped. Never allocates.
 */
#ifndef TL_BASE_BASE64_H
#define TL_BASE_BASE64_H

#include "base/bytes.h"

/* Characters that n bytes become (n <= SIZE_MAX / 2). No NUL is counted or written. */
static inline size_t tl_base64_size(size_t n)
{
    return n / 3 * 4 + (n % 3 == 0 ? 0 : 4);
}

/* Write exactly tl_base64_size(bytes.n) characters to out, which does not overlap the bytes. */
void tl_base64_encode(struct tl_bytes bytes, uint8_t *out);

/* True for the 64 characters, not for the padding. */
bool tl_base64_is_digit(uint8_t c);

/*
 * Decode into out, which has room for text.n / 4 * 3 bytes and may be the text's own memory. False
 * for a length that is no multiple of 4, any foreign character (white space too), padding anywhere
 * but at the end, and unused bits that are not zero (RFC 4648 3.5).
 */
TL_MUST_USE bool tl_base64_decode(struct tl_bytes text, uint8_t *out, size_t *ret_n);

#endif
