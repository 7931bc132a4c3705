#include "redis_fixture.h"

#include "base/random.h"

#include <errno.h>

static const struct tl_redis_options with_streams = {.streams = true};

/* The server's stream: entries 1-1, 2-1, ... of which the first ones may be trimmed. */
static struct {
    uint64_t n, first; /* kept: first..n */
    long long from;    /* of the XRANGE within MULTI */
    long long count;
    bool multi;
    unsigned garbage; /* one of so many answers is nonsense; 0: none */
} model;

/* What the hub was told. */
static struct {
    struct tl_stream_place at;
    uint64_t entries, gaps, broken, missed, sought, subscribed;
    bool again; /* there was no memory to follow it */
    bool stop;  /* from the next event on */
} hub_of;

static struct setting *the;

static void say_id(struct peer *p, uint64_t i)
{
    char id[32];
    int n = snprintf(id, sizeof id, "%llu-%d", (unsigned long long)i, i > 0);
    tl_buf_printf(&p->out, "$%d\r\n%s\r\n", n, id);
}

static void say_entry(struct peer *p, uint64_t i)
{
    char payload[32];
    int n = snprintf(payload, sizeof payload, "%llu", (unsigned long long)i);
    server_say_str(p, "*2\r\n");
    say_id(p, i);
    tl_buf_printf(&p->out, "*4\r\n$1\r\nk\r\n$1\r\nv\r\n$4\r\ndata\r\n$%d\r\n%s\r\n", n, payload);
}

/* Entries from..to, at most count. */
static void say_entries(struct peer *p, long long from, long long count)
{
    long long first = from > (long long)model.first ? from : (long long)model.first;
    long long n = (long long)model.n - first + 1;
    n = n < 0 ? 0 : n > count ? count : n;
    tl_buf_printf(&p->out, "*%lld\r\n", n);
    for (long long i = first; i < first + n; i++)
        say_entry(p, (uint64_t)i);
}

static void say_info(struct peer *p)
{
    server_say_str(p, "*14\r\n$6\r\nlength\r\n");
    tl_buf_printf(&p->out, ":%llu\r\n", (unsigned long long)(model.n + 1 - model.first));
    server_say_str(p, "$17\r\nlast-generated-id\r\n");
    say_id(p, model.n);
    server_say_str(p, "$20\r\nmax-deleted-entry-id\r\n$3\r\n0-0\r\n$13\r\nentries-added\r\n");
    tl_buf_printf(&p->out, ":%llu\r\n", (unsigned long long)model.n);
    server_say_str(p, "$23\r\nrecorded-first-entry-id\r\n");
    say_id(p, model.n < model.first ? 0 : model.first);
    server_say_str(p, "$11\r\nfirst-entry\r\n");
    say_entry(p, model.first);
    server_say_str(p, "$6\r\ngroups\r\n:0\r\n");
}

static long long number(const redisReply *command, size_t i)
{
    return atoll(command->element[i]->str);
}

static void say_newest_first(struct peer *p, const redisReply *command)
{
    long long to = number(command, 2), from = number(command, 3), count = number(command, 5);
    from = from > (long long)model.first ? from : (long long)model.first;
    long long n = to - from + 1 < count ? to - from + 1 : count;
    tl_buf_printf(&p->out, "*%lld\r\n", n > 0 ? n : 0);
    for (long long i = to; i > to - n; i--)
        say_entry(p, (uint64_t)i);
}

static void say_nonsense(struct peer *p)
{
    static const char *const words[] = {
        "-ERR no\r\n",
        "*0\r\n",
        "*-1\r\n",
        "$-1\r\n",
        ":3\r\n",
        "+OK\r\n",
        "*1\r\n*2\r\n$1\r\nx\r\n*1\r\n*2\r\n$1\r\n?\r\n*1\r\n$1\r\na\r\n",
        "*2\r\n*2\r\n$6\r\nlength\r\n$1\r\nx\r\n*1\r\n*1\r\n*1\r\n:5\r\n",
        "*2\r\n-ERR no such key\r\n*0\r\n",
        "*2\r\n-WRONGTYPE x\r\n-WRONGTYPE x\r\n",
        "!\r\n"};
    server_say_str(p, words[tl_random_below(sizeof words / sizeof *words)]);
}

