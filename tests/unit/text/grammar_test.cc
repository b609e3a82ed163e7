// Grammars over small vocabularies and the default model's.
#include "text/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "config/limits.h"
#include "tests/unit/text/vocabularies.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

const std::vector<std::string>& Controls() {
  static const std::vector<std::string> controls = {"<|end|>", "<|tool|>"};
  return controls;
}
constexpr int32_t kEnd = 0;
constexpr uint64_t kOwner = 0;

class GrammarTest : public testing::Test {
 protected:
  GrammarTest() : tokenizer_(ByteLevelTokenizer(Controls())) {
    // Above the tokenizer's, as models round theirs up.
    vocab_size_ = tokenizer_->vocab_size() + 37;
    const int32_t ends[] = {kEnd};
    // So that what is refused is refused for what it is, also where compiling is slow.
    const CompileLimits limits = {.wait_ms = 600'000};
    auto compiler = GrammarCompiler::Create(*tokenizer_, vocab_size_, ends, limits);
    EXPECT_TRUE(compiler.ok()) << compiler.status();
    compiler_ = *std::move(compiler);
  }

  std::unique_ptr<GrammarMatcher> Matcher(GrammarKind kind, const std::string& text) {
    auto grammar = compiler_->Compile({.kind = kind, .text = text}, kOwner);
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    if (!grammar.ok()) return nullptr;
    auto matcher = (*grammar)->NewMatcher();  // outlives its grammar
    EXPECT_TRUE(matcher.ok()) << matcher.status();
    return *std::move(matcher);
  }

  std::string Refusal(GrammarKind kind, const std::string& text) {
    const auto grammar = compiler_->Compile({.kind = kind, .text = text}, kOwner);
    EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << grammar.status();
    return std::string(grammar.status().message());
  }

  std::vector<int32_t> Allowed(GrammarMatcher& matcher) {
    std::vector<uint32_t> words((static_cast<size_t>(vocab_size_) + 31) / 32, 0xffffffff);
    std::optional<int32_t> only;
    const absl::Status status = matcher.Next(words, only);
    EXPECT_TRUE(status.ok()) << status;
    if (only) return {*only};
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < static_cast<int32_t>(32 * words.size()); ++token) {
      if (words[static_cast<size_t>(token / 32)] >> (token % 32) & 1) allowed.push_back(token);
    }
    return allowed;
  }

  // Draws at random until an end token; what the tokens before it spell.
  std::string RandomAnswer(GrammarMatcher& matcher, std::mt19937& rng, int tokens_max = 400) {
    std::string text;
    for (int i = 0; i < tokens_max; ++i) {
      const std::vector<int32_t> allowed = Allowed(matcher);
      EXPECT_FALSE(allowed.empty());
      const bool ends = allowed.front() == kEnd && rng() % 2 == 0;
      const int32_t token = ends ? kEnd : allowed[rng() % allowed.size()];
      EXPECT_LT(token, tokenizer_->vocab_size());
      EXPECT_TRUE(matcher.Consume(token).ok());
      if (token == kEnd) return text;
      text += tokenizer_->TokenBytes(token);
    }
    return "(no end) " + text;
  }

