// Grammars of calls of tools (text/src/tool_grammar.rs), in each of their shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/text/grammar_fixture.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class GrammarCallsTest : public GrammarTest {};

// Of two functions, one of which refers within its parameters.
Json ToolCalls() {
  return Json::parse(R"({"open": "<call>", "close": "</call>", "is_list": false, "separator": "",
      "arguments_key": "arguments", "arguments_mark": "", "required": true, "parallel": true,
      "functions": [
        {"name": "f", "strict": false, "place": "tools[0]", "parameters": {
          "type": "object", "properties": {"x": {"$ref": "#/$defs/two"}}, "required": ["x"],
          "$defs": {"two": {"enum": [1, "}]</call>"]}}, "additionalProperties": false}},
        {"name": "g\"h", "strict": false, "place": "tools[1]", "parameters": null}],
      "answer": null})");
}

// What calls there are in `text`, each between the marks; fails if one is none.
int CheckCalls(std::string_view text, std::string_view open, std::string_view close,
               const char* key = "arguments") {
  int count = 0;
  for (; !text.empty(); ++count) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (text.empty()) break;
    EXPECT_EQ(text.substr(0, open.size()), open) << text;
    // The closing may stand within a string.
    size_t end = 0;
    Json call;
    do {
      end = text.find(close, end + 1);
      if (end == std::string_view::npos) {
        ADD_FAILURE() << text;
        return -1;
      }
      call = Json::parse(text.substr(open.size(), end - open.size()), nullptr, false);
    } while (call.is_discarded());
    EXPECT_EQ(call.size(), 2u) << text;
    const Json& arguments = call.at(key);
    if (call.at("name") == "f") {
      EXPECT_TRUE(arguments == Json({{"x", 1}}) || arguments == Json({{"x", "}]</call>"}})) << call;
    } else {
      EXPECT_EQ(call.at("name"), "g\"h");
      EXPECT_EQ(arguments, Json::object());
    }
    text.remove_prefix(end + close.size());
  }
  return count;
}

TEST_F(GrammarCallsTest, RequiredCallsAreOfTheFunctionsAndNothingElse) {
  std::mt19937 rng(11);
  int most = 0;
  for (int i = 0; i < 60; ++i) {
    const std::string answer =
        RandomAnswer(*Matcher(GrammarKind::kToolCalls, ToolCalls().dump()), rng, 4000);
    const int count = CheckCalls(answer, "<call>", "</call>");
    EXPECT_GE(count, 1) << answer;
    most = std::max(most, count);
  }
  EXPECT_GT(most, 1);
  Json one = ToolCalls();
  one["parallel"] = false;
  for (int i = 0; i < 30; ++i) {
    const auto matcher = Matcher(GrammarKind::kToolCalls, one.dump());
    EXPECT_EQ(CheckCalls(RandomAnswer(*matcher, rng, 4000), "<call>", "</call>"), 1);
  }
}

TEST_F(GrammarCallsTest, AfterFreeTextWhatOpensACallCanOnlyBecomeOne) {
  Json free = ToolCalls();
  free["required"] = false;
  const auto accepted = [&](const std::string& text, bool may_end) {
    const auto matcher = Matcher(GrammarKind::kToolCalls, free.dump());
    const size_t bytes = Accepted(*matcher, text);
    if (bytes == text.size()) {
      const std::vector<int32_t> next = Allowed(*matcher);
      EXPECT_EQ(std::find(next.begin(), next.end(), kEnd) != next.end(), may_end) << text;
    }
    return bytes;
  };
  for (const std::string text : {"", "Words.", "a < b <call", "{\"name\": 1}", "</call>"}) {
    EXPECT_EQ(accepted(text, true), text.size()) << text;
  }
  EXPECT_EQ(accepted("Words.<call>", false), 12u);
  EXPECT_EQ(accepted("Words.<call>no", false), 12u);
  const std::string call = "<call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</call>";
  EXPECT_EQ(accepted(call, true), call.size());
  EXPECT_EQ(accepted("<<call>\n" + call.substr(6) + "\n" + call, true), 2 * call.size() + 3);
  EXPECT_EQ(accepted(call + " more", true), call.size() + 1);
}

