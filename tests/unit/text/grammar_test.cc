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

class GrammarTest : public testing::Test {
 protected:
  GrammarTest() : tokenizer_(ByteLevelTokenizer(Controls())) {
    // Above the tokenizer's, as models round theirs up.
    vocab_size_ = tokenizer_->vocab_size() + 37;
    const int32_t ends[] = {kEnd};
    auto compiler = GrammarCompiler::Create(*tokenizer_, vocab_size_, ends);
    EXPECT_TRUE(compiler.ok()) << compiler.status();
    compiler_ = *std::move(compiler);
  }

  std::unique_ptr<GrammarMatcher> Matcher(GrammarKind kind, const std::string& text) {
    auto grammar = compiler_->Compile({.kind = kind, .text = text});
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    if (!grammar.ok()) return nullptr;
    auto matcher = (*grammar)->NewMatcher();  // outlives its grammar
    EXPECT_TRUE(matcher.ok()) << matcher.status();
    return *std::move(matcher);
  }

  std::string Refusal(GrammarKind kind, const std::string& text) {
    const auto grammar = compiler_->Compile({.kind = kind, .text = text});
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

TEST_F(GrammarTest, AKeywordThatIsNotSupportedIsNamedWithItsPlace) {
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema,
                      R"({"properties": {"not": {"type": "object", "properties": {"a/b":
                          {"not": {"type": "null"}}}}}, "enum": [{"not": 1}]})"),
              HasSubstr("/properties/not/properties/a~1b/not"));
}

TEST_F(GrammarTest, WhatAnotherDraftWouldTakeForAnAnnotationIsNotPassedOver) {
  EXPECT_THAT(Refusal(GrammarKind::kJsonSchema,
                      R"({"$schema": "http://json-schema.org/draft-04/schema#",
                          "items": {"contains": {"type": "null"}}})"),
              HasSubstr("/items/contains"));
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

TEST_F(GrammarTest, ATokenThatIsNotAllowedIsAnErrorAndStaysOne) {
  const auto matcher = Matcher(GrammarKind::kChoice, R"(["ab", "ac"])");
  EXPECT_FALSE(matcher->Consume(ByteId(Controls(), 'x')).ok());
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size_) + 31) / 32);
  std::optional<int32_t> only;
  EXPECT_EQ(matcher->Next(words, only).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GrammarTest, MatchersOfOneGrammarGoTheirOwnWaysOnManyThreads) {
  auto grammar = compiler_->Compile({.kind = GrammarKind::kJsonSchema, .text = kPerson});
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
