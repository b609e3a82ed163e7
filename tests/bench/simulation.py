"""How well the simulator predicts: a workload is fired at a real daemon with the default model, and
simulated with the same settings on cost profiles that were measured on the same machine just before and
just after. The arrivals are those that keep the engine as busy as BUSY on this machine, by the first profile.

    ./dev bench simulation [--runs 2] [--seconds 60] [--workloads steady,bursty] [--keep DIR]

For each workload the mean and the 95th percentile of the time to the first token and of the time to
the last one, measured and predicted: in the middle of the runs, and from the lowest to the highest. A run's
prediction is the mean of the two by its two profiles; the error is the middle one of the runs'. Runs during
which others took more than 3 % of the processors are shown and left out. Exits 1 if an error is more than
15 %.

With --keep profiles and reports stay in DIR, and runs that lie there already are counted in, at the load that
was found for the first of them: so a long measurement can be made in short pieces.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from busy_load import holdfast, load_for, measure_profile, remembered  # noqa: E402
from daemon import Daemon  # noqa: E402
from foreign_time import ForeignTime  # noqa: E402

BOUND = 0.15
BUSY = 0.6  # the share of the time that `steady` keeps the engine busy
FOREIGN_MAX = 0.03  # of the processors; a run beside others is no measurement and is left out
# Of daemon and simulation alike.
SETTINGS = ["--kv-device-bytes", "1GiB", "--context-tokens", "4096", "--running-max", "32"]
FIGURES = [(time, figure) for time in ("ttft", "e2e") for figure in ("mean", "p95")]
WARM_UP = ("programs:\n  - arrivals: {process: even, rate: 4}\n    repeat: 12\n"
           "    turns: [{prompt: 300, completion: 12}]\n")


def yaml_of(name, programs):
    return f"name: {name}\nprograms:\n" + "".join(f"  - {json.dumps(p)}\n" for p in programs)


def chat(rng, at):
    """A question: a shared instruction, then words of its own."""
    turn = {"prompt": [{"run": f"instructions {rng.randrange(3)}", "tokens": 64},
                       int(rng.lognormvariate(4.8, 0.7)) + 8],
            "completion": min(int(rng.lognormvariate(3.4, 0.6)) + 2, 120)}
    return {"at": round(at, 4), "turns": [turn]}


def agent(rng, at):
    """A few turns with tools between them."""
    turns = [{"prompt": [{"run": "tools", "tokens": 128}, rng.randint(100, 300)],
              "completion": rng.randint(12, 32), "tool": "grep"}]
    for _ in range(rng.randint(2, 4)):
        turns.append({"after": round(rng.lognormvariate(-0.7, 0.6), 4),
                      "prompt": rng.randint(40, 120), "completion": rng.randint(12, 32),
                      "tool": "grep"})
    return {"at": round(at, 4), "session": f"agent {rng.random():.6f}", "turns": turns}


def steady(seconds, load):
    """Poisson: three questions to one agent."""
    rng, programs, at = random.Random(7), [], 0.0
    while True:
        at += rng.expovariate(1.5 * load)
        if at > seconds:
            return yaml_of("steady", programs)
        programs.append(agent(rng, at) if rng.random() < 0.25 else chat(rng, at))


def bursty(seconds, load):
    """Quiet, and now and then eight to sixteen questions within a second."""
    rng, programs, at = random.Random(8), [], 0.0
    while True:
        at += rng.expovariate(0.14 * load)
        if at > seconds:
            break
        programs += [chat(rng, at + rng.random()) for _ in range(rng.randint(8, 16))]
    at = 0.0
    while True:
        at += rng.expovariate(0.4 * load)
        if at > seconds:
            return yaml_of("bursty", sorted(programs, key=lambda p: p["at"]))
        programs.append(chat(rng, at))


WORKLOADS = {"steady": steady, "bursty": bursty}


def step_sums(daemon):
    return {name: daemon.metric(f"holdfast_scheduler_step_{name}_sum") for name in ("seconds", "rows")}


def replay(workload, out, args):
    """The report of one run against a daemon of its own, with what its steps took."""
    warm_up = workload.with_name("warm_up.yaml")
    warm_up.write_text(WARM_UP)
    with Daemon("--threads", str(args.threads), *SETTINGS, model=args.model) as daemon:
        server = f"127.0.0.1:{daemon.grpc}"
        holdfast("replay", "--server", server, "--workload", warm_up, "--seed", 99, "--out",
                 warm_up.with_suffix(".json"))
        before, steps = step_sums(daemon), daemon.metric("holdfast_scheduler_step_seconds_count")
        foreign = ForeignTime(daemon.process.pid)
        holdfast("replay", "--server", server, "--workload", workload, "--out", out,
                 "--turns-out", out.with_suffix(".csv"))
        foreign_share, after = foreign.share(), step_sums(daemon)
        report = json.loads(out.read_text())
        report["daemon"] = {name: after[name] - before[name] for name in after}
        report["foreign_share"] = foreign_share
        report["daemon"]["steps"] = daemon.metric("holdfast_scheduler_step_seconds_count") - steps
    if report["online"]["turns"]["done"] != report["workload"]["turns"]:
        raise SystemExit(f"not every turn was answered: {report['online']['turns']}, "
                         f"{report['errors']}")
    out.write_text(json.dumps(report, indent=1))


def simulate(workload, profile, out):
    holdfast("simulate", "--workload", workload, "--profile", profile, *SETTINGS, "--out", out,
             "--turns-out", out.with_suffix(".csv"))
    return json.loads(out.read_text())


def busy_with(load, profile, args):
    """The engine's share of the time of `steady`, simulated."""
    workload = profile.with_name("trial.yaml")
    workload.write_text(steady(args.seconds, load))
    return simulate(workload, profile, profile.with_name("trial.json"))["busy_share"]


