// A chat request's conversation: messages and tools of OpenAI's form, checked and brought to the
// form that chat templates take (content a string, tool-call arguments an object).
//
// Thread: any; pure.
#pragma once

#include "server/generation.h"
#include "server/json_body.h"
#include "server/tool_call_format.h"
#include "text/text.h"

namespace holdfast {

// The fields `messages` (required), `tools`, `chat_template_kwargs` and `add_generation_prompt`.
// For a model whose template shows no tools (kUnknown) they are told of in the messages. A fault is
// left in `fields`, and the result is then of no use.
ChatInput ReadChatInput(JsonFields& fields, ToolCallFormat format);

// The field `thinking_token_budget`. What a model thinks is told apart from its answer.
// (`reasoning_effort` goes to the chat template, with chat_template_kwargs.)
void ReadReasoning(JsonFields& fields, GenerationRequest& request);

}  // namespace holdfast
