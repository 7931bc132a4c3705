"""R22, R6, R16, R10, R5: several channels on one event stream, `/sse?ch=a&ch=b`. The id of an event
names its channel, and all of the stream up to it is one prefix of what the gateway appended."""

import collections
import json
import re
import shutil
import threading
from urllib.parse import quote, unquote

import pytest

import harness
from conftest import needs
from harness import Refused, Sse, wait_for
from test_clients import program  # noqa: F401
from test_overflow import flood

N = 1000


def path(channels, *more):
    return "/sse?" + "&".join([f"ch={quote(c, safe='')}" for c in channels] + list(more))


def tag(event):
    """(channel, number) of an event's id; before the beginning there is no number."""
    place, name = event.id.split("@", 1)
    return unquote(name), int(place.split("-")[1]) if place else None


class Many(Sse):
    """Reads until told otherwise; checks that numbers never go back."""

    def __init__(self, g, channels, *more, **options):
        super().__init__(g, path(channels, *more), **options)
        self.number = 0

    def event(self):
        event = super().event()
        if event.id and not event.id.startswith("@"):
            number = int(event.id.split("@")[0].split("-")[1])
            assert number >= self.number, (event, self.number)
            self.number = number
        return event

    def acked(self):
        event = self.event()
        assert event.name == "position" and event.id.endswith("@"), event
        return self

    def tagged(self, name="message"):
        event = self.event()
        assert event.name == name, event
        return tag(event)[0], event.data


def publish_all(g, redis, messages):
    """In one write: of Redis, or of HTTP."""
    if redis:
        pipeline = redis.client.pipeline(transaction=False)
        for channel, payload in messages:
            pipeline.publish(channel, payload)
        assert all(n == 1 for n in pipeline.execute())
        return
    with harness.Wire(g.port) as wire:
        for start in range(0, len(messages), 100):
            part = messages[start:start + 100]
            wire.send(b"".join(
                b"POST /pub/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                % (quote(channel, safe="").encode(), len(payload), payload)
                for channel, payload in part))
            for _ in part:
                assert wire.answer().status == 200


@pytest.mark.race
def test_a_thousand_channels_fire_together_and_none_is_starved(serve, channel):
    g = serve()
    names = [f"{channel}_{i:04d}"[-20:] for i in range(N)]
    client = Many(g, names).acked()
    assert g.metric("subscriptions") == N
    for turn in range(3):
        wanted = [(name, b"%s %d" % (name.encode(), turn)) for name in names]
        publish_all(g, serve.redis, wanted)
        assert [client.tagged() for _ in range(N)] == wanted
    client.close()
    g.wait_metric("subscriptions", 0)


def test_runs_of_one_channel_stay_whole_between_those_of_others(serve, channel):
    g = serve()
    names = [f"{channel}_{c}" for c in "abc"]
    client = Many(g, names).acked()
    wanted = []
    for i, n in enumerate([1, 50, 3, 400, 2, 1, 700, 90]):
        wanted += [(names[i % 3], b"%d %d " % (i, k) + b"x" * (k * 37 % 3000)) for k in range(n)]
    publish_all(g, serve.redis, wanted)
    assert [client.tagged() for _ in wanted] == wanted


@pytest.mark.parametrize("name", ["tram 5", "Łódź", "a@b", "50%;x", "a&b=c", "\x01\x7f", "+", "x" * 255])
def test_names_come_back_from_the_tag_as_they_were(gateway, name):
    g = gateway()
    client = Many(g, ["other", name]).acked()
    g.publish(quote(name, safe=""), b"1")
    event = client.event()
    assert tag(event)[0] == name and event.id.isascii() and " " not in event.id
    back = Sse(g, path(["other", name], "since=" + quote(event.id, safe="")))
    assert back.event().name == "position"
    g.publish(quote(name, safe=""), b"2")
    assert back.event().data == b"2"


def test_an_id_goes_behind_since_as_it_is(gateway):
    """As docs/protocol.md says: cut at the `@`, and put into the URL of the next stream unchanged."""
    g, name = gateway(), "a@b&ch=c#d+e"
    client = Many(g, [name, "z"]).acked()
    g.publish(quote(name, safe=""), b"1")
    event = client.event()
    assert unquote(event.id.split("@")[1]) == name
    g.publish("z", b"2")
    back = Many(g, [name], "since=" + event.id + "&ch=z").acked()
    assert g.metric("subscriptions") == 4
    assert back.tagged() == ("z", b"2")


