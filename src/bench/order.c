#include "bench/order.h"

static uint64_t *word_of(struct tl_order *order, uint32_t number)
{
    return &order->seen[number / 64 % (TL_ORDER_MEMORY / 64)];
}

static uint64_t bit_of(uint32_t number)
{
    return UINT64_C(1) << number % 64;
}

static void leave_out(struct tl_order *order, uint32_t first, uint32_t n)
{
    if (n >= TL_ORDER_MEMORY) {
        memset(order->seen, 0, sizeof order->seen);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        *word_of(order, first + i) &= ~bit_of(first + i);
}

enum tl_order_verdict tl_order_take(struct tl_order *order, uint32_t number, uint32_t *ret_missing)
{
    *ret_missing = 0;
    if (number >= order->next) {
        uint32_t missing = number - order->next;
        if (missing > 0)
            leave_out(order, order->next, missing);
        *word_of(order, number) |= bit_of(number);
        order->next = number + 1;
        *ret_missing = missing;
        return missing == 0 ? TL_ORDER_NEXT : TL_ORDER_GAP;
    }
    if (order->next - number > TL_ORDER_MEMORY || (*word_of(order, number) & bit_of(number)))
        return TL_ORDER_DUPLICATE;
    *word_of(order, number) |= bit_of(number);
    return TL_ORDER_LATE;
}