static bool script(struct peer *p, redisReply *command)
{
    bool queued = model.multi && !is_command(command, "EXEC");
    if (is_command(command, "XRANGE")) {
        model.from = strcmp(command->element[2]->str, "+") == 0 ? (long long)model.n + 1
                                                                : number(command, 2);
        model.count = number(command, 5);
    }
    if (is_command(command, "MULTI"))
        model.multi = true;
    bool is_ours =
        queued || strchr("XIME", *command->element[0]->str) || is_command(command, "CONFIG");
    if (is_ours && model.garbage && tl_random_below(model.garbage) == 0)
        say_nonsense(p);
    else if (queued)
        server_say_str(p, "+QUEUED\r\n");
    else if (is_command(command, "INFO"))
        server_say_str(p, "$13\r\nrun_id:abc123\r\n");
    else if (is_command(command, "CONFIG"))
        server_say_str(p, "*2\r\n$1\r\nn\r\n$3\r\nKgt\r\n");
    else if (is_command(command, "XINFO"))
        say_info(p);
    else if (is_command(command, "XREVRANGE"))
        say_newest_first(p, command);
    else if (is_command(command, "XREAD") && strcmp(command->element[3]->str, "BLOCK") == 0)
        server_say_str(p, "*-1\r\n");
    else if (is_command(command, "XREAD")) {
        server_say_str(p, "*1\r\n*2\r\n$1\r\ns\r\n");
        say_entries(p, number(command, 5) + 1, number(command, 2));
    } else if (is_command(command, "EXEC")) {
        server_say_str(p, "*2\r\n");
        say_info(p);
        say_entries(p, model.from, model.count);
    } else {
        return false;
    }
    if (is_command(command, "EXEC"))
        model.multi = false;
    return true;
}

static void ring(void)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (the->server.peers[i].fd >= 0 && the->server.peers[i].subscribed > 0)
            server_say_str(&the->server.peers[i],
                           "*3\r\n$7\r\nmessage\r\n$16\r\n__keyspace@0__:s\r\n"
                           "$4\r\nxadd\r\n");
}

static const struct tl_stream_rule rule = {.field = "data"};

static void follow(void)
{
    int r = the->broker->ops->follow(the->broker, TL_LIT("s"), &rule, &hub_of.at);
    assert_true(r == 0 || r == -ENOMEM);
    hub_of.again = r < 0;
}

/* The first entry behind a place, which may be just before it. */
static uint64_t behind(struct tl_entry_id id)
{
    return id.seq > 0 || id.ms == 0 ? id.ms + 1 : id.ms;
}

static void maybe_stop(void)
{
    if (hub_of.stop)
        the->broker->ops->stop(the->broker);
}

static void on_stream_link(void *hub, enum tl_source_kind kind, bool up, const char *reason)
{
    (void)hub;
    (void)reason;
    if (kind == TL_SOURCE_STREAM && up)
        follow();
}

static void on_stream_subscribed(void *hub, enum tl_source_kind kind, struct tl_bytes name,
                                 enum tl_broker_status status, const char *reason)
{
    (void)hub;
    (void)name;
    (void)reason;
    assert_int_equal(kind, TL_SOURCE_STREAM);
    hub_of.subscribed += status == TL_BROKER_OK;
    maybe_stop();
    if (status != TL_BROKER_OK && !hub_of.stop)
        follow(); /* it tries again for ever */
}

static void on_place(void *hub, struct tl_bytes name, const struct tl_stream_place *place,
                     enum tl_continuity how, uint64_t missed, const char *reason)
{
    (void)hub;
    (void)name;
    (void)reason;
    hub_of.gaps += how == TL_STREAM_GAP;
    hub_of.broken += how == TL_STREAM_BROKEN;
    hub_of.missed += missed;
    if (how == TL_STREAM_WHOLE)
        assert_true(hub_of.at.id.ms == place->id.ms && hub_of.at.added == place->added);
    hub_of.at = *place;
    maybe_stop();
}

static void on_entry(void *hub, struct tl_bytes name, const struct tl_stream_entry *entry)
{
    char text[32];
    (void)hub;
    (void)name;
    assert_int_equal(entry->id.ms, behind(hub_of.at.id)); /* none is left out, none comes twice */
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)entry->id.ms);
    assert_true(tl_bytes_eq(entry->payload, tl_bytes(text, (size_t)n)));
    hub_of.entries++;
    hub_of.at.id = entry->id;
    hub_of.at.added++;
    maybe_stop();
}

