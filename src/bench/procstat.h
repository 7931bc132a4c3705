/*
 * What a process and the machine have used, from /proc: CPU time by process and by thread, resident
 * memory, and how busy all cores were. Reading text and opening files are separate, so that tests
 * feed it text. It judges nothing.
 */
#ifndef TL_BENCH_PROCSTAT_H
#define TL_BENCH_PROCSTAT_H

#include "base/bytes.h"

#define TL_PROCSTAT_THREADS_MAX 64

struct tl_procstat_thread {
    int tid;
    char name[16];
    uint64_t cpu_ns;
};

struct tl_procstat {
    int pid;
    char name[16];
    uint64_t user_ns, system_ns; /* in clock ticks of 10 ms */
    uint64_t cpu_ns;             /* both, and finer where the kernel tells */
    uint64_t rss_bytes;
    uint32_t threads_n; /* the first TL_PROCSTAT_THREADS_MAX are kept */
    struct tl_procstat_thread threads[TL_PROCSTAT_THREADS_MAX];
};

struct tl_machine_stat {
    uint64_t busy_ns; /* of all cores together, interrupts and stolen time included */
    uint64_t steal_ns;
    uint32_t cores_n;
};

/* Name and CPU times from the text of /proc/PID/stat; the name may hold spaces and parentheses. */
TL_MUST_USE bool tl_procstat_parse(const char *text, long ticks_hz, struct tl_procstat *ret);

/* Busy time and cores from the text of /proc/stat. */
TL_MUST_USE bool tl_machine_stat_parse(const char *text, long ticks_hz,
                                       struct tl_machine_stat *ret);

/* Look at a process now. 0, or -errno when there is none. */
TL_MUST_USE int tl_procstat_read(int pid, struct tl_procstat *ret);

/* Look at the machine now. 0 or -errno. */
TL_MUST_USE int tl_machine_stat_read(struct tl_machine_stat *ret);

#endif
