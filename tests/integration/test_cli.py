"""tramline publish, subscribe, replay, version, help: as a user types them."""

import json
import re
import socket
import subprocess
import threading

import pytest

import harness
from conftest import needs
from harness import WebSocket, wait_for
from test_lifecycle import run


def test_version_and_help():
    assert re.search(rb"\d+\.\d+\.\d+", run("version").stdout)
    text = run("--help").stdout.decode()
    for command in ("serve", "publish", "subscribe", "replay", "version"):
        assert command in text
    assert run("help").returncode == 0
    done = run()
    assert done.returncode == 2
    assert run("nonsense").returncode == 2


def test_serve_help_is_complete_and_the_defaults_are_the_designs():
    text = run("serve", "--help").stdout.decode()
    for flag in ("listen", "redis", "workers", "engine", "route", "pattern", "origin", "token", "open",
                 "allow", "linger", "subscribe-timeout", "max-message", "max-inbound", "ping",
                 "handshake-timeout", "drain", "stall-timeout", "max-connections",
                 "max-connections-per-address", "max-channels", "inbound-rate", "log-messages",
                 "log-bytes"):
        assert f"--{flag}" in text, flag
        assert "TRAMLINE_" + flag.upper().replace("-", "_") in text, flag
    for default in ("30s", "60s", "16384", "4MiB", "1GiB", "256MiB", "10s", "25s", "5s", "16MiB",
                    "64KiB"):
        assert default in text, default


def test_publish_to_a_gateway_and_to_redis(gateway, shared_redis, channel):
    g = gateway("--redis", shared_redis.url)
    ws = WebSocket(g, f"/ws/{channel}")
    for url in (g.url, shared_redis.url):
        done = run("publish", "--to", url, channel, "from the shell")
        assert done.returncode == 0, done
        assert b"1" in done.stdout
        assert ws.payload() == b"from the shell"
        payload = bytes(range(256)) * 300
        done = subprocess.run([harness.TRAMLINE, "publish", "--to", url, channel, "-"], input=payload,
                              capture_output=True, timeout=harness.DEADLINE)
        assert done.returncode == 0, done
        assert ws.payload() == payload


def test_publish_appends_to_a_stream_that_a_gateway_follows(gateway, own_redis, channel):
    redis = own_redis("--notify-keyspace-events", "Kgt", "--stream-node-max-entries", "10")
    g = gateway("--redis", redis.url, "--channel", "*: source=stream")
    ws = WebSocket(g, f"/ws/{channel}")
    done = run("publish", "--to", redis.url, "--stream", channel, "from the shell")
    assert done.returncode == 0, done
    assert ws.payload() == b"from the shell"
    (entry, fields), = redis.client.xrange(channel)
    assert json.loads(done.stdout) == {"id": entry.decode()}
    assert fields == {b"data": b"from the shell"}
    payload = bytes(range(256)) * 300
    done = subprocess.run([harness.TRAMLINE, "publish", "--to", redis.url, "--stream", channel],
                          input=payload, capture_output=True, timeout=harness.DEADLINE)
    assert done.returncode == 0, done
    assert ws.payload() == payload


def test_a_stream_is_cut_by_who_appends_to_it(own_redis, tmp_path):
    redis = own_redis("--stream-node-max-entries", "10")
    rows = recording(tmp_path, [{"ts": i, "id": i % 2} for i in range(200)])
    done = run("replay", rows, "--channel", "t{id}", "--speed", 0, "--to", redis.url, "--stream",
               "--field", "position", "--maxlen", 20)
    assert done.returncode == 0 and b"200 messages" in done.stdout, done
    assert b"receivers" not in done.stdout
    for i in range(2):
        entries = redis.client.xrange(f"t{i}")
        assert 20 <= len(entries) < 40  # about
        assert json.loads(entries[-1][1][b"position"])["id"] == i
    for k in range(30):
        redis.client.xadd("old", {"data": "x"}, id=f"{k + 1}-0")
    assert run("publish", "--to", redis.url, "--stream", "--minid", "1h", "old", "y").returncode == 0
    assert redis.client.xlen("old") < 12


def test_a_key_that_is_no_stream_refuses_with_the_words_of_redis(own_redis):
    redis = own_redis()
    redis.client.set("key", "text")
    done = run("publish", "--to", redis.url, "--stream", "key", "x")
    assert done.returncode == 1 and b"WRONGTYPE" in done.stderr


