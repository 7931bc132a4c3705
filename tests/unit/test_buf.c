/* Does the buffer keep its bytes in order and its error until the end? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"

#include <errno.h>

static void write_some(struct tl_buf *buf)
{
    for (int i = 0; i < 100; i++) {
        tl_buf_str(buf, "tram");
        tl_buf_byte(buf, ' ');
        tl_buf_printf(buf, "%03d %s\n", i, "stops");
        tl_buf_append(buf, tl_bytes("\0\n", 2));
    }
}

static void assert_some(const struct tl_buf *buf)
{
    assert_int_equal(buf->n, 100 * 17);
    for (size_t i = 0; i < 100; i++) {
        char line[18] = "tram 000 stops\n\0\n";
        line[6] = (char)('0' + i / 10);
        line[7] = (char)('0' + i % 10);
        assert_memory_equal(buf->p + i * 17, line, 17);
    }
}

static void what_is_appended_stays_in_order(void **state)
{
    (void)state;
    struct tl_buf buf = {0};
    tl_buf_append(&buf, tl_bytes(NULL, 0));
    assert_int_equal(tl_buf_bytes(&buf).n, 0);
    write_some(&buf);
    assert_some(&buf);
    assert_false(buf.failed);
    tl_buf_deinit(&buf);
    tl_buf_deinit(&buf);
    assert_int_equal(buf.cap, 0);
}

static void consumed_bytes_leave_the_rest(void **state)
{
    (void)state;
    struct tl_buf buf = {0};
    tl_buf_consume(&buf, 0);
    tl_buf_str(&buf, "0123456789");
    tl_buf_consume(&buf, 4);
    assert_true(tl_bytes_eq(tl_buf_bytes(&buf), TL_LIT("456789")));
    tl_buf_str(&buf, "ab");
    tl_buf_consume(&buf, 6);
    assert_true(tl_bytes_eq(tl_buf_bytes(&buf), TL_LIT("ab")));
    tl_buf_consume(&buf, 2);
    assert_int_equal(buf.n, 0);
    tl_buf_deinit(&buf);
}

static void reserved_room_is_there(void **state)
{
    (void)state;
    struct tl_buf buf = {0};
    for (size_t n = 1; n < 5000; n += 37) {
        assert_int_equal(tl_buf_reserve(&buf, n), 0);
        assert_true(buf.cap - buf.n >= n);
        memset(buf.p + buf.n, 0x5a, n);
        buf.n += n / 2;
    }
    tl_buf_deinit(&buf);
}

static void failed_allocation_sticks_until_the_buffer_starts_anew(void **state)
{
    (void)state;
    struct tl_buf buf = {0};
    tl_alloc_fail(1000, 0);
    write_some(&buf);
    uint64_t asked = tl_alloc_fail(0, 0);
    assert_true(asked > 1 && asked < 20); /* it grows by doubling */
    tl_buf_deinit(&buf);
    for (uint64_t i = 0; i < asked; i++) {
        tl_alloc_fail((int64_t)i, 1);
        write_some(&buf);
        tl_alloc_fail(0, 0);
        assert_true(buf.failed);
        size_t n = buf.n;
        tl_buf_str(&buf, "more");
        assert_int_equal(tl_buf_reserve(&buf, 1), -ENOMEM);
        assert_int_equal(buf.n, n);
        tl_buf_deinit(&buf);
        assert_false(buf.failed);
        write_some(&buf);
        assert_some(&buf);
        tl_buf_deinit(&buf);
    }
}

static void size_that_overflows_is_refused(void **state)
{
    (void)state;
    struct tl_buf buf = {0};
    tl_buf_str(&buf, "x");
    assert_int_equal(tl_buf_reserve(&buf, SIZE_MAX), -ENOMEM);
    tl_buf_deinit(&buf);
    tl_buf_str(&buf, "x");
    assert_int_equal(tl_buf_reserve(&buf, SIZE_MAX / 2 + 2), -ENOMEM);
    assert_true(buf.failed);
    assert_int_equal(buf.n, 1);
    tl_buf_deinit(&buf);
}

static void numbers_are_printed_to_their_last_digit(void **state)
{
    struct tl_buf buf = {0};
    (void)state;
    static const uint64_t numbers[] = {0, 9, 10, 1234567890, UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        tl_buf_number(&buf, numbers[i]);
        tl_buf_byte(&buf, ' ');
    }
    tl_buf_byte(&buf, 0);
    assert_string_equal((const char *)buf.p, "0 9 10 1234567890 18446744073709551615 ");
    tl_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_appended_stays_in_order),
        cmocka_unit_test(consumed_bytes_leave_the_rest),
        cmocka_unit_test(reserved_room_is_there),
        cmocka_unit_test(failed_allocation_sticks_until_the_buffer_starts_anew),
        cmocka_unit_test(size_that_overflows_is_refused),
        cmocka_unit_test(numbers_are_printed_to_their_last_digit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
