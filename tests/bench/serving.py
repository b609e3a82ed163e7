"""Served load: chat requests that share a system prompt, streamed from Holdfast and from peers in
turn, on this machine.

    ./dev bench serving [--serve 'NAME=COMMAND'] [--concurrency 1,4,16] [--requests 64]
                        [--output-tokens 64] [--padding-words 0] [--runs 5] [--threads 2]
                        [--prompts chat|repeating|FILE] [--temperature 0]
                        [--model FILE] [--json FILE]

Each COMMAND starts an OpenAI-compatible server on 127.0.0.1:{port}; {model} and {threads} are filled
in as well. Holdfast is always the first, and the others are told as its multiples. In each run every
server is started anew, warmed by a request of another system prompt, then asked by as many clients
as the concurrency says, each sending its next request when the last is answered in full. Servers
take turns, in the opposite order every other run, so that a slow hour of the machine meets them all.

--prompts repeating asks for what the prompt holds already, with one change: code, JSON and a list.
A FILE has one conversation a line, as JSON with `messages` as in a chat request.

A failed request ends the benchmark. Printed are medians of the runs, lowest and highest.

    TTFT    from sending to the first text
    ITL     between two pieces of text of a stream
    start   from starting the process to the answer to a first request of one token
    memory  of all processes of the server after the last answer, pages that they share counted
            once; with --padding-words each question is that much longer, so that KV fills

tests/bench/peers.md tells how to get the peers. docs/speculation.md has the commands that compare
Holdfast with and without drafts.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time

import aiohttp

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN = (f"{ROOT}/build/release/holdfast serve --model {{model}} --threads {{threads}} "
       "--http 127.0.0.1:{port} --grpc '' --running-max 16 --kv-device-bytes 1GiB")
READY_SECONDS = 180
MEASURES = {"output_tokens_per_second": "output tokens/s", "ttft_p50_ms": "p50 TTFT, ms",
            "itl_p99_ms": "p99 ITL, ms", "start_seconds": "start, s", "memory_mb": "memory, MB"}
MORE_IS_BETTER = {"output_tokens_per_second"}

# The default model's tokens without text. Some servers never draw them under ignore_eos, others
# draw them and send nothing, which would look like a long time between two texts.
NEVER_DRAWN = {"0": -100, "1": -100, "2": -100}

# About 300 tokens of the default model's tokenizer.
SYSTEM = (
    "You answer for the help desk of a railway that runs trains between forty towns on both sides "
    "of a mountain range. Travellers ask about timetables, tickets, bicycles, dogs, luggage that "
    "was left behind, platforms that changed and trains that did not come. Be brief and friendly, "
    "give the most useful fact first, and never invent a departure. If a question needs the "
    "timetable of a certain day, say which day you assume. Tickets bought at a machine are valid "
    "for two hours, those bought at a counter for the whole day, and a return ticket for a month. "
    "A child under six travels free beside an adult; up to two dogs may come along if they stay "
    "off the seats. Bicycles need a place of their own, which can be booked until the evening "
    "before and costs as much as a short ticket. Whoever missed a connection because a train of "
    "ours was late may take the next one without paying again, may ask for the price of a meal "
    "after an hour and for a room after the last train has gone. Luggage that was found is kept "
    "for thirty days at the station where the train ends, then at the head office. In winter the "
    "upper valley is served by buses between the third and the ninth stop, which take twenty "
    "minutes longer and carry no bicycles. If somebody is angry, say that you understand, name "
    "what can be done now and by whom. If somebody is in danger, tell them to call the emergency "
    "number before anything else. Do not speak about politics, other railways or the weather, "
    "unless a storm has closed a line.")
PLACES = ("Aldern", "Birkfeld", "Corvo", "Dunmere", "Estrel", "Fallow", "Grunau", "Hollen", "Ister",
          "Jarrow", "Kelm", "Lorne", "Maren", "Norwood", "Ostia", "Pell", "Quern", "Rask", "Selm")
QUESTIONS = (
    "I left a {thing} on the train from {a} to {b} last {day}. Who has it now?",
    "When does the last train from {a} to {b} leave on {day}, and may I bring a {thing}?",
    "My train from {a} was late and I missed the one to {b} on {day} with my {thing}. What now?",
    "How long is a ticket from {a} to {b} valid if I buy it on {day} and carry a {thing}?")
THINGS = ("red umbrella", "bicycle", "cello", "grey suitcase", "laptop bag", "dog", "pair of skis")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def question(number, padding_words):
    rng = random.Random(number)
    a, b = rng.sample(PLACES, 2)
    asked = rng.choice(QUESTIONS).format(a=a, b=b, thing=rng.choice(THINGS), day=rng.choice(DAYS))
    padding = [rng.choice(PLACES + THINGS + DAYS) for _ in range(padding_words)]
    return " ".join([*padding, asked])


def repeating(number):
    """Messages that ask for a copy of what they hold, with one change."""
    rng = random.Random(number)
    names = rng.sample(PLACES, 6)
    if number % 3 == 0:
        text = "\n".join(
            f"def tickets_to_{name.lower()}(count, day):\n"
            f'    """The price of tickets to {name}, in cents."""\n'
            f"    price = {rng.randrange(100, 999)} * count\n"
            f"    if day in WEEKEND:\n        price = price * {rng.randrange(2, 9)} // 10\n"
            f"    return price\n" for name in names[:4])
        asked = f"Rename the argument day to date in tickets_to_{names[0].lower()}."
    elif number % 3 == 1:
        text = json.dumps([{"town": name, "platform": rng.randrange(1, 9), "bicycles": True,
                            "leaves": f"{rng.randrange(6, 22)}:{rng.randrange(10, 60)}",
                            "calls_at": rng.sample(PLACES, 2)} for name in names], indent=1)
        asked = f"Change the platform of {names[1]} to 12."
    else:
        text = "\n".join(f"{i + 1}. The train to {name} leaves at {rng.randrange(6, 22)}:"
                         f"{rng.randrange(10, 60)} from platform {rng.randrange(1, 9)} and carries "
                         f"no {rng.choice(THINGS)}." for i, name in enumerate(names))
        asked = f"Move the train to {names[0]} to platform 12."
    return [{"role": "system", "content": "You edit text. Answer with the whole text and nothing "
                                          "else."},
            {"role": "user", "content": f"{asked} Repeat everything else as it is.\n\n{text}"}]


def conversations(args):
    """number -> messages"""
    if args.prompts == "chat":
        return lambda number: [{"role": "system", "content": SYSTEM},
                               {"role": "user", "content": question(number, args.padding_words)}]
    if args.prompts == "repeating":
        return repeating
    lines = pathlib.Path(args.prompts).read_text().splitlines()
    return lambda number: json.loads(lines[number % len(lines)])["messages"]


class Server:
    """A server process; its log goes to a file that is shown if it fails."""

    def __init__(self, name, command, fill_in, log):
        self.name = name
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log, self.started = log, time.monotonic()
        words = shlex.split(command.format(port=self.port, **fill_in))
        with open(log, "w") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)

    def fail(self, what):
        tail = pathlib.Path(self.log).read_text(errors="replace")[-2000:]
        raise SystemExit(f"{self.name}: {what}; its log {self.log} ends so:\n{tail}")

    async def wait_ready(self, session):
        """Until a short request is answered: some servers list models while they load. (the model's
        name, seconds since the start)"""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.fail(f"ended with {self.process.returncode} before it was ready")
            try:
                async with session.get(f"{self.url}/v1/models") as answer:
                    model = (await answer.json())["data"][0]["id"] if answer.status == 200 else None
                if model:
                    body = {"model": model, "max_tokens": 1,
                            "messages": [{"role": "user", "content": "Are you there?"}]}
                    async with session.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                        if answer.status == 200:
                            return model, time.monotonic() - self.started
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.01)
        self.fail(f"not ready after {READY_SECONDS} s")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def memory_mb(self):
        """Proportional set size of the session's processes."""
        kilobytes = 0
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(process.name)) == self.process.pid:
                    pss = re.search(r"^Pss: +(\d+)", (process / "smaps_rollup").read_text(), re.M)
                    kilobytes += int(pss[1])
            except (ProcessLookupError, FileNotFoundError):
                pass  # it ended meanwhile
        return kilobytes * 1024 / 1e6

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


