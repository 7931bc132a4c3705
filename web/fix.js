/*
 * From a payload to a vehicle's fix (where it was, when, how fast), or the reason why it is none.
 * Payloads come from strangers: every field is checked, and a payload with one wrong field is no
 * fix at all. Draws nothing, keeps nothing.
 */

const PAYLOAD_MAX = 65536; // no vehicle has so much to say
const TEXT_MAX = 64;
const LATITUDE_MAX = 85.05; // where Mercator's map ends

const absent = (v) => v === undefined || v === null;
const number = (v, min, max) => typeof v === 'number' && v >= min && v <= max;
const text = (v) => typeof v === 'string' && v.length <= TEXT_MAX;
const name = (v) => (text(v) && v !== '') || Number.isSafeInteger(v);

/* Field by field: [is it good, may it be missing]. */
const FIELDS = {
  id: [name, false],
  lat: [(v) => number(v, -LATITUDE_MAX, LATITUDE_MAX), false],
  lon: [(v) => number(v, -180, 180), false],
  line: [name, true],
  dir: [(v) => Number.isSafeInteger(v), true],
  spd: [(v) => number(v, 0, 1000), true],
  hdg: [(v) => number(v, -360, 360), true],
  stop: [text, true],
  doors: [(v) => typeof v === 'boolean' || number(v, 0, 255), true],
  delay: [(v) => number(v, -1e6, 1e6), true],
  ts: [(v) => number(v, 0, 8.64e15), true],
};

function parse(payload) {
  try {
    return JSON.parse(payload);
  } catch {
    return undefined;
  }
}

/*
 * {fix} or {reason, object}; object is the JSON object that is no fix, if it is one. In a fix, id
 * and line are strings (line '' when unknown), and what is missing is null.
 */
export function readFix(payload) {
  if (payload === null) return { reason: 'binary', object: null };
  if (payload.length > PAYLOAD_MAX) return { reason: 'too long', object: null };
  const object = parse(payload);
  if (object === undefined) return { reason: 'not JSON', object: null };
  if (object === null || typeof object !== 'object' || Array.isArray(object))
    return { reason: 'no JSON object', object: null };
  const fix = {};
  for (const [field, [isGood, mayMiss]] of Object.entries(FIELDS)) {
    const value = Object.hasOwn(object, field) ? object[field] : undefined;
    if (absent(value)) {
      if (!mayMiss) return { reason: `no ${field}`, object };
      fix[field] = null;
    } else if (isGood(value)) {
      fix[field] = value;
    } else {
      return { reason: `bad ${field}`, object };
    }
  }
  fix.id = String(fix.id);
  fix.line = fix.line === null ? '' : String(fix.line);
  return { fix };
}
