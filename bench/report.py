"""From raw results to tables and plots: medians of the rounds, with their spread."""

import statistics
from dataclasses import dataclass
from pathlib import Path

import plot


@dataclass
class Spread:
    median: float
    low: float
    high: float

    @staticmethod
    def of(values):
        values = list(values)
        if not values:
            return Spread(0, 0, 0)
        return Spread(statistics.median(values), min(values), max(values))

    def text(self, digits=3):
        def short(value):
            return f"{value:,.0f}" if value >= 1000 else f"{value:.{digits}g}"
        return f"{short(self.median)} ({short(self.low)}-{short(self.high)})"


def cpu_seconds(result, pids):
    return sum(p.get("cpu_seconds", 0) for p in result["processes"] if p["pid"] in result[pids])


def per(value, n):
    return value / n if n else 0


def is_measured(result):
    if "failed" in result or not result.get("measured") or result["connect"]["ready"] == 0:
        return False
    return result["measured"]["deliveries"] > 0 or result["messages"]["expected"] == 0


def is_clean(result):
    return is_measured(result) and result["ok"]


def what_is_wrong(results):
    """What a row must say beside its figures."""
    notes = set()
    for r in results:
        if "failed" in r:
            notes.add(f"failed: {r['failed'].splitlines()[0] if r['failed'] else '?'}"[:120])
            continue
        m, c = r["messages"], r["connect"]
        if c["failed"] or c["closed_early"]:
            notes.add("lost connections")
        if m["missing"]:
            notes.add(f"lost {100 * per(m['missing'], m['expected']):.3g} % of the messages")
        if m["duplicates"]:
            notes.add("duplicates")
        if m["out_of_order"]:
            notes.add("out of order")
        if r["trouble"]:
            notes.add(r["trouble"][:100])
    return "; ".join(sorted(notes))


def deliveries_per_send(results):
    """Of those that tell how often they called the kernel for messages."""
    values = [r["messages"]["delivered"] / r["sends"] for r in results if r.get("sends")]
    return f"{statistics.median(values):.3g} deliveries a send" if values else ""


# What Redis is told whether clients come back or not.
PUBLISHING = {"publish", "xadd", "ping", "info", "hello", "auth", "client|setname", "client|id", "config|get",
              "command|docs"}


def redis_reads(result):
    return {name: n for name, n in result.get("redis_commands", {}).items() if name not in PUBLISHING}


def what_redis_saw(results):
    last = next((redis_reads(r) for r in reversed(results) if r["table"] == "storm"), {})
    words = ", ".join(f"{name.replace('|', ' ')} {n:,}" for name, n in sorted(last.items()))
    return f"Redis: {words}" if words else ""


def redis_commands_each(result):
    """Of a storm, for each client; a stream may be read once for each message in any case."""
    reads = redis_reads(result)
    n = sum(reads.values()) - min(reads.get("xread", 0), result["messages"]["published"])
    return per(n, result["storm"]["dropped"])


def share_of_threads(results):
    """How the work divides between the busy threads of the server, for those with several."""
    shares = []
    for r in results:
        used = sorted((t["cpu_seconds"] for p in r["processes"] if p["pid"] in r["server_pids"]
                       for t in p.get("threads", [])), reverse=True)
        busy = [u for u in used if u > 0.05 * sum(used)]
        if len(busy) > 1:
            shares.append([100 * u / sum(used) for u in busy])
    if not shares:
        return ""
    n = min(len(s) for s in shares)
    return "threads " + " / ".join(f"{statistics.median(s[i] for s in shares):.0f}" for i in range(n)) + " %"


