#include "proto/sse.h"

#include "base/base64.h"
#include "base/utf8.h"

#include <assert.h>
#include <errno.h>

#define BOM      "\xEF\xBB\xBF"
#define BOM_N    3
#define BASE64   "base64"
#define RETRY_MS UINT32_MAX /* a longer wait is this one */

static uint8_t *put(uint8_t *at, struct tl_bytes bytes)
{
    if (bytes.n > 0)
        memcpy(at, bytes.p, bytes.n);
    return at + bytes.n;
}

static bool is_reserved(struct tl_bytes name)
{
#define TL_SSE_IS(s)                                                                               \
    if (tl_bytes_eq(name, TL_LIT(s)))                                                              \
        return true;
    TL_SSE_RESERVED(TL_SSE_IS)
#undef TL_SSE_IS
    return false;
}

/* Bytes of the well-formed character at the start of p, or 0. */
static size_t char_size(struct tl_bytes p)
{
    uint32_t state = 0;

    for (size_t i = 0; i < p.n; i++) {
        if (!tl_utf8_feed(&state, tl_bytes(p.p + i, 1)))
            return 0;
        if (tl_utf8_complete(state))
            return i + 1;
    }
    return 0;
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x7F && c != '%' && c != ';';
}

/* Bytes at the start of the name that go as they are; 0 when the first one must not. */
static size_t plain_size(struct tl_bytes name)
{
    size_t n = 0;

    if (name.p[0] >= 0x80)
        return char_size(name);
    while (n < name.n && is_plain(name.p[n]))
        n++;
    return n;
}

/* Percent-encode; with at == NULL only count. Returns the bytes. */
static size_t encode_name(struct tl_bytes name, bool reserved, uint8_t *at)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t made = 0;

    while (name.n > 0) {
        size_t n = reserved ? 0 : plain_size(name);
        reserved = false;
        if (n == 0) {
            uint8_t c = name.p[0];
            uint8_t coded[] = {'%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
            if (at)
                put(at + made, tl_bytes(coded, sizeof(coded)));
            made += sizeof(coded);
            n = 1;
        } else {
            if (at)
                put(at + made, tl_bytes(name.p, n));
            made += n;
        }
        name = tl_bytes_skip(name, n);
    }
    return made;
}

size_t tl_sse_name_encode(struct tl_bytes name, uint8_t *out)
{
    return encode_name(name, false, out);
}

static bool needs_base64(const struct tl_sse_event *ev)
{
    return !ev->payload_is_text ||
           (ev->payload.n > 0 && memchr(ev->payload.p, '\r', ev->payload.n) != NULL);
}

static size_t lines_of(struct tl_bytes payload)
{
    size_t lines = 1;

    for (size_t i = 0; i < payload.n; i++)
        lines += payload.p[i] == '\n';
    return lines;
}

size_t tl_sse_event_size(const struct tl_sse_event *ev)
{
    bool coded = needs_base64(ev);
    size_t n = 1; /* the empty line */

    if (ev->id.n > 0)
        n += sizeof("id: ") - 1 + encode_name(ev->id, false, NULL) + 1;
    if (ev->event.n > 0)
        n += sizeof("event: ") - 1 + encode_name(ev->event, is_reserved(ev->event), NULL) + 1 +
             (coded ? sizeof(";" BASE64) - 1 : 0);
    else if (coded)
        n += sizeof("event: " BASE64 "\n") - 1;
    if (coded)
        return n + sizeof("data: ") - 1 + tl_base64_size(ev->payload.n) + 1;
    /* The payload's own LFs end all lines but the last. */
    return n + lines_of(ev->payload) * (sizeof("data: ") - 1) + ev->payload.n + 1;
}

static uint8_t *put_id(uint8_t *at, struct tl_bytes id)
{
    if (id.n == 0)
        return at;
    at = put(at, TL_LIT("id: "));
    at += encode_name(id, false, at);
    return put(at, TL_LIT("\n"));
}

static uint8_t *put_name(uint8_t *at, struct tl_bytes name, bool coded)
{
    if (name.n == 0)
        return coded ? put(at, TL_LIT("event: " BASE64 "\n")) : at;
    at = put(at, TL_LIT("event: "));
    at += encode_name(name, is_reserved(name), at);
    if (coded)
        at = put(at, TL_LIT(";" BASE64));
    return put(at, TL_LIT("\n"));
}

static uint8_t *put_lines(uint8_t *at, struct tl_bytes payload)
{
    for (;;) {
        const uint8_t *lf = payload.n > 0 ? memchr(payload.p, '\n', payload.n) : NULL;
        size_t n = lf ? (size_t)(lf - payload.p) : payload.n;
        at = put(put(put(at, TL_LIT("data: ")), tl_bytes(payload.p, n)), TL_LIT("\n"));
        if (!lf)
            return at;
        payload = tl_bytes_skip(payload, n + 1);
    }
}

