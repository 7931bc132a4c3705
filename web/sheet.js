/*
 * The side of the page: its three tabs, and on narrow screens the sheet that is pulled up from the
 * bottom. What stands in the tabs is others' business.
 */
import { byTest } from './dom.js';

const SNAPS = ['peek', 'half', 'full'];
const FLICK_PX = 24;
const TABS = ['vehicles', 'compare', 'events'];

export class Sheet {
  /* onChange() when a tab or the height changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.side = byTest('side');
    this.grip = byTest('grip');
    this.tab = 'vehicles';
    this.tabs = TABS.map((name) => byTest(`tab-${name}`));
    this.tabs.forEach((tab, i) => {
      tab.addEventListener('click', () => {
        if (this.narrow && this.snap === 'peek') this.snapTo('half');
        this.open(TABS[i]);
      });
      tab.addEventListener('keydown', (event) => this.key(event, i));
    });
    this.grip.addEventListener('pointerdown', (event) => this.pull(event));
    this.grip.addEventListener('click', (event) => {
      if (event.detail === 0 || !this.pulled)
        this.snapTo(this.snap === 'full' ? 'peek' : SNAPS[SNAPS.indexOf(this.snap) + 1]);
      this.pulled = false;
    });
  }

  get narrow() {
    return matchMedia('(max-width: 720px)').matches;
  }

  get snap() {
    return this.side.dataset.snap;
  }

  snapTo(snap) {
    this.side.dataset.snap = snap;
    this.grip.setAttribute('aria-expanded', String(snap !== 'peek'));
    this.onChange();
  }

  /* Height of the map that the sheet covers. */
  get covered() {
    if (!this.narrow) return 0;
    const whole = this.side.offsetHeight;
    return this.snap === 'peek' ? 84 : this.snap === 'half' ? whole * 0.5 : whole;
  }

  open(name) {
    this.tab = name;
    TABS.forEach((other, i) => {
      const chosen = other === name;
      this.tabs[i].setAttribute('aria-selected', String(chosen));
      this.tabs[i].tabIndex = chosen ? 0 : -1;
      document.getElementById(other).hidden = !chosen;
    });
    this.side.dataset.tab = name;
    this.onChange();
  }

  key(event, i) {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + TABS.length) % TABS.length;
    this.open(TABS[next]);
    this.tabs[next].focus();
  }

  /* A pull at the grip goes one step up or down. */
  pull(event) {
    const start = event.clientY;
    this.pulled = false;
    this.grip.setPointerCapture(event.pointerId);
    const end = (last) => {
      this.grip.removeEventListener('pointerup', end);
      this.grip.removeEventListener('pointercancel', end);
      const by = start - last.clientY;
      if (last.type !== 'pointerup' || Math.abs(by) < FLICK_PX) return;
      this.pulled = true;
      const far = Math.abs(by) > innerHeight * 0.45 ? 2 : 1;
      const at = SNAPS.indexOf(this.snap) + (by > 0 ? far : -far);
      this.snapTo(SNAPS[Math.min(2, Math.max(0, at))]);
    };
    this.grip.addEventListener('pointerup', end);
    this.grip.addEventListener('pointercancel', end);
  }
}
