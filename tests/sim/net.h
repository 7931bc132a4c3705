/*
 * The simulated kernel: an engine for src/loop whose sockets are pipes in memory, in the ways of
 * epoll (sends are made at once) and of io_uring (sends are queued), and the eventfd of mailboxes.
 * Sends are short, late or refused as the dice say. A loop that nothing woke is not to be turned,
 * so a wake-up that is lost stays lost.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "sim.h"

#include "loop/engine.h"

#define NET_LOOPS_MAX 8

/* A connection. The gateway has the one end, by its fd; a client or Redis the other. */
struct net_sock {
    int fd;
    struct tl_loop *loop;     /* NULL until the gateway opened a stream */
    struct tl_stream *stream; /* NULL before, and once it is closed */
    struct sim_pipe to_gw;    /* sent by the peer and not received yet */
    struct sim_pipe from_gw;  /* taken by the kernel and not read by the peer yet */
    size_t room_max;          /* bytes that from_gw holds before sends wait */
    uint64_t given_n;         /* bytes that the gateway received so far */
    uint64_t taken_n;         /* bytes that were taken of it so far */
    uint64_t progress_ms;     /* when the send in flight began, or last moved */
    uint64_t life_ms;         /* when the gateway last saw that somebody is there */
    struct {
        bool active, queued;
        unsigned n;
        struct tl_bytes slices[TL_SEND_SLICES_MAX];
    } send;
    bool wanted, told;
    bool peer_fin;  /* the peer sends no more */
    bool peer_gone; /* and reads no more: what comes is answered with a RST */
    bool peer_rst;
    bool gw_fin;    /* the gateway sends no more */
    bool gw_rst;    /* it broke the connection: what the peer did not read is lost */
    bool gw_closed; /* it has no stream any more */
    struct {
        uint64_t stuck_ms;  /* so long nothing had been taken of the send in flight; 0: none */
        uint64_t silent_ms; /* and so long there was no sign of life */
    } cut;                  /* when it closed */
    void *owner;            /* the peer's */
    void (*on_given)(struct net_sock *k);
    /* before: what had been taken before these bytes */
    void (*on_taken)(struct net_sock *k, uint64_t before);
};

/* How the network behaves, in percent. */
struct net_habits {
    uint32_t short_send, refused_send; /* although there was room */
    uint32_t late;                     /* an event that is due comes in another turn */
    bool queues_always;                /* as io_uring: sends outside of batches too */
};
extern struct net_habits net_habits;

/* Whoever the gateway connects to: 1 not yet, 0 accepted (the sock is then the peer's too), or
 * -errno. */
extern int (*net_on_connect)(struct net_sock *k);

void net_start(void);
/* All must be closed. */
void net_end(void);

/* A client connects to that loop's listener. The peer's end is the caller's until net_release(). */
struct net_sock *net_connect(unsigned loop_i);
/* The peer has done with it. */
void net_release(struct net_sock *k);
/* The peer sends its FIN, closes, or breaks the connection. */
void net_peer_fin(struct net_sock *k);
void net_peer_close(struct net_sock *k);
void net_peer_reset(struct net_sock *k);
/* Does the gateway's side send no more, with all read? */
bool net_is_over(const struct net_sock *k);

/* A listening fd for tl_worker_listen() of the next loop that asks. */
int net_listen_fd(void);
/* Would an epoll_wait() of this loop return now? */
bool net_is_due(const struct tl_loop *loop);
/* Milliseconds to the loop's next timer; UINT64_MAX without. */
uint64_t net_wait_ms(const struct tl_loop *loop);

#endif
