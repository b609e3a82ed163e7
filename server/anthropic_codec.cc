#include "server/anthropic_codec.h"

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

enum class Purpose : uint8_t { kAnswer, kCount };

void OneOf(JsonFields& fields, absl::string_view name,
           std::initializer_list<absl::string_view> allowed) {
  const std::optional<std::string> value = fields.String(name, 64);
  if (!value.has_value() || std::find(allowed.begin(), allowed.end(), *value) != allowed.end()) {
    return;
  }
  std::string list;
  for (const absl::string_view one : allowed) {
    absl::StrAppend(&list, list.empty() ? "'" : " or '", one, "'");
  }
  fields.Fail(name, "invalid_value",
              absl::StrCat(fields.PathOf(name), " must be ", list, "; got '", *value, "'"));
}

void ReadModel(JsonFields& fields, const GenerationService::ModelInfo& info, MessagesCall& call) {
  call.model = fields.String("model").value_or(info.name);
  if (call.model.empty()) call.model = info.name;
  if (absl::Status served = CheckModel(call.model, info); !served.ok()) fields.Fail(served);
  call.request.model = call.model;
}

void ReadMaxTokens(JsonFields& fields, Purpose purpose, MessagesCall& call) {
  const std::optional<int32_t> max_tokens = fields.Integer32("max_tokens");
  if (!max_tokens.has_value()) {
    if (purpose == Purpose::kAnswer) fields.Missing("max_tokens");
    return;
  }
  if (*max_tokens < 1) {
    fields.Fail("max_tokens", "invalid_value",
                absl::StrCat("max_tokens must be 1 or more; got ", *max_tokens));
  }
  call.max_tokens = *max_tokens;
  call.request.max_tokens = max_tokens;
  call.request.max_tokens_bend = true;
}

void ReadStops(JsonFields& fields, GenerationRequest& request) {
  const Json* list = fields.Array("stop_sequences", kStopStringsMax);
  if (list == nullptr) return;
  for (const Json& item : *list) {
    const auto* text = item.get_ptr<const std::string*>();
    if (text == nullptr) {
      return fields.Fail(
          "stop_sequences", "invalid_type",
          absl::StrCat("stop_sequences must hold strings; got ", JsonKindName(item)));
    }
    request.stop.push_back(*text);
  }
}

void ReadSampling(JsonFields& fields, SamplingParams& sampling) {
  // What float cannot hold would be undefined; 1e30 is beyond every range as well.
  const auto number = [&fields](absl::string_view name, float& into) {
    if (const auto value = fields.Number(name)) {
      into = static_cast<float>(std::clamp(*value, -1e30, 1e30));
    }
  };
  number("temperature", sampling.temperature);
  number("top_p", sampling.top_p);
  if (sampling.top_p == 0.0f) sampling.top_p = 1e-6f;  // the likeliest token only
  if (const auto top_k = fields.Integer32("top_k")) sampling.top_k = *top_k;
}

void ReadThinking(JsonFields& fields, MessagesCall& call, Json& chat) {
  bool thinks = false;
  if (const Json* thinking = fields.Object("thinking"); thinking != nullptr) {
    JsonFields inner(*thinking, "thinking");
    if (inner.Find("type") == nullptr) inner.Missing("type");
    OneOf(inner, "type", {"disabled", "enabled", "adaptive", "between_tools"});
    thinks = inner.ok() && (*thinking)["type"] != "disabled";
    const std::optional<int32_t> budget = inner.Integer32("budget_tokens");
    OneOf(inner, "display", {"summarized", "omitted"});
    if (thinks && budget.has_value()) chat["thinking_token_budget"] = *budget;
    call.shows_thinking = thinks && inner.String("display") != "omitted";
    if (absl::Status status = inner.Finish(); !status.ok()) return fields.Fail(status);
  }
  chat["chat_template_kwargs"] = {{"enable_thinking", thinks}};
}

void ReadFormat(JsonFields& config, Json& chat) {
  const Json* format = config.Object("format");
  if (format == nullptr) return;
  JsonFields inner(*format, config.PathOf("format"));
  if (inner.Find("type") == nullptr) inner.Missing("type");
  OneOf(inner, "type", {"json_schema"});
  const Json* schema = inner.Object("schema");
  if (schema == nullptr) inner.Missing("schema");
  if (absl::Status status = inner.Finish(); !status.ok()) return config.Fail(status);
  chat["response_format"] = {{"type", "json_schema"},
                             {"json_schema", {{"name", "output"}, {"schema", *schema}}}};
}

