/*
 * Dials one peer, given as host and port or as the path of a Unix socket. The name is resolved anew
 * each time and off the loop (numeric addresses need no thread); the addresses found are tried one
 * after another. It never retries, never logs and never speaks a byte on the connection.
 */
#ifndef TL_NET_CONNECTOR_H
#define TL_NET_CONNECTOR_H

#include "loop/loop.h"

#include <netdb.h>

/* The system's resolver has timeouts of its own: after this it counts as hanging. */
#define TL_CONNECTOR_RESOLVE_MS 30000

struct tl_connector_peer {
    const char *host; /* name or numeric address, without brackets; unused with unix_path */
    uint16_t port;
    const char *unix_path; /* or NULL */
};

struct tl_connector {
    struct tl_loop *loop;
    /*
     * fd >= 0: connected, non-blocking, TCP_NODELAY; the callee owns it, error is "".
     * fd < 0: -errno of the last attempt; error is printable and names the address, valid for the
     * call. The connector may be started again from here.
     */
    void (*on_done)(struct tl_connector *c, int fd, const char *error);
    struct tl_connect connect;
    struct tl_timer timer; /* of the name, then of each address */
    struct tl_task failed; /* tells failures of tl_connector_start() itself */
    struct tl_resolve *resolve;
    struct addrinfo *addresses, *next; /* to try */
    uint32_t timeout_ms;
    int status;
    char address[120]; /* being tried, as text */
    char error[240];
};

/* Must come before the first use. */
void tl_connector_init(struct tl_connector *c, struct tl_loop *loop,
                       void (*on_done)(struct tl_connector *c, int fd, const char *error));

/*
 * Dial; each address has timeout_ms. on_done follows exactly once, never from inside, unless
 * cancelled; failures of every kind come through it. The peer's strings are copied. Must be idle
 * (asserted). Loop's thread.
 */
void tl_connector_start(struct tl_connector *c, const struct tl_connector_peer *peer,
                        uint32_t timeout_ms);

/* Give up; no callback afterwards, the memory is the owner's at once. Idempotent. A name that is
 * still being resolved finishes in its thread, touching neither the connector nor the loop. */
void tl_connector_cancel(struct tl_connector *c);

#endif
