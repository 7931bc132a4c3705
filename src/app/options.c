#include "app/options.h"

#include "app/channel_rule.h"
#include "base/alloc.h"
#include "gateway/config.h"
#include "net/address.h"
#include "proto/origin.h"
#include "proto/template.h"
#include "proto/url.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>

#define NAME_MAX_BYTES 255

/* Take the next word off *text, "" at the end. */
static struct tl_bytes next_word(const char **text)
{
    const char *start = *text + strspn(*text, " \t");
    size_t n = strcspn(start, " \t");
    *text = start + n;
    return tl_bytes(start, n);
}

static const char *check_listen(const char *text)
{
    struct tl_address address;
    if (tl_address_parse(tl_bytes_str(text), &address) == 0)
        return NULL;
    return "no address to listen on; write 127.0.0.1:8080, [::1]:8080, or :8080 for every address";
}

static const char *check_redis(const char *text)
{
    struct tl_url url;
    const char *wrong = NULL;
    if (tl_url_parse(tl_bytes_str(text), &url, &wrong) < 0)
        return wrong;
    bool is_redis = url.scheme != TL_URL_HTTP;
    explicit_bzero(&url, sizeof url);
    return is_redis ? NULL : "no Redis; write redis://host:port";
}

static const char *check_route(const char *text)
{
    static const char *const kinds[] = {"ws", "sse", "pub", "duplex"};
    struct tl_bytes kind = next_word(&text), path = next_word(&text), channel = next_word(&text);
    bool known = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        known = known || tl_bytes_eq(kind, tl_bytes_str(kinds[i]));
    if (!known)
        return "must start with ws, sse, pub or duplex; write 'ws /trams/{id} tram_{id}'";
    if (channel.n == 0 || next_word(&text).n > 0)
        return "no 'KIND PATH CHANNEL'; write 'ws /trams/{id} tram_{id}'";
    struct tl_template compiled;
    const char *wrong = NULL;
    return tl_template_compile(&compiled, path, channel, &wrong) < 0 ? wrong : NULL;
}

static const char *check_pattern(const char *text)
{
    struct tl_bytes name = next_word(&text), glob = next_word(&text), mark = next_word(&text);
    if (glob.n == 0 || (mark.n > 0 && !tl_bytes_eq(mark, TL_LIT("name"))) || next_word(&text).n > 0)
        return "no 'NAME GLOB' or 'NAME GLOB name'; write 'fleet tram_*'";
    if (name.n > NAME_MAX_BYTES || glob.n > NAME_MAX_BYTES)
        return "too long; a name and a glob have at most 255 bytes";
    return NULL;
}

/* The rest is checked with the keys, whose error says more than one word. */
static const char *check_channel_rule(const char *text)
{
    return strstr(text, ": ") ? NULL : "is no rule; write 'tram_*: overflow=latest'";
}

static const char *check_origin(const char *text)
{
    return tl_origin_is_valid(tl_bytes_str(text))
               ? NULL
               : "no origin; write scheme://host or scheme://host:port, or * for any";
}

static const char *check_token(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f)
            return "the token has characters that no HTTP header can carry; use letters and digits";
    return strlen(text) > TL_TOKEN_MAX ? "the token is too long; at most 1024 characters" : NULL;
}

static const char *check_name(const char *text)
{
    if (*text == 0)
        return "empty; write a glob such as 'tram_*', or leave the option out to allow all";
    return strlen(text) > NAME_MAX_BYTES ? "too long; at most 255 bytes" : NULL;
}

#define HEADING(heading) {.help = (heading)},
#define ROW(type_, field, flag, env_, value_, def, min_, max_, marks_, check_, help_)              \
    {.name = (flag),                                                                               \
     .env = (env_),                                                                                \
     .value = (value_),                                                                            \
     .default_text = (def),                                                                        \
     .help = (help_),                                                                              \
     .min = (min_),                                                                                \
     .max = (max_),                                                                                \
     .offset = offsetof(struct tl_options, field),                                                 \
     .type = TL_OPTION_##type_,                                                                    \
     .marks = (marks_),                                                                            \
     .check = (check_)},
