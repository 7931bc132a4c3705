/* Does all mail of all threads arrive, in order per sender, with no more wakes than needed? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/mailbox.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define SENDERS         4
#define MAIL_PER_SENDER 20000

struct letter {
    struct tl_mail mail;
    unsigned sender, number;
};

static struct tl_mailbox box;
static unsigned next_of[SENDERS];

static void deliver(struct tl_mail *mail)
{
    struct letter *letter = TL_CONTAINER(mail, struct letter, mail);
    assert_int_equal(letter->number, next_of[letter->sender]);
    next_of[letter->sender]++;
    free(letter);
}

static void post(unsigned sender, unsigned number)
{
    struct letter *letter = malloc(sizeof(*letter));
    if (letter == NULL)
        abort();
    *letter = (struct letter){.mail.deliver = deliver, .sender = sender, .number = number};
    tl_mailbox_post(&box, &letter->mail);
}

static void *send_all(void *arg)
{
    unsigned sender = *(unsigned *)arg;
    for (unsigned i = 0; i < MAIL_PER_SENDER; i++)
        post(sender, i);
    return NULL;
}

static bool readable(int timeout_ms)
{
    struct pollfd p = {.fd = box.wake_fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

static int setup(void **state)
{
    (void)state;
    memset(next_of, 0, sizeof(next_of));
    return tl_mailbox_init(&box);
}

static int teardown(void **state)
{
    (void)state;
    tl_mailbox_deinit(&box);
    return 0;
}

static void mail_of_many_threads_arrives_in_order_per_sender(void **state)
{
    (void)state;
    pthread_t threads[SENDERS];
    unsigned ids[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &ids[i]), 0);
    }
    size_t n = 0;
    while (n < (size_t)SENDERS * MAIL_PER_SENDER) {
        assert_true(readable(10000)); /* no mail without a wake */
        n += tl_mailbox_run(&box);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(next_of[i], MAIL_PER_SENDER);
    }
    assert_false(readable(0));
}

static void wake_is_written_only_when_the_box_was_empty(void **state)
{
    (void)state;
    assert_false(readable(0));
    for (unsigned i = 0; i < 3; i++)
        post(0, i);
    uint64_t wakes = 0;
    assert_int_equal(read(box.wake_fd, &wakes, sizeof(wakes)), sizeof(wakes));
    assert_int_equal(wakes, 1);
    assert_int_equal(tl_mailbox_run(&box), 3);
    post(0, 3);
    assert_true(readable(0));
    assert_int_equal(tl_mailbox_run(&box), 1);
    assert_false(readable(0));
    assert_int_equal(tl_mailbox_run(&box), 0);
}

static unsigned reposts;

static void post_again(struct tl_mail *mail)
{
    if (++reposts < 3)
        tl_mailbox_post(&box, mail);
}

static void mail_posted_while_delivering_waits_for_the_next_run(void **state)
{
    (void)state;
    struct tl_mail mail = {.deliver = post_again};
    reposts = 0;
    tl_mailbox_post(&box, &mail);
    for (unsigned run = 1; run <= 3; run++) {
        assert_true(readable(0));
        assert_int_equal(tl_mailbox_run(&box), 1);
        assert_int_equal(reposts, run);
    }
    assert_false(readable(0));
}

static void mail_of_the_receiver_itself_wakes_nobody(void **state)
{
    (void)state;
    tl_mailbox_receive_here(&box);
    post(0, 0);
    assert_true(box.own_mail);
    tl_mailbox_receive_here(NULL);
    post(0, 1); /* as of another thread: the receiver is going to look anyway */
    assert_false(readable(0));
    assert_int_equal(tl_mailbox_run(&box), 2);
    assert_false(box.own_mail);
    post(0, 2);
    tl_mailbox_receive_here(&box);
    post(0, 3);
    tl_mailbox_receive_here(NULL);
    assert_true(readable(0));
    assert_int_equal(tl_mailbox_run(&box), 2);
    assert_false(readable(0) || box.own_mail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mail_of_many_threads_arrives_in_order_per_sender, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wake_is_written_only_when_the_box_was_empty, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(mail_posted_while_delivering_waits_for_the_next_run, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(mail_of_the_receiver_itself_wakes_nobody, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
