#!/usr/bin/env python3
"""What the policies for agent programs do to whole jobs, by `holdfast simulate` on agents' traces.

    ./dev bench policies --traces DIR [--only PATTERN] [--loads 0.5,0.9] [--seeds N]
                         [--seeds-max N] [--out docs]

DIR has the public traces under the names that CASES gives. Writes OUT/policies.md (tables),
OUT/policies.json (every figure) and OUT/images/policies_job_time.svg. All of it is simulated: the
scheduler and the KV store are the daemon's own, steps take what a cost profile says.

capacity  the best rate of programs that any policy reaches when all of them are there from the
          beginning: programs times 3/4 by the time at which 3/4 of the turns are done
load      the rate at which programs come (Poisson, by seed), by capacity
demand    the KV that the programs in flight would hold if there were room for it, by the KV pool:
          of each program, from its arrival to its end, the prompt of its latest turn; the mean over
          the time in which programs come. The longer jobs take the more of them are in flight, so
          that each policy has its own; the tables give that of fcfs_lru and that of continuum
job time  from a program's first arrival to its last token; the lowest and the highest of the seeds'
          means behind it
cached    of all prompt tokens those that were not computed
again     of what a turn keeps of the turn before it, what was computed again
tools     the waits between a program's turns: their median, and the share that is over in 2 s
+-        the standard error, over seeds, of continuum's mean job time by the other's of that seed
seeds     8 of the first four workloads and 4 of others, or as --seeds says. Where the bound of +3 %
          lies within two standard errors of continuum's mean job time by the best of fcfs_lru,
          program_fcfs and fixed_ttl, on whichever side, as many again are run, until it no longer
          does or there are 24 (--seeds-max). One alone has no spread and gets no more
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile

POLICIES = ["fcfs_lru", "program_fcfs", "fixed_ttl", "infercept", "plas", "continuum"]
DEFAULT_ORDER = "continuum, product's order"
BASELINES = ["fcfs_lru", "program_fcfs", "fixed_ttl"]
PROFILE = pathlib.Path(__file__).parent / "profiles" / "llama_8b_h100_data_sheet.json"
BLOCK_TOKENS = 16
BOUND = 0.03  # continuum's mean job above the best baseline's
ERRORS_CLEAR = 2  # standard errors between a cell and the bound that tell it from it


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    file: str
    kv_blocks: int
    flags: tuple = ()
    is_main: bool = True  # False: nothing is to be gained, only that nothing gets worse is asked
    toy: tuple = ()  # not of a file, but drawn: median and sigma of its tools, prefill tokens/s


LLAMA = ("--profile", str(PROFILE), "--step-tokens-max", "2048", "--chunk-tokens-max", "2048",
         "--fit-context", "131072")
SMALL = ("--context-tokens", "8192", "--fit-context", "8192")  # the default model on two cores


def first(programs):
    return ("--programs-max", str(programs))


def scaled(scale, *more):
    return SMALL + ("--length-scale", str(scale)) + more


def toy(name, *shape):
    """Of the profiles that continuum.md's C4 names; tests/sim/toy_agents.h has the same machine."""
    return Case(f"toy, {name}", "", 60_000 // BLOCK_TOKENS,
                ("--step-tokens-max", "2048", "--chunk-tokens-max", "2048",
                 "--context-tokens", "32768", "--fit-context", "32768"), False, shape)


