/*
 * The subcommands of the program. Each takes the arguments behind its name and returns the exit
 * status: 0, 1 for what went wrong outside, 2 for what the user should write differently.
 */
#ifndef TL_APP_COMMANDS_H
#define TL_APP_COMMANDS_H

#include "app/optparse.h"

#define TL_DEFAULT_URL "http://127.0.0.1:8080"

/* Rows that the tables of several commands have: the value is that field of the command's struct.
 */
#define TL_URL_OPTION(flag, variable, struct_, field)                                              \
    {                                                                                              \
        .name = (flag), .env = (variable), .value = "URL", .default_text = TL_DEFAULT_URL,         \
        .help = "a gateway (http://host:port) or a Redis (redis://..., redis+unix:///path)",       \
        .offset = offsetof(struct_, field), .type = TL_OPTION_STRING, .marks = TL_OPTION_SECRET    \
    }
#define TL_TOKEN_OPTION(struct_, field)                                                            \
    {                                                                                              \
        .name = "token", .env = "TRAMLINE_TOKEN", .value = "TOKEN", .default_text = "",            \
        .help = "the gateway's token", .offset = offsetof(struct_, field),                         \
        .type = TL_OPTION_STRING, .marks = TL_OPTION_SECRET                                        \
    }
#define TL_WINDOW_OPTION(more, struct_, field)                                                     \
    {                                                                                              \
        .name = "window", .value = "N", .default_text = "64",                                      \
        .help = "messages that may wait for their answers" more, .min = 1, .max = 4096,            \
        .offset = offsetof(struct_, field), .type = TL_OPTION_COUNT                                \
    }

int tl_cmd_serve(int argc, char **argv);
int tl_cmd_publish(int argc, char **argv);
int tl_cmd_subscribe(int argc, char **argv);
int tl_cmd_replay(int argc, char **argv);
int tl_cmd_emulate(int argc, char **argv);
int tl_cmd_bench(int argc, char **argv);

/*
 * Parse the options of a command as tl_optparse() does; p->table, table_n and values are set.
 * `usage` is what stands above the options in the help. Returns -1 to go on, or the exit status:
 * help or an error was printed and the values are freed.
 */
TL_MUST_USE int tl_command_options(struct tl_optparse *p, const char *command, const char *usage,
                                   int argc, char **argv);

/* One line on standard error, "tramline COMMAND: ..."; control characters are replaced. */
TL_PRINTF(2, 3) void tl_command_say(const char *command, const char *fmt, ...);

/* Make SIGINT and SIGTERM set the flag that is returned, and ignore SIGPIPE. */
const volatile int *tl_command_catch_signals(void);

#endif
