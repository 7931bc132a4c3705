/*
 * The vehicles as they move: where each one is at any moment, between and a little past its fixes,
 * how old its news is, where it has been. Time is an argument; nothing is drawn or fetched here.
 *
 * A vehicle is shown on its way from where it was shown to its newest fix, at the pace at which its
 * fixes come, so it never jumps but for real leaps. Age goes by receipt, never by clocks of others.
 */
import { Plane } from './plane.js';

const LEAP_M = 1000; // farther in one step: it did not drive there
const STILL_M = 0.5;
const TURN_M = 3; // a shorter step says nothing of the heading
const PAST = 1.08; // how far past the newest fix, in intervals
const INTERVAL_MS = 10000; // until a vehicle's own is known
const INTERVALS = 7;
const REPLAY_MS = 100; // closer fixes came from a log, not from the street
const GLIDE_MAX_MS = 20000;
const GREY_MIN_MS = 6000;
const GREY_INTERVALS = 3;
export const GONE_MS = 5 * 60 * 1000;
const TRAIL = 40;
const VEHICLES_MAX = 5000;

const turn = (from, to) => ((((to - from) % 360) + 540) % 360) - 180;

class Vehicle {
  constructor(id) {
    this.id = id;
    this.fix = null;
    this.channel = '';
    this.raw = '';
    this.fixes = 0;
    this.receivedAt = 0;
    this.intervals = [];
    this.interval = INTERVAL_MS;
    this.from = { x: 0, y: 0, heading: null };
    this.to = { x: 0, y: 0, heading: null };
    this.leftAt = 0;
    this.x = this.y = 0;
    this.heading = null;
    this.trail = []; // x, y, x, y, ...
  }

  get line() {
    return this.fix.line;
  }

  /* Move to where it is shown now; true while it is on its way. */
  moveTo(now) {
    const { from, to } = this;
    const glide = Math.min(this.interval, GLIDE_MAX_MS);
    const p = Math.min(PAST, Math.max(0, (now - this.leftAt) / glide));
    this.x = from.x + (to.x - from.x) * p;
    this.y = from.y + (to.y - from.y) * p;
    const turned = Math.min(1, p * 3); // it turns into its new way early
    this.heading =
      to.heading === null || from.heading === null
        ? to.heading
        : from.heading + turn(from.heading, to.heading) * turned;
    return p < PAST && (this.from.moves || turned < 1);
  }

  take(fix, x, y, now) {
    if (this.fixes > 0) this.moveTo(now);
    const step = Math.hypot(x - this.to.x, y - this.to.y);
    const shown = Math.hypot(x - this.x, y - this.y);
    let heading = fix.hdg;
    if (heading === null && this.fixes > 0 && step > TURN_M && step < LEAP_M)
      heading = (Math.atan2(x - this.to.x, y - this.to.y) * 180) / Math.PI;
    if (heading === null) heading = this.to.heading;
    const leaps = this.fixes === 0 || shown > LEAP_M;
    this.from = leaps
      ? { x, y, heading }
      : { x: this.x, y: this.y, heading: this.heading ?? heading };
    this.from.moves = !leaps && shown > STILL_M;
    this.to = { x, y, heading };
    this.learnInterval(now);
    this.leftAt = now;
    this.receivedAt = now;
    this.fix = fix;
    this.fixes++;
    if (leaps) this.trail.length = 0;
    if (leaps || step > STILL_M) this.trail.push(x, y);
    if (this.trail.length > 2 * TRAIL) this.trail.splice(0, this.trail.length - 2 * TRAIL);
    this.moveTo(now);
  }

  learnInterval(now) {
    const interval = now - this.receivedAt;
    if (this.fixes === 0 || interval < REPLAY_MS || interval > GONE_MS) return;
    this.intervals.push(interval);
    if (this.intervals.length > INTERVALS) this.intervals.shift();
    const sorted = [...this.intervals].sort((a, b) => a - b);
    this.interval = sorted[sorted.length >> 1];
  }

  isGrey(now) {
    return now - this.receivedAt > Math.max(GREY_MIN_MS, GREY_INTERVALS * this.interval);
  }
}

export class Fleet {
  /* plane may be null: the first fix is its origin then. */
  constructor(plane) {
    this.plane = plane;
    this.vehicles = new Map();
    this.generation = 0; // moves when a vehicle comes, goes or changes line
  }

  /* The vehicle, or null when there are too many already. */
  take(fix, { channel, text }, now) {
    let vehicle = this.vehicles.get(fix.id);
    if (!vehicle) {
      if (this.vehicles.size >= VEHICLES_MAX) return null;
      vehicle = new Vehicle(fix.id);
      this.vehicles.set(fix.id, vehicle);
    }
    this.plane ??= new Plane(fix.lat, fix.lon);
    if (vehicle.fix?.line !== fix.line) this.generation++;
    vehicle.channel = channel;
    vehicle.raw = text;
    vehicle.take(fix, this.plane.x(fix.lon), this.plane.y(fix.lat), now);
    return vehicle;
  }

  /* Move everybody; true while somebody is on the way. */
  moveTo(now) {
    let moving = false;
    for (const vehicle of this.vehicles.values()) if (vehicle.moveTo(now)) moving = true;
    return moving;
  }

  /* Forget those that have been silent for very long. */
  expire(now) {
    for (const [id, vehicle] of this.vehicles) {
      if (now - vehicle.receivedAt <= GONE_MS) continue;
      this.vehicles.delete(id);
      this.generation++;
    }
  }
}
