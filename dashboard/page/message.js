// @ts-check
// One message: its text, thoughts, calls and files, its figures, and what can be done with it.
import { html, useSignal, useEffect, useRef } from './dom.js';
import { Markdown } from './markdown.js';
import { CopyButton, Meter } from './parts.js';
import { now } from './live.js';
import { siblings } from './store.js';
import { bytes, count, span } from './format.js';

/**
 * @typedef {import('./store.js').Conversation} Conversation
 * @typedef {import('./store.js').Message} Message
 * @typedef {import('./store.js').Figures} Figures
 * @typedef {{conversation: Conversation, message?: Message, draft?: import('@preact/signals').Signal<import('./answer.js').Draft>, isBusy?: boolean, isLast?: boolean,
 *   edit?: (message: Message, text: string) => unknown, regenerate?: () => unknown, goOn?: () => unknown, retry?: () => unknown,
 *   giveResults?: (message: Message, results: string[]) => unknown, turnTo?: (id: string) => unknown}} Props
 */

const NAMES = { user: 'You', assistant: 'Model', tool: 'Result of a tool' };

/** @param {Props} props */
export function MessageView(props) {
  const { message, draft, conversation } = props;
  const editing = useSignal(false);
  if (draft) {
    const state = draft.value;
    return html`<article class="message assistant" aria-busy="true"><h2>${conversation.model}</h2>
      <${Thoughts} text=${state.thinking} isOpen=${!state.content} />${state.content ? html`<${Markdown} text=${state.content} />` : ''}<${Calls} calls=${state.calls} />
      <${Waiting} state=${state} /></article>`;
  }
  if (!message) return '';
  return html`<article class=${`message ${message.role}`}><h2>${message.role === 'assistant' ? message.model || NAMES.assistant : NAMES[message.role]}</h2>
    ${message.files?.map((file) => html`<details class="file"><summary>${file.name} <span class="dim">${bytes(file.text.length)}</span></summary><pre tabindex="0">${file.text}</pre></details>`)}
    <${Thoughts} text=${message.thinking ?? ''} />
    ${editing.value ? html`<${Editor} text=${message.content} verb=${message.role === 'user' ? 'Send' : 'Keep'} cancel=${() => { editing.value = false; }} done=${(/** @type {string} */ text) => { editing.value = false; props.edit?.(message, text); }} />`
      : message.role === 'assistant' ? html`<${Markdown} text=${message.content} />` : html`<p class="plain-text">${message.content}</p>`}
    <${Calls} calls=${message.calls ?? []} />
    ${message.calls?.length && props.isLast && !props.isBusy ? html`<${Results} message=${message} give=${props.giveResults} />` : ''}
    ${message.error ? html`<p class="failure">${message.error.message}${message.error.hint ? html`<br /><span>${message.error.hint}</span>` : ''}</p>` : ''}
    ${editing.value ? '' : html`<${Acts} ...${props} message=${message} edit=${() => { editing.value = true; }} />`}</article>`;
}

/** @param {{text: string, isOpen?: boolean}} props */
function Thoughts({ text, isOpen }) {
  if (!text) return '';
  return html`<details class="thoughts" open=${isOpen}><summary>${isOpen ? 'Thinking…' : 'Thoughts'} <span class="dim">${count(text.split(/\s+/).length)} words</span></summary><p class="plain-text">${text}</p></details>`;
}

/** @param {{calls: import('./store.js').Call[]}} props */
function Calls({ calls }) {
  return calls.map((call) => html`<figure class="code call"><figcaption><span>calls <b>${call.name}</b></span><${CopyButton} text=${call.arguments} label="Copy arguments" /></figcaption><pre tabindex="0"><code>${pretty(call.arguments)}</code></pre></figure>`);
}

/** @param {string} text */
function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

/** @param {{message: Message, give?: (message: Message, results: string[]) => unknown}} props */
function Results({ message, give }) {
  const submit = (/** @type {any} */ event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    give?.(message, (message.calls ?? []).map((_, index) => given.get(`result${index}`)?.toString() ?? ''));
  };
  return html`<form class="results" onSubmit=${submit}>${message.calls?.map((call, index) => html`<label>Result of ${call.name}<textarea name=${`result${index}`} rows="2" placeholder="What the tool returned"></textarea></label>`)}<button class="primary">Give to the model</button></form>`;
}

