/* `tramline serve`: from options to a running gateway, and its end. */
#include "app/commands.h"
#include "app/demo.h"
#include "app/options.h"
#include "app/serve_config.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "broker/memory.h"
#include "broker/redis.h"
#include "gateway/gateway.h"
#include "gateway/hub.h"
#include "net/listener.h"
#include "proto/url.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static struct tl_gateway *running; /* for the signal handler; set before it is installed */

static void on_signal(int signal_number)
{
    (void)signal_number;
    tl_gateway_stop(running);
}

static void catch_signals(struct tl_gateway *gateway)
{
    struct sigaction action = {.sa_handler = on_signal};
    running = gateway;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

/* Take all the descriptors that may be had; returns how many. */
static uint64_t raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
    }
    return limit.rlim_cur;
}

struct serve {
    struct tl_options options;
    struct tl_serve_config config;
    struct tl_demo demo;
    struct tl_gateway *gateway;
    uint64_t descriptors;
    struct tl_url redis;
    char broker_text[512];
};

/* --- putting it together --- */

static bool has_streams(const struct serve *serve)
{
    const struct tl_config *config = &serve->config.config;
    bool found = false;
    for (size_t i = 0; i < config->rules_n; i++)
        found = found || tl_config_is_stream(&config->rules[i]);
    return found;
}

static bool has_keys(const struct serve *serve)
{
    const struct tl_config *config = &serve->config.config;
    bool found = false;
    for (size_t i = 0; i < config->rules_n; i++)
        found = found || tl_config_has_key(&config->rules[i]);
    return found;
}

static int set_broker(struct serve *serve)
{
    struct tl_loop *loop = tl_gateway_loop(serve->gateway);
    const struct tl_options *o = &serve->options;
    const char *error = "";
    struct tl_broker *broker;
    if (o->redis[0] == 0 && has_streams(serve)) {
        tl_command_say("serve", "--channel: source=stream needs --redis");
        return -EINVAL;
    }
    if (o->redis[0] == 0 && has_keys(serve)) {
        tl_command_say("serve", "--channel: snapshot=key needs --redis");
        return -EINVAL;
    }
    if (o->redis[0] == 0) {
        snprintf(serve->broker_text, sizeof serve->broker_text, "memory (embedded)");
        broker = tl_memory_new(loop);
    } else {
        int r = tl_url_parse(tl_bytes_str(o->redis), &serve->redis, &error);
        if (r < 0 || serve->redis.scheme == TL_URL_HTTP) {
            tl_command_say("serve", "--redis: %s", r < 0 ? error : "not a redis:// URL");
            return -EINVAL;
        }
        char url[400];
        snprintf(serve->broker_text, sizeof serve->broker_text, "%s (connecting)",
                 tl_url_text(&serve->redis, url, sizeof url));
        broker = tl_redis_new(
            loop, &(struct tl_redis_options){
                      .host = serve->redis.host,
                      .port = serve->redis.port,
                      .unix_path = serve->redis.path[0] ? serve->redis.path : NULL,
                      .user = serve->redis.user[0] ? serve->redis.user : NULL,
                      .password = serve->redis.has_password ? serve->redis.password : NULL,
                      .db = serve->redis.db,
                      .max_message = o->message_bytes_max,
                      .ping_ms = (uint32_t)o->redis_ping_ms,
                      .dead_ms = (uint32_t)o->redis_dead_ms,
                      .streams = has_streams(serve),
                      .keys = has_keys(serve),
                  });
    }
    if (!broker)
        return -ENOMEM;
    return tl_gateway_set_broker(serve->gateway, broker);
}

static int listen_on(struct serve *serve, const char *text, char *ret_url, size_t url_n)
{
    int fds[TL_WORKERS_MAX] = {-1};
    struct tl_address address;
    const char *hint = "";
    size_t n = serve->options.workers;
    assert(n > 0 && n <= TL_WORKERS_MAX);
    int r = tl_address_parse(tl_bytes_str(text), &address);
    if (r == 0)
        r = tl_listener_open_all(&address, fds, n, &hint);
    if (r < 0) {
        tl_command_say("serve", "cannot listen on %s: %s; %s", text, strerror(-r), hint);
        return r;
    }
    int port = tl_listener_port(fds[0]);
    tl_address_set_port(&address, (uint16_t)(port > 0 ? port : 0));
    char printed[TL_ADDRESS_TEXT_N];
    snprintf(ret_url, url_n, "http://%s", tl_address_text(&address, printed));
    r = tl_gateway_listen(serve->gateway, fds, tl_address_is_loopback(&address));
    if (r < 0)
        tl_command_say("serve", "cannot accept on %s: %s", text, strerror(-r));
    return r;
}

