"""How an event stream of several channels ends: with the gateway, without a channel that Redis forbids, and
with its client, wherever that stands (R22, R25, R15, R11). What it had is whole, what it missed is told when
it comes back, and nothing of it is left."""

import collections
import itertools
import json
import signal
import threading

import pytest

import harness
from fake_redis import FakeRedis
from harness import Ended, Sse, wait_for
from test_many_channels import Many, gaps_of, path, publish_all, tag
from test_snapshot import Begun

DRAIN = ["--drain", "1m"]  # which is over when the last client has gone
SHORT = ["--linger", "50ms", "--history-ttl", "50ms"]
SURE = ["--redis-dead", "10m"]
LARGE_LOGS = ["--log-bytes", "64MiB", "--log-age", "10m"]


@pytest.fixture
def fake():
    server = FakeRedis()
    yield server
    server.stop()


class Follower(Many):
    """Reads to the end of the stream, which must be an end and no reset, and stand behind an event."""

    def __init__(self, *arguments, **more):
        self.tail, self.got = b"", []
        super().__init__(*arguments, **more)

    def more(self):
        data = self.sock.recv(262144)
        self.held += data
        return bool(data)

    def _more_text(self):
        super()._more_text()
        self.tail = (self.tail + self.text)[-2:]

    def follow(self):
        try:
            while True:
                self.got.append(self.event())
        except Ended:
            assert self.tail == b"\n\n", "the stream was cut within an event"
        return self.got

    def numbers(self):
        """Of each channel's messages."""
        numbers = collections.defaultdict(list)
        for event in self.got:
            if event.name == "message":
                numbers[tag(event)[0]].append(int(event.data))
        return numbers


def is_run(numbers):
    """One after the other, from wherever it begins."""
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def at_port():
    return ["--listen", f"127.0.0.1:{harness.free_port()}", *DRAIN]


def drain(g):
    g.process.send_signal(signal.SIGTERM)


def is_over(g):
    return g.process.wait(harness.DEADLINE) == 0


def wait_at_rest(g, *more, **known):
    """Nobody is there, and nothing of anybody who was. known: gauges that are not 0."""
    wanted = dict.fromkeys(("subscriptions", "sse_sessions", "websocket_sessions", "retired_bytes", *more), 0)
    wanted.update({"connections": 1}, **known)  # of who asks
    seen = {}

    def look():
        metrics = g.metrics()
        seen.update({name: metrics[name] for name in wanted})
        return seen == wanted

    try:
        wait_for(look, "at rest")
    except harness.TimeIsUp:
        raise harness.TimeIsUp(f"not at rest: {seen}, wanted {wanted}") from None


def wait_empty(g):
    """And the channels are gone, too."""
    wait_at_rest(g, "channels", "log_bytes")


def begin_with(g, names, payloads, **more):
    """Somebody who begins with these snapshots. On a slow machine some keys are given up; then they are there
    for who comes later."""
    def look():
        begun = Begun(g, names, **more)
        if begun.payloads == payloads:
            return begun
        begun.client.close()
        assert begun.payloads.items() <= payloads.items()
        return None

    return wait_for(look, "it begins with all of them")


# --- the gateway goes ---


