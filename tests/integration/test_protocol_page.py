"""Every example of docs/protocol.md is run, and does what the page says."""

import json
import re
import shutil
import subprocess
import sys

import pytest

import harness
from conftest import needs
from harness import Sse, WebSocket, wait_for
from network import Proxy
from test_clients import Lines, program  # noqa: F401 (a fixture)

PAGE = (harness.ROOT / "docs/protocol.md").read_text()
EXAMPLE = re.compile(r"^<!-- run: (\w+) -->\n```(\w+)\n(.*?)^```$", re.M | re.S)
EXAMPLES = {name: (language, text) for name, language, text in EXAMPLE.findall(PAGE)}


def test_every_example_of_the_page_is_run_here():
    assert len(re.findall("^```", PAGE, re.M)) == 2 * len(EXAMPLES)
    own = globals()
    assert all(f"test_{name}_example" in own for name in EXAMPLES), EXAMPLES.keys()


@pytest.fixture
def example(program, tmp_path):  # noqa: F811
    """Starts an example against a gateway or a proxy, and a Redis."""

    def start(name, port, redis_port=6379):
        language, text = EXAMPLES[name]
        assert "8080" in text or "6379" in text
        text = text.replace("localhost:8080", f"127.0.0.1:{port}").replace("6379", str(redis_port))
        if language == "js":
            needs(shutil.which("node"), "node")
            needs((harness.NODE / "node_modules" / "ws").exists(), "npm packages in tests/clients/node")
            link = tmp_path / "node_modules"
            if not link.exists():
                link.symlink_to(harness.NODE / "node_modules")
            path = tmp_path / f"{name}.mjs"
            path.write_text("import WebSocket from 'ws';\nimport { EventSource } from 'eventsource';\n" + text)
            return program("node", path)
        if language == "python":
            return program(sys.executable, "-c", text)
        return program("bash", "-c", "set -e\n" + text)

    return start



def test_eventsource_example(gateway, own_redis, example):
    redis = own_redis()
    g = gateway("--redis", redis.url)
    page = example("eventsource", g.port)
    g.wait_acknowledged("tram_5")
    redis.publish("tram_5", "two\nlines")
    assert page.line() == "two"
    assert re.fullmatch(r"lines at [0-9a-f]{16}-\d+", page.line())
    redis.publish("tram_5", b"\xff\r")
    assert page.line() == "bytes 2"
    redis.kill()
    assert page.line() == 'broker {"state":"down"}'
    redis.start()
    assert page.line() == 'broker {"state":"up"}'
    gap = page.line()
    assert gap.startswith("gap ") and json.loads(gap[4:])["missed"] is None


def test_websocket_example(gateway, example):
    g = gateway()
    page = example("websocket", g.port)
    assert page.line() == "subscribed"
    g.publish("tram_5", '{"x":"ż"}'.encode())
    g.publish("tram_5", b"\xff\x01")
    assert page.line() == '{"x":"ż"}'
    assert page.line() == "Uint8Array(2) [ 255, 1 ]"
    g.terminate()
    assert page.line() == "closed 1001 the gateway is going away"


def test_chat_example(gateway, example):
    g = gateway()
    other = WebSocket(g, "/chat/lobby")
    page = example("chat", g.port)
    assert page.line() == "hello"
    assert other.payload() == b"hello"


def test_http_example(gateway, own_redis, example):
    g = gateway()
    clients = [WebSocket(g, "/ws/tram_5"), Sse(g, "/sse/tram_5").acked()]
    answer = json.loads(example("http", g.port).finish()[0])
    assert answer["subscribers"] == 2 and set(answer) == {"subscribers", "position"}
    assert [c.payload() for c in clients if isinstance(c, WebSocket)] == [b'{"x":1}']
    redis = own_redis()
    g = gateway("--redis", redis.url)
    ws = WebSocket(g, "/ws/tram_5")
    assert json.loads(example("http", g.port).finish()[0]) == {"receivers": 1}
    assert ws.payload() == b'{"x":1}'
    g = gateway("--redis", redis.url, "--channel", "tram_*: source=stream")
    answer = json.loads(example("http", g.port).finish()[0])
    assert re.fullmatch(r"\d+-\d+", answer["id"])


def test_publish_example(gateway, own_redis, example):
    redis = own_redis()
    g = gateway("--redis", redis.url)
    ws = WebSocket(g, "/ws/tram_5")
    assert example("publish", g.port, redis.port).finish() == []
    assert ws.payload() == b'{"x":2}'


def test_xadd_example(gateway, own_redis, example):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--channel", "order_*: source=stream")
    ws = WebSocket(g, "/ws/order_7")
    assert example("xadd", g.port, redis.port).finish() == []
    assert ws.payload() == b'{"paid":true}'


def cut(proxy):
    """Every connection breaks, and those that come get no answer until let_in()."""
    proxy.swallows_new = True
    gone, proxy.links = proxy.links, []
    for link in gone:
        link.close()


def let_in(proxy):
    wait_for(lambda: proxy.links, "somebody comes back")
    proxy.swallows_new = False
    gone, proxy.links = proxy.links, []
    for link in gone:
        link.close()


