"""A toy gateway with faults to order, for one purpose: to show that tl-check and `tramline bench`
notice each of them.

It speaks just enough HTTP, WebSocket and SSE for them.
"""

import asyncio
import base64
import hashlib
import sys

FAULTY = ("check", "check0")
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def ws_frame(payload):
    opcode = 0x81
    try:
        payload.decode()
    except UnicodeDecodeError:
        opcode = 0x82
    n = len(payload)
    if n < 126:
        head = bytes([opcode, n])
    elif n < 65536:
        head = bytes([opcode, 126]) + n.to_bytes(2, "big")
    else:
        head = bytes([opcode, 127]) + n.to_bytes(8, "big")
    return head + payload


def sse_block(position, payload):
    try:
        payload.decode()
        plain = b"\r" not in payload
    except UnicodeDecodeError:
        plain = False
    if plain:
        data = b"".join(b"data: " + line + b"\n" for line in payload.split(b"\n"))
    else:
        data = b"event: base64\ndata: " + base64.b64encode(payload) + b"\n"
    return b"id: %d\n" % position + data + b"\n"


class Toy:
    def __init__(self, fault):
        self.fault = fault
        self.channels = {}
        self.seen = 0
        self.kept = None

    def faulty(self, payload):
        """The payloads that the first client gets instead of this one."""
        self.seen += 1
        if self.seen != 5:
            if self.kept is not None and self.seen == 6:
                kept, self.kept = self.kept, None
                return [payload, kept]
            return [payload]
        if self.fault == "lose":
            return []
        if self.fault == "double":
            return [payload, payload]
        if self.fault == "corrupt":
            return [payload[:-1] + b"!"]
        if self.fault == "swap":
            self.kept = payload
            return []
        if self.fault == "foreign":
            return [payload.replace(b"check0", b"check1", 1)]
        if self.fault == "cut":
            return [payload[:-10]]
        if self.fault == "stray":  # a bench payload of another channel
            return [payload, payload[:12] + b"00000001" + payload[20:]]
        if self.fault == "invent":  # one that nobody published yet
            return [payload, payload[:20] + b"00ffffff" + payload[28:]]
        return [payload]

    def damage(self, kind, writer):
        """What breaks the first client's connection with the fifth message."""
        if self.seen != 5:
            return
        if self.fault == "close":
            writer.write(b"\x88\x02\x03\xe9" if kind == "ws" else b"")
            writer.close()
        if self.fault == "garbage":
            writer.write(b"\xf3" * 20)

    def publish(self, channel, payload):
        clients = self.channels.get(channel, [])
        for i, (kind, writer) in enumerate(clients):
            for out in self.faulty(payload) if i == 0 and channel in FAULTY else [payload]:
                self.position = getattr(self, "position", 0) + 1
                writer.write(ws_frame(out) if kind == "ws" else sse_block(self.position, out))
            if i == 0 and channel in FAULTY:
                self.damage(kind, writer)
        return len(clients)

    async def serve(self, reader, writer):
        mine = None
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                method, path, _ = lines[0].split(" ")
                fields = dict(x.lower().split(": ", 1) for x in lines[1:] if x)
                raw = dict(x.split(": ", 1) for x in lines[1:] if x)
                _, kind, channel = path.split("/")
                if self.fault == "refuse":
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                    break
                if self.fault == "silent" and method == "GET":
                    continue
                if method == "POST":
                    body = await reader.readexactly(int(fields["content-length"]))
                    answer = b'{"subscribers":%d,"position":"x"}' % self.publish(channel, body)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
                    writer.write(answer)
                    if self.fault == "chatter":
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                if kind == "ws":
                    accept = base64.b64encode(
                        hashlib.sha1((raw["Sec-WebSocket-Key"] + GUID).encode()).digest())
                    writer.write(b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: " + accept)
                    writer.write(b"\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                                 b"retry: 1000\n: hello\n\nid: 0\n\n")
                mine = (kind, writer)
                self.channels.setdefault(channel, []).append(mine)
                while await reader.read(65536):
                    pass
                break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for clients in self.channels.values():
                if mine in clients:
                    clients.remove(mine)
            writer.close()


async def main():
    toy = Toy(sys.argv[1] if len(sys.argv) > 1 else "")
    server = await asyncio.start_server(toy.serve, "127.0.0.1", 0, backlog=2000)
    print("http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
