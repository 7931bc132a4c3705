/*
 * A run of finished wire bytes with the borders of its messages: the storage of a lane. One writer
 * appends; whoever holds a reference may read what it was told of (a mark), from any thread. Bytes
 * and entries once told never change. A segment never grows and knows no channel.
 *
 * One allocation: the struct, the entries, the bytes. Encodings grow from the front of the bytes,
 * names of source channels (pattern channels only) from their end.
 */
#ifndef TL_FEED_SEGMENT_H
#define TL_FEED_SEGMENT_H

#include "base/bytes.h"

#include <stdatomic.h>

/* The borders of a log's messages are counted three ways at once. */
struct tl_mark {
    uint64_t off; /* bytes of this lane before it */
    uint64_t idx; /* entries before it, control entries included: what positions count */
    uint64_t msg; /* messages before it */
};

enum tl_entry_flags {
    TL_ENTRY_CONTROL = 1, /* no message: a control event of this lane, maybe empty */
    TL_ENTRY_BINARY = 2,  /* the payload is not valid UTF-8 */
    /* What a control event tells, if anything: */
    TL_ENTRY_GAP = 4,
    TL_ENTRY_DOWN = 8, /* the broker cannot be reached */
    TL_ENTRY_UP = 16,
};

struct tl_entry {
    uint32_t end;     /* offset in the segment's bytes just behind this entry's encoding */
    uint32_t time_ms; /* when it was appended, since the segment's base_ms */
    uint32_t name_at; /* where the source channel's name stands, name_n bytes */
    uint32_t seq;     /* its number in the process, since the segment's base_seq */
    uint8_t name_n;
    uint8_t flags; /* enum tl_entry_flags */
};

struct tl_segment {
    _Atomic uint32_t refs;
    /* Set once by the writer before it lets go; relaxed: who sheds load only wants a hint. */
    _Atomic bool retired;
    uint32_t entries_cap;
    uint32_t entries_n; /* writer only */
    uint32_t bytes_cap;
    uint32_t bytes_n;    /* writer only: encodings */
    uint32_t names_n;    /* writer only: names at the end */
    struct tl_mark base; /* what stands before the first entry */
    uint64_t base_ms;    /* monotonic time of the first entry */
    uint64_t base_seq;   /* 0 until the first entry is numbered, and without a sequence */
    uint8_t *bytes;
    struct tl_entry entries[];
};

/*
 * A new empty segment with one reference, or NULL. bytes_cap < 4 GiB. Owner: the caller.
 */
TL_MUST_USE struct tl_segment *tl_segment_new(uint32_t bytes_cap, uint32_t entries_cap,
                                              struct tl_mark base, uint64_t base_ms);

/* Any thread. Unref frees at the last one; takes NULL. */
struct tl_segment *tl_segment_ref(struct tl_segment *seg);
void tl_segment_unref(struct tl_segment *seg);

/*
 * The writer drops its reference: what others still pin is counted as retired bytes of the process
 * (TL_M_RETIRED_BYTES) until they let go.
 */
void tl_segment_retire(struct tl_segment *seg);

/* Is there room for one more entry of so many bytes? Writer only. */
bool tl_segment_fits(const struct tl_segment *seg, size_t encoded_n, size_t name_n);

/*
 * Add an entry: returns where its encoded_n bytes are to be written before the entry is told to
 * anybody. Room was checked by tl_segment_fits() (asserted). The name is copied. Writer only.
 */
uint8_t *tl_segment_add(struct tl_segment *seg, size_t encoded_n, struct tl_bytes name,
                        uint8_t flags, uint64_t now_ms);

/* Number the entry that was added last: at least base_seq, and less than 4 Gi more (asserted). It
 * is base_seq for the first one. Writer only. */
void tl_segment_number(struct tl_segment *seg, uint64_t seq);

/* The number of entry i. */
static inline uint64_t tl_segment_seq(const struct tl_segment *seg, uint32_t i)
{
    return seg->base_seq + seg->entries[i].seq;
}

/* Offset in bytes of entry i's encoding. i <= entries told. */
static inline uint32_t tl_segment_start(const struct tl_segment *seg, uint32_t i)
{
    return i == 0 ? 0 : seg->entries[i - 1].end;
}

/* Messages (not control entries) among the first n entries. */
uint32_t tl_segment_messages(const struct tl_segment *seg, uint32_t n);

#endif
