#include "proto/resp.h"

/* A buffer above this is given back once its reply was used. */
#define BUF_KEEP (1 << 20)

enum { AT_LINE, AT_BODY, AT_SKIP, AT_CR, AT_LF, BROKEN };

/* What a step of the machine says. */
enum step { STEP_ON, STEP_MORE, STEP_DONE, STEP_BAD };

static enum step bad(struct tl_resp *r, const char *reason)
{
    r->reason = reason;
    r->state = BROKEN;
    return STEP_BAD;
}

void tl_resp_init(struct tl_resp *r, const struct tl_resp_limits *limits)
{
    *r = (struct tl_resp){.limits = *limits, .fresh = true};
}

void tl_resp_reset(struct tl_resp *r)
{
    tl_buf_deinit(&r->buf);
    struct tl_resp_limits limits = r->limits;
    tl_resp_visit *visit = r->visit;
    void *visit_arg = r->visit_arg;
    tl_resp_init(r, &limits);
    r->visit = visit;
    r->visit_arg = visit_arg;
}

bool tl_resp_is(const struct tl_resp_value *value, const char *text)
{
    bool is_text = value->type == TL_RESP_STRING || value->type == TL_RESP_STATUS;
    return is_text && !value->oversize && tl_bytes_eq(value->bytes, tl_bytes_str(text));
}

/* Forget the last reply. */
static void begin(struct tl_resp *r)
{
    if (r->buf.cap > BUF_KEEP)
        tl_buf_deinit(&r->buf);
    r->buf.n = 0;
    r->buffered = false;
    r->token = r->token_n = r->kept_bytes = 0;
    r->values_n = r->elements = 0;
    r->depth = 0;
    r->state = AT_LINE;
    r->top = (struct tl_resp_value){0};
}

static struct tl_resp_value *slot_value(struct tl_resp *r, int slot)
{
    return slot == 0 ? &r->top : &r->values[slot - 1];
}

/* The slot of the value that begins here, or -1 when it is not kept. */
static int open_slot(struct tl_resp *r, enum tl_resp_type type)
{
    int slot;
    if (r->depth == 0)
        slot = 0;
    else if (r->visit)
        slot = (int)(r->values_n = 1); /* the last one was told already */
    else if (r->depth == 1 && !r->frames[0].attribute && r->values_n < TL_RESP_VALUES_MAX)
        slot = (int)++r->values_n;
    else
        return -1;
    *slot_value(r, slot) = (struct tl_resp_value){.type = type};
    r->offsets[slot] = 0;
    return slot;
}

static enum step expect_line(struct tl_resp *r)
{
    r->state = AT_LINE;
    r->token = r->buffered ? r->buf.n : r->pos;
    r->token_n = 0;
    return STEP_ON;
}

/* Tell of the value that ended, or of the aggregate that began, and keep nothing of it. */
static void tell(struct tl_resp *r, unsigned depth)
{
    struct tl_resp_value *value = &r->values[0];
    if (!r->visit || r->values_n == 0)
        return;
    if (!value->oversize)
        value->bytes.p =
            value->bytes.n ? (r->buffered ? r->buf.p : r->in.p) + r->offsets[1] : (uint8_t *)"";
    r->visit(r->visit_arg, depth, value);
    if (r->buffered && !value->oversize && value->bytes.n > 0)
        r->buf.n = r->offsets[1];
    r->kept_bytes = 0;
    r->values_n = 0;
}

/* A value ended: so do the aggregates whose last one it was. */
static enum step close_value(struct tl_resp *r)
{
    tell(r, r->depth);
    while (r->depth > 0) {
        struct tl_resp_frame *frame = &r->frames[r->depth - 1];
        if (--frame->left > 0)
            return expect_line(r);
        r->depth--;
        if (frame->attribute) /* what it describes comes now */
            return expect_line(r);
    }
    return STEP_DONE;
}

/* A text of n bytes may be kept: its slot is real and the limits allow it. */
static bool keeps(struct tl_resp *r, int slot, size_t n)
{
    if (slot < 0)
        return false;
    if (n <= r->limits.bulk_bytes_max && r->kept_bytes <= r->limits.reply_bytes_max &&
        n <= r->limits.reply_bytes_max - r->kept_bytes)
        return true;
    struct tl_resp_value *value = slot_value(r, slot);
    value->oversize = true;
    value->bytes = tl_bytes(NULL, n);
    return false;
}

/* Drop the token that was read from the buffer: nothing of it is kept. */
static void drop_token(struct tl_resp *r)
{
    if (r->buffered)
        r->buf.n = r->token;
}

/* The text of n bytes at `offset` (of buf or in) fills the slot. */
static void keep_text(struct tl_resp *r, int slot, size_t offset, size_t n)
{
    r->offsets[slot] = offset;
    slot_value(r, slot)->bytes.n = n;
    r->kept_bytes += n;
}

