"""Snapshots: what a newcomer sees at once, and never behind a live message (R10); per rule how long a
channel outlives its clients, and when its silence is told."""

import json
import subprocess
import threading

import pytest

import harness
import test_many_channels as many
from fake_redis import FakeRedis, array
from harness import Sse, WebSocket, wait_for

QUICK = ["--redis-ping", "200ms", "--redis-dead", "600ms"]


def rule(text):
    return ["--channel", text]


def snapshot(sse):
    """The event that marks a snapshot, and the snapshot."""
    mark = sse.event()
    assert mark.name == "snapshot", mark
    return json.loads(mark.data)["age_ms"], sse.event()


def key_rule(channel, more=""):
    """Channels that begin with the test's name, each with its key."""
    return rule(f"{channel}_{{id}}: snapshot=key:{channel}:{{id}}:last{more}")


class Fleet:
    """A gateway on a Redis of its own with a key for each channel."""

    def __init__(self, gateway, own_redis, channel, *arguments, more=""):
        self.redis = own_redis()
        self.name = channel
        self.gateway = gateway("--redis", self.redis.url, *key_rule(channel, more), *arguments)

    def channel(self, id_):
        return f"{self.name}_{id_}"

    def key(self, id_):
        return f"{self.name}:{id_}:last"

    def set(self, id_, value):
        self.redis.client.set(self.key(id_), value)

    def publish(self, id_, payload):
        self.redis.publish(self.channel(id_), payload)

    def ws(self, id_, more="", **kwargs):
        return WebSocket(self.gateway, f"/ws/{self.channel(id_)}{more}", **kwargs)

    def sse(self, id_, more="", **kwargs):
        return Sse(self.gateway, f"/sse/{self.channel(id_)}{more}", **kwargs)


@pytest.fixture
def fleet(gateway, own_redis, channel):
    return lambda *arguments, **more: Fleet(gateway, own_redis, channel, *arguments, **more)


@pytest.fixture
def fake():
    server = FakeRedis()
    yield server
    server.stop()


# ---- from the log ----


def test_a_newcomer_begins_with_the_newest_message_of_the_log(serve, channel):
    g = serve(*rule(f"{channel}*: snapshot=log"))
    publish = serve.redis.publish if serve.redis else g.publish
    first, ws = Sse(g, f"/sse/{channel}").acked(), WebSocket(g, f"/ws/{channel}")
    for payload in (b"1", b"2", b"3"):
        publish(channel, payload)
    assert [first.payload() for _ in range(3)] == [b"1", b"2", b"3"]
    assert [ws.payload() for _ in range(3)] == [b"1", b"2", b"3"]
    late, late_ws = Sse(g, f"/sse/{channel}").acked(), WebSocket(g, f"/ws/{channel}")
    age, event = snapshot(late)
    assert age >= 0 and event.payload == b"3" and event.id == first.last_id
    assert late_ws.payload() == b"3"
    publish(channel, b"4")
    for client in (first, ws, late, late_ws):
        assert client.payload() == b"4"
    assert g.metric("snapshots_total") == 2


def test_who_says_from_where_it_begins_gets_no_snapshot(gateway, channel):
    g = gateway(*rule(f"{channel}: snapshot=log"))
    g.publish(channel, "old")
    g.publish(channel, "1")
    position = g.get(f"/position/{channel}").json()["position"]
    history = Sse(g, f"/sse/{channel}?history=2").acked()
    clients = [
        Sse(g, f"/sse/{channel}?history=0").acked(),
        WebSocket(g, f"/ws/{channel}?history=0"),
        Sse(g, f"/sse/{channel}?since={position}").acked(),
        Sse(g, f"/sse/{channel}", {"Last-Event-ID": position}).acked(),
        WebSocket(g, f"/ws/{channel}?since={position}&received=0"),
    ]
    g.publish(channel, "2")
    for client in clients:
        assert client.payload() == b"2"
    assert [history.payload() for _ in range(3)] == [b"old", b"1", b"2"]
    assert g.metric("snapshots_total") == 0


def test_an_empty_log_and_no_rule_make_no_snapshot(gateway, channel):
    g = gateway(*rule(f"{channel}_with: snapshot=log"))
    g.publish(f"{channel}_without", "before")
    for name in ("with", "without"):
        clients = [Sse(g, f"/sse/{channel}_{name}").acked(), WebSocket(g, f"/ws/{channel}_{name}")]
        g.publish(f"{channel}_{name}", "live")
        for client in clients:
            assert client.payload() == b"live"


