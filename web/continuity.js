/*
 * What the positions of a stream prove. A position is `<epoch>-<place>`; in one epoch, each message
 * stands one place behind the one before it, so places without a hole are messages without a loss.
 * Pure: fed with what stream.js tells, it counts, and puts the verdict of a reconnect into words.
 */

import { count, plural } from './words.js';

/* {epoch, place}, or null for what is no position. */
export function readPosition(id) {
  const parts = /^([0-9a-f]{16})-(0|[1-9][0-9]{0,15})$/.exec(id);
  return parts ? { epoch: parts[1], place: Number(parts[2]) } : null;
}

export class Continuity {
  constructor() {
    this.seen = 0; // messages
    this.holes = 0; // places that never came and that nobody told of
    this.doubled = 0; // messages at a place that was taken already
    this.gaps = 0; // gaps that the gateway told
    this.missed = 0; // messages missed in them, where known
    this.missedUnknown = 0; // gaps of unknown size
    this.epochs = new Set();
    this.last = null;
    this.notices = 0; // entries without a position since `last`
    this.pending = null; // of a reconnect: the gap told before its start position
    this.resume = null;
  }

  /* The share of messages that came, of all that are known to have been sent; null: unknowable. */
  get share() {
    const known = this.seen + this.holes + this.missed;
    return this.missedUnknown > 0 || known === 0 ? null : this.seen / known;
  }

  acknowledged({ id, resumedFrom }) {
    const at = readPosition(id);
    if (resumedFrom !== '') {
      this.resume = { from: readPosition(resumedFrom), at, gap: this.pending, holes: this.holes };
      if (!this.pending && at && this.last?.epoch === at.epoch)
        this.holes += Math.max(0, at.place - this.last.place);
    }
    this.pending = null;
    this.moveTo(at);
  }

  moveTo(at) {
    this.last = at;
    this.notices = 0;
    if (at) this.epochs.add(at.epoch);
  }

  message({ id }) {
    const at = readPosition(id);
    this.seen++;
    if (at && this.last?.epoch === at.epoch) {
      const skipped = at.place - this.last.place - 1;
      if (skipped < 0) this.doubled++;
      else if (skipped > this.notices) this.holes += skipped;
    }
    this.moveTo(at);
  }

  gap({ id, missed }, beforeStart) {
    this.gaps++;
    if (missed === null) this.missedUnknown++;
    else this.missed += missed;
    if (beforeStart) this.pending = { missed };
    else this.moveTo(readPosition(id));
  }

  /* Notices of the broker stand in the log too, and have no position. */
  notice() {
    this.notices++;
  }

  /* Once the replay is over: {kind: 'resumed' | 'gap' | 'epoch', missed, replayed, text}. */
  verdict(replayed) {
    const { resume } = this;
    this.resume = null;
    if (!resume) return null;
    const { from, at, gap } = resume;
    const told = plural(replayed, 'message', 'messages');
    if (from && at && from.epoch !== at.epoch)
      return {
        kind: 'epoch',
        missed: null,
        replayed,
        text: 'new epoch: continuity cannot be proven',
      };
    const missed = gap ? gap.missed : this.holes - resume.holes;
    if (missed === null)
      return { kind: 'gap', missed, replayed, text: 'gap: an unknown number of messages missed' };
    if (missed > 0)
      return {
        kind: 'gap',
        missed,
        replayed,
        text: `gap: ${count(missed)} missed, ${told} replayed`,
      };
    return {
      kind: 'resumed',
      missed: 0,
      replayed,
      text: `resumed: ${told} replayed, nothing missed`,
    };
  }
}
