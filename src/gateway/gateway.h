/*
 * The whole of it: workers, hub and broker put together, run, and ended. The first worker runs on
 * the calling thread and shares its loop with the hub.
 */
#ifndef TL_GATEWAY_GATEWAY_H
#define TL_GATEWAY_GATEWAY_H

#include "gateway/config.h"
#include "gateway/limits.h"
#include "gateway/route.h"
#include "gateway/worker.h"

struct tl_gateway;

/* 0 or -errno; workers_n is 1..TL_WORKERS_MAX. Config and routes outlive it. */
TL_MUST_USE int tl_gateway_new(struct tl_gateway **ret_gateway, const struct tl_config *config,
                               const struct tl_routes *routes, unsigned workers_n,
                               enum tl_engine engine);

/* The loop on which the broker lives. */
struct tl_loop *tl_gateway_loop(struct tl_gateway *gateway);

/* The broker, owned by the gateway from here on (freed with -ENOMEM). Exactly once, before the run.
 * 0 or -ENOMEM. */
TL_MUST_USE int tl_gateway_set_broker(struct tl_gateway *gateway, struct tl_broker *broker);

/* One listening fd for each worker, all on the same address; owned by the gateway on success. */
TL_MUST_USE int tl_gateway_listen(struct tl_gateway *gateway, const int *fds, bool is_loopback);

/*
 * Publish as a client would, without an answer: what the broker does not take is counted. The bytes
 * are copied. 0, -EINVAL (a name of 0 or over 255 bytes), -ESHUTDOWN (draining) or -ENOMEM. Thread:
 * the one that runs the gateway, from its loop.
 */
TL_MUST_USE int tl_gateway_publish(struct tl_gateway *gateway, struct tl_bytes name,
                                   struct tl_bytes payload);

/* Serve until tl_gateway_stop(), then drain. 0, or -errno when a thread could not be started. */
TL_MUST_USE int tl_gateway_run(struct tl_gateway *gateway);

/* End the run: drains. Any thread, signal handlers too. */
void tl_gateway_stop(struct tl_gateway *gateway);

/* Takes NULL. */
void tl_gateway_free(struct tl_gateway *gateway);

#endif
