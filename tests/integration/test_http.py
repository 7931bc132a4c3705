"""HTTP: answers, refusals with {error, hint}, CORS, keep-alive, and what may mean two things
(R19, A8, A9, A11)."""

import json

import pytest

import harness
from harness import Refused, Sse, WebSocket, Wire

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": KEY}


def refused(answer, *statuses):
    assert answer.status in statuses, answer
    body = json.loads(answer.body)
    assert isinstance(body["error"], str) and body["error"]
    assert isinstance(body["hint"], str) and body["hint"]
    assert answer.headers["Content-Type"].startswith("application/json")
    return answer


def raw(gateway, data, head_only=False):
    wire = Wire(gateway.port)
    wire.send(data if isinstance(data, bytes) else data.encode("latin-1"))
    return wire, wire.answer(head_only)


def test_health_readiness_and_metrics(serve):
    g = serve()
    assert g.get("/healthz").status == 200
    assert g.get("/readyz").status == 200
    answer = g.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"# TYPE tramline_connections gauge\n" in answer.body
    assert g.metric("broker_up") == 1


def test_publish_answers_json(serve, channel):
    g = serve()
    answer = g.publish(channel, b"x")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    body = answer.json()
    if g.broker == "memory":
        assert body["subscribers"] == 0 and isinstance(body["position"], str)
        with WebSocket(g, f"/ws/{channel}"):
            assert g.publish(channel, b"y").json()["subscribers"] == 1
    else:
        assert body == {"receivers": 0}


