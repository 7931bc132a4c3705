// usage: node ws_client.mjs URL COUNT [MESSAGE...]
// npm's ws: prints "open", then each of COUNT messages as one JSON line {type, base64}, after sending
// the MESSAGEs; then closes politely and prints {close: code}.
import WebSocket from 'ws';

const [url, count, ...messages] = process.argv.slice(2);
let left = Number(count);
const socket = new WebSocket(url);

socket.on('open', () => {
  console.log('open');
  for (const message of messages) socket.send(message);
  if (left === 0 && messages.length === 0) socket.close(1000, 'done');
});
socket.on('message', (data, isBinary) => {
  console.log(JSON.stringify({ type: isBinary ? 'binary' : 'text', base64: data.toString('base64') }));
  left -= 1;
  if (left === 0) socket.close(1000, 'done');
});
socket.on('unexpected-response', (request, response) => {
  console.log(JSON.stringify({ status: response.statusCode, retryAfter: response.headers['retry-after'] }));
  process.exit(0);
});
socket.on('error', (error) => console.error(String(error)));
socket.on('close', (code, reason) => {
  console.log(JSON.stringify({ close: code, reason: reason.toString() }));
});
