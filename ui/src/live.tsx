import { useState } from "preact/hooks";
import { ApiError, getJson, getText, type Port } from "./api";
import { Chart } from "./chart";
import { bytes, count, percent, seconds } from "./format";
import { KvMap, Patterns, type Part } from "./kv_map";
import { kLiveNames, parseMetrics, quantile, readingOf, type Sample } from "./metrics";
import { usePolling } from "./polling";
import { Table } from "./table";

interface Entry {
  id: string;
  choice: number;
  tenant: string;
  session: string;
  priority: number;
  offline: boolean;
  prompt_tokens: number;
  completion_tokens: number;
  age_ms: number;
  preempted: number;
}
interface Waiting extends Entry {
  reason: string;
  overtaken: number;
}
interface Running extends Entry {
  computed_tokens: number;
  blocks: number;
  restoring: boolean;
}
interface QueueTenant {
  tenant: string;
  weight: number;
  running: number;
  waiting: number;
  waiting_by_reason: Record<string, number>;
  blocks: number;
  pins: number;
  pinned_blocks: number;
  programs: { known: number; paused: number };
}
interface Queue {
  policy: string;
  order: string;
  whole?: { running: number; running_max: number; waiting: number; pinned_blocks: number };
  tenants: QueueTenant[];
  waiting: Waiting[];
  waiting_total: number;
  running: Running[];
  running_total: number;
}
interface Place {
  blocks: number;
  bytes: number;
  hit_tokens: number;
}
interface KvTenant {
  tenant: string;
  tiers: { device: Place; host: Place; disk: Place; remote: { hit_tokens: number } };
  pinned_blocks: number;
}
interface Capacity {
  capacity_blocks: number;
  capacity_bytes: number;
}
interface Kv {
  block_bytes: number;
  block_tokens: number;
  tiers?: {
    device: Capacity & {
      free_blocks: number;
      held_blocks: number;
      evictable_blocks: number;
      moving_blocks: number;
    };
    host: Capacity;
    disk: Capacity;
  };
  moves?: number;
  tenants: KvTenant[];
}
interface Pin {
  tenant: string;
  session: string;
  state: string;
  priority: number;
  blocks: number;
  bytes: number;
  created: number;
  expires_in_ms: number;
}
interface Seen {
  queue: Queue;
  kv: Kv;
  pins: { data: Pin[]; total: number };
}

const kRowsShown = 50;
const kReasons: Record<string, string> = {
  turn: "others go first, or it has just come",
  places: "as many sequences run as may",
  tenant_places: "its tenant runs all it may",
  blocks: "the KV pool has no room",
  step_rows: "the step's token budget is used up",
  prefill: "another computes the prefix that it will find",
  lookup: "the remote tier has not answered yet",
  online: "it is offline work, and others wait",
};
const kPinStates: Record<string, string> = {
  asked: "its client asked for it",
  paused: "a tool runs; it is worth waiting for the next turn",
  provisional: "the tool's name is awaited",
  wanted: "the next turn has come and has not computed yet",
};

export function Live(props: { port: Port }) {
  return (
    <div class="live">
      <Patterns />
      {props.port.admin ? (
        <Scheduler />
      ) : (
        <p class="notice">
          This port is for tenants: the queue and the KV cache are shown by the port for
          administrators (<code>admin.http</code> of the configuration), at its own <code>/ui</code>{" "}
          with an administrator's key.
        </p>
      )}
      <Charts />
    </div>
  );
}

function Scheduler() {
  const [seen, setSeen] = useState<Seen | null>(null);
  const [fault, setFault] = useState("");
  usePolling(async (signal) => {
    try {
      const [queue, kv, pins] = await Promise.all([
        getJson<Queue>("admin/v1/queue", signal),
        getJson<Kv>("admin/v1/kv", signal),
        getJson<Seen["pins"]>("admin/v1/pins", signal),
      ]);
      setSeen({ queue, kv, pins });
      setFault("");
    } catch (thrown) {
      if (!signal.aborted) setFault((thrown as ApiError).message);
    }
  }, 1000);
  return (
    <>
      {fault && (
        <p class="notice" role="alert">
          {fault}; asking again.
        </p>
      )}
      {!seen && !fault && <p role="status">Asking the daemon…</p>}
      {seen && (
        <>
          <QueueView queue={seen.queue} />
          <KvView kv={seen.kv} queue={seen.queue} />
          <Pins pins={seen.pins} />
        </>
      )}
    </>
  );
}

