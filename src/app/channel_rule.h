/*
 * The rules of --channel: 'GLOB: key=value, key=value', as in 'tram_*: overflow=latest,
 * max_rate=4/s', or 'tram_{id}: snapshot=key:tram_{id}:last'. What a rule leaves out is as for all
 * channels.
 */
#ifndef TL_APP_CHANNEL_RULE_H
#define TL_APP_CHANNEL_RULE_H

#include "base/buf.h"
#include "gateway/config.h"

/*
 * Read one rule; the glob points into text, or into the rule's own memory. standard: what is left
 * out. 0, or -EINVAL or -ENOMEM with one line in error. Owner: tl_channel_rule_deinit() after 0.
 */
TL_MUST_USE int tl_channel_rule_parse(const char *text, const struct tl_channel_rule *standard,
                                      struct tl_channel_rule *ret_rule, char *error,
                                      size_t error_n);

/* Takes a zeroed rule too. */
void tl_channel_rule_deinit(struct tl_channel_rule *rule);

/* Append the help of all keys. */
void tl_channel_rule_help(struct tl_buf *out);

#endif
