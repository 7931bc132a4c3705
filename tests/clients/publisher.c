/*
 * Publishes the made messages, channel by channel in turn: over HTTP (POST, keep-alive, one request
 * a connection at a time, a channel always on the same connection), or to Redis (PUBLISH,
 * pipelined).
 */
#include "check.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX (4u << 20)

struct publisher {
    int fd;
    struct bytes out, in;
    uint32_t waiting_n; /* answers that must still come */
    struct channel **waiting;
    uint32_t waiting_at, waiting_cap;
};

static struct publisher *publishers;
static uint32_t publishers_n;
static uint64_t sent_n, answered_n, total_n, started_us;
static bool broken;

static int connect_to(uint32_t index, const struct sockaddr_in *address)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address)) {
        fprintf(stderr, "tl-check: the publisher cannot connect: %s\n", strerror(errno));
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    publishers[index].fd = fd;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = TAG_PUBLISHER << 32 | index};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

static int redis_login(struct publisher *p)
{
    char text[512], answer[64];
    if (!options.redis_password)
        return 0;
    int n = snprintf(text, sizeof text, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n",
                     strlen(options.redis_password), options.redis_password);
    if (write(p->fd, text, (size_t)n) != n || read(p->fd, answer, sizeof answer) < 3 ||
        memcmp(answer, "+OK", 3) != 0) {
        fprintf(stderr, "tl-check: Redis refused the password\n");
        return -1;
    }
    return 0;
}

int publishers_start(void)
{
    struct sockaddr_in address = options.target;
    started_us = now_us;
    if (options.publish == PUBLISH_NONE)
        return 0;
    total_n = (uint64_t)options.messages_n * channels_n;
    publishers_n = options.publish == PUBLISH_REDIS ? 1 : options.publishers_n;
    publishers = must(calloc(publishers_n, sizeof *publishers));
    if (options.publish == PUBLISH_REDIS) {
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(options.redis_port);
    }
    for (uint32_t i = 0; i < publishers_n; i++)
        if (connect_to(i, &address))
            return -1;
    return options.publish == PUBLISH_REDIS ? redis_login(&publishers[0]) : 0;
}

static void write_out(struct publisher *p)
{
    while (p->out.n) {
        ssize_t n = send(p->fd, p->out.at, p->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            results.publish_errors++;
            problem("the publisher's connection broke");
            broken = true;
            return;
        }
        bytes_drop(&p->out, (size_t)n);
    }
    uint32_t index = (uint32_t)(p - publishers);
    struct epoll_event ev = {.events = EPOLLIN | (p->out.n ? EPOLLOUT : 0),
                             .data.u64 = TAG_PUBLISHER << 32 | index};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->fd, &ev);
}

static void wait_for_answer(struct publisher *p, struct channel *ch)
{
    if (p->waiting_n == p->waiting_cap) {
        uint32_t cap = p->waiting_cap ? p->waiting_cap * 2 : 64;
        struct channel **ring = must(malloc(cap * sizeof *ring));
        for (uint32_t i = 0; i < p->waiting_n; i++)
            ring[i] = p->waiting[(p->waiting_at + i) % p->waiting_cap];
        free(p->waiting);
        p->waiting = ring;
        p->waiting_at = 0;
        p->waiting_cap = cap;
    }
    p->waiting[(p->waiting_at + p->waiting_n++) % p->waiting_cap] = ch;
}

static void hand_over(struct publisher *p, struct channel *ch)
{
    struct message *m = &ch->expected[ch->published_n];
    char head[8192];
    int n;
    if (options.publish == PUBLISH_REDIS) {
        n = snprintf(head, sizeof head, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n",
                     strlen(ch->name), ch->name, m->n);
    } else {
        const char *mark = strstr(options.path_pub, "{c}");
        int path_n = mark ? (int)(mark - options.path_pub) : (int)strlen(options.path_pub);
        n = snprintf(head, sizeof head,
                     "POST %.*s%s%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %zu\r\n\r\n", path_n,
                     options.path_pub, mark ? ch->name : "", mark ? mark + 3 : "", options.host,
                     options.headers, m->n);
    }
    bytes_add(&p->out, head, (size_t)n);
    bytes_add(&p->out, m->bytes, m->n);
    if (options.publish == PUBLISH_REDIS)
        bytes_add(&p->out, "\r\n", 2);
    m->published_us = now_us;
    ch->published_n++;
    wait_for_answer(p, ch);
    sent_n++;
}

