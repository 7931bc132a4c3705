/* What the two kinds of event streams have in common: sse.c of one channel, sse_many.c of several.
 */
#ifndef TL_GATEWAY_SSE_H
#define TL_GATEWAY_SSE_H

#include "gateway/session.h"

/* The response's head and first bytes, and the phase. False: the session is over. */
bool tl_sse_respond(struct tl_session *s, const struct tl_phase *phase);

void tl_sse_append_gap(struct tl_buf *out, uint64_t missed, const char *reason);
/* Why a gap is told to who comes back. outcome: not TL_RESUME_FROM. Counted. */
void tl_sse_append_missed(struct tl_buf *out, enum tl_resume outcome, uint64_t missed);
/* Nothing has come for the rule's stale_after. */
void tl_sse_append_expired(struct tl_buf *out, const struct tl_channel_rule *rule);
void tl_sse_append_refusal(struct tl_buf *out, enum tl_broker_status why);

/* Callbacks of the phases. */
/* What went unread: missed_n messages, if any, and what events told. id: the line that goes before
 * each, or empty. */
void tl_sse_append_lost(struct tl_buf *out, const struct tl_lost *lost, uint64_t missed_n,
                        struct tl_bytes id);
void tl_sse_on_link_down(struct tl_session *s);
void tl_sse_on_timer(struct tl_session *s);
size_t tl_sse_on_input(struct tl_session *s, uint8_t *bytes, size_t n);

#endif
