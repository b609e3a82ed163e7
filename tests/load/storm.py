"""Many streaming clients at once, some of which leave in mid-stream, against a daemon started here.

    ./dev storm [--clients 64] [--seconds 120] [--leave 0.3] [--seed 1]

Holds if: no answer of 5xx, every stream that stayed ended with a finish reason, afterwards nothing
runs or waits, every KV block is back, and resident memory is where it was after the warm-up.
Sends to loopback only; bounded in clients and time.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import sys
import time

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from after_load import faults_after  # noqa: E402
from daemon import Daemon  # noqa: E402

TOPICS = ["rivers", "bread", "prime numbers", "the moon", "chess", "bees", "a lighthouse", "glass"]


async def one_stream(client, rng, leave, counts):
    system = "You are a helpful assistant. " * rng.choice([1, 8, 24])
    body = {
        "messages": [{"role": "system", "content": system},
                     {"role": "user", "content": f"Tell me about {rng.choice(TOPICS)}."}],
        "stream": True, "max_tokens": rng.randint(4, 96), "temperature": rng.choice([0, 1]),
        "n": rng.choice([1, 1, 1, 2]),
    }
    leaves_after = rng.randint(0, 20) if rng.random() < leave else None
    finished, pieces = 0, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        counts[f"status {answer.status_code}"] += 1
        if answer.status_code != 200:
            await answer.aread()
            return
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:
                counts["errors in stream"] += 1
                return
            finished += sum(1 for c in event["choices"] if c["finish_reason"])
            pieces += 1
            if leaves_after is not None and pieces > leaves_after:
                counts["left"] += 1
                return  # closes the connection in mid-stream
    counts["ended" if finished == body["n"] else "cut short"] += 1


async def storm(url, clients, seconds, leave, seed):
    counts = collections.Counter()
    deadline = time.monotonic() + seconds

    async def run_client(index):
        rng = random.Random(seed * 1000 + index)
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            while time.monotonic() < deadline:
                try:
                    await one_stream(client, rng, leave, counts)
                except httpx.HTTPError as error:
                    counts[f"transport {type(error).__name__}"] += 1

    await asyncio.gather(*(run_client(i) for i in range(clients)))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--leave", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    # A pool small enough to be full after the warm-up: from then on memory can only leak, not fill.
    with Daemon("--kv-device-bytes", "64MiB", "--context-tokens", "2048") as daemon:
        asyncio.run(storm(daemon.url, args.clients, min(20, args.seconds / 3), args.leave, 99))
        warm = daemon.resident_bytes()
        counts = asyncio.run(storm(daemon.url, args.clients, args.seconds, args.leave, args.seed))
        print(json.dumps(dict(counts), indent=2, sort_keys=True))
        faults = [name for name in counts
                  if name.startswith(("status 5", "transport", "errors", "cut"))]
        faults += faults_after(daemon, warm)
        print("storm: " + ("FAILED: " + ", ".join(faults) if faults else "held"))
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
