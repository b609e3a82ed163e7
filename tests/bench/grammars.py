"""Which schemas the daemon can hold an answer to, and what that costs with the default model's
vocabulary: compiling, a matcher for a request, and the masks of answers drawn at random.

    ./dev bench grammars --schemas FILE.jsonl.gz [--schemas ...] [--tools FILE.jsonl.gz ...] [--json OUT]
                         [--validate N]

With --validate, N answers of each schema are drawn at random, and those that come to an end are
held to the schema by another library (jsonschema); and documents that come with a schema ("tests",
or "valid" and "invalid") are tried: what that library finds invalid must be no answer. Of a --schemas file each line's "schema" is one; of a --tools file (BFCL) the parameters of each of
its "function"s. Without either: a handful of our own.
"""

import argparse
import collections
import gzip
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build/release/tests/bench/bench_grammars"

OWN = [
    ("person", "json", {"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}}},
        "required": ["name", "age", "tags"], "additionalProperties": False}),
    ("any object", "json", {"type": "object"}),
    ("telephone number", "regex", r"\([0-9]{3}\) [0-9]{3}-[0-9]{4}"),
    ("yes or no", "choice", ["yes", "no"]),
    ("sum", "lark", 'start: NUM ("+" NUM)+\nNUM: /[1-9][0-9]*/'),
]
# BFCL's names of types that JSON schema has others for.
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}


DOCUMENTS = {}  # by the name of their schema


