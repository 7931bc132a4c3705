/*
 * The live map page: where the parts are made and joined. One message's way is in take(): from the
 * stream to the figures, the comparison, the fleet and the panel. What a part does is its own
 * business; nothing here draws, parses or counts.
 */
import { fetchAbout, introduce } from './about.js';
import { Camera } from './camera.js';
import { Chips } from './chips.js';
import { Compare, readBurst } from './compare.js';
import { byTest, reducedMotion, setText } from './dom.js';
import { readFix } from './fix.js';
import { Fleet } from './fleet.js';
import { Follower, comparable } from './follow.js';
import { fetchGeometry } from './geometry.js';
import { Gestures } from './gestures.js';
import { Link } from './link.js';
import { VehicleList } from './list.js';
import { CityMap } from './map.js';
import { Meters, watchClients } from './meters.js';
import { Notices } from './notices.js';
import { Overlays } from './overlays.js';
import { Palette } from './palette.js';
import { Panel } from './panel.js';
import { Box } from './plane.js';
import { Received, expose } from './probe.js';
import { Sheet } from './sheet.js';
import { count } from './words.js';

const SELECT_MPP = 6;
const FIRST_FIT_MS = 6000; // without geometry, vehicles may go on showing the city's extent

const at = (path) => new URL(path, document.baseURI);

const [about, city] = await Promise.all([
  fetchAbout(at('web/about')),
  fetchGeometry(at('web/lines')),
]);

/* --- the parts --- */

const counts = { messages: 0, fixes: 0, raws: 0, bursts: 0 };
let follower = null;
let selected = null;
let watching = false; // the gateway's metrics

const fleet = new Fleet(city.plane);
const palette = new Palette();
const meters = new Meters();
const notices = new Notices();
const received = new Received();
const camera = new Camera(() => map?.request());
let map = null;
map = new CityMap({
  base: document.querySelector('canvas.base'),
  top: byTest('canvas'),
  camera,
  fleet,
  palette,
  onFrame: (now) => {
    meters.framed(now);
    overlays.framed();
  },
});
const lineOf = (line) => city.lines.get(line);
const modeOf = (line) => lineOf(line)?.mode ?? '';
const overlays = new Overlays(map, modeOf);
const chips = new Chips(palette, (visible) => {
  map.setVisible(visible);
  list.setVisible(visible);
});
const list = new VehicleList({
  palette,
  fleet,
  modeOf,
  onChoose: (vehicle) => select(vehicle, true),
});
const panel = new Panel({ palette, lineOf, onClose: () => select(null), onFollow: follow });
const sheet = new Sheet(() => {
  cover();
  if (!camera.touched && sheet.narrow && sheet.snap !== 'full') map.fit(extent());
  refresh();
});
const link = new Link(at(`sse/${encodeURIComponent(about.fleet)}`), {
  notices,
  onMessage: take,
  onGap: () => follower?.gap(),
  onLive() {
    if (!watching) watchClients(at('metrics'));
    watching = true;
  },
});
const compare = new Compare(link.continuity, at('pub/tram_burst'));

/* --- one message's way --- */

function take(message) {
  const now = performance.now();
  counts.messages++;
  received.add(message.id, message.channel, comparable(message.text, message.bytes));
  meters.message(now);
  follower?.message(message);
  const { fix, reason, object } = readFix(message.text);
  const burst = fix ? null : readBurst(object);
  compare.message(burst);
  if (fix) {
    takeFix(fix, message, now);
  } else if (burst) {
    counts.bursts++;
  } else {
    counts.raws++;
    notices.raw(message, reason);
  }
}

function takeFix(fix, message, now) {
  counts.fixes++;
  if (fix.ts !== null && !message.replayed) meters.stamped(fix.ts);
  const vehicle = fleet.take(fix, message, now);
  if (vehicle && vehicle === selected) panel.refresh(now);
  if (counts.fixes === 1) refresh(); // the first one is shown at once
  map.request();
}

/* --- choosing and following --- */

