"""From the publisher to every client: complete, in order, byte for byte (R1, R2, R3, R6, R10, R11)."""

import os

import pytest

import harness
from harness import Sse, WebSocket, sha, wait_for


def publish_flag(serve):
    return f"redis:{serve.redis.port}" if serve.redis else "http"


@pytest.mark.race
@pytest.mark.parametrize("clients, messages", [(1, 1), (1, 2000), (100, 300), (1000, 20)])
def test_everyone_gets_everything_of_a_burst(serve, check, channel, clients, messages):
    gateway = serve()
    ws = (clients + 1) // 2
    check(gateway, "--ws", ws, "--sse", clients - ws, "--messages", messages, "--prefix", channel,
          "--publish", publish_flag(serve)).verify()


def test_everyone_gets_everything_of_a_burst_of_10000(serve, check, channel):
    check(serve(), "--ws", 5, "--sse", 5, "--messages", 10000, "--prefix", channel,
          "--publish", publish_flag(serve)).verify()


@pytest.mark.soak
@pytest.mark.parametrize("clients", [1, 10, 100, 1000])
@pytest.mark.parametrize("messages", [1, 10, 100, 1000, 10000])
def test_everyone_gets_everything_in_the_whole_matrix(serve, check, channel, clients, messages):
    ws = (clients + 1) // 2
    check(serve(), "--ws", ws, "--sse", clients - ws, "--messages", messages, "--prefix", channel,
          "--publish", publish_flag(serve), deadline=300).verify()


@pytest.mark.race
def test_everyone_gets_everything_of_a_trickle(serve, check, channel):
    check(serve(), "--ws", 50, "--sse", 50, "--messages", 100, "--rate", 100, "--prefix", channel,
          "--publish", publish_flag(serve)).verify()


def test_everyone_gets_everything_through_http(serve, check, channel):
    check(serve(), "--ws", 50, "--sse", 50, "--messages", 200, "--channels", 10, "--prefix",
          channel, "--publish", "http", "--publishers", 4).verify()


def test_a_publish_over_http_says_who_got_it(serve, check, channel):
    gateway = serve()
    check(gateway, "--ws", 3, "--sse", 4, "--messages", 5, "--prefix", channel,
          "--expect-subscribers", 7 if gateway.broker == "memory" else 1).verify()


@pytest.mark.race
def test_a_thousand_channels_in_one_redis_read_all_arrive(gateway, shared_redis, check, channel):
    g = gateway("--redis", shared_redis.url, "--workers", 2)
    check(g, "--ws", 1000, "--channels", 1000, "--messages", 5, "--prefix", channel, "--publish",
          f"redis:{shared_redis.port}", "--expect-subscribers", 1).verify()


@pytest.mark.race
def test_no_message_goes_to_a_client_of_another_channel(serve, check, channel):
    check(serve(), "--ws", 100, "--sse", 100, "--channels", 50, "--messages", 40, "--prefix",
          channel, "--publish", publish_flag(serve)).verify()


@pytest.mark.race
def test_a_channel_wakes_the_worker_of_its_subscribers_and_no_other(gateway, shared_redis, channel):
    """Wherever the kernel puts a client: on the hub's own worker nobody is woken."""
    g = gateway("--redis", shared_redis.url, "--workers", 3)
    clients = [WebSocket(g, f"/ws/{channel}{i}") for i in range(12)]
    for i, client in enumerate(clients):
        before = g.metric("wakes_total")
        for k in range(20):
            assert shared_redis.publish(f"{channel}{i}", str(k)) == 1
            assert client.payload() == str(k).encode()
        assert g.metric("wakes_total") - before in (0, 20)


@pytest.mark.parametrize("content", ["binary", "lines", "cr"])
def test_lanes_carry_every_kind_of_payload_in_bursts(serve, check, channel, content):
    check(serve(), "--ws", 20, "--sse", 20, "--messages", 200, "--content", content, "--size", 1000,
          "--prefix", channel, "--publish", publish_flag(serve)).verify()


@pytest.mark.parametrize("size", [125, 126, 127, 65535, 65536, 1 << 20])
def test_every_frame_length_arrives(gateway, check, channel, size):
    check(gateway(), "--ws", 5, "--sse", 5, "--messages", 3, "--size", size, "--prefix",
          channel).verify()


