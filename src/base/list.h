/*
 * Intrusive doubly linked ring. An element that is on no list points to itself, so unlinking twice
 * is harmless. Nothing here allocates.
 */
#ifndef TL_BASE_LIST_H
#define TL_BASE_LIST_H

#include "base/bytes.h"

struct tl_list {
    struct tl_list *next, *prev;
};

static inline void tl_list_init(struct tl_list *l)
{
    l->next = l->prev = l;
}

static inline bool tl_list_empty(const struct tl_list *l)
{
    return l->next == l;
}

/* Put e, which is on no list, behind the last element. */
static inline void tl_list_append(struct tl_list *l, struct tl_list *e)
{
    e->prev = l->prev;
    e->next = l;
    l->prev->next = e;
    l->prev = e;
}

static inline void tl_list_remove(struct tl_list *e)
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
    tl_list_init(e);
}

/* Take the first element off, or NULL. */
static inline struct tl_list *tl_list_pop(struct tl_list *l)
{
    if (tl_list_empty(l))
        return NULL;
    struct tl_list *e = l->next;
    tl_list_remove(e);
    return e;
}

/* Move all of `from` behind the last of `to`; `from` is empty afterwards. */
static inline void tl_list_splice(struct tl_list *to, struct tl_list *from)
{
    if (tl_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    tl_list_init(from);
}

#endif
