"""One upstream subscription per channel and process, its start and its end (R7, R8, R9)."""

import pytest

import harness
from harness import Sse, WebSocket, wait_for


@pytest.fixture
def served(gateway, shared_redis, workers):
    def make(*arguments):
        return gateway("--redis", shared_redis.url, "--workers", workers, *arguments)

    return make


@pytest.mark.race
def test_a_thousand_first_clients_at_once_cause_one_subscribe(served, shared_redis, check, channel):
    g = served()
    before = shared_redis.calls("subscribe")
    process = check(g, "--ws", 500, "--sse", 500, "--together", "--messages", 1, "--prefix",
                    channel, "--publish", "none").ready()
    assert shared_redis.numsub(channel) == 1
    assert shared_redis.calls("subscribe") - before == 1
    assert shared_redis.publish(channel, harness.made_payload(channel, 0)) == 1
    process.verify()


def test_an_acked_client_misses_nothing(served, shared_redis, channel):
    """R8: published straight after the ack, again and again on fresh channels."""
    g = served("--linger", "0s")
    for i in range(30):
        name = f"{channel}{i}"
        client = WebSocket(g, f"/ws/{name}") if i % 2 else Sse(g, f"/sse/{name}").acked()
        assert shared_redis.publish(name, "first") == 1
        assert client.payload() == b"first"
        client.close()


def test_after_the_last_client_and_the_linger_the_channel_is_released(served, shared_redis, channel):
    g = served("--linger", "200ms", "--history-ttl", "200ms")
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    ws.close()
    assert shared_redis.publish(channel, "x") == 1
    assert sse.payload() == b"x"
    sse.reset()
    wait_for(lambda: shared_redis.numsub(channel) == 0, "NUMSUB is 0")
    g.wait_metric("channels", 0)
    g.wait_metric("subscriptions", 0)
    assert g.metric("broker_subscribes_total") == g.metric("broker_unsubscribes_total") == 1
    assert g.metric("log_bytes") == 0


def test_a_join_during_the_linger_causes_no_new_subscribe(served, shared_redis, channel):
    g = served("--linger", "60s")
    WebSocket(g, f"/ws/{channel}").close()
    g.wait_metric("subscriptions", 0)
    before = shared_redis.calls("subscribe")
    client = WebSocket(g, f"/ws/{channel}")
    assert shared_redis.calls("subscribe") == before
    assert shared_redis.publish(channel, "still there") == 1
    assert client.payload() == b"still there"
    assert g.metric("broker_subscribes_total") == 1


def test_a_newcomer_gets_nothing_from_before_its_subscription(served, shared_redis, channel):
    g = served("--linger", "60s")
    old = WebSocket(g, f"/ws/{channel}")
    shared_redis.publish(channel, "before")
    assert old.payload() == b"before"
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    shared_redis.publish(channel, "after")
    assert ws.payload() == sse.payload() == old.payload() == b"after"


def test_thousands_of_channels_visited_leave_nothing(served, check, shared_redis, channel):
    g = served("--linger", "50ms", "--history-ttl", "50ms")
    for round_ in range(3):
        check(g, "--ws", 500, "--channels", 500, "--messages", 1, "--prefix", f"{channel}{round_}_",
              "--publish", f"redis:{shared_redis.port}").verify()
        g.wait_metric("channels", 0)
    assert g.metric("log_bytes") == 0
    wait_for(lambda: not shared_redis.client.pubsub_channels(channel + "*"), "none is subscribed")


def visit(wires, names, request):
    """Pipelined on a few connections: a visit is all that a channel gets."""
    for i, wire in enumerate(wires):
        wire.expected = len(names[i::len(wires)])
        wire.send(b"".join(request(name) for name in names[i::len(wires)]))
    for wire in wires:
        seen, mark = 0, b'"position":"'
        while seen < wire.expected:
            assert wire.more()
            *before, rest = wire.held.split(mark)
            seen, wire.held = seen + len(before), rest[1 - len(mark):]
        assert seen == wire.expected


ROUNDS = 10  # after the second one the process has all that it needs


@pytest.mark.parametrize("visits", [40000, pytest.param(1000000, marks=pytest.mark.soak)])
def test_channels_visited_one_after_the_other_leave_no_growth(serve, channel, visits):
    """R9, with a million in the soak tier: each is subscribed and left, or published to, and is gone.
    Whole sessions come by as well, in each round."""
    g = serve("--linger", "0s", "--history-ttl", "0s", "--max-channels", 3000)
    host = g.target.encode()

    def ask(name):
        return b"GET /position/%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (name, host)

    def publish(name):
        return b"POST /pub/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello" % (name, host)

    wires = [harness.Wire(g.port) for _ in range(8)]
    sizes = []
    for round_ in range(ROUNDS):
        for first in range(round_ * visits // ROUNDS, (round_ + 1) * visits // ROUNDS, 1000):
            names = [b"%s-%d" % (channel[-40:].encode(), first + i) for i in range(1000)]
            visit(wires, names[:500], ask)
            if g.broker == "memory":
                visit(wires, names[500:], publish)
            else:
                visit(wires, names[500:], ask)
        Sse(g, f"/sse/{channel}{round_}").acked().close()
        WebSocket(g, f"/ws/{channel}{round_}").close()
        g.wait_metric("channels", 0)
        sizes.append(g.rss())
    for wire in wires:
        wire.close()
    assert g.metric("log_bytes") == 0
    if serve.redis:
        wait_for(lambda: not serve.redis.client.pubsub_channels(channel + "*"), "none is subscribed")
    if not harness.is_sanitized():
        assert sizes[-1] < sizes[1] + (1 << 20), sizes


@pytest.mark.soak
def test_a_hundred_thousand_sessions_on_channels_of_their_own_leave_no_growth(gateway, check,
                                                                              channel):
    g = gateway("--linger", "0s", "--history-ttl", "0s")
    sizes = []
    for round_ in range(20):
        check(g, "--ws", 5000, "--channels", 5000, "--messages", 1, "--prefix",
              f"{channel}{round_}_", deadline=120).verify()
        g.wait_metric("channels", 0)
        sizes.append(g.rss())
    assert sizes[-1] < sizes[4] + (4 << 20) or harness.is_sanitized(), sizes


def test_joins_and_leaves_at_random_moments_end_subscribed(served, shared_redis, channel):
    """With no linger the SUBSCRIBE of a join often meets the UNSUBSCRIBE of a leave."""
    g = served("--linger", "0s", "--history-ttl", "0s")
    for i in range(60):
        first = WebSocket(g, f"/ws/{channel}", ask=False)
        second = WebSocket(g, f"/ws/{channel}", ask=False)
        first.ask()
        first.accepted()
        first.reset() if i % 2 else first.close()
        second.ask()
        second.accepted()
        assert shared_redis.publish(channel, str(i)) == 1
        assert second.payload() == str(i).encode()
        second.close()


def test_two_gateways_are_two_subscriptions(gateway, shared_redis, channel):
    a, b = (gateway("--redis", shared_redis.url) for _ in range(2))
    clients = [WebSocket(g, f"/ws/{channel}") for g in (a, b) for _ in range(3)]
    assert shared_redis.numsub(channel) == 2
    assert a.publish(channel, "x").json()["receivers"] == 2
    assert {c.payload() for c in clients} == {b"x"}
