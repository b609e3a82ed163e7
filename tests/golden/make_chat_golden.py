"""Reference renderings of chat templates: by Jinja2, set up as transformers sets it up
(ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, its own tojson without
HTML escapes, raise_exception; utils/chat_template_utils.py of releases 4.45 and later).

    ORACLE/bin/python tests/golden/make_chat_golden.py [MODEL.gguf]

The file defaults to $HOLDFAST_MODEL; its template is one of those rendered. The others are written
for this test. Writes chat_templates.json.
"""

import json
import os
import pathlib
import sys

import gguf
import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


class Generation(Extension):
    """{% generation %} renders as its content."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def render(template, case):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template).render(
        messages=case["messages"], tools=case.get("tools"), documents=None,
        add_generation_prompt=case["add_generation_prompt"], bos_token="<s>", eos_token="</s>",
        **case.get("kwargs", {}))


TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a <place> & \"time\"; don't guess: é 日本 😀 \\ /",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "enum": ["a", "b'c"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 1e16, "default": 1.0},
        "scale": {"type": ["number", "null"], "multipleOf": 0.5, "x": [1e-5, 0.0001, 1e22, -0.0, 123456.789]},
        "deep": {"a": {}, "b": [], "c": [[]], "d": [{}], "e": None, "f": True, "g": False}},
        "required": ["place"]}}},
    {"type": "function", "function": {"name": "noop", "parameters": {}}}]
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call_1", "type": "function", "function": {
        "name": "get_weather", "arguments": {"place": "a", "days": 2, "note": "line\nbreak\ttab \u0001"}}}]}
TALK = [{"role": "user", "content": "Hi <b>you</b> & 'me'"}, {"role": "assistant", "content": " Hello! \n"},
        {"role": "user", "content": "Bye"}]
SYSTEM = [{"role": "system", "content": "  Be brief.  "}] + TALK
WITH_TOOLS = SYSTEM + [CALL, {"role": "tool", "tool_call_id": "call_1", "content": "{\"t\": 3}"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
THINK = TALK[:1] + [{"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}, {"role": "user", "content": "x"}]

TEMPLATES = {
    "tools": """{{- bos_token }}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] | trim + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n" }}
    {%- for tool in tools %}
        {{- "\\n" }}{{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endif %}
{%- for message in messages if not (tools and message.role == 'system') %}
    {%- if message.role == 'assistant' and message.tool_calls is defined and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- for tool_call in message.tool_calls %}
            {%- set f = tool_call.function %}
            {{- '\\n<tool_call>\\n{"name": "' + f.name + '", "arguments": ' }}
            {%- if f.arguments is string %}{{- f.arguments }}{%- else %}{{- f.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.previtem is undefined or loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
    "indented tools": """{% for tool in tools or [] %}
{{ tool | tojson(indent=4) }}
{{ tool.function | tojson(indent=2, sort_keys=true) }}
{{ tool | tojson(separators=(',', ':')) }}
{{ tool | tojson(true) }}
{% endfor %}
{{ messages | tojson }}|{{ messages | length }}|{{ nothing | length }}|{{ [1, 2.0, none, true, 'é'] | tojson(ensure_ascii=True) }}
""",
    "alternation": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "namespaces and methods": """{%- macro block(name, body='') -%}
<{{ name }}>{{ caller() if caller else body }}</{{ name }}>
{%- endmacro %}
{%- set ns = namespace(last=-1, text='') %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
last={{ ns.last }} {{ block('a', 'b') }}
{% for m in messages %}
{% if m.role == 'system' %}{% continue %}{% endif %}
{% set content = m.content if m.content is string else '' %}
{% if '</think>' in content %}
{% set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{% set content = content.split('</think>')[-1].lstrip('\\n') %}
thought={{ thought }}
{% endif %}
{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }} {{ m.role.upper() }} {{ m.role | capitalize }}: {{ content.replace('l', 'L').title() }}{{ content.startswith('Hi') }}
{% if loop.index > 3 %}{% break %}{% endif %}
{% endfor %}
{% for key, value in {'b': 1, 'a': [1, 2]}.items() %}{{ key }}={{ value }};{% endfor %}
{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).role }} {{ messages[-1]['role'] }} {{ messages[::-1][0].role }} {{ 'x' * 3 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -7 % 3 }} {{ 'a' ~ 1 ~ none }} {{ none }} {{ true }} {{ 1.0 }} {{ nothing is defined }} {{ nothing or 'd' }} {{ nothing | default('e') }} {{ '%s-%d' | format('f', 3) }}
{# comment #}  {{ "  trim " | trim }}
""",
    "generation": """{%- for message in messages %}
{%- if message.role == 'assistant' %}
<|assistant|>{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}

{% else %}
<|{{ message.role }}|>{{ message.content }}
{%- generation -%}  {%- endgeneration %}
{% endif %}
{%- endfor %}
""",
    "parts": """{% for message in messages %}{{ message['role'] }}: {% if message['content'] is string %}{{ message['content'] }}{% elif message['content'] is iterable and message['content'] is not mapping %}{% for part in message['content'] %}{% if part['type'] == 'text' %}[{{ part['text'] }}]{% else %}{{ raise_exception('Only text, not ' ~ part.type) }}{% endif %}{% endfor %}{% endif %}
{% endfor %}{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{{ effort }}""",
}


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ["HOLDFAST_MODEL"]
    templates = dict(TEMPLATES)
    templates["SmolLM2"] = gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()
    talks = {"talk": TALK, "system": SYSTEM, "tools": WITH_TOOLS, "parts": PARTS, "thinking": THINK,
             "two users": TALK[:1] * 2, "empty": []}
    cases = []
    for name, template in templates.items():
        for talk, messages in talks.items():
            for prompt in (True, False):
                case = {"template": name, "talk": talk, "messages": messages,
                        "add_generation_prompt": prompt}
                if talk == "tools":
                    case["tools"] = TOOLS
                if talk == "parts":
                    case["kwargs"] = {"enable_thinking": False, "effort": "high"}
                try:
                    case["text"] = render(template, case)
                except (jinja2.exceptions.TemplateError, TypeError) as error:
                    case["error"] = str(error)
                cases.append(case)
    out = json.dumps({"templates": templates, "cases": cases}, ensure_ascii=False, indent=1)
    (HERE / "chat_templates.json").write_text(out + "\n")
    refused = sum("error" in case for case in cases)
    print(f"chat_templates.json: {len(cases)} cases, {refused} refused, {len(out)} bytes")


if __name__ == "__main__":
    main()
