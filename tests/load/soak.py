"""All kinds of requests at once for long, against a daemon started here.

    ./dev soak [--minutes 60] [--clients 24] [--seed 1]

Chats, completions, tools, forms, Anthropic's messages, batches, wrong requests, streams that are left
and connections that are reset, mixed. Holds if: no answer of 5xx, no wrong request taken, each batch
ended with every line answered once, and afterwards nothing runs, every KV block is back and resident
memory is where it was after the warm-up (a tenth of the time, 20 s to 5 minutes). Prints a line a
minute. Sends to loopback only; bounded in clients and time.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import sys
import tempfile
import time

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from after_load import faults_after  # noqa: E402
from daemon import Daemon  # noqa: E402

WORDS = "river bread moon chess bees glass lamp stone cloud seven".split()
TOOL = {"type": "function", "function": {
    "name": "find", "parameters": {"type": "object", "properties": {
        "what": {"type": "string", "maxLength": 12}}, "required": ["what"]}}}
FORM = {"type": "json_schema", "json_schema": {"name": "thing", "schema": {
    "type": "object", "properties": {"name": {"type": "string", "maxLength": 10},
                                     "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "count"], "additionalProperties": False}}}
WRONG = [{"temperature": 9}, {"messages": []}, {"n": 0}, {"unknown_field": 1}, {"stop": [""] * 99},
         {"tools": [{"type": "function"}]}, {"response_format": {"type": "json_schema"}},
         {"max_tokens": -1}, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}]


class Soak:
    def __init__(self, daemon, seed):
        self.daemon, self.seed = daemon, seed
        self.counts = collections.Counter()

    def chat(self, rng, **more):
        system = "You are a helpful assistant. " * rng.choice([1, 8, 24])
        return {"messages": [{"role": "system", "content": system},
                             {"role": "user", "content": " ".join(rng.choices(WORDS, k=9))}],
                "max_tokens": rng.randint(2, 40), **more}

    async def post(self, client, path, body, wanted=200):
        answer = await client.post(path, json=body)
        self.counts[f"{path} {answer.status_code}"] += 1
        # 429 is no fault: there are more clients than places in the queue.
        if answer.status_code not in (wanted, 429):
            self.counts[f"FAULT {path} {answer.status_code}"] += 1
        return answer

    async def stream(self, client, rng):
        leaves_after = rng.randint(0, 20) if rng.random() < 0.3 else None
        body = self.chat(rng, stream=True, n=rng.choice([1, 1, 2]))
        finished = seen = 0
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            self.counts[f"stream {answer.status_code}"] += 1
            if answer.status_code != 200:
                if answer.status_code != 429:
                    self.counts[f"FAULT stream {answer.status_code}"] += 1
                await answer.aread()
                return
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    if "error" in event:
                        self.counts["FAULT error in a stream"] += 1
                        return
                    finished += sum(1 for c in event["choices"] if c["finish_reason"])
                    seen += 1
                    if leaves_after is not None and seen > leaves_after:
                        self.counts["left"] += 1
                        return
        if finished != body["n"]:
            self.counts["FAULT cut short"] += 1

    async def reset(self, rng):
        """A connection that ends with a RST wherever it is."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.daemon.http)
        body = json.dumps(self.chat(rng, stream=True)).encode()
        request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body)) + body
        writer.write(request[:rng.randint(1, len(request))] if rng.random() < 0.3 else request)
        await writer.drain()
        await asyncio.sleep(rng.random() * 0.3)
        writer.transport.abort()
        self.counts["reset"] += 1

    async def batch(self, client, rng):
        count = rng.randint(1, 20)
        lines = [json.dumps({"custom_id": f"{i}", "method": "POST", "url": "/v1/chat/completions",
                             "body": self.chat(rng)}) for i in range(count)]
        sent = await client.post("/v1/files", data={"purpose": "batch"},
                                 files={"file": ("in.jsonl", "\n".join(lines))})
        made = await client.post("/v1/batches", json={
            "input_file_id": sent.json()["id"], "endpoint": "/v1/chat/completions",
            "completion_window": "24h"})
        if made.status_code == 429:
            return
        batch = made.json()
        while batch["status"] in ("validating", "in_progress", "finalizing"):
            await asyncio.sleep(0.5)
            batch = (await client.get(f"/v1/batches/{batch['id']}")).json()
        text = (await client.get(f"/v1/files/{batch['output_file_id']}/content")).text
        ids = [json.loads(line)["custom_id"] for line in text.splitlines()]
        self.counts["batches"] += 1
        if batch["status"] != "completed" or ids != [f"{i}" for i in range(count)]:
            self.counts["FAULT batch"] += 1
        for file in (batch["input_file_id"], batch["output_file_id"]):
            await client.delete(f"/v1/files/{file}")

    async def one(self, client, rng):
        kind = rng.random()
        if kind < 0.35:
            await self.stream(client, rng)
        elif kind < 0.45:
            await self.post(client, "/v1/completions",
                            {"prompt": rng.choices(WORDS, k=2), "max_tokens": 8})
        elif kind < 0.55:
            await self.post(client, "/v1/chat/completions", self.chat(
                rng, tools=[TOOL], tool_choice=rng.choice(["auto", "required"])))
        elif kind < 0.65:
            answer = await self.post(client, "/v1/chat/completions", self.chat(
                rng, response_format=FORM))
            if answer.status_code == 200:
                choice = answer.json()["choices"][0]
                if choice["finish_reason"] == "stop":
                    json.loads(choice["message"]["content"])
        elif kind < 0.75:
            await self.post(client, "/v1/messages", {
                "model": "SmolLM2-135M-Instruct", "max_tokens": 8,
                "messages": [{"role": "user", "content": rng.choice(WORDS)}]})
        elif kind < 0.87:
            await self.post(client, "/v1/chat/completions",
                            {**self.chat(rng), **rng.choice(WRONG)}, wanted=400)
        elif kind < 0.98:
            await self.reset(rng)
        else:
            await self.batch(client, rng)

    async def run(self, clients, seconds):
        end = time.monotonic() + seconds

        async def run_client(index):
            rng = random.Random(self.seed * 1000 + index)
            async with httpx.AsyncClient(base_url=self.daemon.url, timeout=300) as client:
                while time.monotonic() < end:
                    try:
                        await self.one(client, rng)
                    except httpx.HTTPError as error:
                        self.counts[f"FAULT {type(error).__name__}"] += 1

        async def tell():
            while time.monotonic() < end:
                await asyncio.sleep(min(60, max(0, end - time.monotonic())))
                print(f"{max(0, end - time.monotonic()) / 60:5.1f} min left, "
                      f"{sum(self.counts.values())} done, "
                      f"{self.daemon.resident_bytes() / 2**20:.1f} MiB", flush=True)

        await asyncio.gather(tell(), *(run_client(i) for i in range(clients)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    seconds = args.minutes * 60
    # A pool small enough to be full after the warm-up: from then on memory can only leak, not fill.
    with tempfile.TemporaryDirectory(prefix="holdfast-soak-") as folder, \
            Daemon("--kv-device-bytes", "64MiB", "--context-tokens", "2048",
                   "--state", f"{folder}/state.sqlite") as daemon:
        warm_up = Soak(daemon, 99)
        asyncio.run(warm_up.run(args.clients, min(300, max(20, seconds / 10))))
        warm = daemon.resident_bytes()
        soak = Soak(daemon, args.seed)
        asyncio.run(soak.run(args.clients, seconds))
        print(json.dumps(dict(soak.counts), indent=2, sort_keys=True))
        faults = [name for name in [*soak.counts, *warm_up.counts] if name.startswith("FAULT")]
        faults += faults_after(daemon, warm)
        if daemon.process.poll() is not None:
            faults.append("the daemon is gone")
        print("soak: " + ("FAILED: " + ", ".join(sorted(set(faults))) if faults else "held"))
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
