"""A scripted Redis, for what a real one cannot be made to do: hold a confirmation back, answer a
given error at a given step, fall silent in the middle of a reply."""

import socket
import threading

from harness import wait_for


def bulk(data):
    data = data if isinstance(data, bytes) else str(data).encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*items):
    return b"*%d\r\n" % len(items) + b"".join(
        b":%d\r\n" % i if isinstance(i, int) else bulk(i) for i in items)


class Link:
    """One accepted connection."""

    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.channels, self.patterns = set(), set()
        self.open = True
        self.lock = threading.RLock()
        self.waiting = []  # [command or None, bytes]: what a held answer keeps back behind it

    def send(self, data, command=None):
        """Answers and messages go out in order, so what comes after a held answer waits too."""
        with self.lock:
            self.waiting.append((command, data))
            self.drain()

    def drain(self):
        with self.lock:
            while self.waiting and self.waiting[0][0] not in self.server.held:
                try:
                    self.sock.sendall(self.waiting.pop(0)[1])
                except OSError:
                    pass

    def close(self):
        self.open = False
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def count(self):
        return len(self.channels) + len(self.patterns)

    def run(self):
        reader = self.sock.makefile("rb")
        try:
            greeting = self.server.greeting
            if greeting:
                self.send(greeting)
                self.close()
                return
            while True:
                line = reader.readline()
                if not line:
                    break
                args = []
                for _ in range(int(line[1:])):
                    n = int(reader.readline()[1:])
                    args.append(reader.read(n + 2)[:-2])
                self.server.on_command(self, [args[0].upper(), *args[1:]])
        except (OSError, ValueError):
            pass
        self.open = False
        self.server.links.remove(self)


class FakeRedis:
    def __init__(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.commands, self.links = [], []
        self.answers = {}      # command -> bytes, or list of bytes for one time each
        self.held = set()      # commands whose answers are kept back
        self.silent = False    # swallow everything
        self.greeting = None   # say this to whoever connects, and close
        self.connects = 0
        self.lock = threading.RLock()
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connects += 1
            link = Link(self, sock)
            self.links.append(link)
            threading.Thread(target=link.run, daemon=True).start()

    def on_command(self, link, args):
        with self.lock:
            self.commands.append(args)
            if self.silent:
                return
            name = args[0]
            answer = self.answers.get(name)
            if isinstance(answer, list):
                answer = answer.pop(0) if answer else None
            if answer is None:
                answer = self.usual(link, args)
            link.send(answer, name)

    def usual(self, link, args):
        name = args[0]
        if name in (b"SUBSCRIBE", b"PSUBSCRIBE"):
            kept = link.channels if name == b"SUBSCRIBE" else link.patterns
            out = b""
            for channel in args[1:]:
                kept.add(channel)
                out += array(name.lower(), channel, link.count())
            return out
        if name in (b"UNSUBSCRIBE", b"PUNSUBSCRIBE"):
            kept = link.channels if name == b"UNSUBSCRIBE" else link.patterns
            out = b""
            for channel in args[1:]:
                kept.discard(channel)
                out += array(name.lower(), channel, link.count())
            return out
        if name == b"PING":
            return array(b"pong", b"") if link.count() else b"+PONG\r\n"
        if name == b"PUBLISH":
            return b":%d\r\n" % self.push(args[1], args[2])
        if name == b"HELLO":
            return b"-ERR unknown command 'HELLO'\r\n"
        if name == b"CLIENT" and len(args) > 1 and args[1].upper() == b"ID":
            return b":7\r\n"
        return b"+OK\r\n"

    def push(self, channel, payload):
        """Deliver a message as Redis would; returns the receivers."""
        channel = channel if isinstance(channel, bytes) else channel.encode()
        payload = payload if isinstance(payload, bytes) else payload.encode()
        n = 0
        with self.lock:  # a SUBSCRIBE that is counted is also done
            for link in list(self.links):
                if channel in link.channels:
                    link.send(array(b"message", channel, payload))
                    n += 1
        return n

    def subscribed(self, channel):
        """The link on which the channel is subscribed."""
        return wait_for(lambda: next((x for x in list(self.links) if channel.encode() in x.channels),
                                     None), f"{channel} is subscribed")

    def hold(self, name):
        """Keep the answers to this command, and whatever follows on its link, until release()."""
        with self.lock:
            self.held.add(name)

    def release(self, name):
        with self.lock:
            self.held.discard(name)
            for link in list(self.links):
                link.drain()

    def count(self, name, *first):
        with self.lock:
            return sum(1 for c in self.commands if c[0] == name and list(first) == c[1:1 + len(first)])

    def wait_for(self, name, *first, n=1):
        wait_for(lambda: self.count(name, *first) >= n, f"{n} {name} {first} on the wire")

    def drop_links(self):
        for link in list(self.links):
            link.close()

    def stop(self):
        # Closing alone does not end accept(), which may go on with the next fake's listener, under
        # the same number.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        self.drop_links()
