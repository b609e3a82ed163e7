#include "server/field_names.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "server/generation.h"

namespace holdfast {
namespace {

constexpr FieldNames ProtoNames(const char* prompt) {
  return {.prompt = prompt,
          .max_tokens = "stopping.max_tokens",
          .min_tokens = "stopping.min_tokens",
          .stop = "stopping.stop",
          .stop_token_ids = "stopping.stop_token_ids",
          .temperature = "sampling.temperature",
          .top_p = "sampling.top_p",
          .top_k = "sampling.top_k",
          .min_p = "sampling.min_p",
          .typical_p = "sampling.typical_p",
          .presence_penalty = "sampling.presence_penalty",
          .frequency_penalty = "sampling.frequency_penalty",
          .repetition_penalty = "sampling.repetition_penalty",
          .logit_bias = "sampling.logit_bias",
          .top_logprobs = "top_logprobs",
          .prompt_logprobs = "prompt_logprobs",
          .cache_salt = "options.cache_salt",
          .session_id = "options.session_id",
          .session_final = "options.session_final",
          .retain_ttl = "options.kv_hints.retain.ttl_ms",
          .prompt_cache_key = "options.prompt_cache_key",
          .tool_hint_name = "options.tool_hint.name",
          .tool_hint_expected = "options.tool_hint.expected_ms",
          .tool_parameters = "parameters_json"};
}

std::string Renamed(absl::string_view text, bool of_tool) {
  if (of_tool) {
    return absl::StrReplaceAll(text, {{".function.name", ".name"},
                                      {".function.description", ".description"},
                                      {".function.parameters", ".parameters_json"}});
  }
  return absl::StrReplaceAll(text, {{"tool_choice.function.name", "tool_function"},
                                    {".function.name", ".function_name"},
                                    {".function.arguments", ".arguments_json"},
                                    {"chat_template_kwargs", "chat_template_kwargs_json"}});
}

}  // namespace

constexpr FieldNames kProtoChatNames = ProtoNames("messages");
constexpr FieldNames kProtoCompleteNames = ProtoNames("prompt");
constexpr FieldNames kProtoGenerateNames = ProtoNames("prompt_tokens");
constexpr FieldNames kProtoEmbedNames = ProtoNames("inputs");

absl::Status InProtoNames(const absl::Status& refusal) {
  const absl::optional<absl::Cord> payload = refusal.GetPayload(kErrorParamUrl);
  if (!payload.has_value()) return refusal;
  const std::string param(*payload);
  const bool of_tool = absl::StartsWith(param, "tools");
  absl::Status renamed(refusal.code(), Renamed(refusal.message(), of_tool));
  refusal.ForEachPayload([&renamed](absl::string_view url, const absl::Cord& value) {
    renamed.SetPayload(url, value);
  });
  renamed.SetPayload(kErrorParamUrl, absl::Cord(Renamed(param, of_tool)));
  return renamed;
}

}  // namespace holdfast