async def ask(session, server, model, messages, args):
    """(seconds to the first text, seconds between texts, tokens of the answer)"""
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True},
            "temperature": args.temperature, "max_tokens": args.output_tokens, "ignore_eos": True,
            "seed": 1, "logit_bias": NEVER_DRAWN, "messages": messages}
    sent, first, last, gaps, tokens = time.perf_counter(), None, None, [], None
    async with session.post(f"{server.url}/v1/chat/completions", json=body) as answer:
        if answer.status != 200:
            server.fail(f"status {answer.status}: {await answer.text()}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            now = time.perf_counter()
            event = json.loads(line[6:])
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
            if not event.get("choices") or not event["choices"][0]["delta"].get("content"):
                continue
            if first is None:
                first = now - sent
            else:
                gaps.append(now - last)
            last = now
    if first is None or tokens is None:
        server.fail(f"an answer without text or usage to: {messages[-1]['content']}")
    return first, gaps, tokens


async def load(server, concurrency, args):
    timeout = aiohttp.ClientTimeout(total=600)
    # A connection each: some servers close theirs after an answer, and the next request would meet it.
    connector = aiohttp.TCPConnector(limit=concurrency, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        model, start_seconds = await server.wait_ready(session)
        await ask(session, server, model,
                  [{"role": "system", "content": "You tell the time."},
                   {"role": "user", "content": "How late is it?"}], args)
        numbers, answers, messages_of = iter(range(args.requests)), [], conversations(args)

        async def client():
            for number in numbers:
                answers.append(await ask(session, server, model, messages_of(number), args))

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(concurrency)))
        seconds = time.perf_counter() - start
    gaps = sorted(gap for _, many, _ in answers for gap in many)
    return {"output_tokens_per_second": sum(tokens for _, _, tokens in answers) / seconds,
            "ttft_p50_ms": 1e3 * statistics.median(first for first, _, _ in answers),
            "itl_p99_ms": 1e3 * gaps[int(0.99 * (len(gaps) - 1))],
            "start_seconds": start_seconds, "memory_mb": server.memory_mb(),
            "output_tokens": sum(tokens for _, _, tokens in answers)}


