#include "base/base64.h"

#define FOREIGN 0xFFu

static const uint8_t alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode_three(uint32_t bits, uint8_t *out)
{
    for (int i = 3; i >= 0; i--, bits >>= 6)
        out[i] = alphabet[bits & 63];
}

void tl_base64_encode(struct tl_bytes bytes, uint8_t *out)
{
    const uint8_t *p = bytes.p;
    size_t left = bytes.n;

    for (; left >= 3; left -= 3, p += 3, out += 4)
        encode_three((uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2], out);
    if (left == 0)
        return;
    encode_three((uint32_t)p[0] << 16 | (left == 2 ? (uint32_t)p[1] << 8 : 0), out);
    out[3] = '=';
    if (left == 1)
        out[2] = '=';
}

static uint32_t digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - (uint32_t)'A';
    if (c >= 'a' && c <= 'z')
        return c - (uint32_t)'a' + 26;
    if (c >= '0' && c <= '9')
        return c - (uint32_t)'0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : FOREIGN;
}

bool tl_base64_is_digit(uint8_t c)
{
    return digit(c) != FOREIGN;
}

/* The n (2..4) digits at p as the top bits of 24; false when one is foreign. */
static bool decode_digits(const uint8_t *p, size_t n, uint32_t *ret_bits)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t d = digit(p[i]);
        if (d == FOREIGN)
            return false;
        bits |= d << (18 - 6 * i);
    }
    *ret_bits = bits;
    return true;
}

bool tl_base64_decode(struct tl_bytes text, uint8_t *out, size_t *ret_n)
{
    uint8_t *at = out;

    if (text.n % 4 != 0)
        return false;
    for (size_t i = 0; i < text.n; i += 4) {
        const uint8_t *p = text.p + i;
        bool last = i + 4 == text.n;
        size_t pads = !last || p[3] != '=' ? 0 : p[2] != '=' ? 1 : 2;
        uint32_t bits;
        if (!decode_digits(p, 4 - pads, &bits) || (bits & ((1u << 8 * pads) - 1)) != 0)
            return false;
        for (size_t k = 0; k < 3 - pads; k++)
            *at++ = (uint8_t)(bits >> (16 - 8 * k));
    }
    *ret_n = (size_t)(at - out);
    return true;
}
