#include "server/chat_messages.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/tool_prompt.h"

namespace holdfast {
namespace {

std::string ItemPath(absl::string_view array, size_t index) {
  return absl::StrCat(array, "[", index, "]");
}

// A string, or parts of type text joined with newlines.
absl::StatusOr<std::string> ReadContent(const Json& content, const std::string& path) {
  if (const auto* text = content.get_ptr<const std::string*>(); text != nullptr) return *text;
  if (!content.is_array()) {
    return ParameterError(
        path, "invalid_type",
        absl::StrCat(path, " must be a string or an array of parts; got ", JsonKindName(content)));
  }
  if (content.size() > kContentPartsMax) {
    return ParameterError(path, "array_above_max_length",
                          absl::StrCat(path, " has ", content.size(), " parts; at most ",
                                       kContentPartsMax, " are taken"));
  }
  std::string joined;
  const auto& parts = *content.get_ptr<const Json::array_t*>();
  for (size_t i = 0; i < parts.size(); ++i) {
    JsonFields part(parts[i], ItemPath(path, i));
    const auto type = part.String("type", 64);
    if (part.ok() && !type.has_value()) part.Missing("type");
    if (type.has_value() && *type != "text") {
      part.Fail("type", "unsupported_content_part",
                absl::StrCat("content parts of type '", *type,
                             "' are not supported by this model; send parts of type 'text'"));
    }
    const Json* text = part.Find("text");
    if (text == nullptr) {
      part.Missing("text");
    } else if (!text->is_string()) {
      part.Fail("text", "invalid_type",
                absl::StrCat(part.PathOf("text"), " must be a string; got ", JsonKindName(*text)));
    }
    RETURN_IF_ERROR(part.Finish());
    if (i > 0) joined += '\n';
    joined += *text->get_ptr<const std::string*>();
  }
  return joined;
}

// Templates show arguments as an object; clients send it as text. What is no object stays text.
Json ReadArguments(const std::string& text) {
  if (text.empty()) return Json::object();
  absl::StatusOr<Json> parsed = ParseJson(text);
  return parsed.ok() && parsed->is_object() ? *std::move(parsed) : Json(text);
}

absl::StatusOr<Json> ReadToolCall(const Json& call, const std::string& path) {
  JsonFields fields(call, path);
  Json read = Json::object();
  if (const auto id = fields.String("id", kUserStringBytesMax)) {
    read["id"] = *id;
  } else {
    fields.Missing("id");
  }
  if (const auto type = fields.String("type", 64); type.has_value() && *type != "function") {
    fields.Fail("type", "invalid_value", absl::StrCat(path, ".type must be 'function'"));
  }
  read["type"] = "function";
  const Json* function = fields.Object("function");
  if (function == nullptr) {
    fields.Missing("function");
  } else {
    JsonFields inner(*function, absl::StrCat(path, ".function"));
    const auto name = inner.String("name", kUserStringBytesMax);
    if (!name.has_value()) inner.Missing("name");
    const auto arguments = inner.String("arguments");
    if (!arguments.has_value()) inner.Missing("arguments");
    RETURN_IF_ERROR(inner.Finish());
    Json out = Json::object();
    out["name"] = *name;
    out["arguments"] = ReadArguments(*arguments);
    read["function"] = std::move(out);
  }
  RETURN_IF_ERROR(fields.Finish());
  return read;
}

absl::Status ReadAssistantFields(JsonFields& fields, Json& read) {
  // What an SDK's own answer object carries when it is sent back as history.
  fields.Unsupported("refusal", "leave it out of the history");
  fields.Unsupported("audio", "leave it out of the history");
  fields.Unsupported("function_call", "use tool_calls");
  fields.Array("annotations", 0);
  if (auto reasoning = fields.String("reasoning_content")) {
    read["reasoning_content"] = *std::move(reasoning);
  }
  if (const Json* calls = fields.Array("tool_calls", kToolsMax);
      calls != nullptr && !calls->empty()) {
    Json list = Json::array();
    const auto& items = *calls->get_ptr<const Json::array_t*>();
    for (size_t i = 0; i < items.size(); ++i) {
      ASSIGN_OR_RETURN(Json call, ReadToolCall(items[i], ItemPath(fields.PathOf("tool_calls"), i)));
      list.push_back(std::move(call));
    }
    read["tool_calls"] = std::move(list);
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadMessage(const Json& message, const std::string& path) {
  constexpr std::array kRoles = {"system", "developer", "user", "assistant", "tool"};
  JsonFields fields(message, path);
  const auto role = fields.String("role", 64);
  if (!role.has_value()) fields.Missing("role");
  if (!fields.ok()) return fields.Finish();
  if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    return ParameterError(fields.PathOf("role"), "invalid_value",
                          absl::StrCat(fields.PathOf("role"),
                                       " must be one of system, developer, user, assistant, tool; "
                                       "got '",
                                       *role, "'"));
  }
  Json read = Json::object();
  read["role"] = *role == "developer" ? "system" : *role;
  const Json* content = fields.Find("content");
  if (content != nullptr) {
    ASSIGN_OR_RETURN(std::string text, ReadContent(*content, fields.PathOf("content")));
    read["content"] = std::move(text);
  } else {
    read["content"] = "";
  }
  if (auto name = fields.String("name", kUserStringBytesMax)) read["name"] = *std::move(name);
  if (*role == "assistant") RETURN_IF_ERROR(ReadAssistantFields(fields, read));
  if (*role == "tool") {
    if (auto id = fields.String("tool_call_id", kUserStringBytesMax)) {
      read["tool_call_id"] = *std::move(id);
    } else {
      fields.Missing("tool_call_id");
    }
  }
  if (content == nullptr && !read.contains("tool_calls")) fields.Missing("content");
  RETURN_IF_ERROR(fields.Finish());
  return read;
}

absl::StatusOr<Json> ReadMessages(JsonFields& fields) {
  Json read = Json::array();
  const Json* messages = fields.Array("messages", kMessagesMax);
  if (messages == nullptr) {
    fields.Missing("messages");
    return read;
  }
  if (messages->empty()) {
    return ParameterError("messages", "empty_array", "messages must hold at least one message");
  }
  const auto& items = *messages->get_ptr<const Json::array_t*>();
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(Json message, ReadMessage(items[i], ItemPath("messages", i)));
    read.push_back(std::move(message));
  }
  return read;
}

// Names that templates get from us: text/src/template.rs holds the same list and refuses them too,
// but cannot say which parameter it was.
constexpr std::array<absl::string_view, 6> kTemplateNames = {
    "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"};

// With `reasoning_effort` as templates know it: under its name, and as Qwen's `enable_thinking`.
void ReadTemplateKwargs(JsonFields& fields, std::string& template_kwargs_json) {
  constexpr std::array kEfforts = {"none", "minimal", "low", "medium", "high", "xhigh"};
  const Json* given = fields.Object("chat_template_kwargs");
  Json kwargs = given == nullptr ? Json::object() : *given;
  for (const auto& [name, value] : *kwargs.get_ptr<const Json::object_t*>()) {
    if (std::find(kTemplateNames.begin(), kTemplateNames.end(), name) == kTemplateNames.end()) {
      continue;
    }
    const std::string path = absl::StrCat("chat_template_kwargs.", name);
    return fields.Fail(path, "invalid_value",
                       absl::StrCat(path,
                                    " cannot be set: the template gets it from the request "
                                    "or the model; leave it out"));
  }
  if (const auto effort = fields.String("reasoning_effort", 64)) {
    if (std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
      return fields.Fail("reasoning_effort", "invalid_value",
                         absl::StrCat("reasoning_effort must be one of ",
                                      absl::StrJoin(kEfforts, ", "), "; got '", *effort, "'"));
    }
    kwargs.emplace("reasoning_effort", *effort);
    kwargs.emplace("enable_thinking", *effort != "none");
  }
  if (!kwargs.empty()) template_kwargs_json = DumpJson(kwargs);
}

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         absl::StrContains("_-.:/", absl::string_view(&c, 1));
}

// A function's parameters are a JSON Schema and go to the template as they are.
absl::StatusOr<Json> ReadTools(JsonFields& fields) {
  const Json* tools = fields.Array("tools", kToolsMax);
  if (tools == nullptr) return Json::array();
  absl::flat_hash_set<std::string> names;
  const auto& items = *tools->get_ptr<const Json::array_t*>();
  for (size_t i = 0; i < items.size(); ++i) {
    JsonFields tool(items[i], ItemPath("tools", i));
    const auto type = tool.String("type", 64);
    if (tool.ok() && type.value_or("") != "function") {
      tool.Fail("type", "invalid_value", absl::StrCat(tool.PathOf("type"), " must be 'function'"));
    }
    const Json* function = tool.Object("function");
    if (function == nullptr) {
      tool.Missing("function");
    } else {
      JsonFields inner(*function, tool.PathOf("function"));
      const std::optional<std::string> name = inner.String("name", kToolNameBytesMax);
      if (!name.has_value() || name->empty()) {
        inner.Missing("name");
      } else if (!std::all_of(name->begin(), name->end(), IsNameByte)) {
        inner.Fail("name", "invalid_value",
                   absl::StrCat(inner.PathOf("name"),
                                " must be of letters, digits and the characters _-.:/"));
      } else if (!names.insert(*name).second) {
        inner.Fail("name", "invalid_value",
                   absl::StrCat(inner.PathOf("name"), " is '", *name,
                                "', as an earlier tool's; give each another one"));
      }
      inner.String("description");
      inner.Object("parameters");
      inner.Boolean("strict");
      RETURN_IF_ERROR(inner.Finish());
    }
    RETURN_IF_ERROR(tool.Finish());
  }
  return *tools;
}

bool HasCalls(const Json& messages) {
  return std::any_of(messages.begin(), messages.end(), [](const Json& message) {
    return message.contains("tool_calls") || message["role"] == "tool";
  });
}

}  // namespace

