"""Storms of connects: nobody is refused, and the connected are served meanwhile (R3, R11)."""

import os
import resource
import select
import socket
import time

import pytest

import harness
from harness import Sse, WebSocket, Wire

HANDSHAKE = ("GET /ws/{} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
PAYLOAD = "{:016}"  # a frame of it has 18 bytes


def frames(first, last):
    return b"".join(b"\x81\x10" + PAYLOAD.format(i).encode() for i in range(first, last))


class Comer:
    """One of the storm, from its connect to its 101."""

    def __init__(self, number, port, request):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.bind((f"127.2.{number % 16}.1", 0))
        self.sock.connect_ex(("127.0.0.1", port))
        self.request, self.got = request, b""

    def step(self):
        """True: it has its whole answer now."""
        if self.request:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert error == 0, f"a connect failed: {os.strerror(error)}"
            assert self.sock.send(self.request) == len(self.request)
            self.request = None
            return False
        data = self.sock.recv(4096)
        assert data, f"ended after {self.got!r}"
        self.got += data
        if not self.got.endswith(b"\r\n\r\n"):
            return False
        assert self.got.startswith(b"HTTP/1.1 101 "), self.got
        return True


class Storm:
    """Turned by the test: all happens in its thread, so what it sees is in order. Watchers are looked
    at first: what a comer is told in the same turn may have been later."""

    def __init__(self, gateway, channel, total, at_once):
        self.gateway, self.total, self.at_once = gateway, total, at_once
        self.request = HANDSHAKE.format(channel, gateway.target).encode()
        self.poll = select.epoll()
        self.comers, self.watchers = {}, {}
        self.begun = self.done = 0

    def watch(self, client):
        client.sock.setblocking(False)
        self.watchers[client.sock.fileno()] = client
        self.poll.register(client.sock, select.EPOLLIN)

    def begin(self):
        comer = Comer(self.begun, self.gateway.port, self.request)
        self.begun += 1
        self.comers[comer.sock.fileno()] = comer
        self.poll.register(comer.sock, select.EPOLLOUT)

    def step(self):
        while self.begun < self.total and self.begun - self.done < self.at_once:
            self.begin()
        events = [fd for fd, _ in self.poll.poll(0.05, self.total + len(self.watchers))]
        for fd in events:
            if fd in self.watchers:
                self.watchers[fd].held += self.watchers[fd].sock.recv(65536)
        for fd in events:
            if fd in self.comers:
                self.comer_steps(fd, self.comers[fd])

    def comer_steps(self, fd, comer):
        if comer.step():
            self.done += 1
            self.poll.unregister(fd)
        elif comer.request is None:
            self.poll.modify(fd, select.EPOLLIN)

    def end(self):
        self.poll.close()
        for comer in self.comers.values():
            comer.sock.close()


def everybody_stays_connected(gateway, storm, channel):
    gateway.publish(channel, PAYLOAD.format(0))
    for comer in storm.comers.values():
        comer.sock.settimeout(harness.DEADLINE)
        assert comer.sock.recv(18, socket.MSG_WAITALL) == frames(0, 1)


def weather(storm, channel, watchers):
    """One message after the other for as long as it storms. Returns how many there were, and by how
    many connects the storm went on at most until all watchers had one."""
    post = Wire(storm.gateway.port)
    said, longest = 0, 0
    end = time.monotonic() + 3 * harness.DEADLINE
    while storm.done < storm.total:
        post.send(f"POST /pub/{channel} HTTP/1.1\r\nHost: {storm.gateway.target}\r\n"
                  f"Content-Length: 16\r\n\r\n{PAYLOAD.format(said)}".encode())
        said, before = said + 1, storm.done
        while min(len(w.held) for w in watchers) < said * 18:
            assert time.monotonic() < end, f"{storm.done} of {storm.total} in time"
            storm.step()
        longest = max(longest, storm.done - before)
        storm.step()
    assert [post.answer().status for _ in range(said)] == [200] * said
    post.close()
    return said, longest


@pytest.mark.parametrize("total, at_once", [
    (2000, 250),
    pytest.param(15000, 1000, marks=pytest.mark.soak),
    pytest.param(15000, 15000, marks=pytest.mark.soak),
])
def test_a_storm_of_connects_neither_fails_nor_stalls_delivery(gateway, channel, workers, total,
                                                               at_once):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    g = gateway("--workers", workers, "--max-connections-per-address", 0, "--ping", "1h")
    watchers = [WebSocket(g, f"/ws/{channel}") for _ in range(10)]
    sse = Sse(g, f"/sse/{channel}").acked()
    storm = Storm(g, f"{channel}_storm", total, at_once)
    for watcher in watchers:
        storm.watch(watcher)
    said, longest = weather(storm, channel, watchers)
    assert all(w.held == frames(0, said) for w in watchers)
    assert [sse.payload() for _ in range(said)] == [PAYLOAD.format(i).encode() for i in range(said)]
    # One worker serves all in turn: who was on the way when a message came may go before it, and
    # once more who came until it was read. Others serve their own at a pace of their own.
    if workers == 1:
        assert longest <= 3 * at_once, f"{longest} connects went before a message"
    everybody_stays_connected(g, storm, f"{channel}_storm")
    assert g.metric("connections_refused_total") == 0
    storm.end()