static void print_banner(const struct serve *serve, const struct tl_buf *listening, const char *url)
{
    printf("tramline " TL_VERSION "\n%.*s", (int)listening->n, (const char *)listening->p);
    printf("  %-12s%s\n", "broker", serve->broker_text);
    printf("  %-12s%s, %" PRIu64 " worker%s\n", "engine",
           tl_loop_engine_name(tl_gateway_loop(serve->gateway)), serve->options.workers,
           serve->options.workers == 1 ? "" : "s");
    printf("  %-12s%" PRIu64 " (up to %" PRIu32 " connections)\n", "descriptors",
           serve->descriptors, serve->config.config.connections_max);
    if (serve->config.map.documents_n > 0)
        printf("open %s/ in a browser: the live map\n", url);
    printf("try  curl -N %s/sse/tram_5\n"
           "and  curl -d '{\"hello\":1}' %s/pub/tram_5\n",
           url, url);
    fflush(stdout);
}

static int listen_all(struct serve *serve)
{
    const struct tl_strings *listen = &serve->options.listen;
    if (listen->n > TL_LISTENERS_MAX) {
        tl_command_say("serve", "--listen: at most %d addresses", TL_LISTENERS_MAX);
        return -EINVAL;
    }
    char first[TL_ADDRESS_TEXT_N + 8] = "";
    struct tl_buf listening = {0};
    int r = 0;
    for (size_t i = 0; i < listen->n && r == 0; i++) {
        char url[TL_ADDRESS_TEXT_N + 8];
        r = listen_on(serve, listen->items[i], url, sizeof url);
        if (r < 0)
            break;
        tl_buf_printf(&listening, "  %-12s%s\n", i == 0 ? "listening" : "", url);
        if (i == 0)
            memcpy(first, url, sizeof first);
    }
    if (r == 0)
        print_banner(serve, &listening, first);
    tl_buf_deinit(&listening);
    return r;
}

static void end(struct serve *serve)
{
    tl_demo_deinit(&serve->demo);
    tl_gateway_free(serve->gateway);
    tl_serve_config_deinit(&serve->config);
    tl_options_deinit(&serve->options);
}

/* An engine that was asked for by name must be had. 0 or -EINVAL, told. */
static int check_engine(enum tl_engine engine)
{
    int error = 0;
    if (engine != TL_ENGINE_URING)
        return 0;
    struct tl_loop *loop = tl_loop_new(engine, &error);
    tl_loop_free(loop);
    if (loop)
        return 0;
    tl_command_say("serve", "--engine io_uring: refused here: %s; --engine epoll works everywhere",
                   tl_engine_refusal(error));
    return -EINVAL;
}

/* Everything but listening. 0 or -errno; -EINVAL was told. */
static int prepare(struct serve *serve)
{
    struct tl_options *o = &serve->options;
    struct tl_buf city_lines = {0};
    int r = o->demo ? tl_demo_init(&serve->demo, &city_lines) : 0;
    if (r == 0)
        r = tl_serve_config_init(&serve->config, o, serve->descriptors, &city_lines);
    tl_buf_deinit(&city_lines);
    if (r == 0)
        r = check_engine((enum tl_engine)o->engine);
    if (r == 0)
        r = tl_gateway_new(&serve->gateway, &serve->config.config, &serve->config.routes,
                           (unsigned)o->workers, (enum tl_engine)o->engine);
    if (r == 0)
        r = set_broker(serve);
    if (r == 0 && o->demo)
        tl_demo_start(&serve->demo, serve->gateway);
    return r;
}

static int run(struct serve *serve)
{
    tl_logger_level((enum tl_level)serve->options.log_level);
    serve->descriptors = raise_descriptors();
    int r = prepare(serve);
    if (r == -EINVAL)
        return 2;
    if (r == 0) {
        catch_signals(serve->gateway);
        r = listen_all(serve);
        if (r < 0)
            return r == -EINVAL ? 2 : 1;
        r = tl_gateway_run(serve->gateway);
    }
    if (r < 0)
        tl_command_say("serve", "cannot start: %s", strerror(-r));
    return r < 0 ? 1 : 0;
}

int tl_cmd_serve(int argc, char **argv)
{
    struct serve serve = {0};
    char error[512];
    int r = tl_options_parse(&serve.options, argc, argv, environ, error, sizeof error);
    int status = 2;
    if (r == 1) {
        struct tl_buf help = {0};
        tl_options_help(&help);
        fwrite(help.p, 1, help.n, stdout);
        tl_buf_deinit(&help);
        status = 0;
    } else if (r < 0) {
        tl_command_say("serve", "%s", error);
    } else {
        status = run(&serve);
    }
    end(&serve);
    return status;
}
