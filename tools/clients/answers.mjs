// What programs do with JSON by schema and with tools, by OpenAI's own client for Node.js and zod. Each check that fails ends
// the program.
//
//     node answers.mjs http://127.0.0.1:7266 MODEL

import assert from "node:assert/strict";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Describe a person who lives in Rome." }];
const usual = { model, messages, temperature: 0, max_tokens: 400 };

const City = z.enum(["Rome", "Paris", "Oslo"]);
const Person = z.object({
  name: z.string().max(12),
  age: z.int().min(0).max(120),
  isTall: z.boolean(),
  home: z.object({ city: City, number: z.int().min(1).max(99) }).nullable(),
  colours: z.array(z.enum(["red", "blue"])).max(3),
});
const form = zodResponseFormat(Person, "person");

const parsed = (await client.chat.completions.parse({ ...usual, response_format: form })).choices[0];
assert.equal(parsed.finish_reason, "stop");
Person.parse(parsed.message.parsed);

const stream = client.chat.completions.stream({ ...usual, response_format: form });
const pieces = [];
stream.on("content.delta", ({ delta }) => pieces.push(delta));
const final = (await stream.finalChatCompletion()).choices[0].message;
Person.parse(final.parsed);
assert.equal(pieces.join(""), final.content, "nothing is taken back");

const Weather = z.object({ city: City, days: z.int().min(1).max(7) });
const tools = [
  zodFunction({ name: "weather", description: "The weather of a city.", parameters: Weather }),
  zodFunction({ name: "clock", description: "The time of a city.", parameters: z.object({ city: City }) }),
];
const named = { type: "function", function: { name: "weather" } };
for (const tool_choice of ["required", named]) {
  const { message } = (await client.chat.completions.parse({ ...usual, tools, tool_choice })).choices[0];
  assert.ok(message.tool_calls.length > 0);
  for (const call of message.tool_calls) {
    City.parse(call.function.parsed_arguments.city);
    assert.ok(tool_choice === "required" || call.function.name === "weather");
  }
}

// The client calls the tool itself and ends there, because one tool was named.
for (const isStreamed of [false, true]) {
  const asked = [];
  const weather = zodFunction({
    name: "weather",
    description: "The weather of a city.",
    parameters: Weather,
    function: ({ city, days }) => {
      asked.push({ city, days });
      return `It is dry in ${city} for ${days} days.`;
    },
  });
  const runner = client.chat.completions.runTools({
    ...usual,
    tools: [weather],
    tool_choice: named,
    ...(isStreamed ? { stream: true } : {}),
  });
  await runner.done();
  assert.equal(asked.length, 1);
  Weather.parse(asked[0]);
  const result = await runner.finalFunctionToolCallResult();
  assert.ok(result.startsWith("It is dry in "), result);
}

for (const wrong of [
  { tools, tool_choice: { type: "function", function: { name: "nobody" } } },
  { response_format: { type: "json_schema", json_schema: { name: "a", schema: { type: "colour" } } } },
]) {
  await assert.rejects(client.chat.completions.create({ ...usual, ...wrong }), OpenAI.BadRequestError);
}
console.log("openai for Node.js: schemas and tools are as they should be");
