/*
 * Log lines for operators, on standard error: one event a line, control characters escaped, never a
 * payload and never a secret. Only gateway, broker and app write them. ("log" alone is a channel's
 * log.)
 */
#ifndef TL_BASE_LOGGER_H
#define TL_BASE_LOGGER_H

#include "base/bytes.h"

enum tl_level { TL_ERROR, TL_WARN, TL_INFO, TL_DEBUG };

/* Lines above this level are dropped. Default TL_INFO. Set before threads start. */
void tl_logger_level(enum tl_level level);

/* One line: time, level, text. At most 1 KiB; the rest is cut. Any thread. */
TL_PRINTF(2, 3) void tl_logger(enum tl_level level, const char *fmt, ...);

/* Bytes as printable text for a log line: %XX for what is not; cut at the buffer's end. Returns
 * out. */
const char *tl_logger_text(struct tl_bytes bytes, char *out, size_t out_n);

#endif
