"""The queue as an operator sees it, over both wires."""

import threading
import time

import grpc
import httpx
from daemon import Daemon, new_key
from test_kv_pins import client_of

REASONS = ["turn", "places", "tenant_places", "blocks", "step_rows", "prefill", "lookup", "online"]


def queue(daemon, key="none", path="/admin/v1/queue", **query):
    answer = httpx.get(daemon.url + path, params=query,
                       headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_who_runs_and_who_waits_is_told_to_whom_it_concerns(stubs):
    keys = {name: new_key(name) for name in ("blue", "red", "boss")}
    config = "scheduler:\n  running_max: 1\ntenants:\n" + "".join(
        f'  - name: {name}\n    keys: ["{digest}"]\n' for name, (_, digest) in keys.items())
    config += "    admin: true\n"
    blue, red, boss = (keys[name][0] for name in ("blue", "red", "boss"))
    with Daemon(config=config) as daemon:
        def ask(key, session):
            client_of(daemon, key).completions.create(
                model="SmolLM2-135M-Instruct", prompt=[7] * 50, max_tokens=300,
                extra_body={"ignore_eos": True, "session_id": session})

        threads = [threading.Thread(target=ask, args=one)
                   for one in ((blue, "b1"), (blue, "b2"), (red, "r1"))]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while True:
            seen = queue(daemon, boss)
            if seen["waiting_total"] == 2 and seen["running_total"] == 1:
                break
            assert time.monotonic() < deadline, seen
        whole = seen["whole"]
        assert whole["running_max"] == 1 and whole["waiting"] == 2
        assert list(whole["waiting_by_reason"]) == REASONS
        assert sum(whole["waiting_by_reason"].values()) == 2
        assert [tenant["tenant"] for tenant in seen["tenants"]] == ["blue", "red", "boss"]
        assert all("served" in tenant for tenant in seen["tenants"])
        listed = seen["waiting"] + seen["running"]
        assert {entry["session"] for entry in listed} == {"b1", "b2", "r1"}
        assert all(entry["id"].startswith("cmpl-") for entry in listed)
        assert all(entry["reason"] in REASONS for entry in seen["waiting"])
        assert queue(daemon, boss, path="/admin/queue")["object"] == "queue"

        own = queue(daemon, red)
        assert "whole" not in own and [t["tenant"] for t in own["tenants"]] == ["red"]
        assert "served" not in own["tenants"][0]
        assert {entry["tenant"] for entry in own["waiting"] + own["running"]} <= {"red"}
        assert httpx.get(daemon.url + "/admin/queue").status_code == 401
        refused = httpx.get(daemon.url + "/admin/queue", params={"tenant": "blue"},
                            headers={"authorization": f"Bearer {red}"})
        assert refused.status_code == 403

        from holdfast.v1 import admin_pb2, admin_pb2_grpc

        with grpc.insecure_channel(f"127.0.0.1:{daemon.grpc}") as channel:
            admin = admin_pb2_grpc.AdminStub(channel)
            told = admin.GetQueue(admin_pb2.GetQueueRequest(),
                                  metadata=[("authorization", f"Bearer {boss}")])
            assert told.HasField("whole") and len(told.tenants) == 3
            assert len(told.whole.waiting_by_reason) == len(REASONS)
            assert told.waiting_total == len(told.waiting)
            told = admin.GetQueue(admin_pb2.GetQueueRequest(),
                                  metadata=[("authorization", f"Bearer {red}")])
            assert not told.HasField("whole") and [t.tenant for t in told.tenants] == ["red"]
            assert not told.tenants[0].HasField("served")
        for thread in threads:
            thread.join()
