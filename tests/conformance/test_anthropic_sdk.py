"""The unmodified official `anthropic` SDK against the daemon. Whether the input of a call fits its
tool is for another library to say (jsonschema)."""

import json

import anthropic
import httpx
import jsonschema
import pydantic
import pytest
from daemon import Daemon, new_key
from test_kv_pins import drop, pins
from test_reasoning import TEMPLATE

MODEL = "SmolLM2-135M-Instruct"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 20},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
CLOCK = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC", "CET", "\"odd\" {zone}"]}},
    "required": ["zone"],
    "additionalProperties": False,
}
SCHEMAS = {"get_weather": WEATHER, "get-time": CLOCK}
TOOLS = [{"name": name, "description": f"calls {name}", "input_schema": schema}
         for name, schema in SCHEMAS.items()]
ANY = {"type": "any"}


@pytest.fixture(scope="module")
def claude(daemon):
    yield anthropic.Anthropic(base_url=daemon.url, api_key="none", max_retries=0)
    drop(daemon)  # what these tests had kept is no other test's


def arguments(temperature=0, extra_body=None, **kwargs):
    """The SDK of today has no temperature; the wire does."""
    given = dict(model=MODEL, messages=QUESTION, max_tokens=32)
    return {**given, **kwargs, "extra_body": {"temperature": temperature, **(extra_body or {})}}


def ask(claude, **kwargs):
    return claude.messages.create(**arguments(**kwargs))


def call_tools(claude, **kwargs):
    """An answer that calls tools, whole; the model, at temperature 1, may talk for long."""
    for _ in range(8):
        message = ask(claude, **{**dict(tools=TOOLS, tool_choice=ANY, temperature=1.0,
                                        max_tokens=300), **kwargs})
        if message.stop_reason == "tool_use":
            return message
    raise AssertionError("eight answers in turn were cut off")


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def calls_of(message):
    return [block for block in message.content if block.type == "tool_use"]


def prompt_tokens(usage):
    return (usage.input_tokens + usage.cache_read_input_tokens
            + usage.cache_creation_input_tokens)


def check_calls(message, names=tuple(SCHEMAS)):
    calls = calls_of(message)
    for call in calls:
        assert call.id.startswith("toolu_") and call.name in names
        jsonschema.validate(call.input, SCHEMAS[call.name])
    assert len({call.id for call in calls}) == len(calls)
    return calls


def test_a_question_is_answered(claude):
    message = ask(claude)
    assert message.type == "message" and message.role == "assistant" and message.model == MODEL
    assert message.id.startswith("msg_") and message._request_id
    assert "Paris" in text_of(message) and [block.type for block in message.content] == ["text"]
    assert message.stop_reason == "end_turn" and message.stop_sequence is None
    assert 0 < message.usage.output_tokens <= 32


def test_system_and_blocks_reach_the_model(claude):
    plain = ask(claude, system="You answer in French.")
    blocks = ask(claude, system=[{"type": "text", "text": "You answer in French."}],
                 messages=[{"role": "user", "content": [
                     {"type": "text", "text": QUESTION[0]["content"]}]}])
    assert text_of(plain) == text_of(blocks)
    assert prompt_tokens(plain.usage) == prompt_tokens(blocks.usage)
    assert prompt_tokens(plain.usage) != prompt_tokens(ask(claude).usage)


def test_a_stream_adds_up_to_the_answer(claude):
    whole = ask(claude)
    with claude.messages.stream(**arguments()) as stream:
        assert "".join(stream.text_stream) == text_of(whole)
        final = stream.get_final_message()
    assert text_of(final) == text_of(whole)
    assert (final.stop_reason, final.stop_sequence) == (whole.stop_reason, whole.stop_sequence)
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert prompt_tokens(final.usage) == prompt_tokens(whole.usage)