@pytest.mark.race
def test_a_drain_ends_streams_between_events_and_the_next_start_tells_a_gap_of_each(serve, channel):
    listen = at_port()
    first = serve(*listen, listen=False)
    names = [f"{channel}_{c}" for c in "abc"]
    clients = [Follower(first, names).acked() for _ in range(8)]
    readers = [harness.Background(client.follow) for client in clients]
    over = threading.Event()

    def publish():
        for i in itertools.count():
            try:
                publish_all(first, serve.redis, [(name, b"%d" % i) for name in names])
            except (AssertionError, Ended, OSError):
                return  # nobody is there to get it any more
            if over.is_set():
                return

    publisher = harness.Background(publish)
    wait_for(lambda: all(len(client.got) > 50 for client in clients), "messages flow")
    drain(first)
    for reader in readers:
        reader.result()
    over.set()
    assert is_over(first)
    publisher.result()
    for client in clients:
        numbers = client.numbers()
        assert all(numbers[name] == list(range(len(numbers[name]))) for name in names)
        assert all(event.name == "message" for event in client.got)
    second = serve(*listen, listen=False)
    backs = [Sse(second, path(names), headers={"Last-Event-ID": client.last_id}) for client in clients]
    for back in backs:
        gaps, _ = gaps_of(back)
        assert set(gaps) == set(names) and {gap["missed"] for gap in gaps.values()} == {None}
    assert second.metric("gaps_total") == len(clients) * len(names)
    publish_all(second, serve.redis, [(name, b"on") for name in names])
    for back in backs:
        assert [tag(back.event())[0] for _ in names] == names
    again = Many(second, names, headers={"Last-Event-ID": backs[0].last_id}).acked()
    publish_all(second, serve.redis, [(names[1], b"and on")])
    assert again.tagged() == (names[1], b"and on")


@pytest.mark.parametrize("notify", ["Kgt", ""])
def test_positions_of_streams_are_good_at_the_next_start_and_that_of_a_plain_channel_is_a_gap(
        gateway, own_redis, workers, notify):
    redis = own_redis()
    redis.client.config_set("notify-keyspace-events", notify)
    rule = ["--redis", redis.url, "--workers", workers, "--channel", "order_*: source=stream", *at_port()]
    streams, names = ["order_1", "order_2"], ["order_1", "plain", "order_2"]

    def add(i):
        for name in streams:
            redis.client.xadd(name, {"data": b"%d" % i})

    first = gateway(*rule, listen=False)
    add(0)  # before the page
    sinces = {name: wait_for(lambda: first.get(f"/position/{name}"), "it answers").json()["position"]
              for name in names}
    url = "/sse?" + "&".join(f"ch={name}&since={sinces[name]}" for name in names)
    page = Sse(first, url).acked()
    for i in range(1, 4):
        add(i)
        assert sorted(tag(page.event())[0] for _ in streams) == streams
    drain(first)
    assert page.ended()
    add(4)
    assert is_over(first)
    add(5)
    second = gateway(*rule, listen=False)
    # The page is loaded anew: from where it was rendered.
    anew = Sse(second, url)
    gaps, _ = gaps_of(anew)
    assert list(gaps) == ["plain"]
    add(6)
    got = collections.defaultdict(list)
    for _ in range(6 * len(streams)):
        event = anew.event()
        assert event.name == "message", event
        got[tag(event)[0]].append(int(event.data))
    assert got == {name: list(range(1, 7)) for name in streams}
    # The browser comes back by itself, with a number of the first one: it had some behind the URL's positions.
    back = Sse(second, url, headers={"Last-Event-ID": page.last_id})
    gaps, _ = gaps_of(back)
    assert set(gaps) == set(names)
    add(7)
    assert {(tag(e)[0], e.data) for e in (back.event(), back.event())} == {(name, b"7") for name in streams}


