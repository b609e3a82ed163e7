#include "server/tool_prompt.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/tool_call_format.h"

namespace holdfast {
namespace {

const ToolCallSyntax& Syntax() { return SyntaxOf(ToolCallFormat::kUnknown); }

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string CallText(const Json& name, const Json& arguments) {
  Json call = Json::object();
  call["name"] = name;
  call[std::string(Syntax().arguments_key)] = arguments;
  return absl::StrCat(View(Syntax().open), DumpJson(call), View(Syntax().close));
}

std::string Instructions(const Json& tools) {
  std::string text = "You can call these functions, described in JSON:\n";
  for (const Json& tool : tools) absl::StrAppend(&text, DumpJson(tool["function"]), "\n");
  absl::StrAppend(&text,
                  "To call one, answer with its name and its arguments, and with nothing else:\n",
                  CallText("NAME", Json::object()),
                  "\nSeveral calls go one behind the other. What they return is told to you in the "
                  "next message. Answer in plain words where no call is needed.");
  return text;
}

const std::string& Text(const Json& message, const char* field) {
  static const std::string empty;
  const auto found = message.find(field);
  const auto* text = found == message.end() ? nullptr : found->get_ptr<const std::string*>();
  return text == nullptr ? empty : *text;
}

std::string WithCalls(const Json& message) {
  std::string text = Text(message, "content");
  for (const Json& call : message["tool_calls"]) {
    if (!text.empty()) text += '\n';
    text += CallText(call["function"]["name"], call["function"]["arguments"]);
  }
  return text;
}

}  // namespace

void WriteToolsIntoMessages(const Json& tools, Json& messages) {
  Json written = Json::array();
  const bool has_system = Text(messages.front(), "role") == "system";
  std::string system = has_system ? Text(messages.front(), "content") : std::string();
  if (!tools.empty()) {
    absl::StrAppend(&system, has_system ? "\n\n" : "", Instructions(tools));
  }
  if (has_system || !tools.empty()) {
    written.push_back({{"role", "system"}, {"content", std::move(system)}});
  }
  bool behind_result = false;
  for (size_t i = has_system ? 1 : 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const bool is_result = Text(message, "role") == "tool";
    if (is_result) {
      const std::string result =
          absl::StrCat("<tool_response>\n", Text(message, "content"), "\n</tool_response>");
      // Results of calls that went together come as one message: many templates want roles in turn.
      if (behind_result) {
        Json& content = written.back()["content"];
        content = absl::StrCat(*content.get_ptr<const std::string*>(), "\n", result);
      } else {
        written.push_back({{"role", "user"}, {"content", result}});
      }
    } else if (message.contains("tool_calls")) {
      Json& called = written.emplace_back(message);
      called["content"] = WithCalls(message);
      called.erase("tool_calls");
    } else {
      written.push_back(message);
    }
    behind_result = is_result;
  }
  messages = std::move(written);
}

}  // namespace holdfast
