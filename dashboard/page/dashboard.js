// @ts-check
// The dashboard: memory, models, requests, figures over time, decisions, disk and workers.
import { computed, html, signal, useSignal } from './dom.js';
import { json } from './api.js';
import { Underway, cancelPull, collect, pack, pin, pull, remove, transferText, unload, warm, why } from './actions.js';
import { catalog, daemon, decisions, disk, history, isOwner, loadedNames, now, pool, sections, speeds, status, workers } from './live.js';
import { Chart, Meter, sayError } from './parts.js';
import { ago, bytes, clock, count, countdown, percent, span } from './format.js';
import { Gate } from './gate.js';

/** @typedef {import('./live.js').Row} Row */

const filter = signal('');
const order = signal('state');
const LOADED = ['ready', 'busy', 'parked', 'parking', 'resuming', 'draining', 'loading', 'waiting', 'unloading'];
const rank = (/** @type {string} */ state) => ['busy', 'ready', 'loading', 'resuming', 'waiting', 'draining', 'parking', 'parked', 'unloading', 'failed', 'absent', 'disk'].indexOf(state);

/** Models by name: those the pool knows, then the others that requests may name. */
const rows = computed(() => {
  const known = new Map([...sections.models.value.values()].map((row) => [row.value.name, row]));
  const names = [...new Set([...known.keys(), ...catalog.value.map((model) => model.name)])];
  const facts = new Map(catalog.value.map((model) => [model.name, model]));
  const wanted = filter.value.trim().toLowerCase();
  const shown = names.filter((name) => name.toLowerCase().includes(wanted)).map((name) => ({ name, row: known.get(name), facts: facts.get(name) }));
  const state = (/** @type {typeof shown[0]} */ model) => rank(model.row?.value.state ?? 'disk');
  const size = (/** @type {typeof shown[0]} */ model) => memoryOf(model.row?.value) || (model.facts?.size_bytes ?? 0) / 1e6;
  const use = (/** @type {typeof shown[0]} */ model) => model.row?.value.requests ?? 0;
  const by = order.value;
  return shown.sort((one, other) => (by === 'state' ? state(one) - state(other) : by === 'memory' ? size(other) - size(one) : by === 'use' ? use(other) - use(one) : 0) || one.name.localeCompare(other.name));
});

/** @param {Row | undefined} row */
const memoryOf = (row) => (row ? (row.held_bytes ?? 0) + (row.mapped_bytes ?? 0) : 0);

export function Dashboard() {
  if (!isOwner.value) return html`<${Gate} /><${Limited} />`;
  return html`<h1 class="hidden">Dashboard</h1>
    <${Tiles} /><${Memory} />
    <div class="columns"><${Models} /><div class="side"><${Requests} /><${Decisions} /></div></div>
    <${Charts} /><div class="columns even"><${Disk} /><${Machine} /></div>`;
}

/** What an ordinary key, or none, may see. */
function Limited() {
  if (!catalog.value.length) return '';
  return html`<section class="card"><h2>Models</h2><ul class="names">${catalog.value.map((model) => html`<li><b>${model.name}</b>
    ${loadedNames.value.has(model.name) ? html`<${State} state="ready" />` : ''} <span class="dim">${bytes(model.size_bytes)} · ${model.quantization} · ${count(model.context_tokens)} tokens</span></li>`)}</ul></section>`;
}

/** @param {{name: string, value: any, more?: any, bad?: boolean}} props */
const Tile = ({ name, value, more, bad }) => html`<div class=${bad ? 'tile bad' : 'tile'}><dt>${name}</dt><dd><strong>${value}</strong>${more ? html`<span>${more}</span>` : ''}</dd></div>`;

