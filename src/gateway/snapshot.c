#include "gateway/snapshot.h"

#include "base/alloc.h"
#include "base/metrics.h"
#include "gateway/exchange.h"
#include "proto/sse.h"

#include <inttypes.h>
#include <stdio.h>

bool tl_snapshot_is_wanted(const struct tl_channel_view *view, const struct tl_terms *terms)
{
    return view->rule->snapshot && !terms->resumes && !terms->tells_history;
}

/* A message of this epoch, so that nothing newer can have been missed. */
static bool find_newest(const struct tl_view *view, struct tl_mark *ret_mark)
{
    struct tl_mark newest = tl_view_history(view, 1);
    if (newest.msg == view->head.msg)
        return false;
    *ret_mark = newest;
    return true;
}

/* What the hub said stands: there is such a value, or none, or it is too early to ask again. */
static bool stands(const struct tl_channel_view *view, uint64_t now_ms)
{
    const struct tl_view_snapshot *snapshot = view->snapshot;
    if (snapshot->again_ms > 0)
        return now_ms < snapshot->again_ms;
    return snapshot->epoch == view->view.epoch;
}

static bool ask(struct tl_channel_view *view)
{
    struct tl_view_snapshot *snapshot = view->snapshot;
    if (!snapshot) {
        snapshot = tl_zalloc(sizeof *snapshot);
        if (!snapshot) {
            tl_metric_add(TL_M_REFUSED_MEMORY, 1);
            return false;
        }
        snapshot->view = view;
        tl_list_init(&snapshot->node);
        view->snapshot = snapshot;
    }
    tl_segment_unref(snapshot->seg);
    snapshot->seg = NULL;
    snapshot->asking = true;
    snapshot->mail.deliver = tl_hub_on_snapshot;
    tl_hub_post(view->worker->hub, view->worker, &snapshot->mail);
    return true;
}

/* Would a value be all that there is? */
static bool needs_key(const struct tl_channel_view *view)
{
    struct tl_mark newest;
    return tl_config_has_key(view->rule) && !view->stale && !find_newest(&view->view, &newest) &&
           !tl_hub_is_pattern(view->worker->hub, tl_channel_view_name(view));
}

bool tl_snapshot_settles(struct tl_channel_view *view)
{
    if (!needs_key(view))
        return true;
    if (view->snapshot && view->snapshot->asking)
        return false;
    if (view->snapshot && stands(view, tl_loop_now_ms(view->worker->loop)))
        return true;
    return !ask(view); /* without memory it is served without */
}

bool tl_snapshot_is_void(const struct tl_channel_view *view)
{
    const struct tl_view_snapshot *kept = view->snapshot;
    return kept && !kept->asking && kept->again_ms == 0 && kept->epoch != view->view.epoch &&
           needs_key(view);
}

struct tl_snapshot tl_snapshot_start(const struct tl_channel_view *view, struct tl_mark *ret_from)
{
    const struct tl_view_snapshot *kept = view->snapshot;
    uint64_t now_ms = tl_loop_now_ms(view->worker->loop);
    struct tl_snapshot snapshot = {.kind = TL_SNAPSHOT_NONE};
    *ret_from = view->view.head;
    if (view->stale)
        return snapshot;
    if (find_newest(&view->view, ret_from)) {
        uint64_t time_ms = tl_view_time_ms(&view->view, ret_from->idx);
        snapshot.kind = TL_SNAPSHOT_LOG;
        snapshot.age_ms = now_ms > time_ms ? now_ms - time_ms : 0;
    } else if (kept && !kept->asking && kept->seg && stands(view, now_ms)) {
        snapshot.kind = TL_SNAPSHOT_KEY;
        snapshot.seg = tl_segment_ref(kept->seg);
    }
    tl_metric_add(TL_M_SNAPSHOTS, snapshot.kind != TL_SNAPSHOT_NONE);
    return snapshot;
}

void tl_snapshot_append_event(const struct tl_snapshot *snapshot, struct tl_buf *out)
{
    char json[64] = "{\"age_ms\":null}"; /* a key does not tell when it was set */
    if (snapshot->kind == TL_SNAPSHOT_NONE)
        return;
    if (snapshot->kind == TL_SNAPSHOT_LOG)
        snprintf(json, sizeof json, "{\"age_ms\":%" PRIu64 "}", snapshot->age_ms);
    tl_sse_control(out, "snapshot", tl_bytes_str(json));
}

bool tl_snapshot_send(struct tl_session *s, struct tl_snapshot *snapshot)
{
    struct tl_segment *seg = snapshot->seg;
    snapshot->seg = NULL;
    if (!seg)
        return true;
    if (!tl_session_lend(s, tl_bytes(seg->bytes, seg->entries[0].end))) {
        tl_segment_unref(seg);
        return false;
    }
    s->own_last->seg = seg;
    return true;
}

void tl_snapshot_on_answer(struct tl_mail *mail)
{
    struct tl_view_snapshot *snapshot = TL_CONTAINER(mail, struct tl_view_snapshot, mail);
    snapshot->asking = false;
    tl_snapshot_on_update(snapshot->view);
    tl_worker_acknowledge(snapshot->view);
}

void tl_snapshot_on_update(struct tl_channel_view *view)
{
    struct tl_view_snapshot *snapshot = view->snapshot;
    struct tl_mark newest;
    if (!snapshot || snapshot->asking || !snapshot->seg ||
        (snapshot->epoch == view->view.epoch && !find_newest(&view->view, &newest)))
        return;
    tl_segment_unref(snapshot->seg);
    snapshot->seg = NULL;
}

void tl_snapshot_free(struct tl_channel_view *view)
{
    if (!view->snapshot)
        return;
    tl_segment_unref(view->snapshot->seg);
    tl_free(view->snapshot);
    view->snapshot = NULL;
}
