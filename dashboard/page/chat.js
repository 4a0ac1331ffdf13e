// @ts-check
// Talking to a model: conversations on the left, messages, and a box to write in.
import { batch, computed, html, signal, useEffect, useRef, useSignal } from './dom.js';
import { begin } from './answer.js';
import { keep, kept } from './api.js';
import { catalog, isOwner, loadedNames, pool, poolRow, status } from './live.js';
import { MessageView } from './message.js';
import { KeyForm } from './gate.js';
import { Settings } from './settings.js';
import { closeDialog, confirmFirst, openDialog, say, sayError } from './parts.js';
import { ago, bytes, span } from './format.js';
import { asMarkdown, fresh, importFile, leafBelow, list, newId, path, put, remove } from './store.js';

/**
 * @typedef {import('./store.js').Conversation} Conversation
 * @typedef {import('./store.js').Message} Message
 */

const MODEL = 'samovar.model';
const FILE_MAX_BYTES = 400_000;
/** Conversations that are listed at once. */
const LISTED = 200;

const conversations = signal(/** @type {Conversation[]} */ ([]));
const query = signal('');
const current = signal(fresh(kept('localStorage', MODEL)));
const files = signal(/** @type {import('./store.js').Attachment[]} */ ([]));
const isListOpen = signal(false);
/** Answers under way, by conversation. */
const answers = signal(/** @type {Map<string, ReturnType<typeof begin> & {parent: string | null}>} */ (new Map()));

async function readList() {
  try { conversations.value = await list(query.value); } catch (error) { sayError(error); }
}
readList();

/** Keeps a conversation that was just changed. The others are not read again for that. @param {Conversation} conversation */
async function save(conversation) {
  await put(conversation).catch(sayError);
  if (query.peek()) await readList();
  else conversations.value = [conversation, ...conversations.peek().filter((other) => other.id !== conversation.id)];
}

/** Changes the conversation on the page, and keeps it. @param {Conversation} conversation @param {Partial<Conversation>} change */
async function change(conversation, change) {
  // What asked for it may have been on the page for long.
  const isShown = current.peek().id === conversation.id;
  const next = { ...(isShown ? current.peek() : conversation), ...change, updated: Date.now() };
  if (isShown) current.value = next;
  if (next.leaf) await save(next);
  return next;
}

/** The latest word on a conversation. @param {string} id */
const latest = async (id) => (current.peek().id === id ? current.peek() : (await list('')).find((one) => one.id === id));

/** @param {Conversation} conversation @param {Message} message */
const added = (conversation, message) => ({ messages: { ...conversation.messages, [message.id]: message }, leaf: message.id });

/** @param {Conversation} conversation @param {string | null} parent @param {Message} [goesOn] */
async function answer(conversation, parent, goesOn) {
  if (!conversation.model) { say('choose a model first', { bad: true }); return; }
  const id = conversation.id;
  if (answers.peek().has(id)) { say('this conversation is being answered already', { bad: true }); return; }
  const abort = new AbortController();
  let under;
  try {
    under = begin({ conversation, messages: path(conversation, parent), goesOn, abort });
  } catch (error) { sayError(error); return; }
  answers.value = new Map(answers.peek()).set(id, { ...under, parent });
  const end = await under.done;
  const now = await latest(id);
  const left = new Map(answers.peek());
  left.delete(id);
  /** @type {Message} */
  const message = { ...goesOn, id: goesOn?.id ?? newId(), parent, role: 'assistant', at: goesOn?.at ?? Date.now(), ...end, stopped: end.stopped, error: end.error };
  if (now) {
    const next = { ...now, ...added(now, message), updated: Date.now() };
    batch(() => {
      answers.value = left;
      if (current.peek().id === id) current.value = next;
    });
    await save(next);
  } else answers.value = left;
}

/** @param {string} text */
async function ask(text) {
  const conversation = current.peek();
  /** @type {Message} */
  const message = { id: newId(), parent: conversation.leaf, role: 'user', content: text, files: files.peek().length ? files.peek() : undefined, at: Date.now() };
  files.value = [];
  const title = conversation.title || text.trim().split('\n')[0].slice(0, 60) || message.files?.[0].name || 'Conversation';
  const next = await change(conversation, { title, ...added(conversation, message) });
  await answer(next, message.id);
}

