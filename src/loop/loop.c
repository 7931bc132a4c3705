#include "loop/loop.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "loop/engine.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

/* Tasks that defer tasks may do so this often before I/O gets its turn again. */
#define TASK_ROUNDS_MAX 64

/* The loop whose turn this thread is in. Cheaper to compare than the thread: each send does. */
static _Thread_local const struct tl_loop *current __attribute__((tls_model("local-exec")));

static inline void assert_own_thread(const struct tl_loop *loop)
{
    assert(!loop->running || loop == current);
}

static int engine_init(struct tl_loop *loop, enum tl_engine engine)
{
    if (engine != TL_ENGINE_EPOLL) {
        loop->ops = &tl_engine_uring;
        int error = loop->ops->init(loop);
        if (error == 0 || engine == TL_ENGINE_URING)
            return error;
        loop->refused = error;
    }
    loop->ops = &tl_engine_epoll;
    return loop->ops->init(loop);
}

struct tl_loop *tl_loop_new(enum tl_engine engine, int *ret_error)
{
    struct tl_loop *loop = tl_zalloc(sizeof(*loop));
    if (loop == NULL) {
        *ret_error = -ENOMEM;
        return NULL;
    }
    int error = tl_mailbox_init(&loop->mailbox);
    if (error != 0)
        goto free_loop;
    loop->now_ms = tl_clock_ms();
    tl_timers_init(&loop->timers, loop->now_ms);
    tl_list_init(&loop->tasks);
    tl_list_init(&loop->closed);
    atomic_init(&loop->stop, false);
    error = engine_init(loop, engine);
    if (error == 0)
        return loop;
    tl_mailbox_deinit(&loop->mailbox);
free_loop:
    tl_free(loop);
    *ret_error = error;
    return NULL;
}

static void run_closed(struct tl_loop *loop)
{
    struct tl_list *node;
    while ((node = tl_list_pop(&loop->closed)) != NULL) {
        struct tl_stream *s = TL_CONTAINER(node, struct tl_stream, ready);
        loop->streams_n--;
        s->handler->on_closed(s); /* may free the stream */
    }
}

void tl_loop_free(struct tl_loop *loop)
{
    if (loop == NULL)
        return;
    assert(!loop->running);
    run_closed(loop);
    assert(loop->streams_n == 0);
    loop->ops->deinit(loop);
    tl_mailbox_deinit(&loop->mailbox);
    tl_free(loop);
}

static void run_tasks(struct tl_loop *loop)
{
    for (int round = 0; round < TASK_ROUNDS_MAX && !tl_list_empty(&loop->tasks); round++) {
        struct tl_list batch, *node;
        tl_list_init(&batch);
        tl_list_splice(&batch, &loop->tasks);
        while ((node = tl_list_pop(&batch)) != NULL) {
            struct tl_task *task = TL_CONTAINER(node, struct tl_task, node);
            task->fn(task);
        }
    }
}

/* Reads the clock anew: the callbacks of the last turn took their time. */
static int timeout_ms(const struct tl_loop *loop, uint32_t wait_ms)
{
    if (wait_ms == 0 || !tl_list_empty(&loop->tasks) || !tl_list_empty(&loop->closed) ||
        loop->mailbox.own_mail || loop->ops->has_work(loop))
        return 0;
    uint64_t timers_ms = tl_timers_wait_ms(&loop->timers, tl_clock_ms());
    if (timers_ms == UINT64_MAX && wait_ms == UINT32_MAX)
        return -1;
    uint64_t least = timers_ms < wait_ms ? timers_ms : wait_ms;
    return least > INT_MAX ? INT_MAX : (int)least;
}

static void turn(struct tl_loop *loop, uint32_t wait_ms)
{
    loop->ops->wait(loop, timeout_ms(loop, wait_ms));
    loop->now_ms = tl_clock_ms();
    loop->ops->io(loop);
    tl_timers_run(&loop->timers, loop->now_ms);
    tl_mailbox_run(&loop->mailbox);
    run_tasks(loop);
    run_closed(loop);
}

static const struct tl_loop *enter(struct tl_loop *loop)
{
    const struct tl_loop *outer = current;
    assert(!loop->running);
    current = loop;
    tl_mailbox_receive_here(&loop->mailbox);
    loop->running = true;
    return outer;
}