// In free text what may come next is not sought anew: it must be what the library would find.
TEST_F(GrammarCallsTest, FreeTextBeforeACallAllowsWhatAGrammarOfItWould) {
  constexpr char kSame[] = R"(start: TEXT | before "x"
before[lazy]: BEFORE
BEFORE: /(.|\n)*/ "<call>"
TEXT: /(.|\n)*/ & ~(/(.|\n)*/ "<call>" /(.|\n)*/)
)";
  Json free = ToolCalls();
  free["required"] = false;
  std::mt19937 rng(13);
  for (int round = 0; round < 20; ++round) {
    const auto calls = Matcher(GrammarKind::kToolCalls, free.dump());
    const auto same = Matcher(GrammarKind::kLark, kSame);
    std::string text;
    for (int i = 0; i < 40 && text.find("<call>") == std::string::npos; ++i) {
      const std::vector<int32_t> allowed = Allowed(*calls);
      ASSERT_EQ(allowed, Allowed(*same)) << text;
      int32_t token = allowed[rng() % allowed.size()];
      // Often what begins or breaks off an opening.
      const int32_t next = ByteId(Controls(), "<call>"[text.empty() || text.back() != '<' ? 0 : 1]);
      if (rng() % 2 == 0 && std::find(allowed.begin(), allowed.end(), next) != allowed.end()) {
        token = next;
      }
      if (token == kEnd) break;
      ASSERT_TRUE(calls->Consume(token).ok());
      ASSERT_TRUE(same->Consume(token).ok());
      text += tokenizer_->TokenBytes(token);
    }
  }
}

TEST_F(GrammarCallsTest, AMarkThatIsAControlTokenIsThatToken) {
  Json free = ToolCalls();
  free["required"] = false;
  free["open"] = "<|tool|>";
  free["close"] = "";
  free["is_list"] = true;
  free["separator"] = ",";
  const auto matcher = Matcher(GrammarKind::kToolCalls, free.dump());
  // Its spelling cannot be told from it, and is left out.
  EXPECT_EQ(Accepted(*matcher, "So: <|tool|"), 11u);
  EXPECT_THAT(Allowed(*matcher), testing::Not(testing::Contains(ByteId(Controls(), '>'))));
  ASSERT_TRUE(matcher->Consume(ByteId(Controls(), '!')).ok());
  EXPECT_THAT(Allowed(*matcher), testing::IsSupersetOf({kEnd, 1}));
  ASSERT_TRUE(matcher->Consume(1).ok());
  const std::string calls =
      "[{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"f\", \"arguments\": {\"x\": "
      "1}}]";
  EXPECT_EQ(Accepted(*matcher, calls), calls.size());
  EXPECT_THAT(Allowed(*matcher), testing::Contains(kEnd));
}

TEST_F(GrammarCallsTest, ACallMayBeItsNameAMarkAndItsArguments) {
  Json named = ToolCalls();
  named["open"] = "<|tool|>";
  named["close"] = "";
  named["arguments_mark"] = "[ARGS]";
  const auto matcher = Matcher(GrammarKind::kToolCalls, named.dump());
  EXPECT_EQ(Allowed(*matcher), std::vector<int32_t>{1});
  ASSERT_TRUE(matcher->Consume(1).ok());
  EXPECT_EQ(Accepted(*matcher, "f[ARGS]{\"x\": 1}"), 15u);
  EXPECT_THAT(Allowed(*matcher), testing::IsSupersetOf({kEnd, 1}));
}

TEST_F(GrammarCallsTest, WithoutAnOpeningAnAnswerThatBeginsAsACallIsOne) {
  Json bare = ToolCalls();
  bare["open"] = bare["close"] = "";
  bare["separator"] = ";";
  bare["arguments_key"] = "parameters";
  bare["required"] = false;
  const std::string call = "{\"name\": \"f\", \"parameters\": {\"x\": 1}}";
  for (const auto& [text, bytes] :
       std::vector<std::pair<std::string, size_t>>{{call, call.size()},
                                                   {call + "; " + call, 2 * call.size() + 2},
                                                   {"Words {}", 8},
                                                   {"{\"age\": 3}", 2}}) {
    const auto matcher = Matcher(GrammarKind::kToolCalls, bare.dump());
    EXPECT_EQ(Accepted(*matcher, text), bytes) << text;
  }
}

