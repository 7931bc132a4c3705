#include "proto/url.h"

#include "proto/chars.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define QUERY_NAME_MAX 63
#define DB_MAX         1000000 /* exclusive; beyond any real number of databases */
#define REDIS_PORT     6379
#define HTTP_PORT      80

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = tl_ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a %XX at the front stands for, or -1. */
static int escape_value(struct tl_bytes in)
{
    if (in.n < 3 || in.p[0] != '%')
        return -1;
    int high = hex_value(in.p[1]), low = hex_value(in.p[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

int tl_url_decode(struct tl_bytes in, bool plus_is_space, uint8_t *out, size_t out_cap,
                  size_t *ret_n)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        int c = in.p[i];
        if (c == '%') {
            c = escape_value(tl_bytes_skip(in, i));
            if (c < 0)
                return -EINVAL;
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (n == out_cap)
            return -ENOSPC;
        out[n++] = (uint8_t)c;
    }
    *ret_n = n;
    return 0;
}

static bool is_alnum(uint8_t c)
{
    uint8_t lower = tl_ascii_lower(c);
    return (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z');
}

bool tl_url_is_unreserved(uint8_t c)
{
    return is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

void tl_url_encode(struct tl_buf *out, struct tl_bytes bytes)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t c = bytes.p[i];
        uint8_t escaped[] = {'%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
        tl_buf_append(out, tl_url_is_unreserved(c) ? tl_bytes(&c, 1) : tl_bytes(escaped, 3));
    }
}

/* Cut *rest at the first c: the part before is returned, the part behind stays. */
static struct tl_bytes cut_at(struct tl_bytes *rest, uint8_t c, bool *ret_found)
{
    const uint8_t *at = rest->n > 0 ? memchr(rest->p, c, rest->n) : NULL;
    struct tl_bytes front = at ? tl_bytes(rest->p, (size_t)(at - rest->p)) : *rest;
    *rest = tl_bytes_skip(*rest, at ? front.n + 1 : front.n);
    *ret_found = at != NULL;
    return front;
}

bool tl_url_query_next(struct tl_bytes *query, struct tl_bytes *ret_name,
                       struct tl_bytes *ret_value)
{
    while (query->n > 0) {
        bool found;
        struct tl_bytes item = cut_at(query, '&', &found);
        if (item.n == 0)
            continue;
        *ret_name = cut_at(&item, '=', &found);
        *ret_value = found ? item : tl_bytes(NULL, 0);
        return true;
    }
    return false;
}

int tl_url_query(struct tl_bytes query, const char *name, uint8_t *out, size_t out_cap,
                 size_t *ret_n)
{
    struct tl_bytes raw_name, raw_value, want = tl_bytes_str(name);
    uint8_t decoded[QUERY_NAME_MAX];
    size_t n;
    assert(want.n <= sizeof(decoded));
    while (tl_url_query_next(&query, &raw_name, &raw_value)) {
        if (tl_url_decode(raw_name, true, decoded, sizeof(decoded), &n) < 0 ||
            !tl_bytes_eq(tl_bytes(decoded, n), want))
            continue;
        int r = tl_url_decode(raw_value, true, out, out_cap, ret_n);
        return r < 0 ? r : 1;
    }
    return 0;
}

/* Decimal digits, at least one, below `end`. */
static bool parse_number(struct tl_bytes text, uint32_t end, uint32_t *ret)
{
    uint32_t v = 0;
    if (text.n == 0)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(text.p[i] - '0');
        if (v >= end)
            return false;
    }
    *ret = v;
    return true;
}

static bool is_reg_name(struct tl_bytes host)
{
    for (size_t i = 0; i < host.n; i++) {
        uint8_t c = host.p[i];
        if (!tl_chars_is(c, TL_CHARS_HOST) &&
            (c != '%' || escape_value(tl_bytes_skip(host, i)) < 0))
            return false;
    }
    return host.n > 0;
}

/* [IPv6] by its characters; whether it is an address is the resolver's business. */
static bool is_ip_literal(struct tl_bytes host)
{
    bool colon = false;
    if (host.n < 4 || host.p[0] != '[' || host.p[host.n - 1] != ']')
        return false;
    for (size_t i = 1; i < host.n - 1; i++) {
        uint8_t c = host.p[i];
        colon |= c == ':';
        if (hex_value(c) < 0 && c != ':' && c != '.')
            return false;
    }
    return colon;
}

bool tl_url_authority(struct tl_bytes text, struct tl_bytes *ret_host, uint16_t *ret_port)
{
    bool bracketed = text.n > 0 && text.p[0] == '[', found;
    struct tl_bytes rest = text;
    struct tl_bytes host = cut_at(&rest, bracketed ? ']' : ':', &found);
    uint32_t port = 0;
    if (bracketed) {
        host.n += found;
        if (rest.n > 0 && rest.p[0] != ':')
            return false;
        rest = rest.n > 0 ? tl_bytes_skip(rest, 1) : rest;
    }
    if (bracketed ? !is_ip_literal(host) : !is_reg_name(host))
        return false;
    if (rest.n > 0 && (!parse_number(rest, UINT16_MAX + 1, &port) || port == 0))
        return false;
    *ret_host = host;
    *ret_port = (uint16_t)port;
    return true;
}

/* Decode into a C string of cap bytes, its NUL included. */
static bool decode_str(struct tl_bytes in, char *out, size_t cap)
{
    size_t n;
    uint8_t *bytes = (uint8_t *)out;
    if (tl_url_decode(in, false, bytes, cap - 1, &n) < 0 || memchr(bytes, 0, n))
        return false;
    out[n] = 0;
    return true;
}

/* Take `user:password@` off the front of an authority. Returns an error text or NULL. */
static const char *take_userinfo(struct tl_bytes *authority, struct tl_url *url)
{
    const uint8_t *at = authority->n > 0 ? memrchr(authority->p, '@', authority->n) : NULL;
    if (!at)
        return NULL;
    struct tl_bytes password = tl_bytes(authority->p, (size_t)(at - authority->p));
    *authority = tl_bytes_skip(*authority, password.n + 1);
    struct tl_bytes user = cut_at(&password, ':', &url->has_password);
    if (!url->has_password)
        return "a user needs a password: user:password@host, or :password@host";
    if (!decode_str(user, url->user, sizeof(url->user)))
        return "the user is badly percent-encoded or longer than 255 bytes";
    if (!decode_str(password, url->password, sizeof(url->password)))
        return "the password is badly percent-encoded or longer than 511 bytes";
    return NULL;
}

static const char *take_host(struct tl_bytes authority, uint16_t default_port, struct tl_url *url)
{
    struct tl_bytes host;
    uint16_t port;
    if (authority.n == 0)
        return "the host is missing";
    if (!tl_url_authority(authority, &host, &port) || memchr(host.p, '%', host.n))
        return "the host or port is malformed; reserved characters in the user or password must be "
               "percent-encoded, IPv6 goes in brackets";
    if (host.p[0] == '[')
        host = tl_bytes(host.p + 1, host.n - 2);
    if (!decode_str(host, url->host, sizeof(url->host)))
        return "the host is longer than 255 bytes";
    url->port = port ? port : default_port;
    return NULL;
}

static const char *parse_redis(struct tl_bytes rest, struct tl_url *url)
{
    bool slash;
    url->scheme = TL_URL_REDIS;
    struct tl_bytes authority = cut_at(&rest, '/', &slash);
    const char *error = take_userinfo(&authority, url);
    if (!error)
        error = take_host(authority, REDIS_PORT, url);
    if (!error && rest.n > 0 && !parse_number(rest, DB_MAX, &url->db))
        error = "behind the host goes a database number only, as in redis://host/3";
    return error;
}

static const char *parse_redis_unix(struct tl_bytes rest, struct tl_url *url)
{
    bool slash, has_query;
    url->scheme = TL_URL_REDIS_UNIX;
    struct tl_bytes all = rest;
    struct tl_bytes authority = cut_at(&rest, '/', &slash);
    struct tl_bytes query = slash ? tl_bytes_skip(all, authority.n) : rest;
    struct tl_bytes path = cut_at(&query, '?', &has_query);
    const char *error = take_userinfo(&authority, url);
    if (error)
        return error;
    if (authority.n > 0 || path.n < 2)
        return "a socket file is written redis+unix:///path, with three slashes";
    if (!decode_str(path, url->path, sizeof(url->path)))
        return "the socket's path is badly percent-encoded or longer than 107 bytes";
    if (has_query && (!tl_bytes_starts(query, TL_LIT("db=")) ||
                      !parse_number(tl_bytes_skip(query, 3), DB_MAX, &url->db)))
        return "behind the path goes a database number only, as in ?db=3";
    return NULL;
}

static const char *parse_http(struct tl_bytes rest, struct tl_url *url)
{
    bool slash;
    url->scheme = TL_URL_HTTP;
    struct tl_bytes authority = cut_at(&rest, '/', &slash);
    if (rest.n > 0)
        return "the gateway's URL is http://host[:port] without a path";
    return take_host(authority, HTTP_PORT, url);
}

/* Take the scheme off the front where it is that one, in any case. */
static bool take_scheme(struct tl_bytes *text, const char *scheme)
{
    struct tl_bytes want = tl_bytes_str(scheme);
    if (text->n < want.n || !tl_bytes_ieq(tl_bytes(text->p, want.n), want))
        return false;
    *text = tl_bytes_skip(*text, want.n);
    return true;
}

int tl_url_parse(struct tl_bytes text, struct tl_url *ret, const char **ret_error)
{
    struct tl_url url = {0};
    const char *error;
    if (take_scheme(&text, "redis://"))
        error = parse_redis(text, &url);
    else if (take_scheme(&text, "redis+unix://"))
        error = parse_redis_unix(text, &url);
    else if (take_scheme(&text, "http://"))
        error = parse_http(text, &url);
    else if (take_scheme(&text, "rediss://") || take_scheme(&text, "https://"))
        error = "TLS is not supported in this URL";
    else
        error = "the URL must begin with redis://, redis+unix:// or http://";
    if (error) {
        *ret_error = error;
        return -EINVAL;
    }
    *ret = url;
    return 0;
}

const char *tl_url_text(const struct tl_url *url, char *out, size_t out_n)
{
    bool v6 = strchr(url->host, ':') != NULL;
    const char *open = v6 ? "[" : "", *close = v6 ? "]" : "";
    assert(out_n > 0);
    switch (url->scheme) {
    case TL_URL_REDIS:
        snprintf(out, out_n, "redis://%s%s%s:%u/%u", open, url->host, close, url->port, url->db);
        break;
    case TL_URL_REDIS_UNIX:
        snprintf(out, out_n, "redis+unix://%s?db=%u", url->path, url->db);
        break;
    case TL_URL_HTTP:
        snprintf(out, out_n, "http://%s%s%s:%u", open, url->host, close, url->port);
        break;
    }
    return out;
}
