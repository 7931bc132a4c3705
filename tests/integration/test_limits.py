"""Strangers are bounded and cannot act from another site (R23, R24, A12, A13, A17, A18)."""

import json
import resource
import socket

import pytest

import harness
from harness import Refused, Sse, WebSocket, Wire, wait_for


def status_of(gateway, kind, path, headers=None, **more):
    try:
        client = (WebSocket if kind == "ws" else Sse)(gateway, path, headers, **more)
        client.close()
        return 101 if kind == "ws" else 200
    except Refused as e:
        body = json.loads(e.answer.body)
        assert body["error"] and body["hint"]
        return e.status


GOOD_ORIGINS = [None, "http://{target}", "https://map.example", "HTTPS://MAP.EXAMPLE",
                "https://map.example:443", "http://dev.example:8000"]
BAD_ORIGINS = ["null", "", "https://evil.example", "http://map.example", "https://map.example.evil",
               "https://evilmap.example", "https://sub.map.example", "https://map.example:8443",
               "https://map.example/", "https://map.example/path", "https://user@map.example",
               "https://map.example@evil.example", "https://map.example#", "https://map.example?",
               "map.example", "//map.example", "wss://map.example", "file://", "https://",
               "https://map.example, https://evil.example", "https://map.example https://evil.example",
               "http://dev.example", "http://dev.example:80", "http://dev.example:08000x",
               "https://xn--map-.example", "https://map.example.", "https://[::1]", "http://127.0.0.1",
               "http://127.0.0.1:1", "https://{target}", "http://{target}.evil", "data:,x"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    g = harness.Gateway(tmp_path_factory.mktemp("guarded"), "--origin", "https://map.example",
                        "--origin", "http://dev.example:8000")
    yield g
    g.finish()


@pytest.mark.parametrize("origin", GOOD_ORIGINS)
def test_a_good_origin_may_connect_everywhere(guarded, origin):
    headers = {"Origin": origin.format(target=guarded.target)} if origin else {}
    assert status_of(guarded, "ws", "/ws/a", headers) == 101
    assert status_of(guarded, "sse", "/sse/a", headers) == 200
    assert status_of(guarded, "ws", "/chat/a", headers) == 101
    assert guarded.publish("a", "x", headers=headers).status == 200


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_another_origin_may_not_connect_anywhere(guarded, origin):
    headers = {"Origin": origin.format(target=guarded.target)}
    assert status_of(guarded, "ws", "/ws/a", headers) == 403
    assert status_of(guarded, "sse", "/sse/a", headers) == 403
    assert status_of(guarded, "ws", "/chat/a", headers) == 403
    answer = guarded.publish("a", "x", headers=headers)
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_token_guards_publishing_duplex_and_metrics(gateway):
    g = gateway("--token", "open-sesame")
    right, wrong = {"Authorization": "Bearer open-sesame"}, {"Authorization": "Bearer open-sesam"}
    for headers, pub, chat in [({}, (401, 403), (401, 403)), (wrong, (401, 403), (401, 403)),
                               ({"Authorization": "Basic open-sesame"}, (401, 403), (401, 403)),
                               (right, (200,), (101,))]:
        assert g.publish("a", "x", headers=headers).status in pub
        assert status_of(g, "ws", "/chat/a", headers) in chat
        assert g.get("/metrics", headers=headers).status in pub
    assert g.request("POST", "/pub/a?token=open-sesame", body="x").status == 200
    assert status_of(g, "ws", "/chat/a?token=open-sesame") == 101
    assert g.request("POST", "/pub/a?token=wrong", body="x").status in (401, 403)
    assert status_of(g, "ws", "/ws/a") == 101
    assert status_of(g, "sse", "/sse/a") == 200
    assert g.get("/healthz").status == 200
    assert b"open-sesame" not in g.log()


def test_the_longest_token_goes_in_a_query_too(gateway):
    token = "t" * 1024
    g = gateway("--token", token)
    assert g.publish("a", "x", headers={"Authorization": f"Bearer {token}"}).status == 200
    assert g.request("POST", f"/pub/a?token={token}", body="x").status == 200
    assert g.request("POST", f"/pub/a?token={token}t", body="x").status == 403


def test_an_open_listener_refuses_publishing_without_a_token(gateway):
    """0.0.0.0 is reachable from outside, so publishing, duplex and metrics ask for a token."""
    port = harness.free_port()
    g = gateway("--listen", f"0.0.0.0:{port}", listen=False, ready=False)
    g.port = port
    g.wait_ready()
    assert g.publish("a", "x").status in (401, 403)
    assert g.get("/metrics").status in (401, 403)
    assert status_of(g, "ws", "/chat/a") in (401, 403)
    assert status_of(g, "ws", "/ws/a") == 101


def test_an_open_listener_with_open_lets_anyone_publish(gateway):
    port = harness.free_port()
    g = gateway("--listen", f"0.0.0.0:{port}", "--open", listen=False, ready=False)
    g.port = port
    g.wait_ready()
    assert g.publish("a", "x").status == 200
    assert g.get("/metrics").status == 200


ALLOWED = [("tram_1", True), ("tram_", True), ("tram_%2A", True), ("tra", False), ("xtram_1", False),
           ("Tram_1", False), ("%2A", False), ("tram%5F1", True), ("bus_1", True), ("bus_12", False),
           ("tram%00_1", False), ("secret", False), ("t%72am_1", True), ("..%2Ftram_1", False)]


@pytest.mark.parametrize("name, allowed", ALLOWED)
def test_allow_limits_names_on_every_route(gateway, name, allowed):
    g = gateway("--allow", "tram_*", "--allow", "bus_?", "--workers", 1)
    assert status_of(g, "ws", f"/ws/{name}") == (101 if allowed else 403)
    assert status_of(g, "sse", f"/sse/{name}") == (200 if allowed else 403)
    assert status_of(g, "ws", f"/chat/{name}") == (101 if allowed else 403)
    assert g.publish(name, "x").status == (200 if allowed else 403)


def test_connections_have_a_limit(gateway):
    g = gateway("--max-connections", 5, "--workers", 1)
    clients = [WebSocket(g, "/ws/a") for _ in range(5)]
    extra = Wire(g.port)
    try:
        extra.send(f"GET /ws/a HTTP/1.1\r\nHost: {g.target}\r\n\r\n".encode())
        assert extra.answer().status == 503
    except (harness.Ended, OSError):
        pass  # closed at once
    clients.pop().close()

    def gets_in():
        try:
            return WebSocket(g, "/ws/a")
        except (Refused, harness.Ended, OSError):
            return None

    clients.append(wait_for(gets_in, "there is room again"))
    for c in clients:
        c.close()

    def counted():
        try:
            return g.metrics().get("connections_refused_total", 0) >= 1
        except (OSError, harness.http.client.HTTPException):
            return False  # no room for this one yet

    wait_for(counted, "the refusal is counted")


def _quiet(gateway):
    try:
        return gateway.get("/healthz").status == 200
    except (OSError, harness.http.client.HTTPException):
        return False


def test_connections_per_address_have_a_limit(gateway):
    g = gateway("--max-connections-per-address", 3)
    clients = [WebSocket(g, "/ws/a", source="127.0.0.77") for _ in range(3)]
    # Who sends nothing is told all of it: no request is left unread that would reset the connection.
    with socket.create_connection(("127.0.0.1", g.port), harness.DEADLINE, ("127.0.0.77", 0)) as refused:
        answer = b"".join(iter(lambda: refused.recv(4096), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 429 ") and f"Content-Length: {len(body)}" in head and "Retry-After" in head
    assert json.loads(body).keys() == {"error", "hint"} and "--max-connections-per-address" in body
    other = WebSocket(g, "/ws/a", source="127.0.0.78")
    g.publish("a", "x")
    assert {c.payload() for c in clients + [other]} == {b"x"}
    assert g.metric("connections_refused_total") == 1
    clients.pop().close()

    def gets_in():
        try:
            return WebSocket(g, "/ws/a", source="127.0.0.77")
        except (Refused, harness.Ended, OSError):
            return None

    wait_for(gets_in, "there is room again").close()


@pytest.mark.parametrize("kind", ["ws", "sse"])
def test_channels_have_a_limit(gateway, kind):
    g = gateway("--max-channels", 3, "--linger", "50ms", "--history-ttl", "50ms")
    clients = [WebSocket(g, f"/ws/c{i}") for i in range(3)]
    assert status_of(g, "ws", "/ws/c0") == 101
    if kind == "ws":
        assert status_of(g, "ws", "/ws/c3") == 503
    else:
        try:
            Sse(g, "/sse/c3").acked()
            pytest.fail("a fourth channel")
        except (Refused, harness.Ended, AssertionError):
            pass
    clients.pop().close()
    wait_for(lambda: status_of(g, "ws", "/ws/c3") == 101, "there is room again")


def test_the_inbound_rate_has_a_limit(gateway, channel):
    g = gateway("--inbound-rate", 20)
    abuser, member = WebSocket(g, f"/chat/{channel}"), WebSocket(g, f"/chat/{channel}")
    abuser.send(WebSocket.encode(1, b"x") * 500)
    assert abuser.ended().code == 1008
    member.text("polite")
    while member.payload() != b"polite":
        pass
    assert g.metric("inbound_rate_exceeded_total") == 1
    assert g.metric("messages_published_total") < 200


def test_the_default_inbound_limit_is_64_kib(gateway, channel):
    g = gateway()
    for n, fine in [(65535, True), (65536, True), (65537, False)]:
        ws = WebSocket(g, f"/chat/{channel}")
        ws.binary(b"x" * n)
        if fine:
            assert len(ws.payload()) == n
        else:
            assert ws.ended().code == 1009
    assert g.metric("inbound_too_big_total") == 1


def few_descriptors(n):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))


def test_running_out_of_descriptors_pauses_and_recovers(gateway):
    """R24"""
    g = gateway("--workers", 1, "--max-connections", 1000, preexec=few_descriptors(64))
    keep = WebSocket(g, "/ws/keep")
    wires = [Wire(g.port) for _ in range(100)]
    wait_for(lambda: g.open_files() >= 60, "descriptors are used up")
    used = g.cpu_seconds()
    wait_for(lambda: b"out of descriptors" in g.log(), "it says so")
    harness.select.select([], [], [], 1)
    assert g.cpu_seconds() - used < 0.3, "it spins"
    for wire in wires:
        wire.close()
    wait_for(lambda: _quiet(g), "it accepts again")
    assert g.metric("accept_pauses_total") >= 1
    g.publish("keep", "x")
    assert keep.payload() == b"x"
    assert g.log().count(b"out of descriptors") == 1


def test_the_descriptor_limit_is_raised_at_start(gateway):
    g = gateway(preexec=lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    soft = int(next(line for line in open(f"/proc/{g.pid}/limits") if "open files" in line).split()[3])
    assert soft == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_tokens_and_payloads_are_never_logged(gateway, channel):
    g = gateway("--token", "tok-3n-secret", "--log-level", "debug")
    headers = {"Authorization": "Bearer tok-3n-secret"}
    with WebSocket(g, f"/chat/{channel}?token=tok-3n-secret") as ws:
        ws.text("private-payload")
        assert ws.payload() == b"private-payload"
    g.publish(channel, "private-payload", headers=headers)
    g.publish(channel, "x", headers={"Authorization": "Bearer tok-3n-wrong"})
    assert b"tok-3n" not in g.log()
    assert b"private-payload" not in g.log()
