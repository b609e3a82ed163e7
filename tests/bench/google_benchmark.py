"""Runs one of the micro-benchmarks, programs of Google Benchmark, by turns."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

PROGRAMS = pathlib.Path(__file__).resolve().parents[2] / "build/release/tests/bench"


def google_benchmark(name, pattern, repetitions, **environment):
    """{benchmark's name: [its repetitions]} of bench_`name`; in random order, since a shared machine
    changes and a process has a beginning. Its own table goes to standard error."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run(
            [str(PROGRAMS / f"bench_{name}"), f"--benchmark_filter={pattern}",
             f"--benchmark_repetitions={repetitions}", "--benchmark_enable_random_interleaving=true",
             f"--benchmark_out={out.name}", "--benchmark_out_format=json"],
            check=True, stdout=sys.stderr, env={**os.environ, **environment})
        report = json.load(open(out.name))
    runs = {}
    for run in report["benchmarks"]:
        if run["run_type"] == "iteration":
            if run.get("error_occurred"):
                raise SystemExit(f"{run['name']}: {run['error_message']}")
            runs.setdefault(run["run_name"], []).append(run)
    return runs
