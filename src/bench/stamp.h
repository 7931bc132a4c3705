/*
 * What stands at the head of each payload that the bench publishes: which run, which channel, which
 * message of it, and when it was to be published. Printable and of fixed size, so that it passes
 * through JSON, SSE and any queue unchanged. No socket, no clock.
 */
#ifndef TL_BENCH_STAMP_H
#define TL_BENCH_STAMP_H

#include "base/bytes.h"

#define TL_STAMP_BYTES 44 /* "TLB1", and run, channel, number, time in 8, 8, 8, 16 hex digits */

struct tl_stamp {
    uint32_t run, channel;
    uint32_t number;  /* of the channel's messages, from 0 */
    uint64_t time_ns; /* scheduled, by tl_clock_ns() of this machine */
};

/* Write TL_STAMP_BYTES bytes. */
void tl_stamp_print(const struct tl_stamp *stamp, uint8_t *out);

/* Find the first stamp in the bytes, read it, and tell its offset; false if there is none. */
TL_MUST_USE bool tl_stamp_find(struct tl_bytes bytes, struct tl_stamp *ret_stamp, size_t *ret_off);

/* Fill n bytes with printable filler that needs no escape anywhere. */
void tl_stamp_fill(uint8_t *out, size_t n);

#endif
