// usage: node eventsource_client.mjs URL COUNT [EVENT...]
// npm's eventsource: prints "open", then each of COUNT events (messages, base64 events and those of
// the names given) as one JSON line {event, data, id}; then closes.
import { EventSource } from 'eventsource';

const [url, count, ...names] = process.argv.slice(2);
let left = Number(count);
const source = new EventSource(url);

function show(event) {
  console.log(JSON.stringify({ event: event.type, data: event.data, id: event.lastEventId }));
  left -= 1;
  if (left === 0) source.close();
}
source.addEventListener('open', () => console.log('open'));
source.addEventListener('error', (event) => console.log(JSON.stringify({ error: event.code ?? 0 })));
for (const name of ['message', 'base64', ...names]) source.addEventListener(name, show);