function Tiles() {
  const figures = pool.value ?? {}, store = disk.value;
  const speed = history.value.at(-1)?.tokens ?? 0;
  return html`<dl class="tiles">
    <${Tile} name="Memory" value=${bytes(figures.resident_bytes)} more=${`of ${bytes(figures.budget_bytes)}`} />
    <${Tile} name="Requests" value=${sections.requests.value.size || figures.leases || 0} more=${figures.queued ? `${figures.queued} waiting` : 'none waiting'} />
    <${Tile} name="Tokens per second" value=${status.value === 'live' ? speed.toFixed(speed < 10 ? 1 : 0) : '–'} more="all answers" />
    <${Tile} name="Found in memory" value=${figures.requests ? percent(figures.hit_rate) : '–'} more=${`${count(figures.requests)} requests`} />
    <${Tile} name="Load time" value=${figures.loads ? span(figures.load_ms_p50) : '–'} more=${`${count(figures.loads)} ${figures.loads === 1 ? 'load' : 'loads'}${figures.load_failures ? `, ${figures.load_failures} failed` : ''}`} bad=${figures.load_failures > 0} />
    <${Tile} name="Disk" value=${bytes(store?.used_bytes)} more=${store ? `of ${bytes(store.quota_bytes)}` : ''} /></dl>`;
}

/** A colour for a name, the same in each tab. @param {string} name */
function hue(name) {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 3600;
  return Math.round(((sum * 137.5) % 360));
}

function Memory() {
  const figures = pool.value;
  if (!figures) return '';
  const arenas = [['host', figures], ...Object.entries(figures.devices ?? {})];
  return html`<section class="card memory" aria-labelledby="memory"><h2 id="memory">Memory</h2>${arenas.map(([name, arena]) => html`<${Arena} key=${name} name=${name} arena=${arena} only=${arenas.length === 1} />`)}</section>`;
}

/** @param {{name: string, arena: Row, only: boolean}} props */
function Arena({ name, arena, only }) {
  const budget = arena.budget_bytes || 1;
  const parts = [];
  for (const row of sections.models.value.values()) {
    const model = row.value;
    if (name === 'host') {
      if (model.held_bytes) parts.push({ model, bytes: model.held_bytes, kind: model.state === 'parked' ? 'parked' : 'held' });
      if (model.mapped_bytes) parts.push({ model, bytes: model.mapped_bytes, kind: model.state === 'parked' ? 'parked' : 'mapped' });
    } else if (model.device_bytes?.[name]) parts.push({ model, bytes: model.device_bytes[name], kind: model.state === 'parked' ? 'parked' : 'held' });
  }
  const used = arena.resident_bytes + arena.reserved_bytes;
  const width = (/** @type {number} */ part) => ({ width: `${Math.min(100, (part / budget) * 100)}%` });
  const models = [...new Set(parts.map((part) => part.model))].sort((one, other) => memoryOf(other) - memoryOf(one));
  return html`<div class="arena"><p class="line"><span>${only ? '' : html`<b>${name}</b> `}${bytes(arena.resident_bytes)} resident${arena.reserved_bytes ? `, ${bytes(arena.reserved_bytes)} reserved` : ''}</span><span class="dim">budget ${bytes(arena.budget_bytes)}</span></p>
    <div class="bar" role="img" aria-label=${`${percent(used / budget)} of the budget of ${name} is used`}>
      ${parts.map((part) => html`<i key=${part.model.key + part.kind} class=${part.kind} style=${{ ...width(part.bytes), '--hue': String(hue(part.model.name)) }} title=${`${part.model.name}: ${bytes(part.bytes)} ${part.kind}`}></i>`)}
      ${arena.reserved_bytes ? html`<i key="reserved" class="reserved" style=${width(arena.reserved_bytes)} title=${`reserved: ${bytes(arena.reserved_bytes)}`}></i>` : ''}
      ${arena.soft_bytes && arena.soft_bytes < budget ? html`<b class="soft" style=${{ left: `${(arena.soft_bytes / budget) * 100}%` }} title=${`soft limit: ${bytes(arena.soft_bytes)}`}></b>` : ''}</div>
    <ul class="legend">${models.slice(0, 12).map((model) => html`<li key=${model.key}><i style=${{ '--hue': String(hue(model.name)) }}></i><b>${model.name}</b> <span>${bytes(name === 'host' ? model.held_bytes : model.device_bytes[name])} held${name === 'host' ? `, ${bytes(model.mapped_bytes)} mapped` : ''}${model.state === 'parked' ? ', parked' : ''}</span></li>`)}
      ${models.length > 12 ? html`<li class="dim">and ${models.length - 12} more</li>` : ''}
      ${models.length ? '' : html`<li class="dim">No model is in memory.</li>`}
      ${arena.soft_bytes && arena.soft_bytes < budget ? html`<li class="dim">idle models leave above ${bytes(arena.soft_bytes)}</li>` : ''}</ul></div>`;
}

