/*
 * What the operator is told about the links to one Redis: one line per cause and not per attempt,
 * a reminder while it lasts, one line when all is well again; and the gauge broker_up. It decides
 * nothing about the links.
 */
#ifndef TL_BROKER_REDIS_NOTICE_H
#define TL_BROKER_REDIS_NOTICE_H

#include "base/bytes.h"

#define TL_REDIS_NOTICE_CAUSES    4
#define TL_REDIS_NOTICE_REPEAT_MS 30000

enum { TL_REDIS_SUB = 1, TL_REDIS_PUB = 2, TL_REDIS_BOTH = 3 };

struct tl_redis_notice {
    char address[160];
    unsigned up;        /* bits of the links that are up */
    uint64_t all_up_ms; /* since when */
    uint64_t down_ms;   /* since when not */
    bool said;          /* a line about trouble was written since the last about health */
    uint32_t lines;     /* written so far: for tests */
    struct {
        char text[200]; /* "" unused */
        uint64_t said_ms;
    } causes[TL_REDIS_NOTICE_CAUSES];
};

/* The address is shown in the lines. */
void tl_redis_notice_init(struct tl_redis_notice *n, const char *address, uint64_t now_ms);

void tl_redis_notice_up(struct tl_redis_notice *n, unsigned link, uint64_t now_ms);

/* The link was lost or could not be had; the reason is printable. */
void tl_redis_notice_down(struct tl_redis_notice *n, unsigned link, const char *reason,
                          uint64_t retry_ms, uint64_t now_ms);

/* The same of a link without which all is well but for what it is for. */
void tl_redis_notice_aside(struct tl_redis_notice *n, const char *use, const char *reason,
                           uint64_t retry_ms, uint64_t now_ms);

/* Redis refused a command on a link that stays up. */
void tl_redis_notice_refused(struct tl_redis_notice *n, const char *command, struct tl_bytes name,
                             const char *words, uint64_t now_ms);

#endif
