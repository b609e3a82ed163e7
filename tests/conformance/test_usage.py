"""The usage ledger: what clients were told, by tenant, over restarts and kills."""

import contextlib
import csv
import io
import json
import pathlib
import sqlite3
import subprocess
import sys
import time

import httpx
import openai
from daemon import BINARY, ROOT, Daemon, new_key, wait_until
from test_lifecycle import client_of
from test_rate_limits import tenant_lines

sys.path.insert(0, str(ROOT / "tests/load"))
from usage_loop import UsageLoop  # noqa: E402


def usage(*flags):
    return subprocess.run([str(BINARY), "usage", *map(str, flags)], capture_output=True, text=True)


def rows_of(*flags):
    told = usage(*flags, "--format", "json")
    assert told.returncode == 0, told.stderr
    return {row["tenant"]: row for row in json.loads(told.stdout)}


def test_hours_that_are_too_old_go_and_others_stay(folder):
    ledger = folder / "old.sqlite"
    config = "usage:\n  flush: 100ms\n  keep_days: {}\n"

    def begins():
        told = usage("--usage", ledger, "--by", "hour", "--format", "json").stdout
        return [row["hour"] for row in json.loads(told)]

    with Daemon("--usage", str(ledger), config=config.format(0)) as daemon:
        client_of(daemon, "none").completions.create(model="", prompt="x", max_tokens=1)
        assert daemon.terminate() == 0
    this_hour = int(time.time()) // 3600 * 3600
    with contextlib.closing(sqlite3.connect(ledger)) as database, database:
        for days in (1, 2, 3, 1000):
            hour = this_hour - 86400 * days
            database.execute(f"INSERT INTO usage VALUES ({hour}, 'default'{', 1' * 10})")
            database.execute(f"INSERT INTO usage_refusals VALUES ({hour}, 'default', 'queue', 1)")
    with Daemon("--usage", str(ledger), config=config.format(0)) as daemon:
        assert daemon.terminate() == 0
    assert len(begins()) == 5  # with the hour of the request
    with Daemon("--usage", str(ledger), config=config.format(2)):
        assert wait_until(lambda: len(begins()) <= 3)
    left = begins()
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        refused = database.execute("SELECT hour FROM usage_refusals ORDER BY hour").fetchall()
    # At an hour's turn the one of two days ago may have gone meanwhile.
    assert refused[-1] == (this_hour - 86400,) and len(refused) + 1 == len(left) >= 2


def test_over_http_a_tenant_sees_its_own_usage_and_an_administrator_all(folder):
    (red, red_hash), (blue, blue_hash), (boss, boss_hash) = (
        new_key(name) for name in ("red", "blue", "boss"))
    config = ("usage:\n  flush: 100ms\ntenants:\n" + tenant_lines("red", red_hash) +
              tenant_lines("blue", blue_hash) + tenant_lines("boss", boss_hash, "admin: true"))

    def ask(daemon, key, **query):
        answer = httpx.get(daemon.url + "/admin/v1/usage", params=query,
                           headers={"authorization": f"Bearer {key}"})
        return answer.status_code, answer.json()

    def rows(daemon, key, **query):
        status, body = ask(daemon, key, **query)
        assert status == 200 and body["object"] == "list" and body["kept"] is True, body
        return {row["tenant"]: row["completion_tokens"] for row in body["data"]}

    with Daemon("--usage", str(folder / "over-http.sqlite"), config=config) as daemon:
        for key, tokens in ((red, 3), (blue, 5)):
            client_of(daemon, key).completions.create(model="", prompt="x", max_tokens=tokens,
                                                      extra_body={"ignore_eos": True})
        assert wait_until(lambda: rows(daemon, boss) == {"red": 3, "blue": 5})
        assert rows(daemon, red) == rows(daemon, boss, tenant="red") == {"red": 3}
        assert rows(daemon, boss, to="2026-01-01") == {}
        [hour] = ask(daemon, red, by="hour")[1]["data"]
        assert hour["hour"].endswith(":00:00Z") and hour["requests"] == 1
        assert ask(daemon, blue, tenant="red")[0] == 403
        assert ask(daemon, "hf-wrong")[0] == 401
        status, body = ask(daemon, boss, by="week")
        assert status == 400 and "tenant | day | hour" in body["error"]["message"]
    with Daemon() as daemon:
        assert ask(daemon, "none") == (200, {"object": "list", "kept": False, "data": []})