const nonzero = (by: Record<string, number>): string =>
  Object.entries(by)
    .filter(([, n]) => n > 0)
    .map(([reason, n]) => `${reason} ${n}`)
    .join(", ");
const age = (entry: Entry): string => seconds(entry.age_ms / 1000);
const idOf = (entry: Entry) => <code class="id">{entry.choice ? `${entry.id} (${entry.choice})` : entry.id}</code>;

function stageOf(one: Running): string {
  if (one.restoring) return "restoring";
  const all = one.prompt_tokens + one.completion_tokens;
  if (one.completion_tokens === 0 && one.computed_tokens < one.prompt_tokens) {
    return `prompt ${one.computed_tokens}/${one.prompt_tokens}`;
  }
  return one.computed_tokens + 1 < all ? `again ${one.computed_tokens}/${all}` : "drawing";
}

function QueueView({ queue }: { queue: Queue }) {
  return (
    <section aria-labelledby="queue-title">
      <h2 id="queue-title">Queue</h2>
      <p class="facts">
        {queue.whole
          ? `${queue.whole.running} of ${queue.whole.running_max} places run, ${queue.whole.waiting} wait · `
          : "your own part · "}
        policy <code>{queue.policy}</code>, order <code>{queue.order}</code>
      </p>
      <Table
        caption="By tenant"
        rows={queue.tenants}
        keyOf={(row) => row.tenant}
        empty="no tenants"
        columns={[
          { name: "Tenant", cell: (row) => row.tenant },
          { name: "Weight", number: true, cell: (row) => row.weight },
          { name: "Running", number: true, cell: (row) => count(row.running) },
          { name: "Waiting", number: true, cell: (row) => count(row.waiting) },
          { name: "Why they wait", cell: (row) => nonzero(row.waiting_by_reason) },
          { name: "Blocks in use", number: true, cell: (row) => count(row.blocks) },
          { name: "Programs", number: true, hint: "agents' tasks that are known; of these, waiting for a tool", cell: (row) => `${count(row.programs.known)} (${count(row.programs.paused)} paused)` },
        ]}
      />
      <Table
        caption="Running sequences"
        rows={queue.running.slice(0, kRowsShown)}
        total={queue.running_total}
        keyOf={(row) => `${row.id} ${row.choice}`}
        empty="nothing runs"
        columns={[
          { name: "Request", cell: idOf },
          { name: "Tenant", cell: (row) => row.tenant },
          { name: "Session", cell: (row) => <span class="id">{row.session}</span> },
          { name: "Stage", cell: stageOf },
          { name: "Prompt", number: true, cell: (row) => count(row.prompt_tokens) },
          { name: "Answer", number: true, cell: (row) => count(row.completion_tokens) },
          { name: "Blocks", number: true, cell: (row) => count(row.blocks) },
          { name: "Priority", number: true, cell: (row) => (row.offline ? "offline" : row.priority) },
          { name: "Age", number: true, cell: age },
        ]}
      />
      <Table
        caption="Waiting sequences"
        rows={queue.waiting.slice(0, kRowsShown)}
        total={queue.waiting_total}
        keyOf={(row) => `${row.id} ${row.choice}`}
        empty="nothing waits"
        columns={[
          { name: "Request", cell: idOf },
          { name: "Tenant", cell: (row) => row.tenant },
          { name: "Session", cell: (row) => <span class="id">{row.session}</span> },
          { name: "Why it waits", cell: (row) => kReasons[row.reason] ?? row.reason },
          { name: "Prompt", number: true, cell: (row) => count(row.prompt_tokens) },
          { name: "Overtaken", number: true, cell: (row) => count(row.overtaken) },
          { name: "Priority", number: true, cell: (row) => (row.offline ? "offline" : row.priority) },
          { name: "Age", number: true, cell: age },
        ]}
      />
    </section>
  );
}

const kTenantLooks = 6;
const kTiers = ["device", "host", "disk"] as const;

