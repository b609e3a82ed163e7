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
export const kLiveNames = new Set([kTtft, kItl, kPrompt, kCached, kCompletion]);

type Buckets = Map<number, number>; // upper bound to how many are at most that

export interface Reading {
  at: number; // seconds
  ttft: Buckets;
  itl: Buckets;
  prompt: number;
  cached: number;
  completion: number;
}

// Of one tenant, or of all together.
export function readingOf(samples: Sample[], tenant: string, at: number): Reading {
  const reading: Reading = { at, ttft: new Map(), itl: new Map(), prompt: 0, cached: 0, completion: 0 };
  for (const { name, labels, value } of samples) {
    if (tenant !== "" && labels.tenant !== tenant) continue;
    if (name === kPrompt) reading.prompt += value;
    else if (name === kCached) reading.cached += value;
    else if (name === kCompletion) reading.completion += value;
    else {
      const buckets = name === kTtft ? reading.ttft : reading.itl;
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      buckets.set(bound, (buckets.get(bound) ?? 0) + value);
    }
  }
  return reading;
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
