"""KV that daemons share by a Valkey or Redis server, as clients see it: found by the other daemon, by
the same tenant only, and proven; a server that lies, hangs or is gone costs time and nothing else."""

import contextlib
import shutil
import signal
import socket
import subprocess
import threading

import openai
import pytest
from daemon import Daemon, new_key, wait_until

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no redis-server; ./dev test installs it")

SMALL = ["--context-tokens", "512", "--kv-device-bytes", "64MiB"]
STORY = "Once upon a time, in a small village by the sea, there lived a clockmaker. " * 18


class Server:
    """A redis-server on a socket in a folder of the test's own."""

    def __init__(self, folder, *arguments):
        self.path = folder / "kv.sock"
        self.url = f"unix:{self.path}"
        self.command = [SERVER, "--port", "0", "--unixsocket", str(self.path), "--save", "",
                        "--appendonly", "no", "--dir", str(folder), "--daemonize", "no", *arguments]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        assert wait_until(self.answers)

    def answers(self):
        with contextlib.suppress(OSError):
            self.call("PING")
            return True
        return False

    def call(self, *words):
        """One command; the whole answer, raw."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            connection.sendall(b"*%d\r\n" % len(parts) +
                               b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            return connection.recv(1 << 16)

    def size(self):
        return int(self.call("DBSIZE")[1:])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    running = Server(tmp_path)
    yield running
    running.kill()


def ask(daemon, prompt, key="none", **more):
    client = openai.OpenAI(base_url=daemon.url + "/v1", api_key=key, max_retries=0)
    answer = client.completions.create(model="SmolLM2-135M-Instruct", prompt=prompt,
                                       temperature=0, max_tokens=12, extra_body=more)
    return answer.choices[0].text, answer.usage.prompt_tokens_details.cached_tokens


def wait_for_sends(daemon):
    """Until all that it has computed lies on the server; how many blocks that is."""
    blocks = lambda: daemon.metric("holdfast_kvstore_published_blocks_total")
    sent = lambda: daemon.metric("holdfast_kvstore_moves_total", kind="send", result="done")
    assert wait_until(lambda: sent() == blocks() > 0)
    return blocks()


def test_what_one_daemon_computed_another_finds(server):
    with Daemon(*SMALL, "--kv-remote", server.url) as one, \
            Daemon(*SMALL, "--kv-remote", server.url) as other:
        text, cached = ask(one, STORY)
        assert cached == 0
        blocks = wait_for_sends(one)
        assert server.size() == blocks
        again, cached = ask(other, STORY)
        assert again == text
        assert cached > 200
        assert other.metric("holdfast_kvstore_hit_tokens_total", tier="remote") == cached
        assert other.metric("holdfast_scheduler_cached_tokens_total") == cached
        assert other.metric("holdfast_kvstore_remote_lookups_total", result="found") == 1
        # From here on it is its own; and nothing came back to the server that it has already.
        assert ask(other, STORY) == (text, cached)
        assert other.metric("holdfast_kvstore_hit_tokens_total", tier="remote") == cached
        tiers = other.get("/admin/v1/kv")[1]
        assert f'"remote":{{"hit_tokens":{int(cached)}}}' in tiers.replace(" ", "")


def test_another_tenants_or_salts_text_is_not_found(server):
    keys, lines = {}, ["tenants:"]
    for tenant, group in (("blue", None), ("red", None), ("left", "g"), ("right", "g")):
        keys[tenant], digest = new_key(tenant)
        lines.append(f'  - name: {tenant}\n    keys: ["{digest}"]')
        if group:
            lines.append(f"    sharing_group: {group}")
    config = "\n".join([*lines, f"kv:\n  remote:\n    url: '{server.url}'"]) + "\n"
    # A third daemon has the tenants in another order, and none of them in a group.
    other_lines = [*lines[:1], *[line for line in reversed(lines[1:]) if "name" in line]]
    other_config = "\n".join([*other_lines, f"kv:\n  remote:\n    url: '{server.url}'"]) + "\n"
    with Daemon(*SMALL, config=config) as one, Daemon(*SMALL, config=config) as same, \
            Daemon(*SMALL, config=other_config) as alone:
        _, cached = ask(one, STORY, keys["blue"])
        assert cached == 0
        wait_for_sends(one)
        _, cached = ask(one, STORY + "!", keys["left"])
        assert cached == 0
        wait_for_sends(one)
        for tenant, salt in (("red", None), ("red", "blue"), ("blue", "salt")):
            more = {"cache_salt": salt} if salt else {}
            assert ask(same, STORY, keys[tenant], **more)[1] == 0, tenant
        assert ask(same, STORY, keys["blue"])[1] > 200
        assert ask(same, STORY + "!", keys["right"])[1] > 200
        assert ask(alone, STORY + "!", keys["right"])[1] == 0  # it is in no group there
        assert ask(alone, STORY, keys["blue"])[1] > 200


def test_a_value_that_was_changed_is_not_served(server):
    with Daemon(*SMALL, "--kv-remote", server.url) as one, \
            Daemon(*SMALL, "--kv-remote", server.url) as other:
        text, _ = ask(one, STORY)
        wait_for_sends(one)
        server.call("EVAL", "for _, k in ipairs(redis.call('KEYS', '*')) do "
                            "redis.call('SETRANGE', k, 1000, 'not what it was') end", 0)
        again, cached = ask(other, STORY)
        assert (again, cached) == (text, 0)
        assert other.metric("holdfast_kvstore_remote_fetches_total", result="unproven") > 0
        assert other.metric("holdfast_kvstore_corrupt_blocks_total") > 0


def test_answers_go_on_without_the_server_and_it_is_used_again(server):
    arguments = [*SMALL, "--kv-remote", server.url]
    with Daemon(*arguments) as daemon:
        text, _ = ask(daemon, STORY)
        failures = []

        def keep_asking(worker):
            for turn in range(8):
                try:
                    ask(daemon, f"{worker} {turn} " * 40)
                except openai.APIError as error:
                    failures.append(error)

        workers = [threading.Thread(target=keep_asking, args=(i,)) for i in range(4)]
        for worker in workers:
            worker.start()
        server.kill()
        for worker in workers:
            worker.join()
        assert failures == []
        is_open = lambda: daemon.metric("holdfast_kvstore_remote_breaker_open") == 1
        tries = iter(range(1000))
        assert wait_until(lambda: ask(daemon, f"{next(tries)} again " * 40) and is_open())
        assert ask(daemon, STORY)[0] == text
        server.start()
        assert wait_until(lambda: ask(daemon, f"{next(tries)} and again " * 40) and not is_open())
        assert wait_until(lambda: server.size() > 0)
        assert daemon.terminate() == 0


def test_a_server_that_hangs_delays_a_request_by_its_time_outs_alone(server):
    config = (f"kv:\n  remote:\n    url: '{server.url}'\n"
              "    connect_timeout: 200ms\n    call_timeout: 200ms\n")
    with Daemon(*SMALL, config=config) as daemon:
        server.process.send_signal(signal.SIGSTOP)
        text, cached = ask(daemon, STORY)
        assert text and cached == 0
        server.process.send_signal(signal.SIGCONT)
        assert ask(daemon, STORY)[0] == text


def test_a_server_that_is_not_there_at_start_is_a_warning(tmp_path):
    with Daemon(*SMALL, "--kv-remote", f"unix:{tmp_path / 'nobody.sock'}") as daemon:
        assert wait_until(lambda: b"kv_remote" in daemon.log_path.read_bytes())
        assert ask(daemon, STORY)[0]


def test_a_password_is_read_from_its_file(tmp_path):
    server = Server(tmp_path, "--requirepass", "open sesame")
    try:
        (tmp_path / "password").write_text("open sesame\n")
        config = (f"kv:\n  remote:\n    url: '{server.url}'\n"
                  f"    password_path: '{tmp_path / 'password'}'\n")
        with Daemon(*SMALL, config=config) as daemon:
            ask(daemon, STORY)
            wait_for_sends(daemon)
            assert b"open sesame" not in daemon.log_path.read_bytes()
    finally:
        server.kill()
