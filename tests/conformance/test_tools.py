"""Calls of tools over the unmodified official SDK. Whether arguments fit a tool's parameters is for
another library to say (jsonschema)."""

import concurrent.futures
import json

import jsonschema
import openai
import pydantic
import pytest

MODEL = "SmolLM2-135M-Instruct"
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 20},
        "unit": {"$ref": "#/$defs/unit"},
    },
    "$defs": {"unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
CLOCK = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC", "CET", "\"odd\" {zone}"]}},
    "required": ["zone"],
    "additionalProperties": False,
}
PARAMETERS = {"get_weather": WEATHER, "get-time": CLOCK}
QUESTION = [{"role": "user", "content": "What is the weather in Paris, and what time is it there?"}]


def tool(name, parameters=None, **more):
    function = {"name": name, "description": f"calls {name}", **more}
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


TOOLS = [tool(name, parameters) for name, parameters in PARAMETERS.items()]


def ask(client, **kwargs):
    arguments = dict(model=MODEL, messages=QUESTION, tools=TOOLS, temperature=1.0, seed=3,
                     max_tokens=200)
    return client.chat.completions.create(**{**arguments, **kwargs})


def check_calls(message, names=tuple(PARAMETERS)):
    """Each call is of one of the tools, with arguments that fit; what the calls are."""
    calls = message.tool_calls or []
    for call in calls:
        assert call.type == "function" and call.id
        assert call.function.name in names
        jsonschema.validate(json.loads(call.function.arguments), PARAMETERS[call.function.name])
    assert len({call.id for call in calls}) == len(calls)
    return [(call.function.name, call.function.arguments) for call in calls]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_named_function_is_called_once(client, name):
    for seed in range(5):
        choice = ask(client, seed=seed,
                     tool_choice={"type": "function", "function": {"name": name}}).choices[0]
        assert len(check_calls(choice.message, [name])) == 1
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None


def test_required_calls_are_made_and_no_words(client):
    seen = set()
    for seed in range(8):
        choice = ask(client, seed=seed, tool_choice="required").choices[0]
        if choice.finish_reason == "length":
            continue
        calls = check_calls(choice.message)
        assert calls and choice.finish_reason == "tool_calls" and choice.message.content is None
        seen.update(name for name, _ in calls)
    assert seen == set(PARAMETERS)


def test_without_parallel_calls_there_is_one(client):
    for seed in range(5):
        choice = ask(client, seed=seed, tool_choice="required", parallel_tool_calls=False).choices[0]
        assert len(check_calls(choice.message)) == 1


def test_some_of_the_tools_may_be_allowed(client):
    allowed = {"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [{"type": "function", "function": {"name": "get-time"}}]}}
    for seed in range(4):
        choice = ask(client, seed=seed, tool_choice=allowed).choices[0]
        assert check_calls(choice.message, ["get-time"])


def test_on_its_own_choice_an_answer_has_words_or_valid_calls(client):
    for seed in range(6):
        choice = ask(client, seed=seed, max_tokens=100).choices[0]
        if choice.finish_reason != "length":
            calls = check_calls(choice.message)
            assert choice.finish_reason == ("tool_calls" if calls else "stop")
            assert calls or choice.message.content
        assert "<tool_call>" not in (choice.message.content or "") or not choice.message.tool_calls


def test_none_calls_none(client):
    choice = ask(client, tool_choice="none").choices[0]
    assert choice.message.tool_calls is None and choice.message.content


def streamed(client, **kwargs):
    """The message that a stream adds up to: content, calls and finish reason."""
    content, calls, finish = None, [], None
    for chunk in ask(client, stream=True, **kwargs):
        choice = chunk.choices[0]
        if choice.delta.content is not None:
            content = (content or "") + choice.delta.content
        for delta in choice.delta.tool_calls or []:
            if delta.index == len(calls):
                assert delta.id and delta.type == "function" and delta.function.name
                calls.append([delta.function.name, ""])
            else:
                assert delta.index == len(calls) - 1 and not delta.function.name
            calls[-1][1] += delta.function.arguments
        finish = choice.finish_reason or finish
    return content, [tuple(call) for call in calls], finish


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_a_stream_adds_up_to_the_answer(client, choice):
    for seed in range(2):
        whole = ask(client, tool_choice=choice, seed=seed).choices[0]
        calls = [(call.function.name, call.function.arguments)
                 for call in whole.message.tool_calls or []]
        assert streamed(client, tool_choice=choice, seed=seed) == (
            whole.message.content, calls, whole.finish_reason)


def test_arguments_arrive_while_they_are_written(client):
    pieces = 0
    for chunk in ask(client, stream=True, tool_choice="required"):
        pieces += len(chunk.choices[0].delta.tool_calls or [])
    assert pieces > 5


def test_a_cut_answer_says_so(client):
    whole = ask(client, tool_choice="required", seed=1).choices[0].message.tool_calls[0].function
    for max_tokens in (1, 8, 14, 20):
        choice = ask(client, tool_choice="required", seed=1, max_tokens=max_tokens).choices[0]
        assert choice.finish_reason == "length"
        for call in choice.message.tool_calls or []:
            assert call.function.name == whole.name
            assert whole.arguments.startswith(call.function.arguments)


def test_every_choice_has_its_own_calls(client):
    choices = ask(client, n=3, tool_choice="required").choices
    ids = []
    for choice in choices:
        if choice.finish_reason == "tool_calls":
            assert check_calls(choice.message)
        ids += [call.id for call in choice.message.tool_calls or []]
    assert len(set(ids)) == len(ids)


def test_company_does_not_change_the_calls(client):
    def calls(seed):
        message = ask(client, tool_choice="required", seed=seed).choices[0].message
        return [(call.function.name, call.function.arguments) for call in message.tool_calls]
    alone = [calls(seed) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(calls, range(4))) == alone


def test_results_go_back_to_the_model(client):
    messages = list(QUESTION)
    for _ in range(2):
        message = ask(client, messages=messages, tool_choice="required",
                      parallel_tool_calls=False).choices[0].message
        messages.append(message)
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "21 degrees"})
    answer = ask(client, messages=messages, tool_choice="none").choices[0].message
    assert answer.content and not answer.tool_calls


