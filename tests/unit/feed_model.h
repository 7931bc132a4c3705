/*
 * A log with a naive twin that keeps every entry for ever and applies the limits one entry at a
 * time; a reader as a worker has it, told as the hub tells it; and decoders that share nothing with
 * what they judge. For the tests of feed/log and feed/view.
 */
#ifndef TL_TESTS_FEED_MODEL_H
#define TL_TESTS_FEED_MODEL_H

#include "base/alloc.h"
#include "feed/log.h"
#include "feed/view.h"
#include "proto/sse.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define POOL_BYTES (512 << 10)
#define NAMES_N    5u

struct model_entry {
    struct tl_bytes payload; /* in a pool */
    struct tl_bytes name;
    bool control, binary, framed_name;
    bool sse_shows; /* control: the lane has its bytes */
    uint8_t tells;
    uint64_t epoch, sse_epoch;    /* sse_epoch: in the id that the lane shows */
    uint64_t time_ms, msg;        /* msg: messages before it */
    uint64_t ws_bytes, sse_bytes; /* encoded */
};

struct model {
    struct tl_log log;
    struct tl_log_limits limits;
    struct model_entry *entries; /* all there ever were; the index is the idx */
    uint64_t n, cap, msgs, tail;
    uint64_t now_ms, rng, epochs;
};

static uint8_t text_pool[POOL_BYTES], binary_pool[POOL_BYTES];

static inline uint64_t model_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline uint64_t model_below(struct model *m, uint64_t n)
{
    return model_random(&m->rng) % n;
}

/* Text: ASCII with LFs and a few CRs. Binary: nothing but continuation bytes, never valid. */
static inline void model_fill_pools(void)
{
    uint64_t rng = 1;
    for (size_t i = 0; i < POOL_BYTES; i++) {
        uint64_t r = model_random(&rng);
        uint8_t c = (uint8_t)(' ' + r % 95);
        text_pool[i] = r >> 32 & 63 ? c : '\n';
        if ((r >> 40 & 1023) == 0)
            text_pool[i] = '\r';
        binary_pool[i] = (uint8_t)(0x80 | (r >> 8 & 0x3F));
    }
}

static inline struct tl_bytes model_name(uint64_t i)
{
    static const char *const names[NAMES_N] = {"", "tram_7", "a;b%c", "\xff\xfe", "base64"};
    return tl_bytes_str(names[i % NAMES_N]);
}

static inline size_t model_control_text(uint64_t idx, char out[64])
{
    return (size_t)snprintf(out, 64, "event: gap\ndata: %llu\n\n", (unsigned long long)idx);
}

static inline void model_init(struct model *m, uint64_t seed, bool name_line,
                              struct tl_log_limits limits)
{
    if (text_pool[0] == 0)
        model_fill_pools();
    *m = (struct model){.rng = seed, .limits = limits, .now_ms = 1000, .epochs = 1};
    tl_log_init(&m->log, &m->limits, 1, name_line);
}

static inline void model_deinit(struct model *m)
{
    tl_log_deinit(&m->log);
    free(m->entries);
}

/* --- encoded sizes, from the formats' definitions --- */

static inline uint64_t model_ws_bytes(const struct model_entry *e)
{
    uint64_t n = e->payload.n + (e->framed_name ? tl_sse_name_encode(e->name, NULL) + 1 : 0);
    return n + (n < 126 ? 2 : n < 65536 ? 4 : 10);
}

static inline uint64_t model_sse_bytes(const struct model_entry *e, uint64_t idx)
{
    char token[64];
    int n = snprintf(token, sizeof(token), "%016llx-%llu", (unsigned long long)e->sse_epoch,
                     (unsigned long long)idx + 1);
    struct tl_sse_event event = {.id = tl_bytes(token, (size_t)n),
                                 .event = e->name,
                                 .payload = e->payload,
                                 .payload_is_text = !e->binary};
    return tl_sse_event_size(&event);
}

/* --- the same step on the log and on the twin --- */

