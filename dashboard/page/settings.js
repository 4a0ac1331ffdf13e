// @ts-check
// What a conversation's requests say besides its messages.
import { html } from './dom.js';

/** @typedef {import('./store.js').Conversation} Conversation */

const NUMBERS = [
  ['temperature', 'Temperature', '0 = always the likeliest'], ['top_p', 'Top p', ''], ['top_k', 'Top k', ''], ['min_p', 'Min p', ''],
  ['max_tokens', 'Tokens at most', ''], ['seed', 'Seed', ''], ['presence_penalty', 'Presence penalty', ''], ['frequency_penalty', 'Frequency penalty', ''],
];

/** @param {{conversation: import('@preact/signals').Signal<Conversation>, change: (next: Partial<Conversation>) => unknown}} props */
export function Settings({ conversation, change }) {
  const { system, params } = conversation.value;
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => change({ params: { ...conversation.peek().params, [name]: event.target.value } });
  return html`<form class="settings" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label>System prompt<textarea rows="4" defaultValue=${system} onChange=${(/** @type {any} */ event) => change({ system: event.target.value })}></textarea></label>
    <div class="grid">${NUMBERS.map(([name, title, hint]) => html`<label key=${name}>${title}<input inputmode="decimal" defaultValue=${params[name] ?? ''} placeholder=${hint || 'as the model’s author set'} onChange=${set(name)} /></label>`)}
      <label>Thinking<select value=${params.reasoning_effort ?? ''} onChange=${set('reasoning_effort')}><option value="">as the model does</option>${['none', 'minimal', 'low', 'medium', 'high', 'xhigh'].map((word) => html`<option value=${word}>${word}</option>`)}</select></label>
      <label>Form of the answer<select value=${params.format ?? ''} onChange=${set('format')}><option value="">text</option><option value="json">JSON</option><option value="schema">JSON by a schema</option></select></label></div>
    ${params.format === 'schema' ? html`<label>Schema<textarea rows="5" class="mono" spellcheck=${false} defaultValue=${params.schema ?? ''} placeholder='{"type": "object", …}' onChange=${set('schema')}></textarea></label>` : ''}
    <label>Texts that end the answer, one per line<textarea rows="2" class="mono" defaultValue=${params.stop ?? ''} onChange=${set('stop')}></textarea></label>
    <label>Tools, as OpenAI writes them<textarea rows="4" class="mono" spellcheck=${false} defaultValue=${params.tools ?? ''} placeholder='[{"type": "function", "function": {"name": …}}]' onChange=${set('tools')}></textarea></label></form>`;
}
