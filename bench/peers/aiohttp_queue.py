#!/usr/bin/python3
"""aiohttp with a queue per client: what the answers to the question recommend.

One Redis subscription a channel fills the queue of each of its clients; each client's handler sends
from its own. usage: aiohttp_queue.py PORT REDIS_PORT
"""

import asyncio
import sys

import redis.asyncio
import uvloop
from aiohttp import web


class Fan:
    def __init__(self, port):
        self.redis = redis.asyncio.Redis(port=port)
        self.pubsub = self.redis.pubsub()
        self.channels = {}
        self.wake = asyncio.Event()

    async def read(self):
        await self.wake.wait()
        while True:
            message = await self.pubsub.get_message(timeout=None)
            if message is None or message["type"] not in ("message", "pmessage"):
                continue
            name = "all" if message["pattern"] else message["channel"].decode()
            text = message["data"].decode()
            for queue in self.channels.get(name, ()):
                queue.put_nowait(text)

    async def subscribe(self, name):
        if name not in self.channels:
            self.channels[name] = set()
            if name == "all":
                await self.pubsub.psubscribe("bench*")
            else:
                await self.pubsub.subscribe(name)
            self.wake.set()
        queue = asyncio.Queue()
        self.channels[name].add(queue)
        return queue

    async def websocket(self, request):
        name = request.match_info["channel"]
        ws = web.WebSocketResponse(compress=False)
        queue = await self.subscribe(name)
        await ws.prepare(request)
        sender = asyncio.create_task(self.send(ws, queue))
        try:
            async for _ in ws:
                pass
        finally:
            self.channels[name].discard(queue)
            sender.cancel()
        return ws

    async def send(self, ws, queue):
        while True:
            await ws.send_str(await queue.get())


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
