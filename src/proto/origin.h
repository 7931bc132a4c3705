/*
 * May a page of that origin use this gateway? The answer to cross-site WebSocket hijacking: a pure
 * rule over the Origin and Host headers and the operator's list. Never resolves, never guesses.
 */
#ifndef TL_PROTO_ORIGIN_H
#define TL_PROTO_ORIGIN_H

#include "base/bytes.h"

/*
 * Allowed are: no origin at all (p NULL: not a browser); an http(s) origin whose scheme is the
 * connection's (tls) and whose host and port are those of `host`, the Host header (p NULL: none);
 * one that equals an entry of `listed`, each scheme://host[:port] or `*`, which allows everything.
 * Scheme and host compare without case, ports with the scheme's default (80, 443). All else is
 * refused: `null` (but for `*`), user information, a path or trailing slash, malformed text.
 * Any thread. RFC 6454 6.2, 7; RFC 6455 10.2.
 */
TL_MUST_USE bool tl_origin_allowed(struct tl_bytes origin, struct tl_bytes host,
                                   const struct tl_bytes *listed, size_t listed_n, bool tls);

/*
 * Is the Host header that of this very machine, or of a listed site? A page whose name an attacker
 * points at a loopback address (DNS rebinding) has an origin equal to its host, but its host is a
 * name. Known are IP addresses, names without a dot (nobody outside owns one) and those below
 * `localhost`; without a Host (p NULL) there is no browser. Any thread.
 */
TL_MUST_USE bool tl_origin_host_is_known(struct tl_bytes host, const struct tl_bytes *listed,
                                         size_t listed_n);

/* Is this text fit for the list? For the check of options at start. */
TL_MUST_USE bool tl_origin_is_valid(struct tl_bytes text);

#endif
