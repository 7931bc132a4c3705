#include "many.h"

#include "client.h"

#include "feed/position.h"

#include <stdio.h>
#include <stdlib.h>

#define PLACES_MAX 16

/* --- the sequence --- */

struct numbers {
    uint64_t *seqs, *epoch_seqs; /* of each arrival, and from where it was proven */
    uint32_t n, cap;
    uint64_t proven; /* since the last confirmation */
};

static struct numbers numbers[MODEL_CHANNELS];
static uint64_t last_seq, sequence_epoch;

void many_new_gateway(void)
{
    last_seq = sequence_epoch = 0;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        numbers[i].n = 0;
        numbers[i].proven = 0;
    }
}

void many_end(void)
{
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        free(numbers[i].seqs);
        free(numbers[i].epoch_seqs);
    }
    memset(numbers, 0, sizeof numbers);
}

static uint64_t *grow(uint64_t *p, uint32_t n)
{
    p = realloc(p, n * sizeof *p);
    if (!p)
        abort();
    return p;
}

void many_arrived(unsigned channel, uint64_t seq, uint64_t epoch_seq)
{
    struct numbers *of = &numbers[channel];
    const char *name = (const char *)model_name(channel).p;
    if (seq <= last_seq)
        sim_fail("R22: #%u of %s gets number %llu, and there was %llu", of->n, name,
                 (unsigned long long)seq, (unsigned long long)last_seq);
    bool is_new = of->n == 0 || epoch_seq != of->epoch_seqs[of->n - 1];
    if (epoch_seq >= seq || (of->n > 0 && is_new && epoch_seq <= of->seqs[of->n - 1]))
        sim_fail("R17: %s is said to be whole from behind %llu on at #%u", name,
                 (unsigned long long)epoch_seq, of->n);
    if (of->n == of->cap) {
        of->cap = of->cap * 2 + 256;
        of->seqs = grow(of->seqs, of->cap);
        of->epoch_seqs = grow(of->epoch_seqs, of->cap);
    }
    last_seq = of->seqs[of->n] = seq;
    of->epoch_seqs[of->n++] = epoch_seq;
}

void many_confirmed(unsigned channel, uint64_t before, uint64_t epoch_seq)
{
    if (epoch_seq < before)
        sim_fail("R17: %s is said to be whole from behind %llu on, but was confirmed behind %llu",
                 model_name(channel).p, (unsigned long long)epoch_seq, (unsigned long long)before);
    numbers[channel].proven = epoch_seq;
}

