#include "loop/sys.h"

#include <liburing.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* accept4() and connect() take a transparent union in glibc, so their own type does not fit. */
static int sys_accept4(int fd, struct sockaddr *peer, socklen_t *peer_n, int flags)
{
    return accept4(fd, peer, peer_n, flags);
}

static int sys_connect(int fd, const struct sockaddr *address, socklen_t address_n)
{
    return connect(fd, address, address_n);
}

static int sys_unsent(int fd, int *ret_bytes_n)
{
    return ioctl(fd, SIOCOUTQ, ret_bytes_n);
}

#define KERNEL                                                                                     \
    {                                                                                              \
        .accept4 = sys_accept4, .socket = socket, .connect = sys_connect, .recv = recv,            \
        .send = send, .sendmsg = sendmsg, .unsent = sys_unsent, .epoll_create1 = epoll_create1,    \
        .epoll_ctl = epoll_ctl, .epoll_wait = epoll_wait, .recv_bytes_max = SIZE_MAX,              \
        .uring_init = io_uring_queue_init_params, .uring_send_bytes_max = SIZE_MAX,                \
        .uring_entries = 1024, .uring_buffers_n = 64, .uring_direct_sends = 4                      \
    }

struct tl_sys tl_sys = KERNEL;

void tl_sys_restore(void)
{
    tl_sys = (struct tl_sys)KERNEL;
}
