#include "floor.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RING_ENTRIES 1024 /* with its completions it stays in the cache */

static bool is_uring;
static struct io_uring ring;
static size_t sending_n;

static void die(const char *what, int error)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
    exit(1);
}

void floor_send_init(bool use_uring)
{
    is_uring = use_uring;
    if (!use_uring)
        return;
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                     .cq_entries = 16384};
    int rc = io_uring_queue_init_params(RING_ENTRIES, &ring, &params);
    if (rc < 0)
        die("io_uring", -rc);
}

size_t floor_sending(void)
{
    return sending_n;
}

static void start(struct client *c);

/* All of the block is out; go on with what came meanwhile. */
static void finish(struct client *c)
{
    floor_unref(c->block);
    c->block = NULL;
    c->sending = false;
    if (c->backlog_n == 0)
        return;
    struct block *b = malloc(sizeof *b + c->backlog_n);
    if (!b)
        die("malloc", ENOMEM);
    b->refs = 1;
    b->n = c->backlog_n;
    memcpy(b->bytes, c->backlog, c->backlog_n);
    c->backlog_n = 0;
    c->block = b;
    c->off = 0;
    start(c);
}

static void start_uring(struct client *c)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (!sqe) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    if (!sqe)
        die("io_uring: no entry", EBUSY);
    io_uring_prep_send(sqe, c->fd, c->block->bytes + c->off, c->block->n - c->off,
                       MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data(sqe, c);
    sending_n++;
}

static void start(struct client *c)
{
    c->sending = true;
    if (is_uring) {
        start_uring(c);
        return;
    }
    while (c->sending) {
        ssize_t n = send(c->fd, c->block->bytes + c->off, c->block->n - c->off,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            floor_wants_out(c, true);
            return;
        }
        c->off += n < 0 ? c->block->n - c->off : (size_t)n; /* broken: its end comes by recv */
        if (c->off == c->block->n)
            finish(c);
    }
}

void floor_send(struct client *c, struct block *b)
{
    if (c->sending) {
        uint8_t *more = realloc(c->backlog, c->backlog_n + b->n);
        if (!more)
            die("malloc", ENOMEM);
        memcpy(more + c->backlog_n, b->bytes, b->n);
        c->backlog = more;
        c->backlog_n += b->n;
        return;
    }
    b->refs++;
    c->block = b;
    c->off = 0;
    start(c);
}

void floor_send_ready(struct client *c)
{
    floor_wants_out(c, false);
    if (c->sending)
        start(c);
}

void floor_send_flush(void)
{
    if (!is_uring || sending_n == 0)
        return;
    io_uring_submit_and_get_events(&ring);
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&ring, head, cqe)
    {
        struct client *c = io_uring_cqe_get_data(cqe);
        int taken = cqe->res;
        n++;
        sending_n--;
        c->off += taken <= 0 ? c->block->n - c->off : (size_t)taken;
        if (c->off == c->block->n)
            finish(c);
        else
            start(c);
    }
    io_uring_cq_advance(&ring, n);
}