// Tenants with most of it first; from the seventh on they share one look.
function partsByTenant(kv: Kv, tier: (typeof kTiers)[number], capacity: number): Part[] {
  const order = kv.tenants.map((one) => one.tenant);
  const parts: Part[] = [];
  let others = 0;
  let used = 0;
  for (const one of kv.tenants) {
    const { blocks } = one.tiers[tier];
    used += blocks;
    if (blocks === 0) continue;
    const place = order.indexOf(one.tenant);
    if (place < kTenantLooks) parts.push({ name: one.tenant, blocks, look: `tenant-${place}` });
    else others += blocks;
  }
  if (others > 0) parts.push({ name: "other tenants", blocks: others, look: "tenant-other" });
  parts.push({ name: "nobody's", blocks: Math.max(0, capacity - used), look: "free" });
  return parts;
}

function KvView({ kv, queue }: { kv: Kv; queue: Queue }) {
  const { tiers } = kv;
  const pinned = Math.min(queue.whole?.pinned_blocks ?? 0, tiers?.device.held_blocks ?? 0);
  return (
    <section aria-labelledby="kv-title">
      <h2 id="kv-title">KV cache</h2>
      {tiers && (
        <>
          <p class="facts">
            a block is {kv.block_tokens} tokens, {bytes(kv.block_bytes)}; device{" "}
            {bytes(tiers.device.capacity_bytes)}, host {bytes(tiers.host.capacity_bytes)}, disk{" "}
            {bytes(tiers.disk.capacity_bytes)} · {count(kv.moves ?? 0)} moves under way
          </p>
          <KvMap
            title="Device, by state"
            capacity={tiers.device.capacity_blocks}
            blockBytes={kv.block_bytes}
            parts={[
              { name: "in use", blocks: tiers.device.held_blocks - pinned, look: "held" },
              { name: "pinned", blocks: pinned, look: "pinned" },
              { name: "evictable", blocks: tiers.device.evictable_blocks, look: "evictable" },
              { name: "moving", blocks: tiers.device.moving_blocks, look: "moving" },
              { name: "free", blocks: tiers.device.free_blocks, look: "free" },
            ]}
          />
          {kTiers.map((tier) => {
            const capacity = tiers[tier].capacity_blocks;
            return (
              capacity > 0 && (
                <KvMap
                  key={tier}
                  title={`${tier[0]!.toUpperCase()}${tier.slice(1)}, by tenant`}
                  capacity={capacity}
                  blockBytes={kv.block_bytes}
                  parts={partsByTenant(kv, tier, capacity)}
                />
              )
            );
          })}
        </>
      )}
      <Table
        caption="Blocks by tenant and tier"
        rows={kv.tenants}
        keyOf={(row) => row.tenant}
        empty="no tenants"
        columns={[
          { name: "Tenant", cell: (row) => row.tenant },
          ...kTiers.map((tier) => ({
            name: tier[0]!.toUpperCase() + tier.slice(1),
            number: true,
            cell: (row: KvTenant) => `${count(row.tiers[tier].blocks)} (${bytes(row.tiers[tier].bytes)})`,
          })),
          { name: "Pinned", number: true, cell: (row) => count(row.pinned_blocks) },
          ...([...kTiers, "remote"] as const).map((tier) => ({
            name: `Hits: ${tier}`,
            number: true,
            hint: "prompt tokens that were found there, since the start",
            cell: (row: KvTenant) => count(row.tiers[tier].hit_tokens),
          })),
        ]}
      />
    </section>
  );
}

function Pins({ pins }: { pins: Seen["pins"] }) {
  return (
    <section aria-labelledby="pins-title">
      <h2 id="pins-title">Pins</h2>
      <Table
        caption="KV kept between turns, the next to end first"
        rows={pins.data.slice(0, kRowsShown)}
        total={pins.total}
        keyOf={(row) => `${row.tenant} ${row.session}`}
        empty="nothing is pinned"
        columns={[
          { name: "Tenant", cell: (row) => row.tenant },
          { name: "Session", cell: (row) => <span class="id">{row.session}</span> },
          { name: "Why", cell: (row) => kPinStates[row.state] ?? row.state },
          { name: "Blocks", number: true, cell: (row) => count(row.blocks) },
          { name: "Size", number: true, cell: (row) => bytes(row.bytes) },
          { name: "Priority", number: true, cell: (row) => row.priority },
          {
            name: "Ends in",
            number: true,
            cell: (row) => {
              const left = row.expires_in_ms / 1000;
              const whole = Math.max(left + Date.now() / 1000 - row.created, 1);
              return (
                <span class="countdown">
                  <progress max={whole} value={Math.max(left, 0)} aria-label={`of the pin of ${row.session}, what is left`} />
                  {seconds(Math.max(0, Math.round(left)))}
                </span>
              );
            },
          },
        ]}
      />
    </section>
  );
}

