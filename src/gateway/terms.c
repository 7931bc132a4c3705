#include "gateway/terms.h"

#include "proto/sse.h"
#include "proto/url.h"

#define DIGITS_MAX 18 /* so that no number overflows */

/* The position that an EventSource brings back, or that a link carries. */
static void read_position(const struct tl_http1_request *request, struct tl_terms *terms)
{
    uint8_t text[TL_POSITION_TEXT_MAX];
    size_t n = 0;
    struct tl_bytes id = tl_http1_header(request, "last-event-id");
    if (id.n > 0) {
        terms->resumes = true;
        if (id.n > sizeof text || !tl_sse_name_decode(id, text, &n))
            return;
    } else {
        int r = tl_url_query(request->query, "since", text, sizeof text, &n);
        terms->resumes = r != 0;
        if (r != 1)
            return;
    }
    if (!tl_position_parse(tl_bytes(text, n), &terms->position))
        terms->position = (struct tl_position){0};
}

/* The digits at the beginning of the text; returns how many. */
static size_t take_number(struct tl_bytes text, uint64_t *ret_number)
{
    size_t n = 0;
    for (*ret_number = 0; n < text.n && text.p[n] >= '0' && text.p[n] <= '9'; n++)
        *ret_number = *ret_number * 10 + (text.p[n] - '0');
    return n;
}

/* A number of the query with its unit, which is empty for most; 0 if it is absent. */
static bool read_number(struct tl_bytes query, const char *name, uint64_t *ret_number,
                        uint8_t unit[DIGITS_MAX], size_t *ret_unit_n)
{
    uint8_t text[DIGITS_MAX];
    size_t n = 0;
    *ret_number = 0;
    *ret_unit_n = 0;
    int r = tl_url_query(query, name, text, sizeof text, &n);
    if (r == 0)
        return true;
    size_t digits = r == 1 ? take_number(tl_bytes(text, n), ret_number) : 0;
    *ret_unit_n = n - digits;
    memcpy(unit, text + digits, n - digits);
    return digits > 0;
}

static bool read_plain(struct tl_bytes query, const char *name, uint64_t *ret_number)
{
    uint8_t unit[DIGITS_MAX];
    size_t unit_n;
    return read_number(query, name, ret_number, unit, &unit_n) && unit_n == 0;
}

static bool read_history(struct tl_bytes query, struct tl_terms *terms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint8_t unit[DIGITS_MAX];
    size_t unit_n;
    uint64_t number;
    terms->tells_history = tl_url_query(query, "history", unit, sizeof unit, &unit_n) != 0;
    if (!read_number(query, "history", &number, unit, &unit_n))
        return false;
    if (unit_n == 0) {
        terms->history_msgs = number;
        return true;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!tl_bytes_eq(tl_bytes(unit, unit_n), tl_bytes_str(units[i].name)))
            continue;
        terms->history_ms = number < UINT64_MAX / units[i].ms ? number * units[i].ms : UINT64_MAX;
        return true;
    }
    return false;
}

bool tl_terms_read(const struct tl_http1_request *request, struct tl_terms *ret_terms)
{
    uint64_t received, strict;
    *ret_terms = (struct tl_terms){0};
    read_position(request, ret_terms);
    if (!read_plain(request->query, "received", &received) ||
        !read_plain(request->query, "strict", &strict) || strict > 1 ||
        !read_history(request->query, ret_terms))
        return false;
    uint64_t left = UINT64_MAX - ret_terms->position.idx;
    ret_terms->position.idx += received < left ? received : left;
    ret_terms->strict = ret_terms->resumes || strict == 1;
    return true;
}

enum tl_resume tl_terms_start(const struct tl_terms *terms, const struct tl_view *view,
                              uint64_t now_ms, struct tl_mark *ret_from, uint64_t *ret_missed)
{
    *ret_missed = 0;
    if (terms->resumes)
        return tl_view_resume(view, terms->position, ret_from, ret_missed);
    if (terms->history_ms > 0)
        *ret_from =
            tl_view_since_ms(view, now_ms > terms->history_ms ? now_ms - terms->history_ms : 0);
    else
        *ret_from = tl_view_history(view, terms->history_msgs);
    return TL_RESUME_FROM;
}

enum tl_resume tl_terms_start_latest(const struct tl_terms *terms, const struct tl_view *view,
                                     uint64_t now_ms, bool is_start, struct tl_mark *ret_from)
{
    uint64_t missed;
    enum tl_resume outcome = tl_terms_start(terms, view, now_ms, ret_from, &missed);
    if (!terms->resumes || (outcome == TL_RESUME_FROM && !is_start))
        return outcome;
    struct tl_mark newest = tl_view_history(view, 1);
    if (outcome == TL_RESUME_FROM && ret_from->idx > newest.idx)
        return outcome; /* as many messages as there were: it has them all */
    *ret_from = newest;
    return outcome == TL_RESUME_VOID ? outcome : TL_RESUME_FROM;
}
