#include "app/http_client.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/url.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <http_parser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536
#define READS_MAX  4 /* then the caller looks at its clock and its signals */

struct tl_http_client {
    char host[256], port[8];
    char where[272];
    char *authorization; /* a whole header line, or NULL */
    const struct tl_http_events *events;
    void *user;
    int fd;
    struct tl_buf out;
    http_parser parser;
    char error[200];
};

static int fail(struct tl_http_client *c, int code, const char *what)
{
    tl_http_client_close(c);
    snprintf(c->error, sizeof c->error, "%s", what);
    return code;
}

static int on_headers_complete(http_parser *parser)
{
    struct tl_http_client *c = parser->data;
    c->events->on_head(c->user, parser->status_code);
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t n)
{
    struct tl_http_client *c = parser->data;
    c->events->on_body(c->user, tl_bytes(at, n));
    return 0;
}

static int on_message_complete(http_parser *parser)
{
    struct tl_http_client *c = parser->data;
    /* "100 Continue" and its like come before the answer. */
    if (parser->status_code >= 200)
        c->events->on_end(c->user);
    return 0;
}

static int read_url(struct tl_http_client *c, const char *text)
{
    struct tl_url url;
    const char *wrong;
    if (tl_url_parse(tl_bytes_str(text), &url, &wrong) < 0 || url.scheme != TL_URL_HTTP)
        return -EINVAL;
    snprintf(c->host, sizeof c->host, "%s", url.host);
    snprintf(c->port, sizeof c->port, "%u", url.port);
    snprintf(c->where, sizeof c->where, strchr(c->host, ':') ? "[%s]:%s" : "%s:%s", c->host,
             c->port);
    explicit_bzero(&url, sizeof url);
    return 0;
}

int tl_http_client_new(struct tl_http_client **ret_client, const char *url, const char *token,
                       const struct tl_http_events *events, void *user)
{
    struct tl_http_client *c = tl_zalloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    c->fd = -1;
    c->events = events;
    c->user = user;
    int rc = read_url(c, url);
    if (rc == 0 && token && *token) {
        struct tl_buf line = {0};
        tl_buf_printf(&line, "Authorization: Bearer %s\r\n", token);
        tl_buf_byte(&line, 0);
        if (line.failed) {
            rc = -ENOMEM;
            tl_buf_deinit(&line);
        }
        c->authorization = (char *)line.p;
    }
    if (rc < 0) {
        tl_http_client_free(c);
        return rc;
    }
    *ret_client = c;
    return 0;
}

void tl_http_client_free(struct tl_http_client *c)
{
    if (!c)
        return;
    tl_http_client_close(c);
    if (c->authorization)
        explicit_bzero(c->authorization, strlen(c->authorization));
    tl_free(c->authorization);
    tl_buf_deinit(&c->out);
    tl_free(c);
}

const char *tl_http_client_where(const struct tl_http_client *c)
{
    return c->where;
}

const char *tl_http_client_error(const struct tl_http_client *c)
{
    return c->error;
}

void tl_http_client_close(struct tl_http_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

int tl_http_client_adopt(struct tl_http_client *c, int fd)
{
    tl_http_client_close(c);
    c->fd = fd;
    tl_buf_deinit(&c->out);
    http_parser_init(&c->parser, HTTP_RESPONSE);
    c->parser.data = c;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return fail(c, -errno, strerror(errno));
    return 0;
}

/* A connected socket, or -errno. */
static int connect_to(const struct addrinfo *address, int timeout_ms)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int error = connect(fd, address->ai_addr, address->ai_addrlen) < 0 ? errno : 0;
    if (error == EINPROGRESS) {
        struct pollfd waiting = {.fd = fd, .events = POLLOUT};
        socklen_t n = sizeof error;
        int ready = poll(&waiting, 1, timeout_ms);
        if (ready < 0)
            error = errno;
        else if (ready == 0)
            error = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
            error = errno;
    }
    if (error) {
        close(fd);
        return -error;
    }
    return fd;
}

