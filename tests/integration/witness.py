"""A publisher that numbers its messages, clients that write down all they see, and a judge.

The publisher knows what Redis took ("taken": PUBLISH or XADD was answered) and what it cannot know
("maybe": the connection broke first). The judge asks of each client: is it in order, is nothing
doubled, and lies a told gap wherever a taken message is missing? Where Redis kept the messages, it
is Redis that is asked what there was to get, and nothing else will do.
"""

import functools
import json
import re
import threading
import time
from urllib.parse import quote

import redis

from harness import Ended, Refused, Sse, WebSocket, made_payload

GAP_REASON = re.compile(rb"gap (\S+) missed=")
PAUSE = 0.01  # between attempts to connect
LEAVES_EVERY = 32  # messages


cached_payload = functools.lru_cache(8192)(made_payload)


class Publisher(threading.Thread):
    """Publishes to each channel in turn, at a pace, through every trouble, until it is stopped."""

    def __init__(self, source, dial, channels, rate=200):
        super().__init__(daemon=True)
        self.source, self.dial, self.channels, self.rate = source, dial, channels, rate
        self.size = 128
        self.next = dict.fromkeys(channels, 0)
        self.taken = {channel: set() for channel in channels}
        self.sizes = {}  # (channel, k) of those that are not of 128 bytes
        self.link = None
        self.ending = threading.Event()

    def run(self):
        due, turn = time.monotonic(), 0
        while not self.ending.is_set():
            self.publish(self.channels[turn % len(self.channels)])
            turn += 1
            due = max(due + 1 / self.rate, time.monotonic() - 0.1)
            self.ending.wait(max(0, due - time.monotonic()))

    def publish(self, channel):
        """One message. What was not sent for want of a connection has no number."""
        if not self.link:
            try:
                link = self.dial()
                link.connect()
                self.link = link
            except (OSError, redis.RedisError):
                self.ending.wait(PAUSE)
                return False
        k = self.next[channel]
        self.next[channel] = k + 1
        if self.size != 128:
            self.sizes[channel, k] = self.size
        try:
            self.source.publish(self.link, channel, self.payload(channel, k))
        except (OSError, redis.RedisError) as error:
            # A read-only node: it may be another one by now that is published to.
            if not isinstance(error, redis.ResponseError) or isinstance(error, redis.ReadOnlyError):
                self.link.disconnect()
                self.link = None
            return False
        self.taken[channel].add(k)
        return True

    def payload(self, channel, k):
        return cached_payload(channel, k, self.sizes.get((channel, k), 128))

    def stop(self):
        self.ending.set()
        self.join()

    def publish_last(self, n):
        """After stop(): n more to each channel, all of them taken. Returns their first numbers."""
        self.ending.clear()
        first = dict(self.next)
        for _ in range(n):
            for channel in self.channels:
                while not self.publish(channel):
                    assert self.next[channel] == first[channel], "Redis refuses to publish"
        return first


class Left(Exception):
    """The client went of its own accord."""


class Watcher(threading.Thread):
    """One client that comes back whenever it is cut off. Its entries are (when, what, value):
    message (its number), told (a gap), down, up, acked, refused, ended, left."""

    kind = None
    stays = True        # and is always there to be told
    has_position = False  # to come back with, whatever ended
    # What an entry says about standing in the stream of live messages.
    LIVE = {"acked": True, "told": True, "up": True, "message": True,
            "down": False, "refused": False, "ended": False, "left": False}

    def __init__(self, gateway, channel, publisher):
        super().__init__(daemon=True)
        self.gateway, self.channel, self.publisher = gateway, channel, publisher
        self.entries, self.wire, self.error = [], None, None
        self.last, self.live = -1, False
        self.ending = threading.Event()
        self.come_back()
        self.start()

    def note(self, what, value=None):
        self.entries.append((time.monotonic(), what, value))
        self.live = self.LIVE[what]

    def message(self, payload):
        k = int(payload.split(b" ", 2)[1])
        assert payload == self.publisher.payload(self.channel, k), f"corrupt: {payload[:80]!r}"
        self.note("message", k)
        self.last = k
        if not self.stays and k % LEAVES_EVERY == LEAVES_EVERY // 2:
            raise Left

    def path(self, kind, query=""):
        return f"/{kind}/{quote(self.channel)}{query}"

    def run(self):
        try:
            while not self.ending.is_set():
                try:
                    self.read()
                except (Ended, ConnectionError) as end:
                    if not self.ending.is_set():
                        self.ended(end)
                        self.come_back()
                except Left:
                    self.note("left")
                    self.come_back()
        except BaseException as error:  # handed on by check()
            if not self.ending.is_set():
                self.error = error

    def ended(self, end):
        self.note("ended", str(end))

    def come_back(self):
        while not self.ending.wait(PAUSE):
            try:
                if self.wire:
                    self.wire.close()
                self.connect()
                return
            except (Refused, Ended, OSError):
                pass

    def check(self):
        if self.error:
            raise self.error

    def stop(self):
        self.ending.set()
        try:
            self.wire.sock.shutdown(2)
        except OSError:
            pass
        self.join()
        self.wire.close()

    def count(self, what, since=0.0):
        return sum(1 for when, w, _ in list(self.entries) if w == what and when >= since)


