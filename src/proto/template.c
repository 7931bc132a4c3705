#include "proto/template.h"

#include "proto/url.h"

#include <errno.h>

#define PARAM_NAME_MAX 32

static bool is_param_name(struct tl_bytes name)
{
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = tl_ascii_lower(name.p[i]);
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_')
            return false;
    }
    return name.n > 0 && name.n <= PARAM_NAME_MAX;
}

static struct tl_bytes part_bytes(const struct tl_template_text *text, struct tl_template_part part)
{
    return tl_bytes(text->bytes + part.off, part.n);
}

static int find_param(const struct tl_template *t, struct tl_bytes name)
{
    for (int i = 0; i < t->params_n; i++)
        if (tl_bytes_eq(part_bytes(&t->path, t->params[i]), name))
            return i;
    return -1;
}

/*
 * Cut the text into literals and parameters, these still without an index: `param` is 0 for a
 * parameter. Returns an error text or NULL.
 */
static const char *split(struct tl_template_text *text, struct tl_bytes from)
{
    if (from.n == 0 || from.n > TL_TEMPLATE_TEXT_MAX)
        return "the path and the channel must have 1 to 255 bytes";
    memcpy(text->bytes, from.p, from.n);
    text->parts_n = 0;
    for (size_t i = 0; i < from.n;) {
        bool is_param = from.p[i] == '{';
        size_t start = i + is_param, end = start;
        while (end < from.n && from.p[end] != '{' && from.p[end] != '}')
            end++;
        bool closed = end < from.n && from.p[end] == '}';
        if (is_param && !closed)
            return "a { is not closed";
        if (!is_param && closed)
            return "a } has no {";
        if (is_param && !is_param_name(tl_bytes(from.p + start, end - start)))
            return "a parameter's name must be 1 to 32 letters, digits or underscores";
        if (text->parts_n == TL_TEMPLATE_PARTS_MAX)
            return "there are too many parameters";
        text->parts[text->parts_n++] = (struct tl_template_part){
            .off = (uint8_t)start, .n = (uint8_t)(end - start), .param = is_param ? 0 : -1};
        i = end + is_param;
    }
    return NULL;
}

static const char *compile_path(struct tl_template *t, struct tl_bytes path)
{
    if (path.n == 0 || path.p[0] != '/')
        return "the path must begin with /";
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] <= ' ' || path.p[i] == 0x7f || path.p[i] == '%' || path.p[i] == '?' ||
            path.p[i] == '#')
            return "the path must be written decoded, without spaces, %, ? and #";
    const char *error = split(&t->path, path);
    if (error)
        return error;
    for (int i = 0; i < t->path.parts_n; i++) {
        struct tl_template_part *part = &t->path.parts[i];
        if (part->param < 0)
            continue;
        if (t->path.parts[i - 1].param >= 0) /* part 0 is a literal: it begins with '/' */
            return "two parameters side by side cannot be told apart";
        if (find_param(t, part_bytes(&t->path, *part)) >= 0)
            return "a parameter's name is used twice in the path";
        if (t->params_n == TL_TEMPLATE_PARAMS_MAX)
            return "there are too many parameters";
        part->param = (int8_t)t->params_n;
        t->params[t->params_n++] = *part;
    }
    return NULL;
}

static const char *compile_channel(struct tl_template *t, struct tl_bytes channel)
{
    const char *error = split(&t->channel, channel);
    if (error)
        return error;
    for (int i = 0; i < t->channel.parts_n; i++) {
        struct tl_template_part *part = &t->channel.parts[i];
        if (part->param < 0)
            continue;
        int param = find_param(t, part_bytes(&t->channel, *part));
        if (param < 0)
            return "the channel uses a parameter that the path does not have";
        part->param = (int8_t)param;
    }
    return NULL;
}

int tl_template_compile(struct tl_template *t, struct tl_bytes path, struct tl_bytes channel,
                        const char **ret_error)
{
    *t = (struct tl_template){0};
    const char *error = compile_path(t, path);
    if (!error)
        error = compile_channel(t, channel);
    if (!error)
        return 0;
    *ret_error = error;
    return -EINVAL;
}

