// ws with ioredis, as their own documentation recommends for speed: no compression, no list of
// clients of its own, one Redis subscription a channel, one text frame a client.
// usage: node ws_ioredis.mjs PORT REDIS_PORT
import http from 'node:http';
import Redis from 'ioredis';
import { WebSocketServer } from 'ws';

const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = new Redis({ host: '127.0.0.1', port: redisPort });
const channels = new Map(); // name -> Set of clients; 'all' gets everything
const server = http.createServer((_, response) => response.writeHead(404).end());
const wss = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false, skipUTF8Validation: true });

function fanOut(name, message) {
  for (const ws of channels.get(name) ?? []) ws.send(message);
}

redis.on('message', (channel, message) => fanOut(channel, message));
redis.on('pmessage', (_pattern, _channel, message) => fanOut('all', message));

server.on('upgrade', async (request, socket, head) => {
  const name = decodeURIComponent(request.url.slice('/ws/'.length));
  let clients = channels.get(name);
  if (!clients) {
    clients = new Set();
    clients.subscribed = name === 'all' ? redis.psubscribe('bench*') : redis.subscribe(name);
    channels.set(name, clients);
  }
  await clients.subscribed;
  wss.handleUpgrade(request, socket, head, (ws) => {
    clients.add(ws);
    ws.on('error', () => {});
    ws.on('close', () => {
      clients.delete(ws);
      if (clients.size > 0 || channels.get(name) !== clients) return;
      channels.delete(name);
      if (name === 'all') redis.punsubscribe('bench*');
      else redis.unsubscribe(name);
    });
  });
});

server.listen(port, '127.0.0.1', 65535);
