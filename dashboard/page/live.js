// @ts-check
// The daemon's state as it changes: one stream of events, polling where that is refused, nothing while the tab is hidden.
import { batch, computed, signal } from './dom.js';
import { ApiError, events, json, key, send } from './api.js';

/**
 * @typedef {Record<string, any>} Row
 * @typedef {import('@preact/signals').Signal<Row>} RowSignal
 */

/** `connecting`, `live`, `polling`, `limited` (no owner's routes here), `key`, `scope`, or `offline`. */
export const status = signal('connecting');
export const statusText = signal('');
/** The time, once a second while the tab is visible. */
export const now = signal(Date.now());
export const daemon = signal(/** @type {Row | null} */ (null));
export const pool = signal(/** @type {Row | null} */ (null));
export const workers = signal(/** @type {Row | null} */ (null));
export const disk = signal(/** @type {Row | null} */ (null));
/** Rows by what names them; the map is replaced when a row comes or goes, a row's signal when it changes. */
export const sections = {
  models: signal(/** @type {Map<string, RowSignal>} */ (new Map())),
  requests: signal(/** @type {Map<string, RowSignal>} */ (new Map())),
  downloads: signal(/** @type {Map<string, RowSignal>} */ (new Map())),
};
/** The latest decisions, the newest first. */
export const decisions = signal(/** @type {Row[]} */ ([]));
/** What requests may name, as `/v1/models` or `/admin/models` tells. */
export const catalog = signal(/** @type {Row[]} */ ([]));
/** Names of models in memory where only Ollama's `/api/ps` is open. */
export const loadedNames = signal(/** @type {Set<string>} */ (new Set()));
/** Figures over time, one point each 2 s: the last 15 minutes that this tab saw. */
export const history = signal(/** @type {{at: number, running: number, queued: number, tokens: number, hit: number, load: number, first: number | null}[]} */ ([]));

export const isOwner = computed(() => status.value === 'live' || status.value === 'polling');

/** The pool's row of a model. @param {string} name */
export const poolRow = (name) => {
  for (const row of sections.models.value.values()) if (row.value.name === name) return row.value;
  return undefined;
};

const values = { daemon, pool, workers, disk };
const DECISIONS = 100;
const POINTS = 450;
/** Without a sign of life for so long the connection counts as dead. */
const SILENCE_MS = 40_000;

let lastId = '';
/** @type {AbortController | null} */
let running = null;

/** @param {keyof typeof sections} section @param {Record<string, Row>} rows @param {boolean} all */
function putRows(section, rows, all) {
  const known = sections[section].peek();
  /** @type {Map<string, RowSignal> | null} */
  let next = null;
  for (const [name, row] of Object.entries(rows)) {
    const had = known.get(name);
    if (had) had.value = row;
    else (next ??= new Map(known)).set(name, signal(row));
  }
  if (all) {
    for (const name of known.keys()) if (!Object.hasOwn(rows, name)) (next ??= new Map(known)).delete(name);
  }
  if (next) sections[section].value = next;
  if (section === 'downloads') catalogMayDiffer();
}

let ends = '';
/** A fetch that began or ended may have brought a model. */
function catalogMayDiffer() {
  const now = [...sections.downloads.peek()].map(([name, row]) => `${name} ${row.peek().state}`).join();
  if (now === ends) return;
  ends = now;
  if (isOwner.peek()) readCatalog().catch(() => {});
}

/** @param {string} section @param {any} value @param {boolean} all */
function put(section, value, all) {
  if (section in values) values[/** @type {keyof typeof values} */ (section)].value = value;
  else if (section in sections) putRows(/** @type {keyof typeof sections} */ (section), value ?? {}, all);
}

/** @param {any} snapshot */
function takeSnapshot(snapshot) {
  for (const section of [...Object.keys(values), ...Object.keys(sections)]) put(section, snapshot[section] ?? null, true);
  // What was answered before this tab looked is not answered now.
  measured = new Map();
  tokensOf = new Map([...sections.requests.peek()].map(([name, row]) => [name, row.peek().usage?.completion_tokens ?? 0]));
  decisions.value = [...(snapshot.decisions ?? [])].reverse();
}

