/*
 * A recording: a text file with one JSON object a line, each with `ts` in milliseconds since 1970.
 * Reads line by line, gives each line's bytes as they stand and the channel that a template makes
 * of its fields. It knows no clock and publishes nothing.
 */
#ifndef TL_APP_RECORDING_H
#define TL_APP_RECORDING_H

#include "base/bytes.h"

struct tl_recording;

struct tl_recording_line {
    int64_t ts_ms;
    struct tl_bytes channel; /* 1..255 bytes */
    struct tl_bytes payload; /* the line without its line feed */
};

/*
 * Open the file, "-" for standard input. The template's {field} stands for a string or an integer
 * of the object. Returns NULL with one line in error. Owner: the caller, until
 * tl_recording_close().
 */
TL_MUST_USE struct tl_recording *tl_recording_open(const char *path, const char *channel_template,
                                                   char *error, size_t error_n);

/* Takes NULL. */
void tl_recording_close(struct tl_recording *r);

/*
 * The next good line; its bytes are valid until the next call. Returns 1; 0 at the end; -EINVAL if
 * the very first line is bad, so that a file of another kind is refused at once; -errno if reading
 * fails. Later bad lines are skipped and counted. Empty lines count as nothing.
 */
TL_MUST_USE int tl_recording_next(struct tl_recording *r, struct tl_recording_line *ret_line);

/* Bad lines so far. */
uint64_t tl_recording_skipped(const struct tl_recording *r);

/* "file:line: what is wrong", of the first bad line or of the error; "" if there is none. */
const char *tl_recording_error(const struct tl_recording *r);

#endif
