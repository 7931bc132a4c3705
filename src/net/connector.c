#include "net/connector.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

/* Threads that may hang in the resolver at once, for the whole process. */
#define RESOLVING_MAX 64

/*
 * A name being resolved. The thread owns it until it posted the mail or found itself orphaned, both
 * under the lock; then the loop does. So a thread that outlives its connector never touches the
 * loop, which may be gone.
 */
struct tl_resolve {
    struct tl_mail mail;
    struct tl_mailbox *mailbox;
    struct tl_connector *owner; /* loop's thread only; NULL once cancelled */
    bool orphaned;              /* under the lock */
    bool posted;                /* under the lock */
    int status;                 /* of getaddrinfo */
    int error;                  /* errno, for EAI_SYSTEM */
    struct addrinfo *addresses;
    char port[8];
    char host[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned resolving_n; /* under the lock */

static void try_next(struct tl_connector *c);

static void forget(struct tl_connector *c)
{
    tl_timer_stop(tl_loop_timers(c->loop), &c->timer);
    tl_task_cancel(&c->failed);
    tl_connect_cancel(&c->connect);
    if (c->addresses)
        freeaddrinfo(c->addresses);
    c->addresses = c->next = NULL;
}

static void finish(struct tl_connector *c, int fd)
{
    forget(c);
    c->on_done(c, fd, fd < 0 ? c->error : "");
}

static void fail(struct tl_connector *c, int status, const char *what, const char *why)
{
    c->status = status;
    snprintf(c->error, sizeof c->error, "%s: %s", what, why);
}

/* Fail from a call of the owner: he is told later. */
static void fail_later(struct tl_connector *c, int status, const char *what, const char *why)
{
    fail(c, status, what, why);
    tl_loop_defer(c->loop, &c->failed);
}

static void on_failed(struct tl_task *task)
{
    struct tl_connector *c = TL_CONTAINER(task, struct tl_connector, failed);
    finish(c, c->status);
}

static void resolve_free(struct tl_resolve *r)
{
    if (r->addresses)
        freeaddrinfo(r->addresses);
    tl_free(r);
}

static void set_resolve_error(struct tl_connector *c, const char *host, int status, int error)
{
    const char *why = status == EAI_SYSTEM ? strerror(error) : gai_strerror(status);
    char what[160];
    snprintf(what, sizeof what, "cannot resolve %s", host);
    fail(c, status == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH, what, why);
}

static void on_resolved(struct tl_mail *mail)
{
    struct tl_resolve *r = TL_CONTAINER(mail, struct tl_resolve, mail);
    struct tl_connector *c = r->owner;
    if (!c) {
        resolve_free(r);
        return;
    }
    c->resolve = NULL;
    if (r->status == 0) {
        c->addresses = c->next = r->addresses;
        r->addresses = NULL;
        resolve_free(r);
        try_next(c);
        return;
    }
    set_resolve_error(c, r->host, r->status, r->error);
    resolve_free(r);
    finish(c, c->status);
}

static void *resolve_thread(void *arg)
{
    struct tl_resolve *r = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    r->status = getaddrinfo(r->host, r->port, &hints, &r->addresses);
    r->error = errno;
    if (r->status != 0)
        r->addresses = NULL;
    pthread_mutex_lock(&lock);
    resolving_n--;
    bool orphaned = r->orphaned;
    if (!orphaned) {
        r->posted = true;
        tl_mailbox_post(r->mailbox, &r->mail);
    }
    pthread_mutex_unlock(&lock);
    if (orphaned)
        resolve_free(r);
    return NULL;
}

/* 0 or -errno. The thread takes no signals: they are the main thread's. */
static int spawn(struct tl_resolve *r)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, old;
    int error = pthread_attr_init(&attr);
    if (error)
        return -error;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&thread, &attr, resolve_thread, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return -error;
}

static int count_in(void)
{
    pthread_mutex_lock(&lock);
    int status = resolving_n < RESOLVING_MAX ? 0 : -EAGAIN;
    if (status == 0)
        resolving_n++;
    pthread_mutex_unlock(&lock);
    return status;
}

static void count_out(void)
{
    pthread_mutex_lock(&lock);
    resolving_n--;
    pthread_mutex_unlock(&lock);
}

static int start_resolve(struct tl_connector *c, const char *host, const char *port)
{
    size_t host_n = strlen(host) + 1;
    struct tl_resolve *r = tl_zalloc(sizeof *r + host_n);
    if (!r)
        return -ENOMEM;
    memcpy(r->host, host, host_n);
    snprintf(r->port, sizeof r->port, "%s", port);
    r->mail.deliver = on_resolved;
    r->mailbox = tl_loop_mailbox(c->loop);
    r->owner = c;
    int status = count_in();
    if (status < 0) {
        tl_free(r);
        return status;
    }
    status = spawn(r);
    if (status < 0) {
        count_out();
        tl_free(r);
        return status;
    }
    c->resolve = r;
    tl_loop_timer_start(c->loop, &c->timer, TL_CONNECTOR_RESOLVE_MS);
    return 0;
}

static void orphan(struct tl_connector *c)
{
    if (!c->resolve)
        return;
    pthread_mutex_lock(&lock);
    if (c->resolve->posted)
        c->resolve->owner = NULL; /* its mail is under way and frees it */
    else
        c->resolve->orphaned = true;
    pthread_mutex_unlock(&lock);
    c->resolve = NULL;
}

static void name_address(struct tl_connector *c, const struct addrinfo *a)
{
    char host[64], port[8];
    if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(c->address, sizeof c->address, "an address");
    else if (a->ai_family == AF_INET6)
        snprintf(c->address, sizeof c->address, "[%s]:%s", host, port);
    else
        snprintf(c->address, sizeof c->address, "%s:%s", host, port);
}

static void try_next(struct tl_connector *c)
{
    tl_timer_stop(tl_loop_timers(c->loop), &c->timer);
    while (c->next) {
        const struct addrinfo *a = c->next;
        c->next = a->ai_next;
        name_address(c, a);
        int status = tl_connect_start(c->loop, &c->connect, a->ai_addr, a->ai_addrlen);
        if (status == 0) {
            tl_loop_timer_start(c->loop, &c->timer, c->timeout_ms);
            return;
        }
        fail(c, status, c->address, strerror(-status));
    }
    finish(c, c->status);
}

static void on_connect(struct tl_connect *connect, int fd)
{
    struct tl_connector *c = TL_CONTAINER(connect, struct tl_connector, connect);
    if (fd < 0) {
        fail(c, fd, c->address, strerror(-fd));
        try_next(c);
        return;
    }
    /* Refused by Unix sockets, which need it not. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    finish(c, fd);
}

static void on_timeout(struct tl_timer *timer)
{
    struct tl_connector *c = TL_CONTAINER(timer, struct tl_connector, timer);
    if (c->resolve) {
        orphan(c);
        fail(c, -ETIMEDOUT, "cannot resolve the host", "no answer from the resolver");
        finish(c, c->status);
        return;
    }
    tl_connect_cancel(&c->connect);
    fail(c, -ETIMEDOUT, c->address, "no answer in time");
    try_next(c);
}

static void start_unix(struct tl_connector *c, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(c->address, sizeof c->address, "%s", path);
    if (strlen(path) >= sizeof address.sun_path) {
        fail_later(c, -ENAMETOOLONG, c->address, strerror(ENAMETOOLONG));
        return;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int status = tl_connect_start(c->loop, &c->connect, (const struct sockaddr *)&address,
                                  (socklen_t)sizeof address);
    if (status < 0)
        fail_later(c, status, c->address, strerror(-status));
    else
        tl_loop_timer_start(c->loop, &c->timer, c->timeout_ms);
}

/* A numeric address: connect at once, but tell a failure later. */
static void start_numeric(struct tl_connector *c)
{
    const struct addrinfo *a = c->next;
    c->next = NULL;
    name_address(c, a);
    int status = tl_connect_start(c->loop, &c->connect, a->ai_addr, a->ai_addrlen);
    if (status < 0)
        fail_later(c, status, c->address, strerror(-status));
    else
        tl_loop_timer_start(c->loop, &c->timer, c->timeout_ms);
}

void tl_connector_start(struct tl_connector *c, const struct tl_connector_peer *peer,
                        uint32_t timeout_ms)
{
    assert(!c->resolve && !c->addresses && !tl_timer_is_started(&c->timer));
    c->timeout_ms = timeout_ms;
    if (peer->unix_path) {
        start_unix(c, peer->unix_path);
        return;
    }
    char port[8];
    snprintf(port, sizeof port, "%u", peer->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    if (getaddrinfo(peer->host, port, &hints, &c->addresses) == 0) {
        c->next = c->addresses;
        start_numeric(c);
        return;
    }
    c->addresses = NULL;
    int status = start_resolve(c, peer->host, port);
    if (status < 0)
        fail_later(c, status, "cannot start resolving the host", strerror(-status));
}

void tl_connector_init(struct tl_connector *c, struct tl_loop *loop,
                       void (*on_done)(struct tl_connector *, int, const char *))
{
    *c = (struct tl_connector){.loop = loop, .on_done = on_done};
    c->connect.on_connect = on_connect;
    c->connect.fd = -1;
    tl_timer_init(&c->timer, on_timeout);
    tl_task_init(&c->failed, on_failed);
}

void tl_connector_cancel(struct tl_connector *c)
{
    orphan(c);
    forget(c);
}
