/*
 * Reading older entries of a stream for clients that come back: from the newest backwards, page by
 * page, so that what it may cost is bounded whatever position a client claims to have.
 */
#ifndef TL_BROKER_REDIS_SEEK_H
#define TL_BROKER_REDIS_SEEK_H

#include "base/buf.h"
#include "feed/entry_id.h"

struct tl_redis_stream;
struct tl_redis_streams;

/* An entry; its payload lies in the seek's payloads. */
struct tl_redis_found {
    struct tl_entry_id id;
    size_t at, n;
};

struct tl_redis_seek {
    struct tl_entry_id from, to;
    struct tl_entry_id next; /* the newest that is still to be read */
    uint64_t msgs_max, bytes_max;
    uint64_t bytes_n;
    struct tl_redis_found *found; /* the newest first */
    size_t n, cap;
    struct tl_buf payloads;
    uint32_t page_n; /* entries of the page that is read */
    bool ended;      /* nothing older will be read */
    bool failed;     /* no memory */
};

/* NULL: no memory. */
struct tl_redis_seek *tl_redis_seek_new(struct tl_entry_id from, struct tl_entry_id to,
                                        uint64_t msgs_max, uint64_t bytes_max);
/* Takes NULL. */
void tl_redis_seek_free(struct tl_redis_seek *seek);

/* The next entry backwards; payload NULL: one that cannot be passed on. */
void tl_redis_seek_add(struct tl_redis_seek *seek, struct tl_entry_id id,
                       const struct tl_bytes *payload);
/* A page was read, for which `asked` entries were asked. */
void tl_redis_seek_page(struct tl_redis_seek *seek, uint32_t asked);

/* Tell the hub what was read, and forget the seek. known: no deletion was behind it. */
void tl_redis_seek_tell(struct tl_redis_streams *s, struct tl_redis_stream *stream,
                        struct tl_entry_id known);

#endif