  // Feeds `text`, byte by byte where there is a choice; how many bytes were allowed.
  size_t Accepted(GrammarMatcher& matcher, const std::string& text) {
    for (size_t i = 0; i < text.size();) {
      const std::vector<int32_t> allowed = Allowed(matcher);
      const bool is_forced = allowed.size() == 1;
      const int32_t token = is_forced ? allowed.front() : ByteId(Controls(), text[i]);
      const std::string_view bytes = tokenizer_->TokenBytes(token);
      const bool fits = token != kEnd && text.compare(i, bytes.size(), bytes) == 0 &&
                        std::find(allowed.begin(), allowed.end(), token) != allowed.end();
      if (!fits) return i;
      EXPECT_TRUE(matcher.Consume(token).ok());
      i += bytes.size();
    }
    return text.size();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  int32_t vocab_size_ = 0;
  std::unique_ptr<GrammarCompiler> compiler_;
};

TEST_F(GrammarTest, AChoiceIsAnsweredWithOneOfItsStrings) {
  std::mt19937 rng(1);
  const std::vector<std::string> choices = {"yes", "yes, \"but\"", "no", "<|tool|>", "né\n"};
  std::vector<std::string> answers;
  for (int i = 0; i < 200; ++i) {
    answers.push_back(RandomAnswer(*Matcher(GrammarKind::kChoice, Json(choices).dump()), rng));
    EXPECT_THAT(choices, testing::Contains(answers.back()));
  }
  for (const std::string& choice : choices) EXPECT_THAT(answers, testing::Contains(choice));
}

TEST_F(GrammarTest, TextThatSpellsAControlTokenIsNotThatToken) {
  const auto matcher = Matcher(GrammarKind::kChoice, R"(["<|tool|>"])");
  EXPECT_THAT(Allowed(*matcher), testing::Not(testing::Contains(1)));
}

TEST_F(GrammarTest, WhatIsForcedIsOneTokenAtATimeAndThenTheEnd) {
  const auto matcher = Matcher(GrammarKind::kChoice, R"(["only this"])");
  std::string text;
  for (int i = 0; i < 20; ++i) {
    const std::vector<int32_t> allowed = Allowed(*matcher);
    ASSERT_EQ(allowed.size(), 1u);
    EXPECT_EQ(Allowed(*matcher), allowed);  // asked again, the same
    ASSERT_TRUE(matcher->Consume(allowed.front()).ok());
    if (allowed.front() == kEnd) break;
    text += tokenizer_->TokenBytes(allowed.front());
  }
  EXPECT_EQ(text, "only this");
  EXPECT_EQ(Allowed(*matcher), std::vector<int32_t>{kEnd});  // and for ever
}

TEST_F(GrammarTest, ARegexIsMatchedAsAWhole) {
  std::mt19937 rng(2);
  for (int i = 0; i < 50; ++i) {
    const std::string answer =
        RandomAnswer(*Matcher(GrammarKind::kRegex, R"(\([0-9]{3}\) [0-9]{3}-[0-9]{4})"), rng);
    EXPECT_THAT(answer, testing::MatchesRegex(R"(\([0-9]{3}\) [0-9]{3}-[0-9]{4})"));
  }
}

TEST_F(GrammarTest, ALarkGrammarIsKept) {
  std::mt19937 rng(3);
  const std::string grammar = "start: NUM (\"+\" NUM)*\nNUM: /[1-9][0-9]?/\n";
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(RandomAnswer(*Matcher(GrammarKind::kLark, grammar), rng),
                testing::MatchesRegex(R"([1-9][0-9]?(\+[1-9][0-9]?)*)"));
  }
}

constexpr char kPerson[] = R"({
  "type": "object",
  "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 8},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    "not": {"type": "null"}
  },
  "required": ["name", "age", "tags"],
  "additionalProperties": false})";

TEST_F(GrammarTest, EveryAnswerUnderASchemaIsJsonOfThatSchema) {
  std::mt19937 rng(4);
  for (int i = 0; i < 100; ++i) {
    const std::string answer = RandomAnswer(*Matcher(GrammarKind::kJsonSchema, kPerson), rng);
    const Json json = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(json.is_object()) << answer;
    ASSERT_TRUE(json.at("name").is_string()) << answer;
    ASSERT_GE(json.at("age").get<int>(), 0);
    ASSERT_LE(json.at("age").get<int>(), 150);
    ASSERT_LE(json.at("tags").size(), 3u);
    for (const auto& [name, value] : json.items()) {
      ASSERT_THAT(name, testing::AnyOf("name", "age", "tags", "not"));
    }
  }
}

TEST_F(GrammarTest, WhiteSpaceBetweenValuesComesToAnEnd) {
  const auto matcher = Matcher(GrammarKind::kJsonSchema, kPerson);
  ASSERT_TRUE(matcher->Consume(ByteId(Controls(), '{')).ok());
  int count = 0;
  for (; count < 200; ++count) {
    const std::vector<int32_t> allowed = Allowed(*matcher);
    const auto is_blank = [&](int32_t token) {
      const std::string_view bytes = tokenizer_->TokenBytes(token);
      return token != kEnd && bytes.find_first_not_of(" \n\r\t") == std::string_view::npos;
    };
    const auto blank = std::find_if(allowed.begin(), allowed.end(), is_blank);
    if (blank == allowed.end()) break;
    ASSERT_TRUE(matcher->Consume(*blank).ok());
  }
  EXPECT_LT(count, 60);
}

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

