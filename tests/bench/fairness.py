#!/usr/bin/env python3
"""What tenants get beside one another, who is overtaken, what an overload leaves, and what offline
requests cost others: the scheduler and the KV store as they are, on a simulated clock.

    ./dev bench fairness [--traces DIR] [--requests 1000000] [--out docs]

Writes OUT/fairness.md (tables) and OUT/images/fairness.svg (plots). DIR holds the public traces
(DIR/azure2023/code_first30min.csv.gz); without it that part is left out, and said to be.
"""

import argparse
import concurrent.futures
import csv
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# Of the simulated instance: the default profile, and these.
RUNNING, BLOCKS = 64, 2048
SECONDS = 6000  # 3,000 requests at the least load: a p95 is the 150th from the end

CHAT = [(64, 40), (250, 60), (1000, 80)]
# Kinds of requests (prompt, completion), and how many a second half the machine can serve, about.
LOADS = {"chat": (CHAT, 0.9), "short": ([(64, 20)], 5.0), "long": ([(2000, 100)], 0.3)}
ATTACKS = {  # rate a second, turns, further arguments
    "ten times the load": None,
    "pins": (3, ["{prompt: 1500, completion: 5}", "{after: 120, prompt: 10, completion: 5}"],
             ["--retain", "1h"]),
    "long prompts": (0.5, ["{prompt: 8000, completion: 20}"], []),
    "long answers that fill the pool": (3, ["{prompt: 40, completion: 1500}"], []),
    "short prompts": (50, ["{prompt: 64, completion: 10}"], []),
    "cancels of long prompts": (10, ["{prompt: 4000, completion: 100, patience: 1.5}"], []),
    "cancels of short prompts": (60, ["{prompt: 64, completion: 100, patience: 0.5}"], []),
}


class Simulator:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.runs = binary, folder, itertools.count()
        report = self.run([entry("a", 1, 1, ["{prompt: 10}"])])
        self.half_profile = folder / "half.json"
        profile = report["profile"]
        for cost in (key for key in profile if "step" in key):
            if isinstance(profile[cost], dict):
                profile[cost] = {name: 2 * value for name, value in profile[cost].items()}
            else:
                profile[cost] *= 2
        self.half_profile.write_text(json.dumps(profile))

    def run(self, entries=None, arguments=(), settings="", workload=None, turns=False):
        stem = self.folder / f"{next(self.runs)}"
        if workload is None:
            workload = stem.with_suffix(".yaml")
            workload.write_text("programs:\n" + "".join(entries))
        command = [self.binary, "simulate", "--workload", workload, *arguments]
        if settings:
            config = stem.with_suffix(".config.yaml")
            config.write_text("scheduler: {" + settings + "}\n")
            command += ["--config", config]
        if turns:
            command += ["--turns-out", stem.with_suffix(".csv")]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
        report = json.loads(done.stdout)
        if turns:
            report["turns_file"] = stem.with_suffix(".csv")
        return report

    def whole(self, entries, arguments=(), settings=""):
        return self.run(entries, ["--running-max", RUNNING, "--kv-blocks", BLOCKS, *arguments],
                        settings)

    def half(self, entries):
        return self.run(entries, ["--running-max", RUNNING // 2, "--kv-blocks", BLOCKS // 2,
                                  "--profile", self.half_profile])


def entry(tenant, rate, count, turns, offline=False):
    arrivals = f"arrivals: {{process: poisson, rate: {rate:g}}}" if rate else "at: 0"
    lines = [f"  - tenant: {tenant}", f"    {arrivals}", f"    repeat: {max(1, round(count))}"]
    if offline:
        lines.append("    offline: true")
    return "\n".join(lines + ["    turns:"] + [f"      - {turn}" for turn in turns]) + "\n"


def entries_of(tenant, rate, kinds, seconds=SECONDS):
    each = rate / len(kinds)
    return [entry(tenant, each, each * seconds, [f"{{prompt: {p}, completion: {c}}}"])
            for p, c in kinds]


def of(report, tenant, kind="online"):
    return next(one for one in report["tenants"] if one["tenant"] == tenant)[kind]


def p95(part):
    return part["seconds"]["ttft"]["p95"]


# ---- one tenant beside another -------------------------------------------------------------------