/* How many raw bytes make the next byte of a path: 3 for an escape, else 1. raw.n > 0. */
static size_t unit(struct tl_bytes raw, uint8_t *ret_byte)
{
    size_t n;
    if (raw.p[0] == '%' && raw.n >= 3 &&
        tl_url_decode(tl_bytes(raw.p, 3), false, ret_byte, 1, &n) == 0)
        return 3;
    *ret_byte = raw.p[0];
    return 1;
}

/* The raw path at `at` reads as the literal: its end in *ret_end. An escaped '/' is no '/'. */
static bool match_literal(struct tl_bytes raw, size_t at, struct tl_bytes literal, size_t *ret_end)
{
    for (size_t i = 0; i < literal.n; i++) {
        uint8_t c;
        if (at == raw.n)
            return false;
        if (raw.p[at] == literal.p[i] && raw.p[at] != '%') { /* what nearly all bytes are */
            at++;
            continue;
        }
        if (raw.p[at] != '%')
            return false;
        size_t n = unit(tl_bytes_skip(raw, at), &c);
        if (c != literal.p[i] || (c == '/' && n != 1))
            return false;
        at += n;
    }
    *ret_end = at;
    return true;
}

/*
 * Let a parameter begin at *at, and take as few bytes of the segment as let the literal behind it
 * match (`last`: match up to the path's end). Within a segment the leftmost literal leaves the most
 * for what follows, so there is nothing to go back to.
 */
static bool match_param(struct tl_bytes raw, size_t *at, struct tl_bytes literal, bool last,
                        struct tl_bytes *ret_value)
{
    uint8_t c;
    size_t start = *at, end = start, next;
    if (literal.n == 0 && last) { /* all the rest, if that is one segment */
        *at = raw.n;
        *ret_value = tl_bytes_skip(raw, start);
        return ret_value->n > 0 && !memchr(ret_value->p, '/', ret_value->n);
    }
    while (end < raw.n && raw.p[end] != '/') {
        end += unit(tl_bytes_skip(raw, end), &c);
        if (match_literal(raw, end, literal, &next) && (!last || next == raw.n)) {
            *ret_value = tl_bytes(raw.p + start, end - start);
            *at = next;
            return true;
        }
    }
    return false;
}

static enum tl_template_result match_path(const struct tl_template *t, struct tl_bytes raw,
                                          struct tl_bytes values[TL_TEMPLATE_PARAMS_MAX])
{
    const struct tl_template_text *path = &t->path;
    size_t at = 0;
    if (!match_literal(raw, 0, part_bytes(path, path->parts[0]), &at))
        return TL_TEMPLATE_NO_MATCH;
    for (int i = 1; i < path->parts_n; i += 2) { /* parameters and literals take turns */
        bool trailing = i + 1 == path->parts_n;
        struct tl_bytes literal =
            trailing ? tl_bytes(NULL, 0) : part_bytes(path, path->parts[i + 1]);
        if (trailing && at == raw.n)
            return TL_TEMPLATE_NAME_EMPTY;
        if (!match_param(raw, &at, literal, i + 2 >= path->parts_n, &values[path->parts[i].param]))
            return TL_TEMPLATE_NO_MATCH;
    }
    return at == raw.n ? TL_TEMPLATE_MATCH : TL_TEMPLATE_NO_MATCH;
}

enum tl_template_result tl_template_match(const struct tl_template *t, struct tl_bytes raw_path,
                                          uint8_t out[TL_TEMPLATE_NAME_MAX], size_t *ret_n)
{
    struct tl_bytes values[TL_TEMPLATE_PARAMS_MAX];
    enum tl_template_result r = match_path(t, raw_path, values);
    size_t used = 0;
    for (int i = 0; r == TL_TEMPLATE_MATCH && i < t->channel.parts_n; i++) {
        struct tl_template_part part = t->channel.parts[i];
        size_t room = TL_TEMPLATE_NAME_MAX - used, n = part.n;
        int err = 0;
        if (part.param >= 0)
            err = tl_url_decode(values[part.param], false, out + used, room, &n);
        else if (n <= room)
            memcpy(out + used, t->channel.bytes + part.off, n);
        else
            err = -ENOSPC;
        if (err < 0)
            r = err == -ENOSPC ? TL_TEMPLATE_NAME_TOO_LONG : TL_TEMPLATE_BAD_ENCODING;
        else
            used += n;
    }
    if (r == TL_TEMPLATE_MATCH)
        *ret_n = used;
    return r;
}
