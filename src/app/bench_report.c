#include "app/bench.h"

#include <jansson.h>
#include <stdio.h>

/* Text and JSON say the same; the figures are worked out here once. */

static double seconds_between(const struct tl_bench_result *r, enum tl_bench_moment from,
                              enum tl_bench_moment to)
{
    if (!r->moments[from] || !r->moments[to])
        return 0;
    return (double)(r->looks[to].ns - r->looks[from].ns) / 1e9;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static bool is_measured(const struct tl_bench_result *r)
{
    return r->moments[TL_BENCH_FROM] && r->moments[TL_BENCH_TO];
}

/* CPU of one measured process, from one look to another. */
static double cpu_ns(const struct tl_bench_result *r, uint32_t i, enum tl_bench_moment from,
                     enum tl_bench_moment to)
{
    uint64_t a = r->looks[from].procs[i].cpu_ns, b = r->looks[to].procs[i].cpu_ns;
    return b > a ? (double)(b - a) : 0;
}

static double cpu_all_ns(const struct tl_bench_result *r, enum tl_bench_moment from,
                         enum tl_bench_moment to)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->options->pids_n; i++)
        sum += cpu_ns(r, i, from, to);
    return sum;
}

static double busy_ns(const struct tl_bench_result *r, enum tl_bench_moment from,
                      enum tl_bench_moment to)
{
    return (double)(r->looks[to].machine.busy_ns - r->looks[from].machine.busy_ns);
}

static double own_ns(const struct tl_bench_result *r, enum tl_bench_moment from,
                     enum tl_bench_moment to)
{
    return (double)(r->looks[to].own_ns - r->looks[from].own_ns);
}

static double rss_per_connection(const struct tl_bench_result *r, uint32_t i)
{
    double before = (double)r->looks[TL_BENCH_BEFORE].procs[i].rss_bytes;
    double after = (double)r->looks[TL_BENCH_CONNECTED].procs[i].rss_bytes;
    return ratio(after - before, (double)r->sum.ready);
}

bool tl_bench_is_clean(const struct tl_bench_result *r)
{
    const struct tl_tally *t = &r->sum;
    return !r->ended_early && t->ready == r->subscribers_n && t->failed == 0 && t->closed == 0 &&
           t->delivered == t->expected && t->duplicates == 0 && t->late == 0 &&
           t->wrong_channel == 0 && t->corrupt == 0 && r->refused == 0 && t->stranded == 0;
}

/* Text */

#define LLU(n) ((unsigned long long)(n))

static void print_duration(double ns)
{
    if (ns < 1e6)
        printf("%.1f us", ns / 1e3);
    else if (ns < 1e9)
        printf("%.2f ms", ns / 1e6);
    else
        printf("%.2f s", ns / 1e9);
}

static void print_quantiles(const struct tl_histogram *h)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        printf("%s%s ", i > 0 ? "  " : "", points[i].name);
        print_duration((double)tl_histogram_at(h, points[i].share));
    }
}

static void print_connects(const struct tl_bench_result *r)
{
    const struct tl_tally *t = &r->sum;
    double seconds = (double)r->connect_ns / 1e9;
    printf("connected  %u of %llu in %.3f s, %.0f/s", t->ready, LLU(r->subscribers_n), seconds,
           ratio(t->ready, seconds));
    if (r->options->pids_n > 0 && r->moments[TL_BENCH_CONNECTED])
        printf(", %.1f us of CPU each",
               ratio(cpu_all_ns(r, TL_BENCH_BEFORE, TL_BENCH_CONNECTED) / 1e3, t->ready));
    printf("\nhandshake  ");
    print_quantiles(&t->handshake);
    printf("\n");
    if (t->failed > 0 || t->closed > 0)
        printf("lost       %u subscribers did not get in, %u were closed early\n", t->failed,
               t->closed);
}

static void print_deliveries(const struct tl_bench_result *r)
{
    const struct tl_tally *t = &r->sum;
    double seconds = seconds_between(r, TL_BENCH_FROM, TL_BENCH_TO);
    printf("published  %llu of %llu B, %.0f/s answered", LLU(r->published), LLU(r->options->size),
           ratio((double)r->answered_measured, seconds));
    if (r->refused > 0)
        printf(", %llu refused", LLU(r->refused));
    printf("\ndelivered  %llu of %llu, %.0f/s; missing %llu, duplicates %llu, out of order %llu",
           LLU(t->delivered), LLU(t->expected), ratio((double)t->latency.n, seconds),
           LLU(t->expected > t->delivered ? t->expected - t->delivered : 0), LLU(t->duplicates),
           LLU(t->late));
    if (t->corrupt > 0 || t->wrong_channel > 0)
        printf(", corrupt %llu, of a wrong channel %llu", LLU(t->corrupt), LLU(t->wrong_channel));
    if (t->other > 0)
        printf(", others %llu", LLU(t->other));
    printf("\nclients    %u complete, %u with missing ones, %u with duplicates, %u out of order\n",
           t->clients_complete, t->clients_missing, t->clients_duplicates, t->clients_late);
    if (t->latency.n == 0)
        return;
    printf("latency    ");
    print_quantiles(&t->latency);
    printf("  (%s -> received)\n", r->options->rate > 0 ? "scheduled" : "published");
}