def share(simulator, settings, name, part, attack):
    kinds, half_rate = LOADS[name]
    own = entries_of("other", part * half_rate, kinds)
    half = of(simulator.half(own), "other")
    if ATTACKS[attack] is None:
        more = []
        greedy = entries_of("greedy", 10 * part * half_rate, kinds)
    else:
        rate, turns, more = ATTACKS[attack]
        greedy = [entry("greedy", rate, rate * SECONDS, turns)]
    report = simulator.whole(own + greedy, more, settings)
    got, took = of(report, "other"), of(report, "greedy")
    return {"load": name, "part": part, "attack": attack, "half": p95(half), "beside": p95(got),
            "ratio": p95(got) / p95(half), "refused": got["turns"]["refused"],
            "recomputed": got["tokens"]["recomputed_after_preemption"],
            "greedy_refused": took["turns"]["refused"], "busy": report["busy_share"]}


def shares(simulator, settings):
    cells = [(name, part, attack)
             for name in LOADS for part in (0.1, 0.3, 0.6) for attack in ATTACKS]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda cell: share(simulator, settings, *cell), cells))


# ---- overtaking ----------------------------------------------------------------------------------


def overtakings(turns_file, by_program):
    """The most that a turn was overtaken by later ones of its tenant while it waited."""
    import numpy

    tenants = {}
    starts = {}
    with open(turns_file, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["turn"] == "0":
                starts[row["program"]] = float(row["arrival_s"])
            if row["end"] != "done":
                continue
            arrived = float(row["arrival_s"])
            place = starts[row["program"]] if by_program else arrived
            tenants.setdefault((row["tenant"], row["class"]), []).append(
                (int(row["opened"]), float(row["scheduled_s"]), arrived, place))
    most = counted = 0
    for rows in tenants.values():
        opened = numpy.array(sorted(rows))
        scheduled, arrived, place = opened[:, 1], opened[:, 2], opened[:, 3]
        first = numpy.searchsorted(scheduled, arrived)
        for i in range(len(opened)):
            most = max(most, int((place[first[i]:i] > place[i]).sum()))
        counted += len(opened)
    return most, counted


def starvation(simulator, requests):
    kinds = [("hot", 24, "[{run: a, tokens: 512}, 40]"), ("hot", 24, "[{run: b, tokens: 512}, 40]"),
             ("cold", 6, "300"), ("cold", 3, "900"), ("cold", 24, "30")]
    rows = []
    for order in ("remaining_work", "hit_rate"):
        for policy in ("fcfs_lru", "continuum"):
            entries = []
            each = requests / 4 / 3
            total = sum(rate for _, rate, _ in kinds)
            for tenant in ("one", "two", "three"):
                for _, rate, prompt in kinds:
                    entries.append(entry(tenant, rate / 30, 0.9 * each * rate / total,
                                         [f"{{prompt: {prompt}, completion: 4}}"]))
                entries.append(entry(tenant, 0.1, 0.1 * each / 5, [
                    "{prompt: 400, completion: 8, tool: grep}",
                    "{after: 1, prompt: 30, completion: 8, tool: grep, repeat: 4}"]))
            report = simulator.run(entries, ["--running-max", 16, "--kv-blocks", BLOCKS, "--order",
                                             order, "--policy", policy, "--waiting-max", 512],
                                   turns=True)
            most, counted = overtakings(report["turns_file"], policy == "continuum")
            report["turns_file"].unlink()
            rows.append({"order": order, "policy": policy, "turns": counted, "most": most,
                         "busy": report["busy_share"],
                         "waited": report["online"]["seconds"]["queue"]["p95"],
                         "refused": report["online"]["turns"]["refused"]})
    return rows


# ---- bursts --------------------------------------------------------------------------------------


def bursts(simulator, trace):
    machine = ["--running-max", RUNNING, "--kv-blocks", 4096]
    slo = ["--slo-ttft", "30s"]
    everything = simulator.run(workload=trace, arguments=machine + [
        "--rate-scale", 1e6, "--waiting-max", 100000])
    capacity = everything["online"]["turns"]["done"] / everything["seconds_simulated"]
    as_it_is = everything["workload"]["turns"] / 1800
    rows = []
    for name, settings in (("refused by expected wait", "queue_wait_max: 15s"),
                           ("bounded queue alone", "queue_wait_max: 0")):
        for load in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4):
            report = simulator.run(workload=trace, settings=settings, turns=True,
                                   arguments=machine + slo + [
                                       "--rate-scale", load * capacity / as_it_is])
            told = []
            with open(report["turns_file"], newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if row["end"] == "refused":
                        told.append(row["retry_after_s"])
            report["turns_file"].unlink()
            online = report["online"]
            seconds = max(1800 * as_it_is / (load * capacity), 1)
            rows.append({"bound": name, "load": load, "offered": load * capacity,
                         "goodput": online["turns"]["good"] / max(seconds,
                                                                  report["seconds_simulated"]),
                         "refused": online["turns"]["refused"] / report["workload"]["turns"],
                         "without_time": sum(1 for one in told if not one),
                         "ttft_p95": online["seconds"]["ttft"]["p95"],
                         "waiting": max(report["states_over_time"]["waiting"])})
    return capacity, rows


# ---- offline -------------------------------------------------------------------------------------


def offline(simulator):
    batch = [entry("batch", 0, 3000, ["{prompt: 600, completion: 100}"], offline=True)]
    settings = "waiting_max: 8000"
    only = simulator.whole(batch, settings=settings)
    full_rate = of(only, "batch", "offline")["turns"]["done"] / only["seconds_simulated"]
    rows = []
    for rate in (0.2, 0.5, 0.8, 1.1, 1.4):
        online = entries_of("online", rate, CHAT, 1000)
        alone = simulator.whole(online, settings=settings)
        beside = simulator.whole(online + batch, settings=settings)
        # While both were there: by the windows of service.
        service = beside["service_over_time"]
        batch_done = of(beside, "batch", "offline")
        rows.append({"rate": rate, "load": alone["busy_share"], "alone": p95(of(alone, "online")),
                     "beside": p95(of(beside, "online")),
                     "ratio": p95(of(beside, "online")) / p95(of(alone, "online")),
                     "busy": beside["busy_share"],
                     "expected": 3000 / full_rate + alone["busy_share"] *
                     alone["seconds_simulated"],
                     "took": beside["seconds_simulated"],
                     "done": batch_done["turns"]["done"],
                     "windows": len(service["tenants"])})
    return rows


# ---- what is written -----------------------------------------------------------------------------


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def ratio(value, most):
    return f"{value:.2f}" if value <= most else f"**{value:.2f}**"


def shares_table(rows):
    return table(
        ["the other's requests", "of half the machine", "beside", "half alone, p95 TTFT s",
         "beside, p95 TTFT s", "ratio", "refused", "recomputed tokens", "refused of the greedy"],
        [[r["load"], r["part"], r["attack"], f"{r['half']:.2f}", f"{r['beside']:.2f}",
          ratio(r["ratio"], 1.3), r["refused"], r["recomputed"], r["greedy_refused"]]
         for r in rows])


def plot(path, by_pace, burst_rows, offline_rows):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "holdfast"  # the same figures give the same file
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    for pace, rows in by_pace.items():
        worst = [max(r["ratio"] for r in rows if r["load"] == load and r["attack"] == attack)
                 for load in LOADS for attack in ATTACKS]
        axes[0].plot(sorted(worst), range(1, len(worst) + 1), "o-", markersize=3,
                     label=f"step_time_max {pace}")
    axes[0].axvline(1.3, color="#c0504d", linestyle="--", linewidth=1)
    axes[0].set_xlabel("worst p95 TTFT beside a flood / with half the machine")
    axes[0].set_ylabel("kinds of request and flood")
    for name in dict.fromkeys(r["bound"] for r in burst_rows):
        rows = [r for r in burst_rows if r["bound"] == name]
        axes[1].plot([r["load"] for r in rows], [r["goodput"] for r in rows], "o-", label=name)
    axes[1].set_xlabel("offered load / capacity (azure2023 code)")
    axes[1].set_ylabel("goodput, requests a second")
    axes[2].plot([r["load"] for r in offline_rows], [r["ratio"] for r in offline_rows], "o-")
    axes[2].axhline(1.2, color="#c0504d", linestyle="--", linewidth=1)
    axes[2].set_xlabel("online load")
    axes[2].set_ylabel("online p95 TTFT with offline work / alone")
    axes[2].set_ylim(bottom=0)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


TEXT = """# Fairness, measured on a simulated clock

Made by `{command}`: the scheduler and the KV store as they are, steps that take what the default cost
profile says (the default model on two cores, roughly). [scheduler.md](scheduler.md) says by which rules.

![Beside a flood, goodput, offline](images/fairness.svg)

## One tenant beside another of equal weight

The machine has {running} places and {blocks} KV blocks. Half the machine has half the places, half
the blocks, and steps that take twice as long. The greedy tenant floods; the other sends a part of
what half the machine can serve, for {seconds} s. Bold: worse than 1.3 times.

{shares}

## Overtaking

Counted from outside: from arrivals, and from the order in which turns got their first rows. Three tenants,
prompts that are found and such that are not, agents. Under `continuum` a turn stands in line where its
program came. `bypass_max` is 32.

{starvation}

## Overload

{bursts}

## Offline requests

3,000 offline requests of 600 and 100 tokens are there from the start; online chat comes on top. The time that
it should take in all: that of the offline requests alone, and of the online ones' work alone.

{offline}
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=pathlib.Path, help="folder of the public traces")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the overtaking part")
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path("build/release/holdfast"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs"))
    parser.add_argument("--paces", help="prints the table of shares alone, for each step_time_max of a list: 50ms,70ms")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        simulator = Simulator(arguments.binary, pathlib.Path(folder))
        for pace in arguments.paces.split(",") if arguments.paces else ():
            print(f"\n### step_time_max: {pace}\n\n"
                  + shares_table(shares(simulator, f"step_time_max: {pace}")), flush=True)
        if arguments.paces:
            return
        by_pace, share_text = {}, ""
        names = {"100ms": "Steps of about 100 ms while tenants share (the default)",
                 "1h": "Steps as long as they like (`step_time_max: 1h`)"}
        for pace in ("100ms", "1h"):
            by_pace[pace] = shares(simulator, f"step_time_max: {pace}")
            share_text += (f"\n### {names[pace]}\n\n"
                           + shares_table(by_pace[pace]) + "\n")
        print(share_text, flush=True)

        offline_rows = offline(simulator)
        offline_text = table(
            ["online requests a second", "online load", "p95 TTFT alone, s", "with offline work, s",
             "ratio", "busy", "expected time, s", "time, s"],
            [[r["rate"], f"{r['load']:.2f}", f"{r['alone']:.2f}", f"{r['beside']:.2f}",
              ratio(r["ratio"], 1.2), f"{r['busy']:.4f}", f"{r['expected']:.0f}",
              f"{r['took']:.0f}"] for r in offline_rows])
        print(offline_text, flush=True)

        burst_rows = []
        burst_text = "Not measured: needs `--traces DIR` with azure2023/code_first30min.csv.gz."
        if arguments.traces is not None:
            trace = arguments.traces / "azure2023" / "code_first30min.csv.gz"
            if not trace.exists():
                sys.exit(f"{trace}: wanted the trace there, found nothing; leave out --traces to "
                         "measure the rest")
            capacity, burst_rows = bursts(simulator, trace)
            burst_text = (
                f"The azure2023 code trace (up to 327 requests in 10 s), its time scaled to a part of "
                f"the capacity of {capacity:.2f} requests a second, which is what is done when all come "
                "at once. Good is a first token within 30 s; a request that would wait longer than "
                "`queue_wait_max: 15s` is refused, or none is.\n\n" + table(
                    ["bound", "load", "offered a second", "good a second", "refused", "without "
                     "Retry-After", "p95 TTFT s", "waiting at most"],
                    [[r["bound"], r["load"], f"{r['offered']:.2f}", f"{r['goodput']:.3f}",
                      f"{100 * r['refused']:.0f} %", r["without_time"], f"{r['ttft_p95']:.1f}",
                      r["waiting"]] for r in burst_rows]))
        print(burst_text, flush=True)

        starved = starvation(simulator, arguments.requests)
        starvation_text = table(
            ["order", "policy", "turns", "overtaken at most", "waited, p95 s", "busy"],
            [[r["order"], r["policy"], r["turns"], r["most"], f"{r['waited']:.0f}",
              f"{r['busy']:.2f}"] for r in starved])
        print(starvation_text, flush=True)

    (arguments.out / "images").mkdir(parents=True, exist_ok=True)
    command = "./dev bench fairness" + (" --traces DIR" if arguments.traces else "")
    (arguments.out / "fairness.md").write_text(TEXT.format(
        command=command, running=RUNNING, blocks=BLOCKS, seconds=SECONDS, shares=share_text.strip(),
        starvation=starvation_text, bursts=burst_text, offline=offline_text))
    plot(arguments.out / "images" / "fairness.svg", by_pace, burst_rows, offline_rows)


if __name__ == "__main__":
    main()