def test_a_snapshot_is_any_bytes(gateway, channel):
    g = gateway(*rule(f"{channel}*: snapshot=log"))
    for i, payload in enumerate([b"", b"\xff\x00", b"a\rb", b"a\n\nb\n", "ü".encode(), b"x" * 300000]):
        name = f"{channel}_{i}"
        g.publish(name, payload)
        assert snapshot(Sse(g, f"/sse/{name}").acked())[1].payload == payload
        ws = WebSocket(g, f"/ws/{name}")
        assert ws.payload() == payload


def test_a_pattern_channel_has_a_snapshot_too(gateway, channel):
    g = gateway("--pattern", f"{channel} {channel}_*", *rule(f"{channel}: snapshot=log"))
    watching = Sse(g, f"/sse/{channel}").acked()
    g.publish(f"{channel}_a", "1")
    g.publish(f"{channel}_b", "2")
    watching.event(), watching.event()
    _, event = snapshot(Sse(g, f"/sse/{channel}").acked())
    assert event.name == f"{channel}_b" and event.data == b"2"


def test_the_log_of_before_a_lost_link_is_no_snapshot(gateway, own_redis, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, *QUICK, *rule(f"{channel}: snapshot=log"))
    stays = Sse(g, f"/sse/{channel}").acked()
    redis.publish(channel, "old")
    assert stays.payload() == b"old"
    redis.kill()
    stays.named("broker")
    redis.start()
    stays.named("gap")
    g.wait_ready()
    redis.wait_subscribed(channel)
    late = Sse(g, f"/sse/{channel}").acked()
    redis.publish(channel, "new")
    assert late.payload() == b"new"
    assert snapshot(Sse(g, f"/sse/{channel}").acked())[1].payload == b"new"


# ---- from a key ----


def test_a_channel_that_nobody_watched_has_its_key_as_snapshot(fleet):
    f = fleet()
    f.set(5, "where it was")
    sse = f.sse(5).acked()
    age, event = snapshot(sse)
    assert age is None and event.payload == b"where it was"
    assert sse.last_id is not None
    ws = f.ws(5)
    assert ws.payload() == b"where it was"
    f.publish(5, "live")
    assert sse.payload() == b"live" and ws.payload() == b"live"
    age, event = snapshot(f.sse(5).acked())
    assert age >= 0 and event.payload == b"live"
    assert f.ws(5).payload() == b"live"
    assert f.redis.calls("get") == 1
    assert f.gateway.metric("snapshots_total") == 4


@pytest.mark.parametrize("value", [b"", b"\xff\xfe\x00", b"a\rb\nc", b"y" * 2_000_000],
                         ids=["empty", "binary", "lines", "big"])
def test_a_key_is_any_bytes(fleet, value):
    f = fleet()
    f.set("any", value)
    assert snapshot(f.sse("any").acked())[1].payload == value
    assert f.ws("any").payload() == value
    assert f.redis.calls("get") == 1


def test_who_comes_back_after_a_key_goes_on_from_where_it_began(fleet):
    f = fleet()
    f.set(1, "last")
    sse = f.sse(1).acked()
    assert snapshot(sse)[1].payload == b"last"
    f.publish(1, "missed")
    assert sse.payload() == b"missed"
    start = sse.last_id
    sse.close()
    f.publish(1, "live")
    back = f.sse(1, headers={"Last-Event-ID": start}).acked()
    assert back.payload() == b"live"


def test_a_missing_key_is_no_snapshot_and_is_not_read_again(fleet):
    f = fleet()
    for _ in range(3):
        sse, ws = f.sse("none").acked(), f.ws("none")
    f.publish("none", "live")
    assert sse.payload() == b"live" and ws.payload() == b"live"
    assert f.redis.calls("get") == 1
    assert f.gateway.metric("snapshot_failures_total") == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_newcomers_read_one_key_once(fleet, workers):
    f = fleet("--workers", workers)
    f.set("crowd", "here")
    crowd = [(f.sse if i % 2 else f.ws)("crowd", ask=False) for i in range(1000)]
    for client in crowd:
        client.ask()
    for client in crowd:
        client.accepted()
    for client in crowd:
        if isinstance(client, Sse):
            assert snapshot(client.acked())[1].payload == b"here"
        else:
            assert client.payload() == b"here"
    assert f.redis.calls("get") == 1
    assert f.gateway.metric("snapshots_total") == 1000
    f.publish("crowd", "live")
    for client in crowd:
        assert client.payload() == b"live"
    for client in crowd:
        client.close()


