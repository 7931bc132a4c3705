#include "model.h"

#include "gateway/hub_state.h"

#include <stdio.h>
#include <stdlib.h>

#define SIZE_MOST 80000

struct message {
    uint32_t size;
    unsigned channel;
    uint32_t at[2]; /* in the plain channel and in the pattern channel; MODEL_NONE: not there */
    bool published; /* Redis or the memory broker has it */
    bool answered_yes, answered_no;
};

struct arrival {
    uint32_t message;
    uint64_t epoch, idx;
};

struct channel {
    struct arrival *arrivals;
    uint32_t n, cap;
    bool subscribed; /* upstream, as asked for */
    bool confirmed;
    bool broken; /* continuity, since the last arrival */
    bool arriving;
    uint64_t old_epochs[64];
    unsigned old_epochs_n;
    uint64_t log_epochs[64]; /* with and without messages, the oldest first */
    unsigned log_epochs_n;
};

static struct message *messages;
static uint32_t messages_n, messages_cap;
static struct channel channels[MODEL_CHANNELS];
static unsigned gateway;
static const struct tl_hub *hub;
static uint8_t bytes[SIZE_MOST];

void model_start(void)
{
    messages_n = 0;
    gateway = 0;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        channels[i].n = 0;
}

void model_new_gateway(void)
{
    gateway++;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        struct channel *ch = &channels[i];
        *ch = (struct channel){.arrivals = ch->arrivals, .cap = ch->cap};
    }
    for (uint32_t i = 0; i < messages_n; i++)
        messages[i].at[0] = messages[i].at[1] = MODEL_NONE;
}

void model_end(void)
{
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        free(channels[i].arrivals);
    memset(channels, 0, sizeof channels);
    free(messages);
    messages = NULL;
    messages_n = messages_cap = 0;
}

void model_look_at(const struct tl_hub *new_hub)
{
    hub = new_hub;
}

struct tl_bytes model_name(unsigned channel)
{
    static const char *const names[MODEL_CHANNELS] = {"c0", "c1", "c2", "c3", "all"};
    return tl_bytes_str(names[channel]);
}

unsigned model_channel(struct tl_bytes name)
{
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        if (tl_bytes_eq(model_name(i), name))
            return i;
    sim_fail("a channel that nobody asked for");
}

/* --- messages --- */

static uint32_t draw_size(void)
{
    uint32_t kind = sim_below(1000);
    if (kind < 700)
        return sim_between(8, 40);
    if (kind < 930)
        return sim_between(100, 400); /* both lengths of a frame's header */
    if (kind < 996)
        return sim_between(1000, 5000);
    return sim_between(60000, SIZE_MOST - 1);
}

uint32_t model_new_message(unsigned channel)
{
    if (messages_n == messages_cap) {
        messages_cap = messages_cap * 2 + 256;
        messages = realloc(messages, messages_cap * sizeof *messages);
        if (!messages)
            abort();
    }
    messages[messages_n] =
        (struct message){.size = draw_size(), .channel = channel, .at = {MODEL_NONE, MODEL_NONE}};
    return messages_n++;
}

unsigned model_message_channel(uint32_t message)
{
    return messages[message].channel;
}

/* Text, some of it of several lines, some with a CR, and some that is no UTF-8. */
struct tl_bytes model_payload(uint32_t message)
{
    uint32_t n = messages[message].size;
    int head_n = snprintf((char *)bytes, sizeof bytes, "m%u.", message);
    for (uint32_t i = (uint32_t)head_n; i < n; i++)
        bytes[i] = (uint8_t)('a' + (message + i) % 26);
    if (n <= (uint32_t)head_n + 2)
        return tl_bytes(bytes, n < (uint32_t)head_n ? (uint32_t)head_n : n);
    if (message % 7 == 3)
        bytes[n - 2] = '\n';
    if (message % 13 == 5)
        bytes[n - 1] = '\r';
    if (message % 11 == 7)
        bytes[n - 1] = 0xff;
    return tl_bytes(bytes, n);
}