def test_after_a_clean_stop_the_ledger_has_what_the_answers_said(folder):
    (red, red_hash), (blue, blue_hash), (green, green_hash) = (
        new_key(name) for name in ("red", "blue", "green"))
    config = "tenants:\n" + tenant_lines("red", red_hash) + tenant_lines(
        "blue", blue_hash, "requests_per_second: 0.001") + tenant_lines("green", green_hash)
    state = folder / "usage-state.sqlite"
    told = []
    with Daemon("--state", str(state), config=config) as daemon:
        client = client_of(daemon, red)
        prompt = [1 + i % 50 for i in range(100)]
        for choices in (1, 2):  # the second finds what the first has computed
            told.append(client.completions.create(model="", prompt=prompt, max_tokens=5, n=choices,
                                                  extra_body={"ignore_eos": True}).usage)
        told.append(client.completions.create(model="", prompt=["one", "two three"],
                                              max_tokens=3).usage)
        told += [chunk.usage for chunk in client.chat.completions.create(
            model="", messages=[{"role": "user", "content": "Hello"}], max_tokens=4, stream=True,
            stream_options={"include_usage": True}) if chunk.usage]
        vectors = client.embeddings.create(model="", input="a text").usage
        try:
            client.completions.create(model="", prompt=[1] * 9000, max_tokens=1)
            raise AssertionError("a prompt of 9000 tokens was taken")
        except openai.BadRequestError:
            pass
        # One whose reader leaves, here with some of its text, counts with what it came to.
        with client_of(daemon, green).chat.completions.create(
                model="", messages=[{"role": "user", "content": "Once"}], max_tokens=1500,
                stream=True, extra_body={"ignore_eos": True}) as stream:
            next(chunk for chunk in stream if chunk.choices[0].delta.content)
        limited = client_of(daemon, blue)
        assert limited.completions.create(model="", prompt="x", max_tokens=1).usage
        for _ in range(2):
            try:
                limited.completions.create(model="", prompt="x", max_tokens=1)
                raise AssertionError("the rate was not held to")
            except openai.RateLimitError:
                pass
        assert daemon.terminate() == 0
    rows = rows_of("--state", state)
    row = rows["red"]
    assert (row["requests"], row["ok"], row["cancelled"]) == (6, 5, 0)
    assert row["refused"] == 1 and row["refusals"] == {"invalid": 1}
    assert row["prompt_tokens"] == sum(u.prompt_tokens for u in told) + vectors.prompt_tokens
    assert row["cached_tokens"] == sum(u.prompt_tokens_details.cached_tokens for u in told) >= 96
    assert row["completion_tokens"] == sum(u.completion_tokens for u in told)
    assert row["kv_byte_seconds"] > 0 and row["compute_seconds"] > 0
    left = rows["green"]
    assert (left["requests"], left["ok"], left["cancelled"]) == (1, 0, 1)
    assert left["prompt_tokens"] > 0 and 1 <= left["completion_tokens"] < 1500
    assert rows["blue"]["requests"] == 3 and rows["blue"]["refusals"] == {"request_rate": 2}

    # The same in other forms, and by time.
    table = list(csv.DictReader(io.StringIO(
        usage("--state", state, "--tenant", "red", "--by", "hour", "--format", "csv").stdout)))
    assert sum(int(line["completion_tokens"]) for line in table) == row["completion_tokens"]
    assert sum(int(line["refused_invalid"]) for line in table) == 1
    assert "request_rate 2" in usage("--state", state).stdout
    assert rows_of("--state", state, "--to", "2026-01-01") == {}
    tomorrow = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() + 86400))
    assert rows_of("--state", state, "--from", "2026-01-01", "--to", tomorrow)["red"] == row


def test_faults_of_the_command_line_say_what_to_do(folder):
    for flags, said in ((["--usage", folder / "none"], "is not there"),
                        ([], "give --usage FILE"),
                        (["--usage", folder / "x", "--from", "yesterday"], "2026-11-30T17"),
                        (["--usage", folder / "x", "--by", "week"], "tenant | day | hour"),
                        (["--usage", folder / "x", "--tenants", "a"], "--tenant")):
        told = usage(*flags)
        assert told.returncode != 0 and said in told.stderr, told


def test_the_ledger_is_read_while_it_is_written_and_after_a_kill(tmp_path):
    loop = UsageLoop(tmp_path, clients=4, seed=1)
    for _ in range(5):
        loop.kill_once()
    loop.end_well()
    assert not loop.faults and loop.answers > 20
    assert pathlib.Path(loop.path).stat().st_mode & 0o077 == 0
    with loop.start():
        assert set(rows_of("--usage", loop.path)) == {"red", "blue"}