CASES = [
    Case("agent-iso-bench, 1/64", "agent-iso-bench/steps.jsonl.gz", 512, scaled(1 / 64)),
    Case("agent-iso-bench, 1/64, small pool", "agent-iso-bench/steps.jsonl.gz", 160,
         ("--context-tokens", "2560", "--fit-context", "2560", "--length-scale", str(1 / 64))),
    Case("agent-iso-bench slow host, 1/16", "agent-iso-bench/steps_slow_host.jsonl.gz", 1024,
         scaled(1 / 16)),
    Case("agent-swebench-mini, 1/16", "agent-swebench-mini/calls.jsonl.gz", 1280, scaled(1 / 16)),
    Case("agent-iso-bench, Llama", "agent-iso-bench/steps.jsonl.gz", 16_000, LLAMA + first(60),
         False),
    Case("agent-iso-bench slow host, Llama", "agent-iso-bench/steps_slow_host.jsonl.gz", 14_000,
         LLAMA, False),
    Case("agent-swebench-mini, Llama", "agent-swebench-mini/calls.jsonl.gz", 8_192,
         LLAMA + first(60), False),
    Case("agent-tau2 airline, 1/2", "agent-tau2/airline.jsonl.gz", 512, scaled(1 / 2), False),
    Case("agent-tau2 retail, 1/2", "agent-tau2/retail.jsonl.gz", 512, scaled(1 / 2), False),
    Case("agent-tau2 telecom, 1/2", "agent-tau2/telecom.jsonl.gz", 512, scaled(1 / 2), False),
    Case("agent-exgentic, 1/16", "agent-exgentic/calls.jsonl.gz", 512, scaled(1 / 16), False),
    Case("agent-magentic, 1/4", "agent-magentic/calls.jsonl.xz", 512, scaled(1 / 4), False),
    Case("agent-openhands, 1/8", "agent-openhands/events.jsonl.gz", 320,
         ("--context-tokens", "4608", "--fit-context", "4608", "--length-scale", str(1 / 8)),
         False),
    Case("burstgpt3, 1/4", "burstgpt3/chat_sessions.csv", 512, scaled(1 / 4), False),
    Case("mooncake conversation, 1/16", "mooncake/conversation_first.jsonl.gz", 1024,
         scaled(1 / 16, *first(500)), False),
    Case("mooncake synthetic, 1/16", "mooncake/synthetic_first.jsonl.gz", 1024,
         scaled(1 / 16, *first(500)), False),
    Case("azure2023 code, 1/2", "azure2023/code_first30min.csv.gz", 1024,
         scaled(1 / 2, *first(500)), False),
    Case("azure2023 conv, 1/4", "azure2023/conv_first30min.csv.gz", 1024,
         scaled(1 / 4, *first(300)), False),
    Case("rtp-online, 1/16", "rtp-online/first420s.jsonl.gz", 1024, scaled(1 / 16, *first(300)),
         False),
    Case("servegen, 1/4", "servegen/m-small_day2.jsonl.gz", 1024,
         scaled(1 / 4, "--rate-scale", "0.0001", *first(300)), False),
    toy("tools 0.35 s, sigma 1.2; prefill 12,000/s", 0.35, 1.2, 12_000),
    toy("tools 0.25 s, sigma 1.6; prefill 3,000/s", 0.25, 1.6, 3_000),
    toy("tools 1.3 s, sigma 0.9; prefill 3,000/s", 1.3, 0.9, 3_000),
    toy("tools 1.3 s, sigma 0.9; prefill 12,000/s", 1.3, 0.9, 12_000),
    toy("tools 4 s, sigma 1.0; prefill 3,000/s", 4, 1.0, 3_000),
]


def toy_files(folder, shape, seed):
    """Sixty programs of some eleven turns that grow from 3,000 to 10,000 tokens, and the costs."""
    median, sigma, prefill = shape
    drawn = random.Random(seed)

    def around(mean):
        return round(mean * drawn.uniform(0.5, 1.5))

    workload, profile = folder / "toy.jsonl", folder / "toy_profile.json"
    with workload.open("w", encoding="utf-8") as file:
        for i in range(60):
            steps, prompt = [], 0
            for turn in range(drawn.randint(6, 16)):
                prompt += around(600 if turn else 3_000)
                output = max(around(60), 1)
                steps.append({"prompt_tokens": prompt, "output_tokens": output, "cmd": ["tool"],
                              "tool_s": median * drawn.lognormvariate(0, sigma)})
                prompt += output
            file.write(json.dumps({"session": f"p{i}", "start_s": i, "steps": steps}) + "\n")
    costs = json.loads(PROFILE.read_text(encoding="utf-8"))
    costs["step_seconds"] = {key: [] if key == "batch" else 0 for key in costs["step_seconds"]}
    costs["step_seconds"].update(step=20e-3, prefill_row=1 / prefill)
    costs["between_steps_seconds"] = 0
    profile.write_text(json.dumps(costs), encoding="utf-8")
    return workload, ("--profile", profile)


