#include "app/commands.h"
#include "app/publisher.h"
#include "app/recording.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define STALL_MS  10000 /* no answer for that long: give up */
#define STATUS_MS 5000
#define TTY_MS    200

struct replay_options {
    char *channel, *to, *token;
    uint64_t speed, window;
};

static const struct tl_option table[] = {
    {.name = "channel",
     .value = "TEMPLATE",
     .default_text = "",
     .help = "where a line goes; {field} is a field of its JSON object, as in 'tram_{id}'",
     .offset = offsetof(struct replay_options, channel),
     .type = TL_OPTION_STRING},
    {.name = "speed",
     .value = "N",
     .default_text = "1",
     .help = "how many times faster than it was recorded; 0 is as fast as it goes",
     .max = 1000000,
     .offset = offsetof(struct replay_options, speed),
     .type = TL_OPTION_COUNT},
    {.name = "to",
     .env = "TRAMLINE_TO",
     .value = "URL",
     .default_text = TL_DEFAULT_URL,
     .help = "a gateway (http://host:port) or a Redis (redis://..., redis+unix:///path)",
     .offset = offsetof(struct replay_options, to),
     .type = TL_OPTION_STRING,
     .marks = TL_OPTION_SECRET},
    {.name = "token",
     .env = "TRAMLINE_TOKEN",
     .value = "TOKEN",
     .default_text = "",
     .help = "the gateway's token",
     .offset = offsetof(struct replay_options, token),
     .type = TL_OPTION_STRING,
     .marks = TL_OPTION_SECRET},
    {.name = "window",
     .value = "N",
     .default_text = "64",
     .help = "messages that may wait for their answers",
     .min = 1,
     .max = 4096,
     .offset = offsetof(struct replay_options, window),
     .type = TL_OPTION_COUNT},
};

static const char usage[] =
    "usage: tramline replay [OPTION]... --channel TEMPLATE FILE\n\n"
    "Publish a recording: a JSON object a line, with `ts` in milliseconds since 1970. Each\n"
    "line goes out byte for byte as it stands, at the pace of its `ts`.\n";

struct replay {
    const struct replay_options *options;
    struct tl_recording *recording;
    struct tl_publisher *publisher;
    const struct tl_publisher_count *count;
    const volatile int *interrupted;
    bool tty;
    uint64_t start_ms, said_ms; /* our clock */
    int64_t first_ts_ms, ts_ms; /* the recording's */
};

static double seconds(uint64_t ms)
{
    return (double)ms / 1000.0;
}

static void say_progress(struct replay *r, uint64_t now_ms)
{
    if (now_ms - r->said_ms < (r->tty ? TTY_MS : STATUS_MS))
        return;
    r->said_ms = now_ms;
    double elapsed = seconds(now_ms - r->start_ms);
    fprintf(stderr, "%sreplay: %.0f s of the recording in %.1f s, %llu messages, %.0f/s%s",
            r->tty ? "\r" : "", (double)(r->ts_ms - r->first_ts_ms) / 1000.0, elapsed,
            (unsigned long long)r->count->answered,
            elapsed > 0 ? (double)r->count->answered / elapsed : 0.0, r->tty ? "\033[K" : "\n");
}

/* Move bytes for up to wait_ms. 0 or 1 for an error that was told. */
static int pump(struct replay *r, uint64_t wait_ms)
{
    int rc = tl_publisher_pump(r->publisher, wait_ms > TTY_MS ? TTY_MS : (int)wait_ms);
    say_progress(r, tl_clock_ms());
    if (rc == 0 || *r->interrupted)
        return 0;
    fputs(r->tty ? "\n" : "", stderr);
    tl_command_say("replay", "%s", tl_publisher_error(r->publisher));
    return 1;
}

/* Until at most `limit` messages wait for their answers. */
static int wait_answers(struct replay *r, uint64_t limit)
{
    uint64_t progress_ms = tl_clock_ms(), answered = r->count->answered;
    while (r->count->sent - r->count->answered > limit && !*r->interrupted) {
        if (pump(r, TTY_MS) != 0)
            return 1;
        uint64_t now_ms = tl_clock_ms();
        if (r->count->answered != answered) {
            answered = r->count->answered;
            progress_ms = now_ms;
        } else if (now_ms - progress_ms > STALL_MS) {
            tl_command_say("replay", "no answer for 10 s; is the other side alive?");
            return 1;
        }
    }
    return 0;
}

