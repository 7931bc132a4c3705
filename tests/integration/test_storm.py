"""R18: everybody drops at once and comes back with a position while messages flow. All are served
from memory: Redis sees no command more than it would have without the storm."""

import pytest

from test_bench import KINDS, assert_clean, bench, ready
from test_checker import toy  # noqa: F401 (a fixture)
from test_streams import BELLS

CHANNELS, MESSAGES = 4, 150
# What the gateway's links and this test say whether anybody comes back or not.
HARMLESS = {"ping", "info", "hello", "client|setname", "client|id", "config|get", "publish", "xadd"}


def commands(redis):
    stats = redis.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): s["calls"] for name, s in stats.items()}


def storm(g, redis, channel, kind, clients, *more):
    """Returns the bench's report and the commands that were not HARMLESS."""
    before = commands(redis)
    report = assert_clean(
        bench(g.target, "--publish", redis.url, "--prefix", channel, "--subscribers", clients,
              "--channels", CHANNELS, "--parallel", clients, "--rate", 100, "--messages", MESSAGES,
              "--resume-storm", "700ms", *ready(kind), *more, **kind),
        clients, sum(len(range(c, clients, CHANNELS)) * len(range(c, MESSAGES, CHANNELS))
                     for c in range(CHANNELS)))
    assert report["storm"]["dropped"] == report["storm"]["came_back"] == clients
    assert report["storm"]["caught_up"]["n"] == clients
    assert report["storm"]["stranded"] == report["storm"]["gaps_told"] == 0
    assert g.metric("gaps_total") == 0 and g.metric("connections_accepted_total") >= 2 * clients
    found = {name: calls - before.get(name, 0) for name, calls in commands(redis).items()}
    return report, {name: n for name, n in found.items() if n > 0 and name not in HARMLESS}


def many(g_arguments, clients):
    return [*g_arguments, "--max-connections-per-address", 3 * clients]


SIZES = [pytest.param(400, id="hundreds"), pytest.param(10000, id="10000", marks=pytest.mark.soak)]


@pytest.mark.parametrize("clients", SIZES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_storm_on_pubsub_costs_redis_one_subscribe_a_channel(gateway, own_redis, workers, channel,
                                                               kind, clients):
    redis = own_redis()
    g = gateway(*many(["--redis", redis.url, "--workers", workers], clients))
    _, seen = storm(g, redis, channel, kind, clients)
    assert list(seen) == ["subscribe"] and seen["subscribe"] <= CHANNELS, seen
    assert g.metric("broker_subscribes_total") == CHANNELS


@pytest.mark.parametrize("clients", SIZES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_storm_on_streams_reads_none_of_them_again(gateway, own_redis, workers, channel, kind,
                                                     clients):
    """A stream is read when its doorbell rings; nobody who comes back makes it ring."""
    redis = own_redis(*BELLS)
    g = gateway(*many(["--redis", redis.url, "--workers", workers, "--channel",
                       f"{channel}*: source=stream"], clients))
    _, seen = storm(g, redis, channel, kind, clients, "--stream")
    assert redis.client.xlen(f"{channel}0") == len(range(0, MESSAGES, CHANNELS))
    assert "xrevrange" not in seen  # what somebody who comes back would be looked up with
    assert seen.pop("xread", 0) <= MESSAGES + CHANNELS
    # For each stream where it stands, and once more with its first entry.
    assert all(calls <= 2 * CHANNELS for calls in seen.values()), seen


@pytest.mark.race
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_storm_between_processes_over_the_memory_broker_is_clean(gateway, workers, channel, kind):
    g = gateway("--workers", workers)
    report = assert_clean(
        bench(g.target, "--prefix", channel, "--subscribers", 120, "--processes", 3, "--rate", 500,
              "--messages", 600, "--resume-storm", "300ms", *ready(kind), "--pid", g.pid, **kind),
        120, 120 * 600)
    assert report["storm"]["came_back"] == report["storm"]["returned"]["n"] == 120
    assert report["processes"][0]["storm_cpu_seconds"] >= 0
    assert g.metric("connections_accepted_total") >= 240


def test_a_storm_through_a_pattern_is_clean(gateway, channel):
    g = gateway("--pattern", f"{channel} {channel}_x*")
    assert_clean(bench(g.target, "--all", "--subscribers", 50, "--channels", 12, "--rate", 300,
                       "--messages", 200, "--resume-storm", "200ms", "--prefix", f"{channel}_x",
                       "--position", f"/position/{channel}", path=f"/ws/{channel}"), 50, 10000)


def test_what_a_storm_may_not_lose_is_seen(toy):  # noqa: F811
    """A server that keeps nothing for who is away."""
    status, report, _ = bench(toy("none").target, "--prefix", "check", "--subscribers", 10, "--rate",
                              500, "--messages", 400, "--resume-storm", "200ms", "--timeout", "3s",
                              **KINDS["sse"])
    assert status == 1 and not report["ok"]
    assert report["storm"]["dropped"] == 10
    assert report["messages"]["missing"] > 0


@pytest.mark.parametrize("log, kind", [(4, "sse"), (4, "ws")])
def test_what_the_log_has_no_more_is_told_and_counted(gateway, channel, log, kind):
    g = gateway("--log-messages", log, "--channel", "*: overflow=gap")
    status, report, _ = bench(g.target, "--prefix", channel, "--subscribers", 50, "--rate", 1000,
                              "--burst", 100, "--messages", 500, "--resume-storm", "150ms", "--lossy",
                              "--timeout", "5s",
                              *ready(KINDS[kind]), **KINDS[kind])
    assert status == 0
    told, missing = report["storm"]["gaps_told"], report["messages"]["clients_missing"]
    assert missing <= told, report


@pytest.mark.parametrize("arguments, words", [
    ([], "--rate"),
    (["--rate", "10", "--publish", "none"], "--rate"),
    (["--rate", "10", "--position", "x"], "--position"),
    (["--rate", "10", "--all"], "--position"),
])
def test_a_storm_that_makes_no_sense_is_told(arguments, words):
    status, report, errors = bench("127.0.0.1:1", "--resume-storm", "1s", *arguments, path="/ws/x")
    assert status == 2 and not report
    assert words in errors


def test_a_server_without_positions_is_named(toy):  # noqa: F811
    status, report, errors = bench(toy("none").target, "--subscribers", 3, "--rate", 10,
                                   "--resume-storm", "1s", "--timeout", "2s")
    assert status == 1 and report["ended_early"]
    assert "/position/{channel}" in errors
