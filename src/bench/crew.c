#include "bench/crew.h"

#include "base/alloc.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_WAIT_MS 100

struct part {
    _Atomic bool settled;
    struct tl_tally tally;
};

/* In memory that all processes share. */
struct shared {
    _Atomic bool stop;
    _Atomic uint64_t measure_from_ns;
    _Atomic uint64_t storm_ns; /* 0: not yet */
    struct part parts[];       /* of the receiving processes */
};

struct tl_crew {
    struct tl_swarm_plan plan;
    struct shared *shared;
    size_t shared_n;
    uint32_t parts_n;
    struct tl_swarm *swarm; /* this process': all subscribers, or none */
    struct tl_tally own;    /* where there are none */
    bool spin;
    uint32_t children_n;
    int pids[]; /* 0: waited for */
};

static void child_run(struct tl_crew *c, uint32_t i, int parent)
{
    uint64_t n = c->plan.subscribers_n, first = n * i / c->parts_n;
    struct part *part = &c->shared->parts[i];
    struct tl_swarm *s =
        tl_swarm_new(&c->plan, first, n * (i + 1) / c->parts_n - first, &part->tally);
    if (!s)
        _exit(1);
    while (!atomic_load_explicit(&c->shared->stop, memory_order_relaxed) && getppid() == parent) {
        tl_swarm_turn(s, c->spin ? 0 : CHILD_WAIT_MS);
        if (tl_swarm_is_settled(s))
            atomic_store_explicit(&part->settled, true, memory_order_relaxed);
    }
    tl_swarm_judge(s);
    tl_swarm_free(s);
    _exit(0);
}

/* Children are forked before anything is connected, so that they inherit no sockets. */
static bool fork_children(struct tl_crew *c)
{
    int parent = getpid();
    for (uint32_t i = 0; i < c->parts_n; i++) {
        int pid = fork();
        if (pid < 0)
            return false;
        if (pid == 0)
            child_run(c, i, parent);
        c->pids[c->children_n++] = pid;
    }
    return true;
}

static bool start(struct tl_crew *c)
{
    size_t n = sizeof *c->shared + c->parts_n * sizeof c->shared->parts[0];
    void *memory = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    c->shared = memory;
    c->shared_n = n;
    c->plan.measure_from_ns = &c->shared->measure_from_ns;
    if (c->plan.storm_ns)
        c->plan.storm_ns = &c->shared->storm_ns;
    tl_crew_measure_from(c, UINT64_MAX);
    if (c->parts_n > 1 && !fork_children(c))
        return false;
    c->swarm = c->parts_n > 1
                   ? tl_swarm_new(&c->plan, 0, 0, &c->own)
                   : tl_swarm_new(&c->plan, 0, c->plan.subscribers_n, &c->shared->parts[0].tally);
    return c->swarm && tl_swarm_watch(c->swarm, tl_flight_wake_fd(c->plan.flight), EPOLLIN) == 0;
}

struct tl_crew *tl_crew_new(const struct tl_swarm_plan *plan, uint32_t processes_n, bool spin)
{
    struct tl_crew *c = tl_zalloc(sizeof *c + processes_n * sizeof c->pids[0]);
    if (!c)
        return NULL;
    c->plan = *plan;
    c->parts_n = processes_n;
    c->spin = spin;
    if (start(c))
        return c;
    tl_crew_free(c);
    return NULL;
}

static int wait_children(struct tl_crew *c)
{
    int rc = 0;
    atomic_store_explicit(&c->shared->stop, true, memory_order_relaxed);
    for (uint32_t i = 0; i < c->children_n; i++) {
        int status = 0;
        if (c->pids[i] == 0)
            continue;
        while (waitpid(c->pids[i], &status, 0) < 0 && errno == EINTR)
            ;
        c->pids[i] = 0;
        if (status != 0)
            rc = -ECHILD;
    }
    return rc;
}

void tl_crew_free(struct tl_crew *c)
{
    if (!c)
        return;
    if (c->shared) {
        int rc = wait_children(c);
        (void)rc;
    }
    tl_swarm_free(c->swarm);
    if (c->shared)
        munmap(c->shared, c->shared_n);
    tl_free(c);
}

int tl_crew_watch(struct tl_crew *c, int fd, uint32_t epoll_events)
{
    return tl_swarm_watch(c->swarm, fd, epoll_events);
}

void tl_crew_turn(struct tl_crew *c, int timeout_ms)
{
    tl_swarm_turn(c->swarm, c->spin ? 0 : timeout_ms);
}

bool tl_crew_is_settled(const struct tl_crew *c)
{
    for (uint32_t i = 0; i < c->children_n; i++)
        if (!atomic_load_explicit(&c->shared->parts[i].settled, memory_order_relaxed))
            return false;
    return tl_swarm_is_settled(c->swarm);
}

void tl_crew_progress(const struct tl_crew *c, struct tl_crew_progress *ret)
{
    *ret = (struct tl_crew_progress){0};
    for (uint32_t i = 0; i < c->parts_n; i++) {
        /* Another process writes these: each is read once, whole, and is right a moment later. */
        const volatile struct tl_tally *t = &c->shared->parts[i].tally;
        ret->ready += t->ready;
        ret->failed += t->failed;
        ret->closed += t->closed;
        ret->delivered += t->delivered;
        ret->missing += t->missing;
        ret->received += t->bytes;
    }
}

void tl_crew_measure_from(struct tl_crew *c, uint64_t ns)
{
    atomic_store_explicit(&c->shared->measure_from_ns, ns, memory_order_relaxed);
}

void tl_crew_storm(struct tl_crew *c, uint64_t ns)
{
    atomic_store_explicit(&c->shared->storm_ns, ns, memory_order_relaxed);
}

bool tl_crew_is_calm(const struct tl_crew *c)
{
    for (uint32_t i = 0; i < c->parts_n; i++) {
        const volatile struct tl_tally *t = &c->shared->parts[i].tally;
        if (t->storms == 0 || t->caught_up.n + t->stranded < t->dropped)
            return false;
    }
    return true;
}

void tl_crew_latency(const struct tl_crew *c, struct tl_histogram *ret)
{
    memset(ret, 0, sizeof *ret);
    for (uint32_t i = 0; i < c->parts_n; i++)
        tl_histogram_merge(ret, &c->shared->parts[i].tally.latency);
}

uint32_t tl_crew_children(const struct tl_crew *c, const int **ret_pids)
{
    *ret_pids = c->pids;
    return c->children_n;
}

int tl_crew_finish(struct tl_crew *c, struct tl_tally *ret_sum)
{
    int rc = wait_children(c);
    if (c->children_n == 0)
        tl_swarm_judge(c->swarm);
    memset(ret_sum, 0, sizeof *ret_sum);
    for (uint32_t i = 0; i < c->parts_n; i++)
        tl_tally_merge(ret_sum, &c->shared->parts[i].tally);
    return rc;
}
