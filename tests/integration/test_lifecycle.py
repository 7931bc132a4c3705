"""Start, heartbeats, the end, and counters (R21, R25, R26, F8)."""

import re
import signal
import subprocess

import pytest

import harness
from harness import Sse, WebSocket, Wire, wait_for


def run(*arguments, deadline=None, **more):
    return subprocess.run([harness.TRAMLINE, *map(str, arguments)], capture_output=True,
                          stdin=more.pop("stdin", subprocess.DEVNULL),
                          timeout=deadline or harness.DEADLINE, **more)


def test_the_banner_tells_what_runs(gateway):
    g = gateway("--workers", 2)
    banner = g.output().decode()
    assert f"http://127.0.0.1:{g.port}" in banner
    for word in ("memory", "engine", "worker", "descriptor", "curl"):
        assert word in banner.lower(), banner
    assert len(banner.splitlines()) <= 15


def test_the_banner_tells_the_broker(gateway, shared_redis):
    g = gateway("--redis", shared_redis.url)
    wait_for(lambda: b"redis" in g.output().lower(), "Redis in the banner")


def test_a_password_is_never_shown(gateway, own_redis):
    redis = own_redis(password="hush-hush")
    g = gateway("--redis", redis.url)
    WebSocket(g, "/ws/a").close()
    assert b"hush-hush" not in g.log()


BAD_FLAGS = [
    ["--nonsense"], ["--workers", "many"], ["--workers", "-1"], ["--listen", "nowhere"],
    ["--listen", "127.0.0.1:99999"], ["--redis", "http://x"], ["--linger", "5"],
    ["--linger", "5parsecs"], ["--max-message", "1XB"], ["--route", "ws"],
    ["--route", "tcp /a b"], ["--route", "ws a b"], ["--route", "ws /x/{a} c_{b}"],
    ["--pattern", "fleet"], ["--origin", "example"], ["--engine", "steam"], ["--ping"],
    ["positional"], ["--token-file", "/does/not/exist"]]


@pytest.mark.parametrize("flags", BAD_FLAGS, ids=[" ".join(f) for f in BAD_FLAGS])
def test_a_flag_that_makes_no_sense_is_one_line_and_exit_2(flags):
    done = run("serve", *flags)
    assert done.returncode == 2, done
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 1, lines
    assert flags[0].lstrip("-") in lines[0] or flags[-1] in lines[0], lines


