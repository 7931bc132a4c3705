/* Does the page do what it shows? In Chromium, against gateways that each test starts itself. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  Gateway,
  Redis,
  dataFiles,
  newContext,
  openMap,
  prefixProxy,
  part,
  replay,
  shot,
  startBrowser,
  stopBrowser,
  until,
  waitFor,
} from './harness.mjs';

before(startBrowser);
after(stopBrowser);

const LINES = fileURLToPath(new URL('lines.geojson', import.meta.url));
const nothingWrong = (page) => assert.deepEqual(page.complaints, []);
const state = (page) => part(page, 'state').getAttribute('data-state');
const manyVehicles = (page, n) =>
  until(page, (least) => window.tramline.vehicles().length >= least, n);
const notice = (page, text) =>
  until(page, (words) => window.tramline.notices().find((n) => n.text.includes(words))?.text, text);

/* A map without a demo: its vehicles are what the test publishes. */
const quietGateway = (t, ...args) => Gateway.start(t, '--lines', LINES, ...args);

test('vehicles appear and move, and the header says how it goes', async (t) => {
  const page = await openMap(t, await Gateway.start(t, '--demo'));
  await manyVehicles(page, 30);
  const before = await page.evaluate(() => window.tramline.vehicles());
  await until(
    page,
    (then) => {
      const moved = window.tramline.vehicles().filter((v) => {
        const old = then.find(({ id }) => id === v.id);
        return old && Math.hypot(v.x - old.x, v.y - old.y) > 10;
      });
      return moved.length >= 10;
    },
    before,
  );
  assert.equal(await state(page), 'live');
  await until(page, () =>
    /^\d+$/.test(document.querySelector('[data-testid="clients"]').textContent),
  );
  await until(
    page,
    () => window.tramline.latency().p50 !== null && window.tramline.latency().p50 < 5000,
  );
  const { seen, holes, doubled, raws } = await page.evaluate(() => window.tramline.counts());
  assert.ok(seen > 30);
  assert.deepEqual([holes, doubled, raws], [0, 0, 0]);
  assert.ok((await page.title()).startsWith('Tramline · '));
  await shot(page, 'desktop');
  nothingWrong(page);
});

test('a vehicle is drawn where it is, and a click on it opens its panel', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  await gateway.fix(5);
  const [vehicle] = await until(
    page,
    () =>
      window.tramline.vehicles().length === 1 &&
      window.tramline.vehicles()[0].screen.x &&
      window.tramline.vehicles(),
  );
  await part(page, 'canvas').click({ position: vehicle.screen });
  await part(page, 'panel').waitFor();
  for (const [name, text] of Object.entries({
    title: 'Tram 5',
    route: 'to East End',
    line: '2',
    speed: '27 km/h',
    delay: '1 min 15 s late',
    stop: 'Amber Market',
    doors: 'closed',
    heading: '90° E',
  }))
    assert.equal(await part(page, `panel-${name}`).textContent(), text);
  assert.equal(JSON.parse(await part(page, 'panel-raw').textContent()).id, 5);
  nothingWrong(page);
});

test('two tabs see the same sequence of positions', async (t) => {
  const gateway = await Gateway.start(t, '--demo');
  const context = await newContext(t);
  const pages = await Promise.all([
    openMap(t, gateway, { context }),
    openMap(t, gateway, { context }),
  ]);
  await Promise.all(
    pages.map((page) => until(page, () => window.tramline.counts().messages >= 150)),
  );
  const [a, b] = await Promise.all(
    pages.map((page) => page.evaluate(() => window.tramline.received())),
  );
  const start = Math.max(
    a.findIndex(({ id }) => id === b[0].id),
    0,
  );
  const other = start > 0 ? 0 : b.findIndex(({ id }) => id === a[0].id);
  assert.ok(other >= 0, 'the tabs have a message in common');
  const n = Math.min(a.length - start, b.length - other);
  assert.ok(n >= 100, `${n} in common`);
  assert.deepEqual(a.slice(start, start + n), b.slice(other, other + n));
  pages.forEach(nothingWrong);
});

