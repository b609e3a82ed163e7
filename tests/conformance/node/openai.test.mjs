// What the OpenAI SDK for Node sends and expects, against a running daemon at BASE_URL.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const hello = [{ role: "user", content: "Say hello." }];

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city",
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string", maxLength: 20 } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const named = { type: "function", function: { name: "get_weather" } };

test("a chat is answered with its usage", async () => {
  const answer = await client.chat.completions.create({ model, messages: hello, max_tokens: 8 });
  assert.equal(answer.object, "chat.completion");
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("a stream says what the answer at once says", async () => {
  const request = { model, messages: hello, max_tokens: 16, temperature: 0, seed: 1 };
  const whole = await client.chat.completions.create(request);
  const stream = await client.chat.completions.create({
    ...request, stream: true, stream_options: { include_usage: true } });
  let text = "", usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage.completion_tokens, whole.usage.completion_tokens);
});

test("the helper for streams gathers the message", async () => {
  const runner = client.chat.completions.stream({ model, messages: hello, max_tokens: 12 });
  let pieces = "";
  runner.on("content", (piece) => (pieces += piece));
  const final = await runner.finalChatCompletion();
  assert.equal(pieces, final.choices[0].message.content);
});

test("a text becomes an embedding", async () => {
  const input = ["one text", "another"];
  const whole = await client.embeddings.create({ model, input });  // base64 on the wire
  const listed = await client.embeddings.create({ model, input, encoding_format: "float" });
  assert.equal(whole.data.length, 2);
  for (const [i, item] of whole.data.entries()) {
    assert.deepEqual(item.embedding.map(Math.fround), listed.data[i].embedding.map(Math.fround));
  }
});

test("several choices come with their own index", async () => {
  const answer = await client.chat.completions.create({ model, messages: hello, max_tokens: 4, n: 3 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
});

test("log probabilities have the asked alternatives", async () => {
  const answer = await client.chat.completions.create({
    model, messages: hello, max_tokens: 3, logprobs: true, top_logprobs: 2 });
  for (const token of answer.choices[0].logprobs.content) {
    assert.equal(token.top_logprobs.length, 2);
  }
});

test("completions take several prompts", async () => {
  const answer = await client.completions.create({ model, prompt: ["One,", "Two,"], max_tokens: 3 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
});

test("a zod schema is parsed", async () => {
  const Person = z.object({ name: z.string().max(12), age: z.number().int().min(0).max(120) });
  const answer = await client.chat.completions.parse({
    model, messages: [{ role: "user", content: "Invent a person." }], max_tokens: 120,
    response_format: zodResponseFormat(Person, "person") });
  const person = answer.choices[0].message.parsed;
  assert.equal(typeof person.name, "string");
  assert.ok(Number.isInteger(person.age));
});

test("a call of a tool comes whole, and streamed alike", async () => {
  const request = {
    model, tools: [weather], tool_choice: named, max_tokens: 80, temperature: 0, seed: 3,
    messages: [{ role: "user", content: "What is the weather in Paris?" }] };
  const whole = await client.chat.completions.create(request);
  const [call] = whole.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
  const stream = client.chat.completions.stream(request);
  const streamed = await stream.finalChatCompletion();
  assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
});

test("the helper that runs tools runs one", async () => {
  let asked = null;
  const runner = client.chat.completions.runTools({
    model, tool_choice: named, max_tokens: 80,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    tools: [{ type: "function", function: {
      ...weather.function, parse: JSON.parse, function: ({ city }) => { asked = city; return "sunny"; } } }] });
  await runner.done();
  assert.equal(typeof asked, "string");
  assert.ok(runner.messages.some((message) => message.role === "tool" && message.content === "sunny"));
});

test("a wrong parameter is an error that names it", async () => {
  await assert.rejects(
    client.chat.completions.create({ model, messages: hello, temperature: 9 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
});

test("an unknown model is not found", async () => {
  await assert.rejects(client.chat.completions.create({ model: "none", messages: hello }),
                       OpenAI.NotFoundError);
});

test("a stream that is left ends, and others go on", async () => {
  const stream = await client.chat.completions.create({
    model, messages: hello, max_tokens: 2000, stream: true, ignore_eos: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;  // which aborts the request
  }
  const answer = await client.chat.completions.create({ model, messages: hello, max_tokens: 2 });
  assert.ok(answer.id);
});

test("a file is batched, and its answers read", async () => {
  const lines = [0, 1, 2].map((i) => JSON.stringify({
    custom_id: `q${i}`, method: "POST", url: "/v1/chat/completions",
    body: { messages: hello, max_tokens: 3 } }));
  const file = await client.files.create({
    file: await toFile(Buffer.from(lines.join("\n")), "in.jsonl"), purpose: "batch" });
  let batch = await client.batches.create({
    input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
  for (let i = 0; i < 600 && batch.status !== "completed"; ++i) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await client.batches.retrieve(batch.id);
  }
  assert.deepEqual(batch.request_counts, { total: 3, completed: 3, failed: 0 });
  const answers = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n");
  assert.deepEqual(answers.map((line) => JSON.parse(line).custom_id), ["q0", "q1", "q2"]);
});