def test_each_of_many_channels_has_its_own(fleet):
    f = fleet()
    for i in range(200):
        f.set(i, f"at {i}")
    clients = [f.ws(i, ask=False) for i in range(200)]
    for client in clients:
        client.ask()
    for i, client in enumerate(clients):
        client.accepted()
        assert client.payload() == b"at %d" % i
    assert f.redis.calls("get") == 200


def test_who_has_a_position_does_not_cause_a_read(fleet):
    f = fleet()
    position = f.gateway.get(f"/position/{f.channel(1)}").json()["position"]
    ws = f.ws(1, f"?since={position}&received=0")
    history = f.sse(1, "?history=5").acked()
    f.publish(1, "live")
    assert ws.payload() == b"live" and history.payload() == b"live"
    assert f.redis.calls("get") == 0


# ---- R10: never behind a live message ----


@pytest.mark.parametrize("workers", [1, 2])
def test_a_snapshot_never_comes_behind_a_live_message(fleet, workers):
    """A publisher that sets the key and publishes at full speed, while newcomers come to new
    channels: what each sees only grows, without a hole behind its first live message."""
    f = fleet("--workers", workers)
    stop = threading.Event()
    ids = [f"race{i}" for i in range(40)]

    def publisher():
        client, n = f.redis.client, 0
        while not stop.is_set():
            n += 1
            pipe = client.pipeline(transaction=False)
            for id_ in ids:
                pipe.set(f.key(id_), n)
                pipe.publish(f.channel(id_), n)
            pipe.execute()

    background = harness.Background(publisher)
    try:
        for id_ in ids:
            clients = [f.sse(id_), f.ws(id_), f.sse(id_)]
            for client in clients:
                follow(client)
                client.close()
    finally:
        stop.set()
        background.result()


def follow(client, n=15):
    """Snapshot or not, numbers only grow, by one from the first live message on."""
    if isinstance(client, WebSocket):
        numbers = [int(client.payload()) for _ in range(n)]
        live = numbers[1:]  # the first may be a snapshot
        assert numbers[1] >= numbers[0]
    else:
        client.acked()
        events = [client.event() for _ in range(n)]
        assert not any(e.name == "snapshot" for e in events[1:]), "a snapshot behind live messages"
        numbers = [int(e.data) for e in events if e.name == "message"]
        live = numbers[1:] if events[0].name == "snapshot" else numbers
        assert numbers[1] >= numbers[0]
    assert live == list(range(live[0], live[0] + len(live)))


def test_a_live_message_that_comes_first_takes_the_place_of_the_key(gateway, fake, channel):
    fake.hold(b"GET")
    fake.answers[b"GET"] = b"$3\r\nold\r\n"
    g = gateway("--redis", fake.url, *rule(f"{channel}: snapshot=key:last:{{channel}}"))
    sse, ws = Sse(g, f"/sse/{channel}"), WebSocket(g, f"/ws/{channel}", ask=False)
    ws.ask()
    wait_for(lambda: fake.count(b"GET") == 1, "the key is asked for")
    wait_for(lambda: g.metric("subscriptions") == 2, "both wait")
    fake.push(channel.encode(), b"live")
    assert snapshot(sse.acked())[1].payload == b"live"
    ws.accepted()
    assert ws.payload() == b"live"
    fake.release(b"GET")
    g.wait_metric("snapshots_dropped_total", 1)
    late = Sse(g, f"/sse/{channel}").acked()
    assert snapshot(late)[1].payload == b"live"
    fake.push(channel.encode(), b"next")
    for client in (sse, ws, late):
        assert client.payload() == b"next"
    assert fake.count(b"GET") == 1


def begun_with_a_snapshot(g, channel):
    """A newcomer that is sent one, or None."""
    ws = WebSocket(g, f"/ws/{channel}")
    return ws if g.metric("snapshots_total") > 0 else None


def test_newcomers_do_not_wait_for_ever(gateway, fake, channel):
    fake.hold(b"GET")
    fake.answers[b"GET"] = b"$4\r\nlate\r\n"
    g = gateway("--redis", fake.url, *rule(f"{channel}: snapshot=key:last:{{channel}}"))
    sse, ws = Sse(g, f"/sse/{channel}").acked(), WebSocket(g, f"/ws/{channel}")
    assert g.metric("snapshot_failures_total") >= 1
    assert b"no answer for a snapshot in time: GET last:" in g.errors()
    fake.release(b"GET")
    # It is not sent to those, and good enough for who comes later.
    late = wait_for(lambda: begun_with_a_snapshot(g, channel), "the late value is a snapshot")
    assert late.payload() == b"late"
    fake.push(channel.encode(), b"live")
    for client in (sse, ws, late):
        assert client.payload() == b"live"


