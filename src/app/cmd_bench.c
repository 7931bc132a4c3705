#include "app/bench.h"
#include "app/redis_dial.h"
#include "base/alloc.h"
#include "net/address.h"
#include "proto/url.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define SPARE_FILES      64 /* descriptors for everything but subscribers */
#define DEFAULT_DURATION 10000
#define CHANNEL_MARK     "{channel}"

static const char *check_header(const char *text)
{
    const char *colon = strchr(text, ':');
    for (const char *c = text; *c; c++)
        if ((uint8_t)*c < 0x20 || *c == 0x7f)
            return "holds a control character";
    return colon && colon > text ? NULL : "is no header; write 'Name: value'";
}

static const char *check_pid(const char *text)
{
    char *end;
    long pid = strtol(text, &end, 10);
    return pid > 0 && pid <= INT32_MAX && !*end ? NULL : "is no process id";
}

static const char *check_word(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((uint8_t)*c <= 0x20 || *c == 0x7f)
            return "may hold no spaces and control characters";
    return strlen(text) <= 240 ? NULL : "is too long";
}

#define HEADING(text)                                                                              \
    {                                                                                              \
        .help = (text)                                                                             \
    }
#define ROW_(type_, field, flag, value_, default_, min_, max_, marks_, check_, help_)              \
    {                                                                                              \
        .name = (flag), .value = (value_), .default_text = (default_), .help = (help_),            \
        .min = (min_), .max = (max_), .offset = offsetof(struct tl_bench_options, field),          \
        .type = (type_), .marks = (marks_), .check = (check_)                                      \
    }
#define ROW(type_, field, flag, value_, default_, min_, max_, check_, help_)                       \
    ROW_(type_, field, flag, value_, default_, min_, max_, 0, check_, help_)
#define SECRET(field, flag, value_, default_, check_, help_)                                       \
    ROW_(TL_OPTION_STRING, field, flag, value_, default_, 0, 0, TL_OPTION_SECRET, check_, help_)
#define COUNT(field, flag, default_, min_, max_, help_)                                            \
    ROW(TL_OPTION_COUNT, field, flag, "N", default_, min_, max_, NULL, help_)
#define TEXT(field, flag, value_, default_, check_, help_)                                         \
    ROW(TL_OPTION_STRING, field, flag, value_, default_, 0, 0, check_, help_)
#define LIST(field, flag, value_, check_, help_)                                                   \
    ROW(TL_OPTION_LIST, field, flag, value_, "", 0, 0, check_, help_)
#define TIME(field, flag, default_, min_, help_)                                                   \
    ROW(TL_OPTION_DURATION, field, flag, "D", default_, min_, 86400000, NULL, help_)
#define FLAG(field, flag, help_) ROW(TL_OPTION_BOOL, field, flag, "", "no", 0, 0, NULL, help_)

