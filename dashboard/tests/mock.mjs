// A daemon that says what a test wants: many models, requests and decisions, hostile names, streams that wait. It computes nothing.
import { createServer } from 'node:http';
import { serveFile } from './files.mjs';

/** Texts that become scripts wherever one is taken for markup. */
export const HOSTILE = [
  '<img src=x onerror=ran()>', '<script>ran()</script>', '"><svg onload=ran()>', "javascript:ran()", '<a href="javascript:ran()">x</a>',
  '[x](javascript:ran())', '[x](JaVaScRiPt&#58;ran())', '![x](x"onerror="ran())', '<iframe srcdoc="<script>parent.ran()</script>"></iframe>', '`<b onclick=ran()>`',
  '```html\n<script>ran()</script>\n```', '</textarea><script>ran()</script>', '{{constructor.constructor("ran()")()}}', '| <img src=x onerror=ran()> |\n|---|\n| [a](data:text/html,<script>ran()</script>) |',
  '<https://x.example/" onmouseover="ran()>', '[a](vbscript:ran())', '<math><mtext></mtext><mglyph><style><img src onerror=ran()>', '\u202eevil\u0000',
];

/** Texts that take for ever where a pattern is tried from each of their characters to their end. */
export const ENDLESS = ['`', '*', '**', '` `` ', '_a ', '~~a ', '[a](', '- ', '|', '> ', '#', ' '].map((part) => `   ${part.repeat(6000 / part.length)}x`);

const KEY = 'sk-test';

