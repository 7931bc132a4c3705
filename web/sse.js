/*
 * The parser of Server-Sent Events (WHATWG HTML, "Server-sent events"), fed with decoded text cut
 * anywhere. EventSource cannot be used: it hides events whose name it was not told before, and the
 * fleet's events are named after their channels. Knows no connection, no clock and no payload.
 */

const EVENT_MAX = 48 * 1024 * 1024; // characters of a block; thrice the gateway's limit

export class SseParser {
  /*
   * onEvent({id, event, data}) for each event; event '' is what browsers call `message`.
   * onId(id) for a block that sets the id and dispatches nothing.
   */
  constructor({ onEvent, onId = () => {}, onRetry = () => {} }) {
    this.onEvent = onEvent;
    this.onId = onId;
    this.onRetry = onRetry;
    this.lastId = '';
    this.line = '';
    this.afterCr = false;
    this.atStart = true;
    this.openBlock();
  }

  openBlock() {
    this.nextId = null;
    this.event = '';
    this.data = [];
    this.dataSize = 0;
  }

  /* Throws a RangeError when a block is too big. */
  push(text) {
    let from = 0;
    if (text === '') return;
    if (this.atStart) {
      this.atStart = false;
      if (text.charCodeAt(0) === 0xfeff) from = 1;
    }
    if (this.afterCr && from < text.length) {
      this.afterCr = false;
      if (text[from] === '\n') from++;
    }
    const ends = /[\r\n]/g;
    for (;;) {
      ends.lastIndex = from;
      const end = ends.exec(text);
      if (!end) break;
      this.endLine(this.line + text.slice(from, end.index));
      this.line = '';
      from = end.index + 1;
      if (end[0] !== '\r') continue;
      if (from === text.length) this.afterCr = true;
      else if (text[from] === '\n') from++;
    }
    this.line += text.slice(from);
    if (this.line.length + this.dataSize > EVENT_MAX) throw new RangeError('event is too big');
  }

  endLine(line) {
    if (line === '') {
      this.dispatch();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    this.takeField(field, value);
  }

  takeField(field, value) {
    if (field === 'data') {
      this.data.push(value);
      this.dataSize += value.length + 1;
    } else if (field === 'event') {
      this.event = value;
    } else if (field === 'id') {
      if (!value.includes('\0')) this.nextId = value;
    } else if (field === 'retry') {
      if (/^[0-9]+$/.test(value)) this.onRetry(Number(value));
    }
  }

  dispatch() {
    const { nextId, event, data } = this;
    this.openBlock();
    if (nextId !== null) this.lastId = nextId;
    if (data.length > 0) this.onEvent({ id: this.lastId, event, data: data.join('\n') });
    else if (nextId !== null) this.onId(nextId);
  }
}

/* Undo the percent-encoding of names and ids; bytes that are not UTF-8 become U+FFFD. */
export function decodeName(name) {
  if (!name.includes('%')) return name;
  const bytes = [];
  const encoder = new TextEncoder();
  for (let i = 0; i < name.length;) {
    const code = /^%([0-9A-Fa-f]{2})/.exec(name.slice(i, i + 3));
    if (code) {
      bytes.push(parseInt(code[1], 16));
      i += 3;
    } else {
      const c = String.fromCodePoint(name.codePointAt(i));
      bytes.push(...encoder.encode(c));
      i += c.length;
    }
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}

function fromBase64(text) {
  const binary = atob(text);
  const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
  try {
    return {
      text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes),
      bytes: null,
    };
  } catch {
    return { text: null, bytes };
  }
}

function readJson(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' ? value : {};
  } catch {
    return {};
  }
}

/*
 * What an event of the gateway is (src/proto/sse.h):
 *   {kind: 'message', id, channel, text, bytes}  text, or bytes when they are not UTF-8
 *   {kind: 'gap', missed, reason}                missed null: unknown how many
 *   {kind: 'broker', state, reason}
 * `gap`, `broker` and `base64` mean this only as they are written: a channel of that name has its
 * first character encoded.
 */
export function readEvent({ id, event, data }) {
  if (event === 'gap') {
    const { missed, reason } = readJson(data);
    return {
      kind: 'gap',
      missed: Number.isSafeInteger(missed) ? missed : null,
      reason: String(reason ?? ''),
    };
  }
  if (event === 'broker') {
    const { state, reason } = readJson(data);
    return { kind: 'broker', state: String(state ?? ''), reason: String(reason ?? '') };
  }
  if (event !== 'base64' && !event.endsWith(';base64'))
    return { kind: 'message', id, channel: decodeName(event), text: data, bytes: null };
  const channel = event === 'base64' ? '' : decodeName(event.slice(0, -';base64'.length));
  try {
    return { kind: 'message', id, channel, ...fromBase64(data) };
  } catch {
    return { kind: 'message', id, channel, text: data, bytes: null };
  }
}
