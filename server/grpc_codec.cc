#include "server/grpc_codec.h"

#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/answer_format.h"
#include "server/chat_messages.h"
#include "server/embedding_codec.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/kv_retention.h"
#include "server/request_validator.h"
#include "server/tool_choice.h"

namespace holdfast {
namespace {

uint64_t DrawNumber() {
  thread_local absl::BitGen generator;
  return absl::Uniform<uint64_t>(generator);
}

SamplingParams ReadSampling(const v1::Sampling& from) {
  SamplingParams to;
  if (from.has_temperature()) to.temperature = from.temperature();
  if (from.has_top_p()) to.top_p = from.top_p();
  if (from.has_top_k()) to.top_k = from.top_k();
  if (from.has_min_p()) to.min_p = from.min_p();
  if (from.has_typical_p()) to.typical_p = from.typical_p();
  if (from.has_presence_penalty()) to.presence_penalty = from.presence_penalty();
  if (from.has_frequency_penalty()) to.frequency_penalty = from.frequency_penalty();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  for (const auto& [token, bias] : from.logit_bias()) to.logit_bias.emplace_back(token, bias);
  to.seed = from.has_seed() ? from.seed() : DrawNumber();
  return to;
}

RetentionWish ReadRetention(const v1::RequestOptions& from) {
  RetentionWish to{.session_id = from.session_id(),
                   .session_final = from.session_final(),
                   .prompt_cache_key = from.prompt_cache_key()};
  if (from.kv_hints().has_retain()) {
    const v1::KvRetain& retain = from.kv_hints().retain();
    to.retain = Request::Retain{
        .ttl = absl::Milliseconds(retain.has_ttl_ms() ? retain.ttl_ms() : kPinTtlMsDefault),
        .priority = retain.priority()};
  }
  switch (from.prompt_cache_retention()) {
    case v1::PROMPT_CACHE_RETENTION_IN_MEMORY:
      to.prompt_cache_retention = PromptCacheRetention::kInMemory;
      break;
    case v1::PROMPT_CACHE_RETENTION_24H:
      to.prompt_cache_retention = PromptCacheRetention::kDay;
      break;
    default:
      break;
  }
  return to;
}

// What all requests name alike.
template <typename From>
GenerationRequest ReadHead(const From& from, const FieldNames& names, const char* id_prefix) {
  GenerationRequest to;
  to.names = &names;
  to.model = from.model();
  to.wire_id = from.options().request_id();
  if (to.wire_id.empty()) {
    to.wire_id = absl::StrFormat("%s%016x%016x", id_prefix, DrawNumber(), DrawNumber());
  }
  to.cache_salt = from.options().cache_salt();
  to.priority = from.options().priority();
  to.offline = from.options().offline();
  return to;
}

// What the three that draw name alike; the prompt and the checks are the callers'.
template <typename From>
GenerationRequest ReadCommon(const From& from, const FieldNames& names, const char* id_prefix,
                             std::string_view session) {
  GenerationRequest to = ReadHead(from, names, id_prefix);
  if (from.options().has_tool_hint()) {
    const v1::ToolHint& hint = from.options().tool_hint();
    to.tool_hint = ToolHint{.name = hint.name()};
    if (hint.has_expected_ms()) to.tool_hint->expected = absl::Milliseconds(hint.expected_ms());
  }
  Settle(ReadRetention(from.options()), session, to);
  if (from.has_n()) to.num_choices = from.n();
  to.sampling = ReadSampling(from.sampling());
  if (from.has_top_logprobs()) to.sampling.top_logprobs = from.top_logprobs();
  const v1::Stopping& stopping = from.stopping();
  if (stopping.has_max_tokens()) to.max_tokens = stopping.max_tokens();
  to.sampling.min_tokens = stopping.min_tokens();
  to.stop.assign(stopping.stop().begin(), stopping.stop().end());
  to.stop_token_ids.assign(stopping.stop_token_ids().begin(), stopping.stop_token_ids().end());
  to.include_stop = stopping.include_stop();
  to.ignore_eos = stopping.ignore_eos();
  return to;
}

absl::Status CheckId(const GenerationRequest& request) {
  if (request.wire_id.size() <= kUserStringBytesMax) return absl::OkStatus();
  return ParameterError("options.request_id", "string_above_max_length",
                        absl::StrCat("options.request_id has ", request.wire_id.size(),
                                     " bytes; at most ", kUserStringBytesMax, " are taken"));
}

absl::Status Check(GenerationRequest& request, const v1::RequestOptions& options,
                   const GenerationService::ModelInfo& info) {
  RETURN_IF_ERROR(CheckModel(request.model, info));
  request.model = info.name;
  if (!v1::PromptCacheRetention_IsValid(options.prompt_cache_retention())) {
    return ParameterError("options.prompt_cache_retention", "invalid_value",
                          "options.prompt_cache_retention is of a later version of the proto");
  }
  if (options.prompt_cache_key().size() > kUserStringBytesMax) {
    return ParameterError(
        request.names->prompt_cache_key, "string_above_max_length",
        absl::StrCat(request.names->prompt_cache_key, " has ", options.prompt_cache_key().size(),
                     " bytes; at most ", kUserStringBytesMax, " are taken"));
  }
  RETURN_IF_ERROR(CheckId(request));
  return CheckGenerationRequest(request, info);
}

// What `tool_choice` and `tool_function` say in OpenAI's form.
Json ToolChoiceOf(const v1::ChatRequest& from) {
  if (!from.tool_function().empty()) {
    return {{"type", "function"}, {"function", {{"name", from.tool_function()}}}};
  }
  switch (from.tool_choice()) {
    case v1::TOOL_CHOICE_UNSPECIFIED:
      return "auto";
    case v1::TOOL_CHOICE_NONE:
      return "none";
    case v1::TOOL_CHOICE_REQUIRED:
      return "required";
    default:
      return "unknown";  // of a later version of the proto
  }
}

// The JSON text in a string field called `name`.
absl::StatusOr<Json> ReadJson(const std::string& text, const std::string& name) {
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) {
    return ParameterError(name, "invalid_value", absl::StrCat(name, ": ", json.status().message()));
  }
  if (!json->is_object()) {
    return ParameterError(name, "invalid_type",
                          absl::StrCat(name, " must hold an object; got ", JsonKindName(*json)));
  }
  return json;
}

// As HTTP's field of that name, whose reader takes and checks it.
void AddForm(const v1::StructuredOutputs& from, Json& body) {
  Json& to = body["structured_outputs"] = Json::object();
  if (from.has_json()) to["json"] = from.json();
  if (from.json_object()) to["json_object"] = true;
  if (from.has_regex()) to["regex"] = from.regex();
  for (const std::string& choice : from.choice()) to["choice"].push_back(choice);
  if (from.has_grammar()) to["grammar"] = from.grammar();
  if (from.has_structural_tag()) to["structural_tag"] = from.structural_tag();
}

// In OpenAI's form, which the reader of conversations takes and checks.
absl::StatusOr<Json> ToJson(const v1::ChatRequest& from) {
  Json body = Json::object();
  if (from.messages_size() > 0) body["messages"] = Json::array();
  for (const v1::Message& message : from.messages()) {
    Json to = {{"role", message.role()}};
    // An assistant that only calls tools has no content, which is not the same as an empty one.
    if (!message.content().empty() || message.tool_calls().empty()) {
      to["content"] = message.content();
    }
    if (!message.name().empty()) to["name"] = message.name();
    if (!message.tool_call_id().empty()) to["tool_call_id"] = message.tool_call_id();
    if (!message.reasoning_content().empty()) {
      to["reasoning_content"] = message.reasoning_content();
    }
    for (const v1::ToolCall& call : message.tool_calls()) {
      to["tool_calls"].push_back(
          {{"id", call.id()},
           {"type", "function"},
           {"function", {{"name", call.function_name()}, {"arguments", call.arguments_json()}}}});
    }
    body["messages"].push_back(std::move(to));
  }
  for (int i = 0; i < from.tools_size(); ++i) {
    const v1::Tool& tool = from.tools(i);
    Json function = {{"name", tool.name()}};
    if (!tool.description().empty()) function["description"] = tool.description();
    if (!tool.parameters_json().empty()) {
      ASSIGN_OR_RETURN(
          function["parameters"],
          ReadJson(tool.parameters_json(), absl::StrCat("tools[", i, "].parameters_json")));
    }
    if (tool.strict()) function["strict"] = true;
    body["tools"].push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  body["tool_choice"] = ToolChoiceOf(from);
  if (from.has_thinking_token_budget()) {
    body["thinking_token_budget"] = from.thinking_token_budget();
  }
  if (from.has_parallel_tool_calls()) body["parallel_tool_calls"] = from.parallel_tool_calls();
  if (!from.chat_template_kwargs_json().empty()) {
    ASSIGN_OR_RETURN(body["chat_template_kwargs"],
                     ReadJson(from.chat_template_kwargs_json(), "chat_template_kwargs_json"));
  }
  if (from.has_add_generation_prompt()) {
    body["add_generation_prompt"] = from.add_generation_prompt();
  }
  if (from.has_structured_outputs()) AddForm(from.structured_outputs(), body);
  return body;
}

void SetToken(TokenText from, v1::TokenLogprob& to) {
  to.set_token_id(from.token);
  to.set_bytes(std::move(from.bytes));
  to.set_logprob(from.logprob);
}

void SetToken(TokenTextWithTop from, v1::TokenLogprobs& to) {
  SetToken(std::move(from.chosen), *to.mutable_chosen());
  for (TokenText& other : from.top) SetToken(std::move(other), *to.add_top());
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kToolCalls:
      return v1::FINISH_REASON_TOOL_CALLS;
    case FinishReason::kLength:
      break;
  }
  return v1::FINISH_REASON_LENGTH;
}

template <typename Choice>
void AppendCommon(ChoiceDelta& delta, Choice& choice) {
  choice.set_index(delta.choice);
  if (delta.finish.has_value()) choice.set_finish_reason(ToProto(*delta.finish));
  for (TokenTextWithTop& token : delta.logprobs) {
    SetToken(std::move(token), *choice.add_logprobs());
  }
}

// Entry i belongs to token i + 1: the first token's missing entry is left out.
template <typename Logprobs>
void SetPromptLogprobs(PromptInfo& prompt, Logprobs& logprobs) {
  for (auto& token : prompt.logprobs) {
    if (token.has_value()) SetToken(*std::move(token), *logprobs.Add());
  }
}

template <typename Answer>
bool SetCompletePrompt(PromptInfo& prompt, bool echo, Answer& answer) {
  if (!echo) return false;
  v1::PromptEcho& to = *answer.mutable_prompt();
  to.set_text(std::move(prompt.text));
  to.mutable_token_ids()->Add(prompt.tokens.begin(), prompt.tokens.end());
  SetPromptLogprobs(prompt, *to.mutable_logprobs());
  return true;
}

template <typename Answer>
bool SetGeneratePrompt(PromptInfo& prompt, Answer& answer) {
  SetPromptLogprobs(prompt, *answer.mutable_prompt_logprobs());
  return answer.prompt_logprobs_size() > 0;
}

}  // namespace

