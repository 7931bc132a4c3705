/*
 * window.tramline: what the page knows, for browser tests and the curious. To look at, not to
 * change: every answer is a copy.
 */

const RECEIVED_MAX = 5000;
const PAYLOAD_MAX = 65536; // of longer ones only the length is kept

export class Received {
  constructor() {
    this.kept = []; // {id, channel, payload}, newest last
  }

  add(id, channel, payload) {
    const short = payload.length <= PAYLOAD_MAX;
    this.kept.push({ id, channel, payload: short ? payload : `${payload.length} characters` });
    if (this.kept.length > RECEIVED_MAX) this.kept.shift();
  }
}

const counted = ({ seen, holes, gaps, missed, missedUnknown, doubled }) => ({
  seen,
  holes,
  gaps,
  missed,
  missedUnknown,
  doubled,
});

const described = ({ id, line, fix, x, y, heading, fixes, receivedAt, sx, sy }) => ({
  id,
  line,
  lat: fix.lat,
  lon: fix.lon,
  x,
  y,
  heading,
  fixes,
  age: performance.now() - receivedAt,
  screen: { x: sx, y: sy },
});

const compared = (follower) =>
  follower && {
    state: follower.state,
    same: follower.comparison.same,
    total: follower.comparison.total,
  };

/* The parts that main.js made; follower() is that of now. */
export function expose({ link, counts, notices, received, fleet, compare, follower, meters, map }) {
  const { stream, continuity } = link;
  const value = Object.freeze({
    state: () => ({
      connection: stream.state,
      broker: link.broker,
      position: stream.lastId,
      connects: stream.connects,
    }),
    counts: () => ({ ...counts, ...counted(continuity) }),
    notices: () => notices.kept.map((notice) => ({ ...notice })),
    received: (n = RECEIVED_MAX) => received.kept.slice(-n).map((message) => ({ ...message })),
    vehicles: () => [...fleet.vehicles.values()].map(described),
    compare: () => compare.figures,
    follow: () => compared(follower()),
    latency: () => ({ p50: meters.p50, p95: meters.p95 }),
    frames: () => ({ script: [...map.scripts], spans: [...map.spans], baseDraws: map.base.draws }),
  });
  Object.defineProperty(window, 'tramline', { value });
}
