#include "gateway/posts.h"

#include "base/alloc.h"
#include "gateway/exchange.h"

#define DUE_MAX       256   /* answers due on one connection: then it is not read on */
#define DUE_BYTES_MAX 65536 /* the same for what they and their messages take */
#define UNREAD_MAX    65536 /* the same for answers that the client does not take */
#define IDLE_MS       75000

struct tl_posts {
    struct tl_session *session;
    struct tl_list due; /* struct tl_publish_request, in the order of the requests */
    size_t due_n;
    size_t bytes_n;      /* of messages and answers since it was empty */
    struct tl_buf out;   /* answers that nothing before them is waited for any more */
    struct tl_task task; /* sends them, when all of this turn are there */
    bool last;           /* the connection ends behind them */
};

/* --- the answers --- */

static struct tl_publish_request *first_due(const struct tl_posts *posts)
{
    return tl_list_empty(&posts->due)
               ? NULL
               : TL_CONTAINER(posts->due.next, struct tl_publish_request, node);
}

static void free_request(struct tl_publish_request *request)
{
    tl_reply_deinit(&request->reply);
    tl_buf_deinit(&request->behind);
    tl_buf_deinit(&request->body);
    tl_free(request);
}

static void put_count(struct tl_buf *json, struct tl_bytes name, int64_t n)
{
    uint8_t digits[TL_DECIMAL_MAX];
    tl_buf_put(json, name);
    tl_buf_put(json, tl_bytes(digits, tl_decimal_print(n > 0 ? (uint64_t)n : 0, digits)));
}

static void answer_published(const struct tl_publish_request *request, struct tl_buf *out)
{
    char token[TL_POSITION_TEXT_MAX];
    uint8_t room[TL_POSITION_TEXT_MAX + 64];
    struct tl_buf json = {.p = room, .cap = sizeof room}; /* which is only put into */
    if (request->publish.stream) {
        size_t n = tl_entry_id_print(request->publish.id, token);
        tl_buf_put(&json, TL_LIT("{\"id\":\""));
        tl_buf_put(&json, tl_bytes(token, n));
        tl_buf_put(&json, TL_LIT("\"}\n"));
    } else if (request->has_position) {
        size_t n = tl_position_print(request->position, token);
        put_count(&json, TL_LIT("{\"subscribers\":"), request->publish.receivers);
        tl_buf_put(&json, TL_LIT(",\"position\":\""));
        tl_buf_put(&json, tl_bytes(token, n));
        tl_buf_put(&json, TL_LIT("\"}\n"));
    } else {
        put_count(&json, TL_LIT("{\"receivers\":"), request->publish.receivers);
        tl_buf_put(&json, TL_LIT("}\n"));
    }
    tl_reply_write(&request->reply, out, 200, "application/json", tl_buf_bytes(&json));
}

static void answer(struct tl_publish_request *request, struct tl_buf *out)
{
    struct tl_reply *reply = &request->reply;
    const char *words = request->publish.error;
    switch (request->publish.status) {
    case TL_BROKER_OK:
        answer_published(request, out);
        return;
    case TL_BROKER_DENIED:
        tl_reply_refuse(reply, out, 403, "the broker forbids publishing here", words);
        return;
    case TL_BROKER_DOWN:
        tl_reply_refuse(reply, out, 503, "broker unavailable: not published",
                        "try again; see /readyz");
        return;
    case TL_BROKER_UNKNOWN:
        tl_reply_refuse(reply, out, 503, "broker lost: published or not is unknown",
                        "try again if a duplicate does no harm");
        return;
    case TL_BROKER_FAILED:
        tl_reply_refuse(reply, out, 503, "the broker refused the message", words);
        return;
    case TL_BROKER_FULL:
        tl_reply_refuse(reply, out, 503, "too much is waiting for the broker: not published",
                        "publish more slowly");
        return;
    }
}

static void end_behind(struct tl_posts *posts)
{
    posts->last = true;
    tl_session_read(posts->session, false);
}

/* The first one's answer is known. */
static void pop(struct tl_posts *posts, struct tl_publish_request *request,
                void (*write)(struct tl_publish_request *request, struct tl_buf *out))
{
    tl_list_remove(&request->node);
    posts->due_n--;
    if (tl_list_empty(&posts->due) && request->behind.n == 0) {
        if (posts->session->worker->draining)
            end_behind(posts);
        request->reply.keep_alive = request->reply.keep_alive && !posts->last;
    }
    write(request, &posts->out);
    posts->out.failed |= request->behind.failed;
    tl_buf_append(&posts->out, tl_buf_bytes(&request->behind));
    request->session = NULL;
    if (request->is_answered)
        free_request(request);
}

static void send_later(struct tl_posts *posts)
{
    tl_loop_defer(posts->session->worker->loop, &posts->task);
}

