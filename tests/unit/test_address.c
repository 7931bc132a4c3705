/* Are listen addresses read, printed and bound as people mean them? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engines.h"

#include "net/address.h"
#include "net/conn.h"
#include "net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

static void addresses_are_parsed_and_printed(void **state)
{
    (void)state;
    const struct {
        const char *text, *printed;
        unsigned port;
        bool loopback;
    } cases[] = {
        {"127.0.0.1:8080", "127.0.0.1:8080", 8080, true},
        {"127.1.2.3:0", "127.1.2.3:0", 0, true},
        {"[::1]:8080", "[::1]:8080", 8080, true},
        {"[0:0::1]:65535", "[::1]:65535", 65535, true},
        {"[::ffff:127.0.0.1]:1", "127.0.0.1:1", 1, true},
        {"localhost:8080", "127.0.0.1:8080", 8080, true},
        {"LocalHost:00080", "127.0.0.1:80", 80, true},
        {":8080", ":8080", 8080, false},
        {":0", ":0", 0, false},
        {"0.0.0.0:80", "0.0.0.0:80", 80, false},
        {"[::]:80", "[::]:80", 80, false},
        {"192.0.2.1:443", "192.0.2.1:443", 443, false},
        {"[2001:db8::7]:443", "[2001:db8::7]:443", 443, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct tl_address a, again;
        char text[TL_ADDRESS_TEXT_N];
        assert_int_equal(tl_address_parse(tl_bytes_str(cases[i].text), &a), 0);
        assert_string_equal(tl_address_text(&a, text), cases[i].printed);
        assert_int_equal(tl_address_port(&a), cases[i].port);
        assert_int_equal(tl_address_is_loopback(&a), cases[i].loopback);
        assert_int_equal(tl_address_parse(tl_bytes_str(text), &again), 0);
        assert_memory_equal(&a, &again, sizeof(a));
    }
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "8080",
                               "127.0.0.1",
                               "127.0.0.1:",
                               "127.0.0.1:65536",
                               "::1:8080",
                               "[::1]",
                               "[::1]8080",
                               "[::1:8080",
                               "::1]:8080",
                               "[]:8080",
                               "[127.0.0.1]:80",
                               "127.0.0.1:-1",
                               "127.0.0.1:+1",
                               "127.0.0.1: 1",
                               "127.1:80",
                               "1.2.3.4.5:80",
                               "example.com:80",
                               "localhost.:80",
                               "127.0.0.1:100000",
                               " 1.2.3.4:80",
                               "1.2.3.4:8o",
                               "[::1%lo]:80",
                               "[fe80::1%eth0]:80",
                               "256.0.0.1:80",
                               "[:::]:80",
                               "[1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19]:80"};
    struct tl_address a;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(tl_address_parse(tl_bytes_str(bad[i]), &a), -EINVAL);
    assert_int_equal(tl_address_parse(TL_LIT("1.2.3.4\0:80"), &a), -EINVAL);
    assert_int_equal(tl_address_parse(TL_LIT("localhost\0:80"), &a), -EINVAL);
}

static void peers_are_printed_without_their_socket_family(void **state)
{
    (void)state;
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(40000)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(40000)};
    char text[TL_ADDRESS_TEXT_N];
    assert_string_equal(tl_address_peer(&peer, text), "local");
    assert_string_equal(tl_address_peer_host(&peer, text), "local");

    inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr);
    memcpy(&peer, &v4, sizeof(v4));
    assert_string_equal(tl_address_peer(&peer, text), "192.0.2.1:40000");
    assert_string_equal(tl_address_peer_host(&peer, text), "192.0.2.1");

    inet_pton(AF_INET6, "2001:db8:1111:2222:3333:4444:5555:6666", &v6.sin6_addr);
    memcpy(&peer, &v6, sizeof(v6));
    assert_string_equal(tl_address_peer(&peer, text),
                        "[2001:db8:1111:2222:3333:4444:5555:6666]:40000");
    assert_string_equal(tl_address_peer_host(&peer, text),
                        "2001:db8:1111:2222:3333:4444:5555:6666");

    inet_pton(AF_INET6, "::ffff:192.0.2.1", &v6.sin6_addr);
    memcpy(&peer, &v6, sizeof(v6));
    assert_string_equal(tl_address_peer(&peer, text), "192.0.2.1:40000");
}

/* ---- listening ---- */

