"""Python's grpcio against the daemon, with stubs made from proto/ as a user would make them."""

import json
import re

import grpc
import pytest
from daemon import wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def test_health_and_reflection_are_there(channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "holdfast.v1.Generation" in services


def ask(pb, **kwargs):
    arguments = dict(
        messages=[pb.Message(role="user", content="What is the capital of France?")],
        sampling=pb.Sampling(temperature=0), stopping=pb.Stopping(max_tokens=32))
    return pb.ChatRequest(**{**arguments, **kwargs})


@pytest.fixture(scope="module")
def generation(stubs, channel):
    return stubs[1].GenerationStub(channel)


def test_a_question_is_answered_alike_on_both_ports(stubs, generation, client):
    answer = generation.Chat(ask(stubs[0]))
    http = client.chat.completions.create(
        model="SmolLM2-135M-Instruct", temperature=0, max_tokens=32,
        messages=[{"role": "user", "content": "What is the capital of France?"}])
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.content == http.choices[0].message.content
    assert answer.choices[0].finish_reason == stubs[0].FINISH_REASON_STOP
    assert answer.usage.prompt_tokens == http.usage.prompt_tokens
    assert answer.usage.completion_tokens == http.usage.completion_tokens


def test_streamed_pieces_make_the_whole_answer(stubs, generation):
    whole = generation.Chat(ask(stubs[0])).choices[0].message.content
    chunks = list(generation.ChatStream(ask(stubs[0])))
    assert "".join(c.content for chunk in chunks for c in chunk.choices) == whole
    assert chunks[-1].usage.completion_tokens > 0


def test_tokens_in_tokens_out(stubs, generation, daemon):
    pb = stubs[0]
    answer = generation.Generate(pb.GenerateRequest(
        prompt_tokens=[504, 3575, 282, 4649, 314], sampling=pb.Sampling(temperature=0),
        stopping=pb.Stopping(max_tokens=5), top_logprobs=2))
    choice = answer.choices[0]
    assert len(choice.tokens) == len(choice.logprobs) == 5
    assert [t.chosen.token_id for t in choice.logprobs] == list(choice.tokens)
    streamed = [token for chunk in generation.GenerateStream(pb.GenerateRequest(
        prompt_tokens=[504, 3575, 282, 4649, 314], sampling=pb.Sampling(temperature=0),
        stopping=pb.Stopping(max_tokens=5))) for c in chunk.choices for token in c.tokens]
    assert streamed == list(choice.tokens)


def test_a_text_is_continued(stubs, generation):
    pb = stubs[0]
    request = pb.CompleteRequest(prompt="The capital of France is", echo=True, prompt_logprobs=1,
                                 sampling=pb.Sampling(temperature=0),
                                 stopping=pb.Stopping(max_tokens=4))
    answer = generation.Complete(request)
    assert "Paris" in answer.choices[0].text
    assert answer.prompt.text == "The capital of France is"
    assert len(answer.prompt.logprobs) == answer.usage.prompt_tokens - 1


@pytest.mark.parametrize("change, code, param", [
    (dict(model="gpt-4"), grpc.StatusCode.NOT_FOUND, "model"),
    (dict(messages=[]), grpc.StatusCode.INVALID_ARGUMENT, "messages"),
    (dict(n=0), grpc.StatusCode.INVALID_ARGUMENT, "n"),
    (dict(top_logprobs=21), grpc.StatusCode.INVALID_ARGUMENT, "top_logprobs"),
    (lambda pb: dict(sampling=pb.Sampling(temperature=3)), grpc.StatusCode.INVALID_ARGUMENT,
     "sampling.temperature"),
    (lambda pb: dict(stopping=pb.Stopping(max_tokens=10**6)), grpc.StatusCode.INVALID_ARGUMENT,
     "stopping.max_tokens"),
    (lambda pb: dict(stopping=pb.Stopping(min_tokens=10**6)), grpc.StatusCode.INVALID_ARGUMENT,
     "stopping.min_tokens"),
    (lambda pb: dict(tools=[pb.Tool(name="f")], tool_function="g"),
     grpc.StatusCode.INVALID_ARGUMENT, "tool_function"),
    (lambda pb: dict(tools=[pb.Tool(name="f"), pb.Tool(name="f")]),
     grpc.StatusCode.INVALID_ARGUMENT, "tools[1].name"),
    (dict(chat_template_kwargs_json='{"messages": 1}'), grpc.StatusCode.INVALID_ARGUMENT,
     "chat_template_kwargs_json.messages"),
])
def test_what_is_wrong_is_refused_by_name(stubs, generation, change, code, param):
    with pytest.raises(grpc.RpcError) as caught:
        generation.Chat(ask(stubs[0], **(change(stubs[0]) if callable(change) else change)))
    assert caught.value.code() == code
    assert dict(caught.value.trailing_metadata())["holdfast-error-param"] == param


def test_cancel_by_id_ends_the_stream(stubs, generation, daemon):
    pb = stubs[0]
    stream = generation.ChatStream(ask(
        pb, messages=[pb.Message(role="user", content="Write a very long story.")],
        stopping=pb.Stopping(max_tokens=4000, ignore_eos=True),
        options=pb.RequestOptions(request_id="to-be-cancelled")))
    first = next(stream)
    assert generation.Cancel(pb.CancelRequest(id=first.id)).found
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() == grpc.StatusCode.CANCELLED
    assert not generation.Cancel(pb.CancelRequest(id="never-there")).found


def test_an_id_names_one_running_call(stubs, generation):
    pb = stubs[0]
    named = ask(pb, stopping=pb.Stopping(max_tokens=4000, ignore_eos=True),
                options=pb.RequestOptions(request_id="the-one"))
    stream = generation.ChatStream(named)
    next(stream)
    with pytest.raises(grpc.RpcError) as caught:
        generation.Chat(named)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert generation.Cancel(pb.CancelRequest(id="the-one")).found
    with pytest.raises(grpc.RpcError):
        list(stream)
    again = ask(pb, options=pb.RequestOptions(request_id="the-one"))
    assert generation.Chat(again).id == "the-one"  # free as soon as the call has ended


def test_tools_are_taken_when_none_is_to_be_called(stubs, generation):
    pb = stubs[0]
    assert generation.Chat(ask(pb, tools=[pb.Tool(name="f")], tool_choice=pb.TOOL_CHOICE_NONE)).choices


def test_tools_are_called_whole_and_in_pieces(stubs, generation):
    pb = stubs[0]
    parameters = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}},
                  "required": ["city"], "additionalProperties": False}
    asked = ask(pb, tools=[pb.Tool(name="weather", parameters_json=json.dumps(parameters),
                                   strict=True), pb.Tool(name="clock")],
                tool_function="weather", stopping=pb.Stopping(max_tokens=200))
    choice = generation.Chat(asked).choices[0]
    assert choice.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    call, = choice.message.tool_calls
    assert call.id and call.function_name == "weather" and choice.message.content == ""
    assert json.loads(call.arguments_json)["city"] in ("Paris", "Rome")
    deltas = [delta for chunk in generation.ChatStream(asked) for choice in chunk.choices
              for delta in choice.tool_calls]
    assert deltas[0].function_name == "weather" and deltas[0].id
    assert "".join(delta.arguments_json for delta in deltas) == call.arguments_json
    asked.tool_choice, asked.tool_function = pb.TOOL_CHOICE_REQUIRED, ""
    calls = generation.Chat(asked).choices[0].message.tool_calls
    assert {call.function_name for call in calls} <= {"weather", "clock"} and calls