@pytest.mark.parametrize("flags, words", [
    (["--stream"], "redis://"),
    (["--to", "redis://127.0.0.1:1", "--maxlen", "5"], "--stream"),
    (["--to", "redis://127.0.0.1:1", "--field", "x"], "--stream"),
    (["--to", "redis://127.0.0.1:1", "--stream", "--maxlen", "5", "--minid", "1h"], "either"),
    (["--to", "redis://127.0.0.1:1", "--stream", "--field", "x" * 64], "63"),
    (["--to", "redis://127.0.0.1:1", "--stream", "--field", ""], "63"),
])
def test_stream_flags_that_make_no_sense_are_one_line_and_exit_2(tmp_path, flags, words):
    for command in (["publish", *flags, "c", "x"], ["emulate", *flags],
                    ["replay", *flags, "--channel", "c", str(tmp_path)]):
        done = run(*command)
        assert done.returncode == 2, done
        line, = done.stderr.decode().splitlines()
        assert words in line


@pytest.mark.parametrize("source", ["gateway", "redis"])
def test_subscribe_prints_what_comes(gateway, shared_redis, channel, source):
    g = gateway("--redis", shared_redis.url)
    url = g.url if source == "gateway" else shared_redis.url
    terminal = subprocess.Popen([harness.TRAMLINE, "subscribe", "--from", url, channel],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: shared_redis.numsub(channel) == 1, "subscribed")
        if source == "gateway":
            g.wait_metric("subscriptions", 1)
        shared_redis.publish(channel, "one")
        shared_redis.publish(channel, "two")
        assert b"one" in terminal.stdout.readline()
        assert b"two" in terminal.stdout.readline()
    finally:
        status = harness.end_process(terminal, harness.signal.SIGINT)
        terminal.communicate()
    assert status in (0, 130)


