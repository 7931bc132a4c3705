#include "gateway/admission.h"

#include "base/glob.h"
#include "proto/origin.h"
#include "proto/url.h"

bool tl_admission_origin(const struct tl_config *config, const struct tl_http1_request *http)
{
    return tl_origin_allowed(tl_http1_header(http, "origin"), http->host, config->origins,
                             config->origins_n, false);
}

/* Takes the same time whatever the difference is (THREATS A19); only the length shows. */
static bool token_equals(struct tl_bytes a, struct tl_bytes b)
{
    volatile uint8_t difference = 0; /* or the compiler might leave early */
    if (a.n != b.n || a.n == 0)
        return false;
    for (size_t i = 0; i < a.n; i++)
        difference |= a.p[i] ^ b.p[i];
    return difference == 0;
}

static bool has_token(const struct tl_config *config, const struct tl_http1_request *http)
{
    struct tl_bytes header = tl_http1_header(http, "authorization");
    static const struct tl_bytes bearer = {(const uint8_t *)"Bearer ", 7};
    if (header.n > bearer.n && tl_bytes_ieq(tl_bytes(header.p, bearer.n), bearer))
        return token_equals(tl_bytes_trim(tl_bytes_skip(header, bearer.n)), config->token);
    /* Browsers cannot set headers on a WebSocket or an EventSource. */
    uint8_t value[TL_TOKEN_MAX];
    size_t n = 0;
    return tl_url_query(http->query, "token", value, sizeof value, &n) == 1 &&
           token_equals(tl_bytes(value, n), config->token);
}

static bool is_allowed_channel(const struct tl_config *config, struct tl_bytes channel)
{
    for (size_t i = 0; i < config->allow_n; i++)
        if (tl_glob_match(config->allow[i], channel))
            return true;
    return config->allow_n == 0;
}

static bool are_allowed(const struct tl_config *config, const struct tl_admission_request *request)
{
    if (request->channel.n > 0 && !is_allowed_channel(config, request->channel))
        return false;
    size_t n = request->asked && config->allow_n > 0 ? request->asked->n : 0;
    for (size_t i = 0; i < n; i++)
        if (!is_allowed_channel(config, request->asked->channels[i].name))
            return false;
    return true;
}

/* Strangers come through a proxy on this machine as well, and proxies leave a trace. */
static bool is_local(const struct tl_admission_request *request)
{
    const struct tl_http1_request *http = request->http;
    if (tl_http1_header(http, "x-forwarded-for").p || tl_http1_header(http, "forwarded").p ||
        tl_http1_header(http, "via").p || tl_http1_header(http, "x-real-ip").p)
        return false;
    return request->listener_is_loopback;
}

/* Without a token, all that protects a loopback listener from a browser's pages is their origin,
 * and with DNS rebinding a page chooses its own: then the name that it came by must be known. */
static bool is_rebound(const struct tl_config *config, const struct tl_admission_request *request)
{
    return request->listener_is_loopback && config->token.n == 0 && !config->open &&
           !tl_origin_host_is_known(request->http->host, config->origins, config->origins_n);
}

static struct tl_verdict verdict_of(const struct tl_config *config,
                                    const struct tl_admission_request *request)
{
    if (!tl_admission_origin(config, request->http))
        return (struct tl_verdict){403, "origin not allowed",
                                   "start the gateway with --origin and this page's origin"};
    if (is_rebound(config, request))
        return (struct tl_verdict){403, "host not known",
                                   "ask on localhost or an IP address, or start the gateway with "
                                   "--origin and the site's origin"};
    if (request->action != TL_ADMIT_SUBSCRIBE) {
        if (config->token.n > 0 && !has_token(config, request->http))
            return (struct tl_verdict){403, "token missing or wrong",
                                       "send the header Authorization: Bearer TOKEN"};
        if (config->token.n == 0 && !is_local(request) && !config->open)
            return (struct tl_verdict){403, "not open to strangers",
                                       "start the gateway with --token, or with --open for "
                                       "everybody, or ask on a loopback address"};
    }
    if (!are_allowed(config, request))
        return (struct tl_verdict){403, "channel not allowed",
                                   "the gateway's --allow patterns do not match its name"};
    return (struct tl_verdict){0};
}

void tl_admission_decide(const struct tl_config *config, const struct tl_admission_request *request,
                         void (*on_verdict)(void *arg, const struct tl_verdict *verdict), void *arg)
{
    struct tl_verdict verdict = verdict_of(config, request);
    on_verdict(arg, &verdict);
}
