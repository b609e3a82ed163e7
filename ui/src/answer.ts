// One conversation as the page has it, and how the events of a stream add up to an answer.

export interface TokenChoice {
  token: string;
  logprob: number;
}
export interface Token extends TokenChoice {
  top: TokenChoice[];
}
export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}
export interface Answer {
  role: "assistant";
  text: string;
  reasoning: string;
  calls: ToolCall[];
  tokens: Token[];
  state: "waiting" | "streaming" | "done" | "stopped" | "failed";
  finish: string;
  fault: string;
  started: number; // performance.now(), likewise below
  first: number; // 0: nothing has come yet
  last: number;
  usage: Usage | null;
}
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
  holdfast?: { pinned: boolean; pin_expires_in_ms?: number };
}
export type Message =
  | { role: "user"; text: string }
  | { role: "tool"; id: string; name: string; text: string }
  | Answer;

export const newAnswer = (now: number): Answer => ({
  role: "assistant",
  text: "",
  reasoning: "",
  calls: [],
  tokens: [],
  state: "waiting",
  finish: "",
  fault: "",
  started: now,
  first: 0,
  last: 0,
  usage: null,
});

// `answer` with what `event`, a chunk of a streamed chat completion, adds to it.
export function added(answer: Answer, event: any, now: number): Answer {
  const next: Answer = { ...answer, usage: event.usage ?? answer.usage };
  const choice = event.choices?.find((one: any) => one.index === 0); // of several the first alone
  if (!choice) return next;
  const delta = choice.delta ?? {};
  if (delta.content || delta.reasoning_content || delta.tool_calls || choice.logprobs?.content?.length) {
    next.state = "streaming";
    next.first ||= now;
    next.last = now;
  }
  next.text += delta.content ?? "";
  next.reasoning += delta.reasoning_content ?? "";
  if (delta.tool_calls) next.calls = withCalls(answer.calls, delta.tool_calls);
  if (choice.logprobs?.content) {
    next.tokens = answer.tokens.concat(
      choice.logprobs.content.map((one: any) => ({
        token: one.token,
        logprob: one.logprob,
        top: one.top_logprobs ?? [],
      })),
    );
  }
  if (choice.finish_reason) next.finish = choice.finish_reason;
  return next;
}

function withCalls(calls: ToolCall[], deltas: any[]): ToolCall[] {
  const next = calls.slice();
  for (const delta of deltas) {
    const before = next[delta.index] ?? { id: "", name: "", arguments: "" };
    next[delta.index] = {
      id: before.id || (delta.id ?? ""),
      name: before.name + (delta.function?.name ?? ""),
      arguments: before.arguments + (delta.function?.arguments ?? ""),
    };
  }
  return next;
}

// What the daemon is told of the conversation. Left out is an answer that failed before it began, and
// the calls of one that did not end: they may be cut.
export function wireMessages(system: string, messages: Message[]): object[] {
  const wire: object[] = system.trim() ? [{ role: "system", content: system }] : [];
  for (const message of messages) {
    if (message.role === "user") wire.push({ role: "user", content: message.text });
    if (message.role === "tool") {
      wire.push({ role: "tool", tool_call_id: message.id, content: message.text });
    }
    if (message.role !== "assistant") continue;
    const calls = message.state === "done" ? message.calls : [];
    if (!message.text && calls.length === 0) continue;
    wire.push({
      role: "assistant",
      content: message.text,
      ...(calls.length > 0 && {
        tool_calls: calls.map((call) => ({
          id: call.id,
          type: "function",
          function: { name: call.name, arguments: call.arguments },
        })),
      }),
    });
  }
  return wire;
}