uint32_t model_message_of(struct tl_bytes payload)
{
    uint32_t message = 0, i = 1;
    if (payload.n < 3 || payload.p[0] != 'm')
        sim_fail("R2: a payload that nobody published");
    for (; i < payload.n && payload.p[i] >= '0' && payload.p[i] <= '9'; i++)
        message = message * 10 + (uint32_t)(payload.p[i] - '0');
    if (message >= messages_n || !tl_bytes_eq(payload, model_payload(message)))
        sim_fail("R2: message %u is not as it was published (%zu bytes)", message, payload.n);
    return message;
}

uint32_t model_place_of(uint32_t message, unsigned channel)
{
    bool is_of_it = channel == MODEL_PATTERN || messages[message].channel == channel;
    return is_of_it ? messages[message].at[channel == MODEL_PATTERN] : MODEL_NONE;
}

void model_was_published(uint32_t message)
{
    if (messages[message].published)
        sim_fail("R12: message %u is published twice", message);
    messages[message].published = true;
}

void model_was_answered(uint32_t message, bool published, bool maybe)
{
    messages[message].answered_yes = published;
    messages[message].answered_no = !published && !maybe;
}

void model_check_published(void)
{
    for (uint32_t i = 0; i < messages_n; i++) {
        const struct message *m = &messages[i];
        if (m->answered_yes && !m->published)
            sim_fail("R12: message %u was answered as published, and was not", i);
        if (m->answered_no && m->published)
            sim_fail("R12: message %u was answered as not published, and was", i);
    }
}

/* --- channels --- */

static const struct tl_log *log_of(unsigned channel)
{
    struct tl_map_node *node = hub ? tl_map_find(&hub->channels, model_name(channel)) : NULL;
    return node ? &TL_CONTAINER(node, struct tl_channel, node)->log : NULL;
}

/* Called before anything that may change it, so that none is left out. */
static void note_epoch(unsigned channel)
{
    struct channel *ch = &channels[channel];
    const struct tl_log *log = log_of(channel);
    unsigned n = ch->log_epochs_n;
    if (log && n < sizeof ch->log_epochs / sizeof *ch->log_epochs &&
        (n == 0 || ch->log_epochs[n - 1] != log->epoch))
        ch->log_epochs[ch->log_epochs_n++] = log->epoch;
}

/* Its number among those of the log; how many there are, if it is none. */
static unsigned age_of(unsigned channel, uint64_t epoch)
{
    const struct channel *ch = &channels[channel];
    unsigned i = 0;
    while (i < ch->log_epochs_n && ch->log_epochs[i] != epoch)
        i++;
    return i;
}

void model_subscribe(unsigned channel)
{
    struct channel *ch = &channels[channel];
    sim_trace("hub: subscribes %s", model_name(channel).p);
    note_epoch(channel);
    if (ch->subscribed)
        sim_fail("R7: %s is subscribed upstream already", model_name(channel).p);
    ch->subscribed = true;
}

void model_unsubscribe(unsigned channel)
{
    struct channel *ch = &channels[channel];
    sim_trace("hub: unsubscribes %s", model_name(channel).p);
    note_epoch(channel);
    if (!ch->subscribed && channel == MODEL_PATTERN)
        sim_fail("R9: %s is unsubscribed twice", model_name(channel).p);
    ch->subscribed = ch->confirmed = false;
    ch->broken = true;
}

void model_confirmed(unsigned channel)
{
    note_epoch(channel);
    /* Of a SUBSCRIBE that was followed by an UNSUBSCRIBE there is nothing left to confirm. */
    channels[channel].confirmed = channels[channel].subscribed;
}

void model_link(bool up)
{
    sim_trace("hub: the link is %s", up ? "up" : "down");
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        note_epoch(i);
    for (unsigned i = 0; i < MODEL_CHANNELS && !up; i++) {
        channels[i].subscribed = channels[i].confirmed = false;
        channels[i].broken = true;
    }
}

