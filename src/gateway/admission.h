/*
 * May this request do what it asks for? Decided in one place, before anything is made for it. The
 * verdict comes by callback, so that tokens that are checked elsewhere fit in; today it comes at
 * once. It knows no session.
 */
#ifndef TL_GATEWAY_ADMISSION_H
#define TL_GATEWAY_ADMISSION_H

#include "gateway/asked.h"
#include "gateway/config.h"
#include "gateway/route.h"

enum tl_admission_action { TL_ADMIT_SUBSCRIBE, TL_ADMIT_PUBLISH, TL_ADMIT_OPERATE };

struct tl_admission_request {
    const struct tl_http1_request *http;
    enum tl_admission_action action; /* duplex asks to publish */
    struct tl_bytes channel;         /* empty for OPERATE (metrics) */
    const struct tl_asked *asked;    /* several channels instead, or NULL */
    bool listener_is_loopback;
};

/* The verdict. Seams: user, more channels and an expiry come with it later. */
struct tl_verdict {
    int status;               /* 0: allowed; else the HTTP status of the refusal */
    const char *error, *hint; /* static */
};

/* Calls on_verdict exactly once (now, on this thread; later implementations may call it later). */
void tl_admission_decide(const struct tl_config *config, const struct tl_admission_request *request,
                         void (*on_verdict)(void *arg, const struct tl_verdict *verdict),
                         void *arg);

/* Is the request's Origin absent, its own Host's, or listed? */
TL_MUST_USE bool tl_admission_origin(const struct tl_config *config,
                                     const struct tl_http1_request *http);

#endif
