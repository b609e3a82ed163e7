"""KV below the device, as clients see it: it comes back, also after the process was killed, and is
accounted for. To whom it does not come back: test_kv_isolation.py."""

import re
import signal

import grpc
import httpx
import openai
import pytest
from daemon import Daemon, new_key, wait_until

# One longest sequence of 512 tokens is 32 blocks of 368,640 bytes; the device has 36.
DEVICE = ["--context-tokens", "512", "--kv-device-bytes", str(36 * 368640)]
STORY = "Once upon a time, in a small village by the sea, there lived a clockmaker. " * 18


def ask(daemon, prompt):
    client = openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0)
    answer = client.completions.create(model="SmolLM2-135M-Instruct", prompt=prompt,
                                       temperature=0, max_tokens=12)
    return answer.choices[0].text, answer.usage.prompt_tokens_details.cached_tokens


def copies_are_made(daemon):
    return (daemon.metric("holdfast_kvstore_moves_total", kind="offload", result="done") > 0
            and daemon.metric("holdfast_kvstore_moves_under_way") == 0)


def push_out(daemon):
    """Prompts that have nothing in common, until what was there before has left the device. Slowly:
    what is displaced faster than it can be copied goes without a copy, as it should."""
    for i in range(4):
        assert wait_until(lambda: copies_are_made(daemon))
        ask(daemon, f"{i} {i * 7919} " * 60)
    assert wait_until(lambda: copies_are_made(daemon))


def restored_blocks(daemon):
    return daemon.metric("holdfast_kvstore_moves_total", kind="restore", result="done")


@pytest.mark.parametrize("tier", ["host", "disk", "both"])
def test_what_left_the_device_comes_back_and_says_the_same(tmp_path, tier):
    arguments = list(DEVICE)
    if tier != "disk":
        arguments += ["--kv-host-bytes", "64MiB" if tier == "host" else "6MiB"]
    if tier != "host":
        arguments += ["--kv-disk-path", str(tmp_path / "kv"), "--kv-disk-bytes", "1GiB"]
    with Daemon(*arguments) as daemon:
        text, cached = ask(daemon, STORY)
        assert cached == 0
        push_out(daemon)
        again, cached = ask(daemon, STORY)
        assert again == text
        assert cached > 0
        assert restored_blocks(daemon) > 0
        by_tier = sum(daemon.metric("holdfast_kvstore_hit_tokens_total", tier=t)
                      for t in ("device", "host", "disk"))
        assert by_tier == daemon.metric("holdfast_scheduler_cached_tokens_total") >= cached
        assert daemon.metric("holdfast_kvstore_corrupt_blocks_total") == 0


def test_kv_on_disk_outlives_a_killed_process(tmp_path):
    arguments = [*DEVICE, "--kv-disk-path", str(tmp_path / "kv"), "--kv-disk-bytes", "1GiB"]
    with Daemon(*arguments) as daemon:
        text, _ = ask(daemon, STORY)
        push_out(daemon)
        daemon.process.kill()
        daemon.process.wait()
    with Daemon(*arguments) as daemon:
        again, cached = ask(daemon, STORY)
        assert again == text
        assert cached > 0
        assert restored_blocks(daemon) > 0
        assert wait_until(lambda: b"adopted" in daemon.log_path.read_bytes())


@pytest.mark.parametrize("host", [[], ["--kv-host-bytes", "64MiB"]])
def test_a_daemon_that_is_told_to_stop_leaves_its_kv_on_disk(tmp_path, host):
    arguments = [*DEVICE, *host, "--kv-disk-path", str(tmp_path / "kv"), "--kv-disk-bytes", "1GiB"]
    with Daemon(*arguments) as daemon:
        text, _ = ask(daemon, STORY)
        _, found = ask(daemon, STORY)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(30) == 0
        told = daemon.log_path.read_text().split("kv_handed_down")[1]
        wanted, copied = re.search(r"wanted=(\d+) copied=(\d+) ended=yes", told).groups()
        assert wanted == copied
    with Daemon(*arguments) as daemon:
        again, cached = ask(daemon, STORY)
        assert again == text
        assert cached == found > 0


