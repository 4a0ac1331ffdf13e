// @ts-check
// Requests to the daemon: with the key of this tab, answers whole, by lines, or as server-sent events. Nothing is shown here.
import { signal } from './dom.js';

const KEY = 'samovar.key';

/** What the browser keeps, if it may keep anything for this page. @param {'localStorage' | 'sessionStorage'} area @param {string} name */
export function kept(area, name) {
  try { return window[area].getItem(name) ?? ''; } catch { return ''; }
}

/** @param {'localStorage' | 'sessionStorage'} area @param {string} name @param {string} text */
export function keep(area, name, text) {
  try {
    if (text) window[area].setItem(name, text);
    else window[area].removeItem(name);
  } catch {
    // Then it is known until the page is left.
  }
}

/** The key that requests are sent with; it ends with the tab. */
export const key = signal(kept('sessionStorage', KEY));

/** @param {string} text */
export function useKey(text) {
  key.value = text.trim();
  keep('sessionStorage', KEY, key.value);
}

/** A refusal, or no answer at all (status 0). */
export class ApiError extends Error {
  /** @param {number} status @param {string} message @param {string} hint @param {string} kind */
  constructor(status, message, hint = '', kind = '') {
    super(message);
    this.status = status;
    this.hint = hint;
    this.kind = kind;
  }
}

/** What any of the APIs calls an error. @param {any} body @param {number} status */
function refusal(body, status) {
  const said = typeof body?.error === 'string' ? { message: body.error } : body?.error ?? body ?? {};
  return new ApiError(status, String(said.message ?? `the daemon answered ${status}`), String(said.hint ?? body?.hint ?? ''), String(said.kind ?? said.code ?? said.type ?? ''));
}

/** A failure as it stands in a stream. @param {any} failure */
export const failed = (failure) => refusal(failure, 200);

/**
 * @param {string} path
 * @param {{method?: string, body?: unknown, signal?: AbortSignal, headers?: Record<string, string>}} [options]
 */
export async function send(path, { method, body, signal, headers } = {}) {
  /** @type {Record<string, string>} */
  const all = { ...headers };
  if (key.peek()) all.authorization = `Bearer ${key.peek()}`;
  if (body !== undefined) all['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (body === undefined ? 'GET' : 'POST'), headers: all, signal, cache: 'no-store',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'the daemon does not answer', 'start it with `samovar serve`');
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw refusal(body, response.status);
  }
  return response;
}

/** @param {string} path @param {Parameters<typeof send>[1]} [options] @returns {Promise<any>} */
export async function json(path, options) {
  return (await send(path, options)).json();
}

/**
 * The lines of a response as they come, without their ends.
 * @param {Response} response
 * @param {() => void} [heard] is called for all bytes
 */
export async function* lines(response, heard) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error?.name === 'AbortError' ? error : new ApiError(0, 'the connection to the daemon broke');
      });
      if (done) break;
      heard?.();
      const parts = (rest + value).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) yield part.endsWith('\r') ? part.slice(0, -1) : part;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * The events of a stream: `comment` is set where a line is one.
 * @param {Response} response
 * @param {() => void} [heard]
 * @returns {AsyncGenerator<{event: string, id: string, data: string, comment?: string}>}
 */
export async function* events(response, heard) {
  let event = '', id = '', data = '', has = false;
  for await (const line of lines(response, heard)) {
    if (line === '') {
      if (has) yield { event: event || 'message', id, data };
      event = ''; data = ''; has = false;
    } else if (line.startsWith(':')) {
      yield { event: '', id, data: '', comment: line.slice(1).trim() };
    } else {
      const at = line.indexOf(':');
      const name = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
      if (name === 'data') { data = has ? `${data}\n${value}` : value; has = true; }
      else if (name === 'event') event = value;
      else if (name === 'id') id = value;
    }
  }
}

/**
 * An order whose progress comes as one object a line; resolves with what is done.
 * @param {string} path @param {unknown} body
 * @param {(event: any) => void} told @param {AbortSignal} [signal]
 */
export async function order(path, body, told, signal) {
  const response = await send(path, { body, signal });
  for await (const line of lines(response)) {
    if (!line) continue;
    const event = JSON.parse(line);
    if (event.failed) throw failed(event.failed);
    if (event.done !== undefined) return event.done;
    told(event);
  }
  throw new ApiError(0, 'the daemon ended the answer before it was complete');
}
