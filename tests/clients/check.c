/*
 * tl-check: connect everybody, wait until all are acked, publish (or let publish), and say in one
 * JSON line whether each client got exactly what it had to. Exit 0: everything held; 1: it did not;
 * 2: used wrongly. "ready" on stdout says that all are acked.
 */
#include "check.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

static struct client *clients, *churners;
static uint32_t clients_n, started_n, resumed_n;
static uint64_t deadline_us, churn_started_us, churn_done;
static bool go_given;

uint64_t client_tag(const struct client *c)
{
    return c->role == ROLE_CHURN ? TAG_CHURN << 32 | (uint32_t)(c - churners)
                                 : TAG_CLIENT << 32 | (uint32_t)(c - clients);
}

static void add_clients(uint32_t n, enum client_kind kind, enum client_role role, bool aggregate)
{
    uint32_t first = options.aggregate ? 1 : 0;
    for (uint32_t i = 0; i < n; i++) {
        struct client *c = &clients[clients_n++];
        struct channel *ch = aggregate ? &channels[0] : &channels[first + i % (channels_n - first)];
        *c = (struct client){.fd = -1, .kind = kind, .role = role, .channel = ch};
        ch->steady_n += role == ROLE_STEADY;
    }
}

static void clients_make(void)
{
    size_t n = (size_t)options.ws_n + options.sse_n + options.stalled_n + options.aggregate_ws_n +
               options.aggregate_sse_n;
    clients = must(calloc(n + 1, sizeof *clients));
    add_clients(options.ws_n, KIND_WS, ROLE_STEADY, false);
    add_clients(options.sse_n, KIND_SSE, ROLE_STEADY, false);
    add_clients(options.stalled_n, KIND_WS, ROLE_STALLED, false);
    if (options.aggregate) {
        add_clients(options.aggregate_ws_n, KIND_WS, ROLE_STEADY, true);
        add_clients(options.aggregate_sse_n, KIND_SSE, ROLE_STEADY, true);
    }
    churners = must(calloc(options.churn_slots, sizeof *churners));
    for (uint32_t i = 0; i < options.churn_slots; i++)
        churners[i] = (struct client){.fd = -1, .role = ROLE_CHURN};
}

static void on_stdin(void)
{
    char line[256];
    ssize_t n = read(STDIN_FILENO, line, sizeof line);
    go_given = true;
    if (n <= 0 || !options.wait_go)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}

/* One round of the loop; at most wait_ms. */
static void turn(int wait_ms)
{
    static struct epoll_event events[512];
    int n = epoll_wait(epoll_fd, events, 512, wait_ms);
    now_us = clock_us();
    for (int i = 0; i < n; i++) {
        uint32_t index = (uint32_t)events[i].data.u64;
        switch (events[i].data.u64 >> 32) {
        case TAG_CLIENT:
            client_event(&clients[index], events[i].events);
            break;
        case TAG_CHURN:
            client_event(&churners[index], events[i].events);
            break;
        case TAG_PUBLISHER:
            publisher_event(index, events[i].events);
            break;
        default:
            on_stdin();
        }
    }
}

static bool over(void)
{
    return now_us >= deadline_us;
}

static bool still_connecting(const struct client *c)
{
    return c->state == STATE_CONNECTING ||
           (!options.together && (c->state == STATE_ASKED || c->state == STATE_OPENED));
}

static void connect_everybody(void)
{
    uint32_t first = 0; /* all before it are through */
    while (started_n < clients_n && !over()) {
        uint32_t busy = 0;
        while (first < started_n && !still_connecting(&clients[first]))
            first++;
        for (uint32_t i = first; i < started_n; i++)
            busy += still_connecting(&clients[i]);
        for (; started_n < clients_n && busy < options.connect_parallel; busy++)
            client_start(&clients[started_n++]);
        turn(100);
    }
    if (!options.together)
        return;
    for (uint32_t i = 0; i < clients_n && !over();) {
        if (clients[i].state == STATE_CONNECTING)
            turn(10);
        else
            i++;
    }
    for (uint32_t i = 0; i < clients_n; i++)
        if (clients[i].state == STATE_HELD)
            client_ask(&clients[i]);
}

