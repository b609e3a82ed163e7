#include "server/request_validator.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/http_status.h"

namespace holdfast {
namespace {

absl::Status OutOfRange(absl::string_view name, absl::string_view wanted, absl::string_view found) {
  return ParameterError(name, "invalid_value",
                        absl::StrCat(name, " must be ", wanted, "; got ", found));
}

// Written so that NaN, which protobuf can carry, is out of every range.
absl::Status CheckRange(absl::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return OutOfRange(name, absl::StrCat("between ", low, " and ", high), absl::StrCat(value));
}

// low < value <= high
absl::Status CheckAbove(absl::string_view name, double value, double low, double high) {
  if (value > low && value <= high) return absl::OkStatus();
  return OutOfRange(name, absl::StrCat("above ", low, " and at most ", high), absl::StrCat(value));
}

absl::Status CheckCount(absl::string_view name, size_t count, size_t most) {
  if (count <= most) return absl::OkStatus();
  return ParameterError(
      name, "array_above_max_length",
      absl::StrCat(name, " has ", count, " entries; at most ", most, " are taken"));
}

absl::Status CheckVocabulary(absl::string_view name, TokenId token, int32_t vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return OutOfRange(name, absl::StrCat("a token id below ", vocab_size), absl::StrCat(token));
}

absl::Status CheckSampling(const SamplingParams& sampling, const FieldNames& names,
                           int32_t vocab_size) {
  RETURN_IF_ERROR(CheckRange(names.temperature, sampling.temperature, 0, 2));
  RETURN_IF_ERROR(CheckRange(names.top_p, sampling.top_p, 0, 1));
  RETURN_IF_ERROR(CheckRange(names.min_p, sampling.min_p, 0, 1));
  RETURN_IF_ERROR(CheckAbove(names.typical_p, sampling.typical_p, 0, 1));
  if (sampling.top_k < 0) {
    return OutOfRange(names.top_k, "0 (off) or more", absl::StrCat(sampling.top_k));
  }
  RETURN_IF_ERROR(CheckRange(names.presence_penalty, sampling.presence_penalty, -2, 2));
  RETURN_IF_ERROR(CheckRange(names.frequency_penalty, sampling.frequency_penalty, -2, 2));
  RETURN_IF_ERROR(CheckAbove(names.repetition_penalty, sampling.repetition_penalty, 0, 10));
  RETURN_IF_ERROR(CheckCount(names.logit_bias, sampling.logit_bias.size(), kLogitBiasMax));
  for (const auto& [token, bias] : sampling.logit_bias) {
    RETURN_IF_ERROR(CheckVocabulary(names.logit_bias, token, vocab_size));
    RETURN_IF_ERROR(CheckRange(names.logit_bias, bias, -100, 100));
  }
  if (sampling.top_logprobs.has_value()) {
    RETURN_IF_ERROR(CheckRange(names.top_logprobs, *sampling.top_logprobs, 0, kTopLogprobsMax));
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const GenerationRequest& request, int32_t vocab_size) {
  const FieldNames& names = *request.names;
  RETURN_IF_ERROR(CheckCount(names.stop, request.stop.size(), kStopStringsMax));
  for (const std::string& stop : request.stop) {
    if (stop.empty()) return OutOfRange(names.stop, "strings that are not empty", "an empty one");
    if (stop.size() > kStopStringBytesMax) {
      return OutOfRange(names.stop,
                        absl::StrCat("strings of at most ", kStopStringBytesMax, " bytes"),
                        absl::StrCat("one of ", stop.size()));
    }
  }
  RETURN_IF_ERROR(CheckCount(names.stop_token_ids, request.stop_token_ids.size(), kStopTokensMax));
  for (const TokenId token : request.stop_token_ids) {
    RETURN_IF_ERROR(CheckVocabulary(names.stop_token_ids, token, vocab_size));
  }
  return absl::OkStatus();
}

absl::Status CheckLengths(const GenerationRequest& request) {
  const FieldNames& names = *request.names;
  const int32_t min_tokens = request.sampling.min_tokens;
  if (min_tokens < 0) return OutOfRange(names.min_tokens, "0 or more", absl::StrCat(min_tokens));
  const std::optional<int32_t> max_tokens =
      request.max_tokens.has_value() ? request.max_tokens : request.max_tokens_default;
  if (!max_tokens.has_value()) return absl::OkStatus();
  const bool may_draw_none =
      request.prompt_top_logprobs.has_value() || request.embedding.has_value();
  if (*max_tokens < 0 || (*max_tokens == 0 && !may_draw_none)) {
    return OutOfRange(names.max_tokens,
                      absl::StrCat("1 or more (0 only with echo and ", names.prompt_logprobs, ")"),
                      absl::StrCat(*max_tokens));
  }
  if (min_tokens > *max_tokens) {
    return OutOfRange(names.min_tokens,
                      absl::StrCat("at most ", names.max_tokens, ", ", *max_tokens),
                      absl::StrCat(min_tokens));
  }
  return absl::OkStatus();
}

absl::Status CheckSession(const GenerationRequest& request) {
  const FieldNames& names = *request.names;
  if (request.session.size() > kUserStringBytesMax) {
    return ParameterError(names.session_id, "string_above_max_length",
                          absl::StrCat(names.session_id, " has ", request.session.size(),
                                       " bytes; at most ", kUserStringBytesMax, " are taken"));
  }
  if (request.session_final && request.session.empty()) {
    return ParameterError(names.session_final, "invalid_value",
                          absl::StrCat(names.session_final, " needs ", names.session_id,
                                       " to say which session ends; give it"));
  }
  if (!request.retain) return absl::OkStatus();
  const absl::Duration ttl = request.retain->ttl;
  if (ttl >= absl::Milliseconds(1) && ttl <= absl::Milliseconds(kPinTtlMsMax)) {
    return absl::OkStatus();
  }
  return OutOfRange(names.retain_ttl, absl::StrCat("between 1 and ", kPinTtlMsMax),
                    absl::StrCat(absl::ToInt64Milliseconds(ttl)));
}

absl::Status CheckToolHint(const GenerationRequest& request) {
  if (!request.tool_hint) return absl::OkStatus();
  const FieldNames& names = *request.names;
  const ToolHint& hint = *request.tool_hint;
  if (hint.name.empty() || hint.name.size() > kToolNameBytesMax) {
    return OutOfRange(names.tool_hint_name, absl::StrCat("1 to ", kToolNameBytesMax, " bytes"),
                      absl::StrCat(hint.name.size()));
  }
  if (!hint.expected) return absl::OkStatus();
  const int64_t milliseconds = absl::ToInt64Milliseconds(*hint.expected);
  return CheckRange(names.tool_hint_expected, static_cast<double>(milliseconds), 0,
                    static_cast<double>(kToolMsMax));
}

}  // namespace

absl::Status CheckModel(const std::string& name, const GenerationService::ModelInfo& info) {
  if (name.empty() || name == info.name ||
      std::find(info.aliases.begin(), info.aliases.end(), name) != info.aliases.end()) {
    return absl::OkStatus();
  }
  absl::Status status = absl::NotFoundError(
      absl::StrCat("The model `", name.substr(0, 128),
                   "` does not exist here; the served model is `", info.name, "`"));
  status.SetPayload(kErrorCodeUrl, absl::Cord("model_not_found"));
  status.SetPayload(kErrorParamUrl, absl::Cord("model"));
  return status;
}

absl::Status CheckTokens(const std::vector<TokenId>& tokens, const std::string& param,
                         const GenerationService::ModelInfo& info) {
  for (const TokenId token : tokens) {
    RETURN_IF_ERROR(CheckVocabulary(param, token, info.vocab_size));
  }
  return absl::OkStatus();
}

absl::Status CheckGenerationRequest(const GenerationRequest& request,
                                    const GenerationService::ModelInfo& info) {
  const FieldNames& names = *request.names;
  if (const auto* tokens = std::get_if<std::vector<TokenId>>(&request.prompt); tokens != nullptr) {
    if (tokens->empty()) return OutOfRange(names.prompt, "at least one token", "none");
    RETURN_IF_ERROR(CheckTokens(*tokens, names.prompt, info));
  }
  RETURN_IF_ERROR(CheckRange(names.n, request.num_choices, 1, kChoicesMax));
  if (request.prompt_top_logprobs.has_value()) {
    RETURN_IF_ERROR(
        CheckRange(names.prompt_logprobs, *request.prompt_top_logprobs, 0, kTopLogprobsMax));
  }
  RETURN_IF_ERROR(CheckSampling(request.sampling, names, info.vocab_size));
  RETURN_IF_ERROR(CheckStops(request, info.vocab_size));
  RETURN_IF_ERROR(CheckLengths(request));
  if (request.cache_salt.size() > kCacheSaltBytesMax) {
    return OutOfRange(names.cache_salt, absl::StrCat("at most ", kCacheSaltBytesMax, " bytes"),
                      absl::StrCat(request.cache_salt.size()));
  }
  RETURN_IF_ERROR(CheckToolHint(request));
  return CheckSession(request);
}

std::string PromptParam(const GenerationRequest& request) {
  return request.embedding.has_value() ? request.embedding->param : request.names->prompt;
}

absl::Status FitToContext(GenerationRequest& request, int64_t prompt_tokens, int64_t context) {
  const FieldNames& names = *request.names;
  const auto too_long = [](absl::string_view param, absl::string_view message) {
    return ParameterError(param, "context_length_exceeded", message);
  };
  if (prompt_tokens == 0) {
    return ParameterError(PromptParam(request), "invalid_value",
                          "the prompt has no tokens; give at least one character");
  }
  if (request.embedding.has_value()) {
    if (prompt_tokens <= context) return absl::OkStatus();
    const std::string& param = request.embedding->param;
    return too_long(param, absl::StrCat(param, " has ", prompt_tokens, " tokens; the model takes ",
                                        context, "; shorten it"));
  }
  const bool given = request.max_tokens.has_value();
  const int64_t room = context - prompt_tokens;
  if (room < (request.max_tokens == 0 ? 0 : 1)) {
    return too_long(names.prompt,
                    absl::StrCat("prompt has ", prompt_tokens, " tokens; the model takes ", context,
                                 " with the completion; shorten it"));
  }
  int64_t max_tokens = given ? *request.max_tokens : request.max_tokens_default.value_or(room);
  if (request.max_tokens_bend) max_tokens = std::min(max_tokens, room);
  if (max_tokens > room) {
    return too_long(
        given ? names.max_tokens : names.prompt,
        absl::StrCat("prompt has ", prompt_tokens, " tokens and ", names.max_tokens,
                     given ? " is " : " is by default ", max_tokens, ", together ",
                     prompt_tokens + max_tokens, "; the model takes ", context,
                     "; shorten the prompt or give ", names.max_tokens, " of at most ", room));
  }
  if (request.sampling.min_tokens > max_tokens) {
    return too_long(names.min_tokens,
                    absl::StrCat("prompt has ", prompt_tokens, " tokens and ", names.min_tokens,
                                 " is ", request.sampling.min_tokens, "; the model takes ", context,
                                 "; shorten the prompt or lower ", names.min_tokens, " to ", room));
  }
  request.max_tokens = static_cast<int32_t>(max_tokens);
  return absl::OkStatus();
}

}  // namespace holdfast