FORMS = [
    (dict(json=json.dumps({"type": "object", "properties": {"age": {"type": "integer", "minimum": 1,
                                                                    "maximum": 99}},
                           "required": ["age"], "additionalProperties": False})),
     lambda text: 1 <= json.loads(text)["age"] <= 99),
    (dict(json_object=True), lambda text: text.lstrip().startswith("{")),
    (dict(regex="[a-c]{3,6}"), lambda text: re.fullmatch("[a-c]{3,6}", text)),
    (dict(choice=["yes", "no"]), lambda text: text in ("yes", "no")),
    (dict(grammar="start: /[0-9]{2}/ \"-\" /[0-9]{2}/"),
     lambda text: re.fullmatch("[0-9]{2}-[0-9]{2}", text)),
    (dict(structural_tag=json.dumps({"type": "structural_tag", "format": {
        "type": "triggered_tags", "triggers": ["<f="], "at_least_one": True,
        "stop_after_first": True, "tags": [{"begin": "<f=pick>", "end": "</f>", "content": {
            "type": "json_schema", "json_schema": {"enum": ["red", "green"]}}}]}})),
     lambda text: text in ('<f=pick>"red"</f>', '<f=pick>"green"</f>')),
]


@pytest.mark.parametrize("form, holds", FORMS)
def test_an_answer_is_held_to_its_form_whole_and_streamed(stubs, generation, form, holds):
    pb, _ = stubs
    outputs = pb.StructuredOutputs(**form)
    chat = ask(pb, structured_outputs=outputs, stopping=pb.Stopping(max_tokens=40))
    text = generation.Chat(chat).choices[0].message.content
    assert holds(text)
    assert "".join(choice.content for chunk in generation.ChatStream(chat)
                   for choice in chunk.choices) == text
    complete = pb.CompleteRequest(prompt="Answer:", structured_outputs=outputs,
                                  sampling=pb.Sampling(temperature=0),
                                  stopping=pb.Stopping(max_tokens=40))
    assert holds(generation.Complete(complete).choices[0].text)


