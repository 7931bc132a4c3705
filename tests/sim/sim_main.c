/* sim: worlds from seeds. One that breaks a promise prints itself, and replays to the step. */
#include "chaos.h"
#include "many.h"

#include "base/logger.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char usage[] =
    "usage: sim [--seeds A..B | --seed N] [--seconds S] [--trace]\n"
    "Runs the gateway in a simulated world for each seed (1..1000 unless told otherwise), for at\n"
    "most S seconds, until one breaks a promise of CORRECTNESS. Exit 1 then.\n";

static uint64_t seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

static _Noreturn void bad_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

static uint64_t number(const char *text, const char **ret_rest)
{
    char *rest;
    uint64_t n = text ? strtoull(text, &rest, 10) : 0;
    if (!text || rest == text)
        bad_usage();
    *ret_rest = rest;
    return n;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, to = 1000, seconds_max = UINT64_MAX, steps = 0, done = 0;
    const char *rest;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            sim.trace = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0)
            from = to = number(value, &rest);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds_max = number(value, &rest);
        else if (strcmp(argv[i], "--seeds") == 0) {
            from = number(value, &rest);
            to = strncmp(rest, "..", 2) == 0 ? number(rest + 2, &rest) : from;
        } else
            bad_usage();
        i++;
    }
    tl_logger_level(TL_ERROR);
    sim_watch_signals();
    uint64_t start = seconds();
    for (uint64_t seed = from; seed <= to && seconds() - start < seconds_max; seed++, done++)
        steps += chaos_run(seed);
    many_end();
    model_end();
    printf("%llu seeds, %llu steps, %llu s: every promise was kept\n", (unsigned long long)done,
           (unsigned long long)steps, (unsigned long long)(seconds() - start));
    return 0;
}
