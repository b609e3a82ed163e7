#!/usr/bin/env python3
"""Draws a report of `holdfast simulate` or `holdfast replay` as one HTML page that needs nothing else.

    ./dev simulation-report REPORT.json [REPORT.json...] --out PAGE.html

Several reports (of several policies or sizes, say) are drawn beside each other; each is named by its
file. The plots are SVG inside the page.
"""

import argparse
import html
import io
import json
import pathlib
import sys

DISTRIBUTIONS = [
    ("queue", "queue time"),
    ("ttft", "time to first token"),
    ("itl", "gap between tokens"),
    ("tpot", "mean gap of a turn"),
    ("e2e", "arrival to last token"),
    ("job", "job time (whole programs)"),
]
# As they lie upon each other; pinned blocks are part of the held ones.
BLOCK_STATES = [("held", "held"), ("moving", "moving"), ("evictable", "evictable"), ("free", "free")]
# Told apart also by those who see colours otherwise (Okabe and Ito's palette).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"]
STATE_COLOURS = {"held": "#0072B2", "moving": "#E69F00", "evictable": "#56B4E9", "free": "#EEEEEE"}


def seconds_text(value):
    if value >= 100:
        return f"{value:.0f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1000 * value:.1f} ms"


def to_svg(figure):
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.tight_layout()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg"):]


def plain(axis):
    axis.spines[["top", "right"]].set_visible(False)


def plot_distributions(reports):
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, axes = plt.subplots(2, 3, figsize=(12, 6))
    for axis, (key, title) in zip(axes.flat, DISTRIBUTIONS):
        for colour, (name, report) in zip(COLOURS, reports):
            curve = report["online"]["seconds"][key]["percentiles"]
            if curve and curve[-1] > 0:
                axis.plot(curve, [i / 100 for i in range(1, 101)], color=colour, label=name)
        if axis.lines:
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("seconds")
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
        plain(axis)
    axes.flat[0].set_ylabel("share of turns")
    if len(reports) > 1:
        axes.flat[0].legend(frameon=False, fontsize=8)
    return to_svg(figure)


def plot_blocks(report):
    import matplotlib.pyplot as plt

    states = report["states_over_time"]
    window, total = states["window_seconds"], max(report["blocks"], 1)
    times = [i * window for i in range(len(states["held"]))]
    figure, (blocks, queue) = plt.subplots(2, 1, figsize=(12, 5), sharex=True)
    blocks.stackplot(
        times, [[value / total for value in states[key]] for key, _ in BLOCK_STATES],
        labels=[label for _, label in BLOCK_STATES],
        colors=[STATE_COLOURS[key] for key, _ in BLOCK_STATES], step="post")
    blocks.plot(times, [value / total for value in states["pinned"]], color="#D55E00",
                drawstyle="steps-post", linewidth=1, label="pinned (of held)")
    blocks.set_ylim(0, 1)
    blocks.set_ylabel("KV blocks, share")
    blocks.legend(frameon=False, fontsize=8, ncols=5, loc="lower right", bbox_to_anchor=(1, 1))
    for key, colour in (("running", "#0072B2"), ("waiting", "#D55E00")):
        queue.plot(times, states[key], color=colour, drawstyle="steps-post", label=key)
    queue.set_ylabel("sequences")
    queue.set_xlabel("simulated seconds")
    queue.legend(frameon=False, fontsize=8)
    for axis in (blocks, queue):
        plain(axis)
    return to_svg(figure)


def plot_fairness(report):
    import matplotlib.pyplot as plt

    service = report["service_over_time"]
    window = service["window_seconds"]
    figure, (amounts, index) = plt.subplots(2, 1, figsize=(12, 5), sharex=True)
    for number, tenant in enumerate(service["tenants"]):
        values = [value / window for value in tenant["tokens"]]
        amounts.plot([i * window for i in range(len(values))], values, drawstyle="steps-post",
                     color=COLOURS[number % len(COLOURS)], linewidth=1, label=tenant["tenant"],
                     linestyle="-" if number < len(COLOURS) else ":")
    amounts.set_ylabel("tokens computed per second")
    if 1 < len(service["tenants"]) <= len(COLOURS):
        amounts.legend(frameon=False, fontsize=8)
    jain = service["jain_index"]
    index.plot([i * window for i in range(len(jain))],
               [float("nan") if value is None else value for value in jain],
               color="#0072B2", drawstyle="steps-post")
    index.set_ylim(0, 1.05)
    index.set_ylabel("Jain's index")
    index.set_xlabel("simulated seconds")
    for axis in (amounts, index):
        plain(axis)
    return to_svg(figure)


