// What programs do by Ollama's own client for Node.js: every method that has a part here, streamed and whole. Each check that fails ends
// the program.
//
//     node ollama_client.mjs http://127.0.0.1:7266 SOCKET MODEL EMBEDDER

import assert from "node:assert/strict";
import http from "node:http";
import { Readable } from "node:stream";

import { Ollama } from "ollama";

const [url, socketPath, model, embedder] = process.argv.slice(2);

// The same as `fetch`, by the owner's socket.
const overSocket = (address, options = {}) =>
  new Promise((resolve, reject) => {
    const { pathname, search } = new URL(address);
    const { method = "GET", headers, body } = options;
    const order = http.request({ socketPath, path: pathname + search, method, headers }, (answer) => {
      resolve(new Response(Readable.toWeb(answer), { status: answer.statusCode, headers: answer.headers }));
    });
    order.on("error", reject);
    // Node.js sends the body of a DELETE only with its length.
    if (body) order.setHeader("content-length", Buffer.byteLength(body));
    order.end(body);
  });

const client = new Ollama({ host: url });
const owner = new Ollama({ host: "http://localhost", fetch: overSocket });
const options = { temperature: 0, num_predict: 12 };
const messages = [{ role: "user", content: "Say hello." }];

const collected = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
};
const refuses = (call, part) => assert.rejects(call, (error) => error.message.includes(part));

// The built-in model, whose likeliest words do not turn on how much of a prompt was computed before.
const steady = "demo";
const whole = await client.generate({ model: steady, prompt: "Once upon a time", options });
const pieces = await collected(await client.generate({ model: steady, prompt: "Once upon a time", options, stream: true }));
assert.equal(pieces.map((part) => part.response).join(""), whole.response);
assert.deepEqual(pieces.at(-1).context, whole.context);
const more = await client.generate({ model: steady, prompt: "And then?", context: whole.context, options });
assert.ok(more.prompt_eval_count > whole.prompt_eval_count);

const said = await client.chat({ model: steady, messages, options });
const turns = await collected(await client.chat({ model: steady, messages, options, stream: true }));
assert.equal(turns.map((part) => part.message.content).join(""), said.message.content);
assert.ok(turns.at(-1).done && turns.at(-1).eval_count <= 12);
const format = { type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] };
const form = await client.chat({ model, messages, format, options: { temperature: 0 } });
assert.ok(["Rome", "Oslo"].includes(JSON.parse(form.message.content).city));

// A reader that leaves early ends the answer.
const endless = await client.chat({ model, messages, options: { num_predict: 500 }, stream: true });
await assert.rejects(async () => {
  for await (const part of endless) {
    assert.ok(!part.done);
    endless.abort();
  }
});

const { embeddings } = await client.embed({ model: embedder, input: ["a kettle", "a teapot"] });
assert.ok(embeddings.length === 2 && Math.abs(Math.hypot(...embeddings[0]) - 1) < 1e-4);
const { embedding } = await client.embeddings({ model: embedder, prompt: "a kettle" });
assert.equal(embedding.length, embeddings[0].length);

assert.ok((await client.list()).models.some((row) => row.model === `${model}:latest`));
assert.ok((await client.ps()).models.length > 0);
assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
assert.ok((await client.show({ model })).capabilities.includes("completion"));
assert.equal((await client.pull({ model })).status, "success");
assert.equal((await collected(await owner.pull({ model, stream: true }))).at(-1).status, "success");

await refuses(client.create({ model: "writer", from: model }), "the owner can");
await refuses(owner.push({ model }), "not published");
await refuses(client.generate({ model: "absent:1b", prompt: "Hi" }), "not found");
const order = { model: "writer", from: model, system: "Answer in rhymes.", parameters: { num_predict: 5 } };
assert.equal((await owner.create(order)).status, "success");
assert.equal((await collected(await owner.create({ ...order, stream: true }))).at(-1).status, "success");
assert.ok((await client.chat({ model: "writer", messages })).eval_count <= 5);
assert.equal((await owner.copy({ source: "writer", destination: "again" })).status, "success");
for (const name of ["writer", "again"]) {
  assert.equal((await owner.delete({ model: name })).status, "success");
  await refuses(client.show({ model: name }), "not found");
}
console.log("ollama for Node.js: every method is as it should be");