static bool wait_until_acked(void)
{
    while (!over()) {
        uint32_t pending = 0;
        for (uint32_t i = 0; i < clients_n; i++)
            pending += clients[i].state != STATE_LIVE && clients[i].state != STATE_CLOSED;
        if (pending == 0)
            break;
        turn(50);
    }
    return results.ready_n == clients_n;
}

static void churn_one(void)
{
    struct client *c = &churners[(uint32_t)rand() % options.churn_slots];
    results.churned++;
    if (c->fd >= 0) {
        client_drop(c, rand() % 2);
        return;
    }
    bytes_free(&c->held);
    sse_close(c);
    free(c->sse);
    c->sse = NULL;
    c->kind = rand() % 2 ? KIND_WS : KIND_SSE;
    c->channel = &channels[(uint32_t)rand() % channels_n];
    c->next = NO_INDEX;
    client_start(c);
}

static int churn_tick(bool publishing)
{
    if (!options.churn_hz || !publishing)
        return 1000;
    for (uint64_t due = (now_us - churn_started_us) * options.churn_hz / 1000000; churn_done < due;
         churn_done++)
        churn_one();
    return (int)(1000 / options.churn_hz) + 1;
}

static void resume_one(void)
{
    for (uint32_t tries = 0; tries < 200; tries++) {
        struct client *c = &clients[options.ws_n + (uint32_t)rand() % options.sse_n];
        if (c->state != STATE_LIVE || !c->sse->last_id[0])
            continue;
        client_drop(c, rand() % 2);
        client_start(c);
        results.resumed++;
        return;
    }
}

static void resume_tick(void)
{
    uint64_t total = (uint64_t)options.messages_n * channels_n;
    while (options.sse_n && resumed_n < options.resume_n &&
           published_messages() * (options.resume_n + 1) >= total * (resumed_n + 1)) {
        resumed_n++;
        resume_one();
    }
}

static bool everything_arrived(void)
{
    for (uint32_t i = 0; i < clients_n; i++) {
        const struct client *c = &clients[i];
        if (c->role == ROLE_STEADY && c->state != STATE_CLOSED && c->next < c->channel->expected_n)
            return false;
    }
    return true;
}

static void publish_and_read(void)
{
    uint64_t looked_us = 0;
    churn_started_us = now_us;
    while (!over()) {
        int wait = publishers_tick(), churn = churn_tick(true);
        resume_tick();
        turn(wait < 0 || wait > churn ? (churn > 50 ? 50 : churn) : wait);
        if (now_us - looked_us < 2000)
            continue;
        looked_us = now_us;
        if (publishers_finished() && everything_arrived())
            break;
    }
}

static void run_for(uint64_t us)
{
    uint64_t until = now_us + us;
    while (now_us < until)
        turn((int)((until - now_us) / 1000) + 1);
}

static uint32_t count_complete(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < clients_n; i++)
        n += clients[i].role == ROLE_STEADY && clients[i].next == clients[i].channel->expected_n;
    return n;
}

static void count_missing(void)
{
    uint32_t told = 0;
    for (uint32_t i = 0; i < clients_n && told < 1; i++)
        if (clients[i].role == ROLE_STEADY && clients[i].next < clients[i].channel->expected_n) {
            problem("%s client %u of %s stopped at message %u of %u",
                    clients[i].kind == KIND_WS ? "ws" : "sse", i, clients[i].channel->name,
                    clients[i].next, clients[i].channel->expected_n);
            told++;
        }
}