/** @param {Message} message @param {string} text */
async function edit(message, text) {
  const conversation = current.peek();
  if (message.role === 'user') {
    const again = { ...message, id: newId(), content: text, at: Date.now() };
    const next = await change(conversation, added(conversation, again));
    await answer(next, again.id);
  } else {
    const again = { ...message, id: newId(), content: text, at: Date.now(), figures: undefined, error: undefined };
    await change(conversation, added(conversation, again));
  }
}

/** @param {Message} message @param {string[]} results */
async function giveResults(message, results) {
  let conversation = current.peek();
  let parent = message.id;
  for (const [index, call] of (message.calls ?? []).entries()) {
    /** @type {Message} */
    const result = { id: newId(), parent, role: 'tool', call: call.id, content: results[index] ?? '', at: Date.now() + index };
    conversation = await change(conversation, added(conversation, result));
    parent = result.id;
  }
  await answer(conversation, parent);
}

/** @param {Conversation} conversation */
function show(conversation) {
  current.value = conversation;
  isListOpen.value = false;
}

/** @param {string} name @param {string} text @param {string} type */
function download(name, text, type) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name.replace(/[^\p{L}\p{N} ._-]/gu, '_').slice(0, 80);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** @param {File[]} dropped */
async function attach(dropped) {
  for (const file of dropped) {
    if (file.size > FILE_MAX_BYTES) { say(`${file.name} is larger than ${bytes(FILE_MAX_BYTES)}`, { bad: true }); continue; }
    const text = await file.text();
    if (text.includes('\0')) { say(`${file.name} is not a text`, { bad: true, hint: 'only texts can be attached' }); continue; }
    files.value = [...files.peek(), { name: file.name, text }];
  }
}

/** @param {{asked: URLSearchParams}} props */
export function Chat({ asked }) {
  const wanted = asked.get('model');
  useEffect(() => {
    if (wanted) show(fresh(wanted));
  }, [wanted]);
  useEffect(() => {
    if (!current.peek().model && catalog.peek()[0]) choose(best());
  }, [catalog.value.length]);
  if (status.value === 'key') return html`<section class="card gate"><h1>A key is needed</h1><${KeyForm} about="Models answer to a key here." /></section>`;
  return html`<h1 class="hidden">Chat</h1><div class=${isListOpen.value ? 'chat-frame open' : 'chat-frame'}><${List} /><${Thread} /></div>`;
}

/** @param {string} model */
function choose(model) {
  keep('localStorage', MODEL, model);
  change(current.peek(), { model });
}

const writers = computed(() => catalog.value.filter((model) => !model.capabilities?.length || model.capabilities.includes('generate')));
/** @param {string} name */
const isReady = (name) => (isOwner.value ? ['ready', 'busy'].includes(poolRow(name)?.state) : loadedNames.value.has(name));
const best = () => writers.value.find((model) => isReady(model.name))?.name ?? writers.value[0]?.name ?? '';

function Picker() {
  const model = current.value.model;
  const [ready, others] = [true, false].map((wanted) => writers.value.filter((one) => isReady(one.name) === wanted));
  const label = (/** @type {any} */ one) => {
    const row = isOwner.value ? poolRow(one.name) : undefined;
    const more = isReady(one.name) ? (row?.queued ? `, ${row.queued} wait` : '') : row?.state === 'parked' ? ', parked' : row?.load_ms_p50 ? `, loads in ${span(row.load_ms_p50)}` : one.size_bytes ? `, ${bytes(one.size_bytes)}` : '';
    const isTooLarge = isOwner.value && one.predicted_bytes > (pool.value?.budget_bytes || Infinity);
    return `${one.name}${more}${isTooLarge ? ', larger than the memory budget' : ''}`;
  };
  return html`<select class="picker" aria-label="Model" value=${model} onChange=${(/** @type {any} */ event) => choose(event.target.value)}>
    ${writers.value.some((one) => one.name === model) ? '' : html`<option value=${model}>${model || 'Choose a model'}</option>`}
    ${ready.length ? html`<optgroup label="Ready">${ready.map((one) => html`<option key=${one.name} value=${one.name}>${label(one)}</option>`)}</optgroup>` : ''}
    ${others.length ? html`<optgroup label="Not in memory">${others.map((one) => html`<option key=${one.name} value=${one.name}>${label(one)}</option>`)}</optgroup>` : ''}</select>`;
}