@pytest.mark.parametrize("form, param", [
    (dict(regex="("), "structured_outputs.regex"),
    (dict(json="{"), "structured_outputs.json"),
    (dict(json='{"type": "strange"}'), "structured_outputs.json"),
    (dict(grammar="start: missing"), "structured_outputs.grammar"),
    (dict(structural_tag="[]"), "structured_outputs.structural_tag"),
    (dict(structural_tag='{"structures": [], "triggers": "<"}'),
     "structured_outputs.structural_tag.triggers"),
    (dict(regex="a", choice=["a"]), "structured_outputs.choice"),
    ({}, "structured_outputs"),
])
def test_a_form_that_cannot_be_kept_is_refused_by_name(stubs, generation, form, param):
    pb, _ = stubs
    with pytest.raises(grpc.RpcError) as caught:
        generation.Chat(ask(pb, structured_outputs=pb.StructuredOutputs(**form)))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["holdfast-error-param"] == param


def test_a_client_that_leaves_frees_its_blocks(stubs, generation, daemon):
    pb = stubs[0]
    stream = generation.ChatStream(ask(pb, stopping=pb.Stopping(max_tokens=4000, ignore_eos=True)))
    next(stream)
    stream.cancel()
    assert wait_until(lambda: daemon.metric("vllm:num_requests_running") == 0)
    assert daemon.metric("holdfast_kvstore_blocks", state="held") == 0


def test_texts_are_embedded_as_on_the_other_port(stubs, generation, client):
    pb = stubs[0]
    texts = ["The cat sleeps.", "Interest rates have risen."]
    http = client.embeddings.create(model="SmolLM2-135M-Instruct", input=texts)
    answer = generation.Embed(pb.EmbedRequest(inputs=[pb.EmbedInput(text=text) for text in texts]))
    assert [list(one.values) for one in answer.embeddings] == [one.embedding for one in http.data]
    assert answer.usage.prompt_tokens == http.usage.prompt_tokens
    with pytest.raises(grpc.RpcError) as caught:
        generation.Embed(pb.EmbedRequest(inputs=[pb.EmbedInput(text="a"), pb.EmbedInput(
            tokens=pb.TokenList(ids=[10**6]))]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["holdfast-error-param"] == "inputs[1]"


def test_the_model_describes_itself(stubs, generation):
    models = generation.ListModels(stubs[0].ListModelsRequest()).models
    assert [m.context_tokens for m in models] == [8192]
    assert generation.GetModel(stubs[0].GetModelRequest(name=models[0].name)) == models[0]
