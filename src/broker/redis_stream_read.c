/*
 * What Redis answers to reads of streams: entries are passed on as they are parsed, and continuity
 * is proven or found broken. Two proofs: the entry that the hub has stands before the new ones; or
 * the stream's counts leave no room for others, and it is the same server process.
 */
#include "base/metrics.h"
#include "broker/redis_seek.h"
#include "broker/redis_stream.h"

#include <stdio.h>

static const char trimmed[] = "cut away before they were read";
static const char deleted[] = "deleted before they were read";
static const char another[] = "the stream is another one";
static const char unreadable[] = "an entry without the payload's field";
static const char too_big[] = "message over max-message";

static void place(struct tl_redis_streams *s, struct tl_redis_stream *stream,
                  enum tl_continuity how, uint64_t missed, const char *reason)
{
    if (!stream->dropped)
        s->broker->events->on_place(s->broker->hub, tl_redis_stream_name(stream), &stream->at, how,
                                    missed, reason);
}

static int cmp(struct tl_entry_id a, struct tl_entry_id b)
{
    return tl_entry_id_cmp(a, b);
}

/* ---- continuity ---- */

/* The stream went back, or another one has its name: go on with what is certainly new in it. */
static void begin_anew(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    const struct tl_redis_stream_info *info = &s->answer.info;
    uint64_t epoch = tl_redis_stream_epoch(s, tl_redis_stream_name(stream));
    bool all_new = info->length > 0 && cmp(info->first, stream->at.id) > 0;
    if (all_new && info->added >= info->length)
        stream->at = (struct tl_stream_place){epoch, tl_entry_id_before(info->first),
                                              info->added - info->length};
    else
        stream->at = (struct tl_stream_place){epoch, info->last, info->added};
    s->answer.ignore = !all_new;
    place(s, stream, TL_STREAM_BROKEN, 0, another);
}

/* All that is left of the stream is newer than what the hub has. */
static void settle_by_counts(struct tl_redis_streams *s, struct tl_redis_stream *stream,
                             bool same_server)
{
    const struct tl_redis_stream_info *info = &s->answer.info;
    uint64_t new_n = info->added - stream->at.added;
    if (new_n < info->length) {
        begin_anew(s, stream);
        return;
    }
    uint64_t missed = new_n - info->length;
    if (missed == 0 && (same_server || stream->at.added == 0)) {
        place(s, stream, TL_STREAM_WHOLE, 0, "");
        return;
    }
    stream->at.added = info->added - info->length;
    stream->at.id = info->length > 0 ? tl_entry_id_before(info->first) : info->last;
    place(s, stream, TL_STREAM_GAP, missed, trimmed);
}

/* Decide what lies between the hub's place and what is read now. */
static void settle(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    struct tl_redis_answer *a = &s->answer;
    const struct tl_redis_stream_info *info = &a->info;
    uint64_t epoch = tl_redis_stream_epoch(s, tl_redis_stream_name(stream));
    bool same_server = stream->at.epoch == epoch;
    bool is_first = stream->at.epoch == 0, was_entry = stream->is_entry;
    a->settled = true;
    if (stream->dropped)
        return;
    stream->at.epoch = epoch;
    stream->is_entry = a->held_seen;
    if (is_first) {
        stream->at.id = info->last;
        stream->at.added = info->added;
        place(s, stream, TL_STREAM_FIRST, 0, "");
    } else if (cmp(info->last, stream->at.id) < 0 || info->added < stream->at.added) {
        begin_anew(s, stream);
    } else if (a->held_seen || (cmp(info->last, stream->at.id) == 0 &&
                                (same_server || info->added == stream->at.added))) {
        place(s, stream, TL_STREAM_WHOLE, 0, "");
    } else if (info->length == 0 || cmp(info->first, stream->at.id) > 0) {
        settle_by_counts(s, stream, same_server);
    } else if (same_server && (!was_entry || cmp(info->deleted, stream->at.id) >= 0)) {
        /* The hub's entry was deleted by itself: from the middle of a stream only XDEL takes. */
        place(s, stream, TL_STREAM_WHOLE, 0, "");
    } else {
        place(s, stream, TL_STREAM_GAP, 0, another);
    }
}

