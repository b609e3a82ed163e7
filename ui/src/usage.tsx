// What each tenant has used since the daemon began, of /metrics.
import { useState } from "preact/hooks";
import { ApiError, getText, type Port } from "./api";
import { count, percent } from "./format";
import { parseMetrics, type Sample } from "./metrics";
import { usePolling } from "./polling";
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

interface Row {
  tenant: string;
  outcomes: Record<string, number>;
  sheds: Record<string, number>;
  sums: Record<string, number>; // by the metric's name
}

function rowsOf(samples: Sample[]): Row[] {
  const rows = new Map<string, Row>();
  for (const { name, labels, value } of samples) {
    const tenant = labels.tenant ?? "";
    const row = rows.get(tenant) ?? { tenant, outcomes: {}, sheds: {}, sums: {} };
    rows.set(tenant, row);
    row.sums[name] = (row.sums[name] ?? 0) + value;
    if (labels.outcome) row.outcomes[labels.outcome] = (row.outcomes[labels.outcome] ?? 0) + value;
    if (labels.reason) row.sheds[labels.reason] = (row.sheds[labels.reason] ?? 0) + value;
  }
  return [...rows.values()].sort((a, b) => a.tenant.localeCompare(b.tenant));
}

export function Usage(_: { port: Port }) {
  const [rows, setRows] = useState<Row[] | null>(null);
  const [fault, setFault] = useState<ApiError | null>(null);
  usePolling(async (signal) => {
    try {
      setRows(rowsOf(parseMetrics(await getText("metrics", signal), kNames)));
      setFault(null);
    } catch (thrown) {
      if (signal.aborted) return;
      setFault(thrown as ApiError);
      if ((thrown as ApiError).status === 403) await new Promise<never>(() => {});
    }
  }, 5000);
  const sum = (row: Row, name: string) => row.sums[`holdfast_${name}_total`] ?? 0;
  const outcome = (row: Row, name: string) => count(row.outcomes[name] ?? 0);
  return (
    <section aria-labelledby="usage-title">
      <h2 id="usage-title">Usage since the daemon's start</h2>
      {fault && (
        <p class="notice" role="alert">
          {fault.message}
        </p>
      )}
      {rows && (
        <Table
          caption="By tenant"
          rows={rows}
          keyOf={(row) => row.tenant}
          empty="no tenants"
          columns={[
            { name: "Tenant", cell: (row) => row.tenant },
            { name: "Requests", number: true, cell: (row) => count(sum(row, "server_requests")) },
            { name: "Ok", number: true, cell: (row) => outcome(row, "ok") },
            { name: "Cancelled", number: true, cell: (row) => outcome(row, "cancelled") },
            { name: "Timed out", number: true, cell: (row) => outcome(row, "timeout") },
            { name: "Failed", number: true, cell: (row) => outcome(row, "error") },
            { name: "Prompt tokens", number: true, cell: (row) => count(sum(row, "server_prompt_tokens")) },
            {
              name: "Cached",
              number: true,
              cell: (row) => {
                const prompt = sum(row, "server_prompt_tokens");
                return prompt > 0 ? percent(sum(row, "server_cached_tokens") / prompt) : "–";
              },
            },
            { name: "Tokens drawn", number: true, cell: (row) => count(sum(row, "server_completion_tokens")) },
            { name: "Compute s", number: true, cell: (row) => sum(row, "scheduler_compute_seconds").toFixed(1) },
            {
              name: "KV GiB s",
              number: true,
              cell: (row) => (sum(row, "scheduler_kv_byte_seconds") / 2 ** 30).toFixed(1),
            },
            {
              name: "Refused",
              cell: (row) =>
                Object.entries(row.sheds)
                  .filter(([, n]) => n > 0)
                  .map(([reason, n]) => `${reason} ${count(n)}`)
                  .join(", "),
            },
          ]}
        />
      )}
      <p class="note">
        By the hour, over restarts and as CSV or JSON: <code>holdfast usage</code>.
      </p>
    </section>
  );
}
