/*
 * Writing JSON text: strings, right whatever their bytes are. Never parses, and never touches a
 * payload.
 */
#ifndef TL_PROTO_JSON_H
#define TL_PROTO_JSON_H

#include "base/buf.h"

/*
 * Append the bytes as a JSON string with its quotes. Quotes, backslashes and control characters are
 * escaped; each maximal invalid part of UTF-8 becomes \ufffd. Errors: out->failed. RFC 8259 7.
 */
void tl_json_string(struct tl_buf *out, struct tl_bytes text);

#endif