def test_events_come_in_order(claude):
    events = [event.type for event in ask(claude, stream=True)]
    assert events[:2] == ["message_start", "content_block_start"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(events[2:-3]) == {"content_block_delta"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_named_tool_is_called_once(claude, name):
    message = call_tools(claude, tool_choice={"type": "tool", "name": name})
    assert len(check_calls(message, [name])) == 1 and text_of(message) == ""


def test_any_calls_and_does_not_talk(claude):
    for parallel in (False, True):
        message = call_tools(claude, tool_choice={**ANY, "disable_parallel_tool_use": not parallel})
        calls = check_calls(message)
        assert text_of(message) == "" and (calls if parallel else len(calls) == 1)


def test_on_its_own_choice_an_answer_has_words_or_valid_calls(claude):
    for _ in range(4):
        message = ask(claude, tools=TOOLS, temperature=1.0, max_tokens=200)
        if message.stop_reason != "max_tokens":
            calls = check_calls(message)
            assert message.stop_reason == ("tool_use" if calls else "end_turn")


def test_none_calls_none(claude):
    message = ask(claude, tools=TOOLS, tool_choice={"type": "none"})
    assert text_of(message) and not calls_of(message)


def test_a_stream_of_calls_adds_up_to_the_answer(claude):
    asked = dict(tools=TOOLS, tool_choice=ANY, max_tokens=300)  # temperature 0: the same again
    whole = ask(claude, **asked)
    pieces = 0
    with claude.messages.stream(**arguments(**asked)) as stream:
        for event in stream:
            pieces += event.type == "input_json"
        final = stream.get_final_message()
    assert pieces > 3
    assert final.stop_reason == whole.stop_reason
    calls = [(call.name, call.input) for call in check_calls(final)]
    assert calls and calls == [(call.name, call.input) for call in check_calls(whole)]


def test_a_call_that_was_cut_off_is_not_shown_as_whole(claude):
    whole = calls_of(ask(claude, tools=TOOLS, tool_choice=ANY, max_tokens=300))[0]
    for max_tokens in (1, 12, 16):
        asked = dict(tools=TOOLS, tool_choice=ANY, max_tokens=max_tokens)
        message = ask(claude, **asked)
        assert message.stop_reason == "max_tokens" and message.usage.output_tokens == max_tokens
        assert all(call.input == whole.input for call in calls_of(message))
        with claude.messages.stream(**arguments(**asked)) as stream:
            final = stream.get_final_message()
        assert final.stop_reason == "max_tokens"
        assert all(call.name == whole.name for call in calls_of(final))


def test_results_go_back_to_the_model(claude):
    messages = list(QUESTION)
    for _ in range(2):
        message = call_tools(claude, messages=messages)
        messages.append({"role": "assistant", "content": message.content})
        messages.append({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call.id, "is_error": index > 0,
             "content": [{"type": "text", "text": "21 degrees"}]}
            for index, call in enumerate(calls_of(message))]})
    answer = ask(claude, messages=messages, tools=TOOLS, tool_choice={"type": "none"})
    assert text_of(answer) and answer.stop_reason in ("end_turn", "max_tokens")


