"""Files and batches through the unmodified OpenAI SDK, and over the daemon's sudden death."""

import json
import signal
import time

import grpc
import openai
import pytest
from daemon import Daemon, new_key, wait_until


def sdk(daemon, key="none"):
    return openai.OpenAI(base_url=daemon.url + "/v1", api_key=key, max_retries=0)


def chat_lines(count, **more):
    """JSONL of short chats with ids of their own."""
    lines = []
    for i in range(count):
        body = {"messages": [{"role": "user", "content": f"Say the number {i}."}],
                "max_tokens": 4, "seed": i, **more}
        lines.append(json.dumps({"custom_id": f"request-{i}", "method": "POST",
                                 "url": "/v1/chat/completions", "body": body}))
    return ("\n".join(lines) + "\n").encode()


def start_batch(client, content, endpoint="/v1/chat/completions", **more):
    uploaded = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=uploaded.id, endpoint=endpoint,
                                 completion_window="24h", **more)


def ended(client, batch_id, seconds=240):
    """The batch, once it is at its end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch_id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(0.1)
    raise AssertionError(f"the batch is still {batch.status}: {batch.request_counts}")


def answers(client, file_id):
    text = client.files.content(file_id).text
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def client(stateful):
    return sdk(stateful)


def test_a_file_is_uploaded_listed_read_and_deleted(client):
    content = b'{"a": 1}\r\n--not-a-boundary\n'
    uploaded = client.files.create(file=("name with \"quotes\".jsonl", content), purpose="batch",
                                   expires_after={"anchor": "created_at", "seconds": 3600})
    assert uploaded.bytes == len(content) and uploaded.purpose == "batch"
    assert uploaded.expires_at == uploaded.created_at + 3600
    assert client.files.retrieve(uploaded.id).filename == 'name with "quotes".jsonl'
    assert client.files.content(uploaded.id).content == content
    assert uploaded.id in [file.id for file in client.files.list()]
    assert client.files.delete(uploaded.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(uploaded.id)


def test_a_list_of_files_comes_in_pages(client):
    made = [client.files.create(file=(f"{i}.jsonl", b"x"), purpose="batch").id for i in range(5)]
    page = client.files.list(limit=2, order="asc")
    assert page.has_more and len(page.data) == 2
    assert [file.id for file in client.files.list(limit=2, order="asc")][-5:] == \
        [file.id for file in client.files.list(order="asc")][-5:]
    assert sorted(made) == sorted(file.id for file in client.files.list(limit=5))[:5]
    for file_id in made:
        client.files.delete(file_id)


def test_a_batch_answers_each_line_as_the_endpoint_would(client):
    batch = start_batch(client, chat_lines(3, temperature=0), metadata={"job": "night"})
    assert batch.status == "validating" and batch.metadata == {"job": "night"}
    batch = ended(client, batch.id)
    assert batch.status == "completed" and batch.error_file_id is None
    assert batch.request_counts.total == batch.request_counts.completed == 3
    lines = answers(client, batch.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"request-{i}" for i in range(3)]
    for i, line in enumerate(lines):
        assert line["response"]["status_code"] == 200 and line["error"] is None
        asked = client.chat.completions.create(
            model=client.models.list().data[0].id, max_tokens=4, seed=i, temperature=0,
            messages=[{"role": "user", "content": f"Say the number {i}."}])
        assert line["response"]["body"]["choices"][0]["message"]["content"] == \
            asked.choices[0].message.content
    assert batch.id in [one.id for one in client.batches.list(limit=5)]


def test_completions_may_be_batched_too(client):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions",
            "body": {"prompt": ["One, two,", "A, b,"], "max_tokens": 3}}
    batch = ended(client, start_batch(client, json.dumps(line).encode(), "/v1/completions").id)
    body = answers(client, batch.output_file_id)[0]["response"]["body"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1]


def embeddings_line(custom_id, **body):
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings",
                       "body": body})


def test_embeddings_may_be_batched_too(client):
    texts = ["The cat sleeps.", "Interest rates were raised again."]
    lines = [embeddings_line("list", input=texts), embeddings_line("text", input=texts[1]),
             embeddings_line("wrong", input=["a", ""]),
             embeddings_line("short", input="a", dimensions=0)]
    batch = ended(client, start_batch(client, "\n".join(lines).encode(), "/v1/embeddings").id)
    assert batch.status == "completed" and batch.endpoint == "/v1/embeddings"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (4, 2, 2)
    done = {line["custom_id"]: line["response"] for line in answers(client, batch.output_file_id)}
    asked = client.embeddings.create(model=client.models.list().data[0].id, input=texts,
                                     encoding_format="float")
    vectors = [one["embedding"] for one in done["list"]["body"]["data"]]
    assert vectors == [one.embedding for one in asked.data]
    assert done["text"]["body"]["data"][0]["embedding"] == vectors[1]
    assert done["list"]["body"]["usage"]["prompt_tokens"] == asked.usage.prompt_tokens
    failed = {line["custom_id"]: line["response"] for line in answers(client, batch.error_file_id)}
    assert {line["status_code"] for line in failed.values()} == {400}
    assert failed["wrong"]["body"]["error"]["param"] == "input[1]"
    assert failed["short"]["body"]["error"]["param"] == "dimensions"


def test_a_line_that_is_wrong_fails_alone(client):
    wrong = {"custom_id": "wrong", "method": "POST", "url": "/v1/chat/completions",
             "body": {"messages": [{"role": "user", "content": "a"}], "temperature": 9}}
    streamed = {"custom_id": "streamed", "method": "POST", "url": "/v1/chat/completions",
                "body": {"messages": [{"role": "user", "content": "a"}], "stream": True}}
    content = chat_lines(2) + (json.dumps(wrong) + "\n" + json.dumps(streamed)).encode()
    batch = ended(client, start_batch(client, content).id)
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 2)
    failed = {line["custom_id"]: line["response"] for line in answers(client, batch.error_file_id)}
    assert failed["wrong"]["status_code"] == 400
    assert failed["wrong"]["body"]["error"]["param"] == "temperature"
    assert failed["streamed"]["body"]["error"]["param"] == "stream"


@pytest.mark.parametrize("line, code", [
    ("{", "invalid_json"),
    ('{"method": "POST", "url": "/v1/chat/completions", "body": {}}', "missing_required_parameter"),
    ('{"custom_id": "request-0", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
     "duplicate_custom_id"),
    ('{"custom_id": "z", "method": "GET", "url": "/v1/chat/completions", "body": {}}',
     "invalid_method"),
    ('{"custom_id": "z", "method": "POST", "url": "/v1/completions", "body": {}}', "invalid_url"),
    ('{"custom_id": "z", "method": "POST", "url": "/v1/chat/completions", "body": {}, "x": 1}',
     "unknown_parameter"),
])
def test_a_file_that_is_wrong_fails_as_a_whole_and_says_where(client, line, code):
    batch = ended(client, start_batch(client, chat_lines(1) + line.encode()).id)
    assert batch.status == "failed" and batch.output_file_id is None
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, 2)


def test_a_batch_is_cancelled(client):
    batch = start_batch(client, chat_lines(200, max_tokens=400, ignore_eos=True))
    assert wait_until(lambda: client.batches.retrieve(batch.id).status == "in_progress")
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = ended(client, batch.id, seconds=30)
    assert batch.status == "cancelled" and batch.request_counts.completed < 200
    with pytest.raises(openai.BadRequestError):
        client.batches.cancel(batch.id)


@pytest.mark.parametrize("more, param", [
    ({"endpoint": "/v1/moderations"}, "endpoint"),
    ({"completion_window": "1h"}, "completion_window"),
    ({"input_file_id": "file-none"}, "input_file_id"),
    ({"metadata": {"a": "b" * 600}}, "metadata"),
])
def test_a_wrong_batch_is_refused_by_name(client, more, param):
    good = {"input_file_id": client.files.create(file=("a", chat_lines(1)), purpose="batch").id,
            "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
        client.batches.create(**{**good, **more})
    assert refused.value.param == param


@pytest.fixture(scope="module")
def batches(stubs, stateful):
    """gRPC's messages of batches, and a stub."""
    from holdfast.v1 import batches_pb2, batches_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{stateful.grpc}") as channel:
        yield batches_pb2, batches_pb2_grpc.BatchesStub(channel)