PAYLOADS = {
    "number": b"1.10",
    "overflowing_number": b"1e400",
    "duplicate_keys": b'{"a":1,"a":2,"a":{"a":1,"a":1}}',
    "escapes": rb'{"a":"\u0000\ud83d\ude8b\/"}',
    "nul": b"a\0b\0\0",
    "empty": b"",
    "null": b"null",
    "invalid_json": b'{"a":',
    "lf": b"a\nb\n\nc\n",
    "only_lf": b"\n",
    "cr": b"a\rb",
    "crlf": b"a\r\nb\r\n",
    "leading_spaces": b"  x",
    "leading_colon": b": data: x",
    "looks_like_sse": b"id: 7\nevent: gap\ndata: x\n\ndata: y",
    "bom": b"\xef\xbb\xbfx",
    "invalid_utf8": b"\xff\xfe\x00abc",
    "surrogate": b"\xed\xa0\x80",
    "cut_utf8": b"abc\xe2\x82",
    "overlong_utf8": b"\xc0\xaf",
    "umlauts_and_emoji": "Straßenbahn 🚋 Łódź".encode(),
    "all_bytes": bytes(range(256)),
    "1_byte": b"x",
}


def is_text(payload):
    try:
        payload.decode()
        return True
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("via", ["http", "redis"])
def test_payloads_are_opaque(gateway, shared_redis, channel, via):
    g = gateway(*(["--redis", shared_redis.url] if via == "redis" else []))
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    for name, payload in PAYLOADS.items():
        if via == "redis":
            assert shared_redis.publish(channel, payload) == 1
        else:
            assert g.publish(channel, payload).status == 200
        opcode, got = ws.message()
        assert sha(got) == sha(payload), name
        assert opcode == (1 if is_text(payload) else 2), name
        event = sse.event()
        assert sha(event.payload) == sha(payload), name
        assert (event.name == "base64") == (not is_text(payload) or b"\r" in payload), name


@pytest.mark.parametrize("via", ["http", "redis"])
@pytest.mark.parametrize("kind", ["text", "binary"])
def test_16_mib_arrive(gateway, shared_redis, channel, via, kind):
    g = gateway("--stall-timeout", "1h",  # one of the two is not read for a while
                *(["--redis", shared_redis.url] if via == "redis" else []))
    payload = os.urandom(1 << 20).hex().encode() * 8
    if kind == "binary":
        payload = os.urandom(16 << 20)
    assert len(payload) == 16 << 20
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    if via == "redis":
        sent = harness.Background(shared_redis.publish, channel, payload)
    else:
        sent = harness.Background(g.publish, channel, payload)
    assert sha(ws.payload()) == sha(payload)
    assert sha(sse.payload()) == sha(payload)
    sent.result()
    assert g.publish(channel, "after").status == 200
    assert ws.payload() == sse.payload() == b"after"


def test_a_message_over_the_limit_is_dropped_and_told_and_harms_no_other(gateway, shared_redis,
                                                                         channel):
    g = gateway("--redis", shared_redis.url, "--max-message", 1000)
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    other = WebSocket(g, f"/ws/{channel}_other")
    for payload in (b"a" * 1000, b"b" * 1001, b"c"):
        shared_redis.publish(channel, payload)
    shared_redis.publish(channel + "_other", "fine")
    assert ws.payload() == b"a" * 1000
    assert ws.payload() == b"c"
    assert sse.event().payload == b"a" * 1000
    gap = sse.named("gap", "message")
    assert gap.name == "gap"
    assert sse.named("message").payload == b"c"
    assert other.payload() == b"fine"
    assert g.metric("messages_oversize_total") == 1


@pytest.mark.race
def test_neighbours_that_stop_reading_change_nothing(serve, check, channel):
    """R3: a burst that overflows the stopped clients' sockets many times over."""
    gateway = serve("--log-bytes", "64MiB")
    neighbours = check(gateway, "--ws", 50, "--sse", 50, "--prefix", channel, "--messages", 600,
                       "--size", 20000, "--publish", "none").ready()
    neighbours.stop()
    check(gateway, "--ws", 10, "--sse", 10, "--prefix", channel, "--messages", 600, "--size", 20000,
          "--stalled", 20, "--publish", publish_flag(serve)).verify()