TEST_F(GrammarTest, RequiredCallsAreOfTheFunctionsAndNothingElse) {
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

TEST_F(GrammarTest, AfterFreeTextWhatOpensACallCanOnlyBecomeOne) {
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
TEST_F(GrammarTest, FreeTextBeforeACallAllowsWhatAGrammarOfItWould) {
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

TEST_F(GrammarTest, AMarkThatIsAControlTokenIsThatToken) {
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

TEST_F(GrammarTest, ACallMayBeItsNameAMarkAndItsArguments) {
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

TEST_F(GrammarTest, WithoutAnOpeningAnAnswerThatBeginsAsACallIsOne) {
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

TEST_F(GrammarTest, BetweenTagsTextIsBareAndAllElseIsJson) {
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

TEST_F(GrammarTest, InPythonArgumentsAreJsonButForTheWordsThatAreValues) {
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

TEST_F(GrammarTest, WhatAShapeCannotBeHeldToIsRefusedWhereItIsStrictAndElseFree) {
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

TEST_F(GrammarTest, DefinitionsAreWrittenWhereTheyAreNeededAndUpToABound) {
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

TEST_F(GrammarTest, AParameterThatIsOnlyRequiredIsOneAsTheAdditionalOnesAre) {
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

TEST_F(GrammarTest, AnAnswerThatBeginsAsAListOfCallsIsOne) {
  auto calls = ShapedCalls("python");
  calls["required"] = false;
  for (const auto& [text, bytes] : std::vector<std::pair<std::string, size_t>>{
           {"[g-h()]", 7}, {"Words [1]", 9}, {"[1]", 1}, {"{}", 2}}) {
    EXPECT_EQ(Accepted(*Matcher(GrammarKind::kToolCalls, calls.dump()), text), bytes) << text;
  }
}

TEST_F(GrammarTest, AnAnswerWithoutCallsMayHaveASchema) {
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

TEST_F(GrammarTest, ParametersThatCannotBeKeptToAreAnyObjectUnlessTheyAreStrict) {
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

TEST_F(GrammarTest, AKeywordThatIsNotSupportedIsNamedWithItsPlace) {
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema,
                      R"({"properties": {"not": {"type": "object", "properties": {"a/b":
                          {"not": {}}}}}, "enum": [{"not": 1}]})"),
              HasSubstr("/properties/not/properties/a~1b/not"));
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema,
                      R"({"items": {"$ref": "#/$defs/d"}, "$defs": {"d": {"uniqueItems": true,
                          "minItems": 2, "items": {"type": "string"}}}})"),
              HasSubstr("/$defs/d/uniqueItems"));
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, R"({"properties": {"a": {"anyOf": {}}}})"),
              HasSubstr("/properties/a/anyOf must be of type array"));
}

struct Narrowed {
  const char* keyword;
  const char* schema;
  std::vector<std::string> answers;  // some that there can be
  std::vector<std::string> others;   // invalid, or given up (said so)
};

