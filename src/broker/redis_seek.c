#include "broker/redis_seek.h"

#include "base/alloc.h"
#include "broker/redis_stream.h"

#define FOUND_MIN 64

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
    tl_free(seek->found);
    tl_buf_deinit(&seek->payloads);
    tl_free(seek);
}

static bool grow(struct tl_redis_seek *seek)
{
    if (seek->n < seek->cap)
        return true;
    size_t cap = seek->cap ? seek->cap * 2 : FOUND_MIN;
    struct tl_redis_found *found = tl_realloc(seek->found, cap * sizeof *found);
    if (!found)
        return false;
    seek->found = found;
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
    seek->found[seek->n++] = (struct tl_redis_found){id, at, n};
}

void tl_redis_seek_page(struct tl_redis_seek *seek, uint32_t asked)
{
    if (seek->page_n < asked || seek->failed || tl_entry_id_cmp(seek->next, seek->from) < 0)
        seek->ended = true;
    seek->page_n = 0;
}

/* What was found, the oldest first, or NULL without memory. Owner: the caller. */
static struct tl_stream_entry *entries_of(const struct tl_redis_seek *seek)
{
    struct tl_stream_entry *entries = tl_alloc(seek->n * sizeof *entries);
    for (size_t i = 0; entries && i < seek->n; i++) {
        const struct tl_redis_found *found = &seek->found[seek->n - 1 - i];
        const void *p = found->n > 0 ? seek->payloads.p + found->at : (const uint8_t *)"";
        entries[i] = (struct tl_stream_entry){found->id, tl_bytes(p, found->n)};
    }
    return entries;
}

void tl_redis_seek_tell(struct tl_redis_streams *s, struct tl_redis_stream *stream,
                        struct tl_entry_id known)
{
    struct tl_redis_seek *seek = stream->seek;
    struct tl_stream_range range = {.to = seek->to, .known = known};
    struct tl_stream_entry *entries = NULL;
    stream->seek = NULL;
    if (!seek->failed && seek->n > 0)
        entries = entries_of(seek);
    if (entries) {
        bool has_from = tl_entry_id_cmp(entries[0].id, seek->from) == 0;
        range.entries = entries + has_from;
        range.n = seek->n - has_from;
        range.before = has_from ? seek->from : tl_entry_id_before(entries[0].id);
    }
    s->broker->events->on_sought(s->broker->hub, tl_redis_stream_name(stream), &range);
    tl_free(entries);
    tl_redis_seek_free(seek);
}
