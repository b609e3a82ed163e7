"""KV kept between the turns of an agent, asked for by unmodified clients; and the admin calls."""

import grpc
import httpx
import openai
import pytest
from daemon import Daemon, new_key

MODEL = "SmolLM2-135M-Instruct"
RETAIN = {"action": "kv.retain", "ttl_ms": 600000}


def client_of(daemon, key="none", **kwargs):
    return openai.OpenAI(base_url=daemon.url + "/v1", api_key=key, max_retries=0, **kwargs)


def turn(client, messages, max_tokens=8, **extra):
    """One turn; the messages grow by its answer."""
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0,
                                            max_tokens=max_tokens, extra_body=extra)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    return answer.usage


def cached(usage):
    return usage.prompt_tokens_details.cached_tokens


def conversation(name):
    return [{"role": "user", "content": f"Agent {name} has a long task. " + "Step by step. " * 60}]


def flood(client, daemon):
    """Other prompts, together more than the whole pool."""
    capacity = pool(daemon)["tiers"]["device"]["capacity_blocks"] * 16
    sent, i = 0, 0
    while sent < 2 * capacity:
        usage = client.completions.create(model=MODEL, prompt=[100 + i] + [300 + i] * 3000,
                                          max_tokens=1).usage
        sent, i = sent + usage.prompt_tokens, i + 1


