/* Does the map hold exactly what it was given, whatever memory refuses? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/map.h"

#include <errno.h>
#include <stdio.h>

#define ITEMS 5000

struct item {
    struct tl_map_node node;
    char name[24];
    bool in; /* the model's */
    unsigned seen;
};

static struct item items[ITEMS];

static struct tl_bytes item_key(const struct tl_map_node *node)
{
    const struct item *item = (const struct item *)(const void *)node; /* node comes first */
    return tl_bytes_str(item->name);
}

static void items_init(void)
{
    memset(items, 0, sizeof(items));
    for (int i = 0; i < ITEMS; i++)
        snprintf(items[i].name, sizeof(items[i].name), "tram_%d", i);
}

static struct item *find(const struct tl_map *map, const char *name)
{
    struct tl_map_node *node = tl_map_find(map, tl_bytes_str(name));
    return node == NULL ? NULL : TL_CONTAINER(node, struct item, node);
}

static void add(struct tl_map *map, int i)
{
    tl_map_add(map, &items[i].node);
    items[i].in = true;
}

static void drop(struct tl_map *map, int i)
{
    tl_map_remove(map, &items[i].node);
    items[i].in = false;
}

static void assert_like_model(const struct tl_map *map)
{
    size_t n = 0;
    for (int i = 0; i < ITEMS; i++) {
        assert_ptr_equal(find(map, items[i].name), items[i].in ? &items[i] : NULL);
        n += items[i].in;
    }
    assert_int_equal(map->n, n);
}

static void map_holds_what_was_added_and_not_removed(void **state)
{
    (void)state;
    struct tl_map map;
    items_init();
    assert_int_equal(tl_map_init(&map, item_key), 0);
    assert_like_model(&map);
    for (int i = 0; i < ITEMS; i++)
        add(&map, i);
    assert_true(map.slots_n >= ITEMS / 2);
    assert_like_model(&map);
    for (int i = 0; i < ITEMS; i += 3)
        drop(&map, i);
    assert_like_model(&map);
    for (int i = 0; i < ITEMS; i += 6)
        add(&map, i);
    assert_like_model(&map);
    for (int i = 0; i < ITEMS; i++)
        if (items[i].in)
            drop(&map, i);
    assert_like_model(&map);
    assert_true(map.slots_n <= 32); /* memory comes back */
    tl_map_deinit(&map);
}

static void keys_are_bytes_with_nul_and_may_be_empty(void **state)
{
    (void)state;
    struct tl_map map;
    items_init();
    items[0].name[0] = 0;
    assert_int_equal(tl_map_init(&map, item_key), 0);
    add(&map, 0);
    add(&map, 1);
    assert_ptr_equal(find(&map, ""), &items[0]);
    assert_null(tl_map_find(&map, tl_bytes("\0", 1)));
    assert_null(tl_map_find(&map, tl_bytes("tram_1\0", 7)));
    assert_null(tl_map_find(&map, TL_LIT("tram_")));
    assert_null(tl_map_find(&map, TL_LIT("TRAM_1")));
    tl_map_deinit(&map);
}

static void refused_resizes_lose_nothing(void **state)
{
    (void)state;
    struct tl_map map;
    items_init();
    tl_alloc_fail(0, 1);
    assert_int_equal(tl_map_init(&map, item_key), -ENOMEM);
    tl_alloc_fail(0, 0);
    tl_map_deinit(&map);

    for (int64_t skip = 0; skip < 9; skip++) {
        items_init();
        assert_int_equal(tl_map_init(&map, item_key), 0);
        tl_alloc_fail(skip, -1); /* from the skip-th resize on */
        for (int i = 0; i < ITEMS / 4; i++)
            add(&map, i);
        tl_alloc_fail(0, 0);
        assert_like_model(&map);
        tl_alloc_fail(skip, 2);
        for (int i = 0; i < ITEMS / 4; i++)
            drop(&map, i);
        tl_alloc_fail(0, 0);
        assert_like_model(&map);
        tl_map_deinit(&map);
    }
}

static struct tl_map walked;

static void drop_odd(struct tl_map_node *node, void *arg)
{
    struct item *item = TL_CONTAINER(node, struct item, node);
    unsigned *n = arg;
    ++*n;
    item->seen++;
    if ((item - items) % 16 != 0)
        drop(&walked, (int)(item - items));
}

static void walk_meets_every_node_once_while_most_are_removed(void **state)
{
    (void)state;
    unsigned n = 0;
    items_init();
    assert_int_equal(tl_map_init(&walked, item_key), 0);
    tl_map_each(&walked, drop_odd, &n);
    assert_int_equal(n, 0);
    for (int i = 0; i < ITEMS; i++)
        add(&walked, i);
    tl_map_each(&walked, drop_odd, &n);
    assert_int_equal(n, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].seen, 1);
    assert_like_model(&walked);
    drop(&walked, 0);
    assert_like_model(&walked);
    tl_map_deinit(&walked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_holds_what_was_added_and_not_removed),
        cmocka_unit_test(keys_are_bytes_with_nul_and_may_be_empty),
        cmocka_unit_test(refused_resizes_lose_nothing),
        cmocka_unit_test(walk_meets_every_node_once_while_most_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
