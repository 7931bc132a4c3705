/*
 * The pictures of vehicles, drawn once each and then only copied: a body with a nose that is turned
 * into its heading, and the line's number, which stays upright. Knows no vehicle and no map.
 */

const CACHE_MAX = 600;

export class Sprites {
  constructor(palette) {
    this.palette = palette;
    this.cache = new Map();
  }

  clear() {
    this.cache.clear();
  }

  get(key, size, dpr, paint) {
    const full = `${key} ${size} ${dpr}`;
    let canvas = this.cache.get(full);
    if (!canvas) {
      if (this.cache.size >= CACHE_MAX) this.cache.clear();
      canvas = document.createElement('canvas');
      canvas.width = canvas.height = Math.ceil(size * dpr);
      const ctx = canvas.getContext('2d');
      ctx.scale(dpr, dpr);
      ctx.translate(canvas.width / dpr / 2, canvas.height / dpr / 2);
      paint(ctx);
      this.cache.set(full, canvas);
    }
    return canvas;
  }

  /* A drop of radius r; its nose points up. grey: no news for long. nosed: a heading is known. */
  body(line, r, grey, nosed, dpr) {
    return this.get(`b${grey ? 1 : 0}${nosed ? 1 : 0}${line}`, 4 * r + 6, dpr, (ctx) => {
      const { map } = this.palette;
      const tip = 1.55 * r;
      const open = Math.acos(r / tip); // where the tip's tangents touch the circle
      ctx.beginPath();
      if (nosed) {
        ctx.arc(0, 0, r, -Math.PI / 2 + open, -Math.PI / 2 - open);
        ctx.lineTo(0, -tip);
        ctx.closePath();
      } else {
        ctx.arc(0, 0, r, 0, 2 * Math.PI);
      }
      ctx.lineJoin = 'round';
      ctx.lineWidth = r > 8 ? 4 : 2.5;
      ctx.strokeStyle = map.casing;
      ctx.stroke();
      ctx.fillStyle = grey ? map.stale : this.palette.of(line).fill;
      ctx.fill();
    });
  }

  number(line, r, grey, dpr) {
    return this.get(`n${grey ? 1 : 0}${line}`, 4 * r + 6, dpr, (ctx) => {
      const { map } = this.palette;
      const text = line.length > 4 ? `${line.slice(0, 3)}…` : line;
      const size =
        r * (text.length > 3 ? 0.72 : text.length > 2 ? 0.9 : text.length > 1 ? 1.05 : 1.2);
      ctx.font = `700 ${size}px ${map.font}`;
      ctx.textAlign = 'center';
      ctx.textBaseline = 'middle';
      ctx.fillStyle = grey ? map.casing : this.palette.of(line).ink;
      ctx.fillText(text, 0, size * 0.06, 1.8 * r);
    });
  }
}
