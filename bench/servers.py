"""The servers that are compared: how each is started, and how it wants to be spoken to."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVER_CORE, GENERATOR_CORE = "0", "1"
PYTHON = "/usr/bin/python3"  # Debian's, which has the packages


class CannotStart(Exception):
    pass


@dataclass
class Server:
    """What is fixed about one. {port}, {redis} and {dir} in the command are filled in."""
    name: str
    command: list
    kind: str = "peer"  # or "tramline", "floor"
    redis: bool = False  # needs one
    publish: str = "http"  # through the server, or "redis"
    ws: str = "/ws/{channel}"
    sse: str = None
    everything: str = None  # a path on which one subscriber gets all channels
    resume: str = None  # where a WebSocket comes back with ?since= and received=
    resume_sse: str = None  # and an event stream with Last-Event-ID
    options: list = field(default_factory=list)  # of the load generator, for WebSockets
    everything_options: list = None  # instead of them, there
    sse_options: list = field(default_factory=list)
    redis_options: list = field(default_factory=list)
    config: str = None  # a template beside this file, becomes {dir}/config
    workers_are_children: bool = False


def tramline(program, name, engine, workers, redis=False):
    command = [program, "serve", "--listen", "127.0.0.1:{port}", "--workers", str(workers),
               "--engine", engine, "--pattern", "all bench*", "--max-connections-per-address", "100000"]
    if redis:
        command += ["--redis", "redis://127.0.0.1:{redis}"]
    return Server(name, command, kind="tramline", redis=redis, publish="redis" if redis else "http",
                  sse="/sse/{channel}", everything="/ws/all", sse_options=["--ready", "id:"],
                  resume="/ws/{channel}", resume_sse="/sse/{channel}")


def tramline_streams(program, name, engine):
    """For the storms: with Streams, positions are looked up elsewhere."""
    server = tramline(program, name, engine, 1, redis=True)
    server.command += ["--channel", "bench*: source=stream"]
    server.redis_options = ["--notify-keyspace-events", "Kgt"]
    server.options, server.sse_options = ["--stream"], ["--stream", *server.sse_options]
    server.ws = server.sse = server.everything = None
    return server


def floor(program, name, how):
    return Server(name, [program, how, "{port}"], kind="floor", sse="/sse/{channel}",
                  everything="/ws/all")


def webdis_subscribe(command, channel):
    return ["--send", f'["{command}","{channel}"]', "--ready", f'"{command.lower()}"',
            "--header", "Origin: http://127.0.0.1"]  # it answers to browsers only


def peers():
    socketio = "/socket.io/?EIO=4&transport=websocket&channel="
    joined = ["--send", "40", "--ready", '["joined"']
    node = ["node", "--max-old-space-size=8192"]
    return [
        Server("Nchan", ["nginx", "-c", "{dir}/config", "-p", "{dir}"], config="nchan.conf",
               sse="/sse/{channel}", resume_sse="/sse/{channel}", workers_are_children=True),
        Server("ws + ioredis", [*node, f"{HERE}/peers/ws_ioredis.mjs", "{port}", "{redis}"], redis=True,
               publish="redis", everything="/ws/all"),
        Server("Socket.IO", [*node, f"{HERE}/peers/socketio.mjs", "{port}", "{redis}"], redis=True,
               ws=socketio + "{channel}", everything=socketio + "all", options=joined),
        Server("webdis", ["webdis", "{dir}/config"], config="webdis.json", redis=True, publish="redis",
               ws="/.json", everything="/.json", options=webdis_subscribe("SUBSCRIBE", "{channel}"),
               everything_options=webdis_subscribe("PSUBSCRIBE", "bench*")),
        Server("aiohttp, queues", [PYTHON, f"{HERE}/peers/aiohttp_queue.py", "{port}", "{redis}"],
               redis=True, publish="redis", everything="/ws/all"),
        Server("aiohttp, shared future", [PYTHON, f"{HERE}/peers/shared_future.py", "{port}", "{redis}"],
               redis=True, publish="redis"),
    ]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process, log, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    text = Path(log).read_text(errors="replace")[-500:]
    raise CannotStart(f"exit {process.poll()}: {text}")


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Running:
    """A server that runs, with its Redis; a context manager."""

    def __init__(self, server):
        self.server = server
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        self.directory.chmod(0o755)
        self.processes = []
        self.port = free_port()
        self.redis_port = free_port() if server.redis else 0

    def __enter__(self):
        try:
            if self.server.redis:
                self.redis = self.run(
                    ["redis-server", "--port", str(self.redis_port), "--save", "", "--appendonly", "no",
                     "--maxclients", "50000", "--tcp-backlog", "4096", "--bind", "127.0.0.1",
                     "--client-output-buffer-limit", "pubsub", "0", "0", "0",
                     *self.server.redis_options], self.redis_port)
            if self.server.config:
                self.configure()
            self.process = self.run([self.fill(word) for word in self.server.command], self.port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def fill(self, word):
        for name, value in (("{port}", self.port), ("{redis}", self.redis_port), ("{dir}", self.directory)):
            word = word.replace(name, str(value))
        return word

    def configure(self):
        text = (HERE / "peers" / self.server.config).read_text()
        for name, value in (("@PORT@", self.port), ("@REDIS@", self.redis_port), ("@DIR@", self.directory)):
            text = text.replace(name, str(value))
        (self.directory / "config").write_text(text)

    def run(self, command, port):
        log = self.directory / f"{len(self.processes)}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *command], stdout=out, stderr=out,
                                       stdin=subprocess.DEVNULL, cwd=HERE)
        self.processes.append(process)
        wait_port(port, process, log)
        return process

    def pids(self):
        """The server's own; those of Redis are not among them."""
        pid = self.process.pid
        if not self.server.workers_are_children:
            return [pid]
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                return [int(c) for c in children]
            time.sleep(0.02)
        raise CannotStart("no worker came")

    def redis_commands(self):
        """What its Redis has executed so far: calls by command."""
        if not self.server.redis:
            return {}
        text = subprocess.run(["redis-cli", "-p", str(self.redis_port), "info", "commandstats"],
                              capture_output=True, text=True, check=True).stdout
        return {name: int(calls) for name, calls in re.findall(r"cmdstat_(\S+?):calls=(\d+)", text)}

    def sends(self):
        """How often Tramline has called the kernel for messages; None of others."""
        if self.server.kind != "tramline":
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            return int(re.search(rb"^tramline_sends_total (\d+)", answer.read(), re.M)[1])

    def redis_pids(self):
        return [self.redis.pid] if self.server.redis else []

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.directory, ignore_errors=True)


def has_engine(program, engine):
    """Does the program run with it here? Older ones do not know the word."""
    try:
        with Running(tramline(program, "", engine, 1)) as running:
            log = (running.directory / "0.log").read_text(errors="replace")
            return re.search(rf"engine\s+{engine}", log) is not None
    except CannotStart:
        return False


def versions():
    """What runs, for the report."""
    def first_line(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
            return (done.stdout + done.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            return None

    def npm(package):
        file = HERE / "peers/node_modules" / package / "package.json"
        found = file.exists() and re.search(r'"version": "([^"]+)"', file.read_text())
        return f"{package} {found[1]}" if found else None

    def debian(package):
        version = first_line("dpkg-query", "-W", "-f", "${Version}\n", package)
        return f"{package} {version}" if version and "no packages" not in version else None

    found = [f"Linux {os.uname().release}", first_line("node", "--version"),
             *[debian(p) for p in ("libnginx-mod-nchan", "nginx", "webdis", "redis-server",
                                   "python3-aiohttp", "python3-redis", "python3-uvloop")],
             *[npm(p) for p in ("ws", "ioredis", "socket.io", "@socket.io/redis-adapter")]]
    return [f"node {v}" if v.startswith("v") else v for v in found if v]