static void print_storm(const struct tl_bench_result *r)
{
    const struct tl_tally *t = &r->sum;
    double seconds = (double)t->returned.max_ns / 1e9;
    printf("storm      %u dropped, %llu came back in %.3f s, %.0f/s; %u stranded, %llu gaps told\n",
           t->dropped, LLU(t->returned.n), seconds, ratio((double)t->returned.n, seconds),
           t->stranded, LLU(t->gaps_told));
    printf("back       ");
    print_quantiles(&t->returned);
    printf("  (dropped -> subscribed again)\ncaught up  ");
    print_quantiles(&t->caught_up);
    printf("  (dropped -> has everything)\n");
}

static void print_threads(const struct tl_procstat *from, const struct tl_procstat *to,
                          double elapsed_ns)
{
    for (uint32_t i = 0; to->threads_n > 1 && i < to->threads_n; i++) {
        uint64_t before = 0;
        for (uint32_t k = 0; k < from->threads_n; k++)
            if (from->threads[k].tid == to->threads[i].tid)
                before = from->threads[k].cpu_ns;
        printf("           thread %d %s: %.1f %% of a core\n", to->threads[i].tid,
               to->threads[i].name,
               100 * ratio((double)(to->threads[i].cpu_ns - before), elapsed_ns));
    }
}

static void print_process(const struct tl_bench_result *r, uint32_t i)
{
    const struct tl_procstat *from = &r->looks[TL_BENCH_FROM].procs[i];
    const struct tl_procstat *to = &r->looks[TL_BENCH_TO].procs[i];
    double elapsed_ns = seconds_between(r, TL_BENCH_FROM, TL_BENCH_TO) * 1e9;
    double used_ns = cpu_ns(r, i, TL_BENCH_FROM, TL_BENCH_TO);
    printf("cpu        %d %s: ", to->pid, to->name);
    if (r->sum.latency.n > 0)
        printf("%.3f us a delivery, ", used_ns / 1e3 / (double)r->sum.latency.n);
    printf("%.1f %% of a core (user %.2f s, system %.2f s)\n", 100 * ratio(used_ns, elapsed_ns),
           (double)(to->user_ns - from->user_ns) / 1e9,
           (double)(to->system_ns - from->system_ns) / 1e9);
    print_threads(from, to, elapsed_ns);
}

static void print_memory(const struct tl_bench_result *r, uint32_t i)
{
    const struct tl_procstat *p = &r->looks[TL_BENCH_CONNECTED].procs[i];
    printf("memory     %d %s: %.1f MiB before, %.1f MiB connected, %.2f KiB a connection", p->pid,
           p->name, (double)r->looks[TL_BENCH_BEFORE].procs[i].rss_bytes / 1048576,
           (double)p->rss_bytes / 1048576, rss_per_connection(r, i) / 1024);
    if (r->moments[TL_BENCH_TO])
        printf(", %.1f MiB at the end", (double)r->looks[TL_BENCH_TO].procs[i].rss_bytes / 1048576);
    printf("\n");
}

static void print_machine(const struct tl_bench_result *r)
{
    double elapsed_ns = seconds_between(r, TL_BENCH_FROM, TL_BENCH_TO) * 1e9;
    double busy = busy_ns(r, TL_BENCH_FROM, TL_BENCH_TO);
    double own = ratio(own_ns(r, TL_BENCH_FROM, TL_BENCH_TO), elapsed_ns);
    printf("machine    ");
    if (r->sum.latency.n > 0)
        printf("%.3f us a delivery, ", busy / 1e3 / (double)r->sum.latency.n);
    printf("%.2f of %u cores busy, %.2f of them this generator%s\n", ratio(busy, elapsed_ns),
           r->looks[TL_BENCH_TO].machine.cores_n, own,
           own > 0.95 * (double)r->options->processes_n && !r->options->spin
               ? ", which is at its limit"
               : "");
}