void model_arrives(unsigned channel, uint32_t message)
{
    struct channel *ch = &channels[channel];
    if (channel != MODEL_PATTERN && messages[message].channel != channel)
        sim_fail("message %u arrived on another channel", message);
    if (messages[message].at[channel == MODEL_PATTERN] != MODEL_NONE)
        sim_fail("message %u arrived twice", message);
    if (ch->n == ch->cap) {
        ch->cap = ch->cap * 2 + 256;
        ch->arrivals = realloc(ch->arrivals, ch->cap * sizeof *ch->arrivals);
        if (!ch->arrivals)
            abort();
    }
    messages[message].at[channel == MODEL_PATTERN] = ch->n;
    ch->arrivals[ch->n++] = (struct arrival){.message = message};
    ch->arriving = true;
}

/* R17: the epoch is another one if and only if something came in between. */
static void check_epoch(struct channel *ch, unsigned channel, uint64_t epoch, uint64_t idx)
{
    if (ch->n < 2)
        return;
    const struct arrival *before = &ch->arrivals[ch->n - 2];
    if (epoch == before->epoch) {
        if (ch->broken)
            sim_fail("R17: %s has its old epoch, although it was not watched throughout",
                     model_name(channel).p);
        if (idx <= before->idx)
            sim_fail("R16: positions of %s go back", model_name(channel).p);
        return;
    }
    if (!ch->broken)
        sim_fail("R17: %s has a new epoch for no reason", model_name(channel).p);
    for (unsigned i = 0; i < ch->old_epochs_n; i++)
        if (ch->old_epochs[i] == epoch)
            sim_fail("R17: an epoch of %s came back", model_name(channel).p);
    if (ch->old_epochs_n < sizeof ch->old_epochs / sizeof *ch->old_epochs)
        ch->old_epochs[ch->old_epochs_n++] = before->epoch;
}

void model_arrived(unsigned channel, bool kept, uint64_t epoch, uint64_t idx)
{
    struct channel *ch = &channels[channel];
    struct arrival *arrival = &ch->arrivals[ch->n - 1];
    ch->arriving = false;
    sim_trace("hub: message %u of %s is %s as #%u", arrival->message, model_name(channel).p,
              kept ? "kept" : "passed over", ch->n - 1);
    if (!kept) {
        if (ch->confirmed)
            sim_fail("R8: message %u of %s was not kept", arrival->message, model_name(channel).p);
        messages[arrival->message].at[channel == MODEL_PATTERN] = MODEL_NONE;
        ch->n--;
        return;
    }
    arrival->epoch = epoch;
    arrival->idx = idx;
    check_epoch(ch, channel, epoch, idx);
    ch->broken = false;
}

uint32_t model_arrivals(unsigned channel)
{
    return channels[channel].n;
}

const struct tl_log *model_log(unsigned channel)
{
    return log_of(channel);
}

unsigned model_gateway(void)
{
    return gateway;
}

uint32_t model_tail(unsigned channel)
{
    const struct channel *ch = &channels[channel];
    const struct tl_log *log = log_of(channel);
    uint32_t kept = log ? (uint32_t)(log->head.msg - log->tail.msg) : 0;
    /* The one that is arriving may not have been appended yet. */
    return ch->n - kept < ch->n || !ch->arriving ? ch->n - kept : ch->n - 1;
}

uint32_t model_epoch_start(unsigned channel)
{
    const struct channel *ch = &channels[channel];
    const struct tl_log *log = log_of(channel);
    uint32_t i = ch->n;
    if (i > 0 && ch->arriving)
        i--;
    while (log && i > 0 && ch->arrivals[i - 1].epoch == log->epoch)
        i--;
    return i;
}

uint32_t model_countable(unsigned channel, const struct place *place)
{
    const struct channel *ch = &channels[channel];
    uint32_t n = 0;
    while (place->gateway == gateway && n < place->next && n < place->idx &&
           ch->arrivals[place->next - 1 - n].epoch == place->epoch &&
           ch->arrivals[place->next - 1 - n].idx == place->idx - n)
        n++;
    return n;
}

