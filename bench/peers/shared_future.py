#!/usr/bin/python3
"""The question's accepted algorithm: the readers of a channel share one queue through one future.

Whoever waits first takes from the queue and leaves a future to those who come while it waits; who is
still sending meanwhile never hears of the message. It is here to show what that costs in messages.
usage: shared_future.py PORT REDIS_PORT
"""

import asyncio
import sys

import redis.asyncio
import uvloop
from aiohttp import web


class Channel:
    def __init__(self):
        self.queue = asyncio.Queue()
        self.shared = None

    async def next(self):
        if self.shared:
            return await asyncio.shield(self.shared)
        self.shared = mine = asyncio.get_running_loop().create_future()
        try:
            message = await self.queue.get()
            mine.set_result(message)
        finally:
            self.shared = None
            if not mine.done():
                mine.cancel()
        return message


class Fan:
    def __init__(self, port):
        self.pubsub = redis.asyncio.Redis(port=port).pubsub()
        self.channels = {}
        self.wake = asyncio.Event()

    async def read(self):
        await self.wake.wait()
        while True:
            message = await self.pubsub.get_message(timeout=None)
            if message is not None and message["type"] == "message":
                self.channels[message["channel"].decode()].queue.put_nowait(message["data"].decode())

    async def websocket(self, request):
        name = request.match_info["channel"]
        if name not in self.channels:
            self.channels[name] = Channel()
            await self.pubsub.subscribe(name)
            self.wake.set()
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        sender = asyncio.create_task(self.send(ws, self.channels[name]))
        try:
            async for _ in ws:
                pass
        finally:
            sender.cancel()
        return ws

    async def send(self, ws, channel):
        while True:
            await ws.send_str(await channel.next())


async def main():
    fan = Fan(int(sys.argv[2]))
    app = web.Application()
    app.router.add_get("/ws/{channel}", fan.websocket)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=65535).start()
    await fan.read()


uvloop.install()
asyncio.run(main())