def test_the_key_is_read_behind_the_confirmation(gateway, fake, channel):
    fake.hold(b"SUBSCRIBE")
    fake.answers[b"GET"] = b"$1\r\nv\r\n"
    g = gateway("--redis", fake.url, *rule(f"{channel}: snapshot=key:last:{{channel}}"))
    sse = Sse(g, f"/sse/{channel}")
    wait_for(lambda: fake.count(b"SUBSCRIBE") == 1, "it is asked for")
    assert fake.count(b"GET") == 0
    fake.release(b"SUBSCRIBE")
    assert snapshot(sse.acked())[1].payload == b"v"
    assert fake.count(b"GET") == 1


def test_a_value_waits_until_what_was_published_before_it_is_here(gateway, fake, channel):
    """Redis answers on two connections: a PING on the one that brings messages says when all that it
    sent before the value has come."""
    fake.answers[b"GET"] = b"$1\r\n2\r\n"
    g = gateway("--redis", fake.url, "--redis-ping", "100s", "--redis-dead", "200s",
                *rule(f"{channel}: snapshot=key:last:{{channel}}"))
    ws = WebSocket(g, f"/ws/{channel}?history=0")
    before = fake.count(b"PING")
    fake.hold(b"PING")
    sse = Sse(g, f"/sse/{channel}")
    fake.wait_for(b"PING", n=before + 1)
    with fake.lock:  # it was sent before Redis saw the PING
        link = fake.subscribed(channel)
        link.waiting.insert(0, (b"before", array(b"message", channel, b"1")))
        link.drain()
    assert ws.payload() == b"1"
    assert snapshot(sse.acked())[1].payload == b"1"
    fake.release(b"PING")
    g.wait_metric("snapshots_dropped_total", 1)
    fake.push(channel, "2")
    assert ws.payload() == b"2" and sse.payload() == b"2"


# ---- what goes wrong ----


def test_a_key_that_is_no_string_is_no_snapshot(fleet):
    f = fleet()
    f.redis.client.rpush(f.key("list"), "a", "b")
    f.set("text", "fine")
    for _ in range(3):
        sse = f.sse("list").acked()
    assert f.ws("text").payload() == b"fine"
    f.publish("list", "live")
    assert sse.payload() == b"live"
    assert f.gateway.metric("snapshot_failures_total") == 1
    assert f.gateway.errors().count(b"WRONGTYPE") == 1


def test_a_key_that_redis_forbids_is_no_snapshot(gateway, own_redis, channel):
    redis = own_redis()
    redis.client.execute_command("ACL", "SETUSER", "gate", "on", ">secret", "allchannels", "+@all",
                                 "~allowed:*")
    redis.client.set(f"allowed:{channel}", "fine")
    url = redis.url.replace("redis://", "redis://gate:secret@")
    g = gateway("--redis", url, *rule(f"{channel}: snapshot=key:allowed:{{channel}}"),
                *rule(f"{channel}_x: snapshot=key:forbidden:{{channel}}"))
    ws = WebSocket(g, f"/ws/{channel}_x")
    assert WebSocket(g, f"/ws/{channel}").payload() == b"fine"
    redis.publish(f"{channel}_x", "live")
    assert ws.payload() == b"live"
    assert g.metric("snapshot_failures_total") == 1
    assert g.errors().count(b"NOPERM") == 1 and b"secret" not in g.errors()


@pytest.mark.parametrize("n, fits", [(4999, True), (5000, True), (5001, False), (300000, False)])
def test_a_value_over_max_message_is_no_snapshot(fleet, n, fits):
    f = fleet("--max-message", "5000")
    f.set(1, b"z" * n)
    ws = f.ws(1)
    f.publish(1, "live")
    if fits:
        assert ws.payload() == b"z" * n
    assert ws.payload() == b"live"
    assert f.gateway.metric("snapshot_failures_total") == (0 if fits else 1)
    assert (b"over --max-message" in f.gateway.errors()) == (not fits)


