"""Kills the daemon under load, again and again, with host memory and disk under its KV cache.

    ./dev kill-loop [--rounds 50] [--clients 6] [--seed 1] [--full-gib 5]

Agents with shared system prompts and several turns, some of which keep their KV by a pin and some of
whom leave in mid-stream, talk to a daemon whose device and host memory hold a few of them; SIGKILL
comes at a random moment, sometimes while it starts. Then the same with a disk tier full of
`--full-gib` of valid blocks (0: left out).

Holds if: every answer, also what had come of one when the daemon died, is that of a daemon without a
prefix cache, token for token and logprob for logprob; after restarts prompts are found on disk; the
files stay within their limit; each start takes at most 5 seconds.
Sends to loopback only; bounded in rounds and time. Takes 300 MiB of disk in --directory, with
--full-gib 5 another 6.5 GiB.
"""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from daemon import BINARY, Daemon, wait_until  # noqa: E402

FILL = BINARY.parent / "tests/bench/fill_disk_tier"
READY_SECONDS_MAX = 5.0
NUM_AGENTS, NUM_TURNS, ANSWER_TOKENS = 16, 4, 12
EVENTS_MAX = 300  # some 25 answers, before a kill
BLOCK_BYTES = 368640  # of the default model: 16 tokens in f16
# Some 70 of the agents' 350 blocks: what they come back to lies in host memory, or on disk.
CONTEXT = ["--context-tokens", "640"]
SMALL = [*CONTEXT, "--kv-device-bytes", str(46 * BLOCK_BYTES),
         "--kv-host-bytes", str(24 * BLOCK_BYTES)]
DISK_BYTES = 192 << 20  # not all of the agents' either: blocks go, segments are compacted
WORDS = ("river stone lantern orchard copper signal winter harbour ladder meadow anchor violin "
         "thunder paper garden needle bridge candle forest mirror").split()


def run(loop):
    return asyncio.run(loop)


# ---- what is asked ---------------------------------------------------------------------------------


