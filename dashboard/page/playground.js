// @ts-check
// Requests by hand, and the same requests as programs write them.
import { computed, html, signal } from './dom.js';
import { events, failed, json, key, send } from './api.js';
import { catalog, status } from './live.js';
import { CopyButton, Meter, sayError } from './parts.js';
import { LANGUAGES, pathOf } from './snippets.js';
import { KeyForm } from './gate.js';
import { count, span, typed } from './format.js';

const KINDS = /** @type {const} */ ({ chat: 'Chat', embeddings: 'Embeddings', rerank: 'Rerank' });
const NEEDS = { chat: 'generate', embeddings: 'embed', rerank: 'rerank' };

const kind = signal(/** @type {keyof typeof KINDS} */ ('chat'));
const chosen = signal(/** @type {Record<string, string>} */ ({}));
const system = signal('');
const prompt = signal('Tell me a story about a kettle.');
const texts = signal('A kettle boils water.\nTea is made with hot water.\nThe moon is far away.');
const query = signal('What is tea made with?');
const maxTokens = signal('200');
const temperature = signal('');
const language = signal(/** @type {keyof typeof LANGUAGES} */ ('curl'));
const result = signal(/** @type {{kind: string, body?: any, text?: string, took?: number, lines?: string[]} | null} */ (null));
const running = signal(/** @type {AbortController | null} */ (null));

const models = computed(() => {
  const able = catalog.value.filter((model) => model.capabilities?.includes(NEEDS[kind.value]));
  return able.length ? able : kind.value === 'chat' ? catalog.value : [];
});
const model = computed(() => chosen.value[kind.value] ?? models.value[0]?.name ?? '');
const lines = computed(() => texts.value.split('\n').map((line) => line.trim()).filter(Boolean));

const wish = computed(() => {
  /** @type {Record<string, any>} */
  const body = { model: model.value || 'NAME' };
  if (kind.value === 'chat') {
    body.messages = [...(system.value.trim() ? [{ role: 'system', content: system.value }] : []), { role: 'user', content: prompt.value }];
    if (maxTokens.value.trim()) body.max_tokens = typed(maxTokens.value);
    if (temperature.value.trim()) body.temperature = typed(temperature.value);
  } else if (kind.value === 'embeddings') body.input = lines.value;
  else { body.query = query.value; body.documents = lines.value; }
  return { kind: kind.value, body };
});

async function run() {
  const abort = new AbortController();
  running.value = abort;
  const began = performance.now();
  const { kind: what, body } = wish.value;
  result.value = { kind: what };
  try {
    if (what === 'chat') {
      const response = await send(pathOf(what), { body: { ...body, stream: true }, signal: abort.signal });
      let text = '';
      for await (const { data, comment } of events(response)) {
        if (comment !== undefined || data === '[DONE]') continue;
        const chunk = JSON.parse(data);
        if (chunk.error) throw failed(chunk);
        text += chunk.choices?.[0]?.delta?.content ?? chunk.choices?.[0]?.delta?.reasoning_content ?? '';
        result.value = { kind: what, text, took: performance.now() - began };
      }
    } else {
      const answer = await json(pathOf(what), { body: what === 'embeddings' ? { ...body, encoding_format: 'float' } : body, signal: abort.signal });
      result.value = { kind: what, body: answer, took: performance.now() - began, lines: lines.value };
    }
  } catch (error) {
    if (!abort.signal.aborted) sayError(error);
    // What came before it stays.
    if (result.peek()?.text === undefined) result.value = null;
  } finally {
    running.value = null;
  }
}

/** @param {number[]} one @param {number[]} other */
function cosine(one, other) {
  let dot = 0, left = 0, right = 0;
  for (let at = 0; at < one.length; at += 1) { dot += one[at] * other[at]; left += one[at] ** 2; right += other[at] ** 2; }
  return dot / (Math.sqrt(left * right) || 1);
}