// What is wrong by the standard is never an answer. What is given up is told in
// docs/structured_output.md.
const std::vector<Narrowed>& NarrowedSchemas() {
  static const std::vector<Narrowed> schemas = {
      {"not", R"({"not": {"type": ["object", "string"]}})", {"1", "[]"}, {"{}", "\"a\""}},
      {"not",
       R"({"type": "string", "not": {"enum": ["ab", "ac"]}})",
       {"\"\"", "\"a\"", "\"ad\"", "\"abc\""},
       {"\"ab\"", "\"ac\""}},
      {"not",
       R"({"type": "object", "properties": {"a": {}, "b": {}}, "additionalProperties": false,
                  "not": {"required": ["a", "b"]}})",
       {"{}", R"({"a":1})", R"({"b":1})"},
       {R"({"a":1,"b":1})"}},
      {"not", R"({"type": "integer", "not": {"minimum": 5}})", {"4", "-7"}, {"5", "60"}},
      {"not",
       R"({"type": "string", "not": {"pattern": "^-"}})",
       {"\"a-\"", "\"\""},
       {"\"-\"", "\"-a\""}},
      {"if",
       R"({"type": "object", "properties": {"k": {"enum": ["a", "b"]}, "v": {}},
                 "required": ["k", "v"], "additionalProperties": false,
                 "if": {"properties": {"k": {"const": "a"}}},
                 "then": {"properties": {"v": {"type": "null"}}},
                 "else": {"properties": {"v": {"type": "boolean"}}}})",
       {R"({"k":"a","v":null})", R"({"k":"b","v":true})"},
       {R"({"k":"a","v":true})", R"({"k":"b","v":null})"}},
      {"dependentRequired",
       R"({"type": "object", "properties": {"a": {}, "b": {}},
                                "dependentRequired": {"a": ["b"]}, "additionalProperties": false})",
       {"{}", R"({"b":1})", R"({"a":1,"b":1})"},
       {R"({"a":1})"}},
      {"dependencies",
       R"({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
                           "properties": {"a": {}, "b": {"type": "integer"}},
                           "dependencies": {"a": {"properties": {"b": {"const": 1}}}}})",
       {R"({"b":2})", R"({"a":0,"b":1})"},
       {R"({"a":0,"b":2})"}},
      {"oneOf, told apart",
       R"({"oneOf": [
           {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
           {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"]}]})",
       {R"({"k":"a"})", R"({"k":"b"})"},
       {"{}", R"({"k":"c"})"}},
      {"oneOf, made apart",
       R"({"type": "object", "properties": {"a": {}, "b": {}},
                                "additionalProperties": false,
                                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]})",
       {R"({"a":1})", R"({"b":1})"},
       {"{}", R"({"a":1,"b":1})"}},
      {"oneOf of values",
       R"({"oneOf": [{"enum": [1, 2, 3]}, {"type": "integer", "minimum": 3}]})",
       {"1", "2", "4"},
       {"3", "0"}},
      {"uniqueItems of values",
       R"({"items": {"enum": ["a", "b", "c"]}, "uniqueItems": true,
                                    "type": "array"})",
       {"[]", R"(["a"])", R"(["a","c"])", R"(["a","b","c"])"},
       {R"(["a","a"])", R"(["c","a"])" /* given up: the order */}},
      {"uniqueItems of others",
       R"({"type": "array", "items": {"type": "string"},
                                    "uniqueItems": true})",
       {"[]", R"(["a"])"},
       {R"(["a","a"])", R"(["a","b"])" /* given up: more than one */}},
      {"contains",
       R"({"type": "array", "contains": {"type": "null"}})",
       {"[null]", "[null,1]"},
       {"[]", "[1]", "[1,null]" /* given up: the place */}},
      {"maxContains",
       R"({"type": "array", "contains": {"type": "null"}, "maxContains": 1})",
       {"[null]", "[null,1]"},
       {"[]", "[null,null]"}},
      {"propertyNames",
       R"({"type": "object", "propertyNames": {"pattern": "^x"}})",
       {"{}", R"({"x1":1})"},
       {R"({"a":1})"}},
      {"propertyNames",
       R"({"type": "object", "propertyNames": {"enum": ["a", "b"]},
                            "additionalProperties": {"type": "integer"}})",
       {"{}", R"({"a":1})"},
       {R"({"c":1})", R"({"a":"x"})"}},
      {"minProperties",
       R"({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1,
                            "additionalProperties": false})",
       {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":1})"},
       {"{}"}},
      {"maxProperties",
       R"({"type": "object", "properties": {"a": {}, "b": {}, "c": {}},
                            "maxProperties": 2})",
       {"{}", R"({"a":1,"b":1})", R"({"b":1,"c":1})"},
       {R"({"a":1,"b":1,"c":1})"}},
      {"unevaluatedProperties",
       R"({"type": "object", "allOf": [{"properties": {"a": {}}}],
                                    "properties": {"b": {}}, "unevaluatedProperties": false})",
       {"{}", R"({"b":1,"a":1})"},
       {R"({"c":1})"}},
      {"patternProperties that overlap",
       R"({"type": "object", "additionalProperties": false,
           "patternProperties": {"^a": {"type": "integer"}, "b$": {"minimum": 5}}})",
       {R"({"ab":7})"},
       {R"({"ab":1})", R"({"ab":"x"})", R"({"b":7})" /* given up */}},
      {"a pattern that looks ahead",
       R"({"type": "string", "pattern": "^(?!@@)[@a]+$"})",
       {"\"@\"", "\"a@@\"", "\"@a\""},
       {"\"@@\"", "\"@@a\"", "\"\""}},
      {"a format that is not known", R"({"type": "string", "format": "none"})", {"\"a\""}, {"1"}},
      {"draft 4",
       R"({"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer",
                      "minimum": 1, "exclusiveMinimum": true})",
       {"2"},
       {"1"}},
      {"a reference beside others",
       R"({"$ref": "#/$defs/n", "maximum": 3,
                                        "$defs": {"n": {"type": "integer", "minimum": 1}}})",
       {"1", "3"},
       {"0", "4"}},
      {"a reference to an identifier",
       R"({"items": {"$ref": "n.json"}, "type": "array",
           "$id": "https://example.com/s.json",
           "$defs": {"n": {"$id": "n.json", "type": "integer"}}})",
       {"[]", "[1]"},
       {R"(["a"])"}},
      {"a reference to itself beside others",
       R"({"type": "object", "additionalProperties": false,
           "properties": {"a": {"$ref": "#", "minProperties": 1}}})",
       {"{}"},
       {R"({"a":{}})"}},
  };
  return schemas;
}

