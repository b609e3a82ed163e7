"""Streams that survive their connection: raw sockets, since clients hide what is tested."""

import functools
import json
import re
import socket
import struct

import openai
import pytest
from daemon import Daemon, new_key, wait_until

@functools.cache
def tenants():
    return {name: new_key(name) for name in ("ann", "ben")}  # key and digest


def config(more=""):
    keys = "".join(f'  - name: {name}\n    keys: ["{digest}"]\n'
                   for name, (_, digest) in tenants().items())
    return f"server:\n  stream_resume_time_max: 60s\n{more}tenants:\n{keys}"


@pytest.fixture(scope="module")
def daemon():
    with Daemon("--context-tokens", "2048", config=config()) as running:
        yield running


class Raw:
    """One HTTP/1.0 connection, whose answer has no chunks."""

    def __init__(self, daemon, method, path, body=b"", tenant="ann", headers=()):
        self.socket = socket.create_connection(("127.0.0.1", daemon.http), timeout=60)
        lines = [f"{method} {path} HTTP/1.0", "Host: localhost",
                 f"Authorization: Bearer {tenants()[tenant][0]}", f"Content-Length: {len(body)}", *headers]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.bytes = b""
        while b"\r\n\r\n" not in self.bytes and self.more():
            pass
        self.head, _, self.bytes = self.bytes.partition(b"\r\n\r\n")
        self.status = int(self.head.split()[1])

    def more(self):
        data = self.socket.recv(65536)
        self.bytes += data
        return bool(data)

    def events(self, count=None):
        """The bytes of so many events more, or of all that are left; without comments."""
        taken = b""
        while count is None or count > 0:
            while b"\n\n" not in self.bytes:
                if not self.more():
                    return taken
            event, _, self.bytes = self.bytes.partition(b"\n\n")
            if event.startswith(b":"):
                continue
            taken += event + b"\n\n"
            count = count and count - 1
        return taken

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def ask(daemon, path, fields, resume="60s", **more):
    return Raw(daemon, "POST", path, json.dumps({"stream": True, **fields}).encode(),
               headers=[f"X-Holdfast-Resume: {resume}"] if resume else [], **more)


def ask_chat(daemon, max_tokens=60, **more):
    return ask(daemon, "/v1/chat/completions",
               {"messages": [{"role": "user", "content": "Tell me a story."}], "seed": 1,
                "max_tokens": max_tokens, "ignore_eos": True}, **more)


def id_of(events):
    return re.search(rb'"id":"([a-z]+[-_][0-9a-f]+)"', events).group(1).decode()


def last_id(events):
    return f"Last-Event-ID: {re.findall(rb'^id: ([0-9]+)$', events, re.M)[-1].decode()}"


def chat_stream(events):
    return f"/v1/chat/completions/{id_of(events)}/stream"


def running(daemon):
    return daemon.metric("vllm:num_requests_running")


WIRES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Tell me a story."}],
                             "max_tokens": 60},
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True},
    "/v1/messages": {"messages": [{"role": "user", "content": "Tell me a story."}],
                     "max_tokens": 60},
    "/v1/responses": {"input": "Tell me a story.", "max_output_tokens": 60, "ignore_eos": True},
}


@pytest.mark.parametrize("path", WIRES)
def test_a_stream_dropped_again_and_again_is_the_one_that_was_not_dropped(daemon, path):
    one = ask(daemon, path, WIRES[path])
    assert b"X-Holdfast-Resume: 1m" in one.head
    seen = one.events(2)
    one.reset()
    where = (f"{path}/{id_of(seen)}?stream=true" if path == "/v1/responses"
             else f"{path}/{id_of(seen)}/stream")
    for drops in range(4):
        one = Raw(daemon, "GET", where, headers=[last_id(seen)])
        assert one.status == 200
        seen += one.events(3)
        one.reset()
    seen += Raw(daemon, "GET", where, headers=[last_id(seen)]).events()
    whole = Raw(daemon, "GET", where).events()
    assert seen == whole
    numbers = [int(n) for n in re.findall(rb"^id: ([0-9]+)$", whole, re.M)]
    assert numbers == list(range(len(numbers))) and len(numbers) > 4


def test_text_is_that_of_a_stream_without_the_header(daemon):
    def text(events):
        return "".join(json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                       for line in events.decode().splitlines()
                       if line.startswith("data: {"))

    kept = ask_chat(daemon)
    seen = kept.events(5)
    kept.reset()
    seen += Raw(daemon, "GET", chat_stream(seen), headers=[last_id(seen)]).events()
    plain = ask_chat(daemon, resume=None)
    assert b"X-Holdfast-Resume" not in plain.head
    events = plain.events()
    assert b"id: " not in events and text(events) == text(seen)