static inline struct model_entry *model_push(struct model *m)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->entries = realloc(m->entries, m->cap * sizeof(*m->entries));
        assert_non_null(m->entries);
    }
    struct model_entry *e = &m->entries[m->n++];
    *e = (struct model_entry){
        .epoch = m->log.epoch, .sse_epoch = m->log.epoch, .time_ms = m->now_ms, .msg = m->msgs};
    return e;
}

static inline int model_append(struct model *m, size_t n, bool binary, struct tl_bytes name)
{
    const uint8_t *pool = binary ? binary_pool : text_pool;
    assert_true(n < POOL_BYTES);
    struct tl_bytes payload = tl_bytes(pool + m->n * 7919 % (POOL_BYTES - n), n);
    struct tl_message message = {.payload = payload, .name = name};
    int r = tl_log_append(&m->log, &message, m->now_ms);
    if (r < 0)
        return r;
    struct model_entry *e = model_push(m);
    e->payload = payload;
    e->name = name;
    e->framed_name = m->log.name_line && name.n > 0;
    e->binary = binary && n > 0;
    e->ws_bytes = model_ws_bytes(e);
    e->sse_bytes = model_sse_bytes(e, m->n - 1);
    m->msgs++;
    return 0;
}

static inline int model_append_control(struct model *m, uint8_t tells)
{
    char text[64];
    size_t n = model_control_text(m->n, text);
    struct tl_control control = {.sse_event = tl_bytes(text, n), .tells = tells};
    int r = tl_log_append_control(&m->log, &control, m->now_ms);
    if (r < 0)
        return r;
    struct model_entry *e = model_push(m);
    e->control = true;
    e->tells = tells;
    e->sse_shows = m->log.lanes[TL_LANE_SSE];
    e->sse_bytes = e->sse_shows ? n : 0;
    return 0;
}

static inline void model_new_epoch(struct model *m)
{
    tl_log_new_epoch(&m->log, ++m->epochs);
}

static inline int model_open_sse(struct model *m)
{
    bool was_on = m->log.lanes[TL_LANE_SSE];
    int r = tl_log_lane_open(&m->log, TL_LANE_SSE);
    if (r < 0 || was_on)
        return r;
    for (uint64_t i = m->tail; i < m->n; i++) {
        struct model_entry *e = &m->entries[i];
        e->sse_epoch = i >= m->log.epoch_idx ? m->log.epoch : 0;
        e->sse_shows = false;
        e->sse_bytes = e->control ? 0 : model_sse_bytes(e, i);
    }
    return 0;
}

static inline uint64_t model_entry_bytes(const struct model *m, uint64_t i)
{
    return m->entries[i].ws_bytes + (m->log.lanes[TL_LANE_SSE] ? m->entries[i].sse_bytes : 0);
}

static inline uint64_t model_bytes(const struct model *m)
{
    uint64_t bytes = 0;
    for (uint64_t i = m->tail; i < m->n; i++)
        bytes += model_entry_bytes(m, i);
    return bytes;
}

/* Messages among the entries [from, to), counted one by one. */
static inline uint64_t model_messages(const struct model *m, uint64_t from, uint64_t to)
{
    uint64_t msgs = 0;
    assert_true(from <= to && to <= m->n);
    for (uint64_t i = from; i < to; i++)
        msgs += !m->entries[i].control;
    return msgs;
}

static inline void model_check(const struct model *m)
{
    assert_int_equal(m->log.head.idx, m->n);
    assert_int_equal(m->log.head.msg, m->msgs);
    assert_int_equal(m->log.tail.idx, m->tail);
    assert_int_equal(m->log.tail.msg, m->tail < m->n ? m->entries[m->tail].msg : m->msgs);
    assert_int_equal(m->log.bytes, model_bytes(m));
}

/* The bytes of the lane that has most of them: each is limited for itself, events aside. */
static inline uint64_t model_largest_lane(const struct model *m)
{
    uint64_t ws = 0, sse = 0;
    for (uint64_t i = m->tail; i < m->n; i++) {
        if (m->entries[i].control)
            continue;
        ws += m->entries[i].ws_bytes;
        sse += m->log.lanes[TL_LANE_SSE] ? m->entries[i].sse_bytes : 0;
    }
    return ws > sse ? ws : sse;
}

