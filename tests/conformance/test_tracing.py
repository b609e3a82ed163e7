"""Traces, as a collector gets them: OTLP's JSON, read by its published definitions (protobuf)."""

import base64
import http.server
import json
import socket
import threading

import grpc
import httpx
import pytest
from daemon import Daemon, wait_until
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "the-words-of-a-user"
BODY = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 6, "temperature": 0}


def with_base64_ids(text):
    """OTLP's JSON has hexadecimal digits where protobuf's has base64."""
    for scope in (s for r in text["resourceSpans"] for s in r["scopeSpans"]):
        for span in scope["spans"]:
            for key in span.keys() & {"traceId", "spanId", "parentSpanId"}:
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return text


class Collector:
    """Takes spans on a port of its own; `status` is what it answers."""

    def __init__(self, port=0):
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.status == 200:
                    collector.take(self.path, self.headers["Content-Type"], body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.status, self.spans, self.bodies = 200, [], []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, content_type, body):
        assert path == "/v1/traces" and content_type == "application/json"
        request = json_format.ParseDict(with_base64_ids(json.loads(body)),
                                        trace_service_pb2.ExportTraceServiceRequest())
        self.bodies.append(body)
        self.spans += [span for r in request.resource_spans for s in r.scope_spans
                       for span in s.spans]

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.stop()


@pytest.fixture
def traced(collector):
    with Daemon(config=f"tracing: {{otlp_http: '127.0.0.1:{collector.port}'}}\n"
                       "log: {level: debug}\n") as daemon:
        yield daemon


def values(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_request_goes_on_its_callers_trace(traced, collector):
    answer = httpx.post(traced.url + "/v1/chat/completions", json=BODY,
                        headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
    assert answer.status_code == 200
    version, trace, span, flags = answer.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01") and span != CALLER
    assert wait_until(lambda: collector.named("generation"))
    [http_span] = collector.named("POST /v1/chat/completions")
    [generation] = collector.named("generation")
    assert all(s.trace_id.hex() == TRACE for s in collector.spans)  # of probes there are none
    assert http_span.parent_span_id.hex() == CALLER and http_span.span_id.hex() == span
    assert generation.parent_span_id == http_span.span_id
    usage, told = answer.json()["usage"], values(generation)
    assert told["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert told["gen_ai.response.id"] == answer.json()["id"]
    assert values(http_span)["http.response.status_code"] == 200
    [queue], [prefill], [decode] = map(collector.named, ("queue", "prefill", "decode"))
    assert all(s.parent_span_id == generation.span_id for s in (queue, prefill, decode))
    assert (generation.start_time_unix_nano == queue.start_time_unix_nano
            <= queue.end_time_unix_nano == prefill.start_time_unix_nano
            < prefill.end_time_unix_nano == decode.start_time_unix_nano
            <= decode.end_time_unix_nano == generation.end_time_unix_nano)


def test_no_word_of_a_request_is_in_a_trace_or_the_log(traced, collector):
    httpx.post(traced.url + "/v1/chat/completions", json=BODY)
    assert wait_until(lambda: collector.named("generation"))
    assert wait_until(lambda: b" generation " in traced.log_path.read_bytes())
    assert SECRET.encode() not in b"".join(collector.bodies) + traced.log_path.read_bytes()


def test_who_brings_no_trace_begins_one_and_who_is_not_sampled_leaves_none(traced, collector):
    unsampled = httpx.post(traced.url + "/v1/chat/completions", json=BODY,
                           headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    assert unsampled.headers["traceparent"].startswith(f"00-{TRACE}-")
    httpx.post(traced.url + "/v1/chat/completions", json=BODY, headers={"traceparent": "nonsense"})
    assert wait_until(lambda: collector.named("generation"))
    [http_span] = collector.named("POST /v1/chat/completions")
    assert http_span.trace_id.hex() != TRACE and not http_span.parent_span_id


def test_a_grpc_call_goes_on_its_callers_trace(traced, collector, stubs):
    pb, rpc = stubs
    request = pb.ChatRequest(messages=[pb.Message(role="user", content="Hello.")])
    request.stopping.max_tokens = 2
    with grpc.insecure_channel(f"127.0.0.1:{traced.grpc}") as channel:
        rpc.GenerationStub(channel).Chat(request, metadata=[("traceparent",
                                                             f"00-{TRACE}-{CALLER}-01")])
    assert wait_until(lambda: collector.named("generation"))
    [generation] = collector.named("generation")
    assert (generation.trace_id.hex(), generation.parent_span_id.hex()) == (TRACE, CALLER)


def test_the_gap_of_a_tool_and_kv_that_comes_back_are_spans(collector):
    with Daemon("--context-tokens", "512", "--kv-device-bytes", str(36 * 368640),
                "--kv-host-bytes", "64MiB",
                config=f"tracing: {{otlp_http: '127.0.0.1:{collector.port}'}}\n") as daemon:
        def turn(messages, session, **more):
            answer = httpx.post(daemon.url + "/v1/chat/completions", timeout=60,
                                json=BODY | {"messages": messages, **more},
                                headers={"X-Session-Id": session})
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]["message"]
        first = [{"role": "user", "content": "one two three four five " * 40}]
        turn(first, "agent", tool_hint={"name": "search"})
        for i in range(4):
            turn([{"role": "user", "content": f"{i} {i * 7919} " * 40}], f"other-{i}")
        turn(first, "agent")
        assert wait_until(lambda: len(collector.named("generation")) == 6)
    [gap] = collector.named("tool_gap")
    assert values(gap)["gen_ai.tool.name"] == "search"
    assert all(values(span)["holdfast.restored_tokens"] > 0
               for span in collector.named("kv_restore"))
    assert collector.named("kv_restore")


def test_a_collector_that_is_away_costs_nothing_but_spans(traced, collector):
    collector.status = 503
    for _ in range(3):
        assert httpx.post(traced.url + "/v1/chat/completions", json=BODY).status_code == 200
    assert wait_until(lambda: traced.metric("holdfast_tracing_spans_total", result="failed") > 0)
    assert b"traces_not_taken" in traced.log_path.read_bytes()
    collector.status = 200
    httpx.post(traced.url + "/v1/chat/completions", json=BODY)
    assert wait_until(lambda: traced.metric("holdfast_tracing_spans_total", result="sent") > 0)
    assert wait_until(lambda: b"traces_taken_again" in traced.log_path.read_bytes())


def test_a_collector_that_never_answers_holds_up_neither_requests_nor_the_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with Daemon(config=f"tracing: {{otlp_http: '127.0.0.1:{silent.getsockname()[1]}'}}\n"
                           "log: {level: debug}\n") as daemon:
            for _ in range(3):
                assert httpx.post(daemon.url + "/v1/chat/completions", json=BODY).status_code == 200
            assert daemon.terminate(timeout=10) == 0


def test_the_last_spans_leave_before_the_daemon_does(traced, collector):
    assert httpx.post(traced.url + "/v1/chat/completions", json=BODY).status_code == 200
    assert traced.terminate() == 0
    assert collector.named("POST /v1/chat/completions") and collector.named("generation")


def test_a_collector_is_host_and_port():
    for fault in ("http://collector:4318", "unix:/collector", "redis://collector:4318"):
        with pytest.raises(RuntimeError, match="otlp_http"):
            Daemon(config=f"tracing: {{otlp_http: '{fault}'}}\n").stop()
