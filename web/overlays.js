/*
 * The small things that lie over the map: the name of the vehicle under the mouse, the scale, frame
 * times for those who ask, what the map waits for. They show; the map and the camera know.
 */
import { byTest, setShown, setText } from './dom.js';
import { speed, vehicleName } from './words.js';

const METRES = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];
const SCALE_PX = 56; // at least

export class Overlays {
  constructor(map, modeOf) {
    this.map = map;
    this.modeOf = modeOf;
    this.scale = document.querySelector('.scale');
    byTest('debug-toggle').addEventListener('change', ({ target }) =>
      setShown(byTest('debug'), target.checked),
    );
  }

  /* With each frame. */
  framed() {
    this.placeTip(this.map.hovered);
    this.showScale(this.map.camera.mpp);
  }

  placeTip(vehicle) {
    const tip = byTest('tip');
    setShown(tip, vehicle !== null);
    if (!vehicle) return;
    const { line, id, fix, sx, sy } = vehicle;
    const parts = [line && `Line ${line}`, vehicleName(this.modeOf(line), id), speed(fix.spd)];
    setText(tip, parts.filter(Boolean).join(' · '));
    const left = sx > this.map.camera.width - 260;
    tip.classList.toggle('left', left);
    tip.style.transform = `translate(${Math.round(sx)}px, ${Math.round(sy)}px)`;
  }

  showScale(mpp) {
    if (mpp === this.mpp) return;
    this.mpp = mpp;
    const metres = METRES.find((m) => m / mpp > SCALE_PX) ?? METRES.at(-1);
    this.scale.style.width = `${Math.round(metres / mpp)}px`;
    setText(this.scale.firstElementChild, metres < 1000 ? `${metres} m` : `${metres / 1000} km`);
  }

  /* Now and then. */
  refresh(vehicles) {
    setShown(byTest('waiting'), vehicles === 0);
    if (!byTest('debug-toggle').checked) return;
    const { scripts, spans, shown } = this.map;
    const of = (list, q) => [...list].sort((a, b) => a - b)[Math.floor(q * (list.length - 1))] ?? 0;
    const fps = spans.length === 0 ? 0 : 1000 / of(spans, 0.5);
    const [half, most] = [of(scripts, 0.5).toFixed(2), of(scripts, 0.95).toFixed(2)];
    const script = `script ${half} ms, p95 ${most} ms`;
    setText(byTest('debug'), `${fps.toFixed(0)} fps · ${script} · ${shown.length} drawn`);
  }
}
