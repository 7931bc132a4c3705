#include "net/listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

static const char *hint_of(int error)
{
    switch (-error) {
    case EADDRINUSE:
        return "port in use: another program listens there; stop it or choose another port";
    case EACCES:
    case EPERM:
        return "not allowed: ports below 1024 need root or CAP_NET_BIND_SERVICE";
    case EADDRNOTAVAIL:
        return "no interface of this machine has that address";
    case EAFNOSUPPORT:
        return "this machine does not speak that address family (is IPv6 turned off?)";
    case EMFILE:
    case ENFILE:
        return "out of file descriptors: raise the limit (ulimit -n)";
    default:
        return "the kernel refused to listen there";
    }
}

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* A bound socket, or -errno. */
static int bind_socket(const struct tl_address *address, bool shared)
{
    sa_family_t family = address->sa.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error == 0 && shared)
        error = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (error == 0 && family == AF_INET6)
        error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, address->all ? 0 : 1);
    if (error == 0)
        error = set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (error == 0 && bind(fd, &address->sa.any, address->n) < 0)
        error = -errno;
    if (error == 0)
        return fd;
    close(fd);
    return error;
}

/* The same, but "all addresses" are those of IPv4 where there is no IPv6. */
static int bind_any(const struct tl_address *address, bool shared)
{
    int fd = bind_socket(address, shared);
    if (!address->all || (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL))
        return fd;
    struct tl_address v4 = {.n = sizeof(v4.sa.v4), .all = true};
    v4.sa.v4 = (struct sockaddr_in){.sin_family = AF_INET};
    tl_address_set_port(&v4, tl_address_port(address));
    return bind_socket(&v4, shared);
}

static int open_listener(const struct tl_address *address, bool shared)
{
    int fd = bind_any(address, shared);
    if (fd < 0 || listen(fd, BACKLOG) == 0)
        return fd;
    int error = -errno; /* e.g. two sockets bound to the port before either listened */
    close(fd);
    return error;
}

int tl_listener_open(const struct tl_address *address, bool shared, const char **ret_hint)
{
    int fd = open_listener(address, shared);
    if (fd < 0)
        *ret_hint = hint_of(fd);
    return fd;
}

/* -EADDRINUSE if somebody listens there already. Racy, but it is for people's mistakes. */
static int probe(const struct tl_address *address)
{
    if (tl_address_port(address) == 0)
        return 0;
    int fd = bind_any(address, false);
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

int tl_listener_open_all(const struct tl_address *address, int *fds, size_t n,
                         const char **ret_hint)
{
    struct tl_address shared = *address;
    size_t opened = 0;
    int error = probe(address);
    while (error == 0 && opened < n) {
        int fd = open_listener(&shared, n > 1);
        if (fd < 0) {
            error = fd;
            break;
        }
        fds[opened++] = fd;
        int port = tl_listener_port(fd);
        if (port < 0)
            error = port;
        else
            tl_address_set_port(&shared, (uint16_t)port);
    }
    if (error == 0)
        return 0;
    while (opened > 0)
        close(fds[--opened]);
    *ret_hint = hint_of(error);
    return error;
}

int tl_listener_port(int fd)
{
    struct tl_address bound = {.n = sizeof(bound.sa)};
    if (getsockname(fd, &bound.sa.any, &bound.n) < 0)
        return -errno;
    return tl_address_port(&bound);
}
