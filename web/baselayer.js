/*
 * The still part of the map: grid, water, parks, lines, stops, names. Drawn once into a canvas that
 * is larger than the view, which then is only shifted and scaled while the camera moves, and drawn
 * anew when the camera has left it or rests at another zoom. Draws no vehicle.
 */

import { dealLanes, shift } from './lanes.js';

const MARGIN = 160; // CSS pixels around the view
const SHARP_AFTER_MS = 90; // at rest for so long: sharp again
const STRETCH = 1.6; // blurred by at most that much
const LANE_GAP = 0.75; // pixels between lines that lie side by side
const DIM = 0.16; // lines that are filtered out

const widthOf = (mpp) => (mpp > 45 ? 1.5 : mpp > 22 ? 2.25 : mpp > 9 ? 3.25 : mpp > 3 ? 4.5 : 6);

const niceStep = (least) => {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= least);
};

function pathOf(parts) {
  const path = new Path2D();
  for (const flat of parts) {
    path.moveTo(flat[0], flat[1]);
    for (let i = 2; i < flat.length; i += 2) path.lineTo(flat[i], flat[i + 1]);
  }
  return path;
}

export class BaseLayer {
  constructor(canvas, palette) {
    this.canvas = canvas;
    this.ctx = canvas.getContext('2d');
    this.palette = palette;
    this.lines = [];
    this.stops = [];
    this.lands = [];
    this.visible = null; // a Set of lines, or null for all
    this.strong = null; // the line of the selected vehicle
    this.drawn = null; // the camera that the canvas was drawn for
    this.movedAt = 0;
    this.draws = 0;
  }

  setCity(city) {
    const lines = [...city.lines.values()];
    const lanes = dealLanes(
      lines.map(({ line, parts, color }) => ({ parts, colour: color || line })),
    );
    this.lines = lines.map(({ line, parts }, i) => ({ line, parts, lanes: lanes[i], path: null }));
    this.spacing = null;
    this.stops = city.stops;
    this.lands = city.lands.map((land) => ({ ...land, path: pathOf(land.parts) }));
    this.invalidate();
  }

  setVisible(visible, strong) {
    this.visible = visible;
    this.strong = strong;
    this.invalidate();
  }

  invalidate() {
    this.drawn = null;
  }

  /* Show what the camera sees; true while it wants another frame to become sharp. */
  update(camera, dpr, now) {
    const { drawn } = this;
    const fits =
      drawn && drawn.dpr === dpr && drawn.width === camera.width && drawn.height === camera.height;
    if (!fits) return this.draw(camera, dpr);
    const scale = drawn.mpp / camera.mpp;
    const left =
      camera.width / 2 + (drawn.x - camera.x) / camera.mpp - (camera.width / 2 + MARGIN) * scale;
    const top =
      camera.height / 2 - (drawn.y - camera.y) / camera.mpp - (camera.height / 2 + MARGIN) * scale;
    const right = left + (camera.width + 2 * MARGIN) * scale;
    const bottom = top + (camera.height + 2 * MARGIN) * scale;
    const covers = left <= 0 && top <= 0 && right >= camera.width && bottom >= camera.height;
    const stretched = scale > STRETCH || scale < 1 / STRETCH;
    if (camera.mpp !== this.lastMpp) this.movedAt = now;
    this.lastMpp = camera.mpp;
    const blurred = scale !== 1;
    if ((!covers && !blurred) || stretched || (blurred && now - this.movedAt > SHARP_AFTER_MS))
      return this.draw(camera, dpr);
    this.canvas.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    return blurred;
  }

  draw(camera, dpr) {
    const { canvas, ctx } = this;
    const width = camera.width + 2 * MARGIN;
    const height = camera.height + 2 * MARGIN;
    if (canvas.width !== Math.round(width * dpr) || canvas.height !== Math.round(height * dpr)) {
      canvas.width = Math.round(width * dpr);
      canvas.height = Math.round(height * dpr);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    this.drawn = {
      x: camera.x,
      y: camera.y,
      mpp: camera.mpp,
      width: camera.width,
      height: camera.height,
      dpr,
    };
    this.lastMpp = camera.mpp;
    this.draws++;
    canvas.style.transform = `translate(${-MARGIN}px, ${-MARGIN}px)`;
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.clearRect(0, 0, width, height);
    this.drawGrid(camera, width, height);
    this.drawLands(camera, dpr, width, height);
    this.drawLines(camera, dpr, width, height);
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    this.drawStops(camera, width, height);
    return false;
  }

  drawGrid(camera, width, height) {
    const { ctx } = this;
    const step = niceStep(camera.mpp * 110);
    const left = camera.x - (width / 2) * camera.mpp;
    const bottom = camera.y - (height / 2) * camera.mpp;
    ctx.strokeStyle = this.palette.map.grid;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let x = Math.ceil(left / step) * step; (x - left) / camera.mpp < width; x += step) {
      const sx = Math.round((x - left) / camera.mpp) + 0.5;
      ctx.moveTo(sx, 0);
      ctx.lineTo(sx, height);
    }
    for (let y = Math.ceil(bottom / step) * step; (y - bottom) / camera.mpp < height; y += step) {
      const sy = Math.round(height - (y - bottom) / camera.mpp) + 0.5;
      ctx.moveTo(0, sy);
      ctx.lineTo(width, sy);
    }
    ctx.stroke();
  }

