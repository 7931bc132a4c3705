#include "bench/stamp.h"

static const char digits[] = "0123456789abcdef";

static uint8_t *print_hex(uint8_t *out, uint64_t value, uint32_t digits_n)
{
    for (uint32_t i = digits_n; i-- > 0; value >>= 4)
        out[i] = (uint8_t)digits[value & 15];
    return out + digits_n;
}

void tl_stamp_print(const struct tl_stamp *stamp, uint8_t *out)
{
    memcpy(out, "TLB1", 4);
    out = print_hex(out + 4, stamp->run, 8);
    out = print_hex(out, stamp->channel, 8);
    out = print_hex(out, stamp->number, 8);
    print_hex(out, stamp->time_ns, 16);
}

/* The digit's value, or 0x80 for what is none: or-ed together, one test tells. */
static uint32_t digit_value(uint8_t c)
{
    if ((uint8_t)(c - '0') < 10)
        return (uint32_t)(c - '0');
    return (uint8_t)(c - 'a') < 6 ? (uint32_t)(c - 'a' + 10) : 0x80;
}

static uint64_t read_hex(const uint8_t *p, uint32_t digits_n, uint32_t *wrong)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < digits_n; i++) {
        uint32_t digit = digit_value(p[i]);
        *wrong |= digit & 0x80;
        value = value << 4 | (digit & 15);
    }
    return value;
}

static bool read_at(const uint8_t *p, struct tl_stamp *ret)
{
    uint32_t wrong = 0;
    struct tl_stamp stamp;
    stamp.run = (uint32_t)read_hex(p + 4, 8, &wrong);
    stamp.channel = (uint32_t)read_hex(p + 12, 8, &wrong);
    stamp.number = (uint32_t)read_hex(p + 20, 8, &wrong);
    stamp.time_ns = read_hex(p + 28, 16, &wrong);
    if (wrong)
        return false;
    *ret = stamp;
    return true;
}

bool tl_stamp_find(struct tl_bytes bytes, struct tl_stamp *ret_stamp, size_t *ret_off)
{
    size_t off = 0;
    while (bytes.n - off >= TL_STAMP_BYTES) {
        const uint8_t *t = memchr(bytes.p + off, 'T', bytes.n - off - TL_STAMP_BYTES + 1);
        if (!t)
            return false;
        off = (size_t)(t - bytes.p);
        if (memcmp(t, "TLB1", 4) == 0 && read_at(t, ret_stamp)) {
            *ret_off = off;
            return true;
        }
        off++;
    }
    return false;
}

void tl_stamp_fill(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)('a' + i % 26);
}
