"""Every fault of the link to Redis that we know how to cause, on a real redis-server, under load.

For each of faults.py, on each source: clients of three kinds on several channels (event streams, plain
WebSockets, WebSockets that ask to be closed at a gap), and a publisher that numbers its messages.
Whatever happens, each client's messages are in order and not doubled, whatever is missing lies under a
gap that was told, nobody is disconnected who did not ask for it, and once the clients are told that
they are live again they get all that follows (R12 to R15, R26). On Streams each gets exactly what the
stream holds in the end, also those that leave now and then and resume with a position (R13, R16), and
nobody is told a gap, unless the data themselves are gone (R17). How long it takes is written down and
never judged:

    pytest tests/integration/test_faults.py --soak --reliability docs/reliability.md
"""

import contextlib
import itertools
import time

import pytest
import redis as redis_client

import harness
from faults import FAULTS, SOURCES
from harness import wait_for
from network import Proxy
from witness import LEAVING, WATCHERS, Publisher, SseWatcher, Verdict

CHANNELS, EACH = 3, 2  # so many clients of each kind on so many channels
LAST = 20              # messages to each channel that must all arrive in the end
QUICK = ["--redis-ping", "200ms", "--redis-dead", "600ms"]
FIRST = 20             # and so many that do before the fault
RSS_GROWTH = 64 << 20  # generous; the table has the figures