def test_a_snapshot_that_the_logs_have_no_room_for_is_none(fleet):
    f = fleet("--logs-bytes", "1MiB")
    f.set("big", b"z" * 1_100_000)
    f.set("small", b"z" * 1000)
    sse = f.sse("big").acked()
    f.publish("big", "live")
    assert sse.payload() == b"live"
    assert len(f.ws("small").payload()) == 1000
    assert f.gateway.metric("snapshot_failures_total") == 1


def test_a_link_that_is_lost_while_reading_is_asked_again(fleet):
    f = fleet(*QUICK)
    f.set("a", "first")
    assert f.ws("a").payload() == b"first"
    wait_for(lambda: f.redis.client.client_list(), "it answers")
    f.redis.client.client_kill_filter(skipme=True, _type="normal")
    f.set("b", "second")
    clients = [f.sse("b"), f.ws("b")]
    assert snapshot(clients[0].acked())[1].payload == b"second"
    assert clients[1].payload() == b"second"


def test_after_a_lost_link_the_key_is_read_again_and_only_then(fleet):
    f = fleet(*QUICK)
    f.set(1, "before")
    stays = f.sse(1).acked()
    assert snapshot(stays)[1].payload == b"before"
    f.redis.kill()
    stays.named("broker")
    f.redis.start()
    f.set(1, "after")
    stays.named("gap")
    f.gateway.wait_ready()
    f.redis.wait_subscribed(f.channel(1))
    assert f.redis.calls("get") == 0
    late = f.sse(1).acked()
    assert snapshot(late)[1].payload == b"after"
    assert f.ws(1).payload() == b"after"
    assert f.redis.calls("get") == 1
    f.publish(1, "live")
    assert late.payload() == b"live" and stays.payload() == b"live"


def test_a_redis_that_stops_while_newcomers_wait_harms_nobody(fleet):
    f = fleet(*QUICK)
    watching = f.ws("calm")
    f.redis.freeze()
    sse = f.sse("late")
    f.redis.thaw()
    sse.acked()
    wait_for(lambda: f.gateway.get("/readyz").status == 200, "ready again")
    f.redis.wait_subscribed(f.channel("calm"), f.channel("late"))
    f.publish("calm", "still")
    f.publish("late", "live")
    assert watching.payload() == b"still"
    assert sse.named("message").payload == b"live"


# ---- rules ----


def test_a_rule_says_how_long_a_channel_outlives_its_clients(serve, channel):
    g = serve("--linger", "0s", "--history-ttl", "0s", *rule(f"{channel}_long: ttl=1h, snapshot=log"),
              *rule(f"{channel}_short: ttl=0s, snapshot=log"))
    publish = serve.redis.publish if serve.redis else g.publish
    for name in ("long", "short"):
        ws = WebSocket(g, f"/ws/{channel}_{name}")
        publish(f"{channel}_{name}", "last")
        assert ws.payload() == b"last"
        ws.close()
    g.wait_metric("channels", 1)
    assert WebSocket(g, f"/ws/{channel}_long").payload() == b"last"
    late = WebSocket(g, f"/ws/{channel}_short")
    publish(f"{channel}_short", "live")
    assert late.payload() == b"live"


def test_lingers_of_several_rules_end_each_in_its_time(gateway, channel):
    g = gateway("--linger", "1h", "--history-ttl", "1h", *rule(f"{channel}_a*: ttl=100ms"))
    for name in ("long", "a1", "a2", "long2", "a3"):
        WebSocket(g, f"/ws/{channel}_{name}").close()
    g.wait_metric("channels", 2)


def test_the_channel_that_was_left_first_makes_room_whatever_its_rule(gateway, channel):
    g = gateway("--linger", "1h", "--max-channels", "2", *rule(f"{channel}_a: ttl=2h"))
    for name in ("a", "b"):
        ws = WebSocket(g, f"/ws/{channel}_{name}")
        g.publish(f"{channel}_{name}", name)
        assert ws.payload() == name.encode()
        ws.close()
        wait_for(lambda: g.metric("subscriptions") == 0, "it has left")
        harness.wait_for(lambda: g.get("/healthz").status == 200, "it answers")
    WebSocket(g, f"/ws/{channel}_c")
    assert Sse(g, f"/sse/{channel}_b?history=1").acked().payload() == b"b"