ChatInput ReadChatInput(JsonFields& fields, ToolCallFormat format) {
  ChatInput input;
  absl::StatusOr<Json> messages = ReadMessages(fields);
  if (!messages.ok()) fields.Fail(messages.status());
  absl::StatusOr<Json> tools = ReadTools(fields);
  if (!tools.ok()) fields.Fail(tools.status());
  ReadTemplateKwargs(fields, input.template_kwargs_json);
  input.add_generation_prompt = fields.Boolean("add_generation_prompt").value_or(true);
  if (!fields.ok()) return input;
  if (format != ToolCallFormat::kUnknown) {
    if (!tools->empty()) input.tools_json = DumpJson(*tools);
  } else if (!tools->empty() || HasCalls(*messages)) {
    // Who is told of tools and may not call them calls them in words.
    const Json* choice = fields.Find("tool_choice");
    const bool none = choice != nullptr && *choice == "none";
    WriteToolsIntoMessages(none ? Json::array() : *tools, *messages);
  }
  input.messages_json = DumpJson(*messages);
  return input;
}

void ReadReasoning(JsonFields& fields, GenerationRequest& request) {
  request.parts_reasoning = true;
  request.reasoning_tokens_max = fields.Integer32("thinking_token_budget");
  if (request.reasoning_tokens_max.has_value() && *request.reasoning_tokens_max < 0) {
    fields.Fail("thinking_token_budget", "invalid_value",
                absl::StrCat("thinking_token_budget must be 0 or more; got ",
                             *request.reasoning_tokens_max));
  }
}

}  // namespace holdfast
