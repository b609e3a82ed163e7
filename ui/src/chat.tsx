import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { added, newAnswer, wireMessages, type Answer, type Message } from "./answer";
import { ApiError, postEvents } from "./api";
import { fieldsOf, kDefaults, ParameterPanel } from "./parameters";
import { Tokens } from "./tokens";

const newSession = (): string =>
  `page-${Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("")}`;

export function Chat() {
  const [messages, setMessages] = useState<Message[]>([]);
  const [parameters, setParameters] = useState(kDefaults);
  const [draft, setDraft] = useState("");
  const session = useRef(newSession());
  const [fault, setFault] = useState("");
  const [status, setStatus] = useState("");
  const running = useRef<AbortController | null>(null);
  const log = useRef<HTMLDivElement>(null);
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape") running.current?.abort();
    };
    addEventListener("keydown", onKey);
    return () => {
      removeEventListener("keydown", onKey);
      running.current?.abort();
    };
  }, []);

  // Follows the answer, unless the reader has scrolled up.
  useEffect(() => {
    const box = log.current;
    if (box && box.scrollHeight - box.scrollTop - box.clientHeight < 160) {
      box.scrollTop = box.scrollHeight;
    }
  }, [messages]);

  // False: a parameter cannot be read, which is said; nothing has changed.
  function answer(history: Message[]): boolean {
    let fields: object;
    try {
      fields = fieldsOf(parameters, session.current);
    } catch (thrown) {
      setFault((thrown as Error).message);
      return false;
    }
    setFault("");
    void stream(history, { messages: wireMessages(parameters.system, history), ...fields });
    return true;
  }

  async function stream(history: Message[], body: object): Promise<void> {
    const controller = new AbortController();
    running.current = controller;
    setBusy(true);
    setStatus("The model is answering.");
    let current = newAnswer(performance.now());
    let due = false;
    const draw = () => {
      due = false;
      setMessages([...history, current]);
    };
    draw();
    try {
      for await (const event of postEvents("v1/chat/completions", body, controller.signal)) {
        current = added(current, event, performance.now());
        if (!due) {
          due = true;
          requestAnimationFrame(() => due && draw());
        }
      }
      current = { ...current, state: "done" };
      setStatus("The answer is complete.");
    } catch (thrown) {
      if (controller.signal.aborted) {
        current = { ...current, state: "stopped" };
        setStatus("Stopped.");
      } else {
        const error = thrown as ApiError;
        current = { ...current, state: "failed", fault: error.message };
        setStatus("");
      }
    }
    draw();
    running.current = null;
    setBusy(false);
  }

  function send(): void {
    if (busy || !draft.trim()) return;
    if (answer([...messages, { role: "user", text: draft }])) setDraft("");
  }

  function again(): void {
    const last = messages.map((message) => message.role).lastIndexOf("assistant");
    if (last >= 0) answer(messages.slice(0, last));
  }

  const lastMessage = messages.at(-1);
  const openCalls =
    lastMessage?.role === "assistant" && lastMessage.state === "done" ? lastMessage.calls : [];
  return (
    <div class="chat">
      <section class="talk" aria-label="Conversation">
        {/* Read out when the answer is whole: word by word nobody could follow it. */}
        <div class="log" ref={log} role="log" aria-live="polite" aria-busy={busy} aria-label="Messages" tabIndex={0}>
          {messages.length === 0 && (
            <p class="note">
              Nothing has been said yet. This page stores nothing of what is said; the daemon keeps its KV in its cache
              for the turns that follow, until others need the room.
            </p>
          )}
          {messages.map((message, index) => (
            <MessageView key={index} message={message} />
          ))}
        </div>
        {openCalls.length > 0 && (
          <ToolResults
            key={messages.length}
            calls={openCalls}
            onSend={(results) =>
              answer([
                ...messages,
                ...openCalls.map(
                  (call, index): Message => ({
                    role: "tool",
                    id: call.id,
                    name: call.name,
                    text: results[index] ?? "",
                  }),
                ),
              ])
            }
          />
        )}
        {fault && (
          <p class="fault" role="alert">
            {fault}
          </p>
        )}
        <form
          class="compose"
          onSubmit={(event) => {
            event.preventDefault();
            send();
          }}
        >
          <label for="draft">Message</label>
          <textarea
            id="draft"
            rows={3}
            value={draft}
            aria-describedby="keys"
            onInput={(event) => setDraft(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
                event.preventDefault();
                send();
              }
            }}
          />
          <div class="actions">
            <button type="submit" class="main" disabled={busy || !draft.trim()}>
              Send
            </button>
            <button type="button" disabled={!busy} onClick={() => running.current?.abort()}>
              Stop
            </button>
            <button type="button" class="quiet" disabled={busy || messages.length === 0} onClick={again}>
              Again
            </button>
            <button
              type="button"
              class="quiet"
              disabled={busy || messages.length === 0}
              onClick={() => {
                session.current = newSession();
                setMessages([]);
              }}
            >
              New conversation
            </button>
            <span id="keys" class="note">
              <kbd>Ctrl</kbd>+<kbd>Enter</kbd> sends, <kbd>Esc</kbd> stops
            </span>
          </div>
          <p class="visually-hidden" role="status">
            {status}
          </p>
        </form>
      </section>
      <ParameterPanel value={parameters} onChange={setParameters} />
    </div>
  );
}

