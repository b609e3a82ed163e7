"""`holdfast replay` as a user runs it: a scenario fired at the running daemon, and a report."""

import csv
import json
import signal
import subprocess
import time

import pytest
from daemon import BINARY, wait_until

SCENARIO = """
name: agents beside a crowd
tenants: [agents, crowd]
programs:
  - tenant: agents
    session: fixer
    at: [0, 0.1]
    turns:
      - prompt: [{run: instructions, tokens: 96}, 30]
        completion: 8
        tool: grep
      - after: 0.05
        prompt: 20
        completion: 8
        repeat: 3
  - tenant: crowd
    at: [0, 0.02, 0.04]
    turns:
      - prompt: [{run: greeting, tokens: 32}, 20]
        completion: 4
"""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "agents.yaml"
    path.write_text(SCENARIO)
    return path


def replay(daemon, *arguments):
    return subprocess.run([str(BINARY), "replay", "--server", f"127.0.0.1:{daemon.grpc}",
                           *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_a_scenario_is_fired_at_the_daemon_and_told_in_the_form_of_simulate(
        daemon, scenario, tmp_path):
    turns_path = tmp_path / "turns.csv"
    done = replay(daemon, "--workload", scenario, "--turns-out", turns_path, "--slo-ttft", "1m")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where there is no terminal
    report = json.loads(done.stdout)
    assert report["simulated"] is False and report["cut_short"] is False
    assert report["errors"] == {}
    turns = report["online"]["turns"]
    assert turns["done"] == turns["good"] == report["workload"]["turns"] == 2 * 4 + 3
    assert report["online"]["tokens"]["completion"] == 2 * 4 * 8 + 3 * 4

    simulated = json.loads(subprocess.run(
        [str(BINARY), "simulate", "--workload", str(scenario), "--turns-out",
         str(tmp_path / "simulated.csv")], capture_output=True, text=True, timeout=60).stdout)
    assert report["workload"] == simulated["workload"]
    assert report["online"].keys() == simulated["online"].keys()
    with open(turns_path) as ours, open(tmp_path / "simulated.csv") as theirs:
        rows, simulated_rows = list(csv.DictReader(ours)), list(csv.DictReader(theirs))
    assert rows[0].keys() == simulated_rows[0].keys()
    lengths = [sorted((r["program"], r["turn"], r["prompt_tokens"], r["completion_tokens"])
                      for r in some) for some in (rows, simulated_rows)]
    assert lengths[0] == lengths[1]


def test_agents_find_what_their_turns_before_left(daemon, scenario):
    # Other tokens than those of the test above.
    report = json.loads(replay(daemon, "--workload", scenario, "--seed", 77).stdout)
    tokens = report["tenants"][0]["online"]["tokens"]
    # All but the last token of what a turn keeps is whole blocks that lie on the device.
    assert tokens["kept_and_recomputed"] < 0.2 * tokens["kept_of_turns_before"]


def test_stopped_by_sigint_it_prints_what_it_has(daemon, tmp_path):
    path = tmp_path / "slow.yaml"
    path.write_text("programs:\n  - turns: [{prompt: 20, completion: 4}]\n"
                    "  - at: 3600\n    turns: [{prompt: 20, completion: 4}]\n")
    turns = tmp_path / "turns.csv"
    process = subprocess.Popen(
        [str(BINARY), "replay", "--server", f"127.0.0.1:{daemon.grpc}", "--workload", str(path),
         "--turns-out", str(turns)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    answered = daemon.metric("holdfast_scheduler_step_seconds_count")
    wait_until(lambda: daemon.metric("holdfast_scheduler_step_seconds_count") > answered + 3, seconds=5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    report = json.loads(out)
    assert report["cut_short"] is True
    counts = report["online"]["turns"]
    assert counts["done"] + counts["failed"] == 1 and counts["abandoned"] == 1


def test_what_is_wrong_is_said(daemon, scenario, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("agents a-key\n")
    for arguments, words in (
            (["--workload", scenario, "--keys", keys], "no key for tenant crowd"),
            (["--workload", scenario, "--server", "192.0.2.1:50051"], "--allow-remote"),
            (["--workload", "/nowhere.csv"], "/nowhere.csv")):
        done = replay(daemon, *arguments)
        assert done.returncode != 0
        assert words in done.stderr, done.stderr


def test_a_server_that_is_not_there_is_said(scenario):
    begin = time.monotonic()
    done = subprocess.run([str(BINARY), "replay", "--server", "127.0.0.1:1", "--workload",
                           str(scenario)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
    assert time.monotonic() - begin < 30
