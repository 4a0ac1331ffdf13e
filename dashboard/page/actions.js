// @ts-check
// What the dashboard can order: each order with what it asks first and what it says afterwards.
import { html, signal } from './dom.js';
import { json, order } from './api.js';
import { catalog, pool, poolRow, readCatalog, sections } from './live.js';
import { Meter, closeDialog, confirmFirst, openDialog, say, sayError } from './parts.js';
import { ago, bytes, clock, percent, span } from './format.js';

/** Orders under way, by `verb model`, with what is known of each. */
const underway = signal(/** @type {Map<string, {text: string, fraction: number | null, stop?: () => void}>} */ (new Map()));

/** @param {string} name @param {{text: string, fraction: number | null, stop?: () => void} | null} state */
function note(name, state) {
  const next = new Map(underway.peek());
  if (state) next.set(name, state);
  else next.delete(name);
  underway.value = next;
}

/** A step of progress in words. @param {any} event */
function progressOf(event) {
  if (event.progress?.fraction !== undefined) return { text: percent(event.progress.fraction), fraction: event.progress.fraction };
  const wait = event.waiting ?? event.progress ?? event;
  if (wait === 'resuming') return { text: 'resuming', fraction: null };
  if (wait === 'resolving') return { text: 'asking the source', fraction: null };
  if (wait?.queued) return { text: `place ${wait.queued.position} in the queue`, fraction: null };
  if (wait?.loading) return { text: `loading, ${percent(wait.loading.fraction)}`, fraction: wait.loading.fraction };
  if (wait?.preparing) return { text: `preparing, ${percent(wait.preparing.fraction)}`, fraction: wait.preparing.fraction };
  if (wait?.fetching && typeof wait.fetching === 'object') {
    const transfer = wait.fetching.fetching ?? wait.fetching;
    if (transfer.total_bytes) return { text: transferText(transfer), fraction: transfer.done_bytes / transfer.total_bytes };
  }
  if (wait?.verifying) return { text: 'checking the bytes', fraction: wait.verifying.done_bytes / (wait.verifying.total_bytes || 1) };
  if (wait?.unanswered) return { text: `no answer yet: ${wait.unanswered.reason}`, fraction: null };
  if (wait?.nearby) return { text: 'taken from another program of this machine', fraction: 1 };
  return { text: 'waiting', fraction: null };
}

/** @param {any} transfer */
export function transferText({ done_bytes, total_bytes, bytes_per_s }) {
  const rate = bytes_per_s > 0 ? `, ${bytes(bytes_per_s)}/s, ${span(((total_bytes - done_bytes) / bytes_per_s) * 1000)} left` : '';
  return `${bytes(done_bytes)} of ${bytes(total_bytes)}${rate}`;
}

/** @param {string} verb @param {string} model @param {string} path @param {unknown} body @param {(done: any) => string} done @param {boolean} [canStop] */
async function run(verb, model, path, body, done, canStop = false) {
  const name = `${verb} ${model}`;
  if (underway.peek().has(name)) return;
  const abort = new AbortController();
  const stop = canStop ? () => abort.abort() : undefined;
  note(name, { text: 'asked', fraction: null, stop });
  try {
    const result = await order(path, body, (event) => note(name, { ...progressOf(event), stop }), abort.signal);
    say(done(result ?? {}));
  } catch (error) {
    sayError(error);
  } finally {
    note(name, null);
  }
}

/** What a load would need and who may have to leave for it: idle models, the one that was used longest ago first. @param {string} model */
function evictions(model) {
  const figures = pool.peek();
  const needed = catalog.peek().find((row) => row.name === model)?.predicted_bytes;
  if (!figures || !needed) return null;
  const soft = figures.soft_bytes || figures.budget_bytes;
  const free = soft - figures.resident_bytes - figures.reserved_bytes;
  const loaded = poolRow(model);
  if (needed <= free || (loaded && ['ready', 'busy', 'parked'].includes(loaded.state))) return { needed, free, leave: [], isEnough: true };
  const rows = [...sections.models.peek().values()].map((row) => row.peek());
  // What a pinned model, or this one, needs in memory with it stays as well.
  const stays = new Set([model, ...rows.filter((row) => row.is_pinned || row.name === model).flatMap((row) => [row.name, ...(row.needs ?? [])])]);
  const idle = rows.filter((row) => (row.state === 'ready' || row.state === 'parked') && !stays.has(row.name))
    .sort((one, other) => (one.idle_since_unix_ms ?? 0) - (other.idle_since_unix_ms ?? 0));
  const leave = [];
  let freed = free;
  for (const row of idle) {
    if (freed >= needed) break;
    freed += row.held_bytes + row.mapped_bytes;
    leave.push(row);
  }
  return { needed, free, leave, isEnough: freed >= needed };
}

/** Loads a model; what may have to leave for it is shown first. @param {string} model @param {boolean} [pin] */
export function warm(model, pin = false) {
  const act = () => run('warm', model, '/admin/warm', { model, pin }, (done) => `${model} is ready after ${span(done.took_ms)}`);
  const expected = evictions(model);
  if (!expected?.leave.length && expected?.isEnough !== false) return act();
  return confirmFirst({
    title: `Load ${model}?`, verb: 'Load', act,
    body: html`<p>It needs about ${bytes(expected.needed)}; ${bytes(Math.max(0, expected.free))} of the budget are free.</p>
      ${expected.leave.length ? html`<p>These idle models will probably leave memory:</p>
        <ul class="names">${expected.leave.map((row) => html`<li><b>${row.name}</b> ${bytes(row.held_bytes + row.mapped_bytes)}</li>`)}</ul>` : ''}
      ${expected.isEnough ? '' : html`<p>That is not enough: the load waits until requests end, or is refused.</p>`}`,
  });
}

