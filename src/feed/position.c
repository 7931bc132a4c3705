#include "feed/position.h"

#include "proto/url.h"

#include "base/buf.h"

#define EPOCH_DIGITS 16

/* "<16 hex digits>-<decimal>" */
static size_t print_place(uint64_t epoch, uint64_t place, char *out)
{
    static const char hex[] = "0123456789abcdef";
    for (unsigned i = 0; i < EPOCH_DIGITS; i++)
        out[i] = hex[epoch >> (60 - 4 * i) & 15];
    out[EPOCH_DIGITS] = '-';
    return EPOCH_DIGITS + 1 + tl_decimal_print(place, (uint8_t *)out + EPOCH_DIGITS + 1);
}

size_t tl_position_print(struct tl_position position, char out[TL_POSITION_TEXT_MAX])
{
    size_t n = print_place(position.epoch, position.idx, out);
    if (position.of_stream) {
        out[n++] = '-';
        n += tl_entry_id_print(position.id, out + n);
    }
    out[n] = 0;
    return n;
}

static bool parse_epoch(struct tl_bytes text, uint64_t *ret_epoch)
{
    uint64_t v = 0;
    for (size_t i = 0; i < EPOCH_DIGITS; i++) {
        uint8_t c = text.p[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret_epoch = v;
    return true;
}

bool tl_position_parse(struct tl_bytes text, struct tl_position *ret_position)
{
    struct tl_position position = {0};
    if (text.n < EPOCH_DIGITS + 2 || text.p[EPOCH_DIGITS] != '-' ||
        !parse_epoch(text, &position.epoch))
        return false;
    struct tl_bytes place = tl_bytes_skip(text, EPOCH_DIGITS + 1);
    const uint8_t *dash = memchr(place.p, '-', place.n);
    if (dash) {
        size_t n = (size_t)(dash - place.p);
        position.of_stream = true;
        if (!tl_entry_id_parse(tl_bytes_skip(place, n + 1), &position.id))
            return false;
        place.n = n;
    }
    if (!tl_entry_id_decimal(place, &position.idx))
        return false;
    position.id_idx = position.of_stream ? position.idx : 0;
    *ret_position = position;
    return true;
}

/* A client cuts the token at its `@`, and puts it into a query as it is. */
size_t tl_sequence_print_tag(struct tl_bytes name, char out[TL_SEQUENCE_TEXT_MAX])
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    out[n++] = '@';
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (tl_url_is_unreserved(c)) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[c >> 4];
        out[n++] = hex[c & 15];
    }
    out[n] = 0;
    return n;
}

size_t tl_sequence_print(struct tl_sequence sequence, struct tl_bytes name,
                         char out[TL_SEQUENCE_TEXT_MAX])
{
    size_t n = print_place(sequence.epoch, sequence.at, out);
    return n + tl_sequence_print_tag(name, out + n);
}

bool tl_sequence_parse(struct tl_bytes text, struct tl_sequence *ret_sequence)
{
    const uint8_t *mark = text.n > 0 ? memchr(text.p, '@', text.n) : NULL;
    struct tl_position place;
    if (!mark || !tl_position_parse(tl_bytes(text.p, (size_t)(mark - text.p)), &place) ||
        place.of_stream)
        return false;
    *ret_sequence = (struct tl_sequence){place.epoch, place.idx};
    return true;
}
