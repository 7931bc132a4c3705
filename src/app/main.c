#include "app/commands.h"

#include <stdio.h>

static int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("tramline " TL_VERSION);
    return 0;
}

static int cmd_help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *does;
} commands[] = {
    {"serve", tl_cmd_serve, "run the gateway"},
    {"publish", tl_cmd_publish, "publish one message to a channel"},
    {"subscribe", tl_cmd_subscribe, "print the messages of channels"},
    {"replay", tl_cmd_replay, "publish a recording at its pace"},
    {"emulate", tl_cmd_emulate, "publish trams of a city that does not exist"},
    {"bench", tl_cmd_bench, "load a server and check what every subscriber gets"},
    {"version", cmd_version, "print the version"},
    {"help", cmd_help, "print the help of a command"},
};
#define COMMANDS_N (sizeof commands / sizeof *commands)

static void print_usage(FILE *out)
{
    fputs("usage: tramline COMMAND [OPTION]... [ARGUMENT]...\n\n", out);
    for (size_t i = 0; i < COMMANDS_N; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].does);
    fputs("\n`tramline COMMAND --help` lists the options of a command.\n", out);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int refuse(const char *name)
{
    char words[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < COMMANDS_N; i++)
        n += (size_t)snprintf(words + n, sizeof words - n, "%s|", commands[i].name);
    const char *nearest = tl_optparse_nearest(words, name, &n);
    if (nearest)
        tl_command_say(name, "no such command; did you mean tramline %.*s?", (int)n, nearest);
    else
        tl_command_say(name, "no such command; see tramline help");
    return 2;
}

static int cmd_help(int argc, char **argv)
{
    if (argc == 0) {
        print_usage(stdout);
        return 0;
    }
    char help[] = "--help";
    char *only_help[] = {help, NULL};
    const struct command *command = find(argv[0]);
    if (!command)
        return refuse(argv[0]);
    return command->run == cmd_help ? cmd_help(0, argv) : command->run(1, only_help);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return cmd_help(0, argv);
    if (strcmp(argv[1], "--version") == 0)
        return cmd_version(0, argv);
    const struct command *command = find(argv[1]);
    return command ? command->run(argc - 2, argv + 2) : refuse(argv[1]);
}
