// OpenAI's Responses wire: POST /v1/responses as a checked struct, and the chat call that it means.
// As on the other wires every parameter is honoured, refused with a 400 that names it, or listed
// here as harmless; an unknown one is refused. null is absent.
//
//   instructions           a message of role system before all others, of this response alone
//   previous_response_id   what was said and answered before comes before the input
//   text.format            response_format of a chat; tools, tool_choice and reasoning.effort
//   likewise max_output_tokens      of reasoning and answer together
//
// Harmless, checked for type and then dropped: user, safety_identifier, service_tier auto|default,
// reasoning.summary (what was thought comes whole), max_tool_calls (nothing here runs tools),
// truncation disabled, text.verbosity medium, include of reasoning.encrypted_content and
// message.output_text.logprobs.
//
// Thread: any; pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/generation.h"
#include "server/json_body.h"
#include "server/openai_codec.h"

namespace holdfast {

struct ResponsesCall {
  std::string model;     // as asked for, else the served model's name
  std::string previous;  // id of the response that it goes on from; empty: none
  bool stream = false;
  std::optional<bool> store;
  bool background = false;
  Json input = Json::array();  // items (responses_items.h)
  Json echo = Json::object();  // what a response repeats of its request
  Json chat = Json::object();  // the chat's body, but for `messages`
  std::string instructions;    // empty: none
};

// kInvalidArgument or kNotFound (model), both with the payloads of server/generation.h.
absl::StatusOr<ResponsesCall> DecodeResponses(std::string_view body,
                                              const GenerationService::ModelInfo& info);

// `earlier`: items of the responses that it goes on from, the oldest first. What is refused is
// named as this wire names it. `session`: of the request's headers.
absl::StatusOr<GenerationCall> ChatCallOf(const ResponsesCall& call, const Json& earlier,
                                          const GenerationService::ModelInfo& info,
                                          std::string_view session);

}  // namespace holdfast
