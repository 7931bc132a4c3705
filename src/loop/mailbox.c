#include "loop/mailbox.h"

#include "base/metrics.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static _Thread_local const struct tl_mailbox *received_here;

void tl_mailbox_receive_here(const struct tl_mailbox *box)
{
    received_here = box;
}

int tl_mailbox_init(struct tl_mailbox *box)
{
    int error = pthread_mutex_init(&box->lock, NULL);
    if (error != 0)
        return -error;
    box->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (box->wake_fd < 0) {
        error = -errno;
        pthread_mutex_destroy(&box->lock);
        return error;
    }
    box->head = NULL;
    box->tail = &box->head;
    box->woken = box->own_mail = false;
    return 0;
}

void tl_mailbox_deinit(struct tl_mailbox *box)
{
    close(box->wake_fd);
    pthread_mutex_destroy(&box->lock);
}

static void lock(struct tl_mailbox *box)
{
    int error = pthread_mutex_lock(&box->lock);
    assert(error == 0);
    (void)error;
}

static void unlock(struct tl_mailbox *box)
{
    int error = pthread_mutex_unlock(&box->lock);
    assert(error == 0);
    (void)error;
}

/* Both under the lock, so that mail never waits behind a wake_fd that is not readable. */
static void wake(struct tl_mailbox *box)
{
    uint64_t one = 1;
    tl_metric_add(TL_M_WAKES, 1);
    box->woken = true;
    while (write(box->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void unwake(struct tl_mailbox *box)
{
    uint64_t count;
    box->woken = false;
    while (read(box->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

void tl_mailbox_post(struct tl_mailbox *box, struct tl_mail *mail)
{
    assert(mail->deliver != NULL);
    mail->next = NULL;
    lock(box);
    bool was_empty = box->head == NULL;
    *box->tail = mail;
    box->tail = &mail->next;
    if (box == received_here)
        box->own_mail = true;
    else if (was_empty)
        wake(box);
    unlock(box);
}

size_t tl_mailbox_run(struct tl_mailbox *box)
{
    lock(box);
    struct tl_mail *mail = box->head;
    box->head = NULL;
    box->tail = &box->head;
    if (box->woken)
        unwake(box);
    unlock(box);
    box->own_mail = false;

    size_t n = 0;
    for (struct tl_mail *next; mail != NULL; mail = next, n++) {
        next = mail->next; /* the mail is the callee's from here on */
        mail->deliver(mail);
    }
    return n;
}
