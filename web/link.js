/*
 * The page's one connection in words: it joins the stream with what positions prove, and tells the
 * pill of the header and the log of notices. Messages it only passes on.
 */
import { Continuity } from './continuity.js';
import { byTest, setText } from './dom.js';
import { EventStream } from './stream.js';
import { count, plural } from './words.js';

const DROP_MS = 3000;

const PILL = {
  connecting: 'Connecting',
  live: 'Live',
  retrying: 'Reconnecting',
  dropped: 'Dropped',
  'broker-down': 'Broker down',
  stopped: 'Stopped',
};

export class Link {
  /* onMessage(message); onGap() when one was told; onLive() with each confirmed subscription. */
  constructor(url, { notices, onMessage, onGap, onLive }) {
    this.notices = notices;
    this.onGap = onGap;
    this.onLive = onLive;
    this.broker = 'up';
    this.continuity = new Continuity();
    this.lastState = '';
    this.stream = new EventStream(url, {
      onState: (state) => this.become(state),
      onAcknowledged: (start) => this.acknowledged(start),
      onCaughtUp: (replayed) => this.caughtUp(replayed),
      onMessage: (message) => {
        this.continuity.message(message);
        onMessage(message);
      },
      onGap: (gap) => this.gap(gap),
      onBroker: (notice) => this.tellBroker(notice),
    });
    byTest('drop').addEventListener('click', () => this.drop());
    addEventListener('online', () => this.stream.hurry());
  }

  start() {
    this.stream.start();
  }

  drop() {
    this.notices.add('info', 'connection dropped by you, back in 3 s');
    this.stream.drop(DROP_MS);
  }

  become(state) {
    if (state === 'retrying') {
      this.broker = 'up'; // the next connection will say
      if (this.lastState !== 'dropped') this.notices.add('warn', 'connection lost, reconnecting');
    }
    this.lastState = state;
    byTest('drop').disabled = state === 'dropped';
    this.show();
  }

  show() {
    const { state } = this.stream;
    const own = state === 'dropped' || state === 'retrying';
    const shown = !own && this.broker === 'down' ? 'broker-down' : state;
    const pill = byTest('state');
    pill.dataset.state = shown;
    setText(pill.querySelector('[data-part="text"]'), PILL[shown]);
  }

  /* Now and then: the figures of the Connection tab. */
  refresh() {
    const { lastId, connects } = this.stream;
    setText(byTest('position'), lastId || '–');
    setText(byTest('connects'), plural(connects, 'time', 'times'));
  }

  acknowledged(start) {
    this.continuity.acknowledged(start);
    if (start.resumedFrom === '') this.notices.add('info', 'connected');
    this.onLive();
  }

  caughtUp(replayed) {
    const verdict = this.continuity.verdict(replayed);
    if (verdict) this.notices.add(verdict.kind === 'resumed' ? 'good' : 'warn', verdict.text);
  }

  gap(gap) {
    const beforeStart = this.stream.state !== 'live'; // then the verdict says it
    this.continuity.gap(gap, beforeStart);
    this.onGap();
    if (beforeStart) return;
    const size = gap.missed === null ? 'an unknown number of' : count(gap.missed);
    this.notices.add('warn', `gap told: ${size} messages missed (${gap.reason})`);
  }

  tellBroker({ state, reason }) {
    this.continuity.notice();
    this.broker = state;
    const words = {
      up: 'broker up again',
      down: 'broker down',
      refused: `refused: ${reason}`,
    };
    this.notices.add(state === 'up' ? 'good' : 'bad', words[state] ?? `broker: ${state}`);
    this.show();
  }
}
