// @ts-check
// One answer of a model as it is streamed: its text, thoughts and calls so far, what it waits for, and its figures.
import { signal } from './dom.js';
import { ApiError, events, failed, json, send } from './api.js';
import { typed } from './format.js';
import { fenced } from './store.js';

/**
 * @typedef {import('./store.js').Call} Call
 * @typedef {import('./store.js').Message} Message
 * @typedef {import('./store.js').Conversation} Conversation
 * @typedef {{content: string, thinking: string, calls: Call[], phase: string, fraction: number | null, began: number, firstAt: number | null, pieces: number}} Draft
 */

/** @param {Message} message @returns {any} */
function sent(message) {
  const files = (message.files ?? []).map((file) => `${fenced(file)}\n\n`).join('');
  if (message.role === 'tool') return { role: 'tool', tool_call_id: message.call, content: message.content };
  if (message.role === 'user') return { role: 'user', content: files + message.content };
  return {
    role: 'assistant', content: message.content, reasoning_content: message.thinking || undefined,
    tool_calls: message.calls?.length ? message.calls.map((call) => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } })) : undefined,
  };
}

/** What `/v1/chat/completions` is asked. @param {Conversation} conversation @param {Message[]} messages */
export function request(conversation, messages) {
  const params = conversation.params;
  /** @type {Record<string, any>} */
  const body = {
    model: conversation.model,
    messages: [...(conversation.system.trim() ? [{ role: 'system', content: conversation.system }] : []), ...messages.map(sent)],
  };
  const numbers = ['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens', 'seed', 'presence_penalty', 'frequency_penalty'];
  for (const name of numbers) if (params[name]?.trim()) body[name] = typed(params[name]);
  if (params.reasoning_effort) body.reasoning_effort = params.reasoning_effort;
  if (params.stop?.trim()) body.stop = params.stop.split('\n').filter(Boolean);
  if (params.format === 'json') body.response_format = { type: 'json_object' };
  if (params.format === 'schema') body.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema: parsed(params.schema, 'the schema') } };
  if (params.tools?.trim()) body.tools = parsed(params.tools, 'the tools');
  return body;
}

/** @param {string} text @param {string} what */
function parsed(text, what) {
  try {
    return JSON.parse(text || '{}');
  } catch (error) {
    throw new ApiError(0, `${what} are not JSON: ${/** @type {Error} */ (error).message}`, 'open the settings of this conversation');
  }
}

/** How the daemon's comments tell of progress. @param {string} comment */
const fractionIn = (comment) => {
  const part = /(\d+) %/.exec(comment), of = /([\d.]+) of ([\d.]+)/.exec(comment);
  return part ? Number(part[1]) / 100 : of ? Number(of[1]) / Number(of[2]) : null;
};

/**
 * Streams an answer; the draft changes at most once a frame. Resolves with the message without its place in the tree.
 * @param {{conversation: Conversation, messages: Message[], goesOn?: Message, abort: AbortController}} wish
 */
