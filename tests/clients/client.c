/* One connection's life: connect, ask, be acked, read, go. */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct results results;
int epoll_fd = -1;
uint64_t now_us;

static uint8_t input[256 * 1024];

void problem(const char *format, ...)
{
    char text[sizeof results.first_problem];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e || *p == '"' || *p == '\\')
            *p = '?';
    if (!results.first_problem[0])
        memcpy(results.first_problem, text, sizeof text);
    if (options.verbose)
        fprintf(stderr, "tl-check: %s\n", text);
}

static void watch(struct client *c, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u64 = client_tag(c)};
    if (epoll_ctl(epoll_fd, op, c->fd, &ev))
        perror("tl-check: epoll_ctl");
}

void client_drop(struct client *c, bool reset)
{
    if (c->fd >= 0) {
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        if (reset)
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(c->fd);
    }
    c->fd = -1;
    c->state = STATE_CLOSED;
    /* held stays: its reader may be on the stack */
}

void client_failed(struct client *c, const char *why)
{
    if (c->state == STATE_CLOSED)
        return;
    if (c->role != ROLE_CHURN && c->state == STATE_LIVE) {
        results.closed_early++;
        problem("%s client of %s: %s (close code %u, at message %u)",
                c->kind == KIND_WS ? "ws" : "sse", c->channel->name, why, c->close_code, c->next);
    }
    client_drop(c, false);
}

static void connect_failed(struct client *c, int error)
{
    results.connect_errors++;
    problem("connect: %s", strerror(error));
    client_drop(c, false);
}

void client_start(struct client *c)
{
    static uint32_t source;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;
    c->status = c->close_code = 0;
    c->gap_told = false;
    c->held.n = 0;
    bytes_free(&c->fragment);
    c->started_us = now_us;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        connect_failed(c, errno);
        return;
    }
    if (ntohl(options.target.sin_addr.s_addr) >> 24 == 127) {
        uint32_t which = source++ % options.sources_n;
        from.sin_addr.s_addr = htonl(0x7f010000u + (which >> 7 << 8) + (which & 127) + 1);
        setsockopt(c->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) {
            connect_failed(c, errno);
            return;
        }
    }
    c->state = STATE_CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&options.target, sizeof options.target) &&
        errno != EINPROGRESS) {
        connect_failed(c, errno);
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static int request_of(struct client *c, char *out, size_t cap)
{
    const char *path = c->kind == KIND_WS ? options.path_ws : options.path_sse;
    const char *mark = strstr(path, "{c}");
    int n =
        snprintf(out, cap, "GET %.*s%s%s HTTP/1.1\r\nHost: %s\r\n%s",
                 mark ? (int)(mark - path) : (int)strlen(path), path, mark ? c->channel->name : "",
                 mark ? mark + 3 : "", options.host, options.headers);
    if (c->kind == KIND_WS) {
        websocket_key(c);
        n += snprintf(out + n, cap - (size_t)n,
                      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: %s\r\n",
                      c->key);
    } else if (c->sse && c->sse->last_id[0]) {
        n += snprintf(out + n, cap - (size_t)n, "Last-Event-ID: %s\r\n", c->sse->last_id);
    }
    return n + snprintf(out + n, cap - (size_t)n, "\r\n");
}

/*
 * What must not come any more to who asks now. The gateway's answer to a publish says that it has
 * the message; Redis' says nothing about the gateway, so there it counts who has received it.
 */
static uint32_t known_n(const struct channel *ch)
{
    return options.publish == PUBLISH_REDIS ? ch->done_n : ch->answered_n;
}

void client_ask(struct client *c)
{
    char request[8192];
    int n = request_of(c, request, sizeof request);
    c->earliest = known_n(c->channel);
    c->state = STATE_ASKED;
    watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
    if (write(c->fd, request, (size_t)n) != n)
        client_failed(c, "the request could not be written");
}

void client_ready(struct client *c)
{
    c->state = STATE_LIVE;
    c->latest = c->channel->published_n;
    if (!c->counted_ready && c->role != ROLE_CHURN) {
        c->counted_ready = true;
        results.ready_n++;
    }
    if (c->role == ROLE_STALLED)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
}

static const char *header(const char *head, const char *name, size_t *ret_n)
{
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        size_t name_n = strlen(name);
        if (strncasecmp(line + 2, name, name_n) != 0 || line[2 + name_n] != ':')
            continue;
        const char *value = line + 3 + name_n;
        value += strspn(value, " \t");
        *ret_n = strcspn(value, "\r");
        return value;
    }
    return NULL;
}