/** @param {{state: string}} props */
const State = ({ state }) => html`<span class=${`state ${state}`}>${state === 'absent' || state === 'disk' ? 'on disk' : state}</span>`;

function Models() {
  const all = rows.value;
  const limit = useSignal(30);
  return html`<section class="card models" aria-labelledby="models"><header><h2 id="models">Models <span class="dim">${all.length}</span></h2>
    <div class="tools"><input type="search" placeholder="Find a model" aria-label="Find a model" value=${filter} onInput=${(/** @type {any} */ event) => { filter.value = event.target.value; }} />
      <select aria-label="Order" value=${order} onChange=${(/** @type {any} */ event) => { order.value = event.target.value; }}>
        <option value="state">by state</option><option value="memory">by memory</option><option value="use">by use</option><option value="name">by name</option></select></div></header>
    <ul class="rows">${all.slice(0, limit.value).map((model) => html`<${Model} key=${model.name} ...${model} />`)}</ul>
    ${all.length > limit.value ? html`<button class="plain" onClick=${() => { limit.value += 100; }}>Show ${Math.min(100, all.length - limit.value)} more</button>` : ''}
    ${all.length ? '' : html`<p class="empty">${filter.value ? 'No model has this name.' : html`No model is here yet. Fetch one below, under Disk.`}</p>`}</section>`;
}

/** @param {{name: string, row?: import('./live.js').RowSignal, facts?: Row}} props */
function Model({ name, row: signalled, facts }) {
  const row = signalled?.value;
  const state = row?.state ?? 'disk';
  const isLoaded = LOADED.includes(state);
  const canWrite = (row?.capabilities ?? facts?.capabilities ?? []).includes('generate');
  return html`<li class="row model"><div class="what"><b class="name">${name}</b> <${State} state=${state} />${row?.is_pinned ? html` <span class="tag">pinned</span>` : ''}
    ${state === 'loading' && row?.progress != null ? html`<${Meter} value=${row.progress} label=${`loading ${name}`} />` : ''}
    <p class="dim">${isLoaded && row ? html`${bytes(memoryOf(row))}${row.slots ? html` · <${Slots} busy=${row.busy_slots} all=${row.slots} />` : ''}${row.instances > 1 ? ` · ${row.instances} instances` : ''}${row.queued ? ` · ${row.queued} wait` : ''}<${KeepAlive} row=${row} />`
      : html`${bytes(facts?.size_bytes)}${facts?.quantization ? ` · ${facts.quantization}` : ''}${row?.load_ms_p50 ? ` · loads in ${span(row.load_ms_p50)}` : ''}${row ? html`<${KeepAlive} row=${row} />` : ''}`}</p>
    ${row?.failure ? html`<p class="failure">${row.failure}</p>` : ''}<${Underway} name=${name} /></div>
    <div class="acts">${isLoaded ? html`<button onClick=${() => unload({ ...row, name })} aria-label=${`Unload ${name}`}>Unload</button>` : html`<button class="primary" onClick=${() => warm(name)} aria-label=${`Load ${name}`}>Load</button>`}
      <details class="menu"><summary aria-label=${`More for ${name}`}>⋯</summary><div>
        <button onClick=${() => why(name)}>Why</button>
        ${row?.is_pinned ? html`<button onClick=${() => pin(name, false)}>Unpin</button>` : html`<button onClick=${() => (isLoaded ? pin(name, true) : warm(name, true))}>${isLoaded ? 'Pin' : 'Load and pin'}</button>`}
        ${canWrite ? html`<a href=${`#chat?model=${encodeURIComponent(name)}`}>Chat</a>` : ''}
        <button onClick=${() => pack(name)}>Pack for this processor</button>
        <button class="bad" onClick=${() => remove(name)}>Remove from disk</button></div></details></div></li>`;
}

