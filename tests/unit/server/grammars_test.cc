#include "server/grammars.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/request_encoder.h"
#include "tests/unit/server/byte_tokenizer.h"
#include "tests/unit/text/vocabularies.h"

namespace holdfast {
namespace {

constexpr TenantIndex kAnn{0}, kBob{1};

GrammarSource Choice(const std::string& word) {
  return {.kind = GrammarKind::kChoice, .text = "[\"" + word + "\"]"};
}

class GrammarsTest : public testing::Test {
 protected:
  const Grammar* Of(TenantIndex tenant, const GrammarSource& source) {
    auto grammar = grammars_.Of(tenant, source);
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    if (!grammar.ok()) return nullptr;
    seen_.push_back(*grammar);  // so that no other has its address
    return seen_.back().get();
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = ByteLevelTokenizer({"<|end|>"});
  Grammars grammars_{*tokenizer_, tokenizer_->vocab_size(), {0}};
  std::vector<std::shared_ptr<const Grammar>> seen_;
};

TEST_F(GrammarsTest, AGrammarThatWasAskedForIsFoundAgain) {
  const Grammar* const first = Of(kAnn, Choice("a"));
  EXPECT_EQ(Of(kAnn, Choice("a")), first);
  EXPECT_NE(Of(kAnn, Choice("b")), first);
  EXPECT_NE(Of(kAnn, {.kind = GrammarKind::kRegex, .text = Choice("a").text}), first);
}

TEST_F(GrammarsTest, TheOneNotUsedForLongestGoesFirstAndNobodyElses) {
  const Grammar* const bobs = Of(kBob, Choice("a"));
  const Grammar* const first = Of(kAnn, Choice("first"));
  const Grammar* const second = Of(kAnn, Choice("second"));
  for (size_t i = 2; i < kGrammarsPerTenant; ++i) Of(kAnn, Choice(std::to_string(i)));
  EXPECT_EQ(Of(kAnn, Choice("first")), first);
  Of(kAnn, Choice("one more"));
  EXPECT_EQ(Of(kAnn, Choice("first")), first);
  EXPECT_NE(Of(kAnn, Choice("second")), second);
  EXPECT_EQ(Of(kBob, Choice("a")), bobs);
}

TEST_F(GrammarsTest, ManyThreadsMayAskForTheSameAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        EXPECT_TRUE(grammars_.Of(kAnn, Choice(std::to_string(round % 7))).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(GrammarsTest, EachChoiceHasAConstraintOfItsOwn) {
  const Grammar* const grammar = Of(kAnn, Choice("ab"));
  auto one = Grammars::ConstraintOf(*grammar), other = Grammars::ConstraintOf(*grammar);
  ASSERT_TRUE(one.ok() && other.ok()) << one.status() << other.status();
  std::vector<uint32_t> words(4096);
  std::vector<TokenId> first, second;
  ASSERT_TRUE((*one)->Next(words, first).ok());
  ASSERT_FALSE(first.empty());
  ASSERT_TRUE((*one)->Consume(first.front()).ok());
  ASSERT_TRUE((*other)->Next(words, second).ok());  // is still at its beginning
  EXPECT_EQ(second, first);
}

TEST_F(GrammarsTest, WithoutRoomForAnotherThatCompilesACallerMayTryAgainLater) {
  Grammars full(*tokenizer_, tokenizer_->vocab_size(), {0}, {.left_behind_per_owner = 0});
  EXPECT_EQ(full.Of(kAnn, Choice("a")).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GrammarsTest, WhatIsNoGrammarIsRefused) {
  EXPECT_EQ(grammars_.Of(kAnn, {.kind = GrammarKind::kRegex, .text = "("}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(GrammarsOfOtherTokenizersTest, SayThatTheModelCannotBeHeldToOne) {
  const ByteTokenizer tokenizer;
  Grammars grammars(tokenizer, tokenizer.vocab_size(), {ByteTokenizer::kEos});
  const auto grammar = grammars.Of(kAnn, Choice("a"));
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(grammar.status().message()), testing::HasSubstr("served model"));
}

TEST_F(GrammarsTest, AToolThatCannotBeKeptToIsNamedAsTheWireNamesIt) {
  RequestEncoder encoder(
      {.model = {.context_tokens = 10, .vocab_size = tokenizer_->vocab_size()}, .eos_tokens = {0}},
      *tokenizer_, nullptr);
  for (const auto& [names, param] : {std::pair(&kChatNames, "tools[1].function.parameters"),
                                     std::pair(&kResponsesNames, "tools[1].parameters"),
                                     std::pair(&kMessagesNames, "tools[1].input_schema"),
                                     std::pair(&kProtoChatNames, "tools[1].parameters_json")}) {
    GenerationRequest request{.prompt = "a", .names = names};
    request.grammar = AnswerGrammar{.source = {.kind = GrammarKind::kToolCalls,
                                               .text = R"({"open": "<call>", "close": "</call>",
          "is_list": false, "separator": "", "arguments_key": "arguments", "arguments_mark": "",
          "shape": null, "required": true, "parallel": false, "answer": null, "functions": [
          {"name": "f", "strict": true, "place": "tools[0]", "parameters": null},
          {"name": "g", "strict": true, "place": "tools[1]", "parameters": {"not": {}}}]})"},
                                    .param = "tools"};
    const absl::Status status = encoder.Encode(request).status();
    EXPECT_EQ(status.GetPayload(kErrorParamUrl), param);
    EXPECT_TRUE(absl::StartsWith(status.message(), absl::StrCat(param, ": "))) << status;
  }
}

}  // namespace
}  // namespace holdfast