STATUS = [
    ("GET", "/nothing/here", {}, None, (404,)),
    ("GET", "/ws", {}, None, (404,)),
    ("GET", "/ws/", dict(UPGRADE), None, (400, 404)),
    ("GET", "/ws/a/b", dict(UPGRADE), None, (404,)),
    ("GET", "/sse/%zz", {}, None, (400,)),
    ("GET", "/sse/%4", {}, None, (400,)),
    ("GET", "/sse/" + "x" * 256, {}, None, (400,)),
    ("GET", "/ws/" + "x" * 256, dict(UPGRADE), None, (400,)),
    ("POST", "/pub/" + "x" * 256, {}, b"x", (400,)),
    ("POST", "/ws/a", {}, b"", (405,)),
    ("POST", "/sse/a", {}, b"", (405,)),
    ("GET", "/pub/a", {}, None, (405,)),
    ("PUT", "/pub/a", {}, b"x", (405,)),
    ("DELETE", "/sse/a", {}, None, (405,)),
    ("POST", "/healthz", {}, b"", (405,)),
    ("POST", "/metrics", {}, b"", (405,)),
    ("GET", "/ws/a", {}, None, (426, 400)),
    ("GET", "/ws/a", dict(UPGRADE, Upgrade="h2c"), None, (426, 400)),
    ("GET", "/ws/a", dict(UPGRADE, **{"Sec-WebSocket-Version": "8"}), None, (426,)),
    ("GET", "/ws/a", dict(UPGRADE, **{"Sec-WebSocket-Version": "99"}), None, (426,)),
    ("GET", "/ws/a", dict(UPGRADE, **{"Sec-WebSocket-Key": "short"}), None, (400,)),
    ("GET", "/ws/a", dict(UPGRADE, **{"Sec-WebSocket-Key": "A" * 24}), None, (400,)),
    ("GET", "/ws/a", dict(UPGRADE, **{"Sec-WebSocket-Key": ""}), None, (400,)),
    ("GET", "/ws/a", dict(UPGRADE, Connection="keep-alive"), None, (400, 426)),
    ("POST", "/pub/a", {}, b"x" * 2001, (413,)),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One gateway for all that does it no harm."""
    g = harness.Gateway(tmp_path_factory.mktemp("plain"), "--max-message", 2000)
    yield g
    g.finish()


@pytest.mark.parametrize("method, path, headers, body, statuses", STATUS,
                         ids=[f"{s[0]}_{s[1][:20]}_{s[4][0]}_{i}" for i, s in enumerate(STATUS)])
def test_each_bad_request_has_its_answer(plain, method, path, headers, body, statuses):
    answer = refused(plain.request(method, path, body=body, headers=headers), *statuses)
    if answer.status == 405:
        assert answer.headers["Allow"]
    if answer.status == 426:
        assert answer.headers["Sec-WebSocket-Version"] == "13"
        assert answer.headers["Upgrade"].lower() == "websocket"


def test_405_names_what_is_allowed(plain):
    assert "GET" in plain.request("DELETE", "/ws/a").headers["Allow"]
    assert "POST" in plain.get("/pub/a").headers["Allow"]


@pytest.mark.parametrize("path", ["/position/heads", "/channels/heads"])
def test_head_is_get_without_the_body(plain, path):
    with WebSocket(plain, "/ws/heads"):
        length = len(plain.get(path).body)
        wire, answer = raw(plain, f"HEAD {path} HTTP/1.1\r\nHost: {plain.target}\r\n"
                                  "Connection: close\r\n\r\n", head_only=True)
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
        assert int(answer.headers["Content-Length"]) == length
        assert wire.at_end() and wire.held == b""
    assert "HEAD" in plain.request("DELETE", path).headers["Allow"]


@pytest.mark.parametrize("query", ["received=x", "history=x", "strict=7", "since=?", "other=1"])
def test_terms_are_read_only_where_they_are_used(plain, query):
    with WebSocket(plain, "/ws/terms"):
        for path in ["/position/terms", "/channels/terms"]:
            assert plain.get(f"{path}?{query}").status == 200
        assert plain.request("POST", f"/pub/terms?{query}", body=b"x").status == 200


UPGRADES = [
    ("all as it should be", {}, 101),
    ("names and values without case", {"Connection": "UPGRADE", "Upgrade": "WebSocket"}, 101),
    ("a list of connection tokens", {"Connection": "keep-alive, Upgrade"}, 101),
    ("a list with empty members", {"Connection": ", upgrade,"}, 101),
    ("extensions that we do not speak", {"Sec-WebSocket-Extensions": "permessage-deflate"}, 101),
    ("a pathological extensions header", {"Sec-WebSocket-Extensions": "a;" * 3000}, 101),
    ("a pathological protocol header", {"Sec-WebSocket-Protocol": " ," * 3000}, 101),
    ("a version list", {"Sec-WebSocket-Version": "13, 8"}, 426),
    ("an upgrade token that only starts so", {"Upgrade": "websocketx"}, 426),
    ("a connection token that only starts so", {"Connection": "upgradex"}, 400),
    ("a key of 15 bytes", {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAA"}, 400),
    ("a key of 17 bytes", {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAAA="}, 400),
    ("a key that is no base64", {"Sec-WebSocket-Key": "!!!!!!!!!!!!!!!!!!!!!!=="}, 400),
    ("a body with a length", {"Content-Length": "5"}, 400),
    ("a chunked body", {"Transfer-Encoding": "chunked"}, 400),
]


@pytest.mark.parametrize("what, changes, status", UPGRADES, ids=[u[0] for u in UPGRADES])
def test_upgrades_are_taken_or_refused_exactly(plain, what, changes, status):
    headers = dict(UPGRADE, **changes)
    wire, answer = raw(plain, f"GET /ws/up HTTP/1.1\r\nHost: {plain.target}\r\n"
                       + harness.header_lines(headers) + "\r\n", head_only=status == 101)
    assert answer.status == status, answer
    if status != 101:
        refused(answer, status)
    wire.close()


MALFORMED = [
    ("bare LF", b"GET /healthz HTTP/1.1\nHost: x\n\n", (400,)),
    ("a bare LF in the middle", b"GET /healthz HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", (400,)),
    ("no host", b"GET /healthz HTTP/1.1\r\n\r\n", (400,)),
    ("two hosts", b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400,)),
    ("a bad host", b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", (400,)),
    ("a folded line", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", (400,)),
    ("a space before the colon", b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", (400,)),
    ("no version", b"GET /healthz\r\n\r\n", (400,)),
    ("HTTP/2.0", b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", (505, 400)),
    ("a NUL", b"GET /heal\0thz HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("a NUL in a header", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", (400,)),
    ("an unknown method", b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", (405, 501)),
    ("a lower-case method", b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405, 501)),
    ("length and chunked", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    ("two lengths", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
     b"Content-Length: 4\r\n\r\nabcd", (400,)),
    ("a negative length", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (400,)),
    ("a length with a sign", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
     (400,)),
    ("a huge length", b"POST /pub/a HTTP/1.1\r\nHost: x\r\n"
     b"Content-Length: 99999999999999999999\r\n\r\n", (400, 413)),
    ("an unknown coding", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
     (501, 400)),
    ("chunked not last", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n"
     b"\r\n", (400, 501)),
    ("a bad chunk size", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"xyz\r\n", (400,)),
    ("a chunk over the limit", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
     b"\r\nfffff\r\n", (413,)),
    ("chunked in 1.0", b"POST /pub/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", (400,)),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n", (400,)),
    ("a long target", b"GET /" + b"x" * 33000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414,)),
    ("an endless target", b"GET /" + b"x" * 40000, (414, 431)),
    ("a long header", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 40000, (431,)),
    ("many headers", b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n", (431,)),
    ("an expectation", b"POST /pub/a HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\n"
     b"Content-Length: 1\r\n\r\na", (417,)),
]


@pytest.mark.parametrize("what, request_, statuses", MALFORMED, ids=[m[0] for m in MALFORMED])
def test_what_is_malformed_or_ambiguous_is_refused_and_closed(plain, what, request_, statuses):
    wire, answer = raw(plain, request_)
    refused(answer, *statuses)
    assert wire.at_end()
    assert wire.held == b"", "something after the refusal"


@pytest.mark.parametrize("dribble", [False, True], ids=["whole", "bytewise"])
def test_keep_alive_pipelining_and_chunked_bodies(plain, dribble):
    wire = Wire(plain.port)
    wire.dribble = dribble
    host = f"Host: {plain.target}\r\n".encode()
    requests = (b"POST /pub/keep HTTP/1.1\r\n" + host + b"Content-Length: 3\r\n\r\nabc"
                b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n"
                b"POST /pub/keep HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n"
                b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n"
                b"HEAD /healthz HTTP/1.1\r\n" + host + b"\r\n"
                b"GET /healthz HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n")
    with WebSocket(plain, "/ws/keep") as ws:
        wire.send(requests)
        assert wire.answer().status == 200
        assert wire.answer().status == 200
        assert wire.answer().status == 200
        assert wire.answer(head_only=True).status == 200
        last = wire.answer()
        assert last.status == 200 and last.headers["Connection"].lower() == "close"
        assert wire.at_end() and wire.held == b""
        assert ws.payload() == ws.payload() == b"abc"


def test_http_1_0_is_answered_and_closed(plain):
    wire, answer = raw(plain, "GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.status == 200
    assert wire.at_end()


def test_expect_100_continue(plain):
    wire = Wire(plain.port)
    wire.send(f"POST /pub/a HTTP/1.1\r\nHost: {plain.target}\r\nContent-Length: 3\r\n"
              "Expect: 100-continue\r\n\r\n".encode())
    assert wire.answer(head_only=True).status == 100
    wire.send(b"abc")
    assert wire.answer().status == 200


def test_a_body_over_the_limit_is_refused_before_it_is_sent(plain):
    wire = Wire(plain.port)
    wire.send(f"POST /pub/a HTTP/1.1\r\nHost: {plain.target}\r\nContent-Length: 2001\r\n"
              "Expect: 100-continue\r\n\r\n".encode())
    refused(wire.answer(), 413)


@pytest.mark.parametrize("n, status", [(1999, 200), (2000, 200), (2001, 413)])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_the_message_limit_is_exact(plain, n, status, chunked):
    wire = Wire(plain.port)
    head = f"POST /pub/a HTTP/1.1\r\nHost: {plain.target}\r\n"
    if chunked:
        wire.send((head + "Transfer-Encoding: chunked\r\n\r\n"
                   f"{n - 1000:x}\r\n{'x' * (n - 1000)}\r\n3e8\r\n{'x' * 1000}\r\n0\r\n\r\n").encode())
    else:
        wire.send((head + f"Content-Length: {n}\r\n\r\n{'x' * n}").encode())
    assert wire.answer().status == status


def test_names_are_percent_decoded_and_binary_safe(serve):
    g = serve()
    for encoded in ("a%20b", "%00", "%ff%fe", "%C5%81%C3%B3d%C5%BA", "%2A", "a%2Fb", "%0d%0a",
                    "x" * 255, "%78" * 255):
        with WebSocket(g, f"/ws/{encoded}") as ws:
            assert g.publish(encoded, "here").status == 200
            assert ws.payload() == b"here"


def test_differently_encoded_names_are_one_channel(plain):
    with WebSocket(plain, "/ws/tram_5") as ws:
        assert plain.publish("tr%61m%5F5", "x").json()["subscribers"] == 1
        assert ws.payload() == b"x"


def test_a_head_that_does_not_come_in_time_is_408(gateway):
    g = gateway("--handshake-timeout", "1s")

    def answer_to(part, dribble):
        with Wire(g.port) as wire:
            wire.dribble = dribble
            try:
                wire.send(part)
                return wire.answer(), wire.at_end()
            except (harness.Ended, OSError):
                return None  # it was too late to say as much as that

    silent = Wire(g.port)
    for part, dribble in ((b"GET /healthz HTTP/1.1\r\nHos", False),
                          (b"GET /healthz HTTP/1.1\r\n", True)):
        answer, _ = harness.wait_for(lambda p=part, d=dribble: answer_to(p, d), "an answer")
        refused(answer, 408)
    assert silent.at_end() and silent.held == b""
    g.wait_metric("handshake_timeouts_total", lambda n: n >= 3)


def test_good_clients_are_served_while_thousands_are_half_open(gateway):
    g = gateway("--handshake-timeout", "60s")
    half_open = [Wire(g.port) for _ in range(1000)]
    for wire in half_open:
        wire.send(b"GET /ws/x HTTP/1.1\r\nHost: x\r\n")
    with WebSocket(g, "/ws/good") as ws:
        g.publish("good", "x")
        assert ws.payload() == b"x"
    for wire in half_open:
        wire.close()
    g.wait_metric("connections", lambda n: n <= 1)


def test_sse_answers_at_once_with_the_headers_that_proxies_need(plain):
    sse = Sse(plain, "/sse/headers").acked()
    headers = sse.response.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Accel-Buffering"] == "no"
    assert sse.retry and sse.comments


def test_head_of_an_event_stream_is_its_head_only(plain):
    wire, answer = raw(plain, f"HEAD /sse/x HTTP/1.1\r\nHost: {plain.target}\r\n"
                       "Connection: close\r\n\r\n", head_only=True)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert wire.at_end() and wire.held == b""


def test_options_and_cors(gateway):
    g = gateway("--origin", "https://map.example")
    preflight = g.request("OPTIONS", "/pub/a", headers={
        "Origin": "https://map.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type"})
    assert preflight.status in (200, 204)
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://map.example"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    assert "Origin" in preflight.headers["Vary"]
    answer = g.publish("a", "x", headers={"Origin": "https://map.example"})
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://map.example"
    sse = Sse(g, "/sse/a", {"Origin": "https://map.example"})
    assert sse.response.headers["Access-Control-Allow-Origin"] == "https://map.example"
    plain = g.request("OPTIONS", "/pub/a")
    assert plain.status in (200, 204) and "POST" in plain.headers["Allow"]


def test_bytes_right_behind_the_upgrade_are_frames(plain):
    ws = WebSocket(plain, "/chat/behind", ask=False)
    ws.key = KEY.encode()
    ws.send((f"GET /chat/behind HTTP/1.1\r\nHost: {plain.target}\r\n"
             + harness.header_lines(UPGRADE) + "\r\n").encode() + WebSocket.encode(1, b"early"))
    ws.accepted()
    assert ws.payload() == b"early"


def test_requests_behind_an_event_stream_are_not_answered(plain):
    wire = Wire(plain.port)
    wire.send(f"GET /sse/x HTTP/1.1\r\nHost: {plain.target}\r\n\r\n"
              f"GET /healthz HTTP/1.1\r\nHost: {plain.target}\r\n\r\n".encode())
    assert wire.answer().status == 200
    wire.until(b"\nid: ")
    plain.publish("x", "one")
    wire.until(b"data: one\n\n")
    assert b"HTTP/1.1" not in wire.held


def test_absolute_targets(plain):
    _, answer = raw(plain, f"GET http://{plain.target}/healthz HTTP/1.1\r\n"
                    f"Host: {plain.target}\r\n\r\n")
    assert answer.status == 200
    _, answer = raw(plain, "GET http://other.example/healthz HTTP/1.1\r\n"
                    f"Host: {plain.target}\r\n\r\n")
    refused(answer, 400)


def test_a_refused_channel_name_does_not_reach_the_log_unescaped(gateway):
    g = gateway("--allow", "tram_*", "--log-level", "debug")
    with pytest.raises(Refused):
        WebSocket(g, "/ws/evil%0Aname%1b%5B31m")
    assert b"\x1b[31m" not in g.log()
    assert b"\nname" not in g.log()