/** @param {{busy: number, all: number}} props */
function Slots({ busy, all }) {
  if (all > 16) return html`${busy} of ${all} slots`;
  return html`<span class="slots" role="img" aria-label=${`${busy} of ${all} slots are in use`}>${Array.from({ length: all }, (_, index) => html`<i class=${index < busy ? 'busy' : ''}></i>`)}</span>`;
}

/** @param {{row: Row}} props */
function KeepAlive({ row }) {
  if (row.retry_at_unix_ms) return html` · tried again in ${countdown(row.retry_at_unix_ms - now.value)}`;
  if (row.expires_at_unix_ms) return html` · leaves in ${countdown(row.expires_at_unix_ms - now.value)}`;
  if (row.idle_since_unix_ms) return html` · idle for ${span(now.value - row.idle_since_unix_ms)}`;
  return '';
}

function Requests() {
  const all = [...sections.requests.value];
  const waits = (/** @type {Row} */ row) => (row.phase === 'queued' ? 1e6 + (row.position ?? 0) : 0);
  all.sort(([one, left], [other, right]) => waits(left.value) - waits(right.value) || Number(one) - Number(other));
  return html`<section class="card" aria-labelledby="requests"><h2 id="requests">Requests <span class="dim">${all.length}</span></h2>
    <ul class="rows">${all.slice(0, 50).map(([number, row]) => html`<${Request} key=${number} number=${number} row=${row} />`)}</ul>
    ${all.length > 50 ? html`<p class="dim">and ${all.length - 50} more</p>` : ''}
    ${all.length ? '' : html`<p class="empty">${status.value === 'polling' ? 'Single requests are not known while the page polls.' : 'No request is in flight.'}</p>`}</section>`;
}

/** @param {Row} row */
function phaseOf(row) {
  switch (row.phase) {
    case 'queued': return { text: `place ${row.position}${row.estimate_ms != null ? `, about ${span(row.estimate_ms)}` : ''}`, part: undefined };
    case 'loading': return { text: `loading the model, ${percent(row.fraction)}`, part: row.fraction };
    case 'preparing': return { text: `preparing the model, ${percent(row.fraction)}${row.eta_ms != null ? `, about ${span(row.eta_ms)}` : ''}`, part: row.fraction };
    case 'fetching': return { text: row.total_bytes ? `fetching, ${bytes(row.done_bytes)} of ${bytes(row.total_bytes)}` : 'fetching', part: row.total_bytes ? row.done_bytes / row.total_bytes : undefined };
    case 'resuming': return { text: 'resuming the model', part: undefined };
    case 'prefill': return { text: row.prompt_tokens ? `prompt, ${count(row.computed_tokens)} of ${count(row.prompt_tokens)} tokens` : 'computing the prompt', part: row.prompt_tokens ? row.computed_tokens / row.prompt_tokens : undefined };
    case 'decode': return { text: `${count(row.usage?.completion_tokens ?? 0)} tokens`, part: undefined };
    default: return { text: 'begun', part: undefined };
  }
}

