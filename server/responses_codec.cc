#include "server/responses_codec.h"

#include <array>
#include <optional>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/field_names.h"
#include "server/http_status.h"
#include "server/metadata.h"
#include "server/request_validator.h"
#include "server/responses_items.h"

namespace holdfast {
namespace {

// Of a chat's parameters those that mean the same here, under the same names.
constexpr const char* kSameInChat[] = {"temperature",
                                       "top_p",
                                       "parallel_tool_calls",
                                       "user",
                                       "safety_identifier",
                                       "service_tier",
                                       "prompt_cache_key",
                                       "prompt_cache_retention",
                                       "cache_salt",
                                       "priority",
                                       "offline",
                                       "tool_hint",
                                       "kv_hints",
                                       "session_id",
                                       "session_final",
                                       "seed",
                                       "top_k",
                                       "min_p",
                                       "typical_p",
                                       "repetition_penalty",
                                       "presence_penalty",
                                       "ignore_eos",
                                       "frequency_penalty",
                                       "min_tokens",
                                       "logit_bias",
                                       "stop_token_ids",
                                       "chat_template_kwargs",
                                       "structured_outputs",
                                       "stop",
                                       "skip_special_tokens",
                                       "thinking_token_budget"};

constexpr const char* kUnsupported[] = {"conversation", "prompt", "context_management",
                                        "moderation", "prompt_cache_options"};

// [{"type": "function", "name", ...}] with the functions one level deeper.
void ReadTools(JsonFields& fields, ResponsesCall& call) {
  const Json* tools = fields.Array("tools", kToolsMax);
  if (tools == nullptr) return;
  const auto& items = *tools->get_ptr<const Json::array_t*>();
  Json list = Json::array(), echo = Json::array();
  for (size_t i = 0; i < items.size() && fields.ok(); ++i) {
    JsonFields tool(items[i], absl::StrCat("tools[", i, "]"));
    const std::string type = tool.String("type", 64).value_or("");
    if (tool.ok() && type != "function") {
      tool.Fail("type", "unsupported_tool",
                absl::StrCat(tool.PathOf("type"),
                             " must be 'function', which the caller runs; got '", type, "'"));
    }
    Json function = Json::object();
    for (const char* name : {"name", "description", "parameters", "strict"}) {
      if (const Json* value = tool.Find(name)) function[name] = *value;
    }
    for (const char* harmless : {"defer_loading", "allowed_callers", "output_schema"}) {
      tool.Find(harmless);
    }
    if (absl::Status status = tool.Finish(); !status.ok()) return fields.Fail(status);
    Json shown = {{"type", "function"},
                  {"name", function.value("name", Json())},
                  {"description", function.value("description", Json())},
                  {"parameters", function.value("parameters", Json())},
                  {"strict", function.value("strict", Json())}};
    echo.push_back(std::move(shown));
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  call.echo["tools"] = std::move(echo);
  if (!list.empty()) call.chat["tools"] = std::move(list);
}

// {"type": "function", "name": ...} with the name one level deeper.
absl::StatusOr<Json> ReadNamedFunction(const Json& choice, const std::string& path) {
  JsonFields fields(choice, path);
  if (fields.String("type", 64).value_or("") != "function" && fields.ok()) {
    fields.Fail("type", "invalid_value", absl::StrCat(path, ".type must be 'function'"));
  }
  const auto name = fields.String("name", kToolNameBytesMax);
  if (!name.has_value()) fields.Missing("name");
  RETURN_IF_ERROR(fields.Finish());
  return Json{{"type", "function"}, {"function", {{"name", *name}}}};
}

absl::StatusOr<Json> ReadAllowedTools(const Json& choice) {
  JsonFields fields(choice, "tool_choice");
  fields.Find("type");
  Json allowed = {{"mode", fields.String("mode", 64).value_or("")}, {"tools", Json::array()}};
  if (const Json* tools = fields.Array("tools", kToolsMax)) {
    const auto& items = *tools->get_ptr<const Json::array_t*>();
    for (size_t i = 0; i < items.size(); ++i) {
      ASSIGN_OR_RETURN(Json tool,
                       ReadNamedFunction(items[i], absl::StrCat("tool_choice.tools[", i, "]")));
      allowed["tools"].push_back(std::move(tool));
    }
  }
  RETURN_IF_ERROR(fields.Finish());
  return Json{{"type", "allowed_tools"}, {"allowed_tools", std::move(allowed)}};
}

void ReadToolChoiceHere(JsonFields& fields, ResponsesCall& call) {
  const Json* choice = fields.Find("tool_choice");
  if (choice == nullptr) return;
  call.echo["tool_choice"] = *choice;
  if (!choice->is_object()) {
    call.chat["tool_choice"] = *choice;
    return;
  }
  const auto type = choice->find("type");
  const bool of_some = type != choice->end() && *type == "allowed_tools";
  absl::StatusOr<Json> read =
      of_some ? ReadAllowedTools(*choice) : ReadNamedFunction(*choice, "tool_choice");
  if (!read.ok()) return fields.Fail(read.status());
  call.chat["tool_choice"] = *std::move(read);
}

// The form of the answer.
void ReadText(JsonFields& fields, ResponsesCall& call) {
  call.echo["text"] = {{"format", {{"type", "text"}}}};
  const Json* text = fields.Object("text");
  if (text == nullptr) return;
  JsonFields inner(*text, "text");
  if (inner.String("verbosity", 64).value_or("medium") != "medium") {
    inner.Fail("verbosity", "unsupported_parameter",
               "text.verbosity other than 'medium' is not supported here; ask for it in words");
  }
  if (const Json* format = inner.Object("format")) {
    JsonFields form(*format, "text.format");
    const std::string type = form.String("type", 64).value_or("");
    Json described = Json::object();
    for (const char* name : {"name", "description", "schema", "strict"}) {
      if (const Json* value = form.Find(name)) described[name] = *value;
    }
    if (type == "json_schema" && !described.contains("schema")) form.Missing("schema");
    if (type != "json_schema" && !described.empty()) {
      form.Fail("type", "invalid_value", "text.format.type must be 'json_schema' beside a schema");
    }
    if (absl::Status status = form.Finish(); !status.ok()) return fields.Fail(status);
    Json& echo = call.echo["text"]["format"] = {{"type", type}};
    echo.update(described);
    call.chat["response_format"] = {{"type", type}};
    if (!described.empty()) call.chat["response_format"]["json_schema"] = std::move(described);
  }
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

void ReadEffort(JsonFields& fields, ResponsesCall& call) {
  const Json* reasoning = fields.Object("reasoning");
  if (reasoning == nullptr) return;
  JsonFields inner(*reasoning, "reasoning");
  const auto effort = inner.String("effort", 64);
  if (effort.has_value()) call.chat["reasoning_effort"] = *effort;
  for (const char* harmless : {"summary", "generate_summary"}) inner.String(harmless, 64);
  call.echo["reasoning"] = {{"effort", effort.has_value() ? Json(*effort) : Json()},
                            {"summary", nullptr}};
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

void ReadLogprobs(JsonFields& fields, ResponsesCall& call) {
  const Json* include = fields.Array("include", 16);
  const size_t count = include == nullptr ? 0 : include->size();
  for (size_t i = 0; i < count; ++i) {
    const Json& one = (*include)[i];
    if (one == "message.output_text.logprobs") call.chat["logprobs"] = true;
    if (one == "message.output_text.logprobs" || one == "reasoning.encrypted_content") continue;
    return fields.Fail(absl::StrCat("include[", i, "]"), "unsupported_parameter",
                       "include takes 'message.output_text.logprobs' and "
                       "'reasoning.encrypted_content' here; leave the others out");
  }
  if (const auto top = fields.Integer32("top_logprobs")) {
    if (*top != 0 && !call.chat.contains("logprobs")) {
      return fields.Fail("top_logprobs", "invalid_value",
                         "top_logprobs needs include to name 'message.output_text.logprobs'");
    }
    call.echo["top_logprobs"] = *top;
    if (*top != 0) call.chat["top_logprobs"] = *top;
  }
}

void ReadKeeping(JsonFields& fields, ResponsesCall& call) {
  call.store = fields.Boolean("store");
  call.background = fields.Boolean("background").value_or(false);
  call.stream = fields.Boolean("stream").value_or(false);
  call.previous = fields.String("previous_response_id", kUserStringBytesMax).value_or("");
  call.echo["background"] = call.background;
  call.echo["previous_response_id"] = call.previous.empty() ? Json() : Json(call.previous);
  if (const Json* options = fields.Object("stream_options")) {
    JsonFields inner(*options, "stream_options");
    if (inner.Boolean("include_obfuscation").value_or(false)) {
      inner.Fail("include_obfuscation", "unsupported_parameter",
                 "stream_options.include_obfuscation is not supported here; leave it out");
    }
    if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
  }
}

void ReadHarmless(JsonFields& fields, ResponsesCall& call) {
  fields.Integer32("max_tool_calls");
  if (fields.String("truncation", 64).value_or("disabled") != "disabled") {
    fields.Fail("truncation", "unsupported_parameter",
                "truncation other than 'disabled' is not supported here: what does not fit is "
                "refused, not cut");
  }
  call.echo["truncation"] = "disabled";
  call.echo["metadata"] = Json::object();
  if (const Json* metadata = fields.Object("metadata")) {
    if (absl::Status status = CheckMetadata(*metadata); !status.ok()) return fields.Fail(status);
    call.echo["metadata"] = *metadata;
  }
  for (const char* name : kUnsupported) fields.Unsupported(name, "leave it out");
}

// As a chat calls them, at the beginning of a parameter's name. Which item of the input a message
// was is not known any more.
std::string NamedHere(const std::string& param) {
  static constexpr auto kNames = std::to_array<std::pair<absl::string_view, absl::string_view>>(
      {{"max_completion_tokens", "max_output_tokens"},
       {"response_format.json_schema", "text.format"},
       {"response_format", "text.format"},
       {"reasoning_effort", "reasoning.effort"},
       {"tool_choice.allowed_tools", "tool_choice"}});
  if (absl::StartsWith(param, "messages")) return "input";
  for (const auto& [chat, here] : kNames) {
    if (absl::StartsWith(param, chat)) return absl::StrCat(here, param.substr(chat.size()));
  }
  const bool of_tools = absl::StartsWith(param, "tools[") || absl::StartsWith(param, "tool_choice");
  return of_tools ? absl::StrReplaceAll(param, {{".function", ""}}) : param;
}

// A refusal in a chat's names in this wire's.
absl::Status AsNamedHere(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrorParamUrl);
  if (!payload.has_value()) return status;
  const std::string param(*payload), here = NamedHere(param);
  if (here == param) return status;
  absl::Status named(status.code(), absl::StrReplaceAll(status.message(), {{param, here}}));
  status.ForEachPayload(
      [&named](absl::string_view url, const absl::Cord& other) { named.SetPayload(url, other); });
  named.SetPayload(kErrorParamUrl, absl::Cord(here));
  return named;
}

}  // namespace

absl::StatusOr<ResponsesCall> DecodeResponses(std::string_view body,
                                              const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  ResponsesCall call;
  call.model = fields.String("model").value_or(info.name);
  if (call.model.empty()) call.model = info.name;
  if (absl::Status served = CheckModel(call.model, info); !served.ok()) fields.Fail(served);
  call.chat["model"] = call.model;
  call.echo = {
      {"instructions", nullptr},     {"max_output_tokens", nullptr},
      {"parallel_tool_calls", true}, {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
      {"temperature", 1.0},          {"tool_choice", "auto"},
      {"tools", Json::array()},      {"top_p", 1.0}};
  if (auto instructions = fields.String("instructions")) {
    call.instructions = *std::move(instructions);
    call.echo["instructions"] = call.instructions;
  }
  if (const auto tokens = fields.Integer32("max_output_tokens")) {
    call.chat["max_completion_tokens"] = *tokens;
    call.echo["max_output_tokens"] = *tokens;
  }
  for (const char* name : kSameInChat) {
    const Json* value = fields.Find(name);
    if (value == nullptr) continue;
    call.chat[name] = *value;
    if (call.echo.contains(name)) call.echo[name] = *value;
  }
  ReadTools(fields, call);
  ReadToolChoiceHere(fields, call);
  ReadText(fields, call);
  ReadEffort(fields, call);
  ReadLogprobs(fields, call);
  ReadKeeping(fields, call);
  ReadHarmless(fields, call);
  if (const Json* input = fields.Find("input")) {
    absl::StatusOr<Json> items = ReadInputItems(*input);
    if (items.ok()) {
      call.input = *std::move(items);
    } else {
      fields.Fail(items.status());
    }
  } else {
    fields.Missing("input");
  }
  RETURN_IF_ERROR(fields.Finish());
  return call;
}

absl::StatusOr<GenerationCall> ChatCallOf(const ResponsesCall& call, const Json& earlier,
                                          const GenerationService::ModelInfo& info,
                                          std::string_view session) {
  Json messages = Json::array();
  if (!call.instructions.empty()) {
    messages.push_back({{"role", "system"}, {"content", call.instructions}});
  }
  AppendMessages(earlier, messages);
  AppendMessages(call.input, messages);
  Json chat = call.chat;
  chat["messages"] = std::move(messages);
  absl::StatusOr<GenerationCall> read = DecodeChatCompletion(DumpJson(chat), info, session);
  if (!read.ok()) return AsNamedHere(read.status());
  for (GenerationRequest& request : read->requests) {
    request.names = &kResponsesNames;
    if (request.grammar.has_value()) request.grammar->param = NamedHere(request.grammar->param);
  }
  return read;
}

}  // namespace holdfast
