/*
 * The whole gateway and messages that were lost before they reached it: whoever asked to be told is
 * told before anything of behind the gap, exactly how much it has not got, and from where to go on.
 */
#include "gateway_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define BIG_N 60000
#define BIGS  400 /* more than any socket's buffers take */

/* --- what a broker says --- */

static bool say_message(struct gw *gw, struct tl_bytes payload)
{
    return gw->broker->events->on_message(gw->broker->hub, TL_SOURCE_CHANNEL, TL_LIT("news"),
                                          TL_LIT("news"), payload);
}

static void say_dropped(struct gw *gw)
{
    gw->broker->events->on_dropped(gw->broker->hub, TL_SOURCE_CHANNEL, TL_LIT("news"));
}

static void say_link(struct gw *gw, bool up)
{
    gw->broker->events->on_link(gw->broker->hub, TL_SOURCE_CHANNEL, up, "the test says so");
}

/* --- clients --- */

struct told {
    char position[64];
    char missed[24];
};

static struct told told_gap(const struct client *c)
{
    struct told told;
    assert_int_equal(c->close_code, TL_WS_CLOSE_GAP);
    assert_int_equal(sscanf(c->close_reason, "gap %63s missed=%23s", told.position, told.missed),
                     2);
    return told;
}

static void add_sure(struct feed *feed, struct tl_bytes payload)
{
    struct message *m = &feed->messages[feed->n++];
    *m = (struct message){.sure = true};
    bag_add(&m->payload, payload);
}

/* Who comes back with that position gets `behind`, unless it says that it has it, and what follows;
 * nothing twice. */
static void check_goes_on(struct gw *gw, const struct told *told)
{
    struct feed feed = {0};
    struct client *back[2];
    add_sure(&feed, TL_LIT("behind"));
    add_sure(&feed, TL_LIT("further"));
    for (size_t received = 0; received < 2; received++) {
        char path[128];
        snprintf(path, sizeof path, "/ws/news?since=%s&received=%zu", told->position, received);
        struct client *c = back[received] = client_come(gw, CLIENT_WS, path);
        c->feed = &feed;
        c->resumes = true;
        c->at = received;
        GW_UNTIL(gw, client_is_settled(c));
    }
    say_message(gw, TL_LIT("further"));
    GW_UNTIL(gw, back[0]->ended || back[0]->at == 2);
    GW_UNTIL(gw, back[1]->ended || back[1]->at == 2);
    assert_false(back[0]->ended || back[1]->ended);
    clients_free(gw);
    feed_free(&feed);
}

/* --- a gap amid a batch --- */

static void all_in_one_batch(bool with_sse)
{
    struct gw gw = {0};
    struct client *strict[6];
    gw_open(&gw);
    if (with_sse)
        (void)client_watch(&gw, CLIENT_SSE, "/sse/news");
    for (size_t i = 0; i < 6; i++) /* more than are sent to at once in a batch */
        strict[i] = client_watch(&gw, CLIENT_WS, "/ws/news?strict=1");
    struct client *plain = client_watch(&gw, CLIENT_WS, "/ws/news");
    int64_t missed = tl_metric_get(TL_M_GAP_MESSAGES);
    say_message(&gw, TL_LIT("before"));
    say_dropped(&gw);
    say_message(&gw, TL_LIT("behind"));
    GW_UNTIL(&gw, plain->messages_n == 2);
    for (size_t i = 0; i < 6; i++) {
        GW_UNTIL(&gw, strict[i]->ended);
        struct told told = told_gap(strict[i]);
        assert_int_equal(strict[i]->messages_n, 1);
        assert_string_equal(told.missed, "1");
    }
    assert_int_equal(tl_metric_get(TL_M_GAP_MESSAGES) - missed, 7 + with_sse);
    struct told told = told_gap(strict[0]);
    check_goes_on(&gw, &told);
    gw_close(&gw);
}

static void who_asked_is_told_a_gap_before_anything_of_behind_it(void **state)
{
    (void)state;
    all_in_one_batch(false);
}

static void the_position_told_is_behind_the_event_that_tells_event_streams(void **state)
{
    (void)state;
    all_in_one_batch(true);
}

static void gaps_one_upon_the_other_are_told_once_each(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    struct client *strict = client_watch(&gw, CLIENT_WS, "/ws/news?strict=1");
    struct client *plain = client_watch(&gw, CLIENT_WS, "/ws/news");
    int64_t gaps = tl_metric_get(TL_M_GAPS), missed = tl_metric_get(TL_M_GAP_MESSAGES);
    say_message(&gw, TL_LIT("1"));
    say_dropped(&gw);
    say_dropped(&gw);
    say_message(&gw, TL_LIT("2"));
    say_dropped(&gw);
    say_message(&gw, TL_LIT("3"));
    GW_UNTIL(&gw, strict->ended && plain->messages_n == 3);
    assert_int_equal(strict->messages_n, 1);
    (void)told_gap(strict);
    assert_true(tl_metric_get(TL_M_GAPS) - gaps >= 4);
    assert_true(tl_metric_get(TL_M_GAP_MESSAGES) - missed >= 4);
    gw_close(&gw);
}