// Two functions whose parameters stand each by itself.
nlohmann::ordered_json ShapedCalls(const char* shape) {
  auto calls =
      nlohmann::ordered_json::parse(R"({"open": "", "close": "", "is_list": false, "separator": "",
      "arguments_key": "", "arguments_mark": "", "required": true, "parallel": true,
      "functions": [
        {"name": "f", "strict": true, "place": "tools[0]", "parameters": {
          "type": "object", "required": ["text", "n"], "additionalProperties": false,
          "$defs": {"unit": {"enum": ["C", "F"]}},
          "properties": {
            "unit": {"$ref": "#/$defs/unit"}, "text": {"type": "string"},
            "short": {"type": "string", "minLength": 1, "maxLength": 3},
            "n": {"type": "integer", "minimum": 0, "maximum": 9},
            "sure": {"type": ["boolean", "null"]},
            "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}}},
          "texts": {
            "unit": {"may_be_null": false, "choices": ["C", "F"], "length_min": 0,
                     "length_max": null, "is_all": true},
            "text": {"may_be_null": false, "choices": null, "length_min": 0, "length_max": null,
                     "is_all": true},
            "short": {"may_be_null": false, "choices": null, "length_min": 1, "length_max": 3,
                      "is_all": true}}},
        {"name": "g-h", "strict": false, "place": "tools[1]", "parameters": null}],
      "answer": null})");
  calls["shape"] = shape;
  if (calls["shape"] == "tags") {
    calls["open"] = "<call>";
    calls["close"] = "</call>";
  } else {
    calls["is_list"] = true;
    calls["separator"] = ",";
  }
  return calls;
}

TEST_F(GrammarCallsTest, BetweenTagsTextIsBareAndAllElseIsJson) {
  const std::string begin = "<call>\n<function=f>\n", end = "\n</function>\n</call>";
  const std::string text = "<parameter=text>\nwhat \"ever\"\n</parameter>\n",
                    n = "<parameter=n>\n7\n</parameter>";
  const auto accepts = [&](const std::string& answer) {
    const auto matcher = Matcher(GrammarKind::kToolCalls, ShapedCalls("tags").dump());
    return Accepted(*matcher, answer) == answer.size();
  };
  EXPECT_TRUE(accepts(begin + text + n + end));
  EXPECT_TRUE(accepts("<call><function=g-h></function></call>\n<call><function=g-h>"));
  EXPECT_TRUE(accepts(
      begin + "<parameter=unit>\nC\n</parameter>" + text + "<parameter=short>\nab\n</parameter>" +
      n + "<parameter=sure>\nnull\n</parameter><parameter=list>\n[true]\n</parameter>" + end));
  for (const std::string& wrong :
       {begin + n, begin + text + end, begin + text + "<parameter=n>\n12", begin + "<parameter=x",
        begin + "<parameter=unit>\nK", begin + text + "<parameter=short>\nabcd\n</parameter>",
        begin + text + "<parameter=short>\n\n</parameter>" + n, std::string("<call><function=h")}) {
    EXPECT_FALSE(accepts(wrong)) << wrong;
  }
}

TEST_F(GrammarCallsTest, InPythonArgumentsAreJsonButForTheWordsThatAreValues) {
  const auto accepts = [&](const std::string& answer) {
    const auto matcher = Matcher(GrammarKind::kToolCalls, ShapedCalls("python").dump());
    return Accepted(*matcher, answer) == answer.size();
  };
  EXPECT_TRUE(accepts(R"([f(text="a \"b\"", n=7)])"));
  EXPECT_TRUE(accepts(R"([f(unit="C",text="", short="abc", n=0, sure=None, list=[true]), g-h()])"));
  EXPECT_TRUE(accepts(R"([g-h(), f(text="a", n=7, sure=True)])"));
  for (const std::string wrong :
       {"[f(n=7", "[f(text=\"a\")", "[f(text=\"a\", n=12", "[f(text='a'", "[f(text=\"a\", n=7,)",
        "[f(text=\"a\", n=7, sure=true", "[g-h(a", "[f(unit=\"K", "f("}) {
    EXPECT_FALSE(accepts(wrong)) << wrong;
  }
}

