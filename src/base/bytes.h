/*
 * A borrowed run of bytes: pointer and length, never NUL-terminated by contract.
 * Nothing here allocates or owns.
 */
#ifndef TL_BASE_BYTES_H
#define TL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What every push parser answers. */
enum tl_parse {
    TL_PARSE_DONE, /* one whole thing was read */
    TL_PARSE_MORE, /* the bytes end before the thing does */
    TL_PARSE_BAD,  /* refused; the parser's own fields say why */
};

struct tl_bytes {
    const uint8_t *p;
    size_t n;
};

#define TL_LIT(s) ((struct tl_bytes){(const uint8_t *)(s), sizeof(s) - 1})
/* The struct that embeds the member; through an integer, so that const does not get in the way. */
#define TL_CONTAINER(ptr, type, member) ((type *)((uintptr_t)(ptr)-offsetof(type, member)))
/* An enum of one byte, where many are kept. */
#define TL_SMALL             __attribute__((packed))
#define TL_MUST_USE          __attribute__((warn_unused_result))
#define TL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

static inline struct tl_bytes tl_bytes(const void *p, size_t n)
{
    return (struct tl_bytes){(const uint8_t *)p, n};
}

static inline struct tl_bytes tl_bytes_str(const char *s)
{
    return tl_bytes(s, strlen(s));
}

static inline bool tl_bytes_eq(struct tl_bytes a, struct tl_bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline uint8_t tl_ascii_lower(uint8_t c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Equal but for the case of ASCII letters. */
static inline bool tl_bytes_ieq(struct tl_bytes a, struct tl_bytes b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (a.p[i] != b.p[i] && tl_ascii_lower(a.p[i]) != tl_ascii_lower(b.p[i]))
            return false;
    return true;
}

static inline bool tl_bytes_starts(struct tl_bytes a, struct tl_bytes prefix)
{
    return a.n >= prefix.n && memcmp(a.p, prefix.p, prefix.n) == 0;
}

/* The bytes without the first n (n <= a.n). */
static inline struct tl_bytes tl_bytes_skip(struct tl_bytes a, size_t n)
{
    return tl_bytes(a.p + n, a.n - n);
}

/* Without spaces and tabs at both ends. */
static inline struct tl_bytes tl_bytes_trim(struct tl_bytes a)
{
    while (a.n > 0 && (a.p[0] == ' ' || a.p[0] == '\t'))
        a = tl_bytes_skip(a, 1);
    while (a.n > 0 && (a.p[a.n - 1] == ' ' || a.p[a.n - 1] == '\t'))
        a.n--;
    return a;
}

#endif
