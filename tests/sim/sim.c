/* Dice, time and the end; and the process' clock and random numbers, which are the seed's. */
#include "sim.h"

#include "base/clock.h"
#include "base/random.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define START_MS 1000000

struct sim sim;
static uint64_t dice, product_dice;

static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u; /* splitmix64, Vigna 2015 */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

void sim_start(uint64_t seed)
{
    sim = (struct sim){.seed = seed, .now_ms = START_MS, .trace = sim.trace};
    dice = seed * 2654435761u + 1;
    product_dice = ~dice;
}

uint64_t sim_dice(void)
{
    return draw(&dice);
}

uint32_t sim_below(uint32_t n)
{
    return (uint32_t)((sim_dice() >> 32) * n >> 32);
}

uint32_t sim_between(uint32_t from, uint32_t to)
{
    return from + sim_below(to - from + 1);
}

bool sim_chance(uint32_t percent)
{
    return sim_below(100) < percent;
}

void sim_trace(const char *fmt, ...)
{
    if (!sim.trace)
        return;
    va_list args;
    va_start(args, fmt);
    printf("%5u %7llu ms  ", sim.step, (unsigned long long)(sim.now_ms - START_MS));
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

void sim_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("seed %llu fails at step %u, %llu ms: ", (unsigned long long)sim.seed, sim.step,
           (unsigned long long)(sim.now_ms - START_MS));
    vprintf(fmt, args);
    printf("\nreplay: sim --seed %llu --trace\n", (unsigned long long)sim.seed);
    va_end(args);
    fflush(stdout);
    _exit(1); /* what is half done cannot be freed */
}

static void say(const char *text, size_t n)
{
    ssize_t ignored = write(STDOUT_FILENO, text, n);
    (void)ignored;
}

static void say_number(uint64_t number)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    say(text + at, sizeof text - at);
}

static void on_signal(int signal_no)
{
    say("seed ", 5);
    say_number(sim.seed);
    say(" dies at step ", 14);
    say_number(sim.step);
    say(" of signal ", 11);
    say_number((uint64_t)signal_no);
    say("\n", 1);
    signal(signal_no, SIG_DFL);
    raise(signal_no);
}

void sim_watch_signals(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* so that the trace is whole */
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
}

/* --- in place of base/clock.c and base/random.c --- */

uint64_t tl_clock_ms(void)
{
    return sim.now_ms;
}

uint64_t tl_clock_ns(void)
{
    return sim.now_ms * 1000000u;
}

int64_t tl_clock_wall_ms(void)
{
    return (int64_t)sim.now_ms + 1700000000000;
}

uint64_t tl_random_u64(void)
{
    return draw(&product_dice);
}

uint64_t tl_random_seed(void)
{
    return 1;
}

uint32_t tl_random_below(uint32_t n)
{
    return (uint32_t)((draw(&product_dice) >> 32) * n >> 32);
}

/* --- pipes --- */

void sim_pipe_add(struct sim_pipe *pipe, struct tl_bytes bytes)
{
    if (bytes.n == 0)
        return;
    if (pipe->at + pipe->n + bytes.n > pipe->cap) {
        if (pipe->n > 0)
            memmove(pipe->p, pipe->p + pipe->at, pipe->n);
        pipe->at = 0;
        if (pipe->n + bytes.n > pipe->cap) {
            pipe->cap = 2 * (pipe->n + bytes.n) + 256;
            pipe->p = realloc(pipe->p, pipe->cap);
            if (!pipe->p)
                abort();
        }
    }
    memcpy(pipe->p + pipe->at + pipe->n, bytes.p, bytes.n);
    pipe->n += bytes.n;
}

void sim_pipe_drop(struct sim_pipe *pipe, size_t n)
{
    pipe->at += n;
    pipe->n -= n;
    if (pipe->n == 0)
        pipe->at = 0;
}

void sim_pipe_free(struct sim_pipe *pipe)
{
    free(pipe->p);
    *pipe = (struct sim_pipe){0};
}
