#include "server/anthropic_messages.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/http_status.h"

namespace holdfast {
namespace {

constexpr absl::string_view kBillingHeader = "x-anthropic-billing-header";

std::string ItemPath(absl::string_view array, size_t index) {
  return absl::StrCat(array, "[", index, "]");
}

absl::Status Unsupported(JsonFields& block, absl::string_view type, absl::string_view wanted) {
  block.Fail("type", "unsupported_content_block",
             absl::StrCat(block.PathOf("type"), " is '", type.substr(0, 64),
                          "', which is not supported here; send ", wanted));
  return block.Finish();
}

// Reads on where the reader has a fault already: it then has no values, and Finish tells.
std::string Required(JsonFields& fields, absl::string_view name, size_t bytes_max = SIZE_MAX) {
  std::optional<std::string> text = fields.String(name, bytes_max);
  if (!text.has_value()) fields.Missing(name);
  return std::move(text).value_or("");
}

std::string OurToolId(const std::string& id) {
  return std::string(absl::StripPrefix(id, kToolUseIdPrefix));
}

void Join(const std::string& more, std::string& text) {
  if (!text.empty() && !more.empty()) text += '\n';
  text += more;
}

std::string ReadTextBlock(JsonFields& block, CacheLife& life) {
  const Json* text = block.Find("text");  // which may be empty, and then is no missing one
  if (text == nullptr) {
    block.Missing("text");
  } else if (!text->is_string()) {
    block.String("text");
  }
  block.Array("citations", kContentPartsMax);  // of an earlier answer: nothing to be done about
  ReadCacheControl(block, life);
  return block.ok() ? *text->get_ptr<const std::string*>() : std::string();
}

absl::StatusOr<const Json::array_t*> ReadBlocks(const Json& content, const std::string& path) {
  const auto* blocks = content.get_ptr<const Json::array_t*>();
  if (blocks == nullptr) {
    return ParameterError(
        path, "invalid_type",
        absl::StrCat(path, " must be a string or an array of blocks; got ", JsonKindName(content)));
  }
  if (blocks->size() > kContentPartsMax) {
    return ParameterError(path, "array_above_max_length",
                          absl::StrCat(path, " has ", blocks->size(), " blocks; at most ",
                                       kContentPartsMax, " are taken"));
  }
  return blocks;
}

// A string, or blocks of type text.
absl::StatusOr<std::vector<std::string>> ReadTexts(const Json& content, const std::string& path,
                                                   CacheLife& life) {
  std::vector<std::string> texts;
  if (const auto* text = content.get_ptr<const std::string*>(); text != nullptr) {
    texts.push_back(*text);
    return texts;
  }
  ASSIGN_OR_RETURN(const Json::array_t* blocks, ReadBlocks(content, path));
  for (size_t i = 0; i < blocks->size(); ++i) {
    JsonFields block((*blocks)[i], ItemPath(path, i));
    const std::string type = Required(block, "type", 64);
    if (block.ok() && type != "text") return Unsupported(block, type, "blocks of type 'text'");
    texts.push_back(ReadTextBlock(block, life));
    RETURN_IF_ERROR(block.Finish());
  }
  return texts;
}

absl::StatusOr<std::string> ReadSystem(const Json& system, CacheLife& life) {
  ASSIGN_OR_RETURN(std::vector<std::string> texts, ReadTexts(system, "system", life));
  if (system.is_array() && !texts.empty() && absl::StartsWith(texts.front(), kBillingHeader)) {
    texts.erase(texts.begin());
  }
  return absl::StrJoin(texts, "\n");
}

// One message's blocks, sorted by where they go.
struct Turn {
  bool has_text = false;
  std::string text;
  std::string reasoning;
  Json calls = Json::array();
  Json results = Json::array();  // messages of role tool
};

void ReadToolUse(JsonFields& block, Turn& turn) {
  const std::string id = Required(block, "id", kUserStringBytesMax);
  const std::string name = Required(block, "name", kUserStringBytesMax);
  const Json* input = block.Object("input");
  if (input == nullptr) block.Missing("input");
  block.Object("caller");  // who of the model's own asked; here always the model
  block.Unsupported("toolset_name", "leave it out");
  if (!block.ok()) return;
  turn.calls.push_back({{"id", OurToolId(id)},
                        {"type", "function"},
                        {"function", {{"name", name}, {"arguments", DumpJson(*input)}}}});
}

absl::Status ReadToolResult(JsonFields& block, CacheLife& life, Turn& turn) {
  const std::string id = Required(block, "tool_use_id", kUserStringBytesMax);
  const bool is_error = block.Boolean("is_error").value_or(false);
  block.Unsupported("toolset_name", "leave it out");
  std::string text;
  if (const Json* content = block.Find("content"); content != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<std::string> texts,
                     ReadTexts(*content, block.PathOf("content"), life));
    text = absl::StrJoin(texts, "\n");
  }
  turn.results.push_back({{"role", "tool"},
                          {"tool_call_id", OurToolId(id)},
                          {"content", is_error ? absl::StrCat("Error: ", text) : text}});
  return absl::OkStatus();
}

absl::Status ReadBlock(JsonFields& block, const std::string& role, CacheLife& life, Turn& turn) {
  const std::string type = Required(block, "type", 64);
  if (!block.ok()) return block.Finish();
  const bool by_model = role == "assistant";
  if (type == "text") {
    Join(ReadTextBlock(block, life), turn.text);
    turn.has_text = true;
  } else if (type == "tool_use" && by_model) {
    ReadToolUse(block, turn);
  } else if (type == "tool_result" && role == "user") {
    RETURN_IF_ERROR(ReadToolResult(block, life, turn));
  } else if (type == "thinking" && by_model) {
    Join(Required(block, "thinking"), turn.reasoning);
    block.String("signature");
  } else if (type == "redacted_thinking" && by_model) {
    block.String("data");
  } else {
    return Unsupported(block, type,
                       by_model         ? "blocks of type 'text', 'tool_use' or 'thinking'"
                       : role == "user" ? "blocks of type 'text' or 'tool_result'"
                                        : "blocks of type 'text'");
  }
  ReadCacheControl(block, life);
  return block.Finish();
}

// Behind the others, or into the last where both are of one side.
void Append(Json message, Json& messages) {
  if (messages.empty() || messages.back()["role"] != message["role"] || message["role"] == "tool" ||
      message["role"] == "system") {
    messages.push_back(std::move(message));
    return;
  }
  Json& last = messages.back();
  for (const char* name : {"content", "reasoning_content"}) {
    if (!message.contains(name)) continue;
    std::string text = last.contains(name) ? last[name].get<std::string>() : std::string();
    Join(message[name].get<std::string>(), text);
    last[name] = std::move(text);
  }
  if (!message.contains("tool_calls")) return;
  for (Json& call : message["tool_calls"]) last["tool_calls"].push_back(std::move(call));
}

void AppendTurn(const std::string& role, Turn turn, Json& messages) {
  for (Json& result : turn.results) Append(std::move(result), messages);
  if (!turn.has_text && !turn.results.empty()) return;
  Json message = {{"role", role}};
  if (turn.has_text || turn.calls.empty()) message["content"] = std::move(turn.text);
  if (!turn.reasoning.empty()) message["reasoning_content"] = std::move(turn.reasoning);
  if (!turn.calls.empty()) message["tool_calls"] = std::move(turn.calls);
  Append(std::move(message), messages);
}

absl::Status ReadMessage(const Json& message, const std::string& path, CacheLife& life,
                         Json& messages) {
  JsonFields fields(message, path);
  const std::string role = Required(fields, "role", 64);
  if (fields.ok() && role != "user" && role != "assistant" && role != "system") {
    fields.Fail(
        "role", "invalid_value",
        absl::StrCat(fields.PathOf("role"), " must be 'user' or 'assistant'; got '", role, "'"));
  }
  const Json* content = fields.Find("content");
  if (content == nullptr) fields.Missing("content");
  RETURN_IF_ERROR(fields.Finish());
  Turn turn;
  if (const auto* text = content->get_ptr<const std::string*>(); text != nullptr) {
    turn.text = *text;
    turn.has_text = true;
  } else {
    ASSIGN_OR_RETURN(const Json::array_t* blocks, ReadBlocks(*content, fields.PathOf("content")));
    for (size_t i = 0; i < blocks->size(); ++i) {
      JsonFields block((*blocks)[i], ItemPath(fields.PathOf("content"), i));
      RETURN_IF_ERROR(ReadBlock(block, role, life, turn));
    }
  }
  AppendTurn(role, std::move(turn), messages);
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadMessages(JsonFields& fields, CacheLife& life) {
  Json messages = Json::array();
  if (const Json* system = fields.Find("system"); system != nullptr) {
    ASSIGN_OR_RETURN(const std::string text, ReadSystem(*system, life));
    if (!text.empty()) messages.push_back({{"role", "system"}, {"content", text}});
  }
  const Json* list = fields.Array("messages", kMessagesMax);
  if (list == nullptr) {
    fields.Missing("messages");
    return fields.Finish();
  }
  if (list->empty()) {
    return ParameterError("messages", "empty_array", "messages must hold at least one message");
  }
  const auto& items = *list->get_ptr<const Json::array_t*>();
  for (size_t i = 0; i < items.size(); ++i) {
    RETURN_IF_ERROR(ReadMessage(items[i], ItemPath("messages", i), life, messages));
  }
  return messages;
}

// What is taken without effect, or refused where it asks for one.
void ReadToolExtras(JsonFields& tool) {
  tool.Boolean("eager_input_streaming");  // input always comes as it is written
  if (tool.Boolean("defer_loading").value_or(false)) {
    tool.Fail("defer_loading", "unsupported_parameter",
              absl::StrCat(tool.PathOf("defer_loading"),
                           " is not supported here: every tool is shown; leave it out"));
  }
  tool.Unsupported("input_examples", "write them into the description");
  const Json* callers = tool.Array("allowed_callers", 8);
  if (callers == nullptr) return;
  const bool direct = std::all_of(callers->begin(), callers->end(),
                                  [](const Json& caller) { return caller == "direct"; });
  if (!direct) {
    tool.Fail("allowed_callers", "unsupported_parameter",
              absl::StrCat(tool.PathOf("allowed_callers"), " may hold 'direct' only"));
  }
}

absl::StatusOr<Json> ReadTool(const Json& item, const std::string& path, CacheLife& life) {
  JsonFields tool(item, path);
  if (const auto type = tool.String("type", 64); type.has_value() && *type != "custom") {
    tool.Fail("type", "unsupported_tool",
              absl::StrCat(tool.PathOf("type"), " is '", *type,
                           "', a tool that nothing here can run; give 'custom' tools only"));
  }
  Json function = {{"name", Required(tool, "name", kToolNameBytesMax)}};
  if (auto description = tool.String("description")) {
    function["description"] = *std::move(description);
  }
  if (const Json* schema = tool.Object("input_schema"); schema != nullptr) {
    function["parameters"] = *schema;
  } else {
    tool.Missing("input_schema");
  }
  if (const auto strict = tool.Boolean("strict")) function["strict"] = *strict;
  ReadToolExtras(tool);
  ReadCacheControl(tool, life);
  RETURN_IF_ERROR(tool.Finish());
  return Json{{"type", "function"}, {"function", std::move(function)}};
}

void ReadToolChoice(JsonFields& fields, Json& chat) {
  const Json* choice = fields.Object("tool_choice");
  if (choice == nullptr) return;
  JsonFields inner(*choice, "tool_choice");
  const std::string type = Required(inner, "type", 64);
  if (type == "auto" || type == "none") {
    chat["tool_choice"] = type;
  } else if (type == "any") {
    chat["tool_choice"] = "required";
  } else if (type == "tool") {
    const std::string name = Required(inner, "name", kToolNameBytesMax);
    chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", name}}}};
  } else if (inner.ok()) {
    inner.Fail(
        "type", "invalid_value",
        absl::StrCat("tool_choice.type must be 'auto', 'any', 'tool' or 'none'; got '", type, "'"));
  }
  if (inner.Boolean("disable_parallel_tool_use").value_or(false)) {
    chat["parallel_tool_calls"] = false;
  }
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

}  // namespace

void ReadCacheControl(JsonFields& fields, CacheLife& life) {
  const Json* control = fields.Object("cache_control");
  if (control == nullptr) return;
  JsonFields inner(*control, fields.PathOf("cache_control"));
  const std::string type = Required(inner, "type", 64);
  if (inner.ok() && type != "ephemeral") {
    inner.Fail("type", "invalid_value",
               absl::StrCat(inner.PathOf("type"), " must be 'ephemeral'; got '", type, "'"));
  }
  const std::string ttl = inner.String("ttl", 64).value_or("5m");
  if (inner.ok() && ttl != "5m" && ttl != "1h") {
    inner.Fail("ttl", "invalid_value",
               absl::StrCat(inner.PathOf("ttl"), " must be '5m' or '1h'; got '", ttl, "'"));
  }
  inner.String("scope", 64);  // who shares it: here always the tenant
  if (absl::Status status = inner.Finish(); !status.ok()) return fields.Fail(status);
  const absl::Duration asked = ttl == "1h" ? absl::Hours(1) : absl::Minutes(5);
  life = std::max(life.value_or(asked), asked);
}

void ReadConversation(JsonFields& fields, CacheLife& life, Json& chat) {
  absl::StatusOr<Json> messages = ReadMessages(fields, life);
  if (!messages.ok()) return fields.Fail(messages.status());
  chat["messages"] = *std::move(messages);
}

void ReadTools(JsonFields& fields, CacheLife& life, Json& chat) {
  if (const Json* tools = fields.Array("tools", kToolsMax); tools != nullptr) {
    chat["tools"] = Json::array();
    const auto& items = *tools->get_ptr<const Json::array_t*>();
    for (size_t i = 0; i < items.size(); ++i) {
      absl::StatusOr<Json> tool = ReadTool(items[i], ItemPath("tools", i), life);
      if (!tool.ok()) return fields.Fail(tool.status());
      chat["tools"].push_back(*std::move(tool));
    }
  }
  ReadToolChoice(fields, chat);
}

}  // namespace holdfast
