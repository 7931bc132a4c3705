/*
 * A resume storm: all subscribers of a swarm drop their connections at once, and come back with
 * their last position, an event stream with Last-Event-ID, a WebSocket with `?since=` and
 * `received=`. Keeps where each stands, drops, and tells when each is back and has caught up. The
 * inside of the swarm, for swarm.c and swarm_client.c only.
 */
#ifndef TL_BENCH_STORM_H
#define TL_BENCH_STORM_H

#include "bench/swarm_client.h"

/* Make room for the subscribers' positions where the plan has a storm. 0 or -ENOMEM. */
TL_MUST_USE int tl_storm_init(struct tl_swarm *s);

/* Frees the positions. */
void tl_storm_deinit(struct tl_swarm *s);

/* Drop everybody, if the moment has come. Between turns. */
void tl_storm_look(struct tl_swarm *s);

/* SSE: a line that is not data; the empty one ends an event. */
void tl_storm_on_field(struct tl_swarm_client *c, struct tl_bytes line);

/* A message of the subscriber was counted. */
void tl_storm_on_message(struct tl_swarm_client *c);

/* The subscriber is accepted again; it has caught up when it has all that was launched by now. */
void tl_storm_on_returned(struct tl_swarm_client *c);

/* Append what the request has behind the path, and its headers. */
void tl_storm_write_query(const struct tl_swarm_client *c, struct tl_buf *out);
void tl_storm_write_header(const struct tl_swarm_client *c, struct tl_buf *out);

#endif