/* The first arrival with a greater number. */
static uint32_t behind(unsigned channel, uint64_t seq)
{
    const struct numbers *of = &numbers[channel];
    uint32_t low = 0, high = of->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (of->seqs[mid] <= seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct many_moment moment_now(void)
{
    struct many_moment now;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        const struct tl_log *log = model_log(i);
        now.arrivals[i] = model_arrivals(i);
        now.tail[i] = model_tail(i);
        now.start[i] = model_epoch_start(i);
        now.epoch[i] = log ? log->epoch : 0;
        now.epoch_seq[i] = log ? log->seqs.epoch : 0;
    }
    return now;
}

/* --- coming and going --- */

static struct many_terms places[PLACES_MAX];
static unsigned places_n;

void many_forget(void)
{
    places_n = 0;
}

void many_go(const struct many *m)
{
    places[places_n++ % PLACES_MAX] = m->terms;
}

static uint32_t draw_channels(void)
{
    uint32_t channels = 0;
    for (uint32_t n = sim_between(2, MODEL_CHANNELS); n > 0; n--)
        channels |= 1u << sim_below(MODEL_CHANNELS);
    return channels;
}

static void draw_newcomer(struct many_terms *terms)
{
    *terms = (struct many_terms){.channels = draw_channels()};
    if (sim_chance(20))
        terms->history = sim_between(1, 12);
    if (!sim_chance(30))
        return;
    for (int tries = 0; tries < 4; tries++) {
        unsigned channel;
        struct place place;
        if (!client_place(&channel, &place))
            return;
        terms->channels |= 1u << channel;
        terms->has_place[channel] = true;
        terms->places[channel] = place;
        if (sim_chance(10)) { /* of nowhere */
            terms->places[channel].gateway = 0;
            terms->places[channel].epoch ^= 1;
        }
    }
}

/* It comes back with other channels, or with an earlier id, or with one that nobody gave. */
static void draw_change(struct many_terms *terms)
{
    uint32_t channel = sim_below(MODEL_CHANNELS);
    switch (sim_below(8)) {
    case 0:
    case 1:
    case 2:
        terms->channels ^= 1u << channel;
        break;
    case 3:
        terms->channels = draw_channels();
        break;
    case 4:
    case 5:
        terms->seq -= sim_below(terms->seq < 30 ? (uint32_t)terms->seq + 1 : 30);
        break;
    case 6:
        terms->epoch ^= terms->gateway != 0; /* not back again */
        terms->gateway = 0;
        break;
    default:
        terms->gateway = 0;
        terms->seq += 1u << 30;
        break;
    }
    if (terms->channels == 0)
        terms->channels = 1u << channel;
}

void many_come(struct many *m, unsigned client, const struct tl_channel_rule *rules)
{
    *m = (struct many){.client = client, .rules = rules};
    if (places_n > 0 && sim_chance(60)) {
        m->terms = places[sim_below(places_n < PLACES_MAX ? places_n : PLACES_MAX)];
        if (m->terms.by_number && sim_chance(40))
            draw_change(&m->terms);
    } else {
        draw_newcomer(&m->terms);
    }
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        m->members[i].asked = m->terms.channels & 1u << i;
    m->came = m->terms;
}

static unsigned first_channel(uint32_t channels)
{
    unsigned i = 0;
    while (!(channels & 1u << i))
        i++;
    return i;
}

static int print_query(const struct many_terms *terms, char *out, size_t out_n)
{
    unsigned from = sim_below(MODEL_CHANNELS);
    int n = 0;
    for (unsigned k = 0; k < MODEL_CHANNELS; k++) {
        unsigned i = (from + k) % MODEL_CHANNELS;
        if (!(terms->channels & 1u << i))
            continue;
        n += snprintf(out + n, out_n - (size_t)n, "%cch=%s", n > 0 ? '&' : '?', model_name(i).p);
        if (terms->has_place[i])
            n += snprintf(out + n, out_n - (size_t)n, "&since=%016llx-%llu",
                          (unsigned long long)terms->places[i].epoch,
                          (unsigned long long)terms->places[i].idx);
    }
    if (terms->history > 0)
        n += snprintf(out + n, out_n - (size_t)n, "&history=%u", terms->history);
    return n;
}

size_t many_print(const struct many *m, char *out, size_t out_n)
{
    const struct many_terms *terms = &m->came;
    char query[400], id[80] = "", header[120] = "";
    int n = print_query(terms, query, sizeof query);
    if (terms->by_number)
        snprintf(id, sizeof id, "%016llx-%llu@%s", (unsigned long long)terms->epoch,
                 (unsigned long long)terms->seq, model_name(first_channel(terms->channels)).p);
    if (terms->by_number && sim_chance(50))
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
    else if (terms->by_number)
        snprintf(query + n, sizeof query - (size_t)n, "&since=%s", id);
    sim_trace("client %u: asks for /sse%s %s", m->client, query, id);
    n = snprintf(out, out_n, "GET /sse%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", query, header);
    return (size_t)n;
}

void many_asked(struct many *m)
{
    m->before = moment_now();
}

/* The last moment stands for all that there is no room for. */
void many_taken(struct many *m, uint64_t end)
{
    unsigned most = sizeof m->taken / sizeof *m->taken;
    if (m->started)
        return;
    m->taken_n += m->taken_n < most;
    m->taken[m->taken_n - 1].end = end;
    m->taken[m->taken_n - 1].then = moment_now();
}

/* --- the beginning --- */

static bool may_skip(const struct many *m, unsigned channel)
{
    return m->rules[channel].overflow == TL_OVERFLOW_LATEST;
}

static bool is_paced(const struct many *m, unsigned channel)
{
    return m->rules[channel].interval_ms > 0;
}

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint32_t less(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

static void place_at(struct many_member *member, uint32_t low, uint32_t high)
{
    member->low = low;
    member->high = high > low ? high : low;
}

static const char *who(const struct many *m, unsigned channel)
{
    static char text[64];
    snprintf(text, sizeof text, "client %u of several channels (%s)", m->client,
             (const char *)model_name(channel).p);
    return text;
}

/* A gap by number, which nobody can count: something behind the number was dropped, or the
 * channel was not watched throughout. */
static void place_behind_gap(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    uint32_t low = behind(i, m->came.seq);
    bool dropped = low < then->tail[i] && !may_skip(m, i);
    if (member->missed != MODEL_NONE)
        sim_fail("R16: %s is told a gap of %u by number", who(m, i), member->missed);
    /* Of a channel that is gone meanwhile nobody knows it any more. */
    uint64_t proven = then->epoch_seq[i] ? then->epoch_seq[i] : numbers[i].proven;
    if (!dropped && then->epoch_seq[i] && proven <= m->came.seq)
        sim_fail("R17: %s is told of a gap behind %llu, but nothing is missing", who(m, i),
                 (unsigned long long)m->came.seq);
    place_at(member, low, then->tail[i] > then->start[i] ? then->tail[i] : then->start[i]);
    member->known = greater(m->came.seq, proven);
}

/* The newest of a channel with a rate may have been held back, so it comes again. */
static void place_again(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    uint32_t n = m->before.arrivals[i];
    member->again = true;
    if (m->before.epoch[i] == then->epoch[i] && n > m->before.start[i] && n > m->before.tail[i] &&
        n == then->arrivals[i] && then->tail[i] < n)
        place_at(member, n - 1, n - 1);
}

/* Behind the number with which it came: R16 has three outcomes. */
static void place_by_number(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    const struct place *place = &m->came.places[i];
    uint32_t low = behind(i, m->came.seq);
    if (member->told) {
        place_behind_gap(m, i, then);
    } else {
        place_at(member, low, low);
        member->known = m->came.seq;
        /* Or behind its own position, where that is later. */
        if (m->came.has_place[i] && place->gateway == model_gateway() && place->next >= low) {
            place_at(member, low, place->next);
            member->either = true;
            if (place->epoch == then->epoch[i])
                member->known = greater(member->known, then->epoch_seq[i]);
            else if (place->epoch == m->before.epoch[i])
                member->known = greater(member->known, m->before.epoch_seq[i]);
        }
    }
    if (is_paced(m, i))
        place_again(m, i, then);
}

/* With an id of no known time: a gap of each channel, and from now on. */
static void place_anew(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    if (!member->told || member->missed != MODEL_NONE)
        sim_fail("R16: %s came with an id of another time, and is told of no gap", who(m, i));
    /* Where the latest counts, the newest that its worker knows of, and then what comes behind. */
    place_at(member, may_skip(m, i) ? 0 : m->before.arrivals[i], then->arrivals[i]);
    member->known = greater(m->seq, then->epoch_seq[i]);
}

/* With the channel's own position. */
static void place_by_position(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    const struct place *place = &m->came.places[i];
    bool is_same = place->gateway == model_gateway() && place->epoch == then->epoch[i];
    if (is_same || member->told)
        member->known = greater(m->seq, then->epoch_seq[i]);
    else if (place->epoch == m->before.epoch[i]) /* until it was all there, the channel was lost */
        member->known = m->before.epoch_seq[i];
    if (!member->told) {
        if (place->gateway != model_gateway())
            sim_fail("R16: %s came with a position of another time, and is told of no gap",
                     who(m, i));
        place_at(member, place->next, place->next);
    } else if (member->missed == MODEL_NONE) {
        if (is_same && place->epoch == m->before.epoch[i])
            sim_fail("R17: %s is told that its position is of another time, but it is not",
                     who(m, i));
        place_at(member, less(m->before.arrivals[i], may_skip(m, i)), then->arrivals[i]);
    } else {
        uint32_t next = place->next + member->missed;
        if (place->gateway != model_gateway() || member->missed == 0 || next > then->tail[i])
            sim_fail("R16: %s has all before #%u and is told of a gap of %u, but all from #%u on "
                     "is kept",
                     who(m, i), place->next, member->missed, then->tail[i]);
        place_at(member, next, next);
    }
}

static void place_in_history(struct many *m, unsigned i, const struct many_moment *then)
{
    uint32_t floor = then->tail[i] > then->start[i] ? then->tail[i] : then->start[i];
    uint32_t high = less(then->arrivals[i], m->came.history);
    if (high < floor)
        high = floor < then->arrivals[i] ? floor : then->arrivals[i];
    place_at(&m->members[i], less(m->before.arrivals[i], m->came.history), high);
    m->members[i].known = greater(m->seq, then->epoch_seq[i]);
}

/* From now on, which is where the sequence stood then: unless others begin earlier. */
static void place_now(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    uint32_t next = behind(i, m->seq);
    bool is_exact = m->came.history == 0;
    for (unsigned k = 0; k < MODEL_CHANNELS; k++)
        is_exact = is_exact && !(m->members[k].asked && m->came.has_place[k]);
    if (next > then->arrivals[i])
        sim_fail("R8: %s begins behind number %llu, which was not given yet", who(m, i),
                 (unsigned long long)m->seq);
    if (!is_exact) {
        place_at(member, m->before.arrivals[i] > next ? m->before.arrivals[i] : next,
                 then->arrivals[i]);
        member->known = greater(m->seq, then->epoch_seq[i]);
        return;
    }
    if (next < m->before.arrivals[i])
        sim_fail("R10: %s begins with #%u, but asked for what comes from #%u on", who(m, i), next,
                 m->before.arrivals[i]);
    place_at(member, next, next);
    member->known = m->seq;
}

static void place_member(struct many *m, unsigned i, const struct many_moment *then)
{
    struct many_member *member = &m->members[i];
    if (m->came.by_number && m->came.gateway == model_gateway())
        place_by_number(m, i, then);
    else if (m->came.by_number)
        place_anew(m, i, then);
    else if (m->came.has_place[i])
        place_by_position(m, i, then);
    else if (member->told)
        sim_fail("R17: %s is told of a gap, and never was here", who(m, i));
    else if (m->came.history > 0)
        place_in_history(m, i, then);
    else
        place_now(m, i, then);
    sim_trace("client %u: %s from #%u (or up to #%u) on", m->client, model_name(i).p, member->low,
              member->high);
}

/* --- ids --- */

/* Whoever has that id has all up to its number (R16, R22). */
static void check_upto(const struct many *m, uint64_t seq)
{
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        const struct many_member *member = &m->members[i];
        const struct numbers *of = &numbers[i];
        if (!member->asked || member->refused)
            continue;
        /* Something behind it was dropped, so whoever comes back with it is told. */
        if (!may_skip(m, i) && model_tail(i) > behind(i, seq))
            continue;
        if (!may_skip(m, i) && member->high < of->n && of->seqs[member->high] <= seq)
            sim_fail("R16: %s has the id %llu, but neither #%u, which is %llu, nor a word of it",
                     who(m, i), (unsigned long long)seq, member->high,
                     (unsigned long long)of->seqs[member->high]);
        if (member->known < of->proven && of->proven < seq)
            sim_fail("R16: %s has the id %llu, and was told of no gap at %llu", who(m, i),
                     (unsigned long long)seq, (unsigned long long)of->proven);
    }
}

static struct tl_sequence read_id(const struct many *m, struct tl_bytes id)
{
    struct tl_sequence sequence;
    if (!tl_sequence_parse(id, &sequence))
        sim_fail("R16: client %u gets an id that is none: %.*s", m->client, (int)id.n,
                 (const char *)id.p);
    if (m->came.by_number && !m->started && sequence.epoch == m->came.epoch)
        return sequence;
    if (sequence_epoch == 0)
        sequence_epoch = sequence.epoch;
    if (sequence.epoch != sequence_epoch)
        sim_fail("R17: client %u gets an id of another epoch", m->client);
    return sequence;
}

static void move_to(struct many *m, uint64_t seq)
{
    m->seq = m->terms.seq = seq;
    m->terms.epoch = sequence_epoch;
    m->terms.gateway = model_gateway();
    m->terms.by_number = true;
}

/* The channel behind the `@`, which it asked for. */
static unsigned read_channel(const struct many *m, struct tl_bytes id)
{
    const uint8_t *at = id.n > 0 ? memchr(id.p, '@', id.n) : NULL;
    if (!at)
        sim_fail("R22: client %u gets an event without its channel", m->client);
    unsigned channel = model_channel(tl_bytes(at + 1, (size_t)(id.p + id.n - at) - 1));
    if (!m->members[channel].asked || m->members[channel].refused)
        sim_fail("R22: %s gets an event of it, and has it not", who(m, channel));
    return channel;
}

/* An id that is no message's. Before the beginning, it is the one with which it came, or none. */
static unsigned take_id(struct many *m, struct tl_bytes id)
{
    unsigned channel = read_channel(m, id);
    if (tl_sequence_is_tag(id)) {
        if (m->started || m->came.by_number)
            sim_fail("R16: client %u loses its id", m->client);
        return channel;
    }
    struct tl_sequence sequence = read_id(m, id);
    if (!m->started) {
        if (!m->came.by_number || sequence.epoch != m->came.epoch || sequence.at != m->came.seq)
            sim_fail("R16: client %u gets an id before the beginning", m->client);
        return channel;
    }
    if (sequence.at < m->seq)
        sim_fail("R22: client %u gets the id %llu after %llu", m->client,
                 (unsigned long long)sequence.at, (unsigned long long)m->seq);
    move_to(m, sequence.at);
    return channel;
}

void many_starts(struct many *m, struct tl_bytes id, uint64_t end)
{
    unsigned at = 0;
    if (m->started)
        sim_fail("R22: client %u begins twice", m->client);
    if (m->told_down)
        sim_fail("R13: client %u begins with the broker down", m->client);
    struct tl_sequence sequence = read_id(m, id);
    if (sequence.epoch != sequence_epoch && sequence_epoch != 0)
        sim_fail("R17: client %u begins with an id of another epoch", m->client);
    sequence_epoch = sequence.epoch;
    bool is_known = m->came.by_number && m->came.gateway == model_gateway();
    if (is_known && sequence.at != m->came.seq)
        sim_fail("R16: client %u came with %llu and begins with %llu", m->client,
                 (unsigned long long)m->came.seq, (unsigned long long)sequence.at);
    while (at + 1 < m->taken_n && m->taken[at].end < end)
        at++;
    m->started = true;
    move_to(m, sequence.at);
    sim_trace("client %u: begins behind number %llu", m->client, (unsigned long long)m->seq);
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        if (m->members[i].asked && !m->members[i].refused)
            place_member(m, i, &m->taken[at].then);
    check_upto(m, m->seq);
}

/* --- messages --- */

static void check_place(const struct many *m, unsigned i, uint32_t at)
{
    const struct many_member *member = &m->members[i];
    if (member->again && at + 1 >= m->before.arrivals[i])
        return;
    if (at < member->low)
        sim_fail("R1: %s gets #%u again, or late: #%u is next", who(m, i), at, member->low);
    if (may_skip(m, i))
        return;
    if (at > member->high)
        sim_fail("R1: %s gets #%u, but #%u is next and no gap was told", who(m, i), at,
                 member->high);
    if (member->either && at != member->low && at != member->high)
        sim_fail("R16: %s goes on with #%u, and asked for #%u or #%u", who(m, i), at, member->low,
                 member->high);
}

/* What a rate let go late has the last id that went out. */
static void check_number(const struct many *m, unsigned i, uint64_t seq, uint64_t id)
{
    bool is_late = is_paced(m, i) && seq <= m->seq;
    if (!is_late && seq <= m->seq)
        sim_fail("R22: %s gets number %llu after %llu", who(m, i), (unsigned long long)seq,
                 (unsigned long long)m->seq);
    if (id != (is_late ? m->seq : seq))
        sim_fail("R16: %s gets number %llu with the id %llu", who(m, i), (unsigned long long)seq,
                 (unsigned long long)id);
}

void many_message(struct many *m, struct tl_bytes id, struct tl_bytes event, uint32_t message)
{
    unsigned i = read_channel(m, id);
    struct many_member *member = &m->members[i];
    uint32_t at = model_place_of(message, i);
    struct tl_bytes source = model_name(model_message_channel(message));
    sim_trace("client %u: message %u, #%u of %s, id %.*s", m->client, message, at, model_name(i).p,
              (int)id.n, (const char *)id.p);
    if (!m->started)
        sim_fail("R8: %s gets a message before the beginning", who(m, i));
    if (at == MODEL_NONE || at >= numbers[i].n)
        sim_fail("R22: %s gets message %u, which is none of it", who(m, i), message);
    if (i == MODEL_PATTERN && !tl_bytes_starts(event, source))
        sim_fail("R22: %s gets message %u without its channel", who(m, i), message);
    check_place(m, i, at);
    uint64_t seq = numbers[i].seqs[at], epoch_seq = numbers[i].epoch_seqs[at];
    uint64_t id_seq = read_id(m, id).at;
    check_number(m, i, seq, id_seq);
    if (epoch_seq > member->known)
        sim_fail("R16: %s passes into another epoch at #%u without a word", who(m, i), at);
    place_at(member, at + 1, at + 1);
    member->known = greater(member->known, seq);
    member->either = member->again = false;
    move_to(m, id_seq);
    check_upto(m, id_seq);
}

/* --- gaps, and the broker --- */

static void fall(struct many *m, unsigned i, uint32_t missed)
{
    struct many_member *member = &m->members[i];
    if (missed == 0 || missed == MODEL_NONE || m->rules[i].overflow != TL_OVERFLOW_GAP)
        sim_fail("R5: %s is told to have missed %d as it was slow", who(m, i), (int)missed);
    member->low += missed;
    member->high += missed;
    if (member->low > model_tail(i))
        sim_fail("R5: %s is told to have missed all before #%u, but #%u is kept", who(m, i),
                 member->low, model_tail(i));
}

/* Of those that it was too slow for: all before what comes next. */
static void take_earlier_gap(struct many *m, unsigned i)
{
    struct many_member *member = &m->members[i];
    const struct numbers *of = &numbers[i];
    uint32_t at = may_skip(m, i) ? model_tail(i) : member->high; /* where it stands at most */
    member->known = greater(member->known, at < of->n ? of->epoch_seqs[at] : of->proven);
}

void many_gap(struct many *m, struct tl_bytes id, uint32_t missed, const char *text)
{
    unsigned i = take_id(m, id);
    struct many_member *member = &m->members[i];
    sim_trace("client %u: a gap of %d in %s, id %.*s", m->client, (int)missed, model_name(i).p,
              (int)id.n, (const char *)id.p);
    if (!m->started) {
        if (member->told)
            sim_fail("R16: %s is told its gap twice", who(m, i));
        member->told = true;
        member->missed = missed;
        return;
    }
    if (strstr(text, "too slow"))
        fall(m, i, missed);
    else if (strstr(text, "an earlier gap"))
        take_earlier_gap(m, i);
    else
        member->known = greater(member->known, m->seq);
    check_upto(m, m->seq);
}

static bool is_refused(const struct many *m)
{
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        if (m->members[i].asked && !m->members[i].refused)
            return false;
    return true;
}

bool many_broker(struct many *m, struct tl_bytes id, const char *text)
{
    bool down = strstr(text, "\"down\"") != NULL;
    sim_trace("client %u: broker %s, id %.*s", m->client, text, (int)id.n, (const char *)id.p);
    if (id.n == 0) { /* of all channels, while it waits */
        if (m->started || down == m->told_down)
            sim_fail("R13: client %u is told %s, and of no channel", m->client, text);
        m->told_down = down;
        return false;
    }
    struct many_member *member = &m->members[take_id(m, id)];
    if (strstr(text, "refused"))
        member->refused = true;
    else
        member->down = down;
    return is_refused(m);
}

/* --- the ends --- */

bool many_is_down(const struct many *m)
{
    bool down = m->told_down;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++)
        down = down || (m->members[i].down && !m->members[i].refused);
    return down;
}

