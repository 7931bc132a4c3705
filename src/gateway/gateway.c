#include "gateway/gateway.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/logger.h"
#include "gateway/hub.h"

#include <errno.h>
#include <signal.h>

#define END_TURN_MS  20
#define END_EXTRA_MS 3000 /* behind the drain window: then what is left is left */

struct tl_gateway {
    const struct tl_config *config;
    struct tl_limits limits;
    struct tl_hub *hub;
    unsigned workers_n;
    struct tl_worker *workers[TL_WORKERS_MAX];
};

int tl_gateway_new(struct tl_gateway **ret_gateway, const struct tl_config *config,
                   const struct tl_routes *routes, unsigned workers_n, enum tl_engine engine)
{
    struct tl_gateway *gateway = tl_zalloc(sizeof *gateway);
    if (!gateway)
        return -ENOMEM;
    gateway->config = config;
    int r =
        tl_limits_init(&gateway->limits, config->connections_max, config->address_connections_max);
    gateway->limits.input_bytes_max = config->input_bytes_max;
    while (r == 0 && gateway->workers_n < workers_n) {
        struct tl_worker *worker = tl_zalloc(sizeof *worker);
        if (!worker) {
            r = -ENOMEM;
            break;
        }
        gateway->workers[gateway->workers_n] = worker;
        r = tl_worker_init(worker, gateway->workers_n++, engine, config, routes, &gateway->limits);
        int refused = r == 0 ? tl_loop_uring_refused(worker->loop) : 0;
        if (refused == 0)
            continue;
        tl_logger(TL_INFO, "engine epoll, as io_uring is refused here: %s",
                  tl_engine_refusal(refused));
        engine = TL_ENGINE_EPOLL; /* for the others too */
    }
    if (r < 0) {
        tl_gateway_free(gateway);
        return r;
    }
    *ret_gateway = gateway;
    return 0;
}

struct tl_loop *tl_gateway_loop(struct tl_gateway *gateway)
{
    return gateway->workers[0]->loop;
}

int tl_gateway_set_broker(struct tl_gateway *gateway, struct tl_broker *broker)
{
    gateway->hub = tl_hub_new(gateway->config, tl_gateway_loop(gateway), broker, gateway->workers,
                              gateway->workers_n);
    if (!gateway->hub) {
        broker->ops->stop(broker);
        tl_loop_turn(tl_gateway_loop(gateway), 0); /* its connections end there */
        broker->ops->free(broker);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < gateway->workers_n; i++)
        gateway->workers[i]->hub = gateway->hub;
    return 0;
}

int tl_gateway_listen(struct tl_gateway *gateway, const int *fds, bool is_loopback)
{
    for (unsigned i = 0; i < gateway->workers_n; i++) {
        int r = tl_worker_listen(gateway->workers[i], fds[i], is_loopback);
        if (r < 0)
            return r;
    }
    return 0;
}

static void on_published(struct tl_publish_request *request)
{
    tl_buf_deinit(&request->body);
    tl_free(request);
}

int tl_gateway_publish(struct tl_gateway *gateway, struct tl_bytes name, struct tl_bytes payload)
{
    struct tl_worker *worker = gateway->workers[0];
    struct tl_buf body = {0};
    if (name.n == 0 || name.n > TL_TEMPLATE_NAME_MAX)
        return -EINVAL;
    if (worker->draining)
        return -ESHUTDOWN;
    tl_buf_append(&body, payload);
    if (body.failed)
        return -ENOMEM;
    return tl_worker_publish(worker, name, &body, on_published) ? 0 : -ENOMEM;
}

static void *run_worker(void *arg)
{
    struct tl_worker *worker = arg;
    tl_loop_run(worker->loop);
    return NULL;
}

static int start_threads(struct tl_gateway *gateway)
{
    sigset_t all, before;
    int r = 0;
    /* Signals are the first thread's affair. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 1; i < gateway->workers_n && r == 0; i++) {
        struct tl_worker *worker = gateway->workers[i];
        r = -pthread_create(&worker->thread, NULL, run_worker, worker);
        worker->has_thread = r == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

static bool all_drained(const struct tl_gateway *gateway)
{
    for (unsigned i = 0; i < gateway->workers_n; i++)
        if (!atomic_load_explicit(&gateway->workers[i]->drained, memory_order_acquire))
            return false;
    return true;
}

static void drain(struct tl_gateway *gateway)
{
    for (unsigned i = 0; i < gateway->workers_n; i++)
        tl_mailbox_post(tl_loop_mailbox(gateway->workers[i]->loop),
                        &gateway->workers[i]->drain_mail);
    uint64_t until_ms = tl_clock_ms() + gateway->config->drain_ms + END_EXTRA_MS;
    while (!all_drained(gateway) && tl_clock_ms() < until_ms)
        tl_loop_turn(tl_gateway_loop(gateway), END_TURN_MS);
    if (!all_drained(gateway))
        tl_logger(TL_WARN, "not all clients were gone in time");
}

static void join_threads(struct tl_gateway *gateway)
{
    for (unsigned i = 1; i < gateway->workers_n; i++) {
        if (!gateway->workers[i]->has_thread)
            continue;
        tl_loop_stop(gateway->workers[i]->loop);
        pthread_join(gateway->workers[i]->thread, NULL);
        gateway->workers[i]->has_thread = false;
    }
}

/* The broker's connections tell their end to the loop, which therefore takes a few turns. */
static void stop_hub(struct tl_gateway *gateway)
{
    tl_hub_stop(gateway->hub);
    for (int i = 0; i < 3; i++)
        tl_loop_turn(tl_gateway_loop(gateway), 0);
}

int tl_gateway_run(struct tl_gateway *gateway)
{
    int r = start_threads(gateway);
    if (r == 0)
        tl_loop_run(tl_gateway_loop(gateway));
    drain(gateway);
    stop_hub(gateway);
    join_threads(gateway);
    return r;
}

void tl_gateway_stop(struct tl_gateway *gateway)
{
    tl_loop_stop(tl_gateway_loop(gateway));
}

void tl_gateway_free(struct tl_gateway *gateway)
{
    if (!gateway)
        return;
    if (gateway->hub)
        stop_hub(gateway);
    tl_hub_free(gateway->hub);
    for (unsigned i = 0; i < gateway->workers_n; i++) {
        tl_worker_deinit(gateway->workers[i]);
        tl_free(gateway->workers[i]);
    }
    tl_limits_deinit(&gateway->limits);
    tl_free(gateway);
}
