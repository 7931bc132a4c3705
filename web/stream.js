/*
 * One event stream of the gateway that stays: it connects, reads, and after any end connects again
 * with Last-Event-ID, later each time and never in step with others. It tells what it sees and
 * judges nothing: whether a reconnect lost messages is continuity.js's business.
 *
 * States: connecting, live (the gateway has confirmed the subscription), retrying, dropped (by
 * drop()), stopped.
 */
import { SseParser, readEvent } from './sse.js';

const RETRY_MS = 1000; // until the stream says otherwise
const RETRY_MAX_MS = 15000;
const SILENCE_MS = 60000; // the gateway sends a comment every 25 s
const CAUGHT_UP_MS = 25; // a pause of so long ends a replay,
const REPLAY_MAX_MS = 600; // and so does this, on streams that never pause

export class EventStream {
  /*
   * Handlers, all optional:
   *   onState(state)
   *   onAcknowledged({id, resumedFrom})  the start position; resumedFrom '' on a fresh start
   *   onCaughtUp(n)                      n messages came at once after a resume
   *   onMessage(message)                 as readEvent() makes it, with `replayed`
   *   onGap(gap), onBroker(notice)
   */
  constructor(
    url,
    handlers,
    { fetch = globalThis.fetch.bind(globalThis), random = Math.random } = {},
  ) {
    this.url = url;
    this.handlers = handlers;
    this.fetch = fetch;
    this.random = random;
    this.state = 'stopped';
    this.lastId = '';
    this.retryMs = RETRY_MS;
    this.failures = 0;
    this.connects = 0;
    this.controller = null;
    this.replayed = null; // messages since a resume, while they come at once
    this.timers = new Map();
  }

  start() {
    if (this.state !== 'stopped') return;
    this.connect('connecting');
  }

  stop() {
    this.end('stopped');
  }

  /* Cut the connection, and come back after ms. */
  drop(ms) {
    if (this.state === 'stopped') return;
    this.end('dropped');
    this.after('again', ms, () => this.connect('retrying'));
  }

  /* Come back now, as when the network does. */
  hurry() {
    if (this.state === 'retrying' && !this.controller) this.connect('retrying');
  }

  end(state) {
    for (const name of [...this.timers.keys()]) this.cancel(name);
    this.controller?.abort();
    this.controller = null;
    this.replayed = null;
    this.setState(state);
  }

  after(name, ms, run) {
    this.cancel(name);
    this.timers.set(
      name,
      setTimeout(() => {
        this.timers.delete(name);
        run();
      }, ms),
    );
  }

  cancel(name) {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }

  setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.tell('onState', state);
  }

  tell(handler, argument) {
    this.handlers[handler]?.(argument);
  }

  connect(state) {
    this.cancel('again');
    this.setState(state);
    const controller = new AbortController();
    this.controller = controller;
    this.watch();
    this.run(controller)
      .catch(() => {})
      .then(() => {
        if (this.controller === controller) this.retry();
      });
  }

  retry() {
    this.end('retrying');
    const wait = Math.min(RETRY_MAX_MS, this.retryMs * 1.6 ** this.failures);
    this.failures++;
    this.after('again', wait * (0.5 + this.random() / 2), () => this.connect('retrying'));
  }

  /* No byte for that long: the connection is dead, whatever TCP believes. */
  watch() {
    this.after('silence', SILENCE_MS, () => this.retry());
  }

  async run(controller) {
    const resumedFrom = this.lastId;
    const headers = { Accept: 'text/event-stream' };
    if (resumedFrom !== '') headers['Last-Event-ID'] = resumedFrom;
    this.connects++;
    const response = await this.fetch(this.url, {
      headers,
      cache: 'no-store',
      signal: controller.signal,
    });
    const type = response.headers.get('content-type') ?? '';
    if (!response.ok || !type.startsWith('text/event-stream')) {
      controller.abort();
      throw new Error(`answered ${response.status}`);
    }
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true }); // the parser takes the BOM away
    const parser = this.parser(resumedFrom, () => this.controller === controller);
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.controller !== controller) return;
      this.watch();
      parser.push(decoder.decode(value, { stream: true }));
      if (this.controller !== controller) return; // a handler dropped us
      if (this.replayed !== null) this.after('caught up', CAUGHT_UP_MS, () => this.caughtUp());
    }
  }

  parser(resumedFrom, isCurrent) {
    return new SseParser({
      onRetry: (ms) => {
        this.retryMs = Math.min(RETRY_MAX_MS, ms);
      },
      onId: (id) => {
        if (isCurrent()) this.acknowledged(id, resumedFrom);
      },
      onEvent: (event) => {
        if (isCurrent()) this.take(event);
      },
    });
  }

  acknowledged(id, resumedFrom) {
    this.lastId = id;
    this.failures = 0;
    this.tell('onAcknowledged', { id, resumedFrom });
    if (resumedFrom !== '') {
      this.replayed = 0;
      this.after('replay end', REPLAY_MAX_MS, () => this.caughtUp());
    }
    this.setState('live');
  }

  caughtUp() {
    this.cancel('caught up');
    this.cancel('replay end');
    const n = this.replayed;
    this.replayed = null;
    if (n !== null) this.tell('onCaughtUp', n);
  }

  take(raw) {
    const event = readEvent(raw);
    if (raw.id !== '') this.lastId = raw.id;
    if (event.kind === 'gap') {
      this.tell('onGap', { ...event, id: raw.id });
    } else if (event.kind === 'broker') {
      this.tell('onBroker', event);
    } else {
      event.replayed = this.replayed !== null;
      if (event.replayed) this.replayed++;
      this.tell('onMessage', event);
    }
  }
}
