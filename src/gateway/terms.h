/*
 * The terms of a subscription, as the client's request states them: from where in the channel it
 * wants to be served, and whether it would rather be closed than miss something. Pure.
 */
#ifndef TL_GATEWAY_TERMS_H
#define TL_GATEWAY_TERMS_H

#include "feed/view.h"
#include "proto/http1.h"

struct tl_terms {
    bool resumes;       /* a position was given, understood or not */
    bool strict;        /* WebSocket: close rather than let a gap pass */
    bool tells_history; /* how much was given: 0 is nothing of before, not even a snapshot */
    struct tl_position position;
    uint64_t history_msgs; /* without a position: start so many messages ago */
    uint64_t history_ms;   /* or so long ago; 0: neither, start now */
};

/*
 * Read Last-Event-ID, and ?since=POSITION, &received=N (with a position: so many messages behind
 * it), ?strict=1 and ?history=N or ?history=30s. What is no position is kept as one of no epoch:
 * its holder is told a gap. False when a number is none.
 */
TL_MUST_USE bool tl_terms_read(const struct tl_http1_request *request, struct tl_terms *ret_terms);

/*
 * Where in the view these terms begin, see tl_view_resume(). now_ms: the loop's. Without a position
 * the outcome is TL_RESUME_FROM.
 */
enum tl_resume tl_terms_start(const struct tl_terms *terms, const struct tl_view *view,
                              uint64_t now_ms, struct tl_mark *ret_from, uint64_t *ret_missed);

/*
 * The same on a channel whose latest counts: what its rule leaves out is no gap, so whoever falls
 * short of the newest message begins with that. is_start: the position is where the client began
 * once, and how much came since tells nothing of which; else it belongs to the last message that it
 * has. TL_RESUME_FROM, or TL_RESUME_VOID with the newest message of this epoch to begin with.
 */
enum tl_resume tl_terms_start_latest(const struct tl_terms *terms, const struct tl_view *view,
                                     uint64_t now_ms, bool is_start, struct tl_mark *ret_from);

#endif