const struct tl_option tl_serve_options[] = {TL_SERVE_OPTIONS(HEADING, ROW)};
const size_t tl_serve_options_n = sizeof tl_serve_options / sizeof *tl_serve_options;

static int fail(char *error, size_t error_n, int code, const char *text)
{
    snprintf(error, error_n, "%s", text);
    return code;
}

/* The first line of the token file into options->token. */
static int read_token(struct tl_options *options, char *error, size_t error_n)
{
    char line[TL_TOKEN_MAX + 3] = "";
    FILE *file = fopen(options->token_file, "re");
    if (!file || (!fgets(line, sizeof line, file) && ferror(file))) {
        snprintf(error, error_n, "--token-file: cannot read '%.80s': %s", options->token_file,
                 strerror(errno));
        if (file)
            fclose(file);
        return -EINVAL;
    }
    fclose(file);
    line[strcspn(line, "\r\n")] = 0;
    if (*line == 0 || check_token(line))
        return fail(error, error_n, -EINVAL,
                    "--token-file: its first line is no token; 1 to 1024 letters and digits");
    char *token = (char *)tl_alloc_copy(tl_bytes_str(line));
    explicit_bzero(line, sizeof line);
    if (!token)
        return fail(error, error_n, -ENOMEM, "out of memory");
    tl_free(options->token);
    options->token = token;
    return 0;
}

static uint64_t usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > 64 ? 64 : (uint64_t)n;
}

/* What no row can check alone. */
static int finish(struct tl_options *options, char *error, size_t error_n)
{
    if (options->workers == 0)
        options->workers = usable_cores();
    if (options->listen.n == 0)
        return fail(error, error_n, -EINVAL, "--listen: no address; write 127.0.0.1:8080");
    if (options->redis_dead_ms <= options->redis_ping_ms)
        return fail(error, error_n, -EINVAL,
                    "--redis-dead: must be longer than --redis-ping, or Redis is given up before "
                    "it can answer");
    if (options->demo && *options->lines)
        return fail(error, error_n, -EINVAL,
                    "--lines: the city of --demo has lines of its own; give one of them");
    if (*options->token && *options->token_file)
        return fail(error, error_n, -EINVAL,
                    "--token-file: there is a --token too; give one of them");
    return *options->token_file ? read_token(options, error, error_n) : 0;
}

int tl_options_parse(struct tl_options *ret_options, int argc, char **argv, char **env, char *error,
                     size_t error_n)
{
    struct tl_optparse p = {
        .table = tl_serve_options, .table_n = tl_serve_options_n, .values = ret_options};
    *ret_options = (struct tl_options){0};
    int rc = tl_optparse(&p, argc, argv, env);
    if (rc < 0)
        return fail(error, error_n, rc, p.error);
    if (p.help)
        return 1;
    if (p.args_n > 0) {
        snprintf(error, error_n, "'%.60s': serve takes options only; see tramline serve --help",
                 p.args[0]);
        return -EINVAL;
    }
    return finish(ret_options, error, error_n);
}

void tl_options_deinit(struct tl_options *options)
{
    struct tl_optparse p = {
        .table = tl_serve_options, .table_n = tl_serve_options_n, .values = options};
    if (options->token)
        explicit_bzero(options->token, strlen(options->token));
    tl_optparse_deinit(&p);
}

void tl_options_help(struct tl_buf *out)
{
    tl_buf_str(out,
               "usage: tramline serve [OPTION]...\n\n"
               "The gateway. Every option is also an environment variable; flags win. Lists "
               "in the\nenvironment are separated by newlines or commas, rules of --channel by "
               "newlines.\n"
               "Durations: 500ms, 30s, 2m, 1h. Sizes: 65536, 64KiB, 16MiB, 1GiB.\n");
    tl_optparse_help(tl_serve_options, tl_serve_options_n, out);
    tl_buf_str(out, "\nThe keys of --channel\n");
    tl_channel_rule_help(out);
}