void tl_bench_print(const struct tl_bench_result *r)
{
    printf("%s: %llu subscribers, %llu channels\n", r->options->url, LLU(r->subscribers_n),
           LLU(r->options->channels_n));
    print_connects(r);
    if (r->published > 0)
        print_deliveries(r);
    if (r->moments[TL_BENCH_STORM])
        print_storm(r);
    for (uint32_t i = 0; is_measured(r) && i < r->options->pids_n; i++)
        print_process(r, i);
    if (is_measured(r))
        print_machine(r);
    for (uint32_t i = 0; r->moments[TL_BENCH_CONNECTED] && i < r->options->pids_n; i++)
        print_memory(r, i);
    fflush(stdout);
    if (*r->trouble)
        tl_command_say("bench", "%s", r->trouble);
    if (*r->sum.problem)
        tl_command_say("bench", "the first problem: %s", r->sum.problem);
    printf("result     %s\n",
           tl_bench_is_clean(r) ? "everything came, once and in order" : "NOT clean");
}

/* JSON */

static void set_int(json_t *o, const char *name, uint64_t n)
{
    json_object_set_new(o, name, json_integer((json_int_t)n));
}

static void set_real(json_t *o, const char *name, double value)
{
    json_object_set_new(o, name, json_real(value));
}

static json_t *quantiles(const struct tl_histogram *h)
{
    json_t *o = json_object();
    set_int(o, "n", h->n);
    set_real(o, "mean_us", ratio((double)h->sum_ns / 1e3, (double)h->n));
    set_real(o, "p50_us", (double)tl_histogram_at(h, 0.5) / 1e3);
    set_real(o, "p90_us", (double)tl_histogram_at(h, 0.9) / 1e3);
    set_real(o, "p99_us", (double)tl_histogram_at(h, 0.99) / 1e3);
    set_real(o, "p999_us", (double)tl_histogram_at(h, 0.999) / 1e3);
    set_real(o, "max_us", (double)h->max_ns / 1e3);
    return o;
}

static json_t *connects(const struct tl_bench_result *r)
{
    json_t *o = json_object();
    double seconds = (double)r->connect_ns / 1e9;
    set_int(o, "subscribers", r->subscribers_n);
    set_int(o, "ready", r->sum.ready);
    set_int(o, "failed", r->sum.failed);
    set_int(o, "closed_early", r->sum.closed);
    set_real(o, "seconds", seconds);
    set_real(o, "per_second", ratio(r->sum.ready, seconds));
    if (r->moments[TL_BENCH_CONNECTED]) {
        set_real(o, "cpu_us_each",
                 ratio(cpu_all_ns(r, TL_BENCH_BEFORE, TL_BENCH_CONNECTED) / 1e3, r->sum.ready));
        set_real(o, "machine_us_each",
                 ratio(busy_ns(r, TL_BENCH_BEFORE, TL_BENCH_CONNECTED) / 1e3, r->sum.ready));
    }
    json_object_set_new(o, "handshake", quantiles(&r->sum.handshake));
    return o;
}

static json_t *deliveries(const struct tl_bench_result *r)
{
    const struct tl_tally *t = &r->sum;
    json_t *o = json_object();
    set_int(o, "published", r->published);
    set_int(o, "answered", r->answered);
    set_int(o, "refused", r->refused);
    set_int(o, "expected", t->expected);
    set_int(o, "delivered", t->delivered);
    set_int(o, "missing", t->expected > t->delivered ? t->expected - t->delivered : 0);
    set_int(o, "gaps", t->gaps);
    set_int(o, "duplicates", t->duplicates);
    set_int(o, "out_of_order", t->late);
    set_int(o, "wrong_channel", t->wrong_channel);
    set_int(o, "corrupt", t->corrupt);
    set_int(o, "other", t->other);
    set_int(o, "received_bytes", t->bytes);
    set_int(o, "clients_complete", t->clients_complete);
    set_int(o, "clients_missing", t->clients_missing);
    set_int(o, "clients_duplicates", t->clients_duplicates);
    set_int(o, "clients_out_of_order", t->clients_late);
    return o;
}

static json_t *storm(const struct tl_bench_result *r)
{
    const struct tl_tally *t = &r->sum;
    json_t *o = json_object();
    set_int(o, "dropped", t->dropped);
    set_int(o, "came_back", t->returned.n);
    set_int(o, "stranded", t->stranded);
    set_int(o, "gaps_told", t->gaps_told);
    set_real(o, "seconds", seconds_between(r, TL_BENCH_STORM, TL_BENCH_CALM));
    set_real(o, "per_second", ratio((double)t->returned.n * 1e9, (double)t->returned.max_ns));
    json_object_set_new(o, "returned", quantiles(&t->returned));
    json_object_set_new(o, "caught_up", quantiles(&t->caught_up));
    return o;
}

