#include "broker/redis_notice.h"

#include "base/logger.h"
#include "base/metrics.h"

#include <stdio.h>

/* Both links up for this long: the next trouble is a new one. */
#define STABLE_MS 1000

void tl_redis_notice_init(struct tl_redis_notice *n, const char *address, uint64_t now_ms)
{
    *n = (struct tl_redis_notice){.down_ms = now_ms};
    snprintf(n->address, sizeof n->address, "%s", address);
    tl_metric_set(TL_M_BROKER_UP, 0);
}

/* True if a line about this cause is due; then it is noted. *ret_again: it was said before. */
static bool is_due(struct tl_redis_notice *n, const char *text, uint64_t now_ms, bool *ret_again)
{
    int oldest = 0;
    *ret_again = false;
    for (int i = 0; i < TL_REDIS_NOTICE_CAUSES; i++) {
        if (strncmp(n->causes[i].text, text, sizeof n->causes[i].text - 1) == 0) {
            if (now_ms - n->causes[i].said_ms < TL_REDIS_NOTICE_REPEAT_MS)
                return false;
            *ret_again = true;
            oldest = i;
            break;
        }
        if (n->causes[i].said_ms < n->causes[oldest].said_ms)
            oldest = i;
    }
    snprintf(n->causes[oldest].text, sizeof n->causes[oldest].text, "%s", text);
    n->causes[oldest].said_ms = now_ms;
    n->lines++;
    return true;
}

void tl_redis_notice_up(struct tl_redis_notice *n, unsigned link, uint64_t now_ms)
{
    n->up |= link;
    if (n->up != TL_REDIS_BOTH)
        return;
    n->all_up_ms = now_ms;
    tl_metric_set(TL_M_BROKER_UP, 1);
    if (n->said)
        tl_logger(TL_INFO, "redis %s: connected again", n->address);
    else if (n->lines == 0)
        tl_logger(TL_INFO, "redis %s: connected", n->address);
    n->lines++;
    n->said = false;
}

void tl_redis_notice_down(struct tl_redis_notice *n, unsigned link, const char *reason,
                          uint64_t retry_ms, uint64_t now_ms)
{
    bool again;
    if (n->up == TL_REDIS_BOTH) {
        n->down_ms = now_ms;
        if (now_ms - n->all_up_ms >= STABLE_MS)
            memset(n->causes, 0, sizeof n->causes);
    }
    n->up &= ~link;
    tl_metric_set(TL_M_BROKER_UP, 0);
    if (!is_due(n, reason, now_ms, &again))
        return;
    n->said = true;
    if (again)
        tl_logger(TL_WARN, "redis %s: still not well after %llu s: %s", n->address,
                  (unsigned long long)(now_ms - n->down_ms) / 1000, reason);
    else if (retry_ms >= 1000)
        tl_logger(TL_WARN, "redis %s: %s; trying again every %llu s", n->address, reason,
                  (unsigned long long)retry_ms / 1000);
    else
        tl_logger(TL_WARN, "redis %s: %s; trying again", n->address, reason);
}

void tl_redis_notice_aside(struct tl_redis_notice *n, const char *use, const char *reason,
                           uint64_t retry_ms, uint64_t now_ms)
{
    bool again;
    char cause[200];
    snprintf(cause, sizeof cause, "%s: %s", use, reason);
    if (is_due(n, cause, now_ms, &again))
        tl_logger(TL_WARN, "redis %s: %s; trying again%s", n->address, cause,
                  retry_ms >= 1000 ? " every few seconds" : "");
}

void tl_redis_notice_refused(struct tl_redis_notice *n, const char *command, struct tl_bytes name,
                             const char *words, uint64_t now_ms)
{
    bool again;
    char cause[200], text[256];
    snprintf(cause, sizeof cause, "%s %s", command, words);
    if (is_due(n, cause, now_ms, &again))
        tl_logger(TL_WARN, "redis %s: %s %s refused: %s%s", n->address, command,
                  tl_logger_text(name, text, sizeof text), words,
                  again ? " (and others like it)" : "");
}