test('a dropped connection resumes with nothing missed, and the page says so', async (t) => {
  const page = await openMap(t, await Gateway.start(t, '--demo'));
  await until(page, () => window.tramline.counts().messages >= 60);
  await part(page, 'drop').click();
  await notice(page, 'dropped by you');
  const text = await notice(page, 'resumed:');
  assert.match(text, /^resumed: \d+ messages? replayed, nothing missed$/);
  await part(page, 'tab-events').click();
  assert.match(await part(page, 'log').textContent(), /nothing missed/);
  const { holes, doubled, gaps } = await page.evaluate(() => window.tramline.counts());
  assert.deepEqual([holes, doubled, gaps], [0, 0, 0]);
  const ids = await page.evaluate(() =>
    window.tramline.received().map(({ id }) => Number(id.split('-')[1])),
  );
  ids.forEach((place, i) => assert.equal(place, ids[0] + i));
  await shot(page, 'connection');
  nothingWrong(page);
});

test('what was missed while the connection was gone is told, with its number', async (t) => {
  const gateway = await quietGateway(t, '--log-messages', '8');
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  await gateway.fix(1);
  await manyVehicles(page, 1);
  // It stays away until all is published, however long that takes.
  let comeBack;
  const published = new Promise((resolve) => {
    comeBack = resolve;
  });
  await page.route('**/sse/**', async (route) => {
    await published;
    await route.continue();
  });
  await part(page, 'drop').click();
  await until(page, () => window.tramline.state().connection !== 'live');
  for (let i = 0; i < 30; i++) await gateway.fix(1);
  comeBack();
  assert.match(await notice(page, 'gap:'), /^gap: 22 missed, \d messages? replayed$/);
  await until(page, () => window.tramline.counts().seen >= 9);
  const { seen, holes, missed } = await page.evaluate(() => window.tramline.counts());
  assert.deepEqual([seen, holes, missed], [9, 0, 22]);
  await until(
    page,
    () => document.querySelector('[data-testid="real-share"]').textContent === '29 %',
  );
  nothingWrong(page);
});

test('the gateway is killed and started again: the page comes back and says that nothing is proven', async (t) => {
  const gateway = await Gateway.start(t, '--demo');
  const page = await openMap(t, gateway, { cut: true });
  await manyVehicles(page, 20);
  await gateway.kill();
  await until(
    page,
    () => document.querySelector('[data-testid="state"]').dataset.state === 'retrying',
  );
  await shot(page, 'reconnecting');
  await gateway.run();
  await until(page, () => window.tramline.state().connection === 'live');
  await notice(page, 'new epoch: continuity cannot be proven');
  const then = await page.evaluate(() => window.tramline.counts().fixes);
  await until(page, (fixes) => window.tramline.counts().fixes > fixes + 20, then);
  const { holes, gaps } = await page.evaluate(() => window.tramline.counts());
  assert.equal(holes, 0);
  assert.ok(gaps >= 1);
  assert.equal(await part(page, 'real-share').textContent(), '–');
  nothingWrong(page);
});

test('Redis goes and comes back: the page stays connected and says both', async (t) => {
  const redis = await Redis.start(t);
  const gateway = await quietGateway(t, '--redis', redis.url);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  await gateway.fix(1);
  await manyVehicles(page, 1);
  await redis.stop();
  await until(
    page,
    () => document.querySelector('[data-testid="state"]').dataset.state === 'broker-down',
  );
  await shot(page, 'broker-down');
  await redis.run();
  await until(page, () => document.querySelector('[data-testid="state"]').dataset.state === 'live');
  await notice(page, 'gap told');
  await waitFor(() => gateway.fix(1).then(() => true), 'the gateway publishes again');
  await until(page, () => window.tramline.counts().fixes >= 2);
  const { connects } = await page.evaluate(() => window.tramline.state());
  assert.equal(connects, 1);
  const texts = await page.evaluate(() => window.tramline.notices().map(({ text }) => text));
  assert.ok(texts.indexOf('broker down') < texts.indexOf('broker up again'));
  nothingWrong(page);
});

test('messages that are no position are shown as text and break nothing', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  const bad = [
    '<img src=x onerror="document.title=1">',
    'not json',
    '',
    '[]',
    'null',
    '{"id":1,"lat":"0","lon":0}',
    '{"id":1,"lat":91,"lon":0}',
    'a\r\nb',
    Uint8Array.of(0xff, 0, 0x7f),
    'ř'.repeat(100000),
  ];
  for (const body of bad) await gateway.publish('tram_x', body);
  await gateway.publish('tram_%0A%25%3B', '{"id":"<b>7</b>","line":"<i>","lat":54.7,"lon":2.3}');
  await gateway.fix(5);
  await until(page, () => window.tramline.vehicles().length === 2);
  assert.equal((await page.evaluate(() => window.tramline.counts())).raws, bad.length);
  await part(page, 'tab-events').click();
  const log = part(page, 'raws');
  assert.equal(await log.locator('li').count(), bad.length);
  assert.match(await log.textContent(), /<img src=x onerror=/);
  assert.match(await log.textContent(), /ff 00 7f/);
  assert.equal(await page.locator('.raws img, .list b b, .list i').count(), 0);
  await shot(page, 'no-position');
  nothingWrong(page);
});

