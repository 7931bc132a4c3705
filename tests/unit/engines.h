/*
 * For every test that touches a socket: run its group on each engine. An engine that is refused
 * here (an old kernel, a container's seccomp profile) is skipped, which is said.
 */
#ifndef TESTS_ENGINES_H
#define TESTS_ENGINES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/loop.h"

#include <stdlib.h>
#include <string.h>

struct test_engine {
    const char *name;
    enum tl_engine engine;
    bool queued; /* io_uring: all sends are queued, not only those of a batch */
};

static const struct test_engine test_engines[] = {
    {"epoll", TL_ENGINE_EPOLL, false},
    {"io_uring, sends at once", TL_ENGINE_URING, false},
    {"io_uring, sends queued", TL_ENGINE_URING, true},
};
__attribute__((unused)) static const struct test_engine *test_engine =
    test_engines; /* under test */

static inline bool on_uring(void)
{
    return test_engine->engine == TL_ENGINE_URING;
}

static inline bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

/* The step through cases that take a whole gateway each: all of them, or under valgrind, where each
 * takes 50 times as long, a share. */
static inline uint64_t stride_of(uint64_t stride)
{
    return under_valgrind() ? 7 * stride : stride;
}

/* valgrind 3.19 does not know that waiting for io_uring blocks: no other thread runs meanwhile. */
static inline void skip_if_other_threads_stand_still(void)
{
    if (on_uring() && under_valgrind())
        skip();
}

/* A send outside of a batch is made at once, and is pending only if the socket is full. */
static inline bool sends_at_once(void)
{
    return !test_engine->queued;
}

static inline bool engine_works(const struct test_engine *engine)
{
    int error = 0;
    struct tl_loop *loop = tl_loop_new(engine->engine, &error);
    if (loop != NULL) {
        tl_loop_free(loop);
        return true;
    }
    print_message("[  SKIPPED ] all on %s: %s\n", engine->name, tl_engine_refusal(error));
    return false;
}

/* Returns how many failed, as run() does for one engine. */
static inline int run_on_engines(int (*run)(const char *name))
{
    int failed = 0;
    for (size_t i = 0; i < sizeof(test_engines) / sizeof(*test_engines); i++) {
        test_engine = &test_engines[i];
        if (engine_works(test_engine))
            failed += run(test_engine->name);
    }
    return failed;
}

#endif