const kNames = { user: "You", assistant: "Model", tool: "Tool" };

// Drawn anew only when it has changed: while an answer streams, the others stay.
function MessageView(props: { message: Message }) {
  const { message } = props;
  return useMemo(
    () => (
      <article class={`message ${message.role}`} aria-label={kNames[message.role]}>
        <h2>{message.role === "tool" ? `Result of ${message.name}` : kNames[message.role]}</h2>
        {message.role === "assistant" ? (
          <AnswerView answer={message} />
        ) : (
          <p class="text">{message.text}</p>
        )}
      </article>
    ),
    [message],
  );
}

// As the model wrote it, in lines where nothing but space differs: parsing would round large numbers
// and drop what has a name twice. Null: it is no JSON.
function asJson(text: string): string | null {
  if (!/^\s*[{[]/.test(text)) return null;
  try {
    const parsed = JSON.parse(text);
    const dense = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
    return JSON.stringify(parsed) === dense ? JSON.stringify(parsed, null, 2) : text;
  } catch {
    return null;
  }
}

function AnswerView(props: { answer: Answer }) {
  const { answer } = props;
  const over = answer.state === "done";
  const json = over ? asJson(answer.text) : null;
  const plain = answer.tokens.map((token) => token.token).join("") === answer.text;
  return (
    <>
      {answer.reasoning && (
        <details class="reasoning" open={!answer.text}>
          <summary>Reasoning</summary>
          <p class="text">{answer.reasoning}</p>
        </details>
      )}
      {json !== null ? (
        <pre class="json" tabIndex={0} role="region" aria-label="Answer as JSON">
          {json}
        </pre>
      ) : (
        (answer.tokens.length === 0 || !plain) && answer.text && <p class="text">{answer.text}</p>
      )}
      {answer.calls.map((call) => (
        <div class="call" key={call.id}>
          <h3>
            Calls <code>{call.name}</code>
          </h3>
          <pre>{asJson(call.arguments) ?? call.arguments}</pre>
        </div>
      ))}
      {answer.tokens.length > 0 && <Tokens tokens={answer.tokens} />}
      {answer.state === "waiting" && <p class="note">…</p>}
      {answer.state === "failed" && (
        <p class="fault" role="alert">
          {answer.fault}
        </p>
      )}
      <Facts answer={answer} />
    </>
  );
}

const kFinish: Record<string, string> = {
  stop: "",
  tool_calls: "",
  length: "cut at the most tokens",
  content_filter: "filtered",
};

function Facts(props: { answer: Answer }) {
  const { answer } = props;
  if (answer.state === "waiting" || answer.state === "streaming") return null;
  const facts: string[] = [];
  if (answer.state === "stopped") facts.push("stopped");
  if (kFinish[answer.finish]) facts.push(kFinish[answer.finish]!);
  if (answer.first) facts.push(`first token after ${Math.round(answer.first - answer.started)} ms`);
  const usage = answer.usage;
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    facts.push(`${usage.prompt_tokens} prompt tokens, ${cached} of them cached`);
    facts.push(`${usage.completion_tokens} tokens`);
    const seconds = (answer.last - answer.first) / 1000;
    if (usage.completion_tokens > 1 && seconds > 0) {
      facts.push(`${((usage.completion_tokens - 1) / seconds).toFixed(0)} tokens/s`);
    }
    if (usage.holdfast) {
      facts.push(
        usage.holdfast.pinned
          ? `KV kept for ${Math.round((usage.holdfast.pin_expires_in_ms ?? 0) / 1000)} s`
          : "KV not kept",
      );
    }
  }
  return <p class="facts">{facts.join(" · ")}</p>;
}

function ToolResults(props: { calls: { name: string }[]; onSend: (results: string[]) => void }) {
  const [results, setResults] = useState(props.calls.map(() => ""));
  return (
    <form
      class="results"
      onSubmit={(event) => {
        event.preventDefault();
        props.onSend(results);
      }}
    >
      {props.calls.map((call, index) => (
        <div class="field" key={index}>
          <label for={`result-${index}`}>Result of {call.name}</label>
          <textarea
            id={`result-${index}`}
            class="code"
            rows={2}
            value={results[index]}
            onInput={(event) => setResults(results.with(index, event.currentTarget.value))}
          />
        </div>
      ))}
      <button type="submit">Send {props.calls.length > 1 ? "results" : "the result"}</button>
    </form>
  );
}