class Scene:
    """A Redis, a gateway, clients and a publisher, and what a fault may do to them."""

    def __init__(self, fault, source, own_redis, gateway, terms, at_end):
        self.fault, self.source, self.another_redis = fault, source, own_redis
        self.at_end = at_end
        self.channels = [f"{fault.run.__name__}_{i}" for i in range(CHANNELS)]
        self.publish_to = self.keeper = None
        self.lossless = fault.lossless or source.keeps and fault.keeps
        self.may_tell = fault.may_tell and not source.keeps
        self.round = -1
        self.redis = fault.make(self)
        self.keeper = self.keeper or self.redis  # of what was published
        self.proxy = None
        if fault.proxied:
            self.proxy = Proxy(self.redis.port)
            at_end.callback(self.proxy.stop)
        where = f"{self.redis.host}:{(self.proxy or self.redis).port}"
        self.gateway = gateway("--redis", f"redis://{fault.user}{where}", "--workers", 2,
                               *source.gateway, *terms, *fault.gateway)
        self.publisher = Publisher(source, self.dial, self.channels)
        self.watchers = []
        leaving = LEAVING if source.keeps and self.lossless else ()
        for name, kind in itertools.product(self.channels, WATCHERS * EACH + leaving):
            self.watchers.append(kind(self.gateway, name, self.publisher))
            at_end.callback(self.watchers[-1].stop)
        at_end.callback(self.publisher.ending.set)
        self.began = 0.0

    def dial(self):
        if self.publish_to:
            kind, more = self.publish_to
            return kind(**more)
        return redis_client.Connection(port=self.redis.port, password=self.redis.password)

    def admin(self, *command):
        return self.redis.client.execute_command(*command)

    def kill_links(self, role):
        """Those of the gateway, named tramline-<pid>-<role>. How many there were."""
        ids = [client["id"] for client in self.redis.client.client_list()
               if client["name"].startswith("tramline-") and client["name"].endswith(role)]
        for id_ in ids:
            with contextlib.suppress(redis_client.ResponseError):  # gone with another one
                self.admin("CLIENT", "KILL", "ID", id_)
        return len(ids)

    def wait_logged(self, words):
        wait_for(lambda: words in self.gateway.log(), f"{words} is logged")

    def wait_until(self, condition, what, deadline=None):
        def look():
            assert self.gateway.process.poll() is None, "the gateway is gone"
            for watcher in self.watchers:
                watcher.check()
            return condition()
        wait_for(look, what, deadline or 4 * harness.DEADLINE)

    def wait_flow(self, n):
        start = {w: w.last for w in self.watchers}
        self.wait_until(lambda: all(w.last >= start[w] + n for w in self.watchers), "messages flow")

    def streams(self):
        return [w for w in self.watchers if isinstance(w, SseWatcher) and w.stays]

    def once(self):
        """Cause the fault, wait until it was told, take it away, wait until all is well. Returns
        seconds to the last stream's notice, and from the end of the cause to the last one live."""
        self.began = time.monotonic()
        self.round += 1
        running = self.fault.run(self)
        hold = next(running)
        if self.fault.breaks:
            self.wait_until(lambda: all(self.first(w, "down", "ended") for w in self.streams()),
                            "every event stream is told")
        self.hold(hold)
        healed = time.monotonic()
        with contextlib.suppress(StopIteration):
            next(running)
        self.wait_until(self.is_well, "everybody is live again", 8 * harness.DEADLINE)
        self.gateway.wait_ready()
        if not self.fault.breaks:
            told = [self.first(w, "told") for w in self.streams()]
            return (max(told) - self.began if all(told) else None), None
        down = max(self.first(w, "down", "ended") for w in self.streams())
        live = max(self.first(w, self.good_news) for w in self.streams())
        return down - self.began, live - healed

    @property
    def good_news(self):
        """What an event stream is told when it is live again after the link was lost."""
        return "up" if self.lossless else "told"

    def hold(self, seconds):
        end = self.began + (seconds or 0)
        if end > time.monotonic():
            self.wait_until(lambda: time.monotonic() >= end, "it lasts", 10 + seconds)

    def first(self, watcher, *what):
        """When it was first told one of these since the fault began, or None."""
        return next((when for when, w, _ in list(watcher.entries)
                     if w in what and when >= self.began), None)

    def is_well(self):
        """All who stay are live, and those who can be told were told, or cut off."""
        return all(w.live and (not self.fault.breaks or w.kind == "ws" or
                               self.first(w, self.good_news) or
                               w.kind == "strict" and (self.lossless or self.first(w, "ended")))
                   for w in self.watchers if w.stays)

    def told(self):
        """How many gaps, by channel."""
        return {name: max(w.count("told") for w in self.streams() if w.channel == name)
                for name in self.channels}

    def counted(self):
        """What the counters must say, by what the clients saw. Two gaps that came at once close
        a client once."""
        told = self.told()
        plain = sum(told[w.channel] for w in self.watchers if w.kind == "ws")
        seen = plain + sum(w.count("told") for w in self.watchers)
        closes = [(w.count("told"), told[w.channel]) for w in self.watchers if w.kind == "strict"]
        closed = sum(n for n, _ in closes)
        at_once = sum(max(0, of_channel - n) for n, of_channel in closes)
        return {"gaps_total": range(seen, seen + at_once + 1),
                "gap_closes_total": range(closed, closed + 1)}

    def wait_counted(self, before):
        """A gap may come on its own time: as when Redis is asked whether it is a replica."""
        if self.fault.forbids:
            return

        def look():
            now, counted = self.gateway.metrics(), self.counted()
            return all(now[name] - before[name] in values for name, values in counted.items())
        wait_for(look, "the counters say what the clients saw")

    def held(self):
        """Of a source that keeps messages: their numbers, by channel, in its order."""
        if not self.source.keeps:
            return {}
        self.keeper.client.config_set("client-output-buffer-limit", "normal 0 0 0")
        return {name: [int(fields[b"data"].split(b" ", 2)[1])
                       for _, fields in self.keeper.client.xrange(name)] for name in self.channels}

    def finish(self):
        """All that is published from here on must reach everybody."""
        self.publisher.stop()
        first = self.publisher.publish_last(LAST)
        last = {name: k + LAST - 1 for name, k in first.items()}
        self.wait_until(lambda: all(w.last >= last[w.channel] for w in self.watchers),
                        "what was published last arrives")


def judge_kept(s, held):
    """What Redis still has in the end is what everybody got, no more and no less."""
    for name, numbers in held.items():
        assert s.publisher.taken[name] <= set(numbers), "Redis lost what it was to keep"
    for w in s.watchers:
        got = [k for _, what, k in w.entries if what == "message"]
        if not w.count("ended") or w.has_position:
            assert got == held[w.channel], f"{w.kind} on {w.channel}: {w.entries[-40:]}"


