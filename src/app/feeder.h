/*
 * What replay and emulate share: feed messages to a publisher at their pace, with a bounded number
 * of unanswered ones, a progress line and a summary. It says on standard error what went wrong and
 * answers with exit statuses; it knows nothing of where messages come from. One thread.
 */
#ifndef TL_APP_FEEDER_H
#define TL_APP_FEEDER_H

#include "app/publisher.h"

struct tl_feeder {
    /* Filled in by the caller. */
    const char *command;
    const struct tl_publish_stream *stream;
    uint64_t window; /* messages that may wait for their answers, >= 1 */
    /* Write what there is to say of the source so far, such as "12 s of the recording". */
    void (*describe)(const struct tl_feeder *f, char *text, size_t text_n);
    /* Filled in by tl_feeder_open(). */
    struct tl_publisher *publisher;
    const struct tl_publisher_count *count;
    const volatile int *interrupted; /* by a signal: all waiting ends */
    uint64_t start_ms;               /* may be set anew when the first message is there */
    uint64_t said_ms, answered_ms, answered;
    bool tty;
};

/*
 * Connect, see tl_publisher_open(), and catch signals. 0, or 1 after one line of error. The caller
 * calls tl_feeder_close() in both cases.
 */
TL_MUST_USE int tl_feeder_open(struct tl_feeder *f, const char *to, const char *token);

/* Takes a feeder that was never opened, too. */
void tl_feeder_close(struct tl_feeder *f);

/* Move bytes until tl_clock_ms() is due_ms, or a signal comes. 0, or 1 after one line of error. */
TL_MUST_USE int tl_feeder_wait(struct tl_feeder *f, uint64_t due_ms);

/* Wait for room in the window, and send. 0, also for a signal; 1 after one line of error. */
TL_MUST_USE int tl_feeder_send(struct tl_feeder *f, struct tl_bytes channel,
                               struct tl_bytes payload);

/* Wait for all answers. 0, also for a signal; 1 after one line of error. */
TL_MUST_USE int tl_feeder_finish(struct tl_feeder *f);

/*
 * Print the summary, and a line of error if messages were refused. Returns the exit status: 1 if
 * `status` is or something was refused, else 0.
 */
TL_MUST_USE int tl_feeder_summary(const struct tl_feeder *f, int status);

#endif
