// Turns that are known by how the last one ended.
#include "scheduler/turn_ends.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1};
absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

ReuseScope ScopeOf(uint8_t mark) {
  ReuseScope scope{};
  scope.front() = mark;
  return scope;
}

std::vector<TokenId> Line(size_t count, TokenId from) {
  std::vector<TokenId> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(from + static_cast<TokenId>(i));
  return tokens;
}

std::vector<TokenId> operator+(std::vector<TokenId> first, const std::vector<TokenId>& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

class TurnEndsTest : public testing::Test {
 protected:
  // The turn that asks `prompt` and hears `said`; what program it is found to be of.
  std::string Turn(const std::vector<TokenId>& prompt, const std::vector<TokenId>& said,
                   const std::string& session = "", TenantIndex tenant = kA, uint8_t scope = 0) {
    const std::string found = Find(prompt, tenant, scope);
    const std::string goes_as = session.empty() ? found : session;
    TurnEnds::End end{.session = goes_as == "first" ? "later" : goes_as};
    if (goes_as.empty()) end.first = FirstTurn{.arrival = next_};
    ends_.Add(tenant, ScopeOf(scope), prompt + said, static_cast<int32_t>(prompt.size()), key_,
              RequestId{next_++}, std::move(end), At(0));
    ends_.CheckInvariants();
    return found;
  }
  // "": of none; "first": of one that had one turn so far; else its session.
  std::string Find(const std::vector<TokenId>& prompt, TenantIndex tenant = kA, uint8_t scope = 0,
                   double at = 0) {
    last_ = ends_.Take(tenant, ScopeOf(scope), prompt, At(at), key_);
    ends_.CheckInvariants();
    if (!last_) return "";
    return last_->first ? "first" : last_->session;
  }

  TurnEnds ends_{Xxh3BlockKeys(), 2};
  TurnEnds::PromptKey key_;
  std::optional<TurnEnds::End> last_;
  uint64_t next_ = 1;
};

TEST_F(TurnEndsTest, APromptThatGoesOnFromATurnsEndIsOfItsProgram) {
  for (size_t prompt_size = 16; prompt_size < 60; ++prompt_size) {
    for (const size_t said : {1u, 2u, 15u, 16u, 17u, 40u}) {
      SCOPED_TRACE(testing::Message() << prompt_size << " and " << said);
      const std::vector<TokenId> prompt = Line(prompt_size, 1), answer = Line(said, 500);
      EXPECT_EQ(Turn(prompt, answer), "");
      EXPECT_EQ(Find(prompt + answer + Line(5, 900)), "first");
      EXPECT_EQ(Find(prompt + answer + Line(5, 900)), "") << "it is continued once";
    }
  }
}

TEST_F(TurnEndsTest, WhatAgentsShareProvesNothing) {
  const std::vector<TokenId> system = Line(64, 1);
  Turn(system + Line(10, 300), Line(20, 500));
  EXPECT_EQ(Find(system + Line(10, 400)), "") << "the same system prompt";
  EXPECT_EQ(Find(system + Line(10, 300)), "") << "the same prompt";
  EXPECT_EQ(Find(system + Line(10, 300) + Line(20, 600)), "") << "another answer";
  EXPECT_EQ(Find(system + Line(10, 300) + Line(8, 500) + Line(20, 700)), "")
      << "an answer that only begins alike";
  EXPECT_EQ(Find(system + Line(10, 300) + Line(20, 500)), "first");
}

TEST_F(TurnEndsTest, AnAnswerThatIsRewrittenBeyondItsBeginningIsKnownStill) {
  const std::vector<TokenId> prompt = Line(40, 1);
  Turn(prompt, Line(100, 500));
  EXPECT_EQ(Find(prompt + Line(16, 500) + Line(50, 900)), "first");
}

TEST_F(TurnEndsTest, NeverAcrossTenantsOrScopes) {
  const std::vector<TokenId> prompt = Line(40, 1), answer = Line(20, 500);
  Turn(prompt, answer);
  EXPECT_EQ(Find(prompt + answer, kB), "");
  EXPECT_EQ(Find(prompt + answer, kA, 1), "");
  EXPECT_EQ(Find(prompt + answer), "first");
}

// As weak as keys can be: all blocks have one.
TEST_F(TurnEndsTest, ScopesAreComparedAndNotOnlyHashed) {
  const BlockKeyFunctions weak = {.root =
                                      [](const ReuseScope&) {
                                        return BlockKey{1, 1};
                                      },
                                  .next =
                                      [](const BlockKey&, BlockTokens) {
                                        return BlockKey{1, 1};
                                      }};
  TurnEnds ends(weak, 1);
  const std::vector<TokenId> tokens = Line(48, 1);
  TurnEnds::PromptKey key;
  EXPECT_FALSE(ends.Take(kA, ScopeOf(0), tokens, At(0), key));
  ends.Add(kA, ScopeOf(0), tokens + Line(16, 1), 48, key, RequestId{1}, {.session = "s"}, At(0));
  EXPECT_FALSE(ends.Take(kA, ScopeOf(1), tokens + Line(16, 1), At(0), key));
  EXPECT_TRUE(ends.Take(kA, ScopeOf(0), tokens + Line(16, 1), At(0), key));
}

TEST_F(TurnEndsTest, OfAForkTheFirstGoesOnAndTheOtherIsItsOwn) {
  const std::vector<TokenId> prompt = Line(40, 1), answer = Line(20, 500);
  Turn(prompt, answer);
  EXPECT_EQ(Turn(prompt + answer + Line(5, 700), Line(20, 800)), "first");
  EXPECT_EQ(Turn(prompt + answer + Line(5, 710), Line(20, 810)), "");
  EXPECT_EQ(Find(prompt + answer + Line(5, 700) + Line(20, 800)), "later");
  EXPECT_EQ(Find(prompt + answer + Line(5, 710) + Line(20, 810)), "first") << "its second turn";
}

TEST_F(TurnEndsTest, AgentsThatSaidTheSameGoOnEachOnce) {
  const std::vector<TokenId> prompt = Line(40, 1), answer = Line(20, 500);
  Turn(prompt, answer);
  Turn(prompt, answer);
  EXPECT_EQ(Find(prompt + answer), "first");
  EXPECT_EQ(last_->first->arrival, 1u) << "the earlier one";
  EXPECT_EQ(Find(prompt + answer), "first");
  EXPECT_EQ(Find(prompt + answer), "");
}

TEST_F(TurnEndsTest, TheLongestOfSeveralIsContinued) {
  const std::vector<TokenId> prompt = Line(40, 1), answer = Line(20, 500);
  Turn(prompt, answer, "short");
  Turn(prompt + answer + Line(30, 700), Line(20, 800), "long");
  EXPECT_EQ(Find(prompt + answer + Line(30, 700) + Line(20, 800) + Line(9, 900)), "long");
}

TEST_F(TurnEndsTest, ATurnWithoutATokenOfItsOwnOrTooShortForABlockIsNotRemembered) {
  Turn(Line(40, 1), {});
  Turn(Line(5, 1), Line(5, 500));
  EXPECT_EQ(ends_.size(kA), 0u);
}

TEST_F(TurnEndsTest, EndsAreForgottenAfterTenMinutesAndTheOldestWhereThereAreMany) {
  const std::vector<TokenId> prompt = Line(40, 1), answer = Line(20, 500);
  Turn(prompt, answer);
  EXPECT_EQ(Find(prompt + answer, kA, 0, 600), "");
  for (size_t i = 0; i < 2 * TurnEnds::kEndsMax; ++i) {
    Turn(Line(20, static_cast<TokenId>(2000 * i)), Line(20, static_cast<TokenId>(2000 * i + 500)));
  }
  EXPECT_EQ(ends_.size(kA), TurnEnds::kEndsMax);
  for (size_t i = 0; i < 2 * TurnEnds::kSameEndsMax; ++i) Turn(prompt, answer);
  EXPECT_EQ(ends_.size(kA), TurnEnds::kEndsMax);
  for (size_t i = 0; i < TurnEnds::kSameEndsMax; ++i) EXPECT_EQ(Find(prompt + answer), "first");
  EXPECT_EQ(Find(prompt + answer), "") << "of one kind there are fewer";
}

TEST_F(TurnEndsTest, AFirstTurnsToolMayBeNamedLater) {
  const std::vector<TokenId> prompt = Line(40, 1), answer = Line(20, 500);
  Turn(prompt, answer);
  ends_.NameTool(RequestId{1}, "ls");
  ends_.NameTool(RequestId{2}, "cat");
  EXPECT_EQ(Find(prompt + answer), "first");
  EXPECT_EQ(last_->first->tool, "ls");
  ends_.NameTool(RequestId{1}, "late");
}

}  // namespace
}  // namespace holdfast
