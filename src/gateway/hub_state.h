/*
 * The inside of the hub, for its own files only: hub.c (life of channels, mail, broker, time),
 * hub_log.c (appending, limits, gaps), hub_stream.c (channels that follow streams), hub_snapshot.c
 * (keys with a channel's last message, and silence) and hub_flush.c (telling the workers).
 */
#ifndef TL_GATEWAY_HUB_STATE_H
#define TL_GATEWAY_HUB_STATE_H

#include "gateway/channel_view.h"
#include "gateway/hub.h"
#include "gateway/worker.h"

struct tl_hub_snapshot;

/* What all channels of one rule have in common, so that each list is in order of time. */
struct tl_hub_rule {
    struct tl_list lingering; /* the oldest first: they all linger equally long */
    struct tl_list ageing;    /* with stale_after: by their newest message, the oldest first */
};

/* What a channel has beside whose rule has stale_after. */
struct tl_hub_age {
    struct tl_list node; /* on its rule's list from when it is live until it is stale */
    struct tl_channel *channel;
    uint64_t fresh_ms;    /* the newest message, or when it became live */
    uint64_t fresh_epoch; /* of the log then */
};

/* What a channel has beside whose source is a stream. */
struct tl_hub_stream {
    const struct tl_stream_rule *rule;
    struct tl_follow follow; /* of its log */
    struct tl_list seekers;  /* views that want older messages, by their seek's node */
    struct tl_list sought;   /* those for which they are read now */
};

struct tl_channel {
    struct tl_map_node node;
    struct tl_list order; /* of all channels */
    struct tl_list dirty;
    struct tl_list evictable; /* on the hub's list while it keeps more than one entry */
    struct tl_list lingering; /* on its rule's list while its life says so */
    const struct tl_channel_rule *rule;
    struct tl_hub_rule *kin;          /* of all channels with that rule */
    struct tl_hub_snapshot *snapshot; /* hub_snapshot.c: what its key held; NULL: never asked */
    struct tl_list attachments;
    const struct tl_pattern *pattern; /* NULL: a plain channel */
    struct tl_hub_stream *stream;     /* NULL: its source is no stream */
    struct tl_hub_age *age;           /* NULL: its rule has no stale_after */
    struct tl_channel_life life;
    struct tl_log log;
    uint64_t unflushed_msgs, unflushed_bytes; /* appended since the workers were told */
    uint64_t kept_bytes;                      /* log.bytes as counted in the totals */
    uint64_t lane_idle_ms[TL_LANE_N];         /* when its last view left */
    uint64_t lingering_until_ms;              /* as it stands on the list */
    uint32_t lane_views[TL_LANE_N];
    bool stale;         /* no message for the rule's stale_after */
    bool unsubscribing; /* as counted */
    bool gap_due;       /* continuity broke: told when it is live again */
    bool gap_untold;    /* SSE clients could not be told for want of memory: before anything else */
    uint8_t name_n;
    uint8_t name[];
};

/* With its name, the heap's and the maps' share, a channel with one subscriber and no history costs
 * no more than 1 KiB. What few channels need stands outside. */
_Static_assert(sizeof(struct tl_channel) + sizeof(struct tl_channel_view) <= 896, "small");

struct tl_hub {
    const struct tl_config *config;
    struct tl_loop *loop;
    struct tl_broker *broker;
    struct tl_worker **workers;
    unsigned workers_n;
    struct tl_map channels; /* by name */
    struct tl_list order;   /* all channels: the sweep walks it */
    struct tl_list dirty;
    struct tl_list evictable; /* who gives way when all logs together are over their cap, in turn */
    struct tl_hub_rule *rules; /* of the config, and the standard one */
    struct tl_list reading;    /* snapshots, the oldest first */
    uint64_t read_said_ms;     /* when a line was written of one that took too long; 0: never */
    size_t unsubscribing_n;    /* channels that are on their way out */
    struct tl_list *sweep_at;  /* the next channel to look at */
    struct tl_mail *local, **local_tail; /* mail of the worker on this very loop */
    struct tl_task local_task, flush_task;
    struct tl_timer sweep_timer, retry_timer;
    uint64_t logs_bytes;
    struct tl_sequence sequence; /* of all appends */
    /* How far it is, written once the views know of what was appended (tl_hub_change()). Release;
     * partner: the acquire load of tl_hub_sequence(). */
    _Atomic uint64_t told_seq;
    _Atomic bool link_up;    /* written here, read by all workers */
    _Atomic bool streams_up; /* the same for streams */
    bool stopped;
    /* Written here, read by all workers; relaxed: it orders nothing. */
    _Atomic bool ready;
};

/* A random one, never 0. */
uint64_t tl_hub_new_epoch(void);

