"""What the tests share: servers with an end, waiting with a deadline, and plain clients.

Nothing here sleeps for a fixed time in the hope that something has happened: wait_for() looks
until it has, or fails when the deadline is over.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[2]
TRAMLINE = os.environ.get("TRAMLINE", str(ROOT / "build" / "tramline"))
TL_CHECK = os.environ.get("TL_CHECK", str(Path(TRAMLINE).resolve().parent / "tests/clients/tl-check"))
DATA = Path(os.environ.get("TRAMLINE_DATA", str(ROOT.parent / "shared/data/positions.ndjson")))
NODE = ROOT / "tests/clients/node"
# Under sanitizers and on loaded machines everything takes longer; this is for waiting only.
PATIENCE = float(os.environ.get("TRAMLINE_PATIENCE", "1"))
# Long, since only a failing test waits for it: what is right must not fail on a slow machine.
DEADLINE = max(60, 15 * PATIENCE)

SANITIZER = re.compile(
    rb"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehavior|runtime error:|Assertion")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def is_sanitized():
    """A sanitizer keeps what is freed, so the size of the process says nothing."""
    program = Path(TRAMLINE).read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


class TimeIsUp(AssertionError):
    pass


def wait_for(condition, what, deadline=None):
    """Return condition()'s first true value."""
    end = time.monotonic() + (deadline or DEADLINE)
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeIsUp(f"not in time: {what}")
        select.select([], [], [], pause)
        pause = min(pause * 1.5, 0.05)


def ports():
    """From below those that the kernel gives to outgoing connections: nobody else takes one between
    two servers of a test, and who connects to one that is closed does not meet itself. Each process
    of a run begins somewhere else."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    span = range(10000, lowest if lowest > 12000 else 32768)
    first = os.getpid() * 997 % len(span)
    while True:
        yield from span[first:]
        yield from span[:first]


PORTS = ports()


def free_port():
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def end_process(process, how=signal.SIGTERM, deadline=None):
    """Signal one process that we started and return its exit status."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(deadline or DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeIsUp(f"process {process.args[0]} did not end on {how!r}")
    return process.returncode


