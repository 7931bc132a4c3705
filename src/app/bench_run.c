#include "app/bench.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "bench/pace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TURN_MS        100
#define PROGRESS_MS    250
#define TURN_SENDS_MAX 256
#define UNANSWERED_MAX 65536 /* a target that answers nothing must not fill our memory */
#define MS             UINT64_C(1000000)

struct run {
    const struct tl_bench_options *options;
    const struct tl_swarm_plan *plan;
    struct tl_bench_result *result;
    struct tl_crew *crew;
    struct tl_publisher *publisher; /* NULL: nobody publishes */
    const volatile int *interrupted;
    struct tl_pace pace;
    uint64_t expected; /* deliveries of what was published so far */
    uint64_t received; /* bytes, at ... */
    uint64_t moved_ns; /* ... the last time when something came */
    uint64_t said_ns;
    int timer_fd, publisher_events;
    bool tty;
    uint8_t *payload;
    char (*positions)[TL_STORM_ID_MAX];
};

TL_PRINTF(2, 3) static void trouble(struct run *r, const char *fmt, ...)
{
    va_list args;
    r->result->ended_early = true;
    if (*r->result->trouble)
        return;
    va_start(args, fmt);
    vsnprintf(r->result->trouble, sizeof r->result->trouble, fmt, args);
    va_end(args);
}

static bool is_ended(const struct run *r)
{
    return r->result->ended_early || *r->interrupted;
}

/* Looks at the processes */

static uint64_t own_cpu_ns(const struct tl_crew *crew)
{
    struct tl_procstat stat;
    const int *pids = NULL;
    uint32_t n = crew ? tl_crew_children(crew, &pids) : 0;
    uint64_t sum_ns = tl_procstat_read(getpid(), &stat) == 0 ? stat.cpu_ns : 0;
    for (uint32_t i = 0; i < n; i++)
        if (tl_procstat_read(pids[i], &stat) == 0)
            sum_ns += stat.cpu_ns;
    return sum_ns;
}

static void look(struct run *r, enum tl_bench_moment moment)
{
    struct tl_bench_look *l = &r->result->looks[moment];
    const struct tl_bench_options *o = r->options;
    for (uint32_t i = 0; i < o->pids_n; i++)
        if (tl_procstat_read(o->pid_numbers[i], &l->procs[i]) < 0)
            trouble(r, "process %d is not there (any more)", o->pid_numbers[i]);
    if (tl_machine_stat_read(&l->machine) < 0)
        l->machine = (struct tl_machine_stat){.cores_n = 1};
    l->own_ns = own_cpu_ns(r->crew);
    l->ns = tl_clock_ns();
    r->result->moments[moment] = true;
}

/* One turn */

static void say_progress(struct run *r, const struct tl_crew_progress *p, uint64_t now_ns)
{
    if (!r->tty || now_ns - r->said_ns < PROGRESS_MS * MS)
        return;
    r->said_ns = now_ns;
    if (r->pace.start_ns == 0) {
        fprintf(stderr, "\rbench: %llu of %llu connected, %llu failed\033[K",
                (unsigned long long)p->ready, (unsigned long long)r->plan->subscribers_n,
                (unsigned long long)p->failed);
        return;
    }
    struct tl_histogram latency;
    tl_crew_latency(r->crew, &latency);
    fprintf(stderr,
            "\rbench: %.1f s, %llu published, %llu of %llu delivered, p50 %.2f ms, p99 %.2f "
            "ms\033[K",
            (double)(now_ns - r->pace.start_ns) / 1e9, (unsigned long long)r->pace.published,
            (unsigned long long)p->delivered, (unsigned long long)r->expected,
            (double)tl_histogram_at(&latency, 0.5) / 1e6,
            (double)tl_histogram_at(&latency, 0.99) / 1e6);
}

static bool is_in_storm(const struct run *r)
{
    return r->result->moments[TL_BENCH_STORM] && !r->result->moments[TL_BENCH_CALM];
}