TEST_F(GrammarTest, WhatIsNarrowedLeavesAnswersAndNoneThatIsInvalid) {
  const auto can_be = [&](const char* schema, const std::string& answer) {
    const auto matcher = Matcher(GrammarKind::kJsonSchema, schema);
    if (matcher == nullptr || Accepted(*matcher, answer) != answer.size()) return false;
    return testing::Value(Allowed(*matcher), testing::Contains(kEnd));
  };
  for (const Narrowed& narrowed : NarrowedSchemas()) {
    SCOPED_TRACE(narrowed.keyword);
    for (const std::string& answer : narrowed.answers) {
      EXPECT_TRUE(can_be(narrowed.schema, answer)) << answer;
    }
    for (const std::string& answer : narrowed.others) {
      EXPECT_FALSE(can_be(narrowed.schema, answer)) << answer;
    }
  }
}

// llama.cpp's own for JSON, a little shorter, and one that is regular.
constexpr char kGbnfJson[] = R"(# JSON
root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
)";
constexpr char kGbnfTime[] = R"(root ::= hour-of-day ":" [0-5] [0-9]   # as in "07:30"
hour-of-day ::= [01] [0-9] |
  "2" [0-3])";

TEST_F(GrammarTest, AGbnfGrammarIsKept) {
  std::mt19937 rng(11);
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(RandomAnswer(*Matcher(GrammarKind::kLark, kGbnfTime), rng),
                testing::MatchesRegex("([01][0-9]|2[0-3]):[0-5][0-9]"));
  }
  for (const std::string answer : {R"({})", R"({"a":[1,-2.5,"x\u00e9"],"b":{"c":null}})"}) {
    const auto matcher = Matcher(GrammarKind::kLark, kGbnfJson);
    ASSERT_NE(matcher, nullptr);
    EXPECT_EQ(Accepted(*matcher, answer), answer.size()) << answer;
    EXPECT_THAT(Allowed(*matcher), testing::Contains(kEnd));
  }
  for (const auto& [answer, fits] :
       {std::pair<std::string, size_t>{"[]", 0}, {R"({"a":01})", 6}, {R"({"a" "b")", 5}}) {
    const auto matcher = Matcher(GrammarKind::kLark, kGbnfJson);
    EXPECT_EQ(Accepted(*matcher, answer), fits) << answer;
  }
}

TEST_F(GrammarTest, WhatIsWrongInAGbnfGrammarIsNamedWithLineAndColumn) {
  const auto refusal = [&](const char* grammar) { return Refusal(GrammarKind::kLark, grammar); };
  EXPECT_THAT(refusal("root ::= \"a\"\nb ::= [a"), HasSubstr("line 2, column 9: wanted ']'"));
  EXPECT_THAT(refusal("root ::= (\"a\""), HasSubstr("line 1, column 14: wanted ')'"));
  EXPECT_THAT(refusal("root ::= a\n  missing"),
              HasSubstr("the rule 'a' is used at line 1, column 10 and defined nowhere"));
  EXPECT_THAT(refusal("start ::= \"a\""), HasSubstr("no rule 'root'"));
  EXPECT_THAT(refusal("root ::= \"a\\q\""), HasSubstr("line 1, column 13: wanted an escape"));
  EXPECT_THAT(refusal("root ::= \"a\"\nroot ::= \"b\""), HasSubstr("line 2, column 1"));
  EXPECT_THAT(refusal("root ::= root"), testing::Not(testing::IsEmpty()));
}

