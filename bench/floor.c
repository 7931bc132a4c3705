#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_BYTES (1u << 20)

static int epoll_fd;
static struct client_list channels[CHANNELS_MAX + 1];
static uint8_t input[INPUT_BYTES];

/* What was published in this turn: frames of each channel, for WebSockets and for SSE. */
struct pending {
    uint8_t *bytes[2];
    size_t n[2], cap[2];
};
static struct pending pending[CHANNELS_MAX + 1];
static uint32_t changed[CHANNELS_MAX + 1];
static size_t changed_n;

static void *must(void *memory)
{
    if (memory)
        return memory;
    fprintf(stderr, "floor: out of memory\n");
    exit(1);
}

void floor_unref(struct block *b)
{
    if (--b->refs == 0)
        free(b);
}

void floor_wants_out(struct client *c, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void drop(struct client *c)
{
    if (c->channel != UINT32_MAX) {
        struct client_list *list = &channels[c->channel];
        for (size_t i = 0; i < list->n; i++)
            if (list->items[i] == c) {
                list->items[i] = list->items[--list->n];
                break;
            }
    }
    close(c->fd);
    free(c->input);
    free(c->backlog);
    c->backlog = NULL;
    c->backlog_n = 0;
    /* A send in flight still points at it: leaked then, once, at the end of a run. */
    if (!c->sending)
        free(c);
}

/* Publishing */

static void put(struct pending *p, int kind, const void *bytes, size_t n)
{
    if (p->n[kind] + n > p->cap[kind]) {
        p->cap[kind] = (p->n[kind] + n) * 2;
        p->bytes[kind] = must(realloc(p->bytes[kind], p->cap[kind]));
    }
    memcpy(p->bytes[kind] + p->n[kind], bytes, n);
    p->n[kind] += n;
}

static void publish_to(uint32_t channel, const uint8_t *body, size_t n)
{
    struct pending *p = &pending[channel];
    uint8_t header[10] = {0x81, (uint8_t)n};
    size_t header_n = 2;
    if (channels[channel].n == 0)
        return;
    if (p->n[0] == 0)
        changed[changed_n++] = channel;
    if (n > UINT16_MAX) {
        header[1] = 127;
        for (int i = 0; i < 8; i++)
            header[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
        header_n = 10;
    } else if (n > 125) {
        header[1] = 126;
        header[2] = (uint8_t)(n >> 8);
        header[3] = (uint8_t)n;
        header_n = 4;
    }
    put(p, 0, header, header_n);
    put(p, 0, body, n);
    put(p, 1, "data: ", 6);
    put(p, 1, body, n);
    put(p, 1, "\n\n", 2);
}

static void send_changed(void)
{
    for (size_t i = 0; i < changed_n; i++) {
        struct pending *p = &pending[changed[i]];
        struct block *blocks[2];
        for (int kind = 0; kind < 2; kind++) {
            blocks[kind] = must(malloc(sizeof *blocks[kind] + p->n[kind]));
            blocks[kind]->refs = 1;
            blocks[kind]->n = p->n[kind];
            memcpy(blocks[kind]->bytes, p->bytes[kind], p->n[kind]);
            p->n[kind] = 0;
        }
        const struct client_list *list = &channels[changed[i]];
        for (size_t k = 0; k < list->n; k++)
            floor_send(list->items[k], blocks[list->items[k]->sse]);
        floor_unref(blocks[0]);
        floor_unref(blocks[1]);
    }
    changed_n = 0;
    floor_send_flush();
}

/* Requests */

/* The number at the end of the path; one without is CHANNEL_ALL. */
static uint32_t channel_of(const char *path)
{
    const char *end = path + strcspn(path, " ?\r");
    const char *digits = end;
    while (digits > path && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    unsigned long number = digits < end ? strtoul(digits, NULL, 10) : CHANNEL_ALL;
    return number < CHANNELS_MAX ? (uint32_t)number : CHANNEL_ALL;
}

static const char *header(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    return at ? at + strlen(name) + strspn(at + strlen(name), ": ") : NULL;
}

static void subscribe(struct client *c, const char *head)
{
    char both[128], accept[32], answer[256];
    uint8_t digest[SHA_DIGEST_LENGTH];
    const char *key = header(head, "\r\nSec-WebSocket-Key");
    int n;
    if (key) {
        snprintf(both, sizeof both, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
        SHA1((const uint8_t *)both, strlen(both), digest);
        EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
        n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                     "Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
    } else {
        c->sse = true;
        n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 0\n\n");
    }
    c->channel = channel_of(head + 4);
    struct client_list *list = &channels[c->channel];
    if (list->n == list->cap) {
        list->cap = list->cap * 2 + 8;
        list->items = must(realloc(list->items, list->cap * sizeof *list->items));
    }
    list->items[list->n++] = c;
    ssize_t taken = send(c->fd, answer, (size_t)n, MSG_NOSIGNAL);
    (void)taken; /* an empty socket takes it */
}

/* Requests that are whole; returns the bytes used. */
static size_t take_requests(struct client *c, uint8_t *bytes, size_t n, size_t *ret_answers_n)
{
    size_t used = 0;
    while (c->channel == UINT32_MAX) {
        char *head = (char *)bytes + used;
        char *end = memmem(head, n - used, "\r\n\r\n", 4);
        if (!end)
            break;
        char kept = end[3];
        end[3] = 0;
        const char *length = header(head, "\r\nContent-Length");
        size_t head_n = (size_t)(end - head) + 4, body_n = length ? strtoul(length, NULL, 10) : 0;
        bool get = memcmp(head, "GET ", 4) == 0;
        uint32_t channel = get ? 0 : channel_of(head + 5);
        if (get)
            subscribe(c, head);
        end[3] = kept;
        if (n - used - head_n < body_n)
            break;
        if (!get) {
            publish_to(channel, bytes + used + head_n, body_n);
            if (channel != CHANNEL_ALL)
                publish_to(CHANNEL_ALL, bytes + used + head_n, body_n);
            ++*ret_answers_n;
        }
        used += head_n + body_n;
    }
    return c->channel == UINT32_MAX ? used : n;
}

static void answer(const struct client *c, size_t answers_n)
{
    static const char one[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    char many[64 * (sizeof one - 1)];
    for (size_t i = 0; i < 64; i++)
        memcpy(many + i * (sizeof one - 1), one, sizeof one - 1);
    while (answers_n > 0) {
        size_t n = answers_n < 64 ? answers_n : 64;
        ssize_t taken = send(c->fd, many, n * (sizeof one - 1), MSG_NOSIGNAL);
        (void)taken;
        answers_n -= n;
    }
}

static void receive(struct client *c)
{
    size_t answers_n = 0, kept_n = c->input_n;
    memcpy(input, c->input_n ? c->input : input, c->input_n);
    ssize_t n = recv(c->fd, input + kept_n, sizeof input - kept_n, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    size_t all = kept_n + (size_t)n, used = take_requests(c, input, all, &answers_n);
    c->input_n = all - used;
    if (c->input_n > c->input_cap) {
        c->input_cap = c->input_n * 2;
        c->input = must(realloc(c->input, c->input_cap));
    }
    if (c->input_n > 0)
        memcpy(c->input, input + used, c->input_n);
    send_changed();
    answer(c, answers_n);
}

static void accept_all(int listener)
{
    for (int i = 0; i < 256; i++) {
        int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct client *c = must(calloc(1, sizeof *c));
        c->fd = fd;
        c->channel = UINT32_MAX;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 65535) < 0) {
        perror("floor: listen");
        exit(1);
    }
    return fd;
}

static void turn(int listener)
{
    struct epoll_event events[256];
    int n = epoll_wait(epoll_fd, events, 256, floor_sending() > 0 ? 0 : -1);
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (!c)
            accept_all(listener);
        else if (events[i].events & EPOLLOUT)
            floor_send_ready(c);
        else
            receive(c);
    }
    floor_send_flush();
}

int main(int argc, char **argv)
{
    if (argc != 3 || (strcmp(argv[1], "send") != 0 && strcmp(argv[1], "io_uring") != 0)) {
        fprintf(stderr, "usage: floor send|io_uring PORT\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    floor_send_init(strcmp(argv[1], "io_uring") == 0);
    int listener = listen_on((uint16_t)atoi(argv[2]));
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;)
        turn(listener);
}
