/*
 * What the browser tests share: gateways and Redis servers of their own, with an end; Chromium with
 * pages that may not complain; waiting with a deadline. Nothing here sleeps in the hope that
 * something has happened.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TRAMLINE = process.env.TRAMLINE ?? path.join(ROOT, 'build/tramline');
const SHOTS = process.env.TRAMLINE_SHOTS ?? path.join(ROOT, 'build/screenshots');
const CHROMIUM = process.env.TRAMLINE_CHROMIUM ?? '/usr/bin/chromium';
// For waiting only, and long, as only a failing test waits for it: under load and sanitizers
// everything takes longer.
const PATIENCE = Number(process.env.TRAMLINE_PATIENCE ?? 1);
export const DEADLINE = 60000 * PATIENCE;

/* The recording and its lines; TRAMLINE_DATA names the recording, or the directory of both. */
export function dataFiles() {
  const given = process.env.TRAMLINE_DATA ?? path.join(ROOT, '../shared/data/positions.ndjson');
  const directory = given.endsWith('.ndjson') ? path.dirname(given) : given;
  const files = {
    positions: path.join(directory, 'positions.ndjson'),
    lines: path.join(directory, 'lines.geojson'),
  };
  return Object.values(files).every((file) => fs.existsSync(file)) ? files : null;
}

