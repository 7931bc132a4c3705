/* What is sent to Redis to read streams: many that rang with one XREAD, one by one what needs a
 * comparison or older entries. */
#include "base/alloc.h"
#include "broker/redis_seek.h"
#include "broker/redis_stream.h"

#include <assert.h>
#include <stdio.h>

/* The entries of a stream in one answer. */
#define READ_MIN 8u
#define READ_MAX 500u

/* Answers are cut off: then they are small, and there is one at a time. */
static bool is_careful(const struct tl_redis_streams *s)
{
    return s->read_bytes < TL_REDIS_READ_BYTES;
}

/* Entries that one read asks for, so that an answer has about s->read_bytes. */
static uint32_t entries_wanted(const struct tl_redis_streams *s,
                               const struct tl_redis_stream *stream)
{
    size_t n = s->read_bytes / (stream->payload_bytes + 64), min = is_careful(s) ? 1 : READ_MIN;
    return (uint32_t)(n < min ? min : n > READ_MAX ? READ_MAX : n);
}

struct tl_redis_command *tl_redis_command_new(struct tl_redis_streams *s,
                                              enum tl_redis_command_kind kind, uint32_t n)
{
    struct tl_redis_command *command = tl_zalloc(sizeof *command + n * sizeof *command->streams);
    if (!command)
        return NULL;
    command->kind = kind;
    command->n = n;
    command->replies_left = kind == TL_REDIS_CHECK ? 4 : 1;
    tl_list_append(&s->commands, &command->node);
    return command;
}

static void put(struct tl_buf *out, int argc, const char *const *argv, const size_t *lengths)
{
    (void)tl_redis_link_command(out, argc, argv, lengths); /* the link sees out->failed */
}

/* Words of which one, the at-th, is the name of the stream if there is one. */
static void put_words(struct tl_buf *out, const struct tl_redis_stream *stream, int at, int argc,
                      const char **argv)
{
    size_t lengths[8];
    assert(argc <= 8);
    for (int i = 0; i < argc; i++)
        lengths[i] = strlen(argv[i]);
    if (stream) {
        argv[at] = (const char *)stream->name;
        lengths[at] = stream->name_n;
    }
    put(out, argc, argv, lengths);
}

static void put_check(struct tl_buf *out, const struct tl_redis_command *command)
{
    const struct tl_redis_stream *stream = command->streams[0];
    char from[TL_ENTRY_ID_TEXT_MAX] = "+", count[16];
    if (stream->at.epoch != 0) /* else nothing of it is wanted */
        tl_entry_id_print(stream->at.id, from);
    snprintf(count, sizeof count, "%u", command->count);
    put_words(out, NULL, 0, 1, (const char *[]){"MULTI"});
    put_words(out, stream, 2, 3, (const char *[]){"XINFO", "STREAM", ""});
    put_words(out, stream, 1, 6,
              (const char *[]){"XRANGE", "", from, stream->at.epoch ? "+" : "-", "COUNT", count});
    put_words(out, NULL, 0, 1, (const char *[]){"EXEC"});
}

static void put_seek(struct tl_buf *out, const struct tl_redis_command *command)
{
    const struct tl_redis_stream *stream = command->streams[0];
    char from[TL_ENTRY_ID_TEXT_MAX], to[TL_ENTRY_ID_TEXT_MAX], count[16];
    tl_entry_id_print(stream->seek->from, from);
    tl_entry_id_print(stream->seek->next, to);
    snprintf(count, sizeof count, "%u", command->count);
    put_words(out, stream, 1, 6, (const char *[]){"XREVRANGE", "", to, from, "COUNT", count});
}

static void put_read(struct tl_buf *out, const struct tl_redis_command *command)
{
    const char *argv[4 + 2 * TL_REDIS_READ_STREAMS] = {"XREAD", "COUNT", "", "STREAMS"};
    size_t lengths[4 + 2 * TL_REDIS_READ_STREAMS] = {5, 5, 0, 7};
    char ids[TL_REDIS_READ_STREAMS][TL_ENTRY_ID_TEXT_MAX], count[16];
    uint32_t n = command->n;
    lengths[2] = (size_t)snprintf(count, sizeof count, "%u", command->count);
    argv[2] = count;
    for (uint32_t i = 0; i < n; i++) {
        const struct tl_redis_stream *stream = command->streams[i];
        argv[4 + i] = (const char *)stream->name;
        lengths[4 + i] = stream->name_n;
        /* The entry that the hub has comes again: proof that nothing behind it was cut away. */
        lengths[4 + n + i] = tl_entry_id_print(tl_entry_id_before(stream->at.id), ids[i]);
        argv[4 + n + i] = ids[i];
    }
    put(out, (int)(4 + 2 * n), argv, lengths);
}

