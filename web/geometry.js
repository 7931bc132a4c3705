/*
 * The city's lines, stops, waters and parks, from GeoJSON to the plane. A feature that is none is
 * left out and counted; a document that is none leaves an empty city. Fetches once, draws nothing.
 */
import { Plane, Box } from './plane.js';

const isPoint = (p) =>
  Array.isArray(p) &&
  Number.isFinite(p[0]) &&
  Number.isFinite(p[1]) &&
  Math.abs(p[0]) <= 180 &&
  Math.abs(p[1]) <= 85.05;

const shortText = (v) =>
  typeof v === 'string' || typeof v === 'number' ? String(v).slice(0, 80) : '';

/* The parts of a line feature as lists of [lon, lat], or none. */
function partsOf(geometry) {
  const parts =
    geometry?.type === 'LineString'
      ? [geometry.coordinates]
      : geometry?.type === 'MultiLineString'
        ? geometry.coordinates
        : [];
  if (!Array.isArray(parts)) return [];
  return parts.filter((part) => Array.isArray(part) && part.length > 1 && part.every(isPoint));
}

/* The rings of an area feature, or none. */
function ringsOf(geometry) {
  const rings =
    geometry?.type === 'Polygon'
      ? geometry.coordinates
      : geometry?.type === 'MultiPolygon' && Array.isArray(geometry.coordinates)
        ? geometry.coordinates.flat()
        : [];
  if (!Array.isArray(rings)) return [];
  return rings.filter((ring) => Array.isArray(ring) && ring.length > 3 && ring.every(isPoint));
}

function middle(points) {
  let south = 90,
    north = -90,
    west = 180,
    east = -180;
  for (const [lon, lat] of points) {
    south = Math.min(south, lat);
    north = Math.max(north, lat);
    west = Math.min(west, lon);
    east = Math.max(east, lon);
  }
  return [(south + north) / 2, (west + east) / 2];
}

/*
 * {name, plane, box, skipped,
 *  lines: Map(line -> {line, mode, color, from, to, parts}),
 *  stops: [{name, x, y, lines}],  lines null: not told
 *  lands: [{kind, name, parts, box}]}
 * Parts are flat arrays x0, y0, x1, y1, ...; plane is null when there is nothing at all. The box is
 * that of the lines.
 */
export function readGeometry(document) {
  const city = {
    name: '',
    plane: null,
    box: new Box(),
    lines: new Map(),
    stops: [],
    lands: [],
    skipped: 0,
  };
  if (document === null || typeof document !== 'object' || !Array.isArray(document.features))
    return city;
  city.name = shortText(document.name);
  const lines = [];
  const stops = [];
  const lands = [];
  for (const feature of document.features) {
    const parts = partsOf(feature?.geometry);
    const rings = ringsOf(feature?.geometry);
    if (parts.length > 0) lines.push([feature.properties ?? {}, parts]);
    else if (feature?.geometry?.type === 'Point' && isPoint(feature.geometry.coordinates))
      stops.push([feature.properties ?? {}, feature.geometry.coordinates]);
    else if (rings.length > 0) lands.push([feature.properties ?? {}, rings]);
    else city.skipped++;
  }
  const points =
    lines.length > 0 ? lines.flatMap(([, parts]) => parts.flat()) : stops.map(([, at]) => at);
  if (points.length === 0) return city;
  city.plane = new Plane(...middle(points));
  for (const [properties, parts] of lines) addLine(city, properties, parts);
  for (const [properties, at] of stops) addStop(city, properties, at);
  for (const [properties, rings] of lands) addLand(city, properties, rings);
  return city;
}

function flatten(city, points, box) {
  const flat = new Float64Array(points.length * 2);
  points.forEach(([lon, lat], i) => {
    flat[2 * i] = city.plane.x(lon);
    flat[2 * i + 1] = city.plane.y(lat);
    box.add(flat[2 * i], flat[2 * i + 1]);
  });
  return flat;
}

function addLand(city, properties, rings) {
  const box = new Box();
  const parts = rings.map((ring) => flatten(city, ring, box));
  city.lands.push({
    kind: shortText(properties.land),
    name: shortText(properties.name),
    parts,
    box,
  });
}

function addLine(city, properties, parts) {
  const name = shortText(properties.line);
  const line = city.lines.get(name) ?? {
    line: name,
    mode: shortText(properties.mode),
    color: shortText(properties.color),
    from: shortText(properties.from),
    to: shortText(properties.to),
    parts: [],
  };
  for (const part of parts) line.parts.push(flatten(city, part, city.box));
  city.lines.set(name, line);
}

function addStop(city, properties, [lon, lat]) {
  const name = shortText(properties.stop ?? properties.name);
  const x = city.plane.x(lon);
  const y = city.plane.y(lat);
  if (city.lines.size === 0) city.box.add(x, y);
  const lines = Array.isArray(properties.lines) ? properties.lines.map(shortText) : null;
  city.stops.push({ name, x, y, lines });
}

/* What the gateway serves; an empty city where it has no geometry. */
export async function fetchGeometry(url) {
  try {
    const response = await fetch(url);
    return readGeometry(response.status === 200 ? await response.json() : null);
  } catch {
    return readGeometry(null);
  }
}
