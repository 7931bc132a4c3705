#include "app/recording.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CHANNEL_MAX 255
#define FIELD_MAX   64
#define TS_MAX      9e15 /* exact in a double, and far enough */

struct tl_recording {
    char *path, *channel_template;
    FILE *file;
    char *line; /* getline()'s */
    size_t line_cap;
    uint64_t line_no, good, skipped;
    struct tl_buf channel;
    char error[320];
};

/* "{" field "}" everywhere or nowhere: no stray braces, no empty field. */
static bool is_template(const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "{}");
        text += n;
        if (*text == 0)
            return true;
        size_t field_n = *text == '{' ? strcspn(text + 1, "{}") : 0;
        if (field_n == 0 || field_n >= FIELD_MAX || text[1 + field_n] != '}')
            return false;
        text += field_n + 2;
    }
    return true;
}

struct tl_recording *tl_recording_open(const char *path, const char *channel_template, char *error,
                                       size_t error_n)
{
    if (!*channel_template || !is_template(channel_template)) {
        snprintf(error, error_n, "--channel: '%.80s' is no template; write 'tram_{id}'",
                 channel_template);
        return NULL;
    }
    struct tl_recording *r = tl_zalloc(sizeof *r);
    if (r) {
        r->path = (char *)tl_alloc_copy(tl_bytes_str(strcmp(path, "-") == 0 ? "stdin" : path));
        r->channel_template = (char *)tl_alloc_copy(tl_bytes_str(channel_template));
    }
    if (!r || !r->path || !r->channel_template) {
        snprintf(error, error_n, "out of memory");
        tl_recording_close(r);
        return NULL;
    }
    r->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (r->file)
        return r;
    snprintf(error, error_n, "cannot read '%.200s': %s", path, strerror(errno));
    tl_recording_close(r);
    return NULL;
}

void tl_recording_close(struct tl_recording *r)
{
    if (!r)
        return;
    if (r->file && r->file != stdin)
        fclose(r->file);
    free(r->line); /* getline() allocates it */
    tl_buf_deinit(&r->channel);
    tl_free(r->path);
    tl_free(r->channel_template);
    tl_free(r);
}

TL_PRINTF(2, 3) static void keep_error(struct tl_recording *r, const char *fmt, ...)
{
    va_list args;
    if (*r->error)
        return;
    int n = snprintf(r->error, sizeof r->error, "%.100s:%llu: ", r->path,
                     (unsigned long long)r->line_no);
    va_start(args, fmt);
    vsnprintf(r->error + n, sizeof r->error - (size_t)n, fmt, args);
    va_end(args);
}

static bool add_field(struct tl_recording *r, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (json_is_integer(value)) {
        tl_buf_printf(&r->channel, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return true;
    }
    if (json_is_string(value)) {
        tl_buf_append(&r->channel, tl_bytes(json_string_value(value), json_string_length(value)));
        return true;
    }
    keep_error(r, "no field \"%s\" that is a string or an integer, as --channel asks for", name);
    return false;
}

/* The template filled in, into r->channel; false with the reason kept. */
static bool make_channel(struct tl_recording *r, const json_t *object)
{
    r->channel.n = 0;
    for (const char *p = r->channel_template; *p;) {
        size_t n = strcspn(p, "{");
        tl_buf_append(&r->channel, tl_bytes(p, n));
        p += n;
        if (*p == 0)
            break;
        char name[FIELD_MAX];
        n = strcspn(p + 1, "}");
        snprintf(name, sizeof name, "%.*s", (int)n, p + 1);
        if (!add_field(r, object, name))
            return false;
        p += n + 2;
    }
    if (!r->channel.failed && r->channel.n > 0 && r->channel.n <= CHANNEL_MAX)
        return true;
    keep_error(r, "the channel's name is empty or longer than 255 bytes");
    return false;
}

/* False with the reason kept. */
static bool read_line(struct tl_recording *r, struct tl_bytes text,
                      struct tl_recording_line *ret_line)
{
    json_error_t why;
    json_t *object = json_loadb((const char *)text.p, text.n, 0, &why);
    const json_t *ts = json_object_get(object, "ts");
    double ts_ms = json_number_value(ts);
    bool good = false;
    if (!json_is_object(object))
        keep_error(r,
                   "no JSON object; a recording has one a line, as in {\"ts\":1708079820000,...}");
    else if (!json_is_number(ts) || ts_ms < 0 || ts_ms > TS_MAX)
        keep_error(r, "no number \"ts\"; it is when the line is due, in milliseconds since 1970");
    else
        good = make_channel(r, object);
    if (good)
        *ret_line = (struct tl_recording_line){(int64_t)ts_ms, tl_buf_bytes(&r->channel), text};
    json_decref(object);
    return good;
}

int tl_recording_next(struct tl_recording *r, struct tl_recording_line *ret_line)
{
    for (;;) {
        ssize_t n = getline(&r->line, &r->line_cap, r->file);
        if (n < 0 && ferror(r->file)) {
            snprintf(r->error, sizeof r->error, "%.200s: cannot be read: %s", r->path,
                     strerror(errno));
            return errno == EINTR ? -EINTR : -EIO;
        }
        if (n < 0)
            break;
        r->line_no++;
        struct tl_bytes text = tl_bytes(r->line, (size_t)n);
        if (text.n > 0 && text.p[text.n - 1] == '\n')
            text.n--;
        if (text.n == 0)
            continue;
        if (read_line(r, text, ret_line)) {
            r->good++;
            return 1;
        }
        if (r->good == 0)
            return -EINVAL;
        r->skipped++;
    }
    if (r->good > 0)
        return 0;
    keep_error(r, "empty; a recording has a JSON object a line, as in {\"ts\":1708079820000,...}");
    return -EINVAL;
}

uint64_t tl_recording_skipped(const struct tl_recording *r)
{
    return r->skipped;
}

const char *tl_recording_error(const struct tl_recording *r)
{
    return r->error;
}
