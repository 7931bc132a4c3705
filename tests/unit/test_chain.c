#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "feed/chain.h"

#include <errno.h>

/* A segment of n entries of `size` bytes each, every third a control entry; moves *at behind it. */
static struct tl_segment *segment(uint32_t n, uint32_t size, struct tl_mark *at)
{
    struct tl_segment *seg = tl_segment_new(n * size + 1, n + 1, *at, 0);
    assert_non_null(seg);
    for (uint32_t i = 0; i < n; i++) {
        bool control = i % 3 == 2;
        tl_segment_add(seg, size, tl_bytes(NULL, 0), control ? TL_ENTRY_CONTROL : 0, 0);
        at->off += size;
        at->idx++;
        at->msg += !control;
    }
    return seg;
}

static void first_in_is_first_out_through_any_pattern_of_growth(void **state)
{
    (void)state;
    uint64_t rng = 1, pushed = 0, popped = 0;
    struct tl_chain chain = {0};
    assert_null(tl_chain_pop(&chain));
    assert_null(tl_chain_last(&chain));
    for (int i = 0; i < 20000; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        bool grow = (rng >> 33) % 100 < (i / 1000 % 2 ? 40u : 60u);
        if (grow) {
            struct tl_mark at = {0, pushed++, 0};
            assert_int_equal(tl_chain_push(&chain, segment(0, 0, &at)), 0);
            assert_ptr_equal(tl_chain_last(&chain), tl_chain_at(&chain, chain.n - 1));
        } else if (popped < pushed) {
            struct tl_segment *seg = tl_chain_pop(&chain);
            assert_int_equal(seg->base.idx, popped++);
            tl_segment_unref(seg);
        }
        assert_int_equal(chain.n, pushed - popped);
        for (uint32_t k = 0; k < chain.n && k < 3; k++)
            assert_int_equal(tl_chain_at(&chain, k)->base.idx, popped + k);
    }
    tl_chain_deinit(&chain);
    tl_chain_deinit(&chain);
}

/* A queue of steady length does not grow for ever. */
static void steady_queue_stays_small(void **state)
{
    (void)state;
    struct tl_chain chain = {0};
    struct tl_mark at = {0};
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(tl_chain_push(&chain, segment(0, 0, &at)), 0);
        if (chain.n > 5)
            tl_segment_unref(tl_chain_pop(&chain));
    }
    assert_in_range(chain.cap, 6, 16);
    tl_chain_deinit(&chain);
}

static void finding_agrees_with_looking_at_each(void **state)
{
    (void)state;
    /* Empty segments, and such whose entries have no bytes, stand between the others. */
    static const uint32_t shapes[][2] = {{3, 5}, {0, 0}, {4, 0}, {1, 9}, {0, 0}, {0, 0},
                                         {7, 1}, {2, 0}, {5, 3}, {1, 1}, {6, 2}, {0, 0}};
    for (size_t from = 0; from < 6; from++) {
        for (size_t to = from + 1; to <= 12; to++) {
            struct tl_chain chain = {0};
            struct tl_mark start = {100, 50, 30}, at = start;
            for (size_t i = from; i < to; i++)
                assert_int_equal(tl_chain_push(&chain, segment(shapes[i][0], shapes[i][1], &at)),
                                 0);
            for (uint64_t off = start.off; off <= at.off + 2; off++) {
                uint32_t want = 0;
                for (uint32_t i = 0; i < chain.n; i++)
                    want = tl_chain_at(&chain, i)->base.off <= off ? i : want;
                assert_int_equal(tl_chain_find_off(&chain, off), want);
            }
            struct tl_mark mark = start;
            for (size_t i = from; i < to; i++) {
                for (uint32_t k = 0; k < shapes[i][0]; k++) {
                    struct tl_mark got = tl_chain_mark(&chain, mark.idx, at);
                    assert_memory_equal(&got, &mark, sizeof(mark));
                    uint32_t found = tl_chain_find_idx(&chain, mark.idx);
                    assert_int_equal(found, i - from);
                    mark.idx++;
                    mark.off += shapes[i][1];
                    mark.msg += k % 3 != 2;
                }
            }
            struct tl_mark got = tl_chain_mark(&chain, at.idx, at);
            assert_memory_equal(&got, &at, sizeof(at));
            tl_chain_deinit(&chain);
        }
    }
}

static void push_without_memory_leaves_the_reference_with_the_caller(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 20; n++) {
        struct tl_chain chain = {0};
        struct tl_mark at = {0};
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(tl_chain_push(&chain, segment(0, 0, &at)), 0);
        struct tl_segment *seg = segment(0, 0, &at);
        tl_alloc_fail(0, -1);
        int r = tl_chain_push(&chain, seg);
        uint64_t asked = tl_alloc_fail(0, 0);
        assert_int_equal(r, asked ? -ENOMEM : 0);
        assert_int_equal(chain.n, asked ? n : n + 1);
        assert_int_equal(seg->refs, 1);
        if (r < 0)
            tl_segment_unref(seg);
        tl_chain_deinit(&chain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_is_first_out_through_any_pattern_of_growth),
        cmocka_unit_test(steady_queue_stays_small),
        cmocka_unit_test(finding_agrees_with_looking_at_each),
        cmocka_unit_test(push_without_memory_leaves_the_reference_with_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
