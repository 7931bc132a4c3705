"""R4 and R5: what a client meets that falls off its channel's log, by the channel's rule."""

import json
import subprocess
import time

import pytest

import harness
from harness import Sse, WebSocket

SIZE = 4000
# However long the flood takes, nobody is cut because its socket stands still.
RULES = ["--channel", "gap_*: history=64 overflow=gap", "--channel",
         "latest_*: overflow=latest, history=64", "--channel", "slow_*: history=64",
         "--stall-timeout", "1h"]


def flood(g, channel, first, n):
    """Publish numbered messages of about SIZE bytes, pipelined."""
    with harness.Wire(g.port) as wire:
        for start in range(first, first + n, 100):
            part = range(start, min(start + 100, first + n))
            for i in part:
                body = b"%06d" % i + b"x" * SIZE
                wire.send(b"POST /pub/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                          % (channel.encode(), len(body)) + body)
            for _ in part:
                assert wire.answer().status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_gap_goes_on_with_the_oldest_kept_and_says_exactly_what_was_missed(gateway, workers):
    g = gateway(*RULES, "--workers", workers)
    slow = Sse(g, "/sse/gap_1", receive_buffer=4096).acked()
    n = 5000
    flood(g, "gap_1", 0, n)
    seen, missed, expected = 0, 0, 0
    while expected < n:
        event = slow.event()
        if event.name == "gap":
            missed += json.loads(event.data)["missed"]
            expected = seen + missed
        else:
            assert int(event.data[:6]) == expected
            seen += 1
            expected += 1
    assert missed > 0 and seen + missed == n
    g.publish("gap_1", b"999999")
    assert slow.payload() == b"999999"
    assert g.metric("gap_messages_total") == missed


def test_gap_closes_a_raw_websocket_with_the_newest_position(gateway):
    g = gateway(*RULES)
    slow = WebSocket(g, "/ws/gap_1", receive_buffer=4096)
    n = 5000
    flood(g, "gap_1", 0, n)
    seen = 0
    end = None
    while not end:
        try:
            assert int(slow.payload()[:6]) == seen
            seen += 1
        except harness.Ended as e:
            end = e
    assert end.code == 4410
    word, newest, missed = end.reason.decode().split(" ")
    position = int(newest.split("-")[1])
    assert word == "gap" and missed == f"missed={position - seen}"
    flood(g, "gap_1", n, 1)
    back = WebSocket(g, f"/ws/gap_1?since={newest}")
    assert int(back.payload()[:6]) == position


@pytest.mark.parametrize("connect, path", [(WebSocket, "ws"), (Sse, "sse")])
def test_latest_goes_on_with_the_newest_and_calls_it_no_gap(gateway, connect, path):
    g = gateway(*RULES)
    slow = connect(g, f"/{path}/latest_1", receive_buffer=4096)
    if path == "sse":
        slow.acked()
    n = 5000
    flood(g, "latest_1", 0, n)
    got = [int(slow.payload()[:6])]
    while got[-1] < n - 1:
        got.append(int(slow.payload()[:6]))
    assert got == sorted(set(got)) and len(got) < n
    assert g.metric("conflated_messages_total") == n - len(got)
    assert g.metric("gaps_total") == 0 and g.metric("overflows_total") == 0


def test_disconnect_is_the_rule_where_none_says_otherwise(gateway):
    g = gateway(*RULES)
    slow = WebSocket(g, "/ws/slow_1", receive_buffer=4096)
    flood(g, "slow_1", 0, 5000)
    end = slow.ended()
    assert end.code in (4408, None)  # best effort: the socket is full
    assert g.metric("overflows_total") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_gets_more_than_the_rate_and_everybody_the_last(gateway, workers):
    g = gateway("--channel", "price_*: overflow=latest, max_rate=10/s", "--workers", workers)
    clients = [connect(g, f"/{path}/price_1") for _ in range(20)
               for connect, path in ((WebSocket, "ws"), (Sse, "sse"))]
    for each in clients[1::2]:
        each.acked()
    n, times = 400, {}
    started = time.monotonic()
    flood(g, "price_1", 0, n)
    for each in clients:
        got = [int(each.payload()[:6])]
        while got[-1] < n - 1:
            got.append(int(each.payload()[:6]))
        assert got == sorted(set(got)), "never an older after a newer"
        times[each] = len(got)
    # One at once, and then one in each 100 ms that it took; on any but the slowest machine few.
    assert max(times.values()) <= 2 + (time.monotonic() - started) * 10
    assert g.metric("gaps_total") == 0
    # And at once again after a pause.
    g.publish("price_1", b"000400")
    assert all(int(each.payload()[:6]) == 400 for each in clients)


def until_mark(g, connection, channel):
    """The payloads that a client gets before the next one that is published."""
    g.publish(channel, b"mark")
    got = [connection.payload()]
    while got[-1] != b"mark":
        got.append(connection.payload())
    return got[:-1]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("received, expected", [
    ("", [b"8"]), ("&received=0", [b"8"]), ("&received=1", [b"8"]), ("&received=8", [b"8"]),
    ("&received=9", [])])
def test_who_comes_back_where_the_latest_counts_begins_with_it(gateway, workers, received, expected):
    """Some may have been left out of what it counted, so that it cannot know which it has."""
    g = gateway(*RULES[2:4], "--channel", "short_*: overflow=latest, history=4", "--workers", workers)
    for channel in ("latest_1", "short_1"):
        here = g.get(f"/position/{channel}").json()["position"]
        for i in range(9):
            g.publish(channel, b"%d" % i)
        back = WebSocket(g, f"/ws/{channel}?since={here}{received}")
        assert until_mark(g, back, channel) == expected
    assert g.metric("gaps_total") == 0 and g.metric("gap_closes_total") == 0


def test_an_event_stream_that_comes_back_where_the_latest_counts_knows_what_it_has(gateway):
    g = gateway("--channel", "latest_*: overflow=latest, history=4")
    for has, expected in ((8, []), (7, [b"8"]), (5, [b"6", b"7", b"8"]), (3, [b"8"]), (0, [b"8"])):
        channel = f"latest_{has}"
        ids = [g.publish(channel, b"%d" % i).json()["position"] for i in range(9)]
        back = Sse(g, f"/sse/{channel}", headers={"Last-Event-ID": ids[has]}).acked()
        assert until_mark(g, back, channel) == expected
    assert g.metric("gaps_total") == 0


def test_a_position_of_another_time_is_told_where_the_latest_counts_too(gateway):
    g = gateway(*RULES)
    for i in range(3):
        g.publish("latest_1", b"%d" % i)
    end = WebSocket(g, "/ws/latest_1?since=0123456789abcdef-7").ended()
    assert end.code == 4410 and end.reason.endswith(b"missed=?")
    since = end.reason.split(b" ")[1].decode()
    assert until_mark(g, WebSocket(g, f"/ws/latest_1?since={since}"), "latest_1") == [b"2"]
    sse = Sse(g, "/sse/latest_1?since=0123456789abcdef-7")
    assert [sse.event().name for _ in range(3)] == ["gap", "position", "message"]
    assert sse.last_id and g.metric("gaps_total") == 2


def test_the_first_rule_that_matches_wins_and_others_are_as_the_flags_say(gateway):
    g = gateway("--log-messages", 5, "--channel", "a_long*: history=50", "--channel",
                "a_*: history=2")
    for channel, kept in (("a_long_1", 50), ("a_1", 2), ("b", 5)):
        for i in range(60):
            g.publish(channel, b"%d" % i)
        ws = WebSocket(g, f"/ws/{channel}?history=100")
        assert ws.payload() == b"%d" % (60 - kept)


def test_rules_may_close_on_a_gap(gateway, tmp_path):
    redis = harness.Redis(tmp_path / "redis")
    try:
        g = gateway("--redis", redis.url, "--channel", "strict_*: on_gap=close")
        strict, plain = WebSocket(g, "/ws/strict_1"), WebSocket(g, "/ws/plain_1")
        redis.kill()
        g.wait_unready()
        redis.start()
        g.wait_ready()
        assert strict.ended().code == 4410
        redis.wait_subscribed("plain_1")
        redis.publish("plain_1", b"still here")
        assert plain.payload() == b"still here"
    finally:
        redis.stop()


@pytest.mark.parametrize("rule, reason", [
    ("tram_*", "is no rule"), ("tram_* overflow=gap", "is no rule"), (": overflow=gap", "glob"),
    ("tram_*: ", "a rule is"), ("tram_*: overflow", "a rule is"), ("tram_*: overflow=x", "overflow"),
    ("tram_*: overflo=gap", "overflow"), ("tram_*: history=0", "history"),
    ("tram_*: history=x", "history"), ("tram_*: bytes=1", "bytes"), ("tram_*: age=1", "age"),
    ("tram_*: max_rate=4/s", "goes with overflow=latest"),
    ("tram_*: overflow=latest, max_rate=fast", "max_rate"),
    ("tram_*: overflow=latest, max_rate=0/s", "max_rate"),
    ("tram_*: overflow=latest, max_rate=1001/s", "max_rate"),
    ("x" * 256 + ": overflow=gap", "255 bytes")])
def test_a_rule_that_makes_no_sense_is_refused_in_one_line(rule, reason):
    run = subprocess.run([harness.TRAMLINE, "serve", "--listen", "127.0.0.1:0", "--channel", rule],
                         capture_output=True, timeout=harness.DEADLINE, stdin=subprocess.DEVNULL)
    assert run.returncode == 2 and run.stdout == b""
    assert run.stderr.count(b"\n") == 1 and reason in run.stderr.decode(), run.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_link_harms_no_channel_whose_latest_counts(gateway, tmp_path, workers):
    redis = harness.Redis(tmp_path / "redis")
    try:
        g = gateway("--redis", redis.url, "--workers", workers, "--channel",
                    "p_*: overflow=latest, max_rate=1/s")
        ws, sse = WebSocket(g, "/ws/p_1"), Sse(g, "/sse/p_1").acked()
        redis.publish("p_1", b"000000")
        assert ws.payload() == sse.payload() == b"000000"
        redis.publish("p_1", b"000001")
        redis.publish("p_1", b"000002")
        g.wait_metric("messages_in_total", 3)
        redis.kill()
        g.wait_unready()
        while ws.payload() != b"000002":
            pass  # the last before the loss is delivered
        redis.start()
        g.wait_ready()
        redis.wait_subscribed("p_1")
        redis.publish("p_1", b"000003")
        assert ws.payload() == b"000003"
        names = []
        while not names or names[-1] != "000003":
            event = sse.event()
            names.append(event.name if event.name != "message" else event.data.decode())
        assert "gap" in names and "broker" in names
    finally:
        redis.stop()


def test_a_message_that_is_too_big_harms_no_channel_whose_latest_counts(gateway, shared_redis):
    g = gateway("--redis", shared_redis.url, "--max-message", "1000", "--channel",
                "big_*: overflow=latest, max_rate=2/s")
    ws = WebSocket(g, "/ws/big_1")
    for payload in (b"1", b"2", b"x" * 2000):
        shared_redis.publish("big_1", payload)
    while ws.payload() != b"2":
        pass
    shared_redis.publish("big_1", b"3")
    assert ws.payload() == b"3"
