// How the calls of tools look in a model's text: formats as data, which the parser of answers
// (tool_call_parser.h), their grammar (tool_choice.h) and our own prompt (tool_prompt.h) go by.
//
//   format     a call
//   kHermes    <tool_call>{"name": "f", "arguments": {...}}</tool_call>      each by itself
//   kMistral   [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]
//   kMistralNamed   [TOOL_CALLS]f[ARGS]{...}                                 each by itself
//   kLlama3    {"name": "f", "parameters": {...}}   as the whole answer, several with ";" between
//   kTags      <tool_call><function=f><parameter=city>Paris</parameter></function></tool_call>
//   kPython    [f(city="Paris"), g()]                       as the whole answer
//
// Sources: the chat templates of Qwen2.5, Hermes 2 Pro, Mistral 7B v0.3, Mistral Small 3.2,
// Llama 3.1 and 4 and Qwen3-Coder, and vLLM's pythonic ones for Llama 3.2 and 4.
#pragma once

#include <cstdint>
#include <string_view>

namespace holdfast {

// kUnknown: the model's template shows no tools.
enum class ToolCallFormat : uint8_t {
  kUnknown,
  kHermes,
  kMistral,
  kMistralNamed,
  kLlama3,
  kTags,
  kPython
};

// kObject: an object, or a name and an object. Of the others: call_reader.h.
enum class ToolCallShape : uint8_t { kObject, kTags, kPython };

struct ToolCallSyntax {
  std::string_view open, close;     // around each call, or around the list of them; may be empty
  bool is_list = false;             // all calls in one list
  std::string_view separator;       // between calls; may be empty
  std::string_view arguments_key;   // of a call that is an object
  std::string_view arguments_mark;  // not empty: a call is its name, this and the arguments
  ToolCallShape shape = ToolCallShape::kObject;
};

// That a model with this chat template (Jinja) answers in.
ToolCallFormat ToolCallFormatOf(std::string_view chat_template);

// Of kUnknown: the one that we ask the model for, kHermes.
const ToolCallSyntax& SyntaxOf(ToolCallFormat format);

}  // namespace holdfast