static const struct tl_option table[] = {
    HEADING("Subscribers"),
    COUNT(subscribers_n, "subscribers", "100", 1, 10000000, "how many"),
    COUNT(channels_n, "channels", "1", 1, 10000000, "channels; subscriber i takes channel i % N"),
    TEXT(prefix, "prefix", "NAME", "bench", check_word, "{channel} is this and a number from 0"),
    FLAG(all, "all", "each subscriber gets all channels, by a URL without {channel}"),
    LIST(sends, "send", "TEXT", NULL,
         "a text message to send when connected, {channel} in it; more than one in turn"),
    TEXT(ready, "ready", "TEXT", "", NULL,
         "a subscriber is subscribed when it gets this, in a message or an SSE line (as id:); "
         "else when connected"),
    TEXT(subprotocol, "subprotocol", "NAME", "", check_word,
         "the WebSocket subprotocol to ask for"),
    LIST(headers, "header", "LINE", check_header, "a header of their requests, 'Name: value'"),
    COUNT(parallel, "parallel", "200", 1, 1000000, "connects under way at a time"),
    LIST(sources, "source", "ADDR", NULL,
         "source addresses in turn, where one has too few ports: 127.0.0.2"),
    COUNT(processes_n, "processes", "1", 1, 256,
          "receiving processes, where one has too few descriptors"),
    FLAG(spin, "spin", "never sleep: waking a receiver costs the sender"),
    HEADING("Publishing"),
    SECRET(publish, "publish", "URL", "auto", NULL,
           "redis://..., http://host:port/path/{channel}, or none; auto is /pub/{channel} there"),
    SECRET(token, "token", "TOKEN", "", check_word, "to publish with: Authorization: Bearer"),
    TL_STREAM_OPTIONS(struct tl_bench_options, stream),
    ROW(TL_OPTION_SIZE, size, "size", "N", "128B", TL_STAMP_BYTES, 64u << 20, NULL,
        "bytes of a message"),
    COUNT(messages_n, "messages", "0", 0, UINT32_MAX,
          "messages in all; 0: until the duration is over"),
    TIME(duration_ms, "duration", "0", 0, "how long; 10s where no --messages are given"),
    COUNT(window, "window", "1", 1, 1u << 20,
          "closed loop: messages on their way; the next follows when all have the oldest"),
    COUNT(rate, "rate", "0", 0, 100000000,
          "open loop: messages a second, latency from their scheduled time; 0: closed loop"),
    COUNT(burst, "burst", "1", 1, 1u << 20, "messages that go together"),
    HEADING("Measuring"),
    LIST(pids, "pid", "PID", check_pid, "a process to measure: CPU and memory; several"),
    TIME(warmup_ms, "warmup", "0", 0, "what is published this early is checked, but not measured"),
    TIME(storm_ms, "resume-storm", "0", 0,
         "after that much of --rate all subscribers drop at once and come back with their "
         "position: SSE with Last-Event-ID, WebSockets with ?since= and received="),
    TEXT(position, "position", "PATH", "/position/{channel}", check_word,
         "where the storm's WebSockets get the position that they begin with"),
    TIME(settle_ms, "settle", "100ms", 0,
         "to wait after connecting, and for stray messages at the end"),
    TIME(timeout_ms, "timeout", "5s", 1, "give up when nothing came for so long"),
    FLAG(lossy, "lossy", "losing messages or subscribers is no failure"),
    FLAG(json, "json", "report as JSON"),
};

static const char usage[] =
    "usage: tramline bench [OPTION]... ws://host:port/path/{channel}\n"
    "       tramline bench [OPTION]... http://host:port/path/{channel}    (Server-Sent Events)\n\n"
    "Load a server with subscribers, publish to it, and check for each of them that every\n"
    "message came, once and in order. Exit status 0 only if so. Point it at any server:\n\n"
    "  tramline bench --subscribers 5000 ws://127.0.0.1:8080/ws/{channel}\n"
    "  tramline bench --publish redis://127.0.0.1 --rate 500 --channels 120 \\\n"
    "                 ws://127.0.0.1:8080/ws/{channel}";

TL_PRINTF(1, 2) static bool fail(const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    tl_command_say("bench", "%s", text);
    return false;
}

/* Split scheme://authority/path; the authority NUL-terminated in its buffer, path "/" if empty. */
static bool split_url(const char *url, const char *scheme, char authority[280],
                      const char **ret_path)
{
    size_t scheme_n = strlen(scheme);
    if (strncmp(url, scheme, scheme_n) != 0)
        return false;
    const char *start = url + scheme_n, *path = strchr(start, '/');
    size_t n = path ? (size_t)(path - start) : strlen(start);
    if (n == 0 || n >= 280)
        return false;
    memcpy(authority, start, n);
    authority[n] = 0;
    *ret_path = path ? path : "/";
    return true;
}