static void on_sought(void *hub, struct tl_bytes name, const struct tl_stream_range *range)
{
    (void)hub;
    (void)name;
    for (size_t i = 0; i < range->n; i++)
        assert_int_equal(range->entries[i].id.ms, behind(range->before) + i);
    if (range->n > 0)
        assert_int_equal(range->entries[range->n - 1].id.ms, range->to.ms);
    hub_of.sought++;
    maybe_stop();
}

static const struct tl_broker_events stream_events = {
    .on_link = on_stream_link,
    .on_readiness = on_readiness,
    .on_subscribed = on_stream_subscribed,
    .on_unsubscribed = on_unsubscribed,
    .on_message = on_message,
    .on_dropped = on_dropped,
    .on_place = on_place,
    .on_entry = on_entry,
    .on_sought = on_sought,
};

static void begin(struct setting *t, uint64_t n)
{
    memset(&model, 0, sizeof model);
    memset(&hub_of, 0, sizeof hub_of);
    model.n = n;
    model.first = 1;
    setting_start(t, with_streams);
    t->server.script = script;
    t->broker->events = &stream_events;
    the = t;
}

static void add(uint64_t n)
{
    model.n += n;
    ring();
}

static void seek(uint64_t from, uint64_t to)
{
    struct tl_entry_id a = {from, from > 0}, b = {to, 1};
    assert_int_equal(the->broker->ops->seek(the->broker, TL_LIT("s"), a, b, 200, 1 << 20), 0);
}

static void entries_come_once_and_in_order_in_pages(void **state)
{
    (void)state;
    struct setting t;
    begin(&t, 5);
    UNTIL(&t, hub_of.subscribed == 1);
    assert_int_equal(hub_of.at.added, 5);
    for (uint64_t n = 1; n < 3000; n = n * 2 + 1) {
        add(n);
        UNTIL(&t, hub_of.at.added == model.n);
    }
    model.n += 50;
    model.first = model.n - 9;
    ring();
    UNTIL(&t, hub_of.at.added == model.n);
    assert_true(hub_of.gaps == 1 && hub_of.missed == 40);
    seek(model.n - 9, model.n);
    UNTIL(&t, hub_of.sought == 1);
    setting_end(&t);
}

static void any_failed_allocation_is_outlived(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 120; i += 1 + i / 40) {
        struct setting t;
        begin(&t, 5);
        for (int j = 0; j < 40; j++) {
            server_step(&t.server);
            if (j == 25 && t.broker->ops->is_up(t.broker))
                add(30);
            tl_alloc_fail(i, 2);
            tl_loop_turn(t.loop, 1);
            tl_alloc_fail(0, 0);
            if (hub_of.again)
                follow();
        }
        if (hub_of.subscribed == 0)
            UNTIL(&t, hub_of.subscribed > 0);
        UNTIL(&t, t.broker->ops->is_up(t.broker));
        for (uint64_t before = model.n; hub_of.at.added < before;) {
            ring();
            turn(&t);
        }
        assert_true(hub_of.gaps == 0 && hub_of.broken == 0);
        setting_end(&t);
    }
}

static void nonsense_is_outlived_at_every_step(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        struct setting t;
        begin(&t, 5);
        model.garbage = 2 + i % 10;
        for (int j = 0; j < 120; j++) {
            turn(&t);
            if (j % 4 == 3)
                add(tl_random_below(100));
        }
        setting_end(&t);
    }
}

static void the_hub_may_stop_the_broker_from_any_event(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        struct setting t;
        begin(&t, 5);
        for (unsigned j = 0; j < i; j++)
            turn(&t);
        if (hub_of.subscribed > 0 && i % 3 > 0)
            seek(2, 4);
        if (i % 2 == 0)
            model.first = model.n + 1;
        add(20);
        hub_of.stop = true;
        for (unsigned j = 0; j < 20; j++)
            turn(&t);
        setting_end(&t);
    }
}

static int run(const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_once_and_in_order_in_pages),
        cmocka_unit_test(any_failed_allocation_is_outlived),
        cmocka_unit_test(nonsense_is_outlived_at_every_step),
        cmocka_unit_test(the_hub_may_stop_the_broker_from_any_event),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run_on_engines(run);
}
