"""Rate limits of tenants, seen by unmodified clients: who sends too much is told when to come
again, and nobody else notices."""

import time

import grpc
import openai
import pytest
from daemon import Daemon, new_key
from test_lifecycle import ask, client_of

HELLO = [{"role": "user", "content": "Hello."}]


def tenant_lines(name, digest, *settings):
    lines = [f"  - name: {name}", f'    keys: ["{digest}"]', *(f"    {s}" for s in settings)]
    return "\n".join(lines) + "\n"


def try_ask(client, **kwargs):
    try:
        return ask(client, messages=HELLO, **kwargs)
    except openai.APIStatusError as error:
        return error


def test_a_tenant_over_its_request_rate_is_told_when_to_come_again_and_others_pass():
    (fast, fast_hash), (slow, slow_hash) = new_key("fast"), new_key("slow")
    config = "tenants:\n" + tenant_lines("fast", fast_hash) + tenant_lines(
        "slow", slow_hash, "requests_per_second: 0.2", "requests_burst: 2")
    with Daemon(config=config) as daemon:
        others = client_of(daemon, fast)
        limited = client_of(daemon, slow)
        answers = [try_ask(limited, max_tokens=1) for _ in range(4)]
        assert [isinstance(a, openai.RateLimitError) for a in answers[:2]] == [False, False]
        refused = answers[-1]
        assert isinstance(refused, openai.RateLimitError)
        assert refused.code == "rate_limit_exceeded" and refused.type == "rate_limit_error"
        seconds = int(refused.response.headers["retry-after"])
        assert 1 <= seconds <= 5

        # A stream that is not begun is refused alike.
        streamed = try_ask(limited, max_tokens=1, stream=True)
        assert isinstance(streamed, openai.RateLimitError)
        assert 1 <= int(streamed.response.headers["retry-after"]) <= 5

        for _ in range(6):
            assert try_ask(others, max_tokens=1).usage.completion_tokens == 1
        assert daemon.metric("holdfast_scheduler_shed_total", tenant="slow",
                             reason="request_rate") >= 2
        assert daemon.metric("holdfast_scheduler_shed_total", tenant="fast") == 0

        # Who does as it is told is served: the SDK's own retry keeps to the header.
        began = time.monotonic()
        assert ask(limited.with_options(max_retries=3), max_tokens=1,
                   messages=HELLO).usage.completion_tokens == 1
        assert time.monotonic() - began < 30


def test_grpc_says_it_in_its_trailing_metadata(stubs):
    key, digest = new_key("slow")
    config = "tenants:\n" + tenant_lines("slow", digest, "requests_per_second: 0.1")
    with Daemon(config=config) as daemon:
        pb, rpc = stubs
        stub = rpc.GenerationStub(grpc.insecure_channel(f"127.0.0.1:{daemon.grpc}"))
        request = pb.CompleteRequest(prompt="Hello", stopping=pb.Stopping(max_tokens=1))
        metadata = [("x-api-key", key)]
        assert stub.Complete(request, metadata=metadata).usage.completion_tokens == 1
        with pytest.raises(grpc.RpcError) as refused:
            stub.Complete(request, metadata=metadata)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(refused.value.trailing_metadata())
        assert 1 <= int(trailers["retry-after"]) <= 10


def test_tokens_are_limited_too_and_what_can_never_pass_is_a_fault():
    key, digest = new_key("small")
    config = "tenants:\n" + tenant_lines("small", digest, "tokens_per_minute: 60",
                                         "tokens_burst: 100")
    with Daemon(config=config) as daemon:
        client = client_of(daemon, key)

        def complete(num_prompt, max_tokens):
            try:
                return client.completions.create(model="", prompt=[17 + max_tokens] * num_prompt,
                                                 max_tokens=max_tokens)
            except openai.APIStatusError as error:
                return error

        fault = complete(60, 41)
        assert isinstance(fault, openai.BadRequestError)
        assert "tokens_burst" in fault.message and "101 tokens" in fault.message
        assert complete(90, 1).usage.prompt_tokens == 90
        refused = complete(90, 2)
        assert isinstance(refused, openai.RateLimitError)
        assert 60 <= int(refused.response.headers["retry-after"]) <= 85
        # What was reserved and not drawn is back.
        assert complete(2, 1).usage.prompt_tokens == 2


def test_priority_offline_and_the_next_tool_may_be_told():
    with Daemon() as daemon:
        answer = ask(client_of(daemon), messages=HELLO, max_tokens=1, extra_body={
            "priority": -5, "offline": True, "tool_hint": {"name": "bash", "expected_ms": 1500}})
        assert answer.usage.completion_tokens == 1
