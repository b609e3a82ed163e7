#!/usr/bin/env python3
"""Hit ratios of the KV store on traces: LRU, cost-aware, an order that knows the future, and a store
that never evicts.

    ./dev bench hit-ratio --trace FILE... [--gib 1,4,16] [--bytes-per-token 23040] [--out docs]

Writes OUT/eviction_hit_ratio.md (table), OUT/images/eviction_hit_ratio.svg (plot) and
OUT/eviction_hit_ratio.json (every figure, also by half of the trace). The kind of a trace is told
by its first line:

  Mooncake     {"timestamp": ms, "input_length": n, "hash_ids": [one id per 512 tokens, chained]}
               The last id of a prompt stands for what is left of its length.
  agent calls  {"session": ..., "start_s": s, "calls": [[t, prompt_tokens, cached, ...], ...]}
               Numbers only, so contents are supposed: all sessions begin with the same
               --system-tokens tokens; a call whose prompt is longer than the one before it
               continues it; one whose prompt is shorter begins anew after the common beginning.
"""

import argparse
import concurrent.futures
import gzip
import json
import os
import pathlib
import subprocess
import sys

POLICIES = [("lru", "LRU"), ("cost-aware", "cost-aware")]
BOUND = "clairvoyant"
MOONCAKE_BLOCK = 512
# Contents of agent sessions are numbered session * AGENT_STRIDE + restart, from 1 on; 0 is common.
AGENT_STRIDE = 1 << 20


