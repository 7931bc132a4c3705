/*
 * The vehicles in words: a listbox that says what the map shows, for keyboards and screen readers
 * and for finding one among hundreds. Arrows move, Enter chooses. Rows are made once per vehicle.
 */
import { byTest, el, paintBadge, setShown, setText } from './dom.js';
import { age, delay, natural, speed, vehicleName } from './words.js';

export class VehicleList {
  /* onChoose(vehicle); modeOf(line) is `tram`, `bus` and so on, or ''. */
  constructor({ palette, fleet, modeOf, onChoose }) {
    Object.assign(this, { palette, fleet, modeOf, onChoose });
    this.host = byTest('list');
    this.search = byTest('search');
    this.rows = new Map(); // id -> {item, parts}
    this.shown = []; // vehicles, in order
    this.active = null; // id
    this.visible = null;
    this.generation = -1;
    this.made = 0;
    this.search.addEventListener('input', () => this.arrange());
    this.search.addEventListener('keydown', (event) => {
      if (event.key !== 'ArrowDown' && event.key !== 'Enter') return;
      event.preventDefault();
      this.host.focus();
    });
    this.host.addEventListener('keydown', (event) => this.key(event));
    this.host.addEventListener('focus', () =>
      this.activate(this.active ?? this.shown[0]?.id ?? null),
    );
    this.host.addEventListener('click', (event) => {
      const id = event.target.closest('[role="option"]')?.dataset.id;
      if (id !== undefined && this.fleet.vehicles.has(id)) this.choose(id);
    });
  }

  setVisible(visible) {
    this.visible = visible;
    this.arrange();
  }

  /* Once a second, when it is looked at. */
  refresh(now) {
    if (this.generation !== this.fleet.generation) this.arrange();
    for (const vehicle of this.shown) this.write(vehicle, now);
  }

  matches(vehicle, words) {
    if (this.visible !== null && !this.visible.has(vehicle.line)) return false;
    if (words === '') return true;
    const { id, line, fix } = vehicle;
    return line.toLowerCase() === words || `${id} ${fix.stop ?? ''}`.toLowerCase().includes(words);
  }

  arrange() {
    this.generation = this.fleet.generation;
    const words = this.search.value.trim().toLowerCase();
    this.shown = [...this.fleet.vehicles.values()]
      .filter((vehicle) => this.matches(vehicle, words))
      .sort((a, b) => natural(a.line, b.line) || natural(a.id, b.id));
    for (const id of this.rows.keys()) if (!this.fleet.vehicles.has(id)) this.rows.delete(id);
    const now = performance.now();
    const items = this.shown.map((vehicle) => this.write(vehicle, now));
    this.host.replaceChildren(...items);
    setShown(byTest('none'), items.length === 0 && this.fleet.vehicles.size > 0);
    if (this.active !== null && !this.shown.some(({ id }) => id === this.active))
      this.activate(null);
  }

  make(vehicle) {
    const parts = {
      badge: el('span', { class: 'badge' }),
      name: el('span', { class: 'name' }),
      place: el('span', { class: 'place' }),
      delay: el('span', { class: 'delay' }),
    };
    const item = el(
      'li',
      {
        role: 'option',
        'aria-selected': 'false',
        'data-id': vehicle.id,
        id: `vehicle-${this.made++}`,
      },
      parts.badge,
      parts.name,
      parts.delay,
      parts.place,
    );
    const row = { item, parts, painted: null };
    this.rows.set(vehicle.id, row);
    return row;
  }

  write(vehicle, now) {
    const row = this.rows.get(vehicle.id) ?? this.make(vehicle);
    const { item, parts } = row;
    const { fix } = vehicle;
    if (row.painted !== vehicle.line) {
      row.painted = vehicle.line;
      paintBadge(parts.badge, vehicle.line, this.palette.of(vehicle.line));
      setText(parts.name, vehicleName(this.modeOf(vehicle.line), vehicle.id));
    }
    const grey = vehicle.isGrey(now);
    const late = delay(fix.delay);
    setText(
      parts.place,
      grey
        ? `last heard ${age(now - vehicle.receivedAt)}`
        : [fix.stop, speed(fix.spd)].filter(Boolean).join(' · '),
    );
    setText(
      parts.delay,
      late === null || grey ? '' : late.tone === 'good' ? 'on time' : late.short,
    );
    parts.delay.dataset.tone = late?.tone ?? '';
    item.classList.toggle('grey', grey);
    return item;
  }

  activate(id) {
    this.rows.get(this.active)?.item.classList.remove('active');
    this.active = id;
    const item = this.rows.get(id)?.item;
    if (!item) {
      this.host.removeAttribute('aria-activedescendant');
      return;
    }
    item.classList.add('active');
    this.host.setAttribute('aria-activedescendant', item.id);
    this.reveal(item);
  }

  /* Not scrollIntoView(): that would scroll the page behind a sheet, too. */
  reveal(item) {
    const { host } = this;
    const top = item.offsetTop - host.offsetTop;
    if (top < host.scrollTop) host.scrollTop = top;
    else if (top + item.offsetHeight > host.scrollTop + host.clientHeight)
      host.scrollTop = top + item.offsetHeight - host.clientHeight;
  }

  /* Show which one is selected; null for none. */
  select(id) {
    for (const [other, { item }] of this.rows)
      item.setAttribute('aria-selected', String(other === id));
    if (id !== null) this.activate(id);
  }

  choose(id) {
    this.activate(id);
    this.onChoose(this.fleet.vehicles.get(id));
  }

  key(event) {
    const at = this.shown.findIndex(({ id }) => id === this.active);
    const last = this.shown.length - 1;
    const to = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: last,
      PageDown: at + 10,
      PageUp: at - 10,
    }[event.key];
    if (event.key === 'Enter' || event.key === ' ') {
      if (at >= 0) this.choose(this.active);
    } else if (to !== undefined && last >= 0) {
      this.activate(this.shown[Math.min(last, Math.max(0, to))].id);
    } else {
      return;
    }
    event.preventDefault();
  }

  repaint() {
    for (const row of this.rows.values()) row.painted = null;
    this.refresh(performance.now());
  }
}
