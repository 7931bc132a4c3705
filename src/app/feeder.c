#include "app/feeder.h"

#include "app/commands.h"
#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

#define STALL_MS  10000 /* no answer for that long: give up */
#define STATUS_MS 5000
#define TTY_MS    200

int tl_feeder_open(struct tl_feeder *f, const char *to, const char *token)
{
    char error[400];
    f->interrupted = tl_command_catch_signals();
    f->tty = isatty(STDERR_FILENO) == 1;
    f->publisher = tl_publisher_open(to, token, error, sizeof error);
    if (!f->publisher) {
        tl_command_say(f->command, "%s", error);
        return 1;
    }
    tl_publisher_stream(f->publisher, f->stream);
    f->count = tl_publisher_count(f->publisher);
    f->start_ms = f->said_ms = tl_clock_ms();
    return 0;
}

void tl_feeder_close(struct tl_feeder *f)
{
    tl_publisher_close(f->publisher);
    f->publisher = NULL;
}

static double elapsed_s(const struct tl_feeder *f)
{
    return (double)(tl_clock_ms() - f->start_ms) / 1000.0;
}

static double per_second(uint64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0.0;
}

static void say_progress(struct tl_feeder *f)
{
    uint64_t now_ms = tl_clock_ms();
    if (now_ms - f->said_ms < (f->tty ? TTY_MS : STATUS_MS))
        return;
    f->said_ms = now_ms;
    char text[160], refused[40] = "";
    double seconds = elapsed_s(f);
    f->describe(f, text, sizeof text);
    if (f->count->refused > 0)
        snprintf(refused, sizeof refused, ", %llu refused", (unsigned long long)f->count->refused);
    fprintf(stderr, "%s%s: %s in %.1f s, %llu messages, %.0f/s%s%s", f->tty ? "\r" : "", f->command,
            text, seconds, (unsigned long long)f->count->answered,
            per_second(f->count->answered, seconds), refused, f->tty ? "\033[K" : "\n");
}

static int fail(const struct tl_feeder *f, const char *why)
{
    fputs(f->tty ? "\n" : "", stderr);
    tl_command_say(f->command, "%s", why);
    return 1;
}

/* Move bytes for up to wait_ms. */
static int pump(struct tl_feeder *f, uint64_t wait_ms)
{
    int rc = tl_publisher_pump(f->publisher, wait_ms > TTY_MS ? TTY_MS : (int)wait_ms);
    say_progress(f);
    if (*f->interrupted)
        return 0;
    if (rc < 0)
        return fail(f, tl_publisher_error(f->publisher));
    uint64_t now_ms = tl_clock_ms();
    if (f->answered != f->count->answered || f->count->sent == f->count->answered) {
        f->answered = f->count->answered;
        f->answered_ms = now_ms;
    } else if (now_ms - f->answered_ms > STALL_MS) {
        return fail(f, "no answer for 10 s; is the other side alive?");
    }
    return 0;
}

/* Until at most `limit` messages wait for their answers. */
static int wait_answers(struct tl_feeder *f, uint64_t limit)
{
    while (f->count->sent - f->count->answered > limit && !*f->interrupted)
        if (pump(f, TTY_MS) != 0)
            return 1;
    return 0;
}

int tl_feeder_wait(struct tl_feeder *f, uint64_t due_ms)
{
    for (uint64_t now_ms = tl_clock_ms(); now_ms < due_ms && !*f->interrupted;
         now_ms = tl_clock_ms())
        if (pump(f, due_ms - now_ms) != 0)
            return 1;
    return 0;
}

int tl_feeder_send(struct tl_feeder *f, struct tl_bytes channel, struct tl_bytes payload)
{
    if (wait_answers(f, f->window - 1) != 0)
        return 1;
    if (*f->interrupted)
        return 0;
    if (f->count->sent == f->count->answered)
        f->answered_ms = tl_clock_ms();
    if (tl_publisher_send(f->publisher, channel, payload) < 0)
        return fail(f, "out of memory");
    return 0;
}

int tl_feeder_finish(struct tl_feeder *f)
{
    return wait_answers(f, 0);
}

int tl_feeder_summary(const struct tl_feeder *f, int status)
{
    double seconds = elapsed_s(f);
    uint64_t published = f->count->answered - f->count->refused;
    fputs(f->tty ? "\r\033[K" : "", stderr);
    if (f->count->sent == 0 && status != 0)
        return status;
    printf("%llu messages in %.1f s, %.0f/s", (unsigned long long)published, seconds,
           per_second(published, seconds));
    if (!f->stream->on) /* who reads a stream is not told */
        printf(", %llu receivers", (unsigned long long)f->count->receivers);
    puts("");
    fflush(stdout);
    if (f->count->refused > 0)
        tl_command_say(f->command, "%llu messages were refused; the first: %s",
                       (unsigned long long)f->count->refused, tl_publisher_error(f->publisher));
    return status != 0 || f->count->refused > 0 ? 1 : 0;
}
