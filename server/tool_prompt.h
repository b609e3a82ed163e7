// Tools for a model whose chat template shows none: told of in the system message, and calls and
// results of earlier turns written out as text, in the form of ToolCallFormat::kHermes.
//
// Thread: any; pure.
#pragma once

#include "server/json_body.h"

namespace holdfast {

// `messages` as chat_messages.h makes them, `tools` as OpenAI has them; either may be without any.
void WriteToolsIntoMessages(const Json& tools, Json& messages);

}  // namespace holdfast
