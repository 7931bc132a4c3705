/*
 * Where to listen, as text and as the kernel's form, and who a peer is, as text. Numbers only:
 * never resolves a name (but "localhost", which is 127.0.0.1) and never opens a socket.
 */
#ifndef TL_NET_ADDRESS_H
#define TL_NET_ADDRESS_H

#include "base/bytes.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* Room for any printed address with its NUL: "[" 45 "]:" 5. */
#define TL_ADDRESS_TEXT_N 64

struct tl_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sa;
    socklen_t n;
    bool all; /* written without an address: every interface, IPv4 and IPv6 */
};

/*
 * Parse "127.0.0.1:8080", "[::1]:8080", ":8080" (all addresses) or "localhost:8080". Port 0 lets
 * the kernel choose; an IPv4-mapped address becomes IPv4. 0, or -EINVAL.
 */
TL_MUST_USE int tl_address_parse(struct tl_bytes text, struct tl_address *ret_address);

uint16_t tl_address_port(const struct tl_address *address);
void tl_address_set_port(struct tl_address *address, uint16_t port);

/* Reachable from this machine only: 127.0.0.0/8 or ::1. */
bool tl_address_is_loopback(const struct tl_address *address);

/* The text that tl_address_parse() takes (so "localhost" becomes its number). Returns out. */
const char *tl_address_text(const struct tl_address *address, char out[TL_ADDRESS_TEXT_N]);

/*
 * A peer for log lines, "192.0.2.1:40000" or "[2001:db8::1]:40000", and without the port as the key
 * of limits per address. An IPv4 peer of an IPv6 socket is printed as IPv4; what is neither (a Unix
 * socket) as "local". Both return out.
 */
const char *tl_address_peer(const struct sockaddr_storage *peer, char out[TL_ADDRESS_TEXT_N]);
const char *tl_address_peer_host(const struct sockaddr_storage *peer, char out[TL_ADDRESS_TEXT_N]);

#endif
