#include "broker/redis_sub.h"

#include "base/alloc.h"
#include "base/map.h"
#include "base/metrics.h"

#include <assert.h>

#define NAMES_PER_COMMAND 500
#define NAME_MAX_BYTES    255 /* of the channels that messages come from */
#define REQUEST_NAME_MAX  300 /* that of a stream's doorbell is longer */
#define REQUEST_HEAD      3
/* Answered requests are dropped from the front when they are this many bytes and most of all. */
#define COMPACT_BYTES (64 << 10)

/* The first byte of a request. The lowest bit is the kind. */
enum {
    CHANNEL_BIT = TL_SOURCE_CHANNEL,
    PATTERN_BIT = TL_SOURCE_PATTERN,
    UNSUBSCRIBE_BIT = 2,
    VERB = 3,
    FIRST = 16, /* the first name of a command, once sent */
    ALONE = 32, /* has its own command: it was refused with others */
};

static const char *const verbs[] = {"SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE"};

static enum tl_source_kind kind_of(uint8_t mark)
{
    return mark & PATTERN_BIT ? TL_SOURCE_PATTERN : TL_SOURCE_CHANNEL;
}

/* ---- the queue of requests ---- */

static struct tl_bytes name_at(const struct tl_buf *requests, size_t at)
{
    return tl_bytes(requests->p + at + REQUEST_HEAD,
                    (size_t)requests->p[at + 1] | (size_t)requests->p[at + 2] << 8);
}

static size_t after(const struct tl_buf *requests, size_t at)
{
    return at + REQUEST_HEAD + name_at(requests, at).n;
}

static void forget_requests(struct tl_redis_sub *sub)
{
    tl_buf_deinit(&sub->requests);
    sub->head = sub->next = sub->unsubscribes_n = 0;
}

/* On failure `requests` is marked as failed: nothing can be kept in order any more. */
static void add_request(struct tl_redis_sub *sub, uint8_t mark, struct tl_bytes name)
{
    if (tl_buf_reserve(&sub->requests, REQUEST_HEAD + name.n) < 0)
        return;
    tl_buf_byte(&sub->requests, mark);
    tl_buf_byte(&sub->requests, (uint8_t)(name.n & 255));
    tl_buf_byte(&sub->requests, (uint8_t)(name.n >> 8));
    tl_buf_append(&sub->requests, name);
    sub->unsubscribes_n += (mark & UNSUBSCRIBE_BIT) != 0;
}

/* The request at the head was answered. */
static void drop_request(struct tl_redis_sub *sub)
{
    sub->unsubscribes_n -= (sub->requests.p[sub->head] & UNSUBSCRIBE_BIT) != 0;
    sub->head = after(&sub->requests, sub->head);
    sub->link.answered++;
    if (sub->head == sub->requests.n && !sub->requests.failed)
        forget_requests(sub);
    if (sub->head < COMPACT_BYTES || sub->head < sub->requests.n / 2)
        return;
    tl_buf_consume(&sub->requests, sub->head);
    sub->next -= sub->head;
    sub->head = 0;
}

void tl_redis_sub_request(struct tl_redis_sub *sub, bool subscribe, enum tl_source_kind kind,
                          struct tl_bytes name)
{
    assert(name.n > 0 && name.n <= REQUEST_NAME_MAX);
    if (!tl_redis_link_is_up(&sub->link))
        return;
    add_request(sub, (uint8_t)((unsigned)kind | (subscribe ? 0 : UNSUBSCRIBE_BIT)), name);
    tl_loop_defer(sub->link.loop, &sub->task);
}

static void on_task(struct tl_task *task)
{
    struct tl_redis_sub *sub = TL_CONTAINER(task, struct tl_redis_sub, task);
    /* With a request lost, only a new start is sure: the hub asks for everything again. */
    if (sub->requests.failed)
        tl_redis_link_lose(&sub->link, "no memory for subscriptions");
    else
        tl_redis_link_flush(&sub->link);
}

/* ---- sending ---- */