static bool resolve(const char *authority, struct tl_swarm_plan *plan)
{
    struct tl_bytes host;
    uint16_t port = 0;
    char name[280], number[8];
    if (!tl_url_authority(tl_bytes_str(authority), &host, &port))
        return fail("'%.100s' is no address; write host:port", authority);
    if (host.p[0] == '[')
        host = tl_bytes(host.p + 1, host.n - 2);
    snprintf(name, sizeof name, "%.*s", (int)host.n, host.p);
    snprintf(number, sizeof number, "%d", port > 0 ? port : 80);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int rc = getaddrinfo(name, number, &hints, &found);
    if (rc != 0)
        return fail("cannot find %.100s: %s", name, gai_strerror(rc));
    memcpy(&plan->target, found->ai_addr, found->ai_addrlen);
    plan->target_n = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool read_target(struct tl_bench_options *o, char authority[280], struct tl_swarm_plan *plan)
{
    if (split_url(o->url, "ws://", authority, &plan->path))
        plan->kind = TL_RECEIVER_WEBSOCKET;
    else if (split_url(o->url, "http://", authority, &plan->path))
        plan->kind = TL_RECEIVER_SSE;
    else
        return fail("'%.100s' is no target; write ws://host:port/path for WebSockets, or "
                    "http://host:port/path for Server-Sent Events",
                    o->url);
    for (const char *c = plan->path; *c; c++)
        if ((uint8_t)*c <= 0x20 || (uint8_t)*c >= 0x7f)
            return fail("the URL's path is to be written percent-encoded");
    plan->host = authority;
    if (!o->all && o->channels_n > 1 && !strstr(plan->path, CHANNEL_MARK) && o->sends.n == 0)
        return fail("with %llu channels the URL or --send needs {channel}, or say --all",
                    (unsigned long long)o->channels_n);
    return resolve(authority, plan);
}

/* Where to publish: base and path, copies. */
static bool read_publish(struct tl_bench_options *o, const char *target)
{
    char authority[280], base[300];
    const char *path = "/pub/" CHANNEL_MARK;
    const char *conflict = tl_publish_stream_conflict(&o->stream, o->publish);
    if (conflict)
        return fail("%s", conflict);
    if (strcmp(o->publish, "none") == 0)
        return true;
    if (tl_redis_is_url(o->publish)) {
        o->publish_base = (char *)tl_alloc_copy(tl_bytes_str(o->publish));
        return o->publish_base || fail("out of memory");
    }
    if (strcmp(o->publish, "auto") == 0)
        snprintf(base, sizeof base, "http://%.280s", target);
    else if (split_url(o->publish, "http://", authority, &path))
        snprintf(base, sizeof base, "http://%.280s", authority);
    else
        return fail("--publish takes redis://..., http://host:port/path/{channel} or none");
    o->publish_base = (char *)tl_alloc_copy(tl_bytes_str(base));
    o->publish_path = (char *)tl_alloc_copy(tl_bytes_str(path));
    return (o->publish_base && o->publish_path) || fail("out of memory");
}

static bool read_sources(const struct tl_bench_options *o, struct tl_swarm_plan *plan,
                         struct sockaddr_storage **ret_sources)
{
    struct sockaddr_storage *sources = tl_zalloc((o->sources.n + 1) * sizeof *sources);
    *ret_sources = sources;
    if (!sources)
        return fail("out of memory");
    for (size_t i = 0; i < o->sources.n; i++) {
        struct tl_address address;
        char text[80];
        snprintf(text, sizeof text, strchr(o->sources.items[i], ':') ? "[%.60s]:0" : "%.60s:0",
                 o->sources.items[i]);
        if (tl_address_parse(tl_bytes_str(text), &address) < 0 ||
            address.sa.any.sa_family != plan->target.ss_family)
            return fail("--source '%.60s' is no address of the target's kind", o->sources.items[i]);
        memcpy(&sources[i], &address.sa.any, address.n);
    }
    plan->sources = sources;
    plan->sources_n = o->sources.n;
    return true;
}

static bool read_headers(const struct tl_bench_options *o, struct tl_buf *out)
{
    if (*o->subprotocol)
        tl_buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", o->subprotocol);
    for (size_t i = 0; i < o->headers.n; i++)
        tl_buf_printf(out, "%s\r\n", o->headers.items[i]);
    tl_buf_byte(out, 0);
    return !out->failed || fail("out of memory");
}

/* Take all descriptors that we may have, and say so if they are too few. */
static bool raise_files(const struct tl_bench_options *o)
{
    struct rlimit limit;
    uint64_t needed = (o->subscribers_n + o->processes_n - 1) / o->processes_n + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return true;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || needed <= limit.rlim_cur)
        return true;
    uint64_t room = limit.rlim_cur > SPARE_FILES ? limit.rlim_cur - SPARE_FILES : 1;
    return fail("%llu subscribers need %llu descriptors, and a process may have %llu: say "
                "--processes %llu, or raise ulimit -n",
                (unsigned long long)o->subscribers_n, (unsigned long long)needed,
                (unsigned long long)limit.rlim_cur,
                (unsigned long long)((o->subscribers_n + room - 1) / room));
}

