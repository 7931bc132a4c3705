/* The line filter: one toggle for each line seen, none pressed means all are shown. */
import { byTest, el, paintBadge } from './dom.js';
import { natural } from './words.js';

const LINES_MAX = 150; // lines are what strangers say they are

export class Chips {
  /* onChange(Set of lines, or null for all). */
  constructor(palette, onChange) {
    this.palette = palette;
    this.onChange = onChange;
    this.host = byTest('chips');
    this.chosen = new Set();
    this.buttons = new Map();
    this.host.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    this.all = el(
      'button',
      {
        type: 'button',
        class: 'chip all',
        'aria-pressed': 'true',
        onclick: () => this.choose(null),
      },
      'All lines',
    );
  }

  get visible() {
    return this.chosen.size === 0 ? null : this.chosen;
  }

  /* A mouse has one wheel only. */
  wheel(event) {
    if (Math.abs(event.deltaY) <= Math.abs(event.deltaX)) return;
    event.preventDefault();
    this.host.scrollLeft += event.deltaY;
  }

  setLines(lines) {
    const wanted = [...lines]
      .filter((line) => line !== '')
      .sort(natural)
      .slice(0, LINES_MAX);
    if (wanted.length === this.buttons.size && wanted.every((line) => this.buttons.has(line)))
      return;
    for (const line of wanted) if (!this.buttons.has(line)) this.buttons.set(line, this.make(line));
    for (const line of this.buttons.keys()) {
      if (wanted.includes(line)) continue;
      this.buttons.delete(line);
      this.chosen.delete(line);
    }
    const focused = document.activeElement;
    this.host.replaceChildren(
      ...(wanted.length > 1 ? [this.all, ...wanted.map((line) => this.buttons.get(line))] : []),
    );
    if (this.host.contains(focused)) focused.focus();
  }

  make(line) {
    const badge = el('span', { class: 'badge' });
    paintBadge(badge, line, this.palette.of(line));
    return el(
      'button',
      {
        type: 'button',
        class: 'chip',
        'aria-pressed': 'false',
        'aria-label': `Line ${line}`,
        'data-line': line,
        onclick: () => this.choose(line),
      },
      badge,
    );
  }

  choose(line) {
    if (line === null) this.chosen.clear();
    else if (!this.chosen.delete(line)) this.chosen.add(line);
    if (this.chosen.size === this.buttons.size) this.chosen.clear();
    this.all.setAttribute('aria-pressed', String(this.chosen.size === 0));
    for (const [name, button] of this.buttons)
      button.setAttribute('aria-pressed', String(this.chosen.has(name)));
    this.onChange(this.visible);
  }

  repaint() {
    for (const [line, button] of this.buttons)
      paintBadge(button.firstElementChild, line, this.palette.of(line));
  }
}