function select(vehicle, byList = false) {
  if (follower && vehicle !== selected) follow(null);
  selected = vehicle;
  map.select(vehicle);
  list.select(vehicle?.id ?? null);
  panel.show(vehicle);
  byTest('finder').hidden = vehicle !== null;
  if (!vehicle) {
    if (sheet.tab === 'vehicles') byTest('list').focus({ preventScroll: true });
    return;
  }
  sheet.open('vehicles');
  if (sheet.narrow && sheet.snap !== 'half') sheet.snapTo('half');
  const { x, y, width, height } = camera.free();
  const near =
    Math.abs(camera.screenX(vehicle.x) - x) < width / 2 - 40 &&
    Math.abs(camera.screenY(vehicle.y) - y) < height / 2 - 40;
  if (byList || !near) {
    camera.touched = true;
    camera.show(
      vehicle.x,
      vehicle.y,
      byList ? SELECT_MPP : camera.mpp,
      performance.now(),
      reducedMotion.matches,
    );
  }
  if (byList) byTest('panel').focus({ preventScroll: true });
}

function follow(vehicle) {
  follower?.stop();
  follower = null;
  if (vehicle) {
    const url = at(`ws/${encodeURIComponent(vehicle.channel)}`);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    follower = new Follower(vehicle.channel, url, () => panel.showFollower());
    camera.show(vehicle.x, vehicle.y, SELECT_MPP, performance.now(), reducedMotion.matches);
  }
  map.following = vehicle !== null;
  panel.setFollower(follower);
  map.request();
}

addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && selected) select(null);
});

/* --- the view --- */

const gestures = new Gestures(byTest('canvas'), camera, {
  onPick: (x, y, byTouch) => {
    const vehicle = map.at(x, y, byTouch ? 26 : 18);
    if (vehicle || selected) select(vehicle);
  },
  onHover: (spot) => {
    map.hovered = spot ? map.at(spot.x, spot.y) : null;
    byTest('canvas').classList.toggle('pointing', map.hovered !== null);
    map.request();
  },
  onPan: () => {
    camera.touched = true;
    map.following = false;
  },
  onFit: fit,
});
byTest('zoom-in').addEventListener('click', () => gestures.zoom(1));
byTest('zoom-out').addEventListener('click', () => gestures.zoom(-1));
byTest('fit').addEventListener('click', fit);

function extent() {
  if (!city.box.empty) return city.box;
  const box = new Box();
  for (const { to } of fleet.vehicles.values()) box.add(to.x, to.y);
  return box;
}

function fit() {
  camera.touched = false;
  map.following = false;
  map.fit(extent());
}

/* What lies over the map and takes room from it. */
function cover() {
  const narrow = sheet.narrow;
  camera.insets = {
    top: narrow ? 56 : 68,
    right: narrow ? 16 : 72,
    bottom: narrow ? Math.min(sheet.covered, innerHeight * 0.55) : 44,
    left: narrow ? 16 : 24,
  };
}

new ResizeObserver(() => {
  cover();
  map.resize();
  if (!camera.touched) map.fit(extent());
}).observe(byTest('map'));

document.addEventListener('themechange', () => {
  map.restyle();
  chips.repaint();
  list.repaint();
  panel.refresh(performance.now());
});

/* --- what moves with time alone --- */

let generation = -1;

function refresh() {
  const now = performance.now();
  fleet.expire(now);
  if (selected && !fleet.vehicles.has(selected.id)) select(null);
  if (generation !== fleet.generation) {
    generation = fleet.generation;
    chips.setLines(new Set([...fleet.vehicles.values()].map(({ line }) => line)));
    setText(byTest('vehicle-count'), count(fleet.vehicles.size));
    if (city.box.empty && !camera.touched && now - meters.startedAt < FIRST_FIT_MS)
      map.fit(extent());
  }
  meters.show(now);
  compare.show();
  if (sheet.tab === 'vehicles' && !selected) list.refresh(now);
  panel.refresh(now);
  link.refresh();
  setText(byTest('messages'), count(counts.messages));
  overlays.refresh(fleet.vehicles.size);
  map.request(); // greys
}

/* --- go --- */

expose({
  link,
  counts,
  notices,
  received,
  fleet,
  compare,
  follower: () => follower,
  meters,
  map,
});
palette.setLines(city.lines);
map.base.setCity(city);
introduce(about, city.name);
cover();
map.fit(extent());
refresh();
setInterval(refresh, 500);
link.start();
