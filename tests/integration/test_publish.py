"""Publishing over HTTP, many requests on their way at once: one batch, answers in order, nothing lost,
doubled or swapped, on each broker (R1, R12, R19)."""

import pytest

from fake_redis import FakeRedis
from harness import WebSocket, Wire, wait_for


@pytest.fixture
def fake():
    server = FakeRedis()
    yield server
    server.stop()


def posts(channel, payloads):
    return b"".join(b"POST /pub/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                    % (channel.encode(), len(p), p) for p in payloads)


def numbers(n, first=0):
    return [b"%d" % i for i in range(first, first + n)]


def test_pipelined_messages_arrive_once_and_in_order(serve, channel):
    g, n = serve(), 3000
    ws, other = WebSocket(g, f"/ws/{channel}_a"), WebSocket(g, f"/ws/{channel}_b")
    with Wire(g.port) as wire, Wire(g.port) as neighbour:
        wire.send(posts(f"{channel}_a", numbers(n)))
        neighbour.send(posts(f"{channel}_b", numbers(n)))
        answers = [wire.answer() for _ in range(n)]
        assert {a.status for a in answers} == {200}
        assert all(neighbour.answer().status == 200 for _ in range(n))
    assert [ws.payload() for _ in range(n)] == [other.payload() for _ in range(n)] == numbers(n)
    if g.broker == "memory":
        told = [a.json() for a in answers]
        assert {each["subscribers"] for each in told} == {1}
        places = [int(each["position"].split("-")[1]) for each in told]
        assert places == list(range(places[0], places[0] + n))


def test_a_neighbour_is_served_while_many_publish_as_fast_as_they_can(gateway):
    g = gateway()
    ws = WebSocket(g, "/ws/quiet")
    crowd = [Wire(g.port) for _ in range(8)]
    for wire in crowd:
        wire.sock.setblocking(False)
        try:
            while True:
                wire.sock.send(posts("loud", numbers(200)))
        except BlockingIOError:
            pass
    for i in range(5):
        assert g.publish("quiet", b"%d" % i).status == 200
        assert ws.payload() == b"%d" % i
    for wire in crowd:
        wire.close()


def test_messages_of_one_read_go_to_redis_before_any_is_answered(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    fake.answers[b"PUBLISH"] = [b":%d\r\n" % i for i in range(100)]
    fake.hold(b"PUBLISH")
    with Wire(g.port) as wire:
        wire.send(posts(channel, numbers(100)))
        fake.wait_for(b"PUBLISH", channel.encode(), n=100)
        fake.release(b"PUBLISH")
        assert [wire.answer().json()["receivers"] for _ in range(100)] == list(range(100))
    assert [c[2] for c in fake.commands if c[0] == b"PUBLISH"] == numbers(100)


def test_a_link_lost_among_answers_leaves_each_request_its_own(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    fake.answers[b"PUBLISH"] = [b":0\r\n"] * 3 + [b"-ERR closed next\r\n"] + [b""] * 6
    with Wire(g.port) as wire:
        wire.send(posts(channel, numbers(10)))
        assert [wire.answer().status for _ in range(3)] == [200] * 3
        assert "closed next" in wire.answer().body.decode()
        fake.wait_for(b"PUBLISH", n=10)
        del fake.answers[b"PUBLISH"]
        fake.drop_links()
        for _ in range(6):
            answer = wire.answer()
            assert answer.status == 503 and "unknown" in answer.json()["error"]
        g.wait_ready()
        wire.send(posts(channel, [b"again"]))
        assert wire.answer().status == 200


def test_what_is_refused_at_once_is_answered_in_its_turn(gateway, fake, channel):
    """Redis takes nothing in, and the messages that wait for it are at their limit of 64 MiB."""
    g = gateway("--redis", fake.url, "--max-message", "80MiB")
    fake.hold(b"PUBLISH")
    big = Wire(g.port)
    big.send(posts(channel, [bytes(63 << 20)]))
    fake.wait_for(b"PUBLISH", n=1)
    with Wire(g.port) as wire:
        wire.send(posts(channel, [b"fits", bytes(2 << 20), b"fits too"]))
        wait_for(lambda: g.metric("publish_failed_total") == 1, "one is too much")
        fake.wait_for(b"PUBLISH", n=2)
        fake.release(b"PUBLISH")
        assert [wire.answer().status for _ in range(3)] == [200, 503, 200]
    big.close()


def test_a_publisher_may_go_before_its_answers(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    fake.hold(b"PUBLISH")
    with Wire(g.port) as wire:
        wire.send(posts(channel, numbers(50)))
        fake.wait_for(b"PUBLISH", n=50)
        wire.reset()
    g.wait_metric("connections", 1)
    fake.release(b"PUBLISH")
    g.wait_metric("messages_published_total", 50)


def test_what_asks_first_waits_for_the_answers_before_it(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    fake.hold(b"PUBLISH")
    with Wire(g.port) as wire:
        wire.send(posts(channel, numbers(2)) + b"POST /pub/x HTTP/1.1\r\nHost: localhost\r\n"
                  b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        fake.wait_for(b"PUBLISH", n=2)
        fake.release(b"PUBLISH")
        assert [wire.answer().status for _ in range(3)] == [200, 200, 100]
        wire.send(b"x")
        assert wire.answer().status == 200
