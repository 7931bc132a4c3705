/*
 * The embedded broker: what is published here is what there is. Nothing outlives the process.
 */
#ifndef TL_BROKER_MEMORY_H
#define TL_BROKER_MEMORY_H

#include "broker/broker.h"
#include "loop/loop.h"

/* NULL without memory. Owner: whoever calls ops->free. Thread: the loop's. */
TL_MUST_USE struct tl_broker *tl_memory_new(struct tl_loop *loop);

#endif