/* The newest message, or the newest entry where there is none, or only far back: it stays. */
static inline uint64_t model_last(const struct model *m)
{
    for (uint64_t i = m->n; i > m->tail && m->n - i <= TL_LOG_EVENTS_MAX; i--)
        if (!m->entries[i - 1].control)
            return i - 1;
    return m->n - (m->n > m->tail);
}

static inline void model_evict(struct model *m)
{
    uint64_t from = m->tail, msgs = model_messages(m, m->tail, m->n);
    for (uint64_t last = model_last(m);
         m->tail < last &&
         (msgs > m->limits.msgs_max || m->n - m->tail - msgs > TL_LOG_EVENTS_MAX ||
          m->now_ms - m->entries[m->tail].time_ms > m->limits.age_max_ms ||
          model_largest_lane(m) > m->limits.bytes_max);
         m->tail++)
        msgs -= !m->entries[m->tail].control;
    assert_int_equal(tl_log_evict(&m->log, m->now_ms), model_messages(m, from, m->tail));
}

static inline void model_evict_half(struct model *m)
{
    uint64_t from = m->tail;
    uint64_t last = model_last(m);
    m->tail += (m->n - m->tail) / 2;
    m->tail = m->tail < last ? m->tail : last;
    assert_int_equal(tl_log_evict_half(&m->log), model_messages(m, from, m->tail));
}

/* --- decoding --- */

/* One unmasked frame at the start of the bytes (RFC 6455 5.2), in its shortest form. Returns its
 * size. */
static inline size_t model_read_frame(struct tl_bytes bytes, bool *ret_binary,
                                      struct tl_bytes *ret_payload)
{
    assert_true(bytes.n >= 2);
    assert_true(bytes.p[0] == 0x81 || bytes.p[0] == 0x82);
    *ret_binary = bytes.p[0] == 0x82;
    size_t extra = bytes.p[1] == 127 ? 8 : bytes.p[1] == 126 ? 2 : 0;
    uint64_t n = extra ? 0 : bytes.p[1];
    assert_true(n < 126 && bytes.n >= 2 + extra);
    for (size_t i = 0; i < extra; i++)
        n = n << 8 | bytes.p[2 + i];
    assert_true(extra == 0 || n >= (extra == 2 ? 126 : 65536));
    assert_true(bytes.n - 2 - extra >= n);
    *ret_payload = tl_bytes(bytes.p + 2 + extra, n);
    return 2 + extra + n;
}

static inline void model_assert_bytes(struct tl_bytes got, struct tl_bytes want)
{
    assert_int_equal(got.n, want.n);
    assert_true(tl_bytes_eq(got, want));
}

static inline size_t model_check_ws(const struct model_entry *e, struct tl_bytes bytes)
{
    bool binary;
    struct tl_bytes payload;
    size_t n = model_read_frame(bytes, &binary, &payload);
    assert_int_equal(binary, e->binary);
    if (e->framed_name) {
        const uint8_t *line_end = memchr(payload.p, '\n', payload.n);
        assert_non_null(line_end);
        uint8_t name[255];
        size_t line_n = (size_t)(line_end - payload.p), name_n = 0;
        assert_true(tl_sse_name_decode(tl_bytes(payload.p, line_n), name, &name_n));
        model_assert_bytes(tl_bytes(name, name_n), e->name);
        payload = tl_bytes_skip(payload, line_n + 1);
    }
    model_assert_bytes(payload, e->payload);
    return n;
}

/* What an SSE client is to see next: the entries [at, end). */
struct model_sse {
    const struct model *m;
    uint64_t at, end;
};

static inline bool model_shows(const struct model_entry *e, enum tl_lane_kind lane)
{
    return !e->control || (lane == TL_LANE_SSE && e->sse_shows);
}