class Simulator:
    def __init__(self, binary, traces, jobs):
        self.binary, self.traces = binary, traces
        self.pool = concurrent.futures.ThreadPoolExecutor(jobs)

    def give_up(self, why):
        self.pool.shutdown(cancel_futures=True)
        sys.exit(why)

    def submit(self, case, **settings):
        return self.pool.submit(self.run, case, **settings)

    def run(self, case, policy, order="arrival", rate=None, seed=1, want=None):
        """The report, and of `want` what it makes of the turns' rows."""
        with tempfile.TemporaryDirectory() as scratch:
            report, turns = pathlib.Path(scratch, "report"), pathlib.Path(scratch, "turns")
            workload, flags = self.traces / case.file, case.flags
            if case.toy:
                workload, more = toy_files(pathlib.Path(scratch), case.toy, seed)
                flags += more
            command = [self.binary, "simulate", "--workload", workload,
                       "--policy", policy, "--order", order, "--seed", str(seed),
                       "--kv-blocks", str(case.kv_blocks), "--threads", "1",
                       "--waiting-max", "1000000", "--out", report, *flags]
            if rate is not None:
                command += ["--arrival-rate", f"{rate:.9g}"]
            if want is not None:
                command += ["--turns-out", turns]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")
            made = None
            if want is not None:
                with turns.open(encoding="utf-8") as file:
                    made = want(list(csv.DictReader(file)))
            return json.loads(report.read_text(encoding="utf-8")), made


