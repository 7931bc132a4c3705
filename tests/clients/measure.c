/* Clocks, latencies, what the server used, and byte buffers. */
#include "check.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void *must(void *allocated)
{
    if (!allocated) {
        fprintf(stderr, "tl-check: out of memory\n");
        exit(3);
    }
    return allocated;
}

void bytes_add(struct bytes *b, const void *at, size_t n)
{
    if (n == 0)
        return;
    if (b->n + n > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < b->n + n)
            cap *= 2;
        b->at = must(realloc(b->at, cap));
        b->cap = cap;
    }
    memcpy(b->at + b->n, at, n);
    b->n += n;
}

void bytes_drop(struct bytes *b, size_t n)
{
    memmove(b->at, b->at + n, b->n - n);
    b->n -= n;
}

void bytes_free(struct bytes *b)
{
    free(b->at);
    *b = (struct bytes){0};
}

uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The nanosecond account of each thread; exited threads do not matter here. */
static uint64_t cpu_us_of(int pid)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    uint64_t total_ns = 0;
    if (!dir)
        return 0;
    for (struct dirent *e; (e = readdir(dir));) {
        uint64_t ns = 0;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (f && fscanf(f, "%" SCNu64, &ns) == 1)
            total_ns += ns;
        if (f)
            fclose(f);
    }
    closedir(dir);
    return total_ns / 1000;
}

struct usage usage_of(int pid)
{
    struct usage u = {0};
    if (pid <= 0)
        return u;
    char path[64];
    uint64_t pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%*u %" SCNu64, &pages) == 1)
        u.rss_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    if (f)
        fclose(f);
    u.cpu_us = cpu_us_of(pid);
    return u;
}

/* 16 steps an octave: within 6.25 %. */
static uint32_t bucket_of(uint64_t us)
{
    if (us < 16)
        return (uint32_t)us;
    unsigned octave = 63u - (unsigned)__builtin_clzll(us);
    uint32_t b = (octave - 3) * 16 + (uint32_t)((us >> (octave - 4)) & 15);
    return b < LATENCY_BUCKETS ? b : LATENCY_BUCKETS - 1;
}

static uint64_t bucket_floor(uint32_t b)
{
    if (b < 16)
        return b;
    return (uint64_t)(16 + b % 16) << (b / 16 - 1);
}

void latency_add(uint64_t us)
{
    results.latency[bucket_of(us)]++;
}

uint64_t latency_percentile(double percent)
{
    uint64_t total = 0, sum = 0;
    for (uint32_t b = 0; b < LATENCY_BUCKETS; b++)
        total += results.latency[b];
    for (uint32_t b = 0; b < LATENCY_BUCKETS; b++) {
        sum += results.latency[b];
        if (total && (double)sum >= (double)total * percent / 100)
            return bucket_floor(b);
    }
    return 0;
}
