/*
 * Pages: what is answered without a channel. The gateway's own (health, readiness, metrics, a word
 * of welcome) and the documents that the operator's config holds ready. Routing and admission are
 * the request's affair; nothing here reads a file.
 */
#ifndef TL_GATEWAY_PAGES_H
#define TL_GATEWAY_PAGES_H

#include "gateway/config.h"
#include "gateway/session.h"

enum tl_page_kind {
    TL_PAGE_NONE,
    TL_PAGE_HOME,
    TL_PAGE_HEALTH,
    TL_PAGE_READY,
    TL_PAGE_METRICS,
    TL_PAGE_DOCUMENT,
};

struct tl_page {
    enum tl_page_kind kind;
    const struct tl_document *document; /* DOCUMENT */
};

/* The page at a path, percent-encoding as it came; kind NONE when there is none. Any thread. */
struct tl_page tl_page_find(const struct tl_config *config, struct tl_bytes path);

/* Answer the session's exchange with the page, which is not NONE. Thread: the session's. */
void tl_page_answer(struct tl_session *s, struct tl_page page);

#endif
