#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/http_client.h"
#include "base/alloc.h"
#include "base/buf.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the client told: "<status>" for a head, the body's bytes, "." for an end. */
struct seen {
    char text[512];
    size_t n;
};

static void on_head(void *user, unsigned status)
{
    struct seen *seen = user;
    seen->n += (size_t)snprintf(seen->text + seen->n, sizeof seen->text - seen->n, "<%u>", status);
}

static void on_body(void *user, struct tl_bytes part)
{
    struct seen *seen = user;
    assert_true(part.n < sizeof seen->text - seen->n);
    memcpy(seen->text + seen->n, part.p, part.n);
    seen->n += part.n;
    seen->text[seen->n] = 0;
}

static void on_end(void *user)
{
    struct seen *seen = user;
    seen->text[seen->n++] = '.';
    seen->text[seen->n] = 0;
}

static const struct tl_http_events events = {on_head, on_body, on_end};

struct fixture {
    struct tl_http_client *client;
    struct seen seen;
    int peer;
};

static void open_fixture(struct fixture *f, const char *token)
{
    int fds[2];
    *f = (struct fixture){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(
        tl_http_client_new(&f->client, "http://example.org:81", token, &events, &f->seen), 0);
    assert_int_equal(tl_http_client_adopt(f->client, fds[0]), 0);
    f->peer = fds[1];
}

static void close_fixture(struct fixture *f)
{
    tl_http_client_free(f->client);
    if (f->peer >= 0)
        close(f->peer);
}

/* The answer in pieces of step bytes, then the end; what io returned last. */
static int feed(struct fixture *f, const char *answer, size_t step)
{
    int rc = 0;
    for (size_t at = 0, n = strlen(answer); at < n && rc == 0; at += step) {
        size_t piece = n - at < step ? n - at : step;
        assert_int_equal(send(f->peer, answer + at, piece, MSG_NOSIGNAL), piece);
        rc = tl_http_client_wait(f->client, 1000);
    }
    close(f->peer);
    f->peer = -1;
    return rc == 0 ? tl_http_client_wait(f->client, 1000) : rc;
}

static void assert_answers(const char *answer, const char *expected, int end)
{
    for (size_t step = 1; step <= strlen(answer); step = step < 8 ? step + 1 : step * 2) {
        struct fixture f;
        open_fixture(&f, NULL);
        assert_int_equal(feed(&f, answer, step), end);
        assert_string_equal(f.seen.text, expected);
        assert_int_equal(tl_http_client_fd(f.client), -1);
        close_fixture(&f);
    }
}

static void bodies_come_by_length_in_chunks_and_until_the_end(void **state)
{
    (void)state;
    assert_answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "<200>hello.", -EPIPE);
    assert_answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n"
                   "0\r\n\r\n",
                   "<200>hello.", -EPIPE);
    assert_answers("HTTP/1.1 200 OK\r\n\r\nhello", "<200>hello.", -EPIPE);
}

static void pipelined_answers_come_in_order(void **state)
{
    (void)state;
    assert_answers("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
                   "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nbc"
                   "HTTP/1.1 204 None\r\n\r\n",
                   "<200>a.<503>bc.<204>.", -EPIPE);
}

static void half_an_answer_never_ends(void **state)
{
    (void)state;
    assert_answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "<200>hel", -EPROTO);
}

static void what_is_not_http_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    assert_int_equal(feed(&f, "-ERR unknown command 'GET'\r\n", 100), -EPROTO);
    assert_non_null(strstr(tl_http_client_error(f.client), "not HTTP"));
    assert_int_equal(tl_http_client_io(f.client), -ENOTCONN);
    close_fixture(&f);
}

static void a_request_is_sent_as_it_should_be(void **state)
{
    (void)state;
    struct fixture f;
    char got[512];
    open_fixture(&f, "s3cret");
    assert_int_equal(
        tl_http_client_request(f.client, "POST", "/pub/a%20b", "X-A: 1\r\n", TL_LIT("p\0q")), 0);
    assert_int_equal(tl_http_client_wait(f.client, 1000), 0);
    ssize_t n = read(f.peer, got, sizeof got - 1);
    assert_true(n > 0);
    const char expected[] =
        "POST /pub/a%20b HTTP/1.1\r\nHost: example.org:81\r\n"
        "User-Agent: tramline/" TL_VERSION "\r\n"
        "Authorization: Bearer s3cret\r\nX-A: 1\r\nContent-Length: 3\r\n\r\np\0q";
    assert_int_equal(n, sizeof expected - 1);
    assert_memory_equal(got, expected, sizeof expected - 1);
    close_fixture(&f);
}

