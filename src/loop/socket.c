/* What the engines do with sockets in the same way. */
#include "loop/engine.h"
#include "loop/sys.h"

#include <errno.h>
#include <unistd.h>

#define SEND_TRIES 4 /* interrupted sends before the others get their turn */

struct iovec tl_socket_iovec(struct tl_bytes slice)
{
    uint8_t *base;
    memcpy(&base, &slice.p, sizeof(base));
    return (struct iovec){.iov_base = base, .iov_len = slice.n};
}

ssize_t tl_socket_send_once(int fd, const struct tl_bytes *slices, unsigned n)
{
    if (n == 1)
        return tl_sys.send(fd, slices[0].p, slices[0].n, MSG_NOSIGNAL);
    struct iovec parts[TL_SEND_SLICES_MAX];
    for (unsigned i = 0; i < n; i++)
        parts[i] = tl_socket_iovec(slices[i]);
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = n};
    return tl_sys.sendmsg(fd, &msg, MSG_NOSIGNAL);
}

ssize_t tl_socket_send_on(int fd, const struct tl_bytes *slices, unsigned n, ssize_t taken)
{
    for (int tries = 1;; tries++) {
        if (taken > 0)
            return taken;
        int error = taken == 0 ? EAGAIN : errno; /* no slice is empty, so 0 means "not now" */
        if (error != EINTR || tries == SEND_TRIES)
            return error == ENOBUFS ? -ENOMEM : error == EWOULDBLOCK ? -EAGAIN : -error;
        taken = tl_socket_send_once(fd, slices, n);
    }
}

uint32_t tl_stream_unsent(const struct tl_stream *s)
{
    int n = 0;
    return tl_sys.unsent(s->fd, &n) < 0 || n < 0 ? 0 : (uint32_t)n;
}

int tl_socket_error(int fd)
{
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        return -errno;
    return -error;
}

void tl_socket_reset_on_close(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

bool tl_socket_accept_passes(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

int tl_socket_connect(struct tl_connect *c, const struct sockaddr *address, socklen_t address_n)
{
    c->fd = tl_sys.socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return -errno;
    if (tl_sys.connect(c->fd, address, address_n) == 0)
        return 0;
    if (errno == EINPROGRESS || errno == EINTR)
        return 1; /* goes on in the background, also when it was interrupted: connect(2) */
    c->error = -errno;
    return 0;
}

void tl_socket_connect_over(struct tl_connect *c)
{
    int result = c->fd;
    if (c->error != 0) {
        close(c->fd);
        result = c->error;
    }
    c->fd = -1;
    c->loop = NULL;
    c->on_connect(c, result); /* may free it */
}
