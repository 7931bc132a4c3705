#include "gateway/inspect.h"

#include "base/alloc.h"
#include "gateway/exchange.h"
#include "proto/json.h"

#include <inttypes.h>

static const char *const lane_names[TL_LANE_N] = {"websocket", "sse", "sse"};

/* --- on each worker --- */

/* Keep the slowest, in order. */
static void add_lag(struct tl_inspect *inspect, enum tl_lane_kind lane, uint64_t msgs)
{
    unsigned at = inspect->slowest_n;
    while (at > 0 && inspect->slowest[at - 1].msgs < msgs)
        at--;
    if (at == TL_INSPECT_SLOWEST)
        return;
    if (inspect->slowest_n < TL_INSPECT_SLOWEST)
        inspect->slowest_n++;
    memmove(&inspect->slowest[at + 1], &inspect->slowest[at],
            (inspect->slowest_n - 1 - at) * sizeof *inspect->slowest);
    inspect->slowest[at] = (struct tl_inspect_lag){lane, msgs};
}

static void look_at_view(struct tl_inspect *inspect, const struct tl_channel_view *view)
{
    for (const struct tl_list *l = view->subscriptions.next; l != &view->subscriptions;
         l = l->next) {
        const struct tl_subscription *sub = TL_CONTAINER(l, const struct tl_subscription, node);
        inspect->subscribers[view->lane]++;
        if (sub->live && sub->off < view->view.head.off)
            add_lag(inspect, view->lane, view->view.head.msg - sub->msg);
    }
}

static void on_worker(struct tl_mail *mail)
{
    struct tl_inspect *inspect = TL_CONTAINER(mail, struct tl_inspect, mail);
    struct tl_worker *worker = tl_hub_worker(inspect->hub, inspect->at);
    uint8_t key[256];
    memcpy(key + 1, inspect->name, inspect->name_n);
    for (int lane = 0; lane < TL_LANE_N; lane++) {
        key[0] = (uint8_t)lane;
        struct tl_map_node *node = tl_map_find(&worker->views, tl_bytes(key, inspect->name_n + 1u));
        if (node)
            look_at_view(inspect, TL_CONTAINER(node, struct tl_channel_view, node));
    }
    inspect->at++;
    tl_inspect_pass_on(inspect);
}

/* --- the answer --- */

static void print_position(struct tl_buf *out, const char *name, struct tl_position position)
{
    char token[TL_POSITION_TEXT_MAX];
    tl_position_print(position, token);
    tl_buf_printf(out, ",\"%s\":\"%s\"", name, token);
}

static void print(struct tl_buf *out, const struct tl_inspect *inspect)
{
    static const char *const states[] = {"idle", "subscribing", "live", "lingering",
                                         "unsubscribing"};
    tl_buf_str(out, "{\"channel\":");
    tl_json_string(out, tl_bytes(inspect->name, inspect->name_n));
    tl_buf_printf(
        out, ",\"state\":\"%s\",\"subscribers\":{\"websocket\":%" PRIu64 ",\"sse\":%" PRIu64 "}",
        states[inspect->state], inspect->subscribers[TL_LANE_WS],
        inspect->subscribers[TL_LANE_SSE] + inspect->subscribers[TL_LANE_SSE_TAGGED]);
    print_position(out, "position", inspect->head);
    print_position(out, "oldest", inspect->oldest);
    tl_buf_printf(out, ",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"slowest\":[",
                  inspect->messages, inspect->bytes);
    for (unsigned i = 0; i < inspect->slowest_n; i++)
        tl_buf_printf(out, "%s{\"kind\":\"%s\",\"lag\":%" PRIu64 "}", i > 0 ? "," : "",
                      lane_names[inspect->slowest[i].lane], inspect->slowest[i].msgs);
    tl_buf_str(out, "]}\n");
}

static void answer(struct tl_session *s, const struct tl_inspect *inspect)
{
    struct tl_buf json = {0};
    s->exchange->inspect = NULL;
    if (!inspect->found) {
        tl_exchange_refuse(s, 404, "no such channel now",
                           "a channel is there while it is watched, and for the linger");
        return;
    }
    print(&json, inspect);
    if (json.failed)
        tl_exchange_refuse(s, 503, "out of memory", "try again");
    else
        tl_exchange_respond(s, 200, "application/json", tl_buf_bytes(&json));
    tl_buf_deinit(&json);
}

static void on_asker(struct tl_mail *mail)
{
    struct tl_inspect *inspect = TL_CONTAINER(mail, struct tl_inspect, mail);
    struct tl_worker *asker = inspect->asker;
    if (inspect->session)
        answer(inspect->session, inspect);
    tl_free(inspect);
    tl_worker_request_over(asker);
}

void tl_inspect_pass_on(struct tl_inspect *inspect)
{
    struct tl_worker *next = tl_hub_worker(inspect->hub, inspect->at);
    inspect->mail.deliver = next ? on_worker : on_asker;
    tl_mailbox_post(tl_loop_mailbox((next ? next : inspect->asker)->loop), &inspect->mail);
}

/* --- the question --- */

void tl_inspect_start(struct tl_session *s)
{
    struct tl_bytes name = tl_exchange_name(s->exchange);
    struct tl_inspect *inspect = tl_zalloc(sizeof *inspect);
    if (!inspect) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_exchange_refuse(s, 503, "out of memory", "try again");
        return;
    }
    inspect->hub = s->worker->hub;
    inspect->asker = s->worker;
    inspect->session = s;
    inspect->name_n = (uint8_t)name.n;
    memcpy(inspect->name, name.p, name.n);
    inspect->mail.deliver = tl_hub_on_inspect;
    s->exchange->inspect = inspect;
    s->worker->publishes_n++;
    tl_session_set_phase(s, &tl_phase_pending);
    tl_session_read(s, false);
    tl_hub_post(s->worker->hub, s->worker, &inspect->mail);
}

void tl_inspect_forget(struct tl_inspect *inspect)
{
    if (inspect)
        inspect->session = NULL;
}
