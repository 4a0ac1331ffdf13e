// @ts-check
// What stands in place of the dashboard where this tab may not see it: why, and what to do.
import { html } from './dom.js';
import { key, useKey } from './api.js';
import { reconnect, status, statusText } from './live.js';
import { closeDialog } from './parts.js';

/** @param {{about?: string}} props */
export function KeyForm({ about }) {
  const submit = (/** @type {any} */ event) => {
    event.preventDefault();
    useKey(new FormData(event.target).get('key')?.toString() ?? '');
    closeDialog();
    reconnect();
  };
  return html`<form class="tools" onSubmit=${submit}>${about ? html`<p>${about}</p>` : ''}
    <input type="password" name="key" aria-label="Key" placeholder="Key" autocomplete="off" spellcheck=${false} pattern="\\s*[!-~]*\\s*" title="Letters, digits and signs, without spaces" value=${key.value} /><button class="primary">Use this key</button>
    ${key.value ? html`<button type="button" onClick=${() => { useKey(''); closeDialog(); reconnect(); }}>Forget it</button>` : ''}</form>
    <p class="dim">The key is kept until this tab is closed.</p>`;
}

export function Gate() {
  switch (status.value) {
    case 'key': return html`<section class="card gate"><h1>A key is needed</h1><p>The owner of this daemon makes one with</p><pre tabindex="0"><code>samovar key add NAME --scope manage</code></pre><${KeyForm} /></section>`;
    case 'scope': return html`<section class="card gate"><h1>This key may not see the dashboard</h1><p>${statusText.value}. Chat and playground work with it. For the dashboard, use a key of the scope manage.</p><${KeyForm} /></section>`;
    case 'limited': return html`<section class="card gate"><h1>The dashboard needs a key</h1><p>This daemon has no keys yet, so its port serves models and nothing that manages them. Make a key, and give it here:</p>
      <pre tabindex="0"><code>samovar key add dashboard --scope infer,manage</code></pre><${KeyForm} /><p class="dim">From then on every program needs a key on the port. Chat and playground work without one until then.</p></section>`;
    case 'offline': return html`<section class="card gate"><h1>The daemon does not answer</h1><p>This page waits for it and goes on by itself. Start it with</p><pre tabindex="0"><code>samovar serve</code></pre></section>`;
    default: return html`<section class="card gate" aria-busy="true"><h1>Connecting…</h1></section>`;
  }
}
