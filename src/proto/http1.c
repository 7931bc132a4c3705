#include "proto/http1.h"

#include "proto/chars.h"
#include "proto/http1_state.h"
#include "proto/url.h"
#include "proto/ws.h"

#include <assert.h>
#include <http_parser.h>

/* A request line may have this much around its target: the method, two spaces, the version. */
#define LINE_EXTRA_MAX 64
#define BLANK_MAX      4

void tl_http1_init(struct tl_http1 *h, size_t head_bytes_max)
{
    assert(head_bytes_max <= TL_HTTP1_HEAD_MAX);
    *h = (struct tl_http1){.head_max = (uint32_t)head_bytes_max, .state = HTTP1_REQUEST_LINE};
}

enum tl_parse http1_bad(struct tl_http1 *h, int status, const char *reason)
{
    h->status = status;
    h->reason = reason;
    return TL_PARSE_BAD;
}

static bool is_token(struct tl_bytes text)
{
    return text.n > 0 && tl_chars_are(text, TL_CHARS_TOKEN);
}

/* ---- the request line ---- */

struct request_line {
    struct tl_bytes method, target, version;
};

/* Exactly two spaces: what http-parser forgives here, proxies read differently. */
static bool split_line(struct tl_bytes line, struct request_line *ret)
{
    const uint8_t *first = memchr(line.p, ' ', line.n), *last = memrchr(line.p, ' ', line.n);
    if (!first || first == last)
        return false;
    ret->method = tl_bytes(line.p, (size_t)(first - line.p));
    ret->target = tl_bytes(first + 1, (size_t)(last - first - 1));
    ret->version = tl_bytes_skip(line, (size_t)(last - line.p) + 1);
    return true;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static enum tl_parse check_version(struct tl_http1 *h, struct tl_bytes v)
{
    if (v.n != 8 || !tl_bytes_starts(v, TL_LIT("HTTP/")) || !is_digit(v.p[5]) || v.p[6] != '.' ||
        !is_digit(v.p[7]))
        return http1_bad(h, 400, "malformed HTTP version");
    if (v.p[5] != '1')
        return http1_bad(h, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    return TL_PARSE_MORE;
}

static enum tl_parse check_target(struct tl_http1 *h, struct tl_bytes target)
{
    if (target.n > TL_HTTP1_TARGET_MAX)
        return http1_bad(h, 414, "the request target is too long");
    if (!tl_chars_are(target, TL_CHARS_TARGET))
        return http1_bad(h, 400, "the request target must be percent-encoded");
    return target.n > 0 ? TL_PARSE_MORE : http1_bad(h, 400, "the request target is missing");
}

static enum tl_parse check_request_line(struct tl_http1 *h, struct tl_bytes line)
{
    struct request_line parts;
    if (!split_line(line, &parts) || !is_token(parts.method))
        return http1_bad(h, 400, "malformed request line");
    enum tl_parse r = check_version(h, parts.version);
    return r == TL_PARSE_MORE ? check_target(h, parts.target) : r;
}

/* ---- finding the head's end ---- */

/* A line's bytes without its CRLF: MORE to go on, DONE at the empty line that ends the head. */
static enum tl_parse take_line(struct tl_http1 *h, struct tl_bytes line)
{
    if (h->state == HTTP1_REQUEST_LINE) {
        if (line.n > 0) {
            h->state = HTTP1_FIELDS;
            return check_request_line(h, line);
        }
        h->start_off = h->scan_off;
        return ++h->blank_n > BLANK_MAX ? http1_bad(h, 400, "empty lines before the request")
                                        : TL_PARSE_MORE;
    }
    if (line.n == 0)
        return TL_PARSE_DONE;
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return http1_bad(h, 400, "folded header lines are not accepted");
    return TL_PARSE_MORE;
}

/* How far the head may reach, as far as is known. */
static size_t head_cap(const struct tl_http1 *h)
{
    size_t line_cap = (size_t)h->line_off + TL_HTTP1_TARGET_MAX + LINE_EXTRA_MAX;
    return h->state == HTTP1_REQUEST_LINE && line_cap < h->head_max ? line_cap : h->head_max;
}

static enum tl_parse too_long(struct tl_http1 *h)
{
    if (h->state == HTTP1_REQUEST_LINE)
        return http1_bad(h, 414, "the request line is too long");
    return http1_bad(h, 431, "the request's head is too long");
}

/*
 * Look at the bytes not yet looked at, line by line. Everything that makes parsers disagree about
 * where lines end is refused here, before http-parser sees it.
 */
static enum tl_parse find_end(struct tl_http1 *h, struct tl_bytes bytes)
{
    enum tl_parse r = TL_PARSE_MORE;
    while (r == TL_PARSE_MORE) {
        size_t cap = head_cap(h), limit = bytes.n < cap ? bytes.n : cap, i = h->scan_off;
        i += http1_text_n(tl_bytes(bytes.p + i, limit > i ? limit - i : 0));
        h->scan_off = (uint32_t)i;
        if (i == limit || (bytes.p[i] == '\r' && i + 1 == limit))
            return bytes.n < cap ? TL_PARSE_MORE : too_long(h);
        if (bytes.p[i] != '\r')
            return http1_bad(h, 400,
                             bytes.p[i] == '\n' ? "a line ends without CR" : "control character");
        if (bytes.p[i + 1] != '\n')
            return http1_bad(h, 400, "a CR without LF");
        struct tl_bytes line = tl_bytes(bytes.p + h->line_off, i - h->line_off);
        h->line_off = h->scan_off = (uint32_t)i + 2;
        r = take_line(h, line);
    }
    return r;
}

/* ---- http-parser, for the request line ---- */

/* 2: stop behind the head, the body is ours. */
static int on_headers_complete(http_parser *parser)
{
    (void)parser;
    return 2;
}

/* A path, and not CONNECT's authority or OPTIONS' star, with a method that we have read already:
 * check_request_line() has looked at all that http-parser would. */
static bool is_plain(const struct tl_http1_request *req)
{
    return req->method != TL_HTTP1_OTHER && req->target.p[0] == '/';
}

/* The line with its CRLF, as a head without header lines: those it is not needed for. */
static enum tl_parse parse_line(struct tl_http1 *h, struct tl_bytes line)
{
    static const http_parser_settings settings = {.on_headers_complete = on_headers_complete};
    http_parser parser;
    http_parser_init(&parser, HTTP_REQUEST);
    size_t n = http_parser_execute(&parser, &settings, (const char *)line.p, line.n);
    if (HTTP_PARSER_ERRNO(&parser) == HPE_OK)
        n += http_parser_execute(&parser, &settings, "\r\n", 2);
    enum http_errno err = HTTP_PARSER_ERRNO(&parser);
    if (err == HPE_INVALID_METHOD)
        return http1_bad(h, 501, "unknown method");
    if (err != HPE_OK)
        return http1_bad(h, 400, http_errno_description(err));
    return n == line.n + 2 ? TL_PARSE_DONE : http1_bad(h, 400, "malformed request");
}

/* ---- the header lines: find_end() has seen to their ends, to what stands in them, and that none
 * is folded ---- */

static enum tl_parse read_field(struct tl_http1 *h, struct tl_bytes line,
                                struct tl_http1_request *req)
{
    const uint8_t *colon = memchr(line.p, ':', line.n);
    struct tl_bytes name = tl_bytes(line.p, colon ? (size_t)(colon - line.p) : 0);
    if (req->headers_n == TL_HTTP1_HEADERS_MAX)
        return http1_bad(h, 431, "too many headers");
    if (!is_token(name)) /* none, or a space before the colon */
        return http1_bad(h, 400, "malformed header name");
    tl_http1_add_header(req, name, tl_bytes_trim(tl_bytes_skip(line, name.n + 1)));
    return TL_PARSE_DONE;
}

/* Lines with their CRLF, and the empty one. */
static enum tl_parse read_fields(struct tl_http1 *h, struct tl_bytes lines,
                                 struct tl_http1_request *req)
{
    enum tl_parse r = TL_PARSE_DONE;
    while (r == TL_PARSE_DONE && lines.n > 2) {
        const uint8_t *cr = memchr(lines.p, '\r', lines.n);
        assert(cr);
        size_t n = (size_t)(cr - lines.p);
        r = read_field(h, tl_bytes(lines.p, n), req);
        lines = tl_bytes_skip(lines, n + 2);
    }
    return r;
}

/* ---- what the head means ---- */

static enum tl_http1_method method_of(struct tl_bytes name)
{
    if (tl_bytes_eq(name, TL_LIT("GET")))
        return TL_HTTP1_GET;
    if (tl_bytes_eq(name, TL_LIT("POST")))
        return TL_HTTP1_POST;
    if (tl_bytes_eq(name, TL_LIT("HEAD")))
        return TL_HTTP1_HEAD;
    return tl_bytes_eq(name, TL_LIT("OPTIONS")) ? TL_HTTP1_OPTIONS : TL_HTTP1_OTHER;
}

/* Take http:// or https:// and the authority off an absolute target. False: it is not one. */
static bool take_authority(struct tl_bytes *target, struct tl_bytes *ret_authority)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (int i = 0; i < 2; i++) {
        struct tl_bytes scheme = tl_bytes_str(schemes[i]);
        if (target->n < scheme.n || !tl_bytes_ieq(tl_bytes(target->p, scheme.n), scheme))
            continue;
        struct tl_bytes rest = tl_bytes_skip(*target, scheme.n);
        size_t n = 0;
        while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
            n++;
        *ret_authority = tl_bytes(rest.p, n);
        *target = tl_bytes_skip(rest, n);
        return true;
    }
    return false;
}

/* Path and query of the target's four forms. RFC 9112 3.2. */
static enum tl_parse read_target(struct tl_http1 *h, struct tl_http1_request *req)
{
    struct tl_bytes rest = req->target, authority, name;
    uint16_t port;
    bool is_connect = tl_bytes_eq(req->method_name, TL_LIT("CONNECT"));
    if (is_connect)
        return TL_PARSE_DONE; /* names no path: nothing here will match it */
    if (take_authority(&rest, &authority)) {
        if (req->host.p && !tl_bytes_ieq(authority, req->host))
            return http1_bad(h, 400, "the target's host is not that of the Host header");
        if (!tl_url_authority(authority, &name, &port))
            return http1_bad(h, 400, "malformed host in the request target");
        req->host = authority;
    } else if (rest.p[0] != '/' &&
               (!tl_bytes_eq(rest, TL_LIT("*")) || req->method != TL_HTTP1_OPTIONS)) {
        return http1_bad(h, 400, "the request target must begin with /");
    }
    const uint8_t *mark = rest.n > 0 ? memchr(rest.p, '?', rest.n) : NULL;
    size_t path_n = mark ? (size_t)(mark - rest.p) : rest.n;
    req->path = path_n > 0 ? tl_bytes(rest.p, path_n) : TL_LIT("/");
    if (mark)
        req->query = tl_bytes_skip(rest, path_n + 1);
    return TL_PARSE_DONE;
}

/* How many there are, and the first one's value. */
static size_t count(const struct tl_http1_request *req, struct tl_bytes want,
                    struct tl_bytes *ret_first)
{
    size_t n = 0;
    for (size_t i = 0; i < req->headers_n; i++)
        if (tl_bytes_ieq(req->headers[i].name, want) && n++ == 0)
            *ret_first = req->headers[i].value;
    return n;
}

/* The same; *ret_first stays as it is if there is none. Inline, so that the name's length is
 * known. */
static inline size_t count_headers(const struct tl_http1_request *req, const char *name,
                                   struct tl_bytes *ret_first)
{
    return tl_http1_may_have(req, strlen(name)) ? count(req, tl_bytes_str(name), ret_first) : 0;
}

static enum tl_parse read_host(struct tl_http1 *h, struct tl_http1_request *req)
{
    size_t n = count_headers(req, "host", &req->host);
    struct tl_bytes name;
    uint16_t port;
    if (n > 1 || (n == 0 && req->minor > 0))
        return http1_bad(h, 400, "a request needs exactly one Host");
    /* Two of these would let the one that we check differ from the one that others act on. */
    if (count_headers(req, "origin", &name) > 1 || count_headers(req, "authorization", &name) > 1)
        return http1_bad(h, 400, "Origin or Authorization is repeated");
    if (n == 1 && !tl_url_authority(req->host, &name, &port))
        return http1_bad(h, 400, "malformed Host");
    return TL_PARSE_DONE;
}

/* The next item of a comma list, spaces trimmed, maybe empty. False at the end. */
static bool next_item(struct tl_bytes *list, struct tl_bytes *ret)
{
    if (!list->p)
        return false;
    const uint8_t *comma = list->n > 0 ? memchr(list->p, ',', list->n) : NULL;
    size_t n = comma ? (size_t)(comma - list->p) : list->n;
    *ret = tl_bytes_trim(tl_bytes(list->p, n));
    *list = comma ? tl_bytes_skip(*list, n + 1) : tl_bytes(NULL, 0);
    return true;
}

/* Only `chunked`, once: any other coding is unknown here, and chunked before another is no frame.
 */
static enum tl_parse read_transfer_encoding(struct tl_http1 *h, struct tl_http1_request *req)
{
    bool unknown = false, chunked = false;
    struct tl_bytes item;
    for (size_t i = 0; i < req->headers_n; i++) {
        struct tl_bytes list = req->headers[i].value;
        if (!tl_bytes_ieq(req->headers[i].name, TL_LIT("transfer-encoding")))
            continue;
        while (next_item(&list, &item)) {
            if (chunked || item.n == 0)
                return http1_bad(h, 400, "malformed Transfer-Encoding, or chunked is not last");
            chunked = tl_bytes_ieq(item, TL_LIT("chunked"));
            unknown |= !chunked;
        }
    }
    if (unknown)
        return http1_bad(h, 501, "chunked is the only transfer coding here");
    req->chunked = chunked;
    return TL_PARSE_DONE;
}

/* Below 2^63, so that callers may add to it. */
static bool parse_length(struct tl_bytes text, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (!is_digit(text.p[i]) || v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(text.p[i] - '0');
    }
    *ret = v;
    return text.n > 0;
}

/* How the body is framed: the place where requests are smuggled. RFC 9112 6.3, 11.2. */
static enum tl_parse read_framing(struct tl_http1 *h, struct tl_http1_request *req)
{
    struct tl_bytes length, encoding;
    size_t lengths_n = count_headers(req, "content-length", &length);
    bool encoded = count_headers(req, "transfer-encoding", &encoding) > 0;
    if (lengths_n > 1)
        return http1_bad(h, 400, "Content-Length is repeated");
    if (encoded && (lengths_n > 0 || req->minor == 0))
        return http1_bad(h, 400, "Transfer-Encoding with Content-Length or in HTTP/1.0");
    if (lengths_n > 0 && !parse_length(length, &req->content_length))
        return http1_bad(h, 400, "malformed Content-Length");
    if (encoded && read_transfer_encoding(h, req) == TL_PARSE_BAD)
        return TL_PARSE_BAD;
    req->has_body = req->chunked || req->content_length > 0;
    return TL_PARSE_DONE;
}

static enum tl_parse read_connection(struct tl_http1 *h, struct tl_http1_request *req)
{
    struct tl_bytes expect = tl_http1_header(req, "expect");
    if (expect.p && !tl_bytes_ieq(expect, TL_LIT("100-continue")))
        return http1_bad(h, 417, "the only expectation met here is 100-continue");
    req->expect_100_continue = expect.p && req->minor > 0 && req->has_body;
    req->upgrade = tl_http1_header(req, "upgrade").p != NULL;
    req->keep_alive =
        !tl_http1_header_has_token(req, "connection", "close") &&
        (req->minor > 0 || tl_http1_header_has_token(req, "connection", "keep-alive"));
    return TL_PARSE_DONE;
}

static enum tl_parse read_head(struct tl_http1 *h, struct tl_bytes head,
                               struct tl_http1_request *req)
{
    struct request_line line = {0};
    const uint8_t *cr = memchr(head.p, '\r', head.n);
    size_t line_n = cr ? (size_t)(cr - head.p) : 0;
    bool split = cr && split_line(tl_bytes(head.p, line_n), &line);
    assert(split); /* check_request_line() said so */
    req->method_name = line.method;
    req->method = method_of(line.method);
    req->target = line.target;
    req->minor = (uint8_t)(line.version.p[7] - '0');
    enum tl_parse r = is_plain(req) ? TL_PARSE_DONE : parse_line(h, tl_bytes(head.p, line_n + 2));
    if (r == TL_PARSE_DONE)
        r = read_fields(h, tl_bytes_skip(head, line_n + 2), req);
    if (r == TL_PARSE_DONE)
        r = read_host(h, req);
    if (r == TL_PARSE_DONE)
        r = read_target(h, req);
    if (r == TL_PARSE_DONE)
        r = read_framing(h, req);
    if (r == TL_PARSE_DONE)
        r = read_connection(h, req);
    return r;
}

enum tl_parse tl_http1_head(struct tl_http1 *h, struct tl_bytes bytes, size_t *ret_head_n,
                            struct tl_http1_request *ret)
{
    if (h->status)
        return TL_PARSE_BAD;
    assert(h->state <= HTTP1_FIELDS);
    enum tl_parse r = find_end(h, bytes);
    if (r != TL_PARSE_DONE)
        return r;
    memset(ret, 0, offsetof(struct tl_http1_request, headers));
    r = read_head(h, tl_bytes(bytes.p + h->start_off, h->scan_off - h->start_off), ret);
    if (r != TL_PARSE_DONE)
        return r;
    http1_body_begin(h, ret);
    *ret_head_n = h->scan_off;
    return TL_PARSE_DONE;
}

/* ---- questions about a request ---- */

struct tl_bytes tl_http1_find(const struct tl_http1_request *req, struct tl_bytes want)
{
    for (size_t i = 0; i < req->headers_n; i++)
        if (tl_bytes_ieq(req->headers[i].name, want))
            return req->headers[i].value;
    return tl_bytes(NULL, 0);
}

bool tl_http1_find_token(const struct tl_http1_request *req, struct tl_bytes want_name,
                         struct tl_bytes want)
{
    struct tl_bytes item;
    for (size_t i = 0; i < req->headers_n; i++) {
        struct tl_bytes list = req->headers[i].value;
        if (!tl_bytes_ieq(req->headers[i].name, want_name))
            continue;
        while (next_item(&list, &item))
            if (tl_bytes_ieq(item, want))
                return true;
    }
    return false;
}

static int refuse(int status, const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return status;
}

int tl_http1_websocket_check(const struct tl_http1_request *req, struct tl_bytes *ret_key,
                             const char **ret_reason)
{
    struct tl_bytes key = {0}, version = {0};
    if (req->method != TL_HTTP1_GET)
        return refuse(405, ret_reason, "a WebSocket begins with GET");
    if (req->minor == 0)
        return refuse(400, ret_reason, "a WebSocket needs HTTP/1.1");
    if (req->has_body)
        return refuse(400, ret_reason, "a WebSocket's request has no body");
    if (!tl_http1_header_has_token(req, "upgrade", "websocket"))
        return refuse(426, ret_reason, "Upgrade: websocket is missing");
    if (!tl_http1_header_has_token(req, "connection", "upgrade"))
        return refuse(400, ret_reason, "Connection: Upgrade is missing");
    if (count_headers(req, "sec-websocket-version", &version) != 1 ||
        !tl_bytes_eq(version, TL_LIT("13")))
        return refuse(426, ret_reason, "Sec-WebSocket-Version must be 13");
    if (count_headers(req, "sec-websocket-key", &key) != 1 || !tl_ws_key_is_valid(key))
        return refuse(400, ret_reason, "Sec-WebSocket-Key must be 16 bytes in base64, once");
    *ret_key = key;
    return 0;
}
