/* The event stream as WHATWG's HTML says, over a body that ends with the connection or is chunked.
 */
#include "check.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_LF, CHUNK_BODY, CHUNK_CR, CHUNK_LF };

void sse_open(struct client *c, bool chunked)
{
    if (!c->sse)
        c->sse = must(calloc(1, sizeof *c->sse));
    struct sse *s = c->sse;
    s->chunked = chunked;
    s->skip_lf = s->id_seen = false;
    s->chunk_state = CHUNK_SIZE;
    s->chunk_left = 0;
    s->line.n = s->data.n = 0;
    s->event[0] = 0;
}

void sse_close(struct client *c)
{
    if (!c->sse)
        return;
    bytes_free(&c->sse->line);
    bytes_free(&c->sse->data);
}

static void bad_stream(struct client *c, const char *why)
{
    results.protocol_errors++;
    problem("SSE: %s", why);
    client_failed(c, why);
}

static void dispatch_base64(struct client *c, const char *source)
{
    struct sse *s = c->sse;
    size_t n = s->data.n, pad = 0;
    uint8_t *out = must(malloc(n + 4));
    while (pad < 2 && n > pad && s->data.at[n - 1 - pad] == '=')
        pad++;
    int out_n = EVP_DecodeBlock(out, s->data.at, (int)n);
    if (out_n < 0)
        bad_stream(c, "a base64 event that is none");
    else
        client_check(c, out, (size_t)out_n - pad, false, source);
    free(out);
}

static void dispatch_message(struct client *c)
{
    struct sse *s = c->sse;
    char *mark = strstr(s->event, ";base64"); /* names have their `;` encoded */
    if (!strcmp(s->event, "broker")) {
        results.broker_events++;
    } else if (!strcmp(s->event, "gap")) {
        results.gap_events++;
        c->gap_told = true;
    } else if (!strcmp(s->event, "base64")) {
        dispatch_base64(c, "");
    } else if (mark && c->channel->aggregate) {
        *mark = 0;
        dispatch_base64(c, s->event);
    } else if (!s->event[0] || c->channel->aggregate) {
        client_check(c, s->data.at, s->data.n, true, s->event);
    } else {
        bad_stream(c, "an event of an unknown kind");
    }
}

static void dispatch(struct client *c)
{
    struct sse *s = c->sse;
    if (c->state == STATE_OPENED && s->id_seen)
        client_ready(c);
    if (s->data.n) {
        s->data.n--; /* the last line's LF */
        if (c->state != STATE_LIVE && strcmp(s->event, "broker") != 0)
            bad_stream(c, "an event before the start position");
        else
            dispatch_message(c);
        if (c->state == STATE_LIVE && !s->id_seen && !s->event[0])
            bad_stream(c, "a message without an id");
    }
    s->data.n = 0;
    s->event[0] = 0;
    s->id_seen = false;
}

static void on_line(struct client *c, const uint8_t *line, size_t n)
{
    struct sse *s = c->sse;
    if (n == 0) {
        dispatch(c);
        return;
    }
    const uint8_t *colon = memchr(line, ':', n);
    size_t name_n = colon ? (size_t)(colon - line) : n;
    const uint8_t *value = colon ? colon + 1 : line + n;
    size_t value_n = n - (size_t)(value - line);
    if (value_n && *value == ' ') {
        value++;
        value_n--;
    }
    if (name_n == 4 && !memcmp(line, "data", 4)) {
        bytes_add(&s->data, value, value_n);
        bytes_add(&s->data, "\n", 1);
    } else if (name_n == 5 && !memcmp(line, "event", 5)) {
        snprintf(s->event, sizeof s->event, "%.*s", (int)value_n, (const char *)value);
    } else if (name_n == 2 && !memcmp(line, "id", 2) && !memchr(value, 0, value_n)) {
        snprintf(s->last_id, sizeof s->last_id, "%.*s", (int)value_n, (const char *)value);
        s->id_seen = true;
    }
}

static const uint8_t *line_end(const uint8_t *at, size_t n)
{
    const uint8_t *lf = memchr(at, '\n', n);
    const uint8_t *cr = memchr(at, '\r', lf ? (size_t)(lf - at) : n);
    return cr ? cr : lf;
}

static void body(struct client *c, const uint8_t *at, size_t n)
{
    struct sse *s = c->sse;
    while (n > 0 && c->state != STATE_CLOSED) {
        if (s->skip_lf && *at == '\n') {
            at++;
            n--;
            s->skip_lf = false;
            continue;
        }
        s->skip_lf = false;
        const uint8_t *end = line_end(at, n);
        if (!end) {
            bytes_add(&s->line, at, n);
            return;
        }
        size_t line_n = (size_t)(end - at);
        if (s->line.n) {
            bytes_add(&s->line, at, line_n);
            on_line(c, s->line.at, s->line.n);
            s->line.n = 0;
        } else {
            on_line(c, at, line_n);
        }
        s->skip_lf = *end == '\r';
        at += line_n + 1;
        n -= line_n + 1;
    }
}

static int hex_of(uint8_t b)
{
    return b >= '0' && b <= '9'   ? b - '0'
           : b >= 'a' && b <= 'f' ? b - 'a' + 10
           : b >= 'A' && b <= 'F' ? b - 'A' + 10
                                  : -1;
}

/* One byte of chunk framing; false: it is wrong. */
static bool chunk_byte(struct sse *s, uint8_t b)
{
    switch (s->chunk_state) {
    case CHUNK_SIZE:
        if (hex_of(b) >= 0)
            s->chunk_left = s->chunk_left << 4 | (size_t)hex_of(b);
        else if (b == ';')
            s->chunk_state = CHUNK_EXTENSION;
        else if (b == '\r')
            s->chunk_state = CHUNK_SIZE_LF;
        else
            return false;
        return true;
    case CHUNK_EXTENSION:
        if (b == '\r')
            s->chunk_state = CHUNK_SIZE_LF;
        return true;
    case CHUNK_SIZE_LF:
        s->chunk_state = CHUNK_BODY;
        return b == '\n';
    case CHUNK_CR:
        s->chunk_state = CHUNK_LF;
        return b == '\r';
    case CHUNK_LF:
        s->chunk_state = CHUNK_SIZE;
        return b == '\n';
    default:
        return false;
    }
}

void sse_feed(struct client *c, const uint8_t *bytes, size_t n)
{
    struct sse *s = c->sse;
    if (!s->chunked) {
        body(c, bytes, n);
        return;
    }
    for (size_t i = 0; i < n && c->state != STATE_CLOSED;) {
        if (s->chunk_state != CHUNK_BODY) {
            if (!chunk_byte(s, bytes[i++]))
                bad_stream(c, "bad chunk framing");
            continue;
        }
        size_t take = s->chunk_left < n - i ? s->chunk_left : n - i;
        body(c, bytes + i, take);
        i += take;
        s->chunk_left -= take;
        if (s->chunk_left == 0)
            s->chunk_state = CHUNK_CR;
    }
}
