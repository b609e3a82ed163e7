"""Balancers before two daemons, where their programs are, HAProxy and nginx with the configurations of
deploy/: one daemon is restarted while
clients are served. ./dev rolling does so again and again, under load."""

import concurrent.futures
import contextlib
import subprocess
import time

import grpc
import openai
import pytest
from balancers import BALANCERS, Place, free_port, program
from daemon import wait_until


@pytest.fixture(scope="module", params=sorted(BALANCERS))
def fleet(request):
    if program(request.param) is None:
        pytest.skip(f"no {request.param} here; ./dev rolling --balancer {request.param} installs it")
    with contextlib.ExitStack() as at_end:
        places = []
        for _ in range(2):
            places.append(Place(64, ["--context-tokens", "2048", "--drain-notice", "3s"]))
            at_end.callback(places[-1].stop)
        balancer = BALANCERS[request.param](places)
        at_end.callback(balancer.stop)
        yield balancer, places


def client_of(balancer):
    return openai.OpenAI(base_url=balancer.url + "/v1", api_key="none", max_retries=0)


def cached_by_turn(client, name, num_turns=4, headers=None, **extra):
    """Whether each turn after the first found most of its prompt."""
    messages = [{"role": "system", "content": "You are brief."},
                {"role": "user", "content": f"{name}: " + "one two three four five " * 20}]
    found = []
    for _ in range(num_turns):
        answer = client.chat.completions.create(
            model="SmolLM2-135M-Instruct", temperature=0, max_tokens=8, messages=messages,
            extra_headers=headers, extra_body=extra)
        usage = answer.usage
        found.append(usage.prompt_tokens_details.cached_tokens > usage.prompt_tokens / 2)
        messages += [{"role": "assistant", "content": answer.choices[0].message.content},
                     {"role": "user", "content": "Go on."}]
    return found[1:]


@pytest.mark.parametrize("naming", ["header", "body", "key", "none"])
def test_turns_of_a_session_find_their_kv(fleet, naming):
    client = client_of(fleet[0])
    for i in range(4):  # of which each daemon has some
        name = f"{naming}-{i}"
        more = {"header": {"headers": {"X-Session-Id": name}}, "body": {"session_id": name},
                "key": {"prompt_cache_key": name}, "none": {}}[naming]
        assert all(cached_by_turn(client, name, **more)), name


def test_what_is_for_operators_is_not_passed_on(fleet):
    with client_of(fleet[0]) as client:
        for path in ("/metrics", "/admin/v1/kv", "/admin/queue"):
            assert client._client.get(fleet[0].url + path).status_code == 404


def test_an_error_comes_as_the_daemon_said_it(fleet):
    with client_of(fleet[0]) as client, pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="SmolLM2-135M-Instruct",
                                       messages=[{"role": "user", "content": "one two " * 4000}])
    assert error.value.code == "context_length_exceeded" and "shorten it" in error.value.message


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_is_cancelled_at_its_daemon(fleet, streamed):
    balancer, places = fleet

    def num_cancelled():
        return sum(place.daemon.metric("holdfast_server_requests_total", outcome="cancelled")
                   for place in places)

    before = num_cancelled()
    with client_of(balancer) as client:
        def ask(**more):
            return client.chat.completions.create(
                model="SmolLM2-135M-Instruct", max_tokens=1900, extra_body={"ignore_eos": True},
                messages=[{"role": "user", "content": "Hello."}], **more)

        if streamed:
            with ask(stream=True) as stream:
                next(stream)
        else:
            with pytest.raises(openai.APITimeoutError):
                ask(timeout=1)
    assert wait_until(lambda: num_cancelled() == before + 1)


def test_no_stream_is_cut_and_no_request_refused_while_a_daemon_restarts(fleet):
    balancer, places = fleet
    over = False

    def ask_on(index):
        client, answers = client_of(balancer), 0
        while not over:
            stream = client.chat.completions.create(
                model="SmolLM2-135M-Instruct", max_tokens=16, stream=True,
                messages=[{"role": "user", "content": "Hello."}],
                extra_headers={"X-Session-Id": f"{index}-{answers}"})
            assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
            answers += 1
        return answers

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask_on, i) for i in range(4)]
        try:
            code, *_ = places[0].restart()
            balancer.wait_all_up()  # and serves again
        finally:
            over = True
        assert all(client.result() > 0 for client in clients) and code == 0


def test_grpc_calls_go_where_a_daemon_is_ready(fleet, stubs):
    balancer, places = fleet
    if not hasattr(balancer, "grpc"):
        pytest.skip("no gRPC by this balancer")
    pb, rpc = stubs
    balancer.wait_all_up()
    request = pb.ChatRequest(messages=[pb.Message(role="user", content="Hello.")])
    request.stopping.max_tokens = 2
    with grpc.insecure_channel(f"127.0.0.1:{balancer.grpc}") as channel:
        chat = rpc.GenerationStub(channel).Chat
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            restarted = pool.submit(places[1].restart)
            answers = 0
            while not restarted.done():
                answers += len(chat(request, metadata=[("x-session-id", f"{answers}")]).choices)
        assert answers > 0 and restarted.result()[0] == 0


@pytest.fixture
def connection_balancer(tmp_path):
    """One that knows of TCP alone, before two daemons' gRPC ports: (its port, the daemons)."""
    if program("haproxy") is None:
        pytest.skip("no haproxy here; ./dev rolling installs it")
    with contextlib.ExitStack() as at_end:
        places = []
        for _ in range(2):
            places.append(Place(64, ["--context-tokens", "2048", "--drain-notice", "1s"]))
            at_end.callback(places[-1].stop)
        port, servers = free_port(), "".join(
            f"  server s{i} 127.0.0.1:{place.grpc} check port {place.http} inter 100ms fall 1 rise 1\n"
            for i, place in enumerate(places))
        (tmp_path / "haproxy.cfg").write_text(
            "defaults\n  mode tcp\n  option redispatch 1\n  option httpchk GET /health/ready\n"
            "  timeout connect 1s\n  timeout client 100s\n  timeout server 100s\n"
            f"listen grpc\n  bind 127.0.0.1:{port}\n{servers}")
        process = subprocess.Popen([program("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")])
        at_end.callback(process.wait)
        at_end.callback(process.terminate)
        yield port, places


def test_a_grpc_client_moves_its_connection_when_its_daemon_ends(connection_balancer, stubs):
    port, places = connection_balancer
    pb, rpc = stubs
    request = pb.ChatRequest(messages=[pb.Message(role="user", content="Hello.")])
    request.stopping.max_tokens = 24
    request.stopping.ignore_eos = True
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.GenerationStub(channel)
        stub.Chat(request, wait_for_ready=True)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for place in [*places, *places]:
                restarted, answers, refused = pool.submit(place.restart), 0, 0
                while not restarted.done() or answers == 0:
                    chunks = []
                    try:
                        chunks.extend(stub.ChatStream(request, wait_for_ready=True))
                    except grpc.RpcError as error:
                        # It began before the client had heard, and was not taken.
                        assert error.code() in (grpc.StatusCode.CANCELLED,
                                                grpc.StatusCode.UNAVAILABLE) and not chunks
                        refused += 1
                        time.sleep(0.1)
                        continue
                    assert chunks[-1].HasField("usage")
                    answers += 1
                assert restarted.result()[0] == 0 and refused <= 1, refused