absl::StatusOr<GenerationRequest> Decode(const v1::ChatRequest& from,
                                         const GenerationService::ModelInfo& info,
                                         std::string_view session) {
  RETURN_IF_ERROR(CheckSessionHeader(session));
  GenerationRequest request = ReadCommon(from, kProtoChatNames, "chatcmpl-", session);
  request.skip_special_tokens = !from.has_skip_special_tokens() || from.skip_special_tokens();
  RETURN_IF_ERROR(CheckModel(request.model, info));
  ASSIGN_OR_RETURN(const Json body, ToJson(from));
  JsonFields fields(body, "");
  ReadStructuredOutputs(fields, request);
  ChatInput input = ReadChatInput(fields, info.tool_calls);
  ReadToolChoice(fields, info.tool_calls, request);
  ReadReasoning(fields, request);
  if (absl::Status status = fields.Finish(); !status.ok()) return InProtoNames(status);
  request.prompt = std::move(input);
  RETURN_IF_ERROR(Check(request, from.options(), info));
  return request;
}

absl::StatusOr<GenerationRequest> Decode(const v1::CompleteRequest& from,
                                         const GenerationService::ModelInfo& info,
                                         std::string_view session) {
  RETURN_IF_ERROR(CheckSessionHeader(session));
  GenerationRequest request = ReadCommon(from, kProtoCompleteNames, "cmpl-", session);
  request.skip_special_tokens = !from.has_skip_special_tokens() || from.skip_special_tokens();
  request.prompt = from.prompt();
  request.echo = from.echo();
  Json form = Json::object();
  if (from.has_structured_outputs()) AddForm(from.structured_outputs(), form);
  JsonFields fields(form, "");
  ReadStructuredOutputs(fields, request);
  RETURN_IF_ERROR(fields.Finish());
  if (from.has_prompt_logprobs()) {
    if (!from.echo()) {
      return ParameterError("prompt_logprobs", "invalid_value",
                            "prompt_logprobs needs echo; set echo or leave prompt_logprobs out");
    }
    request.prompt_top_logprobs = from.prompt_logprobs();
  }
  RETURN_IF_ERROR(Check(request, from.options(), info));
  return request;
}

