// Calls taken out of answers, in every format and however the text is cut.
#include "server/tool_call_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/bare_text.h"

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

// Of `f`, where parameters are written bare.
std::shared_ptr<const BareTextsOfTools> Texts() {
  return std::make_shared<const BareTextsOfTools>(
      BareTextsOfTools{{"f", {{"text", {}}, {"maybe", {.may_be_null = true}}}}});
}

// Reads `answer` in pieces of 1 to `piece_bytes_max`.
Parsed Parse(ToolCallFormat format, std::string_view answer, size_t piece_bytes_max = SIZE_MAX,
             uint32_t seed = 0) {
  std::mt19937 rng(seed);
  ToolCallParser parser(SyntaxOf(format), {.texts = Texts()});
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
      {kTags,
       "Let me see.\n<tool_call>\n<function=f>\n<parameter=text>\nParis\n</parameter>\n"
       "<parameter=n>\n12\n</parameter>\n</function>\n</tool_call>\n",
       {"Let me see.", {{"f", R"({"text": "Paris", "n": 12})"}}}},
      {kTags, "<tool_call><function=g></function></tool_call> more", {" more", {{"g", "{}"}}}},
      // Text is text whatever it looks like; another value is JSON if it can be.
      {kTags,
       "<tool_call><function=f><parameter=text>7</parameter><parameter=maybe>null</parameter>"
       "<parameter=o>{\"a\": [1]}</parameter><parameter=w>True</parameter>"
       "<parameter=z>two words</parameter></function></tool_call>",
       {"",
        {{"f", R"({"text": "7", "maybe": null, "o": {"a": [1]}, "w": true, "z": "two words"})"}}}},
      // One line's end on each side is not the value's own.
      {kTags,
       "<tool_call><function=f><parameter=text>\n\n a \"b\" </p\n\n</parameter>"
       "<parameter=maybe>\nnullable\n</parameter></function></tool_call>",
       {"", {{"f", R"({"text": "\n a \"b\" </p\n", "maybe": "nullable"})"}}}},
      {kTags,
       "<tool_call><function=f><parameter=text>\n</parameter><parameter=maybe></parameter>"
       "</function></tool_call>",
       {"", {{"f", R"({"text": "", "maybe": ""})"}}}},
      {kTags,
       "<tool_call><function=a></function></tool_call>\n"
       "<tool_call><function=b></function></tool_call>",
       {"", {{"a", "{}"}, {"b", "{}"}}}},
      {kTags,
       "<tool_call>{\"name\": \"f\"}</tool_call>",
       {"<tool_call>{\"name\": \"f\"}</tool_call>", {}}},
      {kTags, "<tool_call><function=f g>", {"<tool_call><function=f g>", {}}},
      {kTags, "<tool_call><function=f>oh", {"oh", {{"f", ""}}}},
      {kTags, "<tool_call><function=f><parameter=text>cut <", {"", {{"f", "{\"text\": \"cut "}}}},
      {kPython,
       "[f(city=\"Paris\", days=[1, -2.5e3, {'a': None}], sure=True), g()]",
       {"",
        {{"f", R"({"city": "Paris", "days": [1, -2.5e3, {"a": null}], "sure": true})"},
         {"g", "{}"}}}},
      {kPython,
       " [ f(a= 'it\\'s \"x\"\\n\\x41\\U0001F600\\q' , ) ] \n",
       {"", {{"f", R"({"a": "it's \"x\"\n\u0041\ud83d\ude00\\q"})"}}}},
      {kPython, "[f(a=true, b=null)]", {"", {{"f", R"({"a": true, "b": null})"}}}},
      {kPython, "[1, 2]", {"[1, 2]", {}}},
      {kPython, "[f]", {"[f]", {}}},
      {kPython, "[f(x)]", {"x)]", {{"f", ""}}}},
      {kPython, "[f(a=b)]", {"b)]", {{"f", "{\"a\": "}}}},
      {kPython, "[f(a=\"cut", {"", {{"f", "{\"a\": \"cut"}}}},
      {kPython, "See [f()]", {"See [f()]", {}}},
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

// The test's end is the assertion: a look at all of them for each would take hours.
TEST(ToolCallParserTest, SpacesWithoutEndAreEachLookedAtOnce) {
  const std::string spaces(1 << 20, ' ');
  const std::string call = R"({"name": "f", "arguments": {}})";
  for (const std::string& calls : {"<tool_call>" + call, "<tool_call>[" + call + "]"}) {
    const Parsed one = {"", {{"f", "{}"}}};
    EXPECT_EQ(Parse(ToolCallFormat::kHermes, calls + spaces), one);
    EXPECT_EQ(Parse(ToolCallFormat::kHermes, calls + spaces + "</tool_call>"), one);
    EXPECT_TRUE(Parse(ToolCallFormat::kHermes, calls + spaces + "x").text == spaces + "x");
  }
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
                                           "<function=f>",
                                           "</function>",
                                           "<parameter=text>",
                                           "<parameter=maybe>",
                                           "</parameter>",
                                           "null",
                                           "True",
                                           "f(",
                                           "a=",
                                           ")",
                                           "'",
                                           "x",
                                           "7",
                                           "\xC3\xA9"};
  using enum ToolCallFormat;
  for (const ToolCallFormat format : {kHermes, kMistral, kMistralNamed, kLlama3, kTags, kPython}) {
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

TEST(BareTextTest, IsWhatCanBeNothingButTextOrNull) {
  const Json parameters = *ParseJson(R"({"type": "object", "properties": {
      "a": {"type": "string", "description": "any"},
      "b": {"type": ["string", "null"]},
      "c": {"enum": ["x", "y"]},
      "d": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}], "default": null},
      "e": {"$ref": "#/$defs/unit"},
      "f": {"type": "string", "pattern": "a+"},
      "g": {"type": "string", "minLength": 2},
      "h": {"allOf": [{"$ref": "#/$defs/unit"}]},
      "i": {"type": ["string", "null"], "enum": ["z", null]},
      "j": {"enum": ["x", "y"], "const": "x"},
      "k": {"oneOf": [{"const": "x"}, {"const": "y"}]},
      "l": {"oneOf": [{"const": "x"}, {"enum": ["x", "y"]}]},
      "m": {"oneOf": [{"type": ["string", "null"]}, {"type": "null"}]},
      "n": {"type": "string", "const": null},
      "not1": {"type": "integer"}, "not2": {"type": ["string", "integer"]}, "not3": {},
      "not4": {"enum": ["x", 1]}, "not5": {"$ref": "#/$defs/loop"}, "not6": true,
      "not7": {"anyOf": [{"type": "string"}, {"type": "array"}]}},
      "$defs": {"unit": {"const": "C", "title": "Unit"}, "loop": {"$ref": "#/$defs/loop"}}})");
  using Choices = std::vector<std::string>;
  const BareTexts wanted = {{"a", {}},
                            {"b", {.may_be_null = true}},
                            {"c", {.choices = Choices{"x", "y"}}},
                            {"d", {.may_be_null = true, .length_max = 5}},
                            {"e", {.choices = Choices{"C"}}},
                            {"f", {.is_all = false}},
                            {"g", {.length_min = 2}},
                            {"h", {.choices = Choices{"C"}}},
                            {"i", {.may_be_null = true, .choices = Choices{"z"}}},
                            {"j", {.choices = Choices{"x", "y"}, .is_all = false}},
                            {"k", {.choices = Choices{"x", "y"}}},
                            {"l", {.choices = Choices{"x", "x", "y"}, .is_all = false}},
                            {"m", {.may_be_null = true, .is_all = false}},
                            {"n", {.choices = Choices{}}}};
  BareTextBudget budget;
  EXPECT_EQ(BareTextsOf(parameters, budget), wanted);
  EXPECT_EQ(BareTextsOf(Json(), budget), BareTexts());
}

TEST(BareTextTest, WhatIsReadAgainAndAgainComesToAnEnd) {
  // Each of many is one of many, that is one of many...
  Json chain = {{"properties", {{"a", {{"$ref", "#/$defs/d0"}}}}}};
  for (int i = 0; i < 4; ++i) {
    const Json next = {{"$ref", absl::StrCat("#/$defs/d", i + 1)}};
    chain["$defs"][absl::StrCat("d", i)]["anyOf"] = Json::array_t(500, next);
  }
  chain["$defs"]["d4"] = {{"type", "string"}};
  BareTextBudget budget;
  EXPECT_EQ(BareTextsOf(chain, budget), BareTexts());
  // What is left is the next tool's.
  budget.fields_left = 0;
  EXPECT_EQ(BareTextsOf(*ParseJson(R"({"properties": {"a": {"type": "string"}}})"), budget),
            BareTexts());
}

TEST(BareTextTest, ValuesThatManyReferToAreCopiedUpToABound) {
  Json shared = {{"$defs", {{"unit", {{"enum", {std::string(1000, 'a'), "b"}}}}}}};
  for (int i = 0; i < 1000; ++i) {
    shared["properties"][absl::StrCat("p", i)]["$ref"] = "#/$defs/unit";
  }
  BareTextBudget budget;
  const size_t num_copies = BareTextsOf(shared, budget).size();
  EXPECT_GT(num_copies, 100u);
  EXPECT_LT(num_copies, 140u);
}

TEST(ToolCallFormatTest, TheFormatIsToldByTheChatTemplate) {
  using enum ToolCallFormat;
  EXPECT_EQ(ToolCallFormatOf("... '[TOOL_CALLS]' ..."), kMistral);
  EXPECT_EQ(ToolCallFormatOf("... '[TOOL_CALLS]' ... '[ARGS]'"), kMistralNamed);
  EXPECT_EQ(ToolCallFormatOf("... <tool_call>\\n ..."), kHermes);
  EXPECT_EQ(ToolCallFormatOf("<|start_header_id|> ... <|python_tag|>"), kLlama3);
  EXPECT_EQ(ToolCallFormatOf("<|header_start|> ... \"parameters\""), kLlama3);
  EXPECT_EQ(ToolCallFormatOf("... <tool_call>\\n<function= ..."), kTags);
  EXPECT_EQ(ToolCallFormatOf("<|start_header_id|> [func_name1(params_name1= \"parameters\""),
            kPython);
  EXPECT_EQ(ToolCallFormatOf("<|im_start|>"), kUnknown);
  EXPECT_EQ(ToolCallFormatOf(""), kUnknown);
}

}  // namespace
}  // namespace holdfast