/* All is read that was there at the check: what is still wanting was deleted one by one. */
static void compare_counts(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    const struct tl_redis_stream_info *info = &s->answer.info;
    uint64_t missed = info->added - stream->at.added;
    if (missed == 0 || cmp(stream->at.id, info->last) > 0)
        return;
    bool back = info->added < stream->at.added;
    stream->at.added = info->added;
    place(s, stream, back ? TL_STREAM_BROKEN : TL_STREAM_GAP, back ? 0 : missed,
          back ? another : deleted);
}

/* ---- entries ---- */

static size_t weighed(size_t before, size_t n)
{
    return n > before ? n : (before * 7 + n) / 8;
}

static void weigh(struct tl_redis_streams *s, struct tl_redis_stream *stream, size_t n)
{
    s->payload_bytes = weighed(s->payload_bytes, n);
    stream->payload_bytes = weighed(stream->payload_bytes, n);
}

/* An entry that the hub does not get. */
static void skip(struct tl_redis_streams *s, struct tl_redis_stream *stream, const char *reason)
{
    stream->at.id = s->answer.id;
    stream->at.added++;
    stream->is_entry = true;
    place(s, stream, TL_STREAM_GAP, 1, reason);
}

/* False: not one to be passed on. */
static bool is_wanted(struct tl_redis_streams *s, const struct tl_redis_command *command)
{
    const struct tl_redis_answer *a = &s->answer;
    if (!a->stream || a->stream->dropped || a->ignore || !a->has_id)
        return false;
    if (command->kind == TL_REDIS_READ && !a->held_seen)
        return false; /* it is compared next, and read again */
    return cmp(a->id, a->stream->at.id) > 0;
}

static void pass_on(struct tl_redis_streams *s, struct tl_redis_command *command,
                    const struct tl_resp_value *value)
{
    struct tl_redis_stream *stream = s->answer.stream;
    bool fits = !value->oversize && value->bytes.n <= s->options->max_message;
    if (command->kind == TL_REDIS_SEEK) {
        weigh(s, stream, value->bytes.n);
        if (stream->seek)
            tl_redis_seek_add(stream->seek, s->answer.id, fits ? &value->bytes : NULL);
        return;
    }
    if (!is_wanted(s, command))
        return;
    weigh(s, stream, value->bytes.n);
    if (!fits) {
        tl_metric_add(TL_M_MESSAGES_OVERSIZE, 1);
        skip(s, stream, too_big);
        return;
    }
    struct tl_stream_entry entry = {s->answer.id, value->bytes};
    stream->at.id = entry.id;
    stream->at.added++;
    stream->is_entry = true;
    s->broker->events->on_entry(s->broker->hub, tl_redis_stream_name(stream), &entry);
}

static void begin_entry(struct tl_redis_streams *s)
{
    s->answer.entries_n++;
    s->answer.has_id = s->answer.has_field = s->answer.is_field = false;
    s->answer.fields_left = 0;
}

static void read_id(struct tl_redis_streams *s, const struct tl_redis_command *command,
                    const struct tl_resp_value *value)
{
    struct tl_redis_answer *a = &s->answer;
    a->has_id = tl_entry_id_parse(value->bytes, &a->id);
    if (!a->stream || !a->has_id || a->entries_n != 1 || command->kind == TL_REDIS_SEEK)
        return;
    a->held_seen = a->stream->at.epoch != 0 && cmp(a->id, a->stream->at.id) == 0;
    if (command->kind == TL_REDIS_CHECK)
        settle(s, a->stream);
}

/* The fields of an entry are over. */
static void end_entry(struct tl_redis_streams *s, struct tl_redis_command *command)
{
    struct tl_redis_stream *stream = s->answer.stream;
    if (s->answer.has_field)
        return;
    if (command->kind == TL_REDIS_SEEK && stream->seek)
        tl_redis_seek_add(stream->seek, s->answer.id, NULL);
    else if (command->kind != TL_REDIS_SEEK && is_wanted(s, command))
        skip(s, stream, unreadable);
}

