"""Time to first token of a long prompt by where its KV lies: nowhere (cold), on the device, in host
memory, on disk, and on disk after a restart; in one run, each beside the bound that it must keep.

    ./dev bench ttft-tiers [--prompt-tokens 4000] [--repetitions 5] [--threads 0]

Prints JSON; exits 1 if a bound does not hold, and fails if the daemon's own counters say that a
prompt was found on another tier than the one that is measured.

How a prompt gets where it is wanted: the device holds two prompts and a third, host memory as much.
A prompt leaves the device when others are asked for that lie below, which costs no computing; it
leaves host memory when new ones are computed and pushed down.
"""

import argparse
import http.client
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from daemon import BINARY, Daemon, wait_until  # noqa: E402

BOUNDS = {"device": 0.03, "host": 0.06, "disk": 0.15, "disk_after_restart": 0.15}
BLOCK_TOKENS = 16
TIER_SHARE_MIN = 0.95  # of the tokens found, on the tier that is measured
TIERS = ("device", "host", "disk")


class Bench:
    def __init__(self, daemon, prompt_tokens):
        self.daemon, self.prompt_tokens = daemon, prompt_tokens
        connection = http.client.HTTPConnection("127.0.0.1", daemon.http, timeout=300)
        connection.connect()
        self.connection = connection

    def prompt(self, number):
        rng = random.Random(number)
        return [rng.randrange(1000, 40000) for _ in range(self.prompt_tokens)]

    def hit_tokens(self):
        return {tier: self.daemon.metric("holdfast_kvstore_hit_tokens_total", tier=tier)
                for tier in TIERS}

    def ask(self, number):
        """(seconds to the first token, tokens found by tier)"""
        before = self.hit_tokens()
        body = json.dumps({"prompt": self.prompt(number), "max_tokens": 1, "temperature": 0,
                           "stream": True, "stream_options": {"include_usage": True}})
        start = time.perf_counter()
        self.connection.request("POST", "/v1/completions", body,
                                {"content-type": "application/json"})
        answer = self.connection.getresponse()
        seconds, cached = None, None
        if answer.status != 200:
            raise SystemExit(f"status {answer.status}: {answer.read().decode()}")
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if seconds is None and event["choices"]:
                seconds = time.perf_counter() - start
            if event.get("usage"):
                cached = event["usage"]["prompt_tokens_details"]["cached_tokens"]
        found = {tier: int(after - before[tier]) for tier, after in self.hit_tokens().items()}
        if sum(found.values()) != cached:
            raise SystemExit(f"usage says {cached} cached tokens, the metrics say {found}")
        return seconds, found

    def measure(self, number, tier):
        """Seconds, of a prompt that lies on `tier`; None: nowhere. Its first blocks may be left on
        the device, since they go last: a twentieth at most."""
        self.settle()
        seconds, found = self.ask(number)
        # All but the last token, in whole blocks.
        wanted = 0 if tier is None else (self.prompt_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
        on_tier = found.get(tier, 0)
        if sum(found.values()) != wanted or on_tier < TIER_SHARE_MIN * wanted:
            raise SystemExit(f"prompt {number} was to be found on {tier or 'no tier'}, "
                             f"{wanted} tokens; it was found as {found}\n" + "\n".join(
                                 line for line in self.daemon.get("/metrics")[1].splitlines()
                                 if line.startswith("holdfast_kvstore_") and "_bucket" not in line))
        return seconds

    def settle(self):
        """Until nothing is copied any more: what is measured is one request alone."""
        assert wait_until(lambda: self.daemon.metric("holdfast_kvstore_moves_under_way") == 0)


def measure_tiers(directory, args):
    prompt_blocks = -(-args.prompt_tokens // BLOCK_TOKENS) + 1
    displacers = [100, 101, 102]  # together more than the device, and than the host
    prompts = list(range(args.repetitions))
    context = args.prompt_tokens + 64

    def start(tier_blocks):
        block_bytes = args.block_bytes
        return Daemon(
            "--context-tokens", str(context), "--threads", str(args.threads),
            "--kv-device-bytes", str(tier_blocks * block_bytes),
            "--kv-host-bytes", str(tier_blocks * (block_bytes + 4096)),
            "--kv-disk-path", str(directory), "--kv-disk-bytes",
            str(int(2 * (len(prompts) + 6) * prompt_blocks * block_bytes) + (1 << 30)),
            model=args.model)

    samples = {name: [] for name in ("cold", *BOUNDS)}
    tier_blocks = int(2.33 * prompt_blocks)
    with start(tier_blocks) as daemon:
        bench = Bench(daemon, args.prompt_tokens)

        def displace():
            for number in displacers:
                bench.settle()  # what leaves faster than it is copied is dropped
                bench.ask(number)

        for number in displacers:
            bench.measure(number, None)  # the first is a warm-up; none is counted
        for number in prompts:
            samples["cold"].append(bench.measure(number, None))
            samples["device"].append(bench.measure(number, "device"))
            displace()
            samples["host"].append(bench.measure(number, "host"))
        for number in (200, 201, 202):  # push everything before them down to disk
            bench.measure(number, None)
        displace()
        for number in prompts:
            samples["disk"].append(bench.measure(number, "disk"))
        bench.settle()
    with start(tier_blocks) as daemon:
        bench = Bench(daemon, args.prompt_tokens)
        bench.ask(300)  # a warm-up, of the text path and the weights' pages
        for number in prompts:
            samples["disk_after_restart"].append(bench.measure(number, "disk"))
    return samples


def report(samples, args, load_before):
    cold = statistics.median(samples["cold"])
    tiers = {}
    for name, seconds in samples.items():
        median = statistics.median(seconds)
        tiers[name] = {"seconds_median": round(median, 5), "seconds_min": round(min(seconds), 5),
                       "seconds_max": round(max(seconds), 5),
                       "samples": [round(s, 5) for s in seconds]}
        if name in BOUNDS:
            tiers[name] |= {"share_of_cold": round(median / cold, 5),
                            "share_of_cold_max": round(max(seconds) / cold, 5),
                            "bound": BOUNDS[name], "holds": median <= BOUNDS[name] * cold}
    return {"bench": "ttft_tiers", "prompt_tokens": args.prompt_tokens,
            "repetitions": args.repetitions, "cpus": os.cpu_count(),
            "load_average": {"before": load_before, "after": os.getloadavg()},
            "ttft": tiers, "holds": all(t.get("holds", True) for t in tiers.values())}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt-tokens", type=int, default=4000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="compute threads; 0: one a core")
    parser.add_argument("--model", help="default: HOLDFAST_MODEL")
    parser.add_argument("--block-bytes", type=int, default=368640, help="of the model's KV block")
    parser.add_argument("--directory", default=str(BINARY.parent),
                        help="where the disk tier lies (default: beside the daemon)")
    args = parser.parse_args(arguments)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="holdfast-ttft-", dir=args.directory) as scratch:
        samples = measure_tiers(pathlib.Path(scratch) / "kv", args)
    return report(samples, args, load_before)


if __name__ == "__main__":
    result = main()
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["holds"] else 1)
