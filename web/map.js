/*
 * The map as it is seen: the still layer below, the vehicles on their own canvas above, drawn in
 * each frame in which something moves and in no other. It reads the fleet and the camera and
 * changes neither, but for moving both on in time.
 */
import { BaseLayer } from './baselayer.js';
import { Sprites } from './sprites.js';
import { reducedMotion } from './dom.js';

const CROWD = 130; // more vehicles in view than that carry no numbers,
const NEAR_MPP = 13; // but for closer views
const HIT_PX = 20;
const FRAMES = 240;

const pushBounded = (list, value) => {
  list.push(value);
  if (list.length > FRAMES) list.shift();
};

export class CityMap {
  /* onFrame(now) after each frame. */
  constructor({ base, top, camera, fleet, palette, onFrame }) {
    this.top = top;
    this.ctx = top.getContext('2d');
    this.camera = camera;
    this.fleet = fleet;
    this.palette = palette;
    this.onFrame = onFrame;
    this.base = new BaseLayer(base, palette);
    this.sprites = new Sprites(palette);
    this.visible = null; // a Set of lines, or null for all
    this.selected = null;
    this.hovered = null;
    this.following = false; // the camera keeps the selected one in the middle
    this.shown = []; // vehicles in view, as last drawn
    this.pending = false;
    this.scripts = []; // ms of each frame
    this.spans = []; // ms between frames that followed each other
    this.lastFrame = null;
    this.resize();
  }

  get dpr() {
    return Math.min(3, globalThis.devicePixelRatio || 1);
  }

  resize() {
    const { clientWidth, clientHeight } = this.top.parentElement;
    const { top, dpr } = this;
    top.width = Math.round(clientWidth * dpr);
    top.height = Math.round(clientHeight * dpr);
    this.camera.resize(clientWidth, clientHeight);
    this.request();
  }

  setVisible(visible) {
    this.visible = visible;
    this.base.setVisible(visible, this.selected?.line ?? null);
    this.request();
  }

  select(vehicle) {
    this.selected = vehicle;
    this.base.setVisible(this.visible, vehicle?.line ?? null);
    this.request();
  }

  restyle() {
    this.palette.refresh();
    this.sprites.clear();
    this.base.invalidate();
    this.request();
  }

