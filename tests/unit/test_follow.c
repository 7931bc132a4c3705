#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "feed/follow.h"
#include "feed/view.h"

#include <errno.h>
#include <stdio.h>

#define EPOCH   UINT64_C(0xabc)
#define ENTRIES 3000

/* A stream with entry i at (1000 + i / 3)-(i % 3 + 1), of which the log has a part. */
struct stream {
    struct tl_log_limits limits;
    struct tl_log log;
    struct tl_follow follow;
    struct tl_view view[TL_LANE_N];
    struct tl_stream_marks marks[TL_LANE_N]; /* of the views */
    struct tl_stream_entry entries[ENTRIES];
    char texts[ENTRIES][40];
    uint64_t n; /* added so far */
    uint64_t now_ms;
};

static struct stream st;

static struct tl_entry_id id_of(uint64_t i)
{
    return (struct tl_entry_id){1000 + i / 3, i % 3 + 1};
}

/* Where somebody stands who has the first n entries. */
static struct tl_position position_of(uint64_t n)
{
    return (struct tl_position){EPOCH, n, true, n > 0 ? id_of(n - 1) : (struct tl_entry_id){0}, n};
}

static void start(uint64_t msgs_max, uint64_t added)
{
    memset(&st, 0, sizeof st);
    st.limits = (struct tl_log_limits){msgs_max, 1 << 20, 1000};
    st.now_ms = 1;
    st.n = added;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        int n = snprintf(st.texts[i], sizeof st.texts[i], "%0*d", (int)(i % 7) + 1, (int)i);
        st.entries[i] = (struct tl_stream_entry){id_of(i), tl_bytes(st.texts[i], (size_t)n)};
    }
    tl_log_init(&st.log, &st.limits, 77, false);
    tl_log_follow(&st.log, &st.follow);
    for (int kind = 0; kind < TL_LANE_N; kind++)
        st.view[kind].stream = &st.marks[kind];
    tl_log_follow_at(&st.log, &(struct tl_stream_place){EPOCH, position_of(added).id, added}, false,
                     false);
}

static void end(void)
{
    for (int kind = 0; kind < TL_LANE_N; kind++)
        tl_view_deinit(&st.view[kind]);
    tl_log_deinit(&st.log);
}

static void add(uint64_t n)
{
    for (; n > 0; n--, st.n++) {
        struct tl_message message = {.payload = st.entries[st.n].payload, .id = id_of(st.n)};
        assert_int_equal(tl_log_append(&st.log, &message, st.now_ms), 0);
        tl_log_evict(&st.log, st.now_ms);
    }
}

static void control(void)
{
    struct tl_control up = {.sse_event = TL_LIT("event: broker\ndata: 1\n\n"),
                            .tells = TL_ENTRY_UP};
    assert_int_equal(tl_log_append_control(&st.log, &up, st.now_ms), 0);
}

/* The view is given everything anew. */
static struct tl_view *look(enum tl_lane_kind kind)
{
    const struct tl_chain *chain = &st.log.lanes[kind]->chain;
    struct tl_segment *segs[256];
    assert_true(chain->n <= 256);
    for (uint32_t i = 0; i < chain->n; i++)
        segs[i] = tl_segment_ref(tl_chain_at(chain, i));
    struct tl_view_update update = {
        .segs = segs,
        .segs_n = chain->n,
        .anew = true,
        .head = tl_log_head(&st.log, kind),
        .tail = tl_log_tail(&st.log, kind),
        .epoch = st.log.epoch,
        .epoch_idx = st.log.epoch_idx,
        .stream = st.follow.marks,
    };
    assert_int_equal(tl_view_apply(&st.view[kind], &update), 0);
    return &st.view[kind];
}

/* What a client is sent from there on. */
static struct tl_buf sent_from(const struct tl_view *view, uint64_t off)
{
    struct tl_buf out = {0};
    while (off < view->head.off) {
        struct tl_range range;
        tl_view_range(view, off, 100, &range);
        for (unsigned i = 0; i < range.slices_n; i++)
            tl_buf_append(&out, range.slices[i]);
        off = range.to.off;
    }
    assert_false(out.failed);
    return out;
}