/** @param {any} delta */
function takeDelta(delta) {
  for (const [section, value] of Object.entries(delta.set ?? {})) put(section, value, false);
  for (const [section, names] of Object.entries(delta.gone ?? {})) {
    const rows = sections[/** @type {keyof typeof sections} */ (section)];
    if (!rows) continue;
    const next = new Map(rows.peek());
    for (const name of /** @type {string[]} */ (names)) next.delete(name);
    rows.value = next;
    if (section === 'downloads') catalogMayDiffer();
  }
  if (delta.decisions?.length) {
    decisions.value = [...delta.decisions].reverse().concat(decisions.peek()).slice(0, DECISIONS);
  }
}

/** @type {Map<string, number>} */
let tokensOf = new Map();
/** Tokens of answers so far, of this tab's requests and all others. */
let tokensTotal = 0;
/** Tokens per second of each request, as last seen. */
export const speeds = signal(/** @type {Map<string, number>} */ (new Map()));
/** @type {Map<string, {at: number, tokens: number, speed: number}>} */
let measured = new Map();

function measure() {
  const at = performance.now();
  /** @type {typeof measured} */ const next = new Map();
  /** @type {typeof tokensOf} */ const counts = new Map();
  for (const [name, row] of sections.requests.peek()) {
    const tokens = row.peek().usage?.completion_tokens ?? 0;
    tokensTotal += Math.max(0, tokens - (tokensOf.get(name) ?? 0));
    counts.set(name, tokens);
    const before = measured.get(name);
    if (!before) next.set(name, { at, tokens, speed: 0 });
    else if (at - before.at < 900) next.set(name, before);
    else {
      const speed = (tokens - before.tokens) / ((at - before.at) / 1000);
      next.set(name, { at, tokens, speed: before.speed ? before.speed * 0.5 + speed * 0.5 : speed });
    }
  }
  measured = next;
  tokensOf = counts;
  speeds.value = new Map([...next].map(([name, { speed }]) => [name, speed]));
}

/** @type {{at: number, tokens: number}} */
let lastPoint = { at: 0, tokens: 0 };
function point() {
  const figures = pool.peek();
  if (!figures) return;
  const at = Date.now();
  const seconds = (at - lastPoint.at) / 1000;
  if (seconds < 1.9) return;
  const tokens = lastPoint.at && seconds < 10 ? (tokensTotal - lastPoint.tokens) / seconds : 0;
  lastPoint = { at, tokens: tokensTotal };
  const next = {
    at, tokens, queued: figures.queued ?? 0, running: figures.leases ?? 0, hit: figures.hit_rate ?? 0, load: figures.load_ms_p50 ?? 0,
    first: daemon.peek()?.first_token_ms_p50 ?? null,
  };
  history.value = [...history.peek().slice(-POINTS + 1), next];
}

setInterval(() => {
  if (document.hidden) return;
  batch(() => {
    now.value = Date.now();
    if (isOwner.peek()) { measure(); point(); }
  });
}, 1000);

/** @param {number} ms @param {AbortSignal} ended */
const pause = (ms, ended) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  ended.addEventListener('abort', () => { clearTimeout(timer); resolve(undefined); }, { once: true });
});

/** Reads what requests may name. */
export async function readCatalog() {
  try {
    if (isOwner.peek()) {
      catalog.value = (await json('/admin/models')).models;
      return;
    }
    const [models, loaded] = await Promise.all([json('/v1/models'), json('/api/ps').catch(() => ({ models: [] }))]);
    batch(() => {
      catalog.value = models.data.map((/** @type {Row} */ model) => ({ name: model.id, capabilities: model.capabilities, ...model.samovar }));
      const names = loaded.models.map((/** @type {Row} */ model) => model.name);
      loadedNames.value = new Set(names.concat(names.map((/** @type {string} */ name) => name.replace(/:latest$/, ''))));
    });
  } catch (error) {
    if (error instanceof ApiError && error.status === 0) throw error;
  }
}

