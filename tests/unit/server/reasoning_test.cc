// What a model thinks, told apart from its answer; and answers held to a form behind it.
#include "server/reasoning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/unit/server/byte_tokenizer.h"

namespace holdfast {
namespace {

const ReasoningMarks& Think() { return *ReasoningMarksOf("... <think> ..."); }

struct Parts {
  std::string reasoning, text;
  bool operator==(const Parts&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Parts& parts) {
  return out << '"' << parts.reasoning << "\" | \"" << parts.text << '"';
}

Parts Part(std::string_view answer, bool begun, size_t piece_bytes_max = SIZE_MAX,
           uint32_t seed = 0) {
  std::mt19937 rng(seed);
  ReasoningParser parser(Think(), begun);
  Parts parts;
  while (!answer.empty()) {
    const size_t bytes = 1 + rng() % std::min(answer.size(), piece_bytes_max);
    parser.Append(answer.substr(0, bytes), parts.reasoning, parts.text);
    answer.remove_prefix(bytes);
  }
  parser.Finish(parts.reasoning, parts.text);
  return parts;
}

struct Case {
  bool begun;
  const char* answer;
  Parts parts;
};

const Case kCases[] = {
    {false, "", {"", ""}},
    {false, "Paris.", {"", "Paris."}},
    {false, "  <thin", {"", "  <thin"}},
    {false, " <b>x</b> <think> late", {"", " <b>x</b> <think> late"}},
    {false,
     "<think>\nHm, \n a < b.\n</think>\n\nParis. </think>",
     {"Hm, \n a < b.", "Paris. </think>"}},
    {false, "\n<think></think>x", {"", "x"}},
    {true, "\nSo </thin </think>  \n y", {"So </thin", "y"}},
    {true, "cut off </th", {"cut off </th", ""}},
    {true, "cut off \n ", {"cut off", ""}},
    {true, "</think>", {"", ""}},
};

TEST(ReasoningParserTest, WhatIsThoughtIsToldApartFromTheAnswer) {
  for (const Case& one : kCases) EXPECT_EQ(Part(one.answer, one.begun), one.parts) << one.answer;
}

TEST(ReasoningParserTest, HowTheTextIsCutDoesNotMatter) {
  for (const Case& one : kCases) {
    for (uint32_t seed = 0; seed < 40; ++seed) {
      EXPECT_EQ(Part(one.answer, one.begun, 1 + seed % 9, seed), one.parts) << one.answer;
    }
  }
}

TEST(ReasoningMarksTest, AreToldByTheChatTemplate) {
  EXPECT_EQ(ReasoningMarksOf("<|im_start|>"), nullptr);
  EXPECT_EQ(ReasoningMarksOf("{{ x.split('</think>') }}")->open, "<think>");
  EXPECT_EQ(ReasoningMarksOf("[THINK]")->close, "[/THINK]");
}

TEST(ReasoningMarksTest, APromptMayHaveOpenedIt) {
  const ByteTokenizer tokenizer;
  std::vector<TokenId> prompt;
  ASSERT_TRUE(tokenizer.Encode("a<think>\n", SpecialTokens::kPlain, false, prompt).ok());
  EXPECT_TRUE(EndsWithMark(prompt, "<think>", tokenizer));
  prompt.push_back('x');
  EXPECT_FALSE(EndsWithMark(prompt, "<think>", tokenizer));
  EXPECT_FALSE(EndsWithMark({}, "<think>", tokenizer));
}

// Answers "ab" and ends, byte by byte.
class OnlyAb final : public TokenConstraint {
 public:
  absl::Status Consume(TokenId token) override {
    EXPECT_EQ(token, "ab"[at_]);
    ++at_;
    return absl::OkStatus();
  }
  absl::Status Next(std::span<uint32_t>, std::vector<TokenId>& forced) override {
    forced = {at_ < 2 ? "ab"[at_] : ByteTokenizer::kEos};
    return absl::OkStatus();
  }

 private:
  int at_ = 0;
};

class ReasoningConstraintTest : public testing::Test {
 protected:
  explicit ReasoningConstraintTest(std::vector<std::string> words = {"<think>", "</think>"})
      : tokenizer_(std::move(words)), tokens_(FindReasoningTokens(Think(), tokenizer_)) {}

  std::unique_ptr<TokenConstraint> Make(bool begun, std::optional<int32_t> budget,
                                        bool has_form = true) {
    return MakeReasoningConstraint({.marks = &Think(),
                                    .tokens = &tokens_,
                                    .tokenizer = &tokenizer_,
                                    .ends = kEnds,
                                    .vocab_size = tokenizer_.vocab_size(),
                                    .begun = begun,
                                    .budget = budget},
                                   has_form ? std::make_unique<OnlyAb>() : nullptr);
  }

  std::vector<TokenId> Allowed(TokenConstraint& constraint) const {
    std::vector<uint32_t> words(static_cast<size_t>(tokenizer_.vocab_size() + 31) / 32);
    std::vector<TokenId> forced;
    EXPECT_TRUE(constraint.Next(words, forced).ok());
    if (!forced.empty()) return {forced.front()};
    std::vector<TokenId> allowed;
    for (TokenId token = 0; token < static_cast<TokenId>(32 * words.size()); ++token) {
      if (words[static_cast<size_t>(token) / 32] >> (token % 32) & 1) allowed.push_back(token);
    }
    return allowed;
  }

