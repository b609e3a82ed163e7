// What each tenant has used: by the ledger, over restarts, and since the daemon began, of /metrics.
import { useState } from "preact/hooks";
import { getJson, getText, type Place } from "./api";
import { count, percent } from "./format";
import { parseMetrics, type Sample } from "./metrics";
import { Fault, withoutMetrics } from "./notice";
import { isRefusal, usePolling } from "./polling";
import { Table } from "./table";

const kNames = new Set([
  "holdfast_server_requests_total",
  "holdfast_server_prompt_tokens_total",
  "holdfast_server_cached_tokens_total",
  "holdfast_server_completion_tokens_total",
  "holdfast_scheduler_compute_seconds_total",
  "holdfast_scheduler_kv_byte_seconds_total",
  "holdfast_scheduler_shed_total",
]);
const kRowsShown = 500; // an hour's rows of a month and many tenants would be the browser's end
const kOutcomes: Record<string, "ok" | "cancelled" | "timed_out" | "failed"> = {
  ok: "ok",
  cancelled: "cancelled",
  timeout: "timed_out",
  error: "failed",
};

// As /admin/v1/usage has it.
interface Row {
  day?: string;
  hour?: string;
  tenant: string;
  requests: number;
  ok: number;
  cancelled: number;
  timed_out: number;
  failed: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  kv_byte_seconds: number;
  compute_seconds: number;
  refusals: Record<string, number>;
}

const newRow = (tenant: string): Row => ({
  tenant,
  requests: 0,
  ok: 0,
  cancelled: 0,
  timed_out: 0,
  failed: 0,
  prompt_tokens: 0,
  cached_tokens: 0,
  completion_tokens: 0,
  kv_byte_seconds: 0,
  compute_seconds: 0,
  refusals: {},
});

function rowsOf(samples: Sample[]): Row[] {
  const rows = new Map<string, Row>();
  for (const { name, labels, value } of samples) {
    const tenant = labels.tenant ?? "";
    const row = rows.get(tenant) ?? newRow(tenant);
    rows.set(tenant, row);
    if (labels.reason !== undefined) {
      row.refusals[labels.reason] = (row.refusals[labels.reason] ?? 0) + value;
      continue;
    }
    const field = name.replace(/^holdfast_(server|scheduler)_|_total$/g, "");
    (row as unknown as Record<string, number>)[field]! += value;
    const outcome = kOutcomes[labels.outcome ?? ""];
    if (outcome) row[outcome] += value;
  }
  return [...rows.values()].sort((a, b) => a.tenant.localeCompare(b.tenant));
}

function UsageTable(props: { caption: string; rows: Row[]; empty: string }) {
  const time = props.rows.some((row) => row.day ?? row.hour);
  return (
    <Table<Row>
      caption={props.caption}
      rows={props.rows.slice(0, kRowsShown)}
      total={props.rows.length}
      keyOf={(row) => `${row.day ?? row.hour} ${row.tenant}`}
      empty={props.empty}
      columns={[
        ...(time ? [{ name: "Time (UTC)", cell: (row: Row) => (row.day ?? row.hour ?? "").replace(":00:00Z", ":00") }] : []),
        { name: "Tenant", cell: (row) => row.tenant },
        { name: "Requests", number: true, cell: (row) => count(row.requests) },
        { name: "Ok", number: true, cell: (row) => count(row.ok) },
        { name: "Cancelled", number: true, cell: (row) => count(row.cancelled) },
        { name: "Timed out", number: true, cell: (row) => count(row.timed_out) },
        { name: "Failed", number: true, cell: (row) => count(row.failed) },
        { name: "Prompt tokens", number: true, cell: (row) => count(row.prompt_tokens) },
        {
          name: "Cached",
          number: true,
          cell: (row) => (row.prompt_tokens > 0 ? percent(row.cached_tokens / row.prompt_tokens) : "–"),
        },
        { name: "Tokens drawn", number: true, cell: (row) => count(row.completion_tokens) },
        { name: "Compute s", number: true, cell: (row) => row.compute_seconds.toFixed(1) },
        { name: "KV GiB s", number: true, cell: (row) => (row.kv_byte_seconds / 2 ** 30).toFixed(1) },
        {
          name: "Refused",
          cell: (row) =>
            Object.entries(row.refusals)
              .filter(([, n]) => n > 0)
              .map(([reason, n]) => `${reason} ${count(n)}`)
              .join(", "),
        },
      ]}
    />
  );
}

export function Usage(props: { port: Place }) {
  return (
    <div class="live">
      {props.port.admin && <Ledger />}
      <section aria-labelledby="usage-title">
        <h2 id="usage-title">Usage since the daemon's start</h2>
        {withoutMetrics(props.port, "counts") ?? <SinceStart whose={props.port.whose ?? ""} />}
      </section>
    </div>
  );
}

const dayOf = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

function Ledger() {
  const [wanted, setWanted] = useState({ from: dayOf(30), to: dayOf(-1), by: "tenant" });
  // Two changes may come before the next rendering.
  const change = (part: Partial<typeof wanted>) => setWanted((before) => ({ ...before, ...part }));
  const [answer, setAnswer] = useState<{ kept: boolean; data: Row[] } | null>(null);
  const fault = usePolling(
    async (signal) => {
      const path = `admin/v1/usage?${new URLSearchParams(wanted)}`;
      const got = await getJson<{ kept: boolean; data: Row[] }>(path, signal);
      if (!signal.aborted) setAnswer(got);
    },
    5000,
    wanted,
    wanted.to <= dayOf(0), // days that are over change no more
  );
  const field = (name: "from" | "to", label: string) => (
    <>
      <label for={name}>{label}</label>
      <input
        id={name}
        type="date"
        value={wanted[name]}
        onChange={(event) => change({ [name]: event.currentTarget.value })}
      />
    </>
  );
  return (
    <section aria-labelledby="ledger-title">
      <h2 id="ledger-title">Usage by time</h2>
      <Fault fault={fault} what="usage by time" path="/admin" />
      {answer && !answer.kept && (
        <p class="notice">
          This daemon keeps no usage; <code>--usage FILE</code> or <code>--state FILE</code> has it do so.
        </p>
      )}
      {answer?.kept && (
        <>
          <div class="field inline">
            {field("from", "From")}
            {field("to", "up to, without")}
            <label for="by">a row for each</label>
            <select id="by" value={wanted.by} onChange={(event) => change({ by: event.currentTarget.value })}>
              <option value="tenant">tenant</option>
              <option value="day">day</option>
              <option value="hour">hour</option>
            </select>
          </div>
          {!(fault && isRefusal(fault)) && (
            <UsageTable caption="Of the ledger" rows={answer.data} empty="nothing was used in that time" />
          )}
        </>
      )}
    </section>
  );
}

function SinceStart({ whose }: { whose: string }) {
  const [rows, setRows] = useState<Row[] | null>(null);
  const fault = usePolling(async (signal) => {
    const all = rowsOf(parseMetrics(await getText("metrics", signal), kNames));
    setRows(whose === "" ? all : all.filter((row) => row.tenant === whose));
  }, 5000);
  return (
    <>
      <Fault fault={fault} what="usage since the start" path="/metrics" />
      {rows && <UsageTable caption="By tenant" rows={rows} empty="no tenants" />}
    </>
  );
}