def read_lines(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def mooncake_requests(rows):
    for row in rows:
        left = row["input_length"]
        runs = []
        for block in row["hash_ids"]:
            runs.append((block, min(left, MOONCAKE_BLOCK)))
            left -= MOONCAKE_BLOCK
        yield row["timestamp"] * 1000, runs


def agent_requests(rows, system_tokens):
    requests = []
    for number, row in enumerate(rows):
        restarts, before = 0, 0
        for call in row["calls"]:
            seconds, prompt_tokens = row["start_s"] + call[0], call[1]
            if prompt_tokens < before:
                restarts += 1
            before = prompt_tokens
            common = min(system_tokens, prompt_tokens)
            content = 1 + number * AGENT_STRIDE + restarts
            requests.append(
                (int(seconds * 1e6), [(0, common), (content, prompt_tokens - common)])
            )
    requests.sort(key=lambda request: request[0])  # stable: sessions in their order
    return requests


def to_lines(path, system_tokens):
    rows = read_lines(path)
    if rows and "hash_ids" in rows[0]:
        requests = mooncake_requests(rows)
    elif rows and "calls" in rows[0]:
        requests = agent_requests(rows, system_tokens)
    else:
        sys.exit(f"{path}: neither a Mooncake trace (hash_ids) nor agent calls (calls)")
    return "".join(
        f"{micros} " + " ".join(f"{content}:{tokens}" for content, tokens in runs if tokens) + "\n"
        for micros, runs in requests
    )


def name_of(path):
    stem = path.name.split(".")[0]
    return f"{path.resolve().parent.name}/{stem}"


def measure(arguments, lines, policy):
    command = [
        str(arguments.binary),
        f"--policies={policy}",
        f"--gib={arguments.gib}",
        f"--bytes_per_token={arguments.bytes_per_token}",
        f"--flop_per_token={arguments.flop_per_token}",
        f"--flop_per_position={arguments.flop_per_position}",
        f"--half_life_s={arguments.half_life_s}",
    ]
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def percent(value):
    return f"{100 * value:.2f} %"


def table(results):
    out = ["| trace | store | tokens found: LRU | cost-aware | clairvoyant | infinite "
           "| compute saved: LRU | cost-aware | clairvoyant | infinite |",
           "|---|---|---|---|---|---|---|---|---|---|"]
    for trace in results:
        infinite = trace["infinite"]["all"]
        for gib, of in trace["sizes"].items():
            lru, aware = of["lru"]["all"], of["cost-aware"]["all"]
            cells = [trace["name"], f"{gib} GiB"]
            for key in ("hit", "saved_compute"):
                best = max(lru[key], aware[key])
                for one in (lru, aware):
                    cell = percent(one[key])
                    cells.append(f"**{cell}**" if one[key] == best else cell)
                cells += [percent(of[BOUND]["all"][key]), percent(infinite[key])]
            out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def halves_table(results):
    out = ["| trace | store | first half, tokens: LRU | cost-aware | compute: LRU | cost-aware "
           "| second half, tokens: LRU | cost-aware | compute: LRU | cost-aware |",
           "|---|---|---|---|---|---|---|---|---|---|"]
    for trace in results:
        for gib, of in trace["sizes"].items():
            cells = [trace["name"], f"{gib} GiB"]
            for half in ("first_half", "second_half"):
                for key in ("hit", "saved_compute"):
                    cells += [percent(of[policy][half][key]) for policy, _ in POLICIES]
            out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def plot(results, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "holdfast"  # the same figures give the same file
    import matplotlib.pyplot as plt

    colours = {"lru": "#9a9a9a", "cost-aware": "#1f6f8b"}
    figure, axes = plt.subplots(2, len(results), figsize=(3.6 * len(results), 5.6), squeeze=False)
    for column, trace in enumerate(results):
        sizes = list(trace["sizes"])
        for row, (key, label) in enumerate(
            (("hit", "prompt tokens found"), ("saved_compute", "prefill compute saved"))
        ):
            axis = axes[row][column]
            for shift, (policy, title) in enumerate(POLICIES):
                values = [100 * trace["sizes"][size][policy]["all"][key] for size in sizes]
                places = [i + 0.38 * (shift - 0.5) for i in range(len(sizes))]
                bars = axis.bar(places, values, 0.36, color=colours[policy], label=title)
                axis.bar_label(bars, fmt="%.1f", fontsize=7)
            bounds = [100 * trace["sizes"][size][BOUND]["all"][key] for size in sizes]
            axis.plot(range(len(sizes)), bounds, "_", color="#303030", markersize=26,
                      markeredgewidth=1.2, label="clairvoyant")
            axis.axhline(100 * trace["infinite"]["all"][key], color="#c0504d", linestyle="--",
                         linewidth=1, label="infinite")
            axis.set_xticks(range(len(sizes)), [f"{size} GiB" for size in sizes])
            axis.set_ylabel(f"{label}, %")
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(trace["name"], fontsize=9)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", nargs="+", required=True, type=pathlib.Path)
    parser.add_argument("--gib", default="1,4,16", help="sizes of the store")
    parser.add_argument("--bytes-per-token", type=float, default=23040,
                        help="KV of one token; 23040: the default model in f16")
    parser.add_argument("--flop-per-token", type=float, default=2 * 106.2e6)
    parser.add_argument("--flop-per-position", type=float, default=4 * 30 * 9 * 64)
    parser.add_argument("--half-life-s", type=float, default=1800)
    parser.add_argument("--system-tokens", type=int, default=1024,
                        help="common beginning of all agent sessions")
    parser.add_argument("--binary", type=pathlib.Path,
                        default=pathlib.Path("build/release/tests/bench/bench_hit_ratio"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    results = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        runs = []
        for path in arguments.trace:
            lines = to_lines(path, arguments.system_tokens)
            policies = [policy for policy, _ in POLICIES] + [BOUND, "infinite"]
            runs.append((path, {p: pool.submit(measure, arguments, lines, p) for p in policies}))
        for path, by_policy in runs:
            found = {"name": name_of(path), "sizes": {}}
            for policy in [policy for policy, _ in POLICIES] + [BOUND]:
                for row in by_policy[policy].result():
                    found["sizes"].setdefault(f"{row['gib']:g}", {})[policy] = row
            found["infinite"] = by_policy["infinite"].result()[0]
            results.append(found)
            print(table([found]), flush=True)

    (arguments.out / "images").mkdir(parents=True, exist_ok=True)
    for trace in results:  # how long it took is no result
        for row in [trace["infinite"]] + [r for of in trace["sizes"].values() for r in of.values()]:
            row.pop("seconds")
    settings = {key: getattr(arguments, key) for key in
                ("bytes_per_token", "flop_per_token", "flop_per_position", "half_life_s",
                 "system_tokens")}
    (arguments.out / "eviction_hit_ratio.json").write_text(
        json.dumps({"settings": settings, "traces": results}, indent=1) + "\n")
    (arguments.out / "eviction_hit_ratio.md").write_text(
        "# Hit ratios by eviction policy\n\nMade by `./dev bench hit-ratio`; eviction.md says what "
        "it means. Better of the two in bold.\n\n"
        + table(results) + "\n\nBy half of the trace's requests:\n\n" + halves_table(results) + "\n")
    plot(results, arguments.out / "images" / "eviction_hit_ratio.svg")


if __name__ == "__main__":
    main()
