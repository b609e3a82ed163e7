#include "server/responses_items.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/state_id.h"

namespace holdfast {
namespace {

constexpr std::array kRoles = {"user", "assistant", "system", "developer"};

// A text, or parts with one each, whatever kind of text they are called; as parts of `part_type`.
absl::StatusOr<Json> ReadParts(const Json& content, const std::string& path,
                               const char* part_type) {
  Json parts = Json::array();
  if (content.is_string()) {
    parts.push_back({{"type", part_type}, {"text", content}});
    return parts;
  }
  const auto* items = content.get_ptr<const Json::array_t*>();
  if (items == nullptr) {
    return ParameterError(
        path, "invalid_type",
        absl::StrCat(path, " must be a string or an array of parts; got ", JsonKindName(content)));
  }
  if (items->size() > kContentPartsMax) {
    return ParameterError(path, "array_above_max_length",
                          absl::StrCat(path, " has ", items->size(), " parts; at most ",
                                       kContentPartsMax, " are taken"));
  }
  for (size_t i = 0; i < items->size(); ++i) {
    JsonFields part((*items)[i], absl::StrCat(path, "[", i, "]"));
    const auto type = part.String("type", 64);
    if (!type.has_value()) {
      part.Missing("type");
    } else if (*type != "input_text" && *type != "output_text" && *type != "text" &&
               *type != "reasoning_text") {
      part.Fail("type", "unsupported_content_part",
                absl::StrCat("content parts of type '", type->substr(0, 64),
                             "' are not supported by this model; send texts"));
    }
    const auto text = part.String("text");
    if (!text.has_value()) part.Missing("text");
    for (const char* harmless : {"annotations", "logprobs", "prompt_cache_breakpoint"}) {
      part.Find(harmless);
    }
    RETURN_IF_ERROR(part.Finish());
    parts.push_back({{"type", part_type}, {"text", *text}});
  }
  return parts;
}

absl::StatusOr<Json> ReadMessage(JsonFields& fields) {
  const auto role = fields.String("role", 64);
  if (!role.has_value()) {
    fields.Missing("role");
  } else if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    fields.Fail("role", "invalid_value",
                absl::StrCat(fields.PathOf("role"),
                             " must be one of user, assistant, system, developer; got '",
                             role->substr(0, 64), "'"));
  }
  const Json* content = fields.Find("content");
  if (content == nullptr) fields.Missing("content");
  if (!fields.ok()) return fields.Finish();
  const bool of_model = *role == "assistant";
  ASSIGN_OR_RETURN(Json parts, ReadParts(*content, fields.PathOf("content"),
                                         of_model ? "output_text" : "input_text"));
  fields.String("phase", 64);
  if (of_model) {
    for (Json& part : parts)
      part.update({{"annotations", Json::array()}, {"logprobs", Json::array()}});
  }
  return Json{{"role", *role}, {"content", std::move(parts)}};
}

absl::StatusOr<Json> ReadCall(JsonFields& fields) {
  Json read = Json::object();
  for (const char* name : {"call_id", "name", "arguments"}) {
    const size_t most = name == std::string("arguments") ? SIZE_MAX : kUserStringBytesMax;
    if (auto text = fields.String(name, most)) {
      read[name] = *std::move(text);
    } else {
      fields.Missing(name);
    }
  }
  return read;
}

absl::StatusOr<Json> ReadCallOutput(JsonFields& fields) {
  Json read = Json::object();
  if (auto id = fields.String("call_id", kUserStringBytesMax)) {
    read["call_id"] = *std::move(id);
  } else {
    fields.Missing("call_id");
  }
  const Json* output = fields.Find("output");
  if (output == nullptr) fields.Missing("output");
  if (!fields.ok()) return fields.Finish();
  if (output->is_string()) {
    read["output"] = *output;
  } else {
    ASSIGN_OR_RETURN(read["output"], ReadParts(*output, fields.PathOf("output"), "input_text"));
  }
  return read;
}

absl::StatusOr<Json> ReadReasoning(JsonFields& fields) {
  Json read = {{"summary", Json::array()}, {"content", Json::array()}};
  fields.Array("summary", kContentPartsMax);
  fields.Find("encrypted_content");
  if (const Json* content = fields.Find("content"); content != nullptr) {
    ASSIGN_OR_RETURN(read["content"],
                     ReadParts(*content, fields.PathOf("content"), "reasoning_text"));
  }
  return read;
}

absl::StatusOr<Json> ReadItem(const Json& item, const std::string& path) {
  JsonFields fields(item, path);
  const std::string type = fields.String("type", 64).value_or("message");
  const auto id = fields.String("id", kUserStringBytesMax);
  fields.String("status", 64);
  if (!fields.ok()) return fields.Finish();
  absl::StatusOr<Json> read = absl::InternalError("no such item");
  const char* prefix = "msg_";
  if (type == "message") {
    read = ReadMessage(fields);
  } else if (type == "function_call") {
    read = ReadCall(fields);
    prefix = "fc_";
  } else if (type == "function_call_output") {
    read = ReadCallOutput(fields);
    prefix = "fco_";
  } else if (type == "reasoning") {
    read = ReadReasoning(fields);
    prefix = "rs_";
  } else {
    fields.Fail("type", "unsupported_item",
                absl::StrCat("items of type '", type.substr(0, 64),
                             "' are not supported here; send messages, calls of functions and "
                             "their outputs"));
  }
  if (!fields.ok()) return fields.Finish();
  RETURN_IF_ERROR(read.status());
  RETURN_IF_ERROR(fields.Finish());
  Json whole = {{"id", id.has_value() && !id->empty() ? *id : MakeStateId(prefix)}, {"type", type}};
  whole.update(*read);
  if (type != "reasoning") whole["status"] = "completed";
  return whole;
}

std::string TextOf(const Json& parts) {
  if (parts.is_string()) return parts.get<std::string>();
  std::string text;
  for (const Json& part : parts) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", part.value("text", std::string()));
  }
  return text;
}