def test_subscribe_tells_of_snapshots_and_silence(gateway, channel):
    g = gateway("--channel", "*: snapshot=log, stale_after=100ms")
    g.publish(channel, "before")
    terminal = subprocess.Popen([harness.TRAMLINE, "subscribe", "--from", g.url, channel],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line, told = "", []
        while "expired" not in line:
            line = terminal.stderr.readline()
            assert line and "decoded" not in line
            told += [word for word in ("snapshot", "expired") if f": {word}: " in line]
        assert told in (["snapshot", "expired"], ["expired"])  # it may have been silent before
    finally:
        harness.end_process(terminal, harness.signal.SIGINT)
        terminal.communicate()


class Parrot:
    """Says the same to whoever connects, whatever is said to it."""

    def __init__(self, words):
        self.words = words
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.recv(65536)
                    peer.sendall(self.words)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


@pytest.mark.parametrize("words", [
    b"*3\r\n:1\r\n$1\r\na\r\n$1\r\nb\r\n", b"*3\r\n$-1\r\n$1\r\na\r\n$-1\r\n",
    b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:7\r\n", b"*3\r\n*-1\r\n*0\r\n:1\r\n",
    b"*3\r\n$9\r\nsubscribe\r\n:1\r\n:1\r\n", b"$-1\r\n", b"*-1\r\n", b":1\r\n", b"+OK\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100])
def test_a_server_that_is_no_redis_harms_no_subscriber(channel, words):
    with Parrot(words) as parrot:
        terminal = subprocess.Popen(
            [harness.TRAMLINE, "subscribe", "--from", f"redis://127.0.0.1:{parrot.port}", channel],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert b"lost" in terminal.stderr.readline()
        assert harness.end_process(terminal, harness.signal.SIGINT) in (0, 130)
        out, err = terminal.communicate()
    assert not harness.SANITIZER.search(err), err


@pytest.mark.parametrize("scheme, words", [
    ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 100),
    ("redis", b":1\r\n" * 100),
])
def test_answers_that_nobody_asked_for_end_a_run(tmp_path, scheme, words):
    """Or what is on its way would be less than nothing, for ever."""
    rows = recording(tmp_path, [{"ts": i, "id": 1} for i in range(10)])
    with Parrot(words) as parrot:
        done = run("replay", rows, "--channel", "c", "--to", f"{scheme}://127.0.0.1:{parrot.port}",
                   "--speed", "1000")
    assert done.returncode == 1 and b"nobody asked" in done.stderr, done


def test_nobody_there_is_one_line_and_exit_1(channel):
    port = harness.free_port()
    for url in (f"http://127.0.0.1:{port}", f"redis://127.0.0.1:{port}"):
        done = run("publish", "--to", url, channel, "x")
        assert done.returncode == 1
        assert len(done.stderr.decode().strip().splitlines()) == 1, done.stderr


def test_a_wrong_password_is_one_line_and_exit_1(own_redis, channel):
    redis = own_redis(password="right")
    done = run("publish", "--to", f"redis://:wrong@127.0.0.1:{redis.port}", channel, "x")
    assert done.returncode == 1
    assert len(done.stderr.decode().strip().splitlines()) == 1
    assert b"wrong@" not in done.stderr


def test_a_refused_publish_is_exit_1_and_says_why(gateway):
    g = gateway("--allow", "tram_*")
    done = run("publish", "--to", g.url, "bus", "x")
    assert done.returncode == 1 and done.stderr.strip()


@pytest.mark.parametrize("content", [b"", b"no json\n", b"[1,2]\n", b'{"id":1}\n', b"\xff\xfe\0\n",
                                     b'{"ts":"yesterday","id":1}\n'])
def test_a_file_that_is_no_recording_is_one_line(gateway, tmp_path, content):
    g = gateway()
    path = tmp_path / "file"
    path.write_bytes(content)
    done = run("replay", path, "--channel", "tram_{id}", "--to", g.url)
    assert done.returncode in (1, 2), done
    assert str(path) in done.stderr.decode()


def test_a_recording_that_is_not_there_is_one_line(gateway):
    done = run("replay", "/nowhere/file.ndjson", "--channel", "tram_{id}", "--to", gateway().url)
    assert done.returncode in (1, 2)
    assert b"/nowhere/file.ndjson" in done.stderr


def recording(tmp_path, rows):
    path = tmp_path / "recording.ndjson"
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    return path


def test_a_recording_is_replayed_line_by_line(gateway, tmp_path):
    g = gateway()
    rows = [{"ts": 1000 + i * 10, "id": i % 3, "text": f"Łódź {i}"} for i in range(30)]
    clients = [WebSocket(g, f"/ws/tram_{i}") for i in range(3)]
    done = run("replay", recording(tmp_path, rows), "--channel", "tram_{id}", "--speed", 10, "--to",
               g.url)
    assert done.returncode == 0, done
    assert b"30" in done.stdout + done.stderr
    for i, client in enumerate(clients):
        for row in rows[i::3]:
            assert client.payload() == json.dumps(row, separators=(",", ":")).encode()


def test_a_recording_keeps_its_pace(gateway, tmp_path):
    """Not faster than recorded; how much slower is the machine's affair."""
    g = gateway()
    rows = [{"ts": i * 100, "id": 1} for i in range(11)]
    started = harness.time.monotonic()
    done = run("replay", recording(tmp_path, rows), "--channel", "t{id}", "--speed", 2, "--to", g.url)
    assert done.returncode == 0
    assert harness.time.monotonic() - started >= 0.49


@pytest.mark.parametrize("workers", [1, 2])
def test_the_recorded_fleet_arrives_through_redis(gateway, shared_redis, check, tmp_path, workers):
    """300 clients spread over the vehicles and 20 on the whole fleet: every message, in order, byte
    for byte."""
    needs(harness.DATA.exists(), f"the recording {harness.DATA} (TRAMLINE_DATA)")
    expect = tmp_path / "expect"
    with open(harness.DATA, "rb") as f, open(expect, "wb") as out:
        count = 0
        for line in f:
            out.write(b"tram_%d\t%s\n" % (json.loads(line)["id"], line.rstrip(b"\n")))
            count += 1
    assert count == 56021
    g = gateway("--redis", shared_redis.url, "--workers", workers, "--pattern", "fleet tram_*",
                "--log-messages", "100000", "--log-bytes", "64MiB")
    process = check(g, "--expect", expect, "--publish", "none", "--ws", 150, "--sse", 150,
                    "--aggregate", "fleet", "--aggregate-ws", 10, "--aggregate-sse", 10,
                    deadline=240).ready()
    done = run("replay", harness.DATA, "--channel", "tram_{id}", "--speed", 600, "--to",
               shared_redis.url, deadline=240)
    assert done.returncode == 0, done
    result = process.verify()
    assert result["complete"] == 320
    assert result["deliveries"] > 20 * 56021
