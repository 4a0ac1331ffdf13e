// @ts-check
// Small parts that all views share: dialogs, notes, meters, charts.
import { Component, html, signal, useEffect, useRef, useState } from './dom.js';
import { ApiError } from './api.js';

/** @typedef {{text: string, hint?: string, bad?: boolean, number: number}} Note */
const notes = signal(/** @type {Note[]} */ ([]));

let said = 0;
/** Says something at the edge of the page for a while. @param {string} text @param {{hint?: string, bad?: boolean}} [more] */
export function say(text, { hint, bad } = {}) {
  const note = { text, hint, bad, number: (said += 1) };
  notes.value = [...notes.peek().slice(-3), note];
  setTimeout(() => { notes.value = notes.peek().filter((other) => other !== note); }, bad ? 12_000 : 5000);
}

/** @param {unknown} error */
export function sayError(error) {
  if (error instanceof DOMException && error.name === 'AbortError') return;
  const message = error instanceof Error ? error.message : String(error);
  say(message, { bad: true, hint: error instanceof ApiError ? error.hint : '' });
}

export function Notes() {
  return html`<div class="notes" role="status" aria-live="polite">${notes.value.map((note) => html`<div class=${note.bad ? 'note bad' : 'note'} key=${note.number}>
    <p>${note.text}</p>${note.hint ? html`<p class="hint">${note.hint}</p>` : ''}
    <button class="plain" aria-label="Dismiss" onClick=${() => { notes.value = notes.value.filter((other) => other !== note); }}>×</button></div>`)}</div>`;
}

/** What the one dialog shows. */
const shown = signal(/** @type {{title: string, body: any, wide?: boolean} | null} */ (null));

/** @param {string} title @param {any} body @param {{wide?: boolean}} [more] */
export function openDialog(title, body, { wide } = {}) {
  shown.value = { title, body, wide };
}

export function closeDialog() {
  shown.value = null;
}

export function Dialog() {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const content = shown.value;
  useEffect(() => {
    const dialog = element.current;
    if (!dialog) return;
    if (content && !dialog.open) dialog.showModal();
    else if (!content && dialog.open) dialog.close();
  }, [content]);
  return html`<dialog ref=${element} class=${content?.wide ? 'wide' : ''} aria-labelledby="dialog-title" onClose=${closeDialog}
    onClick=${(/** @type {MouseEvent} */ event) => { if (event.target === element.current) closeDialog(); }}>
    ${content ? html`<div class="dialog-body"><header><h2 id="dialog-title">${content.title}</h2>
      <button class="plain" aria-label="Close" onClick=${closeDialog}>×</button></header>${content.body}</div>` : ''}</dialog>`;
}

/** Asks before something that cannot be undone. @param {{title: string, body: any, verb: string, act: () => unknown, hurts?: boolean}} question */
export function confirmFirst({ title, body, verb, act, hurts }) {
  openDialog(title, html`<div>${body}</div><footer><button onClick=${closeDialog} autofocus>Cancel</button>
    <button class=${hurts ? 'bad' : 'primary'} onClick=${() => { closeDialog(); act(); }}>${verb}</button></footer>`);
}

/** @param {{text: string, label?: string}} props */
export function CopyButton({ text, label = 'Copy' }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
    } catch {
      // Pages that other machines serve without TLS have no clipboard.
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      setDone(document.execCommand('copy'));
      area.remove();
    }
  };
  return html`<button class="plain small" aria-label=${done ? 'Copied' : label} onClick=${copy}>${done ? 'Copied' : 'Copy'}</button>`;
}

/** A part of a whole as a bar. @param {{value: number | null | undefined, label: string}} props */
export function Meter({ value, label }) {
  const part = Math.max(0, Math.min(1, value ?? 0));
  return html`<span class=${value == null ? 'meter unknown' : 'meter'} role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${value == null ? undefined : Math.round(part * 100)}><i style=${{ width: `${part * 100}%` }}></i></span>`;
}

/**
 * A line over time with the same numbers as a table.
 * @param {{title: string, points: {at: number, value: number | null}[], shown: (value: number) => string, most?: number}} props
 */
export function Chart({ title, points, shown: written, most }) {
  const known = points.filter((point) => point.value != null);
  const last = known.at(-1)?.value;
  const top = Math.max(most ?? 0, ...known.map((point) => point.value ?? 0)) || 1;
  const from = points[0]?.at ?? 0, width = Math.max(1, (points.at(-1)?.at ?? 1) - from);
  const place = (/** @type {{at: number, value: number | null}} */ { at, value }) => `${(((at - from) / width) * 300).toFixed(1)},${(58 - ((value ?? 0) / top) * 54).toFixed(1)}`;
  const line = known.map(place).join(' ');
  const table = points.filter((_, index) => index % Math.max(1, Math.floor(points.length / 20)) === 0);
  return html`<figure class="chart"><figcaption><span>${title}</span><strong>${last == null ? '–' : written(last)}</strong></figcaption>
    <svg viewBox="0 0 300 60" preserveAspectRatio="none" aria-hidden="true">
      ${known.length > 1 ? html`<polygon points=${`${place(known[0]).split(',')[0]},60 ${line} ${place(known[known.length - 1]).split(',')[0]},60`} /><polyline points=${line} />` : ''}</svg>
    <details><summary>Numbers</summary><table><thead><tr><th scope="col">Time</th><th scope="col">${title}</th></tr></thead>
      <tbody>${table.map((point) => html`<tr><td>${new Date(point.at).toLocaleTimeString()}</td><td>${point.value == null ? '–' : written(point.value)}</td></tr>`)}</tbody></table></details></figure>`;
}

/** Shows what a view cannot, instead of an empty page. @extends {Component<{children?: any}, {error: Error | null}>} */
export class Boundary extends Component {
  state = { error: /** @type {Error | null} */ (null) };

  /** @param {Error} error */
  static getDerivedStateFromError(error) {
    return { error };
  }

  /** @param {Error} error */
  componentDidCatch(error) {
    console.error(error);
  }

  render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return html`<section class="card"><h2>This view failed</h2><p>${error.message}</p>
      <div class="tools"><button onClick=${() => this.setState({ error: null })}>Show it again</button><button onClick=${() => location.reload()}>Reload the page</button></div></section>`;
  }
}
