#include "app/channel_rule.h"

#include "app/options.h"
#include "app/optparse.h"
#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>

#define GLOB_MAX 255
#define KEYS_MAX 24

enum { SOURCE_PUBSUB, SOURCE_STREAM };

struct keys {
    uint64_t history, bytes, age_ms;
    int overflow, on_gap, source;
    char *max_rate, *field;
    uint64_t maxlen, minid_ms, ttl_ms, stale_after_ms;
    char *snapshot;
};

/* "4/s", "1/10s" as an interval in milliseconds; 0 if it is none. */
static uint64_t parse_rate(const char *text)
{
    uint64_t n = 0, seconds = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9' && n <= 1000; c++)
        n = n * 10 + (uint64_t)(*c - '0');
    if (c == text || n == 0 || n > 1000 || *c++ != '/')
        return 0;
    const char *unit = c;
    for (; *c >= '0' && *c <= '9' && seconds <= 3600; c++)
        seconds = seconds * 10 + (uint64_t)(*c - '0');
    if (c == unit)
        seconds = 1;
    if (strcmp(c, "s") != 0 || seconds == 0 || seconds > 3600)
        return 0;
    return (seconds * 1000 + n - 1) / n;
}

static const char *check_rate(const char *text)
{
    return *text == 0 || parse_rate(text) > 0 ? NULL
                                              : "is no rate; write 4/s or 1/10s, up to 1000/s";
}

static const char *check_field(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && n <= TL_STREAM_FIELD_MAX ? NULL : "is no field's name of 1 to 63 bytes";
}

#define KEY_PREFIX "key:"

static const char *check_snapshot(const char *text)
{
    size_t n = strlen(KEY_PREFIX);
    return strcmp(text, "log") == 0 || (strncmp(text, KEY_PREFIX, n) == 0 && text[n])
               ? NULL
               : "must be log or key:TEMPLATE, as in key:tram_{id}:last";
}

#define ROW(type_, field_, name_, value_, def_, min_, max_, check_, help_)                         \
    {                                                                                              \
        .name = (name_), .value = (value_), .default_text = (def_), .help = (help_),               \
        .min = (min_), .max = (max_), .offset = offsetof(struct keys, field_),                     \
        .type = TL_OPTION_##type_, .check = (check_)                                               \
    }
static const struct tl_option table[] = {
    ROW(COUNT, history, "history", "N", "1", 1, 16777216, NULL, "messages kept, as --log-messages"),
    ROW(SIZE, bytes, "bytes", "SIZE", "1KiB", TL_KIB, 64 * TL_GIB, NULL,
        "bytes kept, as --log-bytes"),
    ROW(DURATION, age_ms, "age", "D", "1s", 100, 24 * TL_HOUR, NULL,
        "and for how long, as --log-age"),
    ROW(ENUM, overflow, "overflow", "disconnect|gap|latest", "disconnect", 0, 0, NULL,
        "what happens to a client that falls off the log: it is closed with 4408 (SSE: the stream "
        "ends); it goes on with the oldest kept message and is told how many it missed (SSE: "
        "event gap; a raw WebSocket is closed with 4410); it goes on with the newest, as what "
        "counts is the state"),
    ROW(STRING, max_rate, "max_rate", "N/s", "", 0, 0, check_rate,
        "with overflow=latest: no client gets more than that, and always the newest message"),
    ROW(ENUM, on_gap, "on_gap", "keep|close", "keep", 0, 0, NULL,
        "raw WebSockets when messages were lost upstream: they stay, or are closed with 4410"),
    ROW(ENUM, source, "source", "pubsub|stream", "pubsub", 0, 0, NULL,
        "what of Redis the channel is: what is published to its name, or the stream that is its "
        "key, which any gateway can resume from"),
    ROW(STRING, field, "field", "NAME", "data", 0, 0, check_field,
        "with source=stream: the field of an entry that is the payload"),
    ROW(COUNT, maxlen, "maxlen", "N", "1000", 1, UINT64_C(1) << 40, NULL,
        "with source=stream: what is published through the gateway cuts the stream to about N "
        "entries; without this or minid it only grows"),
    ROW(DURATION, minid_ms, "minid", "D", "1h", 1000, 10000 * TL_HOUR, NULL,
        "or to those that are not older than about D"),
    ROW(DURATION, ttl_ms, "ttl", "D", "0s", 0, 24 * TL_HOUR, NULL,
        "how long the channel outlives its last client, with its log and its upstream "
        "subscription; in place of --linger and --history-ttl"),
    ROW(STRING, snapshot, "snapshot", "log|key:TEMPLATE", "log", 0, 0, check_snapshot,
        "whoever subscribes without a position or history begins with the newest message of the "
        "log; with a key and no message in the log, with the value of that key of Redis, read once "
        "for all: 'tram_{id}: snapshot=key:tram_{id}:last', or {channel} for the whole name; on "
        "SSE "
        "behind an event snapshot with its age"),
    ROW(DURATION, stale_after_ms, "stale_after", "D", "180s", 100, 10000 * TL_HOUR, NULL,
        "without a message for so long SSE clients are told an event expired, and newcomers get no "
        "snapshot"),
};
#undef ROW
#define TABLE_N (sizeof table / sizeof *table)

