/*
 * Listening sockets: one, or one a worker on the same port. Gives descriptors for tl_acceptor;
 * never accepts and never logs.
 */
#ifndef TL_NET_LISTENER_H
#define TL_NET_LISTENER_H

#include "net/address.h"

/*
 * A listening socket: non-blocking, close-on-exec, TCP_NODELAY (what is accepted inherits it).
 * An address with `all` set listens for IPv6 and IPv4, or IPv4 only where there is no IPv6.
 * shared: other sockets of this process listen on the same port (SO_REUSEPORT).
 * Returns the fd, which the caller owns, or -errno with *ret_hint a static sentence for people.
 */
TL_MUST_USE int tl_listener_open(const struct tl_address *address, bool shared,
                                 const char **ret_hint);

/*
 * n > 0 listening sockets that share one port, which is also the first one's when the address asks
 * for port 0. A port on which another program listens is refused (-EADDRINUSE), although
 * SO_REUSEPORT would share it with one of the same user. 0 and fds[0..n), owned by the caller; or
 * -errno as above, with nothing left open.
 */
TL_MUST_USE int tl_listener_open_all(const struct tl_address *address, int *fds, size_t n,
                                     const char **ret_hint);

/* The port that the socket is bound to (> 0), or -errno. */
TL_MUST_USE int tl_listener_port(int fd);

#endif