function Result() {
  const shown = result.value;
  if (!shown) return html`<p class="empty">The answer comes here.</p>`;
  const took = shown.took ? html`<p class="figures">${span(shown.took)}</p>` : '';
  if (shown.text !== undefined) return html`<pre class="wrap" tabindex="0">${shown.text}</pre>${took}`;
  if (!shown.body) return html`<p class="waiting"><${Meter} value=${null} label="waiting" /><span>waiting</span></p>`;
  const labels = shown.lines ?? [];
  if (shown.kind === 'embeddings') {
    const vectors = shown.body.data.slice(0, 8).map((/** @type {any} */ row) => row.embedding);
    return html`<p>${shown.body.data.length} vectors of ${count(vectors[0]?.length)} numbers. How alike they are:</p>
      <div class="table" tabindex="0" role="region" aria-label="How alike the texts are"><table><thead><tr><td></td>${vectors.map((/** @type {any} */ _, /** @type {number} */ at) => html`<th scope="col">${at + 1}</th>`)}</tr></thead>
      <tbody>${vectors.map((/** @type {number[]} */ one, /** @type {number} */ at) => html`<tr><th scope="row">${at + 1}. ${labels[at]}</th>${vectors.map((/** @type {number[]} */ other) => { const alike = cosine(one, other); return html`<td class="heat" style=${{ '--part': String(Math.max(0, alike)) }}>${alike.toFixed(2)}</td>`; })}</tr>`)}</tbody></table></div>${took}`;
  }
  const rows = [...shown.body.results].sort((one, other) => other.relevance_score - one.relevance_score);
  return html`<ol class="rows">${rows.map((row) => html`<li class="row"><div class="what"><p>${labels[row.index]}</p><${Meter} value=${row.relevance_score} label=${`score of text ${row.index + 1}`} /></div><span class="num">${row.relevance_score.toFixed(3)}</span></li>`)}</ol>${took}`;
}

export function Playground() {
  if (status.value === 'key') return html`<section class="card gate"><h1>A key is needed</h1><${KeyForm} about="Models answer to a key here." /></section>`;
  const bind = (/** @type {import('@preact/signals').Signal<string>} */ text) => ({ value: text, onInput: (/** @type {any} */ event) => { text.value = event.target.value; } });
  const code = LANGUAGES[language.value](wish.value, location.origin, !!key.value);
  const submit = (/** @type {Event} */ event) => { event.preventDefault(); run(); };
  return html`<h1 class="hidden">Playground</h1><div class="columns even"><section class="card" aria-labelledby="request"><header><h2 id="request">Request</h2>
      <div class="tabs" role="group" aria-label="Kind of request">${Object.entries(KINDS).map(([name, title]) => html`<button aria-pressed=${kind.value === name ? 'true' : 'false'} onClick=${() => { kind.value = /** @type {any} */ (name); }}>${title}</button>`)}</div></header>
    <form class="settings" onSubmit=${submit}><label>Model<select value=${model.value} onChange=${(/** @type {any} */ event) => { chosen.value = { ...chosen.value, [kind.value]: event.target.value }; }}>
        ${models.value.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}${models.value.length ? '' : html`<option value="">No model here can do this</option>`}</select></label>
      ${kind.value === 'chat' ? html`<label>System prompt<textarea rows="2" ...${bind(system)}></textarea></label><label>Message<textarea rows="4" ...${bind(prompt)}></textarea></label>
        <div class="grid"><label>Tokens at most<input inputmode="numeric" ...${bind(maxTokens)} /></label><label>Temperature<input inputmode="decimal" placeholder="as the model’s author set" ...${bind(temperature)} /></label></div>` : ''}
      ${kind.value === 'rerank' ? html`<label>Query<input ...${bind(query)} /></label>` : ''}
      ${kind.value === 'chat' ? '' : html`<label>${kind.value === 'rerank' ? 'Documents' : 'Texts'}, one per line<textarea rows="6" ...${bind(texts)}></textarea></label>`}
      <div class="tools">${running.value ? html`<button type="button" class="primary" onClick=${() => running.value?.abort()}>Stop</button>` : html`<button class="primary" disabled=${!model.value}>Run</button>`}</div></form>
    <h3>Answer</h3><${Result} /></section>
    <section class="card" aria-labelledby="program"><header><h2 id="program">The same in a program</h2>
      <div class="tabs" role="group" aria-label="Language">${Object.keys(LANGUAGES).map((name) => html`<button aria-pressed=${language.value === name ? 'true' : 'false'} onClick=${() => { language.value = /** @type {any} */ (name); }}>${name}</button>`)}</div></header>
    <figure class="code"><figcaption><span>${language.value}</span><${CopyButton} text=${code} label="Copy program" /></figcaption><pre tabindex="0"><code>${code}</code></pre></figure>
    ${key.value ? html`<p class="dim">The key is read from the environment variable SAMOVAR_KEY.</p>` : ''}
    <p class="dim">All routes with their fields: <code>${location.origin}/openapi.json</code></p></section></div>`;
}