bool many_is_behind(const struct many *m)
{
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        const struct many_member *member = &m->members[i];
        if (member->asked && !member->refused && m->rules[i].overflow == TL_OVERFLOW_DISCONNECT &&
            (!m->started || member->low < model_tail(i) || member->known < numbers[i].proven))
            return true;
        /* Who began behind a gap began where its worker's view did, which may have had more than
         * the log. */
        if (member->asked && !member->refused && m->rules[i].overflow == TL_OVERFLOW_DISCONNECT &&
            member->told && member->low == model_tail(i))
            return true;
    }
    return false;
}

void many_check_complete(const struct many *m, bool paced)
{
    if (!m->started)
        return;
    for (unsigned i = 0; i < MODEL_CHANNELS; i++) {
        const struct many_member *member = &m->members[i];
        uint32_t n = model_arrivals(i);
        if (!member->asked || member->refused || (!paced && is_paced(m, i)))
            continue;
        if (n > member->high)
            sim_fail("R1: %s rests at #%u, and there are %u", who(m, i), member->low, n);
        if (member->known < numbers[i].proven)
            sim_fail("R16: %s rests, and was told of no gap at %llu", who(m, i),
                     (unsigned long long)numbers[i].proven);
        if (member->down)
            sim_fail("R13: %s was told that the broker is down, and not that it is up", who(m, i));
    }
}