/** @param {{state: import('./answer.js').Draft}} props */
function Waiting({ state }) {
  // Once a second.
  const at = now.value;
  const passed = performance.now() - state.began;
  if (!state.firstAt) return html`<p class="waiting" role="status"><${Meter} value=${state.fraction} label="progress" /><span>${state.phase || 'waiting'} <span class="dim" aria-hidden="true" data-at=${at}>${span(passed)}</span></span></p>`;
  const seconds = (performance.now() - state.firstAt) / 1000;
  return html`<p class="figures">${seconds > 1 ? `${(state.pieces / seconds).toFixed(1)} per second · ` : ''}first after ${span(state.firstAt - state.began)}</p>`;
}

/** @param {{text: string, verb: string, cancel: () => void, done: (text: string) => void}} props */
function Editor({ text, verb, cancel, done }) {
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => box.current?.focus(), []);
  return html`<form class="editor" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); done(box.current?.value ?? text); }}>
    <textarea ref=${box} rows=${Math.min(16, text.split('\n').length + 1)} aria-label="Message" defaultValue=${text} onKeyDown=${(/** @type {KeyboardEvent} */ event) => { if (event.key === 'Escape') cancel(); }}></textarea>
    <div class="tools"><button class="primary">${verb}</button><button type="button" onClick=${cancel}>Cancel</button></div></form>`;
}

/** @param {Figures | undefined} figures */
function written(figures) {
  if (!figures) return '';
  return [
    figures.tokens ? `${count(figures.tokens)} tokens` : '', figures.per_s ? `${figures.per_s.toFixed(1)} per second` : '', figures.first_ms != null ? `first after ${span(figures.first_ms)}` : '',
    figures.load_ms && figures.load_ms > 1 ? `load ${span(figures.load_ms)}` : '', figures.queue_ms && figures.queue_ms > 1 ? `queue ${span(figures.queue_ms)}` : '',
    figures.prompt ? `prompt ${count(figures.prompt)}${figures.cached ? `, ${count(figures.cached)} cached` : ''}` : '',
    figures.finish === 'length' ? 'cut at its limit' : '', figures.timed_out ? 'out of time' : '',
  ].filter(Boolean).join(' · ');
}

/** @param {Props & {message: Message}} props */
function Acts({ message, conversation, isBusy, isLast, edit, regenerate, goOn, retry, turnTo }) {
  const all = siblings(conversation, message);
  const at = all.findIndex((other) => other.id === message.id);
  const canGoOn = isLast && message.role === 'assistant' && !message.calls && message.content && (message.stopped || message.error || message.figures?.finish === 'length');
  return html`<div class="acts">${all.length > 1 ? html`<span class="branches"><button class="plain small" aria-label="The version before" disabled=${isBusy || at === 0} onClick=${() => turnTo?.(all[at - 1].id)}>‹</button>
      <span>${at + 1} of ${all.length}</span><button class="plain small" aria-label="The next version" disabled=${isBusy || at === all.length - 1} onClick=${() => turnTo?.(all[at + 1].id)}>›</button></span>` : ''}
    ${message.content ? html`<${CopyButton} text=${message.content} />` : ''}
    ${isBusy || message.role === 'tool' ? '' : html`<button class="plain small" onClick=${edit}>Edit</button>`}
    ${!isBusy && message.role === 'assistant' ? html`<button class="plain small" onClick=${regenerate}>Regenerate</button>` : ''}
    ${!isBusy && isLast && message.role !== 'assistant' ? html`<button class="plain small" onClick=${retry}>Answer</button>` : ''}
    ${canGoOn && !isBusy ? html`<button class="plain small" onClick=${goOn}>Continue</button>` : ''}
    <span class="figures">${message.stopped ? 'stopped · ' : ''}${written(message.figures)}</span></div>`;
}
