"""Holds every answer that the SDKs get to OpenAI's own document, where its path is given:

    pytest tests/conformance --openai-document PATH/subset.json.gz

Each body of a 200 of a documented path, and each event of a stream, must be what the document says;
else the test that asked for it fails. Errors must be OpenAI's Error object. Other paths are ours.
"""

import array
import base64
import gzip
import json
import pathlib
import re

import httpx2
import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

BASE = "urn:openai"


def without_first_of_echo(answer):
    """Where OpenAI's own service answers what its document does not say: the first
    token of an echoed prompt has nothing before it, and so no log probability."""
    for choice in answer.get("choices", []):
        logprobs = choice.get("logprobs") or {}
        for name, value in (("token_logprobs", 0), ("top_logprobs", {})):
            if logprobs.get(name) and logprobs[name][0] is None:
                logprobs[name][0] = value
    return answer


def with_lists(answer):
    """Asked for base64, OpenAI's own service answers with it; its document knows lists alone."""
    if answer.get("object") == "list":
        for item in answer["data"]:
            if isinstance(item.get("embedding"), str):
                item["embedding"] = list(array.array("f", base64.b64decode(item["embedding"])))
    return answer


def with_nulls(schema):
    """`nullable: true` is of OpenAPI 3.0: JSON Schema passes it over, the document still means it."""
    if isinstance(schema, list):
        return [with_nulls(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: with_nulls(value) for key, value in schema.items()}
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


class OpenAiDocument:
    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        self.document = with_nulls(
            json.loads(gzip.decompress(data) if str(path).endswith(".gz") else data))
        self.registry = Registry().with_resource(
            BASE, Resource.from_contents(self.document, default_specification=DRAFT202012))
        self.paths = [(re.compile(re.sub(r"\{[^}]*\}", "[^/]+", template) + "$"), template)
                      for template in self.document["paths"]]
        # Those without a parameter first: /responses/compact is no /responses/{id}.
        self.paths.sort(key=lambda path: path[1].count("{"))
        self.validators = {}
        self.bodies = self.events = self.errors = 0

    def validator(self, pointer):
        if pointer not in self.validators:
            self.validators[pointer] = jsonschema.Draft202012Validator(
                {"$ref": f"{BASE}#{pointer}"}, registry=self.registry)
        return self.validators[pointer]

    def pointer_of(self, method, path, streamed):
        """Where the document says what such an answer is; None: it says nothing."""
        for pattern, template in self.paths:
            if not pattern.match(path):
                continue
            try:
                content = self.document["paths"][template][method]["responses"]["200"]["content"]
            except KeyError:
                return None
            kind = "text/event-stream" if streamed and "text/event-stream" in content else \
                "application/json"
            if kind not in content:
                return None
            steps = ["paths", template, method, "responses", "200", "content", kind, "schema"]
            return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
        return None

    def check(self, pointer, text, what):
        faults = [f"{error.json_path}: {error.message[:300]}" + "".join(
            f"\n    {inner.json_path}: {inner.message[:200]}" for inner in error.context or [])
            for error in self.validator(pointer).iter_errors(
                with_lists(without_first_of_echo(json.loads(text))))]
        assert not faults, f"{what} is not what OpenAI's document says:\n" + "\n".join(faults) + \
            f"\n{text[:2000]}"

    def watch(self):
        """From now on, for every client of httpx2, which both SDKs use."""
        send, document = httpx2.Client.send, self

        def checked_send(client, request, **options):
            response = send(client, request, **options)
            method, path = request.method.lower(), request.url.path.removeprefix("/v1")
            kind = response.headers.get("content-type", "")
            if not request.url.path.startswith("/v1/") or "messages" in path:
                return response
            if response.status_code >= 400 and "json" in kind:
                response.read()
                document.check("/components/schemas/ErrorResponse", response.text,
                               f"the error {response.status_code} of {method} {path}")
                document.errors += 1
            elif response.status_code == 200:
                streamed = "event-stream" in kind
                if streamed and path.startswith("/responses/"):
                    # Of a stream that goes on the document says it only where it begins.
                    pointer = document.pointer_of("post", "/responses", True)
                else:
                    pointer = document.pointer_of(method, path, streamed)
                if pointer is None:
                    return response
                what = f"the answer to {method} {path}"
                if "event-stream" in kind:
                    response.stream = CheckedStream(response.stream, document, pointer, what)
                elif "json" in kind:
                    response.read()
                    document.check(pointer, response.text, what)
                    document.bodies += 1
            return response

        httpx2.Client.send = checked_send


class CheckedStream(httpx2.SyncByteStream):
    """Passes the bytes on, and looks at each event that is whole."""

    def __init__(self, inner, document, pointer, what):
        self.inner, self.document, self.pointer, self.what = inner, document, pointer, what

    def __iter__(self):
        rest = b""
        for piece in self.inner:
            rest += piece
            *events, rest = rest.split(b"\n\n")
            for event in events:
                self.look_at(event.decode())
            yield piece

    def look_at(self, event):
        data = "".join(line[5:].strip() for line in event.split("\n") if line.startswith("data:"))
        if not data or data == "[DONE]" or data.startswith('{"error"'):
            return
        self.document.check(self.pointer, data, f"an event of {self.what}")
        self.document.events += 1

    def close(self):
        self.inner.close()