def test_each_channel_is_had_once(gateway):
    g = gateway()
    client = Many(g, ["a", "b", "a", "a"]).acked()
    assert g.metric("subscriptions") == 2
    g.publish("a", b"1")
    g.publish("b", b"2")
    assert [client.tagged(), client.tagged()] == [("a", b"1"), ("b", b"2")]


def test_sessions_with_overlapping_sets_share_one_upstream_subscription(gateway, shared_redis, workers,
                                                                       channel):
    g = gateway("--redis", shared_redis.url, "--workers", workers, "--linger", "100ms")
    names = [f"{channel}_{i}" for i in range(6)]
    clients = [Many(g, names[i:i + 3]).acked() for i in range(4)]
    assert {shared_redis.numsub(name) for name in names} == {1}
    publish_all(g, shared_redis, [(name, name.encode()) for name in names])
    for i, client in enumerate(clients):
        assert [client.tagged() for _ in range(3)] == [(n, n.encode()) for n in names[i:i + 3]]
    for client in clients:
        client.close()
    wait_for(lambda: all(shared_redis.numsub(name) == 0 for name in names), "all are released")
    g.wait_metric("channels", 0)


# --- coming back ---


@pytest.mark.race
def test_a_client_that_is_cut_again_and_again_loses_and_doubles_nothing(serve, channel):
    g = serve("--log-messages", "1000000", "--log-bytes", "256MiB", "--log-age", "10m")
    names = [f"{channel}_{i}" for i in range(8)]
    client = Many(g, names).acked()
    each = 1500

    def publish(part):
        for start in range(0, each, 50):
            publish_all(g, serve.redis, [(name, b"%d" % i) for i in range(start, start + 50)
                                         for name in part])

    publishers = [harness.Background(publish, names[i::2]) for i in range(2)]
    got = collections.Counter()
    cuts, until = 0, 100
    while sum(got.values()) < each * len(names):
        event = client.event()
        if event.name == "position":
            continue
        assert event.name == "message", event
        name, _ = tag(event)
        assert int(event.data) == got[name], (name, event, got)
        got[name] += 1
        until -= 1
        if until == 0:
            cuts += 1
            until = 97 * cuts % 700 + 1
            client.reset()
            client = Many(g, names, headers={"Last-Event-ID": event.id})
    for publisher in publishers:
        publisher.result()
    assert cuts > 10 and g.metric("gaps_total") == 0


def test_a_page_begins_exactly_where_each_channel_stood(serve, channel):
    g = serve()
    names = [f"{channel}_{c}" for c in "ab"]
    sinces = []
    for i, name in enumerate(names):
        g.publish(name, b"before")
        position = wait_for(lambda: g.get(f"/position/{name}"), "it answers").json()["position"]
        sinces.append(position)
        if serve.redis:
            serve.redis.wait_subscribed(name)
        g.publish(name, b"behind %d" % i)
    url = f"/sse?ch={names[0]}&since={sinces[0]}&ch={names[1]}&since={sinces[1]}"
    client = Sse(g, url)
    events = [client.event() for _ in range(3)]
    assert [e.name for e in events] == ["position", "message", "message"]
    assert [(tag(e)[0], e.data) for e in events[1:]] == [
        (names[0], b"behind 0"), (names[1], b"behind 1")]
    # The browser comes back with the same URL: what it has is not sent again.
    back = Sse(g, url, headers={"Last-Event-ID": events[1].id})
    assert back.event().name == "position"
    assert back.event().data == b"behind 1"
    early = Sse(g, url, headers={"Last-Event-ID": events[0].id})
    assert [early.event().data for _ in range(3)] == [b"", b"behind 0", b"behind 1"]


def test_history_is_of_each_channel(gateway):
    g = gateway()
    for i in range(4):
        for name in ("a", "b"):
            g.publish(name, b"%d" % i)
    client = Many(g, ["a", "b", "c"], "history=2").acked()
    assert [client.tagged() for _ in range(4)] == [("a", b"2"), ("b", b"2"), ("a", b"3"), ("b", b"3")]
    g.publish("c", b"live")
    assert client.tagged() == ("c", b"live")


def test_a_newcomer_gets_nothing_from_before(serve, channel):
    g = serve()
    names = [f"{channel}_{c}" for c in "ab"]
    first = Many(g, names).acked()
    for i in range(50):
        publish_all(g, serve.redis, [(name, b"old %d" % i) for name in names])
        assert [first.tagged() for _ in names] == [(name, b"old %d" % i) for name in names]
        client = Many(g, names).acked()
        publish_all(g, serve.redis, [(names[1], b"new %d" % i)])
        assert client.tagged() == first.tagged() == (names[1], b"new %d" % i)
        client.close()


