/*
 * One vehicle in words: what its last message says, how old it is, the message itself, and whether
 * a second connection sees the same. It shows what it is given and asks for nothing.
 */
import { byTest, el, paintBadge, setShown, setText } from './dom.js';
import { age, count, delay, heading, plural, speed, vehicleName } from './words.js';

const DASH = '–';

function destination(line, dir) {
  if (!line || (line.from === '' && line.to === '')) return '';
  if (dir === 0) return `to ${line.to}`;
  if (dir === 1) return `to ${line.from}`;
  return `${line.from} – ${line.to}`;
}

const svg = (d) => {
  const icon = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  icon.setAttribute('viewBox', '0 0 24 24');
  icon.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', d);
  icon.append(path);
  return icon;
};

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not a secure context, or not allowed
  }
}

export class Panel {
  /* onClose(), onFollow(vehicle or null). */
  constructor({ palette, lineOf, onClose, onFollow }) {
    Object.assign(this, { palette, lineOf, onClose, onFollow });
    this.host = byTest('panel');
    this.vehicle = null;
    this.follower = null;
    this.build();
  }

  build() {
    const fact = (name, label) => {
      const value = el('dd', { 'data-testid': `panel-${name}` }, DASH);
      this.facts[name] = value;
      return el('div', {}, el('dt', {}, label), value);
    };
    this.facts = {};
    this.badge = el('span', { class: 'badge large', 'data-testid': 'panel-line' });
    this.title = el('h2', { 'data-testid': 'panel-title' });
    this.route = el('p', { class: 'route', 'data-testid': 'panel-route' });
    this.close = el(
      'button',
      {
        type: 'button',
        class: 'button icon',
        'data-testid': 'panel-close',
        'aria-label': 'Close',
        onclick: () => this.onClose(),
      },
      svg('M6 6l12 12M18 6 6 18'),
    );
    this.follow = el(
      'button',
      {
        type: 'button',
        class: 'button strong',
        'data-testid': 'follow',
        'aria-pressed': 'false',
        onclick: () => this.onFollow(this.follower ? null : this.vehicle),
      },
      'Follow',
    );
    this.twin = el('p', { class: 'twin', 'data-testid': 'twin', hidden: true });
    this.raw = el('pre', {
      'data-testid': 'panel-raw',
      tabindex: '0',
      'aria-label': 'Last message',
    });
    this.copier = el(
      'button',
      {
        type: 'button',
        class: 'button small',
        'data-testid': 'copy',
        onclick: () => this.copyRaw(),
      },
      'Copy',
    );
    this.host.append(
      el(
        'div',
        { class: 'panel-head' },
        this.badge,
        el('div', {}, this.title, this.route),
        this.close,
      ),
      el(
        'dl',
        { class: 'facts tiles' },
        fact('speed', 'Speed'),
        fact('delay', 'Timetable'),
        fact('stop', 'Stop'),
        fact('doors', 'Doors'),
        fact('heading', 'Heading'),
        fact('age', 'Heard'),
      ),
      el('div', { class: 'follow' }, this.follow, this.twin),
      el('div', { class: 'raw-title' }, el('h3', {}, 'Last message'), this.copier),
      this.raw,
      el('p', { class: 'quiet', 'data-testid': 'panel-count' }),
    );
  }

  async copyRaw() {
    const done = await copy(this.vehicle?.raw ?? '');
    if (!done) getSelection().selectAllChildren(this.raw);
    setText(this.copier, done ? 'Copied' : 'Selected');
    setTimeout(() => setText(this.copier, 'Copy'), 1500);
  }

  /* null: nothing is selected. */
  show(vehicle) {
    this.vehicle = vehicle;
    setShown(this.host, vehicle !== null);
    if (vehicle) this.refresh(performance.now());
  }

  setFollower(follower) {
    this.follower = follower;
    setText(this.follow, follower ? 'Stop following' : 'Follow');
    this.follow.setAttribute('aria-pressed', String(follower !== null));
    this.showFollower();
  }

  showFollower() {
    const { follower } = this;
    setShown(this.twin, follower !== null);
    if (!follower) return;
    const { same, total } = follower.comparison;
    this.twin.dataset.tone = total > 0 && same < total ? 'bad' : total > 0 ? 'good' : '';
    const words = {
      opening: 'Opening a WebSocket of its own…',
      lost: 'The second connection is gone; opening it again…',
      open:
        total === 0
          ? 'Both connections are live; waiting for a message…'
          : `Two connections, identical: ${count(same)}/${count(total)}`,
    };
    setText(this.twin, words[follower.state]);
  }

  refresh(now) {
    const { vehicle, facts } = this;
    if (!vehicle) return;
    const { fix } = vehicle;
    const line = this.lineOf(vehicle.line);
    const late = delay(fix.delay);
    paintBadge(this.badge, vehicle.line, this.palette.of(vehicle.line));
    setText(this.title, vehicleName(line?.mode, vehicle.id));
    setText(this.route, destination(line, fix.dir));
    setText(facts.speed, speed(fix.spd) ?? DASH);
    setText(facts.delay, late?.text ?? DASH);
    facts.delay.dataset.tone = late?.tone ?? '';
    setText(facts.stop, fix.stop || DASH);
    setText(facts.doors, fix.doors === null ? DASH : fix.doors ? 'open' : 'closed');
    setText(facts.heading, heading(fix.hdg) ?? DASH);
    setText(facts.age, age(now - vehicle.receivedAt));
    facts.age.dataset.tone = vehicle.isGrey(now) ? 'late' : '';
    setText(this.raw, vehicle.raw);
    setText(
      byTest('panel-count'),
      `${plural(vehicle.fixes, 'message', 'messages')} on ${vehicle.channel || 'this channel'}`,
    );
  }
}
