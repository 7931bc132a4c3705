#include "app/commands.h"
#include "app/feeder.h"
#include "base/clock.h"
#include "demo/emulator.h"

#include <stdio.h>

#define WAIT_MAX_MS 1000 /* the emulator wants to see a wall clock that was set */

struct emulate_options {
    char *rate, *to, *token;
    uint64_t trams, seed, duration_ms, window;
    struct tl_publish_stream stream;
};

/* "0.5" to millihertz; 0 if it is no rate. */
static uint32_t parse_rate(const char *text)
{
    uint32_t mhz = 0, unit = 1000;
    const char *c = text;
    for (; *c >= '0' && *c <= '9' && mhz <= TL_EMULATOR_RATE_MAX_MHZ; c++)
        mhz = mhz * 10 + (uint32_t)(*c - '0') * 1000;
    if (c == text)
        return 0;
    if (*c == '.' && c[1])
        for (c++; *c >= '0' && *c <= '9' && unit > 1; c++)
            mhz += (uint32_t)(*c - '0') * (unit /= 10);
    return *c || mhz > TL_EMULATOR_RATE_MAX_MHZ ? 0 : mhz;
}

static const char *check_rate(const char *text)
{
    return parse_rate(text) > 0 ? NULL : "is no rate; write 0.001 to 100, messages a second";
}

static const struct tl_option table[] = {
    {.name = "trams",
     .value = "N",
     .default_text = "40",
     .help = "how many trams run",
     .min = 1,
     .max = TL_EMULATOR_TRAMS_MAX,
     .offset = offsetof(struct emulate_options, trams),
     .type = TL_OPTION_COUNT},
    {.name = "rate",
     .value = "N",
     .default_text = "1",
     .help = "messages a second from each tram; 0.5 is one every two seconds",
     .offset = offsetof(struct emulate_options, rate),
     .type = TL_OPTION_STRING,
     .check = check_rate},
    {.name = "seed",
     .value = "N",
     .default_text = "1",
     .help = "which city and which day; the same seed gives the same trams",
     .max = UINT32_MAX,
     .offset = offsetof(struct emulate_options, seed),
     .type = TL_OPTION_COUNT},
    {.name = "duration",
     .value = "TIME",
     .default_text = "0",
     .help = "end after that long; 0 is never",
     .max = (uint64_t)365 * 24 * 3600 * 1000,
     .offset = offsetof(struct emulate_options, duration_ms),
     .type = TL_OPTION_DURATION},
    TL_URL_OPTION("to", "TRAMLINE_TO", struct emulate_options, to),
    TL_TOKEN_OPTION(struct emulate_options, token),
    TL_STREAM_OPTIONS(struct emulate_options, stream),
    TL_WINDOW_OPTION("; if the other side needs longer, the city waits", struct emulate_options,
                     window),
};

static const char usage[] =
    "usage: tramline emulate [OPTION]...\n\n"
    "Publish the positions of trams that run in a city that does not exist: channel tram_1,\n"
    "tram_2, ..., about 140 bytes of JSON a message.\n";

struct emulate {
    struct tl_feeder feeder;
    const struct emulate_options *options;
    struct tl_emulator *emulator;
};

static void describe(const struct tl_feeder *f, char *text, size_t text_n)
{
    const struct emulate *e = TL_CONTAINER(f, struct emulate, feeder);
    const struct tl_city *city = tl_emulator_city(e->emulator);
    snprintf(text, text_n, "%llu trams on %zu lines of %s", (unsigned long long)e->options->trams,
             city->lines_n, city->name);
}

/* Whether nothing that was sent was taken: a wrong token, say, which no waiting mends. */
static bool all_refused(const struct emulate *e)
{
    const struct tl_publisher_count *count = e->feeder.count;
    return count->refused > 0 && count->refused == count->answered;
}

static bool goes_on(const struct emulate *e)
{
    uint64_t duration_ms = e->options->duration_ms;
    return !*e->feeder.interrupted && !all_refused(e) &&
           (duration_ms == 0 || tl_clock_ms() - e->feeder.start_ms < duration_ms);
}

static int publish_trams(struct emulate *e)
{
    struct tl_emulator_message message;
    while (goes_on(e)) {
        if (tl_emulator_next(e->emulator, tl_clock_wall_ms(), &message)) {
            if (tl_feeder_send(&e->feeder, message.channel, message.payload) != 0)
                return 1;
            continue;
        }
        int64_t wait_ms = tl_emulator_next_ms(e->emulator) - tl_clock_wall_ms();
        wait_ms = wait_ms < 0 ? 0 : wait_ms > WAIT_MAX_MS ? WAIT_MAX_MS : wait_ms;
        if (tl_feeder_wait(&e->feeder, tl_clock_ms() + (uint64_t)wait_ms) != 0)
            return 1;
    }
    return tl_feeder_finish(&e->feeder);
}

static int run(const struct emulate_options *options)
{
    struct emulate e = {.options = options,
                        .feeder = {.command = "emulate",
                                   .stream = &options->stream,
                                   .window = options->window,
                                   .describe = describe}};
    struct tl_emulator_options city = {
        .trams_n = options->trams, .rate_mhz = parse_rate(options->rate), .seed = options->seed};
    int status = tl_feeder_open(&e.feeder, options->to, options->token);
    if (status == 0 && tl_emulator_new(&e.emulator, &city, tl_clock_wall_ms()) < 0) {
        tl_command_say("emulate", "out of memory");
        status = 1;
    }
    if (status == 0)
        status = tl_feeder_summary(&e.feeder, publish_trams(&e));
    tl_feeder_close(&e.feeder);
    tl_emulator_free(e.emulator);
    return status;
}

int tl_cmd_emulate(int argc, char **argv)
{
    struct emulate_options options = {0};
    struct tl_optparse p = {
        .table = table, .table_n = sizeof table / sizeof *table, .values = &options};
    int status = tl_command_options(&p, "emulate", usage, argc, argv);
    if (status >= 0)
        return status;
    const char *conflict;
    if (p.args_n != 0) {
        tl_command_say("emulate", "there is nothing to name here but options, as in: tramline "
                                  "emulate --trams 40 --rate 1");
        status = 2;
    } else if ((conflict = tl_publish_stream_conflict(&options.stream, options.to))) {
        tl_command_say("emulate", "%s", conflict);
        status = 2;
    } else {
        status = run(&options);
    }
    tl_optparse_deinit(&p);
    return status;
}
