/*
 * A small HTTP/1.1 client for the terminal tools: one connection, requests pipelined, answers in
 * the order of the requests, bodies streamed. It follows no redirects, speaks no TLS and is not
 * for the gateway: connecting blocks. One thread.
 */
#ifndef TL_APP_HTTP_CLIENT_H
#define TL_APP_HTTP_CLIENT_H

#include "base/bytes.h"

struct tl_http_client;

/* Called from within tl_http_client_io() and _wait(); bytes are lent for the call. */
struct tl_http_events {
    void (*on_head)(void *user, unsigned status);
    void (*on_body)(void *user, struct tl_bytes part);
    void (*on_end)(void *user); /* the answer is whole */
};

/*
 * A client for http://host[:port]; nothing is connected yet. token: sent as a bearer
 * token, NULL or "" for none. Returns 0; -EINVAL when the URL is none, -ENOMEM. Owner: the caller,
 * until tl_http_client_free(); url and token are copied.
 */
TL_MUST_USE int tl_http_client_new(struct tl_http_client **ret_client, const char *url,
                                   const char *token, const struct tl_http_events *events,
                                   void *user);

/* Closes the connection. Takes NULL. */
void tl_http_client_free(struct tl_http_client *c);

/* "host:port", for messages. */
const char *tl_http_client_where(const struct tl_http_client *c);

/* What went wrong last, as text. */
const char *tl_http_client_error(const struct tl_http_client *c);

/*
 * Connect, forgetting an older connection with all that waits on it. Blocks for at most timeout_ms
 * for each address of the host. Returns 0, or -errno with the reason in _error().
 */
TL_MUST_USE int tl_http_client_connect(struct tl_http_client *c, int timeout_ms);

/* Close the connection, if there is one; the client may connect again. Not from within an event. */
void tl_http_client_close(struct tl_http_client *c);

/* Use a connected stream socket instead; the client owns it from here on. 0 or -errno. */
TL_MUST_USE int tl_http_client_adopt(struct tl_http_client *c, int fd);

/*
 * Queue a request. target is the path, already encoded; headers are whole lines
 * with CRLF ("" for none). 0 or -ENOMEM. Needs a connection.
 */
TL_MUST_USE int tl_http_client_request(struct tl_http_client *c, const char *method,
                                       const char *target, const char *headers,
                                       struct tl_bytes body);

/* For poll(2): the descriptor, -1 without a connection, and the events to wait for. */
int tl_http_client_fd(const struct tl_http_client *c);
short tl_http_client_poll_events(const struct tl_http_client *c);

/*
 * Send and receive what goes without waiting, of an endless answer some. Returns 0; -EPIPE when the
 * peer ended the connection (answers that were not whole never come), -EPROTO when it does not
 * speak HTTP, or another -errno. After an error the connection is closed and _error() says why.
 */
TL_MUST_USE int tl_http_client_io(struct tl_http_client *c);

/* The same after waiting for at most timeout_ms until something can be done. */
TL_MUST_USE int tl_http_client_wait(struct tl_http_client *c, int timeout_ms);

#endif
