#include "base/logger.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum tl_level level_max = TL_INFO;

void tl_logger_level(enum tl_level level)
{
    level_max = level;
}

void tl_logger(enum tl_level level, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > level_max)
        return;
    char line[1024];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s ", now.tv_nsec / 1000000,
                          names[level]);
    size_t text = n;
    va_list args;
    va_start(args, fmt);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, args);
    va_end(args);
    if (m > 0)
        n += (size_t)m < sizeof line - n - 2 ? (size_t)m : sizeof line - n - 2;
    for (size_t i = text; i < n; i++)
        if ((uint8_t)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[n++] = '\n';
    /* One write, so that lines of several threads do not mix; a full pipe loses the line. */
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}

const char *tl_logger_text(struct tl_bytes bytes, char *out, size_t out_n)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < bytes.n && n + 4 < out_n; i++) {
        uint8_t c = bytes.p[i];
        if (c > 0x20 && c < 0x7f && c != '%') {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[c >> 4];
        out[n++] = hex[c & 15];
    }
    out[n] = 0;
    return out;
}
