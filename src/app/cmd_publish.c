#include "app/commands.h"
#include "app/publisher.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define INPUT_MAX (512u << 20) /* what Redis takes at most */

struct publish_options {
    char *to;
    char *token;
    struct tl_publish_stream stream;
    uint64_t timeout_ms;
};

static const struct tl_option table[] = {
    TL_URL_OPTION("to", "TRAMLINE_TO", struct publish_options, to),
    TL_TOKEN_OPTION(struct publish_options, token),
    TL_STREAM_OPTIONS(struct publish_options, stream),
    {.name = "timeout",
     .env = NULL,
     .value = "D",
     .default_text = "10s",
     .help = "how long to wait for the answer",
     .min = 1,
     .max = 3600000,
     .offset = offsetof(struct publish_options, timeout_ms),
     .type = TL_OPTION_DURATION},
};

static const char usage[] =
    "usage: tramline publish [OPTION]... CHANNEL [PAYLOAD|-]\n\n"
    "Publish one message and print the answer: how many receive it. The payload goes out\n"
    "as it is; `-` or no payload reads standard input to its end.\n";

/* 0, -E2BIG or -errno. */
static int read_input(struct tl_buf *ret_input)
{
    for (;;) {
        if (tl_buf_reserve(ret_input, 65536) < 0)
            return -ENOMEM;
        ssize_t n = read(STDIN_FILENO, ret_input->p + ret_input->n, 65536);
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        ret_input->n += (size_t)n;
        if (ret_input->n > INPUT_MAX)
            return -E2BIG;
    }
}

/* Wait for the one answer; the exit status. */
static int finish(struct tl_publisher *publisher, uint64_t timeout_ms)
{
    const struct tl_publisher_count *count = tl_publisher_count(publisher);
    uint64_t end_ms = tl_clock_ms() + timeout_ms;
    while (count->answered == 0) {
        uint64_t now_ms = tl_clock_ms();
        if (now_ms >= end_ms) {
            tl_command_say("publish", "no answer in time; the message may have been published");
            return 1;
        }
        if (tl_publisher_pump(publisher, (int)(end_ms - now_ms)) < 0 && count->answered == 0) {
            tl_command_say("publish", "%s", tl_publisher_error(publisher));
            return 1;
        }
    }
    if (count->refused > 0) {
        tl_command_say("publish", "%s", tl_publisher_error(publisher));
        return 1;
    }
    puts(tl_publisher_answer(publisher));
    return fflush(stdout) == 0 ? 0 : 1;
}

static int publish(const struct publish_options *options, struct tl_bytes channel,
                   struct tl_bytes payload)
{
    char error[400];
    struct tl_publisher *publisher =
        tl_publisher_open(options->to, options->token, error, sizeof error);
    if (!publisher) {
        tl_command_say("publish", "%s", error);
        return 1;
    }
    int status = 1;
    tl_publisher_stream(publisher, &options->stream);
    if (tl_publisher_send(publisher, channel, payload) < 0)
        tl_command_say("publish", "out of memory");
    else
        status = finish(publisher, options->timeout_ms);
    tl_publisher_close(publisher);
    return status;
}

/* The arguments are right: find the payload. */
static int run(const struct publish_options *options, const struct tl_optparse *p)
{
    struct tl_buf input = {0};
    bool from_input = p->args_n == 1 || strcmp(p->args[1], "-") == 0;
    int rc = from_input ? read_input(&input) : 0;
    int status = 1;
    if (rc < 0)
        tl_command_say("publish", "standard input: %s", strerror(-rc));
    else
        status = publish(options, tl_bytes_str(p->args[0]),
                         from_input ? tl_buf_bytes(&input) : tl_bytes_str(p->args[1]));
    tl_buf_deinit(&input);
    return status;
}

int tl_cmd_publish(int argc, char **argv)
{
    struct publish_options options = {0};
    struct tl_optparse p = {
        .table = table, .table_n = sizeof table / sizeof *table, .values = &options};
    int status = tl_command_options(&p, "publish", usage, argc, argv);
    if (status >= 0)
        return status;
    const char *conflict;
    tl_command_catch_signals();
    if (p.args_n < 1 || p.args_n > 2 || !*p.args[0] || strlen(p.args[0]) > 255) {
        tl_command_say("publish", "one CHANNEL of 1 to 255 bytes and at most one PAYLOAD are "
                                  "needed; see --help");
        status = 2;
    } else if ((conflict = tl_publish_stream_conflict(&options.stream, options.to))) {
        tl_command_say("publish", "%s", conflict);
        status = 2;
    } else {
        status = run(&options, &p);
    }
    tl_optparse_deinit(&p);
    return status;
}