static void on_answer(struct tl_publish_request *request)
{
    struct tl_session *s = request->session;
    request->is_answered = true;
    if (!s) {
        free_request(request);
        return;
    }
    /* Any but the first waits for those before it, should the broker refuse it sooner. */
    struct tl_posts *posts = s->posts;
    while ((request = first_due(posts)) && request->is_answered) {
        pop(posts, request, answer);
        send_later(posts);
    }
}

static void on_task(struct tl_task *task)
{
    struct tl_posts *posts = TL_CONTAINER(task, struct tl_posts, task);
    struct tl_session *s = posts->session;
    struct tl_buf out = posts->out;
    bool over = tl_list_empty(&posts->due), last = posts->last;
    posts->out = (struct tl_buf){0};
    if (over)
        tl_posts_forget(s);
    if (!tl_session_own_buf(s, &out))
        return;
    if (over && last)
        tl_session_finish(s);
    else
        tl_request_go_on(s);
}

/* --- the requests --- */

static struct tl_posts *posts_of(struct tl_session *s)
{
    struct tl_posts *posts = s->posts ? s->posts : tl_zalloc(sizeof *posts);
    if (s->posts)
        return posts;
    if (!posts) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        return NULL;
    }
    posts->session = s;
    tl_list_init(&posts->due);
    tl_task_init(&posts->task, on_task);
    s->posts = posts;
    return posts;
}

/* Read on? */
static void added(struct tl_posts *posts, size_t bytes_n, bool keep_alive)
{
    struct tl_session *s = posts->session;
    tl_session_arm(s, IDLE_MS);
    posts->bytes_n += bytes_n;
    if (!keep_alive)
        end_behind(posts);
    else if (posts->due_n >= DUE_MAX || posts->bytes_n >= DUE_BYTES_MAX || s->own_n > UNREAD_MAX)
        tl_session_read(s, false);
}

void tl_posts_add(struct tl_session *s)
{
    struct tl_exchange *exchange = s->exchange;
    struct tl_posts *posts = posts_of(s);
    struct tl_publish_request *request = NULL;
    size_t bytes_n = exchange->body.n + exchange->reply.headers.n;
    tl_session_give_input(s); /* what waits for the broker has a bound there */
    if (posts)
        request =
            tl_worker_publish(s->worker, tl_exchange_name(exchange), &exchange->body, on_answer);
    if (!request) {
        if (posts && posts->due_n == 0 && posts->out.n == 0 && !posts->out.failed)
            tl_posts_forget(s);
        tl_exchange_refuse(s, 503, "out of memory: not published", "try again");
        return;
    }
    request->session = s;
    request->reply = exchange->reply;
    exchange->reply.headers = (struct tl_buf){0};
    tl_list_append(&posts->due, &request->node);
    posts->due_n++;
    tl_exchange_free(s);
    added(posts, bytes_n, request->reply.keep_alive);
}

void tl_posts_add_answer(struct tl_session *s, struct tl_buf *answer, bool keep_alive)
{
    struct tl_posts *posts = s->posts;
    bool due = !tl_list_empty(&posts->due);
    struct tl_buf *to =
        due ? &TL_CONTAINER(posts->due.prev, struct tl_publish_request, node)->behind : &posts->out;
    to->failed |= answer->failed;
    tl_buf_append(to, tl_buf_bytes(answer));
    if (!due)
        send_later(posts);
    added(posts, answer->n, keep_alive);
    tl_buf_deinit(answer);
}

/* --- the end --- */

static void answer_unknown(struct tl_publish_request *request, struct tl_buf *out)
{
    tl_reply_refuse(&request->reply, out, 503,
                    "the gateway is going away: published or not is unknown",
                    "try again if a duplicate does no harm");
}

void tl_posts_drain(struct tl_session *s)
{
    struct tl_posts *posts = s->posts;
    if (!s->exchange) /* a request that has begun is read first */
        end_behind(posts);
    if (tl_loop_now_ms(s->worker->loop) < s->worker->drain_until_ms)
        return;
    for (struct tl_publish_request *request; (request = first_due(posts));)
        pop(posts, request, request->is_answered ? answer : answer_unknown);
    send_later(posts);
}

void tl_posts_forget(struct tl_session *s)
{
    struct tl_posts *posts = s->posts;
    struct tl_list *l;
    if (!posts)
        return;
    s->posts = NULL;
    while ((l = tl_list_pop(&posts->due))) {
        struct tl_publish_request *request = TL_CONTAINER(l, struct tl_publish_request, node);
        request->session = NULL;
        if (request->is_answered)
            free_request(request);
    }
    tl_task_cancel(&posts->task);
    tl_buf_deinit(&posts->out);
    tl_free(posts);
}