/** @param {any} row */
export function unload(row) {
  const act = async () => {
    try {
      const { instances } = await json('/admin/unload', { body: { model: row.name } });
      say(instances ? `${row.name} leaves memory` : `${row.name} was not in memory`);
    } catch (error) { sayError(error); }
  };
  if (!row.busy_slots && !row.queued) return act();
  return confirmFirst({
    title: `Unload ${row.name}?`, verb: 'Unload', act,
    body: html`<p>It serves ${row.busy_slots} requests now, and ${row.queued} wait. It leaves when those that run have ended; the next request loads it again.</p>`,
  });
}

/** @param {string} model @param {boolean} pinned */
export async function pin(model, pinned) {
  try {
    await json('/admin/pin', { body: { model, pinned } });
    say(pinned ? `${model} stays in memory` : `${model} may leave memory again`);
  } catch (error) { sayError(error); }
}

/** @param {string} model */
export const pack = (model) => run('pack', model, '/admin/pack', { model }, () => `${model} is packed for this processor`, true);

/** @param {string} model */
export function remove(model) {
  confirmFirst({
    title: `Remove ${model} from the disk?`, verb: 'Remove', hurts: true,
    body: html`<p>Its files are deleted. The next request fetches it again, if it came from a source.</p>`,
    act: async () => {
      try {
        const removed = await json('/admin/rm', { body: { model } });
        say(`${model} was removed, ${bytes(removed.freed_bytes)} are free again`);
        await readCatalog();
      } catch (error) { sayError(error); }
    },
  });
}

/** @param {string} model */
export async function pull(model) {
  try {
    const { reference } = await json('/admin/pull', { body: { model, background: true } });
    say(`${reference} is being fetched`);
    return true;
  } catch (error) {
    sayError(error);
    return false;
  }
}

/** @param {string} model */
export async function cancelPull(model) {
  try {
    const { cancelled } = await json('/admin/pull/cancel', { body: { model } });
    say(cancelled ? `the fetch of ${model} stops; what is here is kept` : 'a request waits for this model, so it is fetched on');
  } catch (error) { sayError(error); }
}

/** Why the pool did what it did with a model. @param {string} model */
export async function why(model) {
  try {
    const answer = await json(`/admin/why?model=${encodeURIComponent(model)}`);
    const at = Date.now();
    openDialog(`Why: ${model}`, html`<ol class="why">${answer.decisions.map((/** @type {any} */ decision) => html`<li>
        <time title=${clock(at - decision.at_ms_ago)}>${ago(at - decision.at_ms_ago, at)}</time><p>${decision.text}</p></li>`)}
      ${answer.decisions.length ? '' : html`<li><p>The pool has not decided about it yet.</p></li>`}</ol>
      ${answer.packed ? html`<details><summary>How its weights lie</summary><pre tabindex="0">${JSON.stringify(answer.packed, null, 2)}</pre></details>` : ''}`, { wide: true });
  } catch (error) { sayError(error); }
}

/** @type {Record<string, string>} */
const LEFTOVERS = {
  partial: 'unfinished downloads', orphan: 'files that no model needs', tmp: 'unfinished files', trash: 'files whose removal was not finished', quarantine: 'damaged files',
  prefix: 'saved prompts', packed: 'packed copies of models', prepared: 'prepared models',
};
/** Shows what a collection would remove, then does it. */
export async function collect() {
  let preview;
  try {
    preview = await json('/admin/gc', { body: { dry_run: true } });
  } catch (error) { sayError(error); return; }
  const leftovers = Object.entries(preview.leftovers ?? {}).filter(([, swept]) => /** @type {any} */ (swept).count > 0);
  const isEmpty = !preview.removed.length && !leftovers.length;
  const act = async () => {
    closeDialog();
    try {
      const done = await json('/admin/gc', { body: { dry_run: false } });
      say(`${bytes(done.freed_bytes)} are free again`);
      await readCatalog();
    } catch (error) { sayError(error); }
  };
  openDialog('Collection', html`<p>${isEmpty ? 'Nothing is past its limits: a collection would remove nothing.' : `A collection now frees ${bytes(preview.freed_bytes)}.`}
      ${' '}${preview.pinned} models are pinned and ${preview.in_use} in use; these stay.</p>
    <ul class="names">${preview.removed.map((/** @type {any} */ row) => html`<li><b>${row.reference}</b> ${bytes(row.freed_bytes)}, unused for ${span(row.idle_ms)}</li>`)}
      ${leftovers.map(([kind, swept]) => html`<li>${LEFTOVERS[kind] ?? kind}: ${/** @type {any} */ (swept).count}, ${bytes(/** @type {any} */ (swept).bytes)}</li>`)}</ul>
    <footer><button onClick=${closeDialog} autofocus>Close</button>${isEmpty ? '' : html`<button class="bad" onClick=${act}>Collect</button>`}</footer>`);
}

/** @param {{name: string}} props */
export function Underway({ name }) {
  const mine = [...underway.value].filter(([what]) => what.slice(what.indexOf(' ') + 1) === name);
  return html`${mine.map(([what, { text, fraction, stop }]) => html`<p class="underway" key=${what}><${Meter} value=${fraction} label=${what} />
    <span>${what.split(' ')[0]}: ${text}</span>${stop ? html`<button class="plain small" onClick=${stop}>Stop</button>` : ''}</p>`)}`;
}
