// The items of OpenAI's Responses wire as messages of the chat wire, which chat_messages.h reads.
//
//   message               a message: text parts of type input_text or output_text
//   function_call         tool_calls of the assistant's message before it, or of one of its own
//   function_call_output  a message of role tool
//   reasoning             reasoning_content of the assistant's next message, for templates that
//   show it
//
// Whatever else is an item is refused: nothing here runs tools of its own or looks up references.
//
// Thread: any; pure.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/json_body.h"

namespace holdfast {

// The field `input` (a text or a list of items) as a list of items, each with an id and a type.
// kInvalidArgument names the place.
absl::StatusOr<Json> ReadInputItems(const Json& input);

// Appends what `items` are as messages. They were read by ReadInputItems, or are our own output.
void AppendMessages(const Json& items, Json& messages);

}  // namespace holdfast