/** @param {{number: string, row: import('./live.js').RowSignal}} props */
function Request({ number, row: signalled }) {
  const row = signalled.value;
  const { text, part } = phaseOf(row);
  const speed = speeds.value.get(number);
  return html`<li class="row request"><div class="what"><b class="name">${row.model}</b> <span class="dim">${row.client || row.from}</span>
    <p class=${row.phase === 'queued' ? 'waits' : ''}>${text}${row.phase === 'decode' && speed ? ` · ${speed.toFixed(1)} per second` : ''}${row.first_token_ms != null ? ` · first after ${span(row.first_token_ms)}` : ''}</p>
    ${part !== undefined ? html`<${Meter} value=${part} label=${`request ${number}`} />` : ''}</div><span class="dim num">${span(now.value - row.began_unix_ms)}</span></li>`;
}

function Decisions() {
  const limit = useSignal(8);
  const all = decisions.value;
  return html`<section class="card" aria-labelledby="decisions"><h2 id="decisions">Decisions</h2>
    <ol class="rows">${all.slice(0, limit.value).map((decision) => html`<li class="row decision" key=${decision.number}><div class="what">
      <p><b>${decision.model}</b> ${decision.text}</p></div><div class="acts"><time class="dim num" title=${clock(decision.at_unix_ms)}>${ago(decision.at_unix_ms, now.value)}</time>
      <button class="plain small" aria-label=${`Why: ${decision.model}`} onClick=${() => why(decision.model)}>Why</button></div></li>`)}</ol>
    ${all.length > limit.value ? html`<button class="plain" onClick=${() => { limit.value += 24; }}>Show older</button>` : ''}
    ${all.length ? '' : html`<p class="empty">The pool has not decided anything yet.</p>`}</section>`;
}

function Charts() {
  const points = history.value;
  const of = (/** @type {'running' | 'queued' | 'tokens' | 'hit' | 'load' | 'first'} */ name) => points.map((point) => ({ at: point.at, value: point[name] }));
  return html`<section class="card" aria-labelledby="charts"><h2 id="charts">The last minutes</h2><div class="charts">
    <${Chart} title="Tokens per second" points=${of('tokens')} shown=${(/** @type {number} */ value) => value.toFixed(1)} most=${5} />
    <${Chart} title="Slots in use" points=${of('running')} shown=${String} most=${2} />
    <${Chart} title="Waiting requests" points=${of('queued')} shown=${String} most=${2} />
    <${Chart} title="Found in memory" points=${of('hit')} shown=${percent} most=${1} />
    <${Chart} title="Load time, median" points=${of('load')} shown=${span} />
    <${Chart} title="First token, median" points=${of('first')} shown=${span} /></div></section>`;
}

function Disk() {
  const store = disk.value;
  const wanted = useSignal('');
  const fetchIt = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (wanted.value.trim() && await pull(wanted.value.trim())) wanted.value = '';
  };
  const kinds = store ? [['Models', store.artifact_bytes], ['Packed', store.packed_bytes], ['Prepared', store.prepared_bytes], ['Saved prefixes', store.prefix_bytes], ['Incomplete downloads', store.partial_bytes], ['Needed by none', store.orphan_bytes + store.trash_bytes + store.tmp_bytes], ['Quarantine', store.quarantine_bytes], ['Shared with other programs', store.shared_bytes + store.referenced_bytes]] : [];
  const downloads = [...sections.downloads.value];
  return html`<section class="card" aria-labelledby="disk"><header><h2 id="disk">Disk</h2><button onClick=${collect}>Collection…</button></header>
    ${store ? html`<p class="line"><span>${bytes(store.used_bytes)} used</span><span class="dim">quota ${bytes(store.quota_bytes)}, ${bytes(store.free_disk_bytes)} free on the disk</span></p>
      <${Meter} value=${store.used_bytes / (store.quota_bytes || 1)} label="part of the quota that is used" />
      <dl class="pairs">${kinds.filter(([, size]) => Number(size) > 0).map(([name, size]) => html`<div><dt>${name}</dt><dd>${bytes(Number(size))}</dd></div>`)}</dl>` : html`<p class="empty">This daemon keeps no store.</p>`}
    <h3>Downloads</h3><form class="tools" onSubmit=${fetchIt}><input aria-label="Model to fetch" placeholder="org/name:Q4_K_M" autocapitalize="off" spellcheck=${false} value=${wanted} onInput=${(/** @type {any} */ event) => { wanted.value = event.target.value; }} /><button class="primary">Fetch</button></form>
    <ul class="rows">${downloads.map(([name, row]) => html`<${Download} key=${name} name=${name} row=${row} />`)}</ul></section>`;
}

