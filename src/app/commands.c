#include "app/commands.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static volatile int interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

const volatile int *tl_command_catch_signals(void)
{
    /* Without SA_RESTART, so that poll(2) and reads come back. */
    struct sigaction stop = {.sa_handler = on_signal};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    return &interrupted;
}

void tl_command_say(const char *command, const char *fmt, ...)
{
    char text[640];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((uint8_t)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "tramline %s: %s\n", command, text);
}

int tl_command_options(struct tl_optparse *p, const char *command, const char *usage, int argc,
                       char **argv)
{
    int rc = tl_optparse(p, argc, argv, environ);
    if (rc == 0 && !p->help)
        return -1;
    if (rc < 0) {
        tl_command_say(command, "%s", p->error);
    } else {
        struct tl_buf help = {0};
        tl_buf_printf(&help, "%s\n", usage);
        tl_optparse_help(p->table, p->table_n, &help);
        fwrite(help.p, 1, help.n, stdout);
        tl_buf_deinit(&help);
    }
    tl_optparse_deinit(p);
    return rc == -EINVAL ? 2 : rc < 0 ? 1 : 0;
}
