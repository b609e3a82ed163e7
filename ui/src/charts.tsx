// Latency, throughput and hits over the last minutes, of what /metrics has grown by.
import { useState } from "preact/hooks";
import { getText, type Place } from "./api";
import { Chart } from "./chart";
import { count, percent, seconds } from "./format";
import { countsOf, quantile, readingOf, type Reading } from "./metrics";
import { Fault, withoutMetrics } from "./notice";
import { usePolling } from "./polling";

const kPause = 2; // seconds between two readings of /metrics
const kPoints = 150;
const kWindow = 5; // readings: a point tells of the last ten seconds
// Kept while another view is looked at.
const readings: Reading[] = [];
export const forgetReadings = (): void => void readings.splice(0);

export function Charts({ port }: { port: Place }) {
  return (
    <section aria-labelledby="charts-title">
      <h2 id="charts-title">Latency and hits</h2>
      {withoutMetrics(port, "charts") ?? <Drawn whose={port.whose ?? ""} />}
    </section>
  );
}

// Of the tenant `whose`, or, by choice, of each and all.
function Drawn({ whose }: { whose: string }) {
  const [, setDrawn] = useState(0);
  const [tenant, setTenant] = useState(whose);
  const fault = usePolling(async (signal) => {
    const text = await getText("metrics", signal);
    readings.push(readingOf(text, Date.now() / 1000, readings.at(-1)));
    readings.splice(0, readings.length - kPoints - kWindow);
    setDrawn(readings.at(-1)!.at);
  }, kPause * 1000);

  const tenants = [...(readings.at(-1)?.tenants.keys() ?? [])].filter((one) => one !== "").sort();
  const all = readings.map((reading) => countsOf(reading, tenant));
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
    <>
      <Fault fault={fault} what="charts" path="/metrics" />
      {all.length > 0 && (
        <>
          <div class="field inline">
            <label for="chart-tenant">Tenant</label>
            <select id="chart-tenant" value={tenant} onChange={(event) => setTenant(event.currentTarget.value)}>
              {whose === "" && <option value="">all together</option>}
              {(whose === "" ? tenants : [whose]).map((one) => (
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
    </>
  );
}
