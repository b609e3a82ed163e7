"""Keys, refusals under load, draining: each with a daemon of its own."""

import concurrent.futures
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

import openai
import pytest
from daemon import BINARY, Daemon, new_key, wait_until


def client_of(daemon, key="none"):
    return openai.OpenAI(base_url=daemon.url + "/v1", api_key=key, max_retries=0)


def ask(client, **kwargs):
    arguments = dict(model="SmolLM2-135M-Instruct", temperature=0, max_tokens=8,
                     messages=[{"role": "user", "content": "Hello!"}])
    return client.chat.completions.create(**{**arguments, **kwargs})


def test_what_keys_new_prints_goes_under_one_tenants_line(tmp_path):
    path = tmp_path / "two.yaml"
    lines = ["tenants:"]
    for tenant in ("blue", "red"):
        text = subprocess.run([str(BINARY), "keys", "new", "--tenant", tenant], check=True,
                              capture_output=True, text=True).stdout
        begin = text.index("  - name:")
        lines.append(text[begin:text.index("\n\n", begin)])
    model = os.environ.get("HOLDFAST_MODEL")
    path.write_text("\n".join(lines) + (f"\nmodel:\n  path: {model}\n" if model else "\n"))
    run = subprocess.run([str(BINARY), "check-config", str(path)], capture_output=True, text=True)
    assert run.returncode == 0 and "2 tenants" in run.stdout, run.stderr


def test_only_a_tenants_key_opens_the_door():
    key, digest = new_key("blue")
    config = f'tenants:\n  - name: blue\n    keys: ["{digest}"]\n'
    with Daemon(config=config) as daemon:
        assert ask(client_of(daemon, key)).choices
        for wrong in ("none", key[:-1] + ("a" if key[-1] != "a" else "b"), key + "x"):
            with pytest.raises(openai.AuthenticationError):
                ask(client_of(daemon, wrong))
        assert daemon.get("/health/ready")[0] == 200


def status_under(daemon, path, headers, key="none"):
    request = urllib.request.Request(daemon.url + path,
                                     headers={"authorization": f"Bearer {key}", **headers})
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_without_keys_no_web_page_gets_in():
    elsewhere = {"host": "evil.example:8080"}
    with Daemon() as daemon:
        assert status_under(daemon, "/v1/models", {"host": f"localhost:{daemon.http}"}) == 200
        assert status_under(daemon, "/v1/models", elsewhere) == 403
        assert status_under(daemon, "/v1/models", {"origin": "https://evil.example"}) == 403
        assert status_under(daemon, "/health/ready", elsewhere) == 200
    with Daemon("--allow-anonymous") as daemon:
        assert status_under(daemon, "/v1/models", elsewhere) == 200
    key, digest = new_key("blue")
    with Daemon(config=f'tenants:\n  - name: blue\n    keys: ["{digest}"]\n') as daemon:
        assert status_under(daemon, "/v1/models", elsewhere, key) == 200


def test_tenants_do_not_share_cache_and_salts_narrow_it():
    (blue, blue_hash), (red, red_hash) = new_key("blue"), new_key("red")
    config = (f'tenants:\n  - name: blue\n    keys: ["{blue_hash}"]\n'
              f'  - name: red\n    keys: ["{red_hash}"]\n')
    messages = [{"role": "user", "content": "The same long text for everyone. " * 10}]

    def cached(client, **extra):
        return ask(client, messages=messages,
                   extra_body=extra).usage.prompt_tokens_details.cached_tokens

    with Daemon(config=config) as daemon:
        assert cached(client_of(daemon, blue)) == 0
        assert cached(client_of(daemon, blue)) > 0
        assert cached(client_of(daemon, red)) == 0
        assert cached(client_of(daemon, blue), cache_salt="s") == 0
        assert cached(client_of(daemon, blue), cache_salt="s") > 0
        assert cached(client_of(daemon, red), cache_salt="s") == 0


def test_a_full_queue_is_refused_with_retry_after():
    config = "scheduler:\n  running_max: 1\n  waiting_max: 1\n"
    with Daemon(config=config) as daemon:
        client = client_of(daemon)

        def try_one(_):
            try:
                return ask(client, max_tokens=200, messages=[
                    {"role": "user", "content": "Write a long story."}])
            except openai.RateLimitError as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(try_one, range(8)))
        refused = [a for a in answers if isinstance(a, openai.RateLimitError)]
        assert refused and len(refused) < len(answers)
        assert all(int(r.response.headers["retry-after"]) >= 1 for r in refused)


def test_term_lets_accepted_streams_end_and_exits_0():
    with Daemon() as daemon:
        client = client_of(daemon)
        streams = [ask(client, stream=True, max_tokens=60, messages=[
            {"role": "user", "content": f"Write a story about {i} foxes."}]) for i in range(6)]
        first = [next(iter(s)) for s in streams]
        daemon.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: refuses(daemon))
        for stream in streams:
            assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
        assert len(first) == 6 and daemon.process.wait(60) == 0