def test_a_folder_that_another_daemon_uses_is_refused_with_its_name(tmp_path):
    arguments = [*DEVICE, "--kv-disk-path", str(tmp_path / "kv"), "--kv-disk-bytes", "1GiB"]
    with Daemon(*arguments):
        with pytest.raises(RuntimeError, match="kv.disk"):
            Daemon(*arguments)


def test_usage_and_the_metrics_add_up_by_tenant_and_tier(tmp_path, stubs):
    """Every request of a while, on both wires: what usage says was cached is what the tiers gave."""
    keys, lines = {}, ["tenants:"]
    for tenant, group in (("blue", None), ("left", "g"), ("right", "g")):
        keys[tenant], digest = new_key(tenant)
        lines.append(f'  - name: {tenant}\n    keys: ["{digest}"]')
        lines += [f"    sharing_group: {group}"] if group else ["    admin: true"]
    said = dict.fromkeys(keys, 0)
    model, pb = "SmolLM2-135M-Instruct", stubs[0]
    with Daemon(*DEVICE, "--kv-host-bytes", "12MiB", "--kv-disk-path", str(tmp_path / "kv"),
                "--kv-disk-bytes", "1GiB", config="\n".join(lines) + "\n") as daemon, \
            grpc.insecure_channel(f"127.0.0.1:{daemon.grpc}") as channel:
        generation = stubs[1].GenerationStub(channel)
        clients = {tenant: openai.OpenAI(base_url=daemon.url + "/v1", api_key=key, max_retries=0)
                   for tenant, key in keys.items()}

        def note(tenant, usage):
            assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens
            said[tenant] += usage.prompt_tokens_details.cached_tokens

        for turn in range(3):
            for tenant, client in clients.items():
                asked = dict(model=model, max_tokens=8, temperature=0)
                chat = [{"role": "system", "content": STORY},
                        {"role": "user", "content": "And then? " * (turn + 1)}]
                note(tenant, client.completions.create(prompt=STORY, **asked).usage)
                note(tenant, client.chat.completions.create(messages=chat, n=2, **asked).usage)
                stream = client.chat.completions.create(
                    messages=chat, stream=True, stream_options={"include_usage": True},
                    extra_body={"session_id": "s", "kv_hints": {"action": "kv.retain"}}, **asked)
                note(tenant, [chunk for chunk in stream][-1].usage)
                asked_by_session = client.chat.completions.create(
                    messages=[*chat, {"role": "assistant", "content": "Then"}],
                    extra_body={"session_id": "s", "session_final": True}, **asked)
                note(tenant, asked_by_session.usage)
                note(tenant, client.completions.create(
                    prompt=[f"{turn} {STORY[:400]}", f"{turn} {STORY[:200]}", STORY], **asked).usage)
                said[tenant] += generation.Generate(
                    pb.GenerateRequest(prompt_tokens=range(500, 700),
                                       stopping=pb.Stopping(max_tokens=2)),
                    metadata=[("authorization", f"Bearer {keys[tenant]}")]).usage.cached_tokens
        assert wait_until(lambda: daemon.metric("vllm:num_requests_running") == 0)

        tiers = ("device", "host", "disk")
        for tenant in keys:
            by_tier = {tier: daemon.metric("holdfast_kvstore_hit_tokens_total", tenant=tenant,
                                           tier=tier) for tier in tiers}
            assert sum(by_tier.values()) == said[tenant], (tenant, by_tier)
            for name in ("holdfast_scheduler_cached_tokens_total",
                         "holdfast_server_cached_tokens_total"):
                assert daemon.metric(name, tenant=tenant) == said[tenant], (tenant, name)
        for tier in tiers:
            assert daemon.metric("holdfast_kvstore_hit_tokens_total", tier=tier) > 0, tier
        kv = httpx.get(daemon.url + "/admin/v1/kv",
                       headers={"authorization": f"Bearer {keys['blue']}"}).json()
        for entry in kv["tenants"]:  # further choices and starts after preemption count there too
            for tier in tiers:
                assert entry["tiers"][tier]["hit_tokens"] >= daemon.metric(
                    "holdfast_kvstore_hit_tokens_total", tenant=entry["tenant"], tier=tier)
