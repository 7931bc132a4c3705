/*
 * Many subscribers on one thread: they connect, so many at a time, ask, and receive, with one recv
 * into one big buffer each time; nothing is allocated for a message. What they see goes into the
 * tally. It publishes nothing and decides nothing about when the run ends. One thread; children
 * that are forked make their own.
 */
#ifndef TL_BENCH_SWARM_H
#define TL_BENCH_SWARM_H

#include "base/buf.h"
#include "bench/flight.h"
#include "bench/receiver.h"
#include "bench/tally.h"

#include <sys/socket.h>

enum { TL_STORM_ID_MAX = 128 }; /* bytes of a position */

struct tl_swarm;

/* Everything is lent and must outlive the swarm. */
struct tl_swarm_plan {
    enum tl_receiver_kind kind;
    struct sockaddr_storage target;
    socklen_t target_n;
    const struct sockaddr_storage *sources; /* to connect from, in turn; may be none */
    size_t sources_n;
    const char *host;       /* for the Host header */
    const char *path;       /* with {channel} */
    const char *headers;    /* whole lines with CRLF */
    const char *prefix;     /* of channel names; the number follows */
    char *const *messages;  /* text messages to send when accepted, with {channel} */
    size_t messages_n;      /* WebSocket only */
    const char *ready_text; /* "": ready when accepted; else when a message holds this */
    uint64_t subscribers_n; /* of all processes */
    uint64_t parallel;      /* connects under way, in each process */
    uint64_t size;          /* bytes of a payload */
    uint32_t channels_n;    /* subscriber i watches channel i % channels_n */
    bool watch_all;         /* each watches all channels, as one sequence */
    uint32_t run;
    struct tl_flight *flight;
    const _Atomic uint64_t *measure_from_ns; /* latencies of messages scheduled from then on */
    /* A resume storm: NULL, or when everybody drops; 0 until that is known. WebSocket: the
     * channels' positions before the first message, NUL-terminated; NULL: plain subscriptions. */
    const _Atomic uint64_t *storm_ns;
    const char (*positions)[TL_STORM_ID_MAX];
};

/*
 * The subscribers first..first+n-1, none connected. Returns NULL without memory or descriptors.
 * Owner: the caller, until tl_swarm_free().
 */
TL_MUST_USE struct tl_swarm *tl_swarm_new(const struct tl_swarm_plan *plan, uint64_t first,
                                          uint64_t n, struct tl_tally *tally);

/* Closes every connection with a RST, so that no port waits. Takes NULL. */
void tl_swarm_free(struct tl_swarm *s);

/* Let tl_swarm_turn() also wake for another descriptor; changes its events when called again. 0 or
 * -errno. */
TL_MUST_USE int tl_swarm_watch(struct tl_swarm *s, int fd, uint32_t epoll_events);

/* Start connects that are due, wait at most timeout_ms (-1: for ever), and handle a batch of what
 * came. */
void tl_swarm_turn(struct tl_swarm *s, int timeout_ms);

/* All subscribers are ready, or have failed, or will never be tried. */
bool tl_swarm_is_settled(const struct tl_swarm *s);

/* The run is over: look at each subscriber and fill in the tally's last part. */
void tl_swarm_judge(struct tl_swarm *s);

/* How many messages of a channel were launched in all. */
uint64_t tl_swarm_launched(const struct tl_swarm_plan *plan, uint32_t channel);

/* Append the template with each {channel} replaced by the name, percent-encoded or as it is. */
void tl_swarm_expand(struct tl_buf *out, const char *template, const char *name, bool encode);

#endif