  /* Lanes keep their width on the screen, so each zoom has paths of its own. */
  layOut(spacing) {
    if (spacing === this.spacing) return;
    this.spacing = spacing;
    for (const line of this.lines)
      line.path = pathOf(line.parts.map((part, i) => shift(part, line.lanes[i], spacing)));
  }

  /* From here on, paths are in metres. */
  toPlane(camera, dpr, width, height) {
    const scale = dpr / camera.mpp;
    this.ctx.setTransform(
      scale,
      0,
      0,
      -scale,
      (width / 2) * dpr - camera.x * scale,
      (height / 2) * dpr + camera.y * scale,
    );
  }

  drawLands(camera, dpr, width, height) {
    const { ctx, palette } = this;
    this.toPlane(camera, dpr, width, height);
    for (const { kind, path } of this.lands) {
      ctx.fillStyle = kind === 'water' ? palette.map.water : palette.map.park;
      ctx.fill(path, 'evenodd');
    }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.textAlign = 'center';
    ctx.textBaseline = 'middle';
    ctx.font = `italic 500 12px ${palette.map.font}`;
    for (const { kind, name, box } of this.lands) {
      const room = (box.maxX - box.minX) / camera.mpp;
      if (name === '' || kind === 'water' || ctx.measureText(name).width > room) continue;
      ctx.fillStyle = palette.map.parkInk;
      ctx.fillText(
        name,
        width / 2 + ((box.minX + box.maxX) / 2 - camera.x) / camera.mpp,
        height / 2 - ((box.minY + box.maxY) / 2 - camera.y) / camera.mpp,
      );
    }
    ctx.textAlign = 'left';
  }

  drawLines(camera, dpr, width, height) {
    const { ctx, palette } = this;
    const px = widthOf(camera.mpp);
    this.layOut((px + LANE_GAP) * camera.mpp);
    const dim = (line) => this.visible !== null && !this.visible.has(line);
    this.toPlane(camera, dpr, width, height);
    ctx.lineCap = ctx.lineJoin = 'round';
    ctx.lineWidth = (px + 2.5) * camera.mpp;
    ctx.strokeStyle = palette.map.casing;
    for (const { line, path } of this.lines) if (!dim(line)) ctx.stroke(path);
    const order = [...this.lines].sort((a, b) => this.rank(a.line, dim) - this.rank(b.line, dim));
    for (const { line, path } of order) {
      ctx.globalAlpha = dim(line) ? DIM : 1;
      ctx.lineWidth = (line === this.strong ? px + 1.5 : px) * camera.mpp;
      ctx.strokeStyle = line === this.strong ? palette.of(line).strong : palette.of(line).track;
      ctx.stroke(path);
    }
    ctx.globalAlpha = 1;
  }

  rank(line, dim) {
    return line === this.strong ? 2 : dim(line) ? 0 : 1;
  }

  /* By a line that is not filtered out; stops that tell no lines always are. */
  isServed({ lines }) {
    return this.visible === null || lines === null || lines.some((line) => this.visible.has(line));
  }

  drawStops(camera, width, height) {
    const { ctx, palette } = this;
    if (camera.mpp > 20) return;
    const r = camera.mpp > 10 ? 1.8 : camera.mpp > 4 ? 2.8 : 3.8;
    const taken = new Set();
    ctx.lineWidth = 1.25;
    ctx.strokeStyle = palette.map.muted;
    ctx.fillStyle = palette.map.casing;
    ctx.font = `500 11.5px ${palette.map.font}`;
    ctx.textBaseline = 'middle';
    const named = [];
    ctx.beginPath();
    for (const stop of this.stops) {
      if (!this.isServed(stop)) continue;
      const sx = width / 2 + (stop.x - camera.x) / camera.mpp;
      const sy = height / 2 - (stop.y - camera.y) / camera.mpp;
      if (sx < 0 || sy < 0 || sx > width || sy > height) continue;
      ctx.moveTo(sx + r, sy);
      ctx.arc(sx, sy, r, 0, 2 * Math.PI);
      if (stop.name !== '') named.push([stop.name, sx, sy]);
    }
    ctx.fill();
    ctx.stroke();
    if (camera.mpp > 6) return;
    ctx.lineJoin = 'round';
    ctx.lineWidth = 3.5;
    ctx.strokeStyle = palette.map.ground;
    ctx.fillStyle = palette.map.ink;
    for (const [name, sx, sy] of named) this.drawName(name, sx + r + 4, sy, taken);
  }

  /* A name is left out where another one stands. */
  drawName(name, x, y, taken) {
    const { ctx } = this;
    const row = Math.round(y / 16);
    const from = Math.floor(x / 12);
    const to = Math.ceil((x + ctx.measureText(name).width) / 12);
    const cells = [];
    for (let c = from; c <= to; c++) cells.push(`${row},${c}`);
    if (cells.some((cell) => taken.has(cell))) return;
    for (const cell of cells) taken.add(cell);
    ctx.strokeText(name, x, y);
    ctx.fillText(name, x, y);
  }
}
