#include "server/tool_call_format.h"

namespace holdfast {

ToolCallFormat ToolCallFormatOf(std::string_view chat_template) {
  const auto has = [&](std::string_view text) {
    return chat_template.find(text) != std::string_view::npos;
  };
  if (has("[TOOL_CALLS]")) {
    return has("[ARGS]") ? ToolCallFormat::kMistralNamed : ToolCallFormat::kMistral;
  }
  if (has("<tool_call>")) {
    return has("<function=") ? ToolCallFormat::kTags : ToolCallFormat::kHermes;
  }
  if (has("[func_name1(")) return ToolCallFormat::kPython;
  const bool is_llama = has("<|start_header_id|>") || has("<|header_start|>");
  if (has("<|python_tag|>") || (is_llama && has("\"parameters\""))) {
    return ToolCallFormat::kLlama3;
  }
  return ToolCallFormat::kUnknown;
}

const ToolCallSyntax& SyntaxOf(ToolCallFormat format) {
  static constexpr ToolCallSyntax kHermes = {
      .open = "<tool_call>", .close = "</tool_call>", .arguments_key = "arguments"};
  static constexpr ToolCallSyntax kMistral = {
      .open = "[TOOL_CALLS]", .is_list = true, .separator = ",", .arguments_key = "arguments"};
  static constexpr ToolCallSyntax kMistralNamed = {.open = "[TOOL_CALLS]",
                                                   .arguments_mark = "[ARGS]"};
  static constexpr ToolCallSyntax kLlama3 = {.separator = ";", .arguments_key = "parameters"};
  static constexpr ToolCallSyntax kTags = {
      .open = "<tool_call>", .close = "</tool_call>", .shape = ToolCallShape::kTags};
  static constexpr ToolCallSyntax kPython = {
      .is_list = true, .separator = ",", .shape = ToolCallShape::kPython};
  switch (format) {
    case ToolCallFormat::kMistral:
      return kMistral;
    case ToolCallFormat::kMistralNamed:
      return kMistralNamed;
    case ToolCallFormat::kLlama3:
      return kLlama3;
    case ToolCallFormat::kTags:
      return kTags;
    case ToolCallFormat::kPython:
      return kPython;
    case ToolCallFormat::kUnknown:
    case ToolCallFormat::kHermes:
      break;
  }
  return kHermes;
}

}  // namespace holdfast