TEST_F(GrammarCallsTest, WhatAShapeCannotBeHeldToIsRefusedWhereItIsStrictAndElseFree) {
  for (const char* shape : {"tags", "python"}) {
    auto calls = ShapedCalls(shape);
    auto& function = calls["functions"][0];
    function["parameters"]["anyOf"] =
        nlohmann::ordered_json::parse(R"([{"required": ["unit"]}, {"required": ["short"]}])");
    EXPECT_THAT(Refusal(GrammarKind::kToolCalls, calls.dump()),
                testing::AllOf(HasSubstr("tools[0]: "), HasSubstr("/anyOf")));
    function["strict"] = false;
    const std::string any = calls["shape"] == "tags"
                                ? "<call><function=f><parameter=x>\n1</parameter></function></call>"
                                : "[f(x={\"a\": 1}, y=True)]";
    EXPECT_EQ(Accepted(*Matcher(GrammarKind::kToolCalls, calls.dump()), any), any.size());
  }
  auto calls = ShapedCalls("tags");
  calls["functions"][0]["texts"]["text"]["is_all"] = false;
  EXPECT_THAT(Refusal(GrammarKind::kToolCalls, calls.dump()), HasSubstr("/properties/text"));
  calls["functions"][0]["name"] = "a>b";
  EXPECT_THAT(Refusal(GrammarKind::kToolCalls, calls.dump()), HasSubstr("name"));
}

TEST_F(GrammarCallsTest, DefinitionsAreWrittenWhereTheyAreNeededAndUpToABound) {
  Json many = {{"type", "object"}, {"additionalProperties", false}}, one = many;
  for (int i = 0; i < 8000; ++i) many["$defs"]["d"]["enum"].push_back(100000 + i);
  one["$defs"] = many["$defs"];
  for (int i = 0; i < 3000; ++i) {
    many["properties"]["p" + std::to_string(i)]["$ref"] = "#/$defs/d";
  }
  for (int i = 0; i < 500; ++i) {
    const std::string list = "l" + std::to_string(i);
    one["$defs"][list] = {{"type", "array"}, {"items", {{"$ref", "#/$defs/d"}}}, {"minItems", i}};
    one["properties"]["p"]["anyOf"].push_back({{"$ref", "#/$defs/" + list}});
  }
  Json needless = many;
  for (auto& property : needless["properties"]) property = {{"$ref", "#/$defs/e"}};
  needless["properties"]["p0"] = {{"$ref", "#/$defs/d"}};
  needless["$defs"]["e"]["type"] = "null";
  for (const char* shape : {"tags", "python"}) {
    Json calls = ShapedCalls(shape);
    calls["functions"].erase(1);
    calls["functions"][0]["texts"] = Json::object();
    for (const Json& parameters : {many, one}) {
      calls["functions"][0]["parameters"] = parameters;
      calls["functions"][0]["strict"] = true;
      if (calls["shape"] == "python" || parameters == many) {
        EXPECT_THAT(Refusal(GrammarKind::kToolCalls, calls.dump()), HasSubstr("1048576 bytes"));
      }
      calls["functions"][0]["strict"] = false;
      EXPECT_NE(Matcher(GrammarKind::kToolCalls, calls.dump()), nullptr);
    }
    calls["functions"][0]["parameters"] = needless;
    calls["functions"][0]["strict"] = true;
    EXPECT_NE(Matcher(GrammarKind::kToolCalls, calls.dump()), nullptr);
  }
}

