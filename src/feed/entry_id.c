#include "feed/entry_id.h"

#include <inttypes.h>
#include <stdio.h>

#define DIGITS_MAX 20

struct tl_entry_id tl_entry_id_before(struct tl_entry_id id)
{
    if (id.seq > 0)
        return (struct tl_entry_id){id.ms, id.seq - 1};
    return id.ms > 0 ? (struct tl_entry_id){id.ms - 1, UINT64_MAX} : id;
}

struct tl_entry_id tl_entry_id_after(struct tl_entry_id id)
{
    if (id.seq < UINT64_MAX)
        return (struct tl_entry_id){id.ms, id.seq + 1};
    return id.ms < UINT64_MAX ? (struct tl_entry_id){id.ms + 1, 0} : id;
}

void tl_entry_id_tag(struct tl_entry_id id, uint8_t out[TL_ENTRY_ID_TAG_N])
{
    memcpy(out, &id.ms, 8);
    memcpy(out + 8, &id.seq, 8);
}

struct tl_entry_id tl_entry_id_of_tag(const uint8_t *tag)
{
    struct tl_entry_id id;
    memcpy(&id.ms, tag, 8);
    memcpy(&id.seq, tag + 8, 8);
    return id;
}

size_t tl_entry_id_print(struct tl_entry_id id, char out[TL_ENTRY_ID_TEXT_MAX])
{
    int n = snprintf(out, TL_ENTRY_ID_TEXT_MAX, "%" PRIu64 "-%" PRIu64, id.ms, id.seq);
    return (size_t)n;
}

bool tl_entry_id_decimal(struct tl_bytes text, uint64_t *ret_v)
{
    if (text.n == 0 || text.n > DIGITS_MAX || (text.p[0] == '0' && text.n > 1))
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c < '0' || c > '9' || v > (UINT64_MAX - (uint64_t)(c - '0')) / 10)
            return false;
        v = v * 10 + (uint64_t)(c - '0');
    }
    *ret_v = v;
    return true;
}

bool tl_entry_id_parse(struct tl_bytes text, struct tl_entry_id *ret_id)
{
    const uint8_t *dash = text.n > 0 ? memchr(text.p, '-', text.n) : NULL;
    struct tl_entry_id id;
    if (!dash)
        return false;
    size_t n = (size_t)(dash - text.p);
    if (!tl_entry_id_decimal(tl_bytes(text.p, n), &id.ms) ||
        !tl_entry_id_decimal(tl_bytes_skip(text, n + 1), &id.seq))
        return false;
    *ret_id = id;
    return true;
}
