/*
 * One connection to Redis: dialling, the handshake (AUTH, SELECT, CLIENT SETNAME, PING), sending,
 * the PING watchdog, and trying again for ever. What is sent and what answers mean is its owner's
 * (redis_sub.c, redis_pub.c). It never gives up and never logs; troubles go to on_trouble.
 */
#ifndef TL_BROKER_REDIS_LINK_H
#define TL_BROKER_REDIS_LINK_H

#include "broker/redis.h"
#include "net/connector.h"
#include "proto/resp.h"

/* What one send gathers at least, while there is something. */
#define TL_REDIS_BATCH_BYTES ((size_t)64 << 10)

struct tl_redis_link;

struct tl_redis_link_handler {
    /* Commands may be sent from here on. */
    void (*on_up)(struct tl_redis_link *l);
    /* Was up and is lost: no answer comes any more. The reason is printable. */
    void (*on_down)(struct tl_redis_link *l, const char *reason);
    /* A loss or a failed attempt, once each, before on_down. */
    void (*on_trouble)(struct tl_redis_link *l, const char *reason, uint64_t retry_ms);
    /* Anything but the answers to the link's own commands. The owner adds to l->answered. Returns
     * NULL, or static text: it makes no sense, and the link is lost for that reason. */
    const char *(*on_reply)(struct tl_redis_link *l, const struct tl_resp *reply);
    /* Append what there is to send until out->n >= TL_REDIS_BATCH_BYTES; l->mid_command tells if it
     * ends within a command. Returns how many answers more are due. */
    uint64_t (*fill)(struct tl_redis_link *l, struct tl_buf *out);
    /* A PING was answered; NULL where nobody cares. */
    void (*on_pong)(struct tl_redis_link *l);
};

enum tl_redis_link_state {
    TL_REDIS_WAITING, /* for the next attempt */
    TL_REDIS_DIALLING,
    TL_REDIS_HANDSHAKE,
    TL_REDIS_UP,
    TL_REDIS_CLOSING, /* for on_closed, then WAITING */
    TL_REDIS_STOPPED,
};

struct tl_redis_link {
    struct tl_loop *loop;
    const struct tl_redis_options *options; /* the broker's, without zeros */
    const struct tl_redis_link_handler *handler;
    const char *role; /* "sub", "pub" */
    enum tl_redis_link_state state;
    struct tl_connector connector;
    struct tl_stream stream;
    struct tl_timer timer; /* the next attempt, the handshake's end, or the watchdog */
    struct tl_resp resp;
    struct {
        uint8_t steps[4];
        uint8_t n, done;
    } handshake;
    struct {
        struct tl_buf buf;
        size_t done;
        bool pending; /* the engine has it */
        bool broken;  /* a send failed: what was received before is read first */
    } flight;
    struct {
        uint8_t state;
        uint64_t since_ms; /* when it became due */
        uint64_t before;   /* answers that are due before its own */
        bool again;        /* another one is due behind it */
        uint32_t answered; /* see tl_redis_link_ping() */
    } ping;
    uint64_t sent, answered; /* of the owner's answers */
    bool mid_command;
    bool stream_open; /* until on_closed */
    uint64_t life_ms; /* the last sign of it */
    uint64_t up_ms;
    uint64_t retry_ms; /* what the next attempt waits */
    uint32_t failures; /* in a row */
    struct {
        uint64_t since_ms;
        uint64_t now, before; /* bytes received in this second and the one before */
    } flow;
};

/* Options, handler and role must outlive the link. Nothing happens before tl_redis_link_start(). */
void tl_redis_link_init(struct tl_redis_link *l, struct tl_loop *loop,
                        const struct tl_redis_options *options,
                        const struct tl_redis_link_handler *handler, const char *role);
void tl_redis_link_start(struct tl_redis_link *l);

/* There is something to send. Loop's thread, from a callback of the loop, never from inside a call
 * of the broker's interface: the link may be lost in it. Nothing is done unless the link is up. */
void tl_redis_link_flush(struct tl_redis_link *l);

/*
 * Ask for a PING that is sent from now on; the owner flushes. Once l->ping.answered has come as far
 * as the number returned (it wraps around), all is here that Redis sent before it got that PING, or
 * the link was lost since. Of a link that is up.
 */
uint32_t tl_redis_link_ping(struct tl_redis_link *l);

/* Lose the link for a reason of the owner's, and try again. From a callback of the loop. */
void tl_redis_link_lose(struct tl_redis_link *l, const char *reason);

/* No callback afterwards. The memory is the owner's after the loop's next turn. Idempotent. */
void tl_redis_link_stop(struct tl_redis_link *l);

/* After tl_redis_link_stop() and the stream's end (asserted). */
void tl_redis_link_deinit(struct tl_redis_link *l);

static inline bool tl_redis_link_is_up(const struct tl_redis_link *l)
{
    return l->state == TL_REDIS_UP;
}

/* Append a command as RESP; 0 or -ENOMEM, then out->failed is set. */
int tl_redis_link_command(struct tl_buf *out, int argc, const char *const *argv,
                          const size_t *lengths);

/* Redis' own words as printable text, cut at the end of out, without the password should Redis echo
 * it. Returns out. */
const char *tl_redis_link_words(const struct tl_redis_link *l, struct tl_bytes words, char *out,
                                size_t out_n);

#endif
