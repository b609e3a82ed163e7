"""Calls of tools in the forms in which each argument stands by itself: between tags, as Qwen3-Coder
writes them, and in Python, as Llama 3.2 and 4 do. The model is the default one under a template that
shows tools so."""

import json

import jsonschema
import openai
import pytest
from daemon import Daemon
from test_tools import MODEL, QUESTION, tool

TURNS = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content or '' }}{{ CALLS }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
TAGS = """{% if tools %}<|im_start|>system
{% for t in tools %}{{ t | tojson }}
{% endfor %}To call one write
<tool_call>
<function=NAME>
<parameter=KEY>
VALUE
</parameter>
</function>
</tool_call><|im_end|>
{% endif %}""" + TURNS.replace("{{ CALLS }}", """{% for c in m.tool_calls %}
<tool_call>
<function={{ c.function.name }}>
{% for key, value in c.function.arguments | items %}<parameter={{ key }}>
{{ value if value is string else value | tojson }}
</parameter>
{% endfor %}</function>
</tool_call>{% endfor %}""")
PYTHON = """{% if tools %}<|im_start|>system
{% for t in tools %}{{ t | tojson }}
{% endfor %}Respond in the format [func_name1(params_name1=params_value1), func_name2(params)]<|im_end|>
{% endif %}""" + TURNS.replace("{{ CALLS }}", """{% if m.tool_calls %}[{% for c in m.tool_calls %}{{ c.function.name }}(\
{% for key, value in c.function.arguments | items %}{{ key }}={{ value | tojson }}\
{% if not loop.last %}, {% endif %}{% endfor %}){% if not loop.last %}, {% endif %}{% endfor %}]{% endif %}""")

BOOK = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 20},
        "unit": {"$ref": "#/$defs/unit"},
        "nights": {"type": "integer", "minimum": 1, "maximum": 30},
        "note": {"anyOf": [{"type": "string", "maxLength": 16}, {"type": "null"}]},
        "quiet": {"type": "boolean"},
        "rooms": {"type": "array", "items": {"type": "object", "properties": {
            "beds": {"type": "integer", "minimum": 1, "maximum": 4}, "sea": {"type": "boolean"}},
            "required": ["beds", "sea"], "additionalProperties": False}, "minItems": 1, "maxItems": 2},
    },
    "$defs": {"unit": {"enum": ["EUR", "USD"]}},
    "required": ["city", "unit", "nights", "quiet", "rooms"],
    "additionalProperties": False,
}
PARAMETERS = {"book": BOOK, "get-time": {"type": "object", "properties": {},
                                         "additionalProperties": False}}
TOOLS = [tool(name, parameters, strict=True) for name, parameters in PARAMETERS.items()]


@pytest.fixture(scope="module", params=["tags", "python"])
def client(request, tmp_path_factory):
    template = tmp_path_factory.mktemp("template") / "shape.jinja"
    template.write_text({"tags": TAGS, "python": PYTHON}[request.param])
    with Daemon("--chat-template", str(template)) as running:
        yield openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0)


def ask(client, **kwargs):
    arguments = dict(model=MODEL, messages=QUESTION, tools=TOOLS, temperature=1.0, seed=3,
                     max_tokens=300)
    return client.chat.completions.create(**{**arguments, **kwargs})


def calls_of(message):
    """Each is of one of the tools, with arguments that fit."""
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), PARAMETERS[name])
    return calls


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_named_function_is_called_with_arguments_that_fit(client, name):
    for seed in range(5):
        choice = ask(client, seed=seed,
                     tool_choice={"type": "function", "function": {"name": name}}).choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        assert [called for called, _ in calls_of(choice.message)] == [name]


def test_required_calls_are_made_and_streamed_alike(client):
    for seed in range(4):
        whole = ask(client, seed=seed, tool_choice="required").choices[0]
        if whole.finish_reason != "length":
            assert calls_of(whole.message)
        calls = []
        for chunk in ask(client, seed=seed, tool_choice="required", stream=True):
            for delta in chunk.choices[0].delta.tool_calls or []:
                if delta.function.name:
                    calls.append([delta.function.name, ""])
                calls[-1][1] += delta.function.arguments or ""
        assert calls == [[call.function.name, call.function.arguments]
                         for call in whole.message.tool_calls]


def test_on_its_own_choice_an_answer_has_words_or_valid_calls(client):
    for seed in range(6):
        choice = ask(client, seed=seed, max_tokens=150).choices[0]
        if choice.finish_reason != "length":
            calls = calls_of(choice.message)
            assert choice.finish_reason == ("tool_calls" if calls else "stop")


def test_calls_and_results_go_back_to_the_model(client):
    message = ask(client, tool_choice={"type": "function", "function": {"name": "book"}}).choices[0].message
    history = QUESTION + [message.to_dict()] + [
        {"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls]
    assert ask(client, messages=history, tool_choice="required").choices[0].message.tool_calls


def test_what_the_form_cannot_hold_is_refused_where_it_is_strict(client):
    odd = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
           "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, tools=[tool("f", odd, strict=True)])
    assert refused.value.param == "tools[0].function.parameters"
    message = ask(client, tools=[tool("f", odd)], tool_choice="required", max_tokens=60,
                  temperature=0).choices[0].message
    assert all(call.function.name == "f" for call in message.tool_calls or [])
