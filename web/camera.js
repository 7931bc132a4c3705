/*
 * What part of the plane is seen: its centre and how many metres a CSS pixel spans. It moves when
 * told to, at once or gliding, and tells that it moved. Knows no canvas and no input.
 */

const MPP_MIN = 0.15;
const MPP_MAX = 400;
const GLIDE_MS = 220;

const ease = (t) => 1 - (1 - t) ** 3;

export class Camera {
  constructor(onMove) {
    this.onMove = onMove;
    this.x = this.y = 0;
    this.mpp = 10;
    this.width = this.height = 1;
    this.insets = { top: 0, right: 0, bottom: 0, left: 0 }; // of the view, covered by something
    this.glide = null;
    this.touched = false; // by the user: no more fitting by itself
  }

  resize(width, height) {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    this.onMove();
  }

  screenX(x) {
    return this.width / 2 + (x - this.x) / this.mpp;
  }

  screenY(y) {
    return this.height / 2 - (y - this.y) / this.mpp;
  }

  /* What is not covered: its middle in pixels, and its size. */
  free() {
    const { top, right, bottom, left } = this.insets;
    return {
      x: (left + this.width - right) / 2,
      y: (top + this.height - bottom) / 2,
      width: Math.max(60, this.width - left - right),
      height: Math.max(60, this.height - top - bottom),
    };
  }

  place(x, y, mpp) {
    this.x = x;
    this.y = y;
    this.mpp = Math.min(MPP_MAX, Math.max(MPP_MIN, mpp));
    this.onMove();
  }

  panBy(dx, dy) {
    this.glide = null;
    this.place(this.x - dx * this.mpp, this.y + dy * this.mpp, this.mpp);
  }

  /* Zoom by a factor; what is under (px, py) stays there. */
  zoomBy(factor, px, py) {
    this.glide = null;
    this.place(...this.zoomed(this, factor, px, py));
  }

  zoomed(from, factor, px, py) {
    const mpp = Math.min(MPP_MAX, Math.max(MPP_MIN, from.mpp / factor));
    const right = px - this.width / 2;
    const down = py - this.height / 2;
    return [from.x + right * (from.mpp - mpp), from.y - down * (from.mpp - mpp), mpp];
  }

  /* A step of zoom around the middle of what is free, gliding. */
  zoomStep(factor, now, still) {
    const { x, y } = this.free();
    const target = this.glide?.to ?? this;
    this.glideTo(...this.zoomed(target, factor, x, y), now, still);
  }

  fit(box, now, still = true) {
    if (box.empty) return;
    const { x, y, width, height } = this.free();
    const span = Math.max((box.maxX - box.minX) / width, (box.maxY - box.minY) / height);
    const mpp = Math.min(MPP_MAX, Math.max(span * 1.08, 1.5));
    const cx = (box.minX + box.maxX) / 2 + (this.width / 2 - x) * mpp;
    const cy = (box.minY + box.maxY) / 2 - (this.height / 2 - y) * mpp;
    this.glideTo(cx, cy, mpp, now, still);
  }

  /* Bring a point to the middle of what is free, at mpp or nearer. */
  show(px, py, mpp, now, still) {
    const { x, y } = this.free();
    const scale = Math.min(this.mpp, mpp);
    this.glideTo(
      px + (this.width / 2 - x) * scale,
      py - (this.height / 2 - y) * scale,
      scale,
      now,
      still,
    );
  }

  glideTo(x, y, mpp, now, still) {
    if (still) {
      this.glide = null;
      this.place(x, y, mpp);
      return;
    }
    this.glide = { from: { x: this.x, y: this.y, mpp: this.mpp }, to: { x, y, mpp }, at: now };
    this.onMove();
  }

  /* Go on gliding; called with each frame. */
  step(now) {
    if (!this.glide) return;
    const { from, to, at } = this.glide;
    const p = Math.min(1, Math.max(0, (now - at) / GLIDE_MS));
    const t = ease(p);
    if (p === 1) this.glide = null;
    const mpp = from.mpp * (to.mpp / from.mpp) ** t;
    this.place(from.x + (to.x - from.x) * t, from.y + (to.y - from.y) * t, mpp);
  }
}