def test_a_full_socket_causes_no_further_sends_until_it_drains(gateway, channel):
    """R3: after the socket is full, publishing on does not touch it."""
    g = gateway("--stall-timeout", "60s", "--log-bytes", "64MiB", "--workers", 1)
    stuck = WebSocket(g, f"/ws/{channel}", receive_buffer=4096)
    sent = -1
    for _ in range(400):
        g.publish(channel, b"x" * 100000)
        sent, before = g.metric("sends_total"), sent
        if sent == before:
            break
    else:
        pytest.fail("the socket never filled")
    for _ in range(20):
        g.publish(channel, b"y")
    assert g.metric("sends_total") == sent
    stuck.reset()


def test_a_slow_client_is_closed_and_counted_and_the_rss_is_bounded(gateway, check, channel):
    g = gateway("--log-bytes", "1MiB", "--stall-timeout", "60s", "--retired-bytes", "8MiB")
    # With the window those that read are never behind by the log, which would be slow as well.
    process = check(g, "--ws", 5, "--stalled", 50, "--messages", 400, "--size", 100000, "--prefix",
                    channel, "--window", 5)
    process.verify()
    after = g.rss()
    assert g.metric("log_bytes") < 8 << 20
    g.wait_metric("overflows_total", lambda n: n + g.metric("pinned_resets_total") >= 50)
    assert after < 256 << 20 or harness.is_sanitized()


def test_a_client_without_progress_is_reset_after_the_stall_timeout(gateway, channel):
    g = gateway("--stall-timeout", "300ms", "--log-bytes", "64MiB")
    stuck = WebSocket(g, f"/ws/{channel}", receive_buffer=4096)
    for _ in range(100):
        g.publish(channel, b"x" * 200000)
    g.wait_metric("stalled_total", 1)
    wait_for(lambda: g.metric("websocket_sessions") == 0, "the session is gone")
    stuck.close()


@pytest.mark.race
def test_clients_come_and_go_at_random_and_the_others_have_all(serve, check, channel):
    """R10 and R11: newcomers are also checked: nothing from before, nothing missing after the ack."""
    result = check(serve(), "--ws", 50, "--sse", 50, "--channels", 5, "--messages", 300, "--rate",
                   500, "--prefix", channel, "--publish", publish_flag(serve), "--churn",
                   300).verify()
    assert result["churned"] > 100


@pytest.mark.soak
def test_clients_come_and_go_at_a_kilohertz(serve, check, channel):
    check(serve(), "--ws", 100, "--sse", 100, "--channels", 5, "--messages", 4000, "--rate", 1000,
          "--prefix", channel, "--publish", publish_flag(serve), "--churn", 1000, "--churn-slots",
          400, deadline=120).verify()


@pytest.mark.race
def test_sse_clients_that_come_back_miss_and_repeat_nothing(serve, check, channel):
    result = check(serve(), "--sse", 50, "--messages", 400, "--rate", 400, "--prefix", channel,
                   "--publish", publish_flag(serve), "--resume", 60).verify()
    assert result["resumed"] == 60


def test_a_client_may_vanish_at_every_moment_of_its_life(gateway, channel):
    """Resets after each prefix of a session's bytes; the survivor has everything."""
    g = gateway()
    survivor = WebSocket(g, f"/ws/{channel}")
    whole = (f"GET /chat/{channel} HTTP/1.1\r\nHost: {g.target}\r\nConnection: Upgrade\r\n"
             "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
    after = WebSocket.encode(1, b"x" * 200, fin=False) + WebSocket.encode(9, b"p")
    for n in range(0, len(whole + after), 3):
        wire = harness.Wire(g.port)
        wire.send(whole[:n])
        if n > len(whole):
            wire.until(b"\r\n\r\n")
            wire.send((whole + after)[len(whole):n])
        g.publish(channel, str(n)) if n % 30 == 0 else None
        wire.reset()
    expected = [str(n).encode() for n in range(0, len(whole + after), 3) if n % 30 == 0]
    assert [survivor.payload() for _ in expected] == expected
    g.wait_metric("websocket_sessions", 1)