def upload_parts(pb, content, size):
    yield pb.UploadFileRequest(info=pb.FileInfo(filename="in.jsonl", purpose="batch",
                                                bytes=len(content)))
    for at in range(0, len(content), size):
        yield pb.UploadFileRequest(content=content[at:at + size])


def test_a_batch_over_grpc_is_the_one_that_http_shows(client, batches):
    pb, stub = batches
    content = "\n".join([embeddings_line("a", input=["x", "y"]),
                         embeddings_line("b", input="")]).encode()
    file = stub.UploadFile(upload_parts(pb, content, 50))
    assert client.files.content(file.id).content == content
    made = stub.CreateBatch(pb.CreateBatchRequest(input_file_id=file.id, endpoint="/v1/embeddings",
                                                  metadata={"job": "night"}))
    done = ended(client, made.id)
    assert done.status == "completed" and done.metadata == {"job": "night"}
    batch = stub.GetBatch(pb.GetBatchRequest(id=made.id))
    assert batch.status == pb.BATCH_STATUS_COMPLETED
    assert (batch.total, batch.completed, batch.failed) == (2, 1, 1)
    assert (batch.created_unix, batch.completed_unix) == (done.created_at, done.completed_at)
    assert (batch.output_file_id, batch.error_file_id) == (done.output_file_id, done.error_file_id)
    pieces = stub.DownloadFile(pb.DownloadFileRequest(id=batch.output_file_id))
    assert b"".join(piece.content for piece in pieces) == \
        client.files.content(batch.output_file_id).content
    listed = stub.ListBatches(pb.ListBatchesRequest(page=pb.Page(limit=100)))
    assert [one.id for one in listed.batches] == [one.id for one in client.batches.list(limit=100)]
    with pytest.raises(grpc.RpcError) as refused:
        stub.CancelBatch(pb.CancelBatchRequest(id=made.id))
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_a_large_file_goes_up_and_down_over_grpc(batches):
    pb, stub = batches
    content = bytes(range(256)) * (40 << 10)  # 10 MiB, beyond any one message
    file = stub.UploadFile(upload_parts(pb, content, 4 << 20))
    assert file.bytes == len(content)
    pieces = stub.DownloadFile(pb.DownloadFileRequest(id=file.id))
    assert b"".join(piece.content for piece in pieces) == content
    stub.DeleteFile(pb.DeleteFileRequest(id=file.id))
    with pytest.raises(grpc.RpcError) as gone:
        stub.GetFile(pb.GetFileRequest(id=file.id))
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


