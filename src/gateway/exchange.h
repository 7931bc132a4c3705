/*
 * The HTTP request that a session is busy with: what later steps need of it once its bytes are
 * gone. Lives from a request's first byte to its response, or to the acknowledgement of the
 * subscription that it asked for; idle connections have none.
 */
#ifndef TL_GATEWAY_EXCHANGE_H
#define TL_GATEWAY_EXCHANGE_H

#include "gateway/asked.h"
#include "gateway/inspect.h"
#include "gateway/reply.h"
#include "gateway/route.h"
#include "gateway/session.h"
#include "gateway/terms.h"
#include "proto/http1.h"

struct tl_exchange {
    struct tl_http1 http;
    bool in_body;
    bool keep_alive_after_body; /* once the body was read whole */
    struct tl_reply reply;      /* its keep_alive is that of now */
    struct tl_terms terms;
    struct tl_snapshot snapshot; /* what it begins with, once it is acknowledged */
    uint32_t seek_due;           /* see tl_channel_view_settles() */
    struct tl_asked *asked;      /* several channels, or NULL */
    const struct tl_route *route;
    struct tl_inspect *inspect; /* on its way, or NULL */
    struct tl_buf body;
    size_t body_seen; /* for the deadline: bytes when it was last put off */
    char accept[29];  /* WebSocket: Sec-WebSocket-Accept */
    uint8_t name_n;
    uint8_t name[TL_TEMPLATE_NAME_MAX];
};

static inline struct tl_bytes tl_exchange_name(const struct tl_exchange *exchange)
{
    return tl_bytes(exchange->name, exchange->name_n);
}

/* Answer the request, behind the answers that are due: the phase afterwards is the next request's,
 * or the end. */
void tl_exchange_respond(struct tl_session *s, int status, const char *content_type,
                         struct tl_bytes body);
/* The same with 200 and a body that is sent from where it lies, for as long as the process lives.
 * No answer is due. */
void tl_exchange_lend(struct tl_session *s, const char *content_type, struct tl_bytes body);
/* The same with {error, hint}; statuses that close the connection do. Counts the refusal. */
void tl_exchange_refuse(struct tl_session *s, int status, const char *error, const char *hint);

/* Is the session's subscription to begin with a snapshot? */
bool tl_exchange_wants_snapshot(const struct tl_session *s);
/* Where the acknowledged subscription begins, by the request's terms and the channel's rule; see
 * tl_terms_start(). Sets exchange->snapshot. */
enum tl_resume tl_exchange_start(struct tl_session *s, struct tl_mark *ret_from,
                                 uint64_t *ret_missed);
/* The same for another view and its terms. */
enum tl_resume tl_exchange_start_in(const struct tl_session *s, const struct tl_channel_view *view,
                                    const struct tl_terms *terms, struct tl_mark *ret_from,
                                    uint64_t *ret_missed);

#endif