/* One command for the requests from `next` on that share a verb. Returns how many. */
static uint64_t append_command(struct tl_redis_sub *sub, struct tl_buf *out)
{
    struct tl_buf *requests = &sub->requests;
    const char *argv[NAMES_PER_COMMAND + 1];
    size_t lengths[NAMES_PER_COMMAND + 1];
    uint8_t mark = requests->p[sub->next];
    int n = 1;
    argv[0] = verbs[mark & VERB];
    lengths[0] = strlen(argv[0]);
    requests->p[sub->next] |= FIRST;
    do {
        struct tl_bytes name = name_at(requests, sub->next);
        argv[n] = (const char *)name.p;
        lengths[n++] = name.n;
        sub->next = after(requests, sub->next);
    } while (!(mark & ALONE) && n <= NAMES_PER_COMMAND && sub->next < requests->n &&
             requests->p[sub->next] == mark);
    (void)tl_redis_link_command(out, n, argv, lengths); /* the link sees out->failed */
    return (uint64_t)n - 1;
}

static uint64_t fill(struct tl_redis_link *l, struct tl_buf *out)
{
    struct tl_redis_sub *sub = TL_CONTAINER(l, struct tl_redis_sub, link);
    uint64_t n = 0;
    while (!sub->requests.failed && !out->failed && sub->next < sub->requests.n &&
           out->n < TL_REDIS_BATCH_BYTES)
        n += append_command(sub, out);
    return n;
}

/* ---- refusals ---- */

/* A refused name, while it is looked up whether a later request overtook it. */
struct refused {
    struct tl_map_node node;
    uint8_t mark;
    bool overtaken;
    struct tl_bytes name;
};

static struct tl_bytes refused_key(const struct tl_map_node *node)
{
    return ((const struct refused *)(const void *)node)->name; /* its first member */
}

/* Mark those for which an unsubscribe is in the queue already. The hub alternates, and one command
 * holds a name once, so one node a name is enough. */
static int find_overtaken(const struct tl_redis_sub *sub, struct refused *refused, size_t n)
{
    struct tl_map map;
    if (sub->unsubscribes_n == 0)
        return 0;
    int status = tl_map_init(&map, refused_key);
    if (status < 0)
        return status;
    for (size_t i = 0; i < n; i++)
        if (!tl_map_find(&map, refused[i].name))
            tl_map_add(&map, &refused[i].node);
    for (size_t at = sub->head; at < sub->requests.n; at = after(&sub->requests, at)) {
        uint8_t verb = sub->requests.p[at] & VERB;
        if (!(verb & UNSUBSCRIBE_BIT))
            continue;
        struct tl_map_node *node = tl_map_find(&map, name_at(&sub->requests, at));
        struct refused *r = node ? TL_CONTAINER(node, struct refused, node) : NULL;
        if (r && kind_of(verb) == kind_of(r->mark))
            r->overtaken = true;
    }
    tl_map_deinit(&map);
    return 0;
}

static void tell_refused(struct tl_redis_sub *sub, uint8_t mark, struct tl_bytes name,
                         struct tl_bytes error, const char *words)
{
    struct tl_broker *b = sub->broker;
    enum tl_broker_status status =
        tl_bytes_starts(error, TL_LIT("NOPERM")) ? TL_BROKER_DENIED : TL_BROKER_FAILED;
    tl_redis_notice_refused(sub->notice, verbs[mark & VERB], name, words,
                            tl_loop_now_ms(sub->link.loop));
    if (mark & UNSUBSCRIBE_BIT)
        b->events->on_unsubscribed(b->hub, kind_of(mark), name);
    else
        b->events->on_subscribed(b->hub, kind_of(mark), name, status, words);
}

/* Ask for each name again with a command of its own, so that only the guilty one fails. */
static void ask_one_by_one(struct tl_redis_sub *sub, const struct refused *refused, size_t n)
{
    struct tl_broker *b = sub->broker;
    for (size_t i = 0; i < n && tl_redis_link_is_up(&sub->link); i++) {
        const struct refused *r = &refused[i];
        if (r->mark & UNSUBSCRIBE_BIT)
            b->events->on_unsubscribed(b->hub, kind_of(r->mark), r->name);
        else if (r->overtaken)
            b->events->on_subscribed(b->hub, kind_of(r->mark), r->name, TL_BROKER_FAILED,
                                     "overtaken by an unsubscribe");
        else
            add_request(sub, (r->mark & VERB) | ALONE, r->name);
    }
    tl_loop_defer(sub->link.loop, &sub->task);
}

