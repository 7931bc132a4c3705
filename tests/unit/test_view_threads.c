#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/metrics.h"
#include "feed/log.h"
#include "feed/view.h"
#include "loop/mailbox.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

/* cmocka's assertions are for the test's own thread: others note and stop. */
#define MESSAGES  20000u
#define READERS_N 2
#define PINS_N    8u

struct letter {
    struct tl_mail mail;
    struct reader *reader;
    struct tl_view_update update;
    bool last;
    struct tl_segment *segs[];
};

struct pin {
    struct tl_segment *segs[16];
    unsigned segs_n;
    struct tl_range range;
    uint64_t msg;
};

struct reader {
    struct tl_mailbox box;
    enum tl_lane_kind lane;
    struct tl_segment *told; /* the writer's */
    struct tl_view view;
    struct tl_mark at;
    uint64_t seen, missed, bad, rng;
    struct pin pins[PINS_N];
    unsigned pin_i;
    bool done;
};

static struct reader readers[READERS_N];

static uint32_t random_below(uint64_t *rng, uint32_t n)
{
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*rng >> 33) % n;
}

/* Message i: its number in four letters, then a run of one letter that follows from it. */
static size_t make_message(uint64_t i, uint8_t *out)
{
    size_t n = 4 + i * 37 % 900 + (i % 97 == 0 ? 70000 : 0);
    for (int k = 0; k < 4; k++)
        out[k] = (uint8_t)('a' + (i >> (4 * k) & 15));
    memset(out + 4, 'A' + (int)(i % 26), n - 4);
    return n;
}

static bool is_message(uint64_t i, struct tl_bytes bytes)
{
    size_t n = 4 + i * 37 % 900 + (i % 97 == 0 ? 70000 : 0);
    if (bytes.n < n || bytes.p[n - 1] != (n > 4 ? 'A' + (int)(i % 26) : bytes.p[n - 1]))
        return false;
    for (size_t k = 4; k < n; k++)
        if (bytes.p[k] != 'A' + (int)(i % 26))
            return false;
    for (int k = 0; k < 4; k++)
        if (bytes.p[k] != 'a' + (i >> (4 * k) & 15))
            return false;
    return true;
}

static size_t message_bytes(uint64_t i)
{
    return 4 + i * 37 % 900 + (i % 97 == 0 ? 70000 : 0);
}

/* Read [msg, to) out of the range; false at the first byte that is not as written. */
static bool check_range(enum tl_lane_kind lane, uint64_t msg, const struct tl_range *range)
{
    for (unsigned s = 0; s < range->slices_n; s++) {
        struct tl_bytes rest = range->slices[s];
        while (rest.n > 0) {
            size_t n = message_bytes(msg), head = n < 126 ? 2 : n < 65536 ? 4 : 10, tail = 0;
            if (lane == TL_LANE_SSE) {
                const uint8_t *line = memmem(rest.p, rest.n, "\ndata: ", 7);
                if (!line)
                    return false;
                head = (size_t)(line - rest.p) + 7;
                tail = 2;
            }
            if (rest.n < head + n + tail || !is_message(msg++, tl_bytes_skip(rest, head)))
                return false;
            rest = tl_bytes_skip(rest, head + n + tail);
        }
    }
    return msg == range->to.msg;
}

static void end_pin(struct reader *r, struct pin *pin)
{
    if (pin->segs_n == 0)
        return;
    r->bad += !check_range(r->lane, pin->msg, &pin->range);
    for (unsigned i = 0; i < pin->segs_n; i++)
        tl_segment_unref(pin->segs[i]);
    pin->segs_n = 0;
}

static void read_some(struct reader *r)
{
    if (r->at.off < r->view.tail.off) {
        r->missed += r->view.tail.msg - r->at.msg;
        r->at = r->view.tail;
    }
    for (uint32_t n = random_below(&r->rng, 12); n > 0 && r->at.off < r->view.head.off; n--) {
        struct tl_range range;
        tl_view_range(&r->view, r->at.off, 1 + random_below(&r->rng, 65536), &range);
        r->bad += !check_range(r->lane, r->at.msg, &range);
        if (random_below(&r->rng, 4) == 0) { /* a slow send */
            struct pin *pin = &r->pins[r->pin_i++ % PINS_N];
            end_pin(r, pin);
            pin->range = range;
            pin->msg = r->at.msg;
            pin->segs_n = tl_view_pin(&r->view, r->at.off, range.to.off, pin->segs);
        }
        r->seen += range.to.msg - r->at.msg;
        r->at = range.to;
    }
}

