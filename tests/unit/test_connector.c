#include "loop_fixture.h"

#include "base/alloc.h"
#include "net/connector.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/un.h>

struct dial {
    struct tl_connector c;
    unsigned ended;
    int fd;
    char error[256];
    bool inside;
};

static void on_done(struct tl_connector *c, int fd, const char *error)
{
    struct dial *d = TL_CONTAINER(c, struct dial, c);
    assert_false(d->inside);
    d->ended++;
    d->fd = fd;
    snprintf(d->error, sizeof d->error, "%s", error);
}

static void start(struct dial *d, const char *host, uint16_t port, const char *path,
                  uint32_t timeout_ms)
{
    d->inside = true;
    d->ended = 0;
    tl_connector_start(&d->c, &(struct tl_connector_peer){host, port, path}, timeout_ms);
    d->inside = false;
}

static void dial_until_end(struct tl_loop *loop, struct dial *d, const char *host, uint16_t port,
                           const char *path)
{
    start(d, host, port, path, DEADLINE_MS / 2);
    TURN_UNTIL(loop, d->ended > 0);
    assert_int_equal(d->ended, 1);
}

static void a_numeric_address_is_connected(void **state)
{
    struct tl_loop *loop = *state;
    struct sockaddr_in address = {0};
    struct dial d = {0};
    int on = 0, listener = tcp_listen(&address);
    tl_connector_init(&d.c, loop, on_done);
    for (int i = 0; i < 2; i++) { /* it may be used again */
        dial_until_end(loop, &d, "127.0.0.1", ntohs(address.sin_port), NULL);
        assert_true(d.fd >= 0);
        assert_string_equal(d.error, "");
        assert_int_equal(getsockopt(d.fd, IPPROTO_TCP, TCP_NODELAY, &on, &(socklen_t){sizeof on}),
                         0);
        assert_int_equal(on, 1);
        close(d.fd);
    }
    close(listener);
    tl_connector_cancel(&d.c);
}

static void a_name_is_resolved_and_its_addresses_are_tried_in_turn(void **state)
{
    skip_if_other_threads_stand_still();
    struct tl_loop *loop = *state;
    struct sockaddr_in address = {0}; /* on 127.0.0.1 only, while localhost may be ::1 first */
    struct dial d = {0};
    int listener = tcp_listen(&address);
    tl_connector_init(&d.c, loop, on_done);
    dial_until_end(loop, &d, "localhost", ntohs(address.sin_port), NULL);
    assert_true(d.fd >= 0);
    close(d.fd);
    close(listener);
}

static void a_unix_socket_is_connected(void **state)
{
    struct tl_loop *loop = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct dial d = {0};
    char folder[] = "/tmp/tl-connector-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    tl_connector_init(&d.c, loop, on_done);
    dial_until_end(loop, &d, NULL, 0, address.sun_path);
    assert_true(d.fd >= 0);
    close(d.fd);
    close(listener);
    unlink(address.sun_path);
    dial_until_end(loop, &d, NULL, 0, address.sun_path);
    assert_int_equal(d.fd, -ENOENT);
    assert_non_null(strstr(d.error, "/s: No such file"));
    rmdir(folder);
}

static void failures_are_told_later_and_in_words(void **state)
{
    skip_if_other_threads_stand_still();
    struct tl_loop *loop = *state;
    struct sockaddr_in address = {0};
    struct dial d = {0};
    char expected[64], longest[200];
    int held = tcp_bind(&address);
    tl_connector_init(&d.c, loop, on_done);
    dial_until_end(loop, &d, "127.0.0.1", ntohs(address.sin_port), NULL);
    assert_int_equal(d.fd, -ECONNREFUSED);
    snprintf(expected, sizeof expected, "127.0.0.1:%u: Connection refused",
             ntohs(address.sin_port));
    assert_string_equal(d.error, expected);
    close(held);

    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    dial_until_end(loop, &d, NULL, 0, longest);
    assert_int_equal(d.fd, -ENAMETOOLONG);

    dial_until_end(loop, &d, "no such host", 1, NULL);
    assert_true(d.fd < 0);
    assert_non_null(strstr(d.error, "cannot resolve no such host: "));
}

/* A listener with a full queue answers no SYN. */
static void an_address_that_does_not_answer_times_out(void **state)
{
    struct tl_loop *loop = *state;
    struct sockaddr_in address = {0};
    struct dial fill[4] = {0}, d = {0};
    int listener = tcp_listen(&address);
    assert_int_equal(listen(listener, 0), 0);
    for (int i = 0; i < 4; i++) {
        tl_connector_init(&fill[i].c, loop, on_done);
        start(&fill[i], "127.0.0.1", ntohs(address.sin_port), NULL, 60000);
    }
    TURN_UNTIL(loop, fill[0].ended > 0);
    tl_connector_init(&d.c, loop, on_done);
    start(&d, "127.0.0.1", ntohs(address.sin_port), NULL, 30);
    TURN_UNTIL(loop, d.ended > 0);
    assert_int_equal(d.fd, -ETIMEDOUT);
    assert_non_null(strstr(d.error, "no answer in time"));
    for (int i = 0; i < 4; i++) {
        if (fill[i].ended)
            close(fill[i].fd);
        tl_connector_cancel(&fill[i].c);
    }
    close(listener);
}

static void a_cancelled_dial_never_calls_back(void **state)
{
    skip_if_other_threads_stand_still();
    struct tl_loop *loop = *state;
    struct sockaddr_in address = {0};
    int listener = tcp_listen(&address);
    for (int turns = 0; turns < 6; turns++)
        for (int kind = 0; kind < 3; kind++) {
            struct dial *d = calloc(1, sizeof *d); /* ASan sees a late touch */
            assert_non_null(d);
            tl_connector_init(&d->c, loop, on_done);
            start(d, kind == 1 ? "localhost" : "127.0.0.1", ntohs(address.sin_port),
                  kind == 2 ? "/nonexistent/socket" : NULL, 2000);
            for (int i = 0; i < turns; i++)
                tl_loop_turn(loop, 0);
            if (d->ended && d->fd >= 0)
                close(d->fd);
            tl_connector_cancel(&d->c);
            tl_connector_cancel(&d->c);
            free(d);
        }
    for (int i = 0; i < 50; i++) /* orphans' mail, if some is under way */
        tl_loop_turn(loop, 1);
    close(listener);
}

static void a_refused_allocation_is_told(void **state)
{
    struct tl_loop *loop = *state;
    struct dial d = {0};
    tl_connector_init(&d.c, loop, on_done);
    tl_alloc_fail(0, 1);
    start(&d, "localhost", 1, NULL, 1000);
    tl_alloc_fail(0, 0);
    TURN_UNTIL(loop, d.ended > 0);
    assert_int_equal(d.fd, -ENOMEM);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(a_numeric_address_is_connected),
        LOOP_TEST(a_name_is_resolved_and_its_addresses_are_tried_in_turn),
        LOOP_TEST(a_unix_socket_is_connected),
        LOOP_TEST(failures_are_told_later_and_in_words),
        LOOP_TEST(an_address_that_does_not_answer_times_out),
        LOOP_TEST(a_cancelled_dial_never_calls_back),
        LOOP_TEST(a_refused_allocation_is_told),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
