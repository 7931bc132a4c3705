/*
 * What fingers, mouse, wheel and keys mean to the camera: drag pans, wheel and pinch zoom, a tap
 * without a drag picks. Knows nothing of what is drawn.
 */
import { reducedMotion } from './dom.js';

const TAP_PX = 6;
const KEY_PAN_PX = 90;
const STEP = 1.7;

export class Gestures {
  /* onPick(x, y, byTouch), onHover(x, y) or onHover(null), onPan() when the user moves the view. */
  constructor(surface, camera, { onPick, onHover, onPan, onFit }) {
    Object.assign(this, { surface, camera, onPick, onHover, onPan, onFit });
    this.pointers = new Map();
    this.travelled = 0;
    const on = (type, handler) =>
      surface.addEventListener(type, handler.bind(this), { passive: false });
    on('pointerdown', this.down);
    on('pointermove', this.move);
    on('pointerup', this.up);
    on('pointercancel', this.cancel);
    on('pointerleave', () => this.onHover(null));
    on('wheel', this.wheel);
    on('keydown', this.key);
    on('dblclick', this.doubled);
  }

  spot(event) {
    const { left, top } = this.surface.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  down(event) {
    if (event.button !== 0) return;
    if (this.pointers.size === 0) this.travelled = 0;
    this.pointers.set(event.pointerId, this.spot(event));
    this.surface.setPointerCapture(event.pointerId);
    this.onHover(null);
  }

  move(event) {
    const at = this.spot(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== 'touch') this.onHover(at);
      return;
    }
    const others = [...this.pointers]
      .filter(([id]) => id !== event.pointerId)
      .map(([, spot]) => spot);
    this.travelled += Math.hypot(at.x - before.x, at.y - before.y);
    this.pointers.set(event.pointerId, at);
    if (this.travelled < TAP_PX) return;
    this.surface.classList.add('dragging');
    this.onPan();
    if (others.length === 0) {
      this.camera.panBy(at.x - before.x, at.y - before.y);
    } else if (others.length === 1) {
      const [fixed] = others;
      const spread = (p) => Math.max(20, Math.hypot(p.x - fixed.x, p.y - fixed.y));
      this.camera.panBy((at.x - before.x) / 2, (at.y - before.y) / 2);
      this.camera.zoomBy(spread(at) / spread(before), (at.x + fixed.x) / 2, (at.y + fixed.y) / 2);
    }
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { x, y } = this.spot(event);
    if (this.pointers.size > 0) return;
    this.surface.classList.remove('dragging');
    if (this.travelled < TAP_PX) this.onPick(x, y, event.pointerType === 'touch');
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.surface.classList.remove('dragging');
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 200 : 1;
    const delta = Math.max(-240, Math.min(240, event.deltaY * lines));
    const { x, y } = this.spot(event);
    this.onPan();
    this.camera.zoomBy(Math.exp(-delta * (event.ctrlKey ? 0.01 : 0.0016)), x, y);
  }

  doubled(event) {
    const { x, y } = this.spot(event);
    event.preventDefault();
    this.onPan();
    this.camera.zoomBy(STEP, x, y);
  }

  zoom(direction) {
    this.camera.touched = true;
    this.camera.zoomStep(direction > 0 ? STEP : 1 / STEP, performance.now(), reducedMotion.matches);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = {
      ArrowLeft: [KEY_PAN_PX, 0],
      ArrowRight: [-KEY_PAN_PX, 0],
      ArrowUp: [0, KEY_PAN_PX],
      ArrowDown: [0, -KEY_PAN_PX],
    }[event.key];
    if (pan) {
      this.onPan();
      this.camera.panBy(...pan);
    } else if (event.key === '+' || event.key === '=') {
      this.zoom(1);
    } else if (event.key === '-') {
      this.zoom(-1);
    } else if (event.key === '0') {
      this.onFit();
    } else {
      return;
    }
    event.preventDefault();
  }
}