absl::StatusOr<GenerationRequest> Decode(const v1::GenerateRequest& from,
                                         const GenerationService::ModelInfo& info,
                                         std::string_view session) {
  RETURN_IF_ERROR(CheckSessionHeader(session));
  GenerationRequest request = ReadCommon(from, kProtoGenerateNames, "gen-", session);
  request.want_text = false;
  if (!request.stop.empty()) {
    return ParameterError(request.names->stop, "unsupported_parameter",
                          "stop strings need text; use stop_token_ids, or Complete");
  }
  request.prompt = std::vector<TokenId>(from.prompt_tokens().begin(), from.prompt_tokens().end());
  if (from.has_prompt_logprobs()) request.prompt_top_logprobs = from.prompt_logprobs();
  RETURN_IF_ERROR(Check(request, from.options(), info));
  return request;
}

absl::StatusOr<std::vector<GenerationRequest>> Decode(const v1::EmbedRequest& from,
                                                      const GenerationService::ModelInfo& info) {
  GenerationRequest shared = ReadHead(from, kProtoEmbedNames, "embd-");
  RETURN_IF_ERROR(CheckModel(shared.model, info));
  shared.model = info.name;
  RETURN_IF_ERROR(CheckId(shared));
  const v1::RequestOptions& options = from.options();
  if (!options.session_id().empty() || options.session_final() || options.has_kv_hints() ||
      options.prompt_cache_retention() != 0 || !options.prompt_cache_key().empty() ||
      options.has_tool_hint()) {
    return ParameterError("options", "unsupported_parameter",
                          "options has what is of turns, which embeddings are not; leave all out "
                          "but request_id, cache_salt, priority and offline");
  }
  shared.max_tokens = 0;
  shared.want_text = false;
  shared.embedding.emplace().pooling = info.pooling;
  if (from.has_dimensions()) shared.embedding->dimensions = from.dimensions();
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < from.inputs_size(); ++i) {
    const v1::EmbedInput& input = from.inputs(i);
    GenerationRequest& request = requests.emplace_back(shared);
    request.embedding->param = absl::StrCat("inputs[", i, "]");
    if (input.has_tokens()) {
      request.prompt =
          std::vector<TokenId>(input.tokens().ids().begin(), input.tokens().ids().end());
    } else {
      request.prompt = input.text();
    }
  }
  if (requests.empty()) {
    return ParameterError("inputs", "empty_array", "inputs must have at least one entry");
  }
  RETURN_IF_ERROR(CheckEmbeddings(requests, info));
  return requests;
}