/* The names of the command at the head, taken off the queue; their bytes lie in `names`. */
static size_t take_command(struct tl_redis_sub *sub, struct tl_buf *names,
                           struct refused refused[NAMES_PER_COMMAND])
{
    size_t end = sub->head, n = 0, start = sub->head;
    do {
        end = after(&sub->requests, end);
        n++;
    } while (end < sub->next && !(sub->requests.p[end] & FIRST));
    tl_buf_append(names, tl_bytes(sub->requests.p + start, end - start));
    if (names->failed)
        return 0;
    for (size_t i = 0, at = 0; i < n; i++, at = after(names, at)) {
        refused[i] = (struct refused){.mark = names->p[at], .name = name_at(names, at)};
        drop_request(sub);
    }
    return n;
}

/* A whole command was refused. Returns NULL, or why the link must be lost. */
static const char *on_error(struct tl_redis_sub *sub, struct tl_bytes error)
{
    char words[96];
    struct tl_buf names = {0};
    struct refused *refused = tl_alloc(NAMES_PER_COMMAND * sizeof *refused);
    size_t n = refused ? take_command(sub, &names, refused) : 0;
    int status = n > 1 ? find_overtaken(sub, refused, n) : 0;
    tl_metric_add(TL_M_BROKER_REFUSALS, 1);
    tl_redis_link_words(&sub->link, error, words, sizeof words);
    if (n == 1)
        tell_refused(sub, refused[0].mark, refused[0].name, error, words);
    else if (n > 1 && status == 0)
        ask_one_by_one(sub, refused, n);
    tl_buf_deinit(&names);
    tl_free(refused);
    return n == 0 || status < 0 ? "no memory for a refusal" : NULL;
}

/* ---- answers and messages ---- */

static const char *on_confirmed(struct tl_redis_sub *sub, uint8_t verb, const struct tl_resp *reply)
{
    struct tl_broker *b = sub->broker;
    struct tl_bytes name = reply->values[1].bytes;
    if (reply->values_n != 3 || reply->values[1].type != TL_RESP_STRING || sub->head == sub->next ||
        (sub->requests.p[sub->head] & VERB) != verb ||
        !tl_bytes_eq(name_at(&sub->requests, sub->head), name))
        return "protocol error: a confirmation out of order";
    drop_request(sub);
    if (verb & UNSUBSCRIBE_BIT) {
        tl_metric_add(TL_M_BROKER_UNSUBSCRIBES, 1);
        b->events->on_unsubscribed(b->hub, kind_of(verb), name);
    } else {
        tl_metric_add(TL_M_BROKER_SUBSCRIBES, 1);
        b->events->on_subscribed(b->hub, kind_of(verb), name, TL_BROKER_OK, "");
    }
    return NULL;
}

static bool is_text(const struct tl_resp_value *value)
{
    return value->type == TL_RESP_STRING;
}

/* values: source, name (the same one for channels), payload. */
static const char *on_message(struct tl_redis_sub *sub, enum tl_source_kind kind,
                              const struct tl_resp_value *source, const struct tl_resp_value *name,
                              const struct tl_resp_value *payload)
{
    struct tl_broker *b = sub->broker;
    if (!is_text(source) || !is_text(name) || !is_text(payload) || source->oversize)
        return "protocol error: not a message";
    bool fits = !payload->oversize && payload->bytes.n <= sub->link.options->max_message &&
                !name->oversize && name->bytes.n > 0 &&
                (name->bytes.n <= NAME_MAX_BYTES || kind == TL_SOURCE_CHANNEL);
    if (fits) {
        b->events->on_message(b->hub, kind, source->bytes, name->bytes, payload->bytes);
        return NULL;
    }
    tl_metric_add(TL_M_MESSAGES_OVERSIZE, 1);
    b->events->on_dropped(b->hub, kind, source->bytes);
    return NULL;
}