@pytest.mark.parametrize("streamed", [False, True])
def test_the_sdks_own_loop_runs_tools(claude, streamed):
    """It first asks us to hold the conversation, and goes on by itself when told that we do not."""
    ran = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Weather of a city.

        Args:
            city: which one
        """
        ran.append(city)
        return f"21 degrees in {city}"

    runner = claude.beta.messages.tool_runner(
        model=MODEL, max_tokens=300, tools=[get_weather], max_iterations=2,
        tool_choice={"type": "tool", "name": "get_weather"}, messages=QUESTION,
        extra_body={"temperature": 0}, stream=streamed)
    messages = [turn.get_final_message() if streamed else turn for turn in runner]
    assert len(messages) == 2 and ran
    assert all(isinstance(city, str) for city in ran)


class Capital(pydantic.BaseModel):
    city: str
    inhabitants: int


def test_the_sdks_own_helper_parses_answers(claude):
    message = claude.messages.parse(**arguments(output_format=Capital, max_tokens=300))
    assert isinstance(message.parsed_output, Capital)


def test_tokens_of_a_conversation_are_counted(claude):
    for more in ({}, {"system": "Be brief."}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": ANY},
                 {"tools": TOOLS, "tool_choice": {"type": "none"}},
                 {"thinking": {"type": "enabled", "budget_tokens": 1024}}):
        counted = claude.messages.count_tokens(model=MODEL, messages=QUESTION, **more)
        assert counted.input_tokens == prompt_tokens(ask(claude, max_tokens=1, **more).usage)


def test_the_same_prompt_again_is_read_from_the_cache(claude):
    messages = [{"role": "user", "content": "Tell me about the number forty-three. " * 12}]
    first = ask(claude, messages=messages, max_tokens=4).usage
    again = ask(claude, messages=messages, max_tokens=4).usage
    assert again.cache_read_input_tokens >= 16 and again.input_tokens > 0
    assert again.cache_creation_input_tokens == 0
    assert prompt_tokens(first) == prompt_tokens(again)


def test_stop_sequences_end_the_text_before_them(claude):
    whole = text_of(ask(claude))
    stop = whole[8:14]
    message = ask(claude, stop_sequences=["zebra", stop])
    assert text_of(message) == whole[: whole.index(stop)]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    with claude.messages.stream(**arguments(stop_sequences=[stop])) as stream:
        final = stream.get_final_message()
    assert text_of(final) == text_of(message) and final.stop_sequence == stop


def test_max_tokens_cuts_and_bends_to_the_context(claude):
    message = ask(claude, max_tokens=3)
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 3
    with claude.messages.stream(**arguments(max_tokens=10**6)) as stream:  # more than the context
        assert "Paris" in text_of(stream.get_final_message())


def test_thinking_may_be_asked_for(claude):
    for thinking in ({"type": "disabled"}, {"type": "adaptive"},
                     {"type": "enabled", "budget_tokens": 1024}):
        assert text_of(ask(claude, thinking=thinking))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    template = tmp_path_factory.mktemp("template") / "thinks.jinja"
    template.write_text(TEMPLATE)
    with Daemon("--chat-template", str(template)) as running:
        yield anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0)


def test_what_is_thought_is_a_block_where_asked_for(thinker):
    thinking = {"type": "enabled", "budget_tokens": 6}
    whole = ask(thinker, thinking=thinking)
    assert [block.type for block in whole.content][0] == "thinking"
    assert whole.content[0].thinking and "think>" not in whole.content[0].thinking
    assert whole.usage.output_tokens_details.thinking_tokens > 0
    with thinker.messages.stream(**arguments(thinking=thinking)) as stream:
        final = stream.get_final_message()
    assert [block.to_dict() for block in final.content] == [
        block.to_dict() for block in whole.content]
    hidden = ask(thinker, thinking={**thinking, "display": "omitted"})
    assert text_of(hidden) == text_of(whole)
    assert all(block.type != "thinking" for block in hidden.content)
    unasked = ask(thinker)
    assert [block.type for block in unasked.content] == ["text"]
    assert unasked.usage.output_tokens_details.thinking_tokens == 0
    again = ask(thinker, thinking=thinking, messages=QUESTION + [
        {"role": "assistant", "content": whole.content}, {"role": "user", "content": "Go on."}])
    assert again.content


def test_what_agents_send_is_taken(claude):
    """As Claude Code asks, by the SDK's beta endpoint."""
    message = claude.beta.messages.create(
        model=MODEL, max_tokens=16, extra_body={"temperature": 1},
        betas=["claude-code-20250219", "interleaved-thinking-2025-05-14"],
        metadata={"user_id": "user_1_account__session_2"},
        system=[{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
                {"type": "text", "text": "You are an agent.",
                 "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        thinking={"type": "adaptive"}, output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        tools=[{**TOOLS[0], "eager_input_streaming": True}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>x"},
                                         {"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "A greeting.", "signature": "abc"},
                {"type": "text", "text": "Hello."},
                {"type": "tool_use", "id": "toolu_9", "name": "gone", "input": {"x": {"y": []}}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_9", "content": "no", "is_error": True,
                 "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Go on."}]}])
    assert message.type == "message"


