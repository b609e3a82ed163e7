// Calls taken out of answers, in every format and however the text is cut.
#include "server/tool_call_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "config/limits.h"

namespace holdfast {
namespace {

struct Parsed {
  std::string text;
  std::vector<std::pair<std::string, std::string>> calls;  // name and arguments
  bool operator==(const Parsed&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Parsed& parsed) {
  out << '"' << parsed.text << '"';
  for (const auto& [name, arguments] : parsed.calls) out << ' ' << name << '(' << arguments << ')';
  return out;
}

// Reads `answer` in pieces of 1 to `piece_bytes_max`.
Parsed Parse(ToolCallFormat format, std::string_view answer, size_t piece_bytes_max = SIZE_MAX,
             uint32_t seed = 0) {
  std::mt19937 rng(seed);
  ToolCallParser parser(SyntaxOf(format));
  Parsed parsed;
  while (!answer.empty()) {
    const size_t bytes = 1 + rng() % std::min(answer.size(), piece_bytes_max);
    std::vector<ToolCallDelta> deltas;
    parser.Append(answer.substr(0, bytes), parsed.text, deltas);
    answer.remove_prefix(bytes);
    for (const ToolCallDelta& delta : deltas) {
      if (!delta.name.empty()) {
        EXPECT_EQ(delta.index, static_cast<int32_t>(parsed.calls.size()));
        parsed.calls.emplace_back(delta.name, "");
      }
      if (parsed.calls.empty()) {
        ADD_FAILURE() << "arguments before a name";
        return parsed;
      }
      EXPECT_EQ(delta.index, static_cast<int32_t>(parsed.calls.size()) - 1);
      parsed.calls.back().second += delta.arguments;
    }
  }
  parser.Finish(parsed.text);
  EXPECT_EQ(parser.num_calls(), static_cast<int32_t>(parsed.calls.size()));
  return parsed;
}

struct Case {
  ToolCallFormat format;
  const char* answer;
  Parsed parsed;
};

const std::vector<Case>& Cases() {
  using enum ToolCallFormat;
  static const std::vector<Case> cases = {
      {kHermes, "", {}},
      {kHermes,
       "It rains. 1 < 2 <tool_kit> </tool_call>",
       {"It rains. 1 < 2 <tool_kit> </tool_call>", {}}},
      {kHermes, " kept \n", {" kept \n", {}}},
      {kHermes,
       "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Par\\\"}is\", \"n\": [1, "
       "{}]}}\n"
       "</tool_call>",
       {"", {{"weather", "{\"city\": \"Par\\\"}is\", \"n\": [1, {}]}"}}}},
      {kHermes,
       "Let me see.\n\n<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>\n"
       "<tool_call>{\"name\":\"b\",\"arguments\":{\"x\":1}}</tool_call>\n",
       {"Let me see.", {{"a", "{}"}, {"b", "{\"x\":1}"}}}},
      {kHermes,
       "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"late\"}</tool_call>",
       {"", {{"late", "{\"x\": 1}"}}}},
      {kHermes, "<tool_call>{\"name\": \"bare\"}</tool_call>", {"", {{"bare", "{}"}}}},
      {kHermes,
       "<tool_call>{\"id\": 7, \"name\": \"\\u00e9\", \"parameters\": {}}</tool_call>",
       {"", {{"\xC3\xA9", "{}"}}}},
      {kHermes,
       "<tool_call>[{\"name\": \"a\", \"arguments\": {}}, {\"name\": \"b\"}]</tool_call>",
       {"", {{"a", "{}"}, {"b", "{}"}}}},
      {kHermes,
       "<<tool_call>{\"name\": \"a\"}</tool_call> then text.",
       {"< then text.", {{"a", "{}"}}}},
      // The closing is missing: the call is one all the same.
      {kHermes,
       "<tool_call>{\"name\": \"a\"}\n<tool_call>{\"name\": \"b\"}",
       {"", {{"a", "{}"}, {"b", "{}"}}}},
      // No calls.
      {kHermes, "<tool_call>none</tool_call>", {"<tool_call>none</tool_call>", {}}},
      {kHermes, "x <tool_call>{\"nam", {"x <tool_call>{\"nam", {}}},
      {kHermes, "<tool_call>{\"arguments\": {}}", {"<tool_call>{\"arguments\": {}}", {}}},
      {kHermes, "<tool_call>{\"name\": \"\"}", {"<tool_call>{\"name\": \"\"}", {}}},
      {kHermes, "<tool_call>{\"name\": 5}", {"<tool_call>{\"name\": 5}", {}}},
      // A call cut off in its arguments has those that came.
      {kHermes, "<tool_call>{\"name\": \"cut\", \"arguments\": {\"te", {"", {{"cut", "{\"te"}}}},
      {kMistral,
       "[TOOL_CALLS] [{\"name\": \"add\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"sub\", "
       "\"arguments\": {}}]",
       {"", {{"add", "{\"a\": \"]\"}"}, {"sub", "{}"}}}},
      {kMistral, "[TOOL_CALLS]{\"name\": \"one\", \"arguments\": {}}", {"", {{"one", "{}"}}}},
      {kMistral, "[TOOL] [1, 2]", {"[TOOL] [1, 2]", {}}},
      {kMistralNamed,
       "Sure.[TOOL_CALLS]a[ARGS]{\"x\": {}}[TOOL_CALLS]b-c[ARGS]{}",
       {"Sure.", {{"a", "{\"x\": {}}"}, {"b-c", "{}"}}}},
      {kMistralNamed, "[TOOL_CALLS]a{\"x\": 1}", {"", {{"a", "{\"x\": 1}"}}}},
      {kMistralNamed, "[TOOL_CALLS]no call here", {"[TOOL_CALLS]no call here", {}}},
      {kLlama3,
       " {\"name\": \"f\", \"parameters\": {\"q\": \"{\"}}",
       {"", {{"f", "{\"q\": \"{\"}"}}}},
      {kLlama3,
       "{\"name\": \"a\", \"parameters\": {}}; {\"type\": \"function\", \"name\": \"b\", "
       "\"parameters\": {}}",
       {"", {{"a", "{}"}, {"b", "{}"}}}},
      {kLlama3, "{\"name\": \"Bob\", \"age\": 3}", {"{\"name\": \"Bob\", \"age\": 3}", {}}},
      {kLlama3,
       "Say {\"name\": \"f\", \"parameters\": {}}",
       {"Say {\"name\": \"f\", \"parameters\": {}}", {}}},
  };
  return cases;
}

TEST(ToolCallParserTest, CallsAreTakenOutAndTheRestStaysText) {
  for (const Case& one : Cases())
    EXPECT_EQ(Parse(one.format, one.answer), one.parsed) << one.answer;
}

TEST(ToolCallParserTest, HowTheTextIsCutDoesNotMatter) {
  for (const Case& one : Cases()) {
    for (uint32_t seed = 0; seed < 50; ++seed) {
      EXPECT_EQ(Parse(one.format, one.answer, 1 + seed % 12, seed), one.parsed) << one.answer;
    }
  }
}

TEST(ToolCallParserTest, ArgumentsComeAsTheyAreWritten) {
  ToolCallParser parser(SyntaxOf(ToolCallFormat::kHermes));
  std::string text;
  std::vector<ToolCallDelta> calls;
  parser.Append("<tool_call>{\"name\": \"f\", \"argu", text, calls);
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls.front().name, "f");
  calls.clear();
  parser.Append("ments\": {\"a", text, calls);
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls.front().arguments, "{\"a");
  EXPECT_EQ(text, "");
}

TEST(ToolCallParserTest, TextIsShownUnlessItMayBeginACall) {
  ToolCallParser parser(SyntaxOf(ToolCallFormat::kHermes));
  std::string text;
  std::vector<ToolCallDelta> calls;
  parser.Append("a <tool", text, calls);
  EXPECT_EQ(text, "a");
  parser.Append("box", text, calls);
  EXPECT_EQ(text, "a <toolbox");
}

TEST(ToolCallParserTest, OnlyGivenToolsAreCalledAndOnlyWhereCallsMayStand) {
  const auto parse = [](ToolCallFormat format, ToolCallRules rules, std::string_view answer) {
    ToolCallParser parser(SyntaxOf(format), std::move(rules));
    Parsed parsed;
    std::vector<ToolCallDelta> deltas;
    for (const char c : answer) parser.Append({&c, 1}, parsed.text, deltas);
    parser.Finish(parsed.text);
    for (const ToolCallDelta& call : deltas) parsed.calls.emplace_back(call.name, call.arguments);
    return parsed;
  };
  const std::string other = "{\"name\": \"g\", \"parameters\": {}}";
  EXPECT_EQ(parse(ToolCallFormat::kLlama3, {.names = {"f"}}, other), (Parsed{other, {}}));
  EXPECT_EQ(parse(ToolCallFormat::kLlama3, {.names = {"f", "g"}}, other),
            (Parsed{"", {{"g", "{}"}}}));
  const std::string within = "{\"x\": \"[TOOL_CALLS]f[ARGS]{}\"}";
  EXPECT_EQ(parse(ToolCallFormat::kMistralNamed, {.names = {"f"}, .only_at_start = true}, within),
            (Parsed{within, {}}));
  EXPECT_EQ(parse(ToolCallFormat::kMistralNamed, {.names = {"f"}, .only_at_start = true},
                  "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{\"a\":1}"),
            (Parsed{"", {{"f", "{}"}, {"f", "{\"a\":1}"}}}));
}

TEST(ToolCallParserTest, ALongNameIsNone) {
  const std::string answer =
      "<tool_call>{\"name\": \"" + std::string(kToolNameBytesMax + 1, 'x') + "\"}</tool_call>";
  EXPECT_EQ(Parse(ToolCallFormat::kHermes, answer), (Parsed{answer, {}}));
}

// Whatever comes: the cut does not matter, and nothing of a text without calls is lost.
TEST(ToolCallParserTest, AnyTextIsReadTheSameHoweverItIsCut) {
  const std::vector<std::string> pieces = {"<tool_call>",
                                           "</tool_call>",
                                           "[TOOL_CALLS]",
                                           "[ARGS]",
                                           "{\"name\": \"f\"",
                                           "\"arguments\":",
                                           "\"parameters\":",
                                           "{",
                                           "}",
                                           "[",
                                           "]",
                                           "\"",
                                           "\\",
                                           ",",
                                           ":",
                                           ";",
                                           " ",
                                           "\n",
                                           "<tool",
                                           "x",
                                           "7",
                                           "\xC3\xA9"};
  using enum ToolCallFormat;
  for (const ToolCallFormat format : {kHermes, kMistral, kMistralNamed, kLlama3}) {
    for (uint32_t seed = 0; seed < 1500; ++seed) {
      std::mt19937 rng(seed);
      std::string answer;
      for (int i = 0; i < 24; ++i) answer += pieces[rng() % pieces.size()];
      const Parsed whole = Parse(format, answer);
      EXPECT_EQ(Parse(format, answer, 1), whole) << answer;
      EXPECT_EQ(Parse(format, answer, 7, seed), whole) << answer;
      if (whole.calls.empty()) {
        EXPECT_EQ(whole.text, answer);
      }
    }
  }
}

TEST(ToolCallFormatTest, TheFormatIsToldByTheChatTemplate) {
  using enum ToolCallFormat;
  EXPECT_EQ(ToolCallFormatOf("... '[TOOL_CALLS]' ..."), kMistral);
  EXPECT_EQ(ToolCallFormatOf("... '[TOOL_CALLS]' ... '[ARGS]'"), kMistralNamed);
  EXPECT_EQ(ToolCallFormatOf("... <tool_call>\\n ..."), kHermes);
  EXPECT_EQ(ToolCallFormatOf("<|start_header_id|> ... <|python_tag|>"), kLlama3);
  EXPECT_EQ(ToolCallFormatOf("<|im_start|>"), kUnknown);
  EXPECT_EQ(ToolCallFormatOf(""), kUnknown);
}

}  // namespace
}  // namespace holdfast
