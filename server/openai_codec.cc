#include "server/openai_codec.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/answer_format.h"
#include "server/chat_messages.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/kv_retention.h"
#include "server/request_validator.h"
#include "server/tool_choice.h"

namespace holdfast {
namespace {

constexpr int32_t kCompletionMaxTokensDefault = 16;  // OpenAI's, of the completions endpoint

// A list of token ids; `param` is its name in messages.
absl::StatusOr<std::vector<TokenId>> ReadTokens(const Json& array, absl::string_view param) {
  std::vector<TokenId> tokens;
  tokens.reserve(array.size());
  for (const Json& item : array) {
    const std::optional<int64_t> token = AsInteger(item);
    if (!token.has_value() || *token < 0 || *token > INT32_MAX) {
      return ParameterError(param, "invalid_type",
                            absl::StrCat(param, " must hold token ids only; got ",
                                         item.is_number() ? DumpJson(item) : JsonKindName(item)));
    }
    tokens.push_back(static_cast<TokenId>(*token));
  }
  return tokens;
}

void ReadStop(JsonFields& fields, GenerationRequest& request) {
  const Json* stop = fields.Find("stop");
  if (stop == nullptr) return;
  if (const auto* text = stop->get_ptr<const std::string*>(); text != nullptr) {
    request.stop.push_back(*text);
    return;
  }
  const Json* list = fields.Array("stop", kStopStringsMax);
  if (list == nullptr) return;
  for (const Json& item : *list) {
    const auto* text = item.get_ptr<const std::string*>();
    if (text == nullptr) {
      return fields.Fail("stop", "invalid_type",
                         absl::StrCat("stop must hold strings; got ", JsonKindName(item)));
    }
    request.stop.push_back(*text);
  }
}

// What float cannot hold would be undefined; what comes out is beyond every range instead.
float ToFloat(double value) {
  constexpr double kMost = 1e30;
  return static_cast<float>(std::clamp(value, -kMost, kMost));
}

void ReadFloat(JsonFields& fields, absl::string_view name, float& into) {
  if (const std::optional<double> value = fields.Number(name)) into = ToFloat(*value);
}

void ReadLogitBias(JsonFields& fields, SamplingParams& sampling) {
  const Json* biases = fields.Object("logit_bias");
  if (biases == nullptr) return;
  if (biases->size() > kLogitBiasMax) {
    return fields.Fail("logit_bias", "array_above_max_length",
                       absl::StrCat("logit_bias has ", biases->size(), " entries; at most ",
                                    kLogitBiasMax, " are taken"));
  }
  for (const auto& [name, value] : *biases->get_ptr<const Json::object_t*>()) {
    int32_t token = 0;
    if (!absl::SimpleAtoi(name, &token)) {
      return fields.Fail(
          "logit_bias", "invalid_value",
          absl::StrCat("logit_bias must have token ids as keys; got '", name.substr(0, 64), "'"));
    }
    if (!value.is_number()) {
      return fields.Fail(
          "logit_bias", "invalid_type",
          absl::StrCat("logit_bias must have numbers as values; got ", JsonKindName(value)));
    }
    sampling.logit_bias.emplace_back(token, ToFloat(value.get<double>()));
  }
}

void ReadSampling(JsonFields& fields, GenerationCall& call, GenerationRequest& request) {
  SamplingParams& sampling = request.sampling;
  ReadFloat(fields, "temperature", sampling.temperature);
  ReadFloat(fields, "top_p", sampling.top_p);
  // OpenAI takes 0 and means the likeliest token only, which is what the least mass selects.
  if (sampling.top_p == 0.0f) sampling.top_p = 1e-6f;
  ReadFloat(fields, "min_p", sampling.min_p);
  ReadFloat(fields, "typical_p", sampling.typical_p);
  ReadFloat(fields, "presence_penalty", sampling.presence_penalty);
  ReadFloat(fields, "frequency_penalty", sampling.frequency_penalty);
  ReadFloat(fields, "repetition_penalty", sampling.repetition_penalty);
  if (const auto top_k = fields.Integer32("top_k")) {
    sampling.top_k = *top_k == -1 ? 0 : *top_k;  // vLLM's -1 is off, too
  }
  sampling.min_tokens = fields.Integer32("min_tokens").value_or(0);
  if (const auto seed = fields.Integer("seed")) {
    sampling.seed = static_cast<uint64_t>(*seed);
    call.seed_given = true;
  }
  ReadLogitBias(fields, sampling);
}

void ReadStreaming(JsonFields& fields, AnswerShape& shape) {
  shape.stream = fields.Boolean("stream").value_or(false);
  const Json* options = fields.Object("stream_options");
  if (options == nullptr) return;
  if (!shape.stream) {
    return fields.Fail("stream_options", "invalid_value",
                       "stream_options needs stream to be true; set it or leave the options out");
  }
  JsonFields inner(*options, "stream_options");
  shape.include_usage = inner.Boolean("include_usage").value_or(false);
  shape.continuous_usage_stats = inner.Boolean("continuous_usage_stats").value_or(false);
  if (inner.Boolean("include_obfuscation").value_or(false)) {
    inner.Fail("include_obfuscation", "unsupported_parameter",
               "stream_options.include_obfuscation is not supported here; leave it out");
  }
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

// Dropped once their type is checked; see the list in the header.
void ReadHarmless(JsonFields& fields) {
  for (const char* name : {"user", "safety_identifier"}) {
    fields.String(name, kUserStringBytesMax);
  }
  fields.Object("metadata");
  if (fields.Boolean("store").value_or(false)) {
    fields.Fail("store", "unsupported_parameter",
                "store is not supported here: nothing is kept; leave it out");
  }
  const auto tier = fields.String("service_tier", 64);
  if (tier.has_value() && *tier != "auto" && *tier != "default") {
    fields.Fail("service_tier", "invalid_value",
                absl::StrCat("service_tier must be 'auto' or 'default'; got '", *tier, "'"));
  }
}

void ReadToolHint(JsonFields& fields, GenerationRequest& request) {
  const Json* hint = fields.Object("tool_hint");
  if (hint == nullptr) return;
  JsonFields inner(*hint, "tool_hint");
  const std::optional<std::string> name = inner.String("name", kToolNameBytesMax);
  if (!name.has_value()) inner.Missing("name");
  const std::optional<int64_t> expected_ms = inner.Integer("expected_ms");
  if (absl::Status status = inner.Finish(); !status.ok()) return fields.Fail(status);
  ToolHint& into = request.tool_hint.emplace(ToolHint{.name = *name});
  if (expected_ms.has_value()) into.expected = absl::Milliseconds(*expected_ms);
}

// What both endpoints take, into the call and the request that every prompt starts from.
void ReadShared(JsonFields& fields, const GenerationService::ModelInfo& info,
                std::string_view session, GenerationCall& call, GenerationRequest& request) {
  call.model = ReadModel(fields, info);
  request.model = call.model;
  ReadStreaming(fields, call.shape);
  request.num_choices = fields.Integer32("n").value_or(1);
  ReadStop(fields, request);
  if (const Json* tokens = fields.Array("stop_token_ids", kStopTokensMax); tokens != nullptr) {
    absl::StatusOr<std::vector<TokenId>> ids = ReadTokens(*tokens, "stop_token_ids");
    if (ids.ok()) {
      request.stop_token_ids = *std::move(ids);
    } else {
      fields.Fail(ids.status());
    }
  }
  request.include_stop = fields.Boolean("include_stop_str_in_output").value_or(false);
  request.ignore_eos = fields.Boolean("ignore_eos").value_or(false);
  request.skip_special_tokens = fields.Boolean("skip_special_tokens").value_or(true);
  request.cache_salt = fields.String("cache_salt", kCacheSaltBytesMax).value_or("");
  request.priority = fields.Integer32("priority").value_or(0);
  request.offline = fields.Boolean("offline").value_or(false);
  ReadToolHint(fields, request);
  ReadSampling(fields, call, request);
  ReadStructuredOutputs(fields, request);
  Settle(ReadRetention(fields), session, request);
  ReadHarmless(fields);
}

void RefuseUnsupportedChat(JsonFields& fields) {
  for (const char* name : {"functions", "function_call", "audio", "prediction",
                           "web_search_options", "verbosity", "moderation"}) {
    fields.Unsupported(name, "leave it out");
  }
  if (const Json* modalities = fields.Array("modalities", 8); modalities != nullptr) {
    for (const Json& modality : *modalities) {
      if (modality == "text") continue;
      return fields.Fail("modalities", "unsupported_parameter",
                         "modalities other than [\"text\"] are not supported here");
    }
  }
}

void ReadChatLogprobs(JsonFields& fields, GenerationCall& call, GenerationRequest& request) {
  call.shape.logprobs = fields.Boolean("logprobs").value_or(false);
  const auto top = fields.Integer32("top_logprobs");
  if (top.has_value() && *top != 0 && !call.shape.logprobs) {
    fields.Fail("top_logprobs", "invalid_value",
                "top_logprobs needs logprobs to be true; set it or leave top_logprobs out");
  }
  if (call.shape.logprobs) request.sampling.top_logprobs = top.value_or(0);
}

void ReadChatMaxTokens(JsonFields& fields, GenerationRequest& request) {
  const auto max_tokens = fields.Integer32("max_tokens");
  const auto max_completion = fields.Integer32("max_completion_tokens");
  if (max_tokens.has_value() && max_completion.has_value() && *max_tokens != *max_completion) {
    return fields.Fail("max_tokens", "invalid_value",
                       "max_tokens and max_completion_tokens differ; give one of them");
  }
  request.max_tokens = max_completion.has_value() ? max_completion : max_tokens;
  request.names = max_completion.has_value() ? &kChatNamesOfToday : &kChatNames;
  if (request.max_tokens.has_value() && *request.max_tokens < 1) {
    fields.Fail(
        request.names->max_tokens, "invalid_value",
        absl::StrCat(request.names->max_tokens, " must be 1 or more; got ", *request.max_tokens));
  }
}

void ReadCompletionLogprobs(JsonFields& fields, GenerationCall& call, GenerationRequest& request) {
  const auto logprobs = fields.Integer32("logprobs");
  if (!logprobs.has_value()) return;
  if (*logprobs < 0 || *logprobs > kTopLogprobsMax) {
    return fields.Fail(
        "logprobs", "invalid_value",
        absl::StrCat("logprobs must be between 0 and ", kTopLogprobsMax, "; got ", *logprobs));
  }
  call.shape.logprobs = true;
  request.sampling.top_logprobs = *logprobs;
  if (!call.shape.echo) return;
  request.prompt_top_logprobs = *logprobs;
  if (request.num_choices > 1) {
    fields.Fail("n", "invalid_value",
                absl::StrCat("n must be 1 with echo and logprobs, since every choice would repeat "
                             "the prompt's log probabilities; got ",
                             request.num_choices));
  }
}

absl::Status NoChatTemplate() {
  return ParameterError("messages", "no_chat_template",
                        "the served model has no chat template; use /v1/completions");
}

}  // namespace

std::string ReadModel(JsonFields& fields, const GenerationService::ModelInfo& info) {
  const auto model = fields.String("model");
  if (!model.has_value()) return info.name;
  if (absl::Status served = CheckModel(*model, info); !served.ok()) fields.Fail(served);
  return model->empty() ? info.name : *model;
}

absl::StatusOr<std::vector<Prompt>> ReadPrompts(const Json& value, absl::string_view param,
                                                size_t most) {
  std::vector<Prompt> prompts;
  if (const auto* text = value.get_ptr<const std::string*>(); text != nullptr) {
    prompts.emplace_back(*text);
    return prompts;
  }
  const auto* items = value.get_ptr<const Json::array_t*>();
  if (items == nullptr) {
    return ParameterError(
        param, "invalid_type",
        absl::StrCat(param, " must be a string, a list of strings, a list of token ids or a list ",
                     "of such lists; got ", JsonKindName(value)));
  }
  if (items->empty()) {
    return ParameterError(param, "empty_array",
                          absl::StrCat(param, " must have at least one entry"));
  }
  if (items->front().is_number()) {
    ASSIGN_OR_RETURN(std::vector<TokenId> tokens, ReadTokens(value, param));
    prompts.emplace_back(std::move(tokens));
    return prompts;
  }
  if (items->size() > most) {
    return ParameterError(param, "array_above_max_length",
                          absl::StrCat(param, " has ", items->size(), " entries; at most ", most,
                                       " are taken; send several requests"));
  }
  for (const Json& item : *items) {
    if (const auto* text = item.get_ptr<const std::string*>(); text != nullptr) {
      prompts.emplace_back(*text);
    } else if (item.is_array()) {
      ASSIGN_OR_RETURN(std::vector<TokenId> tokens, ReadTokens(item, param));
      prompts.emplace_back(std::move(tokens));
    } else {
      return ParameterError(param, "invalid_type",
                            absl::StrCat(param, " must hold strings or lists of token ids; got ",
                                         JsonKindName(item)));
    }
    if (prompts.back().index() != prompts.front().index()) {
      return ParameterError(
          param, "invalid_type",
          absl::StrCat(param, " must hold either strings or lists of token ids, not both"));
    }
  }
  return prompts;
}

absl::StatusOr<GenerationCall> DecodeChatCompletion(std::string_view body,
                                                    const GenerationService::ModelInfo& info,
                                                    std::string_view session) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  GenerationCall call;
  call.shape.chat = true;
  GenerationRequest request;
  ReadShared(fields, info, session, call, request);
  ReadChatMaxTokens(fields, request);
  ReadChatLogprobs(fields, call, request);
  RefuseUnsupportedChat(fields);
  ReadResponseFormat(fields, request);
  ReadReasoning(fields, request);
  ChatInput input = ReadChatInput(fields, info.tool_calls);
  ReadToolChoice(fields, info.tool_calls, request);
  RETURN_IF_ERROR(fields.Finish());
  if (!info.has_chat_template) return NoChatTemplate();
  request.prompt = std::move(input);
  RETURN_IF_ERROR(CheckGenerationRequest(request, info));
  call.shape.num_choices = request.num_choices;
  call.shape.tool_calls = request.tool_calls.has_value();
  call.requests.push_back(std::move(request));
  return call;
}

absl::StatusOr<GenerationCall> DecodeCompletion(std::string_view body,
                                                const GenerationService::ModelInfo& info,
                                                std::string_view session) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  GenerationCall call;
  call.shape.chat = false;
  GenerationRequest request;
  ReadShared(fields, info, session, call, request);
  request.echo = call.shape.echo = fields.Boolean("echo").value_or(false);
  request.max_tokens = fields.Integer32("max_tokens");
  request.max_tokens_default = kCompletionMaxTokensDefault;
  ReadCompletionLogprobs(fields, call, request);
  if (const auto suffix = fields.String("suffix"); suffix.has_value() && !suffix->empty()) {
    fields.Fail("suffix", "unsupported_parameter", "suffix is not supported here; leave it out");
  }
  if (const auto best_of = fields.Integer32("best_of");
      best_of.has_value() && *best_of != request.num_choices) {
    fields.Fail("best_of", "unsupported_parameter",
                absl::StrCat("best_of must equal n, ", request.num_choices, "; got ", *best_of));
  }
  std::vector<Prompt> prompts;
  if (const Json* prompt = fields.Find("prompt"); prompt != nullptr) {
    absl::StatusOr<std::vector<Prompt>> read = ReadPrompts(*prompt, "prompt", kPromptsMax);
    if (!read.ok()) return read.status();
    prompts = *std::move(read);
  } else {
    fields.Missing("prompt");
  }
  if (request.prompt_top_logprobs.has_value() && prompts.size() > kEchoLogprobPromptsMax) {
    fields.Fail(
        "prompt", "array_above_max_length",
        absl::StrCat("prompt holds ", prompts.size(), " prompts; with echo and logprobs at most ",
                     kEchoLogprobPromptsMax, " are taken; send several requests"));
  }
  RETURN_IF_ERROR(fields.Finish());
  for (Prompt& prompt : prompts) {
    GenerationRequest& one = call.requests.emplace_back(request);
    one.prompt = std::move(prompt);
    RETURN_IF_ERROR(CheckGenerationRequest(one, info));
  }
  call.shape.num_prompts = static_cast<int32_t>(call.requests.size());
  call.shape.num_choices = request.num_choices;
  return call;
}

