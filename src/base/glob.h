/*
 * Glob matching exactly as Redis does it for PSUBSCRIBE, so that a pattern means the same on every
 * broker. Never recursive, never exponential, never looks for a NUL. Only operators write patterns.
 */
#ifndef TL_BASE_GLOB_H
#define TL_BASE_GLOB_H

#include "base/bytes.h"

/*
 * Does the whole text match? `*` any run, `?` one byte, `[abc]`, `[^a]`, `[a-z]` one byte of (or
 * not of) a set, `\x` the byte x. Redis' corners are kept: an unclosed set ends with the pattern, a
 * range may be written backwards and compares signed bytes, `[a-]` is an unclosed range up to `]`,
 * and an empty text matches the empty pattern only.
 * At most pattern.n * text.n steps. Any thread.
 */
TL_MUST_USE bool tl_glob_match(struct tl_bytes pattern, struct tl_bytes text);

#endif