static int fail(char *error, size_t error_n, const char *text, const char *what)
{
    snprintf(error, error_n, "--channel: '%.80s': %s", text, what);
    return -EINVAL;
}

static bool has_key(char *const *argv, int argc, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i] + 2, name, n) == 0 && argv[i][2 + n] == '=')
            return true;
    return false;
}

static void fill(struct tl_channel_rule *rule, const struct keys *keys, char *const *argv, int argc)
{
    if (has_key(argv, argc, "history"))
        rule->log.msgs_max = keys->history;
    if (has_key(argv, argc, "bytes"))
        rule->log.bytes_max = keys->bytes;
    if (has_key(argv, argc, "age"))
        rule->log.age_max_ms = keys->age_ms;
    rule->overflow = (enum tl_overflow)keys->overflow;
    rule->interval_ms = *keys->max_rate ? parse_rate(keys->max_rate) : 0;
    rule->close_on_gap = keys->on_gap == 1;
    rule->has_ttl = has_key(argv, argc, "ttl");
    rule->ttl_ms = rule->has_ttl ? keys->ttl_ms : 0;
    rule->snapshot = has_key(argv, argc, "snapshot");
    rule->stale_after_ms = has_key(argv, argc, "stale_after") ? keys->stale_after_ms : 0;
    if (keys->source != SOURCE_STREAM)
        return;
    snprintf(rule->stream.field, sizeof rule->stream.field, "%s", keys->field);
    if (has_key(argv, argc, "maxlen"))
        rule->stream.len_max = keys->maxlen;
    if (has_key(argv, argc, "minid"))
        rule->stream.age_max_ms = keys->minid_ms;
}

/* The key that the rule names, empty without one. */
static struct tl_bytes key_text(const struct keys *keys)
{
    struct tl_bytes text = tl_bytes_str(keys->snapshot);
    return tl_bytes_starts(text, TL_LIT(KEY_PREFIX)) ? tl_bytes_skip(text, strlen(KEY_PREFIX))
                                                     : tl_bytes(NULL, 0);
}

/* What does not go together, or NULL. */
static const char *find_conflict(const struct keys *keys, char *const *argv, int argc)
{
    static const char *const of_streams[] = {"field", "maxlen", "minid"};
    if (*keys->max_rate && keys->overflow != TL_OVERFLOW_LATEST)
        return "max_rate goes with overflow=latest";
    for (size_t i = 0; keys->source != SOURCE_STREAM && i < 3; i++)
        if (has_key(argv, argc, of_streams[i]))
            return "field, maxlen and minid go with source=stream";
    if (keys->source == SOURCE_STREAM && key_text(keys).n > 0)
        return "snapshot=key goes with source=pubsub; what a stream holds is read by its position";
    if (has_key(argv, argc, "maxlen") && has_key(argv, argc, "minid"))
        return "either maxlen or minid: Redis takes one of them";
    return NULL;
}

