// @ts-check
// Conversations as this browser keeps them, in IndexedDB. A conversation is a tree: each message names the one before it.
// Only this file knows where they lie.

/**
 * @typedef {{name: string, text: string}} Attachment
 * @typedef {{id: string, name: string, arguments: string}} Call
 * @typedef {{tokens?: number, prompt?: number, cached?: number, first_ms?: number, per_s?: number, queue_ms?: number, load_ms?: number, finish?: string, timed_out?: boolean}} Figures
 * @typedef {{id: string, parent: string | null, role: 'user' | 'assistant' | 'tool', content: string, thinking?: string, calls?: Call[], call?: string,
 *   files?: Attachment[], model?: string, figures?: Figures, stopped?: boolean, error?: {message: string, hint: string}, at: number}} Message
 * @typedef {{id: string, title: string, model: string, system: string, params: Record<string, string>, created: number, updated: number, leaf: string | null, messages: Record<string, Message>}} Conversation
 */

const NAME = 'samovar', TABLE = 'conversations';
const IMPORT_MAX_BYTES = 32e6;

/** Where nothing can be kept, such as in a private window of some browsers, this tab's memory serves. @type {Map<string, Conversation>} */
const memory = new Map();

/** What this tab deleted: an answer that ends afterwards does not bring its conversation back. @type {Set<string>} */
const removed = new Set();

