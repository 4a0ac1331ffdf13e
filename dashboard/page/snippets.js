// @ts-check
// The same request as programs write it: curl, Python, JavaScript, and Ollama's API.

/** @typedef {{kind: 'chat' | 'embeddings' | 'rerank', body: Record<string, any>}} Wish */

const PATHS = { chat: '/v1/chat/completions', embeddings: '/v1/embeddings', rerank: '/v1/rerank' };
/** @param {Wish['kind']} kind */
export const pathOf = (kind) => PATHS[kind];

/** @param {string} text for a shell, in single quotes */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @param {unknown} value @param {string} pad @returns {string} */
function python(value, pad = '') {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map((one) => python(one, pad)).join(', ')}]`;
  if (typeof value === 'object') return `{${Object.entries(/** @type {object} */ (value)).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, pad)}`).join(', ')}}`;
  return JSON.stringify(value);
}

/** @param {Wish} wish @param {string} origin @param {boolean} hasKey */
function curl({ kind, body }, origin, hasKey) {
  return [`curl ${origin}${PATHS[kind]} \\`, ...(hasKey ? ['  -H "authorization: Bearer $SAMOVAR_KEY" \\'] : []), "  -H 'content-type: application/json' \\", `  -d ${shell(JSON.stringify(body, null, 2))}`].join('\n');
}

/** @param {Wish} wish @param {string} origin @param {boolean} hasKey */
function asPython({ kind, body }, origin, hasKey) {
  const key = hasKey ? 'os.environ["SAMOVAR_KEY"]' : '"none"';
  const lines = Object.entries(body).map(([name, value]) => `    ${name}=${python(value)},`);
  if (kind === 'rerank') {
    return [`${hasKey ? 'import os\n' : ''}import requests\n`, `answer = requests.post(`, `    "${origin}${PATHS.rerank}",`, ...(hasKey ? [`    headers={"authorization": f"Bearer {${key}}"},`] : []), `    json=${python(body)},`, ')', 'for row in answer.json()["results"]:', '    print(row["index"], row["relevance_score"])'].join('\n');
  }
  const head = [`${hasKey ? 'import os\n' : ''}from openai import OpenAI\n`, `client = OpenAI(base_url="${origin}/v1", api_key=${key})`];
  if (kind === 'embeddings') return [...head, 'answer = client.embeddings.create(', ...lines, ')', 'print(len(answer.data), len(answer.data[0].embedding))'].join('\n');
  return [...head, 'stream = client.chat.completions.create(', ...lines, '    stream=True,', ')', 'for chunk in stream:', '    if chunk.choices:', '        print(chunk.choices[0].delta.content or "", end="", flush=True)'].join('\n');
}

/** @param {Wish} wish @param {string} origin @param {boolean} hasKey */
function javascript({ kind, body }, origin, hasKey) {
  const shown = JSON.stringify(body, null, 2).replaceAll('\n', '\n  ');
  const key = hasKey ? 'process.env.SAMOVAR_KEY' : "'none'";
  if (kind === 'chat') {
    return [`import OpenAI from 'openai';\n`, `const client = new OpenAI({ baseURL: '${origin}/v1', apiKey: ${key} });`, `const stream = await client.chat.completions.create({ stream: true, ...${JSON.stringify(body, null, 2)} });`, 'for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? \'\');'].join('\n');
  }
  return [`const answer = await fetch('${origin}${PATHS[kind]}', {`, "  method: 'POST',", `  headers: { 'content-type': 'application/json'${hasKey ? ', authorization: `Bearer ${process.env.SAMOVAR_KEY}`' : ''} },`, `  body: JSON.stringify(${shown}),`, '});', 'console.log(await answer.json());'].join('\n');
}

/** @param {Wish} wish @param {string} origin @param {boolean} hasKey */
function ollama({ kind, body }, origin, hasKey) {
  if (kind === 'rerank') return 'Ollama has no route for reranking.';
  const { model, messages, input, max_tokens, temperature, top_p, seed } = body;
  const options = Object.fromEntries(Object.entries({ num_predict: max_tokens, temperature, top_p, seed }).filter(([, value]) => value !== undefined));
  const asked = kind === 'chat' ? { model, messages, ...(Object.keys(options).length ? { options } : {}) } : { model, input };
  return [`curl ${origin}/api/${kind === 'chat' ? 'chat' : 'embed'} \\`, ...(hasKey ? ['  -H "authorization: Bearer $SAMOVAR_KEY" \\'] : []), "  -H 'content-type: application/json' \\", `  -d ${shell(JSON.stringify(asked, null, 2))}`, '', `# Ollama's own programs: OLLAMA_HOST=${origin} ollama run ${shell(String(model).replace(/\s/g, ' '))}`].join('\n');
}

export const LANGUAGES = { curl, Python: asPython, JavaScript: javascript, Ollama: ollama };