@pytest.mark.parametrize("text, words", [
    ("tram_*: snapshot=key:tram_{id}:last", b"a place that the pattern does not have"),
    ("tram_{id}: snapshot=key:tram_{line}:last", b"a place that the pattern does not have"),
    ("tram_{a}{b}: history=1", b"side by side"),
    ("tram_{id}: snapshot=key:", b"must be log or key:TEMPLATE"),
    ("tram_{id}: snapshot=yes", b"must be log or key:TEMPLATE"),
    ("tram_{id}: snapshot=key:tram_{id", b"a brace in the key"),
    ("tram_{id}: stale_after=0s", b"stale_after"),
    ("tram_{id}: ttl=x", b"ttl"),
    ("tram_{id}: snapshot=key:tram_{id}:last", b"snapshot=key needs --redis"),
])
def test_a_rule_that_makes_no_sense_is_refused_at_the_start(text, words):
    ended = subprocess.run([harness.TRAMLINE, "serve", "--listen", "127.0.0.1:0", "--channel", text],
                           capture_output=True, timeout=harness.DEADLINE)
    assert ended.returncode == 2 and words in ended.stderr


# ---- silence ----


def expired(sse):
    event = sse.event()
    assert event.name == "expired", event
    return json.loads(event.data)["stale_after_ms"]


def test_silence_is_told_once_and_again_after_the_next_message(serve, channel):
    g = serve(*rule(f"{channel}: stale_after=300ms, snapshot=log"))
    publish = serve.redis.publish if serve.redis else g.publish
    sse, ws = Sse(g, f"/sse/{channel}").acked(), WebSocket(g, f"/ws/{channel}")
    for payload in (b"1", b"2"):
        publish(channel, payload)
        assert sse.payload() == payload and ws.payload() == payload
        assert expired(sse) == 300
    assert g.metric("channels_expired_total") == 2
    late = Sse(g, f"/sse/{channel}").acked()
    assert expired(late) == 300, "and not a snapshot"
    late_ws = WebSocket(g, f"/ws/{channel}")
    publish(channel, b"3")
    for client in (sse, ws, late, late_ws):
        assert client.payload() == b"3"


def test_a_channel_without_any_message_expires_too(gateway, channel):
    g = gateway(*rule(f"{channel}: stale_after=200ms"))
    sse = Sse(g, f"/sse/{channel}").acked()
    assert expired(sse) == 200
    g.publish(channel, "live")
    assert sse.payload() == b"live"


def test_a_key_expires_with_the_silence_behind_it(fleet):
    f = fleet(more=", stale_after=300ms")
    f.set(1, "old")
    sse = f.sse(1).acked()
    assert snapshot(sse)[1].payload == b"old"
    assert expired(sse) == 300
    assert expired(f.sse(1).acked()) == 300
    ws = f.ws(1)
    f.publish(1, "live")
    assert ws.payload() == b"live" and sse.payload() == b"live"


def test_who_comes_back_to_silence_is_told_behind_what_it_missed(gateway, channel):
    g = gateway(*rule(f"{channel}: stale_after=200ms"))
    sse = Sse(g, f"/sse/{channel}").acked()
    start = sse.last_id
    g.publish(channel, "1")
    g.publish(channel, "2")
    g.wait_metric("channels_expired_total", 1)
    back = Sse(g, f"/sse/{channel}", {"Last-Event-ID": start}).acked()
    assert [back.payload(), back.payload()] == [b"1", b"2"]
    assert expired(back) == 200


def test_silence_changes_no_position(gateway, channel):
    g = gateway(*rule(f"{channel}: stale_after=100ms"))
    position = g.get(f"/position/{channel}").json()["position"]
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    for i in range(3):
        g.publish(channel, b"%d" % i)
        assert ws.payload() == b"%d" % i and sse.payload() == b"%d" % i
        expired(sse)
    back = WebSocket(g, f"/ws/{channel}?since={position}&received=2")
    assert back.payload() == b"2"


def test_plain_channels_never_expire(gateway, channel):
    g = gateway(*rule(f"{channel}_a: stale_after=100ms"))
    plain, ageing = Sse(g, f"/sse/{channel}_b").acked(), Sse(g, f"/sse/{channel}_a").acked()
    assert expired(ageing) == 100
    g.publish(f"{channel}_b", "live")
    assert plain.payload() == b"live"


# ---- several channels on one stream ----