// The assistant's message that goes on: the last, if nobody else has spoken since.
Json& AssistantMessage(Json& messages, std::string& reasoning) {
  if (messages.empty() || messages.back()["role"] != "assistant") {
    messages.push_back({{"role", "assistant"}});
  }
  if (!reasoning.empty()) messages.back()["reasoning_content"] = std::exchange(reasoning, "");
  return messages.back();
}

}  // namespace

absl::StatusOr<Json> ReadInputItems(const Json& input) {
  Json items = Json::array();
  if (input.is_string()) {
    Json parts = Json::array();
    parts.push_back({{"type", "input_text"}, {"text", input}});
    items.push_back({{"id", MakeStateId("msg_")},
                     {"type", "message"},
                     {"role", "user"},
                     {"content", std::move(parts)},
                     {"status", "completed"}});
    return items;
  }
  const auto* list = input.get_ptr<const Json::array_t*>();
  if (list == nullptr) {
    return ParameterError(
        "input", "invalid_type",
        absl::StrCat("input must be a string or an array of items; got ", JsonKindName(input)));
  }
  if (list->empty() || list->size() > kMessagesMax) {
    return ParameterError(
        "input", list->empty() ? "empty_array" : "array_above_max_length",
        absl::StrCat("input must hold from 1 to ", kMessagesMax, " items; got ", list->size()));
  }
  absl::flat_hash_set<std::string> ids;
  for (size_t i = 0; i < list->size(); ++i) {
    ASSIGN_OR_RETURN(Json item, ReadItem((*list)[i], absl::StrCat("input[", i, "]")));
    if (!ids.insert(item["id"].get<std::string>()).second) {
      const std::string path = absl::StrCat("input[", i, "].id");
      return ParameterError(path, "invalid_value",
                            absl::StrCat(path, " is that of an earlier item; leave it out"));
    }
    items.push_back(std::move(item));
  }
  return items;
}

void AppendMessages(const Json& items, Json& messages) {
  std::string reasoning;  // of the assistant's next message
  for (const Json& item : items) {
    const std::string type = item.value("type", "message");
    if (type == "reasoning") {
      if (item.contains("content")) {
        absl::StrAppend(&reasoning, reasoning.empty() ? "" : "\n", TextOf(item["content"]));
      }
    } else if (type == "function_call") {
      Json& message = AssistantMessage(messages, reasoning);
      message["tool_calls"].push_back(
          {{"id", item["call_id"]},
           {"type", "function"},
           {"function", {{"name", item["name"]}, {"arguments", item["arguments"]}}}});
    } else if (type == "function_call_output") {
      reasoning.clear();
      messages.push_back({{"role", "tool"},
                          {"tool_call_id", item["call_id"]},
                          {"content", TextOf(item["output"])}});
    } else if (item["role"] == "assistant") {
      Json& message = AssistantMessage(messages, reasoning);
      std::string text = message.value("content", std::string());
      absl::StrAppend(&text, text.empty() ? "" : "\n", TextOf(item["content"]));
      message["content"] = std::move(text);
    } else {
      reasoning.clear();
      messages.push_back({{"role", item["role"]}, {"content", TextOf(item["content"])}});
    }
  }
}

}  // namespace holdfast
