#include "base/glob.h"

/* Redis compares the ends of a range as plain chars, which are signed on its usual machines. */
static bool in_range(uint8_t a, uint8_t b, uint8_t c)
{
    int8_t from = (int8_t)a, to = (int8_t)b, x = (int8_t)c;
    return from <= to ? from <= x && x <= to : to <= x && x <= from;
}

/* The set whose `[` is at *at - 1; leaves *at behind its `]` or at the pattern's end. */
static bool match_set(struct tl_bytes pat, size_t *at, uint8_t c)
{
    size_t i = *at;
    bool negated = i < pat.n && pat.p[i] == '^', found = false;
    i += negated;
    while (i < pat.n && pat.p[i] != ']') {
        size_t left = pat.n - i;
        if (left >= 2 && pat.p[i] == '\\') {
            found |= pat.p[i + 1] == c;
            i += 2;
        } else if (left >= 3 && pat.p[i + 1] == '-') {
            found |= in_range(pat.p[i], pat.p[i + 2], c);
            i += 3;
        } else {
            found |= pat.p[i] == c;
            i++;
        }
    }
    *at = i < pat.n ? i + 1 : i;
    return found != negated;
}

/* Match one byte with the element at *at, which is there and no star; moves *at behind it. */
static bool match_one(struct tl_bytes pat, size_t *at, uint8_t c)
{
    uint8_t e = pat.p[(*at)++];
    if (e == '?')
        return true;
    if (e == '[')
        return match_set(pat, at, c);
    if (e == '\\' && *at < pat.n)
        e = pat.p[(*at)++];
    return e == c;
}

bool tl_glob_match(struct tl_bytes pattern, struct tl_bytes text)
{
    if (text.n == 0)
        return pattern.n == 0;
    size_t at = 0, i = 0, star = SIZE_MAX, star_i = 0;
    while (i < text.n) {
        if (at < pattern.n && pattern.p[at] == '*') {
            star = ++at;
            star_i = i;
        } else if (at < pattern.n && match_one(pattern, &at, text.p[i])) {
            i++;
        } else if (star != SIZE_MAX) {
            /* Only the last star can help: what the earlier ones took is as short as can be. */
            at = star;
            i = ++star_i;
        } else {
            return false;
        }
    }
    while (at < pattern.n && pattern.p[at] == '*')
        at++;
    return at == pattern.n;
}