/* --- subscriptions --- */

static const char *who(const struct oracle *o)
{
    static char text[64];
    snprintf(text, sizeof text, "client %u (%s of %s)", o->client,
             o->lane == TL_LANE_SSE ? "SSE" : "WebSocket", model_name(o->channel).p);
    return text;
}

static bool may_skip(const struct oracle *o)
{
    return o->rule->overflow == TL_OVERFLOW_LATEST;
}

/* Looks into the worker. NULL: there is none. */
static const struct tl_view *view_of(const struct oracle *o)
{
    uint8_t key[16] = {(uint8_t)o->lane};
    struct tl_bytes name = model_name(o->channel);
    memcpy(key + 1, name.p, name.n);
    if (!hub)
        return NULL;
    struct tl_map_node *node =
        tl_map_find(&hub->workers[o->worker]->views, tl_bytes(key, name.n + 1));
    return node ? &TL_CONTAINER(node, struct tl_channel_view, node)->view : NULL;
}

struct moment oracle_now(const struct oracle *o)
{
    const struct tl_log *log = log_of(o->channel);
    const struct tl_view *view = view_of(o);
    uint32_t tail = model_tail(o->channel), start = model_epoch_start(o->channel);
    note_epoch(o->channel);
    return (struct moment){
        .arrivals = model_arrivals(o->channel),
        .floor = tail > start ? tail : start,
        .epoch = log ? log->epoch : 0,
        .view_epoch = view ? view->epoch : 0,
        .joining = view && view->epoch == 0,
    };
}

void oracle_asked(struct oracle *o)
{
    o->asked = true;
    o->before = oracle_now(o);
}

static void place_at(struct oracle *o, uint32_t next)
{
    o->placed = true;
    o->next = next;
}

/* Was its position of the epoch that the worker knew when it was acknowledged? A WebSocket is not
 * told which that was: one from that when it asked to that when its answer was taken. */
static bool was_of_now(const struct oracle *o)
{
    unsigned ch = o->channel, age = age_of(ch, o->since.epoch), from = 0;
    if (o->since.gateway != gateway || age == channels[ch].log_epochs_n)
        return false;
    if (!o->before.joining)
        from = age_of(ch, o->before.view_epoch != 0 ? o->before.view_epoch : o->before.epoch);
    return age >= from && age <= age_of(ch, o->then.view_epoch);
}

/* The three outcomes of R16. */
static void check_resumed(struct oracle *o, uint64_t epoch, uint64_t idx)
{
    bool same = o->since.gateway == gateway && o->since.epoch == epoch;
    if (!o->gap_told) {
        if (o->lane == TL_LANE_SSE && (!same || (o->since.idx != idx && !may_skip(o))))
            sim_fail("R16: %s resumes elsewhere, and is told nothing", who(o));
        o->doomed = o->lane == TL_LANE_WS && !was_of_now(o);
        place_at(o, o->since.next);
    } else if (o->gap_counted) {
        if (!same || o->missed == 0)
            sim_fail("R16: %s is told of a gap of %u where none can be counted", who(o), o->missed);
        place_at(o, o->since.next + o->missed);
        if (o->next > model_tail(o->channel))
            sim_fail("R16: %s is told of a gap up to #%u, but all from #%u on is kept", who(o),
                     o->next, model_tail(o->channel));
    } else if (o->lane == TL_LANE_SSE && same) {
        sim_fail("R17: %s is told that its position is of another time, but it is not", who(o));
    }
}

