/* The page's pure modules in node: do they keep their contracts, whole, byte by byte, cut anywhere? */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { webModules } from './harness.mjs';

const [
  { SseParser, readEvent, decodeName },
  { EventStream },
  { NaiveFanout, chance },
  { Continuity },
  { readFix },
  { Comparison },
  { Fleet },
  { readGeometry },
  { dealLanes, shift },
] = await webModules(
  'sse.js',
  'stream.js',
  'naive.js',
  'continuity.js',
  'fix.js',
  'follow.js',
  'fleet.js',
  'geometry.js',
  'lanes.js',
);

/* --- SSE --- */

/* All that a parser tells of bytes that arrive in these pieces. */
function parsed(pieces) {
  const told = [];
  const parser = new SseParser({
    onEvent: (event) => told.push(event),
    onId: (id) => told.push({ start: id }),
    onRetry: (retry) => told.push({ retry }),
  });
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const piece of pieces) parser.push(decoder.decode(piece, { stream: true }));
  return told;
}

const bytesOf = (text) => new TextEncoder().encode(text);

function cutAtRandom(bytes, random) {
  const pieces = [];
  for (let at = 0; at < bytes.length;) {
    const n = 1 + Math.floor(random() * 9);
    pieces.push(bytes.slice(at, at + n));
    at += n;
  }
  return pieces;
}

const STREAMS = {
  'what the gateway sends': [
    'retry: 1500\n\n: tramline\n\nid: 0123456789abcdef-7\n\nid: 0123456789abcdef-8\nevent: tram_5\ndata: {"id":5}\n\n: \n\n',
    [
      { retry: 1500 },
      { start: '0123456789abcdef-7' },
      { id: '0123456789abcdef-8', event: 'tram_5', data: '{"id":5}' },
    ],
  ],
  'lines ended by CR, LF and CRLF': [
    'data: a\rdata: b\ndata: c\r\n\r\ndata: d\r\rdata: e\n\n',
    [
      { id: '', event: '', data: 'a\nb\nc' },
      { id: '', event: '', data: 'd' },
      { id: '', event: '', data: 'e' },
    ],
  ],
  'a BOM at the start and one in a payload': [
    '\uFEFFdata: \uFEFFx\n\n',
    [{ id: '', event: '', data: '\uFEFFx' }],
  ],
  'characters of two, three and four bytes': [
    'event: ř\ndata: Ł€🚋\n\n',
    [{ id: '', event: 'ř', data: 'Ł€🚋' }],
  ],
  'one space after the colon goes, others stay': [
    'data:  x\ndata:y\ndata\n\n',
    [{ id: '', event: '', data: ' x\ny\n' }],
  ],
  'an empty payload is an event, no payload is none': [
    'data:\n\nevent: x\n\ndata\n\n',
    [
      { id: '', event: '', data: '' },
      { id: '', event: '', data: '' },
    ],
  ],
  'an id with NUL is ignored, an empty one clears': [
    'id: 1\n\nid: 2\0\ndata: a\n\nid\ndata: b\n\n',
    [{ start: '1' }, { id: '1', event: '', data: 'a' }, { id: '', event: '', data: 'b' }],
  ],
  'retry that is no number, unknown fields, comments': [
    'retry: 1x\nretry:\nfoo: bar\n: data: no\ndata: a\n\n',
    [{ id: '', event: '', data: 'a' }],
  ],
  'a block without its end is no event': [
    'data: a\n\ndata: b\n',
    [{ id: '', event: '', data: 'a' }],
  ],
};

describe('the SSE parser', () => {
  for (const [name, [text, expected]] of Object.entries(STREAMS)) {
    test(`reads ${name}: whole, byte by byte, cut at random`, () => {
      const bytes = bytesOf(text);
      assert.deepEqual(parsed([bytes]), expected);
      assert.deepEqual(parsed([...bytes].map((b) => Uint8Array.of(b))), expected);
      const random = chance(1);
      for (let round = 0; round < 200; round++)
        assert.deepEqual(parsed(cutAtRandom(bytes, random)), expected);
    });
  }

  test('refuses a block without end instead of keeping it for ever', () => {
    const parser = new SseParser({ onEvent: () => {} });
    const chunk = 'x'.repeat(8 << 20);
    assert.throws(() => {
      for (let i = 0; i < 9; i++) parser.push(chunk);
    }, RangeError);
  });
});

