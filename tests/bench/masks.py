"""What it costs that answers are held to a form: the time of a token of the real engine with 16
streams at once, free and held, in turn.

    ./dev bench masks [--streams 16] [--tokens 96] [--runs 5] [--json OUT]

The time of all steps is the daemon's own, from its metrics (holdfast_scheduler_step_seconds), of
whole rounds, prompts included, the same in every form. Every answer has --tokens tokens. A step
takes all tokens that a form leaves no choice of, but where log probabilities are asked for.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROW = {"type": "object", "properties": {
    "name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
    "kind": {"enum": ["cat", "dog", "bird"]}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "age", "kind", "tags"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": f"tool_{i}", "parameters": ROW}} for i in range(8)]
NAMES = ["the_name_of_the_animal", "the_age_of_the_animal_in_years", "the_name_of_the_animals_owner"]
LONG_ROW = {"type": "object", "properties": {name: {"type": "string", "maxLength": 12} for name in NAMES},
            "required": NAMES, "additionalProperties": False}
LONG_NAMES = {"structured_outputs": {"json": {"type": "array", "items": LONG_ROW, "minItems": 99}}}
# None of them ends before the tokens do.
FORMS = {
    "free": {},
    "a schema": {"structured_outputs": {"json": {"type": "array", "items": ROW, "minItems": 99}}},
    "a schema of long names": LONG_NAMES,
    "a schema of long names, a token a step": {**LONG_NAMES, "logprobs": True},
    "any JSON": {"structured_outputs": {"json": {"type": "array", "minItems": 999}}},
    "an expression": {"structured_outputs": {"regex": "([a-z]{2,9} ){999}"}},
    # The default model is told of tools in its system message: nearly this one.
    "free, of tools": {"messages": [
        {"role": "system", "content": "You can call these functions, described in JSON:\n"
         + "\n".join(json.dumps(tool["function"]) for tool in TOOLS)}]},
    "words or calls": {"tool_choice": "auto", "tools": TOOLS},
}


def ask(url, form, number, args):
    question = {"role": "user", "content": f"Tell me of {number} animals and their owners."}
    body = {"max_tokens": args.tokens, "temperature": 1.0, "seed": number, "ignore_eos": True,
            **FORMS[form]}
    body["messages"] = [*body.get("messages", []), question]
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        usage = json.load(answer)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def step_seconds(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return float(re.search(r"^holdfast_scheduler_step_seconds_sum(?:{.*})? (\S+)$", text, re.M)[1])


def one_round(url, form, args):
    """(milliseconds a token of each answer, tokens of all answers, of a prompt)"""
    before = step_seconds(url)
    with concurrent.futures.ThreadPoolExecutor(args.streams) as pool:
        usages = list(pool.map(lambda number: ask(url, form, number, args), range(args.streams)))
    return (1e3 * (step_seconds(url) - before) / args.tokens, sum(tokens for _, tokens in usages), usages[0][0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    daemon = subprocess.Popen(
        [ROOT / "build/release/holdfast", "serve", "--model", os.environ["HOLDFAST_MODEL"], "--http",
         f"127.0.0.1:{port}", "--grpc", "", "--running-max", str(args.streams)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/health/ready", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        for form in FORMS:
            one_round(url, form, args)  # compiles, and caches what prompts share
        taken, prompts = {form: [] for form in FORMS}, {}
        for run in range(args.runs):
            for form in FORMS:
                milliseconds, tokens, prompts[form] = one_round(url, form, args)
                if tokens != args.streams * args.tokens:
                    raise SystemExit(f"{form}: {tokens} tokens came, not {args.streams * args.tokens}")
                taken[form].append(milliseconds)
                print(f"run {run + 1} of {args.runs}: {form}", end="\33[K\r", file=sys.stderr)
    finally:
        daemon.terminate()
        daemon.wait(30)
    print(f"{args.streams} streams of {args.tokens} tokens, {args.runs} runs in turn\33[K\n")
    print("| answers | tokens of a prompt | ms a token, median (least to most) | to free ones |\n"
          "|---|---|---|---|")
    for form, values in taken.items():
        free = "free, of tools" if "tools" in form or "calls" in form else "free"
        median = statistics.median(values)
        print(f"| {form} | {prompts[form]} | {median:.2f} ({min(values):.2f}-{max(values):.2f}) | "
              f"{median / statistics.median(taken[free]):.3f} |")
    if args.json:
        args.json.write_text(json.dumps(taken, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