static void leave(struct tl_loop *loop, const struct tl_loop *outer)
{
    loop->running = false;
    current = outer;
    tl_mailbox_receive_here(outer == NULL ? NULL : &outer->mailbox);
}

void tl_loop_turn(struct tl_loop *loop, uint32_t wait_ms)
{
    const struct tl_loop *outer = enter(loop);
    turn(loop, wait_ms);
    leave(loop, outer);
}

void tl_loop_run(struct tl_loop *loop)
{
    const struct tl_loop *outer = enter(loop);
    /* Pairs with the release in tl_loop_stop(): what the stopper wrote before is seen after. */
    while (!atomic_exchange_explicit(&loop->stop, false, memory_order_acquire))
        turn(loop, UINT32_MAX);
    leave(loop, outer);
}

void tl_loop_stop(struct tl_loop *loop)
{
    int saved = errno; /* it may interrupt anything */
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    uint64_t one = 1;
    while (write(loop->mailbox.wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    errno = saved;
}

uint64_t tl_loop_now_ms(const struct tl_loop *loop)
{
    return loop->now_ms;
}

const char *tl_loop_engine_name(const struct tl_loop *loop)
{
    return loop->ops->name;
}

int tl_loop_uring_refused(const struct tl_loop *loop)
{
    return loop->refused;
}

const char *tl_engine_refusal(int error)
{
    switch (-error) {
    case ENOSYS:
        return "the kernel, or the container's seccomp profile, has no io_uring";
    case EPERM:
    case EACCES:
        return "not permitted (sysctl kernel.io_uring_disabled, seccomp, or a security module)";
    case ENOMEM:
        return "no memory for its rings (ulimit -l, or the container's limit)";
    case EMFILE:
    case ENFILE:
        return "out of file descriptors (ulimit -n)";
    case EINVAL:
    case EOPNOTSUPP:
        return "the kernel is too old for what is used of it (needs Linux 6.0)";
    default:
        return strerror(-error);
    }
}

struct tl_mailbox *tl_loop_mailbox(struct tl_loop *loop)
{
    return &loop->mailbox;
}

struct tl_timers *tl_loop_timers(struct tl_loop *loop)
{
    return &loop->timers;
}

void tl_loop_timer_start(struct tl_loop *loop, struct tl_timer *timer, uint64_t delay_ms)
{
    assert_own_thread(loop);
    uint64_t due_ms = delay_ms > UINT64_MAX - loop->now_ms ? UINT64_MAX : loop->now_ms + delay_ms;
    tl_timer_start(&loop->timers, timer, due_ms);
}

void tl_task_init(struct tl_task *task, void (*fn)(struct tl_task *))
{
    tl_list_init(&task->node);
    task->fn = fn;
}

void tl_loop_defer(struct tl_loop *loop, struct tl_task *task)
{
    assert_own_thread(loop);
    assert(task->fn != NULL);
    if (tl_list_empty(&task->node))
        tl_list_append(&loop->tasks, &task->node);
}

void tl_task_cancel(struct tl_task *task)
{
    tl_list_remove(&task->node);
}

int tl_stream_open(struct tl_loop *loop, struct tl_stream *s, int fd,
                   const struct tl_stream_handler *handler)
{
    assert_own_thread(loop);
    assert(fd >= 0 && handler->on_recv != NULL && handler->on_sent != NULL &&
           handler->on_closed != NULL);
    s->loop = loop;
    s->handler = handler;
    tl_list_init(&s->ready);
    s->pending = NULL;
    s->fd = fd;
    s->flags = s->slot = 0;
    int error = loop->ops->stream_open(s);
    if (error == 0)
        loop->streams_n++;
    else
        s->fd = -1;
    return error;
}

void tl_stream_recv(struct tl_stream *s, bool on)
{
    assert_own_thread(s->loop);
    if (!tl_stream_is_closed(s))
        s->loop->ops->stream_recv(s, on);
}

/* Outside of a turn, closed, or wrong. */
__attribute__((cold, noinline)) static ssize_t
send_checked(struct tl_stream *s, const struct tl_bytes *slices, unsigned n)
{
    assert_own_thread(s->loop);
    assert(n >= 1 && n <= TL_SEND_SLICES_MAX);
    assert(s->pending == NULL);
    if (tl_stream_is_closed(s))
        return -EPIPE;
    return s->loop->ops->stream_send(s, slices, n);
}

/* Hot: the checks of send_checked() in one, so that nothing has to be kept for them. */
ssize_t tl_stream_send(struct tl_stream *s, const struct tl_bytes *slices, unsigned n)
{
    if (s->loop != current || n - 1 >= TL_SEND_SLICES_MAX || s->pending != NULL ||
        tl_stream_is_closed(s))
        return send_checked(s, slices, n);
    return current->ops->stream_send(s, slices, n);
}

bool tl_loop_batch_begin(struct tl_loop *loop)
{
    assert_own_thread(loop);
    assert(!loop->batching);
    loop->batching = true;
    return loop->ops->batch_end != NULL;
}

void tl_loop_batch_end(struct tl_loop *loop)
{
    assert_own_thread(loop);
    assert(loop->batching);
    loop->batching = false;
    if (loop->ops->batch_end != NULL)
        loop->ops->batch_end(loop);
}

void tl_loop_send_all(struct tl_loop *loop, struct tl_stream *const *streams, unsigned streams_n,
                      const struct tl_bytes *slices, unsigned slices_n, ssize_t *ret_taken)
{
    assert_own_thread(loop);
    assert(streams_n >= 1 && streams_n <= TL_SEND_ALL_MAX);
    assert(slices_n >= 1 && slices_n <= TL_SEND_SLICES_MAX);
    loop->ops->send_all(loop, streams, streams_n, slices, slices_n, ret_taken);
}

void tl_stream_shutdown(struct tl_stream *s)
{
    assert_own_thread(s->loop);
    assert(s->pending == NULL);
    if (!tl_stream_is_closed(s))
        s->loop->ops->stream_shutdown(s);
}

static void stream_close(struct tl_stream *s, bool reset)
{
    assert_own_thread(s->loop);
    if (!tl_stream_is_closed(s))
        s->loop->ops->stream_close(s, reset);
}

void tl_stream_close(struct tl_stream *s)
{
    stream_close(s, false);
}

void tl_stream_reset(struct tl_stream *s)
{
    stream_close(s, true);
}

void tl_loop_stream_over(struct tl_stream *s)
{
    assert(tl_stream_is_closed(s) && s->pending == NULL);
    tl_list_append(&s->loop->closed, &s->ready);
}

int tl_acceptor_open(struct tl_loop *loop, struct tl_acceptor *a, int fd)
{
    assert_own_thread(loop);
    assert(fd >= 0 && a->on_accept != NULL && a->on_refused != NULL);
    a->loop = loop;
    tl_list_init(&a->ready);
    a->fd = fd;
    a->flags = 0;
    a->op = NULL;
    int error = loop->ops->acceptor_open(a);
    if (error != 0)
        a->fd = -1;
    return error;
}

void tl_acceptor_pause(struct tl_acceptor *a)
{
    assert_own_thread(a->loop);
    if (a->fd >= 0)
        a->loop->ops->acceptor_pause(a);
}

void tl_acceptor_resume(struct tl_acceptor *a)
{
    assert_own_thread(a->loop);
    if (a->fd >= 0)
        a->loop->ops->acceptor_resume(a);
}

void tl_acceptor_close(struct tl_acceptor *a)
{
    if (a->loop == NULL || a->fd < 0)
        return;
    assert_own_thread(a->loop);
    a->loop->ops->acceptor_close(a);
}

int tl_connect_start(struct tl_loop *loop, struct tl_connect *c, const struct sockaddr *address,
                     socklen_t address_n)
{
    assert_own_thread(loop);
    assert(c->on_connect != NULL);
    c->loop = loop;
    tl_list_init(&c->ready);
    c->fd = -1;
    c->error = 0;
    c->op = NULL;
    int error = loop->ops->connect_start(c, address, address_n);
    if (error != 0)
        c->loop = NULL;
    return error;
}

void tl_connect_cancel(struct tl_connect *c)
{
    if (c->loop == NULL)
        return; /* never started, or over */
    assert_own_thread(c->loop);
    c->loop->ops->connect_cancel(c);
    c->loop = NULL;
}
