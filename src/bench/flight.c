#include "bench/flight.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * All orders are relaxed but for one pair: the count of a message is written before its index is
 * published (release in launch, acquire in land). The message itself travels through the server.
 */
struct tl_flight {
    _Atomic uint64_t launched, done;
    uint64_t mask;
    size_t bytes_n; /* of the mapping */
    int wake_fd;
    uint32_t channels_n;
    _Atomic uint32_t counts[]; /* subscribers of each channel; then missing of each slot */
};

static _Atomic uint32_t *slot(struct tl_flight *f, uint64_t index)
{
    return &f->counts[f->channels_n + (index & f->mask)];
}

struct tl_flight *tl_flight_new(uint32_t channels_n, uint64_t window_max)
{
    uint64_t slots_n = 1;
    while (slots_n < window_max)
        slots_n *= 2;
    size_t bytes_n = sizeof(struct tl_flight) + (channels_n + slots_n) * sizeof(_Atomic uint32_t);
    struct tl_flight *f =
        mmap(NULL, bytes_n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (f == MAP_FAILED)
        return NULL;
    f->bytes_n = bytes_n;
    f->mask = slots_n - 1;
    f->channels_n = channels_n;
    f->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (f->wake_fd >= 0)
        return f;
    munmap(f, bytes_n);
    return NULL;
}

void tl_flight_free(struct tl_flight *f)
{
    if (!f)
        return;
    close(f->wake_fd);
    munmap(f, f->bytes_n);
}

int tl_flight_wake_fd(const struct tl_flight *f)
{
    return f->wake_fd;
}

void tl_flight_subscribers(struct tl_flight *f, uint32_t channel, int change)
{
    atomic_fetch_add_explicit(&f->counts[channel], (uint32_t)change, memory_order_relaxed);
}

uint32_t tl_flight_launch(struct tl_flight *f, uint32_t channel)
{
    uint64_t index = atomic_load_explicit(&f->launched, memory_order_relaxed);
    uint32_t subscribers = atomic_load_explicit(&f->counts[channel], memory_order_relaxed);
    atomic_store_explicit(slot(f, index), subscribers, memory_order_relaxed);
    atomic_store_explicit(&f->launched, index + 1, memory_order_release);
    return subscribers;
}

uint64_t tl_flight_launched(const struct tl_flight *f)
{
    return atomic_load_explicit(&f->launched, memory_order_relaxed);
}

void tl_flight_land(struct tl_flight *f, uint64_t index)
{
    if (index >= atomic_load_explicit(&f->launched, memory_order_acquire) ||
        index < atomic_load_explicit(&f->done, memory_order_relaxed))
        return;
    if (atomic_fetch_sub_explicit(slot(f, index), 1, memory_order_relaxed) != 1)
        return;
    uint64_t one = 1;
    ssize_t n = write(f->wake_fd, &one, sizeof one);
    (void)n; /* a full counter is readable too */
}

uint64_t tl_flight_done(struct tl_flight *f)
{
    uint64_t launched = tl_flight_launched(f), woken;
    uint64_t done = atomic_load_explicit(&f->done, memory_order_relaxed);
    ssize_t n = read(f->wake_fd, &woken, sizeof woken);
    (void)n; /* nothing to read: the counts tell all the same */
    while (done < launched && atomic_load_explicit(slot(f, done), memory_order_relaxed) == 0)
        done++;
    atomic_store_explicit(&f->done, done, memory_order_relaxed);
    return done;
}

void tl_flight_forget(struct tl_flight *f)
{
    atomic_store_explicit(&f->done, tl_flight_launched(f), memory_order_relaxed);
}