function List() {
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  const take = async (/** @type {any} */ event) => {
    try {
      for (const file of event.target.files) for (const one of await importFile(file)) show(one);
      await readList();
    } catch (error) { sayError(error); }
    event.target.value = '';
  };
  return html`<aside class="list" aria-label="Conversations"><div class="tools"><button class="primary" onClick=${() => show(fresh(current.value.model || best()))}>New conversation</button>
      <button class="plain narrow" aria-label="Close the list" onClick=${() => { isListOpen.value = false; }}>×</button></div>
    <input type="search" placeholder="Search" aria-label="Search conversations" value=${query} onInput=${(/** @type {any} */ event) => { query.value = event.target.value; readList(); }} />
    <ul>${conversations.value.slice(0, LISTED).map((one) => html`<li key=${one.id}><button class=${one.id === current.value.id ? 'chosen' : ''} aria-current=${one.id === current.value.id ? 'true' : undefined} onClick=${() => show(one)}><b>${one.title}</b><span class="dim">${answers.value.has(one.id) ? 'answers…' : ago(one.updated, Date.now())} · ${one.model}</span></button></li>`)}</ul>
    ${conversations.value.length > LISTED ? html`<p class="dim">and ${conversations.value.length - LISTED} more, which a search finds</p>` : ''}
    ${conversations.value.length ? '' : html`<p class="empty">${query.value ? 'Nothing is found.' : 'No conversation yet.'}</p>`}
    <div class="tools foot"><button class="plain small" onClick=${() => chooser.current?.click()}>Import</button>
      <button class="plain small" onClick=${async () => download('conversations.json', JSON.stringify(await list(''), null, 1), 'application/json')}>Export all</button>
      <input ref=${chooser} type="file" accept=".json" multiple class="hidden" tabindex="-1" aria-label="File to import" onChange=${take} /></div></aside>`;
}

/** @param {{conversation: Conversation}} props */
function Menu({ conversation }) {
  const rename = () => {
    const submit = (/** @type {any} */ event) => {
      event.preventDefault();
      closeDialog();
      change(conversation, { title: new FormData(event.target).get('title')?.toString() || conversation.title });
    };
    openDialog('Rename', html`<form class="tools" onSubmit=${submit}><input name="title" aria-label="Title" value=${conversation.title} maxlength="200" autofocus /><button class="primary">Rename</button></form>`);
  };
  const forget = () => confirmFirst({
    title: `Delete “${conversation.title}”?`, verb: 'Delete', hurts: true, body: html`<p>It is kept in this browser alone, and cannot be brought back.</p>`,
    act: async () => {
      answers.peek().get(conversation.id)?.abort.abort();
      await remove(conversation.id).catch(sayError);
      if (current.peek().id === conversation.id) show(fresh(conversation.model));
      await readList();
    },
  });
  return html`<details class="menu"><summary aria-label="More for this conversation">⋯</summary><div>
    <button onClick=${rename}>Rename</button>
    <button onClick=${() => download(`${conversation.title}.md`, asMarkdown(conversation), 'text/markdown')}>Export as Markdown</button>
    <button onClick=${() => download(`${conversation.title}.json`, JSON.stringify(conversation, null, 1), 'application/json')}>Export as JSON</button>
    <button class="bad" onClick=${forget}>Delete</button></div></details>`;
}