/** @param {{name: string, row: import('./live.js').RowSignal}} props */
function Download({ name, row: signalled }) {
  const row = signalled.value;
  if (row.state !== 'fetching') {
    return html`<li class="row"><div class="what"><b class="name">${name}</b> <span class=${row.state === 'failed' ? 'state failed' : 'state ready'}>${row.state}</span>
      ${row.failure ? html`<p class="failure">${row.failure.message}${row.failure.hint ? html`<br />${row.failure.hint}` : ''}</p>` : ''}</div></li>`;
  }
  const transfer = row.progress?.fetching ?? row.progress?.verifying;
  const text = row.progress?.verifying ? 'checking the bytes' : transfer ? transferText(transfer) : row.progress?.unanswered ? `no answer yet: ${row.progress.unanswered.reason}` : 'asking the source';
  return html`<li class="row"><div class="what"><b class="name">${name}</b><p class="dim">${text}</p><${Meter} value=${transfer ? transfer.done_bytes / (transfer.total_bytes || 1) : null} label=${`fetching ${name}`} /></div>
    <div class="acts"><button onClick=${() => cancelPull(name)} aria-label=${`Stop fetching ${name}`}>Stop</button></div></li>`;
}

function Machine() {
  const known = workers.value, self = daemon.value;
  const usage = useSignal(/** @type {Row[] | null} */ (null));
  const readUsage = async () => {
    try { usage.value = (await json('/admin/usage?by=client')).rows; } catch (error) { sayError(error); }
  };
  const pairs = [
    ['Version', self?.version], ['Process', self?.pid], ['Listens on', self?.listen ?? 'the Unix socket alone'], ['Up for', self ? span(now.value - self.started_unix_ms) : null],
    ['Workers', known ? known.running : 'none: models run in the daemon'],
    ...(known ? [['Memory of workers', bytes(known.own_bytes)], ['Crashed, hung, overgrown', `${known.crashed}, ${known.hung}, ${known.overgrown}`], ['Denied system calls', known.denied_calls],
      ['Sandbox', known.sandbox_mode], ...(known.sandbox?.parts ?? []).map((/** @type {[string, any]} */ [name, part]) => [`· ${name.replaceAll('_', ' ')}`, partText(part)])] : []),
  ];
  return html`<section class="card" aria-labelledby="machine"><h2 id="machine">Daemon and workers</h2>
    <dl class="pairs">${pairs.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value ?? '–'}</dd></div>`)}</dl>
    <h3>Use by client</h3>${usage.value ? html`<div class="table" tabindex="0" role="region" aria-label="Use by client"><table><thead><tr><th scope="col">Client</th><th scope="col">Requests</th><th scope="col">Prompt</th><th scope="col">Cached</th><th scope="col">Answers</th></tr></thead>
      <tbody>${usage.value.map((row) => html`<tr><td>${row.client}</td><td>${count(row.requests)}</td><td>${count(row.prompt_tokens)}</td><td>${count(row.cached_tokens)}</td><td>${count(row.answer_tokens)}</td></tr>`)}</tbody></table></div>` : html`<button onClick=${readUsage}>Show</button>`}</section>`;
}

/** How far a part of the sandbox is reached. @param {any} part */
const partText = (part) => (typeof part === 'object' && part ? Object.entries(part).map(([word, more]) => (word === 'reached' ? more : `${word.replaceAll('_', ' ')}: ${typeof more === 'string' ? more : JSON.stringify(more)}`)).join(', ') : String(part));