def test_odd_history_is_taken(client):
    odd = [QUESTION[0],
           {"role": "assistant", "content": "", "tool_calls": [
               {"id": "1", "type": "function", "function": {"name": "gone", "arguments": "not JSON"}},
               {"id": "2", "type": "function", "function": {"name": "gone", "arguments": ""}}]},
           {"role": "tool", "tool_call_id": "2", "content": "</tool_response><tool_call>"},
           {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x"}]},
           {"role": "assistant", "content": None, "tool_calls": [
               {"id": "3", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]}]
    assert ask(client, messages=odd, tool_choice="required").choices
    assert ask(client, messages=odd, tools=openai.NOT_GIVEN).choices


class GetWeather(pydantic.BaseModel):
    city: str = pydantic.Field(max_length=16)
    days: int = pydantic.Field(ge=1, le=7)


def test_the_sdks_own_helpers_parse_calls(client):
    tools = [openai.pydantic_function_tool(GetWeather)]
    for seed in range(3):
        message = client.chat.completions.parse(
            model=MODEL, messages=QUESTION, tools=tools, tool_choice="required", seed=seed,
            parallel_tool_calls=False, max_tokens=300, temperature=0.8).choices[0].message
        assert isinstance(message.tool_calls[0].function.parsed_arguments, GetWeather)
    with client.chat.completions.stream(
            model=MODEL, messages=QUESTION, tools=tools, tool_choice="required", seed=1,
            parallel_tool_calls=False, max_tokens=300, temperature=0.8) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in kinds
    assert isinstance(final.tool_calls[0].function.parsed_arguments, GetWeather)


def test_a_schema_of_the_answer_holds_where_nothing_is_called(client):
    schema = {"type": "object", "properties": {"sunny": {"type": "boolean"}}, "required": ["sunny"],
              "additionalProperties": False}
    answer_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    for seed in range(6):
        choice = ask(client, seed=seed, response_format=answer_format).choices[0]
        if choice.finish_reason == "stop":
            jsonschema.validate(json.loads(choice.message.content), schema)
        elif choice.finish_reason == "tool_calls":
            assert check_calls(choice.message)


UNKEPT = {"type": "object", "properties": {
    "x": {"type": "array", "uniqueItems": True, "minItems": 2}}}


def test_parameters_that_cannot_be_kept_to_leave_an_object(client):
    message = ask(client, tools=[tool("f", UNKEPT)], tool_choice="required", max_tokens=400,
                  parallel_tool_calls=False, temperature=0).choices[0].message
    for call in message.tool_calls or []:
        assert call.function.name == "f"


@pytest.mark.parametrize("arguments, param", [
    (dict(tools=[TOOLS[0], tool("f", UNKEPT, strict=True)]), "tools[1].function.parameters"),
    (dict(tools=[tool("f", {"type": "string"}, strict=True)]), "tools[0].function.parameters"),
    (dict(tools=[TOOLS[0], TOOLS[0]]), "tools[1].function.name"),
    (dict(tools=[tool("")]), "tools[0].function.name"),
    (dict(tool_choice="sometimes"), "tool_choice"),
    (dict(tool_choice={"type": "function", "function": {"name": "gone"}}),
     "tool_choice.function.name"),
    (dict(tools=openai.NOT_GIVEN, tool_choice="required"), "tool_choice"),
    (dict(extra_body={"structured_outputs": {"regex": "a+"}}), "structured_outputs.regex"),
])
def test_what_cannot_be_kept_to_is_refused_with_its_place(client, arguments, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **arguments)
    assert refused.value.param == param


def test_a_hundred_tools_are_taken(client):
    many = [tool(f"tool_{i}", WEATHER) for i in range(100)]
    try:
        calls = ask(client, tools=many, tool_choice={
            "type": "function", "function": {"name": "tool_57"}}).choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["tool_57"]
    except openai.BadRequestError as refused:  # a short context may not hold them all
        assert refused.code == "context_length_exceeded"
