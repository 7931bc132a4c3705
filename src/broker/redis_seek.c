#include "broker/redis_seek.h"

#include "base/alloc.h"
#include "broker/redis_stream.h"

#define ENTRIES_MIN 64

struct tl_redis_seek *tl_redis_seek_new(struct tl_entry_id from, struct tl_entry_id to,
                                        uint64_t msgs_max, uint64_t bytes_max)
{
    struct tl_redis_seek *seek = tl_zalloc(sizeof *seek);
    if (!seek)
        return NULL;
    seek->from = from;
    seek->to = seek->next = to;
    seek->msgs_max = msgs_max;
    seek->bytes_max = bytes_max;
    return seek;
}

void tl_redis_seek_free(struct tl_redis_seek *seek)
{
    if (!seek)
        return;
    tl_free(seek->entries);
    tl_buf_deinit(&seek->payloads);
    tl_free(seek);
}

static bool grow(struct tl_redis_seek *seek)
{
    if (seek->n < seek->cap)
        return true;
    size_t cap = seek->cap ? seek->cap * 2 : ENTRIES_MIN;
    struct tl_stream_entry *entries = tl_realloc(seek->entries, cap * sizeof *entries);
    if (!entries)
        return false;
    seek->entries = entries;
    seek->cap = cap;
    return true;
}

void tl_redis_seek_add(struct tl_redis_seek *seek, struct tl_entry_id id,
                       const struct tl_bytes *payload)
{
    seek->page_n++;
    if (seek->ended)
        return;
    seek->next = tl_entry_id_before(id);
    /* The very entry that the client has needs no room, and no payload. */
    bool is_from = tl_entry_id_cmp(id, seek->from) == 0;
    bool fits =
        payload && seek->n < seek->msgs_max && seek->bytes_n + payload->n <= seek->bytes_max;
    if (!is_from && !fits) {
        seek->ended = true;
        return;
    }
    seek->ended = is_from;
    if (!grow(seek)) {
        seek->failed = seek->ended = true;
        return;
    }
    size_t at = seek->payloads.n, n = is_from ? 0 : payload->n;
    if (n > 0)
        tl_buf_append(&seek->payloads, *payload);
    seek->failed = seek->failed || seek->payloads.failed;
    seek->bytes_n += n;
    seek->entries[seek->n++] = (struct tl_stream_entry){
        .id = id, .payload = {.p = (const uint8_t *)(uintptr_t)at, .n = n}};
}

void tl_redis_seek_page(struct tl_redis_seek *seek, uint32_t asked)
{
    if (seek->page_n < asked || seek->failed || tl_entry_id_cmp(seek->next, seek->from) < 0)
        seek->ended = true;
    seek->page_n = 0;
}

static void put_in_order(struct tl_redis_seek *seek)
{
    for (size_t i = 0; i < seek->n; i++)
        seek->entries[i].payload.p = seek->payloads.p + (uintptr_t)seek->entries[i].payload.p;
    for (size_t i = 0; i < seek->n / 2; i++) {
        struct tl_stream_entry last = seek->entries[seek->n - 1 - i];
        seek->entries[seek->n - 1 - i] = seek->entries[i];
        seek->entries[i] = last;
    }
}

void tl_redis_seek_tell(struct tl_redis_streams *s, struct tl_redis_stream *stream,
                        struct tl_entry_id known)
{
    struct tl_redis_seek *seek = stream->seek;
    struct tl_stream_range range = {.to = seek->to, .known = known};
    stream->seek = NULL;
    if (!seek->failed && seek->n > 0) {
        put_in_order(seek);
        bool has_from = tl_entry_id_cmp(seek->entries[0].id, seek->from) == 0;
        range.entries = seek->entries + has_from;
        range.n = seek->n - has_from;
        range.before = has_from ? seek->from : tl_entry_id_before(seek->entries[0].id);
    }
    s->broker->events->on_sought(s->broker->hub, tl_redis_stream_name(stream), &range);
    tl_redis_seek_free(seek);
}
