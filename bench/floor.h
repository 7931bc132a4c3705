/*
 * The floor: a server that does nothing but send, to know what the kernel's part of a delivery is.
 * No limits, no checks, no timeouts, no layers; a channel is the number at the end of the path.
 * It is a yardstick and shares no code with the product. One thread, no protection against anybody.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNELS_MAX 100000
#define CHANNEL_ALL  CHANNELS_MAX /* a path without a number: everything */

/* Bytes that some sends still need. */
struct block {
    uint32_t refs;
    size_t n;
    uint8_t bytes[];
};

struct client {
    int fd;
    bool sse, sending;
    uint32_t channel;    /* of a subscriber; else UINT32_MAX */
    struct block *block; /* being sent, from off on */
    size_t off;
    uint8_t *backlog; /* what came while it was; rarely there */
    size_t backlog_n;
    uint8_t *input; /* of a publisher: what is not whole yet */
    size_t input_n, input_cap;
};

struct client_list {
    struct client **items;
    size_t n, cap;
};

/* floor_send.c: `use_uring` chooses io_uring for the sends, else send(2). */
void floor_send_init(bool use_uring);
/* Begin to send all of the block; the client holds a reference until it is out. */
void floor_send(struct client *c, struct block *b);
/* The socket takes more: only after send(2) took less than all. */
void floor_send_ready(struct client *c);
/* Hand over what was begun and take what completed. */
void floor_send_flush(void);
/* Sends that have not completed; the flush is to be called again when > 0. */
size_t floor_sending(void);

void floor_wants_out(struct client *c, bool on);
void floor_unref(struct block *b);

#endif
