/*
 * The figures of the header: messages a second with their last half minute, clients, latency. It
 * counts and shows; where the figures come from is told to it.
 */
import { byTest, setText } from './dom.js';
import { count, milliseconds } from './words.js';

const SECONDS = 31; // the last half minute, and the second that is not over
const LATENCY_WINDOW_MS = 8000;
const LATENCY_MAX_MS = 60000; // an older `ts` is of a recording
const CLOCKS_MS = 2000; // the publisher's clock may be ahead by so much
const SAMPLES_MAX = 4000;
const CLIENTS_MS = 2000;
const REFUSED_MS = 30000;

function quantile(sorted, q) {
  return sorted.length === 0
    ? null
    : sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

export class Meters {
  constructor() {
    this.buckets = new Array(SECONDS).fill(0); // by second, the open one last
    this.second = Math.floor(performance.now() / 1000);
    this.startedAt = performance.now();
    this.samples = []; // [when, latency]
    this.arrived = []; // ts of messages that no frame has shown yet
    this.rate = 0;
    this.p50 = this.p95 = null;
  }

  roll(now) {
    const second = Math.floor(now / 1000);
    const steps = Math.min(SECONDS, second - this.second);
    for (let i = 0; i < steps; i++) {
      this.buckets.shift();
      this.buckets.push(0);
    }
    this.second = second;
  }

  message(now) {
    this.roll(now);
    this.buckets[SECONDS - 1]++;
  }

  /* A position with its publisher's time came; the next frame shows it. */
  stamped(ts) {
    const latency = Date.now() - ts;
    if (latency > LATENCY_MAX_MS || latency < -CLOCKS_MS || document.hidden) return;
    if (this.arrived.length < SAMPLES_MAX) this.arrived.push(ts);
  }

  framed(now) {
    if (this.arrived.length === 0) return;
    const wall = Date.now();
    for (const ts of this.arrived) this.samples.push([now, Math.max(0, wall - ts)]);
    this.arrived.length = 0;
    if (this.samples.length > SAMPLES_MAX)
      this.samples.splice(0, this.samples.length - SAMPLES_MAX);
  }

  /* Twice a second is enough for people. */
  show(now) {
    this.roll(now);
    const seconds = Math.max(1, Math.min(3, Math.floor((now - this.startedAt) / 1000)));
    const recent = this.buckets.slice(SECONDS - 1 - seconds, SECONDS - 1);
    this.rate = recent.reduce((a, b) => a + b, 0) / seconds;
    setText(
      byTest('rate'),
      this.rate < 10 && this.rate > 0 ? this.rate.toFixed(1) : count(this.rate),
    );
    this.showSpark();
    this.samples = this.samples.filter(([at]) => now - at < LATENCY_WINDOW_MS);
    const sorted = this.samples.map(([, ms]) => ms).sort((a, b) => a - b);
    this.p50 = quantile(sorted, 0.5);
    this.p95 = quantile(sorted, 0.95);
    const both = `${milliseconds(this.p50).replace(' ms', '')} · ${milliseconds(this.p95)}`;
    setText(byTest('latency'), this.p50 === null ? '–' : both);
  }

  showSpark() {
    const known = Math.min(SECONDS - 1, Math.floor((performance.now() - this.startedAt) / 1000));
    const before = SECONDS - 1 - known;
    const done = this.buckets.slice(before, SECONDS - 1);
    const top = Math.max(1, ...done);
    if (known < 5) return;
    const points = done.map((n, i) => `${before + i + 0.5},${(19 - (17 * n) / top).toFixed(1)}`);
    const [area, edge] = byTest('spark').children;
    edge.setAttribute('d', `M${points.join('L')}`);
    area.setAttribute('d', `M${points.join('L')}L${SECONDS - 1.5},20L${before + 0.5},20Z`);
  }
}

function clientsOf(text) {
  let clients = null;
  for (const gauge of ['websocket_sessions', 'sse_sessions']) {
    const found = new RegExp(`^tramline_${gauge} (\\d+)$`, 'm').exec(text);
    if (found) clients = (clients ?? 0) + Number(found[1]);
  }
  return clients;
}

/* Ask the gateway's metrics for its clients, for as long as the page is looked at. */
export function watchClients(url) {
  const ask = async () => {
    let wait = CLIENTS_MS;
    let clients = null;
    try {
      const response = await fetch(url, { cache: 'no-store' });
      if (response.ok) clients = clientsOf(await response.text());
      else if (response.status === 401 || response.status === 403) wait = REFUSED_MS;
    } catch {
      // the pill says that there is no connection
    }
    setText(byTest('clients'), clients === null ? '–' : count(clients));
    setTimeout(next, wait);
  };
  const next = () => {
    if (!document.hidden) ask();
    else document.addEventListener('visibilitychange', next, { once: true });
  };
  next();
}