export async function daemon({ models = 5, requests = 2, hostile = false, needsKey = false } = {}) {
  const name = (at) => (hostile ? `${HOSTILE[at % HOSTILE.length]} ${at}` : `org/model-${at}:Q4_K_M`);
  const states = ['ready', 'busy', 'parked', 'loading', 'failed', 'absent'];
  const now = Date.now();
  const catalog = Array.from({ length: models }, (_, at) => ({ name: name(at), capabilities: at % 7 === 6 ? ['embed'] : ['generate'], quantization: 'Q4_K_M', size_bytes: 1e9 + at * 1e7, context_tokens: 4096, predicted_bytes: 1.2e9, slots: 4 }));
  const row = (at) => ({
    name: name(at), key: `k${at}`, engine: 'x', capabilities: catalog[at].capabilities, state: states[at % 6], progress: at % 6 === 3 ? 0.4 : undefined, held_bytes: at % 6 < 3 ? 2e8 : 0, mapped_bytes: at % 6 < 3 ? 6e8 + at * 1e7 : 0,
    instances: 1, instances_max: 1, slots: 4, busy_slots: at % 6 === 1 ? 2 : 0, queued: 0, is_pinned: at === 0, needs: at === 0 && models > 8 ? [name(8)] : undefined, requests: at, hits: 0, loads: 1, load_ms_p50: 2300, load_failures: 0,
    device_bytes: at % 6 === 1 ? { gpu0: 2e9 } : undefined,
    idle_since_unix_ms: at % 6 === 0 ? now - 60_000 : null, expires_at_unix_ms: at % 6 === 0 ? now + 240_000 : null, retry_at_unix_ms: null, ready_since_unix_ms: now, failure: at % 6 === 4 ? (hostile ? HOSTILE[0] : 'the file is damaged') : undefined,
  });
  const phases = [{ phase: 'decode', usage: { completion_tokens: 42 }, first_token_ms: 210 }, { phase: 'prefill', computed_tokens: 300, prompt_tokens: 1200 }, { phase: 'queued', position: 3, estimate_ms: 4200 }, { phase: 'loading', fraction: 0.6 }];
  const state = {
    daemon: { version: '0.1.0', pid: 7, started_unix_ms: now - 3.6e6, listen: '127.0.0.1:7711', requests_in_flight: requests, first_token_ms_p50: 180 },
    pool: { requests: 900, hits: 800, hit_rate: 0.92, loads: 14, load_failures: 1, queued: 1, leases: 3, resident_bytes: 3.1e9, reserved_bytes: 9e8, budget_bytes: 8e9, soft_bytes: 6.8e9, load_ms_p50: 2100, devices: { gpu0: { resident_bytes: 2e9, reserved_bytes: 0, budget_bytes: 1.2e10, soft_bytes: 1e10 } } },
    workers: { running: 3, own_bytes: 6e8, started: 9, crashed: 0, hung: 0, overgrown: 0, denied_calls: 0, sandbox_mode: 'auto', sandbox: { parts: [['files', { reached: hostile ? HOSTILE[0] : 'landlock 7' }], ['calls', { absent: 'no seccomp' }]] } },
    disk: { artifact_bytes: 9e9, packed_bytes: 1e9, prepared_bytes: 0, prefix_bytes: 3e7, partial_bytes: 0, orphan_bytes: 0, trash_bytes: 0, tmp_bytes: 0, quarantine_bytes: 0, shared_bytes: 0, referenced_bytes: 0, used_bytes: 1e10, quota_bytes: 3e10, free_disk_bytes: 4e10 },
    models: Object.fromEntries(catalog.map((_, at) => [`k${at}`, row(at)])),
    requests: Object.fromEntries(Array.from({ length: requests }, (_, at) => [String(at), { client: hostile ? HOSTILE[2] : 'agent', model: name(at % models), work: 'generate', from: 'port', began_unix_ms: now - 9000, ...phases[at % 4] }])),
    downloads: { [hostile ? HOSTILE[1] : 'hf://org/new:Q4_K_M']: { state: 'fetching', progress: { fetching: { done_bytes: 4e8, total_bytes: 2e9, bytes_per_s: 2e7, files: 1 } } }, broken: { state: 'failed', failure: { message: hostile ? HOSTILE[0] : 'the source has no such model', hint: 'check the name' } } },
    decisions: Array.from({ length: 20 }, (_, at) => ({ number: at + 1, at_unix_ms: now - (20 - at) * 30_000, model: name(at % models), what: 'loaded', text: `loaded ${at + 1}.0 GB in 2.1 s: a request asked for it${hostile ? HOSTILE[at % HOSTILE.length] : ''}` })),
  };
  const listeners = new Set();
  const orders = [];
  let sequence = 0;
  /** What a chat is answered: a list of pieces, each a comment, a chunk, or a wait. */
  let script = ['Hello ', 'there.'];

  const frame = (event, data) => `id: 1-${(sequence += 1)}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  const chunk = (delta, more = {}) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: null }], ...more })}\n\n`;
  const answers = {
    'GET /admin/models': () => ({ models: catalog }), 'GET /admin/disk': () => state.disk,
    'GET /admin/usage': () => ({ since: null, rows: [{ client: hostile ? HOSTILE[0] : 'agent', requests: 9, prompt_tokens: 1000, cached_tokens: 500, answer_tokens: 300 }] }),
    'GET /admin/why': () => ({ model: name(0), decisions: state.decisions.map(({ at_unix_ms, ...decision }) => ({ ...decision, at_ms_ago: now - at_unix_ms })) }),
    'GET /v1/models': () => ({ data: catalog.map((model) => ({ id: model.name, capabilities: model.capabilities, samovar: model })) }), 'GET /api/ps': () => ({ models: [{ name: name(0) }] }),
    'POST /admin/unload': () => ({ instances: 1 }), 'POST /admin/pin': () => ({}), 'POST /admin/rm': () => ({ freed_bytes: 1e9 }), 'POST /admin/pull': () => ({ reference: 'hf://org/name' }), 'POST /admin/pull/cancel': () => ({ cancelled: 1 }),
    'POST /admin/gc': () => ({ is_dry_run: true, removed: [{ reference: name(1), bytes: 1e9, freed_bytes: 1e9, idle_ms: 9e8, why: {} }], leftovers: { partial: { count: 2, bytes: 4e8 }, tmp: { count: 0, bytes: 0 } }, freed_bytes: 1.4e9, used_bytes: 8e9, quota_bytes: 3e10, pinned: 1, in_use: 2 }),
    'POST /v1/embeddings': (body) => ({ data: body.input.map((_, at) => ({ index: at, embedding: [1, at, 0.5] })) }), 'POST /v1/rerank': (body) => ({ results: body.documents.map((_, index) => ({ index, relevance_score: 0.9 / (index + 1) })) }),
    'POST /apply-template': (body) => ({ prompt: JSON.stringify(body.messages) }),
  };

  const server = createServer(async (request, response) => {
    if (await serveFile(request, response)) return;
    const path = request.url.split('?')[0];
    let text = '';
    for await (const part of request) text += part;
    const body = text ? JSON.parse(text) : undefined;
    const json = (status, value) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (needsKey && request.headers.authorization !== `Bearer ${KEY}`) return json(401, { error: { message: 'the request has no key' } });
    if (request.method === 'POST') orders.push({ path, body });
    if (path === '/admin/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(frame('snapshot', state));
      listeners.add(response);
      return response.on('close', () => listeners.delete(response));
    }
    if (path === '/admin/warm' || path === '/admin/pack') {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      return response.end(`${JSON.stringify({ waiting: { loading: { fraction: 0.5, instance: 1, of: 1 } } })}\n${JSON.stringify({ done: { took_ms: 2100 } })}\n`);
    }
    if (path === '/v1/chat/completions' || path === '/v1/completions') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const piece of script) {
        if (response.destroyed) return undefined;
        if (piece === null) return undefined;
        if (piece.pause) await new Promise((resolve) => setTimeout(resolve, piece.pause));
        else if (piece.comment) response.write(`: ${piece.comment}\n\n`);
        else if (typeof piece === 'string') response.write(chunk({ content: piece }));
        else response.write(chunk(piece));
      }
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }], samovar: { cache: 'hit', timings: { first_token_ms: 120, decode_ms: 900, queue_ms: 4, load_ms: 0 } } })}\n\n`);
      response.write(`data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 12, completion_tokens: script.length, prompt_tokens_details: { cached_tokens: 4 } } })}\n\n`);
      return response.end('data: [DONE]\n\n');
    }
    const answer = answers[`${request.method} ${path}`];
    return answer ? json(200, answer(body)) : json(404, { error: { message: `there is no route ${path}` } });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  return {
    url: `http://127.0.0.1:${port}`, key: KEY, orders, name, state,
    listeners: () => listeners.size,
    say: (pieces) => { script = pieces; },
    /** From now on it has this model. */
    learn: (name) => { catalog.push({ ...catalog[0], name }); },
    tell: (delta) => { for (const one of listeners) one.write(frame('delta', delta)); },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
    resume: () => new Promise((resolve) => server.listen(port, '127.0.0.1', resolve)),
  };
}
