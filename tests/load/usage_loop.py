"""Kills the daemon at random moments under the load of two tenants, and holds its usage ledger to
what the clients were told.

    ./dev usage-loop [--kills 30] [--clients 6] [--seed 1]

Holds if after each SIGKILL, some of which come while it starts, the ledger has of each tenant at
least all that its clients had been told before the last flush interval, and at most that and what
was told since or was under way; and if after the last life, which ends well, it has exactly what
the clients of that life counted. Sends to loopback only.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from daemon import BINARY, Daemon, new_key  # noqa: E402

FLUSH_SECONDS = 0.5
# From an answer's count to the commit that has it, besides: the writing thread shares the cores
# with the engine, and waits for the disk.
SLACK_SECONDS = 1.5
COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


def ledger(path):
    """{tenant: counts} of the whole file, as `holdfast usage` tells them."""
    told = subprocess.run([str(BINARY), "usage", "--usage", str(path), "--format", "json"],
                          check=True, capture_output=True, text=True).stdout
    return {row["tenant"]: collections.Counter({name: row[name] for name in COUNTS})
            for row in json.loads(told)}


def counts_of(usage):
    details = usage.get("prompt_tokens_details") or {}
    return collections.Counter(requests=1, prompt_tokens=usage["prompt_tokens"],
                               cached_tokens=details.get("cached_tokens", 0),
                               completion_tokens=usage.get("completion_tokens", 0))


class Life:
    """What the clients of one life of the daemon know."""

    def __init__(self):
        self.told = []      # (time, tenant, counts)
        self.under_way = {}  # request: (tenant, the most that it may count)

    def sum(self, tenant, until=float("inf")):
        return sum((counts for at, of, counts in self.told if of == tenant and at <= until),
                   collections.Counter())

    def most(self, tenant):
        return sum((counts for of, counts in self.under_way.values() if of == tenant),
                   self.sum(tenant))


class UsageLoop:
    def __init__(self, folder, clients, seed):
        self.path = pathlib.Path(folder) / "usage.sqlite"
        self.clients, self.rng = clients, random.Random(seed)
        self.keys = {name: new_key(name) for name in ("red", "blue")}
        self.before = {}  # the ledger when the life began
        self.faults, self.kills, self.lost, self.answers = [], 0, 0, 0

    def start(self, wait=True):
        config = "tenants:\n" + "".join(
            f"  - name: {name}\n    keys: [\"{stored}\"]\n" for name, (_, stored) in self.keys.items())
        return Daemon("--usage", str(self.path), "--kv-device-bytes", "64MiB",
                      "--context-tokens", "2048",
                      config=f"usage:\n  flush: {int(FLUSH_SECONDS * 1000)}ms\n{config}", wait=wait)

    async def ask(self, client, life, tenant):
        prompt = [self.rng.randrange(100, 200)] * self.rng.randrange(1, 60)
        choices, tokens = self.rng.randint(1, 2), self.rng.randint(1, 24)
        body = {"prompt": prompt, "max_tokens": tokens, "n": choices, "ignore_eos": True}
        if streams := self.rng.random() < 0.5:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        number = object()
        life.under_way[number] = tenant, collections.Counter(
            requests=1, prompt_tokens=len(prompt), cached_tokens=len(prompt),
            completion_tokens=choices * tokens)
        answer = await client.post("/v1/completions", json=body,
                                   headers={"Authorization": f"Bearer {self.keys[tenant][0]}"})
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:200]}")
        usage = answer.json()["usage"] if not streams else next(
            event["usage"] for line in answer.text.splitlines() if line.startswith("data: {")
            if (event := json.loads(line[6:])).get("usage"))
        life.told.append((time.monotonic(), tenant, counts_of(usage)))
        del life.under_way[number]

    async def load(self, daemon, life, seconds, end):
        """Clients ask until `seconds` have passed; then `end` is called, in mid-request or after."""
        over = False

        async def one_client(tenant):
            async with httpx.AsyncClient(base_url=daemon.url, timeout=120) as client:
                while not over:
                    try:
                        await self.ask(client, life, tenant)
                    except httpx.HTTPError:
                        if not over:
                            raise
                        return

        tasks = [asyncio.create_task(one_client("red" if i % 2 else "blue"))
                 for i in range(self.clients)]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        over = True
        if end:
            end()
        await asyncio.gather(*tasks)

    def look(self, where, check):
        """Holds what the ledger has grown by to check(tenant, grown)."""
        after = ledger(self.path)
        for tenant in self.keys:
            grown = after.get(tenant, collections.Counter()).copy()
            grown.subtract(self.before.get(tenant, collections.Counter()))
            for name, (least, most) in check(tenant).items():
                if not least <= grown[name] <= most:
                    self.faults.append(f"{where}: {tenant} {name}: {grown[name]}, "
                                       f"wanted {least} to {most}")
        self.before = after

    def kill_once(self):
        self.kills += 1
        where = f"kill {self.kills}"
        if self.kills > 1 and self.rng.random() < 0.15:
            with self.start(wait=False) as daemon:
                time.sleep(self.rng.uniform(0, 1))
                daemon.process.kill()
                daemon.process.wait()
            self.look(where + " in the start", lambda _: {name: (0, 0) for name in COUNTS})
            return
        life, killed = Life(), None
        with self.start() as daemon:
            def kill():
                nonlocal killed
                killed = time.monotonic()
                daemon.process.kill()

            asyncio.run(self.load(daemon, life, self.rng.uniform(0.5, 5), kill))
            daemon.process.wait()
        settled = killed - FLUSH_SECONDS - SLACK_SECONDS
        before = self.before
        self.look(where, lambda tenant: {
            name: (life.sum(tenant, settled)[name], life.most(tenant)[name]) for name in COUNTS})
        self.answers += len(life.told)
        self.lost += sum(life.sum(tenant)["requests"] for tenant in self.keys) - sum(
            counts["requests"] for counts in self.before.values()) + sum(
            counts["requests"] for counts in before.values())

    def end_well(self):
        life = Life()
        with self.start() as daemon:
            asyncio.run(self.load(daemon, life, 3, None))
            if daemon.terminate() != 0:
                self.faults.append("the last daemon did not end well")
        self.look("after a clean end", lambda tenant: {
            name: (life.sum(tenant)[name],) * 2 for name in COUNTS})
        self.answers += len(life.told)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-usage-") as folder:
        loop = UsageLoop(folder, args.clients, args.seed)
        for _ in range(args.kills):
            loop.kill_once()
            print(f"{loop.kills} of {args.kills} kills, {loop.answers} answers, "
                  f"{len(loop.faults)} faults", flush=True)
        loop.end_well()
    for fault in loop.faults[:20]:
        print(f"fault: {fault}")
    print(f"usage loop: {'FAILED' if loop.faults else 'held'}; {loop.kills} kills, {loop.answers} "
          f"answers, of which {loop.lost} were told within the last interval and are not counted")
    return 1 if loop.faults else 0


if __name__ == "__main__":
    sys.exit(main())