static uint32_t less(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

/* How many of what was there before it came it may begin with: what it asked for, and where the
 * latest counts the newest, if its position was of another time. */
static uint32_t may_go_back(const struct oracle *o)
{
    if (o->start == START_SINCE)
        return may_skip(o) ? 1 : 0;
    return o->start == START_HISTORY ? o->history : 0;
}

/* The first arrival that it may get next. */
static uint32_t first_next(const struct oracle *o)
{
    if (o->placed)
        return o->next;
    return less(o->before.arrivals, may_go_back(o)) + o->skipped;
}

/* Where the first message may stand of somebody who came without a position (R8, R10). */
static void check_first(const struct oracle *o, uint32_t at)
{
    uint32_t history = o->start == START_HISTORY ? o->history : 0;
    uint32_t low = first_next(o);
    uint32_t high = less(o->then.arrivals, history);
    if (o->start == START_HISTORY && high < o->then.floor)
        high = o->then.floor < o->then.arrivals ? o->then.floor : o->then.arrivals;
    high += o->skipped;
    if (at < low)
        sim_fail("R10: %s begins with #%u, but asked for what comes from #%u on", who(o), at, low);
    if (at > high && !may_skip(o))
        sim_fail("R8: %s begins with #%u, but was acknowledged for what comes from #%u on", who(o),
                 at, high);
}

/* The first arrival behind a position of an epoch that has some; or MODEL_NONE. */
static uint32_t behind(unsigned channel, uint64_t epoch, uint64_t idx)
{
    const struct channel *ch = &channels[channel];
    uint32_t found = MODEL_NONE;
    for (uint32_t i = 0; i < ch->n; i++) {
        if (ch->arrivals[i].epoch != epoch)
            continue;
        if (ch->arrivals[i].idx > idx)
            return i;
        found = i + 1;
    }
    return found;
}

/* Its position says where it begins. */
static void place_newcomer(struct oracle *o, uint64_t epoch, uint64_t idx)
{
    uint32_t next = behind(o->channel, epoch, idx);
    if (next == MODEL_NONE && epoch == oracle_now(o).epoch)
        next = model_arrivals(o->channel);
    if (next == MODEL_NONE)
        return; /* nothing ever came in that epoch */
    check_first(o, next);
    place_at(o, next);
}

void oracle_acked(struct oracle *o, const struct moment *then, uint64_t epoch, uint64_t idx)
{
    if (o->acked)
        sim_fail("%s is acknowledged twice", who(o));
    if (!o->asked)
        sim_fail("%s is acknowledged before it asked", who(o));
    o->acked = true;
    o->then = *then;
    o->epoch = epoch;
    sim_trace("client %u: acknowledged, asked at #%u, answered at #%u", o->client,
              o->before.arrivals, o->then.arrivals);
    if (o->start == START_SINCE)
        check_resumed(o, epoch, idx);
    if (!o->placed && o->lane == TL_LANE_SSE)
        place_newcomer(o, epoch, idx);
    if (o->placed && !o->doomed)
        oracle_moved(o, o->lane == TL_LANE_SSE ? epoch : o->since.epoch,
                     o->lane == TL_LANE_SSE ? idx : o->since.idx);
    o->gap_told = o->gap_counted = false;
}

static void check_place(const struct oracle *o, uint32_t at)
{
    if (!o->placed) {
        check_first(o, at);
        return;
    }
    if (at < o->next)
        sim_fail("R1: %s gets #%u again, or late: #%u is next", who(o), at, o->next);
    if (at > o->next && !may_skip(o))
        sim_fail("R1: %s gets #%u, but #%u is next and no gap was told", who(o), at, o->next);
}

void oracle_message(struct oracle *o, uint32_t message, uint64_t epoch, uint64_t idx)
{
    uint32_t at = messages[message].at[o->channel == MODEL_PATTERN];
    sim_trace("client %u: message %u, #%u", o->client, message, at);
    if (!o->acked)
        sim_fail("R8: %s gets a message before it is acknowledged", who(o));
    if (o->doomed)
        sim_fail("R16: %s goes on from a position of another time", who(o));
    if (at == MODEL_NONE ||
        (o->channel != MODEL_PATTERN && messages[message].channel != o->channel))
        sim_fail("%s gets message %u, which is none of its channel", who(o), message);
    check_place(o, at);
    const struct arrival *arrival = &channels[o->channel].arrivals[at];
    if (o->lane == TL_LANE_SSE && (epoch != arrival->epoch || idx != arrival->idx))
        sim_fail("R16: %s gets #%u with a position that is not its own", who(o), at);
    bool renewed = o->epoch != 0 && o->epoch != arrival->epoch;
    if (renewed && !o->gap_told && (o->lane == TL_LANE_SSE || o->strict))
        sim_fail("R16: %s passes into another epoch at #%u without a word", who(o), at);
    o->epoch = arrival->epoch;
    o->gap_told = o->gap_counted = false;
    place_at(o, at + 1);
    oracle_moved(o, arrival->epoch, arrival->idx);
}

void oracle_gap(struct oracle *o, uint32_t missed, bool overflow, uint64_t epoch)
{
    sim_trace("client %u: a gap of %d", o->client, (int)missed);
    if (epoch != 0 && epoch == o->epoch)
        sim_fail("R10: %s is told of a gap that was before it came", who(o));
    o->gap_told = true;
    o->gap_counted = missed != MODEL_NONE;
    o->missed = missed;
    if (!overflow)
        return;
    if (missed == MODEL_NONE || missed == 0)
        sim_fail("R5: %s fell off the log, and is not told by how much", who(o));
    if (!o->placed) {
        o->skipped += missed;
        return;
    }
    o->next += missed;
    if (o->next > model_tail(o->channel))
        sim_fail("R5: %s is told to have missed all before #%u, but #%u is kept", who(o), o->next,
                 model_tail(o->channel));
}

void oracle_slow(struct oracle *o, uint32_t missed)
{
    sim_trace("client %u: slow, missed %u", o->client, missed);
    if (o->rule->overflow != TL_OVERFLOW_DISCONNECT || missed == 0)
        sim_fail("R5: %s is closed as slow, missed %u", who(o), missed);
    uint32_t next = first_next(o);
    if (next + missed > model_tail(o->channel))
        sim_fail("R5: %s is told to have missed %u, but has all before #%u, and #%u is kept",
                 who(o), missed, next, model_tail(o->channel));
}

void oracle_gap_close(struct oracle *o, uint32_t missed, uint64_t epoch, uint64_t idx)
{
    sim_trace("client %u: closed for a gap of %d", o->client, (int)missed);
    if (!o->strict && o->rule->overflow != TL_OVERFLOW_GAP)
        sim_fail("%s is closed for a gap, which it did not ask for", who(o));
    uint32_t end = behind(o->channel, epoch, idx);
    if (missed == MODEL_NONE || !o->placed || end == MODEL_NONE)
        return;
    if (o->doomed || o->next + missed != end)
        sim_fail("R5: %s has all before #%u and is told to have missed %u before #%u", who(o),
                 o->next, missed, end);
}

bool oracle_is_behind(const struct oracle *o)
{
    if (o->epoch != oracle_now(o).epoch)
        return true; /* of the events that told of another epoch, if of nothing else */
    return first_next(o) < model_tail(o->channel);
}

void oracle_check_complete(const struct oracle *o)
{
    uint32_t n = model_arrivals(o->channel);
    if (!o->acked)
        return;
    if (o->doomed)
        sim_fail("R16: %s is left alone with a position of another time", who(o));
    if (o->placed && o->next != n)
        sim_fail("R1: %s rests at #%u, and there are %u", who(o), o->next, n);
    if (!o->placed && n > o->then.arrivals + o->skipped)
        sim_fail("R8: %s was acknowledged at #%u, has nothing, and there are %u", who(o),
                 o->then.arrivals, n);
    if (o->down)
        sim_fail("R13: %s was told that the broker is down, and not that it is up", who(o));
}

void oracle_moved(struct oracle *o, uint64_t epoch, uint64_t idx)
{
    o->place = (struct place){o->placed ? gateway : 0, epoch, idx, o->next};
}
