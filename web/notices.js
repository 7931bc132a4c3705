/*
 * Two short logs: what happened to the connection, and messages that are no position, as raw text.
 * Both forget; neither ever reads payload as anything but text.
 */
import { byTest, el, setShown } from './dom.js';
import { clock } from './words.js';

const NOTICES_MAX = 60;
const RAWS_MAX = 30;
const RAW_CHARACTERS = 240;

function prepend(list, item, most) {
  list.prepend(item);
  while (list.childElementCount > most) list.lastElementChild.remove();
}

export class Notices {
  constructor() {
    this.kept = []; // {kind, text}, newest last
    this.raws = 0;
    this.last = null;
  }

  /* kind: good, info, warn or bad. Repeats in a row are counted, not listed. */
  add(kind, text) {
    const { last } = this;
    if (last && last.text === text && last.kind === kind) {
      last.times++;
      last.label.textContent = `${text} (${last.times} times)`;
      last.time.textContent = clock(new Date());
      return;
    }
    const time = el('time', {}, clock(new Date()));
    const label = el('span', {}, text);
    this.last = { kind, text, times: 1, time, label };
    this.kept.push({ kind, text });
    if (this.kept.length > NOTICES_MAX) this.kept.shift();
    prepend(byTest('log'), el('li', { 'data-kind': kind }, time, label), NOTICES_MAX);
  }

  /* A message that is no position; text null when it is binary. */
  raw({ channel, text, bytes }, reason) {
    this.raws++;
    const shown =
      text === null
        ? [...bytes.slice(0, 48)].map((b) => b.toString(16).padStart(2, '0')).join(' ')
        : text;
    const whole = text === null ? bytes.length <= 48 : text.length <= RAW_CHARACTERS;
    setShown(byTest('raw-none'), false);
    prepend(
      byTest('raws'),
      el(
        'li',
        {},
        el(
          'span',
          { class: 'raw-head' },
          el('b', {}, channel.slice(0, 60) || 'channel'),
          ` ${reason}`,
          el('time', {}, clock(new Date())),
        ),
        el('code', { dir: 'ltr' }, `${shown.slice(0, RAW_CHARACTERS)}${whole ? '' : '…'}`),
      ),
      RAWS_MAX,
    );
  }
}
