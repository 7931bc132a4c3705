#include "bench/procstat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t ticks_ns(uint64_t ticks, long ticks_hz)
{
    return ticks * (1000000000u / (uint64_t)ticks_hz);
}

/* The number at *text, and step behind it; false when there is none. */
static bool next_number(const char **text, uint64_t *ret)
{
    char *end;
    *text += strspn(*text, " ");
    if (**text < '0' || **text > '9')
        return false;
    *ret = strtoull(*text, &end, 10);
    *text = end;
    return true;
}

/* Step over n fields that blanks separate. */
static const char *skip_fields(const char *text, uint32_t n)
{
    for (; n > 0; n--) {
        text += strspn(text, " ");
        text += strcspn(text, " ");
    }
    return text;
}

bool tl_procstat_parse(const char *text, long ticks_hz, struct tl_procstat *ret)
{
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    uint64_t user, system;
    if (!open || !close || close < open)
        return false;
    /* Field 3 follows the name; times are fields 14 and 15 (proc(5)). */
    const char *times = skip_fields(close + 1, 11);
    if (!next_number(&times, &user) || !next_number(&times, &system))
        return false;
    snprintf(ret->name, sizeof ret->name, "%.*s", (int)(close - open - 1), open + 1);
    ret->user_ns = ticks_ns(user, ticks_hz);
    ret->system_ns = ticks_ns(system, ticks_hz);
    ret->cpu_ns = ret->user_ns + ret->system_ns;
    return true;
}

bool tl_machine_stat_parse(const char *text, long ticks_hz, struct tl_machine_stat *ret)
{
    /* user nice system idle iowait irq softirq steal (proc(5)) */
    enum { IDLE = 3, IOWAIT = 4, STEAL = 7, TIMES_N };
    uint64_t ticks[TIMES_N], busy = 0;
    const char *at = text + 3;
    if (strncmp(text, "cpu ", 4) != 0)
        return false;
    for (int i = 0; i < TIMES_N; i++) {
        if (!next_number(&at, &ticks[i]))
            return false;
        busy += i == IDLE || i == IOWAIT ? 0 : ticks[i];
    }
    ret->busy_ns = ticks_ns(busy, ticks_hz);
    ret->steal_ns = ticks_ns(ticks[STEAL], ticks_hz);
    ret->cores_n = 0;
    for (const char *line = text; (line = strstr(line, "\ncpu")); line++)
        ret->cores_n++;
    return true;
}

/* The start of a small file, NUL-terminated. 0 or -errno. */
static int read_file(const char *path, char *text, size_t text_n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, text_n - 1);
    int error = n < 0 ? -errno : 0;
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    return error;
}

static uint64_t read_rss(int pid)
{
    char path[64], text[128];
    uint64_t pages;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    if (read_file(path, text, sizeof text) < 0)
        return 0;
    const char *at = skip_fields(text, 1);
    if (!next_number(&at, &pages))
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A thread's CPU time in nanoseconds where the kernel keeps it, else in ticks. */
static bool read_thread(int pid, int tid, struct tl_procstat_thread *ret)
{
    char path[80], text[1024];
    struct tl_procstat stat;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    if (read_file(path, text, sizeof text) < 0 ||
        !tl_procstat_parse(text, sysconf(_SC_CLK_TCK), &stat))
        return false;
    ret->tid = tid;
    ret->cpu_ns = stat.cpu_ns;
    memcpy(ret->name, stat.name, sizeof ret->name);
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, tid);
    const char *at = text;
    if (read_file(path, text, sizeof text) == 0)
        next_number(&at, &ret->cpu_ns);
    return true;
}

static void read_threads(int pid, struct tl_procstat *ret)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    uint64_t sum_ns = 0;
    ret->threads_n = 0;
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));) {
        struct tl_procstat_thread thread;
        if (e->d_name[0] == '.' || !read_thread(pid, (int)strtol(e->d_name, NULL, 10), &thread))
            continue;
        sum_ns += thread.cpu_ns;
        if (ret->threads_n < TL_PROCSTAT_THREADS_MAX)
            ret->threads[ret->threads_n++] = thread;
    }
    closedir(dir);
    /* The process' own times also hold threads that ended, in whole ticks. */
    if (sum_ns > ret->cpu_ns)
        ret->cpu_ns = sum_ns;
}

int tl_procstat_read(int pid, struct tl_procstat *ret)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int rc = read_file(path, text, sizeof text);
    if (rc < 0)
        return rc;
    *ret = (struct tl_procstat){.pid = pid};
    if (!tl_procstat_parse(text, sysconf(_SC_CLK_TCK), ret))
        return -EPROTO;
    ret->rss_bytes = read_rss(pid);
    read_threads(pid, ret);
    return 0;
}

int tl_machine_stat_read(struct tl_machine_stat *ret)
{
    static char text[65536];
    int rc = read_file("/proc/stat", text, sizeof text);
    if (rc < 0)
        return rc;
    return tl_machine_stat_parse(text, sysconf(_SC_CLK_TCK), ret) ? 0 : -EPROTO;
}
