#include "bench/swarm_client.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "bench/storm.h"
#include "proto/url.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define BATCH_MAX    128
#define BUFFER_BYTES (256u << 10)

void tl_swarm_problem(struct tl_swarm *s, const char *fmt, ...)
{
    if (*s->tally->problem)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(s->tally->problem, sizeof s->tally->problem, fmt, args);
    va_end(args);
}

void tl_swarm_expand(struct tl_buf *out, const char *template, const char *name, bool encode)
{
    static const char mark[] = "{channel}";
    for (const char *at; (at = strstr(template, mark)); template = at + sizeof mark - 1) {
        tl_buf_append(out, tl_bytes(template, (size_t)(at - template)));
        if (encode)
            tl_url_encode(out, tl_bytes_str(name));
        else
            tl_buf_str(out, name);
    }
    tl_buf_str(out, template);
}

uint64_t tl_swarm_launched(const struct tl_swarm_plan *plan, uint32_t channel)
{
    uint64_t launched = tl_flight_launched(plan->flight);
    if (plan->watch_all)
        return launched;
    return launched / plan->channels_n + (channel < launched % plan->channels_n);
}

static void land(const struct tl_swarm *s, const struct tl_swarm_client *c, uint64_t number)
{
    tl_flight_land(s->plan->flight,
                   s->plan->watch_all ? number : number * s->plan->channels_n + c->channel);
}

/* Messages */

static void check_order(struct tl_swarm *s, struct tl_swarm_client *c, uint32_t number)
{
    uint32_t missing, expected = c->order.next;
    enum tl_order_verdict verdict = tl_order_take(&c->order, number, &missing);
    if (verdict == TL_ORDER_NEXT) {
        s->tally->delivered++;
        land(s, c, number);
        return;
    }
    tl_swarm_problem(s, "subscriber %llu got message %u when %u was next",
                     (unsigned long long)c->index, number, expected);
    switch (verdict) {
    case TL_ORDER_GAP:
        s->tally->gaps++;
        s->tally->missing += missing;
        s->tally->delivered++;
        c->missing += missing;
        for (uint32_t i = 0; i <= missing; i++)
            land(s, c, expected + i);
        break;
    case TL_ORDER_LATE:
        s->tally->late++;
        s->tally->missing--;
        s->tally->delivered++;
        c->missing--;
        c->was_late = true;
        break;
    case TL_ORDER_DUPLICATE:
        s->tally->duplicates++;
        c->was_duplicate = true;
        break;
    case TL_ORDER_NEXT:
        break;
    }
}

static void on_message(struct tl_receiver *r, const struct tl_stamp *stamp, uint64_t payload_n)
{
    struct tl_swarm_client *c = TL_CONTAINER(r, struct tl_swarm_client, receiver);
    struct tl_swarm *s = c->swarm;
    struct tl_tally *t = s->tally;
    if (c->state != TL_CLIENT_READY || stamp->run != s->plan->run) {
        t->other++;
        return;
    }
    if (stamp->channel != c->channel) {
        t->wrong_channel++;
        tl_swarm_problem(s, "subscriber %llu of channel %u got a message of channel %u",
                         (unsigned long long)c->index, c->channel, stamp->channel);
        return;
    }
    if (stamp->number >= tl_swarm_launched(s->plan, c->channel) || payload_n < s->plan->size) {
        t->corrupt++;
        tl_swarm_problem(s, "subscriber %llu got message %u cut to %llu bytes, or never published",
                         (unsigned long long)c->index, stamp->number,
                         (unsigned long long)payload_n);
        return;
    }
    check_order(s, c, stamp->number);
    tl_storm_on_message(c);
    t->last_ns = s->now_ns;
    if (stamp->time_ns >= atomic_load_explicit(s->plan->measure_from_ns, memory_order_relaxed))
        tl_histogram_add(&t->latency, s->now_ns > stamp->time_ns ? s->now_ns - stamp->time_ns : 0);
}

/* The confirmation that is waited for may be any line or message. */
static void look_for_ready(struct tl_swarm_client *c, struct tl_bytes line)
{
    const char *text = c->swarm->plan->ready_text;
    if (c->state == TL_CLIENT_ASKED && *text && memmem(line.p, line.n, text, strlen(text)))
        tl_swarm_client_ready(c);
}

static void on_field(struct tl_receiver *r, struct tl_bytes line)
{
    struct tl_swarm_client *c = TL_CONTAINER(r, struct tl_swarm_client, receiver);
    tl_storm_on_field(c, line);
    look_for_ready(c, line);
}

static void on_other(struct tl_receiver *r, struct tl_bytes head)
{
    struct tl_swarm_client *c = TL_CONTAINER(r, struct tl_swarm_client, receiver);
    c->swarm->tally->other++;
    look_for_ready(c, head);
}

static const struct tl_receiver_handler handler = {
    .on_accepted = tl_swarm_client_on_accepted,
    .on_message = on_message,
    .on_other = on_other,
    .on_field = on_field,
    .on_ping = tl_swarm_client_on_ping,
    .on_close = tl_swarm_client_on_close,
};

