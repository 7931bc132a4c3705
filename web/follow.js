/*
 * Following one vehicle: a second connection, a raw WebSocket on the vehicle's own channel, and the
 * check that both connections see the same messages in the same order. It opens a socket and
 * counts; it shows nothing.
 *
 * The two start at different moments, so they are aligned first: the WebSocket's first message is
 * looked for among those that the stream brought since. From there, the nth must be the nth.
 */

const AGAIN_MS = 1500;
const WAITING_MAX = 2000; // messages of one side that wait for the other

const hex = (bytes) => `binary ${[...bytes].map((b) => b.toString(16).padStart(2, '0')).join('')}`;

/* Payloads that are bytes compare as text that no text payload of JSON is. */
export const comparable = (text, bytes) => (text === null ? hex(bytes) : text);

export class Comparison {
  constructor() {
    this.same = 0;
    this.total = 0;
    this.realign();
  }

  /* After a gap on either side: find a common start again. */
  realign() {
    this.aligned = false;
    this.stream = [];
    this.socket = [];
  }

  fromStream(payload) {
    this.stream.push(payload);
    this.compare();
  }

  fromSocket(payload) {
    this.socket.push(payload);
    this.compare();
  }

  compare() {
    if (this.socket.length > 0 && !this.aligned) {
      const start = this.stream.indexOf(this.socket[0]);
      if (start >= 0) {
        this.stream.splice(0, start);
        this.aligned = true;
      }
    }
    while (this.aligned && this.stream.length > 0 && this.socket.length > 0) {
      this.total++;
      if (this.stream.shift() === this.socket.shift()) this.same++;
    }
    if (this.stream.length + this.socket.length > WAITING_MAX) this.realign();
  }
}

export class Follower {
  /* onChange(this) when a state or a count moved. State: opening, open or lost. */
  constructor(channel, url, onChange, WebSocket = globalThis.WebSocket) {
    Object.assign(this, { channel, url, onChange, WebSocket });
    this.comparison = new Comparison();
    this.stopped = false;
    this.timer = null;
    this.open();
  }

  open() {
    this.state = 'opening';
    const socket = new this.WebSocket(this.url);
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.become('open');
    socket.onmessage = ({ data }) => {
      this.comparison.fromSocket(typeof data === 'string' ? data : hex(new Uint8Array(data)));
      this.onChange(this);
    };
    socket.onclose = () => {
      if (this.stopped) return;
      this.comparison.realign();
      this.become('lost');
      this.timer = setTimeout(() => this.open(), AGAIN_MS);
    };
  }

  become(state) {
    this.state = state;
    this.onChange(this);
  }

  /* A message of the stream, of whatever channel. */
  message({ channel, text, bytes }) {
    if (channel !== this.channel) return;
    this.comparison.fromStream(comparable(text, bytes));
    this.onChange(this);
  }

  gap() {
    this.comparison.realign();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.socket.onclose = this.socket.onmessage = this.socket.onopen = null;
    this.socket.close();
  }
}
