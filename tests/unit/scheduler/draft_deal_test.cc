#include "scheduler/policy/draft_deal.h"

#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

// What it would say of a text that has gone round in a circle for long: about 1.
PromptLookup Sure() {
  PromptLookup lookup;
  std::vector<TokenId> tokens = {1, 2, 3, 1, 2, 3};
  for (int i = 0; i < 100; ++i) {
    tokens.push_back(tokens[tokens.size() - 3]);
    lookup.OnToken(tokens);
  }
  return lookup;
}

// A pair that was alike, and never before.
PromptLookup Unsure() {
  PromptLookup lookup;
  lookup.OnToken(std::vector<TokenId>{4, 1, 2, 3, 1, 2});
  return lookup;
}

DraftCost::Cost Learnt(double fixed, double row, std::vector<int32_t> rows) {
  DraftCost cost;
  for (int round = 0; round < 100; ++round) {
    for (const int32_t n : rows) cost.OnStep(n, 0, absl::Seconds(fixed + row * n));
  }
  return cost.Of();
}

TEST(DraftCostTest, LearnsWhatAStepAndARowCostFromStepsOfSeveralSizes) {
  const DraftCost::Cost cost = Learnt(0.002, 0.0005, {1, 5, 3, 9, 1});
  EXPECT_NEAR(cost.fixed, 0.002, 0.0001);
  EXPECT_NEAR(cost.row, 0.0005, 0.0001);
}

TEST(DraftCostTest, NothingIsKnownBeforeSomeSteps) {
  DraftCost cost;
  for (int32_t i = 0; i < DraftCost::kStepsMin; ++i) {
    EXPECT_FALSE(cost.known());
    cost.OnStep(1, 0, absl::Milliseconds(2));
  }
  EXPECT_TRUE(cost.known());
}

TEST(DraftCostTest, WhereAllStepsAreAlikeARowIsAPartOfTheStep) {
  const DraftCost::Cost cost = Learnt(0.002, 0.001, {1});
  EXPECT_NEAR(cost.fixed + cost.row, 0.003, 1e-6);
  EXPECT_GT(cost.row, 0.0005);
  EXPECT_LT(cost.row, 0.0025);
}

TEST(DraftCostTest, WhatARowCostsIsRememberedWhileAllStepsAreAlike) {
  DraftCost cost;
  for (int i = 0; i < 200; ++i) cost.OnStep(1 + i % 6, 0, absl::Milliseconds(10 * (1 + i % 6)));
  for (int i = 0; i < 500; ++i) cost.OnStep(2, 0, absl::Milliseconds(20));
  EXPECT_NEAR(cost.Of().row, 0.010, 0.001);
}

TEST(DraftCostTest, AStepThatWasHeldUpChangesLittle) {
  DraftCost cost;
  for (int i = 0; i < 200; ++i) cost.OnStep(1 + i % 4, 0, absl::Milliseconds(2 + i % 4));
  const double before = cost.Of().row;
  cost.OnStep(1, 0, absl::Seconds(10));
  cost.OnStep(4, 0, absl::ZeroDuration());  // and what means nothing, nothing
  EXPECT_NEAR(cost.Of().row, before, 0.8 * before);
  EXPECT_LT(cost.Of().fixed + cost.Of().row, 0.005);
}

std::vector<int32_t> Dealt(const DraftCost::Cost& cost, int32_t num_rows, int32_t drafts_max,
                           const std::vector<const PromptLookup*>& lookups, int32_t most = 8) {
  std::vector<DraftCandidate> candidates;
  for (const PromptLookup* lookup : lookups) candidates.push_back({.lookup = lookup, .most = most});
  DealDrafts({.num_sequences = num_rows,
              .seconds = cost.Of(num_rows, 0),
              .row_seconds = cost.row,
              .drafts_max = drafts_max},
             candidates);
  std::vector<int32_t> drafts;
  for (const DraftCandidate& candidate : candidates) drafts.push_back(candidate.drafts);
  return drafts;
}

TEST(DraftDealTest, OneAloneThatIsSureGetsAllThatItMayHave) {
  const PromptLookup sure = Sure();
  EXPECT_EQ(Dealt({.fixed = 2, .row = 1}, 1, 100, {&sure}), (std::vector<int32_t>{8}));
  EXPECT_EQ(Dealt({.fixed = 2, .row = 1}, 1, 5, {&sure}), (std::vector<int32_t>{5}));
}

