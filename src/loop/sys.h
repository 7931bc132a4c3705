/*
 * The engines' system calls as a table, so that tests can make any of them fail, be interrupted or
 * be short. Production code never writes it; a call costs one indirect jump, as through the PLT.
 * It never interprets a result: all return -1 and set errno as the kernel's do.
 */
#ifndef TL_LOOP_SYS_H
#define TL_LOOP_SYS_H

#include "base/bytes.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

struct io_uring;
struct io_uring_params;

/* What io_uring is asked for, for tl_sys.uring_fault(). */
enum tl_uring_op {
    TL_URING_ENTER, /* the call itself: submit and wait */
    TL_URING_RECV,
    TL_URING_SEND,
    TL_URING_WATCH, /* the poll for hang-ups while a stream is paused */
    TL_URING_ACCEPT,
    TL_URING_CONNECT,
    TL_URING_WAKE, /* the poll of the mailbox */
    TL_URING_CANCEL,
};

struct tl_sys {
    int (*accept4)(int fd, struct sockaddr *peer, socklen_t *peer_n, int flags);
    int (*socket)(int family, int type, int protocol);
    int (*connect)(int fd, const struct sockaddr *address, socklen_t address_n);
    ssize_t (*recv)(int fd, void *bytes, size_t n, int flags);
    ssize_t (*send)(int fd, const void *bytes, size_t n, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
    int (*unsent)(int fd, int *ret_bytes_n); /* ioctl() with SIOCOUTQ, tcp(7) */
    int (*epoll_create1)(int flags);
    int (*epoll_ctl)(int epoll_fd, int op, int fd, struct epoll_event *event);
    int (*epoll_wait)(int epoll_fd, struct epoll_event *events, int events_n, int timeout_ms);
    /* Bytes asked for by a receive, at most the engine's buffer. (A short read means that the
     * socket is drained, so a test for small reads must ask for little, not answer with little.) */
    size_t recv_bytes_max;

    /* io_uring makes its calls in the kernel, so these bend it where it is asked and told. */
    int (*uring_init)(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
    /* 0, or -errno: what the operation ends with instead of being made. NULL: never. */
    int (*uring_fault)(enum tl_uring_op op);
    size_t uring_send_bytes_max; /* of one queued send: a longer one is short */
    unsigned uring_entries;      /* room for submissions; completions have 16 times that */
    unsigned uring_buffers_n;    /* provided for receiving; a power of two */
    unsigned uring_direct_sends; /* of a batch, that are made at once before others are queued */
    bool uring_queue_always;     /* queue sends outside of batches too */
};

/* Tests change it while no loop runs on another thread. */
extern struct tl_sys tl_sys;

/* Back to the kernel's own. */
void tl_sys_restore(void);

#endif