static enum step text_line(struct tl_resp *r, enum tl_resp_type type, struct tl_bytes text)
{
    int slot = open_slot(r, type);
    if (keeps(r, slot, text.n))
        keep_text(r, slot, r->token + 1, text.n);
    else
        drop_token(r);
    return close_value(r);
}

/* Strict: what Redis prints, no plus, no leading zeros. */
static bool read_int(struct tl_bytes text, int64_t *ret_value)
{
    bool minus = text.n > 0 && text.p[0] == '-';
    if (minus)
        text = tl_bytes_skip(text, 1);
    if (text.n == 0 || text.n > 19 || (text.p[0] == '0' && (text.n > 1 || minus)))
        return false;
    uint64_t v = 0; /* 19 digits fit */
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(text.p[i] - '0');
    }
    if (v > (uint64_t)INT64_MAX + minus)
        return false;
    *ret_value = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static enum step number_line(struct tl_resp *r, enum tl_resp_type type, int64_t value)
{
    drop_token(r);
    int slot = open_slot(r, type);
    if (slot >= 0)
        slot_value(r, slot)->integer = value;
    return close_value(r);
}

static enum step integer_line(struct tl_resp *r, struct tl_bytes text)
{
    int64_t value;
    if (!read_int(text, &value))
        return bad(r, "a bad integer");
    return number_line(r, TL_RESP_INTEGER, value);
}

static enum step bool_line(struct tl_resp *r, struct tl_bytes text)
{
    if (text.n != 1 || (text.p[0] != 't' && text.p[0] != 'f'))
        return bad(r, "a bad boolean");
    return number_line(r, TL_RESP_BOOL, text.p[0] == 't');
}

static enum step nil_line(struct tl_resp *r, struct tl_bytes text)
{
    if (text.n != 0)
        return bad(r, "a bad null");
    return number_line(r, TL_RESP_NIL, 0);
}

static enum step bulk_line(struct tl_resp *r, enum tl_resp_type type, struct tl_bytes text)
{
    int64_t n;
    if (!read_int(text, &n) || n < -1 || (n == -1 && type != TL_RESP_STRING))
        return bad(r, "a bad bulk length");
    if (n > TL_RESP_SKIP_MAX)
        return bad(r, "an absurd bulk length");
    if (n == -1)
        return number_line(r, TL_RESP_NIL, 0);
    drop_token(r);
    r->slot = open_slot(r, type);
    r->left = (uint64_t)n;
    r->state = keeps(r, r->slot, (size_t)n) ? AT_BODY : AT_SKIP;
    r->token = r->buffered ? r->buf.n : r->pos;
    r->token_n = (size_t)n;
    return STEP_ON;
}

/* each: values an element has, 2 in maps. */
static enum step aggregate_line(struct tl_resp *r, enum tl_resp_type type, struct tl_bytes text,
                                unsigned each, bool attribute)
{
    int64_t n;
    if (r->depth == TL_RESP_DEPTH_MAX)
        return bad(r, "nested too deeply");
    if (!read_int(text, &n) || n < -1 || (n == -1 && type != TL_RESP_ARRAY))
        return bad(r, "a bad element count");
    if (n == -1)
        return number_line(r, TL_RESP_NIL, 0);
    if (n > (r->limits.elements_max - r->elements) / each)
        return bad(r, "too many elements");
    r->elements += (uint32_t)n * each;
    drop_token(r);
    if (!attribute) {
        int slot = open_slot(r, type);
        if (slot >= 0)
            slot_value(r, slot)->integer = n * each;
    }
    if (n == 0)
        return attribute ? expect_line(r) : close_value(r);
    tell(r, r->depth);
    r->frames[r->depth++] = (struct tl_resp_frame){(uint32_t)n * each, attribute};
    return expect_line(r);
}

static bool is_type(uint8_t c, bool resp3)
{
    return c != 0 && strchr(resp3 ? "+-:$*_,#!=(%~>|" : "+-:$*", c);
}

/* A whole line, without its CRLF. */
static enum step read_line(struct tl_resp *r, struct tl_bytes line)
{
    struct tl_bytes text = tl_bytes_skip(line, 1);
    switch (line.p[0]) {
    case '+':
        return text_line(r, TL_RESP_STATUS, text);
    case '-':
        return text_line(r, TL_RESP_ERROR, text);
    case ':':
        return integer_line(r, text);
    case '$':
        return bulk_line(r, TL_RESP_STRING, text);
    case '*':
        return aggregate_line(r, TL_RESP_ARRAY, text, 1, false);
    case '_':
        return nil_line(r, text);
    case ',':
        return text_line(r, TL_RESP_DOUBLE, text);
    case '#':
        return bool_line(r, text);
    case '!':
        return bulk_line(r, TL_RESP_ERROR, text);
    case '=':
        return bulk_line(r, TL_RESP_VERBATIM, text);
    case '(':
        return text_line(r, TL_RESP_BIGNUM, text);
    case '%':
        return aggregate_line(r, TL_RESP_MAP, text, 2, false);
    case '~':
        return aggregate_line(r, TL_RESP_SET, text, 1, false);
    case '>':
        return aggregate_line(r, TL_RESP_PUSH, text, 1, false);
    default: /* '|', the last that is_type() lets pass */
        return aggregate_line(r, TL_RESP_MAP, text, 2, true);
    }
}