/* Send and receive of the publisher, and have the loop wake for the rest. */
static void pump_publisher(struct run *r)
{
    const struct tl_publisher_count *count = tl_publisher_count(r->publisher);
    if (count->sent > count->answered && tl_publisher_pump(r->publisher, 0) < 0) {
        trouble(r, "publishing: %s", tl_publisher_error(r->publisher));
        return;
    }
    if (count->refused > 0 && !r->options->lossy)
        trouble(r, "publishing: %s", tl_publisher_error(r->publisher));
    struct pollfd waiting;
    tl_publisher_poll(r->publisher, &waiting);
    int events = waiting.events & POLLOUT ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (events == r->publisher_events)
        return;
    r->publisher_events = events;
    if (tl_crew_watch(r->crew, waiting.fd, (uint32_t)events) < 0)
        trouble(r, "the loop refuses the publisher's connection");
}

/* Returns what has happened so far. */
static struct tl_crew_progress turn(struct run *r, int timeout_ms)
{
    struct tl_crew_progress progress;
    tl_crew_turn(r->crew, timeout_ms);
    if (r->publisher)
        pump_publisher(r);
    tl_crew_progress(r->crew, &progress);
    uint64_t now_ns = tl_clock_ns(), sum = progress.received + progress.ready + progress.failed;
    if (sum != r->received) {
        r->received = sum;
        r->moved_ns = now_ns;
    }
    if (is_in_storm(r) && tl_crew_is_calm(r->crew))
        look(r, TL_BENCH_CALM);
    say_progress(r, &progress, now_ns);
    return progress;
}

static bool is_stuck(const struct run *r)
{
    return tl_clock_ns() - r->moved_ns > r->options->timeout_ms * MS;
}

static void turn_for(struct run *r, uint64_t ms)
{
    uint64_t end_ns = tl_clock_ns() + ms * MS;
    for (uint64_t now_ns; (now_ns = tl_clock_ns()) < end_ns && !is_ended(r);) {
        uint64_t left_ms = (end_ns - now_ns) / MS + 1;
        turn(r, left_ms < TURN_MS ? (int)left_ms : TURN_MS);
    }
}

/* Phases */

static void connect_all(struct run *r)
{
    uint64_t start_ns = r->moved_ns = tl_clock_ns();
    struct tl_crew_progress p = {0};
    while (!tl_crew_is_settled(r->crew) && !is_ended(r)) {
        p = turn(r, TURN_MS);
        if (is_stuck(r))
            trouble(r, "%llu of %llu subscribers wait for an answer, and none came for %llu ms",
                    (unsigned long long)(r->plan->subscribers_n - p.ready - p.failed),
                    (unsigned long long)r->plan->subscribers_n,
                    (unsigned long long)r->options->timeout_ms);
    }
    r->result->connect_ns = tl_clock_ns() - start_ns;
    tl_crew_progress(r->crew, &p);
    if (p.ready < r->plan->subscribers_n && (p.ready == 0 || !r->options->lossy))
        trouble(r, "only %llu of %llu subscribers got in", (unsigned long long)p.ready,
                (unsigned long long)r->plan->subscribers_n);
    if (!is_ended(r))
        turn_for(r, r->options->settle_ms);
    look(r, TL_BENCH_CONNECTED);
}

static void publish_one(struct run *r, uint64_t scheduled_ns)
{
    const struct tl_swarm_plan *plan = r->plan;
    uint32_t channel = (uint32_t)(r->pace.published % plan->channels_n);
    uint64_t number = plan->watch_all ? r->pace.published : r->pace.published / plan->channels_n;
    struct tl_stamp stamp = {.run = plan->run,
                             .channel = plan->watch_all ? 0 : channel,
                             .number = (uint32_t)number,
                             .time_ns = scheduled_ns};
    char name[300];
    if (!r->result->moments[TL_BENCH_FROM] &&
        scheduled_ns >= r->pace.start_ns + r->options->warmup_ms * MS) {
        look(r, TL_BENCH_FROM);
        r->result->answered_measured = tl_publisher_count(r->publisher)->answered;
        tl_crew_measure_from(r->crew, scheduled_ns);
        /* Looking took a while, which a closed loop does not count. */
        if (r->pace.rate == 0)
            stamp.time_ns = tl_clock_ns();
    }
    tl_stamp_print(&stamp, r->payload);
    snprintf(name, sizeof name, "%.255s%u", plan->prefix, channel);
    r->moved_ns = tl_clock_ns();
    r->expected += tl_flight_launch(plan->flight, stamp.channel);
    if (r->pace.rate > 0)
        tl_flight_forget(plan->flight);
    if (tl_publisher_send(r->publisher, tl_bytes_str(name), tl_bytes(r->payload, plan->size)) < 0)
        trouble(r, "out of memory");
    r->pace.published++;
}

