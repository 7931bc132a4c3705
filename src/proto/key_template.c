#include "proto/key_template.h"

#include "base/glob.h"

#include <errno.h>

#define PLACE_NAME_MAX 32

enum { LITERAL = -2, WHOLE = -1 };

static bool is_name_byte(uint8_t byte)
{
    uint8_t c = tl_ascii_lower(byte);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* The name of the place that the text begins with, empty if it is none. */
static struct tl_bytes place_name(struct tl_bytes text)
{
    size_t n = 1;
    if (text.n == 0 || text.p[0] != '{')
        return tl_bytes(NULL, 0);
    while (n < text.n && is_name_byte(text.p[n]))
        n++;
    bool is_place = n < text.n && text.p[n] == '}' && n > 1 && n - 1 <= PLACE_NAME_MAX;
    return is_place ? tl_bytes(text.p + 1, n - 1) : tl_bytes(NULL, 0);
}

static int find_place(const struct tl_key_template *t, struct tl_bytes name)
{
    for (int i = 0; i < t->places_n; i++)
        if (tl_bytes_eq(tl_bytes(t->names + t->places[i].name_at, t->places[i].name_n), name))
            return i;
    return -1;
}

/* ---- the pattern ---- */

static const char *add_place(struct tl_key_template *t, struct tl_bytes name, size_t *names_n)
{
    if (tl_bytes_eq(name, TL_LIT("channel")))
        return "{channel} is the whole name; call a place of the pattern otherwise";
    if (find_place(t, name) >= 0)
        return "a place's name is used twice in the pattern";
    if (t->places_n == TL_KEY_TEMPLATE_PLACES_MAX)
        return "there are too many places";
    t->places[t->places_n].star = t->glob_n;
    t->places[t->places_n].name_at = (uint8_t)*names_n;
    t->places[t->places_n].name_n = (uint8_t)name.n;
    t->places_n++;
    memcpy(t->names + *names_n, name.p, name.n);
    *names_n += name.n;
    t->glob[t->glob_n++] = '*';
    return NULL;
}

static const char *compile_pattern(struct tl_key_template *t, struct tl_bytes pattern)
{
    size_t names_n = 0;
    bool after_star = false, after_place = false;
    if (pattern.n == 0 || pattern.n > TL_KEY_TEMPLATE_TEXT_MAX)
        return "its pattern has 1 to 255 bytes";
    for (size_t i = 0; i < pattern.n;) {
        struct tl_bytes name = place_name(tl_bytes_skip(pattern, i));
        bool is_place = name.n > 0, is_star = !is_place && pattern.p[i] == '*';
        if ((is_place && after_star) || (after_place && (is_place || is_star)))
            return "places or stars side by side cannot be told apart";
        after_place = is_place;
        after_star = is_star;
        if (is_place) {
            const char *error = add_place(t, name, &names_n);
            if (error)
                return error;
            i += name.n + 2;
            continue;
        }
        size_t n = pattern.p[i] == '\\' && i + 1 < pattern.n ? 2 : 1;
        memcpy(t->glob + t->glob_n, pattern.p + i, n);
        t->glob_n = (uint8_t)(t->glob_n + n);
        i += n;
    }
    return NULL;
}

/* ---- the template ---- */

static const char *add_part(struct tl_key_template *t, struct tl_key_template_part part)
{
    if (t->parts_n == TL_KEY_TEMPLATE_PARTS_MAX)
        return "there are too many places";
    t->parts[t->parts_n++] = part;
    return NULL;
}

static const char *add_literal(struct tl_key_template *t, uint8_t byte, size_t *text_n)
{
    struct tl_key_template_part *last = t->parts_n > 0 ? &t->parts[t->parts_n - 1] : NULL;
    t->text[*text_n] = byte;
    (*text_n)++;
    if (last && last->place == LITERAL) {
        last->n++;
        return NULL;
    }
    return add_part(t, (struct tl_key_template_part){(uint8_t)(*text_n - 1), 1, LITERAL});
}

static const char *add_value(struct tl_key_template *t, struct tl_bytes name)
{
    int place = tl_bytes_eq(name, TL_LIT("channel")) ? WHOLE : find_place(t, name);
    if (place < 0 && !tl_bytes_eq(name, TL_LIT("channel")))
        return "the key uses a place that the pattern does not have; write 'tram_{id}: "
               "snapshot=key:tram_{id}:last', or {channel} for the whole name";
    return add_part(t, (struct tl_key_template_part){0, 0, (int8_t)place});
}

static const char *compile_text(struct tl_key_template *t, struct tl_bytes text)
{
    size_t text_n = 0;
    const char *error = NULL;
    if (text.n > TL_KEY_TEMPLATE_TEXT_MAX)
        return "the key has at most 255 bytes";
    for (size_t i = 0; i < text.n && !error;) {
        struct tl_bytes name = place_name(tl_bytes_skip(text, i));
        if (name.n > 0) {
            error = add_value(t, name);
            i += name.n + 2;
            continue;
        }
        bool escaped = text.p[i] == '\\' && i + 1 < text.n;
        if (!escaped && (text.p[i] == '{' || text.p[i] == '}'))
            return "a brace in the key that is no {place} is written \\{ or \\}";
        error = add_literal(t, text.p[i + escaped], &text_n);
        i += 1 + (size_t)escaped;
    }
    return error;
}

int tl_key_template_compile(struct tl_key_template *t, struct tl_bytes pattern,
                            struct tl_bytes text, const char **ret_error)
{
    *t = (struct tl_key_template){0};
    const char *error = compile_pattern(t, pattern);
    if (!error)
        error = compile_text(t, text);
    if (!error)
        return 0;
    *ret_error = error;
    return -EINVAL;
}

/* ---- channels ---- */

/* An empty text matches stars too, unlike for Redis. */
static bool matches(struct tl_bytes glob, struct tl_bytes text)
{
    if (text.n > 0)
        return tl_glob_match(glob, text);
    for (size_t i = 0; i < glob.n; i++)
        if (glob.p[i] != '*')
            return false;
    return true;
}

/* Cut the name at the places, each as short as can be: what is left can always be matched. */
static bool find_values(const struct tl_key_template *t, struct tl_bytes name,
                        struct tl_bytes values[TL_KEY_TEMPLATE_PLACES_MAX])
{
    struct tl_bytes glob = tl_key_template_glob(t);
    size_t glob_at = 0, at = 0;
    if (!matches(glob, name))
        return false;
    for (int i = 0; i < t->places_n; i++) {
        size_t star = t->places[i].star, start = at, end;
        struct tl_bytes before = tl_bytes(glob.p + glob_at, star - glob_at);
        while (start < name.n && !(matches(before, tl_bytes(name.p + at, start - at)) &&
                                   matches(tl_bytes_skip(glob, star), tl_bytes_skip(name, start))))
            start++;
        for (end = start; end < name.n; end++)
            if (matches(tl_bytes_skip(glob, star + 1), tl_bytes_skip(name, end)))
                break;
        values[i] = tl_bytes(name.p + start, end - start);
        glob_at = star + 1;
        at = end;
    }
    return true;
}

bool tl_key_template_expand(const struct tl_key_template *t, struct tl_bytes channel,
                            struct tl_buf *out)
{
    struct tl_bytes values[TL_KEY_TEMPLATE_PLACES_MAX];
    if (!find_values(t, channel, values))
        return false;
    for (int i = 0; i < t->parts_n; i++) {
        struct tl_key_template_part part = t->parts[i];
        if (part.place == LITERAL)
            tl_buf_append(out, tl_bytes(t->text + part.off, part.n));
        else
            tl_buf_append(out, part.place == WHOLE ? channel : values[part.place]);
    }
    return true;
}