class Begun:
    """What a stream of several channels sends before its first position: snapshots and silence by
    channel, each tagged, and none of it a position."""

    def __init__(self, g, channels, *more, **options):
        self.client = Sse(g, many.path(channels, *more), **options)
        self.ages, self.payloads, self.expired, self.order = {}, {}, set(), []
        while True:
            event = self.client.event()
            if event.name == "position":
                self.start = event.id
                return
            assert event.id.startswith("@"), event
            name, _ = many.tag(event)
            self.order.append(name)
            if event.name == "snapshot":
                self.ages[name] = json.loads(event.data)["age_ms"]
                event = self.client.event()
                assert many.tag(event) == (name, None), event
                self.payloads[name] = event.payload
            else:
                assert event.name == "expired", event
                self.expired.add(name)

    def message(self):
        event = self.client.event()
        assert event.name in ("message", "base64"), event
        return many.tag(event)[0], event.payload


def test_of_several_channels_newcomers_have_the_newest_of_each_log(serve, channel):
    g = serve(*rule(f"{channel}_with*: snapshot=log"))
    names = [f"{channel}_with_{i}" for i in range(3)] + [f"{channel}_plain", f"{channel}_with_none"]
    first = Begun(g, names)
    assert first.payloads == {}
    wanted = [(name, b"%d" % i) for i in range(3) for name in names[:4]]
    many.publish_all(g, serve.redis, wanted)
    assert [first.message() for _ in wanted] == wanted
    late = Begun(g, names)
    assert late.payloads == {name: b"2" for name in names[:3]} and late.order == names[:3]
    assert all(age >= 0 for age in late.ages.values())
    many.publish_all(g, serve.redis, [(names[1], b"3"), (names[4], b"first")])
    for client in (first, late):
        assert [client.message(), client.message()] == [(names[1], b"3"), (names[4], b"first")]
    # Whoever has a position, or wants a history, gets what it asked for.
    back = Begun(g, names, headers={"Last-Event-ID": late.start})
    assert back.order == [] and back.message() == (names[1], b"3")
    assert Begun(g, names, "history=0").order == []
    assert g.metric("snapshots_total") == 3


def test_of_several_channels_keys_are_read_once_and_are_any_bytes(fleet):
    f = fleet()
    values = {"empty": b"", "binary": b"\xff\xfe\x00", "lines": b"a\rb\nc", "big": b"y" * 2_000_000, "x": b"x"}
    for id_, value in values.items():
        f.set(id_, value)
    names = [f.channel(id_) for id_ in values] + [f.channel("none")]
    wanted = {f.channel(id_): value for id_, value in values.items()}
    clients = [Begun(f.gateway, names) for _ in range(2)]
    for client in clients:
        assert client.payloads == wanted and set(client.ages.values()) == {None}
    assert f.redis.calls("get") == len(names)
    f.publish("big", b"live")
    for client in clients:
        assert client.message() == (f.channel("big"), b"live")


@pytest.mark.race
def test_a_thousand_snapshots_come_before_all_that_is_live(serve, channel, workers):
    g = serve("--workers", workers, *rule("*: snapshot=log"))
    names = [f"{channel}_{i:03d}"[-20:] for i in range(1000)]
    first = Begun(g, names)
    wanted = [(name, name.encode() + b" 0") for name in names]
    many.publish_all(g, serve.redis, wanted)
    assert [first.message() for _ in names] == wanted
    late = Begun(g, names)
    assert late.order == names and late.payloads == dict(wanted)
    many.publish_all(g, serve.redis, [(name, b"1") for name in names])
    assert [late.message() for _ in names] == [(name, b"1") for name in names]


def test_who_is_cut_among_snapshots_comes_back_as_a_newcomer(gateway):
    g = gateway(*rule("big_*: snapshot=log"))
    names = [f"big_{i}" for i in range(40)]
    payloads = {name: name.encode() * 30000 for name in names}
    for name in names:
        g.publish(name, payloads[name])
    cut = Sse(g, many.path(names), receive_buffer=4096)
    seen = [cut.event() for _ in range(6)]
    assert [e.name for e in seen] == ["snapshot", "message"] * 3
    cut.reset()
    assert cut.last_id == "@big_2"
    back = Begun(g, names, headers={"Last-Event-ID": cut.last_id})
    assert back.payloads == payloads
    assert g.metric("gaps_total") == 0
    # With a position in the URL, as a page has it that was rendered before, that one holds.
    known = Begun(g, names, "since=" + back.start, headers={"Last-Event-ID": cut.last_id})
    assert known.order == []