/* Places in the pattern, and the key that is made with them. */
static int name_places(const char *text, struct tl_channel_rule *rule, struct tl_bytes key,
                       char *error, size_t error_n)
{
    const char *wrong = "";
    if (key.n == 0 && !memchr(rule->glob.p, '{', rule->glob.n))
        return 0;
    struct tl_key_template *names = tl_alloc(sizeof *names);
    if (!names) {
        snprintf(error, error_n, "out of memory");
        return -ENOMEM;
    }
    if (tl_key_template_compile(names, rule->glob, key, &wrong) < 0) {
        tl_free(names);
        return fail(error, error_n, text, wrong);
    }
    rule->names = names;
    rule->glob = tl_key_template_glob(names);
    return 0;
}

void tl_channel_rule_deinit(struct tl_channel_rule *rule)
{
    tl_free(rule->names);
    rule->names = NULL;
}

/* Each "key=value" as a flag of its own: what parses flags parses rules too. */
static int parse_keys(const char *text, int argc, char **argv, struct tl_channel_rule *rule,
                      char *error, size_t error_n)
{
    char *flags[KEYS_MAX], *env[] = {NULL};
    struct keys keys = {0};
    const char *conflict;
    struct tl_optparse p = {.table = table, .table_n = TABLE_N, .values = &keys};
    memcpy(flags, argv, (size_t)argc * sizeof *flags); /* it reorders */
    int r = tl_optparse(&p, argc, flags, env);
    if (r < 0)
        (void)fail(error, error_n, text, strncmp(p.error, "--", 2) == 0 ? p.error + 2 : p.error);
    else if (p.args_n > 0 || p.help)
        r = fail(error, error_n, text, "a rule is 'GLOB: key=value, key=value'");
    else if ((conflict = find_conflict(&keys, argv, argc)))
        r = fail(error, error_n, text, conflict);
    else
        fill(rule, &keys, argv, argc);
    if (r == 0)
        r = name_places(text, rule, key_text(&keys), error, error_n);
    tl_optparse_deinit(&p);
    return r;
}

static bool is_separator(uint8_t c)
{
    return c == ',' || c == ' ' || c == '\t';
}

/* "a=1, b=2" into "--a=1", "--b=2" in space of their own. Returns how many, or -1. */
static int split_keys(struct tl_bytes list, char *space, char **argv)
{
    int argc = 0;
    for (;;) {
        size_t n = 0;
        while (list.n > 0 && is_separator(*list.p))
            list = tl_bytes_skip(list, 1);
        if (list.n == 0)
            return argc;
        while (n < list.n && !is_separator(list.p[n]))
            n++;
        if (argc == KEYS_MAX || !memchr(list.p, '=', n))
            return -1;
        argv[argc++] = space;
        memcpy(space, "--", 2);
        memcpy(space + 2, list.p, n);
        space[2 + n] = 0;
        space += n + 3;
        list = tl_bytes_skip(list, n);
    }
}

int tl_channel_rule_parse(const char *text, const struct tl_channel_rule *standard,
                          struct tl_channel_rule *ret_rule, char *error, size_t error_n)
{
    static const char form[] = "a rule is 'GLOB: key=value, key=value'";
    const char *colon = strstr(text, ": ");
    char *argv[KEYS_MAX];
    if (!colon)
        return fail(error, error_n, text, form);
    *ret_rule = *standard;
    ret_rule->glob = tl_bytes_trim(tl_bytes(text, (size_t)(colon - text)));
    if (ret_rule->glob.n == 0 || ret_rule->glob.n > GLOB_MAX)
        return fail(error, error_n, text, "its glob has 1 to 255 bytes");
    struct tl_bytes list = tl_bytes_trim(tl_bytes_str(colon + 2));
    char *space = tl_alloc(list.n + 3 * KEYS_MAX + 1); /* dashes and a NUL for each key */
    if (!space) {
        snprintf(error, error_n, "out of memory");
        return -ENOMEM;
    }
    int argc = split_keys(list, space, argv);
    int r = argc > 0 ? parse_keys(text, argc, argv, ret_rule, error, error_n)
                     : fail(error, error_n, text, form);
    tl_free(space);
    return r;
}

void tl_channel_rule_help(struct tl_buf *out)
{
    for (size_t i = 0; i < TABLE_N; i++)
        tl_buf_printf(out, "  %s=%s: %s\n", table[i].name, table[i].value, table[i].help);
}
