/*
 * Intrusive hash map from byte-string keys to nodes that live in the caller's structs. Hashes are
 * xxh3 with a random seed of the process, so nobody can choose colliding names. Grows and shrinks
 * by itself; a refused resize only makes chains longer. Not thread-safe.
 */
#ifndef TL_BASE_MAP_H
#define TL_BASE_MAP_H

#include "base/bytes.h"

struct tl_map_node {
    struct tl_map_node *next;
    uint64_t hash;
};

struct tl_map {
    struct tl_map_node **slots;
    size_t slots_n; /* 0 or a power of two */
    size_t n;       /* nodes held */
    bool walking;   /* inside tl_map_each(): keep the table as it is */
    struct tl_bytes (*key)(const struct tl_map_node *node);
};

/* 0, or -ENOMEM. `key` gives the bytes of a node, stable while the node is in the map. */
TL_MUST_USE int tl_map_init(struct tl_map *map, struct tl_bytes (*key)(const struct tl_map_node *));

/* Frees the table, not the nodes. */
void tl_map_deinit(struct tl_map *map);

/* The node with that key, or NULL. */
struct tl_map_node *tl_map_find(const struct tl_map *map, struct tl_bytes key);

/* Add a node whose key is not in the map. Cannot fail. */
void tl_map_add(struct tl_map *map, struct tl_map_node *node);

/* Remove a node that is in the map. */
void tl_map_remove(struct tl_map *map, struct tl_map_node *node);

/*
 * Call fn on each node; fn may remove (and free) the node that it is given. The table is not
 * resized meanwhile, and nothing may be added.
 */
void tl_map_each(struct tl_map *map, void (*fn)(struct tl_map_node *node, void *arg), void *arg);

#endif
