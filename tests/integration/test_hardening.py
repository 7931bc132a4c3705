"""What somebody found who tried to break it; each test is named after what holds now."""

import os
import struct

import pytest

import harness
from harness import Sse, WebSocket, Wire, wait_for


def post(path, body, *headers):
    lines = "".join(f"{line}\r\n" for line in headers)
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
            .encode() + body)


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("head", [
    b"POST /nowhere/at/all HTTP/1.1", b"GET /healthz HTTP/1.1", b"OPTIONS /pub/a HTTP/1.1",
    b"POST /pub/%zz HTTP/1.1", b"POST /pub/fleet HTTP/1.1"])
def test_the_body_of_a_request_that_wants_none_is_never_a_request(gateway, head):
    g = gateway("--pattern", "fleet tram_*")
    inner = post("/pub/smuggled", b"x")
    with Wire(g.port) as wire:
        wire.send(head + b"\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner)
        wire.at_end()
        assert wire.held.count(b"HTTP/1.1 ") == 1, wire.held
    assert g.metric("messages_published_total") == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080"])
def test_a_page_whose_name_was_pointed_at_this_machine_reaches_nothing(gateway, host):
    g = gateway()
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert g.publish("a", b"x", headers=headers).status == 403
    assert g.get("/metrics", headers=headers).status == 403
    assert g.get("/sse/a", headers=headers).status == 403


@pytest.mark.parametrize("trace", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_who_comes_through_a_proxy_does_not_count_as_this_machine(gateway, trace):
    g = gateway()
    headers = {trace: "192.0.2.1"}
    assert g.publish("a", b"x", headers=headers).status == 403
    assert g.get("/metrics", headers=headers).status == 403
    assert g.publish("a", b"x").status == 200


def test_an_offer_of_http_2_is_ignored(serve):
    g = serve()
    answer = g.get("/healthz", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c",
                                        "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"})
    assert answer.status == 200


def test_pipelined_requests_before_a_half_close_are_all_answered(serve, channel):
    g = serve()
    with Wire(g.port) as wire:
        wire.send((GET + post(f"/pub/{channel}", b"m")) * 50)
        wire.sock.shutdown(1)
        wire.at_end()
        assert wire.held.count(b"HTTP/1.1 200") == 100


def test_a_peer_that_reads_nothing_is_not_read_on_and_loses_nothing(gateway):
    g = gateway()
    before = g.rss()
    n = 3000
    with Wire(g.port, receive_buffer=4096) as wire:
        wire.sock.setblocking(False)
        request, sent = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 0
        try:
            for _ in range(n):
                sent += wire.sock.send(request)
        except BlockingIOError:
            pass
        assert g.get("/healthz").status == 200
        assert g.rss() - before < 32 << 20
        wire.sock.settimeout(harness.DEADLINE)
        for _ in range(min(sent // len(request), 20)):
            assert wire.answer().status == 200


def test_unfinished_bodies_have_a_limit_together(gateway):
    """--max-input at its edge: what fits is taken, one byte more is refused, and given back after."""
    g = gateway("--max-input", "100KiB", "--max-message", "100KiB")
    first = Wire(g.port)
    first.send(b"POST /pub/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 61440\r\n\r\n"
               + b"x" * (61440 - 1))
    # It is counted once it was read.
    def refused():
        return g.publish("b", b"y" * 40962).status == 503
    wait_for(refused, "the second body does not fit")
    assert g.publish("b", b"y" * 40961).status == 200
    first.send(b"x")
    assert first.answer().status == 200
    first.close()
    assert g.publish("b", b"y" * 102400).status == 200
    assert g.publish("b", b"y" * 102401).status == 413


def test_all_logs_together_stay_below_their_limit(gateway):
    g = gateway("--logs-bytes", "4MiB")
    with Wire(g.port) as wire:
        for channel in range(100):
            wire.send(post(f"/pub/c{channel}", b"x" * 65536) * 3)
            for _ in range(3):
                assert wire.answer().status == 200
            assert g.metric("log_bytes") <= 4 << 20
    assert g.metric("messages_evicted_total") > 0


def test_the_channel_table_makes_room_by_forgetting_what_nobody_watches(gateway):
    g = gateway("--max-channels", 10)
    watched = Sse(g, "/sse/watched").acked()
    for i in range(50):
        assert g.publish(f"passing_{i}", b"x").status == 200
    g.publish("watched", b"still here")
    assert watched.payload() == b"still here"
    assert g.metric("channels") <= 10


def test_a_resume_is_whole_while_messages_keep_coming(serve, channel):
    g = serve()
    with Sse(g, f"/sse/{channel}") as sse:
        sse.acked()
        position = sse.last_id
    kept, live = 3500, 500
    with Wire(g.port) as wire:
        for _ in range(kept // 100):
            wire.send(post(f"/pub/{channel}", b"w" * 1000) * 100)
            for _ in range(100):
                assert wire.answer().status == 200
        back = Sse(g, f"/sse/{channel}", headers={"Last-Event-ID": position}).acked()
        wire.send(post(f"/pub/{channel}", b"n") * live)
        got = [back.event() for _ in range(kept + live)]
        assert [e.data[:1] for e in got] == [b"w"] * kept + [b"n"] * live
        assert not [e for e in got if e.name == "gap"]
        places = [int(e.id.split("-")[1]) for e in got]
        assert places == list(range(places[0], places[0] + kept + live))


def test_the_event_log_outlives_its_last_reader_for_the_linger(serve, channel):
    g = serve()
    first = Sse(g, f"/sse/{channel}").acked()
    watcher = WebSocket(g, f"/ws/{channel}")
    g.publish(channel, b"1")
    assert first.payload() == b"1"
    position = first.last_id
    first.close()
    g.wait_metric("sse_sessions", 0)
    for i in range(2, 20):
        g.publish(channel, b"%d" % i)
    for i in range(1, 20):
        assert watcher.payload() == b"%d" % i
    back = Sse(g, f"/sse/{channel}", headers={"Last-Event-ID": position}).acked()
    assert [back.payload() for _ in range(2, 20)] == [b"%d" % i for i in range(2, 20)]


def test_a_close_right_behind_messages_loses_none_of_them(serve, channel):
    g = serve()
    watcher = WebSocket(g, f"/ws/{channel}")
    talker = WebSocket(g, f"/chat/{channel}")
    n = 200
    talker.send(b"".join(WebSocket.encode(1, b"%d" % i) for i in range(n))
                + WebSocket.encode(8, struct.pack(">H", 1000)))
    assert talker.ended().code == 1000
    assert [watcher.payload() for _ in range(n)] == [b"%d" % i for i in range(n)]


def test_a_name_line_cannot_be_forged_by_a_name(serve):
    g = serve("--pattern", "all x* name")
    ws = WebSocket(g, "/ws/all")
    g.publish("x%0Aevil%25", b"payload")
    assert ws.message() == (1, b"x%0Aevil%25\npayload")


def test_a_flood_to_a_reader_that_catches_up_cuts_nobody(gateway, channel):
    """A reader that reads all the time keeps up with any burst that its log can hold."""
    g = gateway("--log-bytes", "1MiB")
    ws = WebSocket(g, f"/ws/{channel}")
    payload = os.urandom(10000)
    n = 60
    with Wire(g.port) as wire:
        for _ in range(5):
            wire.send(post(f"/pub/{channel}", payload) * n)
            for _ in range(n):
                assert ws.payload() == payload
            for _ in range(n):
                assert wire.answer().status == 200
    assert g.metric("overflows_total") == 0