/* Take n bytes of the input into the token. */
static bool take(struct tl_resp *r, size_t n)
{
    if (r->buffered)
        tl_buf_append(&r->buf, tl_bytes(r->in.p + r->pos, n));
    r->pos += n;
    return !r->buf.failed;
}

static enum step step_line(struct tl_resp *r)
{
    for (;;) {
        const uint8_t *rest = r->in.p + r->pos;
        size_t rest_n = r->in.n - r->pos;
        if (rest_n == 0)
            return STEP_MORE;
        if (r->token_n == 0 && !is_type(rest[0], r->limits.resp3))
            return bad(r, "not a RESP type");
        const uint8_t *lf = memchr(rest, '\n', rest_n);
        size_t n = lf ? (size_t)(lf - rest) + 1 : rest_n;
        if (n > TL_RESP_LINE_MAX - r->token_n)
            return bad(r, "an endless line");
        if (!take(r, n))
            return bad(r, "no memory");
        r->token_n += n;
        const uint8_t *line = (r->buffered ? r->buf.p : r->in.p) + r->token;
        if (lf && r->token_n >= 3 && line[r->token_n - 2] == '\r')
            return read_line(r, tl_bytes(line, r->token_n - 2));
    }
}

static enum step step_body(struct tl_resp *r)
{
    size_t n = r->in.n - r->pos;
    if (n > r->left)
        n = (size_t)r->left;
    if (r->state == AT_SKIP)
        r->pos += n;
    else if (!take(r, n))
        return bad(r, "no memory");
    r->left -= n;
    if (r->left > 0)
        return STEP_MORE;
    if (r->state == AT_BODY)
        keep_text(r, r->slot, r->token, r->token_n);
    r->state = AT_CR;
    return STEP_ON;
}

static enum step step_end(struct tl_resp *r)
{
    if (r->pos == r->in.n)
        return STEP_MORE;
    if (r->in.p[r->pos++] != (r->state == AT_CR ? '\r' : '\n'))
        return bad(r, "a bulk without its end");
    if (r->state == AT_LF)
        return close_value(r);
    r->state = AT_LF;
    return STEP_ON;
}

static enum step step(struct tl_resp *r)
{
    switch (r->state) {
    case AT_LINE:
        return step_line(r);
    case AT_BODY:
    case AT_SKIP:
        return step_body(r);
    case AT_CR:
    case AT_LF:
        return step_end(r);
    default:
        return STEP_BAD;
    }
}

/* The input ends within a reply: move what is kept of it to the buffer. */
static enum step gather(struct tl_resp *r)
{
    if (r->buffered)
        return STEP_MORE;
    for (int i = 0; i <= (int)r->values_n; i++) {
        size_t n = slot_value(r, i)->oversize ? 0 : slot_value(r, i)->bytes.n;
        size_t offset = r->offsets[i];
        r->offsets[i] = r->buf.n;
        if (n > 0)
            tl_buf_append(&r->buf, tl_bytes(r->in.p + offset, n));
    }
    if (r->state == AT_LINE || r->state == AT_BODY) {
        struct tl_bytes part = tl_bytes(r->in.p + r->token, r->pos - r->token);
        r->token = r->buf.n;
        tl_buf_append(&r->buf, part);
    }
    r->buffered = true;
    return r->buf.failed ? bad(r, "no memory") : STEP_MORE;
}

static void point(struct tl_resp *r)
{
    const uint8_t *base = r->buffered ? r->buf.p : r->in.p;
    for (int i = 0; i <= (int)r->values_n; i++) {
        struct tl_resp_value *value = slot_value(r, i);
        if (!value->oversize)
            value->bytes.p = value->bytes.n ? base + r->offsets[i] : (const uint8_t *)"";
    }
}

enum tl_parse tl_resp_push(struct tl_resp *r, struct tl_bytes in, size_t *ret_used)
{
    enum step said = STEP_ON;
    *ret_used = 0;
    if (in.n == 0)
        return r->state == BROKEN ? TL_PARSE_BAD : TL_PARSE_MORE;
    if (r->fresh && r->state != BROKEN)
        begin(r);
    r->fresh = false;
    r->in = in;
    r->pos = 0;
    while (said == STEP_ON)
        said = step(r);
    if (said == STEP_MORE)
        said = gather(r);
    *ret_used = r->pos;
    if (said == STEP_BAD)
        return TL_PARSE_BAD;
    if (said == STEP_MORE)
        return TL_PARSE_MORE;
    point(r);
    r->fresh = true;
    return TL_PARSE_DONE;
}