class Agent:
    """A conversation whose turns are known beforehand, once the reference has answered them."""

    def __init__(self, index, seed):
        rng = random.Random(f"{seed}/{index}")
        self.name = f"agent-{index}"
        self.keeps = rng.random() < 0.4  # asks that its KV stay between turns
        group = index % 3
        text = " ".join(random.Random(f"{seed}/system/{group}").choices(WORDS, k=100))
        self.system = f"You are agent of team {group}. Your notes: {text}."
        self.asks = [f"Step {turn} of {self.name}. The tool says: {' '.join(rng.choices(WORDS, k=25))}."
                     for turn in range(NUM_TURNS)]
        self.answers = []  # of the reference

    def body(self, turn):
        messages = [{"role": "system", "content": self.system}]
        for past in range(turn):
            messages += [{"role": "user", "content": self.asks[past]},
                         {"role": "assistant", "content": self.answers[past].text}]
        messages.append({"role": "user", "content": self.asks[turn]})
        body = {"messages": messages, "temperature": 0, "max_tokens": ANSWER_TOKENS, "stream": True,
                "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2}
        if self.keeps:
            body["session_id"] = self.name
            body["kv_hints"] = {"action": "kv.retain", "ttl_ms": 20000}
            if turn + 1 == NUM_TURNS:
                del body["kv_hints"]
                body["session_final"] = True
        return body


class Answer:
    """What has come of one so far."""

    def __init__(self):
        self.text, self.logprobs, self.finish, self.cached_tokens = "", [], None, None

    def add(self, event):
        for choice in event["choices"]:
            self.text += choice["delta"].get("content") or ""
            self.logprobs += (choice.get("logprobs") or {}).get("content") or []
            self.finish = choice["finish_reason"] or self.finish
        if event.get("usage"):
            self.cached_tokens = event["usage"]["prompt_tokens_details"]["cached_tokens"]

    @property
    def whole(self):
        return self.cached_tokens is not None

    def agrees_with(self, reference):
        """Bit for bit: JSON carries numbers in the digits that give them back."""
        if self.whole:
            return (self.text, self.logprobs, self.finish) == (
                reference.text, reference.logprobs, reference.finish)
        return (reference.text.startswith(self.text) and
                reference.logprobs[:len(self.logprobs)] == self.logprobs)


async def ask(client, agent, turn, leave_after=None, on_event=lambda: None):
    """Fills and returns an answer; of a stream that breaks, what had come."""
    answer = Answer()
    try:
        async with client.stream("POST", "/v1/chat/completions", json=agent.body(turn)) as stream:
            if stream.status_code != 200:
                await stream.aread()
                raise RuntimeError(f"status {stream.status_code}: {stream.text}")
            async for line in stream.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise RuntimeError(f"error in the stream: {event['error']}")
                answer.add(event)
                on_event()
                if leave_after is not None and len(answer.logprobs) > leave_after:
                    return answer  # closes the connection in mid-stream
    except httpx.HTTPError as error:
        answer.broken = error
    return answer


def make_reference(seed):
    """Agents with the answers of a daemon that reuses nothing."""
    agents = [Agent(index, seed) for index in range(NUM_AGENTS)]

    async def all_turns(url):
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            for agent in agents:
                for turn in range(NUM_TURNS):
                    answer = await ask(client, agent, turn)
                    assert answer.whole and answer.logprobs, "the reference has no answer"
                    assert answer.cached_tokens == 0, "the reference reuses KV"
                    agent.answers.append(answer)

    with Daemon(*CONTEXT, "--prefix-cache", "false") as daemon:
        run(all_turns(daemon.url))
    return agents


# ---- one life of a daemon --------------------------------------------------------------------------


class Tally:
    def __init__(self):
        self.counts = collections.Counter()
        self.ready_seconds = []
        self.faults = []

    def check(self, where, agent, turn, answer):
        if not answer.agrees_with(agent.answers[turn]):
            self.faults.append(f"{where}: {agent.name} turn {turn}: got {answer.text!r}, the "
                               f"reference says {agent.answers[turn].text!r}")
        self.counts["answers" if answer.whole else "parts of answers"] += 1


async def load(url, agents, clients, rng, tally, where, kill):
    """Clients take up agents at some turn and go on, until the daemon is killed: a moment after a
    number of events, which mean as much on a slow machine as on a fast one."""
    is_over, is_due = asyncio.Event(), asyncio.Event()
    events_left = rng.randint(1, EVENTS_MAX)
    jitter_seconds = rng.uniform(0, 0.1)

    def on_event():
        nonlocal events_left
        events_left -= 1
        if events_left <= 0:
            is_due.set()

    async def one_client(rng):
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            while not is_over.is_set():
                agent = rng.choice(agents)
                for turn in range(rng.randrange(NUM_TURNS), NUM_TURNS):
                    leave = rng.randrange(ANSWER_TOKENS) if rng.random() < 0.1 else None
                    answer = await ask(client, agent, turn, leave, on_event)
                    tally.check(where, agent, turn, answer)
                    if hasattr(answer, "broken"):
                        if not is_over.is_set():
                            raise RuntimeError(f"transport: {answer.broken!r}")
                        return

    async def until_killed():
        await asyncio.wait_for(is_due.wait(), 100)
        await asyncio.sleep(jitter_seconds)
        await asyncio.to_thread(kill, is_over)

    tasks = [asyncio.create_task(one_client(random.Random(rng.random()))) for _ in range(clients)]
    killer = asyncio.create_task(until_killed())
    try:
        done, _ = await asyncio.wait([killer, *tasks], return_when=asyncio.FIRST_EXCEPTION,
                                     timeout=120)
        for task in done:
            task.result()
        if len(done) <= clients:
            raise RuntimeError("clients did not end though the daemon was killed")
    finally:
        for task in tasks:
            task.cancel()


def said_of_disk(daemon):
    """The numbers of the start log's line on the disk tier."""
    text = daemon.log_path.read_text(errors="replace")
    return {key: int(value) for key, value in
            re.findall(r"\b(adopted|refused|torn|duplicate)=(\d+)", text)}


def live_once(arguments, agents, clients, rng, tally, where):
    """Start, one agent alone, load, SIGKILL; returns the seconds to ready."""
    with Daemon(*arguments, wait=False) as daemon:
        seconds = daemon.wait_ready()
        tally.ready_seconds.append(seconds)
        tally.counts.update(said_of_disk(daemon))

        # Nobody else has computed anything yet: what this prompt finds, the disk has kept.
        async def first():
            agent = rng.choice(agents)
            async with httpx.AsyncClient(base_url=daemon.url, timeout=120) as client:
                answer = await ask(client, agent, NUM_TURNS - 1)
            if not answer.whole:
                raise RuntimeError(f"no answer: {getattr(answer, 'broken', None)!r}")
            tally.check(where + ", first after the start", agent, NUM_TURNS - 1, answer)
            return answer.cached_tokens

        revived = run(first())
        if revived != daemon.metric("holdfast_kvstore_hit_tokens_total", tier="disk"):
            tally.faults.append(f"{where}: {revived} cached tokens did not come from disk alone")
        tally.counts["tokens revived"] += revived
        tally.counts["rounds with disk hits"] += revived > 0

        def kill(is_over):
            tally.counts.update(counters_of(daemon))
            is_over.set()
            daemon.process.kill()

        run(load(daemon.url, agents, clients, rng, tally, where, kill))
        daemon.process.wait()
        tally.counts["kills"] += 1
    return seconds


def counters_of(daemon):
    """What is lost with the process."""
    counts = collections.Counter()
    for tier in ("device", "host", "disk"):
        counts[f"{tier} hit tokens"] = int(
            daemon.metric("holdfast_kvstore_hit_tokens_total", tier=tier))
    for kind in ("offload", "demote", "restore"):
        counts[f"{kind} moves"] = int(
            daemon.metric("holdfast_kvstore_moves_total", kind=kind, result="done"))
    counts["corrupt blocks"] = int(daemon.metric("holdfast_kvstore_corrupt_blocks_total"))
    return counts


def disk_arguments(directory, disk_bytes):
    return [*SMALL, "--kv-disk-path", str(directory), "--kv-disk-bytes", str(disk_bytes)]


def bytes_in(directory):
    return sum(path.stat().st_size for path in directory.iterdir())


# ---- the two parts ---------------------------------------------------------------------------------


def kill_rounds(directory, agents, args, tally):
    arguments = disk_arguments(directory, DISK_BYTES)
    rng = random.Random(args.seed)
    for index in range(args.rounds):
        where = f"round {index}"
        if index > 0 and rng.random() < 0.15:  # dies while it starts
            with Daemon(*arguments, wait=False) as daemon:
                time.sleep(rng.uniform(0, 1.2 * statistics.median(tally.ready_seconds)))
                daemon.process.kill()
                daemon.process.wait()
            tally.counts["kills"] += 1
            tally.counts["kills in the start"] += 1
        else:
            live_once(arguments, agents, args.clients, rng, tally, where)
        if bytes_in(directory) > DISK_BYTES:
            tally.faults.append(f"{where}: {bytes_in(directory)} bytes of files")
        print(f"{where}: {json.dumps(dict(tally.counts))}", file=sys.stderr)
    # The last life ends well, and everything is asked once more.
    with Daemon(*arguments) as daemon:
        async def all_turns():
            async with httpx.AsyncClient(base_url=daemon.url, timeout=300) as client:
                for agent in agents:
                    for turn in range(NUM_TURNS):
                        answer = await ask(client, agent, turn)
                        assert answer.whole
                        tally.check("at the end", agent, turn, answer)
        run(all_turns())
        tally.counts.update(counters_of(daemon))
        if daemon.terminate() != 0:
            tally.faults.append("the last daemon did not end well")


def full_disk(directory, agents, args, tally):
    """Restarts with --full-gib of valid blocks; returns a line."""
    wanted = int(args.full_gib * 2**30)
    # A segment is kept for compaction and an eighth of the rest is not lent (disk_tier.h).
    disk_bytes = int(wanted * 8 / 7 * 1.01) + (128 << 20)
    arguments = disk_arguments(directory, disk_bytes)
    rng = random.Random(args.seed + 1)
    live_once(arguments, agents, args.clients, rng, tally, "filling")
    made = json.loads(subprocess.run([str(FILL), str(directory), str(disk_bytes)], check=True,
                                     capture_output=True, text=True).stdout)
    if made["live_bytes"] < wanted:
        tally.faults.append(f"only {made['live_bytes']} bytes could be filled")
    starts = []
    for index in range(3):
        where = f"full disk, start {index}"
        before = tally.counts["adopted"]
        starts.append(live_once(arguments, agents, args.clients, rng, tally, where))
        adopted = (tally.counts["adopted"] - before) * BLOCK_BYTES
        if adopted < 0.98 * wanted:  # some went, and new ones were in mid-write when it was killed
            tally.faults.append(f"{where}: {adopted} bytes taken back of {made['live_bytes']}")
        if bytes_in(directory) > disk_bytes:
            tally.faults.append(f"{where}: {bytes_in(directory)} bytes of files")
    return (f"full disk of {made['live_bytes'] / 2**30:.2f} GiB in {made['blocks']} blocks: ready in "
            + ", ".join(f"{seconds:.2f}" for seconds in starts) + " s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full-gib", type=float, default=5)
    parser.add_argument("--directory", default=BINARY.parent,
                        help="where the disk tiers lie (default: beside the daemon)")
    args = parser.parse_args()
    tally, full = Tally(), "full disk left out"
    with tempfile.TemporaryDirectory(prefix="holdfast-kill-", dir=args.directory) as scratch:
        need = int((args.full_gib * 1.3 + 0.5) * 2**30)
        if shutil.disk_usage(scratch).free < need:
            sys.exit(f"kill_loop: {scratch} has less than {need >> 20} MiB free; name another "
                     "place by --directory, or leave the full disk out by --full-gib 0")
        small, large = pathlib.Path(scratch) / "small", pathlib.Path(scratch) / "large"
        agents = make_reference(args.seed)
        print("reference answered", file=sys.stderr)
        try:
            kill_rounds(small, agents, args, tally)
            if args.full_gib > 0:
                full = full_disk(large, agents, args, tally)
        except Exception as error:  # the summary is owed in any case
            tally.faults.append(f"{type(error).__name__}: {error}")
    counts, ready = tally.counts, tally.ready_seconds or [0.0]
    if counts["tokens revived"] == 0:
        tally.faults.append("no prompt was found on disk after a restart")
    if max(ready) > READY_SECONDS_MAX:
        tally.faults.append(f"a start took {max(ready):.1f} s")
    for fault in tally.faults[:20]:
        print(f"fault: {fault}", file=sys.stderr)
    print(f"kill_loop: {'FAILED, ' + str(len(tally.faults)) + ' faults' if tally.faults else 'held'}; "
          f"seed {args.seed}; {counts['kills']} kills ({counts['kills in the start']} while starting); "
          f"{counts['answers']} answers and {counts['parts of answers']} cut ones as the reference's; "
          f"after restarts {counts['tokens revived']} tokens from disk in "
          f"{counts['rounds with disk hits']} rounds; hits in tokens: device "
          f"{counts['device hit tokens']}, host {counts['host hit tokens']}, disk "
          f"{counts['disk hit tokens']}; blocks found torn {counts['torn']}, unproven when read "
          f"{counts['corrupt blocks']}; ready in {statistics.median(ready):.2f} s (median), "
          f"{max(ready):.2f} s (most); {full}; load average {os.getloadavg()[0]:.1f} on "
          f"{os.cpu_count()} cores")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
