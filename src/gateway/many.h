/*
 * A session that holds several channels: an event stream whose subscriptions are merged by the
 * sequence of the process, so that whoever has an event has all of its channels up to that event.
 * many_begin.c has where it begins, and with which snapshots; many.c, what is sent next;
 * sse_many.c, what happens to it.
 *
 * The merge is right because a worker is told in batches that are a prefix of the sequence: what a
 * later batch brings has greater numbers than all that its views have. All belongs to the worker's
 * thread.
 */
#ifndef TL_GATEWAY_MANY_H
#define TL_GATEWAY_MANY_H

#include "gateway/channel_view.h"

#include <assert.h>

struct tl_asked_channel;
struct tl_session;
struct tl_worker;

/* One channel of such a session. Its subscription has no out-vector: the session's spans them. */
struct tl_member {
    struct tl_subscription sub; /* live: the session has begun */
    struct tl_many *many;
    struct tl_list waits; /* of the session's: paced, while its rule lets nothing go; or silent */
    uint64_t key;         /* on the heap: the number of what comes next, or 0 of who fell off its
                           * log; before it begins: one that all behind its place are greater than */
    uint64_t floor;       /* what has no greater number is not for it; 0: the cursor says it all */
    uint32_t heap_at;     /* its place on the heap, counted from 1; 0: not there */
    uint32_t seek_due;    /* see tl_channel_view_settles() */
    bool placed;          /* the cursor stands where its position, history or snapshot said */
    bool settled;         /* its channel is there, and so is what it begins with */
    bool silent;          /* on that list: its channel expired, and it is to be told */
    uint16_t expired_n;   /* its view's, as it was told */
    enum tl_resume outcome; /* of that */
    uint64_t missed;
};

struct tl_many {
    struct tl_session *session;
    struct tl_list touched; /* on the worker's list: to be looked at when the batch is through */
    struct tl_list paced, silent;
    uint64_t paced_ms; /* no earlier than that one of them may go */
    uint64_t sent_seq; /* the greatest number that went out: ids never go back */
    size_t n;
    size_t left_n;  /* members that are subscribed */
    size_t first_n; /* members whose snapshots are through */
    bool settled;   /* so are all of them */
    bool started;
    uint32_t sends_n; /* out-vectors so far; wraps */
    size_t heap_n;    /* those with something to send, the least key first */
    struct tl_member **heap;
    struct tl_member members[];
};

/* n members that are subscribed to nothing yet; NULL without memory. Owner: the session. */
struct tl_many *tl_many_new(struct tl_session *s, size_t n);
/* Leave all channels. Idempotent; takes NULL. */
void tl_many_close(struct tl_many *many);
/* The same, and free it; takes NULL. */
void tl_many_free(struct tl_many *many);

/* Take it off its channel. */
void tl_member_close(struct tl_member *m);
/* Something about its view or cursor changed: what comes next, and when? */
void tl_member_mark(struct tl_member *m);

/* Of the first member, which fell off its log: up to that number the client has everything once it
 * is told. */
uint64_t tl_many_seq_behind_gap(const struct tl_member *m);

/* What goes out next: an out-vector with room for so many bytes behind it, of one reference and
 * nothing in it; NULL without memory. */
struct tl_outvec *tl_many_out_new(size_t bytes_n);
/* It is there: the session sends it, and has the reference. */
void tl_many_send(struct tl_session *s, struct tl_outvec *out);
/* There was no memory for it: the session is reset. */
void tl_many_refuse(struct tl_session *s);

/*
 * What the session sends next, into its out-vector, or as bytes of its own. False: nothing is there
 * to send now, or the session is over.
 */
bool tl_many_next(struct tl_session *s);

/* For the worker, of views of the tagged lane. The tail is about to pass members that wait for
 * their session's next turn. */
void tl_many_catch_up(struct tl_channel_view *view, uint64_t tail_off);
/* The view has changed; `failed`: it can be read no more. Ends no session. */
void tl_many_mark(struct tl_channel_view *view, bool failed);
/* sse_many.c: what became of the view; link_down: it waits with the broker down. The sessions are
 * looked at with tl_many_turn(). */
void tl_many_on_change(struct tl_channel_view *view, bool link_down);
void tl_many_turn(struct tl_worker *worker);
/* The same, but in the worker's next turn: more like this is coming. */
void tl_many_turn_later(struct tl_worker *worker);

/* many_begin.c: what it sends first: once all are there, snapshots; then it begins. As
 * tl_many_next(). */
bool tl_many_next_first(struct tl_many *many);
/* What the request says of that member. Until it begins. */
const struct tl_asked_channel *tl_member_asked(const struct tl_member *m);
/* The id line of an event of that channel which is told with that number. Before the beginning, one
 * that brings its owner to where it came from: what the request said, or nothing. */
void tl_many_append_id(struct tl_buf *out, const struct tl_many *many, struct tl_bytes name,
                       uint64_t seq);

/* sse_many.c: start the event stream that the exchange asks for. */
void tl_sse_many_start(struct tl_session *s);
/* A member fell off its log: it is told, if there is anything to tell. True: it goes on with the
 * oldest kept, or where its rule says. */
bool tl_sse_many_overflow(struct tl_member *m);
/* Tell of some silent members. False: the session is over. */
bool tl_sse_many_tell_silent(struct tl_many *many);

/* A message of the tagged lane without its id line, with which it begins. */
static inline struct tl_bytes tl_many_skip_id(struct tl_bytes message)
{
    const uint8_t *end = memchr(message.p, '\n', message.n);
    assert(end);
    return tl_bytes_skip(message, (size_t)(end - message.p) + 1);
}

/* The channel's name, while it is subscribed. */
static inline struct tl_bytes tl_member_name(const struct tl_member *m)
{
    return tl_channel_view_name(m->sub.view);
}

#endif