static void on_letter(struct tl_mail *mail)
{
    struct letter *letter = TL_CONTAINER(mail, struct letter, mail);
    struct reader *r = letter->reader;
    r->bad += tl_view_apply(&r->view, &letter->update) < 0;
    r->done = letter->last;
    tl_free(letter);
    read_some(r);
}

static void *read_all(void *arg)
{
    struct reader *r = arg;
    while (!r->done) {
        struct pollfd p = {.fd = r->box.wake_fd, .events = POLLIN};
        if (poll(&p, 1, 30000) != 1) {
            r->bad++;
            break;
        }
        tl_mailbox_run(&r->box);
    }
    while (r->at.off < r->view.head.off)
        read_some(r);
    for (unsigned i = 0; i < PINS_N; i++)
        end_pin(r, &r->pins[i]);
    tl_view_deinit(&r->view);
    return NULL;
}

/* As the hub does. */
static void tell(struct reader *r, const struct tl_log *log, bool last)
{
    const struct tl_chain *chain = &log->lanes[r->lane]->chain;
    uint32_t n = 0;
    while (n < chain->n && tl_chain_at(chain, chain->n - 1 - n) != r->told)
        n++;
    struct letter *letter = tl_alloc(sizeof(*letter) + n * sizeof(letter->segs[0]));
    assert_non_null(letter);
    *letter = (struct letter){.mail.deliver = on_letter, .reader = r, .last = last};
    for (uint32_t i = 0; i < n; i++)
        letter->segs[i] = tl_segment_ref(tl_chain_at(chain, chain->n - n + i));
    r->told = tl_chain_last(chain);
    letter->update = (struct tl_view_update){
        .segs = letter->segs,
        .segs_n = n,
        .head = tl_log_head(log, r->lane),
        .tail = tl_log_tail(log, r->lane),
        .epoch = log->epoch,
        .epoch_idx = log->epoch_idx,
    };
    tl_mailbox_post(&r->box, &letter->mail);
}

static void write_all(struct tl_log *log)
{
    static uint8_t payload[80000];
    uint64_t rng = 7;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        struct tl_message message = {.payload = {payload, make_message(i, payload)}};
        assert_int_equal(tl_log_append(log, &message, i), 0);
        tl_log_evict(log, i);
        if (random_below(&rng, 500) == 0)
            tl_log_evict_half(log);
        for (int k = 0; k < READERS_N; k++)
            if (random_below(&rng, 6) == 0)
                tell(&readers[k], log, false);
    }
    for (int k = 0; k < READERS_N; k++)
        tell(&readers[k], log, true);
}

static void readers_on_threads_of_their_own_see_only_whole_true_bytes(void **state)
{
    (void)state;
    static const struct tl_log_limits limits = {400, 300000, 1u << 30};
    struct tl_log log;
    pthread_t threads[READERS_N];
    tl_log_init(&log, &limits, 1, false);
    assert_int_equal(tl_log_lane_open(&log, TL_LANE_SSE), 0);
    for (int i = 0; i < READERS_N; i++) {
        readers[i] = (struct reader){.lane = i % 2 ? TL_LANE_SSE : TL_LANE_WS, .rng = (uint64_t)i};
        assert_int_equal(tl_mailbox_init(&readers[i].box), 0);
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    write_all(&log);
    tl_log_deinit(&log); /* while they still read */
    for (int i = 0; i < READERS_N; i++) {
        pthread_join(threads[i], NULL);
        tl_mailbox_deinit(&readers[i].box);
        assert_int_equal(readers[i].bad, 0);
        assert_int_equal(readers[i].seen + readers[i].missed, MESSAGES);
        assert_true(readers[i].seen > 0);
    }
    assert_int_equal(tl_metric_get(TL_M_RETIRED_BYTES), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_on_threads_of_their_own_see_only_whole_true_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
