// @ts-check
// The frame of the page: views by the address's fragment, the connection's state, the key, the colours.
import { computed, html, render, signal, effect, useEffect, useState } from './dom.js';
import { keep, kept, key } from './api.js';
import { reconnect, status, statusText } from './live.js';
import { Boundary, Dialog, Notes, openDialog } from './parts.js';
import { KeyForm } from './gate.js';

/** Each view is fetched when it is opened first. @type {Record<string, [string, () => Promise<any>]>} */
const VIEWS = {
  dashboard: ['Dashboard', () => import('./dashboard.js').then((module) => module.Dashboard)],
  chat: ['Chat', () => import('./chat.js').then((module) => module.Chat)],
  playground: ['Playground', () => import('./playground.js').then((module) => module.Playground)],
};

/** @param {{name: string, asked: URLSearchParams}} props */
function View({ name, asked }) {
  const [{ Found }, setFound] = useState(/** @type {{Found: any}} */ ({ Found: null }));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  useEffect(() => { VIEWS[name][1]().then((Found) => setFound({ Found }), setError); }, []);
  // The boundary around it shows this.
  if (error) throw error;
  return Found ? html`<${Found} asked=${asked} />` : '';
}

const fragment = signal(location.hash.slice(1));
addEventListener('hashchange', () => { fragment.value = location.hash.slice(1); });
const view = computed(() => {
  const name = fragment.value.split('?')[0];
  return Object.hasOwn(VIEWS, name) ? name : 'dashboard';
});
const asked = computed(() => new URLSearchParams(fragment.value.split('?')[1] ?? ''));

const THEME = 'samovar.theme';
const theme = signal(kept('localStorage', THEME) || 'auto');
effect(() => {
  document.documentElement.dataset.theme = theme.value;
  keep('localStorage', THEME, theme.value);
});
effect(() => { document.title = `${VIEWS[view.value][0]} · Samovar`; });

const WORDS = { connecting: 'connecting', live: 'live', polling: 'polling', limited: 'no key', key: 'key needed', scope: 'limited key', offline: 'no answer' };

function Frame() {
  const state = /** @type {keyof typeof WORDS} */ (status.value);
  const next = { auto: 'dark', dark: 'light', light: 'auto' }[theme.value] ?? 'auto';
  return html`<a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => { event.preventDefault(); document.getElementById('main')?.focus(); }}>To the content</a>
    <header class="top"><span class="brand"><img src="/page/icon.svg" alt="" width="22" height="22" />Samovar</span>
      <nav aria-label="Views">${Object.entries(VIEWS).map(([name, [title]]) => html`<a href=${`#${name}`} aria-current=${name === view.value ? 'page' : undefined}>${title}</a>`)}</nav>
      <div class="end"><span class=${`link ${state}`} role="status" title=${statusText.value}>${WORDS[state] ?? state}</span>
        <button class="plain" aria-label=${key.value ? 'Key: one is in use' : 'Key: none'} onClick=${() => openDialog('Key', html`<${KeyForm} about="Requests of this page are sent with this key." />`)}>${key.value ? 'Key ✓' : 'Key'}</button>
        <button class="plain" aria-label=${`Colours: ${theme.value}; change to ${next}`} title=${`Colours: ${theme.value}`} onClick=${() => { theme.value = next; }}>◐</button></div></header>
    <main id="main" tabindex="-1" class=${view.value}><${Boundary} key=${view.value}><${View} name=${view.value} asked=${asked.value} /></${Boundary}></main>
    <${Notes} /><${Dialog} />`;
}

const root = document.getElementById('app');
if (root) {
  root.replaceChildren();
  render(html`<${Frame} />`, root);
}
reconnect();
for (const name of /** @type {const} */ (['dragover', 'drop'])) {
  // A file that misses the conversation does not take the page's place.
  addEventListener(name, (event) => { if (event.dataTransfer?.types.includes('Files')) event.preventDefault(); });
}
document.addEventListener('click', (event) => {
  // A menu closes when something else is clicked, or one of its entries.
  for (const menu of document.querySelectorAll('details.menu[open]')) {
    if (!menu.contains(/** @type {Node} */ (event.target)) || /** @type {Element} */ (event.target).closest('.menu > div')) menu.removeAttribute('open');
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  for (const menu of document.querySelectorAll('details.menu[open]')) {
    menu.removeAttribute('open');
    menu.querySelector('summary')?.focus();
  }
});