class Redis:
    """A real redis-server of our own on a free port."""

    def __init__(self, directory, *arguments, password=None, unix=None, port=None,
                 host="127.0.0.1", within=()):
        """within: words before the command, for a server in a network of its own at host."""
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.arguments = list(arguments)
        self.password = password
        self.unix = unix
        self.port = port or free_port()
        self.host, self.within = host, list(within)
        if password:
            self.arguments += ["--requirepass", password]
        if unix:
            self.arguments += ["--unixsocket", str(unix)]
        self.process = None
        self.start()

    @property
    def url(self):
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}{self.host}:{self.port}"

    def start(self, wait=True):
        log = open(self.directory / "redis.log", "ab")
        self.process = subprocess.Popen(
            [*self.within, "redis-server", "--port", str(self.port), "--bind", self.host, "--save", "",
             "--appendonly", "no", "--dir", str(self.directory), *self.arguments],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        self.client = redis.Redis(self.host, self.port, password=self.password,
                                  socket_timeout=DEADLINE)
        if wait:
            wait_for(self.answers, "redis-server answers")

    def answers(self):
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.thaw()
            end_process(self.process)

    def publish(self, channel, payload):
        return self.client.publish(channel, payload)

    def numsub(self, channel):
        return self.client.pubsub_numsub(channel)[0][1]

    def wait_subscribed(self, *channels):
        """A gateway is ready when its links are up; its channels are subscribed again after that."""
        wait_for(lambda: all(self.numsub(channel) == 1 for channel in channels),
                 f"{channels} are subscribed")

    def calls(self, command):
        """How often Redis executed the command since its start."""
        stats = self.client.info("commandstats").get(f"cmdstat_{command}")
        return stats["calls"] if stats else 0

    def subscribers(self):
        return [c for c in self.client.client_list() if int(c["sub"]) + int(c["psub"]) > 0]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class Gateway:
    """The gateway under test; ends by SIGTERM with exit 0 and without a sanitizer's word."""

    def __init__(self, directory, *arguments, ready=True, environment=None, command=None,
                 preexec=None, listen=True):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.out_path, self.err_path = self.directory / "stdout", self.directory / "stderr"
        self.args = list(command or [TRAMLINE, "serve"])
        if listen:
            self.args += ["--listen", "127.0.0.1:0"]
        self.args += [str(a) for a in arguments]
        if not command and "--drain" not in arguments:
            # Each test ends with a drain, often of clients that read no more.
            self.args += ["--drain", "100ms"]
        env = dict(os.environ, **(environment or {}))
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(self.args, stdout=out, stderr=err, env=env,
                                            stdin=subprocess.DEVNULL, preexec_fn=preexec)
        self.pid = self.process.pid
        self.port = None
        self.expected_exit = 0
        self.port = int(wait_for(self._banner_port, "the banner names the address").decode())
        if ready:
            self.wait_ready()

    def _banner_port(self):
        found = re.search(rb"http://[0-9.]+:([0-9]+)", self.output())
        if not found and self.process.poll() is not None:
            raise AssertionError(f"the gateway ended at once: {self.output() + self.errors()!r}")
        return found and found.group(1)

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.target}"

    def output(self):
        return self.out_path.read_bytes()

    def errors(self):
        return self.err_path.read_bytes()

    def log(self):
        return self.output() + self.errors()

    def wait_ready(self, deadline=None):
        wait_for(lambda: self.get("/readyz").status == 200, "readyz says 200", deadline)

    def wait_unready(self, deadline=None):
        wait_for(lambda: self.get("/readyz").status == 503, "readyz says 503", deadline)

    def request(self, method, path, body=None, headers=None, timeout=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                timeout=timeout or DEADLINE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def publish(self, channel, payload, **more):
        return self.request("POST", f"/pub/{channel}", body=payload, **more)

    def metrics(self):
        text = self.get("/metrics").body.decode()
        return {name: float(value) for name, value in
                re.findall(r"^tramline_(\w+)(?:\{[^}]*\})? ([-0-9.e+]+)$", text, re.M)}

    def metric(self, name):
        return self.metrics()[name]

    def wait_metric(self, name, value, deadline=None):
        """value: a number to reach exactly, or a predicate."""
        test = value if callable(value) else lambda v: v == value
        try:
            wait_for(lambda: test(self.metric(name)), name, deadline)
        except TimeIsUp:
            raise TimeIsUp(f"{name} is {self.metric(name)}, wanted {value}") from None

    def wait_acknowledged(self, channel):
        """The subscriptions of now are acknowledged. The question goes through each worker's mail, so a
        second one is answered behind what made the channel live."""
        def is_live():
            answer = self.get(f"/channels/{channel}")
            return answer.status == 200 and answer.json()["state"] == "live"

        wait_for(is_live, f"{channel} is live")
        assert is_live()

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self):
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self, deadline=None):
        return end_process(self.process, deadline=deadline)

    def finish(self):
        """What must hold at the end of every test."""
        alive = self.process.poll() is None
        status = self.terminate()
        found = SANITIZER.search(self.errors())
        assert not found, self.errors().decode(errors="replace")[-8000:]
        assert status == self.expected_exit, f"exit {status}, alive before: {alive}"


class Refused(Exception):
    def __init__(self, answer):
        super().__init__(repr(answer))
        self.answer = answer
        self.status = answer.status


class Ended(Exception):
    """The server closed: code is the WebSocket close code, or None without a close frame."""

    def __init__(self, code, reason=b""):
        super().__init__(f"closed with {code} {reason!r}")
        self.code, self.reason = code, reason


