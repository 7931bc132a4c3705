#include "gateway/asked.h"

#include "base/alloc.h"
#include "base/metrics.h"
#include "proto/url.h"

#include <errno.h>

#define NAME_MAX_BYTES 255

enum item { ITEM_OTHER, ITEM_CHANNEL, ITEM_SINCE };

/* What goes on while the query is read. */
struct reading {
    struct tl_asked *asked;
    struct tl_map by_name;
    size_t max, names_n;
    struct tl_asked_channel *last; /* whose since= may follow */
    bool has_id;                   /* Last-Event-ID, which is newer than what the URL says */
    const char *error;
};

static struct tl_bytes node_key(const struct tl_map_node *node)
{
    return TL_CONTAINER(node, const struct tl_asked_channel, node)->name;
}

static enum item item_of(struct tl_bytes name)
{
    uint8_t text[6];
    size_t n = 0;
    if (tl_url_decode(name, true, text, sizeof text, &n) < 0)
        return ITEM_OTHER;
    struct tl_bytes decoded = tl_bytes(text, n);
    return tl_bytes_eq(decoded, TL_LIT("ch"))      ? ITEM_CHANNEL
           : tl_bytes_eq(decoded, TL_LIT("since")) ? ITEM_SINCE
                                                   : ITEM_OTHER;
}

static size_t count_channels(struct tl_bytes query)
{
    struct tl_bytes name, value;
    size_t n = 0;
    while (tl_url_query_next(&query, &name, &value))
        n += item_of(name) == ITEM_CHANNEL;
    return n;
}

static const char too_many[] = "too many channels on one connection";

static bool fail(struct reading *r, const char *error)
{
    r->error = error;
    return false;
}

static bool add_channel(struct reading *r, struct tl_bytes value)
{
    struct tl_asked *asked = r->asked;
    uint8_t *name = asked->names + r->names_n;
    size_t n = 0;
    if (tl_url_decode(value, true, name, value.n, &n) < 0)
        return fail(r, "bad percent-encoding");
    if (n == 0 || n > NAME_MAX_BYTES)
        return fail(r, n == 0 ? "channel name is empty" : "channel name over 255 bytes");
    struct tl_map_node *node = tl_map_find(&r->by_name, tl_bytes(name, n));
    if (node) {
        r->last = TL_CONTAINER(node, struct tl_asked_channel, node);
        return true;
    }
    if (asked->n == r->max)
        return fail(r, too_many);
    r->last = &asked->channels[asked->n++];
    r->last->name = tl_bytes(name, n);
    r->names_n += n;
    tl_map_add(&r->by_name, &r->last->node);
    return true;
}

static void take_sequence(struct tl_asked *asked, struct tl_bytes text)
{
    asked->resumes = true;
    if (!tl_sequence_parse(text, &asked->since))
        asked->since = (struct tl_sequence){0};
}

static bool add_since(struct reading *r, struct tl_bytes value)
{
    uint8_t text[TL_SEQUENCE_TEXT_MAX];
    size_t n = 0;
    if (tl_url_decode(value, true, text, sizeof text, &n) < 0)
        n = 0; /* neither */
    if (n > 0 && memchr(text, '@', n)) {
        if (!r->has_id && !tl_sequence_is_tag(tl_bytes(text, n)))
            take_sequence(r->asked, tl_bytes(text, n));
        return true;
    }
    if (!r->last)
        return fail(r, "since= stands before every ch=");
    r->last->resumes = true;
    if (!tl_position_parse(tl_bytes(text, n), &r->last->position))
        r->last->position = (struct tl_position){0};
    return true;
}

static bool read_items(struct reading *r, struct tl_bytes query)
{
    struct tl_bytes name, value;
    bool ok = true;
    while (ok && tl_url_query_next(&query, &name, &value)) {
        enum item item = item_of(name);
        if (item == ITEM_CHANNEL)
            ok = add_channel(r, value);
        else if (item == ITEM_SINCE)
            ok = add_since(r, value);
    }
    return ok && (r->asked->n > 0 || fail(r, "no channel is named"));
}

static struct tl_asked *asked_new(struct tl_bytes query, size_t channels_max)
{
    size_t n = count_channels(query);
    if (n > channels_max)
        n = channels_max; /* of which some may be there twice */
    struct tl_asked *asked = tl_zalloc(sizeof *asked + n * sizeof asked->channels[0]);
    if (!asked)
        return NULL;
    asked->names = tl_alloc(query.n + 1);
    if (asked->names)
        return asked;
    tl_free(asked);
    return NULL;
}

struct tl_asked *tl_asked_read(const struct tl_http1_request *request, size_t channels_max,
                               int *ret_status, const char **ret_error, const char **ret_hint)
{
    struct reading r = {.asked = asked_new(request->query, channels_max), .max = channels_max};
    struct tl_bytes id = tl_http1_header(request, "last-event-id");
    if (!r.asked || tl_map_init(&r.by_name, node_key) < 0) {
        tl_metric_add(TL_M_REFUSED_MEMORY, 1);
        tl_asked_free(r.asked);
        *ret_status = 503;
        *ret_error = "out of memory";
        *ret_hint = "try again";
        return NULL;
    }
    r.has_id = id.n > 0 && !tl_sequence_is_tag(id);
    if (r.has_id)
        take_sequence(r.asked, id);
    bool ok = read_items(&r, request->query);
    bool is_full = !ok && r.error == too_many;
    tl_map_deinit(&r.by_name);
    if (ok)
        return r.asked;
    tl_metric_add(TL_M_CHANNELS_REFUSED, is_full);
    tl_asked_free(r.asked);
    *ret_status = 400;
    *ret_error = r.error;
    *ret_hint = is_full ? "see --channels-per-connection"
                        : "as in /sse?ch=tram_5&ch=tram_6, each 1 to 255 bytes; "
                          "a position of one channel follows it, as in ?ch=tram_5&since=POSITION";
    return NULL;
}

void tl_asked_free(struct tl_asked *asked)
{
    if (!asked)
        return;
    tl_free(asked->names);
    tl_free(asked);
}