def judge(s, verdicts):
    """What must hold after any fault."""
    for w, v in verdicts.items():
        where = f"{w.kind} on {w.channel}: {w.entries[-40:]}"
        assert not v.doubled and not v.swapped, where
        assert not v.missing_at_end, where
        assert w.kind == "ws" or not v.untold, f"{sorted(v.untold)[:20]} not told: {where}"
        if w.channel in s.channels[s.fault.forbids:]:
            assert not v.ends, where
        if s.lossless:
            assert not v.lost and (not v.gaps or s.may_tell), where
    told = s.told()
    for w, v in verdicts.items():  # a plain WebSocket misses nothing but under its channel's gaps
        assert v.runs <= told[w.channel], f"{w.kind} on {w.channel}: {v.runs}"


class Said:
    """A client that noted these entries."""

    kind, channel, has_position = "sse", "x", True

    def __init__(self, *entries):
        self.entries = [(0, what, None if isinstance(k, str) else k)
                        for k in entries for what in [k if isinstance(k, str) else "message"]]

    def count(self, what):
        return sum(1 for _, w, _ in self.entries if w == what)


@pytest.mark.parametrize("entries, lost, untold, doubled, swapped", [
    ((0, 1, 2, 3, 4), 0, 0, 0, 0), ((0, 1, "told", 4), 2, 0, 0, 0), ((0, 1, 4, "told"), 2, 2, 0, 0),
    (("told", 0, 4), 3, 3, 0, 0), ((2, 3, 4), 2, 2, 0, 0), ((0, 1, 1, 2, 3, 4), 0, 0, 1, 0),
    ((0, 2, 1, 3, 4), 0, 1, 0, 1), ((0, "told", 2, 4), 2, 1, 0, 0), ((0, "ended", 4), 3, 0, 0, 0)])
def test_the_judge_notices(entries, lost, untold, doubled, swapped):
    v = Verdict(Said(*entries), set(range(5)))
    assert (len(v.lost), len(v.untold), v.doubled, v.swapped) == (lost, untold, doubled, swapped)
    assert Verdict(Said(0, 1, 2), set(range(5))).missing_at_end == {3, 4}


def row(s, verdicts, times, rss):
    """The fault's line in docs/reliability.md."""
    def total(what):
        return sum(what(v) for v in verdicts.values())

    def worst(values):
        known = [max(0, v) for v in values if v is not None]
        return f"{max(known):.2f}" if known else "-"

    lost = {(w.channel, k) for w, v in verdicts.items() for k in v.lost}
    streams = [verdicts[w] for w in s.streams()]
    return [
        worst(t[0] for t in times), worst(t[1] for t in times),
        sum(len(taken) for taken in s.publisher.taken.values()), len(lost),
        len({(w.channel, k) for w, v in verdicts.items() if w.kind != "ws" for k in v.untold}),
        total(lambda v: v.doubled), total(lambda v: v.swapped),
        f"{sum(v.gaps for v in streams)} / {sum(v.gaps_with_loss for v in streams)}",
        sum(1 for v in verdicts.values() if v.ends),
        sum(v.gaps for w, v in verdicts.items() if w.kind == "strict"),
        f"{rss[0] / 1048576:.1f} / {rss[1] / 1048576:.1f}",
    ]


def cases():
    for f in FAULTS:
        for name in f.on:
            marks = [] if name in f.quick else [pytest.mark.soak]
            times = f"_{f.times}_times" if f.times > 1 else ""
            yield pytest.param(name, f, marks=marks, id=f"{f.run.__name__}{times}-{name}")


@pytest.mark.parametrize("source, fault", cases())
def test_nothing_is_lost_silently(gateway, own_redis, request, record_property, source, fault):
    measuring = request.config.getoption("--reliability")
    with contextlib.ExitStack() as at_end:
        s = Scene(fault, SOURCES[source], own_redis, gateway, [] if measuring else QUICK, at_end)
        s.publisher.start()
        s.wait_flow(FIRST)
        rss, before = s.gateway.rss(), s.gateway.metrics()
        times = [s.once() for _ in range(fault.times)]
        s.finish()
        s.wait_counted(before)
        held, rss = s.held(), (rss, s.gateway.rss())
    if held and s.lossless:
        judge_kept(s, held)
        s.publisher.taken = {name: set(numbers) for name, numbers in held.items()}
    verdicts = {w: Verdict(w, s.publisher.taken[w.channel]) for w in s.watchers}
    judge(s, verdicts)
    assert rss[1] < rss[0] + RSS_GROWTH
    record_property("reliability", [fault.name, source, *row(s, verdicts, times, rss)])
