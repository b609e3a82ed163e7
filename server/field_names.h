// How the caller's wire names what a generation request holds. The checks that HTTP and gRPC share
// refuse a value by the name that its sender wrote: this is the one place that knows the names.
//
// Thread: any; constants.
#pragma once

#include "absl/status/status.h"

namespace holdfast {

// Names as in OpenAI's completions request unless said otherwise.
struct FieldNames {
  const char* prompt = "prompt";
  const char* n = "n";
  const char* max_tokens = "max_tokens";
  const char* min_tokens = "min_tokens";
  const char* stop = "stop";
  const char* stop_token_ids = "stop_token_ids";
  const char* temperature = "temperature";
  const char* top_p = "top_p";
  const char* top_k = "top_k";
  const char* min_p = "min_p";
  const char* typical_p = "typical_p";
  const char* presence_penalty = "presence_penalty";
  const char* frequency_penalty = "frequency_penalty";
  const char* repetition_penalty = "repetition_penalty";
  const char* logit_bias = "logit_bias";
  const char* top_logprobs = "logprobs";
  const char* prompt_logprobs = "logprobs";
  const char* cache_salt = "cache_salt";
  const char* session_id = "session_id";
  const char* session_final = "session_final";
  const char* retain_ttl = "kv_hints.ttl_ms";
  const char* prompt_cache_key = "prompt_cache_key";
  const char* tool_hint_name = "tool_hint.name";
  const char* tool_hint_expected = "tool_hint.expected_ms";
  const char* tool_parameters = "function.parameters";  // within one of the tools
};

// Of HTTP.
inline constexpr FieldNames kCompletionNames{};
inline constexpr FieldNames kChatNames{.prompt = "messages", .top_logprobs = "top_logprobs"};
inline constexpr FieldNames kChatNamesOfToday{// with OpenAI's later name of max_tokens
                                              .prompt = "messages",
                                              .max_tokens = "max_completion_tokens",
                                              .top_logprobs = "top_logprobs"};

inline constexpr FieldNames kMessagesNames{// of Anthropic's wire
                                           .prompt = "messages",
                                           .stop = "stop_sequences",
                                           .session_id = "X-Session-Id",
                                           .retain_ttl = "cache_control.ttl",
                                           .prompt_cache_key = "metadata.user_id",
                                           .tool_parameters = "input_schema"};

inline constexpr FieldNames kResponsesNames{// of OpenAI's Responses wire
                                            .prompt = "input",
                                            .max_tokens = "max_output_tokens",
                                            .top_logprobs = "top_logprobs",
                                            .tool_parameters = "parameters"};

inline constexpr FieldNames kEmbeddingsNames{.prompt = "input"};
inline constexpr FieldNames kScoreNames{.prompt = "text_2"};
inline constexpr FieldNames kRerankNames{.prompt = "documents"};

// Of proto/holdfast/v1: the path from the request message.
extern const FieldNames kProtoChatNames, kProtoCompleteNames, kProtoGenerateNames, kProtoEmbedNames;

// The refusal of a conversation that was brought from proto to OpenAI's form and checked there,
// with the names of that form, parameter and message, turned back into proto's.
absl::Status InProtoNames(const absl::Status& refusal);

}  // namespace holdfast
