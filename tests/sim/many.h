/*
 * What a client is to see that watches several channels on one event stream (R22), kept apart from
 * the gateway. All of it follows from one rule: an id has the number of an entry in the sequence of
 * all that the process appended, and whoever has it has everything of all its channels up to there,
 * or was told what is wanting. So where somebody stands in each channel can be had of the number
 * alone, and so can whether a gap that is told is one, and whether one that is not told is none.
 */
#ifndef TESTS_SIM_MANY_H
#define TESTS_SIM_MANY_H

#include "model.h"

/* --- the sequence --- */

void many_new_gateway(void);
void many_end(void);
/* An arrival of model.h was kept with that number; continuity is proven from behind the other one
 * on. */
void many_arrived(unsigned channel, uint64_t seq, uint64_t epoch_seq);
/* The broker confirmed a subscription when `before` was the last number; it is said to prove
 * continuity from behind epoch_seq on. */
void many_confirmed(unsigned channel, uint64_t before, uint64_t epoch_seq);

/* --- one client --- */

/* How somebody comes. */
struct many_terms {
    uint32_t channels; /* a bit each */
    uint32_t history;
    bool by_number;   /* with an id: */
    unsigned gateway; /* the incarnation that gave it; 0: none did */
    uint64_t epoch, seq;
    bool has_place[MODEL_CHANNELS]; /* with the channel's own position: */
    struct place places[MODEL_CHANNELS];
};

/* How all channels are at some time. */
struct many_moment {
    uint32_t arrivals[MODEL_CHANNELS], tail[MODEL_CHANNELS], start[MODEL_CHANNELS];
    uint64_t epoch[MODEL_CHANNELS], epoch_seq[MODEL_CHANNELS];
};

struct many_member {
    bool asked, refused;
    uint32_t low, high; /* the next arrival is one of these */
    bool either;        /* namely one of the two */
    bool again;         /* or the newest of when it came, which may have been held back */
    uint64_t known;     /* up to this number continuity was proven, or its end told */
    bool told;          /* of a gap before the beginning: */
    uint32_t missed;    /* so many, or MODEL_NONE */
    bool down;
};

struct many {
    unsigned client;
    const struct tl_channel_rule *rules;
    struct many_terms terms; /* with the newest id: how it would come back */
    struct many_terms came;  /* how it came */
    struct many_member members[MODEL_CHANNELS];
    bool started, told_down;
    uint64_t seq; /* of the last id */
    struct many_moment before;
    struct {
        uint64_t end; /* of the stream */
        struct many_moment then;
    } taken[32]; /* until it begins */
    unsigned taken_n;
};

/* Somebody comes, by the dice: anew, or as one who went. */
void many_come(struct many *m, unsigned client, const struct tl_channel_rule *rules);
/* Its request; returns the length. */
size_t many_print(const struct many *m, char *out, size_t out_n);
/* It went: somebody may come back as it would. */
void many_go(const struct many *m);
void many_forget(void);

/* The gateway has the whole request; the kernel took bytes of the answer, up to that one. */
void many_asked(struct many *m);
void many_taken(struct many *m, uint64_t end);

/* What the stream says; `end`: of these bytes. */
void many_starts(struct many *m, struct tl_bytes id, uint64_t end);
void many_message(struct many *m, struct tl_bytes id, struct tl_bytes event, uint32_t message);
/* missed: MODEL_NONE is unknown. */
void many_gap(struct many *m, struct tl_bytes id, uint32_t missed, const char *text);
/* Returns whether all of its channels were refused. */
bool many_broker(struct many *m, struct tl_bytes id, const char *text);

/* Was any channel told to be down, and not to be up? */
bool many_is_down(const struct many *m);
/* May it have been cut off, by the rule of a channel that it was too slow for? */
bool many_is_behind(const struct many *m);
/* Everything has come to rest, and if `paced` what rules held back: does it have all there is? */
void many_check_complete(const struct many *m, bool paced);

#endif