/* Publish what is due; returns when to come again. */
static uint64_t publish_due(struct run *r)
{
    const struct tl_publisher_count *count = tl_publisher_count(r->publisher);
    uint64_t now_ns = tl_clock_ns(), next_ns = TL_PACE_NEVER;
    r->pace.done = tl_flight_done(r->plan->flight);
    for (int i = 0; i < TURN_SENDS_MAX && count->sent - count->answered < UNANSWERED_MAX; i++) {
        next_ns = tl_pace_next_ns(&r->pace, now_ns);
        if (next_ns > now_ns)
            return next_ns;
        publish_one(r, next_ns);
    }
    return next_ns;
}

static void arm_timer(const struct run *r, uint64_t next_ns)
{
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(next_ns / 1000000000),
                                         .tv_nsec = (long)(next_ns % 1000000000)}};
    timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* Nothing came for long. A closed loop that may lose goes on without what is missing. */
static void on_stuck(struct run *r)
{
    if (r->options->lossy && r->pace.rate == 0) {
        tl_flight_forget(r->plan->flight);
        r->moved_ns = tl_clock_ns();
        return;
    }
    trouble(r, "nothing came for %llu ms with messages on their way",
            (unsigned long long)r->options->timeout_ms);
}

/* All subscribers drop, once. What is published from here on is due to them as well. */
static void begin_storm(struct run *r)
{
    if (r->options->storm_ms == 0 || r->result->moments[TL_BENCH_STORM])
        return;
    look(r, TL_BENCH_STORM);
    tl_crew_storm(r->crew, r->result->looks[TL_BENCH_STORM].ns);
}

static void publish_all(struct run *r)
{
    r->pace.start_ns = r->moved_ns = tl_clock_ns();
    while (!is_ended(r) && !tl_pace_is_over(&r->pace, tl_clock_ns())) {
        uint64_t next_ns = publish_due(r), now_ns = tl_clock_ns();
        int timeout_ms = next_ns <= now_ns ? 0 : TURN_MS;
        if (next_ns > now_ns && next_ns != TL_PACE_NEVER)
            arm_timer(r, next_ns);
        if (now_ns >= r->pace.start_ns + r->options->storm_ms * MS)
            begin_storm(r);
        pump_publisher(r);
        struct tl_crew_progress p = turn(r, timeout_ms);
        if (p.delivered + p.missing < r->expected && is_stuck(r))
            on_stuck(r);
    }
}

/* Until everything is there, or nothing comes any more. */
static void drain(struct run *r)
{
    const struct tl_publisher_count *count = tl_publisher_count(r->publisher);
    begin_storm(r);
    r->moved_ns = tl_clock_ns();
    while (!is_ended(r)) {
        struct tl_crew_progress p = turn(r, TURN_MS / 10);
        if (is_stuck(r) || (!is_in_storm(r) && p.delivered + p.missing >= r->expected &&
                            count->answered == count->sent))
            break;
    }
    look(r, TL_BENCH_TO);
    r->result->answered_measured = count->answered - r->result->answered_measured;
    turn_for(r, r->options->settle_ms);
}