void Append(ChoiceDelta delta, v1::ChatChoice& choice) {
  AppendCommon(delta, choice);
  choice.mutable_message()->set_role("assistant");
  choice.mutable_message()->mutable_content()->append(delta.text);
  choice.mutable_message()->mutable_reasoning_content()->append(delta.reasoning);
  for (ToolCallDelta& call : delta.tool_calls) {
    v1::ToolCall& to = call.name.empty() ? *choice.mutable_message()->mutable_tool_calls()->rbegin()
                                         : *choice.mutable_message()->add_tool_calls();
    if (!call.name.empty()) {
      to.set_id(std::move(call.id));
      to.set_function_name(std::move(call.name));
    }
    to.mutable_arguments_json()->append(call.arguments);
  }
  if (!delta.stop_string.empty()) choice.set_stop_string(std::move(delta.stop_string));
}

void Append(ChoiceDelta delta, v1::ChatChoiceDelta& choice) {
  AppendCommon(delta, choice);
  choice.mutable_content()->append(delta.text);
  choice.mutable_reasoning_content()->append(delta.reasoning);
  for (ToolCallDelta& call : delta.tool_calls) {
    v1::ToolCallDelta& to = *choice.add_tool_calls();
    to.set_index(call.index);
    to.set_id(std::move(call.id));
    to.set_function_name(std::move(call.name));
    to.set_arguments_json(std::move(call.arguments));
  }
  if (!delta.stop_string.empty()) choice.set_stop_string(std::move(delta.stop_string));
}

