"""A bad network between the gateway and Redis: a relay that delays, swallows, stalls and cuts."""

import dataclasses
import queue
import re
import select
import socket
import struct
import threading
import time

ROLE = re.compile(rb"tramline-\d+-(\w+)")


@dataclasses.dataclass(frozen=True)
class Cut:
    """What is read next on a link of that role, once mark stands in it, is cut short."""

    how: str   # "end" or "reset"
    role: str  # as the gateway's name for the link ends
    mark: bytes
    place: float | None = None  # of what was read, 0 to 1; without, within its last message

    def within(self, data):
        if self.place is not None:
            return max(1, min(len(data) - 1, int(len(data) * self.place)))
        start = data.rfind(self.mark) + len(self.mark)
        return start + (len(data) - start) // 2


class Direction:
    """One way of a link: what is read from one socket is written to the other when it is due."""

    def __init__(self, link, source, sink, carries_messages):
        self.link, self.source, self.sink = link, source, sink
        self.carries_messages = carries_messages
        self.due = queue.Queue()
        for run in (self.read, self.write):
            threading.Thread(target=run, daemon=True).start()

    def read(self):
        proxy = self.link.proxy
        while True:
            if self.carries_messages:
                proxy.reading.wait()
            data = self.some()
            if self.link.swallows:
                if not data:
                    return  # not even the end gets through
                continue
            self.note_role(data)
            cut = self.carries_messages and proxy.cut
            if cut and cut.role == self.link.role and cut.mark in data:
                proxy.cut = None
                self.due.put((0, data[:cut.within(data)]))
                self.due.put((0, cut.how))
                return
            self.due.put((time.monotonic() + proxy.latency, data or "end"))
            if not data:
                return

    def some(self):
        try:
            # Not blocked in recv(): that would keep close() from closing.
            while not select.select([self.source], [], [], 0.1)[0]:
                pass
            return self.source.recv(65536)
        except (OSError, ValueError):
            return b""

    def note_role(self, data):
        found = not self.carries_messages and not self.link.role and ROLE.search(data)
        if found:
            self.link.role = found[1].decode()

    def write(self):
        pause = threading.Event()
        while True:
            due, data = self.due.get()
            pause.wait(max(0, due - time.monotonic()))
            try:
                if isinstance(data, str):
                    self.link.close(reset=data == "reset")
                    return
                if not self.link.swallows:
                    self.sink.sendall(data)
            except OSError:
                return


class Link:
    def __init__(self, proxy, near, far):
        self.proxy, self.near, self.far = proxy, near, far
        self.swallows = proxy.swallows_new
        self.role = None
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Direction(self, near, far, False)
        Direction(self, far, near, True)

    def close(self, reset=False):
        if reset:
            self.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for sock in (self.near, self.far):
            try:
                # Unread and without a goodbye, close() resets.
                if not (reset and sock is self.near):
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


class Proxy:
    """Listens on a port of its own for the one given."""

    def __init__(self, port):
        self.far_port = port
        self.latency = 0.0             # seconds, each way
        self.swallows_new = False      # links to come carry nothing
        self.cut = None                # a Cut, once
        self.reading = threading.Event()  # cleared: nothing is read from Redis
        self.reading.set()
        self.links = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket()
            # So that what a stalled link holds stands in Redis' buffers, not in ours.
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            try:
                far.connect(("127.0.0.1", self.far_port))
            except OSError:
                near.close()
                continue
            self.links.append(Link(self, near, far))

    def swallow(self, also_new=False):
        """Every link stays open and carries nothing any more, in both directions."""
        self.swallows_new = also_new
        for link in self.links:
            link.swallows = True

    def stop(self):
        self.listener.close()
        self.swallows_new = False
        self.reading.set()
        for link in self.links:
            link.close()