/** @param {AbortSignal} ended */
async function listen(ended) {
  const stop = new AbortController();
  const end = () => stop.abort();
  ended.addEventListener('abort', end, { once: true });
  let heard = Date.now();
  const watch = setInterval(() => { if (Date.now() - heard > SILENCE_MS) end(); }, 5000);
  try {
    const headers = lastId ? { 'last-event-id': lastId } : undefined;
    const response = await send('/admin/events', { signal: stop.signal, headers });
    status.value = 'live';
    readCatalog().catch(() => {});
    for await (const { event, id, data } of events(response, () => { heard = Date.now(); })) {
      if (id) lastId = id;
      if (event === 'snapshot') batch(() => { takeSnapshot(JSON.parse(data)); point(); });
      else if (event === 'delta') batch(() => takeDelta(JSON.parse(data)));
      else if (event === 'leaving') { lastId = ''; throw new ApiError(0, 'the daemon stops'); }
    }
  } finally {
    clearInterval(watch);
    ended.removeEventListener('abort', end);
    stop.abort();
  }
}

/** Moments instead of ages, as the stream tells them. @param {Row} row @param {number} at */
function moments(row, at) {
  const since = (/** @type {string} */ name) => (row[name] == null ? null : at - row[name]);
  const ahead = (/** @type {string} */ name) => (row[name] == null ? null : at + row[name]);
  return { ...row, ready_since_unix_ms: since('age_ms'), idle_since_unix_ms: since('idle_ms'), expires_at_unix_ms: ahead('expires_in_ms'), retry_at_unix_ms: ahead('retry_in_ms') };
}

/** @param {AbortSignal} ended */
async function poll(ended) {
  const stats = await json('/admin/stats', { signal: ended });
  const at = Date.now();
  // The stream begins again with a snapshot: what was polled is not where it stood.
  lastId = '';
  batch(() => {
    status.value = 'polling';
    daemon.value = { version: stats.version, pid: stats.pid, listen: stats.listen, socket: stats.socket, requests_in_flight: stats.requests_in_flight, started_unix_ms: at - stats.uptime_ms };
    pool.value = stats.pool;
    workers.value = stats.workers ?? null;
    putRows('models', Object.fromEntries(stats.models.map((/** @type {Row} */ row) => [row.key, moments(row, at)])), true);
    putRows('requests', {}, true);
    putRows('downloads', {}, true);
  });
  const store = await json('/admin/disk', { signal: ended }).catch(() => null);
  if (ended.aborted) return;
  disk.value = store;
  await readCatalog();
}

/** @param {AbortSignal} ended */
async function run(ended) {
  let wait = 500;
  while (!ended.aborted) {
    try {
      await listen(ended);
      wait = 500;
    } catch (error) {
      if (ended.aborted) return;
      if (status.peek() === 'live') wait = 500;
      const refused = error instanceof ApiError ? error : new ApiError(0, 'the daemon has been silent for too long');
      statusText.value = refused.message;
      try {
        if (refused.status === 401) { status.value = 'key'; return; }
        if (refused.status === 403) { status.value = 'scope'; wait = 5000; await readCatalog(); }
        else if (refused.status === 404) { status.value = 'limited'; wait = 5000; await readCatalog(); }
        else if (refused.status === 429 || refused.status === 503) { await poll(ended); wait = 3000; }
        else throw refused;
      } catch (again) {
        if (ended.aborted) return;
        status.value = again instanceof ApiError && again.status === 401 ? 'key' : 'offline';
        wait = Math.min(wait * 1.6, 5000);
      }
    }
    await pause(wait + Math.random() * 200, ended);
  }
}

/** Ends the connection, and begins another unless the tab is hidden. */
export function reconnect() {
  running?.abort();
  running = null;
  if (document.hidden) return;
  running = new AbortController();
  run(running.signal);
}

document.addEventListener('visibilitychange', reconnect);
addEventListener('online', reconnect);
let firstKey = true;
key.subscribe(() => {
  if (firstKey) { firstKey = false; return; }
  lastId = '';
  status.value = 'connecting';
  reconnect();
});