TEST(DraftDealTest, WhoIsUnsureGetsNoneUnlessRowsCostNextToNothing) {
  const PromptLookup unsure = Unsure();
  EXPECT_EQ(Dealt({.fixed = 2, .row = 1}, 1, 100, {&unsure}), (std::vector<int32_t>{0}));
  EXPECT_GT(Dealt({.fixed = 2, .row = 0.01}, 1, 100, {&unsure})[0], 0);
}

TEST(DraftDealTest, NoDraftPaysWhereEveryRowCostsAsMuchAsTheFirst) {
  const PromptLookup sure = Sure();
  EXPECT_EQ(Dealt({.fixed = 0, .row = 1}, 1, 100, {&sure}), (std::vector<int32_t>{0}));
}

TEST(DraftDealTest, OneThatIsSureDoesNotSlowDownManyOthers) {
  const PromptLookup sure = Sure();
  const DraftCost::Cost cost{.fixed = 2, .row = 1};
  EXPECT_GT(Dealt(cost, 2, 100, {&sure})[0], 0);
  EXPECT_EQ(Dealt(cost, 16, 100, {&sure}), (std::vector<int32_t>{0}));
}

TEST(DraftDealTest, ManyThatAreSureGetDraftsTogetherThoughOneAloneWouldNot) {
  const PromptLookup sure = Sure();
  const DraftCost::Cost cost{.fixed = 2, .row = 1};
  const std::vector<const PromptLookup*> eight(8, &sure);
  EXPECT_EQ(Dealt(cost, 8, 100, {&sure}), (std::vector<int32_t>{0}));
  for (const int32_t drafts : Dealt(cost, 8, 100, eight)) EXPECT_GT(drafts, 3);
}

TEST(DraftDealTest, BesideAPromptThatMakesTheStepLongAnywayDraftsPaySooner) {
  const PromptLookup sure = Sure();
  const auto dealt = [&](double prompt_seconds) {
    std::vector<DraftCandidate> one = {{.lookup = &sure, .most = 8}};
    DealDrafts(
        {.num_sequences = 8, .seconds = 10 + prompt_seconds, .row_seconds = 1, .drafts_max = 100},
        one);
    return one[0].drafts;
  };
  EXPECT_EQ(dealt(0), 0);
  EXPECT_GT(dealt(100), 3);
}

TEST(DraftCostTest, LearnsWhatARowOfAPromptCosts) {
  DraftCost cost;
  cost.OnStep(1, 100, absl::Milliseconds(50));  // nothing is known to tell it from
  for (int i = 0; i < 20; ++i) cost.OnStep(2, 0, absl::Milliseconds(4));
  for (int i = 0; i < 60; ++i) cost.OnStep(2, 100 + i, absl::Milliseconds(24 + 0.2 * i));
  EXPECT_NEAR(cost.Of().prefill_row, 0.0002, 0.00001);
  EXPECT_NEAR(cost.Of().Of(2, 50), 0.014, 0.001);
}

TEST(DraftDealTest, TheLikeliestGoFirst) {
  const PromptLookup sure = Sure(), unsure = Unsure();
  EXPECT_EQ(Dealt({.fixed = 9, .row = 0.1}, 2, 3, {&unsure, &sure}), (std::vector<int32_t>{0, 3}));
}

// The product of rates is never less than without drafts.
TEST(DraftDealTest, TheProductOfAllRatesNeverFalls) {
  const PromptLookup sure = Sure(), unsure = Unsure();
  for (uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 rng(seed);
    const DraftCost::Cost cost{.fixed = 0.1 * static_cast<double>(rng() % 100),
                               .row = 0.01 * static_cast<double>(1 + rng() % 100)};
    std::vector<const PromptLookup*> lookups;
    for (uint32_t i = 0; i < 1 + rng() % 6; ++i) {
      lookups.push_back(rng() % 2 == 0 ? &sure : &unsure);
    }
    const auto num_rows = static_cast<int32_t>(lookups.size() + rng() % 4);
    const std::vector<int32_t> drafts = Dealt(cost, num_rows, 20, lookups);
    double gain = 0, rows = num_rows;
    for (size_t i = 0; i < drafts.size(); ++i) {
      double tokens = 1, chance = 1;
      for (int32_t draft = 0; draft < drafts[i]; ++draft) {
        tokens += chance *= lookups[i]->Chance(draft);
      }
      gain += std::log(tokens);
      rows += drafts[i];
    }
    gain -=
        num_rows * std::log((cost.fixed + cost.row * rows) / (cost.fixed + cost.row * num_rows));
    if (rows == num_rows) {
      ASSERT_EQ(gain, 0) << "seed " << seed;
    } else {
      ASSERT_GE(gain, kDraftGainMin - 1e-9) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace holdfast