static struct tl_buf sent_whole(enum tl_lane_kind kind)
{
    const struct tl_view *view = look(kind);
    return sent_from(view, view->tail.off);
}

/* WebSocket frames of entries first..st.n-1 and nothing else. */
static void expect_frames(struct tl_mark from, uint64_t first)
{
    struct tl_buf got = sent_from(&st.view[TL_LANE_WS], from.off);
    struct tl_buf want = {0};
    for (uint64_t i = first; i < st.n; i++) {
        tl_buf_byte(&want, 0x81);
        tl_buf_byte(&want, (uint8_t)st.entries[i].payload.n);
        tl_buf_append(&want, st.entries[i].payload);
    }
    assert_int_equal(got.n, want.n);
    assert_true(tl_bytes_eq(tl_buf_bytes(&got), tl_buf_bytes(&want)));
    tl_buf_deinit(&got);
    tl_buf_deinit(&want);
}

static void expect_resume(struct tl_position position, uint64_t first)
{
    struct tl_mark from;
    uint64_t missed;
    const struct tl_view *view = look(TL_LANE_WS);
    assert_false(tl_view_must_ask(view, &position));
    assert_int_equal(tl_view_resume(view, position, &from, &missed), TL_RESUME_FROM);
    expect_frames(from, first);
}

static enum tl_resume resume(struct tl_position position, uint64_t *ret_missed)
{
    struct tl_mark from;
    const struct tl_view *view = look(TL_LANE_WS);
    assert_true(tl_view_must_ask(view, &position));
    return tl_view_resume(view, position, &from, ret_missed);
}

static struct tl_position counting(uint64_t n, uint64_t received)
{
    struct tl_position position = position_of(n);
    position.idx += received;
    return position;
}

static void a_client_is_found_by_the_entry_that_it_has(void **state)
{
    (void)state;
    uint64_t missed;
    start(100, 50);
    look(TL_LANE_WS);
    expect_resume(position_of(50), 50);
    add(20);
    control(); /* takes a place in the log, and none in the stream */
    add(200);
    assert_int_equal(st.log.head.msg - st.log.tail.msg, 100);
    for (uint64_t n = 170; n <= 270; n++) {
        expect_resume(position_of(n), n);
        /* Of another server process: the entry is proof, whatever the count. */
        struct tl_position old = position_of(n);
        old.epoch = 1;
        old.idx = old.id_idx = 5;
        expect_resume(old, n);
    }
    assert_int_equal(resume(position_of(169), &missed), TL_RESUME_GAP);
    assert_int_equal(missed, 1);
    assert_int_equal(resume(position_of(20), &missed), TL_RESUME_GAP);
    assert_int_equal(missed, 150);
    assert_int_equal(resume(position_of(271), &missed), TL_RESUME_VOID);
    struct tl_position between = position_of(200);
    between.id.seq = 77;
    assert_int_equal(resume(between, &missed), TL_RESUME_VOID);
    struct tl_position ahead =
        position_of(201); /* (1067, 0) is no entry, but (1067, 1) is the next */
    ahead.id = (struct tl_entry_id){1067, 0};
    ahead.epoch = 1;
    expect_resume(ahead, 201);
    struct tl_position other = position_of(20);
    other.epoch = 1;
    assert_int_equal(resume(other, &missed), TL_RESUME_VOID);
    end();
}

static void a_client_that_counts_is_found_by_its_count(void **state)
{
    (void)state;
    uint64_t missed;
    start(100, 50);
    add(300);
    expect_resume(counting(260, 40), 300);
    expect_resume(counting(50, 250), 300);
    expect_resume(counting(50, 300), 350);
    expect_resume(counting(50, 200), 250);
    assert_int_equal(resume(counting(50, 199), &missed), TL_RESUME_GAP);
    assert_int_equal(missed, 1);
    assert_int_equal(resume(counting(50, 301), &missed), TL_RESUME_VOID);
    assert_int_equal(resume(counting(260, 91), &missed), TL_RESUME_VOID);
    assert_int_equal(resume(counting(260, UINT64_MAX - 260), &missed), TL_RESUME_VOID);
    /* From before this log knew the stream, or of another server, the count proves nothing. */
    assert_int_equal(resume(counting(49, 251), &missed), TL_RESUME_VOID);
    struct tl_position other = counting(60, 240);
    other.epoch = 1;
    assert_int_equal(resume(other, &missed), TL_RESUME_VOID);
    end();
}

