"""What Redis may answer, at every step, told by a scripted fake (R8, R9, R13, R15, F5, A14)."""

import json

import pytest

import harness
from fake_redis import FakeRedis, array
from harness import Refused, Sse, WebSocket, wait_for


def readable(ws):
    return bool(ws.held or harness.select.select([ws.sock], [], [], 0.2)[0])


@pytest.fixture
def fake():
    server = FakeRedis()
    yield server
    server.stop()


def test_no_client_is_acked_before_the_confirmation(gateway, fake, channel, workers):
    g = gateway("--redis", fake.url, "--workers", workers)
    fake.hold(b"SUBSCRIBE")
    ws = WebSocket(g, f"/ws/{channel}", ask=False)
    ws.ask()
    sse = Sse(g, f"/sse/{channel}")
    fake.wait_for(b"SUBSCRIBE", channel.encode())
    g.get("/healthz")
    ws.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        ws.sock.recv(1)
    ws.sock.settimeout(harness.DEADLINE)
    fake.release(b"SUBSCRIBE")
    ws.accepted()
    sse.acked()
    fake.push(channel, "first")
    assert ws.payload() == sse.payload() == b"first"


def test_a_confirmation_that_does_not_come_is_a_503(gateway, fake, channel):
    g = gateway("--redis", fake.url, "--subscribe-timeout", "200ms")
    fake.hold(b"SUBSCRIBE")
    with pytest.raises(Refused) as refused:
        WebSocket(g, f"/ws/{channel}")
    assert refused.value.status == 503
    assert "Retry-After" in refused.value.answer.headers
    assert g.metric("subscribe_timeouts_total") == 1
    fake.release(b"SUBSCRIBE")

    def gets_in():
        try:
            return WebSocket(g, f"/ws/{channel}")
        except Refused:  # the confirmation took longer again
            return None

    assert wait_for(gets_in, "a confirmation in time")


def test_a_join_between_unsubscribe_and_its_confirmation_ends_subscribed(gateway, fake, channel,
                                                                         workers):
    g = gateway("--redis", fake.url, "--linger", "0s", "--workers", workers)
    first = WebSocket(g, f"/ws/{channel}")
    fake.hold(b"UNSUBSCRIBE")
    first.close()
    fake.wait_for(b"UNSUBSCRIBE", channel.encode())
    late = WebSocket(g, f"/ws/{channel}", ask=False)
    late.ask()
    late_sse = Sse(g, f"/sse/{channel}")
    before = fake.count(b"SUBSCRIBE")
    g.get("/healthz")
    fake.release(b"UNSUBSCRIBE")
    late.accepted()
    late_sse.acked()
    assert wait_for(lambda: any(channel.encode() in x.channels for x in fake.links), "subscribed")
    assert fake.push(channel, "live") == 1
    assert late.payload() == late_sse.payload() == b"live"
    assert fake.count(b"SUBSCRIBE") - before <= 1