test('following opens a second connection, and both see the same', async (t) => {
  const page = await openMap(t, await Gateway.start(t, '--demo'));
  await manyVehicles(page, 20);
  await part(page, 'list').focus();
  await page.keyboard.press('Enter');
  await part(page, 'follow').click();
  await until(page, () => window.tramline.follow()?.total >= 5);
  // The stream may go and come back; what it missed is replayed, so they still are the same.
  await part(page, 'drop').click();
  await notice(page, 'nothing missed');
  await until(page, () => window.tramline.follow().total >= 10);
  const { same, total } = await page.evaluate(() => window.tramline.follow());
  assert.equal(same, total);
  assert.match(await part(page, 'twin').textContent(), /identical: (\d+)\/\1$/);
  await shot(page, 'vehicle');
  await part(page, 'follow').click();
  assert.equal(await page.evaluate(() => window.tramline.follow()), null);
  nothingWrong(page);
});

test('a burst of 200 comes whole, while each simulated reader gets its tenth', async (t) => {
  const page = await openMap(t, await Gateway.start(t, '--demo'));
  await until(page, () => window.tramline.state().connection === 'live');
  await part(page, 'tab-compare').click();
  const began = Date.now();
  await part(page, 'burst-send').click();
  await until(page, () => window.tramline.compare().burst?.real === 200);
  await until(page, () => window.tramline.compare().burst.naive.reduce((a, b) => a + b, 0) >= 200);
  const { burst, real } = await page.evaluate(() => window.tramline.compare());
  assert.equal(real, 1);
  // How many depends on how fast this machine publishes: what takes seconds is no burst.
  const most = Date.now() - began < 2500 ? 150 : 200;
  for (const n of burst.naive) assert.ok(n >= 10 && n <= most, `${burst.naive}`);
  await until(
    page,
    () => document.querySelector('[data-testid="burst-real"]').textContent === '200/200',
  );
  await until(page, () =>
    /200 messages were published/.test(
      document.querySelector('[data-testid="burst-note"]').textContent,
    ),
  );
  await shot(page, 'side-by-side');
  nothingWrong(page);
});

test('a gateway that lets nobody publish is not blamed on the visitor', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, gateway, { cut: true });
  await page.route('**/pub/**', (route) => route.fulfill({ status: 401, body: '{}' }));
  await page.route('**/metrics', (route) => route.fulfill({ status: 403, body: '{}' }));
  await part(page, 'tab-compare').click();
  await part(page, 'burst-send').click();
  await until(page, () =>
    /needs its token/.test(document.querySelector('[data-testid="burst-note"]').textContent),
  );
  nothingWrong(page);
});

test('it works below a path of another site, too', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, await prefixProxy(t, gateway));
  await until(page, () => window.tramline.state().connection === 'live');
  await gateway.fix(5);
  await manyVehicles(page, 1);
  assert.equal(await part(page, 'city').textContent(), 'Testing');
  nothingWrong(page);
});

test('the map is dragged, zoomed and fitted', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  await gateway.fix(1, { lon: 2.29 });
  await gateway.fix(2, { lon: 2.31 });
  await manyVehicles(page, 2);
  const spots = () => page.evaluate(() => window.tramline.vehicles().map((v) => v.screen));
  await waitFor(async () => (await spots()).every(({ x }) => x > 0), 'both are drawn');
  const [a, b] = await spots();
  const span = b.x - a.x;
  const is = (x, y, apart) => async () => {
    const [one, two] = await spots();
    return (
      Math.abs(one.x - x) < 2 && Math.abs(one.y - y) < 2 && Math.abs(two.x - one.x - apart) < 4
    );
  };
  const box = await part(page, 'canvas').boundingBox();
  await page.mouse.move(box.x + 400, box.y + 700);
  await page.mouse.down();
  await page.mouse.move(box.x + 460, box.y + 640, { steps: 5 });
  await page.mouse.up();
  await waitFor(is(a.x + 60, a.y - 60, span), 'it is dragged');
  // Zoomed by the wheel, what is under the mouse stays there.
  await page.mouse.move(box.x + a.x + 60, box.y + a.y - 60);
  await page.mouse.wheel(0, -200);
  await waitFor(is(a.x + 60, a.y - 60, span * Math.exp(0.32)), 'it is zoomed');
  await waitFor(
    async () => (await part(page, 'tip').textContent()).includes('Tram 1'),
    'its name is shown',
  );
  await part(page, 'fit').click();
  await waitFor(is(a.x, a.y, span), 'it is fitted');
  await part(page, 'zoom-out').click();
  await waitFor(async () => {
    const [one, two] = await spots();
    return Math.abs(two.x - one.x - span / 1.7) < 4;
  }, 'it is zoomed out');
  nothingWrong(page);
});