def throughput(rows):
    """Programs per second until 3/4 of the turns are done."""
    ends = sorted(float(row["end_s"]) for row in rows)
    programs = len({row["program"] for row in rows})
    return 0.75 * programs / ends[len(ends) * 3 // 4 - 1]


def in_flight_and_waits(rows):
    """What the programs in flight would hold, in the mean over the time in which they come; and the
    waits between turns."""
    programs = {}
    for row in rows:
        programs.setdefault(row["program"], []).append(row)
    until = max(min(float(row["arrival_s"]) for row in turns) for turns in programs.values())
    total, waits = 0.0, []
    for turns in programs.values():
        turns.sort(key=lambda row: int(row["turn"]))
        comes = [float(row["arrival_s"]) for row in turns]
        for row, begin, end in zip(turns, comes, comes[1:] + [float(turns[-1]["end_s"])]):
            total += int(row["prompt_tokens"]) * max(0.0, min(end, until) - min(begin, until))
        waits += [begin - float(row["end_s"]) for row, begin in zip(turns, comes[1:])]
    return total / until if until > 0 else 0.0, waits


def figures(report):
    online = report["online"]
    tokens, job = online["tokens"], online["seconds"]["job"]
    if online["programs"]["cut"] > 0:
        raise RuntimeError(f"{online['programs']['cut']} programs were cut")
    return {
        "mean_job_s": job["mean"], "p95_job_s": job["p95"],
        "mean_ttft_s": online["seconds"]["ttft"]["mean"],
        "cached_share": online["cached_share"],
        "recomputed_share": tokens["kept_and_recomputed"] / max(tokens["kept_of_turns_before"], 1),
        "preemptions": online["preemptions"], "busy_share": report["busy_share"],
    }


def mean_of(rows):
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def variants(case):
    policies = POLICIES if case.is_main else BASELINES + ["continuum"]
    return [(policy, policy, "arrival") for policy in policies] + [
        (DEFAULT_ORDER, "continuum", "remaining_work")]


def submit_cell(simulator, case, rate, seeds):
    return {label: [simulator.submit(case, policy=policy, order=order, seed=seed, rate=rate,
                                     want=in_flight_and_waits) for seed in seeds]
            for label, policy, order in variants(case)}


def add_rows(rows, case, runs):
    """Of each variant and seed; returns the waits of the last run."""
    waits = []
    for label, of_label in runs.items():
        for run in of_label:
            report, (tokens, waits) = run.result()
            rows.setdefault(label, []).append(
                {**figures(report), "demand": tokens / (case.kv_blocks * BLOCK_TOKENS)})
    return waits


def cell_of(rows):
    return {label: {**mean_of(of), "mean_job_s_by_seed": [row["mean_job_s"] for row in of]}
            for label, of in rows.items()}


def is_undecided(of):
    """Too near the bound to tell on which side the cell is."""
    ratio, error = beside(of, best_baseline(of))
    return abs(ratio - BOUND) < ERRORS_CLEAR * error


def measure(simulator, case, loads, seeds, seeds_max):
    policies = POLICIES if case.is_main else ["fcfs_lru", "continuum"]
    capacity_runs = [simulator.submit(case, policy=policy, rate=1e6, want=throughput)
                     for policy in policies]
    capacity = max(run.result()[1] for run in capacity_runs)
    found = {"name": case.name, "file": case.file, "is_main": case.is_main,
             "kv_blocks": case.kv_blocks, "capacity_per_s": capacity, "loads": {}}
    runs = {load: submit_cell(simulator, case, load * capacity, range(1, seeds + 1))
            for load in loads}
    for load in loads:
        rows, done = {}, seeds
        waits = add_rows(rows, case, runs[load])
        while is_undecided(cell_of(rows)) and done < seeds_max:
            more = range(done + 1, min(done + seeds, seeds_max) + 1)
            waits = add_rows(rows, case, submit_cell(simulator, case, load * capacity, more))
            done = more[-1]
        of = cell_of(rows)
        found["tool_median_s"] = statistics.median(waits) if waits else None
        found["tools_within_2s"] = sum(wait <= 2 for wait in waits) / max(len(waits), 1)
        found["loads"][f"{load:g}"] = of
        print(table({**found, "loads": {f"{load:g}": of}}), flush=True)
    return found


def seconds(value):
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def beside(of, other):
    """Continuum's mean job time by the other's, less 1, and the standard error over seeds."""
    ours, theirs = of["continuum"], of[other]
    by_seed = [a / b for a, b in zip(ours["mean_job_s_by_seed"], theirs["mean_job_s_by_seed"])]
    error = statistics.stdev(by_seed) / len(by_seed) ** 0.5 if len(by_seed) > 1 else 0.0
    return ours["mean_job_s"] / theirs["mean_job_s"] - 1, error


def best_baseline(of):
    return min(BASELINES, key=lambda base: of[base]["mean_job_s"])


def num_seeds(of):
    return len(of["continuum"]["mean_job_s_by_seed"])


def percent(ratio, error):
    return f"{100 * ratio:+.1f} % +- {100 * error:.1f}"


def table(case):
    out = [f"### {case['name']}", "",
           f"{case['kv_blocks']} blocks, capacity {case['capacity_per_s']:.4g} programs/s", "",
           "| load | seeds | demand | policy | mean job (by seed) | fcfs_lru's by it | p95 job "
           "| cached | again | preemptions |",
           "|---|---|---|---|---|---|---|---|---|---|"]
    for load, of in case["loads"].items():
        base = of["fcfs_lru"]["mean_job_s"]
        for label, row in of.items():
            lowest, highest = min(row["mean_job_s_by_seed"]), max(row["mean_job_s_by_seed"])
            out.append(
                f"| {load} | {num_seeds(of)} | {row['demand']:.1f} | {label} "
                f"| {seconds(row['mean_job_s'])} ({lowest:.3g}-{highest:.3g}) "
                f"| {base / row['mean_job_s']:.2f} | {seconds(row['p95_job_s'])} "
                f"| {100 * row['cached_share']:.1f} % | {100 * row['recomputed_share']:.1f} % "
                f"| {row['preemptions']:.0f} |")
    return "\n".join(out)


def summary(results):
    out = ["| workload | load | demand, fcfs_lru | continuum | fcfs_lru's mean job by continuum's "
           "| continuum's by the best of fcfs_lru, program_fcfs, fixed_ttl | seeds |",
           "|---|---|---|---|---|---|---|"]
    for case in results:
        for load, of in case["loads"].items():
            gain = of["fcfs_lru"]["mean_job_s"] / of["continuum"]["mean_job_s"]
            out.append(f"| {case['name']} | {load} | {of['fcfs_lru']['demand']:.1f} "
                       f"| {of['continuum']['demand']:.1f} | {gain:.2f} "
                       f"| {percent(*beside(of, best_baseline(of)))} | {num_seeds(of)} |")
    return "\n".join(out)


def c4(results):
    """What C4 of continuum.md asks at loads of 1 and more, cell by cell."""
    out = ["| workload | load | tools: median, within 2 s | program_fcfs by fcfs_lru "
           "| continuum by program_fcfs | by fcfs_lru (asked: 0.75) | by fixed_ttl |",
           "|---|---|---|---|---|---|---|"]
    for case in results:
        if not case["name"].startswith(("agent", "toy")):
            continue
        tools = f"{case['tool_median_s']:.2g} s, {100 * case['tools_within_2s']:.0f} %"
        for load, of in case["loads"].items():
            if float(load) < 1:
                continue
            mean = {label: row["mean_job_s"] for label, row in of.items()}
            out.append(
                f"| {case['name']} | {load} | {tools} "
                f"| {mean['program_fcfs'] / mean['fcfs_lru']:.2f} "
                f"| {mean['continuum'] / mean['program_fcfs']:.2f} "
                f"| {mean['continuum'] / mean['fcfs_lru']:.2f} "
                f"| {percent(*beside(of, 'fixed_ttl'))} |")
    return "\n".join(out)


def plot(results, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "holdfast"  # the same figures give the same file
    import matplotlib.pyplot as plt

    colours = {"fcfs_lru": "#9a9a9a", "program_fcfs": "#c9a227", "fixed_ttl": "#7a5195",
               "infercept": "#3b8e5a", "plas": "#c0504d", "continuum": "#1f6f8b",
               DEFAULT_ORDER: "#1f6f8b"}
    figure, axes = plt.subplots(2, len(results), figsize=(4.2 * len(results), 6.4), squeeze=False)
    for column, case in enumerate(results):
        loads = list(case["loads"])
        for row, (key, name) in enumerate((("mean_job_s", "mean"), ("p95_job_s", "p95"))):
            axis = axes[row][column]
            for label in case["loads"][loads[0]]:
                axis.plot([float(load) for load in loads],
                          [case["loads"][load][label][key] for load in loads],
                          "o--" if label == DEFAULT_ORDER else "o-", color=colours[label],
                          label=label, linewidth=1.3, markersize=3.5)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("load")
            axis.set_ylabel(f"{name} job time, s (simulated)")
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(case["name"], fontsize=9)
    axes[0][0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


HEAD = """# Policies for agent programs on agents' traces (simulated)

Made by `./dev bench policies`; scheduler.md says what it means. Nothing here was measured on a
device: the scheduler and the KV store are the daemon's own, what steps take is
`tests/bench/profiles/llama_8b_h100_data_sheet.json`, derived from data sheets, for the workloads
named Llama, the toy's own (20 ms a step and what its prefill takes), or the default model's profile.

"""

C4_TEXT = """C4 of Continuum's tests asks, at loads of 1 and more: program_fcfs no slower than fcfs_lru,
continuum no slower than program_fcfs and at most 0.75 of fcfs_lru; beside fixed_ttl it asks nothing
but where tools are slow and prefill too. `tests/sim/policies_test.cc` gates that on toys. Here is
every cell, of the traces and of the toy's five profiles, reported and not gated.
"""


BLUNT = """
Where nine in ten calls are over within two seconds (`agent-iso-bench`, `agent-openhands`,
`agent-tau2 airline`) there is nothing to be learnt that two seconds do not give: continuum keeps
those calls' KV for two seconds too. What is left is the few long calls (`python`, 4.5 s in the
mean): fixed_ttl never keeps their KV, continuum does for those that are worth it in the mean. That
wins where there is room and costs a few percent where memory is shortest (the small pool at 1.3).
Where calls are longer or their lengths mixed, two seconds hold memory in vain or end too early, and
continuum is ahead by 10 to 80 %.
"""


def write(results, out):
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "policies.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    terms = __doc__[__doc__.index("capacity  "):].rstrip()
    main_cases = [case for case in results if case["is_main"]]
    text = [HEAD + "```\n" + terms + "\n```", "## Summary", summary(results),
            "![Job time by load](images/policies_job_time.svg)",
            "## Where a pin of two seconds is as good", C4_TEXT.rstrip(), c4(results), BLUNT.strip(),
            "## Every figure"] + [table(case) for case in results]
    (out / "policies.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    if main_cases:
        plot(main_cases, out / "images" / "policies_job_time.svg")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", required=True, type=pathlib.Path)
    parser.add_argument("--only", help="cases whose names match this pattern; of the others the "
                                       "figures that OUT has stay")
    parser.add_argument("--loads", help="else 0.5 to 1.3 of the main cases, 0.9 and 1.2 of others")
    parser.add_argument("--seeds", type=int, help="at first; else 8 of the main cases, 4 of others")
    parser.add_argument("--seeds-max", type=int, default=24,
                        help="where fewer do not tell a cell from the bound")
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path("build/release/holdfast"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    simulator = Simulator(arguments.binary.resolve(), arguments.traces, arguments.jobs)
    known = {}
    if arguments.only and (arguments.out / "policies.json").exists():
        known = {case["name"]: case for case in json.loads(
            (arguments.out / "policies.json").read_text(encoding="utf-8"))}
    for case in CASES:
        if arguments.only and not re.search(arguments.only, case.name):
            continue
        loads = arguments.loads or ("0.5,0.7,0.9,1.1,1.3" if case.is_main else "0.9,1.2")
        loads = [float(load) for load in loads.split(",")]
        seeds = arguments.seeds or (8 if case.is_main else 4)
        try:
            known[case.name] = measure(simulator, case, loads, seeds, arguments.seeds_max)
        except RuntimeError as error:
            simulator.give_up(f"{case.name}: {error}")
        write([known[case.name] for case in CASES if case.name in known], arguments.out)


if __name__ == "__main__":
    main()
