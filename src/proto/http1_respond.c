#include "proto/http1.h"
#include "proto/json.h"

#define HEAD_ROOM 160 /* enough for the lines below without what the caller gives */

static const struct {
    int status;
    const char *text;
} phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

const char *tl_http1_status_text(int status)
{
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
        if (phrases[i].status == status)
            return phrases[i].text;
    return "Unknown";
}

static void put_header(struct tl_buf *out, struct tl_bytes name, struct tl_bytes value)
{
    tl_buf_put(out, name);
    tl_buf_put(out, value);
    tl_buf_put(out, TL_LIT("\r\n"));
}

static void put_number(struct tl_buf *out, struct tl_bytes name, uint64_t number)
{
    uint8_t digits[TL_DECIMAL_MAX];
    put_header(out, name, tl_bytes(digits, tl_decimal_print(number, digits)));
}

static void put_status(struct tl_buf *out, int status)
{
    uint8_t digits[TL_DECIMAL_MAX];
    tl_buf_put(out, TL_LIT("HTTP/1.1 "));
    tl_buf_put(out, tl_bytes(digits, tl_decimal_print((uint64_t)status, digits)));
    put_header(out, TL_LIT(" "), tl_bytes_str(tl_http1_status_text(status)));
}

void tl_http1_respond(struct tl_buf *out, const struct tl_http1_response *r)
{
    bool interim = r->status < 200;
    bool bodyless = interim || r->status == 204 || r->status == 304;
    struct tl_bytes type = tl_bytes_str(r->content_type ? r->content_type : "");
    if (tl_buf_reserve(out, HEAD_ROOM + type.n + r->extra.n + r->body.n) < 0)
        return;
    put_status(out, r->status);
    if (r->content_type)
        put_header(out, TL_LIT("Content-Type: "), type);
    if (!bodyless && !r->until_close)
        put_number(out, TL_LIT("Content-Length: "), r->body.n);
    if (!interim && (!r->keep_alive || r->until_close))
        tl_buf_put(out, TL_LIT("Connection: close\r\n"));
    else if (!interim && r->minor == 0)
        tl_buf_put(out, TL_LIT("Connection: keep-alive\r\n"));
    tl_buf_put(out, r->extra);
    tl_buf_put(out, TL_LIT("\r\n"));
    if (!bodyless && !r->is_head)
        tl_buf_put(out, r->body);
}

void tl_http1_error_body(struct tl_buf *out, const char *error, const char *hint)
{
    tl_buf_str(out, "{\"error\":");
    tl_json_string(out, tl_bytes_str(error));
    if (hint) {
        tl_buf_str(out, ",\"hint\":");
        tl_json_string(out, tl_bytes_str(hint));
    }
    tl_buf_str(out, "}\n");
}
