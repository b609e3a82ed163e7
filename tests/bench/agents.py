"""What keeping agents' KV is worth on the real engine: the same programs fired at two daemons with the
default model that differ in their policy alone (continuum.md's run C5).

    ./dev bench agents [--seeds 1,2,3] [--policies fcfs_lru,continuum] [--keep DIR]

Programs of 3 to 8 turns: a first prompt of 400 to 700 tokens, then 60 to 120 more and 24 generated
tokens a turn; tools take 0.3 s in the middle (lognormal), one in twenty 8 s. Prints mean and p95 job time
and the prompt tokens that had been computed for the turn before and were computed again, and exits 1 if
continuum's mean job time is above 0.85 of fcfs_lru's or its recomputed tokens above 0.4 of them.

How many programs start a second is looked for on this machine: as many as keep the engine as busy as BUSY
with fcfs_lru, by a cost profile measured at the start. How many there are and for how many there is room
follows, so that a fast machine has more of both, not more idle time.

Before what is measured both arms serve the same warm-up: --warm-up-turns short turns with the same tools, of
programs that are over then. A daemon that has just started knows neither what prefills cost here nor
how long tools take, and the first minutes of its life are not what is measured.

With --keep the runs stay in DIR, and those that lie there already are counted in, at the rate that was
found for the first of them. --simulate PROFILE runs all on the simulator instead.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from busy_load import holdfast, load_for, measure_profile, remembered  # noqa: E402
from daemon import Daemon  # noqa: E402
from foreign_time import ForeignTime  # noqa: E402

JOB_BOUND, RECOMPUTED_BOUND = 0.85, 0.40
BUSY = 0.88  # the share of the time that fcfs_lru keeps the engine busy
TRIAL_SEEDS = (1, 2, 3)  # by whose programs the rate is looked for
COMPLETION = 24
FOREIGN_MAX = 0.03  # of the processors; a run beside others is no measurement
BLOCK_BYTES, BLOCK_TOKENS = 368640, 16
PROGRAM_TOKENS = 1100  # of a program at its end, in the mean
CONTEXT_TOKENS = 2048


class Load(typing.NamedTuple):
    rate: float  # programs per second
    programs: int
    room: float  # for the KV of so many programs


def load_at(rate, args):
    """By default programs start for 20 s, and there is room for those of 4 s."""
    return Load(rate, args.programs or max(12, round(20 * rate)),
                args.kv_programs or max(4.0, 4 * rate))


def tool_seconds(rng, sigma=0.8):
    return 8.0 if rng.random() < 0.05 else 0.3 * rng.lognormvariate(0, sigma)


def warm_up(rng, turns):
    """Programs of five turns each, a few at a time; when the last one starts."""
    programs, at = [], 0.0
    for number in range(-(-turns // 5)):
        first = 64 if number % 4 else 768  # what long prefills cost is to be known too
        program = [{"prompt": first, "completion": 2, "tool": "tool"}]
        for _ in range(4):
            program.append({"after": round(min(tool_seconds(rng), 8.0), 4), "prompt": 16,
                            "completion": 2, "tool": "tool"})
        programs.append({"at": round(at, 4), "session": f"warm-up {number}", "turns": program})
        at += 0.35
    return programs, at


def agents(rng, begin, load):
    programs, at = [], begin
    for number in range(load.programs):
        at += rng.expovariate(load.rate)
        turns = [{"prompt": rng.randint(400, 700), "completion": COMPLETION, "tool": "tool"}]
        for _ in range(rng.randint(3, 8) - 1):
            turns.append({"after": round(tool_seconds(rng), 4), "prompt": rng.randint(60, 120),
                          "completion": COMPLETION, "tool": "tool"})
        del turns[-1]["tool"]
        programs.append({"at": round(at, 4), "session": f"agent {number}", "turns": turns})
    return programs


def yaml_of(programs):
    return "name: agents\nprograms:\n" + "".join(f"  - {json.dumps(p)}\n" for p in programs)


def settings(policy, load):
    blocks = int(load.room * PROGRAM_TOKENS / BLOCK_TOKENS)
    return ["--policy", policy, "--kv-device-bytes", str(blocks * BLOCK_BYTES),
            "--context-tokens", str(CONTEXT_TOKENS)]


def record(path, **facts):
    path.with_suffix(".facts").write_text(json.dumps(facts))


def simulate(path, policy, seed, load, profile, warm_up_turns):
    """Warm-up and programs as one workload; the busy share is of both."""
    rng = random.Random(seed)
    first, end = warm_up(rng, warm_up_turns)
    workload = path.with_suffix(".yaml")
    workload.write_text(yaml_of(first + agents(rng, end + (12 if first else 0), load)))
    report = path.with_suffix(".json")
    holdfast("simulate", "--profile", profile, *settings(policy, load), "--workload", workload,
             "--turns-out", path, "--out", report)
    report = json.loads(report.read_text())
    record(path, warm_programs=len(first),
           busy_seconds=report["busy_share"] * report["seconds_simulated"])


def run(path, policy, seed, load, args):
    """Warm-up, then the programs, at a daemon of their own."""
    rng = random.Random(seed)
    warm, measured = path.with_suffix(".warm.yaml"), path.with_suffix(".yaml")
    warm.write_text(yaml_of(warm_up(rng, args.warm_up_turns)[0]))
    measured.write_text(yaml_of(agents(rng, 0, load)))
    with Daemon("--threads", str(args.threads), *settings(policy, load), model=args.model) as daemon:
        server = ["--server", f"127.0.0.1:{daemon.grpc}"]
        holdfast("replay", *server, "--workload", warm, "--seed", 77, "--out",
                 path.with_suffix(".warm.json"))
        before = daemon.metric("holdfast_scheduler_step_seconds_sum")
        foreign = ForeignTime(daemon.process.pid)
        holdfast("replay", *server, "--workload", measured, "--turns-out", path, "--out",
                 path.with_suffix(".json"))
        foreign_share = foreign.share()
        path.with_suffix(".metrics").write_text(daemon.get("/metrics")[1])
        busy_seconds = daemon.metric("holdfast_scheduler_step_seconds_sum") - before
    record(path, warm_programs=0, foreign_share=foreign_share, busy_seconds=busy_seconds)


def busy_rate(folder, args):
    """Programs per second that make the engine as busy as BUSY."""
    profile, trial = args.simulate, folder / "trial.csv"
    if not profile:
        profile = folder / "machine.profile"
        measure_profile(profile, args)

    def busy_at(rate):
        shares = []
        for seed in TRIAL_SEEDS:
            simulate(trial, "fcfs_lru", seed, load_at(rate, args), profile, warm_up_turns=0)
            shares.append(read(trial)["busy"])
        return statistics.mean(shares)

    return load_for(BUSY, busy_at, 0.05, 50)


def read(csv_path):
    """Job times and token counts of the measured programs."""
    facts = json.loads(csv_path.with_suffix(".facts").read_text())
    programs = {}
    with open(csv_path) as file:
        for row in csv.DictReader(file):
            if row["end"] != "done":
                raise SystemExit(f"{csv_path}: not every turn was answered: {row}")
            if int(row["program"]) >= facts["warm_programs"]:
                programs.setdefault(int(row["program"]), []).append(row)
    jobs, kept, recomputed = [], 0, 0
    begin, end = float("inf"), 0.0
    for turns in programs.values():
        turns.sort(key=lambda turn: int(turn["turn"]))
        jobs.append(float(turns[-1]["end_s"]) - float(turns[0]["arrival_s"]))
        begin = min(begin, float(turns[0]["arrival_s"]))
        end = max(end, float(turns[-1]["end_s"]))
        for before, turn in zip(turns, turns[1:]):
            carried = int(before["prompt_tokens"]) + int(before["completion_tokens"])
            kept += carried
            recomputed += max(carried - int(turn["cached_tokens"]), 0)
    return {"jobs": jobs, "kept": kept, "recomputed": recomputed, "seconds": end - begin,
            "busy": facts["busy_seconds"] / (end - begin),
            "foreign": facts.get("foreign_share", 0.0)}


def p95(values):
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def table(runs, policies):
    lines = ["| policy | mean job time (lowest to highest run) | p95 | recomputed prefix tokens a run | "
             "engine busy |", "|---|---|---|---|---|"]
    for policy in policies:
        means = [statistics.mean(r["jobs"]) for r in runs[policy]]
        jobs = [job for r in runs[policy] for job in r["jobs"]]
        lines.append(
            f"| `{policy}` | {statistics.mean(means):.2f} s ({min(means):.2f}–{max(means):.2f}) | "
            f"{p95(jobs):.2f} s | {statistics.mean(r['recomputed'] for r in runs[policy]):.0f} of "
            f"{statistics.mean(r['kept'] for r in runs[policy]):.0f} | "
            f"{100 * statistics.mean(r['busy'] for r in runs[policy]):.0f} % |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--policies", default="fcfs_lru,continuum")
    parser.add_argument("--rate", type=float,
                        help=f"programs per second; without: so that the engine is {BUSY:.0%}% busy")
    parser.add_argument("--programs", type=int, help="without: by the rate")
    parser.add_argument("--kv-programs", type=float,
                        help="that there is room for; without: by the rate")
    parser.add_argument("--warm-up-turns", type=int, default=120)
    parser.add_argument("--threads", type=int, default=0, help="compute threads; 0: one a core")
    parser.add_argument("--model", default=os.environ.get("HOLDFAST_MODEL"))
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--simulate", metavar="PROFILE")
    args = parser.parse_args()
    policies = args.policies.split(",")
    with tempfile.TemporaryDirectory(prefix="holdfast-agents-") as scratch:
        folder = args.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rate = args.rate or remembered(folder / "rate", lambda: busy_rate(folder, args))
        load = load_at(rate, args)
        print(f"{load.rate:.2f} programs a second, {load.programs} in all, room for the KV of "
              f"{load.room:.1f}", flush=True)
        asked = [*load, args.threads, args.warm_up_turns]
        if (kept := remembered(folder / "load", lambda: asked)) != asked:
            raise SystemExit(f"{folder} has runs of another load, number of threads or warm-up ({kept}, "
                             f"now {asked}): they cannot be told in one table; give another --keep")
        for i, seed in enumerate(filter(None, args.seeds.split(","))):
            # Alternated, so that neither always has the warmer machine.
            for policy in policies if i % 2 == 0 else policies[::-1]:
                number = len(list(folder.glob(f"{policy}.seed{seed}.run*.facts")))
                path = folder / f"{policy}.seed{seed}.run{number}.csv"
                if args.simulate:
                    simulate(path, policy, int(seed), load, args.simulate, args.warm_up_turns)
                else:
                    run(path, policy, int(seed), load, args)
        runs = {policy: [read(path) for path in sorted(folder.glob(f"{policy}.seed*.csv"))]
                for policy in policies}
    quiet = [all(r["foreign"] <= FOREIGN_MAX for r in group) for group in zip(*runs.values())]
    if not all(quiet):
        print(f"left out, because others took part of the processors: {quiet.count(False)} runs")
        runs = {policy: [r for r, ok in zip(some, quiet) if ok] for policy, some in runs.items()}
    if not any(quiet):
        return 1
    print(f"{len(runs[policies[0]])} runs each, measured part "
          f"{statistics.mean(r['seconds'] for r in runs[policies[0]]):.0f} s with {policies[0]}; "
          f"others took {100 * max(r['foreign'] for some in runs.values() for r in some):.1f} % of "
          "the processors at most")
    print(table(runs, policies))
    if "fcfs_lru" not in policies or "continuum" not in policies:
        return 0

    def ratio(of):
        return (statistics.mean(of(r) for r in runs["continuum"]) /
                max(statistics.mean(of(r) for r in runs["fcfs_lru"]), 1e-9))

    jobs = ratio(lambda r: statistics.mean(r["jobs"]))
    recomputed = ratio(lambda r: r["recomputed"])
    pairs = [statistics.mean(b["jobs"]) / statistics.mean(a["jobs"])
             for a, b in zip(runs["fcfs_lru"], runs["continuum"])]
    print("mean job time of each run, continuum to fcfs_lru: "
          + " ".join(f"{pair:.2f}" for pair in pairs))
    print(f"continuum to fcfs_lru: mean job time {jobs:.2f} (bound {JOB_BOUND}), recomputed prefix "
          f"tokens {recomputed:.2f} (bound {RECOMPUTED_BOUND})")
    return 0 if jobs <= JOB_BOUND and recomputed <= RECOMPUTED_BOUND else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemon goes too
    sys.exit(main())
