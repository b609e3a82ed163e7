"""KV below the device, as clients see it: it comes back, also after the process was killed."""

import openai
import pytest
from daemon import Daemon, wait_until

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
        assert b"adopted" in daemon.log_path.read_bytes()


def test_a_folder_that_another_daemon_uses_is_refused_with_its_name(tmp_path):
    arguments = [*DEVICE, "--kv-disk-path", str(tmp_path / "kv"), "--kv-disk-bytes", "1GiB"]
    with Daemon(*arguments):
        with pytest.raises(RuntimeError, match="kv.disk"):
            Daemon(*arguments)


def test_another_tenants_or_salts_text_is_found_on_no_tier(tmp_path):
    from test_lifecycle import new_key
    keys, lines = {}, ["tenants:"]
    for tenant, group in (("blue", None), ("red", None), ("left", "g"), ("right", "g")):
        keys[tenant], digest = new_key(tenant)
        lines.append(f'  - name: {tenant}\n    keys: ["{digest}"]')
        if group:
            lines.append(f"    sharing_group: {group}")

    with Daemon(*DEVICE, "--kv-host-bytes", "64MiB", "--kv-disk-path", str(tmp_path / "kv"),
                "--kv-disk-bytes", "1GiB", config="\n".join(lines) + "\n") as daemon:
        def cached(tenant, prompt, salt=None):
            client = openai.OpenAI(base_url=daemon.url + "/v1", api_key=keys[tenant],
                                   max_retries=0)
            answer = client.completions.create(
                model="SmolLM2-135M-Instruct", prompt=prompt, temperature=0, max_tokens=2,
                extra_body={"cache_salt": salt} if salt else {})
            return answer.usage.prompt_tokens_details.cached_tokens

        for pushed in (False, True):  # on the device; then below it
            assert cached("blue", f"{pushed} {STORY}") == 0
            assert cached("left", f"{pushed} {STORY}") == 0
            if pushed:
                for i in range(4):
                    cached("blue", f"{i} {i * 7919} " * 60)
            assert cached("red", f"{pushed} {STORY}") == 0
            assert cached("red", f"{pushed} {STORY}", "salt") == 0
            assert cached("red", f"{pushed} {STORY}", "blue") == 0
            assert cached("blue", f"{pushed} {STORY}", "salt") == 0
            assert cached("right", f"{pushed} {STORY}", "salt") == 0
            assert cached("right", f"{pushed} {STORY}") > 0
            assert cached("blue", f"{pushed} {STORY}") > 0
