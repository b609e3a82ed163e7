// Which tools an answer may or must call: OpenAI's `tools`, `tool_choice` and
// `parallel_tool_calls`, as a grammar that the answer is then held to.
//
//   tool_choice       the answer
//   none              text; the tools are shown to the model and none is called
//   auto (default)    text, or calls, perhaps after text
//   required          calls
//   a function        one call of it
//   allowed_tools     auto or required, of some of the tools
//
// What has begun as a call can only become one: of a tool that was given, with arguments that are
// an object. They fit the tool's parameters where these can be kept to; with `strict` they must,
// or the request is refused.
//
// Thread: any; pure.
#pragma once

#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

// Reads `tool_choice` and `parallel_tool_calls`; `tools` was read and checked before
// (chat_messages.h), and so was the form of the answer (answer_format.h), which holds for answers
// without calls. Sets request.grammar and request.tool_calls, which shapes the answer.
void ReadToolChoice(JsonFields& fields, ToolCallFormat format, GenerationRequest& request);

}  // namespace holdfast