export function begin({ conversation, messages, goesOn, abort }) {
  const began = performance.now();
  /** @type {Draft} */
  const state = { content: goesOn?.content ?? '', thinking: goesOn?.thinking ?? '', calls: [], phase: 'asking', fraction: null, began, firstAt: null, pieces: 0 };
  const draft = signal({ ...state });
  let frame = 0, timer = 0;
  const show = () => {
    if (frame || timer) return;
    const now = () => { frame = 0; timer = 0; draft.value = { ...state, calls: state.calls.map((call) => ({ ...call })) }; };
    // A hidden tab has no frames.
    if (document.hidden) timer = /** @type {any} */ (setTimeout(now, 500));
    else frame = requestAnimationFrame(now);
  };
  const said = () => {
    state.firstAt ??= performance.now();
    state.pieces += 1;
    state.phase = '';
    state.fraction = null;
    show();
  };
  /** @type {import('./store.js').Figures} */
  const figures = {};
  /** @param {any} chunk */
  const take = (chunk) => {
    if (chunk.error) throw failed(chunk);
    if (chunk.usage) {
      figures.tokens = chunk.usage.completion_tokens;
      figures.prompt = chunk.usage.prompt_tokens;
      figures.cached = chunk.usage.prompt_tokens_details?.cached_tokens;
    }
    if (chunk.samovar) {
      const timings = chunk.samovar.timings ?? {};
      Object.assign(figures, { first_ms: timings.first_token_ms, queue_ms: timings.queue_ms, load_ms: timings.load_ms, timed_out: chunk.samovar.timed_out || undefined });
      figures.per_s = timings.decode_ms;
    }
    const choice = chunk.choices?.[0];
    if (!choice) return;
    if (choice.finish_reason) figures.finish = choice.finish_reason;
    const delta = choice.delta ?? { content: choice.text };
    if (delta.content) { state.content += delta.content; said(); }
    const thought = delta.reasoning_content ?? delta.reasoning;
    if (thought) { state.thinking += thought; said(); }
    for (const call of delta.tool_calls ?? []) {
      const mine = (state.calls[call.index ?? state.calls.length] ??= { id: '', name: '', arguments: '' });
      if (call.id) mine.id = call.id;
      if (call.function?.name) mine.name += call.function.name;
      mine.arguments += call.function?.arguments ?? '';
      said();
    }
  };
  const run = async () => {
    /** @type {Partial<Message>} */
    const end = {};
    try {
      const { path, body } = await question(conversation, messages, goesOn, abort.signal);
      const response = await send(path, { body: { ...body, stream: true, stream_options: { include_usage: true } }, signal: abort.signal });
      let isWhole = false;
      for await (const { data, comment } of events(response)) {
        if (comment !== undefined) {
          if (!state.firstAt) { state.phase = comment; state.fraction = fractionIn(comment); show(); }
        } else if (data === '[DONE]') { isWhole = true; break; }
        else take(JSON.parse(data));
      }
      if (!isWhole && !figures.finish) throw new ApiError(0, 'the daemon ended the answer before it was complete', 'regenerate it, or let it go on');
    } catch (error) {
      if (abort.signal.aborted) end.stopped = true;
      else end.error = { message: error instanceof Error ? error.message : String(error), hint: error instanceof ApiError ? error.hint : '' };
    } finally {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    }
    const seconds = figures.per_s ? figures.per_s / 1000 : state.firstAt ? (performance.now() - state.firstAt) / 1000 : 0;
    const tokens = figures.tokens ?? state.pieces;
    figures.per_s = seconds > 0 && tokens > 1 ? (tokens - 1) / seconds : undefined;
    figures.tokens = tokens;
    figures.first_ms ??= state.firstAt ? state.firstAt - began : undefined;
    return { ...end, content: state.content, thinking: state.thinking || undefined, calls: state.calls.length ? state.calls : undefined, figures, model: conversation.model };
  };
  return { draft, done: run(), abort };
}

/** @param {Conversation} conversation @param {Message[]} messages @param {Message | undefined} goesOn @param {AbortSignal} signal */
async function question(conversation, messages, goesOn, signal) {
  const body = request(conversation, messages);
  if (!goesOn) return { path: '/v1/chat/completions', body };
  if (goesOn.thinking && !goesOn.content) throw new ApiError(0, 'thoughts cannot go on', 'regenerate this answer');
  // The prompt of the conversation as the model reads it, and the answer so far behind it.
  const { prompt } = await json('/apply-template', { body: { model: body.model, messages: body.messages, chat_template_kwargs: goesOn.thinking ? { enable_thinking: false } : undefined }, signal });
  const { messages: _, response_format: __, tools: ___, reasoning_effort: ____, ...rest } = body;
  return { path: '/v1/completions', body: { max_tokens: -1, ...rest, prompt: prompt + goesOn.content } };
}
