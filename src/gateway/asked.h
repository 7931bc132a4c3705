/*
 * Which channels a request for several asks for, and from where: `?ch=a&ch=b`. Pure: whether they
 * may be had is decided elsewhere.
 */
#ifndef TL_GATEWAY_ASKED_H
#define TL_GATEWAY_ASKED_H

#include "base/map.h"
#include "feed/position.h"
#include "proto/http1.h"

struct tl_asked_channel {
    struct tl_map_node node;
    struct tl_bytes name; /* in `names` */
    bool resumes;         /* a position was given, understood or not */
    struct tl_position position;
};

struct tl_asked {
    bool resumes; /* a number of the process' sequence was given, understood or not */
    struct tl_sequence since;
    size_t n;
    uint8_t *names;
    struct tl_asked_channel channels[];
};

/*
 * Read the query's ch=NAME items, each channel once, and where to begin: Last-Event-ID or a since=
 * with an `@`, for all of them (feed/position.h); a since=POSITION without one is of the channel
 * before it. What is neither is kept as one of no epoch, whose holder is told a gap; but a tag
 * without a number is of somebody who was cut before the beginning, and says nothing.
 * NULL with *ret_status 400 or 503 and static texts: no channel, more than channels_max, a name
 * that is empty, over 255 bytes or badly encoded, a position of no channel; or no memory. Owner:
 * the caller, by tl_asked_free().
 */
TL_MUST_USE struct tl_asked *tl_asked_read(const struct tl_http1_request *request,
                                           size_t channels_max, int *ret_status,
                                           const char **ret_error, const char **ret_hint);

/* Takes NULL. */
void tl_asked_free(struct tl_asked *asked);

#endif
