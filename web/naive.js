/*
 * The usual code, simulated: what happens when the readers of a channel share one queue through
 * one future, as the accepted answer to the question does that Tramline began with. It is fed with
 * the messages of the real stream and touches neither the network nor the page; time and chance are
 * its caller's, so that a test can own them.
 *
 *   next():  somebody waits for the queue already?  then wait for what he gets.
 *            else be the one: leave a promise for the others, take from the queue, withdraw the
 *            promise, keep it to those who came in time, and go and send.
 *
 * So a message reaches those who wait at that moment. Who is still sending the one before never
 * hears of it, and a burst, which fills the queue, is dealt out like cards: each message to one.
 */

/* A small generator of fixed seed (mulberry32): the same run on every screen. */
export function chance(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function promised() {
  const p = {};
  p.promise = new Promise((resolve) => {
    p.resolve = resolve;
  });
  return p;
}

const QUEUE_MAX = 10000; // a page that lags for long loses the oldest, as a broker would

class Queue {
  constructor() {
    this.items = [];
    this.waiting = null; // one at most: the leader
  }

  put(item) {
    if (this.waiting) {
      const { resolve } = this.waiting;
      this.waiting = null;
      resolve(item);
    } else if (this.items.push(item) > QUEUE_MAX) {
      this.items.shift();
    }
  }

  wait() {
    this.waiting = promised();
    return this.waiting.promise;
  }
}

export class NaiveFanout {
  /*
   * later(ms, run) runs once after ms; random() is in [0, 1); onDelivered(reader, message) is
   * told of each message that a reader takes.
   */
  constructor({
    readers = 10,
    sendMs = [5, 60],
    random = chance(7),
    later = (ms, run) => setTimeout(run, ms),
    onDelivered = () => {},
  } = {}) {
    this.sendMs = sendMs;
    this.random = random;
    this.later = later;
    this.onDelivered = onDelivered;
    this.queue = new Queue();
    this.shared = null; // the promise that the leader left
    this.handedOut = 0; // messages taken from the queue: what every reader should have
    this.received = new Array(readers).fill(0);
    this.stopped = false;
    for (let r = 0; r < readers; r++) this.read(r);
  }

  offer(message) {
    this.queue.put(message);
  }

  stop() {
    this.stopped = true;
  }

  get share() {
    const should = this.handedOut * this.received.length;
    return should === 0 ? null : this.received.reduce((a, b) => a + b, 0) / should;
  }

  async next() {
    if (this.shared) return this.shared.promise;
    const mine = promised();
    this.shared = mine;
    // What is in the queue is taken at once, with nobody else getting a turn in between.
    const message =
      this.queue.items.length > 0 ? this.queue.items.shift() : await this.queue.wait();
    this.shared = null;
    this.handedOut++;
    mine.resolve(message);
    return message;
  }

  async read(reader) {
    const [least, most] = this.sendMs;
    while (!this.stopped) {
      const message = await this.next();
      if (this.stopped) return;
      this.received[reader]++;
      this.onDelivered(reader, message);
      const ms = least + (most - least) * this.random();
      await new Promise((resolve) => {
        this.later(ms, resolve);
      });
    }
  }
}