describe('an event of the gateway', () => {
  const read = (event, data, id = '') => readEvent({ id, event, data });

  test('is a message of the channel that it is named after', () => {
    assert.deepEqual(read('tram_5', 'x', 'e-1'), {
      kind: 'message',
      id: 'e-1',
      channel: 'tram_5',
      text: 'x',
      bytes: null,
    });
    assert.equal(read('tram%3B5%25', 'x').channel, 'tram;5%');
    assert.equal(decodeName('%67ap'), 'gap');
    assert.equal(decodeName('%FFř%41'), '\uFFFDřA');
  });

  test('is a gap or a notice only under the plain name', () => {
    assert.deepEqual(read('gap', '{"missed":5,"reason":"r"}'), {
      kind: 'gap',
      missed: 5,
      reason: 'r',
    });
    assert.deepEqual(read('gap', '{"missed":null,"reason":"r"}'), {
      kind: 'gap',
      missed: null,
      reason: 'r',
    });
    assert.deepEqual(read('gap', 'nonsense'), { kind: 'gap', missed: null, reason: '' });
    assert.deepEqual(read('broker', '{"state":"down"}'), {
      kind: 'broker',
      state: 'down',
      reason: '',
    });
    assert.equal(read('%67ap', '{}').kind, 'message');
  });

  test('carries bytes as base64, named or not, and text with CR too', () => {
    assert.deepEqual(read('tram_5;base64', '/wA=').bytes, Uint8Array.of(255, 0));
    assert.equal(read('tram_5;base64', '/wA=').channel, 'tram_5');
    assert.equal(read('base64', Buffer.from('a\r\nb').toString('base64')).text, 'a\r\nb');
    assert.equal(read('base64', '!').text, '!');
  });
});

/* --- the stream --- */