function Thread() {
  const conversation = current.value;
  const under = answers.value.get(conversation.id);
  const leaf = under ? under.parent : conversation.leaf;
  const messages = path(conversation, leaf);
  const scroller = useRef(/** @type {HTMLDivElement | null} */ (null));
  const sticks = useRef(true);
  const follow = () => {
    const box = scroller.current;
    if (box && sticks.current) box.scrollTop = box.scrollHeight;
  };
  useEffect(() => { sticks.current = true; }, [conversation.id]);
  useEffect(() => { if (under) sticks.current = true; }, [under]);
  useEffect(follow, [conversation.leaf, conversation.id, under]);
  const dropped = (/** @type {DragEvent} */ event) => {
    if (event.dataTransfer?.files.length) attach([...event.dataTransfer.files]);
  };
  const settings = () => openDialog('Settings of this conversation', html`<${Settings} conversation=${current} change=${(/** @type {Partial<Conversation>} */ next) => change(current.peek(), next)} />`, { wide: true });
  const given = Object.values(conversation.params).filter(Boolean).length + (conversation.system ? 1 : 0);
  return html`<section class="thread" aria-label="Conversation" onDrop=${dropped}>
    <header><button class="plain narrow" aria-label="Conversations" onClick=${() => { isListOpen.value = true; }}>☰</button><${Picker} />
      <button onClick=${settings}>Settings${given ? ` (${given})` : ''}</button>${conversation.leaf ? html`<${Menu} conversation=${conversation} />` : ''}</header>
    <div class="messages" ref=${scroller} tabindex="0" role="log" aria-label="Messages" aria-live="off" onScroll=${(/** @type {any} */ event) => { const box = event.target; sticks.current = box.scrollHeight - box.scrollTop - box.clientHeight < 60; }}>
      ${messages.length || under ? '' : html`<${Welcome} />`}
      ${messages.map((message) => html`<${MessageView} key=${message.id} message=${message} conversation=${conversation} isBusy=${!!under} isLast=${message.id === conversation.leaf}
        edit=${edit} regenerate=${() => answer(conversation, message.parent)} goOn=${() => answer(conversation, message.parent, message)} retry=${() => answer(conversation, message.id)} giveResults=${giveResults}
        turnTo=${(/** @type {string} */ id) => change(conversation, { leaf: leafBelow(conversation, id) })} />`)}
      ${under ? html`<${MessageView} key="draft" draft=${under.draft} conversation=${conversation} /><${Follow} draft=${under.draft} follow=${follow} />` : ''}</div>
    <p class="hidden" role="status">${under ? 'The model answers.' : messages.at(-1)?.role === 'assistant' ? 'The answer has ended.' : ''}</p>
    <${Composer} busy=${!!under} stop=${() => under?.abort.abort()} /></section>`;
}

/** Scrolls as the answer grows; the messages above it are not drawn again for that. @param {{draft: ReturnType<typeof begin>['draft'], follow: () => void}} props */
function Follow({ draft, follow }) {
  const state = draft.value;
  useEffect(follow, [state]);
  return '';
}

function Welcome() {
  if (status.value === 'offline') return html`<p class="empty">The daemon does not answer. This page goes on when it does.</p>`;
  if (!writers.value.length) return html`<p class="empty">No model that writes text is here yet. <a href="#dashboard">Fetch one</a>, or type <code>samovar pull NAME</code>.</p>`;
  return html`<div class="welcome"><p>Ask ${current.value.model || 'a model'} something.</p><p class="dim">Conversations stay in this browser. Texts can be dropped here.</p></div>`;
}

/** @param {{busy: boolean, stop: () => void}} props */
function Composer({ busy, stop }) {
  const text = useSignal('');
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => { if (!busy && matchMedia('(pointer: fine)').matches) box.current?.focus(); }, [busy, current.value.id]);
  const submit = (/** @type {Event | undefined} */ event) => {
    event?.preventDefault();
    if (busy || !(text.value.trim() || files.value.length)) return;
    const written = text.value;
    text.value = '';
    ask(written).catch(sayError);
  };
  const typed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === 'Escape' && busy) stop();
  };
  return html`<form class="composer" onSubmit=${submit}>
    ${files.value.length ? html`<ul class="files">${files.value.map((file, index) => html`<li>${file.name} <span class="dim">${bytes(file.text.length)}</span><button type="button" class="plain small" aria-label=${`Take ${file.name} away`} onClick=${() => { files.value = files.value.filter((_, other) => other !== index); }}>×</button></li>`)}</ul>` : ''}
    <div class="box"><button type="button" class="plain" aria-label="Attach a text" title="Attach a text" onClick=${() => chooser.current?.click()}>+</button>
      <input ref=${chooser} type="file" multiple class="hidden" tabindex="-1" aria-label="Text to attach" onChange=${(/** @type {any} */ event) => { attach([...event.target.files]); event.target.value = ''; }} />
      <textarea ref=${box} rows="1" aria-label="Message" placeholder="Message" value=${text} onInput=${(/** @type {any} */ event) => { text.value = event.target.value; }} onKeyDown=${typed}></textarea>
      ${busy ? html`<button type="button" class="primary" onClick=${stop}>Stop</button>` : html`<button class="primary" disabled=${!(text.value.trim() || files.value.length)}>Send</button>`}</div></form>`;
}
