// The parameters of the chat: what a person filled in, and the fields of a request that this makes.
import type { ComponentChildren } from "preact";

export interface Parameters {
  system: string;
  numbers: Record<string, string>; // by the request's field; empty: the daemon's default
  stop: string;
  probabilities: boolean;
  form: "text" | "json_object" | "json_schema" | "regex" | "choice";
  formText: Record<string, string>; // by form
  tools: string;
  toolChoice: "auto" | "required" | "none";
  keepSeconds: string;
  more: string;
}

const kExampleSchema = `{
  "type": "object",
  "properties": {
    "name": { "type": "string" },
    "age": { "type": "integer" }
  },
  "required": ["name", "age"],
  "additionalProperties": false
}`;
const kExampleTools = `[
  {
    "type": "function",
    "function": {
      "name": "get_weather",
      "description": "The weather at a place",
      "parameters": {
        "type": "object",
        "properties": { "city": { "type": "string" } },
        "required": ["city"],
        "additionalProperties": false
      }
    }
  }
]`;

export const kDefaults: Parameters = {
  system: "",
  numbers: { max_tokens: "512" },
  stop: "",
  probabilities: false,
  form: "text",
  formText: { json_schema: kExampleSchema, regex: "", choice: "" },
  tools: "",
  toolChoice: "auto",
  keepSeconds: "",
  more: "",
};

const kNumbers: [field: string, label: string, step: string, min?: string, max?: string][] = [
  ["temperature", "Temperature", "0.1", "0", "2"],
  ["top_p", "Top p", "0.05", "0", "1"],
  ["top_k", "Top k", "1", "0"],
  ["min_p", "Min p", "0.05", "0", "1"],
  ["max_tokens", "Most tokens", "1", "1"],
  ["seed", "Seed", "1"],
  ["presence_penalty", "Presence penalty", "0.1", "-2", "2"],
  ["frequency_penalty", "Frequency penalty", "0.1", "-2", "2"],
  ["repetition_penalty", "Repetition penalty", "0.05", "0"],
];
const kForms: [Parameters["form"], string][] = [
  ["text", "Free text"],
  ["json_object", "JSON object"],
  ["json_schema", "JSON schema"],
  ["regex", "Regular expression"],
  ["choice", "One of several lines"],
];

function parsed(text: string, what: string): any {
  try {
    return JSON.parse(text);
  } catch (fault) {
    throw new Error(`${what} is not JSON: ${(fault as Error).message}`);
  }
}

function formFields(parameters: Parameters): object {
  const text = parameters.formText[parameters.form] ?? "";
  switch (parameters.form) {
    case "text":
      return {};
    case "json_object":
      return { response_format: { type: "json_object" } };
    case "json_schema":
      return {
        response_format: {
          type: "json_schema",
          json_schema: { name: "answer", strict: true, schema: parsed(text, "The schema") },
        },
      };
    case "regex":
      return { structured_outputs: { regex: text } };
    case "choice":
      return { structured_outputs: { choice: text.split("\n").filter((line) => line !== "") } };
  }
}

// The request's fields beside its messages. Throws an Error that says what cannot be read.
export function fieldsOf(parameters: Parameters, session: string): object {
  const fields: Record<string, unknown> = { stream: true, stream_options: { include_usage: true } };
  for (const [field, value] of Object.entries(parameters.numbers)) {
    if (value.trim() !== "") fields[field] = Number(value);
  }
  const stop = parameters.stop.split("\n").filter((line) => line !== "");
  if (stop.length > 0) fields.stop = stop;
  if (parameters.probabilities) Object.assign(fields, { logprobs: true, top_logprobs: 5 });
  Object.assign(fields, formFields(parameters));
  if (parameters.tools.trim()) {
    fields.tools = parsed(parameters.tools, "The list of tools");
    fields.tool_choice = parameters.toolChoice;
  }
  const keep = Number(parameters.keepSeconds);
  if (keep > 0) {
    fields.session_id = session;
    fields.kv_hints = { action: "kv.retain", ttl_ms: Math.round(keep * 1000) };
  }
  if (parameters.more.trim()) Object.assign(fields, parsed(parameters.more, "More fields"));
  return fields;
}

function Field(props: { id: string; label: string; children: ComponentChildren; note?: string }) {
  return (
    <div class="field">
      <label for={props.id}>{props.label}</label>
      {props.children}
      {props.note && (
        <p class="note" id={`${props.id}-note`}>
          {props.note}
        </p>
      )}
    </div>
  );
}