static bool verdict(uint32_t complete, uint32_t steady)
{
    const struct results *r = &results;
    uint64_t wrong = r->duplicates + r->corrupt + r->wrong_channel + r->wrong_opcode + r->stale +
                     r->missed_at_start + r->protocol_errors + r->refused + r->closed_early +
                     r->publish_wrong_count + r->connect_errors;
    if (!options.allow_gaps)
        wrong += r->gaps + r->told_gaps + r->publish_errors;
    return wrong == 0 && results.ready_n == clients_n && (options.allow_gaps || complete == steady);
}

static bool report(const struct usage u[4], uint64_t connect_us, uint64_t publish_us)
{
    const struct results *r = &results;
    uint32_t complete = count_complete(), steady = clients_n - options.stalled_n;
    bool ok = verdict(complete, steady);
    uint64_t cpu_us = u[3].cpu_us - u[2].cpu_us;
    int64_t grown = (int64_t)u[1].rss_bytes - (int64_t)u[0].rss_bytes;
#define N(name) printf(",\"" #name "\":%" PRIu64, (uint64_t)r->name)
    printf("{\"ok\":%s,\"clients\":%u,\"complete\":%u", ok ? "true" : "false", clients_n, complete);
    N(ready_n), N(deliveries), N(delivery_bytes), N(duplicates), N(gaps), N(gap_messages);
    N(told_gaps), N(corrupt), N(wrong_channel), N(wrong_opcode), N(stale), N(missed_at_start);
    N(protocol_errors), N(refused), N(first_refusal), N(closed_early), N(connect_errors);
    N(broker_events), N(gap_events), N(churned), N(resumed), N(pings), N(publish_errors);
    N(publish_wrong_count);
    printf(",\"published\":%" PRIu64 ",\"connect_ms\":%" PRIu64 ",\"publish_ms\":%" PRIu64,
           published_messages(), connect_us / 1000, publish_us / 1000);
    printf(",\"latency_us\":{\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"max\":%" PRIu64 "}",
           latency_percentile(50), latency_percentile(99), latency_percentile(100));
    if (options.server_pid && clients_n)
        printf(",\"server\":{\"cpu_us_per_delivery\":%.3f,\"cpu_us_per_connect\":%.2f,"
               "\"rss_per_connection\":%.1f,\"rss_start\":%" PRIu64 ",\"rss_end\":%" PRIu64 "}",
               r->deliveries ? (double)cpu_us / (double)r->deliveries : 0.0,
               (double)(u[1].cpu_us - u[0].cpu_us) / clients_n, (double)grown / clients_n,
               u[0].rss_bytes, u[3].rss_bytes);
    printf(",\"problem\":\"%s\"}\n", r->first_problem);
#undef N
    return ok;
}

static void setup(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    srand(options.seed);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = TAG_STDIN << 32};
    if (options.wait_go)
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &ev);
}

static void wait_for_go(void)
{
    printf("ready\n");
    fflush(stdout);
    while (options.wait_go && !go_given && !over())
        turn(100);
}

int main(int argc, char **argv)
{
    struct usage u[4];
    if (options_parse(argc, argv))
        return 2;
    setup();
    if (channels_make())
        return 2;
    clients_make();
    now_us = clock_us();
    deadline_us = now_us + (uint64_t)options.deadline_s * 1000000;
    uint64_t begun_us = now_us;
    u[0] = usage_of(options.server_pid);
    connect_everybody();
    bool acked = wait_until_acked();
    uint64_t connect_us = now_us - begun_us;
    u[1] = usage_of(options.server_pid);
    if (acked) {
        wait_for_go();
        run_for((uint64_t)options.hold_s * 1000000);
    }
    u[2] = usage_of(options.server_pid);
    begun_us = now_us;
    if (acked && !options.hold_s && publishers_start() == 0)
        publish_and_read();
    uint64_t publish_us = now_us - begun_us;
    u[3] = usage_of(options.server_pid);
    run_for((uint64_t)options.settle_ms * 1000);
    if (!options.hold_s)
        count_missing();
    else
        options.allow_gaps = true;
    return report(u, connect_us, publish_us) ? 0 : 1;
}