static json_t *measured(const struct tl_bench_result *r)
{
    json_t *o = json_object();
    double seconds = seconds_between(r, TL_BENCH_FROM, TL_BENCH_TO), n = (double)r->sum.latency.n;
    set_real(o, "seconds", seconds);
    set_int(o, "deliveries", r->sum.latency.n);
    set_real(o, "deliveries_per_second", ratio(n, seconds));
    set_real(o, "published_per_second", ratio((double)r->answered_measured, seconds));
    set_real(o, "cpu_us_per_delivery", ratio(cpu_all_ns(r, TL_BENCH_FROM, TL_BENCH_TO) / 1e3, n));
    set_real(o, "cpu_us_per_message",
             ratio(cpu_all_ns(r, TL_BENCH_FROM, TL_BENCH_TO) / 1e3, (double)r->answered_measured));
    set_real(o, "machine_us_per_delivery", ratio(busy_ns(r, TL_BENCH_FROM, TL_BENCH_TO) / 1e3, n));
    set_real(o, "machine_cores", ratio(busy_ns(r, TL_BENCH_FROM, TL_BENCH_TO) / 1e9, seconds));
    set_real(o, "steal_seconds",
             (double)(r->looks[TL_BENCH_TO].machine.steal_ns -
                      r->looks[TL_BENCH_FROM].machine.steal_ns) /
                 1e9);
    set_real(o, "generator_cores", ratio(own_ns(r, TL_BENCH_FROM, TL_BENCH_TO) / 1e9, seconds));
    return o;
}

static json_t *threads_of(const struct tl_procstat *from, const struct tl_procstat *to)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < to->threads_n; i++) {
        uint64_t before = 0;
        for (uint32_t k = 0; k < from->threads_n; k++)
            if (from->threads[k].tid == to->threads[i].tid)
                before = from->threads[k].cpu_ns;
        json_t *o = json_object();
        set_int(o, "tid", (uint64_t)to->threads[i].tid);
        json_object_set_new(o, "name", json_string(to->threads[i].name));
        set_real(o, "cpu_seconds", (double)(to->threads[i].cpu_ns - before) / 1e9);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *process(const struct tl_bench_result *r, uint32_t i)
{
    const struct tl_procstat *from = &r->looks[TL_BENCH_FROM].procs[i];
    const struct tl_procstat *to = &r->looks[TL_BENCH_TO].procs[i];
    json_t *o = json_object();
    set_int(o, "pid", (uint64_t)r->options->pid_numbers[i]);
    json_object_set_new(o, "name", json_string(r->looks[TL_BENCH_BEFORE].procs[i].name));
    set_int(o, "rss_before", r->looks[TL_BENCH_BEFORE].procs[i].rss_bytes);
    if (r->moments[TL_BENCH_CONNECTED]) {
        set_int(o, "rss_connected", r->looks[TL_BENCH_CONNECTED].procs[i].rss_bytes);
        set_real(o, "rss_per_connection", rss_per_connection(r, i));
        set_real(o, "connect_cpu_seconds", cpu_ns(r, i, TL_BENCH_BEFORE, TL_BENCH_CONNECTED) / 1e9);
    }
    if (r->moments[TL_BENCH_STORM] && r->moments[TL_BENCH_CALM])
        set_real(o, "storm_cpu_seconds", cpu_ns(r, i, TL_BENCH_STORM, TL_BENCH_CALM) / 1e9);
    if (!is_measured(r))
        return o;
    set_int(o, "rss_end", to->rss_bytes);
    set_real(o, "cpu_seconds", cpu_ns(r, i, TL_BENCH_FROM, TL_BENCH_TO) / 1e9);
    set_real(o, "user_seconds", (double)(to->user_ns - from->user_ns) / 1e9);
    set_real(o, "system_seconds", (double)(to->system_ns - from->system_ns) / 1e9);
    json_object_set_new(o, "threads", threads_of(from, to));
    return o;
}

void tl_bench_print_json(const struct tl_bench_result *r)
{
    json_t *o = json_object(), *processes = json_array();
    json_object_set_new(o, "ok", json_boolean(tl_bench_is_clean(r)));
    json_object_set_new(o, "ended_early", json_boolean(r->ended_early));
    json_object_set_new(o, "trouble", json_string_nocheck(r->trouble));
    json_object_set_new(o, "first_problem", json_string_nocheck(r->sum.problem));
    json_object_set_new(o, "connect", connects(r));
    json_object_set_new(o, "messages", deliveries(r));
    json_object_set_new(o, "latency", quantiles(&r->sum.latency));
    if (r->moments[TL_BENCH_STORM])
        json_object_set_new(o, "storm", storm(r));
    if (is_measured(r))
        json_object_set_new(o, "measured", measured(r));
    for (uint32_t i = 0; i < r->options->pids_n; i++)
        json_array_append_new(processes, process(r, i));
    json_object_set_new(o, "processes", processes);
    char *text = json_dumps(o, JSON_REAL_PRECISION(9) | JSON_INDENT(2));
    puts(text ? text : "{\"ok\": false, \"trouble\": \"out of memory\"}");
    free(text);
    json_decref(o);
    if (*r->trouble)
        tl_command_say("bench", "%s", r->trouble);
}