  std::vector<TokenId> Forced(TokenConstraint& constraint) const {
    std::vector<uint32_t> words(static_cast<size_t>(tokenizer_.vocab_size() + 31) / 32);
    std::vector<TokenId> forced;
    EXPECT_TRUE(constraint.Next(words, forced).ok());
    return forced;
  }

  static constexpr TokenId kEnds[] = {ByteTokenizer::kEos};
  static constexpr TokenId kOpen = ByteTokenizer::kFirstWord, kClose = kOpen + 1;
  const ByteTokenizer tokenizer_;
  const ReasoningTokens tokens_;
};

TEST_F(ReasoningConstraintTest, AnAnswerMayBeginAtOnceOrThinkFirst) {
  const auto at_once = Make(false, std::nullopt), thinks = Make(false, std::nullopt);
  EXPECT_THAT(Allowed(*at_once), testing::UnorderedElementsAre('a', kOpen));
  ASSERT_TRUE(at_once->Consume('a').ok());
  EXPECT_THAT(Allowed(*at_once), testing::ElementsAre('b'));
  ASSERT_TRUE(thinks->Consume(kOpen).ok());
  for (const TokenId token : {'x', 'a', '<'}) {
    const std::vector<TokenId> allowed = Allowed(*thinks);
    EXPECT_EQ(allowed.size(), static_cast<size_t>(tokenizer_.vocab_size()) - 1);
    EXPECT_THAT(allowed, testing::Not(testing::Contains(ByteTokenizer::kEos)));
    ASSERT_TRUE(thinks->Consume(token).ok());
  }
  ASSERT_TRUE(thinks->Consume(kClose).ok());
  EXPECT_THAT(Allowed(*thinks), testing::ElementsAre('a'));
}

TEST_F(ReasoningConstraintTest, ABudgetForcesTheAnswerToBegin) {
  for (const bool has_form : {true, false}) {
    const auto constraint = Make(true, 2, has_form);
    for (int i = 0; i < 2; ++i) {
      EXPECT_GT(Allowed(*constraint).size(), 200u);
      ASSERT_TRUE(constraint->Consume('x').ok());
    }
    EXPECT_THAT(Allowed(*constraint), testing::ElementsAre(kClose));
    ASSERT_TRUE(constraint->Consume(kClose).ok());
    EXPECT_EQ(Allowed(*constraint).size(),
              has_form ? 1u : static_cast<size_t>(tokenizer_.vocab_size()));
  }
}

class SpelledMarksTest : public ReasoningConstraintTest {
 protected:
  SpelledMarksTest() : ReasoningConstraintTest(std::vector<std::string>()) {}
};

TEST_F(SpelledMarksTest, AMarkOfManyTokensIsForcedAsAWholeAndFoundWhereItIsWritten) {
  const auto closes = Make(true, 0);
  const std::string mark = "</think>";
  for (size_t i = 0; i < mark.size(); ++i) {
    EXPECT_THAT(Forced(*closes), testing::ElementsAreArray(mark.substr(i)));
    ASSERT_TRUE(closes->Consume(mark[i]).ok());
  }
  EXPECT_THAT(Allowed(*closes), testing::ElementsAre('a'));
  const auto written = Make(true, std::nullopt);
  for (const char c : std::string("x</thi</think>")) ASSERT_TRUE(written->Consume(c).ok());
  EXPECT_THAT(Allowed(*written), testing::ElementsAre('a'));
}

TEST_F(SpelledMarksTest, ABudgetBindsWhereTheModelSpellsTheFirstMark) {
  const auto constraint = Make(false, 1, /*has_form=*/false);
  for (const char c : std::string("\n<think>x")) ASSERT_TRUE(constraint->Consume(c).ok());
  EXPECT_THAT(Allowed(*constraint), testing::ElementsAre('<'));
}

class LongTokensTest : public ReasoningConstraintTest {
 protected:
  LongTokensTest() : ReasoningConstraintTest({"k></", "k>", "</think>!"}) {}
};

TEST_F(LongTokensTest, NoTokenEndsTheReasoningAndBeginsTheAnswer) {
  const auto constraint = Make(true, std::nullopt);
  EXPECT_THAT(Allowed(*constraint), testing::Not(testing::Contains(kOpen + 2)));
  EXPECT_THAT(Allowed(*constraint), testing::IsSupersetOf({kOpen, kOpen + 1}));
  for (const char c : std::string("</thin")) ASSERT_TRUE(constraint->Consume(c).ok());
  EXPECT_THAT(Allowed(*constraint), testing::Not(testing::Contains(kOpen)));
  ASSERT_TRUE(constraint->Consume(kOpen + 1).ok());
  EXPECT_THAT(Allowed(*constraint), testing::ElementsAre('a'));
}

}  // namespace
}  // namespace holdfast