/* --- a lost link --- */

static void a_lost_link_is_told_with_the_place_where_the_new_one_begins(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    struct client *strict = client_watch(&gw, CLIENT_WS, "/ws/news?strict=1");
    struct client *plain = client_watch(&gw, CLIENT_WS, "/ws/news");
    struct client *sse = client_watch(&gw, CLIENT_SSE, "/sse/news");
    say_message(&gw, TL_LIT("before"));
    say_link(&gw, false);
    say_link(&gw, true);
    GW_UNTIL(&gw, sse->gaps_n == 1); /* subscribed again */
    say_message(&gw, TL_LIT("behind"));
    GW_UNTIL(&gw, strict->ended && plain->messages_n == 2);
    struct told told = told_gap(strict);
    assert_int_equal(strict->messages_n, 1);
    assert_string_equal(told.missed, "?");
    check_goes_on(&gw, &told);
    gw_close(&gw);
}

static void a_gap_is_counted_for_those_who_were_live(void **state)
{
    (void)state;
    struct gw gw = {0};
    gw_open(&gw);
    struct client *live = client_watch(&gw, CLIENT_WS, "/ws/news");
    int64_t gaps = tl_metric_get(TL_M_GAPS), subscriptions = tl_metric_get(TL_M_SUBSCRIPTIONS);
    say_link(&gw, false);
    gw_turn(&gw, 0);
    struct client *newcomer = client_come(&gw, CLIENT_WS, "/ws/news");
    GW_UNTIL(&gw, tl_metric_get(TL_M_SUBSCRIPTIONS) == subscriptions + 1);
    assert_false(newcomer->subscribed);
    say_link(&gw, true);
    GW_UNTIL(&gw, newcomer->subscribed);
    assert_int_equal(tl_metric_get(TL_M_GAPS) - gaps, 1);
    say_message(&gw, TL_LIT("behind"));
    GW_UNTIL(&gw, live->messages_n == 1 && newcomer->messages_n == 1);
    gw_close(&gw);
}

/* --- who is slow --- */

static void open_roomy(struct gw *gw)
{
    gw_config(&gw->config);
    gw->config.standard.log.bytes_max = gw->config.logs_bytes_max = 64u << 20;
    gw->config.retired_bytes_max = 64u << 20;
    gw_open_as_is(gw);
}

static void a_slow_client_is_told_exactly_what_it_did_not_get(void **state)
{
    (void)state;
    struct gw gw = {0};
    struct bag big = {0};
    open_roomy(&gw);
    struct client *strict = client_watch(&gw, CLIENT_WS, "/ws/news?strict=1");
    (void)client_watch(&gw, CLIENT_WS, "/ws/news"); /* the log stays when the other one is closed */
    strict->deaf = true;
    int64_t missed = tl_metric_get(TL_M_GAP_MESSAGES);
    while (big.n < BIG_N)
        bag_add(&big, TL_LIT("abcdefghijklmnopqrstuvwxyz"));
    for (unsigned i = 0; i < BIGS; i++) {
        assert_true(say_message(&gw, tl_bytes(big.p, big.n)));
        gw_turn(&gw, 0);
    }
    say_dropped(&gw);
    say_message(&gw, TL_LIT("behind"));
    gw_turn(&gw, 0);
    strict->deaf = false;
    GW_UNTIL(&gw, strict->ended);
    struct told told = told_gap(strict);
    assert_true(strict->messages_n > 0 && strict->messages_n < BIGS);
    int64_t lost = BIGS - (int64_t)strict->messages_n + 1;
    assert_int_equal(atoll(told.missed), lost);
    assert_int_equal(tl_metric_get(TL_M_GAP_MESSAGES) - missed, lost + 1);
    check_goes_on(&gw, &told);
    bag_free(&big);
    gw_close(&gw);
}

/* What a slow event stream was told, and how many messages it got. */
struct words {
    unsigned downs_n, ups_n, messages_n;
    unsigned unknown_n; /* gaps of which nobody knows how much */
    long long missed;
    bool is_up_last;
};

static void take_word(struct client *c, struct tl_bytes id, struct tl_bytes event,
                      struct tl_bytes data)
{
    struct words *w = c->arg;
    char text[128];
    (void)id;
    snprintf(text, sizeof text, "%.*s", (int)data.n, (const char *)data.p);
    const char *missed = strstr(text, "\"missed\":");
    if (event.n > 0 && memmem(event.p, event.n, "broker", 6)) {
        w->is_up_last = strstr(text, "\"up\"") != NULL;
        w->ups_n += w->is_up_last;
        w->downs_n += !w->is_up_last;
    } else if (missed && strncmp(missed + 9, "null", 4) != 0) {
        w->missed += atoll(missed + 9);
    } else {
        w->unknown_n += missed != NULL;
        w->messages_n += !missed && data.n > 0;
    }
}

/* It stops reading with its socket full; the link goes and comes; then more messages than the log
 * keeps, and it reads again. Returns how many were published. */