/* Nobody publishes: what idle connections cost. */
static void hold(struct run *r)
{
    look(r, TL_BENCH_FROM);
    r->pace.start_ns = tl_clock_ns();
    tl_crew_measure_from(r->crew, r->pace.start_ns);
    turn_for(r, r->options->duration_ms);
    look(r, TL_BENCH_TO);
}

static bool open_publisher(struct run *r)
{
    char error[400];
    if (!r->options->publish_base)
        return true;
    r->publisher =
        tl_publisher_open(r->options->publish_base, r->options->token, error, sizeof error);
    if (!r->publisher) {
        trouble(r, "publishing: %s", error);
        return false;
    }
    tl_publisher_stream(r->publisher, &r->options->stream);
    if (r->options->publish_path)
        tl_publisher_path(r->publisher, r->options->publish_path);
    return true;
}

/* The plan's part of a storm, while there is nobody to storm yet. */
static bool prepare_storm(struct run *r, struct tl_swarm_plan *plan)
{
    static const _Atomic uint64_t never = 0;
    char error[400];
    if (r->options->storm_ms == 0)
        return true;
    plan->storm_ns = &never;
    if (plan->kind == TL_RECEIVER_WEBSOCKET &&
        !tl_bench_ask_positions(r->options, plan, &r->positions, error, sizeof error)) {
        trouble(r, "%s", error);
        return false;
    }
    plan->positions = (const char(*)[TL_STORM_ID_MAX])r->positions;
    return true;
}

static bool start(struct run *r, struct tl_swarm_plan *plan)
{
    const struct tl_bench_options *o = r->options;
    plan->run = (uint32_t)tl_random_u64();
    plan->flight = tl_flight_new(plan->channels_n, o->rate > 0 ? 1 : o->window);
    r->payload = tl_alloc(plan->size);
    r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (plan->flight && r->payload && r->timer_fd >= 0) {
        tl_stamp_fill(r->payload, plan->size);
        if (!open_publisher(r) || !prepare_storm(r, plan))
            return false;
        look(r, TL_BENCH_BEFORE);
        r->crew = is_ended(r) ? NULL : tl_crew_new(plan, (uint32_t)o->processes_n, o->spin);
    }
    if (!r->crew || tl_crew_watch(r->crew, r->timer_fd, EPOLLIN | EPOLLET) < 0)
        trouble(r, "cannot start: %s", strerror(errno));
    return !is_ended(r);
}

static void finish(struct run *r, struct tl_swarm_plan *plan)
{
    if (*r->interrupted)
        trouble(r, "interrupted");
    if (r->tty)
        fputs("\r\033[K", stderr);
    if (r->publisher) {
        const struct tl_publisher_count *count = tl_publisher_count(r->publisher);
        r->result->published = count->sent;
        r->result->answered = count->answered;
        r->result->refused = count->refused;
    }
    if (r->crew && tl_crew_finish(r->crew, &r->result->sum) < 0)
        trouble(r, "a receiving process died");
    tl_crew_free(r->crew);
    tl_publisher_close(r->publisher);
    tl_flight_free(plan->flight);
    tl_free(r->payload);
    tl_free(r->positions);
    if (r->timer_fd >= 0)
        close(r->timer_fd);
}

void tl_bench_run(const struct tl_bench_options *options, struct tl_swarm_plan *plan,
                  struct tl_bench_result *result)
{
    struct run r = {
        .options = options,
        .plan = plan,
        .result = result,
        .interrupted = tl_command_catch_signals(),
        .timer_fd = -1,
        .tty = isatty(STDERR_FILENO) == 1,
        .pace = {.messages_max = options->messages_n,
                 .duration_ns = options->duration_ms * MS,
                 .window = options->window,
                 .rate = options->rate,
                 .burst = options->burst},
    };
    result->options = options;
    result->subscribers_n = plan->subscribers_n;
    if (start(&r, plan))
        connect_all(&r);
    if (r.crew && !is_ended(&r) && r.publisher) {
        publish_all(&r);
        drain(&r);
    } else if (r.crew && !is_ended(&r)) {
        hold(&r);
    }
    finish(&r, plan);
}