def test_resume_example(gateway, example):
    g = gateway("--log-messages", 5)
    proxy = Proxy(g.port)
    try:
        page = example("resume", proxy.port)
        wait_for(lambda: g.metric("websocket_sessions") == 1, "it is subscribed")
        for i in range(2):
            g.publish("tram_5", b"%d" % i)
            assert page.line() == str(i)
        cut(proxy)
        for i in range(2, 6):
            g.publish("tram_5", b"%d" % i)
        let_in(proxy)
        assert [page.line() for _ in range(4)] == ["2", "3", "4", "5"]
        cut(proxy)
        for i in range(6, 20):
            g.publish("tram_5", b"%d" % i)
        let_in(proxy)
        assert page.line() == "missed 14"
        wait_for(lambda: g.metric("websocket_sessions") == 1, "it came back")
        g.publish("tram_5", b"20")
        assert page.line() == "20"
    finally:
        proxy.stop()


def test_strict_example(gateway, own_redis, example):
    redis = own_redis()
    g = gateway("--redis", redis.url)
    page = example("strict", g.port)
    g.wait_acknowledged("tram_5")
    redis.publish("tram_5", "before")
    assert page.line() == "before"
    redis.kill()
    g.wait_unready()
    redis.start()
    assert re.fullmatch(r"4410 gap [0-9a-f]{16}-\d+ missed=\?", page.line())


def test_history_example(gateway, example):
    g = gateway()
    for i in range(5):
        g.publish("tram_5", b"%d" % i)
    page = example("history", g.port)
    data = []
    while len(data) < 2:
        line = page.line()
        data += [line] if line.startswith("data: ") else []
    assert data == ["data: 3", "data: 4"]


def test_serve_example(gateway):
    words = EXAMPLES["serve"][1].split("serve ", 1)[1]
    arguments = re.findall(r"'[^']*'|\S+", words)
    g = gateway(*[a.strip("'") for a in arguments])
    latest = WebSocket(g, "/ws/tram_1")
    fleet = Sse(g, "/sse/fleet").acked()
    g.publish("tram_1", b"x")
    assert latest.payload() == b"x"
    assert fleet.event().name == "tram_1"


def test_several_example(gateway, own_redis, example):
    redis = own_redis()
    g = gateway("--redis", redis.url)
    page = example("several", g.port)
    g.wait_acknowledged("tram_5")
    g.wait_acknowledged("tram_6")
    g.publish("tram_6", b"six")
    g.publish("tram_7", b"not this one")
    g.publish("tram_5", b"five")
    assert page.line() == "tram_6 six"
    assert page.line() == "tram_5 five"
    redis.kill()
    redis.start()
    told = [page.line(), page.line()]
    assert sorted(line.split(" ")[0] for line in told) == ["tram_5", "tram_6"]
    assert all(line.split(" ")[1] == "gap" for line in told)


def test_pattern_example(gateway, example):
    g = gateway("--pattern", "fleet tram_*")
    page = example("pattern", g.port)
    g.wait_acknowledged("fleet")
    g.publish("tram_4", b"not this one")
    g.publish("tram_5", b"this one")
    assert page.line() == "tram_5 this one"


def test_ask_example(gateway, example):
    g = gateway()
    ws = WebSocket(g, "/ws/tram_5")
    out = example("ask", g.port).finish()
    assert set(json.loads(out[0])) == {"position"}
    channel = json.loads(out[1])
    assert channel["subscribers"] == {"websocket": 1, "sse": 0} and channel["state"] == "live"
    ws.close()


def test_error_example(gateway, example):
    g = gateway()
    answer = json.loads("".join(example("error", g.port).finish()))
    assert answer["error"] == "origin not allowed" and "--origin" in answer["hint"]


def test_the_page_names_every_status_and_close_code_of_its_tables():
    """What the gateway can answer with stands in the page: refusals in the sources, codes in ws.h."""
    sources = "".join(path.read_text() for path in (harness.ROOT / "src/gateway").glob("*.c"))
    sources += "".join(path.read_text() for path in (harness.ROOT / "src/proto").glob("http1*.c"))
    found = set(re.findall(r"(?:_refuse|refuse|_bad|refuse_body)\([^;]{0,40}?\b([45]\d\d)\b", sources))
    assert found >= {"400", "403", "404", "405", "413", "426", "431", "503"}
    assert not {status for status in found - {"417", "501", "505", "411"} if status not in PAGE}, found
    codes = dict(re.findall(r"TL_WS_CLOSE_(\w+) = (\d+)", (harness.ROOT / "src/proto/ws.h").read_text()))
    used = set(re.findall(r"TL_WS_CLOSE_(\w+)", sources)) - {"NONE", "ABNORMAL"}
    assert not {name for name in used if codes[name] not in PAGE}, used


def test_the_examples_are_short():
    assert all(len(text.splitlines()) <= 15 for _, text in EXAMPLES.values())
    assert subprocess.run(["bash", "-n", "-c", EXAMPLES["ask"][1]]).returncode == 0
