#include "bench/storm.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "proto/url.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

/* Where an event stream stands. An id counts from the end of its event on; what is dropped before
 * that comes again. */
struct tl_resume_point {
    char id[TL_STORM_ID_MAX], next[TL_STORM_ID_MAX];
    uint16_t id_n, next_n;
    bool has_next;
};

int tl_storm_init(struct tl_swarm *s)
{
    if (!s->plan->storm_ns || s->plan->kind != TL_RECEIVER_SSE)
        return 0;
    s->points = tl_zalloc((size_t)(s->clients_n + 1) * sizeof *s->points);
    return s->points ? 0 : -ENOMEM;
}

void tl_storm_deinit(struct tl_swarm *s)
{
    tl_free(s->points);
    s->points = NULL;
}

static struct tl_resume_point *point_of(const struct tl_swarm_client *c)
{
    const struct tl_swarm *s = c->swarm;
    return s->points ? &s->points[c - s->clients] : NULL;
}

/* The receiver is begun anew by the next connection. */
static void drop(struct tl_swarm *s, struct tl_swarm_client *c)
{
    static const struct linger hard = {.l_onoff = 1, .l_linger = 0};
    struct tl_resume_point *point = point_of(c);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(c->fd);
    c->fd = -1;
    c->state = TL_CLIENT_NEW;
    c->storm = TL_STORM_AWAY;
    if (point)
        point->has_next = false;
    s->tally->dropped++;
}

void tl_storm_look(struct tl_swarm *s)
{
    if (!s->plan->storm_ns || s->storm_ns > 0)
        return;
    s->storm_ns = atomic_load_explicit(s->plan->storm_ns, memory_order_relaxed);
    if (s->storm_ns == 0)
        return;
    for (uint64_t i = 0; i < s->clients_n; i++)
        if (s->clients[i].state == TL_CLIENT_READY)
            drop(s, &s->clients[i]);
    s->started = 0;
    s->tally->storms++;
}

static void commit(struct tl_resume_point *point)
{
    if (!point || !point->has_next)
        return;
    memcpy(point->id, point->next, point->next_n);
    point->id_n = point->next_n;
    point->has_next = false;
}

void tl_storm_on_field(struct tl_swarm_client *c, struct tl_bytes line)
{
    struct tl_resume_point *point = point_of(c);
    c->swarm->tally->gaps_told += tl_bytes_starts(line, TL_LIT("event: gap"));
    if (!point)
        return;
    if (line.n == 0) {
        commit(point);
    } else if (tl_bytes_starts(line, TL_LIT("id:"))) {
        line = tl_bytes_skip(line, line.n > 3 && line.p[3] == ' ' ? 4 : 3);
        if (line.n > sizeof point->next) {
            tl_swarm_problem(c->swarm, "the server's ids are too long to come back with");
            return;
        }
        memcpy(point->next, line.p, line.n);
        point->next_n = (uint16_t)line.n;
        point->has_next = true;
    }
}

static uint64_t since_storm_ns(const struct tl_swarm *s)
{
    uint64_t now_ns = tl_clock_ns();
    return now_ns > s->storm_ns ? now_ns - s->storm_ns : 0;
}

static void check_caught_up(struct tl_swarm_client *c)
{
    if (c->storm != TL_STORM_BACK || c->order.next < c->storm_target)
        return;
    c->storm = TL_STORM_NONE;
    tl_histogram_add(&c->swarm->tally->caught_up, since_storm_ns(c->swarm));
}

/* Where the id stands before the data, whoever has the message has its id too. */
void tl_storm_on_message(struct tl_swarm_client *c)
{
    commit(point_of(c));
    check_caught_up(c);
}

void tl_storm_on_returned(struct tl_swarm_client *c)
{
    struct tl_swarm *s = c->swarm;
    c->storm = TL_STORM_BACK;
    c->storm_target = (uint32_t)tl_swarm_launched(s->plan, c->channel);
    tl_histogram_add(&s->tally->returned, since_storm_ns(s));
    check_caught_up(c);
}

void tl_storm_write_query(const struct tl_swarm_client *c, struct tl_buf *out)
{
    const struct tl_swarm_plan *plan = c->swarm->plan;
    if (!plan->positions)
        return;
    tl_buf_str(out, strchr(plan->path, '?') ? "&since=" : "?since=");
    tl_url_encode(out, tl_bytes_str(plan->positions[c->channel]));
    tl_buf_printf(out, "&received=%u", c->order.next - c->missing);
}

void tl_storm_write_header(const struct tl_swarm_client *c, struct tl_buf *out)
{
    const struct tl_resume_point *point = point_of(c);
    if (!point || point->id_n == 0)
        return;
    tl_buf_str(out, "Last-Event-ID: ");
    tl_buf_append(out, tl_bytes(point->id, point->id_n));
    tl_buf_str(out, "\r\n");
}