def pool(daemon, key="none"):
    answer = httpx.get(daemon.url + "/admin/v1/kv", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def pins(daemon, key="none", **query):
    answer = httpx.get(daemon.url + "/admin/v1/pins", params=query,
                       headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    assert all(pin["state"] == "asked" for pin in answer.json()["data"])
    return {(pin["tenant"], pin["session"]) for pin in answer.json()["data"]}


def drop(daemon, session="", key="none", **query):
    path = "/admin/v1/pins" + (f"/{session}" if session else "")
    return httpx.delete(daemon.url + path, params=query,
                        headers={"authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def small():
    """A daemon whose pool holds hardly more than one longest sequence."""
    config = "engine:\n  context_tokens: 4096\n  kv_device_bytes: 120MiB\n"
    with Daemon(config=config) as running:
        yield running


def test_a_pin_outlives_a_flood_of_other_prompts(small):
    client = client_of(small)
    kept, lost = conversation("one"), conversation("two")
    first = turn(client, kept, session_id="one", kv_hints=RETAIN)
    assert first.model_extra["holdfast"] == {"pinned": True, "pin_expires_in_ms": 600000}
    unasked = turn(client, lost, session_id="two")
    assert "holdfast" not in unasked.model_extra
    assert pins(small) == {("default", "one")}
    flood(client, small)
    kept.append({"role": "user", "content": "Go on."})
    lost.append({"role": "user", "content": "Go on."})
    usage = turn(client, kept, session_id="one", session_final=True)
    assert cached(usage) >= first.prompt_tokens
    assert cached(turn(client, lost)) < 16 + unasked.prompt_tokens // 2
    assert pins(small) == set(), "a final turn ends the pin"


def test_a_pin_that_ends_at_a_stop_string_is_a_pin(small):
    client = client_of(small)
    usage = client.completions.create(
        model=MODEL, prompt="One two three four five six seven", max_tokens=40, temperature=0,
        stop=[" ", "e", "n"], extra_body={"session_id": "s", "kv_hints": [RETAIN]}).usage
    assert usage.model_extra["holdfast"]["pinned"]
    assert drop(small, "s").json() == {"dropped": 1}


def test_a_header_or_a_cache_key_names_the_session(small):
    drop(small)
    agent = client_of(small, default_headers={"X-Session-Id": "by-header"})
    turn(agent, conversation("h"), kv_hints=RETAIN)
    client = client_of(small)
    client.chat.completions.create(model=MODEL, messages=conversation("k"), max_tokens=2,
                                   prompt_cache_key="by key/1", prompt_cache_retention="in_memory")
    assert pins(small) == {("default", "by-header"), ("default", "by key/1")}
    assert drop(small, "by%20key%2F1").status_code == 200
    assert drop(small, "by%20key%2F1").status_code == 404
    nameless = client.chat.completions.create(model=MODEL, messages=conversation("n"), max_tokens=2,
                                              prompt_cache_retention="24h")
    assert pins(small) == {("default", "by-header"), ("default", nameless.id)}
    assert drop(small).json() == {"dropped": 2}
    assert pins(small) == set()


def test_what_is_not_understood_is_refused_by_name(small):
    client = client_of(small)
    for extra, param in [({"kv_hints": {"action": "kv.prefetch"}}, "kv_hints.action"),
                         ({"kv_hints": {"action": "kv.retain", "ttl_ms": 10**9}}, "kv_hints.ttl_ms"),
                         ({"session_final": True}, "session_final"),
                         ({"prompt_cache_retention": "48h"}, "prompt_cache_retention")]:
        with pytest.raises(openai.BadRequestError) as caught:
            turn(client, conversation("x"), **extra)
        assert caught.value.param == param
    with pytest.raises(openai.BadRequestError) as caught:
        turn(client_of(small, default_headers={"X-Session-Id": "s" * 2000}), conversation("x"))
    assert caught.value.param == "X-Session-Id"


def test_grpc_keeps_lists_and_drops_alike(small, stubs):
    pb = stubs[0]
    from holdfast.v1 import admin_pb2, admin_pb2_grpc

    drop(small)
    with grpc.insecure_channel(f"127.0.0.1:{small.grpc}") as channel:
        generation, admin = stubs[1].GenerationStub(channel), admin_pb2_grpc.AdminStub(channel)
        request = pb.GenerateRequest(
            prompt_tokens=[7] * 100, stopping=pb.Stopping(max_tokens=2),
            options=pb.RequestOptions(session_id="g",
                                      kv_hints=pb.KvHints(retain=pb.KvRetain(ttl_ms=60000))))
        assert generation.Generate(request).usage.pin_expires_in_ms == 60000
        by_metadata = pb.GenerateRequest(
            prompt_tokens=[8] * 100, stopping=pb.Stopping(max_tokens=2),
            options=pb.RequestOptions(prompt_cache_retention=pb.PROMPT_CACHE_RETENTION_24H))
        usage = generation.Generate(by_metadata, metadata=[("x-session-id", "m")]).usage
        assert usage.pin_expires_in_ms == 3600000
        listed = admin.ListPins(admin_pb2.ListPinsRequest())
        assert {pin.session for pin in listed.pins} == {"g", "m"} and listed.total == 2
        assert {pin.state for pin in listed.pins} == {"asked"}
        cache = admin.GetKv(admin_pb2.GetKvRequest())
        assert cache.pins == 2 and cache.tenants[0].tenant == "default"
        assert cache.tenants[0].pinned_blocks >= 12
        assert cache.tenants[0].pinned_bytes == cache.tenants[0].pinned_blocks * cache.block_bytes
        states = cache.whole
        assert (states.free_blocks + states.held_blocks + states.evictable_blocks +
                states.moving_blocks) == states.capacity[0].blocks
        admin.DropPin(admin_pb2.DropPinRequest(session="g"))
        with pytest.raises(grpc.RpcError) as caught:
            admin.DropPin(admin_pb2.DropPinRequest(session="g"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert admin.DropPins(admin_pb2.DropPinsRequest()).dropped == 1
        too_long = pb.GenerateRequest(prompt_tokens=[7], options=pb.RequestOptions(
            kv_hints=pb.KvHints(retain=pb.KvRetain(ttl_ms=3600001))))
        with pytest.raises(grpc.RpcError) as caught:
            generation.Generate(too_long)
        assert ("holdfast-error-param", "options.kv_hints.retain.ttl_ms") in [
            (entry.key, entry.value) for entry in caught.value.trailing_metadata()]


def test_a_tenant_neither_sees_nor_drops_anothers_pins():
    keys = {name: new_key(name) for name in ("blue", "red", "boss")}
    config = "tenants:\n" + "".join(
        f'  - name: {name}\n    keys: ["{digest}"]\n' for name, (_, digest) in keys.items())
    config += "    admin: true\n"
    blue, red, boss = (keys[name][0] for name in ("blue", "red", "boss"))
    with Daemon(config=config) as daemon:
        turn(client_of(daemon, blue), conversation("same"), session_id="s", kv_hints=RETAIN)
        assert pins(daemon, blue) == {("blue", "s")}
        assert pins(daemon, red) == set()
        seen = pool(daemon, red)
        assert "tiers" not in seen and [t["tenant"] for t in seen["tenants"]] == ["red"]
        assert seen["pins"] == 0 and seen["tenants"][0]["pinned_blocks"] == 0
        assert drop(daemon, "s", red).status_code == 404
        assert drop(daemon, "", red).json() == {"dropped": 0}
        for name in ("blue", "nobody"):
            assert drop(daemon, "s", red, tenant=name).status_code == 403
        assert httpx.get(daemon.url + "/admin/v1/pins").status_code == 401
        assert pins(daemon, blue) == {("blue", "s")}

        assert pins(daemon, boss) == {("blue", "s")}
        assert pins(daemon, boss, tenant="red") == set()
        whole = pool(daemon, boss)
        assert [t["tenant"] for t in whole["tenants"]] == ["blue", "red", "boss"]
        assert whole["tiers"]["device"]["capacity_blocks"] > 0
        assert drop(daemon, "s", boss, tenant="blue").json() == {"dropped": 1}
        assert pins(daemon, blue) == set()