class SseWatcher(Watcher):
    kind = "sse"
    has_position = True
    last_id = None

    def connect(self):
        headers = {"Last-Event-ID": self.last_id} if self.last_id else None
        self.wire = Sse(self.gateway, self.path("sse"), headers=headers, timeout=3600)
        if not self.last_id:
            self.last_id = self.wire.named("position").id  # whatever is told of the link before
            self.note("acked")

    def read(self):
        event = self.wire.event()
        self.last_id = self.wire.last_id or self.last_id
        if event.name == "message":
            self.message(event.payload)
        elif event.name == "position":
            self.note("acked")
        elif event.name == "gap":
            self.note("told", json.loads(event.data)["missed"])
        else:
            assert event.name == "broker", event
            self.note(json.loads(event.data)["state"])


class PlainWatcher(Watcher):
    kind = "ws"

    def connect(self):
        self.wire = WebSocket(self.gateway, self.path("ws"), timeout=3600)
        self.note("acked")

    def read(self):
        self.message(self.wire.payload())


class StrictWatcher(PlainWatcher):
    """Is closed at a gap, as it asked, and goes on from the position that it was told."""

    kind = "strict"
    LIVE = dict(Watcher.LIVE, told=False)
    since = None

    def connect(self):
        query = f"?since={self.since}" if self.since else "?strict=1"
        self.wire = WebSocket(self.gateway, self.path("ws", query), timeout=3600)
        # Where it stands after that is told with the next close.
        self.note("acked")

    def ended(self, end):
        told = isinstance(end, Ended) and end.code == 4410 and GAP_REASON.match(end.reason)
        if told:
            self.note("told")
            self.since = told[1].decode()
        else:
            self.note("ended", str(end))


class LeavingSseWatcher(SseWatcher):
    """Goes now and then, and resumes with the last id."""

    kind = "leaving sse"
    stays = False


class CountingWatcher(StrictWatcher):
    """Goes now and then, and resumes with a position and the number of messages since."""

    kind = "counting"
    stays = False
    has_position = True
    received = 0

    def connect(self):
        if not self.since:
            answer = self.gateway.get(self.path("position"))
            self.since = answer.json()["position"]
        query = f"?since={self.since}&received={self.received}"
        self.wire = WebSocket(self.gateway, self.path("ws", query), timeout=3600)
        self.note("acked")

    def message(self, payload):
        self.received += 1
        super().message(payload)

    def ended(self, end):
        super().ended(end)
        if self.entries[-1][1] == "told":
            self.received = 0


WATCHERS = (SseWatcher, PlainWatcher, StrictWatcher)
LEAVING = (LeavingSseWatcher, CountingWatcher)


class Verdict:
    """What one client missed and was told, by its own notes."""

    def __init__(self, watcher, taken):
        self.doubled = self.swapped = 0
        self.lost, self.untold = set(), set()
        absent = False  # closed without a position to come back with: what it misses is not lost
        self.gaps_with_loss = self.runs = 0
        self.gaps = watcher.count("told")
        self.ends = [value for _, what, value in watcher.entries if what == "ended"]
        got, last, told = set(), -1, False
        for _, what, k in watcher.entries:
            if what in ("told", "ended"):
                told = True
                absent = what == "ended" and not watcher.has_position
            elif what == "message":
                self.doubled += k in got
                self.swapped += k < last and k not in got
                missing = {n for n in range(last + 1, k) if n in taken} - got
                self.lost |= set() if absent else missing
                self.runs += bool(missing) and not absent
                self.gaps_with_loss += bool(missing) and told
                if missing and not told:
                    self.untold |= missing
                got.add(k)
                last, told, absent = max(last, k), False, False
        assert got, f"{watcher.kind} on {watcher.channel} got nothing"
        self.lost -= got
        self.missing_at_end = {n for n in taken if n > last}
