// Our errors on Anthropic's wire: {"type": "error", "error": {"type", "message"}, "request_id"}.
// The status codes are those of http_status.h; the wire has no place for a parameter, so the
// message alone names it.
//
// Thread: any; pure.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "server/http_status.h"

namespace holdfast {

// The JSON text. What was brought to OpenAI's form and refused there is named as its sender wrote
// it: tools[0].input_schema, not tools[0].function.parameters.
std::string AnthropicErrorBody(const OpenAiError& error, absl::string_view request_id);

}  // namespace holdfast
