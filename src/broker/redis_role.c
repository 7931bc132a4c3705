#include "broker/redis_role.h"

/* The value of a line "name:value\r\n", empty if there is none. */
static struct tl_bytes value_of(struct tl_bytes info, const char *name)
{
    size_t n = strlen(name);
    while (info.n > n) {
        const uint8_t *end = memchr(info.p, '\n', info.n);
        size_t line_n = end ? (size_t)(end - info.p) : info.n;
        if (line_n > n && memcmp(info.p, name, n) == 0 && info.p[n] == ':') {
            struct tl_bytes value = tl_bytes(info.p + n + 1, line_n - n - 1);
            value.n -= value.n > 0 && value.p[value.n - 1] == '\r';
            return value;
        }
        info = tl_bytes_skip(info, end ? line_n + 1 : info.n);
    }
    return TL_LIT("");
}

static bool is_same(const struct tl_redis_role *a, const struct tl_redis_role *b)
{
    return a->is_replica == b->is_replica && a->is_cut_off == b->is_cut_off &&
           (!a->is_replica || strcmp(a->replid, b->replid) == 0);
}

enum tl_redis_role_change tl_redis_role_read(struct tl_redis_role *role, struct tl_bytes info)
{
    struct tl_redis_role before = *role, now = {.is_known = true};
    struct tl_bytes replid = value_of(info, "master_replid");
    now.is_replica = tl_bytes_eq(value_of(info, "role"), TL_LIT("slave"));
    now.is_cut_off =
        now.is_replica && !tl_bytes_eq(value_of(info, "master_link_status"), TL_LIT("up"));
    if (replid.n > 0 && replid.n < sizeof now.replid)
        memcpy(now.replid, replid.p, replid.n);
    *role = now;
    if (!before.is_known || is_same(&before, &now))
        return TL_REDIS_ROLE_SAME;
    if (now.is_cut_off)
        return TL_REDIS_ROLE_CUT_OFF;
    return now.is_replica ? TL_REDIS_ROLE_JOINED : TL_REDIS_ROLE_MASTER;
}
