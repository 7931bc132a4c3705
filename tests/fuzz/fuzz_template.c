/*
 * Three lines: the path template, the channel template, the raw path (the rest, line breaks
 * included). A match survives percent-encoding of every byte that may be encoded, and what the
 * compiler takes matches something: the path with each parameter replaced by its name.
 */
#include "proto/template.h"

#include "base/buf.h"
#include "proto/url.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n);

static struct tl_bytes take_line(struct tl_bytes *rest)
{
    const uint8_t *end = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    struct tl_bytes line = end ? tl_bytes(rest->p, (size_t)(end - rest->p)) : *rest;
    *rest = tl_bytes_skip(*rest, end ? line.n + 1 : line.n);
    return line;
}

/* Each byte escaped but '/', and the escapes that are there already. */
static void escape_all(struct tl_buf *out, struct tl_bytes raw)
{
    for (size_t i = 0; i < raw.n; i++) {
        uint8_t c = raw.p[i];
        if (c == '%') {
            tl_buf_append(out, tl_bytes(raw.p + i, 3));
            i += 2;
        } else if (c == '/') {
            tl_buf_byte(out, c);
        } else {
            tl_buf_printf(out, "%%%02x", c);
        }
    }
}

static void matches_when_escaped(const struct tl_template *t, struct tl_bytes raw)
{
    struct tl_buf escaped = {0};
    uint8_t name[TL_TEMPLATE_NAME_MAX], again[TL_TEMPLATE_NAME_MAX];
    size_t name_n = 0, again_n = 0;
    enum tl_template_result r = tl_template_match(t, raw, name, &name_n);
    size_t decoded_n;
    uint8_t *decoded = malloc(raw.n + 1);
    assert(decoded);
    assert(r != TL_TEMPLATE_MATCH || (name_n > 0 && name_n <= sizeof(name)));
    if (tl_url_decode(raw, false, decoded, raw.n, &decoded_n) == 0) {
        escape_all(&escaped, raw);
        assert(tl_template_match(t, tl_buf_bytes(&escaped), again, &again_n) == r);
        assert(tl_bytes_eq(tl_bytes(name, name_n), tl_bytes(again, again_n)));
    }
    tl_buf_deinit(&escaped);
    free(decoded);
}

static void matches_itself(const struct tl_template *t, struct tl_bytes path)
{
    struct tl_buf plain = {0};
    uint8_t name[TL_TEMPLATE_NAME_MAX];
    size_t name_n = 0;
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] != '{' && path.p[i] != '}')
            tl_buf_byte(&plain, path.p[i]);
    enum tl_template_result r = tl_template_match(t, tl_buf_bytes(&plain), name, &name_n);
    assert(r == TL_TEMPLATE_MATCH || r == TL_TEMPLATE_NAME_TOO_LONG);
    tl_buf_deinit(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    struct tl_bytes rest = tl_bytes(input, n);
    struct tl_bytes path = take_line(&rest), channel = take_line(&rest);
    struct tl_template t;
    const char *error = NULL;
    if (tl_template_compile(&t, path, channel, &error) < 0) {
        assert(error);
        return 0;
    }
    matches_itself(&t, path);
    matches_when_escaped(&t, rest);
    return 0;
}
