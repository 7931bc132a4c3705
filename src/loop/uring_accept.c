/*
 * Acceptors and connects of the io_uring engine. Their owners may free them at once, so the kernel
 * is given an operation of the engine's own, which lives until its last completion.
 */
#include "base/alloc.h"
#include "loop/uring.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 64 /* callbacks of one acceptor before the others get their turn */

enum acceptor_flag { PAUSED = 1 };

/* ---- accepting: one multishot request ---- */

struct tl_uring_accept {
    struct tl_acceptor *a; /* NULL once it is closed */
    struct tl_list node;   /* of u->accept_ops */
    struct tl_list ready;  /* on u->accepts: work for the next turn */
    bool armed, disarming;
    unsigned told; /* in this turn */
    /* Accepted, and not told yet: more came than a turn may tell, or the acceptor was paused. */
    int *fds;
    size_t fds_at, fds_n, fds_cap;
};

static void make_ready(struct tl_uring *u, struct tl_uring_accept *op)
{
    if (tl_list_empty(&op->ready))
        tl_list_append(&u->accepts, &op->ready);
}

static void arm(struct tl_uring *u, struct tl_uring_accept *op)
{
    struct io_uring_sqe *sqe =
        tl_uring_sqe(u, TL_URING_ACCEPT, tl_uring_tag(op, TL_URING_ON_ACCEPT));
    if (sqe == NULL) {
        make_ready(u, op);
        return;
    }
    io_uring_prep_multishot_accept(sqe, op->a->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    op->armed = true;
}

static void disarm(struct tl_uring *u, struct tl_uring_accept *op)
{
    if (!op->armed || op->disarming)
        return;
    op->disarming = tl_uring_cancel(u, tl_uring_tag(op, TL_URING_ON_ACCEPT));
    if (!op->disarming)
        make_ready(u, op);
}

static void tell_fd(struct tl_uring_accept *op, int fd)
{
    struct sockaddr_storage peer;
    socklen_t peer_n = sizeof(peer);
    memset(&peer, 0, sizeof(peer));
    if (getpeername(fd, (struct sockaddr *)(void *)&peer, &peer_n) < 0) {
        close(fd); /* gone already */
        return;
    }
    op->told++;
    op->a->on_accept(op->a, fd, &peer);
}

/* False: no memory. */
static bool keep_fd(struct tl_uring_accept *op, int fd)
{
    if (op->fds_at == op->fds_n)
        op->fds_at = op->fds_n = 0;
    if (op->fds_n == op->fds_cap) {
        size_t cap = op->fds_cap == 0 ? 16 : 2 * op->fds_cap;
        void *fds = tl_realloc(op->fds, cap * sizeof(*op->fds));
        if (fds == NULL)
            return false;
        op->fds = fds;
        op->fds_cap = cap;
    }
    op->fds[op->fds_n++] = fd;
    return true;
}

static bool may_tell(const struct tl_uring_accept *op)
{
    return op->a != NULL && (op->a->flags & PAUSED) == 0 && op->told < ACCEPTS_A_TURN;
}

static void op_free(struct tl_uring_accept *op)
{
    while (op->fds_at < op->fds_n)
        close(op->fds[op->fds_at++]);
    tl_free(op->fds);
    tl_list_remove(&op->node);
    tl_list_remove(&op->ready);
    tl_free(op);
}

/* Tell what is due, and bring the request in line with what the acceptor wants. */
static void pursue(struct tl_uring *u, struct tl_uring_accept *op)
{
    while (may_tell(op) && op->fds_at < op->fds_n)
        tell_fd(op, op->fds[op->fds_at++]);
    if (op->a == NULL) {
        if (op->armed)
            disarm(u, op);
        else
            op_free(op);
        return;
    }
    if ((op->a->flags & PAUSED) != 0) {
        disarm(u, op);
        return;
    }
    if (op->told == ACCEPTS_A_TURN)
        make_ready(u, op); /* the count starts anew there */
    if (!op->armed)
        arm(u, op);
}

/* Out of descriptors or memory, or a listener that is none: trying again at once would spin. */
static void refuse(struct tl_uring_accept *op, int error)
{
    if ((op->a->flags & PAUSED) != 0)
        return;
    op->a->flags |= PAUSED;
    op->a->on_refused(op->a, error);
}

static void on_fd(struct tl_uring_accept *op, int fd)
{
    if (may_tell(op) && op->fds_at == op->fds_n) {
        tell_fd(op, fd);
    } else if (!keep_fd(op, fd)) {
        close(fd); /* this client has to try again */
        if (op->a != NULL)
            refuse(op, -ENOMEM);
    }
}

void tl_uring_on_accept(struct tl_uring *u, struct tl_uring_accept *op, int result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0)
        op->armed = op->disarming = false;
    if (result >= 0)
        on_fd(op, result);
    else if (op->a != NULL && result != -ECANCELED && result != -EAGAIN &&
             !tl_socket_accept_passes(-result))
        refuse(op, result);
    pursue(u, op);
}