size_t tl_sse_event_write(const struct tl_sse_event *ev, uint8_t *out)
{
    bool coded = needs_base64(ev);
    uint8_t *at = put_name(put_id(out, ev->id), ev->event, coded);

    if (coded) {
        at = put(at, TL_LIT("data: "));
        tl_base64_encode(ev->payload, at);
        at = put(at + tl_base64_size(ev->payload.n), TL_LIT("\n"));
    } else {
        at = put_lines(at, ev->payload);
    }
    at = put(at, TL_LIT("\n"));
    return (size_t)(at - out);
}

void tl_sse_retry(struct tl_buf *out, uint32_t retry_ms)
{
    tl_buf_printf(out, "retry: %u\n\n", (unsigned)retry_ms);
}

void tl_sse_comment(struct tl_buf *out, const char *text)
{
    assert(strpbrk(text, "\r\n") == NULL);
    tl_buf_str(out, ": ");
    tl_buf_str(out, text);
    tl_buf_str(out, "\n\n");
}

void tl_sse_start(struct tl_buf *out, struct tl_bytes id)
{
    size_t n = sizeof("id: \n\n") - 1 + encode_name(id, false, NULL);

    assert(id.n > 0);
    if (tl_buf_reserve(out, n) < 0)
        return;
    put(put_id(out->p + out->n, id), TL_LIT("\n"));
    out->n += n;
}

void tl_sse_control(struct tl_buf *out, const char *name, struct tl_bytes json)
{
    assert(is_reserved(tl_bytes_str(name)));
    for (size_t i = 0; i < json.n; i++)
        assert(json.p[i] != '\r' && json.p[i] != '\n');
    tl_buf_str(out, "event: ");
    tl_buf_str(out, name);
    tl_buf_str(out, "\ndata: ");
    tl_buf_append(out, json);
    tl_buf_str(out, "\n\n");
}

static int hex_value(uint8_t c)
{
    uint8_t lower = tl_ascii_lower(c);

    if (c >= '0' && c <= '9')
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool tl_sse_name_decode(struct tl_bytes name, uint8_t *out, size_t *ret_n)
{
    size_t n = 0;

    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] != '%') {
            out[n++] = name.p[i];
            continue;
        }
        if (name.n - i < 3 || hex_value(name.p[i + 1]) < 0 || hex_value(name.p[i + 2]) < 0)
            return false;
        out[n++] = (uint8_t)(hex_value(name.p[i + 1]) << 4 | hex_value(name.p[i + 2]));
        i += 2;
    }
    *ret_n = n;
    return true;
}

void tl_sse_parser_init(struct tl_sse_parser *p, size_t bytes_max,
                        void (*on_event)(const struct tl_sse_received *ev, void *arg), void *arg)
{
    *p = (struct tl_sse_parser){.on_event = on_event, .arg = arg, .bytes_max = bytes_max};
}

void tl_sse_parser_deinit(struct tl_sse_parser *p)
{
    if (!p)
        return;
    tl_buf_deinit(&p->id);
    tl_buf_deinit(&p->next_id);
    tl_buf_deinit(&p->event);
    tl_buf_deinit(&p->data);
    tl_buf_deinit(&p->line);
}

static bool refuse(struct tl_sse_parser *p, const char *reason)
{
    p->reason = reason;
    return false;
}

static bool append(struct tl_sse_parser *p, struct tl_buf *to, struct tl_bytes bytes)
{
    size_t held = p->id.n + p->next_id.n + p->event.n + p->data.n + p->line.n;

    if (bytes.n > p->bytes_max - held)
        return refuse(p, "event is too big");
    tl_buf_append(to, bytes);
    return to->failed ? refuse(p, "out of memory") : true;
}

/* Digits only, or the field is ignored. */
static void set_retry(struct tl_sse_parser *p, struct tl_bytes value)
{
    uint64_t ms = 0;

    if (value.n == 0)
        return;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return;
        ms = ms * 10 + (value.p[i] - (uint64_t)'0');
        if (ms > RETRY_MS)
            ms = RETRY_MS;
    }
    p->retry_ms = (uint32_t)ms;
}

/* The line moves into its field, so its bytes are not counted twice. */
static bool take_field(struct tl_sse_parser *p, struct tl_bytes field, struct tl_bytes value)
{
    p->line.n = 0;
    if (tl_bytes_eq(field, TL_LIT("data")))
        return append(p, &p->data, value) && append(p, &p->data, TL_LIT("\n"));
    if (tl_bytes_eq(field, TL_LIT("event"))) {
        p->event.n = 0;
        return append(p, &p->event, value);
    }
    if (tl_bytes_eq(field, TL_LIT("id"))) {
        if (value.n > 0 && memchr(value.p, 0, value.n))
            return true;
        p->next_id.n = 0;
        p->changes_id = true;
        return append(p, &p->next_id, value);
    }
    if (tl_bytes_eq(field, TL_LIT("retry")))
        set_retry(p, value);
    return true;
}

