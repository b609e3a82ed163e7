"""The Responses wire through the unmodified OpenAI SDK."""

import json
import time

import openai
import pydantic
import pytest
from daemon import Daemon

TOOL = {"type": "function", "name": "get_weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                       "required": ["city"], "additionalProperties": False}, "strict": True}


@pytest.fixture(scope="module")
def client(stateful):
    return openai.OpenAI(base_url=stateful.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def ended(client, response, seconds=60):
    deadline = time.monotonic() + seconds
    while response.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


def test_a_response_says_what_the_chat_says(client, model):
    request = {"model": model, "temperature": 0}
    response = client.responses.create(input="What is the capital of France?",
                                       max_output_tokens=16, **request)
    chat = client.chat.completions.create(
        messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=16,
        **request)
    assert response.output_text == chat.choices[0].message.content
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.output_tokens == chat.usage.completion_tokens


def test_a_stream_adds_up_to_the_response(client, model):
    request = {"model": model, "input": "Tell me about bees.", "temperature": 0,
               "max_output_tokens": 24}
    whole = client.responses.create(**request)
    text, last = "", None
    for number, event in enumerate(client.responses.create(stream=True, **request)):
        assert event.sequence_number == number
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    assert text == whole.output_text == last.response.output_text
    assert last.type == "response.incomplete" and last.response.status == whole.status
    assert last.response.incomplete_details.reason == "max_output_tokens"


def test_the_sdks_helper_for_streams_gathers_the_response(client, model):
    with client.responses.stream(model=model, input="Say hello.", temperature=0,
                                 max_output_tokens=400) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text


def test_a_conversation_goes_on(client, model):
    first = client.responses.create(model=model, input="My name is Ada.", max_output_tokens=8,
                                    temperature=0)
    second = client.responses.create(model=model, input="What is my name?", max_output_tokens=8,
                                     previous_response_id=first.id, temperature=0)
    chat = client.chat.completions.create(
        model=model, max_tokens=8, temperature=0,
        messages=[{"role": "user", "content": "My name is Ada."},
                  {"role": "assistant", "content": first.output_text},
                  {"role": "user", "content": "What is my name?"}])
    assert second.output_text == chat.choices[0].message.content
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens_details.cached_tokens > 0


def test_a_call_of_a_function_and_its_output(client, model):
    first = client.responses.create(
        model=model, tools=[TOOL], max_output_tokens=80, temperature=0,
        tool_choice={"type": "function", "name": "get_weather"},
        input="What is the weather in Paris?")
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert call.name == "get_weather" and "city" in json.loads(call.arguments)
    second = client.responses.create(
        model=model, tools=[TOOL], max_output_tokens=16, previous_response_id=first.id,
        tool_choice="none",
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
    assert second.output_text
    streamed = [event for event in client.responses.create(
        model=model, tools=[TOOL], max_output_tokens=80, temperature=0, stream=True,
        tool_choice="required", parallel_tool_calls=False,
        input="What is the weather in Paris?")]
    pieces = "".join(event.delta for event in streamed
                     if event.type == "response.function_call_arguments.delta")
    (again,) = [item for item in streamed[-1].response.output if item.type == "function_call"]
    assert pieces == again.arguments


def test_a_form_is_parsed_by_the_sdk(client, model):
    class Person(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=12)
        age: int = pydantic.Field(ge=0, le=120)

    response = client.responses.parse(model=model, input="Invent a person.", text_format=Person,
                                      max_output_tokens=120)
    assert isinstance(response.output_parsed, Person)


def test_one_in_the_background_is_asked_for_until_it_is_done(client, model):
    response = client.responses.create(model=model, input="Tell me about chess.", background=True,
                                       max_output_tokens=12)
    assert response.status == "queued" and response.background
    response = ended(client, response)
    assert response.status in ("completed", "incomplete") and response.output_text


def test_one_in_the_background_is_cancelled(client, model):
    response = client.responses.create(
        model=model, input="Tell me everything.", background=True, max_output_tokens=4000,
        extra_body={"ignore_eos": True})
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(response.id)


def test_what_was_sent_is_listed(client, model):
    response = client.responses.create(model=model, max_output_tokens=2, input=[
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"}])
    items = list(client.responses.input_items.list(response.id, order="asc", limit=2))
    assert [item.content[0].text for item in items] == ["one", "two", "three"]


def test_one_is_deleted_and_what_is_not_stored_is_not_found(client, model):
    response = client.responses.create(model=model, input="a", max_output_tokens=2)
    client.responses.delete(response.id)
    unstored = client.responses.create(model=model, input="a", max_output_tokens=2, store=False)
    for one in (response, unstored):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(one.id)


def test_responses_outlive_the_daemon(folder):
    state = str(folder / "restarted.sqlite")
    with Daemon("--state", state) as daemon:
        client = openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0)
        model = client.models.list().data[0].id
        kept = client.responses.create(model=model, input="a", max_output_tokens=2)
        running = client.responses.create(
            model=model, input="b", background=True, max_output_tokens=7000,
            extra_body={"ignore_eos": True})
        daemon.process.kill()
        daemon.process.wait()
    with Daemon("--state", state) as daemon:
        client = openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0)
        assert client.responses.retrieve(kept.id).output_text == kept.output_text
        failed = client.responses.retrieve(running.id)
        assert failed.status == "failed" and failed.error.code == "server_error"


@pytest.mark.parametrize("more, param", [
    ({"temperature": 9}, "temperature"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "name": "f", "strict": True, "parameters": {"not": {}}}]},
     "tools[0].parameters"),
    ({"input": "a" * 2**20}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
     "input[0].content[0].type"),
    ({"truncation": "auto"}, "truncation"),
])
def test_a_wrong_parameter_is_an_error_that_names_it(client, model, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**{"model": model, "input": "a", **more})
    assert refused.value.param == param