static void more_than_the_socket_takes_is_sent_later(void **state)
{
    (void)state;
    struct fixture f;
    static char body[4 << 20], got[1 << 16];
    open_fixture(&f, NULL);
    memset(body, 'x', sizeof body);
    assert_int_equal(tl_http_client_request(f.client, "POST", "/", "", tl_bytes(body, sizeof body)),
                     0);
    size_t all = 0;
    while (all < sizeof body) {
        assert_int_equal(tl_http_client_io(f.client), 0);
        ssize_t n = recv(f.peer, got, sizeof got, 0);
        assert_true(n > 0);
        all += (size_t)n;
    }
    assert_int_equal(tl_http_client_poll_events(f.client) & POLLOUT, 0);
    close_fixture(&f);
}

static void ignore_head(void *user, unsigned status)
{
    (void)user;
    (void)status;
}

static void count_body(void *user, struct tl_bytes part)
{
    *(size_t *)user += part.n;
}

/* Or whoever wants to stop, or gives up after a while, would never have his turn. */
static void of_an_endless_answer_a_share_is_taken_at_a_time(void **state)
{
    static const struct tl_http_events counting = {ignore_head, count_body, on_end};
    static const char head[] = "HTTP/1.1 200 OK\r\n\r\n";
    static char zeros[4096];
    struct tl_http_client *client = NULL;
    size_t taken = 0, sent_n = sizeof head - 1, share = 4 << 16;
    int fds[2], room = 1 << 20;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    assert_int_equal(tl_http_client_new(&client, "http://h", NULL, &counting, &taken), 0);
    assert_int_equal(tl_http_client_adopt(client, fds[0]), 0);
    assert_int_equal(send(fds[1], head, sent_n, 0), sent_n);
    for (ssize_t n; (n = send(fds[1], zeros, sizeof zeros, MSG_DONTWAIT)) > 0;)
        sent_n += (size_t)n;
    for (size_t before = 0; taken < sent_n - (sizeof head - 1); before = taken) {
        assert_int_equal(tl_http_client_io(client), 0);
        assert_true(taken > before && taken - before <= share);
    }
    tl_http_client_free(client);
    close(fds[1]);
    if (sent_n <= share)
        skip(); /* the kernel keeps less */
}

static void only_http_urls_are_taken(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "localhost:8080", "https://h",     "redis://h",
                                      "http://", "http://h:x",     "http://h/path", "http://u:p@h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_http_client *client = NULL;
        assert_int_equal(tl_http_client_new(&client, bad[i], NULL, &events, NULL), -EINVAL);
        assert_null(client);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 100; i++) {
        struct tl_http_client *client = NULL;
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        tl_alloc_fail(i, 1);
        int rc = tl_http_client_new(&client, "http://h", "t", &events, NULL);
        if (rc == 0) {
            rc = tl_http_client_adopt(client, fds[0]);
            assert_int_equal(rc, 0);
            rc = tl_http_client_request(client, "GET", "/", "", tl_bytes(NULL, 0));
        } else {
            close(fds[0]);
        }
        bool all = tl_alloc_fail(0, 0) <= (uint64_t)i;
        assert_int_equal(rc, all ? 0 : -ENOMEM);
        tl_http_client_free(client);
        close(fds[1]);
        if (all)
            return;
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_come_by_length_in_chunks_and_until_the_end),
        cmocka_unit_test(pipelined_answers_come_in_order),
        cmocka_unit_test(half_an_answer_never_ends),
        cmocka_unit_test(what_is_not_http_is_refused),
        cmocka_unit_test(a_request_is_sent_as_it_should_be),
        cmocka_unit_test(more_than_the_socket_takes_is_sent_later),
        cmocka_unit_test(of_an_endless_answer_a_share_is_taken_at_a_time),
        cmocka_unit_test(only_http_urls_are_taken),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