static void on_field(struct tl_redis_streams *s, struct tl_redis_command *command,
                     const struct tl_resp_value *value)
{
    struct tl_redis_answer *a = &s->answer;
    if (!a->stream || a->fields_left == 0)
        return;
    bool is_name = a->fields_left % 2 == 0;
    a->fields_left--;
    if (is_name) {
        a->is_field = !a->has_field && tl_resp_is(value, a->stream->rule->field);
        return;
    }
    if (a->is_field) {
        a->has_field = true;
        pass_on(s, command, value);
    }
    if (a->stream && a->fields_left == 0) /* the hub may have stopped all of it meanwhile */
        end_entry(s, command);
}

/* depth: 0 where entries begin. */
static void on_entry_value(struct tl_redis_streams *s, struct tl_redis_command *command,
                           unsigned depth, const struct tl_resp_value *value)
{
    if (depth == 0 && value->type == TL_RESP_ARRAY)
        begin_entry(s);
    else if (depth == 1 && value->type == TL_RESP_STRING)
        read_id(s, command, value);
    else if (depth == 1 && value->type == TL_RESP_ARRAY)
        s->answer.fields_left = (uint32_t)value->integer & ~1u;
    else if (depth == 2)
        on_field(s, command, value);
}

/* ---- XINFO STREAM ---- */

static void on_info_value(struct tl_redis_streams *s, const struct tl_resp_value *value)
{
    struct tl_redis_answer *a = &s->answer;
    static const char *const ids[] = {"recorded-first-entry-id", "last-generated-id",
                                      "max-deleted-entry-id"};
    struct tl_entry_id *to[] = {&a->info.first, &a->info.last, &a->info.deleted};
    a->info.is_there = true;
    if (a->info_i++ % 2 == 0) {
        bool is_key = value->type == TL_RESP_STRING && value->bytes.n < sizeof a->info_key;
        snprintf(a->info_key, sizeof a->info_key, "%.*s", is_key ? (int)value->bytes.n : 0,
                 (const char *)value->bytes.p);
        return;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(a->info_key, ids[i]) == 0 && value->type == TL_RESP_STRING &&
            !tl_entry_id_parse(value->bytes, to[i]))
            a->failed = true;
    if (strcmp(a->info_key, "length") == 0)
        a->info.length = (uint64_t)value->integer;
    if (strcmp(a->info_key, "entries-added") == 0) {
        a->info.added = (uint64_t)value->integer;
        a->info.counts = true;
    }
}

/* ---- answers as they are parsed ---- */

/* Redis lists the streams that have something in the order in which they were asked for. */
static void on_stream_name(struct tl_redis_streams *s, const struct tl_redis_command *command,
                           const struct tl_resp_value *value)
{
    struct tl_redis_answer *a = &s->answer;
    a->stream = NULL;
    a->entries_n = 0;
    a->held_seen = false;
    while (a->stream_i < command->n && !a->stream) {
        struct tl_redis_stream *stream = command->streams[a->stream_i++];
        if (tl_bytes_eq(tl_redis_stream_name(stream), value->bytes))
            a->stream = stream;
        else
            stream->check = true; /* not even the hub's entry is there any more */
    }
}

/* Of a stream's part of an XREAD that is over: was it proven, and was it all? */
static void end_part(struct tl_redis_streams *s, const struct tl_redis_command *command)
{
    struct tl_redis_stream *stream = s->answer.stream;
    if (!stream)
        return;
    stream->uncounted = stream->uncounted || s->answer.entries_n > 1;
    if (!s->answer.held_seen)
        stream->check = true;
    else if (s->answer.entries_n >= command->count)
        stream->due = true;
}

static void visit_read(struct tl_redis_streams *s, struct tl_redis_command *command, unsigned depth,
                       const struct tl_resp_value *value)
{
    if (depth == 1)
        end_part(s, command);
    else if (depth == 2 && value->type == TL_RESP_STRING)
        on_stream_name(s, command, value);
    else if (depth >= 3)
        on_entry_value(s, command, depth - 3, value);
}

static void note_error(struct tl_redis_streams *s, struct tl_bytes error)
{
    struct tl_redis_answer *a = &s->answer;
    if (!a->failed)
        tl_redis_link_words(&s->link, error, a->words, sizeof a->words);
    a->failed = true;
}

