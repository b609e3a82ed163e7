"""A port of its own for administrators, with keys of its own; reloading by a call; the audit."""

import json
import pathlib
import signal
import stat
import urllib.error
import urllib.request

import pytest

from daemon import Daemon, new_key, wait_until

SMALL = ("--context-tokens", "1024", "--kv-device-bytes", "64MiB")


def call(port, method, path, key=None):
    """(status, body as JSON)"""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                                     headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Administered:
    def __init__(self, folder):
        (self.admin_key, self.admin_hash), (self.key, self.hash) = new_key("x"), new_key("red")
        self.audit = folder / "audit.jsonl"
        self.daemon = None

    def config(self, weight=1, admins=None):
        hashes = ", ".join(f'"{h}"' for h in admins or [self.admin_hash])
        return (f"admin:\n  http: 127.0.0.1:0\n  keys: [{hashes}]\n  audit_path: {self.audit}\n"
                f'tenants:\n  - name: red\n    keys: ["{self.hash}"]\n    weight: {weight}\n')

    def write(self, text):
        (pathlib.Path(self.daemon.folder.name) / "config.yaml").write_text(text)

    def acts(self):
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@pytest.fixture
def served(tmp_path):
    administered = Administered(tmp_path)
    administered.daemon = Daemon(*SMALL, config=administered.config())
    yield administered
    administered.daemon.stop()


def test_administration_is_on_its_own_port_and_needs_its_own_key(served):
    public, admin = served.daemon.http, served.daemon.admin
    for path in ("/admin/v1/kv", "/admin/v1/pins", "/admin/v1/queue", "/admin/queue"):
        assert call(public, "GET", path, served.key)[0] == 404
        assert call(public, "GET", path, served.admin_key)[0] == 404
        assert call(admin, "GET", path, served.key)[0] == 401
        assert call(admin, "GET", path)[0] == 401
        status, body = call(admin, "GET", path, served.admin_key)
        assert status == 200 and body["object"]
    assert call(public, "POST", "/admin/v1/reload", served.admin_key)[0] == 404
    # Nor is an administrator a tenant, or a tenant's endpoint there.
    assert call(public, "GET", "/v1/models", served.admin_key)[0] == 401
    assert call(admin, "GET", "/v1/models", served.admin_key)[0] == 404
    assert call(admin, "GET", "/health/ready")[0] == 200


def test_a_call_reloads_and_tells_what_took_effect(served):
    admin, key = served.daemon.admin, served.admin_key
    served.write(served.config(weight=3) + "engine:\n  threads: 1\n")
    status, body = call(admin, "POST", "/admin/v1/reload", key)
    assert status == 200, body
    assert body == {"object": "reload", "applied": ["tenants.weight of `red`"],
                    "wait_for_restart": ["engine.threads"]}
    assert call(admin, "GET", "/admin/v1/queue", key)[1]["tenants"][0]["weight"] == 3


def test_a_call_that_adds_a_tenant_answers_when_its_key_is_known(served):
    admin, key = served.daemon.admin, served.admin_key
    blue, blue_hash = new_key("blue")
    assert call(served.daemon.http, "GET", "/v1/models", blue)[0] == 401
    served.write(served.config() + f'  - name: blue\n    keys: ["{blue_hash}"]\n')
    status, body = call(admin, "POST", "/admin/v1/reload", key)
    assert status == 200 and body["applied"] == ["tenant `blue`"] and not body["wait_for_restart"]
    assert call(served.daemon.http, "GET", "/v1/models", blue)[0] == 200
    names = [entry["tenant"] for entry in call(admin, "GET", "/admin/v1/queue", key)[1]["tenants"]]
    assert names == ["red", "blue"]
    served.write(served.config())
    assert call(admin, "POST", "/admin/v1/reload", key)[1]["applied"] == ["tenant `blue`"]
    assert call(served.daemon.http, "GET", "/v1/models", blue)[0] == 401


def test_a_broken_file_is_refused_with_its_faults_and_all_stays(served):
    admin, key = served.daemon.admin, served.admin_key
    served.write(served.config(weight=0) + "log:\n  level: loud\n")
    status, body = call(admin, "POST", "/admin/v1/reload", key)
    assert status == 400
    assert "config.yaml:8" in body["error"]["message"] and "loud" in body["error"]["message"]
    assert call(admin, "GET", "/admin/v1/queue", key)[1]["tenants"][0]["weight"] == 1


def test_administrators_keys_are_rotated_by_a_reload(served):
    new, new_hash = new_key("x")
    admin = served.daemon.admin
    served.write(served.config(admins=[served.admin_hash, new_hash]))
    assert call(admin, "POST", "/admin/v1/reload", served.admin_key)[1]["applied"] == ["admin.keys"]
    served.write(served.config(admins=[new_hash]))
    assert call(admin, "POST", "/admin/v1/reload", new)[0] == 200
    assert call(admin, "GET", "/admin/v1/kv", served.admin_key)[0] == 401
    assert call(admin, "GET", "/admin/v1/kv", new)[0] == 200


def test_each_act_is_in_the_audit_with_its_key_and_none_of_the_looks(served):
    admin, key = served.daemon.admin, served.admin_key
    call(admin, "GET", "/admin/v1/pins", key)
    call(admin, "DELETE", "/admin/v1/pins/agent-7?tenant=red", key)
    call(admin, "DELETE", "/admin/v1/pins", key)
    call(admin, "DELETE", "/admin/v1/pins/agent-7", key)
    served.write("log: nonsense\n")
    call(admin, "POST", "/admin/v1/reload", key)
    assert wait_until(lambda: len(served.acts()) == 4)
    assert [(act["act"], act["on"], act["result"].split(":")[0]) for act in served.acts()] == [
        ("drop_pin", "agent-7", "NOT_FOUND"), ("drop_pins", "", "ok"),
        ("drop_pin", "agent-7", "INVALID_ARGUMENT"), ("reload", "", "INVALID_ARGUMENT")]
    digest = served.admin_hash.split(":")[1]
    assert all(act["who"] == "administrator" and act["key"] == digest[:8] for act in served.acts())
    assert key not in served.audit.read_text()
    assert stat.S_IMODE(served.audit.stat().st_mode) == 0o600


def test_without_administrators_keys_there_is_no_port_and_turning_it_on_waits(tmp_path):
    served = Administered(tmp_path)
    without = served.config().replace(f'  keys: ["{served.admin_hash}"]\n  audit', "  audit", 1)
    assert served.admin_hash not in without
    with Daemon(*SMALL, config=without) as served.daemon:
        daemon = served.daemon
        assert daemon.admin == 0
        assert call(daemon.http, "GET", "/admin/v1/kv", served.key)[0] == 200
        assert call(daemon.http, "POST", "/admin/v1/reload", served.key)[0] == 404
        served.write(served.config())
        daemon.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: b"wait_for_restart=admin.keys" in daemon.log_path.read_bytes())
        assert wait_until(lambda: [act["who"] for act in served.acts()] == ["SIGHUP"])