def test_notice_is_given_before_requests_are_refused():
    with Daemon("--drain-notice", "3s") as daemon:
        client = client_of(daemon)
        assert ask(client).choices  # the SDK keeps this connection
        daemon.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: daemon.get("/health/ready") == (503, '{"status":"leaving"}'))
        stream = ask(client, stream=True, max_tokens=20)
        assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
        assert ask(client_of(daemon)).choices  # and on a new one
        assert daemon.process.wait(60) == 0


def refuses(daemon):
    try:
        return daemon.get("/health/ready")[0] == 503
    except OSError:
        return True


def test_a_second_signal_ends_at_once():
    with Daemon() as daemon:
        stream = ask(client_of(daemon), stream=True, max_tokens=4000, extra_body={"ignore_eos": True})
        next(iter(stream))

        def is_gone():
            daemon.process.send_signal(signal.SIGTERM)
            return daemon.process.poll() is not None

        assert wait_until(is_gone)
        assert daemon.process.returncode == 1 and "second signal" in daemon.log_path.read_text()


def test_signals_of_one_wish_let_streams_end():
    with Daemon() as daemon:
        stream = ask(client_of(daemon), stream=True, max_tokens=60)
        next(iter(stream))
        daemon.process.send_signal(signal.SIGTERM)  # as timeout(1) does: the child, then its group
        os.killpg(daemon.process.pid, signal.SIGTERM)
        assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
        assert daemon.process.wait(60) == 0


@pytest.mark.parametrize("arguments, words", [
    (["--model", "/nowhere/model.gguf"], ["/nowhere/model.gguf"]),
    (["--http", "0.0.0.0:0"], ["keys", "loopback"]),
    (["--no-such-flag"], ["no-such-flag"]),
])
def test_what_cannot_start_says_why(arguments, words):
    if "--model" not in arguments and os.environ.get("HOLDFAST_MODEL"):
        arguments = ["--model", os.environ["HOLDFAST_MODEL"], *arguments]
    run = subprocess.run([str(BINARY), "serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
                          *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    for word in words:
        assert word in run.stderr + run.stdout


def test_faults_of_a_configuration_come_all_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("modle:\n  path: x\nscheduler:\n  running_max: -1\n")
    run = subprocess.run([str(BINARY), "check-config", str(path)], capture_output=True, text=True)
    said = run.stdout + run.stderr
    assert run.returncode != 0 and "model" in said and "running_max" in said
    assert f"{path}:1" in said and f"{path}:4" in said


def test_check_config_says_what_serve_would_say(tmp_path):
    path = tmp_path / "open.yaml"
    path.write_text("listen:\n  http: 0.0.0.0:0\n  tls:\n    certificate_path: /nowhere/c.pem\n"
                    "    key_path: /nowhere/k.pem\nmodel:\n  path: /nowhere/m.gguf\n")
    runs = [subprocess.run([str(BINARY), *words], capture_output=True, text=True, timeout=60)
            for words in (["check-config", str(path)], ["serve", "--config", str(path)])]
    assert runs[0].returncode == runs[1].returncode == 1
    assert runs[0].stderr == runs[1].stderr
    for line, setting in [(2, "listen.http"), (4, "listen.tls.certificate_path"),
                          (5, "listen.tls.key_path"), (7, "model.path")]:
        assert f"{path}:{line}: `{setting}` is" in runs[0].stderr


def test_a_stream_that_waits_is_kept_alive_by_comments():
    with Daemon(config="scheduler: {running_max: 1}\nserver: {stream_keep_alive: 100ms}\n") as daemon:
        first = ask(client_of(daemon), stream=True, max_tokens=2000, extra_body={"ignore_eos": True})
        next(iter(first))
        body = json.dumps({"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 1,
                           "stream": True})
        request = urllib.request.Request(f"{daemon.url}/v1/chat/completions", body.encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.readline() == b": keep-alive\n"
            first.close()
            lines = answer.read().splitlines()
        assert lines[-2] == b"data: [DONE]"
        assert {line[:6] for line in lines if line} <= {b"data: ", b": keep"}


def test_idle_costs_nothing():
    with Daemon() as daemon:
        ticks = lambda: sum(map(int, open(f"/proc/{daemon.process.pid}/stat").read().split()[13:15]))
        ask(client_of(daemon))
        wait_until(lambda: daemon.metric("vllm:num_requests_running") == 0)

        def spent(seconds):  # of 100 ticks a second
            before = ticks()
            time.sleep(seconds)  # the thing measured is idleness itself
            return ticks() - before

        wait_until(lambda: spent(0.2) <= 1)  # until KV memory has the pages that it gets ahead
        assert spent(1.0) <= 5  # no busy waiting