/* What the stream has between `first` and the log's tail. */
static int prepend(uint64_t first, uint64_t known)
{
    uint64_t oldest = tl_log_oldest(&st.log).idx;
    return tl_log_prepend(&st.log, st.entries + first, (size_t)(oldest - first),
                          position_of(first).id, position_of(known).id, st.now_ms, st.now_ms + 100);
}

static void older_entries_go_before_the_tail_and_cursors_stay(void **state)
{
    (void)state;
    for (uint64_t kept = 0; kept < 100; kept += 7) {
        start(400, 1000);
        look(TL_LANE_WS);
        add(kept);
        assert_int_equal(tl_log_lane_open(&st.log, TL_LANE_SSE), 0);
        add(kept / 2);
        struct tl_mark before[TL_LANE_N];
        struct tl_buf sse = sent_whole(TL_LANE_SSE);
        before[TL_LANE_WS] = look(TL_LANE_WS)->tail;
        before[TL_LANE_SSE] = st.view[TL_LANE_SSE].tail;
        assert_int_equal(prepend(700, 0), 0);
        expect_resume(position_of(700), 700);
        expect_frames(before[TL_LANE_WS], 1000);
        expect_resume(counting(702, 5), 707);
        struct tl_buf after = sent_from(look(TL_LANE_SSE), before[TL_LANE_SSE].off);
        assert_true(tl_bytes_eq(tl_buf_bytes(&sse), tl_buf_bytes(&after)));
        tl_buf_deinit(&sse);
        tl_buf_deinit(&after);
        add(30);
        expect_resume(position_of(701), 701);
        /* And again, before those. */
        assert_int_equal(prepend(600, 0), 0);
        expect_resume(position_of(600), 600);
        expect_resume(position_of(1000), 1000);
        /* The lane is the same as one that is made of all of it. */
        sse = sent_whole(TL_LANE_SSE);
        tl_log_lane_close(&st.log, TL_LANE_SSE);
        assert_int_equal(tl_log_lane_open(&st.log, TL_LANE_SSE), 0);
        after = sent_whole(TL_LANE_SSE);
        assert_true(tl_bytes_eq(tl_buf_bytes(&sse), tl_buf_bytes(&after)));
        tl_buf_deinit(&sse);
        tl_buf_deinit(&after);
        end();
    }
}

static void who_was_there_before_the_first_entry_has_missed_nothing(void **state)
{
    (void)state;
    uint64_t missed;
    start(100, 50);
    add(5);
    assert_int_equal(resume(position_of(0), &missed), TL_RESUME_GAP);
    assert_int_equal(prepend(0, 0), 0);
    expect_resume(position_of(0), 0);
    expect_resume(counting(0, 20), 20);
    end();
}

static void counts_behind_a_deletion_prove_nothing(void **state)
{
    (void)state;
    uint64_t missed;
    start(100, 1000);
    add(10);
    assert_int_equal(prepend(950, 970), 0);
    expect_resume(counting(970, 5), 975);
    expect_resume(position_of(969), 969); /* the entry itself does */
    assert_int_equal(resume(counting(969, 5), &missed), TL_RESUME_VOID);
    end();
}

