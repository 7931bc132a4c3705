#include "proto/json.h"

#include "base/utf8.h"

/*
 * How the bytes begin: > 0 the length of a character, < 0 minus the length of the longest part of
 * one that goes wrong (Unicode 3.9, "maximal subpart"). text.n > 0.
 */
static int next_char(struct tl_bytes text)
{
    uint32_t state = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (!tl_utf8_feed(&state, tl_bytes(text.p + i, 1)))
            return i > 0 ? -(int)i : -1;
        if (tl_utf8_complete(state))
            return (int)i + 1;
    }
    return -(int)text.n;
}

/* The letter behind the backslash, 'u' for a \u00xx, or 0 for no escape. */
static char escape_of(uint8_t c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return c < 0x20 || c == 0x7f ? 'u' : 0;
    }
}

void tl_json_string(struct tl_buf *out, struct tl_bytes text)
{
    tl_buf_byte(out, '"');
    while (text.n > 0) {
        int len = next_char(text);
        char esc = len == 1 ? escape_of(text.p[0]) : 0;
        if (len < 0)
            tl_buf_str(out, "\\ufffd");
        else if (esc == 'u')
            tl_buf_printf(out, "\\u%04x", text.p[0]);
        else if (esc)
            tl_buf_printf(out, "\\%c", esc);
        else
            tl_buf_append(out, tl_bytes(text.p, (size_t)len));
        text = tl_bytes_skip(text, (size_t)(len < 0 ? -len : len));
    }
    tl_buf_byte(out, '"');
}
