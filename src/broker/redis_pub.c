#include "broker/redis_pub.h"

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

static struct tl_publish *publish_of(struct tl_list *node)
{
    return TL_CONTAINER(node, struct tl_publish, node);
}

/* ---- sending ---- */

/* XADD with what it cuts away in the same step; its words but for the payload. */
static int stream_words(const struct tl_publish *p, char trim[24], const char **argv,
                        size_t *lengths)
{
    const struct tl_stream_rule *rule = p->stream;
    int n = 0;
    argv[n++] = "XADD";
    argv[n++] = (const char *)p->name.p;
    if (rule->len_max > 0) {
        snprintf(trim, 24, "%" PRIu64, rule->len_max);
        argv[n++] = "MAXLEN";
    } else if (rule->age_max_ms > 0) {
        uint64_t now_ms = tl_clock_wall_ms();
        snprintf(trim, 24, "%" PRIu64, now_ms > rule->age_max_ms ? now_ms - rule->age_max_ms : 0);
        argv[n++] = "MINID";
    }
    if (n > 2) {
        argv[n++] = "~";
        argv[n++] = trim;
    }
    argv[n++] = "*";
    argv[n++] = rule->field;
    for (int i = 0; i < n; i++)
        lengths[i] = i == 1 ? p->name.n : strlen(argv[i]);
    return n;
}

/* The command up to the payload: hiredis' words for an empty one, but for its end. */
static void append_head(struct tl_buf *out, const struct tl_publish *p)
{
    static const char empty[] = "$0\r\n\r\n";
    char trim[24];
    const char *argv[8] = {"PUBLISH", (const char *)p->name.p};
    size_t lengths[8] = {7, p->name.n};
    int n = p->stream ? stream_words(p, trim, argv, lengths) : 2;
    argv[n] = "";
    lengths[n] = 0;
    if (tl_redis_link_command(out, n + 1, argv, lengths) < 0)
        return;
    out->n -= sizeof empty - 1;
    tl_buf_printf(out, "$%zu\r\n", p->payload.n);
}

/* As much of the first unsent publish as fits. True: all of it. */
static bool append_publish(struct tl_redis_pub *pub, struct tl_buf *out)
{
    struct tl_publish *p = publish_of(pub->unsent.next);
    if (!pub->link.mid_command)
        append_head(out, p);
    size_t room = out->n < TL_REDIS_BATCH_BYTES ? TL_REDIS_BATCH_BYTES - out->n : 1;
    size_t n = p->payload.n - pub->offset < room ? p->payload.n - pub->offset : room;
    if (n > 0)
        tl_buf_append(out, tl_bytes(p->payload.p + pub->offset, n));
    pub->offset += n;
    pub->link.mid_command = pub->offset < p->payload.n;
    if (pub->link.mid_command)
        return false;
    tl_buf_str(out, "\r\n");
    pub->offset = 0;
    tl_list_remove(&p->node);
    tl_list_append(&pub->sent, &p->node);
    return true;
}

static void append_role(struct tl_redis_pub *pub, struct tl_buf *out)
{
    pub->role.due = false;
    tl_list_append(&pub->sent, &pub->role.node);
    (void)tl_redis_link_command(out, 2, (const char *[]){"INFO", "replication"},
                                (const size_t[]){4, 11});
}

static uint64_t fill(struct tl_redis_link *l, struct tl_buf *out)
{
    struct tl_redis_pub *pub = TL_CONTAINER(l, struct tl_redis_pub, link);
    uint64_t n = 0;
    while (!tl_list_empty(&pub->unsent) && out->n < TL_REDIS_BATCH_BYTES && !out->failed)
        n += append_publish(pub, out);
    if (pub->role.due && !l->mid_command && tl_list_empty(&pub->role.node)) {
        append_role(pub, out);
        n++;
    }
    return n;
}

/* ---- ends ---- */

static void tell(struct tl_publish *p, enum tl_broker_status status)
{
    p->status = status;
    p->on_published(p);
}

