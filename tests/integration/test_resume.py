"""R16 on raw WebSocket: GET /position, ?since=&received=, ?strict=1 and close 4410; three outcomes
and no fourth; ?history=. Resume over SSE is in test_delivery.py and test_hardening.py."""

import random
import re
import threading

import pytest

import harness
from harness import Refused, Sse, WebSocket

GAP = re.compile(r"gap ([0-9a-f]{16}-[0-9]+) missed=([0-9]+|\?)$")


def position(g, channel):
    answer = g.get(f"/position/{channel}")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    return answer.json()["position"]


def told_gap(ws):
    """(newest position, how many or None) that a close with 4410 told."""
    end = ws.ended()
    assert end.code == 4410, end
    found = GAP.match(end.reason.decode())
    assert found, end.reason
    return found[1], None if found[2] == "?" else int(found[2])


def test_what_comes_after_a_position_is_replayed(serve, channel):
    g = serve()
    here = position(g, channel)
    watcher = WebSocket(g, f"/ws/{channel}?since={here}")
    for i in range(20):
        g.publish(channel, b"%d" % i)
    assert [watcher.payload() for _ in range(20)] == [b"%d" % i for i in range(20)]
    for n in (0, 7, 19):
        ws = WebSocket(g, f"/ws/{channel}?since={here}&received={n}")
        assert [ws.payload() for _ in range(n, 20)] == [b"%d" % i for i in range(n, 20)]
        g.publish(channel, b"live")
        assert ws.payload() == b"live" == watcher.payload()
        ws.say_goodbye()
        here_after = position(g, channel)
        g.publish(channel, b"next")
        assert watcher.payload() == b"next"
        assert WebSocket(g, f"/ws/{channel}?since={here_after}").payload() == b"next"


def test_the_answer_of_a_publish_is_a_position_to_resume_from(gateway, channel):
    g = gateway()
    first = g.publish(channel, b"1").json()["position"]
    g.publish(channel, b"2")
    assert WebSocket(g, f"/ws/{channel}?since={first}").payload() == b"2"