Json Tags(const char* more = "{}") {
  Json tags = Json::parse(R"({"at_least_one": false, "stop_after_first": false,
      "triggers": ["<f=", "<tag>"], "tags": [
      {"begin": "<f=a>", "end": "</f>", "place": "structures[0]",
       "schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"],
                  "additionalProperties": false}},
      {"begin": "<f=b>", "end": "</f>", "place": "structures[1]", "schema": {"type": "boolean"}},
      {"begin": "<tag>", "end": "", "place": "structures[2]", "schema": {"type": "null"}}]})");
  tags.update(Json::parse(more));
  return tags;
}

TEST_F(GrammarTest, ATriggerBeginsATagWhoseContentIsHeldToItsSchema) {
  const auto accepted = [&](const Json& tags, const std::string& answer) {
    const auto matcher = Matcher(GrammarKind::kStructuralTags, tags.dump());
    return matcher == nullptr ? 0 : Accepted(*matcher, answer);
  };
  const auto ends = [&](const Json& tags, const std::string& answer) {
    const auto matcher = Matcher(GrammarKind::kStructuralTags, tags.dump());
    if (matcher == nullptr || Accepted(*matcher, answer) != answer.size()) return false;
    return testing::Value(Allowed(*matcher), testing::Contains(kEnd));
  };
  EXPECT_TRUE(ends(Tags(), ""));
  EXPECT_TRUE(ends(Tags(), "words, {\"x\": 1} <f, f=a> and </f>"));
  EXPECT_TRUE(ends(Tags(), "one <f=a>{\"x\":1}</f> two <f=b>true</f><tag>null three"));
  EXPECT_FALSE(ends(Tags(), "one <f=a>"));
  EXPECT_FALSE(ends(Tags(), "one <f=a>{\"x\":1}"));
  EXPECT_EQ(accepted(Tags(), "one <f=c>"), 7u);
  EXPECT_EQ(accepted(Tags(), "<f=a>{\"y\""), 7u);
  EXPECT_EQ(accepted(Tags(), "<f=b>true</f><f=b>7"), 18u);
  const Json first = Tags(R"({"at_least_one": true})");
  EXPECT_EQ(accepted(first, "one"), 0u);
  EXPECT_TRUE(ends(first, "<tag>null and <f=b>false</f>."));
  const Json one = Tags(R"({"stop_after_first": true})");
  EXPECT_TRUE(ends(one, "one"));
  EXPECT_TRUE(ends(one, "one <tag>null"));
  EXPECT_EQ(accepted(one, "one <tag>null<"), 13u);
}

TEST_F(GrammarTest, ATagWithoutATriggerOrWithASchemaThatCannotBeKeptIsNamed) {
  EXPECT_THAT(Refusal(GrammarKind::kStructuralTags, Tags(R"({"triggers": ["<f="]})").dump()),
              testing::AllOf(testing::StartsWith("structures[2].begin"), HasSubstr("<tag>")));
  Json tags = Tags();
  tags["tags"][1]["schema"] = {{"not", Json::object()}};
  EXPECT_THAT(Refusal(GrammarKind::kStructuralTags, tags.dump()),
              testing::StartsWith("structures[1].schema: the keyword at /not"));
}

TEST_F(GrammarTest, ATriggerThatIsAControlTokenIsThatToken) {
  Json tags = Tags(R"({"triggers": ["<|tool|>"]})");
  tags["tags"] = Json::array({tags["tags"][1]});
  tags["tags"][0]["begin"] = "<|tool|>b:";
  const auto matcher = Matcher(GrammarKind::kStructuralTags, tags.dump());
  ASSERT_NE(matcher, nullptr);
  EXPECT_EQ(Accepted(*matcher, "word"), 4u);
  EXPECT_THAT(Allowed(*matcher), testing::Contains(1));
  ASSERT_TRUE(matcher->Consume(1).ok());
  EXPECT_EQ(Accepted(*matcher, "b:true</f>"), 10u);
}

TEST_F(GrammarTest, ASchemaThatGrowsAsItIsPreparedIsRefusedInTime) {
  Json schema = {{"$ref", "#/$defs/d0"}};
  for (int i = 0; i < 8; ++i) {
    Json& properties = schema["$defs"]["d" + std::to_string(i)]["properties"];
    for (int j = 0; j < 8; ++j) {
      properties["p" + std::to_string(j)] = {{"$ref", "#/$defs/d" + std::to_string(j)},
                                             {"minProperties", 1}};
    }
  }
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, schema.dump()), HasSubstr("too long"));
}