static void dispatch(struct tl_sse_parser *p)
{
    if (p->changes_id) {
        struct tl_buf old = p->id;
        p->id = p->next_id;
        p->next_id = old;
        p->next_id.n = 0;
        p->changes_id = false;
    }
    if (p->data.n > 0) {
        struct tl_sse_received ev = {
            .id = tl_buf_bytes(&p->id),
            .event = tl_buf_bytes(&p->event),
            .data = tl_bytes(p->data.p, p->data.n - 1), /* without the last LF */
        };
        p->on_event(&ev, p->arg);
    }
    p->event.n = 0;
    p->data.n = 0;
}

static bool end_line(struct tl_sse_parser *p)
{
    struct tl_bytes line = tl_buf_bytes(&p->line);

    if (line.n == 0) {
        dispatch(p);
        return true;
    }
    const uint8_t *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return take_field(p, line, tl_bytes(line.p + line.n, 0));
    struct tl_bytes field = tl_bytes(line.p, (size_t)(colon - line.p));
    struct tl_bytes value = tl_bytes_skip(line, field.n + 1);
    if (value.n > 0 && value.p[0] == ' ')
        value = tl_bytes_skip(value, 1);
    return take_field(p, field, value); /* a comment is a field without a name */
}

/* At the very start: skip a BOM, or give back what looked like the beginning of one. */
static bool skip_bom(struct tl_sse_parser *p, struct tl_bytes *bytes)
{
    while (bytes->n > 0 && p->bom_n < BOM_N) {
        if (bytes->p[0] != (uint8_t)BOM[p->bom_n]) {
            size_t seen = p->bom_n;
            p->bom_n = BOM_N;
            return append(p, &p->line, tl_bytes(BOM, seen));
        }
        p->bom_n++;
        *bytes = tl_bytes_skip(*bytes, 1);
    }
    return true;
}

static size_t find_line_end(struct tl_bytes bytes)
{
    size_t n = 0;

    while (n < bytes.n && bytes.p[n] != '\n' && bytes.p[n] != '\r')
        n++;
    return n;
}

enum tl_parse tl_sse_parse(struct tl_sse_parser *p, struct tl_bytes bytes)
{
    if (p->reason || !skip_bom(p, &bytes))
        return TL_PARSE_BAD;
    while (bytes.n > 0) {
        if (p->after_cr && bytes.p[0] == '\n') {
            p->after_cr = false;
            bytes = tl_bytes_skip(bytes, 1);
            continue;
        }
        p->after_cr = false;
        size_t n = find_line_end(bytes);
        if (!append(p, &p->line, tl_bytes(bytes.p, n)))
            return TL_PARSE_BAD;
        if (n == bytes.n)
            break;
        p->after_cr = bytes.p[n] == '\r';
        bytes = tl_bytes_skip(bytes, n + 1);
        if (!end_line(p))
            return TL_PARSE_BAD;
    }
    return TL_PARSE_MORE;
}

static int decode_payload(struct tl_bytes data, bool coded, struct tl_buf *payload)
{
    size_t n = data.n;

    if (tl_buf_reserve(payload, data.n + 1) < 0)
        return -ENOMEM;
    if (!coded)
        put(payload->p + payload->n, data);
    else if (!tl_base64_decode(data, payload->p + payload->n, &n))
        return -EBADMSG;
    payload->n += n;
    return 0;
}

int tl_sse_decode(const struct tl_sse_received *ev, struct tl_buf *name, struct tl_buf *payload)
{
    struct tl_bytes event = ev->event;
    const uint8_t *semicolon = event.n > 0 ? memchr(event.p, ';', event.n) : NULL;
    bool coded = semicolon != NULL;
    size_t n = 0;

    if (semicolon) {
        size_t name_n = (size_t)(semicolon - event.p);
        if (name_n == 0 || !tl_bytes_eq(tl_bytes_skip(event, name_n), TL_LIT(";" BASE64)))
            return -EBADMSG;
        event.n = name_n;
    } else if (tl_bytes_eq(event, TL_LIT(BASE64))) {
        coded = true;
        event.n = 0;
    }
    if (is_reserved(event))
        return -EBADMSG;
    if (tl_buf_reserve(name, event.n + 1) < 0)
        return -ENOMEM;
    if (!tl_sse_name_decode(event, name->p + name->n, &n))
        return -EBADMSG;
    int r = decode_payload(ev->data, coded, payload);
    if (r == 0)
        name->n += n;
    return r;
}
