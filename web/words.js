/* How figures read: speed, delay, age, heading, counts. Pure. */

export const count = (n) => Math.round(n).toLocaleString('en');

export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

export const percent = (share) => {
  if (share === null) return '–';
  if (share === 1) return '100 %';
  return share > 0.995 ? '99.9 %' : `${Math.round(share * 100)} %`;
};

export const speed = (metresPerSecond) =>
  metresPerSecond === null ? null : `${Math.round(metresPerSecond * 3.6)} km/h`;

const POINTS = ['N', 'NE', 'E', 'SE', 'S', 'SW', 'W', 'NW'];

export function heading(degrees) {
  if (degrees === null) return null;
  const turned = ((degrees % 360) + 360) % 360;
  return `${Math.round(turned)}° ${POINTS[Math.round(turned / 45) % 8]}`;
}

const ON_TIME_S = 30;

/* {tone: 'good' | 'early' | 'late', text, short}, or null. */
export function delay(seconds) {
  if (seconds === null) return null;
  const s = Math.round(Math.abs(seconds));
  const sign = seconds < 0 ? '−' : '+';
  const short = `${sign}${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
  if (s < ON_TIME_S) return { tone: 'good', text: 'on time', short };
  const long = s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  return seconds < 0
    ? { tone: 'early', text: `${long} early`, short }
    : { tone: 'late', text: `${long} late`, short };
}

export function age(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 2) return 'now';
  if (s < 60) return `${Math.floor(s)} s ago`;
  return `${Math.floor(s / 60)} min ${String(Math.floor(s % 60)).padStart(2, '0')} s ago`;
}

export const milliseconds = (ms) =>
  ms === null ? '–' : ms < 9.5 ? `${Math.max(0, ms).toFixed(1)} ms` : `${count(ms)} ms`;

export const clock = (date) => date.toLocaleTimeString('en-GB');

/* How the mode of a line names its vehicles. */
export function vehicleName(mode, id) {
  const kind =
    { tram: 'Tram', bus: 'Bus', metro: 'Train', rail: 'Train', ferry: 'Ferry' }[mode] ?? 'Vehicle';
  return `${kind} ${id}`;
}

/* Lines sort as people count: 2 before 10 before N2. */
export const natural = new Intl.Collator('en', { numeric: true }).compare;
