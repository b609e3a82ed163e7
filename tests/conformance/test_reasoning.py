"""Reasoning apart from the answer. The default model does not reason, so it gets a chat template that
opens its answer with the mark: what it writes is then thought until it is made to answer."""

import json

import openai
import pytest
from daemon import Daemon

MODEL = "SmolLM2-135M-Instruct"
QUESTION = [{"role": "user", "content": "Name a colour."}]
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "<|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n"
            "{% else %}<think>\n\n</think>\n\n{% endif %}")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    template = tmp_path_factory.mktemp("template") / "thinks.jinja"
    template.write_text(TEMPLATE)
    with Daemon("--chat-template", str(template)) as daemon:
        yield openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="any", max_retries=0)


def ask(client, budget=6, **kwargs):
    arguments = dict(model=MODEL, messages=QUESTION, max_tokens=60, temperature=0.7, seed=1)
    if budget is not None:
        kwargs["extra_body"] = {"thinking_token_budget": budget, **kwargs.get("extra_body", {})}
    return client.chat.completions.create(**{**arguments, **kwargs})


def test_what_is_thought_is_bounded_and_apart(thinker):
    for seed in range(4):
        answer = ask(thinker, seed=seed, extra_body={"min_tokens": 20})
        message = answer.choices[0].message
        assert message.reasoning_content and message.content
        assert "think>" not in message.reasoning_content + message.content
        assert 6 < answer.usage.completion_tokens_details.reasoning_tokens <= 12  # with the mark


def test_a_stream_adds_up(thinker):
    whole = ask(thinker).choices[0]
    reasoning = content = ""
    for chunk in ask(thinker, stream=True):
        delta = chunk.choices[0].delta
        part = getattr(delta, "reasoning_content", None)
        assert not (part and content)  # reasoning comes first
        reasoning += part or ""
        content += delta.content or ""
    assert (reasoning, content) == (whole.message.reasoning_content, whole.message.content)


def test_a_form_holds_for_the_answer_and_not_for_what_is_thought(thinker):
    for seed in range(4):
        message = ask(thinker, seed=seed, extra_body={
            "structured_outputs": {"choice": ["red", "green"]}}).choices[0].message
        assert message.content in ("red", "green") and message.reasoning_content


def test_tools_are_called_after_thinking(thinker):
    tool = {"type": "function", "function": {"name": "paint", "parameters": {
        "type": "object", "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"], "additionalProperties": False}}}
    choice = ask(thinker, tools=[tool], tool_choice="required", parallel_tool_calls=False,
                 max_tokens=120).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.reasoning_content
    assert json.loads(choice.message.tool_calls[0].function.arguments)["colour"] in ("red", "green")


def test_without_effort_nothing_is_thought(thinker):
    answer = ask(thinker, budget=None, reasoning_effort="none")
    assert answer.choices[0].message.content
    assert getattr(answer.choices[0].message, "reasoning_content", None) is None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_all_of_a_cut_answer_may_be_thought(thinker):
    choice = ask(thinker, budget=None, max_tokens=5).choices[0]
    assert choice.finish_reason == "length" and choice.message.content == ""
    assert choice.message.reasoning_content


def test_a_model_that_does_not_reason_answers_as_ever(client):
    alone = ask(client, budget=None)
    message = ask(client, budget=0, reasoning_effort="high").choices[0].message
    assert message.content == alone.choices[0].message.content


def test_a_template_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="none.jinja"):
        Daemon("--chat-template", str(tmp_path / "none.jinja"))
