"""What deploy/ has for Prometheus and Grafana, with the real Prometheus on a daemon under load: every query
of a panel and every recorded rule has an answer, the rules pass their own tests, and there are no more
series than was said. Grafana itself is not started."""

import contextlib
import importlib.util
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import httpx
import pytest
from balancers import free_port
from daemon import ROOT, Daemon, new_key, wait_until

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
TENANTS = ["red", "blue", "green", "yellow"]
CONFIG = """
engine: {kv_device_bytes: 24MiB, context_tokens: 1024}
kv: {host_bytes: 16MiB, disk: {path: FOLDER/kv, bytes: 64MiB}}
scheduler: {running_max: 2, waiting_max: 4, speculation: always}
state: {path: FOLDER/state.sqlite}
metrics: {tenants_max: 2}
tenants:
"""


def program(name):
    """Its path; skips the test where it is not."""
    unpacked = pathlib.Path(os.environ.get("HOLDFAST_HOME", "~/.cache/holdfast")).expanduser()
    found = shutil.which(name, path=f"{os.environ['PATH']}:{unpacked}/tools/prometheus/usr/bin")
    if found is None:
        pytest.skip(f"no {name} here; ./dev setup --test unpacks it")
    return found


def promtool(*arguments, text=None):
    """(exit code, all that it says)"""
    ran = subprocess.run([program("promtool"), *map(str, arguments)], input=text, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    return ran.returncode, ran.stdout


# ---- Without a daemon ------------------------------------------------------------------------------


def test_prometheus_takes_its_configuration_and_rules():
    code, said = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert code == 0, said


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_rules_pass_their_tests(path):
    code, said = promtool("test", "rules", path)
    assert code == 0, said


def test_each_alert_is_tested_firing_and_silent():
    alerts = re.findall(r"- alert: (\w+)", (PROMETHEUS / "rules/holdfast_alerts.yml").read_text())
    cases = (PROMETHEUS / "tests/holdfast_alerts.yml").read_text().split("\n  - name: ")[1:]
    tested = {re.match(r"\w+", case)[0] for case in cases
              if re.search(r'alertname="%s"' % re.match(r"\w+", case)[0], case) and "exp_samples: []" in case}
    assert tested == set(alerts) and len(alerts) > 10


def test_the_dashboards_are_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "scripts/dashboards.py")
    dashboards = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dashboards)
    assert {path.name: path.read_text() for path in DASHBOARDS} == dashboards.texts(), \
        "run: python3 scripts/dashboards.py"


def test_panels_name_the_data_source_that_is_provisioned_and_do_not_overlap():
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text()
    for path in DASHBOARDS:
        taken = set()
        for panel in json.loads(path.read_text())["panels"]:
            at = panel["gridPos"]
            places = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not places & taken and at["x"] + at["w"] <= 24, (path.name, panel["title"])
            taken |= places
            for target in panel.get("targets", []):
                assert f"uid: {target['datasource']['uid']}\n" in source


# ---- On a daemon under load ------------------------------------------------------------------------


