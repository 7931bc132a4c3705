#include "loop/timer.h"

#include <assert.h>

#define SLOT_BITS 6
#define SPAN_MS   (UINT64_C(1) << (SLOT_BITS * TL_TIMER_LEVELS))

static unsigned slot_of(uint64_t ms, unsigned level)
{
    return (unsigned)((ms >> (SLOT_BITS * level)) & (TL_TIMER_SLOTS - 1));
}

static uint64_t rotate_left(uint64_t bits, unsigned n)
{
    n &= 63;
    return n == 0 ? bits : bits << n | bits >> (64 - n);
}

void tl_timers_init(struct tl_timers *timers, uint64_t now_ms)
{
    timers->now_ms = now_ms;
    for (unsigned level = 0; level < TL_TIMER_LEVELS; level++) {
        timers->busy[level] = 0;
        for (unsigned slot = 0; slot < TL_TIMER_SLOTS; slot++)
            tl_list_init(&timers->slots[level][slot]);
    }
}

void tl_timer_init(struct tl_timer *timer, void (*fn)(struct tl_timer *))
{
    tl_list_init(&timer->node);
    timer->due_ms = 0;
    timer->fn = fn;
}

bool tl_timer_is_started(const struct tl_timer *timer)
{
    return !tl_list_empty(&timer->node);
}

/*
 * The level follows from the distance, the slot from the due time. A distance of a level's whole
 * range lands in the slot where the hand stands and is met after a full round; level 0 has no such
 * distance, so there the hand's slot holds what is due already.
 */
static void insert(struct tl_timers *timers, struct tl_timer *timer)
{
    uint64_t now = timers->now_ms, due = timer->due_ms;
    if (due < now)
        due = now;
    if (due - now >= SPAN_MS)
        due = now + SPAN_MS - 1; /* met early and put back with its real due time */
    uint64_t distance = due - now;
    unsigned level = 0;
    while (distance >> (SLOT_BITS * (level + 1)) != 0)
        level++;
    unsigned slot = slot_of(due, level);
    tl_list_append(&timers->slots[level][slot], &timer->node);
    timers->busy[level] |= UINT64_C(1) << slot;
}

void tl_timer_start(struct tl_timers *timers, struct tl_timer *timer, uint64_t due_ms)
{
    assert(timer->fn != NULL);
    tl_timer_stop(timers, timer);
    timer->due_ms = due_ms;
    insert(timers, timer);
}

/* `head` lost its last timer: if it is one of the slots, its bit goes. */
static void slot_emptied(struct tl_timers *timers, const struct tl_list *head)
{
    uintptr_t first = (uintptr_t)&timers->slots[0][0], at = (uintptr_t)head;
    if (at < first || at >= first + sizeof(timers->slots))
        return; /* the private list of a run */
    size_t i = (at - first) / sizeof(struct tl_list);
    timers->busy[i / TL_TIMER_SLOTS] &= ~(UINT64_C(1) << (i % TL_TIMER_SLOTS));
}

void tl_timer_stop(struct tl_timers *timers, struct tl_timer *timer)
{
    if (!tl_timer_is_started(timer))
        return;
    const struct tl_list *head = timer->node.next == timer->node.prev ? timer->node.next : NULL;
    tl_list_remove(&timer->node);
    if (head != NULL)
        slot_emptied(timers, head);
}

/* The slots of a level that the hand passes on its way to now_ms, the one it reaches included. */
static uint64_t slots_passed(const struct tl_timers *timers, unsigned level, uint64_t now_ms)
{
    uint64_t steps = (now_ms >> (SLOT_BITS * level)) - (timers->now_ms >> (SLOT_BITS * level));
    unsigned hand = slot_of(timers->now_ms, level);
    uint64_t passed = level == 0 ? UINT64_C(1) << hand : 0;
    if (steps >= TL_TIMER_SLOTS)
        return UINT64_MAX;
    return passed | rotate_left((UINT64_C(1) << steps) - 1, hand + 1);
}

static void take_passed(struct tl_timers *timers, uint64_t now_ms, struct tl_list *ret_taken)
{
    for (unsigned level = 0; level < TL_TIMER_LEVELS; level++) {
        uint64_t bits = slots_passed(timers, level, now_ms) & timers->busy[level];
        timers->busy[level] &= ~bits;
        for (; bits != 0; bits &= bits - 1)
            tl_list_splice(ret_taken, &timers->slots[level][__builtin_ctzll(bits)]);
    }
}

void tl_timers_run(struct tl_timers *timers, uint64_t now_ms)
{
    if (now_ms < timers->now_ms)
        now_ms = timers->now_ms;
    struct tl_list taken, due, *node;
    tl_list_init(&taken);
    tl_list_init(&due);
    take_passed(timers, now_ms, &taken);
    timers->now_ms = now_ms;
    while ((node = tl_list_pop(&taken)) != NULL) {
        struct tl_timer *timer = TL_CONTAINER(node, struct tl_timer, node);
        if (timer->due_ms <= now_ms)
            tl_list_append(&due, node);
        else
            insert(timers, timer);
    }
    while ((node = tl_list_pop(&due)) != NULL) {
        struct tl_timer *timer = TL_CONTAINER(node, struct tl_timer, node);
        timer->fn(timer);
    }
}

uint64_t tl_timers_wait_ms(const struct tl_timers *timers, uint64_t now_ms)
{
    uint64_t first = UINT64_MAX;
    if (timers->busy[0] & UINT64_C(1) << slot_of(timers->now_ms, 0))
        return 0;
    for (unsigned level = 0; level < TL_TIMER_LEVELS; level++) {
        if (timers->busy[level] == 0)
            continue;
        /* Bit 0 becomes the slot after the hand's, which is one step away. */
        unsigned hand = slot_of(timers->now_ms, level);
        uint64_t ahead = rotate_left(timers->busy[level], 64 - (hand + 1) % 64);
        uint64_t steps = (uint64_t)__builtin_ctzll(ahead) + 1;
        uint64_t at = ((timers->now_ms >> (SLOT_BITS * level)) + steps) << (SLOT_BITS * level);
        if (at < first)
            first = at;
    }
    if (first == UINT64_MAX)
        return UINT64_MAX;
    return first > now_ms ? first - now_ms : 0;
}
