"""Answers that are held to a schema, a regular expression, a choice or a grammar, over the unmodified
official SDK. Whether an answer keeps to its schema is for another library to say (jsonschema)."""

import concurrent.futures
import enum
import json
import re

import httpx
import jsonschema
import openai
import pydantic
import pytest

MODEL = "SmolLM2-135M-Instruct"
QUESTION = [{"role": "user", "content": "Describe Ada Lovelace as JSON."}]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 30},
        "born": {"type": "integer", "minimum": 1000, "maximum": 2100},
        "fields": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
        "alive": {"type": "boolean"},
    },
    "required": ["name", "born", "fields", "alive"],
    "additionalProperties": False,
}
CALL = {
    "type": "object",
    "properties": {
        "tool": {"const": "get_weather"},
        "arguments": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Köln", "\"quoted\""]},
                           "unit": {"$ref": "#/$defs/unit"}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
    "$defs": {"unit": {"enum": ["C", "F", None]}},
    "required": ["tool", "arguments"],
    "additionalProperties": False,
}
LONG_NAMES = {
    "type": "object",
    "properties": {name: {"type": "integer", "minimum": 1, "maximum": 999} for name in (
        "the_persons_first_name_in_letters", "the_year_of_birth_by_the_registry", "number_of_children_known")},
    "required": ["the_persons_first_name_in_letters", "the_year_of_birth_by_the_registry",
                 "number_of_children_known"],
    "additionalProperties": False,
}
ONE_OF = {"anyOf": [{"type": "integer", "minimum": 5, "maximum": 9},
                    {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}]}


def ask(client, **kwargs):
    arguments = dict(model=MODEL, messages=QUESTION, temperature=1.0, seed=5, max_tokens=160)
    return client.chat.completions.create(**{**arguments, **kwargs})


def schema_format(schema, strict=True):
    return {"type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def outputs(**kwargs):
    return {"structured_outputs": kwargs}


@pytest.mark.parametrize("schema", [PERSON, CALL, ONE_OF], ids=["person", "call", "any_of"])
@pytest.mark.parametrize("strict", [True, False])
def test_every_answer_keeps_to_its_schema_unless_it_is_cut(client, schema, strict):
    for seed in range(4):
        answer = ask(client, response_format=schema_format(schema, strict), seed=seed, n=3)
        for choice in answer.choices:
            if choice.finish_reason == "length":
                continue
            assert choice.finish_reason == "stop"
            jsonschema.validate(json.loads(choice.message.content), schema)


KINDS = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]},
                                          "size": {"type": "integer"}}, "required": ["kind"]}
# Keywords that the grammar keeps by giving some of the valid answers up.
NARROWED = {
    "not": {"enum": ["red", "green", "blue", 7], "not": {"enum": ["green", 7]}},
    "if": {**KINDS, "if": {"properties": {"kind": {"const": "a"}}}, "then": {"required": ["size"]},
           "else": {"properties": {"size": False}}, "additionalProperties": False},
    "dependencies": {**KINDS, "dependentRequired": {"size": ["unit"]}, "additionalProperties": False,
                     "properties": {**KINDS["properties"], "unit": {"enum": ["cm", "m"]}}},
    "one_of": {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 99},
                         {"enum": [5, 6, 100, "none"]}]},
    "one_of_objects": {"type": "object", "additionalProperties": False, "properties": {
        "url": {"type": "string", "maxLength": 12}, "path": {"type": "string", "maxLength": 12}},
        "oneOf": [{"required": ["url"]}, {"required": ["path"]}]},
    "unique": {"type": "array", "items": {"enum": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]},
               "uniqueItems": True, "minItems": 2},
    "unique_words": {"type": "array", "items": {"type": "string", "maxLength": 9},
                     "uniqueItems": True},
    "contains": {"type": "array", "items": {"type": ["integer", "null"]}, "maxItems": 4,
                 "contains": {"type": "null"}, "maxContains": 2},
    "names": {"type": "object", "propertyNames": {"pattern": "^[a-z]{1,8}$"}, "maxProperties": 3,
              "minProperties": 1, "additionalProperties": {"type": "boolean"}},
    "counts": {"type": "object", "properties": {name: {"type": "boolean"} for name in "abcd"},
               "minProperties": 2, "maxProperties": 3},
    "unevaluated": {"allOf": [KINDS], "properties": {"more": {"type": "boolean"}},
                    "unevaluatedProperties": False},
    "recursive": {"$ref": "#/definitions/node", "definitions": {"node": {
        "type": "object", "additionalProperties": False, "required": ["name"], "properties": {
            "name": {"type": "string", "pattern": "^(?!-)[a-z-]{1,9}$"},
            "child": {"description": "one level down", "$ref": "#/definitions/node"}}}}},
}