def test_a_port_in_use_is_one_line_and_exit_1(gateway):
    g = gateway()
    done = run("serve", "--listen", g.target, "--workers", 1)
    assert done.returncode == 1
    assert str(g.port) in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_port_in_use_is_also_noticed_with_several_workers(gateway):
    """SO_REUSEPORT must not let a second gateway share the port unnoticed."""
    g = gateway("--workers", 2)
    done = subprocess.Popen([harness.TRAMLINE, "serve", "--listen", g.target, "--workers", "2"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        _, err = done.communicate(timeout=harness.DEADLINE)
    except subprocess.TimeoutExpired:
        done.kill()
        done.communicate()
        pytest.fail("a second gateway runs on the same port")
    assert done.returncode == 1 and str(g.port) in err.decode()


def test_options_come_from_the_environment_too(gateway):
    g = gateway(environment={"TRAMLINE_ALLOW": "tram_*", "TRAMLINE_MAX_MESSAGE": "10"})
    assert g.publish("bus_1", "x").status == 403
    assert g.publish("tram_1", "x" * 11).status == 413
    assert g.publish("tram_1", "x" * 10).status == 200


def test_several_listeners(gateway):
    port = harness.free_port()
    g = gateway("--listen", f"127.0.0.1:{port}")
    client = WebSocket(g, "/ws/a")
    first, g.port = g.port, port
    assert g.publish("a", "x").json()["subscribers"] == 1
    g.port = first
    assert client.payload() == b"x"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_end_is_told_to_every_client(serve, channel, how):
    g = serve("--drain", "500ms")
    ws = [WebSocket(g, f"/ws/{channel}") for _ in range(20)]
    sse = [Sse(g, f"/sse/{channel}").acked() for _ in range(20)]
    idle = Wire(g.port)
    idle.send(f"GET /healthz HTTP/1.1\r\nHost: {g.target}\r\n\r\n".encode())
    assert idle.answer().status == 200
    g.process.send_signal(how)
    for client in ws:
        assert client.ended().code == 1001
    for client in sse:
        assert client.ended()
    assert idle.at_end()
    assert harness.end_process(g.process, how) == 0


def test_during_the_drain_nobody_new_comes_in_and_readiness_is_503(gateway, channel):
    g = gateway("--drain", "3s")
    clients = [WebSocket(g, f"/ws/{channel}") for _ in range(10)]
    keep = Wire(g.port)
    keep.send(f"GET /readyz HTTP/1.1\r\nHost: {g.target}\r\n\r\n".encode())
    assert keep.answer().status == 200
    g.process.send_signal(signal.SIGTERM)

    def no_new_clients():
        try:
            with WebSocket(g, f"/ws/{channel}"):
                return False
        except (OSError, harness.Ended, harness.Refused):
            return True

    wait_for(no_new_clients, "no new clients")
    try:
        keep.send(f"GET /readyz HTTP/1.1\r\nHost: {g.target}\r\n\r\n".encode())
        assert keep.answer().status == 503
    except (harness.Ended, OSError):
        pass  # idle connections may be closed at once
    assert {c.ended().code for c in clients} == {1001}
    assert g.process.wait(harness.DEADLINE) == 0


def test_clients_that_do_not_read_cannot_hold_the_end_up(gateway, channel):
    g = gateway("--drain", "300ms", "--log-bytes", "64MiB", "--stall-timeout", "1h")
    stuck = WebSocket(g, f"/ws/{channel}", receive_buffer=4096)
    for _ in range(100):
        g.publish(channel, b"x" * 100000)
    assert g.terminate() == 0
    stuck.close()


def test_the_end_comes_although_redis_is_frozen(gateway, own_redis, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--drain", "200ms")
    ws = WebSocket(g, f"/ws/{channel}")
    redis.freeze()
    g.process.send_signal(signal.SIGTERM)
    assert ws.ended().code == 1001
    assert g.process.wait(harness.DEADLINE) == 0


def test_nothing_above_debug_is_logged_for_normal_clients(gateway, channel):
    g = gateway()
    before = g.errors()
    for i in range(10):
        ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
        ws.say_goodbye()
        ws.close()
        sse.reset() if i % 2 else sse.close()
    g.wait_metric("connections", lambda n: n <= 1)
    assert g.errors() == before


@pytest.mark.parametrize("kind", ["ws", "sse"])
def test_idle_streams_get_heartbeats(gateway, channel, kind):
    g = gateway("--ping", "1s")
    if kind == "ws":
        client = WebSocket(g, f"/ws/{channel}")
        for _ in range(3):
            opcode, payload = client.frame()
            assert opcode == 9
            client.frame_out(10, payload)
    else:
        client = Sse(g, f"/sse/{channel}").acked()
        first = len(client.comments)
        reader = harness.Background(client.named, "message")
        wait_for(lambda: len(client.comments) >= first + 3, "comments")
        g.publish(channel, "x")
        assert reader.result().payload == b"x"


def test_a_peer_that_answers_no_ping_is_closed(gateway, channel):
    g = gateway("--ping", "1s")
    dead, alive = WebSocket(g, f"/ws/{channel}"), WebSocket(g, f"/ws/{channel}")
    with pytest.raises(harness.Ended):
        reader = harness.Background(alive.message)
        while True:
            dead.frame()
    assert g.metric("dead_peers_total") == 1
    g.publish(channel, "x")
    assert reader.result() == (1, b"x")


def test_a_peer_that_sends_something_else_than_pongs_lives(gateway, channel):
    """R21: any byte received is life; a frame that crawls in counts too."""
    g = gateway("--ping", "1s")
    client = WebSocket(g, f"/chat/{channel}")
    frame = WebSocket.encode(1, b"x" * 4)
    for part in (frame[:1], frame[1:5], frame[5:9], frame[9:]):
        opcode, payload = client.frame()
        assert opcode == 9
        client.send(part)
    assert client.message(pong=False) == (1, b"x" * 4)


def test_every_metric_of_the_table_is_exported(gateway):
    table = (harness.ROOT / "src/base/metrics.h").read_text()
    names = {name + ("_total" if kind == "COUNTER" else "") for kind, name in
             re.findall(r"X\(\w+, (COUNTER|GAUGE), \"(\w+)\"", table)}
    assert len(names) > 30
    assert names <= set(gateway().metrics())


def test_counters_count(gateway, channel):
    g = gateway()
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    for i in range(10):
        g.publish(channel, "12345")
        assert ws.payload() == sse.payload() == b"12345"
    g.wait_metric("sends_total", 20)  # counted once for all sends of a batch, behind them
    m = g.metrics()
    assert m["messages_in_total"] == m["messages_published_total"] == 10
    assert m["message_bytes_in_total"] == 50
    assert m["websocket_sessions"] == m["sse_sessions"] == 1
    assert m["subscriptions"] == 2 and m["channels"] == 1
    assert m["sent_bytes_total"] > 100
    assert m["log_bytes"] >= 50
    ws.frame_out(3, b"")
    assert ws.ended().code == 1002
    g.get("/nowhere")
    sse.close()
    for gauge in ("subscriptions", "websocket_sessions", "sse_sessions"):
        g.wait_metric(gauge, 0)
    m = g.metrics()
    assert m["protocol_errors_total"] == 1
    assert m["requests_refused_total"] >= 1


def test_a_restart_is_told_to_clients_that_come_back_with_an_old_id(gateway, channel):
    first = gateway()
    sse = Sse(first, f"/sse/{channel}").acked()
    first.publish(channel, "x")
    old = sse.event().id
    second = gateway()
    back = Sse(second, f"/sse/{channel}", {"Last-Event-ID": old})
    assert back.named("gap", "message").name == "gap"


def test_an_sse_client_that_comes_back_gets_what_it_missed(serve, channel):
    g = serve()
    sse = Sse(g, f"/sse/{channel}").acked()
    for i in range(10):
        g.publish(channel, str(i))
    ids = [sse.event().id for _ in range(10)]
    assert len(set(ids)) == 10
    sse.close()
    back = Sse(g, f"/sse/{channel}", {"Last-Event-ID": ids[3]})
    got = [back.named("message", "gap") for _ in range(6)]
    assert [e.data for e in got] == [b"4", b"5", b"6", b"7", b"8", b"9"]
    assert [e.id for e in got] == ids[4:]
    g.publish(channel, "10")
    assert back.named("message", "gap").data == b"10"


@pytest.mark.parametrize("bad", ["nonsense", "x" * 2000, "%00", "1-2-3-4-5", "' OR 1=1"])
def test_a_last_event_id_that_is_none_is_a_gap_or_a_400_and_no_harm(gateway, channel, bad):
    g = gateway()
    try:
        sse = Sse(g, f"/sse/{channel}", {"Last-Event-ID": bad})
        sse.named("gap", "position")
        g.publish(channel, "x")
        assert sse.named("message").data == b"x"
    except harness.Refused as e:
        assert e.status == 400