void ReadOutputConfig(JsonFields& fields, Json& chat) {
  const Json* config = fields.Object("output_config");
  if (config == nullptr) return;
  JsonFields inner(*config, "output_config");
  OneOf(inner, "effort", {"low", "medium", "high", "xhigh", "max"});
  if (const auto effort = inner.String("effort")) {
    chat["reasoning_effort"] = *effort == "max" ? "xhigh" : *effort;
  }
  ReadFormat(inner, chat);
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

void ReadContextManagement(JsonFields& fields) {
  const Json* management = fields.Object("context_management");
  if (management == nullptr) return;
  JsonFields inner(*management, "context_management");
  const Json* edits = inner.Array("edits", 16);
  const size_t num_edits = edits == nullptr ? 0 : edits->size();
  for (size_t i = 0; i < num_edits; ++i) {
    const std::string path = absl::StrCat("context_management.edits[", i, "]");
    JsonFields edit((*edits)[i], path);
    const std::string type = edit.String("type", 64).value_or("");
    if (!edit.ok() || !absl::StartsWith(type, "clear_thinking_")) {
      inner.Fail(ParameterError(
          absl::StrCat(path, ".type"), "unsupported_parameter",
          absl::StrCat(path,
                       ".type must be 'clear_thinking_...'; nothing else is taken out of a "
                       "conversation here; got '",
                       type, "'")));
    }
  }
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

// For whom the KV is kept, where no header says so.
std::string ReadUser(JsonFields& fields) {
  const Json* metadata = fields.Object("metadata");
  if (metadata == nullptr) return "";
  JsonFields inner(*metadata, "metadata");
  std::string user = inner.String("user_id", kUserStringBytesMax).value_or("");
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
  return user;
}

void ReadHarmless(JsonFields& fields) {
  OneOf(fields, "service_tier", {"auto", "standard_only"});
  OneOf(fields, "speed", {"standard"});
  ReadContextManagement(fields);
  if (fields.Find("thread") != nullptr) {  // by this code the SDK's loops know to go on without
    fields.Fail("thread", "thread_unsupported_request",
                "thread is not supported here: nothing is kept; send the whole conversation");
  }
  for (const char* name : {"container", "mcp_servers", "inference_geo", "diagnostics"}) {
    fields.Unsupported(name, "leave it out");
  }
}

bool EndsWithTheModel(const Json& chat) {
  const auto messages = chat.find("messages");
  return messages != chat.end() && !messages->empty() && messages->back()["role"] == "assistant";
}

absl::Status NoPrefill(JsonFields& fields) {
  const size_t last = fields.Array("messages", kMessagesMax)->size() - 1;
  const std::string place = absl::StrCat("messages[", last, "].role");
  return ParameterError(place, "unsupported_parameter",
                        absl::StrCat(place,
                                     " is 'assistant'; an answer cannot continue words "
                                     "given for it here; end with a message of the user"));
}

absl::StatusOr<MessagesCall> Decode(std::string_view body, const GenerationService::ModelInfo& info,
                                    std::string_view session, Purpose purpose) {
  RETURN_IF_ERROR(CheckSessionHeader(session));
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  MessagesCall call;
  GenerationRequest& request = call.request;
  request.names = &kMessagesNames;
  Json chat = Json::object();  // what of the body has a form in OpenAI's
  ReadModel(fields, info, call);
  ReadMaxTokens(fields, purpose, call);
  call.stream = fields.Boolean("stream").value_or(false);
  ReadStops(fields, request);
  ReadSampling(fields, request.sampling);
  ReadThinking(fields, call, chat);
  ReadOutputConfig(fields, chat);
  ReadCacheControl(fields, call.cache_life);
  RetentionWish wish{.prompt_cache_key = ReadUser(fields)};
  ReadHarmless(fields);
  ReadConversation(fields, call.cache_life, chat);
  ReadTools(fields, call.cache_life, chat);
  RETURN_IF_ERROR(fields.Finish());
  if (purpose == Purpose::kAnswer && EndsWithTheModel(chat)) return NoPrefill(fields);

  JsonFields chat_fields(chat, "");
  ReadResponseFormat(chat_fields, request);
  ReadReasoning(chat_fields, request);
  request.prompt = ReadChatInput(chat_fields, info.tool_calls);
  ReadToolChoice(chat_fields, info.tool_calls, request);
  RETURN_IF_ERROR(chat_fields.Finish());
  if (!info.has_chat_template) {
    return ParameterError("messages", "no_chat_template",
                          "the served model has no chat template; use /v1/completions");
  }
  if (call.cache_life) wish.retain = Request::Retain{.ttl = *call.cache_life};
  Settle(std::move(wish), session, request);
  if (purpose == Purpose::kAnswer) RETURN_IF_ERROR(CheckGenerationRequest(request, info));
  return call;
}

}  // namespace

absl::StatusOr<MessagesCall> DecodeMessages(std::string_view body,
                                            const GenerationService::ModelInfo& info,
                                            std::string_view session) {
  return Decode(body, info, session, Purpose::kAnswer);
}

absl::StatusOr<ChatInput> DecodeCountTokens(std::string_view body,
                                            const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(MessagesCall call, Decode(body, info, {}, Purpose::kCount));
  return std::get<ChatInput>(std::move(call.request.prompt));
}

}  // namespace holdfast
