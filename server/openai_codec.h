// OpenAI's request bodies as checked structs: chat completions, completions, and vLLM's tokenize
// and detokenize. Every parameter is honoured, refused with a 400 that names it, or listed below as
// harmless; an unknown one is refused. null is absent.
//
// Harmless, checked for type and then dropped: user, safety_identifier, prompt_cache_key,
// session_id, metadata, store:false, service_tier auto|default, modalities ["text"], tools [], and
// without tools parallel_tool_calls and tool_choice none|auto.
//
// Text parts of one message are joined with a newline, as vLLM does for templates that take
// strings; role `developer` becomes `system`, which is what the templates of open models know.
//
// Thread: any; pure. A body of 8 MB decodes in some 50 ms.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

// What of a request decides the form of its answer.
struct AnswerShape {
  bool chat = true;
  int32_t num_prompts = 1;
  int32_t num_choices = 1;  // of each prompt; choice index = prompt * num_choices + i
  bool echo = false;
  bool logprobs = false;
  bool tool_calls = false;  // there may be some
  bool stream = false;
  bool include_usage = false;           // stream: a last chunk with usage
  bool continuous_usage_stats = false;  // stream: usage so far in each chunk
};

// A generation call, decoded and checked. The caller fills in what the body does not know: tenant,
// wire_id, arrival and, where `seed_given` is false, sampling.seed.
struct GenerationCall {
  AnswerShape shape;
  std::string model;  // as asked for, else the served model's name
  bool seed_given = false;
  std::vector<GenerationRequest> requests;  // one per prompt
};

// kInvalidArgument or kNotFound (model), both with the payloads of server/generation.h. `session`:
// of the request's header, for a body that names none.
absl::StatusOr<GenerationCall> DecodeChatCompletion(std::string_view body,
                                                    const GenerationService::ModelInfo& info,
                                                    std::string_view session = {});
absl::StatusOr<GenerationCall> DecodeCompletion(std::string_view body,
                                                const GenerationService::ModelInfo& info,
                                                std::string_view session = {});

// Prompts of one request that may ask for the log probabilities of their own tokens, which make
// the largest answers for the least work.
inline constexpr size_t kEchoLogprobPromptsMax = 8;
// Tokens that /tokenize spells out.
inline constexpr size_t kTokenStringsMax = 100'000;

struct TokenizeCall {
  std::variant<ChatInput, std::string> text;
  bool add_special_tokens = true;
  bool return_token_strs = false;
};
absl::StatusOr<TokenizeCall> DecodeTokenize(std::string_view body,
                                            const GenerationService::ModelInfo& info);

absl::StatusOr<std::vector<TokenId>> DecodeDetokenize(std::string_view body,
                                                      const GenerationService::ModelInfo& info);

// The field `model`: the served one by default; another is a fault of `fields`.
std::string ReadModel(JsonFields& fields, const GenerationService::ModelInfo& info);

// A text, a list of texts, a list of tokens, or a list of those; at most `most` of them, and one at
// least. `param` is its name in messages.
using Prompt = std::variant<ChatInput, std::string, std::vector<TokenId>>;
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const Json& value, absl::string_view param,
                                                size_t most);

}  // namespace holdfast
