/* For the tests of streams: bytes to send, and to find again at the other side. */
#ifndef TESTS_STREAM_FIXTURE_H
#define TESTS_STREAM_FIXTURE_H

#include "loop_fixture.h"

/* Bytes to send, after fill_big(). */
static uint8_t big[1 << 20];

static inline void fill_big(void)
{
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 131 + (i >> 8) * 7);
}

static inline void put(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

/* Read what is there; it must continue `big` at *at. */
static inline void drain(int fd, size_t *at)
{
    static uint8_t got[65536];
    for (ssize_t n; (n = recv(fd, got, sizeof(got), 0)) > 0; *at += (size_t)n)
        assert_memory_equal(got, big + *at, (size_t)n);
}

#endif
