#include "broker/memory.h"

#include "base/alloc.h"
#include "base/glob.h"
#include "base/metrics.h"

#include <errno.h>

#define DELIVERIES_AT_ONCE 1024 /* then whom these are for is told, before the next */

/* A confirmation that is due, or a pattern that is subscribed. */
struct source {
    struct tl_list node;
    enum tl_source_kind kind;
    bool subscribed; /* of a confirmation: which one */
    uint8_t name_n;
    uint8_t name[];
};

struct memory {
    struct tl_broker broker;
    struct tl_loop *loop;
    struct tl_task task;
    struct tl_list confirmations; /* in order of the requests */
    struct tl_list publishes;
    struct tl_list patterns;
};

static struct memory *memory_of(const struct tl_broker *b)
{
    return TL_CONTAINER(b, struct memory, broker);
}

static struct tl_bytes source_name(const struct source *source)
{
    return tl_bytes(source->name, source->name_n);
}

static struct source *source_new(enum tl_source_kind kind, struct tl_bytes name)
{
    struct source *source = tl_zalloc(sizeof *source + name.n);
    if (!source)
        return NULL;
    source->kind = kind;
    source->name_n = (uint8_t)name.n;
    memcpy(source->name, name.p, name.n);
    return source;
}

static int confirm_later(struct memory *m, enum tl_source_kind kind, struct tl_bytes name,
                         bool subscribed)
{
    struct source *confirmation = source_new(kind, name);
    if (!confirmation) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return -ENOMEM;
    }
    confirmation->subscribed = subscribed;
    tl_list_append(&m->confirmations, &confirmation->node);
    tl_loop_defer(m->loop, &m->task);
    return 0;
}

static void drop_pattern(struct memory *m, struct tl_bytes name)
{
    struct tl_list *next;
    for (struct tl_list *l = m->patterns.next; l != &m->patterns; l = next) {
        next = l->next;
        struct source *pattern = TL_CONTAINER(l, struct source, node);
        if (!tl_bytes_eq(source_name(pattern), name))
            continue;
        tl_list_remove(l);
        tl_free(pattern);
    }
}

static int subscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    struct memory *m = memory_of(b);
    tl_metric_add(TL_M_BROKER_SUBSCRIBES, 1);
    if (kind == TL_SOURCE_PATTERN) {
        struct source *pattern = source_new(kind, name);
        if (!pattern) {
            tl_metric_add(TL_M_REFUSED_MEMORY, 1);
            return -ENOMEM;
        }
        tl_list_append(&m->patterns, &pattern->node);
    }
    int r = confirm_later(m, kind, name, true);
    if (r < 0 && kind == TL_SOURCE_PATTERN)
        drop_pattern(m, name);
    return r;
}

static int unsubscribe(struct tl_broker *b, enum tl_source_kind kind, struct tl_bytes name)
{
    struct memory *m = memory_of(b);
    tl_metric_add(TL_M_BROKER_UNSUBSCRIBES, 1);
    if (kind == TL_SOURCE_PATTERN)
        drop_pattern(m, name);
    return confirm_later(m, kind, name, false);
}

static void publish(struct tl_broker *b, struct tl_publish *p)
{
    struct memory *m = memory_of(b);
    tl_list_init(&p->node);
    tl_list_append(&m->publishes, &p->node);
    tl_loop_defer(m->loop, &m->task);
}

static void deliver(struct memory *m, struct tl_publish *p)
{
    const struct tl_broker_events *events = m->broker.events;
    void *hub = m->broker.hub;
    if (!events->on_message(hub, TL_SOURCE_CHANNEL, p->name, p->name, p->payload)) {
        p->status = TL_BROKER_FULL; /* nobody got it: it was never published */
        p->on_published(p);
        return;
    }
    for (struct tl_list *l = m->patterns.next; l != &m->patterns; l = l->next) {
        struct source *pattern = TL_CONTAINER(l, struct source, node);
        if (tl_glob_match(source_name(pattern), p->name))
            events->on_message(hub, TL_SOURCE_PATTERN, source_name(pattern), p->name, p->payload);
    }
    p->status = TL_BROKER_OK;
    p->on_published(p);
}

static void confirm(struct memory *m, struct source *confirmation)
{
    const struct tl_broker_events *events = m->broker.events;
    struct tl_bytes name = source_name(confirmation);
    if (confirmation->subscribed)
        events->on_subscribed(m->broker.hub, confirmation->kind, name, TL_BROKER_OK, "");
    else
        events->on_unsubscribed(m->broker.hub, confirmation->kind, name);
    tl_free(confirmation);
}

static void on_task(struct tl_task *task)
{
    struct memory *m = TL_CONTAINER(task, struct memory, task);
    struct tl_list *l;
    while ((l = tl_list_pop(&m->confirmations)))
        confirm(m, TL_CONTAINER(l, struct source, node));
    for (int n = 0; n < DELIVERIES_AT_ONCE && (l = tl_list_pop(&m->publishes)); n++)
        deliver(m, TL_CONTAINER(l, struct tl_publish, node));
    if (!tl_list_empty(&m->publishes))
        tl_loop_defer(m->loop, &m->task);
}

static bool is_up(const struct tl_broker *b)
{
    (void)b;
    return true;
}

static void stop(struct tl_broker *b)
{
    struct memory *m = memory_of(b);
    struct tl_list *l;
    tl_task_cancel(&m->task);
    while ((l = tl_list_pop(&m->publishes))) {
        struct tl_publish *p = TL_CONTAINER(l, struct tl_publish, node);
        p->status = TL_BROKER_DOWN;
        p->on_published(p);
    }
    while ((l = tl_list_pop(&m->confirmations)))
        tl_free(TL_CONTAINER(l, struct source, node));
}

static void free_memory(struct tl_broker *b)
{
    struct memory *m = memory_of(b);
    struct tl_list *l;
    while ((l = tl_list_pop(&m->patterns)))
        tl_free(TL_CONTAINER(l, struct source, node));
    while ((l = tl_list_pop(&m->confirmations)))
        tl_free(TL_CONTAINER(l, struct source, node));
    tl_task_cancel(&m->task);
    tl_free(m);
}

static const struct tl_broker_ops memory_ops = {
    .name = "memory",
    .is_source = true,
    .subscribe = subscribe,
    .unsubscribe = unsubscribe,
    .publish = publish,
    .is_up = is_up,
    .stop = stop,
    .free = free_memory,
};

struct tl_broker *tl_memory_new(struct tl_loop *loop)
{
    struct memory *m = tl_zalloc(sizeof *m);
    if (!m)
        return NULL;
    m->broker.ops = &memory_ops;
    m->loop = loop;
    tl_task_init(&m->task, on_task);
    tl_list_init(&m->confirmations);
    tl_list_init(&m->publishes);
    tl_list_init(&m->patterns);
    return &m->broker;
}