  request() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame((time) => this.frame(time));
  }

  frame(time) {
    this.pending = false;
    const now = performance.now();
    const moving = this.fleet.moveTo(now);
    if (this.following && this.selected) this.centre();
    this.camera.step(now);
    const blurred = this.base.update(this.camera, this.dpr, now);
    this.draw(now);
    this.onFrame(now);
    pushBounded(this.scripts, performance.now() - now);
    if (this.lastFrame !== null) pushBounded(this.spans, time - this.lastFrame);
    const again = moving || blurred || this.camera.glide !== null;
    this.lastFrame = again ? time : null;
    if (again) this.request();
  }

  centre() {
    const { camera, selected } = this;
    const { x, y } = camera.free();
    if (camera.glide) return;
    camera.place(
      selected.x + (camera.width / 2 - x) * camera.mpp,
      selected.y - (camera.height / 2 - y) * camera.mpp,
      camera.mpp,
    );
  }

  isVisible(vehicle) {
    return this.visible === null || this.visible.has(vehicle.line);
  }

  collect() {
    const { camera } = this;
    const seen = [];
    for (const vehicle of this.fleet.vehicles.values()) {
      vehicle.sx = camera.screenX(vehicle.x);
      vehicle.sy = camera.screenY(vehicle.y);
      const inside =
        vehicle.sx > -30 &&
        vehicle.sy > -30 &&
        vehicle.sx < camera.width + 30 &&
        vehicle.sy < camera.height + 30;
      if (inside && (vehicle === this.selected || this.isVisible(vehicle))) seen.push(vehicle);
    }
    return seen;
  }

  draw(now) {
    const { ctx, dpr, camera } = this;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.top.width, this.top.height);
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    this.shown = this.collect();
    const numbered = camera.mpp < NEAR_MPP || this.shown.length <= CROWD;
    const r = numbered ? this.numberedSize() : camera.mpp > 40 ? 4.5 : 5.5;
    if (this.selected) this.drawTrail(this.selected);
    for (const grey of [true, false])
      for (const vehicle of this.shown)
        if (vehicle !== this.selected && vehicle !== this.hovered && vehicle.isGrey(now) === grey)
          this.drawVehicle(vehicle, r, grey, numbered);
    if (this.hovered && this.hovered !== this.selected && this.shown.includes(this.hovered))
      this.drawVehicle(this.hovered, 12, this.hovered.isGrey(now), true);
    if (this.selected && this.shown.includes(this.selected)) {
      this.drawHalo(this.selected);
      this.drawVehicle(this.selected, 13, this.selected.isGrey(now), true);
    }
  }

  numberedSize() {
    const { mpp, width } = this.camera;
    return mpp < 5 ? 12 : mpp > NEAR_MPP && width < 600 ? 8.5 : 10.5;
  }

  drawVehicle(vehicle, r, grey, numbered) {
    const { ctx, dpr } = this;
    const nosed = vehicle.heading !== null;
    const body = this.sprites.body(vehicle.line, r, grey, nosed, dpr);
    const half = body.width / 2;
    if (nosed) {
      const angle = (vehicle.heading * Math.PI) / 180;
      const cos = Math.cos(angle);
      const sin = Math.sin(angle);
      ctx.setTransform(cos, sin, -sin, cos, vehicle.sx * dpr, vehicle.sy * dpr);
    } else {
      ctx.setTransform(1, 0, 0, 1, vehicle.sx * dpr, vehicle.sy * dpr);
    }
    ctx.drawImage(body, -half, -half);
    if (numbered && vehicle.line !== '') {
      const number = this.sprites.number(vehicle.line, r, grey, dpr);
      ctx.setTransform(1, 0, 0, 1, Math.round(vehicle.sx * dpr), Math.round(vehicle.sy * dpr));
      ctx.drawImage(number, -number.width / 2, -number.height / 2);
    }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
  }

  drawHalo({ sx, sy }) {
    const { ctx } = this;
    ctx.beginPath();
    ctx.arc(sx, sy, 25, 0, 2 * Math.PI);
    ctx.globalAlpha = 0.18;
    ctx.fillStyle = this.palette.map.accent;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.lineWidth = 2;
    ctx.strokeStyle = this.palette.map.accent;
    ctx.stroke();
  }

  /* Where it has been, fading, up to where it is shown. */
  drawTrail({ trail, x, y, to }) {
    const { ctx, camera } = this;
    const points = [...trail];
    if (points.length >= 2 && points.at(-2) === to.x && points.at(-1) === to.y) points.length -= 2;
    points.push(x, y);
    ctx.lineCap = ctx.lineJoin = 'round';
    ctx.lineWidth = 4;
    ctx.strokeStyle = this.palette.map.accent;
    for (let i = 2; i < points.length; i += 2) {
      ctx.globalAlpha = 0.08 + (0.6 * i) / points.length;
      ctx.beginPath();
      ctx.moveTo(camera.screenX(points[i - 2]), camera.screenY(points[i - 1]));
      ctx.lineTo(camera.screenX(points[i]), camera.screenY(points[i + 1]));
      ctx.stroke();
    }
    ctx.globalAlpha = 1;
  }

  /* The vehicle at a point of the view, or null. */
  at(px, py, reach = HIT_PX) {
    let best = null;
    let least = reach;
    for (const vehicle of this.shown) {
      const distance = Math.hypot(vehicle.sx - px, vehicle.sy - py);
      if (distance < least) [best, least] = [vehicle, distance];
    }
    return best;
  }

  fit(box) {
    this.camera.fit(box, performance.now(), reducedMotion.matches || this.lastFrame === null);
    this.request();
  }
}
