#include "gateway/pages.h"

#include "gateway/exchange.h"

#define PATH(s)                                                                                    \
    {                                                                                              \
        (const uint8_t *)(s), sizeof(s) - 1                                                        \
    }

struct tl_page tl_page_find(const struct tl_config *config, struct tl_bytes path)
{
    static const struct {
        struct tl_bytes path;
        enum tl_page_kind kind;
    } own[] = {
        {PATH(""), TL_PAGE_HOME},
        {PATH("/"), TL_PAGE_HOME},
        {PATH("/healthz"), TL_PAGE_HEALTH},
        {PATH("/readyz"), TL_PAGE_READY},
        {PATH("/metrics"), TL_PAGE_METRICS},
    };
    for (size_t i = 0; i < config->documents_n; i++)
        if (tl_bytes_eq(path, config->documents[i].path))
            return (struct tl_page){TL_PAGE_DOCUMENT, &config->documents[i]};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (tl_bytes_eq(path, own[i].path))
            return (struct tl_page){own[i].kind, NULL};
    return (struct tl_page){TL_PAGE_NONE, NULL};
}

static void answer_metrics(struct tl_session *s)
{
    struct tl_buf text = {0};
    tl_metrics_text(&text);
    if (text.failed) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_exchange_refuse(s, 503, "out of memory", "try again");
    } else
        tl_exchange_respond(s, 200, "text/plain; version=0.0.4; charset=utf-8",
                            tl_buf_bytes(&text));
    tl_buf_deinit(&text);
}

static void answer_ready(struct tl_session *s)
{
    if (s->worker->draining)
        tl_exchange_refuse(s, 503, "draining", "the gateway is going away");
    else if (!tl_hub_is_ready(s->worker->hub))
        tl_exchange_refuse(s, 503, "broker unavailable", "see the gateway's log");
    else
        tl_exchange_respond(s, 200, "application/json", TL_LIT("{\"ready\":true}\n"));
}

/* The page may run its own scripts and talk to its own gateway, whatever a payload tries. */
static void answer_document(struct tl_session *s, const struct tl_document *document)
{
    tl_buf_str(&s->exchange->reply.headers,
               "Cache-Control: no-cache\r\n"
               "X-Content-Type-Options: nosniff\r\n"
               "Referrer-Policy: no-referrer\r\n"
               "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
               "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
               "frame-ancestors 'none'\r\n");
    tl_exchange_lend(s, document->content_type, document->body);
}

static const char welcome[] = "Tramline " TL_VERSION "\n\n"
                              "GET  /ws/{channel}    WebSocket: payloads and nothing else\n"
                              "GET  /sse/{channel}   Server-Sent Events\n"
                              "POST /pub/{channel}   publish the body\n"
                              "GET  /position/{channel}  where it stands: /ws/...?since=\n"
                              "GET  /chat/{room}     WebSocket, both ways\n"
                              "GET  /channels/{channel}  who watches it, and how slowly\n"
                              "GET  /healthz /readyz /metrics\n";

void tl_page_answer(struct tl_session *s, struct tl_page page)
{
    switch (page.kind) {
    case TL_PAGE_HOME:
        tl_exchange_respond(s, 200, "text/plain; charset=utf-8", tl_bytes_str(welcome));
        break;
    case TL_PAGE_HEALTH:
        tl_exchange_respond(s, 200, "application/json", TL_LIT("{\"healthy\":true}\n"));
        break;
    case TL_PAGE_READY:
        answer_ready(s);
        break;
    case TL_PAGE_METRICS:
        answer_metrics(s);
        break;
    case TL_PAGE_DOCUMENT:
        answer_document(s, page.document);
        break;
    case TL_PAGE_NONE:
        break;
    }
}
