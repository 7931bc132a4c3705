/*
 * What threads hand to a loop: append under a lock, wake only on empty -> non-empty; the
 * receiver takes the whole batch at once. Mail is embedded in what is sent; the mailbox allocates
 * nothing.
 */
#ifndef TL_LOOP_MAILBOX_H
#define TL_LOOP_MAILBOX_H

#include "base/list.h"

#include <pthread.h>
#include <stdbool.h>

struct tl_mail {
    struct tl_mail *next;
    /* Runs on the receiving loop's thread; the mail is the callee's from then on. */
    void (*deliver)(struct tl_mail *mail);
};

struct tl_mailbox {
    pthread_mutex_t lock;
    struct tl_mail *head, **tail; /* under the lock */
    bool woken;                   /* under the lock: wake_fd was written */
    bool own_mail;                /* the receiver's: it has posted to itself, without a wake */
    int wake_fd;                  /* eventfd, written on empty -> non-empty */
};

TL_MUST_USE int tl_mailbox_init(struct tl_mailbox *box);
void tl_mailbox_deinit(struct tl_mailbox *box);
/* Hand mail over; in order per sender. Cannot fail. Any thread, the receiver's own included. */
void tl_mailbox_post(struct tl_mailbox *box, struct tl_mail *mail);
/* Deliver the batch that is there now; mail posted meanwhile waits for the next call (and keeps
 * wake_fd readable, or own_mail set). Returns how many. Receiver only. */
size_t tl_mailbox_run(struct tl_mailbox *box);
/* This thread is the box's receiver until the next call (NULL: of none). What it posts there itself
 * wakes nobody, so it must not wait while own_mail is set. */
void tl_mailbox_receive_here(const struct tl_mailbox *box);

#endif
