#include "proto/origin.h"

#include "proto/url.h"

struct origin {
    struct tl_bytes scheme, host;
    uint16_t port; /* 0: none given, and the scheme has no default known here */
};

static uint16_t default_port(struct tl_bytes scheme)
{
    if (tl_bytes_ieq(scheme, TL_LIT("http")))
        return 80;
    return tl_bytes_ieq(scheme, TL_LIT("https")) ? 443 : 0;
}

/* RFC 3986 3.1. */
static bool is_scheme(struct tl_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = tl_ascii_lower(text.p[i]);
        bool more = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if ((c < 'a' || c > 'z') && (i == 0 || !more))
            return false;
    }
    return text.n > 0;
}

/* scheme://host[:port] and nothing behind it. */
static bool parse_origin(struct tl_bytes text, struct origin *ret)
{
    const uint8_t *colon = text.n > 0 ? memchr(text.p, ':', text.n) : NULL;
    if (!colon)
        return false;
    ret->scheme = tl_bytes(text.p, (size_t)(colon - text.p));
    struct tl_bytes rest = tl_bytes_skip(text, ret->scheme.n);
    if (!is_scheme(ret->scheme) || !tl_bytes_starts(rest, TL_LIT("://")))
        return false;
    rest = tl_bytes_skip(rest, 3);
    /* `host:` is a good Host header, but no browser writes such an origin. */
    if (rest.n == 0 || rest.p[rest.n - 1] == ':' || !tl_url_authority(rest, &ret->host, &ret->port))
        return false;
    if (ret->port == 0)
        ret->port = default_port(ret->scheme);
    return true;
}

static bool same_host(const struct origin *o, struct tl_bytes host_header, bool tls)
{
    struct tl_bytes host, scheme = tls ? TL_LIT("https") : TL_LIT("http");
    uint16_t port;
    if (!tl_bytes_ieq(o->scheme, scheme) || !tl_url_authority(host_header, &host, &port))
        return false;
    return tl_bytes_ieq(o->host, host) && o->port == (port ? port : default_port(scheme));
}

static bool same_origin(const struct origin *a, const struct origin *b)
{
    return tl_bytes_ieq(a->scheme, b->scheme) && tl_bytes_ieq(a->host, b->host) &&
           a->port == b->port;
}

bool tl_origin_allowed(struct tl_bytes origin, struct tl_bytes host, const struct tl_bytes *listed,
                       size_t listed_n, bool tls)
{
    struct origin o, entry;
    if (!origin.p)
        return true;
    bool parsed = parse_origin(origin, &o);
    if (parsed && same_host(&o, host, tls))
        return true;
    for (size_t i = 0; i < listed_n; i++) {
        if (tl_bytes_eq(listed[i], TL_LIT("*")))
            return true;
        if (parsed && parse_origin(listed[i], &entry) && same_origin(&o, &entry))
            return true;
    }
    return false;
}

bool tl_origin_is_valid(struct tl_bytes text)
{
    struct origin o;
    return tl_bytes_eq(text, TL_LIT("*")) || parse_origin(text, &o);
}

/* An IPv4 address as numbers, or anything in brackets, which only an IPv6 address may be. */
static bool is_address(struct tl_bytes host)
{
    unsigned dots = 0;
    for (size_t i = 0; i < host.n; i++) {
        dots += host.p[i] == '.';
        if (host.p[i] != '.' && (host.p[i] < '0' || host.p[i] > '9'))
            return host.p[0] == '[';
    }
    return dots == 3;
}

static bool is_localhost(struct tl_bytes host)
{
    static const struct tl_bytes name = {(const uint8_t *)"localhost", 9};
    if (host.n < name.n || !tl_bytes_ieq(tl_bytes_skip(host, host.n - name.n), name))
        return false;
    return host.n == name.n || host.p[host.n - name.n - 1] == '.'; /* RFC 6761 6.3 */
}

bool tl_origin_host_is_known(struct tl_bytes host_header, const struct tl_bytes *listed,
                             size_t listed_n)
{
    struct tl_bytes host;
    struct origin entry;
    uint16_t port;
    if (!host_header.p)
        return true;
    if (!tl_url_authority(host_header, &host, &port))
        return false;
    if (is_address(host) || is_localhost(host) || !memchr(host.p, '.', host.n))
        return true;
    for (size_t i = 0; i < listed_n; i++) {
        if (tl_bytes_eq(listed[i], TL_LIT("*")))
            return true;
        if (parse_origin(listed[i], &entry) && tl_bytes_ieq(entry.host, host) &&
            entry.port == (port ? port : default_port(entry.scheme)))
            return true;
    }
    return false;
}
