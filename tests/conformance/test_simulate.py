"""`holdfast simulate` as a user runs it: a scenario in, the same report out each time."""

import json
import os
import subprocess

import pytest
from daemon import BINARY

SCENARIO = """
name: agents beside a crowd
tenants: [agents, crowd]
programs:
  - tenant: agents
    session: fixer
    at: [0, 3, 6]
    turns:
      - prompt: [{run: instructions, tokens: 600}, 150]
        completion: 40
        tool: grep
      - after: 2.5
        prompt: 90
        completion: 40
        repeat: 5
  - tenant: crowd
    arrivals: {process: poisson, rate: 2}
    repeat: 60
    turns:
      - prompt: [{run: greeting, tokens: 64}, 100]
        completion: 20
"""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "agents.yaml"
    path.write_text(SCENARIO)
    return path


def simulate(*arguments):
    return subprocess.run([str(BINARY), "simulate", *map(str, arguments)], capture_output=True,
                          text=True, timeout=120)


def test_a_scenario_gives_the_same_report_on_one_thread_and_on_two(scenario):
    arguments = ["--workload", scenario, "--instances", 3, "--seed", 5, "--slo-ttft", "1s"]
    one = simulate(*arguments, "--threads", 1)
    two = simulate(*arguments, "--threads", 2)
    assert one.returncode == 0, one.stderr
    assert one.stdout == two.stdout
    assert one.stderr == ""  # no progress bar where there is no terminal
    report = json.loads(one.stdout)
    assert report["simulated"] is True
    turns = report["online"]["turns"]
    assert turns["done"] == report["workload"]["turns"] == 3 * 6 + 60
    assert 0 < turns["good"] <= turns["done"]
    assert report["online"]["seconds"]["ttft"]["p95"] > 0


def test_agents_find_what_their_turns_before_computed(scenario):
    found = json.loads(simulate("--workload", scenario).stdout)
    without = json.loads(simulate("--workload", scenario, "--prefix-cache", "false").stdout)
    agents, agents_without = found["tenants"][0]["online"], without["tenants"][0]["online"]
    assert agents["cached_share"] > 0.6
    assert agents_without["cached_share"] == 0
    assert agents["seconds"]["ttft"]["mean"] < agents_without["seconds"]["ttft"]["mean"]


def test_each_turn_is_a_line_when_asked(scenario, tmp_path):
    out, turns = tmp_path / "report.json", tmp_path / "turns.csv"
    done = simulate("--workload", scenario, "--out", out, "--turns-out", turns)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = turns.read_text().splitlines()
    assert lines[0].startswith("program,turn,tenant,")
    assert len(lines) - 1 == json.loads(out.read_text())["workload"]["turns"]


def test_what_is_wrong_is_said(scenario):
    for arguments, words in (
            (["--workload", scenario, "--instances", "none"], "--instances"),
            (["--workload", scenario, "--kv-blocks", "2"], "KV blocks"),
            (["--workload", "/nowhere.csv"], "/nowhere.csv")):
        done = simulate(*arguments)
        assert done.returncode != 0
        assert words in done.stderr, done.stderr


@pytest.mark.skipif("HOLDFAST_MODEL" not in os.environ, reason="needs the default model; ./dev test names it")
def test_a_profile_that_was_measured_here_can_be_simulated_on(scenario, tmp_path):
    profile = tmp_path / "profile.json"
    measured = subprocess.run(
        [str(BINARY), "bench", "profile", "--model", os.environ["HOLDFAST_MODEL"], "--out",
         str(profile), "--kv-device-bytes", "512MiB", "--context-tokens", "256", "--running-max",
         "4", "--step-tokens-max", "64"], capture_output=True, text=True, timeout=600)
    assert measured.returncode == 0, measured.stderr
    assert "error of the fit" in measured.stderr
    costs = json.loads(profile.read_text())
    assert 0 < costs["token_seconds"] < 0.1 and costs["between_steps_seconds"] > 0
    batch = costs["step_seconds"]["batch"]
    assert len(batch) > 5 and all(seconds >= 0 for _, seconds in batch)
    seconds = [of_rows for _, of_rows in batch]
    assert seconds == sorted(seconds) and seconds[-1] > 0  # more rows take no less time
    done = simulate("--workload", scenario, "--profile", profile, "--context-tokens", 4096)
    assert done.returncode == 0, done.stderr
