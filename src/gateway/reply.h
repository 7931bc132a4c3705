/*
 * What the answer to an HTTP request needs to know of it once its bytes are gone, and the answer's
 * bytes. It knows no session and decides nothing about connections but which statuses end them.
 */
#ifndef TL_GATEWAY_REPLY_H
#define TL_GATEWAY_REPLY_H

#include "base/buf.h"

struct tl_reply {
    struct tl_buf headers; /* more response headers, whole lines: CORS */
    uint8_t minor;         /* of the request's version */
    bool keep_alive;       /* the connection goes on behind the answer */
    bool is_head;
};

/* Append the answer. Want of memory, that of the headers too, sets out->failed: never half an
 * answer is sent. */
void tl_reply_write(const struct tl_reply *reply, struct tl_buf *out, int status,
                    const char *content_type, struct tl_bytes body);

/* The same without the body, which follows on its own unless the request was HEAD. */
void tl_reply_write_head(const struct tl_reply *reply, struct tl_buf *out, int status,
                         const char *content_type, struct tl_bytes body);

/* Append {error, hint} with the headers that belong to the status, some of which end the
 * connection. Counts the refusal. */
void tl_reply_refuse(struct tl_reply *reply, struct tl_buf *out, int status, const char *error,
                     const char *hint);

void tl_reply_deinit(struct tl_reply *reply);

#endif
