/*
 * Pieces of URLs: percent-encoding, queries, authorities, and the URLs of brokers and gateways that
 * operators write. Binary-safe. Never resolves a name, and never prints a password.
 */
#ifndef TL_PROTO_URL_H
#define TL_PROTO_URL_H

#include "base/buf.h"

/*
 * Percent-decode into out, which has room for out_cap bytes (in.n is always enough); out may be
 * where `in` is. With plus_is_space a '+' is a space (queries, never paths). %00 is a NUL.
 * Returns 0, -EINVAL (a % without two hex digits) or -ENOSPC. RFC 3986 2.1.
 */
TL_MUST_USE int tl_url_decode(struct tl_bytes in, bool plus_is_space, uint8_t *out, size_t out_cap,
                              size_t *ret_n);

/* What stands for itself wherever it is put. RFC 3986 2.3. */
bool tl_url_is_unreserved(uint8_t c);
/* Append the bytes, all but unreserved characters as %XX. Errors: out->failed. RFC 3986 2.3. */
void tl_url_encode(struct tl_buf *out, struct tl_bytes bytes);

/*
 * Take the next name[=value] off the raw query; both stay encoded, and value.p is NULL without '='.
 * False at its end. Empty items (`a&&b`) are skipped.
 */
bool tl_url_query_next(struct tl_bytes *query, struct tl_bytes *ret_name,
                       struct tl_bytes *ret_value);

/*
 * The decoded value of the first item of that name (at most 63 bytes; names are compared decoded)
 * into out. Returns 1, 0 (absent), -EINVAL (its value is badly encoded) or -ENOSPC.
 */
TL_MUST_USE int tl_url_query(struct tl_bytes query, const char *name, uint8_t *out, size_t out_cap,
                             size_t *ret_n);

/*
 * Split host[:port] as in a Host header: a name or IPv4 address (RFC 3986 reg-name, not empty) or
 * an IPv6 address in brackets. ret_host keeps the brackets; ret_port is 0 where none is given.
 * False when malformed: user information, spaces, port 0 or above 65535. RFC 3986 3.2.2, RFC
 * 9110 7.2.
 */
TL_MUST_USE bool tl_url_authority(struct tl_bytes text, struct tl_bytes *ret_host,
                                  uint16_t *ret_port);

enum tl_url_scheme {
    TL_URL_REDIS,      /* redis://[user:password@]host[:port][/db] */
    TL_URL_REDIS_UNIX, /* redis+unix://[user:password@]/path[?db=N] */
    TL_URL_HTTP,       /* http://host[:port][/] */
};

/* All strings are NUL-terminated and hold no other NUL. */
struct tl_url {
    enum tl_url_scheme scheme;
    char host[256];     /* IPv6 without its brackets; "" for a socket file */
    uint16_t port;      /* the scheme's default where none is given */
    char path[108];     /* of the socket file, fits sun_path; else "" */
    uint32_t db;        /* 0 where none is given */
    bool has_password;  /* may be empty all the same */
    char user[256];     /* "" for the default user */
    char password[512]; /* secret: for AUTH only */
};

/*
 * Read such a URL. Returns 0, or -EINVAL with *ret_error a static text that says what is wrong and
 * quotes nothing of the URL. *ret is written only on success.
 */
TL_MUST_USE int tl_url_parse(struct tl_bytes text, struct tl_url *ret, const char **ret_error);

/* The URL for logs, password and user left out, cut at the buffer's end (out_n > 0). Returns out.
 */
const char *tl_url_text(const struct tl_url *url, char *out, size_t out_n);

#endif
