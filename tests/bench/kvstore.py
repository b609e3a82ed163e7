"""All that the KV store promises of its speed, in one run: JSON, each number beside its bound.

    ./dev bench kvstore [--only store,tiers,step,ttft] [--repetitions 3] [--directory DIR]

  store   bench_kvstore: what the store costs the scheduler's thread (processor time)
  tiers   bench_tiers: restores beside memcpy, direct reads and fio; start with 5 GiB on disk
  step    how long the daemon's step takes with 256 sequences, of which the store has a share
  ttft    ttft_tiers.py: time to first token by tier, beside the cold one

Medians over the repetitions, with the least and the most. Exits 1 if a bound does not hold; beside
other work the machine decides that, hence the load averages.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import time
import urllib.request

import ttft_tiers
from daemon import BINARY, Daemon, wait_until  # found by ttft_tiers
from google_benchmark import google_benchmark

PARTS = ("store", "tiers", "step", "ttft")
SEQUENCES = 256


class Results:
    def __init__(self):
        self.rows = []

    def add(self, name, values, unit, at_most=None, at_least=None, digits=4):
        """A row; values by repetition. Returns their median."""
        median = statistics.median(values)
        row = {"name": name, "median": round(median, digits), "min": round(min(values), digits),
               "max": round(max(values), digits), "unit": unit}
        if at_most is not None:
            row |= {"at_most": at_most, "holds": median <= at_most}
        if at_least is not None:
            row |= {"at_least": at_least, "holds": median >= at_least}
        self.rows.append(row)
        return median


def find(runs, beginning):
    """The one benchmark whose name begins so."""
    found = [of for name, of in runs.items() if (name + "/").startswith(beginning + "/")]
    assert len(found) == 1, (beginning, list(runs))
    return found[0]


def microseconds(runs):
    scale = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
    return [run["cpu_time"] * scale[run["time_unit"]] for run in runs]


def store_part(results, args):
    runs = google_benchmark("kvstore", ".", args.repetitions)
    results.add("match and acquire 128k tokens, all cached", microseconds(
        find(runs, "AcquireCached/8192")), "us", at_most=1000)
    large = find(runs, "LookUp/10000000")
    results.add("look-ups a second at 10 M blocks, one core",
                [run["items_per_second"] for run in large], "1/s", at_least=1e6, digits=0)
    results.add("memory of a known block", [run["bytes_per_block"] for run in large], "bytes")
    results.add("look-ups a second at 1 M blocks, one core",
                [run["items_per_second"] for run in find(runs, "LookUp/1048576")], "1/s", digits=0)
    part = microseconds(find(runs, f"DecodeStep/{SEQUENCES}"))
    # For engines faster than the one that is measured here.
    results.add("shortest step of which that is 5 %", [us / 0.05 for us in part], "us", digits=0)
    return results.add(f"store's part of a step of {SEQUENCES} sequences", part, "us")


def ratios(above, below, key="bytes_per_second"):
    return [a[key] / b[key] for a, b in zip(above, below)]


def tiers_benchmark(args, pattern, repetitions):
    return google_benchmark("tiers", pattern, repetitions, HOLDFAST_BENCH_DIR=args.directory)


def tiers_part(results, args):
    host = tiers_benchmark(args, "^(Memcpy|HostRestore)/", args.repetitions)
    for block_bytes, bound in ((368640, 0.70), (2 << 20, 0.70)):
        memcpy, restore = (find(host, f"{name}/{block_bytes}") for name in ("Memcpy", "HostRestore"))
        results.add(f"memcpy, {block_bytes} bytes", [r["bytes_per_second"] / 1e9 for r in memcpy],
                    "GB/s")
        results.add(f"host restore, {block_bytes} bytes",
                    [r["bytes_per_second"] / 1e9 for r in restore], "GB/s")
        results.add(f"host restore beside memcpy, {block_bytes} bytes", ratios(restore, memcpy),
                    "ratio", at_least=bound)
    disk = tiers_benchmark(args, "^(FioRead|DiskRestore|DirectRead)/", args.repetitions)
    fio = find(disk, "FioRead/io_uring")
    results.add("fio, random reads of a block", [r["bytes_per_second"] / 1e9 for r in fio], "GB/s")
    for io in ("io_uring", "threads"):
        restore = find(disk, f"DiskRestore/{io}")
        results.add(f"disk restore, {io}", [r["bytes_per_second"] / 1e9 for r in restore], "GB/s")
        # The thread pool is for kernels without io_uring: told, not bound.
        results.add(f"disk restore beside fio, {io}", ratios(restore, fio), "ratio",
                    at_least=0.80 if io == "io_uring" else None)
        results.add(f"disk restore beside direct reads, {io}",
                    ratios(restore, find(disk, f"DirectRead/{io}")), "ratio")
    opened = tiers_benchmark(args, "^DiskOpen/io_uring/5/", 1)
    results.add("start of a disk tier of 5 GiB",
                [1e-6 * run["real_time"] * {"ns": 1e-3, "us": 1, "ms": 1e3}[run["time_unit"]]
                 for run in find(opened, "DiskOpen/io_uring/5")], "s", at_most=5)


def step_part(results, args, store_microseconds):
    """The daemon with 256 sequences in decoding: 16 requests of 16 choices."""
    with Daemon("--running-max", str(SEQUENCES), "--context-tokens", "512", "--kv-device-bytes",
                "1GiB", model=args.model) as daemon:
        def ask(number):
            body = json.dumps({"prompt": f"{number} of many", "n": 16, "max_tokens": 96,
                               "temperature": 1, "seed": number, "ignore_eos": True}).encode()
            request = urllib.request.Request(daemon.url + "/v1/completions", body,
                                             {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.read()

        def steps():
            return [daemon.metric(f"holdfast_scheduler_step_seconds_{what}")
                    for what in ("sum", "count")]

        seconds = []
        with concurrent.futures.ThreadPoolExecutor(SEQUENCES // 16) as pool:
            asked = [pool.submit(ask, number) for number in range(SEQUENCES // 16)]
            if not wait_until(lambda: daemon.metric("vllm:num_requests_running") == SEQUENCES, 120):
                raise SystemExit(f"the daemon never ran {SEQUENCES} sequences")
            while daemon.metric("vllm:num_requests_running") == SEQUENCES and len(seconds) < 5:
                before = steps()
                time.sleep(1)
                after = steps()
                if after[1] > before[1]:
                    seconds.append((after[0] - before[0]) / (after[1] - before[1]))
            for one in asked:
                one.result()
    results.add(f"step of {SEQUENCES} sequences", [1e6 * s for s in seconds], "us", digits=0)
    if store_microseconds is not None:
        results.add("store's share of a step", [store_microseconds / (1e6 * s) for s in seconds],
                    "ratio", at_most=0.05, digits=6)


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--directory", default=str(BINARY.parent),
                        help="where files are written to and read from (default: beside the daemon)")
    parser.add_argument("--model", help="default: HOLDFAST_MODEL")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    results, load_before, store_microseconds, ttft = Results(), os.getloadavg(), None, None
    if "store" in parts:
        store_microseconds = store_part(results, args)
    if "tiers" in parts:
        tiers_part(results, args)
    if "step" in parts:
        step_part(results, args, store_microseconds)
    if "ttft" in parts:
        ttft = ttft_tiers.main(
            ["--repetitions", str(max(args.repetitions, 3)), "--directory", args.directory]
            + (["--model", args.model] if args.model else []))
    holds = all(row.get("holds", True) for row in results.rows) and (ttft is None or ttft["holds"])
    print(json.dumps({"bench": "kvstore", "cpu": cpu_model(), "cpus": os.cpu_count(),
                      "load_average": {"before": load_before, "after": os.getloadavg()},
                      "results": results.rows, "ttft": ttft, "holds": holds}, indent=2))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