void Append(ChoiceDelta delta, v1::CompleteChoice& choice) {
  AppendCommon(delta, choice);
  choice.mutable_text()->append(delta.text);
  if (!delta.stop_string.empty()) choice.set_stop_string(std::move(delta.stop_string));
}

void Append(ChoiceDelta delta, v1::GenerateChoice& choice) {
  AppendCommon(delta, choice);
  choice.mutable_tokens()->Add(delta.tokens.begin(), delta.tokens.end());
}

bool SetPrompt(PromptInfo prompt, bool echo, v1::CompleteResponse& answer) {
  return SetCompletePrompt(prompt, echo, answer);
}
bool SetPrompt(PromptInfo prompt, bool echo, v1::CompleteChunk& answer) {
  return SetCompletePrompt(prompt, echo, answer);
}
bool SetPrompt(PromptInfo prompt, bool, v1::GenerateResponse& answer) {
  return SetGeneratePrompt(prompt, answer);
}
bool SetPrompt(PromptInfo prompt, bool, v1::GenerateChunk& answer) {
  return SetGeneratePrompt(prompt, answer);
}

void SetUsage(const GenerationDone& done, v1::Usage& usage) {
  usage.set_prompt_tokens(done.prompt_tokens);
  usage.set_completion_tokens(done.completion_tokens);
  usage.set_total_tokens(done.prompt_tokens + done.completion_tokens);
  usage.set_cached_tokens(done.cached_tokens);
  usage.set_reasoning_tokens(done.reasoning_tokens);
  if (done.kept_for) usage.set_pin_expires_in_ms(absl::ToInt64Milliseconds(*done.kept_for));
}

void SetModel(const GenerationService::ModelInfo& info, v1::Model& model) {
  model.set_name(info.name);
  for (const std::string& alias : info.aliases) model.add_aliases(alias);
  model.set_context_tokens(info.context_tokens);
  model.set_vocab_size(info.vocab_size);
  model.set_created_unix(info.created_unix);
  model.set_has_chat_template(info.has_chat_template);
}

}  // namespace holdfast