static void older_entries_are_held_and_then_given_up(void **state)
{
    (void)state;
    start(100, 1000);
    add(100);
    tl_log_hold(&st.log, st.now_ms, st.now_ms + 100);
    assert_int_equal(prepend(950, 0), 0);
    add(100);
    expect_resume(position_of(950), 950); /* the limits are for what is beside them, twice */
    add(150);
    assert_int_equal(st.log.head.msg - st.log.tail.msg, 250);
    st.now_ms += 101;
    tl_log_evict(&st.log, st.now_ms);
    assert_int_equal(st.log.head.msg - st.log.tail.msg, 100);
    assert_int_equal(tl_log_oldest(&st.log).idx, 1250);
    st.now_ms += 1001; /* held entries are as old as what they stand before */
    tl_log_evict(&st.log, st.now_ms);
    assert_int_equal(st.log.head.msg - st.log.tail.msg, 1);
    end();
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    int r = -ENOMEM;
    start(400, 1000);
    add(50);
    assert_int_equal(tl_log_lane_open(&st.log, TL_LANE_SSE), 0);
    for (int64_t skip = 0; r < 0; skip++) {
        tl_alloc_fail(skip, -1);
        r = prepend(700, 0);
        tl_alloc_fail(0, 0);
        if (r == 0)
            break;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(st.log.tail.msg, TL_FOLLOW_BASE);
        expect_resume(position_of(1000), 1000);
    }
    expect_resume(position_of(700), 700);
    end();
}

static void a_gap_ends_what_can_be_resumed_from(void **state)
{
    (void)state;
    uint64_t missed;
    start(100, 50);
    add(10);
    st.n += 5;
    tl_log_follow_at(&st.log, &(struct tl_stream_place){EPOCH, id_of(st.n - 1), st.n}, false, true);
    tl_log_new_epoch(&st.log, 78);
    control();
    assert_int_equal(tl_log_position(&st.log).idx, 65);
    add(10);
    expect_resume(position_of(65), 65);
    expect_resume(counting(70, 2), 72);
    assert_int_equal(resume(position_of(60), &missed), TL_RESUME_GAP);
    assert_int_equal(missed, 5);
    /* The count goes on across it. */
    expect_resume(counting(55, 15), 70);
    assert_int_equal(tl_log_oldest(&st.log).idx, 65);
    /* Another stream: it does not. */
    tl_log_follow_at(&st.log, &(struct tl_stream_place){EPOCH, id_of(st.n - 1), 3}, false, false);
    tl_log_new_epoch(&st.log, 79);
    assert_int_equal(resume(counting(55, 15), &missed), TL_RESUME_VOID);
    assert_int_equal(tl_log_position(&st.log).idx, 3);
    end();
}

/* Deleted and filled anew, beyond what it had counted: who was there before has missed something
 * that nobody can count. */
static void positions_of_a_stream_that_was_deleted_are_void(void **state)
{
    (void)state;
    uint64_t missed;
    start(100, 50);
    add(6);
    tl_log_follow_at(&st.log, &(struct tl_stream_place){EPOCH, {0, 0}, 0}, false, false);
    tl_log_new_epoch(&st.log, 78);
    for (uint64_t n = 40; n <= 56; n++)
        assert_int_equal(resume(position_of(n), &missed), TL_RESUME_VOID);
    struct tl_position nothing = {EPOCH, 0, true, {0, 0}, 0};
    expect_resume(nothing, 56);
    add(10); /* of which the counts are 46 less */
    nothing.idx = 4;
    expect_resume(nothing, 60);
    add(140);
    for (uint64_t n = 40; n <= 56; n++)
        assert_int_equal(resume(position_of(n), &missed), TL_RESUME_VOID);
    struct tl_position after = {EPOCH, 10, true, id_of(65), 10};
    assert_int_equal(resume(after, &missed), TL_RESUME_GAP);
    assert_int_equal(missed, 40);
    nothing.idx = 60;
    expect_resume(nothing, 116);
    end();
}