def gaps_of(client):
    """Gaps until the position block: {channel: data}."""
    gaps = {}
    while True:
        event = client.event()
        if event.name == "position":
            return gaps, event
        assert event.name == "gap", event
        gaps[tag(event)[0]] = json.loads(event.data)


@pytest.mark.parametrize("token", ["0123456789abcdef-7@a", "0123456789abcdef-7", "x@y", "-@", "%00"])
def test_a_number_of_elsewhere_is_a_gap_of_every_channel(gateway, token):
    g = gateway()
    names = ["a", "b", "c d"]
    client = Sse(g, path(names), headers={"Last-Event-ID": token})
    gaps, _ = gaps_of(client)
    assert list(gaps) == names and {g["missed"] for g in gaps.values()} == {None}
    assert g.metric("gaps_total") == 3
    g.publish("c%20d", b"on")
    assert client.event().data == b"on"


def test_a_gateway_that_was_restarted_tells_a_gap_of_every_channel(gateway, channel):
    first = gateway()
    client = Many(first, ["a", "b"]).acked()
    first.publish("a", b"1")
    id_ = client.event().id
    second = gateway()
    gaps, start = gaps_of(Sse(second, path(["a", "b"]), headers={"Last-Event-ID": id_}))
    assert set(gaps) == {"a", "b"} and start.id.split("-")[0] != id_.split("-")[0]


def test_what_was_trimmed_meanwhile_is_told_of_that_channel_only(gateway):
    g = gateway("--channel", "small_*: history=5")
    names = ["small_1", "large_1"]
    client = Many(g, names).acked()
    g.publish("small_1", b"seen")
    id_ = client.event().id
    client.close()
    for i in range(20):
        g.publish("small_1", b"%d" % i)
        g.publish("large_1", b"%d" % i)
    back = Sse(g, path(names), headers={"Last-Event-ID": id_})
    gaps, _ = gaps_of(back)
    assert list(gaps) == ["small_1"]
    events = [back.event() for _ in range(25)]
    for name, first in (("small_1", 15), ("large_1", 0)):
        assert [int(e.data) for e in events if tag(e)[0] == name] == list(range(first, 20))


def test_a_channel_that_was_let_go_meanwhile_is_a_gap_and_the_others_go_on(gateway, shared_redis, channel):
    g = gateway("--redis", shared_redis.url, "--linger", "50ms", "--history-ttl", "50ms")
    kept, gone = f"{channel}_kept", f"{channel}_gone"
    client = Many(g, [kept, gone]).acked()
    keeper = Sse(g, f"/sse/{kept}").acked()
    shared_redis.publish(kept, b"1")
    id_ = client.event().id
    client.close()
    g.wait_metric("channels", 1)
    shared_redis.publish(gone, b"nobody hears it")
    shared_redis.publish(kept, b"2")
    assert [keeper.payload(), keeper.payload()] == [b"1", b"2"]
    back = Sse(g, path([kept, gone]), headers={"Last-Event-ID": id_})
    gaps, _ = gaps_of(back)
    assert list(gaps) == [gone]
    assert back.event().data == b"2"


# --- the broker ---


def test_a_lost_link_is_told_of_each_channel_and_by_whoever_comes_back(gateway, own_redis, workers):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--workers", workers)
    client = Many(g, ["a", "b"]).acked()
    redis.publish("a", b"1")
    before = client.event()
    assert before.data == b"1"
    redis.kill()
    told = [client.event() for _ in range(2)]
    assert {tag(e)[0] for e in told} == {"a", "b"}
    assert all(e.name == "broker" and json.loads(e.data)["state"] == "down" for e in told)
    waiting = Sse(g, path(["a", "b"]))
    assert json.loads(waiting.named("broker").data)["state"] == "down"
    redis.start()
    told = collections.Counter()
    for _ in range(4):
        event = client.event()
        told[tag(event)[0], event.name] += 1
    assert told == {(c, n): 1 for c in "ab" for n in ("broker", "gap")}
    assert json.loads(waiting.named("broker").data)["state"] == "up"
    assert waiting.event().name == "position"
    g.wait_ready()
    late = Sse(g, path(["a", "b"]), headers={"Last-Event-ID": before.id})
    assert set(gaps_of(late)[0]) == {"a", "b"}
    redis.wait_subscribed("a", "b")
    redis.publish("b", b"2")
    for c in (client, waiting):
        assert c.named("message").data == b"2"
    up_to_date = Sse(g, path(["a", "b"]), headers={"Last-Event-ID": client.last_id})
    assert up_to_date.event().name == "position"


