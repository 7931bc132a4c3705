/*
 * Colours: a line's own, else one made from its name; made lighter or darker until it can be seen
 * on the map; and ink that can be read on it. The page's own colours are style.css's; the map asks
 * for them here.
 */

function parseHex(text) {
  const hex = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text)?.[1];
  if (!hex) return null;
  const full = hex.length === 3 ? [...hex].map((c) => c + c).join('') : hex;
  return [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16));
}

const toCss = (rgb) => `#${rgb.map((v) => Math.round(v).toString(16).padStart(2, '0')).join('')}`;

function luminance(rgb) {
  const [r, g, b] = rgb.map((v) => {
    const c = v / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/* WCAG 2. */
export function contrast(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

function fromHue(hue, saturation, lightness) {
  const a = saturation * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return 255 * (lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  });
}

/* Neighbours in name are far apart in hue. */
function made(line) {
  let hash = 0;
  for (const c of line) hash = (Math.imul(hash, 31) + c.codePointAt(0)) >>> 0;
  return fromHue((hash * 137.508) % 360, 0.62, 0.42);
}

const mix = (a, b, t) => a.map((v, i) => v + (b[i] - v) * t);

const MANY_LINES = 12; // so many lines step back behind their vehicles

const WHITE = [255, 255, 255];
const INK = [17, 20, 26];

function readable(rgb, ground, least) {
  const towards = luminance(ground) < 0.2 ? WHITE : INK;
  let colour = rgb;
  for (let t = 0; t <= 1 && contrast(colour, ground) < least; t += 0.05)
    colour = mix(rgb, towards, t);
  return colour;
}

export class Palette {
  constructor() {
    this.own = new Map();
    this.cache = new Map();
    this.refresh();
  }

  /* The colours that the lines bring along; `lines` as in geometry.js. */
  setLines(lines) {
    this.own.clear();
    for (const { line, color } of lines.values()) {
      const rgb = parseHex(color);
      if (rgb) this.own.set(line, rgb);
    }
    this.cache.clear();
  }

  /* After a change of theme. */
  refresh() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    this.map = {
      ground: of('--map-ground'),
      grid: of('--map-grid'),
      casing: of('--map-casing'),
      water: of('--map-water'),
      park: of('--map-park'),
      parkInk: of('--map-park-ink'),
      ink: of('--map-ink'),
      muted: of('--map-muted'),
      stale: of('--map-stale'),
      accent: of('--accent'),
    };
    this.map.font = of('--font');
    this.cache.clear();
  }

  /*
   * As CSS colours, fit for the theme: fill and ink of a badge, the track of the line, which lies
   * under its vehicles, and that of a line that stands out.
   */
  of(line) {
    let colours = this.cache.get(line);
    if (!colours) {
      const ground = parseHex(this.map.ground) ?? WHITE;
      const rgb = readable(this.own.get(line) ?? made(line), ground, 3);
      const isPale = contrast(rgb, WHITE) < 2.4;
      const fill = isPale ? rgb : readable(rgb, WHITE, 4.5);
      const track = mix(rgb, ground, this.own.size > MANY_LINES ? 0.5 : 0.2);
      colours = {
        fill: toCss(fill),
        ink: toCss(isPale ? INK : WHITE),
        track: toCss(track),
        strong: toCss(rgb),
      };
      this.cache.set(line, colours);
    }
    return colours;
  }
}
