/*
 * `tramline bench`: what its parts share. cmd_bench.c reads the options, bench_run.c does the run,
 * bench_report.c prints what came out.
 */
#ifndef TL_APP_BENCH_H
#define TL_APP_BENCH_H

#include "app/commands.h"
#include "app/publisher.h"
#include "bench/crew.h"
#include "bench/procstat.h"

#define TL_BENCH_PIDS_MAX 64

struct tl_bench_options {
    uint64_t subscribers_n, channels_n, processes_n, parallel;
    char *prefix, *publish, *token, *ready, *subprotocol, *position;
    struct tl_strings sends, headers, sources, pids;
    uint64_t size, messages_n, window, burst, rate;
    uint64_t duration_ms, warmup_ms, storm_ms, settle_ms, timeout_ms;
    struct tl_publish_stream stream;
    bool all, spin, lossy, json;
    /* What follows from them. */
    const char *url; /* of the subscribers */
    char *publish_base, *publish_path;
    int pid_numbers[TL_BENCH_PIDS_MAX];
    uint32_t pids_n;
};

/* When the processes were looked at. */
enum tl_bench_moment {
    TL_BENCH_BEFORE,    /* the first connect */
    TL_BENCH_CONNECTED, /* all are, and settled */
    TL_BENCH_FROM,      /* the first measured message */
    TL_BENCH_TO,        /* everything came, or is given up */
    TL_BENCH_STORM,     /* all subscribers drop */
    TL_BENCH_CALM,      /* the last one has caught up */
    TL_BENCH_MOMENTS_N,
};

struct tl_bench_look {
    uint64_t ns;
    struct tl_machine_stat machine;
    uint64_t own_ns; /* CPU of the generator's processes */
    struct tl_procstat procs[TL_BENCH_PIDS_MAX];
};

struct tl_bench_result {
    const struct tl_bench_options *options;
    struct tl_tally sum;
    uint64_t subscribers_n, published, answered, refused, answered_measured;
    uint64_t connect_ns; /* the first connect to the last ready */
    bool moments[TL_BENCH_MOMENTS_N];
    char trouble[400]; /* why the run ended early, or ""; then of the publisher's first refusal */
    bool ended_early;
    struct tl_bench_look looks[TL_BENCH_MOMENTS_N];
};

/*
 * Run it. plan: complete but for flight, run, measure_from_ns, storm_ns and positions. Fills in the
 * result as far as it came; result->ended_early says that it did not come to its end.
 */
void tl_bench_run(const struct tl_bench_options *options, struct tl_swarm_plan *plan,
                  struct tl_bench_result *result);

/*
 * Ask the target where each channel stands, at options->position. False with one line in error; the
 * array is the caller's to tl_free() either way.
 */
bool tl_bench_ask_positions(const struct tl_bench_options *options,
                            const struct tl_swarm_plan *plan,
                            char (**ret_positions)[TL_STORM_ID_MAX], char *error, size_t error_n);

/* Did everything that was expected come, once and in order? */
bool tl_bench_is_clean(const struct tl_bench_result *result);

/* Print to standard output. */
void tl_bench_print(const struct tl_bench_result *result);
void tl_bench_print_json(const struct tl_bench_result *result);

#endif
