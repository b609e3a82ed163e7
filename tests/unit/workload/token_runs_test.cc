#include "workload/token_runs.h"

#include <algorithm>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TokenRuns Make(TokenRuns::Options options) {
  absl::StatusOr<TokenRuns> runs = TokenRuns::Make(options);
  EXPECT_TRUE(runs.ok()) << runs.status();
  return *std::move(runs);
}

TEST(TokenRunsTest, TokensAreTheSameInEveryVersion) {
  // Computed apart from this code, in Python, from the definitions of XXH3 and SplitMix64. A change
  // here changes every recorded simulation.
  const TokenRuns runs = Make({.seed = 7, .vocabulary = 49152, .avoid = {0, 1, 2}});
  std::vector<TokenId> tokens(6);
  runs.Fill(12345, 0, tokens);
  EXPECT_EQ(tokens, (std::vector<TokenId>{21959, 37856, 10812, 44516, 46256, 21465}));
}

TEST(TokenRunsTest, AnyPieceOfARunIsThatPieceOfTheWhole) {
  const TokenRuns runs = Make({.seed = 1, .vocabulary = 1000, .avoid = {5, 6, 7, 998}});
  std::vector<TokenId> whole(300);
  runs.Fill(9, 0, whole);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(runs.Token(9, static_cast<int64_t>(i)), whole[i]);
  }
  std::mt19937 rng(1);
  for (int i = 0; i < 200; ++i) {
    const size_t first = rng() % whole.size();
    std::vector<TokenId> piece(rng() % (whole.size() - first + 1));
    runs.Fill(9, static_cast<int64_t>(first), piece);
    EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + first)) << first;
  }
}

TEST(TokenRunsTest, GivesEveryAllowedIdAboutEquallyOftenAndNoOther) {
  const std::vector<TokenId> avoid = {0, 1, 2, 50, 99, -3, 200, 50};
  const TokenRuns runs = Make({.seed = 3, .vocabulary = 100, .avoid = avoid});
  std::vector<TokenId> tokens(950'000);
  runs.Fill(4, 1, tokens);
  std::vector<int> counts(100);
  for (const TokenId token : tokens) {
    ASSERT_GE(token, 0);
    ASSERT_LT(token, 100);
    ++counts[static_cast<size_t>(token)];
  }
  for (TokenId id = 0; id < 100; ++id) {
    const bool is_avoided = std::find(avoid.begin(), avoid.end(), id) != avoid.end();
    if (is_avoided) {
      EXPECT_EQ(counts[static_cast<size_t>(id)], 0) << id;
    } else {
      EXPECT_NEAR(counts[static_cast<size_t>(id)], 10'000, 500) << id;  // five deviations
    }
  }
}

TEST(TokenRunsTest, PromptsShareTheTokensOfTheRunsTheyBeginWithAndNoMore) {
  const TokenRuns runs = Make({.seed = 1, .vocabulary = 49152});
  std::vector<TokenId> one, other;
  runs.Append(std::vector<TokenRun>{{1, 512}, {2, 512}, {3, 100}}, one);
  runs.Append(std::vector<TokenRun>{{1, 512}, {2, 512}, {4, 100}}, other);
  const auto split = std::mismatch(one.begin(), one.end(), other.begin());
  EXPECT_EQ(split.first - one.begin(), 1024);
  int equal = 0;
  for (size_t i = 1024; i < one.size(); ++i) equal += one[i] == other[i] ? 1 : 0;
  EXPECT_LE(equal, 1);
}

TEST(TokenRunsTest, AnotherSeedGivesOtherTokens) {
  const TokenRuns one = Make({.seed = 1, .vocabulary = 49152});
  const TokenRuns other = Make({.seed = 2, .vocabulary = 49152});
  int equal = 0;
  for (int64_t i = 0; i < 1000; ++i) equal += one.Token(5, i) == other.Token(5, i) ? 1 : 0;
  EXPECT_LE(equal, 2);
}

TEST(TokenRunsTest, RunsOfNeighbouringIdsHaveNothingInCommon) {
  const TokenRuns runs = Make({.seed = 1, .vocabulary = 1 << 30});
  std::set<TokenId> seen;
  for (uint64_t run = 0; run < 1000; ++run) seen.insert(runs.Token(run, 0));
  EXPECT_GE(seen.size(), 999u);
}

TEST(TokenRunsTest, RefusesAVocabularyOfWhichNothingIsLeft) {
  EXPECT_FALSE(TokenRuns::Make({.vocabulary = 0}).ok());
  EXPECT_FALSE(TokenRuns::Make({.vocabulary = -5}).ok());
  EXPECT_FALSE(TokenRuns::Make({.vocabulary = 3, .avoid = {0, 2}}).ok());
  EXPECT_TRUE(TokenRuns::Make({.vocabulary = 3, .avoid = {0}}).ok());
}

}  // namespace
}  // namespace holdfast
