/*
 * The publishes of an HTTP connection whose answers are due. Requests that lie one behind another
 * in what was read (RFC 9112 9.3.2) go to the hub together, before it takes its turn with them:
 * one batch for their subscribers, one write for Redis. Their answers go out in the order of the
 * requests, whatever the order in which the broker is done with them, and those of one turn
 * together. A request that is no publish waits until none is due.
 *
 * A session has none of this while no answer is due. What may be due is bounded: past it the
 * connection is not read on until all is answered, so that no turn of the loop is one session's.
 */
#ifndef TL_GATEWAY_POSTS_H
#define TL_GATEWAY_POSTS_H

#include "gateway/session.h"

/* Publish the body of the session's exchange, which is over with it; its answer is due. */
void tl_posts_add(struct tl_session *s);

/* A finished answer that goes out behind those that are due, of which there are some. Takes the
 * bytes over; a failed buffer closes the session. */
void tl_posts_add_answer(struct tl_session *s, struct tl_buf *answer, bool keep_alive);

/* The gateway ends: take no more and end the connection behind what is due; once there is no time
 * left, without waiting for the broker. There are some due. */
void tl_posts_drain(struct tl_session *s);

/* The session goes: what is under way finds nobody. Nothing is done if none is due. */
void tl_posts_forget(struct tl_session *s);

#endif
