#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/recording.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[64];

static struct tl_recording *open_with(const char *text, const char *channel)
{
    char error[400];
    snprintf(path, sizeof path, "/tmp/tramline-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct tl_recording *r = tl_recording_open(path, channel, error, sizeof error);
    unlink(path);
    return r;
}

static void assert_bytes(struct tl_bytes bytes, const char *text)
{
    assert_int_equal(bytes.n, strlen(text));
    assert_memory_equal(bytes.p, text, bytes.n);
}

static void lines_come_as_they_stand_with_the_channel_of_their_fields(void **state)
{
    (void)state;
    struct tl_recording_line line;
    struct tl_recording *r =
        open_with("{ \"ts\":5, \"id\":-7 ,\"l\":\"M1\"}\r\n\n{\"l\":\"\\u00e4\","
                  "\"ts\":6.5,\"id\":1412}",
                  "{l}_tram_{id}");
    assert_non_null(r);
    assert_int_equal(tl_recording_next(r, &line), 1);
    assert_int_equal(line.ts_ms, 5);
    assert_bytes(line.channel, "M1_tram_-7");
    assert_bytes(line.payload, "{ \"ts\":5, \"id\":-7 ,\"l\":\"M1\"}\r");
    assert_int_equal(tl_recording_next(r, &line), 1);
    assert_int_equal(line.ts_ms, 6);
    assert_bytes(line.channel, "\xc3\xa4_tram_1412");
    assert_int_equal(tl_recording_next(r, &line), 0);
    assert_int_equal(tl_recording_skipped(r), 0);
    assert_string_equal(tl_recording_error(r), "");
    tl_recording_close(r);
}

static void a_file_whose_first_line_is_bad_is_no_recording(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "\n\n",
                                      "root:x:0:0\n",
                                      "[1]\n",
                                      "{\"id\":1}\n",
                                      "{\"ts\":\"5\",\"id\":1}\n",
                                      "{\"ts\":1}\n",
                                      "{\"ts\":1,\"id\":1.5}\n",
                                      "{\"ts\":1,\"id\":null}\n",
                                      "{\"ts\":-1,\"id\":1}\n",
                                      "{\"ts\":1e300,\"id\":1}\n",
                                      "{\"ts\":1,\"id\":\"\"}\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_recording_line line;
        struct tl_recording *r = open_with(bad[i], "{id}");
        assert_non_null(r);
        assert_int_equal(tl_recording_next(r, &line), -EINVAL);
        assert_memory_equal(tl_recording_error(r), path, strlen(path));
        tl_recording_close(r);
    }
}

static void later_bad_lines_are_skipped_counted_and_the_first_is_told(void **state)
{
    (void)state;
    struct tl_recording_line line;
    struct tl_recording *r =
        open_with("{\"ts\":1,\"id\":1}\nnope\n{\"ts\":2}\n{\"ts\":3,\"id\":3}\n", "t_{id}");
    assert_int_equal(tl_recording_next(r, &line), 1);
    assert_int_equal(tl_recording_next(r, &line), 1);
    assert_bytes(line.channel, "t_3");
    assert_int_equal(tl_recording_next(r, &line), 0);
    assert_int_equal(tl_recording_skipped(r), 2);
    assert_non_null(strstr(tl_recording_error(r), ":2: no JSON object"));
    tl_recording_close(r);
}

static void names_over_255_bytes_are_bad(void **state)
{
    (void)state;
    char text[600];
    for (int n = 254; n <= 256; n++) {
        struct tl_recording_line line;
        snprintf(text, sizeof text, "{\"ts\":1,\"id\":\"%0*d\"}\n", n, 1);
        struct tl_recording *r = open_with(text, "{id}");
        assert_int_equal(tl_recording_next(r, &line), n <= 255 ? 1 : -EINVAL);
        tl_recording_close(r);
    }
}

static void bad_templates_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a{", "a}", "{}", "{a{b}}", "{a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(open_with("{\"ts\":1}", bad[i]));
    struct tl_recording *r = open_with("{\"ts\":1}", "no_field");
    assert_non_null(r);
    tl_recording_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_as_they_stand_with_the_channel_of_their_fields),
        cmocka_unit_test(a_file_whose_first_line_is_bad_is_no_recording),
        cmocka_unit_test(later_bad_lines_are_skipped_counted_and_the_first_is_told),
        cmocka_unit_test(names_over_255_bytes_are_bad),
        cmocka_unit_test(bad_templates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