static void take(struct tl_redis_command *command, uint32_t i, struct tl_redis_stream *stream)
{
    command->streams[i] = stream;
    stream->in_flight++;
    tl_list_remove(&stream->queue);
}

/* The next read of a stream that needs more than an XREAD. Returns how many answers are due. */
static uint64_t append_single(struct tl_redis_streams *s, struct tl_redis_stream *stream,
                              struct tl_buf *out)
{
    struct tl_redis_seek *seek = stream->seek;
    enum tl_redis_command_kind kind = stream->check || !seek ? TL_REDIS_CHECK
                                      : !seek->ended         ? TL_REDIS_SEEK
                                                             : TL_REDIS_SEEK_INFO;
    struct tl_redis_command *command = tl_redis_command_new(s, kind, 1);
    if (!command) {
        out->failed = true;
        return 0;
    }
    take(command, 0, stream);
    /* Of a stream of which nothing is held, nothing is read. */
    command->count = entries_wanted(s, stream) + 1;
    if (kind == TL_REDIS_CHECK) {
        stream->check = stream->due = false;
        put_check(out, command);
        return 4;
    }
    if (kind == TL_REDIS_SEEK)
        put_seek(out, command);
    else
        put_words(out, stream, 2, 3, (const char *[]){"XINFO", "STREAM", ""});
    return 1;
}

static bool is_single(const struct tl_redis_stream *stream)
{
    return stream->check || stream->seek ||
           (stream->at.id.ms == 0 && stream->at.id.seq == 0); /* nothing to be found again */
}

/* One XREAD of the streams that are next. */
static uint64_t append_read(struct tl_redis_streams *s, struct tl_buf *out)
{
    uint32_t n = 0, count = READ_MAX, max = is_careful(s) ? 1 : TL_REDIS_READ_STREAMS;
    for (struct tl_list *l = s->queue.next; l != &s->queue && n < max; l = l->next, n++)
        if (is_single(TL_CONTAINER(l, struct tl_redis_stream, queue)))
            break;
    struct tl_redis_command *command = tl_redis_command_new(s, TL_REDIS_READ, n);
    if (!command) {
        out->failed = true;
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tl_redis_stream *stream = TL_CONTAINER(s->queue.next, struct tl_redis_stream, queue);
        uint32_t wanted = entries_wanted(s, stream);
        count = wanted < count ? wanted : count;
        stream->due = false;
        take(command, i, stream);
    }
    command->count = count + 1;
    put_read(out, command);
    return 1;
}

/* What may have changed on a link that stays. */
static uint64_t append_look(struct tl_redis_streams *s, struct tl_buf *out)
{
    uint64_t n = 0;
    s->look_due = false; /* without memory: the next look */
    if (tl_redis_command_new(s, TL_REDIS_ASK_CONFIG, 0)) {
        put_words(out, NULL, 0, 3, (const char *[]){"CONFIG", "GET", "notify-keyspace-events"});
        n++;
    }
    if (tl_redis_command_new(s, TL_REDIS_ASK_ROLE, 0)) {
        put_words(out, NULL, 0, 2, (const char *[]){"INFO", "replication"});
        n++;
    }
    return n;
}

uint64_t tl_redis_stream_fill(struct tl_redis_streams *s, struct tl_buf *out)
{
    uint64_t n = 0;
    if (!s->looked && tl_list_empty(&s->commands)) {
        struct tl_redis_command *info = tl_redis_command_new(s, TL_REDIS_ASK_INFO, 0);
        struct tl_redis_command *config = tl_redis_command_new(s, TL_REDIS_ASK_CONFIG, 0);
        out->failed = out->failed || !info || !config;
        put_words(out, NULL, 0, 2, (const char *[]){"INFO", "server"});
        put_words(out, NULL, 0, 3, (const char *[]){"CONFIG", "GET", "notify-keyspace-events"});
        return 2;
    }
    n += tl_redis_shards_fill(s, out);
    if (s->look_due && s->looked)
        n += append_look(s, out);
    while (s->up && !tl_list_empty(&s->queue) && out->n < TL_REDIS_BATCH_BYTES && !out->failed &&
           !(is_careful(s) && !tl_list_empty(&s->commands))) {
        struct tl_redis_stream *stream = TL_CONTAINER(s->queue.next, struct tl_redis_stream, queue);
        if (!is_single(stream)) {
            n += append_read(s, out);
            continue;
        }
        /* MULTI and EXEC begin with answers of their own: all of it goes out at once. */
        n += append_single(s, stream, out);
    }
    return n;
}