static struct tl_address parsed(const char *text)
{
    struct tl_address a;
    assert_int_equal(tl_address_parse(tl_bytes_str(text), &a), 0);
    return a;
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t n = sizeof(value);
    assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
    return value;
}

static int dial(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void listener_takes_connections_that_do_not_delay(void **state)
{
    (void)state;
    const char *const texts[] = {"127.0.0.1:0", ":0"};
    for (size_t i = 0; i < 2; i++) {
        struct tl_address a = parsed(texts[i]);
        const char *hint = NULL;
        int fd = tl_listener_open(&a, false, &hint);
        assert_true(fd >= 0);
        int port = tl_listener_port(fd);
        assert_true(port > 0);
        int client = dial("127.0.0.1", port);
        assert_true(client >= 0);
        int accepted = accept(fd, NULL, NULL);
        assert_true(accepted >= 0);
        assert_int_equal(option(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
        close(accepted);
        close(client);
        close(fd);
    }
}

static void port_in_use_is_refused_with_a_hint(void **state)
{
    (void)state;
    struct tl_address a = parsed("127.0.0.1:0");
    const char *hint = NULL;
    int fd, fds[2];
    assert_int_equal(tl_listener_open_all(&a, &fd, 1, &hint), 0);
    tl_address_set_port(&a, (uint16_t)tl_listener_port(fd));
    assert_int_equal(tl_listener_open(&a, false, &hint), -EADDRINUSE);
    assert_non_null(strstr(hint, "port in use"));
    close(fd);

    /* Also when the other program would share the port. */
    a = parsed("127.0.0.1:0");
    assert_int_equal(tl_listener_open_all(&a, fds, 2, &hint), 0);
    tl_address_set_port(&a, (uint16_t)tl_listener_port(fds[0]));
    int more[2];
    hint = NULL;
    assert_int_equal(tl_listener_open_all(&a, more, 2, &hint), -EADDRINUSE);
    assert_non_null(hint);
    close(fds[0]);
    close(fds[1]);
}

static void address_of_no_interface_is_refused_with_a_hint(void **state)
{
    (void)state;
    struct tl_address a = parsed("192.0.2.1:0");
    const char *hint = NULL;
    assert_int_equal(tl_listener_open(&a, false, &hint), -EADDRNOTAVAIL);
    assert_non_null(strstr(hint, "interface"));
}

static void workers_share_the_port_that_the_first_one_got(void **state)
{
    (void)state;
    const char *const texts[] = {"127.0.0.1:0", ":0"};
    for (size_t i = 0; i < 2; i++) {
        struct tl_address a = parsed(texts[i]);
        const char *hint = NULL;
        int fds[4];
        assert_int_equal(tl_listener_open_all(&a, fds, 4, &hint), 0);
        int port = tl_listener_port(fds[0]);
        for (int w = 1; w < 4; w++)
            assert_int_equal(tl_listener_port(fds[w]), port);
        assert_int_equal(tl_address_port(&a), 0);
        for (int w = 0; w < 4; w++)
            close(fds[w]);
    }
}

static void ipv4_and_ipv6_can_listen_on_one_port_apart(void **state)
{
    (void)state;
    const char *hint = NULL;
    int fd4 = -1;
    for (int tries = 0; fd4 < 0; tries++) {
        struct tl_address v6 = parsed("[::]:0"), v4 = parsed("0.0.0.0:0");
        int fd6 = tl_listener_open(&v6, false, &hint);
        if (fd6 < 0)
            skip(); /* no IPv6 here */
        tl_address_set_port(&v4, (uint16_t)tl_listener_port(fd6));
        fd4 = tl_listener_open(&v4, false, &hint);
        close(fd6);
        assert_true(tries < 100); /* somebody else may have that port of IPv4 */
    }
    close(fd4);
}

/* ---- conn: passes through ---- */

static unsigned conn_bytes, conn_closes;

static void conn_recv(struct tl_stream *s, uint8_t *bytes, ssize_t n)
{
    struct tl_conn *conn = tl_conn_of(s);
    conn_bytes += (unsigned)n;
    assert_int_equal(tl_conn_send(conn, &(struct tl_bytes){bytes, (size_t)n}, 1), n);
    tl_conn_shutdown(conn);
    tl_conn_recv(conn, false);
}

static void conn_sent(struct tl_stream *s, ssize_t n)
{
    (void)s;
    fail_msg("no send was pending, %zd", n);
}

static void conn_closed(struct tl_stream *s)
{
    assert_true(tl_conn_is_closed(tl_conn_of(s)));
    conn_closes++;
}

static const struct tl_stream_handler conn_handler = {
    .on_recv = conn_recv,
    .on_sent = conn_sent,
    .on_closed = conn_closed,
};

static void conn_passes_everything_to_its_stream(void **state)
{
    (void)state;
    int error, fds[2];
    char got[8];
    struct tl_conn conn;
    struct tl_loop *loop = tl_loop_new(test_engine->engine, &error);
    assert_non_null(loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(tl_conn_open(loop, &conn, fds[0], &conn_handler), 0);
    conn_bytes = conn_closes = 0;
    tl_conn_recv(&conn, true);
    tl_conn_tune(&conn, 5000); /* no TCP: ignored */
    assert_int_equal(send(fds[1], "ping", 4, 0), 4);
    tl_loop_turn(loop, 0);
    assert_int_equal(conn_bytes, 4);
    assert_int_equal(recv(fds[1], got, sizeof(got), 0), 4);
    assert_int_equal(recv(fds[1], got, sizeof(got), 0), 0);
    tl_conn_close(&conn);
    tl_conn_reset(&conn);
    tl_conn_tune(&conn, 5000);
    tl_loop_turn(loop, 0);
    assert_int_equal(conn_closes, 1);
    close(fds[1]);
    tl_loop_free(loop);
}

static void conn_on_tcp_takes_the_user_timeout(void **state)
{
    (void)state;
    struct tl_address a = parsed("127.0.0.1:0");
    const char *hint = NULL;
    int error, fd = tl_listener_open(&a, false, &hint);
    int client = dial("127.0.0.1", tl_listener_port(fd));
    struct tl_loop *loop = tl_loop_new(test_engine->engine, &error);
    struct tl_conn conn;
    assert_non_null(loop);
    int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
    assert_int_equal(tl_conn_open(loop, &conn, accepted, &conn_handler), 0);
    tl_conn_tune(&conn, 4321);
    assert_int_equal(option(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);
    tl_conn_reset(&conn);
    tl_loop_free(loop); /* tells on_closed too */
    close(client);
    close(fd);
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_parsed_and_printed),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(peers_are_printed_without_their_socket_family),
        cmocka_unit_test(listener_takes_connections_that_do_not_delay),
        cmocka_unit_test(port_in_use_is_refused_with_a_hint),
        cmocka_unit_test(address_of_no_interface_is_refused_with_a_hint),
        cmocka_unit_test(workers_share_the_port_that_the_first_one_got),
        cmocka_unit_test(ipv4_and_ipv6_can_listen_on_one_port_apart),
        cmocka_unit_test(conn_passes_everything_to_its_stream),
        cmocka_unit_test(conn_on_tcp_takes_the_user_timeout),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