def summary(name, results):
    good = [r for r in results if is_measured(r)]
    first = results[0]
    row = {"server": name, "kind": first["kind"], "rounds": len(results), "measured": len(good),
           "clean": bool(good) and all(is_clean(r) for r in results)}
    row["note"] = "; ".join(n for n in (what_is_wrong(results), share_of_threads(good), what_redis_saw(good),
                                        deliveries_per_send(good)) if n)

    def spread(figure):
        return Spread.of(figure(r) for r in good)

    row["cpu_us"] = spread(lambda r: 1e6 * per(cpu_seconds(r, "server_pids"), r["measured"]["deliveries"]))
    row["redis_us"] = spread(lambda r: 1e6 * per(cpu_seconds(r, "redis_pids"), r["measured"]["deliveries"]))
    row["message_us"] = spread(lambda r: per(1e6 * cpu_seconds(r, "server_pids"),
                                             r["measured"]["published_per_second"] * r["measured"]["seconds"]))
    row["rest_us"] = spread(lambda r: 1e6 * per(
        (r["measured"]["machine_cores"] - r["measured"]["generator_cores"]) * r["measured"]["seconds"],
        r["measured"]["deliveries"]))
    row["per_second"] = spread(lambda r: r["measured"]["deliveries_per_second"])
    row["published"] = spread(lambda r: r["measured"]["published_per_second"])
    for q in ("p50", "p99", "max"):
        row[q] = spread(lambda r: r["latency"][f"{q}_us"] / 1000)
    row["connect_us"] = spread(lambda r: 1e6 * per(connect_cpu(r), r["connect"]["ready"]))
    row["connect_s"] = spread(lambda r: r["connect"]["seconds"])
    row["handshake_p99"] = spread(lambda r: r["connect"]["handshake"]["p99_us"] / 1000)
    row["rss_each"] = spread(lambda r: rss(r, "rss_per_connection") / 1024)
    row["rss_all"] = spread(lambda r: rss(r, "rss_connected") / 1048576)
    storms = [r for r in good if r.get("storm")]
    for name, figure in (("caught_s", lambda r: r["storm"]["caught_up"]["max_us"] / 1e6),
                         ("caught_p50", lambda r: r["storm"]["caught_up"]["p50_us"] / 1000),
                         ("caught_p99", lambda r: r["storm"]["caught_up"]["p99_us"] / 1000),
                         ("back_per_second", lambda r: r["storm"]["per_second"]),
                         ("storm_us", lambda r: 1e6 * per(storm_cpu(r), r["storm"]["dropped"])),
                         ("gaps_told", lambda r: r["storm"]["gaps_told"]),
                         ("reads", redis_commands_each)):
        row[name] = Spread.of(figure(r) for r in storms)
    return row


def storm_cpu(result):
    return sum(p.get("storm_cpu_seconds", 0) for p in result["processes"]
               if p["pid"] in result["server_pids"])


def connect_cpu(result):
    return sum(p.get("connect_cpu_seconds", 0) for p in result["processes"]
               if p["pid"] in result["server_pids"])


def rss(result, name):
    return sum(p.get(name, 0) for p in result["processes"] if p["pid"] in result["server_pids"])


def summaries(results, case):
    names = list(dict.fromkeys(r["server"] for r in results if r["case"] == case))
    return [summary(n, [r for r in results if r["case"] == case and r["server"] == n]) for n in names]


# The figure that a table is about, then what stands beside it.
TABLES = {
    "fan-out": ("cpu_us", "CPU us/delivery",
                [("rest_us", "machine without generator, us/delivery"), ("per_second", "deliveries/s"),
                 ("p50", "p50 ms"), ("p99", "p99 ms"), ("max", "max ms"),
                 ("rss_each", "KiB/connection")]),
    "connects": ("connect_us", "CPU us/connect",
                 [("connect_s", "seconds"), ("handshake_p99", "handshake p99 ms")]),
    "memory": ("rss_each", "KiB/connection", [("rss_all", "MiB in all")]),
    "intake": ("message_us", "CPU us/message", [("published", "messages/s"), ("p99", "p99 ms")]),
    "storm": ("caught_s", "seconds until the last has all",
              [("caught_p50", "p50 ms"), ("caught_p99", "p99 ms"), ("back_per_second", "back/s"),
               ("storm_us", "CPU us/client"), ("gaps_told", "gaps told"),
               ("reads", "Redis commands/client")]),
    "latency": ("p99", "p99 ms", [("p50", "p50 ms"), ("max", "max ms"), ("cpu_us", "CPU us/delivery")]),
}


