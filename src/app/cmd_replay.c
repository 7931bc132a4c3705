#include "app/commands.h"
#include "app/feeder.h"
#include "app/recording.h"
#include "base/clock.h"

#include <stdio.h>

struct replay_options {
    char *channel, *to, *token;
    uint64_t speed, window;
    struct tl_publish_stream stream;
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
    TL_URL_OPTION("to", "TRAMLINE_TO", struct replay_options, to),
    TL_TOKEN_OPTION(struct replay_options, token),
    TL_STREAM_OPTIONS(struct replay_options, stream),
    TL_WINDOW_OPTION("", struct replay_options, window),
};

static const char usage[] =
    "usage: tramline replay [OPTION]... --channel TEMPLATE FILE\n\n"
    "Publish a recording: a JSON object a line, with `ts` in milliseconds since 1970. Each\n"
    "line goes out byte for byte as it stands, at the pace of its `ts`.\n";

struct replay {
    struct tl_feeder feeder;
    const struct replay_options *options;
    struct tl_recording *recording;
    int64_t first_ts_ms, ts_ms; /* the recording's */
};

static void describe(const struct tl_feeder *f, char *text, size_t text_n)
{
    const struct replay *r = TL_CONTAINER(f, struct replay, feeder);
    snprintf(text, text_n, "%.0f s of the recording", (double)(r->ts_ms - r->first_ts_ms) / 1000.0);
}

/* Until the line's moment has come; what is late goes at once. */
static int wait_moment(struct replay *r, int64_t ts_ms)
{
    r->ts_ms = ts_ms;
    if (r->options->speed == 0)
        return 0;
    int64_t since_ms = ts_ms > r->first_ts_ms ? ts_ms - r->first_ts_ms : 0;
    return tl_feeder_wait(&r->feeder, r->feeder.start_ms + (uint64_t)since_ms / r->options->speed);
}

static int publish_lines(struct replay *r)
{
    const volatile int *interrupted = r->feeder.interrupted;
    struct tl_recording_line line;
    int rc = 0;
    while (!*interrupted && (rc = tl_recording_next(r->recording, &line)) > 0) {
        if (r->feeder.count->sent == 0) {
            r->first_ts_ms = line.ts_ms;
            r->feeder.start_ms = tl_clock_ms();
        }
        if (wait_moment(r, line.ts_ms) != 0 ||
            tl_feeder_send(&r->feeder, line.channel, line.payload) != 0)
            return 1;
    }
    if (!*interrupted && rc < 0) {
        tl_command_say("replay", "%s", tl_recording_error(r->recording));
        return 1;
    }
    return tl_feeder_finish(&r->feeder);
}

/* The end's report; the exit status. */
static int say_summary(const struct replay *r, int status)
{
    uint64_t skipped = tl_recording_skipped(r->recording);
    status = tl_feeder_summary(&r->feeder, status);
    if (skipped == 0)
        return status;
    tl_command_say("replay", "%llu lines were skipped; the first: %s", (unsigned long long)skipped,
                   tl_recording_error(r->recording));
    return 1;
}

static int run(const struct replay_options *options, const char *path)
{
    char error[400];
    struct replay r = {.options = options,
                       .feeder = {.command = "replay",
                                  .stream = &options->stream,
                                  .window = options->window,
                                  .describe = describe}};
    r.recording = tl_recording_open(path, options->channel, error, sizeof error);
    int status = 1;
    if (!r.recording)
        tl_command_say("replay", "%s", error);
    else if (tl_feeder_open(&r.feeder, options->to, options->token) == 0)
        status = say_summary(&r, publish_lines(&r));
    tl_feeder_close(&r.feeder);
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
    const char *conflict;
    if (p.args_n != 1 || !*options.channel) {
        tl_command_say("replay", "one FILE and --channel are needed, as in: tramline replay "
                                 "positions.ndjson --channel 'tram_{id}'");
        status = 2;
    } else if ((conflict = tl_publish_stream_conflict(&options.stream, options.to))) {
        tl_command_say("replay", "%s", conflict);
        status = 2;
    } else {
        status = run(&options, p.args[0]);
    }
    tl_optparse_deinit(&p);
    return status;
}
