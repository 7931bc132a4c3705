/*
 * A push parser for replies of Redis (RESP2, and RESP3 where asked). Made for a link that reads
 * pub/sub messages and short answers: the top value and the first elements of a top aggregate are
 * kept, everything deeper is checked and passed over. A reply that lies whole in the bytes given is
 * never copied; one that spans reads is gathered in a buffer bounded by the limits, each byte
 * looked at once. Limits are checked before anything is allocated. It never touches a socket or a
 * clock.
 */
#ifndef TL_PROTO_RESP_H
#define TL_PROTO_RESP_H

#include "base/buf.h"

#define TL_RESP_VALUES_MAX 8         /* elements of a top aggregate that are kept */
#define TL_RESP_DEPTH_MAX  8         /* aggregates within each other */
#define TL_RESP_LINE_MAX   (1 << 16) /* bytes of a line: statuses, errors, numbers */
/* Bytes of a bulk that may still be skipped; an announcement above it is no real one. */
#define TL_RESP_SKIP_MAX ((int64_t)1 << 32)

enum tl_resp_type {
    TL_RESP_NIL,
    TL_RESP_STRING,  /* $ */
    TL_RESP_STATUS,  /* + */
    TL_RESP_ERROR,   /* - ! */
    TL_RESP_INTEGER, /* : */
    TL_RESP_ARRAY,   /* * */
    /* RESP3 only */
    TL_RESP_DOUBLE,   /* , as text */
    TL_RESP_BOOL,     /* # in `integer` */
    TL_RESP_BIGNUM,   /* ( as text */
    TL_RESP_VERBATIM, /* = with its "txt:" */
    TL_RESP_MAP,      /* % */
    TL_RESP_SET,      /* ~ */
    TL_RESP_PUSH,     /* > */
};

struct tl_resp_value {
    enum tl_resp_type type;
    bool oversize;         /* over a limit and skipped: bytes.p is NULL, bytes.n what it had */
    struct tl_bytes bytes; /* text types */
    int64_t integer;       /* INTEGER, BOOL; aggregates: how many elements follow (MAP: 2 each) */
};

struct tl_resp_limits {
    size_t bulk_bytes_max;  /* a longer text is skipped and marked oversize */
    size_t reply_bytes_max; /* kept bytes of a reply; a text that would pass it, likewise */
    uint32_t elements_max;  /* of all aggregates of one reply together; more are BAD */
    bool resp3;             /* take RESP3's types; otherwise they are BAD */
};

/* Told of each value below the top as it ends, aggregates as they begin: the depth it stands in (1:
 * an element of the top one). Its text is lent for the call. */
typedef void tl_resp_visit(void *arg, unsigned depth, const struct tl_resp_value *value);

struct tl_resp_frame {
    uint32_t left;  /* values still to come */
    bool attribute; /* RESP3 |: its values are dropped, and it stands for no value itself */
};

struct tl_resp {
    struct tl_resp_value top;                        /* the reply, valid after DONE */
    struct tl_resp_value values[TL_RESP_VALUES_MAX]; /* its first elements if it is an aggregate */
    uint32_t values_n;
    const char *reason; /* static text after BAD */
    /* Set by the owner after tl_resp_init(), or NULL: then no element of an aggregate is kept, so
     * that a reply may be of any size, and of any shape within TL_RESP_DEPTH_MAX. */
    tl_resp_visit *visit;
    void *visit_arg;

    struct tl_resp_limits limits;
    struct tl_buf buf; /* of a reply that spans reads: kept texts, then the unfinished token */
    struct tl_bytes in;
    size_t pos;   /* in `in` */
    size_t token; /* where the unfinished token starts: in buf, or in `in` while not buffered */
    size_t token_n;
    uint64_t left;     /* of a bulk */
    size_t kept_bytes; /* of finished texts */
    uint32_t elements;
    int slot; /* of the bulk being read: 0 top, 1.. values, -1 none */
    uint8_t depth;
    uint8_t state;
    bool buffered;
    bool fresh;                                     /* the next byte begins a reply */
    size_t offsets[TL_RESP_VALUES_MAX + 1];         /* of the slots' texts */
    struct tl_resp_frame frames[TL_RESP_DEPTH_MAX]; /* open aggregates, outermost first */
};

/* Ready for the first byte of a connection. Allocates nothing. */
void tl_resp_init(struct tl_resp *r, const struct tl_resp_limits *limits);

/* Free the buffer; ready for another connection with the same limits and visitor. */
void tl_resp_reset(struct tl_resp *r);

/*
 * Read on, at most to the end of one reply. *ret_used tells how many of the bytes were taken: all
 * of them at MORE; call again with the rest after DONE. DONE  top (and values) hold the reply,
 * texts as slices of `in` or of the parser's buffer: valid until the next call or the end of `in`;
 *   MORE  the reply goes on, or there was none;
 *   BAD   `reason` tells: not RESP, over a limit, or no memory. So is every later call until
 *         tl_resp_reset().
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
TL_MUST_USE enum tl_parse tl_resp_push(struct tl_resp *r, struct tl_bytes in, size_t *ret_used);

/* The last call ended within a reply. */
static inline bool tl_resp_is_within(const struct tl_resp *r)
{
    return !r->fresh;
}

/* True if the value is a text with exactly these bytes. */
bool tl_resp_is(const struct tl_resp_value *value, const char *text);

#endif