/* EXEC: what XINFO says, then the entries. */
static void visit_check(struct tl_redis_streams *s, struct tl_redis_command *command,
                        unsigned depth, const struct tl_resp_value *value)
{
    struct tl_redis_answer *a = &s->answer;
    if (depth == 1) {
        /* No such key: an empty stream. Anything else: no stream at all. */
        bool missing = value->type == TL_RESP_ERROR &&
                       tl_bytes_starts(value->bytes, TL_LIT("ERR no such key"));
        if (value->type == TL_RESP_ERROR && !missing)
            note_error(s, value->bytes);
        a->stream_i++;
    } else if (a->stream_i == 1 && depth == 2) {
        on_info_value(s, value);
    } else if (a->stream_i == 2 && !a->failed) {
        a->stream = command->streams[0];
        on_entry_value(s, command, depth - 2, value);
    }
}

/* K: of keyspaces; t, or all kinds, A: of streams. g is wanted for deletions, which are found
 * without it too, only later. */
static void on_config_value(struct tl_redis_streams *s, const struct tl_resp_value *value)
{
    if (s->answer.info_i++ != 1 || value->type != TL_RESP_STRING || value->bytes.n == 0)
        return;
    const void *p = value->bytes.p;
    size_t n = value->bytes.n;
    s->answer.has_bells = memchr(p, 'K', n) && (memchr(p, 't', n) || memchr(p, 'A', n));
}

void tl_redis_stream_visit(void *streams, unsigned depth, const struct tl_resp_value *value)
{
    struct tl_redis_streams *s = streams;
    if (tl_list_empty(&s->commands))
        return; /* of the handshake, or an answer to nothing, which is noticed at its end */
    struct tl_redis_command *command =
        TL_CONTAINER(s->commands.next, struct tl_redis_command, node);
    switch (command->kind) {
    case TL_REDIS_READ:
        visit_read(s, command, depth, value);
        break;
    case TL_REDIS_CHECK:
        visit_check(s, command, depth, value);
        break;
    case TL_REDIS_SEEK:
        s->answer.stream = command->streams[0];
        on_entry_value(s, command, depth - 1, value);
        break;
    case TL_REDIS_SEEK_INFO:
        if (depth == 1)
            on_info_value(s, value);
        break;
    case TL_REDIS_ASK_CONFIG:
        on_config_value(s, value);
        break;
    case TL_REDIS_ASK_INFO:
    case TL_REDIS_ASK_ROLE:
    case TL_REDIS_UNBLOCK:
        break;
    }
}

/* ---- ends of answers ---- */

static void read_run_id(struct tl_redis_streams *s, const struct tl_resp *reply)
{
    static const char key[] = "run_id:";
    struct tl_bytes text = reply->top.bytes;
    s->run_id[0] = 0;
    if (reply->top.type != TL_RESP_STRING || reply->top.oversize || text.n == 0)
        return; /* forbidden: then all servers are taken for one */
    const uint8_t *at = memmem(text.p, text.n, key, sizeof key - 1);
    if (!at)
        return;
    text = tl_bytes_skip(text, (size_t)(at - text.p) + sizeof key - 1);
    size_t n = 0;
    while (n < text.n && n < sizeof s->run_id - 1 && text.p[n] > ' ')
        n++;
    memcpy(s->run_id, text.p, n);
    s->run_id[n] = 0;
}

static bool is_replica(const struct tl_resp *reply)
{
    static const char words[] = "role:slave";
    struct tl_bytes text = reply->top.bytes;
    return reply->top.type == TL_RESP_STRING && !reply->top.oversize && text.n > 0 &&
           memmem(text.p, text.n, words, sizeof words - 1);
}

/* The hub is told that all was read, the first time. */
static void tell_subscribed(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    if (stream->told || stream->dropped)
        return;
    stream->told = true;
    s->broker->events->on_subscribed(s->broker->hub, TL_SOURCE_STREAM, tl_redis_stream_name(stream),
                                     TL_BROKER_OK, "");
}