class Wire:
    """A socket that reads whole things."""

    def __init__(self, port, timeout=None, source=None, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(timeout or DEADLINE)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = b""
        self.dribble = False

    def send(self, data):
        if not self.dribble:
            self.sock.sendall(data)
            return
        for i in range(len(data)):
            self.sock.sendall(data[i:i + 1])

    def more(self):
        """Read once; False at the end of the stream."""
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            data = b""
        self.held += data
        return bool(data)

    def take(self, n):
        if n > len(self.held) and n > 262144:
            parts, have = [self.held], len(self.held)
            while have < n:
                data = self.sock.recv(1 << 20)
                if not data:
                    raise Ended(None)
                parts.append(data)
                have += len(data)
            self.held = b"".join(parts)
        while len(self.held) < n:
            if not self.more():
                raise Ended(None)
        data, self.held = self.held[:n], self.held[n:]
        return data

    def until(self, mark):
        while mark not in self.held:
            if not self.more():
                raise Ended(None)
        data, self.held = self.held.split(mark, 1)
        return data

    def at_end(self):
        """Wait for the end of the stream; what still came is in held."""
        while self.more():
            pass
        return True

    def answer(self, head_only=False):
        """One HTTP answer."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = http.client.HTTPMessage()
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name] = value.strip()
        body = b""
        if not head_only and "Content-Length" in headers:
            body = self.take(int(headers["Content-Length"]))
        return Answer(status, headers, body)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def header_lines(headers):
    return "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())


class WebSocket(Wire):
    """RFC 6455 by hand, able to send what no library would."""

    def __init__(self, gateway, path, headers=None, ask=True, **more):
        super().__init__(gateway.port, **more)
        self.gateway, self.path, self.headers = gateway, path, headers
        self.pings = 0
        if ask:
            self.ask()
            self.accepted()

    def ask(self):
        self.key = base64.b64encode(os.urandom(16))
        self.send((f"GET {self.path} HTTP/1.1\r\nHost: {self.gateway.target}\r\n"
                   "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   f"Sec-WebSocket-Key: {self.key.decode()}\r\n"
                   f"{header_lines(self.headers)}\r\n").encode("latin-1"))

    def accepted(self):
        answer = self.answer(head_only=False)
        if answer.status != 101:
            raise Refused(answer)
        expected = base64.b64encode(hashlib.sha1(self.key + GUID).digest()).decode()
        assert answer.headers["Sec-WebSocket-Accept"] == expected
        assert "Sec-WebSocket-Extensions" not in answer.headers
        self.response = answer

    @staticmethod
    def encode(opcode, payload=b"", fin=True, rsv=0, mask=b"\x37\xfa\x21\x3d", form=None):
        """form: 0, 2 or 8 bytes of extended length; None: the shortest."""
        n = len(payload)
        if form is None:
            form = 0 if n < 126 else 2 if n < 65536 else 8
        bit = 0x80 if mask else 0
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        head += {0: bytes([bit | n & 127]), 2: bytes([bit | 126]) + struct.pack(">H", n & 0xffff),
                 8: bytes([bit | 127]) + struct.pack(">Q", n)}[form]
        if not mask:
            return head + payload
        stretched = (mask * (n // 4 + 1))[:n]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
        return head + mask + masked.to_bytes(n, "big")

    def frame_out(self, opcode, payload=b"", **more):
        self.send(self.encode(opcode, payload, **more))

    def text(self, payload):
        self.frame_out(1, payload.encode() if isinstance(payload, str) else payload)

    def binary(self, payload):
        self.frame_out(2, payload)

    def frame(self):
        """(opcode, payload) of the next frame; checks what a server may send."""
        first, second = self.take(2)
        assert not first & 0x70, "reserved bits from the server"
        assert not second & 0x80, "a masked frame from the server"
        n = second & 127
        if n == 126:
            n, = struct.unpack(">H", self.take(2))
            assert n > 125
        elif n == 127:
            n, = struct.unpack(">Q", self.take(8))
            assert n > 65535
        payload = self.take(n)
        assert first & 0x80, "a fragment from the server"
        return first & 15, payload

    def message(self, pong=True):
        """The next data message as (opcode, payload). Raises Ended on a close."""
        while True:
            opcode, payload = self.frame()
            if opcode == 9:
                self.pings += 1
                if pong:
                    self.frame_out(10, payload)
            elif opcode == 8:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise Ended(code, payload[2:])
            elif opcode != 10:
                if opcode == 1:
                    payload.decode()
                return opcode, payload

    def payload(self):
        return self.message()[1]

    def ended(self):
        """Read to the end: the close code and reason, None without a close frame."""
        try:
            while True:
                self.message()
        except Ended as e:
            return e

    def say_goodbye(self, code=1000):
        self.frame_out(8, struct.pack(">H", code))
        return self.ended()


class Event:
    def __init__(self, name, data, id_):
        self.name, self.data, self.id = name, data, id_

    @property
    def payload(self):
        """The published bytes."""
        if self.name == "base64" or self.name.endswith(";base64"):
            return base64.b64decode(self.data, validate=True)
        return self.data

    def __repr__(self):
        return f"Event({self.name!r}, {self.data[:80]!r}, {self.id!r})"


class Sse(Wire):
    """An event stream read as WHATWG's HTML says. Blocks with an id and no data come as events with
    the name "position"."""

    def __init__(self, gateway, path, headers=None, ask=True, **more):
        super().__init__(gateway.port, **more)
        self.gateway, self.path, self.headers = gateway, path, headers
        self.comments, self.retry, self.last_id = [], None, None
        self.text = b""
        if ask:
            self.ask()
            self.accepted()

    def ask(self):
        self.send((f"GET {self.path} HTTP/1.1\r\nHost: {self.gateway.target}\r\n"
                   f"Accept: text/event-stream\r\n{header_lines(self.headers)}\r\n")
                  .encode("latin-1"))

    def accepted(self):
        answer = self.answer()
        if answer.status != 200:
            raise Refused(answer)
        assert answer.headers["Content-Type"].split(";")[0] == "text/event-stream"
        self.chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.response = answer
        return answer

    def _more_text(self):
        if not self.chunked:
            if not self.held and not self.more():
                raise Ended(None)
            data, self.held = self.held, b""
        else:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            data = self.take(size)
            assert self.take(2) == b"\r\n"
            if size == 0:
                raise Ended(None)
        self.text += data

    def line(self):
        if b"\n" not in self.text:
            parts = [self.text]
            while b"\n" not in parts[-1]:
                self.text = b""
                self._more_text()
                parts.append(self.text)
            self.text = b"".join(parts)
        line, self.text = self.text.split(b"\n", 1)
        assert b"\r" not in line, "a raw CR in the stream"
        return line

    def event(self):
        """The next event or position block."""
        name, data, id_ = "message", [], None
        while True:
            line = self.line()
            if not line:
                if data:
                    return Event(name, b"\n".join(data), self.last_id)
                if id_ is not None:
                    return Event("position", b"", id_)
                continue
            field, _, value = line.partition(b":")
            value = value[1:] if value[:1] == b" " else value
            if not field:
                self.comments.append(value)
            elif field == b"event":
                name = value.decode()
            elif field == b"data":
                data.append(value)
            elif field == b"id":
                id_ = self.last_id = value.decode()
            elif field == b"retry":
                self.retry = int(value)

    def acked(self):
        event = self.event()
        assert event.name == "position", event
        return self

    def named(self, *names):
        """The next event with one of these names, skipping others."""
        while True:
            event = self.event()
            if event.name in names:
                return event

    def payload(self):
        event = self.event()
        assert event.name in ("message", "base64"), event
        return event.payload

    def ended(self):
        try:
            while True:
                self.event()
        except Ended:
            return True


class Check:
    """A tl-check process."""

    def __init__(self, gateway, *arguments, deadline=None):
        self.deadline = int((deadline or 120) * PATIENCE)
        self.args = [TL_CHECK, "--target", gateway.target, "--deadline", str(self.deadline),
                     "--server-pid", str(gateway.pid), *[str(a) for a in arguments]]
        self.process = subprocess.Popen(self.args, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.is_ready = False

    def ready(self):
        """Wait until all of its clients are acked."""
        readable, _, _ = select.select([self.process.stdout], [], [], self.deadline)
        line = self.process.stdout.readline() if readable else b""
        if line != b"ready\n":
            out, err = self.process.communicate()
            raise AssertionError(f"tl-check is not ready: {(line + out).decode()}\n{err.decode()}")
        self.is_ready = True
        return self

    def go(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def outcome(self):
        """Its report; not judged."""
        try:
            out, err = self.process.communicate(timeout=self.deadline + 30)
        except subprocess.TimeoutExpired:
            self.end()
            raise
        lines = out.decode().splitlines()
        assert lines and lines[-1].startswith("{"), f"tl-check: {out!r} {err!r}"
        return json.loads(lines[-1])

    def verify(self):
        result = self.outcome()
        assert result["ok"], result
        return result

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def made_payload(channel, k, size=128):
    """The same payload as tests/clients/payload.c makes."""
    head = f"{channel} {k} ".encode()
    return head + bytes(97 + (i * 7 + k) % 26 for i in range(len(head), max(size, len(head))))


def sha(payload):
    return hashlib.sha256(payload).hexdigest()


class Background(threading.Thread):
    """Run f in a thread; result() joins it and hands on its exception."""

    def __init__(self, f, *args):
        super().__init__(daemon=True)
        self.f, self.args, self.value, self.error = f, args, None, None
        self.start()

    def run(self):
        try:
            self.value = self.f(*self.args)
        except BaseException as e:  # handed on by result()
            self.error = e

    def result(self):
        self.join(DEADLINE)
        assert not self.is_alive(), "a background task hangs"
        if self.error:
            raise self.error
        return self.value