@pytest.mark.race
def test_clients_that_drop_at_random_miss_and_repeat_nothing(serve, channel):
    """Live and replay join without a window, while messages keep coming."""
    g = serve()
    here = position(g, channel)
    total, rng = 600, random.Random(5)

    def publish():
        connection = harness.Wire(g.port)
        for i in range(total):
            body = b"%d" % i
            connection.send(b"POST /pub/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                            % (channel.encode(), len(body), body))
            assert connection.answer().status == 200
        connection.close()

    publisher = threading.Thread(target=publish)
    publisher.start()
    got = []
    while len(got) < total:
        ws = WebSocket(g, f"/ws/{channel}?since={here}&received={len(got)}")
        for _ in range(min(rng.randrange(1, 60), total - len(got))):
            got.append(int(ws.payload()))
        ws.reset()
    publisher.join()
    assert got == list(range(total))
    assert g.metric("gaps_total") == 0


@pytest.mark.parametrize("since", ["0123456789abcdef-0", "nonsense", "", "0-0", "%00"])
def test_a_position_of_another_time_is_told_and_gives_a_new_one(serve, channel, since):
    g = serve()
    g.publish(channel, b"before")
    newest, missed = told_gap(WebSocket(g, f"/ws/{channel}?since={since}"))
    assert missed is None
    g.publish(channel, b"after")
    assert WebSocket(g, f"/ws/{channel}?since={newest}").payload() == b"after"
    assert g.metric("gap_closes_total") == 1


def test_a_position_of_the_future_is_not_believed(serve, channel):
    g = serve()
    here = position(g, channel)
    assert told_gap(WebSocket(g, f"/ws/{channel}?since={here}&received=1"))[1] is None
    assert told_gap(WebSocket(g, f"/ws/{channel}?since={here}&received=999999999999999999"))


def test_messages_that_are_not_kept_are_counted(gateway, channel):
    g = gateway("--log-messages", 10)
    here = position(g, channel)
    for i in range(50):
        g.publish(channel, b"%d" % i)
    assert WebSocket(g, f"/ws/{channel}?since={here}&received=40").payload() == b"40"
    newest, missed = told_gap(WebSocket(g, f"/ws/{channel}?since={here}&received=39"))
    assert missed == 11 and newest == position(g, channel)
    assert told_gap(WebSocket(g, f"/ws/{channel}?since={here}"))[1] == 50
    assert g.metric("gap_messages_total") == 61


def test_a_log_made_anew_never_answers_that_nothing_was_missed(gateway, channel):
    g = gateway("--linger", "50ms", "--history-ttl", "50ms")
    here = position(g, channel)
    g.wait_metric("channels", 0)
    assert told_gap(WebSocket(g, f"/ws/{channel}?since={here}"))[1] is None


def test_a_position_is_kept_for_the_linger(gateway, shared_redis, channel):
    g = gateway("--redis", shared_redis.url, "--linger", "60s")
    here = position(g, channel)
    assert shared_redis.numsub(channel) == 1
    shared_redis.publish(channel, b"meanwhile")
    assert WebSocket(g, f"/ws/{channel}?since={here}").payload() == b"meanwhile"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_link_closes_those_who_asked_and_keeps_the_others(gateway, tmp_path, channel, workers):
    redis = harness.Redis(tmp_path / "redis")
    try:
        g = gateway("--redis", redis.url, "--workers", workers)
        here = position(g, channel)
        strict = [WebSocket(g, f"/ws/{channel}?strict=1"), WebSocket(g, f"/ws/{channel}?since={here}"),
                  WebSocket(g, f"/chat/{channel}?strict=1")]
        plain = [WebSocket(g, f"/ws/{channel}"), WebSocket(g, f"/ws/{channel}?strict=0")]
        redis.publish(channel, b"1")
        for ws in strict + plain:
            assert ws.payload() == b"1"
        redis.kill()
        g.wait_unready()
        redis.start()
        g.wait_ready()
        redis.wait_subscribed(channel)
        told = [told_gap(ws) for ws in strict]
        assert all(missed is None for _, missed in told)
        g.wait_metric("gap_closes_total", 3)
        redis.publish(channel, b"2")
        for ws in plain:
            assert ws.payload() == b"2"
        assert WebSocket(g, f"/ws/{channel}?since={told[0][0]}").payload() == b"2"
        assert told_gap(WebSocket(g, f"/ws/{channel}?since={here}&received=1"))[1] is None
    finally:
        redis.stop()


def publish_at_once(redis, channel, payloads):
    """In one piece, so that the gateway is likely to read them as one batch."""
    with redis.client.pipeline(transaction=True) as together:
        for payload in payloads:
            together.publish(channel, payload)
        together.execute()


@pytest.mark.race
@pytest.mark.parametrize("watched", [False, True], ids=["websocket", "with-sse"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_gap_closes_between_what_came_before_and_what_comes_behind(gateway, shared_redis, channel,
                                                                     workers, watched):
    g = gateway("--redis", shared_redis.url, "--max-message", 1000, "--workers", workers)
    here = position(g, channel)
    if watched:  # the event that tells event streams stands in the log
        sse = Sse(g, f"/sse/{channel}").acked()
    strict = [WebSocket(g, f"/ws/{channel}?{query}") for query in ("strict=1", f"since={here}")
              for _ in range(8)]
    plain = WebSocket(g, f"/ws/{channel}")
    publish_at_once(shared_redis, channel, [b"1", b"2", b"x" * 2000, b"3", b"4"])
    assert [plain.payload() for _ in range(4)] == [b"1", b"2", b"3", b"4"]
    for ws in strict:
        assert ws.payload() == b"1" and ws.payload() == b"2"
        behind, missed = told_gap(ws)
        assert missed == 1
    if watched:
        assert [sse.event().name for _ in range(3)] == ["message", "message", "gap"]
    back = [WebSocket(g, f"/ws/{channel}?since={behind}&received={n}") for n in range(3)]
    shared_redis.publish(channel, b"5")
    for n, ws in enumerate(back):
        assert [ws.payload() for _ in range(n, 3)] == [b"3", b"4", b"5"][n:]
    assert g.metric("gap_messages_total") == 17 + watched


@pytest.mark.parametrize("how", ["too big", "link lost"])
@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_too_slow_for_what_came_before_a_gap_is_told_that_too(gateway, tmp_path, channel,
                                                                     workers, how):
    redis, n = harness.Redis(tmp_path / "redis"), 5000
    try:
        g = gateway("--redis", redis.url, "--max-message", 10000, "--workers", workers,
                    "--log-messages", 10000, "--log-bytes", "64MiB")
        slow = WebSocket(g, f"/ws/{channel}?strict=1", receive_buffer=4096)
        for first in range(0, n, 500):
            publish_at_once(redis, channel, [b"%06d" % i + b"x" * 4000
                                             for i in range(first, first + 500)])
        g.wait_metric("messages_in_total", n)
        if how == "too big":
            redis.publish(channel, b"x" * 20000)
        else:
            redis.kill()
            g.wait_unready()
            redis.start()
        g.wait_metric("gap_closes_total", 1)
        redis.publish(channel, b"behind")
        seen, end = 0, None
        while not end:
            try:
                assert int(slow.payload()[:6]) == seen
                seen += 1
            except harness.Ended as e:
                end = e
        assert end.code == 4410 and 0 < seen < n
        behind, missed = GAP.match(end.reason.decode()).groups()
        lost = n - seen + (how == "too big")
        assert missed == (str(lost) if how == "too big" else "?")
        assert g.metric("gap_messages_total") == lost
        assert WebSocket(g, f"/ws/{channel}?since={behind}").payload() == b"behind"
    finally:
        redis.stop()


@pytest.mark.parametrize("query", [
    "since=x&received=-1", "received=1x", "received=", "strict=2", "strict=yes", "strict=%zz",
    "since=x&received=1000000000000000000", "history=", "history=x", "history=5d", "history=-1",
    "history=1s1", "history=1000000000000000000"])
def test_a_query_that_makes_no_sense_is_400(gateway, channel, query):
    g = gateway()
    for connect, path in ((WebSocket, "ws"), (Sse, "sse")):
        with pytest.raises(Refused) as refused:
            connect(g, f"/{path}/{channel}?{query}")
        assert refused.value.status == 400
    assert g.request("POST", f"/pub/{channel}?{query}", body=b"x").status == 200


@pytest.mark.parametrize("n, expected", [(0, []), (1, [9]), (4, [6, 7, 8, 9]), (10, range(10)),
                                         (11, range(10)), (10**17, range(10))])
def test_a_newcomer_may_have_some_history(serve, channel, n, expected):
    g = serve()
    first = Sse(g, f"/sse/{channel}").acked()
    for i in range(10):
        g.publish(channel, b"%d" % i)
    for i in range(10):
        assert first.payload() == b"%d" % i
    ws = WebSocket(g, f"/ws/{channel}?history={n}")
    sse = Sse(g, f"/sse/{channel}?history={n}").acked()
    g.publish(channel, b"live")
    for each in (ws, sse):
        assert [each.payload() for _ in expected] == [b"%d" % i for i in expected]
        assert each.payload() == b"live"


def test_history_may_be_a_time(serve, channel):
    g = serve()
    watcher = WebSocket(g, f"/ws/{channel}")
    g.publish(channel, b"old")
    assert watcher.payload() == b"old"
    assert WebSocket(g, f"/ws/{channel}?history=1h").payload() == b"old"
    assert WebSocket(g, f"/ws/{channel}?history=50s").payload() == b"old"

    def is_over():
        ws = WebSocket(g, f"/ws/{channel}?history=10ms")
        g.publish(channel, b"new")
        return ws.payload() == b"new"
    harness.wait_for(is_over, "10 ms are over")


def test_history_ends_at_a_gap(gateway, tmp_path, channel):
    redis = harness.Redis(tmp_path / "redis")
    try:
        g = gateway("--redis", redis.url)
        watcher = WebSocket(g, f"/ws/{channel}")
        redis.publish(channel, b"before")
        assert watcher.payload() == b"before"
        redis.kill()
        g.wait_unready()
        redis.start()
        g.wait_ready()
        redis.wait_subscribed(channel)
        redis.publish(channel, b"after")
        assert watcher.payload() == b"after"
        assert WebSocket(g, f"/ws/{channel}?history=10").payload() == b"after"
        assert Sse(g, f"/sse/{channel}?history=10").acked().payload() == b"after"
    finally:
        redis.stop()


def test_who_comes_back_gets_what_it_missed_and_no_history(gateway, channel):
    g = gateway()
    for i in range(5):
        here = g.publish(channel, b"%d" % i).json()["position"]
    g.publish(channel, b"5")
    assert WebSocket(g, f"/ws/{channel}?history=5&since={here}").payload() == b"5"
    back = Sse(g, f"/sse/{channel}?history=5", headers={"Last-Event-ID": here}).acked()
    assert back.payload() == b"5"


def test_where_a_channel_stands_is_asked_with_get_only(serve, channel):
    g = serve("--allow", "allowed*")
    assert g.get(f"/position/{channel}").status == 403
    assert g.get("/position/allowed").status == 200
    assert g.request("POST", "/position/allowed", body=b"x").status == 405
    assert g.get("/position/").status == 400


def test_a_position_cannot_be_had_while_redis_is_away(gateway, channel):
    g = gateway("--redis", f"redis://127.0.0.1:{harness.free_port()}", "--subscribe-timeout", "100ms",
                ready=False)
    answer = g.get(f"/position/{channel}")
    assert answer.status == 503 and answer.headers["Retry-After"]