@pytest.mark.parametrize("keyword", NARROWED)
def test_what_is_narrowed_is_valid_by_the_schema_as_it_was_sent(client, keyword):
    schema = NARROWED[keyword]
    whole = 0
    for seed in range(5):
        for choice in ask(client, response_format=schema_format(schema), seed=seed, n=4).choices:
            if choice.finish_reason == "stop":
                jsonschema.validate(json.loads(choice.message.content), schema)
                whole += 1
    assert whole > 0


def test_only_an_answer_that_is_cut_is_not_whole(client):
    answer = ask(client, response_format=schema_format(PERSON), max_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content.startswith("{")


def test_the_sdk_parses_into_its_own_classes(client):
    class Colour(str, enum.Enum):
        red = "red"
        blue = "blue"

    class Thing(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        colours: list[Colour] = pydantic.Field(max_length=2)
        count: int | None

    parsed = client.chat.completions.parse(model=MODEL, messages=QUESTION, max_tokens=200,
                                           temperature=0, response_format=Thing)
    assert isinstance(parsed.choices[0].message.parsed, Thing)


def test_a_json_object_is_one(client):
    for seed in range(6):
        choice = ask(client, response_format={"type": "json_object"}, seed=seed).choices[0]
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)


def test_streamed_pieces_make_the_same_answer(client):
    whole = ask(client, response_format=schema_format(PERSON)).choices[0].message.content
    chunks = ask(client, response_format=schema_format(PERSON), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole


def test_a_choice_a_regex_and_a_grammar_are_kept_on_both_endpoints(client):
    cases = [
        (outputs(choice=["positive", "negative", "né"]), r"positive|negative|né"),
        (outputs(regex=r"[A-Z][a-z]{2,5}-[0-9]{3}"), r"[A-Z][a-z]{2,5}-[0-9]{3}"),
        (outputs(grammar='start: NUM ("+" NUM)+\nNUM: /[1-9][0-9]?/'), r"\d{1,2}(\+\d{1,2})+"),
        (outputs(json=json.dumps(ONE_OF)), r"[5-9]|\[[^,]*,[^,]*\]"),
        (outputs(grammar='root ::= day (", " day)?\nday ::= "Mon" | "Tue"'),
         r"(Mon|Tue)(, (Mon|Tue))?"),
    ]
    for body, pattern in cases:
        chat = ask(client, extra_body=body).choices[0]
        text = client.completions.create(model=MODEL, prompt="Answer: ", max_tokens=160, seed=3,
                                         extra_body=body).choices[0]
        for finish, content in ((chat.finish_reason, chat.message.content),
                                (text.finish_reason, text.text)):
            if finish == "stop":
                assert re.fullmatch(pattern, content), (body, content)


TAGS = {"type": "structural_tag", "triggers": ["<f="], "structures": [
    {"begin": "<f=person>", "schema": PERSON, "end": "</f>"},
    {"begin": "<f=call>", "schema": CALL, "end": "</f>"}]}
FIRST = {"type": "structural_tag", "format": {
    "type": "triggered_tags", "triggers": ["<f="], "at_least_one": True, "stop_after_first": True,
    "tags": [{"begin": "<f=call>", "content": {"type": "json_schema", "json_schema": CALL},
              "end": "</f>"}]}}


def check_tags(text):
    """Free text without a trigger, and tags of it whose contents keep to their schemas."""
    schemas = {"person": PERSON, "call": CALL}
    rest = re.sub(r"<f=(person|call)>(.*?)</f>",
                  lambda tag: jsonschema.validate(json.loads(tag[2]), schemas[tag[1]]) or "", text,
                  flags=re.DOTALL)
    assert "<f=" not in rest


def test_a_trigger_begins_a_tag_whose_content_keeps_to_its_schema(client):
    for seed in range(3):
        for choice in ask(client, response_format=TAGS, seed=seed, n=3).choices:
            if choice.finish_reason == "stop":
                check_tags(choice.message.content)
        for body in (dict(response_format=FIRST),
                     dict(extra_body=outputs(structural_tag=json.dumps(FIRST)))):
            choice = ask(client, seed=seed, **body).choices[0]
            assert choice.message.content.startswith("<f=call>")
            if choice.finish_reason == "stop":
                assert choice.message.content.endswith("</f>")
                check_tags(choice.message.content)


def test_logprobs_are_the_models_own(client):
    answer = ask(client, extra_body=outputs(choice=["only this"]), logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert "".join(item.token for item in content).startswith("only this")
    # What the model would rather have said is still told.
    assert any(item.top_logprobs[0].logprob > item.logprob for item in content)


def test_forced_tokens_are_the_same_taken_at_once_and_one_by_one(daemon, client):
    forms = [dict(response_format=schema_format(LONG_NAMES)), dict(response_format=schema_format(CALL)),
             dict(extra_body=outputs(choice=["a choice that begins alike, and ends so",
                                             "a choice that begins alike, but ends otherwise"]))]
    for form in forms:
        for kwargs in ({}, {"max_tokens": 9}, {"stop": "rst_name"}, {"frequency_penalty": 1.5}):
            before = daemon.metric("holdfast_scheduler_forced_tokens_total")
            at_once = ask(client, **form, **kwargs)
            taken = daemon.metric("holdfast_scheduler_forced_tokens_total") - before
            assert taken > 0
            # Who asks for log probabilities gets each token from a row of its own.
            one_by_one = ask(client, **form, **kwargs, logprobs=True)
            assert daemon.metric("holdfast_scheduler_forced_tokens_total") == before + taken
            assert at_once.choices[0].message.content == one_by_one.choices[0].message.content
            assert at_once.choices[0].finish_reason == one_by_one.choices[0].finish_reason
            assert at_once.usage.completion_tokens == one_by_one.usage.completion_tokens


def test_company_changes_no_answer(client):
    def one(index):
        kwargs = dict(seed=index, max_tokens=60)
        if index % 3 == 0:
            kwargs["response_format"] = schema_format(PERSON)
        elif index % 3 == 1:
            kwargs["extra_body"] = outputs(regex="[a-z ]{10,200}\\.")
        return ask(client, **kwargs).choices[0].message.content

    alone = [one(index) for index in range(9)]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        assert list(pool.map(one, range(9))) == alone


@pytest.mark.parametrize("body, param, words", [
    ({"response_format": schema_format({"properties": {"a": {"not": {}}}})},
     "response_format.json_schema.schema", "/properties/a/not"),
    ({"response_format": schema_format({"type": "strange"})},
     "response_format.json_schema.schema", "strange"),
    (outputs(regex="("), "structured_outputs.regex", ""),
    (outputs(choice=[]), "structured_outputs.choice", "one at least"),
    (outputs(grammar="start: missing"), "structured_outputs.grammar", "missing"),
    (outputs(grammar="root ::= \"a\" ]"), "structured_outputs.grammar", "line 1, column 14"),
    (outputs(structural_tag={"structures": [{"begin": "<f>", "schema": {"not": {}}, "end": ""}],
                             "triggers": ["<f"]}),
     "structured_outputs.structural_tag", "structures[0].schema"),
    (outputs(regex="a", choice=["a"]), "structured_outputs.choice", "one of them"),
])
def test_what_cannot_be_kept_is_refused_by_name_and_place(client, body, param, words):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body=body)
    assert caught.value.body["param"] == param
    assert words in caught.value.body["message"]


def test_grammars_that_would_exhaust_the_daemon_are_refused_and_harm_nobody(daemon, client):
    bombs = [outputs(regex="((((a{1000}){1000}){1000}){1000})"), outputs(grammar="start: " + "(" * 9999),
             outputs(regex="(" * 9999)]
    for bomb in bombs:
        with pytest.raises(openai.BadRequestError):
            ask(client, extra_body=bomb)
    assert httpx.get(daemon.url + "/health/ready").status_code == 200
