#include "base/utf8.h"

/* What has to come next. The four special leads narrow their first continuation byte. */
enum {
    BETWEEN,
    ONE_LEFT,
    TWO_LEFT,
    THREE_LEFT,
    AFTER_E0, /* not 80..9F: overlong */
    AFTER_ED, /* not A0..BF: surrogates */
    AFTER_F0, /* not 80..8F: overlong */
    AFTER_F4, /* not 90..BF: above U+10FFFF */
    REFUSED,
};

static const struct {
    uint8_t lo, hi, next;
} steps[] = {
    [BETWEEN] = {1, 0, REFUSED}, /* unused: leads have a function of their own */
    [ONE_LEFT] = {0x80, 0xBF, BETWEEN},
    [TWO_LEFT] = {0x80, 0xBF, ONE_LEFT},
    [THREE_LEFT] = {0x80, 0xBF, TWO_LEFT},
    [AFTER_E0] = {0xA0, 0xBF, ONE_LEFT},
    [AFTER_ED] = {0x80, 0x9F, ONE_LEFT},
    [AFTER_F0] = {0x90, 0xBF, TWO_LEFT},
    [AFTER_F4] = {0x80, 0x8F, TWO_LEFT},
    [REFUSED] = {1, 0, REFUSED}, /* an empty range: refused for ever */
};

/* The state behind the first byte of a character that is not ASCII. */
static uint32_t lead_state(uint8_t c)
{
    if (c < 0xC2)
        return REFUSED; /* a stray continuation byte, or C0, C1: overlong */
    if (c < 0xE0)
        return ONE_LEFT;
    if (c < 0xF0)
        return c == 0xE0 ? AFTER_E0 : c == 0xED ? AFTER_ED : TWO_LEFT;
    if (c < 0xF4)
        return c == 0xF0 ? AFTER_F0 : THREE_LEFT;
    return c == 0xF4 ? AFTER_F4 : REFUSED;
}

/* The first byte at or behind p that is not ASCII, or end. */
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end)
{
    const uint64_t high = 0x8080808080808080u;
    uint64_t w[4];

    /* Most payloads are ASCII only, and each message passes here once. */
    for (; (size_t)(end - p) >= sizeof(w); p += sizeof(w)) {
        memcpy(w, p, sizeof(w));
        if (((w[0] | w[1] | w[2] | w[3]) & high) != 0)
            break;
    }
    for (; (size_t)(end - p) >= sizeof(w[0]); p += sizeof(w[0])) {
        memcpy(w, p, sizeof(w[0]));
        if ((w[0] & high) != 0)
            break;
    }
    while (p < end && *p < 0x80)
        p++;
    return p;
}

bool tl_utf8_feed(uint32_t *state, struct tl_bytes bytes)
{
    uint32_t s = *state;

    if (s == REFUSED)
        return false;
    if (bytes.n == 0)
        return true;
    const uint8_t *p = bytes.p, *end = bytes.p + bytes.n;
    while (p < end && s != REFUSED) {
        if (s != BETWEEN) {
            s = *p >= steps[s].lo && *p <= steps[s].hi ? steps[s].next : REFUSED;
            p++;
        } else if (*p < 0x80) {
            p = skip_ascii(p, end);
        } else {
            s = lead_state(*p++);
        }
    }
    *state = s;
    return s != REFUSED;
}

bool tl_utf8_valid(struct tl_bytes bytes)
{
    uint32_t state = 0;

    return tl_utf8_feed(&state, bytes) && tl_utf8_complete(state);
}