/* A connection's end. The messages under way to it will not come: nobody may wait for them. */
void tl_swarm_client_failed(struct tl_swarm_client *c, const char *why)
{
    struct tl_swarm *s = c->swarm;
    if (c->state == TL_CLIENT_GONE)
        return;
    tl_swarm_problem(s, "subscriber %llu: the server %s", (unsigned long long)c->index, why);
    if (c->state != TL_CLIENT_READY)
        s->connecting--;
    if (c->was_ready) {
        s->tally->closed++;
        s->tally->stranded += c->storm != TL_STORM_NONE;
        tl_flight_subscribers(s->plan->flight, c->channel, -1);
        uint64_t launched = tl_swarm_launched(s->plan, c->channel);
        for (uint64_t number = c->order.next; number < launched; number++)
            land(s, c, number);
    } else {
        s->tally->failed++;
    }
    c->state = TL_CLIENT_GONE;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void receive(struct tl_swarm *s, struct tl_swarm_client *c)
{
    char why[160];
    ssize_t n = recv(c->fd, s->buffer, BUFFER_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        snprintf(why, sizeof why, "broke the connection: %s", strerror(errno));
        tl_swarm_client_failed(c, why);
        return;
    }
    if (n == 0) {
        tl_swarm_client_failed(c, "closed the connection");
        return;
    }
    s->now_ns = tl_clock_ns();
    s->tally->bytes += (uint64_t)n;
    if (tl_receiver_feed(&c->receiver, tl_bytes(s->buffer, (size_t)n)) == 0)
        return;
    snprintf(why, sizeof why, c->receiver.status ? "%s (status %u)" : "%s", c->receiver.reason,
             c->receiver.status);
    tl_swarm_client_failed(c, why);
}

static void start_connects(struct tl_swarm *s)
{
    while (s->started < s->clients_n && s->connecting < s->plan->parallel) {
        /* Where nobody gets in, the others need not try. */
        if (s->tally->failed > 0 && s->tally->ready == 0) {
            s->gave_up = true;
            return;
        }
        struct tl_swarm_client *c = &s->clients[s->started++];
        if (c->state == TL_CLIENT_NEW)
            tl_swarm_client_connect(c);
    }
}

void tl_swarm_turn(struct tl_swarm *s, int timeout_ms)
{
    struct epoll_event events[BATCH_MAX];
    tl_storm_look(s);
    if (!s->gave_up)
        start_connects(s);
    int n = epoll_wait(s->epoll_fd, events, BATCH_MAX, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct tl_swarm_client *c = events[i].data.ptr;
        if (!c || c->state == TL_CLIENT_GONE)
            continue;
        if (c->state == TL_CLIENT_CONNECTING)
            tl_swarm_client_ask(c);
        else
            receive(s, c);
    }
}

bool tl_swarm_is_settled(const struct tl_swarm *s)
{
    return s->connecting == 0 && (s->gave_up || s->started == s->clients_n);
}

int tl_swarm_watch(struct tl_swarm *s, int fd, uint32_t epoll_events)
{
    struct epoll_event event = {.events = epoll_events};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0 ||
        (errno == ENOENT && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0))
        return 0;
    return -errno;
}

void tl_swarm_judge(struct tl_swarm *s)
{
    struct tl_tally *t = s->tally;
    for (uint64_t i = 0; i < s->clients_n; i++) {
        const struct tl_swarm_client *c = &s->clients[i];
        uint64_t launched = tl_swarm_launched(s->plan, c->channel);
        t->expected += c->was_ready ? launched : 0;
        bool missing = c->missing > 0 || c->order.next < launched || !c->was_ready;
        t->clients_missing += missing;
        t->clients_duplicates += c->was_duplicate;
        t->clients_late += c->was_late;
        t->clients_complete += !missing && !c->was_duplicate && !c->was_late;
    }
}

struct tl_swarm *tl_swarm_new(const struct tl_swarm_plan *plan, uint64_t first, uint64_t n,
                              struct tl_tally *tally)
{
    struct tl_swarm *s = tl_zalloc(sizeof *s);
    if (!s)
        return NULL;
    s->plan = plan;
    s->tally = tally;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->clients = tl_zalloc((size_t)(n + 1) * sizeof *s->clients);
    s->buffer = tl_alloc(BUFFER_BYTES);
    s->clients_n = n;
    if (s->epoll_fd < 0 || !s->clients || !s->buffer || tl_storm_init(s) < 0) {
        tl_swarm_free(s);
        return NULL;
    }
    tl_swarm_key(s, &handler);
    for (uint64_t i = 0; i < n; i++) {
        struct tl_swarm_client *c = &s->clients[i];
        c->swarm = s;
        c->fd = -1;
        c->index = first + i;
        c->channel = plan->watch_all ? 0 : (uint32_t)(c->index % plan->channels_n);
    }
    return s;
}

void tl_swarm_free(struct tl_swarm *s)
{
    if (!s)
        return;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    for (uint64_t i = 0; s->clients && i < s->clients_n; i++) {
        int fd = s->clients[i].fd;
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(fd);
    }
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    tl_buf_deinit(&s->scratch);
    tl_storm_deinit(s);
    tl_free(s->clients);
    tl_free(s->buffer);
    tl_free(s);
}