class Prometheus:
    """As deploy/ has it, but for the daemon's address and the time between two looks."""

    def __init__(self, folder, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        text = (PROMETHEUS / "prometheus.yml").read_text()
        for old, new in (('"a:8080", "b:8080"', f'"{target}"'), ("scrape_interval: 15s", "scrape_interval: 1s"),
                         ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                         ("rules/*.yml", f"{PROMETHEUS}/rules/*.yml")):
            assert text.count(old) == 1, f"deploy/prometheus/prometheus.yml: {old}"
            text = text.replace(old, new)
        (folder / "prometheus.yml").write_text(text)
        self.log = open(folder / "prometheus.log", "wb")
        self.process = subprocess.Popen(
            [program("prometheus"), f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/prometheus", f"--web.listen-address={self.url.split('//')[1]}"],
            stdout=self.log, stderr=self.log)
        assert wait_until(self.answers), (folder / "prometheus.log").read_text()

    def answers(self):
        try:
            return httpx.get(self.url + "/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, path, **parameters):
        answer = httpx.post(f"{self.url}/api/v1/{path}", data=parameters, timeout=60).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query):
        """Labels and value of each series, as far as they are numbers."""
        found = [(series["metric"], float(series["value"][1])) for series in self.ask("query", query=query)["result"]]
        return [(labels, value) for labels, value in found if math.isfinite(value)]

    def rules(self):
        return [rule for group in httpx.get(self.url + "/api/v1/rules").json()["data"]["groups"]
                for rule in group["rules"]]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Load:
    """Agents of each tenant whose sessions keep KV between turns, until it is stopped."""

    def __init__(self, daemon, keys):
        self.daemon, self.over, self.asked = daemon, threading.Event(), 0
        self.threads = [threading.Thread(target=self.work, args=(key, name, i))
                        for name, key in keys.items() for i in range(2)]
        for thread in self.threads:
            thread.start()

    def work(self, key, name, index):
        with httpx.Client(base_url=self.daemon.url, headers={"Authorization": f"Bearer {key}"}, timeout=300) as client:
            for round in range(1000):
                self.session(client, f"{name}-{index}-{round}")
                if self.over.is_set():
                    return

    def session(self, client, session):
        messages = [{"role": "system", "content": "You are brief. " + "one two three four five six " * 8},
                    {"role": "user", "content": session + " red green blue" * (20 + len(session) % 7)}]
        for turn in range(3):
            body = {"messages": messages, "max_tokens": 12, "session_id": session, "session_final": turn == 2}
            if turn < 2:
                body["tool_hint"] = {"name": "bash", "expected_ms": 100}
            if turn == 1:
                body["kv_hints"] = {"action": "kv.retain", "ttl_ms": 1500}
                body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {
                    "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
                    "additionalProperties": False}}}
            answer = client.post("/v1/chat/completions", json=body)
            self.asked += 1
            if answer.status_code == 429:
                time.sleep(0.2)
                continue
            assert answer.status_code == 200, answer.text
            messages += [{"role": "assistant", "content": answer.json()["choices"][0]["message"]["content"]},
                         {"role": "user", "content": "And then?"}]
            time.sleep(0.05)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    program("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    keys = {name: new_key(name) for name in TENANTS}

    def config(*tenants):
        return CONFIG.replace("FOLDER", str(folder)) + "".join(
            f'  - {{name: {name}, keys: ["{keys[name][1]}"]}}\n' for name in tenants)

    with contextlib.ExitStack() as at_end:
        daemon = at_end.enter_context(Daemon(config=config(*TENANTS[:3])))
        prometheus = Prometheus(folder, f"127.0.0.1:{daemon.http}")
        at_end.callback(prometheus.stop)
        # The last tenant comes by a reload.
        (pathlib.Path(daemon.folder.name) / "config.yaml").write_text(config(*TENANTS))
        daemon.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: daemon.metric("holdfast_server_reloads_total", result="ok") == 1)
        load = Load(daemon, {name: key for name, (key, _) in keys.items()})
        at_end.callback(load.stop)
        yield prometheus, daemon


def queries_of_panels():
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}: {target['legendFormat']}", target["expr"]


def in_place_of_grafana(query):
    for name, value in (("$__rate_interval", "30s"), ("$instance", ".*"), ("$tenant", ".*")):
        query = query.replace(name, value)
    assert "$" not in query
    return query


def without_answer(prometheus, queries, seconds):
    """Of the named queries those that have none within the time."""
    left = dict(queries)

    def ask_again():
        for name in [name for name, query in left.items() if prometheus.values(query)]:
            del left[name]
        return not left

    wait_until(ask_again, seconds)
    return left


def test_every_query_of_every_panel_has_an_answer(watched):
    queries = {name: in_place_of_grafana(query) for name, query in queries_of_panels()}
    assert len(queries) > 100
    assert without_answer(watched[0], queries, 180) == {}


def test_every_recorded_rule_has_an_answer(watched):
    records = {rule["name"] for rule in watched[0].rules() if rule["type"] == "recording"}
    assert records
    assert without_answer(watched[0], {name: name for name in records}, 60) == {}


def test_every_alert_can_be_computed(watched):
    assert wait_until(lambda: {rule["health"] for rule in watched[0].rules()} == {"ok"}), watched[0].rules()


def test_choices_of_pages_have_values(watched):
    prometheus, daemon = watched
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
            values = {labels[label] for labels, _ in prometheus.values(metric)}
            assert values == ({f"127.0.0.1:{daemon.http}"} if label == "instance" else {"red", "blue", "other"})


def test_metrics_are_as_prometheus_wants_them(watched):
    code, said = promtool("check", "metrics", text=watched[1].get("/metrics")[1])
    # Names that are vLLM's, for endpoint pickers that look for nothing else.
    told = [line for line in said.splitlines() if line and not line.startswith("vllm:")]
    assert code in (0, 3) and told == []


def test_tenants_beyond_the_bound_make_no_series(watched):
    prometheus, daemon = watched
    by_tenant = {labels["tenant"]: value for labels, value in
                 prometheus.values('count by (tenant) ({job="holdfast",tenant!=""})')}
    assert set(by_tenant) == {"red", "blue", "other"}
    assert by_tenant["other"] < by_tenant["red"] == by_tenant["blue"] < 250
    assert prometheus.values('count({job="holdfast",tenant=""})')[0][1] < 1000
    # What green and yellow were given is in `other`.
    assert daemon.metric("holdfast_scheduler_completion_tokens_total", tenant="other") > 0