class Run:
    """A replay, and simulations of it by the profiles before and after."""

    def __init__(self, folder, name, number):
        self.name = name
        self.measured = json.loads((folder / f"{name}.run{number}.json").read_text())
        self.foreign = self.measured["foreign_share"]
        self.simulated = [
            simulate(folder / f"{name}.run{number}.yaml", folder / f"{name}.run{number}.{when}.profile",
                     folder / f"{name}.run{number}.{when}.simulated.json")
            for when in ("before", "after")]

    def figures(self, time, of):
        """(measured, predicted)"""
        return (self.measured["online"]["seconds"][time][of],
                statistics.mean(s["online"]["seconds"][time][of] for s in self.simulated))

    def steps(self):
        """A line: what the steps took, and what they were to take."""
        def of(seconds, steps, rows, whole):
            return (f"{steps:.0f} steps of {1e3 * seconds / steps:.2f} ms with {rows / steps:.1f} "
                    f"rows, busy {100 * seconds / whole:.0f} %")

        daemon = self.measured["daemon"]
        lines = [of(daemon["seconds"], daemon["steps"], daemon["rows"], self.measured["seconds"])]
        for s in self.simulated:
            whole = s["seconds_simulated"]
            lines.append(of(s["busy_share"] * whole, s["steps"], s["rows"], whole))
        return (f"{self.name}: {lines[0]}, others took {100 * self.foreign:.1f} % of the processors; "
                "simulated: " + "; ".join(lines[1:]))


def row(name, figure, runs):
    pairs = [run.figures(*figure) for run in runs]
    error = statistics.median(predicted / measured - 1 for measured, predicted in pairs)
    return {"workload": name, "figure": " ".join(figure), "measured": [m for m, _ in pairs],
            "predicted": [p for _, p in pairs], "error": error, "holds": abs(error) <= BOUND,
            "errors": [p / m - 1 for m, p in pairs]}


def table(rows):
    def spread(values):
        return f"{statistics.median(values):.3f} s ({min(values):.3f}–{max(values):.3f})"

    lines = ["| workload | figure | measured | predicted | error (of the runs) |", "|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['workload']} | {r['figure']} | {spread(r['measured'])} | "
                     f"{spread(r['predicted'])} | {100 * r['error']:+.1f} % "
                     f"({100 * min(r['errors']):+.1f} to {100 * max(r['errors']):+.1f} %) |")
    return "\n".join(lines)


def measure(folder, names, args):
    """Replay, profile, replay, ..., profile, from the profile on that the last one left."""
    between = folder / "between.profile"
    for name in names:
        number = len(list(folder.glob(f"{name}.run*.after.profile")))
        run = f"{name}.run{number}"
        (folder / f"{run}.before.profile").write_text(between.read_text())
        workload = folder / f"{run}.yaml"  # a later call may be of another load
        workload.write_text((folder / f"{name}.yaml").read_text())
        replay(workload, folder / f"{run}.json", args)
        measure_profile(between, args)
        (folder / f"{run}.after.profile").write_text(between.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2, help="of each workload, alternated")
    parser.add_argument("--seconds", type=float, default=60, help="of each run")
    parser.add_argument("--load", type=float,
                        help=f"multiplies arrivals; without: so that the engine is {BUSY:.0%}% busy")
    parser.add_argument("--workloads", default="steady,bursty")
    parser.add_argument("--threads", type=int, default=max(len(os.sched_getaffinity(0)) - 1, 1),
                        help="compute threads; without: all cores but one, which client and "
                             "connections use; 0: one a core")
    parser.add_argument("--model", default=os.environ.get("HOLDFAST_MODEL"))
    parser.add_argument("--keep", type=pathlib.Path, help="folder for profiles and reports")
    args = parser.parse_args()
    names = [name for name in args.workloads.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="holdfast-simulation-") as scratch:
        folder = args.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if args.runs > 0:
            profile = folder / "between.profile"
            measure_profile(profile, args)
            load = args.load or remembered(folder / "load", lambda: load_for(
                BUSY, lambda load: busy_with(load, profile, args), 0.05, 50))
            print(f"arrivals multiplied by {load:.2f}", flush=True)
            for name in names:
                (folder / f"{name}.yaml").write_text(WORKLOADS[name](args.seconds, load))
        for _ in range(args.runs):
            measure(folder, names, args)
        rows = []
        for name in names:
            count = len(list(folder.glob(f"{name}.run*.after.profile")))
            runs = [Run(folder, name, number) for number in range(count)]
            print("\n".join(run.steps() for run in runs))
            runs = [run for run in runs if run.foreign <= FOREIGN_MAX]
            if not runs:
                print(f"{name}: no run had the machine to itself")
                continue
            rows += [row(name, figure, runs) for figure in FIGURES]
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(table(rows))
    return 0 if rows and all(r["holds"] for r in rows) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemon goes too
    sys.exit(main())