int tl_http_client_connect(struct tl_http_client *c, int timeout_ms)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses;
    char text[160];
    int rc = getaddrinfo(c->host, c->port, &hints, &addresses);
    if (rc != 0)
        return fail(c, -EHOSTUNREACH, gai_strerror(rc));
    int fd = -EHOSTUNREACH;
    for (const struct addrinfo *a = addresses; a && fd < 0; a = a->ai_next)
        fd = connect_to(a, timeout_ms);
    freeaddrinfo(addresses);
    if (fd < 0) {
        snprintf(text, sizeof text, "%s", strerror(-fd));
        return fail(c, fd, text);
    }
    return tl_http_client_adopt(c, fd);
}

int tl_http_client_request(struct tl_http_client *c, const char *method, const char *target,
                           const char *headers, struct tl_bytes body)
{
    assert(c->fd >= 0);
    tl_buf_printf(&c->out, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tramline/%s\r\n", method,
                  target, c->where, TL_VERSION);
    tl_buf_str(&c->out, c->authorization ? c->authorization : "");
    tl_buf_str(&c->out, headers);
    if (strcmp(method, "GET") != 0)
        tl_buf_printf(&c->out, "Content-Length: %zu\r\n", body.n);
    tl_buf_str(&c->out, "\r\n");
    tl_buf_append(&c->out, body);
    return c->out.failed ? -ENOMEM : 0;
}

int tl_http_client_fd(const struct tl_http_client *c)
{
    return c->fd;
}

short tl_http_client_poll_events(const struct tl_http_client *c)
{
    return c->out.n > 0 ? POLLIN | POLLOUT : POLLIN;
}

static int send_some(struct tl_http_client *c)
{
    size_t done = 0;
    while (done < c->out.n) {
        ssize_t n = send(c->fd, c->out.p + done, c->out.n - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        done += (size_t)n;
    }
    int error = done < c->out.n ? errno : 0;
    tl_buf_consume(&c->out, done);
    /* The peer may have answered and closed before it read everything: read that first. */
    if (error == EPIPE || error == ECONNRESET) {
        tl_buf_deinit(&c->out);
        return 0;
    }
    return error && error != EAGAIN ? fail(c, -error, strerror(error)) : 0;
}

static int parse(struct tl_http_client *c, const char *bytes, size_t n)
{
    static const http_parser_settings settings = {.on_headers_complete = on_headers_complete,
                                                  .on_body = on_body,
                                                  .on_message_complete = on_message_complete};
    size_t used = http_parser_execute(&c->parser, &settings, bytes, n);
    if (HTTP_PARSER_ERRNO(&c->parser) == HPE_OK && !c->parser.upgrade && used == n)
        return 0;
    return fail(c, -EPROTO, "the answer is not HTTP/1.1; is this the port of a gateway?");
}

static int receive_some(struct tl_http_client *c)
{
    char bytes[READ_BYTES];
    for (int reads = 0; reads < READS_MAX; reads++) {
        ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            return fail(c, -errno, strerror(errno));
        int rc = parse(c, bytes, (size_t)n);
        if (rc < 0)
            return rc;
        if (n == 0)
            return fail(c, -EPIPE, "the connection was closed");
        if ((size_t)n < sizeof bytes)
            return 0;
    }
    return 0;
}

int tl_http_client_io(struct tl_http_client *c)
{
    if (c->fd < 0)
        return -ENOTCONN;
    int rc = send_some(c);
    return rc < 0 ? rc : receive_some(c);
}

int tl_http_client_wait(struct tl_http_client *c, int timeout_ms)
{
    if (c->fd < 0)
        return -ENOTCONN;
    struct pollfd waiting = {.fd = c->fd, .events = tl_http_client_poll_events(c)};
    if (poll(&waiting, 1, timeout_ms) < 0 && errno != EINTR)
        return fail(c, -errno, strerror(errno));
    return tl_http_client_io(c);
}