def test_the_newest_is_live_for_who_reads_its_snapshots_slowly(gateway):
    """No matter how long they take: of each channel it has one, and all that came behind it."""
    g = gateway(*rule("big_*: snapshot=log"))
    names = [f"big_{i}" for i in range(60)]

    def publish(i):
        for name in names:
            g.publish(name, b"%d " % i + b"x" * 200000)

    publish(0)
    slow = Sse(g, many.path(names), receive_buffer=4096)
    mark, first = slow.event(), slow.event()
    assert mark.name == "snapshot" and first.payload.startswith(b"0 ")
    for i in (1, 2, 3):
        publish(i)
    newest = {many.tag(first)[0]: 0}
    while set(newest.values()) != {3} or len(newest) < len(names):
        event = slow.event()
        if event.name in ("snapshot", "position"):
            continue
        assert event.name == "message", event
        name, i = many.tag(event)[0], int(event.data.split(b" ")[0])
        assert name not in newest or i == newest[name] + 1, (name, i, newest)
        newest[name] = i
    assert g.metric("gaps_total") == 0


def test_slow_readers_of_large_snapshots_cost_no_more_than_what_they_are_sent(gateway):
    """What is sent to them lies in the logs once; their sessions hold an event's head and a reference."""
    g = gateway(*rule("big_*: snapshot=log"), "--stall-timeout", "1h")
    names = [f"big_{i}" for i in range(50)]
    for name in names:
        g.publish(name, b"x" * 1_000_000)
    reader = Begun(g, names)  # from now on the lane is there, too
    held = g.rss()
    slow = [Sse(g, many.path(names), receive_buffer=4096) for _ in range(50)]
    for client in slow:
        assert client.event().name == "snapshot" and len(client.event().data) == 1_000_000
    assert g.rss() - held < 32 << 20  # a copy of one for each would be 50 MB, all of them 2.5 GB
    reader.client.close()
    for name in names:
        g.publish(name, b"y")
    assert g.metric("retired_bytes") <= 256 << 20
    for client in slow:
        client.reset()
    g.wait_metric("subscriptions", 0)
    g.wait_metric("retired_bytes", 0)


def test_of_several_channels_silence_is_told_by_its_channel(serve, channel):
    g = serve(*rule(f"{channel}_s*: stale_after=300ms, snapshot=log"))
    names = [f"{channel}_s1", f"{channel}_s2", f"{channel}_plain"]
    client = Begun(g, names)
    g_publish = serve.redis.publish if serve.redis else g.publish
    for turn in range(2):
        for name in names:
            g_publish(name, b"%d" % turn)
        messages, silent = [], []
        while len(messages) < 3 or len(silent) < 2:
            event = client.client.event()
            name, number = many.tag(event)
            if event.name == "message":
                messages.append(name)
            elif name in messages:
                assert json.loads(event.data) == {"stale_after_ms": 300} and number is not None
                silent.append(name)
        assert messages == names and set(silent) >= set(names[:2])
    late = Begun(g, names)
    assert late.expired == set(names[:2]) and late.payloads == {}
    back = many.Many(g, names, headers={"Last-Event-ID": client.start}).acked()
    events = [back.event() for _ in range(8)]
    assert [many.tag(e)[0] for e in events[:6]] == names * 2
    assert {(many.tag(e)[0], e.name) for e in events[6:]} == {(n, "expired") for n in names[:2]}


def test_a_link_that_is_lost_among_snapshots_is_told_and_nothing_stays_unsaid(gateway, own_redis, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, *QUICK, *rule(f"{channel}*: snapshot=log"))
    names = [f"{channel}_{i}" for i in range(30)]
    keeper = Begun(g, names)
    for name in names:
        redis.publish(name, b"x" * 300000)
    for _ in names:
        keeper.message()
    slow = Sse(g, many.path(names), receive_buffer=4096)
    assert [slow.event().name, slow.event().name] == ["snapshot", "message"]
    redis.kill()
    keeper.client.named("broker")
    redis.start()
    for _ in names:
        keeper.client.named("gap")
    redis.wait_subscribed(*names)
    told, has_snapshot, start = set(), set(), False
    while told != has_snapshot or not start:
        event = slow.event()
        start = start or event.name == "position"
        if event.name == "message":
            has_snapshot.add(many.tag(event)[0])
        elif event.name == "gap":
            told.add(many.tag(event)[0])
        has_snapshot.add(names[0])  # which it had before
    for name in names:
        redis.publish(name, b"on")
    seen = []
    while len(seen) < len(names):
        event = slow.event()
        if event.name == "message":
            assert event.data == b"on"
            seen.append(many.tag(event)[0])
    assert seen == names