static unsigned stall_over_a_flap(struct gw *gw, struct client *c)
{
    struct bag big = {0};
    unsigned n = 0;
    while (big.n < BIG_N)
        bag_add(&big, TL_LIT("abcdefghijklmnopqrstuvwxyz"));
    c->deaf = true;
    for (; n < BIGS; n++) {
        if (n == BIGS - 10) {
            int64_t gaps = tl_metric_get(TL_M_GAPS);
            say_link(gw, false);
            say_link(gw, true);
            GW_UNTIL(gw, tl_metric_get(TL_M_GAPS) > gaps);
        }
        assert_true(say_message(gw, tl_bytes(big.p, big.n)));
        gw_turn(gw, 0);
    }
    bag_free(&big);
    c->deaf = false;
    return n;
}

/* others_n: channels that it watches beside `news`, of which it loses nothing. */
static void event_stream_that_fell_off_knows_the_state(const char *path, unsigned others_n,
                                                       enum tl_overflow overflow)
{
    struct gw gw = {0};
    struct words words = {0};
    gw_config(&gw.config);
    gw.config.standard.log = (struct tl_log_limits){4, 64u << 20, 600000};
    gw.config.standard.overflow = overflow;
    gw.config.logs_bytes_max = gw.config.retired_bytes_max = 64u << 20;
    gw_open_as_is(&gw);
    struct client *c = client_watch(&gw, CLIENT_SSE, path);
    c->on_block = take_word;
    c->arg = &words;
    unsigned n = stall_over_a_flap(&gw, c);
    say_message(&gw, TL_LIT("the last"));
    bool is_latest = overflow == TL_OVERFLOW_LATEST;
    GW_UNTIL(&gw,
             is_latest ? words.ups_n == 1 + others_n : words.messages_n + words.missed == n + 1);
    assert_true(words.is_up_last);
    assert_int_equal(words.ups_n, 1 + others_n);
    assert_int_equal(words.downs_n, others_n);
    assert_int_equal(words.unknown_n, 1 + others_n); /* what the link lost */
    assert_int_equal(words.missed > 0, !is_latest);
    gw_close(&gw);
}

static void a_slow_event_stream_is_told_what_the_events_said_that_it_did_not_get(void **state)
{
    (void)state;
    event_stream_that_fell_off_knows_the_state("/sse/news", 0, TL_OVERFLOW_GAP);
    event_stream_that_fell_off_knows_the_state("/sse/news", 0, TL_OVERFLOW_LATEST);
    event_stream_that_fell_off_knows_the_state("/sse?ch=news&ch=news2", 1, TL_OVERFLOW_GAP);
    event_stream_that_fell_off_knows_the_state("/sse?ch=news&ch=news2", 1, TL_OVERFLOW_LATEST);
}

/* --- without memory --- */

/* A gap amid a batch with allocation `skip` failing. Whether there was harm. */
static bool lose_amid_a_batch(int64_t skip)
{
    struct gw gw = {0};
    gw_open(&gw);
    struct client *strict = client_watch(&gw, CLIENT_WS, "/ws/news?strict=1");
    struct client *plain = client_watch(&gw, CLIENT_WS, "/ws/news");
    int64_t refusals = tl_metric_get(TL_M_REFUSED_MEMORY);
    tl_alloc_fail(skip, 1);
    int64_t before_n = say_message(&gw, TL_LIT("before"));
    say_dropped(&gw);
    bool behind = say_message(&gw, TL_LIT("behind"));
    for (int i = 0; i < 5; i++)
        gw_turn(&gw, 0);
    tl_alloc_fail(0, 0);
    bool harm = tl_metric_get(TL_M_REFUSED_MEMORY) > refusals;
    GW_UNTIL(&gw, strict->ended && (plain->ended || plain->messages_n == before_n + behind));
    /* Its close frame may have found no memory; but nothing of behind the gap has come. */
    if (strict->close_code == TL_WS_CLOSE_GAP) {
        struct told told = told_gap(strict);
        assert_true(strict->messages_n <= before_n);
        assert_int_equal(atoll(told.missed), 1 + before_n - strict->messages_n);
        if (behind)
            check_goes_on(&gw, &told);
    }
    gw_close(&gw);
    return harm;
}

static void a_batch_that_finds_no_memory_tells_its_gaps_all_the_same(void **state)
{
    int64_t skip = 0;
    (void)state;
    while (lose_amid_a_batch(skip))
        skip++;
    assert_true(skip > 3);
}

static int run(const char *name)
{
    gw_engine = test_engine;
    tl_logger_level(TL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_asked_is_told_a_gap_before_anything_of_behind_it),
        cmocka_unit_test(the_position_told_is_behind_the_event_that_tells_event_streams),
        cmocka_unit_test(gaps_one_upon_the_other_are_told_once_each),
        cmocka_unit_test(a_lost_link_is_told_with_the_place_where_the_new_one_begins),
        cmocka_unit_test(a_gap_is_counted_for_those_who_were_live),
        cmocka_unit_test(a_slow_client_is_told_exactly_what_it_did_not_get),
        cmocka_unit_test(a_slow_event_stream_is_told_what_the_events_said_that_it_did_not_get),
        cmocka_unit_test(a_batch_that_finds_no_memory_tells_its_gaps_all_the_same),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