TEST_F(GrammarCallsTest, AParameterThatIsOnlyRequiredIsOneAsTheAdditionalOnesAre) {
  for (const char* shape : {"tags", "python"}) {
    Json calls = ShapedCalls(shape);
    calls["functions"][0]["texts"] = Json::object();
    // A value is no reference, whatever it holds.
    calls["functions"][0]["parameters"] = Json::parse(R"({
        "type": "object", "properties": {"a": {"const": {"$ref": "#/b"}}},
        "required": ["a", "x", "x"], "additionalProperties": {"type": "integer"}})");
    const bool is_tags = calls["shape"] == "tags";
    const auto accepts = [&](const std::string& x) {
      const std::string answer =
          is_tags ? "<call><function=f><parameter=a>\n{\"$ref\": \"#/b\"}</parameter>"
                    "<parameter=x>\n" +
                        x + "</parameter></function></call>"
                  : "[f(a={\"$ref\": \"#/b\"}, x=" + x + ")]";
      return Accepted(*Matcher(GrammarKind::kToolCalls, calls.dump()), answer) == answer.size();
    };
    EXPECT_TRUE(accepts("7"));
    EXPECT_FALSE(accepts("[]"));
  }
}

TEST_F(GrammarCallsTest, AnAnswerThatBeginsAsAListOfCallsIsOne) {
  auto calls = ShapedCalls("python");
  calls["required"] = false;
  for (const auto& [text, bytes] : std::vector<std::pair<std::string, size_t>>{
           {"[g-h()]", 7}, {"Words [1]", 9}, {"[1]", 1}, {"{}", 2}}) {
    EXPECT_EQ(Accepted(*Matcher(GrammarKind::kToolCalls, calls.dump()), text), bytes) << text;
  }
}

TEST_F(GrammarCallsTest, AnAnswerWithoutCallsMayHaveASchema) {
  std::mt19937 rng(12);
  Json either = ToolCalls();
  either["required"] = false;
  either["answer"] = {{"type", "boolean"}};
  std::vector<std::string> answers;
  for (int i = 0; i < 60; ++i) {
    answers.push_back(RandomAnswer(*Matcher(GrammarKind::kToolCalls, either.dump()), rng, 4000));
    if (answers.back().front() == '<') CheckCalls(answers.back(), "<call>", "</call>");
  }
  EXPECT_THAT(answers, testing::IsSupersetOf({std::string("true"), std::string("false")}));
}

TEST_F(GrammarCallsTest, ParametersThatCannotBeKeptToAreAnyObjectUnlessTheyAreStrict) {
  Json calls = ToolCalls();
  Json& function = calls["functions"][0];
  function["parameters"] = {{"type", "object"}, {"not", Json::object()}};
  const auto matcher = Matcher(GrammarKind::kToolCalls, calls.dump());
  const std::string call = "<call>{\"name\": \"f\", \"arguments\": {\"any\": [1]}}</call>";
  EXPECT_EQ(Accepted(*matcher, call), call.size());
  // Of several tools only that one.
  Json both = calls;
  both["functions"][1]["parameters"] = {
      {"properties", {{"y", {{"type", "string"}, {"pattern", "a\\b"}}}}}};
  both["functions"][0]["parameters"] = ToolCalls()["functions"][0]["parameters"];
  both["functions"][1]["name"] = "b";
  const auto one = Matcher(GrammarKind::kToolCalls, both.dump());
  const std::string wrong = "<call>{\"name\": \"f\", \"arguments\": {\"any\"";
  EXPECT_LT(Accepted(*one, wrong), wrong.size());
  both["functions"][1]["strict"] = true;
  EXPECT_THAT(Refusal(GrammarKind::kToolCalls, both.dump()),
              testing::AllOf(testing::StartsWith("tools[1]: "), HasSubstr("/properties/y/pattern"),
                             testing::Not(HasSubstr("start:"))));
  function["strict"] = true;
  EXPECT_THAT(Refusal(GrammarKind::kToolCalls, calls.dump()),
              testing::StartsWith("tools[0]: the keyword at /not "));
  function["parameters"] = {{"type", "array"}};
  EXPECT_THAT(Refusal(GrammarKind::kToolCalls, calls.dump()),
              testing::StartsWith("tools[0]: /type"));
}

}  // namespace
}  // namespace holdfast