static const char *on_array(struct tl_redis_sub *sub, const struct tl_resp *reply)
{
    const struct tl_resp_value *v = reply->values;
    struct tl_bytes word =
        reply->values_n > 0 && is_text(v) && !v->oversize ? v->bytes : TL_LIT("");
    if (reply->values_n == 3 && tl_bytes_eq(word, TL_LIT("message")))
        return on_message(sub, TL_SOURCE_CHANNEL, &v[1], &v[1], &v[2]);
    if (reply->values_n == 4 && tl_bytes_eq(word, TL_LIT("pmessage")))
        return on_message(sub, TL_SOURCE_PATTERN, &v[1], &v[2], &v[3]);
    for (unsigned verb = 0; verb <= VERB; verb++)
        if (tl_bytes_ieq(word, tl_bytes_str(verbs[verb])))
            return on_confirmed(sub, (uint8_t)verb, reply);
    return "protocol error: an answer to nothing";
}

static const char *on_reply(struct tl_redis_link *l, const struct tl_resp *reply)
{
    struct tl_redis_sub *sub = TL_CONTAINER(l, struct tl_redis_sub, link);
    if (reply->top.type == TL_RESP_ARRAY)
        return on_array(sub, reply);
    if (reply->top.type == TL_RESP_ERROR && sub->head < sub->next)
        return on_error(sub, reply->top.bytes);
    return "protocol error: not an answer to SUBSCRIBE";
}

/* ---- the link ---- */

static void on_up(struct tl_redis_link *l)
{
    struct tl_redis_sub *sub = TL_CONTAINER(l, struct tl_redis_sub, link);
    tl_redis_notice_up(sub->notice, TL_REDIS_SUB, tl_loop_now_ms(l->loop));
    sub->broker->events->on_link(sub->broker->hub, TL_SOURCE_CHANNEL, true, "");
}

static void on_trouble(struct tl_redis_link *l, const char *reason, uint64_t retry_ms)
{
    struct tl_redis_sub *sub = TL_CONTAINER(l, struct tl_redis_sub, link);
    tl_redis_notice_down(sub->notice, TL_REDIS_SUB, reason, retry_ms, tl_loop_now_ms(l->loop));
}

static void on_pong(struct tl_redis_link *l)
{
    struct tl_redis_sub *sub = TL_CONTAINER(l, struct tl_redis_sub, link);
    tl_loop_defer(l->loop, &sub->task); /* another one may be due */
    if (sub->ponged)
        tl_loop_defer(l->loop, sub->ponged);
}

uint32_t tl_redis_sub_ping(struct tl_redis_sub *sub)
{
    tl_loop_defer(sub->link.loop, &sub->task);
    return tl_redis_link_ping(&sub->link);
}

static void on_down(struct tl_redis_link *l, const char *reason)
{
    struct tl_redis_sub *sub = TL_CONTAINER(l, struct tl_redis_sub, link);
    forget_requests(sub);
    on_pong(l); /* for whoever waits */
    sub->broker->events->on_link(sub->broker->hub, TL_SOURCE_CHANNEL, false, reason);
}

static const struct tl_redis_link_handler handler = {on_up,    on_down, on_trouble,
                                                     on_reply, fill,    on_pong};

void tl_redis_sub_init(struct tl_redis_sub *sub, struct tl_broker *broker, struct tl_loop *loop,
                       const struct tl_redis_options *options, struct tl_redis_notice *notice)
{
    *sub = (struct tl_redis_sub){.broker = broker, .notice = notice};
    tl_redis_link_init(&sub->link, loop, options, &handler, "sub");
    tl_task_init(&sub->task, on_task);
}

void tl_redis_sub_stop(struct tl_redis_sub *sub)
{
    tl_task_cancel(&sub->task);
    tl_redis_link_stop(&sub->link);
}

void tl_redis_sub_deinit(struct tl_redis_sub *sub)
{
    forget_requests(sub);
    tl_redis_link_deinit(&sub->link);
}
