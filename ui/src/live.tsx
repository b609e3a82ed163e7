import { useState } from "preact/hooks";
import { getJson, type Place } from "./api";
import { Charts } from "./charts";
import { bytes, count, seconds } from "./format";
import { KvMap, Patterns, type Part } from "./kv_map";
import { Fault } from "./notice";
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
interface Held {
  blocks: number;
  bytes: number;
  hit_tokens: number;
}
interface KvTenant {
  tenant: string;
  tiers: { device: Held; host: Held; disk: Held; remote: { hit_tokens: number } };
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

export function Live(props: { port: Place }) {
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
      <Charts port={props.port} />
    </div>
  );
}

function Scheduler() {
  const [seen, setSeen] = useState<Seen | null>(null);
  const fault = usePolling(async (signal) => {
    const [queue, kv, pins] = await Promise.all([
      getJson<Queue>("admin/v1/queue", signal),
      getJson<Kv>("admin/v1/kv", signal),
      getJson<Seen["pins"]>("admin/v1/pins", signal),
    ]);
    setSeen({ queue, kv, pins });
  }, 1000);
  return (
    <>
      <Fault fault={fault} what="queue and KV cache" path="/admin" />
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

// Whose each look is: of the tenants with most blocks in all tiers, for as long as they are of these.
const looks: (string | undefined)[] = Array.from({ length: kTenantLooks });

function giveLooks(tenants: KvTenant[]): void {
  const blocksOf = ({ tiers }: KvTenant) => kTiers.reduce((sum, tier) => sum + tiers[tier].blocks, 0);
  const first = tenants
    .toSorted((a, b) => blocksOf(b) - blocksOf(a) || a.tenant.localeCompare(b.tenant))
    .slice(0, kTenantLooks)
    .map((one) => one.tenant);
  for (const [look, name] of looks.entries()) {
    if (name !== undefined && !first.includes(name)) looks[look] = undefined;
  }
  for (const name of first) {
    if (!looks.includes(name)) looks[looks.indexOf(undefined)] = name;
  }
}

// Tenants with most of it first; those without a look of their own share one.
function partsByTenant(kv: Kv, tier: (typeof kTiers)[number], capacity: number): Part[] {
  giveLooks(kv.tenants);
  const parts: Part[] = [];
  let others = 0;
  let used = 0;
  for (const one of kv.tenants) {
    const { blocks } = one.tiers[tier];
    used += blocks;
    if (blocks === 0) continue;
    const look = looks.indexOf(one.tenant);
    if (look >= 0) parts.push({ name: one.tenant, blocks, look: `tenant-${look}` });
    else others += blocks;
  }
  parts.sort((a, b) => b.blocks - a.blocks);
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
          { name: "Ends in", number: true, cell: (row) => seconds(Math.max(0, Math.round(row.expires_in_ms / 1000))) },
        ]}
      />
    </section>
  );
}