static void refuse(struct tl_redis_streams *s, struct tl_redis_stream *stream)
{
    const char *words = s->answer.words;
    stream->is_odd = true;
    tl_metric_add(TL_M_BROKER_REFUSALS, 1);
    tl_redis_notice_refused(&s->notice, "reading stream", tl_redis_stream_name(stream), words,
                            tl_loop_now_ms(s->loop));
    bool denied = tl_bytes_starts(tl_bytes_str(words), TL_LIT("NOPERM"));
    if (stream->dropped || (stream->told && !denied))
        return; /* it may be a stream again: the doorbell tells */
    tl_redis_stream_give_up(s, stream);
    s->broker->events->on_subscribed(s->broker->hub, TL_SOURCE_STREAM, tl_redis_stream_name(stream),
                                     denied ? TL_BROKER_DENIED : TL_BROKER_FAILED, words);
}

static void end_check(struct tl_redis_streams *s, struct tl_redis_command *command,
                      const struct tl_resp *reply)
{
    struct tl_redis_stream *stream = command->streams[0];
    if (reply->top.type != TL_RESP_ARRAY)
        note_error(s, reply->top.type == TL_RESP_ERROR ? reply->top.bytes : TL_LIT("no answer"));
    if (s->answer.info.is_there && !s->answer.info.counts)
        note_error(s, TL_LIT("this Redis counts no entries-added: 7.0 does"));
    if (s->answer.failed) {
        refuse(s, stream);
        return;
    }
    stream->is_odd = false;
    if (!s->answer.settled)
        settle(s, stream);
    if (tl_list_empty(&s->commands))
        return; /* the hub stopped the broker */
    if (s->answer.entries_n >= command->count && !s->answer.ignore) {
        stream->check = true;
        return;
    }
    stream->uncounted = false;
    compare_counts(s, stream);
    if (!tl_list_empty(&s->commands))
        tell_subscribed(s, stream);
}

static void end_read(struct tl_redis_streams *s, struct tl_redis_command *command,
                     const struct tl_resp *reply)
{
    end_part(s, command);
    if (reply->top.type == TL_RESP_ERROR)
        tl_redis_streams_note_denied(s, reply->top.bytes);
    /* One key that is no stream spoils it for all: each is looked at. */
    for (uint32_t i = reply->top.type == TL_RESP_ARRAY ? s->answer.stream_i : 0; i < command->n;
         i++)
        command->streams[i]->check = true;
}

static void end_seek(struct tl_redis_streams *s, struct tl_redis_command *command,
                     const struct tl_resp *reply)
{
    struct tl_redis_stream *stream = command->streams[0];
    if (!stream->seek || stream->dropped)
        return;
    if (command->kind == TL_REDIS_SEEK_INFO) {
        tl_redis_seek_tell(s, stream, s->answer.info.deleted);
        return;
    }
    tl_redis_seek_page(stream->seek, command->count);
    if (reply->top.type == TL_RESP_ERROR)
        stream->seek->ended = true;
}

/* An answer came through: the next may be larger, if they had to be small. */
static void grow_answers(struct tl_redis_streams *s)
{
    size_t more = s->read_bytes + TL_REDIS_READ_BYTES / 64;
    s->read_bytes = more < TL_REDIS_READ_BYTES ? more : TL_REDIS_READ_BYTES;
}

static void on_whole(struct tl_redis_streams *s, struct tl_redis_command *command,
                     const struct tl_resp *reply)
{
    if (s->answer.entries_n > 1)
        grow_answers(s);
    switch (command->kind) {
    case TL_REDIS_ASK_INFO:
        read_run_id(s, reply);
        break;
    case TL_REDIS_ASK_CONFIG:
        tl_redis_streams_looked(s, s->answer.has_bells);
        break;
    case TL_REDIS_ASK_ROLE:
        if (is_replica(reply))
            tl_redis_streams_ring_all(s);
        break;
    case TL_REDIS_READ:
        end_read(s, command, reply);
        break;
    case TL_REDIS_CHECK:
        end_check(s, command, reply);
        break;
    case TL_REDIS_SEEK:
    case TL_REDIS_SEEK_INFO:
        end_seek(s, command, reply);
        break;
    case TL_REDIS_UNBLOCK:
        break;
    }
}

void tl_redis_stream_answered(struct tl_redis_streams *s, struct tl_redis_command *command,
                              const struct tl_resp *reply)
{
    /* MULTI and what it queues are answered by words of their own. */
    if (command->replies_left == 0)
        on_whole(s, command, reply);
    else if (reply->top.type == TL_RESP_ERROR)
        note_error(s, reply->top.bytes);
}
