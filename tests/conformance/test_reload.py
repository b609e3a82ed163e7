"""SIGHUP: settings that take effect while the daemon serves, and files that are refused."""

import json
import pathlib
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon import Daemon, new_key, wait_until
from test_usage import rows_of


class Reloading:
    """A daemon whose file changes."""

    def __init__(self, config, *flags):
        self.daemon = Daemon(*flags, config=config)
        self.path = pathlib.Path(self.daemon.folder.name) / "config.yaml"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.daemon.stop()

    def reload(self, config):
        """What the daemon logs about it."""
        logged = self.daemon.log_path.stat().st_size
        self.path.write_text(config)
        self.daemon.process.send_signal(signal.SIGHUP)

        def said():
            return self.daemon.log_path.read_bytes()[logged:].decode()

        assert wait_until(lambda: " reloaded " in said() or " reload_refused " in said())
        return said()

    def open(self, key, body):
        return urllib.request.urlopen(urllib.request.Request(
            self.daemon.url + "/v1/completions", json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}"}), timeout=60)

    def status(self, key):
        try:
            with self.open(key, {"prompt": "one", "max_tokens": 1}) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


def tenant(name, *hashes, **more):
    keys = ", ".join(f'"{value}"' for value in hashes)
    lines = [f"  - name: {name}", f"    keys: [{keys}]"]
    return "\n".join(lines + [f"    {key}: {value}" for key, value in more.items()]) + "\n"


def test_keys_are_rotated_with_an_overlap_and_a_stream_that_runs_goes_on():
    (old, old_hash), (new, new_hash), (other, other_hash) = (new_key(n) for n in ("a", "a", "b"))
    rest = tenant("b", other_hash)
    with Reloading("tenants:\n" + tenant("a", old_hash) + rest) as reloading:
        runs = reloading.open(old, body={"prompt": "Once", "max_tokens": 1500, "ignore_eos": True,
                                         "stream": True})
        assert runs.readline().startswith(b"data: ")
        assert reloading.status(new) == 401
        said = reloading.reload("tenants:\n" + tenant("a", old_hash, new_hash) + rest)
        assert 'applied="tenants.keys of `a`"' in said and 'wait_for_restart=""' in said
        assert reloading.status(old) == reloading.status(new) == 200
        reloading.reload("tenants:\n" + tenant("a", new_hash) + rest)
        assert reloading.status(old) == 401
        assert reloading.status(new) == reloading.status(other) == 200
        assert reloading.daemon.metric("vllm:num_requests_running") == 1
        assert runs.read().rstrip().endswith(b"data: [DONE]")


def test_tenants_come_and_go_and_come_back_while_others_are_served():
    (a, a_hash), (b, b_hash), (c, c_hash) = (new_key(n) for n in "abc")
    both = "tenants:\n" + tenant("a", a_hash) + tenant("b", b_hash)
    with Reloading(both) as reloading:
        runs = reloading.open(a, body={"prompt": "Once", "max_tokens": 700, "ignore_eos": True,
                                       "stream": True})
        assert runs.readline().startswith(b"data: ")
        # Whatever the order in the file, each is who it was.
        said = reloading.reload("tenants:\n" + tenant("c", c_hash, requests_per_second=0.001,
                                                      requests_burst=2) + tenant("b", b_hash))
        assert 'applied="tenant `a`, tenant `c`"' in said and 'wait_for_restart=""' in said
        assert [reloading.status(key) for key in (a, b)] == [401, 200]
        assert [reloading.status(c) for _ in range(3)] == [200, 200, 429]

        def answered(name):
            return reloading.daemon.metric("holdfast_server_requests_total", tenant=name,
                                           outcome="ok")

        assert wait_until(lambda: (answered("b"), answered("c")) == (1, 2))
        assert runs.read().rstrip().endswith(b"data: [DONE]"), "what runs goes on"
        reloading.reload(both)
        assert [reloading.status(key) for key in (a, b, c)] == [200, 200, 401]
        assert wait_until(lambda: (answered("a"), answered("b"), answered("c")) == (2, 2, 2))


def test_a_tenant_that_comes_has_its_part_of_the_machine_and_of_the_cache():
    (a, a_hash), (b, b_hash) = (new_key(n) for n in "ab")
    one = "tenants:\n" + tenant("a", a_hash, admin="true")
    kv = ["    kv:\n      device:\n        floor: 30%\n"]
    with Reloading(one, "--context-tokens", "512", "--kv-device-bytes", "64MiB",
                   "--running-max", "2") as reloading, ThreadPoolExecutor() as pool:
        metric = reloading.daemon.metric
        answers = [pool.submit(lambda i=i: reloading.open(
            a, {"prompt": f"{i}", "max_tokens": 400, "ignore_eos": True}).read()) for i in range(6)]
        assert wait_until(lambda: metric("vllm:num_requests_waiting") >= 4)
        said = reloading.reload(one + tenant("b", b_hash) + "".join(kv))
        assert 'applied="tenant `b`"' in said
        # It has a place of the two at once, not behind six answers.
        assert reloading.status(b) == 200
        assert metric("holdfast_server_requests_total", tenant="a", outcome="ok") <= 2
        queue = json.loads(urllib.request.urlopen(urllib.request.Request(
            reloading.daemon.url + "/admin/v1/queue",
            headers={"Authorization": f"Bearer {a}"}), timeout=30).read())
        assert [entry["tenant"] for entry in queue["tenants"]] == ["a", "b"]
        for answer in answers:
            assert json.loads(answer.result())["usage"]["completion_tokens"] == 400
        # More than there is: refused, and all stays.
        said = reloading.reload(one + tenant("b", b_hash) + "".join(kv).replace("30%", "100%"))
        assert " reload_refused " in said and "tenants.kv.device.floor" in said
        assert reloading.status(b) == 200


def test_what_a_tenant_used_that_came_and_went_is_in_the_ledger(folder):
    (a, a_hash), (b, b_hash) = (new_key(n) for n in "ab")
    one = "tenants:\n" + tenant("a", a_hash)
    state = folder / "came-and-went.sqlite"
    with Reloading(one, "--state", str(state)) as reloading:
        reloading.reload(one + tenant("b", b_hash))
        assert reloading.status(b) == 200
        reloading.reload(one)
        assert (reloading.status(a), reloading.status(b)) == (200, 401)
        assert reloading.daemon.terminate() == 0
    rows = rows_of("--state", state)
    assert {name: row["ok"] for name, row in rows.items()} == {"a": 1, "b": 1}


def test_bounds_and_administrators_change_and_what_cannot_is_said():
    key, hashed = new_key("a")
    with Reloading("tenants:\n" + tenant("a", hashed)) as reloading:
        def sees_all():
            request = urllib.request.Request(reloading.daemon.url + "/admin/v1/kv",
                                             headers={"Authorization": f"Bearer {key}"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return "tiers" in json.loads(answer.read())

        assert not sees_all()
        said = reloading.reload(
            "engine:\n  threads: 1\nlog:\n  level: debug\ntenants:\n" +
            tenant("a", hashed, requests_per_second=0.001, requests_burst=2, admin="true"))
        assert "log.level" in said and "tenants.requests_per_second of `a`" in said
        assert "wait_for_restart=engine.threads" in said
        assert sees_all()
        # The scheduler takes it up within a step.
        assert [reloading.status(key) for _ in range(3)] == [200, 200, 429]


def test_a_flag_holds_over_the_file_that_is_read_again():
    key, hashed = new_key("a")
    text = "tenants:\n" + tenant("a", hashed)
    with Reloading(text, "--log-level", "warn") as reloading:
        reloading.path.write_text("log:\n  level: info\n" + text)
        reloading.daemon.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: reloading.daemon.metric("holdfast_server_reloads_total",
                                                          result="ok") == 1)
        assert " info " not in reloading.daemon.log_path.read_text()


@pytest.mark.parametrize("fault,said", [
    ("tenants:\n  - name: a\n    kyes: []\n", "config.yaml:3: unknown key"),
    ("engine:\n  threads: -1\n", "config.yaml:2: `engine.threads`"),
    ("tenants: [", "config.yaml"),
    ("listen:\n  tls:\n    certificate_path: /nowhere.pem\n    key_path: /nowhere.pem\n",
     "config.yaml:3: `listen.tls.certificate_path`"),
])
def test_a_file_with_a_fault_is_refused_with_its_line_and_nothing_changes(fault, said):
    key, hashed = new_key("a")
    with Reloading("tenants:\n" + tenant("a", hashed)) as reloading:
        line = reloading.reload(fault)
        assert " reload_refused " in line and said in line
        assert reloading.status(key) == 200
        assert reloading.status("hf-wrong") == 401


def test_without_a_file_there_is_nothing_to_read():
    with Daemon() as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: "reload_refused" in daemon.log_path.read_text())
        assert daemon.get("/health/ready")[0] == 200