absl::StatusOr<TokenizeCall> DecodeTokenize(std::string_view body,
                                            const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  TokenizeCall call;
  ReadModel(fields, info);
  const bool chat = fields.Find("messages") != nullptr;
  // As in vLLM: a template brings its own special tokens, a bare prompt gets the model's.
  call.add_special_tokens = fields.Boolean("add_special_tokens").value_or(!chat);
  call.return_token_strs = fields.Boolean("return_token_strs").value_or(false);
  if (chat) {
    if (fields.Find("prompt") != nullptr) {
      fields.Fail("prompt", "invalid_value", "give either prompt or messages, not both");
    }
    if (!info.has_chat_template) fields.Fail(NoChatTemplate());
    call.text = ReadChatInput(fields, info.tool_calls);
  } else {
    auto prompt = fields.String("prompt");
    if (!prompt.has_value()) fields.Missing("prompt");
    call.text = std::move(prompt).value_or("");
  }
  RETURN_IF_ERROR(fields.Finish());
  return call;
}

absl::StatusOr<std::vector<TokenId>> DecodeDetokenize(std::string_view body,
                                                      const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  ReadModel(fields, info);
  const Json* array = fields.Array("tokens", kRequestBodyBytesMax);
  std::vector<TokenId> tokens;
  if (array == nullptr) {
    fields.Missing("tokens");
  } else {
    absl::StatusOr<std::vector<TokenId>> read = ReadTokens(*array, "tokens");
    if (!read.ok()) return read.status();
    tokens = *std::move(read);
  }
  RETURN_IF_ERROR(fields.Finish());
  RETURN_IF_ERROR(CheckTokens(tokens, "tokens", info));
  return tokens;
}

}  // namespace holdfast
