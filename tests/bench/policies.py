#!/usr/bin/env python3
"""What the policies for agent programs do to whole jobs, by `holdfast simulate` on agents' traces.

    ./dev bench policies --traces DIR [--only PATTERN] [--loads 0.7,0.9,1.1,1.3] [--out docs]

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
job time  from a program's first arrival to its last token
cached    of all prompt tokens those that were not computed
again     of what a turn keeps of the turn before it, what was computed again
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

POLICIES = ["fcfs_lru", "program_fcfs", "fixed_ttl", "infercept", "plas", "continuum"]
DEFAULT_ORDER = "continuum, product's order"
BASELINES = ["fcfs_lru", "program_fcfs", "fixed_ttl"]
PROFILE = pathlib.Path(__file__).parent / "profiles" / "llama_8b_h100_data_sheet.json"
BLOCK_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    file: str
    kv_blocks: int
    flags: tuple = ()
    is_main: bool = True  # False: nothing is to be gained, only that nothing gets worse is asked


LLAMA = ("--profile", str(PROFILE), "--step-tokens-max", "2048", "--chunk-tokens-max", "2048",
         "--fit-context", "131072")
SMALL = ("--context-tokens", "8192", "--fit-context", "8192")  # the default model on two cores


def first(programs):
    return ("--programs-max", str(programs))


def scaled(scale, *more):
    return SMALL + ("--length-scale", str(scale)) + more


CASES = [
    Case("agent-iso-bench, 1/64", "agent-iso-bench/steps.jsonl.gz", 512, scaled(1 / 64)),
    Case("agent-iso-bench, 1/64, small pool", "agent-iso-bench/steps.jsonl.gz", 272,
         ("--context-tokens", "4352", "--fit-context", "4352", "--length-scale", str(1 / 64))),
    Case("agent-iso-bench slow host, 1/16", "agent-iso-bench/steps_slow_host.jsonl.gz", 1024,
         scaled(1 / 16)),
    Case("agent-swebench-mini, 1/16", "agent-swebench-mini/calls.jsonl.gz", 512, scaled(1 / 16)),
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
]


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
            command = [self.binary, "simulate", "--workload", self.traces / case.file,
                       "--policy", policy, "--order", order, "--seed", str(seed),
                       "--kv-blocks", str(case.kv_blocks), "--threads", "1",
                       "--waiting-max", "1000000", "--out", report, *case.flags]
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


def tokens_in_flight(rows):
    """What the programs in flight would hold, in the mean over the time in which they come."""
    programs = {}
    for row in rows:
        programs.setdefault(row["program"], []).append(row)
    until = max(min(float(row["arrival_s"]) for row in turns) for turns in programs.values())
    total = 0.0
    for turns in programs.values():
        turns.sort(key=lambda row: int(row["turn"]))
        comes = [float(row["arrival_s"]) for row in turns]
        for row, begin, end in zip(turns, comes, comes[1:] + [float(turns[-1]["end_s"])]):
            total += int(row["prompt_tokens"]) * max(0.0, min(end, until) - min(begin, until))
    return total / until if until > 0 else 0.0


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


def measure(simulator, case, loads, seeds):
    policies = POLICIES if case.is_main else ["fcfs_lru", "continuum"]
    capacity_runs = [simulator.submit(case, policy=policy, rate=1e6, want=throughput)
                     for policy in policies]
    capacity = max(run.result()[1] for run in capacity_runs)
    runs = {(load, label, seed): simulator.submit(case, policy=policy, order=order, seed=seed,
                                                  rate=load * capacity, want=tokens_in_flight)
            for load in loads for label, policy, order in variants(case)
            for seed in range(1, seeds + 1)}
    found = {"name": case.name, "file": case.file, "is_main": case.is_main, "seeds": seeds,
             "kv_blocks": case.kv_blocks, "capacity_per_s": capacity, "loads": {}}
    for load in loads:
        of = {}
        for label, _, _ in variants(case):
            rows = []
            for seed in range(1, seeds + 1):
                report, tokens = runs[load, label, seed].result()
                rows.append({**figures(report),
                             "demand": tokens / (case.kv_blocks * BLOCK_TOKENS)})
            of[label] = {**mean_of(rows), "mean_job_s_by_seed": [row["mean_job_s"] for row in rows]}
        found["loads"][f"{load:g}"] = of
        print(table({**found, "loads": {f"{load:g}": of}}), flush=True)
    return found


def seconds(value):
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def worse(of):
    """By how much continuum's mean job time is above the best baseline's."""
    return of["continuum"]["mean_job_s"] / min(of[base]["mean_job_s"] for base in BASELINES) - 1


def table(case):
    out = [f"### {case['name']}", "",
           f"{case['kv_blocks']} blocks, capacity {case['capacity_per_s']:.4g} programs/s, "
           f"{case['seeds']} seeds", "",
           "| load | demand | policy | mean job | fcfs_lru's by it | p95 job | cached | again "
           "| preemptions |",
           "|---|---|---|---|---|---|---|---|---|"]
    for load, of in case["loads"].items():
        base = of["fcfs_lru"]["mean_job_s"]
        for label, row in of.items():
            out.append(
                f"| {load} | {row['demand']:.1f} | {label} | {seconds(row['mean_job_s'])} "
                f"| {base / row['mean_job_s']:.2f} | {seconds(row['p95_job_s'])} "
                f"| {100 * row['cached_share']:.1f} % | {100 * row['recomputed_share']:.1f} % "
                f"| {row['preemptions']:.0f} |")
    return "\n".join(out)


def summary(results):
    out = ["| workload | load | demand, fcfs_lru | continuum | fcfs_lru's mean job by continuum's "
           "| continuum's by the best of fcfs_lru, program_fcfs, fixed_ttl |",
           "|---|---|---|---|---|---|"]
    for case in results:
        for load, of in case["loads"].items():
            gain = of["fcfs_lru"]["mean_job_s"] / of["continuum"]["mean_job_s"]
            out.append(f"| {case['name']} | {load} | {of['fcfs_lru']['demand']:.1f} "
                       f"| {of['continuum']['demand']:.1f} | {gain:.2f} | {100 * worse(of):+.1f} % |")
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
`tests/bench/profiles/llama_8b_h100_data_sheet.json`, derived from data sheets, or the default
model's profile.

"""


def write(results, out):
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "policies.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    terms = __doc__[__doc__.index("capacity  "):].rstrip()
    main_cases = [case for case in results if case["is_main"]]
    text = [HEAD + "```\n" + terms + "\n```", "## Summary", summary(results),
            "![Job time by load](images/policies_job_time.svg)",
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
    parser.add_argument("--loads", default="0.7,0.9,1.1,1.3")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path("build/release/holdfast"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    simulator = Simulator(arguments.binary.resolve(), arguments.traces, arguments.jobs)
    loads = [float(load) for load in arguments.loads.split(",")]
    known = {}
    if arguments.only and (arguments.out / "policies.json").exists():
        known = {case["name"]: case for case in json.loads(
            (arguments.out / "policies.json").read_text(encoding="utf-8"))}
    for case in CASES:
        if arguments.only and not re.search(arguments.only, case.name):
            continue
        try:
            known[case.name] = measure(simulator, case, loads, arguments.seeds)
        except RuntimeError as error:
            simulator.give_up(f"{case.name}: {error}")
        write([known[case.name] for case in CASES if case.name in known], arguments.out)


if __name__ == "__main__":
    main()
