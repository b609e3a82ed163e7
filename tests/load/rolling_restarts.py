"""Daemons behind a balancer, restarted one after the other while agents work.

    ./dev rolling [--restarts 20] [--balancer haproxy|nginx|smg] [--agents 8] [--seed 1]

Two daemons behind HAProxy or nginx with the configuration of deploy/, of which addresses alone are
replaced, or behind SMG with the --policy asked for. Agents hold conversations whose history grows,
half of the answers streamed, a third of the sessions named by header, a third in the body, a third
not at all. Three times the same load: one daemon alone with the KV memory of both, two daemons, and
two daemons of which one after the other is told to stop, waited for, and started anew.

Holds if every answer is a 200 and whole (a finish reason, usage, and of a stream its [DONE]), every
daemon ends with exit code 0, and the two daemons that are not restarted have at least 90 % of the hit
ratio of one. Sends to loopback only.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from balancers import BALANCERS, Place, program  # noqa: E402

HIT_RATIO_SHARE_MIN = 0.9
MODEL = "SmolLM2-135M-Instruct"
NUM_TURNS = 6
CONTEXT = ["--context-tokens", "4096"]
WORDS = ("river stone lantern orchard copper signal winter harbour ladder meadow anchor violin "
         "thunder paper garden needle bridge candle forest mirror").split()


# ---- agents ----------------------------------------------------------------------------------------


class Tally:
    def __init__(self):
        self.requests = self.streams = self.prompt_tokens = self.cached_tokens = 0
        self.faults, self.first_seconds = [], []

    def add(self, usage):
        self.prompt_tokens += usage["prompt_tokens"]
        self.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]

    @property
    def hit_ratio(self):
        return self.cached_tokens / max(1, self.prompt_tokens)


async def read_stream(client, body, headers, tally):
    """The text of a whole stream; a RuntimeError says what is missing."""
    text, finish, usage, done, began = "", None, None, False, time.monotonic()
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"status {answer.status_code}: {(await answer.aread())[:200]}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(f"error in the stream: {event['error']}")
            if not text:
                tally.first_seconds.append(time.monotonic() - began)
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
            usage = event.get("usage") or usage
    if not (done and finish and usage):
        raise RuntimeError(f"cut: finish {finish}, usage {usage is not None}, [DONE] {done}")
    tally.add(usage)
    return text


async def read_whole(client, body, headers, tally):
    answer = await client.post("/v1/chat/completions", json=body, headers=headers)
    if answer.status_code != 200:
        raise RuntimeError(f"status {answer.status_code}: {answer.text[:200]}")
    document = answer.json()
    if not document["choices"][0]["finish_reason"]:
        raise RuntimeError("no finish reason")
    tally.add(document["usage"])
    return document["choices"][0]["message"]["content"]


async def one_session(client, index, seed, tally, is_over):
    rng = random.Random(f"{seed}/{index}")
    team = random.Random(f"{seed}/team/{index % 3}")
    messages = [{"role": "system", "content": f"You are agent {index % 3}. Your notes: "
                 f"{' '.join(team.choices(WORDS, k=120))}."}]
    name, naming = f"session-{seed}-{index}", index % 3
    for turn in range(NUM_TURNS):
        if is_over():
            return
        messages.append({"role": "user", "content": f"Step {turn} of task {index}: "
                         f"{' '.join(rng.choices(WORDS, k=50))}."})
        body = {"model": MODEL, "messages": messages, "temperature": 0,
                "max_tokens": rng.choice([8, 24, 96]), "ignore_eos": True}
        headers = {"X-Session-Id": name} if naming == 0 else {}
        if naming == 1:
            body["session_id"] = name
        streamed = rng.random() < 0.5
        tally.requests += 1
        tally.streams += streamed
        try:
            if streamed:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
                text = await read_stream(client, body, headers, tally)
            else:
                text = await read_whole(client, body, headers, tally)
        except (RuntimeError, httpx.HTTPError, ValueError) as error:
            tally.faults.append(f"session {index} turn {turn} "
                                f"{'stream' if streamed else 'whole'}: {error!r}")
            return
        messages.append({"role": "assistant", "content": text})
        await asyncio.sleep(rng.uniform(0, 1))  # its tool


async def load(url, args, sessions, work):
    """Agents take sessions one after the other, so many in all, or, with `work` given (a coroutine),
    until it ends."""
    tally, taken, over = Tally(), iter(range(sessions or sys.maxsize)), asyncio.Event()

    async def agent():
        async with httpx.AsyncClient(base_url=url, timeout=900) as client:
            for index in taken:
                if over.is_set():
                    return
                await one_session(client, index, args.seed, tally, over.is_set)

    agents = [asyncio.create_task(agent()) for _ in range(args.agents)]
    if work is not None:
        try:
            await work(tally)
        finally:
            over.set()
    await asyncio.gather(*agents)
    return tally


# ---- what is shown ---------------------------------------------------------------------------------


def show(name, tally, more=""):
    first = sorted(tally.first_seconds) or [0]
    print(f"{name}: {tally.requests} requests, {tally.streams} of them streams, "
          f"{len(tally.faults)} failed or cut; hit ratio {tally.hit_ratio:.3f}; first event p50 "
          f"{statistics.median(first):.2f} s, most {first[-1]:.2f} s{more}", flush=True)
    for fault in tally.faults[:10]:
        print(f"  {fault}", flush=True)


async def roll(args, places, balancer, tally):
    """Restarts one daemon after the other; (exit codes, drain seconds, start seconds)."""
    seen = []
    for number in range(args.restarts):
        await asyncio.sleep(args.settle)
        seen.append(await asyncio.to_thread(places[number % 2].restart))
        await asyncio.to_thread(balancer.wait_all_up)
        code, drained, started = seen[-1]
        print(f"restart {number + 1} of {args.restarts}: exit {code}, {drained:.1f} s from SIGTERM to "
              f"the end, {started:.1f} s to ready; {tally.requests} requests, {len(tally.faults)} "
              f"failed or cut", flush=True)
    await asyncio.sleep(args.settle)
    return seen


def run_pair(args, sessions, rolled, notice):
    with contextlib.ExitStack() as at_end:
        places, seen = [], []
        for _ in range(2):
            disk = []
            if args.kv_disk_mib:
                folder = at_end.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-kv-"))
                disk = ["--kv-disk-path", folder, "--kv-disk-bytes", f"{args.kv_disk_mib}MiB"]
            places.append(Place(args.kv_mib, [*CONTEXT, *notice, *disk]))
            at_end.callback(places[-1].stop)
        options = {"policy": args.policy} if args.policy else {}
        balancer = BALANCERS[args.balancer](places, **options)
        at_end.callback(balancer.stop)

        async def work(tally):
            seen.extend(await roll(args, places, balancer, tally))

        tally = asyncio.run(load(balancer.url, args, sessions, work if rolled else None))
        return tally, seen, balancer.told()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--balancer", choices=sorted(BALANCERS), default="haproxy")
    parser.add_argument("--policy", help="of smg alone: cache_aware (its default), round_robin, ...")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=32, help="of the loads without restarts; "
                        "0: leaves these out")
    parser.add_argument("--kv-mib", type=int, default=256, help="of each of the two daemons")
    parser.add_argument("--kv-disk-mib", type=int, default=0,
                        help="of each of the two daemons, kept over its restarts; 0: none")
    parser.add_argument("--drain-notice", default="5s")
    parser.add_argument("--settle", type=float, default=3, help="seconds between two restarts")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.policy and args.balancer != "smg":
        parser.error("--policy is of --balancer smg; the others go by their configuration in deploy/")
    if program(args.balancer) is None:
        print(f"rolling restarts: SKIPPED: no {args.balancer} here; ./dev rolling --balancer "
              f"{args.balancer} installs it")
        return 0
    notice = [] if args.drain_notice == "0" else ["--drain-notice", args.drain_notice]
    faults = []
    if args.sessions:
        place = Place(2 * args.kv_mib, CONTEXT)
        try:
            alone = asyncio.run(load(place.daemon.url, args, args.sessions, None))
        finally:
            place.stop()
        show("one daemon", alone)
        pair, _, told = run_pair(args, args.sessions, False, notice)
        show(f"two behind {args.balancer}", pair, f"; {told}")
        faults += alone.faults + pair.faults
        if pair.hit_ratio < HIT_RATIO_SHARE_MIN * alone.hit_ratio:
            faults.append(f"hit ratio of two {pair.hit_ratio:.3f}, of one {alone.hit_ratio:.3f}")
    if args.restarts:
        rolled, seen, told = run_pair(args, None, True, notice)
        show(f"two behind {args.balancer}, {len(seen)} restarts", rolled, f"; {told}")
        faults += rolled.faults
        faults += [f"exit code {code}" for code, _, _ in seen if code != 0]
    print("rolling restarts: " + ("FAILED: " + "; ".join(faults[:5]) if faults else "held"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
