"""The clients that people really use: npm's ws and eventsource, python3-websockets, curl; and the
question's own front end."""

import asyncio
import base64
import json
import shutil
import subprocess

import pytest
import websockets

import harness
from conftest import needs
from harness import WebSocket, wait_for


class Lines:
    """A client program whose lines we read."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        bufsize=0)  # else select() misses what is read ahead

    def line(self):
        readable, _, _ = harness.select.select([self.process.stdout], [], [], harness.DEADLINE)
        assert readable, "the client says nothing"
        return self.process.stdout.readline().decode().rstrip("\n")

    def json(self):
        return json.loads(self.line())

    def finish(self):
        out, err = self.process.communicate(timeout=harness.DEADLINE)
        assert self.process.returncode == 0, err
        return out.decode().splitlines()


@pytest.fixture
def program():
    made = []

    def start(*arguments):
        made.append(Lines(*arguments))
        return made[-1]

    yield start
    for p in made:
        if p.process.poll() is None:
            p.process.kill()
        p.process.communicate()


@pytest.fixture
def node(program):
    needs(shutil.which("node"), "node")
    needs((harness.NODE / "node_modules" / "ws").exists(), "npm packages in tests/clients/node")
    return lambda script, *arguments: program("node", harness.NODE / script, *arguments)


PAYLOADS = [b"plain", "Łódź 🚋".encode(), b"a\nb", b"", b"null", b"1e400", b"x" * 70000]
BINARY = [b"\xff\xfe\x00", bytes(range(256)), b"cr\rlf\r\n"]


def test_npm_ws_reads_everything(serve, node, channel):
    g = serve()
    client = node("ws_client.mjs", f"ws://{g.target}/ws/{channel}", len(PAYLOADS + BINARY))
    assert client.line() == "open"
    for payload in PAYLOADS + BINARY:
        g.publish(channel, payload)
    for payload in PAYLOADS + BINARY:
        got = client.json()
        assert base64.b64decode(got["base64"]) == payload
        text = payload in PAYLOADS or payload == BINARY[2]
        assert got["type"] == ("text" if text else "binary")
    assert client.json() == {"close": 1000, "reason": "done"}


def test_npm_ws_talks_in_a_room(serve, node, channel):
    g = serve()
    client = node("ws_client.mjs", f"ws://{g.target}/chat/{channel}", 2, "one", "zwei ü")
    assert client.line() == "open"
    assert base64.b64decode(client.json()["base64"]) == b"one"
    assert base64.b64decode(client.json()["base64"]).decode() == "zwei ü"
    assert client.json()["close"] == 1000


def test_npm_eventsource_reads_everything(serve, node, channel):
    g = serve()
    client = node("eventsource_client.mjs", f"{g.url}/sse/{channel}", len(PAYLOADS + BINARY))
    assert client.line() == "open"
    wait_for(lambda: g.metric("subscriptions") == 1, "subscribed")
    g.wait_acknowledged(channel)
    for payload in PAYLOADS + BINARY:
        g.publish(channel, payload)
    for payload in PAYLOADS:
        got = client.json()
        assert got["event"] == "message" and got["data"].encode() == payload and got["id"]
    for payload in BINARY:
        got = client.json()
        assert got["event"] == "base64" and base64.b64decode(got["data"]) == payload


def test_npm_eventsource_survives_a_restart_of_redis(gateway, own_redis, node, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--redis-dead", "10m")
    client = node("eventsource_client.mjs", f"{g.url}/sse/{channel}", 4, "broker", "gap")
    assert client.line() == "open"
    wait_for(lambda: redis.numsub(channel) == 1, "subscribed")
    redis.kill()
    down = client.json()
    assert (down["event"], json.loads(down["data"])["state"]) == ("broker", "down")
    redis.start()
    assert {client.json()["event"], client.json()["event"]} == {"broker", "gap"}
    wait_for(lambda: redis.numsub(channel) == 1, "subscribed again")
    redis.publish(channel, "back")
    assert client.json()["data"] == "back"


def test_npm_eventsource_resumes_by_itself(gateway, node, channel):
    """The gateway goes away and another comes at the same address: a gap is told, then live."""
    port = harness.free_port()
    first = gateway("--listen", f"127.0.0.1:{port}", "--drain", "0s", listen=False)
    client = node("eventsource_client.mjs", f"{first.url}/sse/{channel}", 3, "gap")
    assert client.line() == "open"
    first.wait_metric("subscriptions", 1)
    first.publish(channel, "one")
    assert client.json()["data"] == "one"
    first.terminate()
    second = gateway("--listen", f"127.0.0.1:{port}", listen=False)
    assert "error" in client.json()
    lines = [client.line()]
    while lines[-1] != "open":
        lines.append(client.line())
    assert client.json()["event"] == "gap"
    second.publish(channel, "two")
    assert client.json()["data"] == "two"


def test_npm_ws_sees_the_refusal(gateway, node):
    g = gateway("--allow", "tram_*")
    assert node("ws_client.mjs", f"ws://{g.target}/ws/bus", 1).json()["status"] == 403


def test_python_websockets_reads_everything(serve, channel):
    g = serve()

    async def session():
        async with websockets.connect(f"ws://{g.target}/ws/{channel}", max_size=None,
                                      open_timeout=harness.DEADLINE) as ws:
            for payload in PAYLOADS + BINARY[:2]:
                await asyncio.to_thread(g.publish, channel, payload)
            for payload in PAYLOADS:
                assert (await asyncio.wait_for(ws.recv(), harness.DEADLINE)).encode() == payload
            for payload in BINARY[:2]:
                assert await asyncio.wait_for(ws.recv(), harness.DEADLINE) == payload
            await asyncio.wait_for(await ws.ping(), harness.DEADLINE)
        assert ws.close_code == 1000

    asyncio.run(session())


def test_python_websockets_in_the_questions_numbers(serve, channel):
    """200 clients on one channel at full speed: the question's code reached 16 to 50 %."""
    g = serve()

    async def session():
        clients = await asyncio.gather(
            *[websockets.connect(f"ws://{g.target}/tram-state-ws/5", open_timeout=harness.DEADLINE,
                                 ping_interval=None) for _ in range(200)])
        for i in range(20):
            await asyncio.to_thread(g.request, "POST", "/tram-state/5", f'{{"n":{i}}}')
        for c in clients:
            got = [json.loads(await asyncio.wait_for(c.recv(), harness.DEADLINE))["n"]
                   for _ in range(20)]
            assert got == list(range(20))
        await asyncio.gather(*[c.close() for c in clients])

    asyncio.run(session())


