#include "gateway/reply.h"

#include "base/metrics.h"
#include "proto/http1.h"

static void write_answer(const struct tl_reply *reply, struct tl_buf *out, int status,
                         const char *content_type, struct tl_bytes body, bool head_only)
{
    struct tl_http1_response response = {
        .status = status,
        .content_type = content_type,
        .extra = tl_buf_bytes(&reply->headers),
        .body = body,
        .minor = reply->minor,
        .keep_alive = reply->keep_alive,
        .is_head = head_only,
    };
    out->failed |= reply->headers.failed;
    tl_http1_respond(out, &response);
}

void tl_reply_write(const struct tl_reply *reply, struct tl_buf *out, int status,
                    const char *content_type, struct tl_bytes body)
{
    write_answer(reply, out, status, content_type, body, reply->is_head);
}

void tl_reply_write_head(const struct tl_reply *reply, struct tl_buf *out, int status,
                         const char *content_type, struct tl_bytes body)
{
    write_answer(reply, out, status, content_type, body, true);
}

void tl_reply_refuse(struct tl_reply *reply, struct tl_buf *out, int status, const char *error,
                     const char *hint)
{
    struct tl_buf body = {0};
    tl_metric_add(TL_M_REFUSED_REQUESTS, 1);
    if (status == 503)
        tl_buf_str(&reply->headers, "Retry-After: 1\r\n");
    if (status == 426)
        tl_buf_str(&reply->headers, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    /* What the peer sends next cannot be trusted to begin where we think, or will not be read. */
    if (status != 503 && status != 403 && status != 404)
        reply->keep_alive = false;
    tl_http1_error_body(&body, error, hint);
    tl_buf_byte(&body, '\n');
    reply->headers.failed |= body.failed;
    tl_reply_write(reply, out, status, "application/json", tl_buf_bytes(&body));
    tl_buf_deinit(&body);
}

void tl_reply_deinit(struct tl_reply *reply)
{
    tl_buf_deinit(&reply->headers);
}