function Text(props: {
  id: string;
  label: string;
  value: string;
  rows?: number;
  code?: boolean;
  placeholder?: string;
  note?: string;
  onChange: (value: string) => void;
}) {
  return (
    <Field id={props.id} label={props.label} note={props.note}>
      <textarea
        id={props.id}
        rows={props.rows ?? 2}
        class={props.code ? "code" : undefined}
        spellcheck={!props.code}
        placeholder={props.placeholder}
        value={props.value}
        aria-describedby={props.note ? `${props.id}-note` : undefined}
        onInput={(event) => props.onChange(event.currentTarget.value)}
      />
    </Field>
  );
}

export function ParameterPanel(props: { value: Parameters; onChange: (value: Parameters) => void }) {
  const { value } = props;
  const set = (change: Partial<Parameters>) => props.onChange({ ...value, ...change });
  const textOfForm = (form: Parameters["form"]) => (text: string) =>
    set({ formText: { ...value.formText, [form]: text } });
  return (
    <details class="parameters" open={matchMedia("(min-width: 60rem)").matches}>
      <summary>Parameters</summary>
      <Text id="system" label="System message" value={value.system} onChange={(system) => set({ system })} />
      <div class="numbers">
        {kNumbers.map(([field, label, step, min, max]) => (
          <Field key={field} id={field} label={label}>
            <input
              id={field}
              type="number"
              inputMode="decimal"
              step={step}
              min={min}
              max={max}
              placeholder="default"
              value={value.numbers[field] ?? ""}
              onInput={(event) =>
                set({ numbers: { ...value.numbers, [field]: event.currentTarget.value } })
              }
            />
          </Field>
        ))}
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={value.probabilities}
          onChange={(event) => set({ probabilities: event.currentTarget.checked })}
        />{" "}
        Token probabilities
      </label>
      <Field id="form" label="Form of the answer">
        <select
          id="form"
          value={value.form}
          onChange={(event) => set({ form: event.currentTarget.value as Parameters["form"] })}
        >
          {kForms.map(([form, label]) => (
            <option key={form} value={form}>
              {label}
            </option>
          ))}
        </select>
      </Field>
      {value.form === "json_schema" && (
        <Text id="schema" label="Schema" rows={9} code value={value.formText.json_schema ?? ""} onChange={textOfForm("json_schema")} />
      )}
      {value.form === "regex" && (
        <Text id="regex" label="Expression" rows={1} code value={value.formText.regex ?? ""} onChange={textOfForm("regex")} />
      )}
      {value.form === "choice" && (
        <Text id="choice" label="Answers, one a line" rows={3} value={value.formText.choice ?? ""} onChange={textOfForm("choice")} />
      )}
      <Text id="tools" label="Tools (JSON)" rows={value.tools ? 9 : 2} code value={value.tools} onChange={(tools) => set({ tools })} />
      {value.tools === "" ? (
        <button type="button" class="quiet" onClick={() => set({ tools: kExampleTools })}>
          Fill in an example
        </button>
      ) : (
        <Field id="tool-choice" label="Use of tools">
          <select
            id="tool-choice"
            value={value.toolChoice}
            onChange={(event) =>
              set({ toolChoice: event.currentTarget.value as Parameters["toolChoice"] })
            }
          >
            <option value="auto">as the model likes</option>
            <option value="required">at least one call</option>
            <option value="none">no call</option>
          </select>
        </Field>
      )}
      <Text id="stop" label="Stop strings, one a line" value={value.stop} onChange={(stop) => set({ stop })} />
      <Field id="keep" label="Keep KV after the answer, seconds" note="A pin, as the live view shows it.">
        <input
          id="keep"
          type="number"
          min="0"
          max="3600"
          placeholder="not kept"
          value={value.keepSeconds}
          aria-describedby="keep-note"
          onInput={(event) => set({ keepSeconds: event.currentTarget.value })}
        />
      </Field>
      <Text
        id="more"
        label="More fields of the request (JSON)"
        code
        placeholder='{"priority": 0}'
        value={value.more}
        onChange={(more) => set({ more })}
      />
      <button type="button" class="quiet" onClick={() => props.onChange(kDefaults)}>
        Back to defaults
      </button>
    </details>
  );
}