def test_curl_follows_and_publishes(serve, program, channel):
    needs(shutil.which("curl"), "curl")
    g = serve()
    followers = [program("curl", "-sN", f"{g.url}/sse/{channel}") for _ in range(2)]
    g.wait_metric("subscriptions", 2)
    done = subprocess.run(["curl", "-sS", "-d", '{"hello":1}', f"{g.url}/pub/{channel}"],
                          capture_output=True, timeout=harness.DEADLINE)
    assert json.loads(done.stdout)
    for follower in followers:
        while follower.line() != 'data: {"hello":1}':
            pass


# The question's front end: a WebSocket per tram, POST to publish, the text `close` to leave.


def test_the_questions_urls_work_unmodified(serve):
    g = serve()
    ws = WebSocket(g, "/tram-state-ws/1543")
    assert g.request("POST", "/tram-state/1543", body='{"lat":1.10}').status == 200
    assert ws.message() == (1, b'{"lat":1.10}')
    with WebSocket(g, "/ws/tram_1543") as same:
        g.publish("tram_1543", "both")
        assert ws.payload() == same.payload() == b"both"


@pytest.mark.parametrize("dribble", [False, True], ids=["whole", "bytewise"])
def test_the_text_close_closes_politely(serve, dribble):
    g = serve()
    ws, other = WebSocket(g, "/tram-state-ws/7"), WebSocket(g, "/tram-state-ws/7")
    ws.dribble = dribble
    ws.text("close")
    assert ws.ended().code == 1000
    g.request("POST", "/tram-state/7", body="x")
    assert other.payload() == b"x"


def test_the_text_close_in_fragments_closes_too_and_nothing_else_does(gateway):
    g = gateway()
    ws = WebSocket(g, "/tram-state-ws/7")
    for text in ("Close", "close ", "closed", "clos", ""):
        ws.text(text)
    ws.binary(b"close")
    ws.frame_out(9, b"alive")
    assert ws.frame() == (10, b"alive")
    ws.frame_out(1, b"clo", fin=False)
    ws.frame_out(0, b"se")
    assert ws.ended().code == 1000


def test_one_bad_json_mutes_nobody(serve):
    g = serve()
    clients = [WebSocket(g, "/tram-state-ws/9") for _ in range(4)]
    for payload in (b"{broken", b"null", b'{"fine":true}'):
        assert g.request("POST", "/tram-state/9", body=payload).status == 200
        assert [c.payload() for c in clients] == [payload] * 4


def test_routes_of_the_operator(gateway):
    g = gateway("--route", "ws /live/{city}/{line} {city}:{line}", "--route",
                "sse /events/{city}/{line} {city}:{line}", "--route",
                "pub /push/{city}/{line} {city}:{line}", "--route", "duplex /talk/{room} {room}_talk")
    ws, sse = WebSocket(g, "/live/warszawa/17"), harness.Sse(g, "/events/warszawa/17").acked()
    assert g.request("POST", "/push/warszawa/17", body="x").json()["subscribers"] == 2
    assert ws.payload() == sse.payload() == b"x"
    talk = WebSocket(g, "/talk/a")
    talk.text("hi")
    assert talk.payload() == b"hi"
    assert g.publish("a_talk", "there").json()["subscribers"] == 1
