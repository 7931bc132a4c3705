/* The documents of the live map, with every allocation failing in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/live_map.h"
#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char lines[] = "{\"type\":\"FeatureCollection\",\"features\":[{\"geometry\":{\"type\":"
                            "\"MultiLineString\",\"coordinates\":[[[1,2],[3,4]],[[5,6],[7,8]]]}}]}";

static const struct tl_document *find(const struct tl_live_map *map, const char *path)
{
    for (size_t i = 0; i < map->documents_n; i++)
        if (tl_bytes_eq(map->documents[i].path, tl_bytes_str(path)))
            return &map->documents[i];
    return NULL;
}

static void assert_body(const struct tl_live_map *map, const char *path, struct tl_bytes body)
{
    const struct tl_document *document = find(map, path);
    assert_true(document != NULL && tl_bytes_eq(document->body, body));
}

static void the_page_its_files_and_its_lines_are_documents(void **state)
{
    struct tl_live_map map = {0};
    (void)state;
    tl_buf_str(&map.lines, lines);
    assert_int_equal(tl_live_map_init(&map, true, "by \"us\"", TL_LIT("fleet")), 0);
    assert_non_null(find(&map, "/"));
    assert_non_null(find(&map, "/web/main.js"));
    assert_null(find(&map, "/web/index.html"));
    assert_body(&map, "/web/lines", TL_LIT(lines));
    assert_body(&map, "/web/about",
                TL_LIT("{\"version\":\"" TL_VERSION "\",\"demo\":true,"
                       "\"fleet\":\"fleet\",\"attribution\":\"by \\\"us\\\"\"}\n"));
    tl_live_map_deinit(&map);
    tl_live_map_deinit(&map);
}

static void a_map_without_lines_has_no_such_document(void **state)
{
    struct tl_live_map map = {0};
    (void)state;
    assert_int_equal(tl_live_map_init(&map, false, "", TL_LIT("fleet")), 0);
    assert_null(find(&map, "/web/lines"));
    tl_live_map_deinit(&map);
}

static void without_memory_it_says_so_and_leaks_nothing(void **state)
{
    char path[] = "/tmp/tramline-lines-XXXXXX", error[300];
    int fd = mkstemp(path), r = -ENOMEM;
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, lines, sizeof lines - 1), (int)sizeof lines - 1);
    close(fd);
    for (int64_t i = 0; r < 0; i++) {
        struct tl_live_map map = {0};
        tl_alloc_fail(i, 1);
        r = tl_live_map_read_lines(&map, path, error, sizeof error);
        if (r == 0)
            r = tl_live_map_init(&map, true, "somebody", TL_LIT("fleet"));
        tl_alloc_fail(0, 0);
        tl_live_map_deinit(&map);
        assert_true(r == 0 || r == -ENOMEM);
        assert_true(i < 1000);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_its_files_and_its_lines_are_documents),
        cmocka_unit_test(a_map_without_lines_has_no_such_document),
        cmocka_unit_test(without_memory_it_says_so_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