static void tell_waiting(struct tl_redis_pub *pub, struct tl_list *list,
                         enum tl_broker_status status)
{
    struct tl_list *node;
    while ((node = tl_list_pop(list)) != NULL) {
        struct tl_publish *p = publish_of(node);
        pub->waiting_n--;
        pub->waiting_bytes -= p->payload.n;
        tell(p, status);
    }
}

/* Tell those that ended before they were sent. What is published from there waits for another turn.
 */
static void tell_done(struct tl_redis_pub *pub)
{
    for (size_t n = pub->done_n; n > 0 && !tl_list_empty(&pub->done); n--) {
        struct tl_publish *p = publish_of(tl_list_pop(&pub->done));
        pub->done_n--;
        p->on_published(p);
    }
}

static void on_task(struct tl_task *task)
{
    struct tl_redis_pub *pub = TL_CONTAINER(task, struct tl_redis_pub, task);
    tl_redis_link_flush(&pub->link);
    tell_done(pub);
}

void tl_redis_pub_publish(struct tl_redis_pub *pub, struct tl_publish *p)
{
    bool full =
        pub->waiting_n >= TL_REDIS_PUBLISHES_MAX ||
        (pub->waiting_n > 0 && (pub->waiting_bytes > TL_REDIS_PUBLISH_BYTES_MAX ||
                                p->payload.n > TL_REDIS_PUBLISH_BYTES_MAX - pub->waiting_bytes));
    bool up = tl_redis_link_is_up(&pub->link);
    p->receivers = 0;
    p->error[0] = 0;
    tl_loop_defer(pub->link.loop, &pub->task);
    if (!up || full) {
        p->status = up ? TL_BROKER_FULL : TL_BROKER_DOWN;
        tl_list_append(&pub->done, &p->node);
        pub->done_n++;
        return;
    }
    pub->waiting_n++;
    pub->waiting_bytes += p->payload.n;
    tl_list_append(&pub->unsent, &p->node);
}

/* ---- answers ---- */

static void on_refused(struct tl_redis_pub *pub, struct tl_publish *p, struct tl_bytes error)
{
    bool denied = tl_bytes_starts(error, TL_LIT("NOPERM"));
    tl_metric_add(TL_M_BROKER_REFUSALS, 1);
    tl_redis_link_words(&pub->link, error, p->error, sizeof p->error);
    tl_redis_notice_refused(pub->notice, p->stream ? "XADD" : "PUBLISH", p->name, p->error,
                            tl_loop_now_ms(pub->link.loop));
    tell(p, denied ? TL_BROKER_DENIED : TL_BROKER_FAILED);
}

static void tell_change(struct tl_redis_pub *pub, enum tl_redis_role_change change)
{
    static const char *const reasons[] = {
        [TL_REDIS_ROLE_CUT_OFF] = "the replica has lost its master",
        [TL_REDIS_ROLE_JOINED] = "the replica has joined its master",
        [TL_REDIS_ROLE_MASTER] = "the replica has become a master",
    };
    tl_logger(TL_WARN, "redis %s: %s: messages may be missing", pub->notice->address,
              reasons[change]);
    pub->broker->events->on_gap(pub->broker->hub, reasons[change]);
}

/* An error: we may not ask, or it does not know. Then nothing is known. */
static void on_role(struct tl_redis_pub *pub, const struct tl_resp *reply)
{
    tl_list_remove(&pub->role.node);
    if (reply->top.type != TL_RESP_STRING || reply->top.oversize)
        return;
    enum tl_redis_role_change change = tl_redis_role_read(&pub->role.seen, reply->top.bytes);
    if (change != TL_REDIS_ROLE_SAME)
        tell_change(pub, change);
}

static void on_role_timer(struct tl_timer *timer)
{
    struct tl_redis_pub *pub = TL_CONTAINER(timer, struct tl_redis_pub, role.timer);
    pub->role.due = true;
    tl_loop_timer_start(pub->link.loop, timer, pub->link.options->ping_ms);
    tl_redis_link_flush(&pub->link);
}