@pytest.mark.parametrize("kwargs, error, words", [
    (dict(model="claude-sonnet-4-5"), anthropic.NotFoundError, "claude-sonnet-4-5"),
    (dict(temperature=2.5), anthropic.BadRequestError, "temperature"),
    (dict(max_tokens=0), anthropic.BadRequestError, "max_tokens"),
    (dict(messages=[]), anthropic.BadRequestError, "messages"),
    (dict(messages=[{"role": "robot", "content": "x"}]), anthropic.BadRequestError,
     "messages[0].role"),
    (dict(messages=[{"role": "user", "content": [
        {"type": "text", "text": "x"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/x"}}]}]),
     anthropic.BadRequestError, "messages[0].content[1].type"),
    (dict(messages=QUESTION + [{"role": "assistant", "content": "It is"}]),
     anthropic.BadRequestError, "messages[1].role"),
    (dict(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
     anthropic.BadRequestError, "tools[0].type"),
    (dict(tools=[{"name": "f", "strict": True, "input_schema": {
        "type": "object", "properties": {
            "x": {"type": "array", "uniqueItems": True, "minItems": 2}}}}],
        tool_choice=ANY), anthropic.BadRequestError, "tools[0].input_schema"),
    (dict(tool_choice=ANY), anthropic.BadRequestError, "tool_choice"),
    (dict(stop_sequences=[""]), anthropic.BadRequestError, "stop_sequences"),
    (dict(container="c"), anthropic.BadRequestError, "container"),
    (dict(extra_body={"mcp_servers": [{"type": "url"}]}), anthropic.BadRequestError,
     "mcp_servers"),
    (dict(extra_body={"no_such_parameter": 1}), anthropic.BadRequestError, "no_such_parameter"),
    (dict(messages=[{"role": "user", "content": "long " * 20000}]), anthropic.BadRequestError,
     "shorten it"),
])
def test_what_is_not_honoured_is_refused_by_name(claude, kwargs, error, words):
    for streamed in (False, True):
        with pytest.raises(error) as refused:
            ask(claude, stream=streamed, **kwargs)
        body = refused.value.body
        assert words in body["error"]["message"]
        assert body["type"] == "error" and body["request_id"] == refused.value.request_id
        assert body["error"]["type"] == ("not_found_error" if error is anthropic.NotFoundError
                                         else "invalid_request_error")


def test_a_key_comes_in_either_header():
    key, digest = new_key("one")
    with Daemon(config=f'tenants:\n  - name: one\n    keys: ["{digest}"]\n') as running:
        by_header = anthropic.Anthropic(base_url=running.url, api_key=key, max_retries=0)
        by_token = anthropic.Anthropic(base_url=running.url, auth_token=key, max_retries=0)
        assert ask(by_header, max_tokens=1) and ask(by_token, max_tokens=1)
        wrong = anthropic.Anthropic(base_url=running.url, api_key="wrong", max_retries=0)
        for call in (lambda: ask(wrong),
                     lambda: wrong.messages.count_tokens(model=MODEL, messages=QUESTION)):
            with pytest.raises(anthropic.AuthenticationError) as refused:
                call()
            assert refused.value.body["error"]["type"] == "authentication_error"


MARK = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize("place", ["top", "system", "message", "tool"])
def test_cache_control_keeps_the_kv_of_the_turn(claude, daemon, place):
    def turn(session, **kwargs):
        return ask(claude, max_tokens=4, extra_headers={"X-Claude-Code-Session-Id": session},
                   **kwargs)

    text = {"type": "text", "text": "Speak of " + place + ". " * 40}
    marked = {**text, "cache_control": MARK}
    kwargs = {
        "top": dict(cache_control=MARK),
        "system": dict(system=[marked]),
        "message": dict(messages=[{"role": "user", "content": [marked]}]),
        "tool": dict(tools=[{**TOOLS[0], "cache_control": MARK}], tool_choice={"type": "none"}),
    }[place]
    unasked = turn("claude-unasked").usage
    assert unasked.cache_creation_input_tokens == 0 and "holdfast" not in unasked.model_extra
    usage = turn("claude-" + place, **kwargs).usage
    assert usage.cache_creation_input_tokens > 0 and usage.input_tokens == 0
    assert usage.cache_creation.ephemeral_1h_input_tokens == usage.cache_creation_input_tokens
    assert usage.model_extra["holdfast"] == {"pinned": True, "pin_expires_in_ms": 3600000}
    assert ("default", "claude-" + place) in pins(daemon)
    again = turn("claude-" + place, **kwargs).usage
    assert again.cache_read_input_tokens > 0
    assert prompt_tokens(again) == prompt_tokens(usage)


def test_without_a_header_the_user_names_what_is_kept(claude, daemon):
    with claude.messages.stream(**arguments(
            metadata={"user_id": "claude-user"}, max_tokens=4,
            cache_control={"type": "ephemeral"})) as stream:
        usage = stream.get_final_message().usage
    assert usage.cache_creation_input_tokens > 0
    assert ("default", "claude-user") in pins(daemon)


def test_events_are_named_and_whole_as_they_are_on_the_wire(daemon):
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "temperature": 0, "stream": True}
    answer = httpx.post(daemon.url + "/v1/messages?beta=true", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events.pop() == ""
    for event in events:
        name, data = event.split("\n")
        assert name == "event: " + json.loads(data.removeprefix("data: "))["type"]
    assert "event: ping" in answer.text
