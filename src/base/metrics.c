#include "base/metrics.h"

#include <inttypes.h>

_Atomic int64_t tl_metric_values[TL_METRIC_N];

enum kind { COUNTER, GAUGE };

static const struct {
    const char *name, *help;
    enum kind kind;
} table[TL_METRIC_N] = {
#define ROW(id, kind, name, help) {name, help, kind},
    TL_METRICS(ROW)
#undef ROW
};

void tl_metrics_text(struct tl_buf *out)
{
    for (int m = 0; m < TL_METRIC_N; m++) {
        const char *suffix = table[m].kind == COUNTER ? "_total" : "";
        tl_buf_printf(
            out, "# HELP tramline_%s%s %s\n# TYPE tramline_%s%s %s\ntramline_%s%s %" PRId64 "\n",
            table[m].name, suffix, table[m].help, table[m].name, suffix,
            table[m].kind == COUNTER ? "counter" : "gauge", table[m].name, suffix,
            tl_metric_get((enum tl_metric)m));
    }
}
