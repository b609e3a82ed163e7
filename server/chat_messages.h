// A chat request's conversation: messages and tools of OpenAI's form, checked and brought to the
// form that chat templates take (content a string, tool-call arguments an object).
//
// Thread: any; pure.
#pragma once

#include "server/json_body.h"
#include "text/text.h"

namespace holdfast {

// The fields `messages` (required), `tools`, `chat_template_kwargs` and `add_generation_prompt`.
// A fault is left in `fields`, and the result is then of no use.
ChatInput ReadChatInput(JsonFields& fields);

// The field `tool_choice` of a request for a completion. Without tool calling, tools can be shown
// to the model (choice none) but none may be asked for: anything else with tools is a fault.
void ReadToolChoice(JsonFields& fields, bool has_tools);

}  // namespace holdfast