const kPause = 2; // seconds between two readings of /metrics
const kPoints = 150;
const kWindow = 5; // readings: a point tells of the last ten seconds
// Kept while another view is looked at.
const readings: { at: number; samples: Sample[] }[] = [];

function Charts() {
  const [, setDrawn] = useState(0);
  const [tenant, setTenant] = useState("");
  const [fault, setFault] = useState<ApiError | null>(null);
  usePolling(async (signal) => {
    try {
      const samples = parseMetrics(await getText("metrics", signal), kLiveNames);
      readings.push({ at: Date.now() / 1000, samples });
      readings.splice(0, readings.length - kPoints - kWindow);
      setFault(null);
      setDrawn(readings.at(-1)!.at);
    } catch (thrown) {
      if (signal.aborted) return;
      setFault(thrown as ApiError);
      // It is not for this machine, and will not be: no use in asking on.
      if ((thrown as ApiError).status === 403) await new Promise<never>(() => {});
    }
  }, kPause * 1000);

  const tenants = [...new Set(readings.at(-1)?.samples.map((one) => one.labels.tenant ?? "") ?? [])].sort();
  const all = readings.map(({ at, samples }) => readingOf(samples, tenant, at));
  const pairs = all.slice(1).map((after, index) => {
    const before = all[Math.max(0, index + 1 - kWindow)]!;
    // A restart of the daemon, or a while in which nobody looked.
    const broken = after.prompt < before.prompt || after.at - before.at > kWindow * kPause * 2;
    return { before, after, broken };
  });
  const times = pairs.map(({ after }) => after.at);
  const values = (of: (before: (typeof all)[number], after: (typeof all)[number]) => number | null) =>
    pairs.map(({ before, after, broken }) => (broken ? null : of(before, after)));
  const rate = (of: (reading: (typeof all)[number]) => number) =>
    values((before, after) => (of(after) - of(before)) / Math.max(after.at - before.at, 0.1));
  return (
    <section aria-labelledby="charts-title">
      <h2 id="charts-title">Latency and hits</h2>
      {fault && (
        <p class="notice">
          {fault.status === 403
            ? `There are no charts here: ${fault.message}.`
            : `${fault.message}; asking again.`}
        </p>
      )}
      {all.length > 0 && (
        <>
          <div class="field inline">
            <label for="chart-tenant">Tenant</label>
            <select id="chart-tenant" value={tenant} onChange={(event) => setTenant(event.currentTarget.value)}>
              <option value="">all together</option>
              {tenants.map((one) => (
                <option key={one} value={one}>
                  {one}
                </option>
              ))}
            </select>
            <span class="note">each point tells of the ten seconds before it</span>
          </div>
          <div class="charts">
            <Chart
              title="Time to first token"
              times={times}
              format={seconds}
              lines={[
                { label: "p50", color: "--series-a", values: values((b, a) => quantile(b.ttft, a.ttft, 0.5)) },
                { label: "p95", color: "--series-b", dash: [6, 3], values: values((b, a) => quantile(b.ttft, a.ttft, 0.95)) },
              ]}
            />
            <Chart
              title="Between tokens"
              times={times}
              format={seconds}
              lines={[
                { label: "p50", color: "--series-a", values: values((b, a) => quantile(b.itl, a.itl, 0.5)) },
                { label: "p95", color: "--series-b", dash: [6, 3], values: values((b, a) => quantile(b.itl, a.itl, 0.95)) },
              ]}
            />
            <Chart
              title="Tokens a second"
              times={times}
              format={count}
              lines={[
                { label: "drawn", color: "--series-a", values: rate((one) => one.completion) },
                { label: "of prompts, computed", color: "--series-b", dash: [6, 3], values: rate((one) => one.prompt - one.cached) },
              ]}
            />
            <Chart
              title="Cache hit ratio"
              times={times}
              format={percent}
              max={1}
              lines={[
                {
                  label: "prompt tokens that were cached",
                  color: "--series-a",
                  values: values((b, a) => (a.prompt > b.prompt ? (a.cached - b.cached) / (a.prompt - b.prompt) : null)),
                },
              ]}
            />
          </div>
        </>
      )}
    </section>
  );
}