def test_online_requests_go_before_a_batch(stateful, client):
    batch = start_batch(client, chat_lines(64, max_tokens=200, ignore_eos=True))
    assert wait_until(lambda: stateful.metric("holdfast_server_batch_lines_running") > 8)
    answer = client.chat.completions.create(model=client.models.list().data[0].id, max_tokens=2,
                                            messages=[{"role": "user", "content": "Hello"}])
    assert answer.usage.completion_tokens <= 2
    assert client.batches.retrieve(batch.id).status == "in_progress"
    client.batches.cancel(batch.id)
    ended(client, batch.id, seconds=30)


@pytest.mark.parametrize("endpoint, content", [
    ("/v1/chat/completions", chat_lines(500)),
    ("/v1/embeddings", "\n".join(embeddings_line(f"request-{i}", input=f"The number {i}. " * 8)
                                 for i in range(500)).encode()),
])
def test_five_hundred_lines_are_answered_once_each_although_the_daemon_is_killed(
        folder, endpoint, content):
    state = str(folder / f"killed{endpoint.replace('/', '-')}.sqlite")
    with Daemon("--state", state) as daemon:
        client = sdk(daemon)
        batch = start_batch(client, content, endpoint)
        assert wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 100,
                          seconds=120)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
    with Daemon("--state", state) as daemon:
        client = sdk(daemon)
        before = client.batches.retrieve(batch.id).request_counts
        assert before.total == 500 and 100 < before.completed < 500
        done = ended(client, batch.id)
        assert done.status == "completed" and done.request_counts.completed == 500
        ids = [line["custom_id"] for line in answers(client, done.output_file_id)]
        assert ids == [f"request-{i}" for i in range(500)]


def test_one_tenant_does_not_see_the_files_and_batches_of_another(folder):
    keys, config = {}, "tenants:\n"
    for name in ("red", "blue"):
        keys[name], digest = new_key(name)
        config += f'  - name: {name}\n    keys: ["{digest}"]\n'
    with Daemon("--state", str(folder / "tenants.sqlite"), config=config) as daemon:
        red, blue = sdk(daemon, keys["red"]), sdk(daemon, keys["blue"])
        batch = start_batch(red, chat_lines(1))
        assert [file.id for file in red.files.list()] == [batch.input_file_id]
        assert list(blue.files.list()) == [] and list(blue.batches.list()) == []
        for call in (lambda: blue.files.content(batch.input_file_id),
                     lambda: blue.files.delete(batch.input_file_id),
                     lambda: blue.batches.retrieve(batch.id),
                     lambda: blue.batches.cancel(batch.id)):
            with pytest.raises(openai.NotFoundError):
                call()
        with pytest.raises(openai.NotFoundError):
            blue.batches.create(input_file_id=batch.input_file_id, completion_window="24h",
                                endpoint="/v1/chat/completions")
        assert ended(red, batch.id).status == "completed"


def test_without_a_state_file_batches_are_refused_and_the_setting_is_named(daemon):
    with pytest.raises(openai.InternalServerError, match="state.path"):
        sdk(daemon).files.list()


def test_a_second_daemon_is_refused_the_same_state_file(stateful, folder):
    with pytest.raises(RuntimeError, match="in use by another process"):
        Daemon("--state", str(folder / "state.sqlite"))
