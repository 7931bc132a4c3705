/*
 * The pane that sets the usual code beside Tramline. It feeds the simulation with what arrives,
 * counts bursts on both sides, and shows only what was counted: one side simulated, the other real.
 */
import { NaiveFanout } from './naive.js';
import { byTest, el, setText } from './dom.js';
import { count, percent } from './words.js';

const READERS = 10;
const BURST = 200;
const AT_A_TIME = 4; // browsers allow six connections, and the stream has one
const NOBODY =
  'This gateway lets nobody publish from here: it listens on more than this computer, ' +
  'and publishing needs its token.';
const GIVE_UP = 5; // refusals in a row

/* {burst, n, of} of a burst's message, or null. */
export function readBurst(object) {
  const { burst, n, of } = object ?? {};
  const good = (v, most) => Number.isSafeInteger(v) && v >= 0 && v <= most;
  return good(burst, Number.MAX_SAFE_INTEGER) && good(of, 100000) && good(n, of - 1)
    ? { burst, n, of }
    : null;
}

export class Compare {
  constructor(continuity, publishUrl) {
    this.continuity = continuity;
    this.publishUrl = publishUrl;
    this.bars = Array.from({ length: READERS }, () => this.makeBar());
    this.real = this.makeBar();
    byTest('real-bars').append(this.real.item);
    byTest('naive-bars').append(...this.bars.map(({ item }) => item));
    byTest('burst-send').addEventListener('click', () => this.send());
    byTest('compare-reset').addEventListener('click', () => this.reset());
    document.addEventListener('visibilitychange', () => this.attend());
    this.reset();
  }

  makeBar() {
    const fill = el('span', { class: 'fill' });
    const label = el('span', { class: 'value' });
    return { item: el('li', {}, el('span', { class: 'track' }, fill), label), fill, label };
  }

  reset() {
    this.naive?.stop();
    this.burst = null; // the newest: {burst, of, real: Set, naive: per reader}
    this.naive = new NaiveFanout({
      readers: READERS,
      onDelivered: (reader, { burst }) => {
        if (burst && burst.burst === this.burst?.burst) this.burst.naive[reader]++;
      },
    });
    this.show();
  }

  /* Hidden pages get their timers late, which would make the simulated readers too slow. */
  attend() {
    this.away = document.hidden;
    if (!this.away) this.reset();
  }

  /* Every message of the stream, in its order; burst is what readBurst() made of it. */
  message(burst) {
    if (burst) this.count(burst);
    if (!this.away) this.naive.offer({ burst });
  }

  count({ burst, n, of }) {
    if (this.burst?.burst !== burst)
      this.burst = { burst, of, real: new Set(), naive: new Array(READERS).fill(0) };
    this.burst.real.add(n);
  }

  get figures() {
    const { burst, naive, continuity } = this;
    return {
      naive: naive.share,
      naiveReceived: [...naive.received],
      naiveExpected: naive.handedOut,
      real: continuity.share,
      burst: burst && {
        id: burst.burst,
        of: burst.of,
        real: burst.real.size,
        naive: [...burst.naive],
      },
    };
  }

  show() {
    const { naive, burst, continuity } = this;
    setText(byTest('naive-share'), percent(naive.share));
    setText(byTest('real-share'), percent(continuity.share));
    this.bars.forEach(({ fill, label }, reader) => {
      const share = naive.handedOut === 0 ? 0 : naive.received[reader] / naive.handedOut;
      fill.style.transform = `scaleX(${share.toFixed(4)})`;
      setText(label, `${count(naive.received[reader])}/${count(naive.handedOut)}`);
    });
    this.real.fill.style.transform = `scaleX(${continuity.share ?? 0})`;
    const expected = continuity.seen + continuity.holes + continuity.missed;
    setText(
      this.real.label,
      `${count(continuity.seen)}/${continuity.missedUnknown > 0 ? '?' : count(expected)}`,
    );
    setText(byTest('places'), count(continuity.seen));
    setText(byTest('holes'), count(continuity.holes));
    setText(
      byTest('gaps'),
      continuity.gaps === 0
        ? '0'
        : continuity.missedUnknown > 0
          ? `${continuity.gaps}, size unknown`
          : `${continuity.gaps}, ${count(continuity.missed)} missed`,
    );
    setText(byTest('doubled'), count(continuity.doubled));
    const [usual, ours] = byTest('verdict').querySelectorAll('b');
    setText(usual, percent(naive.share));
    setText(ours, percent(continuity.share));
    if (!burst) return;
    const mean = burst.naive.reduce((a, b) => a + b, 0) / READERS;
    setText(byTest('burst-naive'), `${Math.round(mean)}/${burst.of}`);
    setText(byTest('burst-real'), `${burst.real.size}/${burst.of}`);
  }

  async post(body) {
    try {
      const { status } = await fetch(this.publishUrl, { method: 'POST', body });
      return status;
    } catch {
      return 0;
    }
  }

  async send() {
    const button = byTest('burst-send');
    if (button.disabled) return;
    button.disabled = true;
    const burst = Math.floor(Math.random() * 2 ** 40);
    const refusals = new Map();
    let next = 0;
    let taken = 0;
    setText(byTest('burst-note'), 'Sending…');
    const worker = async () => {
      while (
        next < BURST &&
        (refusals.size === 0 || taken > 0 || [...refusals.values()].every((n) => n < GIVE_UP))
      ) {
        const status = await this.post(JSON.stringify({ burst, n: next++, of: BURST }));
        if (status >= 200 && status < 300) taken++;
        else refusals.set(status, (refusals.get(status) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    button.disabled = false;
    setText(byTest('burst-note'), this.outcome(taken, refusals));
  }

  outcome(taken, refusals) {
    if (refusals.size === 0) return `${count(taken)} messages were published.`;
    if (refusals.has(401) || refusals.has(403)) return NOBODY;
    const others = `${count(taken)} of ${BURST} messages were published`;
    if (refusals.has(0)) return `${others}; the gateway could not be reached for the rest.`;
    return `${others}; the rest was refused (${[...refusals.keys()].join(', ')}).`;
  }
}
