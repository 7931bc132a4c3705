/* The command line, in one table. */
#include "check.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

struct options options = {
    .host = "127.0.0.1:8080",
    .channels_n = 1,
    .messages_n = 10,
    .size = 128,
    .burst = 1,
    .publish = PUBLISH_HTTP,
    .publishers_n = 1,
    .churn_slots = 64,
    .deadline_s = 60,
    .connect_parallel = 200,
    .settle_ms = 50,
    .sources_n = 8,
    .expect_subscribers = -1,
    .path_ws = "/ws/{c}",
    .path_sse = "/sse/{c}",
    .path_pub = "/pub/{c}",
    .prefix = "check",
    .seed = 1,
};

enum form { NUMBER, FLAG, TEXT, SPECIAL };

static const struct option_row {
    const char *name;
    enum form form;
    void *at;
    const char *help;
} rows[] = {
    {"--target", SPECIAL, NULL, "ADDR:PORT of the gateway"},
    {"--ws", NUMBER, &options.ws_n, "WebSocket clients, spread over the channels"},
    {"--sse", NUMBER, &options.sse_n, "SSE clients, spread over the channels"},
    {"--stalled", NUMBER, &options.stalled_n, "WebSocket clients that never read"},
    {"--channels", NUMBER, &options.channels_n, "how many channels"},
    {"--messages", NUMBER, &options.messages_n, "messages a channel"},
    {"--size", SPECIAL, NULL, "payload bytes (at least the head with channel and number)"},
    {"--content", SPECIAL, NULL, "text, binary, lines or cr: what payloads end with"},
    {"--burst", NUMBER, &options.burst, "with --rate: messages that go together"},
    {"--rate", NUMBER, &options.rate, "messages a second in all, 0: as fast as it goes"},
    {"--window", NUMBER, &options.window, "at most so many messages not yet at all clients"},
    {"--publish", SPECIAL, NULL, "http, redis:PORT or none (somebody else does)"},
    {"--redis-password", TEXT, &options.redis_password, "for --publish redis"},
    {"--publishers", NUMBER, &options.publishers_n, "HTTP connections that publish"},
    {"--churn", NUMBER, &options.churn_hz, "connects, closes and resets a second beside"},
    {"--churn-slots", NUMBER, &options.churn_slots, "how many such clients"},
    {"--resume", NUMBER, &options.resume_n, "drops of SSE clients that come back with their id"},
    {"--deadline", NUMBER, &options.deadline_s, "seconds for all of it"},
    {"--connect-parallel", NUMBER, &options.connect_parallel, "connects in flight"},
    {"--together", FLAG, &options.together, "all connect first, then all ask at once"},
    {"--settle", NUMBER, &options.settle_ms, "ms to look for messages too many at the end"},
    {"--hold", NUMBER, &options.hold_s, "keep idle connections so many seconds, then end"},
    {"--sources", NUMBER, &options.sources_n, "source addresses 127.1.x.y"},
    {"--expect-subscribers", SPECIAL, NULL, "what each publish must answer"},
    {"--server-pid", SPECIAL, NULL, "measure CPU and RSS of that process"},
    {"--wait-go", FLAG, &options.wait_go, "after \"ready\" wait for a line on stdin"},
    {"--allow-gaps", FLAG, &options.allow_gaps, "missing messages are no failure, others are"},
    {"--verbose", FLAG, &options.verbose, "each problem on stderr"},
    {"--path-ws", TEXT, &options.path_ws, "with {c} for the channel"},
    {"--path-sse", TEXT, &options.path_sse, "with {c} for the channel"},
    {"--path-pub", TEXT, &options.path_pub, "with {c} for the channel"},
    {"--prefix", TEXT, &options.prefix, "channel name, a number follows if there are many"},
    {"--expect", TEXT, &options.expect_file, "file of channel TAB payload lines that will come"},
    {"--aggregate", TEXT, &options.aggregate, "with --expect: a channel on which all of them come"},
    {"--aggregate-ws", NUMBER, &options.aggregate_ws_n, "its WebSocket clients"},
    {"--aggregate-sse", NUMBER, &options.aggregate_sse_n, "its SSE clients"},
    {"--header", SPECIAL, NULL, "a further request line, may be repeated"},
    {"--seed", NUMBER, &options.seed, "of everything random"},
};

static int usage(void)
{
    fprintf(stderr, "usage: tl-check --target ADDR:PORT [options]\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        fprintf(stderr, "  %-22s %s\n", rows[i].name, rows[i].help);
    return -1;
}

static int set_target(const char *value)
{
    char address[64];
    const char *colon = strrchr(value, ':');
    if (!colon || (size_t)(colon - value) >= sizeof address)
        return -1;
    memcpy(address, value, (size_t)(colon - value));
    address[colon - value] = 0;
    options.host = value;
    options.target.sin_family = AF_INET;
    options.target.sin_port = htons((uint16_t)atoi(colon + 1));
    return inet_pton(AF_INET, address, &options.target.sin_addr) == 1 ? 0 : -1;
}

static int set_publish(const char *value)
{
    if (!strcmp(value, "http"))
        options.publish = PUBLISH_HTTP;
    else if (!strcmp(value, "none"))
        options.publish = PUBLISH_NONE;
    else if (!strncmp(value, "redis:", 6)) {
        options.publish = PUBLISH_REDIS;
        options.redis_port = (uint16_t)atoi(value + 6);
    } else
        return -1;
    return 0;
}

static int set_content(const char *value)
{
    static const char *const names[] = {"text", "binary", "lines", "cr"};
    for (unsigned i = 0; i < 4; i++)
        if (!strcmp(value, names[i])) {
            options.content = (enum content)i;
            return 0;
        }
    return -1;
}

static void add_header(const char *value)
{
    size_t old_n = strlen(options.headers), n = strlen(value);
    options.headers = must(realloc(options.headers, old_n + n + 3));
    memcpy(options.headers + old_n, value, n);
    memcpy(options.headers + old_n + n, "\r\n", 3);
}

static int set_special(const char *name, const char *value)
{
    if (!strcmp(name, "--target"))
        return set_target(value);
    if (!strcmp(name, "--publish"))
        return set_publish(value);
    if (!strcmp(name, "--content"))
        return set_content(value);
    if (!strcmp(name, "--size"))
        options.size = strtoul(value, NULL, 10);
    else if (!strcmp(name, "--expect-subscribers"))
        options.expect_subscribers = strtoll(value, NULL, 10);
    else if (!strcmp(name, "--server-pid"))
        options.server_pid = atoi(value);
    else
        add_header(value);
    return 0;
}

static const struct option_row *row_named(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

static int check_sense(void)
{
    if (!options.target.sin_port || !options.channels_n || !options.burst || !options.sources_n ||
        !options.connect_parallel || !options.publishers_n || !options.churn_slots)
        return usage();
    if (options.expect_file && options.publish != PUBLISH_NONE) {
        fprintf(stderr, "tl-check: --expect needs --publish none\n");
        return -1;
    }
    return 0;
}

int options_parse(int argc, char **argv)
{
    options.headers = must(strdup(""));
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = row_named(argv[i]);
        if (row && row->form == FLAG) {
            *(bool *)row->at = true;
            continue;
        }
        if (!row || ++i == argc)
            return usage();
        if (row->form == NUMBER)
            *(uint32_t *)row->at = (uint32_t)strtoul(argv[i], NULL, 10);
        else if (row->form == TEXT)
            *(const char **)row->at = argv[i];
        else if (set_special(argv[i - 1], argv[i]))
            return usage();
    }
    return check_sense();
}