def table(header, rows):
    cells = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def summary(reports):
    header = ["", "turns done", "not done", "goodput", "good", "cached prompt", "recomputed of kept",
              "preemptions", "busy"]
    rows = []
    for name, report in reports:
        online = report["online"]
        kept = online["tokens"]["kept_of_turns_before"]
        rows.append([
            name, online["turns"]["done"],
            sum(online["turns"][end] for end in ("refused", "failed", "abandoned")),
            f"{online['goodput_per_second']:.2f}/s", f"{100 * online['good_share']:.1f} %",
            f"{100 * online['cached_share']:.1f} %",
            f"{100 * online['tokens']['kept_and_recomputed'] / kept:.1f} %" if kept else "-",
            *((online["preemptions"], f"{100 * report['busy_share']:.0f} %")
              if report["simulated"] else ("", ""))])  # a client does not learn of them
    return table(header, rows)


def distribution_table(reports):
    rows = []
    for key, title in DISTRIBUTIONS:
        for name, report in reports:
            numbers = report["online"]["seconds"][key]
            rows.append([title, name] + [seconds_text(numbers[q]) for q in
                                         ("mean", "p50", "p90", "p95", "p99", "max")])
    return table(["", "", "mean", "p50", "p90", "p95", "p99", "max"], rows)


def tenant_table(report, most=50):
    rows = []
    for tenant in sorted(report["tenants"], key=lambda t: -t["online"]["turns"]["done"])[:most]:
        online = tenant["online"]
        rows.append([
            tenant["tenant"], online["turns"]["done"],
            online["turns"]["refused"] + online["turns"]["abandoned"],
            seconds_text(online["seconds"]["ttft"]["p95"]),
            seconds_text(online["seconds"]["e2e"]["p95"]),
            seconds_text(online["seconds"]["job"]["mean"]),
            f"{100 * online['cached_share']:.1f} %", f"{100 * online['good_share']:.1f} %"])
    return table(["tenant", "turns done", "refused", "TTFT p95", "E2E p95", "job mean",
                  "cached prompt", "good"], rows)


def facts(report):
    workload, options = report["workload"], report["options"]
    lines = [
        f"Workload {workload['name']}: {workload['programs']} programs, {workload['turns']} turns of "
        f"{workload['tenants']} tenants (rows kept {workload['rows_kept']} of "
        f"{workload['rows_read']}).",
        *(f"Assumed: {line}" for line in workload["assumptions"]),
        "Options: " + ", ".join(f"{key} {value}" for key, value in options.items()
                                if not isinstance(value, dict) and value is not None) + ".",
        "SLO: " + (", ".join(f"{key} {value} s" for key, value in options["slo_seconds"].items()
                             if value is not None) or "none, so all turns done are good") + ".",
    ]
    if report["simulated"]:
        profile = report["profile"]
        lines.append(f"Steps take what was measured on {profile['binding']['device']}, "
                     f"{profile['binding']['threads']} threads (fit within "
                     f"{100 * profile['fit']['mean_error']:.1f} % in the mean).")
    else:
        lines.append(
            f"Fired at a live server for {seconds_text(report['seconds'])}"
            f"{', cut short' if report['cut_short'] else ''}; turns were sent "
            f"{seconds_text(report['send_delay_seconds']['p99'])} late at the 99th percentile. Errors: "
            + (", ".join(f"{name} {count}" for name, count in report["errors"].items()) or "none")
            + ".")
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
.note { color: #555; }
"""


def notes(reports):
    if any(report["simulated"] for _, report in reports):
        yield ("Simulated: the scheduler and the KV store as they are, on a clock that steps by "
               "measured costs. No model ran.")
    if not all(report["simulated"] for _, report in reports):
        yield ("Replayed: programs fired at a live server by the schedule, times as a client saw "
               "them. Of " + ", ".join(name for name, report in reports if not report["simulated"])
               + ".")


def page(reports):
    parts = [
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<title>Holdfast simulation</title>"
        f"<style>{STYLE}</style></head><body><h1>Holdfast simulation</h1>",
        *(f"<p class=\"note\">{html.escape(note)}</p>" for note in notes(reports)),
        summary(reports),
        "<h2>Times</h2>", distribution_table(reports), plot_distributions(reports),
    ]
    for name, report in reports:
        if report["simulated"]:
            parts += [f"<h2>{html.escape(name)}: KV blocks and sequences over time</h2>",
                      plot_blocks(report)]
        parts += [f"<h2>{html.escape(name)}: service by tenant over time</h2>",
                  plot_fairness(report), tenant_table(report),
                  f"<h2>{html.escape(name)}: what was run</h2>", facts(report)]
    return "\n".join(parts) + "</body></html>\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "holdfast"  # equal reports give equal pages
    reports = []
    for path in arguments.report:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report.get("format") != 1 or "simulated" not in report:
            sys.exit(f"{path}: not a report of holdfast simulate or replay")
        reports.append((path.stem, report))
    arguments.out.write_text(page(reports), encoding="utf-8")


if __name__ == "__main__":
    main()