/** @type {Promise<IDBDatabase | null> | undefined} */
let opened;
function open() {
  return (opened ??= new Promise((resolve) => {
    try {
      const asked = indexedDB.open(NAME, 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore(TABLE, { keyPath: 'id' });
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  }));
}

/**
 * @template T
 * @param {IDBTransactionMode} mode @param {(table: IDBObjectStore) => IDBRequest<T>} work
 * @returns {Promise<T>}
 */
async function within(mode, work) {
  const database = await open();
  if (!database) throw new Error('this browser keeps nothing');
  return new Promise((resolve, reject) => {
    const asked = work(database.transaction(TABLE, mode).objectStore(TABLE));
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** @param {string} model @returns {Conversation} */
export function fresh(model) {
  const at = Date.now();
  return { id: newId(), title: '', model, system: '', params: {}, created: at, updated: at, leaf: null, messages: {} };
}

/** Conversations with this text in them, the latest first. @param {string} query @returns {Promise<Conversation[]>} */
export async function list(query) {
  const all = (await open()) ? await within('readonly', (table) => table.getAll()) : [...memory.values()];
  const wanted = query.trim().toLowerCase();
  const has = (/** @type {Conversation} */ one) => !wanted || one.title.toLowerCase().includes(wanted) || Object.values(one.messages).some((message) => message.content.toLowerCase().includes(wanted));
  return all.filter(has).sort((one, other) => other.updated - one.updated);
}

/** Keeps a conversation; messages that another tab added to it meanwhile stay. @param {Conversation} conversation */
export async function put(conversation) {
  const database = await open();
  if (removed.has(conversation.id)) return;
  if (!database) { memory.set(conversation.id, structuredClone(conversation)); return; }
  await new Promise((resolve, reject) => {
    const changes = database.transaction(TABLE, 'readwrite');
    changes.oncomplete = resolve;
    changes.onabort = () => reject(changes.error);
    const table = changes.objectStore(TABLE), asked = table.get(conversation.id);
    asked.onsuccess = () => table.put({ ...conversation, messages: { ...asked.result?.messages, ...conversation.messages } });
  });
}

/** @param {string} id */
export async function remove(id) {
  removed.add(id);
  if (await open()) await within('readwrite', (table) => table.delete(id));
  else memory.delete(id);
}

/** The messages up to this one, the first one first. @param {Conversation} conversation @param {string | null} [leaf] */
export function path(conversation, leaf = conversation.leaf) {
  const messages = [];
  const seen = new Set();
  for (let id = leaf; id && conversation.messages[id] && !seen.has(id); id = conversation.messages[id].parent) {
    seen.add(id);
    messages.push(conversation.messages[id]);
  }
  return messages.reverse();
}

/** What stands at the same place, the oldest first. @param {Conversation} conversation @param {Message} message */
export function siblings(conversation, message) {
  return Object.values(conversation.messages).filter((other) => other.parent === message.parent).sort((one, other) => one.at - other.at);
}

/** The end of the branch that goes on after this message, by its latest messages. @param {Conversation} conversation @param {string} id */
export function leafBelow(conversation, id) {
  const seen = new Set();
  for (;;) {
    seen.add(id);
    const next = Object.values(conversation.messages).filter((message) => message.parent === id && !seen.has(message.id)).sort((one, other) => other.at - one.at)[0];
    if (!next) return id;
    id = next.id;
  }
}

/** A file as a part of a message: no line of it ends the fence. @param {Attachment} file */
export function fenced({ name, text }) {
  let fence = '```';
  for (const [ticks] of text.matchAll(/`{3,}/g)) if (ticks.length >= fence.length) fence = `${ticks}\``;
  return `File ${name}:\n${fence}\n${text}\n${fence}`;
}

/** @param {Conversation} conversation */
export function asMarkdown(conversation) {
  const names = { user: 'You', assistant: 'Model', tool: 'Tool' };
  const parts = [`# ${conversation.title}`];
  if (conversation.system) parts.push(`**System:** ${conversation.system}`);
  for (const message of path(conversation)) {
    const files = (message.files ?? []).map((file) => `${fenced(file)}\n\n`).join('');
    parts.push(`## ${names[message.role]}${message.model ? ` (${message.model})` : ''}\n\n${files}${message.content}`);
  }
  return `${parts.join('\n\n')}\n`;
}

/** Takes in what was exported as JSON: one conversation or several; they and their messages get new ids. @param {File} file */
export async function importFile(file) {
  if (file.size > IMPORT_MAX_BYTES) throw new Error(`${file.name} is larger than 32 MB`);
  const read = JSON.parse(await file.text());
  const taken = [];
  for (const one of Array.isArray(read) ? read : [read]) {
    const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value : '');
    if (typeof one?.messages !== 'object' || one.messages === null) throw new Error(`${file.name} is no conversation of this page`);
    /** @param {unknown} value @param {(one: any) => any} shape */
    const rows = (value, shape) => (Array.isArray(value) && value.length ? value.map(shape) : undefined);
    const messages = /** @type {any[]} */ (Object.values(one.messages)).filter((message) => ['user', 'assistant', 'tool'].includes(message?.role) && text(message.id));
    if (!messages.length) continue;
    const ids = new Map(messages.map((message) => [message.id, newId()]));
    const params = Object.fromEntries(Object.entries(one.params ?? {}).filter(([, value]) => typeof value === 'string'));
    const conversation = { ...fresh(text(one.model)), title: text(one.title).slice(0, 200) || 'Conversation', system: text(one.system), params, leaf: ids.get(one.leaf) ?? ids.get(messages[messages.length - 1].id) ?? null };
    for (const message of messages) {
      const id = ids.get(message.id) ?? newId();
      conversation.messages[id] = {
        id, parent: ids.get(message.parent) ?? null, role: message.role, content: text(message.content), thinking: text(message.thinking) || undefined, at: Number(message.at) || Date.now(),
        calls: rows(message.calls, (call) => ({ id: text(call?.id), name: text(call?.name), arguments: text(call?.arguments) })), call: text(message.call) || undefined,
        files: rows(message.files, (file) => ({ name: text(file?.name), text: text(file?.text) })), model: text(message.model) || undefined, stopped: message.stopped === true || undefined,
      };
    }
    await put(conversation);
    taken.push(conversation);
  }
  if (!taken.length) throw new Error(`${file.name} has no conversation in it`);
  return taken;
}