TEST_F(GrammarTest, ANameThatIsSpelledOtherwiseIsNoOtherName) {
  const auto matcher = Matcher(GrammarKind::kJsonSchema,
                               R"({"type": "object", "properties": {"foo": {"type": "integer"}}})");
  EXPECT_LT(Accepted(*matcher, R"({"f\u006fo":"x")"), 6u);
}

TEST_F(GrammarTest, ControlCharactersThatCannotBeWrittenAreNotLeftOut) {
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, R"({"const": "a\u0001b"})"), HasSubstr("/const"));
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, R"({"pattern": "^a\\x01b$"})"),
              HasSubstr("/pattern"));
}

TEST_F(GrammarTest, TheGrammarLibrarysOwnSettingsAreNotTheCallers) {
  EXPECT_THAT(
      Refusal(GrammarKind::kLark, R"(start: %json {"x-guidance": {"lenient": true}, "not": {}})"),
      HasSubstr("x-guidance"));
}

TEST_F(GrammarTest, NumbersThatJsonDoesNotKeepExactlyAreRefusedWithTheirPlace) {
  for (const char* const number : {"9007199254740992", "-9223372036854775808", "-2e19", "1e300",
                                   "123456789012345678901234567890"}) {
    EXPECT_THAT(Refusal(GrammarKind::kJsonSchema,
                        std::string(R"({"$ref": "#/odd/place", "odd": {"place": {"minimum": )") +
                            number + "}}}"),
                HasSubstr("/odd/place/minimum"));
  }
}

TEST_F(GrammarTest, MorePropertiesThanAreRequiredCannotBeCounted) {
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema,
                      R"({"patternProperties": {"^a$": {}}, "minProperties": 3})"),
              HasSubstr("/minProperties"));
  EXPECT_NE(Matcher(GrammarKind::kJsonSchema, R"({"type": "object", "minProperties": 1})"),
            nullptr);
}

TEST_F(GrammarTest, LongChainsOfReferencesDoNotFillTheStack) {
  std::string defs, rules = "start: r0\n";
  for (int i = 0; i < 2500; ++i) {
    defs +=
        "\"a" + std::to_string(i) + R"(": {"$ref": "#/$defs/a)" + std::to_string(i + 1) + "\"},";
  }
  for (int i = 0; i < 600; ++i) {
    rules += "r" + std::to_string(i) + ": r" + std::to_string(i + 1) + "\n";
  }
  EXPECT_NE(Matcher(GrammarKind::kJsonSchema, R"({"$ref": "#/$defs/a0", "$defs": {)" + defs +
                                                  R"("a2500": {"type": "null"}}})"),
            nullptr);
  EXPECT_NE(Matcher(GrammarKind::kLark, rules + "r600: \"x\"\n"), nullptr);
}

TEST_F(GrammarTest, ThousandsOfChoicesAreTaken) {
  Json choices = Json::array();
  for (int i = 0; i < 4096; ++i) choices.push_back("choice " + std::to_string(i));
  std::mt19937 rng(8);
  EXPECT_THAT(RandomAnswer(*Matcher(GrammarKind::kChoice, choices.dump()), rng),
              testing::StartsWith("choice "));
}

TEST_F(GrammarTest, WhatIsNoGrammarIsRefusedWithAReason) {
  EXPECT_NE(Refusal(GrammarKind::kJsonSchema, "{"), "");
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, "[]"), HasSubstr("must be an object"));
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, R"({"type": "strange"})"), HasSubstr("strange"));
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, R"({"$ref": "https://example.com/s.json"})"),
              testing::Not(testing::IsEmpty()));
  EXPECT_NE(Refusal(GrammarKind::kRegex, "("), "");
  EXPECT_NE(Refusal(GrammarKind::kRegex, "a(?=b)"), "");
  EXPECT_NE(Refusal(GrammarKind::kChoice, "[]"), "");
  EXPECT_NE(Refusal(GrammarKind::kChoice, R"(["a", ""])"), "");
  EXPECT_NE(Refusal(GrammarKind::kLark, "start: missing"), "");
  EXPECT_NE(Refusal(GrammarKind::kLark, ""), "");
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema, R"({"$ref": "#"})"), HasSubstr("no answer"));
  EXPECT_NE(Refusal(GrammarKind::kJsonSchema, R"({"type": "object", "required": ")" +
                                                  std::string(99, 'x') + "\u00e9\u00e9\"}"),
            "");
}