static void on_answer(struct publisher *p, bool ok, int64_t subscribers)
{
    struct channel *ch = p->waiting[p->waiting_at];
    p->waiting_at = (p->waiting_at + 1) % p->waiting_cap;
    p->waiting_n--;
    ch->answered_n++;
    answered_n++;
    if (!ok)
        results.publish_errors++;
    else if (options.expect_subscribers >= 0 && subscribers != options.expect_subscribers) {
        results.publish_wrong_count++;
        problem("%s: a publish answered %lld subscribers", ch->name, (long long)subscribers);
    }
}

/* One RESP reply of a PUBLISH; 0: not all there. */
static size_t redis_answer(struct publisher *p)
{
    uint8_t *end = memmem(p->in.at, p->in.n, "\r\n", 2);
    if (!end)
        return 0;
    *end = 0;
    if (p->in.at[0] != ':')
        problem("PUBLISH answered %s", (const char *)p->in.at);
    on_answer(p, p->in.at[0] == ':', strtoll((const char *)p->in.at + 1, NULL, 10));
    return (size_t)(end - p->in.at) + 2;
}

static int64_t number_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    at = at ? strchr(at + strlen(name), ':') : NULL;
    return at ? strtoll(at + 1, NULL, 10) : -1;
}

static size_t http_answer(struct publisher *p)
{
    uint8_t *end = memmem(p->in.at, p->in.n, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head_n = (size_t)(end - p->in.at) + 4;
    char *head = must(strndup((const char *)p->in.at, head_n));
    int64_t length = -1;
    for (char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "content-length:", 15))
            length = strtoll(line + 17, NULL, 10);
    bool whole = length >= 0 && p->in.n >= head_n + (size_t)length;
    if (whole) {
        char *json = must(strndup((const char *)p->in.at + head_n, (size_t)length));
        int64_t count = number_after(json, "\"subscribers\"");
        if (strncmp(head, "HTTP/1.1 200", 12) != 0)
            problem("POST answered %.80s %.80s", head, json);
        on_answer(p, !strncmp(head, "HTTP/1.1 200", 12),
                  count >= 0 ? count : number_after(json, "\"receivers\""));
        free(json);
    }
    free(head);
    if (length < 0) {
        problem("a publish answer without Content-Length");
        broken = true;
    }
    return whole ? head_n + (size_t)length : 0;
}

static void on_readable(struct publisher *p)
{
    uint8_t buffer[65536];
    ssize_t n = recv(p->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (p->waiting_n || sent_n < total_n) {
            results.publish_errors++;
            problem("the publisher's connection ended");
            broken = true;
        }
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, p->fd, NULL);
        return;
    }
    bytes_add(&p->in, buffer, (size_t)n);
    while (p->in.n && p->waiting_n) {
        size_t used = options.publish == PUBLISH_REDIS ? redis_answer(p) : http_answer(p);
        if (used == 0)
            break;
        bytes_drop(&p->in, used);
    }
}

void publisher_event(uint32_t index, uint32_t events)
{
    struct publisher *p = &publishers[index];
    if (events & EPOLLOUT)
        write_out(p);
    if (events & ~(uint32_t)EPOLLOUT)
        on_readable(p);
}

static bool may_hand_over(const struct publisher *p)
{
    if (options.window && sent_n - messages_done() >= options.window)
        return false;
    if (options.publish == PUBLISH_HTTP)
        return p->waiting_n == 0;
    return p->out.n < OUT_MAX;
}

/* With a rate, messages go in groups of --burst, each group when its time has come. */
static int wait_ms(void)
{
    if (!options.rate || sent_n % options.burst)
        return 0;
    uint64_t due_us = started_us + sent_n * 1000000 / options.rate;
    return due_us <= now_us ? 0 : (int)((due_us - now_us) / 1000 + 1);
}

int publishers_tick(void)
{
    if (broken || sent_n >= total_n)
        return -1;
    int wait = 0;
    while (sent_n < total_n && (wait = wait_ms()) == 0) {
        uint32_t channel = (uint32_t)(sent_n % channels_n);
        struct publisher *p = &publishers[channel % publishers_n];
        if (!may_hand_over(p)) {
            wait = -1;
            break;
        }
        hand_over(p, &channels[channel]);
        if (options.publish == PUBLISH_HTTP)
            write_out(p);
    }
    if (options.publish == PUBLISH_REDIS && !(publishers[0].out.n == 0))
        write_out(&publishers[0]);
    return sent_n >= total_n ? -1 : wait;
}

bool publishers_finished(void)
{
    return broken || options.publish == PUBLISH_NONE || answered_n >= total_n;
}

uint64_t published_messages(void)
{
    return sent_n;
}