static void refused(struct client *c)
{
    results.refused += c->role != ROLE_CHURN;
    if (!results.first_refusal)
        results.first_refusal = c->status;
    if (c->role != ROLE_CHURN)
        problem("%s: refused with %u", c->channel->name, c->status);
    client_drop(c, false);
}

static void on_head(struct client *c, const char *head)
{
    size_t n = 0;
    const char *value = NULL;
    c->status = (uint16_t)strtoul(strchr(head, ' ') ? strchr(head, ' ') : "0", NULL, 10);
    if (c->status != (c->kind == KIND_WS ? 101 : 200)) {
        refused(c);
        return;
    }
    if (c->kind == KIND_WS) {
        value = header(head, "Sec-WebSocket-Accept", &n);
        if (!value || !websocket_accepts(c, value, n)) {
            results.protocol_errors++;
            client_failed(c, "a wrong Sec-WebSocket-Accept");
            return;
        }
        client_ready(c);
        return;
    }
    value = header(head, "Content-Type", &n);
    if (!value || strncmp(value, "text/event-stream", 17) != 0) {
        results.protocol_errors++;
        client_failed(c, "no event stream");
        return;
    }
    value = header(head, "Transfer-Encoding", &n);
    sse_open(c, value && n == 7 && !strncasecmp(value, "chunked", 7));
    c->state = STATE_OPENED;
}

/* Returns how many bytes of the response's head were used: all or none. */
static size_t feed_head(struct client *c, const uint8_t *bytes, size_t n)
{
    const uint8_t *end = memmem(bytes, n, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head_n = (size_t)(end - bytes) + 4;
    char *head = must(strndup((const char *)bytes, head_n));
    if (strncmp(head, "HTTP/1.1 ", 9) != 0)
        client_failed(c, "no HTTP");
    else
        on_head(c, head);
    free(head);
    return head_n;
}

static size_t feed(struct client *c, const uint8_t *bytes, size_t n)
{
    size_t used = 0;
    if (c->state == STATE_ASKED)
        used = feed_head(c, bytes, n);
    if (c->kind == KIND_SSE && (c->state == STATE_OPENED || c->state == STATE_LIVE)) {
        sse_feed(c, bytes + used, n - used);
        used = n;
    } else if (c->kind == KIND_WS && c->state == STATE_LIVE && c->role != ROLE_STALLED) {
        used += websocket_feed(c, bytes + used, n - used);
    }
    return used;
}

static void on_input(struct client *c, size_t n)
{
    if (c->held.n) {
        bytes_add(&c->held, input, n);
        size_t used = feed(c, c->held.at, c->held.n);
        bytes_drop(&c->held, used);
        if (c->held.n == 0)
            bytes_free(&c->held);
        return;
    }
    size_t used = feed(c, input, n);
    if (c->state != STATE_CLOSED)
        bytes_add(&c->held, input + used, n - used);
}

static void on_connected(struct client *c)
{
    int error = 0;
    socklen_t n = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error) {
        connect_failed(c, error);
        return;
    }
    c->state = STATE_HELD;
    if (options.together && c->role != ROLE_CHURN)
        watch(c, EPOLL_CTL_MOD, EPOLLRDHUP);
    else
        client_ask(c);
}

void client_event(struct client *c, uint32_t events)
{
    if (c->state == STATE_CLOSED || c->fd < 0)
        return;
    if (c->state == STATE_CONNECTING) {
        on_connected(c);
        return;
    }
    if (c->state == STATE_HELD) {
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            connect_failed(c, ECONNRESET);
        return;
    }
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n > 0)
        on_input(c, (size_t)n);
    else if (n == 0)
        client_failed(c, "the connection ended");
    else if (errno != EAGAIN && errno != EINTR)
        client_failed(c, strerror(errno));
    if (c->state == STATE_CLOSED && c->role != ROLE_CHURN && !c->counted_ready && c->status == 0) {
        results.connect_errors++;
        problem("closed before any answer");
        c->status = 1;
    }
}