test('the filter shows the chosen lines only, on the map and in the list', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  await gateway.fix(1, { line: '1' });
  await gateway.fix(2, { line: '2' });
  await gateway.fix(3, { line: '10' });
  await manyVehicles(page, 3);
  const chips = part(page, 'chips').locator('[data-line]');
  await waitFor(async () => (await chips.count()) === 3, 'a chip for each line');
  assert.deepEqual(await chips.evaluateAll((nodes) => nodes.map((n) => n.dataset.line)), [
    '1',
    '2',
    '10',
  ]);
  await chips.nth(1).click();
  assert.equal(await part(page, 'list').locator('[role="option"]').count(), 1);
  assert.equal(await chips.nth(1).getAttribute('aria-pressed'), 'true');
  await part(page, 'chips').getByText('All lines').click();
  assert.equal(await part(page, 'list').locator('[role="option"]').count(), 3);
  await part(page, 'search').fill('10');
  assert.equal(await part(page, 'list').locator('[role="option"]').count(), 1);
  nothingWrong(page);
});

test('with the keyboard alone a vehicle is found, chosen and left again', async (t) => {
  const gateway = await quietGateway(t);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  for (const id of [1, 2, 3]) await gateway.fix(id);
  await waitFor(
    async () => (await part(page, 'list').locator('[role="option"]').count()) === 3,
    'three rows',
  );
  for (let i = 0; i < 40; i++) {
    if (await part(page, 'list').evaluate((list) => list === document.activeElement)) break;
    await page.keyboard.press('Tab');
  }
  await page.keyboard.press('ArrowDown');
  const active = await part(page, 'list').getAttribute('aria-activedescendant');
  assert.equal(await page.locator(`#${active}`).getAttribute('data-id'), '2');
  await page.keyboard.press('End');
  await page.keyboard.press('Enter');
  await part(page, 'panel').waitFor();
  assert.equal(await part(page, 'panel-title').textContent(), 'Tram 3');
  await page.keyboard.press('Escape');
  await part(page, 'panel').waitFor({ state: 'hidden' });
  assert.ok(await part(page, 'list').evaluate((list) => list === document.activeElement));
  // The map itself: zoom and pan by keys.
  await part(page, 'canvas').focus();
  const x = () => page.evaluate(() => window.tramline.vehicles()[0].screen.x);
  let old = null;
  await waitFor(async () => {
    const before = old;
    await page.evaluate(() => new Promise(requestAnimationFrame));
    old = await x();
    return old === before;
  }, 'the map has come to the chosen one');
  await page.keyboard.press('ArrowRight');
  await waitFor(async () => Math.abs((await x()) - old + 90) < 2, 'the map is panned');
  nothingWrong(page);
});

