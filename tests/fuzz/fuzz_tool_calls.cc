// The parser of tool calls: however an answer is cut into pieces, its text and its calls are the
// same; an answer without calls is its text; and every call has a name first.
//
// Input: a byte that chooses the format, then the answer. How it is cut comes from a hash of it.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/base/check.h"
#include "server/tool_call_parser.h"

namespace holdfast {
namespace {

struct Parsed {
  std::string text;
  std::vector<std::string> names, arguments;
  bool operator==(const Parsed&) const = default;
};

// `cut` 0: in one piece.
Parsed Parse(ToolCallFormat format, std::string_view answer, uint64_t cut) {
  // Of a parameter that is text, one that may be null, and others.
  static const auto texts = std::make_shared<const BareTextsOfTools>(
      BareTextsOfTools{{"f", {{"a", {}}, {"b", {.may_be_null = true}}}}});
  ToolCallParser parser(SyntaxOf(format), {.texts = texts});
  Parsed parsed;
  while (!answer.empty()) {
    cut = cut == 0 ? 0 : cut * 6364136223846793005u + 1442695040888963407u;
    const std::string_view piece = answer.substr(0, cut == 0 ? answer.size() : 1 + (cut >> 33) % 9);
    answer.remove_prefix(piece.size());
    std::vector<ToolCallDelta> deltas;
    parser.Append(piece, parsed.text, deltas);
    for (const ToolCallDelta& delta : deltas) {
      if (!delta.name.empty()) {
        parsed.names.push_back(delta.name);
        parsed.arguments.emplace_back();
      }
      CHECK(delta.index + 1 == static_cast<int32_t>(parsed.names.size()));
      parsed.arguments.back() += delta.arguments;
    }
  }
  parser.Finish(parsed.text);
  CHECK(parser.num_calls() == static_cast<int32_t>(parsed.names.size()));
  return parsed;
}

void Run(std::string_view data) {
  if (data.empty()) return;
  constexpr ToolCallFormat kFormats[] = {ToolCallFormat::kHermes,       ToolCallFormat::kMistral,
                                         ToolCallFormat::kMistralNamed, ToolCallFormat::kLlama3,
                                         ToolCallFormat::kTags,         ToolCallFormat::kPython};
  const ToolCallFormat format = kFormats[static_cast<uint8_t>(data.front()) % 6];
  data.remove_prefix(1);
  uint64_t hash = 14695981039346656037u;
  for (const char c : data) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  const Parsed whole = Parse(format, data, 0);
  CHECK(whole == Parse(format, data, hash | 1));
  CHECK(whole == Parse(format, data, ~hash | 1));
  if (whole.names.empty()) CHECK(whole.text == data);
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