def test_a_message_before_the_confirmation_is_not_delivered_twice_or_early(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    fake.hold(b"SUBSCRIBE")
    ws = WebSocket(g, f"/ws/{channel}", ask=False)
    ws.ask()
    fake.wait_for(b"SUBSCRIBE", channel.encode())
    fake.release(b"SUBSCRIBE")
    ws.accepted()
    fake.push(channel, "one")
    assert ws.payload() == b"one"


ERRORS = {
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
    "WRONGPASS": b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "MASTERDOWN": b"-MASTERDOWN Link with MASTER is down\r\n",
    "ERR": b"-ERR max number of clients reached\r\n",
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_to_whoever_connects_is_said_and_retried(gateway, fake, channel, error):
    fake.greeting = ERRORS[error]
    g = gateway("--redis", fake.url, ready=False)
    wait_for(lambda: error.encode() in g.log() or (error == "ERR" and b"max number" in g.log()),
             "the error is logged")
    g.wait_unready()
    sse = Sse(g, f"/sse/{channel}")
    assert json.loads(sse.named("broker").data)["state"] == "down"
    fake.greeting = None
    g.wait_ready()
    fake.wait_for(b"SUBSCRIBE", channel.encode())
    fake.push(channel, "x")
    assert sse.named("message").payload == b"x"


@pytest.mark.parametrize("step", [b"AUTH", b"SELECT", b"PING"])
@pytest.mark.parametrize("error", ["LOADING", "ERR"])
def test_an_error_at_each_step_of_the_handshake_is_retried(gateway, fake, channel, step, error):
    fake.answers[step] = [ERRORS[error]] * 2
    g = gateway("--redis", f"redis://user:pass@127.0.0.1:{fake.port}/2", "--redis-ping", "100ms",
                ready=False)
    wait_for(lambda: not fake.answers[step], "both errors are said")
    g.wait_ready()
    ws = WebSocket(g, f"/ws/{channel}")
    # The second error may be read only now, and then the link is made once more.
    wait_for(lambda: fake.push(channel, "x") and readable(ws), "messages come")
    assert ws.payload() == b"x"


@pytest.mark.parametrize("error", [
    b"-MOVED 3999 127.0.0.1:6381\r\n", b"-READONLY You can't write against a read only replica.\r\n",
    b"-NOPERM this user has no permissions to access one of the channels\r\n",
    b"-ERR something new\r\n", b"-CLUSTERDOWN Hash slot not served\r\n"])
def test_a_publish_that_redis_refuses_is_refused(gateway, fake, channel, error):
    g = gateway("--redis", fake.url)
    fake.answers[b"PUBLISH"] = error
    answer = g.publish(channel, "x")
    assert answer.status in (403, 502, 503), answer
    assert error.split()[0][1:].decode() in answer.body.decode() + g.log().decode()
    assert g.metric("publish_failed_total") == 1
    del fake.answers[b"PUBLISH"]
    assert g.publish(channel, "x").status == 200


@pytest.mark.parametrize("error", ["NOPERM", "MOVED", "ERR"])
def test_a_subscribe_that_redis_refuses_is_an_answer_to_its_clients_only(gateway, fake, error,
                                                                         channel):
    g = gateway("--redis", fake.url)
    good = WebSocket(g, f"/ws/{channel}_good")
    fake.answers[b"SUBSCRIBE"] = [f"-{error} not this channel\r\n".encode()]
    with pytest.raises(Refused) as refused:
        WebSocket(g, f"/ws/{channel}_bad")
    assert refused.value.status in (403, 503)
    fake.push(f"{channel}_good", "x")
    assert good.payload() == b"x"
    again = WebSocket(g, f"/ws/{channel}_bad")
    fake.push(f"{channel}_bad", "y")
    assert again.payload() == b"y"


@pytest.mark.parametrize("garbage", [
    b"*4294967297\r\n", b"*2147483647\r\n", b"$-2\r\n", b"$9223372036854775807\r\n", b"hello\r\n",
    b"*1\r\n" * 50, b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$99999999999\r\n", b"\0" * 100,
    b":" + b"1" * 200000, b"*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n", b"*0\r\n", b"*-1\r\n"], ids=[
    "array_over_32_bits", "array_of_2_to_31", "string_under_nil", "string_of_2_to_63", "no_type",
    "nested_50_deep", "payload_over_limit", "zeros", "endless_number", "message_of_numbers",
    "empty_array", "nil_array"])
def test_a_corrupt_reply_is_a_reconnect_and_no_harm(gateway, fake, channel, garbage):
    g = gateway("--redis", fake.url, "--redis-ping", "100ms", "--redis-dead", "500ms")
    ws = WebSocket(g, f"/ws/{channel}")
    fake.subscribed(channel).send(garbage)
    wait_for(lambda: fake.push(channel, "still here") and readable(ws), "messages come again")
    assert ws.payload() == b"still here"
    assert g.rss() < 512 << 20


def test_replies_in_single_bytes_are_read(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    ws = WebSocket(g, f"/ws/{channel}")
    link = fake.subscribed(channel)
    for byte in array(b"message", channel.encode(), b"in\r\npieces"):
        link.send(bytes([byte]))
    assert ws.payload() == b"in\r\npieces"


def test_a_first_and_second_attempt_that_fail_again_are_not_the_last(gateway, fake, channel):
    g = gateway("--redis", fake.url)
    ws = WebSocket(g, f"/ws/{channel}")
    fake.greeting = b"-LOADING Redis is loading the dataset in memory\r\n"
    connects = fake.connects
    fake.drop_links()
    g.wait_unready()
    wait_for(lambda: fake.connects >= connects + 4, "it tries again and again")
    fake.greeting = None
    g.wait_ready()
    fake.wait_for(b"SUBSCRIBE", channel.encode(), n=2)
    fake.push(channel, "x")
    assert ws.payload() == b"x"
    assert g.metric("broker_retries_total") >= 2


def test_a_redis_that_swallows_everything_is_noticed(gateway, fake, channel):
    g = gateway("--redis", fake.url, "--redis-ping", "100ms", "--redis-dead", "2s")
    sse = Sse(g, f"/sse/{channel}").acked()
    fake.silent = True
    assert json.loads(sse.named("broker").data)["state"] == "down"
    assert g.get("/readyz").status == 503
    assert g.publish(channel, "x").status == 503
    fake.silent = False
    g.wait_ready()
    sse.named("gap")


def test_a_thousand_names_of_strangers_reach_redis_as_plain_channels(gateway, fake):
    """A13: whatever a client names, only SUBSCRIBE with exactly these bytes comes out."""
    g = gateway("--redis", fake.url)
    names = [b"*", b"tram_?", b"[a-z]", b"a\r\nPING\r\n", b"a\0b", b"a b", b"\xff\xfe", b"..", b"%",
             b"$5\r\nhello", "Łódź".encode(), b"x" * 255]
    for name in names:
        encoded = "".join(f"%{b:02x}" for b in name)
        try:
            WebSocket(g, f"/ws/{encoded}").close()
        except Refused as e:
            assert e.status in (400, 403, 404), name
    seen = {c[0] for c in fake.commands}
    assert b"PSUBSCRIBE" not in seen
    subscribed = {a for c in fake.commands if c[0] == b"SUBSCRIBE" for a in c[1:]}
    assert subscribed <= set(names)
    assert b"*" in subscribed
