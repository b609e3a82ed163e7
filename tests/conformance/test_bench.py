"""`holdfast bench machine` and `bench engine` as a user runs them. What they measure is asked to be
plausible, never how fast."""

import json
import subprocess

import pytest
from daemon import BINARY, ROOT

TINY = ROOT / "tests/golden/models/llama_f32"


def bench(*arguments):
    return subprocess.run([str(BINARY), "bench", *map(str, arguments)], capture_output=True,
                          text=True, timeout=300)


def test_the_machine_is_told_by_working_set_and_by_path():
    done = bench("machine", "--threads", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where there is no terminal
    machine = json.loads(done.stdout)
    sizes = [read["working_set_bytes"] for read in machine["reads"]]
    assert sizes == sorted(sizes) and sizes[0] == 256 << 10 and sizes[-1] == 512 << 20
    assert {"scalar"} <= {peak["isa"] for peak in machine["peaks"]}
    spreads = [entry[key] for entry in machine["reads"] + machine["peaks"] for key in entry
               if key.endswith("_per_second")]
    assert len(spreads) == 2 * len(machine["reads"] + machine["peaks"])
    for spread in spreads:
        assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"]


@pytest.mark.parametrize("isa", ["scalar", "auto"])
def test_the_engine_is_told_beside_its_bounds(isa):
    done = bench("engine", "--model", TINY, "--threads", 2, "--prompt", 24, "--generate", 4,
                 "--streams", 2, "--context", 32, "--runs", 3, "--isa", isa, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for part in ("prefill", "decode"):
        speed = figures[f"{part}_tokens_per_second"]
        assert 0 < figures[f"{part}_tokens_per_second_lowest"] <= speed
        assert speed <= figures[f"{part}_tokens_per_second_highest"]
        assert figures[f"{part}_bound_tokens_per_second"] > 0
        assert figures[f"{part}_share_of_bound"] > 0
    assert figures["resident_bytes"] > 1 << 20
    assert isa in ("auto", figures["isa"])


def test_without_json_it_is_a_table_to_read():
    done = bench("engine", "--model", TINY, "--prompt", 8, "--generate", 2, "--runs", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("prefill ") and line.count("%") == 1 for line in lines), lines
    assert any(line.startswith("decode ") and line.count("%") == 1 for line in lines), lines


def test_what_is_wrong_is_said():
    for arguments, words in (
            (["engine", "--model", TINY, "--isa", "avx9"], ["--isa", "scalar", "avx512-vnni"]),
            (["engine", "--model", "/nowhere.gguf"], ["/nowhere.gguf"]),
            (["engine", "--model", TINY, "--prompt", 100000], ["100000", "context", "--prompt"]),
            (["engine", "--model", TINY, "--prompt", 8, "--context", 100000],
             ["100000", "context", "--context"]),
            (["engine", "--model", TINY, "--streams", "0"], ["--streams", "at least 1"]),
            (["engine", "--model", TINY, "--prompt", 8, "--generate", 8, "--streams", 2**31 - 1],
             ["are free", "--streams"]),
            (["machine", "--threads", "none"], ["--threads"]),
            (["motor"], ["engine, machine, profile", "motor"])):
        done = bench(*arguments)
        assert done.returncode != 0
        assert done.stdout == ""
        for word in words:
            assert word in done.stderr, (arguments, done.stderr)
