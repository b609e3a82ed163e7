"""Settings that are reloaded again and again under load, valid files and broken ones.

    ./dev reload-loop [--reloads 1000] [--clients 8] [--seed 1]

Keys, bounds and weights of two tenants change while both send streams; a tenant's key is replaced
with an overlap, a third one's bound comes and goes, and so do further tenants, of whom some have
been there before; the file has them in another order each time. Holds if no request is refused, cut
short or failed, each broken file is refused, each kind with its line in the log, every valid one
takes effect, a tenant that comes is served and one that goes is not known any more though its
stream ends, and afterwards nothing runs, every KV block is back and resident memory is where it was
after the first tenth. Sends to loopback only.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import signal
import sys
import time

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from after_load import faults_after  # noqa: E402
from daemon import Daemon, new_key, wait_until  # noqa: E402

BROKEN = [("tenants: [", "config.yaml"),
          ("engine:\n  threads: -1\n", "config.yaml:2: `engine.threads`"),
          ("tenants:\n  - name: a\n    kyes: []\n", "config.yaml:3: unknown key"),
          ("tenants:\n  - name: a\n    keys: [\"sha256:00\"]\n", "config.yaml:3:")]


def config_of(tenants):
    """YAML of {name: (hashes, settings)}"""
    text = "tenants:\n"
    for name, (hashes, settings) in tenants.items():
        text += f"  - name: {name}\n    keys: {json.dumps(hashes)}\n"
        text += "".join(f"    {key}: {value}\n" for key, value in settings.items())
    return text


class ReloadLoop:
    def __init__(self, args):
        self.args, self.rng = args, random.Random(args.seed)
        self.keys = {name: [new_key("a")] for name in "abc"}  # the last is the one that is used
        self.spare = [new_key("a") for _ in range(16)]
        self.guests = {f"guest{i}": new_key("a") for i in range(8)}
        self.served = collections.Counter()  # by guest
        self.faults, self.answers, self.over = [], 0, False
        self.unanswered = collections.Counter()  # requests by key, whose answer has not begun
        self.daemon = Daemon("--kv-device-bytes", "64MiB", "--context-tokens", "2048",
                             config=self.config({}))
        self.path = pathlib.Path(self.daemon.folder.name) / "config.yaml"

    def config(self, settings, c=None):
        tenants = [(name, ([stored for _, stored in keys], (c or {}) if name == "c" else settings))
                   for name, keys in self.keys.items()]
        self.rng.shuffle(tenants)
        return config_of(dict(tenants))

    def count(self, result):
        return self.daemon.metric("holdfast_server_reloads_total", result=result)

    async def reload(self, text, result):
        before = await asyncio.to_thread(self.count, result)
        self.path.write_text(text)
        self.daemon.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while await asyncio.to_thread(self.count, result) == before:
            if time.monotonic() > end:
                raise RuntimeError(f"no reload came of it ({result}):\n{text}")
            await asyncio.sleep(0.005)

    async def client(self, name):
        async with httpx.AsyncClient(base_url=self.daemon.url, timeout=300) as client:
            while not self.over:
                body = {"prompt": f"{self.rng.random()}", "max_tokens": 24, "stream": True,
                        "ignore_eos": True}
                key = self.keys[name][-1][0]
                self.unanswered[key] += 1
                try:
                    answer = await client.send(client.build_request(
                        "POST", "/v1/completions", json=body,
                        headers={"Authorization": f"Bearer {key}"}), stream=True)
                finally:
                    self.unanswered[key] -= 1
                text = (await answer.aread()).decode()
                self.answers += 1
                if answer.status_code != 200 or not text.rstrip().endswith("data: [DONE]"):
                    self.faults.append(f"{answer.status_code} {text[-200:]}")

    async def rotate(self):
        """One tenant's key: the new one beside the old, given out, then alone."""
        name = self.rng.choice("ab")
        new = self.spare.pop(0)
        old = self.keys[name][-1]
        self.keys[name].insert(0, new)
        await self.reload(self.config({}), "ok")
        self.keys[name] = [old, new]
        while self.unanswered[old[0]] > 0:
            await asyncio.sleep(0.005)
        self.keys[name] = [new]
        await self.reload(self.config({}), "ok")
        self.spare.append(old)
        async with httpx.AsyncClient(base_url=self.daemon.url) as client:
            answer = await client.get("/v1/models", headers={"Authorization": f"Bearer {old[0]}"})
        if answer.status_code != 401:
            self.faults.append("a key that was taken away is known")

    async def probe(self):
        """A third tenant gets one request, and no more; then as many as it likes."""
        (key, _), = self.keys["c"]
        async with httpx.AsyncClient(base_url=self.daemon.url, timeout=300) as client:
            for settings, wanted in (({"requests_per_second": 0.001}, [200, 429]), ({}, [200, 200])):
                await self.reload(self.config({}, c=settings), "ok")
                seen = [(await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1},
                                           headers={"Authorization": f"Bearer {key}"})).status_code
                        for _ in wanted]
                if seen != wanted:
                    self.faults.append(f"with {settings}: {seen}, wanted {wanted}")

    async def guest(self):
        """A tenant comes, is served, and goes while a stream of its runs."""
        name = self.rng.choice(list(self.guests))
        key, _ = self.guests[name]
        headers = {"Authorization": f"Bearer {key}"}
        self.keys[name] = [self.guests[name]]
        await self.reload(self.config({}), "ok")
        async with httpx.AsyncClient(base_url=self.daemon.url, timeout=300) as client:
            answer = await client.send(client.build_request(
                "POST", "/v1/completions", headers=headers,
                json={"prompt": name, "max_tokens": 24, "stream": True, "ignore_eos": True}),
                stream=True)
            del self.keys[name]
            await self.reload(self.config({}), "ok")
            text = (await answer.aread()).decode()
            self.served[name] += 1
            if answer.status_code != 200 or not text.rstrip().endswith("data: [DONE]"):
                self.faults.append(f"{name}: {answer.status_code} {text[-200:]}")
            if (await client.get("/v1/models", headers=headers)).status_code != 401:
                self.faults.append(f"{name} has gone and is known")

    async def run(self):
        clients = [asyncio.create_task(self.client("ab"[i % 2])) for i in range(self.args.clients)]
        warm, done, told = None, 0, time.monotonic()
        while done < self.args.reloads:
            kind = self.rng.random()
            if kind < 0.4:
                await self.reload(self.rng.choice(BROKEN)[0], "refused")
                done += 1
            elif kind < 0.45:
                await self.probe()
                done += 2
            elif kind < 0.6:
                await self.guest()
                done += 2
            elif kind < 0.85:
                settings = {"weight": self.rng.choice([1, 2, 5]), "running_max": 16,
                            "requests_per_second": self.rng.choice([10_000, 20_000])}
                await self.reload(self.config(settings), "ok")
                done += 1
            else:
                await self.rotate()
                done += 2
            for client in clients:
                if client.done():
                    client.result()  # it ends by an error alone
            if warm is None and done >= self.args.reloads / 10:
                warm = self.daemon.resident_bytes()
            if time.monotonic() > told + 10:
                told = time.monotonic()
                print(f"{done} of {self.args.reloads} reloads, {self.answers} answers", flush=True)
        # The log bounds how many of an event's lines it writes in a second: each kind once at least.
        refused = [line for line in self.daemon.log_path.read_text().splitlines()
                   if " reload_refused " in line]
        for _, said in BROKEN:
            if not any(said in line for line in refused):
                self.faults.append(f"nothing was refused with {said}")
        self.over = True
        await asyncio.gather(*clients)
        for name, served in self.served.items():
            if not wait_until(lambda: self.daemon.metric(
                    "holdfast_server_requests_total", tenant=name, outcome="ok") == served):
                self.faults.append(f"{name} was served {served} times, and is not counted so")
        return warm


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    loop = ReloadLoop(parser.parse_args())
    try:
        warm = asyncio.run(loop.run())
        faults = loop.faults + faults_after(loop.daemon, warm)
        print(f"{loop.count('ok'):.0f} reloads took effect, {loop.count('refused'):.0f} were refused, "
              f"{loop.answers} answers meanwhile, and {loop.served.total()} guests came and went")
        print("reload loop: " + ("FAILED: " + "; ".join(faults[:5]) if faults else "held"))
        return 1 if faults else 0
    finally:
        loop.daemon.stop()


if __name__ == "__main__":
    sys.exit(main())