def best(rows, kind, figure):
    values = [row[figure].median for row in rows
              if row["kind"] == kind and row["measured"] and (row["clean"] or kind == "floor")]
    return min((v for v in values if v > 0), default=None)


def ratio(row, base, figure):
    return f"{row[figure].median / base:.2f}" if base and row["measured"] else ""


def table(rows, kind):
    figure, title, beside = TABLES[kind]
    floor, peer = best(rows, "floor", figure), best(rows, "peer", figure)
    with_redis = kind == "fan-out" and any(row["redis_us"].median > 0 for row in rows)
    if with_redis:
        beside = [*beside[:1], ("redis_us", "of it Redis, us"), *beside[1:]]
    heads = ["server", title, "x floor", *(["x best peer"] if peer else []), *[t for _, t in beside],
             "remarks"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row["server"]]
        if row["measured"]:
            cells += [row[figure].text(), ratio(row, floor, figure)]
            cells += [ratio(row, peer, figure)] if peer else []
            cells += [row[name].text() for name, _ in beside]
        else:
            cells += [""] * (len(heads) - 2)
        lines.append("| " + " | ".join([*cells, row["note"]]) + " |")
    return "\n".join(lines)


def in_order(results):
    return list(dict.fromkeys((r["case"], r["title"], r["table"]) for r in results))


def tables(raw):
    parts = []
    for case, title, kind in in_order(raw["results"]):
        parts.append(f"## {title}\n\n{table(summaries(raw['results'], case), kind)}\n")
    return "\n".join(parts)


def merge(parts, order):
    """Several runs as one: what a later one measured of a case and server replaces the same of the others.
    Cases stand in the given order of names."""
    results = {}
    for i, part in enumerate(parts):
        for r in part["results"]:
            key = r["case"], r["server"]
            if key not in results or results[key][0] != i:
                results[key] = (i, [])
            results[key][1].append(r)
    machines = [part["machine"] for part in parts]
    machine = {name: machines[0][name] if len({str(m[name]) for m in machines}) == 1 else
               ", ".join(dict.fromkeys(str(m[name]) for m in machines)) for name in machines[0]}
    machine["versions"] = list(dict.fromkeys(v for m in machines for v in m["versions"]))
    titles = {r["case"]: r["title"] for _, found in results.values() for r in found}
    merged = [dict(r, title=titles[r["case"]]) for _, found in results.values() for r in found]
    return {"machine": machine, "results": sorted(merged, key=lambda r: order.index(r["case"]))}


HEAD = """# Results

Written by `bench/run`; [README.md](README.md) tells the method, and how to do it again. Each figure is the
median of {rounds} interleaved rounds of {duration}, with the lowest and the highest in brackets. Ratios
count; absolute times are those of this machine: {cpu}, {cores} cores, {versions}. Tramline {commit}, {date}.
A server on core 0 (its Redis too), the load generator on core 1. `x floor` is against the better of the two
floors, `x best peer` against the best peer that lost nothing.

"""


def write(raw, out):
    m = raw["machine"]
    text = HEAD.format(**{**m, "versions": ", ".join(m["versions"])})
    plots = Path(out) / "plots"
    plots.mkdir(exist_ok=True)
    for case, title, kind in in_order(raw["results"]):
        rows = summaries(raw["results"], case)
        figure, unit, _ = TABLES[kind]
        (plots / f"{case}.svg").write_text(plot.bars(title, unit, rows, figure))
        text += f"## {title}\n\n![{title}](plots/{case}.svg)\n\n{table(rows, kind)}\n\n"
    (Path(out) / "RESULTS.md").write_text(text.rstrip() + "\n")


def one_line(result):
    """For who waits."""
    if not is_measured(result):
        return f"FAILED {' '.join((result.get('failed') or result.get('trouble') or '?').split())}"
    row = summary(result["server"], [result])
    figure, title, _ = TABLES[result["table"]]
    return f"{row[figure].median:10.3f} {title}, {row['per_second'].median:,.0f}/s  {row['note']}"
