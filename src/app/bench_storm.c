/* What a resume storm of the bench needs before it: where each channel stands. */
#include "app/bench.h"
#include "app/http_client.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"

#include <jansson.h>
#include <stdio.h>

#define ASK_WINDOW 64 /* questions that wait for their answers */
#define ANSWER_MAX 4096

struct asking {
    struct tl_http_client *http;
    const struct tl_swarm_plan *plan;
    char (*positions)[TL_STORM_ID_MAX];
    uint32_t asked, answered;
    unsigned status;
    struct tl_buf body;
    const char *wrong; /* with an answer */
};

static void on_head(void *user, unsigned status)
{
    struct asking *a = user;
    a->status = status;
    a->body.n = 0;
}

static void on_body(void *user, struct tl_bytes part)
{
    struct asking *a = user;
    if (a->body.n + part.n <= ANSWER_MAX)
        tl_buf_append(&a->body, part);
}

/* {"position": "..."} */
static void on_end(void *user)
{
    struct asking *a = user;
    if (a->answered == a->asked)
        return; /* to nothing */
    json_t *answer = json_loadb((char *)a->body.p, a->body.n, 0, NULL);
    const char *position = json_string_value(json_object_get(answer, "position"));
    if (a->status != 200 || !position || strlen(position) >= TL_STORM_ID_MAX)
        a->wrong = a->body.failed ? "out of memory" : "its answer is not {\"position\": \"...\"}";
    else
        memcpy(a->positions[a->answered], position, strlen(position) + 1);
    json_decref(answer);
    a->answered++;
}

static bool ask_one(struct asking *a, const char *path)
{
    char name[300];
    struct tl_buf target = {0};
    snprintf(name, sizeof name, "%.255s%u", a->plan->prefix, a->asked++);
    tl_swarm_expand(&target, path, name, true);
    tl_buf_byte(&target, 0);
    bool asked = !target.failed && tl_http_client_request(a->http, "GET", (char *)target.p, "",
                                                          tl_bytes(NULL, 0)) == 0;
    tl_buf_deinit(&target);
    return asked;
}

static const char *ask_all(struct asking *a, const struct tl_bench_options *o, uint32_t n)
{
    uint64_t end_ms = tl_clock_ms() + o->timeout_ms;
    if (tl_http_client_connect(a->http, (int)(o->timeout_ms < 60000 ? o->timeout_ms : 60000)) < 0)
        return tl_http_client_error(a->http);
    while (a->answered < n && !a->wrong) {
        uint32_t before = a->answered;
        while (a->asked < n && a->asked - a->answered < ASK_WINDOW)
            if (!ask_one(a, o->position))
                return "out of memory";
        if (tl_http_client_wait(a->http, 100) < 0)
            return tl_http_client_error(a->http);
        if (a->answered > before)
            end_ms = tl_clock_ms() + o->timeout_ms;
        else if (tl_clock_ms() > end_ms)
            return "no answer in time";
    }
    return a->wrong;
}

bool tl_bench_ask_positions(const struct tl_bench_options *options,
                            const struct tl_swarm_plan *plan,
                            char (**ret_positions)[TL_STORM_ID_MAX], char *error, size_t error_n)
{
    static const struct tl_http_events events = {on_head, on_body, on_end};
    uint32_t n = plan->watch_all ? 1 : plan->channels_n;
    char url[320];
    struct asking a = {.plan = plan};
    const char *wrong = "out of memory";
    snprintf(url, sizeof url, "http://%.300s", plan->host);
    *ret_positions = a.positions = tl_zalloc((size_t)n * sizeof *a.positions);
    if (a.positions && tl_http_client_new(&a.http, url, options->token, &events, &a) == 0)
        wrong = ask_all(&a, options, n);
    if (wrong)
        snprintf(error, error_n, "asking %.100s for positions: %.200s", options->position, wrong);
    tl_http_client_free(a.http);
    tl_buf_deinit(&a.body);
    return !wrong;
}
