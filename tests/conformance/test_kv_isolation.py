"""Another's text is found nowhere: on no tier, under no salt, by no name. As clients see it."""

import contextlib

import grpc
import openai
import pytest
from daemon import Daemon, new_key, wait_until
from test_kv_tiers import copies_are_made

MODEL = "SmolLM2-135M-Instruct"
BLOCK_BYTES = 368640
STORY = "Once upon a time, in a small village by the sea, there lived a clockmaker. " * 18

# Each with its sharing group. `spy` shares with a group that is named as the tenant blue; `g` is a
# tenant that is named as the group of left and right.
TENANTS = {"blue": None, "red": None, "left": "g", "right": "g", "spy": "blue", "g": None}


class Tenants:
    """Their keys, and what they find in a daemon that has them."""

    def __init__(self):
        self.keys, lines = {}, ["tenants:"]
        for tenant, group in TENANTS.items():
            self.keys[tenant], digest = new_key(tenant)
            lines.append(f'  - name: {tenant}\n    keys: ["{digest}"]')
            if group:
                lines.append(f"    sharing_group: {group}")
        self.config = "\n".join(lines) + "\n"

    def cached(self, daemon, tenant, prompt, **extra):
        client = openai.OpenAI(base_url=daemon.url + "/v1", api_key=self.keys[tenant],
                               max_retries=0)
        answer = client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=2,
                                           extra_body=extra)
        return answer.usage.prompt_tokens_details.cached_tokens


@pytest.fixture(scope="module")
def tenants():
    return Tenants()


def hits(daemon, tenant, tier):
    return daemon.metric("holdfast_kvstore_hit_tokens_total", tenant=tenant, tier=tier)


@pytest.mark.parametrize("tier", ["device", "host", "disk", "disk after a restart"])
def test_another_tenants_or_salts_text_is_found_on_no_tier(tmp_path, tenants, tier):
    blocks = 720 if tier == "device" else 36  # one longest sequence is 32
    arguments = ["--context-tokens", "512", "--kv-device-bytes", str(blocks * BLOCK_BYTES)]
    if tier == "host":
        arguments += ["--kv-host-bytes", "256MiB"]
    elif tier != "device":
        arguments += ["--kv-disk-path", str(tmp_path / "kv"), "--kv-disk-bytes", "1GiB"]

    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(*arguments, config=tenants.config))

        def cached(tenant, **extra):
            return tenants.cached(daemon, tenant, STORY, **extra)

        for owner, extra in (("blue", {}), ("blue", {"cache_salt": "blue's own"}), ("left", {})):
            assert cached(owner, **extra) == 0
            assert tier == "device" or wait_until(lambda: copies_are_made(daemon))
        if tier != "device":  # what was on the device leaves it, not faster than it is copied
            for i in range(4):
                tenants.cached(daemon, "blue", f"{i} {i * 7919} " * 60)
                assert wait_until(lambda: copies_are_made(daemon))
        if tier == "disk after a restart":
            daemon.process.kill()
            daemon.process.wait()
            daemon = stack.enter_context(Daemon(*arguments, config=tenants.config))

        for other in ("red", "spy", "g"):
            assert cached(other) == 0, other
            for salt in ("blue", "g", "blue's own"):
                assert cached(other, cache_salt=salt) == 0, (other, salt)
            for name in ("device", "host", "disk"):
                # What the first of its own requests have left may be found by none of the others.
                assert hits(daemon, other, name) == 0, (other, name)
        assert cached("blue", cache_salt="another") == 0
        assert cached("right", cache_salt="blue's own") == 0

        # It was there to be found all the time, by those who may.
        where = tier.split()[0]
        assert tier == "device" or wait_until(lambda: copies_are_made(daemon))
        for owner, extra in (("right", {}), ("blue", {}), ("blue", {"cache_salt": "blue's own"})):
            before = hits(daemon, owner, where)
            assert cached(owner, **extra) > 0, (owner, extra)
            assert hits(daemon, owner, where) > before, (owner, extra)


FORGED_SALTS = [
    "blue", "g", "salt", "tenant", "group", "tenantblue", "groupg", "blue\0", "\0blue", "blue salt",
    "blue/salt", "blue:salt", "blue|salt", "bluesalt", "salt\0", " salt", "salt ", "SALT",
    # As the parts of a scope are written one after the other: length, then text.
    "\x04\0\0\0\0\0\0\0blue", "\x06\0\0\0\0\0\0\0tenant\x04\0\0\0\0\0\0\0blue\0\0\0\0\0\0\0\0",
    "holdfast reuse scope 1", "salt" * 64,
]