static inline void model_check_event(const struct tl_sse_received *ev, void *arg)
{
    struct model_sse *sse = arg;
    char text[64];
    while (sse->at < sse->end && !model_shows(&sse->m->entries[sse->at], TL_LANE_SSE))
        sse->at++;
    assert_true(sse->at < sse->end);
    uint64_t idx = sse->at++;
    const struct model_entry *e = &sse->m->entries[idx];
    if (e->control) {
        int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)idx);
        model_assert_bytes(ev->event, TL_LIT("gap"));
        model_assert_bytes(ev->data, tl_bytes(text, (size_t)n));
        return;
    }
    int n = snprintf(text, sizeof(text), "%016llx-%llu", (unsigned long long)e->sse_epoch,
                     (unsigned long long)idx + 1);
    model_assert_bytes(ev->id, tl_bytes(text, (size_t)n));
    struct tl_buf name = {0}, payload = {0};
    assert_int_equal(tl_sse_decode(ev, &name, &payload), 0);
    model_assert_bytes(tl_buf_bytes(&name), e->name);
    model_assert_bytes(tl_buf_bytes(&payload), e->payload);
    tl_buf_deinit(&name);
    tl_buf_deinit(&payload);
}

/* The range's bytes are exactly the entries [from, range->to.idx) of the lane. */
static inline void model_check_range(const struct model *m, enum tl_lane_kind lane, uint64_t from,
                                     const struct tl_range *range)
{
    struct model_sse sse = {.m = m, .at = from, .end = range->to.idx};
    struct tl_sse_parser parser;
    tl_sse_parser_init(&parser, SIZE_MAX, model_check_event, &sse);
    for (unsigned i = 0; i < range->slices_n; i++) {
        struct tl_bytes rest = range->slices[i];
        assert_true(rest.n > 0);
        if (lane == TL_LANE_SSE)
            assert_int_equal(tl_sse_parse(&parser, rest), TL_PARSE_MORE);
        while (lane == TL_LANE_WS && rest.n > 0) {
            while (sse.at < sse.end && m->entries[sse.at].control)
                sse.at++;
            assert_true(sse.at < sse.end);
            rest = tl_bytes_skip(rest, model_check_ws(&m->entries[sse.at++], rest));
        }
    }
    while (sse.at < sse.end && !model_shows(&m->entries[sse.at], lane))
        sse.at++;
    assert_int_equal(sse.at, sse.end);
    assert_int_equal(parser.line.n + parser.data.n, 0); /* ends at a border */
    tl_sse_parser_deinit(&parser);
}

/* --- a reader, told as the hub tells a worker --- */

struct reader {
    enum tl_lane_kind lane;
    struct tl_view view;
    struct tl_segment *told;
};

#define UPDATE_SEGS_MAX 4096

/* The update with its references; segs has room for UPDATE_SEGS_MAX. */
static inline struct tl_view_update reader_update(struct reader *r, const struct tl_log *log,
                                                  struct tl_segment **segs)
{
    const struct tl_lane *lane = log->lanes[r->lane];
    assert(lane);
    const struct tl_chain *chain = &lane->chain;
    uint32_t n = 0;
    while (n < chain->n && tl_chain_at(chain, chain->n - 1 - n) != r->told)
        n++;
    assert_true(n <= UPDATE_SEGS_MAX);
    for (uint32_t i = 0; i < n; i++)
        segs[i] = tl_segment_ref(tl_chain_at(chain, chain->n - n + i));
    r->told = tl_chain_last(chain);
    return (struct tl_view_update){
        .segs = segs,
        .segs_n = n,
        .head = tl_log_head(log, r->lane),
        .tail = tl_log_tail(log, r->lane),
        .epoch = log->epoch,
        .epoch_idx = log->epoch_idx,
        .events = log->lanes[r->lane]->events,
    };
}

static inline int reader_tell(struct reader *r, const struct tl_log *log)
{
    struct tl_segment *segs[UPDATE_SEGS_MAX];
    struct tl_view_update update = reader_update(r, log, segs);
    return tl_view_apply(&r->view, &update);
}

#endif
