// Socket.IO with its Redis adapter: a room a channel, WebSocket only, no compression. Its messages
// are its own, so publishing is a POST to this server, which emits to the room through the adapter.
// A client says "40" and is told "joined".  usage: node socketio.mjs PORT REDIS_PORT
import http from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import Redis from 'ioredis';
import { Server } from 'socket.io';

const [port, redisPort] = process.argv.slice(2).map(Number);
const publisher = new Redis({ host: '127.0.0.1', port: redisPort });
const subscriber = publisher.duplicate();
const server = http.createServer();
const io = new Server(server, {
  adapter: createAdapter(publisher, subscriber),
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
  pingInterval: 3600000, // the load generator speaks no Socket.IO
});

io.on('connection', (socket) => {
  socket.conn.request = null; // as "Memory usage" in its documentation recommends
  socket.join(socket.handshake.query.channel);
  socket.emit('joined');
});

server.on('request', (request, response) => {
  if (!request.url.startsWith('/pub/')) return;
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const name = decodeURIComponent(request.url.slice('/pub/'.length));
    io.to(name).to('all').emit('m', Buffer.concat(parts).toString());
    response.writeHead(200, { 'Content-Length': 2 }).end('{}');
  });
});

await Promise.all([publisher, subscriber].map((r) => r.status === 'ready' || new Promise((ok) => r.once('ready', ok))));
server.listen(port, '127.0.0.1', 65535);