static const char *on_reply(struct tl_redis_link *l, const struct tl_resp *reply)
{
    struct tl_redis_pub *pub = TL_CONTAINER(l, struct tl_redis_pub, link);
    if (tl_list_empty(&pub->sent))
        return "protocol error: an answer to nothing";
    if (pub->sent.next == &pub->role.node) {
        l->answered++;
        on_role(pub, reply);
        return NULL;
    }
    struct tl_publish *p = publish_of(pub->sent.next);
    bool is_answer =
        p->stream ? reply->top.type == TL_RESP_STRING && tl_entry_id_parse(reply->top.bytes, &p->id)
                  : reply->top.type == TL_RESP_INTEGER;
    if (!is_answer && reply->top.type != TL_RESP_ERROR)
        return "protocol error: not an answer to PUBLISH or XADD";
    tl_list_remove(&p->node);
    l->answered++;
    pub->waiting_n--;
    pub->waiting_bytes -= p->payload.n;
    if (reply->top.type == TL_RESP_ERROR) {
        on_refused(pub, p, reply->top.bytes);
        return NULL;
    }
    p->receivers = p->stream ? 0 : reply->top.integer;
    tell(p, TL_BROKER_OK);
    return NULL;
}

/* ---- the link ---- */

static void on_up(struct tl_redis_link *l)
{
    struct tl_redis_pub *pub = TL_CONTAINER(l, struct tl_redis_pub, link);
    tl_redis_notice_up(pub->notice, TL_REDIS_PUB, tl_loop_now_ms(l->loop));
    pub->broker->events->on_readiness(pub->broker->hub);
    tl_loop_timer_start(l->loop, &pub->role.timer, 0);
}

static void on_trouble(struct tl_redis_link *l, const char *reason, uint64_t retry_ms)
{
    struct tl_redis_pub *pub = TL_CONTAINER(l, struct tl_redis_pub, link);
    tl_redis_notice_down(pub->notice, TL_REDIS_PUB, reason, retry_ms, tl_loop_now_ms(l->loop));
}

/* Redis may have got what was sent whole; a command cut short it never runs. */
static void end_all(struct tl_redis_pub *pub)
{
    pub->offset = 0;
    pub->role.due = false;
    tl_list_remove(&pub->role.node);
    tl_timer_stop(tl_loop_timers(pub->link.loop), &pub->role.timer);
    tell_waiting(pub, &pub->sent, TL_BROKER_UNKNOWN);
    tell_waiting(pub, &pub->unsent, TL_BROKER_DOWN);
}

static void on_down(struct tl_redis_link *l, const char *reason)
{
    struct tl_redis_pub *pub = TL_CONTAINER(l, struct tl_redis_pub, link);
    (void)reason;
    pub->broker->events->on_readiness(pub->broker->hub);
    end_all(pub);
}

static const struct tl_redis_link_handler handler = {on_up,    on_down, on_trouble,
                                                     on_reply, fill,    NULL};

void tl_redis_pub_init(struct tl_redis_pub *pub, struct tl_broker *broker, struct tl_loop *loop,
                       const struct tl_redis_options *options, struct tl_redis_notice *notice)
{
    *pub = (struct tl_redis_pub){.broker = broker, .notice = notice};
    tl_list_init(&pub->role.node);
    tl_timer_init(&pub->role.timer, on_role_timer);
    tl_list_init(&pub->unsent);
    tl_list_init(&pub->sent);
    tl_list_init(&pub->done);
    tl_redis_link_init(&pub->link, loop, options, &handler, "pub");
    tl_task_init(&pub->task, on_task);
}

void tl_redis_pub_stop(struct tl_redis_pub *pub)
{
    tl_redis_link_stop(&pub->link);
    end_all(pub);
    while (!tl_list_empty(&pub->done))
        tell_done(pub);
    tl_task_cancel(&pub->task);
}

void tl_redis_pub_deinit(struct tl_redis_pub *pub)
{
    assert(pub->waiting_n == 0 && tl_list_empty(&pub->done));
    tl_redis_link_deinit(&pub->link);
}