static bool check_storm(const struct tl_bench_options *o)
{
    if (o->storm_ms == 0)
        return true;
    if (o->rate == 0 || strcmp(o->publish, "none") == 0)
        return fail("--resume-storm goes with publishing at a --rate");
    if (*o->position != '/' || (o->all && strstr(o->position, CHANNEL_MARK)))
        return fail("--position takes a path; with --all that of the one channel");
    return true;
}

static bool read_rest(struct tl_bench_options *o)
{
    if (!check_storm(o))
        return false;
    if (o->pids.n > TL_BENCH_PIDS_MAX)
        return fail("--pid: at most %d processes", TL_BENCH_PIDS_MAX);
    for (size_t i = 0; i < o->pids.n; i++)
        o->pid_numbers[o->pids_n++] = (int)strtol(o->pids.items[i], NULL, 10);
    if (o->processes_n > o->subscribers_n)
        o->processes_n = o->subscribers_n;
    if (o->window < o->burst)
        o->window = o->burst;
    if (o->messages_n == 0 && o->duration_ms == 0)
        o->duration_ms = DEFAULT_DURATION;
    return raise_files(o);
}

static int run(struct tl_bench_options *o)
{
    char authority[280];
    struct tl_buf headers = {0};
    struct sockaddr_storage *sources = NULL;
    struct tl_bench_result *result = tl_zalloc(sizeof *result);
    struct tl_swarm_plan plan = {
        .prefix = o->prefix,
        .messages = o->sends.items,
        .messages_n = o->sends.n,
        .ready_text = o->ready,
        .subscribers_n = o->subscribers_n,
        .parallel = o->parallel,
        .size = o->size,
        .channels_n = (uint32_t)o->channels_n,
        .watch_all = o->all,
    };
    int status = 2;
    if (!result)
        fail("out of memory");
    else if (read_rest(o) && read_target(o, authority, &plan) && read_publish(o, authority) &&
             read_sources(o, &plan, &sources) && read_headers(o, &headers)) {
        plan.headers = (char *)headers.p;
        tl_bench_run(o, &plan, result);
        (o->json ? tl_bench_print_json : tl_bench_print)(result);
        bool failed = o->lossy ? result->ended_early : !tl_bench_is_clean(result);
        status = failed ? 1 : 0;
    }
    tl_buf_deinit(&headers);
    tl_free(sources);
    tl_free(result);
    return status;
}

int tl_cmd_bench(int argc, char **argv)
{
    struct tl_bench_options options = {0};
    struct tl_optparse p = {
        .table = table, .table_n = sizeof table / sizeof *table, .values = &options};
    int status = tl_command_options(&p, "bench", usage, argc, argv);
    if (status >= 0)
        return status;
    if (p.args_n == 1) {
        options.url = p.args[0];
        status = run(&options);
    } else {
        fail("one URL is needed, as in: tramline bench ws://127.0.0.1:8080/ws/{channel}");
        status = 2;
    }
    tl_free(options.publish_base);
    tl_free(options.publish_path);
    tl_optparse_deinit(&p);
    return status;
}
