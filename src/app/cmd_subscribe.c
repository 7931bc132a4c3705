#include "app/commands.h"
#include "app/redis_dial.h"
#include "app/subscriber.h"
#include "base/alloc.h"
#include "base/base64.h"
#include "base/utf8.h"

#include <jansson.h>
#include <stdio.h>

struct subscribe_options {
    char *from;
    char *token;
    uint64_t count;
    bool json;
};

static const struct tl_option table[] = {
    TL_URL_OPTION("from", "TRAMLINE_FROM", struct subscribe_options, from),
    TL_TOKEN_OPTION(struct subscribe_options, token),
    {.name = "count",
     .value = "N",
     .default_text = "0",
     .help = "stop after N messages; 0 goes on for ever",
     .max = 1000000000000,
     .offset = offsetof(struct subscribe_options, count),
     .type = TL_OPTION_COUNT},
    {.name = "json",
     .value = "",
     .default_text = "no",
     .help = "print a JSON object a message: channel, name, id, and payload or base64",
     .offset = offsetof(struct subscribe_options, json),
     .type = TL_OPTION_BOOL},
};

static const char usage[] =
    "usage: tramline subscribe [OPTION]... CHANNEL...\n\n"
    "Print what is published, one message a line, with the channel's name in front when there\n"
    "are several. What else happens is told on standard error. Ctrl-C ends it.\n";

struct printer {
    struct tl_sink sink;
    uint64_t left; /* messages until the end; 0: no end */
    bool json;
    bool tags; /* the channel's name goes first */
    bool out_of_memory;
};

static json_t *text_or_null(struct tl_bytes bytes)
{
    return bytes.n > 0 ? json_stringn((const char *)bytes.p, bytes.n) : NULL;
}

static json_t *base64_text(struct tl_bytes bytes)
{
    size_t n = tl_base64_size(bytes.n);
    uint8_t *text = tl_alloc(n + 1);
    if (!text)
        return NULL;
    tl_base64_encode(bytes, text);
    json_t *value = json_stringn((const char *)text, n);
    tl_free(text);
    return value;
}

/* Members that are NULL are left out. */
static bool print_json(const struct tl_received *message)
{
    struct tl_bytes payload = message->payload;
    bool is_text = tl_utf8_valid(payload);
    json_t *object = json_object();
    json_object_set_new(object, "channel", text_or_null(message->channel));
    json_object_set_new(object, "name", text_or_null(message->name));
    json_object_set_new(object, "id", text_or_null(message->id));
    json_t *value =
        is_text ? json_stringn((const char *)payload.p, payload.n) : base64_text(payload);
    bool ok = json_object_set_new(object, is_text ? "payload" : "base64", value) == 0 &&
              json_dumpf(object, stdout, JSON_COMPACT) == 0;
    json_decref(object);
    putchar('\n');
    return ok;
}

static void print_plain(const struct printer *printer, const struct tl_received *message)
{
    struct tl_bytes tag = message->name.n > 0 ? message->name : message->channel;
    if (printer->tags || message->name.n > 0) {
        fwrite(tag.p, 1, tag.n, stdout);
        putchar(' ');
    }
    if (message->payload.n > 0)
        fwrite(message->payload.p, 1, message->payload.n, stdout);
    putchar('\n');
}

static bool on_message(struct tl_sink *sink, const struct tl_received *message)
{
    struct printer *printer = TL_CONTAINER(sink, struct printer, sink);
    if (!printer->json)
        print_plain(printer, message);
    else if (!print_json(message))
        printer->out_of_memory = true;
    bool more = printer->left != 1;
    printer->left -= printer->left > 0;
    return fflush(stdout) == 0 && more && !printer->out_of_memory;
}

/* Signals come in only while we wait, so none is lost between a look at the flag and the wait. */
static void block_signals(sigset_t *ret_open)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, ret_open);
    sigdelset(ret_open, SIGINT);
    sigdelset(ret_open, SIGTERM);
}

static int run(const struct subscribe_options *options, const struct tl_optparse *p)
{
    sigset_t open;
    struct printer printer = {
        .sink = {on_message}, .left = options->count, .json = options->json, .tags = p->args_n > 1};
    struct tl_subscribe_job job = {.url = options->from,
                                   .token = options->token,
                                   .channels = p->args,
                                   .channels_n = p->args_n,
                                   .sink = &printer.sink,
                                   .interrupted = tl_command_catch_signals(),
                                   .signals_open = &open};
    block_signals(&open);
    int status = tl_redis_is_url(job.url) ? tl_subscribe_redis(&job) : tl_subscribe_sse(&job);
    if (printer.out_of_memory)
        tl_command_say("subscribe", "out of memory");
    return printer.out_of_memory ? 1 : status;
}

int tl_cmd_subscribe(int argc, char **argv)
{
    struct subscribe_options options = {0};
    struct tl_optparse p = {
        .table = table, .table_n = sizeof table / sizeof *table, .values = &options};
    int status = tl_command_options(&p, "subscribe", usage, argc, argv);
    if (status >= 0)
        return status;
    bool good = p.args_n > 0;
    for (size_t i = 0; i < p.args_n; i++)
        good = good && *p.args[i] && strlen(p.args[i]) <= 255;
    if (good) {
        status = run(&options, &p);
    } else {
        tl_command_say("subscribe", "at least one CHANNEL of 1 to 255 bytes is needed; see --help");
        status = 2;
    }
    tl_optparse_deinit(&p);
    return status;
}