void tl_uring_accept_work(struct tl_uring *u, struct tl_list *ready)
{
    struct tl_uring_accept *op = TL_CONTAINER(ready, struct tl_uring_accept, ready);
    op->told = 0;
    pursue(u, op);
}

int tl_uring_acceptor_open(struct tl_acceptor *a)
{
    struct tl_uring *u = tl_uring_of(a->loop);
    struct tl_uring_accept *op = tl_zalloc(sizeof(*op));
    if (op == NULL)
        return -ENOMEM;
    op->a = a;
    a->op = op;
    tl_list_init(&op->ready);
    tl_list_append(&u->accept_ops, &op->node);
    arm(u, op);
    return 0;
}

void tl_uring_acceptor_pause(struct tl_acceptor *a)
{
    a->flags |= PAUSED;
    disarm(tl_uring_of(a->loop), a->op);
}

/* Never from inside: what was accepted while it was paused is told in the next turn. */
void tl_uring_acceptor_resume(struct tl_acceptor *a)
{
    if ((a->flags & PAUSED) == 0)
        return;
    a->flags &= (uint16_t)~PAUSED;
    make_ready(tl_uring_of(a->loop), a->op);
}

/* The port is free when this returns: the kernel lets go of the listener with the request. */
void tl_uring_acceptor_close(struct tl_acceptor *a)
{
    struct tl_uring *u = tl_uring_of(a->loop);
    struct tl_uring_accept *op = a->op;
    op->a = NULL;
    a->op = NULL;
    disarm(u, op);
    if (op->armed)
        tl_uring_submit(u);
    else
        make_ready(u, op); /* not here: its callback may be running */
    close(a->fd);
    a->fd = -1;
}

/* ---- connecting: a call, and then a poll where it takes its time ---- */

struct tl_uring_connect {
    struct tl_connect *c; /* NULL once it is cancelled */
    struct tl_list node;  /* of u->connect_ops */
};

static void connect_op_free(struct tl_uring_connect *op)
{
    tl_list_remove(&op->node);
    tl_free(op);
}

static int poll_connect(struct tl_uring *u, struct tl_connect *c)
{
    struct tl_uring_connect *op = tl_zalloc(sizeof(*op));
    if (op == NULL)
        return -ENOMEM;
    struct io_uring_sqe *sqe =
        tl_uring_sqe(u, TL_URING_CONNECT, tl_uring_tag(op, TL_URING_ON_CONNECT));
    if (sqe == NULL) {
        tl_free(op);
        return -ENOMEM;
    }
    io_uring_prep_poll_add(sqe, c->fd, POLLOUT);
    op->c = c;
    c->op = op;
    tl_list_append(&u->connect_ops, &op->node);
    return 0;
}

int tl_uring_connect_start(struct tl_connect *c, const struct sockaddr *address,
                           socklen_t address_n)
{
    struct tl_uring *u = tl_uring_of(c->loop);
    int status = tl_socket_connect(c, address, address_n);
    if (status < 0)
        return status;
    if (status == 0) {
        tl_list_append(&u->connects, &c->ready);
        return 0;
    }
    int error = poll_connect(u, c);
    if (error != 0) {
        close(c->fd);
        c->fd = -1;
    }
    return error;
}

void tl_uring_on_connect(struct tl_uring_connect *op, int result)
{
    struct tl_connect *c = op->c;
    connect_op_free(op);
    if (c == NULL)
        return;
    c->op = NULL;
    c->error = result < 0 ? result : tl_socket_error(c->fd);
    tl_socket_connect_over(c);
}

void tl_uring_connect_cancel(struct tl_connect *c)
{
    struct tl_uring *u = tl_uring_of(c->loop);
    struct tl_uring_connect *op = c->op;
    tl_list_remove(&c->ready);
    if (op != NULL) {
        op->c = NULL; /* uncancelled, the poll would end when the kernel gives up */
        (void)tl_uring_cancel(u, tl_uring_tag(op, TL_URING_ON_CONNECT));
    }
    c->op = NULL;
    close(c->fd);
    c->fd = -1;
}

void tl_uring_accepts_deinit(struct tl_uring *u)
{
    struct tl_list *node;
    while ((node = tl_list_pop(&u->accept_ops)) != NULL)
        op_free(TL_CONTAINER(node, struct tl_uring_accept, node));
    while ((node = tl_list_pop(&u->connect_ops)) != NULL)
        tl_free(TL_CONTAINER(node, struct tl_uring_connect, node));
}
