/*
 * Lines that share a street lie side by side, as on the plans that hang at stops. Streets are
 * shared where lines have the very same segments; lines of the same colour share a lane too. Pure:
 * from the geometry to shifted points.
 */

const key = (flat, i) => `${Math.round(flat[i] * 10)},${Math.round(flat[i + 1] * 10)}`;

function eachSegment(part, visit) {
  let from = key(part, 0);
  for (let i = 2; i < part.length; i += 2) {
    const to = key(part, i);
    visit(from < to ? `${from} ${to}` : `${to} ${from}`, from < to, i / 2 - 1);
    from = to;
  }
}

/*
 * lines: [{parts, colour}], in the order in which lanes are dealt out. For each line and part the
 * lane of each segment: how many lanes to the left of the street's middle, seen as the line goes.
 */
export function dealLanes(lines) {
  const streets = new Map(); // segment -> {forward, colours}
  for (const { parts, colour } of lines) {
    for (const part of parts)
      eachSegment(part, (segment, forward) => {
        const street = streets.get(segment);
        if (!street) streets.set(segment, { forward, colours: [colour] });
        else if (!street.colours.includes(colour)) street.colours.push(colour);
      });
  }
  return lines.map(({ parts, colour }) =>
    parts.map((part) => {
      const lanes = new Float32Array(part.length / 2 - 1);
      eachSegment(part, (segment, forward, i) => {
        const { forward: first, colours } = streets.get(segment);
        const lane = colours.indexOf(colour) - (colours.length - 1) / 2;
        lanes[i] = forward === first ? lane : -lane; // left is right on the way back
      });
      return lanes;
    }),
  );
}

const MITRE_MAX = 1.5;

/* The part shifted into its lanes, `spacing` metres each, as x0, y0, x1, y1, ... */
export function shift(part, lanes, spacing) {
  const out = [];
  const last = lanes.length - 1;
  let before = null; // the normal and lane of the segment that ends here
  for (let i = 0; i <= last; i++) {
    const x = part[2 * i];
    const y = part[2 * i + 1];
    const dx = part[2 * i + 2] - x;
    const dy = part[2 * i + 3] - y;
    const length = Math.hypot(dx, dy);
    if (length === 0) continue;
    const here = { x: -dy / length, y: dx / length, by: lanes[i] * spacing };
    if (!before) out.push(x + here.x * here.by, y + here.y * here.by);
    else corner(out, x, y, before, here);
    before = here;
  }
  if (before) out.push(part.at(-2) + before.x * before.by, part.at(-1) + before.y * before.by);
  return out;
}

function corner(out, x, y, a, b) {
  const mx = a.x + b.x;
  const my = a.y + b.y;
  const long = Math.hypot(mx, my);
  if (a.by === b.by && long > 2 / MITRE_MAX) {
    const by = (2 * a.by) / (long * long); // along the mitre: both sides keep their distance
    out.push(x + mx * by, y + my * by);
  } else {
    out.push(x + a.x * a.by, y + a.y * a.by, x + b.x * b.by, y + b.y * b.by);
  }
}