/* Until the line's moment has come; what is late goes at once. */
static int wait_moment(struct replay *r, int64_t ts_ms)
{
    r->ts_ms = ts_ms;
    if (r->options->speed == 0)
        return 0;
    int64_t since_ms = ts_ms > r->first_ts_ms ? ts_ms - r->first_ts_ms : 0;
    uint64_t due_ms = r->start_ms + (uint64_t)since_ms / r->options->speed;
    for (uint64_t now_ms = tl_clock_ms(); now_ms < due_ms && !*r->interrupted;
         now_ms = tl_clock_ms())
        if (pump(r, due_ms - now_ms) != 0)
            return 1;
    return 0;
}

static int publish_lines(struct replay *r)
{
    struct tl_recording_line line;
    int rc = 0;
    while (!*r->interrupted && (rc = tl_recording_next(r->recording, &line)) > 0) {
        if (r->count->sent == 0) {
            r->first_ts_ms = line.ts_ms;
            r->start_ms = r->said_ms = tl_clock_ms();
        }
        if (wait_moment(r, line.ts_ms) != 0 || wait_answers(r, r->options->window - 1) != 0)
            return 1;
        if (tl_publisher_send(r->publisher, line.channel, line.payload) < 0) {
            tl_command_say("replay", "out of memory");
            return 1;
        }
    }
    if (!*r->interrupted && rc < 0) {
        tl_command_say("replay", "%s", tl_recording_error(r->recording));
        return 1;
    }
    return wait_answers(r, 0);
}

/* The end's report; the exit status. */
static int say_summary(const struct replay *r, int status)
{
    double elapsed = seconds(tl_clock_ms() - r->start_ms);
    uint64_t published = r->count->answered - r->count->refused;
    uint64_t skipped = tl_recording_skipped(r->recording);
    fputs(r->tty ? "\r\033[K" : "", stderr);
    if (r->count->sent == 0 && status != 0)
        return status;
    printf("%llu messages in %.1f s, %.0f/s, %llu receivers\n", (unsigned long long)published,
           elapsed, elapsed > 0 ? (double)published / elapsed : 0.0,
           (unsigned long long)r->count->receivers);
    fflush(stdout);
    if (r->count->refused > 0)
        tl_command_say("replay", "%llu messages were refused; the first: %s",
                       (unsigned long long)r->count->refused, tl_publisher_error(r->publisher));
    if (skipped > 0)
        tl_command_say("replay", "%llu lines were skipped; the first: %s",
                       (unsigned long long)skipped, tl_recording_error(r->recording));
    return status != 0 || skipped > 0 || r->count->refused > 0 ? 1 : 0;
}

static int run(const struct replay_options *options, const char *path)
{
    char error[400];
    struct replay r = {.options = options,
                       .interrupted = tl_command_catch_signals(),
                       .tty = isatty(STDERR_FILENO) == 1};
    r.recording = tl_recording_open(path, options->channel, error, sizeof error);
    if (r.recording)
        r.publisher = tl_publisher_open(options->to, options->token, error, sizeof error);
    int status = 1;
    if (r.publisher) {
        r.count = tl_publisher_count(r.publisher);
        r.start_ms = r.said_ms = tl_clock_ms();
        status = say_summary(&r, publish_lines(&r));
    } else {
        tl_command_say("replay", "%s", error);
    }
    tl_publisher_close(r.publisher);
    tl_recording_close(r.recording);
    return status;
}

int tl_cmd_replay(int argc, char **argv)
{
    struct replay_options options = {0};
    struct tl_optparse p = {
        .table = table, .table_n = sizeof table / sizeof *table, .values = &options};
    int status = tl_command_options(&p, "replay", usage, argc, argv);
    if (status >= 0)
        return status;
    if (p.args_n != 1 || !*options.channel) {
        tl_command_say("replay", "one FILE and --channel are needed, as in: tramline replay "
                                 "positions.ndjson --channel 'tram_{id}'");
        status = 2;
    } else {
        status = run(&options, p.args[0]);
    }
    tl_optparse_deinit(&p);
    return status;
}