def test_a_forged_salt_finds_nothing_of_anothers(tenants, stubs):
    with Daemon("--context-tokens", "512", "--kv-device-bytes", "512MiB",
                config=tenants.config) as daemon:
        victims = [("blue", {}), ("blue", {"cache_salt": "salt"}), ("left", {}),
                   ("left", {"cache_salt": "salt"})]
        prompts = {}
        for number, (tenant, extra) in enumerate(victims):
            prompts[number] = [1000 * (number + 1) + i for i in range(50)]
            assert tenants.cached(daemon, tenant, prompts[number], **extra) == 0

        def forge(tenant, number, **extra):
            assert tenants.cached(daemon, tenant, prompts[number], **extra) == 0, (
                tenant, victims[number], extra)

        # Nothing else that a caller may write speaks for another.
        client = openai.OpenAI(base_url=daemon.url + "/v1", api_key=tenants.keys["red"],
                               max_retries=0, default_headers={
                                   "X-Tenant": "blue", "OpenAI-Organization": "blue",
                                   "X-Session-Id": "blue"})
        usage = client.completions.create(
            model=MODEL, prompt=prompts[0], max_tokens=1, user="blue",
            extra_body={"session_id": "blue", "prompt_cache_key": "blue",
                        "metadata": {"tenant": "blue"}}).usage
        assert usage.prompt_tokens_details.cached_tokens == 0

        for number in prompts:
            for salt in FORGED_SALTS:
                forge("red", number, cache_salt=salt)
            for other in ("spy", "g"):
                for salt in ("blue", "g", "salt"):
                    forge(other, number, cache_salt=salt)
                forge(other, number)
        # Who shares with nobody finds no salt's text without it, nor with another.
        for salt in FORGED_SALTS:
            if salt != "salt":
                forge("blue", 1, cache_salt=salt)
                forge("right", 3, cache_salt=salt)
        forge("blue", 1)
        forge("right", 3)
        # The other wire folds them the same way.
        pb = stubs[0]
        with grpc.insecure_channel(f"127.0.0.1:{daemon.grpc}") as channel:
            generation = stubs[1].GenerationStub(channel)

            def over_grpc(tenant, number, salt):
                request = pb.GenerateRequest(
                    prompt_tokens=prompts[number], stopping=pb.Stopping(max_tokens=1),
                    sampling=pb.Sampling(temperature=0),
                    options=pb.RequestOptions(cache_salt=salt))
                return generation.Generate(request, metadata=[
                    ("authorization", f"Bearer {tenants.keys[tenant]}")]).usage.cached_tokens

            for salt in ("grpc", "blue grpc", "\x04\0\0\0\0\0\0\0blue grpc"):
                assert over_grpc("red", 0, salt) == 0
                assert over_grpc("spy", 1, salt) == 0
            assert over_grpc("blue", 1, "salt") > 0

        for number, (tenant, extra) in enumerate(victims):  # it was there all the time
            assert tenants.cached(daemon, tenant, prompts[number], **extra) > 0
        assert tenants.cached(daemon, "right", prompts[3], cache_salt="salt") > 0
        assert tenants.cached(daemon, "blue", prompts[0], cache_salt="") > 0, "an empty one is none"


def test_a_session_continues_under_its_own_salt_alone(tenants):
    retain = {"session_id": "s", "kv_hints": {"action": "kv.retain"}}
    prompt = list(range(2000, 2060))  # three whole blocks, and a partial one that the pin keeps
    with Daemon("--context-tokens", "512", "--kv-device-bytes", "256MiB",
                config=tenants.config) as daemon:
        def cached(tenant, **extra):
            return tenants.cached(daemon, tenant, prompt + [7, 8, 9], **extra)

        tenants.cached(daemon, "blue", prompt, cache_salt="one", **retain)
        assert cached("blue", session_id="s") == 0
        assert cached("blue", session_id="s", cache_salt="two") == 0
        assert cached("red", session_id="s") == 0
        assert cached("red", session_id="s", cache_salt="one") == 0
        tenants.cached(daemon, "left", prompt, **retain)
        # Of one group: whole blocks are shared, the session is not.
        assert cached("right", session_id="s") == 48
        assert cached("left", session_id="s") == 60
