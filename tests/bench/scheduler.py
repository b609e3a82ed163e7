"""What deciding a step costs the scheduler's thread: bench_scheduler by turns, tabled.

    ./dev bench scheduler [--repetitions 7] [--json FILE]

Medians over the repetitions, with the least and the most, of a step of sequences that draw a token
each beside 2,000 that wait. The repetitions come in random order: the memory of a process that just
began, or a busy neighbour, else falls on one row. Exits 1 if a step of 256 takes more than 200 us,
or a sequence of 4,096 more than 1.25 times what one of 256 does; beside other work the machine
decides that.
"""

import argparse
import json
import pathlib
import statistics
import sys

from google_benchmark import google_benchmark

STEP_US_MAX = 200  # of 256 running
# What is left of 1 is where they lie: 256 and what they touch fit a second-level cache.
FLAT_MAX = 1.25
FEW, MANY = 256, 4096


def measure(repetitions):
    """{(policy, tenants, running): ([us a step], [ns a sequence])}"""
    cells = {}
    for name, runs in google_benchmark("scheduler", ".", repetitions).items():
        _, policy, running, _, tenants, *_ = name.split("/")
        cells[policy, int(tenants.split(":")[1]), int(running.split(":")[1])] = (
            [run["real_time"] for run in runs], [run["ns_per_sequence"] for run in runs])
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there too")
    args = parser.parse_args()
    cells = measure(args.repetitions)
    rows, holds = [], True
    print(f"{'policy':10} {'tenants':>7} {'running':>7} {'us a step':>10}   ns a sequence (least-most)"
          f"   by that of {FEW}")
    for (policy, tenants, running), (us, ns) in sorted(cells.items()):
        flat = statistics.median(ns) / statistics.median(cells[policy, tenants, FEW][1])
        rows.append({"policy": policy, "tenants": tenants, "running": running,
                     "us": statistics.median(us), "ns": statistics.median(ns), "ns_least": min(ns),
                     "ns_most": max(ns), "flat": flat})
        print(f"{policy:10} {tenants:7} {running:7} {statistics.median(us):10.1f}   "
              f"{f'{statistics.median(ns):.1f} ({min(ns):.1f}-{max(ns):.1f})':27}   {flat:.2f}")
        holds &= running != FEW or statistics.median(us) <= STEP_US_MAX
        holds &= running != MANY or flat <= FLAT_MAX
    if args.json:
        args.json.write_text(json.dumps({"bench": "scheduler", "rows": rows, "holds": holds}))
    print(f"a step of {FEW} in {STEP_US_MAX} us, a sequence of {MANY} in {FLAT_MAX} times one of "
          f"{FEW}: {'holds' if holds else 'does not hold'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