static inline struct tl_channel_view *tl_hub_view_of(struct tl_attachment *attachment)
{
    return TL_CONTAINER(attachment, struct tl_channel_view, attachment);
}

/* Does the view know the log, so that it is to be told of changes? */
static inline bool tl_hub_is_told(const struct tl_attachment *attachment)
{
    return attachment->state == TL_ATTACH_LIVE || attachment->state == TL_ATTACH_LOST;
}

/* Is the link up that the channel's source needs? */
static inline bool tl_hub_link_is_up(const struct tl_hub *hub, const struct tl_channel *channel)
{
    return channel->stream ? hub->streams_up : hub->link_up;
}

/* Are there readers of events that tell of the broker? */
static inline bool tl_hub_has_sse(const struct tl_channel *channel)
{
    return channel->lane_views[TL_LANE_SSE] + channel->lane_views[TL_LANE_SSE_TAGGED] > 0;
}

/* hub.c */

/* The channel of that name, or NULL. */
struct tl_channel *tl_hub_find(const struct tl_hub *hub, struct tl_bytes name);

/* hub_stream.c */

/* Ask the broker for the stream, from what the log has on. As ops->subscribe. */
TL_MUST_USE int tl_hub_follow(struct tl_hub *hub, struct tl_channel *channel);
/* Read what views wait for, if it is time. */
void tl_hub_seek(struct tl_hub *hub, struct tl_channel *channel);
/* The link is down: what was asked is asked again. */
void tl_hub_forget_seek(struct tl_channel *channel);
/* The link is up again: who is told of such things is. */
void tl_hub_tell_up(struct tl_hub *hub, struct tl_channel *channel);
/* Events of the broker. */
void tl_hub_on_place(void *hub, struct tl_bytes name, const struct tl_stream_place *place,
                     enum tl_continuity how, uint64_t missed, const char *reason);
void tl_hub_on_entry(void *hub, struct tl_bytes name, const struct tl_stream_entry *entry);
void tl_hub_on_sought(void *hub, struct tl_bytes name, const struct tl_stream_range *range);

/* hub_snapshot.c */

/* A message was appended: the channel is fresh, and what its key held is of the past. */
void tl_hub_note_message(struct tl_hub *hub, struct tl_channel *channel);
/* And it is to be told: who waits for the key waits no longer. */
void tl_hub_supersede_snapshot(struct tl_hub *hub, struct tl_channel *channel);
/* The channel is live: in a new epoch the silence begins anew. */
void tl_hub_note_live(struct tl_hub *hub, struct tl_channel *channel);
/* The time has come to look who is silent, and which key is not answered. */
void tl_hub_tick_snapshots(struct tl_hub *hub, uint64_t now_ms);
/* Bytes of the value that is kept. */
uint64_t tl_hub_snapshot_bytes(const struct tl_channel *channel);
/* The value is given up, or all of it as the channel ends. */
void tl_hub_drop_snapshot(struct tl_hub *hub, struct tl_channel *channel);
void tl_hub_free_snapshot(struct tl_hub *hub, struct tl_channel *channel);

/* hub_flush.c */

/* All views of the channel are to be told, with the next flush, which is due in this turn. */
void tl_hub_change(struct tl_hub *hub, struct tl_channel *channel);
/* Tell the workers what changed; what finds no memory is tried again in a moment. */
void tl_hub_flush(struct tl_hub *hub);
void tl_hub_flush_init(struct tl_hub *hub);
void tl_hub_flush_stop(struct tl_hub *hub);

/* hub_log.c */

/* Keep the totals true after the channel's log changed. */
void tl_hub_count_bytes(struct tl_hub *hub, struct tl_channel *channel);
/* A message for the log. False without memory for it: nothing has changed. */
TL_MUST_USE bool tl_hub_append(struct tl_hub *hub, struct tl_channel *channel,
                               const struct tl_message *message);
/* The broker's state for the SSE clients of the channel, where there are any. False: no memory. */
bool tl_hub_append_state(struct tl_hub *hub, struct tl_channel *channel, bool is_up);
/* A new epoch, and a gap for all subscribers. msgs: how many are known to be missed, 0: unknown. */
void tl_hub_tell_gap(struct tl_hub *hub, struct tl_channel *channel, uint64_t msgs,
                     const char *reason);
/* Try again to tell SSE clients of a gap, if one is untold. False: still no memory. */
bool tl_hub_retell_gap(struct tl_hub *hub, struct tl_channel *channel);
/* Give up the channel that nobody watches for the longest time. False: there is none but keep. */
bool tl_hub_expire_oldest(struct tl_hub *hub, const struct tl_channel *keep);
/* Apply the limits of one log. */
void tl_hub_evict(struct tl_hub *hub, struct tl_channel *channel);

#endif
