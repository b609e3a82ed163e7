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
#include "tests/unit/text/grammar_fixture.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

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
      {"uniqueItems of integers of a small range",
       R"({"type": "array", "items": {"type": "integer", "minimum": 0.5, "exclusiveMaximum": 4},
           "uniqueItems": true, "minItems": 2})",
       {"[1,3]", "[1,2,3]"},
       {"[1]", "[1,1]", "[3,4]", "[3,1]" /* given up: the order */}},
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
  std::vector<int32_t> forced;
  EXPECT_EQ(matcher->Next(words, forced).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GrammarTest, WhatIsForcedBehindATokenIsForcedOnceThatOneIsThere) {
  const auto matcher = Matcher(GrammarKind::kJsonSchema, kPerson);
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size_) + 31) / 32);
  std::vector<int32_t> known, forced;
  size_t longest = 0;
  std::mt19937 rng(4);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(matcher->Next(words, forced).ok());
    if (!known.empty()) {
      ASSERT_EQ(forced, known);
    }
    longest = std::max(longest, forced.size());
    const std::vector<int32_t> allowed = Allowed(*matcher);
    const int32_t token = allowed[rng() % allowed.size()];
    if (token == kEnd) break;
    ASSERT_TRUE(matcher->Consume(token).ok());
    known = forced;
    if (!known.empty()) known.erase(known.begin());
  }
  EXPECT_GT(longest, 3u);
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
