// What form the answer is to have: OpenAI's `response_format` and vLLM's `structured_outputs`, as a
// grammar that the answer is then held to.
//
// Thread: any; pure.
#pragma once

#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

// The field `response_format`, of chats: {"type": "text"}, {"type": "json_object"},
// {"type": "json_schema", "json_schema": {"name", "schema", "strict", "description"}} or
// {"type": "structural_tag", ...} (structural_tags.h). The schema binds whether it is called strict
// or not.
void ReadResponseFormat(JsonFields& fields, GenerationRequest& request);

// The field `structured_outputs`: an object with one of `json` (a schema, as an object or a text),
// `json_object` (true), `regex`, `choice` (strings), `grammar` (Lark or GBNF) and `structural_tag`
// (structural_tags.h, as an object or a text).
void ReadStructuredOutputs(JsonFields& fields, GenerationRequest& request);

}  // namespace holdfast