def measure(servers, concurrencies, args):
    """{(name, concurrency): [a run's figures, ...]}"""
    fill_in = {"model": args.model, "threads": args.threads}
    results = {}
    for run in range(args.runs):
        for concurrency in concurrencies:
            for name, command in (servers if run % 2 == 0 else servers[::-1]):
                print(f"run {run + 1} of {args.runs}: {name}, {concurrency} at once",
                      file=sys.stderr)
                server = Server(name, command, fill_in, f"{args.logs}/serving_{name}.log")
                try:
                    figures = asyncio.run(load(server, concurrency, args))
                finally:
                    server.stop()
                results.setdefault((name, concurrency), []).append(figures)
    return results


def table(servers, concurrencies, results):
    own = servers[0][0]
    lines = ["| at once | measure | " + " | ".join(name for name, _ in servers) + " |",
             "|---|---|" + "---|" * len(servers)]
    for concurrency in concurrencies:
        for key, label in MEASURES.items():
            of = {name: [run[key] for run in results[name, concurrency]] for name, _ in servers}
            mid = {name: statistics.median(values) for name, values in of.items()}
            cells = []
            for name, _ in servers:
                values = of[name]
                cell = f"{mid[name]:.1f} ({min(values):.1f}–{max(values):.1f})"
                if name != own:
                    better = mid[own] / mid[name]
                    better = better if key in MORE_IS_BETTER else 1 / better
                    cell += f", **{better:.2f}x**"
                cells.append(cell)
            lines.append(f"| {concurrency} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--own", default=OWN, help="Holdfast's command, of another model or build")
    parser.add_argument("--concurrency", default="1,4,16")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--padding-words", type=int, default=0)
    parser.add_argument("--prompts", default="chat", metavar="chat|repeating|FILE")
    parser.add_argument("--temperature", type=float, default=0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default=os.environ.get("HOLDFAST_MODEL"))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--logs", default="/tmp", metavar="DIRECTORY")
    args = parser.parse_args()
    if not args.model:
        parser.error("--model, or HOLDFAST_MODEL in the environment, must name a model")
    servers = [("holdfast", args.own)]
    for text in args.serve:
        name, equals, command = text.partition("=")
        if not equals or "{port}" not in command:
            parser.error(f"--serve wants NAME=COMMAND with {{port}} in the command, found: {text}")
        servers.append((name, command))
    concurrencies = [int(word) for word in args.concurrency.split(",")]
    results = measure(servers, concurrencies, args)
    print(table(servers, concurrencies, results))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(
            [{"server": name, "concurrency": concurrency, "runs": runs}
             for (name, concurrency), runs in results.items()], indent=1))


if __name__ == "__main__":
    main()