def test_a_refused_channel_is_told_and_the_others_go_on(gateway, own_redis):
    redis = own_redis()
    redis.client.execute_command("ACL", "SETUSER", "default", "resetchannels", "&good_*")
    g = gateway("--redis", redis.url)
    client = Sse(g, path(["bad_1", "good_1", "bad_2"]))
    refused = [client.event(), client.event()]
    assert {tag(e)[0] for e in refused} == {"bad_1", "bad_2"}
    assert all(json.loads(e.data)["state"] == "refused" for e in refused)
    assert client.event().name == "position"
    redis.publish("good_1", b"on")
    assert client.event().data == b"on"
    assert g.metric("subscriptions") == 1
    nothing = Sse(g, path(["bad_1", "bad_2"]))
    assert {tag(nothing.event())[0] for _ in range(2)} == {"bad_1", "bad_2"}
    assert nothing.ended()


def test_a_pattern_channel_is_one_of_them(serve, channel):
    g = serve("--pattern", f"fleet {channel}_*")
    client = Sse(g, path(["fleet", f"{channel}_1"]))
    assert client.event().name == "position"
    g.publish(f"{channel}_1", b"1")
    events = sorted((tag(e)[0], e.name, e.data) for e in (client.event(), client.event()))
    assert events == sorted([("fleet", f"{channel}_1", b"1"), (f"{channel}_1", "message", b"1")])


@pytest.mark.parametrize("notify", ["Kgt", ""])
def test_streams_and_plain_channels_share_a_stream_and_begin_at_their_entries(gateway, own_redis, notify):
    redis = own_redis()
    redis.client.config_set("notify-keyspace-events", notify)
    rule = ["--redis", redis.url, "--channel", "order_*: source=stream"]
    first = gateway(*rule)
    client = Many(first, ["order_1", "order_2", "plain"]).acked()
    old = [redis.client.xadd("order_1", {"data": b"%d" % i}) for i in range(5)]
    redis.client.publish("plain", b"p")
    got = [client.tagged() for _ in range(6)]
    assert [d for c, d in got if c == "order_1"] == [b"%d" % i for i in range(5)]
    assert ("plain", b"p") in got
    where = Sse(first, "/sse/order_1?history=5").acked()
    position = next(e.id for e in iter(where.event, None) if e.data == b"1")
    assert old[1].decode() in position
    second = gateway(*rule)  # it has to read the older ones from Redis
    back = Sse(second, f"/sse?ch=order_1&since={position}&ch=order_2&ch=plain")
    assert back.event().name == "position"
    redis.client.xadd("order_2", {"data": b"new"})
    seen = [back.event() for _ in range(4)]
    assert [(tag(e)[0], e.data) for e in seen] == [
        ("order_1", b"2"), ("order_1", b"3"), ("order_1", b"4"), ("order_2", b"new")]
    # Once it has what was appended here, it goes on by number.
    on = Sse(second, path(["order_1", "order_2", "plain"]), headers={"Last-Event-ID": seen[3].id})
    assert on.event().name == "position"
    # What was read for it has none: who is cut there is told rather than left with less.
    cut = Sse(second, path(["order_1", "order_2", "plain"]), headers={"Last-Event-ID": seen[0].id})
    assert set(gaps_of(cut)[0]) == {"order_1", "order_2", "plain"}


# --- slow readers ---

RULES = ["--channel", "gap_*: history=64 overflow=gap", "--channel", "latest_*: overflow=latest, history=64",
         "--channel", "slow_*: history=64", "--channel", "rate_*: overflow=latest, max_rate=20/s",
         "--stall-timeout", "1h"]


def floods(g, names, first, n):
    threads = [harness.Background(flood, g, name, first, n) for name in names]
    for thread in threads:
        thread.result()