TEST_F(GrammarTest, WhatWouldExhaustTheProcessIsRefused) {
  const std::string deep(100'000, '(');
  EXPECT_THAT(Refusal(GrammarKind::kLark, "start: " + deep.substr(0, 5000)), HasSubstr("nested"));
  EXPECT_THAT(Refusal(GrammarKind::kRegex, deep), HasSubstr("100000 bytes"));
  EXPECT_LT(Refusal(GrammarKind::kRegex, std::string(2000, '(')).size(), 400u);
  EXPECT_THAT(Refusal(GrammarKind::kRegex, "((((a{1000}){1000}){1000}){1000})"),
              HasSubstr("forces more than"));
  std::string schema;
  for (int i = 0; i < 10'000; ++i) schema += R"({"items":)";
  EXPECT_NE(Refusal(GrammarKind::kJsonSchema, schema), "");
}

// How those left behind are counted: compile_thread.rs.
TEST_F(GrammarTest, WhatIsNotCompiledInTimeIsRefusedAndWithoutRoomNothingIsBegun) {
  const auto refusal = [this](const CompileLimits& limits) {
    const int32_t ends[] = {kEnd};
    const auto compiler = GrammarCompiler::Create(*tokenizer_, vocab_size_, ends, limits);
    EXPECT_TRUE(compiler.ok()) << compiler.status();
    return (*compiler)->Compile({.kind = GrammarKind::kRegex, .text = "a"}, kOwner).status();
  };
  const absl::Status late = refusal({.wait_ms = 0});
  EXPECT_EQ(late.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(late.message()), HasSubstr("longer than 0 s to compile"));
  const absl::Status of_owner = refusal({.left_behind_per_owner = 0});
  EXPECT_EQ(of_owner.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(of_owner.message()), HasSubstr("0 grammars of yours"));
  const absl::Status of_all = refusal({.left_behind = 0});
  EXPECT_EQ(of_all.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(of_all.message()), HasSubstr("0 grammars that took longer than 3 s"));
}

TEST_F(GrammarTest, DefaultLimitsAreTheConfiguredOnes) {
  EXPECT_EQ(CompileLimits{}.wait_ms, kGrammarCompileMsMax);
  EXPECT_EQ(CompileLimits{}.left_behind_per_owner, kGrammarsLeftBehindPerTenant);
  EXPECT_EQ(CompileLimits{}.left_behind, kGrammarsLeftBehindMax);
}

TEST_F(GrammarTest, ATokenThatIsNotAllowedIsAnErrorAndStaysOne) {
  const auto matcher = Matcher(GrammarKind::kChoice, R"(["ab", "ac"])");
  EXPECT_FALSE(matcher->Consume(ByteId(Controls(), 'x')).ok());
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size_) + 31) / 32);
  std::optional<int32_t> only;
  EXPECT_EQ(matcher->Next(words, only).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GrammarTest, MatchersOfOneGrammarGoTheirOwnWaysOnManyThreads) {
  auto grammar = compiler_->Compile({.kind = GrammarKind::kJsonSchema, .text = kPerson}, kOwner);
  ASSERT_TRUE(grammar.ok());
  std::mt19937 rng(7);
  const std::string alone = RandomAnswer(**(*grammar)->NewMatcher(), rng);
  std::vector<std::thread> threads;
  std::vector<std::string> answers(4);
  for (std::string& answer : answers) {
    threads.emplace_back([&] {
      std::mt19937 same(7);
      answer = RandomAnswer(**(*grammar)->NewMatcher(), same);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(answers, testing::Each(alone));
}

TEST_F(GrammarTest, EndTokensOutsideTheVocabularyAreRefused) {
  const int32_t ends[] = {vocab_size_};
  EXPECT_FALSE(GrammarCompiler::Create(*tokenizer_, vocab_size_, ends).ok());
  EXPECT_FALSE(GrammarCompiler::Create(*tokenizer_, vocab_size_, {}).ok());
}

}  // namespace
}  // namespace holdfast