test('a phone has the sheet and nothing to scroll sideways', async (t) => {
  const gateway = await Gateway.start(t, '--demo');
  const page = await openMap(t, gateway, {
    viewport: { width: 390, height: 844 },
    deviceScaleFactor: 2,
    hasTouch: true,
    isMobile: true,
  });
  await manyVehicles(page, 20);
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok((await overflow()) <= 0);
  const small = await page.evaluate(() =>
    [...document.querySelectorAll('button:not([hidden])')]
      .map((b) => [b.dataset.testid ?? b.textContent, b.getBoundingClientRect()])
      .filter(
        ([, r]) =>
          r.width > 0 &&
          r.bottom <= innerHeight &&
          Math.min(r.width, r.height) < (r.width > 300 ? 36 : 43.5),
      )
      .map(([name, r]) => `${name} ${r.width}x${r.height}`),
  );
  assert.deepEqual(small, []);
  await shot(page, 'phone');
  const box = await part(page, 'canvas').boundingBox();
  const inView = (v) => v.screen.x > 40 && v.screen.x < 300 && v.screen.y > 120 && v.screen.y < 480;
  // It drives on, and may be gone from there before the finger comes.
  await waitFor(async () => {
    const vehicle = (await page.evaluate(() => window.tramline.vehicles())).find(inView);
    if (!vehicle) return false;
    await page.touchscreen.tap(box.x + vehicle.screen.x, box.y + vehicle.screen.y);
    return part(page, 'panel').isVisible();
  }, 'a tap on a vehicle opens its panel');
  assert.equal(await part(page, 'side').getAttribute('data-snap'), 'half');
  await waitFor(async () => (await part(page, 'panel').boundingBox()).y < 700, 'the sheet is up');
  assert.ok((await overflow()) <= 0);
  assert.equal(
    await page.evaluate(() => document.scrollingElement.scrollTop + document.body.scrollTop),
    0,
  );
  await shot(page, 'phone-vehicle');
  await part(page, 'tab-compare').tap();
  await part(page, 'grip').tap();
  await until(
    page,
    () => document.querySelector('[data-testid="side"]').getBoundingClientRect().top < 200,
  );
  await shot(page, 'phone-side-by-side');
  assert.ok((await overflow()) <= 0);
  nothingWrong(page);
});

const ground = (page) =>
  page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));

test('it is dark where the system is, and where the visitor wants it', async (t) => {
  const gateway = await Gateway.start(t, '--demo');
  const page = await openMap(t, gateway, { colorScheme: 'dark' });
  await manyVehicles(page, 20);
  assert.ok(Math.max(...(await ground(page))) < 60);
  await shot(page, 'dark');
  await part(page, 'theme').click();
  assert.ok(Math.min(...(await ground(page))) > 200);
  await page.reload();
  await manyVehicles(page, 20);
  assert.ok(Math.min(...(await ground(page))) > 200, 'it is remembered');
  nothingWrong(page);
});

test('text can be read on its ground, light and dark', async (t) => {
  const gateway = await Gateway.start(t, '--demo');
  for (const colorScheme of ['light', 'dark']) {
    const page = await openMap(t, gateway, { colorScheme });
    await manyVehicles(page, 20);
    for (const tab of ['tab-vehicles', 'tab-compare', 'tab-events']) {
      await part(page, tab).click();
      assert.deepEqual(await page.evaluate(lowContrast), [], `${colorScheme}, ${tab}`);
    }
    nothingWrong(page);
  }
});

/* In the page: texts of less than WCAG AA's contrast. */
function lowContrast() {
  const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) =>
      v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const groundOf = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = numbers(getComputedStyle(n).backgroundColor);
      if (
        colour.length >= 3 &&
        (colour[3] ?? 1) > 0.85 &&
        !/color\(/.test(getComputedStyle(n).backgroundColor)
      )
        return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (
      text.data.trim() === '' ||
      !node.checkVisibility() ||
      node.closest('.skip, noscript, [disabled]')
    )
      continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(numbers(style.color)), light(groundOf(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.02)
      bad.push(`${text.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
}

test('Warsaw: 440 buses over their own lines, with the attribution, in frames that take little', async (t) => {
  const files = dataFiles();
  if (!files) {
    t.skip('no recording; set TRAMLINE_DATA');
    return;
  }
  const attribution = 'Miasto Stoleczne Warszawa (https://api.um.warszawa.pl), processed';
  const gateway = await Gateway.start(t, '--lines', files.lines, '--attribution', attribution);
  const page = await openMap(t, gateway);
  await until(page, () => window.tramline.state().connection === 'live');
  replay(t, gateway, files.positions, 20);
  await manyVehicles(page, 400);
  await until(page, () => window.tramline.frames().script.length >= 200);
  assert.match(await part(page, 'credit').textContent(), /Miasto Stoleczne Warszawa/);
  assert.equal(
    await part(page, 'attribution').locator('a').getAttribute('href'),
    'https://api.um.warszawa.pl',
  );
  assert.equal(await part(page, 'latency').textContent(), '–', 'a recording has no latency');
  const { script, spans } = await page.evaluate(() => window.tramline.frames());
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
  t.diagnostic(
    `440 vehicles: script ${median(script).toFixed(2)} ms a frame, ${median(spans).toFixed(1)} ms between frames`,
  );
  const { holes, doubled, raws } = await page.evaluate(() => window.tramline.counts());
  assert.deepEqual([holes, doubled, raws], [0, 0, 0]);
  await shot(page, 'warsaw');
  nothingWrong(page);
});