def test_gaps_of_a_slow_reader_are_told_by_channel_with_their_count(gateway, workers):
    g = gateway(*RULES, "--workers", workers)
    names = ["gap_1", "gap_2", "gap_3"]
    slow = Many(g, names, receive_buffer=4096).acked()
    n = 2000
    floods(g, names, 0, n)
    next_, missed = collections.Counter(), collections.Counter()
    while any(next_[name] < n for name in names):
        event = slow.event()
        name = tag(event)[0]
        if event.name == "gap":
            missed[name] += json.loads(event.data)["missed"]
            next_[name] += json.loads(event.data)["missed"]
        else:
            assert int(event.data[:6]) == next_[name], (name, event)
            next_[name] += 1
    assert all(missed[name] > 0 for name in names)
    assert g.metric("gap_messages_total") == sum(missed.values())
    g.publish("gap_2", b"on")
    assert slow.tagged() == ("gap_2", b"on")


def test_latest_ends_with_the_newest_of_each_and_calls_it_no_gap(gateway):
    g = gateway(*RULES)
    names = ["latest_1", "latest_2"]
    slow = Many(g, names, receive_buffer=4096).acked()
    n = 2000
    floods(g, names, 0, n)
    last = {name: -1 for name in names}
    while any(last[name] < n - 1 for name in names):
        name, data = slow.tagged()
        assert int(data[:6]) > last[name]
        last[name] = int(data[:6])
    assert g.metric("gaps_total") == 0 and g.metric("conflated_messages_total") > 0


def test_one_slow_channel_of_the_rule_disconnect_ends_the_response(gateway):
    g = gateway(*RULES)
    slow = Many(g, ["slow_1", "other"], receive_buffer=4096).acked()
    flood(g, "slow_1", 0, 3000)
    assert slow.ended()
    assert g.metric("overflows_total") == 1
    back = Sse(g, path(["slow_1", "other"]), headers={"Last-Event-ID": slow.last_id})
    assert list(gaps_of(back)[0]) == ["slow_1"]


def test_a_limited_rate_holds_back_its_channel_only_and_ids_never_go_back(gateway):
    g = gateway(*RULES)
    client = Many(g, ["rate_1", "rate_2", "free"]).acked()
    n, last, free = 300, {}, 0
    for i in range(n):
        publish_all(g, None, [("rate_1", b"%d" % i), ("rate_2", b"%d" % i), ("free", b"%d" % i)])
    seen = collections.Counter()
    while free < n or last.get("rate_1") != n - 1 or last.get("rate_2") != n - 1:
        name, data = client.tagged()
        seen[name] += 1
        if name == "free":
            assert int(data) == free
            free += 1
        else:
            assert int(data) > last.get(name, -1)
            last[name] = int(data)
    assert seen["rate_1"] < n and g.metric("gaps_total") == 0
    # Whoever comes back with the last id is sent nothing that it had, but for the newest of those
    # that may have been held back.
    back = Many(g, ["rate_1", "rate_2", "free"], headers={"Last-Event-ID": client.last_id}).acked()
    newest = b"%d" % (n - 1)
    assert [back.tagged(), back.tagged()] == [("rate_1", newest), ("rate_2", newest)]
    g.publish("free", b"new")
    assert back.tagged() == ("free", b"new")


def test_what_a_rate_held_back_is_there_for_who_comes_back(gateway):
    g = gateway("--channel", "rate_*: overflow=latest, max_rate=1/s")
    names = ["rate_1", "free"]
    client = Many(g, names).acked()
    for i in range(3):
        g.publish("rate_1", b"%d" % i)
    g.publish("free", b"later")
    assert client.tagged() == ("rate_1", b"0")
    while client.tagged() != ("free", b"later"):
        pass  # slow machine: the next one was due before it
    back = Many(g, names, headers={"Last-Event-ID": client.last_id}).acked()
    assert back.tagged() == ("rate_1", b"2")
    g.publish("free", b"more")
    assert back.tagged() == ("free", b"more")


# --- limits and refusals ---


@pytest.mark.parametrize("query, error", [
    ("", "no channel is named"),
    ("?", "no channel is named"),
    ("?channel=a", "no channel is named"),
    ("?ch=", "channel name is empty"),
    ("?ch=a&ch", "channel name is empty"),
    ("?ch=" + "x" * 256, "channel name over 255 bytes"),
    ("?ch=%zz", "bad percent-encoding"),
    ("?since=0123456789abcdef-1&ch=a", "since= stands before every ch="),
    ("?ch=a&history=x", "received, strict and history are numbers"),
])
def test_bad_questions_are_refused_before_the_stream_begins(gateway, query, error):
    g = gateway()
    answer = g.get("/sse" + query)
    assert answer.status == 400 and answer.json()["error"] == error and answer.json()["hint"]
    assert g.metric("subscriptions") == 0