def test_another_tenant_does_not_find_it(daemon):
    one = ask_chat(daemon)
    seen = one.events(1)
    for method in ("GET", "DELETE"):
        assert Raw(daemon, method, chat_stream(seen), tenant="ben").status == 404
    assert one.events().endswith(b"data: [DONE]\n\n")


def test_whoever_does_not_come_back_in_time_is_cancelled_within_a_step(daemon):
    one = ask_chat(daemon, max_tokens=1900, resume="300ms")
    seen = one.events(3)
    one.reset()
    assert wait_until(lambda: running(daemon) == 0)
    assert daemon.metric("holdfast_http_kept_streams_ended_total", reason="time") >= 1
    assert Raw(daemon, "GET", chat_stream(seen), headers=[last_id(seen)]).status == 404


def test_who_wants_no_more_says_so(daemon):
    one = ask_chat(daemon, max_tokens=1900)
    seen = one.events(3)
    one.reset()
    assert running(daemon) == 1
    assert Raw(daemon, "DELETE", chat_stream(seen)).status == 200
    assert wait_until(lambda: running(daemon) == 0)


def test_bounds_of_bytes_and_number_hold():
    more = ("  stream_resume_bytes_max: 16KiB\n  stream_resume_tenant_bytes_max: 24KiB\n"
            "  stream_resume_tenant_max: 2\n")
    with Daemon("--context-tokens", "2048", config=config(more)) as daemon:
        unread = ask_chat(daemon, max_tokens=1900)
        seen = unread.events(3)
        unread.reset()
        assert wait_until(lambda: running(daemon) == 0)
        assert daemon.metric("holdfast_http_kept_streams_ended_total", reason="bytes") == 1
        assert Raw(daemon, "GET", chat_stream(seen)).status == 404

        read = ask_chat(daemon, max_tokens=300)
        seen = read.events()
        assert seen.endswith(b"data: [DONE]\n\n")  # its oldest events made room
        assert Raw(daemon, "GET", chat_stream(seen), headers=["Last-Event-ID: 2"]).status == 410
        assert Raw(daemon, "GET", chat_stream(seen), headers=[last_id(seen)]).status == 200
        assert daemon.metric("holdfast_http_kept_stream_bytes") <= 24 << 10

        many = [ask_chat(daemon, max_tokens=1900) for _ in range(3)]
        assert [b"X-Holdfast-Resume" in one.head for one in many] == [True, True, False]
        assert ask_chat(daemon, tenant="ben", max_tokens=1).events().startswith(b"id: 0\n")


def test_a_drain_does_not_wait_for_streams_that_nobody_reads():
    with Daemon("--context-tokens", "2048", config=config()) as daemon:
        unread, read = ask_chat(daemon, max_tokens=1900), ask_chat(daemon, max_tokens=50)
        unread.events(1)
        read.events(1)
        unread.reset()
        assert daemon.terminate() == 0
        assert read.events().endswith(b"data: [DONE]\n\n")
        assert "drain_timeout" not in daemon.log_path.read_text().replace("drain_timeout=", "")


def test_a_response_in_the_background_is_streamed_and_resumed_by_the_sdk(stateful):
    client = openai.OpenAI(base_url=stateful.url + "/v1", api_key="none", max_retries=0)
    begin = []
    with client.responses.create(input="Tell me a story.", background=True, stream=True,
                                 max_output_tokens=60) as stream:
        for event in stream:
            begin.append(event)
            if len(begin) == 6:
                break
    name = begin[0].response.id
    rest = list(client.responses.retrieve(name, stream=True,
                                          starting_after=begin[-1].sequence_number))
    assert [e.sequence_number for e in begin + rest] == list(range(len(begin) + len(rest)))
    assert rest[-1].type in ("response.completed", "response.incomplete")
    assert client.responses.retrieve(name).output_text == rest[-1].response.output_text


def test_kept_streams_leave_nothing_behind():
    with Daemon("--context-tokens", "2048", "--kv-device-bytes", "64MiB", config=config()) as daemon:
        def round_of(count):
            ones = [ask_chat(daemon, max_tokens=200, resume="100ms") for _ in range(count)]
            for one in ones:
                one.reset()
            assert wait_until(lambda: running(daemon) == 0
                              and daemon.metric("holdfast_http_kept_streams") == 0)

        daemon.fill_memory({"Authorization": f"Bearer {tenants()['ann'][0]}"})
        full = []
        for _ in range(2):  # the heap is trimmed once meanwhile
            round_of(40)
            full.append(daemon.resident_bytes())
        round_of(40)
        assert daemon.resident_bytes() < max(full) * 1.05
        assert daemon.metric("holdfast_http_kept_stream_bytes") == 0
        assert daemon.metric("holdfast_kvstore_blocks", state="held") == 0
