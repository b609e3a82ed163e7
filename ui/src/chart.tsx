// A line chart over the last minutes, with its newest values as text beneath.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Line {
  label: string;
  values: (number | null)[];
  color: string; // a custom property of the style sheet
  dash?: number[]; // so that lines differ without their colour, too
}

const kHeight = 150;
const kSpan = 300; // seconds

function useScheme(): boolean {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const follow = () => setDark(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);
  return dark;
}

export function Chart(props: {
  title: string;
  times: number[];
  lines: Line[];
  format: (value: number) => string;
  max?: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useScheme();
  const data: uPlot.AlignedData = [props.times, ...props.lines.map((line) => line.values)];

  useEffect(() => {
    const parent = box.current!;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: color("--soft"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const chart = new uPlot(
      {
        width: parent.clientWidth,
        height: kHeight,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { range: (_, __, last) => [last - kSpan, last] },
          y: { range: (_, __, high) => [0, props.max ?? Math.max(high * 1.1, 1e-6)] },
        },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB")), space: 90 },
          { ...axis, values: (_, ticks) => ticks.map((value) => props.format(value)), size: 62 },
        ],
        series: [
          {},
          ...props.lines.map((line) => ({
            stroke: color(line.color),
            width: 2,
            dash: line.dash,
            points: { size: 4 },
          })),
        ],
      },
      data,
      parent,
    );
    plot.current = chart;
    const watch = new ResizeObserver(() => chart.setSize({ width: parent.clientWidth, height: kHeight }));
    watch.observe(parent);
    return () => {
      watch.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [dark]);

  useEffect(() => plot.current?.setData(data));

  return (
    <figure class="chart">
      <figcaption>
        <h3>{props.title}</h3>
        <p>
          {props.lines.map((line, index) => {
            const last = line.values.at(-1) ?? null;
            return (
              <span key={index} class="key-of-line">
                <svg viewBox="0 0 24 4" width="24" height="4" aria-hidden="true">
                  <line x1="0" y1="2" x2="24" y2="2" stroke={`var(${line.color})`} stroke-width="3" stroke-dasharray={line.dash?.join(" ")} />
                </svg>
                {line.label} <b>{last === null ? "–" : props.format(last)}</b>
              </span>
            );
          })}
        </p>
      </figcaption>
      <div ref={box} aria-hidden="true" />
    </figure>
  );
}
