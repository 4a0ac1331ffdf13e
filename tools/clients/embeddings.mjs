// What programs do with embeddings, by OpenAI's own client for Node.js. Each check that fails ends the program.
//
//     node embeddings.mjs http://127.0.0.1:7266 reference.json
//
// The reference is what tools/minilm_gguf.py wrote: texts with their token ids and vectors.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import OpenAI from "openai";

const MODEL = "text-embedding-3-small";
const [url, reference] = process.argv.slice(2);
const known = JSON.parse(readFileSync(reference, "utf8")).texts;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

const dot = (a, b) => a.reduce((sum, x, at) => sum + x * b[at], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

// The client asks for base64 and reads it, unless it is told otherwise.
const whole = (await client.embeddings.create({ model: MODEL, input: known[0].text })).data[0].embedding;
assert.equal(whole.length, known[0].vector.length);
assert.ok(cosine(whole, known[0].vector) > 0.9999);
for (const encoding_format of ["float", "base64"]) {
  const answer = await client.embeddings.create({ model: MODEL, input: known[0].text, encoding_format });
  let { embedding } = answer.data[0];
  if (encoding_format === "base64") {
    assert.equal(typeof embedding, "string");
    const bytes = Buffer.from(embedding, "base64");
    embedding = Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readFloatLE(at * 4));
  }
  assert.ok(cosine(embedding, whole) > 0.9999, encoding_format);
}

const many = await client.embeddings.create({ model: MODEL, input: known.map(({ text }) => text) });
many.data.forEach((row, at) => {
  assert.equal(row.index, at);
  assert.ok(cosine(row.embedding, known[at].vector) > 0.9999);
});
for (const input of [known[0].ids, [known[0].ids]]) {
  const byIds = await client.embeddings.create({ model: MODEL, input });
  assert.ok(cosine(byIds.data[0].embedding, whole) > 0.9999);
}
const short = (await client.embeddings.create({ model: MODEL, input: known[0].text, dimensions: 8 })).data[0];
assert.equal(short.embedding.length, 8);

for (const wrong of [{ input: "" }, { input: [] }, { input: "fox ".repeat(4000) }, { input: "a", dimensions: 0 }]) {
  await assert.rejects(client.embeddings.create({ model: MODEL, ...wrong }), OpenAI.BadRequestError);
}
await assert.rejects(client.embeddings.create({ model: "nobody", input: "a" }), OpenAI.NotFoundError);
console.log("openai for Node.js: all is as it should be");