def test_channels_per_connection_hold_at_their_edge(gateway):
    g = gateway("--channels-per-connection", "3")
    for n in (2, 3):
        Many(g, list("abcd")[:n]).acked()
    Many(g, list("abcabc")).acked()
    with pytest.raises(Refused) as refused:
        Many(g, list("abcd"))
    assert refused.value.status == 400
    assert refused.value.answer.json()["hint"] == "see --channels-per-connection"
    assert g.metric("channels_refused_total") == 1


def test_a_thousand_names_of_twenty_bytes_fit_and_one_more_does_not(gateway):
    g = gateway()
    names = [f"tram_of_the_city_{i:03d}" for i in range(N)]
    assert all(len(name) == 20 for name in names)
    client = Many(g, names, headers={"Cookie": "x" * 4000}).acked()
    g.publish(names[-1], b"1")
    assert client.tagged() == (names[-1], b"1")
    assert g.get(path(names + ["more"])).status == 400


def test_every_channel_has_to_be_allowed(gateway):
    g = gateway("--allow", "tram_*")
    Many(g, ["tram_1", "tram_2"]).acked()
    answer = g.get(path(["tram_1", "bus_1"]))
    assert answer.status == 403 and answer.json()["error"] == "channel not allowed"
    answer = g.get(path(["tram_1"]), headers={"Origin": "https://evil.example"})
    assert answer.status == 403


def test_too_many_channels_in_all_refuse_those_that_find_no_room(gateway):
    g = gateway("--max-channels", "2")
    client = Sse(g, path(["a", "b", "c"]))
    event = client.event()
    assert event.name == "broker" and tag(event)[0] == "c"
    assert client.event().name == "position"
    g.publish("b", b"1")
    assert client.event().data == b"1"


def test_head_options_and_other_methods_are_answered_as_for_one_channel(gateway):
    g = gateway("--origin", "https://page.example")
    head = g.request("HEAD", path(["a", "b"]))
    assert head.status == 200 and head.headers["Content-Type"] == "text/event-stream"
    assert g.metric("subscriptions") == 0
    assert g.request("POST", path(["a"]), body=b"x").status == 405
    options = g.request("OPTIONS", path(["a"]), headers={"Origin": "https://page.example"})
    assert options.status == 204 and "GET" in options.headers["Access-Control-Allow-Methods"]
    page = Many(g, ["a"], headers={"Origin": "https://page.example"})
    assert page.response.headers["Access-Control-Allow-Origin"] == "https://page.example"


def test_an_operator_sees_its_subscriptions_and_lag(gateway):
    g = gateway()
    alone = Sse(g, "/sse/a").acked()
    client = Many(g, ["a", "b"]).acked()
    assert g.get("/channels/a").json()["subscribers"] == {"websocket": 0, "sse": 2}
    assert g.metric("sse_sessions") == 2 and g.metric("subscriptions") == 3
    client.close()
    g.wait_metric("subscriptions", 1)
    alone.close()


# --- a client that people use ---


def test_npm_eventsource_knows_the_channel_and_resumes_by_itself(gateway, program):  # noqa: F811
    needs(shutil.which("node"), "node")
    needs((harness.NODE / "node_modules" / "eventsource").exists(), "npm packages in tests/clients/node")
    port = harness.free_port()
    first = gateway("--listen", f"127.0.0.1:{port}", "--drain", "0s", listen=False)
    url = first.url + path(["a", "Łódź"])
    client = program("node", harness.NODE / "eventsource_client.mjs", url, 4, "gap")
    assert client.line() == "open"
    first.wait_metric("subscriptions", 2)
    first.publish(quote("Łódź"), "one")
    got = client.json()
    assert got["data"] == "one" and unquote(got["id"].split("@")[1]) == "Łódź"
    first.terminate()
    second = gateway("--listen", f"127.0.0.1:{port}", listen=False)
    assert "error" in client.json()
    lines = [client.line()]
    while lines[-1] != "open":
        lines.append(client.line())
    gaps = [client.json(), client.json()]
    assert {unquote(gap["id"].split("@")[1]) for gap in gaps} == {"a", "Łódź"}
    assert {gap["event"] for gap in gaps} == {"gap"}
    second.publish("a", "two")
    got = client.json()
    assert got["data"] == "two" and re.fullmatch(r"[0-9a-f]{16}-\d+@a", got["id"])