/* The same where nobody was there meanwhile: the log begins with the new one. */
static void positions_of_before_the_first_entry_ever_are_void(void **state)
{
    (void)state;
    uint64_t missed;
    for (int reads = 0; reads < 2; reads++) {
        start(100, 0);
        st.n = 60; /* former ones */
        if (reads)
            tl_log_follow_at(&st.log, &(struct tl_stream_place){EPOCH, id_of(79), 20}, false,
                             false);
        st.n += reads ? 20 : 0;
        add(20);
        if (reads) {
            assert_int_equal(tl_log_prepend(&st.log, st.entries + 60, 20, id_of(58),
                                            (struct tl_entry_id){0, 0}, st.now_ms, st.now_ms + 100),
                             0);
            st.now_ms += 101;
        }
        add(120);
        assert_int_equal(resume(position_of(56), &missed), TL_RESUME_VOID);
        assert_int_equal(resume(position_of(58), &missed), TL_RESUME_VOID);
        struct tl_position nothing = {EPOCH, 0, true, {0, 0}, 0};
        assert_int_equal(resume(nothing, &missed), TL_RESUME_GAP);
        assert_int_equal(missed, reads ? 60 : 40);
        end();
    }
}

static void a_lane_opens_behind_control_entries(void **state)
{
    (void)state;
    start(100, 50);
    control();
    add(2);
    control();
    assert_int_equal(tl_log_lane_open(&st.log, TL_LANE_SSE), 0);
    /* Each entry of it has the id behind which it stands, whoever looks for a position. */
    const struct tl_view *view = look(TL_LANE_SSE);
    for (uint64_t i = 0; i < 4; i++) {
        struct tl_entry_id id = tl_follow_id(&view->chain, view->tail.idx + i);
        assert_int_equal(tl_entry_id_cmp(id, id_of(i < 3 ? 49 + i : 51)), 0);
    }
    struct tl_buf out = sent_whole(TL_LANE_SSE);
    assert_non_null(memmem(out.p, out.n, st.texts[50], 2));
    tl_buf_deinit(&out);
    end();
}

static void positions_of_other_logs_are_void_and_not_asked_for(void **state)
{
    (void)state;
    struct tl_mark from;
    uint64_t missed;
    start(100, 50);
    add(10);
    struct tl_position plain = {.epoch = st.log.epoch, .idx = st.log.head.idx};
    assert_false(tl_view_must_ask(look(TL_LANE_WS), &plain));
    assert_int_equal(tl_view_resume(&st.view[TL_LANE_WS], plain, &from, &missed), TL_RESUME_VOID);
    end();
}

static void ids_are_printed_parsed_and_ordered(void **state)
{
    (void)state;
    char text[TL_ENTRY_ID_TEXT_MAX];
    struct tl_entry_id id = {UINT64_MAX, UINT64_MAX};
    assert_int_equal(tl_entry_id_print(id, text), sizeof text - 1);
    struct tl_entry_id back;
    assert_true(tl_entry_id_parse(tl_bytes_str(text), &back));
    assert_int_equal(tl_entry_id_cmp(id, back), 0);
    id = tl_entry_id_before((struct tl_entry_id){5, 0});
    assert_true(id.ms == 4 && id.seq == UINT64_MAX);
    assert_int_equal(tl_entry_id_cmp(id, (struct tl_entry_id){5, 0}), -1);
    id = tl_entry_id_before((struct tl_entry_id){0, 0});
    assert_true(id.ms == 0 && id.seq == 0);
    static const char *const bad[] = {"", "-", "1", "1-", "-1", "1-1-1", "01-1", "1-+1", " 1-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(tl_entry_id_parse(tl_bytes_str(bad[i]), &back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_is_found_by_the_entry_that_it_has),
        cmocka_unit_test(a_client_that_counts_is_found_by_its_count),
        cmocka_unit_test(older_entries_go_before_the_tail_and_cursors_stay),
        cmocka_unit_test(who_was_there_before_the_first_entry_has_missed_nothing),
        cmocka_unit_test(counts_behind_a_deletion_prove_nothing),
        cmocka_unit_test(older_entries_are_held_and_then_given_up),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(a_gap_ends_what_can_be_resumed_from),
        cmocka_unit_test(positions_of_a_stream_that_was_deleted_are_void),
        cmocka_unit_test(positions_of_before_the_first_entry_ever_are_void),
        cmocka_unit_test(a_lane_opens_behind_control_entries),
        cmocka_unit_test(positions_of_other_logs_are_void_and_not_asked_for),
        cmocka_unit_test(ids_are_printed_parsed_and_ordered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
