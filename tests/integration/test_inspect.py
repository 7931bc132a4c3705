"""GET /channels/{name}: what an operator is told of one channel."""

import pytest

import harness
from harness import Sse, WebSocket, wait_for
from test_overflow import flood


def inspect(g, channel, **more):
    return g.get(f"/channels/{channel}", **more)


def test_subscribers_and_positions_of_a_channel(serve, channel):
    g = serve()
    assert inspect(g, channel).status == 404
    clients = [WebSocket(g, f"/ws/{channel}") for _ in range(7)]
    events = [Sse(g, f"/sse/{channel}").acked() for _ in range(3)]
    before = g.get(f"/position/{channel}").json()["position"]
    for i in range(5):
        g.publish(channel, b"%d" % i)
    assert [clients[0].payload() for _ in range(5)] and [events[0].payload() for _ in range(5)]
    told = inspect(g, channel).json()
    assert told["channel"] == channel and told["state"] == "live"
    assert told["subscribers"] == {"websocket": 7, "sse": 3}
    assert told["oldest"] == before and told["position"] == events[0].last_id
    assert told["messages"] == 5 and told["bytes"] > 5
    for each in clients + events:
        each.close()
    wait_for(lambda: inspect(g, channel).json()["state"] == "lingering", "nobody watches")
    assert inspect(g, channel).json()["subscribers"] == {"websocket": 0, "sse": 0}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_slowest_are_named_with_their_lag(gateway, workers):
    g = gateway("--workers", workers, "--stall-timeout", "1m")
    slow = [WebSocket(g, "/ws/a", receive_buffer=4096) for _ in range(10)]
    stream = Sse(g, "/sse/a", receive_buffer=4096).acked()
    quick = WebSocket(g, "/ws/a")
    flood(g, "a", 0, 900)
    for _ in range(900):
        quick.payload()
    told = inspect(g, "a").json()
    assert told["subscribers"] == {"websocket": 11, "sse": 1}
    lags = [each["lag"] for each in told["slowest"]]
    assert len(lags) == 8 and lags == sorted(lags, reverse=True) and 0 < lags[-1] <= lags[0] <= 900
    del slow, stream


def test_it_is_guarded_like_the_metrics(gateway):
    g = gateway("--token", "secret", "--allow", "allowed")
    watcher = WebSocket(g, "/ws/allowed")
    assert inspect(g, "allowed").status == 403
    assert inspect(g, "allowed", headers={"Authorization": "Bearer wrong"}).status == 403
    assert inspect(g, "allowed", headers={"Authorization": "Bearer secret"}).status == 200
    watcher.close()


def test_names_are_escaped_and_pattern_channels_are_channels(gateway):
    g = gateway("--pattern", "fleet tram_*")
    fleet = Sse(g, "/sse/fleet").acked()
    odd = WebSocket(g, "/ws/%22%0a%ff")
    g.publish("tram_1", b"x")
    assert fleet.event().data == b"x"
    assert inspect(g, "fleet").json()["messages"] == 1
    assert inspect(g, "%22%0a%ff").json()["channel"] == '"\n\ufffd'
    odd.close()


def test_who_asks_may_go_before_the_answer(gateway):
    g = gateway("--workers", 2)
    watcher = WebSocket(g, "/ws/a")
    for _ in range(200):
        wire = harness.Wire(g.port)
        wire.send(b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.reset()
    with harness.Wire(g.port) as wire:
        wire.send(b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        for _ in range(50):
            assert wire.answer().json()["subscribers"]["websocket"] == 1
    watcher.close()