def lines(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def as_schema(value):
    if isinstance(value, list):
        return [as_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, item in value.items():
        if key == "type" and isinstance(item, str):
            item = TYPES.get(item, item)
            if item is None:
                continue
        made[key] = as_schema(item)
    return made


def documents_of(line):
    for test in line.get("tests", []):
        yield test["data"]
    for word in ("valid", "invalid"):
        if isinstance(line.get(word), list):
            yield from line[word]


def asked(args):
    """(source, name, kind, text), each schema once a source."""
    seen = set()
    for path in args.schemas:
        for index, line in enumerate(lines(path)):
            text = json.dumps(line["schema"])
            name = line.get("name") or line.get("file") or line.get("description") or str(index)
            if (path, text) not in seen:
                seen.add((path, text))
                DOCUMENTS[f"{name} {index}"] = list(documents_of(line))
                yield pathlib.Path(path).name, f"{name} {index}", "json", text
    for path in args.tools:
        for line in lines(path):
            functions = line.get("function", [])
            for function in functions if isinstance(functions, list) else [functions]:
                text = json.dumps(as_schema(function["parameters"]))
                if (path, text) not in seen:
                    seen.add((path, text))
                    yield pathlib.Path(path).name, function["name"], "json", text
    if not args.schemas and not args.tools:
        for name, kind, value in OWN:
            text = json.dumps(value) if kind in ("json", "choice") else value
            yield "own", name, kind, text


def quantile(values, share):
    values = sorted(values)
    return values[int(share * (len(values) - 1))] if values else 0.0


def invalid(schema, answers):
    """(answer, why) of those that the other library does not find valid; formats are annotations."""
    import jsonschema  # only here: it is no part of what the daemon needs
    validator = jsonschema.validators.validator_for(schema)(schema)
    for text in answers:
        try:
            error = jsonschema.exceptions.best_match(validator.iter_errors(json.loads(text)))
        except (ValueError, jsonschema.exceptions.SchemaError) as broken:
            error = broken
        except Exception as unknown:  # a pattern or a reference that the library cannot follow
            yield text, f"(not judged) {type(unknown).__name__}: {unknown}"
            continue
        if error is not None:
            yield text, str(getattr(error, "message", error))


def texts_of(name):
    return [json.dumps(document, separators=(",", ":"), ensure_ascii=False)
            for document in DOCUMENTS.get(name, [])]


def print_validity(wanted, measured):
    counts = collections.defaultdict(collections.Counter)
    for (source, name, kind, text), result in zip(wanted, measured, strict=True):
        if kind != "json" or "answers" not in result:
            continue
        count, answers = counts[source], result["answers"]
        taken = result.get("accepted", [])
        texts = texts_of(name)
        bad = dict(invalid(json.loads(text), texts))
        for document, accepted in zip(texts, taken, strict=True):
            why = bad.get(document)
            if why is None:
                count["documents"] += 1
                count["taken"] += accepted
            elif accepted and not why.startswith("(not judged)"):
                count["wrong"] += 1
                print(f"{name}: would take {document[:200]!r}: {why[:200]}")
        wrong = list(invalid(json.loads(text), answers))
        unknown = sum(why.startswith("(not judged)") for _, why in wrong)
        count["answers"] += len(answers)
        count["schemas"] += bool(answers)
        count["valid"] += len(answers) - len(wrong)
        count["not judged"] += unknown
        count["wrong"] += len(wrong) - unknown
        for answer, why in wrong[:2]:
            print(f"{name}: {answer[:200]!r}: {why[:200]}")
    for source, count in counts.items():
        print(f"{source}: {count['answers']} answers of {count['schemas']} schemas: "
              f"{count['valid']} valid, {count['wrong']} wrong, {count['not judged']} not judged; "
              f"of {count['documents']} valid documents {count['taken']} could be answers")
    return sum(count["wrong"] for count in counts.values())


def reason(text):
    return re.sub(r"/\S+|'[^']*'|\d+", "…", text)[:110]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schemas", action="append", default=[])
    parser.add_argument("--tools", action="append", default=[])
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--refused", action="store_true", help="list what was refused, and why")
    parser.add_argument("--validate", type=int, default=0, metavar="N")
    args = parser.parse_args()
    wanted = list(asked(args))
    feed = "".join(json.dumps({"name": name, "kind": kind, "text": text,
                               "documents": texts_of(name) if args.validate else []}) + "\n"
                   for _, name, kind, text in wanted)
    done = subprocess.run([PROGRAM, f"--answers={args.validate}"], input=feed, capture_output=True, text=True,
                          env=os.environ, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench_grammars ended with {done.returncode}:\n{done.stderr}")
    first, *measured = (json.loads(line) for line in done.stdout.splitlines())
    print(f"once, at the first grammar: {first['compiler_us'] / 1e3:.0f} ms\n")
    print("| source | schemas | compile | fail later | compile time p50, p99 | matcher p50 | "
          "mask p50, p90 (of the schemas' means), max |")
    print("|---|---|---|---|---|---|---|")
    by_source = collections.defaultdict(list)
    for (source, *_), result in zip(wanted, measured, strict=True):
        by_source[source].append(result)
    for source, results in by_source.items():
        good = [r for r in results if "refused" not in r]
        times = [r["compile_us"] for r in results]
        print(f"| {source} | {len(results)} | {len(good)} ({100 * len(good) / len(results):.1f} %) | "
              f"{sum('failed' in r for r in good)} | {quantile(times, 0.5) / 1e3:.2f} ms, "
              f"{quantile(times, 0.99) / 1e3:.1f} ms | "
              f"{statistics.median(r['matcher_us'] for r in good):.0f} µs | "
              f"{statistics.median(r['mask_us']['p50'] for r in good):.0f} µs, "
              f"{statistics.median(r['mask_us']['p90'] for r in good):.0f} µs, "
              f"{max(r['mask_us']['max'] for r in good) / 1e3:.1f} ms |")
    refused = collections.Counter(reason(r.get("refused") or "later: " + r["failed"])
                                  for r in measured if "refused" in r or "failed" in r)
    if refused:
        print("\nwhy not, how often:")
        for text, count in refused.most_common(15):
            print(f"  {count:4} {text}")
    if args.refused:
        for result in measured:
            for word in ("refused", "failed"):
                if word in result:
                    print(f"{word}: {result['name']}: {result[word]}")
    if args.validate and print_validity(wanted, measured) > 0:
        return 1
    if args.json:
        args.json.write_text(json.dumps({"first": first, "grammars": measured}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
