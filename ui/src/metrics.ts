// What is read of /metrics (Prometheus text): sums by tenant, and quantiles of what histograms have
// grown by between two readings.

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const kLine = /^([a-z_:]+)(?:\{(.*)\})? (\S+)/i;
const kLabel = /([a-z_]+)="((?:[^"\\]|\\.)*)"/gi;
const kEscapes: Record<string, string> = { n: "\n", '"': '"', "\\": "\\" };

// Of the metrics of these names alone.
export function parseMetrics(text: string, names: Set<string>): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue;
    const end = line.search(/[{ ]/);
    if (end < 0 || !names.has(line.slice(0, end))) continue;
    const match = kLine.exec(line);
    if (!match) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(kLabel)) {
      labels[name!] = value!.replace(/\\(.)/g, (_, letter) => kEscapes[letter] ?? letter);
    }
    samples.push({ name: match[1]!, labels, value: Number(match[3]) });
  }
  return samples;
}

const kTtft = "holdfast_server_time_to_first_token_seconds_bucket";
const kItl = "holdfast_server_inter_token_latency_seconds_bucket";
const kPrompt = "holdfast_server_prompt_tokens_total";
const kCached = "holdfast_server_cached_tokens_total";
const kCompletion = "holdfast_server_completion_tokens_total";
const kLiveNames = new Set([kTtft, kItl, kPrompt, kCached, kCompletion]);

// What a reading of /metrics has of interest: one array of counts a tenant, in the order of `columns`,
// shared with the reading before where nothing has changed. So minutes of it are small.
export interface Reading {
  at: number; // seconds
  tenants: Map<string, Float64Array>; // "": all together
}

interface Column {
  name: string;
  bound: number; // of a bucket
}
const columns: Column[] = [];
const places = new Map<string, number>();

function placeOf(name: string, le = ""): number {
  const key = `${name} ${le}`;
  const known = places.get(key);
  if (known !== undefined) return known;
  places.set(key, columns.length);
  return columns.push({ name, bound: le === "+Inf" ? Infinity : Number(le) }) - 1;
}

export function readingOf(text: string, at: number, before?: Reading): Reading {
  const sums = new Map<string, number[]>();
  for (const { name, labels, value } of parseMetrics(text, kLiveNames)) {
    const place = placeOf(name, labels.le);
    for (const tenant of new Set(["", labels.tenant ?? ""])) {
      const counts = sums.get(tenant) ?? [];
      sums.set(tenant, counts);
      counts[place] = (counts[place] ?? 0) + value;
    }
  }
  const tenants = new Map<string, Float64Array>();
  for (const [tenant, counts] of sums) {
    const last = before?.tenants.get(tenant);
    const same = last?.length === counts.length && last.every((value, place) => value === (counts[place] ?? 0));
    tenants.set(tenant, same ? last : Float64Array.from(counts, (value) => value ?? 0));
  }
  return { at, tenants };
}

type Buckets = Map<number, number>; // upper bound to how many are at most that

export interface Counts {
  at: number;
  ttft: Buckets;
  itl: Buckets;
  prompt: number;
  cached: number;
  completion: number;
}

// Of one tenant, or of all together ("").
export function countsOf(reading: Reading, tenant: string): Counts {
  const counts: Counts = { at: reading.at, ttft: new Map(), itl: new Map(), prompt: 0, cached: 0, completion: 0 };
  const values = reading.tenants.get(tenant);
  for (const [place, { name, bound }] of columns.entries()) {
    const value = values?.[place] ?? 0;
    if (name === kPrompt) counts.prompt = value;
    else if (name === kCached) counts.cached = value;
    else if (name === kCompletion) counts.completion = value;
    else (name === kTtft ? counts.ttft : counts.itl).set(bound, value);
  }
  return counts;
}

// The `share` quantile of what came between, within a bucket by a straight line; null: nothing came.
export function quantile(before: Buckets, after: Buckets, share: number): number | null {
  const bounds = [...after.keys()].sort((a, b) => a - b);
  const grown = bounds.map((bound) => after.get(bound)! - (before.get(bound) ?? 0));
  const total = grown.at(-1) ?? 0;
  if (total <= 0) return null;
  const wanted = share * total;
  let low = 0;
  let below = 0;
  for (const [index, bound] of bounds.entries()) {
    const upTo = grown[index]!;
    if (upTo >= wanted) {
      if (bound === Infinity) return low; // beyond the last bound: at least that
      return low + ((bound - low) * (wanted - below)) / Math.max(upTo - below, 1);
    }
    low = bound;
    below = upTo;
  }
  return low;
}