/* Modules of web/ as node can import them: there is no package.json there, so a copy gets one. */
export async function webModules(...names) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tramline-web-'));
  for (const file of fs.readdirSync(path.join(ROOT, 'web')))
    if (file.endsWith('.js'))
      fs.copyFileSync(path.join(ROOT, 'web', file), path.join(directory, file));
  fs.writeFileSync(path.join(directory, 'package.json'), '{"type":"module"}');
  try {
    return await Promise.all(
      names.map((name) => import(pathToFileURL(path.join(directory, name)).href)),
    );
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/* condition()'s first true value; its errors count as "not yet". */
export async function waitFor(condition, what, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  let error = null;
  for (let pause = 5; ; pause = Math.min(100, pause * 1.5)) {
    try {
      error = null;
      const value = await condition();
      if (value) return value;
    } catch (e) {
      error = e;
    }
    if (Date.now() > end) throw new Error(`not in time: ${what}`, { cause: error ?? undefined });
    await new Promise((resolve) => {
      setTimeout(resolve, pause);
    });
  }
}

/* From below those that the kernel gives to outgoing connections, so that nobody takes it meanwhile. */
export async function freePort() {
  for (;;) {
    const port = 10000 + Math.floor(Math.random() * 22768);
    const server = net.createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch {
      continue;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}

/* A process of ours. What it says is kept, and shown when it ends badly. */
class Child {
  constructor(program, args) {
    this.name = `${path.basename(program)} ${args.join(' ')}`;
    this.output = '';
    this.process = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = once(this.process, 'exit');
    this.ended.catch(() => {}); // a program that is not there: told where it is waited for
    for (const stream of [this.process.stdout, this.process.stderr])
      stream.on('data', (bytes) => {
        this.output = (this.output + bytes).slice(-20000);
      });
  }

  get running() {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /* The exit status, or the signal's name. */
  async end(signal = 'SIGTERM') {
    if (this.running) this.process.kill(signal);
    const late = setTimeout(() => this.process.kill('SIGKILL'), DEADLINE);
    const [code, by] = await this.ended;
    clearTimeout(late);
    return code ?? by;
  }
}

export class Gateway {
  constructor(port, args) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.args = ['serve', '--listen', `127.0.0.1:${port}`, '--drain', '100ms', ...args];
    this.child = null;
  }

  static async start(t, ...args) {
    const gateway = new Gateway(await freePort(), args);
    t.after(() => gateway.finish());
    await gateway.run();
    return gateway;
  }

  async run() {
    this.child = new Child(TRAMLINE, this.args);
    await waitFor(() => {
      if (!this.child.running) throw new Error(`${this.child.name} ended:\n${this.child.output}`);
      return fetch(`${this.url}/healthz`).then(({ ok }) => ok);
    }, `${this.child.name} answers`);
  }

  kill() {
    return this.child.end('SIGKILL');
  }

  async finish() {
    if (!this.child?.running) return;
    const status = await this.child.end();
    if (status !== 0)
      throw new Error(`${this.child.name} ended with ${status}:\n${this.child.output}`);
  }

  async publish(channel, body) {
    const response = await fetch(`${this.url}/pub/${channel}`, { method: 'POST', body });
    if (!response.ok) throw new Error(`publish answered ${response.status}`);
  }

  /* A fleet that is published by the test itself. */
  fix(id, more = {}) {
    const fix = {
      id,
      line: '2',
      dir: 0,
      lat: 54.7,
      lon: 2.3,
      spd: 7.4,
      hdg: 90,
      stop: 'Amber Market',
      doors: 0,
      delay: 75,
      ts: Date.now(),
      ...more,
    };
    return this.publish(`tram_${id}`, JSON.stringify(fix));
  }
}

/*
 * A proxy that serves a gateway below /city/, as a site would: {url}. It passes on what the page
 * asks for by HTTP, the Host header included, and 404 for all else.
 */
export async function prefixProxy(t, gateway) {
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith('/city/')) {
      response.writeHead(404).end();
      return;
    }
    const { method, headers } = request;
    const path = request.url.slice('/city'.length);
    const onward = http.request({ port: gateway.port, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}/city` };
}

/* `tramline replay` of a recording to a gateway, until the test is over. */
export function replay(t, gateway, file, speed) {
  const child = new Child(TRAMLINE, [
    'replay',
    file,
    '--channel',
    'tram_{id}',
    '--speed',
    String(speed),
    '--to',
    gateway.url,
  ]);
  t.after(() => child.end());
}

/* A real redis-server. */
export class Redis {
  static async start(t) {
    const redis = new Redis();
    redis.port = await freePort();
    t.after(() => redis.stop());
    await redis.run();
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async run() {
    this.child = new Child('redis-server', [
      '--port',
      String(this.port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
    ]);
    await waitFor(
      async () => (await this.command('PING')).startsWith('+PONG'),
      'redis-server answers',
    );
  }

  async stop() {
    await this.child?.end('SIGKILL');
  }

  command(...words) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.port, '127.0.0.1');
      socket.on('error', reject);
      socket.once('data', (bytes) => {
        socket.destroy();
        resolve(String(bytes));
      });
      socket.write(
        `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`,
      );
    });
  }
}

let browser = null;

export async function startBrowser() {
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    timeout: DEADLINE,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
}

export async function stopBrowser() {
  await browser?.close();
}

/*
 * A tab that shows the map. It fails its test when it complains on its console; a test that cuts the
 * network under it lets it complain of that alone, with `cut: true`.
 */
export async function openMap(t, gateway, { context, cut = false, ...options } = {}) {
  const own = context ?? (await newContext(t, options));
  const page = await own.newPage();
  page.setDefaultTimeout(DEADLINE);
  const complaints = [];
  const isOfNetwork = (text) =>
    cut && /^Failed to load resource|net::ERR_|WebSocket connection to/.test(text);
  page.on('pageerror', (error) => complaints.push(error.stack ?? String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !isOfNetwork(message.text()))
      complaints.push(`${message.type()}: ${message.text()} (${message.location().url})`);
  });
  await page.goto(`${gateway.url}/`);
  await page.waitForFunction(() => window.tramline !== undefined, null, { timeout: DEADLINE });
  page.complaints = complaints;
  return page;
}

export async function newContext(t, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  t.after(() => context.close());
  return context;
}

export const part = (page, name) => page.locator(`[data-testid="${name}"]`);

/* Wait until the expression, seen in the page, is true; returns its value. */
export async function until(page, expression, argument) {
  const handle = await page.waitForFunction(expression, argument, { timeout: DEADLINE });
  return handle.jsonValue();
}

export async function shot(page, name) {
  fs.mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
}
