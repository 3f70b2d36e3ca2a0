// Every kind of call of the OpenAI library, with the names of OpenAI's models.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.SKYTELLS_BASE_URL,
  apiKey: process.env.SKYTELLS_API_KEY,
  maxRetries: 0,
  timeout: 120_000,
});
const model = "gpt-4o-mini";
const colors = { model, messages: [{ role: "user", content: "Name three colors." }], max_tokens: 20, temperature: 0 };
const fruit = { model, input: "Name a fruit.", max_output_tokens: 20, temperature: 0 };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = { name: "get_weather", description: "Get the current weather of a city", parameters };

test("chat, streamed and whole", async () => {
  const whole = await client.chat.completions.create(colors);
  const text = whole.choices[0].message.content;
  let streamed = "";
  let usage;
  for await (const chunk of await client.chat.completions.create({
    ...colors,
    stream: true,
    stream_options: { include_usage: true },
  })) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.ok(text.trim());
  assert.equal(streamed, text);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  assert.match(whole.model, /^local-/);
});

test("the stream's helper has the whole completion", async () => {
  const final = await client.chat.completions.stream(colors).finalChatCompletion();
  assert.ok(final.choices[0].message.content.trim());
});

test("parse", async () => {
  const properties = { sentiment: { type: "string" }, stars: { type: "integer" } };
  const schema = { type: "object", properties, required: ["sentiment", "stars"], additionalProperties: false };
  const answer = await client.chat.completions.parse({
    model,
    messages: [{ role: "user", content: "Review: I loved every minute of it. Five stars." }],
    response_format: { type: "json_schema", json_schema: { name: "review", strict: true, schema } },
  });
  assert.ok(Number.isInteger(answer.choices[0].message.parsed.stars));
});

test("tools, called and run", async () => {
  const messages = [{ role: "user", content: "What is the weather like in Oslo today?" }];
  const tools = [{ type: "function", function: weather }];
  const answer = await client.chat.completions.create({ model, messages, tools, tool_choice: "required" });
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["city"]);
  const cities = [];
  const run = (given) => {
    cities.push(given.city);
    return "4 degrees, rain";
  };
  const runner = client.chat.completions.runTools({
    model,
    messages,
    max_tokens: 30,
    tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: run } }],
  });
  assert.ok((await runner.finalContent()).trim());
  assert.equal(cities.length, 1);
});

test("responses, streamed and whole", async () => {
  const whole = await client.responses.create(fruit);
  let streamed = "";
  for await (const event of await client.responses.create({ ...fruit, stream: true })) {
    if (event.type === "response.output_text.delta") streamed += event.delta;
  }
  assert.ok(whole.output_text.trim());
  assert.equal(streamed, whole.output_text);
  const final = await client.responses.stream(fruit).finalResponse();
  assert.equal(final.output_text, whole.output_text);
});

test("responses call tools", async () => {
  const answer = await client.responses.create({
    model,
    input: "Weather in Oslo?",
    tools: [{ type: "function", strict: false, ...weather }],
    tool_choice: "required",
  });
  assert.deepEqual(
    answer.output.filter((item) => item.type === "function_call").map((item) => item.name),
    ["get_weather"],
  );
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: ["a cat", "a dog"] });
  assert.deepEqual(
    answer.data.map((item) => item.embedding.length),
    [512, 512],
  );
});

test("models are listed and found", async () => {
  const ids = [];
  for await (const found of client.models.list()) ids.push(found.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
});
