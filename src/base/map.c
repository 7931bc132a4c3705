#include "base/map.h"

#include "base/alloc.h"
#include "base/random.h"

#include <assert.h>
#include <errno.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOTS_MIN 16

static uint64_t hash_of(struct tl_bytes key)
{
    return XXH3_64bits_withSeed(key.p, key.n, tl_random_seed());
}

int tl_map_init(struct tl_map *map, struct tl_bytes (*key)(const struct tl_map_node *))
{
    *map = (struct tl_map){.key = key, .slots_n = SLOTS_MIN};
    map->slots = tl_zalloc(SLOTS_MIN * sizeof *map->slots);
    return map->slots ? 0 : -ENOMEM;
}

void tl_map_deinit(struct tl_map *map)
{
    tl_free(map->slots);
    *map = (struct tl_map){0};
}

static void link_node(struct tl_map *map, struct tl_map_node *node)
{
    struct tl_map_node **slot = &map->slots[node->hash & (map->slots_n - 1)];
    node->next = *slot;
    *slot = node;
}

static void resize(struct tl_map *map, size_t slots_n)
{
    struct tl_map_node **slots = tl_zalloc(slots_n * sizeof *slots);
    if (!slots)
        return;
    struct tl_map_node **old = map->slots;
    size_t old_n = map->slots_n;
    map->slots = slots;
    map->slots_n = slots_n;
    for (size_t i = 0; i < old_n; i++) {
        struct tl_map_node *next;
        for (struct tl_map_node *node = old[i]; node; node = next) {
            next = node->next;
            link_node(map, node);
        }
    }
    tl_free(old);
}

struct tl_map_node *tl_map_find(const struct tl_map *map, struct tl_bytes key)
{
    uint64_t hash = hash_of(key);
    struct tl_map_node *node = map->slots[hash & (map->slots_n - 1)];
    while (node && !(node->hash == hash && tl_bytes_eq(map->key(node), key)))
        node = node->next;
    return node;
}

void tl_map_add(struct tl_map *map, struct tl_map_node *node)
{
    if (map->n >= map->slots_n)
        resize(map, map->slots_n * 2);
    node->hash = hash_of(map->key(node));
    link_node(map, node);
    map->n++;
}

static void unlink_node(struct tl_map *map, struct tl_map_node *node)
{
    struct tl_map_node **at = &map->slots[node->hash & (map->slots_n - 1)];
    while (*at != node) {
        assert(*at);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    map->n--;
}

void tl_map_remove(struct tl_map *map, struct tl_map_node *node)
{
    unlink_node(map, node);
    if (!map->walking && map->slots_n > SLOTS_MIN && map->n < map->slots_n / 8)
        resize(map, map->slots_n / 2);
}

void tl_map_each(struct tl_map *map, void (*fn)(struct tl_map_node *node, void *arg), void *arg)
{
    map->walking = true;
    for (size_t i = 0; i < map->slots_n; i++) {
        struct tl_map_node *next;
        for (struct tl_map_node *node = map->slots[i]; node; node = next) {
            next = node->next;
            fn(node, arg);
        }
    }
    map->walking = false;
}