/* A fetch that answers with scripts: each a list of pieces, the connection ends after the last. */
function scripted(...scripts) {
  const asked = [];
  const fetch = async (url, { headers, signal }) => {
    asked.push(headers['Last-Event-ID'] ?? '');
    const script = scripts.shift();
    if (!script) throw new TypeError('refused');
    const body = new ReadableStream({
      start(controller) {
        for (const piece of script) controller.enqueue(bytesOf(piece));
        if (script.open)
          signal.addEventListener('abort', () => controller.error(new Error('aborted')));
        else controller.close();
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  };
  return { fetch, asked };
}

const open = (...pieces) => Object.assign(pieces, { open: true });

describe('the stream', () => {
  test('comes back with the id of the last message, and counts what was replayed', async (t) => {
    const { fetch, asked } = scripted(
      ['retry: 1\n\nid: e-1\n\n', 'id: e-2\ndata: a\n\nid: e-3\nda'],
      open('id: e-2\n\nid: e-3\ndata: b\n\nid: e-4\ndata: c\n\n'),
    );
    const told = [];
    await new Promise((resolve) => {
      const stream = new EventStream(
        'x',
        {
          onState: (state) => told.push(state),
          onMessage: ({ text, replayed }) => told.push([text, replayed]),
          onAcknowledged: ({ id, resumedFrom }) => told.push([id, resumedFrom]),
          onCaughtUp: (n) => {
            told.push(n);
            resolve();
          },
        },
        { fetch, random: () => 0 },
      );
      t.after(() => stream.stop());
      stream.start();
    });
    assert.deepEqual(asked, ['', 'e-2']);
    assert.deepEqual(told, [
      'connecting',
      ['e-1', ''],
      'live',
      ['a', false],
      'retrying',
      ['e-2', 'e-2'],
      'live',
      ['b', true],
      ['c', true],
      2,
    ]);
  });

  test('drops on demand and says so; nothing of the old connection is told afterwards', async (t) => {
    const { fetch, asked } = scripted(
      open('id: e-1\n\nid: e-2\ndata: a\n\nid: e-3\ndata: b\n\n'),
      open('id: e-2\n\n'),
    );
    const texts = [];
    await new Promise((resolve) => {
      const stream = new EventStream(
        'x',
        {
          onMessage: ({ text }) => {
            texts.push(text);
            stream.drop(1);
          },
          onCaughtUp: resolve,
        },
        { fetch },
      );
      t.after(() => stream.stop());
      stream.start();
    });
    assert.deepEqual(texts, ['a']);
    assert.deepEqual(asked, ['', 'e-2']);
  });
});

/* --- continuity --- */

const E = '0123456789abcdef';
const F = 'fedcba9876543210';

describe('continuity', () => {
  const after = (...places) => {
    const c = new Continuity();
    c.acknowledged({ id: `${E}-0`, resumedFrom: '' });
    for (const place of places) c.message({ id: `${E}-${place}` });
    return c;
  };

  test('consecutive places prove that nothing is missing', () => {
    const c = after(1, 2, 3);
    assert.deepEqual([c.seen, c.holes, c.share], [3, 0, 1]);
  });

  test('a hole that nobody told of is counted, and so is a double', () => {
    const c = after(1, 2, 5, 5);
    assert.deepEqual([c.seen, c.holes, c.doubled], [4, 2, 1]);
  });

  test('the places of notices are no holes', () => {
    const c = after(1);
    c.notice();
    c.message({ id: `${E}-3` });
    assert.equal(c.holes, 0);
  });

  test('a resume at the very place loses nothing', () => {
    const c = after(1, 2);
    c.acknowledged({ id: `${E}-2`, resumedFrom: `${E}-2` });
    c.message({ id: `${E}-3` });
    assert.equal(c.verdict(1).text, 'resumed: 1 message replayed, nothing missed');
  });

  test('a resume elsewhere without a word is a gap', () => {
    const c = after(1, 2);
    c.acknowledged({ id: `${E}-9`, resumedFrom: `${E}-2` });
    assert.deepEqual([c.verdict(0).kind, c.holes], ['gap', 7]);
  });

  test('a gap that was told has its number', () => {
    const c = after(1, 2);
    c.gap({ missed: 40, id: `${E}-2` }, true);
    c.acknowledged({ id: `${E}-42`, resumedFrom: `${E}-2` });
    assert.equal(c.verdict(3).text, 'gap: 40 missed, 3 messages replayed');
    assert.deepEqual([c.holes, c.missed], [0, 40]);
  });

  test('a new epoch proves nothing, and the page says so', () => {
    const c = after(1, 2);
    c.gap({ missed: null, id: '' }, true);
    c.acknowledged({ id: `${F}-2`, resumedFrom: `${E}-2` });
    assert.equal(c.verdict(0).text, 'new epoch: continuity cannot be proven');
    assert.equal(c.share, null);
  });

  test('after a gap in the stream, places go on from there', () => {
    const c = after(1, 2);
    c.gap({ missed: 1, id: `${F}-9` }, false);
    c.message({ id: `${F}-10` });
    assert.deepEqual([c.holes, c.gaps, c.missed], [0, 1, 1]);
  });
});

/* --- the usual code, simulated --- */

/* A clock of the test's own. */
class Clock {
  constructor() {
    this.now = 0;
    this.due = [];
    this.later = (ms, run) => this.due.push({ at: this.now + ms, run });
  }

  async to(time) {
    for (;;) {
      for (let i = 0; i < 30; i++) await null; // promises that hang on each other
      this.due.sort((a, b) => a.at - b.at);
      if (this.due.length === 0 || this.due[0].at > time) break;
      const { at, run } = this.due.shift();
      this.now = at;
      run();
    }
    this.now = time;
  }
}

describe('the usual code', () => {
  const made = () => {
    const clock = new Clock();
    return { clock, naive: new NaiveFanout({ readers: 10, later: clock.later }) };
  };

  test('gives a single message to all who wait', async () => {
    const { clock, naive } = made();
    await clock.to(0);
    naive.offer('a');
    await clock.to(1);
    assert.deepEqual(naive.received, new Array(10).fill(1));
    assert.equal(naive.share, 1);
  });

  test('gives slow messages to all', async () => {
    const { clock, naive } = made();
    for (let i = 0; i < 20; i++) {
      await clock.to(i * 100);
      naive.offer(i);
    }
    await clock.to(5000);
    assert.deepEqual(naive.received, new Array(10).fill(20));
  });

  test('deals a burst out: of 200 messages each of 10 readers gets about 20', async () => {
    const { clock, naive } = made();
    await clock.to(0);
    for (let i = 0; i < 200; i++) naive.offer(i);
    await clock.to(60000);
    assert.equal(naive.handedOut, 200);
    // All had waited for the first one; each later one went to one reader.
    assert.equal(
      naive.received.reduce((a, b) => a + b),
      10 + 199,
    );
    for (const n of naive.received) assert.ok(n > 12 && n < 30, `${naive.received}`);
  });

  test('loses to those who are sending: at 40 a second about half', async () => {
    const { clock, naive } = made();
    for (let i = 0; i < 2000; i++) {
      await clock.to(i * 25);
      naive.offer(i);
    }
    await clock.to(60000);
    assert.equal(naive.handedOut, 2000);
    assert.ok(naive.share > 0.3 && naive.share < 0.8, `${naive.share}`);
  });

  test('is the same on every screen', async () => {
    const runs = [];
    for (let run = 0; run < 2; run++) {
      const { clock, naive } = made();
      for (let i = 0; i < 100; i++) {
        await clock.to(i * 10);
        naive.offer(i);
      }
      await clock.to(10000);
      runs.push(naive.received);
    }
    assert.deepEqual(runs[0], runs[1]);
  });
});

/* --- payloads --- */

describe('a payload', () => {
  test('of either kind of publisher is a fix', () => {
    const { fix } = readFix(
      '{"id":5,"line":"2","dir":0,"lat":54.7,"lon":2.3,"spd":7.4,"hdg":123,"stop":"Amber Market","doors":0,"delay":-12,"ts":1}',
    );
    assert.deepEqual([fix.id, fix.line, fix.delay, fix.doors], ['5', '2', -12, 0]);
    const bare = readFix(
      '{"ts":1,"id":1412,"line":"173","lat":52.2,"lon":21.0,"spd":null,"hdg":null}',
    ).fix;
    assert.deepEqual([bare.id, bare.spd, bare.hdg, bare.stop], ['1412', null, null, null]);
    assert.equal(readFix('{"id":"a","lat":0,"lon":0}').fix.line, '');
  });

  const NONE = {
    'not JSON': 'hello',
    'no JSON object': '[1]',
    binary: null,
    'no lat': '{"id":1,"lon":0}',
    'bad lat': '{"id":1,"lat":91,"lon":0}',
    'bad lon': '{"id":1,"lat":0,"lon":"0"}',
    'bad id': '{"id":{},"lat":0,"lon":0}',
    'bad spd': '{"id":1,"lat":0,"lon":0,"spd":-1}',
    'bad line': '{"id":1,"lat":0,"lon":0,"line":["x"]}',
    'bad stop': `{"id":1,"lat":0,"lon":0,"stop":"${'x'.repeat(65)}"}`,
    'no id': '{"__proto__":{"id":1},"lat":0,"lon":0}',
  };
  for (const [reason, payload] of Object.entries(NONE))
    test(`${payload === null ? 'of bytes' : payload.slice(0, 40)} is none: ${reason}`, () => {
      assert.equal(readFix(payload).reason, reason);
    });
});

/* --- two connections --- */

describe('two connections', () => {
  test('are compared from the first message that both have', () => {
    const c = new Comparison();
    for (const m of ['1', '2', '3']) c.fromStream(m);
    for (const m of ['3', '4']) c.fromSocket(m);
    for (const m of ['4', '5']) c.fromStream(m);
    assert.deepEqual([c.same, c.total], [2, 2]);
  });

  test('that differ are seen to differ', () => {
    const c = new Comparison();
    for (const m of ['1', '2', '3']) c.fromSocket(m);
    for (const m of ['1', 'x', '3']) c.fromStream(m);
    assert.deepEqual([c.same, c.total], [2, 3]);
  });
});

/* --- the fleet --- */

describe('a vehicle', () => {
  const plane = { x: (lon) => lon, y: (lat) => lat }; // degrees as metres will do
  const fix = (lon, more = {}) => ({ id: '1', line: '2', lat: 0, lon, hdg: null, ...more });
  const moved = (...steps) => {
    const fleet = new Fleet(plane);
    for (const [lon, at] of steps) fleet.take(fix(lon), { channel: 'tram_1', text: '' }, at);
    return [fleet, fleet.vehicles.get('1')];
  };

  test('is shown between its fixes, at their pace, and a little past the last', () => {
    const [fleet, v] = moved([0, 0], [100, 1000]);
    fleet.moveTo(1500);
    assert.ok(Math.abs(v.x - 50) < 1, `${v.x}`);
    fleet.moveTo(9000);
    assert.ok(v.x > 100 && v.x < 112, `${v.x}`);
    assert.equal(fleet.moveTo(9001), false);
  });

  test('never jumps when a fix comes', () => {
    const [fleet, v] = moved([0, 0], [100, 1000]);
    fleet.moveTo(1700);
    const before = v.x;
    fleet.take(fix(150), { channel: 'tram_1', text: '' }, 1700);
    assert.equal(v.x, before);
  });

  test('leaps where it cannot have driven', () => {
    const [, v] = moved([0, 0], [5000, 1000]);
    assert.equal(v.x, 5000);
  });

  test('takes its heading from its way when it tells none', () => {
    const [fleet, v] = moved([0, 0], [100, 1000]);
    fleet.moveTo(2000);
    assert.equal(Math.round(v.heading), 90);
  });

  test('turns grey after three of its own intervals, and is forgotten in the end', () => {
    const [fleet, v] = moved([0, 0], [10, 12000], [20, 24000], [30, 36000]);
    assert.equal(v.isGrey(36000 + 35000), false);
    assert.equal(v.isGrey(36000 + 37000), true);
    fleet.expire(36000 + 300001);
    assert.equal(fleet.vehicles.size, 0);
  });

  test('that comes from a log in one go keeps its pace', () => {
    const [, v] = moved([0, 0], [10, 1000], [20, 2000], [30, 5000], [40, 5001], [50, 5002]);
    assert.equal(v.interval, 1000);
  });
});

/* --- geometry --- */

describe('geometry', () => {
  const line = (name, coordinates, more = {}) => ({
    type: 'Feature',
    properties: { line: name, ...more },
    geometry: { type: 'LineString', coordinates },
  });

  test('that is none leaves an empty city', () => {
    for (const none of [
      null,
      1,
      [],
      {},
      { features: 1 },
      {
        features: [
          null,
          1,
          {},
          { geometry: {} },
          line('1', 'x'),
          line('1', [
            [0, 'a'],
            [1, 1],
          ]),
        ],
      },
    ]) {
      const city = readGeometry(none);
      assert.deepEqual([city.lines.size, city.plane, city.box.empty], [0, null, true]);
    }
  });

  test('is in metres around its middle', () => {
    const city = readGeometry({
      name: 'X',
      features: [
        line('1', [
          [10, 50],
          [10.01, 50],
        ]),
        line('1', [
          [10, 50],
          [10, 50.01],
        ]),
      ],
    });
    assert.deepEqual([city.name, city.lines.size, city.lines.get('1').parts.length], ['X', 1, 2]);
    assert.ok(Math.abs(city.box.maxY - city.box.minY - 1113) < 10);
    assert.ok(Math.abs(city.box.maxX - city.box.minX - 715) < 10);
  });

  test('puts lines that share a street side by side, on the same sides both ways', () => {
    const there = Float64Array.of(0, 0, 100, 0);
    const back = Float64Array.of(100, 0, 0, 0);
    const lanes = dealLanes([
      { parts: [there], colour: 'a' },
      { parts: [back], colour: 'b' },
      { parts: [there], colour: 'a' },
    ]);
    const y = (part, lane) => shift(part, lane, 4).filter((_, i) => i % 2 === 1);
    assert.deepEqual(y(there, lanes[0][0]), [-2, -2]);
    assert.deepEqual(y(back, lanes[1][0]), [2, 2]);
    assert.deepEqual(y(there, lanes[2][0]), [-2, -2]);
  });
});