def test_a_drain_amid_snapshots_cuts_none_and_the_next_start_sends_all_of_them(gateway, own_redis):
    redis = own_redis()
    arguments = ["--redis", redis.url, "--channel", "big_{id}: snapshot=key:big:{id}", *at_port()]
    names = [f"big_{i}" for i in range(60)]
    values = {name: b"%d " % i + b"x" * 200000 for i, name in enumerate(names)}
    for i, name in enumerate(names):
        redis.client.set(f"big:{i}", values[name])
    first = gateway(*arguments, listen=False)
    begin_with(first, names, values)
    slow = Follower(first, names, receive_buffer=4096)
    begun = [slow.event(), slow.event()]
    assert [event.name for event in begun] == ["snapshot", "message"]
    drain(first)
    wait_for(lambda: not is_listening(first), "the drain has begun")
    events = begun + slow.follow()
    assert is_over(first)
    assert [event.name for event in events] == ["snapshot", "message"] * (len(events) // 2)
    had = [(tag(event)[0], event.data) for event in events if event.name == "message"]
    assert had == list(values.items())[:len(had)] and len(had) < len(names)
    assert slow.last_id == f"@{had[-1][0]}"
    second = gateway(*arguments, listen=False)
    back = begin_with(second, names, values, headers={"Last-Event-ID": slow.last_id})
    assert second.metric("gaps_total") == 0
    redis.publish(names[3], b"live")
    assert back.message() == (names[3], b"live")


def is_listening(g):
    try:
        harness.Wire(g.port).close()
        return True
    except ConnectionError:
        return False


def test_who_reads_no_snapshots_holds_no_drain_up(gateway):
    g = gateway("--channel", "big_*: snapshot=log", "--drain", "300ms", "--stall-timeout", "1h")
    names = [f"big_{i}" for i in range(40)]
    for name in names:
        g.publish(name, b"x" * 200000)
    stuck = [Many(g, names, receive_buffer=4096) for _ in range(5)]
    for client in stuck:
        assert client.event().name == "snapshot"
    assert g.terminate() == 0


def test_a_drain_ends_who_waits_for_confirmations_without_a_position(gateway, fake, workers):
    fake.hold(b"SUBSCRIBE")
    g = gateway("--redis", fake.url, "--workers", workers, *SURE, *DRAIN)
    clients = [Follower(g, ["a", "b", f"own_{i}"]) for i in range(6)]
    g.wait_metric("subscriptions", 18)
    fake.wait_for(b"SUBSCRIBE")
    drain(g)
    for client in clients:
        assert client.follow() == [] and client.last_id is None
    assert is_over(g)


# --- Redis forbids one of the channels ---


def with_user(redis, *may):
    redis.client.execute_command("ACL", "SETUSER", "tram", "on", ">secret", "+@all", *may)
    return f"redis://tram:secret@127.0.0.1:{redis.port}"


def refused_of(client):
    """Refusals before the position block."""
    refused = []
    while True:
        event = client.event()
        if event.name == "position":
            return refused
        assert event.name == "broker", event
        assert json.loads(event.data) == {"state": "refused", "reason": "forbidden"}
        refused.append(tag(event)[0])


def test_forbidden_channels_are_told_while_the_others_flow_and_nobody_else_sees_it(gateway, own_redis, workers):
    redis = own_redis()
    url = with_user(redis, "allkeys", "resetchannels", "&good_*")
    g = gateway("--redis", url, "--workers", workers, *SURE, *DRAIN)
    good = ["good_1", "good_2"]
    clients = [Follower(g, good).acked()]
    over = threading.Event()

    def publish():
        for i in itertools.count():
            publish_all(g, redis, [(name, b"%d" % i) for name in good])
            if over.is_set():
                return

    publisher = harness.Background(publish)
    readers = [harness.Background(clients[0].follow)]
    for i in range(12):
        client = Follower(g, ["good_1", "bad_1", "good_2", f"bad_{i}", "good_1"])
        assert sorted(refused_of(client)) == sorted({"bad_1", f"bad_{i}"})
        clients.append(client)
        readers.append(harness.Background(client.follow))
    wait_for(lambda: all(len(client.got) > 50 for client in clients), "messages flow")
    over.set()
    publisher.result()
    metrics = g.metrics()
    assert metrics["subscriptions"] == 2 * len(clients) and metrics["gaps_total"] == 0
    assert metrics["broker_losses_total"] == 0 and metrics["broker_up"] == 1
    assert g.terminate() == 0
    for reader in readers:
        reader.result()
    for client in clients:
        assert set(client.numbers()) == set(good) and all(map(is_run, client.numbers().values()))
        assert all(event.name == "message" for event in client.got)
    assert clients[0].numbers()["good_1"][0] == 0


def test_channels_that_redis_forbids_leave_nothing(gateway, own_redis):
    redis = own_redis()
    g = gateway("--redis", with_user(redis, "allkeys", "resetchannels", "&good_*"), *SHORT, *SURE)
    for i in range(30):
        client = Sse(g, path([f"good_{i}", "bad", f"bad_{i}"]))
        assert sorted(refused_of(client)) == sorted(["bad", f"bad_{i}"])
        client.reset() if i % 2 else client.close()
    nothing = Sse(g, path(["bad", "bad_0"]))
    assert sorted(tag(nothing.event())[0] for _ in range(2)) == ["bad", "bad_0"] and nothing.ended()
    nothing.close()
    wait_empty(g)
    wait_for(lambda: not redis.client.pubsub_channels(), "nothing is subscribed")


def test_a_channel_that_redis_forbids_later_is_told_and_the_others_go_on_behind_a_gap(gateway, own_redis,
                                                                                      workers):
    redis = own_redis()
    g = gateway("--redis", with_user(redis, "allkeys", "allchannels"), "--workers", workers, *SURE)
    names = ["a", "b", "c"]
    clients = [Many(g, names).acked() for _ in range(4)]
    publish_all(g, redis, [(name, b"1") for name in names])
    for client in clients:
        assert [client.tagged() for _ in names] == [(name, b"1") for name in names]
    redis.client.execute_command("ACL", "SETUSER", "tram", "resetchannels", "&a", "&c")
    for client in clients:
        told = collections.defaultdict(list)
        while told["a"][-1:] != ["gap"] or told["c"][-1:] != ["gap"] or told["b"][-1:] != ["refused"]:
            event = client.event()
            state = json.loads(event.data)["state"] if event.name == "broker" else event.name
            told[tag(event)[0]].append(state)
        assert told == {"a": ["down", "up", "gap"], "b": ["down", "refused"], "c": ["down", "up", "gap"]}
    redis.wait_subscribed("a", "c")
    assert redis.publish("b", b"to nobody") == 0
    publish_all(g, redis, [("a", b"2"), ("c", b"2")])
    for client in clients:
        assert [client.tagged(), client.tagged()] == [("a", b"2"), ("c", b"2")]
    # Who comes back is told the same, and misses nothing of the others.
    back = Sse(g, path(names), headers={"Last-Event-ID": clients[0].last_id})
    assert refused_of(back) == ["b"]
    publish_all(g, redis, [("c", b"3")])
    assert back.event().data == b"3"
    # Allowed again, it is there for whoever comes, behind a gap for who was there before.
    redis.client.execute_command("ACL", "SETUSER", "tram", "allchannels")
    again = Sse(g, path(names), headers={"Last-Event-ID": back.last_id})
    gaps, _ = gaps_of(again)
    assert list(gaps) == ["b"]
    redis.wait_subscribed("b")
    publish_all(g, redis, [("b", b"4")])
    assert again.event().data == b"4"


@pytest.mark.parametrize("notify", ["Kgt", ""])
def test_a_stream_that_redis_forbids_is_told_and_the_others_go_on(gateway, own_redis, notify):
    redis = own_redis()
    redis.client.config_set("notify-keyspace-events", notify)
    url = with_user(redis, "allchannels", "resetkeys", "~order_1", "~order_3")
    g = gateway("--redis", url, "--channel", "order_*: source=stream", *SHORT, *SURE)
    for turn in range(3):
        client = Sse(g, path(["order_1", "order_2", "plain", "order_3"]))
        assert refused_of(client) == ["order_2"]
        for name in ("order_1", "order_2", "order_3"):
            redis.client.xadd(name, {"data": b"%d" % turn})
        redis.publish("plain", b"%d" % turn)
        got = sorted((tag(event)[0], event.data) for event in (client.event() for _ in range(3)))
        assert got == [(name, b"%d" % turn) for name in ("order_1", "order_3", "plain")]
        client.close()
    assert g.metric("gaps_total") == 0
    wait_empty(g)


def test_a_key_that_redis_forbids_is_no_snapshot_and_the_other_channels_have_theirs(gateway, own_redis):
    redis = own_redis()
    url = with_user(redis, "allchannels", "resetkeys", "~key:1", "~key:3")
    g = gateway("--redis", url, "--channel", "tram_{id}: snapshot=key:key:{id}", *SHORT)
    for i in (1, 2, 3):
        redis.client.set(f"key:{i}", f"value {i}")
    names = ["tram_1", "tram_2", "tram_3"]
    client = begin_with(g, names, {"tram_1": b"value 1", "tram_3": b"value 3"})
    redis.publish("tram_2", b"live")
    assert client.message() == ("tram_2", b"live")
    client.client.close()
    wait_empty(g)


# --- the client goes ---


def leave(client, i):
    client.reset() if i % 2 else client.close()


def test_who_goes_before_the_confirmation_leaves_nothing_and_who_stays_is_served(gateway, fake, workers):
    fake.hold(b"SUBSCRIBE")
    g = gateway("--redis", fake.url, "--workers", workers, *SHORT, *SURE)
    names = [f"c{i}" for i in range(5)]
    comers = [Sse(g, path(names[i % 3:i % 3 + 3])) for i in range(20)]
    g.wait_metric("subscriptions", 60)
    fake.wait_for(b"SUBSCRIBE")
    for i in range(0, 20, 2):
        leave(comers[i], i // 2)
    g.wait_metric("subscriptions", 30)
    fake.release(b"SUBSCRIBE")
    stayed = [(comers[i], names[i % 3:i % 3 + 3]) for i in range(1, 20, 2)]
    for client, _ in stayed:
        client.acked()
    for name in names:
        fake.push(name, name)
    for i, (client, wanted) in enumerate(stayed):
        assert [client.event().data.decode() for _ in wanted] == wanted
        leave(client, i)
    wait_empty(g)
    wait_for(lambda: not any(link.count() for link in list(fake.links)), "nothing is subscribed")


def test_all_go_before_the_confirmation_and_the_next_one_is_served(gateway, fake, workers):
    g = gateway("--redis", fake.url, "--workers", workers, *SHORT, *SURE)
    names = ["a", "b", "c"]
    for round_ in range(4):
        fake.hold(b"SUBSCRIBE")
        before = fake.count(b"SUBSCRIBE")
        comers = [Sse(g, path(names)) for _ in range(6)]
        fake.wait_for(b"SUBSCRIBE", n=before + 1)
        for i, client in enumerate(comers):
            leave(client, i)
        g.wait_metric("subscriptions", 0)
        if round_ % 2:
            fake.release(b"SUBSCRIBE")
            wait_empty(g)
        after = Sse(g, path(names))
        g.wait_metric("subscriptions", 3)
        fake.release(b"SUBSCRIBE")
        after.acked()
        for name in names:
            fake.push(name, str(round_))
        assert [tag(after.event())[0] for _ in names] == names
        after.close()
        wait_empty(g)
    wait_for(lambda: not any(link.count() for link in list(fake.links)), "nothing is subscribed")


@pytest.mark.race
def test_who_goes_amid_a_replay_leaves_nothing(serve, channel):
    g = serve(*LARGE_LOGS, *SHORT, "--stall-timeout", "1h")
    names = [f"{channel}_{i}" for i in range(5)]
    keeper = Many(g, names).acked()
    start, wanted = keeper.last_id, []
    for i in range(40):
        part = [(name, b"%d " % i + b"x" * 20000) for name in names]
        publish_all(g, serve.redis, part)
        assert [keeper.tagged() for _ in names] == part
        wanted += part
    g.wait_metric("retired_bytes", 0)
    held = g.metric("log_bytes")
    for i in range(24):
        client = Many(g, names, headers={"Last-Event-ID": start}, receive_buffer=4096).acked()
        assert [client.tagged() for _ in range(i)] == wanted[:i]
        leave(client, i)
    wait_at_rest(g, connections=2, sse_sessions=1, subscriptions=len(names), log_bytes=held)
    whole = Many(g, names, headers={"Last-Event-ID": start}).acked()
    assert [whole.tagged() for _ in wanted] == wanted
    publish_all(g, serve.redis, [(names[2], b"live")])
    assert keeper.tagged() == whole.tagged() == (names[2], b"live")
    assert g.metric("gaps_total") == 0
    keeper.close()
    whole.reset()
    wait_empty(g)


def test_who_goes_while_older_entries_are_read_for_it_leaves_nothing(gateway, own_redis, workers):
    redis = own_redis("--notify-keyspace-events", "Kgt")
    rule = ["--redis", redis.url, "--channel", "order_*: source=stream", "--workers", workers]
    names = ["order_1", "order_2"]
    first = gateway(*rule)
    sinces = [wait_for(lambda: first.get(f"/position/{name}"), "it answers").json()["position"]
              for name in names]
    url = "/sse?" + "&".join(f"ch={name}&since={since}" for name, since in zip(names, sinces))
    for i in range(30):
        for name in names:
            redis.client.xadd(name, {"data": b"%d" % i})
    g = gateway(*rule, *SHORT, *SURE)
    keeper = Many(g, names).acked()  # its channels stand at the streams' ends
    redis.freeze()
    comers = [Sse(g, url) for _ in range(10)]
    g.wait_metric("subscriptions", 22)
    for i, client in enumerate(comers[1:]):
        leave(client, i)
    g.wait_metric("subscriptions", 4)
    redis.thaw()
    wanted = {name: [b"%d" % i for i in range(30)] for name in names}
    for client in (comers[0].acked(), Sse(g, url).acked()):
        got = collections.defaultdict(list)
        for _ in range(60):
            event = client.event()
            got[tag(event)[0]].append(event.data)
        assert got == wanted
        client.close()
    redis.client.xadd(names[1], {"data": b"live"})
    assert keeper.tagged() == (names[1], b"live")
    keeper.close()
    wait_empty(g)


def test_who_goes_while_a_snapshot_is_read_leaves_nothing(gateway, fake, workers):
    fake.answers[b"GET"] = b"$5\r\nvalue\r\n"
    g = gateway("--redis", fake.url, "--workers", workers, "--channel", "tram_{id}: snapshot=key:{id}",
                *SHORT, *SURE)
    names = ["tram_1", "plain", "tram_2"]
    for round_ in range(3):
        fake.hold(b"GET")
        before = fake.count(b"GET")
        comers = [Sse(g, path(names)) for _ in range(8)]
        fake.wait_for(b"GET", n=before + 2)
        for i, client in enumerate(comers):
            leave(client, i)
        g.wait_metric("subscriptions", 0)
        if round_ == 1:
            g.wait_metric("channels", 0)  # which the values come too late for
        fake.release(b"GET")
        wait_empty(g)
        begun = begin_with(g, names, {"tram_1": b"value", "tram_2": b"value"})
        for name in names:
            fake.push(name, "live")
        assert [begun.message() for _ in names] == [(name, b"live") for name in names]
        begun.client.close()
        wait_empty(g)


def test_who_goes_amid_snapshots_leaves_nothing(serve, channel):
    g = serve("--channel", f"{channel}*: snapshot=log", *LARGE_LOGS, *SHORT, "--stall-timeout", "1h")
    names = [f"{channel}_{i}" for i in range(30)]
    keeper = Many(g, names).acked()
    values = {name: name.encode() + b"x" * 100000 for name in names}
    publish_all(g, serve.redis, list(values.items()))
    assert [keeper.tagged() for _ in names] == list(values.items())
    g.wait_metric("retired_bytes", 0)
    held = g.metric("log_bytes")
    for i in range(16):
        client = Sse(g, path(names), receive_buffer=4096)
        assert [client.event().name for _ in range(i)] == (["snapshot", "message"] * i)[:i]
        leave(client, i)
    wait_at_rest(g, connections=2, sse_sessions=1, subscriptions=len(names), log_bytes=held)
    begun = Begun(g, names)
    assert begun.payloads == values
    publish_all(g, serve.redis, [(names[7], b"live")])
    assert begun.message() == keeper.tagged() == (names[7], b"live")
    begun.client.close()
    keeper.close()
    wait_empty(g)
